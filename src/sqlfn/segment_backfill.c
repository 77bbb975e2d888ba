/*
 * segment_backfill.c
 *    backfill_segment: instances of the past, as runs at their due times would have stored them.
 *
 * What makes it faster than as many runs: the definition is prepared once for many moments, and the instances of up to
 * a group's worth of moments, which share most of their members, are written at once, so that each cell is encoded once
 * and not once more for each day.
 */
#include "sqlfn/segment.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/core.h"

PG_FUNCTION_INFO_V1(customer_segmentation_backfill_segment);

/* Hours of eleven years. */
#define MAX_PERIODS 100000
/* Members that are set aside before they are written, on disk where work_mem does not hold them. */
#define ENOUGH_MEMBERS 4000000

typedef enum Action
{
	ACTION_STORE,
	ACTION_REPLACE,
	ACTION_KEEP
} Action;

static const char *const action_names[] = {"stored", "replaced", "kept"};

typedef struct Period
{
	TimestampTz moment;
	char *instance_id;
	Action action;
	int64 rows;
} Period;

typedef struct Backfill
{
	const Segment *segment;
	Period *periods;
	int n;
	int allocated;
} Backfill;

/* ---- periods ------------------------------------------------------------------------------------------------ */

/* Periods are ordered by this: the day by the zone's clock or, of schedules below a day, the UTC hour. */
static int64
period_number(const Timing *timing, TimestampTz moment)
{
	int64 unit = USECS_PER_DAY;
	int64 at;

	if (timing->schedule == SCHEDULE_EVERY_HOUR || timing->schedule == SCHEDULE_TWICE_A_DAY)
	{
		unit = USECS_PER_HOUR;
		at = moment;
	}
	else
		at = schedule_local(timing, moment);
	return at / unit - (at % unit < 0);
}

static void
add_period(Backfill *backfill, TimestampTz moment)
{
	char *instance_id = segment_instance_name(backfill->segment, moment);

	/* Where the zone's clock skips a day, two due times are on one day; the later one counts, as it would in runs. */
	if (backfill->n > 0 && strcmp(backfill->periods[backfill->n - 1].instance_id, instance_id) == 0)
		backfill->n--;
	if (backfill->n == MAX_PERIODS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("cannot backfill more than %d periods", MAX_PERIODS),
				 errhint("Backfill one part of the time after the other.")));
	if (backfill->n == backfill->allocated)
	{
		backfill->allocated = backfill->allocated == 0 ? 64 : backfill->allocated * 2;
		backfill->periods = backfill->periods ? repalloc_huge(backfill->periods, backfill->allocated * sizeof(Period))
											  : palloc(backfill->allocated * sizeof(Period));
	}
	backfill->periods[backfill->n++] = (Period){.moment = moment, .instance_id = instance_id};
}

/* The due times in the periods from the one that holds the start to the one that holds the end, up to now. */
static void
find_periods(Backfill *backfill, TimestampTz start, TimestampTz end)
{
	const Timing *timing = &backfill->segment->timing;
	int64 first = period_number(timing, start);
	int64 last = period_number(timing, end);
	TimestampTz now = Min(segment_now(), GetCurrentTimestamp());

	for (int64 k = schedule_last(timing, start);; k++)
	{
		TimestampTz due = schedule_due(timing, k);

		CHECK_FOR_INTERRUPTS();
		if (due > now || period_number(timing, due) > last)
			return;
		if (period_number(timing, due) >= first)
			add_period(backfill, due);
	}
}

static void
check_range(TimestampTz start, TimestampTz end)
{
	schedule_check_moment(start);
	schedule_check_moment(end);
	if (start > end)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("period_start is after period_end")));
}

/* ---- what is there already ---------------------------------------------------------------------------------- */

static int
compare_periods(const void *a, const void *b)
{
	return strcmp((*(Period *const *) a)->instance_id, (*(Period *const *) b)->instance_id);
}

/* A period in which a run found nobody has no rows to tell so; the run's record does, while it is kept. */
static int
decide_empty(const Segment *segment, Period **by_id, int n_periods, bool replace_runs)
{
	Oid types[] = {TEXTOID};
	Datum values[] = {CStringGetTextDatum(segment->segment_id)};
	Catalog catalog;
	uint64 n;
	int kept = 0;

	catalog_enter(&catalog);
	n = catalog_execute("SELECT r.segment_instance_id FROM customer_segmentation.segment_run AS r "
						"WHERE r.segment_id = $1 AND r.status = 'succeeded' AND r.rows = 0 AND r.kind <> 'backfill' "
						"AND r.segment_instance_id IS NOT NULL AND NOT EXISTS "
						"(SELECT FROM customer_segmentation.segment_run AS l WHERE l.segment_id = $1 AND "
						"l.segment_instance_id = r.segment_instance_id AND l.status = 'succeeded' AND "
						"l.run_id > r.run_id)",
						lengthof(types), types, values, NULL);
	for (uint64 i = 0; i < n; i++)
	{
		bool isnull;
		Period key = {.instance_id =
						  TextDatumGetCString(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull))};
		Period *wanted = &key;
		Period **found = bsearch(&wanted, by_id, n_periods, sizeof(Period *), compare_periods);

		if (found == NULL || (*found)->action != ACTION_STORE)
			continue;
		(*found)->action = replace_runs ? ACTION_REPLACE : ACTION_KEEP;
		kept += replace_runs ? 0 : 1;
	}
	catalog_leave(&catalog);
	return kept;
}

/* What a run stored is the record of what was known then; what a backfill stored can be had again. */
static int
decide(Backfill *backfill, bool replace_runs)
{
	Period **by_id = palloc(sizeof(Period *) * Max(backfill->n, 1));
	int kept = 0;
	int n;
	StoredInstance *instances = store_list_instances(backfill->segment, &n);

	for (int i = 0; i < backfill->n; i++)
		by_id[i] = &backfill->periods[i];
	qsort(by_id, backfill->n, sizeof(Period *), compare_periods);
	for (int i = 0; i < n; i++)
	{
		Period key = {.instance_id = instances[i].instance_id};
		Period *wanted = &key;
		Period **found = bsearch(&wanted, by_id, backfill->n, sizeof(Period *), compare_periods);

		if (found == NULL)
			continue;
		if (instances[i].pinned || !(instances[i].backfilled || replace_runs))
		{
			(*found)->action = ACTION_KEEP;
			(*found)->rows = instances[i].rows;
			kept++;
		}
		else
			(*found)->action = ACTION_REPLACE;
	}
	kept += decide_empty(backfill->segment, by_id, backfill->n, replace_runs);
	pfree(by_id);
	return kept;
}

/* ---- what would be a lie ------------------------------------------------------------------------------------ */

static void
check_current_state(const Segment *segment, const char *current_state)
{
	if (current_state == NULL)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("segment \"%s\" can't be backfilled: its definition speaks of the present", segment->name),
			 segment->rules ? errdetail("The rule at %s is on what has no history.", current_state)
							: errdetail_internal("%s", current_state),
			 errhint("Let the definition ask for events up to customer_segmentation.as_of() or, if today's values may "
					 "stand in for those of the past, pass allow_current_state => true: the instances are marked "
					 "then.")));
}

/* Was there a run of it between two of its due times, though of no members? */
static bool
has_run(const Segment *other, TimestampTz after, TimestampTz moment)
{
	Oid types[] = {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum values[] = {CStringGetTextDatum(other->segment_id), TimestampTzGetDatum(after), TimestampTzGetDatum(moment)};
	Catalog catalog;
	bool found;

	catalog_enter(&catalog);
	found = catalog_execute("SELECT FROM customer_segmentation.segment_run WHERE segment_id = $1 AND as_of > $2 AND "
							"as_of <= $3 AND status = 'succeeded' LIMIT 1",
							lengthof(types), types, values, NULL) > 0;
	catalog_leave(&catalog);
	return found;
}

/* The newest stored at or before the local moment, of instances from the newest to the oldest; or DT_NOBEGIN. */
static Timestamp
newest_before(const StoredInstance *instances, int n, Timestamp local)
{
	int low = 0;
	int high = n;

	while (low < high)
	{
		int middle = low + (high - low) / 2;

		if (instances[middle].created <= local)
			high = middle;
		else
			low = middle + 1;
	}
	return low < n ? instances[low].created : DT_NOBEGIN;
}

/* Members of a segment that had no instance then are not known: they are not nobody. */
static void
check_dependency(const Backfill *backfill, const char *id)
{
	Segment *other = segment_load(id);
	Segment listed = *other;
	const Timing *timing = &other->timing;
	StoredInstance *instances;
	int n;

	/* As who evaluates the rules, not as the other's owner. */
	listed.owner = backfill->segment->owner;
	instances = store_list_instances(&listed, &n);
	for (int i = 0; i < backfill->n; i++)
	{
		TimestampTz moment = backfill->periods[i].moment;
		TimestampTz after = schedule_due(timing, schedule_last(timing, moment) - 1);
		Timestamp newest = newest_before(instances, n, schedule_local(timing, moment));

		CHECK_FOR_INTERRUPTS();
		if (backfill->periods[i].action == ACTION_KEEP || newest > schedule_local(timing, after) ||
			(timing->schedule == SCHEDULE_MANUAL && !TIMESTAMP_IS_NOBEGIN(newest)) || has_run(other, after, moment))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("segment \"%s\" can't be backfilled for %s: the segment that it refers to has no instance of "
						"that time",
						backfill->segment->name, timestamptz_to_str(moment)),
				 errdetail("Its rules ask who was in segment \"%s\", %s.", other->name, other->segment_id),
				 errhint("Backfill that one first, for the same time.")));
	}
}

/* ---- storing ------------------------------------------------------------------------------------------------ */

typedef struct Chunk
{
	int n;
	Period *periods[CSEG_SLOTS];
	TimestampTz moments[CSEG_SLOTS];
	char *instance_ids[CSEG_SLOTS];
	int64 rows[CSEG_SLOTS];
} Chunk;

static void
fill_chunk(Chunk *chunk, Backfill *backfill, int from)
{
	chunk->n = 0;
	for (int i = from; i < backfill->n && chunk->n < CSEG_SLOTS; i++)
	{
		Period *period = &backfill->periods[i];

		if (period->action == ACTION_KEEP)
			continue;
		chunk->periods[chunk->n] = period;
		chunk->moments[chunk->n] = period->moment;
		chunk->instance_ids[chunk->n++] = period->instance_id;
	}
}

/* An instance without members has no rows, so there is nothing to mark. */
static void
mark_chunk(const Segment *segment, const Chunk *chunk, const char *current_state)
{
	char *stored[CSEG_SLOTS];
	char *empty[CSEG_SLOTS];
	int n_stored = 0;
	int n_empty = 0;

	for (int i = 0; i < chunk->n; i++)
	{
		if (chunk->rows[i] > 0)
			stored[n_stored++] = chunk->instance_ids[i];
		else
			empty[n_empty++] = chunk->instance_ids[i];
	}
	if (n_stored > 0)
		mark_backfilled(segment, stored, n_stored, current_state);
	if (n_empty > 0)
		marks_remove(segment->relation, empty, n_empty);
}

/* Returns the index of the first period that is still to be done. */
static int
store_some(Backfill *backfill, const RulesQuery *query, int from)
{
	const Segment *segment = backfill->segment;
	TimestampTz started_at = GetCurrentTimestamp();
	Members *members = members_begin();
	Chunk chunk;

	fill_chunk(&chunk, backfill, from);
	if (chunk.n == 0)
		return backfill->n;
	members->enough = ENOUGH_MEMBERS;
	members->task = psprintf("backfill, period %d of %d, evaluating", from + 1, backfill->n);
	chunk.n = members_evaluate(members, query, segment, segment->owner, chunk.moments, chunk.n, chunk.rows);
	store_instances(segment, members, chunk.moments, chunk.instance_ids, chunk.n);
	members_end(members);
	mark_chunk(segment, &chunk, query->current_state);
	runs_insert_backfilled(segment, chunk.instance_ids, chunk.moments, chunk.rows, chunk.n, started_at);
	for (int i = 0; i < chunk.n; i++)
		chunk.periods[i]->rows = chunk.rows[i];
	return (int) (chunk.periods[chunk.n - 1] - backfill->periods) + 1;
}

static void
store_all(Backfill *backfill, const RulesQuery *query)
{
	MemoryContext memory =
		AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation backfill", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(memory);

	for (int from = 0; from < backfill->n;)
	{
		from = store_some(backfill, query, from);
		MemoryContextReset(memory);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(memory);
	segment_report_end();
}

/* ---- backfill_segment --------------------------------------------------------------------------------------- */

static void
return_periods(ReturnSetInfo *rsinfo, const Backfill *backfill)
{
	for (int i = 0; i < backfill->n; i++)
	{
		const Period *period = &backfill->periods[i];
		Datum values[] = {CStringGetTextDatum(period->instance_id), TimestampTzGetDatum(period->moment),
						  Int64GetDatum(period->rows), CStringGetTextDatum(action_names[period->action])};
		bool nulls[] = {false, false, false, false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
}

static void
backfill_now(const Segment *segment, FunctionCallInfo fcinfo)
{
	Backfill backfill = {.segment = segment};
	RulesQuery *query;
	ListCell *lc;
	int kept;

	segment_check_owner_exists(segment);
	store_check_relation(segment);
	query = definition_of(segment);
	if (!PG_GETARG_BOOL(3))
		check_current_state(segment, query->current_state);
	find_periods(&backfill, PG_GETARG_TIMESTAMPTZ(1), PG_GETARG_TIMESTAMPTZ(2));
	kept = decide(&backfill, PG_GETARG_BOOL(4));
	foreach (lc, query->depends_on)
		check_dependency(&backfill, lfirst(lc));
	store_all(&backfill, query);
	return_periods((ReturnSetInfo *) fcinfo->resultinfo, &backfill);
	if (kept > 0)
		ereport(NOTICE, (errmsg_plural("%d instance was there already and is kept",
									   "%d instances were there already and are kept", kept, kept),
						 errdetail("What runs have stored stays, and so does what is pinned."),
						 errhint("Pass replace_runs => true to have what runs have stored replaced.")));
}

Datum
customer_segmentation_backfill_segment(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {"segment_id", "period_start", "period_end", "allow_current_state",
										"replace_runs"};
	char *id;
	Segment *segment;

	for (int i = 0; i < (int) lengthof(names); i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"%s\" must not be null", names[i])));
	PreventCommandIfReadOnly("backfill_segment()");
	check_range(PG_GETARG_TIMESTAMPTZ(1), PG_GETARG_TIMESTAMPTZ(2));
	id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	segment = segment_load(id);
	segment_check_runner(segment);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	segment_lock(id, false, true);
	segment = segment_load(id);
	segment_check_runner(segment);
	backfill_now(segment, fcinfo);
	return (Datum) 0;
}
