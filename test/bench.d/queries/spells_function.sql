SELECT segment_id, entered_at, left_at, instances FROM customer_segmentation.customer_history(:'customer')
