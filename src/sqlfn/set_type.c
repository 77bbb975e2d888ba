/*
 * set_type.c
 *    The type customer_set: text and binary form, and what its values are in memory.
 *
 * The text form is the table's name and the identities, as relation:{"a","b"}, like an array's. Who writes it out must
 * be allowed to read the table's identities.
 *
 * A set of a former state of its table has no identities any longer. It is written as numbers, relation:#generation:hex
 * of the payload, so that a dump of a table that holds one does not fail; read back it is as useless as before.
 */
#include "sqlfn/set.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
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

/* ---- values ----------------------------------------------------------------------------------------------------- */

static void
corrupt(const char *what)
{
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a stored customer set is damaged"), errdetail("%s.", what),
					errhint("Make the set again with customer_segmentation.members().")));
}

const SetHeader *
set_header(Datum datum)
{
	const SetHeader *header = (const SetHeader *) PG_DETOAST_DATUM(datum);

	if (VARSIZE(header) < SET_HEADER_BYTES || header->version != SET_VERSION || header->reserved != 0 ||
		(header->form != SET_ORDINALS && header->form != SET_NAMES))
		corrupt("Its header is none of this version");
	return header;
}

static size_t
payload_len(const SetHeader *header)
{
	return VARSIZE(header) - SET_HEADER_BYTES;
}

static const uint8 *
payload(const SetHeader *header)
{
	return (const uint8 *) header + SET_HEADER_BYTES;
}

static SetValue *
own(SetValue *value, CsegSet *set)
{
	value->set = set;
	return value;
}

SetValue *
set_new(Oid relid)
{
	SetValue *value = palloc0(sizeof(SetValue));
	StoreOwner *owner = store_owner_new(CurrentMemoryContext, cseg_set_free);
	CsegSet *set;

	value->relid = relid;
	CSEG_CALL(NULL, cseg_set_new(&set, &err));
	store_owner_set(owner, set);
	return own(value, set);
}

SetValue *
set_copy(const SetValue *from)
{
	SetValue *value = palloc(sizeof(SetValue));
	StoreOwner *owner = store_owner_new(CurrentMemoryContext, cseg_set_free);
	CsegSet *set;

	*value = *from;
	CSEG_CALL(NULL, cseg_set_copy(&set, from->set, &err));
	store_owner_set(owner, set);
	return own(value, set);
}

static SetValue *
load_ordinals(const SetHeader *header)
{
	SetValue *value = palloc0(sizeof(SetValue));
	StoreOwner *owner = store_owner_new(CurrentMemoryContext, cseg_set_free);
	CsegSet *set;
	CsegError err;

	value->relid = header->relid;
	value->generation = header->generation;
	if (cseg_set_from_roaring(&set, payload(header), payload_len(header), CSEG_MAX_ORDINAL + 1, &err) != CSEG_OK)
	{
		if (err.code == CSEG_CORRUPT)
			corrupt(err.msg);
		store_core_error(&err, NULL);
	}
	store_owner_set(owner, set);
	return own(value, set);
}

/* Calls for each name of the set. */
static void
each_name(const SetHeader *header, void (*call)(void *arg, const uint8 *text, uint32 len), void *arg)
{
	const uint8 *at = payload(header);
	const uint8 *end = at + payload_len(header);

	while (at < end)
	{
		uint32 len;

		if ((size_t) (end - at) < sizeof(len))
			corrupt("A name ends too early");
		memcpy(&len, at, sizeof(len));
		at += sizeof(len);
		if (len > (size_t) (end - at))
			corrupt("A name ends too early");
		call(arg, at, len);
		at += len;
	}
}

typedef struct Lookup
{
	AnswerTable table;
	CsegSet *set;
} Lookup;

static void
look_up(void *arg, const uint8 *text, uint32 len)
{
	Lookup *l = arg;
	bool found;
	uint32 ordinal;

	CSEG_CALL(l->table.rel, cseg_dict_find(l->table.reader->dict->dict, text, len, &found, &ordinal, &err));
	if (found)
		CSEG_CALL(l->table.rel, cseg_set_add(l->set, ordinal, &err));
}

static SetValue *
load_names(const SetHeader *header)
{
	SetValue *value = set_new(header->relid);
	Lookup l = {.set = value->set};

	answers_open(&l.table, header->relid, ANSWERS_COLUMN(COL_IDENTITY));
	value->generation = l.table.reader->view->generation;
	each_name(header, look_up, &l);
	answers_close(&l.table);
	return value;
}

SetValue *
set_load(Datum datum)
{
	const SetHeader *header = set_header(datum);

	return header->form == SET_ORDINALS ? load_ordinals(header) : load_names(header);
}

static SetHeader *
form(Oid relid, uint32 generation, SetForm kind, size_t bytes)
{
	SetHeader *header;

	if (bytes > MaxAllocSize - SET_HEADER_BYTES)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("a customer set would exceed 1 GB")));
	header = palloc0(SET_HEADER_BYTES + bytes);
	SET_VARSIZE(header, SET_HEADER_BYTES + bytes);
	header->version = SET_VERSION;
	header->form = kind;
	header->relid = relid;
	header->generation = generation;
	return header;
}

Datum
set_store_parts(Oid relid, uint32 generation, const CsegSet *set)
{
	StoreOwner *owner = store_owner_new(CurrentMemoryContext, cseg_bytes_free);
	SetHeader *header;
	uint8 *bytes;
	size_t len;

	CSEG_CALL(NULL, cseg_set_to_roaring(set, &bytes, &len, &err));
	store_owner_set(owner, bytes);
	header = form(relid, generation, SET_ORDINALS, len);
	memcpy((char *) header + SET_HEADER_BYTES, bytes, len);
	store_owner_set(owner, NULL);
	return PointerGetDatum(header);
}

Datum
set_store(const SetValue *value)
{
	return set_store_parts(value->relid, value->generation, value->set);
}

/* ---- which table, which generation ------------------------------------------------------------------------------ */

#define MAKE_AGAIN "Make the set again with customer_segmentation.members(), or keep its text form."

static const char *
name_of(Oid relid)
{
	const char *name = get_rel_name(relid);

	return name ? psprintf("\"%s\"", name) : psprintf("with OID %u, which is gone", relid);
}

void
set_check_generation(Oid relid, uint32 of_set, bool is_empty, uint32 present)
{
	if (is_empty || of_set == present)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("customer set is of a former state of table %s", name_of(relid)),
			 errdetail("The table's customers have been numbered anew since the set was made."), errhint(MAKE_AGAIN)));
}

void
set_check_same(const SetValue *a, const SetValue *b)
{
	if (a->relid != b->relid)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("customer sets are of different tables"),
				 errdetail("One is of table %s, the other of table %s.", name_of(a->relid), name_of(b->relid)),
				 errhint("Compare identities: customer_segmentation.identities() lists them.")));
	if (a->generation == b->generation || cseg_set_count(a->set) == 0 || cseg_set_count(b->set) == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("customer sets are of different states of table %s", name_of(a->relid)),
			 errdetail("The table's customers were numbered anew after one of them was made."), errhint(MAKE_AGAIN)));
}

void
set_apply(SetValue *a, CsegSetOp op, const SetValue *b)
{
	set_check_same(a, b);
	if (cseg_set_count(a->set) == 0)
		a->generation = b->generation;
	CSEG_CALL(NULL, cseg_set_apply(a->set, op, b->set, &err));
}

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
	header = form(relid, 0, SET_NAMES, (size_t) bytes.len);
	memcpy((char *) header + SET_HEADER_BYTES, bytes.data, (size_t) bytes.len);
	pfree(bytes.data);
	return PointerGetDatum(header);
}

static Oid
table_named(const char *name)
{
	return DatumGetObjectId(DirectFunctionCall1(regclassin, CStringGetDatum(name)));
}

static bool
is_table_of_ours(Oid relid)
{
	Relation rel = try_relation_open(relid, AccessShareLock);
	bool ours = rel && rel->rd_rel->relkind == RELKIND_RELATION && am_is_ours(rel);

	if (rel)
		relation_close(rel, NoLock);
	return ours;
}

/* Is the set of the present state of a table of ours? *next: the number that the table gives out next. */
static bool
is_current(const SetHeader *header, uint32 *next)
{
	AnswerTable table;
	bool current;

	if (!is_table_of_ours(header->relid))
		return false;
	answers_open(&table, header->relid, ANSWERS_COLUMN(COL_IDENTITY));
	current = header->generation == table.reader->view->generation;
	*next = cseg_dict_next(table.reader->dict->dict);
	answers_close(&table);
	return current;
}

/* Numbers from outside: a sound bitmap, and of the present state none that the table has not given out yet. */
static void
check_numbers(const SetHeader *header, int sqlstate)
{
	StoreOwner *owner = store_owner_new(CurrentMemoryContext, cseg_set_free);
	uint32 limit = CSEG_MAX_ORDINAL + 1;
	uint32 next;
	CsegSet *set;
	CsegError err;

	if (is_current(header, &next))
		limit = next;
	if (cseg_set_from_roaring(&set, payload(header), payload_len(header), limit, &err) == CSEG_OK)
	{
		store_owner_set(owner, set);
		return;
	}
	if (err.code != CSEG_CORRUPT)
		store_core_error(&err, NULL);
	ereport(ERROR, (errcode(sqlstate), errmsg("malformed customer set"), errdetail("Its numbers: %s.", err.msg),
					errhint("Write identities instead: relation:{\"a\",\"b\"}.")));
}

/* What follows "relation:#". */
static Datum
numbers_in(Oid relid, const char *numbers, const char *input)
{
	char *end;
	unsigned long generation = strtoul(numbers, &end, 10);
	size_t len;
	SetHeader *header;

	if (end == numbers || *end != ':' || generation > PG_UINT32_MAX)
		malformed(input);
	end++;
	len = strlen(end);
	if (len % 2 != 0 || strspn(end, "0123456789abcdefABCDEF") != len)
		malformed(input);
	header = form(relid, (uint32) generation, SET_ORDINALS, len / 2);
	hex_decode(end, len, (char *) header + SET_HEADER_BYTES);
	check_numbers(header, ERRCODE_INVALID_TEXT_REPRESENTATION);
	return PointerGetDatum(header);
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

/* Lists the identities; false, and nothing, where the set is of a former state of its table. */
static bool
list_set(const SetHeader *header, Listing *l)
{
	SetValue *value;
	AnswerTable table;
	uint32 container = 0;
	uint32 next;
	const uint64 *bits;

	if (header->form == SET_NAMES)
	{
		each_name(header, list_name, l);
		return true;
	}
	value = load_ordinals(header);
	if (cseg_set_count(value->set) == 0)
		return true;
	if (!is_current(header, &next))
		return false;
	answers_open(&table, header->relid, ANSWERS_COLUMN(COL_IDENTITY));
	for (; (bits = cseg_set_from(value->set, &container)) != NULL; container++)
		answers_each_known(&table, container, bits, list_identity, l);
	answers_close(&table);
	return true;
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
	const SetHeader *header = set_header(PG_GETARG_DATUM(0));
	char *name = qualified_name(header->relid);
	StringInfoData out;
	Listing l = {.out = &out};

	initStringInfo(&out);
	appendStringInfo(&out, "%s:{", name);
	if (list_set(header, &l))
	{
		appendStringInfoChar(&out, '}');
		PG_RETURN_CSTRING(out.data);
	}
	resetStringInfo(&out);
	appendStringInfo(&out, "%s:#%u:", name, header->generation);
	enlargeStringInfo(&out, (int) (2 * payload_len(header)));
	out.len += (int) hex_encode((const char *) payload(header), payload_len(header), out.data + out.len);
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
	const SetHeader *header = set_header(PG_GETARG_DATUM(0));
	char *name = qualified_name(header->relid);
	StringInfoData out;
	StringInfoData list;
	Listing l = {.out = &list, .binary = true};

	initStringInfo(&list);
	pq_begintypsend(&out);
	send_text(&out, name, (int) strlen(name));
	if (list_set(header, &l))
	{
		pq_sendint32(&out, (uint32) l.n);
		pq_sendbytes(&out, list.data, list.len);
	}
	else
	{
		pq_sendint32(&out, NUMBERS_FOLLOW);
		pq_sendint32(&out, header->generation);
		pq_sendbytes(&out, (const char *) payload(header), (int) payload_len(header));
	}
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
	SetHeader *header = form(relid, generation, SET_ORDINALS, (size_t) len);

	memcpy((char *) header + SET_HEADER_BYTES, pq_getmsgbytes(in, len), (size_t) len);
	check_numbers(header, ERRCODE_INVALID_BINARY_REPRESENTATION);
	return PointerGetDatum(header);
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
