/*
 * set_type.c
 *    The type customer_set: text and binary form.
 *
 * The text form is the table's name and the identities, as relation:{"a","b"}, like an array's. Who writes it out must
 * be allowed to read the table's identities.
 *
 * A set of a former state of its table has no identities any longer. It is written as numbers, relation:#generation:hex
 * of the payload, so that a dump of a table that holds one does not fail; read back it is as useless as before.
 */
#include "sqlfn/set.h"

#include "catalog/pg_type.h"
#include "commands/vacuum.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "sqlfn/answers.h"
#include "store/store.h"

PG_FUNCTION_INFO_V1(customer_segmentation_set_in);
PG_FUNCTION_INFO_V1(customer_segmentation_set_out);
PG_FUNCTION_INFO_V1(customer_segmentation_set_recv);
PG_FUNCTION_INFO_V1(customer_segmentation_set_send);
PG_FUNCTION_INFO_V1(customer_segmentation_set_typanalyze);

/* ---- the text form ---------------------------------------------------------------------------------------------- */

static void
malformed(const char *input)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION), errmsg("malformed customer set: \"%s\"", input),
					errdetail("Expected a table's name, a colon and identities in braces: relation:{\"a\",\"b\"}."),
					errhint("To ask for one identity, cast it to text: set @> 'a'::text.")));
}

/* The colon behind the table's name, which may hold one in quotes. */
static const char *
find_colon(const char *input)
{
	bool quoted = false;

	for (const char *p = input; *p; p++)
	{
		if (*p == '"')
			quoted = !quoted;
		else if (*p == ':' && !quoted)
			return p;
	}
	return NULL;
}

static int
compare_names(const void *a, const void *b)
{
	const text *x = DatumGetTextPP(*(const Datum *) a);
	const text *y = DatumGetTextPP(*(const Datum *) b);
	size_t x_len = VARSIZE_ANY_EXHDR(x);
	size_t y_len = VARSIZE_ANY_EXHDR(y);
	int order = memcmp(VARDATA_ANY(x), VARDATA_ANY(y), Min(x_len, y_len));

	return order != 0 ? order : (x_len > y_len) - (x_len < y_len);
}

/* Names in a temporary table are looked up now: no dump restores them, and a parallel worker could not. */
static Datum
settle(SetHeader *names)
{
	if (!sqlfn_is_ours(names->relid) || get_rel_persistence(names->relid) != RELPERSISTENCE_TEMP)
		return PointerGetDatum(names);
	return set_store(set_load(PointerGetDatum(names)));
}

/* A set of names: sorted, each once. */
static Datum
set_of_names(Oid relid, Datum *names, int n)
{
	StringInfoData bytes;
	SetHeader *header;

	qsort(names, n, sizeof(Datum), compare_names);
	initStringInfo(&bytes);
	for (int i = 0; i < n; i++)
	{
		const text *name = DatumGetTextPP(names[i]);
		uint32 len = (uint32) VARSIZE_ANY_EXHDR(name);

		if (i > 0 && compare_names(&names[i - 1], &names[i]) == 0)
			continue;
		appendBinaryStringInfo(&bytes, (const char *) &len, sizeof(len));
		appendBinaryStringInfo(&bytes, VARDATA_ANY(name), (int) len);
	}
	header = set_form(relid, 0, SET_NAMES, (size_t) bytes.len);
	memcpy((char *) header + SET_HEADER_BYTES, bytes.data, (size_t) bytes.len);
	pfree(bytes.data);
	return settle(header);
}

static Oid
table_named(const char *name)
{
	return DatumGetObjectId(DirectFunctionCall1(regclassin, CStringGetDatum(name)));
}

/* Is a set of that generation of the present state of a table of ours? *next: the number that it gives out next. */
static bool
is_current(Oid relid, uint32 generation, uint32 *next)
{
	AnswerTable table;
	bool current;

	if (!sqlfn_is_ours(relid))
		return false;
	answers_open(&table, relid, ANSWERS_COLUMN(COL_IDENTITY));
	current = generation == table.reader->view->generation;
	*next = cseg_dict_next(table.reader->dict->dict);
	answers_close(&table);
	return current;
}

/* Numbers from outside: a sound bitmap, and of the present state none that the table has not given out yet. */
static Datum
set_of_numbers(Oid relid, uint32 generation, const uint8 *bytes, size_t len, int sqlstate)
{
	uint32 limit = CSEG_MAX_ORDINAL + 1;
	uint32 next;
	SetValue *value;
	CsegError err;

	if (is_current(relid, generation, &next))
		limit = next;
	value = set_from_numbers(relid, generation, bytes, len, limit, CurrentMemoryContext, &err);
	if (value == NULL)
		ereport(ERROR, (errcode(sqlstate), errmsg("malformed customer set"), errdetail("Its numbers: %s.", err.msg),
						errhint("Write identities instead: relation:{\"a\",\"b\"}.")));
	return set_store(value);
}

/* What follows "relation:#". */
static Datum
numbers_in(Oid relid, const char *numbers, const char *input)
{
	char *end;
	unsigned long generation = strtoul(numbers, &end, 10);
	size_t len;
	uint8 *bytes;

	if (end == numbers || *end != ':' || generation > PG_UINT32_MAX)
		malformed(input);
	end++;
	len = strlen(end);
	if (len % 2 != 0 || strspn(end, "0123456789abcdefABCDEF") != len)
		malformed(input);
	bytes = palloc(len / 2 + 1);
	hex_decode(end, len, (char *) bytes);
	return set_of_numbers(relid, (uint32) generation, bytes, len / 2, ERRCODE_INVALID_TEXT_REPRESENTATION);
}

static Datum
names_in(Oid relid, const char *names, const char *input)
{
	Oid in;
	Oid element;
	Datum *texts;
	bool *nulls;
	int n;
	ArrayType *array;

	getTypeInputInfo(TEXTARRAYOID, &in, &element);
	array = DatumGetArrayTypeP(OidInputFunctionCall(in, unconstify(char *, names), element, -1));
	if (ARR_NDIM(array) > 1)
		malformed(input);
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &texts, &nulls, &n);
	for (int i = 0; i < n; i++)
		if (nulls[i])
			malformed(input);
	return set_of_names(relid, texts, n);
}

Datum
customer_segmentation_set_in(PG_FUNCTION_ARGS)
{
	const char *input = PG_GETARG_CSTRING(0);
	const char *colon = find_colon(input);
	Oid relid;

	if (colon == NULL || (colon[1] != '{' && colon[1] != '#'))
		malformed(input);
	relid = table_named(pnstrdup(input, (Size) (colon - input)));
	PG_RETURN_DATUM(colon[1] == '{' ? names_in(relid, colon + 1, input) : numbers_in(relid, colon + 2, input));
}

typedef struct Listing
{
	StringInfo out;
	int n;
	bool binary;
} Listing;

/* Its length in the client's encoding, and it. */
static void
send_text(StringInfo out, const char *text, int len)
{
	char *converted = pg_server_to_client(text, len);

	if (converted != text)
		len = (int) strlen(converted);
	pq_sendint32(out, (uint32) len);
	pq_sendbytes(out, converted, len);
}

static void
list_name(void *arg, const uint8 *text, uint32 len)
{
	Listing *l = arg;

	CHECK_FOR_INTERRUPTS();
	l->n++;
	if (l->binary)
	{
		send_text(l->out, (const char *) text, (int) len);
		return;
	}
	if (l->n > 1)
		appendStringInfoCharMacro(l->out, ',');
	appendStringInfoCharMacro(l->out, '"');
	for (uint32 i = 0; i < len; i++)
	{
		if (text[i] == '"' || text[i] == '\\')
			appendStringInfoCharMacro(l->out, '\\');
		appendStringInfoCharMacro(l->out, (char) text[i]);
	}
	appendStringInfoCharMacro(l->out, '"');
}

static void
list_identity(void *arg, const text *identity)
{
	list_name(arg, (const uint8 *) VARDATA_ANY(identity), (uint32) VARSIZE_ANY_EXHDR(identity));
}

/*
 * Lists the identities; false, and nothing, where the set is of a former state of its table. The state that is asked
 * for is the one that is read: rows of RETURNING are sent without a snapshot, and another one may see the table
 * rewritten.
 */
static bool
list_known(const SetValue *value, Listing *l)
{
	AnswerTable table;
	uint32 container = 0;
	const uint64 *bits;
	bool current;

	if (set_is_empty(value))
		return true;
	if (!sqlfn_is_ours(value->relid))
		return false;
	answers_open(&table, value->relid, ANSWERS_COLUMN(COL_IDENTITY));
	current = value->generation == table.reader->view->generation;
	for (; current && (bits = cseg_set_from(value->set, &container)) != NULL; container++)
		answers_each_known(&table, container, bits, list_identity, l);
	answers_close(&table);
	return current;
}

/* A set of names, or NULL. */
static const SetHeader *
names_of(Datum datum)
{
	const SetHeader *header = set_is_expanded(datum) ? NULL : set_header(datum);

	return header && header->form == SET_NAMES ? header : NULL;
}

static char *
qualified_name(Oid relid)
{
	char *name = get_rel_name(relid);

	return name ? quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), name)
				: psprintf("%u", relid);
}

Datum
customer_segmentation_set_out(PG_FUNCTION_ARGS)
{
	Datum datum = PG_GETARG_DATUM(0);
	const SetHeader *names = names_of(datum);
	const SetValue *value = names ? NULL : set_get(datum);
	char *name = qualified_name(names ? names->relid : value->relid);
	StringInfoData out;
	Listing l = {.out = &out};
	const uint8 *numbers;
	size_t len;

	initStringInfo(&out);
	appendStringInfo(&out, "%s:{", name);
	if (names)
		set_each_name(names, list_name, &l);
	if (names || list_known(value, &l))
	{
		appendStringInfoChar(&out, '}');
		PG_RETURN_CSTRING(out.data);
	}
	numbers = set_numbers(datum, &len);
	resetStringInfo(&out);
	appendStringInfo(&out, "%s:#%u:", name, value->generation);
	enlargeStringInfo(&out, (int) (2 * len));
	out.len += (int) hex_encode((const char *) numbers, len, out.data + out.len);
	out.data[out.len] = '\0';
	PG_RETURN_CSTRING(out.data);
}

/*
 * ---- the binary form: the table's name, the number of identities, and they, as counted texts; or -1, the generation
 * and the payload ----
 */

#define NUMBERS_FOLLOW PG_UINT32_MAX

Datum
customer_segmentation_set_send(PG_FUNCTION_ARGS)
{
	Datum datum = PG_GETARG_DATUM(0);
	const SetHeader *names = names_of(datum);
	const SetValue *value = names ? NULL : set_get(datum);
	char *name = qualified_name(names ? names->relid : value->relid);
	StringInfoData out;
	StringInfoData list;
	Listing l = {.out = &list, .binary = true};
	const uint8 *numbers;
	size_t len;

	initStringInfo(&list);
	pq_begintypsend(&out);
	send_text(&out, name, (int) strlen(name));
	if (names)
		set_each_name(names, list_name, &l);
	if (names || list_known(value, &l))
	{
		pq_sendint32(&out, (uint32) l.n);
		pq_sendbytes(&out, list.data, list.len);
		PG_RETURN_BYTEA_P(pq_endtypsend(&out));
	}
	numbers = set_numbers(datum, &len);
	pq_sendint32(&out, NUMBERS_FOLLOW);
	pq_sendint32(&out, value->generation);
	pq_sendbytes(&out, (const char *) numbers, (int) len);
	PG_RETURN_BYTEA_P(pq_endtypsend(&out));
}

static char *
receive_text(StringInfo in, int *len)
{
	int bytes = (int) pq_getmsgint(in, 4);

	if (bytes < 0 || bytes > in->len - in->cursor)
		ereport(ERROR, (errcode(ERRCODE_INVALID_BINARY_REPRESENTATION), errmsg("invalid length in customer set")));
	return pq_getmsgtext(in, bytes, len);
}

static Datum
receive_numbers(StringInfo in, Oid relid)
{
	uint32 generation = (uint32) pq_getmsgint(in, 4);
	int len = in->len - in->cursor;

	return set_of_numbers(relid, generation, (const uint8 *) pq_getmsgbytes(in, len), (size_t) len,
						  ERRCODE_INVALID_BINARY_REPRESENTATION);
}

Datum
customer_segmentation_set_recv(PG_FUNCTION_ARGS)
{
	StringInfo in = (StringInfo) PG_GETARG_POINTER(0);
	int len;
	Oid relid = table_named(receive_text(in, &len));
	uint32 n = (uint32) pq_getmsgint(in, 4);
	Datum *names;

	if (n == NUMBERS_FOLLOW)
		PG_RETURN_DATUM(receive_numbers(in, relid));
	if (n > (uint32) (in->len - in->cursor) / 4)
		ereport(ERROR, (errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
						errmsg("invalid number of identities in customer set")));
	names = palloc(sizeof(Datum) * Max(n, 1));
	for (uint32 i = 0; i < n; i++)
	{
		char *name = receive_text(in, &len);

		names[i] = PointerGetDatum(cstring_to_text_with_len(name, len));
	}
	return set_of_names(relid, names, (int) n);
}

/* ---- statistics ------------------------------------------------------------------------------------------------- */

static void
compute_statistics(VacAttrStatsP stats, AnalyzeAttrFetchFunc fetch, int n, double total)
{
	int nulls = 0;
	double bytes = 0;

	for (int i = 0; i < n; i++)
	{
		bool isnull;
		Datum value = fetch(stats, i, &isnull);

		CHECK_FOR_INTERRUPTS();
		if (isnull)
			nulls++;
		else
			bytes += VARSIZE_ANY(DatumGetPointer(value));
	}
	stats->stats_valid = n > 0;
	stats->stanullfrac = n > 0 ? (float4) ((double) nulls / n) : 0;
	stats->stawidth = nulls < n ? (int32) (bytes / (n - nulls)) : 0;
	stats->stadistinct = 0; /* not known */
}

/*
 * How many are NULL, and how wide the others are. What ANALYZE does otherwise compares them, which is refused for sets
 * of two tables or of two states of one; and sets kept as common values would be compared while a query is planned.
 */
Datum
customer_segmentation_set_typanalyze(PG_FUNCTION_ARGS)
{
	VacAttrStatsP stats = (VacAttrStatsP) PG_GETARG_POINTER(0);

	stats->compute_stats = compute_statistics;
	stats->minrows = 300 * default_statistics_target;
	PG_RETURN_BOOL(true);
}
