/*
 * agg_paths.c
 *    Adds a path that answers a query's aggregates without rows, where it is covered entirely.
 *
 * The node takes the place of the aggregation and of the scan below it, so nothing is left that would check a clause
 * once more: every clause is handled exactly, or there is no path. The ordinary paths stay.
 */
#include "plan/agg.h"

#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/planner.h"
#include "optimizer/restrictinfo.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "compat/compat.h"

bool plan_enable_aggregate = true;

static create_upper_paths_hook_type previous_hook = NULL;

static Plan *plan_aggregate(PlannerInfo *root, RelOptInfo *rel, CustomPath *best_path, List *tlist, List *clauses,
							List *custom_plans);

static const CustomPathMethods path_methods = {
	.CustomName = "CustomerSegmentationAggregate",
	.PlanCustomPath = plan_aggregate,
};

/* What a query asks for, found to be covered. */
typedef struct AggQuery
{
	Index varno;
	const AmColumnMap *map;
	AttrNumber identity;
	List *keys;
	List *equal_ops;
	List *refs;      /* tleSortGroupRef of keys */
	List *calls;     /* Aggref */
	List *groupings; /* GroupingFunc */
	List *sets;      /* of the positions of keys; NIL: one of all */
	List *instance;
	List *measures;
	List *identities;
	List *having;
	bool cells;       /* totals don't do */
	double instances; /* about; < 0: unknown */
} AggQuery;

/* ---- is it covered? ------------------------------------------------------------------------------------------- */

static bool
take_keys(PlannerInfo *root, PathTarget *target, List *clauses, AggQuery *q)
{
	ListCell *lc;

	foreach (lc, clauses)
	{
		SortGroupClause *clause = lfirst_node(SortGroupClause, lc);
		Node *key = NULL;
		int i = 0;
		ListCell *lc2;

		foreach (lc2, target->exprs)
			if (get_pathtarget_sortgroupref(target, i++) == clause->tleSortGroupRef)
				key = lfirst(lc2);
		if (key == NULL || !clause->hashable || !agg_is_of_instance(key, q->varno, q->map) ||
			!am_collation_is_deterministic(exprCollation(key)))
			return false;
		q->keys = lappend(q->keys, key);
		q->equal_ops = lappend_oid(q->equal_ops, clause->eqop);
		q->refs = lappend_int(q->refs, (int) clause->tleSortGroupRef);
	}
	return true;
}

static bool
take_sets(PlannerInfo *root, AggQuery *q)
{
	Query *parse = root->parse;
	ListCell *lc;

	if (parse->groupingSets == NIL)
		return true;
	/* From 18 on, keys and what is computed from them are told apart by marks that this node doesn't make. */
	if (!COMPAT_PLAIN_GROUPING_SETS)
		return false;
	foreach (lc, parse->groupingSets) /* expanded by now */
	{
		List *set = NIL;
		ListCell *lc2;

		foreach (lc2, lfirst_node(List, lc))
		{
			int position = 0;
			ListCell *lc3;

			foreach (lc3, parse->groupClause)
			{
				if (lfirst_node(SortGroupClause, lc3)->tleSortGroupRef == (Index) lfirst_int(lc2))
					set = list_append_unique_int(set, position);
				position++;
			}
		}
		q->sets = lappend(q->sets, set);
	}
	return true;
}

typedef struct CoverWalk
{
	AggQuery *q;
	bool covered;
} CoverWalk;

/* Collects aggregates; finds what is computed neither from them nor from keys. */
static bool
cover_walker(Node *node, void *context)
{
	CoverWalk *walk = context;
	AggCall call;

	if (node == NULL)
		return false;
	if (list_member(walk->q->keys, node))
		return false;
	if (IsA(node, Aggref))
	{
		walk->covered &= agg_analyze((Aggref *) node, walk->q->varno, walk->q->map, &call);
		if (!walk->covered)
			return true;
		walk->q->calls = list_append_unique(walk->q->calls, node);
		walk->q->cells |= call.kind == AGG_DISTINCT_IDENTITY || call.filter_measures != NIL;
		return false;
	}
	if (IsA(node, GroupingFunc))
	{
		walk->q->groupings = list_append_unique(walk->q->groupings, node);
		return false;
	}
	if (IsA(node, Var) && ((Var *) node)->varlevelsup == 0)
	{
		walk->covered = false;
		return true;
	}
	return expression_tree_walker(node, cover_walker, context);
}

static bool
take_target(Node *exprs, AggQuery *q)
{
	CoverWalk walk = {q, true};

	if (contain_volatile_functions(exprs))
		return false;
	cover_walker(exprs, &walk);
	return walk.covered;
}

static bool
take_clause(RestrictInfo *rinfo, RelOptInfo *rel, bool secured, AggQuery *q)
{
	Node *clause = (Node *) rinfo->clause;
	bool is_array;

	if (!restriction_is_securely_promotable(rinfo, rel))
		return false;
	if (agg_is_of_instance(clause, q->varno, q->map))
	{
		q->instance = lappend(q->instance, clause);
		return true;
	}
	/* Expressions of the query see an instance if any of its rows passes: with row security, they all must. */
	if (secured)
		return false;
	q->cells = true;
	if (plan_key_value(rinfo->clause, q->varno, q->identity, &is_array))
	{
		q->identities = lappend(q->identities, clause);
		return true;
	}
	q->measures = lappend(q->measures, clause);
	return agg_is_condition(clause, q->varno, q->map);
}

static bool
take_clauses(PlannerInfo *root, RelOptInfo *rel, AggQuery *q)
{
	RangeTblEntry *rte = planner_rt_fetch(rel->relid, root);
	ListCell *lc;

	foreach (lc, rel->baserestrictinfo)
		if (!take_clause(lfirst_node(RestrictInfo, lc), rel, rte->securityQuals != NIL, q))
			return false;
	return true;
}

/* A plain reading of one of our tables, of all that the input is made of. */
static bool
is_plain_input(PlannerInfo *root, RelOptInfo *input)
{
	RangeTblEntry *rte;

	if (input->reloptkind != RELOPT_BASEREL || input->rtekind != RTE_RELATION || IS_DUMMY_REL(input) ||
		root->parse->rowMarks || root->parse->hasTargetSRFs || input->joininfo || !bms_is_empty(input->lateral_relids))
		return false;
	rte = planner_rt_fetch(input->relid, root);
	return rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_RELATION && !rte->inh && rte->tablesample == NULL;
}

/* SELECT DISTINCT of dimensions: groups without aggregates. */
static bool
cover_distinct(PlannerInfo *root, RelOptInfo *input, PathTarget *target, AggQuery *q)
{
	Query *parse = root->parse;

	return parse->distinctClause && !parse->hasDistinctOn && !parse->hasAggs && !parse->hasWindowFuncs &&
		   parse->groupClause == NIL && parse->groupingSets == NIL && parse->havingQual == NULL &&
		   take_keys(root, target, parse->distinctClause, q) && take_target((Node *) target->exprs, q) &&
		   take_clauses(root, input, q);
}

static bool
cover_groups(PlannerInfo *root, RelOptInfo *input, PathTarget *target, AggQuery *q)
{
	Query *parse = root->parse;

	q->having = (List *) parse->havingQual;
	return take_keys(root, target, parse->groupClause, q) && take_sets(root, q) &&
		   take_target((Node *) target->exprs, q) && take_target((Node *) q->having, q) && take_clauses(root, input, q);
}

/* ---- costs ----------------------------------------------------------------------------------------------------------
 */

/* Adding a row up in the core, in units of cpu_operator_cost: most share a stretch of slots with others. */
#define OPERATIONS_PER_ROW 0.02
/* Evaluating what is the same for all rows of an instance, and finding its group, likewise. */
#define OPERATIONS_PER_INSTANCE 2
/* Where nothing is known of a table. */
#define INSTANCES_PER_PAGE 50

static double
groups_estimate(RelOptInfo *output)
{
	double rows = -1;
	ListCell *lc;

	foreach (lc, output->pathlist)
	{
		Path *path = lfirst(lc);

		if (rows < 0 || path->rows < rows)
			rows = path->rows;
	}
	return rows < 0 ? 1 : rows;
}

static void
cost_aggregate(PlannerInfo *root, RelOptInfo *input, RelOptInfo *output, CustomPath *path, const AggQuery *q)
{
	double pages = Max(input->pages, 1);
	double instances = q->instances < 0 ? INSTANCES_PER_PAGE * pages : q->instances;
	QualCost once;
	QualCost having;
	Cost startup = seq_page_cost * pages + cpu_operator_cost * OPERATIONS_PER_INSTANCE * instances;

	cost_qual_eval(&once, q->instance, root);
	startup += once.startup + once.per_tuple * instances;
	if (q->cells)
		startup += cpu_operator_cost * OPERATIONS_PER_ROW * clamp_row_est(input->tuples) *
				   clauselist_selectivity(root, q->instance, 0, JOIN_INNER, NULL) *
				   clauselist_selectivity(root, q->identities, 0, JOIN_INNER, NULL);
	cost_qual_eval(&having, q->having, root);
	path->path.rows = groups_estimate(output);
	path->path.startup_cost = startup + having.startup + path->path.pathtarget->cost.startup;
	path->path.total_cost = path->path.startup_cost + path->path.rows * (cpu_tuple_cost + having.per_tuple +
																		 path->path.pathtarget->cost.per_tuple);
}

/* ---- path and plan
 * ----------------------------------------------------------------------------------------------------- */

static void
add_aggregate_path(PlannerInfo *root, RelOptInfo *input, RelOptInfo *output, PathTarget *target, const AggQuery *q)
{
	CustomPath *path = makeNode(CustomPath);

	path->path.pathtype = T_CustomScan;
	path->path.parent = output;
	path->path.pathtarget = target;
	path->path.parallel_safe = output->consider_parallel;
	path->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	path->custom_private =
		list_make5(list_make3(q->keys, q->calls, q->groupings), list_make3(q->instance, q->measures, q->identities),
				   list_make3(q->equal_ops, q->sets, q->refs), q->having,
				   makeVar(q->varno, q->identity, TEXTOID, -1, DEFAULT_COLLATION_OID, 0));
	path->methods = &path_methods;
	cost_aggregate(root, input, output, path, q);
	add_path(output, (Path *) path);
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
	/* The executor learns from custom_exprs, not from the targets, which parameters the node depends on. */
	exec_param_walker((Node *) targets, &params);
	scan->scan.plan.targetlist = tlist;
	scan->scan.plan.qual = list_nth(best_path->custom_private, 3);
	scan->scan.scanrelid = 0;
	scan->flags = best_path->flags;
	scan->custom_scan_tlist = targets;
	scan->custom_exprs = params;
	scan->custom_private = list_make4(counts, linitial(groups), lsecond(groups), lthird(groups));
	scan->methods = &agg_scan_methods;
	return &scan->scan.plan;
}

/* ---- hook
 * -------------------------------------------------------------------------------------------------------------- */

static void
consider_aggregate(PlannerInfo *root, RelOptInfo *input, RelOptInfo *output, PathTarget *target,
				   bool (*cover)(PlannerInfo *, RelOptInfo *, PathTarget *, AggQuery *))
{
	RangeTblEntry *rte = planner_rt_fetch(input->relid, root);
	Relation relation = table_open(rte->relid, NoLock);
	AggQuery q = {.varno = input->relid};

	if (am_is_ours(relation))
	{
		const AmSummary *summary = am_summary(relation);

		q.map = am_copy_relation_map(relation);
		q.identity = q.map->attno[COL_IDENTITY] + 1;
		q.instances = summary ? summary->instances : -1;
		if (cover(root, input, target, &q))
			add_aggregate_path(root, input, output, target, &q);
	}
	table_close(relation, NoLock);
}

static void
create_upper_paths(PlannerInfo *root, UpperRelationKind stage, RelOptInfo *input_rel, RelOptInfo *output_rel,
				   void *extra)
{
	if (previous_hook)
		previous_hook(root, stage, input_rel, output_rel, extra);
	if (!plan_enable_aggregate || (stage != UPPERREL_GROUP_AGG && stage != UPPERREL_DISTINCT) ||
		!is_plain_input(root, input_rel))
		return;
	if (stage == UPPERREL_GROUP_AGG)
		consider_aggregate(root, input_rel, output_rel, output_rel->reltarget, cover_groups);
	else
		consider_aggregate(root, input_rel, output_rel, root->upper_targets[UPPERREL_DISTINCT], cover_distinct);
}

void
plan_aggregate_init(void)
{
	RegisterCustomScanMethods(&agg_scan_methods);
	previous_hook = create_upper_paths_hook;
	create_upper_paths_hook = create_upper_paths;
}
