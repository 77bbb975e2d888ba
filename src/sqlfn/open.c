/*
 * open.c
 *    Who may read storage directly.
 */
#include "sqlfn/sqlfn.h"

#include "access/relation.h"
#include "access/table.h"
#include "catalog/objectaddress.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"

#include "am/am.h"

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

void
sqlfn_require_readable(Oid relid, uint32 columns)
{
	if (get_rel_name(relid) == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", relid)));
	if (!may_select(relid, columns))
		aclcheck_error(ACLCHECK_NO_PRIV, get_relkind_objtype(get_rel_relkind(relid)), get_rel_name(relid));
	if (check_enable_rls(relid, InvalidOid, false) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("row security applies to relation \"%s\"", get_rel_name(relid)),
				 errdetail("This function reads the whole of the table, past its policies."),
				 errhint("Query the table itself, or call the function as a role that row security does not bind.")));
}

bool
sqlfn_is_ours(Oid relid)
{
	Relation rel = try_relation_open(relid, AccessShareLock);
	bool ours = rel && rel->rd_rel->relkind == RELKIND_RELATION && am_is_ours(rel);

	if (rel)
		relation_close(rel, NoLock);
	return ours;
}

Relation
sqlfn_open_columns(Oid relid, uint32 columns, LOCKMODE lockmode)
{
	Relation rel;

	sqlfn_require_readable(relid, columns);
	rel = table_open(relid, lockmode);
	if (!am_is_ours(rel))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" does not use access method \"customer_segmentation\"", RelationGetRelationName(rel)),
				 errhint("Name a table that was created with USING customer_segmentation.")));
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
