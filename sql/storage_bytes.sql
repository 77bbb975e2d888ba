-- The bytes of records, as src/store/README.md has them.
CREATE EXTENSION pageinspect;
CREATE TABLE bytes (LIKE customer_segmentation_table) USING customer_segmentation;
INSERT INTO bytes VALUES
	('5209503793328', '2025-08-25 11:08:39', 'once_a_day', 'customer_id', '2023-07-20 08:33:08', 'seg', 'seg_2025_08_25', 'At least 3 orders', 1, 3, 12.50),
	('5209503793329', '2025-08-25 11:08:39', 'once_a_day', 'customer_id', '2023-07-20 08:33:08', 'seg', 'seg_2025_08_25', 'At least 3 orders', 1, 4, 1.10);
UPDATE bytes SET num_of_orders = 5 WHERE customer_identity = '5209503793328';
-- Zero attributes, header of 24 bytes, then the payload. A dictionary's generation is random, and so its checksum.
SELECT t_infomask2 & 2047 AS natts, t_hoff, convert_from(substr(t_data, 1, 1), 'UTF8') AS kind, encode(substr(t_data, 1, 4), 'hex') AS kind_version_flags,
	CASE WHEN get_byte(t_data, 0) <> 68 THEN encode(substr(t_data, 5, 4), 'hex') END AS checksum,
	CASE WHEN get_byte(t_data, 0) <> 68 THEN encode(substr(t_data, 9, 4), 'hex') END AS group_no,
	encode(substr(t_data, 13, 4), 'hex') AS a, encode(substr(t_data, 17, 4), 'hex') AS b, encode(substr(t_data, 21, 4), 'hex') AS c,
	encode(substr(t_data, 25), 'hex') AS body
FROM heap_page_items(get_raw_page('bytes', 0)) WHERE t_data IS NOT NULL ORDER BY lp;
DROP TABLE bytes;
DROP EXTENSION pageinspect;
