/*
 * rewrite.c
 *    What replaces dictionary records: a rewrite of the whole table into its best layout, and forgetting an identity.
 *
 * Both shut out every other writer to the end of the transaction, and then look at the newest state. They insert new
 * records and delete old ones in the transaction, so readers, who are not kept waiting, see the one or the other state
 * by their snapshots, and an abort leaves the old one.
 */
#include "am/repack.h"

#include "access/xact.h"
#include "commands/tablecmds.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "am/write.h"

/* A dictionary record of a rewrite holds about so many identities at most, which bounds the memory to sort them. */
#define CONTAINERS_PER_RECORD 32

typedef struct NewRecord
{
	StoreKind kind;
	uint16 flags;
	int group; /* index of the new group; dictionary: none */
	uint32 a;
	uint32 b;
	uint32 c;
	StoreBody body;
} NewRecord;

typedef struct Rewrite
{
	Relation rel;
	WriteRel *wr;
	AmReader *from;
	CommandId cid;
	MemoryContext cxt; /* of the records, to the end */
	AmNumbering *numbering;
	uint32 customers;
	int n_groups;
	size_t old_bytes; /* all cells, decoded */
	List *records;    /* NewRecord */
} Rewrite;

/* ---- start and end ---------------------------------------------------------------------------------------------- */

static void
begin(Rewrite *rw, Relation rel, const char *what)
{
	memset(rw, 0, sizeof(*rw));
	CheckTableNotInUse(rel, what);
	am_flush_before_read(rel, NULL);
	am_flush_relation(rel);
	rw->rel = rel;
	rw->wr = write_rel(rel, true);
	write_lock_all(rw->wr);
	/* A command may not delete what it has written itself. */
	CommandCounterIncrement();
	rw->cid = GetCurrentCommandId(true);
	rw->cxt = AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation rewrite", ALLOCSET_DEFAULT_SIZES);
	rw->from = am_reader_newest(rel, rw->cid, rw->cxt);
}

static void
end(Rewrite *rw)
{
	write_forget_newest(rw->wr);
	rw->wr->dict = NULL;
	rw->wr->wrote_blobs = true;
	rw->wr->last_blob_cid = rw->cid;
	am_note_write();
	CommandCounterIncrement();
	MemoryContextDelete(rw->cxt);
}

/*
 * Above READ COMMITTED a transaction sees what its one snapshot does: replacing a record that it does not see would
 * show it rows twice.
 */
static void
check_deletable(Rewrite *rw, const StoreRecord *rec)
{
	if (rec->deletable)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE), errmsg("could not serialize access due to concurrent update"),
			 errdetail("Relation \"%s\" was changed since the transaction's snapshot was taken.",
					   RelationGetRelationName(rw->rel)),
			 errhint("Run it in a transaction of its own, at READ COMMITTED.")));
}

static void
each_record(Rewrite *rw, void (*call)(Rewrite *rw, const StoreRecord *rec))
{
	StoreView *view = rw->from->view;

	for (int i = 0; i < view->n_groups; i++)
		call(rw, view->groups[i]->rec);
	for (int i = 0; i < view->n_instances; i++)
		call(rw, view->instances[i]->rec);
	for (int i = 0; i < view->n_cells; i++)
	{
		if (view->cells[i]->base)
			call(rw, view->cells[i]->base);
		for (int d = 0; d < view->cells[i]->n_deltas; d++)
			call(rw, view->cells[i]->deltas[d]);
	}
	for (int i = 0; i < view->n_dict; i++)
		call(rw, view->dict[i]);
	for (int i = 0; i < view->n_strays; i++)
		call(rw, view->strays[i]);
	for (int i = 0; i < view->n_marks; i++)
		call(rw, view->marks[i]);
}

static void
delete_record(Rewrite *rw, const StoreRecord *rec)
{
	CHECK_FOR_INTERRUPTS();
	store_delete(rw->rel, rec, rw->cid);
}

void
am_lock_writers(Relation rel)
{
	write_lock_all(write_rel(rel, true));
}

/* ---- new records ------------------------------------------------------------------------------------------------ */

static NewRecord *
add_record(Rewrite *rw, StoreKind kind, uint16 flags, int group, const uint8 *bytes, size_t len)
{
	MemoryContext old = MemoryContextSwitchTo(rw->cxt);
	NewRecord *r = palloc0(sizeof(NewRecord));

	r->kind = kind;
	r->flags = flags;
	r->group = group;
	store_save_body(rw->rel, &r->body, bytes, len, false);
	if (r->body.external)
	{
		/* The record itself needs no more than the length. */
		pfree(r->body.data.data);
		r->body.data.data = NULL;
	}
	rw->records = lappend(rw->records, r);
	MemoryContextSwitchTo(old);
	return r;
}

static void
insert_records(Rewrite *rw, uint32 generation)
{
	uint32 *group_no = palloc(sizeof(uint32) * Max(rw->n_groups, 1));
	StoreNumbers used;
	uint32 group_hint = 0;
	uint32 cell_hint = 0;
	ListCell *lc;

	store_short_lock(rw->rel);
	store_numbers_in_use(rw->rel, &used);
	for (int g = 0; g < rw->n_groups; g++)
		group_no[g] = store_next_number(&used.groups, &group_hint, STORE_MAX_GROUP_NO, "group");
	foreach (lc, rw->records)
	{
		NewRecord *r = lfirst(lc);

		if (r->kind == STORE_BASE)
			r->a = store_next_number(&used.cells, &cell_hint, STORE_MAX_CELL_NO, "cell");
		store_insert(rw->rel, r->kind, r->flags, r->kind == STORE_DICT ? generation : group_no[r->group], r->a, r->b,
					 r->c, &r->body, rw->cid, false);
	}
	store_short_unlock(rw->rel);
}

/* ---- customers -------------------------------------------------------------------------------------------------- */

static void
mark_customers(Rewrite *rw)
{
	StoreView *view = rw->from->view;

	rw->numbering = am_numbering_new(rw->rel, rw->from);
	for (int i = 0; i < view->n_cells; i++)
		rw->old_bytes += am_numbering_mark(rw->rel, rw->numbering, view->cells[i]);
}

static void
add_dictionary_record(Rewrite *rw, uint32 first, uint32 count, const StringInfo bytes)
{
	bool is_root = first == 0;
	NewRecord *r =
		add_record(rw, STORE_DICT, is_root ? STORE_FLAG_ROOT : 0, -1, (const uint8 *) bytes->data, (size_t) bytes->len);

	r->a = first;
	r->b = count;
}

/* A generation has a root even where nobody is left. */
static void
add_empty_root(Rewrite *rw)
{
	StringInfoData record;
	uint8 *bytes;
	size_t len;

	CSEG_CALL(rw->rel, cseg_dict_encode(NULL, NULL, 0, &bytes, &len, &err));
	initStringInfo(&record);
	appendBinaryStringInfo(&record, (const char *) bytes, (int) len);
	cseg_bytes_free(bytes);
	add_dictionary_record(rw, 0, 0, &record);
}

static void
number_customers(Rewrite *rw)
{
	uint32 containers = (uint32) (((uint64) rw->numbering->n + CSEG_CONTAINER_SIZE - 1) >> CSEG_CONTAINER_BITS);

	for (uint32 c = 0; c < containers; c += CONTAINERS_PER_RECORD)
	{
		StringInfoData record;
		uint32 count;

		initStringInfo(&record);
		count = am_numbering_assign(rw->rel, rw->from, rw->numbering, c, Min(c + CONTAINERS_PER_RECORD, containers),
									rw->customers, &record);
		if (count > 0)
			add_dictionary_record(rw, rw->customers, count, &record);
		rw->customers += count;
		pfree(record.data);
		cseg_dict_trim(rw->from->dict->dict, (size_t) store_dictionary_cache_kb * 1024);
	}
	if (rw->customers == 0 && rw->from->view->dict_root)
		add_empty_root(rw);
}

/* ---- groups ----------------------------------------------------------------------------------------------------- */

static int
compare_texts(const text *a, const text *b)
{
	int c;

	if (a == NULL || b == NULL)
		return (a != NULL) - (b != NULL);
	c = memcmp(VARDATA_ANY(a), VARDATA_ANY(b), Min(VARSIZE_ANY_EXHDR(a), VARSIZE_ANY_EXHDR(b)));
	return c ? c : (VARSIZE_ANY_EXHDR(a) > VARSIZE_ANY_EXHDR(b)) - (VARSIZE_ANY_EXHDR(a) < VARSIZE_ANY_EXHDR(b));
}

static int
compare_dims(const StoreGroupDims *a, const StoreGroupDims *b)
{
	int c = compare_texts(a->segment_id, b->segment_id);

	c = c ? c : compare_texts(a->segment_name, b->segment_name);
	c = c ? c : compare_texts(a->segment_by, b->segment_by);
	c = c ? c : compare_texts(a->schedule, b->schedule);
	c = c ? c : (int) a->has_segment_created - (int) b->has_segment_created;
	if (c == 0 && a->has_segment_created)
		c = (a->segment_created_date > b->segment_created_date) - (a->segment_created_date < b->segment_created_date);
	return c;
}

/* Neighbours in time become neighbours in the matrix. */
static int
by_group_and_time(const void *a, const void *b)
{
	const StoreInstance *x = *(StoreInstance *const *) a;
	const StoreInstance *y = *(StoreInstance *const *) b;
	int c = compare_dims(&x->group->dims, &y->group->dims);

	if (c)
		return c;
	if (x->dims.instance_created_date != y->dims.instance_created_date)
		return x->dims.instance_created_date < y->dims.instance_created_date ? -1 : 1;
	return compare_texts(x->dims.segment_instance_id, y->dims.segment_instance_id);
}

static void
add_bases(Rewrite *rw, CsegBatch *batch, int group, CsegTotals totals[CSEG_SLOTS])
{
	uint32 n = cseg_batch_cells(batch);

	for (uint32 i = 0; i < n; i++)
	{
		uint32 ignored;
		uint32 container;
		CsegCell *cell = cseg_batch_cell(batch, i, &ignored, &container);
		CsegTotals of_cell[CSEG_SLOTS];
		uint64 slots;
		uint32 customers;
		uint64 rows;
		uint64 removed;
		const uint8 *bytes;
		size_t len;
		NewRecord *r;

		CHECK_FOR_INTERRUPTS();
		CSEG_CALL(rw->rel, cseg_cell_counts(cell, &customers, &rows, &removed, &err));
		CSEG_CALL(rw->rel, cseg_cell_totals(cell, of_cell, &slots, &err));
		for (int s = 0; s < CSEG_SLOTS; s++)
			if (slots & (UINT64CONST(1) << s))
				cseg_totals_add(&totals[s], &of_cell[s]);
		CSEG_CALL(rw->rel, cseg_cell_encode(cell, &bytes, &len, &err));
		r = add_record(rw, STORE_BASE, 0, group, bytes, len);
		r->b = container;
		r->c = (uint32) Min(rows, PG_UINT32_MAX);
	}
}

/* So many containers at a time that their decoded cells stay within the write buffer, by what all old cells take. */
static uint32
containers_at_a_time(const Rewrite *rw, uint32 containers, int n_instances)
{
	double share = (double) n_instances / Max(rw->from->view->n_instances, 1);
	double bytes = (double) rw->old_bytes * Min(1.0, 2.0 * share);
	double passes = bytes / ((double) am_write_buffer_kb * 1024);

	return (uint32) Max(1.0, containers / Max(passes, 1.0));
}

static void
add_group(Rewrite *rw, StoreInstance *const *instances, int n)
{
	MemoryContext cxt =
		AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation new group", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	StoreOwner *owner = store_owner_new(cxt, cseg_batch_free);
	uint32 containers = (uint32) (((uint64) rw->customers + CSEG_CONTAINER_SIZE - 1) >> CSEG_CONTAINER_BITS);
	uint32 at_a_time = containers_at_a_time(rw, containers, n);
	int group = rw->n_groups++;
	AmRepack repack = {.numbering = rw->numbering, .n = n, .instances = instances};
	CsegTotals totals[CSEG_SLOTS];
	CsegBatch *batch;
	StringInfoData body;

	CSEG_CALL(rw->rel, cseg_batch_new(&batch, &err));
	store_owner_set(owner, batch);
	initStringInfo(&body);
	store_encode_group(&body, &instances[0]->group->dims);
	add_record(rw, STORE_GROUP, 0, group, (uint8 *) body.data, body.len);
	for (int i = 0; i < n; i++)
		cseg_totals_init(&totals[i]);
	for (uint32 c = 0; c < containers; c += at_a_time)
	{
		repack.first_container = c;
		repack.end_container = c + at_a_time;
		am_repack(rw->rel, &repack, batch);
		add_bases(rw, batch, group, totals);
		cseg_batch_clear(batch);
	}
	for (int i = 0; i < n; i++)
	{
		resetStringInfo(&body);
		store_encode_instance(&body, &instances[i]->dims, &totals[i]);
		add_record(rw, STORE_INSTANCE, 0, group, (uint8 *) body.data, body.len)->a = (uint32) i;
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

static void
regroup(Rewrite *rw)
{
	StoreView *view = rw->from->view;
	StoreInstance **instances = palloc(sizeof(StoreInstance *) * Max(view->n_instances, 1));
	int n = 0;

	store_view_rows(rw->rel, view);
	for (int i = 0; i < view->n_instances; i++)
		if (view->instances[i]->rows > 0)
			instances[n++] = view->instances[i];
	qsort(instances, n, sizeof(StoreInstance *), by_group_and_time);
	for (int from = 0, to; from < n; from = to)
	{
		for (to = from + 1; to < n && to - from < CSEG_SLOTS; to++)
			if (compare_dims(&instances[from]->group->dims, &instances[to]->group->dims) != 0)
				break;
		add_group(rw, instances + from, to - from);
	}
	pfree(instances);
}

void
am_optimize(Relation rel)
{
	Rewrite rw;

	begin(&rw, rel, "optimize");
	each_record(&rw, check_deletable);
	mark_customers(&rw);
	number_customers(&rw);
	regroup(&rw);
	insert_records(&rw, am_new_generation());
	each_record(&rw, delete_record);
	end(&rw);
}

/* ---- forgetting an identity ------------------------------------------------------------------------------------- */

static void
check_gone(Rewrite *rw, uint32 ordinal)
{
	StoreView *view = rw->from->view;
	uint32 container = ordinal >> CSEG_CONTAINER_BITS;
	uint16 low = (uint16) (ordinal & (CSEG_CONTAINER_SIZE - 1));
	StoreOwner *owner = store_owner_new(rw->cxt, cseg_cell_free);

	for (int i = 0; i < view->n_cells; i++)
	{
		StoreCell *cell = view->cells[i];
		CsegCell *data;
		uint64 mask;

		if (cell->container != container)
			continue;
		CHECK_FOR_INTERRUPTS();
		data = store_read_cell_range(rw->rel, cell, low, low, false);
		store_owner_set(owner, data);
		CSEG_CALL(rw->rel, cseg_cell_mask(data, low, &mask, &err));
		if (mask != 0)
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("could not serialize access due to concurrent update"),
					 errdetail("Relation \"%s\" still has rows of the customer.", RelationGetRelationName(rw->rel)),
					 errhint("They came after the transaction's snapshot, or a trigger or policy kept them. Run it in "
							 "a transaction of its own, at READ COMMITTED.")));
	}
}

static const StoreRecord *
record_of(const StoreView *view, uint32 ordinal)
{
	for (int i = 0; i < view->n_dict; i++)
		if (ordinal >= view->dict[i]->a && ordinal - view->dict[i]->a < view->dict[i]->b)
			return view->dict[i];
	elog(ERROR, "no dictionary record holds customer number %u", ordinal);
}

/* A dictionary of its own that holds one record, freed with the context. */
static CsegDict *
decode_record(Rewrite *rw, const StoreRecord *rec)
{
	StoreOwner *owner = store_owner_new(rw->cxt, cseg_dict_free);
	CsegDict *dict;

	/* Without a shift a text's header is its length and 4. */
	CSEG_CALL(rw->rel, cseg_dict_new(&dict, 0, &err));
	store_owner_set(owner, dict);
	CSEG_CALL(rw->rel, cseg_dict_add(dict, rec->a, store_body(rw->rel, rec), rec->body_len, &err));
	return dict;
}

/* The texts of ordinals first..end-1, of the one record in the dictionary, as a record of their own. */
static void
add_piece(Rewrite *rw, uint16 flags, CsegDict *dict, uint32 first, uint32 end)
{
	uint32 n = end - first;
	const uint8 **texts = MemoryContextAllocHuge(rw->cxt, sizeof(uint8 *) * Max((Size) n, 1));
	size_t *lens = MemoryContextAllocHuge(rw->cxt, sizeof(size_t) * Max((Size) n, 1));
	StoreOwner *owner = store_owner_new(rw->cxt, cseg_bytes_free);
	const void *const *container = NULL;
	uint8 *bytes;
	size_t len;
	NewRecord *r;

	for (uint32 i = 0; i < n; i++)
	{
		uint32 low = (first + i) & (CSEG_CONTAINER_SIZE - 1);
		uint32 header;

		/* Pins go with the dictionary. */
		if (container == NULL || low == 0)
			CSEG_CALL(rw->rel, cseg_dict_pin(dict, (first + i) >> CSEG_CONTAINER_BITS, &container, &err));
		memcpy(&header, container[low], sizeof(header));
		texts[i] = (const uint8 *) container[low] + sizeof(header);
		lens[i] = header - sizeof(header);
	}
	CSEG_CALL(rw->rel, cseg_dict_encode(texts, lens, n, &bytes, &len, &err));
	store_owner_set(owner, bytes);
	r = add_record(rw, STORE_DICT, flags, -1, bytes, len);
	r->a = first;
	r->b = n;
	store_owner_set(owner, NULL);
	pfree(texts);
	pfree(lens);
}

/*
 * What is before and what is behind the text. A generation keeps a root, if an empty one. Where the last ordinal goes,
 * a mark remembers that it was given out: it must never mean somebody else to who has kept it.
 */
static void
split_record(Rewrite *rw, const StoreRecord *rec, uint32 ordinal)
{
	CsegDict *dict = decode_record(rw, rec);
	uint16 root = rec->flags & STORE_FLAG_ROOT;
	uint32 end = rec->a + rec->b;

	if (ordinal > rec->a)
		add_piece(rw, root, dict, rec->a, ordinal);
	if (ordinal + 1 < end || (root && ordinal == rec->a))
		add_piece(rw, ordinal > rec->a ? 0 : root, dict, ordinal + 1, end);
	else if (end == cseg_dict_next(rw->from->dict->dict))
		add_piece(rw, 0, dict, end, end);
}

bool
am_forget_identity(Relation rel, const text *identity)
{
	Rewrite rw;
	StoreView *view;
	uint32 ordinal;
	bool found;

	begin(&rw, rel, "erase a customer from");
	view = rw.from->view;
	CSEG_CALL(rel, cseg_dict_find(rw.from->dict->dict, (const uint8 *) VARDATA_ANY(identity),
								  VARSIZE_ANY_EXHDR(identity), &found, &ordinal, &err));
	if (found)
	{
		const StoreRecord *rec = record_of(view, ordinal);

		check_deletable(&rw, rec);
		check_gone(&rw, ordinal);
		split_record(&rw, rec, ordinal);
		insert_records(&rw, view->generation);
		delete_record(&rw, rec);
	}
	/* What an aborted rewrite has left may hold it too, and is of no use to anybody. */
	for (int i = 0; i < view->n_strays; i++)
		delete_record(&rw, view->strays[i]);
	end(&rw);
	return found;
}
