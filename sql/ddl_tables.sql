-- What may be done to a table as a whole.
SELECT make_twins('t');
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(3, 5, 60)$$) \gexec

-- TRUNCATE, also rolled back, also of rows of the same transaction.
TRUNCATE t, t_twin;
SELECT * FROM compare_twin();
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(3, 5, 60)$$) \gexec
BEGIN;
TRUNCATE t;
SELECT count(*) FROM t;
INSERT INTO t SELECT * FROM sample_rows(1, 1, 5);
ROLLBACK;
SELECT * FROM compare_twin();
BEGIN;
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(4, 1, 5) WHERE segment_id = 'segment4'$$) \gexec
SAVEPOINT a;
SELECT on_both($$TRUNCATE @$$) \gexec
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(5, 1, 5) WHERE segment_id = 'segment5'$$) \gexec
SELECT on_both($$TRUNCATE @$$) \gexec
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(5, 1, 7) WHERE segment_id = 'segment5'$$) \gexec
SELECT * FROM compare_twin();
ROLLBACK TO a;
SELECT * FROM compare_twin();
COMMIT;
SELECT * FROM compare_twin();
CREATE FUNCTION pg_temp.truncate_it() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN TRUNCATE t; RETURN true; END $$;
SELECT split_part(error_of('SELECT pg_temp.truncate_it() FROM t'), '|', 1);

-- Another access method, and back; with rows of the same transaction.
ALTER TABLE t SET ACCESS METHOD heap;
SELECT count(*) FROM (TABLE t EXCEPT ALL TABLE t_twin) x;
ALTER TABLE t SET ACCESS METHOD customer_segmentation;
SELECT * FROM compare_twin();
BEGIN;
SELECT on_both($$UPDATE @ SET total_revenue = 3.30 WHERE segment_id = 'segment2'$$) \gexec
ALTER TABLE t SET ACCESS METHOD heap;
SELECT on_both($$DELETE FROM @ WHERE segment_id = 'segment3'$$) \gexec
ALTER TABLE t SET ACCESS METHOD customer_segmentation;
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(6, 1, 5) WHERE segment_id = 'segment6'$$) \gexec
SELECT * FROM compare_twin();
COMMIT;
SELECT * FROM compare_twin();
BEGIN;
ALTER TABLE t SET ACCESS METHOD heap;
ROLLBACK;
SELECT * FROM compare_twin();
-- A heap table with duplicates can't become ours, and stays as it is.
CREATE TABLE doubled AS TABLE t;
INSERT INTO doubled SELECT * FROM t LIMIT 1;
SELECT split_part(error_of('ALTER TABLE doubled SET ACCESS METHOD customer_segmentation'), '|', 1);
SELECT count(*) - (SELECT count(*) FROM t) FROM doubled;
DROP TABLE doubled;

-- Another tablespace.
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE regress_customer_segmentation LOCATION '';
ALTER TABLE t SET TABLESPACE regress_customer_segmentation;
SELECT spcname FROM pg_class JOIN pg_tablespace s ON s.oid = reltablespace WHERE pg_class.oid = 't'::regclass;
SELECT * FROM compare_twin();
SELECT on_both($$UPDATE @ SET num_of_orders = 9 WHERE num_of_orders = 3$$) \gexec
SELECT * FROM compare_twin();
ALTER TABLE t SET TABLESPACE pg_default;
SELECT * FROM compare_twin();
CREATE TABLE elsewhere (LIKE t) USING customer_segmentation TABLESPACE regress_customer_segmentation;
INSERT INTO elsewhere TABLE t;
SELECT count(*) - (SELECT count(*) FROM t) FROM elsewhere;
DROP TABLE elsewhere;
DROP TABLESPACE regress_customer_segmentation;

-- Unlogged, and logged again.
ALTER TABLE t SET UNLOGGED;
SELECT relpersistence FROM pg_class WHERE oid = 't'::regclass;
SELECT * FROM compare_twin();
SELECT on_both($$DELETE FROM @ WHERE num_of_orders = 5$$) \gexec
ALTER TABLE t SET LOGGED;
SELECT relpersistence FROM pg_class WHERE oid = 't'::regclass;
SELECT * FROM compare_twin();
-- Lossless rewrites of a column: type modifier, default, NOT NULL.
ALTER TABLE t ALTER total_revenue TYPE numeric(12,4), ALTER schedule SET DEFAULT 'once_a_week', ALTER segment_by SET NOT NULL;
ALTER TABLE t_twin ALTER total_revenue TYPE numeric(12,4), ALTER schedule SET DEFAULT 'once_a_week', ALTER segment_by SET NOT NULL;
SELECT on_both($$INSERT INTO @ (customer_identity, segment_id, segment_instance_id, instance_created_date, segment_by) VALUES ('d', 's', 's_1', '2025-01-01', 'email')$$) \gexec
SELECT twin($$INSERT INTO @ (customer_identity, segment_id, segment_instance_id, instance_created_date) VALUES ('e', 's', 's_1', '2025-01-01')$$);
SELECT * FROM compare_twin();
ALTER TABLE t SET (fillfactor = 70, autovacuum_enabled = off);
SELECT reloptions FROM pg_class WHERE oid = 't'::regclass;
VACUUM FULL t;
SELECT * FROM compare_twin();
SELECT split_part(error_of('CLUSTER t'), '|', 1);

-- Names and schemas.
CREATE SCHEMA elsewhere;
ALTER TABLE t RENAME TO renamed;
ALTER TABLE t_twin RENAME TO renamed_twin;
SELECT * FROM compare_twin('renamed');
ALTER TABLE renamed SET SCHEMA elsewhere;
ALTER TABLE renamed_twin SET SCHEMA elsewhere;
SET search_path = elsewhere, public;
SELECT * FROM compare_twin('renamed');
SELECT on_both($$DELETE FROM @ WHERE num_of_orders = 9$$, 'renamed') \gexec
SELECT * FROM compare_twin('renamed');
RESET search_path;
SELECT pg_relation_filepath('elsewhere.renamed') IS NOT NULL;
DROP SCHEMA elsewhere CASCADE;

-- Temporary tables.
CREATE TEMP TABLE keep (LIKE customer_segmentation_table) USING customer_segmentation;
CREATE TEMP TABLE empties (LIKE customer_segmentation_table) USING customer_segmentation ON COMMIT DELETE ROWS;
BEGIN;
CREATE TEMP TABLE goes (LIKE customer_segmentation_table) USING customer_segmentation ON COMMIT DROP;
INSERT INTO keep SELECT * FROM sample_rows(2, 3, 20);
INSERT INTO empties TABLE keep;
INSERT INTO goes TABLE keep;
UPDATE goes SET total_revenue = 1;
DELETE FROM empties WHERE num_of_orders = 1;
SELECT (SELECT count(*) FROM keep), (SELECT count(*) FROM empties), (SELECT count(*) FROM goes WHERE total_revenue = 1);
COMMIT;
SELECT (SELECT count(*) FROM keep), (SELECT count(*) FROM empties), to_regclass('goes');
INSERT INTO empties TABLE keep;
SELECT count(*) FROM empties;
BEGIN;
INSERT INTO empties TABLE keep;
SELECT count(*) FROM empties;
ROLLBACK;
ANALYZE keep;
VACUUM keep;
SELECT count(*) FROM keep;
SELECT * FROM customer_segmentation.verify('keep');
SELECT * FROM customer_segmentation.verify('empties');
BEGIN;
CREATE TEMP TABLE short (LIKE customer_segmentation_table) USING customer_segmentation ON COMMIT DROP;
SAVEPOINT a;
INSERT INTO short TABLE keep;
ROLLBACK TO a;
SELECT count(*) FROM short;
DROP TABLE short;
COMMIT;

-- Made, filled and dropped within one transaction.
BEGIN;
CREATE TABLE brief (LIKE customer_segmentation_table) USING customer_segmentation;
INSERT INTO brief TABLE keep;
SAVEPOINT a;
DROP TABLE brief;
ROLLBACK TO a;
SELECT count(*) FROM brief;
DROP TABLE brief;
COMMIT;
DROP TABLE keep, empties;
