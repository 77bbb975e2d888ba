SELECT count(DISTINCT customer_identity) FROM :t WHERE segment_instance_id = ANY (:'ids')
