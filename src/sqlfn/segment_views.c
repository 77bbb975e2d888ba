/*
 * segment_views.c
 *    What the views segments, segment_health, segment_runs and segment_instances show.
 *
 * The first three show what the caller may run: segments of roles that the caller is a member of, or all of them to a
 * superuser and to whoever may EXECUTE run_due_segments. The last reads a table's own metadata, after the checks that
 * every function makes which reads storage directly.
 */
#include "sqlfn/segment.h"

#include "access/table.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/snapmgr.h"

#include "am/am.h"
#include "sqlfn/sqlfn.h"

PG_FUNCTION_INFO_V1(customer_segmentation_list_segments);
PG_FUNCTION_INFO_V1(customer_segmentation_list_runs);
PG_FUNCTION_INFO_V1(customer_segmentation_stored_instances);

/* ---- rows of the catalog ------------------------------------------------------------------------------------ */

/* $1: this cluster; $2: the caller; $3: the caller sees all. */
static void
list(FunctionCallInfo fcinfo, const char *sql)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid types[] = {INT8OID, OIDOID, BOOLOID, TIMESTAMPTZOID};
	Datum values[] = {Int64GetDatum((int64) GetSystemIdentifier()), ObjectIdGetDatum(GetUserId()),
					  BoolGetDatum(superuser() || segment_is_operator()), TimestampTzGetDatum(segment_now())};
	Catalog catalog;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	catalog_enter(&catalog);
	if (SPI_execute_with_args(sql, lengthof(types), types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the segments");
	for (uint64 i = 0; i < SPI_processed; i++)
		tuplestore_puttuple(rsinfo->setResult, SPI_tuptable->vals[i]);
	catalog_leave(&catalog);
}

#define OWNER                                                                                                   \
	"LEFT JOIN pg_catalog.pg_roles AS o ON CASE WHEN s.cluster = $1 THEN o.oid = s.owner_oid ELSE o.rolname = " \
	"s.owner_name END "
#define VISIBLE "WHERE ($3 OR pg_catalog.pg_has_role($2, o.oid, 'USAGE')) "

Datum
customer_segmentation_list_segments(PG_FUNCTION_ARGS)
{
	list(
		fcinfo,
		"SELECT s.segment_id, s.segment_name, s.description, s.segment_by, s.schedule, s.time_zone, s.definition, "
		"s.rules, s.depends_on, coalesce(o.rolname::text, s.owner_name), s.relation, s.paused, s.created_at, "
		"s.altered_at, s.keep, s.keep_every, "
		"CASE WHEN d.last_due IS NULL OR s.paused THEN NULL "
		"WHEN s.last_due_at IS NULL OR d.last_due > s.last_due_at THEN d.last_due ELSE d.next_due END, "
		"r.started_at, r.status, r.sqlstate, r.error, g.started_at, g.segment_instance_id, "
		"(SELECT count(*) FROM customer_segmentation.segment_run AS f WHERE f.segment_id = s.segment_id "
		"AND f.status = 'failed' AND f.run_id > coalesce(g.run_id, 0)), "
		"CASE WHEN s.schedule <> 'manual' AND NOT s.paused AND coalesce(m.next_due, s.created_at) < $4 "
		"THEN coalesce(m.next_due, s.created_at) END "
		"FROM customer_segmentation.segment AS s " OWNER
		"CROSS JOIN LATERAL customer_segmentation.due_around(s.schedule, s.created_at, s.time_zone, "
		"greatest($4, s.created_at, s.last_due_at)) AS d "
		"LEFT JOIN LATERAL customer_segmentation.due_around(s.schedule, s.created_at, s.time_zone, s.last_due_at) AS m "
		"ON true "
		"LEFT JOIN LATERAL (SELECT * FROM customer_segmentation.segment_run AS l WHERE l.segment_id = s.segment_id "
		"ORDER BY run_id DESC LIMIT 1) AS r ON true "
		"LEFT JOIN LATERAL (SELECT * FROM customer_segmentation.segment_run AS l WHERE l.segment_id = s.segment_id "
		"AND l.status = 'succeeded' AND l.kind <> 'backfill' ORDER BY run_id DESC LIMIT 1) AS g ON true " VISIBLE
		"ORDER BY s.created_at, s.segment_id");
	return (Datum) 0;
}

Datum
customer_segmentation_list_runs(PG_FUNCTION_ARGS)
{
	list(fcinfo, "SELECT r.run_id, r.segment_id, s.segment_name, r.kind, r.as_of, r.segment_instance_id, r.started_at, "
				 "r.ended_at, r.status, r.rows, r.sqlstate, r.error, r.run_by, r.pid, r.definition "
				 "FROM customer_segmentation.segment_run AS r "
				 "LEFT JOIN customer_segmentation.segment AS s ON s.segment_id = r.segment_id " OWNER VISIBLE
				 "AND $4 IS NOT NULL ORDER BY r.run_id");
	return (Datum) 0;
}

/* ---- stored instances --------------------------------------------------------------------------------------- */

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

/* Sums of numbers too long for the totals, read from the rows. */
static void
sums_of_rows(Relation rel, const StoreInstance *instance, Datum *values, bool *nulls)
{
	MemoryContext outer = CurrentMemoryContext;
	Oid types[] = {TEXTOID};
	Datum arguments[] = {PointerGetDatum(instance->dims.segment_instance_id)};
	char *sql = psprintf(
		"SELECT pg_catalog.sum(num_of_customers), pg_catalog.sum(num_of_orders), "
		"pg_catalog.sum(total_revenue) FROM %s WHERE segment_instance_id OPERATOR(pg_catalog.=) $1",
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

static void
put_instance(ReturnSetInfo *rsinfo, Relation rel, const StoreInstance *instance, const Mark *marks, int n_marks)
{
	const StoreGroupDims *group = &instance->group->dims;
	Datum values[INST_COLUMNS] = {0};
	bool nulls[INST_COLUMNS] = {false};
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
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

Datum
customer_segmentation_stored_instances(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Relation rel = sqlfn_open(PG_GETARG_OID(0), AccessShareLock);
	AmReader *reader;
	Mark *marks;
	int n_marks;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	marks = read_marks(RelationGetRelid(rel), &n_marks);
	am_flush_before_read(rel, GetActiveSnapshot());
	reader = am_reader_acquire(rel, GetActiveSnapshot());
	store_view_totals(rel, reader->view);
	for (int i = 0; i < reader->view->n_instances; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (reader->view->instances[i]->rows > 0)
			put_instance(rsinfo, rel, reader->view->instances[i], marks, n_marks);
	}
	am_reader_release(reader);
	table_close(rel, AccessShareLock);
	return (Datum) 0;
}
