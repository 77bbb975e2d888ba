/*
 * rules_source.c
 *    Sources: set_source, what the view sources shows, and what of them the compiler of rules gets to know.
 *
 * A source belongs to the role that set it, and rules use those of their segment's owner. It is stored as the names of
 * columns, so that a dump brings it back; names become columns of the catalog each time rules are compiled, and what
 * goes into the query is the catalog's name of the column, quoted.
 */
#include "sqlfn/rules_source.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"

#include "sqlfn/segment.h"

PG_FUNCTION_INFO_V1(customer_segmentation_set_source);
PG_FUNCTION_INFO_V1(customer_segmentation_list_sources);

/* ---- columns ------------------------------------------------------------------------------------------------ */

static const CsegRuleRole *
find_role(CsegRuleSource source, const char *name)
{
	for (const CsegRuleRole *role = cseg_rules_roles(source); role->name; role++)
		if (strcmp(role->name, name) == 0)
			return role;
	return NULL;
}

static bool
is_text_like(Oid type)
{
	char category;
	bool preferred;

	get_type_category_preferred(type, &category, &preferred);
	return category == TYPCATEGORY_STRING || category == TYPCATEGORY_ENUM || type == UUIDOID || type == NAMEOID;
}

static bool
is_integer(Oid type)
{
	return type == INT2OID || type == INT4OID || type == INT8OID;
}

/* A number that names something is compared as a text, whatever its column is. */
static bool
is_identifier(const char *role)
{
	size_t len = strlen(role);

	return len > 3 && strcmp(role + len - 3, "_id") == 0;
}

/* What rules may do with a column of this type, and what makes an expression of it; false: nothing. */
static bool
classify(const char *role, Oid declared, Oid collation, CsegRuleColumn *column)
{
	Oid type = getBaseType(declared);
	Oid element = get_element_type(type);
	bool number = is_integer(type) || type == NUMERICOID || type == FLOAT4OID || type == FLOAT8OID;

	/* Texts compare by the database's collation, so that rules mean the same whatever a column's own is. */
	if (OidIsValid(element) && is_text_like(getBaseType(element)))
	{
		column->cls = CSEG_COLUMN_TEXTS;
		column->suffix = declared != TEXTARRAYOID             ? "::text[] COLLATE pg_catalog.\"default\""
						 : collation == DEFAULT_COLLATION_OID ? ""
															  : " COLLATE pg_catalog.\"default\"";
	}
	else if (is_text_like(type) || (number && is_identifier(role)))
	{
		column->cls = CSEG_COLUMN_TEXT;
		if (declared != TEXTOID && declared != VARCHAROID)
			column->suffix = "::text COLLATE pg_catalog.\"default\"";
		else
			column->suffix = collation == DEFAULT_COLLATION_OID ? "" : " COLLATE pg_catalog.\"default\"";
	}
	else if (number)
	{
		column->cls = CSEG_COLUMN_NUMBER;
		column->suffix = type == FLOAT4OID || type == FLOAT8OID ? "::numeric" : "";
	}
	else if (type == BOOLOID)
	{
		column->cls = CSEG_COLUMN_BOOLEAN;
		column->suffix = "";
	}
	else if (type == TIMESTAMPTZOID)
	{
		column->cls = CSEG_COLUMN_INSTANT;
		column->suffix = "";
	}
	else if (type == TIMESTAMPOID || type == DATEOID)
	{
		column->cls = CSEG_COLUMN_LOCAL;
		column->suffix = "";
	}
	else
		return false;
	return true;
}

/* An index of a table says nothing of the tables that inherit from it. */
static bool
is_unique(Relation rel, AttrNumber attno)
{
	List *indexes = RelationGetIndexList(rel);
	bool unique = false;
	ListCell *lc;

	if (rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE && has_subclass(RelationGetRelid(rel)))
		return false;
	foreach (lc, indexes)
	{
		Relation index = index_open(lfirst_oid(lc), AccessShareLock);
		Form_pg_index form = index->rd_index;

		unique |= form->indisunique && form->indimmediate && form->indisvalid && form->indnkeyatts == 1 &&
				  form->indkey.values[0] == attno && heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL);
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	return unique;
}

static char *
class_names(uint8 classes)
{
	static const char *const names[] = {"text",    "array of texts", "number",
										"boolean", "timestamptz",    "timestamp or date"};
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < (int) lengthof(names); i++)
		if (classes & (1 << i))
			appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "", names[i]);
	return list.data;
}

/* Why a column can't serve. */
typedef struct Problem
{
	int sqlerrcode;
	char *message; /* NULL: it can */
	char *detail;
	char *hint;
} Problem;

/* The column that a source maps to a role; 42703 or 42804 where it can't serve. */
static Problem
resolve_column(Relation rel, CsegRuleSource source, const char *role_name, const char *column_name,
			   CsegRuleColumn *column)
{
	const CsegRuleRole *role = find_role(source, role_name);
	AttrNumber attno = get_attnum(RelationGetRelid(rel), column_name);
	Form_pg_attribute att;

	if (attno <= 0)
		return (Problem){
			.sqlerrcode = ERRCODE_UNDEFINED_COLUMN,
			.message =
				psprintf("column \"%s\" of relation \"%s\" does not exist", column_name, RelationGetRelationName(rel)),
			.detail = psprintf("Source \"%s\" maps it to \"%s\".", cseg_rules_source_name(source), role_name),
		};
	att = TupleDescAttr(RelationGetDescr(rel), attno - 1);
	if (!classify(role_name, att->atttypid, att->attcollation, column))
		return (Problem){
			.sqlerrcode = ERRCODE_DATATYPE_MISMATCH,
			.message = psprintf("column \"%s\" is of type %s, which rules can't compare", column_name,
								format_type_be(att->atttypid)),
			.detail = psprintf("Source \"%s\" maps it to \"%s\".", cseg_rules_source_name(source), role_name),
			.hint = "Map a column of text, numbers, booleans, dates, times or an array of texts; a view can make one.",
		};
	/* What names an order or a customer may be of any type that is one. */
	if (role && role->classes == 1 << CSEG_COLUMN_TEXT && column->cls == CSEG_COLUMN_NUMBER)
	{
		column->cls = CSEG_COLUMN_TEXT;
		column->suffix = "::text COLLATE pg_catalog.\"default\"";
	}
	if (role && (role->classes & (1 << column->cls)) == 0)
		return (Problem){
			.sqlerrcode = ERRCODE_DATATYPE_MISMATCH,
			.message = psprintf("\"%s\" of source \"%s\" can't be column \"%s\" of type %s", role_name,
								cseg_rules_source_name(source), column_name, format_type_be(att->atttypid)),
			.detail = psprintf("It must be %s.", class_names(role->classes)),
		};
	column->role = pstrdup(role_name);
	column->sql = quote_identifier(pstrdup(NameStr(att->attname)));
	column->source = source;
	column->not_null = att->attnotnull;
	column->unique = is_unique(rel, attno);
	return (Problem){0};
}

/* ---- loading ------------------------------------------------------------------------------------------------ */

typedef struct Columns
{
	CsegRuleColumn *columns;
	Oid *types;      /* of the columns */
	Oid *collations; /* likewise */
	int n;
	int allocated;
} Columns;

static CsegRuleColumn *
next_column(Columns *columns, Oid type, Oid collation)
{
	if (columns->n == columns->allocated)
	{
		columns->allocated = Max(32, columns->allocated * 2);
		columns->columns = columns->columns ? repalloc(columns->columns, columns->allocated * sizeof(CsegRuleColumn))
											: palloc(columns->allocated * sizeof(CsegRuleColumn));
		columns->types = columns->types ? repalloc(columns->types, columns->allocated * sizeof(Oid))
										: palloc(columns->allocated * sizeof(Oid));
		columns->collations = columns->collations ? repalloc(columns->collations, columns->allocated * sizeof(Oid))
												  : palloc(columns->allocated * sizeof(Oid));
	}
	columns->types[columns->n] = type;
	columns->collations[columns->n] = collation;
	memset(&columns->columns[columns->n], 0, sizeof(CsegRuleColumn));
	return &columns->columns[columns->n++];
}

static char *
string_of(const JsonbValue *value)
{
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static void
add_column(Relation rel, CsegRuleSource source, const char *role, const char *name, Columns *columns, Problem *problem)
{
	CsegRuleColumn column = {0};
	Form_pg_attribute att;

	*problem = resolve_column(rel, source, role, name, &column);
	if (problem->message)
		return;
	att = TupleDescAttr(RelationGetDescr(rel), get_attnum(RelationGetRelid(rel), name) - 1);
	*next_column(columns, att->atttypid, att->attcollation) = column;
}

/* Reads {"role": "column", ...} as far as the first column that can't serve. */
static Problem
read_columns(Relation rel, CsegRuleSource source, Jsonb *map, Columns *columns)
{
	Problem problem = {0};
	JsonbIterator *it = JsonbIteratorInit(&map->root);
	JsonbIteratorToken token;
	JsonbValue value;
	char *role = NULL;

	if (!JB_ROOT_IS_OBJECT(map))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("columns of a source must be a JSON object"),
				 errhint("Map names of rules to columns: {\"customer_id\": \"id\", \"time\": \"created_at\"}.")));
	while (problem.message == NULL && (token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			role = string_of(&value);
		else if (token == WJB_VALUE)
		{
			if (value.type != jbvString)
				ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
								errmsg("the column for \"%s\" must be given as a string", role)));
			add_column(rel, source, role, string_of(&value), columns, &problem);
		}
	}
	return problem;
}

/* Types of which equal values have equal texts. All numbers of whole ones compare with each other, and both texts. */
static Oid
comparison_group(Oid type)
{
	if (is_integer(type))
		return INT8OID;
	if (type == TEXTOID || type == VARCHAROID)
		return TEXTOID;
	return type == UUIDOID ? UUIDOID : InvalidOid;
}

static bool
must_cast(const Columns *columns, const char *role)
{
	Oid group = InvalidOid;

	for (int i = 0; i < columns->n; i++)
	{
		Oid mine = comparison_group(columns->types[i]);
		Oid collation = columns->collations[i];

		if (strcmp(columns->columns[i].role, role) != 0)
			continue;
		if (!OidIsValid(mine) || (OidIsValid(group) && mine != group) ||
			(OidIsValid(collation) && collation != DEFAULT_COLLATION_OID))
			return true;
		group = mine;
	}
	return false;
}

static int
find_source(const char *name)
{
	for (int source = 0; source < CSEG_SOURCES; source++)
		if (strcmp(cseg_rules_source_name(source), name) == 0)
			return source;
	return -1;
}

typedef struct StoredSource
{
	int source;
	Oid relation;
	Jsonb *columns;
} StoredSource;

static int
read_stored(Oid owner, StoredSource *stored)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid types[] = {OIDOID};
	Datum values[] = {ObjectIdGetDatum(owner)};
	Catalog catalog;
	int n = 0;

	catalog_enter(&catalog);
	catalog_execute("SELECT source, relation::pg_catalog.oid, columns FROM customer_segmentation.segment_source "
					"WHERE owner::pg_catalog.oid = $1",
					1, types, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		bool isnull;
		char *name = TextDatumGetCString(SPI_getbinval(row, desc, 1, &isnull));
		MemoryContext old;

		stored[n].source = find_source(name);
		if (stored[n].source < 0)
			continue;
		stored[n].relation = DatumGetObjectId(SPI_getbinval(row, desc, 2, &isnull));
		old = MemoryContextSwitchTo(caller);
		stored[n++].columns = DatumGetJsonbPCopy(SPI_getbinval(row, desc, 3, &isnull));
		MemoryContextSwitchTo(old);
	}
	catalog_leave(&catalog);
	return n;
}

/* What a source has come to since it was set is told only where it is needed: other segments run on. */
static void
load_source(const StoredSource *stored, CsegRuleSchema *schema, Columns *columns)
{
	Relation rel = try_relation_open(stored->relation, AccessShareLock);
	Problem problem;

	if (rel == NULL)
	{
		schema->broken[stored->source] = "its relation does not exist any more";
		return;
	}
	schema->relation[stored->source] =
		quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)), RelationGetRelationName(rel));
	problem = read_columns(rel, stored->source, stored->columns, columns);
	schema->broken[stored->source] = problem.message;
	relation_close(rel, AccessShareLock);
}

void
rules_load_sources(Oid owner, CsegRuleSchema *schema)
{
	StoredSource stored[CSEG_SOURCES];
	Columns columns = {0};
	int n = read_stored(owner, stored);

	for (int i = 0; i < n; i++)
		load_source(&stored[i], schema, &columns);
	schema->columns = columns.columns;
	schema->n_columns = columns.n;
	schema->cast_customer_id = must_cast(&columns, "customer_id");
	schema->cast_email = must_cast(&columns, "email");
	schema->cast_order_id = must_cast(&columns, "order_id");
}

/* ---- set_source --------------------------------------------------------------------------------------------- */

static bool
maps(const Columns *columns, const char *role)
{
	for (int i = 0; i < columns->n; i++)
		if (strcmp(columns->columns[i].role, role) == 0)
			return true;
	return false;
}

static void
missing(CsegRuleSource source, const char *what)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("source \"%s\" needs a column for %s", cseg_rules_source_name(source), what),
					errhint("Add it to columns: {\"customer_id\": \"id\", \"time\": \"created_at\"}.")));
}

static void
check_required(CsegRuleSource source, const Columns *columns)
{
	for (const CsegRuleRole *role = cseg_rules_roles(source); role->name; role++)
		if (role->required && !maps(columns, role->name))
			missing(source, psprintf("\"%s\"", role->name));
	if (source != CSEG_SOURCE_LINE_ITEMS && !maps(columns, "customer_id") && !maps(columns, "email"))
		missing(source, "\"customer_id\" or \"email\"");
	if (source != CSEG_SOURCE_SUBSCRIPTIONS)
		return;
	if (maps(columns, "event")
			? !maps(columns, "time")
			: !maps(columns, "started_time") && !maps(columns, "updated_time") && !maps(columns, "cancelled_time"))
		missing(source, "\"event\" and \"time\", or one of \"started_time\", \"updated_time\", \"cancelled_time\"");
}

static void
check_privileges(Relation rel, const Columns *columns)
{
	Oid relid = RelationGetRelid(rel);

	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) == ACLCHECK_OK)
		return;
	for (int i = 0; i < columns->n; i++)
		for (AttrNumber attno = 1; attno <= RelationGetNumberOfAttributes(rel); attno++)
		{
			Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), attno - 1);

			if (!att->attisdropped && strcmp(quote_identifier(NameStr(att->attname)), columns->columns[i].sql) == 0 &&
				pg_attribute_aclcheck(relid, attno, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
				aclcheck_error(ACLCHECK_NO_PRIV, get_relkind_objtype(rel->rd_rel->relkind),
							   RelationGetRelationName(rel));
		}
}

static void
check_relation(Relation rel)
{
	switch (rel->rd_rel->relkind)
	{
	case RELKIND_RELATION:
	case RELKIND_PARTITIONED_TABLE:
	case RELKIND_VIEW:
	case RELKIND_MATVIEW:
	case RELKIND_FOREIGN_TABLE:
		break;
	default:
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("\"%s\" is not a table or view", RelationGetRelationName(rel))));
	}
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("temporary relation \"%s\" can't be a source", RelationGetRelationName(rel)),
						errdetail("It would be gone when a segment runs."), errhint("Use a permanent table or view.")));
}

/* Before the relation is locked. */
static void
check_some_privilege(Oid relid)
{
	if (get_rel_name(relid) == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", relid)));
	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK &&
		pg_attribute_aclcheck_all(relid, GetUserId(), ACL_SELECT, ACLMASK_ANY) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, get_relkind_objtype(get_rel_relkind(relid)), get_rel_name(relid));
}

static void
check_source(CsegRuleSource source, Oid relid, Jsonb *map)
{
	Columns columns = {0};
	Relation rel;
	Problem problem;

	check_some_privilege(relid);
	rel = try_relation_open(relid, AccessShareLock);
	if (rel == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", relid)));
	check_relation(rel);
	problem = read_columns(rel, source, map, &columns);
	if (problem.message)
		ereport(ERROR, (errcode(problem.sqlerrcode), errmsg_internal("%s", problem.message),
						problem.detail ? errdetail_internal("%s", problem.detail) : 0,
						problem.hint ? errhint("%s", problem.hint) : 0));
	check_required(source, &columns);
	check_privileges(rel, &columns);
	relation_close(rel, AccessShareLock);
}

static int
source_argument(FunctionCallInfo fcinfo)
{
	StringInfoData names;
	char *name;
	int source;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("source must not be null")));
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	source = find_source(name);
	if (source >= 0)
		return source;
	initStringInfo(&names);
	for (int i = 0; i < CSEG_SOURCES; i++)
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "", cseg_rules_source_name(i));
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown source \"%s\"", name),
					errhint("The sources are %s.", names.data)));
	return -1;
}

Datum
customer_segmentation_set_source(PG_FUNCTION_ARGS)
{
	int source = source_argument(fcinfo);
	Oid types[] = {OIDOID, TEXTOID, OIDOID, JSONBOID};
	Datum values[] = {ObjectIdGetDatum(GetUserId()), CStringGetTextDatum(cseg_rules_source_name(source)),
					  PG_GETARG_DATUM(1), PG_GETARG_DATUM(2)};
	Catalog catalog;

	if (!PG_ARGISNULL(1))
	{
		if (PG_ARGISNULL(2))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("columns must not be null"),
					 errhint("Map names of rules to columns: {\"customer_id\": \"id\", \"time\": \"created_at\"}.")));
		check_source(source, PG_GETARG_OID(1), PG_GETARG_JSONB_P(2));
	}
	catalog_enter(&catalog);
	if (PG_ARGISNULL(1))
		catalog_execute("DELETE FROM customer_segmentation.segment_source "
						"WHERE owner::pg_catalog.oid = $1 AND source = $2",
						2, types, values, NULL);
	else
		catalog_execute(
			"INSERT INTO customer_segmentation.segment_source (owner, source, relation, columns) "
			"VALUES ($1::pg_catalog.regrole, $2, $3::pg_catalog.regclass, $4) "
			"ON CONFLICT (owner, source) DO UPDATE SET relation = excluded.relation, columns = excluded.columns",
			4, types, values, NULL);
	catalog_leave(&catalog);
	PG_RETURN_VOID();
}

/* The sources of the roles that the caller is a member of. */
Datum
customer_segmentation_list_sources(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid types[] = {OIDOID};
	Datum values[] = {ObjectIdGetDatum(GetUserId())};
	Catalog catalog;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	catalog_enter(&catalog);
	catalog_execute("SELECT s.owner, s.source, s.relation, s.columns FROM customer_segmentation.segment_source AS s "
					"JOIN pg_catalog.pg_roles AS o ON o.oid = s.owner::pg_catalog.oid "
					"WHERE pg_catalog.pg_has_role($1, o.oid, 'USAGE') ORDER BY o.rolname, s.source",
					1, types, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
		tuplestore_puttuple(rsinfo->setResult, SPI_tuptable->vals[i]);
	catalog_leave(&catalog);
	return (Datum) 0;
}
