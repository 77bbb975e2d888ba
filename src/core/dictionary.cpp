// dictionary.cpp
//    The dictionary object: records in, identity to ordinal and ordinal to identity out.
//
// Owns the compressed records, the decoded texts of containers, a cache of single decoded blocks and the hash index.
// Texts of records with few entries are decoded when added and are always in the index, so that ten thousand of them
// cost a lookup nothing. Everything else is found through fences first, and through the index once lookups are many.
// Lookups that come together share their way through the records, and wait for memory together.
#include <algorithm>
#include <array>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "guard.hpp"
#include "identity_queries.hpp"

namespace cseg::dict {
namespace {

constexpr uint32_t kSmallEntries = 64; // a record of at most so many entries is decoded at once
constexpr size_t kSmallRawBytes = 1 << 14;
constexpr size_t kCachedBlocks = 8;
constexpr uint64_t kCallEffort = 512; // of a lookup that does not find its answer in the index, in texts decoded
constexpr size_t kTogether = 64;      // lookups that wait for memory together

// ---- index --------------------------------------------------------------------------------------------------------

// Open addressing, eight bytes a slot. Positions follow from the stored hash alone, so that growing reads no text.
// Entries are never removed; one whose ordinal has no such text (any more) is passed over by the verification.
class Index {
public:
	struct Slot {
		uint32_t hash;
		uint32_t ordinal = kNone;
	};

	size_t bytes() const { return slots.capacity() * sizeof(Slot); }
	void swap(Index &other) noexcept {
		slots.swap(other.slots);
		std::swap(used, other.used);
	}

	// Room for `more` further entries: what insert needs in order not to fail.
	void reserve(size_t more) {
		if ((used + more) * 4 <= slots.size() * 3)
			return;
		Index larger;
		larger.slots.resize(std::max({kFewestSlots, (used + more) * 4 / 3 + 1, slots.size() + slots.size() / 2}));
		for (const Slot &s : slots) {
			if (s.ordinal != kNone)
				larger.insert(s.hash, s.ordinal);
		}
		swap(larger);
	}
	void insert(uint32_t hash, uint32_t ordinal) noexcept {
		size_t i = start(hash);
		while (slots[i].ordinal != kNone)
			i = next(i);
		slots[i] = {hash, ordinal};
		used++;
	}
	void prefetch(uint32_t hash) const {
		if (!slots.empty())
			__builtin_prefetch(&slots[start(hash)]);
	}
	// The ordinal that has this hash and for which same(ordinal) holds, or kNone.
	template <class F> uint32_t find(uint32_t hash, F &&same) const {
		if (slots.empty())
			return kNone;
		for (size_t i = start(hash); slots[i].ordinal != kNone; i = next(i)) {
			if (slots[i].hash == hash && same(slots[i].ordinal))
				return slots[i].ordinal;
		}
		return kNone;
	}

private:
	// Any number of slots, not powers of two only: the index is as small, and as well cached, as the load allows.
	size_t start(uint32_t hash) const { return (hash * uint64_t{slots.size()}) >> 32; }
	size_t next(size_t i) const { return i + 1 < slots.size() ? i + 1 : 0; }

	static constexpr size_t kFewestSlots = 64;
	std::vector<Slot> slots;
	size_t used = 0;
};

// ---- records and texts --------------------------------------------------------------------------------------------

// A record that stays compressed.
struct Large {
	uint32_t first = 0;
	std::unique_ptr<uint8_t[]> data;
	size_t len = 0;
	Directory dir;
	uint64_t addition = 0;
	bool indexed = false;

	size_t bytes() const { return sizeof(Large) + len + dir.bytes(); }
};

struct Record {
	uint32_t first = 0;
	uint32_t count = 0;
	const uint8_t *small = nullptr; // first of its texts, which lie one behind the other
	std::unique_ptr<Large> large;   // if not small

	uint64_t end() const { return uint64_t{first} + count; }
};

// The decoded texts of a container.
struct Container {
	std::unique_ptr<const void *[]> texts;
	std::vector<Arena> arenas;
	size_t bytes = 0;
	uint64_t used = 0;
	uint32_t pins = 0;
};

struct ContainerPlace {
	std::unique_ptr<Container> container;
	uint32_t misses = 0; // lookups that would have wanted it
};

// One decoded block, for lookups that are too few to be worth a container.
struct CachedBlock {
	const Large *record = nullptr;
	size_t block = 0;
	uint64_t used = 0;
	Arena arena;
	std::vector<uint32_t> at;

	const uint8_t *text(size_t i) const { return arena.memory.get() + size_t{at[i]} * 4; }
};

// Memory for small texts: never moves, never given back before the end.
class SmallTexts {
public:
	// n bytes that commit() keeps and the next prepare() takes back.
	uint8_t *prepare(size_t n) {
		if (n > left) {
			const size_t size = std::max(kChunkBytes, n);
			chunks.push_back({std::make_unique_for_overwrite<uint8_t[]>(size), size});
			at = chunks.back().memory.get();
			left = size;
			total += size;
		}
		return at;
	}
	void commit(size_t n) noexcept {
		at += n;
		left -= n;
	}
	size_t bytes() const { return total; }

private:
	static constexpr size_t kChunkBytes = 1 << 15;
	std::vector<Arena> chunks;
	uint8_t *at = nullptr;
	size_t left = 0;
	size_t total = 0;
};

// Undoes what was begun unless it was brought to its end.
template <class F> class Rollback {
public:
	explicit Rollback(F f) : undo(std::move(f)) {}
	Rollback(const Rollback &) = delete;
	Rollback &operator=(const Rollback &) = delete;
	~Rollback() {
		if (armed)
			undo();
	}
	void done() { armed = false; }

private:
	F undo;
	bool armed = true;
};

uint32_t low_of(uint32_t ordinal) {
	return ordinal & (CSEG_CONTAINER_SIZE - 1);
}
uint32_t container_of(uint32_t ordinal) {
	return ordinal >> CSEG_CONTAINER_BITS;
}

} // namespace
} // namespace cseg::dict

// ---- the object ---------------------------------------------------------------------------------------------------

using namespace cseg::dict;
using cseg::Corrupt;

struct CsegDict {
public:
	explicit CsegDict(int header_shift) : shift(header_shift), decoder(header_shift) {}

	void add(uint32_t first, const uint8_t *bytes, size_t len);
	void find_all(std::span<const std::string_view> texts, uint64_t since, uint32_t *ordinals);
	const void *const *pin(uint32_t number);
	void unpin(uint32_t number) noexcept;
	void trim(size_t budget) noexcept;
	size_t bytes() const;

	uint64_t count = 0;
	uint64_t additions = 0;
	uint32_t next() const { return records.empty() ? 0 : static_cast<uint32_t>(records.back().end()); }

private:
	using Records = std::vector<Record>;

	uint32_t hash(std::string_view s) const {
		// Seeded by the address, so that nobody can choose identities that collide.
		return static_cast<uint32_t>(XXH3_64bits_withSeed(s.data(), s.size(), reinterpret_cast<uintptr_t>(this)));
	}
	bool indexed() const { return not_indexed == 0; }

	Records::iterator place_for(uint32_t first, uint32_t n);
	Records::iterator record_of(uint32_t ordinal);
	void add_small(Records::iterator at, uint32_t first, const uint8_t *bytes);
	void add_large(Records::iterator at, uint32_t first, const uint8_t *bytes, size_t len);
	void forget(uint32_t first) noexcept;
	void show_in_containers(const Record &r);
	void index_large(Large &r);
	void index_small(Index &to, const Record &r) const noexcept;

	Container &resident(uint32_t number);
	void fill(Container &c, uint32_t number, const Record &r);
	void fill_small(Container &c, uint32_t number, const Record &r) const noexcept;
	void fill_block(Container &c, uint32_t number, const Large &r, size_t block);
	void evict(uint32_t number) noexcept;

	const CachedBlock &cached(const Large &r, size_t block);
	const void *const *resident_text(uint32_t ordinal);
	const uint8_t *text_of(uint32_t ordinal);
	bool same(uint32_t ordinal, std::string_view text);
	void probe(std::span<const std::string_view> texts, uint32_t *ordinals);
	void probe_some(std::span<const std::string_view> texts, uint32_t *ordinals);
	bool worth_indexing() const;
	void build_index();
	void drop_index();
	void search(Queries &queries, uint64_t since);
	void search_integers(const Large &r, Queries &queries);
	void search_texts(const Large &r, Queries &queries);
	bool evict_oldest() noexcept;

	int shift;
	Decoder decoder;
	Directory scratch;
	Records records;            // by first
	std::vector<Large *> large; // those of them that stay compressed
	size_t large_bytes = 0;
	SmallTexts small;
	std::vector<ContainerPlace> places; // by number
	size_t container_bytes = 0;
	std::array<CachedBlock, kCachedBlocks> cache;
	Index index;
	bool index_built = false; // large records are in the index, further ones too
	uint64_t not_indexed = 0; // entries of large records that are not in the index
	uint32_t unsorted = 0;    // unsorted large records that are not in the index
	uint64_t cold_effort = 0; // what lookups without such an index have cost, in texts decoded
	uint64_t clock = 0;
};

// ---- adding -------------------------------------------------------------------------------------------------------

CsegDict::Records::iterator CsegDict::place_for(uint32_t first, uint32_t n) {
	if (first > CSEG_MAX_ORDINAL || n - 1 > CSEG_MAX_ORDINAL - first)
		throw Corrupt("dictionary record is beyond the greatest ordinal");
	const auto at = records.empty() || first >= records.back().end()
						? records.end()
						: std::upper_bound(records.begin(), records.end(), first,
										   [](uint32_t f, const Record &r) { return f < r.first; });
	if (at != records.begin() && std::prev(at)->end() > first)
		throw Corrupt("dictionary records overlap");
	if (at != records.end() && uint64_t{first} + n > at->first)
		throw Corrupt("dictionary records overlap");
	return at;
}

CsegDict::Records::iterator CsegDict::record_of(uint32_t ordinal) {
	const auto it = std::upper_bound(records.begin(), records.end(), ordinal,
									 [](uint32_t o, const Record &r) { return o < r.first; });
	if (it == records.begin() || std::prev(it)->end() <= ordinal)
		return records.end();
	return std::prev(it);
}

void CsegDict::add(uint32_t first, const uint8_t *bytes, size_t len) {
	read_directory(&scratch, bytes, len);
	const uint32_t n = scratch.count();
	if (n == 0)
		return;
	additions++;
	const auto at = place_for(first, n);
	size_t raw = 0;
	for (const Block &b : scratch.blocks)
		raw += b.raw;
	if (n <= kSmallEntries && raw <= kSmallRawBytes)
		add_small(at, first, bytes);
	else
		add_large(at, first, bytes, len);
}

void CsegDict::add_small(Records::iterator at, uint32_t first, const uint8_t *bytes) {
	Record r;
	r.first = first;
	r.count = scratch.count();
	size_t most = scratch.n_ints * text_space(kMaxDigits) + scratch.n_texts * text_space(0);
	for (const Block &b : scratch.blocks)
		most += b.raw + b.count * size_t{3};
	uint8_t *const memory = small.prepare(most);
	size_t used = 0;
	for (size_t b = 0; b < scratch.blocks.size(); b++) {
		const Arena arena = decoder.texts(bytes, scratch, b);
		for (const uint32_t start : decoder.at()) {
			const uint8_t *text = arena.memory.get() + size_t{start} * 4;
			const size_t room = text_space(text_at(text, shift).size());
			if (room > most - used)
				throw Corrupt("dictionary texts are longer than announced");
			std::memcpy(memory + used, text, room);
			used += room;
		}
	}
	r.small = memory;
	index.reserve(r.count);
	const Record &added = *records.insert(at, std::move(r));
	small.commit(used);
	index_small(index, added);
	count += added.count;
	show_in_containers(added); // only stores pointers, does not fail
}

void CsegDict::add_large(Records::iterator at, uint32_t first, const uint8_t *bytes, size_t len) {
	auto l = std::make_unique<Large>();
	l->first = first;
	l->data = std::make_unique_for_overwrite<uint8_t[]>(len);
	std::memcpy(l->data.get(), bytes, len);
	l->len = len;
	l->addition = additions;
	l->dir = scratch; // a copy, so that it takes no more memory than it needs
	large.reserve(large.size() + 1);
	Record r;
	r.first = first;
	r.count = l->dir.count();
	Large *const added = l.get();
	r.large = std::move(l);
	const auto it = records.insert(at, std::move(r));
	large.push_back(added);
	large_bytes += added->bytes();
	count += it->count;
	not_indexed += it->count;
	unsorted += added->dir.sorted() ? 0 : 1;
	Rollback undo([&] { forget(first); });
	show_in_containers(*it);
	if (index_built)
		index_large(*added);
	undo.done();
}

// Takes a large record out again that could not be added completely.
void CsegDict::forget(uint32_t first) noexcept {
	const auto it = record_of(first);
	Large *const l = it->large.get();
	for (uint64_t o = first; o < it->end(); o++) {
		const uint32_t number = container_of(static_cast<uint32_t>(o));
		if (number < places.size() && places[number].container != nullptr)
			places[number].container->texts[low_of(static_cast<uint32_t>(o))] = nullptr;
	}
	for (CachedBlock &b : cache) {
		if (b.record == l)
			b = {};
	}
	count -= it->count;
	not_indexed -= it->count; // index_large counts them as indexed only at its end
	unsorted -= l->dir.sorted() ? 0 : 1;
	large_bytes -= l->bytes();
	large.erase(std::find(large.begin(), large.end(), l));
	records.erase(it);
}

// Containers that are decoded get the texts of a new record, unless nobody needs them to stay.
void CsegDict::show_in_containers(const Record &r) {
	const uint32_t last = container_of(static_cast<uint32_t>(r.end() - 1));
	for (uint32_t n = container_of(r.first); n <= last && n < places.size(); n++) {
		if (places[n].container == nullptr)
			continue;
		Container &c = *places[n].container;
		if (r.large != nullptr && c.pins == 0 && !index_built)
			evict(n);
		else
			fill(c, n, r);
	}
}

void CsegDict::index_small(Index &to, const Record &r) const noexcept {
	const uint8_t *at = r.small;
	for (uint32_t i = 0; i < r.count; i++) {
		const std::string_view text = text_at(at, shift);
		to.insert(hash(text), r.first + i);
		at += text_space(text.size());
	}
}

// Everything that can fail comes before the first entry.
void CsegDict::index_large(Large &r) {
	const uint32_t n = r.dir.count();
	const uint32_t last = r.first + n - 1;
	index.reserve(n);
	for (uint32_t number = container_of(r.first); number <= container_of(last); number++)
		resident(number);
	for (uint32_t o = r.first; o <= last; o++) {
		const void *text = places[container_of(o)].container->texts[low_of(o)];
		index.insert(hash(text_at(static_cast<const uint8_t *>(text), shift)), o);
	}
	r.indexed = true;
	not_indexed -= n;
	unsorted -= r.dir.sorted() ? 0 : 1;
}

// ---- containers ---------------------------------------------------------------------------------------------------

// The container's texts, decoded if they aren't.
Container &CsegDict::resident(uint32_t number) {
	if (number >= places.size())
		places.resize(number + 1);
	ContainerPlace &place = places[number];
	if (place.container == nullptr) {
		auto c = std::make_unique<Container>();
		c->texts = std::make_unique<const void *[]>(CSEG_CONTAINER_SIZE);
		c->bytes = sizeof(Container) + CSEG_CONTAINER_SIZE * sizeof(void *);
		const uint64_t begin = uint64_t{number} << CSEG_CONTAINER_BITS;
		auto it =
			std::partition_point(records.begin(), records.end(), [&](const Record &r) { return r.end() <= begin; });
		container_bytes += c->bytes;
		Rollback undo([&] { container_bytes -= c->bytes; });
		for (; it != records.end() && it->first < begin + CSEG_CONTAINER_SIZE; ++it)
			fill(*c, number, *it);
		undo.done();
		place.container = std::move(c);
	}
	place.misses = 0;
	place.container->used = ++clock;
	return *place.container;
}

void CsegDict::fill(Container &c, uint32_t number, const Record &r) {
	if (r.large == nullptr)
		return fill_small(c, number, r);
	const uint64_t begin = uint64_t{number} << CSEG_CONTAINER_BITS;
	const uint64_t end = std::min(begin + CSEG_CONTAINER_SIZE, r.end());
	const Directory &dir = r.large->dir;
	size_t block = begin <= r.first ? 0 : dir.block_of(static_cast<uint32_t>(begin - r.first));
	for (; block < dir.blocks.size() && uint64_t{r.first} + dir.blocks[block].entry < end; block++)
		fill_block(c, number, *r.large, block);
}

void CsegDict::fill_small(Container &c, uint32_t number, const Record &r) const noexcept {
	const uint8_t *at = r.small;
	for (uint32_t o = r.first; o < r.end(); o++) {
		if (container_of(o) == number)
			c.texts[low_of(o)] = at;
		at += text_space(text_at(at, shift).size());
	}
}

void CsegDict::fill_block(Container &c, uint32_t number, const Large &r, size_t block) {
	c.arenas.reserve(c.arenas.size() + 1);
	Arena arena = decoder.texts(r.data.get(), r.dir, block);
	uint32_t o = r.first + r.dir.blocks[block].entry;
	for (const uint32_t start : decoder.at()) {
		if (container_of(o) == number)
			c.texts[low_of(o)] = arena.memory.get() + size_t{start} * 4;
		o++;
	}
	const size_t more = arena.bytes + sizeof(Arena);
	c.arenas.push_back(std::move(arena));
	c.bytes += more;
	container_bytes += more;
}

void CsegDict::evict(uint32_t number) noexcept {
	container_bytes -= places[number].container->bytes;
	places[number].container.reset();
}

const void *const *CsegDict::pin(uint32_t number) {
	if (number > container_of(CSEG_MAX_ORDINAL))
		throw std::invalid_argument("no such container");
	Container &c = resident(number);
	c.pins++;
	return c.texts.get();
}

void CsegDict::unpin(uint32_t number) noexcept {
	if (number >= places.size() || places[number].container == nullptr)
		return;
	Container &c = *places[number].container;
	if (c.pins > 0)
		c.pins--;
}

// ---- looking up ---------------------------------------------------------------------------------------------------

// In all records that were added after the first `since`; kNone for what is in none of them.
void CsegDict::find_all(std::span<const std::string_view> texts, uint64_t since, uint32_t *ordinals) {
	probe(texts, ordinals);
	if (indexed() || since >= additions)
		return;
	Queries queries(texts, ordinals);
	if (queries.size() == 0)
		return;
	cold_effort += kCallEffort + queries.size();
	// Of the later records alone a search is cheap.
	if (unsorted == 0 && (since > 0 || !worth_indexing()))
		return search(queries, since);
	build_index();
	probe(texts, ordinals);
}

void CsegDict::probe(std::span<const std::string_view> texts, uint32_t *ordinals) {
	while (!texts.empty()) {
		const size_t n = std::min(texts.size(), kTogether);
		probe_some(texts.first(n), ordinals);
		texts = texts.subspan(n);
		ordinals += n;
	}
}

// Each step waits for the memory that the one before has asked for, of all texts at once.
void CsegDict::probe_some(std::span<const std::string_view> texts, uint32_t *ordinals) {
	struct Probe {
		uint32_t hash;
		uint32_t ordinal;
		const void *const *place;
		const uint8_t *text;
	};
	std::array<Probe, kTogether> probes;
	const size_t n = texts.size();
	for (size_t i = 0; i < n; i++) {
		probes[i].hash = hash(texts[i]);
		index.prefetch(probes[i].hash);
	}
	for (size_t i = 0; i < n; i++) {
		Probe &p = probes[i];
		p.ordinal = index.find(p.hash, [](uint32_t) { return true; });
		p.place = p.ordinal == kNone ? nullptr : resident_text(p.ordinal);
		if (p.place != nullptr)
			__builtin_prefetch(p.place);
	}
	for (size_t i = 0; i < n; i++) {
		Probe &p = probes[i];
		p.text = p.place == nullptr ? nullptr : static_cast<const uint8_t *>(*p.place);
		if (p.text != nullptr)
			__builtin_prefetch(p.text);
	}
	for (size_t i = 0; i < n; i++) {
		const Probe &p = probes[i];
		if (p.ordinal == kNone || (p.text != nullptr && text_at(p.text, shift) == texts[i]))
			ordinals[i] = p.ordinal;
		else
			ordinals[i] = index.find(p.hash, [&](uint32_t o) { return same(o, texts[i]); });
	}
}

bool CsegDict::same(uint32_t ordinal, std::string_view text) {
	const uint8_t *t = text_of(ordinal);
	return t != nullptr && text_at(t, shift) == text;
}

// Where the text's address is, if its container is decoded.
const void *const *CsegDict::resident_text(uint32_t ordinal) {
	const uint32_t number = container_of(ordinal);
	if (number >= places.size() || places[number].container == nullptr)
		return nullptr;
	Container &c = *places[number].container;
	c.used = clock;
	return &c.texts[low_of(ordinal)];
}

// Where the container is not decoded, a single block will do, until more lookups want the same container.
const uint8_t *CsegDict::text_of(uint32_t ordinal) {
	constexpr uint32_t kMissesWorthDecoding = 16;
	const uint32_t number = container_of(ordinal);
	if (const void *const *place = resident_text(ordinal))
		return static_cast<const uint8_t *>(*place);
	const auto r = record_of(ordinal);
	if (r == records.end())
		return nullptr;
	if (r->large == nullptr) {
		const uint8_t *at = r->small;
		for (uint32_t i = r->first; i < ordinal; i++)
			at += text_space(text_at(at, shift).size());
		return at;
	}
	if (number >= places.size())
		places.resize(number + 1);
	if (++places[number].misses > kMissesWorthDecoding)
		return static_cast<const uint8_t *>(resident(number).texts[low_of(ordinal)]);
	const uint32_t entry = ordinal - r->first;
	const size_t block = r->large->dir.block_of(entry);
	return cached(*r->large, block).text(entry - r->large->dir.blocks[block].entry);
}

const CachedBlock &CsegDict::cached(const Large &r, size_t block) {
	CachedBlock *oldest = &cache[0];
	for (CachedBlock &b : cache) {
		if (b.record == &r && b.block == block) {
			b.used = ++clock;
			return b;
		}
		if (b.used < oldest->used)
			oldest = &b;
	}
	cold_effort += r.dir.blocks[block].count;
	*oldest = {};
	oldest->arena = decoder.texts(r.data.get(), r.dir, block);
	oldest->at = decoder.at();
	oldest->record = &r;
	oldest->block = block;
	oldest->used = ++clock;
	return *oldest;
}

// Searching has cost about as much as decoding and hashing everything will.
bool CsegDict::worth_indexing() const {
	constexpr uint64_t kLittle = 64 * uint64_t{kTextBlockEntries};
	return cold_effort > std::max(kLittle, count / 2);
}

void CsegDict::build_index() {
	index.reserve(not_indexed); // at once rather than record by record
	for (Large *l : large) {
		if (!l->indexed)
			index_large(*l);
	}
	index_built = true;
	cold_effort = 0;
}

void CsegDict::drop_index() {
	Index fresh;
	uint64_t n = 0;
	for (const Record &r : records)
		n += r.large == nullptr ? r.count : 0;
	if (n > 0)
		fresh.reserve(n);
	uint64_t left_out = 0;
	uint32_t left_unsorted = 0;
	for (Record &r : records) {
		if (r.large == nullptr) {
			index_small(fresh, r);
			continue;
		}
		r.large->indexed = false;
		left_out += r.count;
		left_unsorted += r.large->dir.sorted() ? 0 : 1;
	}
	index.swap(fresh);
	index_built = false;
	not_indexed = left_out;
	unsorted = left_unsorted;
	cold_effort = 0;
}

// The largest record first: it leaves the fewest to look for in all the others.
void CsegDict::search(Queries &queries, uint64_t since) {
	std::vector<const Large *> order;
	for (const Large *l : large) {
		if (!l->indexed && l->addition > since)
			order.push_back(l);
	}
	if (queries.size() > 1)
		std::stable_sort(order.begin(), order.end(),
						 [](const Large *a, const Large *b) { return a->dir.count() > b->dir.count(); });
	for (const Large *l : order) {
		search_integers(*l, queries);
		search_texts(*l, queries);
		queries.drop_found();
		if (queries.size() == 0)
			return;
	}
}

void CsegDict::search_integers(const Large &r, Queries &queries) {
	constexpr uint64_t kIntegerBlockEffort = kIntBlockEntries / 16; // no text is made
	const auto &wanted = queries.integers;
	const auto &blocks = r.dir.blocks;
	size_t beyond = 0; // the first block that starts above
	for (size_t q = 0; q < wanted.size();) {
		beyond = gallop(beyond, r.dir.int_blocks, [&](size_t b) { return blocks[b].first <= wanted[q].value; });
		size_t end = wanted.size();
		if (beyond < r.dir.int_blocks)
			end = gallop(q, end, [&](size_t i) { return wanted[i].value < blocks[beyond].first; });
		if (beyond > 0) {
			cold_effort += kIntegerBlockEffort;
			const auto values = decoder.integers(r.data.get(), r.dir, beyond - 1);
			const uint32_t first = r.first + blocks[beyond - 1].entry;
			leapfrog(
				q, end, values.size(),
				[&](size_t i, size_t v) {
					return wanted[i].value < values[v] ? -1 : static_cast<int>(wanted[i].value > values[v]);
				},
				[&](size_t i, size_t v) { queries.found(wanted[i].at, first + static_cast<uint32_t>(v)); });
		}
		q = end;
	}
}

void CsegDict::search_texts(const Large &r, Queries &queries) {
	const auto &wanted = queries.strings;
	const auto &blocks = r.dir.blocks;
	const size_t n_blocks = blocks.size();
	size_t beyond = r.dir.int_blocks; // the first block whose fence is above
	if (beyond == n_blocks)
		return;
	const auto fence = [&](size_t b) { return view(r.data.get(), blocks[b].fence); };
	for (size_t q = 0; q < wanted.size();) {
		beyond = gallop(beyond, n_blocks, [&](size_t b) { return fence(b) <= queries.text(q); });
		size_t end = wanted.size();
		if (beyond < n_blocks)
			end = gallop(q, end, [&](size_t i) { return queries.text(i) < fence(beyond); });
		// The first block has no fence: it is never above.
		const CachedBlock &block = cached(r, beyond - 1);
		const uint32_t first = r.first + blocks[beyond - 1].entry;
		leapfrog(
			q, end, block.at.size(),
			[&](size_t i, size_t v) { return queries.text(i).compare(text_at(block.text(v), shift)); },
			[&](size_t i, size_t v) { queries.found(wanted[i].at, first + static_cast<uint32_t>(v)); });
		q = end;
	}
}

// ---- memory -------------------------------------------------------------------------------------------------------

size_t CsegDict::bytes() const {
	size_t n = sizeof *this + decoder.bytes() + scratch.bytes() + index.bytes() + small.bytes();
	n += records.capacity() * sizeof(Record) + large.capacity() * sizeof(Large *);
	n += places.capacity() * sizeof(ContainerPlace) + container_bytes + large_bytes;
	for (const CachedBlock &b : cache)
		n += b.arena.bytes + b.at.capacity() * sizeof(uint32_t);
	return n;
}

bool CsegDict::evict_oldest() noexcept {
	uint32_t oldest = kNone;
	for (uint32_t i = 0; i < places.size(); i++) {
		const Container *c = places[i].container.get();
		if (c != nullptr && c->pins == 0 && (oldest == kNone || c->used < places[oldest].container->used))
			oldest = i;
	}
	if (oldest == kNone)
		return false;
	evict(oldest);
	return true;
}

void CsegDict::trim(size_t budget) noexcept {
	if (bytes() <= budget)
		return;
	for (CachedBlock &b : cache)
		b = {};
	decoder.release();
	while (bytes() > budget) {
		if (!evict_oldest())
			break;
	}
	if (bytes() <= budget || !index_built)
		return;
	// Without memory for the smaller index the larger one stays.
	CsegError ignored;
	(void)cseg::guard(&ignored, [&] { drop_index(); });
}

// ---- C ------------------------------------------------------------------------------------------------------------

extern "C" CsegCode cseg_dict_new(CsegDict **out, int header_shift, CsegError *err) {
	return cseg::guard(err, [&] {
		if (header_shift < 0 || header_shift > 2) // (length + 4) has 30 bits
			throw std::invalid_argument("header shift is out of range");
		*out = new CsegDict(header_shift);
	});
}

extern "C" void cseg_dict_free(void *dict) {
	delete static_cast<CsegDict *>(dict);
}

extern "C" size_t cseg_dict_bytes(const CsegDict *dict) {
	return dict->bytes();
}

extern "C" CsegCode cseg_dict_add(CsegDict *dict, uint32_t first, const uint8_t *bytes, size_t len, CsegError *err) {
	return cseg::guard(err, [&] { dict->add(first, bytes, len); });
}

extern "C" uint32_t cseg_dict_next(const CsegDict *dict) {
	return dict->next();
}

extern "C" uint64_t cseg_dict_count(const CsegDict *dict) {
	return dict->count;
}

extern "C" CsegCode cseg_dict_find(CsegDict *dict, const uint8_t *text, size_t len, bool *found, uint32_t *ordinal,
								   CsegError *err) {
	return cseg::guard(err, [&] {
		const std::string_view wanted(len > 0 ? reinterpret_cast<const char *>(text) : "", len);
		uint32_t o = kNone;
		dict->find_all({&wanted, 1}, 0, &o);
		*found = o != kNone;
		if (*found)
			*ordinal = o;
	});
}

namespace cseg {

void find_identities(CsegDict *dict, std::span<const std::string_view> texts, uint64_t since, uint32_t *ordinals) {
	dict->find_all(texts, since, ordinals);
}

uint64_t dictionary_additions(const CsegDict *dict) {
	return dict->additions;
}

} // namespace cseg

extern "C" CsegCode cseg_dict_pin(CsegDict *dict, uint32_t container, const void *const **texts, CsegError *err) {
	return cseg::guard(err, [&] { *texts = dict->pin(container); });
}

extern "C" void cseg_dict_unpin(CsegDict *dict, uint32_t container) {
	dict->unpin(container);
}

extern "C" void cseg_dict_trim(CsegDict *dict, size_t bytes) {
	dict->trim(bytes);
}
