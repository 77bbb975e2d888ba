/*
 * scan.c
 *    Sequential scans: cell by cell, slot by slot, customer by customer.
 *
 * Per cell the membership and the measures are decoded once; going from slot to slot costs the changes between.
 * A row costs no copy: the slot remembers where the scan stands and fills the columns that the executor asks for.
 * Where a query wants instances in an order, they are read one after the other, each from the cells of its group.
 */
#include "am/am.h"

#include <math.h>

#include "access/relation.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/predicate.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat/compat.h"

typedef struct CachedNumeric
{
	char bytes[AM_NUMERIC_BYTES];
	int64 mantissa;
	uint8 scale;
	uint8 kind; /* of the cached value; CSEG_NULL: nothing cached */
} CachedNumeric;

typedef struct AmScan
{
	TableScanDescData base;
	MemoryContext cxt;
	AmReader *reader;
	StoreDict *dict;
	const AmColumnMap *map;
	TupleDesc map_desc;
	uint32 columns;   /* to fill, by AmColumn */
	uint32 measures;  /* to read, as the core has them */
	uint64 *by_group; /* slots that the filter's conditions let pass; NULL: not judged */
	uint64 *wanted;   /* per cell of the view: slots to read; NULL: every live one */
	MemoryContext mask_cxt;
	bool by_customer; /* read only the customers in ordinals */
	int n_ordinals;
	uint32 *ordinals;                        /* sorted */
	uint16 *chosen_low;                      /* of the current cell: the customers to read, */
	uint64 *chosen_mask;                     /* the slots that each is in, */
	uint32 *chosen_rows;                     /* those in the current slot, */
	CsegValue *chosen_values[CSEG_MEASURES]; /* and their measures in it */
	uint32 n_chosen;
	CsegCell *chosen_cell;
	bool nothing;
	AmScanStats own_stats;
	AmScanStats *stats; /* own or the caller's */

	/* position */
	bool started;
	int cell_at; /* index in the view's cells, -1 before the first */
	int slot_at;
	int64 row_at;
	StoreCell *cell;
	StoreInstance *inst;
	uint64 slots; /* of the cell, still allowed */
	bool single_slot;
	MemoryContext cell_cxt;
	MemoryContext filter_cxt;
	StoreOwner *cell_owner;
	StoreOwner *cursor_owner;
	CsegCursor *cursor;
	CsegSlotView rows;
	const void *const *texts;
	uint32 container; /* pinned, or AM_NO_CONTAINER */
	CachedNumeric *numerics;
	struct varlena *wide; /* the current row's numeric if it is wide */
	Size wide_cap;
	uint32 n_numerics;
	BlockNumber block;

	/* instance by instance */
	bool in_order;
	bool counted; /* rows without cells */
	StoreInstance **order;
	int n_order;
	int order_at;   /* -1 before the first */
	int order_cell; /* of its group's cells, -1 before the first */
	int stop_at;    /* -1: nowhere */
	int resume_at;
	uint64 *order_groups; /* bits by the group's place in the view: counted as read */

	TupleTableSlot *dims_slot; /* holds the dimensions of dims_inst in its first dims_natts columns */
	StoreInstance *dims_inst;
	int dims_natts;
	TransactionId xmin;
	AmRowLog *log;

	/* ANALYZE */
	BlockNumber sample_block;
	pg_prng_state prng;
	bool *decoded;      /* by the cell's place in the view: is it read? */
	double *group_keep; /* by the group's place in the view: fraction of the decoded rows to return */
	double keep;        /* the current group's */
	double skip;        /* rows to pass over before the next one */
} AmScan;

/* How much of a large table is decoded for a sample, and returned of it. */
#define ANALYZE_MAX_ROWS 600000.0
#define ANALYZE_MAX_CELLS 512

/* ---- where the scan stands ------------------------------------------------------------------------------------ */

static void
leave_cell(AmScan *scan)
{
	scan->cell = NULL;
	scan->chosen_cell = NULL;
	scan->cursor = NULL;
	store_owner_set(scan->cursor_owner, NULL);
	store_owner_set(scan->cell_owner, NULL);
}

static void
unpin_texts(AmScan *scan)
{
	if (scan->container == AM_NO_CONTAINER)
		return;
	cseg_dict_unpin(scan->dict->dict, scan->container);
	scan->container = AM_NO_CONTAINER;
	scan->texts = NULL;
}

static void
pin_texts(AmScan *scan, uint32 container)
{
	if (scan->container == container)
		return;
	unpin_texts(scan);
	CSEG_CALL(scan->base.rs_rd, cseg_dict_pin(scan->dict->dict, container, &scan->texts, &err));
	scan->container = container;
}

static void
reset_numerics(AmScan *scan, uint32 n)
{
	if (n > scan->n_numerics)
	{
		scan->numerics = scan->numerics ? repalloc(scan->numerics, sizeof(CachedNumeric) * n)
										: MemoryContextAlloc(scan->cxt, sizeof(CachedNumeric) * n);
		scan->n_numerics = n;
	}
	for (uint32 i = 0; i < n; i++)
		scan->numerics[i].kind = CSEG_NULL;
}

static void
check_instances(AmScan *scan, StoreCell *cell, uint64 slots)
{
	if ((slots & ~cell->group->live_slots) == 0)
		return;
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
					errmsg("relation \"%s\" holds rows of an instance that is missing",
						   RelationGetRelationName(scan->base.rs_rd)),
					errdetail("Cell %u.", cell->cell_no)));
}

/* The wanted customers of the cell's container: looked up one by one, which spares decoding all others. */
static uint64
choose_customers(AmScan *scan, StoreCell *cell)
{
	Relation rel = scan->base.rs_rd;
	uint32 from = cell->container << CSEG_CONTAINER_BITS;
	StoreSharedCell *shared;
	uint64 slots = 0;
	int n = 0;

	for (int i = 0; i < scan->n_ordinals; i++)
	{
		if (scan->ordinals[i] - from < CSEG_CONTAINER_SIZE && scan->ordinals[i] >= from)
			scan->chosen_low[n++] = (uint16) (scan->ordinals[i] - from);
	}
	scan->n_chosen = (uint32) n;
	if (n == 0)
		return 0;
	shared = store_share_customers(rel, cell, scan->chosen_low, n);
	store_owner_set(scan->cell_owner, shared);
	scan->chosen_cell = store_shared_cell(shared);
	for (int i = 0; i < n; i++)
	{
		CSEG_CALL(rel, cseg_cell_mask(scan->chosen_cell, scan->chosen_low[i], &scan->chosen_mask[i], &err));
		slots |= scan->chosen_mask[i];
	}
	return slots;
}

static uint64
open_cursor(AmScan *scan, StoreCell *cell)
{
	Relation rel = scan->base.rs_rd;
	StoreSharedCell *shared = store_share_cell(rel, cell);
	CsegCell *data = store_shared_cell(shared);
	uint64 slots;

	store_owner_set(scan->cell_owner, shared);
	CSEG_CALL(rel, cseg_cell_slots(data, &slots, &err));
	CSEG_CALL(rel, cseg_cursor_new(&scan->cursor, data, &err));
	store_owner_set(scan->cursor_owner, scan->cursor);
	return slots;
}

/* Opens the cell at cell_at; its slots may turn out to be none. */
static void
enter_cell(AmScan *scan)
{
	StoreCell *cell = scan->reader->view->cells[scan->cell_at];
	MemoryContext old;
	uint64 slots;

	leave_cell(scan);
	CHECK_FOR_INTERRUPTS();
	MemoryContextReset(scan->cell_cxt);
	old = MemoryContextSwitchTo(scan->cell_cxt);
	slots = scan->by_customer ? choose_customers(scan, cell) : open_cursor(scan, cell);
	MemoryContextSwitchTo(old);
	check_instances(scan, cell, slots);
	scan->cell = cell;
	scan->slot_at = -1;
	scan->slots = scan->wanted ? slots & scan->wanted[scan->cell_at] : slots;
	scan->single_slot = scan->in_order || pg_popcount64(scan->slots) <= 1;
	scan->xmin = am_cell_xmin(cell);
	scan->stats->cells_read++;
	scan->stats->bytes_read += cell->base ? cell->base->body_len : 0;
	for (int i = 0; i < cell->n_deltas; i++)
		scan->stats->bytes_read += cell->deltas[i]->body_len;
}

static void
seek_chosen(AmScan *scan, int slot)
{
	scan->rows.n = 0;
	for (uint32 i = 0; i < scan->n_chosen; i++)
	{
		CsegValue values[CSEG_MEASURES];
		bool found;

		if ((scan->chosen_mask[i] & (UINT64CONST(1) << slot)) == 0)
			continue;
		CSEG_CALL(scan->base.rs_rd,
				  cseg_cell_get(scan->chosen_cell, scan->chosen_low[i], (uint8_t) slot, &found, values, &err));
		for (int m = 0; m < CSEG_MEASURES; m++)
			scan->chosen_values[m][i] = values[m];
		scan->chosen_rows[scan->rows.n++] = i;
	}
	scan->rows.rows = scan->chosen_rows;
	scan->rows.n_entries = scan->n_chosen;
	scan->rows.entry_low = scan->chosen_low;
	for (int m = 0; m < CSEG_MEASURES; m++)
		scan->rows.value[m] = scan->chosen_values[m];
}

static inline bool
wants(const AmScan *scan, AmColumn column)
{
	return (scan->columns & (UINT32_C(1) << column)) != 0;
}

static void
enter_slot(AmScan *scan, int slot, bool first_of_cell)
{
	if (scan->by_customer)
		seek_chosen(scan, slot);
	else if (scan->single_slot)
		CSEG_CALL(scan->base.rs_rd,
				  cseg_cursor_gather(scan->cursor, (uint8_t) slot, scan->measures, &scan->rows, &err));
	else
		CSEG_CALL(scan->base.rs_rd, cseg_cursor_seek(scan->cursor, (uint8_t) slot, scan->measures, &scan->rows, &err));
	scan->slot_at = slot;
	scan->inst = scan->cell->group->instance[slot];
	scan->block = (scan->cell->cell_no << 6) | (uint32) slot;
	if (first_of_cell || scan->single_slot)
	{
		reset_numerics(scan, scan->rows.n_entries);
		if (wants(scan, COL_IDENTITY))
			pin_texts(scan, scan->cell->container);
	}
}

static int
next_slot(uint64 slots, int after)
{
	uint64 rest = after >= 63 ? 0 : slots & (~UINT64CONST(0) << (after + 1));

	return rest == 0 ? -1 : pg_rightmost_one_pos64(rest);
}

static int
previous_slot(uint64 slots, int before)
{
	uint64 rest = before <= 0 ? 0 : slots & (~UINT64CONST(0) >> (64 - before));

	return rest == 0 ? -1 : pg_leftmost_one_pos64(rest);
}

/* The next cell of this process: of its own, or handed out among the processes of a parallel scan. */
static bool
advance_cell(AmScan *scan, bool forward)
{
	int n = scan->reader->view->n_cells;

	if (scan->base.rs_parallel)
	{
		ParallelBlockTableScanDesc shared = (ParallelBlockTableScanDesc) scan->base.rs_parallel;
		uint64 at = pg_atomic_fetch_add_u64(&shared->phs_nallocated, 1);

		scan->cell_at = at < (uint64) n ? (int) at : n;
		return scan->cell_at < n;
	}
	scan->cell_at += forward ? 1 : -1;
	return scan->cell_at >= 0 && scan->cell_at < n;
}

static bool
cell_is_wanted(AmScan *scan)
{
	return scan->wanted == NULL || scan->wanted[scan->cell_at] != 0;
}

/* Moves to the first (or last) row of the next non-empty slot. */
static bool
advance_slot(AmScan *scan, bool forward)
{
	for (;;)
	{
		bool first = false;
		int slot = -1;

		if (scan->cell)
			slot = forward ? next_slot(scan->slots, scan->slot_at) : previous_slot(scan->slots, scan->slot_at);
		while (slot < 0)
		{
			if (!advance_cell(scan, forward))
			{
				leave_cell(scan);
				return false;
			}
			if (!cell_is_wanted(scan))
				continue;
			enter_cell(scan);
			first = true;
			slot = forward ? next_slot(scan->slots, -1) : previous_slot(scan->slots, 64);
		}
		enter_slot(scan, slot, first);
		if (scan->rows.n == 0)
			continue;
		scan->row_at = forward ? 0 : (int64) scan->rows.n - 1;
		return true;
	}
}

static bool
has_ordinals_of(const AmScan *scan, uint32 container)
{
	uint32 from = container << CSEG_CONTAINER_BITS;
	int lo = 0;
	int hi = scan->n_ordinals;

	while (lo < hi)
	{
		int mid = (lo + hi) / 2;

		if (scan->ordinals[mid] < from)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < scan->n_ordinals && scan->ordinals[lo] >> CSEG_CONTAINER_BITS == container;
}

/* The next of the instance's cells that has rows of it. */
static bool
next_cell_of_instance(AmScan *scan)
{
	StoreInstance *inst = scan->order[scan->order_at];

	while (++scan->order_cell < inst->group->n_cells)
	{
		StoreCell *cell = inst->group->cells[scan->order_cell];

		if (scan->by_customer && !has_ordinals_of(scan, cell->container))
			continue;
		if (scan->cell != cell)
		{
			scan->cell_at = cell->at;
			enter_cell(scan);
		}
		if ((scan->slots & (UINT64CONST(1) << inst->slot)) == 0)
			continue;
		enter_slot(scan, inst->slot, true);
		if (scan->rows.n > 0)
			return true;
	}
	return false;
}

/* As many rows as totals say, as if they were of one cell. */
static bool
count_instance(AmScan *scan)
{
	if (++scan->order_cell > 0)
		return false;
	scan->inst = scan->order[scan->order_at];
	scan->rows.n = (uint32) scan->inst->rows;
	return scan->rows.n > 0;
}

static bool
next_instance(AmScan *scan)
{
	StoreView *view = scan->reader->view;
	int g;

	scan->order_at++;
	scan->order_cell = -1;
	if (scan->order_at == scan->stop_at)
	{
		scan->stats->instances_skipped += scan->resume_at - scan->order_at;
		scan->order_at = scan->resume_at;
	}
	if (scan->order_at >= scan->n_order)
		return false;
	CHECK_FOR_INTERRUPTS();
	g = store_group_place(view, scan->order[scan->order_at]->group);
	scan->stats->instances_read++;
	scan->stats->groups_read += (scan->order_groups[g / 64] >> (g % 64) & 1) == 0;
	scan->order_groups[g / 64] |= UINT64CONST(1) << (g % 64);
	return true;
}

static bool
advance_in_order(AmScan *scan)
{
	for (;;)
	{
		if (scan->order_at >= 0 && (scan->counted ? count_instance(scan) : next_cell_of_instance(scan)))
		{
			scan->row_at = 0;
			return true;
		}
		if (!next_instance(scan))
		{
			leave_cell(scan);
			scan->rows.n = 0;
			scan->order_at = scan->n_order - 1;
			scan->order_cell = INT_MAX - 1;
			return false;
		}
	}
}

static bool
advance_row(AmScan *scan, bool forward)
{
	scan->row_at += forward ? 1 : -1;
	if (scan->row_at >= 0 && scan->row_at < (int64) scan->rows.n && (scan->cell || scan->counted))
		return true;
	return scan->in_order ? advance_in_order(scan) : advance_slot(scan, forward);
}

/* ---- rows ------------------------------------------------------------------------------------------------------- */

/* Valid until the next row: the slot may outlive the memory context that asks for the column. */
static Datum
wide_datum(AmScan *scan, const CsegValue *v)
{
	Size len = VARHDRSZ + v->wide_len;

	if (len > scan->wide_cap)
	{
		scan->wide = scan->wide ? repalloc(scan->wide, len * 2) : MemoryContextAlloc(scan->cxt, len * 2);
		scan->wide_cap = len * 2;
	}
	SET_VARSIZE(scan->wide, len);
	memcpy(VARDATA(scan->wide), v->wide, v->wide_len);
	return PointerGetDatum(scan->wide);
}

static inline Datum
numeric_datum(AmScan *scan, uint32 entry, bool *isnull)
{
	const CsegValue *v = &scan->rows.value[CSEG_M_REVENUE][entry];
	CachedNumeric *c = &scan->numerics[entry];

	*isnull = v->kind == CSEG_NULL;
	if (v->kind == CSEG_NULL)
		return (Datum) 0;
	if (v->kind == CSEG_WIDE)
		return wide_datum(scan, v);
	if (c->kind != v->kind || c->mantissa != v->mantissa || c->scale != v->scale)
	{
		am_numeric_from_value(v, c->bytes);
		c->kind = v->kind;
		c->mantissa = v->mantissa;
		c->scale = v->scale;
	}
	return PointerGetDatum(c->bytes);
}

static inline void
fill_text(TupleTableSlot *slot, int i, const text *t)
{
	slot->tts_isnull[i] = t == NULL;
	slot->tts_values[i] = PointerGetDatum(t);
}

static inline void
fill_timestamp(TupleTableSlot *slot, int i, Timestamp t, bool present)
{
	slot->tts_isnull[i] = !present;
	slot->tts_values[i] = present ? TimestampGetDatum(t) : (Datum) 0;
}

static void
no_identity(AmScan *scan, uint32 low)
{
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("relation \"%s\" has no identity for customer number %u",
															RelationGetRelationName(scan->base.rs_rd),
															(scan->cell->container << CSEG_CONTAINER_BITS) | low)));
}

/* Columns that are the same for all rows of an instance. */
static void
fill_dimension(AmScan *scan, TupleTableSlot *slot, int i)
{
	const StoreGroupDims *g = &scan->inst->group->dims;

	switch ((AmColumn) scan->map->column[i])
	{
	case COL_INSTANCE_DATE:
		fill_timestamp(slot, i, scan->inst->dims.instance_created_date, true);
		break;
	case COL_SCHEDULE:
		fill_text(slot, i, g->schedule);
		break;
	case COL_SEGMENT_BY:
		fill_text(slot, i, g->segment_by);
		break;
	case COL_SEGMENT_DATE:
		fill_timestamp(slot, i, g->segment_created_date, g->has_segment_created);
		break;
	case COL_SEGMENT_ID:
		fill_text(slot, i, g->segment_id);
		break;
	case COL_INSTANCE_ID:
		fill_text(slot, i, scan->inst->dims.segment_instance_id);
		break;
	case COL_SEGMENT_NAME:
		fill_text(slot, i, g->segment_name);
		break;
	case COL_DROPPED:
		slot->tts_isnull[i] = true;
		slot->tts_values[i] = (Datum) 0;
		break;
	default:
		break;
	}
}

static inline void
fill_nothing(TupleTableSlot *slot, int i)
{
	slot->tts_isnull[i] = true;
	slot->tts_values[i] = (Datum) 0;
}

static inline void
fill_identity(AmScan *scan, TupleTableSlot *slot, int i, uint32 entry)
{
	const void *identity;

	if (unlikely(!wants(scan, COL_IDENTITY)))
	{
		fill_nothing(slot, i);
		return;
	}
	identity = scan->texts[scan->rows.entry_low[entry]];
	if (unlikely(identity == NULL))
		no_identity(scan, scan->rows.entry_low[entry]);
	slot->tts_values[i] = PointerGetDatum(identity);
	slot->tts_isnull[i] = false;
}

static inline void
fill_revenue(AmScan *scan, TupleTableSlot *slot, int i, uint32 entry)
{
	if (unlikely(!wants(scan, COL_REVENUE)))
		fill_nothing(slot, i);
	else
		slot->tts_values[i] = numeric_datum(scan, entry, &slot->tts_isnull[i]);
}

static inline void
fill_count(AmScan *scan, TupleTableSlot *slot, int i, int measure, uint32 entry)
{
	const CsegValue *v;

	if (unlikely(!wants(scan, COL_CUSTOMERS + measure)))
	{
		fill_nothing(slot, i);
		return;
	}
	v = &scan->rows.value[measure][entry];
	slot->tts_isnull[i] = v->kind == CSEG_NULL;
	slot->tts_values[i] = Int64GetDatum(v->mantissa);
}

/*
 * A slot that was filled for the same instance before still has its dimensions: only what varies from row to row is
 * filled anew. Whoever changes the slot's values otherwise takes the scan out of it (am_slot_materialize).
 */
void
am_scan_fill(AmScan *scan, TupleTableSlot *slot, uint32 entry, int natts)
{
	const int16 *attno = scan->map->attno;

	if (scan->dims_slot != slot || scan->dims_inst != scan->inst || scan->dims_natts < natts)
	{
		for (int i = 0; i < natts; i++)
			fill_dimension(scan, slot, i);
		scan->dims_slot = slot;
		scan->dims_inst = scan->inst;
		scan->dims_natts = natts;
	}
	if (attno[COL_IDENTITY] < natts)
		fill_identity(scan, slot, attno[COL_IDENTITY], entry);
	if (attno[COL_CUSTOMERS] < natts)
		fill_count(scan, slot, attno[COL_CUSTOMERS], CSEG_M_CUSTOMERS, entry);
	if (attno[COL_ORDERS] < natts)
		fill_count(scan, slot, attno[COL_ORDERS], CSEG_M_ORDERS, entry);
	if (attno[COL_REVENUE] < natts)
		fill_revenue(scan, slot, attno[COL_REVENUE], entry);
	slot->tts_nvalid = (AttrNumber) natts;
}

void
am_scan_forget_slot(AmScan *scan, TupleTableSlot *slot)
{
	if (scan->dims_slot == slot)
		scan->dims_slot = NULL;
}

/* The row-version log knows a changed row under another address for the rest of the transaction. */
static void
use_handle(AmScan *scan, TupleTableSlot *slot)
{
	AmAddress addr;

	if (am_get_address(&slot->tts_tid, &addr))
		am_log_handle_for(scan->log, &addr, scan->base.rs_snapshot->curcid, &slot->tts_tid);
}

/*
 * Texts of an instance's customers lie anywhere in their container's, and the executor would wait for one after the
 * other. Those of some rows are read at once, so that memory brings them at the same time.
 */
#define ROWS_AT_ONCE 64

static void
read_texts(const AmScan *scan)
{
	int64 end = Min(scan->row_at + ROWS_AT_ONCE, (int64) scan->rows.n);

	for (int64 at = scan->row_at; at < end; at++)
	{
		const volatile char *t = scan->texts[scan->rows.entry_low[scan->rows.rows[at]]];

		if (t)
			(void) *t;
	}
}

static inline void
store_row(AmScan *scan, TupleTableSlot *slot)
{
	AmSlot *s = (AmSlot *) slot;
	uint32 entry = scan->counted ? 0 : scan->rows.rows[scan->row_at];

	if (TTS_SHOULDFREE(slot) || s->owns_values)
		ExecClearTuple(slot);
	if (s->scan != scan)
		am_scan_forget_slot(scan, slot);
	slot->tts_flags &= ~TTS_FLAG_EMPTY;
	slot->tts_nvalid = 0;
	slot->tts_tableOid = RelationGetRelid(scan->base.rs_rd);
	s->scan = scan;
	s->entry = entry;
	s->xmin = scan->xmin;
	if (scan->counted)
	{
		ItemPointerSetInvalid(&slot->tts_tid);
		return;
	}
	if (scan->row_at % ROWS_AT_ONCE == 0 && scan->texts)
		read_texts(scan);
	ItemPointerSet(&slot->tts_tid, scan->block, (OffsetNumber) (scan->rows.entry_low[entry] + 1));
	if (scan->log)
		use_handle(scan, slot);
}

/* ALTER TABLE reads with the old descriptor in the slot: columns go by the slot's. */
static void
use_slot_descriptor(AmScan *scan, TupleTableSlot *slot)
{
	MemoryContext old = MemoryContextSwitchTo(scan->cxt);

	scan->map = slot->tts_tupleDescriptor == RelationGetDescr(scan->base.rs_rd)
					? am_copy_relation_map(scan->base.rs_rd)
					: am_column_map(slot->tts_tupleDescriptor);
	scan->map_desc = slot->tts_tupleDescriptor;
	scan->dims_slot = NULL;
	MemoryContextSwitchTo(old);
}

bool
am_scan_getnextslot(TableScanDesc sscan, ScanDirection direction, TupleTableSlot *slot)
{
	AmScan *scan = (AmScan *) sscan;

	if (slot->tts_tupleDescriptor != scan->map_desc)
		use_slot_descriptor(scan, slot);
	if (scan->nothing || ScanDirectionIsNoMovement(direction))
	{
		ExecClearTuple(slot);
		return false;
	}
	if (!scan->started)
	{
		scan->started = true;
		if (ScanDirectionIsBackward(direction))
			scan->cell_at = scan->reader->view->n_cells;
	}
	if (!advance_row(scan, ScanDirectionIsForward(direction)))
	{
		ExecClearTuple(slot);
		return false;
	}
	store_row(scan, slot);
	pgstat_count_heap_getnext(scan->base.rs_rd);
	return true;
}

/* ---- begin and end ------------------------------------------------------------------------------------------------
 */

static void
rewind_scan(AmScan *scan)
{
	leave_cell(scan);
	scan->started = false;
	scan->cell_at = -1;
	scan->row_at = -1;
	scan->slot_at = -1;
	scan->rows.n = 0;
	scan->order_at = -1;
	scan->order_cell = -1;
	scan->stop_at = -1;
}

static Snapshot
snapshot_for(Relation rel, Snapshot snapshot, uint32 *flags)
{
	if (snapshot && snapshot != SnapshotAny)
		return snapshot;
	/* ANALYZE gives no snapshot; SnapshotAny scans (of maintenance commands) want what is there now. */
	*flags |= SO_TEMP_SNAPSHOT;
	return RegisterSnapshot(ActiveSnapshotSet() ? GetActiveSnapshot() : GetTransactionSnapshot());
}

static void
unpin_at_reset(void *arg)
{
	unpin_texts(arg);
}

/*
 * The scan holds the dictionary itself: when a transaction fails, its memory may go after the reader's. Callbacks run
 * in reverse order, so texts are unpinned before the dictionary is let go.
 */
static void
hold_reader(AmScan *scan, Snapshot snapshot)
{
	MemoryContextCallback *callback = MemoryContextAllocZero(scan->cxt, sizeof(MemoryContextCallback));

	scan->reader = am_reader_acquire(scan->base.rs_rd, snapshot);
	scan->dict = scan->reader->dict;
	store_dict_hold(scan->dict, scan->cxt);
	callback->func = unpin_at_reset;
	callback->arg = scan;
	MemoryContextRegisterResetCallback(scan->cxt, callback);
}

void
am_scan_set_columns(TableScanDesc sscan, uint32 columns)
{
	AmScan *scan = (AmScan *) sscan;

	Assert(!scan->started);
	scan->columns = columns;
	scan->measures = 0;
	for (int m = 0; m < CSEG_MEASURES; m++)
		if (wants(scan, COL_CUSTOMERS + m))
			scan->measures |= UINT32_C(1) << m;
}

TableScanDesc
am_scan_begin(Relation rel, Snapshot snapshot, int nkeys, struct ScanKeyData *key, ParallelTableScanDesc pscan,
			  uint32 flags)
{
	MemoryContext cxt;
	AmScan *scan;

	if (nkeys > 0)
		elog(ERROR, "customer_segmentation scans take no scan keys");
	RelationIncrementReferenceCount(rel);
	snapshot = snapshot_for(rel, snapshot, &flags);
	am_flush_before_read(rel, snapshot);
	cxt = AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation scan", ALLOCSET_SMALL_SIZES);
	scan = MemoryContextAllocZero(cxt, sizeof(AmScan));
	scan->cxt = cxt;
	scan->base.rs_rd = rel;
	scan->base.rs_snapshot = snapshot;
	scan->base.rs_flags = flags;
	scan->base.rs_parallel = pscan;
	scan->cell_cxt = AllocSetContextCreate(cxt, "customer_segmentation scan cell", ALLOCSET_DEFAULT_SIZES);
	scan->cell_owner = store_owner_new(cxt, store_unpin_cell);
	scan->cursor_owner = store_owner_new(cxt, cseg_cursor_free);
	scan->container = AM_NO_CONTAINER;
	scan->stats = &scan->own_stats;
	am_scan_set_columns((TableScanDesc) scan, AM_ALL_COLUMNS);
	if (flags & (SO_TYPE_SEQSCAN | SO_TYPE_ANALYZE))
		hold_reader(scan, snapshot);
	if (flags & SO_TYPE_SEQSCAN)
	{
		PredicateLockRelation(rel, snapshot);
		pgstat_count_heap_scan(rel);
	}
	if (IsMVCCSnapshot(snapshot))
		scan->log = am_relation_log(rel);
	if (flags & SO_TYPE_ANALYZE)
		pg_prng_seed(&scan->prng, (uint64) RelationGetRelid(rel));
	scan->sample_block = InvalidBlockNumber;
	rewind_scan(scan);
	return (TableScanDesc) scan;
}

void
am_scan_end(TableScanDesc sscan)
{
	AmScan *scan = (AmScan *) sscan;
	Relation rel = scan->base.rs_rd;

	leave_cell(scan);
	unpin_texts(scan);
	if (scan->reader)
		am_reader_release(scan->reader);
	if (scan->base.rs_flags & SO_TEMP_SNAPSHOT)
		UnregisterSnapshot(scan->base.rs_snapshot);
	MemoryContextDelete(scan->cxt);
	RelationDecrementReferenceCount(rel);
}

void
am_scan_rescan(TableScanDesc sscan, struct ScanKeyData *key, bool set_params, bool allow_strat, bool allow_sync,
			   bool allow_pagemode)
{
	rewind_scan((AmScan *) sscan);
}

/* ---- filters ------------------------------------------------------------------------------------------------------
 */

static int
by_ordinal(const void *a, const void *b)
{
	uint32 x = *(const uint32 *) a;
	uint32 y = *(const uint32 *) b;

	return x < y ? -1 : x > y;
}

static void
allocate_chosen(AmScan *scan, int n)
{
	scan->ordinals = palloc(sizeof(uint32) * Max(n, 1));
	scan->chosen_low = palloc(sizeof(uint16) * Max(n, 1));
	scan->chosen_mask = palloc(sizeof(uint64) * Max(n, 1));
	scan->chosen_rows = palloc(sizeof(uint32) * Max(n, 1));
	for (int m = 0; m < CSEG_MEASURES; m++)
		scan->chosen_values[m] = palloc0(sizeof(CsegValue) * Max(n, 1));
}

static void
find_ordinals(AmScan *scan, const AmKeys *identities)
{
	CsegDict *dict = scan->dict->dict;
	int n = 0;

	scan->by_customer = identities->n >= 0;
	scan->n_ordinals = 0;
	if (!scan->by_customer)
		return;
	allocate_chosen(scan, identities->n);
	for (int i = 0; i < identities->n; i++)
	{
		const text *t = identities->values[i];
		bool found;

		CSEG_CALL(scan->base.rs_rd, cseg_dict_find(dict, (const uint8_t *) VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t), &found,
												   &scan->ordinals[n], &err));
		n += found;
	}
	qsort(scan->ordinals, n, sizeof(uint32), by_ordinal);
	for (int i = 0; i < n; i++)
	{
		if (i > 0 && scan->ordinals[i] == scan->ordinals[i - 1])
			continue;
		scan->ordinals[scan->n_ordinals++] = scan->ordinals[i];
	}
}

static uint64
slots_with_rows(const StoreGroup *group, uint64 slots)
{
	uint64 with_rows = 0;

	for (int s = next_slot(slots, -1); s >= 0; s = next_slot(slots, s))
		if (group->instance[s]->rows > 0)
			with_rows |= UINT64CONST(1) << s;
	return with_rows;
}

/*
 * Which of these instances of a group pass? Groups are numbered as in the view. What has no rows, be it an instance or
 * a whole group, is not asked about: an expression may fail on what no row has.
 */
static void
judge_group(AmScan *scan, const AmFilter *filter, int g, uint64 slots)
{
	StoreGroup *group = scan->reader->view->groups[g];

	slots &= group->live_slots & ~scan->by_group[g];
	if (filter->needs_totals)
		slots = slots_with_rows(group, slots);
	if (slots == 0 || (filter->group && !filter->group(filter->arg, group)))
		return;
	for (int s = next_slot(slots, -1); s >= 0; s = next_slot(slots, s))
	{
		StoreInstance *inst = group->instance[s];

		if (filter->instance && !filter->instance(filter->arg, inst))
			continue;
		scan->by_group[g] |= UINT64CONST(1) << s;
	}
}

/* Whichever keys are fewer lead to the groups; the filter's functions see to the others. */
static void
judge_instances(AmScan *scan, const AmFilter *filter)
{
	StoreView *view = scan->reader->view;
	int at;

	if (filter->instances.n >= 0)
	{
		for (int i = 0; i < filter->instances.n; i++)
		{
			StoreInstance *inst;

			at = -1;
			while ((inst = store_find_instance(view, filter->instances.values[i], &at)) != NULL)
				judge_group(scan, filter, store_group_place(view, inst->group), UINT64CONST(1) << inst->slot);
		}
	}
	else if (filter->segments.n >= 0)
	{
		for (int i = 0; i < filter->segments.n; i++)
		{
			StoreGroup *group;

			at = -1;
			while ((group = store_find_segment(view, filter->segments.values[i], &at)) != NULL)
				judge_group(scan, filter, store_group_place(view, group), ~UINT64CONST(0));
		}
	}
	else
	{
		for (int g = 0; g < view->n_groups; g++)
			judge_group(scan, filter, g, ~UINT64CONST(0));
	}
}

static void
judge(AmScan *scan, const AmFilter *filter)
{
	MemoryContextReset(scan->mask_cxt);
	scan->by_group = MemoryContextAllocZero(scan->mask_cxt, sizeof(uint64) * Max(scan->reader->view->n_groups, 1));
	if (filter->needs_totals)
		store_view_totals(scan->base.rs_rd, scan->reader->view);
	judge_instances(scan, filter);
}

/* The cells of judged groups that have wanted customers. Returns how many; *groups and *instances are theirs. */
static int64
choose_cells(AmScan *scan, int64 *groups, int64 *instances)
{
	StoreView *view = scan->reader->view;
	int64 cells = 0;

	for (int g = 0; g < view->n_groups; g++)
	{
		StoreGroup *group = view->groups[g];

		if (scan->by_group[g] == 0)
			continue;
		(*groups)++;
		*instances += pg_popcount64(scan->by_group[g]);
		for (int i = 0; i < group->n_cells; i++)
		{
			if (scan->by_customer && !has_ordinals_of(scan, group->cells[i]->container))
				continue;
			scan->wanted[group->cells[i]->at] = scan->by_group[g];
			cells++;
		}
	}
	return cells;
}

/* Groups and instances are judged once each, cells by the instances of their group and by container. */
void
am_scan_set_filter(TableScanDesc sscan, const AmFilter *filter)
{
	AmScan *scan = (AmScan *) sscan;
	StoreView *view = scan->reader->view;
	AmScanStats *stats = scan->stats;
	int64 groups = 0;
	int64 instances = 0;
	MemoryContext old;
	int64 cells = 0;

	rewind_scan(scan);
	if (scan->filter_cxt == NULL)
	{
		scan->filter_cxt = AllocSetContextCreate(scan->cxt, "customer_segmentation filter", ALLOCSET_SMALL_SIZES);
		scan->mask_cxt = AllocSetContextCreate(scan->cxt, "customer_segmentation masks", ALLOCSET_SMALL_SIZES);
	}
	MemoryContextReset(scan->filter_cxt);
	old = MemoryContextSwitchTo(scan->filter_cxt);
	find_ordinals(scan, &filter->identities);
	if (!filter->same_instances)
		scan->by_group = NULL;
	scan->wanted = palloc0(sizeof(uint64) * Max(view->n_cells, 1));
	if (!scan->by_customer || scan->n_ordinals > 0)
	{
		if (scan->by_group == NULL)
			judge(scan, filter);
		cells = choose_cells(scan, &groups, &instances);
	}
	/* In order, they are counted when they are read. */
	stats->groups_read += scan->in_order ? 0 : groups;
	stats->groups_skipped += view->n_groups - groups;
	stats->instances_read += scan->in_order ? 0 : instances;
	stats->instances_skipped += view->n_instances - instances;
	stats->cells_skipped += view->n_cells - cells;
	MemoryContextSwitchTo(old);
}

void
am_scan_in_order(TableScanDesc sscan)
{
	((AmScan *) sscan)->in_order = true;
}

StoreInstance **
am_scan_chosen(TableScanDesc sscan, int *n)
{
	AmScan *scan = (AmScan *) sscan;
	StoreView *view = scan->reader->view;
	StoreInstance **chosen = palloc_extended(sizeof(StoreInstance *) * Max(view->n_instances, 1), MCXT_ALLOC_HUGE);

	*n = 0;
	store_view_rows(scan->base.rs_rd, view);
	for (int g = 0; g < view->n_groups && scan->by_group; g++)
	{
		uint64 slots = slots_with_rows(view->groups[g], scan->by_group[g]);

		for (int s = next_slot(slots, -1); s >= 0; s = next_slot(slots, s))
			chosen[(*n)++] = view->groups[g]->instance[s];
	}
	return chosen;
}

void
am_scan_set_order(TableScanDesc sscan, StoreInstance **order, int n, bool counted)
{
	AmScan *scan = (AmScan *) sscan;

	Assert(scan->in_order);
	scan->order = order;
	scan->n_order = n;
	scan->counted = counted;
	scan->order_groups =
		MemoryContextAllocZero(scan->filter_cxt, sizeof(uint64) * ((scan->reader->view->n_groups + 63) / 64 + 1));
}

int
am_scan_position(TableScanDesc sscan)
{
	return ((AmScan *) sscan)->order_at;
}

void
am_scan_skip(TableScanDesc sscan, int stop, int resume)
{
	AmScan *scan = (AmScan *) sscan;

	if (stop > scan->order_at)
	{
		scan->stop_at = stop;
		scan->resume_at = resume;
		return;
	}
	/* The current row stays where it is until the next one is asked for. */
	scan->rows.n = 0;
	scan->order_cell = INT_MAX - 1;
	scan->stop_at = scan->order_at + 1;
	scan->resume_at = resume;
}

void
am_scan_count_into(TableScanDesc sscan, AmScanStats *stats)
{
	((AmScan *) sscan)->stats = stats;
}

/* ---- ANALYZE ------------------------------------------------------------------------------------------------------
 */

/* Rows to pass over before the next one of a sample of the given fraction (geometric distribution). */
static double
draw_skip(AmScan *scan)
{
	double u;

	if (scan->keep >= 1.0)
		return 0;
	u = pg_prng_double(&scan->prng);
	return floor(log(1.0 - u) / log(1.0 - scan->keep));
}

static double
rows_of_base(const StoreCell *cell)
{
	return cell->base ? cell->base->c : 0;
}

/*
 * Of every few cells of a group the one with the most rows is decoded. What deltas have changed is not known without,
 * so cells with deltas always are. A group has the part of the sample that it has of the rows, from however many of its
 * cells that is taken: returned is by how much more is to be kept of them.
 */
static double
choose_cells_of_group(AmScan *scan, const StoreGroup *group, int step)
{
	double rows = 0;
	double decoded = 0;

	for (int from = 0; from < group->n_cells; from += step)
	{
		const StoreCell *most = group->cells[from];

		for (int i = from; i < Min(from + step, group->n_cells); i++)
		{
			if (rows_of_base(group->cells[i]) > rows_of_base(most))
				most = group->cells[i];
			scan->decoded[group->cells[i]->at] = group->cells[i]->base == NULL || group->cells[i]->n_deltas > 0;
		}
		scan->decoded[most->at] = true;
	}
	for (int i = 0; i < group->n_cells; i++)
	{
		rows += rows_of_base(group->cells[i]);
		decoded += scan->decoded[group->cells[i]->at] ? rows_of_base(group->cells[i]) : 0;
	}
	return decoded > 0 ? rows / decoded : 1.0;
}

static void
choose_sample(AmScan *scan)
{
	StoreView *view = scan->reader->view;
	int step = Max((view->n_cells + ANALYZE_MAX_CELLS - 1) / ANALYZE_MAX_CELLS, 1);
	double keep;

	store_view_rows(scan->base.rs_rd, view);
	keep = view->rows > ANALYZE_MAX_ROWS ? ANALYZE_MAX_ROWS / (double) view->rows : 1.0;
	scan->decoded = MemoryContextAllocZero(scan->cxt, sizeof(bool) * Max(view->n_cells, 1));
	scan->group_keep = MemoryContextAlloc(scan->cxt, sizeof(double) * Max(view->n_groups, 1));
	for (int g = 0; g < view->n_groups; g++)
		scan->group_keep[g] = Min(keep * choose_cells_of_group(scan, view->groups[g], step), 1.0);
}

/*
 * ANALYZE samples blocks of the main fork. A row belongs to the block that holds its cell's base (or first delta), so
 * each row is on exactly one block; of the rows of a block a uniform sample is returned and the full count added.
 */
void
am_analyze_start_block(TableScanDesc sscan, BlockNumber block)
{
	AmScan *scan = (AmScan *) sscan;

	if (scan->sample_block == InvalidBlockNumber)
		choose_sample(scan);
	rewind_scan(scan);
	scan->sample_block = block;
}

static BlockNumber
home_block(const StoreCell *cell)
{
	return ItemPointerGetBlockNumber(cell->base ? &cell->base->tid : &cell->deltas[0]->tid);
}

/* Moves to the next cell of the block that is decoded; the rows of those passed over are counted. */
static bool
analyze_advance_cell(AmScan *scan, double *liverows)
{
	StoreView *view = scan->reader->view;

	while (++scan->cell_at < view->n_cells)
	{
		StoreCell *cell = view->cells[scan->cell_at];

		if (home_block(cell) != scan->sample_block)
			continue;
		if (!scan->decoded[scan->cell_at])
		{
			*liverows += cell->base->c;
			continue;
		}
		enter_cell(scan);
		scan->keep = scan->group_keep[store_group_place(view, cell->group)];
		scan->skip = draw_skip(scan);
		return true;
	}
	leave_cell(scan);
	return false;
}

/* Enters the next non-empty slot of a cell that is at home on the block. */
static bool
analyze_advance_slot(AmScan *scan, double *liverows)
{
	for (;;)
	{
		bool first = false;
		int slot = scan->cell ? next_slot(scan->slots, scan->slot_at) : -1;

		while (slot < 0)
		{
			if (!analyze_advance_cell(scan, liverows))
				return false;
			first = true;
			slot = next_slot(scan->slots, -1);
		}
		enter_slot(scan, slot, first);
		*liverows += scan->rows.n;
		scan->row_at = -1;
		if (scan->rows.n > 0)
			return true;
	}
}

bool
am_analyze_next_tuple(TableScanDesc sscan, double *liverows, TupleTableSlot *slot)
{
	AmScan *scan = (AmScan *) sscan;

	if (slot->tts_tupleDescriptor != scan->map_desc)
		use_slot_descriptor(scan, slot);
	for (;;)
	{
		double left = scan->cell ? (double) scan->rows.n - 1 - (double) scan->row_at : 0;

		if (scan->cell && scan->skip < left)
		{
			scan->row_at += 1 + (int64) scan->skip;
			scan->skip = draw_skip(scan);
			store_row(scan, slot);
			return true;
		}
		scan->skip -= left;
		if (!analyze_advance_slot(scan, liverows))
		{
			ExecClearTuple(slot);
			return false;
		}
	}
}
