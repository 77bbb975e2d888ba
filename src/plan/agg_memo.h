/*
 * agg_memo.h
 *    What the aggregate node has answered for the parameters that it had before.
 */
#ifndef CSEG_PLAN_AGG_MEMO_H
#define CSEG_PLAN_AGG_MEMO_H

#include "postgres.h"

#include "executor/tuptable.h"
#include "nodes/params.h"
#include "nodes/pg_list.h"

typedef struct AggMemo AggMemo;

/* The rows of one run, before the query's own filter and projection. */
typedef struct AggAnswer
{
	struct AggAnswer *next; /* in its bucket */
	uint32 hash;
	Datum *params;
	bool *param_nulls;
	int n_rows;
	int n_columns;
	Datum *values; /* row by row */
	bool *nulls;
} AggAnswer;

/* In the current memory context. params: of Param; values: those of the execution. */
extern AggMemo *agg_memo_new(List *params, ParamExecData *values);
/* For the parameters as they are now; NULL: none. Holds until the next one is added. */
extern const AggAnswer *agg_memo_find(AggMemo *memo);
/* A new answer, of which every row is to be set at once. NULL: not worth keeping. */
extern AggAnswer *agg_memo_add(AggMemo *memo, int n_rows, int n_columns);
extern void agg_memo_set_row(AggMemo *memo, AggAnswer *answer, int row, const TupleTableSlot *slot);

#endif /* CSEG_PLAN_AGG_MEMO_H */
