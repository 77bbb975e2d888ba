-- One row per customer and segment instance; one segment per instance.
SELECT make_twins('t');
SELECT on_both($$INSERT INTO @ SELECT 'c' || i, '2025-01-01', 'once_a_day', NULL, NULL, 's', 's_1', 'S', 1, i, i FROM generate_series(1, 10) i$$) \gexec
\pset format unaligned
\pset tuples_only on

-- The error names both values.
SELECT error_of($$INSERT INTO t VALUES ('c1', '2025-01-01', 'once_a_day', NULL, NULL, 's', 's_1', 'S', 1, 1, 1)$$);
SELECT error_of($$UPDATE t SET customer_identity = 'c2' WHERE customer_identity = 'c1'$$);
SELECT error_of($$INSERT INTO t SELECT 'new', '2025-01-01', 'once_a_day', NULL, NULL, 's', 's_1', 'S', 1, 1, 1 FROM generate_series(1, 2)$$);
-- Whatever the other dimensions are.
SELECT error_of($$INSERT INTO t VALUES ('c1', '2025-01-02', 'once_a_week', 'email', '2023-07-20', 's', 's_1', 'Other', 1, 1, 1)$$);
SELECT error_of($$INSERT INTO t SELECT 'new', '2025-01-01', 'once_a_day', NULL, NULL, 's', 's_1', 'S' || i, 1, 1, 1 FROM generate_series(1, 2) i$$);
SELECT error_of($$UPDATE t SET customer_identity = 'c2', segment_name = 'Other' WHERE customer_identity = 'c1'$$);
-- An instance belongs to one segment.
SELECT error_of($$INSERT INTO t VALUES ('c11', '2025-01-01', 'once_a_day', NULL, NULL, 'other', 's_1', 'S', 1, 1, 1)$$);
SELECT error_of($$UPDATE t SET segment_id = 'other' WHERE customer_identity = 'c1'$$);
SELECT error_of($$INSERT INTO t VALUES ('c11', '2025-01-01', NULL, NULL, NULL, 'a', 'new_1', 'S', 1, 1, 1), ('c12', '2025-01-01', NULL, NULL, NULL, 'b', 'new_1', 'S', 1, 1, 1)$$);
\pset format aligned
\pset tuples_only off
SELECT * FROM compare_twin();

-- Rows of one instance that differ in other dimensions.
SELECT on_both($$INSERT INTO @ SELECT 'd' || i, timestamp '2025-01-01' + i * interval '1 s', 'x' || i % 3, NULL, NULL, 'third', 'third_1', 'Name ' || i, 1, i, i FROM generate_series(1, 100) i$$) \gexec
SELECT twin($$INSERT INTO @ VALUES ('d77', '2025-01-01', NULL, NULL, NULL, 'third', 'third_1', 'S', 1, 1, 1)$$);
SELECT twin($$UPDATE @ SET customer_identity = 'd1' WHERE customer_identity = 'd2'$$);
SELECT twin($$UPDATE @ SET segment_name = 'Same', schedule = NULL, instance_created_date = '2025-01-01'$$);
SELECT twin($$SELECT DISTINCT segment_name FROM @$$);
SELECT * FROM compare_twin();

-- A statement that fails leaves nothing; what it added before may be added again.
SELECT twin($$INSERT INTO @ SELECT 'e' || least(i, 5000), '2025-01-01', NULL, NULL, NULL, 'third', 'third_2', 'S', 1, i, i FROM generate_series(1, 5001) i$$);
SELECT * FROM compare_twin();
SELECT twin($$INSERT INTO @ SELECT 'e' || i, '2025-01-01', NULL, NULL, NULL, 'third', 'third_2', 'S', 1, i, i FROM generate_series(1, 5000) i$$);
SELECT twin($$INSERT INTO @ VALUES ('e4999', '2025-01-01', NULL, NULL, NULL, 'third', 'third_2', 'S', 1, 1, 1)$$);
SELECT * FROM compare_twin();

-- Among rows that were written by the same transaction, and by the same command before.
BEGIN;
INSERT INTO t VALUES ('f1', '2025-01-01', NULL, NULL, NULL, 'third', 'third_3', 'S', 1, 1, 1);
SAVEPOINT a;
INSERT INTO t VALUES ('f1', '2025-01-01', NULL, NULL, NULL, 'third', 'third_3', 'S', 1, 2, 2);
ROLLBACK TO a;
DELETE FROM t WHERE customer_identity = 'f1';
INSERT INTO t VALUES ('f1', '2025-01-01', NULL, NULL, NULL, 'third', 'third_3', 'S', 1, 3, 3);
SAVEPOINT b;
DELETE FROM t WHERE customer_identity = 'f1';
ROLLBACK TO b;
\set VERBOSITY sqlstate
INSERT INTO t VALUES ('f1', '2025-01-01', NULL, NULL, NULL, 'third', 'third_3', 'S', 1, 4, 4);
\set VERBOSITY default
ROLLBACK TO b;
COMMIT;
SELECT num_of_orders FROM t WHERE customer_identity = 'f1';
INSERT INTO t_twin SELECT * FROM t WHERE customer_identity = 'f1';
SELECT * FROM compare_twin();

-- Identities that differ in case, in form, in blanks at the end are different.
SELECT twin($$INSERT INTO @ SELECT x, '2025-01-01', NULL, NULL, NULL, 'third', 'third_4', 'S', 1, 1, 1 FROM unnest(ARRAY['x', 'X', 'x ', ' x', '']) x$$);
SELECT twin($$INSERT INTO @ SELECT x, '2025-01-01', NULL, NULL, NULL, 'third', 'third_4', 'S', 1, 1, 1 FROM unnest(ARRAY['y', 'Y', 'x ']) x$$);
SELECT * FROM compare_twin();

-- ON CONFLICT DO NOTHING without a target has no index to ask, but never lets a duplicate in.
SELECT split_part(error_of($$INSERT INTO t VALUES ('x', '2025-01-01', NULL, NULL, NULL, 'third', 'third_4', 'S', 1, 1, 1) ON CONFLICT DO NOTHING$$), '|', 1);
SELECT split_part(error_of($$INSERT INTO t VALUES ('x', '2025-01-01', NULL, NULL, NULL, 'third', 'third_4', 'S', 1, 1, 1)
	ON CONFLICT (segment_instance_id, customer_identity) DO NOTHING$$), '|', 1);
SELECT * FROM compare_twin();

-- Deleting and inserting one member, in one statement and in one transaction.
SELECT twin($$WITH d AS (DELETE FROM @ WHERE customer_identity = 'X' RETURNING *) INSERT INTO @ SELECT 'Z', instance_created_date, schedule,
	segment_by, segment_created_date, segment_id, segment_instance_id, segment_name, 1, 5, 5 FROM d$$);
BEGIN;
SELECT on_both($$DELETE FROM @ WHERE segment_instance_id = 'third_4'$$) \gexec
SELECT on_both($$INSERT INTO @ VALUES ('x', '2025-01-01', NULL, NULL, NULL, 'third', 'third_4', 'S', 1, 6, 6)$$) \gexec
SELECT on_both($$DELETE FROM @ WHERE customer_identity = 'x'$$) \gexec
SELECT on_both($$INSERT INTO @ VALUES ('x', '2025-01-01', NULL, NULL, NULL, 'third', 'third_4', 'S', 1, 7, 7)$$) \gexec
SELECT * FROM compare_twin();
COMMIT;
SELECT * FROM compare_twin();

-- The instance's name is free when it has no rows.
SELECT on_both($$DELETE FROM @ WHERE segment_instance_id = 's_1'$$) \gexec
SELECT twin($$INSERT INTO @ VALUES ('c1', '2025-01-01', NULL, NULL, NULL, 'heir', 's_1', 'S', 1, 1, 1)$$);
SELECT * FROM compare_twin();
-- Another table has names of its own.
SELECT make_twins('u');
INSERT INTO u SELECT * FROM t;
SELECT count(*) = (SELECT count(*) FROM t) FROM u;
DROP TABLE t, t_twin, u, u_twin;
