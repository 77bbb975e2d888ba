/*
 * agg_plan.c
 *    Makes the aggregate node's plan of its path.
 */
#include "plan/agg.h"

#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/fmgroids.h"

static Plan *plan_aggregate(PlannerInfo *root, RelOptInfo *rel, CustomPath *best_path, List *tlist, List *clauses,
							List *custom_plans);

const CustomPathMethods agg_path_methods = {
	.CustomName = "CustomerSegmentationAggregate",
	.PlanCustomPath = plan_aggregate,
};

const CustomPathMethods agg_partial_path_methods = {
	.CustomName = "CustomerSegmentationPartialAggregate",
	.PlanCustomPath = plan_aggregate,
};

/* A group that is not finished. EXPLAIN shows it as what it is like. */
Expr *
agg_unfinished_group(void)
{
	Aggref *group = makeNode(Aggref);

	group->aggfnoid = F_COUNT_;
	group->aggtype = BYTEAOID;
	group->aggtranstype = INT8OID;
	group->aggstar = true;
	group->aggkind = AGGKIND_NORMAL;
	group->aggsplit = AGGSPLIT_INITIAL_SERIAL;
	group->aggno = -1;
	group->aggtransno = -1;
	group->location = -1;
	return (Expr *) group;
}

static void
append_target(List **tlist, Expr *expr)
{
	*tlist = lappend(*tlist, makeTargetEntry(copyObject(expr), (AttrNumber) (list_length(*tlist) + 1), NULL, false));
}

static void
append_targets(List **tlist, List *exprs)
{
	ListCell *lc;

	foreach (lc, exprs)
		append_target(tlist, lfirst(lc));
}

static void
append_hidden(List **tlist, List *exprs)
{
	ListCell *lc;

	foreach (lc, exprs)
		append_target(tlist, makeBoolExpr(AND_EXPR, list_make1(lfirst(lc)), -1));
}

static bool
exec_param_walker(Node *node, void *context)
{
	List **params = context;

	if (node == NULL)
		return false;
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXEC)
		*params = list_append_unique(*params, node);
	return expression_tree_walker(node, exec_param_walker, context);
}

static Node *
is_null(Expr *expr)
{
	NullTest *test = makeNode(NullTest);

	test->arg = expr;
	test->nulltesttype = IS_NULL;
	test->location = -1;
	return (Node *) test;
}

static Plan *
plan_aggregate(PlannerInfo *root, RelOptInfo *rel, CustomPath *best_path, List *tlist, List *clauses,
			   List *custom_plans)
{
	CustomScan *scan = makeNode(CustomScan);
	List *shown = linitial(best_path->custom_private);
	List *hidden = lsecond(best_path->custom_private);
	List *groups = lthird(best_path->custom_private);
	List *counts = NIL;
	List *targets = NIL;
	List *params = NIL;
	ListCell *lc;

	foreach (lc, shown)
	{
		append_targets(&targets, lfirst(lc));
		counts = lappend_int(counts, list_length(lfirst(lc)));
	}
	foreach (lc, hidden)
	{
		append_hidden(&targets, lfirst(lc));
		counts = lappend_int(counts, list_length(lfirst(lc)));
	}
	append_hidden(&targets, list_make1(is_null(llast(best_path->custom_private))));
	if (best_path->methods == &agg_partial_path_methods)
		append_target(&targets, agg_unfinished_group());
	/* The executor learns from custom_exprs, not from the targets, which parameters the node depends on. */
	exec_param_walker((Node *) targets, &params);
	scan->scan.plan.targetlist = tlist;
	scan->scan.plan.qual = list_nth(best_path->custom_private, 3);
	scan->scan.scanrelid = 0;
	scan->flags = best_path->flags;
	scan->custom_scan_tlist = targets;
	scan->custom_exprs = params;
	scan->custom_plans = custom_plans;
	scan->custom_private = list_make4(counts, linitial(groups), lsecond(groups), lthird(groups));
	scan->methods = best_path->methods == &agg_partial_path_methods ? &agg_partial_scan_methods : &agg_scan_methods;
	return &scan->scan.plan;
}
