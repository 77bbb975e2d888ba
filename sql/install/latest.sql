-- The newest instance of each segment.

CREATE FUNCTION customer_segmentation.newest_instances(
	relation regclass DEFAULT '@extschema@.customer_segmentation_table')
RETURNS text[]
AS 'MODULE_PATHNAME', 'customer_segmentation_newest_instances'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION customer_segmentation.newest_instances(regclass)
IS 'the segment_instance_id of each segment''s newest instance, from metadata';

-- The sub-select is evaluated once, before the scan, whatever the plan is.
CREATE VIEW @extschema@.customer_segmentation_latest WITH (security_invoker) AS
SELECT t.customer_identity, t.instance_created_date, t.schedule, t.segment_by, t.segment_created_date, t.segment_id,
	t.segment_instance_id, t.segment_name, t.num_of_customers, t.num_of_orders, t.total_revenue
FROM @extschema@.customer_segmentation_table AS t
WHERE t.segment_instance_id OPERATOR(pg_catalog.=) ANY ((
	SELECT customer_segmentation.newest_instances('@extschema@.customer_segmentation_table'))::pg_catalog.text[]);

COMMENT ON VIEW @extschema@.customer_segmentation_latest
IS 'the rows of each segment''s newest instance, so that totals are not inflated by history';
COMMENT ON COLUMN @extschema@.customer_segmentation_latest.customer_identity IS 'e-mail address or customer id, as segment_by says';
COMMENT ON COLUMN @extschema@.customer_segmentation_latest.instance_created_date IS 'when the instance (run, snapshot) was generated';
COMMENT ON COLUMN @extschema@.customer_segmentation_latest.schedule IS 'how often the segment runs: once_a_day, once_a_week, ...';
COMMENT ON COLUMN @extschema@.customer_segmentation_latest.segment_by IS 'customer_id or email';
COMMENT ON COLUMN @extschema@.customer_segmentation_latest.segment_created_date IS 'when the segment was created';
COMMENT ON COLUMN @extschema@.customer_segmentation_latest.segment_id IS 'the segment: 24 hexadecimal digits';
COMMENT ON COLUMN @extschema@.customer_segmentation_latest.segment_instance_id IS 'the instance: segment_id and date';
COMMENT ON COLUMN @extschema@.customer_segmentation_latest.segment_name IS 'the segment''s name when it ran';
COMMENT ON COLUMN @extschema@.customer_segmentation_latest.num_of_customers IS 'this row''s share of the measure: 1';
COMMENT ON COLUMN @extschema@.customer_segmentation_latest.num_of_orders IS 'orders of this customer in the relevant time window';
COMMENT ON COLUMN @extschema@.customer_segmentation_latest.total_revenue IS 'revenue of this customer in that window';
