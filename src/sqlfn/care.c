/*
 * care.c
 *    storage_info and verify.
 */
#include "sqlfn/sqlfn.h"

#include "access/table.h"
#include "access/xact.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "am/am.h"
#include "compat/compat.h"

PG_FUNCTION_INFO_V1(customer_segmentation_storage_info);
PG_FUNCTION_INFO_V1(customer_segmentation_verify);

/* ---- storage_info --------------------------------------------------------------------------------------------------
 */

enum
{
	INFO_ROWS,
	INFO_INSTANCES,
	INFO_CUSTOMERS,
	INFO_GROUPS,
	INFO_CELLS,
	INFO_BASES,
	INFO_DELTAS,
	INFO_GROUP_BYTES,
	INFO_INSTANCE_BYTES,
	INFO_BASE_BYTES,
	INFO_DELTA_BYTES,
	INFO_DICTIONARY_BYTES,
	INFO_TOTAL_BYTES,
	INFO_BYTES_PER_ROW,
	INFO_COLUMNS
};

static int64
total_size(Oid relid)
{
	return DatumGetInt64(DirectFunctionCall1(pg_total_relation_size, ObjectIdGetDatum(relid)));
}

Datum
customer_segmentation_storage_info(PG_FUNCTION_ARGS)
{
	Relation rel = sqlfn_open(PG_GETARG_OID(0), AccessShareLock);
	Datum values[INFO_COLUMNS];
	bool nulls[INFO_COLUMNS] = {false};
	int64 n[INFO_COLUMNS] = {0};
	AmReader *reader;
	StoreView *view;
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	am_flush_before_read(rel, GetActiveSnapshot());
	reader = am_reader_acquire(rel, GetActiveSnapshot());
	view = reader->view;
	store_view_totals(rel, view);
	n[INFO_ROWS] = view->rows;
	n[INFO_INSTANCES] = view->n_instances;
	n[INFO_CUSTOMERS] = (int64) cseg_dict_count(reader->dict->dict);
	n[INFO_GROUPS] = view->n_groups;
	n[INFO_CELLS] = view->n_cells;
	for (int i = 0; i < view->n_groups; i++)
		n[INFO_GROUP_BYTES] += view->groups[i]->rec->body_len;
	for (int i = 0; i < view->n_instances; i++)
		n[INFO_INSTANCE_BYTES] += view->instances[i]->rec->body_len;
	for (int i = 0; i < view->n_cells; i++)
	{
		StoreCell *cell = view->cells[i];

		n[INFO_BASES] += cell->base != NULL;
		n[INFO_BASE_BYTES] += cell->base ? cell->base->body_len : 0;
		n[INFO_DELTAS] += cell->n_deltas;
		for (int d = 0; d < cell->n_deltas; d++)
			n[INFO_DELTA_BYTES] += cell->deltas[d]->body_len;
	}
	for (int i = 0; i < view->n_dict; i++)
		n[INFO_DICTIONARY_BYTES] += view->dict[i]->body_len;
	n[INFO_TOTAL_BYTES] = total_size(RelationGetRelid(rel));
	for (int i = 0; i < INFO_COLUMNS; i++)
		values[i] = Int64GetDatum(n[i]);
	nulls[INFO_BYTES_PER_ROW] = view->rows == 0;
	values[INFO_BYTES_PER_ROW] =
		Float8GetDatum(view->rows == 0 ? 0 : (double) n[INFO_TOTAL_BYTES] / (double) view->rows);
	am_reader_release(reader);
	table_close(rel, AccessShareLock);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/* ---- verify
 * ---------------------------------------------------------------------------------------------------------- */

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

static void
index_groups(Verify *v)
{
	StoreView *view = v->reader->view;

	v->actual = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(CsegTotals) * CSEG_SLOTS * Max(view->n_groups, 1));
	for (int i = 0; i < view->n_groups * CSEG_SLOTS; i++)
		cseg_totals_init(&v->actual[i]);
	v->group_index = palloc0(sizeof(int) * Max(view->n_cells, 1));
	for (int c = 0; c < view->n_cells; c++)
	{
		int lo = 0;
		int hi = view->n_groups - 1;

		while (lo < hi)
		{
			int mid = (lo + hi) / 2;

			if (view->groups[mid]->group_no < view->cells[c]->group->group_no)
				lo = mid + 1;
			else
				hi = mid;
		}
		v->group_index[c] = lo;
	}
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
