/*
 * cache.h
 *    What a backend keeps of relations beyond a transaction, within customer_segmentation.cell_cache. Private to the
 *    store: cells.c and views.c say what identifies an entry; here is how long it stays.
 */
#ifndef CSEG_STORE_CACHE_H
#define CSEG_STORE_CACHE_H

#include "postgres.h"

#include "lib/ilist.h"

#include "store/store.h"

/* The first member of what is cached. The entry lives in cxt, with everything that it holds. */
typedef struct CacheEntry
{
	dlist_node node;
	MemoryContext cxt;
	Oid relid;
	Size bytes;
	int pins;
	bool linked; /* can be found; else it goes with its last pin */
	bool hot;
	void (*unlink)(struct CacheEntry *entry); /* out of the tables that find it */
} CacheEntry;

/* Keeps an entry whose context is complete, with one pin, and makes room for it. Nothing here raises. */
extern void cache_keep(CacheEntry *entry, void (*unlink)(CacheEntry *));
/* As keep, but nobody will find it. */
extern void cache_keep_private(CacheEntry *entry);
extern void cache_pin(CacheEntry *entry);
extern void cache_unpin(CacheEntry *entry);
extern void cache_resize(CacheEntry *entry, Size bytes);
extern void cache_forget(CacheEntry *entry);
extern Size cache_budget(void);
extern Size cache_used(void);
/* Before anything is looked for: entries of relations that change are forgotten from then on. */
extern void cache_init(void);

#endif /* CSEG_STORE_CACHE_H */
