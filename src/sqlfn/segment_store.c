/*
 * segment_store.c
 *    Instances: members become rows of the segment's table, and rows go again.
 *
 * A user's own table is written as the segment's owner, by ordinary statements: privileges, row security, constraints
 * and triggers hold. The extension's table is written as the owner of that table, on behalf of a segment's owner who
 * holds INSERT on it: so that a role can keep its segments there without DELETE on everybody's. What runs then is one
 * of the constant statements below on values that are already plain; nobody's triggers or policies can be on that
 * table.
 */
#include "sqlfn/segment.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "am/am.h"
#include "sqlfn/sqlfn.h"

/* ---- progress ----------------------------------------------------------------------------------------------- */

void
segment_report(const char *what, const Segment *segment, int64 n)
{
	char text[256];

	snprintf(text, sizeof(text), "customer_segmentation: %s segment %s, " INT64_FORMAT " members", what,
			 segment->segment_id ? segment->segment_id : "preview", n);
	pgstat_report_activity(STATE_RUNNING, text);
}

void
segment_report_end(void)
{
	pgstat_report_activity(STATE_RUNNING, debug_query_string);
}

/* ---- who writes --------------------------------------------------------------------------------------------- */

static bool
is_extension_table(Oid relation)
{
	Oid extension = getExtensionOfObject(RelationRelationId, relation);

	return OidIsValid(extension) && extension == get_extension_oid("customer_segmentation", true);
}

static Oid
table_owner(Oid relation)
{
	Relation rel = table_open(relation, AccessShareLock);
	Oid owner = rel->rd_rel->relowner;

	table_close(rel, AccessShareLock);
	return owner;
}

static void
check_privilege(Oid relation, Oid role, AclMode mode, const char *privilege)
{
	if (pg_class_aclcheck(relation, role, mode) == ACLCHECK_OK)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for table %s", get_rel_name(relation)),
			 errdetail("Instances are stored there for role \"%s\", which lacks %s.", GetUserNameFromId(role, false),
					   privilege),
			 errhint("GRANT %s ON %s TO %s.", privilege, quote_identifier(get_rel_name(relation)),
					 quote_identifier(GetUserNameFromId(role, false)))));
}

static void
check_kind(const Segment *segment)
{
	Relation rel = try_relation_open(segment->relation, AccessShareLock);

	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE), errmsg("the table of segment \"%s\" does not exist", segment->name),
				 errhint("Create the segment anew, for a table that exists.")));
	if (rel->rd_rel->relkind != RELKIND_RELATION || !am_is_ours(rel))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" does not use access method \"customer_segmentation\"", RelationGetRelationName(rel)),
				 errhint("Name a table that was created with USING customer_segmentation.")));
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("segments can't be stored in temporary table \"%s\"", RelationGetRelationName(rel)),
						errdetail("It would be gone when the segment runs."), errhint("Name a permanent table.")));
	relation_close(rel, AccessShareLock);
}

void
store_check_relation(const Segment *segment)
{
	check_kind(segment);
	check_privilege(segment->relation, segment->owner, ACL_INSERT, "INSERT");
	if (is_extension_table(segment->relation))
		return;
	/* The rows to be deleted are searched for. */
	check_privilege(segment->relation, segment->owner, ACL_DELETE, "DELETE");
	check_privilege(segment->relation, segment->owner, ACL_SELECT, "SELECT");
}

bool
store_is_shared(Oid relation)
{
	return is_extension_table(relation);
}

/* ---- statements --------------------------------------------------------------------------------------------- */

static void
enter(Catalog *place, const Segment *segment)
{
	Oid user = is_extension_table(segment->relation) ? table_owner(segment->relation) : segment->owner;

	GetUserIdAndSecContext(&place->userid, &place->sec_context);
	place->guc_level = NewGUCNestLevel();
	SetUserIdAndSecContext(user, place->sec_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
	(void) set_config_option("row_security", "on", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

static char *
table_name(Oid relation)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)), get_rel_name(relation));
}

static Datum
text_array(char **texts, int n)
{
	Datum *values = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		values[i] = CStringGetTextDatum(texts[i]);
	return PointerGetDatum(construct_array(values, n, TEXTOID, -1, false, TYPALIGN_INT));
}

static int64
delete_instances(const Segment *segment, char **instance_ids, int n)
{
	Oid types[] = {TEXTARRAYOID, TEXTOID};
	Datum values[] = {text_array(instance_ids, n), CStringGetTextDatum(segment->segment_id)};

	return (int64) catalog_execute(psprintf("DELETE FROM %s WHERE segment_instance_id = ANY ($1) AND segment_id = $2",
											table_name(segment->relation)),
								   lengthof(types), types, values, NULL);
}

int64
store_drop_instances(const Segment *segment, char **instance_ids, int n)
{
	Catalog place;
	int64 rows;

	enter(&place, segment);
	rows = delete_instances(segment, instance_ids, n);
	catalog_leave(&place);
	marks_remove(segment->relation, instance_ids, n);
	return rows;
}

int64
store_delete_segment(const Segment *segment)
{
	Oid types[] = {TEXTOID};
	Datum values[] = {CStringGetTextDatum(segment->segment_id)};
	Catalog place;
	int64 rows;

	enter(&place, segment);
	rows = (int64) catalog_execute(psprintf("DELETE FROM %s WHERE segment_id = $1", table_name(segment->relation)),
								   lengthof(types), types, values, NULL);
	catalog_leave(&place);
	return rows;
}

bool
store_has_segment(const Segment *segment)
{
	Oid types[] = {TEXTOID};
	Datum values[] = {CStringGetTextDatum(segment->segment_id)};
	Catalog place;
	bool found;

	enter(&place, segment);
	found = catalog_execute(psprintf("SELECT FROM %s WHERE segment_id = $1 LIMIT 1", table_name(segment->relation)),
							lengthof(types), types, values, NULL) > 0;
	catalog_leave(&place);
	return found;
}

static Datum
local_dates(const Segment *segment, const TimestampTz *moments, int n)
{
	Datum *values = palloc(sizeof(Datum) * n);

	for (int i = 0; i < n; i++)
		values[i] = TimestampGetDatum(schedule_local(&segment->timing, moments[i]));
	return PointerGetDatum(
		construct_array(values, n, TIMESTAMPOID, sizeof(Timestamp), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

static void
insert_members(const Segment *segment, Members *members, const TimestampTz *moments, char **instance_ids, int n)
{
	Oid types[] = {TIMESTAMPARRAYOID, TEXTOID, TEXTOID, TIMESTAMPOID, TEXTOID, TEXTARRAYOID, TEXTOID};
	Datum values[] = {
		local_dates(segment, moments, n),
		CStringGetTextDatum(segment->schedule),
		CStringGetTextDatum(segment->segment_by),
		TimestampGetDatum(schedule_local(&segment->timing, segment->created_at)),
		CStringGetTextDatum(segment->segment_id),
		text_array(instance_ids, n),
		CStringGetTextDatum(segment->name),
	};
	EphemeralNamedRelationData enr = {
		.md = {.name = "members",
			   .tupdesc = members->desc,
			   .enrtype = ENR_NAMED_TUPLESTORE,
			   .enrtuples = members->rows},
		.reldata = members->store,
	};

	if (SPI_register_relation(&enr) != SPI_OK_REL_REGISTER)
		elog(ERROR, "SPI_register_relation failed");
	catalog_execute(
		psprintf(
			"INSERT INTO %s (customer_identity, instance_created_date, schedule, segment_by, segment_created_date, "
			"segment_id, segment_instance_id, segment_name, num_of_customers, num_of_orders, total_revenue) "
			"SELECT m.customer_identity, ($1)[m.instance_no], $2, $3, $4, $5, ($6)[m.instance_no], $7, 1, "
			"m.num_of_orders, m.total_revenue FROM members AS m",
			table_name(segment->relation)),
		lengthof(types), types, values, NULL);
}

/* ---- what is stored ----------------------------------------------------------------------------------------- */

static int
newest_first(const void *a, const void *b)
{
	const StoredInstance *x = a;
	const StoredInstance *y = b;

	if (x->created != y->created)
		return x->created > y->created ? -1 : 1;
	return -strcmp(x->instance_id, y->instance_id);
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const StoredInstance *) a)->instance_id, ((const StoredInstance *) b)->instance_id);
}

/* Rows of one instance that differ in another dimension are in several places. */
static int
merge_parts(StoredInstance *instances, int n)
{
	int kept = 0;

	qsort(instances, n, sizeof(StoredInstance), by_name);
	for (int i = 0; i < n; i++)
	{
		if (kept == 0 || by_name(&instances[kept - 1], &instances[i]) != 0)
		{
			instances[kept++] = instances[i];
			continue;
		}
		instances[kept - 1].rows += instances[i].rows;
		instances[kept - 1].created = Max(instances[kept - 1].created, instances[i].created);
	}
	qsort(instances, kept, sizeof(StoredInstance), newest_first);
	return kept;
}

static StoredInstance *
list_stored(const Segment *segment, Relation rel, MemoryContext memory, int *n)
{
	text *segment_id = segment->segment_id ? cstring_to_text(segment->segment_id) : NULL;
	AmReader *reader = am_reader_acquire(rel, GetActiveSnapshot());
	StoredInstance *list;

	store_view_rows(rel, reader->view);
	MemoryContextSwitchTo(memory);
	list = palloc0(sizeof(StoredInstance) * Max(reader->view->n_instances, 1));
	*n = 0;
	for (int i = 0; i < reader->view->n_instances; i++)
	{
		const StoreInstance *instance = reader->view->instances[i];

		if (instance->rows == 0 || (segment_id && !store_text_equal(instance->group->dims.segment_id, segment_id)))
			continue;
		list[(*n)++] = (StoredInstance){
			.instance_id = text_to_cstring(instance->dims.segment_instance_id),
			.segment_id = text_to_cstring(instance->group->dims.segment_id),
			.created = instance->dims.instance_created_date,
			.rows = (int64) instance->rows,
		};
	}
	am_reader_release(reader);
	return list;
}

/* The privileges are those of the role that writes. What this transaction has written is there. */
StoredInstance *
store_list_instances(const Segment *segment, int *n)
{
	MemoryContext memory = CurrentMemoryContext;
	Catalog place;
	Relation rel;
	StoredInstance *list;

	enter(&place, segment);
	rel = sqlfn_open(segment->relation, AccessShareLock);
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	am_flush_before_read(rel, GetActiveSnapshot());
	list = list_stored(segment, rel, memory, n);
	PopActiveSnapshot();
	table_close(rel, AccessShareLock);
	catalog_leave(&place);
	MemoryContextSwitchTo(memory);
	*n = merge_parts(list, *n);
	marks_read(segment->relation, list, *n);
	return list;
}

void
store_check_listing(const Segment *segment)
{
	Catalog place;

	enter(&place, segment);
	table_close(sqlfn_open(segment->relation, AccessShareLock), NoLock);
	catalog_leave(&place);
}

/* ---- writing ------------------------------------------------------------------------------------------------ */

/* The table finds duplicates; only then are they counted. */
static void
insert_or_explain(const Segment *segment, Members *members, const TimestampTz *moments, char **instance_ids, int n)
{
	MemoryContext memory = CurrentMemoryContext;
	ResourceOwner resources = CurrentResourceOwner;
	ErrorData *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(memory);
	PG_TRY();
	{
		Catalog place;

		enter(&place, segment);
		delete_instances(segment, instance_ids, n);
		insert_members(segment, members, moments, instance_ids, n);
		catalog_leave(&place);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(memory);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(memory);
	CurrentResourceOwner = resources;
	if (error == NULL)
		return;
	if (error->sqlerrcode == ERRCODE_UNIQUE_VIOLATION)
		members_check(members, segment->name, true);
	ReThrowError(error);
}

void
store_instances(const Segment *segment, Members *members, const TimestampTz *moments, char **instance_ids, int n)
{
	members_check(members, segment->name, false);
	segment_report("storing", segment, members->rows);
	insert_or_explain(segment, members, moments, instance_ids, n);
}
