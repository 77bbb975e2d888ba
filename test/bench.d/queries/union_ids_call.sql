SELECT customer_segmentation.cardinality(customer_segmentation.members(:'ids'::text[]))
