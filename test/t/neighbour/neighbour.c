/*
 * neighbour.c
 *    Another extension: hooks that count their calls, and paths that are cheaper than any other.
 *
 * Its nodes pass on what the path below returns. neighbour.paths = on: it offers such a path for each plain table and
 * for each aggregation.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "fmgr.h"
#include "nodes/extensible.h"
#include "nodes/pathnodes.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/planner.h"
#include "utils/builtins.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(neighbour_calls);
void _PG_init(void);

#define CHEAP 0.0001

static bool offers_paths = false;
static int64 of_tables = 0;
static int64 of_groups = 0;
static int64 of_starts = 0;
static int64 of_ends = 0;

static set_rel_pathlist_hook_type previous_tables = NULL;
static create_upper_paths_hook_type previous_groups = NULL;
static ExecutorStart_hook_type previous_start = NULL;
static ExecutorEnd_hook_type previous_end = NULL;

/* ---- a node that passes on ---------------------------------------------------------------------------------- */

static void
begin(CustomScanState *node, EState *estate, int eflags)
{
	node->custom_ps =
		list_make1(ExecInitNode(linitial(((CustomScan *) node->ss.ps.plan)->custom_plans), estate, eflags));
}

static TupleTableSlot *
next(CustomScanState *node)
{
	return ExecProcNode(linitial(node->custom_ps));
}

static void
end(CustomScanState *node)
{
	ExecEndNode(linitial(node->custom_ps));
}

static void
rescan(CustomScanState *node)
{
	PlanState *below = linitial(node->custom_ps);

	if (node->ss.ps.chgParam)
		UpdateChangedParamSet(below, node->ss.ps.chgParam);
	if (below->chgParam == NULL)
		ExecReScan(below);
}

static const CustomExecMethods exec_methods = {
	.CustomName = "Neighbour",
	.BeginCustomScan = begin,
	.ExecCustomScan = next,
	.EndCustomScan = end,
	.ReScanCustomScan = rescan,
};

static Node *
create_state(CustomScan *cscan)
{
	CustomScanState *state = palloc0(sizeof(CustomScanState));

	NodeSetTag(state, T_CustomScanState);
	state->methods = &exec_methods;
	return (Node *) state;
}

static const CustomScanMethods scan_methods = {
	.CustomName = "Neighbour",
	.CreateCustomScanState = create_state,
};

static Plan *
plan(PlannerInfo *root, RelOptInfo *rel, CustomPath *best_path, List *tlist, List *clauses, List *custom_plans)
{
	CustomScan *scan = makeNode(CustomScan);

	scan->scan.plan.targetlist = tlist;
	scan->custom_scan_tlist = copyObject(((Plan *) linitial(custom_plans))->targetlist);
	scan->custom_plans = custom_plans;
	scan->methods = &scan_methods;
	return &scan->scan.plan;
}

static const CustomPathMethods path_methods = {
	.CustomName = "Neighbour",
	.PlanCustomPath = plan,
};

static void
offer(RelOptInfo *rel, Path *below)
{
	CustomPath *path = makeNode(CustomPath);

	path->path.pathtype = T_CustomScan;
	path->path.parent = rel;
	path->path.pathtarget = below->pathtarget;
	path->path.param_info = below->param_info;
	path->path.rows = below->rows;
	path->path.total_cost = CHEAP;
	path->custom_paths = list_make1(below);
	path->methods = &path_methods;
	add_path(rel, (Path *) path);
}

/* A copy of an aggregation's path: the planner frees those that a cheaper one beats. NULL: another kind of path. */
static Path *
copy_of(const Path *path)
{
	Size size = IsA(path, AggPath) ? sizeof(AggPath) : IsA(path, CustomPath) ? sizeof(CustomPath) : 0;

	return size == 0 ? NULL : memcpy(palloc(size), path, size);
}

/* ---- hooks ---------------------------------------------------------------------------------------------------- */

static void
tables(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte)
{
	if (previous_tables)
		previous_tables(root, rel, rti, rte);
	of_tables++;
	if (offers_paths && rte->rtekind == RTE_RELATION && !rte->inh)
		offer(rel, create_seqscan_path(root, rel, rel->lateral_relids, 0));
}

static void
groups(PlannerInfo *root, UpperRelationKind stage, RelOptInfo *input_rel, RelOptInfo *output_rel, void *extra)
{
	if (previous_groups)
		previous_groups(root, stage, input_rel, output_rel, extra);
	if (stage != UPPERREL_GROUP_AGG)
		return;
	of_groups++;
	/* Perhaps of the extension before this one. */
	if (offers_paths && output_rel->pathlist && copy_of(linitial(output_rel->pathlist)))
		offer(output_rel, copy_of(linitial(output_rel->pathlist)));
}

static void
start(QueryDesc *queryDesc, int eflags)
{
	of_starts++;
	if (previous_start)
		previous_start(queryDesc, eflags);
	else
		standard_ExecutorStart(queryDesc, eflags);
}

static void
finish(QueryDesc *queryDesc)
{
	of_ends++;
	if (previous_end)
		previous_end(queryDesc);
	else
		standard_ExecutorEnd(queryDesc);
}

Datum
neighbour_calls(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(
		psprintf("tables %d groups %d starts %d ends %d", of_tables > 0, of_groups > 0, of_starts > 0, of_ends > 0)));
}

void
_PG_init(void)
{
	DefineCustomBoolVariable("neighbour.paths", "Offers paths.", NULL, &offers_paths, false, PGC_USERSET, 0, NULL, NULL,
							 NULL);
	RegisterCustomScanMethods(&scan_methods);
	previous_tables = set_rel_pathlist_hook;
	set_rel_pathlist_hook = tables;
	previous_groups = create_upper_paths_hook;
	create_upper_paths_hook = groups;
	previous_start = ExecutorStart_hook;
	ExecutorStart_hook = start;
	previous_end = ExecutorEnd_hook;
	ExecutorEnd_hook = finish;
}
