-- Triggers see OLD and NEW as on any table.
SELECT make_twins('t');
CREATE TABLE log (relation text, n serial, what text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	o text;
	n text;
BEGIN
	IF TG_LEVEL = 'ROW' AND TG_OP <> 'INSERT' THEN o := concat_ws(',', OLD.customer_identity, OLD.segment_instance_id, OLD.segment_name, OLD.num_of_orders, OLD.total_revenue); END IF;
	IF TG_LEVEL = 'ROW' AND TG_OP <> 'DELETE' THEN n := concat_ws(',', NEW.customer_identity, NEW.segment_instance_id, NEW.segment_name, NEW.num_of_orders, NEW.total_revenue); END IF;
	INSERT INTO log (relation, what) VALUES (TG_TABLE_NAME, format('%s %s %s %s -> %s', TG_NAME, TG_WHEN, TG_OP, o, n));
	IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
	RETURN NEW;
END $$;
-- What was logged for the two, sorted; then forgotten.
CREATE FUNCTION logged(OUT only_ours bigint, OUT only_twin bigint, OUT entries bigint, OUT first_of_them text) LANGUAGE plpgsql AS $$
BEGIN
	SELECT count(*) INTO only_ours FROM (SELECT what FROM log WHERE relation = 't' EXCEPT ALL SELECT what FROM log WHERE relation = 't_twin') x;
	SELECT count(*) INTO only_twin FROM (SELECT what FROM log WHERE relation = 't_twin' EXCEPT ALL SELECT what FROM log WHERE relation = 't') x;
	SELECT count(*), min(what) INTO entries, first_of_them FROM log WHERE relation = 't';
	TRUNCATE log;
END $$;
SELECT on_both($$CREATE TRIGGER a AFTER INSERT OR UPDATE OR DELETE ON @ FOR EACH ROW EXECUTE FUNCTION note()$$) \gexec
SELECT on_both($$CREATE TRIGGER b BEFORE INSERT OR UPDATE OR DELETE ON @ FOR EACH ROW EXECUTE FUNCTION note()$$) \gexec
SELECT on_both($$CREATE TRIGGER c AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON @ FOR EACH STATEMENT EXECUTE FUNCTION note()$$) \gexec
SELECT on_both($$CREATE TRIGGER d BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON @ FOR EACH STATEMENT EXECUTE FUNCTION note()$$) \gexec
SELECT on_both($$CREATE TRIGGER e AFTER UPDATE ON @ FOR EACH ROW WHEN (OLD.total_revenue IS DISTINCT FROM NEW.total_revenue) EXECUTE FUNCTION note()$$) \gexec
SELECT on_both($$CREATE TRIGGER f AFTER UPDATE OF num_of_orders ON @ FOR EACH ROW EXECUTE FUNCTION note()$$) \gexec

SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(2, 3, 20)$$) \gexec
SELECT * FROM logged();
SELECT on_both($$UPDATE @ SET total_revenue = total_revenue + 0.50 WHERE num_of_orders > 3$$) \gexec
SELECT * FROM logged();
SELECT on_both($$UPDATE @ SET num_of_orders = num_of_orders$$) \gexec
SELECT * FROM logged();
SELECT on_both($$UPDATE @ SET segment_name = 'Renamed' WHERE segment_instance_id = 'segment1_2'$$) \gexec
SELECT * FROM logged();
SELECT on_both($$UPDATE @ SET customer_identity = 'x' || customer_identity, total_revenue = 1 WHERE num_of_orders = 2$$) \gexec
SELECT * FROM logged();
SELECT on_both($$DELETE FROM @ WHERE num_of_orders = 4$$) \gexec
SELECT * FROM logged();
SELECT on_both($$MERGE INTO @ USING (SELECT 'customer' || i AS c, i FROM generate_series(1, 30) i) n ON customer_identity = n.c AND segment_instance_id = 'segment2_1'
	WHEN MATCHED AND i % 2 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET total_revenue = i
	WHEN NOT MATCHED THEN INSERT VALUES (n.c, '2025-01-01', NULL, NULL, NULL, 'segment2', 'segment2_1', NULL, 1, i, i)$$) \gexec
SELECT * FROM logged();
SELECT * FROM compare_twin();
COPY t FROM stdin;
copied	2025-08-25	\N	\N	\N	segment3	segment3_1	Segment	1	2	3.00
copied2	2025-08-25	\N	\N	\N	segment3	segment3_1	Segment	1	2	4.00
\.
COPY t_twin FROM stdin;
copied	2025-08-25	\N	\N	\N	segment3	segment3_1	Segment	1	2	3.00
copied2	2025-08-25	\N	\N	\N	segment3	segment3_1	Segment	1	2	4.00
\.
SELECT * FROM logged();
-- One member several times in a transaction, in subtransactions that stay and that go.
BEGIN;
SELECT on_both($$UPDATE @ SET total_revenue = 10 WHERE customer_identity = 'copied'$$) \gexec
SELECT on_both($$UPDATE @ SET total_revenue = 20 WHERE customer_identity = 'copied'$$) \gexec
SELECT on_both($$DELETE FROM @ WHERE customer_identity = 'copied'$$) \gexec
SELECT on_both($$INSERT INTO @ VALUES ('copied', '2025-08-25', NULL, NULL, NULL, 'segment3', 'segment3_1', 'Segment', 1, 3, 30)$$) \gexec
SAVEPOINT a;
SELECT on_both($$UPDATE @ SET total_revenue = 40 WHERE customer_identity LIKE 'copied%'$$) \gexec
ROLLBACK TO a;
SELECT on_both($$UPDATE @ SET total_revenue = 50, num_of_orders = 5 WHERE customer_identity LIKE 'copied%'$$) \gexec
SAVEPOINT b;
SELECT on_both($$DELETE FROM @ WHERE customer_identity = 'copied2'$$) \gexec
RELEASE b;
SELECT on_both($$UPDATE @ SET customer_identity = 'copied2' WHERE customer_identity = 'copied'$$) \gexec
SELECT on_both($$UPDATE @ SET segment_name = 'Other' WHERE customer_identity = 'copied2' RETURNING num_of_orders, total_revenue$$) \gexec
COMMIT;
SELECT * FROM logged();
SELECT * FROM compare_twin();
SELECT on_both($$TRUNCATE @$$) \gexec
SELECT * FROM logged();
SELECT on_both(format($$DROP TRIGGER %s ON @$$, x)) FROM unnest('{a,b,c,d,e,f}'::text[]) x \gexec

-- Deferred constraint triggers see each change by its own values.
SELECT on_both($$CREATE CONSTRAINT TRIGGER later AFTER INSERT OR UPDATE OR DELETE ON @ DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note()$$) \gexec
BEGIN;
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(1, 2, 10)$$) \gexec
SELECT on_both($$UPDATE @ SET total_revenue = 1.10 WHERE num_of_orders = 1$$) \gexec
SELECT on_both($$UPDATE @ SET total_revenue = 1.2, segment_name = 'N' WHERE num_of_orders = 1$$) \gexec
SELECT on_both($$DELETE FROM @ WHERE num_of_orders = 1$$) \gexec
SAVEPOINT a;
SELECT on_both($$DELETE FROM @$$) \gexec
ROLLBACK TO a;
SELECT on_both($$UPDATE @ SET customer_identity = customer_identity || 'y' WHERE num_of_orders = 2$$) \gexec
SELECT count(*) FROM log;
COMMIT;
SELECT * FROM logged();
BEGIN;
SELECT on_both($$UPDATE @ SET num_of_orders = 8$$) \gexec
SELECT on_both($$UPDATE @ SET num_of_orders = 9$$) \gexec
SET CONSTRAINTS ALL IMMEDIATE;
SELECT * FROM logged();
SELECT on_both($$DELETE FROM @ WHERE segment_instance_id = 'segment1_1'$$) \gexec
COMMIT;
SELECT * FROM logged();
SELECT * FROM compare_twin();

-- The address of a row that was rolled back to a savepoint names nothing, and no other row, also after more changes.
SELECT on_both($$CREATE TRIGGER a AFTER INSERT OR UPDATE OR DELETE ON @ FOR EACH ROW EXECUTE FUNCTION note()$$) \gexec
SELECT on_both($$INSERT INTO @ SELECT 'n' || i, '2025-01-01', NULL, NULL, NULL, 'n', 'n_1', NULL, 1, i, i FROM generate_series(1, 6) i$$) \gexec
CREATE PROCEDURE roll_back(relation regclass, INOUT results text) LANGUAGE plpgsql AS $$
DECLARE
	gone tid[] := '{}';
	address tid;
	orders text;
	n int;
BEGIN
	EXECUTE format('UPDATE %s SET num_of_customers = 5 WHERE customer_identity = ''n5''', relation);
	FOREACH orders IN ARRAY ARRAY['1', '2,3', '3'] LOOP
		BEGIN
			EXECUTE format('UPDATE %s SET num_of_customers = 9 WHERE num_of_orders IN (%s) AND segment_id = ''n''', relation, orders);
			EXECUTE format('SELECT max(ctid) FROM %s WHERE num_of_customers = 9', relation) INTO address;
			RAISE division_by_zero;
		EXCEPTION WHEN division_by_zero THEN
			gone := gone || address;
		END;
		EXECUTE format('UPDATE %s SET num_of_customers = 2 WHERE num_of_orders >= 4 AND segment_id = ''n''', relation);
		FOREACH address IN ARRAY gone LOOP
			EXECUTE format('SELECT count(*) FROM %s WHERE ctid = %L', relation, address) INTO n;
			results := concat_ws(' ', results, n);
			EXECUTE format('DELETE FROM %s WHERE ctid = %L', relation, address);
			GET DIAGNOSTICS n = ROW_COUNT;
			results := concat_ws(' ', results, n);
		END LOOP;
	END LOOP;
	EXECUTE format('SELECT %L || '' of '' || count(*) FROM %s WHERE segment_id = ''n''', results, relation) INTO results;
END $$;
CALL roll_back('t', NULL);
CALL roll_back('t_twin', NULL);
SELECT * FROM logged();
SELECT * FROM compare_twin();
-- What the address of a version shows is up to the snapshot: nothing once another version is there, or none.
CREATE FUNCTION versions(relation regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	first tid;
	second tid;
	n int;
	earlier refcursor := 'earlier';
	results text;
BEGIN
	EXECUTE format('INSERT INTO %s VALUES (''v'', ''2025-01-01'', NULL, NULL, NULL, ''n'', ''n_1'', NULL, 1, 1, 1) RETURNING ctid', relation) INTO first;
	EXECUTE format('SELECT count(*) FROM %s WHERE ctid = %L', relation, first) INTO n;
	results := concat_ws(' ', results, n);
	EXECUTE format('UPDATE %s SET total_revenue = 2 WHERE ctid = %L RETURNING ctid', relation, first) INTO second;
	EXECUTE format('SELECT count(*) FROM %s WHERE ctid = %L', relation, first) INTO n;
	results := concat_ws(' ', results, n);
	EXECUTE format('UPDATE %s SET total_revenue = 3 WHERE ctid = %L', relation, first);
	GET DIAGNOSTICS n = ROW_COUNT;
	results := concat_ws(' ', results, n);
	EXECUTE format('SELECT total_revenue FROM %s WHERE ctid = %L', relation, second) INTO n;
	results := concat_ws(' ', results, n);
	OPEN earlier FOR EXECUTE format('SELECT x.total_revenue FROM unnest(ARRAY[%L, %L]::tid[]) a JOIN LATERAL (SELECT total_revenue FROM %s WHERE ctid = a OFFSET 0) x ON true', first, second, relation);
	EXECUTE format('DELETE FROM %s WHERE ctid = %L', relation, second);
	GET DIAGNOSTICS n = ROW_COUNT;
	results := concat_ws(' ', results, n);
	EXECUTE format('SELECT count(*) FROM %s WHERE ctid IN (%L, %L)', relation, first, second) INTO n;
	results := concat_ws(' ', results, n);
	FETCH earlier INTO n;
	results := concat_ws(' ', results, n);
	FETCH earlier INTO n;
	results := concat_ws(' ', results, FOUND);
	CLOSE earlier;
	RETURN results;
END $$;
SELECT versions('t'), versions('t_twin');
SELECT * FROM logged();
SELECT * FROM compare_twin();
DROP PROCEDURE roll_back;
DROP FUNCTION versions;
DROP TABLE t, t_twin, log;
DROP FUNCTION note, logged;
