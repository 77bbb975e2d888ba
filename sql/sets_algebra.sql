-- customer_set: against plain SQL on the same rows.
SET datestyle = 'ISO, MDY';
CREATE TABLE sets_t (LIKE customer_segmentation_table) USING customer_segmentation;
INSERT INTO sets_t (customer_identity, instance_created_date, segment_id, segment_instance_id)
SELECT CASE WHEN c % 2 = 0 THEN (5209503790000 + c)::text ELSE 'user' || c || '@example.com' END, timestamp '2025-01-01' + d * interval '1 day',
	's' || s, 's' || s || '_' || d
FROM generate_series(1, 3) s, generate_series(1, 5) d, generate_series(1, 2000) c
WHERE (c * s + d * 7 + c / 13) % (s + 2) = 0;
-- Customers in several containers.
INSERT INTO sets_t (customer_identity, instance_created_date, segment_id, segment_instance_id)
SELECT 'many' || c, '2025-02-01', 'many', 'many_' || c % 3 FROM generate_series(1, 100000) c;
CREATE VIEW ids AS SELECT segment_instance_id AS i, customer_identity AS c FROM sets_t;

SELECT customer_segmentation.cardinality(customer_segmentation.members('s1_1', 'sets_t')) = count(*) AS same FROM ids WHERE i = 's1_1';
-- Every operator and its function, and the plain query.
CREATE FUNCTION m(text) RETURNS customer_segmentation.customer_set LANGUAGE sql STABLE AS $$ SELECT customer_segmentation.members($1, 'sets_t') $$;
CREATE FUNCTION differ(s customer_segmentation.customer_set, q text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
	EXECUTE format('SELECT count(*) FROM ((SELECT customer_segmentation.identities($1) EXCEPT ALL (%1$s)) UNION ALL ((%1$s) EXCEPT ALL SELECT customer_segmentation.identities($1))) d', q)
		INTO n USING s;
	RETURN n;
END $$;
SELECT differ(m('s1_1') & m('s2_3'), $$SELECT c FROM ids WHERE i = 's1_1' INTERSECT SELECT c FROM ids WHERE i = 's2_3'$$),
	differ(customer_segmentation.set_and(m('s1_1'), m('s2_3')), $$SELECT c FROM ids WHERE i = 's1_1' INTERSECT SELECT c FROM ids WHERE i = 's2_3'$$),
	differ(m('s1_1') | m('many_2'), $$SELECT c FROM ids WHERE i IN ('s1_1', 'many_2')$$),
	differ(customer_segmentation.set_or(m('s1_1'), m('s3_2')), $$SELECT c FROM ids WHERE i = 's1_1' UNION SELECT c FROM ids WHERE i = 's3_2'$$),
	differ(m('s1_1') - m('s1_2'), $$SELECT c FROM ids WHERE i = 's1_1' EXCEPT SELECT c FROM ids WHERE i = 's1_2'$$),
	differ(customer_segmentation.set_except(m('many_1'), m('s1_2')), $$SELECT c FROM ids WHERE i = 'many_1'$$),
	differ(m('s1_1') # m('s2_1'), $$(SELECT c FROM ids WHERE i = 's1_1' UNION SELECT c FROM ids WHERE i = 's2_1') EXCEPT (SELECT c FROM ids WHERE i = 's1_1' INTERSECT SELECT c FROM ids WHERE i = 's2_1')$$),
	differ(customer_segmentation.set_xor(m('s1_1'), m('s1_1')), $$SELECT ''::text WHERE false$$);
-- In A then, in B now, but not in C: one expression.
SELECT differ((m('s1_1') & m('s2_5')) - m('s3_5'),
	$$(SELECT c FROM ids WHERE i = 's1_1' INTERSECT SELECT c FROM ids WHERE i = 's2_5') EXCEPT SELECT c FROM ids WHERE i = 's3_5'$$);
SELECT m('s1_1') = m('s1_1') AS t, m('s1_1') = m('s1_2') AS f, m('s1_1') <> m('s1_2') AS t, m('s1_1') | m('s1_2') = m('s1_2') | m('s1_1') AS t,
	m('s1_1') | m('s1_2') @> m('s1_2') AS t, m('s1_1') @> m('s1_2') AS f, m('s1_2') <@ (m('s1_1') | m('s1_2')) AS t,
	m('s1_1') && m('s1_1') AS t, m('s1_1') && m('many_1') AS f, customer_segmentation.contains(m('s1_1'), m('s1_1') & m('s1_2')) AS t;
SELECT count(*) FILTER (WHERE m('s2_2') @> c) = count(*) AS all_in, count(*) > 0 AS some FROM ids WHERE i = 's2_2';
SELECT count(*) FILTER (WHERE customer_segmentation.contains(m('s2_2'), c)) AS none FROM ids WHERE i = 'many_1' AND c LIKE 'many99%';
SELECT m('s1_1') @> 'nobody'::text AS f, m('s1_1') @> ''::text AS f;
SELECT m('no such instance');
SELECT customer_segmentation.members('s1_1', 'ids');
-- Several instances at once: NULLs are passed by.
SELECT differ(customer_segmentation.members(ARRAY['s1_1', NULL, 'many_2', 's1_1', 's3_4'], 'sets_t'), $$SELECT DISTINCT c FROM ids WHERE i IN ('s1_1', 'many_2', 's3_4')$$),
	customer_segmentation.members(ARRAY['s1_1', 's1_2'], 'sets_t') = (m('s1_1') | m('s1_2')) AS t,
	customer_segmentation.members('{}'::text[], 'sets_t') = 'sets_t:{}' AS t, customer_segmentation.members(NULL::text[], 'sets_t') IS NULL AS t;
SELECT customer_segmentation.members(ARRAY['s1_1', 'no such instance'], 'sets_t');

-- Aggregates: also over nothing, with NULLs, as window functions, and in parallel.
CREATE TABLE stored AS SELECT i, m(i) AS s FROM (SELECT DISTINCT i FROM ids) d;
SELECT differ(customer_segmentation.union_agg(s), 'SELECT DISTINCT c FROM ids') FROM stored;
SELECT differ(customer_segmentation.intersect_agg(s), $$SELECT c FROM ids WHERE i LIKE 's1%' GROUP BY c HAVING count(*) = 5$$) FROM stored WHERE i LIKE 's1%';
SELECT customer_segmentation.union_agg(s) IS NULL AS t FROM stored WHERE false;
SELECT customer_segmentation.cardinality(customer_segmentation.union_agg(s)) = max(customer_segmentation.cardinality(s)) AS t
FROM (SELECT s FROM stored WHERE i = 's1_1' UNION ALL SELECT NULL) x;
SELECT i, customer_segmentation.cardinality(customer_segmentation.union_agg(s) OVER w) AS total,
	customer_segmentation.cardinality(customer_segmentation.intersect_agg(s) OVER w) AS all_days
FROM stored WHERE i LIKE 's2%' WINDOW w AS (ORDER BY i COLLATE "C") ORDER BY i COLLATE "C";
SELECT i, (SELECT count(DISTINCT c) FROM ids WHERE ids.i COLLATE "C" <= stored.i AND ids.i LIKE 's2%') AS total FROM stored WHERE i LIKE 's2%' ORDER BY i COLLATE "C";
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
ALTER TABLE stored SET (parallel_workers = 2);
EXPLAIN (COSTS OFF) SELECT customer_segmentation.union_agg(s) FROM stored;
SELECT differ(customer_segmentation.union_agg(s), 'SELECT DISTINCT c FROM ids'),
	customer_segmentation.cardinality(customer_segmentation.intersect_agg(s)) FROM stored;
RESET parallel_setup_cost; RESET parallel_tuple_cost; RESET min_parallel_table_scan_size;
ALTER TABLE stored RESET (parallel_workers);
-- The algebra is for workers too, also on what is looked up only then.
SELECT proname, proparallel FROM pg_proc WHERE pronamespace = 'customer_segmentation'::regnamespace AND 'customer_segmentation.customer_set'::regtype = ANY (proargtypes || prorettype)
	AND proname NOT LIKE '%\_step' GROUP BY 1, 2 ORDER BY 1, 2;
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
ALTER TABLE stored SET (parallel_workers = 2);
EXPLAIN (COSTS OFF) SELECT count(*) FROM stored WHERE customer_segmentation.cardinality(s & 'sets_t:{user1@example.com,many1}') = 1;
SELECT (SELECT count(*) FROM stored WHERE customer_segmentation.cardinality(s & 'sets_t:{user1@example.com,many1}') = 1) =
	(SELECT count(*) FROM ids WHERE c IN ('user1@example.com', 'many1')) AS t;
-- Names in a temporary table are found when they are given, since no worker could look there.
CREATE TEMP TABLE temp_t (LIKE customer_segmentation_table) USING customer_segmentation;
INSERT INTO temp_t (customer_identity, instance_created_date, segment_id, segment_instance_id) VALUES ('a', '2025-01-01', 's', 's_1'), ('b', '2025-01-01', 's', 's_1');
SELECT 'temp_t:{a,nobody}'::customer_segmentation.customer_set::text LIKE 'pg_temp%.temp_t:{"a"}' AS t;
SELECT count(*) = (SELECT count(*) FROM stored) AS t FROM stored WHERE customer_segmentation.cardinality('temp_t:{a,b,nobody}') = 2;
-- Nor is it asked there for its newest instances.
SET parallel_leader_participation = off;
SELECT count(*) FROM stored WHERE i || '_1' = ANY (customer_segmentation.newest_instances('temp_t'));
RESET parallel_leader_participation;
DROP TABLE temp_t;
RESET parallel_setup_cost; RESET parallel_tuple_cost; RESET min_parallel_table_scan_size;
ALTER TABLE stored RESET (parallel_workers);

-- Between functions a set is an object. Whoever keeps one keeps what it was.
DO $$
DECLARE
	a customer_segmentation.customer_set := customer_segmentation.members('s1_1', 'sets_t');
	b customer_segmentation.customer_set := a;
	u customer_segmentation.customer_set;
	n bigint := customer_segmentation.cardinality(a);
BEGIN
	a := a | customer_segmentation.members('many_1', 'sets_t');
	IF customer_segmentation.cardinality(b) <> n OR customer_segmentation.cardinality(a) <= n THEN
		RAISE 'a change of one variable is one of another';
	END IF;
	FOR i IN 0 .. 2 LOOP
		u := coalesce(u | customer_segmentation.members('many_' || i, 'sets_t'), customer_segmentation.members('many_' || i, 'sets_t'));
	END LOOP;
	IF customer_segmentation.cardinality(u) <> 100000 OR NOT u @> customer_segmentation.members('many_1', 'sets_t') THEN
		RAISE 'a loop lost customers';
	END IF;
	u := u - u;
	IF customer_segmentation.cardinality(u) <> 0 THEN
		RAISE 'a set less itself has customers';
	END IF;
END $$;
-- So does a statement that names its parameter more than once, whatever its plan.
SET plan_cache_mode = force_generic_plan;
PREPARE often (customer_segmentation.customer_set) AS
SELECT customer_segmentation.cardinality($1) AS n, customer_segmentation.cardinality($1 - m('s1_1')) AS less, customer_segmentation.cardinality($1) AS n_again,
	customer_segmentation.cardinality(coalesce($1, m('s1_1')) # m('s1_2')) AS differ, customer_segmentation.cardinality($1) AS n_still;
EXECUTE often(m('s1_1') | m('many_1'));
EXECUTE often(customer_segmentation.from_roaring(m('s1_1')::bytea, 'sets_t'));
CREATE FUNCTION counted(s customer_segmentation.customer_set) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RETURN customer_segmentation.cardinality(s); END $$;
PREPARE handed_on (customer_segmentation.customer_set) AS SELECT counted($1) = counted($1 & $1) AS t FROM generate_series(1, 3);
EXECUTE handed_on(m('s1_1') | m('many_1'));
DEALLOCATE often;
DEALLOCATE handed_on;
DROP FUNCTION counted;
RESET plan_cache_mode;
WITH s AS MATERIALIZED (SELECT customer_segmentation.members('s1_1', 'sets_t') AS a, customer_segmentation.members('s1_2', 'sets_t') AS b)
SELECT differ(a | b, $$SELECT c FROM ids WHERE i IN ('s1_1', 's1_2')$$), differ(a, $$SELECT c FROM ids WHERE i = 's1_1'$$), differ(b, $$SELECT c FROM ids WHERE i = 's1_2'$$) FROM s;
SELECT (SELECT customer_segmentation.cardinality(customer_segmentation.union_agg(x)) FROM unnest(sets) x) = 100000 AS t
FROM (SELECT array_agg(customer_segmentation.members('many_' || i, 'sets_t')) AS sets FROM generate_series(0, 2) i) a;
SELECT i, customer_segmentation.cardinality(customer_segmentation.union_agg(customer_segmentation.members(i, 'sets_t')) OVER w) =
	(SELECT count(DISTINCT c) FROM ids WHERE ids.i COLLATE "C" <= o.i AND ids.i LIKE 's2%') AS t
FROM (SELECT DISTINCT i FROM ids WHERE i LIKE 's2%') o WINDOW w AS (ORDER BY i COLLATE "C") ORDER BY i COLLATE "C";
SELECT customer_segmentation.cardinality(customer_segmentation.union_agg(s)) = 100000 AS t
FROM (SELECT m('many_0') AS s UNION ALL SELECT customer_segmentation.members('many_1', 'sets_t') UNION ALL SELECT NULL UNION ALL SELECT customer_segmentation.members('many_2', 'sets_t') UNION ALL SELECT 'sets_t:{}') x;
SELECT customer_segmentation.cardinality(customer_segmentation.intersect_agg(customer_segmentation.members(i, 'sets_t'))) = (SELECT count(*) FROM (SELECT FROM ids WHERE i LIKE 's1%' GROUP BY c HAVING count(*) = 5) x) AS t
FROM (SELECT DISTINCT i FROM ids WHERE i LIKE 's1%') o;
-- What a set was made of may change in the same transaction, and in the same expression.
BEGIN;
DECLARE c CURSOR FOR SELECT customer_segmentation.cardinality(customer_segmentation.members('many_' || i, 'sets_t')) FROM generate_series(0, 2) i;
FETCH 1 FROM c;
DELETE FROM sets_t WHERE segment_instance_id = 'many_1' AND customer_identity LIKE '%1';
FETCH 1 FROM c;
CLOSE c;
SELECT customer_segmentation.cardinality(customer_segmentation.members('many_1', 'sets_t') | customer_segmentation.members('many_1', 'sets_t'));
ROLLBACK;
CREATE FUNCTION truncated(s customer_segmentation.customer_set) RETURNS customer_segmentation.customer_set LANGUAGE plpgsql AS $$
BEGIN
	TRUNCATE sets_t;
	RETURN s;
END $$;
CREATE FUNCTION nothing_left() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	TRUNCATE sets_t;
	RETURN 0;
END $$;
BEGIN;
SELECT customer_segmentation.cardinality(truncated(customer_segmentation.members('s1_1', 'sets_t'))) > 0 AS t;
ROLLBACK;
BEGIN;
SELECT customer_segmentation.members('s1_1', 'sets_t') AS a, nothing_left();
ROLLBACK;
DROP FUNCTION truncated, nothing_left;
CREATE PROCEDURE committing(s customer_segmentation.customer_set) LANGUAGE plpgsql AS $$
BEGIN
	COMMIT;
	RAISE NOTICE '%', customer_segmentation.cardinality(s);
END $$;
CALL committing(customer_segmentation.members('many_0', 'sets_t'));
DO $$ BEGIN CALL committing(customer_segmentation.members('many_0', 'sets_t') | customer_segmentation.members('many_1', 'sets_t')); END $$;
DROP PROCEDURE committing;
-- Numbers from outside get the one form: equal sets have equal hashes.
CREATE TABLE three (s customer_segmentation.customer_set);
INSERT INTO three VALUES ('sets_t:#99:3a300000010000000000020010000000000001000200');
INSERT INTO three VALUES ('sets_t:#99:3b3000000100000200010000000200');
SELECT customer_segmentation.customer_set_hash(s) AS hash, count(*) FROM three GROUP BY 1;
DROP TABLE three;

-- Equality groups and joins by hash.
SELECT count(*), count(DISTINCT s::bytea) FROM stored;
SELECT count(*) FROM (SELECT s FROM stored UNION ALL SELECT s FROM stored) x GROUP BY s ORDER BY 1 DESC LIMIT 1;
SET enable_mergejoin = off; SET enable_nestloop = off;
SELECT count(*) FROM stored a JOIN stored b ON a.s = b.s;
RESET enable_mergejoin; RESET enable_nestloop;

-- Text: identities by name, what survives a dump.
SELECT customer_segmentation.members('s3_1', 'sets_t')::text LIKE 'public.sets_t:{"%' AS t;
CREATE TABLE texts AS SELECT i, s::text AS t FROM stored;
SELECT count(*) FILTER (WHERE t::customer_segmentation.customer_set = s) AS same, count(*) FROM texts JOIN stored USING (i);
SELECT 'sets_t:{user1@example.com,user1@example.com,"nobody at all",user3@example.com}'::customer_segmentation.customer_set;
SELECT customer_segmentation.identities('sets_t:{user1@example.com,"nobody at all",user3@example.com}');
SELECT customer_segmentation.cardinality('sets_t:{}'), 'sets_t:{}'::customer_segmentation.customer_set;
CREATE TABLE "odd:{name" (LIKE customer_segmentation_table) USING customer_segmentation;
INSERT INTO "odd:{name" (customer_identity, instance_created_date, segment_id, segment_instance_id)
VALUES ('a"b', '2025-01-01', 's', 's_1'), ('c\d', '2025-01-01', 's', 's_1'), ('', '2025-01-01', 's', 's_1'), ('e,f}', '2025-01-01', 's', 's_1'), ('NULL', '2025-01-01', 's', 's_1');
SELECT customer_segmentation.members('s_1', '"odd:{name"');
SELECT customer_segmentation.members('s_1', '"odd:{name"')::text::customer_segmentation.customer_set = customer_segmentation.members('s_1', '"odd:{name"') AS t;
SELECT 'user1@example.com'::customer_segmentation.customer_set;
SELECT 'sets_t:{a,NULL}'::customer_segmentation.customer_set;
SELECT 'sets_t:{{a},{b}}'::customer_segmentation.customer_set;
SELECT 'no_such_table:{a}'::customer_segmentation.customer_set;
SELECT m('s1_1') @> 'user1@example.com';
SELECT 'sets_t:#1:3a300000'::customer_segmentation.customer_set;
SELECT 'sets_t:#1:xyz'::customer_segmentation.customer_set;
-- Binary, through COPY.
SELECT customer_segmentation.customer_set_send(customer_segmentation.members('s_1', '"odd:{name"'));

-- Roaring: numbers of one generation.
SELECT s::bytea::text = customer_segmentation.to_roaring(s)::text AS t, customer_segmentation.from_roaring(s::bytea, 'sets_t') = s AS t FROM stored WHERE i = 's1_1';
SELECT count(*) FILTER (WHERE customer_segmentation.from_roaring(s::bytea, 'sets_t') = s) AS same, count(*) FROM stored;
SELECT encode('sets_t:{}'::customer_segmentation.customer_set::bytea, 'hex');
SELECT customer_segmentation.from_roaring('\x', 'sets_t');
SELECT customer_segmentation.from_roaring('\x3a30000001000000000000001000000000', 'sets_t');
SELECT customer_segmentation.from_roaring('\x3a300000010000000f27000010000000ffff', 'sets_t');
SELECT customer_segmentation.from_roaring('\x3a3000000100000000000000100000000000', 'sets_t') = 'sets_t:{}' AS f;
SELECT '\x3a3000000000000000'::bytea::customer_segmentation.customer_set;

-- Other tables, other times: refused, never other people.
SELECT m('s1_1') & customer_segmentation.members('s_1', '"odd:{name"');
SELECT customer_segmentation.optimize('sets_t');
SELECT customer_segmentation.identities(s) FROM stored WHERE i = 's1_1';
SELECT s @> 'user1@example.com'::text FROM stored WHERE i = 's1_1';
SELECT s & m('s1_1') FROM stored WHERE i = 's1_1';
SELECT regexp_replace(s::text, '#.*', '#') FROM stored WHERE i = 's1_1';
SELECT s::text::customer_segmentation.customer_set::text = s::text AS t FROM stored WHERE i = 's1_1';
-- Among themselves they still make sense, and their text form holds.
SELECT customer_segmentation.cardinality(customer_segmentation.union_agg(s)) FROM stored;
SELECT count(*) FILTER (WHERE t::customer_segmentation.customer_set = m(i)) AS same, count(*) FROM texts;
UPDATE stored SET s = m(i);
VACUUM FULL sets_t;
SELECT count(*) FILTER (WHERE s = m(i)) AS same, count(*) FROM stored;
-- The erased are not listed; the number remains.
SELECT customer_segmentation.cardinality(s) AS before FROM stored WHERE i = 's1_1' \gset
SELECT min(c COLLATE "C") AS gone FROM ids WHERE i = 's1_1' \gset
SELECT rows_removed > 0 AS t FROM customer_segmentation.erase_customer(:'gone', 'sets_t');
SELECT customer_segmentation.cardinality(s) - :before AS numbers, (SELECT count(*) FROM customer_segmentation.identities(s)) - :before AS people FROM stored WHERE i = 's1_1';
-- A number is never given out twice, also where it was the last one and all trace of its owner is gone.
INSERT INTO sets_t (customer_identity, instance_created_date, segment_id, segment_instance_id) VALUES ('the last', '2025-01-01', 'l', 'l_1');
CREATE TABLE the_last AS SELECT m('l_1') AS s;
SELECT * FROM customer_segmentation.erase_customer('the last', 'sets_t');
VACUUM FULL sets_t;
INSERT INTO sets_t (customer_identity, instance_created_date, segment_id, segment_instance_id) VALUES ('the next', '2025-01-01', 'l', 'l_2');
SELECT customer_segmentation.identities(s) FROM the_last;
SELECT customer_segmentation.identities(m('l_2'));
SELECT * FROM customer_segmentation.verify('sets_t');
-- Nor does a new beginning give old numbers a meaning.
CREATE TABLE before AS SELECT m('l_2') AS s;
TRUNCATE sets_t;
INSERT INTO sets_t (customer_identity, instance_created_date, segment_id, segment_instance_id) SELECT 'other' || c, '2025-01-01', 'l', 'l_2' FROM generate_series(1, 300000) c;
SELECT customer_segmentation.identities(s) FROM before;
SELECT m('l_2') @> s FROM before;
DROP TABLE the_last, before;
TRUNCATE sets_t;
SELECT customer_segmentation.identities(s) FROM stored WHERE i = 's1_1';
CREATE TABLE "gone" (LIKE customer_segmentation_table) USING customer_segmentation;
INSERT INTO gone (customer_identity, instance_created_date, segment_id, segment_instance_id) VALUES ('a', '2025-01-01', 's', 's_1');
CREATE TABLE of_gone AS SELECT customer_segmentation.members('s_1', 'gone') AS s;
-- Identities of what is not there, or no table of this access method, are no more than those of a former state.
CREATE VIEW asked_of_gone AS
SELECT q AS question, regexp_replace(error_of(q), '[0-9]+, which', 'n, which') AS answer
FROM (VALUES ('SELECT customer_segmentation.identities(s) FROM of_gone'), ('SELECT s @> ''a''::text FROM of_gone')) AS v(q);
BEGIN;
ALTER TABLE gone SET ACCESS METHOD heap;
TABLE asked_of_gone;
SELECT error_of($$SELECT customer_segmentation.cardinality('gone:{a}')$$);
ROLLBACK;
DROP TABLE gone;
TABLE asked_of_gone;
DROP VIEW asked_of_gone;
SELECT regexp_replace(s::text, '[0-9]+:#[0-9]+', 'OID:#generation') FROM of_gone;
SELECT customer_segmentation.cardinality(s) FROM of_gone;
DROP TABLE of_gone;
DROP TABLE "odd:{name";
-- Privileges and row security: identities are the table's.
INSERT INTO sets_t (customer_identity, instance_created_date, segment_id, segment_instance_id)
SELECT 'x' || c, '2025-01-01', 's', 's_1' FROM generate_series(1, 3) c;
TRUNCATE stored;
INSERT INTO stored VALUES ('s_1', m('s_1'));
-- Shown when the statement's snapshot is gone.
UPDATE stored SET i = i RETURNING s;
PREPARE touch AS UPDATE stored SET i = i RETURNING s, s = m('s_1') AS same;
EXECUTE touch;
WITH touched AS (UPDATE stored SET i = i RETURNING s) SELECT s FROM touched;
BEGIN;
DECLARE held CURSOR WITH HOLD FOR SELECT s FROM stored;
COMMIT;
FETCH held;
CLOSE held;
DEALLOCATE touch;
CREATE ROLE regress_sets;
GRANT SELECT ON stored TO regress_sets;
SET ROLE regress_sets;
SELECT customer_segmentation.cardinality(s) FROM stored;
SELECT s FROM stored;
SELECT customer_segmentation.identities(s) FROM stored;
SELECT s @> 'x1'::text FROM stored;
SELECT customer_segmentation.cardinality('sets_t:{x1}');
SELECT customer_segmentation.members('s_1', 'sets_t');
RESET ROLE;
GRANT SELECT (customer_identity) ON sets_t TO regress_sets;
SET ROLE regress_sets;
SELECT s FROM stored;
SELECT customer_segmentation.members('s_1', 'sets_t');
RESET ROLE;
ALTER TABLE sets_t ENABLE ROW LEVEL SECURITY;
SET ROLE regress_sets;
SELECT s FROM stored;
RESET ROLE;
-- As the definition of a segment.
ALTER TABLE sets_t DISABLE ROW LEVEL SECURITY;
INSERT INTO customer_segmentation_table (customer_identity, instance_created_date, segment_id, segment_instance_id)
SELECT 'x' || c, '2025-01-01', 'a', 'a_' || d FROM generate_series(1, 5) c, generate_series(1, 2) d WHERE c + d < 6;
SELECT customer_segmentation.create_segment('Left A', $$SELECT customer_segmentation.identities(customer_segmentation.set_except(customer_segmentation.members('a_1'), customer_segmentation.members('a_2')))$$, segment_id => 'aaaaaaaaaaaaaaaaaaaaaaaa') \gset
SELECT customer_segmentation.run_segment('aaaaaaaaaaaaaaaaaaaaaaaa', '2025-03-01 12:00+00') AS instance \gset
SELECT customer_identity FROM customer_segmentation_table WHERE segment_instance_id = :'instance';
SELECT customer_segmentation.drop_segment('aaaaaaaaaaaaaaaaaaaaaaaa', false);
DELETE FROM customer_segmentation_table WHERE segment_id = 'a';
DROP VIEW ids;
DROP FUNCTION differ, m;
DROP TABLE sets_t, stored, texts;
DROP ROLE regress_sets;
