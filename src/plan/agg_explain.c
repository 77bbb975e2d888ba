/*
 * agg_explain.c
 *    What EXPLAIN says of the aggregate node.
 */
#include "plan/agg_state.h"

#include "utils/ruleutils.h"

#include "plan/explain.h"

static List *
shown(CustomScan *cscan, int first, int n)
{
	List *list = NIL;

	for (int i = first; i < first + n; i++)
		list = lappend(list, agg_target(cscan, i));
	return list;
}

static List *
hidden(CustomScan *cscan, int first, int n)
{
	List *list = NIL;

	for (int i = first; i < first + n; i++)
		list = lappend(list, agg_hidden_target(cscan, i));
	return list;
}

static void
explain_keys(CustomScan *cscan, int n, List *context, ExplainState *es)
{
	bool useprefix = list_length(es->rtable) > 1 || es->verbose;
	List *keys = NIL;
	ListCell *lc;

	foreach (lc, shown(cscan, 0, n))
		keys = lappend(keys, deparse_expression(lfirst(lc), context, useprefix, false));
	if (keys)
		ExplainPropertyList("Group Key", keys, es);
}

/* Of a node that reads. */
static void
explain_reading(AggregateState *state, CustomScan *cscan, List *context, ExplainState *es)
{
	const AggLayout *l = &state->layout;
	int at = l->n_keys + l->n_calls + l->n_groupings;

	explain_clauses("Instance Cond", hidden(cscan, at, l->n_instance), context, es);
	at += l->n_instance;
	explain_clauses("Measure Cond", hidden(cscan, at, l->n_measures), context, es);
	at += l->n_measures;
	explain_clauses("Customer Cond", hidden(cscan, at, l->n_identity), context, es);
	ExplainPropertyText("Answered From", state->from_cells || state->distinct ? "cells" : "totals", es);
	if (!es->analyze || state->css.ss.ps.instrument == NULL || state->css.ss.ps.instrument->nloops <= 0)
		return;
	if (state->memo)
		ExplainPropertyInteger("Answers Reused", NULL, state->reused, es);
	explain_stats(&state->counts.stats, es);
	ExplainPropertyInteger("Instances From Totals", NULL, state->counts.from_totals, es);
	ExplainPropertyInteger("Rows Made", NULL, 0, es);
}

void
agg_explain(CustomScanState *node, List *ancestors, ExplainState *es)
{
	AggregateState *state = (AggregateState *) node;
	CustomScan *cscan = (CustomScan *) node->ss.ps.plan;
	List *context = set_deparse_context_plan(es->deparse_cxt, node->ss.ps.plan, ancestors);

	ExplainPropertyText("Relation", RelationGetRelationName(state->rel), es);
	explain_keys(cscan, state->layout.n_keys, context, es);
	if (node->custom_ps == NIL)
		explain_reading(state, cscan, context, es);
}
