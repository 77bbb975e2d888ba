-- Triggers that change or suppress rows, that read or change the table itself, and transition tables.
SELECT make_twins('t');
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(2, 3, 30)$$) \gexec

-- BEFORE: another value, no row, another key.
CREATE FUNCTION edit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_OP = 'DELETE' THEN
		IF OLD.num_of_orders = 1 THEN RETURN NULL; END IF;
		RETURN OLD;
	END IF;
	IF NEW.num_of_orders = 2 THEN RETURN NULL; END IF;
	IF NEW.num_of_orders = 3 THEN NEW.total_revenue := 3.3330; NEW.segment_name := 'Edited'; END IF;
	IF NEW.num_of_orders = 4 THEN NEW.customer_identity := NEW.customer_identity || TG_OP; END IF;
	RETURN NEW;
END $$;
SELECT on_both($$CREATE TRIGGER edit BEFORE INSERT OR UPDATE OR DELETE ON @ FOR EACH ROW EXECUTE FUNCTION edit()$$) \gexec
SELECT twin($$INSERT INTO @ SELECT * FROM sample_rows(4, 2, 20) WHERE segment_id IN ('segment3', 'segment4')$$);
SELECT twin($$UPDATE @ SET total_revenue = total_revenue + 1 WHERE segment_id = 'segment1'$$);
SELECT twin($$UPDATE @ SET segment_instance_id = 'x' || segment_instance_id WHERE segment_id = 'segment4' RETURNING customer_identity, segment_name, total_revenue$$);
SELECT twin($$DELETE FROM @ WHERE segment_id = 'segment2' RETURNING customer_identity$$);
SELECT * FROM compare_twin();
SELECT on_both($$DROP TRIGGER edit ON @$$) \gexec

-- BEFORE ROW: the trigger reads the table that the statement changes.
CREATE FUNCTION total() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SELECT count(*) FROM %I', TG_TABLE_NAME) INTO NEW.num_of_orders;
	RETURN NEW;
END $$;
SELECT on_both($$CREATE TRIGGER total BEFORE INSERT ON @ FOR EACH ROW EXECUTE FUNCTION total()$$) \gexec
SELECT on_both($$INSERT INTO @ SELECT 'n' || i, '2025-03-01', NULL, NULL, NULL, 'n', 'n_1', NULL, 1, 0, i FROM generate_series(1, 10) i$$) \gexec
COPY t (customer_identity, instance_created_date, segment_id, segment_instance_id) FROM stdin;
n11	2025-03-01	n	n_1
n12	2025-03-01	n	n_1
n13	2025-03-01	n	n_1
\.
COPY t_twin (customer_identity, instance_created_date, segment_id, segment_instance_id) FROM stdin;
n11	2025-03-01	n	n_1
n12	2025-03-01	n	n_1
n13	2025-03-01	n	n_1
\.
SELECT * FROM compare_twin();
SELECT on_both($$DROP TRIGGER total ON @$$) \gexec

-- AFTER ROW: the trigger sees the table with all rows of the statement, and changes it.
CREATE TABLE counts (relation text, n bigint);
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
	EXECUTE format('SELECT count(*) FROM %I', TG_TABLE_NAME) INTO n;
	INSERT INTO counts VALUES (TG_TABLE_NAME, n);
	RETURN NULL;
END $$;
CREATE FUNCTION follow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF pg_trigger_depth() > 3 THEN RETURN NULL; END IF;
	IF TG_OP = 'INSERT' THEN
		EXECUTE format('INSERT INTO %I VALUES ($1.customer_identity || ''+'', $1.instance_created_date, NULL, NULL, NULL, $1.segment_id, $1.segment_instance_id, NULL, 1, 1, $1.total_revenue * 2)', TG_TABLE_NAME) USING NEW;
	ELSIF TG_OP = 'UPDATE' THEN
		EXECUTE format('UPDATE %I SET total_revenue = total_revenue + 100 WHERE customer_identity = $1.customer_identity AND segment_instance_id = $1.segment_instance_id', TG_TABLE_NAME) USING NEW;
	ELSE
		EXECUTE format('DELETE FROM %I WHERE customer_identity = $1.customer_identity || ''+''', TG_TABLE_NAME) USING OLD;
	END IF;
	RETURN NULL;
END $$;
SELECT on_both($$CREATE TRIGGER follow AFTER INSERT OR UPDATE OR DELETE ON @ FOR EACH ROW EXECUTE FUNCTION follow()$$) \gexec
SELECT on_both($$CREATE TRIGGER look AFTER INSERT OR UPDATE OR DELETE ON @ FOR EACH ROW EXECUTE FUNCTION look()$$) \gexec
SELECT on_both($$INSERT INTO @ SELECT 'm' || i, '2025-03-01', NULL, NULL, NULL, 'm', 'm_1', NULL, 1, 0, i FROM generate_series(1, 5) i$$) \gexec
SELECT * FROM compare_twin();
SELECT on_both($$UPDATE @ SET total_revenue = total_revenue + 1 WHERE segment_id = 'm' AND num_of_orders = 0$$) \gexec
SELECT * FROM compare_twin();
SELECT on_both($$UPDATE @ SET customer_identity = 'z' || customer_identity WHERE customer_identity IN ('m1', 'm2+')$$) \gexec
SELECT * FROM compare_twin();
SELECT on_both($$DELETE FROM @ WHERE customer_identity IN ('m3', 'm4')$$) \gexec
SELECT * FROM compare_twin();
COPY t (customer_identity, instance_created_date, segment_id, segment_instance_id, total_revenue) FROM stdin;
o1	2025-03-01	o	o_1	1.50
o2	2025-03-01	o	o_1	2.50
\.
COPY t_twin (customer_identity, instance_created_date, segment_id, segment_instance_id, total_revenue) FROM stdin;
o1	2025-03-01	o	o_1	1.50
o2	2025-03-01	o	o_1	2.50
\.
SELECT * FROM compare_twin();
SELECT twin($$SELECT customer_identity, total_revenue FROM @ WHERE segment_id IN ('m', 'o')$$);
SELECT count(*) FROM (SELECT n FROM counts WHERE relation = 't' EXCEPT ALL SELECT n FROM counts WHERE relation = 't_twin') x;
SELECT on_both($$DROP TRIGGER follow ON @$$) \gexec
SELECT on_both($$DROP TRIGGER look ON @$$) \gexec

-- BEFORE ROW: the trigger changes the very row.
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF pg_trigger_depth() = 1 THEN
		EXECUTE format('UPDATE %I SET total_revenue = -1 WHERE customer_identity = $1.customer_identity', TG_TABLE_NAME) USING OLD;
	END IF;
	IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
	RETURN NEW;
END $$;
SELECT on_both($$CREATE TRIGGER meddle BEFORE UPDATE OR DELETE ON @ FOR EACH ROW EXECUTE FUNCTION meddle()$$) \gexec
SELECT twin($$UPDATE @ SET num_of_orders = 1 WHERE customer_identity = 'o1'$$);
SELECT twin($$DELETE FROM @ WHERE customer_identity = 'o2'$$);
SELECT * FROM compare_twin();
SELECT on_both($$DROP TRIGGER meddle ON @$$) \gexec

-- Transition tables.
CREATE TABLE transitions (relation text, op text, old_rows text, new_rows text);
CREATE FUNCTION transition_insert() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO transitions SELECT TG_TABLE_NAME, TG_OP, NULL, string_agg(n::text, ' ' ORDER BY n::text) FROM new_rows n; RETURN NULL; END $$;
CREATE FUNCTION transition_update() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO transitions SELECT TG_TABLE_NAME, TG_OP, (SELECT string_agg(o::text, ' ' ORDER BY o::text) FROM old_rows o), (SELECT string_agg(n::text, ' ' ORDER BY n::text) FROM new_rows n); RETURN NULL; END $$;
CREATE FUNCTION transition_delete() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO transitions SELECT TG_TABLE_NAME, TG_OP, string_agg(o::text, ' ' ORDER BY o::text), NULL FROM old_rows o; RETURN NULL; END $$;
SELECT on_both($$CREATE TRIGGER ti AFTER INSERT ON @ REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION transition_insert()$$) \gexec
SELECT on_both($$CREATE TRIGGER tu AFTER UPDATE ON @ REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION transition_update()$$) \gexec
SELECT on_both($$CREATE TRIGGER td AFTER DELETE ON @ REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION transition_delete()$$) \gexec
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(6, 2, 20) WHERE segment_id IN ('segment5', 'segment6')$$) \gexec
SELECT on_both($$UPDATE @ SET total_revenue = total_revenue + 1.1 WHERE segment_id = 'segment5'$$) \gexec
SELECT on_both($$UPDATE @ SET segment_name = 'T', customer_identity = customer_identity || 't' WHERE segment_id = 'segment6' AND num_of_orders > 3$$) \gexec
BEGIN;
SELECT on_both($$UPDATE @ SET num_of_orders = 5 WHERE segment_id = 'segment5'$$) \gexec
SELECT on_both($$UPDATE @ SET num_of_orders = 6, total_revenue = 6 WHERE segment_id = 'segment5'$$) \gexec
SELECT on_both($$DELETE FROM @ WHERE segment_id = 'segment5'$$) \gexec
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(5, 1, 9) WHERE segment_id = 'segment5'$$) \gexec
SELECT on_both($$UPDATE @ SET total_revenue = 7 WHERE segment_id = 'segment5'$$) \gexec
COMMIT;
SELECT on_both($$MERGE INTO @ USING (SELECT 'customer' || i AS c, i FROM generate_series(1, 20) i) n ON customer_identity = n.c AND segment_instance_id = 'segment5_1'
	WHEN MATCHED AND i % 2 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET total_revenue = i
	WHEN NOT MATCHED THEN INSERT VALUES (n.c, '2025-01-01', NULL, NULL, NULL, 'segment5', 'segment5_1', NULL, 1, i, i)$$) \gexec
SELECT op, count(*), count(DISTINCT (old_rows, new_rows)) AS different FROM transitions GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM (SELECT op, old_rows, new_rows FROM transitions WHERE relation = 't' EXCEPT ALL SELECT op, old_rows, new_rows FROM transitions WHERE relation = 't_twin') x;
SELECT * FROM compare_twin();
DROP TABLE t, t_twin, counts, transitions;
DROP FUNCTION edit, total, look, follow, meddle, transition_insert, transition_update, transition_delete;
