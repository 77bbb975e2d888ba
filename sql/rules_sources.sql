-- Sources: checked when set, each role's its own, whatever tables and columns are called and are made of.
SET TimeZone = 'UTC';
SET search_path = shop, public;
CREATE FUNCTION wrong(source text, relation text, columns text) RETURNS text LANGUAGE sql AS $$
	SELECT error_of(format('SELECT customer_segmentation.set_source(%L, %L, %L)', source, relation, columns))
$$;
CREATE TYPE pair AS (a int, b int);
CREATE SEQUENCE numbers;
CREATE INDEX orders_at ON orders (ordered_at);
CREATE TEMP TABLE passing (customer_id int, at date, amount int);
CREATE TABLE various (id int, at timestamptz, amount numeric, clock timetz, place point, doc jsonb, money money);
SELECT s, r, c, wrong(s, r, c) FROM (VALUES (1, 'order', 'shop.orders', '{}'), (2, NULL, 'shop.orders', '{}'), (3, 'orders', 'shop.orders', NULL), (4, 'orders', 'shop.orders', '[]'), (5, 'orders', 'shop.orders', '5'), (6, 'orders', 'shop.orders', '{}'),
	(7, 'orders', 'shop.orders', '{"time": "ordered_at", "amount": "amount"}'), (8, 'orders', 'shop.orders', '{"customer_id": "customer_id", "amount": "amount"}'), (9, 'orders', 'shop.orders', '{"customer_id": "no_such", "time": "ordered_at", "amount": "amount"}'),
	(10, 'orders', 'shop.orders', '{"customer_id": "ctid", "time": "ordered_at", "amount": "amount"}'), (11, 'orders', 'shop.orders', '{"customer_id": 5}'), (12, 'orders', 'shop.orders', '{"customer_id": null}'), (13, 'orders', 'shop.orders', '{"customer_id": {"a": "b"}}'),
	(14, 'orders', 'shop.orders', '{"customer_id": "customer_id", "time": "amount", "amount": "amount"}'), (15, 'orders', 'shop.orders', '{"customer_id": "customer_id", "time": "ordered_at", "amount": "email"}'),
	(16, 'orders', 'shop.orders', '{"customer_id": "ordered_at", "time": "ordered_at", "amount": "amount"}'), (17, 'customers', 'shop.various', '{"customer_id": "id", "clock": "clock"}'), (18, 'customers', 'shop.various', '{"customer_id": "id", "doc": "doc"}'),
	(19, 'customers', 'shop.various', '{"customer_id": "id", "place": "place"}'), (20, 'customers', 'shop.various', '{"customer_id": "id", "m": "money"}'), (21, 'customers', 'shop.pair', '{"customer_id": "a"}'), (22, 'customers', 'shop.numbers', '{"customer_id": "last_value"}'),
	(23, 'customers', 'shop.orders_at', '{"customer_id": "ordered_at"}'), (24, 'customers', '4294967295', '{"customer_id": "a"}'), (25, 'carts', 'passing', '{"customer_id": "customer_id", "time": "at"}'), (26, 'line_items', 'shop.line_items', '{"product_name": "product_name"}'),
	(27, 'subscriptions', 'shop.subscriptions', '{"customer_id": "customer_id"}'), (28, 'subscriptions', 'shop.subscription_events', '{"email": "who", "event": "what"}'), (29, 'tags', 'shop.tag_list', '{"customer_id": "customer_id"}'),
	(30, 'orders', 'shop.nowhere', '{}')) AS v (n, s, r, c) ORDER BY n;
-- Nothing of that was kept. A source is replaced as a whole, and taken back with NULL.
SELECT source, relation, columns FROM customer_segmentation.sources WHERE source = 'orders';
SELECT customer_segmentation.set_source('clicks', 'carts', '{"customer_id": "customer_id", "time": "day"}');
SELECT customer_segmentation.set_source('carts', NULL), customer_segmentation.set_source('carts', NULL);
SELECT source, relation, columns FROM customer_segmentation.sources WHERE source IN ('clicks', 'carts');

-- Any name is a name, in the query too.
CREATE SCHEMA "odd; schema";
CREATE TABLE "odd; schema"."it's a ""table"" -- $1 %s" ("select" text, "a.b" int, U&"tab\0009here" timestamptz, "ÄÖ $1" text, "'" bool, """" text[]);
INSERT INTO "odd; schema"."it's a ""table"" -- $1 %s" VALUES ('x', 1, '2025-01-01', 'v', true, '{t}'), ('y', 2, '2025-01-02', 'w', false, NULL);
SELECT unset_sources();
SELECT customer_segmentation.set_source('customers', '"odd; schema"."it''s a ""table"" -- $1 %s"', '{"customer_id": "select", "a''b $2": "ÄÖ $1", "\"; DROP TABLE x": "''", "tags": "\"", "n": "a.b"}');
SELECT customer_segmentation.set_source('orders', '"odd; schema"."it''s a ""table"" -- $1 %s"', '{"customer_id": "select", "time": "tab\there", "amount": "a.b", "price": "a.b"}');
SELECT same(prop('a''b $2', 'equal', '"v"'), $$SELECT 'x'$$), same(prop('"; DROP TABLE x', 'equal', 'false'), $$SELECT 'y'$$), same(prop('tags', 'array_contains', '"t"'), $$SELECT 'x'$$), same(prop('n', 'equal', '2'), $$SELECT 'y'$$),
	   same(act('made_purchase', 'greater_than', '0', '{"comparator": "over_all_time"}', '{"property": "price", "comparator": "greater_than", "value": 1}'), $$SELECT 'y'$$);
SELECT customer_segmentation.explain_rules(op('AND', prop('a''b $2', 'equal', '"it''s \\ $1"'), prop('"; DROP TABLE x', 'equal', 'false')), 'customer_id', '2025-01-01');
-- Columns that are renamed or dropped, and a table that is: an error where rules need the source, and there alone.
ALTER TABLE "odd; schema"."it's a ""table"" -- $1 %s" RENAME "a.b" TO b;
SELECT error_of(format('SELECT customer_segmentation.explain_rules(%L)', prop('a''b $2', 'is_set')));
SELECT customer_segmentation.set_source('customers', NULL), customer_segmentation.set_source('orders', NULL), customer_segmentation.set_source('carts', 'carts', '{"customer_id": "customer_id", "time": "day"}');
SELECT customer_segmentation.set_source('visits', '"odd; schema"."it''s a ""table"" -- $1 %s"', '{"customer_id": "select", "time": "tab\there"}');
DROP SCHEMA "odd; schema" CASCADE;
SELECT error_of(format('SELECT customer_segmentation.explain_rules(%L)', act('active_on_site', 'equal', '0')));
SELECT same(act('added_to_cart', 'greater_than', '0'), 'SELECT DISTINCT customer_id FROM carts WHERE day <= ''2025-08-25''');

-- Types that name a customer differently, and collations that don't agree: the same person all the same.
CREATE DOMAIN short AS varchar(10);
CREATE COLLATION IF NOT EXISTS same_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE typed_customers (id numeric PRIMARY KEY, mail text COLLATE "C", label text COLLATE same_case, kind name, u uuid);
CREATE TABLE typed_orders (cust char(12), mail text COLLATE "POSIX", at timestamp, amount real, code short, list varchar(5)[] COLLATE same_case);
INSERT INTO typed_customers SELECT i, 'M' || i, CASE WHEN i % 2 = 0 THEN 'ONE' ELSE 'one' END, 'k' || i, ('00000000-0000-0000-0000-00000000000' || i)::uuid FROM generate_series(1, 4) i;
INSERT INTO typed_orders SELECT CASE WHEN i < 3 THEN i::text END, 'M' || i, '2025-01-01', i + 0.1, 'c' || i, ARRAY['A' || i, 'b'] FROM generate_series(1, 4) i;
SELECT unset_sources();
SELECT customer_segmentation.set_source('customers', 'typed_customers', '{"customer_id": "id", "email": "mail", "label": "label", "kind": "kind", "u": "u"}');
SELECT customer_segmentation.set_source('orders', 'typed_orders', '{"customer_id": "cust", "email": "mail", "time": "at", "amount": "amount", "code": "code", "list": "list"}');
SELECT same(act('made_purchase', 'greater_than', '0'), 'VALUES (1), (2), (3), (4)'), same(act('made_purchase', 'greater_than', '0'), $$VALUES ('M1'), ('M2'), ('M3'), ('M4')$$, segment_by => 'email'),
	   same(prop('label', 'equal', '"one"'), 'VALUES (1), (3)'), same(prop('label', 'contain', '"ON"'), 'VALUES (1), (2), (3), (4)'), same(prop('kind', 'end_with', '"K2"'), 'VALUES (2)'), same(prop('u', 'end_with', '"3"'), 'VALUES (3)'),
	   same(act('made_purchase', 'greater_than', '0', '{"comparator": "over_all_time"}', '{"property": "order_value", "comparator": "equal", "value": 2.1}'), 'VALUES (2)'),
	   same(act('made_purchase', 'greater_than', '0', '{"comparator": "over_all_time"}', '{"property": "code", "comparator": "is_in", "value": ["c1", "C2"]}'), 'VALUES (1)'),
	   same(act('made_purchase', 'greater_than', '0', '{"comparator": "over_all_time"}', '{"property": "list", "comparator": "array_contains", "value": "a3"}'), 'SELECT 1 WHERE false'),
	   same(act('made_purchase', 'greater_than', '0', '{"comparator": "over_all_time"}', '{"property": "list", "comparator": "contain", "value": "a3"}'), 'VALUES (3)'),
	   same(prop('customer_total_spend', 'greater_than', '3'), 'VALUES (3), (4)');
-- A table with a row for each visit of a customer, children of a table with a unique index, a view, a partitioned table.
CREATE TABLE base (id int UNIQUE, city text);
CREATE TABLE more () INHERITS (base);
INSERT INTO base VALUES (1, 'Bonn'), (2, 'Köln');
INSERT INTO more VALUES (1, 'Ulm'), (3, 'Ulm');
CREATE TABLE parts (id int, at date, amount int) PARTITION BY LIST (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1, 2);
CREATE TABLE parts_2 PARTITION OF parts DEFAULT;
INSERT INTO parts SELECT i, '2025-01-01', i FROM generate_series(1, 3) i;
CREATE VIEW seen AS SELECT id, at FROM parts;
CREATE MATERIALIZED VIEW kept AS SELECT id, at FROM parts WHERE id > 1;
SELECT unset_sources();
SELECT customer_segmentation.set_source('customers', 'base', '{"customer_id": "id", "city": "city"}'), customer_segmentation.set_source('orders', 'parts', '{"customer_id": "id", "time": "at", "amount": "amount"}'),
	   customer_segmentation.set_source('visits', 'seen', '{"customer_id": "id", "time": "at"}'), customer_segmentation.set_source('carts', 'kept', '{"customer_id": "id", "time": "at"}');
SELECT same(prop('city', 'equal', '"Ulm"'), 'VALUES (1), (3)'), same(prop('city', 'not_equal', '"Ulm"'), 'VALUES (2)'), same(act('made_purchase', 'greater_than', '0'), 'VALUES (1), (2), (3)'),
	   same(act('active_on_site', 'greater_than', '0'), 'VALUES (1), (2), (3)'), same(act('added_to_cart', 'equal', '0'), 'VALUES (1)');

-- Each role has its own, sees those of the roles that it is a member of, and needs the privilege to read.
CREATE ROLE regress_rules_alice;
CREATE ROLE regress_rules_bob;
GRANT USAGE ON SCHEMA shop TO PUBLIC;
CREATE SCHEMA bobs AUTHORIZATION regress_rules_bob;
SET ROLE regress_rules_alice;
SELECT wrong('carts', 'shop.carts', '{"customer_id": "customer_id", "time": "day"}');
RESET ROLE;
GRANT SELECT (customer_id) ON carts TO regress_rules_alice;
SET ROLE regress_rules_alice;
SELECT wrong('carts', 'shop.carts', '{"customer_id": "customer_id", "time": "day"}');
RESET ROLE;
GRANT SELECT (day) ON carts TO regress_rules_alice;
GRANT SELECT ON orders TO regress_rules_alice;
SET ROLE regress_rules_alice;
SELECT customer_segmentation.set_source('carts', 'carts', '{"customer_id": "customer_id", "time": "day"}');
SELECT error_of(format('SELECT customer_segmentation.explain_rules(%L)', act('made_purchase', 'equal', '1')));
SET ROLE regress_rules_bob;
CREATE TABLE bobs.carts (customer_id text, day date);
INSERT INTO bobs.carts VALUES ('nobody', '2025-01-01');
SELECT customer_segmentation.set_source('carts', 'bobs.carts', '{"customer_id": "customer_id", "time": "day"}');
SELECT source, relation FROM customer_segmentation.sources;
SELECT error_of('SELECT * FROM customer_segmentation.segment_source'), error_of('INSERT INTO customer_segmentation.segment_source SELECT ''regress_rules_alice'', ''carts'', ''bobs.carts'', ''{}''');
SET ROLE regress_rules_alice;
SELECT owner, source, relation FROM customer_segmentation.sources;
SELECT same(act('added_to_cart', 'greater_than', '1'), 'SELECT customer_id FROM shop.carts WHERE day <= ''2025-08-25'' GROUP BY 1 HAVING count(*) > 1');
RESET ROLE;
GRANT regress_rules_alice TO regress_rules_bob;
SET ROLE regress_rules_bob;
SELECT owner, source, relation FROM customer_segmentation.sources;
RESET ROLE;
-- A segment uses its owner's, whoever runs it; the privilege is asked for at each run.
GRANT INSERT, SELECT ON customer_segmentation_table TO regress_rules_alice;
SET ROLE regress_rules_alice;
SELECT customer_segmentation.create_segment('Carts of Alice', act('added_to_cart', 'greater_than', '1'), segment_id => '0000000000000000000a11ce', time_zone => 'UTC');
SET ROLE regress_rules_bob;
SELECT customer_segmentation.run_segment('0000000000000000000a11ce', '2025-08-25 10:00+00');
RESET ROLE;
SELECT count(*), (SELECT count(*) FROM (SELECT FROM carts WHERE day <= '2025-08-25' GROUP BY customer_id HAVING count(*) > 1) x) AS expected FROM customer_segmentation_table WHERE segment_id = '0000000000000000000a11ce';
REVOKE SELECT (day) ON carts FROM regress_rules_alice;
SELECT error_of($$SELECT customer_segmentation.run_segment('0000000000000000000a11ce', '2025-08-25 10:00+00')$$);
GRANT SELECT ON carts TO regress_rules_alice;
ALTER TABLE carts ENABLE ROW LEVEL SECURITY;
CREATE POLICY some_carts ON carts TO regress_rules_alice USING (customer_id < 10);
SELECT customer_segmentation.run_segment('0000000000000000000a11ce', '2025-08-25 10:00+00');
SELECT count(*), (SELECT count(*) FROM (SELECT FROM carts WHERE day <= '2025-08-25' AND customer_id < 10 GROUP BY customer_id HAVING count(*) > 1) x) AS expected FROM customer_segmentation_table WHERE segment_id = '0000000000000000000a11ce';
ALTER TABLE carts DISABLE ROW LEVEL SECURITY;
DROP POLICY some_carts ON carts;
-- Functions and operators that somebody puts in the way are not called.
CREATE SCHEMA planted;
CREATE FUNCTION planted.lower(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'planted'; END $$;
CREATE FUNCTION planted.floor(numeric) RETURNS numeric LANGUAGE plpgsql AS $$ BEGIN RAISE 'planted'; END $$;
CREATE FUNCTION planted.greater(int, int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'planted'; END $$;
CREATE OPERATOR planted.= (FUNCTION = planted.greater, LEFTARG = int, RIGHTARG = int);
SELECT act('added_to_cart', 'greater_than', '0') AS rules \gset
SET search_path = planted, pg_catalog, shop, public;
SELECT customer_segmentation.run_segment('0000000000000000000a11ce', '2025-08-25 10:00+00');
SELECT num_of_customers > 0 AS some FROM customer_segmentation.preview_segment(:'rules'::jsonb);
SET search_path = shop, public;
DROP SCHEMA planted CASCADE;
SELECT customer_segmentation.drop_segment('0000000000000000000a11ce', false);
SET ROLE regress_rules_alice;
SELECT unset_sources();
SET ROLE regress_rules_bob;
SELECT customer_segmentation.set_source('carts', NULL);
RESET ROLE;
REVOKE USAGE ON SCHEMA shop FROM PUBLIC;
DROP OWNED BY regress_rules_alice, regress_rules_bob;
DROP ROLE regress_rules_alice, regress_rules_bob;
DROP MATERIALIZED VIEW kept;
DROP VIEW seen;
DROP TABLE base, more, parts, typed_customers, typed_orders, various, passing;
DROP TYPE pair;
DROP DOMAIN short;
DROP COLLATION same_case;
DROP SEQUENCE numbers;
DROP INDEX orders_at;
DROP FUNCTION wrong;
SELECT unset_sources();
SELECT set_sources();
