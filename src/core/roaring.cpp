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

// The two halves of a container, as far as they are there.
Bitmap join(const OrdinalSet &set, uint32_t key) {
	Bitmap map{};
	for (uint32_t half = 0; half < 2; half++) {
		const Members *m = set.from(key * 2 + half);
		if (m != nullptr && m->container == key * 2 + half)
			std::copy(m->bits->begin(), m->bits->end(), map.begin() + half * kWords);
	}
	return map;
}

// A run starts at each bit whose lower neighbour is not set.
Container measure(uint32_t key, const Bitmap &map) {
	Container c{static_cast<uint16_t>(key), 0, 0, Form::bitmap, kBitmapBytes};
	uint64_t carry = 0;
	for (const uint64_t word : map) {
		c.count += static_cast<uint32_t>(std::popcount(word));
		c.runs += static_cast<uint32_t>(std::popcount(word & ~(word << 1 | carry)));
		carry = word >> 63;
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

template <class F> void each_value(const Bitmap &map, F f) {
	for (size_t w = 0; w < kBitmapWords; w++)
		for (uint64_t rest = map[w]; rest != 0; rest &= rest - 1)
			f(static_cast<uint32_t>(w * 64 + static_cast<size_t>(std::countr_zero(rest))));
}

// Calls f(first, last) for each run of set bits. Source: the run extraction of CRoaring's paper (Lemire et al., 2018,
// "Roaring bitmaps: implementation of an optimized software library"), word by word.
template <class F> void each_run(const Bitmap &map, F f) {
	size_t w = 0;
	uint64_t word = map[0];
	for (;;) {
		while (word == 0) {
			if (++w == kBitmapWords)
				return;
			word = map[w];
		}
		const size_t first = w * 64 + static_cast<size_t>(std::countr_zero(word));
		uint64_t filled = word | (word - 1);
		while (filled == ~UINT64_C(0)) {
			if (++w == kBitmapWords) {
				f(first, kValues - 1);
				return;
			}
			filled = map[w];
		}
		f(first, w * 64 + static_cast<size_t>(std::countr_one(filled)) - 1);
		word = filled & (filled + 1);
	}
}

void write_runs(Writer &out, const Bitmap &map, uint32_t runs) {
	out.u16(static_cast<uint16_t>(runs));
	each_run(map, [&](size_t first, size_t last) {
		out.u16(static_cast<uint16_t>(first));
		out.u16(static_cast<uint16_t>(last - first));
	});
}

void write_container(Writer &out, const Container &c, const Bitmap &map) {
	switch (c.form) {
	case Form::array:
		each_value(map, [&](uint32_t v) { out.u16(static_cast<uint16_t>(v)); });
		break;
	case Form::bitmap:
		for (const uint64_t word : map)
			out.u64(word);
		break;
	case Form::runs:
		write_runs(out, map, c.runs);
	}
}

std::vector<Container> containers_of(const OrdinalSet &set) {
	std::vector<Container> found;
	for (const Members &m : set.parts)
		if (found.empty() || found.back().key != m.container / 2)
			found.push_back(measure(m.container / 2, join(set, m.container / 2)));
	return found;
}

// ---- reading -------------------------------------------------------------------------------------------------

// A few bytes can stand for 2^16 values: what is out of range is refused before memory is taken for it.
Container read_key(Reader &in, uint32_t limit) {
	Container c{};
	c.key = in.u16();
	c.count = uint32_t{in.u16()} + 1;
	if (uint64_t{c.key} * kValues >= limit)
		throw Corrupt("a customer's number is out of range");
	return c;
}

void read_array(Reader &in, const Container &c, Bitmap &map) {
	uint32_t next = 0;
	for (uint32_t i = 0; i < c.count; i++) {
		const uint32_t v = in.u16();
		if (v < next)
			throw Corrupt("the values of a container are out of order");
		map[v / 64] |= UINT64_C(1) << (v % 64);
		next = v + 1;
	}
}

void read_bitmap(Reader &in, const Container &c, Bitmap &map) {
	uint32_t count = 0;
	for (uint64_t &word : map) {
		word = in.u64();
		count += static_cast<uint32_t>(std::popcount(word));
	}
	if (count != c.count)
		throw Corrupt("the count of a container does not match");
}

void fill(Bitmap &map, uint32_t first, uint32_t last) {
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

void read_runs(Reader &in, const Container &c, Bitmap &map) {
	const uint32_t runs = in.u16();
	uint32_t count = 0;
	uint32_t next = 0;
	for (uint32_t r = 0; r < runs; r++) {
		const uint32_t first = in.u16();
		const uint32_t last = first + in.u16();
		if (first < next || last >= kValues)
			throw Corrupt("the runs of a container are out of order");
		fill(map, first, last);
		count += last - first + 1;
		next = last + 2; // touching runs would be one
	}
	if (count != c.count)
		throw Corrupt("the count of a container does not match");
}

void add(OrdinalSet &set, uint32_t key, const Bitmap &map, uint32_t limit) {
	for (uint64_t v = limit - uint64_t{key} * kValues; v < kValues; v++)
		if ((map[v / 64] >> (v % 64) & 1) != 0)
			throw Corrupt("a customer's number is out of range");
	for (uint32_t half = 0; half < 2; half++)
		set.add(key * 2 + half, map.data() + half * kWords);
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

} // namespace

std::vector<uint8_t> to_roaring(const OrdinalSet &set) {
	const std::vector<Container> containers = containers_of(set);
	const size_t n = containers.size();
	const bool has_runs =
		std::any_of(containers.begin(), containers.end(), [](const Container &c) { return c.form == Form::runs; });
	Writer out;
	if (has_runs) {
		out.u32(kCookieRuns | static_cast<uint32_t>(n - 1) << 16);
		std::vector<uint8_t> flags((n + 7) / 8);
		for (size_t i = 0; i < n; i++)
			if (containers[i].form == Form::runs)
				flags[i / 8] = static_cast<uint8_t>(flags[i / 8] | 1u << (i % 8));
		out.bytes(flags.data(), flags.size());
	} else {
		out.u32(kCookie);
		out.u32(static_cast<uint32_t>(n));
	}
	for (const Container &c : containers) {
		out.u16(c.key);
		out.u16(static_cast<uint16_t>(c.count - 1));
	}
	if (!has_runs || n >= kOffsetsFrom) {
		size_t at = out.out.size() + 4 * n;
		for (const Container &c : containers) {
			out.u32(static_cast<uint32_t>(at));
			at += c.bytes;
		}
	}
	for (const Container &c : containers)
		write_container(out, c, join(set, c.key));
	return std::move(out.out);
}

OrdinalSet from_roaring(const uint8_t *bytes, size_t len, uint32_t limit) {
	Reader in(bytes, len);
	const Header h = read_header(in, limit);
	OrdinalSet set;
	std::vector<uint32_t> offsets;
	if (h.has_offsets)
		for (size_t i = 0; i < h.containers.size(); i++)
			offsets.push_back(in.u32());
	for (size_t i = 0; i < h.containers.size(); i++) {
		const Container &c = h.containers[i];
		Bitmap map{};
		if (h.has_offsets && offsets[i] != len - in.left())
			throw Corrupt("a container is not where the header says");
		if (c.form == Form::array)
			read_array(in, c, map);
		else if (c.form == Form::bitmap)
			read_bitmap(in, c, map);
		else
			read_runs(in, c, map);
		add(set, c.key, map, limit);
	}
	if (in.left() != 0)
		throw Corrupt("bytes are left over");
	return set;
}

} // namespace cseg

using namespace cseg;

extern "C" {

CsegCode cseg_set_to_roaring(const CsegSet *set, uint8_t **bytes, size_t *len, CsegError *err) {
	return guard(err, [&] {
		const std::vector<uint8_t> out = to_roaring(*set);
		*bytes = static_cast<uint8_t *>(std::malloc(out.size()));
		if (*bytes == nullptr)
			throw std::bad_alloc();
		std::memcpy(*bytes, out.data(), out.size());
		*len = out.size();
	});
}

CsegCode cseg_set_from_roaring(CsegSet **out, const uint8_t *bytes, size_t len, uint32_t limit, CsegError *err) {
	return guard(err, [&] { *out = new CsegSet{from_roaring(bytes, len, std::min(limit, CSEG_MAX_ORDINAL + 1))}; });
}

} // extern "C"
