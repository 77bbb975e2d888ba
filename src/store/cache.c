/*
 * cache.c
 *    How long entries of the backend's cache stay: pins, least recently used first, and what invalidations take away.
 *
 * Entries come in cold and turn hot at their second use. Hot ones may have three quarters of the memory, so that a scan
 * over a table that is larger than the cache does not wash out what is used again and again.
 *
 * Invalidations may come whenever a relation is opened or a lock is taken; an entry that is in use has a pin.
 */
#include "postgres.h"

#include "utils/inval.h"
#include "utils/memutils.h"

#include "store/cache.h"

int store_cell_cache_kb = 65536;

static dlist_head cold = DLIST_STATIC_INIT(cold);
static dlist_head hot = DLIST_STATIC_INIT(hot);
static Size cold_bytes = 0;
static Size hot_bytes = 0;

Size
cache_budget(void)
{
	return (Size) store_cell_cache_kb * 1024;
}

Size
cache_used(void)
{
	return hot_bytes + cold_bytes;
}

static void
add_to(CacheEntry *entry, bool to_hot)
{
	entry->hot = to_hot;
	dlist_push_head(to_hot ? &hot : &cold, &entry->node);
	*(to_hot ? &hot_bytes : &cold_bytes) += entry->bytes;
}

static void
take_out(CacheEntry *entry)
{
	dlist_delete(&entry->node);
	*(entry->hot ? &hot_bytes : &cold_bytes) -= entry->bytes;
}

void
cache_forget(CacheEntry *entry)
{
	Assert(entry->linked);
	take_out(entry);
	entry->linked = false;
	entry->unlink(entry);
	Assert(!dlist_is_empty(&hot) || hot_bytes == 0);
	Assert(!dlist_is_empty(&cold) || cold_bytes == 0);
	if (entry->pins == 0)
		MemoryContextDelete(entry->cxt);
}

static CacheEntry *
last_unpinned(dlist_head *list)
{
	dlist_iter i;

	dlist_reverse_foreach(i, list)
	{
		CacheEntry *entry = dlist_container(CacheEntry, node, i.cur);

		if (entry->pins == 0)
			return entry;
	}
	return NULL;
}

static void
trim(void)
{
	Size budget = cache_budget();

	while (hot_bytes > budget / 4 * 3 && !dlist_is_empty(&hot))
	{
		CacheEntry *entry = dlist_tail_element(CacheEntry, node, &hot);

		take_out(entry);
		add_to(entry, false);
	}
	while (hot_bytes + cold_bytes > budget)
	{
		CacheEntry *victim = last_unpinned(&cold);

		if (victim == NULL)
			victim = last_unpinned(&hot);
		if (victim == NULL)
			break;
		cache_forget(victim);
	}
}

/* entry->bytes: what it holds beside its context's memory. It counts as it is while the entry is in a list. */
static void
keep(CacheEntry *entry)
{
	entry->pins = 1;
	entry->bytes += MemoryContextMemAllocated(entry->cxt, true);
	MemoryContextSetParent(entry->cxt, CacheMemoryContext);
}

void
cache_keep(CacheEntry *entry, void (*unlink)(CacheEntry *))
{
	keep(entry);
	entry->unlink = unlink;
	entry->linked = true;
	add_to(entry, false);
	trim();
}

void
cache_keep_private(CacheEntry *entry)
{
	keep(entry);
	entry->linked = false;
}

void
cache_pin(CacheEntry *entry)
{
	entry->pins++;
	if (!entry->linked)
		return;
	take_out(entry);
	add_to(entry, true);
	trim();
}

void
cache_unpin(CacheEntry *entry)
{
	if (--entry->pins == 0 && !entry->linked)
		MemoryContextDelete(entry->cxt);
}

/* bytes: beside what the context has allocated. */
void
cache_resize(CacheEntry *entry, Size bytes)
{
	bool linked = entry->linked;

	if (linked)
		take_out(entry);
	entry->bytes = bytes + MemoryContextMemAllocated(entry->cxt, true);
	if (linked)
	{
		add_to(entry, entry->hot);
		trim();
	}
}

/* ---- invalidation ---------------------------------------------------------------------------------------------- */

static void
forget_in(dlist_head *list, Oid relid)
{
	dlist_mutable_iter i;

	dlist_foreach_modify(i, list)
	{
		CacheEntry *entry = dlist_container(CacheEntry, node, i.cur);

		if (relid == InvalidOid || entry->relid == relid)
			cache_forget(entry);
	}
}

static void
at_invalidation(Datum arg, Oid relid)
{
	forget_in(&cold, relid);
	forget_in(&hot, relid);
}

void
cache_init(void)
{
	static bool registered = false;

	if (registered)
		return;
	CacheRegisterRelcacheCallback(at_invalidation, (Datum) 0);
	registered = true;
}
