/*
 * agg_exec.c
 *    The aggregate node: reads totals and cells, and returns groups.
 *
 * What is the same for all rows of an instance (keys, arguments, filters about it) is evaluated by the executor, once
 * per instance, and only when the instance is known to have a row that passes. The rest comes from the instance's
 * totals or, where conditions on measures or customers are asked for or totals are no more than bounds, from the core,
 * which adds up cells. Cells are read container by container, so distinct customers of a group are counted in one
 * bitmap of a container.
 */
#include "plan/agg_state.h"

#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "commands/explain.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "port/pg_bitutils.h"
#include "storage/predicate.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/ruleutils.h"

#include "compat/compat.h"
#include "plan/explain.h"

static void prepare_cells(AggregateState *state);
static Node *create_state(CustomScan *cscan);
static void begin_aggregate(CustomScanState *node, EState *estate, int eflags);
static TupleTableSlot *exec_aggregate(CustomScanState *node);
static TupleTableSlot *exec_partial_aggregate(CustomScanState *node);
static void end_aggregate(CustomScanState *node);
static void rescan_aggregate(CustomScanState *node);

const CustomScanMethods agg_scan_methods = {
	.CustomName = "CustomerSegmentationAggregate",
	.CreateCustomScanState = create_state,
};

const CustomScanMethods agg_partial_scan_methods = {
	.CustomName = "CustomerSegmentationPartialAggregate",
	.CreateCustomScanState = create_state,
};

static const CustomExecMethods exec_methods = {
	.CustomName = "CustomerSegmentationAggregate",
	.BeginCustomScan = begin_aggregate,
	.ExecCustomScan = exec_aggregate,
	.EndCustomScan = end_aggregate,
	.ReScanCustomScan = rescan_aggregate,
	.ExplainCustomScan = agg_explain,
};

static const CustomExecMethods partial_exec_methods = {
	.CustomName = "CustomerSegmentationPartialAggregate",
	.BeginCustomScan = begin_aggregate,
	.ExecCustomScan = exec_partial_aggregate,
	.EndCustomScan = end_aggregate,
	.ReScanCustomScan = rescan_aggregate,
	.EstimateDSMCustomScan = agg_estimate_shared,
	.InitializeDSMCustomScan = agg_initialize_shared,
	.ReInitializeDSMCustomScan = agg_reinitialize_shared,
	.InitializeWorkerCustomScan = agg_initialize_worker,
	.ShutdownCustomScan = agg_shutdown,
	.ExplainCustomScan = agg_explain,
};

static Node *
create_state(CustomScan *cscan)
{
	AggregateState *state = palloc0(sizeof(AggregateState));

	NodeSetTag(state, T_CustomScanState);
	state->partial = cscan->methods == &agg_partial_scan_methods;
	state->css.methods = state->partial ? &partial_exec_methods : &exec_methods;
	return (Node *) state;
}

/* ---- begin --------------------------------------------------------------------------------------------------------
 */

Expr *
agg_target(const CustomScan *cscan, int i)
{
	return list_nth_node(TargetEntry, cscan->custom_scan_tlist, i)->expr;
}

Expr *
agg_hidden_target(const CustomScan *cscan, int i)
{
	return linitial(castNode(BoolExpr, agg_target(cscan, i))->args);
}

/* The targets of the layout. */
static int
n_targets(const AggLayout *l)
{
	return l->n_keys + l->n_calls + l->n_groupings + l->n_instance + l->n_measures + l->n_identity;
}

/* The n hidden expressions from *at on. */
static List *
take_hidden(const CustomScan *cscan, int *at, int n)
{
	List *list = NIL;

	for (int i = 0; i < n; i++)
		list = lappend(list, agg_hidden_target(cscan, (*at)++));
	return list;
}

static Index
scanned_varno(const CustomScan *cscan, const AggLayout *layout)
{
	NullTest *test = castNode(NullTest, agg_hidden_target(cscan, n_targets(layout)));

	return (Index) castNode(Var, test->arg)->varno;
}

static void
init_tests(AggregateState *state, CoreView *core, Index varno)
{
	List *clauses = core->clauses;
	ListCell *lc;

	if (state->by_row)
	{
		core->qual = ExecInitQual(clauses, &state->css.ss.ps);
		state->by_instance |= agg_reads_instance((Node *) clauses, varno, state->map);
		return;
	}
	foreach (lc, clauses)
		if (!agg_compile_condition(lfirst(lc), varno, state->map, &core->tests))
			elog(ERROR, "customer_segmentation aggregate has a condition that is none");
	if (list_length(clauses) > 1)
	{
		AggTest *all = palloc0(sizeof(AggTest));

		all->kind = CSEG_TEST_AND;
		all->n = list_length(clauses);
		core->tests = lappend(core->tests, all);
	}
	foreach (lc, core->tests)
	{
		AggTest *test = lfirst(lc);

		if (test->bound)
			test->state = ExecInitExpr(test->bound, &state->css.ss.ps);
		if (test->kind != CSEG_TEST_SLOTS)
			continue;
		test->n = state->n_leaves++;
		state->leaves = state->leaves ? repalloc(state->leaves, sizeof(ExprState *) * state->n_leaves)
									  : palloc(sizeof(ExprState *) * state->n_leaves);
		state->leaves[test->n] = ExecInitExpr(test->leaf, &state->css.ss.ps);
	}
}

static int
core_for(AggregateState *state, List *clauses, Index varno)
{
	CoreView *core;

	if (clauses == NIL)
		return 0;
	for (int i = 1; i < state->n_cores; i++)
		if (equal(state->cores[i].clauses, clauses))
			return i;
	core = &state->cores[state->n_cores];
	core->clauses = clauses;
	init_tests(state, core, varno);
	return state->n_cores++;
}

static int
view_for(AggregateState *state, const AggCall *call, Index varno)
{
	View *view;

	for (int i = 0; i < state->n_views; i++)
		if (equal(state->views[i].filter_instance, call->filter_instance) &&
			equal(state->views[i].filter_measures, call->filter_measures))
			return i;
	view = &state->views[state->n_views];
	view->filter_instance = call->filter_instance;
	view->filter_measures = call->filter_measures;
	view->instance = ExecInitQual(call->filter_instance, &state->css.ss.ps);
	view->core = core_for(state, call->filter_measures, varno);
	return state->n_views++;
}

static bool
uses_sum(AggKind kind)
{
	return kind == AGG_COUNT_MEASURE || kind == AGG_SUM || kind == AGG_AVG || kind == AGG_MIN || kind == AGG_MAX;
}

static int
value_for(AggregateState *state, Expr *expr, Index varno)
{
	RowValue *value;

	for (int i = 0; i < state->n_values; i++)
		if (equal(state->values[i].expr, expr))
			return i;
	value = &state->values[state->n_values];
	value->expr = expr;
	value->state = ExecInitExpr(expr, &state->css.ss.ps);
	value->type = exprType((Node *) expr);
	state->by_instance |= agg_reads_instance((Node *) expr, varno, state->map);
	return state->n_values++;
}

static int
sum_for(AggregateState *state, const Call *c, Index varno)
{
	CoreView *core = &state->cores[state->views[c->view].core];
	int measure = c->call.value ? CSEG_MEASURES + value_for(state, c->call.value, varno) : c->call.measure;
	uint8 bit = (uint8) (1 << c->call.measure);
	Sum *sum = NULL;
	int i;

	for (i = 0; i < state->n_sums; i++)
		if (state->sums[i].view == c->view && state->sums[i].measure == measure)
			break;
	sum = &state->sums[i];
	if (i == state->n_sums)
	{
		*sum = (Sum){.view = c->view, .measure = measure};
		state->n_sums++;
	}
	sum->sum |= c->call.kind == AGG_SUM || c->call.kind == AGG_AVG;
	sum->extremes |= c->call.kind == AGG_MIN || c->call.kind == AGG_MAX;
	if (state->by_row)
		return i;
	core->sums |= bit;
	if (sum->extremes)
		core->extremes |= bit;
	return i;
}

static void
init_call(AggregateState *state, Call *c, const Aggref *agg, Index varno)
{
	if (!agg_analyze(agg, varno, state->map, &c->call))
		elog(ERROR, "customer_segmentation aggregate has a call that it can't answer");
	c->view = view_for(state, &c->call, varno);
	c->sum = uses_sum(c->call.kind) ? sum_for(state, c, varno) : NO_INDEX;
	if (c->call.arg)
	{
		c->arg = ExecInitExpr(c->call.arg, &state->css.ss.ps);
		c->arg_type = exprType((Node *) c->call.arg);
		get_typlenbyval(c->arg_type, &c->typlen, &c->typbyval);
	}
	if (c->call.kind == AGG_PICK)
		fmgr_info(c->call.pick, &c->pick);
	if (c->call.kind == AGG_DISTINCT_ARG)
		c->distinct = agg_table_new(CurrentMemoryContext, 1, &c->call.equal, &c->call.collation, &c->arg_type,
									sizeof(AggEntry *));
	if (c->call.kind == AGG_DISTINCT_IDENTITY)
	{
		state->cores[state->views[c->view].core].members = true;
		state->distinct = true;
	}
}

/* What is kept of a group in one piece, behind the group itself. */
static Size
group_bytes(const AggregateState *state)
{
	return MAXALIGN(sizeof(AggGroup)) + sizeof(int64) * state->n_views + sizeof(AggSum) * state->n_sums +
		   (sizeof(Pick) + sizeof(int64) + sizeof(Members *) + sizeof(AggEntry *)) * state->layout.n_calls;
}

static void
init_keys(AggregateState *state, CustomScan *cscan)
{
	int n = state->layout.n_keys;
	Oid *equal = palloc(sizeof(Oid) * Max(n, 1));
	Oid *collations = palloc(sizeof(Oid) * Max(n, 1));
	Oid *types = palloc(sizeof(Oid) * Max(n, 1));
	List *ops = lsecond(cscan->custom_private);

	state->sets = lthird(cscan->custom_private);
	state->refs = lfourth(cscan->custom_private);
	state->n_sets = state->sets ? list_length(state->sets) : 1;
	state->keys = palloc(sizeof(ExprState *) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		Expr *key = agg_target(cscan, i);

		state->keys[i] = ExecInitExpr(key, &state->css.ss.ps);
		equal[i] = list_nth_oid(ops, i);
		collations[i] = exprCollation((Node *) key);
		types[i] = exprType((Node *) key);
	}
	state->groups = agg_table_new(CurrentMemoryContext, n, equal, collations, types, group_bytes(state));
}

static void
init_identity(AggregateState *state, List *clauses, Index varno)
{
	AttrNumber identity = state->map->attno[COL_IDENTITY] + 1;
	ListCell *lc;

	state->identity = palloc0(sizeof(IdentityValue) * Max(list_length(clauses), 1));
	foreach (lc, clauses)
	{
		IdentityValue *v = &state->identity[state->n_identity++];
		Expr *value = plan_key_value(lfirst(lc), varno, identity, &v->is_array);

		if (value == NULL)
			elog(ERROR, "customer_segmentation aggregate has an identity clause that is none");
		v->expr = ExecInitExpr(value, &state->css.ss.ps);
	}
}

static void
init_layout(AggregateState *state, CustomScan *cscan)
{
	List *counts = linitial(cscan->custom_private);
	AggLayout *l = &state->layout;

	l->n_keys = list_nth_int(counts, 0);
	l->n_calls = list_nth_int(counts, 1);
	l->n_groupings = list_nth_int(counts, 2);
	l->n_instance = list_nth_int(counts, 3);
	l->n_measures = list_nth_int(counts, 4);
	l->n_identity = list_nth_int(counts, 5);
}

/* Is there anything that neither totals nor the core can answer? */
static bool
needs_rows(AggregateState *state, CustomScan *cscan, Index varno)
{
	const AggLayout *l = &state->layout;
	int at = l->n_keys + l->n_calls + l->n_groupings + l->n_instance;
	ListCell *lc;

	for (int i = 0; i < l->n_calls; i++)
	{
		AggCall call;

		if (agg_analyze(castNode(Aggref, agg_target(cscan, l->n_keys + i)), varno, state->map, &call) && call.by_row)
			return true;
	}
	foreach (lc, take_hidden(cscan, &at, l->n_measures))
		if (!agg_is_condition(lfirst(lc), varno, state->map))
			return true;
	return false;
}

static void
init_instance_clauses(AggregateState *state, List *clauses, Index varno)
{
	PlanState *ps = &state->css.ss.ps;
	const int16 *attno = state->map->attno;
	List *of_group = NIL;
	List *of_instance = NIL;
	ListCell *lc;

	foreach (lc, clauses)
	{
		uint32 columns;

		plan_columns_of(lfirst(lc), varno, state->map, &columns);
		if (columns & PLAN_INSTANCE_COLUMNS)
			of_instance = lappend(of_instance, lfirst(lc));
		else
			of_group = lappend(of_group, lfirst(lc));
	}
	state->group_qual = ExecInitQual(of_group, ps);
	state->instance_qual = ExecInitQual(of_instance, ps);
	state->segment_keys = plan_keys_new(clauses, varno, attno[COL_SEGMENT_ID] + 1, ps);
	state->instance_keys = plan_keys_new(clauses, varno, attno[COL_INSTANCE_ID] + 1, ps);
}

static void
init_clauses(AggregateState *state, CustomScan *cscan, Index varno)
{
	const AggLayout *l = &state->layout;
	int at = l->n_keys + l->n_calls + l->n_groupings;

	init_instance_clauses(state, take_hidden(cscan, &at, l->n_instance), varno);
	state->cores[0].clauses = take_hidden(cscan, &at, l->n_measures);
	init_tests(state, &state->cores[0], varno);
	init_identity(state, take_hidden(cscan, &at, l->n_identity), varno);
	state->n_cores = 1;
	state->n_views = 1;
}

static void
begin_aggregate(CustomScanState *node, EState *estate, int eflags)
{
	AggregateState *state = (AggregateState *) node;
	CustomScan *cscan = (CustomScan *) node->ss.ps.plan;
	Index varno;
	int n_calls;

	init_layout(state, cscan);
	n_calls = state->layout.n_calls;
	varno = scanned_varno(cscan, &state->layout);
	state->rel = ExecOpenScanRelation(estate, varno, eflags);
	/* A node that merges may be about a partitioned table. */
	state->map = am_column_map(RelationGetDescr(state->rel));
	state->econtext = CreateExprContext(estate);
	state->instance_slot = ExecInitExtraTupleSlot(estate, RelationGetDescr(state->rel), &TTSOpsVirtual);
	state->views = palloc0(sizeof(View) * (n_calls + 1));
	state->cores = palloc0(sizeof(CoreView) * (n_calls + 1));
	state->sums = palloc0(sizeof(Sum) * Max(n_calls, 1));
	state->calls = palloc0(sizeof(Call) * Max(n_calls, 1));
	state->values = palloc0(sizeof(RowValue) * Max(n_calls, 1));
	state->by_row = needs_rows(state, cscan, varno);
	init_clauses(state, cscan, varno);
	for (int i = 0; i < n_calls; i++)
		init_call(state, &state->calls[i], castNode(Aggref, agg_target(cscan, state->layout.n_keys + i)), varno);
	init_keys(state, cscan);
	state->grouping_refs = palloc0(sizeof(List *) * Max(state->layout.n_groupings, 1));
	for (int i = 0; i < state->layout.n_groupings; i++)
		state->grouping_refs[i] = castNode(GroupingFunc, agg_target(cscan, state->layout.n_keys + n_calls + i))->refs;
	state->from_cells = state->layout.n_measures > 0 || state->n_identity > 0 || state->n_cores > 1 || state->by_row;
	state->run_cxt =
		AllocSetContextCreate(estate->es_query_cxt, "customer_segmentation aggregate", ALLOCSET_DEFAULT_SIZES);
	if (cscan->custom_plans)
		node->custom_ps = list_make1(ExecInitNode(linitial(cscan->custom_plans), estate, eflags));
}

/* ---- instances ----------------------------------------------------------------------------------------------------
 */

static void
put_text(TupleTableSlot *slot, int i, const text *t)
{
	slot->tts_isnull[i] = t == NULL;
	slot->tts_values[i] = PointerGetDatum(t);
}

ExprContext *
agg_show_instance(AggregateState *state, const StoreGroup *group, const StoreInstance *inst)
{
	TupleTableSlot *slot = state->instance_slot;
	const int16 *attno = state->map->attno;

	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, sizeof(bool) * state->map->natts);
	put_text(slot, attno[COL_SCHEDULE], group->dims.schedule);
	put_text(slot, attno[COL_SEGMENT_BY], group->dims.segment_by);
	put_text(slot, attno[COL_SEGMENT_ID], group->dims.segment_id);
	put_text(slot, attno[COL_SEGMENT_NAME], group->dims.segment_name);
	put_text(slot, attno[COL_INSTANCE_ID], inst->dims.segment_instance_id);
	slot->tts_isnull[attno[COL_INSTANCE_DATE]] = false;
	slot->tts_values[attno[COL_INSTANCE_DATE]] = TimestampGetDatum(inst->dims.instance_created_date);
	slot->tts_isnull[attno[COL_SEGMENT_DATE]] = !group->dims.has_segment_created;
	slot->tts_values[attno[COL_SEGMENT_DATE]] = TimestampGetDatum(group->dims.segment_created_date);
	ExecStoreVirtualTuple(slot);
	ResetExprContext(state->econtext);
	state->econtext->ecxt_scantuple = slot;
	return state->econtext;
}

static void *
carve(char **at, Size size)
{
	void *piece = *at;

	*at += size;
	return piece;
}

static void
init_group(AggregateState *state, AggEntry *entry)
{
	AggGroup *group = agg_payload(entry);
	char *at = (char *) group + MAXALIGN(sizeof(AggGroup));
	int n_calls = state->layout.n_calls;

	group->rows = carve(&at, sizeof(int64) * state->n_views);
	group->sums = carve(&at, sizeof(AggSum) * state->n_sums);
	group->picks = carve(&at, sizeof(Pick) * n_calls);
	group->counts = carve(&at, sizeof(int64) * n_calls);
	group->members = carve(&at, sizeof(Members *) * n_calls);
	group->values = carve(&at, sizeof(AggEntry *) * n_calls);
	group->number = state->groups->n_entries - 1;
}

AggEntry *
agg_find_group(AggregateState *state, int set, const Datum *keys, const bool *nulls)
{
	bool isnew;
	AggEntry *entry = agg_table_find(state->groups, set, keys, nulls, &isnew);

	if (isnew)
		init_group(state, entry);
	return entry;
}

static void
find_groups(AggregateState *state, InstanceInfo *info)
{
	int n = state->layout.n_keys;
	Datum *keys = palloc(sizeof(Datum) * Max(n, 1));
	bool *nulls = palloc(sizeof(bool) * Max(n, 1));
	bool *masked = palloc(sizeof(bool) * Max(n, 1));

	for (int i = 0; i < n; i++)
		keys[i] = ExecEvalExpr(state->keys[i], state->econtext, &nulls[i]);
	for (int set = 0; set < state->n_sets; set++)
	{
		List *positions = state->sets ? list_nth(state->sets, set) : NIL;

		for (int i = 0; i < n; i++)
			masked[i] = nulls[i] || (state->sets && !list_member_int(positions, i));
		info->groups[set] = agg_find_group(state, set, keys, masked);
	}
}

static void
evaluate_args(AggregateState *state, InstanceInfo *info)
{
	for (int i = 0; i < state->layout.n_calls; i++)
	{
		Call *c = &state->calls[i];
		Datum value;

		if (c->arg == NULL || !info->passes[c->view])
			continue;
		value = ExecEvalExpr(c->arg, state->econtext, &info->nulls[i]);
		if (!info->nulls[i])
		{
			MemoryContext old = MemoryContextSwitchTo(state->run_cxt);

			info->args[i] = datumCopy(value, c->typbyval, c->typlen);
			MemoryContextSwitchTo(old);
		}
	}
}

static InstanceInfo *
new_info(AggregateState *state)
{
	int n_calls = state->layout.n_calls;
	Size size = MAXALIGN(sizeof(InstanceInfo)) + sizeof(AggEntry *) * state->n_sets + sizeof(Datum) * n_calls +
				sizeof(bool) * (n_calls + state->n_views);
	InstanceInfo *info = MemoryContextAllocZero(state->kept_cxt, size);
	char *at = (char *) info + MAXALIGN(sizeof(InstanceInfo));

	info->groups = carve(&at, sizeof(AggEntry *) * state->n_sets);
	info->args = carve(&at, sizeof(Datum) * n_calls);
	info->nulls = carve(&at, sizeof(bool) * n_calls);
	info->passes = carve(&at, sizeof(bool) * state->n_views);
	return info;
}

InstanceInfo *
agg_instance_info(AggregateState *state, GroupRun *run, StoreGroup *group, int slot)
{
	InstanceInfo *info = run->infos[slot];
	MemoryContext old;
	ExprContext *econtext;

	if (info)
		return info;
	info = new_info(state);
	econtext = agg_show_instance(state, group, group->instance[slot]);
	old = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
	find_groups(state, info);
	for (int v = 0; v < state->n_views; v++)
		info->passes[v] = ExecQual(state->views[v].instance, econtext);
	MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
	evaluate_args(state, info);
	MemoryContextSwitchTo(old);
	run->infos[slot] = info;
	return info;
}

/* ---- adding up ------------------------------------------------------------------------------------------------------
 */

void
agg_pick_argument(AggregateState *state, Call *c, Pick *pick, Datum value)
{
	MemoryContext old;
	Datum chosen;

	if (pick->found)
	{
		old = MemoryContextSwitchTo(state->econtext->ecxt_per_tuple_memory);
		chosen = FunctionCall2Coll(&c->pick, c->call.collation, pick->value, value);
		MemoryContextSwitchTo(old);
		if (!c->typbyval && DatumGetPointer(chosen) == DatumGetPointer(pick->value))
			return;
	}
	else
		chosen = value;
	old = MemoryContextSwitchTo(state->run_cxt);
	pick->value = datumCopy(chosen, c->typbyval, c->typlen);
	pick->found = true;
	MemoryContextSwitchTo(old);
}

void
agg_note_distinct(AggregateState *state, int call, AggGroup *group, Datum value)
{
	MemoryContext old = MemoryContextSwitchTo(state->econtext->ecxt_per_tuple_memory);
	bool notnull = false;
	bool isnew;
	AggEntry *entry = agg_table_find(state->calls[call].distinct, group->number, &value, &notnull, &isnew);

	if (isnew)
	{
		*(AggEntry **) agg_payload(entry) = group->values[call];
		group->values[call] = entry;
		group->counts[call]++;
	}
	MemoryContextSwitchTo(old);
}

void
agg_add_rows(AggregateState *state, const InstanceInfo *info, AggGroup *group, int view, int64 rows)
{
	group->rows[view] += rows;
	for (int i = 0; i < state->layout.n_calls; i++)
	{
		Call *c = &state->calls[i];

		if (c->view != view || c->arg == NULL || info->nulls[i])
			continue;
		if (c->call.kind == AGG_COUNT_ARG)
			group->counts[i] += rows;
		else if (c->call.kind == AGG_PICK)
			agg_pick_argument(state, c, &group->picks[i], info->args[i]);
		else
			agg_note_distinct(state, i, group, info->args[i]);
	}
}

/* totals: by view of the core. */
static void
add_totals(AggregateState *state, const InstanceInfo *info, const CsegTotals *const *totals)
{
	for (int set = 0; set < state->n_sets; set++)
	{
		AggGroup *group = agg_payload(info->groups[set]);

		for (int v = 0; v < state->n_views; v++)
		{
			const CsegTotals *t = totals[state->views[v].core];

			if (info->passes[v] && t->rows != 0)
				agg_add_rows(state, info, group, v, t->rows);
		}
		for (int i = 0; i < state->n_sums; i++)
		{
			const Sum *sum = &state->sums[i];
			const CsegTotals *t = totals[state->views[sum->view].core];

			if (info->passes[sum->view] && t->rows != 0)
				agg_sum_add_totals(&group->sums[i], state->run_cxt, t->rows, &t->m[sum->measure]);
		}
	}
}

static void
add_row(AggregateState *state, const InstanceInfo *info, const CsegValue *values, const bool *hits)
{
	for (int set = 0; set < state->n_sets; set++)
	{
		AggGroup *group = agg_payload(info->groups[set]);

		for (int v = 0; v < state->n_views; v++)
			if (info->passes[v] && hits[state->views[v].core])
				agg_add_rows(state, info, group, v, 1);
		for (int i = 0; i < state->n_sums; i++)
		{
			const Sum *sum = &state->sums[i];

			if (info->passes[sum->view] && hits[state->views[sum->view].core])
				agg_sum_add_value(&group->sums[i], state->run_cxt, &values[sum->measure], 1);
		}
	}
}

/* ---- distinct customers
 * ----------------------------------------------------------------------------------------------- */

static uint64 *
member_bits(AggregateState *state, AggEntry *entry, int call)
{
	AggGroup *group = agg_payload(entry);
	Members *m = group->members[call];

	if (m)
		return m->bits;
	m = state->spare_members;
	if (m)
		state->spare_members = m->next;
	else
		m = MemoryContextAlloc(state->run_cxt, sizeof(Members));
	memset(m->bits, 0, sizeof(m->bits));
	m->group = entry;
	m->call = call;
	m->next = state->members;
	state->members = m;
	group->members[call] = m;
	return m->bits;
}

/* The container is done. */
static void
count_members(AggregateState *state)
{
	Members *m = state->members;

	while (m)
	{
		Members *next = m->next;
		AggGroup *group = agg_payload(m->group);

		group->counts[m->call] += (int64) pg_popcount((const char *) m->bits, sizeof(m->bits));
		group->members[m->call] = NULL;
		m->next = state->spare_members;
		state->spare_members = m;
		m = next;
	}
	state->members = NULL;
}

/* All slots of one group at a time: they are often all slots. */
static void
add_members_of_call(AggregateState *state, CsegCell *data, const CsegSift *sift, const GroupRun *run, uint64 slots,
					int call, int set)
{
	const Call *c = &state->calls[call];

	while (slots != 0)
	{
		AggEntry *entry = run->infos[pg_rightmost_one_pos64(slots)]->groups[set];
		uint64 same = 0;
		uint64 passing = 0;

		for (uint64 rest = slots; rest != 0; rest &= rest - 1)
		{
			int slot = pg_rightmost_one_pos64(rest);

			if (run->infos[slot]->groups[set] != entry)
				continue;
			same |= UINT64CONST(1) << slot;
			if (run->infos[slot]->passes[c->view])
				passing |= UINT64CONST(1) << slot;
		}
		if (passing != 0 && sift)
			CSEG_CALL(state->rel, cseg_sift_members(sift, (uint32) state->views[c->view].core, passing,
													member_bits(state, entry, call), &err));
		else if (passing != 0)
			CSEG_CALL(state->rel, cseg_cell_members(data, passing, member_bits(state, entry, call), &err));
		slots &= ~same;
	}
}

/* sift: that of the cell, NULL: all its rows count. */
static void
add_members(AggregateState *state, CsegCell *data, const CsegSift *sift, const GroupRun *run, uint64 slots)
{
	for (int i = 0; i < state->layout.n_calls; i++)
		if (state->calls[i].call.kind == AGG_DISTINCT_IDENTITY)
			for (int set = 0; set < state->n_sets; set++)
				add_members_of_call(state, data, sift, run, slots, i, set);
}

void
agg_add_member(AggregateState *state, const InstanceInfo *info, const bool *hits, uint16 low)
{
	for (int i = 0; i < state->layout.n_calls; i++)
	{
		const Call *c = &state->calls[i];

		if (c->call.kind != AGG_DISTINCT_IDENTITY || !info->passes[c->view] || !hits[state->views[c->view].core])
			continue;
		for (int set = 0; set < state->n_sets; set++)
			member_bits(state, info->groups[set], i)[low / 64] |= UINT64CONST(1) << (low % 64);
	}
}

/* ---- cells
 * -------------------------------------------------------------------------------------------------------------- */

/* The wanted customers of a container, as their low bits. */
static int
container_lows(AggregateState *state, uint32 container)
{
	uint32 from = container << CSEG_CONTAINER_BITS;
	int n = 0;

	for (int i = 0; i < state->n_ordinals; i++)
		if (state->ordinals[i] >= from && state->ordinals[i] - from < CSEG_CONTAINER_SIZE)
			state->lows[n++] = (uint16) (state->ordinals[i] - from);
	return n;
}

static CsegCell *
read_cell(AggregateState *state, StoreCell *cell, int n_lows)
{
	StoreSharedCell *shared;

	state->counts.stats.cells_read++;
	state->counts.stats.bytes_read += cell->base ? cell->base->body_len : 0;
	for (int i = 0; i < cell->n_deltas; i++)
		state->counts.stats.bytes_read += cell->deltas[i]->body_len;
	/* Pinned here: what the query evaluates meanwhile may read the table, too, and the reader's cells may change. */
	shared = state->by_customer ? store_share_customers(state->rel, cell, state->lows, n_lows)
								: store_share_cell(state->rel, cell);
	store_owner_set(state->cell_owner, shared);
	return store_shared_cell(shared);
}

static bool
is_wanted_low(AggregateState *state, int n_lows, uint16 low)
{
	if (!state->by_customer)
		return true;
	for (int i = 0; i < n_lows; i++)
		if (state->lows[i] == low)
			return true;
	return false;
}

/* What a row-by-row reading of a cell is for. */
typedef struct RowWork
{
	GroupRun *run;
	StoreCell *cell;
	int slot;
	int n_lows;
	bool with_members;
	bool *hits; /* by view of the core */
} RowWork;

static void
visit_row(AggregateState *state, RowWork *work, const CsegSlotView *rows, uint32 entry)
{
	uint16 low = rows->entry_low[entry];
	CsegValue values[CSEG_MEASURES];
	const InstanceInfo *info;

	for (int m = 0; m < CSEG_MEASURES; m++)
		values[m] = rows->value[m][entry];
	if (!is_wanted_low(state, work->n_lows, low))
		return;
	for (int c = 0; c < state->n_cores; c++)
	{
		work->hits[c] = agg_condition_row(&state->cores[c].condition, values, work->run->leaves, work->slot);
		if (!work->hits[0])
			return;
	}
	info = agg_instance_info(state, work->run, work->cell->group, work->slot);
	add_row(state, info, values, work->hits);
	if (work->with_members)
		agg_add_member(state, info, work->hits, low);
}

/* Row by row, since numbers are in the way that only PostgreSQL's own arithmetic knows. */
static void
add_cell_rows(AggregateState *state, RowWork *work, CsegCell *data, uint64 slots)
{
	CsegCursor *cursor;

	work->hits = palloc(sizeof(bool) * state->n_cores);
	CSEG_CALL(state->rel, cseg_cursor_new(&cursor, data, &err));
	store_owner_set(state->cursor_owner, cursor);
	for (uint64 rest = slots; rest != 0; rest &= rest - 1)
	{
		CsegSlotView rows;

		work->slot = pg_rightmost_one_pos64(rest);
		CSEG_CALL(state->rel, cseg_cursor_seek(cursor, (uint8_t) work->slot, 7, &rows, &err));
		for (uint32 i = 0; i < rows.n; i++)
		{
			MemoryContext old = MemoryContextSwitchTo(state->row_cxt);

			CHECK_FOR_INTERRUPTS();
			visit_row(state, work, &rows, rows.rows[i]);
			MemoryContextSwitchTo(old);
			MemoryContextReset(state->row_cxt);
		}
	}
	store_owner_set(state->cursor_owner, NULL);
}

/* The sums of totals that can't be added up in 128 bits are of no use. */
static bool
sums_are_known(AggregateState *state, const CsegTotals *const *totals, uint64 slots)
{
	for (uint64 rest = slots; rest != 0; rest &= rest - 1)
	{
		int slot = pg_rightmost_one_pos64(rest);

		for (int i = 0; i < state->n_sums; i++)
			if (totals[state->views[state->sums[i].view].core][slot].m[state->sums[i].measure].flags & CSEG_T_OVERFLOW)
				return false;
	}
	return true;
}

void
agg_check_instances(AggregateState *state, StoreCell *cell, uint64 slots)
{
	if (slots & ~cell->group->live_slots)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("relation \"%s\" holds rows of an instance that is missing",
							   RelationGetRelationName(state->rel)),
						errdetail("Cell %u.", cell->cell_no)));
}

/* Adds up rows of the given slots; counts their customers if asked to. */
static void
add_cell(AggregateState *state, GroupRun *run, StoreCell *cell, CsegCell *data, uint64 slots, int n_lows,
		 bool with_members)
{
	const CsegTotals **by_core = palloc(sizeof(void *) * state->n_cores);
	const CsegTotals **of_slot = palloc(sizeof(void *) * state->n_cores);
	uint64 present = 0;
	CsegSift *sift = state->sift;
	bool wide = true;

	if (slots == 0)
		return;
	if (sift)
		CSEG_CALL(state->rel, cseg_sift_cell(sift, data, slots, run->leaves, state->by_customer ? state->lows : NULL,
											 (uint32) n_lows, &wide, &err));
	for (int c = 0; c < state->n_cores && !wide; c++)
	{
		uint64 of_core;

		CSEG_CALL(state->rel, cseg_sift_totals(sift, (uint32) c, &by_core[c], &of_core, &err));
		present |= of_core;
	}
	if (wide || !sums_are_known(state, by_core, present))
	{
		RowWork work = {run, cell, 0, n_lows, with_members, NULL};

		add_cell_rows(state, &work, data, slots);
		return;
	}
	agg_check_instances(state, cell, present);
	for (uint64 rest = present; rest != 0; rest &= rest - 1)
	{
		int slot = pg_rightmost_one_pos64(rest);
		const InstanceInfo *info = agg_instance_info(state, run, cell->group, slot);

		for (int c = 0; c < state->n_cores; c++)
			of_slot[c] = &by_core[c][slot];
		add_totals(state, info, of_slot);
	}
	if (with_members)
		add_members(state, data, sift, run, present);
}

static int
by_container(const void *a, const void *b)
{
	const StoreCell *x = *(StoreCell *const *) a;
	const StoreCell *y = *(StoreCell *const *) b;

	if (x->container != y->container)
		return x->container < y->container ? -1 : 1;
	return x->cell_no < y->cell_no ? -1 : x->cell_no > y->cell_no;
}

/* Totals have answered the rest. */
static void
add_all_members(AggregateState *state, GroupRun *run, StoreCell *cell, CsegCell *data, uint64 slots)
{
	uint64 present;

	CSEG_CALL(state->rel, cseg_cell_slots(data, &present, &err));
	agg_check_instances(state, cell, present);
	present &= slots;
	for (uint64 rest = present; rest != 0; rest &= rest - 1)
		agg_instance_info(state, run, cell->group, pg_rightmost_one_pos64(rest));
	add_members(state, data, NULL, run, present);
}

static void
visit_cell(AggregateState *state, StoreCell *cell)
{
	GroupRun *run = state->runs[store_group_place(state->reader->view, cell->group)];
	uint64 sums = state->from_cells ? run->wanted : run->exact;
	uint64 members = state->distinct ? run->wanted : 0;
	int n_lows = 0;
	MemoryContext old;
	CsegCell *data;

	if (state->by_customer)
		n_lows = container_lows(state, cell->container);
	if ((sums == 0 && members == 0) || (state->by_customer && n_lows == 0))
	{
		state->counts.stats.cells_skipped += state->from_cells || state->distinct;
		return;
	}
	CHECK_FOR_INTERRUPTS();
	MemoryContextReset(state->cell_cxt);
	old = MemoryContextSwitchTo(state->cell_cxt);
	data = read_cell(state, cell, n_lows);
	if (state->by_row)
		agg_add_stretches(state, run, cell, data, sums, n_lows);
	else if (state->from_cells)
		add_cell(state, run, cell, data, sums, n_lows, state->distinct);
	else
	{
		add_cell(state, run, cell, data, sums, n_lows, false);
		if (state->distinct)
			add_all_members(state, run, cell, data, members);
	}
	MemoryContextSwitchTo(old);
	store_owner_set(state->cell_owner, NULL);
}

/* The cells of groups with wanted instances. */
static int
cells_to_visit(AggregateState *state, StoreCell **cells)
{
	const StoreView *view = state->reader->view;
	int n = 0;

	for (int g = 0; g < view->n_groups; g++)
	{
		if (state->runs[g] == NULL)
			continue;
		memcpy(cells + n, view->groups[g]->cells, sizeof(StoreCell *) * view->groups[g]->n_cells);
		n += view->groups[g]->n_cells;
	}
	return n;
}

/* In parallel each process reads cells, or where customers are counted containers, that no other reads. */
static void
visit_cells(AggregateState *state)
{
	const StoreView *view = state->reader->view;
	StoreCell **cells;
	uint32 taken;
	uint32 at = 0;
	int n;

	if (!state->reads_cells)
		return;
	prepare_cells(state);
	cells = MemoryContextAllocHuge(state->run_cxt, sizeof(StoreCell *) * Max(view->n_cells, 1));
	n = cells_to_visit(state, cells);
	if (state->leads && (state->from_cells || state->distinct))
		state->counts.stats.cells_skipped += view->n_cells - n;
	qsort(cells, n, sizeof(StoreCell *), by_container);
	taken = agg_take_next(state);
	for (int i = 0; i < n; i++)
	{
		bool new_container = i > 0 && cells[i]->container != cells[i - 1]->container;

		if (new_container)
			count_members(state);
		if (i > 0 && (new_container || !state->distinct))
			at++;
		if (at > taken)
			taken = agg_take_next(state);
		if (at == taken || state->shared == NULL)
			visit_cell(state, cells[i]);
	}
	count_members(state);
}

/* ---- totals
 * --------------------------------------------------------------------------------------------------------------- */

/* Do the totals of an instance say all that is asked for? */
static bool
totals_suffice(AggregateState *state, const CsegTotals *t)
{
	for (int i = 0; i < state->n_sums; i++)
	{
		const Sum *sum = &state->sums[i];
		const CsegMeasureTotals *m = &t->m[sum->measure];
		bool finite = t->rows - m->nulls - m->nans - m->pinfs - m->ninfs != 0;

		/* A wide number is counted; it would be missing in the sum and the extremes. */
		if (m->wides != 0)
			return false;
		if (sum->sum && finite && (m->flags & CSEG_T_OVERFLOW))
			return false;
		/* The scale of a sum is that of its rows; a bound of 0 leaves no other. */
		if (sum->sum && finite && (m->flags & CSEG_T_BOUNDS) && m->scale > 0)
			return false;
		if (sum->extremes && finite && (m->flags & CSEG_T_BOUNDS))
			return false;
	}
	return true;
}

static void
visit_totals(AggregateState *state, GroupRun *run, StoreGroup *group)
{
	for (uint64 rest = run->wanted; rest != 0; rest &= rest - 1)
	{
		int slot = pg_rightmost_one_pos64(rest);
		const CsegTotals *totals = group->instance[slot]->totals;

		if (!totals_suffice(state, totals))
		{
			run->exact |= UINT64CONST(1) << slot;
			state->reads_cells = true;
			continue;
		}
		if (!state->leads)
			continue;
		add_totals(state, agg_instance_info(state, run, group, slot), &totals);
		state->counts.from_totals++;
	}
}

/* ---- a run
 * ------------------------------------------------------------------------------------------------------------------ */

static void
evaluate_leaves(AggregateState *state, GroupRun *run, StoreGroup *group, int slot)
{
	uint64 bit = UINT64CONST(1) << slot;

	if (run->leaves == NULL)
		run->leaves = MemoryContextAllocZero(state->run_cxt, sizeof(CsegSlotLeaf) * state->n_leaves);
	for (int i = 0; i < state->n_leaves; i++)
	{
		bool isnull;
		bool value = DatumGetBool(ExecEvalExprSwitchContext(state->leaves[i], state->econtext, &isnull));

		if (isnull)
			continue;
		if (value)
			run->leaves[i].is_true |= bit;
		else
			run->leaves[i].is_false |= bit;
	}
}

static GroupRun *
run_of(AggregateState *state, int g)
{
	if (state->runs[g] == NULL)
		state->runs[g] = MemoryContextAllocZero(state->run_cxt, sizeof(GroupRun));
	return state->runs[g];
}

/*
 * The wanted ones among the given slots. An instance without rows is none: what is about the group is first evaluated
 * when there is one that has rows.
 */
static void
choose_slots(AggregateState *state, int g, uint64 slots)
{
	StoreGroup *group = state->reader->view->groups[g];
	bool first = true;

	CHECK_FOR_INTERRUPTS();
	for (uint64 rest = slots & group->live_slots; rest != 0; rest &= rest - 1)
	{
		int slot = pg_rightmost_one_pos64(rest);
		uint64 bit = UINT64CONST(1) << slot;

		if (group->instance[slot]->rows == 0 || (state->runs[g] && (state->runs[g]->wanted & bit)))
			continue;
		if (state->group_qual || state->instance_qual || state->n_leaves > 0)
		{
			ExprContext *econtext = agg_show_instance(state, group, group->instance[slot]);

			if (first && !ExecQual(state->group_qual, econtext))
				return;
			first = false;
			if (!ExecQual(state->instance_qual, econtext))
				continue;
		}
		if (state->n_leaves > 0)
			evaluate_leaves(state, run_of(state, g), group, slot);
		run_of(state, g)->wanted |= bit;
	}
}

/* Keys lead to instances or groups: the fewer the better. */
static void
choose_by_keys(AggregateState *state)
{
	StoreView *view = state->reader->view;
	AmKeys instances;
	AmKeys segments;
	int at;

	plan_keys_evaluate(state->instance_keys, state->econtext, &instances);
	plan_keys_evaluate(state->segment_keys, state->econtext, &segments);
	for (int i = 0; i < instances.n; i++)
	{
		StoreInstance *inst;

		at = -1;
		while ((inst = store_find_instance(view, instances.values[i], &at)) != NULL)
			choose_slots(state, store_group_place(view, inst->group), UINT64CONST(1) << inst->slot);
	}
	for (int i = 0; i < segments.n && instances.n < 0; i++)
	{
		StoreGroup *group;

		at = -1;
		while ((group = store_find_segment(view, segments.values[i], &at)) != NULL)
			choose_slots(state, store_group_place(view, group), ~UINT64CONST(0));
	}
	for (int g = 0; g < view->n_groups && instances.n < 0 && segments.n < 0; g++)
		choose_slots(state, g, ~UINT64CONST(0));
}

static void
choose_instances(AggregateState *state)
{
	StoreView *view = state->reader->view;
	int64 groups = 0;
	int64 instances = 0;

	choose_by_keys(state);
	for (int g = 0; g < view->n_groups; g++)
	{
		GroupRun *run = state->runs[g];

		if (run == NULL)
			continue;
		groups += run->wanted != 0;
		instances += pg_popcount64(run->wanted);
		if (!state->from_cells)
			visit_totals(state, run, view->groups[g]);
	}
	if (!state->leads)
		return;
	state->counts.stats.groups_read += groups;
	state->counts.stats.groups_skipped += view->n_groups - groups;
	state->counts.stats.instances_read += instances;
	state->counts.stats.instances_skipped += view->n_instances - instances;
}

static int
by_ordinal(const void *a, const void *b)
{
	uint32 x = *(const uint32 *) a;
	uint32 y = *(const uint32 *) b;

	return x < y ? -1 : x > y;
}

static void
append_ordinal(AggregateState *state, Datum identity, uint32 *ordinals, int *n)
{
	const text *t = DatumGetTextPP(identity);
	bool found;

	CSEG_CALL(state->rel, cseg_dict_find(state->reader->dict->dict, (const uint8_t *) VARDATA_ANY(t),
										 VARSIZE_ANY_EXHDR(t), &found, &ordinals[*n], &err));
	*n += found;
}

/* Sorted, each once. */
static uint32 *
ordinals_of(AggregateState *state, const IdentityValue *v, int *n)
{
	Datum *elements;
	bool *nulls;
	int n_elements = 1;
	int kept = 0;
	uint32 *ordinals;
	bool isnull;
	Datum value = ExecEvalExpr(v->expr, state->econtext, &isnull);

	*n = 0;
	if (isnull)
		return NULL;
	if (v->is_array)
		deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n_elements);
	ordinals = palloc(sizeof(uint32) * Max(n_elements, 1));
	for (int i = 0; i < n_elements; i++)
		if (!v->is_array || !nulls[i])
			append_ordinal(state, v->is_array ? elements[i] : value, ordinals, n);
	qsort(ordinals, *n, sizeof(uint32), by_ordinal);
	for (int i = 0; i < *n; i++)
		if (kept == 0 || ordinals[kept - 1] != ordinals[i])
			ordinals[kept++] = ordinals[i];
	*n = kept;
	return ordinals;
}

/* The customers that all clauses allow. */
static void
choose_customers(AggregateState *state)
{
	state->by_customer = state->n_identity > 0;
	for (int i = 0; i < state->n_identity; i++)
	{
		int n;
		uint32 *more = ordinals_of(state, &state->identity[i], &n);
		int kept = 0;

		if (i == 0)
		{
			state->ordinals = more;
			state->n_ordinals = n;
			continue;
		}
		for (int k = 0; k < state->n_ordinals; k++)
			if (n > 0 && bsearch(&state->ordinals[k], more, n, sizeof(uint32), by_ordinal))
				state->ordinals[kept++] = state->ordinals[k];
		state->n_ordinals = kept;
	}
	state->lows = palloc(sizeof(uint16) * Max(state->n_ordinals, 1));
}

static CsegSift *
new_sift(AggregateState *state)
{
	CsegSiftView *views = palloc0(sizeof(CsegSiftView) * state->n_cores);
	StoreOwner *owner = store_owner_new(state->run_cxt, cseg_sift_free);
	CsegSift *sift;

	for (int i = 0; i < state->n_cores; i++)
	{
		const CoreView *core = &state->cores[i];

		if (core->condition.wide)
			return NULL;
		views[i] = (CsegSiftView){.tests = core->condition.tests,
								  .n_tests = (uint32) core->condition.n,
								  .sums = core->sums,
								  .extremes = core->extremes,
								  .members = core->members && state->from_cells};
	}
	CSEG_CALL(state->rel, cseg_sift_new(&sift, views, (uint32) state->n_cores, (uint32) state->n_leaves, &err));
	store_owner_set(owner, sift);
	return sift;
}

static void
prepare_cells(AggregateState *state)
{
	state->sift = state->by_row ? NULL : new_sift(state);
	state->cell_cxt =
		AllocSetContextCreate(state->run_cxt, "customer_segmentation aggregate cell", ALLOCSET_DEFAULT_SIZES);
	state->row_cxt = AllocSetContextCreate(state->run_cxt, "customer_segmentation aggregate row", ALLOCSET_SMALL_SIZES);
	state->cell_owner = store_owner_new(state->run_cxt, store_unpin_cell);
	state->cursor_owner = store_owner_new(state->run_cxt, cseg_cursor_free);
}

static void
start_groups(AggregateState *state)
{
	Datum *keys = palloc0(sizeof(Datum) * Max(state->layout.n_keys, 1));
	bool *nulls = palloc(sizeof(bool) * Max(state->layout.n_keys, 1));

	state->kept_cxt =
		GenerationContextCreate(state->run_cxt, "customer_segmentation aggregate groups", ALLOCSET_DEFAULT_SIZES);
	agg_table_reset(state->groups, state->kept_cxt);
	for (int i = 0; i < state->layout.n_calls; i++)
		if (state->calls[i].distinct)
			agg_table_reset(state->calls[i].distinct, state->kept_cxt);
	/* Groups without keys are there even if no row is: who finishes the groups makes them. */
	if (state->partial)
		return;
	memset(nulls, true, sizeof(bool) * Max(state->layout.n_keys, 1));
	if (state->layout.n_keys == 0 && state->sets == NIL)
		agg_find_group(state, 0, keys, nulls);
	for (int set = 0; state->sets && set < state->n_sets; set++)
		if (list_nth(state->sets, set) == NIL)
			agg_find_group(state, set, keys, nulls);
}

static void
forget_run(AggregateState *state)
{
	MemoryContextReset(state->run_cxt);
	state->members = NULL;
	state->spare_members = NULL;
	state->sift = NULL;
	state->cell_cxt = NULL;
	state->kept_cxt = NULL;
	state->runs = NULL;
	state->reads_cells = state->from_cells || state->distinct;
	state->answer = NULL;
	state->ordinals = NULL;
	state->n_ordinals = 0;
	state->done = false;
	state->at = 0;
}

static void
prepare_run(AggregateState *state)
{
	for (int i = 0; i < state->n_cores; i++)
		agg_condition_init(&state->cores[i].condition, state->cores[i].tests, state->econtext);
	start_groups(state);
	choose_customers(state);
	state->runs = MemoryContextAllocZero(state->run_cxt, sizeof(GroupRun *) * Max(state->reader->view->n_groups, 1));
}

static void
run_aggregate(AggregateState *state)
{
	Snapshot snapshot = state->css.ss.ps.state->es_snapshot;
	MemoryContext old;

	forget_run(state);
	/* Of runs for one set of parameters after the other all are counted. */
	if (state->memo == NULL)
		memset(&state->counts, 0, sizeof(state->counts));
	agg_start_process(state);
	am_flush_before_read(state->rel, snapshot);
	PredicateLockRelation(state->rel, snapshot);
	state->reader = am_reader_acquire(state->rel, snapshot);
	old = MemoryContextSwitchTo(state->run_cxt);
	store_view_totals(state->rel, state->reader->view);
	ResetExprContext(state->econtext);
	prepare_run(state);
	choose_instances(state);
	visit_cells(state);
	MemoryContextSwitchTo(old);
	am_reader_release(state->reader);
	state->reader = NULL;
	agg_share_counts(state);
	state->done = true;
}

static void
merge_group(AggregateState *state, TupleTableSlot *slot)
{
	MemoryContext old;
	bytea *group;
	bool isnull;

	ResetExprContext(state->econtext);
	old = MemoryContextSwitchTo(state->econtext->ecxt_per_tuple_memory);
	group = DatumGetByteaPP(slot_getattr(slot, 1, &isnull));
	agg_unpack_group(state, VARDATA_ANY(group), VARSIZE_ANY_EXHDR(group));
	MemoryContextSwitchTo(old);
}

/* Of partitions, or of parallel processes. */
static void
merge_groups(AggregateState *state)
{
	PlanState *child = linitial(state->css.custom_ps);
	MemoryContext old;
	TupleTableSlot *slot;

	forget_run(state);
	ResetExprContext(state->econtext);
	old = MemoryContextSwitchTo(state->run_cxt);
	start_groups(state);
	/* The nodes below may keep what they allocate. */
	MemoryContextSwitchTo(old);
	for (slot = ExecProcNode(child); !TupIsNull(slot); slot = ExecProcNode(child))
	{
		CHECK_FOR_INTERRUPTS();
		merge_group(state, slot);
	}
	state->done = true;
}

/* ---- rows of the result
 * ---------------------------------------------------------------------------------------------------- */

static int32
grouping_value(AggregateState *state, const AggEntry *entry, List *refs)
{
	List *positions = state->sets ? list_nth(state->sets, entry->space) : NIL;
	int32 value = 0;
	ListCell *lc;

	foreach (lc, refs)
	{
		int position = 0;
		bool grouped = state->sets == NIL;
		ListCell *lc2;

		foreach (lc2, state->refs)
		{
			grouped |= lfirst_int(lc2) == lfirst_int(lc) && list_member_int(positions, position);
			position++;
		}
		value = value << 1 | !grouped;
	}
	return value;
}

static Datum
call_result(AggregateState *state, int i, AggGroup *group, bool *isnull)
{
	Call *c = &state->calls[i];

	*isnull = false;
	switch (c->call.kind)
	{
	case AGG_COUNT_ROWS:
		return Int64GetDatum(group->rows[c->view]);
	case AGG_COUNT_ARG:
	case AGG_DISTINCT_ARG:
	case AGG_DISTINCT_IDENTITY:
		return Int64GetDatum(group->counts[i]);
	case AGG_PICK:
		*isnull = !group->picks[i].found;
		return group->picks[i].value;
	default:
		return agg_sum_result(&group->sums[c->sum], &c->call, isnull);
	}
}

static void
store_group(AggregateState *state, AggEntry *entry, TupleTableSlot *slot)
{
	const AggLayout *l = &state->layout;
	int at = 0;

	ExecClearTuple(slot);
	for (int i = 0; i < l->n_keys; i++, at++)
	{
		slot->tts_values[at] = entry->keys[i];
		slot->tts_isnull[at] = entry->nulls[i];
	}
	for (int i = 0; i < l->n_calls; i++, at++)
		slot->tts_values[at] = call_result(state, i, agg_payload(entry), &slot->tts_isnull[at]);
	for (int i = 0; i < l->n_groupings; i++, at++)
	{
		slot->tts_values[at] = Int32GetDatum(grouping_value(state, entry, state->grouping_refs[i]));
		slot->tts_isnull[at] = false;
	}
	for (; at < slot->tts_tupleDescriptor->natts; at++)
		slot->tts_isnull[at] = true;
	ExecStoreVirtualTuple(slot);
}

/* For parameters that may come again. */
static void
keep_answer(AggregateState *state)
{
	const AggLayout *l = &state->layout;
	TupleTableSlot *slot = state->css.ss.ss_ScanTupleSlot;
	int n = state->groups->n_entries;
	AggAnswer *answer = agg_memo_add(state->memo, n, l->n_keys + l->n_calls + l->n_groupings);
	MemoryContext old;

	if (answer == NULL)
		return;
	old = MemoryContextSwitchTo(state->run_cxt);
	for (int i = 0; i < n; i++)
	{
		store_group(state, state->groups->entries[i], slot);
		agg_memo_set_row(state->memo, answer, i, slot);
	}
	MemoryContextSwitchTo(old);
	state->answer = answer;
}

static void
find_answer(AggregateState *state)
{
	if (state->memo)
		state->answer = agg_memo_find(state->memo);
	if (state->answer)
	{
		state->done = true;
		state->reused++;
		return;
	}
	run_aggregate(state);
	if (state->memo)
		keep_answer(state);
}

static void
store_kept_row(const AggAnswer *answer, int row, TupleTableSlot *slot)
{
	int n = answer->n_columns;

	ExecClearTuple(slot);
	memcpy(slot->tts_values, answer->values + row * n, sizeof(Datum) * n);
	memcpy(slot->tts_isnull, answer->nulls + row * n, sizeof(bool) * n);
	for (; n < slot->tts_tupleDescriptor->natts; n++)
		slot->tts_isnull[n] = true;
	ExecStoreVirtualTuple(slot);
}

static TupleTableSlot *
exec_aggregate(CustomScanState *node)
{
	AggregateState *state = (AggregateState *) node;
	ExprContext *econtext = node->ss.ps.ps_ExprContext;
	TupleTableSlot *slot = node->ss.ss_ScanTupleSlot;

	if (!state->done && node->custom_ps)
		merge_groups(state);
	else if (!state->done)
		find_answer(state);
	while (state->at < (state->answer ? state->answer->n_rows : state->groups->n_entries))
	{
		MemoryContext old;

		ResetExprContext(econtext);
		old = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
		if (state->answer)
			store_kept_row(state->answer, state->at++, slot);
		else
			store_group(state, state->groups->entries[state->at++], slot);
		MemoryContextSwitchTo(old);
		econtext->ecxt_scantuple = slot;
		if (!ExecQual(node->ss.ps.qual, econtext))
		{
			InstrCountFiltered1(&node->ss, 1);
			continue;
		}
		return node->ss.ps.ps_ProjInfo ? ExecProject(node->ss.ps.ps_ProjInfo) : slot;
	}
	return NULL;
}

/* A group that is not finished, as one value. */
static TupleTableSlot *
exec_partial_aggregate(CustomScanState *node)
{
	AggregateState *state = (AggregateState *) node;
	ExprContext *econtext = node->ss.ps.ps_ExprContext;
	TupleTableSlot *slot = node->ss.ss_ScanTupleSlot;
	int at = slot->tts_tupleDescriptor->natts - 1;
	StringInfoData buf;
	MemoryContext old;

	if (!state->done)
		run_aggregate(state);
	if (state->at >= state->groups->n_entries)
		return NULL;
	ResetExprContext(econtext);
	old = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
	initStringInfo(&buf);
	appendStringInfoSpaces(&buf, VARHDRSZ);
	agg_pack_group(state, state->groups->entries[state->at++], &buf);
	SET_VARSIZE(buf.data, buf.len);
	MemoryContextSwitchTo(old);
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, sizeof(bool) * at);
	slot->tts_values[at] = PointerGetDatum(buf.data);
	slot->tts_isnull[at] = false;
	ExecStoreVirtualTuple(slot);
	econtext->ecxt_scantuple = slot;
	return node->ss.ps.ps_ProjInfo ? ExecProject(node->ss.ps.ps_ProjInfo) : slot;
}

static void
end_aggregate(CustomScanState *node)
{
	AggregateState *state = (AggregateState *) node;

	if (node->custom_ps)
		ExecEndNode(linitial(node->custom_ps));
	if (state->reader)
		am_reader_release(state->reader);
	state->reader = NULL;
	if (state->run_cxt)
		MemoryContextDelete(state->run_cxt);
	state->run_cxt = NULL;
}

static void
start_memo(AggregateState *state)
{
	EState *estate = state->css.ss.ps.state;
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);

	state->memo = agg_memo_new(((CustomScan *) state->css.ss.ps.plan)->custom_exprs, estate->es_param_exec_vals);
	MemoryContextSwitchTo(old);
}

/* Without new parameters the groups are still the same, unless it was a part of them that this process has read. */
static void
rescan_aggregate(CustomScanState *node)
{
	AggregateState *state = (AggregateState *) node;
	PlanState *child = node->custom_ps ? linitial(node->custom_ps) : NULL;

	state->at = 0;
	if (node->ss.ps.chgParam == NULL && state->shared == NULL)
		return;
	if (child == NULL && state->shared == NULL && !state->partial)
	{
		/* Before the run is forgotten: the parameters may be some that were answered. */
		if (state->memo == NULL)
			start_memo(state);
		state->answer = NULL;
		state->done = false;
		return;
	}
	forget_run(state);
	if (child == NULL)
		return;
	if (node->ss.ps.chgParam)
		UpdateChangedParamSet(child, node->ss.ps.chgParam);
	if (child->chgParam == NULL)
		ExecReScan(child);
}
