SELECT segment_id, segment_name FROM customer_segmentation_latest WHERE customer_identity = :'customer'
