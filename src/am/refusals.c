/*
 * refusals.c
 *    What can't work is refused when it is configured, by the object access hook.
 *
 * On every table of the access method: indexes (CREATE INDEX CONCURRENTLY too leaves nothing behind, since the hook
 * runs before its first transaction commits), changes of columns, naming in a publication. On the extension's own table
 * also whatever pg_dump would not carry over for a member of an extension.
 */
#include "am/am.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_am.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_publication.h"
#include "catalog/pg_publication_rel.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_trigger.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat/compat.h"

static object_access_hook_type previous_hook = NULL;

/* ---- whose table is it? ------------------------------------------------------------------------------------------ */

/* The access method is told by its routine, not by a name that anybody may give. */
static bool
relation_is_ours(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool maybe;
	bool ours;
	Relation rel;

	if (!HeapTupleIsValid(tuple))
		return false;
	maybe = ((Form_pg_class) GETSTRUCT(tuple))->relkind == RELKIND_RELATION &&
			((Form_pg_class) GETSTRUCT(tuple))->relam != HEAP_TABLE_AM_OID;
	ReleaseSysCache(tuple);
	if (!maybe)
		return false;
	rel = try_relation_open(relid, NoLock);
	ours = rel && am_is_ours(rel);
	if (rel)
		relation_close(rel, NoLock);
	return ours;
}

static bool
is_extension_member(Oid relid)
{
	return OidIsValid(getExtensionOfObject(RelationRelationId, relid));
}

static bool
is_own_table(Oid relid)
{
	return !creating_extension && !IsBinaryUpgrade && is_extension_member(relid) && relation_is_ours(relid);
}

static void
refuse(Oid relid, const char *what, const char *detail, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("%s is not supported on table \"%s\"", what, get_rel_name(relid)), errdetail("%s", detail),
					errhint("%s", hint)));
}

#define OWN_DETAIL "The table belongs to the extension: pg_dump would leave this out without a word."
#define OWN_HINT                                                                                        \
	"Use a table of your own: CREATE TABLE ... (LIKE customer_segmentation_table INCLUDING ALL) USING " \
	"customer_segmentation."

/* ---- new objects that are not visible to the caches yet -------------------------------------------------------------
 */

/* Reads one OID column of a catalog row that the current command has just written. */
static Oid
fresh_oid(Oid catalog, Oid index, AttrNumber key, Oid object, AttrNumber wanted, char *kind, AttrNumber kind_column)
{
	Relation rel = table_open(catalog, AccessShareLock);
	ScanKeyData skey;
	SysScanDesc scan;
	HeapTuple tuple;
	Oid result = InvalidOid;
	bool isnull;

	ScanKeyInit(&skey, key, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(object));
	scan = systable_beginscan(rel, index, true, SnapshotSelf, 1, &skey);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		result = DatumGetObjectId(heap_getattr(tuple, wanted, RelationGetDescr(rel), &isnull));
		if (kind)
			*kind = DatumGetChar(heap_getattr(tuple, kind_column, RelationGetDescr(rel), &isnull));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

static void
check_new_index(Oid index)
{
	Oid table =
		fresh_oid(IndexRelationId, IndexRelidIndexId, Anum_pg_index_indexrelid, index, Anum_pg_index_indrelid, NULL, 0);

	if (OidIsValid(table) && relation_is_ours(table))
		refuse(
			table, "CREATE INDEX", "Access method \"customer_segmentation\" has no indexes.",
			"Lookups by instance, segment, date and customer need none, and (segment_instance_id, customer_identity) "
			"is unique by construction.");
}

static void
check_new_relation(Oid relid)
{
	char kind = 0;

	fresh_oid(RelationRelationId, ClassOidIndexId, Anum_pg_class_oid, relid, Anum_pg_class_oid, &kind,
			  Anum_pg_class_relkind);
	if (kind == RELKIND_INDEX)
		check_new_index(relid);
}

static void
check_new_column(Oid relid)
{
	if (relation_is_ours(relid))
		refuse(relid, "ALTER TABLE ... ADD COLUMN",
			   "Access method \"customer_segmentation\" stores exactly the columns of a segment instance.",
			   "Keep other columns in a table of their own, and join.");
}

static void
check_own(Oid relid, const char *what)
{
	if (OidIsValid(relid) && is_own_table(relid))
		refuse(relid, what, OWN_DETAIL, OWN_HINT);
}

static void
check_new_trigger(Oid trigger)
{
	char internal = 0;
	Oid relid = fresh_oid(TriggerRelationId, TriggerOidIndexId, Anum_pg_trigger_oid, trigger, Anum_pg_trigger_tgrelid,
						  &internal, Anum_pg_trigger_tgisinternal);

	if (!internal)
		check_own(relid, "CREATE TRIGGER");
}

static void
check_new_constraint(Oid constraint)
{
	check_own(fresh_oid(ConstraintRelationId, ConstraintOidIndexId, Anum_pg_constraint_oid, constraint,
						Anum_pg_constraint_conrelid, NULL, 0),
			  "ADD CONSTRAINT");
}

static void
check_new_policy(Oid policy)
{
	check_own(
		fresh_oid(PolicyRelationId, PolicyOidIndexId, Anum_pg_policy_oid, policy, Anum_pg_policy_polrelid, NULL, 0),
		"CREATE POLICY");
}

static void
check_new_rule(Oid rule)
{
	check_own(
		fresh_oid(RewriteRelationId, RewriteOidIndexId, Anum_pg_rewrite_oid, rule, Anum_pg_rewrite_ev_class, NULL, 0),
		"CREATE RULE");
}

static void
refuse_publishing(Oid relid)
{
	if (OidIsValid(relid) && relation_is_ours(relid))
		refuse(relid, "logical replication",
			   "Rows of access method \"customer_segmentation\" are not decoded from the WAL.",
			   "Use physical replication, or copy instances with COPY or postgres_fdw.");
}

static void
check_new_publication_member(Oid member)
{
	refuse_publishing(fresh_oid(PublicationRelRelationId, PublicationRelObjectIndexId, Anum_pg_publication_rel_oid,
								member, Anum_pg_publication_rel_prrelid, NULL, 0));
}

/* CREATE PUBLICATION has no hook for its members, just for itself. */
static void
check_new_publication(Oid publication)
{
	Relation rel = table_open(PublicationRelRelationId, AccessShareLock);
	ScanKeyData skey;
	SysScanDesc scan;
	HeapTuple tuple;
	List *members = NIL;
	ListCell *lc;

	ScanKeyInit(&skey, Anum_pg_publication_rel_prpubid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(publication));
	scan = systable_beginscan(rel, PublicationRelPrpubidIndexId, true, SnapshotSelf, 1, &skey);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		members = lappend_oid(members, ((Form_pg_publication_rel) GETSTRUCT(tuple))->prrelid);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	foreach (lc, members)
		refuse_publishing(lfirst_oid(lc));
}

static void
at_post_create(Oid class, Oid object, int sub)
{
	if (class == RelationRelationId && sub > 0)
		check_new_column(object);
	else if (class == RelationRelationId)
		check_new_relation(object);
	else if (class == TriggerRelationId)
		check_new_trigger(object);
	else if (class == ConstraintRelationId)
		check_new_constraint(object);
	else if (class == PolicyRelationId)
		check_new_policy(object);
	else if (class == RewriteRelationId)
		check_new_rule(object);
	else if (class == PublicationRelRelationId)
		check_new_publication_member(object);
	else if (class == PublicationRelationId)
		check_new_publication(object);
}

/* ---- changes
 * ---------------------------------------------------------------------------------------------------------- */

/* The new row of pg_attribute must still be one of ours: its name, type, collation. */
static void
check_altered_column(Oid relid, int sub)
{
	Relation rel;
	ScanKeyData skey[2];
	SysScanDesc scan;
	HeapTuple tuple;

	if (!relation_is_ours(relid))
		return;
	rel = table_open(AttributeRelationId, AccessShareLock);
	ScanKeyInit(&skey[0], Anum_pg_attribute_attrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	ScanKeyInit(&skey[1], Anum_pg_attribute_attnum, BTEqualStrategyNumber, F_INT2EQ, Int16GetDatum((int16) sub));
	scan = systable_beginscan(rel, AttributeRelidNumIndexId, true, SnapshotSelf, 2, skey);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple) && !((Form_pg_attribute) GETSTRUCT(tuple))->attisdropped)
	{
		Form_pg_attribute att = (Form_pg_attribute) GETSTRUCT(tuple);

		if (!am_is_column_name(NameStr(att->attname)))
			refuse(relid, "renaming a column",
				   psprintf("\"%s\" is not a column of a segment instance.", NameStr(att->attname)),
				   "Create a view with the names that you want.");
		am_check_column(get_rel_name(relid), att);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	check_own(relid, "changing a column");
}

/* Settings, statistics and row security flags of the own table may change; its name and place may not. */
static void
check_altered_relation(Oid relid)
{
	HeapTuple before;
	Relation class_rel;
	ScanKeyData skey;
	SysScanDesc scan;
	HeapTuple after;
	bool moved = false;

	if (!is_own_table(relid))
		return;
	before = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	if (!HeapTupleIsValid(before))
		return;
	class_rel = table_open(RelationRelationId, AccessShareLock);
	ScanKeyInit(&skey, Anum_pg_class_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(class_rel, ClassOidIndexId, true, SnapshotSelf, 1, &skey);
	after = systable_getnext(scan);
	if (HeapTupleIsValid(after))
	{
		Form_pg_class b = (Form_pg_class) GETSTRUCT(before);
		Form_pg_class a = (Form_pg_class) GETSTRUCT(after);

		moved = strcmp(NameStr(a->relname), NameStr(b->relname)) != 0 || a->relnamespace != b->relnamespace ||
				a->relrowsecurity != b->relrowsecurity || a->relforcerowsecurity != b->relforcerowsecurity;
	}
	systable_endscan(scan);
	table_close(class_rel, AccessShareLock);
	ReleaseSysCache(before);
	if (moved)
		refuse(relid, "renaming, moving or securing rows", OWN_DETAIL, OWN_HINT);
}

static void
at_post_alter(Oid class, Oid object, int sub)
{
	if (class != RelationRelationId)
		return;
	if (sub > 0)
		check_altered_column(object, sub);
	else
		check_altered_relation(object);
}

static void
at_drop(Oid class, Oid object, int sub)
{
	if (class != RelationRelationId || sub <= 0 || !relation_is_ours(object))
		return;
	refuse(object, "ALTER TABLE ... DROP COLUMN",
		   "Access method \"customer_segmentation\" stores exactly the columns of a segment instance.",
		   "Create a view without the column.");
}

/*
 * What ALTER TABLE does without any hook to see it (before 16, row security). A session whose first statement this is
 * has not loaded the library yet.
 */
void
am_check_alter_table(AlterTableStmt *stmt)
{
	Oid relid = stmt->objtype == OBJECT_TABLE ? RangeVarGetRelid(stmt->relation, NoLock, true) : InvalidOid;
	ListCell *lc;

	if (!OidIsValid(relid) || !SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)) || !is_extension_member(relid))
		return;
	LockRelationOid(relid, AccessShareLock);
	if (!is_own_table(relid))
		return;
	foreach (lc, stmt->cmds)
	{
		switch (lfirst_node(AlterTableCmd, lc)->subtype)
		{
		case AT_EnableRowSecurity:
		case AT_ForceRowSecurity:
			refuse(relid, "row security", OWN_DETAIL, OWN_HINT);
			break;
		case AT_ColumnDefault:
			refuse(relid, "a column default", OWN_DETAIL, OWN_HINT);
			break;
		/* Before the server finds that a view depends on the column. */
		case AT_AlterColumnType:
			refuse(relid, "changing a column", OWN_DETAIL, OWN_HINT);
			break;
		default:
			break;
		}
	}
}

static void
on_object_access(ObjectAccessType access, Oid class, Oid object, int sub, void *arg)
{
	if (previous_hook)
		previous_hook(access, class, object, sub, arg);
	if (access == OAT_POST_CREATE)
		at_post_create(class, object, sub);
	else if (access == OAT_POST_ALTER)
		at_post_alter(class, object, sub);
	else if (access == OAT_DROP)
		at_drop(class, object, sub);
}

void
am_refusals_init(void)
{
	previous_hook = object_access_hook;
	object_access_hook = on_object_access;
}
