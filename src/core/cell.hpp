// cell.hpp
//    The decoded form of a cell: the matrix of one container of customers in one group of slots.
//
// A Matrix is a structure of arrays with one entry per customer, sorted by low. An entry has the mask of its set
// rows, the measures of its first set row, and events: what changed at which later set row. Values persist over gaps
// in the mask, and there is an event only where a value differs from the one before it, so equal contents have
// equal forms.
//
//    bit   7      2 1   0
//         | slot   | m   |  event key: ascending within an entry
//         | scale | kind |  tag of a value: scale in bits 3..7, CsegValueKind in bits 0..2
#pragma once

#include <algorithm>
#include <array>
#include <bit>

#include "bytes.hpp"

namespace cseg {

// ---- values --------------------------------------------------------------------------------------------------

using Tag = uint8_t;

constexpr Tag make_tag(unsigned kind, unsigned scale) {
	return static_cast<Tag>(kind | scale << 3);
}
constexpr unsigned tag_kind(Tag tag) {
	return tag & 7u;
}
constexpr unsigned tag_scale(Tag tag) {
	return tag >> 3;
}
constexpr bool tag_valid(Tag tag) {
	return tag_kind(tag) == CSEG_DECIMAL ? tag_scale(tag) <= CSEG_MAX_SCALE
										 : tag_kind(tag) <= CSEG_WIDE && tag_scale(tag) == 0;
}

// Bytes of wide values. A wide value's num names its place here: offset << 32 | length.
using Pool = std::vector<uint8_t>;

struct Value {
	int64_t num = 0; // mantissa, place in a pool, or 0
	Tag tag = 0;
};

using Values = std::array<Value, CSEG_MEASURES>;

inline size_t wide_offset(const Value &v) {
	return static_cast<size_t>(static_cast<uint64_t>(v.num) >> 32);
}
inline size_t wide_len(const Value &v) {
	return static_cast<size_t>(static_cast<uint64_t>(v.num) & 0xFFFFFFFF);
}
inline bool is_wide(const Value &v) {
	return tag_kind(v.tag) == CSEG_WIDE;
}

// Adds bytes to a pool and returns the value that names them. Throws Limit where the pool would pass 4 GB.
Value wide_value(Pool &pool, const uint8_t *bytes, size_t len);
bool same_value(const Value &a, const Pool &a_pool, const Value &b, const Pool &b_pool);
// From and to the form of the contract. import throws logic_error for what is no value.
Value import_other_value(const CsegValue &v, Pool &pool);
inline Value import_value(const CsegValue &v, Pool &pool) {
	if (v.kind == CSEG_DECIMAL && v.scale <= CSEG_MAX_SCALE)
		return {v.mantissa, make_tag(CSEG_DECIMAL, v.scale)};
	return import_other_value(v, pool);
}
CsegValue export_value(const Value &v, const Pool &pool);

// ---- matrix --------------------------------------------------------------------------------------------------

constexpr uint64_t slot_bit(unsigned slot) {
	return UINT64_C(1) << slot;
}
inline unsigned first_slot(uint64_t mask) {
	return static_cast<unsigned>(std::countr_zero(mask));
}
inline unsigned last_slot(uint64_t mask) {
	return 63u - static_cast<unsigned>(std::countl_zero(mask));
}

// What is known of an entry's rows besides their values.
struct Marks {
	uint64_t removed = 0;  // the change takes the row away (and may set another in its place)
	uint64_t moved = 0;    // of removed: by an UPDATE that gave the row another address
	uint64_t inserted = 0; // set by an insert
	uint64_t updated = 0;  // set by an update of a row that must exist
	uint64_t clash = 0;    // inserted twice
	uint64_t touched = 0;  // set or removed by a change that was applied to this state

	bool any() const { return (removed | moved | inserted | updated | clash | touched) != 0; }
};

// The marks of all entries, by kind: most kinds have none, and take no memory.
class MarkColumns {
public:
	enum Kind : size_t { kRemoved, kMoved, kInserted, kUpdated, kClash, kTouched, kKinds };

	bool empty() const {
		return std::all_of(columns.begin(), columns.end(), [](const auto &c) { return c.empty(); });
	}
	Marks at(size_t i) const {
		return {get(kRemoved, i), get(kMoved, i), get(kInserted, i),
				get(kUpdated, i), get(kClash, i), get(kTouched, i)};
	}
	// Of the last of n entries.
	void set_last(size_t n, const Marks &marks) {
		const std::array<uint64_t, kKinds> values = {marks.removed, marks.moved, marks.inserted,
													 marks.updated, marks.clash, marks.touched};
		for (size_t k = 0; k < kKinds; k++) {
			if (columns[k].empty() && values[k] == 0)
				continue;
			columns[k].resize(n - 1);
			columns[k].push_back(values[k]);
		}
	}
	// Entries first..last-1 of another matrix become the last ones of n.
	void append(size_t n, const MarkColumns &from, size_t first, size_t last) {
		for (size_t k = 0; k < kKinds; k++) {
			const std::vector<uint64_t> &source = from.columns[k];
			if (source.empty())
				continue;
			columns[k].resize(n - (last - first));
			columns[k].insert(columns[k].end(), source.begin() + static_cast<ptrdiff_t>(first),
							  source.begin() + static_cast<ptrdiff_t>(last));
		}
		pad(n);
	}
	// Entries without marks up to n.
	void pad(size_t n) {
		for (auto &c : columns)
			if (!c.empty())
				c.resize(n);
	}
	bool fits(size_t n) const {
		return std::all_of(columns.begin(), columns.end(), [n](const auto &c) { return c.empty() || c.size() == n; });
	}
	bool any_moved() const {
		const auto &c = columns[kMoved];
		return std::any_of(c.begin(), c.end(), [](uint64_t m) { return m != 0; });
	}
	size_t bytes() const {
		size_t n = 0;
		for (const auto &c : columns)
			n += c.capacity() * sizeof c[0];
		return n;
	}

	const std::vector<uint64_t> &column(Kind k) const { return columns[k]; }
	// As many as there are entries.
	void set_column(Kind k, std::vector<uint64_t> masks) { columns[k] = std::move(masks); }

private:
	uint64_t get(Kind k, size_t i) const { return columns[k].empty() ? 0 : columns[k][i]; }

	std::array<std::vector<uint64_t>, kKinds> columns; // each empty, or one per entry
};

struct Matrix {
	std::vector<uint16_t> low;
	std::vector<uint64_t> set;
	std::array<std::vector<int64_t>, CSEG_MEASURES> first_num; // measures of the first set row; 0 where none is set
	std::array<std::vector<Tag>, CSEG_MEASURES> first_tag;
	std::vector<uint32_t> events_end; // events of entry i: events_begin(i) .. events_end[i]
	std::vector<uint8_t> event_key;
	std::vector<Tag> event_tag;
	std::vector<int64_t> event_num;
	MarkColumns marks;
	Pool pool;

	size_t size() const { return low.size(); }
	uint32_t events_begin(size_t i) const { return i == 0 ? 0 : events_end[i - 1]; }
	Marks mark(size_t i) const { return marks.at(i); }
	Value first(size_t i, int m) const {
		return {first_num[static_cast<size_t>(m)][i], first_tag[static_cast<size_t>(m)][i]};
	}
	Value event(size_t e) const { return {event_num[e], event_tag[e]}; }
	size_t find(uint16_t wanted) const; // entry of that low, or size()
	void reserve(size_t entries, size_t events);
	size_t bytes() const;
};

constexpr uint8_t event_key(unsigned slot, unsigned measure) {
	return static_cast<uint8_t>(slot << 2 | measure);
}
constexpr unsigned event_slot(uint8_t key) {
	return key >> 2;
}
constexpr unsigned event_measure(uint8_t key) {
	return key & 3u;
}

// The measures of an entry along its slots; slots must be asked for in ascending order.
class Walk {
public:
	Walk(const Matrix &matrix, size_t i) : m(&matrix), at(matrix.events_begin(i)), end(matrix.events_end[i]) {
		for (int k = 0; k < CSEG_MEASURES; k++)
			now[static_cast<size_t>(k)] = matrix.first(i, k);
	}
	const Values &to(unsigned slot) {
		while (at < end && event_slot(m->event_key[at]) <= slot) {
			now[event_measure(m->event_key[at])] = m->event(at);
			at++;
		}
		return now;
	}
	// The first slot after `slot` (as last asked for) at which a value changes, or CSEG_SLOTS.
	unsigned next_change() const { return at < end ? event_slot(m->event_key[at]) : CSEG_SLOTS; }

private:
	const Matrix *m;
	uint32_t at;
	uint32_t end;
	Values now;
};

// Appends entries, in order of low, and rows within an entry, in order of slot, to a matrix in its one form.
class Builder {
public:
	explicit Builder(Matrix &to) : out(to) {}
	void begin(uint16_t low);
	void row(unsigned slot, const Values &v, const Pool &pool);
	// All set rows of entry i of another matrix; the entry must have none yet.
	void rows_of(const Matrix &from, size_t i);
	// Closes the entry; it vanishes again if it has neither rows nor marks.
	void end(const Marks &marks);
	// Entries first..last-1 of another matrix with their rows, and with their marks if asked to.
	void entries_of(const Matrix &from, size_t first, size_t last, bool with_marks);

private:
	Value transfer(const Value &v, const Pool &pool);
	void events_of(const Matrix &from, size_t i);

	Matrix &out;
	uint16_t low = 0;
	uint64_t set = 0;
	Values last;
};

// Throws Corrupt where the matrix breaks its form.
void check_matrix(const Matrix &m);

// ---- cell ----------------------------------------------------------------------------------------------------

enum class Op : uint8_t { insert, update, remove, move };

// A staged change of one row.
struct Staged {
	std::array<int64_t, CSEG_MEASURES> num;
	uint16_t low;
	uint8_t slot;
	Op op;
	std::array<Tag, CSEG_MEASURES> tag;

	uint32_t row() const { return static_cast<uint32_t>(low) * CSEG_SLOTS + slot; }
};

class Cell {
public:
	// Stages a change; v of removals is ignored. Wide values must be in staged_pool.
	void stage(uint16_t low, uint8_t slot, Op op, const Values &v);
	void stage(const Staged &change) {
		const bool sorted = staged.empty() || (staged_sorted && staged.back().row() <= change.row());
		staged.push_back(change);
		staged_sorted = sorted;
	}
	void expect(size_t changes); // so many more will be staged
	void unstage();              // forgets staged changes
	void settle(const CsegStop *stop);
	void apply(const Cell &delta, bool touch);
	// Makes one change of two: this one, and a later one of the same statement.
	void combine(const Cell &later);
	size_t bytes() const;

	Matrix matrix;
	std::vector<Staged> staged;
	Pool staged_pool;
	std::vector<uint8_t> encoded; // of the matrix as it is, or empty
	std::vector<uint8_t> packed;  // by cseg_change_pack

private:
	void sort_staged();

	bool staged_sorted = true;
};

// cell_codec.cpp
void encode_cell(const Matrix &m, std::vector<uint8_t> &out);
void decode_cell(Matrix &m, const uint8_t *bytes, size_t len);
void decode_cell_range(Matrix &m, const uint8_t *bytes, size_t len, uint16_t first, uint16_t last);
// The same with every mark of a change but `touched`, which has none: for temporary files, read by who wrote them.
void pack_change(const Matrix &m, std::vector<uint8_t> &out);
void unpack_change(Matrix &m, const uint8_t *bytes, size_t len);

} // namespace cseg

// The handle of the contract.
struct CsegCell final : cseg::Cell {};

namespace cseg {

// The settled matrix of a cell. Settling changes the form and not the contents, so it is done behind const.
inline const Matrix &settled(const CsegCell *cell) {
	if (!cell->staged.empty())
		const_cast<CsegCell *>(cell)->settle(nullptr);
	return cell->matrix;
}

} // namespace cseg
