// batch_test.cpp
//    The write buffer: interning, growth of the dictionary, settling into cells.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "core/core.h"

namespace {

struct Free {
	void operator()(CsegBatch *b) const { cseg_batch_free(b); }
	void operator()(CsegDict *d) const { cseg_dict_free(d); }
};
using BatchPtr = std::unique_ptr<CsegBatch, Free>;
using DictPtr = std::unique_ptr<CsegDict, Free>;
using Key = std::tuple<uint32_t, uint32_t, uint8_t>; // group, ordinal, slot

void must(CsegCode code, const CsegError &err) {
	ASSERT_EQ(code, CSEG_OK) << err.msg;
}

BatchPtr make_batch() {
	CsegBatch *b = nullptr;
	CsegError err;
	must(cseg_batch_new(&b, &err), err);
	return BatchPtr(b);
}

DictPtr make_dict() {
	CsegDict *d = nullptr;
	CsegError err;
	must(cseg_dict_new(&d, 0, &err), err);
	return DictPtr(d);
}

CsegValue decimal(int64_t mantissa, uint8_t scale = 0) {
	CsegValue v{};
	v.mantissa = mantissa;
	v.kind = CSEG_DECIMAL;
	v.scale = scale;
	return v;
}

struct Row {
	CsegValue v[CSEG_MEASURES];
};

Row row(int64_t n) {
	return {{decimal(1), decimal(n), decimal(n * 7, 2)}};
}

uint32_t intern(const BatchPtr &b, const std::string &text) {
	uint32_t who = 0;
	CsegError err;
	must(cseg_batch_intern(b.get(), reinterpret_cast<const uint8_t *>(text.data()), text.size(), &who, &err), err);
	return who;
}

void insert(const BatchPtr &b, uint32_t group, uint8_t slot, uint32_t who, const Row &r) {
	CsegError err;
	must(cseg_batch_insert(b.get(), group, slot, who, r.v, &err), err);
}

void settle(const BatchPtr &b) {
	CsegError err;
	must(cseg_batch_settle(b.get(), nullptr, &err), err);
}

uint32_t find(const DictPtr &d, const std::string &text) {
	bool found = false;
	uint32_t ordinal = 0;
	CsegError err;
	must(cseg_dict_find(d.get(), reinterpret_cast<const uint8_t *>(text.data()), text.size(), &found, &ordinal, &err),
		 err);
	EXPECT_TRUE(found) << text;
	return ordinal;
}

uint32_t grow(const BatchPtr &b, const DictPtr &d) {
	const uint8_t *bytes;
	size_t len;
	uint32_t count = 0;
	CsegError err;
	must(cseg_batch_growth(b.get(), d.get(), &bytes, &len, &count, &err), err);
	if (count != 0)
		must(cseg_dict_add(d.get(), cseg_dict_next(d.get()), bytes, len, &err), err);
	must(cseg_batch_resolve(b.get(), d.get(), &err), err);
	return count;
}

std::map<Key, std::pair<uint8_t, int64_t>> contents(const BatchPtr &b) {
	std::map<Key, std::pair<uint8_t, int64_t>> all;
	uint64_t last = 0;
	for (uint32_t i = 0; i < cseg_batch_cells(b.get()); i++) {
		uint32_t group;
		uint32_t container;
		CsegCell *cell = cseg_batch_cell(b.get(), i, &group, &container);
		const uint64_t order = static_cast<uint64_t>(group) << 32 | container;
		EXPECT_TRUE(i == 0 || order > last);
		last = order;
		CsegError err;
		must(cseg_cell_check(cell, &err), err);
		for (uint32_t low = 0; low < CSEG_CONTAINER_SIZE; low++) {
			uint64_t mask = 0;
			must(cseg_cell_mask(cell, static_cast<uint16_t>(low), &mask, &err), err);
			for (uint8_t slot = 0; mask != 0; slot++, mask >>= 1) {
				if (!(mask & 1))
					continue;
				bool found;
				CsegValue v[CSEG_MEASURES];
				must(cseg_cell_get(cell, static_cast<uint16_t>(low), slot, &found, v, &err), err);
				all[{group, container * CSEG_CONTAINER_SIZE + low, slot}] = {v[1].kind, v[1].mantissa};
			}
		}
	}
	return all;
}

std::set<Key> removals(const BatchPtr &b) {
	std::set<Key> all;
	for (uint32_t i = 0; i < cseg_batch_cells(b.get()); i++) {
		uint32_t group;
		uint32_t container;
		CsegCell *cell = cseg_batch_cell(b.get(), i, &group, &container);
		for (uint32_t low = 0; low < CSEG_CONTAINER_SIZE; low++)
			for (uint8_t slot = 0; slot < 9; slot++) {
				bool removed = false;
				bool moved = false;
				CsegError err;
				must(cseg_cell_removed(cell, static_cast<uint16_t>(low), slot, &removed, &moved, &err), err);
				if (removed)
					all.insert({group, container * CSEG_CONTAINER_SIZE + low, slot});
			}
	}
	return all;
}

TEST(Batch, InternGrowResolve) {
	const BatchPtr b = make_batch();
	const DictPtr d = make_dict();
	const uint32_t ten = intern(b, "10");
	EXPECT_EQ(ten & CSEG_PENDING, CSEG_PENDING);
	EXPECT_EQ(intern(b, "10"), ten);
	insert(b, 3, 1, ten, row(10));
	insert(b, 3, 1, intern(b, "9"), row(9));
	insert(b, 3, 1, intern(b, "a@b"), row(1));
	insert(b, 3, 1, intern(b, ""), row(0));
	EXPECT_EQ(cseg_batch_pending(b.get()), 4u);
	CsegError err;
	EXPECT_EQ(cseg_batch_settle(b.get(), nullptr, &err), CSEG_BUG) << "identities are pending";
	EXPECT_EQ(cseg_batch_resolve(b.get(), d.get(), &err), CSEG_BUG) << "the dictionary lacks them";
	EXPECT_EQ(grow(b, d), 4u);
	EXPECT_EQ(cseg_batch_pending(b.get()), 0u);
	settle(b);
	EXPECT_LT(find(d, "9"), find(d, "10")) << "numbers by value";
	EXPECT_LT(find(d, "10"), find(d, "a@b"));
	const auto all = contents(b);
	EXPECT_EQ(all.size(), 4u);
	EXPECT_EQ(all.at({3, find(d, "9"), 1}).second, 9);
	EXPECT_EQ(all.at({3, find(d, ""), 1}).second, 0);
	insert(b, 3, 2, intern(b, "9"), row(90));
	EXPECT_EQ(grow(b, d), 0u) << "all known";
	settle(b);
	EXPECT_EQ(contents(b).at({3, find(d, "9"), 2}).second, 90);
}

void insert_named(const BatchPtr &b, uint32_t group, uint8_t slot, const std::string &name, const Row &r) {
	CsegError err;
	must(cseg_batch_insert_named(b.get(), group, slot, reinterpret_cast<const uint8_t *>(name.data()), name.size(),
								 r.v, &err),
		 err);
}

void lookup(const BatchPtr &b, const DictPtr &d) {
	CsegError err;
	must(cseg_batch_lookup(b.get(), d.get(), &err), err);
	EXPECT_EQ(cseg_batch_waiting(b.get()), 0u);
}

// Adds a record of these names, as another session would have.
void add_record(const DictPtr &d, const std::vector<std::string> &names) {
	const BatchPtr other = make_batch();
	for (const std::string &name : names)
		intern(other, name);
	grow(other, d);
}

std::vector<std::string> many_names(char first, int n) {
	std::vector<std::string> names;
	for (int i = 0; i < n; i++) {
		names.push_back(first + std::to_string(i) + "@example.org");
		names.push_back(std::to_string(int64_t{first} * 1000000 + i * 3));
	}
	return names;
}

TEST(Batch, NamedRowsWaitForTheirLookup) {
	const BatchPtr b = make_batch();
	const DictPtr d = make_dict();
	std::vector<std::string> names;
	for (const char first : {'m', 'a', 'x'}) {
		const std::vector<std::string> some = many_names(first, first == 'm' ? 5000 : 100);
		add_record(d, some);
		names.insert(names.end(), some.begin(), some.end());
	}
	const std::vector<std::string> fresh = many_names('n', 40);
	names.insert(names.end(), fresh.begin(), fresh.end());
	std::shuffle(names.begin(), names.end(), std::mt19937_64(4));
	for (size_t i = 0; i < names.size(); i++) {
		insert_named(b, 5, 1, names[i], row(static_cast<int64_t>(i)));
		insert_named(b, 5, 2, names[i], row(static_cast<int64_t>(i) + 1));
		if (i == names.size() / 2)
			lookup(b, d);
	}
	CsegError err;
	EXPECT_EQ(cseg_batch_settle(b.get(), nullptr, &err), CSEG_BUG) << "rows wait";
	EXPECT_EQ(cseg_batch_staged(b.get()), 2 * names.size());
	lookup(b, d);
	EXPECT_EQ(cseg_batch_pending(b.get()), fresh.size());
	EXPECT_EQ(cseg_batch_settle(b.get(), nullptr, &err), CSEG_BUG) << "identities are pending";
	EXPECT_EQ(grow(b, d), fresh.size());
	settle(b);
	EXPECT_EQ(cseg_batch_staged(b.get()), 0u);
	const auto all = contents(b);
	EXPECT_EQ(all.size(), 2 * names.size());
	for (size_t i = 0; i < names.size(); i++) {
		EXPECT_EQ(all.at({5, find(d, names[i]), 1}).second, static_cast<int64_t>(i));
		EXPECT_EQ(all.at({5, find(d, names[i]), 2}).second, static_cast<int64_t>(i) + 1);
	}
}

TEST(Batch, SomebodyElseAddsWhatIsPending) {
	const BatchPtr b = make_batch();
	const DictPtr d = make_dict();
	add_record(d, many_names('a', 100));
	const std::vector<std::string> names = many_names('b', 100);
	for (const std::string &name : names)
		insert_named(b, 1, 1, name, row(1));
	lookup(b, d);
	EXPECT_EQ(cseg_batch_pending(b.get()), names.size());
	add_record(d, {names.begin(), names.end() - 1});
	EXPECT_EQ(grow(b, d), 1u) << "but for the last one they are known by now";
	settle(b);
	EXPECT_EQ(contents(b).size(), names.size());
	// Interned without a lookup: all records count.
	insert_named(b, 1, 2, "new", row(1));
	lookup(b, d);
	insert(b, 1, 2, intern(b, names[0]), row(1));
	EXPECT_EQ(grow(b, d), 1u);
	settle(b);
	EXPECT_EQ(contents(b).count({1, find(d, names[0]), 2}), 1u);
	EXPECT_EQ(cseg_dict_count(d.get()), 401u);
}

TEST(Batch, NothingOvertakesRowsThatWait) {
	const BatchPtr b = make_batch();
	const DictPtr d = make_dict();
	add_record(d, {"1", "2"});
	CsegError err;
	const Row updated = row(7);
	insert_named(b, 1, 1, "1", row(1));
	must(cseg_batch_update(b.get(), 1, 1, find(d, "1"), updated.v, &err), err);
	insert(b, 1, 1, find(d, "2"), row(2));
	EXPECT_TRUE(cseg_batch_touched(b.get(), 1, 1, find(d, "1")));
	insert_named(b, 1, 1, "3", row(3));
	lookup(b, d);
	must(cseg_batch_update(b.get(), 1, 1, find(d, "2"), updated.v, &err), err);
	EXPECT_EQ(grow(b, d), 1u);
	settle(b);
	const std::map<Key, std::pair<uint8_t, int64_t>> wanted = {{{1, find(d, "1"), 1}, {CSEG_DECIMAL, 7}},
															   {{1, find(d, "2"), 1}, {CSEG_DECIMAL, 7}},
															   {{1, find(d, "3"), 1}, {CSEG_DECIMAL, 3}}};
	EXPECT_EQ(contents(b), wanted);
}

TEST(Batch, Touched) {
	const BatchPtr b = make_batch();
	CsegError err;
	const Row r = row(1);
	insert(b, 7, 1, 5, r);
	must(cseg_batch_update(b.get(), 7, 2, 5, r.v, &err), err);
	must(cseg_batch_remove(b.get(), 8, 3, 6, true, &err), err);
	const auto expect = [&] {
		EXPECT_FALSE(cseg_batch_touched(b.get(), 7, 1, 5));
		EXPECT_TRUE(cseg_batch_touched(b.get(), 7, 2, 5));
		EXPECT_FALSE(cseg_batch_touched(b.get(), 8, 2, 5));
		EXPECT_TRUE(cseg_batch_touched(b.get(), 8, 3, 6));
		EXPECT_FALSE(cseg_batch_touched(b.get(), 9, 3, 6));
	};
	expect();
	settle(b);
	expect();
	bool moved = false;
	bool removed = false;
	uint32_t group;
	uint32_t container;
	must(cseg_cell_removed(cseg_batch_cell(b.get(), 1, &group, &container), 6, 3, &removed, &moved, &err), err);
	EXPECT_EQ(group, 8u);
	EXPECT_TRUE(removed && moved);
	EXPECT_FALSE(cseg_batch_empty(b.get()));
	cseg_batch_clear(b.get());
	EXPECT_TRUE(cseg_batch_empty(b.get()));
	EXPECT_FALSE(cseg_batch_touched(b.get(), 7, 2, 5));
}

TEST(Batch, LargeAndWideValues) {
	const BatchPtr b = make_batch();
	const std::string bytes = "a very wide number";
	CsegValue wide{};
	wide.wide = reinterpret_cast<const uint8_t *>(bytes.data());
	wide.wide_len = static_cast<uint32_t>(bytes.size());
	wide.kind = CSEG_WIDE;
	insert(b, 1, 0, 1, {{decimal(INT64_MIN, 3), wide, wide}});
	insert(b, 1, 1, 1, {{decimal(INT32_MAX), decimal(INT64_MAX), decimal(INT64_MAX, 18)}});
	settle(b);
	uint32_t group;
	uint32_t container;
	CsegCell *cell = cseg_batch_cell(b.get(), 0, &group, &container);
	CsegValue v[CSEG_MEASURES];
	bool found;
	CsegError err;
	must(cseg_cell_get(cell, 1, 0, &found, v, &err), err);
	EXPECT_EQ(v[0].mantissa, INT64_MIN);
	EXPECT_EQ(v[0].scale, 3);
	EXPECT_EQ(std::string(reinterpret_cast<const char *>(v[1].wide), v[1].wide_len), bytes);
	EXPECT_EQ(std::string(reinterpret_cast<const char *>(v[2].wide), v[2].wide_len), bytes);
	must(cseg_cell_get(cell, 1, 1, &found, v, &err), err);
	EXPECT_EQ(v[0].mantissa, INT32_MAX);
	EXPECT_EQ(v[1].mantissa, INT64_MAX);
}

// What the changes of one row come to: a removal means the row of the state, never one that the batch inserts.
struct NaiveRow {
	bool in_state = false;
	bool inserted = false;
	bool removed = false;
	std::optional<int64_t> own;     // of the row that the batch inserts
	std::optional<int64_t> updated; // of the state's row

	bool live() const { return in_state && !removed; }
	std::optional<int64_t> set() const { return inserted ? own : removed ? std::nullopt : updated; }
};

// A single row can have megabytes, so it is not rows alone that say when memory is full.
TEST(Batch, CountsLongTextsAndWideValues) {
	constexpr size_t kLong = 1000000;
	const BatchPtr b = make_batch();
	const DictPtr d = make_dict();
	const std::string known(kLong, 'k');
	const std::string unknown(kLong, 'u');
	intern(b, known);
	grow(b, d);
	EXPECT_EQ(cseg_batch_staged_long(b.get()), 0u);
	insert_named(b, 1, 1, known, row(1));
	insert_named(b, 1, 1, unknown, row(2));
	EXPECT_GE(cseg_batch_staged_long(b.get()), 2 * kLong);
	lookup(b, d);
	EXPECT_GE(cseg_batch_staged_long(b.get()), kLong);
	EXPECT_LT(cseg_batch_staged_long(b.get()), 2 * kLong);
	grow(b, d);
	EXPECT_EQ(cseg_batch_staged_long(b.get()), 0u);
	const std::vector<uint8_t> digits(kLong, 1);
	Row wide = row(3);
	wide.v[2] = {};
	wide.v[2].kind = CSEG_WIDE;
	wide.v[2].wide = digits.data();
	wide.v[2].wide_len = kLong;
	insert(b, 1, 2, find(d, known), wide);
	EXPECT_GE(cseg_batch_staged_long(b.get()), kLong);
	settle(b);
	EXPECT_EQ(cseg_batch_staged_long(b.get()), 0u);
}

TEST(Batch, RandomRowsOverManySettles) {
	const BatchPtr b = make_batch();
	std::mt19937_64 rng(2);
	std::map<Key, NaiveRow> model;
	std::map<std::string, int> kinds; // histories of a row, to see that every kind occurs
	std::map<Key, std::string> history;
	CsegError err;
	for (int i = 0; i < 30000; i++) {
		const auto group = static_cast<uint32_t>(rng() % 3 * 1000000007);
		const auto slot = static_cast<uint8_t>(rng() % 9);
		const auto who = static_cast<uint32_t>(rng() % 3 * 40000 + rng() % 100);
		const Key key{group, who, slot};
		const Row r = row(static_cast<int64_t>(rng() % 100));
		const int64_t value = r.v[1].mantissa;
		const bool first = rng() % 2 == 0;
		NaiveRow &naive = model[key];
		naive.in_state = who % 2 == 0;
		if (naive.live() && rng() % 3 == 0) {
			must(cseg_batch_remove(b.get(), group, slot, who, false, &err), err);
			naive.removed = true;
			history[key] += 'r';
		} else if (!naive.inserted && (first || !naive.live())) {
			insert(b, group, slot, who, r);
			naive.inserted = true;
			naive.own = value;
			history[key] += 'i';
		} else {
			must(cseg_batch_update(b.get(), group, slot, who, r.v, &err), err);
			(naive.inserted ? naive.own : naive.updated) = value;
			history[key] += 'u';
		}
		if (i % 7000 == 0) {
			settle(b);
			EXPECT_EQ(cseg_batch_staged(b.get()), 0u);
		}
	}
	settle(b);
	std::map<Key, std::pair<uint8_t, int64_t>> wanted;
	std::set<Key> gone;
	for (const auto &[key, naive] : model) {
		if (naive.set())
			wanted[key] = {CSEG_DECIMAL, *naive.set()};
		if (naive.removed)
			gone.insert(key);
		kinds[history[key]]++;
	}
	EXPECT_EQ(contents(b), wanted);
	EXPECT_EQ(removals(b), gone);
	for (const char *kind : {"ir", "ri", "ur", "uir", "uri", "iur", "iu"})
		EXPECT_GT(kinds[kind], 0) << kind;
}

TEST(Batch, InterruptedSettleGoesOn) {
	const BatchPtr b = make_batch();
	for (uint32_t who = 0; who < 100000; who += 7)
		insert(b, 1, 1, who, row(who));
	volatile int cancel = 0, terminate = 1;
	const CsegStop stop = {&cancel, &terminate};
	CsegError err;
	EXPECT_EQ(cseg_batch_settle(b.get(), &stop, &err), CSEG_CANCELLED);
	terminate = 0;
	cancel = 1;
	EXPECT_EQ(cseg_batch_settle(b.get(), &stop, &err), CSEG_CANCELLED);
	cancel = 0;
	EXPECT_EQ(cseg_batch_settle(b.get(), &stop, &err), CSEG_OK);
	EXPECT_EQ(contents(b).size(), 100000u / 7 + 1);
}

TEST(Batch, RefusesMisuse) {
	const BatchPtr b = make_batch();
	CsegError err;
	const Row r = row(1);
	EXPECT_EQ(cseg_batch_insert(b.get(), 1, 64, 1, r.v, &err), CSEG_BUG);
	EXPECT_EQ(cseg_batch_insert(b.get(), 1, 1, CSEG_PENDING, r.v, &err), CSEG_BUG);
	EXPECT_EQ(cseg_batch_insert(b.get(), 1, 1, CSEG_MAX_ORDINAL + 1, r.v, &err), CSEG_BUG);
	EXPECT_TRUE(cseg_batch_empty(b.get()));
}

} // namespace
