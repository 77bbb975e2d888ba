// dictionary_test.cpp
//    Dictionary records and the dictionary object: against a map, against damage, and pinned to their bytes.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <unordered_map>

#include <gtest/gtest.h>

#include "core/dictionary.hpp"
#include "dictionary_fixup.hpp"

namespace {

using Texts = std::vector<std::string>;
using Bytes = std::vector<uint8_t>;

constexpr int kShift = 2;

struct FreeDict {
	void operator()(CsegDict *d) const { cseg_dict_free(d); }
};
using Dict = std::unique_ptr<CsegDict, FreeDict>;

Dict new_dict(int shift = kShift) {
	CsegDict *d = nullptr;
	CsegError err;
	EXPECT_EQ(cseg_dict_new(&d, shift, &err), CSEG_OK);
	return Dict(d);
}

CsegCode try_encode(const Texts &texts, Bytes *out) {
	std::vector<const uint8_t *> p;
	std::vector<size_t> n;
	for (const auto &t : texts) {
		p.push_back(reinterpret_cast<const uint8_t *>(t.data()));
		n.push_back(t.size());
	}
	uint8_t *bytes = nullptr;
	size_t len = 0;
	CsegError err;
	const CsegCode code =
		cseg_dict_encode(p.data(), n.data(), static_cast<uint32_t>(texts.size()), &bytes, &len, &err);
	if (code == CSEG_OK)
		out->assign(bytes, bytes + len);
	cseg_bytes_free(bytes);
	return code;
}

Bytes encode(const Texts &texts) {
	Bytes b;
	EXPECT_EQ(try_encode(texts, &b), CSEG_OK);
	return b;
}

CsegCode add(CsegDict *d, uint32_t first, const Bytes &b) {
	// A copy of exactly the size, so that the sanitizer sees a read beyond the end.
	const auto copy = std::make_unique<uint8_t[]>(b.size());
	std::copy(b.begin(), b.end(), copy.get());
	CsegError err;
	const CsegCode code = cseg_dict_add(d, first, copy.get(), b.size(), &err);
	EXPECT_TRUE(code == CSEG_OK || code == CSEG_CORRUPT) << err.msg;
	return code;
}

constexpr int64_t kUnknown = -1;
constexpr int64_t kFailed = -2;

int64_t find(CsegDict *d, std::string_view t) {
	bool found = false;
	uint32_t ordinal = 0;
	CsegError err;
	const CsegCode code =
		cseg_dict_find(d, reinterpret_cast<const uint8_t *>(t.data()), t.size(), &found, &ordinal, &err);
	EXPECT_TRUE(code == CSEG_OK || code == CSEG_CORRUPT) << err.msg;
	if (code != CSEG_OK)
		return kFailed;
	return found ? int64_t{ordinal} : kUnknown;
}

std::string_view text_of(const void *header) {
	EXPECT_EQ(reinterpret_cast<uintptr_t>(header) % 4, 0u);
	return cseg::dict::text_at(static_cast<const uint8_t *>(header), kShift);
}

const void *const *pin(CsegDict *d, uint32_t container) {
	const void *const *texts = nullptr;
	CsegError err;
	EXPECT_EQ(cseg_dict_pin(d, container, &texts, &err), CSEG_OK) << err.msg;
	return texts;
}

CsegCode check(const Bytes &b, uint32_t *count) {
	CsegError err;
	return cseg_dict_check(b.data(), b.size(), count, &err);
}

Texts sorted(const std::set<std::string> &s) {
	Texts t(s.begin(), s.end());
	std::sort(t.begin(), t.end(), cseg::identity_less);
	return t;
}

Texts random_ids(std::mt19937_64 &random, size_t n) {
	std::set<std::string> s;
	while (s.size() < n)
		s.insert(std::to_string(1'000'000'000'000 + random() % 9'000'000'000'000));
	return sorted(s);
}

std::string syllables(std::mt19937_64 &random, size_t n) {
	static constexpr std::string_view consonants = "bcdfghklmnprstvwz";
	static constexpr std::string_view vowels = "aeiou";
	std::string s;
	while (s.size() < n) {
		s += consonants[random() % consonants.size()];
		s += vowels[random() % vowels.size()];
	}
	return s;
}

Texts random_mails(std::mt19937_64 &random, size_t n) {
	Texts first, last, domain;
	for (int i = 0; i < 200; i++)
		first.push_back(syllables(random, 3 + random() % 6));
	for (int i = 0; i < 1000; i++)
		last.push_back(syllables(random, 4 + random() % 7));
	for (int i = 0; i < 30; i++)
		domain.push_back(syllables(random, 4 + random() % 6) + (random() % 3 ? ".com" : ".de"));
	std::set<std::string> s;
	while (s.size() < n) {
		const size_t d = (random() % 30) * (random() % 30) / 30; // skewed
		s.insert(first[random() % 200] + "." + last[random() % 1000] + std::to_string(random() % 1000) + "@" +
				 domain[d]);
	}
	return sorted(s);
}

Texts edge_texts() {
	const std::string big(1 << 20, 'x');
	std::string noise;
	std::mt19937_64 random(3);
	for (int i = 0; i < 300'000; i++)
		noise += static_cast<char>(random() % 256);
	Texts t{"",
			"0",
			"7",
			"007",
			"00",
			"-1",
			"+5",
			"1.0",
			"999999999999999999",
			"1000000000000000000",
			"9223372036854775807",
			"12345678901234567890123456789",
			"00000000000000000000000000000",
			"a",
			"ab",
			"abc",
			"abcd",
			"@",
			"@@",
			"a@",
			"@b",
			"a@b@c",
			"a12@b",
			"a012@b",
			"a0000000000000000000000012@b",
			"12@b",
			"12a",
			" 12",
			"12 ",
			"\xC3\xA4\xC3\xB6\xC3\xBC@stra\xC3\x9F"
			"e.de",
			"\xFF\xFE",
			std::string("nul\0inside", 10),
			std::string("\0", 1),
			std::string(300, 'y'),
			std::string(300, 'y') + "z",
			big,
			big + "1",
			big + "2",
			noise};
	return t;
}

// A dictionary beside the map it must agree with.
struct Model {
	Dict dict = new_dict();
	std::unordered_map<std::string, uint32_t> by_text;
	std::unordered_map<uint32_t, std::string> by_ordinal;
	uint32_t next = 0;

	void add(const Texts &texts, uint32_t gap = 0) {
		next += gap;
		ASSERT_EQ(::add(dict.get(), next, encode(texts)), CSEG_OK);
		for (const auto &t : texts) {
			by_text[t] = next;
			by_ordinal[next++] = t;
		}
	}
	void agree_on_finds(size_t step = 1) {
		size_t i = 0;
		for (const auto &[t, o] : by_text) {
			if (i++ % step == 0) {
				ASSERT_EQ(find(dict.get(), t), int64_t{o}) << t.substr(0, 80);
				ASSERT_EQ(find(dict.get(), t + "~"), by_text.count(t + "~") ? find(dict.get(), t + "~") : kUnknown);
			}
		}
	}
	void agree_on_container(uint32_t c) {
		const void *const *texts = pin(dict.get(), c);
		for (uint32_t low = 0; low < CSEG_CONTAINER_SIZE; low++) {
			const auto it = by_ordinal.find(c * CSEG_CONTAINER_SIZE + low);
			if (it == by_ordinal.end()) {
				ASSERT_EQ(texts[low], nullptr);
			} else {
				ASSERT_EQ(text_of(texts[low]), it->second);
			}
		}
		cseg_dict_unpin(dict.get(), c);
	}
	void agree() {
		agree_on_finds();
		for (uint32_t c = 0; c <= (next >> CSEG_CONTAINER_BITS) + 1; c++)
			agree_on_container(c);
		EXPECT_EQ(cseg_dict_count(dict.get()), by_text.size());
		EXPECT_EQ(cseg_dict_next(dict.get()), next);
	}
};

// ---- order --------------------------------------------------------------------------------------------------------

TEST(Dictionary, canonical_integers) {
	for (const char *s : {"0", "1", "9", "10", "12345678", "123456789", "999999999999999999"})
		EXPECT_TRUE(cseg::canonical_integer(s)) << s;
	for (const char *s : {"", "00", "007", "-1", "+1", "1.0", "1e5", "1000000000000000000", "1234567a",
						  "1234567:", "1234567/", "12345678a", " 1", "\xB1\xB2\xB3\xB4\xB5\xB6\xB7\xB8", "1\xB2"})
		EXPECT_FALSE(cseg::canonical_integer(s)) << s;
	// Every byte in every place of an eight-byte word.
	for (int place = 0; place < 8; place++) {
		for (int c = 0; c < 256; c++) {
			std::string s = "11111111";
			s[static_cast<size_t>(place)] = static_cast<char>(c);
			const bool digit = c >= '0' && c <= '9' && (place > 0 || c != '0');
			EXPECT_EQ(cseg::canonical_integer(s), digit) << place << " " << c;
		}
	}
}

TEST(Dictionary, order_is_numbers_then_bytes) {
	const Texts t{"0",  "2", "10", "99",  "100", "999999999999999999", "", "-1", "00", "007", "1000000000000000000",
				  "1a", "a", "b",  "\xFF"};
	for (size_t i = 0; i < t.size(); i++) {
		for (size_t j = 0; j < t.size(); j++)
			EXPECT_EQ(cseg::identity_less(t[i], t[j]), i < j) << t[i] << " " << t[j];
	}
}

// ---- records ------------------------------------------------------------------------------------------------------

std::string hex(const Bytes &b) {
	std::string s;
	char two[3];
	for (const uint8_t c : b) {
		std::snprintf(two, sizeof two, "%02x", c);
		s += two;
	}
	return s;
}

TEST(Dictionary, golden_bytes) {
	EXPECT_EQ(hex(encode({})), "44010200a674c6fe020000");
	EXPECT_EQ(hex(encode({"5209503793328"})), "44010200412682220a01b081fef4ce97010000");
	EXPECT_EQ(hex(encode({"5", "9", "1000", "1001"})), "440102008f4f73a604040505000806ce1b00");
	EXPECT_EQ(hex(encode({"7", "007", "a@b"})), "440102003c2600170901070002000102060b0000033030370003614062");
	EXPECT_EQ(hex(encode({"ab", "a", "1"})), "44010300d637d189070003000103040a00000261620100000131");
	EXPECT_LE(encode({"5209503793328"}).size(), 30u);
}

TEST(Dictionary, golden_layout_of_blocks) {
	// Larger than what one checksum covers: block checksums, domains, streams and fences are all in here.
	Texts t;
	for (int i = 0; i < 3000; i++)
		t.push_back("user" + std::to_string(100000 + i * 7) + (i % 2 ? "@a.com" : "@b.org"));
	for (int i = 0; i < 3000; i++)
		t.push_back(std::to_string(1000 + i * i));
	std::sort(t.begin(), t.end(), cseg::identity_less);
	const Bytes b = encode(t);
	cseg::dict::Directory dir;
	cseg::dict::read_directory(&dir, b.data(), b.size());
	EXPECT_EQ(dir.flags, 0);
	EXPECT_EQ(dir.n_ints, 3000u);
	EXPECT_EQ(dir.n_texts, 3000u);
	EXPECT_EQ(dir.int_blocks, 3u);
	ASSERT_EQ(dir.blocks.size(), 6u);
	ASSERT_EQ(dir.domains.size(), 2u);
	EXPECT_EQ(cseg::dict::view(b.data(), dir.domains[0]), "@a.com");
	EXPECT_EQ(dir.blocks[1].first, 1000u + 1024 * 1024);
	EXPECT_EQ(cseg::dict::view(b.data(), dir.blocks[4].fence), "user107168");
	EXPECT_EQ(cseg::dict::view(b.data(), dir.blocks[5].fence), "user11433");
}

TEST(Dictionary, duplicate_is_refused) {
	Bytes b;
	EXPECT_EQ(try_encode({"a", "a"}, &b), CSEG_BUG);
	EXPECT_EQ(try_encode({"1", "a", "1"}, &b), CSEG_BUG);
	EXPECT_EQ(try_encode({"1", "1"}, &b), CSEG_BUG);
}

TEST(Dictionary, sizes_stay_small) {
	std::mt19937_64 random(11);
	const Texts ids = random_ids(random, 100'000);
	const Texts mails = random_mails(random, 100'000);
	const double per_id = static_cast<double>(encode(ids).size()) / 100'000;
	const double per_mail = static_cast<double>(encode(mails).size()) / 100'000;
	RecordProperty("bytes_per_id", std::to_string(per_id));
	RecordProperty("bytes_per_mail", std::to_string(per_mail));
	EXPECT_LT(per_id, 3.6);
	EXPECT_LT(per_mail, 6.0);
}

TEST(Dictionary, integers_with_wild_gaps) {
	std::mt19937_64 random(5);
	std::set<uint64_t> values{0, 999'999'999'999'999'999};
	for (int shift = 0; shift < 60; shift++) {
		for (int i = 0; i < 60; i++)
			values.insert((random() >> shift) % 1'000'000'000'000'000'000);
	}
	for (uint64_t i = 0; i < 5000; i++)
		values.insert(700'000'000'000'000'000 + i);
	Texts t;
	for (const uint64_t v : values)
		t.push_back(std::to_string(v));
	Model m;
	m.add(t);
	m.agree();
	uint32_t n = 0;
	EXPECT_EQ(check(encode(t), &n), CSEG_OK);
	EXPECT_EQ(n, t.size());
}

// ---- object -------------------------------------------------------------------------------------------------------

TEST(Dictionary, empty) {
	Model m;
	EXPECT_EQ(find(m.dict.get(), "x"), kUnknown);
	EXPECT_EQ(find(m.dict.get(), ""), kUnknown);
	EXPECT_EQ(cseg_dict_next(m.dict.get()), 0u);
	m.add({});
	m.agree();
	cseg_dict_free(nullptr);
}

TEST(Dictionary, bad_arguments) {
	CsegDict *d = nullptr;
	CsegError err;
	EXPECT_EQ(cseg_dict_new(&d, 3, &err), CSEG_BUG);
	EXPECT_EQ(cseg_dict_new(&d, -1, &err), CSEG_BUG);
	const Dict dict = new_dict();
	const void *const *texts;
	EXPECT_EQ(cseg_dict_pin(dict.get(), 65536, &texts, &err), CSEG_BUG);
	cseg_dict_unpin(dict.get(), 5);
	cseg_dict_unpin(dict.get(), UINT32_MAX);
}

TEST(Dictionary, limits_of_ordinals) {
	const Dict d = new_dict();
	EXPECT_EQ(add(d.get(), CSEG_MAX_ORDINAL + 1, encode({"a"})), CSEG_CORRUPT);
	EXPECT_EQ(add(d.get(), CSEG_MAX_ORDINAL, encode({"a", "b"})), CSEG_CORRUPT);
	EXPECT_EQ(add(d.get(), CSEG_MAX_ORDINAL, encode({"a"})), CSEG_OK);
	EXPECT_EQ(cseg_dict_next(d.get()), CSEG_MAX_ORDINAL + 1);
	EXPECT_EQ(find(d.get(), "a"), int64_t{CSEG_MAX_ORDINAL});
	const void *const *texts = pin(d.get(), CSEG_MAX_ORDINAL >> CSEG_CONTAINER_BITS);
	EXPECT_EQ(text_of(texts[CSEG_MAX_ORDINAL % CSEG_CONTAINER_SIZE]), "a");
}

TEST(Dictionary, records_must_not_overlap) {
	std::mt19937_64 random(9);
	const Bytes ten = encode({"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"});
	const Bytes many = encode(random_ids(random, 1000));
	const Dict d = new_dict();
	EXPECT_EQ(add(d.get(), 100, ten), CSEG_OK);
	for (const uint32_t first : {91u, 100u, 105u, 109u})
		EXPECT_EQ(add(d.get(), first, ten), CSEG_CORRUPT) << first;
	EXPECT_EQ(add(d.get(), 0, many), CSEG_CORRUPT);
	EXPECT_EQ(add(d.get(), 110, many), CSEG_OK);
	EXPECT_EQ(add(d.get(), 1109, ten), CSEG_CORRUPT);
	EXPECT_EQ(cseg_dict_count(d.get()), 1010u);
}

TEST(Dictionary, any_texts) {
	const Texts all = edge_texts();
	Texts in_order = all;
	std::sort(in_order.begin(), in_order.end(), cseg::identity_less);
	for (const Texts &t : {all, in_order}) {
		Model m;
		m.add(t);
		m.agree();
		uint32_t n = 0;
		EXPECT_EQ(check(encode(t), &n), CSEG_OK);
		EXPECT_EQ(n, t.size());
	}
	// Each as a record of its own.
	Model m;
	for (const auto &t : all)
		m.add({t}, 3);
	m.agree();
}

TEST(Dictionary, header_shift_zero) {
	const Dict d = new_dict(0);
	ASSERT_EQ(add(d.get(), 0, encode({"12", "ab@c"})), CSEG_OK);
	const void *const *texts = pin(d.get(), 0);
	uint32_t header;
	std::memcpy(&header, texts[1], 4);
	EXPECT_EQ(header, 8u);
	EXPECT_EQ(std::memcmp(static_cast<const char *>(texts[1]) + 4, "ab@c", 4), 0);
}

TEST(Dictionary, large_records_cold_and_hot) {
	std::mt19937_64 random(17);
	Model m;
	m.add(random_mails(random, 20'000));
	m.agree_on_finds(200); // few: by the fences
	m.add(random_ids(random, 40'000), 5000);
	m.agree();                             // many: through the index
	m.add(random_mails(random, 5'000), 1); // added to the index
	m.agree();
	cseg_dict_trim(m.dict.get(), 0);
	m.agree_on_finds(100);
	m.agree();
}

TEST(Dictionary, unsorted_records) {
	std::mt19937_64 random(18);
	Texts mixed = random_mails(random, 3000);
	for (const auto &t : random_ids(random, 3000))
		mixed.push_back(t);
	std::shuffle(mixed.begin(), mixed.end(), random);
	Model m;
	m.add(mixed);
	ASSERT_EQ(find(m.dict.get(), mixed[77]), 77);
	m.agree();
	cseg_dict_trim(m.dict.get(), 0);
	ASSERT_EQ(find(m.dict.get(), mixed[78]), 78);
	uint32_t n = 0;
	EXPECT_EQ(check(encode(mixed), &n), CSEG_OK);
}

TEST(Dictionary, ten_thousand_tiny_records) {
	std::mt19937_64 random(19);
	Texts ids = random_ids(random, 10'000);
	std::shuffle(ids.begin(), ids.end(), random);
	Model m;
	m.add(random_mails(random, 3000));
	for (const auto &t : ids)
		m.add({t});
	m.agree();
	EXPECT_LT(cseg_dict_bytes(m.dict.get()), size_t{8} << 20);
}

TEST(Dictionary, records_added_in_any_order) {
	std::mt19937_64 random(20);
	const Texts ids = random_ids(random, 20'000);
	std::vector<std::pair<uint32_t, uint32_t>> runs;
	for (uint32_t at = 0; at < ids.size();) {
		const auto n = std::min<uint32_t>(1 + random() % 200, static_cast<uint32_t>(ids.size()) - at);
		runs.emplace_back(at, n);
		at += n;
	}
	std::shuffle(runs.begin(), runs.end(), random);
	const Dict d = new_dict();
	const void *const *texts = pin(d.get(), 0); // sees them come
	for (const auto &[at, n] : runs) {
		const Texts run(ids.begin() + at, ids.begin() + at + n);
		ASSERT_EQ(add(d.get(), at, encode(run)), CSEG_OK);
		ASSERT_EQ(find(d.get(), ids[at]), int64_t{at});
		ASSERT_EQ(text_of(texts[at + n - 1]), ids[at + n - 1]);
	}
	for (uint32_t i = 0; i < ids.size(); i++)
		ASSERT_EQ(find(d.get(), ids[i]), int64_t{i});
}

TEST(Dictionary, unknown_is_not_remembered) {
	std::mt19937_64 random(21);
	Model m;
	m.add(random_ids(random, 2000));
	for (int i = 0; i < 2000; i++)
		ASSERT_EQ(find(m.dict.get(), "new"), kUnknown);
	m.add({"new"});
	EXPECT_EQ(find(m.dict.get(), "new"), 2000);
	m.add(random_mails(random, 1000));
	m.agree();
}

TEST(Dictionary, pins_hold_while_trimmed) {
	std::mt19937_64 random(22);
	Model m;
	m.add(random_ids(random, 70'000));
	const size_t before = cseg_dict_bytes(m.dict.get());
	const void *const *texts = pin(m.dict.get(), 1);
	EXPECT_EQ(pin(m.dict.get(), 1), texts);
	m.agree_on_container(0);
	m.agree_on_container(2);
	const size_t full = cseg_dict_bytes(m.dict.get());
	cseg_dict_trim(m.dict.get(), 0);
	const size_t pinned = cseg_dict_bytes(m.dict.get());
	EXPECT_LT(pinned, full);
	EXPECT_EQ(text_of(texts[5]), m.by_ordinal[32768 + 5]);
	cseg_dict_unpin(m.dict.get(), 1);
	cseg_dict_trim(m.dict.get(), 0);
	EXPECT_GT(cseg_dict_bytes(m.dict.get()), before / 2);
	EXPECT_EQ(text_of(texts[6]), m.by_ordinal[32768 + 6]);
	cseg_dict_unpin(m.dict.get(), 1);
	cseg_dict_trim(m.dict.get(), 0);
	EXPECT_LE(cseg_dict_bytes(m.dict.get()), before + 16384);
	m.agree();
	cseg_dict_trim(m.dict.get(), 0);
	EXPECT_LE(cseg_dict_bytes(m.dict.get()), before + 16384);
}

TEST(Dictionary, trim_takes_the_oldest_first) {
	std::mt19937_64 random(23);
	Model m;
	m.add(random_ids(random, 98'304));
	for (const uint32_t c : {1u, 2u, 0u}) {
		pin(m.dict.get(), c);
		cseg_dict_unpin(m.dict.get(), c);
	}
	const void *const *young = pin(m.dict.get(), 0);
	cseg_dict_unpin(m.dict.get(), 0);
	cseg_dict_trim(m.dict.get(), cseg_dict_bytes(m.dict.get()) - 1'500'000);
	EXPECT_EQ(pin(m.dict.get(), 0), young);
	EXPECT_EQ(text_of(young[9]), m.by_ordinal[9]);
	cseg_dict_unpin(m.dict.get(), 0);
}

TEST(Dictionary, random_operations) {
	for (uint32_t seed = 0; seed < 8; seed++) {
		std::mt19937_64 random(seed);
		Model m;
		Texts pool = random_ids(random, 6000);
		for (const auto &t : random_mails(random, 6000))
			pool.push_back(t);
		std::shuffle(pool.begin(), pool.end(), random);
		for (int step = 0; step < 60 && !pool.empty(); step++) {
			const size_t n =
				std::min<size_t>(pool.size(), random() % 8 == 0 ? 1 + random() % 3000 : 1 + random() % 90);
			Texts run(pool.end() - static_cast<ptrdiff_t>(n), pool.end());
			pool.resize(pool.size() - n);
			if (random() % 6 != 0)
				std::sort(run.begin(), run.end(), cseg::identity_less);
			m.add(run, random() % 5 == 0 ? random() % 20'000 : 0);
			for (int i = 0; i < 40; i++) {
				const auto it = m.by_ordinal.find(static_cast<uint32_t>(random() % m.next));
				if (it != m.by_ordinal.end()) {
					ASSERT_EQ(find(m.dict.get(), it->second), int64_t{it->first});
				}
				if (!pool.empty()) {
					ASSERT_EQ(find(m.dict.get(), pool[random() % pool.size()]), kUnknown);
				}
			}
			if (random() % 7 == 0)
				m.agree_on_container(static_cast<uint32_t>(random() % (m.next / CSEG_CONTAINER_SIZE + 1)));
			if (random() % 9 == 0)
				cseg_dict_trim(m.dict.get(), random() % cseg_dict_bytes(m.dict.get()));
		}
		m.agree();
	}
}

// ---- damage -------------------------------------------------------------------------------------------------------

// Adds and uses a record that may be damaged. Nothing may crash; what is found must be what a pin shows.
void use(const Bytes &b) {
	uint32_t n = 0;
	const CsegCode checked = check(b, &n);
	ASSERT_TRUE(checked == CSEG_OK || checked == CSEG_CORRUPT);
	const Dict d = new_dict();
	if (add(d.get(), 32'700, b) != CSEG_OK) {
		ASSERT_NE(checked, CSEG_OK);
		return;
	}
	find(d.get(), "5209503793328");
	find(d.get(), "user7@a.com");
	for (const uint32_t c : {0u, 1u}) {
		const void *const *texts;
		CsegError err;
		const CsegCode code = cseg_dict_pin(d.get(), c, &texts, &err);
		ASSERT_TRUE(code == CSEG_OK || code == CSEG_CORRUPT);
		if (code != CSEG_OK) {
			ASSERT_NE(checked, CSEG_OK);
			continue;
		}
		for (uint32_t i = 0; i < CSEG_CONTAINER_SIZE; i += 1 + i % 7) {
			if (texts[i] == nullptr)
				continue;
			const int64_t o = find(d.get(), text_of(texts[i]));
			if (checked == CSEG_OK) {
				ASSERT_EQ(o, int64_t{c} * CSEG_CONTAINER_SIZE + i);
			}
		}
		cseg_dict_unpin(d.get(), c);
	}
}

std::vector<Bytes> victims() {
	std::mt19937_64 random(31);
	Texts mails = random_mails(random, 300);
	Texts mixed = random_ids(random, 40);
	for (const auto &t : {"007", "a@b", "a@c", "x", "y"})
		mixed.push_back(t);
	std::sort(mixed.begin(), mixed.end(), cseg::identity_less);
	Texts shuffled = mails;
	std::shuffle(shuffled.begin(), shuffled.end(), random);
	shuffled.resize(80);
	Texts blocks; // more than one block, and giants
	for (int i = 0; i < 1100; i++)
		blocks.push_back("u" + std::to_string(100000 + i));
	blocks.push_back(std::string(150'000, 'v'));
	blocks.push_back(std::string(150'000, 'v') + "w");
	return {encode({"5209503793328"}),      encode(mixed), encode(mails), encode(shuffled),
			encode(random_ids(random, 90)), encode(blocks)};
}

// How far to go on from byte i. The fence of the giant is 150 kB of one letter, in the middle: of it only some.
size_t stride(const Bytes &good, size_t i, size_t usual) {
	constexpr size_t kEdges = 3000;
	if (i >= kEdges && i + kEdges < good.size())
		return 101;
	return good.size() > 2000 ? usual : 1;
}

TEST(Dictionary, every_flipped_byte_is_seen) {
	for (const Bytes &good : victims()) {
		uint32_t n;
		ASSERT_EQ(check(good, &n), CSEG_OK);
		for (size_t i = 0; i < good.size(); i += stride(good, i, 3)) {
			Bytes bad = good;
			bad[i] ^= static_cast<uint8_t>(1 + i % 255);
			EXPECT_EQ(check(bad, &n), CSEG_CORRUPT) << i;
		}
	}
}

TEST(Dictionary, damage_behind_right_checksums) {
	std::mt19937_64 random(32);
	for (const Bytes &good : victims()) {
		Bytes same = good;
		fixup::fix_checksums(same);
		ASSERT_EQ(same, good);
		const size_t step = 1 + good.size() / 300;
		for (size_t i = random() % step; i < good.size(); i += step) {
			if (i >= 4 && i < 8)
				continue;
			for (const uint8_t flip : {uint8_t{1}, uint8_t{0x80}, uint8_t{0xFF}}) {
				Bytes bad = good;
				bad[i] ^= flip;
				fixup::fix_checksums(bad);
				use(bad);
				if (HasFatalFailure())
					return;
			}
		}
	}
}

TEST(Dictionary, truncated_and_extended) {
	for (const Bytes &good : victims()) {
		uint32_t n;
		for (size_t len = 0; len < good.size(); len += stride(good, len, 7)) {
			Bytes bad(good.begin(), good.begin() + static_cast<ptrdiff_t>(len));
			EXPECT_EQ(check(bad, &n), CSEG_CORRUPT);
			fixup::fix_checksums(bad);
			EXPECT_EQ(check(bad, &n), CSEG_CORRUPT) << len;
		}
		Bytes bad = good;
		bad.push_back(0);
		fixup::fix_checksums(bad);
		EXPECT_EQ(check(bad, &n), CSEG_CORRUPT);
	}
}

// A record whose block is damaged is added all the same, and must come out again where that is found out.
TEST(Dictionary, damaged_block_is_found_late) {
	std::mt19937_64 random(33);
	Model m;
	m.add(random_ids(random, 3000));
	const Texts mails = random_mails(random, 3000);
	Bytes bad = encode(mails);
	bad[bad.size() - 10] ^= 1;
	CsegDict *d = m.dict.get();
	{
		const Dict cold = new_dict();
		ASSERT_EQ(add(cold.get(), 0, bad), CSEG_OK);
		EXPECT_EQ(find(cold.get(), mails[0]), 0);
		EXPECT_EQ(find(cold.get(), mails[2999]), kFailed);
		const void *const *texts;
		CsegError err;
		EXPECT_EQ(cseg_dict_pin(cold.get(), 0, &texts, &err), CSEG_CORRUPT);
		int failed = 0;
		for (int i = 0; i < 1000; i++)
			failed += find(cold.get(), mails[static_cast<size_t>(i)]) == kFailed ? 1 : 0;
		EXPECT_GT(failed, 0);
	}
	const void *const *texts = pin(d, 0);
	EXPECT_EQ(add(d, 3000, bad), CSEG_CORRUPT); // shown to the pinned container
	EXPECT_EQ(texts[3000], nullptr);
	cseg_dict_unpin(d, 0);
	m.agree(); // builds the index
	EXPECT_EQ(add(d, 3000, bad), CSEG_CORRUPT);
	m.agree();
	m.add(mails);
	m.agree();
	cseg_dict_trim(d, 0);
	m.agree();
}

} // namespace
