// member_bits.cpp
//    Arithmetic on the members of one container, as bitsets of CSEG_MEMBER_WORDS words, and a cell as such bitsets.
//
// A count of bits is what most answers come down to. The instruction for it is not in every processor that the
// distribution builds for, so it is looked for when the code runs; without it the compiler's own way is taken.
#include <algorithm>
#include <array>

#include "cell.hpp"
#include "guard.hpp"
#include "member_bits.hpp"

#if defined(__x86_64__) && defined(__GNUC__)
#define CSEG_POPCNT __attribute__((target("popcnt")))
#endif

namespace cseg {
namespace {

// ---- counting ------------------------------------------------------------------------------------------------

// The loops once, to be compiled with and without the instruction.
template <class F> inline __attribute__((always_inline)) uint32_t count_words(F word) {
	uint64_t n = 0;
	for (size_t w = 0; w < kWords; w++)
		n += static_cast<uint64_t>(__builtin_popcountll(word(w)));
	return static_cast<uint32_t>(n);
}

inline __attribute__((always_inline)) uint32_t count_bits(const uint64_t *a) {
	return count_words([a](size_t w) __attribute__((always_inline)) { return a[w]; });
}

inline __attribute__((always_inline)) uint32_t count_and(const uint64_t *a, const uint64_t *b) {
	return count_words([ a, b ](size_t w) __attribute__((always_inline)) { return a[w] & b[w]; });
}

// A run starts at each bit whose lower neighbour is not set.
inline __attribute__((always_inline)) uint32_t count_runs(const uint64_t *a, uint64_t carry) {
	return count_words([ a, carry ](size_t w) __attribute__((always_inline)) {
		return a[w] & ~(a[w] << 1 | (w == 0 ? carry : a[w - 1] >> 63));
	});
}

// Some at a time, whether they are there or not: how many there are is hard to guess for a processor.
template <unsigned AtATime>
inline __attribute__((always_inline)) size_t list_words(const uint64_t *a, uint16_t base, bool skip, uint16_t *to) {
	static_assert(AtATime <= kListSlack);
	size_t n = 0;
	for (size_t w = 0; w < kWords; w++) {
		uint64_t rest = a[w];
		if (skip && rest == 0)
			continue;
		const auto here = static_cast<unsigned>(__builtin_popcountll(rest));
		for (unsigned i = 0; i == 0 || i < here; i += AtATime)
			for (unsigned k = i; k < i + AtATime; k++, rest &= rest - 1)
				to[n + k] = static_cast<uint16_t>(base + w * 64 +
												  static_cast<unsigned>(__builtin_ctzll(rest | UINT64_C(1) << 63)));
		n += here;
	}
	return n;
}

inline __attribute__((always_inline)) size_t list_bits(const uint64_t *a, uint16_t base, Density density,
													   uint16_t *to) {
	switch (density) {
	case Density::few:
		return list_words<1>(a, base, true, to);
	case Density::some:
		return list_words<2>(a, base, false, to);
	case Density::many:
		return list_words<4>(a, base, false, to);
	}
	throw std::logic_error("unknown density");
}

#ifdef CSEG_POPCNT
CSEG_POPCNT size_t list_bits_fast(const uint64_t *a, uint16_t base, Density density, uint16_t *to) {
	return list_bits(a, base, density, to);
}

CSEG_POPCNT uint32_t count_bits_fast(const uint64_t *a) {
	return count_bits(a);
}

CSEG_POPCNT uint32_t count_and_fast(const uint64_t *a, const uint64_t *b) {
	return count_and(a, b);
}

CSEG_POPCNT uint32_t count_runs_fast(const uint64_t *a, uint64_t carry) {
	return count_runs(a, carry);
}
#endif

bool has_popcnt() {
#ifdef CSEG_POPCNT
	return __builtin_cpu_supports("popcnt") != 0;
#else
	return false;
#endif
}

// ---- transposing ---------------------------------------------------------------------------------------------

// Bit j of word i becomes bit i of word j: blocks are swapped across the diagonal, halving their size each time.
void transpose(std::array<uint64_t, 64> &m) {
	uint64_t low = UINT64_C(0x00000000FFFFFFFF);
	for (unsigned width = 32; width != 0; width >>= 1, low ^= low << width)
		for (unsigned i = 0; i < 64; i = (i + width + 1) & ~width) {
			const uint64_t moved = ((m[i] >> width) ^ m[i + width]) & low;
			m[i] ^= moved << width;
			m[i + width] ^= moved;
		}
}

} // namespace

uint32_t bits_count(const uint64_t *a) {
#ifdef CSEG_POPCNT
	if (has_popcnt())
		return count_bits_fast(a);
#endif
	return count_bits(a);
}

uint32_t bits_count_and(const uint64_t *a, const uint64_t *b) {
#ifdef CSEG_POPCNT
	if (has_popcnt())
		return count_and_fast(a, b);
#endif
	return count_and(a, b);
}

uint32_t bits_runs(const uint64_t *a, uint64_t carry) {
#ifdef CSEG_POPCNT
	if (has_popcnt())
		return count_runs_fast(a, carry);
#endif
	return count_runs(a, carry);
}

size_t bits_list(const uint64_t *a, uint16_t base, Density density, uint16_t *to) {
#ifdef CSEG_POPCNT
	if (has_popcnt())
		return list_bits_fast(a, base, density, to);
#endif
	return list_bits(a, base, density, to);
}

void bits_apply(uint64_t *a, CsegSetOp op, const uint64_t *b) {
	switch (op) {
	case CSEG_SET_AND:
		for (size_t w = 0; w < kWords; w++)
			a[w] &= b[w];
		return;
	case CSEG_SET_OR:
		for (size_t w = 0; w < kWords; w++)
			a[w] |= b[w];
		return;
	case CSEG_SET_ANDNOT:
		for (size_t w = 0; w < kWords; w++)
			a[w] &= ~b[w];
		return;
	case CSEG_SET_XOR:
		for (size_t w = 0; w < kWords; w++)
			a[w] ^= b[w];
		return;
	}
	throw std::logic_error("unknown operation on sets");
}

namespace {

// Entries of 64 neighbouring customers make a square of 64 by 64 bits.
void planes_of(const Matrix &m, uint64_t *planes) {
	std::array<uint64_t, 64> square;
	size_t i = 0;
	while (i < m.size()) {
		const size_t word = m.low[i] / 64u;
		uint64_t any = 0;
		square.fill(0);
		for (; i < m.size() && m.low[i] / 64u == word; i++) {
			square[m.low[i] % 64u] = m.set[i];
			any |= m.set[i];
		}
		transpose(square);
		for (; any != 0; any &= any - 1) {
			const unsigned slot = first_slot(any);
			planes[slot * kWords + word] = square[slot];
		}
	}
}

} // namespace
} // namespace cseg

using namespace cseg;

extern "C" {

uint32_t cseg_bits_count(const uint64_t *a) {
	return bits_count(a);
}

uint32_t cseg_bits_count_and(const uint64_t *a, const uint64_t *b) {
	return bits_count_and(a, b);
}

void cseg_bits_and(uint64_t *a, const uint64_t *b) {
	bits_apply(a, CSEG_SET_AND, b);
}

void cseg_bits_or(uint64_t *a, const uint64_t *b) {
	bits_apply(a, CSEG_SET_OR, b);
}

void cseg_bits_andnot(uint64_t *a, const uint64_t *b) {
	bits_apply(a, CSEG_SET_ANDNOT, b);
}

CsegCode cseg_cell_planes(CsegCell *cell, uint64_t *planes, CsegError *err) {
	return guard(err, [&] {
		const Matrix &m = settled(cell);
		std::fill_n(planes, static_cast<size_t>(CSEG_SLOTS) * kWords, UINT64_C(0));
		planes_of(m, planes);
	});
}

} // extern "C"
