// blob.hpp
//    The envelope of every blob: kind, format version, checksum.
//
//    offset  size  content
//    0       1     kind (BlobKind)
//    1       1     format version
//    2       2     flags, of the kind's own
//    4       4     checksum: low 32 bits of XXH3-64 of bytes 0..3 and 8..end (seeded with the first four)
//    8       ...   body
#pragma once

#include "bytes.hpp"

namespace cseg {

enum class BlobKind : uint8_t { cell = 'C', dictionary = 'D' };

constexpr size_t kBlobHeaderBytes = 8;

// Starts a blob: the checksum is filled by finish_blob.
inline void start_blob(Writer &w, BlobKind kind, uint8_t version, uint16_t flags) {
	w.u8(static_cast<uint8_t>(kind));
	w.u8(version);
	w.u16(flags);
	w.u32(0);
}

inline uint32_t blob_checksum(const uint8_t *bytes, size_t len) {
	uint32_t head;
	std::memcpy(&head, bytes, sizeof head);
	return cseg_checksum(bytes + kBlobHeaderBytes, len - kBlobHeaderBytes, boost::endian::little_to_native(head));
}

inline void finish_blob(std::vector<uint8_t> &blob) {
	const uint32_t sum = boost::endian::native_to_little(blob_checksum(blob.data(), blob.size()));
	std::memcpy(blob.data() + 4, &sum, sizeof sum);
}

// Checks the envelope and returns a reader of the body. verify_sum: also the checksum, which reads every byte.
inline Reader open_blob(const uint8_t *bytes, size_t len, BlobKind kind, uint8_t max_version, uint16_t *flags,
						bool verify_sum = true) {
	Reader r(bytes, len);
	if (len < kBlobHeaderBytes)
		throw Corrupt("blob is shorter than its header");
	if (r.u8() != static_cast<uint8_t>(kind))
		throw Corrupt("blob is of another kind");
	const uint8_t version = r.u8();
	if (version == 0 || version > max_version)
		throw Corrupt("blob has unknown format version " + std::to_string(version));
	*flags = r.u16();
	const uint32_t sum = r.u32();
	if (verify_sum && sum != blob_checksum(bytes, len))
		throw Corrupt("blob checksum does not match");
	return r;
}

} // namespace cseg
