-- The moment for which a definition is evaluated.

CREATE FUNCTION customer_segmentation.as_of()
RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT coalesce(nullif(pg_catalog.current_setting('customer_segmentation.as_of', true), '')::timestamptz,
					pg_catalog.transaction_timestamp());
END;

COMMENT ON FUNCTION customer_segmentation.as_of()
IS 'the moment of the run that evaluates a definition; now, outside of a run';
