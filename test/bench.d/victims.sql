-- Seven customers to delete; some have long histories, some have short ones.
SELECT customer_identity FROM :t WHERE segment_instance_id = :'instance' ORDER BY md5('x' || customer_identity) LIMIT 7;
