WITH segment AS (SELECT DISTINCT segment_id FROM :t WHERE customer_identity = :'customer'),
     instance AS (SELECT DISTINCT segment_id, segment_instance_id, instance_created_date
                    FROM segment JOIN :t AS t USING (segment_id)),
     numbered AS (SELECT *, row_number() OVER w AS n, lead(instance_created_date) OVER w AS next_date
                    FROM instance WINDOW w AS (PARTITION BY segment_id ORDER BY instance_created_date)),
     member AS (SELECT i.*, i.n - row_number() OVER (PARTITION BY i.segment_id ORDER BY i.n) AS spell
                  FROM numbered AS i JOIN :t AS t USING (segment_instance_id) WHERE t.customer_identity = :'customer'),
     spell AS (SELECT segment_id, min(n) AS first, max(n) AS last FROM member GROUP BY segment_id, spell)
SELECT s.segment_id, f.instance_created_date, l.next_date, s.last - s.first + 1
  FROM spell AS s JOIN member AS f ON f.segment_id = s.segment_id AND f.n = s.first
       JOIN member AS l ON l.segment_id = s.segment_id AND l.n = s.last
