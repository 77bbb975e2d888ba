/*
 * measure.c
 *    Between PostgreSQL's bigint and numeric and the core's values.
 *
 * Numeric's on-disk form (numeric.c calls it NumericData) is part of the on-disk compatibility that pg_upgrade relies
 * on, so it is read and written here directly; going through numeric_out would cost a hundred times as much per row.
 *
 *    short header  1 0 S D D D D D D W W W W W W W    S sign, D display scale, W signed weight
 *    long header   0 S D D D D D D D D D D D D D D    then int16 weight
 *    special       1 1 k k 0 ...                      NaN 0xC000, +Inf 0xD000, -Inf 0xF000
 *
 * followed by base-10000 digits without leading or trailing zeros. The value is
 * sum(digit[i] * 10000^(weight - i)).
 */
#include "am/am.h"

#include "common/int.h"

#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#define NUM_SPECIAL_MASK 0xC000
#define NUM_SPECIAL 0xC000
#define NUM_NAN 0xC000
#define NUM_PINF 0xD000
#define NUM_NINF 0xF000
#define NUM_SHORT 0x8000
#define NUM_SHORT_NEG 0x2000
#define NUM_SHORT_DSCALE_MASK 0x1F80
#define NUM_SHORT_DSCALE_SHIFT 7
#define NUM_SHORT_WEIGHT_SIGN 0x0040
#define NUM_SHORT_WEIGHT_MASK 0x003F
#define NUM_LONG_NEG 0x4000
#define NUM_LONG_DSCALE_MASK 0x3FFF
#define NUM_BASE 10000
#define NUM_DECIMALS_PER_DIGIT 4

typedef struct ParsedNumeric
{
	bool negative;
	int dscale;
	int weight;
	int ndigits;
	const char *digits; /* may be unaligned */
} ParsedNumeric;

const int64 am_powers_of_ten[CSEG_MAX_SCALE + 1] = {
	INT64CONST(1),
	INT64CONST(10),
	INT64CONST(100),
	INT64CONST(1000),
	INT64CONST(10000),
	INT64CONST(100000),
	INT64CONST(1000000),
	INT64CONST(10000000),
	INT64CONST(100000000),
	INT64CONST(1000000000),
	INT64CONST(10000000000),
	INT64CONST(100000000000),
	INT64CONST(1000000000000),
	INT64CONST(10000000000000),
	INT64CONST(100000000000000),
	INT64CONST(1000000000000000),
	INT64CONST(10000000000000000),
	INT64CONST(100000000000000000),
	INT64CONST(1000000000000000000),
};

static inline uint16
read_u16(const char *p)
{
	uint16 v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static bool
parse_finite(const char *p, int len, ParsedNumeric *n)
{
	uint16 h;

	if (len < 2)
		return false;
	h = read_u16(p);
	if (h & NUM_SHORT)
	{
		n->negative = (h & NUM_SHORT_NEG) != 0;
		n->dscale = (h & NUM_SHORT_DSCALE_MASK) >> NUM_SHORT_DSCALE_SHIFT;
		n->weight = (h & NUM_SHORT_WEIGHT_MASK) - (h & NUM_SHORT_WEIGHT_SIGN);
		n->digits = p + 2;
		n->ndigits = (len - 2) / 2;
		return true;
	}
	if (len < 4)
		return false;
	n->negative = (h & NUM_SPECIAL_MASK) == NUM_LONG_NEG;
	n->dscale = h & NUM_LONG_DSCALE_MASK;
	n->weight = (int16) read_u16(p + 2);
	n->digits = p + 4;
	n->ndigits = (len - 4) / 2;
	return true;
}

/* The mantissa in units of 10^-dscale, or false where it does not fit or is not what numeric.c would write. */
static bool
mantissa_of(const ParsedNumeric *n, int64 *mantissa)
{
	int64 acc = 0;
	int exponent;

	if (n->dscale > CSEG_MAX_SCALE)
		return false;
	if (n->ndigits == 0)
	{
		*mantissa = 0;
		return !n->negative && n->weight == 0;
	}
	if (n->ndigits > 5 + (CSEG_MAX_SCALE + NUM_DECIMALS_PER_DIGIT) / NUM_DECIMALS_PER_DIGIT)
		return false;
	for (int i = 0; i < n->ndigits; i++)
	{
		if (pg_mul_s64_overflow(acc, NUM_BASE, &acc) ||
			pg_add_s64_overflow(acc, (int64) read_u16(n->digits + 2 * i), &acc))
			return false;
	}
	exponent = NUM_DECIMALS_PER_DIGIT * (n->weight - n->ndigits + 1) + n->dscale;
	if (exponent < 0)
	{
		if (exponent < -CSEG_MAX_SCALE || acc % am_powers_of_ten[-exponent] != 0)
			return false;
		acc /= am_powers_of_ten[-exponent];
	}
	else if (exponent > 0)
	{
		if (exponent > CSEG_MAX_SCALE || pg_mul_s64_overflow(acc, am_powers_of_ten[exponent], &acc))
			return false;
	}
	*mantissa = n->negative ? -acc : acc;
	return true;
}

static void
value_from_numeric(Datum datum, CsegValue *out)
{
	struct varlena *v = am_plain_varlena(datum);
	const char *p = VARDATA_ANY(v);
	int len = (int) VARSIZE_ANY_EXHDR(v);
	uint16 h = len >= 2 ? read_u16(p) : NUM_NAN;
	ParsedNumeric n;

	if ((h & NUM_SPECIAL_MASK) == NUM_SPECIAL)
	{
		out->kind = h == NUM_PINF ? CSEG_PINF : h == NUM_NINF ? CSEG_NINF : CSEG_NAN;
		return;
	}
	if (parse_finite(p, len, &n) && mantissa_of(&n, &out->mantissa))
	{
		out->kind = CSEG_DECIMAL;
		out->scale = (uint8) n.dscale;
		return;
	}
	out->kind = CSEG_WIDE;
	out->wide = (const uint8_t *) p;
	out->wide_len = (uint32_t) len;
}

void
am_measure_from_datum(int measure, Datum value, bool isnull, CsegValue *out)
{
	memset(out, 0, sizeof(*out));
	if (isnull)
		return;
	if (measure == CSEG_M_REVENUE)
	{
		value_from_numeric(value, out);
		return;
	}
	out->kind = CSEG_DECIMAL;
	out->mantissa = DatumGetInt64(value);
}

/* ---- back ------------------------------------------------------------------------------------------------------ */

static void
special_numeric(uint16 header, char *dst)
{
	SET_VARSIZE(dst, VARHDRSZ + 2);
	memcpy(dst + VARHDRSZ, &header, 2);
}

void
am_numeric_from_value(const CsegValue *v, void *dst)
{
	char *out = dst;
	uint64 abs;
	uint64 whole;
	uint64 fraction;
	int n_fraction;
	int weight;
	int first = 0;
	int last;
	uint16 digits[12];
	int n = 0;
	uint16 header;

	if (v->kind != CSEG_DECIMAL)
	{
		special_numeric(v->kind == CSEG_PINF ? NUM_PINF : v->kind == CSEG_NINF ? NUM_NINF : NUM_NAN, out);
		return;
	}
	abs = v->mantissa < 0 ? -(uint64) v->mantissa : (uint64) v->mantissa;
	whole = abs / (uint64) am_powers_of_ten[v->scale];
	fraction = abs % (uint64) am_powers_of_ten[v->scale];
	n_fraction = (v->scale + NUM_DECIMALS_PER_DIGIT - 1) / NUM_DECIMALS_PER_DIGIT;

	/* Up to five digits before the point, filled from the right. */
	{
		uint16 before[5];
		int n_before = 0;

		for (; whole > 0; whole /= NUM_BASE)
			before[n_before++] = (uint16) (whole % NUM_BASE);
		weight = n_before - 1;
		while (n_before > 0)
			digits[n++] = before[--n_before];
	}
	/* The digits after it, the last one padded with decimal zeros. */
	{
		int pad = n_fraction * NUM_DECIMALS_PER_DIGIT - v->scale;
		uint64 rest = fraction;

		for (int i = n_fraction - 1; i >= 0; i--)
		{
			int decimals = i == n_fraction - 1 ? NUM_DECIMALS_PER_DIGIT - pad : NUM_DECIMALS_PER_DIGIT;
			uint64 base = (uint64) am_powers_of_ten[decimals];

			digits[n + i] = (uint16) (rest % base * (uint64) am_powers_of_ten[NUM_DECIMALS_PER_DIGIT - decimals]);
			rest /= base;
		}
		n += n_fraction;
	}
	last = n;
	while (first < last && digits[first] == 0)
	{
		first++;
		weight--;
	}
	while (last > first && digits[last - 1] == 0)
		last--;
	if (first == last)
		weight = 0;

	header = (uint16) (NUM_SHORT | (v->mantissa < 0 ? NUM_SHORT_NEG : 0) | (v->scale << NUM_SHORT_DSCALE_SHIFT) |
					   (weight < 0 ? NUM_SHORT_WEIGHT_SIGN : 0) | (weight & NUM_SHORT_WEIGHT_MASK));
	SET_VARSIZE(out, VARHDRSZ + 2 + 2 * (last - first));
	memcpy(out + VARHDRSZ, &header, 2);
	memcpy(out + VARHDRSZ + 2, digits + first, 2 * (last - first));
}

/* Digits of a 128-bit number, a sign and a point. */
#define INT128_CHARS 48

Numeric
am_numeric_from_int128(int128 value, int scale)
{
	char chars[INT128_CHARS];
	char *at = chars + sizeof(chars);
	unsigned __int128 abs = value < 0 ? -(unsigned __int128) value : (unsigned __int128) value;
	int n = 0;

	if (value >= PG_INT64_MIN && value <= PG_INT64_MAX)
	{
		CsegValue small = {.mantissa = (int64) value, .kind = CSEG_DECIMAL, .scale = (uint8) scale};
		char *numeric = palloc(AM_NUMERIC_BYTES);

		am_numeric_from_value(&small, numeric);
		return (Numeric) numeric;
	}
	*--at = '\0';
	while (abs > 0 || n <= scale)
	{
		if (n == scale && scale > 0)
			*--at = '.';
		*--at = (char) ('0' + (int) (abs % 10));
		abs /= 10;
		n++;
	}
	if (value < 0)
		*--at = '-';
	return DatumGetNumeric(
		DirectFunctionCall3(numeric_in, CStringGetDatum(at), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

Datum
am_measure_to_datum(int measure, const CsegValue *v, bool *isnull)
{
	char *numeric;

	*isnull = v->kind == CSEG_NULL;
	if (*isnull)
		return (Datum) 0;
	if (measure != CSEG_M_REVENUE)
		return Int64GetDatum(v->mantissa);
	if (v->kind != CSEG_WIDE)
	{
		numeric = palloc(AM_NUMERIC_BYTES);
		am_numeric_from_value(v, numeric);
		return PointerGetDatum(numeric);
	}
	numeric = palloc(VARHDRSZ + v->wide_len);
	SET_VARSIZE(numeric, VARHDRSZ + v->wide_len);
	memcpy(numeric + VARHDRSZ, v->wide, v->wide_len);
	return PointerGetDatum(numeric);
}

/* Is this what am_measure_from_datum can have made? Wide bytes from elsewhere are not to be trusted. */
bool
am_value_is_sound(int measure, const CsegValue *v)
{
	ParsedNumeric n;

	if (measure != CSEG_M_REVENUE)
		return v->kind == CSEG_NULL || (v->kind == CSEG_DECIMAL && v->scale == 0);
	if (v->kind != CSEG_WIDE)
		return true;
	if (v->wide_len < 2 || v->wide_len % 2 != 0 || v->wide_len > MaxAllocSize / 2 ||
		(read_u16((const char *) v->wide) & NUM_SPECIAL_MASK) == NUM_SPECIAL ||
		!parse_finite((const char *) v->wide, (int) v->wide_len, &n))
		return false;
	for (int i = 0; i < n.ndigits; i++)
	{
		uint16 digit = read_u16(n.digits + 2 * i);

		if (digit >= NUM_BASE || (digit == 0 && (i == 0 || i == n.ndigits - 1)))
			return false;
	}
	return n.ndigits > 0 || (!n.negative && n.weight == 0);
}

bool
am_value_equal(const CsegValue *a, const CsegValue *b)
{
	if (a->kind != b->kind || a->scale != b->scale)
		return false;
	if (a->kind == CSEG_WIDE)
		return a->wide_len == b->wide_len && memcmp(a->wide, b->wide, a->wide_len) == 0;
	return a->kind != CSEG_DECIMAL || a->mantissa == b->mantissa;
}
