-- What is kept: retention, pins, drops.

CREATE FUNCTION customer_segmentation.set_retention(segment_id text, keep interval, keep_every text DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'customer_segmentation_set_retention'
LANGUAGE C VOLATILE;

COMMENT ON FUNCTION customer_segmentation.set_retention(text, interval, text)
IS 'how long every instance of a segment is kept, and how they are thinned out after that; NULL keeps all';

CREATE FUNCTION customer_segmentation.apply_retention(
	segment_id text,
	as_of timestamptz DEFAULT NULL,
	dry_run boolean DEFAULT false,
	OUT segment_instance_id text)
RETURNS SETOF text
AS 'MODULE_PATHNAME', 'customer_segmentation_apply_retention'
LANGUAGE C VOLATILE;

COMMENT ON FUNCTION customer_segmentation.apply_retention(text, timestamptz, boolean)
IS 'drops the instances that the segment''s retention lets go, or tells which these are; run_due_segments does it too';

CREATE FUNCTION customer_segmentation.pin_instance(
	segment_instance_id text,
	pinned boolean DEFAULT true,
	relation regclass DEFAULT '@extschema@.customer_segmentation_table')
RETURNS void
AS 'MODULE_PATHNAME', 'customer_segmentation_pin_instance'
LANGUAGE C VOLATILE;

COMMENT ON FUNCTION customer_segmentation.pin_instance(text, boolean, regclass)
IS 'keeps an instance whatever its segment''s retention says, until the pin is taken off';

CREATE FUNCTION customer_segmentation.drop_instance(
	segment_instance_id text,
	relation regclass DEFAULT '@extschema@.customer_segmentation_table')
RETURNS void
AS 'MODULE_PATHNAME', 'customer_segmentation_drop_instance'
LANGUAGE C VOLATILE;

COMMENT ON FUNCTION customer_segmentation.drop_instance(text, regclass)
IS 'drops an instance that is not pinned; VACUUM frees its space';
