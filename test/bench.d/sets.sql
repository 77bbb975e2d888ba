-- What functions of customer_set take, of sets of five million: shape|what|milliseconds, the best of many.
--
-- Shapes: "runs" are customers 0 to 5 million; "dense" is a random half of ten million, which the format keeps as bitmaps;
-- "sparse" is a random eighth of forty million. a and b of a shape have nothing to do with each other. They are stored,
-- so each call reads them from shared buffers, checks and decodes them, and what is a set is encoded again.
\set QUIET on
SET client_min_messages = warning;
SET statement_timeout = 0;
CREATE SCHEMA bench_sets;
SET search_path = bench_sets, public, customer_segmentation;
CREATE TABLE customers (LIKE customer_segmentation_table) USING customer_segmentation;
INSERT INTO customers (customer_identity, instance_created_date, segment_id, segment_instance_id)
SELECT (5209503000000 + c)::text, '2025-01-01', 'all', 'all_1' FROM generate_series(1, 5000000) c;
INSERT INTO customers (customer_identity, instance_created_date, segment_id, segment_instance_id)
SELECT (5209503000000 + c)::text, '2025-01-02', 'all', 'all_2' FROM generate_series(1, 5000000) c WHERE c % 50 <> 0;
-- Nobody holds the row versions that the first statement left to the second.
VACUUM customers;

CREATE FUNCTION little(n bigint, bytes int) RETURNS bytea IMMUTABLE LANGUAGE sql
RETURN (SELECT string_agg(set_byte('\x00'::bytea, 0, (n >> (8 * i) & 255)::int), '' ORDER BY i) FROM generate_series(0, bytes - 1) i);
-- A Roaring bitmap of n containers of bitmaps, in hexadecimal.
CREATE FUNCTION roaring(bitmaps bytea[]) RETURNS text LANGUAGE sql
RETURN (SELECT encode('\x3a300000'::bytea || little(count(*), 4)
		|| string_agg(little(i - 1, 2) || little(bit_count(b) - 1, 2), '' ORDER BY i)
		|| string_agg(little(8 + 8 * cardinality(bitmaps) + 8192 * (i - 1), 4), '' ORDER BY i) || string_agg(b, '' ORDER BY i), 'hex')
	FROM unnest(bitmaps) WITH ORDINALITY AS u (b, i));
CREATE FUNCTION random_set(seed text, n int) RETURNS customer_set LANGUAGE sql
RETURN (SELECT ('bench_sets.customers:#999:' || roaring(array_agg(b ORDER BY i)))::customer_set
	FROM (SELECT i, string_agg(sha512(convert_to(seed || i || '/' || k, 'UTF8')), '' ORDER BY k) AS b
			FROM generate_series(1, n) i, generate_series(1, 128) k GROUP BY i) c);
CREATE FUNCTION full_set(n int) RETURNS customer_set LANGUAGE sql
RETURN (SELECT ('bench_sets.customers:#999:' || roaring(array_agg(decode(repeat('ff', 8192), 'hex'))))::customer_set FROM generate_series(1, n));
CREATE TABLE stored (shape text, a customer_set, b customer_set);
INSERT INTO stored VALUES ('runs', full_set(76), full_set(77)),
	('dense', random_set('a', 153), random_set('b', 153)),
	('sparse', random_set('a', 611) & random_set('b', 611) & random_set('c', 611),
		random_set('d', 611) & random_set('e', 611) & random_set('f', 611)),
	('customers', members('all_1', 'customers'), members('all_2', 'customers'));

CREATE FUNCTION best(shape text, expression text) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
	least interval;
	since timestamptz;
BEGIN
	EXECUTE format('CREATE OR REPLACE FUNCTION once() RETURNS void LANGUAGE plpgsql AS %L',
		format('BEGIN PERFORM %s FROM stored WHERE shape = %L; END', expression, shape));
	FOR i IN 1 .. 40 LOOP
		since := clock_timestamp();
		PERFORM once();
		least := least(least, clock_timestamp() - since);
	END LOOP;
	RETURN round(extract(epoch FROM least) * 1000, 3);
END $$;
SELECT format('%s, %s and %s members in %s and %s kB', shape, cardinality(a), cardinality(b), pg_column_size(a) / 1000, pg_column_size(b) / 1000),
	expression, best(shape, expression)
FROM stored, unnest(ARRAY['cardinality(a)', 'cardinality(a & b)', 'a & b', 'a | b', 'a - b', 'a # b', 'a = b', 'a = a', 'a <> b', 'a @> b', 'a && b',
	'customer_set_hash(a)', 'a::bytea', 'union_agg(a)']) WITH ORDINALITY AS e (expression, n)
WHERE shape <> 'customers' ORDER BY shape, n;
SELECT format('customers, %s members in %s kB', cardinality(a), pg_column_size(a) / 1000), expression, best(shape, expression)
FROM stored, unnest(ARRAY['a @> ''5209503777777''::text', 'cardinality(members(''all_2'', ''customers''))', 'members(''all_2'', ''customers'')']) AS expression
WHERE shape = 'customers';
DROP SCHEMA bench_sets CASCADE;
