-- VACUUM, ANALYZE, statistics, plans.
SELECT make_twins('t');
ALTER TABLE t SET (autovacuum_enabled = off);
ALTER TABLE t_twin SET (autovacuum_enabled = off);
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(4, 20, 200)$$) \gexec
SELECT on_both($$INSERT INTO @ SELECT 'null' || i, '2025-01-01', NULL, NULL, NULL, 'segment1', 'segment1_null', NULL, NULL, NULL, NULL FROM generate_series(1, 100) i$$) \gexec

-- Before any statistics the planner knows how many rows there are.
CREATE FUNCTION plan_of(query text, options text DEFAULT '') RETURNS json LANGUAGE plpgsql AS $$
DECLARE r json;
BEGIN
	EXECUTE format('EXPLAIN (FORMAT json %s) %s', options, query) INTO r;
	RETURN r -> 0 -> 'Plan';
END $$;
SELECT (plan_of('SELECT * FROM t') ->> 'Plan Rows')::numeric / count(*) BETWEEN 0.9 AND 1.1 FROM t;

-- ANALYZE: the statistics are those of the rows.
ANALYZE t;
ANALYZE t_twin;
SELECT reltuples = (SELECT count(*) FROM t), relpages > 0 FROM pg_class WHERE oid = 't'::regclass;
SELECT o.attname, o.null_frac = h.null_frac AS nulls, o.n_distinct = h.n_distinct AS distinct_values, o.most_common_vals::text IS NOT DISTINCT FROM h.most_common_vals::text OR o.n_distinct < 0 OR h.most_common_vals IS NOT NULL AS common,
	o.histogram_bounds IS NULL = (h.histogram_bounds IS NULL) AS histogram
FROM pg_stats o JOIN pg_stats h USING (attname) WHERE o.tablename = 't' AND h.tablename = 't_twin' ORDER BY 1;
SELECT attname, null_frac > 0 AS nulls, n_distinct FROM pg_stats WHERE tablename = 't' AND attname IN ('segment_id', 'schedule', 'segment_name', 'num_of_orders') ORDER BY 1;
SELECT (plan_of($$SELECT * FROM t WHERE segment_id = 'segment2'$$) ->> 'Plan Rows')::numeric / count(*) BETWEEN 0.8 AND 1.25 FROM t WHERE segment_id = 'segment2';
CREATE STATISTICS of_two (ndistinct, dependencies) ON segment_id, segment_instance_id FROM t;
ANALYZE t (segment_id, segment_instance_id);
SELECT n_distinct::text <> '' FROM pg_stats_ext WHERE statistics_name = 'of_two';

-- EXPLAIN ANALYZE counts the rows.
SELECT (plan_of('SELECT * FROM t', ', ANALYZE, COSTS off, TIMING off, SUMMARY off') ->> 'Actual Rows')::numeric = count(*) FROM t;
SELECT (plan_of($$SELECT * FROM t WHERE segment_instance_id = 'segment3_7'$$, ', ANALYZE, COSTS off, TIMING off, SUMMARY off') ->> 'Actual Rows')::numeric = count(*) FROM t WHERE segment_instance_id = 'segment3_7';
SELECT plan_of('UPDATE t SET total_revenue = total_revenue', ', ANALYZE, BUFFERS, VERBOSE, TIMING off, SUMMARY off') IS NOT NULL;
SELECT plan_of('SELECT * FROM t FULL JOIN t_twin USING (customer_identity, segment_instance_id)', ', VERBOSE, ANALYZE, TIMING off, SUMMARY off') IS NOT NULL;

-- What VACUUM may take goes, what is there stays; the counts are of rows.
SELECT on_both($$UPDATE @ SET total_revenue = total_revenue + 1, num_of_orders = num_of_orders + 1 WHERE segment_id IN ('segment1', 'segment2')$$) \gexec
SELECT on_both($$DELETE FROM @ WHERE segment_id = 'segment3'$$) \gexec
VACUUM t;
SELECT * FROM compare_twin();
SELECT reltuples = (SELECT count(*) FROM t) FROM pg_class WHERE oid = 't'::regclass;
VACUUM (FREEZE, ANALYZE) t;
SELECT reltuples = (SELECT count(*) FROM t) FROM pg_class WHERE oid = 't'::regclass;
SELECT age(relfrozenxid) < 100 FROM pg_class WHERE oid = 't'::regclass;
SELECT age(relfrozenxid) < 100 FROM pg_class WHERE oid = (SELECT reltoastrelid FROM pg_class WHERE oid = 't'::regclass);
SELECT * FROM compare_twin();
SELECT pg_total_relation_size('t') AS before \gset
VACUUM (FULL, ANALYZE) t;
SELECT pg_total_relation_size('t') <= :before, reltuples = (SELECT count(*) FROM t) FROM pg_class WHERE oid = 't'::regclass;
SELECT age(relfrozenxid) < 100 FROM pg_class WHERE oid = 't'::regclass;
SELECT * FROM compare_twin();
SELECT on_both($$DELETE FROM @$$) \gexec
VACUUM (TRUNCATE) t;
SELECT pg_relation_size('t') <= 8192 * 8, reltuples FROM pg_class WHERE oid = 't'::regclass;
VACUUM FULL t;
SELECT * FROM compare_twin();
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(2, 66, 300) ORDER BY md5(customer_identity || segment_instance_id)$$) \gexec
VACUUM (VERBOSE false, INDEX_CLEANUP on, PARALLEL 0) t;
SELECT * FROM compare_twin();

-- Parallel plans find what serial ones do.
ANALYZE t;
ANALYZE t_twin;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 3;
SELECT twin($$SELECT count(*), sum(num_of_orders), sum(total_revenue), count(DISTINCT customer_identity), min(customer_identity), max(instance_created_date) FROM @$$);
SELECT twin($$SELECT segment_id, num_of_orders, count(*), sum(total_revenue) FROM @ GROUP BY 1, 2$$);
SELECT twin($$SELECT count(*), sum(a.total_revenue) FROM @ a JOIN @ b USING (customer_identity) WHERE a.segment_instance_id = 'segment1_5' AND b.segment_instance_id = 'segment2_65'$$);
SELECT twin($$SELECT customer_identity, segment_instance_id FROM @ WHERE num_of_orders = 12 AND total_revenue < 1$$);
SELECT twin($$SELECT customer_identity FROM @ ORDER BY total_revenue DESC, customer_identity LIMIT 5$$);
SELECT * FROM compare_twin();
CREATE TABLE copied USING customer_segmentation AS SELECT * FROM t;
SELECT count(*) FROM (TABLE copied EXCEPT ALL TABLE t_twin) x;
DROP TABLE copied;
-- A scan that is started again for each row of another, and one that is left early.
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET enable_material = off;
SELECT twin($$SELECT i, (SELECT count(*) FROM @ WHERE num_of_orders = i AND segment_id = 'segment1') FROM generate_series(1, 8) i$$);
SELECT twin($$SELECT i FROM generate_series(1, 30) i WHERE EXISTS (SELECT FROM @ WHERE num_of_orders = i)$$);
RESET ALL;

-- What storage_info tells.
SELECT rows, instances, customers, groups, cells, bases, deltas >= 0 AS deltas, group_bytes > 0 AS group_bytes, instance_bytes > 0 AS instance_bytes,
	base_bytes > 0 AS base_bytes, dictionary_bytes > 0 AS dictionary_bytes, total_bytes = pg_total_relation_size('t') AS total, bytes_per_row BETWEEN 0.1 AND 100 AS per_row
FROM customer_segmentation.storage_info('t');
TRUNCATE t, t_twin;
SELECT rows, instances, customers, groups, cells, bases, deltas, group_bytes, instance_bytes, base_bytes, delta_bytes, dictionary_bytes, bytes_per_row FROM customer_segmentation.storage_info('t');

-- The server's counters. What the session has counted and not yet reported would come in after the reset.
SELECT pg_stat_force_next_flush();
SELECT pg_stat_reset_single_table_counters('t'::regclass), pg_stat_reset_single_table_counters('t_twin'::regclass);
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(1, 2, 100)$$) \gexec
SELECT on_both($$UPDATE @ SET total_revenue = 1 WHERE num_of_orders = 1$$) \gexec
SELECT on_both($$DELETE FROM @ WHERE num_of_orders = 2$$) \gexec
BEGIN;
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(2, 1, 100) WHERE segment_id = 'segment2'$$) \gexec
ROLLBACK;
SELECT pg_stat_force_next_flush();
SELECT o.n_tup_ins, o.n_tup_upd, o.n_tup_del, (o.n_tup_ins, o.n_tup_upd, o.n_tup_del) = (h.n_tup_ins, h.n_tup_upd, h.n_tup_del) AS same, o.n_live_tup = h.n_live_tup AS live, o.seq_scan > 0 AS scanned
FROM pg_stat_user_tables o, pg_stat_user_tables h WHERE o.relname = 't' AND h.relname = 't_twin';
SELECT * FROM compare_twin();
DROP TABLE t, t_twin;
DROP FUNCTION plan_of;
