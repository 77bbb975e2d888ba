-- A small shop for the tests of rules: sources of several shapes and types, with gaps, ties and odd texts.
CREATE SCHEMA shop;

CREATE TABLE shop.customers (
	customer_id int PRIMARY KEY,
	email text UNIQUE,
	name text,
	city text COLLATE "C",
	state varchar(10),
	country char(2),
	tags text[],
	phone text,
	consent boolean,
	created_at timestamptz,
	birthday date,
	points numeric,
	rate real
);
INSERT INTO shop.customers
SELECT c,
	   CASE WHEN c % 10 < 9 THEN 'user' || c || '@example.com' END,
	   (ARRAY['Ann', 'ann', '100% Cotton', '100x Cotton', 'a_b', 'axb', 'back\slash', 'it''s "odd" $1', 'Ärmel', NULL, ''])[1 + c % 11],
	   (ARRAY['Köln', 'Bonn', 'köln', 'New York', NULL])[1 + c % 5],
	   (ARRAY['NY', 'CA', NULL])[1 + c % 3],
	   (ARRAY['DE', 'US', 'FR', NULL])[1 + c % 4],
	   CASE c % 6 WHEN 0 THEN NULL WHEN 1 THEN '{}' WHEN 2 THEN '{vip}' WHEN 3 THEN '{vip,Wholesale}' WHEN 4 THEN ARRAY[NULL, 'new%']
			ELSE '{Vip,x}' END,
	   CASE WHEN c % 2 = 0 THEN '+49' || c END,
	   (ARRAY[true, false, NULL])[1 + c % 3],
	   timestamptz '2024-06-01 00:00+00' + c * interval '4 days 3 hours',
	   CASE WHEN c % 7 > 0 THEN date '1970-01-01' + c * 97 END,
	   CASE c % 5 WHEN 0 THEN NULL ELSE c % 9 - 2 + 0.5 * (c % 2) END,
	   CASE c % 4 WHEN 0 THEN NULL ELSE (c % 4) / 10.0 END
FROM generate_series(1, 60) c;

CREATE TABLE shop.orders (
	order_id bigint PRIMARY KEY,
	customer_id bigint,
	email text,
	ordered_at timestamptz NOT NULL,
	amount numeric(10, 2),
	discount_code text,
	source varchar(20),
	tags text[],
	gift boolean
);
-- Of customers 51 to 60 two have any, 61 and 62 are in no other table; some orders tell only the e-mail address, some nothing.
INSERT INTO shop.orders
SELECT o, CASE WHEN o % 7 > 0 THEN c END, CASE WHEN o % 3 > 0 OR o % 7 = 0 AND o % 14 > 0 THEN 'user' || c || '@example.com' END,
	   timestamptz '2025-01-01 00:30+00' + (o * 37 % 251) * interval '1 day' + (o % 24) * interval '1 hour',
	   CASE WHEN o % 13 > 0 THEN (o * 7 % 90) + 0.25 * (o % 4) END,
	   CASE WHEN o % 4 = 0 THEN 'SAVE' || o % 3 END,
	   (ARRAY['web', 'Web', 'store', NULL])[1 + o % 4],
	   CASE o % 5 WHEN 0 THEN NULL::text[] WHEN 1 THEN '{}' WHEN 2 THEN '{gift}' WHEN 3 THEN '{Gift,rush}' ELSE '{rush}' END,
	   (ARRAY[true, false, NULL])[1 + o % 3]
FROM (SELECT o, CASE WHEN o % 50 = 0 THEN 61 + o / 50 % 2 ELSE 1 + (o * 31 + o / 7) % 50 END AS c FROM generate_series(1, 300) o) x;

INSERT INTO shop.orders (order_id, customer_id, ordered_at, amount) VALUES (301, 55, '2025-01-02 10:00+00', 12.5), (302, 55, '2025-08-20 10:00+00', 7),
	(303, 56, '2025-08-22 10:00+00', 40);

CREATE TABLE shop.line_items (
	order_no text,
	product_id int,
	product_name text,
	vendor text,
	quantity int
);
INSERT INTO shop.line_items
SELECT o::text, 100 + (o + i * 3) % 8, CASE WHEN (o + i) % 9 > 0 THEN (ARRAY['Red Shoe', 'red sock', 'Blue_Hat', 'BlueXHat', '50% off'])[1 + (o + i) % 5] END,
	   (ARRAY['Acme', 'Zeta'])[1 + i % 2], CASE WHEN (o + i) % 11 > 0 THEN 1 + (o * i) % 5 END
FROM generate_series(1, 300) o, generate_series(1, 3) i WHERE (o + i) % 4 > 0 AND o % 6 > 0;

CREATE TABLE shop.tag_list (customer_id text, tag text, added_at timestamptz, removed_at timestamptz);
INSERT INTO shop.tag_list
SELECT c::text, (ARRAY['vip', 'VIP', 'churn_risk', 'churnXrisk'])[1 + (c + t) % 4], timestamptz '2025-01-15 08:00+00' + (c + t * 40) * interval '1 day',
	   CASE WHEN (c + t) % 3 = 0 THEN timestamptz '2025-01-15 08:00+00' + (c + t * 70) * interval '1 day' END
FROM generate_series(1, 60) c, generate_series(1, 2) t WHERE c % 4 > 0;

-- One row per subscription, changed in place; the other form is a row per event.
CREATE TABLE shop.subscriptions (customer_id int, status text, started_at timestamptz, updated_at timestamptz, cancelled_at timestamptz);
INSERT INTO shop.subscriptions
SELECT c, CASE WHEN c % 2 = 0 THEN 'cancelled' ELSE 'active' END, timestamptz '2025-01-10 00:00+00' + c * interval '3 days',
	   CASE WHEN c % 3 = 0 THEN timestamptz '2025-01-20 00:00+00' + c * interval '4 days' END,
	   CASE WHEN c % 2 = 0 THEN timestamptz '2025-02-10 00:00+00' + c * interval '5 days' END
FROM generate_series(1, 40) c;
CREATE TABLE shop.subscription_events (who text, what text, at timestamp, plan text);
INSERT INTO shop.subscription_events
SELECT 'user' || c || '@example.com', (ARRAY['started', 'Updated', 'CANCELLED', 'paused'])[e], timestamp '2025-01-10 12:00' + c * interval '3 days' + e * interval '20 days',
	   (ARRAY['basic', 'pro'])[1 + c % 2]
FROM generate_series(1, 40) c, generate_series(1, 4) e WHERE (c + e) % 3 > 0;

CREATE TABLE shop.clicks (customer_id int, clicked_at timestamptz, campaign_id bigint, campaign_name text, source text);
INSERT INTO shop.clicks
SELECT 1 + k * 7 % 25, timestamptz '2025-05-01 10:00+00' + k * interval '19 hours', 9000000000 + k % 4, 'Camp ' || k % 5, (ARRAY['fb', 'google', NULL])[1 + k % 3]
FROM generate_series(1, 150) k;
-- By some clock, and by e-mail address alone.
CREATE TABLE shop.visits (mail text, visited timestamp, path text);
INSERT INTO shop.visits
SELECT 'user' || 26 + k * 11 % 29 || '@example.com', timestamp '2025-07-10 01:00' + k * interval '6 hours', (ARRAY['/home', '/Cart', '/product/1_2', '/product/1x2'])[1 + k % 4]
FROM generate_series(1, 200) k;
CREATE TABLE shop.carts (customer_id int, day date);
INSERT INTO shop.carts SELECT 1 + k * 13 % 60, date '2025-08-01' + k % 31 FROM generate_series(1, 80) k;
CREATE TABLE shop.checkouts (customer_id int, at timestamptz, value int);
INSERT INTO shop.checkouts SELECT 1 + k * 17 % 20, timestamptz '2025-08-01 06:00+00' + k * interval '9 hours', k % 7 FROM generate_series(1, 80) k;
ANALYZE shop.customers, shop.orders, shop.line_items;

CREATE FUNCTION shop.set_sources() RETURNS void LANGUAGE sql AS $$
	SELECT customer_segmentation.set_source('customers', 'shop.customers', '{"customer_id": "customer_id", "email": "email", "time": "created_at",
		"name": "name", "city": "city", "state": "state", "country": "country", "tags": "tags", "phone": "phone", "birthday": "birthday",
		"customer_email_marketing_consent": "consent", "points": "points", "rate": "rate"}');
	SELECT customer_segmentation.set_source('orders', 'shop.orders', '{"order_id": "order_id", "customer_id": "customer_id", "email": "email",
		"time": "ordered_at", "amount": "amount", "discount_code": "discount_code", "source": "source", "order_tag": "tags", "gift": "gift"}');
	SELECT customer_segmentation.set_source('line_items', 'shop.line_items', '{"order_id": "order_no", "product_id": "product_id",
		"product_name": "product_name", "vendor": "vendor", "quantity": "quantity"}');
	SELECT customer_segmentation.set_source('tags', 'shop.tag_list', '{"customer_id": "customer_id", "customer_tag": "tag", "time": "added_at", "removed_time": "removed_at"}');
	SELECT customer_segmentation.set_source('subscriptions', 'shop.subscriptions', '{"customer_id": "customer_id", "started_time": "started_at",
		"updated_time": "updated_at", "cancelled_time": "cancelled_at", "subscription_status": "status"}');
	SELECT customer_segmentation.set_source('clicks', 'shop.clicks', '{"customer_id": "customer_id", "time": "clicked_at", "campaign_id": "campaign_id",
		"campaign_name": "campaign_name", "source": "source"}');
	SELECT customer_segmentation.set_source('visits', 'shop.visits', '{"email": "mail", "time": "visited", "url_path": "path"}');
	SELECT customer_segmentation.set_source('carts', 'shop.carts', '{"customer_id": "customer_id", "time": "day"}');
	SELECT customer_segmentation.set_source('checkouts', 'shop.checkouts', '{"customer_id": "customer_id", "time": "at", "checkout_value": "value"}');
$$;
CREATE FUNCTION shop.unset_sources() RETURNS bigint LANGUAGE sql AS $$
	SELECT count(customer_segmentation.set_source(s.source, NULL)) FROM customer_segmentation.sources s
$$;
SELECT shop.set_sources();
SELECT source, relation, columns FROM customer_segmentation.sources ORDER BY source;

-- Orders of whom, as hand-written statements tell them: by number, else by the address that the customers know, and the
-- other way round.
CREATE TABLE shop.orders_of AS
SELECT o.*, coalesce(o.customer_id, c.customer_id)::text AS id, coalesce(o.email, d.email) AS mail
FROM shop.orders o LEFT JOIN shop.customers c ON c.email = o.email LEFT JOIN shop.customers d ON d.customer_id = o.customer_id;

-- Compares rules with a hand-written query of identities: how many members they have, or who is in one only. Rules run
-- with bound values, the query that explain_rules shows is run as a text, and both must come to the same totals.
CREATE FUNCTION shop.same(rules jsonb, hand text, as_of timestamptz DEFAULT '2025-08-25 11:08:39+00', segment_by text DEFAULT 'customer_id')
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	shown text := customer_segmentation.explain_rules(rules, segment_by, as_of);
	only_rules text;
	only_hand text;
	n bigint;
	totals text;
	previewed text;
BEGIN
	PERFORM set_config('customer_segmentation.as_of', as_of::text, true);
	EXECUTE 'CREATE TEMP TABLE by_rules ON COMMIT DROP AS ' || shown;
	EXECUTE 'CREATE TEMP TABLE by_hand (identity) ON COMMIT DROP AS SELECT x::text FROM (' || hand || ') AS y (x)';
	SELECT string_agg(customer_identity, ',') INTO only_rules FROM (SELECT customer_identity FROM by_rules EXCEPT ALL SELECT identity FROM by_hand LIMIT 5) x;
	SELECT string_agg(identity, ',') INTO only_hand FROM (SELECT identity FROM by_hand EXCEPT ALL SELECT customer_identity FROM by_rules LIMIT 5) x;
	SELECT count(*), ROW(count(*), sum(num_of_orders)::numeric, sum(total_revenue))::text INTO n, totals FROM by_rules;
	SELECT ROW(p.*)::text INTO previewed FROM customer_segmentation.preview_segment(rules, segment_by, as_of) p;
	PERFORM set_config('customer_segmentation.as_of', '', true);
	DROP TABLE by_rules, by_hand;
	IF only_rules IS NOT NULL OR only_hand IS NOT NULL THEN
		RETURN format('DIFFERENT: only by rules %s, only by hand %s', only_rules, only_hand);
	END IF;
	IF totals <> previewed THEN
		RETURN format('DIFFERENT: explained %s, previewed %s', totals, previewed);
	END IF;
	RETURN n || ' members';
END $$;

-- Rules of one filter.
CREATE FUNCTION shop.prop(property text, comparator text, value jsonb DEFAULT NULL) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('type', 'user_property', 'definition', jsonb_build_object('property',
		jsonb_build_object('property', property, 'comparator', comparator) || CASE WHEN value IS NULL THEN '{}' ELSE jsonb_build_object('value', value) END))
$$;
CREATE FUNCTION shop.act(action text, comparator text, value jsonb, "time" jsonb DEFAULT '{"comparator": "over_all_time"}', VARIADIC properties jsonb[] DEFAULT '{}')
RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('type', 'user_action', 'definition', jsonb_build_object('action',
		jsonb_build_object('type', action, 'comparator', comparator, 'value', value), 'time', "time")
		|| CASE cardinality(properties) WHEN 0 THEN '{}' WHEN 1 THEN jsonb_build_object('property', properties[1]) ELSE jsonb_build_object('properties', properties) END)
$$;
CREATE FUNCTION shop.op(type text, VARIADIC filters jsonb[]) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('type', type, 'filters', filters)
$$;
