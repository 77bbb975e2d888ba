SELECT segment_id, count(DISTINCT customer_identity) FROM :t GROUP BY 1
