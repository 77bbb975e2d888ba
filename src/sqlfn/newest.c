/*
 * newest.c
 *    The newest instance of each segment: what the view customer_segmentation_latest shows.
 */
#include "sqlfn/answers.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rls.h"

#define COLUMNS_READ \
	((UINT32_C(1) << COL_SEGMENT_ID) | (UINT32_C(1) << COL_INSTANCE_ID) | (UINT32_C(1) << COL_INSTANCE_DATE))

PG_FUNCTION_INFO_V1(customer_segmentation_newest_instances);

static bool
is_newer(const StoreInstance *a, const StoreInstance *b)
{
	if (b == NULL || a->dims.instance_created_date != b->dims.instance_created_date)
		return b == NULL || a->dims.instance_created_date > b->dims.instance_created_date;
	return answers_compare_texts(a->dims.segment_instance_id, b->dims.segment_instance_id) > 0;
}

static const StoreInstance *
newest_of(const AnswerSegment *segment)
{
	const StoreInstance *newest = NULL;

	for (int g = 0; g < segment->n_groups; g++)
	{
		CHECK_FOR_INTERRUPTS();
		for (int s = 0; s < CSEG_SLOTS; s++)
		{
			const StoreInstance *inst = segment->groups[g]->instance[s];

			if (inst && inst->rows > 0 && is_newer(inst, newest))
				newest = inst;
		}
	}
	return newest;
}

static ArrayType *
by_metadata(Oid relid)
{
	AnswerTable table;
	AnswerSegment *segments;
	Datum *ids;
	ArrayType *result;
	int n;

	answers_open(&table, relid, COLUMNS_READ);
	segments = answers_segments(&table, &n);
	ids = palloc(sizeof(Datum) * Max(n, 1));
	for (int i = 0; i < n; i++)
		ids[i] = PointerGetDatum(newest_of(&segments[i])->dims.segment_instance_id);
	result = construct_array(ids, n, TEXTOID, -1, false, TYPALIGN_INT);
	answers_close(&table);
	return result;
}

/* Of the rows that the caller's policies show. */
static ArrayType *
by_query(Oid relid)
{
	MemoryContext caller = CurrentMemoryContext;
	Relation rel = table_open(relid, AccessShareLock);
	char *sql = psprintf("SELECT pg_catalog.array_agg(i.segment_instance_id) FROM (SELECT DISTINCT ON (segment_id) "
						 "segment_instance_id FROM %s ORDER BY segment_id, instance_created_date DESC, "
						 "segment_instance_id COLLATE \"C\" DESC) AS i",
						 sqlfn_table_name(rel));
	ArrayType *result;
	bool isnull;
	Datum value;

	table_close(rel, NoLock);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute(sql, true, 0) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "the newest instances could not be selected");
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	MemoryContextSwitchTo(caller);
	result = isnull ? construct_empty_array(TEXTOID) : DatumGetArrayTypePCopy(value);
	SPI_finish();
	return result;
}

Datum
customer_segmentation_newest_instances(PG_FUNCTION_ARGS)
{
	Oid relid = PG_GETARG_OID(0);

	if (check_enable_rls(relid, InvalidOid, true) == RLS_ENABLED)
		PG_RETURN_ARRAYTYPE_P(by_query(relid));
	PG_RETURN_ARRAYTYPE_P(by_metadata(relid));
}
