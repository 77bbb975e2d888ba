/*
 * reader.c
 *    A relation as one snapshot sees it: its view, its dictionary and a few decoded cells.
 *
 * Readers of MVCC snapshots are shared within a transaction: what a snapshot sees changes only with this
 * transaction's own writes, which advance the epoch. They live in TopTransactionContext. The view and the decoded cells
 * that they refer to may live longer (store/views.c, store/cells.c).
 */
#include "am/am.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat/compat.h"

#define READER_CACHE 4
#define MAX_PART_READS 4
#define MAX_SHARED_PART_READS 16

static AmReader *cache[READER_CACHE];
static uint64 epoch = 1;
static uint64 writes = 0;
static uint64 next_victim;

uint64
am_epoch(void)
{
	return epoch;
}

void
am_bump_epoch(void)
{
	epoch++;
}

/* Grows with this backend's own writes alone. */
uint64
am_writes(void)
{
	return writes;
}

void
am_note_write(void)
{
	writes++;
	epoch++;
}

void
am_readers_forget(void)
{
	memset(cache, 0, sizeof(cache));
	epoch++;
}

static uint64
hash_xids(const TransactionId *xids, uint32 n, uint64 seed)
{
	return n == 0 ? seed : hash_bytes_extended((const unsigned char *) xids, (int) (n * sizeof(TransactionId)), seed);
}

static void
snapshot_key(Snapshot s, uint64 *key, uint64 *key2)
{
	uint32 fixed[7] = {
		s->xmin, s->xmax, s->xcnt, (uint32) s->subxcnt, s->suboverflowed, s->curcid, s->takenDuringRecovery};

	*key = hash_bytes_extended((const unsigned char *) fixed, sizeof(fixed), 17);
	*key2 = hash_xids(s->subxip, (uint32) Max(s->subxcnt, 0), hash_xids(s->xip, s->xcnt, *key));
}

/* Runs before the dictionary's reference goes, since it is registered after it. */
static void
unpin_at_reset(void *arg)
{
	AmReader *reader = arg;

	if (reader->pinned_container != AM_NO_CONTAINER)
		cseg_dict_unpin(reader->dict->dict, reader->pinned_container);
	reader->pinned_container = AM_NO_CONTAINER;
}

static void
take_dictionary(AmReader *reader, Relation rel)
{
	MemoryContextCallback *callback = MemoryContextAllocZero(reader->cxt, sizeof(MemoryContextCallback));

	reader->dict = store_dict_acquire(rel, reader->view, reader->cxt);
	callback->func = unpin_at_reset;
	callback->arg = reader;
	MemoryContextRegisterResetCallback(reader->cxt, callback);
}

static AmReader *
reader_new(Relation rel, MemoryContext parent, bool newest)
{
	MemoryContext cxt = AllocSetContextCreate(parent, "customer_segmentation reader", ALLOCSET_DEFAULT_SIZES);
	AmReader *reader = MemoryContextAllocZero(cxt, sizeof(AmReader));

	reader->cxt = cxt;
	reader->relid = RelationGetRelid(rel);
	reader->relnode = compat_relnumber(rel);
	reader->epoch = epoch;
	reader->newest = newest;
	reader->pinned_container = AM_NO_CONTAINER;
	for (int i = 0; i < AM_CELL_CACHE; i++)
		reader->owners[i] = store_owner_new(cxt, newest ? cseg_cell_free : store_unpin_cell);
	reader->part.owner = store_owner_new(cxt, newest ? cseg_cell_free : store_unpin_cell);
	return reader;
}

void
am_reader_free(AmReader *reader)
{
	if (reader)
		MemoryContextDelete(reader->cxt);
}

static bool
matches(const AmReader *r, Relation rel, uint64 key, uint64 key2)
{
	return r && r->relid == RelationGetRelid(rel) && r->relnode == compat_relnumber(rel) && r->key == key &&
		   r->key2 == key2 && r->epoch == epoch;
}

static void
cache_put(AmReader *reader)
{
	int at = -1;

	for (int i = 0; i < READER_CACHE; i++)
	{
		if (cache[i] == NULL)
			at = i;
	}
	if (at < 0)
		at = (int) (next_victim++ % READER_CACHE);
	if (cache[at])
	{
		cache[at]->cacheable = false;
		if (cache[at]->refcount == 0)
			am_reader_free(cache[at]);
	}
	cache[at] = reader;
	reader->cacheable = true;
}

/* Without its dictionary, if nobody needed that before. */
static AmReader *
acquire(Relation rel, Snapshot snapshot)
{
	bool shared = IsMVCCSnapshot(snapshot) && snapshot->snapshot_type == SNAPSHOT_MVCC;
	uint64 key = 0;
	uint64 key2 = 0;
	AmReader *reader;

	if (shared)
	{
		snapshot_key(snapshot, &key, &key2);
		for (int i = 0; i < READER_CACHE; i++)
		{
			if (!matches(cache[i], rel, key, key2))
				continue;
			cache[i]->refcount++;
			return cache[i];
		}
	}
	reader = reader_new(rel, TopTransactionContext, false);
	reader->key = key;
	reader->key2 = key2;
	reader->refcount = 1;
	reader->view = store_view_acquire(rel, snapshot, reader->cxt);
	if (shared)
		cache_put(reader);
	return reader;
}

AmReader *
am_reader_acquire(Relation rel, Snapshot snapshot)
{
	AmReader *reader = acquire(rel, snapshot);

	if (reader->dict == NULL)
		take_dictionary(reader, rel);
	return reader;
}

/* Reads every record again, whatever is known from before: for checks. */
AmReader *
am_reader_fresh(Relation rel, Snapshot snapshot)
{
	AmReader *reader = reader_new(rel, TopTransactionContext, false);

	reader->refcount = 1;
	reader->view = store_view(rel, snapshot, reader->cxt);
	take_dictionary(reader, rel);
	return reader;
}

/* Totals take five times the memory of all else that is known of an instance. */
#define MANY_INSTANCES 8192

StoreView *
am_metadata(Relation rel, Snapshot snapshot, MemoryContext cxt)
{
	AmReader *reader = acquire(rel, snapshot);
	StoreView *view = reader->view;

	if (view->n_instances <= MANY_INSTANCES)
		store_view_totals(rel, view);
	else
		store_view_rows(rel, view);
	store_view_hold(view, cxt);
	am_reader_release(reader);
	return view;
}

void
am_reader_release(AmReader *reader)
{
	if (--reader->refcount == 0 && !reader->cacheable)
		am_reader_free(reader);
}

AmReader *
am_reader_newest(Relation rel, CommandId cid, MemoryContext parent)
{
	AmReader *reader = reader_new(rel, parent, true);

	reader->view = store_view_newest(rel, cid, reader->cxt);
	take_dictionary(reader, rel);
	return reader;
}

static CsegCell *
cell_at_hand(AmReader *reader, StoreCell *cell)
{
	for (int i = 0; i < AM_CELL_CACHE; i++)
	{
		if (reader->cells[i].cell != cell)
			continue;
		reader->cells[i].used = ++reader->clock;
		return reader->cells[i].data;
	}
	return NULL;
}

/* Takes in what was read of a cell, in place of what has not been asked for the longest. */
static CsegCell *
put_at_hand(AmReader *reader, StoreCell *cell, void *owned, CsegCell *data)
{
	int victim = 0;

	for (int i = 0; i < AM_CELL_CACHE; i++)
		if (reader->cells[i].used < reader->cells[victim].used)
			victim = i;
	/* Where cells come back in any order, parts of them are worth it once more. */
	if (reader->cells[victim].cell && reader->part_reads)
		reader->part_reads[reader->cells[victim].cell->at] = 0;
	store_owner_set(reader->owners[victim], owned);
	reader->cells[victim] = (AmCachedCell){.cell = cell, .data = data, .used = ++reader->clock};
	return data;
}

/*
 * Cells of a snapshot are shared and never changed. Those of the newest state are the reader's own: they know which
 * rows this command has changed, and who writes applies changes to them.
 */
CsegCell *
am_reader_cell(Relation rel, AmReader *reader, StoreCell *cell)
{
	CsegCell *data = cell_at_hand(reader, cell);
	MemoryContext old;

	if (data)
		return data;
	old = MemoryContextSwitchTo(reader->cxt);
	if (reader->newest)
	{
		data = store_read_cell(rel, cell, true);
		put_at_hand(reader, cell, data, data);
	}
	else
	{
		StoreSharedCell *shared = store_share_cell(rel, cell);

		data = put_at_hand(reader, cell, shared, store_shared_cell(shared));
	}
	MemoryContextSwitchTo(old);
	return data;
}

static CsegCell *
put_part(AmReader *reader, StoreCell *cell, uint16 first, uint16 last, void *owned, CsegCell *data)
{
	AmCachedPart *part = &reader->part;

	store_owner_set(part->owner, owned);
	part->cell = cell;
	part->first = first;
	part->last = last;
	part->data = data;
	return data;
}

/* How often parts of a cell are read before all of it is. */
static bool
parts_are_enough(AmReader *reader, const StoreCell *cell)
{
	int most = reader->newest ? MAX_PART_READS : MAX_SHARED_PART_READS;

	if (reader->part_reads == NULL)
		reader->part_reads = MemoryContextAllocZero(reader->cxt, Max(reader->view->n_cells, 1));
	if (reader->part_reads[cell->at] == most)
		return false;
	reader->part_reads[cell->at]++;
	return true;
}

static CsegCell *
read_part(Relation rel, AmReader *reader, StoreCell *cell, uint16 first, uint16 last)
{
	uint16 low[2] = {first, last};
	StoreSharedCell *shared;
	CsegCell *data;

	if (reader->newest)
	{
		data = store_read_cell_range(rel, cell, first, last, true);
		return put_part(reader, cell, first, last, data, data);
	}
	shared = store_share_customers(rel, cell, low, first == last ? 1 : 2);
	data = store_shared_cell(shared);
	if (store_shared_whole(shared))
		return put_at_hand(reader, cell, shared, data);
	return put_part(reader, cell, first, last, shared, data);
}

CsegCell *
am_reader_customers(Relation rel, AmReader *reader, StoreCell *cell, uint16 first, uint16 last, uint32 n)
{
	CsegCell *data = cell_at_hand(reader, cell);
	MemoryContext old;

	if (data)
		return data;
	if (reader->part.cell == cell && reader->part.first <= first && reader->part.last >= last)
		return reader->part.data;
	if (!store_are_few_customers(first, last, n) || !parts_are_enough(reader, cell))
		return am_reader_cell(rel, reader, cell);
	old = MemoryContextSwitchTo(reader->cxt);
	data = read_part(rel, reader, cell, first, last);
	MemoryContextSwitchTo(old);
	return data;
}

bool
am_reader_row(Relation rel, AmReader *reader, const AmAddress *addr, StoreCell **cell, StoreInstance **instance,
			  CsegValue values[CSEG_MEASURES])
{
	StoreCell *c = store_find_cell(reader->view, addr->cell_no);
	CsegValue scratch[CSEG_MEASURES];
	bool found;

	if (cell)
		*cell = c;
	if (instance)
		*instance = c ? c->group->instance[addr->slot] : NULL;
	if (c == NULL)
		return false;
	CSEG_CALL(rel, cseg_cell_get(am_reader_customers(rel, reader, c, addr->low, addr->low, 1), addr->low, addr->slot,
								 &found, values ? values : scratch, &err));
	if (found && c->group->instance[addr->slot] == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("relation \"%s\" holds rows of an instance that is missing", RelationGetRelationName(rel)),
				 errdetail("Cell %u, slot %u.", addr->cell_no, addr->slot)));
	return found;
}

const text *
am_reader_find_identity(Relation rel, AmReader *reader, uint32 ordinal)
{
	uint32 container = ordinal >> CSEG_CONTAINER_BITS;

	if (reader->pinned_container != container)
	{
		if (reader->pinned_container != AM_NO_CONTAINER)
			cseg_dict_unpin(reader->dict->dict, reader->pinned_container);
		reader->pinned_container = AM_NO_CONTAINER;
		CSEG_CALL(rel, cseg_dict_pin(reader->dict->dict, container, &reader->texts, &err));
		reader->pinned_container = container;
	}
	return reader->texts[ordinal & (CSEG_CONTAINER_SIZE - 1)];
}

const text *
am_reader_identity(Relation rel, AmReader *reader, uint32 ordinal)
{
	const text *t = am_reader_find_identity(rel, reader, ordinal);

	if (t == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED), errmsg("relation \"%s\" has no identity for customer number %u",
														 RelationGetRelationName(rel), ordinal)));
	return t;
}

TransactionId
am_cell_xmin(const StoreCell *cell)
{
	if (cell->n_deltas > 0)
		return cell->deltas[cell->n_deltas - 1]->xmin;
	return cell->base ? cell->base->xmin : FrozenTransactionId;
}

static void
put_text(TupleTableSlot *slot, int i, const text *t)
{
	slot->tts_isnull[i] = t == NULL;
	slot->tts_values[i] = PointerGetDatum(t);
}

/* Into a slot that has no row yet; everything else is NULL. */
static void
put_dimensions(TupleTableSlot *slot, const AmColumnMap *map, const StoreInstance *inst)
{
	const StoreGroupDims *g = &inst->group->dims;

	for (int i = 0; i < map->natts; i++)
	{
		slot->tts_isnull[i] = true;
		slot->tts_values[i] = (Datum) 0;
	}
	put_text(slot, map->attno[COL_SCHEDULE], g->schedule);
	put_text(slot, map->attno[COL_SEGMENT_BY], g->segment_by);
	put_text(slot, map->attno[COL_SEGMENT_ID], g->segment_id);
	put_text(slot, map->attno[COL_SEGMENT_NAME], g->segment_name);
	put_text(slot, map->attno[COL_INSTANCE_ID], inst->dims.segment_instance_id);
	slot->tts_values[map->attno[COL_INSTANCE_DATE]] = TimestampGetDatum(inst->dims.instance_created_date);
	slot->tts_isnull[map->attno[COL_INSTANCE_DATE]] = false;
	if (g->has_segment_created)
	{
		slot->tts_values[map->attno[COL_SEGMENT_DATE]] = TimestampGetDatum(g->segment_created_date);
		slot->tts_isnull[map->attno[COL_SEGMENT_DATE]] = false;
	}
}

void
am_put_dimensions(TupleTableSlot *slot, const AmColumnMap *map, const StoreInstance *inst)
{
	ExecClearTuple(slot);
	put_dimensions(slot, map, inst);
	ExecStoreVirtualTuple(slot);
}

static void
put_row(TupleTableSlot *slot, const AmColumnMap *map, const text *identity, const StoreInstance *inst,
		const CsegValue values[CSEG_MEASURES])
{
	put_dimensions(slot, map, inst);
	put_text(slot, map->attno[COL_IDENTITY], identity);
	for (int m = 0; m < CSEG_MEASURES; m++)
	{
		int i = map->attno[COL_CUSTOMERS + m];

		slot->tts_values[i] = am_measure_to_datum(m, &values[m], &slot->tts_isnull[i]);
	}
}

bool
am_reader_fetch(Relation rel, AmReader *reader, const AmAddress *addr, TupleTableSlot *slot)
{
	StoreCell *cell;
	StoreInstance *inst;
	CsegValue values[CSEG_MEASURES];
	Datum made[CSEG_MEASURES];
	const AmColumnMap *map;
	const text *identity;
	uint32 ordinal;

	ExecClearTuple(slot);
	if (!am_reader_row(rel, reader, addr, &cell, &inst, values))
		return false;
	ordinal = (cell->container << CSEG_CONTAINER_BITS) | addr->low;
	/* First what may read the dictionary: that can have the relation cache drop its map. */
	identity = am_reader_identity(rel, reader, ordinal);
	map = am_relation_map(rel);
	put_row(slot, map, identity, inst, values);
	for (int m = 0; m < CSEG_MEASURES; m++)
		made[m] = slot->tts_values[map->attno[COL_CUSTOMERS + m]];
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(rel);
	am_set_tid(&slot->tts_tid, addr->cell_no, addr->slot, addr->low);
	if (slot->tts_ops == &am_slot_ops)
		((AmSlot *) slot)->xmin = am_cell_xmin(cell);
	ExecMaterializeSlot(slot);
	/* The slot has copied them. The caller's context may be that of a statement which changes millions of rows. */
	for (int m = 0; m < CSEG_MEASURES; m++)
	{
		int i = map->attno[COL_CUSTOMERS + m];

		if (!slot->tts_isnull[i] && !TupleDescAttr(slot->tts_tupleDescriptor, i)->attbyval)
			pfree(DatumGetPointer(made[m]));
	}
	return true;
}
