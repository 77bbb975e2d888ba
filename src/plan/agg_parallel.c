/*
 * agg_parallel.c
 *    How processes share out the work of a partial aggregate.
 *
 * Each of them looks at all instances, which is cheap, and takes cells from a counter until none is left. All see the
 * same snapshot, so all have the same cells in the same order. Where customers are counted it is containers that they
 * take: a customer is in one container, so each is counted by one process. What totals answer, without cells, is left
 * to whoever starts first; so nothing depends on which workers come, nor when.
 */
#include "plan/agg_state.h"

#include "access/parallel.h"

#include "plan/explain.h"

static Size
shared_size(int n_counts)
{
	return add_size(offsetof(AggShared, counts), mul_size(sizeof(AggCounts), (Size) n_counts));
}

Size
agg_estimate_shared(CustomScanState *node, ParallelContext *pcxt)
{
	return shared_size(pcxt->nworkers + 1);
}

void
agg_initialize_shared(CustomScanState *node, ParallelContext *pcxt, void *coordinate)
{
	AggShared *shared = coordinate;

	memset(shared, 0, shared_size(pcxt->nworkers + 1));
	pg_atomic_init_u32(&shared->started, 0);
	pg_atomic_init_u32(&shared->next, 0);
	shared->n_counts = pcxt->nworkers + 1;
	((AggregateState *) node)->shared = shared;
}

void
agg_reinitialize_shared(CustomScanState *node, ParallelContext *pcxt, void *coordinate)
{
	AggShared *shared = coordinate;

	pg_atomic_write_u32(&shared->started, 0);
	pg_atomic_write_u32(&shared->next, 0);
	memset(shared->counts, 0, sizeof(AggCounts) * (Size) shared->n_counts);
}

void
agg_initialize_worker(CustomScanState *node, shm_toc *toc, void *coordinate)
{
	((AggregateState *) node)->shared = coordinate;
}

void
agg_start_process(AggregateState *state)
{
	state->leads = state->shared == NULL || pg_atomic_fetch_add_u32(&state->shared->started, 1) == 0;
}

uint32
agg_take_next(AggregateState *state)
{
	return state->shared ? pg_atomic_fetch_add_u32(&state->shared->next, 1) : 0;
}

void
agg_share_counts(AggregateState *state)
{
	if (state->shared && IsParallelWorker() && ParallelWorkerNumber + 1 < state->shared->n_counts)
		state->shared->counts[ParallelWorkerNumber + 1] = state->counts;
}

/* In the leader, before the shared memory goes. */
void
agg_shutdown(CustomScanState *node)
{
	AggregateState *state = (AggregateState *) node;

	if (state->shared == NULL || IsParallelWorker())
		return;
	for (int i = 1; i < state->shared->n_counts; i++)
	{
		const AggCounts *counts = &state->shared->counts[i];

		explain_add_stats(&state->counts.stats, &counts->stats);
		state->counts.from_totals += counts->from_totals;
	}
	state->shared = NULL;
}
