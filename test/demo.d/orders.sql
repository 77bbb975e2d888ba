-- Makes up the orders of a shop, the same each time: table typed.

-- Customers come over thirteen months; some order once, some now and then, a few every week or two.
SELECT setseed(0.25) \g /dev/null
CREATE UNLOGGED TABLE person AS
SELECT 5209503790000 + i * 7 AS customer, floor(400 * random() ^ 1.3)::int AS first_day,
	CASE WHEN random() < 0.5 THEN 0 WHEN random() < 0.8 THEN 1 + floor(4 * random())::int
		ELSE 5 + floor(20 * random())::int END AS repeats,
	10 + 80 * random() ^ 2 AS pace, 20 + 60 * random() AS basket
FROM generate_series(1, 5000) AS i;
CREATE UNLOGGED TABLE gap AS
SELECT customer, first_day, n, basket, CASE n WHEN 0 THEN 0 ELSE -pace * ln(1 - random()) END AS days,
	exp(0.5 * (random() + random() + random() + random() - 2)) AS size, random() AS clock
FROM person, generate_series(0, repeats) AS n;
CREATE UNLOGGED TABLE typed AS
SELECT customer::text, NULL::text AS email, at, amount
FROM (SELECT customer, timestamp '2024-07-22' + make_interval(days =>
		first_day + floor(sum(days) OVER (PARTITION BY customer ORDER BY n))::int) +
		make_interval(secs => floor(28800 + 50000 * clock)) AS at, round((basket * size)::numeric, 2) AS amount
	FROM gap) AS o
WHERE at < timestamp '2025-08-26';
