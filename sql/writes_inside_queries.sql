-- A query reads on as of its start while functions that it calls delete, update and insert rows of the same table.
SELECT make_twins('t');
SELECT on_both($$INSERT INTO @ SELECT c::text, timestamp '2025-01-01' + d * interval '1 day', 'x', 'customer_id', NULL, repeat('a', 24), repeat('a', 24) || d, 's', 1, c % 7 + d, c * 0.5
	FROM generate_series(1, 70) d, generate_series(1, 300) c WHERE (c + d) % 3 > 0$$) \gexec
CREATE FUNCTION meddle(name text, id text, d timestamp) RETURNS int LANGUAGE plpgsql VOLATILE AS $$
BEGIN
	IF id::int % 50 = 1 AND extract(day FROM d)::int % 9 = 1 THEN
		EXECUTE format('DELETE FROM %I WHERE customer_identity = $1', name) USING (id::int + 1)::text;
		EXECUTE format('UPDATE %I SET num_of_orders = num_of_orders + 1 WHERE instance_created_date = $1', name) USING d;
		EXECUTE format('INSERT INTO %I SELECT customer_identity || $2, instance_created_date, schedule, segment_by, segment_created_date, segment_id,
			segment_instance_id, segment_name, 1, 1, 1 FROM %1$I WHERE instance_created_date = $1 AND customer_identity !~ ''x''', name) USING d, 'x' || id;
	END IF;
	RETURN 1;
END $$;
SELECT on_both($$SELECT count(*), sum(num_of_orders), sum(meddle('@', customer_identity, instance_created_date)), sum(length(customer_identity)) FROM @ WHERE customer_identity !~ 'x'$$) \gexec
SELECT on_both('SELECT count(*), sum(num_of_orders), sum(total_revenue) FROM @') \gexec
SELECT count(*) AS differences FROM ((TABLE t EXCEPT ALL TABLE t_twin) UNION ALL (TABLE t_twin EXCEPT ALL TABLE t)) x;
SELECT * FROM customer_segmentation.verify('t');
DROP TABLE t, t_twin;
DROP FUNCTION meddle;

-- A statement gives slots to new instances while another one that calls it has not written those that it gave.
SELECT make_twins('t');
SELECT on_both($$INSERT INTO @ SELECT c::text, '2025-01-01', 'x', 'customer_id', NULL, 's', 's_0', 'n', 1, c, c FROM generate_series(1, 5) c$$) \gexec
CREATE FUNCTION insert_also(name text, instance text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('INSERT INTO %I VALUES (''z'', ''2025-01-03'', ''x'', ''customer_id'', NULL, ''s'', $1, ''n'', 1, 100, 100)', name) USING instance;
	RETURN 7;
END $$;
SELECT on_both($$INSERT INTO @ SELECT c::text, '2025-01-02', 'x', 'customer_id', NULL, 's', 's_' || 1 + c / 4, 'n', 1, CASE WHEN c % 4 = 2 THEN insert_also('@', 's_x' || c) END, c FROM generate_series(1, 8) c$$) \gexec
SELECT * FROM compare_twin();
CREATE FUNCTION insert_also_first() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.customer_identity IN ('3', '5') THEN
		PERFORM insert_also(TG_TABLE_NAME, 's_t' || NEW.customer_identity);
	END IF;
	RETURN NEW;
END $$;
SELECT on_both('CREATE TRIGGER also BEFORE INSERT ON @ FOR EACH ROW EXECUTE FUNCTION insert_also_first()') \gexec
SELECT on_both($$INSERT INTO @ SELECT c::text, '2025-01-04', 'x', 'customer_id', NULL, 's', 's_4' || c / 4, 'n', 1, c, c FROM generate_series(1, 8) c RETURNING customer_identity$$) \gexec
SELECT on_both($$UPDATE @ SET segment_instance_id = 's_5', instance_created_date = '2025-01-05', num_of_orders = insert_also('@', 's_u' || customer_identity) WHERE segment_instance_id = 's_40'$$) \gexec
SELECT segment_instance_id, count(*), sum(num_of_orders) FROM t GROUP BY 1 ORDER BY 1;
SELECT * FROM compare_twin();
DROP TABLE t, t_twin;
DROP FUNCTION insert_also, insert_also_first;

-- Queries in a function that a statement calls for each row, as the first command of a transaction or not, do not have
-- it write row by row.
CREATE TABLE t (LIKE customer_segmentation_table) USING customer_segmentation;
CREATE FUNCTION nothing() RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
	n bigint;
BEGIN
	SELECT count(*) INTO n FROM pg_am WHERE amname = 'nothing';
	RETURN n;
END $$;
INSERT INTO t SELECT c::text, '2025-01-01', NULL, NULL, NULL, 's', 's_1', NULL, 1, nothing(), c FROM generate_series(1, 100) c;
SELECT rows, bases, deltas FROM customer_segmentation.storage_info('t');
UPDATE t SET num_of_orders = 1 + nothing();
SELECT rows, bases, deltas FROM customer_segmentation.storage_info('t');
DROP TABLE t;
DROP FUNCTION nothing;
