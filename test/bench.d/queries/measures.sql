SELECT segment_id, segment_instance_id, count(*), sum(total_revenue) FROM :t WHERE num_of_orders >= 3 GROUP BY 1, 2
