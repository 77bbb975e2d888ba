-- Segments: created, altered, dropped; whatever is wrong with them is said at once and changes nothing.
SET TimeZone = 'UTC';
CREATE TABLE shop_orders (customer_id int, email text, ordered_at timestamptz, amount numeric(10, 2), note varchar(20), code char(6));
INSERT INTO shop_orders
SELECT c, 'c' || c || '@example.com', timestamptz '2025-01-01 12:00+00' + c * interval '7 hours' + o * interval '3 days',
	   c * 1.25 + o, 'n' || c, 'k' || c
FROM generate_series(1, 20) c, generate_series(1, 3) o WHERE (c + o) % 4 > 0;
SET customer_segmentation.as_of = '2025-01-10 09:30+00';

-- An id is drawn: its first eight digits are the time of creation.
SELECT id ~ '^[0-9a-f]{24}$' AS well_formed, to_timestamp(('x' || left(id, 8))::bit(32)::bigint) AS created
FROM customer_segmentation.create_segment('Drawn', 'SELECT customer_id FROM shop_orders GROUP BY 1') id;

SELECT customer_segmentation.create_segment('Buyers',
	'SELECT customer_id, count(*), sum(amount) FROM shop_orders WHERE ordered_at < customer_segmentation.as_of() GROUP BY 1',
	segment_id => '64b8f144256b30501b2ea1e0', time_zone => 'Europe/Berlin', description => 'have bought');
SELECT customer_segmentation.create_segment('Mail', $$SELECT DISTINCT email FROM shop_orders$$,
	segment_by => 'email', schedule => 'manual', segment_id => '64b8f144256b30501b2ea1e1');
SELECT segment_name, description, segment_by, schedule, time_zone, definition, rules, depends_on, relation, paused,
	   created_at, next_run_at, last_run_status
FROM customer_segmentation.segments ORDER BY segment_name;

-- Names are resolved when the definition is given, whatever the search path is later.
SELECT customer_segmentation.run_segment('64b8f144256b30501b2ea1e0');
CREATE SCHEMA elsewhere;
CREATE TABLE elsewhere.shop_orders (customer_id int, email text, ordered_at timestamptz, amount numeric);
SET search_path = elsewhere;
SELECT customer_segmentation.run_segment('64b8f144256b30501b2ea1e0', '2025-01-11 09:30+00');
RESET search_path;
SELECT segment_instance_id, instance_created_date, segment_name, segment_created_date, num_of_customers, num_of_orders,
	   total_revenue, (SELECT count(DISTINCT customer_id) FROM shop_orders o WHERE ordered_at < i.instance_created_date AT TIME ZONE 'Europe/Berlin') AS expected
FROM customer_segmentation.segment_instances i ORDER BY 1;
-- Literals mean what they meant when the definition was given.
SET DateStyle = 'SQL, DMY';
SELECT customer_segmentation.create_segment('Literal', $$SELECT customer_id FROM shop_orders WHERE ordered_at < timestamptz '06/01/2025 00:00' GROUP BY 1$$,
	segment_id => '64b8f144256b30501b2ea1e2');
RESET DateStyle;
SELECT customer_segmentation.run_segment('64b8f144256b30501b2ea1e2');
SELECT num_of_customers, (SELECT count(DISTINCT customer_id) FROM shop_orders WHERE ordered_at < '2025-01-06 00:00+00') AS expected
FROM customer_segmentation.segment_instances WHERE segment_id = '64b8f144256b30501b2ea1e2';
-- Any type has an identity; numbers may be of any type that is assigned to bigint and numeric.
SELECT * FROM customer_segmentation.preview_segment('SELECT code, 1::smallint, 2.5::real FROM shop_orders WHERE customer_id = 3 LIMIT 1');
SELECT customer_segmentation.create_segment('Types', 'SELECT DISTINCT ON (1) code, sum(1)  OVER (), amount FROM shop_orders ORDER BY 1, 3', segment_id => '64b8f144256b30501b2ea1e3');
SELECT customer_segmentation.run_segment('64b8f144256b30501b2ea1e3');
SELECT customer_identity, length(customer_identity), num_of_orders, total_revenue FROM customer_segmentation_table
WHERE segment_id = '64b8f144256b30501b2ea1e3' ORDER BY customer_identity COLLATE "C" LIMIT 2;
SELECT * FROM customer_segmentation.preview_segment('VALUES (1, NULL, 1.10), (2, 3, NULL)');
SELECT * FROM customer_segmentation.preview_segment('SELECT 1 WHERE false');
SELECT * FROM customer_segmentation.preview_segment('WITH w AS (SELECT 1 a UNION SELECT 2) SELECT a, 2 * a FROM w; -- ends');

-- What is wrong with a definition.
CREATE TEMP TABLE passing (a int);
CREATE FUNCTION wrong(definition text) RETURNS text LANGUAGE sql AS $$
	SELECT error_of(format('SELECT customer_segmentation.create_segment(%L, %L::text)', 'Wrong', definition))
$$;
SELECT wrong(d) FROM (VALUES
	(1, ''), (2, 'SELEC 1'), (3, 'SELECT 1; DROP TABLE shop_orders'), (4, 'SELECT'), (5, 'SELECT nothing FROM shop_orders'),
	(6, 'SELECT 1 FROM no_such_table'), (7, 'DELETE FROM shop_orders RETURNING email'), (8, 'DROP TABLE shop_orders'),
	(9, 'WITH d AS (DELETE FROM shop_orders RETURNING email) SELECT email FROM d'), (10, 'SELECT 1 FROM shop_orders FOR UPDATE'),
	(11, 'SELECT email INTO stolen FROM shop_orders'), (12, 'SELECT 1, 2, 3, 4'), (13, $$SELECT 1, 'x'::text$$),
	(14, $$SELECT 1, 2, true$$), (15, 'SELECT email FROM shop_orders WHERE amount > $1'), (16, 'SELECT a FROM passing'),
	(17, 'COPY shop_orders TO STDOUT'), (18, '{"type":"AND","filters":[]}'), (19, E'\n { }'), (20, 'SELECT sum(email) FROM shop_orders'),
	(21, 'EXPLAIN SELECT 1'), (22, NULL)) v(n, d) ORDER BY n;
-- And with the other arguments.
SELECT error_of($$SELECT customer_segmentation.create_segment('Buyers', 'SELECT 1')$$);
SELECT error_of($$SELECT customer_segmentation.create_segment('New', 'SELECT 1', segment_id => '64b8f144256b30501b2ea1e0')$$);
SELECT error_of($$SELECT customer_segmentation.create_segment('New', 'SELECT 1', segment_id => 'X4b8f144256b30501b2ea1e0')$$);
SELECT error_of($$SELECT customer_segmentation.create_segment('', 'SELECT 1')$$);
SELECT error_of($$SELECT customer_segmentation.create_segment(NULL, 'SELECT 1')$$);
SELECT error_of($$SELECT customer_segmentation.create_segment('New', 'SELECT 1', schedule => 'daily')$$);
SELECT error_of($$SELECT customer_segmentation.create_segment('New', 'SELECT 1', segment_by => 'phone')$$);
SELECT error_of($$SELECT customer_segmentation.create_segment('New', 'SELECT 1', time_zone => 'Mars/Olympus')$$);
SELECT error_of($$SELECT customer_segmentation.create_segment('New', 'SELECT 1', relation => 'shop_orders')$$);
SELECT error_of($$SELECT customer_segmentation.create_segment('New', 'SELECT 1', relation => NULL)$$);
CREATE TEMP TABLE passing_instances (LIKE customer_segmentation_table) USING customer_segmentation;
SELECT error_of($$SELECT customer_segmentation.create_segment('New', 'SELECT 1', relation => 'passing_instances')$$);
SELECT error_of($$SELECT customer_segmentation.run_segment('64b8f144256b30501b2ea1ff')$$);
SELECT error_of($$SELECT customer_segmentation.alter_segment('64b8f144256b30501b2ea1ff', paused => true)$$);
SELECT error_of($$SELECT customer_segmentation.drop_segment('64b8f144256b30501b2ea1ff')$$);
SELECT count(*) FROM customer_segmentation.segments;

-- Change.
SELECT customer_segmentation.alter_segment('64b8f144256b30501b2ea1e0', segment_name => 'Customers', schedule => 'once_a_week',
	description => 'bought at least once', paused => true);
SELECT segment_name, schedule, description, paused, next_run_at FROM customer_segmentation.segments WHERE segment_id = '64b8f144256b30501b2ea1e0';
SELECT customer_segmentation.alter_segment('64b8f144256b30501b2ea1e0', definition => 'SELECT email FROM shop_orders GROUP BY 1 HAVING count(*) > 2', paused => false);
SELECT segment_name, definition, paused, next_run_at FROM customer_segmentation.segments WHERE segment_id = '64b8f144256b30501b2ea1e0';
-- Instances keep the name that the segment had when they were stored.
SELECT customer_segmentation.run_segment('64b8f144256b30501b2ea1e0', '2025-01-12 00:00+01');
SELECT segment_instance_id, segment_name, schedule FROM customer_segmentation.segment_instances WHERE segment_id = '64b8f144256b30501b2ea1e0' ORDER BY 1;
SELECT error_of($$SELECT customer_segmentation.alter_segment('64b8f144256b30501b2ea1e0', segment_name => 'Mail')$$);
SELECT error_of($$SELECT customer_segmentation.alter_segment('64b8f144256b30501b2ea1e0', definition => 'SELECT nothing')$$);
SELECT error_of($$SELECT customer_segmentation.alter_segment('64b8f144256b30501b2ea1e0', schedule => 'sometimes')$$);
SELECT error_of($$SELECT customer_segmentation.alter_segment('64b8f144256b30501b2ea1e0', owner => 'no_such_role')$$);
SELECT error_of($$SELECT customer_segmentation.alter_segment('64b8f144256b30501b2ea1e0', definition => 'SELECT 1', rules => '{}')$$);
SELECT segment_name, schedule, definition FROM customer_segmentation.segments WHERE segment_id = '64b8f144256b30501b2ea1e0';

-- Drop: instances stay, unless told otherwise.
SELECT customer_segmentation.drop_segment('64b8f144256b30501b2ea1e0');
SELECT customer_segmentation.drop_segment('64b8f144256b30501b2ea1e3', keep_instances => false);
SELECT segment_name FROM customer_segmentation.segments ORDER BY 1;
SELECT segment_id, count(*) FROM customer_segmentation.segment_instances GROUP BY 1 ORDER BY 1;
-- What is left of a dropped segment can be taken up again.
SELECT customer_segmentation.create_segment('Again', 'SELECT 1', segment_id => '64b8f144256b30501b2ea1e0');

-- The catalog's tables are nobody's.
CREATE ROLE regress_cs_nobody;
SET ROLE regress_cs_nobody;
SELECT error_of('SELECT * FROM customer_segmentation.' || t) FROM unnest('{segment,segment_run,segment_instance_mark,segment_run_number}'::text[]) t;
SELECT count(*) FROM customer_segmentation.segments;
SELECT count(*) FROM customer_segmentation.segment_runs;
SELECT count(*) FROM customer_segmentation.segment_health;
SELECT count(*) FROM customer_segmentation.segment_instances;
RESET ROLE;
DROP ROLE regress_cs_nobody;

SELECT customer_segmentation.drop_segment(segment_id, false) FROM customer_segmentation.segments ORDER BY segment_name;
DELETE FROM customer_segmentation_table;
DROP TABLE shop_orders, elsewhere.shop_orders, passing, passing_instances;
DROP SCHEMA elsewhere;
DROP FUNCTION wrong;
