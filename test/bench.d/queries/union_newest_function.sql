SELECT customer_segmentation.cardinality(customer_segmentation.members(ARRAY[:newest]))
