WITH instance AS (SELECT segment_instance_id, instance_created_date, row_number() OVER (ORDER BY instance_created_date) AS n
                    FROM (SELECT DISTINCT segment_instance_id, instance_created_date FROM :t WHERE segment_id = :'listed') AS i),
     row AS (SELECT n, customer_identity, n - row_number() OVER (PARTITION BY customer_identity ORDER BY n) AS spell
               FROM :t AS t JOIN instance AS i USING (segment_instance_id)),
     member AS (SELECT n, customer_identity, min(n) OVER (PARTITION BY customer_identity, spell) AS since FROM row),
     size AS (SELECT n, count(*) AS size FROM member GROUP BY n),
     span AS (SELECT e.n, max(b.n) AS base
                FROM instance AS e JOIN instance AS b ON b.instance_created_date <= e.instance_created_date - interval '30 days' GROUP BY e.n),
     stay AS (SELECT s.n, count(*) AS kept, count(*) FILTER (WHERE e.since <= s.base) AS loyal
                FROM span AS s JOIN member AS b ON b.n = s.base JOIN member AS e ON e.n = s.n AND e.customer_identity = b.customer_identity
               GROUP BY s.n)
SELECT i.segment_instance_id, e.size, e.size - kept, b.size - kept, loyal::float8 / b.size
  FROM instance AS i JOIN size AS e ON e.n = i.n
       LEFT JOIN span AS s ON s.n = i.n LEFT JOIN size AS b ON b.n = s.base LEFT JOIN stay ON stay.n = i.n
