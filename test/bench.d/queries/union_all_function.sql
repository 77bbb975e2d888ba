SELECT customer_segmentation.cardinality(customer_segmentation.union_agg(customer_segmentation.members(segment_instance_id)))
  FROM customer_segmentation.stored_instances()
