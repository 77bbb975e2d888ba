/*
 * write.c
 *    What a transaction knows about the relations that it writes: locks, newest state, buffers, and when buffers are
 *    written out.
 */
#include "am/changes.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_publication.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/predicate.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat/compat.h"

#define MAX_SEGMENT_LOCKS 256
#define ROWS_BETWEEN_CHECKS 1024
#define LONG_ROW_BYTES 256 /* counts as one more row between checks */
#define ROWS_TO_LOOK_UP 16384
#define MOVES_LIMIT_FACTOR 8
#define STAGED_ROW_BYTES 32
#define MAX_STAGED_BYTES (16 * 1024 * 1024)

int am_write_buffer_kb = 131072;

static WriteRel *rels = NULL;

typedef struct SegmentLock
{
	uint32 hash; /* key */
	LOCKMODE mode;
	SubTransactionId subid;
} SegmentLock;

typedef struct Accepted
{
	ItemPointerData tid; /* key */
	CommandId cid;
} Accepted;

typedef struct InstanceEntry
{
	uint64 hash; /* key */
	InstanceRef *first;
} InstanceEntry;

typedef struct NameEntry
{
	uint32 hash; /* key */
	InstanceRef *first;
} NameEntry;

typedef struct GroupEntry
{
	uint64 hash; /* key */
	WriteGroup *first;
	WriteGroup *last;
} GroupEntry;

/* ---- relations of this transaction --------------------------------------------------------------------------- */

static HTAB *
new_table(MemoryContext cxt, const char *name, Size keysize, Size entrysize)
{
	HASHCTL ctl = {.keysize = keysize, .entrysize = entrysize, .hcxt = cxt};

	return hash_create(name, 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/*
 * Naming a table in a publication is refused, but nothing can be refused when FOR ALL TABLES or a schema's publication
 * comes to cover it: then the first write of a session says so.
 */
static void
warn_if_published(Relation rel)
{
	static List *warned = NIL;
	PublicationDesc desc;
	MemoryContext old;

	if (!RelationNeedsWAL(rel) || !is_publishable_relation(rel) || list_member_oid(warned, RelationGetRelid(rel)))
		return;
	RelationBuildPublicationDesc(rel, &desc);
	if (!desc.pubactions.pubinsert && !desc.pubactions.pubupdate && !desc.pubactions.pubdelete)
		return;
	old = MemoryContextSwitchTo(TopMemoryContext);
	warned = lappend_oid(warned, RelationGetRelid(rel));
	MemoryContextSwitchTo(old);
	ereport(WARNING, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					  errmsg("changes of relation \"%s\" are not published", RelationGetRelationName(rel)),
					  errdetail("A publication covers it, but rows of access method \"customer_segmentation\" are not "
								"decoded from the WAL."),
					  errhint("Use physical replication, or copy instances with COPY.")));
}

static WriteRel *
new_write_rel(Relation rel)
{
	MemoryContext cxt =
		AllocSetContextCreate(TopTransactionContext, "customer_segmentation writes", ALLOCSET_DEFAULT_SIZES);
	WriteRel *wr = MemoryContextAllocZero(cxt, sizeof(WriteRel));

	wr->cxt = cxt;
	wr->row_cxt = AllocSetContextCreate(cxt, "customer_segmentation row", ALLOCSET_SMALL_SIZES);
	wr->relid = RelationGetRelid(rel);
	wr->relnode = compat_relnumber(rel);
	wr->locks = new_table(cxt, "customer_segmentation locks", sizeof(uint32), sizeof(SegmentLock));
	wr->accepted = new_table(cxt, "customer_segmentation locked rows", sizeof(ItemPointerData), sizeof(Accepted));
	wr->next = rels;
	rels = wr;
	warn_if_published(rel);
	return wr;
}

WriteRel *
write_rel(Relation rel, bool create)
{
	for (WriteRel *wr = rels; wr; wr = wr->next)
	{
		if (wr->relid == RelationGetRelid(rel) && wr->relnode == compat_relnumber(rel))
			return wr;
	}
	return create ? new_write_rel(rel) : NULL;
}

void
write_forget_newest(WriteRel *wr)
{
	am_reader_free(wr->newest);
	wr->newest = NULL;
}

static void drop_buffer(WriteRel *wr, WriteBuffer *buf);

void
write_forget_all(WriteRel *wr)
{
	while (wr->buffers)
		drop_buffer(wr, wr->buffers);
	write_forget_newest(wr);
	wr->dict = NULL;
	wr->log = NULL;
	wr->moves = NULL;
}

/*
 * Valid as long as nobody else can write what is locked: until we lock more, write, or work for another command. When
 * we have locked more, what others did before shows in the pages: a statement may lock hundreds of segments.
 */
AmReader *
write_newest(WriteRel *wr, Relation rel, CommandId cid)
{
	if (wr->newest && wr->newest_epoch == am_epoch() && wr->newest_cid == cid &&
		(wr->newest_locks == wr->locks_version || store_view_is_newest(rel, wr->newest->view)))
	{
		wr->newest_locks = wr->locks_version;
		return wr->newest;
	}
	write_forget_newest(wr);
	wr->newest = am_reader_newest(rel, cid, wr->cxt);
	wr->newest_epoch = am_epoch();
	wr->newest_cid = cid;
	wr->newest_locks = wr->locks_version;
	return wr->newest;
}

/* ---- locks --------------------------------------------------------------------------------------------------- */

/*
 * Object locks under the relation's own OID as class: no catalog has such an OID, so they meet nobody else's. Object 0
 * stands for the whole table: writers share it, whoever writes more segments than fit the lock table, or replaces the
 * dictionary, has it alone.
 */
static bool
acquire(Oid relid, uint32 object, uint16 sub, LOCKMODE mode, bool conditional)
{
	LOCKTAG tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, relid, object, sub);
	return LockAcquire(&tag, mode, false, conditional) != LOCKACQUIRE_NOT_AVAIL;
}

static bool
lock_table(WriteRel *wr, LOCKMODE mode, bool conditional)
{
	if (wr->table_lock >= mode)
		return true;
	if (!acquire(wr->relid, 0, 1, mode, conditional))
		return false;
	wr->table_lock = mode;
	wr->table_lock_subid = GetCurrentSubTransactionId();
	wr->locks_version++;
	return true;
}

void
write_lock_all(WriteRel *wr)
{
	(void) lock_table(wr, ExclusiveLock, false);
}

bool
write_lock_segment(WriteRel *wr, Relation rel, const text *segment_id, LOCKMODE mode, bool conditional)
{
	uint32 hash = store_text_hash(segment_id);
	SegmentLock *lock;
	bool found;

	if (wr->table_lock == ExclusiveLock)
		return true;
	lock = hash_search(wr->locks, &hash, HASH_FIND, NULL);
	if (lock && lock->mode >= mode)
		return true;
	if (!lock_table(wr, RowExclusiveLock, conditional))
		return false;
	if (lock == NULL && hash_get_num_entries(wr->locks) >= MAX_SEGMENT_LOCKS)
		return lock_table(wr, ExclusiveLock, conditional);
	if (!acquire(wr->relid, hash, 0, mode, conditional))
		return false;
	lock = hash_search(wr->locks, &hash, HASH_ENTER, &found);
	lock->mode = mode;
	lock->subid = GetCurrentSubTransactionId();
	wr->locks_version++;
	return true;
}

static bool
has_locked(WriteRel *wr, const text *segment_id)
{
	uint32 hash = store_text_hash(segment_id);
	SegmentLock *lock = hash_search(wr->locks, &hash, HASH_FIND, NULL);

	return wr->table_lock == ExclusiveLock || (lock && lock->mode == ExclusiveLock);
}

void
write_accept(WriteRel *wr, const ItemPointerData *tid, CommandId cid)
{
	bool found;
	Accepted *a = hash_search(wr->accepted, tid, HASH_ENTER, &found);

	a->cid = cid;
}

bool
write_accepted_by(WriteRel *wr, const ItemPointerData *tid, CommandId *cid)
{
	Accepted *a = hash_search(wr->accepted, tid, HASH_FIND, NULL);

	if (a)
		*cid = a->cid;
	return a != NULL;
}

bool
write_accepted(WriteRel *wr, const ItemPointerData *tid, CommandId cid)
{
	Accepted *a = hash_search(wr->accepted, tid, HASH_FIND, NULL);

	return a && a->cid == cid;
}

/* ---- buffers --------------------------------------------------------------------------------------------------- */

/* At an abort: a temporary file goes with its resource owner. */
static void
free_buffer(WriteRel *wr, WriteBuffer *buf)
{
	WriteBuffer **link = &wr->buffers;

	while (*link != buf)
		link = &(*link)->next;
	*link = buf->next;
	MemoryContextDelete(buf->cxt);
}

static void
drop_buffer(WriteRel *wr, WriteBuffer *buf)
{
	changes_close_file(buf);
	free_buffer(wr, buf);
}

static WriteBuffer *
new_buffer(WriteRel *wr, CommandId cid)
{
	MemoryContext cxt = AllocSetContextCreate(wr->cxt, "customer_segmentation write buffer", ALLOCSET_DEFAULT_SIZES);
	WriteBuffer *buf = MemoryContextAllocZero(cxt, sizeof(WriteBuffer));

	buf->cxt = cxt;
	buf->subid = GetCurrentSubTransactionId();
	buf->cid = cid;
	buf->owner = store_owner_new(cxt, cseg_batch_free);
	buf->instances = new_table(cxt, "customer_segmentation instances", sizeof(uint64), sizeof(InstanceEntry));
	buf->names = new_table(cxt, "customer_segmentation names", sizeof(uint32), sizeof(NameEntry));
	buf->by_dims = new_table(cxt, "customer_segmentation groups", sizeof(uint64), sizeof(GroupEntry));
	CSEG_CALL(NULL, cseg_batch_new(&buf->batch, &err));
	store_owner_set(buf->owner, buf->batch);
	buf->next = wr->buffers;
	wr->buffers = buf;
	return buf;
}

WriteBuffer *
write_buffer(WriteRel *wr, Relation rel, CommandId cid)
{
	SubTransactionId subid = GetCurrentSubTransactionId();

	for (WriteBuffer *buf = wr->buffers; buf; buf = buf->next)
	{
		if (buf->cid == cid && buf->subid == subid)
			return buf;
	}
	return new_buffer(wr, cid);
}

static uint64
group_hash(const StoreGroupDims *g)
{
	uint64 h = store_text_hash(g->segment_id);

	h = hash_combine64(h, g->segment_name ? store_text_hash(g->segment_name) : 1);
	h = hash_combine64(h, g->segment_by ? store_text_hash(g->segment_by) : 2);
	h = hash_combine64(h, g->schedule ? store_text_hash(g->schedule) : 3);
	return hash_combine64(h, g->has_segment_created ? (uint64) g->segment_created_date : 4);
}

static uint64
dims_hash(const StoreGroupDims *g, const StoreInstanceDims *i)
{
	uint64 h = hash_combine64(group_hash(g), store_text_hash(i->segment_instance_id));

	return hash_combine64(h, (uint64) i->instance_created_date);
}

static bool
ref_matches(const InstanceRef *ref, const StoreGroupDims *g, const StoreInstanceDims *i)
{
	return ref->dims.instance_created_date == i->instance_created_date &&
		   store_text_equal(ref->dims.segment_instance_id, i->segment_instance_id) &&
		   store_group_dims_equal(&ref->group->dims, g);
}

/* The first of the buffer's groups whose dimensions have the same hash. */
static WriteGroup *
first_of_dims(const WriteBuffer *buf, const StoreGroupDims *dims)
{
	uint64 hash = group_hash(dims);
	GroupEntry *entry = hash_search(buf->by_dims, &hash, HASH_FIND, NULL);

	return entry ? entry->first : NULL;
}

static WriteGroup *
add_group(WriteBuffer *buf, const StoreGroupDims *dims)
{
	uint64 hash = group_hash(dims);
	WriteGroup *group = palloc0(sizeof(WriteGroup));
	bool found;
	GroupEntry *entry;

	if (buf->n_groups == buf->cap_groups)
	{
		buf->cap_groups = buf->cap_groups ? buf->cap_groups * 2 : 16;
		buf->groups = buf->groups ? repalloc(buf->groups, sizeof(WriteGroup *) * buf->cap_groups)
								  : palloc(sizeof(WriteGroup *) * buf->cap_groups);
	}
	group->index = (uint32) buf->n_groups;
	group->dims = store_group_dims_copy(dims);
	buf->groups[buf->n_groups++] = group;
	entry = hash_search(buf->by_dims, &hash, HASH_ENTER, &found);
	if (found)
		entry->last->same_dims = group;
	else
		entry->first = group;
	entry->last = group;
	return group;
}

WriteGroup *
write_find_group(WriteBuffer *buf, const StoreGroupDims *dims, uint32 group_no)
{
	/* Rows mostly come group by group. */
	if (buf->found && buf->found->group_no == group_no)
		return buf->found;
	for (WriteGroup *group = first_of_dims(buf, dims); group; group = group->same_dims)
		if (group->exists && group->group_no == group_no)
			return buf->found = group;
	return NULL;
}

static WriteGroup *
existing_group(WriteBuffer *buf, const StoreGroup *sg)
{
	WriteGroup *group = write_find_group(buf, &sg->dims, sg->group_no);

	if (group)
		return group;
	group = add_group(buf, &sg->dims);
	group->exists = true;
	group->group_no = sg->group_no;
	group->used_slots = sg->used_slots | sg->live_slots;
	return group;
}

static void
add_name(WriteBuffer *buf, InstanceRef *ref)
{
	uint32 hash = store_text_hash(ref->dims.segment_instance_id);
	bool found;
	NameEntry *entry = hash_search(buf->names, &hash, HASH_ENTER, &found);

	ref->same_name = found ? entry->first : NULL;
	entry->first = ref;
}

static InstanceRef *
add_ref(WriteBuffer *buf, WriteGroup *group, int slot, const StoreInstanceDims *dims, bool exists)
{
	uint64 hash = dims_hash(&group->dims, dims);
	InstanceRef *ref = palloc0(sizeof(InstanceRef));
	bool found;
	InstanceEntry *entry;

	ref->group = group;
	ref->slot = (uint8) slot;
	ref->exists = exists;
	ref->dims = *dims;
	ref->dims.segment_instance_id = (text *) PG_DETOAST_DATUM_COPY(PointerGetDatum(dims->segment_instance_id));
	entry = hash_search(buf->instances, &hash, HASH_ENTER, &found);
	ref->next = found ? entry->first : NULL;
	entry->first = ref;
	add_name(buf, ref);
	group->refs[slot] = ref;
	group->used_slots |= UINT64CONST(1) << slot;
	return ref;
}

WriteGroup *
write_existing_group(WriteBuffer *buf, const StoreGroup *sg)
{
	MemoryContext old = MemoryContextSwitchTo(buf->cxt);
	WriteGroup *group = existing_group(buf, sg);

	MemoryContextSwitchTo(old);
	return group;
}

InstanceRef *
write_existing_instance(WriteBuffer *buf, const StoreInstance *inst)
{
	MemoryContext old = MemoryContextSwitchTo(buf->cxt);
	WriteGroup *group = existing_group(buf, inst->group);
	InstanceRef *ref = group->refs[inst->slot];

	if (ref == NULL)
		ref = add_ref(buf, group, inst->slot, &inst->dims, true);
	MemoryContextSwitchTo(old);
	return ref;
}

typedef struct FreeSlots
{
	StoreFreeSlots *slots;
	int n;
	int cap;
} FreeSlots;

static void
add_free_slot(FreeSlots *free, StoreFreeSlots slot)
{
	if (free->n == free->cap)
	{
		free->cap = Max(free->cap * 2, 8);
		free->slots = free->slots ? repalloc(free->slots, sizeof(StoreFreeSlots) * free->cap)
								  : palloc(sizeof(StoreFreeSlots) * free->cap);
	}
	free->slots[free->n++] = slot;
}

/* The next instance of another segment under this name; *at as for store_find_instance. */
static StoreInstance *
next_foreign(Relation rel, StoreView *view, const StoreClaim *claim, int *at)
{
	StoreInstance *inst;

	while ((inst = store_find_instance(view, claim->segment_instance_id, at)) != NULL)
	{
		if (store_text_equal(inst->group->dims.segment_id, claim->segment_id))
			continue;
		store_view_rows(rel, view);
		return inst;
	}
	return NULL;
}

/*
 * Instances without rows that other segments have under this name: the name is free all the same. One stays as long as
 * deltas must be kept that speak of it, which is while any older transaction runs. Their segments are locked, so that
 * they stay without rows. Returns whether another segment has one with rows.
 */
static bool
lock_free_slots(WriteRel *wr, Relation rel, CommandId cid, const StoreClaim *claim, FreeSlots *free)
{
	bool taken;
	uint64 locks;

	do
	{
		StoreView *view = write_newest(wr, rel, cid)->view;
		List *segments = NIL;
		StoreInstance *inst;
		ListCell *lc;

		locks = wr->locks_version;
		free->n = 0;
		taken = false;
		for (int at = -1; (inst = next_foreign(rel, view, claim, &at)) != NULL;)
		{
			taken |= inst->rows != 0;
			if (inst->rows != 0)
				continue;
			add_free_slot(free, (StoreFreeSlots){inst->group->group_no, inst->slot});
			segments = lappend(segments, PG_DETOAST_DATUM_COPY(PointerGetDatum(inst->group->dims.segment_id)));
		}
		/* What was seen before a lock was had may have changed. */
		foreach (lc, segments)
			write_lock_segment(wr, rel, lfirst(lc), ExclusiveLock, false);
		list_free_deep(segments);
	} while (locks != wr->locks_version);
	return taken;
}

static void
refuse_name(Relation rel, const StoreClaim *claim)
{
	/* As for duplicates: where a serialization failure explains it, that is what SERIALIZABLE reports. */
	CheckForSerializableConflictIn(rel, NULL, InvalidBlockNumber);
	ereport(ERROR, (errcode(ERRCODE_CHECK_VIOLATION),
					errmsg("segment instance \"%s\" of relation \"%s\" belongs to another segment",
						   text_to_cstring(claim->segment_instance_id), RelationGetRelationName(rel)),
					errdetail("The row gives it segment \"%s\".", text_to_cstring(claim->segment_id)),
					errhint("Use a segment_instance_id that starts with the segment's own id.")));
}

/* By a statement of this transaction that is not over yet. */
static bool
name_is_promised(const WriteRel *wr, const StoreClaim *claim)
{
	uint32 hash = store_text_hash(claim->segment_instance_id);

	for (const WriteBuffer *buf = wr->buffers; buf; buf = buf->next)
	{
		NameEntry *entry = hash_search(buf->names, &hash, HASH_FIND, NULL);

		for (const InstanceRef *ref = entry ? entry->first : NULL; ref; ref = ref->same_name)
			if (store_text_equal(ref->dims.segment_instance_id, claim->segment_instance_id) &&
				!store_text_equal(ref->group->dims.segment_id, claim->segment_id))
				return true;
	}
	return false;
}

/*
 * A segment_instance_id belongs to one segment. What is known now is refused now; what others write meanwhile is seen
 * when the instance's record is written (write_claim_names).
 */
static void
check_owner(WriteRel *wr, Relation rel, CommandId cid, const StoreGroupDims *g, const StoreInstanceDims *i)
{
	StoreClaim claim = {i->segment_instance_id, g->segment_id};
	FreeSlots free = {NULL, 0, 0};
	TransactionId wait_for;
	bool again = false;

	if (name_is_promised(wr, &claim))
		refuse_name(rel, &claim);
	while (lock_free_slots(wr, rel, cid, &claim, &free) &&
		   store_foreign_instance(rel, &claim, 1, free.slots, free.n, &wait_for) >= 0)
	{
		/* Whoever deletes it may not have ended yet, and what is known of other segments may be old. */
		if (TransactionIdIsValid(wait_for))
			XactLockTableWait(wait_for, rel, NULL, XLTW_None);
		else if (again)
			refuse_name(rel, &claim);
		write_forget_newest(wr);
		again = true;
	}
	if (free.slots)
		pfree(free.slots);
}

/*
 * Is a name free after all? Another transaction may have emptied the instance that has it since the newest state was
 * read, which the caller still needs. Adds what may be passed by.
 */
static bool
free_meanwhile(WriteRel *wr, Relation rel, const StoreClaim *claim, FreeSlots *free)
{
	AmReader *kept = wr->newest;
	FreeSlots more = {NULL, 0, 0};
	bool taken;

	wr->newest = NULL;
	taken = lock_free_slots(wr, rel, wr->newest_cid, claim, &more);
	for (int i = 0; i < more.n; i++)
		add_free_slot(free, more.slots[i]);
	if (more.slots)
		pfree(more.slots);
	write_forget_newest(wr);
	wr->newest = kept;
	return !taken;
}

void
write_claim_names(WriteRel *wr, Relation rel, StoreView *view, const StoreClaim *claims, int n)
{
	FreeSlots free = {NULL, 0, 0};
	StoreInstance *inst;
	int looked_at = -1;

	/* Free names whose segment is not locked may have got rows meanwhile. */
	for (int i = 0; i < n; i++)
		for (int at = -1; (inst = next_foreign(rel, view, &claims[i], &at)) != NULL;)
			if (inst->rows == 0 && has_locked(wr, inst->group->dims.segment_id))
				add_free_slot(&free, (StoreFreeSlots){inst->group->group_no, inst->slot});
	for (;;)
	{
		TransactionId wait_for;
		int taken;

		store_short_lock(rel);
		taken = n > 0 ? store_foreign_instance(rel, claims, n, free.slots, free.n, &wait_for) : -1;
		if (taken < 0)
			break;
		store_short_unlock(rel);
		if (TransactionIdIsValid(wait_for))
		{
			XactLockTableWait(wait_for, rel, NULL, XLTW_None);
			continue;
		}
		if (taken == looked_at || !free_meanwhile(wr, rel, &claims[taken], &free))
			refuse_name(rel, &claims[taken]);
		looked_at = taken;
	}
	if (free.slots)
		pfree(free.slots);
}

/*
 * Above READ COMMITTED a row of ours that refers to a record which our one snapshot does not see would be invisible to
 * ourselves, or worse.
 */
static bool
beyond_snapshot(const StoreRecord *rec)
{
	return IsolationUsesXactSnapshot() && !rec->deletable && !TransactionIdIsCurrentTransactionId(rec->xmin);
}

/* Replaced records of an instance that the snapshot knows are no matter: it is asked for the instance itself. */
static void
check_instance_seen(Relation rel, const StoreInstance *inst)
{
	AmReader *reader;
	StoreGroup *group;
	bool seen;

	if (!beyond_snapshot(inst->rec) && !beyond_snapshot(inst->group->rec))
		return;
	reader = am_reader_acquire(rel, GetActiveSnapshot());
	group = store_find_group(reader->view, inst->group->group_no);
	seen = group && group->instance[inst->slot] && store_group_dims_equal(&group->dims, &inst->group->dims) &&
		   store_text_equal(group->instance[inst->slot]->dims.segment_instance_id, inst->dims.segment_instance_id);
	am_reader_release(reader);
	if (!seen)
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						errmsg("could not serialize access due to concurrent update"),
						errdetail("Segment instance \"%s\" of relation \"%s\" was written by a concurrent transaction.",
								  text_to_cstring(inst->dims.segment_instance_id), RelationGetRelationName(rel))));
}

/*
 * Numbers of customers that a rewrite has given out since our one snapshot mean nobody, or somebody else, to the
 * dictionary that it sees.
 */
static void
check_dictionary_seen(Relation rel, const StoreView *newest)
{
	if (newest->dict_root && beyond_snapshot(newest->dict_root))
		ereport(
			ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE), errmsg("could not serialize access due to concurrent update"),
			 errdetail("Relation \"%s\" was rewritten by a concurrent transaction.", RelationGetRelationName(rel))));
}

static InstanceRef *
find_in_newest(Relation rel, WriteBuffer *buf, StoreView *view, const StoreGroupDims *g, const StoreInstanceDims *i,
			   bool *has_rows)
{
	StoreInstance *inst;

	for (int at = -1; (inst = store_find_instance(view, i->segment_instance_id, &at)) != NULL;)
	{
		if (inst->dims.instance_created_date != i->instance_created_date ||
			!store_group_dims_equal(&inst->group->dims, g))
			continue;
		check_instance_seen(rel, inst);
		store_view_rows(rel, view);
		*has_rows = inst->rows != 0;
		return write_existing_instance(buf, inst);
	}
	return NULL;
}

/*
 * Slots of a group that are in use, or promised: a statement that is not over yet, and has called the one that writes
 * now, has not written the instances that it gave slots to.
 */
static uint64
slots_in_use(const WriteRel *wr, const WriteBuffer *buf, const StoreView *view, const WriteGroup *group)
{
	const StoreGroup *sg = store_find_group(view, group->group_no);
	uint64 slots = sg ? sg->used_slots | sg->live_slots : 0;

	for (WriteBuffer *other = wr->buffers; other; other = other->next)
	{
		const WriteGroup *same = other != buf ? write_find_group(other, &group->dims, group->group_no) : NULL;

		if (same)
			slots |= same->used_slots;
	}
	return slots;
}

/* A group of these dimensions with a free slot: one that exists, one of the buffer's, or a new one. */
static WriteGroup *
group_with_room(const WriteRel *wr, WriteBuffer *buf, StoreView *view, const StoreGroupDims *g)
{
	StoreGroup *sg;

	for (int at = -1; (sg = store_find_segment(view, g->segment_id, &at)) != NULL;)
	{
		if ((sg->used_slots | sg->live_slots) == ~UINT64CONST(0) || !store_group_dims_equal(&sg->dims, g) ||
			beyond_snapshot(sg->rec))
			continue;
		existing_group(buf, sg);
	}
	for (WriteGroup *group = first_of_dims(buf, g); group; group = group->same_dims)
	{
		if (group->used_slots == ~UINT64CONST(0) || !store_group_dims_equal(&group->dims, g))
			continue;
		if (group->exists)
			group->used_slots |= slots_in_use(wr, buf, view, group);
		if (group->used_slots != ~UINT64CONST(0))
			return group;
	}
	return add_group(buf, g);
}

/*
 * Slots are handed out in rising order, so that neighbours in time are neighbours in the matrix: a slot freed in the
 * middle is used again only when none above is left.
 */
static int
free_slot(uint64 used)
{
	int top = used == 0 ? -1 : pg_leftmost_one_pos64(used);

	return top < CSEG_SLOTS - 1 ? top + 1 : pg_rightmost_one_pos64(~used);
}

static InstanceRef *
resolve_instance(WriteRel *wr, Relation rel, WriteBuffer *buf, const StoreGroupDims *g, const StoreInstanceDims *i)
{
	AmReader *newest;
	InstanceRef *ref;
	WriteGroup *group;
	MemoryContext old;
	bool has_rows;

	write_lock_segment(wr, rel, g->segment_id, ExclusiveLock, false);
	newest = write_newest(wr, rel, buf->cid);
	check_dictionary_seen(rel, newest->view);
	ref = find_in_newest(rel, buf, newest->view, g, i, &has_rows);
	if (ref && has_rows)
		return ref;
	/* The name of one that has no rows may have gone to another segment. */
	check_owner(wr, rel, buf->cid, g, i);
	if (ref)
		return ref;
	newest = write_newest(wr, rel, buf->cid);
	old = MemoryContextSwitchTo(buf->cxt);
	group = group_with_room(wr, buf, newest->view, g);
	ref = add_ref(buf, group, free_slot(group->used_slots), i, false);
	MemoryContextSwitchTo(old);
	return ref;
}

InstanceRef *
write_instance(WriteRel *wr, Relation rel, WriteBuffer *buf, const StoreGroupDims *g, const StoreInstanceDims *i)
{
	uint64 hash;
	InstanceEntry *entry;

	if (buf->last && ref_matches(buf->last, g, i))
		return buf->last;
	hash = dims_hash(g, i);
	entry = hash_search(buf->instances, &hash, HASH_FIND, NULL);
	for (InstanceRef *ref = entry ? entry->first : NULL; ref; ref = ref->next)
	{
		if (ref_matches(ref, g, i))
			return buf->last = ref;
	}
	return buf->last = resolve_instance(wr, rel, buf, g, i);
}

/* ---- when to write ----------------------------------------------------------------------------------------------- */

static void
settle(WriteRel *wr, Relation rel, WriteBuffer *buf)
{
	write_resolve(wr, rel, buf);
	CSEG_CALL(rel, cseg_batch_settle(buf->batch, store_stop_flag(), &err));
}

static Size
row_length(const AmRow *row)
{
	Size n = row->identity_len;

	for (int m = 0; m < CSEG_MEASURES; m++)
		if (row->values[m].kind == CSEG_WIDE)
			n += row->values[m].wide_len;
	return n;
}

/*
 * Rows are staged raw, at about 32 bytes each, up to a quarter of the setting or 16 MB, with long identities and wide
 * numbers up to a quarter of the setting; then they are merged into the decoded matrices, which take a few bytes a row
 * and go to a temporary file when they reach the setting. What has to stay in memory all the same (which rows were
 * touched, what is where in the file) is bounded by writing to the table.
 */
void
write_after_row(WriteRel *wr, Relation rel, WriteBuffer *buf, const AmRow *row)
{
	size_t limit = (size_t) am_write_buffer_kb * 1024;
	size_t resident_limit = limit / 2;

	buf->since_check += row ? 1 + row_length(row) / LONG_ROW_BYTES : 1;
	if (buf->since_check < ROWS_BETWEEN_CHECKS)
		return;
	buf->since_check = 0;
	CHECK_FOR_INTERRUPTS();
	if (cseg_batch_waiting(buf->batch) >= ROWS_TO_LOOK_UP ||
		(cseg_batch_waiting(buf->batch) > 0 && cseg_batch_staged_long(buf->batch) > limit / 4))
		write_lookup(wr, rel, buf);
	if (cseg_batch_staged(buf->batch) * STAGED_ROW_BYTES < Min(limit / 4, MAX_STAGED_BYTES) &&
		cseg_batch_staged_long(buf->batch) <= limit / 4)
		return;
	settle(wr, rel, buf);
	if (cseg_batch_bytes(buf->batch) <= limit)
		return;
	changes_spill(buf, rel);
	/* Keys that pass through each other collide for a moment: such a statement is written at its end, if it can be. */
	if (buf->has_moves)
		resident_limit *= MOVES_LIMIT_FACTOR;
	if (changes_resident_bytes(buf) > resident_limit)
		write_flush(wr, rel, buf, false);
}

static Relation
open_relation(const WriteRel *wr)
{
	Relation rel = try_relation_open(wr->relid, NoLock);

	if (rel && compat_relnumber(rel) != wr->relnode)
	{
		relation_close(rel, NoLock);
		return NULL;
	}
	return rel;
}

/* Writes a buffer and lets go of it. */
static void
flush_buffer(WriteRel *wr, Relation rel, WriteBuffer *buf, bool final)
{
	if (!changes_none(buf))
		write_flush(wr, rel, buf, final);
	drop_buffer(wr, buf);
}

static void
refuse_upper_flush(Relation rel)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
		 errmsg("can't read relation \"%s\" here", RelationGetRelationName(rel)),
		 errdetail("An outer statement has changed rows that a subtransaction started in its middle can't see yet."),
		 errhint("Don't read the table in a block with an EXCEPTION clause that is called by a statement which "
				 "changes the table.")));
}

void
am_flush_before_read(Relation rel, Snapshot snapshot)
{
	WriteRel *wr = write_rel(rel, false);
	SubTransactionId subid;
	bool again = true;

	if (wr == NULL || wr->buffers == NULL || IsInParallelMode())
		return;
	subid = GetCurrentSubTransactionId();
	while (again)
	{
		again = false;
		for (WriteBuffer *buf = wr->buffers; buf; buf = buf->next)
		{
			if (changes_none(buf) || (snapshot && IsMVCCSnapshot(snapshot) && buf->cid >= snapshot->curcid))
				continue;
			if (buf->subid != subid)
				refuse_upper_flush(rel);
			write_flush(wr, rel, buf, false);
			again = true;
			break;
		}
	}
}

static void
flush_matching(WriteRel *wr, CommandId cid, bool final)
{
	SubTransactionId subid = GetCurrentSubTransactionId();
	Relation rel = NULL;
	bool again = true;

	while (again)
	{
		again = false;
		for (WriteBuffer *buf = wr->buffers; buf; buf = buf->next)
		{
			if (buf->subid != subid || (cid != InvalidCommandId && buf->cid != cid))
				continue;
			if (rel == NULL)
				rel = open_relation(wr);
			if (rel)
				flush_buffer(wr, rel, buf, final);
			else
				drop_buffer(wr, buf); /* dropped or truncated since */
			again = true;
			break;
		}
	}
	if (rel)
		relation_close(rel, NoLock);
}

void
am_flush_statement(CommandId cid)
{
	bool final = !am_executor_writing();

	for (WriteRel *wr = rels; wr; wr = wr->next)
		if (wr->buffers)
			flush_matching(wr, cid, final);
	am_trim_memory();
}

void
am_trim_memory(void)
{
	if (am_executor_depth() == 0)
		store_dict_trim();
}

void
am_flush_relation(Relation rel)
{
	WriteRel *wr = write_rel(rel, false);

	if (wr && wr->buffers)
		flush_matching(wr, InvalidCommandId, !am_executor_writing());
}

/* ---- transactions ------------------------------------------------------------------------------------------------ */

static void
at_xact(XactEvent event, void *arg)
{
	switch (event)
	{
	case XACT_EVENT_PRE_COMMIT:
	case XACT_EVENT_PARALLEL_PRE_COMMIT:
	case XACT_EVENT_PRE_PREPARE:
		if (rels)
			am_flush_statement(InvalidCommandId);
		break;
	case XACT_EVENT_COMMIT:
	case XACT_EVENT_PARALLEL_COMMIT:
	case XACT_EVENT_PREPARE:
	case XACT_EVENT_ABORT:
	case XACT_EVENT_PARALLEL_ABORT:
		/* The memory goes with TopTransactionContext. */
		rels = NULL;
		am_readers_forget();
		break;
	}
}

static void
abort_locks(WriteRel *wr, SubTransactionId subid)
{
	HASH_SEQ_STATUS seq;
	SegmentLock *lock;

	hash_seq_init(&seq, wr->locks);
	while ((lock = hash_seq_search(&seq)) != NULL)
		if (lock->subid == subid)
			hash_search(wr->locks, &lock->hash, HASH_REMOVE, NULL);
	if (wr->table_lock_subid == subid)
	{
		/* A weaker lock taken before may still be held: taking it again is harmless. */
		wr->table_lock = NoLock;
		wr->table_lock_subid = InvalidSubTransactionId;
	}
}

static void
commit_locks(WriteRel *wr, SubTransactionId subid, SubTransactionId parent)
{
	HASH_SEQ_STATUS seq;
	SegmentLock *lock;

	hash_seq_init(&seq, wr->locks);
	while ((lock = hash_seq_search(&seq)) != NULL)
		if (lock->subid == subid)
			lock->subid = parent;
	if (wr->table_lock_subid == subid)
		wr->table_lock_subid = parent;
}

static void
abort_sub(WriteRel *wr, SubTransactionId subid)
{
	bool again = true;

	while (again)
	{
		again = false;
		for (WriteBuffer *buf = wr->buffers; buf; buf = buf->next)
		{
			if (buf->subid != subid)
				continue;
			free_buffer(wr, buf);
			again = true;
			break;
		}
	}
	abort_locks(wr, subid);
	/* It may be of a rewrite that is taken back. */
	wr->dict = NULL;
	if (wr->log)
		am_log_subxact_abort(wr->log, subid);
}

static void
at_subxact(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		am_bump_epoch();
	for (WriteRel *wr = rels; wr; wr = wr->next)
	{
		switch (event)
		{
		case SUBXACT_EVENT_START_SUB:
			if (wr->log)
				am_log_subxact_start(wr->log, subid);
			break;
		case SUBXACT_EVENT_PRE_COMMIT_SUB:
			flush_matching(wr, InvalidCommandId, false);
			break;
		case SUBXACT_EVENT_COMMIT_SUB:
			commit_locks(wr, subid, parent);
			if (wr->log)
				am_log_subxact_commit(wr->log, subid, parent);
			break;
		case SUBXACT_EVENT_ABORT_SUB:
			abort_sub(wr, subid);
			break;
		}
	}
}

void
am_xact_init(void)
{
	static bool registered = false;

	if (registered)
		return;
	RegisterXactCallback(at_xact, NULL);
	RegisterSubXactCallback(at_subxact, NULL);
	registered = true;
}
