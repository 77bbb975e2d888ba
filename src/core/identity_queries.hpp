// identity_queries.hpp
//    Identities that are looked for together, in the order of a dictionary: a sorted record is gone through once, and
//    of its blocks only those are decoded in which one of them can be.
#pragma once

#include <algorithm>
#include <vector>

#include "dictionary.hpp"

namespace cseg::dict {

constexpr uint32_t kNone = kNoOrdinal;

// The first of the places at..end-1 that before() does not hold for, or end. Quick if it is near.
template <class Before> size_t gallop(size_t at, size_t end, Before &&before) {
	size_t step = 1;
	while (step <= end - at && before(at + step - 1)) {
		at += step;
		step *= 2;
	}
	size_t stop = std::min(at + step, end);
	while (at < stop) {
		const size_t middle = at + (stop - at) / 2;
		if (before(middle))
			at = middle + 1;
		else
			stop = middle;
	}
	return at;
}

// Calls found(q, v) for each of the queries q..end-1 that is equal to one of the values 0..n-1, both in order.
// compare(q, v) is negative where the query comes first.
template <class Compare, class Found>
void leapfrog(size_t q, size_t end, size_t n, Compare &&compare, Found &&found) {
	size_t v = 0;
	while (q < end) {
		v = gallop(v, n, [&](size_t k) { return compare(q, k) > 0; });
		if (v == n)
			return;
		if (compare(q, v) == 0) {
			found(q, v);
			q++;
		} else {
			q = gallop(q + 1, end, [&](size_t k) { return compare(k, v) < 0; });
		}
	}
}

class Queries {
public:
	struct Integer {
		uint64_t value;
		uint32_t at;
	};
	struct Text {
		uint64_t head; // the first eight bytes, as a number of the same order
		uint32_t at;
	};

	// Of the texts those whose ordinal is kNone so far.
	Queries(std::span<const std::string_view> all, uint32_t *out) : texts(all), ordinals(out) {
		for (size_t i = 0; i < texts.size(); i++) {
			if (ordinals[i] != kNone)
				continue;
			const auto at = static_cast<uint32_t>(i);
			if (canonical_integer(texts[i]))
				integers.push_back({value_of(texts[i]), at});
			else
				strings.push_back({head_of(texts[i]), at});
		}
		std::sort(integers.begin(), integers.end(),
				  [](const Integer &a, const Integer &b) { return a.value < b.value; });
		std::sort(strings.begin(), strings.end(), [this](const Text &a, const Text &b) {
			return a.head != b.head ? a.head < b.head : texts[a.at] < texts[b.at];
		});
	}

	size_t size() const { return integers.size() + strings.size(); }
	std::string_view text(size_t i) const { return texts[strings[i].at]; }
	void found(uint32_t at, uint32_t ordinal) { ordinals[at] = ordinal; }
	void drop_found() {
		std::erase_if(integers, [this](const Integer &q) { return ordinals[q.at] != kNone; });
		std::erase_if(strings, [this](const Text &q) { return ordinals[q.at] != kNone; });
	}

	std::vector<Integer> integers;
	std::vector<Text> strings;

private:
	static uint64_t value_of(std::string_view s) {
		uint64_t v = 0;
		for (const char c : s)
			v = v * 10 + static_cast<uint64_t>(c - '0');
		return v;
	}
	static uint64_t head_of(std::string_view s) {
		uint64_t v = 0;
		std::memcpy(&v, s.data(), std::min(s.size(), sizeof v));
		return boost::endian::big_to_native(v);
	}

	std::span<const std::string_view> texts;
	uint32_t *ordinals;
};

} // namespace cseg::dict
