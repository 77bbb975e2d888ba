/*
 * agg_groups.c
 *    Groups found by their keys, and sums with the results that PostgreSQL's aggregates would give.
 */
#include "plan/agg.h"

#include "common/hashfn.h"
#include "common/int128.h"
#include "catalog/pg_type.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

/* ---- groups ----------------------------------------------------------------------------------------------------- */

#define FIRST_BUCKETS 64

AggTable *
agg_table_new(MemoryContext cxt, int n_keys, const Oid *equal_ops, const Oid *collations, const Oid *types,
			  Size payload)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	AggTable *table = palloc0(sizeof(AggTable));
	int n = Max(n_keys, 1);

	table->n_keys = n_keys;
	table->payload = payload;
	table->hash = palloc0(sizeof(FmgrInfo) * n);
	table->equal = palloc0(sizeof(FmgrInfo) * n);
	table->collation = palloc0(sizeof(Oid) * n);
	table->typlen = palloc0(sizeof(int16) * n);
	table->typbyval = palloc0(sizeof(bool) * n);
	for (int i = 0; i < n_keys; i++)
	{
		Oid left;
		Oid right;

		if (!get_op_hash_functions(equal_ops[i], &left, &right))
			elog(ERROR, "could not find hash function for hash operator %u", equal_ops[i]);
		fmgr_info(left, &table->hash[i]);
		fmgr_info(get_opcode(equal_ops[i]), &table->equal[i]);
		table->collation[i] = collations[i];
		get_typlenbyval(types[i], &table->typlen[i], &table->typbyval[i]);
	}
	MemoryContextSwitchTo(old);
	return table;
}

void
agg_table_reset(AggTable *table, MemoryContext cxt)
{
	table->cxt = cxt;
	table->n_buckets = FIRST_BUCKETS;
	table->buckets = MemoryContextAllocZero(cxt, sizeof(AggEntry *) * FIRST_BUCKETS);
	table->n_entries = 0;
	table->cap_entries = FIRST_BUCKETS;
	table->entries = MemoryContextAlloc(cxt, sizeof(AggEntry *) * FIRST_BUCKETS);
}

static uint32
hash_keys(AggTable *table, int32 space, const Datum *keys, const bool *nulls)
{
	uint32 hash = (uint32) space;

	for (int i = 0; i < table->n_keys; i++)
	{
		uint32 one = nulls[i] ? 0 : DatumGetUInt32(FunctionCall1Coll(&table->hash[i], table->collation[i], keys[i]));

		hash = hash_combine(hash, one);
	}
	return murmurhash32(hash);
}

static bool
same_keys(AggTable *table, const AggEntry *entry, const Datum *keys, const bool *nulls)
{
	for (int i = 0; i < table->n_keys; i++)
	{
		if (entry->nulls[i] != nulls[i])
			return false;
		if (!nulls[i] &&
			!DatumGetBool(FunctionCall2Coll(&table->equal[i], table->collation[i], entry->keys[i], keys[i])))
			return false;
	}
	return true;
}

static void
grow(AggTable *table)
{
	uint32 n = table->n_buckets * 2;
	AggEntry **buckets =
		MemoryContextAllocExtended(table->cxt, sizeof(AggEntry *) * n, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);

	for (int i = 0; i < table->n_entries; i++)
	{
		AggEntry *entry = table->entries[i];

		entry->next = buckets[entry->hash & (n - 1)];
		buckets[entry->hash & (n - 1)] = entry;
	}
	pfree(table->buckets);
	table->buckets = buckets;
	table->n_buckets = n;
}

static AggEntry *
add_entry(AggTable *table, uint32 hash, int32 space, const Datum *keys, const bool *nulls)
{
	MemoryContext old = MemoryContextSwitchTo(table->cxt);
	Size keys_at = MAXALIGN(sizeof(AggEntry)) + MAXALIGN(table->payload);
	Size nulls_at = keys_at + sizeof(Datum) * table->n_keys;
	AggEntry *entry = palloc0(nulls_at + sizeof(bool) * table->n_keys);

	entry->hash = hash;
	entry->space = space;
	entry->keys = (Datum *) ((char *) entry + keys_at);
	entry->nulls = (bool *) ((char *) entry + nulls_at);
	for (int i = 0; i < table->n_keys; i++)
	{
		entry->nulls[i] = nulls[i];
		entry->keys[i] = nulls[i] ? (Datum) 0 : datumCopy(keys[i], table->typbyval[i], table->typlen[i]);
	}
	if (table->n_entries == table->cap_entries)
	{
		table->cap_entries *= 2;
		table->entries = repalloc_huge(table->entries, sizeof(AggEntry *) * table->cap_entries);
	}
	table->entries[table->n_entries++] = entry;
	entry->next = table->buckets[hash & (table->n_buckets - 1)];
	table->buckets[hash & (table->n_buckets - 1)] = entry;
	MemoryContextSwitchTo(old);
	if ((uint32) table->n_entries > table->n_buckets)
		grow(table);
	return entry;
}

/* Hash and equality functions may leave memory behind in the current context. */
AggEntry *
agg_table_find(AggTable *table, int32 space, const Datum *keys, const bool *nulls, bool *isnew)
{
	uint32 hash = hash_keys(table, space, keys, nulls);

	*isnew = false;
	for (AggEntry *e = table->buckets[hash & (table->n_buckets - 1)]; e; e = e->next)
		if (e->hash == hash && e->space == space && same_keys(table, e, keys, nulls))
			return e;
	*isnew = true;
	return add_entry(table, hash, space, keys, nulls);
}

/* ---- sums ---------------------------------------------------------------------------------------------------------
 */

static Numeric
add_numerics(Numeric a, Numeric b)
{
	if (a == NULL)
		return b;
	return DatumGetNumeric(DirectFunctionCall2(numeric_add, NumericGetDatum(a), NumericGetDatum(b)));
}

static void
keep_numeric(Numeric *kept, MemoryContext cxt, Numeric n)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Numeric before = *kept;

	*kept = DatumGetNumeric(datumCopy(NumericGetDatum(n), false, -1));
	if (before)
		pfree(before);
	MemoryContextSwitchTo(old);
}

static void
spill(AggSum *sum, MemoryContext cxt, Numeric amount)
{
	keep_numeric(&sum->spill, cxt, add_numerics(sum->spill, amount));
}

static bool
rescale(int128 *sum, int from, int to)
{
	return !__builtin_mul_overflow(*sum, (int128) am_powers_of_ten[to - from], sum);
}

/* Adds in 128 bits, or puts aside what there is. */
static void
add_decimals(AggSum *sum, MemoryContext cxt, int128 amount, int scale)
{
	int to = Max(sum->scale, scale);
	int128 have = sum->sum;
	int128 more = amount;

	if (rescale(&have, sum->scale, to) && rescale(&more, scale, to) && !__builtin_add_overflow(have, more, &have))
		sum->sum = have;
	else
	{
		spill(sum, cxt, am_numeric_from_int128(sum->sum, sum->scale));
		spill(sum, cxt, am_numeric_from_int128(amount, scale));
		sum->sum = 0;
	}
	sum->scale = to;
}

/* Of equal numbers the one with more decimals goes first, so that nothing depends on the order in which they come. */
static bool
goes_before(int order, int scale, int other_scale)
{
	return order < 0 || (order == 0 && scale > other_scale);
}

static void
widen(AggSum *sum, const CsegValue *min, const CsegValue *max)
{
	if (min->kind != CSEG_DECIMAL)
		return;
	if (sum->min.kind == CSEG_NULL || goes_before(cseg_value_compare(min, &sum->min), min->scale, sum->min.scale))
		sum->min = *min;
	if (sum->max.kind == CSEG_NULL || goes_before(cseg_value_compare(&sum->max, max), max->scale, sum->max.scale))
		sum->max = *max;
}

/* The totals' sum is known, and no value is wide. */
void
agg_sum_add_totals(AggSum *sum, MemoryContext cxt, int64 rows, const CsegMeasureTotals *t)
{
	int64 finite = rows - t->nulls - t->nans - t->pinfs - t->ninfs;

	sum->finite += finite;
	sum->nans += t->nans;
	sum->pinfs += t->pinfs;
	sum->ninfs += t->ninfs;
	if (finite == 0)
		return;
	add_decimals(sum, cxt, (int128) (((unsigned __int128) (uint64) t->sum_hi << 64) | t->sum_lo), t->scale);
	widen(sum, &t->min, &t->max);
}

static int
compare_numerics(Numeric a, Numeric b)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a), NumericGetDatum(b)));
}

static int
scale_of(Numeric n)
{
	return DatumGetInt32(DirectFunctionCall1(numeric_scale, NumericGetDatum(n)));
}

static void
keep_extremes(AggSum *sum, MemoryContext cxt, Numeric least, Numeric greatest)
{
	if (sum->wide_min == NULL ||
		goes_before(compare_numerics(least, sum->wide_min), scale_of(least), scale_of(sum->wide_min)))
		keep_numeric(&sum->wide_min, cxt, least);
	if (sum->wide_max == NULL ||
		goes_before(compare_numerics(sum->wide_max, greatest), scale_of(greatest), scale_of(sum->wide_max)))
		keep_numeric(&sum->wide_max, cxt, greatest);
}

static void
add_wide(AggSum *sum, MemoryContext cxt, const CsegValue *v, int64 rows)
{
	bool isnull;
	Datum n = am_measure_to_datum(CSEG_M_REVENUE, v, &isnull);

	sum->finite += rows;
	keep_extremes(sum, cxt, DatumGetNumeric(n), DatumGetNumeric(n));
	if (rows > 1)
		n = DirectFunctionCall2(numeric_mul, n, NumericGetDatum(int64_to_numeric(rows)));
	spill(sum, cxt, DatumGetNumeric(n));
}

/* Of so many rows. */
void
agg_sum_add_value(AggSum *sum, MemoryContext cxt, const CsegValue *v, int64 rows)
{
	switch ((CsegValueKind) v->kind)
	{
	case CSEG_NULL:
		break;
	case CSEG_NAN:
		sum->nans += rows;
		break;
	case CSEG_PINF:
		sum->pinfs += rows;
		break;
	case CSEG_NINF:
		sum->ninfs += rows;
		break;
	case CSEG_DECIMAL:
		sum->finite += rows;
		add_decimals(sum, cxt, (int128) v->mantissa * rows, v->scale);
		widen(sum, v, v);
		break;
	case CSEG_WIDE:
		add_wide(sum, cxt, v, rows);
		break;
	}
}

void
agg_sum_add_sum(AggSum *sum, MemoryContext cxt, const AggSum *more)
{
	sum->finite += more->finite;
	sum->nans += more->nans;
	sum->pinfs += more->pinfs;
	sum->ninfs += more->ninfs;
	if (more->finite == 0)
		return;
	add_decimals(sum, cxt, more->sum, more->scale);
	if (more->spill)
		spill(sum, cxt, more->spill);
	widen(sum, &more->min, &more->max);
	if (more->wide_min)
		keep_extremes(sum, cxt, more->wide_min, more->wide_max);
}

/* ---- results -------------------------------------------------------------------------------------------------------
 */

static Numeric
special(uint8 kind)
{
	CsegValue v = {.kind = kind};
	bool isnull;

	return DatumGetNumeric(am_measure_to_datum(CSEG_M_REVENUE, &v, &isnull));
}

static int64
values_of(const AggSum *sum)
{
	return sum->finite + sum->nans + sum->pinfs + sum->ninfs;
}

/* NULL unless NaN or an infinity decides the result of sum and avg. */
static Numeric
special_sum(const AggSum *sum)
{
	if (sum->nans > 0 || (sum->pinfs > 0 && sum->ninfs > 0))
		return special(CSEG_NAN);
	if (sum->pinfs > 0)
		return special(CSEG_PINF);
	if (sum->ninfs > 0)
		return special(CSEG_NINF);
	return NULL;
}

static Numeric
finite_sum(const AggSum *sum)
{
	Numeric all = am_numeric_from_int128(sum->sum, sum->scale);

	if (sum->spill)
		all = add_numerics(sum->spill, all);
	return all;
}

static Numeric
sum_result(const AggSum *sum, bool average)
{
	Numeric all = special_sum(sum);

	if (all)
		return all;
	all = finite_sum(sum);
	if (average)
		all = DatumGetNumeric(
			DirectFunctionCall2(numeric_div, NumericGetDatum(all), NumericGetDatum(int64_to_numeric(sum->finite))));
	return all;
}

static Numeric
lesser(Numeric a, Numeric b, bool greater)
{
	int order;

	if (a == NULL || b == NULL)
		return a ? a : b;
	order = compare_numerics(a, b);
	return (greater ? order > 0 : order < 0) ? a : b;
}

static Datum
extreme_result(const AggSum *sum, const AggCall *call)
{
	bool greatest = call->kind == AGG_MAX;
	const CsegValue *v = greatest ? &sum->max : &sum->min;
	Numeric decimal = NULL;
	bool isnull;

	if (greatest && sum->nans > 0)
		return NumericGetDatum(special(CSEG_NAN));
	if (greatest && sum->pinfs > 0)
		return NumericGetDatum(special(CSEG_PINF));
	if (!greatest && sum->ninfs > 0)
		return NumericGetDatum(special(CSEG_NINF));
	if (sum->finite == 0)
	{
		if (greatest)
			return NumericGetDatum(special(CSEG_NINF));
		return NumericGetDatum(special(sum->pinfs > 0 ? CSEG_PINF : CSEG_NAN));
	}
	if (call->value_type == INT4OID)
		return Int32GetDatum((int32) v->mantissa);
	if (!call->numeric)
		return Int64GetDatum(v->mantissa);
	if (v->kind == CSEG_DECIMAL)
		decimal = DatumGetNumeric(am_measure_to_datum(CSEG_M_REVENUE, v, &isnull));
	return NumericGetDatum(lesser(decimal, greatest ? sum->wide_max : sum->wide_min, greatest));
}

Datum
agg_sum_result(const AggSum *sum, const AggCall *call, bool *isnull)
{
	*isnull = false;
	if (call->kind == AGG_COUNT_MEASURE)
		return Int64GetDatum(values_of(sum));
	*isnull = values_of(sum) == 0;
	if (*isnull)
		return (Datum) 0;
	/* As wide as the server's own. */
	if (call->kind == AGG_SUM && call->value_type == INT4OID)
		return Int64GetDatum((int64) sum->sum);
	if (call->kind == AGG_SUM || call->kind == AGG_AVG)
		return NumericGetDatum(sum_result(sum, call->kind == AGG_AVG));
	return extreme_result(sum, call);
}
