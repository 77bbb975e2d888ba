/*
 * rowlog.c
 *    Row versions of this transaction, for relations with AFTER ROW triggers or transition tables.
 *
 * Those fetch OLD and NEW by address after the fact, and an address of ours does not change with the row. So each
 * change of a row on such a relation is an entry here, named by a handle: an address with the top bit of the block set.
 *
 *    block  1 e e e ... (entry number >> 11)     offset  (entry number & 2047) + 1
 *
 * Entries live to the end of the transaction, for deferred triggers; those of an aborted subtransaction go. Their
 * numbers are never given out again: a handle that was kept from there names nothing, and no other row.
 */
#include "am/am.h"

#include "commands/trigger.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/reltrigger.h"

#define OFFSET_BITS 11
#define NO_ENTRY PG_UINT32_MAX
#define MAX_ENTRIES (PG_UINT32_MAX / 2)
/* The last block that a handle could have is InvalidBlockNumber. */
#define MAX_NUMBERS ((uint64) (AM_HANDLE_BIT - 1) << OFFSET_BITS)

typedef struct LogEntry
{
	uint64 number;    /* that the handle tells; rises with the entries, and has gaps where some were taken back */
	AmAddress addr;   /* of this version; of a deletion: of the row that went */
	bool has_address; /* an insert's is not known before it is written */
	HeapTuple old;    /* before the first change in this transaction, else NULL */
	HeapTuple row;    /* NULL: deleted */
	CommandId cid;
	uint32 previous;   /* entry of the version before, or NO_ENTRY */
	uint32 next;       /* entry of the version after, or NO_ENTRY */
	uint32 key_before; /* what the address index said before this entry */
	bool indexed;
} LogEntry;

typedef struct AddressEntry
{
	AmAddress addr; /* key */
	uint32 first;
	uint32 last;
} AddressEntry;

typedef struct SubStart
{
	SubTransactionId subid;
	uint32 n;
} SubStart;

struct AmRowLog
{
	MemoryContext cxt;
	uint32 n;
	uint32 cap;
	LogEntry *entries;
	uint64 next_number;
	HTAB *by_address;
	uint32 addressed; /* entries before this have an address, or never will */
	int n_starts;
	int cap_starts;
	SubStart *starts;
};

bool
am_log_wanted(Relation rel)
{
	TriggerDesc *t = rel->trigdesc;

	return t && (t->trig_insert_after_row || t->trig_update_after_row || t->trig_delete_after_row ||
				 t->trig_insert_new_table || t->trig_update_old_table || t->trig_update_new_table ||
				 t->trig_delete_old_table);
}

AmRowLog *
am_log_new(MemoryContext parent)
{
	MemoryContext cxt = AllocSetContextCreate(parent, "customer_segmentation row versions", ALLOCSET_DEFAULT_SIZES);
	AmRowLog *log = MemoryContextAllocZero(cxt, sizeof(AmRowLog));
	HASHCTL ctl = {.keysize = sizeof(AmAddress), .entrysize = sizeof(AddressEntry), .hcxt = cxt};

	log->cxt = cxt;
	log->by_address =
		hash_create("customer_segmentation row versions", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	return log;
}

bool
am_log_empty(const AmRowLog *log)
{
	return log->n == 0;
}

static void
set_handle(const AmRowLog *log, uint32 n, ItemPointer tid)
{
	uint64 number = log->entries[n].number;

	ItemPointerSet(tid, AM_HANDLE_BIT | (BlockNumber) (number >> OFFSET_BITS),
				   (OffsetNumber) ((number & ((1 << OFFSET_BITS) - 1)) + 1));
}

static uint32
entry_of(const AmRowLog *log, const ItemPointerData *tid)
{
	BlockNumber block = ItemPointerGetBlockNumberNoCheck(tid);
	OffsetNumber offset = ItemPointerGetOffsetNumberNoCheck(tid);
	uint64 number;
	uint32 lo = 0;
	uint32 hi = log->n;

	if (offset == 0 || offset > (1 << OFFSET_BITS))
		return NO_ENTRY;
	number = ((uint64) (block & ~AM_HANDLE_BIT) << OFFSET_BITS) | (offset - 1);
	/* As long as nothing was taken back, the numbers have no gaps. */
	if (number < log->n && log->entries[number].number == number)
		return (uint32) number;
	while (lo < hi)
	{
		uint32 mid = lo + (hi - lo) / 2;

		if (log->entries[mid].number < number)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < log->n && log->entries[lo].number == number ? lo : NO_ENTRY;
}

HeapTuple
am_log_row(AmRowLog *log, ItemPointer tid)
{
	uint32 n = entry_of(log, tid);

	return n == NO_ENTRY ? NULL : log->entries[n].row;
}

/* Zeroed, since it is a hash key with padding. */
static AmAddress
key(const AmAddress *addr)
{
	AmAddress k;

	memset(&k, 0, sizeof(k));
	k.cell_no = addr->cell_no;
	k.slot = addr->slot;
	k.low = addr->low;
	return k;
}

static LogEntry *
append(AmRowLog *log)
{
	if (log->n == log->cap)
	{
		log->cap = log->cap ? log->cap * 2 : 256;
		log->entries = log->entries ? repalloc_huge(log->entries, sizeof(LogEntry) * (Size) log->cap)
									: MemoryContextAlloc(log->cxt, sizeof(LogEntry) * log->cap);
	}
	if (log->n >= MAX_ENTRIES || log->next_number >= MAX_NUMBERS)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("too many row changes for AFTER triggers in one transaction")));
	memset(&log->entries[log->n], 0, sizeof(LogEntry));
	log->entries[log->n].number = log->next_number++;
	log->entries[log->n].previous = NO_ENTRY;
	log->entries[log->n].next = NO_ENTRY;
	return &log->entries[log->n++];
}

static HeapTuple
copy_row(AmRowLog *log, TupleTableSlot *slot)
{
	MemoryContext old = MemoryContextSwitchTo(log->cxt);
	HeapTuple tuple = slot ? ExecCopySlotHeapTuple(slot) : NULL;

	MemoryContextSwitchTo(old);
	return tuple;
}

static void
index_entry(AmRowLog *log, uint32 n, const AmAddress *addr)
{
	AmAddress k = key(addr);
	bool found;
	AddressEntry *a = hash_search(log->by_address, &k, HASH_ENTER, &found);

	log->entries[n].addr = k;
	log->entries[n].has_address = true;
	log->entries[n].indexed = true;
	log->entries[n].key_before = found ? a->last : NO_ENTRY;
	if (!found)
		a->first = n;
	a->last = n;
}

static uint32
latest_of(AmRowLog *log, const AmAddress *addr)
{
	AmAddress k = key(addr);
	AddressEntry *a = hash_search(log->by_address, &k, HASH_FIND, NULL);

	return a ? a->last : NO_ENTRY;
}

static bool
same_address(const AmAddress *a, const AmAddress *b)
{
	return a->cell_no == b->cell_no && a->slot == b->slot && a->low == b->low;
}

/* The entry for what happens at `before`; row NULL: the row leaves it. */
static uint32
log_at(AmRowLog *log, const AmAddress *before, TupleTableSlot *old, TupleTableSlot *row, CommandId cid)
{
	uint32 previous = latest_of(log, before);
	HeapTuple old_copy = previous != NO_ENTRY && log->entries[previous].row ? NULL : copy_row(log, old);
	HeapTuple row_copy = copy_row(log, row);
	LogEntry *e = append(log);
	uint32 n = log->n - 1;

	e->cid = cid;
	e->old = old_copy;
	e->row = row_copy;
	e->previous = old_copy ? NO_ENTRY : previous;
	if (e->previous != NO_ENTRY)
		log->entries[previous].next = n;
	index_entry(log, n, before);
	return n;
}

/* A row that moves to another address leaves one entry where it was and one where it goes. */
void
am_log_change(AmRowLog *log, Relation rel, const AmAddress *before, TupleTableSlot *old, const AmAddress *after,
			  TupleTableSlot *new_row, CommandId cid, ItemPointer handle)
{
	bool stays = before && after && same_address(before, after);
	HeapTuple row_copy;
	LogEntry *e;

	if (before)
	{
		uint32 n = log_at(log, before, old, stays ? new_row : NULL, cid);

		if (stays || new_row == NULL)
		{
			set_handle(log, n, handle);
			return;
		}
	}
	row_copy = copy_row(log, new_row);
	e = append(log);
	e->cid = cid;
	e->row = row_copy;
	if (after)
		index_entry(log, log->n - 1, after);
	set_handle(log, log->n - 1, handle);
}

bool
am_log_has_unaddressed(const AmRowLog *log)
{
	return log->addressed < log->n;
}

void
am_log_address_inserts(AmRowLog *log, CommandId before, bool (*locate)(void *arg, HeapTuple row, AmAddress *addr),
					   void *arg)
{
	uint32 n;

	for (n = log->addressed; n < log->n && log->entries[n].cid < before; n++)
	{
		AmAddress addr;

		if (log->entries[n].has_address || log->entries[n].row == NULL || !locate(arg, log->entries[n].row, &addr))
			continue;
		index_entry(log, n, &addr);
	}
	log->addressed = n;
}

static void
store_version(HeapTuple tuple, const ItemPointerData *tid, TupleTableSlot *slot)
{
	ExecForceStoreHeapTuple(tuple, slot, false);
	ExecMaterializeSlot(slot);
	slot->tts_tid = *tid;
	if (slot->tts_ops == &am_slot_ops)
		((AmSlot *) slot)->xmin = GetTopTransactionIdIfAny();
}

bool
am_log_fetch(AmRowLog *log, Relation rel, ItemPointer tid, TupleTableSlot *slot)
{
	uint32 n = entry_of(log, tid);

	if (n == NO_ENTRY || log->entries[n].row == NULL)
		return false;
	store_version(log->entries[n].row, tid, slot);
	slot->tts_tableOid = RelationGetRelid(rel);
	return true;
}

/* Does a snapshot that sees the commands before this one see this version, rather than none or a later one? */
static bool
is_seen(const AmRowLog *log, uint32 n, CommandId before)
{
	const LogEntry *e = &log->entries[n];

	return e->row && e->cid < before && (e->next == NO_ENTRY || log->entries[e->next].cid >= before);
}

bool
am_log_fetch_seen(AmRowLog *log, Relation rel, ItemPointer tid, CommandId before, TupleTableSlot *slot)
{
	uint32 n = entry_of(log, tid);

	return n != NO_ENTRY && is_seen(log, n, before) && am_log_fetch(log, rel, tid, slot);
}

/* Of a row that has left its address, this is the address: whoever knows where it went goes on from there. */
bool
am_log_latest(AmRowLog *log, ItemPointer tid, CommandId before, AmAddress *left)
{
	uint32 n = entry_of(log, tid);
	const LogEntry *e;

	if (n == NO_ENTRY)
		return false;
	for (e = &log->entries[n]; e->next != NO_ENTRY && log->entries[e->next].cid < before; e = &log->entries[n])
		n = e->next;
	set_handle(log, n, tid);
	if (e->row || !e->has_address)
		return false;
	*left = e->addr;
	return true;
}

bool
am_log_fetch_first(AmRowLog *log, const AmAddress *addr, TupleTableSlot *slot, bool *exists)
{
	AmAddress k = key(addr);
	AddressEntry *a = hash_search(log->by_address, &k, HASH_FIND, NULL);
	LogEntry *e;
	ItemPointerData tid;
	Oid relid = slot->tts_tableOid;

	if (a == NULL)
		return false;
	e = &log->entries[a->first];
	*exists = e->old != NULL;
	if (e->old == NULL)
		return false;
	am_set_tid(&tid, addr->cell_no, addr->slot, addr->low);
	store_version(e->old, &tid, slot);
	slot->tts_tableOid = OidIsValid(e->old->t_tableOid) ? e->old->t_tableOid : relid;
	return true;
}

bool
am_log_resolve(AmRowLog *log, ItemPointer tid, AmAddress *addr, bool *has_address, bool *latest, CommandId *cid)
{
	uint32 n = entry_of(log, tid);
	LogEntry *e;

	if (n == NO_ENTRY)
		return false;
	e = &log->entries[n];
	*addr = e->addr;
	*has_address = e->has_address;
	*latest = e->next == NO_ENTRY && e->row != NULL;
	*cid = e->next == NO_ENTRY ? e->cid : log->entries[e->next].cid;
	return true;
}

/* The newest version that a snapshot of the given command sees, if the log has one: its handle replaces the address. */
bool
am_log_handle_for(AmRowLog *log, const AmAddress *addr, CommandId before, ItemPointer handle)
{
	uint32 n = latest_of(log, addr);

	while (n != NO_ENTRY && log->entries[n].cid >= before)
		n = log->entries[n].key_before;
	if (n == NO_ENTRY || log->entries[n].row == NULL)
		return false;
	set_handle(log, n, handle);
	return true;
}

/* ---- subtransactions ------------------------------------------------------------------------------------------------
 */

void
am_log_subxact_start(AmRowLog *log, SubTransactionId subid)
{
	if (log->n_starts == log->cap_starts)
	{
		log->cap_starts = log->cap_starts ? log->cap_starts * 2 : 8;
		log->starts = log->starts ? repalloc(log->starts, sizeof(SubStart) * log->cap_starts)
								  : MemoryContextAlloc(log->cxt, sizeof(SubStart) * log->cap_starts);
	}
	log->starts[log->n_starts++] = (SubStart){subid, log->n};
}

static void
take_back(AmRowLog *log, uint32 n)
{
	LogEntry *e = &log->entries[n];

	if (e->previous != NO_ENTRY && log->entries[e->previous].next == n)
		log->entries[e->previous].next = NO_ENTRY;
	if (e->indexed)
	{
		AddressEntry *a = hash_search(log->by_address, &e->addr, HASH_FIND, NULL);

		if (a && a->last == n && e->key_before != NO_ENTRY)
			a->last = e->key_before;
		else if (a && a->last == n)
			hash_search(log->by_address, &e->addr, HASH_REMOVE, NULL);
	}
	if (e->old)
		heap_freetuple(e->old);
	if (e->row)
		heap_freetuple(e->row);
}

/* A log that was made within the subtransaction has no start noted: all of it goes. */
void
am_log_subxact_abort(AmRowLog *log, SubTransactionId subid)
{
	uint32 keep = 0;

	while (log->n_starts > 0 && log->starts[log->n_starts - 1].subid > subid)
		log->n_starts--;
	if (log->n_starts > 0 && log->starts[log->n_starts - 1].subid == subid)
		keep = log->starts[--log->n_starts].n;
	while (log->n > keep)
		take_back(log, --log->n);
	log->addressed = Min(log->addressed, log->n);
}

void
am_log_subxact_commit(AmRowLog *log, SubTransactionId subid, SubTransactionId parent)
{
	while (log->n_starts > 0 && log->starts[log->n_starts - 1].subid >= subid)
		log->n_starts--;
}
