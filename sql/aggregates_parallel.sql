-- Aggregates without rows in parallel and over partitions: the same results, whoever reads what.
SET jit = off;
SELECT make_twins('t');
-- Three containers of customers, several groups, deltas, a number that rows are needed for.
SELECT on_both($$INSERT INTO @
	SELECT 'c' || c, timestamp '2025-01-01 11:00' + i * interval '9 hours', CASE WHEN s < 3 THEN 'once_a_day' END,
		   'customer_id', CASE WHEN s = 1 THEN timestamp '2024-05-06' END, 's' || s, 's' || s || '_' || i, 'Segment ' || s, 1,
		   CASE WHEN c % 13 > 0 THEN (c % 7 + i)::bigint END, CASE WHEN c % 11 > 0 THEN ((c * 37 % 1000) + i)::numeric / 100 END::numeric(10, 2)
	FROM generate_series(1, 3) s, generate_series(1, 2) i, generate_series(1, 70000) c WHERE (c * 31 + s * 17 + (i + c % 11) / 12 * 7) % 10 < 3$$) \gexec
SELECT on_both($$INSERT INTO @
	SELECT 'c' || c, timestamp '2025-02-01' + i * interval '1 day', 'once_a_day', 'email', NULL, 's' || s, 'm' || s || '_' || i,
		   CASE WHEN i < 40 THEN 'Segment ' || s WHEN s < 3 THEN 'Renamed ' || s END, 1, (c % 7 + i / 10)::bigint, ((c * 37 % 1000) + i)::numeric / 100
	FROM generate_series(1, 3) s, generate_series(1, 70) i, generate_series(1, 24) c$$) \gexec
SELECT on_both($$DELETE FROM @ WHERE customer_identity IN ('c3', 'c17', 'c60000')$$) \gexec
SELECT on_both($$UPDATE @ SET total_revenue = 1.123456789012345678901 WHERE customer_identity = 'c20' AND segment_id = 's1'$$) \gexec
VACUUM ANALYZE t;

SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
-- Versions differ in naming the table beside its columns.
CREATE FUNCTION plan_of(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		RETURN NEXT regexp_replace(line, '\m(t|parts(_\d+)?)\.', '', 'g');
	END LOOP;
END $$;
-- Nothing that a session has kept decoded makes it cheaper to go without workers.
SET customer_segmentation.cell_cache = 0;
SELECT plan_of($$SELECT segment_id, count(*), count(DISTINCT customer_identity) FROM t WHERE num_of_orders > 3 GROUP BY 1 HAVING count(*) > 5$$);
-- Totals are not worth it.
SELECT plan_of($$SELECT segment_id, count(*), sum(num_of_customers) FROM t GROUP BY 1$$);

-- A query by 0, 1, 2 and 4 workers, and on heap; whether any plan was parallel.
CREATE FUNCTION by_workers(query text, name text DEFAULT 't') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	heap text;
	ours text;
	verdict text := '';
	line text;
	parallel int := 0;
	gather text := 'SELECT count(*) || '' rows: '' || coalesce(string_agg(x::text, '';'' ORDER BY x::text COLLATE "C"), '''') FROM (%s) x';
BEGIN
	PERFORM set_config('enable_seqscan', 'off', true), set_config('customer_segmentation.enable_custom_scan', 'off', true);
	EXECUTE format(gather, replace(query, '@', name || '_twin')) INTO heap;
	FOR workers IN 0..4 LOOP
		CONTINUE WHEN workers = 3;
		PERFORM set_config('max_parallel_workers_per_gather', workers::text, true);
		EXECUTE format(gather, replace(query, '@', name)) INTO ours;
		IF ours <> heap THEN
			verdict := verdict || format(' DIFFERENT with %s: %s HEAP: %s', workers, left(ours, 300), left(heap, 300));
		END IF;
		FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || replace(query, '@', name) LOOP
			parallel := parallel + (line LIKE '%Parallel Custom Scan (CustomerSegmentationPartialAggregate)%')::int;
		END LOOP;
	END LOOP;
	PERFORM set_config('enable_seqscan', 'on', true), set_config('customer_segmentation.enable_custom_scan', 'on', true),
			set_config('max_parallel_workers_per_gather', '2', true);
	RETURN CASE WHEN parallel > 0 THEN 'in parallel' ELSE 'alone' END || verdict;
END $$;
SELECT by_workers(q), q FROM unnest(ARRAY[
	'SELECT count(*), sum(total_revenue), sum(num_of_orders), avg(total_revenue), avg(num_of_orders), count(total_revenue) FROM @ WHERE num_of_orders >= 3',
	'SELECT segment_id, segment_instance_id, count(*), sum(total_revenue), min(total_revenue), max(total_revenue) FROM @ WHERE num_of_orders >= 3 GROUP BY 1, 2',
	'SELECT segment_name, schedule, count(DISTINCT customer_identity), count(*) FROM @ GROUP BY 1, 2',
	'SELECT count(DISTINCT customer_identity) FILTER (WHERE num_of_orders > 5), count(DISTINCT customer_identity) FROM @',
	'SELECT date_trunc(''month'', instance_created_date), count(DISTINCT customer_identity), sum(total_revenue) FROM @ WHERE total_revenue > 3 GROUP BY 1',
	'SELECT count(DISTINCT segment_instance_id), count(DISTINCT schedule), max(segment_name), min(instance_created_date), bool_or(segment_id = ''s1'') FROM @ WHERE total_revenue > 5',
	'SELECT segment_id, count(DISTINCT instance_created_date::date) FROM @ WHERE num_of_orders > 8 GROUP BY 1 HAVING count(*) > 2',
	'SELECT count(*), sum(num_of_orders) FROM @ WHERE customer_identity IN (''c7'', ''c69990'', ''c33000'', ''nobody'')',
	'SELECT count(DISTINCT customer_identity), max(total_revenue) FROM @ WHERE customer_identity IN (''c7'', ''c69990'', ''c33000'')',
	'SELECT count(*) FROM @ WHERE total_revenue > 1.12345678901234567890',
	'SELECT count(*), sum(total_revenue), max(segment_id) FROM @ WHERE num_of_orders > 1000000',
	'SELECT segment_id, count(*) FROM @ WHERE num_of_orders > 1000000 GROUP BY 1',
	'SELECT DISTINCT segment_id, schedule FROM @ WHERE num_of_orders = 5',
	'SELECT segment_id, sum(total_revenue / nullif(num_of_orders, 0)), sum(CASE WHEN num_of_orders > 3 THEN 1 ELSE 0 END), count(DISTINCT customer_identity) FROM @ WHERE num_of_orders % 3 <> 1 GROUP BY 1',
	'SELECT segment_id, count(*) FROM @ WHERE num_of_orders > (SELECT min(n) FROM (VALUES (3), (4)) v(n)) GROUP BY 1'
]) q;
SELECT by_workers(q), q FROM unnest(ARRAY[
	'SELECT segment_id, schedule, grouping(segment_id, schedule), count(*), count(DISTINCT customer_identity), sum(total_revenue) FROM @ WHERE num_of_orders > 2 GROUP BY ROLLUP (1, 2)',
	'SELECT segment_id, segment_name, count(*), max(num_of_orders) FROM @ WHERE num_of_orders > 100000 GROUP BY GROUPING SETS ((1), (2), (), ())'
]) q;
-- All that the node is asked elsewhere.
SELECT count(*), bool_or(by_workers(q) ~ 'DIFFERENT') AS different FROM unnest(questions() || row_questions()) q;

-- Workers did come, and each cell was read once.
CREATE FUNCTION analyzed(query text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, FORMAT JSON) ' || query INTO plan;
	RETURN plan;
END $$;
SELECT (n ->> 'Cells Read')::int = (SELECT cells FROM customer_segmentation.storage_info('t')) AS each_cell_once, (n ->> 'Instances Read')::int AS instances,
	   jsonb_path_exists(plan, '$.** ? (@."Workers Launched" > 0)') AS workers, n ->> 'Rows Made' AS rows
FROM (SELECT analyzed('SELECT segment_id, count(*) FROM t WHERE num_of_orders >= 0 GROUP BY 1') AS plan) p, jsonb_path_query(plan, '$.**') AS n
WHERE jsonb_typeof(n) = 'object' AND n ? 'Cells Read';
SET parallel_leader_participation = off;
SELECT by_workers('SELECT segment_id, count(*), sum(total_revenue) FROM @ WHERE num_of_orders > 2 GROUP BY 1');
RESET parallel_leader_participation;

-- An error of a worker is the query's; a value of a prepared statement; what a transaction has done itself.
SELECT twin($$SELECT 1 / (length(segment_id) - 2), count(*) FROM @ WHERE num_of_orders > 2 GROUP BY 1$$);
PREPARE by_orders(bigint) AS SELECT segment_id, count(*) FROM t WHERE num_of_orders > $1 GROUP BY 1 ORDER BY 1;
SET plan_cache_mode = force_generic_plan;
SELECT plan_of($$EXECUTE by_orders(5)$$);
CREATE TEMP TABLE ours AS EXECUTE by_orders(5);
SELECT * FROM ours EXCEPT SELECT segment_id, count(*) FROM t_twin WHERE num_of_orders > 5 GROUP BY 1;
DROP TABLE ours;
DEALLOCATE by_orders;
RESET plan_cache_mode;
BEGIN;
SELECT on_both($$DELETE FROM @ WHERE segment_id = 's2' AND num_of_orders = 4$$) \gexec
SELECT on_both($$UPDATE @ SET num_of_orders = 50 WHERE customer_identity IN ('c69999', 'c7')$$) \gexec
SELECT by_workers('SELECT segment_id, count(*), max(num_of_orders), sum(total_revenue) FROM @ WHERE num_of_orders > 2 GROUP BY 1');
ROLLBACK;
SELECT by_workers('SELECT segment_id, count(*), max(num_of_orders), sum(total_revenue) FROM @ WHERE num_of_orders > 2 GROUP BY 1');
-- Read again and again.
SET enable_material = off;
SELECT by_workers('SELECT v.n, x.* FROM generate_series(1, 3) v(n) JOIN (SELECT segment_id, count(*) AS c FROM @ WHERE num_of_orders > 2 GROUP BY 1) x ON x.c > v.n');
SELECT by_workers('SELECT v.n, l.* FROM generate_series(1, 3) v(n), LATERAL (SELECT count(*), count(DISTINCT customer_identity) FROM @ WHERE num_of_orders > v.n) l');
RESET enable_material;
-- The scan in parallel feeds the server's own partial aggregates.
SET customer_segmentation.enable_aggregate = off;
SELECT plan_of($$SELECT sum(total_revenue) FROM t WHERE num_of_orders > 2$$);
CREATE FUNCTION rows_by_workers(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	results text[] := '{}';
	result text;
BEGIN
	EXECUTE format('SELECT string_agg(x::text, '';'' ORDER BY x::text COLLATE "C") FROM (%s) x', replace(query, '@', 't_twin')) INTO result;
	results := results || result;
	FOR workers IN 0..4 LOOP
		PERFORM set_config('max_parallel_workers_per_gather', workers::text, true);
		EXECUTE format('SELECT string_agg(x::text, '';'' ORDER BY x::text COLLATE "C") FROM (%s) x', replace(query, '@', 't')) INTO result;
		results := results || result;
	END LOOP;
	PERFORM set_config('max_parallel_workers_per_gather', '2', true);
	RETURN (SELECT count(DISTINCT r) FROM unnest(results) r);
END $$;
SELECT rows_by_workers(q) AS results FROM unnest(ARRAY[
	'SELECT count(*), sum(num_of_orders), sum(total_revenue), avg(total_revenue), avg(num_of_orders), max(customer_identity) FROM @ WHERE segment_id <> ''s9''',
	'SELECT segment_id, count(*), max(total_revenue), stddev(num_of_orders) FROM @ WHERE num_of_orders >= 3 GROUP BY 1',
	'SELECT num_of_orders, count(*), sum(total_revenue * 2) FROM @ GROUP BY 1',
	'SELECT customer_identity, sum(total_revenue) FROM @ WHERE customer_identity LIKE ''c1%'' GROUP BY 1 HAVING count(*) > 3']) q;
RESET customer_segmentation.enable_aggregate;

-- Partitions, of one level and of two, with columns in another order: one node merges what the partitions' nodes return.
CREATE TABLE parts (LIKE customer_segmentation_table) PARTITION BY LIST (segment_id);
CREATE TABLE part1 PARTITION OF parts FOR VALUES IN ('s1') USING customer_segmentation;
CREATE TABLE parts_twin (LIKE customer_segmentation_table);
CREATE TABLE part2 (total_revenue numeric, segment_name text, num_of_customers bigint, segment_instance_id text NOT NULL,
	customer_identity text NOT NULL, segment_id text NOT NULL, num_of_orders bigint, segment_created_date timestamp,
	segment_by text, instance_created_date timestamp NOT NULL, schedule text) USING customer_segmentation;
ALTER TABLE parts ATTACH PARTITION part2 FOR VALUES IN ('s2');
CREATE TABLE part3 PARTITION OF parts FOR VALUES IN ('s3') PARTITION BY RANGE (instance_created_date);
CREATE TABLE part3_old PARTITION OF part3 FOR VALUES FROM (MINVALUE) TO ('2025-03-01') USING customer_segmentation;
CREATE TABLE part3_new PARTITION OF part3 FOR VALUES FROM ('2025-03-01') TO (MAXVALUE) USING customer_segmentation;
INSERT INTO parts SELECT * FROM t_twin;
INSERT INTO parts_twin SELECT * FROM t_twin;
VACUUM ANALYZE parts;
SET max_parallel_workers_per_gather = 0;
SELECT plan_of($$SELECT count(*), sum(total_revenue) FROM parts$$);
SELECT plan_of($$SELECT segment_id, count(*) FROM parts WHERE segment_id IN ('s1', 's2') AND num_of_orders > 2 GROUP BY 1$$);
SET enable_partitionwise_aggregate = on;
SELECT plan_of($$SELECT segment_id, count(*), sum(num_of_orders) FROM parts GROUP BY 1 HAVING count(*) > 5$$);
RESET enable_partitionwise_aggregate;
SET max_parallel_workers_per_gather = 2;
SELECT plan_of($$SELECT schedule, count(*), sum(num_of_orders) FROM parts WHERE num_of_orders > 2 GROUP BY 1$$);
-- A customer may be in several partitions: only where each group is in one are they counted without rows.
CREATE FUNCTION aggregates_in(query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	line text;
	n bigint := 0;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		n := n + (line LIKE '%CustomerSegmentation%Aggregate)%')::int;
	END LOOP;
	RETURN n;
END $$;
SELECT aggregates_in('SELECT segment_id, count(DISTINCT customer_identity) FROM parts WHERE num_of_orders > 2 GROUP BY 1') AS nodes;
SET enable_partitionwise_aggregate = on;
SELECT aggregates_in('SELECT segment_id, count(DISTINCT customer_identity) FROM parts WHERE num_of_orders > 2 AND segment_id < ''s3'' GROUP BY 1') AS nodes;
RESET enable_partitionwise_aggregate;
CREATE FUNCTION partition_questions() RETURNS text[] LANGUAGE sql AS $$ SELECT ARRAY[
	'SELECT count(*), sum(total_revenue), avg(num_of_orders), min(total_revenue), max(instance_created_date) FROM @',
	'SELECT segment_id, count(*), sum(total_revenue) FROM @ WHERE num_of_orders >= 3 GROUP BY 1',
	'SELECT segment_name, schedule, count(*), count(DISTINCT segment_instance_id) FROM @ GROUP BY 1, 2 HAVING sum(num_of_orders) > 100',
	'SELECT date_trunc(''month'', instance_created_date), count(*), sum(total_revenue) FROM @ WHERE total_revenue > 3 AND segment_id <> ''s2'' GROUP BY 1',
	'SELECT count(*) FROM @ WHERE customer_identity IN (''c1'', ''c20'', ''c60001'')',
	'SELECT DISTINCT segment_id, segment_name FROM @ WHERE num_of_orders > 4',
	'SELECT count(*), max(total_revenue) FROM @ WHERE segment_id = ''none''',
	'SELECT segment_id, count(DISTINCT customer_identity) FROM @ WHERE num_of_orders > 2 GROUP BY 1',
	'SELECT count(DISTINCT customer_identity), count(*) FILTER (WHERE num_of_orders > 4) FROM @',
	'SELECT count(*) FROM @ WHERE instance_created_date > now() - interval ''100 years'' AND segment_id = any (array[''s3'', current_setting(''server_version'')])'
] $$;
SELECT by_workers(q, 'parts'), q FROM unnest(partition_questions()) q;
SELECT count(*), bool_or(by_workers(q, 'parts') ~ 'DIFFERENT') AS different FROM unnest(questions() || row_questions()) q;
SET enable_partitionwise_aggregate = on;
SELECT by_workers(q, 'parts'), q FROM unnest(partition_questions()) q;
SELECT count(*), bool_or(by_workers(q, 'parts') ~ 'DIFFERENT') AS different FROM unnest(questions() || row_questions()) q;
RESET enable_partitionwise_aggregate;
-- Partitions that a parameter rules out are not read.
PREPARE of_segment(text) AS SELECT count(*), sum(num_of_orders) FROM parts WHERE segment_id = $1 AND num_of_orders > 2;
SET plan_cache_mode = force_generic_plan;
SET max_parallel_workers_per_gather = 0;
SELECT plan_of($$EXECUTE of_segment('s2')$$);
EXECUTE of_segment('s2');
EXECUTE of_segment('none');
SELECT count(*), sum(num_of_orders) FROM t_twin WHERE segment_id = 's2' AND num_of_orders > 2;
DEALLOCATE of_segment;
RESET plan_cache_mode;
-- Row security of the partitioned table; a partition of another access method.
CREATE ROLE regress_cs_parallel;
GRANT SELECT ON parts, parts_twin TO regress_cs_parallel;
SELECT on_both('ALTER TABLE @ ENABLE ROW LEVEL SECURITY', 'parts') \gexec
SELECT on_both($$CREATE POLICY visible_rows ON @ USING (segment_id <> 's1')$$, 'parts') \gexec
SET ROLE regress_cs_parallel;
SELECT plan_of($$SELECT schedule, count(*) FROM parts GROUP BY 1$$);
SELECT twin('SELECT segment_id, count(*), sum(total_revenue) FROM @ GROUP BY 1', 'parts');
SELECT twin('SELECT segment_id, count(*), sum(total_revenue) FROM @ WHERE num_of_orders > 3 GROUP BY 1', 'parts');
RESET ROLE;
SELECT on_both('ALTER TABLE @ DISABLE ROW LEVEL SECURITY', 'parts') \gexec
CREATE TABLE part4 PARTITION OF parts FOR VALUES IN ('s4') USING heap;
INSERT INTO part4 SELECT customer_identity, instance_created_date, schedule, segment_by, segment_created_date, 's4', 's4' || segment_instance_id, segment_name, 1, num_of_orders, total_revenue FROM t_twin WHERE segment_id = 's1';
INSERT INTO parts_twin TABLE part4;
ANALYZE part4;
SELECT aggregates_in('SELECT schedule, count(*) FROM parts GROUP BY 1') AS nodes;
SELECT by_workers('SELECT schedule, count(*), sum(total_revenue) FROM @ GROUP BY 1', 'parts');
SET enable_partitionwise_aggregate = on;
SELECT aggregates_in('SELECT segment_id, count(*) FROM parts WHERE num_of_orders > 2 AND segment_id IN (''s1'', ''s4'') GROUP BY 1') AS nodes;
SELECT by_workers('SELECT segment_id, count(*), sum(total_revenue) FROM @ GROUP BY 1', 'parts');
RESET ALL;
DROP TABLE t, t_twin, parts, parts_twin;
DROP ROLE regress_cs_parallel;
DROP FUNCTION by_workers(text, text), rows_by_workers(text), plan_of(text), analyzed(text), aggregates_in(text), partition_questions();
