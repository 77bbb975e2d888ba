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

CREATE FUNCTION customer_segmentation.verify(
	relation regclass DEFAULT '@extschema@.customer_segmentation_table',
	OUT problem text)
RETURNS SETOF text
AS 'MODULE_PATHNAME', 'customer_segmentation_verify'
LANGUAGE C VOLATILE STRICT
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION customer_segmentation.verify(regclass)
IS 'checks every record, blob, count and sum of a table; one row per problem, none when it is sound';

CREATE FUNCTION customer_segmentation.optimize(relation regclass DEFAULT '@extschema@.customer_segmentation_table')
RETURNS void
AS 'MODULE_PATHNAME', 'customer_segmentation_optimize'
LANGUAGE C VOLATILE STRICT
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION customer_segmentation.optimize(regclass)
IS 'rewrites a table into its best layout; readers go on meanwhile, writers wait';

CREATE FUNCTION customer_segmentation.erase_customer(
	customer_identity text,
	relation regclass DEFAULT '@extschema@.customer_segmentation_table',
	OUT instances_touched bigint,
	OUT rows_removed bigint)
AS 'MODULE_PATHNAME', 'customer_segmentation_erase_customer'
LANGUAGE C VOLATILE STRICT
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION customer_segmentation.erase_customer(text, regclass)
IS 'removes a customer from every instance, the dictionary, column statistics and errors of runs; physically gone after VACUUM FULL';

-- Exchange.

CREATE FUNCTION customer_segmentation.export_instances(
	relation regclass DEFAULT '@extschema@.customer_segmentation_table')
RETURNS SETOF bytea
AS 'MODULE_PATHNAME', 'customer_segmentation_export_instances'
LANGUAGE C STABLE STRICT
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION customer_segmentation.export_instances(regclass)
IS 'all instances of a table in compact form, up to 64 of a segment a row';

CREATE FUNCTION customer_segmentation.exported_rows(
	instances bytea,
	OUT customer_identity text,
	OUT instance_created_date timestamp,
	OUT schedule text,
	OUT segment_by text,
	OUT segment_created_date timestamp,
	OUT segment_id text,
	OUT segment_instance_id text,
	OUT segment_name text,
	OUT num_of_customers bigint,
	OUT num_of_orders bigint,
	OUT total_revenue numeric)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'customer_segmentation_exported_rows'
LANGUAGE C STABLE STRICT
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION customer_segmentation.exported_rows(bytea)
IS 'the rows in what export_instances wrote';

CREATE FUNCTION customer_segmentation.import_instances(
	instances bytea,
	relation regclass DEFAULT '@extschema@.customer_segmentation_table',
	OUT segment_instance_id text)
RETURNS SETOF text
AS 'MODULE_PATHNAME', 'customer_segmentation_import_instances'
LANGUAGE C VOLATILE STRICT
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION customer_segmentation.import_instances(bytea, regclass)
IS 'inserts what export_instances wrote into a table; returns the segment_instance_ids';
