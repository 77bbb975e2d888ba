-- customer_set: who is in it, asked of many customers and sets, as SQL says of a plain table.
SET search_path = public, customer_segmentation;
CREATE TABLE t (LIKE customer_segmentation_table) USING customer_segmentation;
CREATE TABLE h AS
SELECT 'c' || c AS customer, s || '_' || i AS instance, s AS segment
FROM (VALUES ('third', 3), ('rare', 500), ('most', 40)) AS s(s, n), generate_series(1, 2) AS i, generate_series(1, 40000) AS c
WHERE (hashint4extended(c, i) % n = 0) = (s <> 'most');
INSERT INTO t (customer_identity, instance_created_date, segment_id, segment_instance_id)
SELECT customer, '2025-01-01', segment, instance FROM h ORDER BY hashtext(customer);
CREATE TABLE customer AS SELECT 'c' || c AS customer FROM generate_series(-50, 40050, 61) AS c;
CREATE INDEX ON h (instance, customer);
ANALYZE h, customer;
-- Of any form: lists, bitmaps and runs, in line and out of line, by number and by name, and none at all.
CREATE TABLE kept (n int, label text, s customer_set);
INSERT INTO kept SELECT row_number() OVER (ORDER BY i), i, members(i, 't') FROM (SELECT DISTINCT instance AS i FROM h) AS i;
INSERT INTO kept SELECT 10, 'named', format('t:%s', array(SELECT customer FROM h WHERE instance = 'rare_1' ORDER BY 1)::text)::customer_set;
INSERT INTO kept SELECT 11, 'nobody', members('rare_1', 't') - members('rare_1', 't');
INSERT INTO kept SELECT 12, 'all', union_agg(members(i, 't')) FROM (SELECT DISTINCT instance AS i FROM h) AS i;
SELECT label, pg_column_size(s) > 2000 AS large, cardinality(s) FROM kept ORDER BY n;

CREATE FUNCTION is_in(label text, customer text) RETURNS boolean STABLE LANGUAGE sql
RETURN CASE label WHEN 'nobody' THEN false WHEN 'all' THEN EXISTS (SELECT FROM h WHERE h.customer = $2)
	ELSE EXISTS (SELECT FROM h WHERE h.customer = $2 AND instance = CASE label WHEN 'named' THEN 'rare_1' ELSE label END) END;
-- One set after the other, and all of them for each customer.
SELECT label, count(*) FILTER (WHERE s @> customer) AS members, count(*) FILTER (WHERE (s @> customer) <> is_in(label, customer)) AS differ
FROM (SELECT * FROM kept, customer ORDER BY n OFFSET 0) AS x GROUP BY n, label ORDER BY n;
SELECT count(*) FILTER (WHERE s @> customer) AS members, count(*) FILTER (WHERE (s @> customer) <> is_in(label, customer)) AS differ
FROM (SELECT * FROM customer, kept ORDER BY customer, n OFFSET 0) AS x WHERE n <> 10;
-- In a sub-select, in the condition itself, in a variable, and as the result of an expression.
SELECT count(*) FROM customer WHERE ((SELECT members('third_1', 't')) @> customer) <> is_in('third_1', customer);
SELECT count(*) FROM customer WHERE (members('third_1', 't') @> customer) <> is_in('third_1', customer);
SELECT count(*) FROM customer WHERE (members(ARRAY['third_1', 'rare_2'], 't') @> customer) <>
	(is_in('third_1', customer) OR is_in('rare_2', customer));
SELECT count(*) FROM customer WHERE ((members('most_1', 't') - members('third_2', 't')) @> customer) <>
	(is_in('most_1', customer) AND NOT is_in('third_2', customer));
DO $$
DECLARE
	s customer_set;
	differ int := 0;
	c text;
BEGIN
	FOR s IN SELECT k.s FROM kept AS k ORDER BY n LOOP
		FOR c IN SELECT customer FROM customer LIMIT 3 LOOP
			differ := differ + ((s @> c) <> (c IN (SELECT identities(s))))::int;
		END LOOP;
	END LOOP;
	RAISE NOTICE '% differ', differ;
END $$;
-- Of a damaged set, and of one of a former state, nobody is told anything.
SELECT error_of($$SELECT count(*) FROM customer, kept WHERE label = 'third_1' AND
	customer_segmentation.from_roaring(set_byte(s::bytea, 4000, 0), 't') @> customer$$) ~ '^22P03' AS refused;
SELECT optimize('t');
SELECT label, error_of(format('SELECT count(*) FROM kept, customer WHERE n = %s AND s @> customer', n)) FROM kept ORDER BY n;
DROP FUNCTION is_in;
DROP TABLE t, h, customer, kept;
