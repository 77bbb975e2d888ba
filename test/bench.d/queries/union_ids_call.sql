SELECT customer_segmentation.cardinality(customer_segmentation.members((:'listed_ids'::text[])[1 : :n]))
