SELECT segment_instance_id, num_of_customers, members_added, members_removed, continuous_persistence
  FROM customer_segmentation.segment_dynamics(:'listed', interval '30 days')
