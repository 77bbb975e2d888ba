-- Retention: instances are thinned out, those that are pinned and the newest never go, and the space is freed.
SET TimeZone = 'UTC';
CREATE TABLE people (c int);
INSERT INTO people SELECT generate_series(1, 40);
SET customer_segmentation.as_of = '2025-01-01 08:15+00';
SELECT customer_segmentation.create_segment('Hourly', 'SELECT c FROM people', schedule => 'every_hour', time_zone => 'Europe/Berlin', segment_id => 'a00000000000000000000001');
SELECT customer_segmentation.create_segment('Daily', 'SELECT c FROM people', segment_id => 'a00000000000000000000002');
SELECT customer_segmentation.create_segment('Other', 'SELECT c FROM people', segment_id => 'a00000000000000000000003');
RESET customer_segmentation.as_of;
-- Hours of a hundred days, days of three years.
CREATE FUNCTION fill(id text, name text, schedule text, zone text, first timestamptz, last timestamptz, step interval, members int, relation regclass DEFAULT 'customer_segmentation_table') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format($f$INSERT INTO %s SELECT p.c::text, d AT TIME ZONE zone, schedule, 'customer_id', '2025-01-01', id,
		id || to_char(d AT TIME ZONE zone, CASE schedule WHEN 'every_hour' THEN '_YYYY_MM_DD_HH24' ELSE '_YYYY_MM_DD' END), name, 1, p.c, 1.5
		FROM (SELECT $1 AS id, $2 AS name, $3 AS schedule, $4 AS zone) a, generate_series($5, $6, $7) d, people p WHERE p.c <= $8$f$, relation)
	USING id, name, schedule, zone, first, last, step, members;
END $$;
SELECT fill('a00000000000000000000001', 'Hourly', 'every_hour', 'Europe/Berlin', '2025-01-01 08:15+00', '2025-04-10 07:15+00', '1 hour', 3);
SELECT fill('a00000000000000000000002', 'Daily', 'once_a_day', 'UTC', '2022-05-05 08:15+00', '2025-04-10 08:15+00', '1 day', 5);
SELECT fill('a00000000000000000000003', 'Other', 'once_a_day', 'UTC', '2025-01-01 08:15+00', '2025-04-10 08:15+00', '1 day', 5);

-- Every hour of two days, then each day's last of ten days, then each month's last; but for what is pinned.
SELECT customer_segmentation.set_retention('a00000000000000000000001', '2 days', 'day for 10 days, month');
SELECT customer_segmentation.pin_instance('a00000000000000000000001_2025_02_01_03');
SELECT customer_segmentation.pin_instance('a00000000000000000000001_2025_01_31_23');
SELECT segment_name, keep, keep_every FROM customer_segmentation.segments ORDER BY 1;
SELECT count(*), min(i), max(i) FROM customer_segmentation.apply_retention('a00000000000000000000001', '2025-04-10 08:00+00', dry_run => true) i;
SELECT count(*) FROM customer_segmentation.segment_instances WHERE segment_id = 'a00000000000000000000001';
CREATE TABLE dropped AS SELECT i FROM customer_segmentation.apply_retention('a00000000000000000000001', '2025-04-10 08:00+00') i;
SELECT count(*) FROM dropped;
SELECT segment_instance_id, num_of_customers, pinned FROM customer_segmentation.segment_instances
WHERE segment_id = 'a00000000000000000000001' AND instance_created_date < '2025-04-08 13:00' ORDER BY 1;
-- The same by the rows of the table; the hours of the last two days are complete.
SELECT count(DISTINCT segment_instance_id) FILTER (WHERE instance_created_date >= '2025-04-08 10:00') AS hours, count(*) AS rows,
	count(*) FILTER (WHERE segment_instance_id IN (SELECT i FROM dropped)) AS of_dropped
FROM customer_segmentation_table WHERE segment_id = 'a00000000000000000000001';
-- Once more: nothing is left to do.
SELECT count(*) FROM customer_segmentation.apply_retention('a00000000000000000000001', '2025-04-10 08:00+00');
-- Weeks later: what was a day's instance is now a month's.
SELECT count(*) FROM customer_segmentation.apply_retention('a00000000000000000000001', '2025-05-20 08:00+00');
SELECT segment_instance_id, pinned FROM customer_segmentation.segment_instances WHERE segment_id = 'a00000000000000000000001' ORDER BY 1;
-- The newest stays, however old it is; so do the pinned ones until the pin is taken off.
SELECT customer_segmentation.set_retention('a00000000000000000000001', '1 day');
SELECT count(*) FROM customer_segmentation.apply_retention('a00000000000000000000001', '2035-01-01 00:00+00');
SELECT segment_instance_id, pinned FROM customer_segmentation.segment_instances WHERE segment_id = 'a00000000000000000000001' ORDER BY 1;
SELECT customer_segmentation.pin_instance('a00000000000000000000001_2025_02_01_03', false);
SELECT * FROM customer_segmentation.apply_retention('a00000000000000000000001', '2035-01-01 00:00+00');
-- Other segments are not touched.
SELECT segment_id, count(*) FROM customer_segmentation.segment_instances GROUP BY 1 ORDER BY 1;

-- Years: 90 days, then weeks for a year, then quarters for ever; against the same thing said in SQL.
SELECT customer_segmentation.set_retention('a00000000000000000000002', '90 days', 'Week for 1 year, once_a_quarter');
CREATE TABLE expected AS
SELECT segment_instance_id FROM (SELECT segment_instance_id, instance_created_date AS t, row_number() OVER (PARTITION BY tier, date_trunc(unit, instance_created_date) ORDER BY instance_created_date DESC) AS n, tier
	FROM (SELECT *, CASE WHEN instance_created_date >= timestamp '2025-04-10 09:00' - interval '90 days' THEN 0
			WHEN instance_created_date >= timestamp '2025-04-10 09:00' - interval '90 days' - interval '1 year' THEN 1 ELSE 2 END AS tier
		FROM customer_segmentation.segment_instances WHERE segment_id = 'a00000000000000000000002') i
		JOIN (VALUES (0, 'microsecond'), (1, 'week'), (2, 'quarter')) u (tier, unit) USING (tier)) k WHERE n = 1;
SELECT count(*) FROM expected;
SELECT count(*) FROM customer_segmentation.apply_retention('a00000000000000000000002', '2025-04-10 09:00+00');
SELECT count(*) AS stored, count(e.segment_instance_id) AS expected FROM (SELECT segment_instance_id FROM customer_segmentation.segment_instances WHERE segment_id = 'a00000000000000000000002') s
FULL JOIN expected e USING (segment_instance_id);
SELECT count(*) AS rows FROM customer_segmentation_table WHERE segment_id = 'a00000000000000000000002';
SELECT * FROM customer_segmentation.verify();
-- For ever again.
SELECT customer_segmentation.set_retention('a00000000000000000000002', NULL);
SELECT count(*) FROM customer_segmentation.apply_retention('a00000000000000000000002', '2035-01-01');

-- Single instances.
SELECT customer_segmentation.pin_instance('a00000000000000000000003_2025_02_01');
SELECT error_of($$SELECT customer_segmentation.drop_instance('a00000000000000000000003_2025_02_01')$$);
SELECT customer_segmentation.pin_instance('a00000000000000000000003_2025_02_01', false);
SELECT customer_segmentation.drop_instance('a00000000000000000000003_2025_02_01');
SELECT error_of($$SELECT customer_segmentation.drop_instance('a00000000000000000000003_2025_02_01')$$);
SELECT count(*), count(DISTINCT segment_instance_id) FROM customer_segmentation_table WHERE segment_id = 'a00000000000000000000003';

-- Marks go with their instances, by whatever way these went.
SELECT customer_segmentation.set_retention('a00000000000000000000003', '10 years');
SELECT customer_segmentation.pin_instance('a00000000000000000000003_2025_02_02'), customer_segmentation.pin_instance('a00000000000000000000003_2025_02_03');
CREATE TABLE passing (LIKE customer_segmentation_table) USING customer_segmentation;
SELECT fill('b00000000000000000000001', 'Nobody''s', 'once_a_day', 'UTC', '2025-01-01 08:15+00', '2025-01-03 08:15+00', '1 day', 5, 'passing');
SELECT customer_segmentation.pin_instance('b00000000000000000000001_2025_01_02', relation => 'passing');
SELECT relation, segment_instance_id, pinned FROM customer_segmentation.segment_instances WHERE pinned ORDER BY 2;
DELETE FROM customer_segmentation_table WHERE segment_instance_id = 'a00000000000000000000003_2025_02_02';
DROP TABLE passing;
SELECT customer_segmentation.apply_retention('a00000000000000000000003', '2025-04-11');
SELECT relation, segment_instance_id, pinned FROM customer_segmentation.segment_instance_mark ORDER BY 2;

-- Space: of a table whose instances differ much.
CREATE TABLE big (LIKE customer_segmentation_table) USING customer_segmentation;
TRUNCATE people;
INSERT INTO people SELECT generate_series(1, 1500);
SET customer_segmentation.as_of = '2025-01-01 08:15+00';
SELECT customer_segmentation.create_segment('Big', 'SELECT c FROM people', relation => 'big', segment_id => 'a00000000000000000000004');
RESET customer_segmentation.as_of;
CREATE FUNCTION fill_big(first timestamp, last timestamp) RETURNS void LANGUAGE sql AS $$
	INSERT INTO big SELECT (c * 7 % 1501)::text, d, 'once_a_day', 'customer_id', '2025-01-01', 'a00000000000000000000004', 'a00000000000000000000004' || to_char(d, '_YYYY_MM_DD'),
		'Big', 1, c * extract(day FROM d)::int % 977, (c * extract(doy FROM d)::int % 9973) * 0.01
	FROM people, generate_series(first, last, '1 day') d WHERE (c * extract(doy FROM d)::int) % 7 < 4
$$;
SELECT fill_big('2024-01-01 08:15', '2024-12-31 08:15');
VACUUM big;
CREATE TABLE sizes AS SELECT pg_total_relation_size('big') AS before;
SELECT customer_segmentation.set_retention('a00000000000000000000004', '30 days', 'month');
SELECT count(*) FROM customer_segmentation.apply_retention('a00000000000000000000004', '2025-01-01 08:15+00');
SELECT instances, base_bytes + delta_bytes < before / 5 AS small FROM customer_segmentation.storage_info('big'), sizes;
-- VACUUM leaves it to what is stored next: as many instances again find their place in it.
VACUUM big;
SELECT fill_big('2023-02-01 08:15', '2023-12-31 08:15');
SELECT instances, pg_total_relation_size('big') < before * 1.3 AS reused FROM customer_segmentation.storage_info('big'), sizes;
SELECT count(*) FROM customer_segmentation.apply_retention('a00000000000000000000004', '2025-01-01 08:15+00');
-- VACUUM FULL gives it back.
VACUUM FULL big;
SELECT instances, pg_total_relation_size('big') < before / 4 AS given_back FROM customer_segmentation.storage_info('big'), sizes;
SELECT count(*) FROM big WHERE segment_instance_id = 'a00000000000000000000004_2024_03_31';
SELECT * FROM customer_segmentation.verify('big');

-- Arguments.
SELECT error_of($$SELECT customer_segmentation.set_retention('a00000000000000000000002', '-2 days')$$);
SELECT error_of($$SELECT customer_segmentation.set_retention('a00000000000000000000002', NULL, 'day')$$);
SELECT error_of(format($$SELECT customer_segmentation.set_retention('a00000000000000000000002', '2 days', %L)$$, e))
FROM unnest('{fortnight,"day, month","month for 1 year, day",day for -3 days,day for 0 days,"","day for a while","hour for 1 day,day for 1 day,"}'::text[]) WITH ORDINALITY u (e, n) ORDER BY n;
SELECT error_of($$SELECT customer_segmentation.set_retention('a00000000000000000000002', '2000000 years')$$);
SELECT error_of($$SELECT customer_segmentation.set_retention(NULL, '2 days')$$);
SELECT error_of($$SELECT customer_segmentation.set_retention('a000000000000000000000ff', '2 days')$$);
SELECT error_of($$SELECT customer_segmentation.apply_retention('a00000000000000000000002', 'infinity')$$);
SELECT error_of($$SELECT customer_segmentation.pin_instance('a00000000000000000000002_2025_02_01', relation => 'people')$$);
SELECT error_of($$SELECT customer_segmentation.pin_instance(NULL)$$);
SELECT keep, keep_every FROM customer_segmentation.segments WHERE segment_id = 'a00000000000000000000002';

-- Who may.
CREATE ROLE regress_cs_keeper;
CREATE ROLE regress_cs_other;
GRANT SELECT, INSERT ON customer_segmentation_table TO regress_cs_keeper;
GRANT SELECT ON customer_segmentation_table, people TO regress_cs_keeper, regress_cs_other;
SET customer_segmentation.as_of = '2025-01-01 08:15+00';
SET ROLE regress_cs_keeper;
SELECT customer_segmentation.create_segment('Keeper''s', 'SELECT c FROM public.people WHERE c < 3', segment_id => 'c00000000000000000000001');
SELECT count(customer_segmentation.run_segment('c00000000000000000000001', d)) FROM generate_series(timestamptz '2025-02-01 08:15+00', '2025-02-20 08:15+00', '1 day') d;
SELECT customer_segmentation.set_retention('c00000000000000000000001', '5 days');
SELECT customer_segmentation.pin_instance('c00000000000000000000001_2025_02_03');
SELECT customer_segmentation.drop_instance('c00000000000000000000001_2025_02_04');
SELECT count(*) FROM customer_segmentation.apply_retention('c00000000000000000000001', '2025-02-20 09:00+00');
SELECT error_of($$SELECT customer_segmentation.set_retention('a00000000000000000000002', '2 days')$$);
SELECT error_of($$SELECT customer_segmentation.apply_retention('a00000000000000000000002')$$);
SELECT error_of($$SELECT customer_segmentation.pin_instance('a00000000000000000000002_2025_04_10')$$);
SELECT error_of($$SELECT customer_segmentation.drop_instance('a00000000000000000000002_2025_04_10')$$);
SELECT error_of($$DELETE FROM customer_segmentation_table$$);
SET ROLE regress_cs_other;
SELECT error_of($$SELECT customer_segmentation.drop_instance('c00000000000000000000001_2025_02_03')$$);
SELECT error_of($$SELECT customer_segmentation.pin_instance('c00000000000000000000001_2025_02_03', false)$$);
SELECT error_of($$SELECT customer_segmentation.drop_instance('f00000000000000000000001_2025_02_03')$$);
RESET ROLE;
-- What is of no segment any more is for those who may delete rows.
SELECT customer_segmentation.drop_segment('c00000000000000000000001');
SET ROLE regress_cs_keeper;
SELECT error_of($$SELECT customer_segmentation.drop_instance('c00000000000000000000001_2025_02_20')$$);
RESET ROLE;
GRANT DELETE ON customer_segmentation_table TO regress_cs_keeper;
SET ROLE regress_cs_keeper;
SELECT customer_segmentation.drop_instance('c00000000000000000000001_2025_02_20');
SELECT error_of($$SELECT customer_segmentation.drop_instance('c00000000000000000000001_2025_02_03')$$);
RESET ROLE;
SELECT count(*) FROM customer_segmentation.segment_instances WHERE segment_id LIKE 'c0%';
-- Row security of a table of one's own binds the owner of the segment.
CREATE TABLE own (LIKE customer_segmentation_table) USING customer_segmentation;
ALTER TABLE own ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, DELETE ON own TO regress_cs_keeper;
SET ROLE regress_cs_keeper;
SELECT customer_segmentation.create_segment('Own', 'SELECT c FROM public.people', segment_id => 'c00000000000000000000002', relation => 'own');
SELECT error_of($$SELECT customer_segmentation.set_retention('c00000000000000000000002', '5 days')$$);
RESET ROLE;

SELECT count(customer_segmentation.drop_segment(segment_id, segment_id LIKE 'c%')) FROM customer_segmentation.segments;
DELETE FROM customer_segmentation_table;
RESET customer_segmentation.as_of;
REVOKE ALL ON customer_segmentation_table FROM regress_cs_keeper, regress_cs_other;
DROP TABLE own, big, people, dropped, expected, sizes;
DROP FUNCTION fill, fill_big;
DROP ROLE regress_cs_keeper, regress_cs_other;
