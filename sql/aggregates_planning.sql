-- Aggregates without rows: when they are planned, what EXPLAIN says, and that they keep to the rules.
SET jit = off;
SELECT make_twins('t');
CREATE TEMP TABLE rows_with_cents AS SELECT * FROM sample_rows(3, 12, 40);
UPDATE rows_with_cents SET total_revenue = round(total_revenue, 2);
SELECT on_both($$INSERT INTO @ TABLE rows_with_cents$$) \gexec
VACUUM ANALYZE t;

-- Versions differ in naming the table beside its columns and in the decimals of rows.
CREATE FUNCTION plan_of(query text, options text DEFAULT 'COSTS OFF') RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE format('EXPLAIN (%s) %s', options, query) LOOP
		RETURN NEXT regexp_replace(regexp_replace(line, '\mt\.', '', 'g'), '(rows=\d+)\.00', '\1');
	END LOOP;
END $$;
-- How much was read depends on the encoding.
CREATE FUNCTION run_plan_of(query text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT regexp_replace(regexp_replace(l, 'bytes read=\d+', 'bytes read=N'), 'Memory: \d+kB', 'Memory: N')
	FROM plan_of(query, 'ANALYZE, BUFFERS OFF, COSTS OFF, TIMING OFF, SUMMARY OFF') l
$$;
CREATE FUNCTION uses_node(query text) RETURNS boolean LANGUAGE sql AS $$
	SELECT bool_or(l LIKE '%CustomerSegmentationAggregate%') FROM plan_of(query) l
$$;

SELECT * FROM run_plan_of('SELECT segment_id, count(*), sum(total_revenue) FROM t GROUP BY 1 HAVING count(*) > 1 ORDER BY 2 DESC');
SELECT * FROM run_plan_of($$SELECT date_trunc('month', instance_created_date), count(DISTINCT customer_identity) FROM t WHERE segment_id = 'segment2' GROUP BY 1$$);
SELECT * FROM run_plan_of('SELECT count(*) FROM t WHERE num_of_orders >= 3 AND total_revenue < 5');
SELECT * FROM run_plan_of($$SELECT segment_id, count(*) FROM t WHERE num_of_orders >= 3 AND customer_identity IN ('customer1', 'customer2') GROUP BY 1$$);
SELECT * FROM plan_of($$SELECT segment_id, count(*) FILTER (WHERE num_of_orders > 2) FROM t WHERE segment_name LIKE 'S%' GROUP BY 1$$, 'VERBOSE, COSTS OFF');
CREATE FUNCTION json_plan_of(query text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, FORMAT JSON) ' || query INTO plan;
	RETURN plan::jsonb -> 0 -> 'Plan';
END $$;
SELECT p ->> 'Custom Plan Provider' AS provider, replace(p ->> 'Group Key', 't.', '') AS key, p ->> 'Answered From' AS from, p ->> 'Instances Read' AS instances,
	   p ->> 'Instances From Totals' AS from_totals, p ->> 'Cells Read' AS cells, p ->> 'Rows Made' AS rows
FROM json_plan_of('SELECT segment_id, sum(num_of_orders) FROM t GROUP BY 1') p;

-- Planned where it helps, not where it is turned off; neither chosen for heap.
SELECT uses_node('SELECT count(*) FROM t'), uses_node('SELECT count(*) FROM t_twin');
SET customer_segmentation.enable_aggregate = off;
SELECT uses_node('SELECT count(*) FROM t');
RESET customer_segmentation.enable_aggregate;

-- Prepared statements, with custom and generic plans; parameters of subqueries; a setting that a stable expression reads.
PREPARE by_orders(bigint, text, numeric[]) AS
	SELECT segment_id, count(*), sum(total_revenue) FROM t
	WHERE num_of_orders > $1 AND segment_id LIKE $2 AND (total_revenue = ANY ($3) OR $3 IS NULL) GROUP BY 1 ORDER BY 1;
SET plan_cache_mode = force_generic_plan;
SELECT * FROM plan_of($$EXECUTE by_orders(2, 'segment%', NULL)$$);
EXECUTE by_orders(2, 'segment%', NULL);
EXECUTE by_orders(3, '%2', '{1.48,9.63,NaN}');
EXECUTE by_orders(NULL, '%', NULL);
SET plan_cache_mode = force_custom_plan;
EXECUTE by_orders(2, 'segment%', NULL);
EXECUTE by_orders(3, '%2', '{1.48,9.63,NaN}');
RESET plan_cache_mode;
DEALLOCATE by_orders;
SET test.least = '4';
SELECT twin($$SELECT count(*) FROM @ WHERE num_of_orders >= current_setting('test.least')::int$$);
SET test.least = '6';
SELECT twin($$SELECT count(*) FROM @ WHERE num_of_orders >= current_setting('test.least')::int$$);
SELECT twin($$SELECT v.n, (SELECT count(*) FROM @ WHERE num_of_orders > v.n AND segment_id = 'segment' || v.n) FROM generate_series(1, 4) v(n)$$);
SELECT twin($$SELECT v.n, l.* FROM generate_series(1, 3) v(n), LATERAL (SELECT max(total_revenue), count(DISTINCT customer_identity) FROM @ WHERE segment_id = 'segment' || v.n HAVING count(*) > v.n) l$$);
SELECT twin($$SELECT count(*) FROM @ HAVING count(*) > (SELECT count(*) FROM @ WHERE num_of_orders > 3)$$);
SELECT twin($$SELECT segment_id, (SELECT count(*) FROM @ i WHERE i.segment_id = o.segment_id) FROM @ o GROUP BY 1$$);

-- What a transaction has changed itself; what a savepoint takes back; what a cursor opened before doesn't see.
BEGIN;
SELECT on_both($$INSERT INTO @ VALUES ('new', '2026-01-01', NULL, NULL, NULL, 'segment1', 'new_1', 'New', 1, 50, 1000)$$) \gexec
SELECT twin($$SELECT segment_name, count(*), sum(total_revenue) FROM @ GROUP BY 1$$);
DECLARE c CURSOR FOR SELECT count(*), sum(num_of_orders), max(instance_created_date) FROM t;
DECLARE s SCROLL CURSOR FOR SELECT segment_id, count(*) FROM t GROUP BY 1 ORDER BY 1;
SAVEPOINT a;
SELECT on_both($$DELETE FROM @ WHERE segment_id = 'segment2'$$) \gexec
SELECT on_both($$UPDATE @ SET num_of_orders = 77 WHERE customer_identity = 'customer3'$$) \gexec
SELECT twin($$SELECT segment_id, count(*), max(num_of_orders) FROM @ GROUP BY 1$$);
FETCH c;
FETCH ALL s;
FETCH BACKWARD 2 FROM s;
ROLLBACK TO a;
SELECT twin($$SELECT segment_id, count(*), max(num_of_orders), count(DISTINCT customer_identity) FROM @ GROUP BY 1$$);
ROLLBACK;
-- Within one statement: rows of a CTE that changes the table are not seen, those of a function are.
SELECT twin($$WITH d AS (DELETE FROM @ WHERE segment_id = 'segment3' RETURNING 1) SELECT (SELECT count(*) FROM d), count(*) FROM @$$);
SELECT * FROM compare_twin();
DECLARE h CURSOR WITH HOLD FOR SELECT segment_id, sum(total_revenue) FROM t GROUP BY 1 ORDER BY 1;
SELECT on_both($$DELETE FROM @ WHERE customer_identity = 'customer5'$$) \gexec
FETCH ALL h;
CLOSE h;

-- No cursor over groups stands on a row.
BEGIN;
DECLARE g CURSOR FOR SELECT count(*) FROM t;
FETCH g;
UPDATE t SET num_of_orders = 1 WHERE CURRENT OF g;
ROLLBACK;

-- A condition that is looked at again after a concurrent change would run its subqueries anew; here just their plan.
SELECT uses_node('UPDATE t_twin SET num_of_orders = 0 WHERE num_of_orders > (SELECT count(*) FROM t)');
SELECT error_of('SELECT count(*) FROM t FOR UPDATE');
SELECT uses_node('SELECT x.n FROM (SELECT count(*) AS n FROM t) x');
INSERT INTO t_twin SELECT 'agg' || count(*), '2026-01-01', NULL, NULL, NULL, 'x', 'x', NULL, 1, count(*), sum(total_revenue) FROM t;
DELETE FROM t_twin WHERE segment_id = 'x';
CREATE VIEW v AS SELECT segment_id AS s, num_of_orders AS n, upper(segment_name) AS u FROM t WHERE num_of_orders > 1;
CREATE VIEW vb WITH (security_barrier) AS SELECT segment_id AS s, num_of_orders AS n FROM t WHERE num_of_orders > 1;
SELECT uses_node('SELECT u, count(*) FROM v WHERE s > ''segment1'' GROUP BY 1'), uses_node('SELECT s, sum(n) FROM vb GROUP BY 1');
SELECT (SELECT count(*) FROM v WHERE n < 5) = (SELECT count(*) FROM t_twin WHERE num_of_orders > 1 AND num_of_orders < 5),
	   (SELECT sum(n) FROM vb) = (SELECT sum(num_of_orders) FROM t_twin WHERE num_of_orders > 1);

-- Serializable transactions lock the relation for their readings.
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(*) > 0 FROM t;
SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND mode = 'SIReadLock' AND locktype = 'relation';
COMMIT;

-- Privileges on columns.
CREATE ROLE regress_cs_aggregates;
GRANT SELECT (segment_id, num_of_orders) ON t TO regress_cs_aggregates;
SET ROLE regress_cs_aggregates;
SELECT segment_id, sum(num_of_orders) > 0 FROM t WHERE num_of_orders > 1 GROUP BY 1 ORDER BY 1;
SELECT count(*) > 0 FROM t;
SELECT error_of('SELECT sum(total_revenue) FROM t');
SELECT error_of('SELECT count(DISTINCT customer_identity) FROM t');
SELECT error_of('SELECT count(*) FROM t WHERE total_revenue > 1');
SELECT error_of('SELECT segment_name, count(*) FROM t GROUP BY 1');
RESET ROLE;

-- Row security: conditions on dimensions are answered without rows, others with them. What leaks sees nothing hidden.
SELECT on_both('GRANT SELECT ON @ TO regress_cs_aggregates') \gexec
SELECT on_both('ALTER TABLE @ ENABLE ROW LEVEL SECURITY') \gexec
SELECT on_both($$CREATE POLICY visible_rows ON @ USING (segment_id = 'segment1')$$) \gexec
CREATE FUNCTION tell(t text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$BEGIN RAISE NOTICE 'saw %', t; RETURN true; END $$;
CREATE FUNCTION tell_group(t text) RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RAISE NOTICE 'grouped %', t; RETURN t; END $$;
CREATE FUNCTION tell_stable(t text) RETURNS boolean LANGUAGE plpgsql STABLE COST 0.0001 AS $$BEGIN RAISE NOTICE 'filtered %', t; RETURN true; END $$;
SET ROLE regress_cs_aggregates;
SELECT uses_node('SELECT segment_id, count(*) FROM t GROUP BY 1');
SELECT twin('SELECT segment_id, count(*), count(DISTINCT customer_identity) FROM @ GROUP BY 1');
SELECT twin('SELECT count(*) FROM @ WHERE num_of_orders > 2');
SELECT count(*) > 0 FROM t WHERE tell(segment_id) AND customer_identity = 'customer7' AND instance_created_date < '2025-01-05';
SELECT uses_node('SELECT count(*) FROM t WHERE tell_stable(segment_id)');
SELECT uses_node('SELECT tell_group(segment_id), count(*) FROM t GROUP BY 1');
SET client_min_messages = warning;
SELECT tell_group(segment_id), count(*) FILTER (WHERE tell_stable(segment_id)) > 0 FROM t GROUP BY 1;
RESET client_min_messages;
SELECT tell_group(segment_instance_id) FROM t WHERE instance_created_date < '2025-01-03 12:00' GROUP BY 1;
RESET ROLE;
SELECT on_both($$ALTER POLICY visible_rows ON @ USING (num_of_orders > 3)$$) \gexec
SET ROLE regress_cs_aggregates;
SELECT uses_node('SELECT segment_id, count(*) FROM t GROUP BY 1');
SELECT twin('SELECT segment_id, count(*), min(num_of_orders) FROM @ GROUP BY 1');
RESET ROLE;
SELECT on_both('ALTER TABLE @ DISABLE ROW LEVEL SECURITY') \gexec

-- A plan that was made before is not used after what it rests on has changed.
PREPARE again AS SELECT segment_id, count(*) FROM t GROUP BY 1 ORDER BY 1;
EXECUTE again;
ALTER TABLE t SET ACCESS METHOD heap;
EXPLAIN (COSTS OFF) EXECUTE again;
EXECUTE again;
ALTER TABLE t SET ACCESS METHOD customer_segmentation;
SELECT count(*) FROM plan_of('EXECUTE again') l WHERE l LIKE '%CustomerSegmentationAggregate%';
EXECUTE again;
TRUNCATE t;
EXECUTE again;
DROP VIEW v, vb;
DROP TABLE t, t_twin;

-- Columns in another order, one of them dropped; temporary tables; an old snapshot.
CREATE TABLE odd (total_revenue numeric, segment_name text, gone int, num_of_customers bigint, segment_instance_id text NOT NULL,
	customer_identity text NOT NULL, segment_id text NOT NULL, num_of_orders bigint, segment_created_date timestamp,
	segment_by text, instance_created_date timestamp NOT NULL, schedule text) USING heap;
ALTER TABLE odd DROP COLUMN gone;
INSERT INTO odd (customer_identity, instance_created_date, schedule, segment_by, segment_created_date, segment_id,
	segment_instance_id, segment_name, num_of_customers, num_of_orders, total_revenue) SELECT * FROM sample_rows(2, 4, 30);
CREATE TEMP TABLE odd_heap AS SELECT segment_name, count(*), sum(total_revenue), max(num_of_orders) FROM odd WHERE total_revenue > 3 GROUP BY 1;
ALTER TABLE odd SET ACCESS METHOD customer_segmentation;
SELECT uses_node('SELECT segment_name, count(*), sum(total_revenue), max(num_of_orders) FROM odd WHERE total_revenue > 3 GROUP BY 1');
SELECT segment_name, count(*), sum(total_revenue), max(num_of_orders) FROM odd WHERE total_revenue > 3 GROUP BY 1 EXCEPT TABLE odd_heap;
DROP TABLE odd, odd_heap;
SELECT make_twins('t', 'TEMP');
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(2, 3, 30)$$) \gexec
SELECT uses_node('SELECT count(*) FROM t');
SELECT twin('SELECT segment_id, count(*), avg(total_revenue) FROM @ GROUP BY 1');
DROP TABLE t, t_twin;

-- Partitions: each of its own, and together.
CREATE TABLE parts (LIKE customer_segmentation_table) PARTITION BY LIST (segment_id);
CREATE TABLE part1 PARTITION OF parts FOR VALUES IN ('segment1') USING customer_segmentation;
CREATE TABLE part2 PARTITION OF parts FOR VALUES IN ('segment2', 'segment3') USING customer_segmentation;
INSERT INTO parts SELECT * FROM sample_rows(3, 4, 300);
SELECT uses_node('SELECT count(*) FROM part2'), uses_node('SELECT count(*) FROM parts');
SELECT segment_id, count(*), sum(total_revenue) FROM parts GROUP BY 1 ORDER BY 1;
SET enable_partitionwise_aggregate = on;
SELECT segment_id, count(*), sum(total_revenue) FROM parts GROUP BY 1 ORDER BY 1;
RESET enable_partitionwise_aggregate;
SELECT count(*), sum(total_revenue) FROM part2;
DROP TABLE parts;
DROP FUNCTION plan_of(text, text), run_plan_of(text), json_plan_of(text), uses_node(text), tell(text), tell_group(text), tell_stable(text);
DROP ROLE regress_cs_aggregates;
