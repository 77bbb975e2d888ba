-- Backfill: what runs at those moments would have stored, and nothing that would be a lie.
SET TimeZone = 'UTC';
CREATE TABLE shop_orders (customer_id int, email text, ordered_at timestamptz, amount numeric(10, 2));
INSERT INTO shop_orders
SELECT c, 'c' || c || '@example.com', timestamptz '2024-12-20 12:00+00' + c * interval '7 hours' + o * interval '9 days', c * 1.25 + o
FROM generate_series(1, 60) c, generate_series(1, 12) o WHERE (c * o) % 5 > 0;
CREATE TABLE shop_customers (customer_id int PRIMARY KEY, email text UNIQUE, city text, first_seen timestamptz);
INSERT INTO shop_customers SELECT customer_id, email, 'City ' || customer_id % 3, min(ordered_at) FROM shop_orders GROUP BY 1, 2;
SELECT customer_segmentation.set_source('orders', 'shop_orders', '{"customer_id": "customer_id", "email": "email", "time": "ordered_at", "amount": "amount"}');
SELECT customer_segmentation.set_source('customers', 'shop_customers', '{"customer_id": "customer_id", "email": "email", "city": "city", "time": "first_seen"}');

-- Twins: each definition as two segments, one backfilled, the other run for each period.
CREATE TABLE twins (n int, name text, definition text, rules jsonb, segment_by text, schedule text, zone text);
INSERT INTO twins VALUES
	(1, 'Buyers', 'SELECT customer_id, count(*), sum(amount) FROM shop_orders WHERE ordered_at <= customer_segmentation.as_of() GROUP BY 1', NULL, 'customer_id', 'once_a_day', 'UTC'),
	(2, 'Recent', $$SELECT email, count(*) FROM shop_orders WHERE ordered_at <= customer_segmentation.as_of() AND ordered_at > customer_segmentation.as_of() - interval '10 days' GROUP BY 1$$, NULL, 'email', 'once_every_other_day', 'America/New_York'),
	(3, 'Twice', NULL, '{"type":"AND","filters":[{"type":"user_action","definition":{"action":{"type":"made_purchase","comparator":"greater_than","value":1},"time":{"comparator":"under","value":20,"unit":"day"}}}]}', 'email', 'once_a_week', 'Europe/Berlin'),
	(4, 'Hourly', NULL, '{"type":"AND","filters":[{"type":"user_action","definition":{"action":{"type":"made_purchase","comparator":"equal","value":1},"time":{"comparator":"over_all_time"}}}]}', 'customer_id', 'every_hour', 'Europe/Berlin'),
	(5, 'Monthly', 'SELECT DISTINCT customer_id FROM shop_orders WHERE ordered_at < customer_segmentation.as_of()', NULL, 'customer_id', 'once_a_month', 'Asia/Kolkata'),
	(6, 'Half days', 'SELECT DISTINCT ON (customer_id) customer_id, NULL::int, amount::float8 FROM shop_orders WHERE ordered_at < customer_segmentation.as_of() AND customer_id < 30 ORDER BY customer_id, ordered_at DESC', NULL, 'customer_id', 'twice_a_day', 'Europe/Berlin'),
	(7, 'By hand', 'SELECT customer_id FROM shop_orders WHERE ordered_at < customer_segmentation.as_of() GROUP BY 1 HAVING count(*) = 7', NULL, 'customer_id', 'manual', 'Pacific/Apia');
SET customer_segmentation.as_of = '2025-05-31 07:15+00';
SELECT count(CASE WHEN rules IS NULL
	THEN customer_segmentation.create_segment(name || k, definition, segment_by, schedule, zone, repeat(n || k, 12))
	ELSE customer_segmentation.create_segment(name || k, rules, segment_by, schedule, zone, repeat(n || k, 12)) END)
FROM twins, unnest('{a,b}'::text[]) k;
SET customer_segmentation.as_of = '2025-05-31 23:00+00';
CREATE TABLE backfilled AS
SELECT n, b.* FROM twins, LATERAL customer_segmentation.backfill_segment(repeat(n || 'a', 12),
	CASE schedule WHEN 'every_hour' THEN '2025-01-05'::timestamptz WHEN 'once_a_month' THEN '2024-11-30' ELSE '2025-02-20' END,
	CASE schedule WHEN 'every_hour' THEN '2025-01-08'::timestamptz WHEN 'twice_a_day' THEN '2025-03-01' ELSE '2025-05-31' END) b;
-- Spring, when Berlin's clock skips an hour.
INSERT INTO backfilled SELECT n, b.* FROM twins, LATERAL customer_segmentation.backfill_segment(repeat(n || 'a', 12), '2025-03-29 20:00+00', '2025-03-30 04:00+00') b
WHERE n IN (4, 6);
SELECT n, count(*), min(as_of) AS first_moment, max(as_of) AS last_moment, min(num_of_customers) AS fewest,
	max(num_of_customers) AS most, array_agg(DISTINCT action) AS actions
FROM backfilled GROUP BY n ORDER BY n;
SELECT substr(segment_instance_id, 25) AS instance, as_of FROM backfilled WHERE n = 4 AND as_of > '2025-03-29' ORDER BY as_of;
SELECT substr(segment_instance_id, 25) AS instance, as_of FROM backfilled WHERE n = 5 ORDER BY as_of;
-- One run for each.
SELECT count(DISTINCT customer_segmentation.run_segment(replace(substr(segment_instance_id, 1, 24), 'a', 'b'), as_of)) FROM backfilled;
CREATE VIEW as_rows AS
SELECT substr(segment_id, 1, 2) AS twin, customer_identity, instance_created_date, schedule, segment_by, segment_created_date,
	substr(segment_instance_id, 25) AS instance, num_of_customers, num_of_orders, total_revenue::text, trim('ab' FROM segment_name) AS name
FROM customer_segmentation_table;
SELECT count(*) AS rows, count(*) FILTER (WHERE twin LIKE '_a') AS backfilled FROM as_rows;
SELECT count(*) AS differences FROM (SELECT left(twin, 1), customer_identity, instance_created_date, schedule, segment_by, segment_created_date, instance, num_of_customers, num_of_orders, total_revenue, name FROM as_rows WHERE twin LIKE '_a'
	EXCEPT ALL SELECT left(twin, 1), customer_identity, instance_created_date, schedule, segment_by, segment_created_date, instance, num_of_customers, num_of_orders, total_revenue, name FROM as_rows WHERE twin LIKE '_b') d;
-- And by hand.
SELECT count(*) AS differences FROM (
	SELECT b.segment_instance_id, o.customer_id::text, count(*), sum(o.amount) FROM backfilled b JOIN shop_orders o ON o.ordered_at <= b.as_of
	WHERE b.n = 1 GROUP BY 1, 2
	EXCEPT SELECT segment_instance_id, customer_identity, num_of_orders, total_revenue FROM customer_segmentation_table WHERE segment_id = repeat('1a', 12)) d;
-- What the views say of them.
SELECT substr(segment_id, 1, 2) AS twin, backfilled, pinned, current_state, count(*) FROM customer_segmentation.segment_instances GROUP BY 1, 2, 3, 4 ORDER BY 1;
SELECT n, kind, status, count(*), bool_and(ended_at >= started_at) AS timed, bool_and(rows = num_of_customers) AS counted
FROM customer_segmentation.segment_runs r JOIN backfilled b USING (segment_instance_id, as_of) WHERE kind = 'backfill' GROUP BY 1, 2, 3 ORDER BY 1;
SELECT count(*) AS never_run FROM customer_segmentation.segment_health WHERE never_run;
SELECT * FROM customer_segmentation.verify();

-- Again: what was backfilled is computed anew, what a run has stored stays, unless it may be replaced; a pinned one stays always.
DELETE FROM shop_orders WHERE customer_id = 7;
SELECT customer_segmentation.run_segment(repeat('1a', 12), '2025-05-21 12:00+00');
SELECT customer_segmentation.pin_instance(repeat('1a', 12) || '_2025_05_22');
SELECT substr(segment_instance_id, 25) AS instance, num_of_customers, action FROM customer_segmentation.backfill_segment(repeat('1a', 12), '2025-05-20', '2025-05-23');
INSERT INTO shop_orders VALUES (7, 'c7@example.com', '2025-02-01', 1);
SELECT substr(segment_instance_id, 25) AS instance, num_of_customers, action FROM customer_segmentation.backfill_segment(repeat('1a', 12), '2025-05-20', '2025-05-23', replace_runs => true);
SELECT substr(segment_instance_id, 25) AS instance, num_of_customers, pinned, backfilled FROM customer_segmentation.segment_instances
WHERE segment_id = repeat('1a', 12) AND instance_created_date BETWEEN '2025-05-20' AND '2025-05-24' ORDER BY 1;
-- A run takes the mark of the backfill off, and the pin stays.
SELECT customer_segmentation.run_segment(repeat('1a', 12), '2025-05-22 12:00+00');
SELECT pinned, backfilled FROM customer_segmentation.segment_instances WHERE segment_instance_id = repeat('1a', 12) || '_2025_05_22';
-- No period is due before the end of the time, or before now.
SELECT * FROM customer_segmentation.backfill_segment(repeat('5a', 12), '2025-05-02', '2025-05-20');
SELECT as_of FROM customer_segmentation.backfill_segment(repeat('4a', 12), '2025-05-31 20:30', '2025-06-30');

-- What would be a lie.
SELECT customer_segmentation.create_segment('Undated', 'SELECT customer_id FROM shop_customers', segment_id => 'd00000000000000000000001');
SELECT customer_segmentation.create_segment('In a city', '{"type":"AND","filters":[{"type":"user_property","definition":{"property":{"property":"city","comparator":"equal","value":"City 1"}}}]}'::jsonb, segment_id => 'd00000000000000000000002');
SELECT error_of($$SELECT customer_segmentation.backfill_segment('d00000000000000000000001', '2025-05-01', '2025-05-02')$$);
SELECT error_of($$SELECT customer_segmentation.backfill_segment('d00000000000000000000002', '2025-05-01', '2025-05-02')$$);
SELECT count(*) FROM customer_segmentation.segment_instances WHERE segment_id LIKE 'd0000%';
SELECT s.segment_id, b.num_of_customers, b.action FROM customer_segmentation.segments s, customer_segmentation.backfill_segment(s.segment_id, '2025-05-01', '2025-05-01', allow_current_state => true) b
WHERE s.segment_id LIKE 'd0000%' ORDER BY 1;
SELECT segment_name, backfilled, current_state FROM customer_segmentation.segment_instances WHERE segment_id LIKE 'd0000%' ORDER BY 1;
-- A run of a period that has ended is marked as well, but as a run's: a backfill keeps it. A run of today is not, nor one that asks for its moment.
SELECT count(customer_segmentation.run_segment(segment_id, m)) FROM customer_segmentation.segments, unnest(ARRAY['2025-05-02 12:00+00', clock_timestamp()]) m WHERE segment_id LIKE 'd0000%';
SELECT customer_segmentation.run_segment(repeat('1a', 12), '2025-05-02 12:00+00');
SELECT segment_name, instance_created_date < '2025-06-01' AS past, backfilled, current_state FROM customer_segmentation.segment_instances
WHERE (segment_id LIKE 'd0000%' OR segment_instance_id = repeat('1a', 12) || '_2025_05_02') AND instance_created_date > '2025-05-02' AND (segment_id LIKE 'd%' OR instance_created_date < '2025-05-03')
ORDER BY segment_name COLLATE "C", instance_created_date;
SELECT customer_segmentation.pin_instance('d00000000000000000000001_2025_05_02'), customer_segmentation.pin_instance('d00000000000000000000001_2025_05_02', false);
SELECT pinned, backfilled, current_state FROM customer_segmentation.segment_instances WHERE segment_instance_id = 'd00000000000000000000001_2025_05_02';
SELECT substr(segment_instance_id, 25) AS instance, action FROM customer_segmentation.backfill_segment('d00000000000000000000001', '2025-05-02', '2025-05-03', allow_current_state => true);
-- Who was in another segment is not known where that has no instance of the time.
SELECT customer_segmentation.create_segment('Not twice', '{"type":"AND","filters":[{"type":"user_action","definition":{"action":{"type":"made_purchase","comparator":"greater_than","value":0},"time":{"comparator":"over_all_time"}}},{"type":"segment_relation","definition":{"property":{"value":"111111111111111111111111","comparator":"is_not"}}}]}'::jsonb
	, segment_id => 'd00000000000000000000003')
WHERE customer_segmentation.create_segment('Basis', (SELECT replace(definition, '= 7', '= 3') FROM twins WHERE n = 7), segment_id => '111111111111111111111111') IS NOT NULL;
SELECT error_of($$SELECT customer_segmentation.backfill_segment('d00000000000000000000003', '2025-01-01', '2025-01-20')$$);
SELECT count(*), sum(num_of_customers) FROM customer_segmentation.backfill_segment('111111111111111111111111', '2025-01-02', '2025-01-20');
SELECT error_of($$SELECT customer_segmentation.backfill_segment('d00000000000000000000003', '2025-01-01', '2025-01-20')$$);
SELECT count(*), sum(num_of_customers) FROM customer_segmentation.backfill_segment('d00000000000000000000003', '2025-01-02', '2025-01-20');
-- An instance of which nobody is a member leaves no rows, but is known to have been evaluated.
SELECT count(*), sum(num_of_customers) FROM customer_segmentation.backfill_segment('111111111111111111111111', '2024-11-02', '2024-11-04');
SELECT count(*), sum(num_of_customers) FROM customer_segmentation.backfill_segment('d00000000000000000000003', '2024-11-02', '2024-11-04');

-- A run that found nobody is a run: kept, unless it may be replaced. What a backfill found empty is computed anew.
CREATE TABLE empty_days (customer_id int, at timestamptz);
SELECT customer_segmentation.create_segment('Empty', 'SELECT customer_id FROM empty_days WHERE at < customer_segmentation.as_of()', segment_id => 'd00000000000000000000008');
SELECT num_of_customers, action FROM customer_segmentation.backfill_segment('d00000000000000000000008', '2025-05-10', '2025-05-11');
SELECT customer_segmentation.run_segment('d00000000000000000000008', '2025-05-10 12:00+00');
INSERT INTO empty_days VALUES (1, '2025-05-01');
SELECT substr(segment_instance_id, 25) AS instance, num_of_customers, action FROM customer_segmentation.backfill_segment('d00000000000000000000008', '2025-05-10', '2025-05-12');
SELECT substr(segment_instance_id, 25) AS instance, num_of_customers, action FROM customer_segmentation.backfill_segment('d00000000000000000000008', '2025-05-10', '2025-05-12', replace_runs => true);
SELECT substr(segment_instance_id, 25) AS instance, num_of_customers, action FROM customer_segmentation.backfill_segment('d00000000000000000000008', '2025-05-10', '2025-05-10');

-- An error leaves everything as it was.
SELECT customer_segmentation.create_segment('Fails late', $$SELECT customer_id, 1 / (CASE WHEN customer_segmentation.as_of() < '2025-04-01' THEN 1 ELSE 0 END) FROM shop_customers$$,
	segment_id => 'd00000000000000000000004');
SELECT error_of($$SELECT customer_segmentation.backfill_segment('d00000000000000000000004', '2025-01-01', '2025-05-02')$$);
SELECT count(*) FROM customer_segmentation.segment_instances WHERE segment_id = 'd00000000000000000000004';
SELECT count(*) FROM customer_segmentation.segment_runs WHERE segment_id = 'd00000000000000000000004';
SELECT customer_segmentation.create_segment('Doubles', 'SELECT customer_id FROM shop_orders WHERE ordered_at < customer_segmentation.as_of()', segment_id => 'd00000000000000000000005');
SELECT error_of($$SELECT customer_segmentation.backfill_segment('d00000000000000000000005', '2024-12-20', '2025-01-20')$$);
SELECT error_of($$SELECT customer_segmentation.backfill_segment('d000000000000000000000ff', '2024-12-20', '2025-01-20')$$);
SELECT error_of($$SELECT customer_segmentation.backfill_segment('d00000000000000000000005', '2025-12-20', '2025-01-20')$$);
SELECT error_of($$SELECT customer_segmentation.backfill_segment('d00000000000000000000005', '-infinity', '2025-01-20')$$);
SELECT error_of($$SELECT customer_segmentation.backfill_segment('d00000000000000000000005', '2025-01-20', NULL)$$);
SELECT error_of($$SELECT customer_segmentation.backfill_segment('d00000000000000000000005', '1400-01-20', '2025-01-20')$$);
BEGIN TRANSACTION READ ONLY;
SELECT error_of($$SELECT customer_segmentation.backfill_segment('d00000000000000000000005', '2025-01-20', '2025-01-20')$$);
COMMIT;

-- It says how far it is, and can be cancelled.
SELECT customer_segmentation.create_segment('Progress', $$SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid() AND customer_segmentation.as_of() IS NOT NULL$$,
	segment_id => 'd00000000000000000000006');
SELECT num_of_customers, action FROM customer_segmentation.backfill_segment('d00000000000000000000006', '2025-05-01', '2025-05-01');
SELECT customer_identity FROM customer_segmentation_table WHERE segment_id = 'd00000000000000000000006';
SELECT customer_segmentation.create_segment('Sleeps', $$SELECT pg_sleep(600)::text WHERE customer_segmentation.as_of() > '2025-05-04'$$,
	segment_id => 'd00000000000000000000007');
SET statement_timeout = '200ms';
\set VERBOSITY terse
SELECT count(*) FROM customer_segmentation.backfill_segment('d00000000000000000000007', '2025-05-01', '2025-05-31');
\set VERBOSITY default
RESET statement_timeout;
SELECT count(*) FROM customer_segmentation.segment_runs WHERE segment_id = 'd00000000000000000000007';

-- Whose it is, who may; into a table of one's own.
CREATE ROLE regress_cs_keeper;
CREATE ROLE regress_cs_other;
GRANT SELECT ON shop_orders TO regress_cs_keeper;
CREATE TABLE own_instances (LIKE customer_segmentation_table) USING customer_segmentation;
GRANT SELECT, INSERT, DELETE ON own_instances TO regress_cs_keeper;
SET ROLE regress_cs_keeper;
SELECT customer_segmentation.create_segment('Own', 'SELECT customer_id FROM public.shop_orders WHERE ordered_at <= customer_segmentation.as_of() GROUP BY 1',
	segment_id => 'e00000000000000000000001', relation => 'own_instances');
SELECT num_of_customers, action FROM customer_segmentation.backfill_segment('e00000000000000000000001', '2025-05-01', '2025-05-02');
SELECT relation, segment_instance_id, backfilled FROM customer_segmentation.segment_instances;
SELECT error_of($$SELECT customer_segmentation.backfill_segment('d00000000000000000000005', '2024-12-20', '2025-01-20')$$);
SET ROLE regress_cs_other;
SELECT error_of($$SELECT customer_segmentation.backfill_segment('e00000000000000000000001', '2025-05-01', '2025-05-02')$$);
RESET ROLE;
REVOKE SELECT ON shop_orders FROM regress_cs_keeper;
SELECT error_of($$SELECT customer_segmentation.backfill_segment('e00000000000000000000001', '2025-05-01', '2025-05-02')$$);
SELECT count(*) FROM own_instances WHERE segment_id = 'e00000000000000000000001';
GRANT SELECT ON shop_orders TO regress_cs_keeper;
REVOKE DELETE ON own_instances FROM regress_cs_keeper;
SELECT error_of($$SELECT customer_segmentation.backfill_segment('e00000000000000000000001', '2025-05-01', '2025-05-02')$$);
GRANT DELETE ON own_instances TO regress_cs_keeper;
-- Rows are searched for before they are deleted.
REVOKE SELECT ON own_instances FROM regress_cs_keeper;
SELECT error_of($$SELECT customer_segmentation.run_segment('e00000000000000000000001', '2025-05-01')$$);
SET ROLE regress_cs_keeper;
SELECT error_of($$SELECT customer_segmentation.create_segment('Unread', 'SELECT 1', relation => 'public.own_instances')$$);
RESET ROLE;
GRANT SELECT ON own_instances TO regress_cs_keeper;

SELECT customer_segmentation.drop_segment('d00000000000000000000003', keep_instances => false);
SELECT count(customer_segmentation.drop_segment(segment_id, false)) FROM customer_segmentation.segments WHERE segment_id NOT LIKE 'e0%';
SELECT customer_segmentation.drop_segment('e00000000000000000000001');
SELECT count(*) AS marks_left FROM customer_segmentation.segment_instance_mark WHERE relation = 'customer_segmentation_table'::regclass;
DELETE FROM customer_segmentation_table;
DROP TABLE own_instances, empty_days, twins, backfilled, shop_customers, shop_orders CASCADE;
DROP VIEW as_rows;
SELECT customer_segmentation.set_source('orders', NULL), customer_segmentation.set_source('customers', NULL);
DROP ROLE regress_cs_keeper, regress_cs_other;
