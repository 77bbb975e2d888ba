-- What members ordered before a date and after it: by the caller's source of orders, under the caller's eyes.
-- A role of its own, which has set no sources yet.
CREATE ROLE regress_shop SUPERUSER;
SET SESSION AUTHORIZATION regress_shop;
SET TimeZone = 'America/New_York';
SET DateStyle = 'ISO, MDY';
SET customer_segmentation.as_of = '2025-03-01 12:00+00';
-- Other tests may have left one.
SELECT customer_segmentation.set_source('orders', NULL);
CREATE TABLE perf (LIKE customer_segmentation_table) USING customer_segmentation;
INSERT INTO perf
SELECT c::text, d + interval '10 hours', 'once_a_day', 'customer_id', '2025-01-01', '5f5f5f5f5f5f5f5f5f5f5f5' || s,
	   '5f5f5f5f5f5f5f5f5f5f5f5' || s || to_char(d, '_YYYY_MM_DD'), 'Segment ' || s, 1, 1, 1
FROM generate_series(1, 2) s, generate_series(timestamp '2025-03-01', '2025-03-20', '1 day') d, generate_series(1, 60) c
WHERE (c * 7 + s * 13 + extract(day FROM d)::int * 3) % 10 < 4 + s;
INSERT INTO perf
SELECT 'c' || c || '@example.com', '2025-03-05 09:00', 'once_a_day', 'email', '2025-01-01', '5f5f5f5f5f5f5f5f5f5f5f53',
	   '5f5f5f5f5f5f5f5f5f5f5f53_2025_03_05', 'By mail', 1, 1, 1
FROM generate_series(1, 25) c;
CREATE TABLE perf_customers (id int PRIMARY KEY, mail text COLLATE "C");
INSERT INTO perf_customers SELECT c, 'c' || c || '@example.com' FROM generate_series(1, 60) c;
-- Of some orders only the customer is known, of some only the address; one is on the very moment.
CREATE TABLE perf_orders (customer_id int, email varchar(40) COLLATE "C", ordered_at timestamptz NOT NULL, local_time timestamp, day date, amount numeric(10, 2), price real);
INSERT INTO perf_orders
SELECT CASE WHEN n % 7 > 0 THEN c END, CASE WHEN n % 7 = 0 THEN 'c' || c || '@example.com' END, at, at AT TIME ZONE 'Europe/Berlin',
	   (at AT TIME ZONE 'Europe/Berlin')::date, CASE WHEN n % 11 > 0 THEN c + n % 5 + 0.25 END, n % 9 + 0.5
FROM generate_series(1, 700) n, LATERAL (SELECT n * 17 % 75 AS c, timestamptz '2025-02-01 00:00+00' + n * interval '107 minutes' AS at) x;
INSERT INTO perf_orders SELECT 8, NULL, m, m AT TIME ZONE 'Europe/Berlin', (m AT TIME ZONE 'Europe/Berlin')::date, 1000, 1
FROM unnest('{2025-03-10 00:00+00,2025-03-09 23:59:59.999999+00}'::timestamptz[]) m;

SELECT error_of($$SELECT * FROM customer_segmentation.segment_performance('5f5f5f5f5f5f5f5f5f5f5f51', '2025-03-10', relation => 'perf')$$);
SELECT customer_segmentation.set_source('orders', 'perf_orders', '{"customer_id": "customer_id", "time": "ordered_at", "amount": "amount"}');
SELECT customer_segmentation.set_source('customers', 'perf_customers', '{"customer_id": "id", "email": "mail"}');

CREATE FUNCTION twin_performance(ids text[], start timestamptz, pinned timestamptz, till timestamptz, by_email boolean DEFAULT false, by_mail_too boolean DEFAULT false)
RETURNS TABLE (period text, period_start timestamptz, period_end timestamptz, members bigint, customers bigint, orders bigint,
			   revenue numeric, average_order_value numeric, purchase_frequency numeric) LANGUAGE sql AS $$
	WITH m AS (SELECT DISTINCT customer_identity FROM perf WHERE segment_instance_id = ANY (ids)),
	o AS (SELECT CASE WHEN by_email THEN 'c' || coalesce(customer_id::text, CASE WHEN by_mail_too THEN substring(email, '[0-9]+') END) || '@example.com'
					  ELSE coalesce(customer_id::text, CASE WHEN by_mail_too THEN substring(email, '[0-9]+') END) END AS c, ordered_at, amount FROM perf_orders),
	p AS (VALUES ('before', start, pinned), ('after', pinned, till))
	SELECT p.column1, p.column2, p.column3, (SELECT count(*) FROM m), count(DISTINCT o.c), count(o.c), coalesce(sum(o.amount), 0),
		   coalesce(sum(o.amount), 0) / nullif(count(o.c), 0), count(o.c)::numeric / nullif(count(DISTINCT o.c), 0)
	FROM p LEFT JOIN o ON o.ordered_at >= p.column2 AND o.ordered_at < p.column3 AND o.c IN (SELECT customer_identity FROM m)
	GROUP BY 1, 2, 3
$$;
CREATE FUNCTION same(ours text, theirs text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE differ bigint;
BEGIN
	EXECUTE format('SELECT (SELECT count(*) FROM ((%1$s) EXCEPT (%2$s)) x) + (SELECT count(*) FROM ((%2$s) EXCEPT (%1$s)) x)', ours, theirs) INTO differ;
	RETURN differ || ' differ';
END $$;

-- Members of the instance of that moment; the windows are those of the session's clock, across a change of it.
SELECT period, period_start, period_end, members, customers, orders, revenue, round(average_order_value, 4) AS aov, round(purchase_frequency, 4) AS frequency
FROM customer_segmentation.segment_performance('5f5f5f5f5f5f5f5f5f5f5f51', '2025-03-10 00:00+00', '7 days', relation => 'perf');
SELECT same($$SELECT * FROM customer_segmentation.segment_performance('5f5f5f5f5f5f5f5f5f5f5f51', '2025-03-10 00:00+00', '7 days', relation => 'perf')$$,
	$$SELECT * FROM twin_performance('{5f5f5f5f5f5f5f5f5f5f5f51_2025_03_09}', '2025-03-03 01:00+00', '2025-03-10 00:00+00', '2025-03-17 00:00+00')$$);
SELECT same($$SELECT * FROM customer_segmentation.segment_performance('5f5f5f5f5f5f5f5f5f5f5f51', '2025-03-10 00:00+00', '168 hours', relation => 'perf')$$,
	$$SELECT * FROM twin_performance('{5f5f5f5f5f5f5f5f5f5f5f51_2025_03_09}', '2025-03-03 00:00+00', '2025-03-10 00:00+00', '2025-03-17 00:00+00')$$);
-- Members of any of several instances.
SELECT same($$SELECT * FROM customer_segmentation.segment_performance('5f5f5f5f5f5f5f5f5f5f5f52', '2025-03-10 00:00+00', '10 days', '2025-03-03 10:00', '2025-03-05 23:00', 'perf')$$,
	$$SELECT * FROM twin_performance('{5f5f5f5f5f5f5f5f5f5f5f52_2025_03_03,5f5f5f5f5f5f5f5f5f5f5f52_2025_03_04,5f5f5f5f5f5f5f5f5f5f5f52_2025_03_05}',
	 '2025-02-28 01:00+00', '2025-03-10 00:00+00', '2025-03-20 00:00+00')$$);
SELECT same($$SELECT * FROM customer_segmentation.segment_performance('5f5f5f5f5f5f5f5f5f5f5f52', '2025-03-10 00:00+00', '1 month', instances_to => '2025-03-02 00:00', relation => 'perf')$$,
	$$SELECT * FROM twin_performance('{5f5f5f5f5f5f5f5f5f5f5f52_2025_03_01}', '2025-02-10 01:00+00', '2025-03-10 00:00+00', '2025-04-10 00:00+00')$$);
SELECT period, members FROM customer_segmentation.segment_performance('5f5f5f5f5f5f5f5f5f5f5f52', '2025-03-10', instances_from => '2025-03-02', relation => 'perf');
-- A table that inherits from it has members of its own.
CREATE TABLE perf_heir () INHERITS (perf) USING customer_segmentation;
INSERT INTO perf_heir SELECT 'heir', instance_created_date, schedule, segment_by, segment_created_date, segment_id, segment_instance_id,
	segment_name, 1, 1, 1 FROM perf WHERE segment_instance_id = '5f5f5f5f5f5f5f5f5f5f5f51_2025_03_09' LIMIT 1;
SELECT (SELECT count(*) FROM customer_segmentation.identities(customer_segmentation.members('5f5f5f5f5f5f5f5f5f5f5f51_2025_03_09', 'perf'))) = p.members
	AS same FROM customer_segmentation.segment_performance('5f5f5f5f5f5f5f5f5f5f5f51', '2025-03-10 00:00+00', '7 days', relation => 'perf') AS p;
DROP TABLE perf_heir;
-- No instance yet: unknown. No orders: no averages.
SELECT * FROM customer_segmentation.segment_performance('5f5f5f5f5f5f5f5f5f5f5f51', '2025-02-20', '1 day', relation => 'perf');
SELECT * FROM customer_segmentation.segment_performance('5f5f5f5f5f5f5f5f5f5f5f51', '2026-01-01', '1 day', relation => 'perf');
-- By mail: orders without an address have it by the source of customers; without that source the address must be mapped.
SELECT same($$SELECT * FROM customer_segmentation.segment_performance('5f5f5f5f5f5f5f5f5f5f5f53', '2025-03-10 00:00+00', '240 hours', relation => 'perf')$$,
	$$SELECT * FROM twin_performance('{5f5f5f5f5f5f5f5f5f5f5f53_2025_03_05}', '2025-02-28 00:00+00', '2025-03-10 00:00+00', '2025-03-20 00:00+00', true)$$);
SELECT customer_segmentation.set_source('orders', 'perf_orders', '{"customer_id": "customer_id", "email": "email", "time": "ordered_at", "amount": "amount"}');
SELECT same($$SELECT * FROM customer_segmentation.segment_performance('5f5f5f5f5f5f5f5f5f5f5f53', '2025-03-10 00:00+00', '240 hours', relation => 'perf')$$,
	$$SELECT * FROM twin_performance('{5f5f5f5f5f5f5f5f5f5f5f53_2025_03_05}', '2025-02-28 00:00+00', '2025-03-10 00:00+00', '2025-03-20 00:00+00', true, true)$$);
SELECT same($$SELECT * FROM customer_segmentation.segment_performance('5f5f5f5f5f5f5f5f5f5f5f51', '2025-03-10 00:00+00', '240 hours', relation => 'perf')$$,
	$$SELECT * FROM twin_performance('{5f5f5f5f5f5f5f5f5f5f5f51_2025_03_09}', '2025-02-28 00:00+00', '2025-03-10 00:00+00', '2025-03-20 00:00+00', false, true)$$);
SELECT customer_segmentation.set_source('customers', NULL);
SELECT customer_segmentation.set_source('orders', 'perf_orders', '{"customer_id": "customer_id", "time": "ordered_at", "amount": "amount"}');
SELECT error_of($$SELECT * FROM customer_segmentation.segment_performance('5f5f5f5f5f5f5f5f5f5f5f53', '2025-03-10', relation => 'perf')$$);

-- A defined segment: its clock; dates and times without a zone are by that clock.
SELECT customer_segmentation.create_segment('Defined', 'SELECT 1::text', segment_id => '5f5f5f5f5f5f5f5f5f5f5f51', time_zone => 'Europe/Berlin', relation => 'perf');
SELECT customer_segmentation.set_source('orders', 'perf_orders', '{"customer_id": "customer_id", "time": "local_time", "amount": "amount"}');
SELECT same($$SELECT * FROM customer_segmentation.segment_performance('5f5f5f5f5f5f5f5f5f5f5f51', '2025-03-10 00:00+00', '7 days', relation => 'perf')$$,
	$$SELECT * FROM twin_performance('{5f5f5f5f5f5f5f5f5f5f5f51_2025_03_09}', '2025-03-03 00:00+00', '2025-03-10 00:00+00', '2025-03-17 00:00+00')$$);
SELECT customer_segmentation.set_source('orders', 'perf_orders', '{"customer_id": "customer_id", "time": "day", "amount": "price"}');
SELECT period, customers > 0 AS some, revenue, orders FROM customer_segmentation.segment_performance('5f5f5f5f5f5f5f5f5f5f5f51', '2025-03-09 23:00+00', '7 days', relation => 'perf');
SELECT sum(price::numeric) AS revenue, count(*) AS orders FROM perf_orders WHERE day BETWEEN '2025-03-10' AND '2025-03-16'
	AND customer_id::text IN (SELECT customer_identity FROM perf WHERE segment_instance_id = '5f5f5f5f5f5f5f5f5f5f5f51_2025_03_09');
SELECT customer_segmentation.set_source('orders', 'perf_orders', '{"customer_id": "customer_id", "time": "ordered_at", "amount": "amount"}');
-- A source that has lost what it was set to.
ALTER TABLE perf_orders RENAME COLUMN amount TO worth;
SELECT error_of($$SELECT * FROM customer_segmentation.segment_performance('5f5f5f5f5f5f5f5f5f5f5f51', '2025-03-10', relation => 'perf')$$);
ALTER TABLE perf_orders RENAME COLUMN worth TO amount;
ALTER TABLE perf_orders RENAME COLUMN customer_id TO buyer;
SELECT error_of($$SELECT * FROM customer_segmentation.segment_performance('5f5f5f5f5f5f5f5f5f5f5f51', '2025-03-10', relation => 'perf')$$);
ALTER TABLE perf_orders RENAME COLUMN buyer TO customer_id;
CREATE TABLE perf_lost (id int, mail text);
SELECT customer_segmentation.set_source('customers', 'perf_lost', '{"customer_id": "id", "email": "mail"}');
ALTER TABLE perf_lost DROP COLUMN mail;
SELECT error_of($$SELECT * FROM customer_segmentation.segment_performance('5f5f5f5f5f5f5f5f5f5f5f53', '2025-03-10', relation => 'perf')$$);
DROP TABLE perf_lost;
SELECT error_of($$SELECT * FROM customer_segmentation.segment_performance('5f5f5f5f5f5f5f5f5f5f5f53', '2025-03-10', relation => 'perf')$$);
SELECT customer_segmentation.set_source('customers', NULL);

-- Another's eyes: SELECT on the orders, and their policies.
CREATE ROLE regress_analyst;
GRANT SELECT ON perf TO regress_analyst;
CREATE FUNCTION orders_of(segment text DEFAULT '5f5f5f5f5f5f5f5f5f5f5f51') RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(period || ' ' || orders, ', ' ORDER BY period DESC) FROM customer_segmentation.segment_performance(segment, '2025-03-10 00:00+00', '7 days', relation => 'perf')
$$;
SELECT orders_of();
-- The owner has a source, the caller has none.
SET ROLE regress_analyst;
SELECT error_of('SELECT orders_of()');
SELECT error_of($$SELECT customer_segmentation.set_source('orders', 'perf_orders', '{"customer_id": "customer_id", "time": "ordered_at", "amount": "amount"}')$$);
RESET ROLE;
GRANT SELECT (customer_id, ordered_at, amount) ON perf_orders TO regress_analyst;
SET ROLE regress_analyst;
SELECT customer_segmentation.set_source('orders', 'perf_orders', '{"customer_id": "customer_id", "time": "ordered_at", "amount": "amount"}');
SELECT orders_of();
-- A segment that nobody has defined is no different.
SELECT orders_of('5f5f5f5f5f5f5f5f5f5f5f52');
-- A source is no privilege.
RESET ROLE;
REVOKE SELECT (amount) ON perf_orders FROM regress_analyst;
SET ROLE regress_analyst;
SELECT error_of('SELECT orders_of()');
RESET ROLE;
GRANT SELECT (amount) ON perf_orders TO regress_analyst;
ALTER TABLE perf_orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY few ON perf_orders USING (customer_id < 20);
SET ROLE regress_analyst;
SELECT orders_of();
SELECT customer_segmentation.set_source('orders', NULL);
RESET ROLE;

-- The owner of a segment can't choose what others execute: sources that are views with functions in them.
CREATE ROLE regress_evil;
GRANT SELECT, INSERT, DELETE ON perf TO regress_evil;
CREATE SCHEMA evil AUTHORIZATION regress_evil;
SET ROLE regress_evil;
CREATE FUNCTION evil.rise() RETURNS numeric LANGUAGE plpgsql AS $$
BEGIN
	IF current_user <> 'regress_evil' THEN
		RAISE NOTICE 'executed as %', current_user;
	END IF;
	IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
		ALTER ROLE regress_evil SUPERUSER;
	END IF;
	RETURN 1;
END $$;
CREATE VIEW evil.orders AS SELECT 'c1@example.com' AS email, '1' AS customer_id, timestamptz '2025-03-11 00:00+00' AS at, evil.rise() AS amount;
CREATE VIEW evil.customers AS SELECT evil.rise()::text AS customer_id, 'c1@example.com' AS email;
SELECT customer_segmentation.set_source('orders', 'evil.orders', '{"customer_id": "customer_id", "email": "email", "time": "at", "amount": "amount"}');
SELECT customer_segmentation.set_source('customers', 'evil.customers', '{"customer_id": "customer_id", "email": "email"}');
SELECT customer_segmentation.create_segment('Bait', $$SELECT 'c1@example.com'$$, segment_by => 'email', segment_id => '5f5f5f5f5f5f5f5f5f5f5f53', relation => 'perf');
GRANT USAGE ON SCHEMA evil TO PUBLIC;
GRANT SELECT ON evil.orders, evil.customers TO PUBLIC;
-- It works, for the owner and as the owner.
SELECT orders_of('5f5f5f5f5f5f5f5f5f5f5f53');
RESET ROLE;
-- A superuser without sources, with another source, and with one that the owner's customers would complete; and anybody.
SELECT customer_segmentation.set_source('orders', NULL);
SELECT error_of($$SELECT orders_of('5f5f5f5f5f5f5f5f5f5f5f53')$$);
SELECT customer_segmentation.set_source('orders', 'perf_orders', '{"email": "email", "time": "ordered_at", "amount": "amount"}');
SELECT orders_of('5f5f5f5f5f5f5f5f5f5f5f53');
SELECT customer_segmentation.set_source('orders', 'perf_orders', '{"customer_id": "customer_id", "time": "ordered_at", "amount": "amount"}');
SELECT error_of($$SELECT orders_of('5f5f5f5f5f5f5f5f5f5f5f53')$$);
SET ROLE regress_analyst;
SELECT error_of($$SELECT orders_of('5f5f5f5f5f5f5f5f5f5f5f53')$$);
RESET ROLE;
-- Nor by giving the segment away: its owner is who asks, but the sources stay behind.
SELECT customer_segmentation.alter_segment('5f5f5f5f5f5f5f5f5f5f5f53', owner => 'regress_shop');
SELECT error_of($$SELECT orders_of('5f5f5f5f5f5f5f5f5f5f5f53')$$);
SELECT rolsuper FROM pg_roles WHERE rolname = 'regress_evil';
SELECT customer_segmentation.drop_segment('5f5f5f5f5f5f5f5f5f5f5f53');
SET ROLE regress_evil;
SELECT customer_segmentation.set_source('orders', NULL), customer_segmentation.set_source('customers', NULL);
RESET ROLE;
SET client_min_messages = warning;
DROP SCHEMA evil CASCADE;
RESET client_min_messages;

SELECT error_of($$SELECT * FROM customer_segmentation.segment_performance('5f5f5f5f5f5f5f5f5f5f5f59', '2025-03-10', relation => 'perf')$$);
SELECT error_of($$SELECT * FROM customer_segmentation.segment_performance('5f5f5f5f5f5f5f5f5f5f5f51', '2025-03-10', '-1 day', relation => 'perf')$$);
SELECT error_of($$SELECT * FROM customer_segmentation.segment_performance('5f5f5f5f5f5f5f5f5f5f5f51', 'infinity', relation => 'perf')$$);
SELECT count(*) FROM customer_segmentation.segment_performance('5f5f5f5f5f5f5f5f5f5f5f51', NULL, relation => 'perf');
SELECT customer_segmentation.set_source('orders', NULL);
SELECT customer_segmentation.drop_segment('5f5f5f5f5f5f5f5f5f5f5f51');
DROP FUNCTION orders_of, same, twin_performance;
DROP TABLE perf, perf_orders, perf_customers;
DROP ROLE regress_analyst, regress_evil;
RESET customer_segmentation.as_of;
RESET DateStyle;
RESET TimeZone;
RESET SESSION AUTHORIZATION;
DROP ROLE regress_shop;
