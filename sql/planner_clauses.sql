-- Conditions: what each form of them skips, and that skipping never changes a result.
SELECT make_twins('t');
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(3, 70, 40) ORDER BY segment_id, instance_created_date, customer_identity$$) \gexec
SELECT on_both($$UPDATE @ SET schedule = NULL, segment_by = 'email' WHERE segment_id = 'segment3'$$) \gexec
SELECT on_both('VACUUM ANALYZE @') \gexec
-- The nodes that are looked at here must not depend on what aggregates can do without rows.
SELECT count(set_config(name, 'off', false)) < 2 AS done FROM pg_settings WHERE name LIKE 'customer\_segmentation.enable\_agg%';

-- What the scans of a statement read and skipped, added up.
CREATE FUNCTION scans_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	plan json;
	result text;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF, FORMAT JSON) ' || statement INTO plan;
	SELECT format('scans %s, groups %s/%s, instances %s/%s, cells %s/%s, bytes %s', count(*), sum((n ->> 'Groups Read')::int),
				  sum((n ->> 'Groups Read')::int + (n ->> 'Groups Skipped')::int), sum((n ->> 'Instances Read')::int),
				  sum((n ->> 'Instances Read')::int + (n ->> 'Instances Skipped')::int), sum((n ->> 'Cells Read')::int),
				  sum((n ->> 'Cells Read')::int + (n ->> 'Cells Skipped')::int),
				  CASE WHEN sum((n ->> 'Bytes Read')::int) > 0 THEN 'some' ELSE 'none' END)
	INTO result
	FROM jsonb_path_query(plan::jsonb, '$.**') AS n
	WHERE jsonb_typeof(n) = 'object' AND n ->> 'Custom Plan Provider' = 'CustomerSegmentationScan';
	RETURN result;
END $$;

CREATE FUNCTION explain_json(statement text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF, FORMAT JSON) ' || statement INTO plan;
	RETURN plan;
END $$;

CREATE FUNCTION explain_of(statement text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE statement;
END $$;

-- The same rows as heap has, and what was read for them. Small tables are not worth a nested loop or two processes.
CREATE FUNCTION read_for(condition text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	q text := 'SELECT customer_identity, segment_instance_id, num_of_orders, total_revenue FROM @ WHERE ' || condition;
	same text := twin(q);
BEGIN
	RETURN format('%s: %s', split_part(same, ':', 1), scans_of(replace(q, '@', 't')));
END $$;

SELECT c AS condition, read_for(c) FROM (VALUES
	(1, $$segment_instance_id = 'segment1_5'$$),
	(2, $$'segment1_5' = segment_instance_id$$),
	(3, $$segment_instance_id IN ('segment1_5', 'segment3_70', 'none', NULL)$$),
	(4, $$segment_instance_id = ANY (ARRAY['segment1_5']::varchar[])$$),
	(5, $$segment_instance_id = ANY (NULL::text[])$$),
	(6, $$segment_instance_id <> ALL (ARRAY['segment1_5'])$$),
	(7, $$segment_id = 'segment2'$$),
	(8, $$segment_id = NULL$$),
	(9, $$segment_id > 'segment1' AND segment_id <= 'segment2'$$),
	(10, $$segment_name LIKE 'Segment 2%'$$),
	(11, $$segment_name LIKE '%3'$$),
	(12, $$segment_instance_id LIKE 'segment1\_6_'$$),
	(13, $$segment_name ~ '^Segment [13]$'$$),
	(14, $$schedule IS NULL$$),
	(15, $$schedule IS NOT NULL AND segment_by = 'customer_id'$$),
	(16, $$segment_created_date < '2023-07-20 08:33:09'$$),
	(17, $$segment_created_date IS NULL$$),
	(18, $$instance_created_date = '2025-01-06 11:08:39'$$),
	(19, $$instance_created_date >= '2025-03-01'$$),
	(20, $$instance_created_date BETWEEN '2025-01-03' AND '2025-01-05'$$),
	(21, $$instance_created_date BETWEEN SYMMETRIC '2025-01-05' AND '2025-01-03'$$),
	(22, $$instance_created_date::date = '2025-01-06'$$),
	(23, $$instance_created_date::date IN ('2025-01-06', '2025-03-11')$$),
	(24, $$date_trunc('month', instance_created_date) = '2025-03-01'$$),
	(25, $$extract(dow FROM instance_created_date) = 1$$),
	(26, $$instance_created_date > '2025-03-01'::timestamptz$$),
	(27, $$instance_created_date + interval '1 day' > '2025-03-10'::timestamp$$),
	(28, $$(segment_id, instance_created_date) = ('segment2', '2025-01-06 11:08:39')$$),
	(29, $$(segment_id, instance_created_date) > ('segment3', '2025-03-09')$$),
	(30, $$(segment_instance_id, customer_identity) IN (('segment1_5', 'customer3'), ('segment2_9', 'customer5'))$$),
	(31, $$segment_id = 'segment1' AND segment_instance_id < 'segment1_12'$$),
	(32, $$segment_id = 'segment1' OR segment_name = 'Segment 2' AND instance_created_date < '2025-01-05'$$),
	(33, $$NOT (segment_id = 'segment1' OR segment_id = 'segment2')$$),
	(34, $$CASE WHEN segment_id = 'segment1' THEN instance_created_date < '2025-01-04' ELSE false END$$),
	(35, $$coalesce(schedule, 'none') = 'none'$$),
	(36, $$customer_identity = 'customer7'$$),
	(37, $$customer_identity IN ('customer7', 'customer9', 'nobody')$$),
	(38, $$customer_identity = 'nobody'$$),
	(39, $$customer_identity = 'customer7' AND segment_id = 'segment2'$$),
	(40, $$customer_identity = 'customer7' AND segment_instance_id = 'segment1_5'$$),
	(41, $$(customer_identity = 'customer7' AND segment_id = 'segment1') OR (customer_identity = 'customer9' AND segment_id = 'segment3')$$),
	(42, $$customer_identity = 'customer7' OR segment_id = 'segment1'$$),
	(43, $$customer_identity LIKE 'customer7%'$$),
	(44, $$customer_identity = 'customer7' COLLATE "C"$$),
	(45, $$segment_id || customer_identity = 'segment1customer7'$$),
	(46, $$segment_id = segment_name$$),
	(47, $$random() < 2 AND segment_id = 'segment1'$$),
	(48, $$false$$)) AS v(o, c) ORDER BY o;

-- Measures, by the least and the greatest of an instance.
SELECT on_both($$DELETE FROM @$$) \gexec
SELECT on_both($$INSERT INTO @ SELECT 'c' || c, timestamp '2025-01-01' + i * interval '1 day', NULL, NULL, NULL, 's' || i, 's' || i || '_x', NULL, 1, v.orders[c], v.revenue[c]
	FROM (VALUES (1, '{1,2,3}'::bigint[], '{1.0,2.5,3.50}'::numeric[]), (2, '{10,NULL,30}', '{NULL,NULL,NULL}'), (3, '{NULL,NULL,NULL}', '{NaN,1,2}'),
				 (4, '{-5,0,5}', '{Infinity,1,2}'), (5, '{5,5,5}', '{-Infinity,1,2}'), (6, '{9223372036854775807,0,0}', '{1e30,1,2}'),
				 (7, '{0,0,0}', '{12345678901234567890.5,NULL,0}'), (8, '{7,7,7}', '{NaN,Infinity,-Infinity}')) AS v(i, orders, revenue), generate_series(1, 3) c$$) \gexec
SELECT c AS condition, read_for(c) FROM (VALUES
	(1, 'num_of_orders >= 5'), (2, 'num_of_orders < 0'), (3, 'num_of_orders = 5'), (4, '5 = num_of_orders'), (5, '10 < num_of_orders'), (6, 'num_of_orders IN (2, 7)'),
	(7, 'num_of_orders > 2.5'), (8, 'num_of_orders > 9.5::float8'), (9, 'num_of_orders = 5::int2'), (10, 'num_of_orders IS NULL'), (11, 'num_of_orders IS NOT NULL'), (12, 'num_of_orders <> 5'),
	(13, 'num_of_orders BETWEEN 8 AND 20'), (14, 'total_revenue > 3'), (15, 'total_revenue >= 3.5'), (16, 'total_revenue = 3.5'), (17, 'total_revenue < 1'), (18, $$total_revenue = 'NaN'$$),
	(19, $$total_revenue > 'Infinity'$$), (20, $$total_revenue = 'Infinity'$$), (21, $$total_revenue <= '-Infinity'$$), (22, $$total_revenue < '-Infinity'$$), (23, 'total_revenue IS NULL'), (24, 'total_revenue > 1e20'),
	(25, 'total_revenue::float8 > 1e10'), (26, 'total_revenue * 2 > 5'), (27, 'num_of_orders > 5 OR total_revenue IS NULL'), (28, 'num_of_orders > 5 AND total_revenue < 2'),
	(29, $$(segment_id = 's1' AND num_of_orders > 2) OR (segment_id = 's4' AND num_of_orders > 5)$$), (30, 'num_of_orders > num_of_customers'), (31, 'num_of_customers > 1'),
	(32, 'num_of_orders = ANY (ARRAY[]::bigint[])'), (33, 'num_of_orders > ALL (ARRAY[1, 2])')) AS v(o, c) ORDER BY o;
-- The bounds only widen when rows go.
SELECT on_both($$DELETE FROM @ WHERE num_of_orders = 30 OR num_of_orders = -5$$) \gexec
SELECT on_both($$UPDATE @ SET num_of_orders = 100 WHERE segment_id = 's1' AND customer_identity = 'c1'$$) \gexec
SELECT c AS condition, read_for(c) FROM (VALUES (1, 'num_of_orders >= 30'), (2, 'num_of_orders < 0'), (3, 'num_of_orders = 100')) AS v(o, c) ORDER BY o;
SELECT * FROM compare_twin();

-- Parameters, prepared statements, stable expressions, sub-selects.
SELECT on_both('DELETE FROM @') \gexec
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(3, 70, 40) ORDER BY segment_id, instance_created_date, customer_identity$$) \gexec
PREPARE by_instance(text) AS SELECT count(*) FROM t WHERE segment_instance_id = $1;
PREPARE by_many(text[], timestamp) AS SELECT count(*) FROM t WHERE customer_identity = ANY ($1) AND instance_created_date > $2;
SET plan_cache_mode = force_generic_plan;
EXECUTE by_instance('segment1_5');
EXECUTE by_instance(NULL);
EXECUTE by_instance('segment2_9');
EXECUTE by_many('{customer1,customer3}', '2025-03-05');
EXECUTE by_many(NULL, '2025-03-05');
SELECT scans_of($$EXECUTE by_instance('segment1_5')$$);
SELECT scans_of($$EXECUTE by_instance('none')$$);
SELECT scans_of($$EXECUTE by_many('{customer1,customer3}', '2025-03-05')$$);
SET plan_cache_mode = force_custom_plan;
EXECUTE by_instance('segment1_5');
SELECT scans_of($$EXECUTE by_instance('segment1_5')$$);
RESET plan_cache_mode;
SELECT read_for($$segment_instance_id = (SELECT 'segment' || 1 || '_5')$$);
SELECT read_for($$segment_id = current_setting('my.segment', true)$$);
SELECT set_config('my.segment', 'segment2', false);
SELECT read_for($$segment_id = current_setting('my.segment', true)$$);
SELECT read_for($$instance_created_date < now() - interval '1 day' AND segment_id = 'segment1'$$);
-- The plan is kept, the data is not in it.
PREPARE newest AS SELECT count(*), max(instance_created_date) FROM t WHERE instance_created_date > '2025-03-10';
EXECUTE newest;
INSERT INTO t SELECT customer_identity, '2025-05-01', schedule, segment_by, segment_created_date, 's9', 's9_1', segment_name, 1, 1, 1 FROM t WHERE segment_instance_id = 'segment1_5';
EXECUTE newest;
BEGIN;
DELETE FROM t WHERE segment_id = 's9';
EXECUTE newest;
ROLLBACK;
EXECUTE newest;
ALTER TABLE t ADD CHECK (num_of_orders >= 0);
EXECUTE newest;

-- An expression that fails for some instance fails only if there are rows of it.
INSERT INTO t_twin SELECT * FROM t WHERE segment_id = 's9';
SELECT twin($$SELECT count(*) FROM @ WHERE 1 / (length(segment_id) - 2) = 1$$);
SELECT on_both($$DELETE FROM @ WHERE segment_id = 's9'$$) \gexec
SELECT twin($$SELECT count(*) FROM @ WHERE 1 / (length(segment_id) - 2) = 1$$);

-- Only the columns that are asked for.
CREATE FUNCTION columns_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (COSTS OFF, FORMAT JSON) ' || statement INTO plan;
	RETURN (SELECT string_agg(n ->> 'Columns Read', ' ') FROM jsonb_path_query(plan::jsonb, '$.**') AS n WHERE jsonb_typeof(n) = 'object' AND n ? 'Columns Read');
END $$;
SELECT s, columns_of('SELECT ' || s) FROM unnest(ARRAY['1 FROM t', 'num_of_orders FROM t', 'ctid, tableoid FROM t', 't FROM t', 'count(*) FROM t WHERE total_revenue > 1', 'customer_identity FROM t ORDER BY segment_id',
	'* FROM t', 'max(num_of_orders) FROM t GROUP BY segment_id', 'num_of_orders FROM t FOR UPDATE', 'count(t.*) FROM t', 'row_to_json(t) FROM t']) s;
SELECT twin('SELECT sum(num_of_orders) FROM @');
SELECT twin('SELECT max(customer_identity) FROM @');
SELECT twin('SELECT count(@), md5(string_agg(@::text, chr(10) ORDER BY @::text)) FROM @');

-- EXPLAIN.
EXPLAIN (COSTS OFF) SELECT num_of_orders FROM t WHERE segment_id = 'segment1' AND customer_identity = 'customer7';
EXPLAIN (COSTS OFF, VERBOSE) SELECT num_of_orders FROM t WHERE segment_id = 'segment1' AND num_of_orders > 3;
SELECT regexp_replace(regexp_replace(l, 'bytes read=\d+', 'bytes read=N'), '(rows=\d+)\.00', '\1') FROM explain_of($$EXPLAIN (ANALYZE, BUFFERS OFF, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT num_of_orders FROM t WHERE segment_id = 'segment1'$$) l;
-- Nothing is read for EXPLAIN alone, and the settings turn each part off.
EXPLAIN (COSTS OFF) SELECT num_of_orders FROM t WHERE 1 / (length(segment_id) - 8) = 1;
SET customer_segmentation.enable_custom_scan = off;
EXPLAIN (COSTS OFF) SELECT num_of_orders FROM t WHERE segment_id = 'segment1';
RESET customer_segmentation.enable_custom_scan;

-- Nor does an expression fail for a whole group that no row is in any more.
SELECT on_both($$INSERT INTO @ SELECT 'c' || i, '2025-01-01', NULL, 'oops', NULL, 's9', 's9_9', NULL, 1, i, i FROM generate_series(1, 20) i$$) \gexec
SELECT twin($$SELECT count(customer_identity || '') FROM @ WHERE segment_by::int > 3 AND segment_id = 's9'$$);
SELECT on_both($$UPDATE @ SET segment_by = '12' WHERE segment_instance_id = 's9_9'$$) \gexec
SELECT twin($$SELECT count(customer_identity || '') FROM @ WHERE segment_by::int > 3 AND segment_id = 's9'$$);
SELECT twin($$SELECT count(*), min(total_revenue) FROM @ WHERE segment_by::int > 3 AND segment_id = 's9'$$);
SELECT on_both($$DELETE FROM @ WHERE segment_id = 's9'$$) \gexec
SELECT twin($$SELECT count(customer_identity || '') FROM @ WHERE segment_by::int > 3 AND segment_id = 's9'$$);
RESET ALL;
DROP TABLE t, t_twin;
