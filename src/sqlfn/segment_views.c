/*
 * segment_views.c
 *    What the views segments, segment_health and segment_runs show.
 *
 * They show what the caller may run: segments of roles that the caller is a member of, or all of them to a superuser
 * and to whoever may EXECUTE run_due_segments.
 */
#include "sqlfn/segment.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(customer_segmentation_list_segments);
PG_FUNCTION_INFO_V1(customer_segmentation_list_runs);

/* ---- rows of the catalog ------------------------------------------------------------------------------------ */

/* $1: this cluster; $2: the caller; $3: the caller sees all. */
static void
list(FunctionCallInfo fcinfo, const char *sql)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid types[] = {INT8OID, OIDOID, BOOLOID, TIMESTAMPTZOID};
	Datum values[] = {Int64GetDatum((int64) GetSystemIdentifier()), ObjectIdGetDatum(GetUserId()),
					  BoolGetDatum(superuser() || segment_is_operator()), TimestampTzGetDatum(segment_now())};
	Catalog catalog;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	catalog_enter(&catalog);
	if (SPI_execute_with_args(sql, lengthof(types), types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the segments");
	for (uint64 i = 0; i < SPI_processed; i++)
		tuplestore_puttuple(rsinfo->setResult, SPI_tuptable->vals[i]);
	catalog_leave(&catalog);
}

#define OWNER                                                                                                   \
	"LEFT JOIN pg_catalog.pg_roles AS o ON CASE WHEN s.cluster = $1 THEN o.oid = s.owner_oid ELSE o.rolname = " \
	"s.owner_name END "
#define VISIBLE "WHERE ($3 OR pg_catalog.pg_has_role($2, o.oid, 'USAGE')) "

Datum
customer_segmentation_list_segments(PG_FUNCTION_ARGS)
{
	list(
		fcinfo,
		"SELECT s.segment_id, s.segment_name, s.description, s.segment_by, s.schedule, s.time_zone, s.definition, "
		"s.rules, s.depends_on, coalesce(o.rolname::text, s.owner_name), s.relation, s.paused, s.created_at, "
		"s.altered_at, s.keep, s.keep_every, "
		"CASE WHEN d.last_due IS NULL OR s.paused THEN NULL "
		"WHEN s.last_due_at IS NULL OR d.last_due > s.last_due_at THEN d.last_due ELSE d.next_due END, "
		"r.started_at, r.status, r.sqlstate, r.error, g.started_at, g.segment_instance_id, "
		"(SELECT count(*) FROM customer_segmentation.segment_run AS f WHERE f.segment_id = s.segment_id "
		"AND f.status = 'failed' AND f.run_id > coalesce(g.run_id, 0)), "
		"CASE WHEN s.schedule <> 'manual' AND NOT s.paused AND coalesce(m.next_due, s.created_at) < $4 "
		"THEN coalesce(m.next_due, s.created_at) END "
		"FROM customer_segmentation.segment AS s " OWNER
		"CROSS JOIN LATERAL customer_segmentation.due_around(s.schedule, s.created_at, s.time_zone, "
		"greatest($4, s.created_at, s.last_due_at)) AS d "
		"LEFT JOIN LATERAL customer_segmentation.due_around(s.schedule, s.created_at, s.time_zone, s.last_due_at) AS m "
		"ON true "
		"LEFT JOIN LATERAL (SELECT * FROM customer_segmentation.segment_run AS l WHERE l.segment_id = s.segment_id "
		"ORDER BY run_id DESC LIMIT 1) AS r ON true "
		"LEFT JOIN LATERAL (SELECT * FROM customer_segmentation.segment_run AS l WHERE l.segment_id = s.segment_id "
		"AND l.status = 'succeeded' AND l.kind <> 'backfill' ORDER BY run_id DESC LIMIT 1) AS g ON true " VISIBLE
		"ORDER BY s.created_at, s.segment_id");
	return (Datum) 0;
}

Datum
customer_segmentation_list_runs(PG_FUNCTION_ARGS)
{
	list(fcinfo, "SELECT r.run_id, r.segment_id, s.segment_name, r.kind, r.as_of, r.segment_instance_id, r.started_at, "
				 "r.ended_at, r.status, r.rows, r.sqlstate, r.error, r.run_by, r.pid, r.definition "
				 "FROM customer_segmentation.segment_run AS r "
				 "LEFT JOIN customer_segmentation.segment AS s ON s.segment_id = r.segment_id " OWNER VISIBLE
				 "AND $4 IS NOT NULL ORDER BY r.run_id");
	return (Datum) 0;
}
