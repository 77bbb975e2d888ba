-- With little memory for what is not yet written, everything works as with much.
SET customer_segmentation.write_buffer = '1MB';
SET customer_segmentation.dictionary_cache = '64kB';
SHOW customer_segmentation.write_buffer;
SELECT make_twins('t');

-- In an order that helps nothing.
SELECT on_both($$INSERT INTO @ SELECT 'customer' || (10000 + i % 20000), '2025-01-01', NULL, NULL, NULL, 's' || (i / 20000) % 2, format('s%s_%s', (i / 20000) % 2, i / 40000), NULL, 1, i % 9, (i % 1000)::numeric / 100
	FROM (SELECT i::bigint FROM generate_series(0, 99999) i ORDER BY md5(i::text)) x$$) \gexec
SELECT * FROM compare_twin();
SELECT rows, instances, customers FROM customer_segmentation.storage_info('t');
-- A duplicate that is far from the first one.
SELECT twin($$INSERT INTO @ SELECT 'again' || i % 60000, '2025-01-01', NULL, NULL, NULL, 'a', 'a_1', NULL, 1, 1, 1 FROM generate_series(0, 60000) i$$);

-- Every row changes: measures, a dimension, the key.
SELECT on_both($$UPDATE @ SET total_revenue = total_revenue + 0.01, num_of_orders = NULL$$) \gexec
SELECT on_both($$UPDATE @ SET segment_name = 'Renamed', instance_created_date = '2025-01-02' WHERE segment_id = 's1'$$) \gexec
SELECT on_both($$UPDATE @ SET customer_identity = 'moved' || customer_identity WHERE segment_id = 's0' AND length(customer_identity) % 2 = 0$$) \gexec
SELECT on_both($$DELETE FROM @ WHERE right(customer_identity, 4)::int % 3 = 0$$) \gexec
SELECT * FROM compare_twin();

-- Functions that read the table in the middle of a change of it see it as it is so far.
CREATE FUNCTION rows_now(relation regclass) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE n bigint;
BEGIN
	EXECUTE format('SELECT count(*) FROM %s', relation) INTO n;
	RETURN n;
END $$;
CREATE FUNCTION rows_before(relation regclass) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE n bigint;
BEGIN
	EXECUTE format('SELECT count(*) FROM %s', relation) INTO n;
	RETURN n;
END $$;
SELECT on_both($$INSERT INTO @ SELECT 'v' || i, '2025-01-03', NULL, NULL, NULL, 'v', 'v_1', NULL, 1, CASE WHEN i % 5000 = 0 THEN rows_now('@') END, i FROM generate_series(1, 30000) i$$) \gexec
SELECT twin($$SELECT num_of_orders - min(num_of_orders) OVER () FROM @ WHERE segment_id = 'v' AND num_of_orders IS NOT NULL$$);
SELECT on_both($$INSERT INTO @ SELECT 'w' || i, '2025-01-03', NULL, NULL, NULL, 'v', 'v_2', NULL, 1, CASE WHEN i % 5000 = 0 THEN rows_before('@') END, i FROM generate_series(1, 30000) i$$) \gexec
SELECT * FROM compare_twin();
SELECT on_both($$DELETE FROM @ WHERE segment_id = 'v' AND (total_revenue % 10000 <> 0 OR rows_now('@') > 0)$$) \gexec
SELECT * FROM compare_twin();

-- Rolled back in the middle, and again.
BEGIN;
SELECT on_both($$DELETE FROM @ WHERE segment_id = 's0'$$) \gexec
SAVEPOINT a;
SELECT on_both($$INSERT INTO @ SELECT 'x' || i, '2025-01-01', NULL, NULL, NULL, 's0', 's0_0', NULL, 1, 1, 1 FROM generate_series(1, 50000) i$$) \gexec
ROLLBACK TO a;
SELECT on_both($$INSERT INTO @ SELECT 'x' || i, '2025-01-01', NULL, NULL, NULL, 's0', 's0_0', NULL, 1, 2, 2 FROM generate_series(40000, 60000) i$$) \gexec
COMMIT;
SELECT * FROM compare_twin();

-- COPY, and a rewrite.
SELECT current_setting('data_directory') || '/customer_segmentation_copy' AS file \gset
COPY t TO :'file';
TRUNCATE t;
COPY t FROM :'file';
ALTER TABLE t SET ACCESS METHOD heap;
ALTER TABLE t SET ACCESS METHOD customer_segmentation;
SELECT * FROM compare_twin();

-- Keys that pass through each other over the buffer's end.
TRUNCATE t, t_twin;
SELECT on_both($$INSERT INTO @ SELECT 'c' || i, '2025-01-01', NULL, NULL, NULL, 's', 's_1', NULL, 1, i, i FROM generate_series(1, 40000) i$$) \gexec
SELECT twin($$UPDATE @ SET customer_identity = 'c' || (substr(customer_identity, 2)::int + 1)$$);
SELECT * FROM compare_twin();
DROP TABLE t, t_twin;
DROP FUNCTION rows_now, rows_before;
RESET customer_segmentation.write_buffer;
RESET customer_segmentation.dictionary_cache;
