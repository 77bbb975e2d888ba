# Rules over the real orders of CDNOW (1997 and 1998): every instance equal to SQL written by hand over the orders as of
# that day, members and measures. The data is not part of the project: CSEG_CDNOW names its folder; else it is looked for
# beside the tree.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use CustomerSegments;

my $folder = $ENV{CSEG_CDNOW} // "$FindBin::RealBin/../../../shared/data/cdnow";
my $file   = "$folder/CDNOW_master.txt";
plan skip_all => "the CDNOW orders: no $file (CSEG_CDNOW names the folder)" unless -r $file;

my $node = new_cluster('cdnow', conf => "fsync = off\nautovacuum = off\n");
sub sql { return $node->safe_psql('postgres', join("\n", @_)) }
sql('CREATE EXTENSION customer_segmentation',
    ';CREATE TABLE orders (customer text NOT NULL, day date NOT NULL, items integer NOT NULL, amount numeric(8, 2) NOT NULL);');

# Fixed-width text with carriage returns.
my $rows = PostgreSQL::Test::Utils::tempdir() . '/orders.csv';
open my $in,  '<', $file or die "$file: $!";
open my $out, '>', $rows or die "$rows: $!";
while (my $line = <$in>) {
    my ($customer, $day, $items, $amount) = $line =~ /^\s*(\d+)\s+(\d{8})\s+(\d+)\s+([\d.]+)\s*$/ or next;
    print $out "$customer,$day,$items,$amount\n";
}
close $in;
close $out or die "$rows: $!";
$node->command_ok([ 'psql', '-Xq', '-d', $node->connstr('postgres'), '-c', "\\copy orders FROM '$rows' (FORMAT csv)" ], 'loaded');
is(sql('SELECT count(*), count(DISTINCT customer), min(day), max(day) FROM orders'), '69659|23570|1997-01-01|1998-06-30', 'the orders are what was published');
sql(q{ANALYZE orders; SELECT customer_segmentation.set_source('orders', 'orders', '{"customer_id": "customer", "time": "day", "amount": "amount", "items_number": "items"}')});

# ---- segments: rules, and by hand the members, and the days that their orders are counted of ----------------------------
sub bought {
    my ($count, $time, $property) = @_;
    return qq({"type": "user_action", "definition": {"action": {"type": "made_purchase", $count}, "time": {$time})
        . ($property ? qq(, "property": {$property}) : '') . '}}';
}
sub all_of { return '{"type": "AND", "filters": [' . join(', ', @_) . ']}' }
my $some = '"comparator": "greater_than", "value": 0';
my $ever = '"comparator": "over_all_time"';
sub under { return qq("comparator": "under", "value": $_[0], "unit": "$_[1]") }

# c is a customer with orders up to the day: n, spent, first, last, at (all days), worse_* (the share of worse customers).
my @segments = (
    [ 'more than once in 90 days', bought('"comparator": "greater_than", "value": 1', under(90, 'day')),
        q{(SELECT count(*) FROM unnest(at) d WHERE d > m - interval '90 days') > 1}, q{day > m - interval '90 days'} ],
    [ 'one-time buyers', bought('"comparator": "equal", "value": 1', $ever), 'n = 1', 'true' ],
    [ 'at least 3 orders', bought('"comparator": "greater_or_equal", "value": 3', $ever), 'n >= 3', 'true' ],
    [ 'lost', all_of(bought($some, $ever), bought('"comparator": "equal", "value": 0', under(6, 'month'))), q{last <= m - interval '6 months'}, 'true' ],
    [ 'not for 12 weeks', bought('"comparator": "less_than", "value": 1', under(12, 'week')), q{last <= m - interval '12 weeks'}, 'true' ],
    [   'new this month', '{"type": "user_action", "definition": {"action": {"type": "new_customer_purchase", ' . $some . '}, "time": {' . under(1, 'month') . '}}}',
        q{first > m - interval '1 month'}, q{day > m - interval '1 month'} ],
    [   'came back in April or May 1997',
        '{"type": "user_action", "definition": {"action": {"type": "returning_customer_purchase", ' . $some . '}, "time": {"comparator": "between", "value1": "1997-04-01", "value2": "1997-05-31"}}}',
        q{EXISTS (SELECT FROM unnest(at) d WHERE d > first AND d BETWEEN '1997-04-01' AND '1997-05-31')}, q{day BETWEEN '1997-04-01' AND '1997-05-31'} ],
    [ 'a large order', bought($some, $ever, '"property": "order_value", "comparator": "greater_than", "value": 99.99'), q{EXISTS (SELECT FROM orders o WHERE o.customer = c.customer AND day <= m AND amount > 99.99)}, 'true' ],
    [ 'five disks or more in an order 30 to 120 days ago', bought($some, '"comparator": "within", "value1": 120, "value2": 30, "unit": "day"', '"property": "items_number", "comparator": "greater_or_equal", "value": 5'),
        q{EXISTS (SELECT FROM orders o WHERE o.customer = c.customer AND day <= m AND items >= 5 AND day BETWEEN m - interval '120 days' AND m - interval '30 days')},
        q{day BETWEEN m - interval '120 days' AND m - interval '30 days'} ],
    [ 'spent 100 to 500', '{"type": "user_property", "definition": {"property": {"property": "customer_total_spend", "comparator": "between", "value": [100, 500]}}}', 'spent BETWEEN 100 AND 500', 'true' ],
    [ 'average over 40', '{"type": "user_property", "definition": {"property": {"property": "customer_aov", "comparator": "greater_than", "value": 40}}}', 'spent / n > 40', 'true' ],
    [   'champions', '{"type": "rfm_segment", "definition": {"properties": [{"property": "customer_rfm_recency", "comparator": "is_in", "value": [4, 5]},'
            . '{"property": "customer_rfm_frequency", "comparator": "is_in", "value": [4, 5]}, {"property": "customer_rfm_monetary", "comparator": "is_not_in", "value": [1, 2, 3]}]}}',
        'worse_last >= 0.6 AND worse_n >= 0.6 AND worse_spent >= 0.6', 'true' ],
    [ 'lapsed high-value', 'template', q{worse_spent >= 0.8 AND last <= m - interval '180 days'}, 'true' ],
    [ 'before April, not since July 1997', all_of(bought($some, '"comparator": "before", "value": "1997-04-01"'), '{"type": "NOT", "filters": [' . bought($some, '"comparator": "after", "value": "1997-06-30"') . ']}'),
        q{first < '1997-04-01' AND last <= '1997-06-30'}, 'true' ],
);
my @days = ('1997-01-31', '1997-03-31', '1997-08-15', '1998-02-28', '1998-06-30');

sql(q{CREATE TABLE past (m timestamp, customer text, n bigint, spent numeric, first date, last date, at date[], worse_n numeric, worse_spent numeric, worse_last numeric)});
for my $day (@days) {
    sql(qq{INSERT INTO past SELECT '$day 20:00', *, worse(n) OVER () FROM (SELECT customer, count(*) AS n, sum(amount) AS spent, min(day) AS first, max(day) AS last, array_agg(day) AS at FROM orders WHERE day <= '$day' GROUP BY 1) c} =~
            s/worse\(n\) OVER \(\)/join ', ', map { "(rank() OVER (ORDER BY $_) - 1)::numeric \/ count(*) OVER ()" } qw(n spent last)/er);
}
sql('CREATE INDEX ON orders (customer); ANALYZE');

my $number = 0;
for my $segment (@segments) {
    my ($name, $rules, $members, $counted) = @$segment;
    my $id = sprintf '%024x', ++$number;
    my $given = $rules eq 'template' ? q{(SELECT rules FROM customer_segmentation.segment_templates WHERE name = 'Lapsed high-value')} : "\$r\$$rules\$r\$::jsonb";
    sql("SELECT customer_segmentation.create_segment('$name', $given, segment_id => '$id', time_zone => 'America/New_York', schedule => 'manual')");
    for my $day (@days) {
        sql("SELECT customer_segmentation.run_segment('$id', timestamptz '$day 20:00 America/New_York')");
        my $hand = "SELECT customer, count(day), coalesce(sum(amount), 0) FROM past c LEFT JOIN orders o USING (customer) "
            . "WHERE m = '$day 20:00' AND ($members) GROUP BY 1";
        $hand =~ s/LEFT JOIN orders o USING \(customer\)/LEFT JOIN LATERAL (SELECT day, amount FROM orders o WHERE o.customer = c.customer AND day <= m AND ($counted)) o ON true/;
        my $stored = "SELECT customer_identity, num_of_orders, total_revenue FROM customer_segmentation_table "
            . "WHERE segment_id = '$id' AND instance_created_date = '$day 20:00'";
        my ($ours, $only_ours, $only_hand) = split /\|/, sql("WITH h AS MATERIALIZED ($hand), s AS MATERIALIZED ($stored) SELECT (SELECT count(*) FROM s), "
                . '(SELECT count(*) FROM (TABLE s EXCEPT ALL TABLE h) x), (SELECT count(*) FROM (TABLE h EXCEPT ALL TABLE s) x)');
        is("$only_ours $only_hand", '0 0', "$name on $day: $ours members");
    }
}
isnt(sql('SELECT count(*) FROM customer_segmentation_table'), '0', 'something was compared');
is(sql('SELECT count(DISTINCT segment_id) FROM customer_segmentation_table'), scalar @segments, 'every segment has had members');
is( sql(q{SELECT count(*), count(*) FILTER (WHERE num_of_customers > 0) FROM customer_segmentation.segment_templates t, }
          . q{customer_segmentation.preview_segment(rules, as_of => '1998-06-30 20:00+00') WHERE available}),
    '13|11', 'the ready-made rules that orders are enough for');    # nobody is new, so nobody came back soon
is(sql('SELECT * FROM customer_segmentation.verify()'), '', 'verify finds nothing');
done_testing();
