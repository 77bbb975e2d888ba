-- Time forms: every form and unit, its boundaries, time zones, daylight saving, and columns that tell the time by a clock.
SET search_path = shop, public;
SET TimeZone = 'UTC';
CREATE FUNCTION t(comparator text, rest jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('comparator', comparator) || rest $$;

-- Every form and unit on moments, against the same said in SQL; each also at a moment before most of the orders.
CREATE VIEW forms AS
SELECT * FROM (VALUES
	('over_all_time', jsonb '{}', 'true'),
	('under', '{"value": 90, "unit": "day"}', $$at > m - interval '90 days'$$),
	('under', '{"value": 0, "unit": "day"}', 'at > m'),
	('under', '{"value": 1.0, "unit": "month"}', $$at > m - interval '1 month'$$),
	('over', '{"value": 90, "unit": "day"}', $$at < m - interval '90 days'$$),
	('over', '{"value": 0, "unit": "hour"}', 'at < m'),
	('over', '{"value": 1000, "unit": "year"}', $$at < m - interval '1000 years'$$),
	('under', '{"value": 400, "unit": "hour"}', $$at > m - interval '400 hours'$$),
	('over', '{"value": 2000, "unit": "hour"}', $$at < m - interval '2000 hours'$$),
	('under', '{"value": 5, "unit": "week"}', $$at > m - interval '5 weeks'$$),
	('over', '{"value": 5, "unit": "week"}', $$at < m - interval '5 weeks'$$),
	('under', '{"value": 2, "unit": "month"}', $$at > m - interval '2 months'$$),
	('over', '{"value": 2, "unit": "month"}', $$at < m - interval '2 months'$$),
	('under', '{"value": 1, "unit": "year"}', $$at > m - interval '1 year'$$),
	('over', '{"value": 1, "unit": "year"}', $$at < m - interval '1 year'$$),
	('within', '{"value1": 30, "value2": 120, "unit": "day"}', $$at >= m - interval '120 days' AND at <= m - interval '30 days'$$),
	('within', '{"value1": 120, "value2": 30, "unit": "day"}', $$at >= m - interval '120 days' AND at <= m - interval '30 days'$$),
	('within', '{"value1": 0, "value2": 500, "unit": "hour"}', $$at >= m - interval '500 hours' AND at <= m$$),
	('within', '{"value1": 1, "value2": 2, "unit": "week"}', $$at >= m - interval '2 weeks' AND at <= m - interval '1 week'$$),
	('within', '{"value1": 1, "value2": 3, "unit": "month"}', $$at >= m - interval '3 months' AND at <= m - interval '1 month'$$),
	('within', '{"value1": 0, "value2": 1, "unit": "year"}', $$at >= m - interval '1 year' AND at <= m$$),
	('between', '{"value1": "2025-03-01", "value2": "2025-04-30"}', $$at >= '2025-03-01 00:00+00' AND at < '2025-05-01 00:00+00'$$),
	('between', '{"value1": "2025-03-01", "value2": "2025-03-01"}', $$at::date = '2025-03-01'$$),
	('between', '{"value1": "2025-03-01T10:00:00Z", "value2": "2025-04-30T23:30:00+02:00"}', $$at >= '2025-03-01 10:00+00' AND at <= '2025-04-30 21:30+00'$$),
	('between', '{"value1": "2025-03-01T06:30", "value2": "2030-01-01"}', $$at >= '2025-03-01 06:30+00'$$),
	('before', '{"value": "2025-04-10"}', $$at < '2025-04-10 00:00+00'$$),
	('before', '{"value": "2025-04-10T04:30:00"}', $$at < '2025-04-10 04:30+00'$$),
	('after', '{"value": "2025-04-10"}', $$at >= '2025-04-11 00:00+00'$$),
	('after', '{"value": "2025-04-10 04:30:00.000Z"}', $$at > '2025-04-10 04:30+00'$$),
	('after', '{"value": "2031-01-01"}', 'false')) AS t (form, rest, hand);
SELECT form, rest, same(act('made_purchase', 'greater_than', '0', t(form, rest)), format(h, hand, '2025-08-25 11:08:39+00'), '2025-08-25 11:08:39+00'),
	   same(act('made_purchase', 'greater_than', '0', t(form, rest)), format(h, hand, '2025-03-31 04:30:00+00'), '2025-03-31 04:30:00+00') AS earlier
FROM forms, (VALUES ('SELECT DISTINCT id FROM (SELECT id, ordered_at AS at, %2$L::timestamptz AS m FROM orders_of) o JOIN customers c ON c.customer_id::text = id
	WHERE created_at <= m AND at <= m AND %1$s')) AS k (h)
ORDER BY form, rest::text COLLATE "C";
-- The same forms on a property that is a point in time, by a clock: a date, with NULLs.
SELECT form, rest, same(r, format(h, hand)), same(op('NOT', r), format('SELECT customer_id FROM customers EXCEPT (%s)', format(h, hand))) AS not
FROM (VALUES ('under', jsonb '{"value": 50, "unit": "year"}', $$at > m - interval '50 years'$$),
			 ('over', '{"value": 660, "unit": "month"}', $$at < m - interval '660 months'$$),
			 ('within', '{"value1": 18500, "value2": 19500, "unit": "day"}', $$at BETWEEN m - interval '19500 days' AND m - interval '18500 days'$$),
			 ('between', '{"value1": "1972-08-06", "value2": "1975-01-01"}', $$at BETWEEN '1972-08-06' AND '1975-01-01'$$),
			 ('before', '{"value": "1972-08-06"}', $$at < '1972-08-06'$$),
			 ('after', '{"value": "1972-08-06"}', $$at > '1972-08-06'$$)) AS f (form, rest, hand),
	 (VALUES ('SELECT customer_id FROM (SELECT customer_id, birthday AS at, timestamp ''2025-08-25 11:08:39'' AS m FROM customers) o WHERE at <= m AND %s')) AS k (h),
	 LATERAL (SELECT jsonb_build_object('type', 'user_property', 'definition', jsonb_build_object('property', jsonb_build_object('property', 'birthday', 'comparator', form) || rest))) AS j (r)
ORDER BY form;

-- Boundaries, to the microsecond: one customer for each side of each, named after it.
CREATE TABLE edges (who text, at timestamptz, local timestamp GENERATED ALWAYS AS (at AT TIME ZONE 'Europe/Berlin') STORED, n int);
CREATE FUNCTION seen(rules jsonb, as_of timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	found text;
BEGIN
	EXECUTE 'SELECT string_agg(customer_identity, '' '' ORDER BY customer_identity COLLATE "C") FROM (' ||
		customer_segmentation.explain_rules(rules, 'customer_id', as_of) || ') AS x' INTO found;
	RETURN coalesce(found, 'nobody');
END $$;
CREATE FUNCTION edge(w text, moment timestamptz) RETURNS void LANGUAGE sql AS $$
	INSERT INTO edges (who, at, n) SELECT w || s, moment + n * interval '1 microsecond', 1 FROM (VALUES ('<', -1), ('=', 0), ('>', 1)) AS v (s, n)
$$;
SELECT unset_sources();
SELECT customer_segmentation.set_source('orders', 'edges', '{"customer_id": "who", "time": "at", "amount": "n"}');
SELECT edge('now', '2025-08-25 12:00+00'), edge('day', '2025-08-24 12:00+00'), edge('hour', '2025-08-25 11:00+00');
SELECT c, seen(act('made_purchase', 'greater_than', '0', c), '2025-08-25 12:00+00')
FROM (VALUES (1, jsonb '{"comparator": "over_all_time"}'), (2, '{"comparator": "under", "value": 1, "unit": "day"}'), (3, '{"comparator": "over", "value": 1, "unit": "day"}'),
	(4, '{"comparator": "under", "value": 1, "unit": "hour"}'), (5, '{"comparator": "over", "value": 0, "unit": "day"}'), (6, '{"comparator": "within", "value1": 1, "value2": 0, "unit": "hour"}'),
	(7, '{"comparator": "within", "value1": 1, "value2": 1, "unit": "day"}'), (8, '{"comparator": "before", "value": "2025-08-24T12:00"}'), (9, '{"comparator": "after", "value": "2025-08-25T11:00:00"}'),
	(10, '{"comparator": "between", "value1": "2025-08-24T12:00", "value2": "2025-08-25T11:00"}')) AS v (n, c) ORDER BY n;
TRUNCATE edges;
SELECT edge('begin', '2025-08-24 00:00+00'), edge('end', '2025-08-25 00:00+00');
SELECT c, seen(act('made_purchase', 'greater_than', '0', c), '2025-08-25 12:00+00')
FROM (VALUES (1, jsonb '{"comparator": "between", "value1": "2025-08-24", "value2": "2025-08-24"}'), (2, '{"comparator": "before", "value": "2025-08-24"}'),
	(3, '{"comparator": "after", "value": "2025-08-24"}')) AS v (n, c) ORDER BY n;

-- The session's time zone is that of the rules here, a segment's own is that of its runs: days begin and months go back
-- by it. The same moments are told by the clock of Berlin in a second source.
SELECT customer_segmentation.set_source('carts', 'edges', '{"customer_id": "who", "time": "local"}');
TRUNCATE edges;
SELECT edge('berlin', '2025-08-23 22:00+00'), edge('york', '2025-08-24 04:00+00');
SET TimeZone = 'Europe/Berlin';
SELECT a, seen(act(a, 'greater_than', '0', '{"comparator": "after", "value": "2025-08-23"}'), '2025-08-25 12:00+00') FROM unnest('{made_purchase,added_to_cart}'::text[]) a;
SET TimeZone = 'America/New_York';
SELECT seen(act('made_purchase', 'greater_than', '0', '{"comparator": "after", "value": "2025-08-23"}'), '2025-08-25 12:00+00');
-- Daylight saving in Berlin began on 30 March 2025 at 01:00 UTC and ended on 26 October: a day back is the same time of
-- day, 24 hours back are not.
SET TimeZone = 'Europe/Berlin';
TRUNCATE edges;
SELECT edge('day', '2025-03-29 11:00+00'), edge('hours', '2025-03-29 10:00+00');
SELECT a, c, seen(act(a, 'greater_than', '0', c), '2025-03-30 10:00+00')
FROM unnest('{made_purchase,added_to_cart}'::text[]) a, (VALUES (1, jsonb '{"comparator": "under", "value": 1, "unit": "day"}'), (2, '{"comparator": "under", "value": 24, "unit": "hour"}')) AS v (n, c) ORDER BY a, n;
TRUNCATE edges;
SELECT edge('day', '2025-10-25 10:00+00'), edge('hours', '2025-10-25 11:00+00');
SELECT a, c, seen(act(a, 'greater_than', '0', c), '2025-10-26 11:00+00')
FROM unnest('{made_purchase,added_to_cart}'::text[]) a, (VALUES (1, jsonb '{"comparator": "under", "value": 1, "unit": "day"}'), (2, '{"comparator": "under", "value": 24, "unit": "hour"}')) AS v (n, c) ORDER BY a, n;
-- The hour that does not exist, the end of a short month, a leap day.
TRUNCATE edges;
SELECT edge('gap', '2025-03-30 01:00+00'), edge('feb', '2025-02-28 11:00+00'), edge('leap', '2024-02-29 11:00+00');
SELECT seen(act('made_purchase', 'greater_than', '0', '{"comparator": "after", "value": "2025-03-30T02:30"}'), '2025-03-31 10:00+00') AS gap,
	   seen(act('made_purchase', 'greater_than', '0', '{"comparator": "under", "value": 1, "unit": "month"}'), '2025-03-31 10:00+00') AS feb,
	   seen(act('made_purchase', 'greater_than', '0', '{"comparator": "over", "value": 1, "unit": "year"}'), '2025-02-28 11:00+00') AS leap;
-- Dates at both ends of what there is.
SELECT seen(act('made_purchase', 'greater_than', '0', '{"comparator": "between", "value1": "0001-01-01", "value2": "9999-12-31"}'), '2025-03-31 10:00+00');
SELECT seen(act('made_purchase', 'greater_than', '0', '{"comparator": "under", "value": 1000, "unit": "year"}'), '0900-01-01 10:00+00');

-- A segment's runs go by its own clock, whatever the session's is.
TRUNCATE edges;
SELECT edge('berlin', '2025-08-23 22:00+00');
SET TimeZone = 'America/New_York';
SELECT customer_segmentation.create_segment('After the 23rd', act('made_purchase', 'greater_than', '0', '{"comparator": "after", "value": "2025-08-23"}'), time_zone => 'Europe/Berlin', segment_id => '0000000000000000000ed9e0');
SELECT customer_segmentation.run_segment('0000000000000000000ed9e0', '2025-08-25 12:00+00');
SELECT customer_identity, num_of_orders, total_revenue FROM customer_segmentation_table WHERE segment_id = '0000000000000000000ed9e0' ORDER BY customer_identity COLLATE "C";
SELECT customer_segmentation.drop_segment('0000000000000000000ed9e0', false);
RESET TimeZone;
SELECT unset_sources();
SELECT set_sources();
DROP TABLE edges;
DROP VIEW forms;
DROP FUNCTION t, edge, seen;
