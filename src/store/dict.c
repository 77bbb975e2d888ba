/*
 * dict.c
 *    The backend's copies of dictionaries, and the growth of a dictionary on disk.
 *
 * A dictionary grows outside of transactions: new records are inserted frozen under the short lock, so they are
 * visible to all at once and survive an abort. Entries that no cell refers to are harmless. Not so after an erasure
 * that is still to be committed: should it be taken back, whoever has come again since would have two numbers. Nobody
 * else writes until then, so what the dictionary grows by belongs to that transaction too.
 *
 * Cached copies are keyed by relation, file and generation, and each loaded record by its ordinal and checksum;
 * "unknown" is never cached.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat/compat.h"
#include "store/record.h"

#define MAX_CACHED 16

int store_dictionary_cache_kb = 65536;

/* Dictionaries in use by this backend. Entries that changed on disk are unlinked and freed by their last user. */
static List *cached_dicts = NIL;

typedef struct LoadedRecord
{
	uint32 first; /* hash key */
	uint32 checksum;
} LoadedRecord;

static int
header_shift(void)
{
#ifdef WORDS_BIGENDIAN
	return 0;
#else
	return 2;
#endif
}

static void
destroy(StoreDict *d)
{
	cseg_dict_free(d->dict);
	hash_destroy(d->loaded);
	pfree(d);
}

static StoreDict *
create(Relation rel, uint32 generation)
{
	HASHCTL ctl = {.keysize = sizeof(uint32), .entrysize = sizeof(LoadedRecord), .hcxt = CacheMemoryContext};
	MemoryContext old = MemoryContextSwitchTo(CacheMemoryContext);
	StoreDict *d = palloc0(sizeof(StoreDict));

	d->relid = RelationGetRelid(rel);
	d->relnode = compat_relnumber(rel);
	d->generation = generation;
	d->loaded = hash_create("customer_segmentation dictionary", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	cached_dicts = lappend(cached_dicts, d);
	MemoryContextSwitchTo(old);
	CSEG_CALL(rel, cseg_dict_new(&d->dict, header_shift(), &err));
	return d;
}

static void
unlink_dict(StoreDict *d)
{
	cached_dicts = list_delete_ptr(cached_dicts, d);
	d->stale = true;
	if (d->refcount == 0)
		destroy(d);
}

/* Another file of the same relation means that the old one is gone, for this transaction at least. */
static StoreDict *
find(Relation rel, uint32 generation)
{
	ListCell *lc;

	foreach (lc, cached_dicts)
	{
		StoreDict *d = lfirst(lc);

		if (d->relid != RelationGetRelid(rel))
			continue;
		if (d->relnode == compat_relnumber(rel) && d->generation == generation)
			return d;
		if (d->refcount == 0)
		{
			unlink_dict(d);
			return find(rel, generation);
		}
	}
	return NULL;
}

/* Are all records that the copy holds among the view's? A copy may lag behind, it must not differ. */
static bool
is_prefix(const StoreDict *d, StoreRecord *const *recs, int n)
{
	long loaded = hash_get_num_entries(d->loaded);
	long matched = 0;

	for (int i = 0; i < n && matched < loaded; i++)
	{
		LoadedRecord *l = hash_search(d->loaded, &recs[i]->a, HASH_FIND, NULL);

		if (l == NULL)
			continue;
		if (l->checksum != recs[i]->checksum)
			return false;
		matched++;
	}
	return matched == loaded;
}

static void
load(Relation rel, StoreDict *d, const StoreRecord *rec)
{
	LoadedRecord *l = hash_search(d->loaded, &rec->a, HASH_FIND, NULL);
	const uint8 *body;
	bool found;

	if (l)
		return;
	CHECK_FOR_INTERRUPTS();
	body = store_body(rel, rec);
	CSEG_CALL(rel, cseg_dict_add(d->dict, rec->a, body, rec->body_len, &err));
	if (body != rec->inline_body)
		pfree(unconstify(uint8 *, body) - VARHDRSZ);
	l = hash_search(d->loaded, &rec->a, HASH_ENTER, &found);
	l->checksum = rec->checksum;
}

typedef struct Reference
{
	MemoryContextCallback callback;
	StoreDict *dict;
} Reference;

static void
release(void *arg)
{
	Reference *r = arg;

	if (--r->dict->refcount == 0 && r->dict->stale)
		destroy(r->dict);
}

void
store_dict_hold(StoreDict *d, MemoryContext cxt)
{
	Reference *r = MemoryContextAllocZero(cxt, sizeof(Reference));

	r->dict = d;
	r->callback.func = release;
	r->callback.arg = r;
	d->refcount++;
	MemoryContextRegisterResetCallback(cxt, &r->callback);
}

static StoreDict *
acquire(Relation rel, StoreRecord *const *recs, int n, uint32 generation, MemoryContext cxt)
{
	StoreDict *d = find(rel, generation);

	if (d && !is_prefix(d, recs, n))
	{
		unlink_dict(d);
		d = NULL;
	}
	if (d == NULL)
		d = create(rel, generation);
	store_dict_hold(d, cxt);
	for (int i = 0; i < n; i++)
		load(rel, d, recs[i]);
	return d;
}

StoreDict *
store_dict_acquire(Relation rel, const StoreView *view, MemoryContext cxt)
{
	return acquire(rel, view->dict, view->n_dict, view->generation, cxt);
}

/* Brings a held dictionary up to the view; takes another one if the held one no longer fits. */
void
store_dict_sync(Relation rel, StoreDict **dict, const StoreView *view, MemoryContext cxt)
{
	StoreDict *d = *dict;

	if (d == NULL || d->stale || d->generation != view->generation || d->relnode != compat_relnumber(rel) ||
		!is_prefix(d, view->dict, view->n_dict))
	{
		*dict = store_dict_acquire(rel, view, cxt);
		return;
	}
	for (int i = 0; i < view->n_dict; i++)
		load(rel, d, view->dict[i]);
}

/* ---- growth -------------------------------------------------------------------------------------------------- */

typedef struct DictRecords
{
	StoreRecord **recs; /* of every generation and in any state, until only the present one is kept */
	int n;
	int cap;
	uint32 next; /* one past the greatest ordinal of the generation, of a record in any state */
	bool has_root;
	bool replaces; /* this transaction has deleted some of the generation's */
	uint32 generation;
} DictRecords;

/* Ordinals of records in any state count as taken: an ordinal never changes its owner while anybody may look at it. */
static void
keep_generation(DictRecords *d, const bool *visible, const bool *deleted)
{
	int n = 0;

	for (int i = 0; i < d->n; i++)
	{
		StoreRecord *rec = d->recs[i];

		if (rec->group_no != d->generation)
			continue;
		d->next = Max(d->next, rec->a + rec->b);
		d->replaces |= deleted[i];
		if (visible[i] && rec->b > 0)
			d->recs[n++] = rec;
	}
	d->n = n;
}

static bool
deleted_by_us(HeapTuple tuple)
{
	return (tuple->t_data->t_infomask & (HEAP_XMAX_INVALID | HEAP_XMAX_IS_MULTI)) == 0 &&
		   TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetRawXmax(tuple->t_data));
}

/* All dictionary records as of now: the caller holds the lock of writers, so that nobody else is replacing them. */
static void
read_dict_records(Relation rel, DictRecords *out)
{
	RecordScan scan;
	HeapTuple tuple;
	bool *visible = NULL;
	bool *deleted = NULL;

	memset(out, 0, sizeof(*out));
	record_scan_begin(&scan, rel, SnapshotAny);
	while ((tuple = record_scan_next(&scan)) != NULL)
	{
		StoreKind kind;
		uint32 generation;
		uint32 first;
		StoreRecord *rec;

		if (!record_peek(tuple, &kind, &generation, &first) || kind != STORE_DICT)
			continue;
		rec = record_parse(rel, tuple);
		if (rec->a > CSEG_MAX_ORDINAL || rec->b > CSEG_MAX_ORDINAL - rec->a)
			record_corrupt(rel, &rec->tid, "ordinals out of range");
		if (out->n == out->cap)
		{
			out->cap = out->cap ? out->cap * 2 : 64;
			out->recs = out->recs ? repalloc_huge(out->recs, sizeof(StoreRecord *) * out->cap)
								  : palloc(sizeof(StoreRecord *) * out->cap);
			visible = visible ? repalloc_huge(visible, out->cap) : palloc(out->cap);
			deleted = deleted ? repalloc_huge(deleted, out->cap) : palloc(out->cap);
		}
		visible[out->n] = record_scan_visible(&scan, SnapshotSelf);
		deleted[out->n] = deleted_by_us(tuple);
		if (visible[out->n] && (rec->flags & STORE_FLAG_ROOT) != 0)
		{
			out->has_root = true;
			out->generation = rec->group_no;
		}
		out->recs[out->n++] = rec;
	}
	record_scan_end(&scan);
	if (out->has_root)
		keep_generation(out, visible, deleted);
	else
		out->n = 0;
}

/*
 * Has another transaction replaced the whole dictionary by that of the generation, and with it all addresses, since the
 * backend's oldest snapshot? Until then VACUUM leaves the old one's records.
 */
bool
store_rewritten_since_snapshot(Relation rel, uint32 generation)
{
	RecordScan scan;
	HeapTuple tuple;
	bool rewritten = false;

	record_scan_begin(&scan, rel, SnapshotAny);
	while (!rewritten && (tuple = record_scan_next(&scan)) != NULL)
	{
		TransactionId xmax = HeapTupleHeaderGetRawXmax(tuple->t_data);
		StoreKind kind;
		uint32 of_record;
		uint32 first;

		if (!record_peek(tuple, &kind, &of_record, &first) || kind != STORE_DICT || of_record == generation)
			continue;
		rewritten = (tuple->t_data->t_infomask & (HEAP_XMAX_INVALID | HEAP_XMAX_IS_MULTI)) == 0 &&
					TransactionIdFollowsOrEquals(xmax, MyProc->xmin) && !TransactionIdIsCurrentTransactionId(xmax) &&
					TransactionIdDidCommit(xmax);
	}
	record_scan_end(&scan);
	return rewritten;
}

/* As if the transaction's first command had written it: none of its snapshots may see rows, but not whose they are. */
static void
grow(Relation rel, StoreDict *d, CsegBatch *batch, uint32 first, bool root, bool frozen)
{
	const uint8 *bytes;
	size_t len;
	uint32 count;
	StoreBody body;
	uint32 checksum;
	LoadedRecord *l;
	bool found;

	CSEG_CALL(rel, cseg_batch_growth(batch, d->dict, &bytes, &len, &count, &err));
	if (count == 0)
		return;
	if (first > CSEG_MAX_ORDINAL || count > CSEG_MAX_ORDINAL - first)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("relation \"%s\" has no room for more customers", RelationGetRelationName(rel)),
						errdetail("The limit is %u distinct identities.", CSEG_MAX_ORDINAL)));
	store_save_body(rel, &body, bytes, len, frozen);
	checksum = store_insert(rel, STORE_DICT, root ? STORE_FLAG_ROOT : 0, d->generation, first, count, 0, &body,
							frozen ? GetCurrentCommandId(true) : FirstCommandId, frozen);
	CSEG_CALL(rel, cseg_dict_add(d->dict, first, (const uint8 *) body.data.data + VARHDRSZ, len, &err));
	l = hash_search(d->loaded, &first, HASH_ENTER, &found);
	l->checksum = checksum;
	pfree(body.data.data);
}

/*
 * The short lock is held from reading the records to inserting the new one, not to the end of the transaction. An
 * error in between releases it with the transaction's locks.
 */
void
store_dict_resolve(Relation rel, StoreDict **dict, CsegBatch *batch, uint32 generation, MemoryContext cxt)
{
	MemoryContext work =
		AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation dictionary growth", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(work);
	DictRecords now;
	StoreDict *d;

	store_short_lock(rel);
	read_dict_records(rel, &now);
	records_sort(now.recs, now.n);
	d = *dict;
	/* A copy made while there was no dictionary has no generation: the one that is started now must have its own. */
	if (now.has_root)
		generation = now.generation;
	if (d == NULL || d->stale || d->relnode != compat_relnumber(rel) || d->generation != generation ||
		!is_prefix(d, now.recs, now.n))
		d = acquire(rel, now.recs, now.n, generation, cxt);
	else
	{
		for (int i = 0; i < now.n; i++)
			load(rel, d, now.recs[i]);
	}
	*dict = d;
	grow(rel, d, batch, now.next, !now.has_root, !now.replaces);
	store_short_unlock(rel);
	CSEG_CALL(rel, cseg_batch_resolve(batch, d->dict, &err));
	MemoryContextSwitchTo(old);
	MemoryContextDelete(work);
}

/* Of relations that were dropped or truncated, and of sessions that go through many. */
static void
drop_oldest(void)
{
	while (list_length(cached_dicts) > MAX_CACHED)
	{
		StoreDict *oldest = NULL;
		ListCell *lc;

		foreach (lc, cached_dicts)
		{
			oldest = lfirst(lc);
			if (oldest->refcount == 0)
				break;
			oldest = NULL;
		}
		if (oldest == NULL)
			return;
		unlink_dict(oldest);
	}
}

/* Called between statements: keeps the backend within its setting. */
void
store_dict_trim(void)
{
	size_t budget = (size_t) store_dictionary_cache_kb * 1024;
	ListCell *lc;

	drop_oldest();
	foreach (lc, cached_dicts)
	{
		StoreDict *d = lfirst(lc);

		cseg_dict_trim(d->dict, budget);
		budget -= Min(budget, cseg_dict_bytes(d->dict));
	}
}
