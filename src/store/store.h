/*
 * store.h
 *    Records in the relation's own heap and TOAST table.
 *
 * The only layer that calls heapam and toast. Above it nobody knows how a record lies on a page, and it knows nothing
 * of rows: it keeps groups, instances, cells and dictionary records (see README.md here for the bytes).
 */
#ifndef CSEG_STORE_H
#define CSEG_STORE_H

#include "access/relscan.h"
#include "datatype/timestamp.h"
#include "storage/itemptr.h"
#include "storage/lock.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

#include "compat/compat.h"
#include "core/core.h"

/* ---- the boundary to the core ---------------------------------------------------------------------------- */

/* Raises what the core returned; relation may be NULL. Never returns. */
COMPAT_NORETURN extern void store_core_error(const CsegError *err, Relation rel) COMPAT_NORETURN_END;

#define CSEG_CALL(rel, call)             \
	do                                   \
	{                                    \
		CsegError err;                   \
		if ((call) != CSEG_OK)           \
			store_core_error(&err, rel); \
	} while (0)

/* The core's stop flag: set when the statement is to end. NULL while interrupts are held off. */
extern const CsegStop *store_stop_flag(void);

/* A context owns a core object: freed when the context is reset or deleted, also on errors. */
typedef struct StoreOwner StoreOwner;
extern StoreOwner *store_owner_new(MemoryContext cxt, void (*free_object)(void *));
extern void store_owner_set(StoreOwner *owner, void *object); /* frees the one before */
extern void *store_owner_release(StoreOwner *owner);          /* hands it over to the caller */

/* ---- records --------------------------------------------------------------------------------------------- */

typedef enum StoreKind
{
	STORE_GROUP = 'G',
	STORE_INSTANCE = 'I',
	STORE_BASE = 'B',
	STORE_DELTA = 'T',
	STORE_DICT = 'D'
} StoreKind;

#define STORE_FORMAT_VERSION 1

#define STORE_FLAG_EXTERNAL 1 /* the body is in the TOAST table */
#define STORE_FLAG_MOVED 2    /* delta: holds removals by an UPDATE that gave rows another address */
#define STORE_FLAG_ROOT 4     /* dictionary: starts a generation */

#define STORE_MAX_CELL_NO ((UINT32_C(1) << 25) - 2) /* 25 bits; the last one is never issued */
#define STORE_MAX_GROUP_NO UINT32_C(0x7FFFFFFF)

typedef struct StoreRecord
{
	ItemPointerData tid;
	StoreKind kind;
	uint16 flags;
	uint32 checksum;
	uint32 group_no; /* all but dictionary; there the generation */
	uint32 a;        /* instance: slot; base, delta: cell_no; dictionary: first ordinal */
	uint32 b;        /* base, delta: container; dictionary: number of texts */
	uint32 c;        /* delta: sequence number; base: rows (saturating) */
	bool deletable;  /* newest view only: this command may delete it */
	bool own_now;    /* newest view only: written by the current command of this transaction */
	bool own_later;  /* newest view only: written by a command after the given one */
	bool settled;    /* newest view only: its insertion is visible to every snapshot */
	bool going;      /* newest view only: the writer that has the view deletes it */
	TransactionId xmin;
	uint32 body_len;
	uint32 body_sum;
	const uint8 *inline_body; /* or NULL: external */
	char toast_pointer[24];   /* external: varattrib_1b_e */
} StoreRecord;

/* The body in memory of the current context; verified against its checksum. */
extern const uint8 *store_body(Relation rel, const StoreRecord *rec);

/* ---- dimensions ------------------------------------------------------------------------------------------ */

typedef struct StoreGroupDims
{
	text *segment_id;
	text *segment_name; /* NULL pointers are SQL NULLs */
	text *segment_by;
	text *schedule;
	bool has_segment_created;
	Timestamp segment_created_date;
} StoreGroupDims;

typedef struct StoreInstanceDims
{
	text *segment_instance_id;
	Timestamp instance_created_date;
} StoreInstanceDims;

extern bool store_group_dims_equal(const StoreGroupDims *a, const StoreGroupDims *b);
extern bool store_text_equal(const text *a, const text *b); /* by bytes; NULLs equal */
extern StoreGroupDims store_group_dims_copy(const StoreGroupDims *d);
extern uint32 store_text_hash(const text *t);
extern uint32 store_bytes_hash(const uint8 *p, uint32 len); /* of a text with these bytes */

/* ---- the view: everything a snapshot sees, without the bodies of cells ------------------------------------- */

typedef struct StoreCell
{
	uint32 cell_no;
	int at; /* in the view's cells */
	uint32 container;
	struct StoreGroup *group;
	StoreRecord *base; /* may be NULL: deltas only */
	int n_deltas;
	int cap_deltas;
	StoreRecord **deltas; /* in order of their sequence numbers */
	uint32 last_sequence; /* newest view: the greatest of any tuple in any state, since old snapshots still read folded
							 deltas */
} StoreCell;

typedef struct StoreInstance
{
	struct StoreGroup *group;
	uint8 slot;
	StoreRecord *rec;
	StoreInstanceDims dims;
	int64 stored_rows;  /* of the record */
	int64 rows;         /* with the deltas of the group's cells: by store_view_rows */
	CsegTotals *totals; /* likewise: by store_view_totals */
} StoreInstance;

typedef struct StoreGroup
{
	uint32 group_no;
	StoreRecord *rec;
	StoreGroupDims dims;
	uint64 used_slots; /* newest view: slots held by any tuple in any state */
	uint64 live_slots; /* slots with an instance record in this view */
	StoreInstance *instance[CSEG_SLOTS];
	Timestamp first_date; /* of the live instances; of none, the last is before the first */
	Timestamp last_date;
	int n_cells;
	int cap_cells;
	StoreCell **cells; /* by container */
} StoreGroup;

typedef struct StoreView
{
	MemoryContext cxt;
	int n_groups;
	StoreGroup **groups; /* by group_no */
	int n_cells;
	StoreCell **cells; /* by cell_no */
	int n_instances;
	StoreInstance **instances;
	int n_dict;
	StoreRecord **dict;     /* of the generation, by first ordinal */
	StoreRecord *dict_root; /* the one that started the generation; NULL if there is none yet */
	uint32 generation;
	int n_strays;
	StoreRecord **strays; /* dictionary records of other generations */
	int n_marks;
	StoreRecord **marks; /* those of the generation that hold nobody: a root, or ordinals given out and taken back */
	int n_records;
	int64 rows; /* by store_view_rows */
	bool has_rows;
	bool has_totals;
	bool lenient;                   /* of no one moment: only what is locked fits together */
	struct StoreMoment *moment;     /* newest view: for store_view_is_newest */
	struct StoreLookup *lookup;     /* see store_find_instance */
	struct StoreSharedView *shared; /* of store_view_acquire: what holds it */
} StoreView;

/* What the snapshot sees, in a new child context of parent. Without bodies of cells and dictionary. */
extern StoreView *store_view(Relation rel, Snapshot snapshot, MemoryContext parent);
/* The same, possibly shared with what comes after this transaction: not to be changed, but for its totals and its
 * lookup. Held until cxt is reset. */
extern StoreView *store_view_acquire(Relation rel, Snapshot snapshot, MemoryContext cxt);
extern void store_view_hold(StoreView *view, MemoryContext cxt); /* one more user of an acquired view */
/* The newest state (SnapshotSelf) for a writer that holds its segment locks: marks what this command (cid) may
 * delete, and the numbers in use. */
extern StoreView *store_view_newest(Relation rel, CommandId cid, MemoryContext parent);
/* Would reading anew give the same, after more locks were had? Asks for pages' LSNs alone, and may say no to be safe.
 */
extern bool store_view_is_newest(Relation rel, const StoreView *view);
/* Counts the rows of every instance, with the deltas' changes. */
extern void store_view_rows(Relation rel, StoreView *view);
/* The same, and fills in totals: for what looks at measures. */
extern void store_view_totals(Relation rel, StoreView *view);
/* Of the instance's record alone. */
extern void store_stored_totals(Relation rel, const StoreInstance *inst, CsegTotals *totals);
/* Rows, cheaply and about: for statistics. Needs no consistent view. */
extern double store_estimate_rows(Relation rel, Snapshot snapshot);
extern StoreCell *store_find_cell(const StoreView *view, uint32 cell_no);
/* The index of a group of the view among its groups. */
extern int store_group_place(const StoreView *view, const StoreGroup *group);
extern StoreGroup *store_find_group(const StoreView *view, uint32 group_no);
/* Instances by segment_instance_id, and groups by segment_id: the first with *at = -1, then the others; NULL: no more.
 * The hash table behind it is made when first asked for. */
extern StoreInstance *store_find_instance(StoreView *view, const text *segment_instance_id, int *at);
extern StoreGroup *store_find_segment(StoreView *view, const text *segment_id, int *at);
extern StoreCell *store_group_cell(const StoreGroup *group, uint32 container);

/* Base and deltas of a cell applied, as a new core object (owned by the caller). touch_own: rows changed by deltas that
 * the current command wrote are marked as touched. (A base that it wrote holds just rows that are new, or is a fold by
 * a later command, which does not say what it changed.) */
extern CsegCell *store_read_cell(Relation rel, const StoreCell *cell, bool touch_own);
/* As above, of the customers low_first..low_last alone: others may be missing. */
extern CsegCell *store_read_cell_range(Relation rel, const StoreCell *cell, uint16 low_first, uint16 low_last,
									   bool touch_own);
/* Whether that range is worth more than reading all, for n customers of it. */
extern bool store_are_few_customers(uint16 low_first, uint16 low_last, uint32 n);
/* A cell as kept by the backend within customer_segmentation.cell_cache: pinned, shared, not to be changed (so
 * nothing here marks own rows); given back with store_unpin_cell, which a StoreOwner can call. */
typedef struct StoreSharedCell StoreSharedCell;
extern StoreSharedCell *store_share_cell(Relation rel, const StoreCell *cell);
/* As above, but only these customers (n > 0, ascending) are there for sure: for a few of them less is decoded. */
extern StoreSharedCell *store_share_customers(Relation rel, const StoreCell *cell, const uint16 *low, int n);
extern CsegCell *store_shared_cell(const StoreSharedCell *shared);
extern bool store_shared_whole(const StoreSharedCell *shared);
extern void store_unpin_cell(void *shared);
/* Adds the customers who have rows in any of the slots to a bitset of the container, by what is kept likewise. */
extern void store_cell_members(Relation rel, const StoreCell *cell, uint64 slots, uint64 *bits);
/* One delta as it is, removals included. */
extern CsegCell *store_read_delta(Relation rel, const StoreRecord *rec);
/* Totals carried by a delta, and its cell bytes. */
extern void store_delta_parts(Relation rel, const StoreRecord *rec, const uint8 *body, CsegTotals *change,
							  uint64 *slots, const uint8 **cell_bytes, size_t *cell_len);

/* ---- writing --------------------------------------------------------------------------------------------- */

typedef struct StoreBody
{
	StringInfoData data; /* the bytes, with room for a varlena header in front */
	bool external;       /* saved to the TOAST table already */
	uint32 sum;
	char toast_pointer[24];
} StoreBody;

/* Prepares a body: large ones go to the TOAST table at once (the only slow part, so that it happens outside of the
 * short lock). frozen: visible to all from now on. */
extern void store_save_body(Relation rel, StoreBody *body, const uint8 *bytes, size_t len, bool frozen);
/* Returns the checksum of the record's bytes. */
extern uint32 store_insert(Relation rel, StoreKind kind, uint16 flags, uint32 group_no, uint32 a, uint32 b, uint32 c,
						   const StoreBody *body, CommandId cid, bool frozen);
/* Deletes a record and its TOAST value. */
extern void store_delete(Relation rel, const StoreRecord *rec, CommandId cid);

extern void store_encode_group(StringInfo out, const StoreGroupDims *dims);
extern void store_encode_instance(StringInfo out, const StoreInstanceDims *dims, const CsegTotals *totals);
extern void store_encode_delta(StringInfo out, const CsegTotals *change, uint64 slots, const uint8 *cell_bytes,
							   size_t cell_len);

/* Logical row counts for the statistics system. */
extern void store_count_rows(Relation rel, int64 inserted, int64 updated, int64 deleted);

/* After VACUUM, which reported records as live rows. */
extern void store_count_live(Relation rel, int64 rows);

/* The short lock under which numbers and ordinals are allotted. */
extern void store_short_lock(Relation rel);
extern void store_short_unlock(Relation rel);

typedef struct StoreNumbers
{
	Bitmapset *groups;
	Bitmapset *cells;
} StoreNumbers;
/* Numbers held by any tuple in any state. Under the short lock. */
extern void store_numbers_in_use(Relation rel, StoreNumbers *numbers);
extern uint32 store_next_number(Bitmapset **used, uint32 *hint, uint32 limit, const char *what);

/* Slots whose instance has no rows. */
typedef struct StoreFreeSlots
{
	uint32 group_no;
	uint32 slot;
} StoreFreeSlots;

/* The name of an instance, and the segment that wants it. */
typedef struct StoreClaim
{
	const text *segment_instance_id;
	const text *segment_id;
} StoreClaim;

/*
 * Which of the names is that of an instance record under another segment, in any live or in-progress state? Returns
 * its index, or -1. *wait_for: the transaction that has yet to end before it is certain, or invalid. Records in the
 * free slots don't count.
 */
extern int store_foreign_instance(Relation rel, const StoreClaim *claims, int n, const StoreFreeSlots *free, int n_free,
								  TransactionId *wait_for);

/* ---- dictionary ------------------------------------------------------------------------------------------ */

typedef struct StoreDict
{
	CsegDict *dict;
	int refcount;
	bool stale; /* replaced in the cache: freed with its last reference */
	struct HTAB *loaded;
	Oid relid;
	Oid relnode;
	uint32 generation;
} StoreDict;

/* The dictionary that holds at least the view's records; shared within the backend, released by the caller (or by
 * the reset of cxt). */
extern StoreDict *store_dict_acquire(Relation rel, const StoreView *view, MemoryContext cxt);
extern void store_dict_sync(Relation rel, StoreDict **dict, const StoreView *view, MemoryContext cxt);
/* Whether another transaction's rewrite has replaced all other dictionaries than this one since the backend's oldest
 * snapshot. Reads the whole file. */
extern bool store_rewritten_since_snapshot(Relation rel, uint32 generation);
/* Gives the batch's pending identities their ordinals, growing the dictionary under the short lock. */
extern void store_dict_resolve(Relation rel, StoreDict **dict, CsegBatch *batch, uint32 generation, MemoryContext cxt);
extern void store_dict_trim(void);
/* One more reference, released by the reset of cxt. */
extern void store_dict_hold(StoreDict *dict, MemoryContext cxt);

/* ---- heap's own machinery, passed on --------------------------------------------------------------------- */

extern const struct TableAmRoutine *store_heapam(void);
extern void store_copy_for_cluster(Relation OldTable, Relation NewTable, TransactionId OldestXmin,
								   TransactionId FreezeXid, MultiXactId MultiXactCutoff, double *num_tuples,
								   double *tups_vacuumed, double *tups_recently_dead);

extern int store_dictionary_cache_kb;
extern int store_cell_cache_kb; /* decoded cells, and views */

#endif /* CSEG_STORE_H */
