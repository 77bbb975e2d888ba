// stretches.cpp
//    A cell's rows as stretches of slots over which a customer's measures stay the same, for callers that evaluate
//    expressions of their own: once per stretch instead of once per row.
#include "cell.hpp"
#include "guard.hpp"

namespace cseg {
namespace {

uint32_t stretches_of(const Matrix &m, size_t i, uint64_t slots, CsegStretch *out) {
	const uint64_t mask = m.set[i] & slots;
	uint32_t n = 0;
	if (mask == 0)
		return 0;
	Walk walk(m, i);
	const unsigned last = last_slot(mask);
	for (unsigned at = first_slot(m.set[i]); at <= last;) {
		const Values &v = walk.to(at);
		const unsigned next = walk.next_change();
		const uint64_t below = next >= CSEG_SLOTS ? ~UINT64_C(0) : slot_bit(next) - 1;
		const uint64_t run = mask & below & (~UINT64_C(0) << at);
		if (run != 0) {
			CsegStretch &s = out[n++];
			s.slots = run;
			s.low = m.low[i];
			for (size_t k = 0; k < CSEG_MEASURES; k++)
				s.v[k] = export_value(v[k], m.pool);
		}
		at = next;
	}
	return n;
}

uint32_t next_stretches(const Matrix &m, uint64_t slots, const uint16_t *lows, uint32_t n_lows, uint32_t &at,
						CsegStretch *out, uint32_t cap) {
	const size_t end = lows == nullptr ? m.size() : n_lows;
	uint32_t n = 0;
	for (; at < end && n + CSEG_SLOTS <= cap; at++) {
		const size_t i = lows == nullptr ? at : m.find(lows[at]);
		if (i < m.size())
			n += stretches_of(m, i, slots, out + n);
	}
	return n;
}

} // namespace
} // namespace cseg

using namespace cseg;

extern "C" CsegCode cseg_cell_stretches(const CsegCell *cell, uint64_t slots, const uint16_t *lows, uint32_t n_lows,
										uint32_t *at, CsegStretch *out, uint32_t cap, uint32_t *n, CsegError *err) {
	return guard(err, [&] {
		if (cap < CSEG_SLOTS)
			throw std::logic_error("stretches: no room");
		const Matrix &m = settled(cell);
		const size_t end = lows == nullptr ? m.size() : n_lows;
		for (*n = 0; *n == 0 && *at < end;)
			*n = next_stretches(m, slots, lows, n_lows, *at, out, cap);
	});
}
