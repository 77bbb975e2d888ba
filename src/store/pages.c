/*
 * pages.c
 *    The records that an MVCC snapshot sees, page by page; and what has to stay as it is so that another snapshot sees
 *    the same.
 *
 * What a snapshot sees of a page follows from the page's tuples and from the state of the transactions that they name.
 * A tuple does not change without the page's LSN moving, as long as the relation is WAL-logged: hints alone are exempt.
 * A transaction's state is final once it has ended, and a snapshot for which it has not yet ended takes it for running.
 * So two snapshots see the same records if the pages are the same by number and LSN, and every transaction that is
 * named on them had ended for both.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/snapmgr.h"

#include "compat/compat.h"
#include "store/pages.h"

/* With more transactions than that, a snapshot's own view is not worth remembering. */
#define MAX_RECENT 4096

/*
 * Storage that is new in this transaction may be written without WAL, and goes away with it. At SERIALIZABLE reading is
 * what detects conflicts, so nothing may be left out.
 */
bool
pages_may_share(Relation rel, Snapshot snapshot)
{
	return snapshot->snapshot_type == SNAPSHOT_MVCC && RelationNeedsWAL(rel) && !compat_has_new_storage(rel) &&
		   !IsolationIsSerializable() && !compat_old_snapshots_expire();
}

/* ---- reading -------------------------------------------------------------------------------------------------- */

static void
note_xid(PageMarks *marks, Snapshot snapshot, TransactionId xid)
{
	if (!TransactionIdIsNormal(xid) || !marks->settled)
		return;
	if (TransactionIdPrecedes(xid, snapshot->xmin))
	{
		if (!TransactionIdIsValid(marks->newest) || TransactionIdFollows(xid, marks->newest))
			marks->newest = xid;
		return;
	}
	for (int i = marks->n_recent - 1; i >= 0; i--)
		if (marks->recent[i] == xid)
			return;
	if (marks->n_recent == MAX_RECENT || TransactionIdIsCurrentTransactionId(xid) || XidInMVCCSnapshot(xid, snapshot))
	{
		marks->settled = false;
		return;
	}
	if (marks->n_recent == marks->cap_recent)
	{
		marks->cap_recent = marks->cap_recent ? marks->cap_recent * 2 : 16;
		marks->recent = marks->recent ? repalloc(marks->recent, sizeof(TransactionId) * marks->cap_recent)
									  : palloc(sizeof(TransactionId) * marks->cap_recent);
	}
	marks->recent[marks->n_recent++] = xid;
}

/*
 * The transactions that the tuple's visibility depends on. Records are only ever inserted and deleted, so locks and
 * whatever else may stand in xmax are not looked into. Those of this transaction are before snapshot->xmin in no case
 * where it has an xid: that bounds every snapshot's xmin.
 */
static void
note_tuple(PageMarks *marks, Snapshot snapshot, HeapTupleHeader tuple)
{
	if (tuple->t_infomask & HEAP_MOVED)
		marks->settled = false;
	if (!HeapTupleHeaderXminFrozen(tuple) && !HeapTupleHeaderXminInvalid(tuple))
		note_xid(marks, snapshot, HeapTupleHeaderGetRawXmin(tuple));
	if (tuple->t_infomask & HEAP_XMAX_INVALID)
		return;
	if (tuple->t_infomask & HEAP_XMAX_IS_MULTI || HEAP_XMAX_IS_LOCKED_ONLY(tuple->t_infomask))
		marks->settled = false;
	else
		note_xid(marks, snapshot, HeapTupleHeaderGetRawXmax(tuple));
}

bool
page_tuple(Relation rel, Buffer buffer, OffsetNumber at, HeapTuple tuple)
{
	Page page = BufferGetPage(buffer);
	ItemId item = PageGetItemId(page, at);

	if (!ItemIdIsNormal(item))
		return false;
	tuple->t_data = (HeapTupleHeader) PageGetItem(page, item);
	tuple->t_len = ItemIdGetLength(item);
	tuple->t_tableOid = RelationGetRelid(rel);
	ItemPointerSet(&tuple->t_self, BufferGetBlockNumber(buffer), at);
	return true;
}

/* Which tuples of the page the snapshot sees. The LSN is read while nobody can change more than hints. */
static int
visible_tuples(Relation rel, Buffer buffer, Snapshot snapshot, PageMarks *marks, OffsetNumber *visible)
{
	Page page;
	OffsetNumber last;
	int n = 0;

	heap_page_prune_opt(rel, buffer);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	compat_test_old_snapshot(snapshot, rel, page);
	last = PageGetMaxOffsetNumber(page);
	for (OffsetNumber at = FirstOffsetNumber; at <= last; at = OffsetNumberNext(at))
	{
		HeapTupleData tuple;

		if (!page_tuple(rel, buffer, at, &tuple))
			continue;
		if (HeapTupleSatisfiesVisibility(&tuple, snapshot, buffer))
			visible[n++] = at;
		note_tuple(marks, snapshot, tuple.t_data);
	}
	marks->lsn[BufferGetBlockNumber(buffer)] = BufferGetLSNAtomic(buffer);
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	return n;
}

/*
 * Not for SERIALIZABLE, whose bookkeeping is heapam's. A pin is enough while a visible tuple is looked at: nobody moves
 * or removes it under a pin.
 */
void
pages_read(Relation rel, Snapshot snapshot, PageMarks *marks, void (*take)(void *arg, HeapTuple tuple), void *arg)
{
	BlockNumber n = RelationGetNumberOfBlocks(rel);
	BufferAccessStrategy strategy = n > (BlockNumber) NBuffers / 4 ? GetAccessStrategy(BAS_BULKREAD) : NULL;
	OffsetNumber visible[MaxHeapTuplesPerPage];

	*marks = (PageMarks){.n_pages = n, .settled = true};
	marks->lsn = palloc_extended(sizeof(XLogRecPtr) * Max(n, 1), MCXT_ALLOC_HUGE);
	for (BlockNumber block = 0; block < n; block++)
	{
		Buffer buffer;
		int n_visible;

		CHECK_FOR_INTERRUPTS();
		buffer = ReadBufferExtended(rel, MAIN_FORKNUM, block, RBM_NORMAL, strategy);
		n_visible = visible_tuples(rel, buffer, snapshot, marks, visible);
		for (int i = 0; i < n_visible; i++)
		{
			HeapTupleData tuple;

			page_tuple(rel, buffer, visible[i], &tuple);
			take(arg, &tuple);
		}
		ReleaseBuffer(buffer);
	}
	if (strategy)
		FreeAccessStrategy(strategy);
}

/* ---- checking -------------------------------------------------------------------------------------------------- */

static bool
ended_for(const PageMarks *marks, Snapshot snapshot)
{
	if (TransactionIdIsValid(marks->newest) && !TransactionIdPrecedes(marks->newest, snapshot->xmin))
		return false;
	for (int i = 0; i < marks->n_recent; i++)
		if (XidInMVCCSnapshot(marks->recent[i], snapshot))
			return false;
	return true;
}

/*
 * Does the snapshot see what the one saw that the marks were made for? Who changes a page sets its LSN before it
 * commits, so before a snapshot can be taken that sees the change; a change that comes after the look at its page is
 * one that the snapshot does not see. Changes of this transaction show in the LSN as others' do.
 */
bool
pages_unchanged(Relation rel, Snapshot snapshot, const PageMarks *marks)
{
	if (!marks->settled || RelationGetNumberOfBlocks(rel) != marks->n_pages || !ended_for(marks, snapshot))
		return false;
	for (BlockNumber block = 0; block < marks->n_pages; block++)
	{
		Buffer buffer = ReadBuffer(rel, block);
		bool same = BufferGetLSNAtomic(buffer) == marks->lsn[block];

		ReleaseBuffer(buffer);
		if (!same)
			return false;
	}
	return true;
}
