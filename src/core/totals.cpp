// totals.cpp
//    Totals of an instance: exact sums and counts, least and greatest values, and their serialized form.
//
//    rows            svarint
//    per measure:
//      head          1 byte: bits 0..1 CSEG_T_*, bit 2 min and max follow, bits 3..7 which counts follow
//      scale         1 byte
//      sum           128-bit zigzag varint (absent with CSEG_T_OVERFLOW)
//      counts        svarint each: nulls, nans, pinfs, ninfs, wides, as far as head says so
//      min, max      scale byte and svarint mantissa each, where head says so
#include "totals.hpp"

#include "guard.hpp"

namespace cseg {
namespace {

constexpr uint8_t kHeadExtremes = 4;
constexpr unsigned kHeadCountsShift = 3;
constexpr unsigned kCounts = 5;
constexpr unsigned kSumMaxShift = 126; // 19 bytes of 7 bits

Int128 get_sum(const CsegMeasureTotals &m) {
	return static_cast<Int128>(static_cast<Uint128>(static_cast<uint64_t>(m.sum_hi)) << 64 | m.sum_lo);
}

void set_sum(CsegMeasureTotals &m, Int128 sum) {
	m.sum_lo = static_cast<uint64_t>(sum);
	m.sum_hi = static_cast<int64_t>(sum >> 64);
}

void set_overflow(CsegMeasureTotals &m) {
	m.flags |= CSEG_T_OVERFLOW;
	set_sum(m, 0);
}

bool rescale(Int128 *sum, unsigned scale, unsigned to) {
	return !__builtin_mul_overflow(*sum, static_cast<Int128>(kPow10[to - scale]), sum);
}

void raise_scale(CsegMeasureTotals &m, uint8_t scale) {
	if (scale <= m.scale)
		return;
	Int128 sum = get_sum(m);
	if (rescale(&sum, m.scale, scale))
		set_sum(m, sum);
	else
		set_overflow(m);
	m.scale = scale;
}

void add_to_sum(CsegMeasureTotals &m, Int128 amount) {
	if (m.flags & CSEG_T_OVERFLOW)
		return;
	Int128 sum = get_sum(m);
	if (__builtin_add_overflow(sum, amount, &sum))
		set_overflow(m);
	else
		set_sum(m, sum);
}

bool same_number(const CsegValue &a, const CsegValue &b) {
	return a.kind == b.kind && (a.kind != CSEG_DECIMAL || (!decimal_less(a, b) && !decimal_less(b, a)));
}

void widen(CsegMeasureTotals &m, const CsegValue &min, const CsegValue &max) {
	if (m.min.kind == CSEG_NULL || decimal_less(min, m.min))
		m.min = min;
	if (m.max.kind == CSEG_NULL || decimal_less(m.max, max))
		m.max = max;
}

int64_t *count_of(CsegMeasureTotals &m, uint8_t kind) {
	switch (kind) {
	case CSEG_NULL:
		return &m.nulls;
	case CSEG_NAN:
		return &m.nans;
	case CSEG_PINF:
		return &m.pinfs;
	case CSEG_NINF:
		return &m.ninfs;
	default:
		return &m.wides;
	}
}

void bump(int64_t *count, int64_t by) {
	*count = static_cast<int64_t>(static_cast<uint64_t>(*count) + static_cast<uint64_t>(by));
}

void add_measure(CsegMeasureTotals &dst, const CsegMeasureTotals &change) {
	raise_scale(dst, change.scale);
	Int128 amount = get_sum(change);
	if ((change.flags & CSEG_T_OVERFLOW) || !rescale(&amount, change.scale, dst.scale))
		set_overflow(dst);
	else
		add_to_sum(dst, amount);
	bump(&dst.nulls, change.nulls);
	bump(&dst.nans, change.nans);
	bump(&dst.pinfs, change.pinfs);
	bump(&dst.ninfs, change.ninfs);
	bump(&dst.wides, change.wides);
	if (change.min.kind == CSEG_DECIMAL)
		widen(dst, change.min, change.max);
	dst.flags |= change.flags;
}

bool same_counts(const CsegMeasureTotals &a, const CsegMeasureTotals &b) {
	return a.nulls == b.nulls && a.nans == b.nans && a.pinfs == b.pinfs && a.ninfs == b.ninfs && a.wides == b.wides;
}

// An unknown sum (either overflowed: whether it does depends on the order of the rows) contradicts nothing.
bool same_sum(const CsegMeasureTotals &a, const CsegMeasureTotals &b) {
	if ((a.flags | b.flags) & CSEG_T_OVERFLOW)
		return true;
	const uint8_t to = std::max(a.scale, b.scale);
	Int128 x = get_sum(a);
	Int128 y = get_sum(b);
	return rescale(&x, a.scale, to) && rescale(&y, b.scale, to) && x == y;
}

bool bounds_hold(const CsegMeasureTotals &stored, const CsegMeasureTotals &actual) {
	if (!(stored.flags & CSEG_T_BOUNDS))
		return stored.scale == actual.scale && same_number(stored.min, actual.min) &&
			   same_number(stored.max, actual.max);
	if (stored.scale < actual.scale)
		return false;
	if (actual.min.kind != CSEG_DECIMAL)
		return true;
	return stored.min.kind == CSEG_DECIMAL && !decimal_less(actual.min, stored.min) &&
		   !decimal_less(stored.max, actual.max);
}

// Writes into the caller's buffer, which is large enough for any totals: encode can't fail, so it can't allocate.
class Sink {
public:
	explicit Sink(uint8_t *to) : at(to) {}
	void u8(unsigned v) { *at++ = static_cast<uint8_t>(v); }
	void varint(Uint128 v) {
		for (; v >= 0x80; v >>= 7)
			u8(static_cast<unsigned>(v & 0x7F) | 0x80);
		u8(static_cast<unsigned>(v));
	}
	void svarint(int64_t v) { varint(zigzag(v)); }
	uint8_t *at;
};

void write_sum(Sink &w, Int128 sum) {
	w.varint(static_cast<Uint128>(sum) << 1 ^ static_cast<Uint128>(sum >> 127));
}

Int128 read_sum(Reader &r) {
	Uint128 v = 0;
	for (unsigned shift = 0;; shift += 7) {
		const uint8_t b = r.u8();
		if (shift == kSumMaxShift && b > 3)
			throw Corrupt("sum is too long");
		v |= static_cast<Uint128>(b & 0x7F) << shift;
		if (b < 0x80)
			return static_cast<Int128>(v >> 1 ^ (~(v & 1) + 1));
	}
}

void write_extreme(Sink &w, const CsegValue &v) {
	w.u8(v.scale);
	w.svarint(v.mantissa);
}

uint8_t read_scale(Reader &r) {
	const uint8_t scale = r.u8();
	if (scale > CSEG_MAX_SCALE)
		throw Corrupt("scale of totals is out of range");
	return scale;
}

CsegValue read_extreme(Reader &r) {
	CsegValue v{};
	v.kind = CSEG_DECIMAL;
	v.scale = read_scale(r);
	v.mantissa = r.svarint();
	return v;
}

void write_measure(Sink &w, const CsegMeasureTotals &m) {
	const int64_t counts[kCounts] = {m.nulls, m.nans, m.pinfs, m.ninfs, m.wides};
	unsigned head = m.flags;
	if (m.min.kind == CSEG_DECIMAL)
		head |= kHeadExtremes;
	for (unsigned i = 0; i < kCounts; i++)
		if (counts[i] != 0)
			head |= 1u << (kHeadCountsShift + i);
	w.u8(head);
	w.u8(m.scale);
	if (!(m.flags & CSEG_T_OVERFLOW))
		write_sum(w, get_sum(m));
	for (const int64_t count : counts)
		if (count != 0)
			w.svarint(count);
	if (head & kHeadExtremes) {
		write_extreme(w, m.min);
		write_extreme(w, m.max);
	}
}

void read_measure(Reader &r, CsegMeasureTotals &m) {
	const uint8_t head = r.u8();
	m.flags = head & (CSEG_T_BOUNDS | CSEG_T_OVERFLOW);
	m.scale = read_scale(r);
	if (!(m.flags & CSEG_T_OVERFLOW))
		set_sum(m, read_sum(r));
	int64_t *const counts[kCounts] = {&m.nulls, &m.nans, &m.pinfs, &m.ninfs, &m.wides};
	for (unsigned i = 0; i < kCounts; i++)
		if (head >> (kHeadCountsShift + i) & 1)
			*counts[i] = r.svarint();
	if (!(head & kHeadExtremes))
		return;
	m.min = read_extreme(r);
	m.max = read_extreme(r);
	if (decimal_less(m.max, m.min))
		throw Corrupt("minimum of totals is above their maximum");
	if (std::max(m.min.scale, m.max.scale) > m.scale)
		throw Corrupt("scale of totals is below that of their extremes");
}

} // namespace

void totals_add_value(CsegMeasureTotals &m, const CsegValue &v) {
	if (v.kind != CSEG_DECIMAL) {
		bump(count_of(m, v.kind), 1);
		return;
	}
	raise_scale(m, v.scale);
	add_to_sum(m, scaled(v.mantissa, v.scale, m.scale));
	widen(m, v, v);
}

void totals_add_measure(CsegMeasureTotals &m, const CsegMeasureTotals &part) {
	add_measure(m, part);
}

void totals_remove_value(CsegMeasureTotals &m, const CsegValue &v) {
	if (v.kind != CSEG_DECIMAL) {
		bump(count_of(m, v.kind), -1);
		return;
	}
	raise_scale(m, v.scale);
	add_to_sum(m, -scaled(v.mantissa, v.scale, m.scale));
	m.flags |= CSEG_T_BOUNDS;
}

} // namespace cseg

using namespace cseg;

extern "C" {

void cseg_totals_init(CsegTotals *t) {
	std::memset(t, 0, sizeof *t);
}

void cseg_totals_add_row(CsegTotals *t, const CsegValue v[CSEG_MEASURES]) {
	bump(&t->rows, 1);
	for (int m = 0; m < CSEG_MEASURES; m++)
		totals_add_value(t->m[m], v[m]);
}

void cseg_totals_remove_row(CsegTotals *t, const CsegValue v[CSEG_MEASURES]) {
	bump(&t->rows, -1);
	for (int m = 0; m < CSEG_MEASURES; m++)
		totals_remove_value(t->m[m], v[m]);
}

void cseg_totals_add_change(CsegTotals *dst, const CsegTotals *change) {
	bump(&dst->rows, change->rows);
	for (int m = 0; m < CSEG_MEASURES; m++)
		add_measure(dst->m[m], change->m[m]);
}

void cseg_totals_add(CsegTotals *dst, const CsegTotals *change) {
	cseg_totals_add_change(dst, change);
	if (dst->rows == 0)
		cseg_totals_init(dst);
}

bool cseg_totals_consistent(const CsegTotals *stored, const CsegTotals *actual) {
	if (stored->rows != actual->rows)
		return false;
	for (int m = 0; m < CSEG_MEASURES; m++) {
		const CsegMeasureTotals &s = stored->m[m];
		const CsegMeasureTotals &a = actual->m[m];
		if (!same_counts(s, a) || !same_sum(s, a) || !bounds_hold(s, a))
			return false;
	}
	return true;
}

size_t cseg_totals_encode(const CsegTotals *t, uint8_t *dst) {
	Sink w(dst);
	w.svarint(t->rows);
	for (const CsegMeasureTotals &m : t->m)
		write_measure(w, m);
	return static_cast<size_t>(w.at - dst);
}

CsegCode cseg_totals_decode_rows(int64_t *rows, const uint8_t *bytes, size_t len, CsegError *err) {
	return guard(err, [&] {
		Reader r(bytes, len);
		*rows = r.svarint();
	});
}

CsegCode cseg_totals_decode(CsegTotals *t, const uint8_t *bytes, size_t len, size_t *used, CsegError *err) {
	return guard(err, [&] {
		Reader r(bytes, len);
		CsegTotals read;
		cseg_totals_init(&read);
		read.rows = r.svarint();
		for (CsegMeasureTotals &m : read.m)
			read_measure(r, m);
		*t = read;
		*used = len - r.left();
	});
}

} // extern "C"
