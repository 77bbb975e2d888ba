/*
 * order.c
 *    Sorts instances, and tells the scan when a partition has been read far enough.
 */
#include "plan/order.h"

#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/sortsupport.h"

typedef struct Key
{
	ExprState *expr;
	SortSupportData sort;
	bool descending;
	int16 typlen;
	bool typbyval;
} Key;

typedef struct Place
{
	StoreInstance *inst;
	Datum *values;
	bool *nulls;
} Place;

struct PlanOrderState
{
	MemoryContext cxt; /* of one order */
	const AmColumnMap *map;
	TupleTableSlot *slot;
	ExprContext *econtext;
	int n_keys;
	Key *keys;
	int n_partition;
	PlanStop stop;
	int limit;

	int n;
	StoreInstance **order;
	int *peers_end; /* by place in the order: the first that is no peer, */
	int *part_end;  /* the first of the next partition */

	/* of the partition that is being read */
	int part;
	int rows;
	int groups;
	int last_peers;
};

PlanOrderState *
plan_order_begin(List *order_private, List *exprs, const AmColumnMap *map, PlanState *parent, TupleTableSlot *slot)
{
	PlanOrderState *state = palloc0(sizeof(PlanOrderState));
	List *operators = linitial(order_private);
	List *collations = lsecond(order_private);
	List *nulls_first = lthird(order_private);
	List *numbers = lfourth(order_private);

	state->cxt = AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation order", ALLOCSET_SMALL_SIZES);
	state->map = map;
	state->slot = slot;
	state->econtext = CreateExprContext(parent->state);
	state->n_keys = list_length(exprs);
	state->keys = palloc0(sizeof(Key) * Max(state->n_keys, 1));
	state->n_partition = linitial_int(numbers);
	state->stop = (PlanStop) lsecond_int(numbers);
	state->limit = lthird_int(numbers);
	for (int i = 0; i < state->n_keys; i++)
	{
		Key *key = &state->keys[i];
		Expr *expr = list_nth(exprs, i);

		key->expr = ExecInitExpr(expr, parent);
		get_typlenbyval(exprType((Node *) expr), &key->typlen, &key->typbyval);
		key->sort.ssup_cxt = CurrentMemoryContext;
		key->sort.ssup_collation = list_nth_oid(collations, i);
		key->sort.ssup_nulls_first = list_nth_int(nulls_first, i) != 0;
		PrepareSortSupportFromOrderingOp(list_nth_oid(operators, i), &key->sort);
		key->descending = key->sort.ssup_reverse;
	}
	return state;
}

static int
compare_keys(const PlanOrderState *state, const Place *a, const Place *b, int n_keys)
{
	for (int i = 0; i < n_keys; i++)
	{
		int c = ApplySortComparator(a->values[i], a->nulls[i], b->values[i], b->nulls[i], &state->keys[i].sort);

		if (c != 0)
			return c;
	}
	return 0;
}

static int
by_keys(const void *a, const void *b, void *arg)
{
	const PlanOrderState *state = arg;

	return compare_keys(state, a, b, state->n_keys);
}

static void
evaluate(PlanOrderState *state, Place *place)
{
	ResetExprContext(state->econtext);
	am_put_dimensions(state->slot, state->map, place->inst);
	state->econtext->ecxt_scantuple = state->slot;
	place->values = palloc(sizeof(Datum) * Max(state->n_keys, 1));
	place->nulls = palloc(sizeof(bool) * Max(state->n_keys, 1));
	for (int i = 0; i < state->n_keys; i++)
	{
		const Key *key = &state->keys[i];
		Datum value = ExecEvalExprSwitchContext(key->expr, state->econtext, &place->nulls[i]);

		place->values[i] = place->nulls[i] ? (Datum) 0 : datumCopy(value, key->typbyval, key->typlen);
	}
}

/* From the end: where each place's peers and partition end. */
static void
find_ends(PlanOrderState *state, const Place *places)
{
	state->peers_end = palloc(sizeof(int) * Max(state->n, 1));
	state->part_end = palloc(sizeof(int) * Max(state->n, 1));
	for (int i = state->n - 1; i >= 0; i--)
	{
		const Place *next = i + 1 < state->n ? &places[i + 1] : NULL;

		state->peers_end[i] =
			next && compare_keys(state, &places[i], next, state->n_keys) == 0 ? state->peers_end[i + 1] : i + 1;
		state->part_end[i] =
			next && compare_keys(state, &places[i], next, state->n_partition) == 0 ? state->part_end[i + 1] : i + 1;
	}
}

void
plan_order_restart(PlanOrderState *state, TableScanDesc scan, bool counted)
{
	state->part = -1;
	am_scan_set_order(scan, state->order, state->n, counted);
}

bool
plan_order_start(PlanOrderState *state, TableScanDesc scan, bool counted)
{
	MemoryContext old;
	Place *places;

	MemoryContextReset(state->cxt);
	old = MemoryContextSwitchTo(state->cxt);
	state->order = am_scan_chosen(scan, &state->n);
	places = palloc_extended(sizeof(Place) * Max(state->n, 1), MCXT_ALLOC_HUGE);
	for (int i = 0; i < state->n; i++)
	{
		places[i].inst = state->order[i];
		evaluate(state, &places[i]);
	}
	qsort_arg(places, state->n, sizeof(Place), by_keys, state);
	for (int i = 0; i < state->n; i++)
		state->order[i] = places[i].inst;
	if (state->stop != STOP_NEVER)
		find_ends(state, places);
	MemoryContextSwitchTo(old);
	plan_order_restart(state, scan, counted);
	return state->n > 0;
}

void
plan_order_passed(PlanOrderState *state, TableScanDesc scan)
{
	int at;
	bool enough;

	if (state->stop == STOP_NEVER)
		return;
	at = am_scan_position(scan);
	if (state->part != state->part_end[at])
	{
		state->part = state->part_end[at];
		state->rows = 0;
		state->groups = 0;
		state->last_peers = -1;
	}
	state->groups += state->peers_end[at] != state->last_peers;
	state->last_peers = state->peers_end[at];
	enough = state->stop == STOP_AT_GROUPS ? state->groups >= state->limit : ++state->rows >= state->limit;
	if (enough)
		am_scan_skip(scan, state->stop == STOP_AT_ROWS ? at : state->peers_end[at], state->part_end[at]);
}

/* ---- EXPLAIN ------------------------------------------------------------------------------------------------ */

const char *
plan_order_stop_text(const PlanOrderState *state)
{
	switch (state->stop)
	{
	case STOP_AT_ROWS:
		return psprintf("%d rows", state->limit);
	case STOP_AT_PEERS:
		return psprintf("%d rows and their peers", state->limit);
	case STOP_AT_GROUPS:
		return psprintf("%d groups of peers", state->limit);
	default:
		return NULL;
	}
}

int
plan_order_partition_keys(const PlanOrderState *state)
{
	return state->n_partition;
}

bool
plan_order_is_descending(const PlanOrderState *state, int key)
{
	return state->keys[key].descending;
}
