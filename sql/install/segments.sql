-- Segments: what defines them, and the record of their runs.
--
-- Nobody but the extension's owner has a privilege on these tables. The functions read and write them as that owner,
-- with constant statements, and show each caller what is the caller's (src/sqlfn/README.md, "Whose privileges").

CREATE TABLE customer_segmentation.segment (
	segment_id text PRIMARY KEY,
	segment_name text NOT NULL,
	description text,
	segment_by text NOT NULL,
	schedule text NOT NULL,
	time_zone text NOT NULL,
	definition text,
	query text,
	rules jsonb,
	undated text,
	depends_on text[] NOT NULL DEFAULT '{}',
	relation regclass NOT NULL,
	owner_name text NOT NULL,
	owner_oid oid NOT NULL,
	cluster bigint NOT NULL,
	paused boolean NOT NULL DEFAULT false,
	created_at timestamptz NOT NULL,
	altered_at timestamptz NOT NULL,
	last_due_at timestamptz,
	keep interval,
	keep_every text,
	CHECK ((definition IS NULL) <> (rules IS NULL)),
	CONSTRAINT segment_name_of_relation UNIQUE (relation, segment_name)
) USING heap;

COMMENT ON TABLE customer_segmentation.segment IS 'what defines each segment; see the view segments';
COMMENT ON COLUMN customer_segmentation.segment.query IS 'the definition with its names resolved, as it is run';
COMMENT ON COLUMN customer_segmentation.segment.undated IS 'why a past moment can''t be answered; NULL where it can';
COMMENT ON COLUMN customer_segmentation.segment.owner_oid IS 'the owner, in the cluster that wrote the row; elsewhere owner_name counts';
COMMENT ON COLUMN customer_segmentation.segment.last_due_at IS 'the newest due time that is settled';

CREATE SEQUENCE customer_segmentation.segment_run_number;

CREATE TABLE customer_segmentation.segment_run (
	run_id bigint PRIMARY KEY DEFAULT pg_catalog.nextval('customer_segmentation.segment_run_number'),
	segment_id text NOT NULL,
	kind text NOT NULL,
	as_of timestamptz NOT NULL,
	segment_instance_id text,
	started_at timestamptz NOT NULL,
	ended_at timestamptz,
	status text NOT NULL,
	rows bigint,
	sqlstate text,
	error text,
	run_by text NOT NULL,
	pid integer,
	definition text
) USING heap;

CREATE INDEX segment_run_of_segment ON customer_segmentation.segment_run (segment_id, run_id);
CREATE INDEX segment_run_started ON customer_segmentation.segment_run (started_at);

COMMENT ON TABLE customer_segmentation.segment_run IS 'the record of runs; see the view segment_runs';

CREATE TABLE customer_segmentation.segment_instance_mark (
	relation regclass NOT NULL,
	segment_instance_id text NOT NULL,
	pinned boolean NOT NULL DEFAULT false,
	backfilled boolean NOT NULL DEFAULT false,
	current_state text,
	PRIMARY KEY (relation, segment_instance_id)
) USING heap;

COMMENT ON TABLE customer_segmentation.segment_instance_mark IS 'pinned and backfilled instances; see the view segment_instances';

SELECT pg_catalog.pg_extension_config_dump('customer_segmentation.segment', '');
SELECT pg_catalog.pg_extension_config_dump('customer_segmentation.segment_run_number', '');
SELECT pg_catalog.pg_extension_config_dump('customer_segmentation.segment_run', '');
SELECT pg_catalog.pg_extension_config_dump('customer_segmentation.segment_instance_mark', '');

-- Define.

CREATE FUNCTION customer_segmentation.create_segment(
	segment_name text,
	definition text,
	segment_by text DEFAULT 'customer_id',
	schedule text DEFAULT 'once_a_day',
	time_zone text DEFAULT NULL,
	segment_id text DEFAULT NULL,
	description text DEFAULT NULL,
	relation regclass DEFAULT '@extschema@.customer_segmentation_table')
RETURNS text
AS 'MODULE_PATHNAME', 'customer_segmentation_create_segment'
LANGUAGE C VOLATILE;

COMMENT ON FUNCTION customer_segmentation.create_segment(text, text, text, text, text, text, text, regclass)
IS 'defines a segment by a query; returns its segment_id';

CREATE FUNCTION customer_segmentation.create_segment(
	segment_name text,
	rules jsonb,
	segment_by text DEFAULT 'customer_id',
	schedule text DEFAULT 'once_a_day',
	time_zone text DEFAULT NULL,
	segment_id text DEFAULT NULL,
	description text DEFAULT NULL,
	relation regclass DEFAULT '@extschema@.customer_segmentation_table')
RETURNS text
AS 'MODULE_PATHNAME', 'customer_segmentation_create_segment_by_rules'
LANGUAGE C VOLATILE;

COMMENT ON FUNCTION customer_segmentation.create_segment(text, jsonb, text, text, text, text, text, regclass)
IS 'defines a segment by rules; returns its segment_id';

CREATE FUNCTION customer_segmentation.alter_segment(
	segment_id text,
	segment_name text DEFAULT NULL,
	definition text DEFAULT NULL,
	rules jsonb DEFAULT NULL,
	schedule text DEFAULT NULL,
	description text DEFAULT NULL,
	paused boolean DEFAULT NULL,
	owner name DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'customer_segmentation_alter_segment'
LANGUAGE C VOLATILE;

COMMENT ON FUNCTION customer_segmentation.alter_segment(text, text, text, jsonb, text, text, boolean, name)
IS 'changes a segment; what is NULL stays as it is';

CREATE FUNCTION customer_segmentation.drop_segment(segment_id text, keep_instances boolean DEFAULT true)
RETURNS void
AS 'MODULE_PATHNAME', 'customer_segmentation_drop_segment'
LANGUAGE C VOLATILE STRICT;

COMMENT ON FUNCTION customer_segmentation.drop_segment(text, boolean)
IS 'forgets a segment, and its instances too unless they are to be kept';

-- Run.

CREATE FUNCTION customer_segmentation.run_segment(segment_id text, as_of timestamptz DEFAULT NULL)
RETURNS text
AS 'MODULE_PATHNAME', 'customer_segmentation_run_segment'
LANGUAGE C VOLATILE;

COMMENT ON FUNCTION customer_segmentation.run_segment(text, timestamptz)
IS 'stores the segment''s instance of the period that holds as_of; returns its segment_instance_id';

-- It commits, so it can't have settings of its own: everything in it is qualified.
CREATE PROCEDURE customer_segmentation.run_due_segments(as_of timestamptz DEFAULT NULL)
AS 'MODULE_PATHNAME', 'customer_segmentation_run_due_segments'
LANGUAGE C;

REVOKE ALL ON PROCEDURE customer_segmentation.run_due_segments(timestamptz) FROM PUBLIC;

COMMENT ON PROCEDURE customer_segmentation.run_due_segments(timestamptz)
IS 'runs every segment whose schedule is due, and applies retention; commits after each';

CREATE FUNCTION customer_segmentation.preview_segment(
	definition text,
	segment_by text DEFAULT 'customer_id',
	as_of timestamptz DEFAULT NULL,
	OUT num_of_customers bigint,
	OUT num_of_orders numeric,
	OUT total_revenue numeric)
AS 'MODULE_PATHNAME', 'customer_segmentation_preview_segment'
LANGUAGE C VOLATILE;

COMMENT ON FUNCTION customer_segmentation.preview_segment(text, text, timestamptz)
IS 'what a run of this definition would store, in totals; stores nothing';

CREATE FUNCTION customer_segmentation.preview_segment(
	rules jsonb,
	segment_by text DEFAULT 'customer_id',
	as_of timestamptz DEFAULT NULL,
	OUT num_of_customers bigint,
	OUT num_of_orders numeric,
	OUT total_revenue numeric)
AS 'MODULE_PATHNAME', 'customer_segmentation_preview_segment_by_rules'
LANGUAGE C VOLATILE;

COMMENT ON FUNCTION customer_segmentation.preview_segment(jsonb, text, timestamptz)
IS 'what a run of these rules would store, in totals; stores nothing';

-- When.

CREATE FUNCTION customer_segmentation.due_around(
	schedule text,
	created_at timestamptz,
	time_zone text,
	moment timestamptz,
	OUT last_due timestamptz,
	OUT next_due timestamptz,
	OUT period text)
AS 'MODULE_PATHNAME', 'customer_segmentation_due_around'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION customer_segmentation.due_around(text, timestamptz, text, timestamptz)
IS 'the due times of a schedule at or before and after a moment, and the name of the period that holds the moment';

-- Look.

CREATE FUNCTION customer_segmentation.list_segments(
	OUT segment_id text,
	OUT segment_name text,
	OUT description text,
	OUT segment_by text,
	OUT schedule text,
	OUT time_zone text,
	OUT definition text,
	OUT rules jsonb,
	OUT depends_on text[],
	OUT owner text,
	OUT relation regclass,
	OUT paused boolean,
	OUT created_at timestamptz,
	OUT altered_at timestamptz,
	OUT keep interval,
	OUT keep_every text,
	OUT next_run_at timestamptz,
	OUT last_run_at timestamptz,
	OUT last_run_status text,
	OUT last_run_sqlstate text,
	OUT last_run_error text,
	OUT last_success_at timestamptz,
	OUT last_instance_id text,
	OUT failures bigint,
	OUT overdue_since timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'customer_segmentation_list_segments'
LANGUAGE C STABLE
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION customer_segmentation.list_segments()
IS 'the segments that the caller may run; behind the views segments and segment_health';

CREATE VIEW customer_segmentation.segments WITH (security_invoker = true) AS
SELECT segment_id, segment_name, description, segment_by, schedule, time_zone, definition, rules, depends_on, owner,
	   relation, paused, created_at, altered_at, keep, keep_every, next_run_at, last_run_at, last_run_status,
	   last_run_error, last_instance_id
FROM customer_segmentation.list_segments();

COMMENT ON VIEW customer_segmentation.segments IS 'the segments that the caller may run, and how their last runs went';

CREATE VIEW customer_segmentation.segment_health WITH (security_invoker = true) AS
SELECT segment_id, segment_name, owner, schedule, paused,
	   overdue_since IS NOT NULL AS overdue,
	   customer_segmentation.as_of() OPERATOR(pg_catalog.-) overdue_since AS overdue_by,
	   failures OPERATOR(pg_catalog.>) 0 AS failing,
	   failures,
	   last_success_at IS NULL AS never_run,
	   next_run_at, last_run_at, last_success_at, last_run_sqlstate, last_run_error
FROM customer_segmentation.list_segments();

COMMENT ON VIEW customer_segmentation.segment_health IS 'what needs attention: overdue, failing, paused, never run';

CREATE FUNCTION customer_segmentation.list_runs(
	OUT run_id bigint,
	OUT segment_id text,
	OUT segment_name text,
	OUT kind text,
	OUT as_of timestamptz,
	OUT segment_instance_id text,
	OUT started_at timestamptz,
	OUT ended_at timestamptz,
	OUT status text,
	OUT rows bigint,
	OUT sqlstate text,
	OUT error text,
	OUT run_by text,
	OUT pid integer,
	OUT definition text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'customer_segmentation_list_runs'
LANGUAGE C STABLE
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION customer_segmentation.list_runs()
IS 'the runs of the segments that the caller may run; behind the view segment_runs';

CREATE VIEW customer_segmentation.segment_runs WITH (security_invoker = true) AS
SELECT run_id, segment_id, segment_name, kind, as_of, segment_instance_id, started_at, ended_at, status, rows,
	   sqlstate, error, run_by, pid, definition
FROM customer_segmentation.list_runs();

COMMENT ON VIEW customer_segmentation.segment_runs IS 'the record of runs, newest last';

CREATE FUNCTION customer_segmentation.stored_instances(
	relation regclass DEFAULT '@extschema@.customer_segmentation_table',
	OUT segment_instance_id text,
	OUT instance_created_date timestamp,
	OUT segment_id text,
	OUT segment_name text,
	OUT segment_by text,
	OUT schedule text,
	OUT segment_created_date timestamp,
	OUT num_of_customers numeric,
	OUT num_of_orders numeric,
	OUT total_revenue numeric,
	OUT pinned boolean,
	OUT backfilled boolean,
	OUT current_state text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'customer_segmentation_stored_instances'
LANGUAGE C STABLE STRICT
SET search_path = pg_catalog, pg_temp;

COMMENT ON FUNCTION customer_segmentation.stored_instances(regclass)
IS 'the instances stored in a table with their dimensions and totals, from metadata alone';

-- The arguments are what the planner knows of a query's rows. NULL: anything.
CREATE FUNCTION customer_segmentation.list_instances(
	of_relation regclass DEFAULT NULL,
	of_segment text DEFAULT NULL,
	of_instance text DEFAULT NULL,
	OUT relation regclass,
	OUT segment_instance_id text,
	OUT instance_created_date timestamp,
	OUT segment_id text,
	OUT segment_name text,
	OUT segment_by text,
	OUT schedule text,
	OUT segment_created_date timestamp,
	OUT num_of_customers numeric,
	OUT num_of_orders numeric,
	OUT total_revenue numeric,
	OUT pinned boolean,
	OUT backfilled boolean,
	OUT current_state text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'customer_segmentation_list_instances'
LANGUAGE C STABLE;

COMMENT ON FUNCTION customer_segmentation.list_instances(regclass, text, text)
IS 'the stored instances of the tables that the caller may read; behind the view segment_instances';

CREATE VIEW customer_segmentation.segment_instances WITH (security_invoker = true) AS
SELECT relation, segment_instance_id, instance_created_date, segment_id, segment_name, segment_by, schedule,
	   segment_created_date, num_of_customers, num_of_orders, total_revenue, pinned, backfilled, current_state
FROM customer_segmentation.list_instances();

COMMENT ON VIEW customer_segmentation.segment_instances
IS 'the stored instances of every table that the caller may read and row security does not bind, from metadata alone';
COMMENT ON COLUMN customer_segmentation.segment_instances.relation IS 'the table that the instance is stored in';
COMMENT ON COLUMN customer_segmentation.segment_instances.segment_instance_id IS 'the instance: segment_id and date';
COMMENT ON COLUMN customer_segmentation.segment_instances.instance_created_date IS 'when the instance (run, snapshot) was generated, by the clock of the segment''s time zone';
COMMENT ON COLUMN customer_segmentation.segment_instances.segment_id IS 'the segment: 24 hexadecimal digits';
COMMENT ON COLUMN customer_segmentation.segment_instances.segment_name IS 'the segment''s name when it ran';
COMMENT ON COLUMN customer_segmentation.segment_instances.segment_by IS 'customer_id or email';
COMMENT ON COLUMN customer_segmentation.segment_instances.schedule IS 'how often the segment runs: once_a_day, once_a_week, ...';
COMMENT ON COLUMN customer_segmentation.segment_instances.segment_created_date IS 'when the segment was created';
COMMENT ON COLUMN customer_segmentation.segment_instances.num_of_customers IS 'the size of the instance';
COMMENT ON COLUMN customer_segmentation.segment_instances.num_of_orders IS 'orders of its customers in the relevant time window';
COMMENT ON COLUMN customer_segmentation.segment_instances.total_revenue IS 'revenue of its customers in that window';
COMMENT ON COLUMN customer_segmentation.segment_instances.pinned IS 'retention never drops it';
COMMENT ON COLUMN customer_segmentation.segment_instances.backfilled IS 'stored by backfill_segment';
COMMENT ON COLUMN customer_segmentation.segment_instances.current_state IS 'what of a backfilled or a late instance is of today; NULL: nothing';

GRANT SELECT ON customer_segmentation.segments, customer_segmentation.segment_health, customer_segmentation.segment_runs,
	customer_segmentation.segment_instances TO PUBLIC;
