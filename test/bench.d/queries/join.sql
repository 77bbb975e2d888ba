SELECT count(*), sum(o.amount)
  FROM :t AS t JOIN orders AS o ON o.customer_id = t.customer_identity
 WHERE t.segment_instance_id = :'instance'
