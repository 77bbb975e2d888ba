-- The planner's paths keep to what is allowed, and to what the executor asks for: each statement as on heap.
SELECT make_twins('t');
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(3, 70, 60)$$) \gexec
SELECT on_both('VACUUM ANALYZE @') \gexec
CREATE ROLE regress_plan_reader;
CREATE FUNCTION leak(x text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN RAISE NOTICE 'leaked %', x; RETURN true; END $$;
GRANT SELECT ON t, t_twin TO regress_plan_reader;

-- Row security: what leaks comes after the policy, what is leakproof may skip. No value that the policy hides gets out.
SELECT on_both('ALTER TABLE @ ENABLE ROW LEVEL SECURITY') \gexec
SELECT on_both($$CREATE POLICY own ON @ USING (segment_id = 'segment1' AND num_of_orders < 1)$$) \gexec
SET ROLE regress_plan_reader;
EXPLAIN (COSTS OFF) SELECT customer_identity FROM t WHERE leak(segment_id) AND segment_instance_id = 'segment1_5' AND segment_name LIKE 'Seg%';
SELECT twin('SELECT count(*), sum(total_revenue) FROM @');
SELECT twin('SELECT count(*) FROM @ WHERE segment_instance_id IN (''segment1_5'', ''segment2_5'')');
SELECT twin('SELECT count(*) FROM @ WHERE customer_identity = ''customer3'' AND segment_name LIKE ''%1''');
SELECT count(*) FROM t WHERE leak(segment_id) AND segment_instance_id = 'segment2_5';
SELECT count(*) FROM t WHERE leak(segment_id) AND segment_id <> 'segment1';
-- Planning does not evaluate what leaks on what is hidden, also for estimates.
EXPLAIN (COSTS OFF) SELECT 1 FROM t WHERE leak(segment_name) AND segment_id = 'segment2' \g /dev/null
RESET ROLE;
SELECT on_both('ALTER TABLE @ DISABLE ROW LEVEL SECURITY') \gexec

-- Security-barrier views.
CREATE VIEW barred WITH (security_barrier) AS SELECT * FROM t WHERE segment_id = 'segment1' AND num_of_orders = 0;
CREATE VIEW barred_twin WITH (security_barrier) AS SELECT * FROM t_twin WHERE segment_id = 'segment1' AND num_of_orders = 0;
EXPLAIN (COSTS OFF) SELECT customer_identity FROM barred WHERE leak(segment_instance_id) AND segment_instance_id = 'segment1_5';
SELECT count(*) FROM barred WHERE leak(segment_instance_id) AND segment_id = 'segment2';
SELECT twin('SELECT count(*) FROM @ WHERE instance_created_date < ''2025-01-20'' AND customer_identity LIKE ''customer1%''', 'barred');

-- Column privileges: pruning reads no column that the query does not name.
REVOKE SELECT ON t, t_twin FROM regress_plan_reader;
GRANT SELECT (segment_id, num_of_orders) ON t, t_twin TO regress_plan_reader;
SET ROLE regress_plan_reader;
SELECT twin(q) FROM unnest(ARRAY['SELECT sum(num_of_orders) FROM @ WHERE segment_id = ''segment1''', 'SELECT sum(num_of_orders) FROM @ WHERE segment_name = ''Segment 1''', 'SELECT count(*) FROM @ WHERE customer_identity = ''customer1''', 'SELECT @ FROM @', 'SELECT ctid FROM @']) q;
RESET ROLE;
REVOKE SELECT (segment_id, num_of_orders) ON t, t_twin FROM regress_plan_reader;
DROP ROLE regress_plan_reader;

-- Locks, whole rows, system columns, changes.
SELECT twin(q) FROM unnest(ARRAY[
	'SELECT num_of_orders FROM @ WHERE segment_instance_id = ''segment1_5'' AND customer_identity = ''customer3'' FOR UPDATE',
	'SELECT a.num_of_orders FROM @ a JOIN (VALUES (''customer3'')) v(c) ON v.c = a.customer_identity WHERE a.segment_id = ''segment2'' FOR NO KEY UPDATE OF a',
	'SELECT x FROM @ x WHERE segment_instance_id = ''segment1_5'' AND num_of_orders = 1',
	'SELECT (x).total_revenue FROM (SELECT x FROM @ x WHERE customer_identity = ''customer3'' OFFSET 0) y',
	'SELECT count(DISTINCT ctid), count(DISTINCT tableoid) FROM @ WHERE segment_id = ''segment3''',
	'SELECT count(*) FROM @ WHERE ctid = (SELECT max(ctid) FROM @ WHERE customer_identity = ''customer3'' AND segment_instance_id = ''segment1_5'')',
	'UPDATE @ SET total_revenue = total_revenue + num_of_orders WHERE segment_instance_id = ''segment1_5'' AND num_of_orders >= 2 RETURNING customer_identity, total_revenue, segment_name',
	'UPDATE @ x SET num_of_orders = y.num_of_orders + 1 FROM @ y WHERE y.customer_identity = x.customer_identity AND y.segment_instance_id = ''segment1_5'' AND x.segment_instance_id = ''segment2_5''',
	'DELETE FROM @ WHERE customer_identity = ''customer3'' AND instance_created_date < ''2025-01-10'' RETURNING segment_instance_id, num_of_orders',
	'DELETE FROM @ x USING (VALUES (''segment3_70'')) v(i) WHERE x.segment_instance_id = v.i',
	'MERGE INTO @ x USING (VALUES (''segment1_6'', ''customer7'')) v(i, c) ON x.segment_instance_id = v.i AND x.customer_identity = v.c WHEN MATCHED THEN UPDATE SET num_of_orders = 77']) q;
SELECT * FROM compare_twin();

-- Cursors, both ways.
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT segment_instance_id, customer_identity, num_of_orders FROM t WHERE segment_instance_id IN ('segment1_5', 'segment2_5') AND num_of_orders >= 5;
FETCH 2 FROM c;
FETCH BACKWARD 1 FROM c;
FETCH LAST FROM c;
FETCH PRIOR FROM c;
FETCH ABSOLUTE 2 FROM c;
MOVE BACKWARD ALL FROM c;
FETCH 1 FROM c;
DELETE FROM t WHERE segment_instance_id = 'segment2_5';
FETCH LAST FROM c;
UPDATE t SET num_of_orders = 50 WHERE CURRENT OF c;
ROLLBACK;
BEGIN;
DECLARE held CURSOR WITH HOLD FOR SELECT customer_identity, total_revenue FROM t WHERE segment_instance_id = 'segment1_5' ORDER BY 1 LIMIT 2;
COMMIT;
FETCH ALL FROM held;
CLOSE held;

-- In parallel: the same with any number of workers.
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET enable_sort = off;
SELECT count(set_config(name, 'off', false)) < 2 AS done FROM pg_settings WHERE name LIKE 'customer\_segmentation.enable\_agg%';
EXPLAIN (COSTS OFF) SELECT sum(num_of_orders) FROM t WHERE segment_id <> 'segment9' AND num_of_orders > 1;
CREATE FUNCTION by_workers() RETURNS TABLE (workers int, results text) LANGUAGE plpgsql AS $$
BEGIN
	FOREACH workers IN ARRAY ARRAY[0, 1, 2, 4] LOOP
		PERFORM set_config('max_parallel_workers_per_gather', workers::text, true);
		SELECT string_agg(twin(q), ' ' ORDER BY n) INTO results FROM unnest(ARRAY[
			'SELECT count(*), sum(num_of_orders), sum(total_revenue), md5(string_agg(customer_identity, chr(10) ORDER BY customer_identity)) FROM @ WHERE segment_id <> ''segment9''',
			'SELECT segment_id, count(*), max(total_revenue) FROM @ WHERE num_of_orders >= 3 GROUP BY 1',
			'SELECT count(*) FROM @ WHERE customer_identity IN (''customer1'', ''customer5'')',
			'SELECT count(*) FROM (SELECT customer_identity FROM @ WHERE num_of_orders > 2 LIMIT 10) l']) WITH ORDINALITY AS x(q, n);
		RETURN NEXT;
	END LOOP;
END $$;
SELECT count(*), count(DISTINCT results), bool_or(results ~ 'DIFFERENT|error') FROM by_workers();
SET max_parallel_workers_per_gather = 2;
SELECT sum((n ->> 'Cells Read')::int) = (SELECT cells FROM customer_segmentation.storage_info('t')) AS each_cell_once
FROM (SELECT explain_json('SELECT num_of_orders FROM t WHERE num_of_orders >= 0') AS plan) p, jsonb_path_query(plan, '$.**') AS n WHERE jsonb_typeof(n) = 'object' AND n ? 'Cells Read';
RESET ALL;

-- Estimates: filters on dimensions within a tenth, without ANALYZE.
CREATE TABLE fresh (LIKE t) USING customer_segmentation;
INSERT INTO fresh SELECT * FROM t;
CREATE FUNCTION estimate_of(condition text, relation text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	plan json;
	estimated bigint;
	actual bigint;
BEGIN
	EXECUTE format('EXPLAIN (FORMAT JSON) SELECT num_of_orders FROM %I WHERE %s', relation, condition) INTO plan;
	EXECUTE format('SELECT count(*) FROM %I WHERE %s', relation, condition) INTO actual;
	estimated := (plan -> 0 -> 'Plan' ->> 'Plan Rows')::bigint;
	RETURN CASE WHEN abs(estimated - actual) <= greatest(actual / 10.0, 1) THEN 'right' ELSE format('%s for %s', estimated, actual) END;
END $$;
CREATE FUNCTION explain_plan(statement text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (FORMAT JSON) ' || statement INTO plan;
	RETURN plan;
END $$;
SELECT c, estimate_of(c, 'fresh') FROM unnest(ARRAY['true', 'segment_id = ''segment1''', 'segment_instance_id = ''segment2_9''', 'segment_instance_id = ''segment2_9'' AND segment_id = ''segment2''', 'segment_name LIKE ''%2''', 'schedule IS NULL',
	'instance_created_date > ''2025-02-20''', 'instance_created_date::date = ''2025-02-20''', 'date_trunc(''month'', instance_created_date) = ''2025-02-01''', 'segment_id IN (''segment1'', ''segment3'') AND instance_created_date < ''2025-01-20''',
	'segment_id = ''segment1'' OR instance_created_date > ''2025-03-01''', 'segment_id = ''none''', '(segment_id, instance_created_date) > (''segment2'', ''2025-02-01'')', 'instance_created_date > now() - interval ''1 year'' AND segment_by = ''customer_id''']) c;
-- Of the identity, and of groups, from what is stored.
SELECT (plan -> 0 -> 'Plan' ->> 'Plan Rows')::int BETWEEN 90 AND 130 AS of_a_customer
FROM (SELECT explain_plan('SELECT num_of_orders FROM fresh WHERE customer_identity = ''customer4''') AS plan) p;
SELECT (plan -> 0 -> 'Plan' ->> 'Plan Rows')::int AS groups FROM (SELECT explain_plan('SELECT DISTINCT segment_name, schedule FROM fresh') AS plan) p;
SET customer_segmentation.enable_statistics = off;
SELECT estimate_of('segment_instance_id = ''segment2_9''', 'fresh') <> 'right' AS without;
RESET customer_segmentation.enable_statistics;
DROP VIEW barred, barred_twin;
DROP TABLE t, t_twin, fresh;
