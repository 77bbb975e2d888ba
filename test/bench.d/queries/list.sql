SELECT customer_identity, num_of_orders, total_revenue FROM :t WHERE segment_instance_id = :'instance'
