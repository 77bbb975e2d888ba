-- The answers: who may ask, what is refused and how, and which rows count.
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, MDY';
SET IntervalStyle = 'postgres';
CREATE TABLE t (LIKE customer_segmentation_table) USING customer_segmentation;
INSERT INTO t SELECT * FROM sample_rows(2, 4, 30);
CREATE TABLE other (LIKE customer_segmentation_table) USING heap;
CREATE TABLE parent (LIKE customer_segmentation_table) PARTITION BY LIST (segment_id);

-- Every question at once.
CREATE FUNCTION ask(name text) RETURNS TABLE (question text, answer text) LANGUAGE sql AS $$
	SELECT q, coalesce(nullif(e, 'no error'), 'answered') FROM (VALUES
		('changes', $q$SELECT count(*) FROM customer_segmentation.segment_changes('segment1_1', 'segment1_4', '@')$q$),
		('dynamics', $q$SELECT count(*) FROM customer_segmentation.segment_dynamics('segment1', '2 days', '@')$q$),
		('overlap', $q$SELECT count(*) FROM customer_segmentation.segment_overlap(relation => '@')$q$),
		('transitions', $q$SELECT count(*) FROM customer_segmentation.segment_transitions('2025-01-02', '2025-01-05', '@')$q$),
		('history', $q$SELECT count(*) FROM customer_segmentation.customer_history('customer1', '@')$q$),
		('as of', $q$SELECT customer_segmentation.instance_as_of('segment1', '2025-01-03', '@')$q$)) AS v(q, s)
	CROSS JOIN LATERAL error_of(replace(s, '@', name)) e
$$;
SELECT * FROM ask('t');
SELECT * FROM ask('other');
SELECT * FROM ask('parent');
SELECT * FROM ask('pg_class') LIMIT 1;

-- The extension's own table is what is meant where none is named.
SELECT count(*) FROM customer_segmentation.segment_overlap();
SELECT error_of($$SELECT customer_segmentation.segment_changes('segment1_1', 'segment1_4')$$);
INSERT INTO customer_segmentation_table SELECT * FROM t;
SELECT change, count(*) FROM customer_segmentation.segment_changes('segment1_1', 'segment1_4') GROUP BY 1 ORDER BY 1;
SELECT segment_a, segment_b, customers_a, customers_b, customers_both, round(jaccard::numeric, 3) AS jaccard FROM customer_segmentation.segment_overlap() ORDER BY 1, 2;
DELETE FROM customer_segmentation_table;
SELECT count(*) FROM customer_segmentation.segment_overlap();

-- What there is not.
SELECT error_of($$SELECT customer_segmentation.segment_changes('segment1_1', 'segment1_9', 't')$$);
SELECT error_of($$SELECT customer_segmentation.segment_dynamics('segment9', relation => 't')$$);
SELECT error_of($$SELECT customer_segmentation.instance_as_of('segment9', now(), 't')$$);
SELECT error_of($$SELECT customer_segmentation.segment_dynamics('segment1', '-1 day', 't')$$);
SELECT error_of($$SELECT customer_segmentation.segment_transitions('2025-01-02', '2025-01-01', 't')$$);
SELECT error_of($$SELECT customer_segmentation.segment_overlap(relation => 0)$$);
SELECT count(*) FROM customer_segmentation.customer_history('nobody', 't');
SELECT customer_segmentation.instance_as_of('segment1', '2024-12-31', 't') IS NULL AS none_yet;
-- NULL asks nothing.
SELECT count(*) FROM customer_segmentation.segment_changes(NULL, 'segment1_1', 't');
SELECT count(*) FROM customer_segmentation.segment_overlap(relation => NULL);
SELECT customer_segmentation.instance_as_of('segment1', NULL, 't') IS NULL AS unknown;
-- A segment that is defined and has not run yet is no error.
SELECT customer_segmentation.create_segment('Not yet', 'SELECT 1::text', segment_id => '64b8f144256b30501b2ea1e0', relation => 't');
SELECT count(*) FROM customer_segmentation.segment_dynamics('64b8f144256b30501b2ea1e0', relation => 't');
SELECT customer_segmentation.instance_as_of('64b8f144256b30501b2ea1e0', now(), 't') IS NULL AS none;
SELECT customer_segmentation.drop_segment('64b8f144256b30501b2ea1e0');

-- Which rows: those that a query would see.
BEGIN;
INSERT INTO t SELECT 'late' || c, '2025-01-06', 'once_a_day', 'customer_id', '2023-07-20 08:33:08', 'segment1', 'segment1_5', 'Segment 1', 1, 1, 1
FROM generate_series(1, 5) c;
SELECT change, count(*) FROM customer_segmentation.segment_changes('segment1_4', 'segment1_5', 't') GROUP BY 1 ORDER BY 1;
SAVEPOINT s;
DELETE FROM t WHERE segment_instance_id = 'segment1_5' AND customer_identity < 'late3';
DELETE FROM t WHERE segment_instance_id = 'segment1_4';
SELECT segment_instance_id, num_of_customers, base_instance_id, members_added, members_removed
FROM customer_segmentation.segment_dynamics('segment1', '2 days', 't') ORDER BY 2;
ROLLBACK TO s;
SELECT segment_instance_id, num_of_customers, base_instance_id, members_added, members_removed
FROM customer_segmentation.segment_dynamics('segment1', '2 days', 't') ORDER BY 1;
ROLLBACK;
SELECT customer_segmentation.instance_as_of('segment1', 'infinity', 't');
-- A statement does not see what it changes itself.
WITH gone AS (DELETE FROM t WHERE segment_id = 'segment2' RETURNING 1)
SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM customer_segmentation.segment_dynamics('segment2', relation => 't'));
SELECT DISTINCT segment_a FROM customer_segmentation.segment_overlap(relation => 't');
BEGIN;
DECLARE c CURSOR FOR SELECT count(*) FROM customer_segmentation.segment_dynamics('segment1', '1 day', 't');
DELETE FROM t;
FETCH c;
ROLLBACK;
INSERT INTO t SELECT * FROM sample_rows(2, 4, 30) WHERE segment_id = 'segment2';

-- Who: privileges on the columns that the answer is made of, or on the table; no row security for the caller.
CREATE ROLE regress_analyst;
GRANT EXECUTE ON FUNCTION error_of TO regress_analyst;
SET ROLE regress_analyst;
SELECT * FROM ask('t');
RESET ROLE;
GRANT SELECT (customer_identity, segment_instance_id) ON t TO regress_analyst;
SET ROLE regress_analyst;
SELECT question, left(answer, 5) AS answer FROM ask('t');
RESET ROLE;
GRANT SELECT (instance_created_date, segment_id) ON t TO regress_analyst;
SET ROLE regress_analyst;
SELECT question, left(answer, 5) AS answer FROM ask('t');
RESET ROLE;
GRANT SELECT (segment_name, num_of_orders, total_revenue) ON t TO regress_analyst;
SET ROLE regress_analyst;
SELECT question, left(answer, 5) AS answer FROM ask('t');
RESET ROLE;
GRANT SELECT ON t TO regress_analyst;
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
CREATE POLICY half ON t USING (segment_id = 'segment1');
SET ROLE regress_analyst;
SELECT * FROM ask('t');
RESET ROLE;
SELECT question, answer FROM ask('t');
ALTER TABLE t FORCE ROW LEVEL SECURITY;
ALTER TABLE t OWNER TO regress_analyst;
SET ROLE regress_analyst;
SELECT question, left(answer, 5) AS answer FROM ask('t');
RESET ROLE;
ALTER TABLE t NO FORCE ROW LEVEL SECURITY;
SET ROLE regress_analyst;
SELECT question, left(answer, 5) AS answer FROM ask('t');
RESET ROLE;
-- A changed search path changes nothing.
CREATE SCHEMA elsewhere;
CREATE FUNCTION elsewhere.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT NULL::timestamptz';
SET search_path = elsewhere;
SELECT customer_segmentation.instance_as_of('segment1', '2025-01-03 12:00', 'public.t');
RESET search_path;
SELECT proname, provolatile, proparallel, proisstrict, proconfig FROM pg_proc
WHERE pronamespace = 'customer_segmentation'::regnamespace
  AND proname IN ('segment_changes', 'segment_dynamics', 'segment_overlap', 'segment_transitions', 'customer_history', 'instance_as_of')
ORDER BY 1;
DROP TABLE t, other, parent;
DROP FUNCTION elsewhere.now, ask;
DROP SCHEMA elsewhere;
REVOKE ALL ON FUNCTION error_of FROM regress_analyst;
DROP ROLE regress_analyst;
RESET TimeZone;
RESET DateStyle;
RESET IntervalStyle;
