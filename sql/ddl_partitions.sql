-- Tables of ours as partitions and as children.
CREATE TABLE p (LIKE customer_segmentation_table) PARTITION BY LIST (segment_id);
CREATE TABLE p_a PARTITION OF p FOR VALUES IN ('segment1', 'a') USING customer_segmentation;
CREATE TABLE p_b PARTITION OF p FOR VALUES IN ('segment2') USING heap;
CREATE TABLE p_rest PARTITION OF p DEFAULT USING customer_segmentation;
CREATE TABLE p_twin (LIKE p, UNIQUE (segment_instance_id, customer_identity) DEFERRABLE);
CREATE FUNCTION compare_parts() RETURNS TABLE (only_ours bigint, only_twin bigint, rows bigint, problems bigint) LANGUAGE sql AS $$
	SELECT (SELECT count(*) FROM (SELECT rows_of('p') EXCEPT ALL SELECT rows_of('p_twin')) x),
		(SELECT count(*) FROM (SELECT rows_of('p_twin') EXCEPT ALL SELECT rows_of('p')) x), (SELECT count(*) FROM p_twin),
		(SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = inhrelid JOIN pg_am a ON a.oid = relam AND amname = 'customer_segmentation',
			customer_segmentation.verify(c.oid::regclass) WHERE inhparent = 'p'::regclass)
$$;

-- Rows go where they belong, by INSERT and by COPY.
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(4, 3, 40)$$, 'p') \gexec
SELECT tableoid::regclass, segment_id, count(*) FROM p GROUP BY 1, 2 ORDER BY 2;
COPY p FROM stdin;
one	2025-08-25	\N	\N	\N	segment1	segment1_1	Segment	1	2	3.00
two	2025-08-25	\N	\N	\N	segment2	segment2_1	Segment	1	2	3.00
three	2025-08-25	\N	\N	\N	other	other_1	Segment	1	2	3.00
\.
INSERT INTO p_twin SELECT * FROM p WHERE segment_name = 'Segment';
SELECT * FROM compare_parts();
SELECT twin($$INSERT INTO @ SELECT * FROM @ LIMIT 0$$, 'p');
SELECT error_of($$INSERT INTO p_b SELECT * FROM p_a LIMIT 1$$) ~ '^23514';
SELECT error_of($$INSERT INTO p_a SELECT * FROM p_b LIMIT 1$$) ~ '^23514';

-- UPDATE within a partition and to another one, in both directions between ours, ours and heap.
SELECT twin($$UPDATE @ SET total_revenue = total_revenue + 1 WHERE num_of_orders > 3$$, 'p');
SELECT twin($$UPDATE @ SET segment_id = 'a', segment_instance_id = 'a' || segment_instance_id WHERE segment_id = 'segment1' AND num_of_orders = 1$$, 'p');
SELECT * FROM compare_parts();
SELECT twin($$UPDATE @ SET segment_id = 'segment3', segment_instance_id = 'x' || segment_instance_id WHERE segment_id IN ('a', 'segment2') AND num_of_orders < 3$$, 'p');
SELECT twin($$UPDATE @ SET segment_id = 'segment2', segment_instance_id = 'y' || segment_instance_id WHERE segment_id = 'segment1' AND num_of_orders > 4$$, 'p');
SELECT * FROM compare_parts();
SELECT twin($$UPDATE @ SET segment_id = 'segment1', segment_instance_id = 'z' || segment_instance_id WHERE segment_id = 'segment4' AND num_of_orders = 5 RETURNING customer_identity, segment_instance_id$$, 'p');
SELECT tableoid::regclass, count(*) FROM p GROUP BY 1 ORDER BY 1;
SELECT twin($$DELETE FROM @ WHERE num_of_orders = 2$$, 'p');
SELECT twin($$MERGE INTO @ USING (SELECT 'customer' || i AS c, i FROM generate_series(1, 60, 7) i) n ON customer_identity = n.c AND segment_instance_id = 'segment1_2'
	WHEN MATCHED THEN UPDATE SET segment_id = 'segment2', segment_instance_id = 'merged'
	WHEN NOT MATCHED THEN INSERT VALUES (n.c, '2025-01-01', NULL, NULL, NULL, 'new', 'new_1', NULL, 1, i, i)$$, 'p');
SELECT * FROM compare_parts();
SELECT twin($$SELECT segment_id, count(*), sum(total_revenue) FROM @ GROUP BY 1$$, 'p');
SELECT twin($$SELECT count(*) FROM @ WHERE segment_id = 'segment2'$$, 'p');

-- Detach and attach.
ALTER TABLE p DETACH PARTITION p_a;
SELECT count(*) FROM p WHERE segment_id = 'segment1';
ALTER TABLE p_a SET ACCESS METHOD heap;
ALTER TABLE p ATTACH PARTITION p_a FOR VALUES IN ('segment1', 'a');
ALTER TABLE p_b SET ACCESS METHOD customer_segmentation;
SELECT * FROM compare_parts();
SELECT error_of($$ALTER TABLE p ADD PRIMARY KEY (segment_id, segment_instance_id, customer_identity)$$) ~ '^0A000';
SELECT error_of($$CREATE INDEX ON p (customer_identity)$$) ~ '^0A000';
SELECT error_of($$ALTER TABLE p ADD COLUMN city text$$) ~ '^0A000';
SELECT relname FROM pg_index JOIN pg_class c ON c.oid = indrelid WHERE relname LIKE 'p\_%' AND relname <> 'p_twin';
TRUNCATE p, p_twin;
SELECT * FROM compare_parts();
DROP TABLE p, p_twin;

-- By hash, with partitions below partitions, and columns in another order.
CREATE TABLE p (LIKE customer_segmentation_table) PARTITION BY HASH (segment_id);
CREATE TABLE p_0 PARTITION OF p FOR VALUES WITH (MODULUS 3, REMAINDER 0) USING customer_segmentation;
CREATE TABLE p_1 (total_revenue numeric, num_of_orders bigint, num_of_customers bigint, segment_name text,
	segment_instance_id text NOT NULL, segment_id text NOT NULL, segment_created_date timestamp, segment_by text,
	schedule text, instance_created_date timestamp NOT NULL, customer_identity text NOT NULL) USING customer_segmentation;
ALTER TABLE p ATTACH PARTITION p_1 FOR VALUES WITH (MODULUS 3, REMAINDER 1);
CREATE TABLE p_2 PARTITION OF p FOR VALUES WITH (MODULUS 3, REMAINDER 2) PARTITION BY RANGE (instance_created_date);
CREATE TABLE p_2_old PARTITION OF p_2 FOR VALUES FROM (MINVALUE) TO ('2025-01-03') USING customer_segmentation;
CREATE TABLE p_2_new PARTITION OF p_2 FOR VALUES FROM ('2025-01-03') TO (MAXVALUE) USING customer_segmentation;
CREATE TABLE p_twin (LIKE p, UNIQUE (segment_instance_id, customer_identity) DEFERRABLE);
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(12, 4, 30)$$, 'p') \gexec
SELECT * FROM compare_parts();
SELECT count(DISTINCT tableoid) FROM p;
SELECT twin($$UPDATE @ SET segment_id = 'm' || segment_id, segment_instance_id = 'm' || segment_instance_id, total_revenue = 1.50 WHERE num_of_orders > 2$$, 'p');
SELECT twin($$UPDATE @ SET instance_created_date = instance_created_date + interval '1 day'$$, 'p');
SELECT * FROM compare_parts();
SELECT twin($$DELETE FROM @ USING (SELECT DISTINCT segment_instance_id i FROM @ WHERE num_of_orders = 3) x WHERE segment_instance_id = x.i$$, 'p');
SELECT * FROM compare_parts();
SELECT count(*) FROM customer_segmentation.verify('p_2_old');
SELECT count(*) FROM customer_segmentation.verify('p_2_new');
DROP TABLE p, p_twin;
DROP FUNCTION compare_parts();

-- Children by inheritance: ours under heap, ours under ours.
CREATE TABLE parent (LIKE customer_segmentation_table) USING heap;
CREATE TABLE child () INHERITS (parent) USING customer_segmentation;
CREATE TABLE grandchild () INHERITS (child) USING customer_segmentation;
INSERT INTO child SELECT * FROM sample_rows(1, 2, 10);
INSERT INTO grandchild SELECT * FROM sample_rows(2, 2, 10);
INSERT INTO parent SELECT * FROM sample_rows(3, 2, 10);
SELECT tableoid::regclass, count(*) FROM parent GROUP BY 1 ORDER BY 1;
SELECT (SELECT count(*) FROM child), (SELECT count(*) FROM ONLY child);
UPDATE parent SET total_revenue = 2.50 WHERE num_of_orders = 3;
DELETE FROM child WHERE num_of_orders = 2;
SELECT tableoid::regclass, count(*), count(*) FILTER (WHERE total_revenue = 2.50) FROM parent GROUP BY 1 ORDER BY 1;
SELECT error_of($$ALTER TABLE parent ADD COLUMN city text$$) ~ '^0A000';
SELECT error_of($$ALTER TABLE parent RENAME COLUMN schedule TO timetable$$) ~ '^0A000';
SELECT error_of($$ALTER TABLE parent DROP COLUMN schedule$$) ~ '^0A000';
SELECT * FROM customer_segmentation.verify('child');
SELECT * FROM customer_segmentation.verify('grandchild');
DROP TABLE parent CASCADE;
