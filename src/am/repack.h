/*
 * repack.h
 *    Rows under other numbers: customers numbered anew, instances in other slots.
 */
#ifndef CSEG_AM_REPACK_H
#define CSEG_AM_REPACK_H

#include "am/am.h"

#include "lib/stringinfo.h"

#define AM_NOBODY PG_UINT32_MAX
#define AM_MARKED (PG_UINT32_MAX - 1)

/* Rows are merged into decoded matrices whenever they take so many bytes raw. */
#define AM_REPACK_STAGED_BYTES ((uint64) 16 * 1024 * 1024)

/* In the context that was current when it was made. */
typedef struct AmNumbering
{
	uint32 n;       /* ordinals of the table */
	uint32 *number; /* by ordinal: AM_NOBODY, AM_MARKED or the new number */
} AmNumbering;

extern AmNumbering *am_numbering_new(Relation rel, AmReader *from);
/* Marks the customers of a cell; returns the bytes that the cell takes decoded. */
extern size_t am_numbering_mark(Relation rel, AmNumbering *numbering, const StoreCell *cell);
/*
 * Numbers the marked customers of containers first..end-1 from base on, in the dictionary's own order, and appends the
 * dictionary record that holds them. Returns how many there are; nothing is appended if there are none.
 */
extern uint32 am_numbering_assign(Relation rel, AmReader *from, AmNumbering *numbering, uint32 first, uint32 end,
								  uint32 base, StringInfo record);

typedef struct AmRepack
{
	const AmNumbering *numbering;
	int n; /* instances, at most CSEG_SLOTS; instance i goes to slot i */
	StoreInstance *const *instances;
	uint32 first_container; /* new numbers outside of these containers are passed by */
	uint32 end_container;
} AmRepack;

/* Puts the rows of the instances into the batch as group 0, settled. */
extern void am_repack(Relation rel, const AmRepack *repack, CsegBatch *batch);

#endif /* CSEG_AM_REPACK_H */
