-- Rules to start from. Shares of the customers are said in RFM scores, as many and in the order as the settings have it.

CREATE FUNCTION customer_segmentation.rfm_scores(from_share numeric, to_share numeric)
RETURNS jsonb
LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
	WITH settings AS (
		SELECT coalesce(pg_catalog.current_setting('customer_segmentation.rfm_buckets', true), '5')::integer AS n,
			   coalesce(pg_catalog.current_setting('customer_segmentation.rfm_best', true), 'highest') OPERATOR(pg_catalog.=) 'lowest' AS turned),
	firsts AS (
		SELECT n, turned, least(n, pg_catalog.round(from_share OPERATOR(pg_catalog.*) n)::integer OPERATOR(pg_catalog.+) 1) AS first
		FROM settings)
	SELECT pg_catalog.jsonb_agg(CASE WHEN turned THEN n OPERATOR(pg_catalog.+) 1 OPERATOR(pg_catalog.-) s ELSE s END
								ORDER BY CASE WHEN turned THEN n OPERATOR(pg_catalog.+) 1 OPERATOR(pg_catalog.-) s ELSE s END)
	FROM firsts, pg_catalog.generate_series(first, greatest(first, pg_catalog.round(to_share OPERATOR(pg_catalog.*) n)::integer)) AS s;
END;

COMMENT ON FUNCTION customer_segmentation.rfm_scores(numeric, numeric)
IS 'the RFM scores of a share of the customers, 0 being the worst and 1 the best, by the settings';

CREATE VIEW customer_segmentation.segment_templates WITH (security_invoker = true) AS
WITH scores AS (
	SELECT customer_segmentation.rfm_scores(0.8, 1) AS top, customer_segmentation.rfm_scores(0.6, 1) AS upper,
		   customer_segmentation.rfm_scores(0, 0.4) AS lower),
templates (name, description, sources, rules) AS (
	VALUES
	('Big spenders', 'The fifth of the buyers who have spent most.', '{orders}'::text[],
	 '{"type": "rfm_segment", "definition": {"properties": [{"property": "customer_rfm_monetary", "comparator": "is_in", "value": "top"}]}}'::jsonb),
	('RFM champions', 'Among the two best fifths of the buyers by last purchase, by number of orders and by revenue.', '{orders}',
	 '{"type": "rfm_segment", "definition": {"properties": [{"property": "customer_rfm_recency", "comparator": "is_in", "value": "upper"},
		{"property": "customer_rfm_frequency", "comparator": "is_in", "value": "upper"}, {"property": "customer_rfm_monetary", "comparator": "is_in", "value": "upper"}]}}'),
	('RFM hibernating', 'Among the two worst fifths of the buyers by last purchase and by number of orders.', '{orders}',
	 '{"type": "rfm_segment", "definition": {"properties": [{"property": "customer_rfm_recency", "comparator": "is_in", "value": "lower"},
		{"property": "customer_rfm_frequency", "comparator": "is_in", "value": "lower"}]}}'),
	('Lapsed high-value', 'Big spenders without a purchase in the last 180 days.', '{orders}',
	 '{"type": "AND", "filters": [
		{"type": "rfm_segment", "definition": {"properties": [{"property": "customer_rfm_monetary", "comparator": "is_in", "value": "top"}]}},
		{"type": "user_action", "definition": {"action": {"type": "made_purchase", "comparator": "equal", "value": 0}, "time": {"comparator": "under", "value": 180, "unit": "day"}}}]}'),
	('One-time buyers', 'Have bought once, ever.', '{orders}',
	 '{"type": "user_action", "definition": {"action": {"type": "made_purchase", "comparator": "equal", "value": 1}, "time": {"comparator": "over_all_time"}}}'),
	('Repeat buyers', 'Have bought more than once.', '{orders}',
	 '{"type": "user_action", "definition": {"action": {"type": "made_purchase", "comparator": "greater_than", "value": 1}, "time": {"comparator": "over_all_time"}}}'),
	('Loyal customers', 'At least three purchases in the last year.', '{orders}',
	 '{"type": "user_action", "definition": {"action": {"type": "made_purchase", "comparator": "greater_or_equal", "value": 3}, "time": {"comparator": "under", "value": 1, "unit": "year"}}}'),
	('Active customers', 'Have bought in the last 90 days.', '{orders}',
	 '{"type": "user_action", "definition": {"action": {"type": "made_purchase", "comparator": "greater_than", "value": 0}, "time": {"comparator": "under", "value": 90, "unit": "day"}}}'),
	('New this month', 'Made the first purchase of all within the last month.', '{orders}',
	 '{"type": "user_action", "definition": {"action": {"type": "new_customer_purchase", "comparator": "greater_than", "value": 0}, "time": {"comparator": "under", "value": 1, "unit": "month"}}}'),
	('Came back soon', 'Made the first purchase within the last three months, and another one since.', '{orders}',
	 '{"type": "AND", "filters": [
		{"type": "user_action", "definition": {"action": {"type": "new_customer_purchase", "comparator": "greater_than", "value": 0}, "time": {"comparator": "under", "value": 3, "unit": "month"}}},
		{"type": "user_action", "definition": {"action": {"type": "returning_customer_purchase", "comparator": "greater_than", "value": 0}, "time": {"comparator": "under", "value": 3, "unit": "month"}}}]}'),
	('At risk', 'Repeat buyers who last bought between 90 and 180 days ago.', '{orders}',
	 '{"type": "AND", "filters": [
		{"type": "user_action", "definition": {"action": {"type": "made_purchase", "comparator": "greater_than", "value": 1}, "time": {"comparator": "over_all_time"}}},
		{"type": "user_action", "definition": {"action": {"type": "made_purchase", "comparator": "equal", "value": 0}, "time": {"comparator": "under", "value": 90, "unit": "day"}}},
		{"type": "user_action", "definition": {"action": {"type": "made_purchase", "comparator": "greater_than", "value": 0}, "time": {"comparator": "under", "value": 180, "unit": "day"}}}]}'),
	('Lost customers', 'Have bought, but not in the last year.', '{orders}',
	 '{"type": "AND", "filters": [
		{"type": "user_action", "definition": {"action": {"type": "made_purchase", "comparator": "greater_than", "value": 0}, "time": {"comparator": "over_all_time"}}},
		{"type": "user_action", "definition": {"action": {"type": "made_purchase", "comparator": "equal", "value": 0}, "time": {"comparator": "under", "value": 1, "unit": "year"}}}]}'),
	('Won back', 'Have bought in the last 30 days, after half a year or more without a purchase.', '{orders}',
	 '{"type": "AND", "filters": [
		{"type": "user_action", "definition": {"action": {"type": "made_purchase", "comparator": "greater_than", "value": 0}, "time": {"comparator": "under", "value": 30, "unit": "day"}}},
		{"type": "user_action", "definition": {"action": {"type": "made_purchase", "comparator": "equal", "value": 0}, "time": {"comparator": "within", "value1": 210, "value2": 30, "unit": "day"}}},
		{"type": "user_action", "definition": {"action": {"type": "made_purchase", "comparator": "greater_than", "value": 0}, "time": {"comparator": "over", "value": 210, "unit": "day"}}}]}'),
	('Never bought', 'Known customers without a purchase.', '{customers,orders}',
	 '{"type": "user_action", "definition": {"action": {"type": "made_purchase", "comparator": "equal", "value": 0}, "time": {"comparator": "over_all_time"}}}'),
	('Abandoned carts', 'Put something into the cart in the last 7 days and bought nothing.', '{carts,orders}',
	 '{"type": "AND", "filters": [
		{"type": "user_action", "definition": {"action": {"type": "added_to_cart", "comparator": "greater_than", "value": 0}, "time": {"comparator": "under", "value": 7, "unit": "day"}}},
		{"type": "user_action", "definition": {"action": {"type": "made_purchase", "comparator": "equal", "value": 0}, "time": {"comparator": "under", "value": 7, "unit": "day"}}}]}'),
	('Abandoned checkouts', 'Started a checkout in the last 7 days and bought nothing.', '{checkouts,orders}',
	 '{"type": "AND", "filters": [
		{"type": "user_action", "definition": {"action": {"type": "started_checkout", "comparator": "greater_than", "value": 0}, "time": {"comparator": "under", "value": 7, "unit": "day"}}},
		{"type": "user_action", "definition": {"action": {"type": "made_purchase", "comparator": "equal", "value": 0}, "time": {"comparator": "under", "value": 7, "unit": "day"}}}]}'),
	('Window shoppers', 'Visited the site in the last 30 days and never bought anything.', '{orders,visits}',
	 '{"type": "AND", "filters": [
		{"type": "user_action", "definition": {"action": {"type": "active_on_site", "comparator": "greater_than", "value": 0}, "time": {"comparator": "under", "value": 30, "unit": "day"}}},
		{"type": "user_action", "definition": {"action": {"type": "made_purchase", "comparator": "equal", "value": 0}, "time": {"comparator": "over_all_time"}}}]}'),
	('Subscribers', 'Have an active subscription. Subscriptions must be mapped as a row each, with started_time and cancelled_time.', '{subscriptions}',
	 '{"type": "user_property", "definition": {"property": {"property": "customer_active_subscriptions_number", "comparator": "greater_than", "value": 0}}}'),
	('Former subscribers', 'Cancelled a subscription in the last 90 days. With subscriptions that are mapped as a row each or as events.', '{subscriptions}',
	 '{"type": "user_action", "definition": {"action": {"type": "cancelled_subscription", "comparator": "greater_than", "value": 0}, "time": {"comparator": "under", "value": 90, "unit": "day"}}}'))
SELECT t.name, t.description,
	   pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(t.rules::text, '"top"', s.top::text), '"upper"', s.upper::text), '"lower"', s.lower::text)::jsonb AS rules,
	   t.sources,
	   t.sources OPERATOR(pg_catalog.<@) ARRAY(SELECT m.source FROM customer_segmentation.sources AS m
											   WHERE m.owner OPERATOR(pg_catalog.=) CURRENT_USER::regrole) AS available
FROM templates AS t CROSS JOIN scores AS s;

COMMENT ON VIEW customer_segmentation.segment_templates IS 'rules to start from, the sources they need, and whether you have set those';

GRANT SELECT ON customer_segmentation.segment_templates TO PUBLIC;
