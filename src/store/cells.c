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
 * A cell that is asked who its members are is kept as a bitset for each slot, where that takes much less room. Sets of
 * millions of customers are then found again, though their rows would not fit.
 */
#include "postgres.h"

#include "common/hashfn.h"
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

/* Bitsets are kept instead of rows that take more than so many times their room. */
#define PLANES_GAIN 2
#define PLANE_BYTES (sizeof(uint64) * CSEG_MEMBER_WORDS)

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
	bool of_few;        /* holds only the customers that were asked for, for sure */
	uint64 plane_slots; /* of members: slots that have some */
	uint64 *planes;     /* and their bitsets, one behind the other */
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

/* The bitsets of a cell as an entry, or NULL where its rows take little more room. */
static StoreSharedCell *
new_members(Relation rel, const StoreCell *cell, CsegCell *rows)
{
	Size most = cseg_cell_bytes(rows) / PLANES_GAIN;
	StoreSharedCell *s;
	uint64 *all;
	uint64 slots = 0;
	int n = 0;

	if (most < PLANE_BYTES)
		return NULL;
	all = palloc(PLANE_BYTES * CSEG_SLOTS);
	CSEG_CALL(rel, cseg_cell_planes(rows, all, &err));
	for (int slot = 0; slot < CSEG_SLOTS; slot++)
	{
		if (cseg_bits_count(all + (Size) slot * CSEG_MEMBER_WORDS) == 0)
			continue;
		slots |= UINT64CONST(1) << slot;
		if (n < slot)
			memcpy(all + (Size) n * CSEG_MEMBER_WORDS, all + (Size) slot * CSEG_MEMBER_WORDS, PLANE_BYTES);
		n++;
	}
	if (PLANE_BYTES * n > most)
	{
		pfree(all);
		return NULL;
	}
	s = new_entry(rel, cell, OF_MEMBERS);
	s->plane_slots = slots;
	s->planes = MemoryContextAlloc(s->entry.cxt, Max(PLANE_BYTES * n, 1));
	memcpy(s->planes, all, PLANE_BYTES * n);
	pfree(all);
	return s;
}

/* With a pin. */
static StoreSharedCell *
share_members(Relation rel, const StoreCell *cell)
{
	StoreSharedCell *s = find(rel, cell, OF_MEMBERS);
	StoreSharedCell *members;

	if (s == NULL)
	{
		s = find(rel, cell, OF_ROWS);
		if (s && s->cell == NULL)
			s = NULL;
	}
	if (s)
	{
		cache_pin(&s->entry);
		return s;
	}
	s = new_entry(rel, cell, OF_ROWS);
	set_cell(s, store_read_cell(rel, cell, false));
	members = new_members(rel, cell, s->cell);
	if (members)
	{
		MemoryContextDelete(s->entry.cxt);
		s = members;
	}
	keep(s);
	return s;
}

static void
add_planes(const StoreSharedCell *s, uint64 slots, uint64 *bits)
{
	const uint64 *plane = s->planes;

	for (uint64 rest = s->plane_slots; rest != 0; rest &= rest - 1, plane += CSEG_MEMBER_WORDS)
		if (slots & rest & (~rest + 1))
			cseg_bits_or(bits, plane);
}

void
store_cell_members(Relation rel, const StoreCell *cell, uint64 slots, uint64 *bits)
{
	StoreSharedCell *s;
	CsegCode code = CSEG_OK;
	CsegError err;

	start();
	s = share_members(rel, cell);
	if (s->kind == OF_MEMBERS)
		add_planes(s, slots, bits);
	else
		code = cseg_cell_members(s->cell, slots, bits, &err);
	cache_unpin(&s->entry);
	if (code != CSEG_OK)
		store_core_error(&err, rel);
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
