-- Comparators of every class on properties of customers, each against SQL written by hand: case, wildcards, NULL, empty.
SET TimeZone = 'UTC';
SET search_path = shop, public;

-- Strings: equal and is_in as they are, the others whatever the case, wildcards as themselves; a negative one holds for
-- NULL. Customers are those who were there at the moment.
CREATE VIEW present AS SELECT * FROM customers WHERE created_at <= customer_segmentation.as_of();
SELECT v, c, same(prop('name', c, to_jsonb(v)), format('SELECT customer_id FROM present WHERE ' || p, v, like_of)),
	   same(prop('name', 'not_' || c, to_jsonb(v)), format('SELECT customer_id FROM present WHERE (' || p || ') IS NOT TRUE', v, like_of)) AS negative,
	   same(op('NOT', prop('name', c, to_jsonb(v))), format('SELECT customer_id FROM present WHERE (' || p || ') IS NOT TRUE', v, like_of)) AS not
FROM (VALUES ('ann'), ('100%'), ('100% C'), ('a_b'), ('_'), ('%'), ('\'), ('back\s'), ('"odd" $1'), (''), ('RMEL'), ('x'), ('''; DROP TABLE shop.orders; --')) AS t (v),
	 LATERAL (SELECT lower(v)) AS l (like_of),
	 (VALUES ('equal', 'name = %1$L'), ('contain', 'position(%2$L in lower(name)) > 0'), ('start_with', 'left(lower(name), length(%2$L)) = %2$L'),
			 ('end_with', 'right(lower(name), length(%2$L)) = %2$L AND length(name) >= length(%2$L)')) AS o (c, p)
ORDER BY v COLLATE "C", c;
SELECT v, same(prop('name', 'is_in', v), format('SELECT customer_id FROM present WHERE name IN (SELECT jsonb_array_elements_text(%L))', v)),
	   same(prop('name', 'is_not_in', v), format('SELECT customer_id FROM present WHERE (name IN (SELECT jsonb_array_elements_text(%L))) IS NOT TRUE', v)) AS negative
FROM (VALUES (1, jsonb '["Ann", "a_b"]'), (2, '["ann"]'), (3, '[""]'), (4, '[]'), (5, '["{a,b}", "x\"y", "NULL", "axb"]'), (6, '[100, "axb"]')) AS t (n, v) ORDER BY n;
SELECT p, same(prop(p, 'is_set'), format('SELECT customer_id FROM present WHERE %I IS NOT NULL', p)),
	   same(prop(p, 'is_not_set'), format('SELECT customer_id FROM present WHERE %I IS NULL', p)) AS negative
FROM unnest('{name,city,phone,birthday,points,rate,email,tags}'::text[]) p WHERE p <> 'tags' ORDER BY p;
-- Columns of other types and collations compare as texts of the database's collation.
SELECT same(prop('city', 'equal', '"köln"'), $$SELECT customer_id FROM present WHERE city = 'köln'$$),
	   same(prop('city', 'start_with', '"BON"'), $$SELECT customer_id FROM present WHERE city = 'Bonn'$$),
	   same(prop('country', 'equal', '"DE"'), $$SELECT customer_id FROM present WHERE country = 'DE'$$),
	   same(prop('country', 'end_with', '"e"'), $$SELECT customer_id FROM present WHERE country = 'DE'$$),
	   same(prop('state', 'not_equal', '"NY"'), $$SELECT customer_id FROM present WHERE state IS DISTINCT FROM 'NY'$$),
	   same(prop('customer_id', 'is_in', '[3, "4"]'), $$SELECT customer_id FROM present WHERE customer_id IN (3, 4)$$),
	   same(prop('email', 'start_with', '"USER1"'), $$SELECT customer_id FROM present WHERE email LIKE 'user1%'$$);

-- Numbers. Where there is none, only is_not_set and the negative ones hold.
SELECT c, v, same(prop('points', c, v), format('SELECT customer_id FROM present WHERE points %s %s', o, v)),
	   same(op('NOT', prop('points', c, v)), format('SELECT customer_id FROM present WHERE (points %s %s) IS NOT TRUE', o, v)) AS not
FROM (VALUES ('greater_than', '>'), ('less_than', '<'), ('equal', '='), ('greater_or_equal', '>='), ('less_or_equal', '<=')) AS t (c, o),
	 (VALUES (jsonb '3'), ('3.5'), ('-1.50'), ('0'), ('1e3')) AS n (v)
ORDER BY c, v;
SELECT same(prop('points', 'not_equal', '3'), 'SELECT customer_id FROM present WHERE points IS DISTINCT FROM 3'),
	   same(prop('points', 'between', '[1, 3.5]'), 'SELECT customer_id FROM present WHERE points BETWEEN 1 AND 3.5'),
	   same(prop('points', 'between', '[3.5, 3.5]'), 'SELECT customer_id FROM present WHERE points = 3.5'),
	   same('{"type": "user_property", "definition": {"property": {"property": "points", "comparator": "between", "value1": -1, "value2": 0.5}}}',
			'SELECT customer_id FROM present WHERE points BETWEEN -1 AND 0.5'),
	   same(prop('points', 'is_in', '[1.5, 3.0]'), 'SELECT customer_id FROM present WHERE points IN (1.5, 3)'),
	   same(prop('points', 'is_not_in', '[1.5, 3.0]'), 'SELECT customer_id FROM present WHERE (points IN (1.5, 3)) IS NOT TRUE'),
	   same(prop('rate', 'equal', '0.1'), $$SELECT customer_id FROM present WHERE rate::text = '0.1'$$),
	   same(prop('rate', 'less_than', '0.3'), $$SELECT customer_id FROM present WHERE rate::text < '0.3'$$);

-- Booleans.
SELECT v, same(prop('customer_email_marketing_consent', 'equal', v), format('SELECT customer_id FROM present WHERE consent = %s', v)),
	   same(op('NOT', prop('customer_email_marketing_consent', 'equal', v)), format('SELECT customer_id FROM present WHERE consent IS DISTINCT FROM %s', v)) AS not
FROM (VALUES (jsonb 'true'), ('false')) AS t (v);

-- Several values: any value meets a positive comparator, all must meet a negative one, and none is no objection.
SELECT c, v, same(prop('tags', c, v), format('SELECT customer_id FROM present WHERE EXISTS (SELECT FROM unnest(tags) x WHERE %s)', format(p, v #>> '{}'))),
	   same(prop('tags', CASE WHEN c LIKE 'array%' THEN 'array_not_contains' WHEN c = 'is_in' THEN 'is_not_in' ELSE 'not_' || c END, v),
			format('SELECT customer_id FROM present WHERE NOT EXISTS (SELECT FROM unnest(tags) x WHERE %s)', format(p, v #>> '{}'))) AS negative
FROM (VALUES ('equal', 'x = %L'), ('array_contains', 'x = %L'), ('contain', 'position(lower(%L) in lower(x)) > 0'),
			 ('start_with', 'lower(x) ^@ lower(%L)'), ('end_with', 'right(lower(x), length(%1$L)) = lower(%1$L)'),
			 ('is_in', 'x IN (SELECT jsonb_array_elements_text(%L))')) AS t (c, p),
	 (VALUES (jsonb '"vip"'), ('"w%"'), ('["vip", "x"]'), ('[]')) AS n (v)
WHERE (c = 'is_in') = (jsonb_typeof(v) = 'array') ORDER BY c, v;
SELECT same(prop('tags', 'is_set'), 'SELECT customer_id FROM present WHERE EXISTS (SELECT FROM unnest(tags) x WHERE x IS NOT NULL)'),
	   same(prop('tags', 'is_not_set'), 'SELECT customer_id FROM present WHERE NOT EXISTS (SELECT FROM unnest(tags) x WHERE x IS NOT NULL)');

-- Tags with their history: those at the moment, a removed one is gone.
CREATE VIEW tagged AS SELECT * FROM tag_list WHERE added_at <= customer_segmentation.as_of() AND (removed_at > customer_segmentation.as_of() OR removed_at IS NULL);
SELECT m, c, same(prop('customer_tag', c, v), format('SELECT customer_id FROM present p WHERE EXISTS (SELECT FROM tagged x WHERE x.customer_id = p.customer_id::text AND %s)', w), m),
	   same(prop('customer_tag', n, v), format('SELECT customer_id FROM present p WHERE NOT EXISTS (SELECT FROM tagged x WHERE x.customer_id = p.customer_id::text AND %s)', w), m) AS negative
FROM (VALUES ('array_contains', 'array_not_contains', jsonb '"vip"', $$tag = 'vip'$$), ('equal', 'not_equal', '"VIP"', $$tag = 'VIP'$$), ('contain', 'not_contain', '"n_R"', $$tag = 'churn_risk'$$),
	  ('is_in', 'is_not_in', '["vip", "VIP"]', $$tag IN ('vip', 'VIP')$$), ('is_set', 'is_not_set', NULL, 'true')) AS t (c, n, v, w),
	 (VALUES (timestamptz '2025-02-10 08:00+00'), ('2025-04-01 08:00+00'), ('2025-08-25 11:08:39+00')) AS k (m)
ORDER BY m, c;

-- Nesting: NOT of several is that none holds, at any depth.
SELECT same(op('NOT', prop('name', 'equal', '"Ann"'), prop('points', 'greater_than', '2')), $$SELECT customer_id FROM present WHERE (name = 'Ann') IS NOT TRUE AND (points > 2) IS NOT TRUE$$),
	   same(op('NOT', op('AND', prop('name', 'equal', '"Ann"'), prop('points', 'greater_than', '2'))), $$SELECT customer_id FROM present WHERE (name = 'Ann') IS NOT TRUE OR (points > 2) IS NOT TRUE$$),
	   same(op('NOT', op('NOT', prop('points', 'greater_than', '2'))), $$SELECT customer_id FROM present WHERE points > 2$$),
	   same(op('AND', op('OR', prop('name', 'equal', '"Ann"'), op('NOT', prop('points', 'less_than', '2'), op('OR', prop('city', 'equal', '"Bonn"'), op('NOT', prop('state', 'is_set'))))), prop('phone', 'is_set')),
			$$SELECT customer_id FROM present WHERE (name = 'Ann' OR (points < 2) IS NOT TRUE AND NOT (city IS NOT DISTINCT FROM 'Bonn' OR state IS NULL)) AND phone IS NOT NULL$$);
-- Theirs: AND of ORs; and one deeper than anybody writes.
SELECT same(op('AND', op('OR', prop('city', 'equal', '"Bonn"'), prop('city', 'equal', '"New York"')), op('OR', prop('state', 'equal', '"CA"'), prop('state', 'is_not_set'))),
			$$SELECT customer_id FROM present WHERE city IN ('Bonn', 'New York') AND (state = 'CA' OR state IS NULL)$$);
DO $$
DECLARE
	r jsonb := shop.prop('points', 'greater_than', '2');
BEGIN
	FOR i IN 1 .. 28 LOOP
		r := shop.op('NOT', r);
	END LOOP;
	RAISE NOTICE '%', shop.same(r, 'SELECT customer_id FROM shop.present WHERE points > 2');
END $$;
-- Many filters are still one query.
SELECT same(op('OR', VARIADIC array_agg(prop('name', 'equal', to_jsonb('n' || i)))), 'SELECT 1 WHERE false') FROM generate_series(1, 200) i;
SELECT same(op('OR', VARIADIC array_agg(act('made_purchase', 'equal', to_jsonb(i), '{"comparator": "under", "value": 400, "unit": "day"}'))), $$SELECT id FROM orders_of JOIN present p ON p.customer_id::text = id WHERE ordered_at <= '2025-08-25 11:08:39+00' GROUP BY 1$$) FROM generate_series(1, 60) i;
DROP VIEW present, tagged;
