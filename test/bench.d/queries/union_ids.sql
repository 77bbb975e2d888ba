SELECT count(DISTINCT customer_identity) FROM :t WHERE segment_instance_id = ANY ((:'listed_ids'::text[])[1 : :n])
