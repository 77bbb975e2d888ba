// touched.hpp
//    Which rows a statement has updated or removed: a bit a row where they are many, two bytes where they are few.
#pragma once

#include <algorithm>
#include <memory>

#include <boost/unordered/unordered_flat_map.hpp>

#include "bytes.hpp"

namespace cseg {

class TouchedRows {
public:
	void add(uint32_t group, uint8_t slot, uint32_t ordinal) {
		const size_t sets_before = sets.bucket_count();
		Lows &lows = sets[key(group, slot, ordinal)];
		const size_t before = lows.bytes();
		lows.add(static_cast<uint16_t>(ordinal % CSEG_CONTAINER_SIZE));
		total += lows.bytes() - before + (sets.bucket_count() - sets_before) * sizeof(Sets::value_type);
	}
	bool has(uint32_t group, uint8_t slot, uint32_t ordinal) const {
		const auto at = sets.find(key(group, slot, ordinal));
		return at != sets.end() && at->second.has(static_cast<uint16_t>(ordinal % CSEG_CONTAINER_SIZE));
	}
	bool empty() const { return sets.empty(); }
	size_t bytes() const { return total; }

private:
	// Customers of one container: sorted while they are few.
	class Lows {
	public:
		void add(uint16_t low) {
			if (!many) {
				const auto at = std::lower_bound(few.begin(), few.end(), low);
				if (at != few.end() && *at == low)
					return;
				if (few.size() < kFew) {
					few.insert(at, low);
					return;
				}
				many = std::make_unique<std::array<uint64_t, kWords>>();
				for (const uint16_t l : few)
					(*many)[l / 64u] |= UINT64_C(1) << l % 64u;
				std::vector<uint16_t>().swap(few);
			}
			(*many)[low / 64u] |= UINT64_C(1) << low % 64u;
		}
		bool has(uint16_t low) const {
			return many ? ((*many)[low / 64u] >> low % 64u & 1) != 0
						: std::binary_search(few.begin(), few.end(), low);
		}
		size_t bytes() const { return few.capacity() * sizeof few[0] + (many ? sizeof *many : 0); }

	private:
		static constexpr size_t kWords = CSEG_CONTAINER_SIZE / 64;
		static constexpr size_t kFew = kWords * sizeof(uint64_t) / sizeof(uint16_t) / 2;
		std::vector<uint16_t> few;
		std::unique_ptr<std::array<uint64_t, kWords>> many;
	};
	using Sets = boost::unordered_flat_map<uint64_t, Lows>;

	//   bit   55   24 23       6 5    0
	//        | group | container | slot |
	static uint64_t key(uint32_t group, uint8_t slot, uint32_t ordinal) {
		return static_cast<uint64_t>(group) << 24 | static_cast<uint64_t>(ordinal / CSEG_CONTAINER_SIZE) << 6 |
			   (slot & (CSEG_SLOTS - 1));
	}

	Sets sets;
	size_t total = 0;
};

} // namespace cseg
