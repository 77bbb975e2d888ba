// fuzz_totals.cpp
//    libFuzzer target: any bytes as totals of an instance.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/core.h"

namespace {

void require(bool ok, const char *what) {
	if (ok)
		return;
	std::fprintf(stderr, "broken: %s\n", what);
	std::abort();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	CsegTotals t;
	CsegError err;
	size_t used;
	const CsegCode code = cseg_totals_decode(&t, data, size, &used, &err);
	require(code == CSEG_OK || code == CSEG_CORRUPT, "code");
	if (code != CSEG_OK)
		return 0;
	require(used <= size, "used");
	uint8_t bytes[CSEG_TOTALS_MAX_BYTES];
	const size_t len = cseg_totals_encode(&t, bytes);
	require(len <= sizeof bytes, "length");
	CsegTotals again;
	require(cseg_totals_decode(&again, bytes, len, &used, &err) == CSEG_OK && used == len, "decode what was encoded");
	require(std::memcmp(&t, &again, sizeof t) == 0, "equal totals");
	require(cseg_totals_consistent(&t, &again), "consistent with itself");
	cseg_totals_add(&t, &again);
	cseg_totals_encode(&t, bytes);
	return 0;
}
