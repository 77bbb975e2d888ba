-- A customer with a long history: of some members of the listed instance the one with about two rows a day.
SELECT customer_identity
  FROM :t
 WHERE customer_identity IN (SELECT customer_identity FROM :t WHERE segment_instance_id = :'instance'
                              ORDER BY md5(customer_identity) LIMIT 50)
 GROUP BY 1
 ORDER BY abs(count(*) - 2.15 * :days), 1
 LIMIT 1;
