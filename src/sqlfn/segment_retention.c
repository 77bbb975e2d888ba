/*
 * segment_retention.c
 *    Which instances are let go, and the functions that let them go: set_retention, apply_retention, pin_instance,
 *    drop_instance.
 *
 * Retention keeps everything for a while and then one instance a day, a month, or whatever keep_every says: the newest
 * of each period, so that a month is remembered by how it ended, and what serves as a day's instance can go on to serve
 * as its month's. Ages are told by instance_created_date on the clock of the segment's zone. A segment's newest
 * instance and pinned ones stay whatever their age.
 */
#include "sqlfn/segment.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "parser/scansup.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/formatting.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "compat/compat.h"

PG_FUNCTION_INFO_V1(customer_segmentation_set_retention);
PG_FUNCTION_INFO_V1(customer_segmentation_apply_retention);
PG_FUNCTION_INFO_V1(customer_segmentation_pin_instance);
PG_FUNCTION_INFO_V1(customer_segmentation_drop_instance);

#define SEGMENT_ID_DIGITS 24
#define MAX_TIERS 8

/* ---- keep_every --------------------------------------------------------------------------------------------- */

/* Finer units first. A tier's unit is also the name that timestamp_trunc knows. */
static const char *const units[] = {"hour", "day", "week", "month", "quarter", "year"};

/* One of each unit, for that long; the last tier may go on for ever. */
typedef struct Tier
{
	int unit;
	Interval *span; /* NULL: for ever */
} Tier;

typedef struct Tiers
{
	int n;
	Tier tiers[MAX_TIERS];
} Tiers;

static int
find_unit(const char *word)
{
	static const char *const prefixes[] = {"1 ", "one ", "a ", "once_a_", "every_", "every "};

	for (int p = 0; p < (int) lengthof(prefixes); p++)
	{
		if (strncmp(word, prefixes[p], strlen(prefixes[p])) == 0)
		{
			word += strlen(prefixes[p]);
			break;
		}
	}
	for (int u = 0; u < (int) lengthof(units); u++)
		if (strcmp(word, units[u]) == 0)
			return u;
	return -1;
}

COMPAT_NORETURN static void bad_tiers(const char *text, const char *detail) COMPAT_NORETURN_END;

static void
bad_tiers(const char *text, const char *detail)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid keep_every \"%s\"", text),
					errdetail_internal("%s", detail),
					errhint("Give a unit - hour, day, week, month, quarter, year - or several of them from fine to "
							"coarse: 'day for 90 days, month for 3 years, year'.")));
}

static char *
trim(char *text)
{
	char *end;

	while (scanner_isspace(*text))
		text++;
	end = text + strlen(text);
	while (end > text && scanner_isspace(end[-1]))
		*--end = '\0';
	return text;
}

static Interval *
read_span(const char *text, const char *span)
{
	Interval *interval = DatumGetIntervalP(
		DirectFunctionCall3(interval_in, CStringGetDatum(span), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));

	if (interval->month < 0 || interval->day < 0 || interval->time < 0 ||
		(interval->month == 0 && interval->day == 0 && interval->time == 0))
		bad_tiers(text, psprintf("The span \"%s\" is not positive.", span));
	return interval;
}

static Tier
read_tier(const char *text, char *part)
{
	char *split = strstr(part, " for ");
	Tier tier = {.span = NULL};

	if (split)
		*split = '\0';
	tier.unit = find_unit(trim(part));
	if (tier.unit < 0)
		bad_tiers(text, psprintf("\"%s\" is not a unit.", trim(part)));
	if (split)
		tier.span = read_span(text, trim(split + strlen(" for ")));
	return tier;
}

static Tiers
read_tiers(const char *text)
{
	Tiers tiers = {0};
	char *rest = asc_tolower(text, strlen(text));

	while (rest)
	{
		char *part = rest;

		rest = strchr(rest, ',');
		if (rest)
			*rest++ = '\0';
		if (tiers.n == MAX_TIERS)
			bad_tiers(text, psprintf("It has more than %d steps.", MAX_TIERS));
		if (tiers.n > 0 && tiers.tiers[tiers.n - 1].span == NULL)
			bad_tiers(text, "Only the last step may go without \"for\".");
		tiers.tiers[tiers.n] = read_tier(text, part);
		if (tiers.n > 0 && tiers.tiers[tiers.n].unit <= tiers.tiers[tiers.n - 1].unit)
			bad_tiers(text, "Each unit must be coarser than the one before.");
		tiers.n++;
	}
	return tiers;
}

/* ---- which to let go ---------------------------------------------------------------------------------------- */

static Timestamp
before(Timestamp moment, const Interval *span)
{
	return DatumGetTimestamp(
		DirectFunctionCall2(timestamp_mi_interval, TimestampGetDatum(moment), IntervalPGetDatum(span)));
}

/* -1: it is young; n: it is older than the last tier reaches. */
static int
tier_of(Timestamp created, const Timestamp *edges, const Tiers *tiers)
{
	if (created >= edges[0])
		return -1;
	for (int t = 0; t < tiers->n; t++)
		if (tiers->tiers[t].span == NULL || created >= edges[t + 1])
			return t;
	return tiers->n;
}

static Timestamp
period_start(int unit, Timestamp moment)
{
	return DatumGetTimestamp(
		DirectFunctionCall2(timestamp_trunc, CStringGetTextDatum(units[unit]), TimestampGetDatum(moment)));
}

/* Those to drop, of instances that are sorted from the newest to the oldest: their names. */
static List *
let_go(const Segment *segment, StoredInstance *instances, int n, TimestampTz as_of)
{
	Tiers tiers = {0};
	Timestamp edges[MAX_TIERS + 1];
	int last_tier = -1;
	Timestamp last_period = 0;
	List *gone = NIL;

	if (segment->keep_every)
		tiers = read_tiers(segment->keep_every);
	edges[0] = before(schedule_local(&segment->timing, as_of), segment->keep);
	for (int t = 0; t < tiers.n && tiers.tiers[t].span; t++)
		edges[t + 1] = before(edges[t], tiers.tiers[t].span);
	for (int i = 0; i < n; i++)
	{
		Timestamp created = instances[i].created;
		int tier = TIMESTAMP_NOT_FINITE(created) ? -1 : tier_of(created, edges, &tiers);

		CHECK_FOR_INTERRUPTS();
		if (tier < 0)
			continue;
		if (tier < tiers.n)
		{
			Timestamp period = period_start(tiers.tiers[tier].unit, created);
			bool first = tier != last_tier || period != last_period;

			last_tier = tier;
			last_period = period;
			if (first)
				continue;
		}
		if (i > 0 && !instances[i].pinned)
			gone = lappend(gone, instances[i].instance_id);
	}
	return gone;
}

/* ---- applying it -------------------------------------------------------------------------------------------- */

static List *
apply(const Segment *segment, TimestampTz as_of, bool dry_run)
{
	StoredInstance *instances;
	List *gone;
	char **ids;
	int n;

	schedule_check_moment(as_of);
	if (segment->keep == NULL)
		return NIL;
	segment_check_owner_exists(segment);
	store_check_relation(segment);
	instances = store_list_instances(segment, &n);
	gone = let_go(segment, instances, n, as_of);
	if (dry_run)
		return gone;
	ids = palloc(sizeof(char *) * Max(list_length(gone), 1));
	for (int i = 0; i < list_length(gone); i++)
		ids[i] = list_nth(gone, i);
	if (gone)
		store_drop_instances(segment, ids, list_length(gone));
	marks_forget_missing(segment, instances, n);
	return gone;
}

int64
segment_apply_retention(const Segment *segment, TimestampTz as_of)
{
	return list_length(apply(segment, as_of, false));
}

Datum
customer_segmentation_apply_retention(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bool dry_run = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
	Segment *segment;
	char *id;
	List *gone;
	ListCell *lc;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"segment_id\" must not be null")));
	if (!dry_run)
		PreventCommandIfReadOnly("apply_retention()");
	id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	segment = segment_load(id);
	segment_check_runner(segment);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	if (!dry_run)
		segment_lock(id, false, true);
	segment = segment_load(id);
	segment_check_runner(segment);
	gone = apply(segment, PG_ARGISNULL(1) ? segment_now() : PG_GETARG_TIMESTAMPTZ(1), dry_run);
	foreach (lc, gone)
	{
		Datum value = CStringGetTextDatum((char *) lfirst(lc));
		bool isnull = false;

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
	}
	return (Datum) 0;
}

/* ---- set_retention ------------------------------------------------------------------------------------------ */

static void
check_keep(const Segment *segment)
{
	Interval *keep = segment->keep;

	if (keep->month < 0 || keep->day < 0 || keep->time < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("keep must not be negative"),
						errhint("Give how long every instance is kept, such as '90 days'; NULL keeps all for ever.")));
	/* Would the first application fail? */
	(void) let_go(segment, NULL, 0, segment_now());
}

Datum
customer_segmentation_set_retention(PG_FUNCTION_ARGS)
{
	char *id;
	Segment *segment;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"segment_id\" must not be null")));
	PreventCommandIfReadOnly("set_retention()");
	id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	segment = segment_load(id);
	segment_check_owner(segment);
	segment_lock(id, false, true);
	segment = segment_load(id);
	segment_check_owner(segment);
	segment->keep = PG_ARGISNULL(1) ? NULL : PG_GETARG_INTERVAL_P(1);
	segment->keep_every = PG_ARGISNULL(2) ? NULL : trim(text_to_cstring(PG_GETARG_TEXT_PP(2)));
	if (segment->keep == NULL && segment->keep_every)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("keep_every without keep"),
				 errdetail("Where keep is NULL every instance is kept for ever."),
				 errhint("Say for how long every instance is kept before they are thinned out, such as '90 days'.")));
	if (segment->keep)
	{
		check_keep(segment);
		segment_check_owner_exists(segment);
		store_check_listing(segment);
	}
	segment_update(segment);
	PG_RETURN_VOID();
}

/* ---- one instance ------------------------------------------------------------------------------------------- */

static void
check_table_privileges(Oid relation)
{
	AclResult acl;

	if (get_rel_name(relation) == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", relation)));
	acl = pg_class_aclcheck(relation, GetUserId(), ACL_SELECT);
	if (acl == ACLCHECK_OK)
		acl = pg_class_aclcheck(relation, GetUserId(), ACL_DELETE);
	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, get_relkind_objtype(get_rel_relkind(relation)), get_rel_name(relation));
}

/*
 * For whom an instance is pinned or dropped: for the owner of its segment, whose id its name begins with. What is of no
 * segment any more is for those who may delete the table's rows.
 */
static Segment *
authorize(const char *instance_id, Oid relation)
{
	Segment *segment = NULL;

	if (strlen(instance_id) > SEGMENT_ID_DIGITS + 1 && instance_id[SEGMENT_ID_DIGITS] == '_')
		segment = segment_find(pnstrdup(instance_id, SEGMENT_ID_DIGITS));
	if (segment && segment->relation == relation)
	{
		segment_check_owner(segment);
		segment_lock(segment->segment_id, false, true);
		segment = segment_load(segment->segment_id);
		segment_check_owner(segment);
		segment_check_owner_exists(segment);
		return segment;
	}
	check_table_privileges(relation);
	segment = palloc0(sizeof(Segment));
	segment->relation = relation;
	segment->owner = GetUserId();
	return segment;
}

static StoredInstance *
find_instance(Segment *segment, const char *instance_id)
{
	int n;
	StoredInstance *instances = store_list_instances(segment, &n);

	for (int i = 0; i < n; i++)
	{
		if (strcmp(instances[i].instance_id, instance_id) != 0)
			continue;
		if (segment->segment_id == NULL)
			segment->segment_id = instances[i].segment_id;
		return &instances[i];
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("segment instance \"%s\" does not exist in \"%s\"", instance_id, get_rel_name(segment->relation)),
			 errhint("The view customer_segmentation.segment_instances lists what is stored; name another table than "
					 "the extension's own by relation => ....")));
	return NULL;
}

Datum
customer_segmentation_pin_instance(PG_FUNCTION_ARGS)
{
	char *instance_id;
	Segment *segment;

	for (int i = 0; i < 3; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("arguments must not be null")));
	PreventCommandIfReadOnly("pin_instance()");
	instance_id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	segment = authorize(instance_id, PG_GETARG_OID(2));
	find_instance(segment, instance_id);
	mark_pinned(segment->relation, instance_id, PG_GETARG_BOOL(1));
	PG_RETURN_VOID();
}

Datum
customer_segmentation_drop_instance(PG_FUNCTION_ARGS)
{
	char *instance_id;
	Segment *segment;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("arguments must not be null")));
	PreventCommandIfReadOnly("drop_instance()");
	instance_id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	segment = authorize(instance_id, PG_GETARG_OID(1));
	if (find_instance(segment, instance_id)->pinned)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("segment instance \"%s\" is pinned", instance_id),
						errhint("Take the pin off first: SELECT customer_segmentation.pin_instance('%s', false).",
								instance_id)));
	store_drop_instances(segment, &instance_id, 1);
	PG_RETURN_VOID();
}
