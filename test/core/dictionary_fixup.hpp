// dictionary_fixup.hpp
//    Makes the checksums of a damaged dictionary record right again, so that what lies behind them is tested.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/dictionary.hpp"

namespace fixup {

struct Sum {
	size_t field;
	size_t payload;
	size_t bytes;
};

// Walks the directory as far as it makes sense; the sums found so far count.
inline std::vector<Sum> find_sums(const std::vector<uint8_t> &record, size_t *meta_end) {
	std::vector<Sum> sums;
	*meta_end = record.size();
	cseg::Reader r(record.data(), record.size());
	const auto here = [&] { return record.size() - r.left(); };
	try {
		r.take(2);
		const uint16_t flags = r.u16();
		const bool whole = flags & cseg::dict::kWhole;
		r.take(4);
		const size_t n_meta = r.varint_max(r.left(), "directory");
		if (n_meta > r.left())
			return sums;
		size_t payload = here() + n_meta;
		if (!whole)
			*meta_end = payload;
		const auto block = [&] {
			const size_t n = r.varint_max(record.size() - payload, "block");
			if (n > 0 && !whole) {
				const size_t field = here();
				r.take(4);
				sums.push_back({field, payload, n});
			}
			payload += n;
		};
		const uint64_t ints = r.varint();
		for (uint64_t i = 0; i < ints; i += cseg::dict::kIntBlockEntries) {
			r.varint();
			block();
		}
		if (r.varint() == 0)
			return sums;
		for (uint64_t n = r.varint(); n > 0; n--)
			r.take(r.varint());
		const uint64_t blocks = r.varint();
		for (uint64_t i = 0; i < blocks; i++) {
			r.varint();
			r.varint();
			block();
			if (i > 0 && (flags & cseg::dict::kUnsorted) == 0)
				r.take(r.varint());
		}
	} catch (const cseg::Corrupt &) {
	}
	return sums;
}

inline void fix_checksums(std::vector<uint8_t> &record) {
	if (record.size() < cseg::kBlobHeaderBytes)
		return;
	size_t meta_end;
	for (const Sum &s : find_sums(record, &meta_end)) {
		const uint32_t sum = boost::endian::native_to_little(cseg_checksum(record.data() + s.payload, s.bytes, 0));
		std::memcpy(record.data() + s.field, &sum, sizeof sum);
	}
	const uint32_t sum = boost::endian::native_to_little(cseg::blob_checksum(record.data(), meta_end));
	std::memcpy(record.data() + 4, &sum, sizeof sum);
}

} // namespace fixup
