/*
 * estimate.c
 *    How many rows conditions leave, and how much has to be read for them.
 *
 * Conditions on dimensions with known values are tried on the instances themselves, whose rows are counted, so that
 * what dimensions have to do with each other needs no statistics. An equality with a value that is not known yet (of a
 * join, or a parameter) leaves an average instance or segment. The rest is the server's own estimate.
 */
#include "plan/estimate.h"

#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include <math.h>

#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "plan/clauses.h"
#include "plan/keys.h"
#include "plan/prune.h"
#include "plan/safety.h"

/* More instances than this are not tried one by one: every second, third, ... of them stands for the others. */
#define MAX_TRIED 4096

typedef struct Sorted
{
	List *exact;   /* expressions over dimensions, with constants */
	List *pruning; /* others that instances can be tried with */
	uint32 bound;  /* columns that are equal to something unknown */
	List *others;  /* RestrictInfo */
} Sorted;

/* The dimension that the clause sets equal to something that is no column of the table; -1 if it does not. */
static int
bound_dimension(Node *clause, Index varno, const AmColumnMap *map)
{
	OpExpr *op = (OpExpr *) clause;

	if (!IsA(clause, OpExpr) || list_length(op->args) != 2 || !op_mergejoinable(op->opno, exprType(linitial(op->args))))
		return -1;
	for (int c = 0; c < COL_CUSTOMERS; c++)
	{
		for (int side = 0; side < 2; side++)
		{
			if ((PLAN_COLUMN(c) & PLAN_DIMENSIONS) &&
				plan_is_column(list_nth(op->args, side), varno, map->attno[c] + 1) &&
				!bms_is_member((int) varno, pull_varnos(NULL, list_nth(op->args, 1 - side))))
				return c;
		}
	}
	return -1;
}

static void
sort_rinfos(PlannerInfo *root, RelOptInfo *rel, const AmColumnMap *map, List *rinfos, Sorted *out)
{
	RangeTblEntry *rte = planner_rt_fetch(rel->relid, root);
	ListCell *lc;

	foreach (lc, rinfos)
	{
		RestrictInfo *rinfo = lfirst_node(RestrictInfo, lc);
		Node *clause = estimate_expression_value(root, (Node *) rinfo->clause);
		bool safe = plan_is_safe_while_planning(clause, rte->securityQuals != NIL || rinfo->security_level > 0) &&
					bms_is_subset(pull_varnos(NULL, clause), rel->relids);
		int dimension;

		if (rinfo->pseudoconstant)
			continue;
		fix_opfuncids(clause);
		if (safe && plan_is_about_dimensions(clause, rel->relid, map))
		{
			out->exact = lappend(out->exact, clause);
			continue;
		}
		dimension = bound_dimension(clause, rel->relid, map);
		if (dimension >= 0)
		{
			out->bound |= PLAN_COLUMN(dimension);
			continue;
		}
		out->others = lappend(out->others, rinfo);
		if (safe && plan_prune_says_something((Expr *) clause, rel->relid, map))
			out->pruning = lappend(out->pruning, clause);
	}
}

/* ---- trying instances -------------------------------------------------------------------------------------------- */

typedef struct Trial
{
	const AmSummary *summary;
	PlanPruner *exact;
	PlanPruner *pruning;
	PlanEstimate *out;
	double step; /* one of so many instances is tried */
	double next;
} Trial;

static void
count_instance(Trial *trial, const StoreInstance *inst, double weight)
{
	if (inst == NULL || inst->rows <= 0 || !plan_prune_instance_passes(trial->exact, inst))
		return;
	trial->out->rows += weight * (double) inst->rows;
	if (!plan_prune_instance_passes(trial->pruning, inst))
		return;
	trial->out->instance_rows += weight * (double) inst->rows;
	trial->out->instances += weight;
}

static bool
group_passes(Trial *trial, const StoreGroup *group)
{
	return plan_prune_group_passes(trial->exact, group) && plan_prune_group_passes(trial->pruning, group);
}

static void
count_group(Trial *trial, int g)
{
	const StoreGroup *group = trial->summary->view->groups[g];
	double before = trial->out->instances;

	trial->out->tests++;
	if (!group_passes(trial, group))
		return;
	if (plan_pruner_is_of_groups(trial->exact) && plan_pruner_is_empty(trial->pruning))
	{
		trial->out->rows += trial->summary->group_rows[g];
		trial->out->instance_rows += trial->summary->group_rows[g];
		trial->out->instances += pg_popcount64(group->live_slots);
	}
	else
	{
		for (int s = 0; s < CSEG_SLOTS; s++)
		{
			if (group->instance[s] == NULL)
				continue;
			trial->out->tests++;
			if ((trial->next -= 1) > 0)
				continue;
			trial->next += trial->step;
			count_instance(trial, group->instance[s], trial->step);
		}
	}
	if (trial->out->instances == before)
		return;
	trial->out->groups++;
	trial->out->cells += group->n_cells;
}

static void
count_by_instances(Trial *trial, const AmKeys *keys)
{
	StoreView *view = trial->summary->view;

	for (int i = 0; i < keys->n; i++)
	{
		StoreInstance *inst;
		int at = -1;

		while ((inst = store_find_instance(view, keys->values[i], &at)) != NULL)
		{
			trial->out->tests++;
			if (!group_passes(trial, inst->group))
				continue;
			count_instance(trial, inst, 1);
			trial->out->cells += inst->group->n_cells;
			trial->out->groups++;
		}
	}
	trial->out->groups = Min(trial->out->groups, view->n_groups);
	trial->out->cells = Min(trial->out->cells, view->n_cells);
}

static void
count_by_segments(Trial *trial, const AmKeys *keys)
{
	StoreView *view = trial->summary->view;

	for (int i = 0; i < keys->n; i++)
	{
		StoreGroup *group;
		int at = -1;

		while ((group = store_find_segment(view, keys->values[i], &at)) != NULL)
			count_group(trial, store_group_place(view, group));
	}
}

static void
count_all(Trial *trial)
{
	for (int g = 0; g < trial->summary->view->n_groups; g++)
		count_group(trial, g);
}

static void
try_instances(const AmSummary *summary, Index varno, const AmColumnMap *map, TupleDesc desc, const Sorted *sorted,
			  PlanEstimate *out)
{
	EState *estate = CreateExecutorState();
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);
	ExprContext *econtext = CreateExprContext(estate);
	Trial trial = {.summary = summary, .out = out};
	List *all = list_concat_copy(sorted->exact, sorted->pruning);
	AmKeys instances;
	AmKeys segments;

	trial.step = Max(1.0, ceil((double) summary->view->n_instances / MAX_TRIED));
	/* A copy is not counted as a reference, so there is nothing to give back. */
	desc = CreateTupleDescCopy(desc);
	trial.exact = plan_pruner_new(sorted->exact, varno, map, NULL, MakeTupleTableSlot(desc, &TTSOpsVirtual), econtext);
	trial.pruning =
		plan_pruner_new(sorted->pruning, varno, map, NULL, MakeTupleTableSlot(desc, &TTSOpsVirtual), econtext);
	plan_keys_evaluate(plan_keys_new(all, varno, map->attno[COL_INSTANCE_ID] + 1, NULL), econtext, &instances);
	plan_keys_evaluate(plan_keys_new(all, varno, map->attno[COL_SEGMENT_ID] + 1, NULL), econtext, &segments);
	if (instances.n >= 0)
		count_by_instances(&trial, &instances);
	else if (segments.n >= 0)
		count_by_segments(&trial, &segments);
	else
		count_all(&trial);
	MemoryContextSwitchTo(old);
	FreeExecutorState(estate);
}

/* How many combinations of the bound columns' values there are among the instances that are left. */
static double
combinations(const AmSummary *summary, uint32 bound, const PlanEstimate *e)
{
	double by_segment = Min(summary->distinct[COL_SEGMENT_ID], e->groups);
	double n = 1;

	if (bound & PLAN_COLUMN(COL_INSTANCE_ID))
		return e->instances;
	if (bound & (PLAN_COLUMN(COL_SEGMENT_ID) | PLAN_COLUMN(COL_SEGMENT_NAME) | PLAN_COLUMN(COL_SEGMENT_DATE)))
		n = by_segment;
	else if (bound & (PLAN_COLUMN(COL_SCHEDULE) | PLAN_COLUMN(COL_SEGMENT_BY)))
		n = Min(by_segment, 2);
	if (bound & PLAN_COLUMN(COL_INSTANCE_DATE))
		n *= summary->distinct[COL_INSTANCE_DATE] / Max(summary->instances, 1) * e->instances;
	return Min(n, e->instances);
}

bool
plan_estimate(PlannerInfo *root, RelOptInfo *rel, const AmSummary *summary, const AmColumnMap *map, TupleDesc desc,
			  List *rinfos, PlanEstimate *out)
{
	Sorted sorted = {NIL, NIL, 0, NIL};
	double n;

	memset(out, 0, sizeof(PlanEstimate));
	if (summary == NULL)
		return false;
	out->customers = summary->customers;
	out->table_cells = summary->view->n_cells;
	sort_rinfos(root, rel, map, rinfos, &sorted);
	try_instances(summary, rel->relid, map, desc, &sorted, out);
	n = Max(combinations(summary, sorted.bound, out), 1);
	if (sorted.bound)
	{
		out->rows /= n;
		out->instance_rows /= n;
		out->instances /= n;
		if (out->groups > 0)
		{
			double left = Max(out->groups / n, 1);

			out->cells *= left / out->groups;
			out->groups = left;
		}
	}
	out->rows *= clauselist_selectivity(root, sorted.others, (int) rel->relid, JOIN_INNER, NULL);
	return true;
}
