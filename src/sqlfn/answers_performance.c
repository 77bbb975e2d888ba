/*
 * answers_performance.c
 *    segment_performance: what a segment's members ordered before a date and after it.
 *
 * The members are known from instances; the orders are a user's table, which set_source names. One query reads both, as
 * the caller and with the caller's privileges and policies, from what the caller has named: a source may be a view, and
 * its functions run with the rights of whoever reads it. Nothing of the text comes from an argument: relations and
 * columns are the catalog's names, quoted, and everything else is a parameter.
 */
#include "sqlfn/answers.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "sqlfn/rules_source.h"
#include "sqlfn/segment.h"

PG_FUNCTION_INFO_V1(customer_segmentation_segment_performance);

enum
{
	PERF_PERIOD,
	PERF_START,
	PERF_END,
	PERF_MEMBERS,
	PERF_CUSTOMERS,
	PERF_ORDERS,
	PERF_REVENUE,
	PERF_AOV,
	PERF_FREQUENCY,
	PERF_COLUMNS
};

typedef struct Performance
{
	AnswerTable table;
	Segment *definition; /* or NULL: it is not defined here */
	pg_tz *zone;
	bool by_email;
	CsegRuleSchema schema;
	int n;
	AnswerInstance **instances;
	TimestampTz start;
	TimestampTz pinned;
	TimestampTz end;
} Performance;

/* ---- sources ------------------------------------------------------------------------------------------------ */

static void
check_source(const Performance *p, CsegRuleSource source)
{
	const char *name = cseg_rules_source_name(source);

	if (p->schema.broken[source])
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("source \"%s\" can't be used", name),
						errdetail("Since it was set: %s.", p->schema.broken[source]),
						errhint("Set it again with customer_segmentation.set_source('%s', ...).", name)));
}

/*
 * The caller's sources, whoever owns the segment. The owner's would let the owner choose what the caller executes, and
 * a superuser would execute it as one.
 */
static void
load_source(Performance *p)
{
	rules_load_sources(GetUserId(), &p->schema);
	check_source(p, CSEG_SOURCE_ORDERS);
	if (p->schema.relation[CSEG_SOURCE_ORDERS] == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("source \"orders\" is not set"),
				 errdetail(
					 "You have not said where the orders are. Sources of others, such as the segment's owner, are not "
					 "read."),
				 errhint("Call customer_segmentation.set_source('orders', 'your_orders', '{\"customer_id\": \"...\", "
						 "\"time\": \"...\", \"amount\": \"...\"}').")));
}

/* Identities are compared as texts by their bytes, whatever types and collations the columns have. */
#define AS_TEXT "::text COLLATE pg_catalog.\"default\""

static const CsegRuleColumn *
find_column(const Performance *p, CsegRuleSource source, const char *role)
{
	for (size_t i = 0; p->schema.relation[source] && i < p->schema.n_columns; i++)
		if (p->schema.columns[i].source == source && strcmp(p->schema.columns[i].role, role) == 0)
			return &p->schema.columns[i];
	return NULL;
}

/*
 * Appends where the orders come from, as o, and sets the expression of their customer. Orders that lack what segment_by
 * asks for have it by the source of customers, if that knows both, as in rules.
 */
static char *
append_orders(const Performance *p, StringInfo sql)
{
	const char *role = p->by_email ? "email" : "customer_id";
	const char *other_role = p->by_email ? "customer_id" : "email";
	const CsegRuleColumn *own = find_column(p, CSEG_SOURCE_ORDERS, role);
	const CsegRuleColumn *other = find_column(p, CSEG_SOURCE_ORDERS, other_role);
	const CsegRuleColumn *wanted = find_column(p, CSEG_SOURCE_CUSTOMERS, role);
	const CsegRuleColumn *link = find_column(p, CSEG_SOURCE_CUSTOMERS, other_role);
	bool linked = other && wanted && link;

	if (own == NULL || !own->not_null)
		check_source(p, CSEG_SOURCE_CUSTOMERS);
	appendStringInfo(sql, "%s AS o", p->schema.relation[CSEG_SOURCE_ORDERS]);
	if (own && (own->not_null || !linked))
		return psprintf("o.%s" AS_TEXT, own->sql);
	if (!linked)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("source \"orders\" has no \"%s\"", role),
				 errdetail("The segment is by %s, and source \"customers\" does not map both \"customer_id\" and "
						   "\"email\".",
						   role),
				 errhint("Map the column with customer_segmentation.set_source.")));
	appendStringInfo(
		sql,
		" %s JOIN (SELECT DISTINCT c.%s" AS_TEXT " AS known, c.%s" AS_TEXT " AS customer FROM %s AS c) AS k "
		"ON k.known = o.%s" AS_TEXT,
		own ? "LEFT" : "INNER", link->sql, wanted->sql, p->schema.relation[CSEG_SOURCE_CUSTOMERS], other->sql);
	if (own == NULL)
		return pstrdup("k.customer");
	appendStringInfo(sql, " AND o.%s IS NULL", own->sql);
	return psprintf("coalesce(o.%s" AS_TEXT ", k.customer)", own->sql);
}

/* $1, $2, $3: start, pinned date, end, as the column of time has it; $4: the instances. */
static char *
query_text(const Performance *p, bool *local)
{
	const CsegRuleColumn *time = find_column(p, CSEG_SOURCE_ORDERS, "time");
	const CsegRuleColumn *amount = find_column(p, CSEG_SOURCE_ORDERS, "amount");
	StringInfoData from;
	StringInfoData sql;
	char *customer;

	if (time == NULL || amount == NULL)
		elog(ERROR, "source \"orders\" lacks a column that set_source requires");
	*local = time->cls == CSEG_COLUMN_LOCAL;
	initStringInfo(&from);
	customer = append_orders(p, &from);
	initStringInfo(&sql);
	appendStringInfo(&sql,
					 "WITH members AS MATERIALIZED (SELECT DISTINCT customer_identity" AS_TEXT
					 " AS customer FROM ONLY %s "
					 "WHERE segment_instance_id = ANY ($4)), "
					 "event AS (SELECT %s AS customer, o.%s >= $2 AS is_after, o.%s%s AS amount FROM %s "
					 "WHERE o.%s >= $1 AND o.%s < $3), "
					 "buyer AS (SELECT e.customer, count(*) FILTER (WHERE NOT is_after) AS orders_before, "
					 "count(*) FILTER (WHERE is_after) AS orders_after, "
					 "sum(amount) FILTER (WHERE NOT is_after) AS amount_before, "
					 "sum(amount) FILTER (WHERE is_after) AS amount_after "
					 "FROM event AS e JOIN members AS m ON m.customer = e.customer GROUP BY e.customer) "
					 "SELECT (SELECT count(*) FROM members), "
					 "count(*) FILTER (WHERE orders_before > 0), coalesce(sum(orders_before), 0)::bigint, "
					 "coalesce(sum(amount_before), 0)::numeric, "
					 "count(*) FILTER (WHERE orders_after > 0), coalesce(sum(orders_after), 0)::bigint, "
					 "coalesce(sum(amount_after), 0)::numeric FROM buyer",
					 sqlfn_table_name(p->table.rel), customer, time->sql, amount->sql, amount->suffix, from.data,
					 time->sql, time->sql);
	return sql.data;
}

/* ---- moments and instances ---------------------------------------------------------------------------------- */

/* Days and months are those of the segment's clock, hours are hours that pass. */
static TimestampTz
shift(const Performance *p, const Interval *span, bool forward)
{
	Interval days = *span;
	Interval hours = {.time = span->time};
	Datum zone = CStringGetTextDatum(pg_get_timezone_name(p->zone));
	Datum local = TimestampGetDatum(answers_local(p->pinned, p->zone));
	Datum moment;

	days.time = 0;
	local = forward ? DirectFunctionCall2(timestamp_pl_interval, local, IntervalPGetDatum(&days))
					: DirectFunctionCall2(timestamp_mi_interval, local, IntervalPGetDatum(&days));
	moment = days.day == 0 && days.month == 0 ? TimestampTzGetDatum(p->pinned)
											  : DirectFunctionCall2(timestamp_zone, zone, local);
	return DatumGetTimestampTz(forward
								   ? DirectFunctionCall2(timestamptz_pl_interval, moment, IntervalPGetDatum(&hours))
								   : DirectFunctionCall2(timestamptz_mi_interval, moment, IntervalPGetDatum(&hours)));
}

static void
choose_instances(Performance *p, const AnswerSegment *segment, bool ranged, Timestamp from, Timestamp to)
{
	AnswerInstance *all;
	int n;

	if (!ranged)
	{
		AnswerInstance *newest = answers_newest(segment, answers_local(p->pinned, p->zone));

		p->instances = palloc(sizeof(AnswerInstance *));
		p->instances[0] = newest;
		p->n = newest != NULL;
		return;
	}
	all = answers_instances(segment, &n);
	p->instances = palloc(sizeof(AnswerInstance *) * Max(n, 1));
	for (int i = 0; i < n; i++)
		if (all[i].date >= from && all[i].date <= to)
			p->instances[p->n++] = &all[i];
}

static Datum
instance_ids(const Performance *p)
{
	Datum *ids = palloc(sizeof(Datum) * Max(p->n, 1));

	for (int i = 0; i < p->n; i++)
		ids[i] = PointerGetDatum(p->instances[i]->id);
	return PointerGetDatum(construct_array(ids, p->n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* ---- rows --------------------------------------------------------------------------------------------------- */

static Datum
ratio(Datum numerator, int64 denominator, bool *isnull)
{
	*isnull = denominator == 0;
	if (*isnull)
		return (Datum) 0;
	return DirectFunctionCall2(numeric_div, numerator, DirectFunctionCall1(int8_numeric, Int64GetDatum(denominator)));
}

/* found: customers, orders and revenue of the period, or NULL where there is no instance to ask of. */
static void
put_period(const Performance *p, ReturnSetInfo *rsinfo, bool after, const int64 *members, const Datum *found)
{
	Datum values[PERF_COLUMNS] = {0};
	bool nulls[PERF_COLUMNS];

	memset(nulls, found == NULL, sizeof(nulls));
	values[PERF_PERIOD] = CStringGetTextDatum(after ? "after" : "before");
	values[PERF_START] = TimestampTzGetDatum(after ? p->pinned : p->start);
	values[PERF_END] = TimestampTzGetDatum(after ? p->end : p->pinned);
	nulls[PERF_PERIOD] = nulls[PERF_START] = nulls[PERF_END] = false;
	if (found)
	{
		int64 orders = DatumGetInt64(found[1]);

		values[PERF_MEMBERS] = Int64GetDatum(*members);
		memcpy(&values[PERF_CUSTOMERS], found, sizeof(Datum) * 3);
		values[PERF_AOV] = ratio(found[2], orders, &nulls[PERF_AOV]);
		values[PERF_FREQUENCY] = ratio(DirectFunctionCall1(int8_numeric, Int64GetDatum(orders)),
									   DatumGetInt64(found[0]), &nulls[PERF_FREQUENCY]);
	}
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static void
measure(const Performance *p, ReturnSetInfo *rsinfo)
{
	MemoryContext outer = CurrentMemoryContext;
	Datum found[7];
	int64 members;
	bool local;
	char *sql = query_text(p, &local);
	Oid type = local ? TIMESTAMPOID : TIMESTAMPTZOID;
	Oid types[] = {type, type, type, TEXTARRAYOID};
	Datum values[] = {
		TimestampTzGetDatum(local ? answers_local(p->start, p->zone) : p->start),
		TimestampTzGetDatum(local ? answers_local(p->pinned, p->zone) : p->pinned),
		TimestampTzGetDatum(local ? answers_local(p->end, p->zone) : p->end),
		instance_ids(p),
	};

	if (SPI_connect() != SPI_OK_CONNECT || SPI_execute_with_args(sql, 4, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the orders");
	MemoryContextSwitchTo(outer);
	for (int i = 0; i < (int) lengthof(found); i++)
	{
		bool isnull;

		found[i] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &isnull);
		if (i == 3 || i == 6)
			found[i] = PointerGetDatum(PG_DETOAST_DATUM_COPY(found[i]));
	}
	SPI_finish();
	members = DatumGetInt64(found[0]);
	put_period(p, rsinfo, false, &members, &found[1]);
	put_period(p, rsinfo, true, &members, &found[4]);
}

/* ---- segment_performance ------------------------------------------------------------------------------------ */

/* Is the segment one that is defined for this table? */
static Segment *
definition_of_table(const Performance *p, const text *segment_id)
{
	Segment *segment = segment_find(text_to_cstring(segment_id));

	return segment && segment->relation == RelationGetRelid(p->table.rel) ? segment : NULL;
}

static bool
is_by_email(const Performance *p)
{
	const text *by;

	if (p->definition)
		return strcmp(p->definition->segment_by, "email") == 0;
	by = p->n > 0 ? p->instances[p->n - 1]->places[0].group->dims.segment_by : NULL;
	return by && strcmp(text_to_cstring(by), "email") == 0;
}

Datum
customer_segmentation_segment_performance(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Performance p = {0};
	const Interval *span;
	AnswerSegment *segment;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2) || PG_ARGISNULL(5))
		return (Datum) 0;
	p.pinned = PG_GETARG_TIMESTAMPTZ(1);
	span = PG_GETARG_INTERVAL_P(2);
	answers_check_span(span);
	if (TIMESTAMP_NOT_FINITE(p.pinned))
		ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
						errmsg("pinned_at must be finite: %s", timestamptz_to_str(p.pinned)),
						errhint("Give the moment that before and after are told apart by.")));
	answers_open(&p.table, PG_GETARG_OID(5), ANSWERS_MEMBERSHIP | ANSWERS_COLUMN(COL_SEGMENT_BY));
	segment = answers_segment(&p.table, PG_GETARG_TEXT_PP(0));
	p.definition = definition_of_table(&p, segment->id);
	p.zone = p.definition ? p.definition->timing.zone : session_timezone;
	p.start = shift(&p, span, false);
	p.end = shift(&p, span, true);
	choose_instances(&p, segment, !PG_ARGISNULL(3) || !PG_ARGISNULL(4),
					 PG_ARGISNULL(3) ? DT_NOBEGIN : answers_local(PG_GETARG_TIMESTAMPTZ(3), p.zone),
					 PG_ARGISNULL(4) ? DT_NOEND : answers_local(PG_GETARG_TIMESTAMPTZ(4), p.zone));
	p.by_email = is_by_email(&p);
	load_source(&p);
	if (p.n > 0)
		measure(&p, rsinfo);
	else
	{
		put_period(&p, rsinfo, false, NULL, NULL);
		put_period(&p, rsinfo, true, NULL, NULL);
	}
	answers_close(&p.table);
	return (Datum) 0;
}
