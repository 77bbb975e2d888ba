/*
 * handler.c
 *    The table access method's routine table, and the callbacks that are heap's own.
 */
#include "am/am.h"

#include "access/heapam.h"
#include "access/multixact.h"
#include "catalog/pg_am.h"
#include "commands/vacuum.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "am/write.h"
#include "compat/compat.h"

PG_FUNCTION_INFO_V1(customer_segmentation_handler);

static void
refuse(Relation rel, const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("%s is not supported", what),
			 errdetail("Relation \"%s\" uses access method \"customer_segmentation\".", RelationGetRelationName(rel)),
			 errhint("%s", hint)));
}

#define NO_INDEX_HINT "Lookups by instance, segment, date and customer need no index here."

static const TupleTableSlotOps *
slot_callbacks(Relation rel)
{
	return &am_slot_ops;
}

/* ---- indexes: none -------------------------------------------------------------------------------------------- */

static struct IndexFetchTableData *
index_fetch_begin(Relation rel)
{
	refuse(rel, "an index on this table", NO_INDEX_HINT);
	return NULL;
}

static void
index_fetch_reset(struct IndexFetchTableData *data)
{
}

static void
index_fetch_end(struct IndexFetchTableData *data)
{
}

static bool
index_fetch_tuple(struct IndexFetchTableData *scan, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot,
				  bool *call_again, bool *all_dead)
{
	refuse(scan->rel, "an index on this table", NO_INDEX_HINT);
	return false;
}

static TransactionId
index_delete_tuples(Relation rel, TM_IndexDeleteOp *delstate)
{
	refuse(rel, "an index on this table", NO_INDEX_HINT);
	return InvalidTransactionId;
}

static double
index_build_range_scan(Relation rel, Relation index, struct IndexInfo *info, bool allow_sync, bool anyvisible,
					   bool progress, BlockNumber start, BlockNumber n, IndexBuildCallback callback, void *state,
					   TableScanDesc scan)
{
	refuse(rel, "an index on this table", NO_INDEX_HINT);
	return 0;
}

static void
index_validate_scan(Relation rel, Relation index, struct IndexInfo *info, Snapshot snapshot,
					struct ValidateIndexState *state)
{
	refuse(rel, "an index on this table", NO_INDEX_HINT);
}

/* ---- rows ------------------------------------------------------------------------------------------------------- */

/* An address that anybody can type: it must only never be taken for a place outside of what there is. */
static bool
tuple_tid_valid(TableScanDesc scan, ItemPointer tid)
{
	AmAddress addr;

	return am_tid_is_handle(tid) || am_get_address(tid, &addr);
}

/* An address stays with its row unless the row's customer or instance changes. */
static void
tuple_get_latest_tid(TableScanDesc scan, ItemPointer tid)
{
	am_latest_address(scan->rs_rd, scan->rs_snapshot, tid);
}

static void
tuple_insert(Relation rel, TupleTableSlot *slot, CommandId cid, int options, struct BulkInsertStateData *bistate)
{
	am_insert(rel, slot, cid, am_executor_returning());
}

static void
tuple_insert_speculative(Relation rel, TupleTableSlot *slot, CommandId cid, int options,
						 struct BulkInsertStateData *bistate, uint32 token)
{
	refuse(rel, "INSERT ... ON CONFLICT with an arbiter", "Delete the rows first, or use MERGE.");
}

static void
tuple_complete_speculative(Relation rel, TupleTableSlot *slot, uint32 token, bool succeeded)
{
	refuse(rel, "INSERT ... ON CONFLICT with an arbiter", "Delete the rows first, or use MERGE.");
}

static void
multi_insert(Relation rel, TupleTableSlot **slots, int n, CommandId cid, int options,
			 struct BulkInsertStateData *bistate)
{
	am_multi_insert(rel, slots, n, cid);
}

static void
finish_bulk_insert(Relation rel, int options)
{
	am_flush_relation(rel);
}

static TM_Result
tuple_delete(Relation rel, ItemPointer tid, CommandId cid, Snapshot snapshot, Snapshot crosscheck, bool wait,
			 TM_FailureData *tmfd, bool changing_part)
{
	return am_delete(rel, tid, cid, snapshot, wait, tmfd, changing_part);
}

static TM_Result
tuple_update(Relation rel, ItemPointer otid, TupleTableSlot *slot, CommandId cid, Snapshot snapshot,
			 Snapshot crosscheck, bool wait, TM_FailureData *tmfd, LockTupleMode *lockmode,
			 CompatUpdateIndexes *update_indexes)
{
	*lockmode = LockTupleExclusive;
	*update_indexes = COMPAT_UPDATE_NO_INDEXES;
	return am_update(rel, otid, slot, cid, snapshot, wait, tmfd);
}

/* ---- the relation ----------------------------------------------------------------------------------------------- */

static void
set_new_filelocator(Relation rel, const CompatRelFileLocator *locator, char persistence, TransactionId *freeze_xid,
					MultiXactId *min_multi)
{
	am_check_columns(rel, RelationGetDescr(rel));
	store_heapam()->COMPAT_SET_NEW_FILELOCATOR(rel, locator, persistence, freeze_xid, min_multi);
}

static void
nontransactional_truncate(Relation rel)
{
	WriteRel *wr = write_rel(rel, false);

	if (wr)
		write_forget_all(wr);
	am_bump_epoch();
	store_heapam()->relation_nontransactional_truncate(rel);
}

static void
copy_data(Relation rel, const CompatRelFileLocator *locator)
{
	am_flush_relation(rel);
	store_heapam()->relation_copy_data(rel, locator);
}

static void
copy_for_cluster(Relation OldTable, Relation NewTable, Relation OldIndex, bool use_sort, TransactionId OldestXmin,
				 TransactionId *xid_cutoff, MultiXactId *multi_cutoff, double *num_tuples, double *tups_vacuumed,
				 double *tups_recently_dead)
{
	store_copy_for_cluster(OldTable, NewTable, OldestXmin, *xid_cutoff, *multi_cutoff, num_tuples, tups_vacuumed,
						   tups_recently_dead);
	/* The caller stores this as reltuples: rows, not records. */
	*num_tuples = store_estimate_rows(OldTable, SnapshotSelf);
}

/*
 * VACUUM is heap's. It never writes rows. Afterwards reltuples and the count of live rows are put right: heap counted
 * records.
 */
static void
relation_vacuum(Relation rel, struct VacuumParams *params, BufferAccessStrategy bstrategy)
{
	double rows;

	store_heapam()->relation_vacuum(rel, params, bstrategy);
	rows = store_estimate_rows(rel, SnapshotSelf);
	compat_update_relstats(rel, rows);
	store_count_live(rel, (int64) rows);
}

static uint64
relation_size(Relation rel, ForkNumber fork)
{
	return table_block_relation_size(rel, fork);
}

static bool
needs_toast_table(Relation rel)
{
	return true;
}

static Oid
toast_am(Relation rel)
{
	return HEAP_TABLE_AM_OID;
}

static void
fetch_toast_slice(Relation toastrel, Oid valueid, int32 attrsize, int32 offset, int32 length, struct varlena *result)
{
	store_heapam()->relation_fetch_toast_slice(toastrel, valueid, attrsize, offset, length, result);
}

static void
estimate_size(Relation rel, int32 *attr_widths, BlockNumber *pages, double *tuples, double *allvisfrac)
{
	BlockNumber blocks = RelationGetNumberOfBlocks(rel);

	*pages = blocks;
	*allvisfrac = 0;
	*tuples = Max(rel->rd_rel->reltuples, 0);
	if (blocks > 0 && ActiveSnapshotSet())
		*tuples = am_summary_rows(rel);
}

/* ---- ANALYZE ------------------------------------------------------------------------------------------------------
 */

#if COMPAT_ANALYZE_STREAM /* see compat.h */
static bool
analyze_next_block(TableScanDesc scan, ReadStream *stream)
{
	BlockNumber block;

	if (!compat_next_block(stream, &block))
		return false;
	am_analyze_start_block(scan, block);
	return true;
}
#else
static bool
analyze_next_block(TableScanDesc scan, BlockNumber block, BufferAccessStrategy bstrategy)
{
	am_analyze_start_block(scan, block);
	return true;
}
#endif

static bool
analyze_next_tuple(TableScanDesc scan, TransactionId OldestXmin, double *liverows, double *deadrows,
				   TupleTableSlot *slot)
{
	return am_analyze_next_tuple(scan, liverows, slot);
}

static bool
sample_next_block(TableScanDesc scan, struct SampleScanState *state)
{
	refuse(scan->rs_rd, "TABLESAMPLE",
		   "Filter on a hash instead, for example WHERE hashtext(customer_identity) % 100 = 0.");
	return false;
}

static bool
sample_next_tuple(TableScanDesc scan, struct SampleScanState *state, TupleTableSlot *slot)
{
	return false;
}

static const TableAmRoutine routine = {
	.type = T_TableAmRoutine,
	.slot_callbacks = slot_callbacks,

	.scan_begin = am_scan_begin,
	.scan_end = am_scan_end,
	.scan_rescan = am_scan_rescan,
	.scan_getnextslot = am_scan_getnextslot,

	.parallelscan_estimate = table_block_parallelscan_estimate,
	.parallelscan_initialize = table_block_parallelscan_initialize,
	.parallelscan_reinitialize = table_block_parallelscan_reinitialize,

	.index_fetch_begin = index_fetch_begin,
	.index_fetch_reset = index_fetch_reset,
	.index_fetch_end = index_fetch_end,
	.index_fetch_tuple = index_fetch_tuple,

	.tuple_fetch_row_version = am_fetch,
	.tuple_tid_valid = tuple_tid_valid,
	.tuple_get_latest_tid = tuple_get_latest_tid,
	.tuple_satisfies_snapshot = am_satisfies,
	.index_delete_tuples = index_delete_tuples,

	.tuple_insert = tuple_insert,
	.tuple_insert_speculative = tuple_insert_speculative,
	.tuple_complete_speculative = tuple_complete_speculative,
	.multi_insert = multi_insert,
	.tuple_delete = tuple_delete,
	.tuple_update = tuple_update,
	.tuple_lock = am_lock,
	.finish_bulk_insert = finish_bulk_insert,

	.COMPAT_SET_NEW_FILELOCATOR = set_new_filelocator,
	.relation_nontransactional_truncate = nontransactional_truncate,
	.relation_copy_data = copy_data,
	.relation_copy_for_cluster = copy_for_cluster,
	.relation_vacuum = relation_vacuum,
	.scan_analyze_next_block = analyze_next_block,
	.scan_analyze_next_tuple = analyze_next_tuple,
	.index_build_range_scan = index_build_range_scan,
	.index_validate_scan = index_validate_scan,

	.relation_size = relation_size,
	.relation_needs_toast_table = needs_toast_table,
	.relation_toast_am = toast_am,
	.relation_fetch_toast_slice = fetch_toast_slice,
	.relation_estimate_size = estimate_size,

	.scan_sample_next_block = sample_next_block,
	.scan_sample_next_tuple = sample_next_tuple,
};

const TableAmRoutine *
am_routine(void)
{
	return &routine;
}

Datum
customer_segmentation_handler(PG_FUNCTION_ARGS)
{
	PG_RETURN_POINTER(&routine);
}
