/*
 * dml.c
 *    INSERT, UPDATE, DELETE, row locks and fetches by address.
 *
 * The order is always: find the row in the statement's snapshot, lock its segment, look at the newest state, compare.
 * Since an address outlives changes, "has it changed" is a comparison of the row's values, not of addresses.
 */
#include "am/write.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat/compat.h"

/* ---- identities ------------------------------------------------------------------------------------------------- */

uint32
am_new_generation(void)
{
	uint32 generation;

	do
	{
		if (!pg_strong_random(&generation, sizeof(generation)))
			ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random values")));
	} while (generation == 0);
	return generation;
}

static StoreDict *
dictionary(WriteRel *wr, Relation rel, WriteBuffer *buf)
{
	if (wr->dict == NULL)
		store_dict_sync(rel, &wr->dict, write_newest(wr, rel, buf->cid)->view, wr->cxt);
	return wr->dict;
}

void
write_lookup(WriteRel *wr, Relation rel, WriteBuffer *buf)
{
	CSEG_CALL(rel, cseg_batch_lookup(buf->batch, dictionary(wr, rel, buf)->dict, &err));
}

void
write_resolve(WriteRel *wr, Relation rel, WriteBuffer *buf)
{
	if (cseg_batch_waiting(buf->batch) > 0)
		write_lookup(wr, rel, buf);
	if (cseg_batch_pending(buf->batch) > 0)
		store_dict_resolve(rel, &wr->dict, buf->batch, am_new_generation(), wr->cxt);
}

/* Of one customer, at once. */
static uint32
ordinal_of(WriteRel *wr, Relation rel, WriteBuffer *buf, const uint8 *text, size_t len)
{
	uint32 who;
	bool found;

	CSEG_CALL(rel, cseg_dict_find(dictionary(wr, rel, buf)->dict, text, len, &found, &who, &err));
	if (found)
		return who;
	CSEG_CALL(rel, cseg_batch_intern(buf->batch, text, len, &who, &err));
	write_resolve(wr, rel, buf);
	CSEG_CALL(rel, cseg_dict_find(wr->dict->dict, text, len, &found, &who, &err));
	if (!found)
		elog(ERROR, "identity is not in the dictionary after it was added");
	return who;
}

/* ---- insert ------------------------------------------------------------------------------------------------------ */

static void
insert_row(WriteRel *wr, Relation rel, WriteBuffer *buf, const AmRow *row, bool want_address, ItemPointer tid)
{
	InstanceRef *ref = write_instance(wr, rel, buf, &row->group, &row->instance);
	uint32 who;
	uint32 cell_no;

	if (!want_address)
	{
		CSEG_CALL(rel, cseg_batch_insert_named(buf->batch, ref->group->index, ref->slot, row->identity,
											   row->identity_len, row->values, &err));
		return;
	}
	who = ordinal_of(wr, rel, buf, row->identity, row->identity_len);
	write_claim_cell(wr, rel, buf, ref, who >> CSEG_CONTAINER_BITS, &cell_no);
	am_set_tid(tid, cell_no, ref->slot, (uint16) (who & (CSEG_CONTAINER_SIZE - 1)));
	CSEG_CALL(rel, cseg_batch_insert(buf->batch, ref->group->index, ref->slot, who, row->values, &err));
}

static AmRowLog *
log_of(WriteRel *wr, Relation rel)
{
	if (!am_log_wanted(rel))
		return wr->log;
	if (wr->log == NULL)
		wr->log = am_log_new(wr->cxt);
	return wr->log;
}

/* What has to be detoasted stays until the next row is read: a statement may write millions. */
static void
read_row(WriteRel *wr, Relation rel, TupleTableSlot *slot, AmRow *row)
{
	MemoryContext old;

	slot_getallattrs(slot);
	MemoryContextReset(wr->row_cxt);
	old = MemoryContextSwitchTo(wr->row_cxt);
	am_row_from_slot(rel, slot, row);
	MemoryContextSwitchTo(old);
}

/* Rows whose addresses nobody wants to know, nor what becomes of them. */
static void
insert_unlogged(Relation rel, TupleTableSlot **slots, int n, CommandId cid)
{
	WriteRel *wr = write_rel(rel, true);
	WriteBuffer *buf = write_buffer(wr, rel, cid);
	Oid relid = RelationGetRelid(rel);
	AmRow row;

	for (int i = 0; i < n; i++)
	{
		read_row(wr, rel, slots[i], &row);
		slots[i]->tts_tableOid = relid;
		ItemPointerSetInvalid(&slots[i]->tts_tid);
		insert_row(wr, rel, buf, &row, false, NULL);
		buf->inserted++;
		write_after_row(wr, rel, buf, &row);
	}
}

void
am_multi_insert(Relation rel, TupleTableSlot **slots, int n, CommandId cid)
{
	if (!am_log_wanted(rel))
	{
		insert_unlogged(rel, slots, n, cid);
		return;
	}
	for (int i = 0; i < n; i++)
		am_insert(rel, slots[i], cid, false);
}

void
am_insert(Relation rel, TupleTableSlot *slot, CommandId cid, bool want_address)
{
	WriteRel *wr = write_rel(rel, true);
	WriteBuffer *buf = write_buffer(wr, rel, cid);
	bool logged = am_log_wanted(rel);
	AmRow row;

	read_row(wr, rel, slot, &row);
	slot->tts_tableOid = RelationGetRelid(rel);
	ItemPointerSetInvalid(&slot->tts_tid);
	insert_row(wr, rel, buf, &row, want_address && !logged, &slot->tts_tid);
	buf->inserted++;
	if (logged)
		am_log_change(log_of(wr, rel), rel, NULL, NULL, NULL, slot, cid, &slot->tts_tid);
	write_after_row(wr, rel, buf, &row);
}

/* ---- the row that a statement wants to change ----------------------------------------------------------------------
 */

typedef struct Target
{
	WriteRel *wr;
	AmAddress addr;
	ItemPointerData plain; /* the plain address */
	AmReader *seen;        /* the statement's snapshot */
	AmReader *newest;
	StoreCell *cell; /* in newest */
	bool as_seen;    /* the newest state has the cell in the very records that the statement sees */
	StoreInstance *inst;
	uint32 ordinal;
	CsegValue before[CSEG_MEASURES]; /* as the statement saw it */
	CsegValue values[CSEG_MEASURES]; /* as it is now */
	StoreInstance *seen_inst;
} Target;

static bool
same_values(const CsegValue *a, const CsegValue *b)
{
	for (int m = 0; m < CSEG_MEASURES; m++)
		if (!am_value_equal(&a[m], &b[m]))
			return false;
	return true;
}

static void
failure(TM_FailureData *tmfd, const ItemPointerData *tid, CommandId cmax)
{
	tmfd->ctid = *tid;
	/* MERGE asks whose change it was; a command id there means that it was ours. */
	tmfd->xmax = cmax == InvalidCommandId ? InvalidTransactionId : GetCurrentTransactionId();
	tmfd->cmax = cmax;
	tmfd->traversed = false;
}

/* Was the row changed by this command, or by one that it triggered? */
static bool
changed_by_us(Target *t, Relation rel, CommandId cid, CommandId *cmax)
{
	bool touched;

	for (WriteBuffer *buf = t->wr->buffers; buf; buf = buf->next)
	{
		WriteGroup *group;

		if (buf->cid < cid || t->cell == NULL)
			continue;
		group = write_find_group(buf, &t->cell->group->dims, t->cell->group->group_no);
		if (group == NULL || !cseg_batch_touched(buf->batch, group->index, t->addr.slot, t->ordinal))
			continue;
		*cmax = buf->cid;
		return true;
	}
	if (t->cell == NULL || t->as_seen)
		return false;
	CSEG_CALL(rel, cseg_cell_touched(am_reader_customers(rel, t->newest, t->cell, t->addr.low, t->addr.low, 1),
									 t->addr.low, t->addr.slot, &touched, &err));
	if (touched)
		*cmax = t->cell->n_deltas > 0 && t->cell->deltas[t->cell->n_deltas - 1]->own_later ? cid + 1 : cid;
	return touched;
}

/* The customer's number as of now: a rewrite that the statement does not see has numbered customers anew. */
static bool
newest_ordinal(const Target *t, Relation rel, uint32 *ordinal)
{
	const text *identity;
	bool found;

	*ordinal = t->ordinal;
	if (t->seen->view->generation == t->newest->view->generation)
		return true;
	identity = am_reader_identity(rel, t->seen, t->ordinal);
	CSEG_CALL(rel, cseg_dict_find(t->newest->dict->dict, (const uint8 *) VARDATA_ANY(identity),
								  VARSIZE_ANY_EXHDR(identity), &found, ordinal, &err));
	return found;
}

/*
 * A row that left its address may have gone to another one: an UPDATE of the other dimensions does that, and a rewrite
 * of the table.
 */
static bool
find_moved(const Target *t, Relation rel, AmAddress *to)
{
	const text *id = t->seen_inst->dims.segment_instance_id;
	StoreView *view = t->newest->view;
	uint32 ordinal;

	if (!newest_ordinal(t, rel, &ordinal))
		return false;
	for (int i = 0; i < view->n_instances; i++)
	{
		StoreInstance *inst = view->instances[i];
		StoreCell *cell;
		AmAddress addr;

		if (!store_text_equal(inst->dims.segment_instance_id, id))
			continue;
		cell = store_group_cell(inst->group, ordinal >> CSEG_CONTAINER_BITS);
		if (cell == NULL)
			continue;
		addr = (AmAddress){cell->cell_no, inst->slot, (uint16) (ordinal & (CSEG_CONTAINER_SIZE - 1))};
		if (!am_reader_row(rel, t->newest, &addr, NULL, NULL, NULL))
			continue;
		*to = addr;
		return true;
	}
	return false;
}

static bool
statement_sees(const Target *t, const StoreRecord *delta)
{
	StoreCell *seen = store_find_cell(t->seen->view, t->addr.cell_no);

	for (int i = 0; seen && i < seen->n_deltas; i++)
		if (ItemPointerCompare(&seen->deltas[i]->tid, (ItemPointer) &delta->tid) == 0)
			return true;
	return false;
}

static bool
left_by_key_change(Target *t, Relation rel)
{
	bool removed;
	bool moved = false;

	if (t->cell == NULL)
		return false;
	for (int i = 0; i < t->cell->n_deltas && !moved; i++)
	{
		MemoryContext cxt;
		MemoryContext old;
		StoreOwner *owner;
		CsegCell *data;

		if ((t->cell->deltas[i]->flags & STORE_FLAG_MOVED) == 0 || statement_sees(t, t->cell->deltas[i]))
			continue;
		cxt = AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation moved", ALLOCSET_SMALL_SIZES);
		old = MemoryContextSwitchTo(cxt);
		owner = store_owner_new(cxt, cseg_cell_free);
		data = store_read_delta(rel, t->cell->deltas[i]);
		store_owner_set(owner, data);
		CSEG_CALL(rel, cseg_cell_removed(data, t->addr.low, t->addr.slot, &removed, &moved, &err));
		moved = removed && moved;
		MemoryContextSwitchTo(old);
		MemoryContextDelete(cxt);
	}
	return moved;
}

/* Somebody else has moved the row. A join comes to it again and again: then this command may have changed it there. */
static TM_Result
moved(const Target *t, Relation rel, const AmAddress *to, TM_FailureData *tmfd, CommandId cid)
{
	Target there = *t;
	ItemPointerData tid;
	CommandId cmax;

	there.addr = *to;
	there.cell = store_find_cell(t->newest->view, to->cell_no);
	there.ordinal = (there.cell->container << CSEG_CONTAINER_BITS) | to->low;
	there.as_seen = false;
	am_set_tid(&tid, to->cell_no, to->slot, to->low);
	if (changed_by_us(&there, rel, cid, &cmax))
	{
		failure(tmfd, &tid, cmax);
		return TM_SelfModified;
	}
	failure(tmfd, &tid, InvalidCommandId);
	return TM_Updated;
}

static TM_Result
gone(Target *t, Relation rel, TM_FailureData *tmfd, CommandId cid)
{
	AmAddress to;

	if (find_moved(t, rel, &to))
		return moved(t, rel, &to, tmfd, cid);
	if (!IsolationUsesXactSnapshot() && left_by_key_change(t, rel))
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						errmsg("could not serialize access due to concurrent update"),
						errdetail("The customer or the segment instance of the row was changed.")));
	failure(tmfd, &t->plain, InvalidCommandId);
	return TM_Deleted;
}

/* The place in the given reader where a row of these keys and dimensions is. */
static bool
locate(Relation rel, AmReader *reader, const AmRow *row, AmAddress *addr)
{
	bool found;
	uint32 ordinal;

	CSEG_CALL(rel, cseg_dict_find(reader->dict->dict, row->identity, row->identity_len, &found, &ordinal, &err));
	for (int i = 0; found && i < reader->view->n_instances; i++)
	{
		StoreInstance *inst = reader->view->instances[i];
		StoreCell *cell;

		if (inst->dims.instance_created_date != row->instance.instance_created_date ||
			!store_text_equal(inst->dims.segment_instance_id, row->instance.segment_instance_id) ||
			!store_group_dims_equal(&inst->group->dims, &row->group))
			continue;
		cell = store_group_cell(inst->group, ordinal >> CSEG_CONTAINER_BITS);
		if (cell == NULL)
			continue;
		*addr = (AmAddress){cell->cell_no, inst->slot, (uint16) (ordinal & (CSEG_CONTAINER_SIZE - 1))};
		if (am_reader_row(rel, reader, addr, NULL, NULL, NULL))
			return true;
	}
	return false;
}

static bool
same_row(Relation rel, AmReader *reader, const AmAddress *addr, HeapTuple row)
{
	TupleTableSlot *now = MakeSingleTupleTableSlot(RelationGetDescr(rel), &am_slot_ops);
	HeapTuple tuple;
	bool same;

	am_reader_fetch(rel, reader, addr, now);
	tuple = ExecCopySlotHeapTuple(now);
	same = tuple->t_len == row->t_len && tuple->t_data->t_hoff == row->t_data->t_hoff &&
		   memcmp((char *) tuple->t_data + tuple->t_data->t_hoff, (char *) row->t_data + row->t_data->t_hoff,
				  tuple->t_len - tuple->t_data->t_hoff) == 0;
	heap_freetuple(tuple);
	ExecDropSingleTupleTableSlot(now);
	return same;
}

/*
 * Where a row is now whose address was not known when it was written: looked up by its key. False if it is gone or,
 * same_measures, has other measures.
 */
static bool
locate_row(Relation rel, HeapTuple row, bool same_measures, AmAddress *addr)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), &am_slot_ops);
	AmReader *reader;
	AmRow r;
	bool found;

	am_flush_before_read(rel, NULL);
	reader = am_reader_acquire(rel, SnapshotSelf);
	ExecForceStoreHeapTuple(row, slot, false);
	am_row_from_slot(rel, slot, &r);
	found = locate(rel, reader, &r, addr) && (!same_measures || same_row(rel, reader, addr, row));
	am_reader_release(reader);
	ExecDropSingleTupleTableSlot(slot);
	return found;
}

typedef struct Locator
{
	Relation rel;
	AmReader *reader;
	TupleTableSlot *slot;
} Locator;

static bool
locate_logged(void *arg, HeapTuple row, AmAddress *addr)
{
	Locator *l = arg;
	AmRow r;

	ExecForceStoreHeapTuple(row, l->slot, false);
	am_row_from_slot(l->rel, l->slot, &r);
	return locate(l->rel, l->reader, &r, addr);
}

/* The row-version log for a scan that is about to start; the buffers it must see are written. */
AmRowLog *
am_relation_log(Relation rel)
{
	WriteRel *wr = write_rel(rel, false);
	Locator l = {.rel = rel};

	if (wr == NULL || wr->log == NULL || am_log_empty(wr->log))
		return NULL;
	if (am_log_has_unaddressed(wr->log))
	{
		l.reader = am_reader_acquire(rel, SnapshotSelf);
		l.slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), &am_slot_ops);
		am_log_address_inserts(wr->log, GetCurrentCommandId(false), locate_logged, &l);
		ExecDropSingleTupleTableSlot(l.slot);
		am_reader_release(l.reader);
	}
	return wr->log;
}

/* Handles of the row-version log name plain addresses, as of a version. */
static TM_Result
resolve_handle(WriteRel *wr, Relation rel, ItemPointer tid, AmAddress *addr, TM_FailureData *tmfd)
{
	bool has_address;
	bool latest;
	CommandId cid;

	if (wr == NULL || wr->log == NULL || !am_log_resolve(wr->log, tid, addr, &has_address, &latest, &cid))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("row address (%u,%u) of relation \"%s\" is not known in this transaction",
							   ItemPointerGetBlockNumberNoCheck(tid), ItemPointerGetOffsetNumberNoCheck(tid),
							   RelationGetRelationName(rel))));
	if (!latest)
	{
		failure(tmfd, tid, cid);
		return TM_SelfModified;
	}
	if (has_address || locate_row(rel, am_log_row(wr->log, tid), true, addr))
		return TM_Ok;
	failure(tmfd, tid, InvalidCommandId);
	return TM_Deleted;
}

/*
 * A later command of this transaction (of another statement, while a cursor is open) has folded the cell: what differs
 * from the cursor's snapshot is its doing, since the segment has been ours from then on.
 */
static bool
folded_by_us(const Target *t)
{
	return t->cell && t->cell->base && t->cell->base->own_now;
}

static bool
same_record(const StoreRecord *seen, const StoreRecord *newest)
{
	return ItemPointerEquals(unconstify(ItemPointerData *, &seen->tid), unconstify(ItemPointerData *, &newest->tid)) &&
		   seen->checksum == newest->checksum && !newest->own_now;
}

/* Then what was seen of a row is how it is, and nothing has to be decoded again to know. */
static bool
same_records(const StoreCell *seen, const StoreCell *newest)
{
	if (newest == NULL || seen->n_deltas != newest->n_deltas || (seen->base == NULL) != (newest->base == NULL) ||
		(seen->base && !same_record(seen->base, newest->base)))
		return false;
	for (int i = 0; i < seen->n_deltas; i++)
		if (!same_record(seen->deltas[i], newest->deltas[i]))
			return false;
	return true;
}

static bool
newest_row(Target *t, Relation rel)
{
	if (!t->as_seen || t->cell->group->instance[t->addr.slot] == NULL)
		return am_reader_row(rel, t->newest, &t->addr, &t->cell, &t->inst, t->values);
	t->inst = t->cell->group->instance[t->addr.slot];
	memcpy(t->values, t->before, sizeof(t->values));
	return true;
}

static TM_Result
modified_later(const Target *t, TM_FailureData *tmfd, CommandId cid)
{
	failure(tmfd, &t->plain, cid + 1);
	return TM_SelfModified;
}

/* Locks the row's segment and compares what the statement saw with what is there now. */
static TM_Result
open_target(Target *t, Relation rel, ItemPointer tid, Snapshot snapshot, CommandId cid, LOCKMODE mode,
			LockWaitPolicy wait_policy, TM_FailureData *tmfd)
{
	CommandId cmax;
	StoreCell *newest;

	memset(t, 0, sizeof(*t));
	t->wr = write_rel(rel, true);
	if (am_tid_is_handle(tid))
	{
		TM_Result result = resolve_handle(t->wr, rel, tid, &t->addr, tmfd);

		if (result != TM_Ok)
			return result;
	}
	else if (!am_get_address(tid, &t->addr))
		elog(ERROR, "invalid row address");
	am_set_tid(&t->plain, t->addr.cell_no, t->addr.slot, t->addr.low);

	t->seen = am_reader_acquire(rel, snapshot);
	if (!am_reader_row(rel, t->seen, &t->addr, &t->cell, &t->seen_inst, t->before) || t->seen_inst == NULL)
	{
		failure(tmfd, &t->plain, InvalidCommandId);
		return TM_Invisible;
	}
	t->ordinal = (t->cell->container << CSEG_CONTAINER_BITS) | t->addr.low;
	if (!write_lock_segment(t->wr, rel, t->seen_inst->group->dims.segment_id, mode, wait_policy != LockWaitBlock))
	{
		if (wait_policy == LockWaitError)
			ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
							errmsg("could not obtain lock on row in relation \"%s\"", RelationGetRelationName(rel)),
							errdetail("Another transaction works on segment \"%s\".",
									  text_to_cstring(t->seen_inst->group->dims.segment_id))));
		return TM_WouldBlock;
	}
	t->newest = write_newest(t->wr, rel, cid);
	newest = store_find_cell(t->newest->view, t->addr.cell_no);
	t->as_seen = same_records(t->cell, newest);
	t->cell = newest;
	if (changed_by_us(t, rel, cid, &cmax))
	{
		failure(tmfd, tid, cmax);
		return TM_SelfModified;
	}
	if (!newest_row(t, rel))
		return folded_by_us(t) ? modified_later(t, tmfd, cid) : gone(t, rel, tmfd, cid);
	if (same_values(t->before, t->values) || write_accepted(t->wr, &t->plain, cid))
		return TM_Ok;
	if (folded_by_us(t))
		return modified_later(t, tmfd, cid);
	failure(tmfd, &t->plain, InvalidCommandId);
	return TM_Updated;
}

static void
close_target(Target *t)
{
	if (t->seen)
		am_reader_release(t->seen);
}

/*
 * An UPDATE or DELETE whose row was taken over from a concurrent change (tuple_lock) comes with an address that its
 * own snapshot does not see at all: that row is taken from the newest state.
 */
static TM_Result
open_accepted(Target *t, Relation rel, const ItemPointerData *tid, CommandId cid)
{
	if (am_tid_is_handle(tid) || !write_accepted(t->wr, tid, cid))
		return TM_Invisible;
	t->newest = write_newest(t->wr, rel, cid);
	if (!am_reader_row(rel, t->newest, &t->addr, &t->cell, &t->inst, t->values))
		return TM_Invisible;
	t->ordinal = (t->cell->container << CSEG_CONTAINER_BITS) | t->addr.low;
	return TM_Ok;
}

static TM_Result
open_for_change(Target *t, Relation rel, ItemPointer tid, Snapshot snapshot, CommandId cid, bool wait,
				TM_FailureData *tmfd)
{
	TM_Result result =
		open_target(t, rel, tid, snapshot, cid, ExclusiveLock, wait ? LockWaitBlock : LockWaitSkip, tmfd);

	if (result == TM_Invisible)
		result = open_accepted(t, rel, tid, cid);
	return result;
}

/* ---- delete
 * ------------------------------------------------------------------------------------------------------------ */

static TupleTableSlot *
row_slot(Relation rel, Target *t)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), &am_slot_ops);

	am_reader_fetch(rel, t->newest, &t->addr, slot);
	return slot;
}

TM_Result
am_delete(Relation rel, ItemPointer tid, CommandId cid, Snapshot snapshot, bool wait, TM_FailureData *tmfd,
		  bool changing_part)
{
	Target t;
	TM_Result result = open_for_change(&t, rel, tid, snapshot, cid, wait, tmfd);
	WriteBuffer *buf;
	InstanceRef *ref;

	if (result != TM_Ok)
	{
		close_target(&t);
		return result;
	}
	buf = write_buffer(t.wr, rel, cid);
	ref = write_existing_instance(buf, t.inst);
	CSEG_CALL(rel, cseg_batch_remove(buf->batch, ref->group->index, ref->slot, t.ordinal, changing_part, &err));
	buf->deleted++;
	if (am_log_wanted(rel))
	{
		TupleTableSlot *old = row_slot(rel, &t);
		ItemPointerData handle;

		am_log_change(log_of(t.wr, rel), rel, &t.addr, old, NULL, NULL, cid, &handle);
		ExecDropSingleTupleTableSlot(old);
	}
	close_target(&t);
	write_after_row(t.wr, rel, buf, NULL);
	return TM_Ok;
}

/* ---- update
 * ------------------------------------------------------------------------------------------------------------ */

static bool
same_place(Relation rel, Target *t, const AmRow *row)
{
	const text *identity;

	if (t->inst->dims.instance_created_date != row->instance.instance_created_date ||
		!store_text_equal(t->inst->dims.segment_instance_id, row->instance.segment_instance_id) ||
		!store_group_dims_equal(&t->inst->group->dims, &row->group))
		return false;
	identity = am_reader_identity(rel, t->newest, t->ordinal);
	return VARSIZE_ANY_EXHDR(identity) == row->identity_len &&
		   memcmp(VARDATA_ANY(identity), row->identity, row->identity_len) == 0;
}

/*
 * WHERE CURRENT OF names the row that a cursor has fetched, also after this transaction has given it another address:
 * the first moves of a transaction are remembered for that.
 */
static void
note_move(WriteRel *wr, const ItemPointerData *from, TupleTableSlot *to)
{
	WriteMove *move;
	bool found;
	MemoryContext old;

	if (wr->moves == NULL)
	{
		HASHCTL ctl = {.keysize = sizeof(ItemPointerData), .entrysize = sizeof(WriteMove), .hcxt = wr->cxt};

		wr->moves = hash_create("customer_segmentation moves", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	if (hash_get_num_entries(wr->moves) >= WRITE_MAX_MOVES)
		return;
	move = hash_search(wr->moves, from, HASH_ENTER, &found);
	if (found)
		heap_freetuple(move->row);
	move->row = NULL;
	old = MemoryContextSwitchTo(wr->cxt);
	move->row = ExecCopySlotHeapTuple(to);
	MemoryContextSwitchTo(old);
}

/* Where a row that has left this address is now; false if it is not known to have gone elsewhere. */
static bool
moved_to(WriteRel *wr, Relation rel, const ItemPointerData *tid, AmAddress *addr)
{
	WriteMove *move = wr->moves ? hash_search(wr->moves, tid, HASH_FIND, NULL) : NULL;

	return move && locate_row(rel, move->row, false, addr);
}

/*
 * A cell that was there when a cursor fetched a row, and is no more, is empty or was rewritten by another session. Then
 * the address does not tell what has become of the row.
 */
static void
check_not_rewritten(Relation rel, Snapshot snapshot, const AmAddress *addr)
{
	AmReader *reader;

	if (!IsMVCCSnapshot(snapshot))
		return;
	am_flush_before_read(rel, snapshot);
	reader = am_reader_acquire(rel, snapshot);
	if (store_find_cell(reader->view, addr->cell_no) == NULL &&
		store_rewritten_since_snapshot(rel, reader->view->generation))
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						errmsg("could not serialize access due to concurrent update"),
						errdetail("Relation \"%s\" was rewritten by optimize() since the cursor fetched the row.",
								  RelationGetRelationName(rel)),
						errhint("Declare the cursor FOR UPDATE, which keeps optimize() waiting.")));
	am_reader_release(reader);
}

void
am_latest_address(Relation rel, Snapshot snapshot, ItemPointer tid)
{
	WriteRel *wr = write_rel(rel, false);
	AmAddress addr;

	if (!am_tid_is_handle(tid) && am_get_address(tid, &addr))
		check_not_rewritten(rel, snapshot, &addr);
	if (wr == NULL)
		return;
	if (am_tid_is_handle(tid))
	{
		ItemPointerData left;

		if (!IsMVCCSnapshot(snapshot) || am_relation_log(rel) == NULL ||
			!am_log_latest(wr->log, tid, snapshot->curcid, &addr))
			return;
		/* Whatever else is at that address by now is another row. */
		am_set_tid(&left, addr.cell_no, addr.slot, addr.low);
		if (!moved_to(wr, rel, &left, &addr))
			return;
		am_set_tid(tid, addr.cell_no, addr.slot, addr.low);
	}
	for (int hops = 0; hops < WRITE_MAX_MOVES && moved_to(wr, rel, tid, &addr); hops++)
		am_set_tid(tid, addr.cell_no, addr.slot, addr.low);
}

/* The row keeps its address unless its customer or its instance changes. */
static void
change_row(Relation rel, Target *t, WriteBuffer *buf, const AmRow *row, TupleTableSlot *new_row, bool want_address,
		   ItemPointer tid)
{
	InstanceRef *ref = write_existing_instance(buf, t->inst);
	uint32 group = ref->group->index;
	uint8 slot = ref->slot;

	if (same_place(rel, t, row))
	{
		CSEG_CALL(rel, cseg_batch_update(buf->batch, group, slot, t->ordinal, row->values, &err));
		*tid = t->plain;
		return;
	}
	buf->has_moves = true;
	note_move(t->wr, &t->plain, new_row);
	/* First the new place, which may take a lock and look at the newest state anew; t->inst is not used after it. */
	insert_row(t->wr, rel, buf, row, want_address, tid);
	CSEG_CALL(rel, cseg_batch_remove(buf->batch, group, slot, t->ordinal, true, &err));
}

TM_Result
am_update(Relation rel, ItemPointer otid, TupleTableSlot *slot, CommandId cid, Snapshot snapshot, bool wait,
		  TM_FailureData *tmfd)
{
	Target t;
	TM_Result result = open_for_change(&t, rel, otid, snapshot, cid, wait, tmfd);
	bool logged = am_log_wanted(rel);
	TupleTableSlot *old = NULL;
	WriteBuffer *buf;
	AmRow row;

	if (result != TM_Ok)
	{
		close_target(&t);
		return result;
	}
	if (logged)
		old = row_slot(rel, &t);
	read_row(t.wr, rel, slot, &row);
	slot->tts_tableOid = RelationGetRelid(rel);
	buf = write_buffer(t.wr, rel, cid);
	buf->updated++;
	change_row(rel, &t, buf, &row, slot, am_executor_returning() && !logged, &slot->tts_tid);
	if (logged)
	{
		AmAddress after;

		am_log_change(log_of(t.wr, rel), rel, &t.addr, old, am_get_address(&slot->tts_tid, &after) ? &after : NULL,
					  slot, cid, &slot->tts_tid);
		ExecDropSingleTupleTableSlot(old);
	}
	close_target(&t);
	write_after_row(t.wr, rel, buf, &row);
	return TM_Ok;
}

/* ---- row locks
 * ---------------------------------------------------------------------------------------------------------- */

static LOCKMODE
segment_mode(LockTupleMode mode)
{
	return mode == LockTupleKeyShare || mode == LockTupleShare ? ShareLock : ExclusiveLock;
}

/*
 * What is locked is the row's segment. The newest version is given out with `traversed`, and remembered: the change
 * that follows in this command must not find "updated" again.
 */
TM_Result
am_lock(Relation rel, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot, CommandId cid, LockTupleMode mode,
		LockWaitPolicy wait_policy, uint8 flags, TM_FailureData *tmfd)
{
	Target t;
	TM_Result result;
	ItemPointerData at = *tid;
	AmAddress addr;
	bool newer = false;

	am_flush_before_read(rel, snapshot);
	result = open_target(&t, rel, tid, snapshot, cid, segment_mode(mode), wait_policy, tmfd);
	tmfd->traversed = false;
	if (result == TM_Updated && (flags & TUPLE_LOCK_FLAG_FIND_LAST_VERSION))
	{
		at = tmfd->ctid;
		newer = true;
		result = TM_Ok;
	}
	if (result != TM_Ok)
	{
		close_target(&t);
		return result;
	}
	if (!am_get_address(&at, &addr))
		addr = t.addr;
	if (!am_reader_fetch(rel, t.newest, &addr, slot))
		elog(ERROR, "row to be locked has vanished");
	if (newer)
	{
		write_accept(t.wr, &slot->tts_tid, cid);
		*tid = slot->tts_tid;
		tmfd->traversed = true;
		tmfd->ctid = slot->tts_tid;
	}
	close_target(&t);
	return TM_Ok;
}

/* ---- fetches
 * ------------------------------------------------------------------------------------------------------------ */

static bool
fetch_newest(Relation rel, const AmAddress *addr, TupleTableSlot *slot)
{
	AmReader *reader;
	bool found;

	am_flush_before_read(rel, NULL);
	reader = am_reader_acquire(rel, SnapshotSelf);
	found = am_reader_fetch(rel, reader, addr, slot);
	am_reader_release(reader);
	return found;
}

static bool
fetch_mvcc(Relation rel, const AmAddress *addr, Snapshot snapshot, TupleTableSlot *slot)
{
	AmReader *reader = am_reader_acquire(rel, snapshot);
	bool found = am_reader_fetch(rel, reader, addr, slot);

	am_reader_release(reader);
	return found;
}

/*
 * SnapshotAny asks for "this very version", whether or not it is still there: for a plain address that is the version
 * before this transaction's first change, if it is in the log; the newest one, if tuple_lock has given that out for a
 * row that had changed since the snapshot; else what the statement's snapshot sees.
 */
static bool
fetch_any(Relation rel, const AmAddress *addr, TupleTableSlot *slot)
{
	WriteRel *wr = write_rel(rel, false);
	ItemPointerData tid;
	CommandId cid;
	bool exists;

	if (wr && wr->log && am_log_fetch_first(wr->log, addr, slot, &exists))
		return exists;
	am_set_tid(&tid, addr->cell_no, addr->slot, addr->low);
	if (wr && write_accepted_by(wr, &tid, &cid))
		return am_reader_fetch(rel, write_newest(wr, rel, cid), addr, slot);
	if (ActiveSnapshotSet() && fetch_mvcc(rel, addr, GetActiveSnapshot(), slot))
		return true;
	return fetch_newest(rel, addr, slot);
}

bool
am_fetch(Relation rel, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot)
{
	WriteRel *wr = write_rel(rel, false);
	AmRowLog *log;
	AmAddress addr;

	ExecClearTuple(slot);
	if (am_tid_is_handle(tid))
	{
		if (wr == NULL || wr->log == NULL)
			return false;
		if (!IsMVCCSnapshot(snapshot))
			return am_log_fetch(wr->log, rel, tid, slot);
		/* Inserted rows get their addresses, from which on the log tells what becomes of them. */
		am_flush_before_read(rel, snapshot);
		return am_relation_log(rel) && am_log_fetch_seen(wr->log, rel, tid, snapshot->curcid, slot);
	}
	if (!am_get_address(tid, &addr))
		return false;
	if (snapshot == SnapshotAny)
		return fetch_any(rel, &addr, slot);
	if (!IsMVCCSnapshot(snapshot))
		return fetch_newest(rel, &addr, slot);
	am_flush_before_read(rel, snapshot);
	if (!fetch_mvcc(rel, &addr, snapshot, slot))
		return false;
	/* As scans do: whoever goes on from here must find this version, not the one before the transaction's changes. */
	log = am_relation_log(rel);
	if (log)
		am_log_handle_for(log, &addr, snapshot->curcid, &slot->tts_tid);
	return true;
}

bool
am_satisfies(Relation rel, TupleTableSlot *slot, Snapshot snapshot)
{
	WriteRel *wr = write_rel(rel, false);
	AmAddress addr;
	TupleTableSlot *scratch;
	bool found;

	if (am_tid_is_handle(&slot->tts_tid))
	{
		bool has_address;
		bool latest;
		CommandId cid;

		return wr && wr->log && am_log_resolve(wr->log, &slot->tts_tid, &addr, &has_address, &latest, &cid) && latest &&
			   (has_address || locate_row(rel, am_log_row(wr->log, &slot->tts_tid), true, &addr));
	}
	if (!am_get_address(&slot->tts_tid, &addr))
		return false;
	scratch = MakeSingleTupleTableSlot(RelationGetDescr(rel), &am_slot_ops);
	found = IsMVCCSnapshot(snapshot) ? fetch_mvcc(rel, &addr, snapshot, scratch) : fetch_newest(rel, &addr, scratch);
	ExecDropSingleTupleTableSlot(scratch);
	return found;
}
