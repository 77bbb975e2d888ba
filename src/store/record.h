/*
 * record.h
 *    The bytes of a record behind its heap tuple header. Private to the store. README.md has the table.
 */
#ifndef CSEG_STORE_RECORD_H
#define CSEG_STORE_RECORD_H

#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "executor/tuptable.h"

#include "store/store.h"

#define RECORD_HEADER_BYTES 24
#define RECORD_EXTERNAL_BYTES (8 + TOAST_POINTER_SIZE) /* length, checksum, TOAST pointer */
#define RECORD_TUPLE_HOFF MAXALIGN(SizeofHeapTupleHeader)

/* Parses and checks the record in a heap tuple; copies it into the current context. */
extern StoreRecord *record_parse(Relation rel, HeapTuple tuple);
/* Just kind and numbers, for tuples in any state. Returns false if it is not a record. */
extern bool record_peek(HeapTuple tuple, StoreKind *kind, uint32 *group_no, uint32 *a);
extern uint32 record_sequence(HeapTuple tuple); /* of a delta that record_peek has recognized */
/* A heap tuple with zero attributes that holds the record. */
extern HeapTuple record_form(Relation rel, StoreKind kind, uint16 flags, uint32 group_no, uint32 a, uint32 b, uint32 c,
							 const StoreBody *body);
COMPAT_NORETURN extern void record_corrupt(Relation rel, const ItemPointerData *tid,
										   const char *what) COMPAT_NORETURN_END;

/* Reads bytes with every bound checked. */
typedef struct RecordReader
{
	Relation rel;
	const StoreRecord *rec;
	const uint8 *at;
	const uint8 *end;
} RecordReader;

extern const uint8 *reader_take(RecordReader *r, size_t n);
extern uint8 reader_u8(RecordReader *r);
extern uint32 reader_u32(RecordReader *r);
extern int64 reader_i64(RecordReader *r);
extern text *reader_text(RecordReader *r);

/* Of one kind: groups by number, instances by group and slot, bases by cell, deltas by cell and sequence, dictionary
 * records by first ordinal. */
extern void records_sort(StoreRecord **recs, int n);

extern void bytes_put_u16(uint8 *p, uint16 v);
extern void bytes_put_u32(uint8 *p, uint32 v);
extern void bytes_put_u64(uint8 *p, uint64 v);
extern uint16 bytes_get_u16(const uint8 *p);
extern uint32 bytes_get_u32(const uint8 *p);
extern uint64 bytes_get_u64(const uint8 *p);

/* A scan over the relation's heap tuples with heapam's own routines. */
typedef struct RecordScan
{
	Relation rel;
	TableScanDesc scan;
	TupleTableSlot *slot;
} RecordScan;

extern void record_scan_begin(RecordScan *s, Relation rel, Snapshot snapshot);
extern HeapTuple record_scan_next(RecordScan *s);
extern bool record_scan_visible(RecordScan *s, Snapshot snapshot); /* of the current tuple */
extern void record_scan_end(RecordScan *s);

#endif /* CSEG_STORE_RECORD_H */
