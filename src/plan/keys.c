/*
 * keys.c
 *    Values of key columns, from the value sides of clauses.
 *
 * A value that is NULL is equal to nothing. One of several clauses is enough to read by: the others are tried on
 * instances, or stay in the filter.
 */
#include "plan/keys.h"

#include "executor/executor.h"
#include "utils/array.h"
#include "utils/lsyscache.h"

#include "plan/clauses.h"

typedef struct KeyValue
{
	ExprState *state;
	bool is_array;
} KeyValue;

struct PlanKeys
{
	List *clauses; /* of lists of KeyValue: any of a list's values */
};

PlanKeys *
plan_keys_new(List *clauses, Index varno, AttrNumber attno, PlanState *parent)
{
	PlanKeys *keys = palloc0(sizeof(PlanKeys));
	ListCell *lc;

	foreach (lc, clauses)
	{
		List *values = NIL;
		ListCell *lc2;

		foreach (lc2, plan_key_clauses(lfirst(lc), varno, attno))
		{
			KeyValue *v = palloc0(sizeof(KeyValue));
			Expr *value = plan_key_value(lfirst(lc2), varno, attno, &v->is_array);

			v->state = ExecInitExpr(value, parent);
			values = lappend(values, v);
		}
		if (values)
			keys->clauses = lappend(keys->clauses, values);
	}
	return keys;
}

static void
add_value(AmKeys *out, int *cap, Datum value)
{
	if (out->n == *cap)
	{
		*cap = *cap ? *cap * 2 : 8;
		out->values = out->values ? repalloc_huge(out->values, sizeof(text *) * *cap)
								  : MemoryContextAllocHuge(CurrentMemoryContext, sizeof(text *) * *cap);
	}
	out->values[out->n++] = DatumGetTextPP(value);
}

static void
add_values(AmKeys *out, int *cap, const KeyValue *v, Datum value)
{
	ArrayType *array;
	Datum *elements;
	bool *nulls;
	int16 typlen;
	bool typbyval;
	char typalign;
	int n;

	if (!v->is_array)
	{
		add_value(out, cap, value);
		return;
	}
	array = DatumGetArrayTypeP(value);
	get_typlenbyvalalign(ARR_ELEMTYPE(array), &typlen, &typbyval, &typalign);
	deconstruct_array(array, ARR_ELEMTYPE(array), typlen, typbyval, typalign, &elements, &nulls, &n);
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			add_value(out, cap, elements[i]);
}

void
plan_keys_evaluate(PlanKeys *keys, ExprContext *econtext, AmKeys *out)
{
	ListCell *lc;

	*out = (AmKeys){.n = -1};
	foreach (lc, keys->clauses)
	{
		AmKeys one = {.n = 0};
		int cap = 0;
		ListCell *lc2;

		foreach (lc2, (List *) lfirst(lc))
		{
			KeyValue *v = lfirst(lc2);
			bool isnull;
			Datum value = ExecEvalExpr(v->state, econtext, &isnull);

			if (!isnull)
				add_values(&one, &cap, v, value);
		}
		if (out->n < 0 || one.n < out->n)
			*out = one;
	}
}
