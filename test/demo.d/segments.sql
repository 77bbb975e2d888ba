SET search_path = public, customer_segmentation;

SELECT set_source('orders', 'orders', '{"customer_id": "customer_id", "time": "ordered_at", "amount": "amount"}');
SELECT set_source('customers', 'customers', '{"customer_id": "customer_id", "email": "email", "time": "first_order"}');

SELECT create_segment('At least 3 orders', rules => '{"type": "AND", "filters": [{"type": "user_action", "definition": {
  "action": {"type": "made_purchase", "comparator": "greater_than", "value": 2},
  "time": {"comparator": "over_all_time"}}}]}'::jsonb, segment_id => 'bc0b8e2e724aa38f3de484e4');

SELECT create_segment('Bought in the last 30 days', rules => '{"type": "AND", "filters": [{"type": "user_action", "definition": {
  "action": {"type": "made_purchase", "comparator": "greater_than", "value": 0},
  "time": {"comparator": "under", "value": 30, "unit": "day"}}}]}'::jsonb, segment_id => 'e12362a17a64450715e5db6e');

SELECT create_segment('One-time buyers', rules => '{"type": "AND", "filters": [{"type": "user_action", "definition": {
  "action": {"type": "made_purchase", "comparator": "equal", "value": 1},
  "time": {"comparator": "over_all_time"}}}]}'::jsonb, segment_by => 'email', segment_id => '0dcbc63fb3f4b19bf197389b');

SELECT create_segment('Spent over 100', $$SELECT c.email, count(*), sum(o.amount)
  FROM orders AS o JOIN customers AS c USING (customer_id) WHERE o.ordered_at <= as_of()
 GROUP BY c.email HAVING sum(o.amount) > 100$$, segment_by => 'email', segment_id => '76134a3fa3b43b7f235c2227');

SELECT create_segment('Lapsed for 90 days', $$SELECT c.email, count(*), sum(o.amount)
  FROM orders AS o JOIN customers AS c USING (customer_id) WHERE o.ordered_at <= as_of()
 GROUP BY c.email HAVING count(*) >= 2 AND max(o.ordered_at) < as_of() - interval '90 days'$$,
  segment_by => 'email', segment_id => '5753806b0ec231d3d8aacf66');

SELECT create_segment('First purchase in January, not active for 60 days', $$SELECT c.customer_id, count(*), sum(o.amount)
  FROM orders AS o JOIN customers AS c USING (customer_id) WHERE o.ordered_at <= as_of()
 GROUP BY c.customer_id HAVING extract(month FROM min(o.ordered_at)) = 1
   AND max(o.ordered_at) < as_of() - interval '60 days'$$,
  segment_id => 'ba5034cd7a22d63bed9c63b2');
