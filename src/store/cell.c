/*
 * cell.c
 *    Reading a cell: its base, and its deltas applied.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "store/cell.h"

int
cell_parts(const StoreCell *cell)
{
	return (cell->base != NULL) + cell->n_deltas;
}

const StoreRecord *
cell_part(const StoreCell *cell, int i)
{
	if (cell->base)
		return i == 0 ? cell->base : cell->deltas[i - 1];
	return cell->deltas[i];
}

CellBytes
cell_part_bytes(Relation rel, const StoreRecord *rec)
{
	const uint8 *body = store_body(rel, rec);
	CellBytes part = {body, rec->body_len};
	CsegTotals change[CSEG_SLOTS];
	uint64 slots;

	if (rec->kind == STORE_DELTA)
		store_delta_parts(rel, rec, body, change, &slots, &part.bytes, &part.len);
	return part;
}

static CsegCell *
decode(Relation rel, CellBytes part, uint16 low_first, uint16 low_last)
{
	CsegCell *cell;

	if (low_first == 0 && low_last == CELL_LAST_LOW)
		CSEG_CALL(rel, cseg_cell_decode(&cell, part.bytes, part.len, &err));
	else
		CSEG_CALL(rel, cseg_cell_decode_range(&cell, part.bytes, part.len, low_first, low_last, &err));
	return cell;
}

CsegCell *
store_read_delta(Relation rel, const StoreRecord *rec)
{
	return decode(rel, cell_part_bytes(rel, rec), 0, CELL_LAST_LOW);
}

CsegCell *
cell_read(Relation rel, const StoreCell *cell, const CellBytes *bytes, uint16 low_first, uint16 low_last,
		  bool touch_own)
{
	MemoryContext cxt =
		AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation cell", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	StoreOwner *state_owner = store_owner_new(cxt, cseg_cell_free);
	StoreOwner *part_owner = store_owner_new(cxt, cseg_cell_free);
	int n = cell_parts(cell);
	CsegCell *state = NULL;

	if (cell->base == NULL)
	{
		CSEG_CALL(rel, cseg_cell_new(&state, &err));
		store_owner_set(state_owner, state);
	}
	for (int i = 0; i < n; i++)
	{
		const StoreRecord *rec = cell_part(cell, i);
		CsegCell *part = decode(rel, bytes ? bytes[i] : cell_part_bytes(rel, rec), low_first, low_last);

		if (state == NULL)
		{
			state = part;
			store_owner_set(state_owner, state);
			continue;
		}
		store_owner_set(part_owner, part);
		CSEG_CALL(rel, cseg_cell_apply(state, part, touch_own && rec->own_now, &err));
		store_owner_set(part_owner, NULL);
	}
	store_owner_release(state_owner);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
	return state;
}

CsegCell *
store_read_cell(Relation rel, const StoreCell *cell, bool touch_own)
{
	return cell_read(rel, cell, NULL, 0, CELL_LAST_LOW, touch_own);
}

CsegCell *
store_read_cell_range(Relation rel, const StoreCell *cell, uint16 low_first, uint16 low_last, bool touch_own)
{
	return cell_read(rel, cell, NULL, low_first, low_last, touch_own);
}
