-- 20 segments with :n instances each, two customers in every one.
INSERT INTO :t
SELECT 'customer' || (s * 7 + i * 3 + c * 11) % 1000,
       timestamp '2020-01-01 06:00' + i * interval '1 hour', 'every_hour', 'customer_id', timestamp '2019-12-31 09:30:00',
       lpad(to_hex(s), 24, '5'), lpad(to_hex(s), 24, '5') || to_char(timestamp '2020-01-01' + i * interval '1 hour', '_YYYY_MM_DD_HH24'),
       'Segment ' || s, 1, i % 7, (i % 100) * 1.25
  FROM generate_series(1, 20) AS s, generate_series(1, :n) AS i, generate_series(0, 1) AS c;
VACUUM ANALYZE :t;
