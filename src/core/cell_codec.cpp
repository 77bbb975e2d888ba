// cell_codec.cpp
//    The encoding of a cell: blob kind 'C', format version 1.
//
//    Blob = envelope (blob.hpp), then:
//
//    part         content
//    entries      varint, 0..32768; nothing follows 0
//    set union    slots with a set row in any entry (see below)
//    removed      slots with a removed row; only with flag 1
//    directory    only where entries > 256. Per block of 256 entries (the last may have fewer):
//                     varint  first low - (last low of the block before + 1)
//                     varint  last low - first low
//                     varint  length of the block
//                     u32     checksum of the block, seeded with its first low
//                 then u32: checksum of bytes 8.. up to here, seeded with bytes 0..3. With it and the blocks' own, a
//                 range decode verifies what it reads without reading all; the envelope's checksum covers everything.
//    blocks       one after the other, to the end
//
//    Flags: 1 some rows are removed, 2 some of those as moved.
//    A union is 2 bytes, first and last slot, where it is one run; else byte 64 and a u64; byte 65 where it is empty.
//
//    A block is one coded stream (numbers.hpp): varint length of the coded bytes, coded bytes, raw bytes. Each block
//    starts with fresh models. Per entry, in this order:
//
//    gap          low - (low before + 1); not coded for the first entry of a block that the directory names
//    removals     with flag 1: has removed rows?, has set rows?, mask of removed; with flag 2: all / none / each
//    moved mask         of set rows, in ranks of the union: starts with its first slot?, ends with its last?, more
//    runs?
//                 and the places where runs start and end. Not coded where the union has one slot.
//    first values per measure. The block says per measure, before its first value, whether all entries share it.
//    events       while there is a set row left to have one: one more?, its slot (rank), which measures, the changes
//
//    A value is its tag (same as the reference's, or kind and scale) and, for decimals, the difference of mantissas
//    modulo 2^64: to the value before the event, and to 0 for first values. Wide values are a length and raw bytes.
//    The chances of first values depend on the size of the measure before (revenue goes with orders).
#include <algorithm>
#include <optional>

#include "blob.hpp"
#include "cell.hpp"
#include "numbers.hpp"

namespace cseg {
namespace {

constexpr uint8_t kVersion = 1;
constexpr uint16_t kHasRemoved = 1;
constexpr uint16_t kHasMoved = 2;
constexpr size_t kBlockEntries = 256;
constexpr uint8_t kUnionAny = 64;
constexpr uint8_t kUnionEmpty = 65;
constexpr unsigned kContexts = 4;
constexpr unsigned kSlotBits = 6;

// ---- sets of slots -------------------------------------------------------------------------------------------

// The slots that occur in a cell, and masks expressed in ranks among them.
class SlotSet {
public:
	explicit SlotSet(uint64_t slots = 0) : all(slots), n(static_cast<unsigned>(std::popcount(slots))) {
		for (uint64_t left = slots; left != 0; left &= left - 1) {
			const unsigned slot = first_slot(left);
			rank_of[slot] = static_cast<uint8_t>(std::popcount(slots & low_bits(slot)));
			slot_of[rank_of[slot]] = static_cast<uint8_t>(slot);
		}
		one_run = n > 0 && last_slot(slots) - first_slot(slots) + 1 == n;
	}
	uint64_t slots() const { return all; }
	unsigned size() const { return n; }
	unsigned rank(unsigned slot) const { return rank_of[slot]; }
	unsigned slot(unsigned rank) const { return slot_of[rank]; }
	uint64_t full() const { return low_bits(n); }

	uint64_t to_ranks(uint64_t mask) const {
		if (one_run)
			return mask >> slot_of[0];
		uint64_t ranks = 0;
		for (; mask != 0; mask &= mask - 1)
			ranks |= slot_bit(rank_of[first_slot(mask)]);
		return ranks;
	}
	uint64_t to_slots(uint64_t ranks) const {
		if (one_run)
			return ranks << slot_of[0];
		uint64_t mask = 0;
		for (; ranks != 0; ranks &= ranks - 1)
			mask |= slot_bit(slot_of[first_slot(ranks)]);
		return mask;
	}

private:
	uint64_t all;
	unsigned n;
	bool one_run;
	std::array<uint8_t, CSEG_SLOTS> rank_of{};
	std::array<uint8_t, CSEG_SLOTS> slot_of{};
};

void write_slots(Writer &w, const SlotSet &set) {
	if (set.size() == 0) {
		w.u8(kUnionEmpty);
		return;
	}
	const unsigned first = set.slot(0);
	const unsigned last = set.slot(set.size() - 1);
	if (last - first + 1 == set.size()) {
		w.u8(static_cast<uint8_t>(first));
		w.u8(static_cast<uint8_t>(last));
	} else {
		w.u8(kUnionAny);
		w.u64(set.slots());
	}
}

SlotSet read_slots(Reader &r) {
	const uint8_t first = r.u8();
	if (first == kUnionEmpty)
		return SlotSet(0);
	if (first == kUnionAny)
		return SlotSet(r.u64());
	const uint8_t last = r.u8();
	if (first > last || last >= CSEG_SLOTS)
		throw Corrupt("range of slots is out of range");
	return SlotSet(low_bits(last + 1u) & ~low_bits(first));
}

// ---- models --------------------------------------------------------------------------------------------------

// A non-empty set of ranks below n, as runs.
class MaskModel {
public:
	template <class Coder> uint64_t code(Coder &c, uint64_t mask, unsigned n) {
		if (n == 0)
			throw Corrupt("rows in slots that have none");
		if (n == 1)
			return 1;
		const uint64_t full = low_bits(n);
		if (c.bit(is_full, mask == full))
			return full;
		uint64_t coded = 0;
		unsigned at = 0; // no run starts before this rank
		for (unsigned runs = 0; at < n; runs++) {
			const uint64_t left = mask & ~low_bits(at);
			if (runs > 0 && !c.bit(more[std::min(runs, kRunContexts) - 1], left != 0))
				break;
			const unsigned start = code_start(c, runs, at, left);
			const unsigned end = code_end(c, start, n, left);
			coded |= low_bits(end + 1) & ~low_bits(start);
			at = end + 2;
		}
		if (coded == full)
			throw Corrupt("mask is not in its shortest form");
		return coded;
	}

private:
	static constexpr unsigned kRunContexts = 3;

	template <class Coder> unsigned code_start(Coder &c, unsigned runs, unsigned at, uint64_t left) {
		const unsigned first = Coder::decoding ? 0 : first_slot(left);
		if (runs == 0 && c.bit(from_first, first == 0))
			return 0;
		const unsigned start = starts[runs > 0].code(c, first);
		if (start < at || start == 0)
			throw Corrupt("runs of slots are out of order");
		return start;
	}
	template <class Coder> unsigned code_end(Coder &c, unsigned start, unsigned n, uint64_t left) {
		const unsigned last = Coder::decoding ? 0 : start + static_cast<unsigned>(std::countr_one(left >> start)) - 1;
		if (start >= n)
			throw Corrupt("run of slots is out of range");
		if (start == n - 1 || c.bit(to_last[start > 0], last == n - 1))
			return n - 1;
		const unsigned end = ends.code(c, last);
		if (end < start || end >= n - 1)
			throw Corrupt("run of slots is out of range");
		return end;
	}

	Chance is_full;
	Chance from_first;
	std::array<Chance, 2> to_last;
	std::array<Chance, kRunContexts> more = {kRarely, kRarely, kRarely};
	std::array<TreeModel<kSlotBits>, 2> starts;
	TreeModel<kSlotBits> ends;
};

// Values of one measure in one role, as differences to a reference. Each block starts with fresh models: they are
// large, so there are no more contexts than the role has.
template <unsigned Contexts> class ValueModel {
public:
	template <class Coder>
	Value code(Coder &c, const Value &v, const Value &reference, unsigned context, const Pool &from, Pool &to) {
		Value coded;
		coded.tag = code_tag(c, v.tag, reference.tag);
		if (tag_kind(coded.tag) == CSEG_WIDE)
			return code_wide(c, v, from, to);
		if (tag_kind(coded.tag) != CSEG_DECIMAL)
			return coded;
		const uint64_t base = tag_kind(reference.tag) == CSEG_DECIMAL ? static_cast<uint64_t>(reference.num) : 0;
		const auto change = static_cast<int64_t>(static_cast<uint64_t>(v.num) - base);
		coded.num = static_cast<int64_t>(static_cast<uint64_t>(number[context].code(c, change)) + base);
		return coded;
	}

private:
	template <class Coder> Tag code_tag(Coder &c, Tag tag, Tag reference) {
		if (c.bit(same_tag, tag == reference))
			return reference;
		const unsigned kind_coded = kind.code(c, tag_kind(tag));
		const unsigned scale_coded = kind_coded == CSEG_DECIMAL ? scale.code(c, tag_scale(tag)) : 0;
		const Tag coded = make_tag(kind_coded, scale_coded);
		if (!tag_valid(coded) || coded == reference)
			throw Corrupt("value has an unknown kind or scale");
		return coded;
	}

	template <class Coder> Value code_wide(Coder &c, const Value &v, const Pool &from, Pool &to) {
		if constexpr (Coder::decoding) {
			const uint64_t len = length_model().code(c, 0);
			if (len > c.raw_bytes_left())
				throw Corrupt("wide value is longer than its block");
			Pool bytes(static_cast<size_t>(len));
			for (uint8_t &b : bytes)
				b = static_cast<uint8_t>(c.raw(0, 8));
			return wide_value(to, bytes.data(), bytes.size());
		} else {
			length_model().code(c, wide_len(v));
			for (size_t i = 0; i < wide_len(v); i++)
				c.raw(from[wide_offset(v) + i], 8);
			return v;
		}
	}

	NumberModel &length_model() { return wide_length ? *wide_length : wide_length.emplace(); }

	Chance same_tag = kNearlyAlways;
	TreeModel<3> kind;
	TreeModel<5> scale;
	std::array<SignedModel, Contexts> number;
	std::optional<NumberModel> wide_length; // made when first needed
};

constexpr std::array<Tag, CSEG_MEASURES> kUsualTag = {make_tag(CSEG_DECIMAL, 0), make_tag(CSEG_DECIMAL, 0),
													  make_tag(CSEG_DECIMAL, 2)};

// ---- one entry, in both directions ---------------------------------------------------------------------------

// The parts of entries, in the order of the format, with the models of one block.
template <class Coder> class BlockCoder {
public:
	BlockCoder(Coder &coder, const SlotSet &set_slots, const SlotSet &removed_slots, uint16_t flags)
		: c(coder), slots(set_slots), gone(removed_slots), has_removed((flags & kHasRemoved) != 0),
		  has_moved((flags & kHasMoved) != 0) {}

	// low of the entry, `expected` being the least that it can be.
	unsigned code_low(unsigned low, unsigned expected) {
		const uint64_t skipped = gap.code(c, low - expected);
		if (expected >= CSEG_CONTAINER_SIZE || skipped >= CSEG_CONTAINER_SIZE - expected)
			throw Corrupt("customer is outside the container");
		return expected + static_cast<unsigned>(skipped);
	}

	// Codes removals; returns whether the entry has set rows.
	bool code_removals(Marks &marks, bool has_set) {
		if (!has_removed || !c.bit(any_removed, marks.removed != 0))
			return true;
		const bool coded_set = c.bit(set_too, has_set);
		marks.removed = gone.to_slots(removed_mask.code(c, gone.to_ranks(marks.removed), gone.size()));
		marks.moved = has_moved ? code_moved(marks) : 0;
		return coded_set;
	}

	uint64_t code_mask(uint64_t mask) { return slots.to_slots(set_mask.code(c, slots.to_ranks(mask), slots.size())); }

	Value code_first(unsigned m, const Value &v, unsigned context, bool all_same, const Pool &from, Pool &to) {
		FirstState &state = first_state[m];
		if (!state.known)
			state.constant = c.bit(constant, all_same);
		if (state.known && state.constant)
			return state.last;
		const Value reference{0, state.known ? state.last.tag : kUsualTag[m]};
		state.last = first[m].code(c, v, reference, context, from, to);
		state.known = true;
		return state.last;
	}

	// Another event, after `so_far` ones, with `left` rows left that can have one?
	bool code_more(unsigned so_far, unsigned left, bool more) {
		if (left == 0)
			return false;
		return c.bit(more_events[std::min(so_far, kContexts - 1)][static_cast<unsigned>(std::bit_width(left))], more);
	}
	unsigned code_event_slot(unsigned slot, uint64_t allowed) {
		const unsigned rank = event_rank.code(c, slots.rank(slot));
		if (rank >= slots.size() || !(allowed & slot_bit(slots.slot(rank))))
			throw Corrupt("event at a slot that has none");
		return slots.slot(rank);
	}
	unsigned code_event_measures(unsigned measures) {
		const unsigned coded = event_measures.code(c, measures);
		if (coded == 0)
			throw Corrupt("event changes nothing");
		return coded;
	}
	Value code_event(unsigned m, const Value &v, const Value &before, const Pool &from, Pool &to) {
		return event[m].code(c, v, before, 0, from, to);
	}

private:
	struct FirstState {
		bool known = false;
		bool constant = false;
		Value last;
	};

	uint64_t code_moved(const Marks &marks) {
		if (!c.bit(any_moved, marks.moved != 0))
			return 0;
		if (c.bit(all_moved, marks.moved == marks.removed))
			return marks.removed;
		uint64_t moved = 0;
		for (uint64_t left = marks.removed; left != 0; left &= left - 1)
			if (c.bit(one_moved, (marks.moved & left & (~left + 1)) != 0))
				moved |= left & (~left + 1);
		if (moved == 0 || moved == marks.removed)
			throw Corrupt("moved rows are not in their shortest form");
		return moved;
	}

	Coder &c;
	const SlotSet &slots;
	const SlotSet &gone;
	const bool has_removed;
	const bool has_moved;
	NumberModel gap;
	Chance any_removed;
	Chance set_too;
	Chance any_moved;
	Chance all_moved;
	Chance one_moved;
	MaskModel removed_mask;
	MaskModel set_mask;
	Chance constant;
	std::array<FirstState, CSEG_MEASURES> first_state;
	std::array<ValueModel<kContexts>, CSEG_MEASURES> first;
	std::array<std::array<Chance, kSlotBits + 2>, kContexts> more_events;
	TreeModel<kSlotBits> event_rank;
	TreeModel<CSEG_MEASURES> event_measures;
	std::array<ValueModel<1>, CSEG_MEASURES> event;
};

// First values of a measure depend on how large the one before is.
unsigned value_context(const Values &v, unsigned m) {
	if (m == 0)
		return 0;
	return std::min(static_cast<unsigned>(std::bit_width(static_cast<uint64_t>(v[m - 1].num))), kContexts - 1);
}

// ---- encoding ------------------------------------------------------------------------------------------------

class BlockEncoder {
public:
	BlockEncoder(const Matrix &matrix, size_t first_entry, size_t last_entry, const SlotSet &slots,
				 const SlotSet &gone, uint16_t flags)
		: m(matrix), begin(first_entry), end(last_entry), code(c, slots, gone, flags) {
		for (unsigned k = 0; k < CSEG_MEASURES; k++)
			all_same[k] = is_constant(k);
	}

	void run(Writer &w, bool low_known) {
		unsigned expected = low_known ? m.low[begin] : 0;
		for (size_t i = begin; i < end; i++) {
			if (i != begin || !low_known)
				code.code_low(m.low[i], expected);
			expected = m.low[i] + 1u;
			put_entry(i);
		}
		c.finish(w);
	}

private:
	bool is_constant(unsigned k) const {
		size_t one = end;
		for (size_t i = begin; i < end; i++) {
			if (m.set[i] == 0)
				continue;
			if (one == end)
				one = i;
			const int measure = static_cast<int>(k);
			if (!same_value(m.first(i, measure), m.pool, m.first(one, measure), m.pool))
				return false;
		}
		return true;
	}

	void put_entry(size_t i) {
		Marks marks = m.mark(i);
		if (!code.code_removals(marks, m.set[i] != 0))
			return;
		code.code_mask(m.set[i]);
		Values now;
		for (unsigned k = 0; k < CSEG_MEASURES; k++) {
			now[k] = m.first(i, static_cast<int>(k));
			code.code_first(k, now[k], value_context(now, k), all_same[k], m.pool, unused);
		}
		put_events(i, now);
	}

	void put_events(size_t i, Values &now) {
		uint64_t left = m.set[i] & (m.set[i] - 1);
		size_t e = m.events_begin(i);
		for (unsigned so_far = 0;; so_far++) {
			const bool more = e < m.events_end[i];
			code.code_more(so_far, static_cast<unsigned>(std::popcount(left)), more);
			if (!more)
				return;
			const unsigned slot = event_slot(m.event_key[e]);
			unsigned measures = 0;
			size_t until = e;
			for (; until < m.events_end[i] && event_slot(m.event_key[until]) == slot; until++)
				measures |= 1u << event_measure(m.event_key[until]);
			code.code_event_slot(slot, left);
			code.code_event_measures(measures);
			for (; e < until; e++) {
				const unsigned k = event_measure(m.event_key[e]);
				code.code_event(k, m.event(e), now[k], m.pool, unused);
				now[k] = m.event(e);
			}
			left &= ~low_bits(slot + 1);
		}
	}

	const Matrix &m;
	const size_t begin;
	const size_t end;
	RangeEncoder c;
	BlockCoder<RangeEncoder> code;
	std::array<bool, CSEG_MEASURES> all_same;
	Pool unused;
};

// Only what has rows, set or removed, is written; a matrix may have entries that are only marked otherwise.
bool worth_writing(const Matrix &m, size_t i) {
	return m.set[i] != 0 || m.mark(i).removed != 0;
}

void encode_matrix(const Matrix &m, std::vector<uint8_t> &out) {
	uint64_t set = 0;
	uint64_t removed = 0;
	uint64_t moved = 0;
	for (size_t i = 0; i < m.size(); i++) {
		set |= m.set[i];
		removed |= m.mark(i).removed;
		moved |= m.mark(i).moved;
	}
	const auto flags = static_cast<uint16_t>((removed != 0 ? kHasRemoved : 0) | (moved != 0 ? kHasMoved : 0));
	const SlotSet slots(set);
	const SlotSet gone(removed);
	Writer w;
	start_blob(w, BlobKind::cell, kVersion, flags);
	w.varint(m.size());
	if (m.size() != 0) {
		write_slots(w, slots);
		if (removed != 0)
			write_slots(w, gone);
	}
	if (m.size() != 0 && m.size() <= kBlockEntries)
		BlockEncoder(m, 0, m.size(), slots, gone, flags).run(w, false);
	if (m.size() > kBlockEntries) {
		Writer blocks;
		unsigned expected = 0;
		for (size_t at = 0; at < m.size(); at += kBlockEntries) {
			const size_t end = std::min(at + kBlockEntries, m.size());
			const size_t before = blocks.out.size();
			BlockEncoder(m, at, end, slots, gone, flags).run(blocks, true);
			w.varint(m.low[at] - expected);
			w.varint(static_cast<unsigned>(m.low[end - 1] - m.low[at]));
			w.varint(blocks.out.size() - before);
			w.u32(cseg_checksum(blocks.out.data() + before, blocks.out.size() - before, m.low[at]));
			expected = m.low[end - 1] + 1u;
		}
		w.u32(blob_checksum(w.out.data(), w.out.size()));
		w.bytes(blocks.out.data(), blocks.out.size());
	}
	finish_blob(w.out);
	out = std::move(w.out);
}

// ---- decoding ------------------------------------------------------------------------------------------------

class BlockDecoder {
public:
	BlockDecoder(Matrix &matrix, Reader bytes, const SlotSet &slots, const SlotSet &gone, uint16_t flags)
		: m(matrix), c(bytes), code(c, slots, gone, flags) {}

	// first_low: of the first entry, or -1 where the stream says it.
	void run(size_t entries, int first_low) {
		unsigned expected = 0;
		for (size_t i = 0; i < entries; i++) {
			const bool known = i == 0 && first_low >= 0;
			const unsigned low = known ? static_cast<unsigned>(first_low) : code.code_low(expected, expected);
			expected = low + 1;
			get_entry(static_cast<uint16_t>(low));
		}
		c.finish();
	}

private:
	void get_entry(uint16_t low) {
		Marks marks;
		const bool has_set = code.code_removals(marks, false);
		m.low.push_back(low);
		m.set.push_back(has_set ? code.code_mask(0) : 0);
		Values now;
		if (has_set)
			for (unsigned k = 0; k < CSEG_MEASURES; k++)
				now[k] = code.code_first(k, Value(), value_context(now, k), false, m.pool, m.pool);
		for (unsigned k = 0; k < CSEG_MEASURES; k++) {
			m.first_num[k].push_back(now[k].num);
			m.first_tag[k].push_back(now[k].tag);
		}
		if (has_set)
			get_events(m.set.back(), now);
		m.events_end.push_back(static_cast<uint32_t>(m.event_key.size()));
		m.marks.set_last(m.size(), marks);
	}

	void get_events(uint64_t set, Values &now) {
		uint64_t left = set & (set - 1);
		for (unsigned so_far = 0; code.code_more(so_far, static_cast<unsigned>(std::popcount(left)), false);
			 so_far++) {
			const unsigned slot = code.code_event_slot(0, left);
			const unsigned measures = code.code_event_measures(0);
			for (unsigned k = 0; k < CSEG_MEASURES; k++)
				if (measures >> k & 1)
					get_event(slot, k, now[k]);
			left &= ~low_bits(slot + 1);
		}
	}

	void get_event(unsigned slot, unsigned k, Value &now) {
		const Value v = code.code_event(k, Value(), now, m.pool, m.pool);
		if (same_value(v, m.pool, now, m.pool))
			throw Corrupt("event changes nothing");
		m.event_key.push_back(event_key(slot, k));
		m.event_tag.push_back(v.tag);
		m.event_num.push_back(v.num);
		now = v;
	}

	Matrix &m;
	RangeDecoder c;
	BlockCoder<RangeDecoder> code;
};

struct Block {
	unsigned first_low;
	unsigned last_low;
	size_t entries;
	Reader bytes;
	uint32_t checksum;
};

struct Header {
	size_t entries;
	uint16_t flags;
	SlotSet slots;
	SlotSet gone;
};

Header read_header(Reader &r, uint16_t flags) {
	Header h;
	h.flags = flags;
	if ((flags & ~(kHasRemoved | kHasMoved)) != 0 || flags == kHasMoved)
		throw Corrupt("cell has unknown flags");
	h.entries = static_cast<size_t>(r.varint_max(CSEG_CONTAINER_SIZE, "number of customers"));
	if (h.entries == 0)
		return h;
	h.slots = read_slots(r);
	if (flags & kHasRemoved)
		h.gone = read_slots(r);
	return h;
}

// Lengths are checked against what is left once the directory is read.
std::vector<Block> read_directory(Reader &r, size_t entries, const uint8_t *blob, size_t len) {
	std::vector<Block> blocks;
	std::vector<uint64_t> lengths;
	uint64_t expected = 0;
	for (size_t at = 0; at < entries; at += kBlockEntries) {
		const size_t n = std::min(kBlockEntries, entries - at);
		const uint64_t first = expected + r.varint_max(CSEG_CONTAINER_SIZE, "first customer of a block");
		const uint64_t last = first + r.varint_max(CSEG_CONTAINER_SIZE, "last customer of a block");
		if (last >= CSEG_CONTAINER_SIZE || last - first + 1 < n)
			throw Corrupt("customers of a block are out of range");
		lengths.push_back(r.varint());
		const uint32_t checksum = r.u32();
		blocks.push_back(
			{static_cast<unsigned>(first), static_cast<unsigned>(last), n, Reader(nullptr, 0), checksum});
		expected = last + 1;
	}
	const size_t covered = len - r.left();
	if (r.u32() != blob_checksum(blob, covered))
		throw Corrupt("checksum of a cell's directory does not match");
	for (size_t i = 0; i < blocks.size(); i++) {
		if (lengths[i] > r.left())
			throw Corrupt("block is longer than its cell");
		const auto n = static_cast<size_t>(lengths[i]);
		blocks[i].bytes = Reader(r.take(n), n);
	}
	return blocks;
}

void decode_block(Matrix &m, const Header &h, const Block &block) {
	Reader bytes = block.bytes;
	const size_t n = bytes.left();
	const uint8_t *at = bytes.take(n);
	if (block.checksum != cseg_checksum(at, n, block.first_low))
		throw Corrupt("checksum of a block does not match");
	BlockDecoder(m, Reader(at, n), h.slots, h.gone, h.flags).run(block.entries, static_cast<int>(block.first_low));
	if (m.low.back() != block.last_low)
		throw Corrupt("block ends with another customer than its directory says");
}

// The unions must be those of the entries, or the same rows would have two encodings.
void check_unions(const Matrix &m, const Header &h) {
	uint64_t set = 0;
	uint64_t removed = 0;
	uint64_t moved = 0;
	for (size_t i = 0; i < m.size(); i++) {
		set |= m.set[i];
		removed |= m.mark(i).removed;
		moved |= m.mark(i).moved;
	}
	if (set != h.slots.slots() || removed != h.gone.slots() || ((h.flags & kHasRemoved) != 0) != (removed != 0) ||
		((h.flags & kHasMoved) != 0) != (moved != 0))
		throw Corrupt("slots of a cell are not those of its rows");
}

void decode_matrix(Matrix &m, const uint8_t *bytes, size_t len, bool all, unsigned low_first, unsigned low_last) {
	uint16_t flags;
	Reader r = open_blob(bytes, len, BlobKind::cell, kVersion, &flags, false);
	Header h = read_header(r, flags);
	// A cell of one block has no checksum but the envelope's.
	if ((all || h.entries <= kBlockEntries))
		open_blob(bytes, len, BlobKind::cell, kVersion, &flags);
	m.reserve(all ? h.entries : std::min(h.entries, kBlockEntries), 0);
	if (h.entries > kBlockEntries) {
		for (const Block &block : read_directory(r, h.entries, bytes, len))
			if (all || (block.first_low <= low_last && block.last_low >= low_first))
				decode_block(m, h, block);
	} else if (h.entries != 0) {
		const size_t n = r.left();
		BlockDecoder(m, Reader(r.take(n), n), h.slots, h.gone, h.flags).run(h.entries, -1);
	}
	m.marks.pad(m.size());
	if (r.left() != 0)
		throw Corrupt("cell has bytes left over");
	if (all || h.entries <= kBlockEntries)
		check_unions(m, h);
}

} // namespace

void encode_cell(const Matrix &m, std::vector<uint8_t> &out) {
	Matrix kept;
	bool keep_all = true;
	for (size_t i = 0; keep_all && i < m.size(); i++)
		keep_all = worth_writing(m, i);
	if (keep_all) {
		encode_matrix(m, out);
		return;
	}
	Builder b(kept);
	for (size_t i = 0; i < m.size(); i++)
		if (worth_writing(m, i))
			b.entries_of(m, i, i + 1, true);
	encode_matrix(kept, out);
}

// ---- changes in temporary files --------------------------------------------------------------------------------

namespace {

// How one mark of all entries is written.
enum class MarkForm : uint8_t { none, as_set, masks };
constexpr std::array kPackedMarks = {MarkColumns::kInserted, MarkColumns::kUpdated, MarkColumns::kClash};

void pack_marks(Writer &w, const Matrix &m, MarkColumns::Kind kind) {
	const std::vector<uint64_t> &masks = m.marks.column(kind);
	const bool none = std::all_of(masks.begin(), masks.end(), [](uint64_t mask) { return mask == 0; });
	const MarkForm form = none ? MarkForm::none : masks == m.set ? MarkForm::as_set : MarkForm::masks;
	w.u8(static_cast<uint8_t>(form));
	if (form == MarkForm::masks)
		for (const uint64_t mask : masks)
			w.u64(mask);
}

void unpack_marks(Reader &r, Matrix &m, MarkColumns::Kind kind) {
	const auto form = static_cast<MarkForm>(r.u8());
	if (form > MarkForm::masks)
		throw Corrupt("marks of a change are of an unknown form");
	if (form == MarkForm::none)
		return;
	std::vector<uint64_t> masks = m.set;
	if (form == MarkForm::masks)
		for (uint64_t &mask : masks)
			mask = r.u64();
	m.marks.set_column(kind, std::move(masks));
}

} // namespace

void pack_change(const Matrix &m, std::vector<uint8_t> &out) {
	std::vector<uint8_t> rows;
	Writer w;
	encode_matrix(m, rows);
	w.u32(static_cast<uint32_t>(rows.size()));
	w.bytes(rows.data(), rows.size());
	for (const auto kind : kPackedMarks)
		pack_marks(w, m, kind);
	out = std::move(w.out);
}

void unpack_change(Matrix &m, const uint8_t *bytes, size_t len) {
	Reader r(bytes, len);
	const uint32_t rows = r.u32();
	decode_cell(m, r.take(rows), rows);
	for (const auto kind : kPackedMarks)
		unpack_marks(r, m, kind);
	if (r.left() != 0)
		throw Corrupt("change has bytes left over");
}

void decode_cell(Matrix &m, const uint8_t *bytes, size_t len) {
	decode_matrix(m, bytes, len, true, 0, 0);
}

void decode_cell_range(Matrix &m, const uint8_t *bytes, size_t len, uint16_t first, uint16_t last) {
	decode_matrix(m, bytes, len, false, first, last);
}

} // namespace cseg
