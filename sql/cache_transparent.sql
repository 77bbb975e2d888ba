-- What a session keeps of a table between statements never shows, whatever happens to the table.
SELECT make_twins('t');
ALTER TABLE t SET (autovacuum_enabled = off);
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(3, 12, 400)$$) \gexec
SHOW customer_segmentation.cell_cache;

-- By customer, by instance and everything, again and again: kept as bytes, then decoded.
CREATE FUNCTION look(OUT by_customer text, OUT by_some text, OUT by_instance text, OUT everything text) LANGUAGE plpgsql AS $$
DECLARE
	customer text := (SELECT customer_identity FROM t_twin GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1);
	instance text := (SELECT segment_instance_id FROM t_twin ORDER BY 1 DESC LIMIT 1);
BEGIN
	FOR i IN 1..6 LOOP
		by_customer := twin(format('SELECT * FROM @ WHERE customer_identity = %L', customer));
		by_some := twin('SELECT * FROM @ WHERE customer_identity IN (SELECT customer_identity FROM t_twin WHERE num_of_orders = 3 ORDER BY 1 LIMIT 5)');
		EXIT WHEN by_customer ~ '^DIFF' OR by_some ~ '^DIFF';
	END LOOP;
	by_customer := split_part(by_customer, ':', 1);
	by_some := split_part(by_some, ':', 1);
	by_instance := split_part(twin(format('SELECT * FROM @ WHERE segment_instance_id = %L', instance)), ':', 1);
	everything := split_part(twin('SELECT * FROM @'), ':', 1);
END $$;
SELECT * FROM look();

-- Own changes, seen at once and gone with a rollback.
BEGIN;
SELECT on_both($$UPDATE @ SET num_of_orders = num_of_orders + 1, total_revenue = 7.70 WHERE num_of_orders = 2$$) \gexec
SELECT * FROM look();
SAVEPOINT a;
SELECT on_both($$DELETE FROM @ WHERE num_of_orders = 3$$) \gexec
SELECT * FROM look();
ROLLBACK TO a;
SELECT * FROM look();
ROLLBACK;
SELECT * FROM look();
SELECT on_both($$DELETE FROM @ WHERE num_of_orders = 2 AND segment_id = 'segment1'$$) \gexec
SELECT * FROM look();

-- A cursor sees what it saw, while newer statements see what is new.
BEGIN;
DECLARE old CURSOR FOR SELECT count(*), sum(num_of_orders) FROM (SELECT * FROM t OFFSET 0) x;
DECLARE old_twin CURSOR FOR SELECT count(*), sum(num_of_orders) FROM t_twin;
SELECT on_both($$UPDATE @ SET num_of_orders = 90 WHERE num_of_orders = 1$$) \gexec
SELECT * FROM look();
FETCH old;
FETCH old_twin;
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM look();
SELECT on_both($$DELETE FROM @ WHERE num_of_orders = 90$$) \gexec
SELECT * FROM look();
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT * FROM look();
SELECT on_both($$DELETE FROM @ WHERE num_of_orders = 90$$) \gexec
SELECT * FROM look();
COMMIT;
SELECT * FROM look();

-- Places of records that are used again.
DO $$
BEGIN
	FOR i IN 1..40 LOOP
		UPDATE t SET total_revenue = total_revenue + 1 WHERE segment_id = 'segment2';
		PERFORM 1 FROM t WHERE customer_identity = 'none';
	END LOOP;
	UPDATE t_twin SET total_revenue = total_revenue + 40 WHERE segment_id = 'segment2';
END $$;
SELECT * FROM look();
VACUUM t;
SELECT * FROM look();
SELECT on_both($$UPDATE @ SET total_revenue = 0.5 WHERE segment_id = 'segment2'$$) \gexec
SELECT * FROM look();
VACUUM FREEZE t;
SELECT * FROM look();
VACUUM FULL t;
SELECT * FROM look();

-- Another file, and the old one back.
BEGIN;
TRUNCATE t, t_twin;
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(2, 3, 50)$$) \gexec
SELECT * FROM look();
ROLLBACK;
SELECT * FROM look();
BEGIN;
ALTER TABLE t SET ACCESS METHOD heap;
SELECT * FROM look();
ALTER TABLE t SET ACCESS METHOD customer_segmentation;
SELECT * FROM look();
COMMIT;
SELECT * FROM look();
ALTER TABLE t SET UNLOGGED;
SELECT on_both($$UPDATE @ SET num_of_orders = 4 WHERE num_of_orders = 5$$) \gexec
SELECT * FROM look();
ALTER TABLE t SET LOGGED;
SELECT * FROM look();
TRUNCATE t, t_twin;
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(3, 12, 400)$$) \gexec
SELECT * FROM look();

-- With no cache, and with one that holds almost nothing.
SET customer_segmentation.cell_cache = 0;
SELECT * FROM look();
SELECT on_both($$UPDATE @ SET num_of_orders = 6 WHERE num_of_orders = 2 AND segment_id = 'segment1'$$) \gexec
SELECT * FROM look();
SET customer_segmentation.cell_cache = 64;
SELECT * FROM look();
SELECT on_both($$UPDATE @ SET num_of_orders = 6 WHERE num_of_orders = 2$$) \gexec
SELECT * FROM look();
RESET customer_segmentation.cell_cache;
\set VERBOSITY sqlstate
SET customer_segmentation.cell_cache = -1;
\set VERBOSITY default
SELECT * FROM look();
SELECT * FROM compare_twin();

-- Two scans of one table at a time, with a cache that holds none of their cells.
SET customer_segmentation.cell_cache = 0;
SELECT twin($$SELECT count(*), sum(a.num_of_orders + b.num_of_orders) FROM @ a, LATERAL (SELECT * FROM @ WHERE customer_identity = a.customer_identity OFFSET 0) b WHERE a.segment_instance_id = 'segment2_3'$$);
RESET customer_segmentation.cell_cache;
SELECT twin($$SELECT count(*), sum(a.num_of_orders + b.num_of_orders) FROM @ a, LATERAL (SELECT * FROM @ WHERE customer_identity = a.customer_identity OFFSET 0) b WHERE a.segment_instance_id = 'segment2_3'$$);

-- Scans and rows are counted, whether records were read or not.
BEGIN;
SELECT seq_scan AS scans, seq_tup_read AS tuples FROM pg_stat_xact_user_tables WHERE relname = 't' \gset
SELECT count(*) FROM (SELECT * FROM t OFFSET 0) x;
SELECT seq_scan - :scans AS scans, seq_tup_read - :tuples AS tuples FROM pg_stat_xact_user_tables WHERE relname = 't';
COMMIT;

-- Many tables that come and go.
DO $$
BEGIN
	FOR i IN 1..60 LOOP
		EXECUTE format('CREATE TABLE gone%s (LIKE t) USING customer_segmentation', i);
		EXECUTE format('INSERT INTO gone%s SELECT * FROM sample_rows(1, 2, 20)', i);
		EXECUTE format('SELECT 1 FROM gone%s WHERE customer_identity = ''x''', i);
		IF i % 2 = 0 THEN
			EXECUTE format('DROP TABLE gone%s', i);
		END IF;
	END LOOP;
END $$;
SELECT count(*) FROM pg_backend_memory_contexts WHERE name LIKE 'customer_segmentation cached%' AND used_bytes > 1000000;
DO $$
BEGIN
	FOR i IN 1..59 BY 2 LOOP
		EXECUTE format('SELECT * FROM gone%s', i);
		EXECUTE format('DROP TABLE gone%s', i);
	END LOOP;
END $$;
SELECT * FROM look();
DROP FUNCTION look;
DROP TABLE t, t_twin;

-- Of many customers and few instances it is kept who the members are, and nothing of their rows.
SELECT make_twins('t');
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(1, 3, 2000)$$) \gexec
CREATE FUNCTION look_at_members(OUT sets bigint, OUT customers bigint, OUT differ bigint, OUT overlap bigint, OUT sums text) LANGUAGE sql AS $$
	SELECT count(*), sum(customer_segmentation.cardinality(s)),
		sum((SELECT count(*) FROM ((SELECT customer_segmentation.identities(s) EXCEPT ALL SELECT customer_identity FROM t_twin WHERE segment_instance_id = i)
			UNION ALL (SELECT customer_identity FROM t_twin WHERE segment_instance_id = i EXCEPT ALL SELECT customer_segmentation.identities(s))) d)),
		(SELECT customers_both FROM customer_segmentation.segment_overlap(relation => 't')),
		split_part(twin($q$SELECT * FROM @$q$), ':', 1)
	FROM (SELECT i, customer_segmentation.members(i, 't') AS s FROM (SELECT DISTINCT segment_instance_id FROM t_twin) d(i)) x
$$;
SELECT * FROM look_at_members();
SELECT * FROM look_at_members();
BEGIN;
SELECT on_both($$DELETE FROM @ WHERE num_of_orders = 3$$) \gexec
SELECT * FROM look_at_members();
SAVEPOINT a;
SELECT on_both($$UPDATE @ SET segment_instance_id = 'segment1_4' WHERE segment_instance_id = 'segment1_3' AND num_of_orders = 2$$) \gexec
SELECT * FROM look_at_members();
ROLLBACK TO a;
SELECT * FROM look_at_members();
ROLLBACK;
SELECT * FROM look_at_members();
SELECT on_both($$INSERT INTO @ SELECT 'late' || c, '2025-01-04 11:08:39', 'once_a_day', 'customer_id', '2023-07-20 08:33:08', 'segment1', 'segment1_3', 'Segment 1', 1, 1, 1 FROM generate_series(1, 40) c$$) \gexec
SELECT * FROM look_at_members();
SET customer_segmentation.cell_cache = 0;
SELECT * FROM look_at_members();
RESET customer_segmentation.cell_cache;
TRUNCATE t, t_twin;
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(1, 2, 1800)$$) \gexec
SELECT * FROM look_at_members();
DROP FUNCTION look_at_members;
DROP TABLE t, t_twin;
