-- Cursors: forward, backward, over the end, held, and changes at the cursor's row.
SELECT make_twins('t');
SELECT on_both($$INSERT INTO @ SELECT 'c' || i, timestamp '2025-01-01' + j * interval '1 day', NULL, NULL, NULL, 's', 's_' || j, NULL, 1, i, i * j FROM generate_series(1, 5) i, generate_series(1, 3) j$$) \gexec

-- Back and forth over the plain table, which no sort hides: forward is the reverse of backward.
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT segment_instance_id, customer_identity, num_of_orders, total_revenue FROM t;
FETCH 3 FROM c;
FETCH PRIOR FROM c;
FETCH PRIOR FROM c;
FETCH PRIOR FROM c;
FETCH PRIOR FROM c;
FETCH NEXT FROM c;
FETCH LAST FROM c;
FETCH NEXT FROM c;
FETCH PRIOR FROM c;
FETCH ABSOLUTE 7 FROM c;
FETCH RELATIVE -2 FROM c;
FETCH RELATIVE 0 FROM c;
FETCH ABSOLUTE -2 FROM c;
FETCH BACKWARD 4 FROM c;
FETCH FIRST FROM c;
FETCH ABSOLUTE 99 FROM c;
FETCH BACKWARD ALL FROM c;
FETCH FORWARD ALL FROM c;
COMMIT;
-- The same with a condition and several segments.
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(3, 3, 30)$$) \gexec
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT segment_instance_id, customer_identity, num_of_orders FROM t WHERE num_of_orders = 4;
CREATE TEMP TABLE ways (way text, n serial, i text, c text);
DO $$
DECLARE
	c refcursor := 'c';
	r record;
BEGIN
	LOOP FETCH NEXT FROM c INTO r; EXIT WHEN NOT FOUND; INSERT INTO ways (way, i, c) VALUES ('forward', r.segment_instance_id, r.customer_identity); END LOOP;
	LOOP FETCH PRIOR FROM c INTO r; EXIT WHEN NOT FOUND; INSERT INTO ways (way, i, c) VALUES ('backward', r.segment_instance_id, r.customer_identity); END LOOP;
END $$;
SELECT count(*) AS differ FROM (SELECT row_number() OVER (ORDER BY n) AS k, i, c FROM ways WHERE way = 'forward') f
FULL JOIN (SELECT row_number() OVER (ORDER BY n DESC) AS k, i, c FROM ways WHERE way = 'backward') b USING (k) WHERE (f.i, f.c) IS DISTINCT FROM (b.i, b.c);
SELECT way, count(*) = (SELECT count(*) FROM t_twin WHERE num_of_orders = 4) FROM ways GROUP BY 1 ORDER BY 1;
COMMIT;
DROP TABLE ways;

-- Held over the end of the transaction.
BEGIN;
DECLARE h SCROLL CURSOR WITH HOLD FOR SELECT customer_identity, num_of_orders, total_revenue FROM t WHERE segment_id = 's' ORDER BY segment_instance_id, customer_identity;
FETCH 2 FROM h;
COMMIT;
DELETE FROM t WHERE segment_id = 's' AND customer_identity = 'c3';
DELETE FROM t_twin WHERE segment_id = 's' AND customer_identity = 'c3';
FETCH 2 FROM h;
FETCH LAST FROM h;
FETCH ABSOLUTE 1 FROM h;
CLOSE h;
SELECT * FROM compare_twin();

-- Changes at the cursor's row; the second one at the same row meets what heap meets.
CREATE FUNCTION at_cursor(relation regclass, what text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	c refcursor := 'at';
	r record;
	n int;
	log text := '';
BEGIN
	OPEN c FOR EXECUTE format('SELECT * FROM %s WHERE segment_id = ''s'' AND num_of_orders < 4', relation);
	LOOP
		FETCH c INTO r;
		EXIT WHEN NOT FOUND;
		EXECUTE format(what, relation) || ' WHERE CURRENT OF at';
		GET DIAGNOSTICS n = ROW_COUNT;
		log := log || n;
	END LOOP;
	CLOSE c;
	RETURN log;
END $$;
SELECT at_cursor('t', 'UPDATE %s SET total_revenue = total_revenue + 1'), at_cursor('t_twin', 'UPDATE %s SET total_revenue = total_revenue + 1');
SELECT at_cursor('t', $$UPDATE %s SET segment_name = 'At cursor', customer_identity = customer_identity || 'x'$$), at_cursor('t_twin', $$UPDATE %s SET segment_name = 'At cursor', customer_identity = customer_identity || 'x'$$);
SELECT * FROM compare_twin();
BEGIN;
DECLARE c CURSOR FOR SELECT customer_identity, total_revenue FROM t WHERE customer_identity = 'c5' AND segment_instance_id = 's_1' FOR UPDATE;
DECLARE h CURSOR FOR SELECT customer_identity, total_revenue FROM t_twin WHERE customer_identity = 'c5' AND segment_instance_id = 's_1' FOR UPDATE;
FETCH c;
FETCH h;
UPDATE t SET total_revenue = 50 WHERE CURRENT OF c RETURNING customer_identity, total_revenue;
UPDATE t_twin SET total_revenue = 50 WHERE CURRENT OF h RETURNING customer_identity, total_revenue;
UPDATE t SET total_revenue = total_revenue + 1 WHERE CURRENT OF c RETURNING customer_identity, total_revenue;
UPDATE t_twin SET total_revenue = total_revenue + 1 WHERE CURRENT OF h RETURNING customer_identity, total_revenue;
DELETE FROM t WHERE CURRENT OF c RETURNING customer_identity, total_revenue;
DELETE FROM t_twin WHERE CURRENT OF h RETURNING customer_identity, total_revenue;
DELETE FROM t WHERE CURRENT OF c RETURNING customer_identity, total_revenue;
DELETE FROM t_twin WHERE CURRENT OF h RETURNING customer_identity, total_revenue;
FETCH c;
FETCH h;
COMMIT;
SELECT * FROM compare_twin();
-- Without FOR UPDATE, changed twice; and changed by key before.
BEGIN;
DECLARE c CURSOR FOR SELECT customer_identity, total_revenue FROM t WHERE customer_identity = 'c4' AND segment_instance_id = 's_2';
DECLARE h CURSOR FOR SELECT customer_identity, total_revenue FROM t_twin WHERE customer_identity = 'c4' AND segment_instance_id = 's_2';
FETCH c;
FETCH h;
UPDATE t SET total_revenue = 60 WHERE CURRENT OF c;
UPDATE t_twin SET total_revenue = 60 WHERE CURRENT OF h;
UPDATE t SET total_revenue = total_revenue + 1 WHERE CURRENT OF c RETURNING customer_identity, total_revenue;
UPDATE t_twin SET total_revenue = total_revenue + 1 WHERE CURRENT OF h RETURNING customer_identity, total_revenue;
COMMIT;
SELECT * FROM compare_twin();

-- Row locks.
SELECT twin($$SELECT customer_identity, total_revenue FROM @ WHERE segment_id = 's' FOR UPDATE$$);
SELECT twin($$SELECT customer_identity, total_revenue FROM @ WHERE segment_id = 's' FOR SHARE$$);
SELECT twin($$SELECT customer_identity, total_revenue FROM @ WHERE segment_id = 's' FOR NO KEY UPDATE NOWAIT$$);
SELECT twin($$SELECT customer_identity, total_revenue FROM @ WHERE segment_id = 's' FOR KEY SHARE SKIP LOCKED$$);
SELECT twin($$SELECT a.customer_identity, b.total_revenue FROM @ a JOIN @ b USING (customer_identity, segment_instance_id) WHERE a.segment_id = 's' FOR UPDATE OF b$$);
SELECT twin($$UPDATE @ SET total_revenue = 1 FROM (SELECT customer_identity FROM @ WHERE segment_id = 's' FOR UPDATE) x WHERE x.customer_identity = @.customer_identity$$);
SELECT * FROM compare_twin();

-- With AFTER ROW triggers, at rows that the transaction has changed before: measures, the key, and deleted in the end.
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
SELECT on_both($$CREATE TRIGGER n AFTER INSERT OR UPDATE OR DELETE ON @ FOR EACH ROW EXECUTE FUNCTION nothing()$$) \gexec
BEGIN;
SELECT on_both($$UPDATE @ SET num_of_orders = num_of_orders + 10 WHERE segment_instance_id = 's_2'$$) \gexec
DECLARE c CURSOR FOR SELECT customer_identity, num_of_orders FROM t WHERE customer_identity = 'c5' AND segment_instance_id = 's_2';
DECLARE h CURSOR FOR SELECT customer_identity, num_of_orders FROM t_twin WHERE customer_identity = 'c5' AND segment_instance_id = 's_2';
FETCH c;
FETCH h;
UPDATE t SET total_revenue = total_revenue + 1 WHERE CURRENT OF c RETURNING customer_identity, total_revenue;
UPDATE t_twin SET total_revenue = total_revenue + 1 WHERE CURRENT OF h RETURNING customer_identity, total_revenue;
UPDATE t SET total_revenue = total_revenue + 1 WHERE CURRENT OF c RETURNING customer_identity, total_revenue;
UPDATE t_twin SET total_revenue = total_revenue + 1 WHERE CURRENT OF h RETURNING customer_identity, total_revenue;
SAVEPOINT a;
DELETE FROM t WHERE CURRENT OF c RETURNING customer_identity, total_revenue;
DELETE FROM t_twin WHERE CURRENT OF h RETURNING customer_identity, total_revenue;
UPDATE t SET total_revenue = total_revenue + 1 WHERE CURRENT OF c RETURNING customer_identity, total_revenue;
UPDATE t_twin SET total_revenue = total_revenue + 1 WHERE CURRENT OF h RETURNING customer_identity, total_revenue;
ROLLBACK TO a;
UPDATE t SET customer_identity = 'moved' WHERE CURRENT OF c RETURNING customer_identity, total_revenue;
UPDATE t_twin SET customer_identity = 'moved' WHERE CURRENT OF h RETURNING customer_identity, total_revenue;
UPDATE t SET total_revenue = total_revenue + 1 WHERE CURRENT OF c RETURNING customer_identity, total_revenue;
UPDATE t_twin SET total_revenue = total_revenue + 1 WHERE CURRENT OF h RETURNING customer_identity, total_revenue;
UPDATE t SET total_revenue = total_revenue + 1 WHERE CURRENT OF c RETURNING customer_identity, total_revenue;
UPDATE t_twin SET total_revenue = total_revenue + 1 WHERE CURRENT OF h RETURNING customer_identity, total_revenue;
DELETE FROM t WHERE CURRENT OF c RETURNING customer_identity, total_revenue;
DELETE FROM t_twin WHERE CURRENT OF h RETURNING customer_identity, total_revenue;
INSERT INTO t VALUES ('c5', '2025-01-03', NULL, NULL, NULL, 's', 's_2', NULL, 1, 1, 1);
INSERT INTO t_twin VALUES ('c5', '2025-01-03', NULL, NULL, NULL, 's', 's_2', NULL, 1, 1, 1);
UPDATE t SET total_revenue = total_revenue + 1 WHERE CURRENT OF c RETURNING customer_identity, total_revenue;
UPDATE t_twin SET total_revenue = total_revenue + 1 WHERE CURRENT OF h RETURNING customer_identity, total_revenue;
COMMIT;
SELECT * FROM compare_twin();
-- Where the transaction itself has left nothing.
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM t;
MOVE 1 FROM c;
DELETE FROM t;
UPDATE t SET total_revenue = total_revenue + 1 WHERE CURRENT OF c RETURNING customer_identity, total_revenue;
ROLLBACK;
DROP TABLE t, t_twin;
DROP FUNCTION at_cursor, nothing;
