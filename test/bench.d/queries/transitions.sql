WITH moment AS (SELECT max(instance_created_date) AS at FROM :t),
     edge AS (SELECT side, segment_id, max(instance_created_date) AS instance_created_date
                FROM (SELECT DISTINCT segment_id, instance_created_date FROM :t) AS i,
                     (SELECT 1 AS side, at - interval '14 days' AS at FROM moment UNION ALL SELECT 2, at FROM moment) AS m
               WHERE instance_created_date <= at GROUP BY 1, 2),
     member AS (SELECT side, segment_id, customer_identity FROM :t AS t JOIN edge AS e USING (segment_id, instance_created_date))
SELECT a.segment_id, b.segment_id, count(*)
  FROM (SELECT * FROM member WHERE side = 1) AS a FULL JOIN (SELECT * FROM member WHERE side = 2) AS b USING (customer_identity)
 GROUP BY 1, 2
