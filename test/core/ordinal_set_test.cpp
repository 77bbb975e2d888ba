// ordinal_set_test.cpp
//    Sets of ordinals and bitsets of containers against std::set, and the planes of a cell against its masks.
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "core/core.h"

namespace {

struct Free {
	void operator()(CsegSet *set) const { cseg_set_free(set); }
	void operator()(CsegCell *cell) const { cseg_cell_free(cell); }
};
using Set = std::unique_ptr<CsegSet, Free>;
using Cell = std::unique_ptr<CsegCell, Free>;
using Model = std::set<uint32_t>;

CsegError err;

Set new_set(const Model &members = {}) {
	CsegSet *set = nullptr;
	EXPECT_EQ(cseg_set_new(&set, &err), CSEG_OK);
	for (const uint32_t ordinal : members)
		EXPECT_EQ(cseg_set_add(set, ordinal, &err), CSEG_OK);
	return Set(set);
}

Set copy(const Set &of) {
	CsegSet *set = nullptr;
	EXPECT_EQ(cseg_set_copy(&set, of.get(), &err), CSEG_OK);
	return Set(set);
}

Model contents(const Set &set) {
	Model members;
	uint32_t container = 0;
	for (const uint64_t *bits; (bits = cseg_set_from(set.get(), &container)) != nullptr; container++) {
		bool some = false;
		for (uint32_t low = 0; low < CSEG_CONTAINER_SIZE; low++)
			if (bits[low / 64] >> (low % 64) & 1) {
				members.insert(container << CSEG_CONTAINER_BITS | low);
				some = true;
			}
		EXPECT_TRUE(some) << "an empty container is kept";
	}
	return members;
}

Model combine(CsegSetOp op, const Model &a, const Model &b) {
	Model all = a;
	all.insert(b.begin(), b.end());
	Model result;
	for (const uint32_t ordinal : all) {
		const bool x = a.count(ordinal) > 0;
		const bool y = b.count(ordinal) > 0;
		const bool wanted = op == CSEG_SET_AND   ? x && y
							: op == CSEG_SET_OR  ? x || y
							: op == CSEG_SET_XOR ? x != y
												 : x && !y;
		if (wanted)
			result.insert(ordinal);
	}
	return result;
}

Model random_members(std::mt19937 &random) {
	Model members;
	const uint32_t containers = random() % 4;
	for (uint32_t i = 0; i < containers; i++) {
		const uint32_t container = random() % 5 == 0 ? 65535 : random() % 6;
		const uint32_t n = random() % 400;
		for (uint32_t k = 0; k < n; k++)
			members.insert(std::min<uint32_t>(container << CSEG_CONTAINER_BITS | random() % 600, CSEG_MAX_ORDINAL));
	}
	return members;
}

TEST(OrdinalSet, AlgebraIsThatOfSets) {
	std::mt19937 random(7);
	for (int round = 0; round < 400; round++) {
		const Model a = random_members(random);
		const Model b = round % 5 == 0 ? a : random_members(random);
		const Set x = new_set(a);
		const Set y = new_set(b);
		EXPECT_EQ(contents(x), a);
		EXPECT_EQ(cseg_set_count(x.get()), a.size());
		const Model both = combine(CSEG_SET_AND, a, b);
		EXPECT_EQ(cseg_set_count_and(x.get(), y.get()), both.size());
		EXPECT_EQ(cseg_set_overlaps(x.get(), y.get()), !both.empty());
		EXPECT_EQ(cseg_set_includes(x.get(), y.get()), both == b);
		EXPECT_EQ(cseg_set_equal(x.get(), y.get()), a == b);
		for (const CsegSetOp op : {CSEG_SET_AND, CSEG_SET_OR, CSEG_SET_ANDNOT, CSEG_SET_XOR}) {
			const Set result = copy(x);
			ASSERT_EQ(cseg_set_apply(result.get(), op, y.get(), &err), CSEG_OK);
			EXPECT_EQ(contents(result), combine(op, a, b));
			EXPECT_TRUE(cseg_set_equal(result.get(), new_set(combine(op, a, b)).get()));
		}
		EXPECT_EQ(contents(x), a) << "a copy shares nothing";
		EXPECT_EQ(contents(y), b) << "the right side is not changed";
	}
}

TEST(OrdinalSet, OfItself) {
	const Model a = {1, 2, 70000};
	for (const CsegSetOp op : {CSEG_SET_AND, CSEG_SET_OR, CSEG_SET_ANDNOT, CSEG_SET_XOR}) {
		const Set set = new_set(a);
		ASSERT_EQ(cseg_set_apply(set.get(), op, set.get(), &err), CSEG_OK);
		EXPECT_EQ(contents(set), combine(op, a, a));
	}
}

TEST(OrdinalSet, Bounds) {
	const Set set = new_set({0, CSEG_CONTAINER_SIZE - 1, CSEG_CONTAINER_SIZE, CSEG_MAX_ORDINAL});
	EXPECT_TRUE(cseg_set_contains(set.get(), CSEG_MAX_ORDINAL));
	EXPECT_FALSE(cseg_set_contains(set.get(), 1));
	EXPECT_FALSE(cseg_set_contains(set.get(), CSEG_CONTAINER_SIZE * 5));
	EXPECT_EQ(cseg_set_add(set.get(), UINT32_C(0x80000000), &err), CSEG_BUG);
	EXPECT_EQ(cseg_set_count(set.get()), 4u);
	const uint64_t none[CSEG_MEMBER_WORDS] = {0};
	EXPECT_EQ(cseg_set_add_bits(set.get(), 9, none, &err), CSEG_OK);
	EXPECT_EQ(contents(set).size(), 4u);
	uint32_t container = 70000;
	EXPECT_EQ(cseg_set_from(set.get(), &container), nullptr);
}

TEST(MemberBits, CountsAndOperations) {
	std::mt19937_64 random(11);
	for (int round = 0; round < 50; round++) {
		std::array<uint64_t, CSEG_MEMBER_WORDS> a;
		std::array<uint64_t, CSEG_MEMBER_WORDS> b;
		uint32_t count = 0;
		uint32_t both = 0;
		for (size_t w = 0; w < a.size(); w++) {
			a[w] = round == 0 ? ~UINT64_C(0) : random() & random();
			b[w] = random();
			for (int i = 0; i < 64; i++) {
				count += a[w] >> i & 1;
				both += a[w] >> i & b[w] >> i & 1;
			}
		}
		EXPECT_EQ(cseg_bits_count(a.data()), count);
		EXPECT_EQ(cseg_bits_count_and(a.data(), b.data()), both);
		auto c = a;
		cseg_bits_and(c.data(), b.data());
		EXPECT_EQ(cseg_bits_count(c.data()), both);
		c = a;
		cseg_bits_andnot(c.data(), b.data());
		EXPECT_EQ(cseg_bits_count(c.data()), count - both);
		cseg_bits_or(c.data(), b.data());
		EXPECT_EQ(cseg_bits_count_and(c.data(), a.data()), count);
	}
}

TEST(MemberBits, PlanesAndMembersOfACell) {
	std::mt19937 random(13);
	for (int round = 0; round < 20; round++) {
		CsegCell *made = nullptr;
		ASSERT_EQ(cseg_cell_new(&made, &err), CSEG_OK);
		const Cell cell(made);
		const uint32_t rows = round == 0 ? 0 : random() % 3000;
		std::set<std::pair<uint16_t, uint8_t>> have;
		for (uint32_t i = 0; i < rows; i++) {
			const auto low = static_cast<uint16_t>(random() % (round % 2 ? 200 : CSEG_CONTAINER_SIZE));
			const auto slot = static_cast<uint8_t>(random() % CSEG_SLOTS);
			const CsegValue v[CSEG_MEASURES] = {};
			if (have.emplace(low, slot).second) {
				ASSERT_EQ(cseg_cell_insert(cell.get(), low, slot, v, &err), CSEG_OK);
			}
		}
		std::vector<uint64_t> planes(static_cast<size_t>(CSEG_SLOTS) * CSEG_MEMBER_WORDS, ~UINT64_C(0));
		ASSERT_EQ(cseg_cell_planes(cell.get(), planes.data(), &err), CSEG_OK);
		std::array<uint64_t, CSEG_MEMBER_WORDS> some{};
		some[0] = 1;
		const uint64_t slots = UINT64_C(0x8000000000000005);
		ASSERT_EQ(cseg_cell_members(cell.get(), slots, some.data(), &err), CSEG_OK);
		for (uint32_t low = 0; low < CSEG_CONTAINER_SIZE; low++) {
			uint64_t mask = 0;
			for (unsigned slot = 0; slot < CSEG_SLOTS; slot++) {
				const bool set = planes[slot * CSEG_MEMBER_WORDS + low / 64] >> (low % 64) & 1;
				mask |= static_cast<uint64_t>(set) << slot;
			}
			uint64_t expected = 0;
			ASSERT_EQ(cseg_cell_mask(cell.get(), static_cast<uint16_t>(low), &expected, &err), CSEG_OK);
			ASSERT_EQ(mask, expected);
			ASSERT_EQ((some[low / 64] >> (low % 64) & 1) != 0, low == 0 || (expected & slots) != 0);
		}
	}
}

} // namespace
