-- Privileges, row security, views: what may not be seen is not seen, on any path.
CREATE ROLE regress_cs_owner;
CREATE ROLE regress_cs_reader;
CREATE ROLE regress_cs_other;
GRANT CREATE ON SCHEMA public TO regress_cs_owner;
SELECT make_twins('t');
SELECT on_both($$INSERT INTO @ SELECT * FROM sample_rows(3, 3, 30)$$) \gexec
SELECT on_both($$ALTER TABLE @ OWNER TO regress_cs_owner$$) \gexec

-- The table: nobody but its owner.
SET ROLE regress_cs_other;
SELECT twin('SELECT count(*) FROM @');
SELECT twin($$INSERT INTO @ SELECT * FROM sample_rows(1, 1, 1)$$);
SELECT twin('UPDATE @ SET total_revenue = 1');
SELECT twin('DELETE FROM @');
SELECT twin('TRUNCATE @');
SELECT twin('SELECT 1 FROM @ FOR UPDATE');
SELECT split_part(error_of($$SELECT * FROM customer_segmentation.storage_info('t')$$), '|', 1);
SELECT split_part(error_of($$SELECT * FROM customer_segmentation.verify('t')$$), '|', 1);
SELECT split_part(error_of('SELECT * FROM customer_segmentation_table'), '|', 1);
SELECT split_part(error_of('SELECT * FROM customer_segmentation.storage_info()'), '|', 1);
RESET ROLE;

-- Single privileges, single columns.
SELECT on_both('GRANT SELECT (segment_id, num_of_orders), INSERT, UPDATE (num_of_orders) ON @ TO regress_cs_reader') \gexec
SET ROLE regress_cs_reader;
SELECT twin('SELECT segment_id, sum(num_of_orders) FROM @ GROUP BY 1');
SELECT twin('SELECT count(*) FROM @');
SELECT twin('SELECT customer_identity FROM @');
SELECT twin('SELECT * FROM @');
SELECT twin($$SELECT count(*) FROM @ WHERE customer_identity = 'customer1'$$);
SELECT twin('SELECT count(DISTINCT customer_identity) FROM @');
SELECT twin('SELECT max(total_revenue) FROM @');
SELECT twin('SELECT ctid FROM @');
SELECT twin($$UPDATE @ SET num_of_orders = 7 WHERE segment_id = 'segment2' RETURNING segment_id$$);
SELECT twin('UPDATE @ SET total_revenue = 7');
SELECT twin('UPDATE @ SET num_of_orders = length(customer_identity)');
SELECT twin($$INSERT INTO @ VALUES ('r', '2025-01-01', NULL, NULL, NULL, 'r', 'r_1', NULL, 1, 1, 1)$$);
SELECT twin($$INSERT INTO @ VALUES ('r', '2025-01-01', NULL, NULL, NULL, 'r', 'r_2', NULL, 1, 1, 1) RETURNING customer_identity$$);
SELECT twin('DELETE FROM @');
-- A part of the columns is not the table.
SELECT split_part(error_of($$SELECT * FROM customer_segmentation.storage_info('t')$$), '|', 1);
SELECT split_part(error_of($$SELECT * FROM customer_segmentation.verify('t')$$), '|', 1);
RESET ROLE;
SELECT * FROM compare_twin();

-- SELECT on all of it lets one see how it is stored.
SELECT on_both('GRANT SELECT, UPDATE, DELETE ON @ TO regress_cs_reader') \gexec
SET ROLE regress_cs_reader;
SELECT rows FROM customer_segmentation.storage_info('t');
SELECT count(*) FROM customer_segmentation.verify('t');
SELECT split_part(error_of('CREATE INDEX ON t (customer_identity)'), '|', 1);
SELECT split_part(error_of('ALTER TABLE t SET ACCESS METHOD heap'), '|', 1);
RESET ROLE;

-- Row security on a table of one's own.
SELECT on_both($$CREATE POLICY own ON @ TO regress_cs_reader USING (segment_id = 'segment1') WITH CHECK (num_of_orders < 100)$$) \gexec
SELECT on_both('ALTER TABLE @ ENABLE ROW LEVEL SECURITY') \gexec
SET ROLE regress_cs_reader;
SELECT twin('SELECT segment_id, count(*) FROM @ GROUP BY 1');
SELECT twin('SELECT count(*), sum(total_revenue), count(DISTINCT customer_identity) FROM @');
SELECT twin($$SELECT count(*) FROM @ WHERE segment_id = 'segment2'$$);
SELECT twin($$SELECT count(*) FROM @ WHERE ctid IS NOT NULL$$);
SELECT twin($$UPDATE @ SET num_of_orders = 9 WHERE customer_identity LIKE '%1'$$);
SELECT twin('UPDATE @ SET num_of_orders = 100');
SELECT twin($$DELETE FROM @ WHERE num_of_orders = 4$$);
SELECT twin($$INSERT INTO @ VALUES ('p', '2025-01-01', NULL, NULL, NULL, 'p', 'p_1', NULL, 1, 1, 1)$$);
SELECT twin($$INSERT INTO @ VALUES ('p', '2025-01-01', NULL, NULL, NULL, 'p', 'p_1', NULL, 1, 100, 1)$$);
SELECT twin($$INSERT INTO @ VALUES ('p', '2025-01-01', NULL, NULL, NULL, 'p', 'p_2', NULL, 1, 1, 1) RETURNING *$$);
SELECT twin($$SELECT count(*) FROM (SELECT * FROM @ FOR UPDATE) x$$);
SELECT split_part(error_of($$SELECT * FROM customer_segmentation.storage_info('t')$$), '|', 1);
SELECT split_part(error_of($$SELECT * FROM customer_segmentation.verify('t')$$), '|', 1);
COPY t (segment_id) TO stdout WITH (FORMAT csv);
SET row_security = off;
SELECT twin('SELECT count(*) FROM @');
RESET row_security;
RESET ROLE;
SELECT * FROM compare_twin();
-- The owner is above it, until it is forced.
SET ROLE regress_cs_owner;
SELECT count(*) = (SELECT rows FROM customer_segmentation.storage_info('t')) FROM t;
SELECT on_both('ALTER TABLE @ FORCE ROW LEVEL SECURITY') \gexec
SELECT twin('SELECT count(*) FROM @');
SELECT split_part(error_of($$SELECT * FROM customer_segmentation.storage_info('t')$$), '|', 1);
SELECT split_part(error_of($$SELECT * FROM customer_segmentation.verify('t')$$), '|', 1);
SELECT on_both('ALTER TABLE @ NO FORCE ROW LEVEL SECURITY') \gexec
RESET ROLE;
SELECT count(*) FROM customer_segmentation.verify('t');

-- Conditions that could tell what they see wait for the policy and for the barrier.
CREATE FUNCTION tell(text) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE NOTICE 'saw %', $1; RETURN true; END $$;
CREATE VIEW barrier WITH (security_barrier) AS SELECT * FROM t WHERE segment_id = 'segment1' AND num_of_orders = 2;
CREATE VIEW barrier_twin WITH (security_barrier) AS SELECT * FROM t_twin WHERE segment_id = 'segment1' AND num_of_orders = 2;
GRANT SELECT ON barrier, barrier_twin TO regress_cs_other;
SET ROLE regress_cs_other;
SELECT count(*) FROM barrier WHERE tell(segment_id);
SELECT twin('SELECT count(*) FROM @', 'barrier');
SELECT twin($$SELECT count(*) FROM @ WHERE segment_instance_id = 'segment2_1'$$, 'barrier');
RESET ROLE;
SET ROLE regress_cs_reader;
SELECT count(*) FROM t WHERE num_of_orders = 2 AND tell(segment_id);
RESET ROLE;

-- A view of the invoker shows what the invoker may see.
CREATE VIEW invoker WITH (security_invoker) AS SELECT * FROM t;
GRANT SELECT ON invoker TO regress_cs_other, regress_cs_reader;
SET ROLE regress_cs_other;
SELECT split_part(error_of('SELECT count(*) FROM invoker'), '|', 1);
SET ROLE regress_cs_reader;
SELECT segment_id, count(*) > 0 FROM invoker GROUP BY 1;
RESET ROLE;
DROP VIEW invoker, barrier, barrier_twin;

-- Statistics of what may not be seen are not shown.
ANALYZE t;
SET ROLE regress_cs_other;
SELECT count(*) FROM pg_stats WHERE tablename = 't';
SET ROLE regress_cs_reader;
SELECT count(*) FROM pg_stats WHERE tablename = 't';
RESET ROLE;
DROP TABLE t, t_twin;
DROP FUNCTION tell(text);
REVOKE CREATE ON SCHEMA public FROM regress_cs_owner;
DROP ROLE regress_cs_owner, regress_cs_reader, regress_cs_other;
