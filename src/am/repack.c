/*
 * repack.c
 *    Rows under other numbers: what a rewrite of the table and an export share.
 *
 * A numbering is an array by the customer's ordinal in the table: AM_NOBODY, AM_MARKED (wants a number), or the new
 * number. Memory: the array, and beside it what one range of containers or one group takes decoded.
 */
#include "am/repack.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#define BITS_WORDS (CSEG_CONTAINER_SIZE / 64)
#define STAGED_ROW_BYTES 32

static uint32
ordinal_of(uint32 container, uint32 low)
{
	return (container << CSEG_CONTAINER_BITS) | low;
}

AmNumbering *
am_numbering_new(Relation rel, AmReader *from)
{
	AmNumbering *numbering = palloc0(sizeof(AmNumbering));

	numbering->n = cseg_dict_next(from->dict->dict);
	numbering->number = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(uint32) * Max((Size) numbering->n, 1));
	memset(numbering->number, 0xFF, sizeof(uint32) * (Size) numbering->n);
	return numbering;
}

/* A customer beyond the dictionary means that a cell or the dictionary is damaged. */
static void
check_known(Relation rel, const AmNumbering *numbering, uint32 ordinal)
{
	if (ordinal < numbering->n)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("relation \"%s\" has no identity for customer number %u", RelationGetRelationName(rel), ordinal),
			 errhint("Run customer_segmentation.verify() and restore the relation from a backup.")));
}

size_t
am_numbering_mark(Relation rel, AmNumbering *numbering, const StoreCell *cell)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation mark", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	StoreOwner *owner = store_owner_new(cxt, cseg_cell_free);
	CsegCell *data = store_read_cell(rel, cell, false);
	uint64 bits[BITS_WORDS] = {0};
	size_t bytes;

	store_owner_set(owner, data);
	CHECK_FOR_INTERRUPTS();
	CSEG_CALL(rel, cseg_cell_members(data, ~UINT64CONST(0), bits, &err));
	for (uint32 w = 0; w < BITS_WORDS; w++)
		for (uint64 rest = bits[w]; rest != 0; rest &= rest - 1)
		{
			uint32 ordinal = ordinal_of(cell->container, w * 64 + (uint32) pg_rightmost_one_pos64(rest));

			check_known(rel, numbering, ordinal);
			numbering->number[ordinal] = AM_MARKED;
		}
	bytes = cseg_cell_bytes(data);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
	return bytes;
}

/* Calls for each marked ordinal of the containers, with its text. */
static void
each_marked(Relation rel, AmReader *from, const AmNumbering *numbering, uint32 first, uint32 end,
			void (*call)(void *arg, uint32 ordinal, const text *identity), void *arg)
{
	for (uint32 container = first; container < end; container++)
	{
		uint32 stop = (uint32) Min((uint64) numbering->n, (uint64) (container + 1) << CSEG_CONTAINER_BITS);

		CHECK_FOR_INTERRUPTS();
		for (uint32 ordinal = ordinal_of(container, 0); ordinal < stop; ordinal++)
			if (numbering->number[ordinal] == AM_MARKED)
				call(arg, ordinal, am_reader_identity(rel, from, ordinal));
	}
}

typedef struct Assignment
{
	Relation rel;
	AmNumbering *numbering;
	CsegBatch *batch;
	CsegDict *dict;
} Assignment;

static void
intern(void *arg, uint32 ordinal, const text *identity)
{
	Assignment *a = arg;
	uint32 who;

	CSEG_CALL(a->rel, cseg_batch_intern(a->batch, (const uint8 *) VARDATA_ANY(identity), VARSIZE_ANY_EXHDR(identity),
										&who, &err));
}

static void
assign(void *arg, uint32 ordinal, const text *identity)
{
	Assignment *a = arg;
	bool found;

	CSEG_CALL(a->rel, cseg_dict_find(a->dict, (const uint8 *) VARDATA_ANY(identity), VARSIZE_ANY_EXHDR(identity),
									 &found, &a->numbering->number[ordinal], &err));
	if (!found)
		elog(ERROR, "identity is not in the dictionary that was made of it");
}

uint32
am_numbering_assign(Relation rel, AmReader *from, AmNumbering *numbering, uint32 first, uint32 end, uint32 base,
					StringInfo record)
{
	MemoryContext cxt =
		AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation new dictionary", ALLOCSET_DEFAULT_SIZES);
	StoreOwner *batch_owner = store_owner_new(cxt, cseg_batch_free);
	StoreOwner *dict_owner = store_owner_new(cxt, cseg_dict_free);
	Assignment a = {.rel = rel, .numbering = numbering};
	const uint8 *bytes;
	size_t len;
	uint32 count;

	CSEG_CALL(rel, cseg_batch_new(&a.batch, &err));
	store_owner_set(batch_owner, a.batch);
	CSEG_CALL(rel, cseg_dict_new(&a.dict, 0, &err));
	store_owner_set(dict_owner, a.dict);
	each_marked(rel, from, numbering, first, end, intern, &a);
	CSEG_CALL(rel, cseg_batch_growth(a.batch, a.dict, &bytes, &len, &count, &err));
	if (count > 0)
	{
		if (len > MaxAllocSize - VARHDRSZ - 1)
			ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
							errmsg("identities of relation \"%s\" take more than 1 GB", RelationGetRelationName(rel))));
		CSEG_CALL(rel, cseg_dict_add(a.dict, base, bytes, len, &err));
		appendBinaryStringInfo(record, (const char *) bytes, (int) len);
		each_marked(rel, from, numbering, first, end, assign, &a);
	}
	MemoryContextDelete(cxt);
	return count;
}

/* ---- rows ------------------------------------------------------------------------------------------------------- */

typedef struct Copy
{
	Relation rel;
	const AmRepack *repack;
	CsegBatch *batch;
	uint32 container; /* of the cell being read */
} Copy;

static void
copy_slot(Copy *c, const CsegSlotView *view, uint8 slot)
{
	const AmRepack *r = c->repack;

	for (uint32 i = 0; i < view->n; i++)
	{
		uint32 entry = view->rows[i];
		uint32 ordinal = ordinal_of(c->container, view->entry_low[entry]);
		uint32 number;
		CsegValue values[CSEG_MEASURES];

		check_known(c->rel, r->numbering, ordinal);
		number = r->numbering->number[ordinal];
		if ((number >> CSEG_CONTAINER_BITS) < r->first_container || (number >> CSEG_CONTAINER_BITS) >= r->end_container)
			continue;
		for (int m = 0; m < CSEG_MEASURES; m++)
			values[m] = view->value[m][entry];
		CSEG_CALL(c->rel, cseg_batch_insert(c->batch, 0, slot, number, values, &err));
	}
}

static void
copy_cell(Copy *c, const StoreCell *cell, const int8 slot_of[CSEG_SLOTS])
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation copy", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	StoreOwner *cell_owner = store_owner_new(cxt, cseg_cell_free);
	StoreOwner *cursor_owner = store_owner_new(cxt, cseg_cursor_free);
	CsegCell *data = store_read_cell(c->rel, cell, false);
	CsegCursor *cursor;

	store_owner_set(cell_owner, data);
	CSEG_CALL(c->rel, cseg_cursor_new(&cursor, data, &err));
	store_owner_set(cursor_owner, cursor);
	c->container = cell->container;
	for (uint8 s = 0; s < CSEG_SLOTS; s++)
	{
		CsegSlotView view;

		if (slot_of[s] < 0)
			continue;
		CHECK_FOR_INTERRUPTS();
		CSEG_CALL(c->rel, cseg_cursor_seek(cursor, s, (1u << CSEG_MEASURES) - 1, &view, &err));
		copy_slot(c, &view, (uint8) slot_of[s]);
	}
	/* The cursor reads the cell, so it goes first. */
	store_owner_set(cursor_owner, NULL);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
	if (cseg_batch_staged(c->batch) * STAGED_ROW_BYTES >= AM_REPACK_STAGED_BYTES)
		CSEG_CALL(c->rel, cseg_batch_settle(c->batch, store_stop_flag(), &err));
}

static bool
seen_before(StoreInstance *const *instances, int i)
{
	for (int k = 0; k < i; k++)
		if (instances[k]->group == instances[i]->group)
			return true;
	return false;
}

void
am_repack(Relation rel, const AmRepack *repack, CsegBatch *batch)
{
	Copy c = {.rel = rel, .repack = repack, .batch = batch};

	for (int i = 0; i < repack->n; i++)
	{
		StoreGroup *group = repack->instances[i]->group;
		int8 slot_of[CSEG_SLOTS];

		if (seen_before(repack->instances, i))
			continue;
		memset(slot_of, -1, sizeof(slot_of));
		for (int k = i; k < repack->n; k++)
			if (repack->instances[k]->group == group)
				slot_of[repack->instances[k]->slot] = (int8) k;
		for (int k = 0; k < group->n_cells; k++)
			copy_cell(&c, group->cells[k], slot_of);
	}
	CSEG_CALL(rel, cseg_batch_settle(batch, store_stop_flag(), &err));
}
