// fuzz_dictionary.cpp
//    Fuzz target of dictionary records: decodes bytes whose checksums have been made right, and encodes texts.
//
// The first byte chooses: take the rest as a record; or as texts to encode and, in half of the cases, to damage.
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>

#include "dictionary_fixup.hpp"

namespace {

using Bytes = std::vector<uint8_t>;

constexpr int kShift = 2;
constexpr uint32_t kFirst = CSEG_CONTAINER_SIZE - 20; // so that two containers are touched

void require(bool ok) {
	if (!ok)
		std::abort();
}

int64_t find(CsegDict *d, std::string_view t) {
	bool found;
	uint32_t ordinal;
	CsegError err;
	const CsegCode code =
		cseg_dict_find(d, reinterpret_cast<const uint8_t *>(t.data()), t.size(), &found, &ordinal, &err);
	require(code == CSEG_OK || code == CSEG_CORRUPT);
	if (code != CSEG_OK)
		return -2;
	return found ? int64_t{ordinal} : -1;
}

// What a pin shows must be what find finds, if the record is sound.
void look(CsegDict *d, bool sound) {
	for (uint32_t c = 0; c <= (cseg_dict_next(d) - 1) >> CSEG_CONTAINER_BITS && c < 2; c++) {
		const void *const *texts;
		CsegError err;
		const CsegCode code = cseg_dict_pin(d, c, &texts, &err);
		require(code == CSEG_OK || (code == CSEG_CORRUPT && !sound));
		if (code != CSEG_OK)
			continue;
		uint32_t budget = 400;
		for (uint32_t i = 0; i < CSEG_CONTAINER_SIZE && budget > 0; i++) {
			if (texts[i] == nullptr)
				continue;
			budget--;
			const auto t = cseg::dict::text_at(static_cast<const uint8_t *>(texts[i]), kShift);
			const int64_t o = find(d, t);
			require(!sound || o == int64_t{c} * CSEG_CONTAINER_SIZE + i);
		}
		cseg_dict_unpin(d, c);
	}
}

void decode(const Bytes &b, bool twice) {
	uint32_t count = 0;
	CsegError err;
	const CsegCode checked = cseg_dict_check(b.data(), b.size(), &count, &err);
	require(checked == CSEG_OK || checked == CSEG_CORRUPT);
	CsegDict *d;
	require(cseg_dict_new(&d, kShift, &err) == CSEG_OK);
	const CsegCode added = cseg_dict_add(d, kFirst, b.data(), b.size(), &err);
	require(added == CSEG_OK || (added == CSEG_CORRUPT && checked != CSEG_OK));
	if (cseg_dict_count(d) == 0) {
		cseg_dict_free(d);
		return;
	}
	find(d, "5209503793328");
	find(d, "someone1@example.com");
	look(d, checked == CSEG_OK);
	cseg_dict_trim(d, 0);
	find(d, "");
	if (twice)
		look(d, checked == CSEG_OK);
	cseg_dict_free(d);
}

std::vector<std::string_view> cut(std::string_view s) {
	std::vector<std::string_view> texts;
	std::set<std::string_view> seen;
	while (!s.empty()) {
		const size_t end = std::min(s.find('\n'), s.size());
		if (seen.insert(s.substr(0, end)).second)
			texts.push_back(s.substr(0, end));
		s.remove_prefix(std::min(end + 1, s.size()));
	}
	return texts;
}

void round_trip(const std::vector<std::string_view> &texts, const Bytes &b) {
	cseg::dict::Directory dir;
	cseg::dict::Decoder decoder(0);
	cseg::dict::read_directory(&dir, b.data(), b.size());
	require(dir.count() == texts.size());
	size_t i = 0;
	for (size_t block = 0; block < dir.blocks.size(); block++) {
		const auto arena = decoder.texts(b.data(), dir, block);
		for (const uint32_t at : decoder.at())
			require(cseg::dict::text_at(arena.memory.get() + size_t{at} * 4, 0) == texts[i++]);
	}
	require(i == texts.size());
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	if (size < 8)
		return 0;
	const uint8_t how = data[0];
	if (how % 4 == 0) {
		Bytes b(data + 1, data + size);
		fixup::fix_checksums(b);
		decode(b, how & 8);
		return 0;
	}
	auto texts = cut({reinterpret_cast<const char *>(data) + 8, size - 8});
	if (how & 4)
		std::sort(texts.begin(), texts.end(), cseg::identity_less);
	Bytes b = cseg::encode_dictionary(texts);
	round_trip(texts, b);
	if (how % 4 > 1) {
		for (int i = 1; i < 6; i += 2) // three bytes, early ones more likely
			b[(size_t{data[i]} * data[i] * b.size()) >> 16] ^= data[i + 1];
		fixup::fix_checksums(b);
	}
	decode(b, how & 8);
	return 0;
}
