SELECT customer_segmentation.cardinality(customer_segmentation.union_agg(customer_segmentation.members(segment_instance_id)))
  FROM customer_segmentation.segment_instances
 WHERE segment_id = :'listed' AND relation = 'customer_segmentation_table'::regclass
