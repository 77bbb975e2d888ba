/*
 * care.c
 *    storage_info.
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
#include "sqlfn/answers.h"

PG_FUNCTION_INFO_V1(customer_segmentation_storage_info);

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

static int
compare_ids(const void *a, const void *b)
{
	return answers_compare_texts(*(const text *const *) a, *(const text *const *) b);
}

/* What SQL would group by segment_instance_id: rows that differ in other dimensions are stored as several. */
static int64
count_instances(const StoreView *view)
{
	const text **ids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(text *) * Max(view->n_instances, 1));
	int64 distinct = 0;
	int n = 0;

	for (int i = 0; i < view->n_instances; i++)
		if (view->instances[i]->rows > 0)
			ids[n++] = view->instances[i]->dims.segment_instance_id;
	qsort(ids, n, sizeof(text *), compare_ids);
	for (int i = 0; i < n; i++)
		distinct += i == 0 || compare_ids(&ids[i - 1], &ids[i]) != 0;
	pfree(ids);
	return distinct;
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
	n[INFO_INSTANCES] = count_instances(view);
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
