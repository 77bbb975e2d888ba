-- Rules that refer to other segments, and RFM scores.
SET TimeZone = 'UTC';
SET search_path = shop, public;

-- ---- RFM: how many are strictly worse, of all with orders at the moment; ties share a score -------------------------
CREATE FUNCTION stats(m timestamptz) RETURNS TABLE (id text, recency timestamptz, frequency bigint, monetary numeric) LANGUAGE sql AS $$
	SELECT id, max(ordered_at), count(*), coalesce(sum(amount), 0) FROM orders_of WHERE id IS NOT NULL AND ordered_at <= m GROUP BY id
$$;
CREATE FUNCTION scored(score text, buckets int, m timestamptz) RETURNS TABLE (id text, s int) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('SELECT a.id, 1 + ((SELECT count(*) FROM stats(%L) b WHERE b.%I < a.%2$I) * %s / (SELECT count(*) FROM stats(%1$L)))::int FROM stats(%1$L) a', m, score, buckets);
END $$;
CREATE FUNCTION rfm(score text, comparator text, value jsonb) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('type', 'rfm_segment', 'definition', jsonb_build_object('properties', jsonb_build_array(
		jsonb_build_object('property', 'customer_rfm_' || score, 'comparator', comparator, 'value', value))))
$$;
CREATE VIEW cases AS SELECT * FROM unnest('{recency,frequency,monetary}'::text[]) s, (VALUES (jsonb '[1]'), ('[2, 3]'), ('[5]'), ('[1, 2, 3, 4, 5]'), ('[]')) AS v (v),
	(VALUES (timestamptz '2025-08-25 11:08:39+00'), ('2025-02-14 09:00+00')) AS m (m);
SELECT s, v, m, same(rfm(s, 'is_in', v), format('SELECT id FROM scored(%L, 5, %L) JOIN customers c ON customer_id::text = id WHERE created_at <= %2$L AND s IN (SELECT jsonb_array_elements(%3$L)::int)', s, m, v), m),
	   same(rfm(s, 'is_not_in', v), format('SELECT customer_id FROM customers LEFT JOIN scored(%L, 5, %L) ON customer_id::text = id WHERE created_at <= %2$L AND (s IN (SELECT jsonb_array_elements(%3$L)::int)) IS NOT TRUE', s, m, v), m) AS negative
FROM cases ORDER BY s, v, m;
-- All of several must hold. The number of scores and which is the best are settings.
SELECT same('{"type": "rfm_segment", "definition": {"properties": [{"property": "customer_rfm_recency", "comparator": "is_in", "value": [4, 5]},
		{"property": "customer_rfm_monetary", "comparator": "is_not_in", "value": [1, 2]}]}}',
	$$SELECT id FROM scored('recency', 5, '2025-08-25 11:08:39+00') r JOIN scored('monetary', 5, '2025-08-25 11:08:39+00') m USING (id) JOIN customers ON customer_id::text = id WHERE r.s >= 4 AND m.s > 2$$);
SET customer_segmentation.rfm_buckets = 3;
SELECT same(rfm('monetary', 'is_in', '[3]'), $$SELECT id FROM scored('monetary', 3, '2025-08-25 11:08:39+00') JOIN customers ON customer_id::text = id WHERE s = 3$$);
SELECT error_of(format('SELECT customer_segmentation.explain_rules(%L)', rfm('monetary', 'is_in', '[3, 4]')));
SET customer_segmentation.rfm_best = lowest;
SELECT same(rfm('monetary', 'is_in', '[1]'), $$SELECT id FROM scored('monetary', 3, '2025-08-25 11:08:39+00') JOIN customers ON customer_id::text = id WHERE s = 3$$),
	   same(rfm('recency', 'is_in', '[3, 2]'), $$SELECT id FROM scored('recency', 3, '2025-08-25 11:08:39+00') JOIN customers ON customer_id::text = id WHERE s < 3$$);
RESET customer_segmentation.rfm_best;
RESET customer_segmentation.rfm_buckets;
-- Nothing but ties: all score alike. More scores than customers: the extremes stay what they are.
CREATE TABLE few (who text, at timestamptz, amount int);
INSERT INTO few SELECT 'c' || i, '2025-01-01 00:00+00', 5 FROM generate_series(1, 7) i;
SELECT unset_sources();
SELECT customer_segmentation.set_source('orders', 'few', '{"customer_id": "who", "time": "at", "amount": "amount"}');
SELECT s, same(rfm(s, 'is_in', '[1]'), 'SELECT who FROM few') FROM unnest('{recency,frequency,monetary}'::text[]) s;
UPDATE few SET amount = right(who, 1)::int;
SELECT n, same(rfm('monetary', 'is_in', to_jsonb(ARRAY[n])), format('SELECT who FROM few WHERE 1 + (right(who, 1)::int - 1) * 5 / 7 = %s', n)) FROM generate_series(1, 5) n;
SET customer_segmentation.rfm_buckets = 1000;
SELECT same(rfm('monetary', 'is_in', '[1]'), $$SELECT 'c1'$$), same(rfm('monetary', 'is_in', '[858]'), $$SELECT 'c7'$$);
RESET customer_segmentation.rfm_buckets;
SELECT unset_sources();
SELECT set_sources();

-- ---- members of another segment ---------------------------------------------------------------------------------
CREATE FUNCTION member(id text, comparator text DEFAULT 'is') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('type', 'segment_relation', 'definition', jsonb_build_object('property', jsonb_build_object('value', id, 'comparator', comparator)))
$$;
CREATE FUNCTION segid(n int) RETURNS text LANGUAGE sql AS $$ SELECT '5e65' || lpad(to_hex(n), 20, '0') $$;
-- The first has who is listed here, so its instances are at will.
CREATE TABLE listed (who text);
SELECT customer_segmentation.create_segment('Listed', 'SELECT who FROM shop.listed', segment_id => segid(1), time_zone => 'UTC');
SELECT customer_segmentation.create_segment('Listed by mail', $$SELECT 'user' || who || '@example.com' FROM shop.listed$$, segment_by => 'email', segment_id => segid(2), time_zone => 'Asia/Tokyo');
INSERT INTO listed VALUES (1), (2), (3), (77);
SELECT customer_segmentation.run_segment(segid(1), '2025-08-01 10:00+00'), customer_segmentation.run_segment(segid(2), '2025-08-01 10:00+00');
DELETE FROM listed WHERE who = '3';
INSERT INTO listed VALUES (4), (9);
SELECT customer_segmentation.run_segment(segid(1), '2025-08-10 10:00+00'), customer_segmentation.run_segment(segid(2), '2025-08-10 10:00+00');
-- The newest instance at the moment, to the microsecond; none yet is nobody. By the other identity the customers know who it is.
SELECT m, same(member(segid(1)), 'SELECT unnest(''' || h || '''::int[])', m), same(member(segid(1), 'is_not'), 'SELECT customer_id FROM customers WHERE created_at <= ''' || m || ''' EXCEPT SELECT unnest(''' || h || '''::int[])', m) AS is_not,
	   same(member(segid(2)), 'SELECT customer_id FROM customers WHERE email IS NOT NULL AND customer_id = ANY (''' || h || ''')', m) AS by_mail,
	   same(member(segid(1)), 'SELECT email FROM customers WHERE email IS NOT NULL AND customer_id = ANY (''' || h || ''')', m, 'email') AS of_mail
FROM (VALUES (timestamptz '2025-07-31 10:00+00', '{}'), ('2025-08-01 09:59:59.999999+00', '{}'), ('2025-08-01 10:00+00', '{1,2,3}'), ('2025-08-10 09:59:59.999999+00', '{1,2,3}'), ('2025-08-10 10:00+00', '{1,2,4,9}'), ('2025-08-25 10:00+00', '{1,2,4,9}')) AS v (m, h)
ORDER BY m;
-- An instance without members is the newest all the same, until the period has some.
TRUNCATE listed;
SELECT customer_segmentation.run_segment(segid(1), '2025-08-20 10:00+00');
SELECT m, same(member(segid(1)), 'SELECT unnest(''' || h || '''::int[])', m) FROM (VALUES (timestamptz '2025-08-20 09:59+00', '{1,2,4,9}'), ('2025-08-20 10:00+00', '{}'), ('2025-08-25 10:00+00', '{}')) AS v (m, h) ORDER BY m;
INSERT INTO listed VALUES (5);
SELECT customer_segmentation.run_segment(segid(1), '2025-08-20 12:00+00');
SELECT same(member(segid(1)), 'SELECT 5', '2025-08-25 10:00+00');
-- Later in the same period somebody, and then as of an earlier moment of it: what is stored counts, not what was found before.
TRUNCATE listed;
SELECT customer_segmentation.run_segment(segid(1), '2025-08-21 20:00+00');
INSERT INTO listed VALUES (5);
SELECT customer_segmentation.run_segment(segid(1), '2025-08-21 08:00+00');
SELECT same(member(segid(1)), 'SELECT 5', m) FROM (VALUES (timestamptz '2025-08-21 19:00+00'), ('2025-08-21 20:00+00'), ('2025-08-25 10:00+00')) AS v (m) ORDER BY m;
-- Within other rules.
SELECT same(op('OR', op('NOT', member(segid(1))), act('made_purchase', 'equal', '0')), 'SELECT customer_id FROM customers WHERE customer_id <> 5', '2025-08-25 10:00+00');

-- A segment of segments: what it depends on is listed, and in use.
SELECT customer_segmentation.create_segment('Both', op('AND', member(segid(1)), op('NOT', member(segid(2))), member(segid(1), 'is')), segment_id => segid(3), time_zone => 'UTC');
SELECT segment_name, depends_on FROM customer_segmentation.segments WHERE segment_id = segid(3);
SELECT customer_segmentation.run_segment(segid(3), '2025-08-25 10:00+00');
SELECT customer_identity FROM customer_segmentation_table WHERE segment_id = segid(3);
SELECT error_of('SELECT customer_segmentation.drop_segment(segid(1))');
-- Circles of one, two, three.
SELECT error_of('SELECT customer_segmentation.alter_segment(segid(1), rules => member(segid(1)))');
SELECT error_of('SELECT customer_segmentation.alter_segment(segid(1), rules => op(''NOT'', member(segid(3), ''is_not'')))');
SELECT customer_segmentation.create_segment('Third', op('OR', member(segid(3)), member(segid(2))), segment_id => segid(4), time_zone => 'UTC');
SELECT error_of('SELECT customer_segmentation.alter_segment(segid(2), rules => member(segid(4)))');
SELECT error_of(format('SELECT customer_segmentation.create_segment(''Nothing'', %L::jsonb)', member('5e65ffffffffffffffffffff')));
-- Whoever may not read its table does not get to know its members, nor when it had none.
CREATE ROLE regress_rules_reader;
GRANT USAGE ON SCHEMA shop TO regress_rules_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA shop TO regress_rules_reader;
SET ROLE regress_rules_reader;
SELECT set_sources();
SELECT error_of(format('SELECT * FROM customer_segmentation.preview_segment(%L::jsonb)', member(segid(1))));
SELECT error_of('SELECT customer_segmentation.emptied_at(segid(1), now())');
SELECT unset_sources();
RESET ROLE;
DROP OWNED BY regress_rules_reader;
DROP ROLE regress_rules_reader;

SELECT count(customer_segmentation.drop_segment(segid(i), false)) FROM unnest('{4,3,2,1}'::int[]) i;
DROP TABLE listed, few;
DROP VIEW cases;
DROP FUNCTION stats, scored, rfm, member, segid;
