SELECT from_segment, to_segment, customers
  FROM (SELECT max(instance_created_date) AS at FROM :t) AS m,
       customer_segmentation.segment_transitions(at - interval '14 days', at::timestamptz)
