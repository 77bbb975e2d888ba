/*
 * verify.c
 *    Holds everything stored against everything else: records, blobs, numbers, sums and names.
 */
#include "sqlfn/sqlfn.h"

#include "access/table.h"
#include "access/xact.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "am/am.h"
#include "compat/compat.h"

PG_FUNCTION_INFO_V1(customer_segmentation_verify);

typedef struct Verify
{
	Relation rel;
	ReturnSetInfo *rsinfo;
	AmReader *reader;
	int at;
	CsegTotals *actual; /* by group index and slot */
	int *group_index;   /* by cell index */
} Verify;

static void
report(Verify *v, const char *problem)
{
	Datum value = CStringGetTextDatum(problem);
	bool isnull = false;

	tuplestore_putvalues(v->rsinfo->setResult, v->rsinfo->setDesc, &value, &isnull);
}

/* Runs a check in a subtransaction, so that an error becomes a line of the result. Cancels are not caught. */
static bool
attempt(Verify *v, void (*check)(Verify *))
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool ok = true;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(old);
	PG_TRY();
	{
		check(v);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(old);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData *e;

		MemoryContextSwitchTo(old);
		e = CopyErrorData();
		if (e->sqlerrcode == ERRCODE_QUERY_CANCELED || e->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN ||
			e->sqlerrcode == ERRCODE_OUT_OF_MEMORY)
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(old);
		CurrentResourceOwner = owner;
		report(v, e->detail ? psprintf("%s: %s", e->message, e->detail) : e->message);
		ok = false;
	}
	PG_END_TRY();
	return ok;
}

static void
check_records(Verify *v)
{
	v->reader = am_reader_fresh(v->rel, GetActiveSnapshot());
}

static void
check_totals_readable(Verify *v)
{
	store_view_totals(v->rel, v->reader->view);
}

static void
check_dictionary(Verify *v)
{
	StoreRecord *rec = v->reader->view->dict[v->at];
	uint32 count;

	CSEG_CALL(v->rel, cseg_dict_check(store_body(v->rel, rec), rec->body_len, &count, &err));
	if (count != rec->b)
		report(v,
			   psprintf("dictionary record at ordinal %u holds %u texts, its header says %u", rec->a, count, rec->b));
	if (v->at > 0)
	{
		StoreRecord *before = v->reader->view->dict[v->at - 1];

		if (before->a + before->b > rec->a)
			report(v, psprintf("dictionary records at ordinals %u and %u overlap", before->a, rec->a));
	}
}

static void
check_identities(Verify *v, StoreCell *cell, CsegCell *data)
{
	CsegCursor *cursor;
	CsegSlotView rows;
	StoreOwner *owner = store_owner_new(CurrentMemoryContext, cseg_cursor_free);
	const void *const *texts;
	uint32 missing = 0;

	CSEG_CALL(v->rel, cseg_cursor_new(&cursor, data, &err));
	store_owner_set(owner, cursor);
	CSEG_CALL(v->rel, cseg_cursor_seek(cursor, 0, 0, &rows, &err));
	CSEG_CALL(v->rel, cseg_dict_pin(v->reader->dict->dict, cell->container, &texts, &err));
	for (uint32 i = 0; i < rows.n_entries; i++)
		missing += texts[rows.entry_low[i]] == NULL;
	cseg_dict_unpin(v->reader->dict->dict, cell->container);
	if (missing > 0)
		report(v, psprintf("cell %u refers to %u customers that are not in the dictionary", cell->cell_no, missing));
}

static void
check_cell(Verify *v)
{
	StoreCell *cell = v->reader->view->cells[v->at];
	MemoryContext cxt =
		AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation verify", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	StoreOwner *owner = store_owner_new(cxt, cseg_cell_free);
	CsegCell *data = store_read_cell(v->rel, cell, false);
	CsegTotals totals[CSEG_SLOTS];
	uint64 slots;

	store_owner_set(owner, data);
	CSEG_CALL(v->rel, cseg_cell_check(data, &err));
	check_identities(v, cell, data);
	CSEG_CALL(v->rel, cseg_cell_totals(data, totals, &slots, &err));
	for (int s = 0; s < CSEG_SLOTS; s++)
	{
		if ((slots & (UINT64CONST(1) << s)) == 0)
			continue;
		if (cell->group->instance[s] == NULL)
			report(v, psprintf("cell %u holds rows of slot %d, which is no instance", cell->cell_no, s));
		else
			cseg_totals_add_change(&v->actual[v->group_index[v->at] * CSEG_SLOTS + s], &totals[s]);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

static void
check_instance(Verify *v, StoreInstance *inst, const CsegTotals *actual)
{
	if (cseg_totals_consistent(inst->totals, actual))
		return;
	report(v,
		   psprintf("totals of instance \"%s\" do not agree with its cells: %lld rows stored, %lld counted",
					text_to_cstring(inst->dims.segment_instance_id), (long long) inst->rows, (long long) actual->rows));
}

/* The customers of one container in an instance. */
static void
read_members(Verify *v, const StoreInstance *inst, StoreCell *cell, uint64 bits[CSEG_MEMBER_WORDS])
{
	MemoryContext cxt =
		AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation verify", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	StoreOwner *owner = store_owner_new(cxt, cseg_cell_free);
	CsegCell *data = store_read_cell(v->rel, cell, false);

	store_owner_set(owner, data);
	memset(bits, 0, sizeof(uint64) * CSEG_MEMBER_WORDS);
	CSEG_CALL(v->rel, cseg_cell_members(data, UINT64CONST(1) << inst->slot, bits, &err));
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

/* Rows that differ in dimensions share an instance's name, but not a customer. */
static void
check_pair(Verify *v, const StoreInstance *a, const StoreInstance *b)
{
	int64 twice = 0;

	for (int c = 0; c < a->group->n_cells; c++)
	{
		StoreCell *other = store_group_cell(b->group, a->group->cells[c]->container);
		uint64 ours[CSEG_MEMBER_WORDS];
		uint64 theirs[CSEG_MEMBER_WORDS];

		if (other == NULL)
			continue;
		read_members(v, a, a->group->cells[c], ours);
		read_members(v, b, other, theirs);
		for (int w = 0; w < CSEG_MEMBER_WORDS; w++)
			twice += pg_popcount64(ours[w] & theirs[w]);
	}
	if (twice > 0)
		report(v, psprintf("instance \"%s\" holds %lld customers twice", text_to_cstring(a->dims.segment_instance_id),
						   (long long) twice));
}

/* A name belongs to one segment, and each customer of it is there once. */
static void
check_name(Verify *v)
{
	StoreView *view = v->reader->view;
	StoreInstance *inst = view->instances[v->at];
	StoreInstance *other;

	if (inst->rows == 0)
		return;
	for (int at = -1; (other = store_find_instance(view, inst->dims.segment_instance_id, &at)) != NULL;)
	{
		/* Each pair once. */
		if (at <= v->at || other->rows == 0)
			continue;
		if (store_text_equal(inst->group->dims.segment_id, other->group->dims.segment_id))
			check_pair(v, inst, other);
		else
			report(v, psprintf("instance \"%s\" belongs to segment \"%s\" and to segment \"%s\"",
							   text_to_cstring(inst->dims.segment_instance_id),
							   text_to_cstring(inst->group->dims.segment_id),
							   text_to_cstring(other->group->dims.segment_id)));
	}
}

static void
index_groups(Verify *v)
{
	StoreView *view = v->reader->view;

	v->actual = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(CsegTotals) * CSEG_SLOTS * Max(view->n_groups, 1));
	for (int i = 0; i < view->n_groups * CSEG_SLOTS; i++)
		cseg_totals_init(&v->actual[i]);
	v->group_index = palloc0(sizeof(int) * Max(view->n_cells, 1));
	for (int c = 0; c < view->n_cells; c++)
		v->group_index[c] = store_group_place(view, view->cells[c]->group);
}

static void
verify_relation(Verify *v)
{
	StoreView *view;
	bool cells_ok = true;

	am_flush_before_read(v->rel, GetActiveSnapshot());
	if (!attempt(v, check_records))
		return;
	view = v->reader->view;
	if (!attempt(v, check_totals_readable))
		cells_ok = false;
	for (v->at = 0; v->at < view->n_dict; v->at++)
		attempt(v, check_dictionary);
	index_groups(v);
	for (v->at = 0; v->at < view->n_cells; v->at++)
		cells_ok &= attempt(v, check_cell);
	for (int g = 0; cells_ok && g < view->n_groups; g++)
		for (int s = 0; s < CSEG_SLOTS; s++)
			if (view->groups[g]->instance[s])
				check_instance(v, view->groups[g]->instance[s], &v->actual[g * CSEG_SLOTS + s]);
	for (v->at = 0; cells_ok && v->at < view->n_instances; v->at++)
		attempt(v, check_name);
	am_reader_release(v->reader);
}

Datum
customer_segmentation_verify(PG_FUNCTION_ARGS)
{
	Verify v = {.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo};

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	v.rel = sqlfn_open(PG_GETARG_OID(0), AccessShareLock);
	verify_relation(&v);
	table_close(v.rel, AccessShareLock);
	return (Datum) 0;
}
