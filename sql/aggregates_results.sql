-- Aggregates without rows: the same results as with them, and as on heap.

SET jit = off;

-- A query three times: answered by the aggregate node, without it, on heap. @ stands for the table. Says how it was
-- planned, the number of rows and what differs: by value both ways, and unless told otherwise as text.
CREATE FUNCTION three_ways(query text, as_text boolean DEFAULT true, name text DEFAULT 't') RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	ours text := replace(query, '@', name);
	plan text := '';
	line text;
	n bigint;
	differ bigint;
	our_text text;
	heap_text text;
	verdict text := '';
BEGIN
	FOR way IN 1..2 LOOP
		-- The node wherever it can do it, whatever it would cost; and without it.
		IF way = 1 THEN
			SET LOCAL enable_seqscan = off;
			SET LOCAL customer_segmentation.enable_custom_scan = off;
			FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || ours LOOP
				plan := plan || line;
			END LOOP;
		ELSE
			SET LOCAL customer_segmentation.enable_aggregate = off;
		END IF;
		EXECUTE format('WITH our_rows AS MATERIALIZED (%s), heap_rows AS MATERIALIZED (%s) '
			'SELECT (SELECT count(*) FROM heap_rows), '
			'(SELECT count(*) FROM ((TABLE our_rows EXCEPT ALL TABLE heap_rows) UNION ALL (TABLE heap_rows EXCEPT ALL TABLE our_rows)) d), '
			'(SELECT coalesce(string_agg(our_rows::text, '';'' ORDER BY our_rows::text COLLATE "C"), '''') FROM our_rows), '
			'(SELECT coalesce(string_agg(heap_rows::text, '';'' ORDER BY heap_rows::text COLLATE "C"), '''') FROM heap_rows)',
			ours, replace(query, '@', name || '_twin')) INTO n, differ, our_text, heap_text;
		IF differ > 0 THEN
			verdict := verdict || format(' %s VALUES DIFFER %s', differ, way);
		END IF;
		IF as_text AND our_text <> heap_text THEN
			verdict := verdict || format(' TEXTS DIFFER %s: %s HEAP: %s', way, left(our_text, 300), left(heap_text, 300));
		END IF;
		SET LOCAL enable_seqscan = on;
		SET LOCAL customer_segmentation.enable_custom_scan = on;
	END LOOP;
	SET LOCAL customer_segmentation.enable_aggregate = on;
	RETURN CASE WHEN plan LIKE '%CustomerSegmentationAggregate%' THEN 'without rows' ELSE 'plain' END || ', ' || n ||
		   ' rows' || verdict;
END $$;

CREATE FUNCTION three_ways_of(queries text[], as_text boolean DEFAULT true)
RETURNS TABLE (way text, query text) LANGUAGE sql AS $$
	SELECT three_ways(q, as_text), q
	FROM unnest(queries) WITH ORDINALITY u(q, o) ORDER BY o
$$;

-- What every state of the table is asked.
CREATE FUNCTION questions() RETURNS text[] LANGUAGE sql AS $$ SELECT ARRAY[
	'SELECT count(*) FROM @',
	'SELECT count(*), sum(total_revenue), sum(num_of_orders), sum(num_of_customers) FROM @',
	'SELECT count(schedule), count(customer_identity), count(total_revenue), count(num_of_orders), count(1) FROM @',
	'SELECT avg(total_revenue), avg(num_of_orders), avg(num_of_customers) FROM @',
	'SELECT segment_id, segment_instance_id, sum(num_of_customers), sum(num_of_orders), sum(total_revenue) FROM @ GROUP BY 1, 2',
	'SELECT segment_id, count(DISTINCT customer_identity) FROM @ GROUP BY 1',
	'SELECT count(DISTINCT customer_identity), count(DISTINCT segment_instance_id), count(DISTINCT schedule) FROM @',
	'SELECT segment_name, schedule, avg(total_revenue) AS a, avg(num_of_orders) FROM @ GROUP BY 1, 2 ORDER BY a DESC NULLS LAST',
	'SELECT date_trunc(''month'', instance_created_date), count(*), count(DISTINCT customer_identity), sum(total_revenue) FROM @ GROUP BY 1',
	'SELECT instance_created_date::date, upper(segment_name), count(*) FROM @ GROUP BY 1, 2 HAVING count(*) > 3',
	'SELECT segment_id, min(instance_created_date), max(instance_created_date), max(segment_name), min(segment_created_date) FROM @ GROUP BY 1',
	'SELECT segment_id, sum(total_revenue) / nullif(count(*), 0), sum(num_of_orders) * 2 + count(*) FROM @ GROUP BY 1',
	'SELECT count(*) FROM @ WHERE num_of_orders >= 3',
	'SELECT segment_id, segment_instance_id, count(*), sum(total_revenue) FROM @ WHERE num_of_orders >= 3 GROUP BY 1, 2',
	'SELECT count(*), sum(num_of_orders) FROM @ WHERE num_of_orders >= 3 AND total_revenue > 4',
	'SELECT count(*), avg(total_revenue) FROM @ WHERE num_of_orders IN (1, 3, 4) OR total_revenue BETWEEN 2 AND 5.5',
	'SELECT count(*), sum(total_revenue) FROM @ WHERE NOT (num_of_orders > 2 OR total_revenue <= 6) OR num_of_orders IS NULL',
	'SELECT count(*) FROM @ WHERE total_revenue IS NULL',
	'SELECT count(*) FROM @ WHERE total_revenue = ''NaN''',
	'SELECT count(*) FROM @ WHERE total_revenue > ''Infinity''',
	'SELECT count(*) FROM @ WHERE total_revenue >= ''-Infinity'' AND total_revenue < ''Infinity''',
	'SELECT count(*) FROM @ WHERE total_revenue <> 1e30',
	'SELECT count(*) FROM @ WHERE total_revenue < 1e-25 OR num_of_orders > 2.5',
	'SELECT count(*) FROM @ WHERE num_of_orders > ALL (ARRAY[1, 2]) AND num_of_orders <> ALL (ARRAY[5, 6])',
	'SELECT count(*) FROM @ WHERE num_of_orders = ANY (ARRAY[1, NULL]::bigint[])',
	'SELECT count(*) FROM @ WHERE NOT num_of_orders <> ALL (ARRAY[1, NULL]::bigint[])',
	'SELECT count(*) FROM @ WHERE 3 < num_of_orders AND 5::smallint >= num_of_orders',
	'SELECT count(*) FROM @ WHERE num_of_orders > 3 OR (segment_id = ''s1'' AND total_revenue > 1)',
	'SELECT segment_id, count(*) FROM @ WHERE num_of_orders > 3 OR segment_name > ''S'' OR schedule IS NULL GROUP BY 1',
	'SELECT segment_id, count(*) FILTER (WHERE num_of_orders > 2), sum(total_revenue) FILTER (WHERE num_of_orders > 2 AND schedule = ''once_a_day''), avg(total_revenue) FILTER (WHERE segment_name LIKE ''%1%'') FROM @ GROUP BY 1',
	'SELECT count(DISTINCT customer_identity) FILTER (WHERE num_of_orders > 2), count(DISTINCT customer_identity) FILTER (WHERE instance_created_date > ''2025-01-03''), count(*) FROM @',
	'SELECT segment_id, count(DISTINCT customer_identity) FROM @ WHERE total_revenue > 3 GROUP BY 1',
	'SELECT count(*), sum(num_of_orders) FROM @ WHERE customer_identity = ''c7''',
	'SELECT segment_id, count(*), sum(total_revenue) FROM @ WHERE customer_identity IN (''c1'', ''c20'', ''nobody'', ''c1'') GROUP BY 1',
	'SELECT count(*) FROM @ WHERE customer_identity = ANY (ARRAY[''c1'', ''c2'', ''c3'']) AND customer_identity = ANY (ARRAY[''c3'', NULL, ''c2'']) AND num_of_orders >= 0',
	'SELECT count(DISTINCT customer_identity) FROM @ WHERE customer_identity IN (''c1'', ''c20'')',
	'SELECT count(*) FROM @ WHERE segment_id LIKE ''s1%'' AND instance_created_date >= ''2025-01-02'' AND segment_name IS NOT NULL',
	'SELECT count(*), sum(total_revenue), max(num_of_orders) FROM @ WHERE segment_id = ''none''',
	'SELECT segment_id, count(*) FROM @ WHERE segment_id = ''none'' GROUP BY 1',
	'SELECT segment_id FROM @ GROUP BY 1',
	'SELECT DISTINCT segment_id, segment_name FROM @',
	'SELECT DISTINCT date_trunc(''month'', instance_created_date), schedule FROM @ WHERE num_of_orders > 3 ORDER BY 1 DESC',
	'SELECT segment_id, instance_created_date::date, grouping(segment_id, instance_created_date::date), count(*), count(DISTINCT customer_identity), sum(total_revenue) FROM @ GROUP BY ROLLUP (1, 2)',
	'SELECT segment_id, schedule, grouping(schedule), count(*) FROM @ GROUP BY CUBE (1, 2)',
	'SELECT segment_id, segment_name, count(*) FROM @ GROUP BY GROUPING SETS ((1), (2), (), ())',
	'SELECT segment_id || ''x'', upper(segment_name), grouping(segment_id, segment_name), count(*), sum(num_of_orders) FILTER (WHERE segment_id = ''s1'') FROM @ GROUP BY CUBE (segment_id, segment_name)',
	'SELECT segment_id, max(segment_id), upper(schedule), count(*) FROM @ GROUP BY GROUPING SETS ((1, 3), (3), ()) HAVING upper(schedule) IS NULL',
	'SELECT coalesce(segment_id, ''all''), count(DISTINCT customer_identity) FROM @ WHERE num_of_orders > 2 GROUP BY ROLLUP (segment_id) ORDER BY 1',
	'SELECT segment_id, count(*) FROM @ GROUP BY segment_id ORDER BY count(*) DESC, segment_id LIMIT 2',
	'SELECT bool_or(segment_id = ''s1''), bool_and(schedule = ''once_a_day''), every(true) FROM @',
	'SELECT segment_id, rank() OVER (ORDER BY sum(num_of_orders) DESC NULLS LAST), sum(sum(num_of_orders)) OVER () FROM @ GROUP BY 1',
	'SELECT x.s, x.n FROM (SELECT segment_id AS s, count(*) AS n FROM @ GROUP BY 1) x WHERE x.n > 2',
	'SELECT (SELECT count(*) FROM @ WHERE segment_id = v.s AND num_of_orders > v.n) FROM (VALUES (''s1'', 2), (''s2'', 3), (''s2'', 5)) v(s, n)',
	'SELECT v.s, l.* FROM (VALUES (''s1''), (''s2'')) v(s) CROSS JOIN LATERAL (SELECT count(*), sum(total_revenue) FROM @ WHERE segment_id = v.s) l'
] $$;
-- Least and greatest numbers may be written with the scale of any equal one.
CREATE FUNCTION questions_by_value() RETURNS text[] LANGUAGE sql AS $$ SELECT ARRAY[
	'SELECT min(total_revenue), max(total_revenue), min(num_of_orders), max(num_of_orders), max(num_of_customers) FROM @',
	'SELECT segment_id, instance_created_date, min(total_revenue), max(total_revenue) FROM @ GROUP BY 1, 2',
	'SELECT segment_id, min(total_revenue) FILTER (WHERE num_of_orders > 2), max(num_of_orders) FILTER (WHERE total_revenue < 5) FROM @ GROUP BY 1',
	'SELECT max(total_revenue), min(num_of_orders) FROM @ WHERE num_of_orders BETWEEN 2 AND 4',
	'SELECT segment_id, max(total_revenue) - min(total_revenue) FROM @ WHERE total_revenue < ''Infinity'' AND total_revenue > ''-Infinity'' GROUP BY 1',
	'SELECT min(total_revenue), max(total_revenue) FROM @ WHERE customer_identity = ''c5'''
] $$;

-- Arithmetic on measures, conditions that the core does not know: evaluated for stretches of equal rows.
CREATE FUNCTION row_questions() RETURNS text[] LANGUAGE sql AS $$ SELECT ARRAY[
	'SELECT segment_id, sum(total_revenue * 2), sum(total_revenue * num_of_orders), avg(total_revenue + 1), min(total_revenue * -1), max(-total_revenue), count(total_revenue + num_of_orders) FROM @ GROUP BY 1',
	'SELECT segment_id, sum(total_revenue / num_of_orders), avg(total_revenue / num_of_orders) FROM @ WHERE num_of_orders > 0 AND total_revenue < 1e20 GROUP BY 1',
	'SELECT sum(total_revenue / nullif(num_of_orders, 0)) FROM @ WHERE segment_id LIKE ''s_'' ',
	'SELECT sum(num_of_orders / 2), sum(num_of_customers + num_of_orders), max(num_of_orders % 3), min(num_of_orders - 3), avg(num_of_orders * 2) FROM @ WHERE segment_id <> ''s9''',
	'SELECT segment_id, sum(CASE WHEN num_of_orders > 3 THEN total_revenue ELSE 0 END), sum(CASE WHEN num_of_orders > 3 THEN 1 ELSE 0 END), avg(CASE WHEN num_of_orders > 3 THEN 1 ELSE 0 END), max(CASE WHEN num_of_orders > 3 THEN 7 END) FROM @ GROUP BY 1',
	'SELECT sum(1), sum(2.50), avg(1), count(CASE WHEN total_revenue > 3 THEN ''x'' END), sum(length(segment_id)) FROM @',
	'SELECT segment_id, sum(CASE WHEN schedule = ''once_a_day'' THEN num_of_orders END), sum(CASE WHEN segment_instance_id LIKE ''%7'' THEN total_revenue END) FROM @ GROUP BY 1',
	'SELECT instance_created_date::date, sum(total_revenue * num_of_orders), count(*) FROM @ GROUP BY 1',
	'SELECT count(*) FROM @ WHERE num_of_orders % 2 = 0',
	'SELECT segment_id, count(*), count(DISTINCT customer_identity), sum(total_revenue) FROM @ WHERE total_revenue > num_of_orders GROUP BY 1',
	'SELECT count(*), sum(num_of_orders) FROM @ WHERE total_revenue > 2.5::float8',
	'SELECT count(*) FROM @ WHERE total_revenue * 2 + num_of_orders BETWEEN 5 AND 12 OR num_of_orders IS NULL',
	'SELECT count(*) FROM @ WHERE coalesce(total_revenue, 0) = 0',
	'SELECT count(*) FROM @ WHERE num_of_orders::text LIKE ''1%'' AND segment_instance_id LIKE ''%1''',
	'SELECT count(*) FROM @ WHERE (segment_id, num_of_orders) > (''s1'', 3)',
	'SELECT count(*) FROM @ WHERE num_of_orders > extract(day FROM instance_created_date)',
	'SELECT count(*) FILTER (WHERE num_of_orders % 2 = 0), sum(total_revenue) FILTER (WHERE total_revenue / num_of_customers > 3), count(DISTINCT customer_identity) FILTER (WHERE total_revenue > num_of_orders), count(*) FROM @ WHERE num_of_customers = 1',
	'SELECT count(*) FILTER (WHERE segment_id = ''s1'' AND 10 / num_of_customers > 3), max(total_revenue * 2) FILTER (WHERE segment_name LIKE ''S%'') FROM @ WHERE segment_id <> ''s9''',
	'SELECT count(*), sum(total_revenue * 2) FROM @ WHERE customer_identity IN (''c1'', ''c20'', ''nobody'') AND num_of_orders % 3 <> 1',
	'SELECT segment_id, schedule, grouping(schedule), sum(total_revenue * 2), count(DISTINCT customer_identity) FROM @ GROUP BY ROLLUP (1, 2)',
	'SELECT sum(total_revenue * 2), count(total_revenue * 2), max(total_revenue * 2) FROM @ WHERE segment_id = ''none''',
	'SELECT segment_id, sum(total_revenue * 2) FROM @ GROUP BY 1 HAVING sum(total_revenue * 2) > 100 AND max(num_of_orders + 1) < 12',
	'SELECT max(segment_name) , count(DISTINCT schedule), min(num_of_orders + 0) FROM @ WHERE num_of_orders % 2 = 1',
	'SELECT sum(total_revenue), avg(num_of_orders), max(total_revenue), count(num_of_orders) FROM @ WHERE num_of_orders % 2 = 1 OR total_revenue <> total_revenue',
	'SELECT (SELECT sum(total_revenue * v.n) FROM @ WHERE segment_id = v.s AND num_of_orders % v.n = 0) FROM (VALUES (''s1'', 2), (''s2'', 3)) v(s, n)'
] $$;

-- Nothing in it.
SELECT make_twins('t');
SELECT way, count(*), min(query COLLATE "C") FROM three_ways_of(questions() || questions_by_value() || row_questions()) GROUP BY 1 ORDER BY 1;

-- Ordinary rows, many instances (more than a group holds), a segment that was renamed, NULLs.
SELECT on_both($$INSERT INTO @
	SELECT 'c' || c, timestamp '2025-01-01 11:00' + i * interval '9 hours', CASE WHEN s < 3 THEN 'once_a_day' END,
		   'customer_id', CASE WHEN s = 1 THEN timestamp '2024-05-06' END, 's' || s, 's' || s || '_' || i,
		   CASE WHEN i < 40 THEN 'Segment ' || s WHEN s < 3 THEN 'Renamed ' || s END, 1,
		   CASE WHEN c % 13 > 0 THEN (c % 7 + i / 10)::bigint END,
		   CASE WHEN c % 11 > 0 THEN ((c * 37 % 1000) + i)::numeric / 100.0::numeric(6, 2) END::numeric(10, 2)
	FROM generate_series(1, 3) s, generate_series(1, 70) i, generate_series(1, 24) c
	WHERE (c * 31 + s * 17 + (i + c % 11) / 12 * 7) % 10 < 6$$) \gexec
SELECT * FROM three_ways_of(questions());
SELECT * FROM three_ways_of(questions_by_value(), false);
SELECT * FROM three_ways_of(row_questions());
SELECT way, count(*) FROM three_ways_of(questions_by_value()) GROUP BY 1 ORDER BY 1;

-- Mixed scales, huge and tiny numbers, NaN and infinities.
SELECT on_both($$INSERT INTO @
	SELECT 'v' || n, '2025-02-01', 'once_a_day', 'customer_id', NULL, 's9', 's9_' || n % 4, 'Values', NULL, n, v
	FROM (VALUES (1, 1.1), (2, 1.10), (3, 1.100000), (4, -7), (5, 0), (6, 0.000), (7, 9223372036854775807),
				 (8, -9223372036854775808), (9, 9223372036854775808), (10, 1e30), (11, -1e30), (12, 1e-25),
				 (13, 0.123456789012345678), (14, 0.1234567890123456789), (15, 12345678901234567890.5), (16, 5),
				 (17, NULL), (18, 1e100), (19, 922337203685477580.7), (20, 0.000000000000000001)) x(n, v)$$) \gexec
SELECT way, count(*) FROM three_ways_of(questions()) GROUP BY 1 ORDER BY 1;
SELECT way, count(*) FROM three_ways_of(questions_by_value(), false) GROUP BY 1 ORDER BY 1;
SELECT way, count(*) FROM three_ways_of(row_questions(), false) GROUP BY 1 ORDER BY 1;
SELECT on_both($$INSERT INTO @
	SELECT 'n' || n || '_' || k, '2025-03-01', NULL, NULL, NULL, 'special', 'special_' || k, 'Special', n, n, v::numeric
	FROM (VALUES (1, 1, 'NaN'), (1, 2, '1'), (2, 1, 'Infinity'), (2, 2, '2'), (3, 1, '-Infinity'), (3, 2, '3'),
				 (4, 1, 'Infinity'), (4, 2, '-Infinity'), (5, 1, 'NaN'), (6, 1, 'Infinity'), (6, 2, 'NaN'),
				 (7, 1, NULL), (8, 1, '-Infinity'), (9, 1, '-Infinity'), (9, 2, NULL)) x(k, n, v)$$) \gexec
SELECT way, count(*) FROM three_ways_of(questions()) GROUP BY 1 ORDER BY 1;
SELECT way, count(*) FROM three_ways_of(questions_by_value(), false) GROUP BY 1 ORDER BY 1;
SELECT way, count(*) FROM three_ways_of(row_questions(), false) GROUP BY 1 ORDER BY 1;
SELECT segment_instance_id, sum(total_revenue), avg(total_revenue), min(total_revenue), max(total_revenue)
FROM t WHERE segment_id = 'special' GROUP BY 1 ORDER BY 1;

-- Sums past 128 bits; of bigint at their ends.
SELECT on_both($$INSERT INTO @
	SELECT 'o' || n, '2025-04-01', NULL, NULL, NULL, 'large', 'large', 'Large', 9223372036854775807, 9223372036854775807 - n,
		   CASE WHEN n % 2 = 0 THEN 9223372036854775807 ELSE 0.000000000000000001 END
	FROM generate_series(1, 60) n$$) \gexec
SELECT three_ways($$SELECT segment_id, sum(num_of_customers), sum(num_of_orders), avg(num_of_orders), sum(total_revenue), avg(total_revenue) FROM @ WHERE segment_id = 'large' GROUP BY 1$$);
SELECT three_ways($$SELECT sum(total_revenue), count(DISTINCT customer_identity) FROM @ WHERE num_of_orders > 1000$$);
SELECT three_ways($$SELECT sum(total_revenue) FILTER (WHERE num_of_orders > 1000), max(total_revenue) FROM @ WHERE segment_id = 'large'$$);

-- Deletes leave bounds; updates and single inserts are deltas.
SELECT on_both($$DELETE FROM @ WHERE customer_identity IN ('c3', 'c17', 'v20', 'v13', 'v14')$$) \gexec
SELECT on_both($$UPDATE @ SET total_revenue = 3.5, num_of_orders = num_of_orders + 1 WHERE customer_identity = 'c20' AND segment_id = 's1'$$) \gexec
SELECT on_both($$UPDATE @ SET segment_name = 'Again' WHERE segment_instance_id = 's2_7'$$) \gexec
SELECT on_both($$INSERT INTO @ VALUES ('one more', '2025-01-04', NULL, NULL, NULL, 's1', 's1_new', NULL, 1, NULL, 1.12345)$$) \gexec
SELECT on_both($$DELETE FROM @ WHERE segment_instance_id = 's3_5'$$) \gexec
SELECT way, count(*) FROM three_ways_of(questions()) GROUP BY 1 ORDER BY 1;
SELECT way, count(*) FROM three_ways_of(questions_by_value(), false) GROUP BY 1 ORDER BY 1;
VACUUM FULL t;
SELECT way, count(*) FROM three_ways_of(questions()) GROUP BY 1 ORDER BY 1;
SELECT on_both($$DELETE FROM @ WHERE segment_id = 'large' OR customer_identity IN ('c4', 'c11')$$) \gexec
SELECT on_both($$UPDATE @ SET num_of_orders = num_of_orders + 1 WHERE customer_identity IN ('c9', 'c12') AND segment_instance_id LIKE '%4'$$) \gexec
SELECT way, count(*) FROM three_ways_of(row_questions(), false) GROUP BY 1 ORDER BY 1;

-- What is not covered runs as ever.
SELECT * FROM three_ways_of(ARRAY[
	'SELECT sum(total_revenue::float8 * 2) FROM @ WHERE num_of_orders < 0',
	'SELECT sum(total_revenue * length(customer_identity)) FROM @ WHERE segment_id LIKE ''s_''',
	'SELECT ''x''::text, segment_id, count(*) FROM @ WHERE segment_id LIKE ''s_'' GROUP BY CUBE (1, 2)',
	'SELECT sum(DISTINCT num_of_orders) FROM @',
	'SELECT count(DISTINCT num_of_orders) FROM @',
	'SELECT num_of_orders, count(*) FROM @ GROUP BY 1',
	'SELECT customer_identity, count(*) FROM @ GROUP BY 1',
	'SELECT count(*) FROM @ WHERE customer_identity LIKE ''c1%''',
	'SELECT count(*) FROM @ WHERE customer_identity = ''c1'' OR num_of_orders = 3',
	'SELECT count(*) FROM @ WHERE ctid <> ''(0,0)''',
	'SELECT tableoid::regclass IS NOT NULL, count(*) FROM @ GROUP BY 1',
	'SELECT count(@) FROM @',
	'SELECT string_agg(DISTINCT segment_id, '','' ORDER BY segment_id) FROM @',
	'SELECT count(*) FROM @ a JOIN @ b USING (segment_instance_id, customer_identity)',
	'SELECT count(*) FROM @ WHERE random() >= 0',
	'SELECT segment_id, count(*) + 0 * random() FROM @ GROUP BY 1',
	'SELECT count(*) FROM @ WHERE segment_id = (SELECT max(segment_id) FROM @)',
	'SELECT count(*) FROM @ WHERE segment_id IN (SELECT segment_id FROM @ WHERE num_of_orders = 5)',
	'SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY num_of_orders) FROM @',
	'SELECT stddev(num_of_orders) FROM @',
	'SELECT segment_id, generate_series(1, 2), count(*) FROM @ GROUP BY 1',
	'SELECT DISTINCT num_of_orders, segment_id FROM @',
	'SELECT DISTINCT segment_id, rank() OVER (ORDER BY segment_id) > 0 FROM @',
	'SELECT DISTINCT ON (segment_id) segment_id, segment_name IS NULL FROM @ WHERE segment_id = ''s9''',
	'SELECT DISTINCT count(*) FROM @ GROUP BY customer_identity'
]);

-- Nothing is evaluated for instances without a row that passes.
SELECT twin($$SELECT 1 / (instance_created_date::date - date '2025-01-04'), count(*) FROM @ WHERE num_of_orders > 1000000 AND segment_id = 's1' GROUP BY 1$$);
SELECT twin($$SELECT count(*) FILTER (WHERE 1 / (instance_created_date::date - date '2025-01-04') = 0) FROM @ WHERE num_of_orders > 1000000 AND segment_id = 's1'$$);
SELECT twin($$SELECT 1 / (instance_created_date::date - date '2025-01-04'), count(*) FROM @ WHERE segment_id = 's1' GROUP BY 1$$);
-- Nor for instances whose rows a filter, or the part of a condition that comes first, leaves out.
SELECT * FROM three_ways_of(ARRAY[
	'SELECT max(10 / (length(segment_by) - 11)) FILTER (WHERE num_of_orders < -1000) FROM @ WHERE segment_id = ''s1''',
	'SELECT count(10 / (length(segment_by) - 11)) FILTER (WHERE num_of_orders < -1000), count(DISTINCT segment_by::int) FILTER (WHERE num_of_orders < -1000) FROM @ WHERE segment_id = ''s1''',
	'SELECT count(*) FILTER (WHERE num_of_orders IS NOT NULL AND num_of_orders < -1000 AND segment_by::int > 3) FROM @ WHERE segment_id = ''s1''',
	'SELECT count(*) FROM @ WHERE segment_id = ''s1'' AND (num_of_orders IS NULL OR num_of_orders > -1000 OR 10 / (length(segment_by) - 11) > 1)',
	'SELECT count(*) FROM @ WHERE segment_id = ''s1'' AND (num_of_orders IS NULL OR num_of_orders > -1000 OR NOT (num_of_orders < -1000 AND segment_by::int > 3))'
]);
-- What fails for a row that gets there fails.
SELECT twin(q) FROM unnest(ARRAY[
	'SELECT sum(total_revenue / (num_of_orders - 3)) FROM @ WHERE segment_id = ''s1''',
	'SELECT count(*) FROM @ WHERE total_revenue / (num_of_orders - 3) > 1 AND segment_id = ''s1''',
	'SELECT sum(total_revenue / (num_of_orders - 3)) FILTER (WHERE num_of_orders > 3) > 0 FROM @ WHERE segment_id = ''s1''',
	'SELECT sum(num_of_orders * 9223372036854775807) FROM @ WHERE segment_id = ''s1''',
	'SELECT sum((num_of_orders * 1000000000)::int) FROM @ WHERE segment_id = ''s1''',
	'SELECT count(*) FILTER (WHERE num_of_orders <> 3 AND 1 / (num_of_orders - 3) > 0) FROM @ WHERE segment_id = ''s1''',
	-- conditions from the cheapest on, as in a plan with rows
	'SELECT count(*) FROM @ WHERE 1 / (num_of_orders - 3) = 0 AND num_of_orders > 4 AND segment_id = ''s1''']) q;
-- What can't fail is answered without rows, and so is what is evaluated before the measures or only where a row passes.
SELECT * FROM three_ways_of(ARRAY[
	'SELECT max(upper(segment_name)) FILTER (WHERE num_of_orders > 3), count(DISTINCT instance_created_date::date) FILTER (WHERE num_of_orders > 3) FROM @',
	'SELECT count(*) FILTER (WHERE length(segment_by) - 10 > 0 AND num_of_orders > 3), max(length(segment_by) - 10) FROM @ WHERE num_of_orders > 2',
	'SELECT count(*) FILTER (WHERE num_of_orders > 3 AND instance_created_date > now() - interval ''7 days'') FROM @',
	'SELECT count(*) FROM @ WHERE num_of_orders > 3 OR instance_created_date > now() - interval ''7 days'' OR coalesce(schedule, ''x'') = ''x''',
	'SELECT count(*) FROM @ WHERE segment_id = ''s1'' AND (segment_by = ''customer_id'' OR segment_by::int > 3)'
]);
DROP TABLE t, t_twin;

-- Expressions of a query may read the table themselves, more of its cells than are kept, while a cell is being read.
SELECT make_twins('t');
SELECT on_both($$INSERT INTO @
	SELECT 'k' || i, timestamp '2024-01-01' + d * interval '1 day', 'daily', 'x', NULL, 't' || lpad(s::text, 2, '0'),
		   't' || s || 'i' || d, 'T', 1, i, s * 1000 + i * 1e-20 + d
	FROM generate_series(1, 100) i, generate_series(1, 24) s, generate_series(1, 2) d WHERE (i + s) % 3 <> 0$$) \gexec
CREATE FUNCTION reads_it(text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
	PERFORM sum(num_of_orders) FILTER (WHERE total_revenue > 3) FROM t;
	RETURN $1;
END $$;
SET customer_segmentation.cell_cache = 0;
SELECT * FROM three_ways_of(ARRAY[
	'SELECT reads_it(segment_instance_id), sum(total_revenue), count(DISTINCT customer_identity) FROM @ WHERE num_of_orders > 5 GROUP BY 1',
	'SELECT reads_it(segment_id), sum(num_of_orders), count(DISTINCT customer_identity) FROM @ WHERE num_of_orders > 5 GROUP BY 1',
	'SELECT max(reads_it(segment_id)), count(DISTINCT customer_identity) FILTER (WHERE reads_it(segment_id) > ''t05'') FROM @'
]);
RESET customer_segmentation.cell_cache;
DROP TABLE t, t_twin;
DROP FUNCTION reads_it(text);
