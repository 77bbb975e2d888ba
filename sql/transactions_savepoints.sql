-- What a transaction, its savepoints and its cursors see.
SELECT make_twins('t');
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(2, 3, 40)$$) \gexec

-- Savepoints within savepoints.
BEGIN;
SELECT on_both($$UPDATE @ SET total_revenue = 1.10 WHERE num_of_orders = 1$$) \gexec
SAVEPOINT a;
SELECT on_both($$DELETE FROM @ WHERE num_of_orders = 2$$) \gexec
SAVEPOINT b;
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(4, 2, 20) WHERE segment_id IN ('segment3', 'segment4')$$) \gexec
SELECT on_both($$UPDATE @ SET segment_name = 'b' WHERE num_of_orders = 3$$) \gexec
ROLLBACK TO b;
SELECT * FROM compare_twin();
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(3, 2, 25) WHERE segment_id = 'segment3'$$) \gexec
RELEASE b;
SELECT * FROM compare_twin();
SAVEPOINT c;
SELECT on_both($$DELETE FROM @$$) \gexec
SELECT * FROM compare_twin();
ROLLBACK TO a;
SELECT * FROM compare_twin();
SELECT on_both($$DELETE FROM @ WHERE num_of_orders = 4$$) \gexec
RELEASE a;
COMMIT;
SELECT * FROM compare_twin();
BEGIN;
SELECT on_both($$UPDATE @ SET customer_identity = customer_identity || 'r', total_revenue = 0$$) \gexec
SELECT on_both($$DELETE FROM @ WHERE num_of_orders = 1$$) \gexec
SELECT * FROM compare_twin();
ROLLBACK;
SELECT * FROM compare_twin();

-- Exception blocks in the middle of a load.
CREATE FUNCTION load(relation regclass) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	failed int := 0;
BEGIN
	FOR i IN 1..200 LOOP
		BEGIN
			EXECUTE format('INSERT INTO %s VALUES (%L, ''2025-02-01'', NULL, NULL, NULL, %L, %L, NULL, 1, %s, %s)',
				relation, 'load' || i * 7 % 50, 'load' || i % 3, format('load%s_%s', i % 3, i / 60), i, i);
			IF i % 10 = 0 THEN
				EXECUTE format('DELETE FROM %s WHERE num_of_orders BETWEEN %s AND %s', relation, i - 8, i - 5);
				RAISE EXCEPTION 'back';
			END IF;
		EXCEPTION WHEN unique_violation OR raise_exception THEN
			failed := failed + 1;
		END;
	END LOOP;
	RETURN failed;
END $$;
SELECT load('t'), load('t_twin');
SELECT * FROM compare_twin();
-- Deep nesting.
CREATE FUNCTION nest(relation regclass, depth int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('INSERT INTO %s VALUES (%L, ''2025-03-01'', NULL, NULL, NULL, ''nest'', ''nest_1'', NULL, 1, %s, 1)', relation, 'nest' || depth, depth);
	IF depth > 0 THEN
		BEGIN
			PERFORM nest(relation, depth - 1);
			EXECUTE format('UPDATE %s SET total_revenue = total_revenue + %s WHERE segment_id = ''nest''', relation, depth);
			IF depth % 3 = 0 THEN RAISE EXCEPTION 'back'; END IF;
		EXCEPTION WHEN raise_exception THEN NULL;
		END;
	END IF;
END $$;
SELECT nest('t', 20), nest('t_twin', 20);
SELECT * FROM compare_twin();
-- A function with an exception block that writes to the table which the statement around it changes.
CREATE FUNCTION add_or_not(relation regclass, name text, fail bool) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('INSERT INTO %s VALUES (%L, ''2025-04-01'', NULL, NULL, NULL, ''inner'', ''inner_1'', NULL, 1, 1, 1)', relation, name);
	IF fail THEN RAISE EXCEPTION 'back'; END IF;
	RETURN 'stays';
EXCEPTION WHEN raise_exception THEN
	RETURN 'back';
END $$;
SELECT twin($$INSERT INTO @ SELECT 'outer' || i, '2025-04-01', NULL, NULL, NULL, 'outer', 'outer_1', add_or_not('@', 'inner' || i, i % 2 = 0), 1, i, i FROM generate_series(1, 6) i$$);
SELECT twin($$UPDATE @ SET schedule = add_or_not('@', 'again' || num_of_orders, num_of_orders % 3 = 0) WHERE segment_id = 'outer'$$);
SELECT * FROM compare_twin();

-- Cursors that were opened earlier don't see later rows, and are not disturbed by them.
BEGIN;
DECLARE c CURSOR FOR SELECT count(*) OVER (), customer_identity FROM t WHERE segment_instance_id = 'segment1_1' ORDER BY customer_identity;
DECLARE d CURSOR FOR SELECT customer_identity, total_revenue FROM t WHERE segment_instance_id = 'segment1_2';
FETCH 1 FROM d;
DELETE FROM t WHERE segment_instance_id LIKE 'segment1%';
INSERT INTO t SELECT 'later' || i, '2025-01-02', NULL, NULL, NULL, 'segment1', 'segment1_1', NULL, 1, 1, 1 FROM generate_series(1, 5) i;
UPDATE t SET total_revenue = -1;
FETCH 2 FROM c;
SELECT count(*) FROM t WHERE segment_instance_id = 'segment1_1';
MOVE FORWARD ALL FROM d;
FETCH BACKWARD 1 FROM d;
ROLLBACK;
SELECT * FROM compare_twin();

-- Higher isolation levels, one session.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) > 0 FROM t;
SELECT on_both($$UPDATE @ SET total_revenue = total_revenue + 1 WHERE segment_id = 'segment1'$$) \gexec
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(5, 2, 20) WHERE segment_id = 'segment5'$$) \gexec
SELECT on_both($$UPDATE @ SET total_revenue = total_revenue + 1 WHERE segment_id = 'segment5'$$) \gexec
SELECT on_both($$DELETE FROM @ WHERE num_of_orders = 5$$) \gexec
SELECT * FROM compare_twin();
COMMIT;
SELECT * FROM compare_twin();
BEGIN ISOLATION LEVEL SERIALIZABLE;
DO $$ BEGIN
	FOR i IN 1..30 LOOP
		UPDATE t SET num_of_orders = num_of_orders + 1 WHERE segment_id = 'segment2';
		UPDATE t_twin SET num_of_orders = num_of_orders + 1 WHERE segment_id = 'segment2';
		INSERT INTO t VALUES ('s' || i, '2025-05-01', NULL, NULL, NULL, 'segment2', 'segment2_s', NULL, 1, i, i);
		INSERT INTO t_twin VALUES ('s' || i, '2025-05-01', NULL, NULL, NULL, 'segment2', 'segment2_s', NULL, 1, i, i);
	END LOOP;
END $$;
SELECT * FROM compare_twin();
COMMIT;
SELECT * FROM compare_twin();
BEGIN READ ONLY;
SELECT count(*) > 0 FROM t;
\set VERBOSITY sqlstate
DELETE FROM t;
\set VERBOSITY default
ROLLBACK;
-- A procedure that commits while it loads.
CREATE PROCEDURE load_in_steps(relation regclass) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..6 LOOP
		EXECUTE format('INSERT INTO %s SELECT ''p'' || g, ''2025-06-01'', NULL, NULL, NULL, ''steps'', ''steps_%s'', NULL, 1, g, g FROM generate_series(1, 10) g', relation, i);
		IF i % 2 = 0 THEN ROLLBACK; ELSE COMMIT; END IF;
	END LOOP;
END $$;
CALL load_in_steps('t');
CALL load_in_steps('t_twin');
SELECT * FROM compare_twin();
SELECT twin($$SELECT segment_instance_id, count(*) FROM @ WHERE segment_id = 'steps' GROUP BY 1$$);
DROP TABLE t, t_twin;
DROP FUNCTION load, nest, add_or_not;
DROP PROCEDURE load_in_steps;
