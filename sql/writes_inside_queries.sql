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
