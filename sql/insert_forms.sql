-- Every way to put rows in.
SELECT make_twins('t');

-- One row, several, defaults, column lists.
SELECT on_both($$INSERT INTO @ VALUES ('a', '2025-01-01', 'once_a_day', 'email', '2023-07-20', 's1', 's1_1', 'One', 1, 2, 3.50)$$) \gexec
SELECT on_both($$INSERT INTO @ VALUES ('b', '2025-01-01', 'once_a_day', 'email', '2023-07-20', 's1', 's1_1', 'One', 1, 2, 3.50),
	('c', '2025-01-01', 'once_a_day', 'email', '2023-07-20', 's1', 's1_1', 'One', 1, 2, DEFAULT)$$) \gexec
SELECT on_both($$INSERT INTO @ (customer_identity, segment_id, segment_instance_id, instance_created_date) VALUES ('a', 's2', 's2_1', '2025-01-01')$$) \gexec
SELECT twin($$INSERT INTO @ DEFAULT VALUES$$);
SELECT * FROM compare_twin();

-- RETURNING: the row as it is stored, its address too.
SELECT twin($$INSERT INTO @ (customer_identity, segment_id, segment_instance_id, instance_created_date, total_revenue)
	VALUES ('b', 's2', 's2_1', '2025-01-01', 1.50), ('new', 's2', 's2_1', '2025-01-01', 7) RETURNING customer_identity, total_revenue * 2, @.*$$);
WITH i AS (INSERT INTO t SELECT 'returned' || i, '2025-01-01', NULL, NULL, NULL, 's' || i, 's' || i || '_1', NULL, 1, i, i
	FROM generate_series(1, 3) i RETURNING ctid, tableoid, customer_identity)
SELECT customer_identity, tableoid::regclass, count(*) OVER (PARTITION BY ctid) FROM i ORDER BY 1;
INSERT INTO t_twin SELECT * FROM t WHERE customer_identity LIKE 'returned%';
SELECT * FROM compare_twin();

-- From the table itself, while it grows.
SELECT on_both($$INSERT INTO @ SELECT customer_identity || '2', instance_created_date, schedule, segment_by, segment_created_date,
	segment_id, segment_instance_id, segment_name, num_of_customers, num_of_orders, total_revenue FROM @$$) \gexec
SELECT on_both($$INSERT INTO @ SELECT customer_identity, instance_created_date + interval '1 day', schedule, segment_by, segment_created_date,
	segment_id, segment_instance_id || 'x', segment_name, num_of_customers, num_of_orders + 1, total_revenue FROM @$$) \gexec
SELECT * FROM compare_twin();
TRUNCATE t, t_twin;

-- Sorted by instance, by customer, by nothing; more instances in a segment than fit a group.
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(2, 70, 40) ORDER BY segment_instance_id, customer_identity$$) \gexec
SELECT * FROM compare_twin();
TRUNCATE t, t_twin;
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(2, 70, 40) ORDER BY customer_identity, segment_instance_id$$) \gexec
SELECT * FROM compare_twin();
TRUNCATE t, t_twin;
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(2, 70, 40) ORDER BY md5(customer_identity || segment_instance_id)$$) \gexec
SELECT * FROM compare_twin();
SELECT groups, instances, customers FROM customer_segmentation.storage_info('t');
-- Older instances after newer ones, and one customer in all of them.
SELECT on_both($$INSERT INTO @ SELECT 'everywhere', d, NULL, NULL, NULL, s, s || '_early_' || d::date, NULL, 1, 1, 1
	FROM generate_series(timestamp '2024-12-31', '2024-10-01', '-1 day') d, unnest('{segment1,segment2}'::text[]) s$$) \gexec
SELECT on_both($$INSERT INTO @ SELECT 'everywhere', instance_created_date, schedule, segment_by, segment_created_date, segment_id,
	segment_instance_id, segment_name, 1, 0, 0 FROM @ WHERE segment_name IS NOT NULL GROUP BY 2, 3, 4, 5, 6, 7, 8$$) \gexec
SELECT * FROM compare_twin();
TRUNCATE t, t_twin;

-- A statement for each instance: deltas grow as large as their base; the instance that takes a group's last room folds
-- them. A row of a new instance twice, by one statement, in one transaction, under another name of the segment: refused.
CREATE FUNCTION newest_rows(name text, first int, last int) RETURNS SETOF customer_segmentation_table LANGUAGE sql AS $$
	SELECT 'c' || c, timestamp '2025-05-01', NULL, NULL, NULL::timestamp, 's', 's_64', name, 1, c % 50, c * 1.25 FROM generate_series(first, last) c
$$;
DO $$ BEGIN
	FOR i IN 1..63 LOOP
		INSERT INTO t_twin SELECT 'c' || c, timestamp '2025-01-01' + i * interval '1 day', NULL, NULL, NULL, 's', 's_' || i, 'Name', 1,
			(c + i / 9) % 50, c * 1.25 FROM generate_series(1, 2000) c WHERE (c + i) % 100 > 0;
		INSERT INTO t SELECT * FROM t_twin WHERE segment_instance_id = 's_' || i;
	END LOOP;
END $$;
SELECT groups, instances, deltas > 0 AS has_deltas FROM customer_segmentation.storage_info('t');
SELECT twin($$INSERT INTO @ SELECT * FROM newest_rows('Name', 1, 1000) UNION ALL SELECT * FROM newest_rows('Name', 1000, 1000)$$);
SELECT twin($$INSERT INTO @ SELECT * FROM newest_rows('Name', 1, 1000) UNION ALL SELECT * FROM newest_rows('New name', 1000, 1000)$$);
BEGIN;
SELECT on_both($$INSERT INTO @ SELECT * FROM newest_rows('Name', 1, 1000)$$) \gexec
SELECT twin($$INSERT INTO @ SELECT * FROM newest_rows('Name', 1000, 1000)$$);
SELECT twin($$INSERT INTO @ SELECT * FROM newest_rows('New name', 1000, 1000)$$);
SELECT on_both($$INSERT INTO @ SELECT * FROM newest_rows('Name', 1001, 1500)$$) \gexec
SELECT * FROM compare_twin();
ROLLBACK;
VACUUM t;
SELECT groups, instances, deltas > 0 AS has_deltas FROM customer_segmentation.storage_info('t');
SELECT on_both($$INSERT INTO @ SELECT * FROM newest_rows('Name', 1, 1500)$$) \gexec
SELECT groups, instances, deltas FROM customer_segmentation.storage_info('t');
SELECT * FROM compare_twin();
DROP FUNCTION newest_rows;
TRUNCATE t, t_twin;

-- Many small statements.
DO $$ BEGIN
	FOR i IN 1..300 LOOP
		INSERT INTO t VALUES ('c' || i % 100, '2025-01-01', NULL, NULL, NULL, 's' || i % 3, format('s%s_%s', i % 3, i / 100), NULL, 1, i, i / 100.0);
		INSERT INTO t_twin VALUES ('c' || i % 100, '2025-01-01', NULL, NULL, NULL, 's' || i % 3, format('s%s_%s', i % 3, i / 100), NULL, 1, i, i / 100.0);
	END LOOP;
END $$;
SELECT * FROM compare_twin();

-- COPY, in and out, in all formats, to the byte.
COPY t FROM stdin;
copied	2025-08-25 11:08:39	once_a_day	email	\N	s9	s9_1	Tab\tand \\ backslash	1	2	3.00
copied2	2025-08-25 11:08:39.5	\N	\N	2023-07-20 08:33:08	s9	s9_1		\N	\N	\N
\.
COPY t_twin FROM stdin;
copied	2025-08-25 11:08:39	once_a_day	email	\N	s9	s9_1	Tab\tand \\ backslash	1	2	3.00
copied2	2025-08-25 11:08:39.5	\N	\N	2023-07-20 08:33:08	s9	s9_1		\N	\N	\N
\.
COPY t (segment_instance_id, segment_id, instance_created_date, customer_identity) FROM stdin WITH (FORMAT csv, HEADER);
a,b,c,d
s9_2,s9,2025-08-26,"with ""quotes"", and comma"
\.
COPY t_twin (segment_instance_id, segment_id, instance_created_date, customer_identity) FROM stdin WITH (FORMAT csv, HEADER);
a,b,c,d
s9_2,s9,2025-08-26,"with ""quotes"", and comma"
\.
SELECT * FROM compare_twin();
COPY (SELECT * FROM t WHERE segment_id = 's9' ORDER BY customer_identity) TO stdout WITH (FORMAT csv, HEADER, FORCE_QUOTE *);
SELECT current_setting('data_directory') || '/customer_segmentation_copy' AS file \gset
COPY t TO :'file' WITH (FORMAT binary);
TRUNCATE t;
COPY t FROM :'file' WITH (FORMAT binary);
SELECT * FROM compare_twin();
COPY t TO :'file' WITH (FORMAT csv, HEADER, NULL 'none');
DELETE FROM t;
COPY t FROM :'file' WITH (FORMAT csv, HEADER, NULL 'none');
SELECT * FROM compare_twin();
\set VERBOSITY sqlstate
COPY t FROM stdin;
copied	2025-08-25 11:08:39	once_a_day	email	\N	s9	s9_1	Again	1	2	3.00
\.
COPY t FROM stdin;
copied3	2025-08-25 11:08:39	once_a_day	email	\N	s9	s9_1	First is well	1	2	3.00
copied4	2025-08-25 11:08:39	once_a_day	email	\N	s9	s9_1	Second is not	1	2	three
\.
COPY t (customer_identity) FROM stdin;
x
\.
\set VERBOSITY default
SELECT * FROM compare_twin();
TRUNCATE t, t_twin;

-- CREATE TABLE AS, SELECT INTO, LIKE.
INSERT INTO t_twin SELECT * FROM sample_rows(3, 4, 60);
DROP TABLE t;
CREATE TABLE t USING customer_segmentation AS SELECT * FROM t_twin;
SELECT * FROM compare_twin();
DROP TABLE t;
SET default_table_access_method = customer_segmentation;
SELECT * INTO t FROM t_twin;
SELECT * FROM compare_twin();
DROP TABLE t;
CREATE TABLE t (LIKE t_twin INCLUDING DEFAULTS);
RESET default_table_access_method;
INSERT INTO t SELECT * FROM t_twin;
SELECT * FROM compare_twin();
SELECT amname FROM pg_class JOIN pg_am a ON a.oid = relam WHERE pg_class.oid = 't'::regclass;
CREATE TABLE t2 (LIKE customer_segmentation_table INCLUDING ALL) USING customer_segmentation;
INSERT INTO t2 TABLE t;
SELECT count(*) FROM t2;
CREATE TABLE refused USING customer_segmentation AS SELECT 1 AS one;
CREATE TABLE t3 USING customer_segmentation AS TABLE t WITH NO DATA;
SELECT count(*) FROM t3;
DROP TABLE t, t2, t3, t_twin;
