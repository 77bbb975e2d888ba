/*
 * answers_overlap.c
 *    segment_overlap and segment_transitions: how the segments of one moment, or of two, share their customers.
 */
#include "sqlfn/answers.h"

#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(customer_segmentation_segment_overlap);
PG_FUNCTION_INFO_V1(customer_segmentation_segment_transitions);

/* Segments that have an instance at some moment, and the members of these in one container. */
typedef struct Moment
{
	int n;
	const text **segment_ids;
	AnswerInstance **instances;
	uint64 *bits; /* CSEG_MEMBER_WORDS words of each */
	uint32 *sizes;
} Moment;

static uint64 *
bits_of(const Moment *moment, int i)
{
	return moment->bits + (size_t) i * CSEG_MEMBER_WORDS;
}

/* zones is NULL for the newest instances, whenever they are. */
static Moment
moment_of(const AnswerSegment *segments, int n, const AnswerZones *zones, TimestampTz at)
{
	Moment moment = {0};

	moment.segment_ids = palloc(sizeof(text *) * Max(n, 1));
	moment.instances = palloc(sizeof(AnswerInstance *) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		Timestamp local = zones ? answers_local(at, answers_zone(zones, segments[i].id)) : DT_NOEND;
		AnswerInstance *instance = answers_newest(&segments[i], local);

		if (instance == NULL)
			continue;
		moment.segment_ids[moment.n] = segments[i].id;
		moment.instances[moment.n++] = instance;
	}
	moment.bits = MemoryContextAllocHuge(CurrentMemoryContext, ANSWER_BITS_SIZE * Max(moment.n, 1));
	moment.sizes = palloc(sizeof(uint32) * Max(moment.n, 1));
	return moment;
}

static void
read_members(const AnswerTable *table, Moment *moment, uint32 container)
{
	memset(moment->bits, 0, ANSWER_BITS_SIZE * moment->n);
	for (int i = 0; i < moment->n; i++)
	{
		answers_add_members(table, moment->instances[i], container, bits_of(moment, i));
		moment->sizes[i] = cseg_bits_count(bits_of(moment, i));
	}
}

static uint32 *
all_containers(const Moment *a, const Moment *b, int *n)
{
	int n_groups = 0;
	StoreGroup **groups;

	for (int i = 0; i < a->n; i++)
		n_groups += a->instances[i]->n_places;
	for (int i = 0; b && i < b->n; i++)
		n_groups += b->instances[i]->n_places;
	groups = palloc(sizeof(StoreGroup *) * Max(n_groups, 1));
	n_groups = 0;
	for (int i = 0; i < a->n; i++)
		for (int p = 0; p < a->instances[i]->n_places; p++)
			groups[n_groups++] = a->instances[i]->places[p].group;
	for (int i = 0; b && i < b->n; i++)
		for (int p = 0; p < b->instances[i]->n_places; p++)
			groups[n_groups++] = b->instances[i]->places[p].group;
	return answers_containers(groups, n_groups, n);
}

static int64 *
counters(int rows, int columns)
{
	size_t size = sizeof(int64) * Max((size_t) rows * (size_t) columns, 1);
	int64 *counts = MemoryContextAllocHuge(CurrentMemoryContext, size);

	memset(counts, 0, size);
	return counts;
}

/* ---- segment_overlap ---------------------------------------------------------------------------------------- */

enum
{
	OVER_A,
	OVER_B,
	OVER_CUSTOMERS_A,
	OVER_CUSTOMERS_B,
	OVER_BOTH,
	OVER_SHARE_A,
	OVER_SHARE_B,
	OVER_JACCARD,
	OVER_COLUMNS
};

static void
put_overlap(ReturnSetInfo *rsinfo, const Moment *moment, const int64 *both, int a, int b)
{
	int64 in_a = both[(size_t) a * moment->n + a];
	int64 in_b = both[(size_t) b * moment->n + b];
	int64 in_both = both[(size_t) Min(a, b) * moment->n + Max(a, b)];
	bool nulls[OVER_COLUMNS] = {false};
	Datum values[OVER_COLUMNS];

	values[OVER_A] = PointerGetDatum(moment->segment_ids[a]);
	values[OVER_B] = PointerGetDatum(moment->segment_ids[b]);
	values[OVER_CUSTOMERS_A] = Int64GetDatum(in_a);
	values[OVER_CUSTOMERS_B] = Int64GetDatum(in_b);
	values[OVER_BOTH] = Int64GetDatum(in_both);
	values[OVER_SHARE_A] = answers_share(in_both, in_a, &nulls[OVER_SHARE_A]);
	values[OVER_SHARE_B] = answers_share(in_both, in_b, &nulls[OVER_SHARE_B]);
	values[OVER_JACCARD] = answers_share(in_both, in_a + in_b - in_both, &nulls[OVER_JACCARD]);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* Counts of the upper triangle; sizes are its diagonal. */
static int64 *
count_overlaps(const AnswerTable *table, Moment *moment)
{
	int64 *both = counters(moment->n, moment->n);
	int n;
	uint32 *containers = all_containers(moment, NULL, &n);

	for (int c = 0; c < n; c++)
	{
		read_members(table, moment, containers[c]);
		for (int a = 0; a < moment->n; a++)
		{
			int64 *row = both + (size_t) a * moment->n;

			CHECK_FOR_INTERRUPTS();
			row[a] += moment->sizes[a];
			for (int b = a + 1; moment->sizes[a] > 0 && b < moment->n; b++)
				if (moment->sizes[b] > 0)
					row[b] += cseg_bits_count_and(bits_of(moment, a), bits_of(moment, b));
		}
	}
	return both;
}

Datum
customer_segmentation_segment_overlap(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	AnswerTable table;
	AnswerSegment *segments;
	Moment moment;
	int64 *both;
	int n;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	if (PG_ARGISNULL(1))
		return (Datum) 0;
	answers_open(&table, PG_GETARG_OID(1), ANSWERS_MEMBERSHIP);
	segments = answers_segments(&table, &n);
	moment = PG_ARGISNULL(0) ? moment_of(segments, n, NULL, 0)
							 : moment_of(segments, n, answers_zones(&table), PG_GETARG_TIMESTAMPTZ(0));
	both = count_overlaps(&table, &moment);
	for (int a = 0; a < moment.n; a++)
	{
		CHECK_FOR_INTERRUPTS();
		for (int b = 0; b < moment.n; b++)
			put_overlap(rsinfo, &moment, both, a, b);
	}
	answers_close(&table);
	return (Datum) 0;
}

/* ---- segment_transitions ------------------------------------------------------------------------------------ */

enum
{
	MOVE_FROM,
	MOVE_TO,
	MOVE_CUSTOMERS,
	MOVE_COLUMNS
};

/* Row and column 0 are for those who were, or are, in no segment. */
static int64 *
count_moves(const AnswerTable *table, Moment *start, Moment *end)
{
	size_t width = (size_t) end->n + 1;
	int64 *moves = counters(start->n + 1, end->n + 1);
	int n;
	uint32 *containers = all_containers(start, end, &n);

	for (int c = 0; c < n; c++)
	{
		uint64 at_start[CSEG_MEMBER_WORDS] = {0};
		uint64 at_end[CSEG_MEMBER_WORDS] = {0};

		read_members(table, start, containers[c]);
		read_members(table, end, containers[c]);
		for (int a = 0; a < start->n; a++)
			cseg_bits_or(at_start, bits_of(start, a));
		for (int b = 0; b < end->n; b++)
			cseg_bits_or(at_end, bits_of(end, b));
		for (int b = 0; b < end->n; b++)
			moves[b + 1] += end->sizes[b] - cseg_bits_count_and(at_start, bits_of(end, b));
		for (int a = 0; a < start->n; a++)
		{
			int64 *row = moves + (size_t) (a + 1) * width;

			CHECK_FOR_INTERRUPTS();
			row[0] += start->sizes[a] - cseg_bits_count_and(at_end, bits_of(start, a));
			for (int b = 0; start->sizes[a] > 0 && b < end->n; b++)
				if (end->sizes[b] > 0)
					row[b + 1] += cseg_bits_count_and(bits_of(start, a), bits_of(end, b));
		}
	}
	return moves;
}

static void
put_move(ReturnSetInfo *rsinfo, const text *from, const text *to, int64 customers)
{
	Datum values[MOVE_COLUMNS] = {PointerGetDatum(from), PointerGetDatum(to), Int64GetDatum(customers)};
	bool nulls[MOVE_COLUMNS] = {from == NULL, to == NULL, false};

	if (customers > 0)
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static void
check_order(TimestampTz start, TimestampTz end)
{
	if (start > end)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("at_end must not be before at_start"),
						errdetail("at_start is %s, at_end is %s.", pstrdup(timestamptz_to_str(start)),
								  pstrdup(timestamptz_to_str(end))),
						errhint("Exchange them.")));
}

Datum
customer_segmentation_segment_transitions(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	AnswerTable table;
	AnswerSegment *segments;
	AnswerZones *zones;
	Moment start;
	Moment end;
	int64 *moves;
	int n;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	check_order(PG_GETARG_TIMESTAMPTZ(0), PG_GETARG_TIMESTAMPTZ(1));
	answers_open(&table, PG_GETARG_OID(2), ANSWERS_MEMBERSHIP);
	zones = answers_zones(&table);
	segments = answers_segments(&table, &n);
	start = moment_of(segments, n, zones, PG_GETARG_TIMESTAMPTZ(0));
	end = moment_of(segments, n, zones, PG_GETARG_TIMESTAMPTZ(1));
	moves = count_moves(&table, &start, &end);
	for (int a = 0; a <= start.n; a++)
	{
		CHECK_FOR_INTERRUPTS();
		for (int b = 0; b <= end.n; b++)
			put_move(rsinfo, a > 0 ? start.segment_ids[a - 1] : NULL, b > 0 ? end.segment_ids[b - 1] : NULL,
					 moves[(size_t) a * ((size_t) end.n + 1) + b]);
	}
	answers_close(&table);
	return (Datum) 0;
}
