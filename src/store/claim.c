/*
 * claim.c
 *    Does a segment_instance_id belong to another segment?
 *
 * Whoever writes records of new instances asks under the short lock, and inserts them before letting go of it, so that
 * of two transactions that claim a name one sees the other's record.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat/compat.h"
#include "store/record.h"

static bool
same_text(const text *t, const uint8 *p, uint32 len)
{
	return VARSIZE_ANY_EXHDR(t) == len && memcmp(VARDATA_ANY(t), p, len) == 0;
}

/* The names by hash: heads and next ones are indexes of claims, -1 the end. */
typedef struct Names
{
	const StoreClaim *claims;
	uint32 mask;
	int *first;
	int *next;
} Names;

static void
index_names(Names *names, const StoreClaim *claims, int n)
{
	uint32 size = pg_nextpower2_32((uint32) Max(n, 8));

	names->claims = claims;
	names->mask = size - 1;
	names->first = palloc_extended(sizeof(int) * size, MCXT_ALLOC_HUGE);
	names->next = palloc_extended(sizeof(int) * Max(n, 1), MCXT_ALLOC_HUGE);
	memset(names->first, -1, sizeof(int) * size);
	for (int i = 0; i < n; i++)
	{
		int *first = &names->first[store_text_hash(claims[i].segment_instance_id) & names->mask];

		names->next[i] = *first;
		*first = i;
	}
}

static bool
is_free(const StoreFreeSlots *free, int n_free, uint32 group_no, uint32 slot)
{
	for (int i = 0; i < n_free; i++)
		if (free[i].group_no == group_no && free[i].slot == slot)
			return true;
	return false;
}

/* A record of a claimed name. */
typedef struct Hit
{
	int claim;
	uint32 group_no;
	TransactionId wait_for;
	bool own_segment;
} Hit;

typedef struct Hits
{
	Hit *hits;
	int n;
	int cap;
} Hits;

static void
add_hit(Hits *h, Hit hit)
{
	if (h->n == h->cap)
	{
		h->cap = Max(h->cap * 2, 16);
		h->hits = h->hits ? repalloc_huge(h->hits, sizeof(Hit) * h->cap) : palloc(sizeof(Hit) * h->cap);
	}
	h->hits[h->n++] = hit;
}

/* The first claim of the name in an instance's record, or -1: all claims of one name are for one segment. */
static int
claim_of(Relation rel, const Names *names, const StoreRecord *rec)
{
	const uint8 *body = store_body(rel, rec);
	const uint8 *name = body + 12;
	uint32 len;

	if (rec->body_len < 12)
		record_corrupt(rel, &rec->tid, "body is too short");
	len = Min(bytes_get_u32(body + 8), rec->body_len - 12);
	for (int i = names->first[store_bytes_hash(name, len) & names->mask]; i >= 0; i = names->next[i])
		if (same_text(names->claims[i].segment_instance_id, name, len))
			return i;
	return -1;
}

static void
find_hits(Relation rel, const StoreClaim *claims, int n, const StoreFreeSlots *free, int n_free, Hits *hits)
{
	/* Names may be long, and there may be many of them. */
	MemoryContext cxt =
		AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation names", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;
	SnapshotData dirty;
	RecordScan scan;
	HeapTuple tuple;
	Names names;

	index_names(&names, claims, n);
	InitDirtySnapshot(dirty);
	record_scan_begin(&scan, rel, &dirty);
	while ((tuple = record_scan_next(&scan)) != NULL)
	{
		TransactionId wait_for = TransactionIdIsValid(dirty.xmin) ? dirty.xmin : dirty.xmax;
		StoreKind kind;
		uint32 group_no;
		uint32 slot;
		int claim;

		CHECK_FOR_INTERRUPTS();
		if (!record_peek(tuple, &kind, &group_no, &slot) || kind != STORE_INSTANCE ||
			is_free(free, n_free, group_no, slot))
			continue;
		old = MemoryContextSwitchTo(cxt);
		claim = claim_of(rel, &names, record_parse(rel, tuple));
		MemoryContextSwitchTo(old);
		MemoryContextReset(cxt);
		if (claim >= 0)
			add_hit(hits, (Hit){claim, group_no, wait_for, false});
	}
	record_scan_end(&scan);
	MemoryContextDelete(cxt);
	pfree(names.first);
	pfree(names.next);
}

static bool
is_of_segment(Relation rel, HeapTuple tuple, const text *segment_id)
{
	const StoreRecord *rec = record_parse(rel, tuple);
	const uint8 *body = store_body(rel, rec);

	return rec->body_len >= 5 && same_text(segment_id, body + 5, Min(bytes_get_u32(body + 1), rec->body_len - 5));
}

static int
by_group(const void *a, const void *b)
{
	uint32 x = ((const Hit *) a)->group_no;
	uint32 y = ((const Hit *) b)->group_no;

	return x < y ? -1 : x > y;
}

/* The first of the hits, which are sorted, in this group or one behind it. */
static int
first_in_group(const Hits *hits, uint32 group_no)
{
	int lo = 0;
	int hi = hits->n;

	while (lo < hi)
	{
		int mid = (lo + hi) / 2;

		if (hits->hits[mid].group_no < group_no)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/*
 * Which hits are of the segment that claims the name: one pass for all of them, since there are thousands where
 * instances get rows of other dimensions. Groups are looked up among tuples of any state (a group record never
 * changes), but only those: the body of a dead one may be gone from the TOAST table.
 */
static void
compare_segments(Relation rel, const StoreClaim *claims, Hits *hits)
{
	MemoryContext cxt =
		AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation groups", ALLOCSET_DEFAULT_SIZES);
	RecordScan scan;
	HeapTuple tuple;

	qsort(hits->hits, hits->n, sizeof(Hit), by_group);
	record_scan_begin(&scan, rel, SnapshotAny);
	while ((tuple = record_scan_next(&scan)) != NULL)
	{
		StoreKind kind;
		uint32 group_no;
		uint32 a;
		MemoryContext old;

		if (!record_peek(tuple, &kind, &group_no, &a) || kind != STORE_GROUP)
			continue;
		old = MemoryContextSwitchTo(cxt);
		for (int i = first_in_group(hits, group_no); i < hits->n && hits->hits[i].group_no == group_no; i++)
			hits->hits[i].own_segment |= is_of_segment(rel, tuple, claims[hits->hits[i].claim].segment_id);
		MemoryContextSwitchTo(old);
		MemoryContextReset(cxt);
	}
	record_scan_end(&scan);
	MemoryContextDelete(cxt);
}

int
store_foreign_instance(Relation rel, const StoreClaim *claims, int n, const StoreFreeSlots *free, int n_free,
					   TransactionId *wait_for)
{
	Hits hits = {NULL, 0, 0};
	int found = -1;

	*wait_for = InvalidTransactionId;
	find_hits(rel, claims, n, free, n_free, &hits);
	if (hits.n == 0)
		return -1;
	compare_segments(rel, claims, &hits);
	for (int i = 0; i < hits.n && found < 0; i++)
		if (!hits.hits[i].own_segment)
		{
			found = hits.hits[i].claim;
			*wait_for = hits.hits[i].wait_for;
		}
	pfree(hits.hits);
	return found;
}
