SELECT segment_id, segment_name, instance_created_date, num_of_orders, total_revenue FROM :t WHERE customer_identity = :'customer'
