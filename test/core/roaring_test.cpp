// roaring_test.cpp
//    The portable Roaring format, against bytes that CRoaring 0.2.66 wrote, and against bytes that nobody should.
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/core.h"

namespace {

struct Free {
	void operator()(CsegSet *set) const { cseg_set_free(set); }
};
using Set = std::unique_ptr<CsegSet, Free>;
using Bytes = std::vector<uint8_t>;

constexpr uint32_t kNoLimit = CSEG_MAX_ORDINAL + 1;
CsegError err;

Set new_set() {
	CsegSet *set = nullptr;
	EXPECT_EQ(cseg_set_new(&set, &err), CSEG_OK);
	return Set(set);
}

void add(const Set &set, uint32_t from, uint32_t end, uint32_t step = 1) {
	for (uint32_t v = from; v < end; v += step)
		ASSERT_EQ(cseg_set_add(set.get(), v, &err), CSEG_OK);
}

Bytes write(const Set &set) {
	uint8_t *bytes = nullptr;
	size_t len = 0;
	EXPECT_EQ(cseg_set_to_roaring(set.get(), &bytes, &len, &err), CSEG_OK);
	Bytes out(bytes, bytes + len);
	cseg_bytes_free(bytes);
	return out;
}

CsegCode read(Set &set, const Bytes &bytes, uint32_t limit = kNoLimit) {
	CsegSet *got = nullptr;
	// A copy of just the size, so that the sanitizer sees every byte read behind it.
	const std::unique_ptr<uint8_t[]> exact(new uint8_t[bytes.size()]);
	std::copy(bytes.begin(), bytes.end(), exact.get());
	const CsegCode code = cseg_set_from_roaring(&got, exact.get(), bytes.size(), limit, &err);
	uint64_t count = 0;
	CsegError other;
	// Who only counts checks as much.
	EXPECT_EQ(cseg_roaring_count(exact.get(), bytes.size(), limit, &count, &other), code);
	if (code != CSEG_OK) {
		EXPECT_STREQ(err.msg, other.msg);
		return code;
	}
	set.reset(got);
	EXPECT_EQ(count, cseg_set_count(got));
	// Around each value that is there, and here and there.
	bool found = false;
	for (uint32_t v = 0; v < kNoLimit && cseg_set_count(got) < 300000; v += 1 + v / 997) {
		EXPECT_EQ(cseg_roaring_contains(exact.get(), bytes.size(), v, &found, &other), CSEG_OK);
		EXPECT_EQ(found, cseg_set_contains(got, v)) << v;
	}
	return code;
}

std::string hex(const Bytes &bytes) {
	std::string out;
	for (const uint8_t b : bytes) {
		out += "0123456789abcdef"[b >> 4];
		out += "0123456789abcdef"[b & 15];
	}
	return out;
}

Bytes unhex(const std::string &text) {
	Bytes out;
	for (size_t i = 0; i + 1 < text.size(); i += 2)
		out.push_back(static_cast<uint8_t>(std::stoi(text.substr(i, 2), nullptr, 16)));
	return out;
}

uint64_t fnv(const Bytes &bytes) {
	uint64_t h = UINT64_C(1469598103934665603);
	for (const uint8_t b : bytes)
		h = (h ^ b) * UINT64_C(1099511628211);
	return h;
}

void returns(const Set &set) {
	Set again;
	ASSERT_EQ(read(again, write(set)), CSEG_OK) << err.msg;
	EXPECT_TRUE(cseg_set_equal(set.get(), again.get()));
}

// ---- what CRoaring wrote of the same sets after roaring_bitmap_run_optimize ----------------------------------

TEST(Roaring, SmallSetsAreByteForByteCRoarings) {
	const Set empty = new_set();
	EXPECT_EQ(hex(write(empty)), "3a30000000000000");
	returns(empty);
	const Set few = new_set();
	for (const uint32_t v : {0u, 3u, 65536u, CSEG_MAX_ORDINAL})
		add(few, v, v + 1);
	EXPECT_EQ(hex(write(few)), "3a300000030000000000010001000000ff7f0000200000002400000026000000000003000000feff");
	returns(few);
	const Set runs = new_set();
	add(runs, 5, 1005);
	add(runs, 70000, 70003, 2);
	EXPECT_EQ(hex(write(runs)), "3b300100010000e7030100010001000500e70370117211");
	returns(runs);
	const Set full = new_set();
	add(full, 0, 65536);
	EXPECT_EQ(hex(write(full)), "3b300000010000ffff01000000ffff");
	returns(full);
}

TEST(Roaring, LargeSetsAreByteForByteCRoarings) {
	const Set mixed = new_set();
	add(mixed, 0, 200000, 3);
	add(mixed, 300000, 400000);
	add(mixed, 500000, 800000, 40);
	EXPECT_EQ(write(mixed).size(), 41966u);
	EXPECT_EQ(fnv(write(mixed)), UINT64_C(9406384558789247993));
	returns(mixed);
	const Set thirds = new_set();
	add(thirds, 0, 200000, 3);
	EXPECT_EQ(write(thirds).size(), 26878u);
	EXPECT_EQ(fnv(write(thirds)), UINT64_C(8903910028992440231));
	returns(thirds);
	const Set array = new_set();
	add(array, 0, 8192, 2);
	EXPECT_EQ(fnv(write(array)), UINT64_C(8053848505589325998));
	returns(array);
	const Set bitmap = new_set();
	add(bitmap, 0, 8194, 2);
	EXPECT_EQ(fnv(write(bitmap)), UINT64_C(17038957518296723513));
	returns(bitmap);
}

TEST(Roaring, ReadsWhatWasNotOptimized) {
	Bytes plain = unhex("3a300000010000000000e70310000000");
	for (uint32_t v = 5; v < 1005; v++) {
		plain.push_back(static_cast<uint8_t>(v));
		plain.push_back(static_cast<uint8_t>(v >> 8));
	}
	EXPECT_EQ(fnv(plain), UINT64_C(4758601090942858683)); // CRoaring's bytes
	const Set runs = new_set();
	add(runs, 5, 1005);
	Set got;
	ASSERT_EQ(read(got, plain), CSEG_OK) << err.msg;
	EXPECT_TRUE(cseg_set_equal(runs.get(), got.get()));
}

TEST(Roaring, RandomSetsReturn) {
	std::mt19937 random(7);
	for (int round = 0; round < 60; round++) {
		const Set set = new_set();
		for (int run = 0; run < 40; run++) {
			const uint32_t from = random() % 3000000;
			add(set, from, from + 1 + random() % (random() % 2 ? 5 : 9000), 1 + random() % 4);
		}
		returns(set);
	}
}

// ---- what is refused -----------------------------------------------------------------------------------------

TEST(Roaring, RefusesMalformedBytes) {
	for (const char *bytes : {
			 "",                                                 // nothing
			 "3a3000",                                           // a cookie cut off
			 "3c30000000000000",                                 // another cookie
			 "3a30000001000000",                                 // a container announced, none there
			 "3a300000ffffffff",                                 // too many
			 "3a30000000000000ff",                               // bytes left over
			 "3a300000010000000000010010000000010001",           // cut off
			 "3a30000001000000000001001000000003000300",         // a value twice
			 "3a30000001000000000001001000000003000200",         // out of order
			 "3a30000001000000000001001100000003000400",         // not where the header says
			 "3a3000000200000001000000010000001800000000000000", // a key twice
			 "3b30000001000000000100000000",                     // a run longer than the count
			 "3b300000010000010002000000000001000000",           // touching runs
			 "3b30000001000001000100ffff0100",                   // a run beyond the container
			 "3a300000010000000080000010000000"
			 "0000", // beyond the greatest ordinal
			 "3a30000001000000ff7f000010000000"
			 "ffff", // the ordinal behind the greatest
		 }) {
		Set got;
		EXPECT_EQ(read(got, unhex(bytes)), CSEG_CORRUPT) << bytes;
	}
}

TEST(Roaring, RefusesAWrongCountOfABitmap) {
	const Set set = new_set();
	add(set, 0, 8194, 2);
	Bytes bytes = write(set);
	bytes[100] ^= 1;
	Set got;
	EXPECT_EQ(read(got, bytes), CSEG_CORRUPT);
}

TEST(Roaring, RefusesOrdinalsFromTheLimitOn) {
	const Set set = new_set();
	add(set, 0, 100001);
	Set got;
	EXPECT_EQ(read(got, write(set), 100001), CSEG_OK) << err.msg;
	EXPECT_EQ(read(got, write(set), 100000), CSEG_CORRUPT);
	EXPECT_EQ(read(got, write(set), 65536), CSEG_CORRUPT);
	EXPECT_EQ(read(got, write(set), 0), CSEG_CORRUPT);
	EXPECT_EQ(read(got, write(new_set()), 0), CSEG_OK);
}

TEST(Roaring, EveryCutIsRefused) {
	const Set set = new_set();
	add(set, 0, 300, 7);
	add(set, 70000, 70500);
	const Bytes bytes = write(set);
	for (size_t n = 0; n < bytes.size(); n++) {
		Set got;
		EXPECT_EQ(read(got, Bytes(bytes.begin(), bytes.begin() + static_cast<long>(n))), CSEG_CORRUPT) << n;
	}
}

} // namespace
