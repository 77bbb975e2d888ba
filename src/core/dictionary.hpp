// dictionary.hpp
//    The order of identities, and the record that holds identity texts: its layout, encoder and decoder.
//
// dictionary_codec.cpp owns the bytes of a record (README.md has them as a table), dictionary.cpp the
// object that looks identities up. Both share what is declared in namespace dict; other parts of the core use only
// identity_less, canonical_integer, encode_dictionary and the lookup of many identities.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "blob.hpp"

struct ZSTD_DCtx_s;

namespace cseg {

// True for a decimal number as PostgreSQL prints a bigint: digits only, no leading zero, at most 18 of them.
bool canonical_integer(std::string_view s);

// The order of a dictionary: canonical integers by value, then everything else by its bytes.
bool identity_less(std::string_view a, std::string_view b);

// A record of these texts in this order. Throws std::invalid_argument on a duplicate, Limit on what is too long.
std::vector<uint8_t> encode_dictionary(std::span<const std::string_view> texts);

constexpr uint32_t kNoOrdinal = UINT32_MAX;

// The ordinals of many identities, kNoOrdinal where there is none: cheaper than one by one. Of the dictionary's
// records the first `since` may be left out, where it is known that they have none of them.
void find_identities(CsegDict *dict, std::span<const std::string_view> texts, uint64_t since, uint32_t *ordinals);
// How many records were added to it.
uint64_t dictionary_additions(const CsegDict *dict);

namespace dict {

constexpr uint8_t kVersion = 1;
constexpr uint16_t kUnsorted = 1; // texts are not in the order of identity_less
constexpr uint16_t kWhole = 2;    // the blob checksum covers the payloads too; blocks have none of their own

constexpr uint32_t kIntBlockEntries = 1024;
constexpr uint32_t kTextBlockEntries = 1024;     // what the encoder writes
constexpr uint32_t kTextBlockMaxEntries = 4096;  // what a decoder accepts
constexpr uint32_t kTextBlockRawBytes = 1 << 17; // more only in a block of a single text
constexpr uint32_t kTextMaxBytes = 0x3FFFFFFF - 4;
constexpr size_t kRecordMaxBytes = 0x3FFFFFFF;
constexpr size_t kMaxDigits = 18; // of an integer, and of what is split off a text
constexpr uint64_t kMaxInteger = 999'999'999'999'999'999;
constexpr uint32_t kMaxDomains = 254;

// Part of a record's bytes. Offsets, not pointers: the directory is read before the bytes are copied.
struct Range {
	size_t offset = 0;
	uint32_t bytes = 0;
};

// Both kinds of block; entries count from the start of the record.
struct Block {
	uint32_t entry = 0;
	uint32_t count = 0;
	uint32_t sum = 0;
	uint32_t raw = 0;   // text blocks: bytes of the texts together
	uint64_t first = 0; // integer blocks: the first value
	Range payload;
	Range fence; // text blocks but the first: greater than all texts before, not greater than any from here
};

struct Directory {
	uint16_t flags = 0;
	uint32_t n_ints = 0;
	uint32_t n_texts = 0;
	uint32_t int_blocks = 0;
	std::vector<Block> blocks; // of integers first, then of texts
	std::vector<Range> domains;

	uint32_t count() const { return n_ints + n_texts; }
	bool sorted() const { return (flags & kUnsorted) == 0; }
	bool is_int(size_t block) const { return block < int_blocks; }
	size_t block_of(uint32_t entry) const;
	size_t bytes() const { return blocks.capacity() * sizeof(Block) + domains.capacity() * sizeof(Range); }
};

// Reads and checks header and directory; payloads are only located. Reuses the memory of *out.
void read_directory(Directory *out, const uint8_t *bytes, size_t len);

inline std::string_view view(const uint8_t *record, Range r) {
	return {reinterpret_cast<const char *>(record) + r.offset, r.bytes};
}

// Memory of decoded texts: each a header, the bytes, and padding up to a multiple of four.
struct Arena {
	std::unique_ptr<uint8_t[]> memory;
	size_t bytes = 0;
};

inline uint32_t text_header(size_t len, int shift) {
	return static_cast<uint32_t>(len + 4) << shift;
}
inline std::string_view text_at(const uint8_t *header, int shift) {
	uint32_t h;
	std::memcpy(&h, header, sizeof h);
	return {reinterpret_cast<const char *>(header) + 4, (h >> shift) - 4};
}
constexpr size_t text_space(size_t len) {
	return (len + 4 + 3) & ~size_t{3};
}

// Decodes blocks. Keeps scratch memory from one to the next.
class Decoder {
public:
	explicit Decoder(int header_shift) : shift(header_shift) {}
	Decoder(const Decoder &) = delete;
	Decoder &operator=(const Decoder &) = delete;
	~Decoder();

	// The texts of a block, checked for everything that its directory says of it: count, bytes, order, fences.
	// at()[i] * 4 is where text i starts, until the next call.
	Arena texts(const uint8_t *record, const Directory &dir, size_t block);
	const std::vector<uint32_t> &at() const { return starts; }
	// The values of an integer block, until the next call.
	std::span<const uint64_t> integers(const uint8_t *record, const Directory &dir, size_t block);
	size_t bytes() const;
	void release(); // gives the scratch memory back

private:
	struct Out;
	Arena integer_texts(const uint8_t *record, const Directory &dir, size_t block);
	void plain(Reader r, uint32_t count, Out &out);
	void split(Reader r, const uint8_t *record, const Directory &dir, uint32_t count, Out &out);
	std::span<const uint8_t> inflate(const uint8_t *from, size_t n, size_t raw, std::unique_ptr<uint8_t[]> &memory,
									 size_t &capacity);
	std::span<const uint8_t> stream(Reader &r, int which, size_t max);
	void check_order(const uint8_t *record, const Directory &dir, size_t block, const Arena &arena);

	static constexpr int kStreams = 5;
	int shift;
	ZSTD_DCtx_s *zstd = nullptr;
	std::vector<uint32_t> starts;
	std::vector<uint64_t> values;
	std::unique_ptr<uint8_t[]> scratch[kStreams];
	size_t capacity[kStreams] = {};
};

} // namespace dict
} // namespace cseg
