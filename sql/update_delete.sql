-- UPDATE, DELETE, MERGE.
SELECT make_twins('t');
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(3, 5, 60)$$) \gexec

-- Measures, dimensions, keys.
SELECT on_both($$UPDATE @ SET total_revenue = total_revenue * 1.1, num_of_orders = num_of_orders + 1 WHERE segment_id = 'segment1'$$) \gexec
SELECT on_both($$UPDATE @ SET num_of_customers = NULL WHERE num_of_orders = 4$$) \gexec
SELECT * FROM compare_twin();
SELECT on_both($$UPDATE @ SET segment_name = 'Renamed', schedule = NULL WHERE segment_instance_id = 'segment2_3'$$) \gexec
SELECT on_both($$UPDATE @ SET segment_name = 'Half' WHERE segment_instance_id = 'segment2_4' AND num_of_orders > 3$$) \gexec
SELECT on_both($$UPDATE @ SET instance_created_date = instance_created_date + interval '1 us', segment_created_date = NULL WHERE segment_id = 'segment3'$$) \gexec
SELECT * FROM compare_twin();
SELECT on_both($$UPDATE @ SET customer_identity = upper(customer_identity) WHERE num_of_orders = 2$$) \gexec
SELECT on_both($$UPDATE @ SET segment_instance_id = segment_instance_id || '_moved' WHERE segment_id = 'segment2'$$) \gexec
SELECT on_both($$UPDATE @ SET segment_id = 'segment4', segment_instance_id = 'new_' || segment_instance_id WHERE segment_id = 'segment3'$$) \gexec
SELECT * FROM compare_twin();
SELECT on_both($$UPDATE @ SET total_revenue = total_revenue, segment_name = segment_name$$) \gexec
SELECT on_both($$UPDATE @ SET total_revenue = 0 WHERE false$$) \gexec
SELECT * FROM compare_twin();

-- Keys that pass through each other: a shift by one, a swap.
SELECT on_both($$DELETE FROM @$$) \gexec
SELECT on_both($$INSERT INTO @ SELECT 'c' || i, '2025-01-01', NULL, NULL, NULL, 's', 's_1', NULL, 1, i, i FROM generate_series(1, 200) i$$) \gexec
SELECT on_both($$UPDATE @ SET customer_identity = 'c' || (substr(customer_identity, 2)::int + 1)$$) \gexec
SELECT * FROM compare_twin();
SELECT on_both($$UPDATE @ SET customer_identity = 'c' || (substr(customer_identity, 2)::int - 1)$$) \gexec
SELECT on_both($$UPDATE @ SET customer_identity = 'c' || (201 - substr(customer_identity, 2)::int)$$) \gexec
SELECT * FROM compare_twin();
SELECT on_both($$UPDATE @ SET customer_identity = CASE customer_identity WHEN 'c1' THEN 'c2' ELSE 'c1' END WHERE customer_identity IN ('c1', 'c2')$$) \gexec
SELECT on_both($$INSERT INTO @ SELECT customer_identity, '2025-01-02', NULL, NULL, NULL, 's', 's_2', NULL, 1, 1, 1 FROM @ WHERE num_of_orders % 3 = 0$$) \gexec
SELECT on_both($$UPDATE @ SET segment_instance_id = CASE segment_instance_id WHEN 's_1' THEN 's_2' ELSE 's_1' END$$) \gexec
SELECT * FROM compare_twin();
SELECT twin($$SELECT segment_instance_id, count(*), min(instance_created_date) FROM @ GROUP BY 1$$);
-- A swap that meets a row that stays.
SELECT twin($$UPDATE @ SET customer_identity = 'c3' WHERE customer_identity = 'c4' AND segment_instance_id = 's_2'$$);
SELECT * FROM compare_twin();

-- UPDATE ... FROM, DELETE ... USING, joins with the table itself that meet a row twice.
SELECT on_both($$UPDATE @ SET total_revenue = v.r FROM (VALUES ('c5', 5.5), ('c6', 6.6)) AS v(c, r) WHERE customer_identity = v.c$$) \gexec
SELECT on_both($$UPDATE @ SET num_of_orders = -1 FROM @ AS other WHERE other.customer_identity = @.customer_identity AND @.num_of_orders > 100$$) \gexec
SELECT * FROM compare_twin();
SELECT on_both($$DELETE FROM @ USING generate_series(1, 3) g WHERE customer_identity LIKE 'c1_'$$) \gexec
SELECT on_both($$DELETE FROM @ USING @ AS other WHERE other.customer_identity = @.customer_identity AND other.segment_instance_id <> @.segment_instance_id$$) \gexec
SELECT * FROM compare_twin();
SELECT twin($$DELETE FROM @ WHERE customer_identity IN (SELECT customer_identity FROM @ ORDER BY num_of_orders, customer_identity LIMIT 20)$$);
SELECT * FROM compare_twin();

-- RETURNING: old and new values, of this table and of the other.
SELECT twin($$UPDATE @ SET total_revenue = 9.90 WHERE customer_identity IN ('c20', 'c21', 'c22') RETURNING *$$);
SELECT twin($$UPDATE @ SET customer_identity = customer_identity || 'x' WHERE customer_identity IN ('c20', 'c21', 'c23') RETURNING customer_identity, total_revenue$$);
SELECT twin($$UPDATE @ SET total_revenue = o.total_revenue + 1 FROM @ o WHERE o.customer_identity = 'c30' AND @.customer_identity = 'c31' RETURNING @.total_revenue, o.total_revenue$$);
SELECT twin($$DELETE FROM @ WHERE customer_identity IN ('c30', 'c31', 'none') RETURNING customer_identity, total_revenue$$);
SELECT * FROM compare_twin();

-- CTEs that change: all see the same snapshot.
SELECT on_both($$WITH gone AS (DELETE FROM @ WHERE num_of_orders % 2 = 0 RETURNING *)
	INSERT INTO @ SELECT customer_identity, instance_created_date, schedule, segment_by, segment_created_date, segment_id,
		segment_instance_id || 'b', segment_name, num_of_customers, num_of_orders, total_revenue FROM gone$$) \gexec
SELECT * FROM compare_twin();
SELECT twin($$WITH up AS (UPDATE @ SET total_revenue = total_revenue + 1000 RETURNING total_revenue),
	ins AS (INSERT INTO @ VALUES ('cte', '2025-01-01', NULL, NULL, NULL, 's', 's_1', NULL, 1, 1, 1) RETURNING total_revenue)
	SELECT (SELECT count(*) FROM up), (SELECT count(*) FROM ins), (SELECT count(*) FROM @ WHERE total_revenue > 1000)$$);
SELECT * FROM compare_twin();
-- One that nobody reads; two that meet one row.
SELECT on_both($$WITH unread AS (DELETE FROM @ WHERE customer_identity = 'cte') SELECT 1 AS one$$) \gexec
SELECT on_both($$WITH a AS (UPDATE @ SET num_of_orders = 77 WHERE customer_identity = 'c41' RETURNING 1) UPDATE @ SET num_of_orders = 78 WHERE customer_identity = 'c42'$$) \gexec
SELECT twin($$WITH a AS (DELETE FROM @ WHERE customer_identity = 'c41' RETURNING customer_identity) INSERT INTO @ SELECT 'c41', '2025-01-01', NULL, NULL, NULL, 's', 's_3', NULL, 1, 1, count(*) FROM a$$);
SELECT * FROM compare_twin();

-- MERGE.
SELECT on_both($$MERGE INTO @ USING (SELECT 'c' || i AS c, i FROM generate_series(40, 210, 5) i) n ON customer_identity = n.c AND segment_instance_id = 's_1'
	WHEN MATCHED AND i % 2 = 0 THEN DELETE
	WHEN MATCHED THEN UPDATE SET total_revenue = i, segment_name = 'Merged'
	WHEN NOT MATCHED AND i % 3 = 0 THEN DO NOTHING
	WHEN NOT MATCHED THEN INSERT VALUES (n.c, '2025-01-01', NULL, NULL, NULL, 's', 's_1', NULL, 1, i, i)$$) \gexec
SELECT * FROM compare_twin();
-- It may not change a row twice.
SELECT twin($$MERGE INTO @ USING generate_series(1, 2) i ON customer_identity = 'c45' WHEN MATCHED THEN UPDATE SET total_revenue = i$$);
SELECT twin($$MERGE INTO @ USING generate_series(1, 2) i ON customer_identity = 'c45' WHEN MATCHED THEN DELETE$$);
SELECT twin($$MERGE INTO @ USING generate_series(1, 2) i ON customer_identity = 'nobody' WHEN NOT MATCHED THEN INSERT
	VALUES ('twice', '2025-01-01', NULL, NULL, NULL, 's', 's_1', NULL, 1, 1, 1)$$);
SELECT * FROM compare_twin();

-- A volatile function that reads the table sees what the statement around it has changed so far, a stable one does not.
CREATE FUNCTION sum_of(relation regclass) RETURNS numeric LANGUAGE plpgsql VOLATILE AS $$
DECLARE s numeric;
BEGIN
	EXECUTE format('SELECT coalesce(sum(num_of_orders), 0) FROM %s', relation) INTO s;
	RETURN s;
END $$;
CREATE FUNCTION stable_sum_of(relation regclass) RETURNS numeric LANGUAGE plpgsql STABLE AS $$
DECLARE s numeric;
BEGIN
	EXECUTE format('SELECT coalesce(sum(num_of_orders), 0) FROM %s', relation) INTO s;
	RETURN s;
END $$;
SELECT on_both($$UPDATE @ SET total_revenue = sum_of('@'), num_of_customers = stable_sum_of('@'), num_of_orders = num_of_orders + 1$$) \gexec
-- Rows are met in another order, so not every row must have the same.
SELECT twin($$SELECT total_revenue - (SELECT min(total_revenue) FROM @), num_of_customers FROM @$$);
SELECT on_both($$UPDATE @ SET total_revenue = 0$$) \gexec
SELECT * FROM compare_twin();
SELECT on_both($$INSERT INTO @ SELECT 'v' || i, '2025-01-01', NULL, NULL, NULL, 's', 's_1', NULL, 1, sum_of('@'), stable_sum_of('@') FROM generate_series(1, 20) i$$) \gexec
SELECT * FROM compare_twin();
SELECT twin($$DELETE FROM @ WHERE customer_identity LIKE 'v%' AND sum_of('@') > 0 RETURNING sum_of('@') > 0, stable_sum_of('@') > 0$$);
SELECT * FROM compare_twin();

-- A function that changes the table within the statement that changes it.
CREATE FUNCTION add_one(relation regclass, name text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
	EXECUTE format('INSERT INTO %s VALUES (%L, ''2025-01-01'', NULL, NULL, NULL, ''s'', ''s_4'', NULL, 1, 1, 1)', relation, name);
	RETURN name || 'too';
END $$;
SELECT on_both($$INSERT INTO @ SELECT add_one('@', 'added' || i), '2025-01-01', NULL, NULL, NULL, 's', 's_4', NULL, 1, i, i FROM generate_series(1, 5) i$$) \gexec
SELECT on_both($$UPDATE @ SET segment_name = add_one('@', 'update' || num_of_orders) WHERE segment_instance_id = 's_4' AND customer_identity LIKE '%too'$$) \gexec
SELECT * FROM compare_twin();
CREATE FUNCTION remove_one(relation regclass, name text) RETURNS bool LANGUAGE plpgsql VOLATILE AS $$
BEGIN
	EXECUTE format('DELETE FROM %s WHERE customer_identity = %L', relation, name);
	RETURN true;
END $$;
SELECT twin($$UPDATE @ SET total_revenue = 1 WHERE customer_identity = 'added1' AND remove_one('@', 'added1')$$);
SELECT twin($$DELETE FROM @ WHERE customer_identity = 'added2' AND remove_one('@', 'added2')$$);
SELECT twin($$UPDATE @ SET total_revenue = 1 WHERE customer_identity = 'added3' AND remove_one('@', 'added4')$$);
SELECT * FROM compare_twin();
DROP TABLE t, t_twin;
DROP FUNCTION sum_of, stable_sum_of, add_one, remove_one;
