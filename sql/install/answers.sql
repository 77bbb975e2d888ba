-- Answers: what analysts ask of segment history, read from membership masks.

CREATE FUNCTION customer_segmentation.segment_changes(
	from_instance text,
	to_instance text,
	relation regclass DEFAULT '@extschema@.customer_segmentation_table',
	OUT customer_identity text,
	OUT change text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'customer_segmentation_segment_changes'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

COMMENT ON FUNCTION customer_segmentation.segment_changes(text, text, regclass)
IS 'who entered and who left between two instances';

CREATE FUNCTION customer_segmentation.segment_dynamics(
	segment_id text,
	span interval DEFAULT '30 days',
	relation regclass DEFAULT '@extschema@.customer_segmentation_table',
	OUT segment_instance_id text,
	OUT instance_created_date timestamp,
	OUT base_instance_id text,
	OUT base_created_date timestamp,
	OUT num_of_customers bigint,
	OUT members_added bigint,
	OUT members_removed bigint,
	OUT net_members_changed bigint,
	OUT growth double precision,
	OUT attrition double precision,
	OUT persistence double precision,
	OUT continuous_persistence double precision,
	OUT loyalty double precision,
	OUT volatility double precision,
	OUT jaccard double precision)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'customer_segmentation_segment_dynamics'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION customer_segmentation.segment_dynamics(text, interval, regclass)
IS 'each instance of a segment against the one at the start of its window: growth, attrition, persistence, loyalty';

CREATE FUNCTION customer_segmentation.segment_overlap(
	as_of timestamptz DEFAULT NULL,
	relation regclass DEFAULT '@extschema@.customer_segmentation_table',
	OUT segment_a text,
	OUT segment_b text,
	OUT customers_a bigint,
	OUT customers_b bigint,
	OUT customers_both bigint,
	OUT share_of_a double precision,
	OUT share_of_b double precision,
	OUT jaccard double precision)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'customer_segmentation_segment_overlap'
LANGUAGE C STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION customer_segmentation.segment_overlap(timestamptz, regclass)
IS 'how many customers each two segments share, in their newest instances at or before as_of';

CREATE FUNCTION customer_segmentation.segment_transitions(
	at_start timestamptz,
	at_end timestamptz,
	relation regclass DEFAULT '@extschema@.customer_segmentation_table',
	OUT from_segment text,
	OUT to_segment text,
	OUT customers bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'customer_segmentation_segment_transitions'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION customer_segmentation.segment_transitions(timestamptz, timestamptz, regclass)
IS 'how many customers of one segment at the start are in another at the end; NULL stands for no segment';

CREATE FUNCTION customer_segmentation.customer_history(
	customer_identity text,
	relation regclass DEFAULT '@extschema@.customer_segmentation_table',
	OUT segment_id text,
	OUT segment_name text,
	OUT entered_at timestamp,
	OUT left_at timestamp,
	OUT instances bigint,
	OUT first_instance_id text,
	OUT last_instance_id text,
	OUT num_of_orders bigint,
	OUT total_revenue numeric)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'customer_segmentation_customer_history'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED ROWS 20
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION customer_segmentation.customer_history(text, regclass)
IS 'the unbroken spells of a customer in segments';

CREATE FUNCTION customer_segmentation.instance_as_of(
	segment_id text,
	at timestamptz,
	relation regclass DEFAULT '@extschema@.customer_segmentation_table',
	OUT segment_instance_id text)
RETURNS text
AS 'MODULE_PATHNAME', 'customer_segmentation_instance_as_of'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION customer_segmentation.instance_as_of(text, timestamptz, regclass)
IS 'the segment''s newest instance at or before a moment';

CREATE FUNCTION customer_segmentation.segment_performance(
	segment_id text,
	pinned_at timestamptz,
	span interval DEFAULT '30 days',
	instances_from timestamptz DEFAULT NULL,
	instances_to timestamptz DEFAULT NULL,
	relation regclass DEFAULT '@extschema@.customer_segmentation_table',
	OUT period text,
	OUT period_start timestamptz,
	OUT period_end timestamptz,
	OUT members bigint,
	OUT customers bigint,
	OUT orders bigint,
	OUT revenue numeric,
	OUT average_order_value numeric,
	OUT purchase_frequency numeric)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'customer_segmentation_segment_performance'
LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 2
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION customer_segmentation.segment_performance(text, timestamptz, interval, timestamptz, timestamptz, regclass)
IS 'what a segment''s members ordered before a date and after it';
