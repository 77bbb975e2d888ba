/*
 * rules.c
 *    Rules of segments: handed to the core, which checks and compiles them, and its query made ready to run or to read.
 */
#include "sqlfn/rules.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "core/core.h"
#include "sqlfn/rules_source.h"
#include "sqlfn/segment.h"
#include "store/store.h"

PG_FUNCTION_INFO_V1(customer_segmentation_explain_rules);
PG_FUNCTION_INFO_V1(customer_segmentation_emptied_at);

int rules_rfm_buckets = 5;
int rules_rfm_best = RULES_RFM_HIGHEST;

/* ---- JSON to events ----------------------------------------------------------------------------------------- */

typedef struct Events
{
	CsegJsonEvent *events;
	size_t n;
	size_t allocated;
} Events;

static void
add_event(Events *list, CsegJsonKind kind, const char *text, size_t len)
{
	if (list->n == list->allocated)
	{
		list->allocated = list->allocated == 0 ? 256 : list->allocated * 2;
		list->events = list->events ? repalloc_huge(list->events, list->allocated * sizeof(CsegJsonEvent))
									: palloc(list->allocated * sizeof(CsegJsonEvent));
	}
	list->events[list->n++] = (CsegJsonEvent){.string = {text, len}, .kind = (uint8) kind};
}

static void
add_scalar(Events *list, const JsonbValue *value)
{
	char *number;

	switch (value->type)
	{
	case jbvNull:
		add_event(list, CSEG_JSON_NULL, "", 0);
		break;
	case jbvBool:
		add_event(list, value->val.boolean ? CSEG_JSON_TRUE : CSEG_JSON_FALSE, "", 0);
		break;
	case jbvNumeric:
		number = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
		add_event(list, CSEG_JSON_NUMBER, number, strlen(number));
		break;
	default:
		add_event(list, CSEG_JSON_STRING, value->val.string.val, value->val.string.len);
	}
}

/* The strings stay where they are in the jsonb. */
static Events
events_of(Jsonb *json)
{
	Events list = {0};
	JsonbIterator *it = JsonbIteratorInit(&json->root);
	JsonbIteratorToken token;
	JsonbValue value;
	bool scalar = JB_ROOT_IS_SCALAR(json);

	while ((token = JsonbIteratorNext(&it, &value, false)) != WJB_DONE)
	{
		CHECK_FOR_INTERRUPTS();
		switch (token)
		{
		case WJB_BEGIN_OBJECT:
			add_event(&list, CSEG_JSON_OBJECT, "", 0);
			break;
		case WJB_BEGIN_ARRAY:
			if (!scalar)
				add_event(&list, CSEG_JSON_ARRAY, "", 0);
			break;
		case WJB_END_ARRAY:
		case WJB_END_OBJECT:
			if (!scalar)
				add_event(&list, CSEG_JSON_END, "", 0);
			break;
		case WJB_KEY:
			add_event(&list, CSEG_JSON_KEY, value.val.string.val, value.val.string.len);
			break;
		default:
			add_scalar(&list, &value);
		}
	}
	return list;
}

/* ---- compiling ---------------------------------------------------------------------------------------------- */

/* What is being compiled; the core's object belongs to the context. */
typedef struct Compilation
{
	CsegRuleSchema schema;
	CsegRules *rules;
	const CsegString *ids; /* the segments that it asks for */
	size_t n_ids;
	CsegRuleQuery query;
} Compilation;

static void
check_problem(const CsegRuleProblem *problem)
{
	if (problem->fault == CSEG_RULE_SOUND)
		return;
	ereport(ERROR,
			(errcode(problem->fault == CSEG_RULE_NO_SOURCE ? ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
														   : ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg(problem->fault == CSEG_RULE_NO_SOURCE ? "no source for the rules at %s" : "invalid rules at %s",
					problem->path),
			 errdetail_internal("%s.", problem->message), problem->hint[0] ? errhint("%s", problem->hint) : 0));
}

static CsegRuleSegment
segment_of(const CsegString *id)
{
	char *segment_id = pnstrdup(id->text, id->len);
	Segment *segment = segment_find(segment_id);
	char *relation;

	if (segment == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("segment \"%s\" does not exist", segment_id),
						errdetail("The rules refer to it by segment_relation."),
						errhint("The view customer_segmentation.segments lists the segments.")));
	relation = get_rel_name(segment->relation);
	if (relation == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("the table of segment \"%s\" does not exist any more", segment_id)));
	return (CsegRuleSegment){
		.instances = quote_qualified_identifier(get_namespace_name(get_rel_namespace(segment->relation)), relation),
		.time_zone = segment->time_zone,
		.by_email = strcmp(segment->segment_by, "email") == 0,
	};
}

static void
compile(Compilation *c, Jsonb *rules, const char *segment_by, Oid owner, const char *time_zone)
{
	StoreOwner *object = store_owner_new(CurrentMemoryContext, cseg_rules_free);
	Events events = events_of(rules);
	CsegRuleSegment *segments;
	CsegRuleProblem problem;

	rules_load_sources(owner, &c->schema);
	c->schema.by_email = strcmp(segment_by, "email") == 0;
	c->schema.time_zone = time_zone;
	c->schema.rfm_buckets = rules_rfm_buckets;
	c->schema.rfm_lowest_best = rules_rfm_best == RULES_RFM_LOWEST;
	CSEG_CALL(NULL, cseg_rules_parse(&c->rules, events.events, events.n, &c->schema, &problem, &err));
	store_owner_set(object, c->rules);
	check_problem(&problem);
	CSEG_CALL(NULL, cseg_rules_segments(c->rules, &c->ids, &c->n_ids, &err));
	segments = palloc(sizeof(CsegRuleSegment) * (c->n_ids + 1));
	for (size_t i = 0; i < c->n_ids; i++)
		segments[i] = segment_of(&c->ids[i]);
	CSEG_CALL(NULL, cseg_rules_compile(c->rules, &c->schema, segments, &c->query, &problem, &err));
	check_problem(&problem);
}

/*
 * When a segment was last found to have nobody in it, up to a moment: by the segment's clock, as instance_created_date
 * is; -infinity if never. Such an instance has no row, so that its table alone would show the one before it as the
 * newest.
 */
Datum
customer_segmentation_emptied_at(PG_FUNCTION_ARGS)
{
	Segment *segment = segment_find(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	Oid types[] = {TEXTOID, TIMESTAMPTZOID};
	Datum values[] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)};
	Timestamp emptied;
	Catalog catalog;
	Datum found;
	bool isnull;

	TIMESTAMP_NOBEGIN(emptied);
	if (segment == NULL)
		PG_RETURN_TIMESTAMP(emptied);
	if (pg_class_aclcheck(segment->relation, GetUserId(), ACL_SELECT) != ACLCHECK_OK &&
		pg_attribute_aclcheck_all(segment->relation, GetUserId(), ACL_SELECT, ACLMASK_ANY) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, get_rel_name(segment->relation));
	catalog_enter(&catalog);
	/* The last run of a period tells what is stored of it. */
	if (SPI_execute_with_args("SELECT max(r.as_of) FROM customer_segmentation.segment_run AS r "
							  "WHERE r.segment_id = $1 AND r.status = 'succeeded' AND r.rows = 0 AND r.as_of <= $2 "
							  "AND NOT EXISTS (SELECT FROM customer_segmentation.segment_run AS l "
							  "WHERE l.segment_id = $1 AND l.segment_instance_id = r.segment_instance_id AND "
							  "l.status = 'succeeded' AND l.run_id > r.run_id)",
							  lengthof(types), types, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read the runs of segment \"%s\"", segment->segment_id);
	found = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
		emptied = schedule_local(&segment->timing, DatumGetTimestampTz(found));
	catalog_leave(&catalog);
	PG_RETURN_TIMESTAMP(emptied);
}

/* ---- parameters --------------------------------------------------------------------------------------------- */

static const Oid param_types[] = {
	[CSEG_PARAM_TEXT] = TEXTOID,         [CSEG_PARAM_TEXTS] = TEXTARRAYOID,
	[CSEG_PARAM_NUMBER] = NUMERICOID,    [CSEG_PARAM_NUMBERS] = NUMERICARRAYOID,
	[CSEG_PARAM_BOOLEAN] = BOOLOID,      [CSEG_PARAM_DATE] = DATEOID,
	[CSEG_PARAM_LOCAL] = TIMESTAMPOID,   [CSEG_PARAM_INSTANT] = TIMESTAMPTZOID,
	[CSEG_PARAM_INTERVAL] = INTERVALOID,
};

static Datum
value_of(const CsegString *string, Oid type)
{
	Oid input;
	Oid ioparam;
	char *text = pnstrdup(string->text, string->len);

	if (type == TEXTOID)
		return CStringGetTextDatum(text);
	getTypeInputInfo(type, &input, &ioparam);
	return OidInputFunctionCall(input, text, ioparam, -1);
}

static Datum
param_value(const CsegRuleParam *param)
{
	Oid type = param_types[param->type];
	Oid element = get_element_type(type);
	Datum *elements;
	int16 len;
	bool byval;
	char align;

	if (!OidIsValid(element))
		return value_of(&param->values[0], type);
	elements = palloc(sizeof(Datum) * (param->n + 1));
	for (size_t i = 0; i < param->n; i++)
		elements[i] = value_of(&param->values[i], element);
	get_typlenbyvalalign(element, &len, &byval, &align);
	return PointerGetDatum(construct_array(elements, (int) param->n, element, len, byval, align));
}

RulesQuery *
rules_compile(Jsonb *rules, const char *segment_by, Oid owner, const char *time_zone)
{
	RulesQuery *query = palloc0(sizeof(RulesQuery));
	MemoryContext result = CurrentMemoryContext;
	MemoryContext working = AllocSetContextCreate(result, "customer_segmentation rules", ALLOCSET_DEFAULT_SIZES);
	Compilation c = {0};

	MemoryContextSwitchTo(working);
	compile(&c, rules, segment_by, owner, time_zone);
	MemoryContextSwitchTo(result);
	query->sql = pnstrdup(c.query.sql.text, c.query.sql.len);
	query->nargs = (int) c.query.n_params;
	query->argtypes = palloc(sizeof(Oid) * (query->nargs + 1));
	query->values = palloc(sizeof(Datum) * (query->nargs + 1));
	query->nulls = palloc(query->nargs + 1);
	memset(query->nulls, ' ', query->nargs);
	query->nulls[query->nargs] = '\0';
	for (int i = 0; i < query->nargs; i++)
	{
		query->argtypes[i] = param_types[c.query.params[i].type];
		query->values[i] = param_value(&c.query.params[i]);
	}
	for (size_t i = 0; i < c.n_ids; i++)
		query->depends_on = lappend(query->depends_on, pnstrdup(c.ids[i].text, c.ids[i].len));
	query->current_state = c.query.current_state ? pstrdup(c.query.current_state) : NULL;
	MemoryContextDelete(working);
	return query;
}

/* ---- explain_rules ------------------------------------------------------------------------------------------ */

static char *
literal_of(const CsegRuleParam *param)
{
	Oid type = param_types[param->type];
	Oid output;
	bool varlena;
	char *text;

	getTypeOutputInfo(type, &output, &varlena);
	text = OidOutputFunctionCall(output, param_value(param));
	return psprintf("%s::%s", quote_literal_cstr(text), format_type_be(type));
}

static char *
moment_literal(TimestampTz moment)
{
	char *text = DatumGetCString(DirectFunctionCall1(timestamptz_out, TimestampTzGetDatum(moment)));

	return psprintf("%s::timestamp with time zone", quote_literal_cstr(text));
}

/* The query with values, and the moment if it is given, in place of parameters. */
static char *
query_text(const CsegRuleQuery *query, const char *moment)
{
	StringInfoData sql;
	size_t at = 0;

	initStringInfo(&sql);
	for (size_t i = 0; i < query->n_references; i++)
	{
		const CsegRuleReference *ref = &query->references[i];

		appendBinaryStringInfo(&sql, query->sql.text + at, (int) (ref->offset - at));
		at = ref->offset + ref->len;
		if (ref->param > 0)
			appendStringInfoString(&sql, literal_of(&query->params[ref->param - 1]));
		else if (moment)
			appendStringInfoString(&sql, moment);
		else
			appendBinaryStringInfo(&sql, query->sql.text + ref->offset, (int) ref->len);
	}
	appendBinaryStringInfo(&sql, query->sql.text + at, (int) (query->sql.len - at));
	return sql.data;
}

Datum
customer_segmentation_explain_rules(PG_FUNCTION_ARGS)
{
	Compilation c = {0};
	char *segment_by;
	char *moment = NULL;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	segment_by = segment_check_by(PG_ARGISNULL(1) ? pstrdup("customer_id") : text_to_cstring(PG_GETARG_TEXT_PP(1)));
	if (!PG_ARGISNULL(2))
	{
		schedule_check_moment(PG_GETARG_TIMESTAMPTZ(2));
		moment = moment_literal(PG_GETARG_TIMESTAMPTZ(2));
	}
	compile(&c, PG_GETARG_JSONB_P(0), segment_by, GetUserId(), pg_get_timezone_name(session_timezone));
	PG_RETURN_TEXT_P(cstring_to_text(query_text(&c.query, moment)));
}
