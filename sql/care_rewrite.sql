-- optimize, erase_customer, export_instances and import_instances, beside the heap twin.
CREATE TABLE care (LIKE customer_segmentation_table) USING customer_segmentation;
CREATE TABLE care_twin (LIKE customer_segmentation_table) USING heap;
CREATE VIEW care_differences AS
	SELECT count(*) FROM ((TABLE care EXCEPT ALL TABLE care_twin) UNION ALL (TABLE care_twin EXCEPT ALL TABLE care)) d;

-- Seventy daily instances of four segments, one statement a day: several groups, deltas, many dictionary records. One
-- segment changes its name; measures are NULL, NaN, infinite or wider than 64 bits.
DO $$
BEGIN
	FOR d IN 1..70 LOOP
		INSERT INTO care_twin
		SELECT CASE WHEN s % 2 = 0 THEN (5209503790000 + c * 7)::text ELSE 'user' || c || '@example.com' END,
			timestamp '2025-01-01 11:08:39' + d * interval '1 day', CASE WHEN s <> 3 THEN 'once_a_day' END,
			CASE WHEN s % 2 = 0 THEN 'customer_id' ELSE 'email' END, CASE WHEN s <> 2 THEN timestamp '2023-07-20' END,
			'seg' || s, 'seg' || s || '_' || d, CASE WHEN s = 1 AND d > 50 THEN 'New name' ELSE 'Segment ' || s END,
			1, nullif((c + d) / 50, 3),
			CASE WHEN c % 17 = 0 THEN NULL WHEN c % 19 = 0 THEN 'NaN' WHEN c % 29 = 0 THEN 'Infinity'
				WHEN c % 23 = 0 THEN 123456789012345678901234567890.123 ELSE ((c + d) / 50) * 1.25 END
		FROM generate_series(1, 200 + d) c, generate_series(1, 4) s WHERE (c * s + d / 3) % 7 = 0;
		INSERT INTO care SELECT * FROM care_twin
		WHERE instance_created_date = timestamp '2025-01-01 11:08:39' + d * interval '1 day';
	END LOOP;
END $$;
UPDATE care SET num_of_orders = -1 WHERE customer_identity LIKE '%9%' AND segment_id = 'seg2';
UPDATE care_twin SET num_of_orders = -1 WHERE customer_identity LIKE '%9%' AND segment_id = 'seg2';
DELETE FROM care WHERE segment_instance_id IN ('seg1_7', 'seg4_70');
DELETE FROM care_twin WHERE segment_instance_id IN ('seg1_7', 'seg4_70');
TABLE care_differences;

-- optimize: the same rows, no deltas, exact totals, fewer groups where there is room.
SELECT deltas > 0 AS has_deltas, groups FROM customer_segmentation.storage_info('care');
SELECT customer_segmentation.optimize('care');
SELECT deltas, groups, cells = bases AS one_base_a_cell FROM customer_segmentation.storage_info('care');
TABLE care_differences;
SELECT * FROM customer_segmentation.verify('care');
-- Twice is once.
SELECT base_bytes, dictionary_bytes FROM customer_segmentation.storage_info('care') \gset before_
SELECT customer_segmentation.optimize('care');
SELECT base_bytes = :before_base_bytes AND dictionary_bytes = :before_dictionary_bytes AS same
FROM customer_segmentation.storage_info('care');
-- Taken back.
BEGIN;
SELECT customer_segmentation.optimize('care');
SAVEPOINT a;
DELETE FROM care WHERE segment_id = 'seg1';
INSERT INTO care (customer_identity, segment_id, segment_instance_id, instance_created_date)
VALUES ('somebody new', 'seg9', 'seg9_1', '2025-01-01');
SELECT customer_segmentation.optimize('care');
SELECT count(*) FROM care WHERE segment_id IN ('seg1', 'seg9');
SELECT * FROM customer_segmentation.verify('care');
ROLLBACK TO a;
TABLE care_differences;
INSERT INTO care (customer_identity, segment_id, segment_instance_id, instance_created_date)
VALUES ('somebody else', 'seg9', 'seg9_1', '2025-01-01');
SELECT customer_identity FROM care WHERE segment_id = 'seg9';
ROLLBACK;
TABLE care_differences;
SELECT * FROM customer_segmentation.verify('care');
-- Changes go on as before it.
UPDATE care SET total_revenue = 7.50 WHERE customer_identity = 'user14@example.com';
UPDATE care_twin SET total_revenue = 7.50 WHERE customer_identity = 'user14@example.com';
TABLE care_differences;
-- With a smaller buffer than the table it goes in several passes.
SET customer_segmentation.write_buffer = '1MB';
SELECT customer_segmentation.optimize('care');
RESET customer_segmentation.write_buffer;
TABLE care_differences;
-- Not beneath an open cursor, and not for everybody.
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM care;
FETCH 1 FROM c \g /dev/null
SELECT customer_segmentation.optimize('care');
ROLLBACK;
SELECT customer_segmentation.optimize('care_twin');
CREATE ROLE regress_care;
SET ROLE regress_care;
SELECT customer_segmentation.optimize('care');
SELECT customer_segmentation.erase_customer('user14@example.com', 'care');
SELECT customer_segmentation.export_instances('care');
RESET ROLE;
GRANT SELECT, DELETE ON care TO regress_care;
SET ROLE regress_care;
SELECT customer_segmentation.optimize('care');
RESET ROLE;

-- erase_customer: rows, totals, dictionary, statistics.
ANALYZE care;
SELECT count(*), count(DISTINCT segment_instance_id) FROM care_twin WHERE customer_identity = 'user14@example.com';
SELECT customers AS before FROM customer_segmentation.storage_info('care') \gset
SET ROLE regress_care;
SELECT * FROM customer_segmentation.erase_customer('user14@example.com', 'care');
RESET ROLE;
DELETE FROM care_twin WHERE customer_identity = 'user14@example.com';
TABLE care_differences;
SELECT customers - :before AS customers FROM customer_segmentation.storage_info('care');
SELECT count(*) FROM pg_stats WHERE tablename = 'care' AND attname = 'customer_identity';
SELECT * FROM customer_segmentation.verify('care');
SELECT count(*) FROM care WHERE customer_identity = 'user14@example.com';
-- Totals of old instances follow.
SELECT count(*) FROM (SELECT segment_instance_id, count(*), sum(num_of_orders) FROM care GROUP BY 1
	EXCEPT SELECT segment_instance_id, count(*), sum(num_of_orders) FROM care_twin GROUP BY 1) d;
-- Somebody nobody knows; the first and the last of the dictionary; all of them; and one who comes back.
SELECT * FROM customer_segmentation.erase_customer('nobody', 'care');
SELECT min(customer_identity COLLATE "C"), max(customer_identity COLLATE "C") FROM care \gset
SELECT * FROM customer_segmentation.erase_customer(:'min', 'care');
SELECT * FROM customer_segmentation.erase_customer(:'max', 'care');
DELETE FROM care_twin WHERE customer_identity IN (:'min', :'max');
TABLE care_differences;
INSERT INTO care SELECT 'user14@example.com', instance_created_date, schedule, segment_by, segment_created_date, segment_id,
	segment_instance_id, segment_name, 1, 2, 3.50 FROM care_twin WHERE segment_instance_id = 'seg1_9' LIMIT 1;
SELECT customer_identity, segment_instance_id, num_of_orders, total_revenue FROM care WHERE customer_identity = 'user14@example.com';
SELECT rows_removed FROM customer_segmentation.erase_customer('user14@example.com', 'care');
SELECT * FROM customer_segmentation.verify('care');
CREATE TABLE care_one (LIKE customer_segmentation_table) USING customer_segmentation;
INSERT INTO care_one (customer_identity, segment_id, segment_instance_id, instance_created_date) VALUES ('only', 's', 's1', '2025-01-01');
SELECT * FROM customer_segmentation.erase_customer('only', 'care_one');
SELECT customers, rows, instances FROM customer_segmentation.storage_info('care_one');
SELECT customer_segmentation.optimize('care_one');
INSERT INTO care_one (customer_identity, segment_id, segment_instance_id, instance_created_date) VALUES ('next', 's', 's1', '2025-01-01');
SELECT customer_identity FROM care_one;
SELECT * FROM customer_segmentation.verify('care_one');
-- Errors of runs don't keep it, nor do statistics of a parent table.
INSERT INTO customer_segmentation.segment_run (segment_id, kind, as_of, started_at, status, error, run_by)
VALUES ('x', 'manual', '2025-01-01', '2025-01-01', 'failed', 'customer "next" twice, nextly, a.b+c@x.y and a-b+c@x.y', 'me');
SELECT * FROM customer_segmentation.erase_customer('next', 'care_one');
SELECT error FROM customer_segmentation.segment_run WHERE segment_id = 'x';
-- The segment is gone: its runs are cleaned with the extension's own table. Nobody gets at others' by a table of one's own.
SELECT * FROM customer_segmentation.erase_customer('next');
SELECT * FROM customer_segmentation.erase_customer('a.b+c@x.y');
SELECT error FROM customer_segmentation.segment_run WHERE segment_id = 'x';
DELETE FROM customer_segmentation.segment_run WHERE segment_id = 'x';
-- One that was cut off within it neither.
INSERT INTO customer_segmentation.segment_run (segment_id, kind, as_of, started_at, status, error, run_by)
SELECT 'x', 'manual', '2025-01-01', '2025-01-01', 'failed', left(repeat('- ', 2043) || e, 4096), 'me'
FROM unnest('{someone@example.com,no-someone@example.com,xsomeone@example.com}'::text[]) e;
SELECT * FROM customer_segmentation.erase_customer('someone@example.com');
SELECT substr(error, 4083) FROM customer_segmentation.segment_run WHERE segment_id = 'x' ORDER BY run_id;
DELETE FROM customer_segmentation.segment_run WHERE segment_id = 'x';
-- In a transaction that is taken back, nothing happened.
BEGIN;
SELECT rows_removed > 0 AS erased FROM customer_segmentation.erase_customer('user21@example.com', 'care');
ROLLBACK;
SELECT count(*) > 0 AS still_there FROM care WHERE customer_identity = 'user21@example.com';
-- A customer who came back in it has one number, the old one: found, unique, and gone when erased.
INSERT INTO care_one (customer_identity, segment_id, segment_instance_id, instance_created_date) VALUES ('back', 's', 's1', '2025-01-01');
BEGIN;
SELECT * FROM customer_segmentation.erase_customer('back', 'care_one');
INSERT INTO care_one (customer_identity, segment_id, segment_instance_id, instance_created_date) VALUES ('back', 's', 's1', '2025-01-01');
ROLLBACK;
SELECT customer_identity, segment_instance_id FROM care_one WHERE customer_identity = 'back';
INSERT INTO care_one (customer_identity, segment_id, segment_instance_id, instance_created_date) VALUES ('back', 's', 's1', '2025-01-01');
SELECT customers, rows FROM customer_segmentation.storage_info('care_one');
SELECT * FROM customer_segmentation.erase_customer('back', 'care_one');
SELECT customers, rows FROM customer_segmentation.storage_info('care_one');
-- Triggers see the deletion.
CREATE FUNCTION care_seen() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'deleted %', OLD.segment_instance_id; RETURN NULL; END $$;
CREATE TRIGGER seen AFTER DELETE ON care FOR EACH ROW WHEN (OLD.segment_instance_id = 'seg1_30') EXECUTE FUNCTION care_seen();
SELECT min(customer_identity COLLATE "C") FROM care WHERE segment_instance_id = 'seg1_30' \gset
SELECT rows_removed > 0 AS erased FROM customer_segmentation.erase_customer(:'min', 'care');
DROP TRIGGER seen ON care;
-- Row security: nobody reads around a policy.
ALTER TABLE care ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON care TO regress_care USING (segment_id = 'seg1');
SET ROLE regress_care;
SELECT * FROM customer_segmentation.erase_customer('user21@example.com', 'care');
SELECT customer_segmentation.export_instances('care');
RESET ROLE;
ALTER TABLE care DISABLE ROW LEVEL SECURITY;

-- export and import: the same rows in another table, exactly; also text forms of numbers.
CREATE TABLE care_copy (LIKE customer_segmentation_table) USING customer_segmentation;
CREATE TABLE exported AS SELECT e AS instances FROM customer_segmentation.export_instances('care') e;
SELECT count(*) AS chunks, sum(length(instances)) < 40000 AS compact FROM exported;
SELECT count(DISTINCT i) FROM exported, customer_segmentation.import_instances(instances, 'care_copy') i;
SELECT count(*) FROM ((SELECT *, total_revenue::text FROM care EXCEPT ALL SELECT *, total_revenue::text FROM care_copy)
	UNION ALL (SELECT *, total_revenue::text FROM care_copy EXCEPT ALL SELECT *, total_revenue::text FROM care)) d;
SELECT * FROM customer_segmentation.verify('care_copy');
-- Rows without a table; into a heap table; twice is a duplicate; without the privilege.
SELECT segment_name, count(*), count(DISTINCT segment_instance_id) FROM exported, customer_segmentation.exported_rows(instances)
WHERE segment_id = 'seg1' GROUP BY 1 ORDER BY 1;
TRUNCATE care_twin;
SELECT count(i) > 0 AS imported FROM exported, customer_segmentation.import_instances(instances, 'care_twin') i;
TABLE care_differences;
\set VERBOSITY sqlstate
SELECT customer_segmentation.import_instances(instances, 'care_copy') FROM exported;
\set VERBOSITY default
SET ROLE regress_care;
SELECT customer_segmentation.import_instances('\x00', 'care_copy');
RESET ROLE;
-- Anything else is refused.
SELECT customer_segmentation.import_instances('', 'care_copy');
SELECT customer_segmentation.import_instances('\x5801000012345678', 'care_copy');
SELECT customer_segmentation.import_instances(set_byte(instances, 100, 255 - get_byte(instances, 100)), 'care_copy') FROM exported LIMIT 1;
SELECT customer_segmentation.import_instances(substr(instances, 1, length(instances) / 2), 'care_copy') FROM exported LIMIT 1;
-- The bytes, as care.md has them.
CREATE TABLE care_bytes (LIKE customer_segmentation_table) USING customer_segmentation;
INSERT INTO care_bytes VALUES
	('5209503793328', '2025-08-25 11:08:39', 'once_a_day', 'customer_id', '2023-07-20 08:33:08', 'seg', 'seg_2025_08_25', 'At least 3 orders', 1, 3, 12.50),
	('5209503793329', '2025-08-25 11:08:39', 'once_a_day', 'customer_id', '2023-07-20 08:33:08', 'seg', 'seg_2025_08_25', 'At least 3 orders', 1, 4, 1.10);
SELECT encode(e, 'hex') FROM customer_segmentation.export_instances('care_bytes') e;
DROP TABLE care_bytes;
-- An instance is what has its id, also where its rows differ in their date or in what else they say.
CREATE TABLE care_mixed (LIKE customer_segmentation_table) USING customer_segmentation;
INSERT INTO care_mixed (customer_identity, instance_created_date, segment_id, segment_instance_id, schedule)
SELECT 'c' || c, timestamp '2025-01-01' + i * interval '1 day' + c % 2 * interval '1 hour', 'm', 'm_' || i, CASE WHEN c < 3 THEN 'once_a_day' END
FROM generate_series(1, 2) i, generate_series(1, 4) c;
SELECT instances, groups FROM customer_segmentation.storage_info('care_mixed');
SELECT segment_instance_id FROM customer_segmentation.export_instances('care_mixed') e, customer_segmentation.import_instances(e, 'care_copy') ORDER BY 1;
DELETE FROM care_mixed WHERE segment_instance_id = 'm_1';
SELECT instances FROM customer_segmentation.storage_info('care_mixed');
SELECT problem FROM customer_segmentation.verify('care_mixed');
DROP TABLE care_mixed;
-- Of the table alone, as all functions read it: tables that inherit from it have dictionaries of their own.
CREATE TABLE care_heir () INHERITS (care_one) USING customer_segmentation;
INSERT INTO care_heir (customer_identity, instance_created_date, segment_id, segment_instance_id) VALUES ('heir', '2025-01-01', 'h', 'h_1');
INSERT INTO care_one (customer_identity, instance_created_date, segment_id, segment_instance_id) VALUES ('heir', '2025-01-01', 'h', 'h_1');
SELECT * FROM customer_segmentation.erase_customer('heir', 'care_one');
SELECT tableoid::regclass, segment_instance_id FROM care_one WHERE customer_identity = 'heir';
SELECT * FROM customer_segmentation.erase_customer('heir', 'care_heir');
DROP TABLE care_heir;
DROP VIEW care_differences;
DROP TABLE care, care_twin, care_one, care_copy, exported;
DROP FUNCTION care_seen();
DROP ROLE regress_care;
