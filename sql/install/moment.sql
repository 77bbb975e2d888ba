-- The moment for which a definition is evaluated.

CREATE FUNCTION customer_segmentation.as_of()
RETURNS timestamptz
AS 'MODULE_PATHNAME', 'customer_segmentation_as_of'
LANGUAGE C STABLE PARALLEL SAFE;

COMMENT ON FUNCTION customer_segmentation.as_of()
IS 'the moment of the run that evaluates a definition; now, outside of a run';
