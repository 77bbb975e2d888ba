// totals.hpp
//    Totals of single measures, for those of the core that change one without the others.
#pragma once

#include <algorithm>

#include "core.h"

namespace cseg {

__extension__ typedef __int128 Int128;
__extension__ typedef unsigned __int128 Uint128;

constexpr int64_t kPow10[CSEG_MAX_SCALE + 1] = {1,
												10,
												100,
												1000,
												10000,
												100000,
												1000000,
												10000000,
												100000000,
												1000000000,
												10000000000,
												100000000000,
												1000000000000,
												10000000000000,
												100000000000000,
												1000000000000000,
												10000000000000000,
												100000000000000000,
												1000000000000000000};

// A mantissa of 63 bits times 10^18 stays below 2^123.
inline Int128 scaled(int64_t mantissa, unsigned scale, unsigned to) {
	return static_cast<Int128>(mantissa) * kPow10[to - scale];
}

inline bool decimal_less(const CsegValue &a, const CsegValue &b) {
	if (a.scale == b.scale)
		return a.mantissa < b.mantissa;
	const uint8_t to = std::max(a.scale, b.scale);
	return scaled(a.mantissa, a.scale, to) < scaled(b.mantissa, b.scale, to);
}

void totals_add_value(CsegMeasureTotals &m, const CsegValue &v);
void totals_remove_value(CsegMeasureTotals &m, const CsegValue &v);
void totals_add_measure(CsegMeasureTotals &m, const CsegMeasureTotals &part);

} // namespace cseg
