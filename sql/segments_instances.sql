-- The view segment_instances: what a query says of its rows is told to the function behind it, and changes nothing.
SET search_path = public, customer_segmentation;
SET DateStyle = ISO;
CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE one (LIKE customer_segmentation_table) USING customer_segmentation;
CREATE TABLE two (LIKE customer_segmentation_table) USING customer_segmentation;
CREATE TABLE plain (LIKE customer_segmentation_table) USING heap;
CREATE TEMP TABLE mine (LIKE customer_segmentation_table) USING customer_segmentation;
INSERT INTO plain
SELECT 'customer' || c, timestamp '2025-01-01 06:00' + i * interval '1 day', 'once_a_day', 'customer_id', NULL,
       'seg' || s, 'seg' || s || '_' || i, 'Segment ' || s, 1, c, c * 0.5
FROM generate_series(1, 4) AS s, generate_series(1, 3) AS i, generate_series(1, s + i) AS c;
INSERT INTO one SELECT * FROM plain;
INSERT INTO two SELECT * FROM plain WHERE segment_id <> 'seg2';
INSERT INTO mine SELECT * FROM plain WHERE segment_id = 'seg2';
-- A segment whose id differs in case only, and an instance whose rows have two names.
INSERT INTO two VALUES ('customer9', '2025-01-09 06:00', NULL, NULL, NULL, 'SEG1', 'SEG1_1', NULL, 1, 1, 1),
	('customer8', '2025-01-09 06:00', NULL, NULL, NULL, 'seg3', 'seg3_1', 'Renamed', 1, 1, 1);

-- All of them, as SQL counts them.
CREATE VIEW counted AS
SELECT 'one'::regclass AS relation, segment_instance_id, instance_created_date, segment_id, segment_name,
       sum(num_of_customers) AS num_of_customers, sum(num_of_orders) AS num_of_orders, sum(total_revenue) AS total_revenue
FROM one GROUP BY 1, 2, 3, 4, 5
UNION ALL
SELECT 'two'::regclass, segment_instance_id, instance_created_date, segment_id, segment_name, sum(num_of_customers), sum(num_of_orders),
       sum(total_revenue)
FROM two GROUP BY 1, 2, 3, 4, 5
UNION ALL
SELECT 'mine'::regclass, segment_instance_id, instance_created_date, segment_id, segment_name, sum(num_of_customers), sum(num_of_orders),
       sum(total_revenue)
FROM mine GROUP BY 1, 2, 3, 4, 5;
CREATE VIEW listed AS
SELECT relation, segment_instance_id, instance_created_date, segment_id, segment_name, num_of_customers, num_of_orders, total_revenue
FROM segment_instances WHERE relation IN ('one'::regclass, 'two'::regclass, 'mine'::regclass);
SELECT relation, count(*), sum(num_of_customers) FROM listed GROUP BY 1 ORDER BY relation::text;
(TABLE listed EXCEPT ALL TABLE counted) UNION ALL (TABLE counted EXCEPT ALL TABLE listed);

-- Conditions that are told, alone and together; what is not told only filters.
CREATE FUNCTION differing(condition text) RETURNS TABLE (wanted bigint, differ bigint) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('WITH v AS (SELECT * FROM segment_instances WHERE relation IN (''one''::regclass, ''two''::regclass, '
		'''mine''::regclass) AND (%1$s)), w AS MATERIALIZED (SELECT * FROM segment_instances WHERE relation IN '
		'(''one''::regclass, ''two''::regclass, ''mine''::regclass)), x AS (SELECT * FROM w WHERE (%1$s)) '
		'SELECT (SELECT count(*) FROM x), (SELECT count(*) FROM ((TABLE v EXCEPT ALL TABLE x) UNION ALL '
		'(TABLE x EXCEPT ALL TABLE v)) AS d)', condition);
END $$;
SELECT c, d.* FROM unnest(ARRAY[
	'segment_id = ''seg2''',
	'''seg2'' = segment_id',
	'segment_id = ''seg2'' AND relation = ''one''::regclass',
	'relation = ''two''::regclass AND segment_instance_id = ''seg3_1''',
	'segment_instance_id = ''seg3_1''',
	'segment_instance_id = ''seg3_1''::varchar',
	'segment_id = ''seg3'' AND segment_id = ''seg2''',
	'segment_id = ''seg3'' AND segment_instance_id = ''seg2_1''',
	'segment_id = ''seg1'' COLLATE any_case',
	'segment_id = ''seg1'' COLLATE "C"',
	'segment_id = NULL',
	'segment_id = ''seg2'' OR segment_instance_id = ''seg3_1''',
	'segment_id IN (''seg2'', ''seg3'')',
	'NOT segment_id = ''seg2''',
	'segment_name = ''Renamed''',
	'segment_id = segment_instance_id',
	'segment_id = lower(''SEG2'')',
	'segment_id = (SELECT min(segment_id) FROM plain)',
	'relation = 0',
	'relation = ''plain''::regclass',
	'relation = 4294967295']) AS c, differing(c) AS d;
EXPLAIN (VERBOSE, COSTS OFF)
SELECT num_of_customers FROM segment_instances WHERE segment_id = 'seg2' AND '1259'::regclass = relation;
EXPLAIN (VERBOSE, COSTS OFF)
SELECT num_of_customers FROM segment_instances WHERE segment_id = 'seg1' COLLATE any_case AND segment_name = 'x';

-- Values that are known only when it runs.
PREPARE by_segment(text) AS SELECT relation, count(*) FROM listed WHERE segment_id = $1 GROUP BY 1 ORDER BY relation::text;
SET plan_cache_mode = force_generic_plan;
EXECUTE by_segment('seg2');
EXECUTE by_segment('seg3');
EXECUTE by_segment(NULL);
RESET plan_cache_mode;
DEALLOCATE by_segment;
SELECT s, t, (SELECT sum(num_of_customers) FROM segment_instances WHERE segment_id = s AND relation = t) AS customers
FROM unnest(ARRAY['seg1', 'seg2', 'seg9', NULL]) AS s, unnest(ARRAY['one', 'two']::regclass[]) AS t ORDER BY 1, t::text;
SELECT s.segment_id, i.n FROM (SELECT DISTINCT segment_id FROM plain) AS s
LEFT JOIN LATERAL (SELECT count(*) AS n FROM segment_instances AS i WHERE i.segment_id = s.segment_id AND i.relation = 'two'::regclass) AS i
ON true ORDER BY 1;
-- It can be a target of no other call that has the same name.
CREATE SCHEMA elsewhere;
CREATE FUNCTION elsewhere.list_instances(a regclass DEFAULT NULL, b text DEFAULT NULL, c text DEFAULT NULL, OUT r regclass, OUT i text)
RETURNS SETOF record LANGUAGE sql AS 'SELECT ''pg_class''::regclass, coalesce(b, c, ''nothing was told'') ';
SELECT * FROM elsewhere.list_instances() WHERE i = 'nothing was told';
-- A row's number counts all that the function returns.
SELECT count(*) FROM list_instances() WITH ORDINALITY AS l WHERE segment_instance_id = 'seg3_2' AND relation = 'one'::regclass
    AND ordinality = (SELECT n FROM (SELECT relation, segment_instance_id, row_number() OVER () AS n FROM list_instances()) AS l
    WHERE segment_instance_id = 'seg3_2' AND relation = 'one'::regclass);

-- What somebody may not read is not there, told or not.
CREATE ROLE regress_listing;
GRANT SELECT ON one TO regress_listing;
GRANT SELECT (segment_id) ON two TO regress_listing;
SET ROLE regress_listing;
SELECT DISTINCT relation FROM segment_instances WHERE relation::text IN ('one', 'two', 'mine');
SELECT count(*) FROM segment_instances WHERE relation = 'one'::regclass;
SELECT count(*) FROM segment_instances WHERE relation = 'two'::regclass;
SELECT count(*) FROM segment_instances WHERE relation = 'pg_class'::regclass;
RESET ROLE;
ALTER TABLE one ENABLE ROW LEVEL SECURITY;
SET ROLE regress_listing;
SELECT count(*) FROM segment_instances WHERE relation = 'one'::regclass;
SELECT count(*) FROM segment_instances WHERE relation::text = 'one';
RESET ROLE;
SELECT count(*) FROM segment_instances WHERE relation = 'one'::regclass;

-- A table's rows are its own, not those of tables that inherit from it, also where they are read to be summed up.
CREATE TABLE heir () INHERITS (two) USING customer_segmentation;
INSERT INTO two VALUES ('customer7', '2025-01-09 06:00', NULL, NULL, NULL, 'wide', 'wide_1', NULL, 1, 2, 1e60),
	('customer8', '2025-01-09 06:00', NULL, NULL, NULL, 'wide', 'wide_1', NULL, 1, 2, 1);
INSERT INTO heir VALUES ('customer7', '2025-01-09 06:00', NULL, NULL, NULL, 'wide', 'wide_1', NULL, 1, 4, 16);
SELECT relation, num_of_customers, num_of_orders, total_revenue FROM segment_instances WHERE segment_id = 'wide' ORDER BY relation::text;
DROP TABLE heir;

DROP FUNCTION differing;
DROP VIEW listed, counted;
DROP TABLE one, two, plain, mine;
DROP SCHEMA elsewhere CASCADE;
DROP COLLATION any_case;
DROP ROLE regress_listing;
