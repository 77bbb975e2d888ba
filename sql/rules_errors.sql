-- What is wrong with rules: 22023 with the JSON path, what was given and what is expected.
SET search_path = shop, public;
CREATE FUNCTION wrong(rules jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT error_of(format('SELECT customer_segmentation.explain_rules(%L)', rules))
$$;
CREATE FUNCTION act_with(action jsonb, "time" jsonb DEFAULT '{"comparator": "over_all_time"}') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('type', 'user_action', 'definition', jsonb_build_object('action', jsonb '{"type": "made_purchase", "comparator": "greater_than", "value": 1}' || action, 'time', "time"))
$$;

-- The shape.
SELECT r, wrong(r) FROM (VALUES (1, jsonb 'null'), (2, '1'), (3, '"AND"'), (4, '[]'), (5, '{}'), (6, '{"type": 5}'), (7, '{"type": "XOR", "filters": []}'), (8, '{"type": "and", "filters": []}'), (9, '{"type": "AND"}'),
	(10, '{"type": "AND", "filters": {}}'), (11, '{"type": "AND", "filters": []}'), (12, '{"type": "AND", "filters": [1]}'), (13, '{"type": "OR", "filters": [{"type": "AND", "filters": [{"type": "NOT", "filters": [{"type": "nothing"}]}]}]}'),
	(14, '{"type": "user_action"}'), (15, '{"type": "user_action", "definition": []}'), (16, '{"type": "user_action", "definition": {}}'), (17, '{"type": "user_action", "definition": {"action": {}}}'),
	(18, '{"type": "user_property", "definition": {}}'), (19, '{"type": "user_property", "definition": {"property": {}}}'), (20, '{"type": "user_property", "definition": {"property": {"property": 5}}}'),
	(21, '{"type": "user_property", "definition": {"property": {"property": "name"}}}'), (22, '{"type": "user_property", "definition": {"property": {"property": "name", "comparator": "equal"}}}'),
	(23, '{"type": "segment_relation", "definition": {"property": {}}}'), (24, '{"type": "segment_relation", "definition": {"property": {"value": 5, "comparator": "is"}}}'), (25, '{"type": "segment_relation", "definition": {"property": {"value": "x", "comparator": "equal"}}}'),
	(26, '{"type": "rfm_segment", "definition": {"properties": []}}'), (27, '{"type": "rfm_segment", "definition": {"properties": [{"property": "customer_rfm_x"}]}}'),
	(28, '{"type": "rfm_segment", "definition": {"properties": [{"property": "customer_rfm_recency", "comparator": "equal"}]}}'), (29, '{"type": "rfm_segment", "definition": {"properties": [{"property": "customer_rfm_recency", "comparator": "is_in", "value": 5}]}}'),
	(30, '{"type": "rfm_segment", "definition": {"properties": [{"property": "customer_rfm_recency", "comparator": "is_in", "value": [1, "2"]}]}}'), (31, '{"type": "rfm_segment", "definition": {"properties": [{"property": "customer_rfm_recency", "comparator": "is_in", "value": [0]}]}}'),
	(32, '{"type": "rfm_segment", "definition": {"properties": [{"property": "customer_rfm_recency", "comparator": "is_in", "value": [1.5]}]}}')) AS v (n, r) ORDER BY n;
-- What can't be known here.
SELECT t, wrong(jsonb_build_object('type', t, 'definition', '{"sql": "DROP TABLE shop.orders"}'::jsonb)) FROM unnest('{lookalike_segment,predictive_analytics,whale_gpt}'::text[]) t;
-- Actions, counts and times.
SELECT r, wrong(act_with(r)) FROM (VALUES (1, jsonb '{"type": "bought"}'), (2, '{"type": null}'), (3, '{"comparator": "contain"}'), (4, '{"comparator": "more"}'), (5, '{"value": "1"}'), (6, '{"value": null}'), (7, '{"value": [1]}'), (8, '{"value": true}'),
	(9, '{"comparator": "between"}'), (10, '{"comparator": "between", "value": [1]}'), (11, '{"comparator": "between", "value": [2, 1]}'), (12, '{"comparator": "between", "value": [1, "2"]}'), (13, '{"comparator": "between", "value1": -2.5, "value2": -2.75}'),
	(14, '{"type": "a name that is long and has no end, so that it is cut where it is cut, with an ö and more"}')) AS v (n, r) ORDER BY n;
SELECT r, wrong(act_with('{}', r)) FROM (VALUES (1, jsonb '5'), (2, '{}'), (3, '{"comparator": "under"}'), (4, '{"comparator": "under", "value": 1}'), (5, '{"comparator": "under", "value": 1, "unit": "days"}'), (6, '{"comparator": "under", "value": 1, "unit": 5}'),
	(7, '{"comparator": "under", "unit": "day"}'), (8, '{"comparator": "under", "unit": "day", "value": "1"}'), (9, '{"comparator": "under", "unit": "day", "value": -1}'), (10, '{"comparator": "under", "unit": "day", "value": 1.5}'),
	(11, '{"comparator": "over", "unit": "year", "value": 1001}'), (12, '{"comparator": "over", "unit": "hour", "value": 1e40}'), (13, '{"comparator": "within", "unit": "day", "value": 1}'), (14, '{"comparator": "within", "unit": "day", "value1": 1}'),
	(15, '{"comparator": "before"}'), (16, '{"comparator": "before", "value": 20250101}'), (17, '{"comparator": "after", "value": "tomorrow"}'), (18, '{"comparator": "after", "value": "2025-02-29"}'), (19, '{"comparator": "after", "value": "2025-13-01"}'),
	(20, '{"comparator": "after", "value": "25.08.2025"}'), (21, '{"comparator": "after", "value": "2025-08-25T25:00"}'), (22, '{"comparator": "after", "value": "2025-08-25T10:00 PST"}'), (23, '{"comparator": "after", "value": "2025-08-25T10:00+02:"}'),
	(24, '{"comparator": "after", "value": "infinity"}'), (25, '{"comparator": "after", "value": ""}'), (26, '{"comparator": "between", "value1": "2025-01-01"}'), (27, '{"comparator": "between", "value1": "2025-01-02", "value2": "2025-01-01"}'),
	(28, '{"comparator": "equal", "value": "2025-01-01"}')) AS v (n, r) ORDER BY n;
-- Properties: of the action's source; comparators and values of the column's class.
SELECT p, wrong(act('made_purchase', 'greater_than', '0', '{"comparator": "over_all_time"}', p)) FROM (VALUES (1, jsonb '[]'), (2, '{}'), (3, '{"property": "colour", "comparator": "is_set"}'), (4, '{"property": "order_value", "comparator": "contain", "value": "5"}'),
	(5, '{"property": "order_value", "comparator": "equal", "value": "5"}'), (6, '{"property": "gift", "comparator": "equal", "value": 1}'), (7, '{"property": "gift", "comparator": "not_equal", "value": true}'), (8, '{"property": "source", "comparator": "greater_than", "value": 1}'),
	(9, '{"property": "source", "comparator": "equal", "value": ["a"]}'), (10, '{"property": "source", "comparator": "is_in", "value": "a"}'), (11, '{"property": "source", "comparator": "is_in", "value": ["a", null]}'), (12, '{"property": "source", "comparator": "array_contains", "value": "a"}')) AS v (n, p) ORDER BY n;
SELECT wrong(act('made_purchase', 'greater_than', '0', '{"comparator": "over_all_time"}', '{"property": "source", "comparator": "is_set"}', '{"property": "colour", "comparator": "is_set"}'));
SELECT wrong(prop('shoe_size', 'equal', '5')), wrong(prop('birthday', 'equal', '"1970-01-01"'));
-- A key that would be passed over.
SELECT wrong(r) FROM (VALUES (1, jsonb '{"type": "user_action", "definition": {"action": {"type": "made_purchase", "comparator": "equal", "value": 0}, "time": {"comparator": "over_all_time"}, "propertys": []}}'),
	(2, '{"type": "user_property", "definition": {"property": {"property": "name", "comparator": "is_set"}, "time": {}}}')) AS v (n, r) ORDER BY n;
-- Bounds: the depth, and how many conditions a query may have.
SELECT wrong(r) FROM (SELECT ('{"type":"NOT","filters":[') AS o, ']}' AS c) x, LATERAL (SELECT (repeat(o, 40) || '{"type": "user_property"}' || repeat(c, 40))::jsonb) AS y (r);
SELECT wrong(op('OR', VARIADIC array_agg(prop('name', 'is_set')))) FROM generate_series(1, 201);
SELECT wrong(jsonb_build_object('type', 'rfm_segment', 'definition', jsonb_build_object('properties', jsonb_agg('{"property": "customer_rfm_recency", "comparator": "is_in", "value": [1]}'::jsonb)))) FROM generate_series(1, 201);
-- Every function that takes rules says the same.
SELECT error_of(format('SELECT customer_segmentation.create_segment(''Wrong'', %L::jsonb)', r)), error_of(format('SELECT * FROM customer_segmentation.preview_segment(%L::jsonb)', r)) FROM (VALUES ('{"type": "AND", "filters": []}')) AS v (r);
SELECT error_of($$SELECT customer_segmentation.explain_rules('{}', 'phone')$$), error_of($$SELECT customer_segmentation.explain_rules('{}', 'email', 'infinity')$$), customer_segmentation.explain_rules(NULL);

-- Sources that are not there: 55000, and set_source is named.
SELECT unset_sources();
SELECT a, wrong(act(a, 'greater_than', '0')) FROM unnest('{made_purchase,new_customer_purchase,clicked_ad,visited_url,active_on_site,started_subscription,added_to_cart,started_checkout}'::text[]) a;
SELECT wrong(prop('name', 'is_set')), wrong(prop('customer_tag', 'is_set')), wrong(prop('total_orders_number', 'equal', '0'));
SELECT wrong('{"type": "rfm_segment", "definition": {"properties": [{"property": "customer_rfm_recency", "comparator": "is_in", "value": [1]}]}}');
SELECT customer_segmentation.set_source('subscriptions', 'subscriptions', '{"customer_id": "customer_id", "started_time": "started_at"}');
SELECT wrong(act('cancelled_subscription', 'greater_than', '0')), wrong(prop('customer_active_subscriptions_number', 'equal', '0'));
SELECT customer_segmentation.set_source('orders', 'orders', '{"customer_id": "customer_id", "time": "ordered_at", "amount": "amount"}');
SELECT error_of(format('SELECT customer_segmentation.explain_rules(%L, ''email'')', act('made_purchase', 'greater_than', '0')));
SELECT wrong(act('made_purchase', 'greater_than', '0', '{"comparator": "over_all_time"}', '{"property": "product_name", "comparator": "is_set"}'));
-- Who there is must be told by some source: customers, else orders and what the rules ask for.
SELECT customer_segmentation.set_source('orders', NULL), customer_segmentation.set_source('subscriptions', NULL), customer_segmentation.set_source('tags', 'tag_list', '{"customer_id": "customer_id", "customer_tag": "tag"}');
SELECT wrong('{"type": "segment_relation", "definition": {"property": {"value": "000000000000000000000000", "comparator": "is"}}}');
SELECT customer_segmentation.create_segment('Somebody', 'SELECT 1', segment_id => '00000000000000000000e440');
SELECT wrong('{"type": "segment_relation", "definition": {"property": {"value": "00000000000000000000e440", "comparator": "is"}}}');
SELECT customer_segmentation.drop_segment('00000000000000000000e440');
SELECT same(prop('customer_tag', 'not_equal', '"vip"'), $$SELECT customer_id FROM tag_list EXCEPT SELECT customer_id FROM tag_list WHERE tag = 'vip'$$);
SELECT unset_sources();
SELECT set_sources();
DROP FUNCTION wrong, act_with;
