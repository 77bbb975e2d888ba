/*
 * changes.h
 *    What a write buffer changes, cell by cell. Private to am.
 */
#ifndef CSEG_AM_CHANGES_H
#define CSEG_AM_CHANGES_H

#include "am/write.h"

typedef struct ChangeKey
{
	uint32 group; /* index among the buffer's groups */
	uint32 container;
} ChangeKey;

/* Moves the settled cells to the buffer's temporary file. */
extern void changes_spill(WriteBuffer *buf, Relation rel);
/* Memory that spilling does not give back. */
extern size_t changes_resident_bytes(const WriteBuffer *buf);
extern bool changes_none(const WriteBuffer *buf);
/* Not for aborts: there the file goes with its resource owner. */
extern void changes_close_file(WriteBuffer *buf);

/* The changed cells in order; in memory of the current context. */
extern ChangeKey *changes_list(const WriteBuffer *buf, int *n);
extern bool changes_cell_exists(const WriteBuffer *buf, ChangeKey key);
/* One of them, or NULL. It belongs to the buffer, or to the owner that is given. */
extern CsegCell *changes_cell(const WriteBuffer *buf, Relation rel, ChangeKey key, StoreOwner *owner);

#endif /* CSEG_AM_CHANGES_H */
