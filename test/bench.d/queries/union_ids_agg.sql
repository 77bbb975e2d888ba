SELECT customer_segmentation.cardinality(customer_segmentation.union_agg(customer_segmentation.members(i)))
  FROM unnest(:'ids'::text[]) AS i
