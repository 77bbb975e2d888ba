// change_test.cpp
//    Changes put together from parts, and their bytes in temporary files.
#include <gtest/gtest.h>

#include <array>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/core.h"
#include "core/touched.hpp"

namespace {

struct Free {
	void operator()(CsegCell *cell) const { cseg_cell_free(cell); }
};
using CellPtr = std::unique_ptr<CsegCell, Free>;
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

Bytes pack(const CellPtr &change) {
	const uint8_t *bytes = nullptr;
	size_t len = 0;
	CsegError err;
	must(cseg_change_pack(change.get(), &bytes, &len, &err), err);
	return Bytes(bytes, bytes + len);
}

CellPtr unpack(const Bytes &bytes) {
	CsegCell *cell = nullptr;
	CsegError err;
	must(cseg_change_unpack(&cell, bytes.data(), bytes.size(), &err), err);
	return CellPtr(cell);
}

void combine(const CellPtr &change, const CellPtr &later) {
	CsegError err;
	must(cseg_cell_combine(change.get(), later.get(), &err), err);
	must(cseg_cell_check(change.get(), &err), err);
}

struct Change {
	enum Kind { insert, update, remove, move } kind;
	uint16_t low;
	uint8_t slot;
	int64_t value;
};

void stage(const CellPtr &cell, const Change &c) {
	static const std::string far = "a number that is wide";
	std::array<CsegValue, CSEG_MEASURES> v{};
	v[0].mantissa = c.value % 3;
	v[1].mantissa = c.value;
	v[2].kind = static_cast<uint8_t>(c.value % 5 == 0 ? CSEG_WIDE : c.value % 7 == 0 ? CSEG_NULL : CSEG_DECIMAL);
	if (v[2].kind == CSEG_WIDE) {
		v[2].wide = reinterpret_cast<const uint8_t *>(far.data());
		v[2].wide_len = static_cast<uint32_t>(1 + static_cast<size_t>(c.value) % far.size());
	} else if (v[2].kind == CSEG_DECIMAL) {
		v[2].mantissa = c.value * 7;
		v[2].scale = 2;
	}
	CsegError err;
	if (c.kind == Change::insert)
		must(cseg_cell_insert(cell.get(), c.low, c.slot, v.data(), &err), err);
	else if (c.kind == Change::update)
		must(cseg_cell_update(cell.get(), c.low, c.slot, v.data(), &err), err);
	else
		must(cseg_cell_remove(cell.get(), c.low, c.slot, c.kind == Change::move, &err), err);
}

// What a statement does not do: to take away a row that it has updated.
std::vector<Change> random_changes(std::mt19937 &random, size_t n, unsigned lows, unsigned slots) {
	std::vector<Change> changes;
	std::set<std::pair<uint16_t, uint8_t>> updated;
	for (size_t i = 0; i < n; i++) {
		Change c{static_cast<Change::Kind>(random() % 4), static_cast<uint16_t>(random() % lows),
				 static_cast<uint8_t>(random() % slots), static_cast<int64_t>(random() % 1000)};
		if (c.kind >= Change::remove && updated.count({c.low, c.slot}) != 0)
			c.kind = Change::insert;
		if (c.kind == Change::update)
			updated.insert({c.low, c.slot});
		changes.push_back(c);
	}
	return changes;
}

TEST(Change, PartsMakeTheWhole) {
	for (unsigned seed = 1; seed <= 300; seed++) {
		std::mt19937 random(seed);
		const unsigned lows = seed % 3 == 0 ? 1 : seed % 3 == 1 ? 7 : CSEG_CONTAINER_SIZE;
		const unsigned slots = seed % 2 ? 2 : CSEG_SLOTS;
		const CellPtr whole = make_cell();
		std::vector<CellPtr> parts;
		for (const Change &c : random_changes(random, 1 + random() % 400, lows, slots)) {
			if (parts.empty() || random() % 20 == 0)
				parts.push_back(make_cell());
			stage(whole, c);
			stage(parts.back(), c);
		}
		const Bytes expected = pack(whole);
		ASSERT_EQ(pack(unpack(expected)), expected) << "seed " << seed;
		// In whatever order neighbours are put together.
		while (parts.size() > 1) {
			const size_t at = random() % (parts.size() - 1);
			if (random() % 2)
				parts[at + 1] = unpack(pack(parts[at + 1]));
			combine(parts[at], parts[at + 1]);
			parts.erase(parts.begin() + static_cast<ptrdiff_t>(at) + 1);
		}
		ASSERT_EQ(pack(parts[0]), expected) << "seed " << seed;
	}
}

TEST(Change, RefusesDamagedBytes) {
	std::mt19937 random(1);
	const CellPtr change = make_cell();
	for (const Change &c : random_changes(random, 50, 30, 4))
		stage(change, c);
	const Bytes good = pack(change);
	CsegCell *cell = nullptr;
	CsegError err;
	for (size_t len = 0; len < good.size(); len++)
		EXPECT_EQ(cseg_change_unpack(&cell, good.data(), len, &err), CSEG_CORRUPT) << len;
	Bytes longer = good;
	longer.push_back(0);
	EXPECT_EQ(cseg_change_unpack(&cell, longer.data(), longer.size(), &err), CSEG_CORRUPT);
}

TEST(Change, TouchedRowsAreFewBytes) {
	cseg::TouchedRows touched;
	std::set<std::array<uint32_t, 3>> model;
	std::mt19937 random(1);
	for (int i = 0; i < 200000; i++) {
		const uint32_t group = random() % 3;
		const auto slot = static_cast<uint8_t>(random() % 2 ? 0 : 63);
		const uint32_t ordinal = random() % (group == 0 ? 70000 : 2000000000);
		touched.add(group, slot, ordinal);
		model.insert({group, slot, ordinal});
	}
	for (const auto &[group, slot, ordinal] : model)
		ASSERT_TRUE(touched.has(group, static_cast<uint8_t>(slot), ordinal));
	for (int i = 0; i < 200000; i++) {
		const uint32_t group = random() % 3;
		const uint32_t ordinal = random() % 70000;
		ASSERT_EQ(touched.has(group, 63, ordinal), model.count({group, 63, ordinal}) != 0);
	}
	cseg::TouchedRows all;
	for (uint32_t ordinal = 0; ordinal < 1000000; ordinal++)
		all.add(7, 5, ordinal);
	EXPECT_LE(all.bytes(), 1000000u / 8 + 10000);
}

} // namespace
