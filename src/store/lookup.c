/*
 * lookup.c
 *    Instances and groups of a view by their ids.
 *
 * Nested loops ask for one instance after the other, and there may be many thousands: a hash table of chains, made when
 * first asked for, kept with the view.
 */
#include "postgres.h"

#include "port/pg_bitutils.h"
#include "utils/memutils.h"

#include "store/store.h"

typedef struct Chains
{
	uint32 mask;
	int *first; /* by hash; -1: none */
	int *next;  /* by number */
} Chains;

typedef struct StoreLookup
{
	Chains instances;
	Chains groups;
} StoreLookup;

static void
start_chains(Chains *chains, int n)
{
	uint32 size = pg_nextpower2_32((uint32) Max(n, 8));

	chains->mask = size - 1;
	chains->first = palloc(sizeof(int) * size);
	chains->next = palloc(sizeof(int) * Max(n, 1));
	for (uint32 i = 0; i < size; i++)
		chains->first[i] = -1;
}

static void
add_to_chain(Chains *chains, int i, const text *key)
{
	int *first = &chains->first[store_text_hash(key) & chains->mask];

	chains->next[i] = *first;
	*first = i;
}

static StoreLookup *
lookup_of(StoreView *view)
{
	MemoryContext old;
	StoreLookup *lookup;

	if (view->lookup)
		return view->lookup;
	old = MemoryContextSwitchTo(view->cxt);
	lookup = palloc(sizeof(StoreLookup));
	start_chains(&lookup->instances, view->n_instances);
	start_chains(&lookup->groups, view->n_groups);
	/* From the end, so that chains are in the view's order. */
	for (int i = view->n_instances - 1; i >= 0; i--)
		add_to_chain(&lookup->instances, i, view->instances[i]->dims.segment_instance_id);
	for (int i = view->n_groups - 1; i >= 0; i--)
		add_to_chain(&lookup->groups, i, view->groups[i]->dims.segment_id);
	view->lookup = lookup;
	MemoryContextSwitchTo(old);
	return lookup;
}

static int
step(const Chains *chains, const text *key, int at)
{
	return at < 0 ? chains->first[store_text_hash(key) & chains->mask] : chains->next[at];
}

StoreInstance *
store_find_instance(StoreView *view, const text *segment_instance_id, int *at)
{
	StoreLookup *lookup = lookup_of(view);

	while ((*at = step(&lookup->instances, segment_instance_id, *at)) >= 0)
		if (store_text_equal(view->instances[*at]->dims.segment_instance_id, segment_instance_id))
			return view->instances[*at];
	return NULL;
}

StoreGroup *
store_find_segment(StoreView *view, const text *segment_id, int *at)
{
	StoreLookup *lookup = lookup_of(view);

	while ((*at = step(&lookup->groups, segment_id, *at)) >= 0)
		if (store_text_equal(view->groups[*at]->dims.segment_id, segment_id))
			return view->groups[*at];
	return NULL;
}
