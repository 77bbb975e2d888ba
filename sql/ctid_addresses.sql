-- The address of a row: customers in three containers whose low 15 bits agree never mix.
SELECT make_twins('t');
SELECT on_both($$INSERT INTO @ SELECT 'c' || i, '2025-01-01', NULL, NULL, NULL, 's', 's_1', NULL, 1, i, i FROM generate_series(1, 70000) i$$) \gexec
SELECT on_both($$INSERT INTO @ SELECT customer_identity, '2025-01-02', NULL, NULL, NULL, 's', 's_2', NULL, 1, num_of_orders, total_revenue FROM @$$) \gexec
SELECT count(DISTINCT ctid), count(*) FROM t;

-- One row of each container for one offset: the second field of the address.
CREATE TEMP TABLE three AS
SELECT ctid AS address, customer_identity, segment_instance_id, num_of_orders FROM t WHERE ctid::text LIKE '%,77)';
SELECT count(*), count(DISTINCT customer_identity), count(DISTINCT address) FROM three;
SELECT count(*) FROM three JOIN t ON t.ctid = address WHERE (t.customer_identity, t.segment_instance_id) <> (three.customer_identity, three.segment_instance_id);
SELECT count(*) FROM three, LATERAL (SELECT * FROM t WHERE ctid = address) x WHERE x.num_of_orders = three.num_of_orders AND x.segment_instance_id = three.segment_instance_id;
SELECT count(*) FROM t WHERE ctid = ANY (ARRAY(SELECT address FROM three));
SELECT count(*) FROM (SELECT customer_identity, segment_instance_id FROM t WHERE ctid = ANY (ARRAY(SELECT address FROM three)) EXCEPT SELECT customer_identity, segment_instance_id FROM three) x;
SELECT address AS one, customer_identity AS who, segment_instance_id AS instance FROM three ORDER BY num_of_orders, segment_instance_id LIMIT 1 OFFSET 2 \gset

-- UPDATE and DELETE of one of them leave the others alone.
SELECT who AS who_again FROM (SELECT customer_identity AS who FROM t WHERE ctid = :'one') x WHERE who = :'who' \gset
SELECT :'who' = :'who_again' AS same;
UPDATE t SET total_revenue = -1 WHERE ctid = :'one';
UPDATE t_twin SET total_revenue = -1 WHERE customer_identity = :'who' AND segment_instance_id = :'instance';
SELECT total_revenue, customer_identity = :'who' AS it FROM t WHERE ctid = :'one';
-- The address outlives changes of the measures.
UPDATE t SET total_revenue = -2, num_of_orders = NULL WHERE ctid = :'one';
SELECT total_revenue, num_of_orders FROM t WHERE ctid = :'one';
UPDATE t_twin SET total_revenue = -2, num_of_orders = NULL WHERE customer_identity = :'who' AND segment_instance_id = :'instance';
WITH u AS (UPDATE t SET total_revenue = -3 WHERE ctid = :'one' RETURNING ctid, customer_identity, total_revenue)
SELECT ctid = :'one' AS same_address, customer_identity = :'who' AS it, total_revenue FROM u;
UPDATE t_twin SET total_revenue = -3 WHERE customer_identity = :'who' AND segment_instance_id = :'instance';
DELETE FROM t WHERE ctid = :'one' RETURNING customer_identity = :'who' AS it, segment_instance_id = :'instance' AS there;
DELETE FROM t_twin WHERE customer_identity = :'who' AND segment_instance_id = :'instance';
SELECT count(*) FROM t WHERE ctid = :'one';
SELECT * FROM compare_twin();
-- All six at once, through a join on the address.
UPDATE t SET num_of_orders = three.num_of_orders + 1000000 FROM three WHERE t.ctid = three.address;
UPDATE t_twin h SET num_of_orders = three.num_of_orders + 1000000 FROM three WHERE h.customer_identity = three.customer_identity AND h.segment_instance_id = three.segment_instance_id;
DELETE FROM t USING three WHERE t.ctid = three.address AND three.segment_instance_id = 's_2';
DELETE FROM t_twin h USING three WHERE h.customer_identity = three.customer_identity AND h.segment_instance_id = three.segment_instance_id AND three.segment_instance_id = 's_2';
SELECT * FROM compare_twin();

-- INSERT tells the addresses that the rows get.
BEGIN;
WITH i AS (INSERT INTO t SELECT 'c' || i, '2025-01-03', NULL, NULL, NULL, 's', 's_3', NULL, 1, i, i FROM generate_series(1, 70000, 700) i RETURNING ctid, customer_identity)
SELECT count(*), count(DISTINCT ctid) FROM i;
ROLLBACK;
INSERT INTO t VALUES ('c69999', '2025-01-03', NULL, NULL, NULL, 's', 's_3', NULL, 1, 1, 1), ('newest', '2025-01-03', NULL, NULL, NULL, 's', 's_3', NULL, 1, 1, 1)
	RETURNING ctid <> '(0,0)' AS told;
INSERT INTO t VALUES ('c1', '2025-01-03', NULL, NULL, NULL, 's', 's_3', NULL, 1, 1, 1) RETURNING ctid AS one \gset
SELECT customer_identity, segment_instance_id FROM t WHERE ctid = :'one';
SELECT customer_identity FROM t WHERE segment_instance_id = 's_3' ORDER BY 1;
DELETE FROM t WHERE segment_instance_id = 's_3';

-- FOR UPDATE by address, and a trigger that looks the row up by address.
SELECT count(*) FROM (SELECT t.* FROM t, three WHERE t.ctid = three.address FOR UPDATE OF t) x;
CREATE TABLE seen (customer_identity text, old_orders bigint, new_orders bigint);
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES (NEW.customer_identity, OLD.num_of_orders, NEW.num_of_orders); RETURN NEW; END $$;
CREATE TRIGGER look AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION look();
UPDATE t SET num_of_orders = t.num_of_orders - 1000000 FROM three WHERE t.ctid = three.address;
UPDATE t_twin h SET num_of_orders = h.num_of_orders - 1000000 FROM three WHERE h.customer_identity = three.customer_identity AND h.segment_instance_id = three.segment_instance_id;
SELECT count(*), count(*) FILTER (WHERE old_orders - new_orders = 1000000), count(*) FILTER (WHERE customer_identity = 'c' || new_orders) FROM seen;
DROP TRIGGER look ON t;

-- Addresses that nothing has, and that nothing can have, give no rows.
SELECT count(*) FROM t WHERE ctid = '(0,0)';
SELECT count(*) FROM t WHERE ctid = '(4294967295,65535)';
SELECT count(*) FROM t WHERE ctid = '(4294967295,1)';
SELECT count(*) FROM t WHERE ctid = '(4294967294,32768)';
SELECT count(*) FROM t WHERE ctid = '(2147483648,1)';
SELECT count(*) FROM t WHERE ctid = '(2147483647,32768)';
SELECT count(*) FROM t WHERE ctid = '(63,1)';
SELECT count(*) FROM t WHERE ctid = '(1,32769)';
SELECT count(*) FROM t WHERE ctid = '(1,65535)';
SELECT count(*) FROM t, (SELECT ('(' || (b::text) || ',' || o || ')')::tid AS x FROM unnest('{0,1,2,64,65,128,4000000000,3000000000,2147483648}'::bigint[]) b, unnest('{0,32769,40000,65535}'::int[]) o) g WHERE ctid = g.x;
SELECT result_of($$UPDATE t SET total_revenue = 0 WHERE ctid = '(4294967294,1)'$$), result_of($$DELETE FROM t WHERE ctid = '(123456,7)'$$), result_of($$SELECT * FROM t WHERE ctid = '(2147483649,3)' FOR UPDATE$$);
SELECT count(*) FROM t WHERE ctid = ANY ('{"(0,0)","(99999,1)",NULL}'::tid[]);
SELECT count(*) FROM t WHERE ctid IS NULL;
SELECT result_of($$SELECT currtid2('t', '(4294967295,0)')$$) ~ '(rows|error)';
-- Ranges of addresses.
SELECT count(*) FROM t WHERE ctid < '(0,1)';
SELECT count(*) = (SELECT count(*) FROM t) FROM t WHERE ctid >= '(0,0)';
SELECT * FROM compare_twin();
DROP TABLE t, t_twin, seen, three;
DROP FUNCTION look;
