// dictionary_codec.cpp
//    The bytes of a dictionary record: order of identities, encoder, directory, decoder.
//
// Integers are sorted, so their differences are coded with Rice codes, within a bit and a half of what random
// differences hold. Texts are front-coded; what the local part of an e-mail address, its trailing digits and its
// domain have in common lies in different streams, which zstd packs a third better than one.
#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstdlib>
#include <unordered_map>

#include <zstd.h>

#include "dictionary.hpp"
#include "guard.hpp"

namespace cseg {

// ---- order ------------------------------------------------------------------------------------------------------

namespace {

using dict::kMaxDigits;

bool is_digit(char c) {
	return static_cast<unsigned char>(c - '0') < 10;
}

uint64_t load64(const void *p) {
	uint64_t v;
	std::memcpy(&v, p, sizeof v);
	return boost::endian::little_to_native(v);
}

// Eight digits at once: each byte must be 0x30..0x39, so must it be with 6 added, and only in the low nibble.
bool eight_digits(const char *p) {
	const uint64_t v = load64(p);
	constexpr uint64_t high = 0xF0F0F0F0F0F0F0F0;
	constexpr uint64_t zeros = 0x3030303030303030;
	return (v & high) == zeros && ((v + 0x0606060606060606) & high) == zeros;
}

bool all_digits(std::string_view s) {
	while (s.size() >= 8) {
		if (!eight_digits(s.data()))
			return false;
		s.remove_prefix(8);
	}
	return std::all_of(s.begin(), s.end(), is_digit);
}

uint64_t integer_value(std::string_view s) {
	uint64_t v = 0;
	for (const char c : s)
		v = v * 10 + static_cast<uint64_t>(c - '0');
	return v;
}

} // namespace

bool canonical_integer(std::string_view s) {
	if (s.empty() || s.size() > kMaxDigits || !is_digit(s[0]))
		return false;
	if (s[0] == '0')
		return s.size() == 1;
	return all_digits(s);
}

bool identity_less(std::string_view a, std::string_view b) {
	const bool ia = canonical_integer(a);
	const bool ib = canonical_integer(b);
	if (ia != ib)
		return ia;
	// Without leading zeros the longer number is the greater.
	if (ia && a.size() != b.size())
		return a.size() < b.size();
	return a < b;
}

namespace dict {
namespace {

// ---- bits ---------------------------------------------------------------------------------------------------------

// Written from the low bit of each byte upwards.
class BitWriter {
public:
	explicit BitWriter(std::vector<uint8_t> &o) : out(o) {}
	void put(uint64_t v, unsigned n) { // v < 2^n, n <= 60
		if (n > 30) {
			put(v & ((uint64_t{1} << 30) - 1), 30);
			put(v >> 30, n - 30);
			return;
		}
		acc |= v << used;
		used += n;
		for (; used >= 8; used -= 8, acc >>= 8)
			out.push_back(static_cast<uint8_t>(acc));
	}
	void finish() {
		if (used > 0)
			out.push_back(static_cast<uint8_t>(acc));
		acc = used = 0;
	}

private:
	std::vector<uint8_t> &out;
	uint64_t acc = 0;
	unsigned used = 0;
};

class BitReader {
public:
	BitReader(const uint8_t *p, size_t n) : data(p), bytes(n), total(uint64_t{n} * 8) {}
	// At least 57 bits from here on; zeros beyond the end, which skip() then refuses.
	uint64_t peek() const {
		const size_t b = at >> 3;
		if (bytes >= 8 && b <= bytes - 8)
			return load64(data + b) >> (at & 7);
		uint64_t v = 0;
		for (size_t i = b; i < bytes; i++)
			v |= uint64_t{data[i]} << (8 * (i - b));
		return v >> (at & 7);
	}
	void skip(unsigned n) {
		if (n > total - at)
			throw Corrupt("dictionary block ends too early");
		at += n;
	}
	uint64_t get(unsigned n) { // n <= 60
		if (n > 30) {
			const uint64_t low = get(30);
			return low | get(n - 30) << 30;
		}
		const uint64_t v = peek() & ((uint64_t{1} << n) - 1);
		skip(n);
		return v;
	}
	// What is left must be the padding of the last byte.
	void finish() const {
		if (total - at >= 8 || (total != at && peek() != 0))
			throw Corrupt("dictionary block has bytes left over");
	}

private:
	const uint8_t *data;
	size_t bytes;
	uint64_t total;
	uint64_t at = 0;
};

// ---- integers -----------------------------------------------------------------------------------------------------

/*
 * payload of an integer block, the first value being in the directory:
 *
 *    byte 0: k        then, per further value, d = difference - 1:
 *    d >> k < 24:     that many one bits, a zero bit, the low k bits of d
 *    else:            24 one bits, d in 60 bits. A single gap can't make the block large
 */
constexpr unsigned kRiceEscape = 24;
constexpr unsigned kRiceRawBits = 60;
constexpr unsigned kRiceMaxK = 59;

uint64_t rice_bits(std::span<const uint64_t> values, unsigned k) {
	uint64_t bits = 0;
	for (size_t i = 1; i < values.size(); i++) {
		const uint64_t q = (values[i] - values[i - 1] - 1) >> k;
		bits += q < kRiceEscape ? q + 1 + k : kRiceEscape + kRiceRawBits;
	}
	return bits;
}

unsigned best_k(std::span<const uint64_t> values) {
	unsigned best = 0;
	uint64_t least = UINT64_MAX;
	for (unsigned k = 0; k <= kRiceMaxK; k++) {
		const uint64_t bits = rice_bits(values, k);
		if (bits < least) {
			least = bits;
			best = k;
		}
	}
	return best;
}

std::vector<uint8_t> encode_integers(std::span<const uint64_t> values) {
	std::vector<uint8_t> out;
	if (values.size() < 2)
		return out;
	const unsigned k = best_k(values);
	out.push_back(static_cast<uint8_t>(k));
	BitWriter w(out);
	for (size_t i = 1; i < values.size(); i++) {
		const uint64_t d = values[i] - values[i - 1] - 1;
		const uint64_t q = d >> k;
		if (q >= kRiceEscape) {
			w.put((uint64_t{1} << kRiceEscape) - 1, kRiceEscape);
			w.put(d, kRiceRawBits);
			continue;
		}
		w.put((uint64_t{1} << q) - 1, static_cast<unsigned>(q) + 1);
		w.put(d & ((uint64_t{1} << k) - 1), k);
	}
	w.finish();
	return out;
}

uint64_t read_rice(BitReader &r, unsigned k) {
	const uint64_t v = r.peek();
	const auto q = static_cast<unsigned>(std::countr_one(v));
	if (q >= kRiceEscape) {
		r.skip(kRiceEscape);
		return r.get(kRiceRawBits);
	}
	if (q + 1 + k <= 57) { // all of it has been peeked
		r.skip(q + 1 + k);
		return (uint64_t{q} << k) | ((v >> (q + 1)) & ((uint64_t{1} << k) - 1));
	}
	r.skip(q + 1);
	if (q > (kMaxInteger >> k))
		throw Corrupt("dictionary integer is out of range");
	return (uint64_t{q} << k) | r.get(k);
}

// ---- texts: streams -----------------------------------------------------------------------------------------------

/*
 * payload of a text block: byte 0 says how.
 *    plain, packed   per text: varint bytes shared with the text before, varint further bytes, those bytes;
 *                    packed: in a zstd frame
 *    split           text = head + digits + domain. Five streams, each varint raw length, varint packed length (0:
 *                    stored), bytes; then the bits of the digits:
 *                       0 shared   one byte per text: bytes of the head shared with the head before
 *                       1 heads    further bytes of the head, 0
 *                       2 domains  one byte per text: 0 none, 1..254 of the record's table, 255 in stream 4
 *                       3 digits   one byte per text: how many (0..18)
 *                       4 rare     domains that are not in the table, each with 0
 */
enum Mode : uint8_t { kPlain = 0, kPacked = 1, kSplit = 2 };
constexpr uint8_t kRareDomain = 255;
constexpr int kZstdLevel = 15;
constexpr uint64_t kZstdMaxRatio = 1 << 15; // a run of 128 kB takes four bytes

constexpr std::array<uint64_t, kMaxDigits + 1> make_powers() {
	std::array<uint64_t, kMaxDigits + 1> p{};
	uint64_t v = 1;
	for (auto &e : p) {
		e = v;
		v *= 10;
	}
	return p;
}
constexpr auto kPower10 = make_powers();

constexpr unsigned digit_bits(size_t digits) {
	return static_cast<unsigned>(std::bit_width(kPower10[digits] - 1));
}

size_t shared_prefix(std::string_view a, std::string_view b) {
	const size_t n = std::min(a.size(), b.size());
	return static_cast<size_t>(std::mismatch(a.begin(), a.begin() + static_cast<ptrdiff_t>(n), b.begin()).first -
							   a.begin());
}

const uint8_t *octets(std::string_view s) {
	return reinterpret_cast<const uint8_t *>(s.data());
}

void append(std::vector<uint8_t> &out, std::string_view s) {
	out.insert(out.end(), s.begin(), s.end());
}

struct Parts {
	std::string_view head, digits, domain;
};

Parts split_text(std::string_view s) {
	const size_t at = s.rfind('@');
	const std::string_view local = s.substr(0, at);
	size_t digits = 0;
	while (digits < local.size() && digits < kMaxDigits && is_digit(local[local.size() - 1 - digits]))
		digits++;
	const size_t head = local.size() - digits;
	return {local.substr(0, head), local.substr(head), s.substr(local.size())};
}

using DomainTable = std::unordered_map<std::string_view, uint32_t>;

struct Domains {
	std::vector<std::string_view> names;
	DomainTable number; // from 1
};

// Domains that occur often enough to pay for their place in the directory, the most frequent first.
Domains common_domains(std::span<const std::string_view> texts) {
	constexpr uint32_t kWorthwhile = 3;
	Domains d;
	DomainTable seen;
	for (const std::string_view t : texts) {
		const size_t at = t.rfind('@');
		if (at != t.npos && t.size() - at <= 255)
			seen[t.substr(at)]++;
	}
	std::vector<std::pair<uint32_t, std::string_view>> order;
	for (const auto &[name, n] : seen) {
		if (n >= kWorthwhile)
			order.emplace_back(n, name);
	}
	std::sort(order.begin(), order.end(), [](const auto &a, const auto &b) {
		return a.first != b.first ? a.first > b.first : a.second < b.second;
	});
	if (order.size() > kMaxDomains)
		order.resize(kMaxDomains);
	for (const auto &[n, name] : order) {
		d.names.push_back(name);
		d.number[name] = static_cast<uint32_t>(d.names.size());
	}
	return d;
}

class Packer {
public:
	Packer() : context(ZSTD_createCCtx()) {
		if (context == nullptr)
			throw std::bad_alloc();
	}
	Packer(const Packer &) = delete;
	Packer &operator=(const Packer &) = delete;
	~Packer() { ZSTD_freeCCtx(context); }

	std::vector<uint8_t> pack(const std::vector<uint8_t> &in) {
		std::vector<uint8_t> out(ZSTD_compressBound(in.size()));
		const size_t n = ZSTD_compressCCtx(context, out.data(), out.size(), in.data(), in.size(), kZstdLevel);
		if (ZSTD_isError(n) != 0)
			throw std::runtime_error(ZSTD_getErrorName(n));
		out.resize(n);
		return out;
	}
	void stream(Writer &w, const std::vector<uint8_t> &in) {
		w.varint(in.size());
		const std::vector<uint8_t> packed = in.empty() ? in : pack(in);
		const bool better = packed.size() < in.size();
		const std::vector<uint8_t> &bytes = better ? packed : in;
		w.varint(better ? packed.size() : 0);
		w.bytes(bytes.data(), bytes.size());
	}

private:
	ZSTD_CCtx *context;
};

std::vector<uint8_t> encode_plain(std::span<const std::string_view> texts) {
	Writer w;
	std::string_view before;
	for (const std::string_view t : texts) {
		const size_t shared = shared_prefix(before, t);
		w.varint(shared);
		w.varint(t.size() - shared);
		append(w.out, t.substr(shared));
		before = t;
	}
	return std::move(w.out);
}

std::vector<uint8_t> encode_split(std::span<const std::string_view> texts, const Domains &domains, Packer &packer) {
	std::vector<uint8_t> shared, heads, domain, digits, rare, bits;
	BitWriter numbers(bits);
	std::string_view before;
	for (const std::string_view t : texts) {
		const Parts p = split_text(t);
		const size_t same = std::min<size_t>(shared_prefix(before, p.head), 255);
		shared.push_back(static_cast<uint8_t>(same));
		append(heads, p.head.substr(same));
		heads.push_back(0);
		const auto known = domains.number.find(p.domain);
		const bool is_known = known != domains.number.end();
		const bool is_rare = !p.domain.empty() && !is_known;
		domain.push_back(is_rare ? kRareDomain : static_cast<uint8_t>(is_known ? known->second : 0));
		if (is_rare) {
			append(rare, p.domain);
			rare.push_back(0);
		}
		digits.push_back(static_cast<uint8_t>(p.digits.size()));
		numbers.put(integer_value(p.digits), digit_bits(p.digits.size()));
		before = p.head;
	}
	numbers.finish();
	Writer w;
	w.u8(kSplit);
	for (const auto *s : {&shared, &heads, &domain, &digits, &rare})
		packer.stream(w, *s);
	w.bytes(bits.data(), bits.size());
	return std::move(w.out);
}

bool can_split(std::span<const std::string_view> texts) {
	return texts.size() > 1 &&
		   std::none_of(texts.begin(), texts.end(), [](std::string_view t) { return t.find('\0') != t.npos; });
}

// The smallest of the three forms. Packing the plain one takes the most time: it is not tried where the split one is
// so small that packing would not come near it.
std::vector<uint8_t> encode_texts(std::span<const std::string_view> texts, const Domains &domains, Packer &packer) {
	constexpr size_t kTooSmallToPack = 48;
	constexpr size_t kNeverPackedTo = 3;
	const std::vector<uint8_t> plain = encode_plain(texts);
	std::vector<uint8_t> best{kPlain};
	best.insert(best.end(), plain.begin(), plain.end());
	if (plain.size() < kTooSmallToPack)
		return best;
	if (can_split(texts)) {
		std::vector<uint8_t> split = encode_split(texts, domains, packer);
		if (split.size() * kNeverPackedTo < plain.size())
			return split;
		if (split.size() < best.size())
			best = std::move(split);
	}
	const std::vector<uint8_t> packed = packer.pack(plain);
	if (packed.size() + 1 < best.size()) {
		best.assign(1, kPacked);
		best.insert(best.end(), packed.begin(), packed.end());
	}
	return best;
}

// ---- record: writing ----------------------------------------------------------------------------------------------

struct Encoded {
	uint32_t count = 0;
	uint32_t raw = 0;
	uint64_t first = 0;
	std::string_view fence;
	std::vector<uint8_t> payload;
};

class RecordWriter {
public:
	explicit RecordWriter(std::span<const std::string_view> all) : texts(all) {
		flags = in_order() ? 0 : kUnsorted;
		if (flags & kUnsorted)
			check_unique();
		else
			n_ints = static_cast<size_t>(std::partition_point(texts.begin(), texts.end(), canonical_integer) -
										 texts.begin());
	}

	std::vector<uint8_t> write() {
		integers();
		strings();
		if (texts.size() <= kWholeEntries && payload_bytes <= kWholeBytes)
			flags |= kWhole;
		const std::vector<uint8_t> meta = directory();
		Writer w;
		start_blob(w, BlobKind::dictionary, kVersion, flags);
		w.varint(meta.size());
		w.bytes(meta.data(), meta.size());
		const size_t meta_end = w.out.size();
		for (const Encoded &b : blocks)
			w.bytes(b.payload.data(), b.payload.size());
		if (w.out.size() > kRecordMaxBytes)
			throw Limit("dictionary record is too large");
		const size_t covered = flags & kWhole ? w.out.size() : meta_end;
		const uint32_t sum = boost::endian::native_to_little(blob_checksum(w.out.data(), covered));
		std::memcpy(w.out.data() + 4, &sum, sizeof sum);
		return std::move(w.out);
	}

private:
	static constexpr size_t kWholeEntries = 64;
	static constexpr size_t kWholeBytes = 4096;

	bool in_order() const {
		for (size_t i = 1; i < texts.size(); i++) {
			if (!identity_less(texts[i - 1], texts[i]))
				return false;
		}
		return true;
	}
	void check_unique() const {
		std::vector<std::string_view> sorted(texts.begin(), texts.end());
		std::sort(sorted.begin(), sorted.end());
		if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end())
			throw std::invalid_argument("dictionary record with the same identity twice");
	}
	void integers() {
		std::vector<uint64_t> values;
		for (size_t i = 0; i < n_ints; i += kIntBlockEntries) {
			const size_t n = std::min<size_t>(kIntBlockEntries, n_ints - i);
			values.clear();
			for (const std::string_view t : texts.subspan(i, n))
				values.push_back(integer_value(t));
			add({static_cast<uint32_t>(n), 0, values[0], {}, encode_integers(values)});
		}
	}
	void strings() {
		const auto all = texts.subspan(n_ints);
		if (all.empty())
			return;
		Packer packer;
		domains = common_domains(all);
		size_t start = 0;
		size_t raw = 0;
		for (size_t i = 0; i <= all.size(); i++) {
			const bool full = i - start == kTextBlockEntries;
			if (i > start && (i == all.size() || full || raw + all[i].size() > kTextBlockRawBytes)) {
				add({static_cast<uint32_t>(i - start), static_cast<uint32_t>(raw), 0, fence(all, start),
					 encode_texts(all.subspan(start, i - start), domains, packer)});
				start = i;
				raw = 0;
			}
			if (i < all.size())
				raw += all[i].size();
		}
	}
	// The shortest start of a block's first text that is greater than the text before.
	std::string_view fence(std::span<const std::string_view> all, size_t start) const {
		if (start == 0 || (flags & kUnsorted))
			return {};
		return all[start].substr(0, shared_prefix(all[start - 1], all[start]) + 1);
	}
	void add(Encoded &&b) {
		payload_bytes += b.payload.size();
		if (payload_bytes > kRecordMaxBytes)
			throw Limit("dictionary record is too large");
		blocks.push_back(std::move(b));
	}
	void put_sum(Writer &w, const Encoded &b) const {
		if ((flags & kWhole) == 0 && !b.payload.empty())
			w.u32(cseg_checksum(b.payload.data(), b.payload.size(), 0));
	}
	std::vector<uint8_t> directory() const {
		const size_t int_blocks = (n_ints + kIntBlockEntries - 1) / kIntBlockEntries;
		Writer w;
		w.varint(n_ints);
		uint64_t before = 0;
		for (size_t i = 0; i < int_blocks; i++) {
			w.varint(blocks[i].first - before);
			w.varint(blocks[i].payload.size());
			put_sum(w, blocks[i]);
			before = blocks[i].first;
		}
		w.varint(texts.size() - n_ints);
		if (texts.size() == n_ints)
			return std::move(w.out);
		w.varint(domains.names.size());
		for (const std::string_view d : domains.names) {
			w.varint(d.size());
			w.bytes(octets(d), d.size());
		}
		w.varint(blocks.size() - int_blocks);
		for (size_t i = int_blocks; i < blocks.size(); i++) {
			const Encoded &b = blocks[i];
			w.varint(b.count);
			w.varint(b.raw);
			w.varint(b.payload.size());
			put_sum(w, b);
			if (i == int_blocks || (flags & kUnsorted))
				continue;
			w.varint(b.fence.size());
			w.bytes(octets(b.fence), b.fence.size());
		}
		return std::move(w.out);
	}

	std::span<const std::string_view> texts;
	uint16_t flags = 0;
	size_t n_ints = 0;
	size_t payload_bytes = 0;
	Domains domains;
	std::vector<Encoded> blocks;
};

// ---- record: directory --------------------------------------------------------------------------------------------

class DirectoryReader {
public:
	DirectoryReader(Directory &o, const uint8_t *b, size_t n) : out(o), bytes(b), len(n), meta(nullptr, 0) {
		out.blocks.clear();
		out.domains.clear();
		Reader r = open_blob(bytes, len, BlobKind::dictionary, kVersion, &out.flags, false);
		if ((out.flags & ~(kUnsorted | kWhole)) != 0)
			throw Corrupt("dictionary record has unknown flags");
		const size_t n_meta = r.varint_max(r.left(), "dictionary directory length");
		meta = Reader(r.take(n_meta), n_meta);
		payload = len - r.left();
		check_sum();
	}

	void read() {
		integers();
		strings();
		if (meta.left() != 0)
			throw Corrupt("dictionary directory has bytes left over");
		if (payload != len)
			throw Corrupt("dictionary record has bytes left over");
	}

private:
	void check_sum() const {
		uint32_t sum;
		std::memcpy(&sum, bytes + 4, sizeof sum);
		const size_t covered = out.flags & kWhole ? len : payload;
		if (boost::endian::little_to_native(sum) != blob_checksum(bytes, covered))
			throw Corrupt("dictionary checksum does not match");
	}
	Range range(size_t n) {
		const uint8_t *p = meta.take(n);
		return {static_cast<size_t>(p - bytes), static_cast<uint32_t>(n)};
	}
	void locate(Block &b) {
		b.payload.bytes = static_cast<uint32_t>(meta.varint_max(len - payload, "dictionary block length"));
		b.payload.offset = payload;
		payload += b.payload.bytes;
		if ((out.flags & kWhole) == 0 && b.payload.bytes > 0)
			b.sum = meta.u32();
	}
	void integers() {
		out.n_ints = static_cast<uint32_t>(meta.varint_max(uint64_t{CSEG_MAX_ORDINAL} + 1, "dictionary count"));
		if (out.n_ints > 0 && !out.sorted())
			throw Corrupt("unsorted dictionary record has integers");
		out.int_blocks = (out.n_ints + kIntBlockEntries - 1) / kIntBlockEntries;
		if (out.int_blocks > meta.left() / 2)
			throw Corrupt("dictionary directory is too short");
		uint64_t before = 0;
		for (uint32_t i = 0; i < out.int_blocks; i++) {
			Block b;
			b.entry = i * kIntBlockEntries;
			b.count = std::min(kIntBlockEntries, out.n_ints - b.entry);
			const uint64_t gap = meta.varint_max(kMaxInteger - before, "dictionary integer");
			if (i > 0 && gap < kIntBlockEntries)
				throw Corrupt("dictionary integers are not in order");
			b.first = before += gap;
			locate(b);
			if ((b.count == 1) != (b.payload.bytes == 0))
				throw Corrupt("dictionary block has the wrong length");
			out.blocks.push_back(b);
		}
	}
	void strings() {
		const uint64_t room = uint64_t{CSEG_MAX_ORDINAL} + 1 - out.n_ints;
		out.n_texts = static_cast<uint32_t>(meta.varint_max(room, "dictionary count"));
		if (out.n_texts == 0)
			return;
		const auto n_domains = meta.varint_max(kMaxDomains, "number of domains");
		for (uint64_t i = 0; i < n_domains; i++)
			out.domains.push_back(range(meta.varint_max(meta.left(), "domain length")));
		const uint64_t n_blocks = meta.varint_max(meta.left() / 3, "number of dictionary blocks");
		uint32_t entry = out.n_ints;
		for (uint64_t i = 0; i < n_blocks; i++) {
			out.blocks.push_back(string_block(entry, i == 0));
			entry += out.blocks.back().count;
		}
		if (entry != out.count())
			throw Corrupt("dictionary blocks do not add up");
	}
	Block string_block(uint32_t entry, bool is_first) {
		Block b;
		b.entry = entry;
		b.count = static_cast<uint32_t>(
			meta.varint_max(std::min(kTextBlockMaxEntries, out.count() - entry), "dictionary block count"));
		if (b.count == 0)
			throw Corrupt("dictionary block is empty");
		b.raw = static_cast<uint32_t>(
			meta.varint_max(b.count == 1 ? kTextMaxBytes : kTextBlockRawBytes, "dictionary block size"));
		locate(b);
		if (b.payload.bytes == 0)
			throw Corrupt("dictionary block has the wrong length");
		if (!is_first && out.sorted())
			b.fence = fence();
		return b;
	}
	Range fence() {
		const Range f = range(meta.varint_max(meta.left(), "dictionary fence length"));
		const Range before = out.blocks.back().fence;
		if (view(bytes, f) <= view(bytes, before))
			throw Corrupt("dictionary fences are not in order");
		return f;
	}

	Directory &out;
	const uint8_t *bytes;
	size_t len;
	Reader meta;
	size_t payload = 0; // where the next block lies
};

const uint8_t *payload_of(const uint8_t *record, const Directory &dir, const Block &b) {
	const uint8_t *p = record + b.payload.offset;
	if ((dir.flags & kWhole) == 0 && b.payload.bytes > 0 && cseg_checksum(p, b.payload.bytes, 0) != b.sum)
		throw Corrupt("dictionary block checksum does not match");
	return p;
}

} // namespace

size_t Directory::block_of(uint32_t entry) const {
	if (entry < n_ints)
		return entry / kIntBlockEntries;
	const auto it = std::upper_bound(blocks.begin() + int_blocks, blocks.end(), entry,
									 [](uint32_t e, const Block &b) { return e < b.entry; });
	return static_cast<size_t>(it - blocks.begin()) - 1;
}

void read_directory(Directory *out, const uint8_t *bytes, size_t len) {
	DirectoryReader(*out, bytes, len).read();
}

// ---- blocks: reading ----------------------------------------------------------------------------------------------

constexpr size_t kAhead = 16; // bytes that may be written behind a text before the next one starts

// Where the texts of a block go. Nothing is written beyond what the directory promised, and kAhead bytes.
struct Decoder::Out {
	Out(const Block &b, int header_shift, std::vector<uint32_t> &s)
		: shift(header_shift), left(b.raw), space(size_t{b.raw} + size_t{b.count} * 7 + kAhead), starts(s) {
		memory = std::make_unique_for_overwrite<uint8_t[]>(space);
		end = memory.get();
		starts.clear();
		starts.reserve(b.count);
	}
	// Starts the next text; the caller fills the bytes returned. The text before stays readable.
	uint8_t *start(size_t len) {
		if (len > left)
			throw Corrupt("dictionary texts are longer than announced");
		left -= len;
		pad();
		starts.push_back(static_cast<uint32_t>(used / 4));
		const uint32_t header = text_header(len, shift);
		uint8_t *p = memory.get() + used;
		std::memcpy(p, &header, sizeof header);
		used += text_space(len);
		end = p + 4 + len;
		return p + 4;
	}
	// Copies a piece of the text that was started. *from has as many bytes as `readable` says.
	static uint8_t *put(uint8_t *p, const uint8_t *from, size_t n, size_t readable) {
		if (n <= kAhead && readable >= kAhead) {
			// By way of a register, since the text before may be as near as that.
			std::array<uint8_t, kAhead> piece;
			std::memcpy(piece.data(), from, kAhead);
			std::memcpy(p, piece.data(), kAhead);
		} else if (n > 0) {
			std::memcpy(p, from, n);
		}
		return p + n;
	}
	// How many bytes behind a text of this block can be read.
	size_t readable(const uint8_t *text) const { return static_cast<size_t>(memory.get() + space - text); }
	Arena finish() {
		if (left != 0)
			throw Corrupt("dictionary texts are shorter than announced");
		pad();
		return {std::move(memory), space};
	}

	// Padding is zeroed, once the text is complete: nothing of the heap's past leaves in a text.
	void pad() {
		constexpr uint32_t zero = 0;
		std::memcpy(end, &zero, sizeof zero);
	}

	int shift;
	size_t left; // bytes of text still allowed
	size_t space;
	size_t used = 0;
	uint8_t *end; // of the last text
	std::unique_ptr<uint8_t[]> memory;
	std::vector<uint32_t> &starts;
};

Decoder::~Decoder() {
	ZSTD_freeDCtx(zstd);
}

size_t Decoder::bytes() const {
	size_t n = starts.capacity() * sizeof(uint32_t) + values.capacity() * sizeof(uint64_t) + ZSTD_sizeof_DCtx(zstd);
	for (const size_t c : capacity)
		n += c;
	return n;
}

void Decoder::release() {
	ZSTD_freeDCtx(zstd);
	zstd = nullptr;
	starts = {};
	values = {};
	for (int i = 0; i < kStreams; i++) {
		scratch[i].reset();
		capacity[i] = 0;
	}
}

std::span<const uint64_t> Decoder::integers(const uint8_t *record, const Directory &dir, size_t block) {
	const Block &b = dir.blocks[block];
	const bool last = block + 1 == dir.int_blocks;
	const uint64_t end = last ? kMaxInteger + 1 : dir.blocks[block + 1].first;
	values.resize(b.count);
	values[0] = b.first;
	if (b.count == 1)
		return values;
	const uint8_t *p = payload_of(record, dir, b);
	const unsigned k = p[0];
	if (k > kRiceMaxK)
		throw Corrupt("dictionary block has an unknown code");
	BitReader r(p + 1, b.payload.bytes - 1);
	uint64_t v = b.first;
	for (uint32_t i = 1; i < b.count; i++) {
		const uint64_t d = read_rice(r, k);
		if (d >= end - v - 1)
			throw Corrupt("dictionary integer is out of range");
		values[i] = v += d + 1;
	}
	r.finish();
	return values;
}

Arena Decoder::integer_texts(const uint8_t *record, const Directory &dir, size_t block) {
	const auto ints = integers(record, dir, block);
	char digits[kMaxDigits + 2];
	const auto widest = std::to_chars(digits, digits + sizeof digits, ints.back()).ptr - digits;
	const size_t space = ints.size() * text_space(static_cast<size_t>(widest));
	auto memory = std::make_unique_for_overwrite<uint8_t[]>(space);
	starts.clear();
	starts.reserve(ints.size());
	size_t used = 0;
	for (const uint64_t v : ints) {
		uint8_t *p = memory.get() + used;
		char *text = reinterpret_cast<char *>(p) + 4;
		const auto n = static_cast<size_t>(std::to_chars(text, text + widest, v).ptr - text);
		const uint32_t header = text_header(n, shift);
		std::memcpy(p, &header, sizeof header);
		const size_t room = text_space(n);
		for (size_t i = 4 + n; i < room; i++)
			p[i] = 0;
		starts.push_back(static_cast<uint32_t>(used / 4));
		used += room;
	}
	return {std::move(memory), space};
}

// Unpacks a zstd frame whose own length field must say the same as ours.
std::span<const uint8_t> Decoder::inflate(const uint8_t *from, size_t n, size_t raw,
										  std::unique_ptr<uint8_t[]> &memory, size_t &room) {
	if (ZSTD_getFrameContentSize(from, n) != raw || raw / kZstdMaxRatio > n)
		throw Corrupt("packed bytes have another size than announced");
	if (zstd == nullptr && (zstd = ZSTD_createDCtx()) == nullptr)
		throw std::bad_alloc();
	if (room < raw) {
		room = 0;
		memory = std::make_unique_for_overwrite<uint8_t[]>(raw);
		room = raw;
	}
	const size_t got = ZSTD_decompressDCtx(zstd, memory.get(), raw, from, n);
	if (ZSTD_isError(got) != 0 || got != raw)
		throw Corrupt("packed bytes do not unpack");
	return {memory.get(), raw};
}

std::span<const uint8_t> Decoder::stream(Reader &r, int which, size_t max) {
	const size_t raw = r.varint_max(max, "stream size");
	const size_t packed = r.varint_max(r.left(), "packed stream size");
	if (packed == 0)
		return {r.take(raw), raw};
	return inflate(r.take(packed), packed, raw, scratch[which], capacity[which]);
}

void Decoder::plain(Reader r, uint32_t count, Out &out) {
	const uint8_t *before = nullptr;
	size_t before_len = 0;
	for (uint32_t i = 0; i < count; i++) {
		const size_t shared = r.varint_max(before_len, "shared length");
		const size_t more = r.varint_max(r.left(), "text length");
		uint8_t *p = out.start(shared + more);
		if (shared > 0)
			std::memcpy(p, before, shared);
		const uint8_t *rest = r.take(more);
		if (more > 0)
			std::memcpy(p + shared, rest, more);
		before = p;
		before_len = shared + more;
	}
	if (r.left() != 0)
		throw Corrupt("dictionary block has bytes left over");
}

namespace {

// The next piece of a stream of pieces that end with a zero byte.
class Pieces {
public:
	explicit Pieces(std::span<const uint8_t> s) : at(s.data()), end(s.data() + s.size()) {}
	std::span<const uint8_t> next() {
		const size_t n = length();
		const std::span<const uint8_t> s(at, n);
		at += n + 1;
		return s;
	}
	// How many bytes can be read from here on.
	size_t readable(std::span<const uint8_t> piece) const { return static_cast<size_t>(end - piece.data()); }
	void finish() const {
		if (at != end)
			throw Corrupt("text stream has bytes left over");
	}

private:
	// Most pieces are short: the first zero byte of eight.
	size_t length() const {
		const auto room = static_cast<size_t>(end - at);
		if (room >= 8) {
			const uint64_t v = load64(at);
			const uint64_t zeros = (v - 0x0101010101010101) & ~v & 0x8080808080808080;
			if (zeros != 0)
				return static_cast<size_t>(std::countr_zero(zeros)) / 8;
		}
		const void *zero = room == 0 ? nullptr : std::memchr(at, 0, room);
		if (zero == nullptr)
			throw Corrupt("text stream ends too early");
		return static_cast<size_t>(static_cast<const uint8_t *>(zero) - at);
	}

	const uint8_t *at;
	const uint8_t *end;
};

uint8_t *put_digits(uint8_t *p, uint64_t v, size_t n) {
	for (size_t i = n; i-- > 0; v /= 10)
		p[i] = static_cast<uint8_t>('0' + v % 10);
	return p + n;
}

} // namespace

void Decoder::split(Reader r, const uint8_t *record, const Directory &dir, uint32_t count, Out &out) {
	const size_t most = out.left + count;
	const auto shared = stream(r, 0, count);
	Pieces heads(stream(r, 1, most));
	const auto domain = stream(r, 2, count);
	const auto digits = stream(r, 3, count);
	Pieces rare(stream(r, 4, most));
	if (shared.size() != count || domain.size() != count || digits.size() != count)
		throw Corrupt("stream has the wrong length");
	const size_t n_bits = r.left();
	BitReader bits(r.take(n_bits), n_bits);
	const uint8_t *before = nullptr;
	size_t before_len = 0;
	for (uint32_t i = 0; i < count; i++) {
		const size_t n_digits = digits[i];
		if (shared[i] > before_len || n_digits > kMaxDigits)
			throw Corrupt("text stream is out of range");
		const uint64_t number = bits.get(digit_bits(n_digits));
		if (number >= kPower10[n_digits])
			throw Corrupt("number in a text is out of range");
		const auto head = heads.next();
		std::span<const uint8_t> end;
		if (domain[i] == kRareDomain) {
			end = rare.next();
		} else if (domain[i] > dir.domains.size()) {
			throw Corrupt("domain is not in the table");
		} else if (domain[i] > 0) {
			const Range r = dir.domains[domain[i] - 1];
			end = {record + r.offset, r.bytes};
		}
		uint8_t *const text = out.start(shared[i] + head.size() + n_digits + end.size());
		uint8_t *p = before == nullptr ? text : Out::put(text, before, shared[i], out.readable(before));
		p = Out::put(p, head.data(), head.size(), heads.readable(head));
		p = put_digits(p, number, n_digits);
		Out::put(p, end.data(), end.size(), end.size());
		before = text;
		before_len = shared[i] + head.size();
	}
	heads.finish();
	rare.finish();
	bits.finish();
}

// Lookups rely on the order, within a block and towards its neighbours.
void Decoder::check_order(const uint8_t *record, const Directory &dir, size_t block, const Arena &arena) {
	const auto text = [&](size_t i) { return text_at(arena.memory.get() + size_t{starts[i]} * 4, shift); };
	std::string_view before = text(0);
	if (before < view(record, dir.blocks[block].fence))
		throw Corrupt("dictionary fence is above its block");
	for (size_t i = 1; i < starts.size(); i++) {
		const std::string_view t = text(i);
		if (t <= before)
			throw Corrupt("dictionary texts are not in order");
		before = t;
	}
	if (block + 1 < dir.blocks.size() && before >= view(record, dir.blocks[block + 1].fence))
		throw Corrupt("dictionary fence is below the block before");
}

Arena Decoder::texts(const uint8_t *record, const Directory &dir, size_t block) {
	if (dir.is_int(block))
		return integer_texts(record, dir, block);
	const Block &b = dir.blocks[block];
	Reader r(payload_of(record, dir, b), b.payload.bytes);
	const uint8_t mode = r.u8();
	if (b.raw / kZstdMaxRatio > b.payload.bytes * uint64_t{b.count})
		throw Corrupt("dictionary block is shorter than its texts can be");
	Out out(b, shift, starts);
	if (mode == kPlain) {
		plain(r, b.count, out);
	} else if (mode == kPacked) {
		const size_t n = r.left();
		const uint8_t *frame = r.take(n);
		const unsigned long long raw = ZSTD_getFrameContentSize(frame, n);
		if (raw > size_t{b.raw} + size_t{b.count} * 10)
			throw Corrupt("packed bytes have another size than announced");
		std::unique_ptr<uint8_t[]> own; // not kept: may be huge
		size_t room = 0;
		const auto bytes = inflate(frame, n, raw, own, room);
		plain(Reader(bytes.data(), bytes.size()), b.count, out);
	} else if (mode == kSplit) {
		split(r, record, dir, b.count, out);
	} else {
		throw Corrupt("dictionary block has an unknown code");
	}
	Arena arena = out.finish();
	if (dir.sorted())
		check_order(record, dir, block, arena);
	return arena;
}

namespace {

// What lookups don't need: unsorted records have no text twice, and no integer is hidden among sorted texts.
void check_texts(Decoder &decoder, const uint8_t *bytes, const Directory &dir) {
	std::vector<std::string> all; // of an unsorted record
	for (size_t b = 0; b < dir.blocks.size(); b++) {
		const Arena arena = decoder.texts(bytes, dir, b);
		if (dir.is_int(b))
			continue;
		for (const uint32_t at : decoder.at()) {
			const std::string_view t = text_at(arena.memory.get() + size_t{at} * 4, 0);
			if (!dir.sorted())
				all.emplace_back(t);
			else if (canonical_integer(t))
				throw Corrupt("dictionary texts are not in order");
		}
	}
	std::sort(all.begin(), all.end());
	if (std::adjacent_find(all.begin(), all.end()) != all.end())
		throw Corrupt("dictionary record has an identity twice");
}

} // namespace
} // namespace dict

std::vector<uint8_t> encode_dictionary(std::span<const std::string_view> texts) {
	if (texts.size() > uint64_t{CSEG_MAX_ORDINAL} + 1)
		throw Limit("too many identities in a dictionary record");
	for (const std::string_view t : texts) {
		if (t.size() > dict::kTextMaxBytes)
			throw Limit("identity is too long");
	}
	return dict::RecordWriter(texts).write();
}

} // namespace cseg

// ---- C ------------------------------------------------------------------------------------------------------------

extern "C" CsegCode cseg_dict_check(const uint8_t *bytes, size_t len, uint32_t *count, CsegError *err) {
	return cseg::guard(err, [&] {
		cseg::dict::Directory dir;
		cseg::dict::Decoder decoder(0);
		cseg::dict::read_directory(&dir, bytes, len);
		cseg::dict::check_texts(decoder, bytes, dir);
		*count = dir.count();
	});
}

extern "C" CsegCode cseg_dict_encode(const uint8_t *const *texts, const size_t *lens, uint32_t n, uint8_t **bytes,
									 size_t *len, CsegError *err) {
	return cseg::guard(err, [&] {
		std::vector<std::string_view> views;
		views.reserve(n);
		for (uint32_t i = 0; i < n; i++)
			views.emplace_back(lens[i] > 0 ? reinterpret_cast<const char *>(texts[i]) : "", lens[i]);
		const std::vector<uint8_t> record = cseg::encode_dictionary(views);
		auto *copy = static_cast<uint8_t *>(std::malloc(record.size()));
		if (copy == nullptr)
			throw std::bad_alloc();
		std::memcpy(copy, record.data(), record.size());
		*bytes = copy;
		*len = record.size();
	});
}

extern "C" void cseg_bytes_free(void *bytes) {
	std::free(bytes);
}
