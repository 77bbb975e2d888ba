/*
 * agg_stretch.c
 *    Cells added up by the executor's own expressions: arithmetic on measures, and conditions that the core does not
 *    know.
 *
 * Rows of a customer with the same measures are evaluated once, together, unless an expression reads what differs from
 * instance to instance. What a row would not get to is not evaluated: conditions come first, from the cheapest on, then
 * filters, then arguments, as they are written.
 */
#include "plan/agg_state.h"

#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/memutils.h"

/* As many at a time as the core is asked for. */
#define STRETCHES 512

/* Instances of a cell whose rows go to the same groups, and pass the same filters about instances. */
typedef struct Class
{
	InstanceInfo *info;
	uint64 slots;
} Class;

typedef struct StretchWork
{
	GroupRun *run;
	StoreCell *cell;
	uint64 classified;
	int n_classes;
	Class classes[CSEG_SLOTS];
	bool *hits;         /* by view of the core */
	bool *evaluated;    /* by RowValue */
	CsegValue *results; /* likewise */
	const CsegStretch *shown;
	int shown_slot;
} StretchWork;

/* ---- expressions ------------------------------------------------------------------------------------------------ */

/* Any of the slots will do, where expressions don't read what tells them apart. */
static ExprContext *
show_row(AggregateState *state, StretchWork *work, const CsegStretch *s, int slot)
{
	TupleTableSlot *row = state->instance_slot;
	ExprContext *econtext = state->econtext;
	MemoryContext old;

	if (work->shown == s && work->shown_slot == slot)
		return econtext;
	agg_show_instance(state, work->cell->group, work->cell->group->instance[slot]);
	old = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
	for (int m = 0; m < CSEG_MEASURES; m++)
	{
		int i = state->map->attno[COL_CUSTOMERS + m];

		row->tts_values[i] = am_measure_to_datum(m, &s->v[m], &row->tts_isnull[i]);
	}
	MemoryContextSwitchTo(old);
	work->shown = s;
	work->shown_slot = slot;
	return econtext;
}

static CsegValue
value_of_datum(Oid type, Datum value, bool isnull)
{
	CsegValue v;

	if (type == NUMERICOID || type == INT8OID)
		am_measure_from_datum(type == NUMERICOID ? CSEG_M_REVENUE : CSEG_M_ORDERS, value, isnull, &v);
	else /* of other types only the number of them is asked for */
		am_measure_from_datum(CSEG_M_ORDERS, Int64GetDatum(type == INT4OID && !isnull ? DatumGetInt32(value) : 0),
							  isnull, &v);
	return v;
}

static const CsegValue *
row_value(AggregateState *state, StretchWork *work, const CsegStretch *s, int slot, int i)
{
	RowValue *value = &state->values[i];
	bool isnull;
	Datum result;
	MemoryContext old;

	if (work->evaluated[i])
		return &work->results[i];
	old = MemoryContextSwitchTo(state->econtext->ecxt_per_tuple_memory);
	result = ExecEvalExpr(value->state, show_row(state, work, s, slot), &isnull);
	work->results[i] = value_of_datum(value->type, result, isnull);
	MemoryContextSwitchTo(old);
	work->evaluated[i] = true;
	return &work->results[i];
}

/* ---- groups ------------------------------------------------------------------------------------------------------ */

static bool
is_alike(const AggregateState *state, const InstanceInfo *a, const InstanceInfo *b)
{
	for (int i = 0; i < state->layout.n_calls; i++)
		if (state->calls[i].arg)
			return false;
	return memcmp(a->groups, b->groups, sizeof(AggEntry *) * state->n_sets) == 0 &&
		   memcmp(a->passes, b->passes, sizeof(bool) * state->n_views) == 0;
}

/* Of slots with a row that passes. */
static void
classify(AggregateState *state, StretchWork *work, uint64 slots)
{
	for (uint64 rest = slots & ~work->classified; rest != 0; rest &= rest - 1)
	{
		int slot = pg_rightmost_one_pos64(rest);
		InstanceInfo *info = agg_instance_info(state, work->run, work->cell->group, slot);
		int i = 0;

		work->shown = NULL; /* that may have shown the instance */
		while (i < work->n_classes && !is_alike(state, work->classes[i].info, info))
			i++;
		if (i == work->n_classes)
			work->classes[work->n_classes++] = (Class){.info = info};
		work->classes[i].slots |= UINT64CONST(1) << slot;
	}
	work->classified |= slots;
}

/* ---- adding up --------------------------------------------------------------------------------------------------- */

static void
add_class(AggregateState *state, StretchWork *work, const CsegStretch *s, int slot, const InstanceInfo *info,
		  int64 rows)
{
	for (int set = 0; set < state->n_sets; set++)
	{
		AggGroup *group = agg_payload(info->groups[set]);

		for (int v = 0; v < state->n_views; v++)
			if (info->passes[v] && work->hits[state->views[v].core])
				agg_add_rows(state, info, group, v, rows);
		for (int i = 0; i < state->n_sums; i++)
		{
			const Sum *sum = &state->sums[i];
			const CsegValue *v;

			if (!info->passes[sum->view] || !work->hits[state->views[sum->view].core])
				continue;
			v = sum->measure < CSEG_MEASURES ? &s->v[sum->measure]
											 : row_value(state, work, s, slot, sum->measure - CSEG_MEASURES);
			agg_sum_add_value(&group->sums[i], state->run_cxt, v, rows);
		}
	}
	if (state->distinct)
		agg_add_member(state, info, work->hits, s->low);
}

static void
add_rows(AggregateState *state, StretchWork *work, const CsegStretch *s, uint64 slots)
{
	int slot = pg_rightmost_one_pos64(slots);

	work->shown = NULL; /* the stretch is in memory that was another's */
	if (!ExecQual(state->cores[0].qual, show_row(state, work, s, slot)))
		return;
	classify(state, work, slots);
	work->hits[0] = true;
	for (int c = 1; c < state->n_cores; c++)
		work->hits[c] = ExecQual(state->cores[c].qual, show_row(state, work, s, slot));
	memset(work->evaluated, 0, sizeof(bool) * state->n_values);
	for (int i = 0; i < work->n_classes; i++)
	{
		uint64 some = work->classes[i].slots & slots;

		if (some != 0)
			add_class(state, work, s, slot, work->classes[i].info, pg_popcount64(some));
	}
}

static void
add_stretch(AggregateState *state, StretchWork *work, const CsegStretch *s)
{
	if (!state->by_instance)
	{
		add_rows(state, work, s, s->slots);
		return;
	}
	for (uint64 rest = s->slots; rest != 0; rest &= rest - 1)
		add_rows(state, work, s, rest & -rest);
}

static void
check_slots(AggregateState *state, StoreCell *cell, CsegCell *data)
{
	uint64 present;

	CSEG_CALL(state->rel, cseg_cell_slots(data, &present, &err));
	agg_check_instances(state, cell, present);
}

void
agg_add_stretches(AggregateState *state, GroupRun *run, StoreCell *cell, CsegCell *data, uint64 slots, int n_lows)
{
	StretchWork work = {.run = run, .cell = cell};
	CsegStretch *stretches = palloc(sizeof(CsegStretch) * STRETCHES);
	uint32 at = 0;
	uint32 n;

	check_slots(state, cell, data);
	work.hits = palloc(sizeof(bool) * state->n_cores);
	work.evaluated = palloc(sizeof(bool) * Max(state->n_values, 1));
	work.results = palloc(sizeof(CsegValue) * Max(state->n_values, 1));
	do
	{
		CSEG_CALL(state->rel, cseg_cell_stretches(data, slots, state->by_customer ? state->lows : NULL, (uint32) n_lows,
												  &at, stretches, STRETCHES, &n, &err));
		for (uint32 i = 0; i < n; i++)
		{
			MemoryContext old = MemoryContextSwitchTo(state->row_cxt);

			CHECK_FOR_INTERRUPTS();
			add_stretch(state, &work, &stretches[i]);
			MemoryContextSwitchTo(old);
			MemoryContextReset(state->row_cxt);
		}
	} while (n > 0);
}
