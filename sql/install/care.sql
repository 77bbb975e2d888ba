-- Care.

CREATE FUNCTION customer_segmentation.storage_info(
	relation regclass DEFAULT '@extschema@.customer_segmentation_table',
	OUT rows bigint,
	OUT instances bigint,
	OUT customers bigint,
	OUT groups bigint,
	OUT cells bigint,
	OUT bases bigint,
	OUT deltas bigint,
	OUT group_bytes bigint,
	OUT instance_bytes bigint,
	OUT base_bytes bigint,
	OUT delta_bytes bigint,
	OUT dictionary_bytes bigint,
	OUT total_bytes bigint,
	OUT bytes_per_row double precision)
AS 'MODULE_PATHNAME', 'customer_segmentation_storage_info'
LANGUAGE C STABLE STRICT
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION customer_segmentation.storage_info(regclass)
IS 'how a table is stored: rows, instances, customers, and bytes by kind of record';

CREATE FUNCTION customer_segmentation.verify(relation regclass DEFAULT '@extschema@.customer_segmentation_table')
RETURNS SETOF text
AS 'MODULE_PATHNAME', 'customer_segmentation_verify'
LANGUAGE C VOLATILE STRICT
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION customer_segmentation.verify(regclass)
IS 'checks every record, blob, count and sum of a table; one row per problem, none when it is sound';
