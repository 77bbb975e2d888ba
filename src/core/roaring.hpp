// roaring.hpp
//    Sets of ordinals in the portable Roaring format.
#pragma once

#include "ordinal_set.hpp"

namespace cseg {

// malloc'd.
uint8_t *to_roaring(const OrdinalSet &set, size_t *len);
// Ordinals from limit on are refused.
OrdinalSet from_roaring(const uint8_t *bytes, size_t len, uint32_t limit);
// Checks as much, and builds nothing.
uint64_t count_roaring(const uint8_t *bytes, size_t len, uint32_t limit);
// Reads no more than leads to the ordinal, and only that is checked: of bytes that are none of this format the answer
// means nothing.
bool roaring_contains(const uint8_t *bytes, size_t len, uint32_t ordinal);

} // namespace cseg
