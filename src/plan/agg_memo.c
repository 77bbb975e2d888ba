/*
 * agg_memo.c
 *    What the aggregate node has answered for the parameters that it had before.
 *
 * A correlated sub-select is asked once per outer row, and most of those rows name one of a few segments or instances.
 * Within one execution an answer depends on nothing but the parameters: the snapshot is the same, and expressions that
 * may change are not in the node. Parameters are the same if their bytes are.
 */
#include "plan/agg_memo.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#define BUCKETS 1024 /* a power of 2 */

typedef struct MemoParam
{
	int id;
	int16 typlen;
	bool typbyval;
} MemoParam;

struct AggMemo
{
	MemoryContext cxt; /* answers; reset when they become too many */
	int n_params;
	MemoParam *params;
	ParamExecData *values; /* of the execution */
	AggAnswer **buckets;
};

AggMemo *
agg_memo_new(List *params, ParamExecData *values)
{
	AggMemo *memo = palloc0(sizeof(AggMemo));
	ListCell *lc;

	memo->cxt = AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation answers", ALLOCSET_DEFAULT_SIZES);
	memo->values = values;
	memo->params = palloc(sizeof(MemoParam) * Max(list_length(params), 1));
	foreach (lc, params)
	{
		const Param *param = lfirst_node(Param, lc);
		MemoParam *p = &memo->params[memo->n_params++];

		p->id = param->paramid;
		get_typlenbyval(param->paramtype, &p->typlen, &p->typbyval);
	}
	memo->buckets = palloc0(sizeof(AggAnswer *) * BUCKETS);
	return memo;
}

/* What a sub-select has yet to compute is not computed for this: perhaps nothing asks for it. */
static bool
are_known(const AggMemo *memo)
{
	for (int i = 0; i < memo->n_params; i++)
		if (memo->values[memo->params[i].id].execPlan)
			return false;
	return true;
}

static uint32
hash_params(const AggMemo *memo)
{
	uint32 hash = 0;

	for (int i = 0; i < memo->n_params; i++)
	{
		const MemoParam *p = &memo->params[i];
		const ParamExecData *v = &memo->values[p->id];

		hash = hash_combine(hash, v->isnull ? 0 : datum_image_hash(v->value, p->typbyval, p->typlen));
	}
	return hash;
}

static bool
is_of(const AggMemo *memo, const AggAnswer *answer)
{
	for (int i = 0; i < memo->n_params; i++)
	{
		const MemoParam *p = &memo->params[i];
		const ParamExecData *v = &memo->values[p->id];

		if (v->isnull != answer->param_nulls[i] ||
			(!v->isnull && !datum_image_eq(v->value, answer->params[i], p->typbyval, p->typlen)))
			return false;
	}
	return true;
}

const AggAnswer *
agg_memo_find(AggMemo *memo)
{
	uint32 hash;

	if (!are_known(memo))
		return NULL;
	hash = hash_params(memo);
	for (AggAnswer *a = memo->buckets[hash & (BUCKETS - 1)]; a; a = a->next)
		if (a->hash == hash && is_of(memo, a))
			return a;
	return NULL;
}

static void
forget_if_large(AggMemo *memo)
{
	if (MemoryContextMemAllocated(memo->cxt, true) <= (Size) work_mem * 1024)
		return;
	MemoryContextReset(memo->cxt);
	memset(memo->buckets, 0, sizeof(AggAnswer *) * BUCKETS);
}

AggAnswer *
agg_memo_add(AggMemo *memo, int n_rows, int n_columns)
{
	MemoryContext old;
	AggAnswer *answer;
	AggAnswer **bucket;

	if (!are_known(memo) || (Size) n_rows * (Size) n_columns > (Size) work_mem)
		return NULL;
	forget_if_large(memo);
	old = MemoryContextSwitchTo(memo->cxt);
	answer = palloc0(sizeof(AggAnswer));
	answer->hash = hash_params(memo);
	answer->params = palloc(sizeof(Datum) * Max(memo->n_params, 1));
	answer->param_nulls = palloc(sizeof(bool) * Max(memo->n_params, 1));
	for (int i = 0; i < memo->n_params; i++)
	{
		const ParamExecData *v = &memo->values[memo->params[i].id];

		answer->param_nulls[i] = v->isnull;
		answer->params[i] =
			v->isnull ? (Datum) 0 : datumCopy(v->value, memo->params[i].typbyval, memo->params[i].typlen);
	}
	answer->n_rows = n_rows;
	answer->n_columns = n_columns;
	answer->values = palloc(sizeof(Datum) * Max(n_rows * n_columns, 1));
	answer->nulls = palloc(sizeof(bool) * Max(n_rows * n_columns, 1));
	bucket = &memo->buckets[answer->hash & (BUCKETS - 1)];
	answer->next = *bucket;
	*bucket = answer;
	MemoryContextSwitchTo(old);
	return answer;
}

void
agg_memo_set_row(AggMemo *memo, AggAnswer *answer, int row, const TupleTableSlot *slot)
{
	MemoryContext old = MemoryContextSwitchTo(memo->cxt);

	for (int i = 0; i < answer->n_columns; i++)
	{
		Form_pg_attribute att = TupleDescAttr(slot->tts_tupleDescriptor, i);
		int at = row * answer->n_columns + i;

		answer->nulls[at] = slot->tts_isnull[i];
		answer->values[at] =
			slot->tts_isnull[i] ? (Datum) 0 : datumCopy(slot->tts_values[i], att->attbyval, att->attlen);
	}
	MemoryContextSwitchTo(old);
}
