/*
 * views.c
 *    Views that outlive the transaction: what a snapshot has seen of a relation is handed to the next one that sees the
 *    same (pages.c says when), so that a query on a table that nobody changed does not read a thousand records again.
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "compat/compat.h"
#include "store/cache.h"
#include "store/views.h"

typedef struct StoreSharedView
{
	CacheEntry entry;
	CompatRelFileLocator file;
	PageMarks marks;
	StoreView *view;
} SharedView;

typedef struct TableEntry
{
	Oid relid;
	SharedView *view;
} TableEntry;

static struct HTAB *table = NULL;

static void
start(void)
{
	HASHCTL ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(TableEntry), .hcxt = CacheMemoryContext};

	if (table)
		return;
	cache_init();
	table = hash_create("customer_segmentation views", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static void
unlink_view(CacheEntry *entry)
{
	hash_search(table, &entry->relid, HASH_REMOVE, NULL);
}

static void
unpin(void *arg)
{
	cache_unpin(arg);
}

static SharedView *
find(Relation rel)
{
	Oid relid = RelationGetRelid(rel);
	TableEntry *t = hash_search(table, &relid, HASH_FIND, NULL);

	return t ? t->view : NULL;
}

static void
publish(SharedView *v)
{
	SharedView *other = NULL;
	bool found;
	TableEntry *t = hash_search(table, &v->entry.relid, HASH_FIND, NULL);

	if (t)
		other = t->view;
	if (other)
		cache_forget(&other->entry);
	t = hash_search(table, &v->entry.relid, HASH_ENTER, &found);
	t->view = v;
	cache_keep(&v->entry, unlink_view);
}

static SharedView *
build(Relation rel, Snapshot snapshot, bool with_marks)
{
	MemoryContext cxt =
		AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation cached view", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	SharedView *v = palloc0(sizeof(SharedView));

	v->entry.cxt = cxt;
	v->entry.relid = RelationGetRelid(rel);
	v->file = compat_locator(rel);
	v->view = view_build(rel, snapshot, cxt, with_marks ? &v->marks : NULL);
	v->view->shared = v;
	MemoryContextSwitchTo(old);
	return v;
}

#ifdef CSEG_CHECK_VIEWS
static bool
same_record(const StoreRecord *a, const StoreRecord *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return ItemPointerCompare(unconstify(ItemPointerData *, &a->tid), unconstify(ItemPointerData *, &b->tid)) == 0 &&
		   a->checksum == b->checksum;
}

static bool
same_cell(const StoreCell *a, const StoreCell *b)
{
	if (a->cell_no != b->cell_no || a->n_deltas != b->n_deltas || !same_record(a->base, b->base))
		return false;
	for (int i = 0; i < a->n_deltas; i++)
		if (!same_record(a->deltas[i], b->deltas[i]))
			return false;
	return true;
}

/* For trials (make COPT=-DCSEG_CHECK_VIEWS): what is shared is what reading would give. */
static void
check_view(Relation rel, Snapshot snapshot, const StoreView *view)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "check", ALLOCSET_DEFAULT_SIZES);
	StoreView *now = store_view(rel, snapshot, cxt);
	bool same =
		view->n_groups == now->n_groups && view->n_instances == now->n_instances && view->n_cells == now->n_cells;

	for (int i = 0; same && i < now->n_groups; i++)
		same = same_record(view->groups[i]->rec, now->groups[i]->rec);
	for (int i = 0; same && i < now->n_instances; i++)
		same = same_record(view->instances[i]->rec, now->instances[i]->rec);
	for (int i = 0; same && i < now->n_cells; i++)
		same = same_cell(view->cells[i], now->cells[i]);
	if (!same)
		elog(PANIC, "a shared view of relation \"%s\" is not what its snapshot sees", RelationGetRelationName(rel));
	MemoryContextDelete(cxt);
}
#else
#define check_view(rel, snapshot, view) ((void) 0)
#endif

static SharedView *
find_for(Relation rel, Snapshot snapshot, StoreOwner *owner)
{
	SharedView *v = find(rel);

	if (v == NULL || memcmp(&v->file, &compat_locator(rel), sizeof(v->file)) != 0)
		return NULL;
	cache_pin(&v->entry);
	store_owner_set(owner, v);
	if (pages_unchanged(rel, snapshot, &v->marks))
	{
		check_view(rel, snapshot, v->view);
		return v;
	}
	store_owner_set(owner, NULL);
	return NULL;
}

/*
 * The owner is made first, so that nothing can fail between the pin and its registration. A view that is not settled,
 * or large for the cache, goes with its last user.
 */
StoreView *
store_view_acquire(Relation rel, Snapshot snapshot, MemoryContext cxt)
{
	StoreOwner *owner = store_owner_new(cxt, unpin);
	bool share = pages_may_share(rel, snapshot) && cache_budget() > 0;
	SharedView *v;

	start();
	v = share ? find_for(rel, snapshot, owner) : NULL;
	if (v)
		return v->view;
	v = build(rel, snapshot, share);
	if (share && v->marks.settled && MemoryContextMemAllocated(v->entry.cxt, true) <= cache_budget() / 2)
		publish(v);
	else
		cache_keep_private(&v->entry);
	store_owner_set(owner, v);
	return v->view;
}

void
store_view_hold(StoreView *view, MemoryContext cxt)
{
	StoreOwner *owner = store_owner_new(cxt, unpin);

	cache_pin(&view->shared->entry);
	store_owner_set(owner, view->shared);
}

void
view_resized(StoreView *view)
{
	if (view->shared)
		cache_resize(&view->shared->entry, 0);
}
