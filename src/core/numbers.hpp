// numbers.hpp
//    Packing of number columns: an adaptive binary range coder and models for small and large numbers.
//
// Every decision is coded with a probability that starts at a prior and follows what was coded before, so a stream
// needs no table in front of it: one row costs a few bytes. It was chosen over byte planes with zstd by reasoning and
// not by measuring: zstd pays a frame per plane and, for what it codes by Huffman, a table and at least one bit a
// symbol. What is certain is that the bytes do not depend on a library's version.
// Bits that no model can predict (the low bits of amounts) go by the side into a plain bit stream.
//
// A model's code() is a template over the coder: the encoder codes the value that it is given and returns it, the
// decoder ignores it and returns what it read. So one description of the format serves both directions.
#pragma once

#include <algorithm>
#include <array>
#include <bit>

#include "bytes.hpp"

namespace cseg {

// ---- probabilities -------------------------------------------------------------------------------------------

// Steps of learning: the n-th observation moves the estimate by 1 / (n + 1.5), in units of 2^-16.
constexpr unsigned kMaxSeen = 126;
constexpr auto kStep = [] {
	std::array<uint16_t, kMaxSeen + 1> step{};
	for (unsigned n = 0; n <= kMaxSeen; n++)
		step[n] = static_cast<uint16_t>(2 * 65536 / (2 * n + 3));
	return step;
}();

// The probability that the next bit here is 0, in units of 2^-16, and how much was seen.
struct Chance {
	uint16_t zero = 32768;
	uint16_t seen = 0;

	// Stays within [kSurest, 65536 - kSurest], so that both bits remain possible. No branch on the bit.
	constexpr void learn(bool bit) {
		constexpr int32_t kSurest = 32;
		const int32_t target = bit ? kSurest : 65536 - kSurest;
		zero = static_cast<uint16_t>(zero + (((target - zero) * static_cast<int32_t>(kStep[seen])) >> 16));
		seen = static_cast<uint16_t>(seen + (seen < kMaxSeen));
	}
};

// Priors of flags that are nearly always 0, or 1, in practice.
constexpr Chance kRarely{63488, 12};
constexpr Chance kNearlyAlways{2048, 12};

// The coder works on 64 bits and moves 32 at a time, which keeps the rare path rare.
constexpr uint64_t kRangeTop = UINT64_C(1) << 32;
constexpr unsigned kUnitBits = 32;
constexpr size_t kUnitBytes = 4;
// The decoder may read this many bytes past the end of the coded bytes, as zeros: the encoder drops as many.
constexpr size_t kRangeSlack = 8;
constexpr unsigned kRawStep = 32;

constexpr uint64_t low_bits(unsigned n) {
	return n >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1;
}

// ---- encoder -------------------------------------------------------------------------------------------------

class RangeEncoder {
public:
	static constexpr bool decoding = false;

	bool bit(Chance &chance, bool value) {
		const uint64_t bound = (range >> 16) * chance.zero;
		if (value) {
			add_to_low(bound);
			range -= bound;
		} else {
			range = bound;
		}
		chance.learn(value);
		if (range < kRangeTop) {
			range <<= kUnitBits;
			put_unit(low);
			low <<= kUnitBits;
		}
		return value;
	}

	// For bits of numbers, which go either way and come several at once: no branch on the bit, and the state is in
	// registers until the end, instead of going through memory from bit to bit.
	class Bits {
	public:
		[[gnu::always_inline]] explicit Bits(RangeEncoder &encoder)
			: c(encoder), low(encoder.low), range(encoder.range) {}
		Bits(const Bits &) = delete;
		Bits &operator=(const Bits &) = delete;
		[[gnu::always_inline]] ~Bits() {
			c.low = low;
			c.range = range;
		}
		[[gnu::always_inline]] bool next(Chance &chance, bool value) {
			const uint64_t bound = (range >> 16) * chance.zero;
			const uint64_t mask = ~static_cast<uint64_t>(value) + 1;
			const uint64_t amount = bound & mask;
			low += amount;
			if (low < amount)
				c.carry();
			range = bound + ((range - bound - bound) & mask);
			chance.learn(value);
			if (range < kRangeTop) {
				range <<= kUnitBits;
				c.put_unit(low);
				low <<= kUnitBits;
			}
			return value;
		}

	private:
		RangeEncoder &c;
		uint64_t low;
		uint64_t range;
	};

	// n <= 64 bits that no model predicts.
	uint64_t raw(uint64_t value, unsigned n) {
		for (unsigned done = 0; done < n; done += kRawStep) {
			const unsigned step = std::min(n - done, kRawStep);
			window |= (value >> done & low_bits(step)) << filled;
			filled += step;
			for (; filled >= 8; filled -= 8, window >>= 8)
				side.push_back(static_cast<uint8_t>(window));
		}
		return value;
	}

	// Appends: length of the coded bytes, coded bytes, raw bytes.
	void finish(Writer &w) {
		settle_low();
		put_unit(low);
		put_unit(low << kUnitBits);
		if (filled > 0)
			side.push_back(static_cast<uint8_t>(window));
		for (size_t dropped = 0; dropped < kRangeSlack && !coded.empty() && coded.back() == 0; dropped++)
			coded.pop_back();
		w.varint(coded.size());
		w.bytes(coded.data(), coded.size());
		w.bytes(side.data(), side.size());
	}

private:
	void add_to_low(uint64_t amount) {
		low += amount;
		if (low < amount)
			carry();
	}
	// Ends at the latest at the first byte: the stream as a number stays below 1.
	[[gnu::noinline]] void carry() {
		for (size_t i = coded.size(); i-- > 0;)
			if (++coded[i] != 0)
				return;
	}
	// The upper half.
	[[gnu::noinline]] void put_unit(uint64_t from) {
		std::array<uint8_t, kUnitBytes> unit;
		const uint32_t bytes = boost::endian::native_to_big(static_cast<uint32_t>(from >> (64 - kUnitBits)));
		std::memcpy(unit.data(), &bytes, unit.size());
		coded.insert(coded.end(), unit.begin(), unit.end());
	}
	// Any number in [low, low + range) ends the stream; the one with most zeros at its end is the shortest.
	void settle_low() {
		for (unsigned zeros = 63; zeros > 0; zeros--) {
			const uint64_t mask = low_bits(zeros);
			const uint64_t step = (~low + 1) & mask; // from low to the next multiple of 2^zeros
			if (step < range) {
				add_to_low(step);
				return;
			}
		}
	}

	std::vector<uint8_t> coded;
	std::vector<uint8_t> side;
	uint64_t low = 0;
	uint64_t range = ~UINT64_C(0);
	uint64_t window = 0;
	unsigned filled = 0;
};

// ---- decoder -------------------------------------------------------------------------------------------------

class RangeDecoder {
public:
	static constexpr bool decoding = true;

	// Takes all of r. The bytes must outlive the decoder.
	explicit RangeDecoder(Reader r) {
		const size_t n = static_cast<size_t>(r.varint_max(r.left(), "length of a coded stream"));
		at = r.take(n);
		end = at + n;
		side_left = r.left();
		side = r.take(side_left);
		get_unit();
		get_unit();
	}

	// For flags, which mostly go one way: a branch that the processor predicts.
	bool bit(Chance &chance, bool = false) {
		const uint64_t bound = (range >> 16) * chance.zero;
		const bool value = code >= bound;
		if (value) {
			code -= bound;
			range -= bound;
		} else {
			range = bound;
		}
		chance.learn(value);
		normalize();
		return value;
	}

	// For bits of numbers, which go either way: no branch.
	bool mixed_bit(Chance &chance) {
		const uint64_t bound = (range >> 16) * chance.zero;
		const bool value = code >= bound;
		const uint64_t mask = ~static_cast<uint64_t>(value) + 1;
		code -= bound & mask;
		range = bound + ((range - bound - bound) & mask);
		chance.learn(value);
		normalize();
		return value;
	}

	// Several of them. Registers would save nothing here: the bit itself is what the next one waits for.
	class Bits {
	public:
		explicit Bits(RangeDecoder &decoder) : c(decoder) {}
		bool next(Chance &chance, bool = false) { return c.mixed_bit(chance); }

	private:
		RangeDecoder &c;
	};

	uint64_t raw(uint64_t, unsigned n) {
		uint64_t value = 0;
		for (unsigned done = 0; done < n; done += kRawStep) {
			const unsigned step = std::min(n - done, kRawStep);
			while (filled < step)
				fill();
			value |= (window & low_bits(step)) << done;
			window >>= step;
			filled -= step;
		}
		return value;
	}

	size_t raw_bytes_left() const { return side_left + filled / 8; }

	// Everything must have been read: what is left over was not written by the encoder.
	void finish() const {
		if (at != end || side_left != 0 || window != 0)
			throw Corrupt("coded stream has bytes left over");
	}

private:
	void normalize() {
		if (range < kRangeTop) {
			range <<= kUnitBits;
			get_unit();
		}
	}

	void get_unit() {
		if (static_cast<size_t>(end - at) >= kUnitBytes) {
			uint32_t unit;
			std::memcpy(&unit, at, sizeof unit);
			at += kUnitBytes;
			code = code << kUnitBits | boost::endian::big_to_native(unit);
			return;
		}
		for (size_t i = 0; i < kUnitBytes; i++)
			code = code << 8 | next();
	}

	uint8_t next() {
		if (at != end)
			return *at++;
		if (++overread > kRangeSlack)
			throw Corrupt("coded stream ends too early");
		return 0;
	}

	void fill() {
		if (side_left == 0)
			throw Corrupt("raw stream ends too early");
		window |= static_cast<uint64_t>(*side++) << filled;
		side_left--;
		filled += 8;
	}

	const uint8_t *at;
	const uint8_t *end;
	const uint8_t *side;
	size_t side_left;
	size_t overread = 0;
	uint64_t window = 0;
	unsigned filled = 0;
	uint64_t code = 0;
	uint64_t range = ~UINT64_C(0);
};

// ---- models --------------------------------------------------------------------------------------------------

// A number of `Bits` bits, most significant first, every prefix with its own chance.
template <unsigned Bits> class TreeModel {
public:
	template <class Coder> unsigned code(Coder &c, unsigned value) { return code_part(c, value, Bits); }

	// Only the first n <= Bits levels.
	template <class Coder> unsigned code_part(Coder &c, unsigned value, unsigned n) {
		typename Coder::Bits bits(c);
		unsigned at = 1;
		for (unsigned i = n; i-- > 0;)
			at = at << 1 | static_cast<unsigned>(bits.next(node[at], (value >> i & 1) != 0));
		return at - (1u << n);
	}

private:
	std::array<Chance, size_t{1} << Bits> node;
};

// Any 64-bit number: its width, then the bits below the leading one. The first of those are modelled (amounts thin
// out within an octave, counts prefer some values), the others raw.
class NumberModel {
public:
	template <class Coder> uint64_t code(Coder &c, uint64_t value) {
		const unsigned width = code_width(c, Coder::decoding ? 0 : static_cast<unsigned>(std::bit_width(value)));
		if (width <= 1)
			return width;
		const unsigned modelled = std::min(width - 1, kTopBits);
		const unsigned rest = width - 1 - modelled;
		const auto top_value = static_cast<unsigned>(value >> rest & low_bits(modelled));
		const uint64_t head =
			(UINT64_C(1) << modelled) | top[std::min(width, kWideWidth)].code_part(c, top_value, modelled);
		return head << rest | c.raw(value & low_bits(rest), rest);
	}

private:
	static constexpr unsigned kTopBits = 3;
	static constexpr unsigned kWideWidth = 31; // from here on widths share a model: they are rare

	template <class Coder> unsigned code_width(Coder &c, unsigned width) {
		const unsigned first = narrow.code(c, std::min(width, kWideWidth));
		if (first < kWideWidth)
			return first;
		const unsigned all = kWideWidth + wide.code(c, width - kWideWidth);
		if (all > 64)
			throw Corrupt("number too wide");
		return all;
	}

	TreeModel<5> narrow;
	TreeModel<6> wide;
	std::array<TreeModel<kTopBits>, kWideWidth + 1> top;
};

// Any signed 64-bit number: sign and size (v, or ~v where negative).
class SignedModel {
public:
	template <class Coder> int64_t code(Coder &c, int64_t value) {
		const bool minus = c.bit(negative, value < 0);
		const uint64_t size = number.code(c, static_cast<uint64_t>(value < 0 ? ~value : value));
		if (size >> 63 != 0)
			throw Corrupt("number too wide");
		return minus ? ~static_cast<int64_t>(size) : static_cast<int64_t>(size);
	}

private:
	Chance negative = kRarely;
	NumberModel number;
};

} // namespace cseg
