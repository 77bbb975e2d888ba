/*
 * segment_run.c
 *    run_segment and preview_segment.
 */
#include "sqlfn/segment.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(customer_segmentation_run_segment);
PG_FUNCTION_INFO_V1(customer_segmentation_preview_segment);
PG_FUNCTION_INFO_V1(customer_segmentation_preview_segment_by_rules);

char *
segment_instance_name(const Segment *segment, TimestampTz moment)
{
	return psprintf("%s_%s", segment->segment_id, schedule_period(&segment->timing, moment));
}

bool
segment_is_due(const Segment *segment, TimestampTz moment, TimestampTz *due)
{
	int64 k;

	if (segment->paused || segment->timing.schedule == SCHEDULE_MANUAL || moment < segment->created_at)
		return false;
	k = schedule_last(&segment->timing, moment);
	*due = schedule_due(&segment->timing, k);
	return k >= 0 && *due > segment->last_due_at;
}

/*
 * Would a definition of the present tell a lie about the run's moment? A run by hand is for its period; one that was
 * due is the newest until the next is due, even if it crosses the end of a period by minutes.
 */
static bool
is_belated(const Segment *segment, const Run *run)
{
	const Timing *timing = &segment->timing;
	TimestampTz now = GetCurrentTimestamp();

	if (strcmp(run->kind, "manual") == 0)
		return strcmp(schedule_period(timing, run->as_of), schedule_period(timing, now)) != 0;
	return schedule_due(timing, schedule_last(timing, run->as_of) + 1) <= now;
}

void
segment_run(const Segment *segment, Run *run)
{
	RulesQuery *query;
	Members *members;

	segment_check_owner_exists(segment);
	(void) schedule_zone(segment->time_zone);
	store_check_relation(segment);
	query = definition_of(segment);
	run->instance_id = segment_instance_name(segment, run->as_of);
	members = members_begin();
	members_evaluate(members, query, segment, segment->owner, &run->as_of, 1, NULL);
	store_instances(segment, members, &run->as_of, &run->instance_id, 1);
	run->rows = members->rows;
	members_end(members);
	/* An instance without members has no rows, so there is nothing to mark. */
	mark_run(segment, run->instance_id, run->rows > 0 && is_belated(segment, run) ? query->current_state : NULL);
	segment_report_end();
}

/* ---- run_segment -------------------------------------------------------------------------------------------- */

/* A run at or after a due time and within its period is the run that was due. */
static void
settle(const Segment *segment, TimestampTz moment)
{
	TimestampTz due;

	if (segment_is_due(segment, moment, &due) &&
		strcmp(schedule_period(&segment->timing, due), schedule_period(&segment->timing, moment)) == 0)
		segment_set_last_due(segment->segment_id, due);
}

static void bring_dependencies(const Segment *segment, TimestampTz moment);

static void
run_now(Segment *segment, const char *kind, TimestampTz as_of, Run *run)
{
	bring_dependencies(segment, as_of);
	run->kind = kind;
	run->as_of = as_of;
	run->started_at = GetCurrentTimestamp();
	segment_run(segment, run);
	settle(segment, as_of);
	run_insert_succeeded(segment, run);
}

/* Locks go from segments to what their rules refer to, which is never round in a circle. */
static Segment *
lock_and_load(const char *segment_id)
{
	segment_lock(segment_id, false, true);
	return segment_find(segment_id);
}

/* What the rules refer to is run first where that is due and the caller may. */
static void
bring_dependencies(const Segment *segment, TimestampTz moment)
{
	ListCell *lc;

	check_stack_depth();
	foreach (lc, segment->depends_on)
	{
		const char *id = lfirst(lc);
		Segment *other = segment_find(id);
		TimestampTz due;
		Run run = {0};

		if (other == NULL || !segment_may_run(other) || !segment_is_due(other, moment, &due))
			continue;
		other = lock_and_load(id);
		if (other != NULL && segment_is_due(other, moment, &due))
			run_now(other, "dependency", due, &run);
	}
}

Datum
customer_segmentation_run_segment(PG_FUNCTION_ARGS)
{
	char *id;
	Segment *segment;
	TimestampTz as_of;
	Run run = {0};

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"segment_id\" must not be null")));
	PreventCommandIfReadOnly("run_segment()");
	as_of = PG_ARGISNULL(1) ? segment_now() : PG_GETARG_TIMESTAMPTZ(1);
	schedule_check_past(as_of);
	id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	segment_check_runner(segment_load(id));
	segment_lock(id, false, true);
	segment = segment_load(id);
	segment_check_runner(segment);
	run_now(segment, "manual", as_of, &run);
	PG_RETURN_TEXT_P(cstring_to_text(run.instance_id));
}

/* ---- preview_segment ---------------------------------------------------------------------------------------- */

static void
total(Members *members, Datum *values, bool *nulls)
{
	EphemeralNamedRelationData enr = {
		.md = {.name = "members",
			   .tupdesc = members->desc,
			   .enrtype = ENR_NAMED_TUPLESTORE,
			   .enrtuples = members->rows},
		.reldata = members->store,
	};
	MemoryContext outer = CurrentMemoryContext;
	Catalog catalog;

	catalog_enter(&catalog);
	if (SPI_register_relation(&enr) != SPI_OK_REL_REGISTER)
		elog(ERROR, "SPI_register_relation failed");
	catalog_execute("SELECT count(*), sum(num_of_orders), sum(total_revenue) FROM members", 0, NULL, NULL, NULL);
	for (int i = 0; i < 3; i++)
	{
		MemoryContext spi;

		values[i] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &nulls[i]);
		spi = MemoryContextSwitchTo(outer);
		if (!nulls[i] && i > 0)
			values[i] = PointerGetDatum(PG_DETOAST_DATUM_COPY(values[i]));
		MemoryContextSwitchTo(spi);
	}
	catalog_leave(&catalog);
}

static Datum
preview(FunctionCallInfo fcinfo, char *definition, Jsonb *rules)
{
	Segment segment = {.name = "preview", .definition = definition, .rules = rules};
	TimestampTz as_of = PG_ARGISNULL(2) ? segment_now() : PG_GETARG_TIMESTAMPTZ(2);
	Members *members;
	Datum values[3];
	bool nulls[3];
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	schedule_check_moment(as_of);
	segment.segment_by =
		segment_check_by(PG_ARGISNULL(1) ? pstrdup("customer_id") : text_to_cstring(PG_GETARG_TEXT_PP(1)));
	segment.time_zone = pstrdup(pg_get_timezone_name(session_timezone));
	segment.owner = GetUserId();
	segment.relation = store_shared_relation();
	if (definition)
		definition_check(&segment);
	members = members_begin();
	members_evaluate(members, definition_of(&segment), &segment, segment.owner, &as_of, 1, NULL);
	members_check(members, segment.name, true);
	total(members, values, nulls);
	members_end(members);
	segment_report_end();
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

Datum
customer_segmentation_preview_segment(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"definition\" must not be null")));
	return preview(fcinfo, text_to_cstring(PG_GETARG_TEXT_PP(0)), NULL);
}

Datum
customer_segmentation_preview_segment_by_rules(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"rules\" must not be null")));
	return preview(fcinfo, NULL, PG_GETARG_JSONB_P_COPY(0));
}
