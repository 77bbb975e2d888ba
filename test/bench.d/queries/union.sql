SELECT count(DISTINCT customer_identity) FROM :t WHERE segment_id = :'listed'
