// bytes.hpp
//    Reading and writing of byte strings with every bound checked, and the exceptions of the core.
//
// Integers are little-endian on disk, whatever the machine. A Reader throws Corrupt rather than read past its end.
#pragma once

#ifdef POSTGRES_H
#error "the core does not include PostgreSQL headers"
#endif

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include <boost/endian/conversion.hpp>

#include "core.h"

namespace cseg {

// Bytes that are not what the format says.
struct Corrupt : std::runtime_error {
	using std::runtime_error::runtime_error;
};
// A documented limit is exceeded.
struct Limit : std::runtime_error {
	using std::runtime_error::runtime_error;
};
// The stop flag was set.
struct Cancelled : std::exception {};

inline uint64_t zigzag(int64_t v) {
	return (static_cast<uint64_t>(v) << 1) ^ static_cast<uint64_t>(v >> 63);
}
inline int64_t unzigzag(uint64_t v) {
	return static_cast<int64_t>(v >> 1) ^ -static_cast<int64_t>(v & 1);
}

class Writer {
public:
	void u8(uint8_t v) { out.push_back(v); }
	template <class T> void fixed(T v) {
		v = boost::endian::native_to_little(v);
		const auto *p = reinterpret_cast<const uint8_t *>(&v);
		out.insert(out.end(), p, p + sizeof v);
	}
	void u16(uint16_t v) { fixed(v); }
	void u32(uint32_t v) { fixed(v); }
	void u64(uint64_t v) { fixed(v); }
	void varint(uint64_t v) {
		while (v >= 0x80) {
			out.push_back(static_cast<uint8_t>(v | 0x80));
			v >>= 7;
		}
		out.push_back(static_cast<uint8_t>(v));
	}
	void svarint(int64_t v) { varint(zigzag(v)); }
	void bytes(const uint8_t *p, size_t n) { out.insert(out.end(), p, p + n); }

	std::vector<uint8_t> out;
};

class Reader {
public:
	Reader(const uint8_t *p, size_t n) : at(p), end(p + n) {}
	size_t left() const { return static_cast<size_t>(end - at); }
	const uint8_t *take(size_t n) {
		if (n > left())
			throw Corrupt("data ends too early");
		const uint8_t *p = at;
		at += n;
		return p;
	}
	uint8_t u8() { return *take(1); }
	template <class T> T fixed() {
		T v;
		std::memcpy(&v, take(sizeof v), sizeof v);
		return boost::endian::little_to_native(v);
	}
	uint16_t u16() { return fixed<uint16_t>(); }
	uint32_t u32() { return fixed<uint32_t>(); }
	uint64_t u64() { return fixed<uint64_t>(); }
	uint64_t varint() {
		uint64_t v = 0;
		for (int shift = 0; shift < 64; shift += 7) {
			const uint8_t b = u8();
			if (shift == 63 && b > 1)
				throw Corrupt("number too long");
			v |= static_cast<uint64_t>(b & 0x7F) << shift;
			if (b < 0x80)
				return v;
		}
		throw Corrupt("number too long");
	}
	int64_t svarint() { return unzigzag(varint()); }
	// A varint that must not exceed `max`; `what` names it in the error.
	uint64_t varint_max(uint64_t max, const char *what) {
		const uint64_t v = varint();
		if (v > max)
			throw Corrupt(std::string(what) + " is out of range");
		return v;
	}

private:
	const uint8_t *at;
	const uint8_t *end;
};

} // namespace cseg
