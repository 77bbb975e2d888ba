// batch.cpp
//    The write buffer of one statement on one relation: rows in any order, interned identities, settled cells.
//
// Staged rows are 32 bytes. Settling sorts them by (group, container, low, slot) with a radix sort that skips the
// digits in which no two rows differ, and merges each run of one (group, container) into its cell.
#include <algorithm>
#include <array>
#include <memory>
#include <string_view>

#define XXH_INLINE_ALL
#include <boost/unordered/unordered_flat_map.hpp>
#include <xxhash.h>

#include "cell.hpp"
#include "dictionary.hpp"
#include "guard.hpp"

namespace cseg {
namespace {

// ---- staged rows ---------------------------------------------------------------------------------------------

//   bit   63        40 39        8 7     2 1  0
//        | group index | customer | slot  | op |   key of a staged row
constexpr unsigned kGroupShift = 40;
constexpr unsigned kWhoShift = 8;
constexpr unsigned kSlotShift = 2;
constexpr unsigned kContainerShift = kWhoShift + CSEG_CONTAINER_BITS;
constexpr uint64_t kMaxGroups = UINT64_C(1) << (64 - kGroupShift);
constexpr size_t kStopEvery = 4096;
constexpr Tag kSpilled = 7; // of no kind: the small number is a place among the spilled values

struct StagedRow {
	uint64_t key;
	int64_t revenue;
	std::array<int32_t, 2> small; // customers and orders, where they fit
	std::array<Tag, CSEG_MEASURES> tag;
};
static_assert(sizeof(StagedRow) == 32);

constexpr uint64_t make_key(uint32_t group_index, uint32_t who, unsigned slot, Op op) {
	return static_cast<uint64_t>(group_index) << kGroupShift | static_cast<uint64_t>(who) << kWhoShift |
		   slot << kSlotShift | static_cast<unsigned>(op);
}
constexpr uint32_t key_group(uint64_t key) {
	return static_cast<uint32_t>(key >> kGroupShift);
}
constexpr uint32_t key_who(uint64_t key) {
	return static_cast<uint32_t>(key >> kWhoShift);
}
constexpr uint8_t key_slot(uint64_t key) {
	return static_cast<uint8_t>(key >> kSlotShift & (CSEG_SLOTS - 1));
}
constexpr Op key_op(uint64_t key) {
	return static_cast<Op>(key & 3);
}
constexpr uint16_t key_low(uint64_t key) {
	return static_cast<uint16_t>(key_who(key) & (CSEG_CONTAINER_SIZE - 1));
}
// Group and container.
constexpr uint64_t key_cell(uint64_t key) {
	return key >> kContainerShift;
}

// ---- radix sort ----------------------------------------------------------------------------------------------

struct SortItem {
	uint64_t key;
	uint32_t row;
};

constexpr unsigned kDigitBits = 8;
constexpr size_t kDigits = size_t{1} << kDigitBits;

// Stable. The op is no part of the order: changes of one row stay in the order in which they came.
void radix_sort(std::vector<SortItem> &items) {
	uint64_t differing = 0;
	for (const SortItem &item : items)
		differing |= item.key ^ items.front().key;
	std::vector<SortItem> other(items.size());
	for (unsigned shift = 0; shift < 64; shift += kDigitBits) {
		if ((differing >> shift & (kDigits - 1)) == 0)
			continue;
		std::array<uint32_t, kDigits> at{};
		for (const SortItem &item : items)
			at[item.key >> shift & (kDigits - 1)]++;
		uint32_t sum = 0;
		for (uint32_t &n : at) {
			const uint32_t count = n;
			n = sum;
			sum += count;
		}
		for (const SortItem &item : items)
			other[at[item.key >> shift & (kDigits - 1)]++] = item;
		items.swap(other);
	}
}

// ---- interned texts ------------------------------------------------------------------------------------------

struct TextHash {
	using is_avalanching = void;
	size_t operator()(std::string_view s) const { return static_cast<size_t>(XXH3_64bits(s.data(), s.size())); }
};

// Texts in blocks that never move.
class TextArena {
public:
	std::string_view add(std::string_view text) {
		if (blocks.empty() || text.size() > block_size - used) {
			block_size = std::max(kBlock, text.size());
			blocks.push_back(std::make_unique_for_overwrite<char[]>(block_size));
			total += block_size;
			used = 0;
		}
		char *to = blocks.back().get() + used;
		if (!text.empty())
			std::memcpy(to, text.data(), text.size());
		used += text.size();
		return {to, text.size()};
	}
	size_t bytes() const { return total; }

private:
	static constexpr size_t kBlock = 65536;
	std::vector<std::unique_ptr<char[]>> blocks;
	size_t block_size = 0;
	size_t used = 0;
	size_t total = 0;
};

const uint8_t *text_bytes(std::string_view s) {
	return reinterpret_cast<const uint8_t *>(s.data());
}

// What an error of another part of the core is here.
[[noreturn]] void rethrow(CsegCode code, const CsegError &err) {
	switch (code) {
	case CSEG_NO_MEMORY:
		throw std::bad_alloc();
	case CSEG_CORRUPT:
		throw Corrupt(err.msg);
	case CSEG_LIMIT:
		throw Limit(err.msg);
	case CSEG_CANCELLED:
		throw Cancelled();
	default:
		throw std::logic_error(err.msg);
	}
}

bool dict_find(CsegDict *dict, std::string_view text, uint32_t *ordinal) {
	CsegError err;
	bool found = false;
	const CsegCode code = cseg_dict_find(dict, text_bytes(text), text.size(), &found, ordinal, &err);
	if (code != CSEG_OK)
		rethrow(code, err);
	return found;
}

// Undoes what a function has done if an exception leaves it.
template <class Undo> class OnFailure {
public:
	explicit OnFailure(Undo u) : undo(std::move(u)) {}
	~OnFailure() {
		if (armed)
			undo();
	}
	OnFailure(const OnFailure &) = delete;
	OnFailure &operator=(const OnFailure &) = delete;
	void dismiss() { armed = false; }

private:
	Undo undo;
	bool armed = true;
};

// ---- batch ---------------------------------------------------------------------------------------------------

struct SettledCell {
	uint32_t group;
	uint32_t container;
	std::unique_ptr<CsegCell> cell;
};

bool cell_before(const SettledCell &a, const SettledCell &b) {
	return a.group != b.group ? a.group < b.group : a.container < b.container;
}

class Batch {
public:
	uint32_t intern(std::string_view text);
	void stage(uint32_t group, uint8_t slot, uint32_t who, Op op, const CsegValue *v);
	bool touched(uint32_t group, uint8_t slot, uint32_t ordinal) const;
	void growth(CsegDict *dict, const uint8_t **bytes, size_t *len, uint32_t *count);
	void resolve(CsegDict *dict);
	void settle(const CsegStop *stop);
	size_t bytes() const;

	std::vector<StagedRow> rows;
	std::vector<std::string_view> texts; // pending identities by id
	std::vector<SettledCell> cells;      // ordered by (group, container)

private:
	uint32_t group_index(uint32_t group);
	void check_who(uint32_t who) const;
	int32_t small_value(const CsegValue &v, Tag *tag);
	int32_t spill(const CsegValue &v);
	Values values_of(const StagedRow &row, Cell &to) const;
	CsegCell &cell_for(uint64_t cell_key);
	void sort_rows();
	size_t settle_cell(size_t begin, const CsegStop *stop);
	void forget_texts();

	struct FreeBytes {
		void operator()(uint8_t *p) const { cseg_bytes_free(p); }
	};

	boost::unordered_flat_map<std::string_view, uint32_t, TextHash> ids;
	TextArena arena;
	boost::unordered_flat_map<uint32_t, uint32_t> group_ids;
	std::vector<uint32_t> groups;
	uint32_t last_group = 0;
	uint32_t last_group_index = UINT32_MAX;
	std::vector<Value> spilled;
	Pool pool;
	boost::unordered_flat_map<uint64_t, uint64_t> touched_slots; // group index << 32 | ordinal -> slots
	size_t cell_bytes = 0;
	std::unique_ptr<uint8_t, FreeBytes> record;
};

uint32_t Batch::intern(std::string_view text) {
	const auto known = ids.find(text);
	if (known != ids.end())
		return known->second | CSEG_PENDING;
	if (texts.size() > CSEG_MAX_ORDINAL)
		throw Limit("too many new identities at once");
	const auto id = static_cast<uint32_t>(texts.size());
	const std::string_view kept = arena.add(text);
	texts.push_back(kept);
	OnFailure undo([this] { texts.pop_back(); });
	ids.emplace(kept, id);
	undo.dismiss();
	return id | CSEG_PENDING;
}

uint32_t Batch::group_index(uint32_t group) {
	if (last_group_index != UINT32_MAX && group == last_group)
		return last_group_index;
	auto at = group_ids.find(group);
	if (at == group_ids.end()) {
		if (groups.size() >= kMaxGroups)
			throw Limit("too many groups in one batch");
		groups.push_back(group);
		at = group_ids.emplace(group, static_cast<uint32_t>(groups.size() - 1)).first;
	}
	last_group = group;
	last_group_index = at->second;
	return at->second;
}

void Batch::check_who(uint32_t who) const {
	const bool known = (who & CSEG_PENDING) ? (who & ~CSEG_PENDING) < texts.size() : who <= CSEG_MAX_ORDINAL;
	if (!known)
		throw std::logic_error("unknown customer");
}

int32_t Batch::spill(const CsegValue &v) {
	if (spilled.size() >= INT32_MAX)
		throw Limit("too many wide numbers in one batch");
	spilled.push_back(import_value(v, pool));
	return static_cast<int32_t>(spilled.size() - 1);
}

int32_t Batch::small_value(const CsegValue &v, Tag *tag) {
	const bool fits = v.kind != CSEG_WIDE && v.mantissa >= INT32_MIN && v.mantissa <= INT32_MAX;
	if (!fits) {
		*tag = kSpilled;
		return spill(v);
	}
	const Value value = import_value(v, pool);
	*tag = value.tag;
	return static_cast<int32_t>(value.num);
}

void Batch::stage(uint32_t group, uint8_t slot, uint32_t who, Op op, const CsegValue *v) {
	if (slot >= CSEG_SLOTS)
		throw std::logic_error("slot is out of range");
	check_who(who);
	StagedRow row{};
	const uint32_t index = group_index(group);
	row.key = make_key(index, who, slot, op);
	if (v != nullptr) {
		for (size_t m = 0; m < row.small.size(); m++)
			row.small[m] = small_value(v[m], &row.tag[m]);
		const Value revenue = import_value(v[CSEG_M_REVENUE], pool);
		row.revenue = revenue.num;
		row.tag[CSEG_M_REVENUE] = revenue.tag;
	}
	if (op != Op::insert)
		touched_slots[static_cast<uint64_t>(index) << 32 | who] |= slot_bit(slot);
	rows.push_back(row);
}

bool Batch::touched(uint32_t group, uint8_t slot, uint32_t ordinal) const {
	if (touched_slots.empty())
		return false;
	const auto index = group_ids.find(group);
	if (index == group_ids.end())
		return false;
	const auto at = touched_slots.find(static_cast<uint64_t>(index->second) << 32 | ordinal);
	return at != touched_slots.end() && (at->second >> (slot & (CSEG_SLOTS - 1)) & 1) != 0;
}

void Batch::growth(CsegDict *dict, const uint8_t **bytes, size_t *len, uint32_t *count) {
	record.reset();
	*bytes = nullptr;
	*len = 0;
	*count = 0;
	std::vector<std::string_view> unknown;
	uint32_t ordinal;
	for (const std::string_view text : texts)
		if (!dict_find(dict, text, &ordinal))
			unknown.push_back(text);
	if (unknown.empty())
		return;
	std::sort(unknown.begin(), unknown.end(), identity_less);
	std::vector<const uint8_t *> starts;
	std::vector<size_t> lens;
	for (const std::string_view text : unknown) {
		starts.push_back(text_bytes(text));
		lens.push_back(text.size());
	}
	uint8_t *made = nullptr;
	size_t made_len = 0;
	CsegError err;
	const CsegCode code =
		cseg_dict_encode(starts.data(), lens.data(), static_cast<uint32_t>(unknown.size()), &made, &made_len, &err);
	if (code != CSEG_OK)
		rethrow(code, err);
	record.reset(made);
	*bytes = made;
	*len = made_len;
	*count = static_cast<uint32_t>(unknown.size());
}

void Batch::resolve(CsegDict *dict) {
	std::vector<uint32_t> ordinals(texts.size());
	for (size_t i = 0; i < texts.size(); i++)
		if (!dict_find(dict, texts[i], &ordinals[i]) || ordinals[i] > CSEG_MAX_ORDINAL)
			throw std::logic_error("dictionary lacks an identity that is to be resolved");
	for (StagedRow &row : rows) {
		const uint32_t who = key_who(row.key);
		if (who & CSEG_PENDING)
			row.key = make_key(key_group(row.key), ordinals[who & ~CSEG_PENDING], key_slot(row.key), key_op(row.key));
	}
	forget_texts();
}

void Batch::forget_texts() {
	texts = {};
	ids = {};
	arena = {};
}

void Batch::sort_rows() {
	std::vector<SortItem> items(rows.size());
	for (size_t i = 0; i < rows.size(); i++)
		items[i] = {rows[i].key >> kSlotShift << kSlotShift, static_cast<uint32_t>(i)};
	radix_sort(items);
	std::vector<StagedRow> sorted(rows.size());
	for (size_t i = 0; i < items.size(); i++)
		sorted[i] = rows[items[i].row];
	rows.swap(sorted);
}

Values Batch::values_of(const StagedRow &row, Cell &to) const {
	Values v;
	for (size_t m = 0; m < row.small.size(); m++)
		v[m] = row.tag[m] == kSpilled ? spilled[static_cast<size_t>(row.small[m])] : Value{row.small[m], row.tag[m]};
	v[CSEG_M_REVENUE] = {row.revenue, row.tag[CSEG_M_REVENUE]};
	for (Value &value : v)
		if (is_wide(value))
			value = wide_value(to.staged_pool, pool.data() + wide_offset(value), wide_len(value));
	return v;
}

CsegCell &Batch::cell_for(uint64_t cell_key) {
	const uint32_t group = groups[static_cast<size_t>(cell_key >> (kGroupShift - kContainerShift))];
	const auto container = static_cast<uint32_t>(cell_key & ((UINT64_C(1) << (kGroupShift - kContainerShift)) - 1));
	SettledCell wanted{group, container, nullptr};
	auto at = std::lower_bound(cells.begin(), cells.end(), wanted, cell_before);
	if (at == cells.end() || cell_before(wanted, *at)) {
		wanted.cell = std::make_unique<CsegCell>();
		at = cells.insert(at, std::move(wanted));
	}
	return *at->cell;
}

// Moves the run of rows of one cell that starts at `begin` into the cell, or none of them; returns its end.
size_t Batch::settle_cell(size_t begin, const CsegStop *stop) {
	const uint64_t cell_key = key_cell(rows[begin].key);
	size_t end = begin;
	while (end < rows.size() && key_cell(rows[end].key) == cell_key)
		end++;
	CsegCell &cell = cell_for(cell_key);
	cell.settle(stop); // what the caller may have staged there
	const size_t bytes_before = cell.bytes();
	OnFailure undo([&cell] { cell.unstage(); });
	cell.staged.reserve(end - begin);
	for (size_t at = begin; at < end; at++) {
		const StagedRow &row = rows[at];
		cell.stage(key_low(row.key), key_slot(row.key), key_op(row.key), values_of(row, cell));
		if (at % kStopEvery == 0)
			check_stop(stop);
	}
	cell.settle(stop);
	undo.dismiss();
	cell_bytes = cell_bytes + cell.bytes() - std::min(cell_bytes, bytes_before);
	return end;
}

// Interrupted, it keeps the rows that are in no cell yet: calling it again goes on.
void Batch::settle(const CsegStop *stop) {
	if (!texts.empty())
		throw std::logic_error("identities are pending");
	if (rows.size() >= UINT32_MAX)
		throw Limit("too many rows staged");
	if (rows.empty())
		return;
	check_stop(stop);
	sort_rows();
	size_t done = 0;
	OnFailure keep_rest([&] { rows.erase(rows.begin(), rows.begin() + static_cast<ptrdiff_t>(done)); });
	while (done < rows.size())
		done = settle_cell(done, stop);
	keep_rest.dismiss();
	rows = {};
	spilled = {};
	pool = {};
}

size_t Batch::bytes() const {
	constexpr size_t kSlotBytes = sizeof(uint64_t) * 2;
	return sizeof *this + rows.capacity() * sizeof rows[0] + texts.capacity() * sizeof texts[0] + arena.bytes() +
		   ids.bucket_count() * (sizeof(std::string_view) + kSlotBytes / 2) + groups.capacity() * kSlotBytes +
		   spilled.capacity() * sizeof(Value) + pool.capacity() + touched_slots.bucket_count() * kSlotBytes +
		   cell_bytes;
}

} // namespace
} // namespace cseg

struct CsegBatch final {
	cseg::Batch batch;
};

using namespace cseg;

extern "C" {

CsegCode cseg_batch_new(CsegBatch **out, CsegError *err) {
	return guard(err, [&] { *out = new CsegBatch; });
}

void cseg_batch_free(void *batch) {
	delete static_cast<CsegBatch *>(batch);
}

size_t cseg_batch_bytes(const CsegBatch *batch) {
	return batch->batch.bytes();
}

uint64_t cseg_batch_staged(const CsegBatch *batch) {
	return batch->batch.rows.size();
}

bool cseg_batch_empty(const CsegBatch *batch) {
	return batch->batch.rows.empty() && batch->batch.cells.empty();
}

void cseg_batch_clear(CsegBatch *batch) {
	batch->batch = Batch();
}

CsegCode cseg_batch_intern(CsegBatch *batch, const uint8_t *text, size_t len, uint32_t *who, CsegError *err) {
	return guard(err, [&] { *who = batch->batch.intern({reinterpret_cast<const char *>(text), len}); });
}

CsegCode cseg_batch_insert(CsegBatch *batch, uint32_t group, uint8_t slot, uint32_t who,
						   const CsegValue v[CSEG_MEASURES], CsegError *err) {
	return guard(err, [&] { batch->batch.stage(group, slot, who, Op::insert, v); });
}

CsegCode cseg_batch_update(CsegBatch *batch, uint32_t group, uint8_t slot, uint32_t ordinal,
						   const CsegValue v[CSEG_MEASURES], CsegError *err) {
	return guard(err, [&] { batch->batch.stage(group, slot, ordinal, Op::update, v); });
}

CsegCode cseg_batch_remove(CsegBatch *batch, uint32_t group, uint8_t slot, uint32_t ordinal, bool moved,
						   CsegError *err) {
	return guard(err, [&] { batch->batch.stage(group, slot, ordinal, moved ? Op::move : Op::remove, nullptr); });
}

bool cseg_batch_touched(const CsegBatch *batch, uint32_t group, uint8_t slot, uint32_t ordinal) {
	return batch->batch.touched(group, slot, ordinal);
}

uint32_t cseg_batch_pending(const CsegBatch *batch) {
	return static_cast<uint32_t>(batch->batch.texts.size());
}

CsegCode cseg_batch_growth(CsegBatch *batch, CsegDict *dict, const uint8_t **bytes, size_t *len, uint32_t *count,
						   CsegError *err) {
	return guard(err, [&] { batch->batch.growth(dict, bytes, len, count); });
}

CsegCode cseg_batch_resolve(CsegBatch *batch, CsegDict *dict, CsegError *err) {
	return guard(err, [&] { batch->batch.resolve(dict); });
}

CsegCode cseg_batch_settle(CsegBatch *batch, const CsegStop *stop, CsegError *err) {
	return guard(err, [&] { batch->batch.settle(stop); });
}

uint32_t cseg_batch_cells(const CsegBatch *batch) {
	return static_cast<uint32_t>(batch->batch.cells.size());
}

CsegCell *cseg_batch_cell(CsegBatch *batch, uint32_t i, uint32_t *group, uint32_t *container) {
	SettledCell &settled = batch->batch.cells[i];
	*group = settled.group;
	*container = settled.container;
	return settled.cell.get();
}

} // extern "C"
