SELECT segment_id, segment_instance_id, sum(num_of_customers), sum(num_of_orders), sum(total_revenue) FROM :t GROUP BY 1, 2
