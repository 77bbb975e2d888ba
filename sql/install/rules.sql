-- Rules: which tables they speak of, what they compile to, and rules to start from.
--
-- As with segments, nobody but the extension's owner has a privilege on the table; set_source writes the caller's own
-- rows and list_sources shows those of the roles that the caller is a member of.

CREATE TABLE customer_segmentation.segment_source (
	owner regrole NOT NULL,
	source text NOT NULL,
	relation regclass NOT NULL,
	columns jsonb NOT NULL,
	PRIMARY KEY (owner, source)
) USING heap;

COMMENT ON TABLE customer_segmentation.segment_source IS 'which tables and columns rules speak of; see the view sources';

SELECT pg_catalog.pg_extension_config_dump('customer_segmentation.segment_source', '');

CREATE FUNCTION customer_segmentation.set_source(source text, relation regclass, columns jsonb DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'customer_segmentation_set_source'
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION customer_segmentation.set_source(text, regclass, jsonb)
IS 'tells rules which of your tables and columns a source is; a NULL relation takes it back';

CREATE FUNCTION customer_segmentation.list_sources(
	OUT owner regrole,
	OUT source text,
	OUT relation regclass,
	OUT columns jsonb)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'customer_segmentation_list_sources'
LANGUAGE C STABLE
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION customer_segmentation.list_sources()
IS 'the sources of the roles that the caller is a member of; behind the view sources';

CREATE VIEW customer_segmentation.sources WITH (security_invoker = true) AS
SELECT owner, source, relation, columns FROM customer_segmentation.list_sources();

COMMENT ON VIEW customer_segmentation.sources IS 'which tables and columns the rules of your segments speak of';

GRANT SELECT ON customer_segmentation.sources TO PUBLIC;

CREATE FUNCTION customer_segmentation.explain_rules(
	rules jsonb,
	segment_by text DEFAULT 'customer_id',
	as_of timestamptz DEFAULT NULL)
RETURNS text
AS 'MODULE_PATHNAME', 'customer_segmentation_explain_rules'
LANGUAGE C STABLE
SET search_path = pg_catalog, pg_temp
SET DateStyle = 'ISO, MDY'
SET IntervalStyle = 'postgres';

COMMENT ON FUNCTION customer_segmentation.explain_rules(jsonb, text, timestamptz)
IS 'the query that rules compile to, for the caller''s sources, with the values in it';

CREATE FUNCTION customer_segmentation.emptied_at(segment_id text, moment timestamptz)
RETURNS timestamp
AS 'MODULE_PATHNAME', 'customer_segmentation_emptied_at'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION customer_segmentation.emptied_at(text, timestamptz)
IS 'when a run last found nobody in the segment, by the segment''s clock; rules that refer to it ask';
