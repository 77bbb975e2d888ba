// sift.cpp
//    Rows of cells that meet conditions, added up without making rows.
//
// Between two events of a customer nothing changes but the membership. So conditions are evaluated per stretch of
// slots, on masks: a truth value is two masks, the slots where it is true and those where it is false. What a
// stretch adds to sums and counts is noted at its two ends and added up at the end of the cell; extremes use a table
// of ranges of 2^k slots, of which any stretch is covered by two.
#include <memory>

#include "cell.hpp"
#include "guard.hpp"
#include "totals.hpp"

namespace cseg {
namespace {

constexpr uint64_t kAllSlots = ~UINT64_C(0);
constexpr unsigned kKinds = CSEG_WIDE + 1;
constexpr unsigned kScales = CSEG_MAX_SCALE + 1;
constexpr unsigned kLevels = 7;

constexpr uint64_t slots_from_to(unsigned from, unsigned to) {
	return (to >= CSEG_SLOTS ? kAllSlots : slot_bit(to) - 1) & (kAllSlots << from);
}

// ---- conditions ----------------------------------------------------------------------------------------------

int order_of_kind(uint8_t kind) {
	switch (kind) {
	case CSEG_NINF:
		return 0;
	case CSEG_DECIMAL:
		return 1;
	case CSEG_PINF:
		return 2;
	default:
		return 3;
	}
}

int compare(const CsegValue &a, const CsegValue &b) {
	if (a.kind != b.kind)
		return order_of_kind(a.kind) < order_of_kind(b.kind) ? -1 : 1;
	if (a.kind != CSEG_DECIMAL)
		return 0;
	return decimal_less(a, b) ? -1 : static_cast<int>(decimal_less(b, a));
}

struct Truth {
	uint64_t is_true;
	uint64_t is_false;
};

constexpr Truth kTrue{kAllSlots, 0};
constexpr Truth kFalse{0, kAllSlots};
constexpr Truth kUnknown{0, 0};

class Condition {
public:
	Condition(const CsegTest *from, uint32_t n, uint32_t n_leaves) : tests(from, from + n) {
		uint32_t depth = 0;
		uint32_t deepest = 0;
		for (const CsegTest &t : tests) {
			depth = depth_after(t, depth, n_leaves);
			deepest = std::max(deepest, depth);
		}
		if (depth != (n == 0 ? 0u : 1u))
			throw std::logic_error("sift: a condition that is none");
		stack.resize(deepest);
	}

	uint8_t measures() const {
		unsigned bits = 0;
		for (const CsegTest &t : tests)
			if (t.kind == CSEG_TEST_COMPARE || t.kind == CSEG_TEST_NULL)
				bits |= 1u << t.measure;
		return static_cast<uint8_t>(bits);
	}

	// The slots where it is true. *wide: a wide value would have to be compared.
	uint64_t evaluate(const Values &v, const CsegSlotLeaf *leaves, bool *wide) {
		if (tests.empty())
			return kAllSlots;
		size_t n = 0;
		for (const CsegTest &t : tests) {
			switch (t.kind) {
			case CSEG_TEST_COMPARE:
				stack[n++] = compare_to_bound(t, v[t.measure], wide);
				break;
			case CSEG_TEST_NULL:
				stack[n++] = tag_kind(v[t.measure].tag) == CSEG_NULL ? kTrue : kFalse;
				break;
			case CSEG_TEST_SLOTS:
				stack[n++] = {leaves[t.n].is_true, leaves[t.n].is_false};
				break;
			case CSEG_TEST_NOT:
				std::swap(stack[n - 1].is_true, stack[n - 1].is_false);
				break;
			default:
				n = join(t, n);
			}
		}
		return stack[0].is_true;
	}

private:
	static uint32_t depth_after(const CsegTest &t, uint32_t depth, uint32_t n_leaves) {
		switch (t.kind) {
		case CSEG_TEST_COMPARE:
			if (t.measure < CSEG_MEASURES && t.bound.kind < CSEG_WIDE && t.bound.scale <= CSEG_MAX_SCALE)
				return depth + 1;
			break;
		case CSEG_TEST_NULL:
			if (t.measure < CSEG_MEASURES)
				return depth + 1;
			break;
		case CSEG_TEST_SLOTS:
			if (t.n < n_leaves)
				return depth + 1;
			break;
		case CSEG_TEST_NOT:
			if (depth > 0)
				return depth;
			break;
		case CSEG_TEST_AND:
		case CSEG_TEST_OR:
			if (t.n > 0 && t.n <= depth)
				return depth - t.n + 1;
			break;
		default:
			break;
		}
		throw std::logic_error("sift: a test that is none");
	}

	static Truth compare_to_bound(const CsegTest &t, const Value &v, bool *wide) {
		const unsigned kind = tag_kind(v.tag);
		if (kind == CSEG_NULL || t.bound.kind == CSEG_NULL)
			return kUnknown;
		if (kind == CSEG_WIDE) {
			*wide = true;
			return kUnknown;
		}
		CsegValue value{};
		value.kind = static_cast<uint8_t>(kind);
		value.scale = static_cast<uint8_t>(tag_scale(v.tag));
		value.mantissa = v.num;
		const int order = compare(value, t.bound);
		const unsigned bit = order < 0 ? CSEG_LESS : order > 0 ? CSEG_GREATER : CSEG_EQUAL;
		return (t.accepts & bit) != 0 ? kTrue : kFalse;
	}

	size_t join(const CsegTest &t, size_t n) {
		const size_t first = n - t.n;
		Truth all = stack[first];
		for (size_t i = first + 1; i < n; i++) {
			if (t.kind == CSEG_TEST_AND)
				all = {all.is_true & stack[i].is_true, all.is_false | stack[i].is_false};
			else
				all = {all.is_true | stack[i].is_true, all.is_false & stack[i].is_false};
		}
		stack[first] = all;
		return first + 1;
	}

	std::vector<CsegTest> tests;
	std::vector<Truth> stack;
};

// ---- adding up -----------------------------------------------------------------------------------------------

// What is added at a slot holds from there on, until it is taken away at another.
using Counts = std::array<int32_t, CSEG_SLOTS + 1>;

void add_stretch(Counts &c, unsigned from, unsigned to) {
	c[from]++;
	c[to]--;
}

// Least and greatest mantissas of one scale.
class Extremes {
public:
	Extremes() { clear(); }
	void clear() {
		for (auto &level : least)
			level.fill(INT64_MAX);
		for (auto &level : greatest)
			level.fill(INT64_MIN);
	}
	void add(int64_t v, unsigned from, unsigned to) {
		const unsigned k = static_cast<unsigned>(std::bit_width(to - from)) - 1;
		put(k, from, v, v);
		put(k, to - (1u << k), v, v);
	}
	// Brings everything down to single slots.
	void settle() {
		for (unsigned k = kLevels - 1; k > 0; k--)
			for (unsigned s = 0; s + (1u << k) <= CSEG_SLOTS; s++) {
				put(k - 1, s, least[k][s], greatest[k][s]);
				put(k - 1, s + (1u << (k - 1)), least[k][s], greatest[k][s]);
			}
	}
	int64_t min(unsigned slot) const { return least[0][slot]; }
	int64_t max(unsigned slot) const { return greatest[0][slot]; }

private:
	void put(unsigned k, unsigned slot, int64_t low, int64_t high) {
		least[k][slot] = std::min(least[k][slot], low);
		greatest[k][slot] = std::max(greatest[k][slot], high);
	}

	std::array<std::array<int64_t, CSEG_SLOTS>, kLevels> least;
	std::array<std::array<int64_t, CSEG_SLOTS>, kLevels> greatest;
};

// The decimals of one measure that have the same scale.
struct OfScale {
	Counts count{};
	std::array<Int128, CSEG_SLOTS + 1> sum{};
	Extremes extremes;
};

CsegValue decimal(int64_t mantissa, unsigned scale) {
	CsegValue v{};
	v.kind = CSEG_DECIMAL;
	v.scale = static_cast<uint8_t>(scale);
	v.mantissa = mantissa;
	return v;
}

class Tally {
public:
	void add(const Value &v, uint64_t slots, bool with_extremes) {
		const unsigned kind = tag_kind(v.tag);
		OfScale *const decimals = kind == CSEG_DECIMAL ? &of_scale(tag_scale(v.tag)) : nullptr;
		for (uint64_t rest = slots; rest != 0;) {
			const unsigned from = first_slot(rest);
			const unsigned to = from + static_cast<unsigned>(std::countr_one(rest >> from));
			if (decimals != nullptr)
				add_decimals(*decimals, v.num, from, to, with_extremes);
			else
				add_stretch(kinds[kind], from, to);
			rest &= ~slots_from_to(from, to);
		}
		any_kind |= decimals == nullptr;
	}

	// Into the measure's totals of all slots, and empties itself.
	void finish(CsegTotals *totals, int measure, bool with_extremes) {
		if (any_kind)
			finish_kinds(totals, measure);
		for (unsigned scale = 0; scale < kScales; scale++)
			if (used >> scale & 1)
				finish_scale(totals, measure, scale, with_extremes);
		clear();
	}

	void clear() {
		if (any_kind)
			kinds = {};
		any_kind = false;
		for (unsigned scale = 0; scale < kScales; scale++)
			if (used >> scale & 1) {
				scales[scale]->count = {};
				scales[scale]->sum = {};
				scales[scale]->extremes.clear();
			}
		used = 0;
	}

private:
	OfScale &of_scale(unsigned scale) {
		if (scales[scale] == nullptr)
			scales[scale] = std::make_unique<OfScale>();
		used |= 1u << scale;
		return *scales[scale];
	}

	static void add_decimals(OfScale &s, int64_t num, unsigned from, unsigned to, bool with_extremes) {
		add_stretch(s.count, from, to);
		s.sum[from] += num;
		s.sum[to] -= num;
		if (with_extremes)
			s.extremes.add(num, from, to);
	}

	void finish_kinds(CsegTotals *totals, int measure) const {
		std::array<int32_t, kKinds> now{};
		for (unsigned slot = 0; slot < CSEG_SLOTS; slot++) {
			CsegMeasureTotals &t = totals[slot].m[measure];
			for (unsigned kind = 0; kind < kKinds; kind++)
				now[kind] += kinds[kind][slot];
			t.nulls += now[CSEG_NULL];
			t.nans += now[CSEG_NAN];
			t.pinfs += now[CSEG_PINF];
			t.ninfs += now[CSEG_NINF];
			t.wides += now[CSEG_WIDE];
		}
	}

	// Through the arithmetic of totals, which knows about scales and overflow.
	void finish_scale(CsegTotals *totals, int measure, unsigned scale, bool with_extremes) {
		OfScale &s = *scales[scale];
		int32_t count = 0;
		Int128 sum = 0;
		if (with_extremes)
			s.extremes.settle();
		for (unsigned slot = 0; slot < CSEG_SLOTS; slot++) {
			count += s.count[slot];
			sum += s.sum[slot];
			if (count == 0)
				continue;
			CsegMeasureTotals part{};
			part.scale = static_cast<uint8_t>(scale);
			part.sum_lo = static_cast<uint64_t>(sum);
			part.sum_hi = static_cast<int64_t>(sum >> 64);
			if (with_extremes) {
				part.min = decimal(s.extremes.min(slot), scale);
				part.max = decimal(s.extremes.max(slot), scale);
			}
			totals_add_measure(totals[slot].m[measure], part);
		}
	}

	std::array<Counts, kKinds> kinds{};
	std::array<std::unique_ptr<OfScale>, kScales> scales;
	uint32_t used = 0;
	bool any_kind = false;
};

struct View {
	View(const CsegSiftView &from, uint32_t n_leaves)
		: condition(from.tests, from.n_tests, n_leaves), sums(from.sums | from.extremes), extremes(from.extremes),
		  members(from.members) {
		if ((sums >> CSEG_MEASURES) != 0)
			throw std::logic_error("sift: measures out of range");
	}

	void add(size_t entry, const Values &v, uint64_t hit) {
		for (uint64_t rest = hit; rest != 0;) {
			const unsigned from = first_slot(rest);
			const unsigned to = from + static_cast<unsigned>(std::countr_one(rest >> from));
			add_stretch(rows, from, to);
			rest &= ~slots_from_to(from, to);
		}
		for (unsigned m = 0; m < CSEG_MEASURES; m++)
			if (sums >> m & 1)
				tally[m].add(v[m], hit, (extremes >> m & 1) != 0);
		if (members)
			hits[entry] |= hit;
	}

	void begin(size_t entries) {
		rows = {};
		for (Tally &t : tally)
			t.clear();
		if (members)
			hits.assign(entries, 0);
		finished = false;
	}

	void finish() {
		slots = 0;
		int32_t now = 0;
		for (unsigned slot = 0; slot < CSEG_SLOTS; slot++) {
			now += rows[slot];
			cseg_totals_init(&totals[slot]);
			totals[slot].rows = now;
			slots |= now != 0 ? slot_bit(slot) : 0;
		}
		for (unsigned m = 0; m < CSEG_MEASURES; m++)
			if (sums >> m & 1)
				tally[m].finish(totals.data(), static_cast<int>(m), (extremes >> m & 1) != 0);
		finished = true;
	}

	Condition condition;
	unsigned sums;
	unsigned extremes;
	bool members;
	Counts rows{};
	std::array<Tally, CSEG_MEASURES> tally;
	std::vector<uint64_t> hits; // by entry
	std::array<CsegTotals, CSEG_SLOTS> totals{};
	uint64_t slots = 0;
	bool finished = false;
};

class Sift {
public:
	Sift(const CsegSiftView *from, uint32_t n, uint32_t n_leaves) {
		if (n == 0)
			throw std::logic_error("sift: no views");
		for (uint32_t i = 0; i < n; i++) {
			views.push_back(std::make_unique<View>(from[i], n_leaves));
			wide_matters |= views[i]->condition.measures() | views[i]->sums;
		}
	}

	// False: a wide value is in the way.
	bool cell(const Matrix &m, uint64_t slots, const CsegSlotLeaf *leaves, const uint16_t *lows, uint32_t n_lows) {
		low = m.low;
		for (auto &view : views)
			view->begin(m.size());
		if (lows == nullptr) {
			for (size_t i = 0; i < m.size(); i++)
				if (!entry(m, i, slots, leaves))
					return false;
			return true;
		}
		for (uint32_t k = 0; k < n_lows; k++) {
			const size_t i = m.find(lows[k]);
			if (i < m.size() && !entry(m, i, slots, leaves))
				return false;
		}
		return true;
	}

	View &view(uint32_t i) {
		if (i >= views.size())
			throw std::logic_error("sift: no such view");
		return *views[i];
	}
	void members(uint32_t which, uint64_t slots, uint64_t *bits) const {
		if (which >= views.size() || !views[which]->members)
			throw std::logic_error("sift: a view without members");
		const std::vector<uint64_t> &hits = views[which]->hits;
		for (size_t i = 0; i < hits.size(); i++)
			bits[low[i] / 64] |= static_cast<uint64_t>((hits[i] & slots) != 0) << (low[i] % 64);
	}

private:
	bool entry(const Matrix &m, size_t i, uint64_t slots, const CsegSlotLeaf *leaves) {
		const uint64_t mask = m.set[i] & slots;
		if (mask == 0)
			return true;
		Walk walk(m, i);
		const unsigned last = last_slot(mask);
		for (unsigned at = first_slot(m.set[i]); at <= last;) {
			const Values &v = walk.to(at);
			const unsigned next = walk.next_change();
			const uint64_t run = mask & slots_from_to(at, next);
			if (run != 0 && !stretch(i, v, run, leaves))
				return false;
			at = next;
		}
		return true;
	}

	bool stretch(size_t i, const Values &v, uint64_t run, const CsegSlotLeaf *leaves) {
		for (unsigned m = 0; m < CSEG_MEASURES; m++)
			if ((wide_matters >> m & 1) != 0 && is_wide(v[m]))
				return false;
		bool wide = false;
		const uint64_t all = run & views[0]->condition.evaluate(v, leaves, &wide);
		if (all == 0)
			return true;
		views[0]->add(i, v, all);
		for (size_t k = 1; k < views.size(); k++) {
			const uint64_t hit = all & views[k]->condition.evaluate(v, leaves, &wide);
			if (hit != 0)
				views[k]->add(i, v, hit);
		}
		return true;
	}

	std::vector<std::unique_ptr<View>> views;
	std::vector<uint16_t> low;
	unsigned wide_matters = 0;
};

} // namespace
} // namespace cseg

struct CsegSift final : cseg::Sift {
	using cseg::Sift::Sift;
};

using namespace cseg;

extern "C" {

int cseg_value_compare(const CsegValue *a, const CsegValue *b) {
	return compare(*a, *b);
}

CsegCode cseg_sift_new(CsegSift **out, const CsegSiftView *views, uint32_t n_views, uint32_t n_leaves,
					   CsegError *err) {
	return guard(err, [&] { *out = new CsegSift(views, n_views, n_leaves); });
}

void cseg_sift_free(void *sift) {
	delete static_cast<CsegSift *>(sift);
}

CsegCode cseg_sift_cell(CsegSift *sift, CsegCell *cell, uint64_t slots, const CsegSlotLeaf *leaves,
						const uint16_t *lows, uint32_t n_lows, bool *wide, CsegError *err) {
	return guard(err, [&] { *wide = !sift->cell(settled(cell), slots, leaves, lows, n_lows); });
}

CsegCode cseg_sift_totals(CsegSift *sift, uint32_t view, const CsegTotals **totals, uint64_t *slots, CsegError *err) {
	return guard(err, [&] {
		View &v = sift->view(view);
		if (!v.finished)
			v.finish();
		*totals = v.totals.data();
		*slots = v.slots;
	});
}

CsegCode cseg_sift_members(const CsegSift *sift, uint32_t view, uint64_t slots,
						   uint64_t bits[CSEG_CONTAINER_SIZE / 64], CsegError *err) {
	return guard(err, [&] { sift->members(view, slots, bits); });
}

} // extern "C"
