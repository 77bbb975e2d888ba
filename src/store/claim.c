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
#include "utils/snapmgr.h"

#include "compat/compat.h"
#include "store/record.h"

static bool
same_text(const text *t, const uint8 *p, uint32 len)
{
	return VARSIZE_ANY_EXHDR(t) == len && memcmp(VARDATA_ANY(t), p, len) == 0;
}

/* The segment of a group, looked up among tuples of any state: a group record never changes. */
static bool
group_is_of_segment(Relation rel, uint32 group_no, const text *segment_id)
{
	RecordScan scan;
	HeapTuple tuple;
	bool same = false;

	record_scan_begin(&scan, rel, SnapshotAny);
	while ((tuple = record_scan_next(&scan)) != NULL)
	{
		StoreKind kind;
		uint32 no;
		uint32 a;
		StoreRecord *rec;
		const uint8 *body;

		if (!record_peek(tuple, &kind, &no, &a) || kind != STORE_GROUP || no != group_no)
			continue;
		rec = record_parse(rel, tuple);
		body = store_body(rel, rec);
		same = rec->body_len >= 5 && same_text(segment_id, body + 5, Min(bytes_get_u32(body + 1), rec->body_len - 5));
		if (same)
			break;
	}
	record_scan_end(&scan);
	return same;
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

/* The first claim of the name in an instance's record whose segment is not the record's. */
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
		if (same_text(names->claims[i].segment_instance_id, name, len) &&
			!group_is_of_segment(rel, rec->group_no, names->claims[i].segment_id))
			return i;
	return -1;
}

int
store_foreign_instance(Relation rel, const StoreClaim *claims, int n, const StoreFreeSlots *free, int n_free,
					   TransactionId *wait_for)
{
	SnapshotData dirty;
	RecordScan scan;
	HeapTuple tuple;
	Names names;
	int found = -1;

	*wait_for = InvalidTransactionId;
	index_names(&names, claims, n);
	InitDirtySnapshot(dirty);
	record_scan_begin(&scan, rel, &dirty);
	while (found < 0 && (tuple = record_scan_next(&scan)) != NULL)
	{
		TransactionId xmin = dirty.xmin;
		TransactionId xmax = dirty.xmax;
		StoreKind kind;
		uint32 group_no;
		uint32 slot;
		StoreRecord *rec;

		CHECK_FOR_INTERRUPTS();
		if (!record_peek(tuple, &kind, &group_no, &slot) || kind != STORE_INSTANCE ||
			is_free(free, n_free, group_no, slot))
			continue;
		rec = record_parse(rel, tuple);
		found = claim_of(rel, &names, rec);
		pfree(rec);
		if (found >= 0)
			*wait_for = TransactionIdIsValid(xmin) ? xmin : xmax;
	}
	record_scan_end(&scan);
	pfree(names.first);
	pfree(names.next);
	return found;
}
