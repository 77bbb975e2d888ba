/*
 * segment_catalog.c
 *    The catalog's tables: segments, the record of runs, and who may do what with them.
 */
#include "sqlfn/segment.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat/compat.h"

#define SCHEMA "customer_segmentation"

/* ---- entering ----------------------------------------------------------------------------------------------- */

static Oid
catalog_table(void)
{
	Oid schema = get_namespace_oid(SCHEMA, false);
	Oid table = get_relname_relid("segment", schema);

	if (!OidIsValid(table))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation \"%s.segment\" does not exist", SCHEMA),
						errhint("Run ALTER EXTENSION customer_segmentation UPDATE.")));
	return table;
}

Oid
catalog_owner(void)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(catalog_table()));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for the catalog's table");
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

void
catalog_enter(Catalog *catalog)
{
	Oid owner = catalog_owner();

	GetUserIdAndSecContext(&catalog->userid, &catalog->sec_context);
	catalog->guc_level = NewGUCNestLevel();
	SetUserIdAndSecContext(owner, catalog->sec_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

void
catalog_leave(Catalog *catalog)
{
	SPI_finish();
	AtEOXact_GUC(false, catalog->guc_level);
	SetUserIdAndSecContext(catalog->userid, catalog->sec_context);
}

uint64
catalog_execute(const char *sql, int nargs, const Oid *types, Datum *values, const char *nulls)
{
	int rc = SPI_execute_with_args(sql, nargs, unconstify(Oid *, types), values, nulls, false, 0);

	if (rc < 0)
		elog(ERROR, "%s: %s", sql, SPI_result_code_string(rc));
	return SPI_processed;
}

/* A statement that returns nothing. */
static uint64
execute_once(const char *sql, int nargs, const Oid *types, Datum *values, const char *nulls)
{
	Catalog catalog;
	uint64 rows;

	catalog_enter(&catalog);
	rows = catalog_execute(sql, nargs, types, values, nulls);
	catalog_leave(&catalog);
	return rows;
}

/* ---- reading a segment -------------------------------------------------------------------------------------- */

enum
{
	SEG_ID,
	SEG_NAME,
	SEG_DESCRIPTION,
	SEG_BY,
	SEG_SCHEDULE,
	SEG_ZONE,
	SEG_DEFINITION,
	SEG_QUERY,
	SEG_RULES,
	SEG_UNDATED,
	SEG_DEPENDS_ON,
	SEG_RELATION,
	SEG_OWNER_NAME,
	SEG_OWNER_OID,
	SEG_CLUSTER,
	SEG_PAUSED,
	SEG_CREATED_AT,
	SEG_ALTERED_AT,
	SEG_LAST_DUE_AT,
	SEG_KEEP,
	SEG_KEEP_EVERY,
	SEG_COLUMNS
};

static const Oid segment_types[SEG_COLUMNS] = {
	TEXTOID, TEXTOID,  TEXTOID,        TEXTOID,        TEXTOID,        TEXTOID,     TEXTOID,
	TEXTOID, JSONBOID, TEXTOID,        TEXTARRAYOID,   OIDOID,         TEXTOID,     OIDOID,
	INT8OID, BOOLOID,  TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INTERVALOID, TEXTOID,
};

static char *
get_text(HeapTuple row, TupleDesc desc, int column)
{
	bool isnull;
	Datum value = SPI_getbinval(row, desc, column + 1, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static Datum
get_value(HeapTuple row, TupleDesc desc, int column, bool *isnull)
{
	return SPI_getbinval(row, desc, column + 1, isnull);
}

static List *
texts_of_array(ArrayType *array)
{
	Datum *values;
	bool *nulls;
	int n;
	List *list = NIL;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &n);
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			list = lappend(list, TextDatumGetCString(values[i]));
	return list;
}

static Datum
array_of_texts(List *list)
{
	Datum *values = palloc(sizeof(Datum) * Max(list_length(list), 1));
	int n = 0;
	ListCell *lc;

	foreach (lc, list)
		values[n++] = CStringGetTextDatum((char *) lfirst(lc));
	return PointerGetDatum(construct_array(values, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Roles are known by OID in the cluster that wrote the row, by name where a dump brought it. */
static Oid
resolve_owner(Oid oid, int64 cluster, const char *name)
{
	if (cluster != (int64) GetSystemIdentifier())
		return get_role_oid(name, true);
	return SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(oid)) ? oid : InvalidOid;
}

static Segment *
segment_of_row(HeapTuple row, TupleDesc desc)
{
	Segment *segment = palloc0(sizeof(Segment));
	Datum value;
	bool isnull;

	segment->segment_id = get_text(row, desc, SEG_ID);
	segment->name = get_text(row, desc, SEG_NAME);
	segment->description = get_text(row, desc, SEG_DESCRIPTION);
	segment->segment_by = get_text(row, desc, SEG_BY);
	segment->schedule = get_text(row, desc, SEG_SCHEDULE);
	segment->time_zone = get_text(row, desc, SEG_ZONE);
	segment->definition = get_text(row, desc, SEG_DEFINITION);
	segment->query = get_text(row, desc, SEG_QUERY);
	value = get_value(row, desc, SEG_RULES, &isnull);
	segment->rules = isnull ? NULL : DatumGetJsonbPCopy(value);
	segment->undated = get_text(row, desc, SEG_UNDATED);
	segment->depends_on = texts_of_array(DatumGetArrayTypeP(get_value(row, desc, SEG_DEPENDS_ON, &isnull)));
	segment->relation = DatumGetObjectId(get_value(row, desc, SEG_RELATION, &isnull));
	segment->owner_name = get_text(row, desc, SEG_OWNER_NAME);
	segment->owner = resolve_owner(DatumGetObjectId(get_value(row, desc, SEG_OWNER_OID, &isnull)),
								   DatumGetInt64(get_value(row, desc, SEG_CLUSTER, &isnull)), segment->owner_name);
	segment->paused = DatumGetBool(get_value(row, desc, SEG_PAUSED, &isnull));
	segment->created_at = DatumGetTimestampTz(get_value(row, desc, SEG_CREATED_AT, &isnull));
	segment->altered_at = DatumGetTimestampTz(get_value(row, desc, SEG_ALTERED_AT, &isnull));
	value = get_value(row, desc, SEG_LAST_DUE_AT, &isnull);
	segment->last_due_at = isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
	value = get_value(row, desc, SEG_KEEP, &isnull);
	if (!isnull)
	{
		segment->keep = palloc(sizeof(Interval));
		*segment->keep = *DatumGetIntervalP(value);
	}
	segment->keep_every = get_text(row, desc, SEG_KEEP_EVERY);
	segment->timing.schedule = schedule_parse(segment->schedule);
	segment->timing.anchor = segment->created_at;
	segment->timing.zone = schedule_zone_or_gmt(segment->time_zone);
	return segment;
}

Segment *
segment_find(const char *segment_id)
{
	MemoryContext outer = CurrentMemoryContext;
	Datum values[] = {CStringGetTextDatum(segment_id)};
	Oid types[] = {TEXTOID};
	Segment *segment = NULL;
	Catalog catalog;

	catalog_enter(&catalog);
	if (catalog_execute("SELECT segment_id, segment_name, description, segment_by, schedule, time_zone, definition, "
						"query, rules, undated, depends_on, relation, owner_name, owner_oid, cluster, paused, "
						"created_at, altered_at, last_due_at, keep, keep_every "
						"FROM customer_segmentation.segment WHERE segment_id = $1",
						1, types, values, NULL) > 0)
	{
		MemoryContext spi = MemoryContextSwitchTo(outer);

		segment = segment_of_row(SPI_tuptable->vals[0], SPI_tuptable->tupdesc);
		MemoryContextSwitchTo(spi);
	}
	catalog_leave(&catalog);
	return segment;
}

Segment *
segment_load(const char *segment_id)
{
	Segment *segment = segment_find(segment_id);

	if (segment == NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("segment \"%s\" does not exist", segment_id),
			 errhint("The view customer_segmentation.segments lists the segments that you may use, by segment_id.")));
	return segment;
}

/* The first column, of texts. */
static List *
select_ids(const char *sql)
{
	MemoryContext outer = CurrentMemoryContext;
	List *ids = NIL;
	Catalog catalog;
	uint64 n;

	catalog_enter(&catalog);
	n = catalog_execute(sql, 0, NULL, NULL, NULL);
	for (uint64 i = 0; i < n; i++)
	{
		MemoryContext spi = MemoryContextSwitchTo(outer);

		ids = lappend(ids, get_text(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 0));
		MemoryContextSwitchTo(spi);
	}
	catalog_leave(&catalog);
	return ids;
}

List *
segment_ids(void)
{
	return select_ids("SELECT segment_id FROM customer_segmentation.segment ORDER BY created_at, segment_id");
}

/* ---- writing a segment -------------------------------------------------------------------------------------- */

static void
put_text(Datum *values, char *nulls, int column, const char *text)
{
	nulls[column] = text ? ' ' : 'n';
	values[column] = text ? CStringGetTextDatum(text) : (Datum) 0;
}

static void
values_of_segment(const Segment *segment, Datum *values, char *nulls)
{
	memset(nulls, ' ', SEG_COLUMNS);
	put_text(values, nulls, SEG_ID, segment->segment_id);
	put_text(values, nulls, SEG_NAME, segment->name);
	put_text(values, nulls, SEG_DESCRIPTION, segment->description);
	put_text(values, nulls, SEG_BY, segment->segment_by);
	put_text(values, nulls, SEG_SCHEDULE, segment->schedule);
	put_text(values, nulls, SEG_ZONE, segment->time_zone);
	put_text(values, nulls, SEG_DEFINITION, segment->definition);
	put_text(values, nulls, SEG_QUERY, segment->query);
	nulls[SEG_RULES] = segment->rules ? ' ' : 'n';
	values[SEG_RULES] = segment->rules ? JsonbPGetDatum(segment->rules) : (Datum) 0;
	put_text(values, nulls, SEG_UNDATED, segment->undated);
	values[SEG_DEPENDS_ON] = array_of_texts(segment->depends_on);
	values[SEG_RELATION] = ObjectIdGetDatum(segment->relation);
	put_text(values, nulls, SEG_OWNER_NAME, segment->owner_name);
	values[SEG_OWNER_OID] = ObjectIdGetDatum(segment->owner);
	values[SEG_CLUSTER] = Int64GetDatum((int64) GetSystemIdentifier());
	values[SEG_PAUSED] = BoolGetDatum(segment->paused);
	values[SEG_CREATED_AT] = TimestampTzGetDatum(segment->created_at);
	values[SEG_ALTERED_AT] = TimestampTzGetDatum(segment->altered_at);
	nulls[SEG_LAST_DUE_AT] = TIMESTAMP_IS_NOBEGIN(segment->last_due_at) ? 'n' : ' ';
	values[SEG_LAST_DUE_AT] = TimestampTzGetDatum(segment->last_due_at);
	nulls[SEG_KEEP] = segment->keep ? ' ' : 'n';
	values[SEG_KEEP] = segment->keep ? IntervalPGetDatum(segment->keep) : (Datum) 0;
	put_text(values, nulls, SEG_KEEP_EVERY, segment->keep_every);
}

static bool
name_is_taken(const Segment *segment)
{
	Oid types[] = {OIDOID, TEXTOID, TEXTOID};
	Datum values[] = {ObjectIdGetDatum(segment->relation), CStringGetTextDatum(segment->name),
					  CStringGetTextDatum(segment->segment_id)};

	return catalog_execute("SELECT FROM customer_segmentation.segment WHERE relation = $1 AND segment_name = $2 AND "
						   "segment_id <> $3",
						   3, types, values, NULL) > 0;
}

static void
write_segment(const char *sql, Segment *segment)
{
	Datum values[SEG_COLUMNS];
	char nulls[SEG_COLUMNS];
	Catalog catalog;

	values_of_segment(segment, values, nulls);
	catalog_enter(&catalog);
	if (name_is_taken(segment) || catalog_execute(sql, SEG_COLUMNS, segment_types, values, nulls) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("segment \"%s\" already exists in \"%s\"", segment->name, get_rel_name(segment->relation)),
				 errhint("Choose another name, or change that segment with alter_segment.")));
	catalog_leave(&catalog);
}

void
segment_insert(Segment *segment)
{
	if (segment_find(segment->segment_id))
		ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("segment \"%s\" already exists", segment->segment_id),
						errhint("Leave segment_id out to have one drawn.")));
	write_segment(
		"INSERT INTO customer_segmentation.segment (segment_id, segment_name, description, segment_by, schedule, "
		"time_zone, definition, query, rules, undated, depends_on, relation, owner_name, owner_oid, cluster, "
		"paused, created_at, altered_at, last_due_at, keep, keep_every) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, "
		"$9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21) ON CONFLICT DO NOTHING",
		segment);
}

void
segment_update(Segment *segment)
{
	write_segment("UPDATE customer_segmentation.segment SET segment_name = $2, description = $3, segment_by = $4, "
				  "schedule = $5, time_zone = $6, definition = $7, query = $8, rules = $9, undated = $10, "
				  "depends_on = $11, relation = $12, owner_name = $13, owner_oid = $14, cluster = $15, paused = $16, "
				  "created_at = $17, altered_at = $18, last_due_at = $19, keep = $20, keep_every = $21 "
				  "WHERE segment_id = $1",
				  segment);
}

void
segment_delete(const Segment *segment)
{
	Oid types[] = {TEXTOID};
	Datum values[] = {CStringGetTextDatum(segment->segment_id)};

	execute_once("DELETE FROM customer_segmentation.segment WHERE segment_id = $1", 1, types, values, NULL);
}

void
segment_check_unused(const Segment *segment)
{
	MemoryContext outer = CurrentMemoryContext;
	Oid types[] = {TEXTOID};
	Datum values[] = {CStringGetTextDatum(segment->segment_id)};
	char *user = NULL;
	Catalog catalog;

	catalog_enter(&catalog);
	if (catalog_execute("SELECT segment_id FROM customer_segmentation.segment WHERE $1 = ANY (depends_on) "
						"ORDER BY segment_id LIMIT 1",
						1, types, values, NULL) > 0)
	{
		MemoryContext spi = MemoryContextSwitchTo(outer);

		user = get_text(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 0);
		MemoryContextSwitchTo(spi);
	}
	catalog_leave(&catalog);
	if (user)
		ereport(ERROR, (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
						errmsg("cannot drop segment \"%s\": the rules of segment \"%s\" refer to it",
							   segment->segment_id, user),
						errhint("Change or drop that one first.")));
}

void
segment_set_last_due(const char *segment_id, TimestampTz due)
{
	Oid types[] = {TEXTOID, TIMESTAMPTZOID};
	Datum values[] = {CStringGetTextDatum(segment_id), TimestampTzGetDatum(due)};

	execute_once("UPDATE customer_segmentation.segment SET last_due_at = $2 WHERE segment_id = $1", 2, types, values,
				 NULL);
}

/*
 * A dump and pg_upgrade bring names of owners. Once they are found, OIDs count, so that a role that later gets the name
 * of another does not get its segments.
 */
void
segment_adopt_owners(void)
{
	Oid types[] = {INT8OID};
	Datum values[] = {Int64GetDatum((int64) GetSystemIdentifier())};

	execute_once(
		"UPDATE customer_segmentation.segment AS s SET owner_oid = o.oid, cluster = $1 FROM pg_catalog.pg_roles "
		"AS o WHERE o.rolname = s.owner_name AND s.cluster <> $1",
		lengthof(types), types, values, NULL);
}

/* ---- who may ------------------------------------------------------------------------------------------------ */

bool
segment_is_operator(void)
{
	Oid argtypes[] = {TIMESTAMPTZOID};
	Oid procedure = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum("run_due_segments"),
									PointerGetDatum(buildoidvector(argtypes, lengthof(argtypes))),
									ObjectIdGetDatum(get_namespace_oid(SCHEMA, false)));

	return OidIsValid(procedure) && compat_proc_aclcheck(procedure, GetUserId(), ACL_EXECUTE) == ACLCHECK_OK;
}

static bool
is_owner(const Segment *segment)
{
	return superuser() || (OidIsValid(segment->owner) && has_privs_of_role(GetUserId(), segment->owner));
}

void
segment_check_owner(const Segment *segment)
{
	if (!is_owner(segment))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("must be owner of segment \"%s\"", segment->segment_id),
						errdetail("Its owner is role \"%s\".", segment->owner_name)));
}

bool
segment_may_run(const Segment *segment)
{
	return is_owner(segment) || segment_is_operator();
}

void
segment_check_runner(const Segment *segment)
{
	if (!segment_may_run(segment))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for segment \"%s\"", segment->segment_id),
				 errhint("Its owner, members of that role, and roles that may EXECUTE run_due_segments can run it.")));
}

void
segment_check_owner_exists(const Segment *segment)
{
	if (!OidIsValid(segment->owner))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\", the owner of segment \"%s\", does not exist", segment->owner_name,
						segment->segment_id),
				 errhint("Give it another owner: SELECT customer_segmentation.alter_segment('%s', owner => ...).",
						 segment->segment_id)));
}

/* ---- turns -------------------------------------------------------------------------------------------------- */

static LOCKTAG
lock_tag(const char *segment_id)
{
	LOCKTAG tag;

	/* Two segments whose hashes are equal wait for each other, no more. */
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, catalog_table(),
					   hash_bytes((const unsigned char *) segment_id, (int) strlen(segment_id)), 0);
	return tag;
}

bool
segment_lock(const char *segment_id, bool session, bool wait)
{
	LOCKTAG tag = lock_tag(segment_id);

	return LockAcquire(&tag, ExclusiveLock, session, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

void
segment_unlock_session(const char *segment_id)
{
	LOCKTAG tag = lock_tag(segment_id);

	LockRelease(&tag, ExclusiveLock, true);
}

/* Which segments refer to which: whoever changes that knows all of it, until the end of the transaction. */
void
segment_lock_references(void)
{
	LOCKTAG tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, catalog_table(), 0, 1);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

/* Where one snapshot serves the whole transaction, the lock may have come too late for it: 40001 then. */
void
segment_check_current(const char *segment_id)
{
	Oid types[] = {TEXTOID};
	Datum values[] = {CStringGetTextDatum(segment_id)};

	if (IsolationUsesXactSnapshot())
		execute_once("SELECT FROM customer_segmentation.segment WHERE segment_id = $1 FOR SHARE", lengthof(types),
					 types, values, NULL);
}

/* ---- run records -------------------------------------------------------------------------------------------- */

static char *
definition_text(const Segment *segment)
{
	return segment->rules ? JsonbToCString(NULL, &segment->rules->root, VARSIZE(segment->rules)) : segment->definition;
}

static void
insert_run(const Segment *segment, Run *run, const char *status)
{
	bool ended = strcmp(status, "running") != 0;
	Oid types[] = {TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID, BOOLOID,
				   TEXTOID, INT8OID, TEXTOID,        INT4OID, TEXTOID};
	Datum values[] = {
		CStringGetTextDatum(segment->segment_id),
		CStringGetTextDatum(run->kind),
		TimestampTzGetDatum(run->as_of),
		CStringGetTextDatum(run->instance_id ? run->instance_id : ""),
		TimestampTzGetDatum(run->started_at),
		BoolGetDatum(ended),
		CStringGetTextDatum(status),
		Int64GetDatum(run->rows),
		CStringGetTextDatum(GetUserNameFromId(GetUserId(), false)),
		Int32GetDatum(MyProcPid),
		CStringGetTextDatum(definition_text(segment)),
	};
	char nulls[] = "           ";
	Catalog catalog;
	bool isnull;

	nulls[3] = run->instance_id ? ' ' : 'n';
	nulls[7] = ended ? ' ' : 'n';
	catalog_enter(&catalog);
	catalog_execute("INSERT INTO customer_segmentation.segment_run (segment_id, kind, as_of, segment_instance_id, "
					"started_at, ended_at, status, rows, run_by, pid, definition) "
					"VALUES ($1, $2, $3, $4, $5, CASE WHEN $6 THEN clock_timestamp() END, $7, $8, $9, $10, $11) "
					"RETURNING run_id",
					lengthof(types), types, values, nulls);
	run->run_id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	catalog_leave(&catalog);
}

void
run_insert_started(const Segment *segment, Run *run)
{
	insert_run(segment, run, "running");
}

void
run_insert_succeeded(const Segment *segment, Run *run)
{
	insert_run(segment, run, "succeeded");
}

void
runs_insert_backfilled(const Segment *segment, char **instance_ids, const TimestampTz *moments, const int64 *rows,
					   int n, TimestampTz started_at)
{
	Oid types[] = {TEXTOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, INT8ARRAYOID, TIMESTAMPTZOID, TEXTOID, INT4OID, TEXTOID};
	Datum *ids = palloc(sizeof(Datum) * Max(n, 1));
	Datum *at = palloc(sizeof(Datum) * Max(n, 1));
	Datum *counts = palloc(sizeof(Datum) * Max(n, 1));
	Datum values[8];

	for (int i = 0; i < n; i++)
	{
		ids[i] = CStringGetTextDatum(instance_ids[i]);
		at[i] = TimestampTzGetDatum(moments[i]);
		counts[i] = Int64GetDatum(rows[i]);
	}
	values[0] = CStringGetTextDatum(segment->segment_id);
	values[1] =
		PointerGetDatum(construct_array(at, n, TIMESTAMPTZOID, sizeof(TimestampTz), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[2] = PointerGetDatum(construct_array(ids, n, TEXTOID, -1, false, TYPALIGN_INT));
	values[3] = PointerGetDatum(construct_array(counts, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[4] = TimestampTzGetDatum(started_at);
	values[5] = CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
	values[6] = Int32GetDatum(MyProcPid);
	values[7] = CStringGetTextDatum(definition_text(segment));
	execute_once("INSERT INTO customer_segmentation.segment_run (segment_id, kind, as_of, segment_instance_id, "
				 "started_at, ended_at, status, rows, run_by, pid, definition) "
				 "SELECT $1, 'backfill', u.at, u.id, $5, pg_catalog.clock_timestamp(), 'succeeded', u.rows, $6, $7, $8 "
				 "FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4)) "
				 "AS u (at, id, rows)",
				 lengthof(types), types, values, NULL);
}

void
run_update_succeeded(const Run *run)
{
	Oid types[] = {INT8OID, TEXTOID, INT8OID};
	Datum values[] = {Int64GetDatum(run->run_id), CStringGetTextDatum(run->instance_id), Int64GetDatum(run->rows)};

	execute_once("UPDATE customer_segmentation.segment_run SET status = 'succeeded', ended_at = clock_timestamp(), "
				 "segment_instance_id = $2, rows = $3 WHERE run_id = $1",
				 lengthof(types), types, values, NULL);
}

/* Unless it has been told by another session meanwhile. */
void
run_update_failed(int64 run_id, const char *sqlstate, const char *error)
{
	Oid types[] = {INT8OID, TEXTOID, TEXTOID};
	Datum values[] = {Int64GetDatum(run_id), CStringGetTextDatum(sqlstate), CStringGetTextDatum(error)};

	execute_once("UPDATE customer_segmentation.segment_run SET status = 'failed', ended_at = clock_timestamp(), "
				 "sqlstate = $2, error = $3 WHERE run_id = $1 AND status = 'running'",
				 lengthof(types), types, values, NULL);
}

List *
runs_unfinished(void)
{
	return select_ids("SELECT DISTINCT segment_id FROM customer_segmentation.segment_run WHERE status = 'running' "
					  "ORDER BY segment_id");
}

uint64
runs_bury(const char *segment_id)
{
	Oid types[] = {TEXTOID};
	Datum values[] = {CStringGetTextDatum(segment_id)};

	return execute_once("UPDATE customer_segmentation.segment_run SET status = 'failed', ended_at = clock_timestamp(), "
						"sqlstate = '57000', error = format('the server process of the run, PID %s, ended before the "
						"run did', pid) WHERE segment_id = $1 AND status = 'running'",
						lengthof(types), types, values, NULL);
}

int64
runs_failed(const Segment *segment, TimestampTz as_of)
{
	Oid types[] = {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum values[] = {CStringGetTextDatum(segment->segment_id), TimestampTzGetDatum(as_of),
					  TimestampTzGetDatum(segment->altered_at)};
	Catalog catalog;
	int64 n;
	bool isnull;

	catalog_enter(&catalog);
	catalog_execute("SELECT count(*) FROM customer_segmentation.segment_run WHERE segment_id = $1 AND as_of = $2 AND "
					"kind = 'scheduled' AND status = 'failed' AND started_at >= $3",
					lengthof(types), types, values, NULL);
	n = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	catalog_leave(&catalog);
	return n;
}

/* The same error again within a day is not worth another record. */
void
run_insert_failed(const Segment *segment, const Run *run, const char *sqlstate, const char *error)
{
	Oid types[] = {TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID, INT4OID};
	Datum values[] = {CStringGetTextDatum(segment->segment_id),
					  CStringGetTextDatum(run->kind),
					  TimestampTzGetDatum(run->as_of),
					  TimestampTzGetDatum(run->started_at),
					  CStringGetTextDatum(sqlstate),
					  CStringGetTextDatum(error),
					  CStringGetTextDatum(GetUserNameFromId(GetUserId(), false)),
					  Int32GetDatum(MyProcPid)};

	execute_once(
		"INSERT INTO customer_segmentation.segment_run (segment_id, kind, as_of, started_at, ended_at, status, "
		"sqlstate, error, run_by, pid) SELECT $1, $2, $3, $4, clock_timestamp(), 'failed', $5, $6, $7, $8 "
		"WHERE NOT EXISTS (SELECT FROM customer_segmentation.segment_run WHERE segment_id = $1 AND kind = $2 AND "
		"sqlstate = $5 AND error = $6 AND started_at > $4 - interval '1 day')",
		lengthof(types), types, values, NULL);
}

/* What the views tell of a segment's last runs stays, however old. */
void
runs_forget(TimestampTz before)
{
	Oid types[] = {TIMESTAMPTZOID};
	Datum values[] = {TimestampTzGetDatum(before)};

	execute_once(
		"DELETE FROM customer_segmentation.segment_run AS r WHERE r.started_at < $1 AND r.status <> 'running' "
		"AND NOT EXISTS (SELECT FROM customer_segmentation.segment AS s WHERE s.segment_id = r.segment_id AND "
		"r.run_id IN ((SELECT max(l.run_id) FROM customer_segmentation.segment_run AS l "
		"WHERE l.segment_id = s.segment_id), (SELECT max(l.run_id) FROM customer_segmentation.segment_run AS l "
		"WHERE l.segment_id = s.segment_id AND l.status = 'succeeded' AND l.kind <> 'backfill')))",
		lengthof(types), types, values, NULL);
}

Oid
store_shared_relation(void)
{
	Catalog catalog;
	Oid relation = InvalidOid;
	bool isnull;

	catalog_enter(&catalog);
	if (catalog_execute("SELECT c.oid FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_extension AS e "
						"ON e.extnamespace = c.relnamespace "
						"WHERE e.extname = 'customer_segmentation' AND c.relname = 'customer_segmentation_table'",
						0, NULL, NULL, NULL) > 0)
		relation = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	catalog_leave(&catalog);
	return relation;
}
