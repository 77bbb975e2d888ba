SELECT max(octet_length(customer_identity)), max(instance_created_date), count(schedule), count(segment_by),
       max(segment_created_date), count(segment_id), count(segment_instance_id), count(segment_name),
       sum(num_of_customers), sum(num_of_orders), sum(total_revenue)
  FROM :t
