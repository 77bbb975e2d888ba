-- Definitions are untrusted: whoever runs a segment, its definition has the owner's privileges and changes nothing.
SET TimeZone = 'UTC';
DELETE FROM customer_segmentation.segment_run;
CREATE ROLE regress_cs_mallory;
CREATE ROLE regress_cs_victim;
CREATE ROLE regress_cs_member IN ROLE regress_cs_mallory;
CREATE ROLE regress_cs_scheduler;
CREATE ROLE regress_cs_nobody;
GRANT SELECT, INSERT ON customer_segmentation_table TO regress_cs_mallory, regress_cs_victim;
GRANT EXECUTE ON PROCEDURE customer_segmentation.run_due_segments TO regress_cs_scheduler;
CREATE SCHEMA mallory AUTHORIZATION regress_cs_mallory;
CREATE SCHEMA victim AUTHORIZATION regress_cs_victim;
CREATE FUNCTION id(n int) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT lpad(n::text, 24, '0') $$;
CREATE VIEW runs AS
SELECT ltrim(segment_id, '0') AS s, kind, as_of::timestamp, status, rows, sqlstate, error, run_by
FROM customer_segmentation.segment_runs ORDER BY run_id;
GRANT SELECT ON runs TO PUBLIC;
SET customer_segmentation.as_of = '2025-01-01 09:00+00';

SET ROLE regress_cs_victim;
CREATE TABLE victim.secrets (customer_id int, secret text);
INSERT INTO victim.secrets VALUES (1, 'hidden');
CREATE TABLE victim.shared (customer_id int, visible_to name);
INSERT INTO victim.shared VALUES (1, 'regress_cs_mallory'), (2, 'regress_cs_victim'), (3, 'regress_cs_mallory');
ALTER TABLE victim.shared ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON victim.shared USING (visible_to = current_user);
GRANT USAGE ON SCHEMA victim TO regress_cs_mallory;
GRANT SELECT ON victim.shared TO regress_cs_mallory;
SELECT customer_segmentation.set_source('customers', 'victim.secrets', '{"customer_id": "customer_id", "secret": "secret"}');
SELECT customer_segmentation.create_segment('Of the victim', 'SELECT customer_id FROM victim.secrets', segment_id => id(1));

-- Who may do what.
SET ROLE regress_cs_nobody;
SELECT error_of('SELECT customer_segmentation.run_segment(id(1))');
SELECT error_of('SELECT customer_segmentation.alter_segment(id(1), paused => true)');
SELECT error_of('SELECT customer_segmentation.drop_segment(id(1))');
CALL customer_segmentation.run_due_segments('2025-01-01 09:00+00');
SELECT error_of($$SELECT customer_segmentation.create_segment('Mine', 'SELECT 1')$$);
SELECT (SELECT count(*) FROM customer_segmentation.segments) AS segments, (SELECT count(*) FROM customer_segmentation.segment_runs) AS runs,
	   (SELECT count(*) FROM customer_segmentation.segment_health) AS health, (SELECT count(*) FROM customer_segmentation.sources) AS sources;
SET ROLE regress_cs_scheduler;
SELECT error_of('SELECT customer_segmentation.alter_segment(id(1), paused => true)');
SELECT error_of('SELECT customer_segmentation.drop_segment(id(1))');
CALL customer_segmentation.run_due_segments('2025-01-01 09:00+00');
SELECT customer_segmentation.run_segment(id(1), '2025-01-02 09:00+00');
SELECT * FROM runs;
SELECT segment_name, owner FROM customer_segmentation.segments;
SELECT error_of('SELECT * FROM victim.secrets');
SET ROLE regress_cs_mallory;
SELECT error_of('SELECT customer_segmentation.run_segment(id(1))');
SELECT count(*) FROM customer_segmentation.segments;
SELECT error_of($$SELECT customer_segmentation.create_segment('Takes over', 'SELECT 1', segment_id => id(1))$$);

-- What a definition can't read is refused when it is given: tables, views over them, another role's sources.
SELECT error_of($$SELECT customer_segmentation.create_segment('Reads', 'SELECT secret FROM victim.secrets')$$);
CREATE VIEW mallory.reads AS SELECT secret FROM victim.secrets;
SELECT error_of($$SELECT customer_segmentation.create_segment('Reads', 'SELECT secret FROM mallory.reads')$$);
SELECT error_of($$SELECT customer_segmentation.preview_segment('SELECT secret FROM mallory.reads')$$);
SELECT error_of($$SELECT customer_segmentation.create_segment('Reads', '{"type":"AND","filters":[{"type":"user_property","definition":{"property":{"property":"secret","comparator":"is_set"}}}]}'::jsonb)$$) ~ '^55000\|.*set_source';
SELECT error_of($$SELECT customer_segmentation.set_source('customers', 'victim.secrets', '{"customer_id": "customer_id"}')$$);
SELECT count(*) FROM customer_segmentation.sources;

-- What it tries to change or to become. Each attempt is a member, and tells how it ended.
CREATE TABLE mallory.log (line text);
CREATE SEQUENCE mallory.counter;
CREATE FUNCTION mallory.attempt(statement text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
	result text;
BEGIN
	IF statement ~ '^SELECT' THEN EXECUTE statement INTO result; ELSE EXECUTE statement; END IF;
	RETURN coalesce(result, 'done');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
CREATE FUNCTION mallory.definer(statement text) RETURNS text LANGUAGE sql VOLATILE SECURITY DEFINER AS $$ SELECT mallory.attempt(statement) $$;
CREATE TABLE mallory.attempts (n serial, statement text);
INSERT INTO mallory.attempts (statement) VALUES ('SELECT current_user'), ('SELECT current_setting($$search_path$$)'), ('SELECT current_setting($$transaction_read_only$$)'),
	('SELECT current_setting($$TimeZone$$)'), ('SELECT customer_segmentation.as_of()'), ('SELECT secret FROM victim.secrets'), ('SELECT count(*) FROM victim.shared'),
	('SELECT rolpassword FROM pg_authid'), ('SELECT pg_read_file($$PG_VERSION$$)'), ('SELECT count(*) FROM customer_segmentation.segment'),
	('SET ROLE postgres'), ('RESET ROLE'), ('SET SESSION AUTHORIZATION postgres'), ('RESET SESSION AUTHORIZATION'), ('SELECT set_config($$role$$, $$none$$, false)'),
	('SELECT set_config($$session_authorization$$, $$default$$, false)'), ('SET LOCAL transaction_read_only = off'), ('SET search_path = mallory'),
	('INSERT INTO mallory.log VALUES (current_user)'), ('DELETE FROM public.customer_segmentation_table'), ('INSERT INTO public.customer_segmentation_table SELECT * FROM public.customer_segmentation_table'), ('UPDATE mallory.attempts SET n = 0'),
	('SELECT nextval($$mallory.counter$$)'), ('CREATE TABLE mallory.t ()'), ('CREATE TEMP TABLE t ()'), ('ALTER ROLE regress_cs_mallory SUPERUSER'),
	('GRANT ALL ON SCHEMA mallory TO PUBLIC'), ('DO $$BEGIN END$$'), ('COPY mallory.log FROM PROGRAM $$id$$'), ('LISTEN mallory'), ('COMMIT'),
	('PREPARE p AS SELECT 1'), ('DECLARE c CURSOR WITH HOLD FOR SELECT 1'), ('LOCK TABLE mallory.log IN EXCLUSIVE MODE'), ('TRUNCATE mallory.log'),
	('CALL customer_segmentation.run_due_segments()'), ('SELECT customer_segmentation.run_segment(public.id(1))'), ('SELECT customer_segmentation.run_segment(public.id(3))'), ('SELECT customer_segmentation.drop_segment(public.id(2))'),
	('SELECT customer_segmentation.set_source($$customers$$, NULL)'), ('SELECT customer_segmentation.create_segment($$x$$, $$SELECT 1$$)');
SELECT customer_segmentation.create_segment('Attempts', 'SELECT n || '': '' || statement || '' => '' || mallory.attempt(statement) FROM mallory.attempts', segment_id => id(2));
SELECT customer_segmentation.create_segment('Attempts as definer', 'SELECT n || '': '' || mallory.definer(statement) FROM mallory.attempts', segment_id => id(3));
RESET ROLE;
-- Run by a superuser.
SELECT customer_segmentation.run_segment(id(2), '2025-01-01 09:00+00');
SELECT customer_identity FROM customer_segmentation_table WHERE segment_id = id(2) ORDER BY split_part(customer_identity, ':', 1)::int;
-- And by the procedure: the same but for the moment.
CALL customer_segmentation.run_due_segments('2025-01-01 10:00+00');
CALL customer_segmentation.run_due_segments('2025-01-02 10:00+00');
SELECT s, as_of, status, rows FROM runs WHERE s IN ('2', '3');
SELECT customer_identity FROM customer_segmentation_table WHERE segment_instance_id = id(2) || '_2025_01_02'
EXCEPT SELECT customer_identity FROM customer_segmentation_table WHERE segment_instance_id = id(2) || '_2025_01_01';
-- A function that is SECURITY DEFINER gets no further.
SELECT customer_identity FROM customer_segmentation_table WHERE segment_instance_id = id(3) || '_2025_01_02'
EXCEPT SELECT split_part(customer_identity, ':', 1) || ': ' || split_part(customer_identity, ' => ', 2) FROM customer_segmentation_table WHERE segment_instance_id = id(2) || '_2025_01_02';
SELECT current_user, current_setting('search_path'), current_setting('transaction_read_only'), (SELECT count(*) FROM mallory.log) AS log, (SELECT is_called FROM mallory.counter),
	   (SELECT rolsuper FROM pg_roles WHERE rolname = 'regress_cs_mallory'), (SELECT count(*) FROM pg_cursors WHERE name = 'c'), (SELECT count(*) FROM pg_prepared_statements);

-- Code in other places than the definition: views, types and casts, domains, triggers, defaults of the caller.
SET ROLE regress_cs_mallory;
CREATE TYPE mallory.who AS (a int);
CREATE FUNCTION mallory.who_text(mallory.who) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN 'cast as ' || current_user || ', ' || mallory.attempt('INSERT INTO mallory.log VALUES (1)');
END $$;
CREATE CAST (mallory.who AS text) WITH FUNCTION mallory.who_text(mallory.who);
CREATE FUNCTION mallory.is_fine(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN $1 <> mallory.attempt('SELECT secret FROM victim.secrets'); END $$;
CREATE DOMAIN mallory.checked AS text CHECK (mallory.is_fine(VALUE));
CREATE VIEW mallory.view AS SELECT 'view as ' || mallory.attempt('SELECT current_user') AS customer;
SELECT customer_segmentation.create_segment('Code', $$SELECT (ROW(1)::mallory.who)::text UNION ALL SELECT 'a'::mallory.checked::text UNION ALL SELECT customer FROM mallory.view$$, segment_id => id(4));
SELECT customer_segmentation.create_segment('Cast', $$SELECT ROW(1)::mallory.who$$, segment_id => id(5));
CREATE TABLE mallory.own (LIKE customer_segmentation_table) USING customer_segmentation;
CREATE FUNCTION mallory.on_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.customer_identity := NEW.customer_identity || ': ' || current_user || ', ' || mallory.attempt('SELECT secret FROM victim.secrets') || ', ' || mallory.attempt('RESET ROLE');
	RETURN NEW;
END $$;
CREATE TRIGGER on_insert BEFORE INSERT ON mallory.own FOR EACH ROW EXECUTE FUNCTION mallory.on_insert();
SELECT customer_segmentation.create_segment('Own table', $$SELECT 'trigger'$$, segment_id => id(6), relation => 'mallory.own');
RESET ROLE;
SELECT customer_segmentation.run_segment(id(n)) FROM generate_series(4, 6) n;
SELECT customer_identity FROM customer_segmentation_table WHERE segment_id IN (id(4), id(5)) ORDER BY customer_identity COLLATE "C";
SELECT customer_identity FROM mallory.own;
-- A deferred trigger would fire when the caller commits, as the caller.
SET ROLE regress_cs_mallory;
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON mallory.own DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION mallory.on_insert();
RESET ROLE;
CALL customer_segmentation.run_due_segments('2025-01-02 11:00+00');
SELECT s, status, sqlstate, error FROM runs WHERE s = '6' AND kind = 'scheduled';
SELECT count(*) FROM mallory.own;
SELECT customer_segmentation.drop_segment(id(6));

-- Objects that stand in the way of names, operators included, and the search path of the caller.
SET ROLE regress_cs_mallory;
CREATE FUNCTION mallory.never(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'the operator of % was called', current_user; END $$;
CREATE OPERATOR mallory.= (LEFTARG = text, RIGHTARG = text, FUNCTION = mallory.never);
CREATE FUNCTION mallory.count() RETURNS bigint LANGUAGE sql AS $$ SELECT 1 / 0 $$;
CREATE FUNCTION mallory.format(text, int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'format was called'; END $$;
CREATE TABLE mallory.members (customer_identity text);
CREATE TABLE mallory.pg_roles (rolname name, oid oid);
GRANT USAGE ON SCHEMA mallory TO PUBLIC;
RESET ROLE;
SET search_path = mallory, public, pg_catalog;
SELECT customer_segmentation.run_segment(id(4), '2025-01-03 09:00+00');
CALL customer_segmentation.run_due_segments('2025-01-04 09:00+00');
SELECT * FROM customer_segmentation.preview_segment('VALUES (1), (2)');
SELECT * FROM customer_segmentation.preview_segment('VALUES (1), (1)');
SELECT pg_catalog.count(*) > 0 FROM customer_segmentation.segments;
SELECT pg_catalog.count(*) > 0 FROM customer_segmentation.segment_runs;
SELECT pg_catalog.count(*) > 0 FROM customer_segmentation.segment_health;
SELECT pg_catalog.count(*) > 0 FROM customer_segmentation.segment_instances;
RESET search_path;
-- Names that are no names.
SET ROLE regress_cs_mallory;
CREATE TABLE mallory."own""; DROP TABLE x; --" (LIKE customer_segmentation_table) USING customer_segmentation;
SELECT customer_segmentation.create_segment($$'; DROP TABLE victim.secrets; -- %s %n$1$$, $$SELECT '''; DROP TABLE victim.secrets; --'$$, segment_id => id(7),
	relation => 'mallory."own""; DROP TABLE x; --"', description => $$'; --$$, schedule => 'manual');
RESET ROLE;
SELECT customer_segmentation.run_segment(id(7));
SELECT segment_name, customer_identity FROM mallory."own""; DROP TABLE x; --";
SELECT error_of($$SELECT customer_segmentation.run_segment('''; DROP TABLE victim.secrets; --')$$);
SELECT customer_segmentation.drop_segment(id(7), false);
-- Row security binds the owner of the segment, whoever runs it, and whoever owns the table.
SET ROLE regress_cs_mallory;
SELECT customer_segmentation.create_segment('Shared', 'SELECT customer_id FROM victim.shared', segment_id => id(8), schedule => 'manual');
RESET ROLE;
SET row_security = off;
SELECT customer_segmentation.run_segment(id(8));
RESET row_security;
SELECT array_agg(customer_identity ORDER BY customer_identity) FROM customer_segmentation_table WHERE segment_id = id(8);
-- A member of the owner may, and it is the owner whose privileges count.
GRANT SELECT ON victim.secrets TO regress_cs_member;
SET ROLE regress_cs_member;
SELECT customer_segmentation.run_segment(id(8), '2025-01-02 09:00+00');
SELECT error_of($$SELECT customer_segmentation.alter_segment(id(8), definition => 'SELECT secret FROM victim.secrets')$$);
SELECT left(error_of($$SELECT customer_segmentation.alter_segment(id(8), owner => 'regress_cs_victim')$$), 5);
SELECT customer_segmentation.alter_segment(id(8), description => 'by a member', paused => false);
RESET ROLE;
SELECT customer_segmentation.drop_segment(segment_id, false) FROM customer_segmentation.segments WHERE owner = 'regress_cs_mallory' ORDER BY segment_id;
DELETE FROM customer_segmentation.segment_run;

-- What was allowed and is no longer: the next run fails, says why, and is recorded; then it is allowed again.
SET ROLE regress_cs_mallory;
CREATE TABLE mallory.orders (customer_id int);
INSERT INTO mallory.orders VALUES (1), (2);
SELECT customer_segmentation.create_segment('Table', 'SELECT customer_id FROM mallory.orders', segment_id => id(2));
SELECT customer_segmentation.create_segment('Privilege', 'SELECT customer_id FROM victim.shared', segment_id => id(3));
SELECT customer_segmentation.create_segment('Own', 'SELECT 1', segment_id => id(4), relation => 'mallory.own');
RESET ROLE;
DROP TRIGGER later ON mallory.own;
DROP TABLE mallory.orders;
REVOKE SELECT ON victim.shared FROM regress_cs_mallory;
DROP TABLE mallory.own;
CALL customer_segmentation.run_due_segments('2025-01-05 09:00+00');
SELECT s, as_of, status, sqlstate, error FROM runs;
CREATE TABLE mallory.orders (customer_id int);
CALL customer_segmentation.run_due_segments('2025-01-06 09:00+00');
GRANT SELECT ON mallory.orders TO regress_cs_mallory;
GRANT SELECT ON victim.shared TO regress_cs_mallory;
REVOKE INSERT ON customer_segmentation_table FROM regress_cs_mallory;
CALL customer_segmentation.run_due_segments('2025-01-07 09:00+00');
GRANT INSERT ON customer_segmentation_table TO regress_cs_mallory;
CALL customer_segmentation.run_due_segments('2025-01-08 09:00+00');
SELECT s, as_of, status, sqlstate, error FROM runs WHERE as_of > '2025-01-06' AND s IN ('2', '3');
-- The owner is renamed: the same role. Another gets the old name: not its segments.
ALTER ROLE regress_cs_mallory RENAME TO regress_cs_renamed;
CREATE ROLE regress_cs_mallory;
SELECT segment_name, owner FROM customer_segmentation.segments ORDER BY segment_id;
CALL customer_segmentation.run_due_segments('2025-01-09 09:00+00');
SELECT s, as_of, status FROM runs WHERE as_of > '2025-01-09' AND s IN ('2', '3');
DROP ROLE regress_cs_mallory;
-- The owner is dropped.
SELECT customer_segmentation.drop_segment(id(4));
REASSIGN OWNED BY regress_cs_renamed TO postgres;
DROP OWNED BY regress_cs_renamed;
DROP ROLE regress_cs_renamed;
CALL customer_segmentation.run_due_segments('2025-01-10 09:00+00');
SELECT s, as_of, status, sqlstate, error FROM runs WHERE as_of > '2025-01-10' AND s IN ('2', '3');
CREATE ROLE regress_cs_mallory;
CALL customer_segmentation.run_due_segments('2025-01-11 09:00+00');
SELECT s, as_of, status, sqlstate FROM runs WHERE as_of > '2025-01-11' AND s IN ('2', '3');
SELECT customer_segmentation.alter_segment(id(2), owner => 'postgres');
CALL customer_segmentation.run_due_segments('2025-01-11 09:00+00');
SELECT s, as_of, status, sqlstate FROM runs WHERE as_of > '2025-01-11' AND s IN ('2', '3');
-- Its errors are for those who may run it.
SET ROLE regress_cs_victim;
SELECT DISTINCT s FROM runs;
RESET ROLE;
RESET customer_segmentation.as_of;

SELECT customer_segmentation.drop_segment(segment_id, true) FROM customer_segmentation.segments ORDER BY segment_id;
DELETE FROM customer_segmentation_table;
DELETE FROM customer_segmentation.segment_run;
DROP VIEW runs;
SET client_min_messages = warning;
DROP SCHEMA mallory, victim CASCADE;
RESET client_min_messages;
DROP OWNED BY regress_cs_mallory, regress_cs_victim, regress_cs_member, regress_cs_scheduler, regress_cs_nobody;
DROP ROLE regress_cs_mallory, regress_cs_victim, regress_cs_member, regress_cs_scheduler, regress_cs_nobody;
DROP FUNCTION id;
