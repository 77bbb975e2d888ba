-- What makes a heap table of instances usable: by instance, by customer, by segment and time.
CREATE INDEX ON :t (segment_instance_id);
CREATE INDEX ON :t (customer_identity);
CREATE INDEX ON :t (segment_id, instance_created_date);
