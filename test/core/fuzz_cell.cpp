// fuzz_cell.cpp
//    libFuzzer target: any bytes as the body of a cell, with right checksums. What decodes must be sound.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "cell_bytes.hpp"

namespace {

void require(bool ok, const char *what) {
	if (ok)
		return;
	std::fprintf(stderr, "broken: %s\n", what);
	std::abort();
}

void walk(CsegCell *cell, uint64_t rows) {
	CsegError err;
	CsegCursor *cursor;
	require(cseg_cursor_new(&cursor, cell, &err) == CSEG_OK, "cursor");
	uint64_t seen = 0;
	for (uint8_t slot = 0; slot < CSEG_SLOTS; slot++) {
		CsegSlotView view;
		require(cseg_cursor_seek(cursor, slot, 7, &view, &err) == CSEG_OK, "seek");
		seen += view.n;
	}
	cseg_cursor_free(cursor);
	require(seen == rows, "rows of the cursor");
}

void totals(CsegCell *cell) {
	CsegError err;
	std::vector<CsegTotals> of_rows(CSEG_SLOTS);
	std::vector<CsegTotals> of_change(CSEG_SLOTS);
	uint64_t slots;
	uint64_t changed;
	require(cseg_cell_totals(cell, of_rows.data(), &slots, &err) == CSEG_OK, "totals");
	require(cseg_cell_change(nullptr, cell, of_change.data(), &changed, &err) == CSEG_OK, "change");
	require(slots == changed, "slots of the change");
	for (unsigned s = 0; s < CSEG_SLOTS; s++)
		require(!(slots >> s & 1) || cseg_totals_consistent(&of_change[s], &of_rows[s]), "change equals totals");
}

void round_trip(CsegCell *cell) {
	CsegError err;
	const uint8_t *bytes;
	size_t len;
	require(cseg_cell_encode(cell, &bytes, &len, &err) == CSEG_OK, "encode");
	CsegCell *again;
	require(cseg_cell_decode(&again, bytes, len, &err) == CSEG_OK, "decode what was encoded");
	const uint8_t *more;
	size_t more_len;
	require(cseg_cell_encode(again, &more, &more_len, &err) == CSEG_OK, "encode again");
	require(len == more_len && std::memcmp(bytes, more, len) == 0, "equal encodings");
	cseg_cell_free(again);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	if (size < 1)
		return 0;
	std::vector<uint8_t> blob = {'C', 1, static_cast<uint8_t>(data[0] & 3), 0, 0, 0, 0, 0};
	blob.insert(blob.end(), data + 1, data + size);
	cell_bytes::fix_checksums(blob);
	CsegError err;
	CsegCell *cell;
	if (cseg_cell_decode_range(&cell, blob.data(), blob.size(), 100, 2000, &err) == CSEG_OK) {
		require(cseg_cell_check(cell, &err) == CSEG_OK, "check of a range");
		cseg_cell_free(cell);
	}
	const CsegCode code = cseg_cell_decode(&cell, blob.data(), blob.size(), &err);
	require(code == CSEG_OK || code == CSEG_CORRUPT, "code");
	if (code != CSEG_OK)
		return 0;
	require(cseg_cell_check(cell, &err) == CSEG_OK, "check");
	uint32_t customers;
	uint64_t rows;
	uint64_t removed;
	require(cseg_cell_counts(cell, &customers, &rows, &removed, &err) == CSEG_OK, "counts");
	walk(cell, rows);
	totals(cell);
	round_trip(cell);
	cseg_cell_free(cell);
	return 0;
}
