/*
 * flush.c
 *    Writes a buffer out: checks uniqueness, folds or appends, keeps the totals.
 *
 * Each cell that the buffer changes gets either a new base in place of the old base and deltas (a fold), or one more
 * delta. A fold is allowed only where this command may delete every record concerned (see README.md, Writers); in the
 * middle of a statement, or inside another one, there is none, so that it stays known which rows the command changed.
 *
 * The change of an instance's totals goes to exactly one place: its new or replaced instance record, or the delta.
 */
#include "am/changes.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/predicate.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "compat/compat.h"

/*
 * A base is folded once its deltas are as large as it is, or once there are many. A day that is added to sixty brings
 * 40 % of a base, since it has each member's measures where a base has changes: with a quarter as the limit each day
 * folded everything.
 */
#define FOLD_MAX_DELTAS 32
#define FOLD_MIN_BYTES 512

typedef struct ForeignAlias
{
	struct ForeignAlias *next;
	StoreGroup *sg;
	WriteGroup *wg;
	uint64 alias[CSEG_SLOTS];
} ForeignAlias;

typedef struct FlushGroup
{
	WriteGroup *wg;
	StoreGroup *sg; /* NULL: new */
	uint64 alias[CSEG_SLOTS];
	ForeignAlias *foreign;
	CsegTotals *acc; /* changes for instance records, by slot */
	uint64 changed;  /* slots with something in acc */
	int64 row_change[CSEG_SLOTS];
	uint64 emptied; /* slots that lose their last row */
	bool written;   /* there are new records of it */
	bool fills;     /* its last free slot gets an instance: nothing more will come that folds its cells */
} FlushGroup;

typedef struct NewRecord
{
	StoreKind kind;
	uint16 flags;
	FlushGroup *group;
	uint32 a;
	uint32 b;
	uint32 c;
	bool needs_cell_no;
	struct NewRecord *same_cell; /* of a cell that is new as well: take its number */
	StoreBody body;
} NewRecord;

typedef struct Flush
{
	WriteRel *wr;
	Relation rel;
	WriteBuffer *buf;
	AmReader *newest;
	bool may_fold;
	FlushGroup *groups; /* by the buffer's group index */
	ChangeKey *changes;
	int n_changes;
	List *inserts; /* NewRecord */
	List *deletes; /* StoreRecord */
	bool needs_numbers;
} Flush;

/* ---- aliases: slots that share a segment_instance_id ------------------------------------------------------------ */

typedef struct AliasMember
{
	uint32 hash;
	const text *id;
	StoreGroup *sg;
	WriteGroup *wg;
	uint8 slot;
} AliasMember;

static int
by_hash(const void *a, const void *b)
{
	uint32 x = ((const AliasMember *) a)->hash;
	uint32 y = ((const AliasMember *) b)->hash;

	return x < y ? -1 : x > y;
}

static void
add_alias(Flush *f, const AliasMember *of, const AliasMember *other)
{
	FlushGroup *group;
	ForeignAlias *fa;

	if (of->wg == NULL)
		return;
	group = &f->groups[of->wg->index];
	if (of->wg == other->wg)
	{
		group->alias[of->slot] |= UINT64CONST(1) << other->slot;
		return;
	}
	for (fa = group->foreign; fa; fa = fa->next)
		if (fa->sg == other->sg && fa->wg == other->wg)
			break;
	if (fa == NULL)
	{
		fa = palloc0(sizeof(ForeignAlias));
		fa->sg = other->sg;
		fa->wg = other->wg;
		fa->next = group->foreign;
		group->foreign = fa;
	}
	fa->alias[of->slot] |= UINT64CONST(1) << other->slot;
}

static WriteGroup *
write_group_of(Flush *f, const StoreGroup *sg)
{
	for (int i = 0; i < f->buf->n_groups; i++)
		if (f->groups[i].sg == sg)
			return f->buf->groups[i];
	return NULL;
}

static bool
segment_is_written(Flush *f, const StoreGroup *sg)
{
	for (int i = 0; i < f->buf->n_groups; i++)
		if (store_text_equal(f->buf->groups[i]->dims.segment_id, sg->dims.segment_id))
			return true;
	return false;
}

static void
find_aliases(Flush *f)
{
	StoreView *view = f->newest->view;
	int cap = view->n_instances + f->buf->n_groups * CSEG_SLOTS;
	AliasMember *m = palloc(sizeof(AliasMember) * Max(cap, 1));
	int n = 0;

	for (int g = 0; g < view->n_groups; g++)
	{
		StoreGroup *sg = view->groups[g];
		WriteGroup *wg;

		if (!segment_is_written(f, sg))
			continue;
		wg = write_group_of(f, sg);
		for (int s = 0; s < CSEG_SLOTS; s++)
			if (sg->instance[s])
				m[n++] = (AliasMember){store_text_hash(sg->instance[s]->dims.segment_instance_id),
									   sg->instance[s]->dims.segment_instance_id, sg, wg, (uint8) s};
	}
	for (int g = 0; g < f->buf->n_groups; g++)
		for (int s = 0; s < CSEG_SLOTS; s++)
		{
			InstanceRef *ref = f->buf->groups[g]->refs[s];

			if (ref && !ref->exists)
				m[n++] = (AliasMember){store_text_hash(ref->dims.segment_instance_id), ref->dims.segment_instance_id,
									   f->groups[g].sg, f->buf->groups[g], (uint8) s};
		}
	qsort(m, n, sizeof(AliasMember), by_hash);
	for (int i = 0; i < n; i++)
		for (int k = i + 1; k < n && m[k].hash == m[i].hash; k++)
			if (store_text_equal(m[i].id, m[k].id))
			{
				add_alias(f, &m[i], &m[k]);
				add_alias(f, &m[k], &m[i]);
			}
	pfree(m);
}

/* ---- uniqueness ----------------------------------------------------------------------------------------------------
 */

static void
refuse_duplicate(Flush *f, WriteGroup *wg, uint32 container, uint16 low, uint8 slot)
{
	const void *const *texts;
	uint32 ordinal = (container << CSEG_CONTAINER_BITS) | low;
	const text *identity;
	char *shown = "?";

	/* Where a serialization failure explains the duplicate, that is what SERIALIZABLE promises to report. */
	CheckForSerializableConflictIn(f->rel, NULL, InvalidBlockNumber);

	if (f->wr->dict == NULL)
		store_dict_sync(f->rel, &f->wr->dict, f->newest->view, f->wr->cxt);
	CSEG_CALL(f->rel, cseg_dict_pin(f->wr->dict->dict, container, &texts, &err));
	identity = texts[low];
	if (identity)
		shown = text_to_cstring(identity);
	cseg_dict_unpin(f->wr->dict->dict, container);
	if (identity == NULL)
		elog(ERROR, "customer number %u has no identity", ordinal);
	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg("duplicate customer in a segment instance of relation \"%s\"", RelationGetRelationName(f->rel)),
			 errdetail("Key (segment_instance_id, customer_identity)=(%s, %s) already exists.",
					   text_to_cstring(wg->refs[slot]->dims.segment_instance_id), shown),
			 errtable(f->rel)));
}

/* Against rows of other groups that hold slots of the same instance. Rare: an instance whose rows differ in dimensions.
 */
static void
check_foreign(Flush *f, FlushGroup *group, uint32 container, CsegCell *delta)
{
	for (ForeignAlias *fa = group->foreign; fa; fa = fa->next)
	{
		MemoryContext cxt =
			AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation alias", ALLOCSET_SMALL_SIZES);
		MemoryContext old = MemoryContextSwitchTo(cxt);
		StoreOwner *owner = store_owner_new(cxt, cseg_cell_free);
		StoreOwner *theirs_owner = store_owner_new(cxt, cseg_cell_free);
		StoreCell *sc = fa->sg ? store_group_cell(fa->sg, container) : NULL;
		CsegCell *theirs = NULL;
		CsegCell *state;
		bool found;
		uint16 low;
		uint8 slot;

		if (sc)
			state = store_read_cell(f->rel, sc, false);
		else
			CSEG_CALL(f->rel, cseg_cell_new(&state, &err));
		store_owner_set(owner, state);
		if (fa->wg)
			theirs = changes_cell(f->buf, f->rel, (ChangeKey){fa->wg->index, container}, theirs_owner);
		if (theirs)
			CSEG_CALL(f->rel, cseg_cell_apply(state, theirs, false, &err));
		CSEG_CALL(f->rel, cseg_cell_conflict(state, delta, fa->alias, false, &found, &low, &slot, &err));
		if (found)
			refuse_duplicate(f, group->wg, container, low, slot);
		MemoryContextSwitchTo(old);
		MemoryContextDelete(cxt);
	}
}

static void
check_cell(Flush *f, FlushGroup *group, uint32 container, CsegCell *state, CsegCell *delta)
{
	bool found;
	uint16 low;
	uint8 slot;

	CSEG_CALL(f->rel, cseg_cell_conflict(state, delta, group->alias, true, &found, &low, &slot, &err));
	if (found)
		refuse_duplicate(f, group->wg, container, low, slot);
	if (group->foreign)
		check_foreign(f, group, container, delta);
	CSEG_CALL(f->rel, cseg_cell_missing(state, delta, &found, &low, &slot, &err));
	if (found)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
				 errmsg("row to be changed was already changed by an operation triggered by the current command"),
				 errhint("Consider using an AFTER trigger instead of a BEFORE trigger to propagate changes to "
						 "other rows.")));
}

/* ---- totals
 * ---------------------------------------------------------------------------------------------------------- */

static void
accumulate(FlushGroup *group, const CsegTotals *change, uint64 slots)
{
	if (slots == 0)
		return;
	if (group->acc == NULL)
		group->acc = palloc(sizeof(CsegTotals) * CSEG_SLOTS);
	for (int s = 0; s < CSEG_SLOTS; s++)
	{
		uint64 bit = UINT64CONST(1) << s;

		if ((slots & bit) == 0)
			continue;
		if ((group->changed & bit) == 0)
			cseg_totals_init(&group->acc[s]);
		group->changed |= bit;
		cseg_totals_add_change(&group->acc[s], &change[s]);
	}
}

static uint64
new_slots(const FlushGroup *group)
{
	uint64 slots = 0;

	for (int s = 0; s < CSEG_SLOTS; s++)
		if (group->wg->refs[s] && !group->wg->refs[s]->exists)
			slots |= UINT64CONST(1) << s;
	return slots;
}

static bool
fills_up(const FlushGroup *group)
{
	for (int s = 0; s < CSEG_SLOTS; s++)
		if (group->wg->refs[s] == NULL && (group->sg == NULL || group->sg->instance[s] == NULL))
			return false;
	return new_slots(group) != 0;
}

static bool
instances_deletable(const FlushGroup *group, uint64 slots)
{
	for (int s = 0; s < CSEG_SLOTS; s++)
	{
		if ((slots & (UINT64CONST(1) << s)) == 0)
			continue;
		if (group->sg == NULL || group->sg->instance[s] == NULL)
			continue; /* new */
		if (!group->sg->instance[s]->rec->deletable)
			return false;
	}
	return true;
}

/* ---- fold or append
 * ------------------------------------------------------------------------------------------------------ */

typedef struct DeltaTotals
{
	CsegTotals change[CSEG_SLOTS];
	uint64 slots;
} DeltaTotals;

static void
read_delta_totals(Flush *f, const StoreRecord *rec, DeltaTotals *t)
{
	const uint8 *cell_bytes;
	size_t cell_len;

	store_delta_parts(f->rel, rec, store_body(f->rel, rec), t->change, &t->slots, &cell_bytes, &cell_len);
}

static bool
records_deletable(const StoreCell *sc)
{
	if (sc->base && !sc->base->deletable)
		return false;
	for (int i = 0; i < sc->n_deltas; i++)
		if (!sc->deltas[i]->deletable || !sc->deltas[i]->settled)
			return false;
	return true;
}

static size_t
delta_bytes(const StoreCell *sc)
{
	size_t n = 0;

	for (int i = 0; i < sc->n_deltas; i++)
		n += sc->deltas[i]->body_len;
	return n;
}

static bool
fold_pays(const StoreCell *sc, size_t new_delta)
{
	size_t deltas = delta_bytes(sc) + new_delta;

	if (sc->base == NULL || sc->n_deltas + 1 >= FOLD_MAX_DELTAS)
		return true;
	return deltas >= FOLD_MIN_BYTES && deltas >= sc->base->body_len;
}

/* Which instance records a fold would have to replace: those that this change or the folded deltas touch. */
static bool
fold_allowed(Flush *f, FlushGroup *group, const StoreCell *sc, uint64 slots)
{
	DeltaTotals *t;
	bool allowed;

	if (!f->may_fold || !records_deletable(sc))
		return false;
	t = palloc(sizeof(DeltaTotals));
	for (int i = 0; i < sc->n_deltas; i++)
	{
		read_delta_totals(f, sc->deltas[i], t);
		slots |= t->slots;
	}
	pfree(t);
	allowed = instances_deletable(group, slots);
	return allowed;
}

static void
remove_record(Flush *f, StoreRecord *rec)
{
	rec->going = true;
	f->deletes = lappend(f->deletes, rec);
}

static NewRecord *
new_record(Flush *f, StoreKind kind, uint16 flags, FlushGroup *group, uint32 a, uint32 b, uint32 c, const uint8 *bytes,
		   size_t len)
{
	NewRecord *r = palloc0(sizeof(NewRecord));

	r->kind = kind;
	r->flags = flags;
	r->group = group;
	r->a = a;
	r->b = b;
	r->c = c;
	store_save_body(f->rel, &r->body, bytes, len, false);
	if (r->body.external)
	{
		f->wr->wrote_blobs = true;
		f->wr->last_blob_cid = GetCurrentCommandId(true);
	}
	if (r->body.external)
	{
		/* What is saved need not stay in memory to the end of the flush. */
		pfree(r->body.data.data);
		r->body.data.data = NULL;
	}
	f->inserts = lappend(f->inserts, r);
	group->written = true;
	return r;
}

static NewRecord *
add_base(Flush *f, FlushGroup *group, uint32 container, CsegCell *cell, const StoreCell *sc)
{
	uint32 customers;
	uint64 rows;
	uint64 removed;
	const uint8 *bytes;
	size_t len;
	NewRecord *r;

	CSEG_CALL(f->rel, cseg_cell_counts(cell, &customers, &rows, &removed, &err));
	if (rows == 0)
		return NULL;
	CSEG_CALL(f->rel, cseg_cell_encode(cell, &bytes, &len, &err));
	r = new_record(f, STORE_BASE, 0, group, sc ? sc->cell_no : 0, container, (uint32) Min(rows, PG_UINT32_MAX), bytes,
				   len);
	r->needs_cell_no = sc == NULL;
	f->needs_numbers |= r->needs_cell_no;
	return r;
}

/*
 * A new cell brings rows to instances that exist. Where their records may not be replaced, a delta without rows
 * carries the totals.
 */
static void
add_cell(Flush *f, FlushGroup *group, uint32 container, CsegCell *delta, const DeltaTotals *change)
{
	uint64 pinned = 0;
	NewRecord *base;
	NewRecord *totals;
	CsegCell *empty;
	StoreOwner *owner;
	StringInfoData body;
	const uint8 *bytes;
	size_t len;

	for (int s = 0; s < CSEG_SLOTS; s++)
	{
		uint64 bit = UINT64CONST(1) << s;

		if ((change->slots & bit) != 0 && !instances_deletable(group, bit))
			pinned |= bit;
	}
	accumulate(group, change->change, change->slots & ~pinned);
	base = add_base(f, group, container, delta, NULL);
	if (base == NULL || pinned == 0)
		return;
	owner = store_owner_new(CurrentMemoryContext, cseg_cell_free);
	CSEG_CALL(f->rel, cseg_cell_new(&empty, &err));
	store_owner_set(owner, empty);
	CSEG_CALL(f->rel, cseg_cell_encode(empty, &bytes, &len, &err));
	initStringInfo(&body);
	store_encode_delta(&body, change->change, pinned, bytes, len);
	totals = new_record(f, STORE_DELTA, 0, group, 0, container, 1, (uint8 *) body.data, body.len);
	totals->same_cell = base;
	pfree(body.data);
}

static void
fold(Flush *f, FlushGroup *group, uint32 container, StoreCell *sc, CsegCell *delta, const DeltaTotals *change)
{
	DeltaTotals *t = palloc(sizeof(DeltaTotals));
	CsegCell *state = am_reader_cell(f->rel, f->newest, sc);

	for (int i = 0; i < sc->n_deltas; i++)
	{
		read_delta_totals(f, sc->deltas[i], t);
		accumulate(group, t->change, t->slots);
		remove_record(f, sc->deltas[i]);
	}
	pfree(t);
	if (sc->base)
		remove_record(f, sc->base);
	accumulate(group, change->change, change->slots);
	CSEG_CALL(f->rel, cseg_cell_apply(state, delta, false, &err));
	add_base(f, group, container, state, sc);
}

static void
append_delta(Flush *f, FlushGroup *group, uint32 container, const StoreCell *sc, const uint8 *bytes, size_t len,
			 bool moved, DeltaTotals *change)
{
	uint64 fresh = new_slots(group);
	uint32 sequence = sc->last_sequence + 1;
	StringInfoData body;

	accumulate(group, change->change, change->slots & fresh);
	initStringInfo(&body);
	store_encode_delta(&body, change->change, change->slots & ~fresh, bytes, len);
	new_record(f, STORE_DELTA, moved ? STORE_FLAG_MOVED : 0, group, sc->cell_no, container, sequence,
			   (uint8 *) body.data, body.len);
	pfree(body.data);
}

/* What the newest state has of the customers that are to change: the rest may be missing. */
static CsegCell *
state_of_changed(Flush *f, StoreCell *sc, CsegCell *delta)
{
	CsegArrays changed;

	CSEG_CALL(f->rel, cseg_cell_arrays(delta, &changed, &err));
	if (changed.n_entries == 0)
		return am_reader_cell(f->rel, f->newest, sc);
	return am_reader_customers(f->rel, f->newest, sc, changed.low[0], changed.low[changed.n_entries - 1],
							   changed.n_entries);
}

/*
 * Are all rows of this change new ones, of instances of which the newest state has no row? Then nothing in the cell can
 * matter to them, and it need not be read.
 */
static bool
only_new_instances(const Flush *f, const FlushGroup *group, CsegCell *delta)
{
	uint64 slots;
	bool found;
	uint16 low;
	uint8 slot;

	CSEG_CALL(f->rel, cseg_cell_slots(delta, &slots, &err));
	for (int s = 0; s < CSEG_SLOTS; s++)
	{
		uint64 bit = UINT64CONST(1) << s;

		if ((slots & bit) != 0 && (group->sg->instance[s] != NULL || group->alias[s] != bit))
			return false;
	}
	/* Updates and removals are of rows that the cell must have. */
	CSEG_CALL(f->rel, cseg_cell_missing(NULL, delta, &found, &low, &slot, &err));
	return !found;
}

/* Only an instance with no more rows than the statement took away can have lost its last one. */
static bool
may_empty_an_instance(Flush *f)
{
	int64 taken = f->buf->deleted + (f->buf->has_moves ? f->buf->updated : 0);

	for (int g = 0; taken > 0 && g < f->buf->n_groups; g++)
	{
		FlushGroup *group = &f->groups[g];

		for (int s = 0; group->sg && s < CSEG_SLOTS; s++)
			if (group->wg->refs[s] && group->sg->instance[s] && group->sg->instance[s]->rows <= taken)
				return true;
	}
	return false;
}

/* Instances that lose their last row go at once, so that their ids are free again. */
static void
find_emptied(Flush *f)
{
	DeltaTotals *change = palloc0(sizeof(DeltaTotals));
	StoreOwner *owner = store_owner_new(CurrentMemoryContext, cseg_cell_free);
	bool look;

	store_view_rows(f->rel, f->newest->view);
	look = may_empty_an_instance(f);
	for (int i = 0; look && i < f->n_changes; i++)
	{
		ChangeKey key = f->changes[i];
		CsegCell *delta = changes_cell(f->buf, f->rel, key, owner);
		FlushGroup *group = &f->groups[key.group];
		StoreCell *sc = group->sg ? store_group_cell(group->sg, key.container) : NULL;

		CHECK_FOR_INTERRUPTS();
		CSEG_CALL(f->rel, cseg_cell_change(sc ? state_of_changed(f, sc, delta) : NULL, delta, change->change,
										   &change->slots, &err));
		for (int s = 0; s < CSEG_SLOTS; s++)
			if (change->slots & (UINT64CONST(1) << s))
				group->row_change[s] += change->change[s].rows;
	}
	for (int g = 0; g < f->buf->n_groups; g++)
	{
		FlushGroup *group = &f->groups[g];

		for (int s = 0; group->sg && s < CSEG_SLOTS; s++)
			if (group->sg->instance[s] && group->row_change[s] <= 0 &&
				group->sg->instance[s]->rows + group->row_change[s] == 0)
				group->emptied |= UINT64CONST(1) << s;
	}
	pfree(change);
}

static void
flush_cell(Flush *f, FlushGroup *group, uint32 container, CsegCell *delta)
{
	StoreCell *sc = group->sg ? store_group_cell(group->sg, container) : NULL;
	CsegCell *state = sc && !only_new_instances(f, group, delta) ? state_of_changed(f, sc, delta) : NULL;
	DeltaTotals *change = palloc0(sizeof(DeltaTotals));
	const uint8 *bytes;
	size_t len;
	bool moved;
	bool pays;

	check_cell(f, group, container, state, delta);
	CSEG_CALL(f->rel, cseg_cell_change(state, delta, change->change, &change->slots, &err));
	if (sc == NULL)
	{
		add_cell(f, group, container, delta, change);
		pfree(change);
		return;
	}
	CSEG_CALL(f->rel, cseg_cell_has_moved(delta, &moved, &err));
	pays = group->fills || (change->slots & group->emptied) != 0 || fold_pays(sc, cseg_cell_estimate(delta));
	/* Encoding the change is half of the work of a fold, which does without it. */
	if (!moved && pays && fold_allowed(f, group, sc, change->slots))
	{
		fold(f, group, container, sc, delta, change);
		pfree(change);
		return;
	}
	CSEG_CALL(f->rel, cseg_cell_encode(delta, &bytes, &len, &err));
	if (!moved && !pays && fold_pays(sc, len) && fold_allowed(f, group, sc, change->slots))
		fold(f, group, container, sc, delta, change);
	else
		append_delta(f, group, container, sc, bytes, len, moved, change);
	pfree(change);
}

static bool
delta_speaks_of(Flush *f, const StoreCell *sc, uint64 slots)
{
	DeltaTotals *t = palloc(sizeof(DeltaTotals));
	bool found = false;

	for (int i = 0; i < sc->n_deltas && !found; i++)
	{
		read_delta_totals(f, sc->deltas[i], t);
		found = (t->slots & slots) != 0;
	}
	pfree(t);
	return found;
}

static bool
has_moved_delta(const StoreCell *sc)
{
	for (int i = 0; i < sc->n_deltas; i++)
		if (sc->deltas[i]->flags & STORE_FLAG_MOVED)
			return true;
	return false;
}

/*
 * Cells that this statement does not change are folded too where they hold what nobody needs any longer: removals of
 * rows that have moved elsewhere, which could not be folded at once, and deltas that keep an emptied instance alive by
 * speaking of it.
 */
static void
tidy_group(Flush *f, FlushGroup *group)
{
	DeltaTotals *nothing = palloc0(sizeof(DeltaTotals));
	StoreOwner *owner = store_owner_new(CurrentMemoryContext, cseg_cell_free);
	CsegCell *empty;

	CSEG_CALL(f->rel, cseg_cell_new(&empty, &err));
	store_owner_set(owner, empty);
	for (int i = 0; i < group->sg->n_cells; i++)
	{
		StoreCell *sc = group->sg->cells[i];

		if (changes_cell_exists(f->buf, (ChangeKey){group->wg->index, sc->container}) ||
			(!has_moved_delta(sc) && !delta_speaks_of(f, sc, group->emptied)) || !fold_allowed(f, group, sc, 0))
			continue;
		fold(f, group, sc->container, sc, empty, nothing);
	}
	pfree(nothing);
}

/* At most so many groups are tidied by one statement. */
#define TIDY_MAX_GROUPS 256

/* Takes the groups of the written segments into the buffer that hold something to tidy. */
static void
find_untidy_groups(Flush *f)
{
	StoreView *view = f->newest->view;
	int found = 0;

	for (int g = 0; g < view->n_groups && found < TIDY_MAX_GROUPS; g++)
	{
		StoreGroup *sg = view->groups[g];
		bool untidy = false;

		for (int c = 0; c < sg->n_cells && !untidy; c++)
			untidy = has_moved_delta(sg->cells[c]);
		if (!untidy || !segment_is_written(f, sg))
			continue;
		write_existing_group(f->buf, sg);
		found++;
	}
}

/* ---- instance and group records
 * ------------------------------------------------------------------------------------------ */

static bool
deltas_mention(const FlushGroup *group, int slot, Flush *f)
{
	DeltaTotals *t = palloc(sizeof(DeltaTotals));
	bool found = false;

	for (int c = 0; group->sg && c < group->sg->n_cells && !found; c++)
	{
		StoreCell *sc = group->sg->cells[c];

		for (int i = 0; i < sc->n_deltas && !found; i++)
		{
			if (sc->deltas[i]->going)
				continue;
			read_delta_totals(f, sc->deltas[i], t);
			found = (t->slots & (UINT64CONST(1) << slot)) != 0;
		}
	}
	pfree(t);
	for (ListCell *lc = list_head(f->inserts); lc && !found; lc = lnext(f->inserts, lc))
	{
		NewRecord *r = lfirst(lc);

		found = r->kind == STORE_DELTA && r->group == group;
	}
	return found;
}

static void
add_instance(Flush *f, FlushGroup *group, int slot, const StoreInstanceDims *dims, const CsegTotals *totals)
{
	StringInfoData body;

	initStringInfo(&body);
	store_encode_instance(&body, dims, totals);
	new_record(f, STORE_INSTANCE, 0, group, (uint32) slot, 0, 0, (uint8 *) body.data, body.len);
	pfree(body.data);
}

/* An instance without rows goes, unless a delta that stays still speaks of it. */
static void
flush_instance(Flush *f, FlushGroup *group, int slot)
{
	StoreInstance *inst = group->sg ? group->sg->instance[slot] : NULL;
	CsegTotals totals;

	if (inst == NULL)
	{
		if (group->acc[slot].rows != 0)
			add_instance(f, group, slot, &group->wg->refs[slot]->dims, &group->acc[slot]);
		return;
	}
	store_stored_totals(f->rel, inst, &totals);
	cseg_totals_add(&totals, &group->acc[slot]);
	remove_record(f, inst->rec);
	if (totals.rows == 0 && !deltas_mention(group, slot, f))
		return;
	add_instance(f, group, slot, &inst->dims, &totals);
}

/* Nothing is left of the group, and nothing comes. */
static bool
group_is_gone(Flush *f, FlushGroup *group)
{
	if (!f->may_fold || !group->sg->rec->deletable)
		return false;
	if (group->written)
		return false;
	for (int s = 0; s < CSEG_SLOTS; s++)
		if (group->sg->instance[s] && !group->sg->instance[s]->rec->going)
			return false;
	for (int c = 0; c < group->sg->n_cells; c++)
	{
		StoreCell *sc = group->sg->cells[c];

		if (sc->base && !sc->base->going)
			return false;
		for (int i = 0; i < sc->n_deltas; i++)
			if (!sc->deltas[i]->going)
				return false;
	}
	return true;
}

/* Instances that were empty before go when nothing speaks of them any longer. */
static void
drop_empty_instances(Flush *f, FlushGroup *group)
{
	for (int s = 0; s < CSEG_SLOTS; s++)
	{
		uint64 bit = UINT64CONST(1) << s;

		if ((group->emptied & bit) != 0 && (group->changed & bit) == 0 && group->sg->instance[s]->rec->deletable &&
			!deltas_mention(group, s, f))
			remove_record(f, group->sg->instance[s]->rec);
	}
}

static void
flush_group(Flush *f, FlushGroup *group)
{
	StringInfoData body;

	for (int s = 0; s < CSEG_SLOTS; s++)
		if (group->changed & (UINT64CONST(1) << s))
			flush_instance(f, group, s);
	if (group->emptied)
		drop_empty_instances(f, group);
	if (group->sg && group_is_gone(f, group))
		remove_record(f, group->sg->rec);
	if (group->sg || !group->written)
		return;
	initStringInfo(&body);
	store_encode_group(&body, &group->wg->dims);
	new_record(f, STORE_GROUP, 0, group, 0, 0, 0, (uint8 *) body.data, body.len);
	pfree(body.data);
	f->needs_numbers = true;
}

/* ---- writing
 * ------------------------------------------------------------------------------------------------------------------ */

static void
insert_record(Flush *f, NewRecord *r)
{
	if (r->same_cell)
		r->a = r->same_cell->a;
	store_insert(f->rel, r->kind, r->flags, r->group->wg->group_no, r->a, r->b, r->c, &r->body, f->buf->cid, false);
	if (r->body.data.data)
		pfree(r->body.data.data);
}

static bool
claims_name(const NewRecord *r)
{
	return r->kind == STORE_INSTANCE && (r->group->sg == NULL || r->group->sg->instance[r->a] == NULL);
}

static bool
claims_anything(const NewRecord *r)
{
	return r->kind == STORE_GROUP || r->needs_cell_no || claims_name(r);
}

/* Takes the short lock when the names of new instances are free for their segments. */
static void
claim_names(Flush *f)
{
	StoreClaim *claims = palloc_extended(sizeof(StoreClaim) * Max(list_length(f->inserts), 1), MCXT_ALLOC_HUGE);
	int n = 0;
	ListCell *lc;

	foreach (lc, f->inserts)
	{
		const NewRecord *r = lfirst(lc);

		if (claims_name(r))
			claims[n++] =
				(StoreClaim){r->group->wg->refs[r->a]->dims.segment_instance_id, r->group->wg->dims.segment_id};
	}
	write_claim_names(f->wr, f->rel, f->newest->view, claims, n);
	pfree(claims);
}

/*
 * Group records and bases of new cells claim their numbers, records of new instances their names: they are written
 * under the short lock.
 */
static void
insert_claims(Flush *f)
{
	StoreNumbers used = {NULL, NULL};
	uint32 group_hint = 0;
	uint32 cell_hint = 0;
	ListCell *lc;

	claim_names(f);
	if (f->needs_numbers)
		store_numbers_in_use(f->rel, &used);
	foreach (lc, f->inserts)
	{
		NewRecord *r = lfirst(lc);

		if (r->kind != STORE_GROUP)
			continue;
		r->group->wg->group_no = store_next_number(&used.groups, &group_hint, STORE_MAX_GROUP_NO, "group");
		r->group->wg->exists = true;
		insert_record(f, r);
	}
	foreach (lc, f->inserts)
	{
		NewRecord *r = lfirst(lc);

		if (r->needs_cell_no)
			r->a = store_next_number(&used.cells, &cell_hint, STORE_MAX_CELL_NO, "cell");
		if (r->needs_cell_no || claims_name(r))
			insert_record(f, r);
	}
	store_short_unlock(f->rel);
}

static void
write_records(Flush *f)
{
	bool claims = false;
	ListCell *lc;

	foreach (lc, f->inserts)
		claims |= claims_anything(lfirst(lc));
	if (claims)
		insert_claims(f);
	foreach (lc, f->inserts)
	{
		NewRecord *r = lfirst(lc);

		if (!claims_anything(r))
			insert_record(f, r);
	}
	foreach (lc, f->deletes)
		store_delete(f->rel, lfirst(lc), f->buf->cid);
}

static void
mark_written(Flush *f)
{
	WriteBuffer *buf = f->buf;

	for (int g = 0; g < buf->n_groups; g++)
		for (int s = 0; s < CSEG_SLOTS; s++)
			if (buf->groups[g]->refs[s] && f->groups[g].acc && (f->groups[g].changed & (UINT64CONST(1) << s)) != 0 &&
				f->groups[g].acc[s].rows != 0)
				buf->groups[g]->refs[s]->exists = true;
}

static void
prepare_groups(Flush *f)
{
	f->groups = palloc0(sizeof(FlushGroup) * Max(f->buf->n_groups, 1));
	for (int g = 0; g < f->buf->n_groups; g++)
	{
		FlushGroup *group = &f->groups[g];

		group->wg = f->buf->groups[g];
		if (group->wg->exists)
			group->sg = store_find_group(f->newest->view, group->wg->group_no);
		for (int s = 0; s < CSEG_SLOTS; s++)
			group->alias[s] = UINT64CONST(1) << s;
		group->fills = fills_up(group);
	}
}

static bool
folding_is_safe(const Flush *f, bool final)
{
	/* TOAST values get the current command's id whatever the record's: they can't be deleted before the next. */
	if (f->wr->wrote_blobs && GetCurrentCommandId(false) <= f->wr->last_blob_cid)
		return false;
	return final && GetCurrentCommandId(false) >= f->buf->cid;
}

static void
report_counts(Flush *f)
{
	store_count_rows(f->rel, f->buf->inserted, f->buf->updated, f->buf->deleted);
	f->buf->inserted = f->buf->updated = f->buf->deleted = 0;
}

void
write_flush(WriteRel *wr, Relation rel, WriteBuffer *buf, bool final)
{
	MemoryContext work = AllocSetContextCreate(wr->cxt, "customer_segmentation flush", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(work);
	Flush f = {.wr = wr, .rel = rel, .buf = buf};
	StoreOwner *owner;

	write_resolve(wr, rel, buf);
	CSEG_CALL(rel, cseg_batch_settle(buf->batch, store_stop_flag(), &err));
	f.newest = write_newest(wr, rel, buf->cid);
	f.may_fold = folding_is_safe(&f, final);
	if (f.may_fold)
		find_untidy_groups(&f);
	prepare_groups(&f);
	find_aliases(&f);
	f.changes = changes_list(buf, &f.n_changes);
	if (f.may_fold)
		find_emptied(&f);
	owner = store_owner_new(work, cseg_cell_free);
	for (int i = 0; i < f.n_changes; i++)
	{
		ChangeKey key = f.changes[i];

		CHECK_FOR_INTERRUPTS();
		flush_cell(&f, &f.groups[key.group], key.container, changes_cell(buf, rel, key, owner));
	}
	for (int g = 0; g < buf->n_groups; g++)
	{
		if (f.may_fold && f.groups[g].sg)
			tidy_group(&f, &f.groups[g]);
		flush_group(&f, &f.groups[g]);
	}
	write_records(&f);
	mark_written(&f);
	report_counts(&f);
	changes_close_file(buf);
	cseg_batch_clear(buf->batch);
	write_forget_newest(wr);
	am_note_write();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(work);
}

/* ---- addresses at once
 * ----------------------------------------------------------------------------------------------------- */

/*
 * The number of the cell where a row of this instance and container will be, for rows whose address must be known
 * before they are written (INSERT ... RETURNING): an empty base, and where needed the group, claim it.
 */
void
write_claim_cell(WriteRel *wr, Relation rel, WriteBuffer *buf, InstanceRef *ref, uint32 container, uint32 *cell_no)
{
	AmReader *newest = write_newest(wr, rel, buf->cid);
	WriteGroup *wg = ref->group;
	StoreGroup *sg = wg->exists ? store_find_group(newest->view, wg->group_no) : NULL;
	StoreCell *sc = sg ? store_group_cell(sg, container) : NULL;
	MemoryContext work;
	MemoryContext old;
	Flush f = {.wr = wr, .rel = rel, .buf = buf, .newest = newest, .needs_numbers = true};
	FlushGroup group = {.wg = wg, .sg = sg};
	CsegCell *empty;
	StoreOwner *owner;
	const uint8 *bytes;
	size_t len;
	NewRecord *r;
	StringInfoData body;

	if (sc)
	{
		*cell_no = sc->cell_no;
		return;
	}
	work = AllocSetContextCreate(wr->cxt, "customer_segmentation claim", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(work);
	owner = store_owner_new(work, cseg_cell_free);
	CSEG_CALL(rel, cseg_cell_new(&empty, &err));
	store_owner_set(owner, empty);
	CSEG_CALL(rel, cseg_cell_encode(empty, &bytes, &len, &err));
	if (sg == NULL)
	{
		initStringInfo(&body);
		store_encode_group(&body, &wg->dims);
		new_record(&f, STORE_GROUP, 0, &group, 0, 0, 0, (uint8 *) body.data, body.len);
	}
	r = new_record(&f, STORE_BASE, 0, &group, 0, container, 0, bytes, len);
	r->needs_cell_no = true;
	insert_claims(&f);
	*cell_no = r->a;
	write_forget_newest(wr);
	am_note_write();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(work);
}
