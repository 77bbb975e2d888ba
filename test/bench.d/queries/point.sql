SELECT num_of_orders, total_revenue FROM :t
 WHERE segment_instance_id = '555555555555555555555557_2020_01_02_12' AND customer_identity = 'customer165'
