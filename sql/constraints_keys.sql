-- CHECK, NOT NULL and foreign keys, as on any table.
SELECT make_twins('t');
ALTER TABLE t ADD CONSTRAINT positive CHECK (num_of_orders >= 0), ALTER segment_name SET NOT NULL;
ALTER TABLE t_twin ADD CONSTRAINT positive CHECK (num_of_orders >= 0), ALTER segment_name SET NOT NULL;
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(3, 3, 30)$$) \gexec
SELECT twin($$INSERT INTO @ SELECT 'bad' || i, '2025-01-01', NULL, NULL, NULL, 's', 's_1', 'S', 1, 5 - i, 1 FROM generate_series(1, 10) i$$);
SELECT twin($$UPDATE @ SET num_of_orders = num_of_orders - 1$$);
SELECT twin($$UPDATE @ SET segment_name = NULL WHERE num_of_orders = 1$$);
SELECT twin($$UPDATE @ SET num_of_orders = NULL WHERE num_of_orders = 1$$);
SELECT * FROM compare_twin();
SELECT twin($$ALTER TABLE @ ADD CONSTRAINT few CHECK (num_of_orders < 3)$$);
SELECT twin($$ALTER TABLE @ ADD CONSTRAINT few CHECK (num_of_orders < 300)$$);
SELECT twin($$ALTER TABLE @ ADD CONSTRAINT rich CHECK (total_revenue > 100) NOT VALID$$);
SELECT twin($$ALTER TABLE @ VALIDATE CONSTRAINT rich$$);
SELECT twin($$UPDATE @ SET total_revenue = 1$$);
SELECT twin($$ALTER TABLE @ DROP CONSTRAINT rich$$);
SELECT twin($$ALTER TABLE @ ALTER num_of_orders SET NOT NULL$$);
SELECT twin($$UPDATE @ SET num_of_orders = 0 WHERE num_of_orders IS NULL$$);
SELECT twin($$ALTER TABLE @ ALTER num_of_orders SET NOT NULL$$);
SELECT * FROM compare_twin();

-- A foreign key to an ordinary table.
CREATE TABLE segments_known (segment_id text PRIMARY KEY, name text UNIQUE);
SELECT twin($$ALTER TABLE @ ADD FOREIGN KEY (segment_id) REFERENCES segments_known$$);
INSERT INTO segments_known SELECT 'segment' || i, 'Segment ' || i FROM generate_series(1, 4) i;
SELECT twin($$ALTER TABLE @ ADD CONSTRAINT known FOREIGN KEY (segment_id) REFERENCES segments_known$$);
SELECT twin($$INSERT INTO @ VALUES ('c', '2025-01-01', NULL, NULL, NULL, 'segment4', 'segment4_1', 'S', 1, 1, 1)$$);
SELECT twin($$INSERT INTO @ VALUES ('c', '2025-01-01', NULL, NULL, NULL, 'segment5', 'segment5_1', 'S', 1, 1, 1)$$);
SELECT twin($$UPDATE @ SET segment_id = 'segment5', segment_instance_id = 'moved' WHERE segment_id = 'segment4'$$);
SELECT twin($$UPDATE @ SET segment_id = 'segment2', segment_instance_id = 'moved' WHERE segment_id = 'segment4'$$);
SELECT twin($$UPDATE @ SET total_revenue = 4 WHERE segment_id = 'segment2'$$);
SELECT error_of($$DELETE FROM segments_known WHERE segment_id = 'segment2'$$) ~ '^23503';
SELECT error_of($$UPDATE segments_known SET segment_id = 'x' WHERE segment_id = 'segment2'$$) ~ '^23503';
DELETE FROM segments_known WHERE segment_id = 'segment4';
SELECT * FROM compare_twin();
SELECT twin($$ALTER TABLE @ DROP CONSTRAINT known$$);
INSERT INTO segments_known VALUES ('segment4', 'Segment 4');

-- Deferred: what counts is the end of the transaction.
ALTER TABLE t ADD CONSTRAINT known FOREIGN KEY (segment_id) REFERENCES segments_known DEFERRABLE INITIALLY DEFERRED;
BEGIN;
INSERT INTO t VALUES ('c', '2025-01-01', NULL, NULL, NULL, 'segment6', 'segment6_1', 'S', 1, 1, 1), ('d', '2025-01-01', NULL, NULL, NULL, 'segment6', 'segment6_1', 'S', 1, 1, 1);
UPDATE t SET total_revenue = 2 WHERE segment_id = 'segment6';
INSERT INTO segments_known VALUES ('segment6');
COMMIT;
BEGIN;
INSERT INTO t VALUES ('c', '2025-01-01', NULL, NULL, NULL, 'segment7', 'segment7_1', 'S', 1, 1, 1);
DELETE FROM t WHERE segment_id = 'segment7';
COMMIT;
BEGIN;
INSERT INTO t VALUES ('c', '2025-01-01', NULL, NULL, NULL, 'segment7', 'segment7_1', 'S', 1, 1, 1);
UPDATE t SET segment_id = 'segment6', segment_instance_id = 'segment6_7' WHERE segment_id = 'segment7';
COMMIT;
\set VERBOSITY sqlstate
BEGIN;
INSERT INTO t VALUES ('c', '2025-01-01', NULL, NULL, NULL, 'segment7', 'segment7_2', 'S', 1, 1, 1);
COMMIT;
BEGIN;
INSERT INTO t VALUES ('c', '2025-01-01', NULL, NULL, NULL, 'segment7', 'segment7_2', 'S', 1, 1, 1);
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK;
BEGIN;
DELETE FROM segments_known WHERE segment_id = 'segment6';
COMMIT;
\set VERBOSITY default
BEGIN;
DELETE FROM segments_known WHERE segment_id = 'segment6';
DELETE FROM t WHERE segment_id = 'segment6';
COMMIT;
SELECT * FROM compare_twin();
ALTER TABLE t DROP CONSTRAINT known;

-- ON DELETE CASCADE, ON UPDATE CASCADE.
SELECT twin($$DELETE FROM @ WHERE segment_instance_id = 'moved'$$);
CREATE TABLE segments_known_twin AS TABLE segments_known;
ALTER TABLE segments_known_twin ADD PRIMARY KEY (segment_id), ADD UNIQUE (name);
ALTER TABLE t ADD CONSTRAINT known FOREIGN KEY (segment_id) REFERENCES segments_known ON DELETE CASCADE;
ALTER TABLE t_twin ADD CONSTRAINT known FOREIGN KEY (segment_id) REFERENCES segments_known_twin ON DELETE CASCADE;
SELECT on_both($$DELETE FROM @ WHERE segment_id IN ('segment1', 'segment4')$$, 'segments_known') \gexec
SELECT * FROM compare_twin();
ALTER TABLE t DROP CONSTRAINT known;
ALTER TABLE t_twin DROP CONSTRAINT known;
-- A nullable dimension: SET NULL, SET DEFAULT, and a cascaded change of every row.
ALTER TABLE t ALTER segment_name DROP NOT NULL;
ALTER TABLE t_twin ALTER segment_name DROP NOT NULL;
ALTER TABLE t ADD CONSTRAINT named FOREIGN KEY (segment_name) REFERENCES segments_known (name) ON DELETE SET NULL ON UPDATE CASCADE;
ALTER TABLE t_twin ADD CONSTRAINT named FOREIGN KEY (segment_name) REFERENCES segments_known_twin (name) ON DELETE SET NULL ON UPDATE CASCADE;
SELECT on_both($$UPDATE @ SET name = 'New name' WHERE segment_id = 'segment2'$$, 'segments_known') \gexec
SELECT * FROM compare_twin();
SELECT twin($$SELECT segment_name, count(*) FROM @ GROUP BY 1$$);
SELECT on_both($$DELETE FROM @ WHERE segment_id = 'segment3'$$, 'segments_known') \gexec
SELECT * FROM compare_twin();
SELECT twin($$SELECT segment_name, count(*) FROM @ GROUP BY 1$$);
ALTER TABLE t DROP CONSTRAINT named;
ALTER TABLE t_twin DROP CONSTRAINT named;
DROP TABLE segments_known, segments_known_twin;

-- COPY, with constraints.
\set VERBOSITY sqlstate
COPY t (customer_identity, segment_id, segment_instance_id, instance_created_date, num_of_orders) FROM stdin;
c	s	s_1	2025-01-01	0
d	s	s_1	2025-01-01	-1
\.
COPY t (customer_identity, segment_id, segment_instance_id, instance_created_date, num_of_orders) FROM stdin;
c	s	s_1	2025-01-01	0
d	s	s_1	2025-01-01	\N
\.
\set VERBOSITY default
SELECT * FROM compare_twin();
DROP TABLE t, t_twin;
