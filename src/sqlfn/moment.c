/*
 * moment.c
 *    customer_segmentation.as_of().
 *
 * A definition may compare each of its rows with it, and a backfill evaluates a definition hundreds of times, so what
 * the setting says is read from its text once and not for each row.
 */
#include "sqlfn/moment.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "sqlfn/segment.h"

PG_FUNCTION_INFO_V1(customer_segmentation_as_of);

char *moment_setting = NULL;

/* Everything that the meaning of the text depends on: 'yesterday' is a moment, too. */
typedef struct Reading
{
	char text[MAXDATELEN + 1];
	pg_tz *zone;
	int date_order;
	TimestampTz transaction;
	TimestampTz moment;
} Reading;

static Reading reading = {.text = ""};

static bool
is_current(const Reading *r)
{
	return r->zone == session_timezone && r->date_order == DateOrder &&
		   r->transaction == GetCurrentTransactionStartTimestamp() && strcmp(r->text, moment_setting) == 0;
}

TimestampTz
segment_now(void)
{
	TimestampTz moment;

	if (moment_setting == NULL || moment_setting[0] == '\0')
		return GetCurrentTransactionStartTimestamp();
	if (is_current(&reading))
		return reading.moment;
	moment = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(moment_setting),
													 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	if (strlen(moment_setting) < sizeof(reading.text))
	{
		strlcpy(reading.text, moment_setting, sizeof(reading.text));
		reading.zone = session_timezone;
		reading.date_order = DateOrder;
		reading.transaction = GetCurrentTransactionStartTimestamp();
		reading.moment = moment;
	}
	return moment;
}

Datum
customer_segmentation_as_of(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(segment_now());
}
