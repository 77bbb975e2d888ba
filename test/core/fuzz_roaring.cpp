// fuzz_roaring.cpp
//    libFuzzer target: any bytes as a Roaring bitmap. What is read must come back from what is written of it, and the
//    algebra must hold.
#include <cstdio>
#include <cstdlib>

#include "core/core.h"

namespace {

// Sets within a few containers of the format, so that inputs don't ask for hundreds of megabytes.
constexpr uint32_t kLimit = 16 * 65536;

void require(bool ok, const char *what) {
	if (ok)
		return;
	std::fprintf(stderr, "broken: %s\n", what);
	std::abort();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	CsegError err;
	CsegSet *set = nullptr;
	const CsegCode code = cseg_set_from_roaring(&set, data, size, kLimit, &err);
	require(code == CSEG_OK || code == CSEG_CORRUPT, "code");
	uint64_t count = 0;
	require(cseg_roaring_count(data, size, kLimit, &count, &err) == code, "who only counts checks as much");
	// Whatever the bytes are, a lookup stays within them; of a set it says what the set says.
	for (uint32_t v = 0; v < kLimit; v += 1 + v / 3) {
		bool found = false;
		const CsegCode lookup = cseg_roaring_contains(data, size, v, &found, &err);
		require(lookup == CSEG_OK || (lookup == CSEG_CORRUPT && code != CSEG_OK), "code of a lookup");
		require(code != CSEG_OK || found == cseg_set_contains(set, v), "what a lookup finds");
	}
	if (code != CSEG_OK)
		return 0;
	uint8_t *bytes = nullptr;
	size_t len = 0;
	require(cseg_set_to_roaring(set, &bytes, &len, &err) == CSEG_OK, "write");
	CsegSet *again = nullptr;
	require(cseg_set_from_roaring(&again, bytes, len, kLimit, &err) == CSEG_OK, "read what was written");
	require(cseg_set_equal(set, again), "equal sets");
	require(cseg_set_count(set) == count, "the count of the bytes");
	require(cseg_set_count_and(set, again) == cseg_set_count(set), "count");
	require(cseg_set_apply(again, CSEG_SET_XOR, set, &err) == CSEG_OK && cseg_set_count(again) == 0,
			"xor with itself");
	require(cseg_set_includes(set, again), "includes the empty set");
	cseg_bytes_free(bytes);
	cseg_set_free(again);
	cseg_set_free(set);
	return 0;
}
