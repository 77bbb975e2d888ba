/*
 * write.h
 *    The write buffer and what a transaction knows about the relations that it writes. Private to am.
 *
 * A transaction has one WriteRel per relation and file it writes to; that holds its segment locks, the newest state
 * and the buffers. A WriteBuffer collects the changes of one command in one subtransaction. All of it lives in
 * TopTransactionContext.
 */
#ifndef CSEG_AM_WRITE_H
#define CSEG_AM_WRITE_H

#include "am/am.h"

#include "utils/hsearch.h"

typedef struct WriteGroup WriteGroup;
typedef struct ChangeSpill ChangeSpill;

/* An instance as a buffer refers to it. */
typedef struct InstanceRef
{
	struct InstanceRef *next;      /* of the same hash */
	struct InstanceRef *same_name; /* of the same hash of its name */
	WriteGroup *group;
	uint8 slot;
	bool exists; /* has an instance record */
	StoreInstanceDims dims;
} InstanceRef;

struct WriteGroup
{
	uint32 index; /* the batch's number for it */
	bool exists;  /* has a group record */
	uint32 group_no;
	StoreGroupDims dims;
	uint64 used_slots;
	WriteGroup *same_dims;         /* the next of the same hash of dimensions */
	InstanceRef *refs[CSEG_SLOTS]; /* by slot, as far as touched by this buffer */
};

typedef struct WriteBuffer
{
	struct WriteBuffer *next;
	MemoryContext cxt;
	SubTransactionId subid;
	CommandId cid;
	StoreOwner *owner;
	CsegBatch *batch;
	ChangeSpill *spill; /* what of it did not fit in memory, or NULL: see changes.h */
	int n_groups;
	int cap_groups;
	WriteGroup **groups;
	HTAB *instances; /* hash of all dimensions -> InstanceRef chain */
	HTAB *names;     /* hash of the segment_instance_id -> InstanceRef chain */
	HTAB *by_dims;   /* hash of a group's dimensions -> WriteGroup chain, in the order of their index */
	InstanceRef *last;
	WriteGroup *found; /* a stored group: the last that write_find_group found */
	bool has_moves;    /* rows changed places: they may pass through each other */
	int64 inserted;
	int64 updated;
	int64 deleted;
	int64 since_check;
} WriteBuffer;

typedef struct WriteRel
{
	struct WriteRel *next;
	MemoryContext cxt;
	MemoryContext row_cxt; /* of the row that is being written */
	Oid relid;
	Oid relnode;
	HTAB *locks; /* segment hash -> mode and subtransaction */
	LOCKMODE table_lock;
	SubTransactionId table_lock_subid;
	AmReader *newest;
	uint64 newest_epoch;
	CommandId newest_cid;
	uint64 locks_version; /* grows with every lock; the newest state is as of newest_locks */
	uint64 newest_locks;
	StoreDict *dict;
	WriteBuffer *buffers;
	bool wrote_blobs;
	CommandId last_blob_cid;
	HTAB *accepted; /* addresses that tuple_lock gave out in a command */
	AmRowLog *log;
	HTAB *moves; /* old address -> the row's new version, for WHERE CURRENT OF */
} WriteRel;

#define WRITE_MAX_MOVES 4096

typedef struct WriteMove
{
	ItemPointerData tid; /* key */
	HeapTuple row;
} WriteMove;

extern WriteRel *write_rel(Relation rel, bool create);
extern AmReader *write_newest(WriteRel *wr, Relation rel, CommandId cid);
extern void write_forget_newest(WriteRel *wr);
/* The relation's file was emptied in place: nothing known of it holds any longer. */
extern void write_forget_all(WriteRel *wr);

/* Locks. Return false only if conditional and not available. */
extern bool write_lock_segment(WriteRel *wr, Relation rel, const text *segment_id, LOCKMODE mode, bool conditional);

/* Shuts out every other writer and row locker of the table, to the end of the transaction; readers go on. */
extern void write_lock_all(WriteRel *wr);

extern WriteBuffer *write_buffer(WriteRel *wr, Relation rel, CommandId cid);
extern InstanceRef *write_instance(WriteRel *wr, Relation rel, WriteBuffer *buf, const StoreGroupDims *group,
								   const StoreInstanceDims *instance);
/* The buffer's group and instance for what the newest state has. */
extern InstanceRef *write_existing_instance(WriteBuffer *buf, const StoreInstance *inst);
extern WriteGroup *write_existing_group(WriteBuffer *buf, const StoreGroup *sg);
/* The buffer's group that stands for the stored one of these dimensions and this number, or NULL. */
extern WriteGroup *write_find_group(WriteBuffer *buf, const StoreGroupDims *dims, uint32 group_no);
/* row: what was written, or NULL for a removal. */
extern void write_after_row(WriteRel *wr, Relation rel, WriteBuffer *buf, const AmRow *row);
/* final: the statement is over, so that cells may be folded. Empties the buffer. */
extern void write_flush(WriteRel *wr, Relation rel, WriteBuffer *buf, bool final);
/* Looks up the customers of the rows that wait for it. */
extern void write_lookup(WriteRel *wr, Relation rel, WriteBuffer *buf);
/* The same, and gives those that are new their numbers. */
extern void write_resolve(WriteRel *wr, Relation rel, WriteBuffer *buf);
/*
 * Takes the short lock when no instance record in the table, nor one that is in progress, has one of these names under
 * another segment than claimed. Waits for transactions that have yet to decide it; refuses what is taken (23514).
 */
extern void write_claim_names(WriteRel *wr, Relation rel, StoreView *view, const StoreClaim *claims, int n);
extern void write_claim_cell(WriteRel *wr, Relation rel, WriteBuffer *buf, InstanceRef *ref, uint32 container,
							 uint32 *cell_no);

extern void write_accept(WriteRel *wr, const ItemPointerData *tid, CommandId cid);
/* In any command of this transaction; *cid: which. */
extern bool write_accepted_by(WriteRel *wr, const ItemPointerData *tid, CommandId *cid);
extern bool write_accepted(WriteRel *wr, const ItemPointerData *tid, CommandId cid);

#endif /* CSEG_AM_WRITE_H */
