/*
 * pages.h
 *    One pass over the main fork for an MVCC snapshot. Private to the store.
 */
#ifndef CSEG_STORE_PAGES_H
#define CSEG_STORE_PAGES_H

#include "postgres.h"

#include "access/htup.h"
#include "access/xlogdefs.h"
#include "storage/block.h"
#include "storage/buf.h"
#include "storage/off.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

/* What has to stay as it is for another snapshot to see the same. */
typedef struct PageMarks
{
	BlockNumber n_pages;
	XLogRecPtr *lsn;
	bool settled;         /* every transaction named on the pages had ended */
	TransactionId newest; /* of those before the snapshot's xmin */
	int n_recent;         /* the others */
	int cap_recent;
	TransactionId *recent;
} PageMarks;

/* May what this snapshot sees of the relation be kept for others, and the other way round? */
extern bool pages_may_share(Relation rel, Snapshot snapshot);
/* Hands out each record that the snapshot sees, in the order of the file. Marks are made in the current context. */
extern void pages_read(Relation rel, Snapshot snapshot, PageMarks *marks, void (*take)(void *arg, HeapTuple tuple),
					   void *arg);
/* The tuple at an item of a page that is locked; false where there is none. */
extern bool page_tuple(Relation rel, Buffer buffer, OffsetNumber at, HeapTuple tuple);
extern bool pages_unchanged(Relation rel, Snapshot snapshot, const PageMarks *marks);

#endif /* CSEG_STORE_PAGES_H */
