/*
 * cells.c
 *    Decoded cells, shared by everything that reads in this backend.
 *
 * A cell's rows follow from the bytes of its base and of the deltas that are seen. Records never change in place, but
 * their places are used again, so an entry is found by all that identifies the bytes: the file, and of each record its
 * address, checksum, length and sequence, and the TOAST pointer and checksum of its body (of an inline body a second
 * checksum).
 *
 * A cell that is asked for a few customers is kept as bytes, of which each such lookup decodes a few blocks. After some
 * of them it is decoded as a whole.
 *
 * Of a cell that is asked who its members are, bitsets are kept: one for each slot instead of the rows, where that
 * takes much less room, else those of the slots that were asked for. So what is asked about the newest instances, or
 * about sets of millions of customers, is found again, though the rows would not fit.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "port/pg_bitutils.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "compat/compat.h"
#include "store/cache.h"
#include "store/cell.h"

/* Decoding a block costs about a tenth of decoding a large cell; a lookup reads one or two, of each part. */
#define MAX_LOOKUPS 4
/* Where it would push out what is wanted as often, all that the decoding of it saves has to come from this cell. */
#define MAX_LOOKUPS_CROWDED 64
/* A cell takes up to so many times the room of its bytes, about. */
#define DECODED_GROWTH 8
/* So many customers, or such a range of them, are no few. */
#define FEW_CUSTOMERS 8
#define FEW_RANGE (CSEG_CONTAINER_SIZE / 8)

/* The bitsets of all slots are kept instead of rows that take more than so many times their room. */
#define PLANES_GAIN 2
#define PLANE_BYTES (sizeof(uint64) * CSEG_MEMBER_WORDS)
/* Else those of the slots that are asked for, if they are so few, and no more of a cell than so many. */
#define FEW_SLOTS 8
#define MAX_PLANES 32
#define ALL_SLOTS PG_UINT64_MAX

typedef enum EntryKind
{
	OF_ROWS,
	OF_MEMBERS
} EntryKind;

typedef struct CellPart
{
	ItemPointerData tid;
	uint16 unused;
	uint32 checksum;
	uint32 sequence;
	uint32 body_len;
	uint32 body_sum;
	char toast_pointer[24];
} CellPart;

struct StoreSharedCell
{
	CacheEntry entry;
	CompatRelFileLocator file;
	uint32 cell_no;
	EntryKind kind;
	StoreOwner *owner;
	CsegCell *cell;   /* NULL: bytes only */
	CellBytes *bytes; /* of each part, while there is no cell */
	int lookups;
	bool of_few;     /* holds only the customers that were asked for, for sure */
	uint64 known;    /* of members: slots whose members are known */
	uint64 **planes; /* of each slot: their bitset, or NULL if there are none */
	uint64 hash;
	int n_parts;
	CellPart parts[FLEXIBLE_ARRAY_MEMBER];
};

typedef struct TableEntry
{
	uint64 hash;
	StoreSharedCell *cell;
} TableEntry;

static struct HTAB *table = NULL;

static void
start(void)
{
	HASHCTL ctl = {.keysize = sizeof(uint64), .entrysize = sizeof(TableEntry)};

	if (table)
		return;
	cache_init();
	ctl.hcxt = CacheMemoryContext;
	table = hash_create("customer_segmentation cell cache", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* ---- identity -------------------------------------------------------------------------------------------------- */

static void
describe_part(CellPart *part, const StoreRecord *rec)
{
	part->tid = rec->tid;
	part->checksum = rec->checksum;
	part->sequence = rec->c;
	part->body_len = rec->body_len;
	part->body_sum = rec->body_sum;
	if (rec->inline_body == NULL)
		memcpy(part->toast_pointer, rec->toast_pointer, sizeof(part->toast_pointer));
}

static StoreSharedCell *
describe(Relation rel, const StoreCell *cell, EntryKind kind)
{
	int n = cell_parts(cell);
	StoreSharedCell *s = palloc0(offsetof(StoreSharedCell, parts) + sizeof(CellPart) * n);

	s->entry.relid = RelationGetRelid(rel);
	s->file = compat_locator(rel);
	s->cell_no = cell->cell_no;
	s->kind = kind;
	s->n_parts = n;
	for (int i = 0; i < n; i++)
		describe_part(&s->parts[i], cell_part(cell, i));
	s->hash = hash_bytes_extended((const unsigned char *) s->parts, (int) (sizeof(CellPart) * n),
								  (((uint64) s->entry.relid << 32) | s->cell_no) + kind);
	return s;
}

static bool
same_cell(const StoreSharedCell *a, const StoreSharedCell *b)
{
	return a->entry.relid == b->entry.relid && memcmp(&a->file, &b->file, sizeof(a->file)) == 0 &&
		   a->cell_no == b->cell_no && a->kind == b->kind && a->n_parts == b->n_parts &&
		   memcmp(a->parts, b->parts, sizeof(CellPart) * a->n_parts) == 0;
}

static StoreSharedCell *
find(Relation rel, const StoreCell *cell, EntryKind kind)
{
	StoreSharedCell *wanted = describe(rel, cell, kind);
	TableEntry *t = hash_search(table, &wanted->hash, HASH_FIND, NULL);
	StoreSharedCell *s = t && same_cell(t->cell, wanted) ? t->cell : NULL;

	pfree(wanted);
	return s;
}

static void
unlink_cell(CacheEntry *entry)
{
	hash_search(table, &((StoreSharedCell *) entry)->hash, HASH_REMOVE, NULL);
}

/* ---- making entries -------------------------------------------------------------------------------------------- */

/* In a context of its own, which is the current one's child until the entry is kept. */
static StoreSharedCell *
new_entry(Relation rel, const StoreCell *cell, EntryKind kind)
{
	MemoryContext cxt =
		AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation cached cell", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	StoreSharedCell *s = describe(rel, cell, kind);

	s->entry.cxt = cxt;
	s->owner = store_owner_new(cxt, cseg_cell_free);
	if (kind == OF_MEMBERS)
		s->planes = palloc0(sizeof(uint64 *) * CSEG_SLOTS);
	MemoryContextSwitchTo(old);
	return s;
}

static void
set_cell(StoreSharedCell *s, CsegCell *cell)
{
	store_owner_set(s->owner, cell);
	s->cell = cell;
}

/* With a pin. What is found under the hash is another cell, or was put there while this one was read. */
static void
keep(StoreSharedCell *s)
{
	TableEntry *t;
	bool found;

	s->entry.bytes = s->cell ? cseg_cell_bytes(s->cell) : 0;
	if (cache_budget() == 0)
	{
		cache_keep_private(&s->entry);
		return;
	}
	t = hash_search(table, &s->hash, HASH_FIND, NULL);
	if (t)
		cache_forget(&t->cell->entry);
	t = hash_search(table, &s->hash, HASH_ENTER, &found);
	t->cell = s;
	cache_keep(&s->entry, unlink_cell);
}

/* Nothing here looks at invalidations, so the entry stays while its bytes are decoded; then it gets the caller's pin.
 */
static void
pin_decoded(Relation rel, const StoreCell *cell, StoreSharedCell *s)
{
	if (s->cell)
	{
		cache_pin(&s->entry);
		return;
	}
	set_cell(s, cell_read(rel, cell, s->bytes, 0, CELL_LAST_LOW, false));
	cache_pin(&s->entry);
	for (int i = 0; i < s->n_parts; i++)
		pfree(unconstify(uint8 *, s->bytes[i].bytes));
	pfree(s->bytes);
	s->bytes = NULL;
	cache_resize(&s->entry, cseg_cell_bytes(s->cell));
}

static StoreSharedCell *
keep_bytes(Relation rel, const StoreCell *cell)
{
	StoreSharedCell *s = new_entry(rel, cell, OF_ROWS);
	MemoryContext work =
		AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation cell bytes", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(work);

	s->bytes = MemoryContextAllocZero(s->entry.cxt, sizeof(CellBytes) * Max(s->n_parts, 1));
	for (int i = 0; i < s->n_parts; i++)
	{
		CellBytes part = cell_part_bytes(rel, cell_part(cell, i));
		uint8 *copy = MemoryContextAllocHuge(s->entry.cxt, Max(part.len, 1));

		memcpy(copy, part.bytes, part.len);
		s->bytes[i] = (CellBytes){copy, part.len};
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(work);
	keep(s);
	return s;
}

/* ---- members --------------------------------------------------------------------------------------------------- */

/* Some is left for bitsets that are asked for later, so that they don't push out those that were asked for before. */
static bool
has_room(Size bytes)
{
	return cache_used() + bytes <= cache_budget() / 4 * 3;
}

static void
touch(StoreSharedCell *s)
{
	cache_pin(&s->entry);
	cache_unpin(&s->entry);
}

/* The slots whose bitsets are worth keeping, when some are asked for that are not kept: all, these, or none. */
static uint64
worth_keeping(Relation rel, CsegCell *rows, uint64 slots)
{
	uint64 present;
	Size all;

	CSEG_CALL(rel, cseg_cell_slots(rows, &present, &err));
	all = PLANE_BYTES * pg_popcount64(present);
	if (all <= cseg_cell_bytes(rows) / PLANES_GAIN && has_room(all))
		return ALL_SLOTS;
	return pg_popcount64(slots) <= FEW_SLOTS && cache_budget() > 0 ? slots : 0;
}

static void
know(StoreSharedCell *members, int slot, const uint64 *plane)
{
	if (cseg_bits_count(plane) > 0)
	{
		members->planes[slot] = MemoryContextAlloc(members->entry.cxt, PLANE_BYTES);
		memcpy(members->planes[slot], plane, PLANE_BYTES);
	}
	members->known |= UINT64CONST(1) << slot;
}

static void
know_all(Relation rel, StoreSharedCell *members, CsegCell *rows)
{
	uint64 *planes = palloc(PLANE_BYTES * CSEG_SLOTS);

	CSEG_CALL(rel, cseg_cell_planes(rows, planes, &err));
	for (uint64 rest = ~members->known; rest != 0; rest &= rest - 1)
	{
		int slot = pg_rightmost_one_pos64(rest);

		know(members, slot, planes + (Size) slot * CSEG_MEMBER_WORDS);
	}
	pfree(planes);
}

static void
know_few(Relation rel, StoreSharedCell *members, CsegCell *rows, uint64 slots)
{
	for (uint64 rest = slots & ~members->known; rest != 0; rest &= rest - 1)
	{
		uint64 plane[CSEG_MEMBER_WORDS] = {0};

		CSEG_CALL(rel, cseg_cell_members(rows, rest & (~rest + 1), plane, &err));
		know(members, pg_rightmost_one_pos64(rest), plane);
	}
}

/* Keeps the bitsets of these slots too. What may raise comes before anything has a pin. */
static void
learn(Relation rel, const StoreCell *cell, CsegCell *rows, uint64 slots)
{
	StoreSharedCell *members = find(rel, cell, OF_MEMBERS);
	bool is_new;

	if (members && slots != ALL_SLOTS && pg_popcount64(members->known | slots) > MAX_PLANES)
	{
		cache_forget(&members->entry);
		members = NULL;
	}
	is_new = members == NULL;
	if (is_new)
		members = new_entry(rel, cell, OF_MEMBERS);
	if (slots == ALL_SLOTS)
		know_all(rel, members, rows);
	else
		know_few(rel, members, rows, slots);
	if (is_new)
		keep(members);
	else
	{
		cache_pin(&members->entry);
		cache_resize(&members->entry, 0);
	}
	cache_unpin(&members->entry);
}

static void
add_known(const StoreSharedCell *members, uint64 slots, uint64 *bits)
{
	for (uint64 rest = slots; rest != 0; rest &= rest - 1)
	{
		const uint64 *plane = members->planes[pg_rightmost_one_pos64(rest)];

		if (plane)
			cseg_bits_or(bits, plane);
	}
}

/* Nothing looks at invalidations once the rows are there, so what is found then needs no pin. */
void
store_cell_members(Relation rel, const StoreCell *cell, uint64 slots, uint64 *bits)
{
	StoreSharedCell *members;
	StoreSharedCell *rows;
	uint64 kept;
	bool fresh;

	start();
	members = find(rel, cell, OF_MEMBERS);
	if (members && (slots & ~members->known) == 0)
	{
		touch(members);
		add_known(members, slots, bits);
		return;
	}
	rows = find(rel, cell, OF_ROWS);
	fresh = rows == NULL || rows->cell == NULL;
	if (fresh)
	{
		rows = new_entry(rel, cell, OF_ROWS);
		set_cell(rows, store_read_cell(rel, cell, false));
	}
	else
		touch(rows);
	CSEG_CALL(rel, cseg_cell_members(rows->cell, slots, bits, &err));
	kept = worth_keeping(rel, rows->cell, slots);
	if (kept != 0)
		learn(rel, cell, rows->cell, kept);
	if (!fresh)
		return;
	/* Whoever asks for members of a table that is larger than the cache wants these to stay, not the rows. */
	if (kept == ALL_SLOTS || (kept != 0 && !has_room(cseg_cell_bytes(rows->cell))))
	{
		MemoryContextDelete(rows->entry.cxt);
		return;
	}
	keep(rows);
	cache_unpin(&rows->entry);
}

/* ---- taking and giving back ------------------------------------------------------------------------------------ */

StoreSharedCell *
store_share_cell(Relation rel, const StoreCell *cell)
{
	StoreSharedCell *s;

	start();
	s = find(rel, cell, OF_ROWS);
	if (s)
	{
		pin_decoded(rel, cell, s);
		return s;
	}
	s = new_entry(rel, cell, OF_ROWS);
	set_cell(s, store_read_cell(rel, cell, false));
	keep(s);
	return s;
}

bool
store_are_few_customers(uint16 low_first, uint16 low_last, uint32 n)
{
	return n <= FEW_CUSTOMERS && low_last - low_first <= FEW_RANGE;
}

static bool
is_wanted_often(const StoreSharedCell *s)
{
	return s->lookups >
		   (cache_used() + s->entry.bytes * DECODED_GROWTH <= cache_budget() ? MAX_LOOKUPS : MAX_LOOKUPS_CROWDED);
}

StoreSharedCell *
store_share_customers(Relation rel, const StoreCell *cell, const uint16 *low, int n)
{
	StoreSharedCell *kept;
	StoreSharedCell *s;

	if (!store_are_few_customers(low[0], low[n - 1], (uint32) n))
		return store_share_cell(rel, cell);
	start();
	kept = find(rel, cell, OF_ROWS);
	if (kept)
		kept->lookups++;
	if (kept && (kept->cell || is_wanted_often(kept)))
		return store_share_cell(rel, cell);
	if (kept)
		cache_pin(&kept->entry);
	else
		kept = keep_bytes(rel, cell);
	s = new_entry(rel, cell, OF_ROWS);
	s->of_few = true;
	set_cell(s, cell_read(rel, cell, kept->bytes, low[0], low[n - 1], false));
	cache_keep_private(&s->entry);
	cache_unpin(&kept->entry);
	return s;
}

bool
store_shared_whole(const StoreSharedCell *shared)
{
	return !shared->of_few;
}

CsegCell *
store_shared_cell(const StoreSharedCell *shared)
{
	return shared->cell;
}

void
store_unpin_cell(void *shared)
{
	cache_unpin(&((StoreSharedCell *) shared)->entry);
}
