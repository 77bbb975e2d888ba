/*
 * scan.c
 *    The custom scan node: a scan of the access method that skips instances and customers, and the columns that nobody
 *    asks for.
 *
 * A clause that is decided by choosing instances and customers is tried again only for a row that came another way,
 * after a concurrent change; all others stay in the plan's own filter. What leaks stays behind what is not to be leaked
 * (clauses.h). Nothing that was read from the table at plan time is in the plan.
 */
#include "plan/plan.h"

#include "access/parallel.h"
#include "access/relscan.h"
#include "access/sysattr.h"
#include "access/tableam.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/restrictinfo.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"

#include "am/am.h"
#include "compat/compat.h"
#include "plan/explain.h"
#include "plan/keys.h"
#include "plan/prune.h"

/* What the processes of a parallel scan share: this, then the table's own, then a count for each process. */
typedef struct SharedScan
{
	Size scan_offset;
	Size stats_offset;
	int n_stats; /* the leader's is the first */
} SharedScan;

typedef struct SegmentScanState
{
	CustomScanState css;
	TableScanDesc scan;
	uint32 columns;
	List *instance_clauses;
	List *identity_clauses;
	PlanPruner *pruner;
	PlanKeys *segments;
	PlanKeys *instances;
	PlanKeys *identities;
	ExprState *recheck;
	List *order_exprs;
	PlanOrderState *order; /* or NULL */
	bool ordered;          /* since instances, or what they are ordered by, changed last */
	bool counted;
	Bitmapset *instance_params; /* parameters that clauses about instances depend on */
	Bitmapset *order_params;    /* and the order */
	bool filtered;
	bool new_instances; /* such a parameter has changed since the filter was set */
	AmColumnMap *map;
	MemoryContext filter_cxt;
	SharedScan *shared;
	AmScanStats stats; /* of this process; at the end, of all of them */
} SegmentScanState;

/* ---- plan -------------------------------------------------------------------------------------------------------- */

static Plan *plan_scan(PlannerInfo *root, RelOptInfo *rel, CustomPath *best_path, List *tlist, List *clauses,
					   List *custom_plans);
static List *reparameterize(PlannerInfo *root, List *custom_private, RelOptInfo *child_rel);
static Node *create_state(CustomScan *cscan);

const CustomPathMethods plan_scan_path_methods = {
	.CustomName = "CustomerSegmentationScan",
	.PlanCustomPath = plan_scan,
	.ReparameterizeCustomPathByChild = reparameterize,
};

static const CustomScanMethods scan_methods = {
	.CustomName = "CustomerSegmentationScan",
	.CreateCustomScanState = create_state,
};

List *
plan_scan_private(const PlanClauses *clauses, List *decided, uint32 columns, bool counted, const PlanOrder *order)
{
	List *private = list_make4(clauses->instance, clauses->identity, decided, list_make2_int((int) columns, counted));

	return order ? lappend(lappend(private, order->exprs), plan_order_private(order)) : private;
}

static Plan *
plan_scan(PlannerInfo *root, RelOptInfo *rel, CustomPath *best_path, List *tlist, List *clauses, List *custom_plans)
{
	CustomScan *scan = makeNode(CustomScan);
	List *instance = extract_actual_clauses(linitial(best_path->custom_private), false);
	List *identity = extract_actual_clauses(lsecond(best_path->custom_private), false);

	scan->scan.plan.targetlist = tlist;
	scan->scan.plan.qual =
		extract_actual_clauses(list_difference_ptr(clauses, lthird(best_path->custom_private)), false);
	scan->scan.scanrelid = rel->relid;
	scan->flags = best_path->flags;
	scan->custom_private =
		list_make2(list_make2_int(list_length(instance), list_length(identity)), lfourth(best_path->custom_private));
	scan->custom_exprs = list_concat(instance, identity);
	if (list_length(best_path->custom_private) > 4)
	{
		scan->custom_exprs = list_concat(scan->custom_exprs, list_nth(best_path->custom_private, 4));
		scan->custom_private = lappend(scan->custom_private, list_nth(best_path->custom_private, 5));
	}
	scan->methods = &scan_methods;
	return &scan->scan.plan;
}

/* A partitionwise join takes the path of a partition for parameters of another's partition. The clauses are then others
 * than those that come when the plan is made: all of these stay in its filter. */
static List *
reparameterize(PlannerInfo *root, List *custom_private, RelOptInfo *child_rel)
{
	return list_make4(compat_adjust_clauses(root, linitial(custom_private), child_rel),
					  compat_adjust_clauses(root, lsecond(custom_private), child_rel), lthird(custom_private),
					  lfourth(custom_private));
}

/* ---- execution --------------------------------------------------------------------------------------------------- */

static void begin_scan(CustomScanState *node, EState *estate, int eflags);
static TupleTableSlot *exec_scan(CustomScanState *node);
static void end_scan(CustomScanState *node);
static void rescan(CustomScanState *node);
static Size estimate_shared(CustomScanState *node, ParallelContext *pcxt);
static void initialize_shared(CustomScanState *node, ParallelContext *pcxt, void *coordinate);
static void reinitialize_shared(CustomScanState *node, ParallelContext *pcxt, void *coordinate);
static void initialize_worker(CustomScanState *node, shm_toc *toc, void *coordinate);
static void shutdown_scan(CustomScanState *node);
static void explain_scan(CustomScanState *node, List *ancestors, ExplainState *es);

static const CustomExecMethods exec_methods = {
	.CustomName = "CustomerSegmentationScan",
	.BeginCustomScan = begin_scan,
	.ExecCustomScan = exec_scan,
	.EndCustomScan = end_scan,
	.ReScanCustomScan = rescan,
	.EstimateDSMCustomScan = estimate_shared,
	.InitializeDSMCustomScan = initialize_shared,
	.ReInitializeDSMCustomScan = reinitialize_shared,
	.InitializeWorkerCustomScan = initialize_worker,
	.ShutdownCustomScan = shutdown_scan,
	.ExplainCustomScan = explain_scan,
};

static Node *
create_state(CustomScan *cscan)
{
	SegmentScanState *state = palloc0(sizeof(SegmentScanState));

	NodeSetTag(state, T_CustomScanState);
	state->css.methods = &exec_methods;
	compat_set_slot_ops(&state->css, &am_slot_ops);
	return (Node *) state;
}

static void
init_clauses(SegmentScanState *state, CustomScan *cscan, EState *estate)
{
	PlanState *ps = &state->css.ss.ps;
	Relation rel = state->css.ss.ss_currentRelation;
	Index varno = cscan->scan.scanrelid;
	int n = linitial_int(linitial(cscan->custom_private));
	int n_clauses = n + lsecond_int(linitial(cscan->custom_private));
	const int16 *attno = state->map->attno;
	List *clauses = list_copy_head(cscan->custom_exprs, n_clauses);

	state->columns = (uint32) linitial_int(lsecond(cscan->custom_private));
	state->counted = lsecond_int(lsecond(cscan->custom_private)) != 0;
	state->order_exprs = list_copy_tail(cscan->custom_exprs, n_clauses);
	state->instance_clauses = list_copy_head(clauses, n);
	state->identity_clauses = list_copy_tail(clauses, n);
	state->recheck = ExecInitQual(clauses, ps);
	state->instance_params = pull_paramids((Expr *) state->instance_clauses);
	state->order_params = pull_paramids((Expr *) state->order_exprs);
	state->pruner =
		plan_pruner_new(state->instance_clauses, varno, state->map, ps,
						ExecInitExtraTupleSlot(estate, RelationGetDescr(rel), &am_slot_ops), ps->ps_ExprContext);
	state->segments = plan_keys_new(state->instance_clauses, varno, attno[COL_SEGMENT_ID] + 1, ps);
	state->instances = plan_keys_new(state->instance_clauses, varno, attno[COL_INSTANCE_ID] + 1, ps);
	state->identities = plan_keys_new(state->identity_clauses, varno, attno[COL_IDENTITY] + 1, ps);
}

static void
begin_scan(CustomScanState *node, EState *estate, int eflags)
{
	SegmentScanState *state = (SegmentScanState *) node;
	CustomScan *cscan = (CustomScan *) node->ss.ps.plan;
	Relation rel = node->ss.ss_currentRelation;

	/* Before 16 a custom scan's slot is virtual: take one that the access method can fill as it is asked. */
	compat_use_table_slot(node, rel, estate);
	state->map = am_copy_relation_map(rel);
	init_clauses(state, cscan, estate);
	if (list_length(cscan->custom_private) > 2)
		state->order = plan_order_begin(lthird(cscan->custom_private), state->order_exprs, state->map, &node->ss.ps,
										ExecInitExtraTupleSlot(estate, RelationGetDescr(rel), &am_slot_ops));
	state->filter_cxt =
		AllocSetContextCreate(estate->es_query_cxt, "customer_segmentation filter values", ALLOCSET_SMALL_SIZES);
}

static bool
group_passes(void *arg, const StoreGroup *group)
{
	return plan_prune_group_passes(((SegmentScanState *) arg)->pruner, group);
}

static bool
instance_passes(void *arg, const StoreInstance *inst)
{
	return plan_prune_instance_passes(((SegmentScanState *) arg)->pruner, inst);
}

static void
set_filter(SegmentScanState *state)
{
	ExprContext *econtext = state->css.ss.ps.ps_ExprContext;
	AmFilter filter = {.arg = state};
	MemoryContext old;

	MemoryContextReset(state->filter_cxt);
	old = MemoryContextSwitchTo(state->filter_cxt);
	plan_keys_evaluate(state->segments, econtext, &filter.segments);
	plan_keys_evaluate(state->instances, econtext, &filter.instances);
	plan_keys_evaluate(state->identities, econtext, &filter.identities);
	if (!plan_pruner_is_empty(state->pruner))
	{
		filter.group = group_passes;
		filter.instance = instance_passes;
		filter.needs_totals = plan_pruner_needs_totals(state->pruner);
	}
	filter.same_instances = !state->new_instances;
	MemoryContextSwitchTo(old);
	am_scan_set_filter(state->scan, &filter);
	if (state->order && filter.same_instances && state->ordered)
		plan_order_restart(state->order, state->scan, state->counted);
	else if (state->order)
		state->ordered = plan_order_start(state->order, state->scan, state->counted);
	state->filtered = true;
	state->new_instances = false;
}

static void
start_scan(SegmentScanState *state, ParallelTableScanDesc shared)
{
	Relation rel = state->css.ss.ss_currentRelation;

	state->scan = shared ? table_beginscan_parallel(rel, shared)
						 : table_beginscan(rel, state->css.ss.ps.state->es_snapshot, 0, NULL);
	am_scan_set_columns(state->scan, state->columns);
	am_scan_count_into(state->scan, &state->stats);
	if (state->order)
		am_scan_in_order(state->scan);
}

static TupleTableSlot *
next_row(ScanState *node)
{
	SegmentScanState *state = (SegmentScanState *) node;

	if (state->scan == NULL)
		start_scan(state, NULL);
	if (!state->filtered)
		set_filter(state);
	if (!table_scan_getnextslot(state->scan, node->ps.state->es_direction, node->ss_ScanTupleSlot))
		return NULL;
	return node->ss_ScanTupleSlot;
}

/* A row's newest version, which was not found by the clauses that are not in the filter. */
static bool
recheck_row(ScanState *node, TupleTableSlot *slot)
{
	ExprContext *econtext = node->ps.ps_ExprContext;

	econtext->ecxt_scantuple = slot;
	return ExecQualAndReset(((SegmentScanState *) node)->recheck, econtext);
}

static TupleTableSlot *
exec_scan(CustomScanState *node)
{
	SegmentScanState *state = (SegmentScanState *) node;
	TupleTableSlot *slot = ExecScan(&node->ss, next_row, recheck_row);

	if (state->order && !TupIsNull(slot) && node->ss.ps.state->es_epq_active == NULL)
		plan_order_passed(state->order, state->scan);
	return slot;
}

static void
end_scan(CustomScanState *node)
{
	SegmentScanState *state = (SegmentScanState *) node;

	if (state->scan)
		table_endscan(state->scan);
	state->scan = NULL;
}

static void
rescan(CustomScanState *node)
{
	SegmentScanState *state = (SegmentScanState *) node;

	state->new_instances |= bms_overlap(node->ss.ps.chgParam, state->instance_params);
	state->ordered &= !bms_overlap(node->ss.ps.chgParam, state->order_params);
	state->filtered = false;
	if (state->scan)
		table_rescan(state->scan, NULL);
	ExecScanReScan(&node->ss);
}

/* ---- in parallel ------------------------------------------------------------------------------------------------- */

static ParallelTableScanDesc
shared_scan(SharedScan *shared)
{
	return (ParallelTableScanDesc) ((char *) shared + shared->scan_offset);
}

static AmScanStats *
shared_stats(SharedScan *shared)
{
	return (AmScanStats *) ((char *) shared + shared->stats_offset);
}

static Size
stats_offset(CustomScanState *node)
{
	EState *estate = node->ss.ps.state;
	Size size = table_parallelscan_estimate(node->ss.ss_currentRelation, estate->es_snapshot);

	return MAXALIGN(add_size(MAXALIGN(sizeof(SharedScan)), size));
}

static Size
estimate_shared(CustomScanState *node, ParallelContext *pcxt)
{
	return add_size(stats_offset(node), mul_size(sizeof(AmScanStats), (Size) pcxt->nworkers + 1));
}

static void
initialize_shared(CustomScanState *node, ParallelContext *pcxt, void *coordinate)
{
	SegmentScanState *state = (SegmentScanState *) node;
	SharedScan *shared = coordinate;

	shared->scan_offset = MAXALIGN(sizeof(SharedScan));
	shared->stats_offset = stats_offset(node);
	shared->n_stats = pcxt->nworkers + 1;
	memset(shared_stats(shared), 0, sizeof(AmScanStats) * (Size) shared->n_stats);
	table_parallelscan_initialize(node->ss.ss_currentRelation, shared_scan(shared), node->ss.ps.state->es_snapshot);
	state->shared = shared;
	start_scan(state, shared_scan(shared));
}

static void
reinitialize_shared(CustomScanState *node, ParallelContext *pcxt, void *coordinate)
{
	table_parallelscan_reinitialize(node->ss.ss_currentRelation, shared_scan(coordinate));
}

static void
initialize_worker(CustomScanState *node, shm_toc *toc, void *coordinate)
{
	SegmentScanState *state = (SegmentScanState *) node;
	SharedScan *shared = coordinate;

	start_scan(state, shared_scan(shared));
	/* Where the leader finds it, whenever it looks. */
	if (ParallelWorkerNumber + 1 < shared->n_stats)
		am_scan_count_into(state->scan, &shared_stats(shared)[ParallelWorkerNumber + 1]);
}

/* The leader, before the shared memory goes. */
static void
shutdown_scan(CustomScanState *node)
{
	SegmentScanState *state = (SegmentScanState *) node;

	if (state->shared == NULL)
		return;
	for (int i = 1; i < state->shared->n_stats; i++)
		explain_add_stats(&state->stats, &shared_stats(state->shared)[i]);
	state->shared = NULL;
}

/* ---- EXPLAIN ----------------------------------------------------------------------------------------------------- */

static void
explain_scan(CustomScanState *node, List *ancestors, ExplainState *es)
{
	SegmentScanState *state = (SegmentScanState *) node;
	List *context = set_deparse_context_plan(es->deparse_cxt, node->ss.ps.plan, ancestors);

	explain_clauses("Instance Cond", state->instance_clauses, context, es);
	explain_clauses("Customer Cond", state->identity_clauses, context, es);
	if (state->order)
		explain_order(state->order, state->order_exprs, context, es);
	explain_columns(node->ss.ss_currentRelation, state->map, state->columns, es);
	if (es->analyze)
		explain_stats(&state->stats, es);
}

void
plan_register_scan(void)
{
	RegisterCustomScanMethods(&scan_methods);
}
