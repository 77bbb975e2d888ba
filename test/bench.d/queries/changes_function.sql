SELECT customer_identity, change FROM customer_segmentation.segment_changes(:'before', :'instance')
