-- What the columns must be, and what they may be.
\set columns 'customer_identity text NOT NULL, instance_created_date timestamp NOT NULL, schedule text, segment_by text, segment_created_date timestamp, segment_id text NOT NULL, segment_instance_id text NOT NULL, segment_name text, num_of_customers bigint, num_of_orders bigint'
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION create_with(columns text, more text DEFAULT '') RETURNS text LANGUAGE sql AS $$
	SELECT error_of(format('CREATE TABLE refused (%s%s) USING customer_segmentation', columns, more))
$$;

-- Missing, strange, renamed.
SELECT create_with(:'columns');
SELECT create_with('');
SELECT create_with(:'columns', ', total_revenue numeric, city text');
SELECT create_with(:'columns', ', "Total_revenue" numeric');

-- Types.
SELECT create_with(:'columns', ', total_revenue float8');
SELECT create_with(:'columns', ', total_revenue numeric[]');
SELECT create_with(replace(:'columns', 'segment_by text', 'segment_by varchar'), ', total_revenue numeric');
SELECT create_with(replace(:'columns', 'num_of_orders bigint', 'num_of_orders int'), ', total_revenue numeric');
SELECT create_with(replace(:'columns', 'instance_created_date timestamp', 'instance_created_date timestamptz'), ', total_revenue numeric');
CREATE DOMAIN revenue AS numeric CHECK (VALUE >= 0);
SELECT create_with(:'columns', ', total_revenue revenue');
DROP DOMAIN revenue;

-- Generated, identity, collation.
SELECT create_with(:'columns', ', total_revenue numeric GENERATED ALWAYS AS (num_of_orders * 2.5) STORED');
SELECT create_with(replace(:'columns', 'num_of_orders bigint', 'num_of_orders bigint GENERATED ALWAYS AS IDENTITY'), ', total_revenue numeric');
CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
SELECT create_with(replace(:'columns', 'customer_identity text', 'customer_identity text COLLATE any_case'), ', total_revenue numeric');
SELECT create_with(replace(:'columns', 'segment_name text', 'segment_name text COLLATE any_case'), ', total_revenue numeric');

-- Nothing is left behind.
SELECT count(*) FROM pg_class WHERE relname = 'refused';

-- Types and collations can't be changed later, nor columns become generated or identity columns.
CREATE TABLE t (LIKE customer_segmentation_table) USING customer_segmentation;
SELECT error_of('ALTER TABLE t ALTER total_revenue TYPE float8') LIKE '0A000|table "t" can''t use access method%Column "total_revenue" is of type double precision.%';
SELECT error_of('ALTER TABLE t ALTER segment_name TYPE varchar(10)') LIKE '0A000|table "t" can''t use access method%Column "segment_name" is of type character varying.%';
SELECT split_part(error_of('ALTER TABLE t ALTER segment_name TYPE text COLLATE any_case'), '|', 1);
SELECT split_part(error_of('ALTER TABLE t ALTER num_of_customers SET NOT NULL, ALTER num_of_customers ADD GENERATED ALWAYS AS IDENTITY'), '|', 1);
SELECT attname, atttypid::regtype FROM pg_attribute
WHERE attrelid = 't'::regclass AND attname IN ('total_revenue', 'segment_name', 'num_of_customers') ORDER BY attnum;
DROP TABLE t;

-- Defaults, types with a modifier, another deterministic collation, NOT NULL on more columns.
CREATE TABLE t (
	customer_identity text COLLATE "C" NOT NULL,
	instance_created_date timestamp(0) DEFAULT '2025-08-25 11:08:39' NOT NULL,
	schedule text DEFAULT 'once_a_day', segment_by text, segment_created_date timestamp,
	segment_id text NOT NULL, segment_instance_id text NOT NULL, segment_name text NOT NULL,
	num_of_customers bigint DEFAULT 1, num_of_orders bigint, total_revenue numeric(10,2)) USING customer_segmentation;
INSERT INTO t (customer_identity, segment_id, segment_instance_id, segment_name, total_revenue)
VALUES ('b', 's', 's_1', 'S', 1.005), ('A', 's', 's_1', 'S', 2);
SELECT * FROM t ORDER BY customer_identity;
SELECT error_of($$INSERT INTO t (customer_identity, segment_id, segment_instance_id) VALUES ('c', 's', 's_1')$$) ~ '^23502';
SELECT error_of($$INSERT INTO t (customer_identity, segment_id, segment_instance_id, segment_name, total_revenue) VALUES ('c', 's', 's_1', 'S', 1e9)$$) ~ '^22003';
SELECT * FROM customer_segmentation.verify('t');
DROP TABLE t;

-- What must have a value, also where the table's definition would let NULL in.
CREATE TABLE t (customer_identity text, instance_created_date timestamp, schedule text, segment_by text,
	segment_created_date timestamp, segment_id text, segment_instance_id text, segment_name text,
	num_of_customers bigint, num_of_orders bigint, total_revenue numeric) USING customer_segmentation;
INSERT INTO t VALUES ('a', '2025-01-01', NULL, NULL, NULL, 's', 's_1');
SELECT error_of($$INSERT INTO t VALUES (NULL, '2025-01-01', NULL, NULL, NULL, 's', 's_1')$$);
SELECT error_of($$INSERT INTO t VALUES ('b', NULL, NULL, NULL, NULL, 's', 's_1')$$);
SELECT error_of($$INSERT INTO t VALUES ('b', '2025-01-01', NULL, NULL, NULL, NULL, 's_1')$$);
SELECT error_of($$INSERT INTO t VALUES ('b', '2025-01-01', NULL, NULL, NULL, 's', NULL)$$);
SELECT error_of($$UPDATE t SET customer_identity = NULL$$);
SELECT error_of($$UPDATE t SET instance_created_date = NULL$$);
SELECT * FROM t;
SELECT * FROM customer_segmentation.verify('t');
DROP TABLE t;

-- Columns stand in any order.
CREATE TABLE t (total_revenue numeric, num_of_orders bigint, num_of_customers bigint, segment_name text,
	segment_instance_id text NOT NULL, segment_id text NOT NULL, segment_created_date timestamp, segment_by text,
	schedule text, instance_created_date timestamp NOT NULL, customer_identity text NOT NULL) USING customer_segmentation;
CREATE TABLE t_twin (LIKE t, UNIQUE (segment_instance_id, customer_identity) DEFERRABLE) USING heap;
\pset tuples_only off
\pset format aligned
SELECT on_both($$INSERT INTO @ (customer_identity, instance_created_date, schedule, segment_by, segment_created_date,
	segment_id, segment_instance_id, segment_name, num_of_customers, num_of_orders, total_revenue)
	SELECT * FROM sample_rows(2, 3, 20)$$) \gexec
SELECT * FROM compare_twin();
SELECT on_both($$UPDATE @ SET total_revenue = total_revenue + 1 WHERE num_of_orders > 3$$) \gexec
SELECT * FROM compare_twin();
SELECT * FROM t ORDER BY segment_instance_id, customer_identity LIMIT 3;
DROP TABLE t, t_twin;

-- A heap table with dropped columns takes the access method, and goes back.
CREATE TABLE t (gone int, LIKE customer_segmentation_table, gone_too text DEFAULT 'x') USING heap;
INSERT INTO t SELECT 1, s.*, 'y' FROM sample_rows(2, 3, 20) s;
SELECT split_part(error_of('ALTER TABLE t SET ACCESS METHOD customer_segmentation'), '|', 1);
ALTER TABLE t DROP gone, DROP gone_too;
CREATE TABLE t_twin AS SELECT * FROM t;
ALTER TABLE t SET ACCESS METHOD customer_segmentation;
SELECT * FROM compare_twin();
SELECT on_both($$DELETE FROM @ WHERE num_of_orders = 2$$) \gexec
SELECT on_both($$UPDATE @ SET customer_identity = customer_identity || 'x' WHERE num_of_orders = 3$$) \gexec
SELECT on_both($$INSERT INTO @ SELECT 'new', instance_created_date, schedule, segment_by, segment_created_date, segment_id,
	segment_instance_id, segment_name, 1, 0, 0 FROM @ GROUP BY 2, 3, 4, 5, 6, 7, 8$$) \gexec
SELECT * FROM compare_twin();
ALTER TABLE t SET ACCESS METHOD heap;
SELECT * FROM (SELECT * FROM t EXCEPT ALL SELECT * FROM t_twin) x;
SELECT * FROM (SELECT * FROM t_twin EXCEPT ALL SELECT * FROM t) x;
DROP TABLE t, t_twin;
DROP FUNCTION create_with(text, text);
DROP COLLATION any_case;
