CREATE SCHEMA customer_segmentation;
GRANT USAGE ON SCHEMA customer_segmentation TO PUBLIC;

-- The access method.

CREATE FUNCTION customer_segmentation.table_am_handler(internal)
RETURNS table_am_handler
AS 'MODULE_PATHNAME', 'customer_segmentation_handler'
LANGUAGE C STRICT;

REVOKE ALL ON FUNCTION customer_segmentation.table_am_handler(internal) FROM PUBLIC;

CREATE ACCESS METHOD customer_segmentation TYPE TABLE HANDLER customer_segmentation.table_am_handler;
COMMENT ON ACCESS METHOD customer_segmentation IS 'customer segment instances, stored as matrices';

-- The relation that BI users open, in the schema that CREATE EXTENSION names.

CREATE TABLE @extschema@.customer_segmentation_table (
	customer_identity text NOT NULL,
	instance_created_date timestamp NOT NULL,
	schedule text,
	segment_by text,
	segment_created_date timestamp,
	segment_id text NOT NULL,
	segment_instance_id text NOT NULL,
	segment_name text,
	num_of_customers bigint,
	num_of_orders bigint,
	total_revenue numeric
) USING customer_segmentation;

COMMENT ON TABLE @extschema@.customer_segmentation_table IS 'one row per customer per segment instance';
COMMENT ON COLUMN @extschema@.customer_segmentation_table.customer_identity IS 'e-mail address or customer id, as segment_by says';
COMMENT ON COLUMN @extschema@.customer_segmentation_table.instance_created_date IS 'when the instance (run, snapshot) was generated';
COMMENT ON COLUMN @extschema@.customer_segmentation_table.schedule IS 'how often the segment runs: once_a_day, once_a_week, ...';
COMMENT ON COLUMN @extschema@.customer_segmentation_table.segment_by IS 'customer_id or email';
COMMENT ON COLUMN @extschema@.customer_segmentation_table.segment_created_date IS 'when the segment was created';
COMMENT ON COLUMN @extschema@.customer_segmentation_table.segment_id IS 'the segment: 24 hexadecimal digits';
COMMENT ON COLUMN @extschema@.customer_segmentation_table.segment_instance_id IS 'the instance: segment_id and date';
COMMENT ON COLUMN @extschema@.customer_segmentation_table.segment_name IS 'the segment''s name when it ran';
COMMENT ON COLUMN @extschema@.customer_segmentation_table.num_of_customers IS 'this row''s share of the measure: 1';
COMMENT ON COLUMN @extschema@.customer_segmentation_table.num_of_orders IS 'orders of this customer in the relevant time window';
COMMENT ON COLUMN @extschema@.customer_segmentation_table.total_revenue IS 'revenue of this customer in that window';

SELECT pg_catalog.pg_extension_config_dump('@extschema@.customer_segmentation_table', '');
