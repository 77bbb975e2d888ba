SELECT segment_id, segment_name
  FROM :t AS t
 WHERE customer_identity = :'customer'
   AND instance_created_date = (SELECT max(instance_created_date) FROM :t AS n WHERE n.segment_id = t.segment_id)
