// cell_bytes.hpp
//    Shared by the tests of cells: making the checksums of a damaged encoding right again, so that what is behind
//    them is reached.
#pragma once

#include <algorithm>

#include "core/blob.hpp"
#include "core/guard.hpp"

namespace cell_bytes {

constexpr uint64_t kBlockEntries = 256;

inline void skip_union(cseg::Reader &r) {
	const uint8_t first = r.u8();
	if (first == 64)
		r.u64();
	else if (first != 65)
		r.u8();
}

inline void put_u32(std::vector<uint8_t> &blob, size_t at, uint32_t v) {
	v = boost::endian::native_to_little(v);
	std::memcpy(blob.data() + at, &v, sizeof v);
}

// Walks the directory as far as it makes sense; throws Corrupt where it does not.
inline void fix_directory(std::vector<uint8_t> &blob) {
	cseg::Reader r(blob.data() + cseg::kBlobHeaderBytes, blob.size() - cseg::kBlobHeaderBytes);
	const auto here = [&] { return blob.size() - r.left(); };
	const uint64_t entries = r.varint();
	if (entries <= kBlockEntries || entries > CSEG_CONTAINER_SIZE)
		return;
	skip_union(r);
	if (blob[2] & 1)
		skip_union(r);
	struct Block {
		size_t sum_at;
		uint64_t first;
		uint64_t length;
	};
	std::vector<Block> blocks;
	uint64_t expected = 0;
	for (uint64_t at = 0; at < entries; at += kBlockEntries) {
		const uint64_t first = expected + r.varint();
		expected = first + r.varint() + 1;
		const uint64_t length = r.varint();
		blocks.push_back({here(), first, length});
		r.u32();
	}
	const size_t directory_end = here();
	r.u32();
	size_t at = here();
	for (const Block &b : blocks) {
		const size_t n = std::min<uint64_t>(b.length, blob.size() - at);
		put_u32(blob, b.sum_at, cseg_checksum(blob.data() + at, n, b.first));
		at += n;
	}
	put_u32(blob, directory_end, cseg::blob_checksum(blob.data(), directory_end));
}

inline void fix_checksums(std::vector<uint8_t> &blob) {
	if (blob.size() < cseg::kBlobHeaderBytes)
		return;
	CsegError err;
	cseg::guard(&err, [&] { fix_directory(blob); });
	cseg::finish_blob(blob);
}

} // namespace cell_bytes
