/*
 * agg_transport.c
 *    Groups on their way from the node that reads to the node that merges: of a partition, or from one process of a
 *    query to another.
 *
 * A group travels as one value of type bytea, which never leaves the server: the grouping set, the keys, then what is
 * kept by view, by sum and by call, all of it as it lies in memory. Both ends number these in the same way, since they
 * analyze the same calls.
 */
#include "plan/agg_state.h"

#include "lib/stringinfo.h"
#include "utils/datum.h"

/* ---- bytes ------------------------------------------------------------------------------------------------------- */

static void
put_bytes(StringInfo buf, const void *bytes, Size len)
{
	appendBinaryStringInfo(buf, (const char *) bytes, (int) len);
}

static void
put_datum(StringInfo buf, Datum value, bool isnull, bool typbyval, int16 typlen)
{
	Size len = datumEstimateSpace(value, isnull, typbyval, typlen);
	char *at;

	enlargeStringInfo(buf, (int) len);
	at = buf->data + buf->len;
	datumSerialize(value, isnull, typbyval, typlen, &at);
	buf->len += (int) len;
	buf->data[buf->len] = '\0';
}

static void
put_numeric(StringInfo buf, Numeric n)
{
	put_datum(buf, NumericGetDatum(n), n == NULL, false, -1);
}

/* What is left of a group's bytes. */
typedef struct Source
{
	const char *at;
	const char *end;
} Source;

static void
take_bytes(Source *from, void *bytes, Size len)
{
	if ((Size) (from->end - from->at) < len)
		elog(ERROR, "customer_segmentation aggregate got a group that is cut off");
	memcpy(bytes, from->at, len);
	from->at += len;
}

static Datum
take_datum(Source *from, bool *isnull)
{
	char *at = unconstify(char *, from->at);
	Datum value = datumRestore(&at, isnull);

	from->at = at;
	return value;
}

static Numeric
take_numeric(Source *from)
{
	bool isnull;
	Datum value = take_datum(from, &isnull);

	return isnull ? NULL : DatumGetNumeric(value);
}

/* ---- groups ------------------------------------------------------------------------------------------------------ */

static void
put_sum(StringInfo buf, const AggSum *sum)
{
	put_bytes(buf, sum, sizeof(AggSum));
	put_numeric(buf, sum->spill);
	put_numeric(buf, sum->wide_min);
	put_numeric(buf, sum->wide_max);
}

static void
take_sum(Source *from, AggSum *sum)
{
	take_bytes(from, sum, sizeof(AggSum));
	sum->spill = take_numeric(from);
	sum->wide_min = take_numeric(from);
	sum->wide_max = take_numeric(from);
}

static void
put_call(StringInfo buf, const Call *c, const AggGroup *group, int i)
{
	const Pick *pick = &group->picks[i];

	put_bytes(buf, &group->counts[i], sizeof(int64));
	if (c->call.kind == AGG_PICK)
		put_datum(buf, pick->value, !pick->found, c->typbyval, c->typlen);
	for (AggEntry *value = group->values[i]; value; value = *(AggEntry **) agg_payload(value))
		put_datum(buf, value->keys[0], false, c->typbyval, c->typlen);
}

static void
take_call(AggregateState *state, Source *from, AggGroup *group, int i)
{
	Call *c = &state->calls[i];
	int64 count;
	bool isnull;
	Datum value;

	take_bytes(from, &count, sizeof(int64));
	if (c->call.kind == AGG_PICK)
	{
		value = take_datum(from, &isnull);
		if (!isnull)
			agg_pick_argument(state, c, &group->picks[i], value);
	}
	if (c->call.kind != AGG_DISTINCT_ARG)
	{
		group->counts[i] += count;
		return;
	}
	for (int64 k = 0; k < count; k++)
	{
		value = take_datum(from, &isnull);
		agg_note_distinct(state, i, group, value);
	}
}

void
agg_pack_group(AggregateState *state, AggEntry *entry, StringInfo buf)
{
	const AggGroup *group = agg_payload(entry);

	put_bytes(buf, &entry->space, sizeof(entry->space));
	for (int i = 0; i < state->layout.n_keys; i++)
		put_datum(buf, entry->keys[i], entry->nulls[i], state->groups->typbyval[i], state->groups->typlen[i]);
	put_bytes(buf, group->rows, sizeof(int64) * state->n_views);
	for (int i = 0; i < state->n_sums; i++)
		put_sum(buf, &group->sums[i]);
	for (int i = 0; i < state->layout.n_calls; i++)
		put_call(buf, &state->calls[i], group, i);
}

static AggGroup *
take_group(AggregateState *state, Source *from)
{
	int n = Max(state->layout.n_keys, 1);
	Datum *keys = palloc(sizeof(Datum) * n);
	bool *nulls = palloc(sizeof(bool) * n);
	int32 space;

	take_bytes(from, &space, sizeof(space));
	for (int i = 0; i < state->layout.n_keys; i++)
		keys[i] = take_datum(from, &nulls[i]);
	return agg_payload(agg_find_group(state, space, keys, nulls));
}

void
agg_unpack_group(AggregateState *state, const char *data, Size len)
{
	Source from = {.at = data, .end = data + len};
	AggGroup *group = take_group(state, &from);

	for (int v = 0; v < state->n_views; v++)
	{
		int64 rows;

		take_bytes(&from, &rows, sizeof(rows));
		group->rows[v] += rows;
	}
	for (int i = 0; i < state->n_sums; i++)
	{
		AggSum sum;

		take_sum(&from, &sum);
		agg_sum_add_sum(&group->sums[i], state->run_cxt, &sum);
	}
	for (int i = 0; i < state->layout.n_calls; i++)
		take_call(state, &from, group, i);
	if (from.at != from.end)
		elog(ERROR, "customer_segmentation aggregate got a group of another query");
}
