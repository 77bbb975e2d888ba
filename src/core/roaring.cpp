// roaring.cpp
//    Sets of ordinals in the portable Roaring format, for storing and for exchange.
//
// Source: the Roaring format specification (RoaringFormatSpec), both variants, with and without run containers. Its
// containers have 2^16 values, so each holds two of ours. Of array, bitmap and runs the smallest is written, as the
// reference implementations do after optimizing for runs; all that they may write is read, and nothing else.
#include "roaring.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "guard.hpp"

namespace cseg {
namespace {

constexpr uint32_t kCookie = 12346;
constexpr uint32_t kCookieRuns = 12347;
constexpr size_t kValues = 65536;
constexpr size_t kBitmapWords = kValues / 64;
constexpr size_t kBitmapBytes = kValues / 8;
constexpr size_t kArrayMax = 4096;
constexpr size_t kOffsetsFrom = 4; // containers, where there are runs

using Bitmap = std::array<uint64_t, kBitmapWords>;

enum class Form { array, bitmap, runs };

struct Container {
	uint16_t key;
	uint32_t count;
	uint32_t runs;
	Form form;
	size_t bytes;
};

// ---- writing -------------------------------------------------------------------------------------------------

// The two of our containers that make one of the format; a half that has nobody is all zeros.
using Halves = std::array<const uint64_t *, 2>;

Halves halves_of(const OrdinalSet &set, uint32_t key) {
	static constexpr Bits kNobody{};
	Halves halves{kNobody.data(), kNobody.data()};
	for (uint32_t half = 0; half < 2; half++) {
		const Members *m = set.from(key * 2 + half);
		if (m != nullptr && m->container == key * 2 + half)
			halves[half] = m->bits->data();
	}
	return halves;
}

uint64_t word_of(const Halves &halves, size_t w) {
	return halves[w / kWords][w % kWords];
}

Container measure(uint32_t key, const Halves &halves) {
	Container c{static_cast<uint16_t>(key), 0, 0, Form::bitmap, kBitmapBytes};
	uint64_t carry = 0;
	for (const uint64_t *half : halves) {
		c.count += bits_count(half);
		c.runs += bits_runs(half, carry);
		carry = half[kWords - 1] >> 63;
	}
	if (c.count <= kArrayMax) {
		c.form = Form::array;
		c.bytes = size_t{2} * c.count;
	}
	if (2 + size_t{4} * c.runs < c.bytes) {
		c.form = Form::runs;
		c.bytes = 2 + size_t{4} * c.runs;
	}
	return c;
}

std::vector<Container> containers_of(const OrdinalSet &set) {
	std::vector<Container> found;
	found.reserve(set.parts.size());
	for (const Members &m : set.parts)
		if (found.empty() || found.back().key != m.container / 2)
			found.push_back(measure(m.container / 2, halves_of(set, m.container / 2)));
	return found;
}

// Writes where room has been measured for it.
struct Output {
	uint8_t *at;

	void bytes(const void *p, size_t n) {
		std::memcpy(at, p, n);
		at += n;
	}
	void u16(size_t v) {
		const uint16_t little = boost::endian::native_to_little(static_cast<uint16_t>(v));
		bytes(&little, sizeof little);
	}
	void u32(size_t v) {
		const uint32_t little = boost::endian::native_to_little(static_cast<uint32_t>(v));
		bytes(&little, sizeof little);
	}
	void u64(uint64_t v) {
		v = boost::endian::native_to_little(v);
		bytes(&v, sizeof v);
	}
};

// Calls f(first, last) for each run of set bits. Source: the run extraction of CRoaring's paper (Lemire et al., 2018,
// "Roaring bitmaps: implementation of an optimized software library"), word by word.
template <class F> void each_run(const Halves &map, F f) {
	size_t w = 0;
	uint64_t word = word_of(map, 0);
	for (;;) {
		while (word == 0) {
			if (++w == kBitmapWords)
				return;
			word = word_of(map, w);
		}
		const size_t first = w * 64 + static_cast<size_t>(std::countr_zero(word));
		uint64_t filled = word | (word - 1);
		while (filled == ~UINT64_C(0)) {
			if (++w == kBitmapWords) {
				f(first, kValues - 1);
				return;
			}
			filled = word_of(map, w);
		}
		f(first, w * 64 + static_cast<size_t>(std::countr_one(filled)) - 1);
		word = filled & (filled + 1);
	}
}

void write_array(Output &out, const Container &c, const Halves &map) {
	std::array<uint16_t, kArrayMax + kListSlack> values;
	const Density density = c.count < kBitmapWords / 8       ? Density::few
							: c.count < kBitmapWords * 3 / 2 ? Density::some
															 : Density::many;
	const size_t n = bits_list(map[0], 0, density, values.data());
	bits_list(map[1], kValues / 2, density, values.data() + n);
	for (size_t i = 0; i < c.count; i++)
		boost::endian::native_to_little_inplace(values[i]);
	out.bytes(values.data(), sizeof values[0] * c.count);
}

void write_container(Output &out, const Container &c, const Halves &map) {
	switch (c.form) {
	case Form::array:
		write_array(out, c, map);
		break;
	case Form::bitmap:
		for (size_t w = 0; w < kBitmapWords; w++)
			out.u64(word_of(map, w));
		break;
	case Form::runs:
		out.u16(c.runs);
		each_run(map, [&](size_t first, size_t last) {
			out.u16(first);
			out.u16(last - first);
		});
	}
}

struct Layout {
	explicit Layout(std::vector<Container> of) : containers(std::move(of)) {
		for (const Container &c : containers) {
			has_runs = has_runs || c.form == Form::runs;
			bytes += c.bytes;
		}
		has_offsets = !has_runs || containers.size() >= kOffsetsFrom;
		head = has_runs ? 4 + (containers.size() + 7) / 8 : 8;
		head += (has_offsets ? 8 : 4) * containers.size();
		bytes += head;
	}

	std::vector<Container> containers;
	bool has_runs = false;
	bool has_offsets;
	size_t head; // bytes before the first container
	size_t bytes = 0;
};

void write_flags(Output &out, const std::vector<Container> &containers) {
	for (size_t i = 0; i < containers.size(); i += 8) {
		uint8_t flags = 0;
		for (size_t k = i; k < std::min(i + 8, containers.size()); k++)
			flags = static_cast<uint8_t>(flags | (containers[k].form == Form::runs) << (k - i));
		out.bytes(&flags, 1);
	}
}

void write_head(Output &out, const Layout &l) {
	const size_t n = l.containers.size();
	if (l.has_runs) {
		out.u32(kCookieRuns | (n - 1) << 16);
		write_flags(out, l.containers);
	} else {
		out.u32(kCookie);
		out.u32(n);
	}
	for (const Container &c : l.containers) {
		out.u16(c.key);
		out.u16(c.count - 1);
	}
	size_t at = l.head;
	for (size_t i = 0; l.has_offsets && i < n; at += l.containers[i++].bytes)
		out.u32(at);
}

// ---- reading -------------------------------------------------------------------------------------------------

uint16_t u16_at(const uint8_t *p) {
	uint16_t v;
	std::memcpy(&v, p, sizeof v);
	return boost::endian::little_to_native(v);
}

// A few bytes can stand for 2^16 values: what is out of range is refused before memory is taken for it.
Container read_key(Reader &in, uint32_t limit) {
	Container c{};
	c.key = in.u16();
	c.count = uint32_t{in.u16()} + 1;
	if (uint64_t{c.key} * kValues >= limit)
		throw Corrupt("a customer's number is out of range");
	return c;
}

struct Header {
	std::vector<Container> containers;
	bool has_offsets = true;
};

Header read_header(Reader &in, uint32_t limit) {
	Header h;
	const uint32_t cookie = in.u32();
	const uint8_t *flags = nullptr;
	size_t n;
	if (cookie == kCookie)
		n = in.u32();
	else if ((cookie & 0xFFFF) == kCookieRuns) {
		n = (cookie >> 16) + 1;
		flags = in.take((n + 7) / 8);
		h.has_offsets = n >= kOffsetsFrom;
	} else
		throw Corrupt("the bytes are not a Roaring bitmap");
	if (n > kValues || n * 4 > in.left())
		throw Corrupt("the number of containers is out of range");
	h.containers.reserve(n);
	for (size_t i = 0; i < n; i++) {
		Container c = read_key(in, limit);
		if (i > 0 && c.key <= h.containers.back().key)
			throw Corrupt("the containers are out of order");
		const bool has_runs = flags != nullptr && (flags[i / 8] >> (i % 8) & 1) != 0;
		c.form = has_runs ? Form::runs : c.count <= kArrayMax ? Form::array : Form::bitmap;
		h.containers.push_back(c);
	}
	return h;
}

// Each reads what a container has, checks it and gives it to a receiver, which may want no more than the check;
// returns the greatest value.
template <class To> size_t read_array(Reader &in, const Container &c, To &to) {
	const uint8_t *p = in.take(size_t{2} * c.count);
	bool ordered = true;
	for (uint32_t i = 1; i < c.count; i++)
		ordered &= u16_at(p + size_t{2} * i - 2) < u16_at(p + size_t{2} * i);
	if (!ordered)
		throw Corrupt("the values of a container are out of order");
	for (uint32_t i = 0; i < c.count; i++)
		to.value(u16_at(p + size_t{2} * i));
	return u16_at(p + size_t{2} * c.count - 2);
}

template <class To> size_t read_bitmap(Reader &in, const Container &c, To &to) {
	const uint8_t *p = in.take(kBitmapBytes);
	uint32_t count = 0;
	size_t last = 0;
	for (uint32_t half = 0; half < 2; half++) {
		Bits bits;
		std::memcpy(bits.data(), p + half * sizeof bits, sizeof bits);
		for (uint64_t &word : bits)
			boost::endian::little_to_native_inplace(word);
		count += bits_count(bits.data());
		for (size_t w = kWords; w-- > 0;)
			if (bits[w] != 0) {
				last = (half * kWords + w) * 64 + 63 - static_cast<size_t>(std::countl_zero(bits[w]));
				break;
			}
		to.half(half, bits);
	}
	if (count != c.count)
		throw Corrupt("the count of a container does not match");
	return last;
}

template <class To> size_t read_runs(Reader &in, const Container &c, To &to) {
	const uint32_t runs = in.u16();
	uint32_t count = 0;
	uint32_t next = 0;
	for (uint32_t r = 0; r < runs; r++) {
		const uint32_t first = in.u16();
		const uint32_t last = first + in.u16();
		if (first < next || last >= kValues)
			throw Corrupt("the runs of a container are out of order");
		to.run(first, last);
		count += last - first + 1;
		next = last + 2; // touching runs would be one
	}
	if (count != c.count)
		throw Corrupt("the count of a container does not match");
	return next - 2;
}

template <class To> size_t read_values(Reader &in, const Container &c, To &to) {
	switch (c.form) {
	case Form::array:
		return read_array(in, c, to);
	case Form::bitmap:
		return read_bitmap(in, c, to);
	case Form::runs:
		break;
	}
	return read_runs(in, c, to);
}

template <class To> void read_all(const uint8_t *bytes, size_t len, uint32_t limit, To &to) {
	Reader in(bytes, len);
	const Header h = read_header(in, limit);
	const uint8_t *offsets = h.has_offsets ? in.take(4 * h.containers.size()) : nullptr;
	for (size_t i = 0; i < h.containers.size(); i++) {
		const Container &c = h.containers[i];
		if (offsets != nullptr && Reader(offsets + 4 * i, 4).u32() != len - in.left())
			throw Corrupt("a container is not where the header says");
		to.begin(c);
		if (uint64_t{c.key} * kValues + read_values(in, c, to) >= limit)
			throw Corrupt("a customer's number is out of range");
		to.end();
	}
	if (in.left() != 0)
		throw Corrupt("bytes are left over");
}

struct Counter {
	void begin(const Container &c) { count += c.count; }
	void value(uint32_t) {}
	void half(uint32_t, const Bits &) {}
	void run(uint32_t, uint32_t) {}
	void end() {}

	uint64_t count = 0;
};

class Builder {
public:
	explicit Builder(OrdinalSet &to) : set(to) {}
	void begin(const Container &c) {
		key = c.key;
		whole = c.form == Form::bitmap;
		if (!whole)
			map.fill(0);
	}
	void value(uint32_t v) { map[v / 64] |= UINT64_C(1) << (v % 64); }
	void half(uint32_t half, const Bits &bits) { set.add(key * 2 + half, bits.data()); }
	void run(uint32_t first, uint32_t last) {
		const uint64_t from_first = ~UINT64_C(0) << (first % 64);
		const uint64_t to_last = ~UINT64_C(0) >> (63 - last % 64);
		if (first / 64 == last / 64) {
			map[first / 64] |= from_first & to_last;
			return;
		}
		map[first / 64] |= from_first;
		std::fill(map.begin() + first / 64 + 1, map.begin() + last / 64, ~UINT64_C(0));
		map[last / 64] |= to_last;
	}
	void end() {
		if (whole)
			return;
		for (uint32_t half = 0; half < 2; half++)
			set.add(key * 2 + half, map.data() + half * kWords);
	}

private:
	OrdinalSet &set;
	Bitmap map; // of a container that is no bitmap
	uint32_t key = 0;
	bool whole = false;
};

// ---- looking up ----------------------------------------------------------------------------------------------

// The containers' keys and counts, as they lie in the bytes.
struct Keys {
	const uint8_t *at;
	size_t n;

	uint16_t key(size_t i) const { return u16_at(at + 4 * i); }
	uint32_t count(size_t i) const { return uint32_t{u16_at(at + 4 * i + 2)} + 1; }
	size_t find(uint32_t wanted) const { // n: it is not there
		size_t lo = 0;
		for (size_t hi = n; lo < hi;) {
			const size_t mid = (lo + hi) / 2;
			if (key(mid) < wanted)
				lo = mid + 1;
			else
				hi = mid;
		}
		return lo < n && key(lo) == wanted ? lo : n;
	}
};

bool in_array(Reader &in, uint32_t count, uint16_t low) {
	const uint8_t *p = in.take(size_t{2} * count);
	size_t lo = 0;
	for (size_t hi = count; lo < hi;) {
		const size_t mid = (lo + hi) / 2;
		if (u16_at(p + 2 * mid) < low)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < count && u16_at(p + 2 * lo) == low;
}

bool in_bitmap(Reader &in, uint16_t low) {
	return (in.take(kBitmapBytes)[low / 8] >> (low % 8) & 1) != 0;
}

bool in_runs(Reader &in, uint16_t low) {
	const size_t runs = in.u16();
	const uint8_t *p = in.take(4 * runs);
	size_t lo = 0; // the first run that starts behind
	for (size_t hi = runs; lo < hi;) {
		const size_t mid = (lo + hi) / 2;
		if (u16_at(p + 4 * mid) <= low)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo > 0 && low - u16_at(p + 4 * (lo - 1)) <= u16_at(p + 4 * (lo - 1) + 2);
}

// Bytes of a container that starts where the reader is.
size_t bytes_of(Reader in, Form form, uint32_t count) {
	if (form == Form::runs)
		return 2 + size_t{4} * in.u16();
	return form == Form::array ? size_t{2} * count : kBitmapBytes;
}

} // namespace

uint8_t *to_roaring(const OrdinalSet &set, size_t *len) {
	const Layout layout(containers_of(set));
	auto *bytes = static_cast<uint8_t *>(std::malloc(layout.bytes));
	if (bytes == nullptr)
		throw std::bad_alloc();
	Output out{bytes};
	write_head(out, layout);
	for (const Container &c : layout.containers)
		write_container(out, c, halves_of(set, c.key));
	*len = layout.bytes;
	return bytes;
}

OrdinalSet from_roaring(const uint8_t *bytes, size_t len, uint32_t limit) {
	OrdinalSet set;
	Builder builder(set);
	read_all(bytes, len, limit, builder);
	return set;
}

uint64_t count_roaring(const uint8_t *bytes, size_t len, uint32_t limit) {
	Counter counter;
	read_all(bytes, len, limit, counter);
	return counter.count;
}

bool roaring_contains(const uint8_t *bytes, size_t len, uint32_t ordinal) {
	Reader in(bytes, len);
	const uint32_t cookie = in.u32();
	const bool may_have_runs = cookie != kCookie;
	const size_t n = may_have_runs ? (cookie >> 16) + 1 : in.u32();
	const uint8_t *flags = may_have_runs ? in.take((n + 7) / 8) : nullptr;
	if (n > kValues)
		throw Corrupt("the number of containers is out of range");
	const Keys keys{in.take(4 * n), n};
	const size_t wanted = keys.find(ordinal / kValues);
	if (wanted == n)
		return false;
	const auto form = [&](size_t i) {
		if (flags != nullptr && (flags[i / 8] >> (i % 8) & 1) != 0)
			return Form::runs;
		return keys.count(i) <= kArrayMax ? Form::array : Form::bitmap;
	};
	if (!may_have_runs || n >= kOffsetsFrom) {
		const uint32_t offset = Reader(in.take(4 * n) + 4 * wanted, 4).u32();
		in = Reader(bytes, len);
		in.take(offset);
	} else
		for (size_t i = 0; i < wanted; i++)
			in.take(bytes_of(in, form(i), keys.count(i)));
	const auto low = static_cast<uint16_t>(ordinal % kValues);
	switch (form(wanted)) {
	case Form::array:
		return in_array(in, keys.count(wanted), low);
	case Form::bitmap:
		return in_bitmap(in, low);
	case Form::runs:
		break;
	}
	return in_runs(in, low);
}

} // namespace cseg

using namespace cseg;

extern "C" {

CsegCode cseg_set_to_roaring(const CsegSet *set, uint8_t **bytes, size_t *len, CsegError *err) {
	return guard(err, [&] { *bytes = to_roaring(*set, len); });
}

CsegCode cseg_set_from_roaring(CsegSet **out, const uint8_t *bytes, size_t len, uint32_t limit, CsegError *err) {
	return guard(err, [&] { *out = new CsegSet{from_roaring(bytes, len, std::min(limit, CSEG_MAX_ORDINAL + 1))}; });
}

CsegCode cseg_roaring_count(const uint8_t *bytes, size_t len, uint32_t limit, uint64_t *count, CsegError *err) {
	return guard(err, [&] { *count = count_roaring(bytes, len, std::min(limit, CSEG_MAX_ORDINAL + 1)); });
}

CsegCode cseg_roaring_contains(const uint8_t *bytes, size_t len, uint32_t ordinal, bool *found, CsegError *err) {
	return guard(err, [&] { *found = roaring_contains(bytes, len, ordinal); });
}

} // extern "C"
