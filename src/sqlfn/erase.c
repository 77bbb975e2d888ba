/*
 * erase.c
 *    optimize and erase_customer.
 *
 * erase_customer deletes the rows by an ordinary DELETE as the caller, so that privileges and triggers hold, and then
 * takes the identity out of what else keeps it: the dictionary, column statistics, and errors of runs.
 */
#include "sqlfn/sqlfn.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/heap.h"
#include "catalog/indexing.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/tablecmds.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "am/am.h"
#include "sqlfn/segment.h"

PG_FUNCTION_INFO_V1(customer_segmentation_optimize);
PG_FUNCTION_INFO_V1(customer_segmentation_erase_customer);

Datum
customer_segmentation_optimize(PG_FUNCTION_ARGS)
{
	Oid relid = PG_GETARG_OID(0);
	Relation rel;

	PreventCommandIfReadOnly("optimize()");
	PreventCommandIfParallelMode("optimize()");
	sqlfn_require(relid, ACL_SELECT | ACL_INSERT | ACL_DELETE);
	rel = sqlfn_open(relid, RowExclusiveLock);
	/* Whoever had it locked may have revoked one. */
	sqlfn_require(relid, ACL_SELECT | ACL_INSERT | ACL_DELETE);
	am_optimize(rel);
	table_close(rel, NoLock);
	PG_RETURN_VOID();
}

/* ---- rows ------------------------------------------------------------------------------------------------------- */

static void
delete_rows(Relation rel, Datum identity, Datum counts[2])
{
	Oid type = TEXTOID;
	char *sql = psprintf("WITH gone AS (DELETE FROM ONLY %s WHERE customer_identity OPERATOR(pg_catalog.=) $1 "
						 "RETURNING segment_instance_id) "
						 "SELECT pg_catalog.count(DISTINCT segment_instance_id), pg_catalog.count(*) FROM gone",
						 sqlfn_table_name(rel));

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args(sql, 1, &type, &identity, NULL, false, 0) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not delete the rows of a customer");
	for (int i = 0; i < 2; i++)
	{
		bool isnull;

		counts[i] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &isnull);
	}
	SPI_finish();
}

/* ---- statistics ------------------------------------------------------------------------------------------------- */

/* Most common values and histograms quote identities: they go, until the next ANALYZE. */
static void
remove_statistics(Oid relid)
{
	Relation rel = table_open(relid, ShareUpdateExclusiveLock);
	AttrNumber identity = get_attnum(relid, "customer_identity");
	ListCell *lc;

	if (identity != InvalidAttrNumber)
		RemoveStatistics(relid, identity);
	foreach (lc, RelationGetStatExtList(rel))
	{
		RemoveStatisticsDataById(lfirst_oid(lc), false);
		RemoveStatisticsDataById(lfirst_oid(lc), true);
	}
	table_close(rel, NoLock);
}

/* Tables that the relation is a partition or a child of have statistics of its rows too. */
static List *
with_parents(Oid relid)
{
	List *all = list_make1_oid(relid);
	Relation inherits = table_open(InheritsRelationId, AccessShareLock);

	for (int i = 0; i < list_length(all); i++)
	{
		ScanKeyData key;
		SysScanDesc scan;
		HeapTuple tuple;

		ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(list_nth_oid(all, i)));
		scan = systable_beginscan(inherits, InheritsRelidSeqnoIndexId, true, NULL, 1, &key);
		while ((tuple = systable_getnext(scan)) != NULL)
			all = list_append_unique_oid(all, ((Form_pg_inherits) GETSTRUCT(tuple))->inhparent);
		systable_endscan(scan);
	}
	table_close(inherits, AccessShareLock);
	return all;
}

/* ---- runs ------------------------------------------------------------------------------------------------------- */

#define RUNS_OF_TABLE                                                                                                 \
	"(EXISTS (SELECT FROM customer_segmentation.segment AS s WHERE s.segment_id = r.segment_id AND s.relation = $2) " \
	"OR $3 AND NOT EXISTS (SELECT FROM customer_segmentation.segment AS s WHERE s.segment_id = r.segment_id))"

/*
 * Errors of the runs of segments that store into the table; for the extension's own table also those of segments that
 * are gone. Whole words alone: what looks like a part of a longer one is something else. But an error that was too long
 * to be kept whole may end within the identity.
 */
static void
clean_errors(Oid relid, Datum identity)
{
	Oid types[] = {TEXTOID, OIDOID, BOOLOID, INT4OID};
	Datum values[] = {identity, ObjectIdGetDatum(relid), BoolGetDatum(store_is_shared(relid)),
					  Int32GetDatum(RUN_ERROR_BYTES)};
	Catalog catalog;

	if (VARSIZE_ANY_EXHDR(DatumGetPointer(identity)) == 0)
		return;
	catalog_enter(&catalog);
	catalog_execute("UPDATE customer_segmentation.segment_run AS r SET error = left(error, -part) || '(erased)' "
					"FROM (SELECT run_id AS cut_id, (SELECT max(n) FROM generate_series(1, length(error)) AS n "
					"WHERE right(error, n) = left($1, n) AND right(error, n + 1) ~ '^[^[:alnum:]]') AS part "
					"FROM customer_segmentation.segment_run WHERE octet_length(error) > $4 - 4) AS cut "
					"WHERE cut_id = run_id AND part IS NOT NULL AND " RUNS_OF_TABLE,
					lengthof(types), types, values, NULL);
	catalog_execute(
		"UPDATE customer_segmentation.segment_run AS r SET error = left(regexp_replace(error, "
		"'(^|[^[:alnum:]])' || regexp_replace($1, '([^[:alnum:]])', E'\\\\\\\\\\\\1', 'g') || '(?![[:alnum:]])', "
		"E'\\\\1(erased)', 'g'), $4) WHERE position($1 IN error) > 0 AND " RUNS_OF_TABLE,
		lengthof(types), types, values, NULL);
	catalog_leave(&catalog);
}

Datum
customer_segmentation_erase_customer(PG_FUNCTION_ARGS)
{
	Oid relid = PG_GETARG_OID(1);
	text *identity = PG_GETARG_TEXT_PP(0);
	Relation rel;
	Datum counts[2];
	bool nulls[2] = {false, false};
	TupleDesc desc;
	ListCell *lc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	PreventCommandIfReadOnly("erase_customer()");
	PreventCommandIfParallelMode("erase_customer()");
	sqlfn_require(relid, ACL_SELECT | ACL_DELETE);
	/* This lock keeps ANALYZE out, which could write down again what goes here. */
	rel = sqlfn_open(relid, ShareUpdateExclusiveLock);
	CheckTableNotInUse(rel, "erase a customer from");
	am_lock_writers(rel);
	delete_rows(rel, PointerGetDatum(identity), counts);
	am_forget_identity(rel, identity);
	foreach (lc, with_parents(relid))
		remove_statistics(lfirst_oid(lc));
	clean_errors(relid, PointerGetDatum(identity));
	table_close(rel, NoLock);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, counts, nulls)));
}
