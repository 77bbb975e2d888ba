-- customer_set: sets of several tables in one, and of tables that are gone.
CREATE TABLE one (LIKE customer_segmentation_table) USING customer_segmentation;
CREATE TABLE two (LIKE customer_segmentation_table) USING customer_segmentation;
INSERT INTO one (customer_identity, instance_created_date, segment_id, segment_instance_id)
SELECT 'c' || c, '2025-01-01', 's', 's_' || d FROM generate_series(1, 9) c, generate_series(1, 2) d WHERE c % d = 0;
INSERT INTO two SELECT * FROM one;

-- ANALYZE does not compare them, nor does the planner what ANALYZE has seen.
CREATE TABLE kept (s customer_segmentation.customer_set);
INSERT INTO kept SELECT customer_segmentation.members('s_' || d, t) FROM generate_series(1, 2) d, (VALUES ('one'::regclass), ('two')) AS v(t), generate_series(1, 3);
INSERT INTO kept VALUES (NULL), ('one:{c1,nobody}'), ('one:{c1,nobody}');
ANALYZE kept;
SELECT null_frac, avg_width > 0 AS width, n_distinct, most_common_vals FROM pg_stats WHERE tablename = 'kept';
SELECT count(*) FROM kept WHERE false AND s = 'one:{c1}';
SELECT customer_segmentation.optimize('two');
INSERT INTO kept SELECT customer_segmentation.members('s_1', 'two');
ANALYZE kept;
-- Whoever owns the table need not be allowed to look up identities.
CREATE ROLE regress_sets_owner;
ALTER TABLE kept OWNER TO regress_sets_owner;
SET ROLE regress_sets_owner;
ANALYZE kept;
RESET ROLE;
DROP TABLE kept;

-- To name a table takes no lock on it.
CREATE TABLE payroll (a int);
SET ROLE regress_sets_owner;
BEGIN;
SELECT 'payroll:#1:3a3000000100000000000000100000000000'::customer_segmentation.customer_set, 'payroll:{a}'::customer_segmentation.customer_set;
SELECT count(*) FROM pg_locks WHERE relation = 'payroll'::regclass;
COMMIT;
RESET ROLE;
DROP TABLE payroll;
DROP ROLE regress_sets_owner;

-- What was written of a table that is gone is read back, or a dump would not be restored.
CREATE TABLE gone (LIKE customer_segmentation_table) USING customer_segmentation;
INSERT INTO gone SELECT * FROM one;
CREATE TABLE of_gone AS
SELECT 'numbers' AS kind, customer_segmentation.members('s_1', 'gone') AS s UNION ALL SELECT 'names', 'gone:{c1,"c 2"}' UNION ALL SELECT 'none', 'gone:{}';
DROP TABLE gone;
SELECT kind, regexp_replace(s::text, '^[0-9]+(:#[0-9]+)?', 'OID') AS text, s::text::customer_segmentation.customer_set::text = s::text AS and_back FROM of_gone ORDER BY kind COLLATE "C";
SELECT kind, regexp_replace(error_of(format('SELECT customer_segmentation.identities(s) FROM of_gone WHERE kind = %L', kind)), '[0-9]+, which', 'n, which') AS answer FROM of_gone ORDER BY kind COLLATE "C";
SELECT '-:{a}'::customer_segmentation.customer_set;
DROP TABLE of_gone;

-- Nor is there anything left to read where a function of the same expression drops the table.
CREATE FUNCTION nothing_left() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	DROP TABLE two;
	RETURN 'dropped';
END $$;
\set VERBOSITY sqlstate
BEGIN;
SELECT customer_segmentation.members('s_1', 'two'), nothing_left();
ROLLBACK;
BEGIN;
SELECT customer_segmentation.set_or(customer_segmentation.members('s_1', 'two'), CASE WHEN nothing_left() = '' THEN NULL ELSE 'one:{}'::customer_segmentation.customer_set END);
ROLLBACK;
\set VERBOSITY default
DROP FUNCTION nothing_left;

-- A set is no customer's identity.
SELECT customer_segmentation.create_segment('A set', $$SELECT customer_segmentation.members('s_1', 'one')$$, relation => 'one');
CREATE DOMAIN regulars AS customer_segmentation.customer_set;
SELECT customer_segmentation.preview_segment($$SELECT customer_segmentation.members('s_1', 'one')::regulars$$);
SELECT num_of_customers FROM customer_segmentation.preview_segment($$SELECT customer_segmentation.identities(customer_segmentation.members('s_1', 'one')::regulars)$$);
DROP DOMAIN regulars;
DROP TABLE one, two;
