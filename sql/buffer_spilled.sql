-- Statements that change far more than fits in memory, in an order that comes back to every cell again and again.
SELECT make_twins('t');
CREATE FUNCTION customers(n bigint, seed text) RETURNS TABLE (customer text, i bigint) LANGUAGE sql AS $$
	SELECT 'c' || lpad(i::text, 6, '0'), i FROM generate_series(1, n) i ORDER BY hashtext(i || seed), i
$$;
CREATE FUNCTION temp_files() RETURNS bigint LANGUAGE sql AS $$
	SELECT temp_files FROM pg_stat_database WHERE datname = current_database()
$$;
-- Pages that this transaction has looked at.
CREATE FUNCTION pages_fetched() RETURNS bigint LANGUAGE sql AS $$
	SELECT sum(pg_stat_get_xact_blocks_fetched(c))::bigint
	FROM (SELECT unnest(ARRAY[oid, reltoastrelid]) AS c FROM pg_class WHERE oid = 't'::regclass) x
$$;
-- Customers get their numbers in order, so that later statements hit all cells in any order.
SELECT on_both($$INSERT INTO @ SELECT customer, '2025-01-01', NULL, NULL, NULL, 'a', 'a_1', NULL, 1, i % 9, i / 7.0
	FROM customers(100000, '') ORDER BY 1$$) \gexec
VACUUM t;
SELECT temp_files() AS files_before \gset
SET customer_segmentation.write_buffer = '1MB';

-- Work is in proportion to rows.
BEGIN;
INSERT INTO t SELECT customer, '2025-01-02', NULL, NULL, NULL, 'b', 'b_1', NULL, 1, i % 9, i / 7.0 FROM customers(50000, 'b');
SELECT pages_fetched() AS few \gset
ROLLBACK;
BEGIN;
INSERT INTO t SELECT customer, '2025-01-02', NULL, NULL, NULL, 'b', 'b_' || k, NULL, k, i % 9, i / 7.0
	FROM customers(100000, 'b'), generate_series(1, 4) k;
SELECT pages_fetched() AS many \gset
COMMIT;
SELECT :many < 12 * :few AS insert_is_in_proportion;
SELECT rows, instances, customers, cells, bases, deltas FROM customer_segmentation.storage_info('t');
INSERT INTO t_twin SELECT customer, '2025-01-02', NULL, NULL, NULL, 'b', 'b_' || k, NULL, k, i % 9, i / 7.0
	FROM customers(100000, 'b'), generate_series(1, 4) k;
BEGIN;
UPDATE t SET total_revenue = total_revenue + 1 WHERE segment_instance_id = 'b_1';
SELECT pages_fetched() AS few \gset
ROLLBACK;
BEGIN;
UPDATE t SET total_revenue = total_revenue + 1 WHERE segment_id = 'b';
SELECT pages_fetched() AS many \gset
COMMIT;
SELECT :many < 8 * :few AS update_is_in_proportion;
UPDATE t_twin SET total_revenue = total_revenue + 1 WHERE segment_id = 'b';
SELECT pg_stat_force_next_flush();
SELECT temp_files() > :files_before AS spilled;

-- Duplicates: within the statement far from each other, with what is there, and where rows of an instance differ in
-- dimensions.
SELECT twin($$INSERT INTO @ SELECT customer, '2025-01-03', NULL, NULL, NULL, 'd', 'd_1', NULL, 1, 1, k FROM generate_series(1, 2) k, LATERAL (SELECT * FROM customers(60000, 'd' || k)) c WHERE k = 1 OR customer = 'c033333'$$);
SELECT twin($$INSERT INTO @ SELECT customer, '2025-01-02', NULL, NULL, NULL, 'b', CASE WHEN customer = 'c000123' THEN 'b_3' ELSE 'b_9' END, NULL, 1, 1, 1 FROM customers(60000, 'e')$$);
SELECT twin($$INSERT INTO @ SELECT customer, '2025-01-03', NULL, NULL, NULL, 'd', 'd_1', 'name ' || k, 1, 1, k FROM generate_series(1, 2) k, LATERAL (SELECT * FROM customers(60000, 'd' || k)) c WHERE (i % 2 = 0) = (k = 1) OR customer = 'c033333'$$);
SELECT twin($$INSERT INTO @ SELECT customer, '2025-01-03', NULL, NULL, NULL, 'd', 'd_1', 'name ' || k, 1, 1, k FROM generate_series(1, 2) k, LATERAL (SELECT * FROM customers(60000, 'd' || k)) c WHERE (i % 2 = 0) = (k = 1)$$);
SELECT * FROM compare_twin();

-- Every key moves on to where another one leaves; rows come and go in one statement.
SELECT twin($$UPDATE @ SET customer_identity = 'c' || lpad((substr(customer_identity, 2)::int % 60000 + 1)::text, 6, '0') WHERE segment_id = 'd'$$);
SELECT on_both($$WITH gone AS (DELETE FROM @ WHERE segment_instance_id = 'b_4' RETURNING *), renamed AS (UPDATE @ SET segment_name = 'one' WHERE segment_instance_id = 'b_2' AND segment_name IS NULL)
	INSERT INTO @ SELECT customer_identity, instance_created_date, schedule, segment_by, segment_created_date, 'f', 'f_1', NULL, 1, num_of_orders, total_revenue FROM gone ORDER BY hashtext(customer_identity)$$) \gexec
SELECT twin($$MERGE INTO @ t USING customers(100000, 'm') c ON t.customer_identity = customer AND t.segment_instance_id = 'b_1'
	WHEN MATCHED AND i % 3 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET num_of_orders = -i$$);
SELECT * FROM compare_twin();

-- A function that reads the table in the middle of the statement sees what is there so far.
CREATE FUNCTION rows_now(relation regclass) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE n bigint;
BEGIN
	EXECUTE format('SELECT count(*) FROM %s', relation) INTO n;
	RETURN n;
END $$;
SELECT on_both($$INSERT INTO @ SELECT customer, '2025-01-04', NULL, NULL, NULL, 'v', 'v_1', NULL, 1, CASE WHEN i IN (5, 33333, 59999) THEN rows_now('@') END, i FROM customers(60000, 'v')$$) \gexec
SELECT on_both($$UPDATE @ SET num_of_orders = CASE WHEN total_revenue IN (5, 33333, 59999) THEN rows_now('@') ELSE 77 END WHERE segment_id = 'v'$$) \gexec
SELECT on_both($$DELETE FROM @ WHERE segment_id = 'v' AND (total_revenue % 2 = 0 OR total_revenue = 33333 AND rows_now('@') % 2 = 7)$$) \gexec
SELECT * FROM compare_twin();

-- Changes of one transaction on each other, some of them rolled back.
BEGIN;
SELECT on_both($$DELETE FROM @ WHERE segment_id = 'f'$$) \gexec
SAVEPOINT a;
SELECT on_both($$INSERT INTO @ SELECT customer, '2025-01-05', NULL, NULL, NULL, 'f', 'f_1', NULL, 1, i, i FROM customers(100000, 'f')$$) \gexec
SELECT on_both($$DELETE FROM @ WHERE segment_id = 'f' AND num_of_orders % 5 = 0$$) \gexec
SAVEPOINT b;
SELECT on_both($$UPDATE @ SET num_of_orders = 0 WHERE segment_id = 'f'$$) \gexec
ROLLBACK TO b;
SELECT on_both($$INSERT INTO @ SELECT customer, '2025-01-05', NULL, NULL, NULL, 'f', 'f_1', NULL, 2, i, i FROM customers(100000, 'g') WHERE i % 5 = 0$$) \gexec
RELEASE a;
COMMIT;
BEGIN;
SELECT on_both($$UPDATE @ SET num_of_orders = 1 WHERE segment_id = 'f'$$) \gexec
ROLLBACK;
-- An error within a block that goes on.
DO $$
BEGIN
	INSERT INTO t SELECT customer, '2025-01-06', NULL, NULL, NULL, 'g', 'g_1', NULL, 1, 1 / (i - 99999), i FROM customers(100000, 'h');
EXCEPTION WHEN division_by_zero THEN
	RAISE NOTICE '%', SQLERRM;
END $$;
SELECT * FROM compare_twin();
RESET customer_segmentation.write_buffer;
DROP TABLE t, t_twin;
DROP FUNCTION rows_now, customers, temp_files, pages_fetched;
