// ordinal_set.cpp
//    Sets of ordinals and their algebra.
//
// Plain bitsets, not compressed ones: a container's is 4 kB, so five million customers are 600 kB and an operation on
// two such sets reads and writes no more than that.
#include "ordinal_set.hpp"

#include <algorithm>

#include "guard.hpp"

namespace cseg {
namespace {

constexpr uint32_t kMaxContainer = CSEG_MAX_ORDINAL >> CSEG_CONTAINER_BITS;

uint32_t container_of(uint32_t ordinal) {
	return ordinal >> CSEG_CONTAINER_BITS;
}

size_t word_of(uint32_t ordinal) {
	return ordinal % CSEG_CONTAINER_SIZE / 64u;
}

uint64_t bit_of(uint32_t ordinal) {
	return UINT64_C(1) << (ordinal % 64u);
}

bool any(const uint64_t *bits) {
	return std::any_of(bits, bits + kWords, [](uint64_t w) { return w != 0; });
}

bool covers(const Bits &a, const Bits &b) {
	for (size_t w = 0; w < kWords; w++)
		if ((b[w] & ~a[w]) != 0)
			return false;
	return true;
}

bool meets(const Bits &a, const Bits &b) {
	for (size_t w = 0; w < kWords; w++)
		if ((a[w] & b[w]) != 0)
			return true;
	return false;
}

// Calls both(a, b), only_a(a), only_b(b) for the containers of two sets, in order.
template <class A, class B, class Both, class OnlyA, class OnlyB>
void merge(A &a, const B &b, Both both, OnlyA only_a, OnlyB only_b) {
	auto x = a.begin();
	auto y = b.begin();
	while (x != a.end() || y != b.end()) {
		if (y == b.end() || (x != a.end() && x->container < y->container))
			only_a(*x++);
		else if (x == a.end() || y->container < x->container)
			only_b(*y++);
		else
			both(*x++, *y++);
	}
}

Members copy_of(const Members &m) {
	auto bits = std::make_unique_for_overwrite<Bits>();
	*bits = *m.bits;
	return {m.container, std::move(bits)};
}

} // namespace

const Members *OrdinalSet::from(uint32_t container) const {
	const auto at = std::lower_bound(parts.begin(), parts.end(), container,
									 [](const Members &m, uint32_t c) { return m.container < c; });
	return at == parts.end() ? nullptr : &*at;
}

// Where the container is, or belongs.
std::vector<Members>::iterator OrdinalSet::place(uint32_t container) {
	if (container > kMaxContainer)
		throw std::logic_error("set: ordinal out of range");
	if (parts.empty() || parts.back().container < container)
		return parts.end();
	return std::lower_bound(parts.begin(), parts.end(), container,
							[](const Members &m, uint32_t c) { return m.container < c; });
}

void OrdinalSet::add(uint32_t ordinal) {
	auto at = place(container_of(ordinal));
	if (at == parts.end() || at->container != container_of(ordinal))
		at = parts.insert(at, Members{container_of(ordinal), std::make_unique<Bits>(Bits{})});
	(*at->bits)[word_of(ordinal)] |= bit_of(ordinal);
}

void OrdinalSet::add(uint32_t container, const uint64_t *bits) {
	if (!any(bits))
		return;
	const auto at = place(container);
	if (at != parts.end() && at->container == container) {
		bits_apply(at->bits->data(), CSEG_SET_OR, bits);
		return;
	}
	auto copy = std::make_unique_for_overwrite<Bits>();
	std::copy_n(bits, kWords, copy->begin());
	parts.insert(at, Members{container, std::move(copy)});
}

void OrdinalSet::apply(CsegSetOp op, const OrdinalSet &other) {
	if (&other == this) {
		if (op == CSEG_SET_ANDNOT || op == CSEG_SET_XOR)
			parts.clear();
		return;
	}
	const bool keeps_a = op != CSEG_SET_AND;
	const bool takes_b = op == CSEG_SET_OR || op == CSEG_SET_XOR;
	// What may fail for lack of memory comes first, so that this set stays whole.
	std::vector<Members> added;
	std::vector<Members> result;
	merge(
		parts, other.parts, [](const Members &, const Members &) {}, [](const Members &) {},
		[&](const Members &b) {
			if (takes_b)
				added.push_back(copy_of(b));
		});
	result.reserve(parts.size() + added.size());
	auto next = added.begin();
	merge(
		parts, other.parts,
		[&](Members &a, const Members &b) {
			bits_apply(a.bits->data(), op, b.bits->data());
			if (op == CSEG_SET_OR || any(a.bits->data()))
				result.push_back(std::move(a));
		},
		[&](Members &a) {
			if (keeps_a)
				result.push_back(std::move(a));
		},
		[&](const Members &) {
			if (takes_b)
				result.push_back(std::move(*next++));
		});
	parts = std::move(result);
}

uint64_t OrdinalSet::count() const {
	uint64_t n = 0;
	for (const Members &m : parts)
		n += bits_count(m.bits->data());
	return n;
}

uint64_t OrdinalSet::count_and(const OrdinalSet &other) const {
	uint64_t n = 0;
	merge(
		parts, other.parts,
		[&](const Members &a, const Members &b) { n += bits_count_and(a.bits->data(), b.bits->data()); },
		[](const Members &) {}, [](const Members &) {});
	return n;
}

bool OrdinalSet::contains(uint32_t ordinal) const {
	const Members *m = from(container_of(ordinal));
	return m != nullptr && m->container == container_of(ordinal) &&
		   ((*m->bits)[word_of(ordinal)] & bit_of(ordinal)) != 0;
}

bool OrdinalSet::includes(const OrdinalSet &other) const {
	bool all = true;
	merge(
		parts, other.parts, [&](const Members &a, const Members &b) { all = all && covers(*a.bits, *b.bits); },
		[](const Members &) {}, [&](const Members &) { all = false; });
	return all;
}

bool OrdinalSet::overlaps(const OrdinalSet &other) const {
	bool some = false;
	merge(
		parts, other.parts, [&](const Members &a, const Members &b) { some = some || meets(*a.bits, *b.bits); },
		[](const Members &) {}, [](const Members &) {});
	return some;
}

bool OrdinalSet::operator==(const OrdinalSet &other) const {
	return std::equal(
		parts.begin(), parts.end(), other.parts.begin(), other.parts.end(),
		[](const Members &a, const Members &b) { return a.container == b.container && *a.bits == *b.bits; });
}

OrdinalSet OrdinalSet::copy() const {
	OrdinalSet set;
	set.parts.reserve(parts.size());
	for (const Members &m : parts)
		set.parts.push_back(copy_of(m));
	return set;
}

size_t OrdinalSet::bytes() const {
	return sizeof *this + parts.capacity() * sizeof parts[0] + parts.size() * sizeof(Bits);
}

} // namespace cseg

using namespace cseg;

extern "C" {

CsegCode cseg_set_new(CsegSet **out, CsegError *err) {
	return guard(err, [&] { *out = new CsegSet; });
}

void cseg_set_free(void *set) {
	delete static_cast<CsegSet *>(set);
}

CsegCode cseg_set_copy(CsegSet **out, const CsegSet *set, CsegError *err) {
	return guard(err, [&] { *out = new CsegSet{set->copy()}; });
}

size_t cseg_set_bytes(const CsegSet *set) {
	return set->bytes();
}

CsegCode cseg_set_add(CsegSet *set, uint32_t ordinal, CsegError *err) {
	return guard(err, [&] { set->add(ordinal); });
}

CsegCode cseg_set_add_bits(CsegSet *set, uint32_t container, const uint64_t *bits, CsegError *err) {
	return guard(err, [&] { set->add(container, bits); });
}

CsegCode cseg_set_apply(CsegSet *set, CsegSetOp op, const CsegSet *other, CsegError *err) {
	return guard(err, [&] { set->apply(op, *other); });
}

uint64_t cseg_set_count(const CsegSet *set) {
	return set->count();
}

uint64_t cseg_set_count_and(const CsegSet *a, const CsegSet *b) {
	return a->count_and(*b);
}

bool cseg_set_contains(const CsegSet *set, uint32_t ordinal) {
	return set->contains(ordinal);
}

bool cseg_set_includes(const CsegSet *set, const CsegSet *other) {
	return set->includes(*other);
}

bool cseg_set_overlaps(const CsegSet *a, const CsegSet *b) {
	return a->overlaps(*b);
}

bool cseg_set_equal(const CsegSet *a, const CsegSet *b) {
	return *a == *b;
}

const uint64_t *cseg_set_from(const CsegSet *set, uint32_t *container) {
	const Members *m = set->from(*container);
	if (m == nullptr)
		return nullptr;
	*container = m->container;
	return m->bits->data();
}

} // extern "C"
