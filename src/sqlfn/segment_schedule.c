/*
 * segment_schedule.c
 *    When a segment is due, and which period a moment belongs to.
 *
 * Due times are anchored to the segment's creation. every_hour counts hours that pass; every other schedule keeps the
 * time that the clock of the segment's zone showed at the anchor, so a day of a change of the clock has 23 or 25 hours
 * between two of them. A time that the clock skips is moved on by what it skips; of a time that it shows twice, the
 * second counts: that is how PostgreSQL reads such a time. once_a_month counts from the anchor's day each time, so a
 * segment created on the 31st is due on the last day of shorter months and on the 31st of longer ones.
 */
#include "sqlfn/segment.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "compat/compat.h"

PG_FUNCTION_INFO_V1(customer_segmentation_due_around);

static const char *const schedule_names[] = {
	[SCHEDULE_MANUAL] = "manual",
	[SCHEDULE_EVERY_HOUR] = "every_hour",
	[SCHEDULE_TWICE_A_DAY] = "twice_a_day",
	[SCHEDULE_ONCE_A_DAY] = "once_a_day",
	[SCHEDULE_ONCE_EVERY_OTHER_DAY] = "once_every_other_day",
	[SCHEDULE_ONCE_A_WEEK] = "once_a_week",
	[SCHEDULE_ONCE_A_MONTH] = "once_a_month",
};

Schedule
schedule_parse(const char *name)
{
	for (int i = 0; i < (int) lengthof(schedule_names); i++)
		if (strcmp(name, schedule_names[i]) == 0)
			return (Schedule) i;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid schedule \"%s\"", name),
					errhint("Schedules are every_hour, twice_a_day, once_a_day, once_every_other_day, once_a_week, "
							"once_a_month and manual.")));
}

pg_tz *
schedule_zone(const char *name)
{
	pg_tz *zone = pg_tzset(name);

	if (zone == NULL || !pg_tz_acceptable(zone))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("time zone \"%s\" not recognized", name),
						errhint("Names are those of the view pg_timezone_names, such as Europe/Berlin.")));
	return zone;
}

pg_tz *
schedule_zone_or_gmt(const char *name)
{
	pg_tz *zone = pg_tzset(name);

	return zone != NULL && pg_tz_acceptable(zone) ? zone : pg_tzset("GMT");
}

/* ---- local time --------------------------------------------------------------------------------------------- */

COMPAT_NORETURN static void out_of_range(void) COMPAT_NORETURN_END;

static void
out_of_range(void)
{
	ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("timestamp out of range")));
}

static struct pg_tm
local_fields(TimestampTz moment, pg_tz *zone, fsec_t *fsec)
{
	struct pg_tm tm;
	int offset;

	if (timestamp2tm(moment, &offset, &tm, fsec, NULL, zone) != 0)
		out_of_range();
	return tm;
}

static Timestamp
to_local(TimestampTz moment, pg_tz *zone)
{
	fsec_t fsec;
	struct pg_tm tm = local_fields(moment, zone, &fsec);
	Timestamp local;

	if (tm2timestamp(&tm, fsec, NULL, &local) != 0)
		out_of_range();
	return local;
}

static TimestampTz
from_local(Timestamp local, pg_tz *zone)
{
	struct pg_tm tm;
	fsec_t fsec;
	TimestampTz moment;
	int offset;

	if (timestamp2tm(local, NULL, &tm, &fsec, NULL, NULL) != 0)
		out_of_range();
	offset = DetermineTimeZoneOffset(&tm, zone);
	if (tm2timestamp(&tm, fsec, &offset, &moment) != 0)
		out_of_range();
	return moment;
}

Timestamp
schedule_local(const Timing *timing, TimestampTz moment)
{
	return to_local(moment, timing->zone);
}

void
schedule_check_moment(TimestampTz moment)
{
	struct pg_tm tm;
	fsec_t fsec;

	if (TIMESTAMP_NOT_FINITE(moment))
		ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("moment of a run must be finite")));
	tm = local_fields(moment, pg_tzset("GMT"), &fsec);
	if (tm.tm_year < 1 || tm.tm_year > 9999)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("moment of a run must be in the years 1 to 9999"),
				 errdetail("The name of an instance has a year of four digits.")));
}

/*
 * By the server's clock, whatever as_of says: a run settles what was due until its moment, so one of next year would
 * stop the schedule until then.
 */
void
schedule_check_past(TimestampTz moment)
{
	TimestampTz now = GetCurrentTimestamp();

	schedule_check_moment(moment);
	if (moment > now)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("moment of a run is in the future: %s", timestamptz_to_str(moment)),
						errdetail("What is stored is who was a member at a moment that has come."),
						errhint("preview_segment tells who would be a member at a later moment.")));
}

/* ---- due times ---------------------------------------------------------------------------------------------- */

/* What lies between two due times: months, or microseconds on the local clock. */
static int64
local_step(Schedule schedule)
{
	switch (schedule)
	{
	case SCHEDULE_EVERY_HOUR:
		return USECS_PER_HOUR;
	case SCHEDULE_TWICE_A_DAY:
		return USECS_PER_DAY / 2;
	case SCHEDULE_ONCE_EVERY_OTHER_DAY:
		return 2 * USECS_PER_DAY;
	case SCHEDULE_ONCE_A_WEEK:
		return 7 * USECS_PER_DAY;
	default:
		return USECS_PER_DAY;
	}
}

static Timestamp
add_months(Timestamp local, int64 months)
{
	Interval interval = {.month = (int32) months};

	return DatumGetTimestamp(
		DirectFunctionCall2(timestamp_pl_interval, TimestampGetDatum(local), IntervalPGetDatum(&interval)));
}

TimestampTz
schedule_due(const Timing *timing, int64 k)
{
	Timestamp local;

	if (timing->schedule == SCHEDULE_EVERY_HOUR)
		return timing->anchor + k * USECS_PER_HOUR;
	local = to_local(timing->anchor, timing->zone);
	if (timing->schedule == SCHEDULE_ONCE_A_MONTH)
		return from_local(add_months(local, k), timing->zone);
	return from_local(local + k * local_step(timing->schedule), timing->zone);
}

static int64
months_between(Timestamp from, Timestamp to)
{
	struct pg_tm a;
	struct pg_tm b;
	fsec_t fsec;

	if (timestamp2tm(from, NULL, &a, &fsec, NULL, NULL) != 0 || timestamp2tm(to, NULL, &b, &fsec, NULL, NULL) != 0)
		out_of_range();
	return (b.tm_year - a.tm_year) * MONTHS_PER_YEAR + (b.tm_mon - a.tm_mon);
}

int64
schedule_last(const Timing *timing, TimestampTz moment)
{
	Timestamp anchor = to_local(timing->anchor, timing->zone);
	Timestamp local = to_local(moment, timing->zone);
	int64 k;

	/* A guess by the local clock, which the offset can put a little off. */
	if (timing->schedule == SCHEDULE_EVERY_HOUR)
		k = (moment - timing->anchor) / USECS_PER_HOUR;
	else if (timing->schedule == SCHEDULE_ONCE_A_MONTH)
		k = months_between(anchor, local);
	else
		k = (local - anchor) / local_step(timing->schedule);
	while (schedule_due(timing, k) > moment)
		k--;
	while (schedule_due(timing, k + 1) <= moment)
		k++;
	return k;
}

/* ---- periods ------------------------------------------------------------------------------------------------ */

static char *
hour_name(TimestampTz hour, pg_tz *zone, bool with_offset)
{
	fsec_t fsec;
	struct pg_tm tm = local_fields(hour, zone, &fsec);
	char *name = psprintf("%04d_%02d_%02d_%02d", tm.tm_year, tm.tm_mon, tm.tm_mday, tm.tm_hour);
	int minutes = (int) (tm.tm_gmtoff / SECS_PER_MINUTE);

	if (!with_offset)
		return name;
	return psprintf("%s%c%02d%02d", name, minutes < 0 ? '-' : '+', abs(minutes) / 60, abs(minutes) % 60);
}

/* The UTC hour, by the clock of the zone; where that clock shows the hour twice, with its offset. */
static char *
hour_period(TimestampTz moment, pg_tz *zone)
{
	TimestampTz hour = moment - ((moment % USECS_PER_HOUR) + USECS_PER_HOUR) % USECS_PER_HOUR;
	char *name = hour_name(hour, zone, false);
	bool repeats = false;

	/* Clocks go back by an hour, but at Antarctica/Troll by two, and some have by three. */
	for (int n = 1; n <= 3 && !repeats; n++)
		repeats = strcmp(name, hour_name(hour - n * USECS_PER_HOUR, zone, false)) == 0 ||
				  strcmp(name, hour_name(hour + n * USECS_PER_HOUR, zone, false)) == 0;
	return repeats ? hour_name(hour, zone, true) : name;
}

char *
schedule_period(const Timing *timing, TimestampTz moment)
{
	fsec_t fsec;
	struct pg_tm tm;

	if (timing->schedule == SCHEDULE_EVERY_HOUR || timing->schedule == SCHEDULE_TWICE_A_DAY)
		return hour_period(moment, timing->zone);
	tm = local_fields(moment, timing->zone, &fsec);
	return psprintf("%04d_%02d_%02d", tm.tm_year, tm.tm_mon, tm.tm_mday);
}

/* ---- due_around --------------------------------------------------------------------------------------------- */

Datum
customer_segmentation_due_around(PG_FUNCTION_ARGS)
{
	Timing timing = {.schedule = schedule_parse(text_to_cstring(PG_GETARG_TEXT_PP(0))),
					 .anchor = PG_GETARG_TIMESTAMPTZ(1),
					 .zone = schedule_zone_or_gmt(text_to_cstring(PG_GETARG_TEXT_PP(2)))};
	TimestampTz moment = PG_GETARG_TIMESTAMPTZ(3);
	bool manual = timing.schedule == SCHEDULE_MANUAL;
	bool nulls[3] = {manual, manual, false};
	Datum values[3] = {0};
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	schedule_check_moment(timing.anchor);
	schedule_check_moment(moment);
	if (!manual)
	{
		int64 k = schedule_last(&timing, moment);

		values[0] = TimestampTzGetDatum(schedule_due(&timing, k));
		values[1] = TimestampTzGetDatum(schedule_due(&timing, k + 1));
	}
	values[2] = CStringGetTextDatum(schedule_period(&timing, moment));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
