/*
 * order_paths.c
 *    Finds out whether a query orders by dimensions, and whether it needs but the first rows of each partition.
 */
#include "plan/order.h"

#include "catalog/pg_opfamily.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/paths.h"
#include "optimizer/restrictinfo.h"
#include "parser/parsetree.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/selfuncs.h"

#include "compat/compat.h"
#include "plan/clauses.h"
#include "plan/safety.h"

/* ---- the order ---------------------------------------------------------------------------------------------- */

/*
 * An expression over dimensions among those that the key's class says are equal. It is evaluated for instances of which
 * perhaps no row passes, so it must not fail, nor tell anybody what row security hides.
 */
static EquivalenceMember *
dimension_of_key(PlannerInfo *root, const PathKey *key, RelOptInfo *rel, const AmColumnMap *map)
{
	bool guarded = planner_rt_fetch(rel->relid, root)->securityQuals != NIL;
	ListCell *lc;

	if (key->pk_eclass->ec_has_volatile)
		return NULL;
	foreach (lc, key->pk_eclass->ec_members)
	{
		EquivalenceMember *em = lfirst(lc);
		Node *expr = (Node *) em->em_expr;

		if (em->em_is_const || em->em_is_child || !bms_equal(em->em_relids, rel->relids) ||
			!plan_is_about_dimensions(expr, rel->relid, map) || !plan_never_fails(expr) ||
			(guarded && contain_leaked_vars(expr)))
			continue;
		return em;
	}
	return NULL;
}

bool
plan_find_order(PlannerInfo *root, RelOptInfo *rel, const AmColumnMap *map, PlanOrder *order)
{
	ListCell *lc;

	memset(order, 0, sizeof(PlanOrder));
	foreach (lc, root->query_pathkeys)
	{
		PathKey *key = lfirst_node(PathKey, lc);
		EquivalenceMember *em = dimension_of_key(root, key, rel, map);
		Oid operator;

		if (em == NULL)
			break;
		operator= compat_pathkey_operator(key, em->em_datatype);
		if (!OidIsValid(operator))
			break;
		order->pathkeys = lappend(order->pathkeys, key);
		order->exprs = lappend(order->exprs, em->em_expr);
		order->operators = lappend_oid(order->operators, operator);
		order->collations = lappend_oid(order->collations, key->pk_eclass->ec_collation);
		order->nulls_first = lappend_int(order->nulls_first, key->pk_nulls_first);
	}
	return order->pathkeys != NIL;
}

/* ---- the first of each partition ---------------------------------------------------------------------------- */

/* Do the rows of the table, as its conditions leave them, go to the query's DISTINCT or window functions one by one? */
static bool
is_all_of_the_query(PlannerInfo *root, const RelOptInfo *rel)
{
	const Query *parse = root->parse;

	return bms_equal(root->all_baserels, rel->relids) && rel->reloptkind == RELOPT_BASEREL && rel->joininfo == NIL &&
		   bms_is_empty(rel->lateral_relids) && !parse->hasAggs && parse->groupClause == NIL &&
		   parse->groupingSets == NIL && parse->havingQual == NULL && !parse->hasTargetSRFs && parse->rowMarks == NIL &&
		   parse->setOperations == NULL && parse->commandType == CMD_SELECT &&
		   plan_is_repeatable((Node *) root->processed_tlist) &&
		   plan_is_repeatable((Node *) extract_actual_clauses(rel->baserestrictinfo, false));
}

/* Do the keys begin with these? */
static bool
begins_with(const List *keys, const List *first)
{
	ListCell *lc;
	int i = 0;

	if (list_length(first) > list_length(keys))
		return false;
	foreach (lc, first)
		if (list_nth(keys, i++) != lfirst(lc))
			return false;
	return true;
}

/* DISTINCT ON takes a row of each partition: any of those that come first by the whole order. */
static bool
find_distinct_on(PlannerInfo *root, PlanOrder *order)
{
	if (!begins_with(order->pathkeys, root->distinct_pathkeys))
		return false;
	order->n_partition = list_length(root->distinct_pathkeys);
	order->limit = 1;
	order->stop = list_length(order->pathkeys) == list_length(root->query_pathkeys) ? STOP_AT_ROWS : STOP_AT_PEERS;
	return true;
}

/* Of what a condition says of a function's value: at most this. False: nothing that is known. */
static bool
bound_of(Oid opno, bool function_on_left, const Node *arg, int64 *bound)
{
	const Const *value = (const Const *) arg;
	int strategy = get_op_opfamily_strategy(opno, INTEGER_BTREE_FAM_OID);

	if (!IsA(value, Const) || value->constisnull)
		return false;
	switch (value->consttype)
	{
	case INT2OID:
		*bound = DatumGetInt16(value->constvalue);
		break;
	case INT4OID:
		*bound = DatumGetInt32(value->constvalue);
		break;
	case INT8OID:
		*bound = DatumGetInt64(value->constvalue);
		break;
	default:
		return false;
	}
	if (strategy == (function_on_left ? BTLessStrategyNumber : BTGreaterStrategyNumber))
		*bound -= *bound > PG_INT64_MIN;
	else if (strategy != (function_on_left ? BTLessEqualStrategyNumber : BTGreaterEqualStrategyNumber))
		return false;
	return *bound >= 1 && *bound <= PG_INT16_MAX;
}

#if COMPAT_RUN_CONDITIONS_OF_FUNCTIONS
static bool
bound_of_function(const WindowClause *window, const WindowFunc *func, int64 *bound)
{
	ListCell *lc;

	foreach (lc, func->runCondition)
	{
		const WindowFuncRunCondition *condition = lfirst_node(WindowFuncRunCondition, lc);

		if (bound_of(condition->opno, condition->wfunc_left, (Node *) condition->arg, bound))
			return true;
	}
	return false;
}
#else
static bool
bound_of_function(const WindowClause *window, const WindowFunc *func, int64 *bound)
{
	ListCell *lc;

	foreach (lc, window->runCondition)
	{
		const OpExpr *condition = lfirst(lc);

		if (!IsA(condition, OpExpr) || list_length(condition->args) != 2)
			continue;
		if (equal(linitial(condition->args), func) && bound_of(condition->opno, true, lsecond(condition->args), bound))
			return true;
		if (equal(lsecond(condition->args), func) && bound_of(condition->opno, false, linitial(condition->args), bound))
			return true;
	}
	return false;
}
#endif

/* What a function's bound leaves of a partition. Later rows do not change the values of these functions for earlier
 * ones. */
static bool
stop_of_function(const WindowFunc *func, bool whole, PlanStop *stop)
{
	switch (func->winfnoid)
	{
	case F_ROW_NUMBER:
		*stop = whole ? STOP_AT_ROWS : STOP_AT_PEERS;
		return func->aggfilter == NULL;
	case F_RANK_:
		*stop = STOP_AT_PEERS;
		return func->aggfilter == NULL;
	case F_DENSE_RANK_:
		*stop = STOP_AT_GROUPS;
		return func->aggfilter == NULL;
	default:
		return false;
	}
}

/*
 * A query around this one keeps rows by a bounded rank alone, which the server has passed down as a run condition. All
 * window functions must be ranks of the same window, since others would miss the rows that are not read.
 */
static bool
find_ranks(PlannerInfo *root, PlanOrder *order)
{
	Query *parse = root->parse;
	WindowClause *window = NULL;
	bool found = false;
	bool all_rows = false;
	List *funcs;
	List *keys;
	ListCell *lc;

	funcs = pull_var_clause((Node *) root->processed_tlist,
							PVC_INCLUDE_WINDOWFUNCS | PVC_INCLUDE_AGGREGATES | PVC_INCLUDE_PLACEHOLDERS);
	foreach (lc, parse->windowClause)
		if (window == NULL || lfirst_node(WindowClause, lc)->winref == window->winref)
			window = lfirst_node(WindowClause, lc);
		else
			return false;
	if (window == NULL)
		return false;
	keys = make_pathkeys_for_sortclauses(root, list_concat_copy(window->partitionClause, window->orderClause),
										 root->processed_tlist);
	if (list_length(keys) != list_length(root->query_pathkeys) || !begins_with(root->query_pathkeys, keys))
		return false;
	keys = make_pathkeys_for_sortclauses(root, window->partitionClause, root->processed_tlist);
	if (!begins_with(order->pathkeys, keys))
		return false;
	order->n_partition = list_length(keys);
	foreach (lc, funcs)
	{
		WindowFunc *func = lfirst(lc);
		PlanStop stop;
		int64 bound;

		if (!IsA(func, WindowFunc))
			continue;
		if (!stop_of_function(func, list_length(order->pathkeys) == list_length(root->query_pathkeys), &stop))
			all_rows = true;
		else if (bound_of_function(window, func, &bound) && !found)
		{
			order->stop = stop;
			order->limit = (int) bound;
			found = true;
		}
	}
	return found && !all_rows;
}

bool
plan_find_stop(PlannerInfo *root, RelOptInfo *rel, PlanOrder *order)
{
	Query *parse = root->parse;

	if (!is_all_of_the_query(root, rel))
		return false;
	if (parse->hasDistinctOn && !parse->hasWindowFuncs)
		return find_distinct_on(root, order);
	if (parse->hasWindowFuncs && parse->distinctClause == NIL && parse->limitCount == NULL &&
		parse->limitOffset == NULL)
		return find_ranks(root, order);
	return false;
}

double
plan_partitions(PlannerInfo *root, const PlanOrder *order, const PlanEstimate *e)
{
	List *keys = list_copy_head(order->exprs, order->n_partition);

	if (keys == NIL)
		return 1;
	return Min(estimate_num_groups(root, keys, Max(e->instances, 1), NULL, NULL), Max(e->instances, 1));
}

List *
plan_order_private(const PlanOrder *order)
{
	return list_make4(order->operators, order->collations, order->nulls_first,
					  list_make3_int(order->n_partition, (int) order->stop, order->limit));
}
