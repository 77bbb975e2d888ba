-- Prepared statements, views and rules over the table, materialized views in it, what the system columns say.
SELECT make_twins('t');
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(3, 5, 60)$$) \gexec

-- A prepared statement with a plan for all values stays right through what happens to the table.
SET plan_cache_mode = force_generic_plan;
PREPARE ours(text) AS SELECT count(*), sum(num_of_orders), sum(total_revenue) FROM t WHERE segment_instance_id = $1;
PREPARE theirs(text) AS SELECT count(*), sum(num_of_orders), sum(total_revenue) FROM t_twin WHERE segment_instance_id = $1;
PREPARE put_ours(text, int) AS INSERT INTO t VALUES ($1, '2025-01-04 11:08:39', 'once_a_day', 'customer_id', '2023-07-20 08:33:08', 'segment2', 'segment2_3', 'Segment 2', 1, $2, $2);
PREPARE put_theirs(text, int) AS INSERT INTO t_twin VALUES ($1, '2025-01-04 11:08:39', 'once_a_day', 'customer_id', '2023-07-20 08:33:08', 'segment2', 'segment2_3', 'Segment 2', 1, $2, $2);
PREPARE change_ours(text, numeric) AS UPDATE t SET total_revenue = total_revenue + $2 WHERE customer_identity = $1;
PREPARE change_theirs(text, numeric) AS UPDATE t_twin SET total_revenue = total_revenue + $2 WHERE customer_identity = $1;
PREPARE drop_ours(bigint) AS DELETE FROM t WHERE num_of_orders = $1;
PREPARE drop_theirs(bigint) AS DELETE FROM t_twin WHERE num_of_orders = $1;
EXECUTE ours('segment2_3');
EXECUTE theirs('segment2_3');
EXECUTE ours(NULL);
EXECUTE ours('nothing');
EXECUTE put_ours('p1', 1);
EXECUTE put_theirs('p1', 1);
EXECUTE change_ours('customer5', 0.001);
EXECUTE change_theirs('customer5', 0.001);
EXECUTE drop_ours(3);
EXECUTE drop_theirs(3);
SELECT * FROM compare_twin();
-- Another access method, and back.
ALTER TABLE t SET ACCESS METHOD heap;
EXECUTE ours('segment2_3');
EXECUTE put_ours('p2', 2);
EXECUTE put_theirs('p2', 2);
ALTER TABLE t SET ACCESS METHOD customer_segmentation;
EXECUTE ours('segment2_3');
EXECUTE theirs('segment2_3');
EXECUTE change_ours('p2', 1);
EXECUTE change_theirs('p2', 1);
SELECT * FROM compare_twin();
-- A rewrite, a new type modifier, a constraint, no rows at all.
VACUUM FULL t;
EXECUTE drop_ours(4);
EXECUTE drop_theirs(4);
SELECT on_both('ALTER TABLE @ ALTER total_revenue TYPE numeric(14,3)') \gexec
EXECUTE change_ours('customer7', 0.0004);
EXECUTE change_theirs('customer7', 0.0004);
EXECUTE ours('segment2_3');
EXECUTE theirs('segment2_3');
SELECT on_both('ALTER TABLE @ ADD CONSTRAINT few CHECK (num_of_orders < 50)') \gexec
\set VERBOSITY sqlstate
EXECUTE put_ours('p3', 50);
EXECUTE put_theirs('p3', 50);
EXECUTE put_ours('p2', 5);
EXECUTE put_theirs('p2', 5);
\set VERBOSITY default
SELECT * FROM compare_twin();
BEGIN;
TRUNCATE t, t_twin;
EXECUTE ours('segment2_3');
EXECUTE put_ours('p4', 4);
EXECUTE put_theirs('p4', 4);
EXECUTE ours('segment2_3');
SELECT * FROM compare_twin();
ROLLBACK;
EXECUTE ours('segment2_3');
EXECUTE theirs('segment2_3');
-- In a function, where plans are kept as well.
CREATE FUNCTION kept_plan(relation text, OUT answer text) LANGUAGE plpgsql AS $$
BEGIN
	IF relation = 't' THEN
		UPDATE t SET num_of_orders = num_of_orders + 1 WHERE segment_instance_id = 'segment1_2';
		SELECT string_agg(customer_identity || num_of_orders, ' ' ORDER BY customer_identity) INTO answer FROM t WHERE segment_instance_id = 'segment1_2';
	ELSE
		UPDATE t_twin SET num_of_orders = num_of_orders + 1 WHERE segment_instance_id = 'segment1_2';
		SELECT string_agg(customer_identity || num_of_orders, ' ' ORDER BY customer_identity) INTO answer FROM t_twin WHERE segment_instance_id = 'segment1_2';
	END IF;
END $$;
SELECT kept_plan('t') = kept_plan('t_twin');
VACUUM FULL t;
SELECT kept_plan('t') = kept_plan('t_twin');
ALTER TABLE t SET ACCESS METHOD heap;
SELECT kept_plan('t') = kept_plan('t_twin');
ALTER TABLE t SET ACCESS METHOD customer_segmentation;
SELECT kept_plan('t') = kept_plan('t_twin');
SELECT * FROM compare_twin();
DEALLOCATE ALL;
RESET plan_cache_mode;

-- Views that can be changed, with a check; rules.
SELECT on_both($$CREATE VIEW @_of_one AS SELECT * FROM @ WHERE segment_id = 'segment1' AND num_of_orders < 6 WITH CHECK OPTION$$) \gexec
SELECT twin($$UPDATE @_of_one SET total_revenue = 1.50 WHERE num_of_orders = 1$$);
SELECT twin($$UPDATE @_of_one SET num_of_orders = num_of_orders + 1$$);
SELECT twin($$DELETE FROM @_of_one WHERE num_of_orders = 2 RETURNING customer_identity$$);
SELECT twin($$INSERT INTO @_of_one VALUES ('viewed', '2025-01-01', NULL, NULL, NULL, 'segment1', 'segment1_1', NULL, 1, 1, 1)$$);
SELECT twin($$INSERT INTO @_of_one VALUES ('viewed', '2025-01-01', NULL, NULL, NULL, 'segment2', 'segment2_1', NULL, 1, 1, 1)$$);
SELECT on_both($$CREATE TABLE @_rest (LIKE @)$$) \gexec
SELECT on_both($$CREATE RULE keep AS ON DELETE TO @ DO ALSO INSERT INTO @_rest SELECT OLD.*$$) \gexec
SELECT twin($$DELETE FROM @ WHERE num_of_orders = 5$$);
SELECT twin($$SELECT * FROM @_rest$$);
SELECT on_both($$DROP RULE keep ON @$$) \gexec
SELECT * FROM compare_twin();
DROP VIEW t_of_one, t_twin_of_one;
DROP TABLE t_rest, t_twin_rest;

-- A materialized view can be stored so.
CREATE MATERIALIZED VIEW m USING customer_segmentation AS SELECT * FROM t_twin;
CREATE VIEW m_twin AS SELECT * FROM t_twin;
SELECT * FROM compare_twin('m');
DELETE FROM t_twin WHERE segment_id = 'segment3';
REFRESH MATERIALIZED VIEW m;
SELECT * FROM compare_twin('m');
REFRESH MATERIALIZED VIEW m WITH NO DATA;
SELECT error_of('SELECT * FROM m') ~ '^55000';
REFRESH MATERIALIZED VIEW m;
SELECT * FROM compare_twin('m');
SELECT error_of('REFRESH MATERIALIZED VIEW CONCURRENTLY m') ~ '^55000';
SELECT error_of('DELETE FROM m') ~ '^42809';
DELETE FROM t WHERE segment_id = 'segment3';
DROP VIEW m_twin;
DROP MATERIALIZED VIEW m;
CREATE MATERIALIZED VIEW refused USING customer_segmentation AS SELECT segment_id, count(*) FROM t GROUP BY 1;

-- System columns: which transaction, which table.
SELECT tableoid::regclass, xmin::text::bigint > 0 AS inserted_by, xmax, cmin, cmax, count(*) = (SELECT count(*) FROM t_twin) AS all_rows FROM t GROUP BY 1, 2, 3, 4, 5;
SELECT count(*) FROM t WHERE tableoid = 't'::regclass AND ctid IS NULL;
-- Nothing to reindex, and a lock like on any table.
REINDEX TABLE t;
BEGIN;
LOCK TABLE t IN SHARE ROW EXCLUSIVE MODE;
SELECT on_both($$DELETE FROM @ WHERE num_of_orders = 1$$) \gexec
COMMIT;
SELECT * FROM compare_twin();
DROP TABLE t, t_twin;
DROP FUNCTION kept_plan;
