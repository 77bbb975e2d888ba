-- The newest instance of each segment, in the ways that SQL has for it; and what is read for it.
SET jit = off;
SELECT make_twins('t');
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(4, 70, 50)$$) \gexec
-- Two instances of one date; one whose rows are gone; dimensions that are NULL.
SELECT on_both($$INSERT INTO @ SELECT customer_identity, instance_created_date, schedule, segment_by, segment_created_date, segment_id, segment_instance_id || 'b', segment_name, 1, num_of_orders + 1, 2 FROM sample_rows(1, 70, 20) WHERE segment_instance_id = 'segment1_70'$$) \gexec
SELECT on_both($$INSERT INTO @ SELECT customer_identity, '2026-01-01', schedule, segment_by, segment_created_date, segment_id, 'segment2_late', segment_name, 1, 1, 2 FROM sample_rows(2, 1, 20) WHERE segment_id = 'segment2'$$) \gexec
SELECT on_both($$DELETE FROM @ WHERE segment_instance_id = 'segment2_late'$$) \gexec
SELECT on_both($$INSERT INTO @ SELECT customer_identity, instance_created_date, NULL, NULL, NULL, 'segment5', replace(segment_instance_id, '1_', '5_'), NULL, 1, NULL, NULL FROM sample_rows(1, 3, 20)$$) \gexec
SELECT on_both('VACUUM ANALYZE @') \gexec
CREATE TABLE outer_rows (s text, d timestamp, c text) USING heap;
INSERT INTO outer_rows VALUES ('segment1', '2025-01-09', 'customer3'), ('segment2', '2025-03-01', 'customer4'), ('none', NULL, 'nobody'), (NULL, '2025-02-01', NULL),
	('segment1', '2025-01-09', 'customer5'), ('segment2', '2025-03-01', 'customer6'), ('segment1', '2025-01-05', 'customer7'), (NULL, NULL, NULL);
VACUUM ANALYZE outer_rows;

-- How much was read depends on the encoding; versions differ in naming tables and numbering sub-selects.
CREATE FUNCTION run_plan_of(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	line text;
	average text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (ANALYZE, BUFFERS OFF, COSTS OFF, TIMING OFF, SUMMARY OFF) ' || query LOOP
		CONTINUE WHEN line ~ 'Storage: |Disabled|^ *Window: ';
		line := regexp_replace(line, '\mt\.', '', 'g');
		average := substring(line FROM 'rows=(\d+\.\d+) loops');
		line := coalesce(replace(line, 'rows=' || average, 'rows=' || round(average::numeric)), line);
		-- Which instances share a group depends on the order in which they were written.
		line := regexp_replace(line, '(groups|cells) read=0 skipped=\d+', '\1 read=0 skipped=N', 'g');
		line := regexp_replace(line, '(groups|cells) read=[1-9]\d* skipped=\d+', '\1 read=N skipped=N', 'g');
		line := regexp_replace(line, 'bytes read=\d+', 'bytes read=N');
		line := regexp_replace(line, '(Filter|Cond|Sort Key|Run Condition|Rows Removed.*|Sort Method): .*', '\1');
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

-- ---- instances in order ----

-- The first instance alone is read for the first rows, and none for dimensions.
SELECT run_plan_of($$SELECT customer_identity FROM t ORDER BY instance_created_date DESC LIMIT 2$$);
SELECT run_plan_of($$SELECT s, (SELECT instance_created_date FROM t WHERE segment_id = s ORDER BY 1 DESC LIMIT 1) FROM outer_rows$$);
-- The newest of each segment: one row, all rows, those of the newest two.
SELECT run_plan_of($$SELECT DISTINCT ON (segment_id) segment_id, segment_instance_id FROM t ORDER BY segment_id, instance_created_date DESC$$);
-- Newer versions would sort incrementally.
SET enable_incremental_sort = off;
SELECT run_plan_of($$SELECT DISTINCT ON (segment_id) segment_id, total_revenue FROM t ORDER BY segment_id, instance_created_date DESC, total_revenue$$);
RESET enable_incremental_sort;
SELECT run_plan_of($$SELECT customer_identity FROM (SELECT *, rank() OVER (PARTITION BY segment_id ORDER BY instance_created_date DESC) AS r FROM t) w WHERE r = 1$$);
SELECT run_plan_of($$SELECT customer_identity FROM (SELECT *, dense_rank() OVER (PARTITION BY segment_id ORDER BY instance_created_date DESC) AS r FROM t WHERE num_of_orders > 2) w WHERE r <= 2$$);
SELECT run_plan_of($$SELECT segment_id FROM (SELECT *, row_number() OVER (PARTITION BY segment_id ORDER BY instance_created_date DESC) AS r FROM t) w WHERE r = 1$$);

CREATE FUNCTION ordered() RETURNS TABLE (n bigint, result text) LANGUAGE sql AS $$
	SELECT n, twin(q) FROM unnest(ARRAY[
	-- DISTINCT ON
	'SELECT DISTINCT ON (segment_id) segment_id, instance_created_date, segment_name FROM @ ORDER BY segment_id, instance_created_date DESC',
	'SELECT DISTINCT ON (segment_id) segment_id, instance_created_date, segment_instance_id FROM @ ORDER BY segment_id, instance_created_date DESC, segment_instance_id DESC',
	'SELECT DISTINCT ON (segment_id) segment_id, instance_created_date, customer_identity FROM @ ORDER BY segment_id, instance_created_date DESC, customer_identity, segment_instance_id',
	'SELECT DISTINCT ON (segment_id) segment_id, total_revenue FROM @ ORDER BY segment_id, instance_created_date, total_revenue DESC NULLS LAST',
	'SELECT DISTINCT ON (segment_id) segment_id, instance_created_date FROM @ WHERE num_of_orders = 9 ORDER BY segment_id DESC, instance_created_date DESC',
	'SELECT DISTINCT ON (segment_id) segment_id, instance_created_date FROM @ WHERE customer_identity = ''customer7'' ORDER BY segment_id, instance_created_date DESC',
	'SELECT DISTINCT ON (schedule, segment_by) schedule, segment_by, segment_created_date FROM @ ORDER BY schedule NULLS FIRST, segment_by, segment_created_date DESC',
	'SELECT DISTINCT ON (date_trunc(''month'', instance_created_date), segment_id) segment_id, segment_instance_id FROM @ ORDER BY date_trunc(''month'', instance_created_date), segment_id, instance_created_date DESC, segment_instance_id',
	'SELECT DISTINCT ON (customer_identity) customer_identity, instance_created_date FROM @ ORDER BY customer_identity, instance_created_date DESC',
	'SELECT DISTINCT ON (segment_id) segment_id FROM @ WHERE segment_id = ''segment2'' ORDER BY segment_id, instance_created_date',
	'SELECT DISTINCT ON (segment_id) segment_id, instance_created_date FROM @ WHERE segment_id = ''segment2'' ORDER BY segment_id, instance_created_date DESC',
	'SELECT DISTINCT ON (segment_id, length(segment_instance_id)) segment_id, length(segment_instance_id), instance_created_date FROM @ ORDER BY segment_id, length(segment_instance_id) DESC, instance_created_date DESC LIMIT 5',
	'SELECT t.segment_id, count(*), sum(t.num_of_orders) FROM (SELECT DISTINCT ON (segment_id) segment_id, segment_instance_id FROM @ ORDER BY segment_id, instance_created_date DESC, segment_instance_id) n JOIN @ t USING (segment_instance_id) GROUP BY 1',
	'SELECT DISTINCT ON (a.segment_id) a.segment_id, b.instance_created_date FROM @ a JOIN @ b ON b.segment_id = a.segment_id AND b.segment_instance_id <> a.segment_instance_id WHERE a.customer_identity = ''customer3'' AND b.customer_identity = ''customer3'' ORDER BY a.segment_id, b.instance_created_date DESC',
	'SELECT s, g.* FROM outer_rows, LATERAL (SELECT DISTINCT ON (segment_id) segment_id, instance_created_date FROM @ WHERE instance_created_date < d ORDER BY segment_id, instance_created_date DESC) g',
	-- ranks
	'SELECT segment_id, r, count(*), sum(num_of_orders), min(segment_instance_id), max(segment_instance_id) FROM (SELECT *, rank() OVER (PARTITION BY segment_id ORDER BY instance_created_date DESC) AS r FROM @) w WHERE r = 1 GROUP BY 1, 2',
	'SELECT * FROM (SELECT *, rank() OVER (PARTITION BY segment_id ORDER BY instance_created_date DESC) AS r FROM @) w WHERE r <= 40 AND num_of_orders > 8',
	'SELECT * FROM (SELECT *, rank() OVER (PARTITION BY segment_id ORDER BY instance_created_date DESC) AS r FROM @ WHERE num_of_orders > 8) w WHERE r <= 40',
	'SELECT segment_id, r, count(*) FROM (SELECT *, dense_rank() OVER (PARTITION BY segment_id ORDER BY instance_created_date DESC) AS r FROM @) w WHERE r < 4 GROUP BY 1, 2',
	'SELECT segment_id, r, count(*) FROM (SELECT *, dense_rank() OVER (PARTITION BY segment_id ORDER BY instance_created_date DESC, num_of_orders) AS r FROM @) w WHERE 3 >= r GROUP BY 1, 2',
	'SELECT segment_id, count(*) FROM (SELECT *, dense_rank() OVER (PARTITION BY segment_id ORDER BY instance_created_date DESC) AS r FROM @ WHERE customer_identity IN (''customer7'', ''customer8'')) w WHERE r <= 2 GROUP BY 1',
	'SELECT segment_id, instance_created_date, r FROM (SELECT *, row_number() OVER (PARTITION BY segment_id ORDER BY instance_created_date DESC) AS r FROM @) w WHERE r = 1',
	'SELECT segment_id, instance_created_date, r FROM (SELECT *, row_number() OVER (PARTITION BY segment_id ORDER BY instance_created_date DESC) AS r FROM @) w WHERE r <= 90',
	'SELECT segment_id, segment_instance_id, customer_identity FROM (SELECT *, row_number() OVER (PARTITION BY segment_id ORDER BY instance_created_date DESC, total_revenue, customer_identity, segment_instance_id) AS r FROM @) w WHERE r <= 5',
	'SELECT r, d, k, count(*) FROM (SELECT rank() OVER w AS r, dense_rank() OVER w AS d, row_number() OVER w AS k, segment_id FROM @ WINDOW w AS (PARTITION BY segment_id ORDER BY instance_created_date DESC)) w WHERE r = 1 GROUP BY 1, 2, 3',
	'SELECT instance_created_date, count(*) FROM (SELECT *, rank() OVER (ORDER BY instance_created_date DESC) AS r FROM @) w WHERE r = 1 GROUP BY 1',
	'SELECT segment_id, count(*) FROM (SELECT *, rank() OVER (PARTITION BY segment_id) AS r FROM @) w WHERE r = 1 GROUP BY 1',
	'SELECT segment_id, count(*) FROM (SELECT *, row_number() OVER (PARTITION BY segment_id) AS r FROM @) w WHERE r <= 7 GROUP BY 1',
	'SELECT schedule, count(*) FROM (SELECT *, rank() OVER (PARTITION BY schedule ORDER BY segment_created_date) AS r FROM @) w WHERE r = 1 GROUP BY 1',
	'SELECT segment_id, count(*) FROM (SELECT *, rank() OVER (PARTITION BY segment_id ORDER BY instance_created_date::date DESC NULLS LAST) AS r FROM @ WHERE segment_id IN (''segment1'', ''segment3'')) w WHERE r = 1 GROUP BY 1',
	'SELECT segment_id, count(*) FROM (SELECT DISTINCT segment_id, customer_identity, rank() OVER (PARTITION BY segment_id ORDER BY instance_created_date DESC) AS r FROM @) w WHERE r = 1 GROUP BY 1',
	'SELECT o.s, w.n FROM outer_rows o LEFT JOIN (SELECT segment_id, customer_identity || num_of_orders AS n, rank() OVER (PARTITION BY segment_id ORDER BY instance_created_date DESC) AS r FROM @) w ON w.segment_id = o.s AND w.r = 1 AND o.c = w.n',
	-- what needs the other rows as well
	'SELECT segment_id, r, n, count(*) FROM (SELECT segment_id, rank() OVER w AS r, count(*) OVER (PARTITION BY segment_id) AS n FROM @ WINDOW w AS (PARTITION BY segment_id ORDER BY instance_created_date DESC)) w WHERE r = 1 GROUP BY 1, 2, 3',
	'SELECT segment_id, r, n FROM (SELECT segment_id, row_number() OVER w AS r, lead(instance_created_date) OVER w AS n FROM @ WINDOW w AS (PARTITION BY segment_id ORDER BY instance_created_date DESC)) w WHERE r = 1',
	'SELECT segment_id, count(*) FROM (SELECT segment_id, rank() OVER w AS r, max(segment_instance_id) OVER w AS n FROM @ WINDOW w AS (PARTITION BY segment_id ORDER BY instance_created_date DESC RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)) w WHERE r = 1 GROUP BY 1',
	'SELECT segment_id, r, q, count(*) FROM (SELECT segment_id, rank() OVER (PARTITION BY segment_id ORDER BY instance_created_date DESC) AS r, rank() OVER (PARTITION BY segment_id ORDER BY instance_created_date) AS q FROM @) w WHERE r = 1 GROUP BY 1, 2, 3',
	'SELECT segment_id, r, count(*) FROM (SELECT *, rank() OVER (PARTITION BY segment_id ORDER BY instance_created_date DESC) AS r FROM @) w WHERE r = 2101 OR r = 1 GROUP BY 1, 2',
	'SELECT segment_id, count(*) FROM (SELECT *, max(instance_created_date) OVER (PARTITION BY segment_id) AS m FROM @) w WHERE instance_created_date = m GROUP BY 1',
	'SELECT segment_id, count(*) FROM (SELECT *, rank() OVER (PARTITION BY segment_id ORDER BY instance_created_date DESC) AS r FROM @) w WHERE r > 1 GROUP BY 1',
	'SELECT count(*) FROM (SELECT a.*, rank() OVER (PARTITION BY a.segment_id ORDER BY a.instance_created_date DESC) AS r FROM @ a JOIN outer_rows ON a.instance_created_date < d) w WHERE r = 1',
	'SELECT count(*) FROM (SELECT *, rank() OVER (PARTITION BY segment_id ORDER BY instance_created_date DESC) AS r FROM @ WHERE customer_identity NOT IN (SELECT c FROM outer_rows WHERE c IS NOT NULL)) w WHERE r = 1',
	'SELECT segment_id, n FROM (SELECT segment_id, count(*) AS n, rank() OVER (ORDER BY segment_id DESC) AS r FROM @ GROUP BY 1) w WHERE r <= 2',
	-- the order itself
	'SELECT array_agg(x) FROM (SELECT instance_created_date::date AS x FROM @ WHERE segment_id = ''segment1'' ORDER BY instance_created_date DESC LIMIT 100) s',
	'SELECT array_agg(x) FROM (SELECT segment_id || schedule AS x FROM @ ORDER BY schedule NULLS FIRST, segment_id DESC LIMIT 70 OFFSET 40) s',
	'SELECT md5(string_agg(x, '','')) FROM (SELECT segment_instance_id || customer_identity AS x FROM @ ORDER BY segment_id DESC, instance_created_date, segment_instance_id DESC, customer_identity) s',
	'SELECT s, (SELECT segment_instance_id FROM @ WHERE segment_id = s AND instance_created_date < d ORDER BY instance_created_date DESC, segment_instance_id LIMIT 1) FROM outer_rows',
	'SELECT s, c, (SELECT segment_instance_id FROM @ WHERE customer_identity = c AND segment_id = s ORDER BY instance_created_date DESC, segment_instance_id LIMIT 1) FROM outer_rows',
	'SELECT c, l.* FROM outer_rows, LATERAL (SELECT segment_instance_id, total_revenue FROM @ WHERE customer_identity = c ORDER BY instance_created_date DESC, segment_instance_id LIMIT 3) l',
	'SELECT c, l.* FROM outer_rows, LATERAL (SELECT segment_instance_id FROM @ WHERE segment_id <> s ORDER BY instance_created_date, segment_instance_id LIMIT 3) l',
	'SELECT min(instance_created_date), max(instance_created_date), max(segment_instance_id) FROM @ WHERE customer_identity = ''customer5''',
	'SELECT s, (SELECT max(instance_created_date) FROM @ WHERE segment_id = s AND customer_identity LIKE ''%7'') FROM outer_rows',
	'SELECT count(*), count(segment_id), count(schedule) FROM (SELECT * FROM @ ORDER BY segment_instance_id OFFSET 0) s',
	'SELECT array_agg(tableoid::regclass::text = ''x'') FROM (SELECT tableoid FROM @ ORDER BY segment_instance_id LIMIT 3) s',
	'SELECT instance_created_date, count(*) FROM @ WHERE ctid IN (SELECT ctid FROM @ ORDER BY instance_created_date DESC FETCH FIRST ROW WITH TIES) GROUP BY 1',
	-- an order by parameters, and instances that are chosen late, since no customer was found at first
	'SELECT s, (SELECT segment_instance_id FROM @ ORDER BY segment_id = s DESC, segment_instance_id LIMIT 1) FROM outer_rows',
	'SELECT s, l.* FROM outer_rows, LATERAL (SELECT DISTINCT ON (segment_id = s) segment_id = s AS here, segment_instance_id FROM @ ORDER BY segment_id = s, segment_instance_id DESC) l',
	'SELECT c, (SELECT segment_instance_id FROM @ WHERE customer_identity = c ORDER BY segment_instance_id LIMIT 1) FROM unnest(ARRAY[''nobody'', ''customer3'', NULL, ''customer4'']) c'
	]) WITH ORDINALITY AS x(q, n) ORDER BY n
$$;
SELECT * FROM ordered();
SET enable_sort = off;
SET enable_incremental_sort = off;
SET enable_hashagg = off;
SELECT n FROM ordered() WHERE result LIKE 'DIFFERENT%' OR result LIKE 'error%';
RESET enable_sort;
RESET enable_incremental_sort;
RESET enable_hashagg;
SET customer_segmentation.enable_aggregate = off;
SELECT n FROM ordered() WHERE result LIKE 'DIFFERENT%' OR result LIKE 'error%';
RESET customer_segmentation.enable_aggregate;
SET customer_segmentation.enable_custom_scan = off;
SELECT n FROM ordered() WHERE result LIKE 'DIFFERENT%' OR result LIKE 'error%';
RESET customer_segmentation.enable_custom_scan;
-- Nothing kept of cells.
SET customer_segmentation.cell_cache = 0;
SELECT n FROM ordered() WHERE result LIKE 'DIFFERENT%' OR result LIKE 'error%';
RESET customer_segmentation.cell_cache;

-- Values that are known when it runs.
PREPARE first_of(timestamp, text) AS SELECT DISTINCT ON (segment_id) segment_id, instance_created_date FROM t WHERE instance_created_date < $1 AND segment_id <> $2 ORDER BY segment_id, instance_created_date DESC;
SET plan_cache_mode = force_generic_plan;
EXECUTE first_of('2025-02-01', 'segment3');
EXECUTE first_of('2024-01-01', 'segment3');
PREPARE ranks(bigint) AS SELECT segment_id, r, count(*) FROM (SELECT *, dense_rank() OVER (PARTITION BY segment_id ORDER BY instance_created_date DESC) AS r FROM t WHERE segment_id < 'segment3') w WHERE r <= $1 GROUP BY 1, 2 ORDER BY 1, 2;
EXECUTE ranks(2);
RESET plan_cache_mode;
EXECUTE ranks(2);
DEALLOCATE ALL;

-- Cursors, back and forth.
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT DISTINCT ON (segment_id) segment_id, instance_created_date FROM t ORDER BY segment_id, instance_created_date DESC;
FETCH 3 FROM c;
FETCH BACKWARD 2 FROM c;
FETCH LAST FROM c;
DECLARE d SCROLL CURSOR FOR SELECT segment_instance_id FROM t WHERE segment_id = 'segment2' ORDER BY instance_created_date DESC, segment_instance_id;
FETCH 2 FROM d;
MOVE FORWARD ALL FROM d;
FETCH BACKWARD 1 FROM d;
FETCH FIRST FROM d;
COMMIT;

-- What has a side effect is evaluated for every row; what may fail, for rows that pass.
CREATE SEQUENCE calls;
SELECT count(*) FROM (SELECT DISTINCT ON (segment_id) segment_id, nextval('calls') FROM t WHERE segment_id > 'segment3' ORDER BY segment_id, instance_created_date DESC) x;
SELECT last_value FROM calls;
-- As often as for a plain table, which counts with a sequence; where a plain table with an index on the date would stop
-- early, so does this one: ORDER BY with LIMIT, max().
CREATE FUNCTION called(x text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
	PERFORM nextval('calls');
	RETURN x;
END $$;
CREATE FUNCTION calls_of(query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	row_of record;
BEGIN
	PERFORM setval('calls', 1);
	FOR row_of IN EXECUTE query LOOP END LOOP;
	RETURN (SELECT last_value - 1 FROM calls);
END $$;
SELECT count(*), count(*) FILTER (WHERE ours = heap AND heap > 0) AS alike, string_agg(q, '; ') FILTER (WHERE ours <> heap) AS others
FROM (SELECT q, calls_of(replace(q, '@', 't')) AS ours, calls_of(replace(q, '@', 't_twin')) AS heap FROM unnest(ARRAY[
	'SELECT DISTINCT ON (segment_id) segment_id, called(segment_name) FROM @ ORDER BY segment_id, instance_created_date DESC',
	'SELECT DISTINCT ON (segment_id) segment_id FROM @ WHERE called(segment_id) IS NOT NULL ORDER BY segment_id, instance_created_date DESC',
	'SELECT DISTINCT ON (segment_id) segment_id, (SELECT called(segment_id)) FROM @ ORDER BY segment_id, instance_created_date DESC',
	'SELECT DISTINCT ON (segment_id) segment_id, v FROM (SELECT segment_id, instance_created_date, called(segment_id) AS v FROM @ OFFSET 0) s ORDER BY segment_id, instance_created_date DESC',
	'SELECT * FROM (SELECT *, rank() OVER (PARTITION BY segment_id ORDER BY instance_created_date DESC) r FROM @ WHERE called(segment_id) <> '''') w WHERE r = 1',
	'SELECT * FROM (SELECT *, called(segment_id), rank() OVER (PARTITION BY segment_id ORDER BY instance_created_date DESC) r FROM @) w WHERE r = 1',
	'SELECT * FROM (SELECT segment_id, (SELECT called(segment_id)), row_number() OVER (PARTITION BY segment_id ORDER BY instance_created_date DESC) r FROM @) w WHERE r <= 2',
	'SELECT called(segment_id) FROM @ ORDER BY instance_created_date DESC LIMIT 3',
	'SELECT segment_id FROM @ WHERE called(segment_id) <> '''' ORDER BY instance_created_date DESC LIMIT 3',
	'SELECT max(instance_created_date) FROM @ WHERE called(segment_id) <> ''''',
	'SELECT count(*) FROM @ WHERE called(segment_id) = ''segment1''',
	'SELECT count(*) FROM @ WHERE segment_id = called(''segment1'')',
	'SELECT count(called(segment_id)) FROM @',
	'SELECT count(*) FILTER (WHERE called(segment_id) = ''x'') FROM @',
	'SELECT called(segment_id), count(*) FROM @ GROUP BY 1',
	'SELECT segment_id FROM @ GROUP BY segment_id HAVING called(segment_id) <> ''''',
	'SELECT segment_id, count(*) FROM @ GROUP BY 1 ORDER BY called(segment_id)',
	'SELECT DISTINCT segment_id, instance_created_date FROM @ WHERE called(segment_id) <> ''''',
	'SELECT * FROM @ WHERE segment_instance_id = called(''segment1_3'')',
	'SELECT * FROM @ WHERE customer_identity = called(''customer3'')',
	'SELECT * FROM @ WHERE segment_id = ''segment1'' AND called(segment_name) <> ''''',
	'SELECT x.* FROM (SELECT DISTINCT segment_id FROM @) s, LATERAL (SELECT called(segment_id) FROM @ n WHERE n.segment_id = s.segment_id ORDER BY instance_created_date DESC LIMIT 1) x'
	]) q) c;
DROP FUNCTION called(text), calls_of(text);
SELECT twin('SELECT DISTINCT ON (segment_id) segment_id FROM @ WHERE segment_id = ''segment5'' AND num_of_orders IS NULL ORDER BY segment_id, 1 / (length(segment_id) - 8)');
SELECT twin('SELECT DISTINCT ON (1 / (length(segment_instance_id) - 10)) segment_id FROM @ WHERE num_of_orders > 100000 ORDER BY 1 / (length(segment_instance_id) - 10)');

-- Row security: an order tells nothing of instances that are hidden.
CREATE ROLE regress_newest_reader;
GRANT SELECT ON t, t_twin TO regress_newest_reader;
SELECT on_both('ALTER TABLE @ ENABLE ROW LEVEL SECURITY') \gexec
SELECT on_both($$CREATE POLICY own ON @ USING (segment_id < 'segment3' AND num_of_orders > 8)$$) \gexec
CREATE FUNCTION tell(value text) RETURNS text LANGUAGE plpgsql IMMUTABLE COST 1 AS $$ BEGIN RAISE NOTICE 'sees %', value; RETURN value; END $$;
SET ROLE regress_newest_reader;
SELECT twin('SELECT DISTINCT ON (segment_id) segment_id, instance_created_date FROM @ ORDER BY segment_id, instance_created_date');
SELECT twin('SELECT segment_id, count(*) FROM (SELECT *, rank() OVER (PARTITION BY segment_id ORDER BY instance_created_date) AS r FROM @) w WHERE r = 1 GROUP BY 1');
SELECT DISTINCT ON (tell(segment_id)) segment_id FROM t WHERE instance_created_date < '2025-01-01' ORDER BY tell(segment_id), instance_created_date DESC;
EXPLAIN (COSTS OFF) SELECT DISTINCT ON (tell(segment_id)) segment_id FROM t ORDER BY tell(segment_id), instance_created_date DESC;
RESET ROLE;
SELECT on_both('DROP POLICY own ON @') \gexec
SELECT on_both('ALTER TABLE @ DISABLE ROW LEVEL SECURITY') \gexec

-- Rows that the transaction itself has changed; a snapshot from before.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT on_both($$DELETE FROM @ WHERE segment_instance_id LIKE 'segment1_70%' AND customer_identity < 'customer5'$$) \gexec
SELECT on_both($$DELETE FROM @ WHERE segment_instance_id = 'segment3_70'$$) \gexec
SELECT on_both($$UPDATE @ SET instance_created_date = '2026-02-02' WHERE segment_instance_id = 'segment4_2' AND num_of_orders > 3$$) \gexec
SELECT n FROM ordered() WHERE result LIKE 'DIFFERENT%' OR result LIKE 'error%';
SELECT n FROM sub_selects() WHERE result LIKE 'DIFFERENT%';
SELECT twin('SELECT DISTINCT ON (segment_id) segment_id, instance_created_date FROM @ ORDER BY segment_id, instance_created_date DESC');
ROLLBACK;

-- What is changed or locked by what an order finds.
BEGIN;
SELECT on_both($$UPDATE @ SET num_of_orders = 77 WHERE (segment_instance_id, customer_identity) IN (SELECT segment_instance_id, customer_identity FROM @ ORDER BY instance_created_date DESC, segment_instance_id, customer_identity LIMIT 3)$$) \gexec
SELECT on_both($$DELETE FROM @ WHERE segment_instance_id = ANY (SELECT DISTINCT ON (segment_id) segment_instance_id FROM @ ORDER BY segment_id, instance_created_date DESC, segment_instance_id)$$) \gexec
SELECT * FROM compare_twin();
SELECT customer_identity, segment_instance_id FROM t WHERE segment_id = 'segment2' AND customer_identity = 'customer3' ORDER BY instance_created_date DESC LIMIT 2 FOR UPDATE;
ROLLBACK;

-- Partitions: an order is that of each, the newest of all is nobody's own.
CREATE TABLE p (LIKE customer_segmentation_table) PARTITION BY LIST (segment_name);
CREATE TABLE p1 PARTITION OF p FOR VALUES IN ('Segment 1', 'Segment 2') USING customer_segmentation;
CREATE TABLE p2 PARTITION OF p DEFAULT USING customer_segmentation;
INSERT INTO p SELECT * FROM t;
ALTER TABLE t_twin RENAME TO p_twin;
SELECT twin('SELECT DISTINCT ON (schedule) schedule, instance_created_date FROM @ ORDER BY schedule, instance_created_date DESC', 'p');
SELECT twin('SELECT count(*), min(segment_id), max(segment_id) FROM (SELECT *, rank() OVER (ORDER BY instance_created_date DESC) AS r FROM @) w WHERE r = 1', 'p');
SELECT twin('SELECT array_agg(x) FROM (SELECT instance_created_date::date AS x FROM @ ORDER BY instance_created_date DESC LIMIT 100) s', 'p');
DROP TABLE p;
ALTER TABLE p_twin RENAME TO t_twin;
REVOKE ALL ON t, t_twin FROM regress_newest_reader;
DROP ROLE regress_newest_reader;
DROP SEQUENCE calls;

DROP TABLE t, t_twin, outer_rows;
DROP FUNCTION run_plan_of(text), sub_selects(), ordered(), add_instance(int), tell(text);

-- A BI tool shows what its columns are, as those of the table.
SELECT count(*) FILTER (WHERE col_description(v.attrelid, v.attnum) = col_description(t.attrelid, t.attnum)) AS described, count(*)
FROM pg_attribute AS t LEFT JOIN pg_attribute AS v ON v.attrelid = 'customer_segmentation_latest'::regclass AND v.attname = t.attname
WHERE t.attrelid = 'customer_segmentation_table'::regclass AND t.attnum > 0;
