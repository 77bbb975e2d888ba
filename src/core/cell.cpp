// cell.cpp
//    Changes of a cell: staging, settling, applying one to another, collisions, lookups and totals.
#include <algorithm>
#include <functional>
#include <memory>
#include <utility>

#include "cell.hpp"
#include "guard.hpp"
#include "totals.hpp"

namespace cseg {

namespace {

constexpr size_t kStopEvery = 4096; // entries between two looks at the stop flag
constexpr size_t kPoolMax = UINT32_MAX;

} // namespace

// ---- values --------------------------------------------------------------------------------------------------

Value wide_value(Pool &pool, const uint8_t *bytes, size_t len) {
	const size_t offset = pool.size();
	if (len > kPoolMax - offset)
		throw Limit("too many bytes of wide numbers in one cell");
	pool.insert(pool.end(), bytes, bytes + len);
	return {static_cast<int64_t>(static_cast<uint64_t>(offset) << 32 | len), make_tag(CSEG_WIDE, 0)};
}

bool same_value(const Value &a, const Pool &a_pool, const Value &b, const Pool &b_pool) {
	if (a.tag != b.tag)
		return false;
	if (!is_wide(a))
		return a.num == b.num;
	return wide_len(a) == wide_len(b) &&
		   (wide_len(a) == 0 ||
			std::memcmp(a_pool.data() + wide_offset(a), b_pool.data() + wide_offset(b), wide_len(a)) == 0);
}

Value import_other_value(const CsegValue &v, Pool &pool) {
	switch (v.kind) {
	case CSEG_DECIMAL:
		throw std::logic_error("scale of a value is out of range");
	case CSEG_NULL:
	case CSEG_NAN:
	case CSEG_PINF:
	case CSEG_NINF:
		return {0, make_tag(v.kind, 0)};
	case CSEG_WIDE:
		return wide_value(pool, v.wide, v.wide_len);
	default:
		throw std::logic_error("unknown kind of value");
	}
}

CsegValue export_value(const Value &v, const Pool &pool) {
	CsegValue out{};
	out.kind = static_cast<uint8_t>(tag_kind(v.tag));
	out.scale = static_cast<uint8_t>(tag_scale(v.tag));
	if (is_wide(v)) {
		out.wide = pool.data() + wide_offset(v);
		out.wide_len = static_cast<uint32_t>(wide_len(v));
	} else {
		out.mantissa = v.num;
	}
	return out;
}

// ---- matrix --------------------------------------------------------------------------------------------------

size_t Matrix::find(uint16_t wanted) const {
	const auto it = std::lower_bound(low.begin(), low.end(), wanted);
	return it != low.end() && *it == wanted ? static_cast<size_t>(it - low.begin()) : size();
}

void Matrix::reserve(size_t entries, size_t events) {
	low.reserve(entries);
	set.reserve(entries);
	for (auto &nums : first_num)
		nums.reserve(entries);
	for (auto &tags : first_tag)
		tags.reserve(entries);
	events_end.reserve(entries);
	event_key.reserve(events);
	event_tag.reserve(events);
	event_num.reserve(events);
}

size_t Matrix::bytes() const {
	size_t n = low.capacity() * sizeof low[0] + set.capacity() * sizeof set[0] + pool.capacity();
	for (const auto &nums : first_num)
		n += nums.capacity() * sizeof nums[0];
	for (const auto &tags : first_tag)
		n += tags.capacity() * sizeof tags[0];
	n += events_end.capacity() * sizeof events_end[0] + marks.bytes();
	return n + event_key.capacity() + event_tag.capacity() + event_num.capacity() * sizeof event_num[0];
}

// ---- builder -------------------------------------------------------------------------------------------------

Value Builder::transfer(const Value &v, const Pool &pool) {
	return is_wide(v) ? wide_value(out.pool, pool.data() + wide_offset(v), wide_len(v)) : v;
}

void Builder::begin(uint16_t entry_low) {
	low = entry_low;
	set = 0;
}

void Builder::row(unsigned slot, const Values &v, const Pool &pool) {
	for (unsigned m = 0; m < CSEG_MEASURES; m++) {
		if (set != 0 && same_value(last[m], out.pool, v[m], pool))
			continue;
		last[m] = transfer(v[m], pool);
		if (set == 0) {
			out.first_num[m].push_back(last[m].num);
			out.first_tag[m].push_back(last[m].tag);
		} else {
			out.event_key.push_back(event_key(slot, m));
			out.event_tag.push_back(last[m].tag);
			out.event_num.push_back(last[m].num);
		}
	}
	set |= slot_bit(slot);
}

void Builder::rows_of(const Matrix &from, size_t i) {
	if (from.set[i] == 0)
		return;
	for (unsigned m = 0; m < CSEG_MEASURES; m++) {
		last[m] = transfer(from.first(i, static_cast<int>(m)), from.pool);
		out.first_num[m].push_back(last[m].num);
		out.first_tag[m].push_back(last[m].tag);
	}
	set = from.set[i];
	if (from.pool.empty()) {
		events_of(from, i);
		return;
	}
	for (size_t e = from.events_begin(i); e < from.events_end[i]; e++) {
		const Value v = transfer(from.event(e), from.pool);
		last[event_measure(from.event_key[e])] = v;
		out.event_key.push_back(from.event_key[e]);
		out.event_tag.push_back(v.tag);
		out.event_num.push_back(v.num);
	}
}

// Of values without bytes in a pool.
void Builder::events_of(const Matrix &from, size_t i) {
	const auto first = static_cast<ptrdiff_t>(from.events_begin(i));
	const auto end = static_cast<ptrdiff_t>(from.events_end[i]);
	if (first == end)
		return;
	const auto copy = [first, end](auto &to, const auto &source) {
		to.insert(to.end(), source.begin() + first, source.begin() + end);
	};
	copy(out.event_key, from.event_key);
	copy(out.event_tag, from.event_tag);
	copy(out.event_num, from.event_num);
	for (auto e = static_cast<size_t>(first); e < static_cast<size_t>(end); e++)
		last[event_measure(from.event_key[e])] = from.event(e);
}

void Builder::end(const Marks &marks) {
	if (set == 0 && !marks.any())
		return;
	if (set == 0)
		for (unsigned m = 0; m < CSEG_MEASURES; m++) {
			out.first_num[m].push_back(0);
			out.first_tag[m].push_back(0);
		}
	out.low.push_back(low);
	out.set.push_back(set);
	out.events_end.push_back(static_cast<uint32_t>(out.event_key.size()));
	out.marks.set_last(out.size(), marks);
}

void Builder::entries_of(const Matrix &from, size_t first, size_t last_entry, bool with_marks) {
	if (first == last_entry)
		return;
	// Without their marks, entries without rows vanish.
	const auto begin_set = from.set.begin() + static_cast<ptrdiff_t>(first);
	const auto end_set = from.set.begin() + static_cast<ptrdiff_t>(last_entry);
	const bool some_vanish = !with_marks && std::find(begin_set, end_set, uint64_t{0}) != end_set;
	if (some_vanish || !from.pool.empty()) {
		for (size_t i = first; i < last_entry; i++) {
			begin(from.low[i]);
			rows_of(from, i);
			end(with_marks ? from.mark(i) : Marks());
		}
		return;
	}
	const auto copy = [first, last_entry](auto &to, const auto &source) {
		const auto at = source.begin();
		to.insert(to.end(), at + static_cast<ptrdiff_t>(first), at + static_cast<ptrdiff_t>(last_entry));
	};
	const auto copy_events = [&](auto &to, const auto &source) {
		const auto at = source.begin();
		to.insert(to.end(), at + static_cast<ptrdiff_t>(from.events_begin(first)),
				  at + static_cast<ptrdiff_t>(from.events_begin(last_entry)));
	};
	// Wraps around where events move to the front; the sum is right all the same.
	const auto shift = static_cast<uint32_t>(out.event_key.size()) - from.events_begin(first);
	copy(out.low, from.low);
	copy(out.set, from.set);
	for (unsigned m = 0; m < CSEG_MEASURES; m++) {
		copy(out.first_num[m], from.first_num[m]);
		copy(out.first_tag[m], from.first_tag[m]);
	}
	copy_events(out.event_key, from.event_key);
	copy_events(out.event_tag, from.event_tag);
	copy_events(out.event_num, from.event_num);
	for (size_t i = first; i < last_entry; i++)
		out.events_end.push_back(from.events_end[i] + shift);
	if (with_marks)
		out.marks.append(out.size(), from.marks, first, last_entry);
	else
		out.marks.pad(out.size());
}

// ---- merging -------------------------------------------------------------------------------------------------

namespace {

// Writes the rows of an entry: `keep` of entry i of base (base may be NULL if keep is 0) overlaid with `over`, whose
// values over_at(slot) gives, in ascending order of slot.
template <class OverAt>
void put_rows(Builder &b, const Matrix *base, size_t i, uint64_t keep, uint64_t over, const Pool &over_pool,
			  OverAt &&over_at) {
	keep &= ~over;
	// A new day on old ones: the old rows stay as they are.
	const bool append = base != nullptr && keep == base->set[i] && (keep | over) != 0 &&
						(over == 0 || keep == 0 || first_slot(over) > last_slot(keep));
	uint64_t todo = over | keep;
	if (append) {
		b.rows_of(*base, i);
		todo = over;
	}
	if (append || keep == 0) {
		for (; todo != 0; todo &= todo - 1)
			b.row(first_slot(todo), over_at(first_slot(todo)), over_pool);
		return;
	}
	Walk walk(*base, i);
	for (; todo != 0; todo &= todo - 1) {
		const unsigned slot = first_slot(todo);
		if (over & slot_bit(slot))
			b.row(slot, over_at(slot), over_pool);
		else
			b.row(slot, walk.to(slot), base->pool);
	}
}

// The staged changes of one customer on top of what the cell has of it.
class EntryChange {
public:
	EntryChange(const Matrix &matrix, const Pool &staged_pool) : base(matrix), pool(staged_pool) {}

	void start(size_t entry) {
		i = entry;
		const bool known = i < base.size();
		set = known ? base.set[i] : 0;
		marks = known ? base.mark(i) : Marks();
		over = 0;
	}

	void change(const Staged &s) {
		const uint64_t bit = slot_bit(s.slot);
		if (s.op == Op::insert)
			insert(bit);
		else if (s.op == Op::update)
			update(bit);
		else
			remove(bit, s.op == Op::move);
		if (s.op == Op::insert || s.op == Op::update)
			put(s);
	}

	void finish(Builder &b) {
		const Matrix *old = i < base.size() ? &base : nullptr;
		const uint64_t keep = set & ~over;
		put_rows(b, old, i, keep, set & over, pool, [this](unsigned slot) -> const Values & { return value[slot]; });
		b.end(marks);
	}

private:
	void put(const Staged &s) {
		over |= slot_bit(s.slot);
		for (size_t m = 0; m < CSEG_MEASURES; m++)
			value[s.slot][m] = {s.num[m], s.tag[m]};
	}
	void insert(uint64_t bit) {
		if (set & marks.inserted & bit)
			marks.clash |= bit;
		set |= bit;
		marks.inserted |= bit;
	}
	void update(uint64_t bit) {
		if (!(set & marks.inserted & bit))
			marks.updated |= bit;
		set |= bit;
	}
	// A removal means the row that the state has, whether it comes before or after an insert of its successor: an
	// UPDATE that shifts keys puts a row's new version where another row is still to be taken away.
	void remove(uint64_t bit, bool moved) {
		if (!(marks.inserted & bit))
			set &= ~bit;
		marks.removed |= bit;
		if (moved)
			marks.moved |= bit;
	}

	const Matrix &base;
	const Pool &pool;
	size_t i = 0;
	uint64_t set = 0;
	uint64_t over = 0;
	Marks marks;
	std::array<Values, CSEG_SLOTS> value;
};

size_t event_count(const Matrix &m) {
	return m.event_key.size();
}

// Goes over the entries of two matrices in order of low: runs that only one of them has, and pairs.
template <class OnlyFirst, class OnlySecond, class Both>
void merge_entries(const Matrix &first, const Matrix &second, OnlyFirst &&only_first, OnlySecond &&only_second,
				   Both &&both) {
	const auto run_end = [](const Matrix &m, size_t at, uint16_t bound) {
		const auto it = std::lower_bound(m.low.begin() + static_cast<ptrdiff_t>(at), m.low.end(), bound);
		return static_cast<size_t>(it - m.low.begin());
	};
	size_t i = 0;
	size_t j = 0;
	while (i < first.size() && j < second.size()) {
		if (first.low[i] < second.low[j]) {
			const size_t next = run_end(first, i, second.low[j]);
			only_first(i, next);
			i = next;
		} else if (second.low[j] < first.low[i]) {
			const size_t next = run_end(second, j, first.low[i]);
			only_second(j, next);
			j = next;
		} else {
			both(i++, j++);
		}
	}
	only_first(i, first.size());
	only_second(j, second.size());
}

// The entries of the first as they are, what put_second() makes of those that only the second has, and put_both() of
// pairs.
template <class PutSecond, class PutBoth>
Matrix merged(const Matrix &first, const Matrix &second, PutSecond &&put_second, PutBoth &&put_both) {
	Matrix out;
	out.reserve(std::min<size_t>(first.size() + second.size(), CSEG_CONTAINER_SIZE),
				event_count(first) + event_count(second));
	Builder b(out);
	merge_entries(
		first, second, [&](size_t i, size_t end) { b.entries_of(first, i, end, true); },
		[&](size_t j, size_t end) { put_second(b, j, end); }, [&](size_t i, size_t j) { put_both(b, i, j); });
	return out;
}

// Entries that only the delta has.
void put_new_entries(Builder &b, const Matrix &delta, size_t first, size_t last, bool touch) {
	if (!touch) {
		b.entries_of(delta, first, last, false);
		return;
	}
	for (size_t j = first; j < last; j++) {
		Marks marks;
		marks.touched = delta.set[j] | delta.mark(j).removed;
		b.begin(delta.low[j]);
		b.rows_of(delta, j);
		b.end(marks);
	}
}

void put_merged_entry(Builder &b, const Matrix &state, size_t i, const Matrix &delta, size_t j, bool touch) {
	const uint64_t removed = delta.mark(j).removed;
	Marks marks = state.mark(i);
	if (touch)
		marks.touched |= delta.set[j] | removed;
	Walk walk(delta, j);
	b.begin(state.low[i]);
	put_rows(b, &state, i, state.set[i] & ~removed, delta.set[j], delta.pool,
			 [&walk](unsigned slot) -> const Values & { return walk.to(slot); });
	b.end(marks);
}

// What EntryChange makes of the changes behind two entries, the earlier ones first.
Marks combined_marks(const Marks &a, const Marks &b) {
	Marks m;
	m.removed = a.removed | b.removed;
	m.moved = a.moved | b.moved;
	m.inserted = a.inserted | b.inserted;
	m.updated = a.updated | (b.updated & ~a.inserted);
	m.clash = a.clash | b.clash | (a.inserted & b.inserted);
	return m;
}

void put_combined_entry(Builder &b, const Matrix &earlier, size_t i, const Matrix &later, size_t j) {
	const Marks before = earlier.mark(i);
	const Marks after = later.mark(j);
	Walk walk(later, j);
	b.begin(earlier.low[i]);
	put_rows(b, &earlier, i, earlier.set[i] & (~after.removed | before.inserted), later.set[j], later.pool,
			 [&walk](unsigned slot) -> const Values & { return walk.to(slot); });
	b.end(combined_marks(before, after));
}

} // namespace

// ---- cell ----------------------------------------------------------------------------------------------------

void Cell::stage(uint16_t low, uint8_t slot, Op op, const Values &v) {
	if (low >= CSEG_CONTAINER_SIZE || slot >= CSEG_SLOTS)
		throw std::logic_error("row address is out of range");
	Staged s;
	s.low = low;
	s.slot = slot;
	s.op = op;
	for (size_t m = 0; m < CSEG_MEASURES; m++) {
		s.num[m] = v[m].num;
		s.tag[m] = v[m].tag;
	}
	stage(s);
}

// Just the room that is needed at first: most cells are staged to once.
void Cell::expect(size_t changes) {
	const size_t needed = staged.size() + changes;
	if (needed > staged.capacity())
		staged.reserve(std::max(needed, staged.capacity() + staged.capacity() / 2));
}

// The memory is used again: a cell that is written is mostly staged to more than once.
void Cell::unstage() {
	staged.clear();
	staged_pool.clear();
	staged_sorted = true;
}

// Stable, since the order of changes to one row matters: by digits, the lowest first.
void Cell::sort_staged() {
	constexpr unsigned kDigitBits = 11;
	constexpr size_t kFew = 256;
	static_assert(CSEG_CONTAINER_SIZE * CSEG_SLOTS <= 1 << 2 * kDigitBits);
	if (staged.size() < kFew) {
		std::stable_sort(staged.begin(), staged.end(),
						 [](const Staged &a, const Staged &b) { return a.row() < b.row(); });
		staged_sorted = true;
		return;
	}
	std::vector<Staged> other(staged.size());
	for (const unsigned shift : {0u, kDigitBits}) {
		std::array<uint32_t, 1 << kDigitBits> at{};
		const auto digit = [shift](const Staged &s) { return s.row() >> shift & ((1u << kDigitBits) - 1); };
		for (const Staged &s : staged)
			at[digit(s)]++;
		uint32_t sum = 0;
		for (uint32_t &n : at)
			sum += std::exchange(n, sum);
		for (const Staged &s : staged)
			other[at[digit(s)]++] = s;
		staged.swap(other);
	}
	staged_sorted = true;
}

void Cell::settle(const CsegStop *stop) {
	if (staged.empty())
		return;
	if (!staged_sorted)
		sort_staged();
	Matrix merged;
	size_t customers = 1;
	for (size_t at = 1; at < staged.size(); at++)
		customers += staged[at].low != staged[at - 1].low;
	merged.reserve(std::min<size_t>(matrix.size() + customers, CSEG_CONTAINER_SIZE), event_count(matrix));
	Builder b(merged);
	EntryChange entry(matrix, staged_pool);
	size_t done = 0;
	size_t entries = 0;
	for (size_t at = 0; at < staged.size();) {
		if (entries++ % kStopEvery == 0)
			check_stop(stop);
		const uint16_t low = staged[at].low;
		const auto it = std::lower_bound(matrix.low.begin() + static_cast<ptrdiff_t>(done), matrix.low.end(), low);
		const auto next = static_cast<size_t>(it - matrix.low.begin());
		b.entries_of(matrix, done, next, true);
		const bool known = next < matrix.size() && matrix.low[next] == low;
		entry.start(known ? next : matrix.size());
		for (; at < staged.size() && staged[at].low == low; at++)
			entry.change(staged[at]);
		b.begin(low);
		entry.finish(b);
		done = next + (known ? 1 : 0);
	}
	b.entries_of(matrix, done, matrix.size(), true);
	matrix = std::move(merged);
	encoded = {};
	unstage();
}

void Cell::apply(const Cell &delta, bool touch) {
	const Matrix &change = delta.matrix;
	matrix = merged(
		matrix, change, [&](Builder &b, size_t j, size_t end) { put_new_entries(b, change, j, end, touch); },
		[&](Builder &b, size_t i, size_t j) { put_merged_entry(b, matrix, i, change, j, touch); });
	encoded = {};
}

void Cell::combine(const Cell &later) {
	const Matrix &change = later.matrix;
	matrix = merged(
		matrix, change, [&](Builder &b, size_t j, size_t end) { b.entries_of(change, j, end, true); },
		[&](Builder &b, size_t i, size_t j) { put_combined_entry(b, matrix, i, change, j); });
	encoded = {};
}

size_t Cell::bytes() const {
	return sizeof *this + matrix.bytes() + staged.capacity() * sizeof staged[0] + staged_pool.capacity() +
		   encoded.capacity() + packed.capacity();
}

// ---- invariants ----------------------------------------------------------------------------------------------

namespace {

void check_value(const Value &v, const Pool &pool) {
	if (!tag_valid(v.tag))
		throw Corrupt("value has an unknown kind or scale");
	if (is_wide(v) && (wide_offset(v) > pool.size() || wide_len(v) > pool.size() - wide_offset(v)))
		throw Corrupt("wide value is outside its pool");
	if (!is_wide(v) && tag_kind(v.tag) != CSEG_DECIMAL && v.num != 0)
		throw Corrupt("value without content has one");
}

void check_events(const Matrix &m, size_t i) {
	Values now;
	for (unsigned k = 0; k < CSEG_MEASURES; k++) {
		now[k] = m.first(i, static_cast<int>(k));
		check_value(now[k], m.pool);
	}
	int last = -1;
	for (size_t e = m.events_begin(i); e < m.events_end[i]; e++) {
		const uint8_t key = m.event_key[e];
		const Value v = m.event(e);
		if (key <= last || event_measure(key) >= CSEG_MEASURES)
			throw Corrupt("events are out of order");
		if (!(m.set[i] & slot_bit(event_slot(key))) || event_slot(key) == first_slot(m.set[i]))
			throw Corrupt("event at a slot that has none");
		check_value(v, m.pool);
		if (same_value(now[event_measure(key)], m.pool, v, m.pool))
			throw Corrupt("event changes nothing");
		now[event_measure(key)] = v;
		last = key;
	}
}

void check_entry(const Matrix &m, size_t i) {
	if (m.low[i] >= CSEG_CONTAINER_SIZE || (i > 0 && m.low[i - 1] >= m.low[i]))
		throw Corrupt("customers are out of order");
	if (m.events_end[i] < m.events_begin(i) || m.events_end[i] > m.event_key.size())
		throw Corrupt("events are out of range");
	const Marks marks = m.mark(i);
	if (m.set[i] == 0 && !marks.any())
		throw Corrupt("entry is empty");
	if ((marks.moved & ~marks.removed) != 0)
		throw Corrupt("row is moved but not removed");
	if (m.set[i] == 0 && m.events_end[i] != m.events_begin(i))
		throw Corrupt("events without rows");
	check_events(m, i);
}

} // namespace

void check_matrix(const Matrix &m) {
	const size_t n = m.size();
	if (m.set.size() != n || m.events_end.size() != n || !m.marks.fits(n))
		throw Corrupt("columns differ in length");
	for (size_t k = 0; k < CSEG_MEASURES; k++)
		if (m.first_num[k].size() != n || m.first_tag[k].size() != n)
			throw Corrupt("columns differ in length");
	if (m.event_tag.size() != m.event_key.size() || m.event_num.size() != m.event_key.size() ||
		m.events_begin(n) != m.event_key.size())
		throw Corrupt("event columns differ in length");
	for (size_t i = 0; i < n; i++)
		check_entry(m, i);
}

// ---- collisions ----------------------------------------------------------------------------------------------

namespace {

// The first row of mask that `bad` holds for.
template <class Bad> bool first_bad(uint64_t mask, Bad &&bad, uint8_t *slot) {
	for (; mask != 0; mask &= mask - 1)
		if (bad(first_slot(mask))) {
			*slot = static_cast<uint8_t>(first_slot(mask));
			return true;
		}
	return false;
}

// Calls visit(j, rows of state of the same customer) for delta's entries in order until it returns true.
template <class Visit> void for_each_pair(const Matrix *state, const Matrix &delta, Visit &&visit) {
	size_t i = 0;
	for (size_t j = 0; j < delta.size(); j++) {
		const size_t n = state == nullptr ? 0 : state->size();
		while (i < n && state->low[i] < delta.low[j])
			i++;
		const bool both = i < n && state->low[i] == delta.low[j];
		if (visit(j, both ? state->set[i] : 0))
			return;
	}
}

bool entry_conflict(const Matrix &delta, size_t j, uint64_t state_rows, const uint64_t *alias, bool alias_self,
					uint8_t *slot) {
	const Marks marks = delta.mark(j);
	if (!alias_self)
		return first_bad(
			marks.inserted & delta.set[j], [&](unsigned s) { return (state_rows & alias[s]) != 0; }, slot);
	// An updated row is one of the state, whatever part of the state is at hand.
	const uint64_t kept = (state_rows | marks.updated) & ~marks.removed;
	const uint64_t live = marks.inserted & delta.set[j];
	const auto bad = [&](unsigned s) {
		const uint64_t bit = slot_bit(s);
		if ((marks.clash | kept) & bit)
			return true;
		return (live & bit) != 0 && ((kept | (live & ~bit)) & alias[s]) != 0;
	};
	return first_bad(marks.inserted, bad, slot);
}

// ---- totals --------------------------------------------------------------------------------------------------

using Row = std::array<CsegValue, CSEG_MEASURES>;

void export_row(Row &row, const Values &v, const Pool &pool) {
	for (size_t m = 0; m < CSEG_MEASURES; m++)
		row[m] = export_value(v[m], pool);
}

// Opens totals of a slot at its first use.
CsegTotals &slot_totals(CsegTotals *totals, uint64_t *slots, unsigned slot) {
	if (!(*slots & slot_bit(slot)))
		cseg_totals_init(&totals[slot]);
	*slots |= slot_bit(slot);
	return totals[slot];
}

void entry_totals(const Matrix &m, size_t i, CsegTotals *totals, uint64_t *slots) {
	Walk walk(m, i);
	Row row;
	unsigned fresh_until = 0;
	for (uint64_t mask = m.set[i]; mask != 0; mask &= mask - 1) {
		const unsigned slot = first_slot(mask);
		if (slot >= fresh_until) {
			export_row(row, walk.to(slot), m.pool);
			fresh_until = walk.next_change();
		}
		cseg_totals_add_row(&slot_totals(totals, slots, slot), row.data());
	}
}

// What an update leaves as it was is left out on both sides, so that it does not turn exact extremes into bounds.
void update_totals(CsegTotals &t, const Values &before, const Pool &before_pool, const Values &after,
				   const Pool &after_pool) {
	for (size_t m = 0; m < CSEG_MEASURES; m++) {
		if (same_value(before[m], before_pool, after[m], after_pool))
			continue;
		totals_remove_value(t.m[m], export_value(before[m], before_pool));
		totals_add_value(t.m[m], export_value(after[m], after_pool));
	}
}

void entry_change(const Matrix *state, size_t i, const Matrix &delta, size_t j, CsegTotals *change, uint64_t *slots) {
	const bool known = state != nullptr && i < state->size() && state->low[i] == delta.low[j];
	const uint64_t old_rows = known ? state->set[i] : 0;
	const uint64_t gone = old_rows & delta.mark(j).removed;
	Walk after(delta, j);
	Walk before(known ? *state : delta, known ? i : j);
	const Pool &before_pool = known ? state->pool : delta.pool;
	Row row;
	for (uint64_t mask = delta.set[j] | gone; mask != 0; mask &= mask - 1) {
		const unsigned slot = first_slot(mask);
		const bool was = (old_rows & slot_bit(slot)) != 0;
		const bool is = (delta.set[j] & slot_bit(slot)) != 0;
		CsegTotals &t = slot_totals(change, slots, slot);
		if (was && is) {
			update_totals(t, before.to(slot), before_pool, after.to(slot), delta.pool);
		} else if (was) {
			export_row(row, before.to(slot), before_pool);
			cseg_totals_remove_row(&t, row.data());
		} else {
			export_row(row, after.to(slot), delta.pool);
			cseg_totals_add_row(&t, row.data());
		}
	}
}

CsegCode stage_row(CsegCell *cell, uint16_t low, uint8_t slot, Op op, const CsegValue *v, CsegError *err) {
	return guard(err, [&] {
		Values values;
		for (size_t m = 0; v != nullptr && m < CSEG_MEASURES; m++)
			values[m] = import_value(v[m], cell->staged_pool);
		cell->stage(low, slot, op, values);
	});
}

void check_slot(uint8_t slot) {
	if (slot >= CSEG_SLOTS)
		throw std::logic_error("slot is out of range");
}

} // namespace
} // namespace cseg

using namespace cseg;

// ---- the contract --------------------------------------------------------------------------------------------

extern "C" {

CsegCode cseg_cell_new(CsegCell **out, CsegError *err) {
	return guard(err, [&] { *out = new CsegCell; });
}

void cseg_cell_free(void *cell) {
	delete static_cast<CsegCell *>(cell);
}

size_t cseg_cell_bytes(const CsegCell *cell) {
	return cell->bytes();
}

CsegCode cseg_cell_insert(CsegCell *cell, uint16_t low, uint8_t slot, const CsegValue v[CSEG_MEASURES],
						  CsegError *err) {
	return stage_row(cell, low, slot, Op::insert, v, err);
}

CsegCode cseg_cell_update(CsegCell *cell, uint16_t low, uint8_t slot, const CsegValue v[CSEG_MEASURES],
						  CsegError *err) {
	return stage_row(cell, low, slot, Op::update, v, err);
}

CsegCode cseg_cell_remove(CsegCell *cell, uint16_t low, uint8_t slot, bool moved, CsegError *err) {
	return stage_row(cell, low, slot, moved ? Op::move : Op::remove, nullptr, err);
}

CsegCode cseg_cell_settle(CsegCell *cell, const CsegStop *stop, CsegError *err) {
	return guard(err, [&] { cell->settle(stop); });
}

CsegCode cseg_cell_apply(CsegCell *state, const CsegCell *delta, bool touch, CsegError *err) {
	return guard(err, [&] {
		settled(delta);
		state->settle(nullptr);
		state->apply(*delta, touch);
	});
}

CsegCode cseg_cell_combine(CsegCell *change, const CsegCell *later, CsegError *err) {
	return guard(err, [&] {
		settled(later);
		change->settle(nullptr);
		change->combine(*later);
	});
}

CsegCode cseg_cell_conflict(const CsegCell *state, const CsegCell *delta, const uint64_t alias[CSEG_SLOTS],
							bool alias_self, bool *found, uint16_t *low, uint8_t *slot, CsegError *err) {
	return guard(err, [&] {
		*found = false;
		const Matrix &d = settled(delta);
		for_each_pair(state == nullptr ? nullptr : &settled(state), d, [&](size_t j, uint64_t state_rows) {
			*found = entry_conflict(d, j, state_rows, alias, alias_self, slot);
			*low = d.low[j];
			return *found;
		});
	});
}

CsegCode cseg_cell_missing(const CsegCell *state, const CsegCell *delta, bool *found, uint16_t *low, uint8_t *slot,
						   CsegError *err) {
	return guard(err, [&] {
		*found = false;
		const Matrix &d = settled(delta);
		for_each_pair(state == nullptr ? nullptr : &settled(state), d, [&](size_t j, uint64_t state_rows) {
			const Marks marks = d.mark(j);
			const uint64_t missing = (marks.updated | marks.removed) & ~state_rows;
			*found = first_bad(
				missing, [](unsigned) { return true; }, slot);
			*low = d.low[j];
			return *found;
		});
	});
}

CsegCode cseg_cell_counts(CsegCell *cell, uint32_t *customers, uint64_t *rows, uint64_t *removed, CsegError *err) {
	return guard(err, [&] {
		const Matrix &m = settled(cell);
		*customers = 0;
		*rows = *removed = 0;
		for (size_t i = 0; i < m.size(); i++) {
			*customers += m.set[i] != 0;
			*rows += static_cast<unsigned>(std::popcount(m.set[i]));
			*removed += static_cast<unsigned>(std::popcount(m.mark(i).removed));
		}
	});
}

CsegCode cseg_cell_slots(CsegCell *cell, uint64_t *slots, CsegError *err) {
	return guard(err, [&] {
		*slots = 0;
		for (const uint64_t mask : settled(cell).set)
			*slots |= mask;
	});
}

CsegCode cseg_cell_mask(CsegCell *cell, uint16_t low, uint64_t *mask, CsegError *err) {
	return guard(err, [&] {
		const Matrix &m = settled(cell);
		const size_t i = m.find(low);
		*mask = i < m.size() ? m.set[i] : 0;
	});
}

CsegCode cseg_cell_get(CsegCell *cell, uint16_t low, uint8_t slot, bool *found, CsegValue v[CSEG_MEASURES],
					   CsegError *err) {
	return guard(err, [&] {
		check_slot(slot);
		const Matrix &m = settled(cell);
		const size_t i = m.find(low);
		*found = i < m.size() && (m.set[i] & slot_bit(slot)) != 0;
		if (!*found)
			return;
		Walk walk(m, i);
		const Values &values = walk.to(slot);
		for (size_t k = 0; k < CSEG_MEASURES; k++)
			v[k] = export_value(values[k], m.pool);
	});
}

CsegCode cseg_cell_touched(CsegCell *cell, uint16_t low, uint8_t slot, bool *touched, CsegError *err) {
	return guard(err, [&] {
		check_slot(slot);
		const Matrix &m = settled(cell);
		const size_t i = m.find(low);
		*touched = i < m.size() && (m.mark(i).touched & slot_bit(slot)) != 0;
	});
}

CsegCode cseg_cell_removed(CsegCell *cell, uint16_t low, uint8_t slot, bool *removed, bool *moved, CsegError *err) {
	return guard(err, [&] {
		check_slot(slot);
		const Matrix &m = settled(cell);
		const size_t i = m.find(low);
		const Marks marks = i < m.size() ? m.mark(i) : Marks();
		*removed = (marks.removed & slot_bit(slot)) != 0;
		*moved = (marks.moved & slot_bit(slot)) != 0;
	});
}

CsegCode cseg_cell_has_moved(CsegCell *cell, bool *moved, CsegError *err) {
	return guard(err, [&] {
		const Matrix &m = settled(cell);
		*moved = m.marks.any_moved();
	});
}

CsegCode cseg_cell_members(CsegCell *cell, uint64_t slots, uint64_t bits[CSEG_MEMBER_WORDS], CsegError *err) {
	return guard(err, [&] {
		const Matrix &m = settled(cell);
		const auto add = [&](size_t i) {
			bits[m.low[i] / 64u] |= static_cast<uint64_t>((m.set[i] & slots) != 0) << (m.low[i] % 64u);
		};
		// Neighbours share a word and would wait for each other's bits, so four places are worked on in turn.
		const size_t quarter = m.size() / 4;
		for (size_t i = 0; i < quarter; i++) {
			add(i);
			add(quarter + i);
			add(quarter * 2 + i);
			add(quarter * 3 + i);
		}
		for (size_t i = quarter * 4; i < m.size(); i++)
			add(i);
	});
}

CsegCode cseg_cell_arrays(CsegCell *cell, CsegArrays *arrays, CsegError *err) {
	return guard(err, [&] {
		const Matrix &m = settled(cell);
		*arrays = {};
		arrays->n_entries = static_cast<uint32_t>(m.size());
		arrays->n_events = static_cast<uint32_t>(m.event_key.size());
		arrays->low = m.low.data();
		arrays->mask = m.set.data();
		for (size_t k = 0; k < CSEG_MEASURES; k++) {
			arrays->first_num[k] = m.first_num[k].data();
			arrays->first_tag[k] = m.first_tag[k].data();
		}
		arrays->event_end = m.events_end.data();
		arrays->event_key = m.event_key.data();
		arrays->event_tag = m.event_tag.data();
		arrays->event_num = m.event_num.data();
		arrays->pool = m.pool.data();
	});
}

CsegCode cseg_cell_totals(CsegCell *cell, CsegTotals totals[CSEG_SLOTS], uint64_t *slots, CsegError *err) {
	return guard(err, [&] {
		const Matrix &m = settled(cell);
		*slots = 0;
		for (size_t i = 0; i < m.size(); i++)
			entry_totals(m, i, totals, slots);
	});
}

CsegCode cseg_cell_change(CsegCell *state, CsegCell *delta, CsegTotals change[CSEG_SLOTS], uint64_t *slots,
						  CsegError *err) {
	return guard(err, [&] {
		const Matrix *s = state == nullptr ? nullptr : &settled(state);
		const Matrix &d = settled(delta);
		*slots = 0;
		size_t i = 0;
		for (size_t j = 0; j < d.size(); j++) {
			while (s != nullptr && i < s->size() && s->low[i] < d.low[j])
				i++;
			entry_change(s, i, d, j, change, slots);
		}
	});
}

CsegCode cseg_cell_check(CsegCell *cell, CsegError *err) {
	return guard(err, [&] { check_matrix(settled(cell)); });
}

CsegCode cseg_cell_decode(CsegCell **out, const uint8_t *bytes, size_t len, CsegError *err) {
	return guard(err, [&] {
		auto cell = std::make_unique<CsegCell>();
		decode_cell(cell->matrix, bytes, len);
		*out = cell.release();
	});
}

CsegCode cseg_cell_decode_range(CsegCell **out, const uint8_t *bytes, size_t len, uint16_t low_first,
								uint16_t low_last, CsegError *err) {
	return guard(err, [&] {
		auto cell = std::make_unique<CsegCell>();
		decode_cell_range(cell->matrix, bytes, len, low_first, low_last);
		*out = cell.release();
	});
}

size_t cseg_cell_estimate(const CsegCell *cell) {
	constexpr size_t kEntryBits = 8; // gap and mask
	constexpr size_t kEventBits = 8; // besides the value
	const Matrix &m = cell->matrix;
	size_t bits = 0;
	for (const auto &nums : m.first_num) {
		const bool constant = std::adjacent_find(nums.begin(), nums.end(), std::not_equal_to<>()) == nums.end();
		for (size_t i = 0; i < nums.size() && !constant; i++)
			bits += static_cast<size_t>(std::bit_width(static_cast<uint64_t>(nums[i])));
	}
	for (const int64_t num : m.event_num)
		bits += kEventBits + static_cast<size_t>(std::bit_width(static_cast<uint64_t>(num)));
	return (bits + m.size() * kEntryBits) / 8;
}

CsegCode cseg_change_pack(CsegCell *change, const uint8_t **bytes, size_t *len, CsegError *err) {
	return guard(err, [&] {
		const Matrix &m = settled(change);
		pack_change(m, change->packed);
		*bytes = change->packed.data();
		*len = change->packed.size();
	});
}

CsegCode cseg_change_unpack(CsegCell **out, const uint8_t *bytes, size_t len, CsegError *err) {
	return guard(err, [&] {
		auto cell = std::make_unique<CsegCell>();
		unpack_change(cell->matrix, bytes, len);
		*out = cell.release();
	});
}

CsegCode cseg_cell_encode(CsegCell *cell, const uint8_t **bytes, size_t *len, CsegError *err) {
	return guard(err, [&] {
		const Matrix &m = settled(cell);
		if (cell->encoded.empty())
			encode_cell(m, cell->encoded);
		*bytes = cell->encoded.data();
		*len = cell->encoded.size();
	});
}

} // extern "C"
