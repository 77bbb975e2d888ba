/*
 * view.c
 *    What a snapshot sees of a relation: its groups, instances, cells and dictionary records, without the bodies of
 *    cells. Built by one pass over the main fork, which is a few pages for millions of rows.
 *
 * A view is private memory: it holds no pins and no locks. Bodies that it refers to stay readable as long as the
 * snapshot (or, for the newest view, the writer's segment locks) is held.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/heaptoast.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat/compat.h"
#include "store/pages.h"
#include "store/record.h"
#include "store/views.h"

/* ---- dimensions -------------------------------------------------------------------------------------------- */

bool
store_text_equal(const text *a, const text *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		   memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

uint32
store_bytes_hash(const uint8 *p, uint32 len)
{
	return DatumGetUInt32(hash_any(p, (int) len));
}

uint32
store_text_hash(const text *t)
{
	return store_bytes_hash((const uint8 *) VARDATA_ANY(t), (uint32) VARSIZE_ANY_EXHDR(t));
}

bool
store_group_dims_equal(const StoreGroupDims *a, const StoreGroupDims *b)
{
	return store_text_equal(a->segment_id, b->segment_id) && store_text_equal(a->segment_name, b->segment_name) &&
		   store_text_equal(a->segment_by, b->segment_by) && store_text_equal(a->schedule, b->schedule) &&
		   a->has_segment_created == b->has_segment_created &&
		   (!a->has_segment_created || a->segment_created_date == b->segment_created_date);
}

static text *
copy_text(const text *t)
{
	Size len;
	text *copy;

	if (t == NULL)
		return NULL;
	len = VARSIZE_ANY_EXHDR(t);
	copy = palloc(VARHDRSZ + len);
	SET_VARSIZE(copy, VARHDRSZ + len);
	memcpy(VARDATA(copy), VARDATA_ANY(t), len);
	return copy;
}

StoreGroupDims
store_group_dims_copy(const StoreGroupDims *d)
{
	StoreGroupDims copy = *d;

	copy.segment_id = copy_text(d->segment_id);
	copy.segment_name = copy_text(d->segment_name);
	copy.segment_by = copy_text(d->segment_by);
	copy.schedule = copy_text(d->schedule);
	return copy;
}

/* ---- bodies ------------------------------------------------------------------------------------------------ */

const uint8 *
store_body(Relation rel, const StoreRecord *rec)
{
	struct varlena *value;

	if (rec->inline_body)
		return rec->inline_body;
	value = detoast_external_attr((struct varlena *) unconstify(StoreRecord *, rec)->toast_pointer);
	if (VARSIZE_ANY_EXHDR(value) != rec->body_len)
		record_corrupt(rel, &rec->tid, "its body has a wrong length");
	if (cseg_checksum((const uint8 *) VARDATA_ANY(value), rec->body_len, rec->body_len) != rec->body_sum)
		record_corrupt(rel, &rec->tid, "the checksum of its body does not match");
	return (const uint8 *) VARDATA_ANY(value);
}

static RecordReader
body_reader(Relation rel, const StoreRecord *rec)
{
	RecordReader r = {.rel = rel, .rec = rec, .at = store_body(rel, rec)};

	r.end = r.at + rec->body_len;
	return r;
}

enum
{
	GROUP_HAS_NAME = 1,
	GROUP_HAS_BY = 2,
	GROUP_HAS_SCHEDULE = 4,
	GROUP_HAS_CREATED = 8
};

static void
append_i64(StringInfo out, int64 v)
{
	uint8 b[8];

	bytes_put_u64(b, (uint64) v);
	appendBinaryStringInfo(out, (char *) b, 8);
}

static void
append_text(StringInfo out, const text *t)
{
	uint8 b[4];

	bytes_put_u32(b, (uint32) VARSIZE_ANY_EXHDR(t));
	appendBinaryStringInfo(out, (char *) b, 4);
	appendBinaryStringInfo(out, VARDATA_ANY(t), (int) VARSIZE_ANY_EXHDR(t));
}

void
store_encode_group(StringInfo out, const StoreGroupDims *dims)
{
	appendStringInfoCharMacro(
		out, (char) ((dims->segment_name ? GROUP_HAS_NAME : 0) | (dims->segment_by ? GROUP_HAS_BY : 0) |
					 (dims->schedule ? GROUP_HAS_SCHEDULE : 0) | (dims->has_segment_created ? GROUP_HAS_CREATED : 0)));
	append_text(out, dims->segment_id);
	if (dims->segment_name)
		append_text(out, dims->segment_name);
	if (dims->segment_by)
		append_text(out, dims->segment_by);
	if (dims->schedule)
		append_text(out, dims->schedule);
	if (dims->has_segment_created)
		append_i64(out, dims->segment_created_date);
}

static void
decode_group(Relation rel, StoreGroup *group)
{
	RecordReader r = body_reader(rel, group->rec);
	uint8 has = reader_u8(&r);

	group->dims.segment_id = reader_text(&r);
	if (has & GROUP_HAS_NAME)
		group->dims.segment_name = reader_text(&r);
	if (has & GROUP_HAS_BY)
		group->dims.segment_by = reader_text(&r);
	if (has & GROUP_HAS_SCHEDULE)
		group->dims.schedule = reader_text(&r);
	group->dims.has_segment_created = (has & GROUP_HAS_CREATED) != 0;
	if (group->dims.has_segment_created)
		group->dims.segment_created_date = reader_i64(&r);
	if (r.at != r.end)
		record_corrupt(rel, &group->rec->tid, "body has bytes left over");
}

void
store_encode_instance(StringInfo out, const StoreInstanceDims *dims, const CsegTotals *totals)
{
	uint8 bytes[CSEG_TOTALS_MAX_BYTES];
	size_t len = cseg_totals_encode(totals, bytes);

	append_i64(out, dims->instance_created_date);
	append_text(out, dims->segment_instance_id);
	appendBinaryStringInfo(out, (char *) bytes, (int) len);
}

/* All but the totals, of which the number of rows comes first. */
static void
decode_instance(Relation rel, StoreInstance *inst)
{
	RecordReader r = body_reader(rel, inst->rec);

	inst->dims.instance_created_date = reader_i64(&r);
	inst->dims.segment_instance_id = reader_text(&r);
	CSEG_CALL(rel, cseg_totals_decode_rows(&inst->stored_rows, r.at, r.end - r.at, &err));
}

void
store_stored_totals(Relation rel, const StoreInstance *inst, CsegTotals *totals)
{
	RecordReader r = body_reader(rel, inst->rec);
	size_t used;

	reader_i64(&r);
	reader_take(&r, reader_u32(&r));
	CSEG_CALL(rel, cseg_totals_decode(totals, r.at, r.end - r.at, &used, &err));
	if (r.at + used != r.end)
		record_corrupt(rel, &inst->rec->tid, "body has bytes left over");
}

/* Delta: u8 count of slots, then slot and totals of each, then the cell's bytes. */
void
store_encode_delta(StringInfo out, const CsegTotals *change, uint64 slots, const uint8 *cell_bytes, size_t cell_len)
{
	uint8 bytes[CSEG_TOTALS_MAX_BYTES];

	appendStringInfoCharMacro(out, (char) pg_popcount64(slots));
	for (int s = 0; s < CSEG_SLOTS; s++)
	{
		if ((slots & (UINT64CONST(1) << s)) == 0)
			continue;
		appendStringInfoCharMacro(out, (char) s);
		appendBinaryStringInfo(out, (char *) bytes, (int) cseg_totals_encode(&change[s], bytes));
	}
	appendBinaryStringInfo(out, (const char *) cell_bytes, (int) cell_len);
}

void
store_delta_parts(Relation rel, const StoreRecord *rec, const uint8 *body, CsegTotals *change, uint64 *slots,
				  const uint8 **cell_bytes, size_t *cell_len)
{
	RecordReader r = {.rel = rel, .rec = rec, .at = body, .end = body + rec->body_len};
	int count = reader_u8(&r);

	*slots = 0;
	for (int i = 0; i < count; i++)
	{
		uint8 slot = reader_u8(&r);
		size_t used;

		if (slot >= CSEG_SLOTS || (*slots & (UINT64CONST(1) << slot)) != 0)
			record_corrupt(rel, &rec->tid, "totals of a slot are out of range or doubled");
		*slots |= UINT64CONST(1) << slot;
		CSEG_CALL(rel, cseg_totals_decode(&change[slot], r.at, r.end - r.at, &used, &err));
		r.at += used;
	}
	*cell_bytes = r.at;
	*cell_len = (size_t) (r.end - r.at);
}

/* ---- building a view ----------------------------------------------------------------------------------------- */

/* The slots that tuples in any state hold. */
typedef struct UsedSlots
{
	uint32 group_no;
	uint64 slots;
} UsedSlots;

/* The greatest sequence number of any delta of a cell. */
typedef struct LastSequence
{
	uint32 cell_no;
	uint32 sequence;
} LastSequence;

typedef struct ViewBuilder
{
	StoreView *view;
	Relation rel;
	int n[256];
	int cap[256];
	StoreRecord **recs[256];
	struct HTAB *used;      /* UsedSlots by group_no */
	struct HTAB *sequences; /* LastSequence by cell_no */
	/* The entries found last: what lies side by side is mostly of one group. */
	UsedSlots *last_used;
	LastSequence *last_sequence;
} ViewBuilder;

static void
builder_add(ViewBuilder *b, StoreRecord *rec)
{
	int k = (uint8) rec->kind;

	if (b->n[k] == b->cap[k])
	{
		b->cap[k] = b->cap[k] ? b->cap[k] * 2 : 64;
		b->recs[k] = b->recs[k] ? repalloc_huge(b->recs[k], sizeof(StoreRecord *) * b->cap[k])
								: palloc(sizeof(StoreRecord *) * b->cap[k]);
	}
	b->recs[k][b->n[k]++] = rec;
	b->view->n_records++;
}

StoreGroup *
store_find_group(const StoreView *view, uint32 group_no)
{
	int lo = 0;
	int hi = view->n_groups - 1;

	while (lo <= hi)
	{
		int mid = (lo + hi) / 2;

		if (view->groups[mid]->group_no == group_no)
			return view->groups[mid];
		if (view->groups[mid]->group_no < group_no)
			lo = mid + 1;
		else
			hi = mid - 1;
	}
	return NULL;
}

int
store_group_place(const StoreView *view, const StoreGroup *group)
{
	int lo = 0;
	int hi = view->n_groups - 1;

	while (lo < hi)
	{
		int mid = (lo + hi) / 2;

		if (view->groups[mid]->group_no < group->group_no)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

StoreCell *
store_find_cell(const StoreView *view, uint32 cell_no)
{
	int lo = 0;
	int hi = view->n_cells - 1;

	while (lo <= hi)
	{
		int mid = (lo + hi) / 2;

		if (view->cells[mid]->cell_no == cell_no)
			return view->cells[mid];
		if (view->cells[mid]->cell_no < cell_no)
			lo = mid + 1;
		else
			hi = mid - 1;
	}
	return NULL;
}

StoreCell *
store_group_cell(const StoreGroup *group, uint32 container)
{
	int lo = 0;
	int hi = group->n_cells - 1;

	while (lo <= hi)
	{
		int mid = (lo + hi) / 2;

		if (group->cells[mid]->container == container)
			return group->cells[mid];
		if (group->cells[mid]->container < container)
			lo = mid + 1;
		else
			hi = mid - 1;
	}
	return NULL;
}

/*
 * What SnapshotSelf shows is no one moment: while the file is read, others commit. What they write, in segments that
 * we have not locked, may then not fit together, and is not looked at; in locked ones nothing changes.
 */
static void
inconsistent(ViewBuilder *b, const StoreRecord *rec, const char *what)
{
	if (!b->view->lenient)
		record_corrupt(b->rel, &rec->tid, what);
}

/* Leaves out the cells' records whose group is not there. */
static void
drop_orphans(ViewBuilder *b, StoreKind kind)
{
	int n = 0;

	for (int i = 0; i < b->n[kind]; i++)
	{
		StoreRecord *rec = b->recs[kind][i];

		if (store_find_group(b->view, rec->group_no))
			b->recs[kind][n++] = rec;
		else
			inconsistent(b, rec, "its group is missing");
	}
	b->n[kind] = n;
}

static void
build_groups(ViewBuilder *b)
{
	StoreView *view = b->view;

	records_sort(b->recs[STORE_GROUP], b->n[STORE_GROUP]);
	view->groups = palloc(sizeof(StoreGroup *) * Max(b->n[STORE_GROUP], 1));
	for (int i = 0; i < b->n[STORE_GROUP]; i++)
	{
		StoreGroup *group = palloc0(sizeof(StoreGroup));

		group->rec = b->recs[STORE_GROUP][i];
		group->group_no = group->rec->group_no;
		group->first_date = PG_INT64_MAX;
		group->last_date = PG_INT64_MIN;
		if (view->n_groups > 0 && view->groups[view->n_groups - 1]->group_no == group->group_no)
		{
			inconsistent(b, group->rec, "its group number is taken");
			continue;
		}
		decode_group(b->rel, group);
		if (b->used)
		{
			UsedSlots *used = hash_search(b->used, &group->group_no, HASH_FIND, NULL);

			group->used_slots = used ? used->slots : 0;
		}
		view->groups[view->n_groups++] = group;
	}
}

/* Zeroed, for n > 0 or none. */
static void *
alloc_many(Size size, int n)
{
	return palloc_extended(size * Max(n, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

static void
build_instances(ViewBuilder *b)
{
	StoreView *view = b->view;
	int n = b->n[STORE_INSTANCE];
	StoreInstance *all;

	records_sort(b->recs[STORE_INSTANCE], b->n[STORE_INSTANCE]);
	view->instances = alloc_many(sizeof(StoreInstance *), n);
	all = alloc_many(sizeof(StoreInstance), n);
	for (int i = 0; i < n; i++)
	{
		StoreInstance *inst = &all[i];

		inst->rec = b->recs[STORE_INSTANCE][i];
		inst->slot = (uint8) inst->rec->a;
		/* Sorted by group: mostly that of the one before. */
		inst->group = i > 0 && all[i - 1].rec->group_no == inst->rec->group_no
						  ? all[i - 1].group
						  : store_find_group(view, inst->rec->group_no);
		if (inst->group == NULL || inst->group->instance[inst->slot])
		{
			inconsistent(b, inst->rec, inst->group ? "its slot is taken" : "its group is missing");
			continue;
		}
		decode_instance(b->rel, inst);
		inst->group->instance[inst->slot] = inst;
		inst->group->live_slots |= UINT64CONST(1) << inst->slot;
		inst->group->first_date = Min(inst->group->first_date, inst->dims.instance_created_date);
		inst->group->last_date = Max(inst->group->last_date, inst->dims.instance_created_date);
		view->instances[view->n_instances++] = inst;
	}
}

/* In the order of containers. Cells come by number, which is nearly the same. */
static void
add_to_group(StoreGroup *group, StoreCell *cell)
{
	int at = group->n_cells;

	if (group->n_cells == group->cap_cells)
	{
		group->cap_cells = group->cap_cells ? group->cap_cells * 2 : 4;
		group->cells = group->cells ? repalloc(group->cells, sizeof(StoreCell *) * group->cap_cells)
									: palloc(sizeof(StoreCell *) * group->cap_cells);
	}
	for (; at > 0 && group->cells[at - 1]->container > cell->container; at--)
		group->cells[at] = group->cells[at - 1];
	group->cells[at] = cell;
	group->n_cells++;
}

static StoreCell *
new_cell(ViewBuilder *b, StoreRecord *rec)
{
	StoreGroup *group = store_find_group(b->view, rec->group_no);
	StoreCell *cell;

	Assert(group != NULL);
	cell = palloc0(sizeof(StoreCell));
	cell->cell_no = rec->a;
	cell->container = rec->b;
	cell->group = group;
	add_to_group(group, cell);
	cell->at = b->view->n_cells;
	b->view->cells[b->view->n_cells++] = cell;
	return cell;
}

static void
check_same_cell(ViewBuilder *b, const StoreCell *cell, StoreRecord *rec)
{
	if (cell->container != rec->b || cell->group->group_no != rec->group_no)
		inconsistent(b, rec, "its cell number is taken by another cell");
}

/* Merges the two sorted lists of bases and deltas. */
static void
build_cells(ViewBuilder *b)
{
	int n_base;
	int n_delta;
	int d = 0;

	drop_orphans(b, STORE_BASE);
	drop_orphans(b, STORE_DELTA);
	n_base = b->n[STORE_BASE];
	n_delta = b->n[STORE_DELTA];

	records_sort(b->recs[STORE_BASE], b->n[STORE_BASE]);
	records_sort(b->recs[STORE_DELTA], b->n[STORE_DELTA]);
	b->view->cells = palloc(sizeof(StoreCell *) * Max(n_base + n_delta, 1));
	for (int i = 0; i < n_base || d < n_delta;)
	{
		StoreRecord *base = i < n_base ? b->recs[STORE_BASE][i] : NULL;
		StoreRecord *first = d < n_delta ? b->recs[STORE_DELTA][d] : NULL;
		bool has_base = base && (first == NULL || base->a <= first->a);
		StoreCell *cell = new_cell(b, has_base ? base : first);
		int from = d;

		if (has_base)
		{
			cell->base = base;
			i++;
			for (; i < n_base && b->recs[STORE_BASE][i]->a == base->a; i++)
				inconsistent(b, base, "its cell has two bases");
		}
		while (d < n_delta && b->recs[STORE_DELTA][d]->a == cell->cell_no)
			check_same_cell(b, cell, b->recs[STORE_DELTA][d++]);
		cell->n_deltas = d - from;
		cell->deltas = b->recs[STORE_DELTA] + from;
	}
}

/*
 * A rewrite starts a new generation, in a transaction; what the dictionary grows by afterwards is visible to all at
 * once, also to who does not see the rewrite yet, or never will. So the generation is the one whose root is visible,
 * and records of others are strays.
 */
static void
build_dict(ViewBuilder *b)
{
	StoreView *view = b->view;
	int n = b->n[STORE_DICT];
	StoreRecord **recs = b->recs[STORE_DICT];

	records_sort(b->recs[STORE_DICT], b->n[STORE_DICT]);
	for (int i = 0; i < n; i++)
	{
		if ((recs[i]->flags & STORE_FLAG_ROOT) == 0)
			continue;
		if (view->dict_root && view->dict_root->group_no != recs[i]->group_no)
			inconsistent(b, recs[i], "two generations of the dictionary are visible");
		view->dict_root = recs[i];
	}
	if (n > 0 && view->dict_root == NULL)
		inconsistent(b, recs[0], "the record that starts its dictionary is missing");
	view->generation = view->dict_root ? view->dict_root->group_no : 0;
	view->dict = palloc(sizeof(StoreRecord *) * Max(n, 1));
	view->strays = palloc(sizeof(StoreRecord *) * Max(n, 1));
	view->marks = palloc(sizeof(StoreRecord *) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		if (view->dict_root == NULL || recs[i]->group_no != view->generation)
			view->strays[view->n_strays++] = recs[i];
		else if (recs[i]->b > 0)
			view->dict[view->n_dict++] = recs[i];
		else
			view->marks[view->n_marks++] = recs[i];
	}
}

static StoreView *
new_view(MemoryContext parent)
{
	/* Many small pieces that go together: as large as they are, not rounded up. */
	MemoryContext cxt = GenerationContextCreate(parent, "customer_segmentation view", ALLOCSET_DEFAULT_SIZES);
	StoreView *view = MemoryContextAllocZero(cxt, sizeof(StoreView));

	view->cxt = cxt;
	return view;
}

static void
build(ViewBuilder *b)
{
	build_groups(b);
	build_instances(b);
	build_cells(b);
	build_dict(b);
}

static void
take_record(void *arg, HeapTuple tuple)
{
	ViewBuilder *b = arg;

	builder_add(b, record_parse(b->rel, tuple));
}

static void
scan_records(ViewBuilder *b, Snapshot snapshot)
{
	RecordScan scan;
	HeapTuple tuple;

	record_scan_begin(&scan, b->rel, snapshot);
	while ((tuple = record_scan_next(&scan)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		take_record(b, tuple);
	}
	record_scan_end(&scan);
}

/* With marks where the snapshot is one whose view may be shared (pages_may_share). */
StoreView *
view_build(Relation rel, Snapshot snapshot, MemoryContext parent, PageMarks *marks)
{
	StoreView *view = new_view(parent);
	MemoryContext old = MemoryContextSwitchTo(view->cxt);
	ViewBuilder b = {.view = view, .rel = rel};

	view->lenient = !IsMVCCSnapshot(snapshot);
	if (marks)
		pages_read(rel, snapshot, marks, take_record, &b);
	else
		scan_records(&b, snapshot);
	build(&b);
	MemoryContextSwitchTo(old);
	return view;
}

StoreView *
store_view(Relation rel, Snapshot snapshot, MemoryContext parent)
{
	return view_build(rel, snapshot, parent, NULL);
}

/*
 * The snapshot that says which records this command may delete: at READ COMMITTED everything that is committed or was
 * written by earlier commands of ours; above, only what the transaction's one snapshot sees. A copy of the struct is
 * enough, since it is only ever handed to visibility checks.
 */
static SnapshotData
deletable_snapshot(CommandId cid)
{
	SnapshotData s;

	/* No new snapshot can be taken while CREATE TABLE AS reads in parallel: its table is new, so any will do. */
	if (IsInParallelMode())
		s = *GetActiveSnapshot();
	else
		s = IsolationUsesXactSnapshot() ? *GetTransactionSnapshot() : *GetLatestSnapshot();
	s.curcid = cid;
	return s;
}

static void
note_sequence(ViewBuilder *b, uint32 cell_no, uint32 sequence)
{
	bool found = true;
	LastSequence *last = b->last_sequence;

	if (last == NULL || last->cell_no != cell_no)
		last = b->last_sequence = hash_search(b->sequences, &cell_no, HASH_ENTER, &found);
	last->sequence = found ? Max(last->sequence, sequence) : sequence;
}

static void
set_sequences(ViewBuilder *b)
{
	for (int i = 0; i < b->view->n_cells; i++)
	{
		LastSequence *last = hash_search(b->sequences, &b->view->cells[i]->cell_no, HASH_FIND, NULL);

		b->view->cells[i]->last_sequence = last ? last->sequence : 0;
	}
}

static void
note_used(ViewBuilder *b, HeapTuple tuple)
{
	StoreKind kind;
	uint32 group_no;
	uint32 a;
	bool found;
	UsedSlots *used;

	if (!record_peek(tuple, &kind, &group_no, &a))
		return;
	if (kind == STORE_DELTA)
		note_sequence(b, a, record_sequence(tuple));
	if (kind != STORE_INSTANCE || a >= CSEG_SLOTS)
		return;
	used = b->last_used;
	if (used == NULL || used->group_no != group_no)
	{
		used = b->last_used = hash_search(b->used, &group_no, HASH_ENTER, &found);
		if (!found)
			used->slots = 0;
	}
	used->slots |= UINT64CONST(1) << a;
}

static struct HTAB *
number_table(MemoryContext cxt, const char *name, Size entry_size)
{
	HASHCTL ctl = {.keysize = sizeof(uint32), .entrysize = entry_size, .hcxt = cxt};

	return hash_create(name, 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* The snapshots that say what a writer's command may do with a record. */
typedef struct WriterSnapshots
{
	SnapshotData mine;
	SnapshotData mine_and_now;
} WriterSnapshots;

/* How the file was when the newest view was read. */
typedef struct StoreMoment
{
	BlockNumber n_pages;
	XLogRecPtr *lsn;
	bool decided; /* every other transaction that is named on the pages had ended, by the tuples' own hints */
} StoreMoment;

static bool
is_decided(HeapTupleHeader tuple)
{
	if (tuple->t_infomask & (HEAP_MOVED | HEAP_XMAX_IS_MULTI))
		return false;
	if ((tuple->t_infomask & (HEAP_XMIN_COMMITTED | HEAP_XMIN_INVALID)) == 0 &&
		!TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetRawXmin(tuple)))
		return false;
	return (tuple->t_infomask & (HEAP_XMAX_COMMITTED | HEAP_XMAX_INVALID)) != 0 || HeapTupleHeaderXminInvalid(tuple) ||
		   TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetRawXmax(tuple));
}

static void
take_newest(ViewBuilder *b, HeapTuple tuple, Buffer buffer, WriterSnapshots *w)
{
	StoreRecord *rec;

	note_used(b, tuple);
	if (!HeapTupleSatisfiesVisibility(tuple, SnapshotSelf, buffer))
		return;
	rec = record_parse(b->rel, tuple);
	rec->deletable = HeapTupleSatisfiesVisibility(tuple, &w->mine, buffer);
	rec->own_now = !rec->deletable && TransactionIdIsCurrentTransactionId(rec->xmin);
	rec->own_later = rec->own_now && !HeapTupleSatisfiesVisibility(tuple, &w->mine_and_now, buffer);
	rec->settled = (rec->flags & STORE_FLAG_MOVED) == 0 || !TransactionIdIsNormal(rec->xmin) ||
				   GlobalVisCheckRemovableXid(b->rel, rec->xmin);
	builder_add(b, rec);
}

/*
 * Tuples in any state, page by page. Pages are pruned as in a scan for a snapshot: sessions that only write would look
 * at ever more dead tuples.
 */
static void
scan_newest(ViewBuilder *b, WriterSnapshots *w)
{
	BlockNumber n = RelationGetNumberOfBlocks(b->rel);
	StoreMoment *moment = palloc(sizeof(StoreMoment));

	*moment = (StoreMoment){.n_pages = n, .decided = RelationNeedsWAL(b->rel)};
	moment->lsn = palloc_extended(sizeof(XLogRecPtr) * Max(n, 1), MCXT_ALLOC_HUGE);
	b->view->moment = moment;
	for (BlockNumber block = 0; block < n; block++)
	{
		Buffer buffer = ReadBuffer(b->rel, block);
		OffsetNumber last;

		CHECK_FOR_INTERRUPTS();
		heap_page_prune_opt(b->rel, buffer);
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		last = PageGetMaxOffsetNumber(BufferGetPage(buffer));
		for (OffsetNumber at = FirstOffsetNumber; at <= last; at = OffsetNumberNext(at))
		{
			HeapTupleData tuple;

			if (!page_tuple(b->rel, buffer, at, &tuple))
				continue;
			/* First, since hints may come while the tuple is looked at. */
			moment->decided &= is_decided(tuple.t_data);
			take_newest(b, &tuple, buffer, w);
		}
		moment->lsn[block] = BufferGetLSNAtomic(buffer);
		UnlockReleaseBuffer(buffer);
	}
}

/*
 * A tuple does not change without the LSN of its page moving (see pages.c), and where every transaction had ended,
 * nothing else can. Own changes and subtransactions that end are the caller's to know.
 */
bool
store_view_is_newest(Relation rel, const StoreView *view)
{
	const StoreMoment *moment = view->moment;

	if (RELATION_IS_LOCAL(rel))
		return true;
	if (!moment->decided || RelationGetNumberOfBlocks(rel) != moment->n_pages)
		return false;
	for (BlockNumber block = 0; block < moment->n_pages; block++)
	{
		Buffer buffer = ReadBuffer(rel, block);
		bool same = BufferGetLSNAtomic(buffer) == moment->lsn[block];

		ReleaseBuffer(buffer);
		if (!same)
			return false;
	}
	return true;
}

StoreView *
store_view_newest(Relation rel, CommandId cid, MemoryContext parent)
{
	StoreView *view = new_view(parent);
	MemoryContext old = MemoryContextSwitchTo(view->cxt);
	ViewBuilder b = {.view = view, .rel = rel};
	WriterSnapshots w = {.mine = deletable_snapshot(cid)};

	w.mine_and_now = w.mine;
	w.mine_and_now.curcid = cid + 1;
	view->lenient = true;
	b.used = number_table(view->cxt, "customer_segmentation slots in use", sizeof(UsedSlots));
	b.sequences = number_table(view->cxt, "customer_segmentation sequences", sizeof(LastSequence));
	scan_newest(&b, &w);
	build(&b);
	set_sequences(&b);
	MemoryContextSwitchTo(old);
	return view;
}

/* with_totals: else the rows alone. */
static void
add_delta(Relation rel, StoreCell *cell, StoreRecord *rec, bool lenient, bool with_totals)
{
	CsegTotals change[CSEG_SLOTS];
	uint64 slots;
	const uint8 *cell_bytes;
	size_t cell_len;
	const uint8 *body = store_body(rel, rec);

	store_delta_parts(rel, rec, body, change, &slots, &cell_bytes, &cell_len);
	for (int s = 0; s < CSEG_SLOTS; s++)
	{
		StoreInstance *inst = cell->group->instance[s];

		if ((slots & (UINT64CONST(1) << s)) == 0 || (inst == NULL && lenient))
			continue;
		if (inst == NULL)
			record_corrupt(rel, &rec->tid, "it changes the totals of an instance that is missing");
		if (with_totals)
			cseg_totals_add(inst->totals, &change[s]);
		else
			inst->rows += change[s].rows;
	}
	if (body != rec->inline_body)
		pfree(unconstify(uint8 *, body) - VARHDRSZ);
}

/*
 * Where VACUUM calls, nothing holds back the removal of what a snapshot may still want, so the records seen may not
 * fit together: no cross-checks, and bodies in TOAST (deltas of bulk changes) are left out.
 */
double
store_estimate_rows(Relation rel, Snapshot snapshot)
{
	MemoryContext work =
		AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation estimate", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(work);
	RecordScan scan;
	HeapTuple tuple;
	double rows = 0;

	record_scan_begin(&scan, rel, snapshot);
	while ((tuple = record_scan_next(&scan)) != NULL)
	{
		StoreRecord *rec = record_parse(rel, tuple);

		if (rec->kind == STORE_INSTANCE && rec->inline_body)
		{
			StoreInstance inst = {.rec = rec};

			decode_instance(rel, &inst);
			rows += (double) inst.stored_rows;
		}
		else if (rec->kind == STORE_DELTA && rec->inline_body)
		{
			CsegTotals change[CSEG_SLOTS];
			uint64 slots;
			const uint8 *bytes;
			size_t len;

			store_delta_parts(rel, rec, rec->inline_body, change, &slots, &bytes, &len);
			for (int s = 0; s < CSEG_SLOTS; s++)
				if (slots & (UINT64CONST(1) << s))
					rows += (double) change[s].rows;
		}
		pfree(rec);
	}
	record_scan_end(&scan);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(work);
	return Max(rows, 0);
}

static void
add_deltas(Relation rel, StoreView *view, bool with_totals)
{
	MemoryContext work =
		AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation totals", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(work);

	for (int i = 0; i < view->n_cells; i++)
	{
		CHECK_FOR_INTERRUPTS();
		for (int d = 0; d < view->cells[i]->n_deltas; d++)
			add_delta(rel, view->cells[i], view->cells[i]->deltas[d], view->lenient, with_totals);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(work);
}

static void
count_rows(StoreView *view)
{
	view->rows = 0;
	for (int i = 0; i < view->n_instances; i++)
		view->rows += view->instances[i]->rows;
	view->has_rows = true;
}

void
store_view_rows(Relation rel, StoreView *view)
{
	if (view->has_rows)
		return;
	for (int i = 0; i < view->n_instances; i++)
		view->instances[i]->rows = view->instances[i]->stored_rows;
	add_deltas(rel, view, false);
	count_rows(view);
}

static void
forget_totals(StoreView *view)
{
	for (int i = 0; i < view->n_instances; i++)
		view->instances[i]->totals = NULL;
}

void
store_view_totals(Relation rel, StoreView *view)
{
	MemoryContext old;
	CsegTotals *all;

	if (view->has_totals)
		return;
	old = MemoryContextSwitchTo(view->cxt);
	all = alloc_many(sizeof(CsegTotals), view->n_instances);
	MemoryContextSwitchTo(old);
	/* Totals that are there are right: the view may be kept for others. */
	PG_TRY();
	{
		for (int i = 0; i < view->n_instances; i++)
		{
			view->instances[i]->totals = &all[i];
			store_stored_totals(rel, view->instances[i], &all[i]);
		}
		add_deltas(rel, view, true);
	}
	PG_CATCH();
	{
		forget_totals(view);
		pfree(all);
		PG_RE_THROW();
	}
	PG_END_TRY();
	for (int i = 0; i < view->n_instances; i++)
		view->instances[i]->rows = all[i].rows;
	count_rows(view);
	view->has_totals = true;
	view_resized(view);
}
