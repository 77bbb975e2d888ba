-- Who the members of instances are, asked for few and many instances at a time in any order, with any size of the cache:
-- as SQL says of a plain table.
SET search_path = public, customer_segmentation;
CREATE TABLE c (LIKE customer_segmentation_table) USING customer_segmentation;
CREATE TABLE h (LIKE customer_segmentation_table) USING heap;
-- Of segment dense nearly all customers are members, so all its bitsets take much less room than its rows.
CREATE FUNCTION is_member(segment text, customer int, instance int) RETURNS boolean IMMUTABLE LANGUAGE sql
RETURN CASE segment WHEN 'dense' THEN hashint4extended(customer, instance) % 20 <> 0
	ELSE hashint4extended(customer, 1000 + instance / 7) % 40 = 0 END;
INSERT INTO h
SELECT 'customer' || n, timestamp '2025-01-01' + i * interval '1 day', NULL, NULL, NULL, s, s || '_' || i, NULL, 1,
       abs(hashint4extended(n, i) % 90), abs(hashint4extended(i, n) % 100000) / 7.0
FROM unnest(ARRAY['dense', 'thin']) AS s, generate_series(1, 50) AS i, generate_series(1, 900) AS n WHERE is_member(s, n, i);
INSERT INTO c TABLE h;
CREATE INDEX ON h (segment_instance_id, customer_identity);
VACUUM ANALYZE h;

-- The number of unions that differ.
CREATE FUNCTION differing(seed int) RETURNS bigint LANGUAGE sql AS $$
	WITH asked AS MATERIALIZED (
		SELECT q, array_agg(s || '_' || i) AS ids
		FROM (SELECT q, (ARRAY['dense', 'thin'])[1 + abs(hashint4extended(q, seed) % 2)] AS s,
			(ARRAY[1, 2, 5, 8, 9, 20, 45])[1 + abs(hashint4extended(q, seed + 1) % 7)] AS size FROM generate_series(1, 40) AS q) AS q,
			LATERAL (SELECT i FROM generate_series(1, 50) AS i ORDER BY hashint4extended(i, seed * 1000 + q) LIMIT size) AS i
		GROUP BY q)
	SELECT count(*) FROM asked
	WHERE cardinality(members(ids, 'c')) <>
		(SELECT count(DISTINCT customer_identity) FROM h WHERE segment_instance_id = ANY (ids))
$$;
-- Who entered and who left, between any two.
CREATE FUNCTION differing_changes(seed int) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM (
		SELECT s || '_' || a AS a, s || '_' || b AS b
		FROM generate_series(1, 20) AS q, LATERAL (SELECT (ARRAY['dense', 'thin'])[1 + q % 2] AS s,
			1 + abs(hashint4extended(q, seed) % 50) AS a, 1 + abs(hashint4extended(q, seed + 7) % 50) AS b) AS p) AS p
	WHERE ARRAY(SELECT (customer_identity, change)::text FROM segment_changes(a, b, 'c') ORDER BY 1) <> ARRAY(
		(SELECT (customer_identity, 'entered')::text FROM (SELECT customer_identity FROM h WHERE segment_instance_id = b
			EXCEPT SELECT customer_identity FROM h WHERE segment_instance_id = a) AS e
		 UNION ALL
		 SELECT (customer_identity, 'left')::text FROM (SELECT customer_identity FROM h WHERE segment_instance_id = a
			EXCEPT SELECT customer_identity FROM h WHERE segment_instance_id = b) AS l) ORDER BY 1)
$$;
SELECT size, differing(seed::int) AS unions, differing_changes(seed::int) AS changes
FROM unnest(ARRAY[65536, 0, 16, 64, 300, 1000, 65536]) WITH ORDINALITY AS s(size, seed),
	set_config('customer_segmentation.cell_cache', size::text, false) AS kept ORDER BY seed;

-- What was kept is of the rows as they were.
DELETE FROM c WHERE num_of_orders < 9 AND segment_instance_id IN ('thin_3', 'dense_3', 'dense_4');
DELETE FROM h WHERE num_of_orders < 9 AND segment_instance_id IN ('thin_3', 'dense_3', 'dense_4');
SELECT differing(1), differing(7), differing_changes(1), differing_changes(7);
BEGIN;
INSERT INTO c SELECT 'new', instance_created_date, NULL, NULL, NULL, segment_id, segment_instance_id, NULL, 1, 1, 1 FROM h
GROUP BY instance_created_date, segment_id, segment_instance_id;
INSERT INTO h SELECT 'new', instance_created_date, NULL, NULL, NULL, segment_id, segment_instance_id, NULL, 1, 1, 1 FROM h
GROUP BY instance_created_date, segment_id, segment_instance_id;
SELECT differing(1), differing(7), differing_changes(1);
ROLLBACK;
SELECT differing(1), differing(7), differing_changes(1);
RESET customer_segmentation.cell_cache;
DROP TABLE c, h;
DROP FUNCTION differing, differing_changes, is_member;
