-- What can't work says so when it is configured.
CREATE TABLE t (LIKE customer_segmentation_table) USING customer_segmentation;
INSERT INTO t SELECT * FROM sample_rows(1, 2, 10);
\pset format unaligned
\pset tuples_only on

-- Columns.
SELECT error_of('ALTER TABLE t ADD COLUMN city text');
SELECT error_of('ALTER TABLE t ADD COLUMN city text DEFAULT gen_random_uuid()::text');
SELECT error_of('ALTER TABLE t DROP COLUMN schedule');
SELECT error_of('ALTER TABLE t RENAME COLUMN schedule TO timetable');
SELECT error_of('ALTER TABLE t RENAME schedule TO segment_name') ~ '^42701';

-- Indexes.
SELECT error_of('CREATE INDEX ON t (customer_identity)');
SELECT error_of('CREATE UNIQUE INDEX ON t (segment_instance_id, customer_identity)');
SELECT error_of('CREATE INDEX ON t USING hash (customer_identity)');
SELECT error_of('CREATE INDEX ON t USING brin (instance_created_date)');
SELECT error_of('ALTER TABLE t ADD PRIMARY KEY (segment_instance_id, customer_identity)');
SELECT error_of('ALTER TABLE t ADD UNIQUE (segment_instance_id, customer_identity)');
SELECT error_of('ALTER TABLE t ADD EXCLUDE USING btree (customer_identity WITH =)');
SELECT error_of('CREATE TABLE keyed (LIKE t, PRIMARY KEY (segment_instance_id, customer_identity)) USING customer_segmentation');
CREATE INDEX CONCURRENTLY leftover ON t (customer_identity);
SELECT count(*) FROM pg_class WHERE relname = 'leftover';
SELECT count(*) FROM pg_index WHERE indrelid = 't'::regclass;
CREATE TABLE indexed (LIKE t, PRIMARY KEY (segment_instance_id, customer_identity)) USING heap;
INSERT INTO indexed TABLE t;
SELECT split_part(error_of('ALTER TABLE indexed SET ACCESS METHOD customer_segmentation'), '|', 1);
SELECT count(*) FROM indexed;
DROP TABLE indexed;

-- A key that refers to the table needs a unique index there.
SELECT error_of('CREATE TABLE other (i text REFERENCES t (customer_identity))') ~ '^42830';

-- ON CONFLICT with a target.
SELECT error_of('INSERT INTO t SELECT * FROM t ON CONFLICT (segment_instance_id, customer_identity) DO NOTHING') ~ '^42P10';
SELECT error_of('INSERT INTO t SELECT * FROM t ON CONFLICT (segment_instance_id, customer_identity) DO UPDATE SET total_revenue = 1') ~ '^42P10';

-- Logical replication of the table by name.
SET client_min_messages = error;
SELECT error_of('CREATE PUBLICATION regress_customer_segmentation FOR TABLE t');
CREATE PUBLICATION regress_customer_segmentation2;
SELECT error_of('ALTER PUBLICATION regress_customer_segmentation2 ADD TABLE t');
SELECT error_of('ALTER PUBLICATION regress_customer_segmentation2 SET TABLE t');
SELECT count(*) FROM pg_publication_rel;
DROP PUBLICATION IF EXISTS regress_customer_segmentation, regress_customer_segmentation2;
RESET client_min_messages;

-- Samples.
SELECT error_of('SELECT * FROM t TABLESAMPLE SYSTEM (10)');
SELECT error_of('SELECT * FROM t TABLESAMPLE BERNOULLI (10)');

-- Settings of the extension that do not exist.
SELECT error_of('SET customer_segmentation.no_such_setting = 1') ~ '^42602';
SELECT error_of($$SET customer_segmentation.write_buffer = '1kB'$$) ~ '^22023';

SELECT count(*) FROM t;
SELECT * FROM customer_segmentation.verify('t');

-- The extension's own table: what pg_dump would not carry over.
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
SELECT error_of('CREATE TRIGGER own BEFORE INSERT ON customer_segmentation_table FOR EACH ROW EXECUTE FUNCTION nothing()');
SELECT error_of('CREATE POLICY own ON customer_segmentation_table USING (true)');
SELECT split_part(error_of('ALTER TABLE customer_segmentation_table ENABLE ROW LEVEL SECURITY'), '|', 1);
SELECT split_part(error_of('ALTER TABLE customer_segmentation_table FORCE ROW LEVEL SECURITY'), '|', 1);
SELECT error_of('ALTER TABLE customer_segmentation_table ADD CONSTRAINT own CHECK (num_of_orders >= 0)');
SELECT error_of('ALTER TABLE customer_segmentation_table ADD CONSTRAINT own CHECK (num_of_orders >= 0) NOT VALID');
SELECT split_part(error_of('ALTER TABLE customer_segmentation_table ALTER num_of_orders SET DEFAULT 0'), '|', 1);
SELECT split_part(error_of('ALTER TABLE customer_segmentation_table ALTER num_of_orders SET NOT NULL'), '|', 1);
SELECT error_of('ALTER TABLE customer_segmentation_table ALTER total_revenue TYPE numeric(12,2)');
SELECT error_of('ALTER TABLE customer_segmentation_table RENAME TO mine');
SELECT error_of('CREATE SCHEMA own_place');
SELECT error_of('ALTER TABLE customer_segmentation_table SET SCHEMA own_place');
SELECT error_of('ALTER TABLE customer_segmentation_table RENAME schedule TO timetable');
SELECT error_of('CREATE RULE own AS ON INSERT TO customer_segmentation_table DO ALSO NOTHING');
SELECT error_of('ALTER TABLE customer_segmentation_table ADD COLUMN city text');
SELECT error_of('CREATE INDEX ON customer_segmentation_table (customer_identity)');
SELECT error_of('DROP TABLE customer_segmentation_table') ~ '^2BP01';

-- Nothing of it is there.
SELECT relname, relhasrules, relhastriggers, relrowsecurity, relforcerowsecurity, relchecks
FROM pg_class WHERE oid = 'public.customer_segmentation_table'::regclass;
SELECT count(*) FROM pg_policy;

-- Grants, statistics targets and rows are the user's.
GRANT SELECT ON customer_segmentation_table TO PUBLIC;
REVOKE SELECT ON customer_segmentation_table FROM PUBLIC;
INSERT INTO customer_segmentation_table SELECT * FROM sample_rows(1, 2, 5);
SELECT count(*) FROM customer_segmentation_table;
ANALYZE customer_segmentation_table;
VACUUM customer_segmentation_table;
DELETE FROM customer_segmentation_table;
TRUNCATE customer_segmentation_table;
SELECT * FROM customer_segmentation.verify();

-- A table that is made like it takes all of them.
CREATE TABLE mine (LIKE customer_segmentation_table INCLUDING ALL) USING customer_segmentation;
CREATE TRIGGER own BEFORE INSERT ON mine FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE POLICY own ON mine USING (true);
ALTER TABLE mine ADD CONSTRAINT own CHECK (num_of_orders >= 0);
ALTER TABLE mine ALTER num_of_orders SET DEFAULT 0;
INSERT INTO mine SELECT * FROM sample_rows(1, 2, 5);
ALTER TABLE mine SET SCHEMA own_place;
SELECT count(*) FROM own_place.mine;
SELECT * FROM customer_segmentation.verify('own_place.mine');
-- What is not a table of ours.
CREATE TABLE plain (i int);
SELECT error_of($$SELECT * FROM customer_segmentation.verify('plain')$$);
SELECT error_of($$SELECT * FROM customer_segmentation.storage_info('pg_class')$$);
SELECT error_of($$SELECT * FROM customer_segmentation.storage_info('pg_user')$$);
SELECT error_of($$SELECT * FROM customer_segmentation.storage_info(0)$$) ~ '^42';
SELECT count(*) FROM customer_segmentation.verify(NULL);
DROP TABLE own_place.mine, plain, t;
DROP SCHEMA own_place;
DROP FUNCTION nothing();
