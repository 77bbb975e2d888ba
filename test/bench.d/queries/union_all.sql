SELECT count(DISTINCT customer_identity) FROM :t
