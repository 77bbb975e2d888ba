-- Actions: counts, never, properties of orders, line items and events, both identities, the measures.
SET TimeZone = 'UTC';
SET search_path = shop, public;
SELECT set_config('customer_segmentation.as_of', '2025-08-25 11:08:39+00', false);
-- What there is at the moment; totals of the window that the tests use.
CREATE VIEW present AS SELECT customer_id::text AS id, email AS mail FROM customers WHERE created_at <= customer_segmentation.as_of();
CREATE VIEW past AS SELECT * FROM orders_of WHERE ordered_at <= customer_segmentation.as_of();
CREATE FUNCTION within_days(n int) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('comparator', 'under', 'value', n, 'unit', 'day') $$;
-- How many orders (or what w says of them) a customer has in 90 days.
CREATE FUNCTION counted(condition text, w text DEFAULT 'true', identity text DEFAULT 'id') RETURNS text LANGUAGE sql AS $$
	SELECT format('SELECT %3$s FROM present p WHERE %3$s IS NOT NULL AND (SELECT count(*) FROM past o WHERE o.%3$s = p.%3$s AND ordered_at > timestamptz ''2025-08-25 11:08:39+00'' - interval ''90 days'' AND (%2$s)) %1$s',
		condition, w, identity)
$$;

-- Counts; a customer without any counts 0, so that equal 0 is never.
SELECT c, v, same(act('made_purchase', c, v, within_days(90)), counted(h)),
	   same(op('NOT', act('made_purchase', c, v, within_days(90))), 'SELECT id FROM present EXCEPT ' || counted(h)) AS not,
	   same(act('made_purchase', c, v, within_days(90)), counted(h, 'true', 'mail'), segment_by => 'email') AS by_email
FROM (VALUES ('greater_than', jsonb '1', '> 1'), ('greater_than', '0', '> 0'), ('greater_than', '-1', '> -1'), ('greater_than', '1.5', '> 1.5'), ('less_than', '2', '< 2'), ('less_than', '0', '< 0'), ('equal', '0', '= 0'),
	('equal', '1', '= 1'), ('equal', '1.0', '= 1'), ('not_equal', '0', '<> 0'), ('not_equal', '1', '<> 1'), ('greater_or_equal', '0', '>= 0'), ('greater_or_equal', '2', '>= 2'), ('less_or_equal', '0', '<= 0'),
	('less_or_equal', '1', '<= 1'), ('between', '[1, 2]', 'BETWEEN 1 AND 2'), ('between', '[0, 1]', 'BETWEEN 0 AND 1'), ('between', '[-5, -1]', 'BETWEEN -5 AND -1')) AS v (c, v, h)
ORDER BY c, v;
SELECT same('{"type":"AND","filters":[{"type":"OR","filters":[{"type":"user_action","definition":{
	"action":{"type":"made_purchase","comparator":"greater_than","value":1},
	"time":{"comparator":"under","value":90,"unit":"day"}}}]}]}', counted('> 1'));

-- Properties of orders: an order counts if they hold for it. NULL passes a negative comparator.
SELECT p, same(act('made_purchase', 'greater_than', '0', within_days(90), p), counted('> 0', h)), same(act('made_purchase', 'equal', '0', within_days(90), p), counted('= 0', h)) AS never
FROM (VALUES
	(1, jsonb '{"property": "order_value", "comparator": "greater_than", "value": 50}', 'amount > 50'),
	(2, '{"property": "order_value", "comparator": "not_equal", "value": 50}', 'amount IS DISTINCT FROM 50'),
	(3, '{"property": "amount", "comparator": "between", "value": [10, 20.5]}', 'amount BETWEEN 10 AND 20.5'),
	(4, '{"property": "order_value", "comparator": "is_not_set"}', 'amount IS NULL'),
	(5, '{"property": "discount_code", "comparator": "start_with", "value": "save"}', 'discount_code IS NOT NULL'),
	(6, '{"property": "discount_code", "comparator": "not_start_with", "value": "save"}', 'discount_code IS NULL'),
	(7, '{"property": "discount_code", "comparator": "is_in", "value": ["SAVE1", "SAVE2"]}', $$discount_code IN ('SAVE1', 'SAVE2')$$),
	(8, '{"property": "source", "comparator": "equal", "value": "web"}', $$source = 'web'$$),
	(9, '{"property": "source", "comparator": "not_contain", "value": "WEB"}', $$(lower(source) = 'web') IS NOT TRUE$$),
	(10, '{"property": "order_tag", "comparator": "array_contains", "value": "gift"}', $$'gift' = ANY (tags)$$),
	(11, '{"property": "order_tag", "comparator": "array_not_contains", "value": "gift"}', $$('gift' = ANY (tags)) IS NOT TRUE$$),
	(12, '{"property": "order_tag", "comparator": "contain", "value": "GIF"}', $$tags && '{gift,Gift}'$$),
	(13, '{"property": "gift", "comparator": "equal", "value": false}', 'NOT gift'),
	(14, '{"property": "order_id", "comparator": "is_in", "value": [17, "18", "200"]}', 'order_id IN (17, 18, 200)')) AS v (n, p, h)
ORDER BY n;
-- Line items: of several in an order any must meet a positive comparator and all a negative one.
SELECT p, same(act('made_purchase', 'greater_than', '0', within_days(90), p), counted('> 0', h)), same(act('made_purchase', 'less_or_equal', '1', within_days(90), p), counted('<= 1', h)) AS few
FROM (VALUES
	(1, jsonb '{"property": "product_name", "comparator": "contain", "value": "RED"}', $$EXISTS (SELECT FROM line_items WHERE order_no = order_id::text AND lower(product_name) LIKE '%red%')$$),
	(2, '{"property": "product_name", "comparator": "not_contain", "value": "red"}', $$NOT EXISTS (SELECT FROM line_items WHERE order_no = order_id::text AND lower(product_name) LIKE '%red%')$$),
	(3, '{"property": "product_name", "comparator": "contain", "value": "Blue_"}', $$EXISTS (SELECT FROM line_items WHERE order_no = order_id::text AND product_name = 'Blue_Hat')$$),
	(4, '{"property": "product_name", "comparator": "end_with", "value": "% OFF"}', $$EXISTS (SELECT FROM line_items WHERE order_no = order_id::text AND product_name = '50% off')$$),
	(5, '{"property": "product_id", "comparator": "equal", "value": "103"}', $$EXISTS (SELECT FROM line_items WHERE order_no = order_id::text AND product_id = 103)$$),
	(6, '{"property": "product_id", "comparator": "is_not_in", "value": [103, 104]}', $$NOT EXISTS (SELECT FROM line_items WHERE order_no = order_id::text AND product_id IN (103, 104))$$),
	(7, '{"property": "vendor", "comparator": "equal", "value": "Acme"}', $$EXISTS (SELECT FROM line_items WHERE order_no = order_id::text AND vendor = 'Acme')$$),
	(8, '{"property": "product_name", "comparator": "is_set"}', $$EXISTS (SELECT FROM line_items WHERE order_no = order_id::text AND product_name IS NOT NULL)$$),
	(9, '{"property": "product_name", "comparator": "is_not_set"}', $$NOT EXISTS (SELECT FROM line_items WHERE order_no = order_id::text AND product_name IS NOT NULL)$$),
	(10, '{"property": "quantity", "comparator": "greater_than", "value": 3}', $$EXISTS (SELECT FROM line_items WHERE order_no = order_id::text AND quantity > 3)$$),
	(11, '{"property": "items_number", "comparator": "greater_than", "value": 4}', $$(SELECT sum(quantity) FROM line_items WHERE order_no = order_id::text) > 4$$),
	(12, '{"property": "items_number", "comparator": "less_than", "value": 4}', $$(SELECT coalesce(sum(quantity), 0) FROM line_items WHERE order_no = order_id::text) < 4$$),
	(13, '{"property": "items_number", "comparator": "not_equal", "value": 0}', $$(SELECT sum(quantity) FROM line_items WHERE order_no = order_id::text) <> 0$$),
	(14, '{"property": "items_number", "comparator": "is_not_set"}', $$(SELECT sum(quantity) FROM line_items WHERE order_no = order_id::text) IS NULL$$)) AS v (n, p, h)
ORDER BY n;
-- All of a list must hold, for the same order; each for an item of its own.
SELECT same(act('made_purchase', 'greater_than', '0', within_days(90), '{"property": "product_name", "comparator": "contain", "value": "red"}', '{"property": "product_name", "comparator": "contain", "value": "hat"}',
		'{"property": "order_value", "comparator": "less_than", "value": 60}', '{"property": "items_number", "comparator": "between", "value": [2, 9]}', '{"property": "items_number", "comparator": "not_equal", "value": 5}'),
	counted('> 0', $$EXISTS (SELECT FROM line_items WHERE order_no = order_id::text AND lower(product_name) LIKE '%red%') AND EXISTS (SELECT FROM line_items WHERE order_no = order_id::text AND lower(product_name) LIKE '%hat%')
		AND amount < 60 AND (SELECT coalesce(sum(quantity), 0) FROM line_items WHERE order_no = order_id::text) IN (2, 3, 4, 6, 7, 8, 9)$$));

-- New and returning: by the earliest order of all, not of the window.
CREATE VIEW firsts AS SELECT *, ordered_at = min(ordered_at) OVER (PARTITION BY id) AS first, ordered_at = min(ordered_at) OVER (PARTITION BY mail) AS first_by_mail FROM past;
SELECT a, c, same(act(a, c, '0', within_days(150)), format('SELECT id FROM present p WHERE (SELECT count(*) FROM firsts o WHERE o.id = p.id AND ordered_at > timestamptz ''2025-08-25 11:08:39+00'' - interval ''150 days'' AND %s first) %s 0', n, o)),
	   same(act(a, c, '0', within_days(150)), format('SELECT mail FROM present p WHERE mail IS NOT NULL AND (SELECT count(*) FROM firsts o WHERE o.mail = p.mail AND ordered_at > timestamptz ''2025-08-25 11:08:39+00'' - interval ''150 days'' AND %s first_by_mail) %s 0', n, o), segment_by => 'email') AS by_email
FROM (VALUES ('new_customer_purchase', ''), ('returning_customer_purchase', 'NOT')) AS v (a, n), (VALUES ('greater_than', '>'), ('equal', '=')) AS w (c, o);
SELECT same(act('new_customer_purchase', 'greater_than', '0', within_days(150), '{"property": "order_value", "comparator": "greater_than", "value": 40}'),
	$$SELECT DISTINCT id FROM firsts JOIN present USING (id) WHERE ordered_at > timestamptz '2025-08-25 11:08:39+00' - interval '150 days' AND first AND amount > 40$$);

-- Other events, at an earlier moment than some of them.
SELECT a, m, same(act(a, 'greater_than', '1', t, VARIADIC p), format(h, '> 1', m, '{}'::text[]), m), same(op('NOT', act(a, 'greater_than', '1', t, VARIADIC p)), format(h, '<= 1', m), m) AS not
FROM (VALUES
	(1, 'clicked_ad', jsonb '{"comparator": "over_all_time"}', '{}'::jsonb[], $$SELECT customer_id FROM customers c WHERE created_at <= %2$L AND (SELECT count(*) FROM clicks k WHERE k.customer_id = c.customer_id AND clicked_at <= %2$L) %1$s$$),
	(2, 'clicked_ad', '{"comparator": "under", "value": 60, "unit": "day"}', ARRAY[jsonb '{"property": "campaign_id", "comparator": "is_in", "value": [9000000001, "9000000002"]}', '{"property": "source", "comparator": "not_equal", "value": "fb"}'],
		$$SELECT customer_id FROM customers c WHERE created_at <= %2$L AND (SELECT count(*) FROM clicks k WHERE k.customer_id = c.customer_id AND clicked_at <= %2$L AND clicked_at > timestamptz %2$L - interval '60 days'
		  AND campaign_id IN (9000000001, 9000000002) AND source IS DISTINCT FROM 'fb') %1$s$$),
	(3, 'visited_url', '{"comparator": "over_all_time"}', ARRAY[jsonb '{"property": "url_path", "comparator": "contain", "value": "/product/1_"}'],
		$$SELECT customer_id FROM customers c WHERE created_at <= %2$L AND (SELECT count(*) FROM visits k WHERE mail = email AND visited <= timestamptz %2$L AT TIME ZONE 'UTC' AND path = '/product/1_2') %1$s$$),
	(4, 'active_on_site', '{"comparator": "under", "value": 240, "unit": "hour"}', '{}', $$SELECT customer_id FROM customers c WHERE created_at <= %2$L AND (SELECT count(*) FROM visits k WHERE mail = email AND visited <= timestamptz %2$L AT TIME ZONE 'UTC'
		AND visited > timestamptz %2$L AT TIME ZONE 'UTC' - interval '240 hours') %1$s$$),
	(5, 'added_to_cart', '{"comparator": "under", "value": 14, "unit": "day"}', '{}', $$SELECT customer_id FROM customers c WHERE created_at <= %2$L AND (SELECT count(*) FROM carts k WHERE k.customer_id = c.customer_id AND day <= timestamptz %2$L AT TIME ZONE 'UTC'
		AND day > timestamptz %2$L AT TIME ZONE 'UTC' - interval '14 days') %1$s$$),
	(6, 'started_checkout', '{"comparator": "over_all_time"}', ARRAY[jsonb '{"property": "checkout_value", "comparator": "greater_than", "value": 4}'],
		$$SELECT customer_id FROM customers c WHERE created_at <= %2$L AND (SELECT count(*) FROM checkouts k WHERE k.customer_id = c.customer_id AND at <= %2$L AND value > 4) %1$s$$)) AS v (n, a, t, p, h),
	(VALUES (timestamptz '2025-08-25 11:08:39+00'), ('2025-08-05 09:00+00')) AS w (m)
ORDER BY n, m;

-- Subscriptions, a row each. By e-mail address the customers know whose they are.
SELECT a, m, same(act(a, 'greater_than', '0', t), format('SELECT id FROM present JOIN subscriptions s ON s.customer_id::text = id WHERE %1$s <= %2$L AND %1$s > timestamptz %2$L - interval ''90 days''', c, m), m),
	   same(act(a, 'equal', '0', t), format('SELECT mail FROM present LEFT JOIN subscriptions s ON s.customer_id::text = id AND %1$s <= %2$L AND %1$s > timestamptz %2$L - interval ''90 days'' WHERE s.customer_id IS NULL AND mail IS NOT NULL', c, m), m, 'email') AS never
FROM (VALUES ('started_subscription', 'started_at'), ('updated_subscription', 'updated_at'), ('cancelled_subscription', 'cancelled_at')) AS v (a, c), (VALUES (within_days(90))) AS x (t),
	(VALUES (timestamptz '2025-08-25 11:08:39+00'), ('2025-04-05 09:00+00')) AS w (m)
ORDER BY a, m;
SELECT m, n, same(prop('customer_active_subscriptions_number', 'equal', n), format('SELECT customer_id FROM customers c WHERE created_at <= %2$L AND (SELECT count(*) FROM subscriptions s WHERE s.customer_id = c.customer_id AND started_at <= %2$L
	AND (cancelled_at > %2$L OR cancelled_at IS NULL)) = %1$s', n, m), m)
FROM (VALUES (timestamptz '2025-08-25 11:08:39+00'), ('2025-04-05 09:00+00')) AS w (m), (VALUES (jsonb '0'), ('1')) AS v (n) ORDER BY m, n;
SELECT same(act('started_subscription', 'greater_than', '0', within_days(365), '{"property": "subscription_status", "comparator": "equal", "value": "active"}'), $$SELECT id FROM present JOIN subscriptions s ON s.customer_id::text = id WHERE status = 'active'$$);
-- And a row for each event, of which the e-mail address is known.
SELECT customer_segmentation.set_source('subscriptions', 'subscription_events', '{"email": "who", "event": "what", "time": "at", "plan": "plan"}');
SELECT a, same(act(a, 'greater_than', '0', within_days(120), '{"property": "plan", "comparator": "equal", "value": "pro"}'), format('SELECT id FROM present JOIN subscription_events ON who = mail WHERE lower(what) = %L AND plan = ''pro''
	AND at > timestamp ''2025-08-25 11:08:39'' - interval ''120 days'' AND at <= ''2025-08-25 11:08:39''', e))
FROM (VALUES ('started_subscription', 'started'), ('updated_subscription', 'updated'), ('cancelled_subscription', 'cancelled')) AS v (a, e);

-- What follows from all orders: number, spend, average; by both identities.
SELECT p, c, v, same(prop(p, c, v), format('SELECT id FROM present p LEFT JOIN (SELECT id, count(*) AS n, sum(amount) AS s FROM past GROUP BY 1) o USING (id) WHERE %s', h)),
	   same(prop(p, c, v), format('SELECT mail FROM present p LEFT JOIN (SELECT mail, count(*) AS n, sum(amount) AS s FROM past GROUP BY 1) o USING (mail) WHERE mail IS NOT NULL AND %s', h), segment_by => 'email') AS by_email,
	   same(op('NOT', prop(p, c, v)), format('SELECT id FROM present p LEFT JOIN (SELECT id, count(*) AS n, sum(amount) AS s FROM past GROUP BY 1) o USING (id) WHERE (%s) IS NOT TRUE', h)) AS not
FROM (VALUES ('total_orders_number', 'greater_than', jsonb '5', 'n > 5'), ('total_orders_number', 'equal', '0', 'coalesce(n, 0) = 0'), ('total_orders_number', 'is_in', '[0, 5, 6]', 'coalesce(n, 0) IN (0, 5, 6)'),
	('total_orders_number', 'is_not_in', '[0, 5, 6]', 'coalesce(n, 0) NOT IN (0, 5, 6)'), ('total_orders_number', 'is_set', NULL, 'true'), ('total_orders_number', 'is_not_set', NULL, 'false'),
	('customer_total_spend', 'greater_than', '200', 's > 200'), ('customer_total_spend', 'less_or_equal', '0', 'coalesce(s, 0) <= 0'), ('customer_total_spend', 'between', '[100, 300]', 's BETWEEN 100 AND 300'),
	('customer_aov', 'greater_than', '40', 's / n > 40'), ('customer_aov', 'less_than', '40', 's / n < 40'), ('customer_aov', 'not_equal', '40', '(s / n) IS DISTINCT FROM 40'), ('customer_aov', 'is_set', NULL, 's / n IS NOT NULL'),
	('customer_aov', 'is_not_set', NULL, 's / n IS NULL')) AS v (p, c, v, h)
ORDER BY p, c, v;

-- Orders and revenue of the members: those of the window that the one purchase filter speaks of, else of all time.
CREATE FUNCTION measured(rules jsonb, orders text, segment_by text DEFAULT 'customer_id') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	wrong bigint;
	members bigint;
BEGIN
	EXECUTE format('SELECT count(*) FILTER (WHERE (r.num_of_orders, r.total_revenue) IS DISTINCT FROM (coalesce(h.n, 0), coalesce(h.s, 0))), count(*) FROM (%s) AS r '
		'LEFT JOIN (SELECT %s AS who, count(*) AS n, sum(amount) AS s FROM (%s) AS o GROUP BY 1) AS h ON h.who = r.customer_identity',
		customer_segmentation.explain_rules(rules, segment_by, customer_segmentation.as_of()), CASE segment_by WHEN 'email' THEN 'mail' ELSE 'id' END, orders) INTO wrong, members;
	RETURN format('%s wrong of %s', wrong, members);
END $$;
SELECT measured(act('made_purchase', 'greater_than', '0', within_days(90)), $$SELECT * FROM past WHERE ordered_at > timestamptz '2025-08-25 11:08:39+00' - interval '90 days'$$),
	   measured(act('made_purchase', 'greater_than', '0', within_days(90)), $$SELECT * FROM past WHERE ordered_at > timestamptz '2025-08-25 11:08:39+00' - interval '90 days'$$, 'email') AS by_email,
	   measured(op('AND', act('made_purchase', 'greater_than', '0', within_days(90)), prop('name', 'is_set')), $$SELECT * FROM past WHERE ordered_at > timestamptz '2025-08-25 11:08:39+00' - interval '90 days'$$) AS beside_others,
	   measured(act('made_purchase', 'equal', '0', within_days(90)), 'SELECT * FROM past') AS never,
	   measured(op('NOT', act('made_purchase', 'greater_than', '0', within_days(90))), 'SELECT * FROM past') AS not,
	   measured(op('AND', act('made_purchase', 'greater_than', '0', within_days(90)), act('made_purchase', 'greater_than', '0', within_days(30))), 'SELECT * FROM past') AS several,
	   measured(prop('name', 'is_set'), 'SELECT * FROM past') AS no_purchase;
-- By whole numbers an average is not cut off.
CREATE TABLE cents (who text, at date, cents int);
INSERT INTO cents VALUES ('a', '2025-01-01', 1), ('a', '2025-01-02', 2), ('b', '2025-01-01', 1);
SELECT unset_sources();
SELECT customer_segmentation.set_source('orders', 'cents', '{"customer_id": "who", "time": "at", "amount": "cents"}');
SELECT same(prop('customer_aov', 'greater_than', '1.4'), $$SELECT 'a'$$);

-- Without customers those are all of whom there is an event that the rules ask for.
SELECT unset_sources();
SELECT set_sources();
SELECT customer_segmentation.set_source('customers', NULL), customer_segmentation.set_source('visits', NULL), customer_segmentation.set_source('tags', NULL);
SELECT same(act('clicked_ad', 'equal', '0'), $$SELECT customer_id FROM orders WHERE ordered_at <= '2025-08-25 11:08:39+00' AND customer_id IS NOT NULL EXCEPT SELECT customer_id FROM clicks$$),
	   same(act('made_purchase', 'equal', '0'), $$SELECT 1 WHERE false$$),
	   same(op('OR', act('made_purchase', 'equal', '0'), act('clicked_ad', 'equal', '0')), $$SELECT customer_id FROM clicks WHERE clicked_at <= '2025-08-25 11:08:39+00' EXCEPT SELECT customer_id FROM orders INTERSECT SELECT customer_id FROM orders WHERE ordered_at <= '2025-08-25 11:08:39+00'
			UNION (SELECT customer_id FROM orders WHERE customer_id IS NOT NULL AND ordered_at <= '2025-08-25 11:08:39+00' EXCEPT SELECT customer_id FROM clicks WHERE clicked_at <= '2025-08-25 11:08:39+00')
			UNION (SELECT customer_id FROM clicks WHERE clicked_at <= '2025-08-25 11:08:39+00' EXCEPT SELECT customer_id FROM orders WHERE ordered_at <= '2025-08-25 11:08:39+00')$$);
SELECT set_sources();
SELECT set_config('customer_segmentation.as_of', '', false);
DROP VIEW present, firsts, past;
DROP TABLE cents;
DROP FUNCTION within_days, counted, measured;
