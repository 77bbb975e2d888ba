// sift_test.cpp
//    Adding up rows that meet conditions: against rows looked at one by one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <random>
#include <vector>

#include "core/core.h"

namespace {

struct Row {
	CsegValue v[CSEG_MEASURES];
};

using Rows = std::map<std::pair<uint16_t, uint8_t>, Row>;

CsegValue value(CsegValueKind kind, int64_t mantissa = 0, uint8_t scale = 0) {
	CsegValue v{};
	v.kind = static_cast<uint8_t>(kind);
	v.mantissa = mantissa;
	v.scale = scale;
	return v;
}

struct CellOwner {
	CsegCell *cell = nullptr;
	CsegError err{};
	explicit CellOwner(const Rows &rows) {
		EXPECT_EQ(cseg_cell_new(&cell, &err), CSEG_OK);
		for (const auto &[key, row] : rows)
			EXPECT_EQ(cseg_cell_insert(cell, key.first, key.second, row.v, &err), CSEG_OK);
		EXPECT_EQ(cseg_cell_settle(cell, nullptr, &err), CSEG_OK);
	}
	~CellOwner() { cseg_cell_free(cell); }
};

CsegTest compare(int measure, int accepts, CsegValue bound) {
	CsegTest t{};
	t.kind = CSEG_TEST_COMPARE;
	t.measure = static_cast<uint8_t>(measure);
	t.accepts = static_cast<uint8_t>(accepts);
	t.bound = bound;
	return t;
}

CsegTest step(CsegTestKind kind, uint32_t n = 0, int measure = 0) {
	CsegTest t{};
	t.kind = static_cast<uint8_t>(kind);
	t.n = n;
	t.measure = static_cast<uint8_t>(measure);
	return t;
}

// SQL's truth of a row, straight from its definition.
std::optional<bool> truth_of(const std::vector<CsegTest> &tests, const Row &row,
							 const std::vector<CsegSlotLeaf> &leaves, unsigned slot) {
	std::vector<std::optional<bool>> stack;
	for (const CsegTest &t : tests) {
		switch (t.kind) {
		case CSEG_TEST_COMPARE: {
			const CsegValue &v = row.v[t.measure];
			if (v.kind == CSEG_NULL || t.bound.kind == CSEG_NULL) {
				stack.push_back(std::nullopt);
				break;
			}
			const int order = cseg_value_compare(&v, &t.bound);
			stack.push_back((t.accepts & (order < 0 ? CSEG_LESS : order > 0 ? CSEG_GREATER : CSEG_EQUAL)) != 0);
			break;
		}
		case CSEG_TEST_NULL:
			stack.push_back(row.v[t.measure].kind == CSEG_NULL);
			break;
		case CSEG_TEST_SLOTS:
			if (leaves[t.n].is_true >> slot & 1)
				stack.push_back(true);
			else if (leaves[t.n].is_false >> slot & 1)
				stack.push_back(false);
			else
				stack.push_back(std::nullopt);
			break;
		case CSEG_TEST_NOT:
			if (stack.back())
				stack.back() = !*stack.back();
			break;
		default: {
			const bool decides = t.kind == CSEG_TEST_OR;
			std::optional<bool> all = !decides;
			for (uint32_t i = 0; i < t.n; i++) {
				const std::optional<bool> one = stack.back();
				stack.pop_back();
				if (one == decides || all == decides)
					all = decides;
				else if (!one)
					all = std::nullopt;
			}
			stack.push_back(all);
		}
		}
	}
	return stack.empty() ? true : stack.back();
}

// A customer keeps its values for a while, as customers do.
Rows random_rows(std::mt19937 &rng) {
	Rows rows;
	const int customers = 1 + static_cast<int>(rng() % 60);
	for (int c = 0; c < customers; c++) {
		const auto low = static_cast<uint16_t>(rng() % CSEG_CONTAINER_SIZE);
		Row now{};
		for (unsigned slot = 0; slot < CSEG_SLOTS; slot++) {
			if (slot == 0 || rng() % 8 == 0) {
				now.v[0] = rng() % 5 == 0 ? value(CSEG_NULL) : value(CSEG_DECIMAL, 1);
				now.v[1] =
					rng() % 6 == 0 ? value(CSEG_NULL) : value(CSEG_DECIMAL, static_cast<int64_t>(rng() % 9) - 2);
				switch (rng() % 10) {
				case 0:
					now.v[2] = value(CSEG_NULL);
					break;
				case 1:
					now.v[2] = value(static_cast<CsegValueKind>(CSEG_NAN + rng() % 3));
					break;
				case 2:
					now.v[2] = value(CSEG_DECIMAL, rng() % 2 ? INT64_MAX : INT64_MIN, 18);
					break;
				default:
					now.v[2] = value(CSEG_DECIMAL, static_cast<int64_t>(rng() % 2000) - 500,
									 static_cast<uint8_t>(rng() % 4));
				}
			}
			if (rng() % 4 != 0)
				rows[{low, static_cast<uint8_t>(slot)}] = now;
		}
	}
	return rows;
}

std::vector<CsegTest> random_condition(std::mt19937 &rng, uint32_t n_leaves, int depth = 0) {
	switch (depth > 2 ? rng() % 3 : rng() % 6) {
	case 0:
		return {step(CSEG_TEST_NULL, 0, static_cast<int>(rng() % 3))};
	case 1:
		return {step(CSEG_TEST_SLOTS, static_cast<uint32_t>(rng() % n_leaves))};
	case 3: {
		std::vector<CsegTest> t = random_condition(rng, n_leaves, depth + 1);
		t.push_back(step(CSEG_TEST_NOT));
		return t;
	}
	case 4:
	case 5: {
		const uint32_t n = 1 + static_cast<uint32_t>(rng() % 3);
		std::vector<CsegTest> all;
		for (uint32_t i = 0; i < n; i++)
			for (const CsegTest &t : random_condition(rng, n_leaves, depth + 1))
				all.push_back(t);
		all.push_back(step(rng() % 2 ? CSEG_TEST_AND : CSEG_TEST_OR, n));
		return all;
	}
	default:
		break;
	}
	const int measure = static_cast<int>(rng() % 3);
	CsegValue bound = value(CSEG_DECIMAL, static_cast<int64_t>(rng() % 300) - 20, static_cast<uint8_t>(rng() % 3));
	if (rng() % 5 == 0)
		bound = value(static_cast<CsegValueKind>(rng() % CSEG_WIDE));
	if (bound.kind == CSEG_DECIMAL && measure < 2)
		bound = value(CSEG_DECIMAL, static_cast<int64_t>(rng() % 8) - 2);
	return {compare(measure, static_cast<int>(rng() % 8), bound)};
}

bool same_measure(const CsegMeasureTotals &a, const CsegMeasureTotals &b) {
	return a.sum_lo == b.sum_lo && a.sum_hi == b.sum_hi && a.nulls == b.nulls && a.nans == b.nans &&
		   a.pinfs == b.pinfs && a.ninfs == b.ninfs && a.scale == b.scale && a.flags == b.flags &&
		   a.min.kind == b.min.kind &&
		   (a.min.kind == CSEG_NULL ||
			(cseg_value_compare(&a.min, &b.min) == 0 && cseg_value_compare(&a.max, &b.max) == 0));
}

TEST(Sift, AgreesWithRowsOneByOne) {
	std::mt19937 rng(20250825);
	for (int round = 0; round < 100; round++) {
		const Rows rows = random_rows(rng);
		const CellOwner owner(rows);
		std::vector<CsegSlotLeaf> leaves(2);
		for (CsegSlotLeaf &leaf : leaves) {
			leaf.is_true = (static_cast<uint64_t>(rng()) << 32) | rng();
			leaf.is_false = ~leaf.is_true & ((static_cast<uint64_t>(rng()) << 32) | rng());
		}
		const std::vector<CsegTest> conditions[2] = {
			rng() % 3 == 0 ? std::vector<CsegTest>() : random_condition(rng, 2), random_condition(rng, 2)};
		CsegSiftView views[2] = {};
		for (int i = 0; i < 2; i++) {
			views[i].tests = conditions[i].data();
			views[i].n_tests = static_cast<uint32_t>(conditions[i].size());
			views[i].sums = views[i].extremes = 7;
			views[i].members = true;
		}
		const uint64_t slots = rng() % 3 == 0 ? ~UINT64_C(0) : (static_cast<uint64_t>(rng()) << 32) | rng();
		std::vector<uint16_t> lows;
		const bool some = rng() % 4 == 0;
		for (const auto &[key, row] : rows)
			if (some && (lows.empty() || lows.back() != key.first) && rng() % 2)
				lows.push_back(key.first);
		CsegSift *sift = nullptr;
		CsegError err;
		bool wide = true;
		ASSERT_EQ(cseg_sift_new(&sift, views, 2, 2, &err), CSEG_OK) << err.msg;
		// Twice: what was there before is forgotten.
		for (int again = 0; again < 2; again++)
			ASSERT_EQ(cseg_sift_cell(sift, owner.cell, slots, leaves.data(), some ? lows.data() : nullptr,
									 static_cast<uint32_t>(lows.size()), &wide, &err),
					  CSEG_OK);
		ASSERT_FALSE(wide);
		for (uint32_t view = 0; view < 2; view++) {
			std::vector<CsegTotals> expected(CSEG_SLOTS);
			std::vector<uint64_t> members(CSEG_MEMBER_WORDS), expected_members(CSEG_MEMBER_WORDS);
			for (const auto &[key, row] : rows) {
				if ((slots >> key.second & 1) == 0 ||
					(some && std::find(lows.begin(), lows.end(), key.first) == lows.end()) ||
					truth_of(conditions[0], row, leaves, key.second) != true ||
					(view == 1 && truth_of(conditions[1], row, leaves, key.second) != true))
					continue;
				cseg_totals_add_row(&expected[key.second], row.v);
				expected_members[key.first / 64] |= UINT64_C(1) << key.first % 64;
			}
			const CsegTotals *totals = nullptr;
			uint64_t present = 0;
			ASSERT_EQ(cseg_sift_totals(sift, view, &totals, &present, &err), CSEG_OK);
			for (unsigned slot = 0; slot < CSEG_SLOTS; slot++) {
				EXPECT_EQ(totals[slot].rows, expected[slot].rows) << "round " << round << " slot " << slot;
				EXPECT_EQ(present >> slot & 1, expected[slot].rows != 0 ? 1u : 0u);
				for (int m = 0; m < CSEG_MEASURES; m++)
					EXPECT_TRUE(same_measure(totals[slot].m[m], expected[slot].m[m]))
						<< "round " << round << " slot " << slot << " measure " << m;
			}
			ASSERT_EQ(cseg_sift_members(sift, view, ~UINT64_C(0), members.data(), &err), CSEG_OK);
			EXPECT_EQ(members, expected_members);
		}
		cseg_sift_free(sift);
	}
}

TEST(Sift, LeavesWideValuesToTheCaller) {
	const uint8_t bytes[] = {1, 2, 3};
	Row row{{value(CSEG_DECIMAL, 1), value(CSEG_DECIMAL, 5), value(CSEG_WIDE)}};
	row.v[2].wide = bytes;
	row.v[2].wide_len = sizeof bytes;
	const Rows rows = {{{7, 3}, row}};
	const CellOwner owner(rows);
	const CsegTest orders = compare(CSEG_M_ORDERS, CSEG_GREATER, value(CSEG_DECIMAL, 2));
	for (const bool asks_for_revenue : {false, true}) {
		CsegSiftView view{};
		view.tests = &orders;
		view.n_tests = 1;
		view.sums = asks_for_revenue ? 1 << CSEG_M_REVENUE : 1 << CSEG_M_ORDERS;
		CsegSift *sift = nullptr;
		CsegError err;
		bool wide = !asks_for_revenue;
		ASSERT_EQ(cseg_sift_new(&sift, &view, 1, 0, &err), CSEG_OK);
		ASSERT_EQ(cseg_sift_cell(sift, owner.cell, ~UINT64_C(0), nullptr, nullptr, 0, &wide, &err), CSEG_OK);
		EXPECT_EQ(wide, asks_for_revenue);
		cseg_sift_free(sift);
	}
}

// Every wanted row is in one stretch, with its values.
TEST(Stretches, AreTheRowsOfACell) {
	std::mt19937 rng(7);
	for (int round = 0; round < 60; round++) {
		const Rows rows = random_rows(rng);
		const CellOwner owner(rows);
		const uint64_t slots = round % 3 == 0 ? ~UINT64_C(0) : (static_cast<uint64_t>(rng()) << 32 | rng());
		std::vector<uint16_t> lows;
		for (const auto &[key, row] : rows)
			if ((lows.empty() || lows.back() != key.first) && rng() % 3 != 0)
				lows.push_back(key.first);
		const bool some = round % 2 == 1;
		std::map<std::pair<uint16_t, uint8_t>, const Row *> expected;
		for (const auto &[key, row] : rows)
			if ((slots >> key.second & 1) != 0 &&
				(!some || std::find(lows.begin(), lows.end(), key.first) != lows.end()))
				expected[key] = &row;

		std::vector<CsegStretch> room(CSEG_SLOTS + rng() % 100);
		CsegError err;
		uint32_t at = 0;
		uint32_t n = 0;
		size_t seen = 0;
		for (;;) {
			ASSERT_EQ(cseg_cell_stretches(owner.cell, slots, some ? lows.data() : nullptr,
										  static_cast<uint32_t>(lows.size()), &at, room.data(),
										  static_cast<uint32_t>(room.size()), &n, &err),
					  CSEG_OK);
			if (n == 0)
				break;
			for (uint32_t i = 0; i < n; i++)
				for (unsigned slot = 0; slot < CSEG_SLOTS; slot++) {
					if ((room[i].slots >> slot & 1) == 0)
						continue;
					const auto found = expected.find({room[i].low, static_cast<uint8_t>(slot)});
					ASSERT_NE(found, expected.end());
					for (int m = 0; m < CSEG_MEASURES; m++) {
						EXPECT_EQ(room[i].v[m].kind, found->second->v[m].kind);
						EXPECT_EQ(room[i].v[m].mantissa, found->second->v[m].mantissa);
						EXPECT_EQ(room[i].v[m].scale, found->second->v[m].scale);
					}
					seen++;
				}
		}
		EXPECT_EQ(seen, expected.size());
	}
}

TEST(Stretches, WantRoomForACustomer) {
	const Rows rows = {{{7, 3}, Row{}}};
	const CellOwner owner(rows);
	CsegStretch room[CSEG_SLOTS];
	CsegError err;
	uint32_t at = 0;
	uint32_t n = 0;
	EXPECT_EQ(cseg_cell_stretches(owner.cell, 1, nullptr, 0, &at, room, CSEG_SLOTS - 1, &n, &err), CSEG_BUG);
}

TEST(Sift, RefusesWhatIsNoCondition) {
	const std::vector<std::vector<CsegTest>> wrong = {
		{step(CSEG_TEST_NOT)},
		{step(CSEG_TEST_AND, 1)},
		{step(CSEG_TEST_NULL), step(CSEG_TEST_NULL)},
		{step(CSEG_TEST_NULL), step(CSEG_TEST_OR, 2)},
		{step(CSEG_TEST_NULL), step(CSEG_TEST_OR, 0)},
		{step(CSEG_TEST_NULL, 0, 3)},
		{step(CSEG_TEST_SLOTS, 1)},
		{compare(0, 1, value(CSEG_WIDE))},
		{compare(0, 1, value(CSEG_DECIMAL, 1, 19))},
	};
	for (const auto &tests : wrong) {
		CsegSiftView view{};
		view.tests = tests.data();
		view.n_tests = static_cast<uint32_t>(tests.size());
		CsegSift *sift = nullptr;
		CsegError err;
		EXPECT_EQ(cseg_sift_new(&sift, &view, 1, 1, &err), CSEG_BUG);
		EXPECT_EQ(sift, nullptr);
	}
}

} // namespace
