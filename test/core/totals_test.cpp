// totals_test.cpp
//    Totals of instances: exact sums across scales, bounds, overflow, and their serialized form.
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "core/core.h"

namespace {

CsegValue decimal(int64_t mantissa, uint8_t scale = 0) {
	CsegValue v{};
	v.mantissa = mantissa;
	v.kind = CSEG_DECIMAL;
	v.scale = scale;
	return v;
}

CsegValue other(CsegValueKind kind) {
	CsegValue v{};
	v.kind = static_cast<uint8_t>(kind);
	return v;
}

struct Row {
	CsegValue v[CSEG_MEASURES];
};

CsegTotals empty() {
	CsegTotals t;
	cseg_totals_init(&t);
	return t;
}

void add(CsegTotals &t, const Row &r) {
	cseg_totals_add_row(&t, r.v);
}

CsegTotals round_trip(const CsegTotals &t) {
	uint8_t bytes[CSEG_TOTALS_MAX_BYTES];
	const size_t len = cseg_totals_encode(&t, bytes);
	EXPECT_LE(len, sizeof bytes);
	CsegTotals back;
	CsegError err;
	size_t used = 0;
	EXPECT_EQ(cseg_totals_decode(&back, bytes, len, &used, &err), CSEG_OK);
	int64_t rows = -1;
	EXPECT_EQ(cseg_totals_decode_rows(&rows, bytes, len, &err), CSEG_OK);
	EXPECT_EQ(rows, back.rows);
	EXPECT_EQ(cseg_totals_decode_rows(&rows, bytes, 0, &err), CSEG_CORRUPT);
	EXPECT_EQ(used, len);
	EXPECT_EQ(std::memcmp(&t, &back, sizeof t), 0);
	for (size_t n = 0; n < len; n++)
		EXPECT_EQ(cseg_totals_decode(&back, bytes, n, &used, &err), CSEG_CORRUPT);
	return back;
}

TEST(Totals, SumsAcrossScales) {
	CsegTotals t = empty();
	add(t, {{decimal(1), decimal(5), decimal(110, 2)}});
	add(t, {{decimal(1), decimal(-3), decimal(11, 1)}});
	add(t, {{decimal(1), other(CSEG_NULL), decimal(2)}});
	EXPECT_EQ(t.rows, 3);
	EXPECT_EQ(t.m[0].sum_lo, 3u);
	EXPECT_EQ(t.m[1].sum_lo, 2u);
	EXPECT_EQ(t.m[1].nulls, 1);
	EXPECT_EQ(t.m[2].sum_lo, 420u);
	EXPECT_EQ(t.m[2].scale, 2);
	EXPECT_EQ(t.m[2].min.mantissa, 110) << "1.10 came before its equal 1.1";
	EXPECT_EQ(t.m[2].max.mantissa, 2);
	round_trip(t);
}

TEST(Totals, KindsWithoutNumber) {
	CsegTotals t = empty();
	CsegValue wide = other(CSEG_WIDE);
	add(t, {{other(CSEG_NAN), other(CSEG_PINF), other(CSEG_NINF)}});
	add(t, {{wide, other(CSEG_NULL), other(CSEG_NINF)}});
	EXPECT_EQ(t.m[0].nans, 1);
	EXPECT_EQ(t.m[0].wides, 1);
	EXPECT_EQ(t.m[1].pinfs, 1);
	EXPECT_EQ(t.m[2].ninfs, 2);
	EXPECT_EQ(t.m[0].min.kind, CSEG_NULL);
	round_trip(t);
}

TEST(Totals, RemovalMakesBounds) {
	CsegTotals t = empty();
	add(t, {{decimal(1), decimal(1), decimal(100, 2)}});
	add(t, {{decimal(1), decimal(9), decimal(900, 2)}});
	CsegTotals change = empty();
	const Row gone = {{decimal(1), decimal(9), decimal(900, 2)}};
	cseg_totals_remove_row(&change, gone.v);
	EXPECT_EQ(change.rows, -1);
	round_trip(change);
	cseg_totals_add(&t, &change);
	EXPECT_EQ(t.m[1].flags, CSEG_T_BOUNDS);
	EXPECT_EQ(t.m[1].sum_lo, 1u);
	EXPECT_EQ(t.m[1].max.mantissa, 9);
	CsegTotals actual = empty();
	add(actual, {{decimal(1), decimal(1), decimal(100, 2)}});
	EXPECT_TRUE(cseg_totals_consistent(&t, &actual));
	EXPECT_FALSE(cseg_totals_consistent(&actual, &t)) << "exact totals must be attained";
	const Row last = {{decimal(1), decimal(1), decimal(100, 2)}};
	change = empty();
	cseg_totals_remove_row(&change, last.v);
	cseg_totals_add(&t, &change);
	const CsegTotals none = empty();
	EXPECT_EQ(std::memcmp(&t, &none, sizeof t), 0);
}

TEST(Totals, OverflowIsUnknown) {
	CsegTotals t = empty();
	add(t, {{decimal(1), decimal(0), decimal(INT64_MAX)}});
	add(t, {{decimal(1), decimal(0), decimal(1, 18)}});
	for (int i = 0; i < 6; i++) { // doubles: 63 bits, a factor of 10^18 and 5 bits fill 128
		const CsegTotals same = t;
		cseg_totals_add(&t, &same);
	}
	EXPECT_EQ(t.m[2].flags, CSEG_T_OVERFLOW);
	EXPECT_EQ(t.m[2].sum_hi, 0);
	EXPECT_EQ(t.m[2].max.mantissa, INT64_MAX);
	round_trip(t);
}

TEST(Totals, ScaleRaisesExtremesOfMantissa) {
	CsegTotals t = empty();
	add(t, {{decimal(INT64_MIN), decimal(INT64_MAX), decimal(INT64_MIN, 18)}});
	add(t, {{decimal(1, 18), decimal(-1, 18), decimal(INT64_MAX)}});
	EXPECT_EQ(t.m[0].flags, 0);
	EXPECT_EQ(t.m[0].scale, 18);
	EXPECT_EQ(t.m[0].min.mantissa, INT64_MIN);
	EXPECT_EQ(t.m[0].max.scale, 18);
	round_trip(t);
}

TEST(Totals, Damage) {
	CsegError err;
	CsegTotals t;
	size_t used;
	// rows; head with min and max; then min above max
	const uint8_t crossed[] = {2, 4, 0, 0, 0, 4, 0, 2};
	EXPECT_EQ(cseg_totals_decode(&t, crossed, sizeof crossed, &used, &err), CSEG_CORRUPT);
	const uint8_t scale[] = {2, 0, 19, 0};
	EXPECT_EQ(cseg_totals_decode(&t, scale, sizeof scale, &used, &err), CSEG_CORRUPT);
	std::vector<uint8_t> endless(40, 0xFF);
	endless[0] = 2;
	endless[1] = 0;
	endless[2] = 0;
	EXPECT_EQ(cseg_totals_decode(&t, endless.data(), endless.size(), &used, &err), CSEG_CORRUPT);
}

TEST(Totals, GoldenBytes) {
	CsegTotals t = empty();
	add(t, {{decimal(1), other(CSEG_NULL), decimal(1299, 2)}});
	uint8_t bytes[CSEG_TOTALS_MAX_BYTES];
	const size_t len = cseg_totals_encode(&t, bytes);
	const std::vector<uint8_t> wanted = {2, 4, 0,    2,    0, 2,    0,    2,              // rows; customers
										 8, 0, 0,    2,                                   // orders
										 4, 2, 0xA6, 0x14, 2, 0xA6, 0x14, 2, 0xA6, 0x14}; // revenue
	EXPECT_EQ(std::vector<uint8_t>(bytes, bytes + len), wanted);
}

// Any order of additions and removals gives the sums of what is left.
TEST(Totals, RandomChanges) {
	std::mt19937_64 rng(1);
	std::vector<Row> rows;
	CsegTotals t = empty();
	for (int i = 0; i < 3000; i++) {
		CsegTotals change = empty();
		if (!rows.empty() && rng() % 3 == 0) {
			const size_t at = rng() % rows.size();
			cseg_totals_remove_row(&change, rows[at].v);
			rows.erase(rows.begin() + static_cast<ptrdiff_t>(at));
		} else {
			Row r = {{decimal(1), decimal(static_cast<int64_t>(rng() >> 20), static_cast<uint8_t>(rng() % 19)),
					  rng() % 5 ? decimal(-static_cast<int64_t>(rng() % 1000), 2) : other(CSEG_NAN)}};
			cseg_totals_add_row(&change, r.v);
			rows.push_back(r);
		}
		cseg_totals_add(&t, &change);
		if (i % 50 != 0)
			continue;
		CsegTotals actual = empty();
		for (const Row &r : rows)
			add(actual, r);
		ASSERT_TRUE(cseg_totals_consistent(&t, &actual));
		t = round_trip(t);
		if (rows.empty())
			continue;
		CsegTotals wrong = actual;
		wrong.m[2].sum_lo++;
		ASSERT_FALSE(cseg_totals_consistent(&t, &wrong));
	}
}

} // namespace
