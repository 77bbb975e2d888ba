/*
 * open.c
 *    Who may read storage directly.
 */
#include "sqlfn/sqlfn.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/objectaddress.h"
#include "miscadmin.h"
#include "storage/sinval.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/syscache.h"

#include "am/am.h"
#include "compat/compat.h"

void
sqlfn_require(Oid relid, AclMode mode)
{
	if (pg_class_aclmask(relid, GetUserId(), mode, ACLMASK_ALL) != mode)
		aclcheck_error(ACLCHECK_NO_PRIV, get_relkind_objtype(get_rel_relkind(relid)), get_rel_name(relid));
}

char *
sqlfn_table_name(Relation rel)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)), RelationGetRelationName(rel));
}

static bool
may_select(Oid relid, uint32 columns)
{
	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) == ACLCHECK_OK)
		return true;
	if (columns == 0)
		return false;
	for (int c = 0; c < AM_COLUMNS; c++)
	{
		AttrNumber attno;

		if ((columns & (UINT32_C(1) << c)) == 0)
			continue;
		attno = get_attnum(relid, am_column_name((AmColumn) c));
		if (attno == InvalidAttrNumber || pg_attribute_aclcheck(relid, attno, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
			return false;
	}
	return true;
}

COMPAT_NORETURN static void no_such_table(Oid relid) COMPAT_NORETURN_END;

static void
no_such_table(Oid relid)
{
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", relid)));
}

void
sqlfn_require_readable(Oid relid, uint32 columns)
{
	if (get_rel_name(relid) == NULL)
		no_such_table(relid);
	if (!may_select(relid, columns))
		aclcheck_error(ACLCHECK_NO_PRIV, get_relkind_objtype(get_rel_relkind(relid)), get_rel_name(relid));
	if (check_enable_rls(relid, InvalidOid, false) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("row security applies to relation \"%s\"", get_rel_name(relid)),
				 errdetail("This function reads the whole of the table, past its policies."),
				 errhint("Query the table itself, or call the function as a role that row security does not bind.")));
}

static bool
is_our_access_method(Oid am)
{
	HeapTuple tuple = SearchSysCache1(AMOID, ObjectIdGetDatum(am));
	bool ours;

	if (!HeapTupleIsValid(tuple))
		return false;
	ours = GetTableAmRoutine(((Form_pg_am) GETSTRUCT(tuple))->amhandler) == am_routine();
	ReleaseSysCache(tuple);
	return ours;
}

/* Takes no lock: whoever asks need not have a privilege on the relation. */
bool
sqlfn_is_ours(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool is_table;
	Oid am;

	if (!HeapTupleIsValid(tuple))
		return false;
	is_table = ((Form_pg_class) GETSTRUCT(tuple))->relkind == RELKIND_RELATION;
	am = ((Form_pg_class) GETSTRUCT(tuple))->relam;
	ReleaseSysCache(tuple);
	return is_table && is_our_access_method(am);
}

Relation
sqlfn_open_columns(Oid relid, uint32 columns, LOCKMODE lockmode)
{
	Relation rel;
	uint64 invalidations = SharedInvalidMessageCounter;

	sqlfn_require_readable(relid, columns);
	rel = try_table_open(relid, lockmode);
	/* Dropped while this waited for the lock; or else a privilege may have been revoked. */
	if (rel == NULL)
		no_such_table(relid);
	if (invalidations != SharedInvalidMessageCounter)
		sqlfn_require_readable(relid, columns);
	if (!am_is_ours(rel))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" does not use access method \"customer_segmentation\"", RelationGetRelationName(rel)),
				 rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE
					 ? errhint("It is partitioned: name one of its partitions.")
					 : errhint("Name a table that was created with USING customer_segmentation.")));
	if (RELATION_IS_OTHER_TEMP(rel))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("cannot access temporary tables of other sessions")));
	return rel;
}

Relation
sqlfn_open(Oid relid, LOCKMODE lockmode)
{
	return sqlfn_open_columns(relid, 0, lockmode);
}
