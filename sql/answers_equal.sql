-- The answers equal plain SQL on a heap table with the same rows: gaps, missing days, instances that lost all their
-- rows, NULL measures, several groups of a segment, renamed segments, instances whose rows differ in name or date.
SET TimeZone = 'America/New_York';
SET DateStyle = 'ISO, MDY';
SET IntervalStyle = 'postgres';
SET customer_segmentation.as_of = '2025-06-01 12:00+00';

-- A hash of numbers, from 0 to below n; the seed of the data.
CREATE FUNCTION draw(n int, VARIADIC of int[]) RETURNS int LANGUAGE sql IMMUTABLE AS $$
	SELECT (('x' || substr(md5('20250825 ' || of::text), 1, 7))::bit(28)::int % n)
$$;

CREATE FUNCTION sid(n int) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT '64b8f144256b30501b2ea1e' || n $$;
-- Segment, how many hours between instances, how many instances, how many customers are drawn.
CREATE TABLE history_of (segment int, hours int, instances int, customers int, share int) USING heap;
INSERT INTO history_of VALUES
	(1, 24, 70, 120, 50),  -- daily, two groups
	(2, 48, 40, 60, 30),
	(3, 6, 150, 50, 60),   -- hourly, three groups
	(4, 168, 12, 200, 5),  -- weekly and small
	(5, 24, 70, 30, 95),   -- nearly all
	(6, 24, 3, 34000, 30); -- more than one container
CREATE FUNCTION answer_rows() RETURNS SETOF customer_segmentation_table LANGUAGE sql AS $$
	SELECT CASE WHEN h.segment % 2 = 0 THEN 'c' || c || '@example.com' ELSE (5209503700000 + c * 7)::text END,
		   timestamp '2025-01-01 11:08:39' + i * h.hours * interval '1 hour'
			 + CASE WHEN draw(15, h.segment, i, 3) = 0 AND c % 2 = 0 THEN interval '90 minutes' ELSE interval '0' END,
		   CASE WHEN h.segment = 4 THEN NULL WHEN i < h.instances / 2 THEN 'once_a_day' ELSE 'once_every_other_day' END,
		   CASE WHEN h.segment % 2 = 0 THEN 'email' ELSE 'customer_id' END,
		   timestamp '2023-07-20 08:33:08', sid(h.segment),
		   sid(h.segment) || to_char(timestamp '2025-01-01' + i * h.hours * interval '1 hour', '_YYYY_MM_DD_HH24'),
		   CASE WHEN draw(9, h.segment, i, 2) = 0 AND c % 3 = 0 THEN 'odd' WHEN h.segment = 2 AND i > 25 THEN NULL
				ELSE 'Segment ' || h.segment || CASE WHEN i > h.instances / 3 THEN ' renamed' ELSE '' END END,
		   1,
		   CASE WHEN draw(10, h.segment, c, i / 9) > 0 THEN draw(7, h.segment, c) + i / 10 END,
		   CASE WHEN draw(12, c, i / 20) > 0 THEN draw(9000, c, i / 5)::numeric / 100 END
	FROM history_of h, generate_series(1, h.instances) i, generate_series(1, h.customers) c
	WHERE (draw(100, h.segment, c) + i / 3 * 5) % 100 < h.share  -- comes and stays for a while
	  AND draw(20, h.segment, c, i) > 0                           -- and is away now and then
	  AND draw(8, h.segment, i) > 0                               -- days without a run
$$;
SELECT make_twins('a');
SELECT on_both('INSERT INTO @ SELECT * FROM answer_rows()', 'a') \gexec
-- Instances that lost all rows; one whose members are all others than before.
SELECT on_both($$DELETE FROM @ WHERE segment_instance_id IN ('64b8f144256b30501b2ea1e1_2025_01_20_00', '64b8f144256b30501b2ea1e2_2025_01_15_00', '64b8f144256b30501b2ea1e3_2025_01_10_12')$$, 'a') \gexec
SELECT on_both($$UPDATE @ SET customer_identity = 'new' || customer_identity WHERE segment_instance_id = '64b8f144256b30501b2ea1e1_2025_02_20_00'$$, 'a') \gexec
ANALYZE a_twin;
SELECT * FROM compare_twin('a');
SELECT segment_id, count(DISTINCT segment_instance_id) AS instances, count(DISTINCT segment_name) AS names, count(*) AS rows,
	   count(*) FILTER (WHERE total_revenue IS NULL) AS nulls
FROM a_twin GROUP BY 1 ORDER BY 1;

-- The same in plain SQL.
CREATE TABLE twin_instance USING heap AS
SELECT segment_id, segment_instance_id AS id, max(instance_created_date) AS date FROM a_twin GROUP BY 1, 2;
ANALYZE twin_instance;
CREATE INDEX ON a_twin (customer_identity);
CREATE VIEW twin_zone AS SELECT segment_id, coalesce(
	(SELECT time_zone FROM customer_segmentation.segments s WHERE s.segment_id = i.segment_id AND s.relation = 'a'::regclass),
	current_setting('TimeZone')) AS zone
FROM (SELECT DISTINCT segment_id FROM a_twin) i;

CREATE FUNCTION twin_changes(from_id text, to_id text) RETURNS TABLE (customer_identity text, change text) LANGUAGE sql AS $$
	(SELECT customer_identity, 'entered' FROM a_twin WHERE segment_instance_id = to_id
	 EXCEPT SELECT customer_identity, 'entered' FROM a_twin WHERE segment_instance_id = from_id)
	UNION ALL
	(SELECT customer_identity, 'left' FROM a_twin WHERE segment_instance_id = from_id
	 EXCEPT SELECT customer_identity, 'left' FROM a_twin WHERE segment_instance_id = to_id)
$$;

CREATE FUNCTION twin_as_of(of text, at timestamptz) RETURNS text LANGUAGE sql AS $$
	SELECT i.id FROM twin_instance i JOIN twin_zone z USING (segment_id)
	WHERE i.segment_id = of AND i.date <= at AT TIME ZONE z.zone ORDER BY i.date DESC, i.id COLLATE "C" DESC LIMIT 1
$$;

CREATE FUNCTION twin_dynamics(of text, span interval) RETURNS TABLE (segment_instance_id text, instance_created_date timestamp,
	base_instance_id text, base_created_date timestamp, num_of_customers bigint, members_added bigint, members_removed bigint,
	net_members_changed bigint, growth float8, attrition float8, persistence float8, continuous_persistence float8,
	loyalty float8, volatility float8, jaccard float8) LANGUAGE sql SET enable_nestloop = off AS $$
	WITH i AS MATERIALIZED (SELECT id, date, row_number() OVER (ORDER BY date, id COLLATE "C") AS n
							FROM twin_instance WHERE segment_id = of),
	r AS (SELECT i.n, a.customer_identity AS c, i.n - row_number() OVER (PARTITION BY a.customer_identity ORDER BY i.n) AS spell
		  FROM a_twin a JOIN i ON i.id = a.segment_instance_id),
	m AS MATERIALIZED (SELECT n, c, min(n) OVER (PARTITION BY c, spell) AS since FROM r),
	size AS MATERIALIZED (SELECT n, count(DISTINCT c) AS size FROM m GROUP BY 1),
	w AS MATERIALIZED (SELECT e.n, (SELECT max(b.n) FROM i b WHERE b.date <= e.date - span AND b.n <= e.n) AS base FROM i e),
	stay AS (SELECT w.n, count(*) AS kept, count(*) FILTER (WHERE e.since <= w.base) AS loyal
			 FROM w JOIN m b ON b.n = w.base JOIN m e ON e.n = w.n AND e.c = b.c GROUP BY 1),
	t AS (SELECT w.n, w.base, e.size AS e, b.size AS b,
				 CASE WHEN w.base IS NOT NULL THEN coalesce(s.kept, 0) END AS k, coalesce(s.loyal, 0) AS l
		  FROM w JOIN size e ON e.n = w.n LEFT JOIN size b ON b.n = w.base LEFT JOIN stay s ON s.n = w.n)
	SELECT e.id, e.date, b.id, b.date, t.e, t.e - t.k, t.b - t.k, t.e - t.b, (t.e - t.b)::float8 / t.b, (t.b - t.k)::float8 / t.b,
		   t.k::float8 / t.b, CASE WHEN t.base IS NOT NULL THEN t.l::float8 / t.b END, t.k::float8 / t.e,
		   (t.e - t.k + t.b - t.k)::float8 / t.e, t.k::float8 / (t.e + t.b - t.k)
	FROM t JOIN i e ON e.n = t.n LEFT JOIN i b ON b.n = t.base
$$;

CREATE FUNCTION twin_members(at timestamptz) RETURNS TABLE (segment_id text, c text) LANGUAGE sql AS $$
	WITH newest AS MATERIALIZED (SELECT DISTINCT ON (i.segment_id) i.segment_id, i.id FROM twin_instance i JOIN twin_zone z USING (segment_id)
		WHERE at IS NULL OR i.date <= at AT TIME ZONE z.zone ORDER BY i.segment_id, i.date DESC, i.id COLLATE "C" DESC)
	SELECT n.segment_id, a.customer_identity FROM newest n JOIN a_twin a ON a.segment_instance_id = n.id
$$;

CREATE FUNCTION twin_overlap(at timestamptz) RETURNS TABLE (segment_a text, segment_b text, customers_a bigint, customers_b bigint,
	customers_both bigint, share_of_a float8, share_of_b float8, jaccard float8) LANGUAGE sql AS $$
	WITH m AS MATERIALIZED (SELECT * FROM twin_members(at)),
	size AS (SELECT segment_id, count(*) AS n FROM m GROUP BY 1),
	both_of AS (SELECT a.segment_id AS a, b.segment_id AS b, count(*) AS n FROM m a JOIN m b USING (c) GROUP BY 1, 2)
	SELECT a.segment_id, b.segment_id, a.n, b.n, coalesce(x.n, 0), coalesce(x.n, 0)::float8 / a.n, coalesce(x.n, 0)::float8 / b.n,
		   coalesce(x.n, 0)::float8 / (a.n + b.n - coalesce(x.n, 0))
	FROM size a CROSS JOIN size b LEFT JOIN both_of x ON x.a = a.segment_id AND x.b = b.segment_id
$$;

CREATE FUNCTION twin_transitions(at_start timestamptz, at_end timestamptz) RETURNS TABLE (from_segment text, to_segment text, customers bigint)
LANGUAGE sql AS $$
	SELECT s.segment_id, e.segment_id, count(*)
	FROM twin_members(at_start) s FULL JOIN twin_members(at_end) e USING (c) GROUP BY 1, 2
$$;

CREATE FUNCTION twin_history(who text) RETURNS TABLE (segment_id text, segment_name text, entered_at timestamp, left_at timestamp,
	instances bigint, first_instance_id text, last_instance_id text, num_of_orders bigint, total_revenue numeric) LANGUAGE sql AS $$
	WITH i AS (SELECT *, row_number() OVER w AS n, lead(date) OVER w AS next_date FROM twin_instance WINDOW w AS (PARTITION BY segment_id ORDER BY date, id COLLATE "C")),
	m AS (SELECT i.*, a.segment_name, a.num_of_orders, a.total_revenue,
				 i.n - row_number() OVER (PARTITION BY i.segment_id ORDER BY i.n) AS spell
		  FROM a_twin a JOIN i ON i.segment_id = a.segment_id AND i.id = a.segment_instance_id WHERE a.customer_identity = who),
	s AS (SELECT segment_id, min(n) AS first, max(n) AS last FROM m GROUP BY segment_id, spell)
	SELECT s.segment_id, l.segment_name, f.date, l.next_date, s.last - s.first + 1, f.id, l.id, l.num_of_orders, l.total_revenue
	FROM s JOIN m f ON f.segment_id = s.segment_id AND f.n = s.first JOIN m l ON l.segment_id = s.segment_id AND l.n = s.last
$$;

-- Rows of a function and of its twin, and rows that only one of the two has.
CREATE FUNCTION compare_answers(ours text, theirs text, OUT rows bigint, OUT differ bigint) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SELECT coalesce(sum(h), 0), coalesce(sum(abs(n)), 0) FROM (SELECT sum(side) AS n, count(*) FILTER (WHERE side > 0) AS h
		FROM (SELECT o::text AS r, 1 AS side FROM (%s) o UNION ALL SELECT t::text, -1 FROM (%s) t) x GROUP BY r) y', ours, theirs)
	INTO rows, differ;
END $$;
CREATE FUNCTION compare_all(ours text, theirs text, argument_lists text[], OUT calls bigint, OUT rows bigint, OUT differ bigint)
LANGUAGE sql AS $$
	SELECT count(*), sum(c.rows), sum(c.differ) FROM unnest(argument_lists) l
	CROSS JOIN LATERAL compare_answers(replace(ours, '@', l), replace(theirs, '@', l)) c
$$;

-- One segment's definition says what clock its dates are by; for the others it is the session's.
SELECT customer_segmentation.create_segment('Tokyo', 'SELECT 1::text', segment_id => '64b8f144256b30501b2ea1e3', time_zone => 'Asia/Tokyo', relation => 'a');

-- Who entered and who left: pairs of instances of a segment, and of different ones.
CREATE TABLE pair USING heap AS
SELECT x.id AS a, y.id AS b, x.segment_id = y.segment_id AS same
FROM (SELECT *, row_number() OVER (ORDER BY id COLLATE "C")::int AS n FROM twin_instance) x,
	 (SELECT *, row_number() OVER (ORDER BY id COLLATE "C")::int AS n FROM twin_instance) y
WHERE draw(700, x.n, y.n, 1) = 0;
SELECT count(*) > 50 AS many, count(*) FILTER (WHERE NOT same) > 20 AS of_two FROM pair;
SELECT calls > 50 AS calls, rows > 1000 AS rows, differ
FROM compare_all($$SELECT * FROM customer_segmentation.segment_changes(@, 'a')$$, $$SELECT * FROM twin_changes(@)$$,
				 ARRAY(SELECT format('%L, %L', a, b) FROM pair));
SELECT compare_all($$SELECT * FROM customer_segmentation.segment_changes(@, 'a')$$, $$SELECT * FROM twin_changes(@)$$,
				   ARRAY['$$64b8f144256b30501b2ea1e6_2025_01_03_00$$, $$64b8f144256b30501b2ea1e6_2025_01_04_00$$', '$$64b8f144256b30501b2ea1e6_2025_01_02_00$$, $$64b8f144256b30501b2ea1e1_2025_01_02_00$$', '$$64b8f144256b30501b2ea1e1_2025_02_20_00$$, $$64b8f144256b30501b2ea1e1_2025_02_20_00$$']);
SELECT segment_id, count(*) FROM twin_instance WHERE segment_id = '64b8f144256b30501b2ea1e6' GROUP BY 1;

-- Dynamics, with windows of no length, shorter than the distance of instances, months, and longer than the history.
SELECT span, s.rows, s.differ FROM unnest('{0 days,7 days,30 days,1 mon,1 mon -29 days,36:00,100 years}'::interval[]) WITH ORDINALITY AS u(span, o)
CROSS JOIN LATERAL (SELECT sum(c.rows) AS rows, sum(c.differ) AS differ FROM generate_series(1, 6) n
	CROSS JOIN LATERAL compare_answers(format('SELECT * FROM customer_segmentation.segment_dynamics(%L, %L, %L)', sid(n), span, 'a'),
									   format('SELECT * FROM twin_dynamics(%L, %L)', sid(n), span)) c) s ORDER BY o;
-- What no window has a base for is unknown, not 0.
SELECT count(*) AS rows, count(num_of_customers) AS customers, count(base_instance_id) AS base, count(members_added) AS added,
	   count(growth) AS growth, count(jaccard) AS jaccard
FROM customer_segmentation.segment_dynamics('64b8f144256b30501b2ea1e1', '100 years', 'a');
-- As long as an interval can be: from before the first date there is.
SELECT span, count(*) AS rows, count(base_instance_id) AS base
FROM unnest('{4000 years,10000 years,100000000 years}'::interval[]) span, customer_segmentation.segment_dynamics('64b8f144256b30501b2ea1e1', span, 'a')
GROUP BY 1 ORDER BY 1;
-- Nobody stayed: shares are 0.
SELECT segment_instance_id, base_instance_id, num_of_customers, members_added, members_removed, net_members_changed, persistence,
	   continuous_persistence, loyalty, jaccard
FROM customer_segmentation.segment_dynamics('64b8f144256b30501b2ea1e1', '1 day', 'a') WHERE segment_instance_id = '64b8f144256b30501b2ea1e1_2025_02_20_00';
SELECT segment_instance_id, base_instance_id, num_of_customers AS e, members_added AS added, members_removed AS removed,
	   round(growth::numeric, 4) AS growth, round(attrition::numeric, 4) AS attrition, round(continuous_persistence::numeric, 4) AS continuous
FROM customer_segmentation.segment_dynamics('64b8f144256b30501b2ea1e4', '21 days', 'a') ORDER BY instance_created_date;

-- Overlap, transitions, as of: before everything, between, at the very moment, after everything, by the segment's clock.
CREATE TABLE moment USING heap AS
SELECT at FROM unnest('{-infinity,2024-12-31 00:00+00,2025-01-02 02:08:38+00,2025-01-02 02:08:39+00,2025-01-02 16:08:39+00,
	2025-01-20 16:30:00+00,2025-02-20 00:00+00,2025-03-09 07:30:00+00,2025-04-01 00:00+00,infinity}'::timestamptz[]) at;
SELECT calls, rows, differ FROM compare_all($$SELECT * FROM customer_segmentation.segment_overlap(@, 'a')$$, $$SELECT * FROM twin_overlap(@)$$,
	ARRAY(SELECT format('%L', at) FROM moment UNION ALL VALUES ('NULL')));
SELECT calls, rows, differ FROM compare_all($$SELECT * FROM customer_segmentation.segment_transitions(@, 'a')$$, $$SELECT * FROM twin_transitions(@)$$,
	ARRAY(SELECT format('%L, %L', x.at, y.at) FROM moment x, moment y WHERE x.at <= y.at AND (isfinite(x.at) OR isfinite(y.at))));
SELECT calls, rows, differ FROM compare_all($$SELECT customer_segmentation.instance_as_of(@, 'a')$$, $$SELECT twin_as_of(@)$$,
	ARRAY(SELECT format('%L, %L', sid(n), at) FROM generate_series(1, 6) n, moment));
SELECT n, customer_segmentation.instance_as_of(sid(n), '2025-01-20 13:00+00', 'a') FROM generate_series(1, 6) n;
SELECT * FROM customer_segmentation.segment_transitions('2025-01-10', '2025-02-20', 'a') WHERE from_segment = '64b8f144256b30501b2ea1e4' OR to_segment = '64b8f144256b30501b2ea1e4' ORDER BY 1, 2;

-- Histories.
SELECT calls > 200 AS calls, rows > 1000 AS rows, differ FROM compare_all($$SELECT * FROM customer_segmentation.customer_history(@, 'a')$$, $$SELECT * FROM twin_history(@)$$,
	ARRAY(SELECT format('%L', c) FROM (SELECT DISTINCT customer_identity AS c FROM a_twin) x WHERE draw(300, hashtext(c) & 65535) = 0
		  UNION ALL SELECT format('%L', c) FROM (SELECT DISTINCT customer_identity AS c FROM a_twin WHERE segment_id IN ('64b8f144256b30501b2ea1e1', '64b8f144256b30501b2ea1e2', '64b8f144256b30501b2ea1e3', '64b8f144256b30501b2ea1e5')) x
		  UNION ALL VALUES ('$$nobody$$'), ('$$$$')));
SELECT * FROM customer_segmentation.customer_history('c7@example.com', 'a');
DROP FUNCTION compare_all, compare_answers, twin_changes, twin_dynamics, twin_overlap, twin_transitions, twin_history, twin_as_of, twin_members, answer_rows;
DROP VIEW twin_zone;
DROP TABLE twin_instance;
SELECT customer_segmentation.drop_segment('64b8f144256b30501b2ea1e3');
DROP TABLE a, a_twin, pair, moment, history_of;
DROP FUNCTION draw, sid;
RESET customer_segmentation.as_of;
RESET TimeZone;
RESET DateStyle;
RESET IntervalStyle;
