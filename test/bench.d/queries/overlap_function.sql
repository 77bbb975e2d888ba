SELECT DISTINCT least(segment_a, segment_b), greatest(segment_a, segment_b), customers_both
  FROM customer_segmentation.segment_overlap()
 WHERE segment_a <> segment_b AND customers_both > 0
