-- Runs: what they store, what they replace, what they leave when they fail, in which order they go.
SET TimeZone = 'UTC';
-- What other tests have left is of no interest here.
DELETE FROM customer_segmentation.segment_run;
DELETE FROM customer_segmentation.segment_source;
CREATE TABLE shop_orders (customer_id int, email text, ordered_at timestamptz, amount numeric);
INSERT INTO shop_orders
SELECT c, 'c' || c || '@example.com', timestamptz '2025-01-01 12:00+00' + c * interval '7 hours' + o * interval '3 days', c * 1.25 + o
FROM generate_series(1, 30) c, generate_series(1, 4) o WHERE (c + o) % 4 > 0;
CREATE FUNCTION new_segment(n int, name text, definition text, schedule text DEFAULT 'once_a_day') RETURNS text LANGUAGE sql AS $$
	SELECT customer_segmentation.create_segment(name, definition, segment_id => lpad(n::text, 24, '0'), schedule => schedule)
$$;
CREATE FUNCTION new_segment(n int, name text, rules jsonb, schedule text DEFAULT 'once_a_day') RETURNS text LANGUAGE sql AS $$
	SELECT customer_segmentation.create_segment(name, rules, segment_id => lpad(n::text, 24, '0'), schedule => schedule)
$$;
CREATE FUNCTION id(n int) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT lpad(n::text, 24, '0') $$;
CREATE FUNCTION run_error(n int, as_of timestamptz DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
	SELECT error_of(format('SELECT customer_segmentation.run_segment(%L, %L)', id(n), as_of))
$$;
CREATE VIEW runs AS
SELECT ltrim(segment_id, '0') AS s, kind, as_of AT TIME ZONE 'UTC' AS as_of, substr(segment_instance_id, 26) AS period, status, rows, sqlstate, error,
	   ended_at >= started_at AS ended, pid = pg_backend_pid() AS by_me, run_by
FROM customer_segmentation.segment_runs ORDER BY run_id;
CREATE VIEW stored AS
SELECT ltrim(segment_id, '0') AS s, substr(segment_instance_id, 26) AS period, instance_created_date, num_of_customers, num_of_orders, total_revenue
FROM customer_segmentation.segment_instances ORDER BY segment_instance_id;
SET customer_segmentation.as_of = '2025-01-10 09:30+00';

-- An instance is what its definition gives, row for row; measures that are left out are NULL.
SELECT new_segment(1, 'Buyers', 'SELECT customer_id, count(*), sum(amount) FROM shop_orders WHERE ordered_at < customer_segmentation.as_of() GROUP BY 1');
SELECT customer_segmentation.run_segment(id(1));
CREATE FUNCTION differ(instance text, as_of timestamptz) RETURNS bigint LANGUAGE sql AS $$
	WITH expected AS (
		SELECT customer_id::text, count(*) AS orders, sum(amount) AS revenue, 1 AS n FROM shop_orders WHERE ordered_at < $2 GROUP BY 1),
	actual AS (
		SELECT customer_identity, num_of_orders, total_revenue, num_of_customers FROM customer_segmentation_table WHERE segment_instance_id = $1)
	SELECT (SELECT count(*) FROM (TABLE expected EXCEPT ALL TABLE actual) x) + (SELECT count(*) FROM (TABLE actual EXCEPT ALL TABLE expected) y)
$$;
SELECT differ(id(1) || '_2025_01_10', '2025-01-10 09:30+00');
SELECT DISTINCT instance_created_date, schedule, segment_by, segment_created_date, segment_id, segment_instance_id, segment_name FROM customer_segmentation_table;
SELECT new_segment(2, 'Mail', 'SELECT DISTINCT email FROM shop_orders', 'manual');
SELECT customer_segmentation.run_segment(id(2), '2025-01-10 09:30+00');
SELECT * FROM stored;

-- The same period again: replaced. Another one: beside it. A row's values, not only its presence.
UPDATE shop_orders SET amount = amount + 1 WHERE customer_id = 4;
DELETE FROM shop_orders WHERE customer_id = 5;
INSERT INTO shop_orders VALUES (100, 'c100@example.com', '2025-01-02', 7);
SELECT customer_segmentation.run_segment(id(1), '2025-01-10 23:59:59.999999+00');
SELECT differ(id(1) || '_2025_01_10', '2025-01-10 23:59:59.999999+00');
SELECT customer_segmentation.run_segment(id(1), '2025-01-11 00:00+00');
SELECT differ(id(1) || '_2025_01_11', '2025-01-11 00:00+00'), differ(id(1) || '_2025_01_10', '2025-01-10 23:59:59.999999+00');
SELECT * FROM stored;
SELECT * FROM customer_segmentation.verify();
-- Instance and record go back together.
BEGIN;
SELECT customer_segmentation.run_segment(id(1), '2025-01-12 00:00+00');
SELECT count(*) FROM runs;
ROLLBACK;
SELECT count(*) FROM runs;
SELECT count(*) FROM stored;
-- Many runs in one transaction, also of the same period.
BEGIN;
SELECT customer_segmentation.run_segment(id(1), timestamptz '2025-01-12 00:00+00' + h * interval '16 hours') FROM generate_series(0, 3) h;
SAVEPOINT s;
SELECT customer_segmentation.run_segment(id(1), '2025-01-14 20:00+00');
ROLLBACK TO s;
COMMIT;
SELECT differ(id(1) || '_2025_01_12', '2025-01-12 16:00+00'), differ(id(1) || '_2025_01_14', '2025-01-14 00:00+00');
SELECT * FROM runs;
SELECT customer_segmentation.run_segment(id(1), '2025-01-15 00:00+00') FROM generate_series(1, 2);
-- Nobody: the period has no rows.
SELECT new_segment(3, 'Nobody', 'SELECT customer_id FROM shop_orders WHERE ordered_at < customer_segmentation.as_of() AND amount < 0', 'manual');
SELECT customer_segmentation.run_segment(id(3));
SELECT * FROM stored WHERE s = '3';
SELECT segment_name, last_run_status, last_instance_id FROM customer_segmentation.segments WHERE segment_id = id(3);
-- A table that is emptied before what it had out of line is stored: identities and revenues are values by then.
CREATE TABLE long_ones (who text, revenue numeric);
ALTER TABLE long_ones ALTER who SET STORAGE EXTERNAL, ALTER revenue SET STORAGE EXTERNAL;
INSERT INTO long_ones SELECT n || repeat(n::text, 2500), (repeat('7', 6000) || n)::numeric FROM generate_series(1, 3) n;
CREATE TABLE own_instances (LIKE customer_segmentation_table) USING customer_segmentation;
CREATE FUNCTION empty_source() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN TRUNCATE public.long_ones; RETURN NULL; END $$;
CREATE TRIGGER empty_source BEFORE INSERT ON own_instances EXECUTE FUNCTION empty_source();
SELECT customer_segmentation.create_segment('Long', 'SELECT who, 1, revenue FROM long_ones', schedule => 'manual', segment_id => id(50), relation => 'own_instances');
SELECT customer_segmentation.run_segment(id(50));
SELECT left(customer_identity, 3), length(customer_identity), total_revenue % 1000 AS ends, length(total_revenue::text) FROM own_instances ORDER BY 1;
SELECT count(*) FROM long_ones;
SELECT customer_segmentation.drop_segment(id(50), false);
DELETE FROM customer_segmentation.segment_run WHERE segment_id = id(50);
DROP TABLE long_ones, own_instances;
DROP FUNCTION empty_source;
-- Moments that can't be.
SELECT run_error(1, 'infinity');
SELECT run_error(1, '10000-01-01');
SELECT error_of('SELECT customer_segmentation.run_segment(NULL)');

-- What fails leaves nothing, and what was there stays.
SELECT new_segment(4, 'Fails', 'SELECT customer_id, 1, 1 / (customer_id - 7) FROM shop_orders GROUP BY 1', 'manual');
SELECT run_error(4);
SELECT new_segment(5, 'No identity', 'SELECT nullif(customer_id, customer_id / 5 * 5), count(*), sum(amount) FROM shop_orders GROUP BY customer_id ORDER BY customer_id', 'manual');
SELECT run_error(5);
SELECT new_segment(6, 'Twice', 'SELECT lower(email), amount::int FROM shop_orders WHERE customer_id < 3 UNION ALL SELECT email, 0 FROM shop_orders WHERE customer_id = 2 AND amount < 5', 'manual');
SELECT run_error(6);
SELECT new_segment(7, 'One twice', $$VALUES ('a', 1), ('b', 1), ('a', 2)$$, 'manual');
SELECT run_error(7);
SELECT new_segment(8, 'Too many orders', $$VALUES ('a', 9223372036854775808)$$, 'manual');
SELECT run_error(8);
SELECT new_segment(9, 'Neither', $$VALUES (NULL::text, 1), ('b', 1), ('b', 2)$$, 'manual');
SELECT run_error(9);
SELECT error_of($$SELECT * FROM customer_segmentation.preview_segment('VALUES (1), (2), (1)')$$);
SELECT error_of($$SELECT * FROM customer_segmentation.preview_segment('VALUES (1), (NULL)')$$);
SELECT * FROM stored WHERE s IN ('4', '5', '6', '7', '8', '9');
SELECT customer_segmentation.alter_segment(id(1), definition => 'SELECT customer_id FROM shop_orders');
SELECT run_error(1, '2025-01-10 10:00+00');
SELECT differ(id(1) || '_2025_01_10', '2025-01-10 23:59:59.999999+00');
SELECT count(*) FROM runs WHERE status <> 'succeeded';

-- run_due_segments: what fails is recorded and stops nobody. A period is tried three times, then the next.
RESET customer_segmentation.as_of;
SELECT customer_segmentation.drop_segment(segment_id, false) FROM customer_segmentation.segments ORDER BY segment_id;
DELETE FROM customer_segmentation.segment_run;
SET customer_segmentation.as_of = '2025-02-01 09:00+00';
SELECT new_segment(1, 'First', 'SELECT DISTINCT customer_id FROM shop_orders');
SELECT new_segment(2, 'Broken', 'SELECT customer_id, 1, 1 / (customer_id - 7) FROM shop_orders GROUP BY 1');
SELECT new_segment(3, 'Third', 'SELECT DISTINCT customer_id FROM shop_orders', 'every_hour');
RESET customer_segmentation.as_of;
CALL customer_segmentation.run_due_segments('2025-02-01 09:00+00');
SELECT * FROM runs;
SELECT * FROM stored;
CALL customer_segmentation.run_due_segments('2025-02-01 09:10+00');
CALL customer_segmentation.run_due_segments('2025-02-01 09:20+00');
CALL customer_segmentation.run_due_segments('2025-02-01 09:30+00');
SELECT s, as_of, status, sqlstate, error FROM runs WHERE s = '2';
SET customer_segmentation.as_of = '2025-02-01 09:30+00';
SELECT segment_name, overdue, failing, failures, never_run, last_run_sqlstate, last_run_error FROM customer_segmentation.segment_health ORDER BY segment_id;
RESET customer_segmentation.as_of;
-- What is altered is tried again.
SELECT customer_segmentation.alter_segment(id(2), definition => 'SELECT customer_id, 1, 1 / (customer_id - 107) FROM shop_orders GROUP BY 1');
CALL customer_segmentation.run_due_segments('2025-02-01 09:40+00');
SELECT s, as_of, status, rows FROM runs OFFSET 5;
SET customer_segmentation.run_attempts = 1;
SELECT customer_segmentation.alter_segment(id(2), definition => 'SELECT customer_id, 1, 1 / (customer_id - 7) FROM shop_orders GROUP BY 1');
CALL customer_segmentation.run_due_segments('2025-02-02 09:00+00');
CALL customer_segmentation.run_due_segments('2025-02-02 09:00+00');
CALL customer_segmentation.run_due_segments('2025-02-03 09:00+00');
RESET customer_segmentation.run_attempts;
SELECT as_of, status, sqlstate FROM runs WHERE s = '2' ORDER BY as_of DESC LIMIT 2;
-- A definition that says it was cancelled stops nobody either.
CREATE FUNCTION pretend() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE 'stop' USING ERRCODE = 'query_canceled'; END $$;
SELECT customer_segmentation.alter_segment(id(2), definition => 'SELECT pretend() FROM shop_orders');
CALL customer_segmentation.run_due_segments('2025-02-04 09:00+00');
SELECT s, status, sqlstate, error FROM runs WHERE as_of = '2025-02-04 09:00+00' AND s IN ('2', '3');
-- One that was cancelled does, and is recorded.
SELECT customer_segmentation.alter_segment(id(2), definition => 'SELECT 1 FROM pg_sleep(1000)');
\set SHOW_CONTEXT never
SET statement_timeout = '4s';
CALL customer_segmentation.run_due_segments('2025-02-05 09:00+00');
RESET statement_timeout;
SELECT s, status, sqlstate, error, ended FROM runs WHERE as_of = '2025-02-05 09:00+00';
SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'object';
-- The others are not lost.
SELECT customer_segmentation.alter_segment(id(2), definition => 'SELECT 1');
CALL customer_segmentation.run_due_segments('2025-02-05 09:10+00');
SELECT s, status FROM runs WHERE as_of >= '2025-02-05 09:00+00';

-- A record that says running while nobody holds the segment is that of a run that died.
INSERT INTO customer_segmentation.segment_run (segment_id, kind, as_of, segment_instance_id, started_at, status, run_by, pid)
VALUES (id(1), 'scheduled', '2025-02-06 09:00+00', id(1) || '_2025_02_06', clock_timestamp(), 'running', 'postgres', 1234567),
	   (id(99), 'scheduled', '2025-02-06 09:00+00', id(99) || '_2025_02_06', clock_timestamp(), 'running', 'postgres', 1234567);
SELECT s, status, ended FROM runs WHERE status = 'running';
CALL customer_segmentation.run_due_segments('2025-02-06 09:10+00');
SELECT s, status, sqlstate, error, ended, by_me FROM runs WHERE as_of = '2025-02-06 09:00+00' ORDER BY s, status;

-- Records are kept for a settable time; the last one and the last good one of a segment for ever.
UPDATE customer_segmentation.segment_run SET started_at = started_at - interval '2 days' WHERE as_of < '2025-02-06';
SET customer_segmentation.run_history = '1d';
UPDATE customer_segmentation.segment_run SET started_at = started_at - interval '5 days' WHERE segment_id = id(3);
SELECT count(*) FROM runs;
CALL customer_segmentation.run_due_segments('2025-02-06 09:10+00');
SELECT s, as_of, status FROM runs;
RESET customer_segmentation.run_history;
SELECT customer_segmentation.drop_segment(segment_id, false) FROM customer_segmentation.segments ORDER BY segment_id;
DELETE FROM customer_segmentation.segment_run;

-- Rules that refer to another segment: that one first, whatever its name, its id and its age.
SET customer_segmentation.as_of = '2025-03-01 09:00+00';
CREATE TABLE customers (customer_id int, email text);
INSERT INTO customers SELECT DISTINCT customer_id, email FROM shop_orders;
SELECT customer_segmentation.set_source('customers', 'customers', '{"customer_id": "customer_id"}');
SELECT new_segment(4, 'Is first', 'SELECT 1');
SELECT new_segment(2, 'Needs 4', '{"type":"AND","filters":[{"type":"segment_relation","definition":{"property":{"value":"000000000000000000000004","comparator":"is"}}}]}'::jsonb);
SELECT new_segment(3, 'Needs 2', '{"type":"AND","filters":[{"type":"segment_relation","definition":{"property":{"value":"000000000000000000000002","comparator":"is_not"}}}]}'::jsonb);
SELECT new_segment(1, 'Base', 'SELECT customer_id FROM customers WHERE customer_id < 10');
SELECT customer_segmentation.alter_segment(id(4), rules => '{"type":"AND","filters":[{"type":"segment_relation","definition":{"property":{"value":"000000000000000000000001","comparator":"is"}}}]}');
SELECT segment_name, depends_on FROM customer_segmentation.segments;
SELECT error_of(format('SELECT customer_segmentation.alter_segment(%L, rules => %L)', id(4), '{"type":"AND","filters":[{"type":"segment_relation","definition":{"property":{"value":"000000000000000000000003","comparator":"is"}}}]}'));
SELECT error_of(format('SELECT customer_segmentation.alter_segment(%L, rules => %L)', id(4), '{"type":"AND","filters":[{"type":"segment_relation","definition":{"property":{"value":"000000000000000000000004","comparator":"is"}}}]}'));
SELECT error_of(format('SELECT customer_segmentation.drop_segment(%L)', id(4)));
CALL customer_segmentation.run_due_segments('2025-03-01 09:00+00');
SELECT s, kind, as_of, status, rows FROM runs;
SELECT array_agg(customer_identity::int ORDER BY customer_identity::int) FROM customer_segmentation_table WHERE segment_instance_id = id(2) || '_2025_03_01';
-- run_segment brings what is due first as well.
SELECT customer_segmentation.run_segment(id(2), '2025-03-02 10:00+00');
SELECT s, kind, as_of, status, rows FROM runs OFFSET 4;
-- What needs one that failed fails clearly.
SELECT customer_segmentation.alter_segment(id(1), definition => 'SELECT 1 / (customer_id - 100) FROM customers WHERE customer_id = 100');
CALL customer_segmentation.run_due_segments('2025-03-03 10:00+00');
SELECT s, status, sqlstate, error FROM runs WHERE as_of > '2025-03-03';
SELECT error_of(format('SELECT customer_segmentation.run_segment(%L, %L)', id(2), '2025-03-03 10:00+00'));
-- Unless that one is paused: then its last instance counts.
SELECT customer_segmentation.alter_segment(id(1), paused => true);
CALL customer_segmentation.run_due_segments('2025-03-04 10:00+00');
SELECT s, as_of, status, rows, sqlstate FROM runs WHERE as_of > '2025-03-04';
RESET customer_segmentation.as_of;

SELECT customer_segmentation.drop_segment(id(n), false) FROM unnest('{3,2,4,1}'::int[]) n;
SELECT customer_segmentation.set_source('customers', NULL);
DELETE FROM customer_segmentation.segment_run;
SELECT count(*) FROM customer_segmentation_table;
DROP VIEW runs, stored;
DROP TABLE shop_orders, customers;
DROP FUNCTION new_segment(int, text, text, text), new_segment(int, text, jsonb, text), id, run_error, differ, pretend;
