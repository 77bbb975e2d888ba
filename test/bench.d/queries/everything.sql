SELECT count(*), sum(total_revenue) FROM :t
