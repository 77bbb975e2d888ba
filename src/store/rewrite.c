/*
 * rewrite.c
 *    VACUUM FULL: copies records as they are into a new file.
 *
 * Records keep their insertion and deletion marks (rewriteheap), so readers with old snapshots see the same after it
 * as before, as with heap. TOAST values keep their ids, so the bytes of records that refer to them stay as they are.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/heaptoast.h"
#include "access/rewriteheap.h"
#include "access/toast_internals.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"

#include "store/record.h"

static void
copy_toast_value(Relation OldTable, Relation NewTable, const StoreRecord *rec)
{
	struct varlena *old_pointer = (struct varlena *) unconstify(StoreRecord *, rec)->toast_pointer;
	const uint8 *bytes = store_body(OldTable, rec);
	Datum saved = toast_save_datum(NewTable, PointerGetDatum(bytes - VARHDRSZ), old_pointer, HEAP_INSERT_NO_LOGICAL);

	if (memcmp(DatumGetPointer(saved), rec->toast_pointer, TOAST_POINTER_SIZE) != 0)
		elog(ERROR, "TOAST value of relation \"%s\" did not keep its identity", RelationGetRelationName(OldTable));
}

static HTSV_Result
tuple_state(RecordScan *s, HeapTuple tuple, TransactionId OldestXmin)
{
	Buffer buffer = ((BufferHeapTupleTableSlot *) s->slot)->buffer;
	HTSV_Result result;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	result = HeapTupleSatisfiesVacuum(tuple, OldestXmin, buffer);
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	return result;
}

void
store_copy_for_cluster(Relation OldTable, Relation NewTable, TransactionId OldestXmin, TransactionId FreezeXid,
					   MultiXactId MultiXactCutoff, double *num_tuples, double *tups_vacuumed,
					   double *tups_recently_dead)
{
	RewriteState state = begin_heap_rewrite(OldTable, NewTable, OldestXmin, FreezeXid, MultiXactCutoff);
	MemoryContext work =
		AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation rewrite", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(work);
	RecordScan scan;
	HeapTuple tuple;

	MemoryContextSwitchTo(old);
	record_scan_begin(&scan, OldTable, SnapshotAny);
	while ((tuple = record_scan_next(&scan)) != NULL)
	{
		HTSV_Result result = tuple_state(&scan, tuple, OldestXmin);
		StoreRecord *rec;

		CHECK_FOR_INTERRUPTS();
		if (result == HEAPTUPLE_DEAD)
		{
			*tups_vacuumed += 1;
			if (rewrite_heap_dead_tuple(state, tuple))
				*tups_recently_dead -= 1;
			continue;
		}
		if (result == HEAPTUPLE_RECENTLY_DEAD)
			*tups_recently_dead += 1;
		MemoryContextReset(work);
		MemoryContextSwitchTo(work);
		rec = record_parse(OldTable, tuple);
		if (rec->flags & STORE_FLAG_EXTERNAL)
			copy_toast_value(OldTable, NewTable, rec);
		rewrite_heap_tuple(state, tuple, heap_copytuple(tuple));
		MemoryContextSwitchTo(old);
		*num_tuples += 1;
	}
	record_scan_end(&scan);
	MemoryContextDelete(work);
	end_heap_rewrite(state);
}
