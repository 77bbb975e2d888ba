/*
 * answers_table.c
 *    A table's segments, instances and members, for the functions that answer from masks.
 */
#include "sqlfn/answers.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "sqlfn/segment.h"

void
answers_open(AnswerTable *table, Oid relid, uint32 columns)
{
	table->rel = sqlfn_open_columns(relid, columns, AccessShareLock);
	/* The rows of RETURNING and of EXECUTE are sent, so a set is shown, after the snapshot of the statement is gone. */
	table->own_snapshot = !ActiveSnapshotSet();
	if (table->own_snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
	am_flush_before_read(table->rel, GetActiveSnapshot());
	table->reader = am_reader_acquire(table->rel, GetActiveSnapshot());
	store_view_rows(table->rel, table->reader->view);
}

void
answers_close(AnswerTable *table)
{
	am_reader_release(table->reader);
	if (table->own_snapshot)
		PopActiveSnapshot();
	table_close(table->rel, NoLock);
}

/* ---- order -------------------------------------------------------------------------------------------------- */

int
answers_compare_texts(const text *a, const text *b)
{
	size_t a_len = VARSIZE_ANY_EXHDR(a);
	size_t b_len = VARSIZE_ANY_EXHDR(b);
	int order = memcmp(VARDATA_ANY(a), VARDATA_ANY(b), Min(a_len, b_len));

	return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

static int
compare_groups(const void *a, const void *b)
{
	return answers_compare_texts((*(StoreGroup *const *) a)->dims.segment_id,
								 (*(StoreGroup *const *) b)->dims.segment_id);
}

static int
compare_instances(const void *a, const void *b)
{
	const AnswerInstance *x = a;
	const AnswerInstance *y = b;

	return x->date != y->date ? (x->date > y->date) - (x->date < y->date) : answers_compare_texts(x->id, y->id);
}

static int
compare_instance_ids(const void *a, const void *b)
{
	return answers_compare_texts((*(StoreInstance *const *) a)->dims.segment_instance_id,
								 (*(StoreInstance *const *) b)->dims.segment_instance_id);
}

/* ---- segments ----------------------------------------------------------------------------------------------- */

static bool
has_rows(const StoreGroup *group)
{
	for (int s = 0; s < CSEG_SLOTS; s++)
		if (group->instance[s] && group->instance[s]->rows > 0)
			return true;
	return false;
}

AnswerSegment *
answers_segments(const AnswerTable *table, int *n)
{
	const StoreView *view = table->reader->view;
	StoreGroup **groups = palloc(sizeof(StoreGroup *) * Max(view->n_groups, 1));
	AnswerSegment *segments = palloc(sizeof(AnswerSegment) * Max(view->n_groups, 1));
	int n_groups = 0;

	*n = 0;
	for (int i = 0; i < view->n_groups; i++)
		if (has_rows(view->groups[i]))
			groups[n_groups++] = view->groups[i];
	qsort(groups, n_groups, sizeof(StoreGroup *), compare_groups);
	for (int i = 0; i < n_groups; i++)
	{
		if (*n == 0 || answers_compare_texts(segments[*n - 1].id, groups[i]->dims.segment_id) != 0)
			segments[(*n)++] = (AnswerSegment){.id = groups[i]->dims.segment_id, .groups = &groups[i]};
		segments[*n - 1].n_groups++;
	}
	return segments;
}

AnswerSegment *
answers_segment(const AnswerTable *table, const text *id)
{
	const StoreView *view = table->reader->view;
	AnswerSegment *segment = palloc(sizeof(AnswerSegment));
	char *name;

	segment->id = id;
	segment->n_groups = 0;
	segment->groups = palloc(sizeof(StoreGroup *) * Max(view->n_groups, 1));
	for (int i = 0; i < view->n_groups; i++)
		if (store_text_equal(view->groups[i]->dims.segment_id, id) && has_rows(view->groups[i]))
			segment->groups[segment->n_groups++] = view->groups[i];
	if (segment->n_groups > 0)
		return segment;
	name = text_to_cstring(id);
	if (segment_find(name) == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("segment \"%s\" does not exist", name),
						errdetail("No instance in \"%s\" is of that segment, and no segment of that id is defined.",
								  RelationGetRelationName(table->rel)),
						errhint("The view customer_segmentation.segment_instances lists what is stored, and "
								"customer_segmentation.segments what is defined.")));
	return segment;
}

/* ---- instances ---------------------------------------------------------------------------------------------- */

/* Stored instances with rows, appended to an array; all of them, or those of one id. */
static int
collect(StoreGroup *const *groups, int n_groups, const text *id, StoreInstance **found)
{
	int n = 0;

	for (int g = 0; g < n_groups; g++)
	{
		CHECK_FOR_INTERRUPTS();
		for (int s = 0; s < CSEG_SLOTS; s++)
		{
			StoreInstance *inst = groups[g]->instance[s];

			if (inst && inst->rows > 0 && (id == NULL || store_text_equal(inst->dims.segment_instance_id, id)))
				found[n++] = inst;
		}
	}
	return n;
}

/* Makes an instance of stored ones of the same id; those of one group are neighbours. */
static AnswerInstance
combine(StoreInstance *const *parts, int n)
{
	AnswerInstance inst = {.id = parts[0]->dims.segment_instance_id, .date = parts[0]->dims.instance_created_date};

	inst.places = palloc(sizeof(AnswerPlace) * n);
	for (int i = 0; i < n; i++)
	{
		if (inst.n_places == 0 || inst.places[inst.n_places - 1].group != parts[i]->group)
			inst.places[inst.n_places++] = (AnswerPlace){.group = parts[i]->group};
		inst.places[inst.n_places - 1].slots |= UINT64CONST(1) << parts[i]->slot;
		inst.date = Max(inst.date, parts[i]->dims.instance_created_date);
	}
	return inst;
}

static StoreInstance **
room_for(int n_groups)
{
	return MemoryContextAllocHuge(CurrentMemoryContext, sizeof(StoreInstance *) * CSEG_SLOTS * Max(n_groups, 1));
}

AnswerInstance *
answers_instance(const AnswerTable *table, const text *id)
{
	StoreView *view = table->reader->view;
	AnswerInstance *inst = palloc(sizeof(AnswerInstance));
	StoreInstance **parts;
	StoreInstance *part;
	int most = 0;
	int n = 0;

	for (int at = -1; store_find_instance(view, id, &at);)
		most++;
	parts = palloc(sizeof(StoreInstance *) * Max(most, 1));
	for (int at = -1; (part = store_find_instance(view, id, &at)) != NULL;)
		if (part->rows > 0)
			parts[n++] = part;
	if (n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("segment instance \"%s\" does not exist", text_to_cstring(id)),
				 errdetail("No row of \"%s\" has that segment_instance_id.", RelationGetRelationName(table->rel)),
				 errhint("The view customer_segmentation.segment_instances lists the stored instances.")));
	*inst = combine(parts, n);
	pfree(parts);
	return inst;
}

AnswerInstance *
answers_instances(const AnswerSegment *segment, int *n)
{
	StoreInstance **parts = room_for(segment->n_groups);
	int n_parts = collect(segment->groups, segment->n_groups, NULL, parts);
	AnswerInstance *instances = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(AnswerInstance) * Max(n_parts, 1));

	*n = 0;
	/* Not a stable sort, so parts of one group need not stay neighbours: such a group is then named twice. */
	qsort(parts, n_parts, sizeof(StoreInstance *), compare_instance_ids);
	for (int i = 0, next; i < n_parts; i = next)
	{
		for (next = i + 1; next < n_parts && compare_instance_ids(&parts[i], &parts[next]) == 0;)
			next++;
		instances[(*n)++] = combine(&parts[i], next - i);
	}
	qsort(instances, *n, sizeof(AnswerInstance), compare_instances);
	pfree(parts);
	return instances;
}

/* Without sorting: there may be thousands of instances, and this is asked of every segment. */
AnswerInstance *
answers_newest(const AnswerSegment *segment, Timestamp at)
{
	StoreInstance **all = room_for(segment->n_groups);
	StoreInstance **parts = room_for(segment->n_groups);
	AnswerInstance *result = palloc(sizeof(AnswerInstance));
	int n = collect(segment->groups, segment->n_groups, NULL, all);
	bool found = false;

	while (n > 0 && !found)
	{
		StoreInstance *best = NULL;
		int kept = 0;

		for (int i = 0; i < n; i++)
		{
			Timestamp date = all[i]->dims.instance_created_date;

			if (date <= at && (best == NULL || date > best->dims.instance_created_date ||
							   (date == best->dims.instance_created_date && compare_instance_ids(&all[i], &best) > 0)))
				best = all[i];
		}
		if (best == NULL)
			break;
		*result = combine(parts, collect(segment->groups, segment->n_groups, best->dims.segment_instance_id, parts));
		found = result->date <= at;
		/* Some of its rows are younger, and so is the instance: it is none of those asked for. */
		for (int i = 0; !found && i < n; i++)
			if (!store_text_equal(all[i]->dims.segment_instance_id, result->id))
				all[kept++] = all[i];
		n = kept;
	}
	pfree(all);
	pfree(parts);
	return found ? result : NULL;
}

/* ---- members ------------------------------------------------------------------------------------------------ */

void
answers_add_members(const AnswerTable *table, const AnswerInstance *instance, uint32 container, uint64 *bits)
{
	for (int i = 0; i < instance->n_places; i++)
	{
		StoreCell *cell = store_group_cell(instance->places[i].group, container);

		CHECK_FOR_INTERRUPTS();
		if (cell)
			store_cell_members(table->rel, cell, instance->places[i].slots, bits);
	}
}

static int
compare_numbers(const void *a, const void *b)
{
	uint32 x = *(const uint32 *) a;
	uint32 y = *(const uint32 *) b;

	return (x > y) - (x < y);
}

uint32 *
answers_containers(StoreGroup *const *groups, int n_groups, int *n)
{
	size_t cells = 0;
	size_t at = 0;
	uint32 *containers;

	for (int g = 0; g < n_groups; g++)
		cells += groups[g]->n_cells;
	containers = palloc(sizeof(uint32) * Max(cells, 1));
	for (int g = 0; g < n_groups; g++)
		for (int c = 0; c < groups[g]->n_cells; c++)
			containers[at++] = groups[g]->cells[c]->container;
	qsort(containers, cells, sizeof(uint32), compare_numbers);
	*n = 0;
	for (at = 0; at < cells; at++)
		if (*n == 0 || containers[*n - 1] != containers[at])
			containers[(*n)++] = containers[at];
	return containers;
}

static void
each_member(const AnswerTable *table, uint32 container, const uint64 *bits, bool must_be_known,
			void (*emit)(void *arg, const text *identity), void *arg)
{
	StaticAssertStmt(CSEG_MEMBER_WORDS % 4 == 0, "words are passed by in fours");
	for (uint32 w = 0; w < CSEG_MEMBER_WORDS; w++)
	{
		if ((w & 63) == 0)
			CHECK_FOR_INTERRUPTS();
		if ((w & 3) == 0 && (bits[w] | bits[w + 1] | bits[w + 2] | bits[w + 3]) == 0)
		{
			w += 3;
			continue;
		}
		for (uint64 rest = bits[w]; rest != 0; rest &= rest - 1)
		{
			uint32 low = w * 64 + (uint32) pg_rightmost_one_pos64(rest);
			uint32 ordinal = (container << CSEG_CONTAINER_BITS) | low;
			const text *identity = must_be_known ? am_reader_identity(table->rel, table->reader, ordinal)
												 : am_reader_find_identity(table->rel, table->reader, ordinal);

			if (identity)
				emit(arg, identity);
		}
	}
}

void
answers_each_member(const AnswerTable *table, uint32 container, const uint64 *bits,
					void (*emit)(void *arg, const text *identity), void *arg)
{
	each_member(table, container, bits, true, emit, arg);
}

void
answers_each_known(const AnswerTable *table, uint32 container, const uint64 *bits,
				   void (*emit)(void *arg, const text *identity), void *arg)
{
	each_member(table, container, bits, false, emit, arg);
}

/* ---- time --------------------------------------------------------------------------------------------------- */

AnswerZones *
answers_zones(const AnswerTable *table)
{
	AnswerZones *zones = palloc0(sizeof(AnswerZones));
	MemoryContext outer = CurrentMemoryContext;
	Oid types[] = {OIDOID};
	Datum values[] = {ObjectIdGetDatum(RelationGetRelid(table->rel))};
	Catalog catalog;

	catalog_enter(&catalog);
	if (SPI_execute_with_args("SELECT segment_id, time_zone FROM customer_segmentation.segment WHERE relation = $1 "
							  "ORDER BY segment_id COLLATE \"C\"",
							  1, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the time zones of segments");
	MemoryContextSwitchTo(outer);
	zones->n = (int) SPI_processed;
	zones->segment_ids = palloc(sizeof(char *) * Max(zones->n, 1));
	zones->zones = palloc(sizeof(pg_tz *) * Max(zones->n, 1));
	for (int i = 0; i < zones->n; i++)
	{
		char *zone = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2);

		zones->segment_ids[i] = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		zones->zones[i] = schedule_zone(zone);
	}
	catalog_leave(&catalog);
	MemoryContextSwitchTo(outer);
	return zones;
}

static int
compare_zone(const void *key, const void *element)
{
	return strcmp(key, *(char *const *) element);
}

pg_tz *
answers_zone(const AnswerZones *zones, const text *segment_id)
{
	char *id = text_to_cstring(segment_id);
	char **found = zones->n > 0 ? bsearch(id, zones->segment_ids, zones->n, sizeof(char *), compare_zone) : NULL;

	pfree(id);
	return found ? zones->zones[found - zones->segment_ids] : session_timezone;
}

Timestamp
answers_local(TimestampTz moment, pg_tz *zone)
{
	Timing timing = {.zone = zone};

	return TIMESTAMP_NOT_FINITE(moment) ? (Timestamp) moment : schedule_local(&timing, moment);
}

void
answers_check_span(const Interval *span)
{
	Interval nothing = {0};

	if (DatumGetBool(DirectFunctionCall2(interval_lt, IntervalPGetDatum(span), IntervalPGetDatum(&nothing))))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("span must not be negative: %s",
							   DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(span)))),
						errhint("A span is the length of a window, such as interval '30 days'.")));
}

/* What begins before timestamps do is as old as can be. A month is reckoned by its mean, hence the margin. */
Timestamp
answers_before(Timestamp date, const Interval *span)
{
	double days = span->month * (DAYS_PER_YEAR / MONTHS_PER_YEAR) + span->day;
	double earliest = (double) MIN_TIMESTAMP + (double) DAYS_PER_MONTH * USECS_PER_DAY;

	if (TIMESTAMP_NOT_FINITE(date))
		return date;
	if ((double) date - days * USECS_PER_DAY - (double) span->time < earliest)
		return DT_NOBEGIN;
	return DatumGetTimestamp(
		DirectFunctionCall2(timestamp_mi_interval, TimestampGetDatum(date), IntervalPGetDatum(span)));
}

/* ---- rows --------------------------------------------------------------------------------------------------- */

Datum
answers_share(int64 part, int64 whole, bool *isnull)
{
	*isnull = whole == 0;
	return Float8GetDatum(*isnull ? 0 : (double) part / (double) whole);
}
