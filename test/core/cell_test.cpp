// cell_test.cpp
//    Cells against a naive model, their encoding, and what damaged bytes do to it.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "cell_bytes.hpp"

namespace {

// ---- helpers -------------------------------------------------------------------------------------------------

struct Free {
	void operator()(CsegCell *cell) const { cseg_cell_free(cell); }
	void operator()(CsegCursor *cursor) const { cseg_cursor_free(cursor); }
};
using CellPtr = std::unique_ptr<CsegCell, Free>;
using Address = std::pair<uint16_t, uint8_t>;        // low, slot
using Text = std::array<std::string, CSEG_MEASURES>; // a row's values, comparable
using Model = std::map<Address, Text>;
using Bytes = std::vector<uint8_t>;

void must(CsegCode code, const CsegError &err) {
	ASSERT_EQ(code, CSEG_OK) << err.msg;
}

CellPtr make_cell() {
	CsegCell *cell = nullptr;
	CsegError err;
	must(cseg_cell_new(&cell, &err), err);
	return CellPtr(cell);
}

std::string text_of(const CsegValue &v) {
	std::string s(1, static_cast<char>('0' + v.kind));
	if (v.kind == CSEG_WIDE)
		return s + std::string(reinterpret_cast<const char *>(v.wide), v.wide_len);
	return s + std::to_string(v.scale) + "/" + std::to_string(v.mantissa);
}

Text text_of(const CsegValue *v) {
	return {text_of(v[0]), text_of(v[1]), text_of(v[2])};
}

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

CsegValue wide(const std::string &bytes) {
	CsegValue v{};
	v.wide = reinterpret_cast<const uint8_t *>(bytes.data());
	v.wide_len = static_cast<uint32_t>(bytes.size());
	v.kind = CSEG_WIDE;
	return v;
}

struct Row {
	CsegValue v[CSEG_MEASURES];
};

Row row(int64_t orders, int64_t cents) {
	return {{decimal(1), decimal(orders), decimal(cents, 2)}};
}

void insert(const CellPtr &cell, unsigned low, unsigned slot, const Row &r) {
	CsegError err;
	must(cseg_cell_insert(cell.get(), static_cast<uint16_t>(low), static_cast<uint8_t>(slot), r.v, &err), err);
}

void update(const CellPtr &cell, unsigned low, unsigned slot, const Row &r) {
	CsegError err;
	must(cseg_cell_update(cell.get(), static_cast<uint16_t>(low), static_cast<uint8_t>(slot), r.v, &err), err);
}

void remove(const CellPtr &cell, unsigned low, unsigned slot, bool moved = false) {
	CsegError err;
	must(cseg_cell_remove(cell.get(), static_cast<uint16_t>(low), static_cast<uint8_t>(slot), moved, &err), err);
}

Bytes encode(const CellPtr &cell) {
	const uint8_t *bytes = nullptr;
	size_t len = 0;
	CsegError err;
	must(cseg_cell_encode(cell.get(), &bytes, &len, &err), err);
	return Bytes(bytes, bytes + len);
}

CellPtr decode(const Bytes &bytes) {
	CsegCell *cell = nullptr;
	CsegError err;
	must(cseg_cell_decode(&cell, bytes.data(), bytes.size(), &err), err);
	return CellPtr(cell);
}

void apply(const CellPtr &state, const CellPtr &delta, bool touch = false) {
	CsegError err;
	must(cseg_cell_apply(state.get(), delta.get(), touch, &err), err);
}

bool removed(const CellPtr &cell, unsigned low, unsigned slot, bool *moved) {
	CsegError err;
	bool is = false;
	must(cseg_cell_removed(cell.get(), static_cast<uint16_t>(low), static_cast<uint8_t>(slot), &is, moved, &err),
		 err);
	return is;
}

using Hit = std::optional<Address>;

std::array<uint64_t, CSEG_SLOTS> own_alias() {
	std::array<uint64_t, CSEG_SLOTS> alias;
	for (unsigned s = 0; s < CSEG_SLOTS; s++)
		alias[s] = UINT64_C(1) << s;
	return alias;
}

Hit conflict(const CsegCell *state, const CellPtr &delta, const std::array<uint64_t, CSEG_SLOTS> &alias = own_alias(),
			 bool self = true) {
	CsegError err;
	bool found = false;
	Address at{};
	must(cseg_cell_conflict(state, delta.get(), alias.data(), self, &found, &at.first, &at.second, &err), err);
	return found ? Hit(at) : Hit();
}

Hit missing(const CsegCell *state, const CellPtr &delta) {
	CsegError err;
	bool found = false;
	Address at{};
	must(cseg_cell_missing(state, delta.get(), &found, &at.first, &at.second, &err), err);
	return found ? Hit(at) : Hit();
}

void check(const CellPtr &cell) {
	CsegError err;
	must(cseg_cell_check(cell.get(), &err), err);
}

void add_view(Model &m, const CsegSlotView &view, uint8_t slot) {
	for (uint32_t i = 0; i < view.n; i++) {
		const uint32_t e = view.rows[i];
		const CsegValue v[] = {view.value[0][e], view.value[1][e], view.value[2][e]};
		m[{view.entry_low[e], slot}] = text_of(v);
	}
}

Model contents(const CellPtr &cell) {
	CsegError err;
	CsegCursor *raw = nullptr;
	must(cseg_cursor_new(&raw, cell.get(), &err), err);
	std::unique_ptr<CsegCursor, Free> cursor(raw);
	Model m;
	for (uint8_t slot = 0; slot < CSEG_SLOTS; slot++) {
		CsegSlotView view;
		must(cseg_cursor_seek(cursor.get(), slot, 7, &view, &err), err);
		add_view(m, view, slot);
	}
	return m;
}

// ---- random data ---------------------------------------------------------------------------------------------

class Random {
public:
	explicit Random(uint64_t seed) : rng(seed) {}
	uint64_t below(uint64_t n) { return rng() % n; }
	bool one_in(uint64_t n) { return below(n) == 0; }
	CsegValue value() {
		static constexpr int64_t kEdges[] = {INT64_MIN, INT64_MAX, 0, -1, 1, INT64_MIN + 1, 110, 11};
		switch (below(16)) {
		case 0:
			return other(CSEG_NULL);
		case 1:
			return other(static_cast<CsegValueKind>(CSEG_NAN + below(3)));
		case 2:
			wide_bytes = std::string(below(40), static_cast<char>('a' + below(3)));
			return wide(wide_bytes);
		case 3:
			return decimal(kEdges[below(std::size(kEdges))], static_cast<uint8_t>(below(CSEG_MAX_SCALE + 1)));
		default:
			return decimal(static_cast<int64_t>(below(4)), static_cast<uint8_t>(below(2)));
		}
	}

private:
	std::mt19937_64 rng;
	std::string wide_bytes;
};

// One value at a time may be wide: its bytes live in the generator.
Row random_row(Random &r) {
	return {{decimal(1), decimal(static_cast<int64_t>(r.below(3))), r.value()}};
}

// A cell of `customers` with rows like real ones, and its model.
CellPtr usual_cell(Random &r, unsigned customers, unsigned step, unsigned days, Model *model) {
	CellPtr cell = make_cell();
	for (unsigned i = 0; i < customers; i++) {
		int64_t orders = static_cast<int64_t>(r.below(5));
		int64_t cents = static_cast<int64_t>(r.below(1000000));
		const unsigned from = r.one_in(3) ? static_cast<unsigned>(r.below(days)) : 0;
		for (unsigned s = from; s < days && !r.one_in(60); s++) {
			if (r.one_in(40)) {
				orders++;
				cents += static_cast<int64_t>(r.below(20000));
			}
			const Row values = row(orders, cents);
			insert(cell, i * step, s, values);
			(*model)[{static_cast<uint16_t>(i * step), static_cast<uint8_t>(s)}] = text_of(values.v);
		}
	}
	return cell;
}

// ---- basics --------------------------------------------------------------------------------------------------

TEST(Cell, EmptyRoundTrip) {
	const CellPtr cell = decode(encode(make_cell()));
	check(cell);
	EXPECT_TRUE(contents(cell).empty());
	EXPECT_EQ(encode(make_cell()).size(), 9u);
}

TEST(Cell, ValuesComeBackExactly) {
	const std::string blob("\0\1wide", 6);
	const CsegValue values[] = {decimal(110, 2),       decimal(11, 1),   decimal(INT64_MIN), decimal(INT64_MAX, 18),
								decimal(0, 5),         decimal(-1, 2),   other(CSEG_NULL),   other(CSEG_NAN),
								other(CSEG_PINF),      other(CSEG_NINF), wide(blob),         wide(""),
								decimal(INT64_MIN, 18)};
	const CellPtr cell = make_cell();
	Model model;
	unsigned slot = 0;
	for (const CsegValue &a : values)
		for (const CsegValue &b : values) {
			const Row r = {{a, b, a}};
			insert(cell, 100 + slot / 60, slot % 60, r);
			model[{static_cast<uint16_t>(100 + slot / 60), static_cast<uint8_t>(slot % 60)}] = text_of(r.v);
			slot++;
		}
	EXPECT_EQ(contents(cell), model);
	const CellPtr back = decode(encode(cell));
	check(back);
	EXPECT_EQ(contents(back), model);
}

TEST(Cell, ValuesPersistOverGaps) {
	const CellPtr cell = make_cell();
	for (const unsigned slot : {3u, 4u, 9u, 20u})
		insert(cell, 5, slot, row(2, 100));
	const CellPtr same = make_cell();
	for (const unsigned slot : {20u, 9u, 4u, 3u})
		insert(same, 5, slot, row(2, 100));
	EXPECT_EQ(encode(cell), encode(same));
	EXPECT_LT(encode(cell).size(), 40u);
}

TEST(Cell, OneRowIsSmall) {
	const CellPtr cell = make_cell();
	insert(cell, 31234, 63, row(3, 1234567));
	EXPECT_LE(encode(cell).size(), 30u);
	const CellPtr gone = make_cell();
	remove(gone, 31234, 63, true);
	EXPECT_LE(encode(gone).size(), 24u);
}

TEST(Cell, RefusesWhatIsNoAddressOrValue) {
	const CellPtr cell = make_cell();
	CsegError err;
	const Row good = row(1, 1);
	EXPECT_EQ(cseg_cell_insert(cell.get(), CSEG_CONTAINER_SIZE, 0, good.v, &err), CSEG_BUG);
	EXPECT_EQ(cseg_cell_insert(cell.get(), 0, CSEG_SLOTS, good.v, &err), CSEG_BUG);
	Row bad = good;
	bad.v[2].scale = CSEG_MAX_SCALE + 1;
	EXPECT_EQ(cseg_cell_insert(cell.get(), 0, 0, bad.v, &err), CSEG_BUG);
	bad.v[2].kind = CSEG_WIDE + 1;
	EXPECT_EQ(cseg_cell_insert(cell.get(), 0, 0, bad.v, &err), CSEG_BUG);
	EXPECT_TRUE(contents(cell).empty());
}

TEST(Cell, SettleStopsAndGoesOn) {
	const CellPtr cell = make_cell();
	insert(cell, 1, 1, row(1, 1));
	volatile int cancel = 0, terminate = 1;
	const CsegStop stop = {&cancel, &terminate};
	CsegError err;
	EXPECT_EQ(cseg_cell_settle(cell.get(), &stop, &err), CSEG_CANCELLED);
	terminate = 0;
	cancel = 1;
	EXPECT_EQ(cseg_cell_settle(cell.get(), &stop, &err), CSEG_CANCELLED);
	cancel = 0;
	EXPECT_EQ(cseg_cell_settle(cell.get(), &stop, &err), CSEG_OK);
	EXPECT_EQ(contents(cell).size(), 1u);
}

// ---- changes -------------------------------------------------------------------------------------------------

TEST(CellChange, LastChangeWins) {
	const CellPtr state = make_cell();
	insert(state, 2, 1, row(5, 5));
	insert(state, 3, 1, row(5, 5));
	const CellPtr cell = make_cell();
	insert(cell, 1, 1, row(1, 1));
	update(cell, 1, 1, row(2, 2));
	update(cell, 2, 1, row(3, 3));
	update(cell, 2, 1, row(4, 4));
	update(cell, 3, 1, row(6, 6));
	remove(cell, 3, 1);
	const Model wanted{{{1, 1}, text_of(row(2, 2).v)}, {{2, 1}, text_of(row(4, 4).v)}};
	EXPECT_EQ(contents(cell), wanted);
	bool moved;
	EXPECT_FALSE(removed(cell, 2, 1, &moved));
	EXPECT_TRUE(removed(cell, 3, 1, &moved));
	EXPECT_EQ(missing(nullptr, cell), Hit({2, 1}));
	EXPECT_EQ(missing(state.get(), cell), Hit());
	EXPECT_EQ(conflict(state.get(), cell), Hit());
	apply(state, cell);
	EXPECT_EQ(contents(state), wanted);
}

// A removal is never of a row that the same delta inserts.
TEST(CellChange, RemovalMeansTheRowOfTheState) {
	enum { i, u, r };
	const struct {
		std::vector<int> ops;
		int64_t left; // the operation, from 1, whose values the row ends up with; 0 if there is none
	} cases[] = {{{i, r}, 1},       {{r, i}, 2},       {{i, r, u}, 3}, {{i, u, r}, 2},    {{r, i, u}, 3},
				 {{u, r}, 0},       {{u, r, i}, 3},    {{u, i, r}, 2}, {{u, i, u, r}, 3}, {{u, u, r, i, u}, 5},
				 {{u, i, r, u}, 4}, {{u, r, i, u}, 4}, {{r}, 0}};
	for (const bool settles : {false, true}) // after every operation
		for (const auto &c : cases) {
			std::string name(settles ? "settled " : "");
			const CellPtr state = make_cell();
			insert(state, 7, 3, row(100, 100));
			const CellPtr delta = make_cell();
			int64_t n = 0;
			for (const int op : c.ops) {
				n++;
				name += "iur"[op];
				if (op == i)
					insert(delta, 7, 3, row(n, n));
				else if (op == u)
					update(delta, 7, 3, row(n, n));
				else
					remove(delta, 7, 3);
				if (settles)
					check(delta);
			}
			Model wanted;
			if (c.left != 0)
				wanted[{7, 3}] = text_of(row(c.left, c.left).v);
			bool moved;
			EXPECT_EQ(contents(delta), wanted) << name;
			EXPECT_TRUE(removed(delta, 7, 3, &moved)) << name;
			EXPECT_EQ(conflict(state.get(), delta), Hit()) << name;
			EXPECT_EQ(conflict(nullptr, delta), Hit()) << name;
			EXPECT_EQ(missing(state.get(), delta), Hit()) << name;
			EXPECT_EQ(missing(nullptr, delta), Hit({7, 3})) << name;
			const CellPtr stored = decode(encode(delta));
			EXPECT_EQ(contents(stored), wanted) << name;
			EXPECT_TRUE(removed(stored, 7, 3, &moved)) << name;
			apply(state, stored);
			EXPECT_EQ(contents(state), wanted) << name;
		}
}

// UPDATE ... SET key = key + 1: a row's new version comes where another row is still to be taken away.
TEST(CellChange, KeysShift) {
	constexpr unsigned n = 1000;
	for (const bool upwards : {true, false}) {
		const CellPtr state = make_cell();
		const CellPtr delta = make_cell();
		Model wanted;
		for (unsigned k = 0; k < n; k++) {
			insert(state, k, 3, row(k, k));
			wanted[{static_cast<uint16_t>(k + 1), 3}] = text_of(row(k, k).v);
		}
		for (unsigned at = 0; at < n; at++) {
			const unsigned k = upwards ? at : n - 1 - at;
			insert(delta, k + 1, 3, row(k, k));
			remove(delta, k, 3, true);
			if (at % 300 == 299)
				check(delta);
		}
		EXPECT_EQ(conflict(state.get(), delta), Hit());
		EXPECT_EQ(missing(state.get(), delta), Hit());
		bool moved;
		EXPECT_TRUE(removed(delta, 0, 3, &moved));
		EXPECT_FALSE(removed(delta, n, 3, &moved));
		const CellPtr stored = decode(encode(delta));
		EXPECT_EQ(contents(stored), wanted);
		apply(state, stored);
		EXPECT_EQ(contents(state), wanted);
	}
}

// The same along the slots of one customer, where all changes meet in one entry.
TEST(CellChange, SlotsShift) {
	for (const bool upwards : {true, false}) {
		const CellPtr state = make_cell();
		const CellPtr delta = make_cell();
		Model wanted;
		for (unsigned k = 0; k + 1 < CSEG_SLOTS; k++) {
			insert(state, 5, k, row(k, k));
			wanted[{5, static_cast<uint8_t>(k + 1)}] = text_of(row(k, k).v);
		}
		for (unsigned at = 0; at + 1 < CSEG_SLOTS; at++) {
			const unsigned k = upwards ? at : CSEG_SLOTS - 2 - at;
			insert(delta, 5, k + 1, row(k, k));
			remove(delta, 5, k, true);
		}
		EXPECT_EQ(conflict(state.get(), delta), Hit());
		EXPECT_EQ(missing(state.get(), delta), Hit());
		apply(state, delta);
		EXPECT_EQ(contents(state), wanted);
	}
}

TEST(CellChange, RemovedAndSetAgain) {
	const CellPtr state = make_cell();
	insert(state, 7, 3, row(1, 1));
	const CellPtr delta = make_cell();
	remove(delta, 7, 3, true);
	insert(delta, 7, 3, row(9, 9));
	EXPECT_EQ(conflict(state.get(), delta), Hit());
	EXPECT_EQ(missing(state.get(), delta), Hit());
	const CellPtr stored = decode(encode(delta));
	bool moved = false;
	EXPECT_TRUE(removed(stored, 7, 3, &moved));
	EXPECT_TRUE(moved);
	bool any = false;
	CsegError err;
	must(cseg_cell_has_moved(stored.get(), &any, &err), err);
	EXPECT_TRUE(any);
	apply(state, stored, true);
	const Row last = row(9, 9);
	EXPECT_EQ(contents(state), (Model{{{7, 3}, text_of(last.v)}}));
}

TEST(CellChange, Conflicts) {
	const CellPtr state = make_cell();
	insert(state, 10, 5, row(1, 1));
	const CellPtr twice = make_cell();
	insert(twice, 11, 5, row(1, 1));
	insert(twice, 11, 5, row(1, 1));
	EXPECT_EQ(conflict(nullptr, twice), Hit({11, 5}));
	const CellPtr present = make_cell();
	insert(present, 10, 5, row(1, 1));
	EXPECT_EQ(conflict(nullptr, present), Hit());
	EXPECT_EQ(conflict(state.get(), present), Hit({10, 5}));
	remove(present, 10, 5);
	EXPECT_EQ(conflict(state.get(), present), Hit()) << "the delta takes the other row away";
	insert(present, 10, 5, row(1, 1));
	EXPECT_EQ(conflict(state.get(), present), Hit({10, 5})) << "a removal excuses one insert, not two";
	remove(twice, 11, 5);
	EXPECT_EQ(conflict(nullptr, twice), Hit({11, 5}));
	const CellPtr updated = make_cell();
	update(updated, 10, 5, row(1, 2));
	EXPECT_EQ(conflict(state.get(), updated), Hit());
	insert(updated, 10, 5, row(1, 2));
	EXPECT_EQ(conflict(state.get(), updated), Hit({10, 5}));
	EXPECT_EQ(conflict(nullptr, updated), Hit({10, 5})) << "the update says that there is a row";
	remove(updated, 10, 5);
	EXPECT_EQ(conflict(state.get(), updated), Hit()) << "whatever the order";
}

TEST(CellChange, ConflictsOfAliasSlots) {
	auto alias = own_alias();
	alias[5] = alias[6] = UINT64_C(3) << 5;
	const CellPtr state = make_cell();
	insert(state, 10, 5, row(1, 1));
	const CellPtr delta = make_cell();
	insert(delta, 10, 6, row(1, 1));
	EXPECT_EQ(conflict(state.get(), delta), Hit());
	EXPECT_EQ(conflict(state.get(), delta, alias), Hit({10, 6}));
	EXPECT_EQ(conflict(state.get(), delta, alias, false), Hit({10, 6}));
	remove(delta, 10, 5, true);
	EXPECT_EQ(conflict(state.get(), delta, alias), Hit());
	EXPECT_EQ(conflict(state.get(), delta, alias, false), Hit({10, 6})) << "removals count in the own group only";
	const CellPtr both = make_cell();
	insert(both, 3, 5, row(1, 1));
	insert(both, 3, 6, row(1, 1));
	EXPECT_EQ(conflict(nullptr, both, alias), Hit({3, 5}));
	EXPECT_EQ(conflict(nullptr, both, alias, false), Hit());
}

TEST(CellChange, Missing) {
	const CellPtr state = make_cell();
	insert(state, 10, 5, row(1, 1));
	const CellPtr delta = make_cell();
	update(delta, 10, 5, row(1, 1));
	EXPECT_EQ(missing(state.get(), delta), Hit());
	EXPECT_EQ(missing(nullptr, delta), Hit({10, 5}));
	remove(delta, 10, 7);
	EXPECT_EQ(missing(state.get(), delta), Hit({10, 7}));
}

TEST(CellChange, TouchedStaysOnRemovedRows) {
	const CellPtr state = make_cell();
	insert(state, 10, 5, row(1, 1));
	insert(state, 10, 6, row(1, 1));
	const CellPtr delta = make_cell();
	remove(delta, 10, 5);
	remove(delta, 10, 6);
	insert(delta, 11, 5, row(1, 1));
	apply(state, delta, true);
	const auto touched = [&](uint16_t low, uint8_t slot) {
		CsegError err;
		bool is = false;
		must(cseg_cell_touched(state.get(), low, slot, &is, &err), err);
		return is;
	};
	EXPECT_TRUE(touched(10, 5));
	EXPECT_TRUE(touched(11, 5));
	EXPECT_FALSE(touched(10, 7));
	check(state);
	EXPECT_EQ(contents(decode(encode(state))).size(), 1u);
}

TEST(CellChange, UpdateKeepsExtremesOfOtherMeasures) {
	const CellPtr state = make_cell();
	insert(state, 10, 5, row(1, 100));
	const CellPtr delta = make_cell();
	update(delta, 10, 5, row(2, 100));
	std::vector<CsegTotals> change(CSEG_SLOTS);
	uint64_t slots;
	CsegError err;
	must(cseg_cell_change(state.get(), delta.get(), change.data(), &slots, &err), err);
	EXPECT_EQ(slots, UINT64_C(1) << 5);
	EXPECT_EQ(change[5].rows, 0);
	EXPECT_EQ(change[5].m[CSEG_M_ORDERS].flags, CSEG_T_BOUNDS);
	EXPECT_EQ(change[5].m[CSEG_M_ORDERS].sum_lo, 1u);
	EXPECT_EQ(change[5].m[CSEG_M_REVENUE].flags, 0);
}

// ---- against the model ---------------------------------------------------------------------------------------

std::vector<CsegTotals> totals_of(const CellPtr &cell, uint64_t *slots) {
	CsegError err;
	std::vector<CsegTotals> t(CSEG_SLOTS);
	for (CsegTotals &one : t)
		cseg_totals_init(&one);
	must(cseg_cell_totals(cell.get(), t.data(), slots, &err), err);
	return t;
}

void expect_change_leads(const std::vector<CsegTotals> &before, const CellPtr &state, const CellPtr &delta,
						 const CellPtr &after) {
	CsegError err;
	std::vector<CsegTotals> change(CSEG_SLOTS);
	uint64_t slots;
	must(cseg_cell_change(state.get(), delta.get(), change.data(), &slots, &err), err);
	uint64_t after_slots;
	const std::vector<CsegTotals> now = totals_of(after, &after_slots);
	for (unsigned s = 0; s < CSEG_SLOTS; s++) {
		CsegTotals t = before[s];
		if (slots >> s & 1)
			cseg_totals_add(&t, &change[s]);
		EXPECT_TRUE(cseg_totals_consistent(&t, &now[s])) << "slot " << s;
	}
}

class CellModel : public testing::TestWithParam<uint64_t> {};

// What a delta is to mean, one row at a time and in the words of the contract.
class NaiveDelta {
public:
	explicit NaiveDelta(const Model &state) : before(state) {}

	bool in_state(const Address &at) const { return before.count(at) != 0; }
	bool may_insert(const Address &at) const { return inserted.count(at) == 0; }
	bool may_update(const Address &at) const {
		return inserted.count(at) != 0 || (in_state(at) && gone.count(at) == 0);
	}
	bool may_remove(const Address &at) const { return in_state(at) && gone.count(at) == 0; }

	void insert(const Address &at, const Text &values) { inserted[at] = values; }
	void update(const Address &at, const Text &values) { (inserted.count(at) ? inserted : updated)[at] = values; }
	void remove(const Address &at, bool moved) { gone[at] = moved; }

	// The first inserted row that a row of the state is in the way of.
	Hit conflict() const {
		for (const auto &[at, values] : inserted)
			if (may_remove(at))
				return at;
		return {};
	}
	// Rows that the delta sets.
	Model set() const {
		Model m = inserted;
		for (const auto &[at, values] : updated)
			if (gone.count(at) == 0)
				m.emplace(at, values);
		return m;
	}
	Model after() const {
		Model m = set();
		for (const auto &[at, values] : before)
			if (gone.count(at) == 0)
				m.emplace(at, values);
		return m;
	}

	std::map<Address, bool> gone; // removed rows of the state; as moved?

private:
	const Model &before;
	Model inserted;
	Model updated;
};

void random_remove(Random &r, const CellPtr &delta, NaiveDelta &naive, const Address &at) {
	const bool moved = r.one_in(3);
	remove(delta, at.first, at.second, moved);
	naive.remove(at, moved);
}

// One change, such as is valid; an insert may come before the removal that it needs.
void random_change(Random &r, const CellPtr &delta, NaiveDelta &naive, const Address &at) {
	const Row values = random_row(r);
	const bool wish = r.one_in(2);
	if (naive.may_remove(at) && r.one_in(3)) {
		random_remove(r, delta, naive, at);
	} else if (naive.may_insert(at) && (wish || !naive.may_update(at))) {
		insert(delta, at.first, at.second, values);
		naive.insert(at, text_of(values.v));
	} else {
		update(delta, at.first, at.second, values);
		naive.update(at, text_of(values.v));
	}
}

void random_changes(Random &r, const CellPtr &delta, NaiveDelta &naive, unsigned n, unsigned lows, unsigned slots) {
	for (unsigned i = 0; i < n; i++) {
		const Address at{static_cast<uint16_t>(r.below(lows) * 3), static_cast<uint8_t>(r.below(slots))};
		random_change(r, delta, naive, at);
		if (r.one_in(50))
			check(delta);
	}
}

void expect_delta(const CellPtr &delta, const NaiveDelta &naive, unsigned lows, unsigned slots) {
	ASSERT_EQ(contents(delta), naive.set());
	for (unsigned low = 0; low < lows * 3; low++)
		for (unsigned slot = 0; slot < slots; slot++) {
			const auto gone = naive.gone.find({static_cast<uint16_t>(low), static_cast<uint8_t>(slot)});
			bool moved;
			ASSERT_EQ(removed(delta, low, slot, &moved), gone != naive.gone.end());
			ASSERT_EQ(moved, gone != naive.gone.end() && gone->second);
		}
}

TEST_P(CellModel, RandomChanges) {
	Random r(GetParam());
	CellPtr state = make_cell();
	Model model;
	const auto lows = static_cast<unsigned>(1 + r.below(60));
	const auto slots = static_cast<unsigned>(1 + r.below(64));
	for (int round = 0; round < 25; round++) {
		uint64_t before_slots;
		const std::vector<CsegTotals> before = totals_of(state, &before_slots);
		CellPtr delta = make_cell();
		NaiveDelta naive(model);
		random_changes(r, delta, naive, static_cast<unsigned>(r.below(120)), lows, slots);
		Hit collision = naive.conflict();
		ASSERT_EQ(conflict(state.get(), delta), collision);
		for (; collision; collision = naive.conflict())
			random_remove(r, delta, naive, *collision);
		ASSERT_EQ(conflict(state.get(), delta), Hit());
		ASSERT_EQ(missing(state.get(), delta), Hit());
		if (r.one_in(2))
			delta = decode(encode(delta));
		expect_delta(delta, naive, lows, slots);
		model = naive.after();
		const CellPtr old = decode(encode(state));
		apply(state, delta, r.one_in(2));
		check(state);
		ASSERT_EQ(contents(state), model);
		expect_change_leads(before, old, delta, state);
		if (r.one_in(2))
			state = decode(encode(state));
		check(state);
		ASSERT_EQ(contents(state), model);
	}
	for (uint16_t low = 0; low < lows * 3; low++)
		for (uint8_t slot = 0; slot < slots; slot++) {
			bool found;
			CsegValue v[CSEG_MEASURES];
			CsegError err;
			must(cseg_cell_get(state.get(), low, slot, &found, v, &err), err);
			const auto at = model.find({low, slot});
			ASSERT_EQ(found, at != model.end());
			if (found) {
				ASSERT_EQ(text_of(v), at->second);
			}
		}
}

INSTANTIATE_TEST_SUITE_P(Seeds, CellModel, testing::Range<uint64_t>(0, 30));

Model of_slot(const Model &model, uint8_t slot) {
	Model some;
	for (const auto &[at, values] : model)
		if (at.second == slot)
			some[at] = values;
	return some;
}

TEST(CellCursor, GoesBackAndForth) {
	Random r(5);
	Model model;
	const CellPtr cell = usual_cell(r, 300, 7, 40, &model);
	CsegError err;
	CsegCursor *raw = nullptr;
	must(cseg_cursor_new(&raw, cell.get(), &err), err);
	const std::unique_ptr<CsegCursor, Free> cursor(raw);
	for (int i = 0; i < 200; i++) {
		const auto slot = static_cast<uint8_t>(r.below(CSEG_SLOTS));
		CsegSlotView view;
		must(cseg_cursor_seek(cursor.get(), slot, 7, &view, &err), err);
		Model seen;
		add_view(seen, view, slot);
		const Model wanted = of_slot(model, slot);
		ASSERT_EQ(seen, wanted);
	}
	CsegSlotView view;
	EXPECT_EQ(cseg_cursor_gather(cursor.get(), 0, 7, &view, &err), CSEG_BUG) << "in the midst of seeking";
	EXPECT_EQ(cseg_cursor_seek(cursor.get(), 0, 1, &view, &err), CSEG_BUG) << "other measures";
	EXPECT_EQ(cseg_cursor_seek(cursor.get(), 64, 7, &view, &err), CSEG_BUG);
}

TEST(CellCursor, GathersOneSlot) {
	Random r(6);
	Model model;
	const CellPtr cell = usual_cell(r, 300, 7, 40, &model);
	CsegError err;
	CsegCursor *raw = nullptr;
	must(cseg_cursor_new(&raw, cell.get(), &err), err);
	const std::unique_ptr<CsegCursor, Free> cursor(raw);
	for (int i = 0; i < 200; i++) {
		const auto slot = static_cast<uint8_t>(r.below(CSEG_SLOTS));
		CsegSlotView view;
		must(cseg_cursor_gather(cursor.get(), slot, 7, &view, &err), err);
		Model seen;
		add_view(seen, view, slot);
		const Model wanted = of_slot(model, slot);
		ASSERT_EQ(seen, wanted);
		ASSERT_EQ(view.n_entries, view.n);
		must(cseg_cursor_gather(cursor.get(), slot, 2, &view, &err), err);
		ASSERT_EQ(view.n, wanted.size());
		ASSERT_EQ(view.value[0], nullptr);
	}
	CsegSlotView view;
	EXPECT_EQ(cseg_cursor_gather(cursor.get(), 64, 7, &view, &err), CSEG_BUG);
}

// ---- arrays and members ---------------------------------------------------------------------------------------

// What the arrays say of a row, read as core.h describes them.
std::optional<Text> row_of(const CsegArrays &a, uint32_t entry, unsigned slot) {
	if (!(a.mask[entry] >> slot & 1))
		return std::nullopt;
	Text text;
	for (unsigned m = 0; m < CSEG_MEASURES; m++) {
		int64_t num = a.first_num[m][entry];
		uint8_t tag = a.first_tag[m][entry];
		for (uint32_t e = entry == 0 ? 0 : a.event_end[entry - 1]; e < a.event_end[entry]; e++)
			if ((a.event_key[e] & 3u) == m && a.event_key[e] >> 2 <= static_cast<int>(slot)) {
				num = a.event_num[e];
				tag = a.event_tag[e];
			}
		CsegValue v{};
		v.kind = tag & 7u;
		v.scale = tag >> 3;
		if (v.kind == CSEG_WIDE) {
			v.wide = a.pool + (static_cast<uint64_t>(num) >> 32);
			v.wide_len = static_cast<uint32_t>(num);
		} else {
			v.mantissa = num;
		}
		text[m] = text_of(v);
	}
	return text;
}

CsegArrays arrays_of(const CellPtr &cell) {
	CsegArrays a;
	CsegError err;
	must(cseg_cell_arrays(cell.get(), &a, &err), err);
	return a;
}

TEST(CellArrays, OfAnEmptyCell) {
	const CsegArrays a = arrays_of(make_cell());
	EXPECT_EQ(a.n_entries, 0u);
	EXPECT_EQ(a.n_events, 0u);
}

TEST(CellArrays, HoldEveryRow) {
	const std::string long_number = "123456789012345678901";
	const CellPtr cell = make_cell();
	Random random(11);
	Model model;
	for (int i = 0; i < 3000; i++) {
		const unsigned low = random.below(500);
		const unsigned slot = random.below(CSEG_SLOTS);
		Row r = row(static_cast<int64_t>(random.below(3)), static_cast<int64_t>(random.below(5)));
		if (random.below(10) == 0)
			r.v[CSEG_M_REVENUE] = random.below(2) == 0 ? wide(long_number) : other(CSEG_NULL);
		update(cell, low, slot, r);
		model[{static_cast<uint16_t>(low), static_cast<uint8_t>(slot)}] = text_of(r.v);
	}
	const CsegArrays a = arrays_of(cell);
	Model seen;
	for (uint32_t i = 0; i < a.n_entries; i++)
		for (unsigned slot = 0; slot < CSEG_SLOTS; slot++)
			if (const auto text = row_of(a, i, slot))
				seen[{a.low[i], static_cast<uint8_t>(slot)}] = *text;
	EXPECT_EQ(seen, model);
	EXPECT_EQ(a.event_end[a.n_entries - 1], a.n_events);
}

TEST(CellMembers, OfSomeSlots) {
	const CellPtr cell = make_cell();
	insert(cell, 0, 0, row(1, 1));
	insert(cell, 63, 63, row(1, 1));
	insert(cell, 64, 1, row(1, 1));
	insert(cell, 64, 2, row(1, 1));
	insert(cell, 32767, 2, row(1, 1));
	std::vector<uint64_t> bits(CSEG_MEMBER_WORDS);
	std::vector<uint64_t> expected(CSEG_MEMBER_WORDS);
	CsegError err;
	must(cseg_cell_members(cell.get(), 0, bits.data(), &err), err);
	EXPECT_EQ(bits, expected);
	must(cseg_cell_members(cell.get(), UINT64_C(1) << 63 | 1, bits.data(), &err), err);
	expected[0] = UINT64_C(1) << 63 | 1;
	EXPECT_EQ(bits, expected);
	// Adds to what is there.
	bits[7] = expected[7] = 4;
	must(cseg_cell_members(cell.get(), 6, bits.data(), &err), err);
	expected[1] = 1;
	expected[CSEG_MEMBER_WORDS - 1] = UINT64_C(1) << 63;
	EXPECT_EQ(bits, expected);
}

TEST(CellCodec, ManyBlocksAndRanges) {
	Random r(11);
	Model model;
	const CellPtr cell = usual_cell(r, 3000, 10, 30, &model);
	const Bytes bytes = encode(cell);
	EXPECT_EQ(contents(decode(bytes)), model);
	for (int i = 0; i < 20; i++) {
		const auto first = static_cast<uint16_t>(r.below(32768));
		const auto last = static_cast<uint16_t>(std::min<uint64_t>(first + r.below(900), 32767));
		CsegCell *raw = nullptr;
		CsegError err;
		must(cseg_cell_decode_range(&raw, bytes.data(), bytes.size(), first, last, &err), err);
		const CellPtr part(raw);
		check(part);
		const Model got = contents(part);
		EXPECT_LT(got.size(), model.size() / 2);
		for (auto at = model.lower_bound({first, 0}); at != model.end() && at->first.first <= last; ++at) {
			const auto found = got.find(at->first);
			ASSERT_NE(found, got.end());
			ASSERT_EQ(found->second, at->second);
		}
	}
}

TEST(CellCodec, FullContainer) {
	const CellPtr cell = make_cell();
	for (unsigned low = 0; low < CSEG_CONTAINER_SIZE; low++)
		insert(cell, low, 1, row(1, 100));
	const Bytes bytes = encode(cell);
	EXPECT_LT(bytes.size(), 4000u);
	EXPECT_EQ(contents(decode(bytes)).size(), static_cast<size_t>(CSEG_CONTAINER_SIZE));
}

// ---- pinned bytes --------------------------------------------------------------------------------------------

std::string hex(const Bytes &bytes) {
	std::string s;
	for (const uint8_t b : bytes) {
		char two[3];
		std::snprintf(two, sizeof two, "%02x", b);
		s += two;
	}
	return s;
}

TEST(CellGolden, Empty) {
	EXPECT_EQ(hex(encode(make_cell())), "430100007e64980800");
}

TEST(CellGolden, OneRow) {
	const CellPtr cell = make_cell();
	insert(cell, 1000, 7, row(3, 12345));
	EXPECT_EQ(hex(encode(cell)), "4301000021c6afa3010707045788bb38680e");
}

TEST(CellGolden, Mixed) {
	const CellPtr cell = make_cell();
	insert(cell, 1, 0, row(0, 0));
	insert(cell, 1, 1, row(1, 995));
	insert(cell, 1, 5, row(1, 995));
	insert(cell, 2, 1, {{other(CSEG_NULL), other(CSEG_NAN), wide("x")}});
	remove(cell, 9, 2, true);
	remove(cell, 9, 3);
	EXPECT_EQ(hex(encode(cell)), "43010300002bdcaf0340230000000000000002030f0a0fb5fced56f3558695c5a8d6f810231e");
}

TEST(CellGolden, Blocks) {
	const CellPtr cell = make_cell();
	for (unsigned i = 0; i < 600; i++)
		for (unsigned slot = i % 3; slot < 4; slot++)
			insert(cell, i * 2, slot, row(i % 5, i * 7 + (slot > 2 ? i % 2 : 0)));
	const Bytes bytes = encode(cell);
	const uint32_t sum = cseg_checksum(bytes.data(), bytes.size(), 0);
	EXPECT_EQ(hex({bytes.begin(), bytes.begin() + 16}) + " " + std::to_string(bytes.size()) + " " +
				  std::to_string(sum),
			  "43010000e7a4793ed804000300fe03b3 1342 193439193");
}

// ---- damage --------------------------------------------------------------------------------------------------

std::vector<Bytes> samples() {
	std::vector<Bytes> all;
	const CellPtr one = make_cell();
	insert(one, 77, 3, row(1, 999));
	all.push_back(encode(one));
	Random r(3);
	const CellPtr mixed = make_cell();
	Model state;
	for (unsigned low = 0; low < 60; low++) {
		remove(mixed, low * 3 + 1, static_cast<unsigned>(r.below(60)), r.one_in(2));
		for (unsigned slot = 0; slot < 50; slot += 2)
			state[{static_cast<uint16_t>(low * 3), static_cast<uint8_t>(slot)}] = Text();
	}
	NaiveDelta naive(state);
	random_changes(r, mixed, naive, 400, 60, 50);
	all.push_back(encode(mixed));
	Model ignored;
	all.push_back(encode(usual_cell(r, 700, 3, 20, &ignored)));
	return all;
}

// Every byte of small samples and of directories; of the blocks of large ones (slow under sanitizers) some.
size_t stride(const Bytes &bytes, size_t at) {
	constexpr size_t kSmall = 100;
	constexpr size_t kSteps = 150;
	return at < kSmall ? 1 : 1 + bytes.size() / kSteps;
}

// Damaged bytes give an error, or a cell that is sound.
void expect_safe(const Bytes &bytes, bool must_fail) {
	CsegCell *raw = nullptr;
	CsegError err;
	const CsegCode code = cseg_cell_decode(&raw, bytes.data(), bytes.size(), &err);
	if (code == CSEG_OK) {
		const CellPtr cell(raw);
		EXPECT_FALSE(must_fail);
		check(cell);
		EXPECT_EQ(encode(decode(encode(cell))), encode(cell));
	} else {
		EXPECT_EQ(code, CSEG_CORRUPT) << err.msg;
	}
	if (cseg_cell_decode_range(&raw, bytes.data(), bytes.size(), 10, 20, &err) == CSEG_OK)
		check(CellPtr(raw));
}

TEST(CellDamage, EveryByte) {
	for (const Bytes &good : samples())
		for (size_t i = 0; i < good.size(); i += stride(good, i))
			for (const uint8_t flip : {0x01, 0x80, 0xFF}) {
				Bytes bad = good;
				bad[i] ^= flip;
				expect_safe(bad, true);
				cell_bytes::fix_checksums(bad);
				expect_safe(bad, false);
			}
}

TEST(CellDamage, EveryLength) {
	for (const Bytes &good : samples())
		for (size_t n = 0; n < good.size(); n += stride(good, n)) {
			Bytes bad(good.begin(), good.begin() + static_cast<ptrdiff_t>(n));
			expect_safe(bad, true);
			cell_bytes::fix_checksums(bad);
			expect_safe(bad, true);
		}
}

TEST(CellDamage, RangeReadsItsOwnBlocks) {
	Random r(4);
	Model model;
	const Bytes good = encode(usual_cell(r, 700, 3, 20, &model));
	for (size_t i = 0; i < good.size(); i += stride(good, i)) {
		Bytes bad = good;
		bad[i] ^= 0x10;
		CsegCell *raw = nullptr;
		CsegError err;
		if (cseg_cell_decode_range(&raw, bad.data(), bad.size(), 0, 0, &err) != CSEG_OK)
			continue;
		for (const auto &[at, values] : contents(CellPtr(raw)))
			ASSERT_EQ(model[at], values) << "byte " << i;
	}
}

} // namespace
