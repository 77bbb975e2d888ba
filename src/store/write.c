/*
 * write.c
 *    Inserting and deleting records, saving their bodies, and the numbers that are free.
 *
 * Every insert passes HEAP_INSERT_NO_LOGICAL: records mean nothing to logical decoding. heap_update and
 * heap_multi_insert are never used, since they can't be told so.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/heaptoast.h"
#include "access/toast_internals.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/snapmgr.h"

#include "compat/compat.h"
#include "store/record.h"

#define MAX_INLINE_BODY (TOAST_TUPLE_THRESHOLD - RECORD_TUPLE_HOFF - RECORD_HEADER_BYTES)

static void
require_toast_table(Relation rel)
{
	if (OidIsValid(rel->rd_rel->reltoastrelid))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("relation \"%s\" has no TOAST table", RelationGetRelationName(rel)),
			 errdetail("Access method \"customer_segmentation\" keeps its data there."),
			 errhint("Create a new table with CREATE TABLE ... USING customer_segmentation and copy the rows.")));
}

void
store_save_body(Relation rel, StoreBody *body, const uint8 *bytes, size_t len, bool frozen)
{
	int options = HEAP_INSERT_NO_LOGICAL | (frozen ? HEAP_INSERT_FROZEN : 0);
	Datum pointer;

	if (len > MaxAllocSize - VARHDRSZ - 1)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("a part of relation \"%s\" would exceed 1 GB", RelationGetRelationName(rel)),
						errdetail("It needs %zu bytes.", len)));
	memset(body, 0, sizeof(*body));
	initStringInfo(&body->data);
	enlargeStringInfo(&body->data, (int) (VARHDRSZ + len));
	memcpy(body->data.data + VARHDRSZ, bytes, len);
	body->data.len = (int) (VARHDRSZ + len);
	SET_VARSIZE(body->data.data, VARHDRSZ + len);
	if (len <= MAX_INLINE_BODY)
		return;

	require_toast_table(rel);
	body->external = true;
	body->sum = cseg_checksum(bytes, len, len);
	pointer = toast_save_datum(rel, PointerGetDatum(body->data.data), NULL, options);
	memcpy(body->toast_pointer, DatumGetPointer(pointer), TOAST_POINTER_SIZE);
	pfree(DatumGetPointer(pointer));
}

/* The statistics system counts rows, not records: what heapam counted is taken back. */
typedef struct RowCounts
{
	int64 inserted;
	int64 deleted;
} RowCounts;

static RowCounts
save_counts(Relation rel)
{
	RowCounts c = {0, 0};

	if (pgstat_should_count_relation(rel) && rel->pgstat_info->trans)
	{
		c.inserted = rel->pgstat_info->trans->tuples_inserted;
		c.deleted = rel->pgstat_info->trans->tuples_deleted;
	}
	return c;
}

static void
restore_counts(Relation rel, RowCounts c)
{
	if (!pgstat_should_count_relation(rel) || rel->pgstat_info->trans == NULL)
		return;
	rel->pgstat_info->trans->tuples_inserted = c.inserted;
	rel->pgstat_info->trans->tuples_deleted = c.deleted;
}

uint32
store_insert(Relation rel, StoreKind kind, uint16 flags, uint32 group_no, uint32 a, uint32 b, uint32 c,
			 const StoreBody *body, CommandId cid, bool frozen)
{
	HeapTuple tuple = record_form(rel, kind, flags, group_no, a, b, c, body);
	uint32 checksum = bytes_get_u32((const uint8 *) tuple->t_data + RECORD_TUPLE_HOFF + 4);
	RowCounts counts = save_counts(rel);

	heap_insert(rel, tuple, cid, HEAP_INSERT_NO_LOGICAL | (frozen ? HEAP_INSERT_FROZEN : 0), NULL);
	restore_counts(rel, counts);
	heap_freetuple(tuple);
	return checksum;
}

/*
 * A record that is replaced leaves dead room in proportion to its rows. It is reported as so many dead rows, so that
 * autovacuum comes by although no row was deleted.
 */
static void
count_replaced(Relation rel, const StoreRecord *rec)
{
	if (pgstat_should_count_relation(rel))
		compat_add_live_and_dead(rel, 0, rec->kind == STORE_BASE ? Max(rec->c, 1) : 1);
}

void
store_count_live(Relation rel, int64 rows)
{
	RecordScan scan;
	int64 records = 0;

	if (!pgstat_should_count_relation(rel))
		return;
	record_scan_begin(&scan, rel, SnapshotSelf);
	while (record_scan_next(&scan) != NULL)
		records++;
	record_scan_end(&scan);
	compat_add_live_and_dead(rel, rows - records, 0);
}

void
store_delete(Relation rel, const StoreRecord *rec, CommandId cid)
{
	ItemPointerData tid = rec->tid;
	TM_FailureData tmfd;
	RowCounts counts = save_counts(rel);
	TM_Result result = heap_delete(rel, &tid, cid, InvalidSnapshot, true, &tmfd, false);

	restore_counts(rel, counts);
	count_replaced(rel, rec);
	if (result != TM_Ok)
		elog(ERROR, "could not replace a record of relation \"%s\": result %d", RelationGetRelationName(rel),
			 (int) result);
	if (rec->flags & STORE_FLAG_EXTERNAL)
		toast_delete_datum(rel, PointerGetDatum(rec->toast_pointer), false);
}

/* An update counts as one insertion and one deletion of a version by the statistics system itself. */
void
store_count_rows(Relation rel, int64 inserted, int64 updated, int64 deleted)
{
	PgStat_TableXactStatus *trans;

	if (inserted > 0)
		pgstat_count_heap_insert(rel, inserted);
	if (!pgstat_should_count_relation(rel))
		return;
	if (updated > 0)
	{
		compat_count_heap_update(rel);
		rel->pgstat_info->trans->tuples_updated += updated - 1;
	}
	if (deleted > 0)
	{
		pgstat_count_heap_delete(rel);
		trans = rel->pgstat_info->trans;
		trans->tuples_deleted += deleted - 1;
	}
}

/* ---- numbers ------------------------------------------------------------------------------------------------- */

/* Block 0 need not exist: the lock is on its number. */
void
store_short_lock(Relation rel)
{
	LockPage(rel, 0, ExclusiveLock);
}

void
store_short_unlock(Relation rel)
{
	UnlockPage(rel, 0, ExclusiveLock);
}

void
store_numbers_in_use(Relation rel, StoreNumbers *numbers)
{
	RecordScan scan;
	HeapTuple tuple;

	memset(numbers, 0, sizeof(*numbers));
	record_scan_begin(&scan, rel, SnapshotAny);
	while ((tuple = record_scan_next(&scan)) != NULL)
	{
		StoreKind kind;
		uint32 group_no;
		uint32 a;

		if (!record_peek(tuple, &kind, &group_no, &a))
			continue;
		if (kind != STORE_DICT && group_no <= STORE_MAX_GROUP_NO)
			numbers->groups = bms_add_member(numbers->groups, (int) group_no);
		if ((kind == STORE_BASE || kind == STORE_DELTA) && a <= STORE_MAX_CELL_NO)
			numbers->cells = bms_add_member(numbers->cells, (int) a);
	}
	record_scan_end(&scan);
}

uint32
store_next_number(Bitmapset **used, uint32 *hint, uint32 limit, const char *what)
{
	uint32 n = *hint;

	while (n <= limit && bms_is_member((int) n, *used))
		n++;
	if (n > limit)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("relation has no free %s number left", what),
						errdetail("The limit is %u.", limit),
						errhint("Run VACUUM to free the numbers of deleted rows, or use more than one table.")));
	*used = bms_add_member(*used, (int) n);
	*hint = n + 1;
	return n;
}
