/*
 * clauses.c
 *    What the clauses of a query say about a table of ours: which columns they read, which keys they name.
 *
 * A clause that is evaluated early, to skip what it can't be true for, must be promotable past the others: what leaks
 * stays behind the conditions of row security and of security-barrier views.
 */
#include "plan/clauses.h"

#include "access/sysattr.h"
#include "catalog/pg_operator.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/restrictinfo.h"

#include "plan/prune.h"

bool
plan_is_column(Node *node, Index varno, AttrNumber attno)
{
	if (node && IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	return node && IsA(node, Var) && ((Var *) node)->varno == (int) varno && ((Var *) node)->varattno == attno &&
		   ((Var *) node)->varlevelsup == 0;
}

bool
plan_columns_of(Node *node, Index varno, const AmColumnMap *map, uint32 *columns)
{
	Bitmapset *attnos = NULL;
	int x = -1;

	*columns = 0;
	pull_varattnos(node, varno, &attnos);
	while ((x = bms_next_member(attnos, x)) >= 0)
	{
		AttrNumber attno = (AttrNumber) (x + FirstLowInvalidHeapAttributeNumber);

		if (attno <= 0 || attno > map->natts || map->column[attno - 1] == COL_DROPPED)
			return false;
		*columns |= PLAN_COLUMN(map->column[attno - 1]);
	}
	return true;
}

bool
plan_is_repeatable(Node *node)
{
	return !contain_volatile_functions(node) && !contain_subplans(node);
}

bool
plan_is_about_dimensions(Node *node, Index varno, const AmColumnMap *map)
{
	uint32 columns;

	return plan_columns_of(node, varno, map, &columns) && columns != 0 && (columns & ~PLAN_DIMENSIONS) == 0 &&
		   plan_is_repeatable(node);
}

/* ---- keys -------------------------------------------------------------------------------------------------------- */

static bool
is_value(Node *node, Index varno)
{
	return !bms_is_member((int) varno, pull_varnos(NULL, node)) && plan_is_repeatable(node);
}

Expr *
plan_key_value(Expr *clause, Index varno, AttrNumber attno, bool *is_array)
{
	List *args;
	Oid opno;
	Oid collation;
	Node *left;
	Node *right;

	*is_array = false;
	if (IsA(clause, OpExpr))
	{
		opno = ((OpExpr *) clause)->opno;
		args = ((OpExpr *) clause)->args;
		collation = ((OpExpr *) clause)->inputcollid;
	}
	else if (IsA(clause, ScalarArrayOpExpr) && ((ScalarArrayOpExpr *) clause)->useOr)
	{
		opno = ((ScalarArrayOpExpr *) clause)->opno;
		args = ((ScalarArrayOpExpr *) clause)->args;
		collation = ((ScalarArrayOpExpr *) clause)->inputcollid;
		*is_array = true;
	}
	else
		return NULL;
	if (opno != TextEqualOperator || list_length(args) != 2 || !am_collation_is_deterministic(collation))
		return NULL;
	left = linitial(args);
	right = lsecond(args);
	if (plan_is_column(left, varno, attno) && is_value(right, varno))
		return (Expr *) right;
	if (!*is_array && plan_is_column(right, varno, attno) && is_value(left, varno))
		return (Expr *) left;
	return NULL;
}

/* Of several conditions any one that binds the column will do: the others stay in the filter. */
static List *
keys_of_any_argument(List *args, Index varno, AttrNumber attno)
{
	ListCell *lc;

	foreach (lc, args)
	{
		List *keys = plan_key_clauses(lfirst(lc), varno, attno);

		if (keys)
			return keys;
	}
	return NIL;
}

static List *
keys_of_all_arguments(List *args, Index varno, AttrNumber attno)
{
	List *all = NIL;
	ListCell *lc;

	foreach (lc, args)
	{
		List *keys = plan_key_clauses(lfirst(lc), varno, attno);

		if (keys == NIL)
			return NIL;
		all = list_concat(all, keys);
	}
	return all;
}

List *
plan_key_clauses(Expr *clause, Index varno, AttrNumber attno)
{
	bool is_array;

	if (plan_key_value(clause, varno, attno, &is_array))
		return list_make1(clause);
	if (!IsA(clause, BoolExpr))
		return NIL;
	switch (((BoolExpr *) clause)->boolop)
	{
	case AND_EXPR:
		return keys_of_any_argument(((BoolExpr *) clause)->args, varno, attno);
	case OR_EXPR:
		return keys_of_all_arguments(((BoolExpr *) clause)->args, varno, attno);
	default:
		return NIL;
	}
}

/* ---- sorting ----------------------------------------------------------------------------------------------------- */

static bool
reads_other_relations(Node *clause, Index varno)
{
	Bitmapset *varnos = pull_varnos(NULL, clause);

	return !bms_is_subset(varnos, bms_make_singleton((int) varno));
}

void
plan_sort_clause(RestrictInfo *rinfo, RelOptInfo *rel, const AmColumnMap *map, bool outer, PlanClauses *out)
{
	if (rinfo->pseudoconstant || !restriction_is_securely_promotable(rinfo, rel))
		return;
	if (!outer && reads_other_relations((Node *) rinfo->clause, rel->relid))
		return;
	if (plan_key_clauses(rinfo->clause, rel->relid, map->attno[COL_IDENTITY] + 1))
		out->identity = lappend(out->identity, rinfo);
	if (plan_prune_says_something(rinfo->clause, rel->relid, map))
		out->instance = lappend(out->instance, rinfo);
}

void
plan_sort_clauses(List *rinfos, RelOptInfo *rel, const AmColumnMap *map, bool outer, PlanClauses *out)
{
	ListCell *lc;

	foreach (lc, rinfos)
		plan_sort_clause(lfirst_node(RestrictInfo, lc), rel, map, outer, out);
}

List *
plan_decided_clauses(const PlanClauses *clauses, RelOptInfo *rel, const AmColumnMap *map)
{
	List *decided = NIL;
	ListCell *lc;

	foreach (lc, clauses->instance)
		if (plan_prune_decides(lfirst_node(RestrictInfo, lc)->clause, rel->relid, map))
			decided = lappend(decided, lfirst(lc));
	if (list_length(clauses->identity) == 1)
	{
		RestrictInfo *rinfo = linitial_node(RestrictInfo, clauses->identity);
		bool is_array;

		if (plan_key_value(rinfo->clause, rel->relid, map->attno[COL_IDENTITY] + 1, &is_array))
			decided = list_append_unique_ptr(decided, rinfo);
	}
	return decided;
}
