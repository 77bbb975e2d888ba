/*
 * summary.c
 *    What the planner is told of tables: their metadata as of a moment ago.
 *
 * Kept by the backend beyond transactions, so that planning costs the same however many instances there are. It may be
 * behind by AM_SUMMARY_MAX_AGE_MS as long as the file does not grow, so it serves for estimates and for nothing else.
 */
#include "am/am.h"

#include "common/hashfn.h"
#include "port/pg_bitutils.h"
#include "storage/bufmgr.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat/compat.h"

#define SUMMARIES 16
#define SUMMARY_MAX_AGE_MS 10000

typedef struct Entry
{
	AmSummary summary;
	MemoryContext cxt;
	Oid relid;
	Oid relnode;
	BlockNumber blocks;
	TimestampTz at;
	uint64 writes;
	uint64 used;
	int users;
	bool retired; /* goes with its last user */
} Entry;

static Entry *entries[SUMMARIES];
static uint64 clock_hand;

static void
retire(int i)
{
	Entry *e = entries[i];

	entries[i] = NULL;
	if (e == NULL)
		return;
	e->retired = true;
	if (e->users == 0)
		MemoryContextDelete(e->cxt);
}

static void
invalidate(Datum arg, Oid relid)
{
	for (int i = 0; i < SUMMARIES; i++)
		if (entries[i] && (relid == InvalidOid || entries[i]->relid == relid))
			entries[i]->at = 0;
}

void
am_summary_init(void)
{
	CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
}

/* ---- counting ---------------------------------------------------------------------------------------------------- */

/* Values that are not NULL, each once: 32 bits of a hash for texts, since about right is enough. */
typedef struct Values
{
	uint64 *slots; /* by hash, open addressing; 0: free */
	uint32 mask;
	bool zero; /* the value 0 is there */
	double n;
	double null_rows;
} Values;

static void
start_values(Values *values, int most)
{
	uint32 size = pg_nextpower2_32((uint32) Max(most, 8) / 2 * 3);

	values->mask = size - 1;
	values->slots = palloc_extended(sizeof(uint64) * size, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

static void
add_value(Values *values, uint64 value)
{
	uint32 at = (uint32) (murmurhash32((uint32) (value ^ value >> 32))) & values->mask;

	if (value == 0)
	{
		values->n += !values->zero;
		values->zero = true;
		return;
	}
	while (values->slots[at] != 0 && values->slots[at] != value)
		at = (at + 1) & values->mask;
	values->n += values->slots[at] == 0;
	values->slots[at] = value;
}

static void
add_text(Values *values, const text *t, double rows)
{
	if (t)
		add_value(values, store_text_hash(t));
	else
		values->null_rows += rows;
}

static void
add_date(Values *values, Timestamp t, bool present, double rows)
{
	if (present)
		add_value(values, (uint64) t);
	else
		values->null_rows += rows;
}

static void
add_group(Values values[AM_COLUMNS], const StoreGroupDims *dims, double rows)
{
	add_text(&values[COL_SCHEDULE], dims->schedule, rows);
	add_text(&values[COL_SEGMENT_BY], dims->segment_by, rows);
	add_text(&values[COL_SEGMENT_ID], dims->segment_id, rows);
	add_text(&values[COL_SEGMENT_NAME], dims->segment_name, rows);
	add_date(&values[COL_SEGMENT_DATE], dims->segment_created_date, dims->has_segment_created, rows);
}

static void
add_instances(Entry *e, Values values[AM_COLUMNS], int g)
{
	const StoreGroup *group = e->summary.view->groups[g];

	for (int s = 0; s < CSEG_SLOTS; s++)
	{
		const StoreInstance *inst = group->instance[s];

		if (inst == NULL || inst->rows <= 0)
			continue;
		add_text(&values[COL_INSTANCE_ID], inst->dims.segment_instance_id, 0);
		add_date(&values[COL_INSTANCE_DATE], inst->dims.instance_created_date, true, 0);
		e->summary.group_rows[g] += (double) inst->rows;
		e->summary.instances++;
	}
}

static double
cell_bytes(const StoreView *view)
{
	double bytes = 0;

	for (int i = 0; i < view->n_cells; i++)
	{
		const StoreCell *cell = view->cells[i];

		bytes += cell->base ? cell->base->body_len : 0;
		for (int d = 0; d < cell->n_deltas; d++)
			bytes += cell->deltas[d]->body_len;
	}
	return bytes;
}

static void
sum_up(Entry *e)
{
	StoreView *view = e->summary.view;
	Values values[AM_COLUMNS] = {0};

	for (int c = 0; c < AM_COLUMNS; c++)
		start_values(&values[c], c == COL_INSTANCE_ID || c == COL_INSTANCE_DATE ? view->n_instances : view->n_groups);
	e->summary.rows = (double) view->rows;
	e->summary.cell_bytes = cell_bytes(view);
	e->summary.group_rows = palloc0(sizeof(double) * Max(view->n_groups, 1));
	for (int g = 0; g < view->n_groups; g++)
	{
		add_instances(e, values, g);
		if (e->summary.group_rows[g] > 0)
			add_group(values, &view->groups[g]->dims, e->summary.group_rows[g]);
	}
	for (int c = 0; c < AM_COLUMNS; c++)
	{
		e->summary.distinct[c] = values[c].n;
		e->summary.null_fraction[c] = view->rows > 0 ? values[c].null_rows / (double) view->rows : 0;
		pfree(values[c].slots);
	}
	for (int i = 0; i < view->n_dict; i++)
		e->summary.customers += view->dict[i]->b;
	e->summary.distinct[COL_IDENTITY] = e->summary.customers;
}

/* ---- the cache --------------------------------------------------------------------------------------------------- */

static Entry *
build(Relation rel, BlockNumber blocks)
{
	MemoryContext cxt =
		AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation cached summary", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Entry *e = palloc0(sizeof(Entry));

	e->cxt = cxt;
	e->relid = RelationGetRelid(rel);
	e->relnode = compat_relnumber(rel);
	e->blocks = blocks;
	e->at = GetCurrentStatementStartTimestamp();
	e->writes = am_writes();
	e->summary.view = am_metadata(rel, GetActiveSnapshot(), cxt);
	sum_up(e);
	MemoryContextSwitchTo(old);
	MemoryContextSetParent(cxt, CacheMemoryContext);
	return e;
}

static bool
is_of(const Entry *e, Relation rel)
{
	return e && e->relid == RelationGetRelid(rel);
}

static bool
is_fresh(const Entry *e, Relation rel, BlockNumber blocks)
{
	return e->relnode == compat_relnumber(rel) && e->blocks == blocks && e->writes == am_writes() &&
		   GetCurrentStatementStartTimestamp() - e->at < SUMMARY_MAX_AGE_MS * INT64CONST(1000);
}

static Entry *
find(Relation rel)
{
	BlockNumber blocks = RelationGetNumberOfBlocks(rel);
	int at = 0;
	Entry *e;

	if (blocks == 0 || !ActiveSnapshotSet())
		return NULL;
	for (int i = 0; i < SUMMARIES; i++)
	{
		if (is_of(entries[i], rel))
		{
			at = i;
			break;
		}
		if (entries[i] == NULL || (entries[at] && entries[i]->used < entries[at]->used))
			at = i;
	}
	if (!is_of(entries[at], rel) || !is_fresh(entries[at], rel, blocks))
	{
		e = build(rel, blocks);
		retire(at);
		entries[at] = e;
	}
	entries[at]->used = ++clock_hand;
	return entries[at];
}

static void
let_go(void *arg)
{
	Entry *e = arg;

	if (--e->users == 0 && e->retired)
		MemoryContextDelete(e->cxt);
}

const AmSummary *
am_summary(Relation rel)
{
	Entry *e = find(rel);
	MemoryContextCallback *callback;

	if (e == NULL)
		return NULL;
	callback = palloc0(sizeof(MemoryContextCallback));
	callback->func = let_go;
	callback->arg = e;
	e->users++;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	return &e->summary;
}

double
am_summary_rows(Relation rel)
{
	Entry *e = find(rel);

	return e ? e->summary.rows : 0;
}
