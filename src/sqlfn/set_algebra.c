/*
 * set_algebra.c
 *    Operators and aggregates of customer_set.
 */
#include "sqlfn/set.h"

#include "common/hashfn.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "sqlfn/answers.h"
#include "store/store.h"

PG_FUNCTION_INFO_V1(customer_segmentation_set_and);
PG_FUNCTION_INFO_V1(customer_segmentation_set_or);
PG_FUNCTION_INFO_V1(customer_segmentation_set_except);
PG_FUNCTION_INFO_V1(customer_segmentation_set_xor);
PG_FUNCTION_INFO_V1(customer_segmentation_set_equal);
PG_FUNCTION_INFO_V1(customer_segmentation_set_not_equal);
PG_FUNCTION_INFO_V1(customer_segmentation_set_hash);
PG_FUNCTION_INFO_V1(customer_segmentation_set_hash_extended);
PG_FUNCTION_INFO_V1(customer_segmentation_set_contains);
PG_FUNCTION_INFO_V1(customer_segmentation_set_contained);
PG_FUNCTION_INFO_V1(customer_segmentation_set_contains_identity);
PG_FUNCTION_INFO_V1(customer_segmentation_set_overlaps);
PG_FUNCTION_INFO_V1(customer_segmentation_set_cardinality);
PG_FUNCTION_INFO_V1(customer_segmentation_union_step);
PG_FUNCTION_INFO_V1(customer_segmentation_intersect_step);
PG_FUNCTION_INFO_V1(customer_segmentation_union_combine);
PG_FUNCTION_INFO_V1(customer_segmentation_intersect_combine);
PG_FUNCTION_INFO_V1(customer_segmentation_set_serialize);
PG_FUNCTION_INFO_V1(customer_segmentation_set_deserialize);
PG_FUNCTION_INFO_V1(customer_segmentation_set_final);

/* ---- two sets --------------------------------------------------------------------------------------------------- */

static Datum
apply(FunctionCallInfo fcinfo, CsegSetOp op)
{
	const SetValue *b = set_get(PG_GETARG_DATUM(1));
	SetValue *a = set_take(fcinfo, 0);

	set_apply(a, op, b);
	PG_RETURN_DATUM(set_give(a));
}

Datum
customer_segmentation_set_and(PG_FUNCTION_ARGS)
{
	return apply(fcinfo, CSEG_SET_AND);
}

Datum
customer_segmentation_set_or(PG_FUNCTION_ARGS)
{
	const SetValue *a = set_unread(PG_GETARG_DATUM(0));
	const SetValue *b = set_unread(PG_GETARG_DATUM(1));
	SetValue *both;

	if (a == NULL || b == NULL)
		return apply(fcinfo, CSEG_SET_OR);
	both = set_new(a->relid, CurrentMemoryContext);
	set_unite(both, a);
	set_unite(both, b);
	PG_RETURN_DATUM(set_show(both));
}

Datum
customer_segmentation_set_except(PG_FUNCTION_ARGS)
{
	return apply(fcinfo, CSEG_SET_ANDNOT);
}

Datum
customer_segmentation_set_xor(PG_FUNCTION_ARGS)
{
	return apply(fcinfo, CSEG_SET_XOR);
}

typedef bool (*Comparison)(const CsegSet *a, const CsegSet *b);

static bool
compare(Datum x, Datum y, Comparison comparison)
{
	const SetValue *a = set_get(x);
	const SetValue *b = set_get(y);

	set_check_same(a, b);
	return comparison(a->set, b->set);
}

Datum
customer_segmentation_set_equal(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1), cseg_set_equal));
}

Datum
customer_segmentation_set_not_equal(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(!compare(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1), cseg_set_equal));
}

Datum
customer_segmentation_set_contains(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1), cseg_set_includes));
}

Datum
customer_segmentation_set_contained(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare(PG_GETARG_DATUM(1), PG_GETARG_DATUM(0), cseg_set_includes));
}

Datum
customer_segmentation_set_overlaps(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1), cseg_set_overlaps));
}

/* ---- one set ---------------------------------------------------------------------------------------------------- */

Datum
customer_segmentation_set_hash(PG_FUNCTION_ARGS)
{
	size_t len;
	const uint8 *numbers = set_numbers(PG_GETARG_DATUM(0), &len);

	return hash_any(numbers, (int) len);
}

Datum
customer_segmentation_set_hash_extended(PG_FUNCTION_ARGS)
{
	size_t len;
	const uint8 *numbers = set_numbers(PG_GETARG_DATUM(0), &len);

	return hash_any_extended(numbers, (int) len, (uint64) PG_GETARG_INT64(1));
}

Datum
customer_segmentation_set_cardinality(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64((int64) set_count(PG_GETARG_DATUM(0)));
}

Datum
customer_segmentation_set_contains_identity(PG_FUNCTION_ARGS)
{
	Datum datum = PG_GETARG_DATUM(0);
	const text *identity = PG_GETARG_TEXT_PP(1);
	const SetHeader *header = set_is_expanded(datum) ? NULL : set_header_once(fcinfo->flinfo, datum);
	const SetValue *value = NULL;
	AnswerTable table;
	bool found;
	uint32 ordinal;

	/* A query asks this of many customers, so a stored set of millions is not made one in memory each time. */
	if (header == NULL || header->form != SET_ORDINALS)
		value = set_get_unread(datum);
	set_open_table(&table, value ? value->relid : header->relid);
	if (value == NULL && header->generation != table.reader->view->generation)
		value = set_get(datum);
	if (value)
		set_check_generation(value, table.reader->view->generation);
	CSEG_CALL(table.rel, cseg_dict_find(table.reader->dict->dict, (const uint8 *) VARDATA_ANY(identity),
										VARSIZE_ANY_EXHDR(identity), &found, &ordinal, &err));
	found = found && (value ? set_has(value, ordinal) : set_stored_has(fcinfo->flinfo, header, ordinal));
	answers_close(&table);
	PG_RETURN_BOOL(found);
}

/* ---- aggregates: the state is a SetValue in the aggregate's context --------------------------------------------- */

static MemoryContext
aggregate_context(FunctionCallInfo fcinfo)
{
	MemoryContext cxt;

	if (!AggCheckCallContext(fcinfo, &cxt))
		elog(ERROR, "called outside of an aggregate");
	return cxt;
}

/* state := state op value, or the value where there is no state yet. */
static SetValue *
add_to_state(FunctionCallInfo fcinfo, SetValue *state, const SetValue *value, CsegSetOp op)
{
	if (state == NULL)
	{
		state = set_new(value->relid, aggregate_context(fcinfo));
		op = CSEG_SET_OR;
	}
	if (op == CSEG_SET_OR)
		set_unite(state, value);
	else
		set_apply(state, op, value);
	return state;
}

static SetValue *
state_of(FunctionCallInfo fcinfo)
{
	(void) aggregate_context(fcinfo);
	return PG_ARGISNULL(0) ? NULL : (SetValue *) PG_GETARG_POINTER(0);
}

static Datum
give_state(FunctionCallInfo fcinfo, SetValue *state)
{
	if (state == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(state);
}

static Datum
step(FunctionCallInfo fcinfo, CsegSetOp op)
{
	SetValue *state = state_of(fcinfo);

	if (!PG_ARGISNULL(1))
		state = add_to_state(fcinfo, state, set_get_unread(PG_GETARG_DATUM(1)), op);
	return give_state(fcinfo, state);
}

Datum
customer_segmentation_union_step(PG_FUNCTION_ARGS)
{
	return step(fcinfo, CSEG_SET_OR);
}

Datum
customer_segmentation_intersect_step(PG_FUNCTION_ARGS)
{
	return step(fcinfo, CSEG_SET_AND);
}

static Datum
combine(FunctionCallInfo fcinfo, CsegSetOp op)
{
	SetValue *state = state_of(fcinfo);

	if (!PG_ARGISNULL(1))
		state = add_to_state(fcinfo, state, (const SetValue *) PG_GETARG_POINTER(1), op);
	return give_state(fcinfo, state);
}

Datum
customer_segmentation_union_combine(PG_FUNCTION_ARGS)
{
	return combine(fcinfo, CSEG_SET_OR);
}

Datum
customer_segmentation_intersect_combine(PG_FUNCTION_ARGS)
{
	return combine(fcinfo, CSEG_SET_AND);
}

Datum
customer_segmentation_set_serialize(PG_FUNCTION_ARGS)
{
	(void) aggregate_context(fcinfo);
	PG_RETURN_DATUM(set_store((const SetValue *) PG_GETARG_POINTER(0)));
}

Datum
customer_segmentation_set_deserialize(PG_FUNCTION_ARGS)
{
	(void) aggregate_context(fcinfo);
	PG_RETURN_POINTER(set_load(PG_GETARG_DATUM(0)));
}

/* Leaves the state as it is: as a window aggregate it is asked again and again. */
Datum
customer_segmentation_set_final(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(set_show((const SetValue *) PG_GETARG_POINTER(0)));
}
