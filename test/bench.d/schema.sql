-- The heap twin, and everything that is loaded beside it.
CREATE TABLE heap_twin (
	customer_identity text NOT NULL,
	instance_created_date timestamp NOT NULL,
	schedule text,
	segment_by text,
	segment_created_date timestamp,
	segment_id text NOT NULL,
	segment_instance_id text NOT NULL,
	segment_name text,
	num_of_customers bigint,
	num_of_orders bigint,
	total_revenue numeric
) USING heap;

CREATE TABLE orders (
	order_id bigint,
	customer_id text NOT NULL,
	created_at timestamp NOT NULL,
	amount numeric NOT NULL
) USING heap;

CREATE FUNCTION blackhole_handler(internal) RETURNS table_am_handler LANGUAGE c AS :'blackhole';
CREATE ACCESS METHOD blackhole TYPE TABLE HANDLER blackhole_handler;
CREATE TABLE floor_table (LIKE heap_twin) USING blackhole;

CREATE EXTENSION pg_walinspect;
