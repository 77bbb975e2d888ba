SELECT customer_segmentation.cardinality(customer_segmentation.union_agg(customer_segmentation.members(i)))
  FROM unnest((:'listed_ids'::text[])[1 : :n]) AS i
