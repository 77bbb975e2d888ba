/*
 * cell.h
 *    Reading a cell from its base and deltas. Private to the store.
 */
#ifndef CSEG_STORE_CELL_H
#define CSEG_STORE_CELL_H

#include "store/store.h"

typedef struct CellBytes
{
	const uint8 *bytes;
	size_t len;
} CellBytes;

#define CELL_LAST_LOW (CSEG_CONTAINER_SIZE - 1)

/* Base and deltas, in the order in which they are applied. */
extern int cell_parts(const StoreCell *cell);
extern const StoreRecord *cell_part(const StoreCell *cell, int i);
/* The cell's bytes of a part, in the current context, or in the record itself. */
extern CellBytes cell_part_bytes(Relation rel, const StoreRecord *rec);
/* The customers low_first..low_last of a cell; unless that is all, others may be there or not. bytes: those of each
 * part, or NULL: to be read. touch_own: see store_read_cell. */
extern CsegCell *cell_read(Relation rel, const StoreCell *cell, const CellBytes *bytes, uint16 low_first,
						   uint16 low_last, bool touch_own);

#endif /* CSEG_STORE_CELL_H */
