-- The extension, and what the other tests use.
CREATE EXTENSION customer_segmentation;

SELECT amname, amtype FROM pg_am WHERE amname = 'customer_segmentation';
SELECT extname, extversion FROM pg_extension WHERE extname = 'customer_segmentation';
SELECT attname, atttypid::regtype, attnotnull
FROM pg_attribute WHERE attrelid = 'customer_segmentation_table'::regclass AND attnum > 0 ORDER BY attnum;
SELECT count(*) FROM customer_segmentation_table;
SELECT * FROM customer_segmentation.verify();

-- A table of ours and its twin in heap.
CREATE FUNCTION make_twins(name text, persistence text DEFAULT '') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE %s TABLE %I (LIKE customer_segmentation_table) USING customer_segmentation', persistence, name);
	EXECUTE format('CREATE %s TABLE %I (LIKE customer_segmentation_table, '
				   'UNIQUE (segment_instance_id, customer_identity) DEFERRABLE INITIALLY IMMEDIATE) USING heap',
				   persistence, name || '_twin');
END $$;

-- The statement, once for each: @ stands for the table. For \gexec.
CREATE FUNCTION on_both(statement text, name text DEFAULT 't') RETURNS SETOF text LANGUAGE sql AS $$
	SELECT replace(statement, '@', n)
	FROM (VALUES (1, name), (2, name || '_twin')) AS v(o, n) ORDER BY o
$$;

-- Every row as text, so that 1.10 and 1.1 differ.
CREATE FUNCTION rows_of(relation regclass) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('SELECT ROW(customer_identity, instance_created_date, schedule, segment_by, '
		'segment_created_date, segment_id, segment_instance_id, segment_name, num_of_customers, num_of_orders, '
		'total_revenue)::text FROM %s', relation);
END $$;

-- Rows that only one of the two has, rows in all, problems that verify finds.
CREATE FUNCTION compare_twin(name text DEFAULT 't', OUT only_ours bigint, OUT only_twin bigint, OUT rows bigint,
							 OUT problems bigint)
LANGUAGE plpgsql AS $$
BEGIN
	SELECT coalesce(sum(n) FILTER (WHERE n > 0), 0), coalesce(-sum(n) FILTER (WHERE n < 0), 0), coalesce(sum(h), 0)
	INTO only_ours, only_twin, rows
	FROM (SELECT sum(side) AS n, count(*) FILTER (WHERE side < 0) AS h
		  FROM (SELECT r, 1 AS side FROM rows_of(name::regclass) r UNION ALL SELECT r, -1 FROM rows_of((name || '_twin')::regclass) r) x
		  GROUP BY r) y;
	SELECT count(*) INTO problems FROM customer_segmentation.verify(name::regclass);
END $$;

-- What a statement returns, or how it fails.
CREATE FUNCTION result_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	r record;
	line text;
	lines text[] := '{}';
	n bigint;
BEGIN
	IF statement ~* '^\s*(select|values|table|with)|returning' THEN
		FOR r IN EXECUTE statement LOOP
			line := r::text;
			lines := lines || line;
		END LOOP;
		RETURN (SELECT count(*) || ' rows' || coalesce(': ' || string_agg(x, ' ' ORDER BY x COLLATE "C"), '') FROM unnest(lines) x);
	END IF;
	EXECUTE statement;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n || ' rows';
EXCEPTION WHEN OTHERS THEN
	RETURN 'error ' || SQLSTATE;
END $$;

-- Runs a statement on both, compares what it returns.
CREATE FUNCTION twin(statement text, name text DEFAULT 't') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	ours text := result_of(replace(statement, '@', name));
	theirs text := result_of(replace(statement, '@', name || '_twin'));
BEGIN
	IF ours = theirs THEN
		RETURN left(ours, 200);
	END IF;
	RETURN left(format('DIFFERENT: %s HEAP: %s', ours, theirs), 400);
END $$;

-- SQLSTATE, message, detail and hint of what fails.
CREATE FUNCTION error_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text;
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL,
		hint = PG_EXCEPTION_HINT;
	RETURN concat_ws('|', state, message, nullif(detail, ''), nullif(hint, ''));
END $$;

-- Members of segments in instances, some 60 % of the customers in each.
CREATE FUNCTION sample_rows(segments int, instances int, customers int) RETURNS SETOF customer_segmentation_table
LANGUAGE sql AS $$
	SELECT 'customer' || c, timestamp '2025-01-01 11:08:39' + i * interval '1 day', 'once_a_day', 'customer_id',
		   timestamp '2023-07-20 08:33:08', 'segment' || s, 'segment' || s || '_' || i, 'Segment ' || s, 1,
		   (c % 7 + i / 10)::bigint, ((c * 37 % 1000) + i)::numeric / 100
	FROM generate_series(1, segments) s, generate_series(1, instances) i, generate_series(1, customers) c
	WHERE (c * 31 + s * 17 + (i + c % 11) / 12 * 7) % 10 < 6
$$;

-- Everything works on them.
SELECT make_twins('t');
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(2, 3, 50)$$) \gexec
SELECT * FROM compare_twin();
SELECT twin($$SELECT count(*), sum(num_of_orders), sum(total_revenue) FROM @$$);
SELECT twin($$SELECT 1 / 0 FROM @$$);
SELECT error_of('SELECT 1 / 0');
DROP TABLE t, t_twin;
