/*
 * segment_define.c
 *    create_segment, alter_segment, drop_segment.
 */
#include "sqlfn/segment.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "compat/compat.h"

PG_FUNCTION_INFO_V1(customer_segmentation_create_segment);
PG_FUNCTION_INFO_V1(customer_segmentation_create_segment_by_rules);
PG_FUNCTION_INFO_V1(customer_segmentation_alter_segment);
PG_FUNCTION_INFO_V1(customer_segmentation_drop_segment);

#define SEGMENT_ID_DIGITS 24
#define SEGMENT_NAME_MAX 1024

/* ---- arguments ---------------------------------------------------------------------------------------------- */

static char *
optional_text(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

static char *
required_text(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"%s\" must not be null", name)));
	return text_to_cstring(PG_GETARG_TEXT_PP(n));
}

static char *
check_name(char *name)
{
	if (name[0] == '\0' || strlen(name) > SEGMENT_NAME_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid name of a segment"),
						errdetail("A name has 1 to %d bytes.", SEGMENT_NAME_MAX)));
	return name;
}

char *
segment_check_by(char *segment_by)
{
	if (strcmp(segment_by, "customer_id") != 0 && strcmp(segment_by, "email") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid segment_by \"%s\"", segment_by),
						errhint("Segments are by customer_id or by email.")));
	return segment_by;
}

/* Four bytes of time and eight of chance, in hexadecimal: they sort by age, and two servers draw different ones. */
static char *
draw_segment_id(TimestampTz now)
{
	uint8 bytes[SEGMENT_ID_DIGITS / 2];
	uint32 seconds = (uint32) timestamptz_to_time_t(now);
	char *id = palloc(SEGMENT_ID_DIGITS + 1);

	for (int i = 0; i < 4; i++)
		bytes[i] = (uint8) (seconds >> (24 - 8 * i));
	if (!pg_strong_random(bytes + 4, sizeof(bytes) - 4))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not draw a random segment_id")));
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(id + 2 * i, 3, "%02x", bytes[i]);
	return id;
}

static char *
check_segment_id(char *id)
{
	if (strlen(id) != SEGMENT_ID_DIGITS || strspn(id, "0123456789abcdef") != SEGMENT_ID_DIGITS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid segment_id \"%s\"", id),
						errdetail("A segment_id has %d digits of 0-9 and a-f.", SEGMENT_ID_DIGITS),
						errhint("Leave it out to have one drawn.")));
	return id;
}

/* ---- rules and what they depend on -------------------------------------------------------------------------- */

static void
check_cycle(const Segment *segment, List *depends_on, List **seen)
{
	ListCell *lc;

	foreach (lc, depends_on)
	{
		char *id = lfirst(lc);
		Segment *other;
		ListCell *s;
		bool known = false;

		if (strcmp(id, segment->segment_id) == 0)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("rules of segment \"%s\" refer to the segment itself", segment->name),
							errdetail("They do so directly or through the rules of other segments."),
							errhint("Leave out one segment_relation of the circle.")));
		foreach (s, *seen)
			known |= strcmp(lfirst(s), id) == 0;
		if (known)
			continue;
		*seen = lappend(*seen, id);
		segment_check_current(id);
		other = segment_find(id);
		if (other)
			check_cycle(segment, other->depends_on, seen);
	}
}

static void
check_definition(Segment *segment)
{
	RulesQuery *query;
	List *seen = NIL;

	segment->depends_on = NIL;
	if (segment->definition)
	{
		definition_check(segment);
		return;
	}
	segment_lock_references();
	query = definition_of(segment);
	segment->query = NULL;
	segment->undated = query->current_state;
	segment->depends_on = query->depends_on;
	check_cycle(segment, segment->depends_on, &seen);
	definition_check_start(segment, query);
}

/* ---- create_segment ----------------------------------------------------------------------------------------- */

/* The instances of a dropped segment in the shared table are not for anybody to take over. */
static void
check_adoption(const Segment *segment)
{
	if (store_is_shared(segment->relation) && !superuser() && store_has_segment(segment))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("instances of segment \"%s\" are already stored in \"%s\"", segment->segment_id,
							   get_rel_name(segment->relation)),
						errdetail("Only a superuser can create a segment that takes them over."),
						errhint("Leave segment_id out to have one drawn.")));
}

static Datum
create(FunctionCallInfo fcinfo, char *definition, Jsonb *rules)
{
	Segment *segment = palloc0(sizeof(Segment));
	bool given = !PG_ARGISNULL(5);

	segment->name = check_name(required_text(fcinfo, 0, "segment_name"));
	segment->definition = definition;
	segment->rules = rules;
	segment->segment_by = segment_check_by(PG_ARGISNULL(2) ? pstrdup("customer_id") : optional_text(fcinfo, 2));
	segment->schedule = PG_ARGISNULL(3) ? pstrdup("once_a_day") : optional_text(fcinfo, 3);
	segment->time_zone = PG_ARGISNULL(4) ? pstrdup(pg_get_timezone_name(session_timezone)) : optional_text(fcinfo, 4);
	segment->created_at = segment_now();
	segment->altered_at = GetCurrentTimestamp();
	segment->last_due_at = DT_NOBEGIN;
	segment->segment_id = given ? check_segment_id(optional_text(fcinfo, 5)) : draw_segment_id(segment->created_at);
	segment->description = optional_text(fcinfo, 6);
	if (PG_ARGISNULL(7))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"relation\" must not be null")));
	segment->relation = PG_GETARG_OID(7);
	segment->owner = GetUserId();
	segment->owner_name = GetUserNameFromId(segment->owner, false);
	segment->timing.schedule = schedule_parse(segment->schedule);
	segment->timing.zone = schedule_zone(segment->time_zone);
	segment->timing.anchor = segment->created_at;
	schedule_check_moment(segment->created_at);
	store_check_relation(segment);
	if (given)
		check_adoption(segment);
	check_definition(segment);
	segment_insert(segment);
	PG_RETURN_TEXT_P(cstring_to_text(segment->segment_id));
}

Datum
customer_segmentation_create_segment(PG_FUNCTION_ARGS)
{
	return create(fcinfo, required_text(fcinfo, 1, "definition"), NULL);
}

static Jsonb *
optional_rules(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : PG_GETARG_JSONB_P_COPY(n);
}

Datum
customer_segmentation_create_segment_by_rules(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"rules\" must not be null")));
	return create(fcinfo, NULL, optional_rules(fcinfo, 1));
}

/* ---- alter_segment ------------------------------------------------------------------------------------------ */

static void
alter_owner(Segment *segment, const char *role)
{
	Oid owner = get_role_oid(role, false);

	compat_check_can_set_role(GetUserId(), owner);
	segment->owner = owner;
	segment->owner_name = pstrdup(role);
}

Datum
customer_segmentation_alter_segment(PG_FUNCTION_ARGS)
{
	char *id = required_text(fcinfo, 0, "segment_id");
	Segment *segment = segment_load(id);
	bool redefined = !PG_ARGISNULL(2) || !PG_ARGISNULL(3);

	segment_check_owner(segment);
	segment_lock(id, false, true);
	segment = segment_load(id);
	segment_check_owner(segment);
	if (!PG_ARGISNULL(2) && !PG_ARGISNULL(3))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a segment is defined by a definition or by rules, not by both")));
	if (!PG_ARGISNULL(1))
		segment->name = check_name(optional_text(fcinfo, 1));
	if (redefined)
	{
		segment->definition = optional_text(fcinfo, 2);
		segment->rules = optional_rules(fcinfo, 3);
	}
	if (!PG_ARGISNULL(4))
	{
		segment->schedule = optional_text(fcinfo, 4);
		segment->timing.schedule = schedule_parse(segment->schedule);
	}
	if (!PG_ARGISNULL(5))
		segment->description = optional_text(fcinfo, 5);
	if (!PG_ARGISNULL(6))
		segment->paused = PG_GETARG_BOOL(6);
	if (!PG_ARGISNULL(7))
		alter_owner(segment, NameStr(*PG_GETARG_NAME(7)));
	segment_check_owner_exists(segment);
	if (redefined)
		check_definition(segment);
	else if (!PG_ARGISNULL(7))
		definition_check_start(segment, definition_of(segment));
	if (!PG_ARGISNULL(7))
		store_check_relation(segment);
	segment->altered_at = GetCurrentTimestamp();
	segment_update(segment);
	PG_RETURN_VOID();
}

/* ---- drop_segment ------------------------------------------------------------------------------------------- */

Datum
customer_segmentation_drop_segment(PG_FUNCTION_ARGS)
{
	char *id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Segment *segment = segment_load(id);

	segment_check_owner(segment);
	segment_lock(id, false, true);
	segment = segment_load(id);
	segment_check_owner(segment);
	segment_lock_references();
	segment_check_unused(segment);
	if (!PG_GETARG_BOOL(1))
	{
		segment_check_owner_exists(segment);
		store_check_relation(segment);
		store_delete_segment(segment);
		marks_remove_segment(segment);
	}
	segment_delete(segment);
	PG_RETURN_VOID();
}
