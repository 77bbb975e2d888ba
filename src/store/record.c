/*
 * record.c
 *    The bytes of a record, and the scan that finds them.
 *
 * A record is a heap tuple with zero attributes (natts = 0) and an opaque payload, so that generic code which deforms
 * it by the relation's descriptor sees NULLs and never garbage. Integers are little-endian.
 */
#include "store/record.h"

#include "access/heapam.h"
#include "access/heaptoast.h"
#include "access/tableam.h"
#include "storage/bufmgr.h"

void
bytes_put_u16(uint8 *p, uint16 v)
{
	p[0] = (uint8) v;
	p[1] = (uint8) (v >> 8);
}

void
bytes_put_u32(uint8 *p, uint32 v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8) (v >> (8 * i));
}

void
bytes_put_u64(uint8 *p, uint64 v)
{
	for (int i = 0; i < 8; i++)
		p[i] = (uint8) (v >> (8 * i));
}

uint16
bytes_get_u16(const uint8 *p)
{
	return (uint16) (p[0] | (p[1] << 8));
}

uint32
bytes_get_u32(const uint8 *p)
{
	return (uint32) p[0] | ((uint32) p[1] << 8) | ((uint32) p[2] << 16) | ((uint32) p[3] << 24);
}

uint64
bytes_get_u64(const uint8 *p)
{
	return (uint64) bytes_get_u32(p) | ((uint64) bytes_get_u32(p + 4) << 32);
}

void
record_corrupt(Relation rel, const ItemPointerData *tid, const char *what)
{
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
					errmsg("relation \"%s\" holds a damaged record", RelationGetRelationName(rel)),
					errdetail("Record at (%u,%u): %s.", ItemPointerGetBlockNumberNoCheck(tid),
							  ItemPointerGetOffsetNumberNoCheck(tid), what),
					errhint("Run customer_segmentation.verify() and restore the relation from a backup.")));
	pg_unreachable();
}

/* ---- reading ----------------------------------------------------------------------------------------------- */

static bool
known_kind(uint8 kind)
{
	return kind == STORE_GROUP || kind == STORE_INSTANCE || kind == STORE_BASE || kind == STORE_DELTA ||
		   kind == STORE_DICT;
}

static const uint8 *
payload(HeapTuple tuple, size_t *len)
{
	if (HeapTupleHeaderGetNatts(tuple->t_data) != 0 || tuple->t_data->t_hoff != RECORD_TUPLE_HOFF ||
		tuple->t_len < RECORD_TUPLE_HOFF + RECORD_HEADER_BYTES)
		return NULL;
	*len = tuple->t_len - RECORD_TUPLE_HOFF;
	return (const uint8 *) tuple->t_data + RECORD_TUPLE_HOFF;
}

bool
record_peek(HeapTuple tuple, StoreKind *kind, uint32 *group_no, uint32 *a)
{
	size_t len;
	const uint8 *p = payload(tuple, &len);

	if (p == NULL || !known_kind(p[0]))
		return false;
	*kind = (StoreKind) p[0];
	*group_no = bytes_get_u32(p + 8);
	*a = bytes_get_u32(p + 12);
	return true;
}

uint32
record_sequence(HeapTuple tuple)
{
	return bytes_get_u32((const uint8 *) tuple->t_data + RECORD_TUPLE_HOFF + 20);
}

/* The checksum field itself counts as zero: the bytes around it are summed with the first four as seed. */
static uint32
payload_checksum(const uint8 *p, size_t len)
{
	return cseg_checksum(p + 8, len - 8, bytes_get_u32(p));
}

static void
parse_external(Relation rel, HeapTuple tuple, StoreRecord *rec, const uint8 *p, size_t len)
{
	if (len != RECORD_HEADER_BYTES + RECORD_EXTERNAL_BYTES)
		record_corrupt(rel, &tuple->t_self, "the reference to its body has a wrong length");
	rec->body_len = bytes_get_u32(p + RECORD_HEADER_BYTES);
	rec->body_sum = bytes_get_u32(p + RECORD_HEADER_BYTES + 4);
	memcpy(rec->toast_pointer, p + RECORD_HEADER_BYTES + 8, TOAST_POINTER_SIZE);
	if (!VARATT_IS_EXTERNAL_ONDISK(rec->toast_pointer))
		record_corrupt(rel, &tuple->t_self, "the reference to its body is not a TOAST pointer");
}

StoreRecord *
record_parse(Relation rel, HeapTuple tuple)
{
	size_t len;
	const uint8 *p = payload(tuple, &len);
	StoreRecord *rec;

	if (p == NULL || !known_kind(p[0]))
		record_corrupt(rel, &tuple->t_self, "not a record of this access method");
	if (p[1] != STORE_FORMAT_VERSION)
		record_corrupt(rel, &tuple->t_self, "unknown format version");
	if (bytes_get_u32(p + 4) != payload_checksum(p, len))
		record_corrupt(rel, &tuple->t_self, "checksum does not match");

	rec = palloc(sizeof(StoreRecord) + len - RECORD_HEADER_BYTES);
	memset(rec, 0, sizeof(StoreRecord));
	rec->tid = tuple->t_self;
	rec->kind = (StoreKind) p[0];
	rec->flags = bytes_get_u16(p + 2);
	rec->checksum = bytes_get_u32(p + 4);
	rec->group_no = bytes_get_u32(p + 8);
	rec->a = bytes_get_u32(p + 12);
	rec->b = bytes_get_u32(p + 16);
	rec->c = bytes_get_u32(p + 20);
	rec->xmin = HeapTupleHeaderGetXmin(tuple->t_data);
	if (rec->flags & STORE_FLAG_EXTERNAL)
		parse_external(rel, tuple, rec, p, len);
	else
	{
		uint8 *copy = (uint8 *) rec + sizeof(StoreRecord);

		rec->body_len = (uint32) (len - RECORD_HEADER_BYTES);
		memcpy(copy, p + RECORD_HEADER_BYTES, rec->body_len);
		rec->body_sum = cseg_checksum(copy, rec->body_len, rec->body_len);
		rec->inline_body = copy;
	}
	if ((rec->kind == STORE_BASE || rec->kind == STORE_DELTA) &&
		(rec->a > STORE_MAX_CELL_NO || rec->b > (CSEG_MAX_ORDINAL >> CSEG_CONTAINER_BITS)))
		record_corrupt(rel, &tuple->t_self, "cell number or container out of range");
	if (rec->kind == STORE_INSTANCE && rec->a >= CSEG_SLOTS)
		record_corrupt(rel, &tuple->t_self, "slot out of range");
	return rec;
}

const uint8 *
reader_take(RecordReader *r, size_t n)
{
	const uint8 *p = r->at;

	if (n > (size_t) (r->end - r->at))
		record_corrupt(r->rel, &r->rec->tid, "body ends too early");
	r->at += n;
	return p;
}

uint8
reader_u8(RecordReader *r)
{
	return *reader_take(r, 1);
}

uint32
reader_u32(RecordReader *r)
{
	return bytes_get_u32(reader_take(r, 4));
}

int64
reader_i64(RecordReader *r)
{
	return (int64) bytes_get_u64(reader_take(r, 8));
}

text *
reader_text(RecordReader *r)
{
	uint32 len = reader_u32(r);
	const uint8 *p = reader_take(r, len);
	text *t = palloc(VARHDRSZ + len);

	SET_VARSIZE(t, VARHDRSZ + len);
	memcpy(VARDATA(t), p, len);
	return t;
}

/* ---- forming ----------------------------------------------------------------------------------------------- */

HeapTuple
record_form(Relation rel, StoreKind kind, uint16 flags, uint32 group_no, uint32 a, uint32 b, uint32 c,
			const StoreBody *body)
{
	size_t body_len = body->external ? (size_t) RECORD_EXTERNAL_BYTES : (size_t) body->data.len - VARHDRSZ;
	size_t len = RECORD_HEADER_BYTES + body_len;
	HeapTuple tuple = palloc0(HEAPTUPLESIZE + RECORD_TUPLE_HOFF + len);
	uint8 *p;

	tuple->t_len = (uint32) (RECORD_TUPLE_HOFF + len);
	tuple->t_tableOid = RelationGetRelid(rel);
	ItemPointerSetInvalid(&tuple->t_self);
	tuple->t_data = (HeapTupleHeader) ((char *) tuple + HEAPTUPLESIZE);
	HeapTupleHeaderSetNatts(tuple->t_data, 0);
	tuple->t_data->t_hoff = RECORD_TUPLE_HOFF;
	Assert(tuple->t_len <= TOAST_TUPLE_THRESHOLD);

	p = (uint8 *) tuple->t_data + RECORD_TUPLE_HOFF;
	p[0] = (uint8) kind;
	p[1] = STORE_FORMAT_VERSION;
	bytes_put_u16(p + 2, flags | (body->external ? STORE_FLAG_EXTERNAL : 0));
	bytes_put_u32(p + 8, group_no);
	bytes_put_u32(p + 12, a);
	bytes_put_u32(p + 16, b);
	bytes_put_u32(p + 20, c);
	if (body->external)
	{
		bytes_put_u32(p + RECORD_HEADER_BYTES, (uint32) (body->data.len - VARHDRSZ));
		bytes_put_u32(p + RECORD_HEADER_BYTES + 4, body->sum);
		memcpy(p + RECORD_HEADER_BYTES + 8, body->toast_pointer, TOAST_POINTER_SIZE);
	}
	else
		memcpy(p + RECORD_HEADER_BYTES, body->data.data + VARHDRSZ, body_len);
	bytes_put_u32(p + 4, payload_checksum(p, len));
	return tuple;
}

/* ---- scanning ---------------------------------------------------------------------------------------------- */

const TableAmRoutine *
store_heapam(void)
{
	return GetHeapamTableAmRoutine();
}

/* No synchronized scan: each process of a parallel query must see the records in one order. */
void
record_scan_begin(RecordScan *s, Relation rel, Snapshot snapshot)
{
	s->rel = rel;
	s->slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsBufferHeapTuple);
	s->scan =
		store_heapam()->scan_begin(rel, snapshot, 0, NULL, NULL, SO_TYPE_SEQSCAN | SO_ALLOW_STRAT | SO_ALLOW_PAGEMODE);
}

HeapTuple
record_scan_next(RecordScan *s)
{
	if (!store_heapam()->scan_getnextslot(s->scan, ForwardScanDirection, s->slot))
		return NULL;
	return ((BufferHeapTupleTableSlot *) s->slot)->base.tuple;
}

bool
record_scan_visible(RecordScan *s, Snapshot snapshot)
{
	return store_heapam()->tuple_satisfies_snapshot(s->rel, s->slot, snapshot);
}

void
record_scan_end(RecordScan *s)
{
	ExecDropSingleTupleTableSlot(s->slot);
	store_heapam()->scan_end(s->scan);
}
