-- Values come back exactly as they went in.
SELECT make_twins('t');

-- Measures: scales, NaN, infinities, NULL, the ends of what a type holds.
SELECT on_both($$INSERT INTO @
SELECT 'c' || row_number() OVER (), timestamp '2025-01-01', 'once_a_day', 'customer_id', timestamp '2023-07-20', 's', 's_1', 'S',
	customers, orders, revenue
FROM (VALUES
	(1::bigint, 1::bigint, 1.10), (1, 1, 1.1), (1, 1, 1), (1, 1, 1.000000000000), (NULL, NULL, NULL), (0, 0, 0), (0, 0, 0.00),
	(-1, -1, -1), (-1, -1, -0.001), (1, 1, 'NaN'), (1, 1, 'Infinity'), (1, 1, '-Infinity'),
	(9223372036854775807, -9223372036854775808, 9223372036854775807),
	(-9223372036854775808, 9223372036854775807, -9223372036854775808),
	(9223372036854775807, 9223372036854775807, 9223372036854775808),
	(1, NULL, 1e-20), (NULL, 1, 1e+500), (1, 1, -1e+500), (1, 1, 12345678901234567890.123456789012345678901234567890),
	(1, 1, 99999999999999.99), (1, 1, 999999999999999.999), (1, 1, 0.1), (1, 1, 1e-300), (1, 1, 123e4))
	AS v(customers, orders, revenue)$$) \gexec
SELECT * FROM compare_twin();
SELECT customer_identity, num_of_customers, num_of_orders,
	CASE WHEN length(total_revenue::text) > 60 THEN md5(total_revenue::text) ELSE total_revenue::text END AS total_revenue,
	scale(total_revenue)
FROM t ORDER BY substr(customer_identity, 2)::int;
SELECT twin($$SELECT sum(num_of_orders), avg(num_of_orders), min(num_of_orders), max(num_of_orders), count(num_of_orders) FROM @$$);
SELECT twin($$SELECT md5(sum(total_revenue)::text), count(total_revenue), min(total_revenue), max(total_revenue) FROM @
	WHERE total_revenue NOT IN ('NaN', 'Infinity', '-Infinity') AND abs(total_revenue) < 1e100$$);
SELECT twin($$SELECT sum(total_revenue), min(total_revenue), max(total_revenue) FROM @$$);
SELECT twin($$SELECT customer_identity FROM @ WHERE total_revenue = 1.1$$);
SELECT twin($$SELECT customer_identity FROM @ WHERE total_revenue = 'NaN'$$);

-- From each value to the next, in place.
SELECT on_both($$UPDATE @ SET total_revenue = n.total_revenue, num_of_orders = n.num_of_orders, num_of_customers = n.num_of_customers
	FROM (SELECT customer_identity, lead(total_revenue) OVER w AS total_revenue, lead(num_of_orders) OVER w AS num_of_orders,
		lead(num_of_customers) OVER w AS num_of_customers FROM @ WINDOW w AS (ORDER BY substr(customer_identity, 2)::int)) n
	WHERE n.customer_identity = @.customer_identity$$) \gexec
SELECT * FROM compare_twin();
-- The same value with another scale.
SELECT on_both($$UPDATE @ SET total_revenue = 5$$) \gexec
SELECT on_both($$UPDATE @ SET total_revenue = 5.0 WHERE customer_identity < 'c2'$$) \gexec
SELECT * FROM compare_twin();
SELECT total_revenue::text, count(*) FROM t GROUP BY 1 ORDER BY 1;
SELECT on_both($$UPDATE @ SET num_of_customers = NULL, num_of_orders = NULL, total_revenue = NULL$$) \gexec
SELECT * FROM compare_twin();
TRUNCATE t, t_twin;

-- Dimensions: NULL and empty are not the same, and make instances of their own.
SELECT on_both($$INSERT INTO @
SELECT 'c' || row_number() OVER (), timestamp '2025-01-01', schedule, segment_by, created, 's', 's_1', name, 1, 1, 1
FROM (VALUES (NULL, ''), ('', NULL), ('once_a_day', NULL)) AS a(schedule, segment_by),
	(VALUES (timestamp '2023-07-20'), (NULL)) AS b(created), (VALUES (NULL), (''), ('S'), (' S'), ('S ')) AS c(name)$$) \gexec
SELECT * FROM compare_twin();
SELECT twin($$SELECT count(*), count(DISTINCT (schedule, segment_by, segment_created_date, segment_name)) FROM @$$);
SELECT twin($$SELECT customer_identity FROM @ WHERE segment_name IS NULL AND schedule = '' AND segment_created_date IS NULL$$);
TRUNCATE t, t_twin;

-- Empty keys.
SELECT on_both($$INSERT INTO @ VALUES ('', '2025-01-01', NULL, NULL, NULL, '', '', NULL, 1, 1, 1)$$) \gexec
SELECT twin($$INSERT INTO @ VALUES ('', '2025-01-02', NULL, NULL, NULL, '', '', NULL, 1, 1, 1)$$);
SELECT * FROM compare_twin();

-- Times: microseconds, before 2000, the ends, infinities.
SELECT on_both($$INSERT INTO @ SELECT 'c', d, NULL, NULL, e, 's', 's_' || row_number() OVER (), NULL, 1, 1, 1
FROM (VALUES (timestamp '2025-08-25 11:08:39.123456'), ('2025-08-25 11:08:39.123457'), ('1970-01-01'), ('0001-01-01 BC'),
	('4713-01-01 BC'), ('294276-12-31 23:59:59.999999'), ('infinity'), ('-infinity'), ('2000-01-01')) AS a(d),
	(VALUES (NULL), (timestamp 'infinity'), ('-infinity'), ('2023-07-20 08:33:08.000001')) AS b(e)$$) \gexec
SELECT * FROM compare_twin();
SELECT twin($$SELECT min(instance_created_date), max(instance_created_date), count(DISTINCT instance_created_date) FROM @$$);
SELECT twin($$SELECT count(*) FROM @ WHERE instance_created_date = 'infinity'$$);
SELECT twin($$SELECT count(*) FROM @ WHERE instance_created_date BETWEEN '2025-08-25 11:08:39.123457' AND 'infinity'$$);
TRUNCATE t, t_twin;

-- Large texts. Heap's unique index could not hold them.
DO $$ BEGIN EXECUTE (SELECT format('ALTER TABLE t_twin DROP CONSTRAINT %I', conname) FROM pg_constraint WHERE conrelid = 't_twin'::regclass AND contype = 'u'); END $$;
CREATE FUNCTION long_text(seed text, kilobytes int) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(md5(seed || i), '') FROM generate_series(1, kilobytes * 32) i
$$;
SELECT on_both($$INSERT INTO @ SELECT long_text('identity' || i, 1024), '2025-01-01', 'once_a_day', 'email', NULL, 's', 's_1', 'S', 1, i, 2
	FROM generate_series(1, 3) i$$) \gexec
SELECT on_both($$INSERT INTO @ SELECT 'c' || i, '2025-01-01', 'once_a_day', 'email', NULL, 's', 's_1', long_text('name', 1024), 1, i, 2
	FROM generate_series(1, 3) i$$) \gexec
SELECT on_both($$INSERT INTO @ SELECT repeat('x', 1048576) || i, '2025-01-01', long_text('schedule', 9), repeat('e', 9000), NULL,
	's' || long_text('segment', 9), 'long_' || long_text('instance', 9), 'S', 1, i, 2 FROM generate_series(1, 3) i$$) \gexec
SELECT * FROM compare_twin();
SELECT on_both($$UPDATE @ SET total_revenue = 3, segment_name = segment_name || '!' WHERE num_of_orders = 2$$) \gexec
SELECT on_both($$DELETE FROM @ WHERE num_of_orders = 1$$) \gexec
SELECT * FROM compare_twin();
SELECT twin($$SELECT length(customer_identity), length(segment_name), length(segment_id), length(segment_instance_id) FROM @$$);
SELECT split_part(error_of('INSERT INTO t SELECT * FROM t'), '|', 1);
-- A number with many digits.
SELECT on_both($$INSERT INTO @ SELECT 'digits' || i, '2025-01-01', 'once_a_day', 'email', NULL, 's', 's_1', 'S', 1, 1,
	(long_digits || '.' || long_digits)::numeric FROM (SELECT repeat('1234567890', 1500) AS long_digits) d, generate_series(1, 3) i$$) \gexec
SELECT * FROM compare_twin();
VACUUM FULL t;
SELECT * FROM compare_twin();
DROP FUNCTION long_text(text, int);
TRUNCATE t, t_twin;

-- Any character, and identities that differ in little.
SELECT on_both($$INSERT INTO @ SELECT x, '2025-01-01', x, x, NULL, x, 'i' || x, x, 1, 1, 1
FROM (VALUES ('é'), (U&'e\0301'), ('E'), ('e'), ('ß'), ('ss'), ('日本語'), ('😀'), (E'tab\there'), (E'line\nbreak'), ('\'), (''''),
	('"'), (' '), ('  '), (E'\x01'), (U&'\FEFF'), ('NULL'), ('null'), ('{}'), (U&'\+10FFFF'), ('Ω≈ç√∫˜µ')) AS v(x)$$) \gexec
SELECT on_both($$INSERT INTO @ SELECT customer_identity, '2025-01-01', NULL, NULL, NULL, 'all', 'all_1', 'All', 1, 1, 1 FROM @$$) \gexec
SELECT * FROM compare_twin();
SELECT twin($$SELECT segment_name FROM @ WHERE customer_identity = 'é'$$);
SELECT twin($$SELECT segment_name FROM @ WHERE segment_instance_id = 'i😀'$$);
DROP TABLE t, t_twin;
