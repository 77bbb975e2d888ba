/*
 * scan.c
 *    The custom scan node: a scan of the access method with a filter on instances and customers.
 */
#include "plan/plan.h"

#include "access/relscan.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "commands/explain.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "optimizer/restrictinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"

#include "am/am.h"
#include "compat/compat.h"

typedef struct IdentityValue
{
	ExprState *expr;
	bool is_array;
} IdentityValue;

typedef struct SegmentScanState
{
	CustomScanState css;
	TableScanDesc scan;
	bool filtered;
	ExprState *instance_qual;
	TupleTableSlot *instance_slot;
	AmColumnMap *map;
	int n_identity;
	IdentityValue *identity;
	MemoryContext filter_cxt;
} SegmentScanState;

/* ---- plan
 * ------------------------------------------------------------------------------------------------------------- */

static Plan *plan_scan(PlannerInfo *root, RelOptInfo *rel, CustomPath *best_path, List *tlist, List *clauses,
					   List *custom_plans);
static Node *create_state(CustomScan *cscan);

const CustomPathMethods plan_scan_path_methods = {
	.CustomName = "CustomerSegmentationScan",
	.PlanCustomPath = plan_scan,
};

static const CustomScanMethods scan_methods = {
	.CustomName = "CustomerSegmentationScan",
	.CreateCustomScanState = create_state,
};

static Plan *
plan_scan(PlannerInfo *root, RelOptInfo *rel, CustomPath *best_path, List *tlist, List *clauses, List *custom_plans)
{
	CustomScan *scan = makeNode(CustomScan);
	List *instance = extract_actual_clauses(linitial(best_path->custom_private), false);
	List *identity = extract_actual_clauses(lsecond(best_path->custom_private), false);

	scan->scan.plan.targetlist = tlist;
	scan->scan.plan.qual = extract_actual_clauses(clauses, false);
	scan->scan.scanrelid = rel->relid;
	scan->flags = best_path->flags;
	scan->custom_exprs = list_concat(instance, identity);
	scan->custom_private = list_make1(makeInteger(list_length(linitial(best_path->custom_private))));
	scan->methods = &scan_methods;
	return &scan->scan.plan;
}

/* ---- execution
 * ---------------------------------------------------------------------------------------------------------- */

static void begin_scan(CustomScanState *node, EState *estate, int eflags);
static TupleTableSlot *exec_scan(CustomScanState *node);
static void end_scan(CustomScanState *node);
static void rescan(CustomScanState *node);
static void explain_scan(CustomScanState *node, List *ancestors, ExplainState *es);

static const CustomExecMethods exec_methods = {
	.CustomName = "CustomerSegmentationScan",
	.BeginCustomScan = begin_scan,
	.ExecCustomScan = exec_scan,
	.EndCustomScan = end_scan,
	.ReScanCustomScan = rescan,
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
init_clauses(SegmentScanState *state, CustomScan *cscan)
{
	int n_instance = intVal(linitial(cscan->custom_private));
	AttrNumber identity = state->map->attno[COL_IDENTITY] + 1;
	List *instance = NIL;
	int i = 0;
	ListCell *lc;

	state->identity = palloc0(sizeof(IdentityValue) * Max(list_length(cscan->custom_exprs), 1));
	foreach (lc, cscan->custom_exprs)
	{
		Expr *clause = lfirst(lc);
		Expr *value;

		if (i++ < n_instance)
		{
			instance = lappend(instance, clause);
			continue;
		}
		value =
			plan_identity_value(clause, cscan->scan.scanrelid, identity, &state->identity[state->n_identity].is_array);
		if (value == NULL)
			elog(ERROR, "customer_segmentation scan has an identity clause that is none");
		state->identity[state->n_identity++].expr = ExecInitExpr(value, &state->css.ss.ps);
	}
	state->instance_qual = ExecInitQual(instance, &state->css.ss.ps);
}

static void
begin_scan(CustomScanState *node, EState *estate, int eflags)
{
	SegmentScanState *state = (SegmentScanState *) node;
	Relation rel = node->ss.ss_currentRelation;

	/* Before 16 a custom scan's slot is virtual: take one that the access method can fill as it is asked. */
	compat_use_table_slot(node, rel, estate);
	state->map = am_copy_relation_map(rel);
	init_clauses(state, (CustomScan *) node->ss.ps.plan);
	state->instance_slot = ExecInitExtraTupleSlot(estate, RelationGetDescr(rel), &am_slot_ops);
	state->filter_cxt =
		AllocSetContextCreate(estate->es_query_cxt, "customer_segmentation filter values", ALLOCSET_SMALL_SIZES);
}

static void
put(TupleTableSlot *slot, int i, const text *t)
{
	slot->tts_isnull[i] = t == NULL;
	slot->tts_values[i] = PointerGetDatum(t);
}

/* Evaluates the clauses about dimensions on a row that has nothing else. */
static bool
instance_passes(void *arg, const StoreGroup *group, const StoreInstance *inst)
{
	SegmentScanState *state = arg;
	TupleTableSlot *slot = state->instance_slot;
	ExprContext *econtext = state->css.ss.ps.ps_ExprContext;
	const int16 *attno = state->map->attno;
	bool pass;

	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, sizeof(bool) * state->map->natts);
	put(slot, attno[COL_SCHEDULE], group->dims.schedule);
	put(slot, attno[COL_SEGMENT_BY], group->dims.segment_by);
	put(slot, attno[COL_SEGMENT_ID], group->dims.segment_id);
	put(slot, attno[COL_SEGMENT_NAME], group->dims.segment_name);
	put(slot, attno[COL_INSTANCE_ID], inst->dims.segment_instance_id);
	slot->tts_isnull[attno[COL_INSTANCE_DATE]] = false;
	slot->tts_values[attno[COL_INSTANCE_DATE]] = TimestampGetDatum(inst->dims.instance_created_date);
	slot->tts_isnull[attno[COL_SEGMENT_DATE]] = !group->dims.has_segment_created;
	slot->tts_values[attno[COL_SEGMENT_DATE]] = TimestampGetDatum(group->dims.segment_created_date);
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(state->css.ss.ss_currentRelation);
	econtext->ecxt_scantuple = slot;
	pass = ExecQual(state->instance_qual, econtext);
	ResetExprContext(econtext);
	return pass;
}

static void
add_identity(AmFilter *filter, int *cap, Datum value)
{
	if (filter->n_identities == *cap)
	{
		*cap = *cap ? *cap * 2 : 8;
		filter->identities =
			filter->identities ? repalloc(filter->identities, sizeof(text *) * *cap) : palloc(sizeof(text *) * *cap);
	}
	filter->identities[filter->n_identities++] = DatumGetTextPP(value);
}

static void
add_identities(AmFilter *filter, int *cap, const IdentityValue *v, Datum value)
{
	Datum *elements;
	bool *nulls;
	int n;

	if (!v->is_array)
	{
		add_identity(filter, cap, value);
		return;
	}
	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			add_identity(filter, cap, elements[i]);
}

/*
 * The first identity clause decides which customers are read: the others stay in the filter like all clauses do. One
 * whose value is NULL is true for nobody.
 */
static void
set_filter(SegmentScanState *state)
{
	ExprContext *econtext = state->css.ss.ps.ps_ExprContext;
	AmFilter filter = {.n_identities = -1, .arg = state};
	MemoryContext old;
	int cap = 0;

	MemoryContextReset(state->filter_cxt);
	old = MemoryContextSwitchTo(state->filter_cxt);
	if (state->instance_qual)
		filter.instance = instance_passes;
	for (int i = 0; i < state->n_identity; i++)
	{
		bool isnull;
		Datum value;

		value = ExecEvalExpr(state->identity[i].expr, econtext, &isnull);
		if (!isnull && i > 0)
			continue;
		filter.n_identities = 0;
		if (isnull)
			break;
		add_identities(&filter, &cap, &state->identity[i], value);
	}
	MemoryContextSwitchTo(old);
	am_scan_set_filter(state->scan, &filter);
	state->filtered = true;
}

static TupleTableSlot *
next_row(ScanState *node)
{
	SegmentScanState *state = (SegmentScanState *) node;
	EState *estate = node->ps.state;

	if (state->scan == NULL)
		state->scan = table_beginscan(node->ss_currentRelation, estate->es_snapshot, 0, NULL);
	if (!state->filtered)
		set_filter(state);
	if (!table_scan_getnextslot(state->scan, estate->es_direction, node->ss_ScanTupleSlot))
		return NULL;
	return node->ss_ScanTupleSlot;
}

/* All clauses are in the node's filter. */
static bool
recheck_row(ScanState *node, TupleTableSlot *slot)
{
	return true;
}

static TupleTableSlot *
exec_scan(CustomScanState *node)
{
	return ExecScan(&node->ss, next_row, recheck_row);
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

	if (state->scan)
		table_rescan(state->scan, NULL);
	state->filtered = false;
	ExecScanReScan(&node->ss);
}

/* ---- EXPLAIN
 * -------------------------------------------------------------------------------------------------------------- */

static void
explain_scan(CustomScanState *node, List *ancestors, ExplainState *es)
{
	SegmentScanState *state = (SegmentScanState *) node;
	CustomScan *cscan = (CustomScan *) node->ss.ps.plan;
	const AmScanStats *stats;
	List *context = set_deparse_context_plan(es->deparse_cxt, (Plan *) cscan, ancestors);
	List *shown = NIL;
	ListCell *lc;

	foreach (lc, cscan->custom_exprs)
		shown = lappend(shown, deparse_expression(lfirst(lc), context, es->verbose, false));
	ExplainPropertyList("Segment Quals", shown, es);
	if (!es->analyze || state->scan == NULL)
		return;
	stats = am_scan_stats(state->scan);
	ExplainPropertyInteger("Instances Read", NULL, stats->instances_read, es);
	ExplainPropertyInteger("Instances Skipped", NULL, stats->instances_skipped, es);
	ExplainPropertyInteger("Cells Read", NULL, stats->cells_read, es);
	ExplainPropertyInteger("Cells Skipped", NULL, stats->cells_skipped, es);
	ExplainPropertyInteger("Bytes Read", NULL, stats->bytes_read, es);
}

void
plan_register_scan(void)
{
	RegisterCustomScanMethods(&scan_methods);
}
