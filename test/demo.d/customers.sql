-- The tables of a shop, orders and customers, from table typed. :type is that of customer ids.

CREATE TABLE orders (customer_id :type, email text, ordered_at timestamp, amount numeric);
INSERT INTO orders SELECT CAST(customer AS :type),
	lower(coalesce(email, CASE WHEN customer LIKE '%@%' THEN customer ELSE 'customer' || CAST(customer AS :type) || '@example.com' END)),
	at, amount FROM typed ORDER BY at;
-- A person keeps the first e-mail address: one customer, one identity of either kind.
CREATE TABLE customers AS
SELECT customer_id, (array_agg(email ORDER BY ordered_at))[1] AS email, min(ordered_at) AS first_order, count(*) AS orders
FROM orders GROUP BY customer_id;
DELETE FROM customers AS c USING customers AS d WHERE c.email = d.email AND c.customer_id > d.customer_id;
ALTER TABLE customers ADD PRIMARY KEY (customer_id), ADD UNIQUE (email);
VACUUM ANALYZE orders;
VACUUM ANALYZE customers;
