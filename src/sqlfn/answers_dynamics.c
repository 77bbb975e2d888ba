/*
 * answers_dynamics.c
 *    segment_dynamics: every instance of a segment against the one at the start of its window.
 *
 * Container by container, instances in order. The members of a group's slots are transposed out of its cell together,
 * into a plane of bits per slot, and kept while the window reaches back to them. Who was there all along is an
 * intersection over a window that only moves forward: intersections of a suffix of it are kept for its older part and
 * one is carried along for the newer, so that each instance costs a few operations however long the window is.
 */
#include "sqlfn/answers.h"

#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(customer_segmentation_segment_dynamics);

enum
{
	DYN_ID,
	DYN_DATE,
	DYN_BASE_ID,
	DYN_BASE_DATE,
	DYN_CUSTOMERS,
	DYN_ADDED,
	DYN_REMOVED,
	DYN_NET,
	DYN_GROWTH,
	DYN_ATTRITION,
	DYN_PERSISTENCE,
	DYN_CONTINUOUS,
	DYN_LOYALTY,
	DYN_VOLATILITY,
	DYN_JACCARD,
	DYN_COLUMNS
};

#define NO_BASE (-1)

/* An instance and what it is compared to. */
typedef struct Window
{
	int base;    /* index of the base, or NO_BASE */
	int oldest;  /* what this window and later ones need begins there */
	int64 size;  /* of the instance */
	int64 kept;  /* of the base, still there */
	int64 loyal; /* of the base, there in every instance between too */
} Window;

typedef struct GroupPlanes
{
	StoreGroup *group;
	uint64 *planes; /* of the container at hand; NULL: not transposed */
	int last_used;  /* the last instance that has rows in the group */
} GroupPlanes;

typedef struct Dynamics
{
	AnswerTable table;
	int n;
	AnswerInstance *instances;
	Window *windows;
	int n_groups;
	GroupPlanes *groups;
	uint32 container;
	uint64 **bits;     /* by instance, while the window needs them */
	uint64 **suffix;   /* intersection of instances i .. middle - 1 */
	MemoryContext cxt; /* what is kept for a container */
	uint64 *none;      /* no members */
	uint64 *carried;   /* intersection of instances middle .. the current one */
	int middle;        /* first instance that is not in the suffixes */
	bool carries;      /* has carried any instance */
} Dynamics;

/* ---- windows ------------------------------------------------------------------------------------------------ */

/* The last instance at or before a time, or NO_BASE. */
static int
last_before(const Dynamics *d, Timestamp at)
{
	int lo = 0;
	int hi = d->n;

	while (lo < hi)
	{
		int mid = (lo + hi) / 2;

		if (d->instances[mid].date <= at)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo - 1;
}

/*
 * Starts need not go forward with their ends: a month before the 29th of March at noon is later than a month before the
 * 30th in the morning. So it is noted how far back the windows from here on reach.
 */
static void
find_bases(Dynamics *d, const Interval *span)
{
	int oldest = PG_INT32_MAX;

	for (int i = d->n - 1; i >= 0; i--)
	{
		/* A window without length compares the instance with itself, not with another of the same moment. */
		d->windows[i].base = Min(last_before(d, answers_before(d->instances[i].date, span)), i);
		if (d->windows[i].base != NO_BASE)
			oldest = Min(oldest, d->windows[i].base);
		d->windows[i].oldest = Min(oldest, i);
	}
}

/* ---- members ------------------------------------------------------------------------------------------------ */

static GroupPlanes *
find_group(Dynamics *d, const StoreGroup *group)
{
	for (int g = 0; g < d->n_groups; g++)
		if (d->groups[g].group == group)
			return &d->groups[g];
	elog(ERROR, "an instance's group was lost");
}

static const uint64 *
planes_of(Dynamics *d, const StoreGroup *group)
{
	GroupPlanes *g = find_group(d, group);
	StoreCell *cell = store_group_cell(group, d->container);

	if (cell == NULL)
		return NULL;
	if (g->planes == NULL)
	{
		CsegCell *data = am_reader_cell(d->table.rel, d->table.reader, cell);

		CHECK_FOR_INTERRUPTS();
		g->planes = MemoryContextAllocHuge(d->cxt, ANSWER_BITS_SIZE * CSEG_SLOTS);
		CSEG_CALL(d->table.rel, cseg_cell_planes(data, g->planes, &err));
	}
	return g->planes;
}

/* The members of an instance in the container: a plane where it has one slot, else planes put together. */
static uint64 *
members_of(Dynamics *d, int i)
{
	const AnswerInstance *inst = &d->instances[i];
	uint64 *bits = NULL;
	bool own = false;

	for (int p = 0; p < inst->n_places; p++)
	{
		const uint64 *planes = planes_of(d, inst->places[p].group);

		for (uint64 rest = planes ? inst->places[p].slots : 0; rest != 0; rest &= rest - 1)
		{
			const uint64 *plane = planes + pg_rightmost_one_pos64(rest) * CSEG_MEMBER_WORDS;

			if (bits == NULL)
			{
				bits = unconstify(uint64 *, plane);
				continue;
			}
			if (!own)
			{
				uint64 *copy = MemoryContextAlloc(d->cxt, ANSWER_BITS_SIZE);

				memcpy(copy, bits, ANSWER_BITS_SIZE);
				bits = copy;
				own = true;
			}
			cseg_bits_or(bits, plane);
		}
	}
	return bits ? bits : d->none;
}

/* Frees the planes of groups that no window reaches any more. */
static void
forget_planes(Dynamics *d, int first_needed)
{
	for (int g = 0; g < d->n_groups; g++)
	{
		if (d->groups[g].planes == NULL || d->groups[g].last_used >= first_needed)
			continue;
		pfree(d->groups[g].planes);
		d->groups[g].planes = NULL;
	}
}

/* ---- counting ----------------------------------------------------------------------------------------------- */

/* Puts everything up to instance i into suffixes. */
static void
turn_over(Dynamics *d, int i)
{
	for (int k = i; k >= d->windows[i].oldest; k--)
	{
		d->suffix[k] = d->suffix[k] ? d->suffix[k] : MemoryContextAlloc(d->cxt, ANSWER_BITS_SIZE);
		memcpy(d->suffix[k], d->bits[k], ANSWER_BITS_SIZE);
		if (k < i)
			cseg_bits_and(d->suffix[k], d->suffix[k + 1]);
	}
	d->middle = i + 1;
	d->carries = false;
}

static void
carry(Dynamics *d, int i)
{
	if (d->carries)
		cseg_bits_and(d->carried, d->bits[i]);
	else
		memcpy(d->carried, d->bits[i], ANSWER_BITS_SIZE);
	d->carries = true;
}

static int64
count_loyal(Dynamics *d, int i)
{
	int base = d->windows[i].base;

	if (base >= d->middle)
		turn_over(d, i);
	return d->carries ? cseg_bits_count_and(d->suffix[base], d->carried) : cseg_bits_count(d->suffix[base]);
}

static void
release_suffixes(Dynamics *d, int from, int to)
{
	for (int k = from; k < to; k++)
		if (d->suffix[k])
		{
			pfree(d->suffix[k]);
			d->suffix[k] = NULL;
		}
}

static void
count_container(Dynamics *d)
{
	d->middle = 0;
	d->carries = false;
	for (int i = 0; i < d->n; i++)
	{
		Window *w = &d->windows[i];

		CHECK_FOR_INTERRUPTS();
		d->bits[i] = members_of(d, i);
		w->size += cseg_bits_count(d->bits[i]);
		carry(d, i);
		if (w->base != NO_BASE)
		{
			w->kept += cseg_bits_count_and(d->bits[w->base], d->bits[i]);
			w->loyal += count_loyal(d, i);
		}
		release_suffixes(d, i > 0 ? d->windows[i - 1].oldest : 0, w->oldest);
		forget_planes(d, w->oldest);
	}
}

static void
count(Dynamics *d, const AnswerSegment *segment)
{
	int n;
	uint32 *containers = answers_containers(segment->groups, segment->n_groups, &n);

	d->n_groups = segment->n_groups;
	d->groups = palloc0(sizeof(GroupPlanes) * Max(d->n_groups, 1));
	for (int g = 0; g < d->n_groups; g++)
		d->groups[g].group = segment->groups[g];
	for (int i = 0; i < d->n; i++)
		for (int p = 0; p < d->instances[i].n_places; p++)
			find_group(d, d->instances[i].places[p].group)->last_used = i;
	d->cxt = AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation dynamics", ALLOCSET_DEFAULT_SIZES);
	d->bits = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(uint64 *) * Max(d->n, 1));
	d->suffix = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(uint64 *) * Max(d->n, 1));
	d->none = palloc0(ANSWER_BITS_SIZE);
	d->carried = palloc(ANSWER_BITS_SIZE);
	for (int c = 0; c < n; c++)
	{
		d->container = containers[c];
		memset(d->suffix, 0, sizeof(uint64 *) * d->n);
		count_container(d);
		for (int g = 0; g < d->n_groups; g++)
			d->groups[g].planes = NULL;
		MemoryContextReset(d->cxt);
	}
}

/* ---- rows --------------------------------------------------------------------------------------------------- */

static void
put_row(const Dynamics *d, int i, ReturnSetInfo *rsinfo)
{
	const Window *w = &d->windows[i];
	Datum values[DYN_COLUMNS] = {0};
	bool nulls[DYN_COLUMNS];

	memset(nulls, true, sizeof(nulls));
	values[DYN_ID] = PointerGetDatum(d->instances[i].id);
	values[DYN_DATE] = TimestampGetDatum(d->instances[i].date);
	values[DYN_CUSTOMERS] = Int64GetDatum(w->size);
	nulls[DYN_ID] = nulls[DYN_DATE] = nulls[DYN_CUSTOMERS] = false;
	if (w->base != NO_BASE)
	{
		int64 base = d->windows[w->base].size;
		int64 added = w->size - w->kept;
		int64 removed = base - w->kept;

		values[DYN_BASE_ID] = PointerGetDatum(d->instances[w->base].id);
		values[DYN_BASE_DATE] = TimestampGetDatum(d->instances[w->base].date);
		values[DYN_ADDED] = Int64GetDatum(added);
		values[DYN_REMOVED] = Int64GetDatum(removed);
		values[DYN_NET] = Int64GetDatum(w->size - base);
		for (int c = DYN_BASE_ID; c <= DYN_NET; c++)
			nulls[c] = false;
		values[DYN_GROWTH] = answers_share(w->size - base, base, &nulls[DYN_GROWTH]);
		values[DYN_ATTRITION] = answers_share(removed, base, &nulls[DYN_ATTRITION]);
		values[DYN_PERSISTENCE] = answers_share(w->kept, base, &nulls[DYN_PERSISTENCE]);
		values[DYN_CONTINUOUS] = answers_share(w->loyal, base, &nulls[DYN_CONTINUOUS]);
		values[DYN_LOYALTY] = answers_share(w->kept, w->size, &nulls[DYN_LOYALTY]);
		values[DYN_VOLATILITY] = answers_share(added + removed, w->size, &nulls[DYN_VOLATILITY]);
		values[DYN_JACCARD] = answers_share(w->kept, base + added, &nulls[DYN_JACCARD]);
	}
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

Datum
customer_segmentation_segment_dynamics(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const Interval *span = PG_GETARG_INTERVAL_P(1);
	Dynamics d = {0};
	AnswerSegment *segment;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	answers_check_span(span);
	answers_open(&d.table, PG_GETARG_OID(2), ANSWERS_MEMBERSHIP);
	segment = answers_segment(&d.table, PG_GETARG_TEXT_PP(0));
	d.instances = answers_instances(segment, &d.n);
	d.windows = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Window) * Max(d.n, 1));
	memset(d.windows, 0, sizeof(Window) * d.n);
	find_bases(&d, span);
	count(&d, segment);
	for (int i = 0; i < d.n; i++)
		put_row(&d, i, rsinfo);
	answers_close(&d.table);
	return (Datum) 0;
}
