// checksum.cpp
//    The checksum of records and blobs: XXH3, compiled in (no dependency at run time).
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core.h"

extern "C" uint32_t cseg_checksum(const uint8_t *bytes, size_t len, uint64_t seed) {
	return static_cast<uint32_t>(XXH3_64bits_withSeed(bytes, len, seed));
}
