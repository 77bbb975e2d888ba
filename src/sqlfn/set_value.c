/*
 * set_value.c
 *    A customer_set in memory, to and from its stored form.
 *
 * members() reads nobody yet: a query that unites the instances of a year asks each cell once for all of them. What is
 * unread holds the view that it came from, so it means what the snapshot saw, and is only ever shown, never given:
 * whoever keeps a datum that is shown makes a copy of it, for which it is read. So nothing unread outlives the
 * expression that made it, or a function that has it as its argument.
 */
#include "sqlfn/set.h"

#include "access/detoast.h"
#include "access/table.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "store/store.h"

struct SetPending
{
	StoreView *view;
	CompatRelFileLocator file;
	int n;
	int cap;
	AnswerPlace *places;
};

#define FIRST_PLACES 4

/* ---- the stored form -------------------------------------------------------------------------------------------- */

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

size_t
set_payload_len(const SetHeader *header)
{
	return VARSIZE(header) - SET_HEADER_BYTES;
}

const uint8 *
set_payload(const SetHeader *header)
{
	return (const uint8 *) header + SET_HEADER_BYTES;
}

static void
check_size(size_t bytes)
{
	if (bytes > MaxAllocSize - SET_HEADER_BYTES)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("a customer set would exceed 1 GB")));
}

static void
fill_header(SetHeader *header, Oid relid, uint32 generation, SetForm form, size_t bytes)
{
	memset(header, 0, SET_HEADER_BYTES);
	SET_VARSIZE(header, SET_HEADER_BYTES + bytes);
	header->version = SET_VERSION;
	header->form = form;
	header->relid = relid;
	header->generation = generation;
}

SetHeader *
set_form(Oid relid, uint32 generation, SetForm form, size_t bytes)
{
	SetHeader *header;

	check_size(bytes);
	header = palloc(SET_HEADER_BYTES + bytes);
	fill_header(header, relid, generation, form, bytes);
	return header;
}

void
set_each_name(const SetHeader *header, void (*call)(void *arg, const uint8 *text, uint32 len), void *arg)
{
	const uint8 *at = set_payload(header);
	const uint8 *end = at + set_payload_len(header);

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

/* ---- which table, which generation ------------------------------------------------------------------------------ */

#define MAKE_AGAIN "Make the set again with customer_segmentation.members(), or keep its text form."

static const char *
name_of(Oid relid)
{
	const char *name = get_rel_name(relid);

	return name ? psprintf("\"%s\"", name) : psprintf("with OID %u, which is gone", relid);
}

static bool
is_unread(const SetValue *value)
{
	return value->pending && value->pending->n > 0;
}

/* An instance that is unread has members. */
bool
set_is_empty(const SetValue *value)
{
	uint32 container = 0;

	return !is_unread(value) && cseg_set_from(value->set, &container) == NULL;
}

static void
former_state(Oid relid)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("customer set is of a former state of table %s", name_of(relid)),
			 errdetail("The table's customers have been numbered anew since the set was made."), errhint(MAKE_AGAIN)));
}

void
set_check_generation(const SetValue *value, uint32 present)
{
	if (!set_is_empty(value) && value->generation != present)
		former_state(value->relid);
}

static void
no_customers(Oid relid)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("customer set is of table %s", name_of(relid)),
			 get_rel_name(relid) ? errdetail("The table does not use access method \"customer_segmentation\".") : 0,
			 errhint("Make a set of a table that has the customers with customer_segmentation.members().")));
}

void
set_open_table(AnswerTable *table, Oid relid)
{
	if (get_rel_name(relid) != NULL)
		sqlfn_require_readable(relid, ANSWERS_COLUMN(COL_IDENTITY));
	if (!sqlfn_is_ours(relid))
		no_customers(relid);
	answers_open(table, relid, ANSWERS_COLUMN(COL_IDENTITY));
}

void
set_check_same(const SetValue *a, const SetValue *b)
{
	if (a->relid != b->relid)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("customer sets are of different tables"),
				 errdetail("One is of table %s, the other of table %s.", name_of(a->relid), name_of(b->relid)),
				 errhint("Compare identities: customer_segmentation.identities() lists them.")));
	if (a->generation == b->generation || set_is_empty(a) || set_is_empty(b))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("customer sets are of different states of table %s", name_of(a->relid)),
			 errdetail("The table's customers were numbered anew after one of them was made."), errhint(MAKE_AGAIN)));
}

/* ---- members that are unread ------------------------------------------------------------------------------------ */

static int
compare_groups(const void *a, const void *b)
{
	const StoreGroup *x = ((const AnswerPlace *) a)->group;
	const StoreGroup *y = ((const AnswerPlace *) b)->group;

	return (x->group_no > y->group_no) - (x->group_no < y->group_no);
}

/* Each group once. */
static void
gather(SetPending *pending)
{
	int kept = 0;

	qsort(pending->places, pending->n, sizeof(AnswerPlace), compare_groups);
	for (int i = 0; i < pending->n; i++)
	{
		if (kept > 0 && pending->places[kept - 1].group == pending->places[i].group)
			pending->places[kept - 1].slots |= pending->places[i].slots;
		else
			pending->places[kept++] = pending->places[i];
	}
	pending->n = kept;
}

static void
add_place(SetPending *pending, AnswerPlace place)
{
	if (pending->n == pending->cap)
	{
		gather(pending);
		/* Never much more than there are groups. */
		if (pending->n > pending->cap / 2)
		{
			pending->cap *= 2;
			pending->places = repalloc_huge(pending->places, sizeof(AnswerPlace) * pending->cap);
		}
	}
	pending->places[pending->n++] = place;
}

static void
start_pending(SetValue *value, StoreView *view, CompatRelFileLocator file)
{
	MemoryContext cxt = value->hdr.eoh_context;
	SetPending *pending = value->pending;

	if (pending && pending->view == view)
		return;
	Assert(!is_unread(value));
	pending = MemoryContextAllocZero(cxt, sizeof(SetPending));
	store_view_hold(view, cxt);
	pending->view = view;
	pending->file = file;
	pending->cap = FIRST_PLACES;
	pending->places = MemoryContextAlloc(cxt, sizeof(AnswerPlace) * pending->cap);
	value->pending = pending;
}

static void
changed(SetValue *value)
{
	store_owner_set(value->numbers_owner, NULL);
	value->numbers = NULL;
}

void
set_add_instance(SetValue *value, const AnswerTable *table, const AnswerInstance *instance)
{
	StoreView *view = table->reader->view;

	start_pending(value, view, compat_locator(table->rel));
	for (int i = 0; i < instance->n_places; i++)
		add_place(value->pending, instance->places[i]);
	value->generation = view->generation;
	changed(value);
}

/* The least container from a number on that any of the places has members in; false: none. Moves the places' cursors.
 */
static bool
next_container(const SetPending *pending, int *at, uint32 *container)
{
	bool found = false;
	uint32 least = 0;

	for (int i = 0; i < pending->n; i++)
	{
		const StoreGroup *group = pending->places[i].group;

		while (at[i] < group->n_cells && group->cells[at[i]]->container < *container)
			at[i]++;
		if (at[i] == group->n_cells || (found && group->cells[at[i]]->container >= least))
			continue;
		least = group->cells[at[i]]->container;
		found = true;
	}
	*container = least;
	return found;
}

/* Container by container, so that what the places have of one is put together in the processor's cache. */
static void
read_places(Relation rel, const SetPending *pending, CsegSet *set)
{
	int *at = palloc0(sizeof(int) * pending->n);

	for (uint32 container = 0; next_container(pending, at, &container); container++)
	{
		uint64 bits[CSEG_MEMBER_WORDS] = {0};

		for (int i = 0; i < pending->n; i++)
		{
			const StoreGroup *group = pending->places[i].group;

			CHECK_FOR_INTERRUPTS();
			if (at[i] < group->n_cells && group->cells[at[i]]->container == container)
				store_cell_members(rel, group->cells[at[i]], pending->places[i].slots, bits);
		}
		CSEG_CALL(rel, cseg_set_add_bits(set, container, bits, &err));
	}
	pfree(at);
}

/* The table that the unread members are of. */
static Relation
open_pending(const SetValue *value)
{
	CompatRelFileLocator now;
	Relation rel;

	/* A function of the same expression has dropped it, or truncated it, say. */
	rel = try_table_open(value->relid, AccessShareLock);
	if (rel == NULL)
		no_customers(value->relid);
	now = compat_locator(rel);
	if (memcmp(&now, &value->pending->file, sizeof(now)) != 0)
		former_state(value->relid);
	return rel;
}

static void
read_pending(SetValue *value)
{
	SetPending *pending = value->pending;
	Relation rel;

	if (!is_unread(value))
		return;
	rel = open_pending(value);
	gather(pending);
	read_places(rel, pending, value->set);
	table_close(rel, NoLock);
	pending->n = 0;
}

static bool
in_pending(const SetValue *value, uint32 ordinal)
{
	const SetPending *pending = value->pending;
	uint32 low = ordinal & (CSEG_CONTAINER_SIZE - 1);
	uint64 bits[CSEG_MEMBER_WORDS] = {0};
	Relation rel = open_pending(value);

	for (int i = 0; i < pending->n; i++)
	{
		StoreCell *cell = store_group_cell(pending->places[i].group, ordinal >> CSEG_CONTAINER_BITS);

		CHECK_FOR_INTERRUPTS();
		if (cell)
			store_cell_members(rel, cell, pending->places[i].slots, bits);
	}
	table_close(rel, NoLock);
	return (bits[low / 64] >> (low % 64) & 1) != 0;
}

bool
set_has(const SetValue *value, uint32 ordinal)
{
	return cseg_set_contains(value->set, ordinal) || (is_unread(value) && in_pending(value, ordinal));
}

/* ---- expanded objects ------------------------------------------------------------------------------------------- */

static void
make_numbers(SetValue *value)
{
	read_pending(value);
	if (value->numbers)
		return;
	CSEG_CALL(NULL, cseg_set_to_roaring(value->set, &value->numbers, &value->numbers_len, &err));
	store_owner_set(value->numbers_owner, value->numbers);
}

static Size
flat_size(ExpandedObjectHeader *header)
{
	SetValue *value = (SetValue *) header;

	make_numbers(value);
	check_size(value->numbers_len);
	return SET_HEADER_BYTES + value->numbers_len;
}

static void
flatten_into(ExpandedObjectHeader *header, void *result, Size allocated_size)
{
	SetValue *value = (SetValue *) header;

	Assert(allocated_size == SET_HEADER_BYTES + value->numbers_len);
	fill_header(result, value->relid, value->generation, SET_ORDINALS, value->numbers_len);
	memcpy((char *) result + SET_HEADER_BYTES, value->numbers, value->numbers_len);
}

static const ExpandedObjectMethods set_methods = {flat_size, flatten_into};

bool
set_is_expanded(Datum datum)
{
	return VARATT_IS_EXTERNAL_EXPANDED(DatumGetPointer(datum));
}

static SetValue *
expanded(Datum datum)
{
	SetValue *value = (SetValue *) DatumGetEOHP(datum);

	Assert(value->hdr.eoh_methods == &set_methods);
	return value;
}

const SetValue *
set_unread(Datum datum)
{
	const SetValue *value = set_is_expanded(datum) ? expanded(datum) : NULL;

	return value && is_unread(value) ? value : NULL;
}

/* With nothing in it but what can own a set. */
static SetValue *
new_value(Oid relid, MemoryContext parent)
{
	MemoryContext cxt = AllocSetContextCreate(parent, "customer set", ALLOCSET_SMALL_SIZES);
	SetValue *value = MemoryContextAllocZero(cxt, sizeof(SetValue));

	EOH_init_header(&value->hdr, &set_methods, cxt);
	value->relid = relid;
	value->set_owner = store_owner_new(cxt, cseg_set_free);
	value->numbers_owner = store_owner_new(cxt, cseg_bytes_free);
	return value;
}

static SetValue *
own(SetValue *value, CsegSet *set)
{
	store_owner_set(value->set_owner, set);
	value->set = set;
	return value;
}

SetValue *
set_new(Oid relid, MemoryContext parent)
{
	SetValue *value = new_value(relid, parent);
	CsegSet *set;

	CSEG_CALL(NULL, cseg_set_new(&set, &err));
	return own(value, set);
}

SetValue *
set_copy(const SetValue *from, MemoryContext parent)
{
	SetValue *value = new_value(from->relid, parent);
	CsegSet *set;

	read_pending(unconstify(SetValue *, from));
	value->generation = from->generation;
	CSEG_CALL(NULL, cseg_set_copy(&set, from->set, &err));
	return own(value, set);
}

/* ---- from and to data ------------------------------------------------------------------------------------------- */

SetValue *
set_from_numbers(Oid relid, uint32 generation, const uint8 *bytes, size_t len, uint32 limit, MemoryContext parent,
				 CsegError *err)
{
	SetValue *value = new_value(relid, parent);
	CsegSet *set;

	value->generation = generation;
	if (cseg_set_from_roaring(&set, bytes, len, limit, err) == CSEG_OK)
		return own(value, set);
	if (err->code != CSEG_CORRUPT)
		store_core_error(err, NULL);
	return NULL;
}

static SetValue *
load_ordinals(const SetHeader *header, MemoryContext parent)
{
	CsegError err;
	SetValue *value = set_from_numbers(header->relid, header->generation, set_payload(header), set_payload_len(header),
									   CSEG_MAX_ORDINAL + 1, parent, &err);

	if (value == NULL)
		corrupt(err.msg);
	return value;
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
load_names(const SetHeader *header, MemoryContext parent)
{
	SetValue *value = set_new(header->relid, parent);
	Lookup l = {.set = value->set};

	set_open_table(&l.table, header->relid);
	value->generation = l.table.reader->view->generation;
	set_each_name(header, look_up, &l);
	answers_close(&l.table);
	return value;
}

static SetValue *
load(Datum datum, MemoryContext parent)
{
	const SetHeader *header = set_header(datum);
	SetValue *value = header->form == SET_ORDINALS ? load_ordinals(header, parent) : load_names(header, parent);

	if (DatumGetPointer(datum) != (Pointer) header)
		pfree(unconstify(SetHeader *, header));
	return value;
}

const SetValue *
set_get_unread(Datum datum)
{
	return set_is_expanded(datum) ? expanded(datum) : load(datum, CurrentMemoryContext);
}

const SetValue *
set_get(Datum datum)
{
	const SetValue *value = set_get_unread(datum);

	read_pending(unconstify(SetValue *, value));
	return value;
}

/* The result of a function that the call itself holds: nobody else has it. */
static bool
is_result_of_call(FunctionCallInfo fcinfo, int arg)
{
	Node *call = fcinfo->flinfo ? fcinfo->flinfo->fn_expr : NULL;
	List *args = NIL;
	Node *node;

	if (call && IsA(call, FuncExpr))
		args = ((FuncExpr *) call)->args;
	else if (call && IsA(call, OpExpr))
		args = ((OpExpr *) call)->args;
	if (arg >= list_length(args))
		return false;
	node = list_nth(args, arg);
	return IsA(node, FuncExpr) || IsA(node, OpExpr);
}

/*
 * Sets are handed on read-only, and what may be changed is seen in the expression. PostgreSQL takes an object that is
 * handed on for writing for the only reference to it, but evaluates the parameters of EXECUTE to such ones, and uses
 * each as often as the statement names it.
 */
SetValue *
set_take(FunctionCallInfo fcinfo, int arg)
{
	Datum datum = fcinfo->args[arg].value;
	SetValue *value;

	if (!set_is_expanded(datum))
		return load(datum, CurrentMemoryContext);
	value = expanded(datum);
	if (!is_result_of_call(fcinfo, arg))
		return set_copy(value, CurrentMemoryContext);
	read_pending(value);
	return value;
}

SetValue *
set_load(Datum datum)
{
	return load(datum, CurrentMemoryContext);
}

Datum
set_give(SetValue *value)
{
	read_pending(value);
	return set_show(value);
}

Datum
set_show(const SetValue *value)
{
	return EOHPGetRODatum(&value->hdr);
}

Datum
set_store(const SetValue *value)
{
	ExpandedObjectHeader *header = unconstify(ExpandedObjectHeader *, &value->hdr);
	Size size = EOH_get_flat_size(header);
	void *result = palloc(size);

	EOH_flatten_into(header, result, size);
	return PointerGetDatum(result);
}

/* Checks all of it as well. */
static uint64
stored_count(const SetHeader *header)
{
	uint64 count;
	CsegError err;

	if (cseg_roaring_count(set_payload(header), set_payload_len(header), CSEG_MAX_ORDINAL + 1, &count, &err) == CSEG_OK)
		return count;
	if (err.code == CSEG_CORRUPT)
		corrupt(err.msg);
	store_core_error(&err, NULL);
	pg_unreachable();
}

uint64
set_count(Datum datum)
{
	if (!set_is_expanded(datum))
	{
		const SetHeader *header = set_header(datum);

		if (header->form == SET_ORDINALS)
			return stored_count(header);
	}
	return cseg_set_count(set_get(datum)->set);
}

/*
 * What a call remembers of the last stored set, since a query asks one set about many customers: that it has checked it
 * (at its address another one may lie by now: that is read safely too), and the copy of one that was out of line. A
 * statement sees the row that this belongs to, so nobody else's set gets the value's number meanwhile.
 */
typedef struct Last
{
	const SetHeader *checked;
	Size size;
	struct varatt_external pointer;
	const SetHeader *copy;
} Last;

static Last *
last_of(FmgrInfo *call)
{
	if (call->fn_extra == NULL)
		call->fn_extra = MemoryContextAllocZero(call->fn_mcxt, sizeof(Last));
	return call->fn_extra;
}

const SetHeader *
set_header_once(FmgrInfo *call, Datum datum)
{
	struct varatt_external pointer;
	MemoryContext old;
	Last *last;

	if (!VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(datum)))
		return set_header(datum);
	VARATT_EXTERNAL_GET_POINTER(pointer, DatumGetPointer(datum));
	last = last_of(call);
	if (last->copy && memcmp(&last->pointer, &pointer, sizeof(pointer)) == 0)
		return last->copy;
	if (last->copy)
		pfree(unconstify(SetHeader *, last->copy));
	*last = (Last){0};
	old = MemoryContextSwitchTo(call->fn_mcxt);
	last->copy = set_header(datum);
	last->pointer = pointer;
	MemoryContextSwitchTo(old);
	return last->copy;
}

static void
check_once(FmgrInfo *call, const SetHeader *header)
{
	Last *last = last_of(call);

	if (last->checked == header && last->size == VARSIZE(header))
		return;
	last->checked = NULL;
	(void) stored_count(header);
	last->checked = header;
	last->size = VARSIZE(header);
}

bool
set_stored_has(FmgrInfo *call, const SetHeader *header, uint32 ordinal)
{
	CsegError err;
	bool found;

	check_once(call, header);
	if (cseg_roaring_contains(set_payload(header), set_payload_len(header), ordinal, &found, &err) != CSEG_OK)
		corrupt(err.msg);
	return found;
}

const uint8 *
set_numbers(Datum datum, size_t *len)
{
	SetValue *value;

	if (!set_is_expanded(datum))
	{
		const SetHeader *header = set_header(datum);

		if (header->form == SET_ORDINALS)
		{
			(void) stored_count(header);
			*len = set_payload_len(header);
			return set_payload(header);
		}
	}
	value = unconstify(SetValue *, set_get(datum));
	make_numbers(value);
	*len = value->numbers_len;
	return value->numbers;
}

/* ---- the algebra ------------------------------------------------------------------------------------------------ */

/* a takes the generation of b where it has nobody. */
static void
meet(SetValue *a, const SetValue *b)
{
	set_check_same(a, b);
	if (set_is_empty(a))
		a->generation = b->generation;
}

void
set_apply(SetValue *a, CsegSetOp op, const SetValue *b)
{
	meet(a, b);
	read_pending(a);
	read_pending(unconstify(SetValue *, b));
	CSEG_CALL(NULL, cseg_set_apply(a->set, op, b->set, &err));
	changed(a);
}

void
set_unite(SetValue *a, const SetValue *b)
{
	uint32 container = 0;

	meet(a, b);
	if (is_unread(b))
	{
		if (is_unread(a) && a->pending->view != b->pending->view)
			read_pending(a);
		start_pending(a, b->pending->view, b->pending->file);
		for (int i = 0; i < b->pending->n; i++)
			add_place(a->pending, b->pending->places[i]);
	}
	if (cseg_set_from(b->set, &container))
		CSEG_CALL(NULL, cseg_set_apply(a->set, CSEG_SET_OR, b->set, &err));
	changed(a);
}
