/*
 * segment_definition.c
 *    Definitions: checked when they are given, evaluated as the segment's owner.
 *
 * A definition is untrusted: it, and every function, view, cast and policy in it, may have been written by anybody. So
 * it is evaluated as the owner, in a security-restricted context (no SET ROLE, no cursors or statements that outlive
 * it), read only, with pinned settings, in a subtransaction that is always rolled back: what it changed by a gap in all
 * that is taken back too. What is kept is the members, as plain values in a tuplestore.
 */
#include "sqlfn/segment.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "parser/parse_coerce.h"
#include "parser/parse_func.h"
#include "parser/parse_relation.h"
#include "parser/parser.h"
#include "pgstat.h"
#include "rewrite/rewriteHandler.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat/compat.h"

#define MEMBER_COLUMNS 3
#define REPORT_EVERY 65536

static const char *const member_columns[MEMBER_COLUMNS] = {"customer identity", "number of orders", "revenue"};
static const Oid member_types[MEMBER_COLUMNS] = {TEXTOID, INT8OID, NUMERICOID};

/* ---- errors in a definition --------------------------------------------------------------------------------- */

typedef struct DefinitionContext
{
	ErrorContextCallback callback;
	const char *name;
	const char *text; /* NULL: positions are not of interest */
} DefinitionContext;

/* Positions are within the definition, not within the statement that gave it. */
static void
definition_error(void *arg)
{
	const DefinitionContext *context = arg;
	int position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		if (context->text)
		{
			internalerrposition(position);
			internalerrquery(context->text);
		}
	}
	if (context->name)
		errcontext("definition of segment \"%s\"", context->name);
}

static void
push_context(DefinitionContext *context, const Segment *segment, const char *text)
{
	context->name = segment->name;
	context->text = text;
	context->callback.callback = definition_error;
	context->callback.arg = context;
	context->callback.previous = error_context_stack;
	error_context_stack = &context->callback;
}

static void
pop_context(DefinitionContext *context)
{
	error_context_stack = context->callback.previous;
}

/* ---- the owner's place -------------------------------------------------------------------------------------- */

typedef struct Sandbox
{
	MemoryContext memory;
	ResourceOwner resources;
} Sandbox;

static void
set_local(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

static void
set_moment(TimestampTz moment)
{
	char buffer[MAXDATELEN + 1];

	JsonEncodeDateTime(buffer, TimestampTzGetDatum(moment), TIMESTAMPTZOID, NULL);
	set_local("customer_segmentation.as_of", buffer);
}

/* How literals are written and read, whatever the session has set. */
static void
pin_formats(void)
{
	set_local("search_path", "pg_catalog, pg_temp");
	set_local("DateStyle", "ISO, MDY");
	set_local("IntervalStyle", "postgres");
	set_local("extra_float_digits", "1");
	set_local("standard_conforming_strings", "on");
	set_local("bytea_output", "hex");
	set_local("xmloption", "content");
	set_local("quote_all_identifiers", "off");
}

/* To be followed by a PG_TRY whose PG_CATCH calls sandbox_abort. */
static void
sandbox_enter(Sandbox *sandbox)
{
	sandbox->memory = CurrentMemoryContext;
	sandbox->resources = CurrentResourceOwner;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(sandbox->memory);
}

static void
sandbox_settle(Oid owner, const char *time_zone)
{
	Oid userid;
	int sec_context;

	GetUserIdAndSecContext(&userid, &sec_context);
	SetUserIdAndSecContext(owner, sec_context | SECURITY_RESTRICTED_OPERATION | SECURITY_LOCAL_USERID_CHANGE);
	pin_formats();
	set_local("row_security", "on");
	set_local("TimeZone", time_zone);
	set_local("transaction_read_only", "on");
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

static SPIPlanPtr
prepare(const RulesQuery *query)
{
	/* Values of rules are worth a plan of their own for each moment. */
	SPIPlanPtr plan = SPI_prepare_cursor(query->sql, query->nargs, query->argtypes, CURSOR_OPT_CUSTOM_PLAN);

	if (plan == NULL)
		elog(ERROR, "SPI_prepare: %s", SPI_result_code_string(SPI_result));
	return plan;
}

/* User, settings and whatever else go back with the subtransaction. */
static void
sandbox_leave(Sandbox *sandbox)
{
	SPI_finish();
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(sandbox->memory);
	CurrentResourceOwner = sandbox->resources;
}

COMPAT_NORETURN static void sandbox_abort(Sandbox *sandbox) COMPAT_NORETURN_END;

/* From PG_CATCH: an error must not leave the subtransaction open, or the client would have to end it. */
static void
sandbox_abort(Sandbox *sandbox)
{
	ErrorData *error;

	MemoryContextSwitchTo(sandbox->memory);
	error = CopyErrorData();
	FlushErrorState();
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(sandbox->memory);
	CurrentResourceOwner = sandbox->resources;
	ReThrowError(error);
}

/* ---- checking a definition ---------------------------------------------------------------------------------- */

static Oid
as_of_function(void)
{
	return LookupFuncName(list_make2(makeString(pstrdup("customer_segmentation")), makeString(pstrdup("as_of"))), 0,
						  NULL, false);
}

static bool
calls_function(Node *node, void *arg)
{
	if (node == NULL)
		return false;
	if (IsA(node, FuncExpr) && ((FuncExpr *) node)->funcid == *(Oid *) arg)
		return true;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, calls_function, arg, 0);
	return expression_tree_walker(node, calls_function, arg);
}

/* Seen through views, not through functions. */
static bool
asks_for_moment(Query *query)
{
	Oid function = as_of_function();
	ListCell *lc;

	query = copyObject(query);
	AcquireRewriteLocks(query, true, false);
	foreach (lc, QueryRewrite(query))
		if (calls_function((Node *) lfirst(lc), &function))
			return true;
	return false;
}

COMPAT_NORETURN static void refuse(const char *detail) COMPAT_NORETURN_END;

static void
refuse(const char *detail)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid definition of a segment"),
					errdetail_internal("%s", detail),
					errhint("Give one SELECT of the customer identity and, if you like, the number of orders and the "
							"revenue.")));
}

static void
check_statement(Query *query)
{
	if (query->commandType != CMD_SELECT || query->utilityStmt)
		refuse("It is not a query.");
	if (query->hasModifyingCTE)
		refuse("It changes data.");
	if (query->rowMarks)
		refuse("It locks rows.");
	if (isQueryUsingTempRelation(query))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("definition of a segment refers to a temporary table"),
				 errdetail("It would be gone when the segment runs."), errhint("Use a permanent table.")));
}

/* How a column becomes what is stored. */
typedef struct Coercion
{
	CoercionPathType path;
	Oid function;
	int nargs;
	FmgrInfo flinfo;
} Coercion;

static bool
find_coercion(int column, Oid type, Coercion *coercion)
{
	Oid base = getBaseType(type);

	coercion->function = InvalidOid;
	coercion->path =
		base == member_types[column]
			? COERCION_PATH_RELABELTYPE
			: find_coercion_pathway(member_types[column], base, column == 0 ? COERCION_EXPLICIT : COERCION_ASSIGNMENT,
									&coercion->function);
	return coercion->path == COERCION_PATH_RELABELTYPE || coercion->path == COERCION_PATH_FUNC ||
		   (coercion->path == COERCION_PATH_COERCEVIAIO && column == 0);
}

static bool
is_customer_set(Oid type)
{
	Oid schema = get_namespace_oid("customer_segmentation", true);
	Oid set = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("customer_set"), ObjectIdGetDatum(schema));

	return OidIsValid(set) && getBaseType(type) == set;
}

static void
check_column(int column, Oid type)
{
	Coercion coercion;

	if (column >= MEMBER_COLUMNS)
		refuse(psprintf("It has more than %d columns.", MEMBER_COLUMNS));
	/* It has a text form, like every type, but nobody's identity is a list of them. */
	if (is_customer_set(type))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid definition of a segment"),
						errdetail("Its column %d, the %s, is a set of customers.", column + 1, member_columns[column]),
						errhint("Give a row for each: SELECT customer_segmentation.identities(...).")));
	if (!find_coercion(column, type, &coercion))
		refuse(psprintf("Its column %d, the %s, is of type %s, which is not converted to %s.", column + 1,
						member_columns[column], format_type_be(type), format_type_be(member_types[column])));
}

static void
check_columns(Query *query)
{
	int column = 0;
	ListCell *lc;

	foreach (lc, query->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);

		if (!entry->resjunk)
			check_column(column++, exprType((Node *) entry->expr));
	}
	if (column == 0)
		refuse("It has no column.");
}

/* Names are resolved by the search path of the caller, now, once for all. */
static Query *
analyze(const char *definition)
{
	List *statements = raw_parser(definition, RAW_PARSE_DEFAULT);

	if (list_length(statements) != 1)
		refuse(statements == NIL ? "It is empty." : "It is more than one statement.");
	return parse_analyze_fixedparams(linitial_node(RawStmt, statements), definition, NULL, 0, NULL);
}

void
definition_check_start(const Segment *segment, const RulesQuery *query)
{
	DefinitionContext context;
	Sandbox sandbox;

	push_context(&context, segment, NULL);
	sandbox_enter(&sandbox);
	PG_TRY();
	{
		SPIPlanPtr plan;

		sandbox_settle(segment->owner, segment->time_zone);
		plan = prepare(query);
		SPI_cursor_close(SPI_cursor_open(NULL, plan, query->values, query->nulls, false));
	}
	PG_CATCH();
	{
		sandbox_abort(&sandbox);
	}
	PG_END_TRY();
	sandbox_leave(&sandbox);
	pop_context(&context);
}

void
definition_check(Segment *segment)
{
	DefinitionContext context;
	Oid userid;
	int sec_context;
	int guc_level;
	Query *query;

	if (segment->definition[strspn(segment->definition, " \t\r\n\f\v")] == '{')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("definition of a segment is not a query"),
				 errdetail("It starts with \"{\", as rules do."), errhint("Pass it as rules => '{...}'::jsonb.")));
	push_context(&context, segment, segment->definition);
	GetUserIdAndSecContext(&userid, &sec_context);
	SetUserIdAndSecContext(segment->owner, sec_context | SECURITY_RESTRICTED_OPERATION | SECURITY_LOCAL_USERID_CHANGE);
	guc_level = NewGUCNestLevel();
	query = analyze(segment->definition);
	check_statement(query);
	check_columns(query);
	(void) set_config_option("TimeZone", segment->time_zone, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
	pin_formats();
	segment->query = pg_get_querydef(query, false);
	segment->undated =
		asks_for_moment(query) ? NULL : pstrdup("The definition does not ask for customer_segmentation.as_of().");
	AtEOXact_GUC(false, guc_level);
	SetUserIdAndSecContext(userid, sec_context);
	pop_context(&context);
	definition_check_start(segment, definition_of(segment));
}

RulesQuery *
definition_of(const Segment *segment)
{
	RulesQuery *query;

	if (segment->rules)
		return rules_compile(segment->rules, segment->segment_by, segment->owner, segment->time_zone);
	query = palloc0(sizeof(RulesQuery));
	query->sql = segment->query;
	query->current_state = segment->undated;
	return query;
}

/* ---- members ------------------------------------------------------------------------------------------------ */

Members *
members_begin(void)
{
	Members *members = palloc0(sizeof(Members));

	members->memory = CurrentMemoryContext;
	members->desc = CreateTemplateTupleDesc(MEMBER_COLUMNS + 1);
	TupleDescInitEntry(members->desc, 1, "instance_no", INT4OID, -1, 0);
	TupleDescInitEntry(members->desc, 2, "customer_identity", TEXTOID, -1, 0);
	TupleDescInitEntry(members->desc, 3, "num_of_orders", INT8OID, -1, 0);
	TupleDescInitEntry(members->desc, 4, "total_revenue", NUMERICOID, -1, 0);
	members->store = tuplestore_begin_heap(false, false, work_mem);
	return members;
}

void
members_end(Members *members)
{
	tuplestore_end(members->store);
}

typedef struct MembersReceiver
{
	DestReceiver pub;
	Members *members;
	const Segment *segment;
	int n_columns;
	Coercion coercions[MEMBER_COLUMNS];
	MemoryContext row; /* reset after each */
} MembersReceiver;

static void
prepare_coercion(Coercion *coercion, Oid type)
{
	bool is_varlena;

	if (coercion->path == COERCION_PATH_COERCEVIAIO)
		getTypeOutputInfo(type, &coercion->function, &is_varlena);
	else if (coercion->path == COERCION_PATH_RELABELTYPE)
		return;
	if (compat_proc_aclcheck(coercion->function, GetUserId(), ACL_EXECUTE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(coercion->function));
	fmgr_info(coercion->function, &coercion->flinfo);
	coercion->nargs = get_func_nargs(coercion->function);
}

static void
receive_startup(DestReceiver *self, int operation, TupleDesc desc)
{
	MembersReceiver *receiver = (MembersReceiver *) self;

	if (desc->natts == 0)
		refuse("It has no column.");
	for (int i = 0; i < desc->natts; i++)
	{
		Oid type = TupleDescAttr(desc, i)->atttypid;

		check_column(i, type);
		find_coercion(i, type, &receiver->coercions[i]);
		prepare_coercion(&receiver->coercions[i], type);
	}
	receiver->n_columns = desc->natts;
}

static Datum
convert(Coercion *coercion, Datum value)
{
	switch (coercion->path)
	{
	case COERCION_PATH_COERCEVIAIO:
		return CStringGetTextDatum(OutputFunctionCall(&coercion->flinfo, value));
	case COERCION_PATH_FUNC:
		if (coercion->nargs == 1)
			return FunctionCall1Coll(&coercion->flinfo, DEFAULT_COLLATION_OID, value);
		if (coercion->nargs == 2)
			return FunctionCall2Coll(&coercion->flinfo, DEFAULT_COLLATION_OID, value, Int32GetDatum(-1));
		return FunctionCall3Coll(&coercion->flinfo, DEFAULT_COLLATION_OID, value, Int32GetDatum(-1),
								 BoolGetDatum(false));
	default:
		return value;
	}
}

/*
 * Members are read again after the definition's statement has ended, when a table that a value out of line is in may
 * have been truncated or vacuumed.
 */
static Datum
coerce(int column, Coercion *coercion, Datum value)
{
	Datum converted = convert(coercion, value);

	return member_types[column] == INT8OID ? converted : PointerGetDatum(PG_DETOAST_DATUM_PACKED(converted));
}

/* Shown in the error: what the other columns of the first row without an identity hold. */
static void
remember_null(MembersReceiver *receiver, TupleTableSlot *slot)
{
	MemoryContext old = MemoryContextSwitchTo(receiver->members->memory);
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoString(&text, "(NULL");
	for (int i = 1; i < receiver->n_columns; i++)
	{
		Oid output;
		bool is_varlena;

		getTypeOutputInfo(TupleDescAttr(slot->tts_tupleDescriptor, i)->atttypid, &output, &is_varlena);
		appendStringInfo(&text, ", %s",
						 slot->tts_isnull[i] ? "NULL" : OidOutputFunctionCall(output, slot->tts_values[i]));
	}
	appendStringInfoChar(&text, ')');
	receiver->members->null_row = text.data;
	MemoryContextSwitchTo(old);
}

static void
report(const MembersReceiver *receiver)
{
	const Members *members = receiver->members;

	segment_report(members->task ? members->task : "evaluating", receiver->segment, members->rows);
}

static bool
receive_row(TupleTableSlot *slot, DestReceiver *self)
{
	MembersReceiver *receiver = (MembersReceiver *) self;
	Members *members = receiver->members;
	Datum values[MEMBER_COLUMNS + 1] = {Int32GetDatum(members->instances)};
	bool nulls[MEMBER_COLUMNS + 1] = {false, true, true, true};
	MemoryContext old;

	slot_getallattrs(slot);
	if (slot->tts_isnull[0])
	{
		if (members->nulls++ == 0)
			remember_null(receiver, slot);
		return true;
	}
	old = MemoryContextSwitchTo(receiver->row);
	for (int i = 0; i < receiver->n_columns; i++)
	{
		nulls[i + 1] = slot->tts_isnull[i];
		if (!nulls[i + 1])
			values[i + 1] = coerce(i, &receiver->coercions[i], slot->tts_values[i]);
	}
	tuplestore_putvalues(members->store, members->desc, values, nulls);
	MemoryContextSwitchTo(old);
	MemoryContextReset(receiver->row);
	if (++members->rows % REPORT_EVERY == 0)
		report(receiver);
	return true;
}

static void
receive_nothing(DestReceiver *self)
{
}

static ParamListInfo
parameters(const RulesQuery *query)
{
	ParamListInfo params = makeParamList(query->nargs);

	for (int i = 0; i < query->nargs; i++)
	{
		params->params[i].value = query->values[i];
		params->params[i].isnull = query->nulls && query->nulls[i] == 'n';
		params->params[i].pflags = PARAM_FLAG_CONST;
		params->params[i].ptype = query->argtypes[i];
	}
	return query->nargs > 0 ? params : NULL;
}

/*
 * Settings and plan serve every moment. A plan without parameters is made once, so it is made for the last of them:
 * what suits a history that has just begun may take for ever on what it has grown to.
 */
static SPIPlanPtr
prepare_for(const RulesQuery *query, TimestampTz last)
{
	SPIPlanPtr plan = prepare(query);

	if (list_length(SPI_plan_get_plan_sources(plan)) != 1)
		refuse("It is more than one statement.");
	if (query->nargs == 0)
	{
		CachedPlan *cached;

		set_moment(last);
		cached = SPI_plan_get_cached_plan(plan);
		if (cached)
			ReleaseCachedPlan(cached, NULL); /* as SPI holds plans that are not kept */
	}
	return plan;
}

static int
evaluate_moments(MembersReceiver *receiver, const RulesQuery *query, const TimestampTz *moments, int n_moments,
				 int64 *counts)
{
	Members *members = receiver->members;
	SPIExecuteOptions options = {.params = parameters(query), .dest = &receiver->pub};
	SPIPlanPtr plan = prepare_for(query, moments[n_moments - 1]);
	int i = 0;

	while (i < n_moments && (members->enough == 0 || members->rows < members->enough))
	{
		int64 before = members->rows;

		CHECK_FOR_INTERRUPTS();
		set_moment(moments[i]);
		members->instances++;
		report(receiver);
		if (SPI_execute_plan_extended(plan, &options) != SPI_OK_SELECT)
			refuse("It is not a query.");
		if (counts)
			counts[i] = members->rows - before;
		i++;
	}
	return i;
}

int
members_evaluate(Members *members, const RulesQuery *query, const Segment *segment, Oid owner,
				 const TimestampTz *moments, int n_moments, int64 *counts)
{
	MembersReceiver receiver = {
		.pub = {receive_row, receive_startup, receive_nothing, receive_nothing, DestTuplestore},
		.members = members,
		.segment = segment,
	};
	DefinitionContext context;
	Sandbox sandbox;
	volatile int evaluated = 0;

	push_context(&context, segment, NULL);
	receiver.row = AllocSetContextCreate(CurrentMemoryContext, "member of a segment", ALLOCSET_SMALL_SIZES);
	sandbox_enter(&sandbox);
	PG_TRY();
	{
		sandbox_settle(owner, segment->time_zone);
		evaluated = evaluate_moments(&receiver, query, moments, n_moments, counts);
	}
	PG_CATCH();
	{
		sandbox_abort(&sandbox);
	}
	PG_END_TRY();
	sandbox_leave(&sandbox);
	MemoryContextDelete(receiver.row);
	pop_context(&context);
	return evaluated;
}

static void
check_duplicates(Members *members, const char *name)
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
	char *shown = NULL;
	int64 times = 0;
	int64 how_many = 0;

	catalog_enter(&catalog);
	if (SPI_register_relation(&enr) != SPI_OK_REL_REGISTER)
		elog(ERROR, "SPI_register_relation failed");
	if (catalog_execute("SELECT customer_identity, n, count(*) OVER (PARTITION BY instance_no) FROM (SELECT "
						"instance_no, customer_identity, "
						"count(*) AS n FROM members GROUP BY instance_no, customer_identity HAVING count(*) > 1) AS d "
						"ORDER BY instance_no, customer_identity COLLATE \"C\" LIMIT 1",
						0, NULL, NULL, NULL) > 0)
	{
		HeapTuple row = SPI_tuptable->vals[0];
		MemoryContext spi = MemoryContextSwitchTo(outer);
		bool isnull;

		shown = TextDatumGetCString(SPI_getbinval(row, SPI_tuptable->tupdesc, 1, &isnull));
		times = DatumGetInt64(SPI_getbinval(row, SPI_tuptable->tupdesc, 2, &isnull));
		how_many = DatumGetInt64(SPI_getbinval(row, SPI_tuptable->tupdesc, 3, &isnull));
		MemoryContextSwitchTo(spi);
	}
	catalog_leave(&catalog);
	if (shown)
		ereport(ERROR, (errcode(ERRCODE_UNIQUE_VIOLATION),
						errmsg_plural("definition of segment \"%s\" returns " INT64_FORMAT " customer more than once",
									  "definition of segment \"%s\" returns " INT64_FORMAT " customers more than once",
									  how_many, name, how_many),
						errdetail("One of them is \"%s\", returned " INT64_FORMAT " times.", shown, times),
						errhint("Group by the customer identity.")));
}

void
members_check(Members *members, const char *name, bool duplicates_too)
{
	if (members->nulls > 0)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg_plural("definition of segment \"%s\" returns " INT64_FORMAT " row without a customer identity",
							   "definition of segment \"%s\" returns " INT64_FORMAT " rows without a customer identity",
							   members->nulls, name, members->nulls),
				 members->null_row ? errdetail("One of them is %s.", members->null_row) : 0,
				 errhint("Leave rows whose identity is NULL out of the query.")));
	if (duplicates_too)
		check_duplicates(members, name);
}
