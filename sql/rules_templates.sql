-- The ready-made rules: each is sound with the sources that it names, and means what it says.
SET TimeZone = 'UTC';
SET search_path = shop, public;
SELECT name, sources, available, description FROM customer_segmentation.segment_templates ORDER BY name;
SELECT count(*) >= 14 AS many, count(DISTINCT name) = count(*) AS distinct, bool_and(rules IS NOT NULL AND description > '') AS whole FROM customer_segmentation.segment_templates;

-- Written by hand: n orders of a customer, last the newest one, first the oldest, ago(d) how many in d days.
SELECT set_config('customer_segmentation.as_of', '2025-08-25 11:08:39+00', false) AS as_of;
CREATE VIEW buyers AS
SELECT id, count(*) AS n, coalesce(sum(amount), 0) AS spent, min(ordered_at) AS first, max(ordered_at) AS last, array_agg(ordered_at) AS at
FROM orders_of WHERE id IS NOT NULL AND ordered_at <= customer_segmentation.as_of() GROUP BY 1;
CREATE FUNCTION share(value text, low numeric, high numeric) RETURNS TABLE (id text) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('SELECT id FROM (SELECT id, (SELECT count(*) FROM buyers w WHERE w.%1$I < b.%1$I)::numeric / (SELECT count(*) FROM buyers) AS worse FROM buyers b) x WHERE worse >= %2$s AND worse < %3$s', value, low, high);
END $$;
CREATE TABLE by_hand (name text, query text);
INSERT INTO by_hand VALUES
	('Big spenders', 'SELECT id FROM share(''spent'', 0.8, 1)'),
	('RFM champions', 'SELECT id FROM share(''last'', 0.6, 1) INTERSECT SELECT id FROM share(''n'', 0.6, 1) INTERSECT SELECT id FROM share(''spent'', 0.6, 1)'),
	('RFM hibernating', 'SELECT id FROM share(''last'', 0, 0.4) INTERSECT SELECT id FROM share(''n'', 0, 0.4)'),
	('Lapsed high-value', 'SELECT id FROM share(''spent'', 0.8, 1) JOIN buyers USING (id) WHERE last <= now - interval ''180 days'''),
	('One-time buyers', 'SELECT id FROM buyers WHERE n = 1'),
	('Repeat buyers', 'SELECT id FROM buyers WHERE n > 1'),
	('Loyal customers', 'SELECT id FROM buyers WHERE (SELECT count(*) FROM unnest(at) x WHERE x > now - interval ''1 year'') >= 3'),
	('Active customers', 'SELECT id FROM buyers WHERE last > now - interval ''90 days'''),
	('New this month', 'SELECT id FROM buyers WHERE first > now - interval ''1 month'''),
	('Came back soon', 'SELECT id FROM buyers WHERE first > now - interval ''3 months'' AND last > first'),
	('At risk', 'SELECT id FROM buyers WHERE n > 1 AND last <= now - interval ''90 days'' AND last > now - interval ''180 days'''),
	('Lost customers', 'SELECT id FROM buyers WHERE last <= now - interval ''1 year'''),
	('Won back', 'SELECT id FROM buyers WHERE last > now - interval ''30 days'' AND first < now - interval ''210 days'' AND NOT EXISTS (SELECT FROM unnest(at) x WHERE x BETWEEN now - interval ''210 days'' AND now - interval ''30 days'')'),
	('Never bought', 'SELECT customer_id::text FROM customers WHERE created_at <= now EXCEPT SELECT id FROM buyers'),
	('Abandoned carts', 'SELECT customer_id::text FROM carts WHERE day > (now - interval ''7 days'') AND day <= now EXCEPT SELECT id FROM buyers WHERE last > now - interval ''7 days'''),
	('Abandoned checkouts', 'SELECT customer_id::text FROM checkouts WHERE at > now - interval ''7 days'' AND at <= now EXCEPT SELECT id FROM buyers WHERE last > now - interval ''7 days'''),
	('Window shoppers', 'SELECT customer_id::text FROM visits JOIN customers ON email = mail WHERE visited > now - interval ''30 days'' AND visited <= now EXCEPT SELECT id FROM buyers'),
	('Subscribers', 'SELECT customer_id::text FROM subscriptions WHERE started_at <= now AND (cancelled_at > now OR cancelled_at IS NULL)'),
	('Former subscribers', 'SELECT customer_id::text FROM subscriptions WHERE cancelled_at <= now AND cancelled_at > now - interval ''90 days''');
SELECT name, same(rules, format('SELECT id FROM (%s) AS y (id) WHERE id IN (SELECT customer_id::text FROM customers WHERE created_at <= %2$L)', replace(query, 'now', 'timestamptz ''' || m || ''''), m), m), m
FROM customer_segmentation.segment_templates FULL JOIN by_hand USING (name), (VALUES (timestamptz '2025-08-25 11:08:39+00'), ('2025-02-10 12:00+00'), ('2026-07-15 12:00+00')) AS v (m)
ORDER BY name, m;
-- With the sources that it names and no other; by the other identity too.
SELECT unset_sources();
SELECT set_config('customer_segmentation.as_of', '2025-08-25 11:08:39+00', false) AS as_of;
CREATE FUNCTION with_its_sources(name text, wanted text[], rules jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	PERFORM shop.set_sources();
	PERFORM customer_segmentation.set_source(source, NULL) FROM customer_segmentation.sources WHERE source <> ALL (wanted || CASE WHEN 'visits' = ANY (wanted) THEN '{customers}'::text[] ELSE '{}' END);
	SELECT format('%s, available: %s', num_of_customers, (SELECT available FROM customer_segmentation.segment_templates t WHERE t.name = with_its_sources.name)) INTO result
	FROM customer_segmentation.preview_segment(rules);
	RETURN result;
END $$;
SELECT name, with_its_sources(name, sources, rules) FROM customer_segmentation.segment_templates ORDER BY name;
SELECT set_sources();
SELECT count(*), bool_and(num_of_customers >= 0) FROM customer_segmentation.segment_templates t, customer_segmentation.preview_segment(rules, 'email') WHERE name NOT LIKE '%shoppers';
-- A segment made of one, on its data.
SELECT customer_segmentation.create_segment(name, rules, description => description, segment_id => '0000000000000000007e3b1a', time_zone => 'UTC') FROM customer_segmentation.segment_templates WHERE name = 'Big spenders';
SELECT customer_segmentation.run_segment('0000000000000000007e3b1a');
SELECT segment_name, num_of_customers, num_of_orders, total_revenue FROM customer_segmentation.segment_instances WHERE segment_id = '0000000000000000007e3b1a';
SELECT customer_segmentation.drop_segment('0000000000000000007e3b1a', false);

-- Shares of the customers follow the settings of the scores.
SELECT n, best, set_config('customer_segmentation.rfm_buckets', n::text, true) = n::text AND set_config('customer_segmentation.rfm_best', best, true) = best AS set,
	   customer_segmentation.rfm_scores(0.8, 1) AS top, customer_segmentation.rfm_scores(0.6, 1) AS upper, customer_segmentation.rfm_scores(0, 0.4) AS lower
FROM unnest('{2,3,5,10}'::int[]) n, unnest('{highest,lowest}'::text[]) best ORDER BY n, best;
SET customer_segmentation.rfm_buckets = 10;
SET customer_segmentation.rfm_best = lowest;
SELECT rules FROM customer_segmentation.segment_templates WHERE name = 'RFM hibernating';
SELECT name, same(rules, format('SELECT id FROM (%s) AS y (id) WHERE id IN (SELECT customer_id::text FROM customers)', replace(query, 'now', 'timestamptz ''2025-08-25 11:08:39+00''')))
FROM customer_segmentation.segment_templates JOIN by_hand USING (name) WHERE name LIKE 'RFM%' OR name LIKE 'Big%' ORDER BY name;
RESET customer_segmentation.rfm_buckets;
RESET customer_segmentation.rfm_best;
RESET customer_segmentation.as_of;
DROP TABLE by_hand;
DROP VIEW buyers;
DROP FUNCTION share, with_its_sources;

-- No other test needs the shop.
SELECT unset_sources();
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA shop CASCADE;
