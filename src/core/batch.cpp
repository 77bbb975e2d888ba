// batch.cpp
//    The write buffer of one statement on one relation: rows in any order, interned identities, settled cells.
//
// A row whose customer's ordinal is known is staged in its cell at once; settling merges what is staged there. A row
// that names its customer waits until many can be looked up together, one whose customer is new until that one has
// got an ordinal.
#include <algorithm>
#include <array>
#include <memory>
#include <string_view>
#include <utility>

#define XXH_INLINE_ALL
#include <boost/unordered/unordered_flat_map.hpp>
#include <xxhash.h>

#include "cell.hpp"
#include "dictionary.hpp"
#include "guard.hpp"
#include "touched.hpp"

namespace cseg {
namespace {

// ---- rows without an ordinal ------------------------------------------------------------------------------------

constexpr size_t kMaxUnplaced = UINT32_MAX;
constexpr size_t kKeptRows = 1 << 16; // memory for so many is used again
constexpr size_t kSome = 256;         // where there are so many rows without an ordinal there will be
constexpr size_t kMany = 20000;       // about as many as are looked up together

// A change that can't go to its cell yet, or must not overtake one that can't. Wide values are in the batch's pool.
struct Unplaced {
	uint32_t group;
	uint32_t who; // an ordinal, or CSEG_PENDING | id
	Staged change;
};

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
	// Forgets the texts; the last block is used again if it is of the usual size.
	void clear() {
		if (blocks.empty())
			return;
		blocks.erase(blocks.begin(), block_size > kBlock ? blocks.end() : blocks.end() - 1);
		total = blocks.empty() ? 0 : block_size;
		used = 0;
	}

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

struct Waiting {
	std::string_view name;
	uint32_t row; // its place among those without an ordinal
};

class Batch {
public:
	uint32_t intern_unsought(std::string_view text);
	void stage(uint32_t group, uint8_t slot, uint32_t who, Op op, const CsegValue *v);
	void stage_named(uint32_t group, uint8_t slot, std::string_view name, const CsegValue *v);
	void forget_cells();
	void lookup(CsegDict *dict);
	void growth(CsegDict *dict, const uint8_t **bytes, size_t *len, uint32_t *count);
	void resolve(CsegDict *dict);
	void settle(const CsegStop *stop);
	size_t bytes() const;
	size_t staged() const { return unplaced.size() + placed; }
	size_t staged_long() const { return names.bytes() + arena.bytes() + wide_bytes; }
	bool empty() const { return unplaced.empty() && cells.empty(); }

	std::vector<std::string_view> texts; // pending identities by id
	std::vector<Waiting> waiting;        // rows that wait to be looked up
	std::vector<SettledCell> cells;      // ordered by (group, container)
	TouchedRows touched_rows;

private:
	uint32_t intern(std::string_view text);
	void check_who(uint32_t who) const;
	Unplaced &append(uint32_t group, uint8_t slot, uint32_t who, Op op, const CsegValue *v);
	CsegCell &cell_for(uint32_t group, uint32_t container);
	void place(const Unplaced &row);
	void make_room();
	void place_known();
	void forget_texts();

	struct FreeBytes {
		void operator()(uint8_t *p) const { cseg_bytes_free(p); }
	};

	boost::unordered_flat_map<std::string_view, uint32_t, TextHash> ids;
	TextArena arena;
	std::vector<Unplaced> unplaced; // as they came
	size_t pending = 0;             // so many of them, at the front, are known to wait for new customers
	TextArena names;
	Pool pool;
	const CsegDict *looked_in = nullptr; // has none of the pending identities in its first looked_at records
	uint64_t looked_at = 0;
	uint32_t near_group = 0;
	std::vector<CsegCell *> near; // cells of near_group by container, as far as they were asked for
	size_t placed = 0;
	size_t wide_bytes = 0; // of wide values that are staged
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

// Of a text that may be anywhere in a dictionary.
uint32_t Batch::intern_unsought(std::string_view text) {
	looked_in = nullptr;
	return intern(text);
}

void Batch::check_who(uint32_t who) const {
	const bool known = (who & CSEG_PENDING) ? (who & ~CSEG_PENDING) < texts.size() : who <= CSEG_MAX_ORDINAL;
	if (!known)
		throw std::logic_error("unknown customer");
}

Unplaced &Batch::append(uint32_t group, uint8_t slot, uint32_t who, Op op, const CsegValue *v) {
	if (slot >= CSEG_SLOTS)
		throw std::logic_error("slot is out of range");
	Unplaced row{};
	row.group = group;
	row.who = who;
	row.change.slot = slot;
	row.change.op = op;
	for (size_t m = 0; v != nullptr && m < CSEG_MEASURES; m++) {
		const Value value = import_value(v[m], pool);
		row.change.num[m] = value.num;
		row.change.tag[m] = value.tag;
		if (is_wide(value))
			wide_bytes += wide_len(value);
	}
	if (unplaced.size() == kSome)
		unplaced.reserve(kMany);
	return unplaced.emplace_back(row);
}

void Batch::stage(uint32_t group, uint8_t slot, uint32_t who, Op op, const CsegValue *v) {
	check_who(who);
	const bool overtakes = !unplaced.empty();
	append(group, slot, who, op, v);
	OnFailure undo([this] { unplaced.pop_back(); });
	if (op != Op::insert)
		touched_rows.add(group, slot, who);
	if (!overtakes && !(who & CSEG_PENDING)) {
		place(unplaced.back());
		unplaced.pop_back();
	}
	undo.dismiss();
}

void Batch::stage_named(uint32_t group, uint8_t slot, std::string_view name, const CsegValue *v) {
	if (unplaced.size() >= kMaxUnplaced)
		throw Limit("too many rows staged");
	append(group, slot, CSEG_PENDING, Op::insert, v);
	OnFailure undo([this] { unplaced.pop_back(); });
	waiting.push_back({names.add(name), static_cast<uint32_t>(unplaced.size() - 1)});
	undo.dismiss();
}

void Batch::forget_cells() {
	near.clear();
	cells.clear();
	cells.shrink_to_fit();
}

void Batch::lookup(CsegDict *dict) {
	std::vector<std::string_view> wanted;
	wanted.reserve(waiting.size());
	for (const Waiting &w : waiting)
		wanted.push_back(w.name);
	std::vector<uint32_t> ordinals(wanted.size(), kNoOrdinal);
	find_identities(dict, wanted, 0, ordinals.data());
	// What was pending before was looked for elsewhere, or earlier.
	if (texts.empty()) {
		looked_in = dict;
		looked_at = dictionary_additions(dict);
	} else if (looked_in != dict) {
		looked_in = nullptr;
	}
	for (size_t i = 0; i < waiting.size(); i++)
		unplaced[waiting[i].row].who = ordinals[i] == kNoOrdinal ? intern(waiting[i].name) : ordinals[i];
	waiting.clear();
	names.clear();
	place_known();
}

// The record for what the dictionary lacks.
void Batch::growth(CsegDict *dict, const uint8_t **bytes, size_t *len, uint32_t *count) {
	record.reset();
	*bytes = nullptr;
	*len = 0;
	*count = 0;
	std::vector<uint32_t> ordinals(texts.size(), kNoOrdinal);
	find_identities(dict, texts, looked_in == dict ? looked_at : 0, ordinals.data());
	looked_in = dict;
	looked_at = dictionary_additions(dict);
	std::vector<std::string_view> unknown;
	for (size_t i = 0; i < texts.size(); i++)
		if (ordinals[i] == kNoOrdinal)
			unknown.push_back(texts[i]);
	if (unknown.size() < texts.size())
		looked_in = nullptr; // the others are in these records
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
	std::vector<uint32_t> ordinals(texts.size(), kNoOrdinal);
	find_identities(dict, texts, looked_in == dict ? looked_at : 0, ordinals.data());
	for (const uint32_t ordinal : ordinals)
		if (ordinal > CSEG_MAX_ORDINAL)
			throw std::logic_error("dictionary lacks an identity that is to be resolved");
	if (!waiting.empty())
		throw std::logic_error("identities have not been looked up");
	for (Unplaced &row : unplaced)
		if (row.who & CSEG_PENDING)
			row.who = ordinals[row.who & ~CSEG_PENDING];
	forget_texts();
	pending = 0;
	place_known();
}

void Batch::forget_texts() {
	texts = {};
	ids = {};
	arena = {};
	looked_in = nullptr;
}

// Rows mostly come instance by instance: of a long run, each cell learns how many are for it.
void Batch::make_room() {
	constexpr size_t kLong = 256;
	std::vector<size_t> coming; // by container
	for (size_t at = pending; at < unplaced.size();) {
		const uint32_t group = unplaced[at].group;
		size_t end = at;
		while (end < unplaced.size() && unplaced[end].group == group)
			end++;
		const size_t first = std::exchange(at, end);
		if (end - first < kLong)
			continue;
		coming.clear();
		for (size_t i = first; i < end; i++) {
			const uint32_t container = unplaced[i].who >> CSEG_CONTAINER_BITS;
			if (unplaced[i].who & CSEG_PENDING)
				continue;
			if (container >= coming.size())
				coming.resize(container + 1);
			coming[container]++;
		}
		for (size_t container = 0; container < coming.size(); container++)
			if (coming[container] > 0)
				cell_for(group, static_cast<uint32_t>(container)).expect(coming[container]);
	}
}

// Moves to their cells what has an ordinal; only rows of pending identities stay, in their order.
void Batch::place_known() {
	make_room();
	size_t at = pending;
	OnFailure keep_rest([&] {
		unplaced.erase(unplaced.begin() + static_cast<ptrdiff_t>(pending),
					   unplaced.begin() + static_cast<ptrdiff_t>(at));
	});
	for (; at < unplaced.size(); at++) {
		if (unplaced[at].who & CSEG_PENDING)
			unplaced[pending++] = unplaced[at];
		else
			place(unplaced[at]);
	}
	keep_rest.dismiss();
	unplaced.resize(pending);
	if (pending > 0)
		return;
	pool = {};
	if (unplaced.capacity() > kKeptRows)
		unplaced = {};
}

CsegCell &Batch::cell_for(uint32_t group, uint32_t container) {
	if (group != near_group) {
		near.clear();
		near_group = group;
	}
	if (container < near.size() && near[container] != nullptr)
		return *near[container];
	SettledCell wanted{group, container, nullptr};
	auto at = std::lower_bound(cells.begin(), cells.end(), wanted, cell_before);
	if (at == cells.end() || cell_before(wanted, *at)) {
		wanted.cell = std::make_unique<CsegCell>();
		at = cells.insert(at, std::move(wanted));
	}
	if (container >= near.size())
		near.resize(container + 1);
	near[container] = at->cell.get();
	return *near[container];
}

void Batch::place(const Unplaced &row) {
	CsegCell &cell = cell_for(row.group, row.who >> CSEG_CONTAINER_BITS);
	Staged change = row.change;
	change.low = static_cast<uint16_t>(row.who & (CSEG_CONTAINER_SIZE - 1));
	for (size_t m = 0; m < CSEG_MEASURES; m++) {
		Value v{change.num[m], change.tag[m]};
		if (is_wide(v))
			change.num[m] = wide_value(cell.staged_pool, pool.data() + wide_offset(v), wide_len(v)).num;
	}
	cell.stage(change);
	placed++;
}

// Interrupted, it leaves staged what is in no matrix yet: calling it again goes on.
void Batch::settle(const CsegStop *stop) {
	if (!texts.empty() || !waiting.empty())
		throw std::logic_error("identities are pending");
	for (const SettledCell &settled : cells) {
		check_stop(stop);
		settled.cell->settle(stop);
	}
	placed = 0;
	wide_bytes = 0;
}

size_t Batch::bytes() const {
	constexpr size_t kSlotBytes = sizeof(uint64_t) * 2;
	size_t n = sizeof *this + unplaced.capacity() * sizeof unplaced[0] + texts.capacity() * sizeof texts[0] +
			   arena.bytes() + names.bytes() + waiting.capacity() * sizeof waiting[0] +
			   ids.bucket_count() * (sizeof(std::string_view) + kSlotBytes / 2) + pool.capacity() +
			   touched_rows.bytes() + near.capacity() * sizeof near[0];
	for (const SettledCell &settled : cells)
		n += sizeof settled + settled.cell->bytes();
	return n;
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
	return batch->batch.staged();
}

size_t cseg_batch_staged_long(const CsegBatch *batch) {
	return batch->batch.staged_long();
}

bool cseg_batch_empty(const CsegBatch *batch) {
	return batch->batch.empty();
}

void cseg_batch_clear(CsegBatch *batch) {
	batch->batch = Batch();
}

void cseg_batch_forget_cells(CsegBatch *batch) {
	batch->batch.forget_cells();
}

size_t cseg_batch_touched_bytes(const CsegBatch *batch) {
	return batch->batch.touched_rows.bytes();
}

CsegCode cseg_batch_intern(CsegBatch *batch, const uint8_t *text, size_t len, uint32_t *who, CsegError *err) {
	return guard(err, [&] { *who = batch->batch.intern_unsought({reinterpret_cast<const char *>(text), len}); });
}

CsegCode cseg_batch_insert(CsegBatch *batch, uint32_t group, uint8_t slot, uint32_t who,
						   const CsegValue v[CSEG_MEASURES], CsegError *err) {
	return guard(err, [&] { batch->batch.stage(group, slot, who, Op::insert, v); });
}

CsegCode cseg_batch_insert_named(CsegBatch *batch, uint32_t group, uint8_t slot, const uint8_t *text, size_t len,
								 const CsegValue v[CSEG_MEASURES], CsegError *err) {
	return guard(err, [&] { batch->batch.stage_named(group, slot, {reinterpret_cast<const char *>(text), len}, v); });
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
	return batch->batch.touched_rows.has(group, slot, ordinal);
}

uint32_t cseg_batch_waiting(const CsegBatch *batch) {
	return static_cast<uint32_t>(batch->batch.waiting.size());
}

CsegCode cseg_batch_lookup(CsegBatch *batch, CsegDict *dict, CsegError *err) {
	return guard(err, [&] { batch->batch.lookup(dict); });
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
