SELECT count(*), sum(num_of_orders), max(total_revenue) FROM :t WHERE num_of_orders >= 3 AND total_revenue > 100
