-- Joins: lookups by customer, instance and segment; the newest instance of each segment.
SELECT make_twins('t');
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(4, 70, 50)$$) \gexec
SELECT on_both('VACUUM ANALYZE @') \gexec
CREATE TABLE orders (order_id int PRIMARY KEY, customer_id text, amount numeric) USING heap;
INSERT INTO orders SELECT i, 'customer' || (i * 7) % 75, i % 50 FROM generate_series(1, 400) i;
CREATE TABLE picked (i text, s text, d date, c text) USING heap;
INSERT INTO picked VALUES ('segment1_5', 'segment1', '2025-01-06', 'customer3'), ('segment2_70', 'segment2', '2025-03-12', 'customer4'), ('none', 'none', '2020-01-01', 'nobody'), (NULL, NULL, NULL, NULL);
VACUUM ANALYZE orders, picked;
SELECT count(set_config(name, 'off', false)) < 2 AS done FROM pg_settings WHERE name LIKE 'customer\_segmentation.enable\_agg%';

-- The nodes of a plan and what kinds of conditions they have: how these are written differs between versions.
CREATE FUNCTION nodes_of(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		RETURN NEXT regexp_replace(line, '(Filter|Cond|Key|InitPlan)( \d+)?[: ].*', '\1');
	END LOOP;
END $$;
-- Few outer rows: a nested loop with lookups.
SELECT nodes_of($q$SELECT o.order_id, t.total_revenue FROM orders o JOIN t ON t.customer_identity = o.customer_id WHERE o.order_id = 7$q$);
SELECT nodes_of($q$SELECT p.i, t.customer_identity FROM picked p JOIN t ON t.segment_instance_id = p.i$q$);
SELECT nodes_of($q$SELECT p.d, t.customer_identity FROM picked p JOIN t ON t.segment_id = p.s AND t.instance_created_date::date = p.d AND t.customer_identity = p.c$q$);
SELECT nodes_of($q$SELECT * FROM t WHERE customer_identity IN (SELECT customer_id FROM orders WHERE order_id < 4)$q$);
SELECT nodes_of($q$SELECT p.c, l.n FROM picked p CROSS JOIN LATERAL (SELECT t.num_of_orders AS n FROM t WHERE t.customer_identity = p.c AND t.segment_instance_id = p.i ORDER BY 1 LIMIT 1) l$q$);
-- Many outer rows: one scan.
SELECT nodes_of($q$SELECT count(o.amount) FROM orders o JOIN t ON t.customer_identity = o.customer_id$q$);

-- Each form, by whatever plan, gives what heap gives.
CREATE FUNCTION joins() RETURNS TABLE (n bigint, result text) LANGUAGE sql AS $$
	SELECT n, twin(q) FROM unnest(ARRAY[
	'SELECT count(*), sum(o.amount), sum(t.total_revenue) FROM orders o JOIN @ t ON t.customer_identity = o.customer_id WHERE o.order_id < 5',
	'SELECT count(*), sum(o.amount) FROM orders o JOIN @ t ON t.customer_identity = o.customer_id WHERE t.segment_instance_id = ''segment1_5''',
	'SELECT p.i, count(t.*), sum(t.num_of_orders) FROM picked p LEFT JOIN @ t ON t.segment_instance_id = p.i GROUP BY 1',
	'SELECT p.s, count(*), max(t.total_revenue) FROM picked p JOIN @ t ON t.segment_id = p.s GROUP BY 1',
	'SELECT p.s, count(*) FROM picked p JOIN @ t ON t.segment_id = p.s AND t.instance_created_date::date = p.d GROUP BY 1',
	'SELECT p.s, count(*) FROM picked p JOIN @ t ON t.segment_id = p.s AND t.instance_created_date > p.d GROUP BY 1',
	'SELECT p.c, count(*) FROM picked p JOIN @ t ON t.customer_identity = p.c AND (t.segment_id = p.s OR t.num_of_orders > 10) GROUP BY 1',
	'SELECT count(*) FROM picked p JOIN orders o ON true JOIN @ t ON t.segment_id = p.s AND t.customer_identity = o.customer_id WHERE o.order_id < 6',
	'SELECT count(*) FROM @ t WHERE segment_instance_id IN (SELECT i FROM picked)',
	'SELECT count(*) FROM @ t WHERE segment_instance_id NOT IN (SELECT i FROM picked WHERE i IS NOT NULL)',
	'SELECT count(*) FROM @ t WHERE EXISTS (SELECT FROM picked p WHERE p.c = t.customer_identity AND p.s = t.segment_id)',
	'SELECT count(*) FROM @ t WHERE NOT EXISTS (SELECT FROM picked p WHERE p.c = t.customer_identity)',
	'SELECT count(*) FROM @ t WHERE (segment_id, customer_identity) IN (SELECT s, c FROM picked)',
	'SELECT p.c, l.* FROM picked p LEFT JOIN LATERAL (SELECT segment_instance_id, total_revenue FROM @ t WHERE t.customer_identity = p.c ORDER BY instance_created_date DESC, segment_id LIMIT 2) l ON true',
	'SELECT o.order_id, (SELECT count(*) FROM @ t WHERE t.customer_identity = o.customer_id AND t.instance_created_date < ''2025-02-01'') FROM orders o WHERE o.order_id < 9',
	'SELECT count(*) FROM @ a JOIN @ b USING (customer_identity) WHERE a.segment_instance_id = ''segment1_5'' AND b.segment_instance_id = ''segment2_5''',
	'SELECT a.segment_id, b.segment_id, count(*) FROM @ a JOIN @ b USING (customer_identity) WHERE a.segment_instance_id LIKE ''%\_70'' AND b.segment_instance_id LIKE ''%\_70'' AND a.segment_id < b.segment_id GROUP BY 1, 2',
	'SELECT customer_identity FROM @ WHERE segment_instance_id = ''segment1_5'' EXCEPT SELECT customer_identity FROM @ WHERE segment_instance_id = ''segment1_16''',
	'SELECT count(*) FROM (VALUES (''customer1''), (''customer2'')) v(c) FULL JOIN (SELECT * FROM @ WHERE segment_instance_id = ''segment1_5'') t ON t.customer_identity = v.c',
	'SELECT count(*) FROM @ t, LATERAL (SELECT x.num_of_orders FROM @ x WHERE x.customer_identity = t.customer_identity AND x.segment_instance_id = t.segment_id || ''_2'') y WHERE t.segment_instance_id = ''segment3_1''',
	-- the newest instance
	'SELECT segment_id, count(*), sum(total_revenue) FROM @ WHERE (segment_id, instance_created_date) IN (SELECT segment_id, max(instance_created_date) FROM @ GROUP BY 1) GROUP BY 1',
	'SELECT t.segment_id, count(*) FROM (SELECT DISTINCT ON (segment_id) segment_id, segment_instance_id FROM @ ORDER BY segment_id, instance_created_date DESC) n JOIN @ t USING (segment_instance_id) GROUP BY 1',
	'SELECT segment_id, count(*) FROM (SELECT *, rank() OVER (PARTITION BY segment_id ORDER BY instance_created_date DESC) AS r FROM @) w WHERE r = 1 GROUP BY 1',
	'SELECT segment_id, count(*) FROM @ t WHERE customer_identity = ''customer3'' AND instance_created_date = (SELECT max(instance_created_date) FROM @ n WHERE n.segment_id = t.segment_id) GROUP BY 1'
	]) WITH ORDINALITY AS x(q, n) ORDER BY n
$$;
SELECT * FROM joins();
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SELECT n FROM joins() WHERE result LIKE 'DIFFERENT%' OR result LIKE 'error%';
SET enable_memoize = off;
SET enable_material = off;
SELECT n FROM joins() WHERE result LIKE 'DIFFERENT%' OR result LIKE 'error%';
RESET enable_hashjoin;
RESET enable_mergejoin;
SET enable_nestloop = off;
SELECT n FROM joins() WHERE result LIKE 'DIFFERENT%' OR result LIKE 'error%';
RESET enable_nestloop;
SET customer_segmentation.enable_custom_scan = off;
SET customer_segmentation.enable_statistics = off;
SELECT n FROM joins() WHERE result LIKE 'DIFFERENT%' OR result LIKE 'error%';
RESET customer_segmentation.enable_custom_scan;
RESET customer_segmentation.enable_statistics;

-- A rescan for the next outer row reads what that one needs, and no more.
SELECT (n ->> 'Actual Loops')::int AS lookups, (n ->> 'Instances Read')::int AS instances, (n ->> 'Cells Read')::int AS cells
FROM (SELECT explain_json($$SELECT t.customer_identity FROM (VALUES ('segment1_5'), ('segment2_9'), ('none')) v(i) JOIN t ON t.segment_instance_id = v.i$$) AS plan) p,
	 jsonb_path_query(plan, '$.**') AS n WHERE jsonb_typeof(n) = 'object' AND n ? 'Instances Read';
SELECT (n ->> 'Actual Loops')::int AS lookups, (n ->> 'Instances Read')::int AS instances, (n ->> 'Cells Read')::int AS cells
FROM (SELECT explain_json($$SELECT t.num_of_orders FROM (VALUES ('customer3'), ('customer4'), ('none')) v(c) JOIN t ON t.customer_identity = v.c WHERE t.segment_id = 'segment1'$$) AS plan) p,
	 jsonb_path_query(plan, '$.**') AS n WHERE jsonb_typeof(n) = 'object' AND n ? 'Instances Read';

-- Partitions: pruned, scanned and joined partition by partition.
CREATE TABLE p (LIKE customer_segmentation_table) PARTITION BY LIST (segment_id);
CREATE TABLE p1 PARTITION OF p FOR VALUES IN ('segment1') USING customer_segmentation;
CREATE TABLE p2 PARTITION OF p FOR VALUES IN ('segment2', 'segment3') USING customer_segmentation;
CREATE TABLE p3 PARTITION OF p DEFAULT USING heap;
CREATE TABLE p_twin (LIKE customer_segmentation_table) PARTITION BY LIST (segment_id);
CREATE TABLE p_twin1 PARTITION OF p_twin FOR VALUES IN ('segment1') USING heap;
CREATE TABLE p_twin2 PARTITION OF p_twin FOR VALUES IN ('segment2', 'segment3') USING heap;
CREATE TABLE p_twin3 PARTITION OF p_twin DEFAULT USING heap;
SELECT on_both('INSERT INTO @ SELECT * FROM t', 'p') \gexec
ANALYZE p, p_twin;
SELECT nodes_of($q$SELECT customer_identity FROM p WHERE segment_instance_id = 'segment1_5' AND segment_id = 'segment1'$q$);
SELECT nodes_of($q$SELECT a.customer_identity FROM p a JOIN (VALUES ('customer1')) v(c) ON v.c = a.customer_identity$q$);
SET enable_partitionwise_join = on;
SET max_parallel_workers_per_gather = 0;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SELECT nodes_of($q$SELECT a.customer_identity FROM p a JOIN p b USING (segment_id, customer_identity) WHERE a.segment_instance_id IN ('segment1_5', 'segment2_5') AND b.segment_instance_id LIKE '%\_6'$q$);
SELECT twin('SELECT count(*), sum(a.num_of_orders + b.num_of_orders) FROM @ a JOIN @ b USING (segment_id, customer_identity) WHERE a.segment_instance_id IN (''segment1_5'', ''segment2_5'') AND b.segment_instance_id LIKE ''%\_6''', 'p');
RESET enable_hashjoin;
RESET enable_mergejoin;
RESET enable_partitionwise_join;
SELECT twin(q, 'p') FROM unnest(ARRAY['SELECT tableoid::regclass::text ~ ''1$'', count(*) FROM @ GROUP BY 1', 'SELECT count(*) FROM @ WHERE customer_identity = ''customer3'' AND instance_created_date < ''2025-01-20''',
	'SELECT segment_id, count(*) FROM @ WHERE (segment_id, instance_created_date) IN (SELECT segment_id, max(instance_created_date) FROM @ GROUP BY 1) GROUP BY 1']) q;
DROP TABLE p, p_twin;

-- The view.
RESET ALL;
INSERT INTO customer_segmentation_table SELECT * FROM t;
CREATE VIEW latest_twin AS SELECT * FROM t_twin WHERE segment_instance_id IN (SELECT DISTINCT ON (segment_id) segment_instance_id FROM t_twin ORDER BY segment_id, instance_created_date DESC, segment_instance_id COLLATE "C" DESC);
CREATE VIEW latest AS TABLE customer_segmentation_latest;
SELECT twin(q, 'latest') FROM unnest(ARRAY['SELECT segment_instance_id, count(*), sum(total_revenue) FROM @ GROUP BY 1', 'SELECT count(*) FROM @', 'SELECT segment_id FROM @ WHERE customer_identity = ''customer3''', 'SELECT count(*) FROM @ WHERE segment_id = ''segment2'' AND num_of_orders > 10',
	'SELECT count(*) FROM @ a JOIN @ b USING (customer_identity) WHERE a.segment_id < b.segment_id', 'SELECT count(*) FROM @ l JOIN orders o ON o.customer_id = l.customer_identity']) q;
SELECT count(set_config(name, 'off', false)) < 2 AS done FROM pg_settings WHERE name LIKE 'customer\_segmentation.enable\_agg%';
SELECT nodes_of($q$SELECT customer_identity FROM customer_segmentation_latest WHERE segment_id = 'segment2'$q$);
SELECT (n ->> 'Instances Read')::int AS instances, (n ->> 'Instances Skipped')::int AS skipped
FROM (SELECT explain_json('SELECT * FROM customer_segmentation_latest') AS plan) p, jsonb_path_query(plan, '$.**') AS n WHERE jsonb_typeof(n) = 'object' AND n ? 'Instances Read';
SELECT unnest(customer_segmentation.newest_instances()) ORDER BY 1;
-- With and without what a transaction has written, also when the newest instance has lost all of its rows.
BEGIN;
DELETE FROM customer_segmentation_table WHERE segment_instance_id = 'segment1_70';
INSERT INTO customer_segmentation_table SELECT customer_identity, '2030-01-01', schedule, segment_by, segment_created_date, segment_id, 'segment2_new', segment_name, 1, 1, 1 FROM t WHERE segment_instance_id = 'segment2_70' LIMIT 3;
SELECT segment_instance_id, count(*) FROM customer_segmentation_latest GROUP BY 1 ORDER BY 1;
ROLLBACK;
SELECT segment_instance_id, count(*) FROM customer_segmentation_latest GROUP BY 1 ORDER BY 1;
-- Who may see it: as with the table, with row security too.
CREATE ROLE regress_plan_reader;
SET ROLE regress_plan_reader;
SELECT split_part(error_of('SELECT count(*) FROM customer_segmentation_latest'), '|', 1);
SELECT split_part(error_of('SELECT customer_segmentation.newest_instances()'), '|', 1);
RESET ROLE;
GRANT SELECT ON customer_segmentation_latest TO regress_plan_reader;
SET ROLE regress_plan_reader;
SELECT split_part(error_of('SELECT count(*) FROM customer_segmentation_latest'), '|', 1);
RESET ROLE;
GRANT SELECT (segment_id, segment_instance_id, instance_created_date) ON customer_segmentation_table TO regress_plan_reader;
SET ROLE regress_plan_reader;
SELECT split_part(error_of('SELECT segment_id FROM customer_segmentation_latest'), '|', 1);
SELECT array_length(customer_segmentation.newest_instances(), 1);
SELECT split_part(error_of('SELECT customer_identity FROM customer_segmentation_latest'), '|', 1);
RESET ROLE;
REVOKE ALL ON customer_segmentation_latest, customer_segmentation_table FROM regress_plan_reader;
REVOKE SELECT (segment_id, segment_instance_id, instance_created_date) ON customer_segmentation_table FROM regress_plan_reader;
GRANT SELECT ON t TO regress_plan_reader;
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
CREATE POLICY old ON t USING (instance_created_date < '2025-02-01' AND segment_id <> 'segment3');
SET ROLE regress_plan_reader;
SELECT unnest(customer_segmentation.newest_instances('t')) ORDER BY 1;
RESET ROLE;
REVOKE ALL ON t FROM regress_plan_reader;
DROP ROLE regress_plan_reader;
SELECT error_of('SELECT customer_segmentation.newest_instances(''orders'')');
DROP VIEW latest, latest_twin;
TRUNCATE customer_segmentation_table;
SELECT customer_segmentation.newest_instances();
SELECT * FROM customer_segmentation_latest;
DROP TABLE t, t_twin, orders, picked;
