# A real order history, CDNOW's: 23,570 customers over 546 days. Segments by rules and by queries are backfilled day by
# day, and every instance is what hand-written SQL says of the orders as of that day.
#
# The SQL says for each segment in which intervals of days a customer is a member, and with what numbers; running sums
# over the days then give each day's members, orders, revenue and a sum of hashes of all three, to which the rows of the
# table must come. Some days are compared row by row, too.
#
# The data is not part of the project: CSEG_CDNOW names its folder; else it is looked for beside the tree.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use Time::HiRes qw(time);
use Test::More;
use CustomerSegments;

my $folder = $ENV{CSEG_CDNOW} // "$FindBin::RealBin/../../../shared/data/cdnow";
my $file   = "$folder/CDNOW_master.txt";
plan skip_all => "the CDNOW orders: no $file (CSEG_CDNOW names the folder)" unless -r $file;

my $node = new_cluster('backfill', conf => "TimeZone = 'UTC'\nmax_wal_size = 4GB\nfsync = off\nmax_parallel_workers_per_gather = 0\n");

sub purchases {
    my ($comparator, $value, $time) = @_;
    return qq({"type": "user_action", "definition": {"action": {"type": "made_purchase", "comparator": "$comparator", "value": $value}, "time": $time}});
}
sub property {
    my ($name, $comparator, $value) = @_;
    return qq({"type": "user_property", "definition": {"property": {"property": "$name", "comparator": "$comparator", "value": $value}}});
}
sub rules { my $type = shift; return qq({"type": "$type", "filters": [) . join(', ', @_) . ']}' }
sub query { return "SELECT c.$_[0], count(*), sum(o.amount) FROM orders o JOIN customers c USING (customer_id) WHERE o.ordered_at <= customer_segmentation.as_of() $_[1] GROUP BY c.$_[0] $_[2]" }

my $ever = '{"comparator": "over_all_time"}';
sub under { return qq({"comparator": "under", "value": $_[0], "unit": "day"}) }

# name, identity, definition, and the intervals: customer, first and last day, orders, revenue. In states, a row holds
# from a customer's day of purchase to the day before the next; in windows, the same for the orders of the last days.
my @segments = (
    [ 'At least 3 orders', 'customer_id', query('customer_id', '', 'HAVING count(*) >= 3'),
        'SELECT who, a, b, orders, revenue FROM states WHERE orders >= 3' ],
    [ 'One-time buyers', 'email', rules('AND', purchases('equal', 1, $ever)),
        'SELECT who, a, b, orders, revenue FROM states WHERE orders = 1' ],
    [ 'Spent over 100', 'email', query('email', '', 'HAVING sum(o.amount) > 100'),
        'SELECT who, a, b, orders, revenue FROM states WHERE revenue > 100' ],
    [ 'Bought in the last 30 days', 'customer_id', rules('AND', purchases('greater_than', 0, under(30))),
        'SELECT who, a, b, orders, revenue FROM windows WHERE days = 30 AND orders > 0' ],
    [ 'Lapsed for 90 days', 'email', query('email', '', "HAVING count(*) >= 2 AND max(o.ordered_at) < customer_segmentation.as_of() - interval '90 days'"),
        'SELECT who, a + 90, b, orders, revenue FROM states WHERE orders >= 2' ],
    [ 'First in January, not active for 60 days', 'customer_id',
        query('customer_id', '', "HAVING extract(month FROM min(o.ordered_at)) = 1 AND max(o.ordered_at) < customer_segmentation.as_of() - interval '60 days'"),
        'SELECT who, a + 60, b, orders, revenue FROM states WHERE extract(month FROM first_day) = 1' ],
    [ 'Lost for 180 days', 'customer_id', rules('AND', purchases('equal', 0, under(180)), purchases('greater_than', 0, $ever)),
        'SELECT who, a + 180, b, orders, revenue FROM states' ],
    [ 'Big spenders', 'email', rules('AND', property('customer_total_spend', 'greater_than', 500)),
        'SELECT who, a, b, orders, revenue FROM states WHERE revenue > 500' ],
    [ 'Baskets over 50', 'email', query('email', '', 'HAVING avg(o.amount) > 50'),
        'SELECT who, a, b, orders, revenue FROM states WHERE revenue / orders > 50' ],
    [ 'New this month', 'customer_id', query('customer_id', '', "HAVING date_trunc('month', min(o.ordered_at)) = date_trunc('month', customer_segmentation.as_of()::timestamp)"),
        q(SELECT who, a, least(b, (date_trunc('month', first_day) + interval '1 month - 1 day')::date), orders, revenue FROM states) ],
    [ 'Twice in 60 days', 'email', rules('AND', purchases('greater_than', 1, under(60))),
        'SELECT who, a, b, orders, revenue FROM windows WHERE days = 60 AND orders > 1' ],
    [ 'Often or much', 'customer_id', rules('OR', purchases('greater_or_equal', 10, $ever), property('customer_total_spend', 'greater_than', 1000)),
        'SELECT who, a, b, orders, revenue FROM states WHERE orders >= 10 OR revenue > 1000' ],
    [ 'Bought today', 'customer_id', query('customer_id', 'AND o.ordered_at > customer_segmentation.as_of() - interval \'1 day\'', ''),
        'SELECT who, day, day, n, amount FROM purchases' ],
    [ 'Not more than twice', 'customer_id', rules('NOT', purchases('greater_than', 2, $ever)),
        'SELECT who, a, b, orders, revenue FROM states WHERE orders <= 2 AND orders > 0' ],
);

$node->safe_psql('postgres', <<"SQL");
CREATE EXTENSION customer_segmentation;
CREATE TABLE lines (line text);
\\copy lines FROM '$file'
CREATE TABLE orders AS
SELECT f[1]::bigint AS customer_id, to_date(f[2], 'YYYYMMDD')::timestamp AS ordered_at, f[4]::numeric AS amount
FROM (SELECT regexp_split_to_array(btrim(line, E' \\r'), ' +') AS f FROM lines) AS l;
CREATE TABLE customers AS
SELECT customer_id, 'customer' || customer_id || '\@example.com' AS email, min(ordered_at) AS first_order FROM orders GROUP BY 1;
ALTER TABLE customers ADD PRIMARY KEY (customer_id);
VACUUM ANALYZE orders, customers;
SELECT customer_segmentation.set_source('orders', 'orders', '{"customer_id": "customer_id", "time": "ordered_at", "amount": "amount"}');
SELECT customer_segmentation.set_source('customers', 'customers', '{"customer_id": "customer_id", "email": "email", "time": "first_order"}');

CREATE TABLE purchases AS SELECT customer_id AS who, ordered_at::date AS day, count(*) AS n, sum(amount) AS amount FROM orders GROUP BY 1, 2;
CREATE TABLE period AS SELECT min(day) AS first, max(day) AS last FROM purchases;
CREATE TABLE states AS
SELECT who, day AS a, coalesce(lead(day) OVER w - 1, last) AS b, first_value(day) OVER w AS first_day,
	(sum(n) OVER w)::bigint AS orders, sum(amount) OVER w AS revenue
FROM purchases, period WINDOW w AS (PARTITION BY who ORDER BY day);
CREATE TABLE windows AS
SELECT days, who, day AS a, least(coalesce(lead(day) OVER w - 1, last), last) AS b, (sum(n) OVER w)::bigint AS orders, sum(amount) OVER w AS revenue
FROM (SELECT days, who, day + CASE sign WHEN 1 THEN 0 ELSE days END AS day, sum(sign * n) AS n, sum(sign * amount) AS amount
	FROM purchases, (VALUES (30), (60)) d (days), (VALUES (1), (-1)) s (sign) GROUP BY 1, 2, 3) p, period
WINDOW w AS (PARTITION BY days, who ORDER BY day);
CREATE TABLE hand (segment_id text, who bigint, a date, b date, orders bigint, revenue numeric);
CREATE FUNCTION hash_of(identity text, orders bigint, revenue numeric) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN hashtextextended(identity, orders * 1000003 + (revenue * 100)::bigint);
SQL

# ---- define, backfill -------------------------------------------------------------------------------------------

my $rows = $node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT customer_id), max(ordered_at)::date - min(ordered_at)::date + 1 FROM orders');
is($rows, '69659|23570|546', 'the orders are those of CDNOW');

my $n = 0;
my %id;
for my $segment (@segments) {
    my ($name, $by, $definition, $hand) = @$segment;
    my $id = $id{$name} = sprintf '%024x', ++$n;
    my $as = $definition =~ /^\{/ ? "rules => '$definition'::jsonb" : "\$\$$definition\$\$";
    $node->safe_psql('postgres', "SET customer_segmentation.as_of = '1997-01-01 12:00';
        SELECT customer_segmentation.create_segment('$name', $as, segment_by => '$by', segment_id => '$id');
        INSERT INTO hand SELECT '$id', i.* FROM ($hand) AS i (who, a, b, orders, revenue), period WHERE a <= b AND a <= last");
}

# Two sessions, as segments don't wait for each other.
my $start = time;
my @sessions = map {
    my $half = $_;
    start_psql($node, "SET client_min_messages = warning;\n" . join '',
        map { "SELECT count(*) FROM customer_segmentation.backfill_segment('$id{$_->[0]}', '1997-01-01', '1998-06-30');\n" }
        grep { hex($id{ $_->[0] }) % 2 == $half } @segments);
} 0, 1;
ok(finish_psql($_), 'a session backfills its segments') for @sessions;
my $seconds = time - $start;

# ---- compare ----------------------------------------------------------------------------------------------------

is($node->safe_psql('postgres', "SELECT count(DISTINCT segment_id), count(*) FROM customer_segmentation.segment_runs WHERE kind = 'backfill' AND status = 'succeeded'"),
    scalar(@segments) . '|' . 546 * @segments, 'every day of every segment was evaluated');

my $identity = "CASE s.segment_by WHEN 'email' THEN 'customer' || who || '\@example.com' ELSE who::text END";
my $differences = $node->safe_psql('postgres', <<"SQL");
CREATE TABLE by_hand AS
SELECT segment_id, day, sum(n) OVER w AS customers, sum(o) OVER w AS orders, sum(r) OVER w AS revenue, sum(h) OVER w AS hash
FROM (SELECT segment_id, day, sum(sign) AS n, sum(sign * orders) AS o, sum(sign * revenue) AS r, sum(sign::numeric * hash) AS h
	FROM (SELECT h.segment_id, CASE sign WHEN 1 THEN a ELSE b + 1 END AS day, sign, orders, revenue, hash_of($identity, orders, revenue) AS hash
		FROM hand h JOIN customer_segmentation.segments s USING (segment_id), (VALUES (1), (-1)) AS v (sign)
		UNION ALL SELECT segment_id, day::date, 0, 0, 0, 0 FROM customer_segmentation.segments, period, generate_series(first, last, '1 day') AS day) AS e
	GROUP BY 1, 2) AS d
WINDOW w AS (PARTITION BY segment_id ORDER BY day);
CREATE TABLE stored AS
SELECT segment_id, instance_created_date::date AS day, count(*) AS customers, sum(num_of_orders) AS orders, sum(total_revenue) AS revenue,
	sum(hash_of(customer_identity, num_of_orders, total_revenue)) AS hash
FROM customer_segmentation_table GROUP BY 1, 2;
SELECT s.segment_name, d.* FROM (
	SELECT 'by hand' AS side, * FROM (SELECT * FROM by_hand WHERE customers > 0 AND day <= (SELECT last FROM period) EXCEPT SELECT * FROM stored) AS x
	UNION ALL SELECT 'stored', * FROM (SELECT * FROM stored EXCEPT SELECT * FROM by_hand) AS y) AS d
JOIN customer_segmentation.segments s USING (segment_id) ORDER BY segment_id, day, side LIMIT 20;
SQL
is($differences, '', 'every instance is what the SQL says');
my $compared = $node->safe_psql('postgres', "SELECT count(*) FROM stored");
is($compared, $node->safe_psql('postgres', "SELECT count(*) FROM by_hand WHERE customers > 0 AND day <= (SELECT last FROM period)"), "$compared instances were compared");

is($node->safe_psql('postgres', <<"SQL"), 0, 'and, on some days, row by row');
WITH d AS (SELECT (date '1997-01-05' + n * 60) AS day FROM generate_series(0, 9) n),
stored AS (SELECT segment_id, instance_created_date, segment_instance_id, customer_identity, num_of_customers, num_of_orders, total_revenue::text
	FROM customer_segmentation_table WHERE instance_created_date IN (SELECT day + time '12:00' FROM d)),
by_hand AS (SELECT segment_id, day + time '12:00', segment_id || to_char(day, '_YYYY_MM_DD'), $identity, 1::bigint, orders, revenue::text
	FROM hand JOIN d ON day BETWEEN a AND b JOIN customer_segmentation.segments s USING (segment_id))
SELECT count(*) FROM ((TABLE stored EXCEPT ALL TABLE by_hand) UNION ALL (TABLE by_hand EXCEPT ALL TABLE stored)) AS x
SQL
is($node->safe_psql('postgres', 'SELECT * FROM customer_segmentation.verify()'), '', 'and the table is sound');

my ($stored, $bytes, $each) = split /\|/, $node->safe_psql('postgres', 'VACUUM customer_segmentation_table;
    SELECT rows, total_bytes, round(bytes_per_row::numeric, 4) FROM customer_segmentation.storage_info()');
diag(sprintf '%d segments, %d instances, %d rows backfilled in %.1f s; %d bytes, %s bytes a row',
    scalar(@segments), $compared, $stored, $seconds, $bytes, $each);
$node->stop;
done_testing();
