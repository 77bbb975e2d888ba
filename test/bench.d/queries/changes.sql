SELECT customer_identity, 'entered'
  FROM (SELECT customer_identity FROM :t WHERE segment_instance_id = :'instance'
        EXCEPT SELECT customer_identity FROM :t WHERE segment_instance_id = :'before') AS entered
UNION ALL
SELECT customer_identity, 'left'
  FROM (SELECT customer_identity FROM :t WHERE segment_instance_id = :'before'
        EXCEPT SELECT customer_identity FROM :t WHERE segment_instance_id = :'instance') AS gone
