/*
 * am.h
 *    The table access method: what its files share.
 */
#ifndef CSEG_AM_H
#define CSEG_AM_H

#include "postgres.h"

#include "access/relscan.h"
#include "access/tableam.h"
#include "executor/tuptable.h"
#include "nodes/parsenodes.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

#include "store/store.h"

/* ---- columns --------------------------------------------------------------------------------------------- */

typedef enum AmColumn
{
	COL_IDENTITY,
	COL_INSTANCE_DATE,
	COL_SCHEDULE,
	COL_SEGMENT_BY,
	COL_SEGMENT_DATE,
	COL_SEGMENT_ID,
	COL_INSTANCE_ID,
	COL_SEGMENT_NAME,
	COL_CUSTOMERS,
	COL_ORDERS,
	COL_REVENUE,
	AM_COLUMNS,
	COL_DROPPED = AM_COLUMNS
} AmColumn;

#define AM_MAX_ATTRS 1600

typedef struct AmColumnMap
{
	int natts;
	int16 attno[AM_COLUMNS];            /* 0-based position of each column */
	int8 column[FLEXIBLE_ARRAY_MEMBER]; /* AmColumn by 0-based position */
} AmColumnMap;

extern bool am_collation_is_deterministic(Oid collation);
extern bool am_is_column_name(const char *name);
extern const char *am_column_name(AmColumn column);
/* Raises 0A000 unless the descriptor has exactly the columns of the relation kind. */
extern void am_check_columns(Relation rel, TupleDesc desc);
/* One column of a table of that name, after ALTER TABLE changed it. */
extern void am_check_column(const char *table, Form_pg_attribute att);
extern AmColumnMap *am_column_map(TupleDesc desc); /* in the current context */
/* Cached in the relation: gone as soon as anything opens a relation or waits for a lock. */
extern const AmColumnMap *am_relation_map(Relation rel);
extern AmColumnMap *am_copy_relation_map(Relation rel); /* in the current context */
extern bool am_is_ours(Relation rel);

/* ---- addresses ------------------------------------------------------------------------------------------- */

/* A row's place. See README.md: block = cell_no << 6 | slot, offset = low + 1; or a handle with the top bit set. */
typedef struct AmAddress
{
	uint32 cell_no;
	uint8 slot;
	uint16 low;
} AmAddress;

#define AM_HANDLE_BIT UINT32_C(0x80000000)

static inline void
am_set_tid(ItemPointer tid, uint32 cell_no, uint8 slot, uint16 low)
{
	ItemPointerSet(tid, (cell_no << 6) | slot, (OffsetNumber) (low + 1));
}

static inline bool
am_tid_is_handle(const ItemPointerData *tid)
{
	return (ItemPointerGetBlockNumberNoCheck(tid) & AM_HANDLE_BIT) != 0;
}

/* False for anything that is no address of ours. */
static inline bool
am_get_address(const ItemPointerData *tid, AmAddress *addr)
{
	BlockNumber block = ItemPointerGetBlockNumberNoCheck(tid);
	OffsetNumber offset = ItemPointerGetOffsetNumberNoCheck(tid);

	if ((block & AM_HANDLE_BIT) || offset == 0 || offset > CSEG_CONTAINER_SIZE)
		return false;
	addr->cell_no = block >> 6;
	addr->slot = block & 63;
	addr->low = (uint16) (offset - 1);
	return true;
}

/* ---- measures -------------------------------------------------------------------------------------------- */

#define AM_NUMERIC_BYTES 32

extern const int64 am_powers_of_ten[CSEG_MAX_SCALE + 1];

extern void am_measure_from_datum(int measure, Datum value, bool isnull, CsegValue *out);
/* A numeric of at most AM_NUMERIC_BYTES bytes from a value that is not wide and not NULL. */
extern void am_numeric_from_value(const CsegValue *v, void *dst);
/* value / 10^scale, palloc'd. */
extern Numeric am_numeric_from_int128(int128 value, int scale);
extern Datum am_measure_to_datum(int measure, const CsegValue *v, bool *isnull);
extern bool am_value_is_sound(int measure, const CsegValue *v);
extern bool am_value_equal(const CsegValue *a, const CsegValue *b);

/* ---- rows given by the executor -------------------------------------------------------------------------- */

typedef struct AmRow
{
	const uint8 *identity;
	size_t identity_len;
	StoreGroupDims group;
	StoreInstanceDims instance;
	CsegValue values[CSEG_MEASURES];
} AmRow;

/* The slot's row; raises 23502 for NULL keys. Pointers hold as long as the slot's values. */
extern void am_row_from_slot(Relation rel, TupleTableSlot *slot, AmRow *row);

/* A row that has the instance's dimensions and nothing else; the slot is virtual or ours. */
extern void am_put_dimensions(TupleTableSlot *slot, const AmColumnMap *map, const StoreInstance *inst);

/* ---- slots ----------------------------------------------------------------------------------------------- */

struct AmScan;

typedef struct AmSlot
{
	VirtualTupleTableSlot base;
	struct AmScan *scan; /* where missing columns come from, or NULL */
	uint32 entry;
	TransactionId xmin;
	bool owns_values; /* they are in kept */
	char *kept;       /* memory for values, used again from row to row */
} AmSlot;

extern const TupleTableSlotOps am_slot_ops;
extern void am_scan_fill(struct AmScan *scan, TupleTableSlot *slot, uint32 entry, int natts);
extern void am_scan_forget_slot(struct AmScan *scan, TupleTableSlot *slot);

/* ---- readers: a relation as a snapshot sees it ------------------------------------------------------------- */

typedef struct AmCachedCell
{
	StoreCell *cell;
	CsegCell *data;
	uint64 used;
} AmCachedCell;

/* A few customers of a cell, read without the others. */
typedef struct AmCachedPart
{
	StoreCell *cell;
	uint16 first;
	uint16 last;
	CsegCell *data;
	StoreOwner *owner;
} AmCachedPart;

#define AM_CELL_CACHE 16
#define AM_NO_CONTAINER PG_UINT32_MAX

typedef struct AmReader
{
	MemoryContext cxt;
	Oid relid;
	Oid relnode;
	uint64 key;
	uint64 key2;
	uint64 epoch;
	bool cacheable;
	bool newest; /* of the newest state, for a writer; else of a snapshot */
	int refcount;
	StoreView *view;
	StoreDict *dict;
	uint64 clock;
	AmCachedCell cells[AM_CELL_CACHE];
	StoreOwner *owners[AM_CELL_CACHE];
	AmCachedPart part;
	uint8 *part_reads; /* by the cell's place in the view; NULL before the first */
	uint32 pinned_container;
	const void *const *texts;
} AmReader;

extern AmReader *am_reader_acquire(Relation rel, Snapshot snapshot);
extern AmReader *am_reader_fresh(Relation rel, Snapshot snapshot); /* not cached */
extern void am_reader_release(AmReader *reader);
/* Groups, instances and cells with the rows of every instance, as a snapshot sees them, without their bodies; where
 * there are few instances with their totals, too. Held until cxt is reset, and not to be changed. Cheap where nobody
 * has changed the table: a look at each page's LSN. Rows that this transaction has buffered are not in it:
 * am_flush_before_read writes them. */
extern StoreView *am_metadata(Relation rel, Snapshot snapshot, MemoryContext cxt);
extern AmReader *am_reader_newest(Relation rel, CommandId cid, MemoryContext parent); /* not cached */
extern void am_reader_free(AmReader *reader);
/* Not to be changed unless the reader is of the newest state. Holds until some other cells have been asked for. */
extern CsegCell *am_reader_cell(Relation rel, AmReader *reader, StoreCell *cell);
/* Not to be changed. Only n customers from first to last are there for sure: where they are few, and few have been
 * asked for before, that is much less work. Holds until others have been asked for. */
extern CsegCell *am_reader_customers(Relation rel, AmReader *reader, StoreCell *cell, uint16 first, uint16 last,
									 uint32 n);
/* The row at an address; instance and values are optional. */
extern bool am_reader_row(Relation rel, AmReader *reader, const AmAddress *addr, StoreCell **cell,
						  StoreInstance **instance, CsegValue values[CSEG_MEASURES]);
extern const text *am_reader_identity(Relation rel, AmReader *reader, uint32 ordinal);
/* NULL where the dictionary has none: of no row, but a number may be remembered elsewhere. */
extern const text *am_reader_find_identity(Relation rel, AmReader *reader, uint32 ordinal);
/* Fills and materializes the slot with the row, tts_tid included. */
extern bool am_reader_fetch(Relation rel, AmReader *reader, const AmAddress *addr, TupleTableSlot *slot);
extern void am_readers_forget(void); /* at the end of a transaction */
extern uint32 am_new_generation(void);
extern uint64 am_epoch(void);
extern void am_bump_epoch(void);
extern uint64 am_writes(void); /* grows with this backend's own writes */
extern void am_note_write(void);
extern TransactionId am_cell_xmin(const StoreCell *cell);

/* ---- what planning is told ------------------------------------------------------------------------------------ */

/* Metadata as of a moment ago: for estimates. */
typedef struct AmSummary
{
	StoreView *view; /* as am_metadata gives it */
	double rows;
	double customers;   /* identities in the dictionary */
	double instances;   /* with rows; of one id in several slots each counts */
	double *group_rows; /* by the group's place in the view */
	double cell_bytes;  /* as stored */
	/* Of dimensions and the identity, by AmColumn: different values, and the part of the rows that have none. */
	double distinct[AM_COLUMNS];
	double null_fraction[AM_COLUMNS];
} AmSummary;

/* NULL where nothing is known. Holds until the current memory context is reset. */
extern const AmSummary *am_summary(Relation rel);
extern double am_summary_rows(Relation rel);
extern void am_summary_init(void);

/* ---- scans ----------------------------------------------------------------------------------------------- */

/* Texts that a column must be one of; n < 0: anything. */
typedef struct AmKeys
{
	int n;
	const text **values;
} AmKeys;

typedef struct AmFilter
{
	/* Groups and instances to read; NULL: all. Asked when the filter is set, of what the keys leave: first a group,
	 * and if it passes each of its instances that has rows. */
	bool (*group)(void *arg, const StoreGroup *group);
	bool (*instance)(void *arg, const StoreInstance *inst);
	void *arg;
	bool needs_totals; /* they look at instances' totals */
	AmKeys segments;
	AmKeys instances;
	AmKeys identities;   /* customers to read */
	bool same_instances; /* as with the scan's filter before: only identities differ */
} AmFilter;

/* What a scan and its rescans have read and passed over. */
typedef struct AmScanStats
{
	int64 groups_read;
	int64 groups_skipped;
	int64 instances_read;
	int64 instances_skipped;
	int64 cells_read;
	int64 cells_skipped;
	int64 bytes_read;
} AmScanStats;

#define AM_ALL_COLUMNS ((UINT32_C(1) << AM_COLUMNS) - 1)

extern TableScanDesc am_scan_begin(Relation rel, Snapshot snapshot, int nkeys, struct ScanKeyData *key,
								   ParallelTableScanDesc pscan, uint32 flags);
extern void am_scan_set_filter(TableScanDesc scan, const AmFilter *filter);
/* Bits by AmColumn: the others are NULL in what the scan returns. Before the first row. */
extern void am_scan_set_columns(TableScanDesc scan, uint32 columns);
/*
 * Instance by instance, in an order of the caller's. Before the filter: am_scan_in_order. After it: am_scan_chosen
 * gives those that it has chosen and that have rows, in the current memory context; am_scan_set_order takes them as
 * sorted. counted: rows have nothing but dimensions, no address either, and come as many as totals say, without reading
 * cells.
 */
extern void am_scan_in_order(TableScanDesc scan);
extern StoreInstance **am_scan_chosen(TableScanDesc scan, int *n);
extern void am_scan_set_order(TableScanDesc scan, StoreInstance **order, int n, bool counted);
/* Which of them the current row is of. */
extern int am_scan_position(TableScanDesc scan);
/* Goes on with the one at `resume` instead of that at `stop` and those after it; at once if this is the current one. */
extern void am_scan_skip(TableScanDesc scan, int stop, int resume);
/* Counts into *stats from now on. */
extern void am_scan_count_into(TableScanDesc scan, AmScanStats *stats);
extern void am_scan_end(TableScanDesc scan);
extern void am_scan_rescan(TableScanDesc scan, struct ScanKeyData *key, bool set_params, bool allow_strat,
						   bool allow_sync, bool allow_pagemode);
extern bool am_scan_getnextslot(TableScanDesc scan, ScanDirection direction, TupleTableSlot *slot);
extern void am_analyze_start_block(TableScanDesc scan, BlockNumber block);
extern bool am_analyze_next_tuple(TableScanDesc scan, double *liverows, TupleTableSlot *slot);

/* ---- writing --------------------------------------------------------------------------------------------- */

extern int am_write_buffer_kb;

/* PG_DETOAST_DATUM_PACKED without a call for what is plain already, as nearly everything is. */
static inline struct varlena *
am_plain_varlena(Datum datum)
{
	struct varlena *v = (struct varlena *) DatumGetPointer(datum);

	return VARATT_IS_COMPRESSED(v) || VARATT_IS_EXTERNAL(v) ? pg_detoast_datum_packed(v) : v;
}

extern void am_insert(Relation rel, TupleTableSlot *slot, CommandId cid, bool want_address);
extern void am_multi_insert(Relation rel, TupleTableSlot **slots, int n, CommandId cid);
extern TM_Result am_delete(Relation rel, ItemPointer tid, CommandId cid, Snapshot snapshot, bool wait,
						   TM_FailureData *tmfd, bool changing_part);
extern TM_Result am_update(Relation rel, ItemPointer otid, TupleTableSlot *slot, CommandId cid, Snapshot snapshot,
						   bool wait, TM_FailureData *tmfd);
extern TM_Result am_lock(Relation rel, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot, CommandId cid,
						 LockTupleMode mode, LockWaitPolicy wait_policy, uint8 flags, TM_FailureData *tmfd);
extern bool am_fetch(Relation rel, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot);
/* Follows a row that this transaction has moved to its present address. */
extern void am_latest_address(Relation rel, Snapshot snapshot, ItemPointer tid);
extern bool am_satisfies(Relation rel, TupleTableSlot *slot, Snapshot snapshot);

/* Before a read: what an earlier command of this transaction left buffered becomes visible to it. */
extern void am_flush_before_read(Relation rel, Snapshot snapshot);
/* At the end of a statement; cid InvalidCommandId: whatever is there. */
extern void am_flush_statement(CommandId cid);
extern void am_flush_relation(Relation rel);
/* When a statement is over: brings what the session keeps back within its settings. Done by am_flush_statement too. */
extern void am_trim_memory(void);

/* Executor nesting, kept by module.c. */
extern int am_executor_depth(void);
extern bool am_executor_writing(void); /* is a statement running that may change rows? */
extern bool am_executor_returning(void);

/* ---- row-version log: handles ----------------------------------------------------------------------------- */

typedef struct AmRowLog AmRowLog;

extern AmRowLog *am_log_new(MemoryContext parent);
extern AmRowLog *am_relation_log(Relation rel); /* NULL: nothing logged */
extern bool am_log_empty(const AmRowLog *log);
/* Does this relation need handles? */
extern bool am_log_wanted(Relation rel);
/* Gives logged inserts of commands before the given one their addresses, so that scans know them by their handles. */
extern void am_log_address_inserts(AmRowLog *log, CommandId before,
								   bool (*locate)(void *arg, HeapTuple row, AmAddress *addr), void *arg);
extern bool am_log_has_unaddressed(const AmRowLog *log);
/* Logs a change and returns the handle of the new version. address is NULL while not known (an insert). old and new
 * are rows of the relation, NULL where there is none; copied. */
extern void am_log_change(AmRowLog *log, Relation rel, const AmAddress *before, TupleTableSlot *old,
						  const AmAddress *after, TupleTableSlot *new_row, CommandId cid, ItemPointer handle);
extern bool am_log_fetch(AmRowLog *log, Relation rel, ItemPointer tid, TupleTableSlot *slot);
/* Only if the commands before this one have made the version, and no later one of the row. */
extern bool am_log_fetch_seen(AmRowLog *log, Relation rel, ItemPointer tid, CommandId before, TupleTableSlot *slot);
/* Goes on to the row's newest version of the commands before this one. True if it has left its address then. */
extern bool am_log_latest(AmRowLog *log, ItemPointer tid, CommandId before, AmAddress *left);
/* The version before this transaction's first change of a plain address. False: not in the log. *exists: there was one.
 */
extern bool am_log_fetch_first(AmRowLog *log, const AmAddress *addr, TupleTableSlot *slot, bool *exists);
/* The plain address of a handle; *latest: no later change; *cid: the command of the later change. */
extern bool am_log_resolve(AmRowLog *log, ItemPointer tid, AmAddress *addr, bool *has_address, bool *latest,
						   CommandId *cid);
/* The row of a handle, NULL if it was deleted; owned by the log. */
extern HeapTuple am_log_row(AmRowLog *log, ItemPointer tid);
extern bool am_log_handle_for(AmRowLog *log, const AmAddress *addr, CommandId before, ItemPointer handle);
extern void am_log_subxact_start(AmRowLog *log, SubTransactionId subid);
extern void am_log_subxact_abort(AmRowLog *log, SubTransactionId subid);
extern void am_log_subxact_commit(AmRowLog *log, SubTransactionId subid, SubTransactionId parent);

/* ---- rewriting ------------------------------------------------------------------------------------------- */

/*
 * Rewrites the table into the best layout: customers and instances in order, one base a cell, no deltas. Shuts out
 * other writers to the end of the transaction, not readers. 40001 where a snapshot of the transaction is too old for
 * that.
 */
extern void am_optimize(Relation rel);
/* Shuts out other writers, before the rows of a customer are deleted and then the identity is forgotten. */
extern void am_lock_writers(Relation rel);
/* Takes an identity that no row has any longer out of the dictionary. Returns whether it was there. */
extern bool am_forget_identity(Relation rel, const text *identity);

/* ---- the rest -------------------------------------------------------------------------------------------- */

extern const TableAmRoutine *am_routine(void);
extern void am_xact_init(void);
extern void am_refusals_init(void);
extern void am_check_alter_table(AlterTableStmt *stmt);

#endif /* CSEG_AM_H */
