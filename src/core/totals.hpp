// totals.hpp
//    Totals of single measures, for those of the core that change one without the others.
#pragma once

#include "core.h"

namespace cseg {

void totals_add_value(CsegMeasureTotals &m, const CsegValue &v);
void totals_remove_value(CsegMeasureTotals &m, const CsegValue &v);

} // namespace cseg
