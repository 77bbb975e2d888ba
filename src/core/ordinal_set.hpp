// ordinal_set.hpp
//    A set of ordinals: per container that has any, a bitset of its 2^15 customers.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "member_bits.hpp"

namespace cseg {

using Bits = std::array<uint64_t, kWords>;

// A container of the set. It never is empty, so equal sets have equal forms.
struct Members {
	uint32_t container;
	std::unique_ptr<Bits> bits;
};

class OrdinalSet {
public:
	void add(uint32_t ordinal);
	// Adds what the bits of a container have.
	void add(uint32_t container, const uint64_t *bits);
	void apply(CsegSetOp op, const OrdinalSet &other);
	uint64_t count() const;
	uint64_t count_and(const OrdinalSet &other) const;
	bool contains(uint32_t ordinal) const;
	bool includes(const OrdinalSet &other) const;
	bool overlaps(const OrdinalSet &other) const;
	bool operator==(const OrdinalSet &other) const;
	OrdinalSet copy() const;
	size_t bytes() const;
	// The members of the first container that is not below the given one, or NULL.
	const Members *from(uint32_t container) const;

	std::vector<Members> parts; // by container

private:
	std::vector<Members>::iterator place(uint32_t container);
};

} // namespace cseg

// The handle of the contract.
struct CsegSet final : cseg::OrdinalSet {};
