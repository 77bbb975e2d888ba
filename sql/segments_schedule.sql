-- When segments are due, and what run_due_segments makes of it. The clock is what as_of says.
SET TimeZone = 'UTC';
DELETE FROM customer_segmentation.segment_run;

-- Due times keep the time that the zone's clock showed when the segment was created.
CREATE FUNCTION due_times(schedule text, created timestamptz, zone text, n int) RETURNS SETOF timestamp LANGUAGE plpgsql AS $$
DECLARE
	due timestamptz := created;
BEGIN
	FOR i IN 1 .. n LOOP
		RETURN NEXT due AT TIME ZONE zone;
		due := (customer_segmentation.due_around(schedule, created, zone, due)).next_due;
	END LOOP;
END $$;
-- Months: from the 31st, the last day of shorter ones; a leap day.
SELECT array_agg(d::date) FROM due_times('once_a_month', '2024-01-31 12:00+00', 'UTC', 14) d;
SELECT array_agg(d::date) FROM due_times('once_a_month', '2024-02-29 12:00+00', 'UTC', 14) d;
SELECT array_agg(d::date) FROM due_times('once_a_month', '2023-12-30 23:30+00', 'Asia/Tokyo', 5) d;
SELECT array_agg(d::date) FROM due_times('once_every_other_day', '2024-02-27 12:00+00', 'UTC', 4) d;
SELECT array_agg(d::date) FROM due_times('once_a_week', '2023-12-25 12:00+00', 'UTC', 4) d;
-- The clock goes forward: 02:30 is not shown on 30 March and becomes 03:30. It goes back: of two 02:30, the second.
SELECT due AT TIME ZONE 'Europe/Berlin' AS local, due
FROM unnest(ARRAY['2025-03-29 12:00+00', '2025-03-30 12:00+00', '2025-03-31 12:00+00', '2025-10-25 12:00+00', '2025-10-26 12:00+00', '2025-10-27 12:00+00']::timestamptz[]) m,
	 LATERAL (SELECT last_due AS due FROM customer_segmentation.due_around('once_a_day', '2025-01-01 01:30+00', 'Europe/Berlin', m)) d;
SELECT array_agg(d) FROM due_times('twice_a_day', '2025-03-29 09:15+00', 'America/New_York', 4) d;
SELECT array_agg(to_char(d, 'DD HH24:MI')) FROM due_times('every_hour', '2025-10-25 23:10+00', 'Europe/Berlin', 5) d;
-- Manual ones are never due; the moment before the creation lies before the first.
SELECT * FROM customer_segmentation.due_around('manual', '2025-01-01 01:30+00', 'UTC', '2025-01-05 01:30+00');
SELECT * FROM customer_segmentation.due_around('once_a_day', '2025-01-01 01:30+00', 'UTC', '2025-01-01 01:29:59.999999+00');
SELECT * FROM customer_segmentation.due_around('once_a_day', '2025-01-01 01:30+00', 'UTC', '2025-01-01 01:30+00');

-- The same by arithmetic in SQL, around changes of many clocks: of an hour, of half an hour, at midnight, of a day.
CREATE TABLE changes (zone text, around timestamp);
INSERT INTO changes VALUES ('Europe/Berlin', '2025-03-30'), ('Europe/Berlin', '2025-10-26'), ('America/New_York', '2024-03-10'),
	('America/New_York', '2024-11-03'), ('Australia/Lord_Howe', '2024-04-07'), ('Australia/Lord_Howe', '2024-10-06'),
	('America/Sao_Paulo', '2018-02-18'), ('America/Sao_Paulo', '2018-11-04'), ('Pacific/Apia', '2011-12-30'),
	('Antarctica/Troll', '2025-03-30'), ('Antarctica/Troll', '2025-10-26'), ('Asia/Kathmandu', '2024-02-29'), ('UTC', '2024-12-31'), ('Pacific/Kiritimati', '2024-01-31');
CREATE TABLE steps (schedule text, step interval, hours boolean);
INSERT INTO steps VALUES ('every_hour', '1 hour', true), ('twice_a_day', '12 hours', false), ('once_a_day', '1 day', false),
	('once_every_other_day', '2 days', false), ('once_a_week', '7 days', false), ('once_a_month', '1 month', false);
SELECT schedule, count(*) AS moments, count(*) FILTER (WHERE d.last_due IS DISTINCT FROM e.last_due OR d.next_due IS DISTINCT FROM e.next_due) AS wrong
FROM changes, unnest('{0,2,31}'::int[]) days, unnest('{00:00,00:30,01:59:59.5,02:30,13:45}'::interval[]) time, steps s,
	 LATERAL (SELECT (around - days * interval '1 day' + time) AT TIME ZONE zone) a(created),
	 LATERAL (SELECT greatest(created, around AT TIME ZONE zone + h * interval '4 hours 13 minutes') FROM generate_series(-6, 8) h) m(moment),
	 LATERAL (SELECT floor(extract(epoch FROM moment - created) / extract(epoch FROM step))::int) g(guess),
	 LATERAL (SELECT max(due) FILTER (WHERE due <= moment) AS last_due, min(due) FILTER (WHERE due > moment) AS next_due
			  FROM generate_series(guess - 3, guess + 3) k,
				   LATERAL (SELECT CASE WHEN hours THEN created + k * step ELSE (created AT TIME ZONE zone + k * step) AT TIME ZONE zone END) x(due)) e,
	 customer_segmentation.due_around(schedule, created, zone, moment) d
GROUP BY schedule ORDER BY schedule;

-- Periods: the day of the zone; below a day the hour of UTC, by the zone's clock, with the offset where that shows it twice.
SELECT to_char(m, 'DD HH24:MI') AS utc, (customer_segmentation.due_around('every_hour', m, zone, m)).period AS hour,
	   (customer_segmentation.due_around('once_a_day', m, zone, m)).period AS day
FROM (VALUES ('Europe/Berlin', timestamptz '2025-03-29 23:40+00'), ('Europe/Berlin', '2025-10-25 22:40+00'), ('Australia/Lord_Howe', '2024-04-06 13:10+00')) c(zone, since),
	 generate_series(since, since + interval '4 hours', '1 hour') m;
SELECT zone, count(*) AS hours, count(DISTINCT (customer_segmentation.due_around('every_hour', m, zone, m)).period) AS names
FROM (SELECT DISTINCT zone, date_trunc('year', around) AS year FROM changes) c, generate_series(year AT TIME ZONE 'UTC', year AT TIME ZONE 'UTC' + interval '1 year', '1 hour') m
GROUP BY zone, year ORDER BY zone COLLATE "C", year;

-- Runs. Every due time once, and the newest alone of those that were missed.
CREATE TABLE shop_orders (customer_id int, ordered_at timestamptz);
INSERT INTO shop_orders SELECT c, timestamptz '2024-01-20 00:00+00' + c * interval '13 hours' FROM generate_series(1, 1300) c;
CREATE PROCEDURE call_every(since timestamptz, until timestamptz, step interval) LANGUAGE plpgsql AS $$
DECLARE
	m timestamptz;
BEGIN
	FOR m IN SELECT generate_series(since, until, step) LOOP
		CALL customer_segmentation.run_due_segments(m);
	END LOOP;
END $$;
CREATE VIEW stored AS
SELECT right(segment_id, 1) AS s, substr(segment_instance_id, 26) AS period, instance_created_date, num_of_customers
FROM customer_segmentation.segment_instances;
CREATE FUNCTION make_segment(n int, schedule text, zone text, created timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('customer_segmentation.as_of', created::text, false);
	PERFORM customer_segmentation.create_segment(schedule || ' in ' || zone,
		'SELECT customer_id FROM shop_orders WHERE ordered_at < customer_segmentation.as_of()',
		schedule => schedule, time_zone => zone, segment_id => lpad(n::text, 24, '0'));
	PERFORM set_config('customer_segmentation.as_of', '', false);
END $$;
-- Nothing is due before the creation, the first at it.
SELECT make_segment(1, 'every_hour', 'Europe/Berlin', '2025-10-25 22:10+00');
CALL customer_segmentation.run_due_segments('2025-10-25 22:09:59+00');
SELECT * FROM stored;
CALL customer_segmentation.run_due_segments('2025-10-25 22:10+00');
SELECT * FROM stored;
-- Through the night when the hour repeats, called every 20 minutes.
CALL call_every('2025-10-25 22:20+00', '2025-10-26 03:20+00', '20 minutes');
SELECT * FROM stored ORDER BY instance_created_date, period;
SELECT count(*), count(DISTINCT as_of), min(as_of), max(as_of), count(*) FILTER (WHERE status = 'succeeded') FROM customer_segmentation.segment_runs;
-- Missed hours: once, for the newest, as of when that was due. Again, also by an earlier clock: nothing.
CALL customer_segmentation.run_due_segments('2025-10-27 09:59+00');
CALL customer_segmentation.run_due_segments('2025-10-27 09:59+00');
CALL customer_segmentation.run_due_segments('2025-10-27 05:00+00');
SELECT max(as_of), count(*) FROM customer_segmentation.segment_runs;
SELECT * FROM stored WHERE instance_created_date > '2025-10-26 12:00' ORDER BY 2;
SELECT customer_segmentation.drop_segment(lpad('1', 24, '0'), false);

-- All schedules at once, a year of calls at odd times, with a gap: what SQL says.
SELECT make_segment(row_number() OVER (ORDER BY step)::int + 1, schedule, 'America/New_York', '2024-01-31 06:30+00') FROM steps WHERE schedule <> 'every_hour';
SET client_min_messages = error;
CALL call_every('2024-01-31 06:30+00', '2024-03-14 00:00+00', '5 hours 37 minutes');
CALL call_every('2024-04-20 00:00+00', '2024-05-02 00:00+00', '5 hours 37 minutes');
RESET client_min_messages;
WITH calls AS (
	SELECT generate_series(timestamptz '2024-01-31 06:30+00', '2024-03-14 00:00+00', '5 hours 37 minutes') AS call
	UNION ALL SELECT generate_series(timestamptz '2024-04-20 00:00+00', '2024-05-02 00:00+00', '5 hours 37 minutes')),
due AS (
	SELECT schedule, (timestamptz '2024-01-31 06:30+00' AT TIME ZONE 'America/New_York' + k * step) AT TIME ZONE 'America/New_York' AS due
	FROM steps, generate_series(0, 200) k WHERE schedule <> 'every_hour'),
expected AS (
	SELECT DISTINCT schedule, (SELECT max(due) FROM due e WHERE e.schedule = s.schedule AND due <= call) AS due FROM steps s, calls WHERE schedule <> 'every_hour'),
actual AS (
	SELECT s.schedule, r.as_of AS due FROM customer_segmentation.segment_runs r JOIN customer_segmentation.segments s USING (segment_id))
SELECT schedule, count(e.due) AS expected, count(a.due) AS runs, count(*) FILTER (WHERE e.due IS NULL OR a.due IS NULL) AS differ
FROM expected e FULL JOIN actual a USING (schedule, due) GROUP BY schedule ORDER BY schedule;
SELECT count(*) AS instances, count(*) FILTER (WHERE num_of_customers <> (SELECT count(*) FROM shop_orders
	WHERE ordered_at < instance_created_date AT TIME ZONE 'America/New_York')) AS wrong FROM stored;
-- When they are next.
SET customer_segmentation.as_of = '2024-05-02 00:00+00';
SELECT segment_name, next_run_at AT TIME ZONE time_zone AS next_run_at FROM customer_segmentation.segments ORDER BY segment_id;
SELECT count(*) FILTER (WHERE overdue), count(overdue_by) FROM customer_segmentation.segment_health;
SET customer_segmentation.as_of = '2024-05-20 00:00+00';
SELECT schedule, overdue, overdue_by, never_run, next_run_at FROM customer_segmentation.segment_health ORDER BY segment_id;
RESET customer_segmentation.as_of;
SELECT customer_segmentation.drop_segment(segment_id, false) FROM customer_segmentation.segments ORDER BY segment_id;

-- A run by hand at or after a due time, in its period, is the one that was due; an earlier one is replaced.
SELECT make_segment(1, 'once_a_day', 'Europe/Berlin', '2025-10-27 09:30+00');
SELECT customer_segmentation.run_segment(lpad('1', 24, '0'), '2025-10-27 09:45+00');
CALL customer_segmentation.run_due_segments('2025-10-27 10:00+00');
SELECT * FROM stored;
SELECT customer_segmentation.run_segment(lpad('1', 24, '0'), '2025-10-28 07:00+00');
CALL customer_segmentation.run_due_segments('2025-10-28 09:30+00');
SELECT * FROM stored ORDER BY period;
SELECT kind, as_of, segment_instance_id, status, rows FROM customer_segmentation.segment_runs WHERE segment_id = lpad('1', 24, '0') AND as_of > '2025-10-27 09:31+00' ORDER BY run_id;
-- A moment that has not come: refused, by the server's clock, and the schedule goes on.
SELECT error_of($$SELECT customer_segmentation.run_segment(lpad('1', 24, '0'), '9000-01-01')$$);
SELECT error_of($$SELECT customer_segmentation.run_segment(lpad('1', 24, '0'), clock_timestamp() + interval '2 days')$$) LIKE '22023%' AS refused;
CALL customer_segmentation.run_due_segments('9000-01-01');
SET customer_segmentation.as_of = '9000-01-01';
SELECT error_of($$SELECT customer_segmentation.run_segment(lpad('1', 24, '0'))$$);
CALL customer_segmentation.run_due_segments();
SELECT count(*) FROM customer_segmentation.backfill_segment(lpad('1', 24, '0'), '8999-01-01', '9000-01-01');
SELECT num_of_customers FROM customer_segmentation.preview_segment('SELECT DISTINCT customer_id FROM shop_orders WHERE ordered_at < customer_segmentation.as_of()');
RESET customer_segmentation.as_of;
SELECT period FROM stored ORDER BY period;
SELECT last_due_at FROM customer_segmentation.segment;
CALL customer_segmentation.run_due_segments('2025-10-29 09:30+00');
SELECT period FROM stored ORDER BY period;
-- Paused: not run. Resumed: the newest.
SELECT customer_segmentation.alter_segment(lpad('1', 24, '0'), paused => true);
CALL customer_segmentation.run_due_segments('2025-10-30 10:00+00');
SELECT paused, next_run_at FROM customer_segmentation.segments;
SELECT customer_segmentation.alter_segment(lpad('1', 24, '0'), paused => false);
CALL customer_segmentation.run_due_segments('2025-10-31 12:00+00');
SELECT period FROM stored ORDER BY period;
-- Another schedule: its due times since the last run count.
SELECT customer_segmentation.alter_segment(lpad('1', 24, '0'), schedule => 'once_a_week');
CALL customer_segmentation.run_due_segments('2025-11-02 12:00+00');
CALL customer_segmentation.run_due_segments('2025-11-03 12:00+00');
SELECT customer_segmentation.alter_segment(lpad('1', 24, '0'), schedule => 'manual');
CALL customer_segmentation.run_due_segments('2025-12-03 12:00+00');
SELECT period FROM stored ORDER BY period;

-- Of the present: what is run late is marked so. It is not late before the next is due, even if a day has ended since.
SET customer_segmentation.as_of = '2025-12-01 10:00+00';
SELECT customer_segmentation.create_segment('Of the present', 'SELECT customer_id FROM shop_orders WHERE customer_id < 4', schedule => 'once_a_week', segment_id => lpad('7', 24, '0'));
RESET customer_segmentation.as_of;
CALL customer_segmentation.run_due_segments('2025-12-01 10:00+00');
SELECT period, backfilled, current_state FROM stored JOIN customer_segmentation.segment_instances USING (instance_created_date) WHERE s = '7';
SELECT set_config('customer_segmentation.as_of', (date_trunc('day', clock_timestamp()) - interval '1 minute')::text, false) IS NOT NULL AS set;
SELECT customer_segmentation.create_segment('Minutes ago', 'SELECT customer_id FROM shop_orders WHERE customer_id < 4', schedule => 'once_a_week', segment_id => lpad('8', 24, '0'));
CALL customer_segmentation.run_due_segments();
RESET customer_segmentation.as_of;
SELECT num_of_customers, backfilled, current_state FROM customer_segmentation.segment_instances WHERE segment_id = lpad('8', 24, '0');
SELECT customer_segmentation.drop_segment(lpad(n, 24, '0'), false) FROM unnest('{7,8}'::text[]) n;

-- It commits, so it needs to be by itself; and a clock.
BEGIN;
CALL customer_segmentation.run_due_segments('2025-11-02 12:00+00');
ROLLBACK;
CREATE FUNCTION within_function() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CALL customer_segmentation.run_due_segments(); END $$;
SELECT error_of('SELECT within_function()');
CALL customer_segmentation.run_due_segments('infinity');
SET default_transaction_read_only = on;
CALL customer_segmentation.run_due_segments();
RESET default_transaction_read_only;
SET default_transaction_isolation = serializable;
CALL customer_segmentation.run_due_segments('2025-12-04 12:00+00');
RESET default_transaction_isolation;

SELECT customer_segmentation.drop_segment(segment_id, false) FROM customer_segmentation.segments;
DELETE FROM customer_segmentation.segment_run;
DROP VIEW stored;
DROP PROCEDURE call_every;
DROP FUNCTION due_times, make_segment, within_function;
DROP TABLE changes, steps, shop_orders;
