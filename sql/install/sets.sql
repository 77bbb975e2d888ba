-- customer_set: a set of customers of one table, and its algebra.
--
-- Operators are created where the two relations are, so that they are found; everything else is in the extension's
-- schema. What looks into a table that may be a temporary one is not for parallel workers. The algebra is: of sets in
-- their text form only those of other tables are looked up so late.

CREATE TYPE customer_segmentation.customer_set;

CREATE FUNCTION customer_segmentation.customer_set_in(cstring)
RETURNS customer_segmentation.customer_set
AS 'MODULE_PATHNAME', 'customer_segmentation_set_in'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

CREATE FUNCTION customer_segmentation.customer_set_out(customer_segmentation.customer_set)
RETURNS cstring
AS 'MODULE_PATHNAME', 'customer_segmentation_set_out'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

CREATE FUNCTION customer_segmentation.customer_set_recv(internal)
RETURNS customer_segmentation.customer_set
AS 'MODULE_PATHNAME', 'customer_segmentation_set_recv'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

CREATE FUNCTION customer_segmentation.customer_set_send(customer_segmentation.customer_set)
RETURNS bytea
AS 'MODULE_PATHNAME', 'customer_segmentation_set_send'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

CREATE FUNCTION customer_segmentation.customer_set_typanalyze(internal)
RETURNS boolean
AS 'MODULE_PATHNAME', 'customer_segmentation_set_typanalyze'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

-- Out of line it is stored as it is: what the bitmap's own forms leave is hardly compressible, and would have to be
-- decompressed for every use.
CREATE TYPE customer_segmentation.customer_set (
	INPUT = customer_segmentation.customer_set_in,
	OUTPUT = customer_segmentation.customer_set_out,
	RECEIVE = customer_segmentation.customer_set_recv,
	SEND = customer_segmentation.customer_set_send,
	ANALYZE = customer_segmentation.customer_set_typanalyze,
	INTERNALLENGTH = VARIABLE,
	ALIGNMENT = int4,
	STORAGE = external
);

COMMENT ON TYPE customer_segmentation.customer_set IS 'a compressed set of customers of one table';

-- What it is made of.

CREATE FUNCTION customer_segmentation.members(
	segment_instance_id text,
	relation regclass DEFAULT '@extschema@.customer_segmentation_table')
RETURNS customer_segmentation.customer_set
AS 'MODULE_PATHNAME', 'customer_segmentation_members'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

COMMENT ON FUNCTION customer_segmentation.members(text, regclass) IS 'the customers of an instance, as a set';

CREATE FUNCTION customer_segmentation.members(
	segment_instance_ids text[],
	relation regclass DEFAULT '@extschema@.customer_segmentation_table')
RETURNS customer_segmentation.customer_set
AS 'MODULE_PATHNAME', 'customer_segmentation_members_of_any'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

COMMENT ON FUNCTION customer_segmentation.members(text[], regclass) IS 'the customers of any of several instances, as a set';

CREATE FUNCTION customer_segmentation.identities(customer_segmentation.customer_set)
RETURNS SETOF text
AS 'MODULE_PATHNAME', 'customer_segmentation_identities'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

COMMENT ON FUNCTION customer_segmentation.identities(customer_segmentation.customer_set) IS 'the customers of a set';

CREATE FUNCTION customer_segmentation.cardinality(customer_segmentation.customer_set)
RETURNS bigint
AS 'MODULE_PATHNAME', 'customer_segmentation_set_cardinality'
LANGUAGE C STABLE STRICT PARALLEL SAFE;

COMMENT ON FUNCTION customer_segmentation.cardinality(customer_segmentation.customer_set)
IS 'how many customers are in a set';

-- Algebra.

CREATE FUNCTION customer_segmentation.set_and(customer_segmentation.customer_set, customer_segmentation.customer_set)
RETURNS customer_segmentation.customer_set
AS 'MODULE_PATHNAME', 'customer_segmentation_set_and'
LANGUAGE C STABLE STRICT PARALLEL SAFE;

COMMENT ON FUNCTION customer_segmentation.set_and(customer_segmentation.customer_set, customer_segmentation.customer_set)
IS 'customers in both sets';

CREATE FUNCTION customer_segmentation.set_or(customer_segmentation.customer_set, customer_segmentation.customer_set)
RETURNS customer_segmentation.customer_set
AS 'MODULE_PATHNAME', 'customer_segmentation_set_or'
LANGUAGE C STABLE STRICT PARALLEL SAFE;

COMMENT ON FUNCTION customer_segmentation.set_or(customer_segmentation.customer_set, customer_segmentation.customer_set)
IS 'customers in either set';

CREATE FUNCTION customer_segmentation.set_except(customer_segmentation.customer_set, customer_segmentation.customer_set)
RETURNS customer_segmentation.customer_set
AS 'MODULE_PATHNAME', 'customer_segmentation_set_except'
LANGUAGE C STABLE STRICT PARALLEL SAFE;

COMMENT ON FUNCTION customer_segmentation.set_except(customer_segmentation.customer_set, customer_segmentation.customer_set)
IS 'customers in the first set and not in the second';

CREATE FUNCTION customer_segmentation.set_xor(customer_segmentation.customer_set, customer_segmentation.customer_set)
RETURNS customer_segmentation.customer_set
AS 'MODULE_PATHNAME', 'customer_segmentation_set_xor'
LANGUAGE C STABLE STRICT PARALLEL SAFE;

COMMENT ON FUNCTION customer_segmentation.set_xor(customer_segmentation.customer_set, customer_segmentation.customer_set)
IS 'customers in exactly one of the sets';

CREATE FUNCTION customer_segmentation.set_equal(customer_segmentation.customer_set, customer_segmentation.customer_set)
RETURNS boolean
AS 'MODULE_PATHNAME', 'customer_segmentation_set_equal'
LANGUAGE C STABLE STRICT PARALLEL SAFE;

CREATE FUNCTION customer_segmentation.set_not_equal(customer_segmentation.customer_set, customer_segmentation.customer_set)
RETURNS boolean
AS 'MODULE_PATHNAME', 'customer_segmentation_set_not_equal'
LANGUAGE C STABLE STRICT PARALLEL SAFE;

CREATE FUNCTION customer_segmentation.contains(customer_segmentation.customer_set, customer_segmentation.customer_set)
RETURNS boolean
AS 'MODULE_PATHNAME', 'customer_segmentation_set_contains'
LANGUAGE C STABLE STRICT PARALLEL SAFE;

COMMENT ON FUNCTION customer_segmentation.contains(customer_segmentation.customer_set, customer_segmentation.customer_set)
IS 'are all customers of the second set in the first?';

CREATE FUNCTION customer_segmentation.contains(customer_segmentation.customer_set, text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'customer_segmentation_set_contains_identity'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

COMMENT ON FUNCTION customer_segmentation.contains(customer_segmentation.customer_set, text)
IS 'is the customer in the set?';

CREATE FUNCTION customer_segmentation.contained(customer_segmentation.customer_set, customer_segmentation.customer_set)
RETURNS boolean
AS 'MODULE_PATHNAME', 'customer_segmentation_set_contained'
LANGUAGE C STABLE STRICT PARALLEL SAFE;

COMMENT ON FUNCTION customer_segmentation.contained(customer_segmentation.customer_set, customer_segmentation.customer_set)
IS 'are all customers of the first set in the second?';

CREATE FUNCTION customer_segmentation.overlaps(customer_segmentation.customer_set, customer_segmentation.customer_set)
RETURNS boolean
AS 'MODULE_PATHNAME', 'customer_segmentation_set_overlaps'
LANGUAGE C STABLE STRICT PARALLEL SAFE;

COMMENT ON FUNCTION customer_segmentation.overlaps(customer_segmentation.customer_set, customer_segmentation.customer_set)
IS 'is any customer in both sets?';

CREATE OPERATOR @extschema@.& (
	LEFTARG = customer_segmentation.customer_set, RIGHTARG = customer_segmentation.customer_set,
	FUNCTION = customer_segmentation.set_and, COMMUTATOR = OPERATOR(@extschema@.&));

CREATE OPERATOR @extschema@.| (
	LEFTARG = customer_segmentation.customer_set, RIGHTARG = customer_segmentation.customer_set,
	FUNCTION = customer_segmentation.set_or, COMMUTATOR = OPERATOR(@extschema@.|));

CREATE OPERATOR @extschema@.- (
	LEFTARG = customer_segmentation.customer_set, RIGHTARG = customer_segmentation.customer_set,
	FUNCTION = customer_segmentation.set_except);

CREATE OPERATOR @extschema@.# (
	LEFTARG = customer_segmentation.customer_set, RIGHTARG = customer_segmentation.customer_set,
	FUNCTION = customer_segmentation.set_xor, COMMUTATOR = OPERATOR(@extschema@.#));

CREATE OPERATOR @extschema@.= (
	LEFTARG = customer_segmentation.customer_set, RIGHTARG = customer_segmentation.customer_set,
	FUNCTION = customer_segmentation.set_equal, COMMUTATOR = OPERATOR(@extschema@.=),
	NEGATOR = OPERATOR(@extschema@.<>), RESTRICT = pg_catalog.eqsel, JOIN = pg_catalog.eqjoinsel, HASHES);

CREATE OPERATOR @extschema@.<> (
	LEFTARG = customer_segmentation.customer_set, RIGHTARG = customer_segmentation.customer_set,
	FUNCTION = customer_segmentation.set_not_equal, COMMUTATOR = OPERATOR(@extschema@.<>),
	NEGATOR = OPERATOR(@extschema@.=), RESTRICT = pg_catalog.neqsel, JOIN = pg_catalog.neqjoinsel);

CREATE OPERATOR @extschema@.@> (
	LEFTARG = customer_segmentation.customer_set, RIGHTARG = customer_segmentation.customer_set,
	FUNCTION = customer_segmentation.contains, COMMUTATOR = OPERATOR(@extschema@.<@),
	RESTRICT = pg_catalog.contsel, JOIN = pg_catalog.contjoinsel);

CREATE OPERATOR @extschema@.<@ (
	LEFTARG = customer_segmentation.customer_set, RIGHTARG = customer_segmentation.customer_set,
	FUNCTION = customer_segmentation.contained, COMMUTATOR = OPERATOR(@extschema@.@>),
	RESTRICT = pg_catalog.contsel, JOIN = pg_catalog.contjoinsel);

CREATE OPERATOR @extschema@.@> (
	LEFTARG = customer_segmentation.customer_set, RIGHTARG = text,
	FUNCTION = customer_segmentation.contains, RESTRICT = pg_catalog.contsel, JOIN = pg_catalog.contjoinsel);

CREATE OPERATOR @extschema@.&& (
	LEFTARG = customer_segmentation.customer_set, RIGHTARG = customer_segmentation.customer_set,
	FUNCTION = customer_segmentation.overlaps, COMMUTATOR = OPERATOR(@extschema@.&&),
	RESTRICT = pg_catalog.contsel, JOIN = pg_catalog.contjoinsel);

CREATE FUNCTION customer_segmentation.customer_set_hash(customer_segmentation.customer_set)
RETURNS integer
AS 'MODULE_PATHNAME', 'customer_segmentation_set_hash'
LANGUAGE C STABLE STRICT PARALLEL SAFE;

CREATE FUNCTION customer_segmentation.customer_set_hash_extended(customer_segmentation.customer_set, bigint)
RETURNS bigint
AS 'MODULE_PATHNAME', 'customer_segmentation_set_hash_extended'
LANGUAGE C STABLE STRICT PARALLEL SAFE;

CREATE OPERATOR CLASS customer_segmentation.customer_set_hash_ops
DEFAULT FOR TYPE customer_segmentation.customer_set USING hash AS
	OPERATOR 1 @extschema@.= (customer_segmentation.customer_set, customer_segmentation.customer_set),
	FUNCTION 1 customer_segmentation.customer_set_hash(customer_segmentation.customer_set),
	FUNCTION 2 customer_segmentation.customer_set_hash_extended(customer_segmentation.customer_set, bigint);

-- Aggregates.

CREATE FUNCTION customer_segmentation.union_step(internal, customer_segmentation.customer_set)
RETURNS internal
AS 'MODULE_PATHNAME', 'customer_segmentation_union_step'
LANGUAGE C STABLE PARALLEL SAFE;

CREATE FUNCTION customer_segmentation.intersect_step(internal, customer_segmentation.customer_set)
RETURNS internal
AS 'MODULE_PATHNAME', 'customer_segmentation_intersect_step'
LANGUAGE C STABLE PARALLEL SAFE;

CREATE FUNCTION customer_segmentation.union_combine(internal, internal)
RETURNS internal
AS 'MODULE_PATHNAME', 'customer_segmentation_union_combine'
LANGUAGE C STABLE PARALLEL SAFE;

CREATE FUNCTION customer_segmentation.intersect_combine(internal, internal)
RETURNS internal
AS 'MODULE_PATHNAME', 'customer_segmentation_intersect_combine'
LANGUAGE C STABLE PARALLEL SAFE;

CREATE FUNCTION customer_segmentation.set_serialize(internal)
RETURNS bytea
AS 'MODULE_PATHNAME', 'customer_segmentation_set_serialize'
LANGUAGE C STABLE STRICT PARALLEL SAFE;

CREATE FUNCTION customer_segmentation.set_deserialize(bytea, internal)
RETURNS internal
AS 'MODULE_PATHNAME', 'customer_segmentation_set_deserialize'
LANGUAGE C STABLE STRICT PARALLEL SAFE;

CREATE FUNCTION customer_segmentation.set_final(internal)
RETURNS customer_segmentation.customer_set
AS 'MODULE_PATHNAME', 'customer_segmentation_set_final'
LANGUAGE C STABLE PARALLEL SAFE;

CREATE AGGREGATE customer_segmentation.union_agg(customer_segmentation.customer_set) (
	SFUNC = customer_segmentation.union_step, STYPE = internal, FINALFUNC = customer_segmentation.set_final,
	COMBINEFUNC = customer_segmentation.union_combine, SERIALFUNC = customer_segmentation.set_serialize,
	DESERIALFUNC = customer_segmentation.set_deserialize, PARALLEL = SAFE);

COMMENT ON AGGREGATE customer_segmentation.union_agg(customer_segmentation.customer_set)
IS 'customers in any of the sets';

CREATE AGGREGATE customer_segmentation.intersect_agg(customer_segmentation.customer_set) (
	SFUNC = customer_segmentation.intersect_step, STYPE = internal, FINALFUNC = customer_segmentation.set_final,
	COMBINEFUNC = customer_segmentation.intersect_combine, SERIALFUNC = customer_segmentation.set_serialize,
	DESERIALFUNC = customer_segmentation.set_deserialize, PARALLEL = SAFE);

COMMENT ON AGGREGATE customer_segmentation.intersect_agg(customer_segmentation.customer_set)
IS 'customers in all of the sets';

-- The portable Roaring format, of the customers' numbers in the table.

CREATE FUNCTION customer_segmentation.to_roaring(customer_segmentation.customer_set)
RETURNS bytea
AS 'MODULE_PATHNAME', 'customer_segmentation_set_to_roaring'
LANGUAGE C STABLE STRICT PARALLEL SAFE;

COMMENT ON FUNCTION customer_segmentation.to_roaring(customer_segmentation.customer_set)
IS 'the numbers of a set''s customers as a portable Roaring bitmap';

CREATE FUNCTION customer_segmentation.from_roaring(bytea)
RETURNS customer_segmentation.customer_set
AS 'MODULE_PATHNAME', 'customer_segmentation_set_from_roaring'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

COMMENT ON FUNCTION customer_segmentation.from_roaring(bytea)
IS 'the set of the customers of the extension''s table that a portable Roaring bitmap numbers';

CREATE FUNCTION customer_segmentation.from_roaring(bytea, relation regclass)
RETURNS customer_segmentation.customer_set
AS 'MODULE_PATHNAME', 'customer_segmentation_set_from_roaring'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

COMMENT ON FUNCTION customer_segmentation.from_roaring(bytea, regclass)
IS 'the set of the customers of a table that a portable Roaring bitmap numbers';

CREATE CAST (customer_segmentation.customer_set AS bytea)
	WITH FUNCTION customer_segmentation.to_roaring(customer_segmentation.customer_set);
CREATE CAST (bytea AS customer_segmentation.customer_set) WITH FUNCTION customer_segmentation.from_roaring(bytea);
