-- What is kept: instances of the past, retention, pins, drops.

CREATE FUNCTION customer_segmentation.backfill_segment(
	segment_id text,
	period_start timestamptz,
	period_end timestamptz,
	allow_current_state boolean DEFAULT false,
	replace_runs boolean DEFAULT false,
	OUT segment_instance_id text,
	OUT as_of timestamptz,
	OUT num_of_customers bigint,
	OUT action text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'customer_segmentation_backfill_segment'
LANGUAGE C VOLATILE;

COMMENT ON FUNCTION customer_segmentation.backfill_segment(text, timestamptz, timestamptz, boolean, boolean)
IS 'stores a segment''s instances of past periods, as runs at their due times would have stored them';

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
