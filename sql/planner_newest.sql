-- The newest instance of each segment, in the ways that SQL has for it; and what is read for it.
SET jit = off;
SELECT make_twins('t');
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(4, 70, 50)$$) \gexec
-- Two instances of one date; one whose rows are gone; dimensions that are NULL.
SELECT on_both($$INSERT INTO @ SELECT customer_identity, instance_created_date, schedule, segment_by, segment_created_date, segment_id, segment_instance_id || 'b', segment_name, 1, num_of_orders + 1, 2 FROM sample_rows(1, 70, 20) WHERE segment_instance_id = 'segment1_70'$$) \gexec
SELECT on_both($$INSERT INTO @ SELECT customer_identity, '2026-01-01', schedule, segment_by, segment_created_date, segment_id, 'segment2_late', segment_name, 1, 1, 2 FROM sample_rows(2, 1, 20) WHERE segment_id = 'segment2'$$) \gexec
SELECT on_both($$DELETE FROM @ WHERE segment_instance_id = 'segment2_late'$$) \gexec
SELECT on_both($$INSERT INTO @ SELECT customer_identity, instance_created_date, NULL, NULL, NULL, 'segment5', 'segment5_' || num_of_orders, NULL, 1, NULL, NULL FROM sample_rows(1, 3, 20)$$) \gexec
SELECT on_both('VACUUM ANALYZE @') \gexec
CREATE TABLE outer_rows (s text, d timestamp, c text) USING heap;
INSERT INTO outer_rows VALUES ('segment1', '2025-01-09', 'customer3'), ('segment2', '2025-03-01', 'customer4'), ('none', NULL, 'nobody'), (NULL, '2025-02-01', NULL),
	('segment1', '2025-01-09', 'customer5'), ('segment2', '2025-03-01', 'customer6'), ('segment1', '2025-01-05', 'customer7'), (NULL, NULL, NULL);
VACUUM ANALYZE outer_rows;

-- How much was read depends on the encoding; versions differ in naming tables and numbering sub-selects.
CREATE FUNCTION run_plan_of(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (ANALYZE, BUFFERS OFF, COSTS OFF, TIMING OFF, SUMMARY OFF) ' || query LOOP
		CONTINUE WHEN line ~ 'Storage: |Disabled';
		line := regexp_replace(line, '\mt\.', '', 'g');
		line := regexp_replace(line, '(rows=\d+)\.00', '\1');
		line := regexp_replace(line, 'bytes read=\d+', 'bytes read=N');
		line := regexp_replace(line, '(Filter|Cond|Sort Key|Run Condition|Rows Removed.*|Sort Method|Window): .*', '\1');
		RETURN NEXT regexp_replace(line, '(SubPlan|InitPlan).*', '\1');
	END LOOP;
END $$;

-- ---- a sub-select for each outer row ----

-- Answered once for each value, of metadata.
SELECT run_plan_of($$SELECT customer_identity, segment_id FROM t WHERE customer_identity = 'customer3' AND instance_created_date = (SELECT max(instance_created_date) FROM t n WHERE n.segment_id = t.segment_id)$$);
SELECT run_plan_of($$SELECT s, (SELECT count(*) FROM t WHERE segment_id = s AND instance_created_date < d) FROM outer_rows$$);
CREATE FUNCTION sub_selects() RETURNS TABLE (n bigint, result text) LANGUAGE sql AS $$
	SELECT n, twin(q) FROM unnest(ARRAY[
	'SELECT s, c, (SELECT max(instance_created_date) FROM @ WHERE segment_id = s) FROM outer_rows',
	'SELECT s, c, (SELECT min(segment_instance_id) FROM @ WHERE segment_id = s HAVING count(*) > 1000) FROM outer_rows',
	'SELECT s, d, (SELECT count(*) FROM @ WHERE segment_id = s AND instance_created_date < d) FROM outer_rows',
	'SELECT s, d, c, (SELECT sum(total_revenue) FROM @ WHERE segment_id = s AND customer_identity = c AND num_of_orders > 1) FROM outer_rows',
	'SELECT s, (SELECT string_agg(x, '','' ORDER BY x) FROM (SELECT s || segment_by || count(*) AS x FROM @ WHERE segment_id = s GROUP BY segment_by) g) FROM outer_rows',
	'SELECT s, g.* FROM outer_rows, LATERAL (SELECT segment_name, schedule, count(DISTINCT customer_identity), avg(total_revenue) FROM @ WHERE segment_id = s GROUP BY 1, 2) g',
	'SELECT s, g.* FROM outer_rows, LATERAL (SELECT s || segment_name, count(*) FILTER (WHERE instance_created_date > d) FROM @ GROUP BY 1) g WHERE s IS NOT NULL',
	'SELECT customer_identity, segment_id FROM @ t WHERE customer_identity = ''customer3'' AND instance_created_date = (SELECT max(instance_created_date) FROM @ n WHERE n.segment_id = t.segment_id)',
	'SELECT count(*) FROM @ t WHERE customer_identity = ''customer3'' AND instance_created_date >= ALL (SELECT max(instance_created_date) FROM @ n WHERE n.segment_id = t.segment_id GROUP BY segment_instance_id)',
	'SELECT count(*) FROM outer_rows WHERE EXISTS (SELECT count(*) FROM @ WHERE segment_id = s HAVING count(*) > 1999)',
	'SELECT s, (SELECT max(instance_created_date) FROM @ WHERE segment_id = s AND instance_created_date < (SELECT max(d) FROM outer_rows)) FROM outer_rows',
	'SELECT s, CASE WHEN s IS NULL THEN 0 ELSE (SELECT count(*) FROM @ WHERE segment_id = s AND 1 / length(s) = 0) END FROM outer_rows',
	'SELECT s, CASE WHEN s = ''none'' THEN 0 ELSE (SELECT count(*) FROM @ WHERE segment_id = s AND num_of_orders > (SELECT 1 / 0 FROM outer_rows LIMIT 1)) END FROM outer_rows WHERE s = ''none'''
	]) WITH ORDINALITY AS x(q, n) ORDER BY n
$$;
SELECT * FROM sub_selects();
-- Little memory: answers are forgotten, not wrong.
SET work_mem = '64kB';
SELECT count(*), sum((SELECT count(*) FROM t WHERE segment_instance_id = 'segment1_' || i % 1500)), sum((SELECT max(length(segment_name)) FROM t WHERE segment_id = repeat('x', i)))
FROM generate_series(1, 3000) i;
RESET work_mem;
SET customer_segmentation.enable_aggregate = off;
SELECT n FROM sub_selects() WHERE result LIKE 'DIFFERENT%' OR result LIKE 'error%';
RESET customer_segmentation.enable_aggregate;
-- What a function writes meanwhile is not in the statement's snapshot, however often it is asked.
CREATE FUNCTION add_instance(i int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO t VALUES ('customer1', '2027-01-01', NULL, NULL, NULL, 'segment1', 'segment1_new' || i, NULL, 1, 1, 1);
	INSERT INTO t_twin VALUES ('customer1', '2027-01-01', NULL, NULL, NULL, 'segment1', 'segment1_new' || i, NULL, 1, 1, 1);
	RETURN i;
END $$;
BEGIN;
SELECT i, CASE WHEN i = 2 THEN add_instance(i) END AS added, (SELECT count(*) FROM t WHERE segment_id = s) AS ours, (SELECT count(*) FROM t_twin WHERE segment_id = s) AS heap
FROM (VALUES (1, 'segment1'), (2, 'segment1'), (3, 'segment1'), (4, 'segment2'), (5, 'segment1')) v(i, s);
SELECT twin('SELECT max(instance_created_date), count(*) FROM @');
ROLLBACK;

DROP TABLE t, t_twin, outer_rows;
DROP FUNCTION run_plan_of(text), sub_selects(), add_instance(int);
