// member_bits.hpp
//    Bitsets of one container's customers.
#pragma once

#include "bytes.hpp"

namespace cseg {

constexpr size_t kWords = CSEG_MEMBER_WORDS;

uint32_t bits_count(const uint64_t *a);
// Runs of set bits that start here: not at the first bit where the bit before it, carry, is set.
uint32_t bits_runs(const uint64_t *a, uint64_t carry);
uint32_t bits_count_and(const uint64_t *a, const uint64_t *b);
constexpr size_t kListSlack = 4;
// How many bits a word has, about: most none, one, more. A wrong one costs time only.
enum class Density { few, some, many };
// Writes base + i for each bit i that is set, and up to kListSlack more that mean nothing; returns how many are set.
size_t bits_list(const uint64_t *a, uint16_t base, Density density, uint16_t *to);
void bits_apply(uint64_t *a, CsegSetOp op, const uint64_t *b); // a := a op b

} // namespace cseg
