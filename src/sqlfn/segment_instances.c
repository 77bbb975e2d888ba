/*
 * segment_instances.c
 *    The stored instances of a table, or of all that the caller may read, from metadata alone.
 *
 * The view segment_instances is nothing but list_instances() without arguments; the planner puts what the query says of
 * relation, segment or instance in their place (plan/instances.c), so that whoever asks for one segment of thousands
 * does not wait for rows of all.
 */
#include "sqlfn/segment.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "am/am.h"
#include "sqlfn/sqlfn.h"

PG_FUNCTION_INFO_V1(customer_segmentation_stored_instances);
PG_FUNCTION_INFO_V1(customer_segmentation_list_instances);

/* list_instances has one more in front. */
enum
{
	INST_ID,
	INST_DATE,
	INST_SEGMENT_ID,
	INST_NAME,
	INST_BY,
	INST_SCHEDULE,
	INST_SEGMENT_DATE,
	INST_CUSTOMERS,
	INST_ORDERS,
	INST_REVENUE,
	INST_PINNED,
	INST_BACKFILLED,
	INST_CURRENT_STATE,
	INST_COLUMNS
};

/* Marks of one table's instances, by instance. */
typedef struct Mark
{
	char *instance_id;
	bool pinned;
	bool backfilled;
	Datum current_state;
	bool has_current_state;
} Mark;

static int
compare_marks(const void *a, const void *b)
{
	return strcmp(((const Mark *) a)->instance_id, ((const Mark *) b)->instance_id);
}

/* Planned once in a session: a view that reads instances asks it for each table. */
static SPIPlanPtr
plan_of_marks(void)
{
	static SPIPlanPtr kept = NULL;
	Oid types[] = {OIDOID};
	SPIPlanPtr plan = kept;

	if (plan)
		return plan;
	plan = SPI_prepare("SELECT segment_instance_id, pinned, backfilled, current_state "
					   "FROM customer_segmentation.segment_instance_mark WHERE relation = $1",
					   1, types);
	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not plan the reading of instances' marks");
	kept = plan;
	return plan;
}

static Mark *
read_marks(Oid relation, int *n)
{
	MemoryContext outer = CurrentMemoryContext;
	Datum values[] = {ObjectIdGetDatum(relation)};
	Catalog catalog;
	Mark *marks;

	catalog_enter(&catalog);
	if (SPI_execute_plan(plan_of_marks(), values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the marks of instances");
	MemoryContextSwitchTo(outer);
	*n = (int) SPI_processed;
	marks = palloc(sizeof(Mark) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		bool isnull;

		marks[i].instance_id = TextDatumGetCString(SPI_getbinval(row, desc, 1, &isnull));
		marks[i].pinned = DatumGetBool(SPI_getbinval(row, desc, 2, &isnull));
		marks[i].backfilled = DatumGetBool(SPI_getbinval(row, desc, 3, &isnull));
		marks[i].current_state = SPI_getbinval(row, desc, 4, &isnull);
		marks[i].has_current_state = !isnull;
		if (!isnull)
			marks[i].current_state = PointerGetDatum(PG_DETOAST_DATUM_COPY(marks[i].current_state));
	}
	catalog_leave(&catalog);
	MemoryContextSwitchTo(outer);
	qsort(marks, *n, sizeof(Mark), compare_marks);
	return marks;
}

static Datum
special(const char *text)
{
	return DirectFunctionCall3(numeric_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
}

/* What sum() says of the rows; false: the totals don't know it. */
static bool
sum_of_totals(const CsegTotals *totals, int measure, Datum *value, bool *isnull)
{
	const CsegMeasureTotals *m = &totals->m[measure];

	*isnull = totals->rows == m->nulls;
	if (*isnull)
		return true;
	if (m->wides > 0 || (m->flags & CSEG_T_OVERFLOW))
		return false;
	if (m->nans > 0 || (m->pinfs > 0 && m->ninfs > 0))
		*value = special("NaN");
	else if (m->pinfs > 0 || m->ninfs > 0)
		*value = special(m->pinfs > 0 ? "Infinity" : "-Infinity");
	else
		*value = NumericGetDatum(
			am_numeric_from_int128(((int128) m->sum_hi << 64) | (unsigned __int128) m->sum_lo, m->scale));
	return true;
}

/* Sums of numbers too long for the totals, read from the rows, without those of tables that inherit from it. */
static void
sums_of_rows(Relation rel, const StoreInstance *instance, Datum *values, bool *nulls)
{
	MemoryContext outer = CurrentMemoryContext;
	Oid types[] = {TEXTOID};
	Datum arguments[] = {PointerGetDatum(instance->dims.segment_instance_id)};
	char *sql = psprintf(
		"SELECT pg_catalog.sum(num_of_customers), pg_catalog.sum(num_of_orders), "
		"pg_catalog.sum(total_revenue) FROM ONLY %s WHERE segment_instance_id OPERATOR(pg_catalog.=) $1",
		quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)), RelationGetRelationName(rel)));

	if (SPI_connect() != SPI_OK_CONNECT ||
		SPI_execute_with_args(sql, 1, types, arguments, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not sum up an instance");
	for (int i = 0; i < CSEG_MEASURES; i++)
	{
		MemoryContext spi = MemoryContextSwitchTo(outer);
		Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &nulls[INST_CUSTOMERS + i]);

		if (!nulls[INST_CUSTOMERS + i])
			values[INST_CUSTOMERS + i] = PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
		MemoryContextSwitchTo(spi);
	}
	SPI_finish();
}

static void
put_optional(Datum *values, bool *nulls, int column, text *value)
{
	nulls[column] = value == NULL;
	values[column] = PointerGetDatum(value);
}

static const Mark *
find_mark(const text *instance_id, const Mark *marks, int n)
{
	Mark key;

	if (n == 0)
		return NULL;
	key.instance_id = text_to_cstring(instance_id);
	return bsearch(&key, marks, n, sizeof(Mark), compare_marks);
}

static void
put_marks(Datum *values, bool *nulls, const Mark *mark)
{
	values[INST_PINNED] = BoolGetDatum(mark && mark->pinned);
	values[INST_BACKFILLED] = BoolGetDatum(mark && mark->backfilled);
	nulls[INST_CURRENT_STATE] = !(mark && mark->has_current_state);
	values[INST_CURRENT_STATE] = mark ? mark->current_state : (Datum) 0;
}

typedef struct Listing
{
	ReturnSetInfo *rsinfo;
	bool with_relation;      /* a column in front names the table */
	const text *segment_id;  /* NULL: all */
	const text *instance_id; /* likewise */
} Listing;

static bool
is_wanted(const Listing *l, const StoreInstance *instance)
{
	return instance->rows > 0 &&
		   (l->segment_id == NULL || store_text_equal(instance->group->dims.segment_id, l->segment_id)) &&
		   (l->instance_id == NULL || store_text_equal(instance->dims.segment_instance_id, l->instance_id));
}

static void
put_instance(const Listing *l, Relation rel, const StoreInstance *instance, const Mark *marks, int n_marks)
{
	const StoreGroupDims *group = &instance->group->dims;
	Datum row[1 + INST_COLUMNS] = {ObjectIdGetDatum(RelationGetRelid(rel))};
	bool row_nulls[1 + INST_COLUMNS] = {false};
	Datum *values = row + 1;
	bool *nulls = row_nulls + 1;
	int first = l->with_relation ? 0 : 1;
	bool known = true;

	values[INST_ID] = PointerGetDatum(instance->dims.segment_instance_id);
	values[INST_DATE] = TimestampGetDatum(instance->dims.instance_created_date);
	values[INST_SEGMENT_ID] = PointerGetDatum(group->segment_id);
	put_optional(values, nulls, INST_NAME, group->segment_name);
	put_optional(values, nulls, INST_BY, group->segment_by);
	put_optional(values, nulls, INST_SCHEDULE, group->schedule);
	nulls[INST_SEGMENT_DATE] = !group->has_segment_created;
	values[INST_SEGMENT_DATE] = TimestampGetDatum(group->segment_created_date);
	for (int m = 0; m < CSEG_MEASURES; m++)
		known &= sum_of_totals(instance->totals, m, &values[INST_CUSTOMERS + m], &nulls[INST_CUSTOMERS + m]);
	if (!known)
		sums_of_rows(rel, instance, values, nulls);
	put_marks(values, nulls, find_mark(instance->dims.segment_instance_id, marks, n_marks));
	tuplestore_putvalues(l->rsinfo->setResult, l->rsinfo->setDesc, row + first, row_nulls + first);
}

static void
put_table(const Listing *l, Relation rel)
{
	AmReader *reader;
	Mark *marks;
	int n_marks;

	marks = read_marks(RelationGetRelid(rel), &n_marks);
	am_flush_before_read(rel, GetActiveSnapshot());
	reader = am_reader_acquire(rel, GetActiveSnapshot());
	store_view_totals(rel, reader->view);
	for (int i = 0; i < reader->view->n_instances; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (is_wanted(l, reader->view->instances[i]))
			put_instance(l, rel, reader->view->instances[i], marks, n_marks);
	}
	am_reader_release(reader);
}

Datum
customer_segmentation_stored_instances(PG_FUNCTION_ARGS)
{
	Listing l = {.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo};
	Relation rel = sqlfn_open(PG_GETARG_OID(0), AccessShareLock);

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	put_table(&l, rel);
	table_close(rel, AccessShareLock);
	return (Datum) 0;
}

/* ---- of all tables -------------------------------------------------------------------------------------------- */

#define ACCESS_METHOD "customer_segmentation"

/*
 * What the caller may not read is not listed, as if a query had left it out, nor is what has been dropped meanwhile.
 * This is looked at before the table is locked, so that nobody waits for a table that is not listed, and once more
 * behind that: whoever had it locked may have revoked the privilege.
 */
static bool
is_listed(Form_pg_class c, Oid access_method)
{
	bool is_missing = false;

	return c->relkind == RELKIND_RELATION && c->relam == access_method && !isOtherTempNamespace(c->relnamespace) &&
		   pg_class_aclcheck_ext(c->oid, GetUserId(), ACL_SELECT, &is_missing) == ACLCHECK_OK &&
		   check_enable_rls(c->oid, InvalidOid, true) != RLS_ENABLED;
}

static List *
listed_tables(Oid access_method)
{
	Relation pg_class = table_open(RelationRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(pg_class, InvalidOid, false, NULL, 0, NULL);
	List *relids = NIL;
	HeapTuple tuple;

	while ((tuple = systable_getnext(scan)) != NULL)
	{
		Form_pg_class c = (Form_pg_class) GETSTRUCT(tuple);

		if (is_listed(c, access_method))
			relids = lappend_oid(relids, c->oid);
	}
	systable_endscan(scan);
	table_close(pg_class, AccessShareLock);
	return relids;
}

static List *
listed_table(Oid relid, Oid access_method)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	List *relids = NIL;

	if (!HeapTupleIsValid(tuple))
		return NIL;
	if (is_listed((Form_pg_class) GETSTRUCT(tuple), access_method))
		relids = list_make1_oid(relid);
	ReleaseSysCache(tuple);
	return relids;
}

/* Unless it has been dropped meanwhile, or rewritten for another access method. */
static void
put_if_there(const Listing *l, Oid relid, Oid access_method)
{
	Relation rel = try_relation_open(relid, AccessShareLock);

	if (rel == NULL)
		return;
	if (is_listed(rel->rd_rel, access_method))
		put_table(l, rel);
	relation_close(rel, AccessShareLock);
}

Datum
customer_segmentation_list_instances(PG_FUNCTION_ARGS)
{
	Listing l = {.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo, .with_relation = true};
	Oid access_method = get_table_am_oid(ACCESS_METHOD, false);
	MemoryContext of_table =
		AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation listing", ALLOCSET_DEFAULT_SIZES);
	List *relids;
	ListCell *lc;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	l.segment_id = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	l.instance_id = PG_ARGISNULL(2) ? NULL : PG_GETARG_TEXT_PP(2);
	relids = PG_ARGISNULL(0) ? listed_tables(access_method) : listed_table(PG_GETARG_OID(0), access_method);
	foreach (lc, relids)
	{
		MemoryContext old = MemoryContextSwitchTo(of_table);

		CHECK_FOR_INTERRUPTS();
		put_if_there(&l, lfirst_oid(lc), access_method);
		MemoryContextSwitchTo(old);
		MemoryContextReset(of_table);
	}
	MemoryContextDelete(of_table);
	return (Datum) 0;
}
