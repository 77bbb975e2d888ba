SELECT a.segment_id, b.segment_id, count(*)
  FROM :t AS a JOIN :t AS b USING (customer_identity)
 WHERE a.segment_instance_id IN (:newest) AND b.segment_instance_id IN (:newest) AND a.segment_id < b.segment_id
 GROUP BY 1, 2
