# The answers on segments of the real orders of CDNOW (1997 and 1998), equal to plain SQL on a heap table with the same
# rows. The data is not part of the project: CSEG_CDNOW names its folder; else it is looked for beside the tree.

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

my $node = new_cluster('cdnow_answers', conf => "fsync = off\nautovacuum = off\nwork_mem = 64MB\ntimezone = UTC\n");
sub sql { return $node->safe_psql('postgres', join("\n", @_)) }
sql('CREATE EXTENSION customer_segmentation;',
    'CREATE TABLE orders (customer text NOT NULL, day date NOT NULL, amount numeric(8, 2) NOT NULL);');

# Fixed-width text with carriage returns.
my $rows = PostgreSQL::Test::Utils::tempdir() . '/orders.csv';
open my $in,  '<', $file or die "$file: $!";
open my $out, '>', $rows or die "$rows: $!";
while (my $line = <$in>) {
    my ($customer, $day, $items, $amount) = $line =~ /^\s*(\d+)\s+(\d{8})\s+(\d+)\s+([\d.]+)\s*$/ or next;
    print $out "$customer,$day,$amount\n";
}
close $in;
close $out or die "$rows: $!";
$node->command_ok([ 'psql', '-Xq', '-d', $node->connstr('postgres'), '-c', "\\copy orders FROM '$rows' (FORMAT csv)" ], 'loaded');
is(sql('SELECT count(*), count(DISTINCT customer) FROM orders'), '69659|23570', 'the orders are what was published');

# ---- segments over the whole history: daily (nine groups of instances), every third day, weekly --------------------------
sql('CREATE TABLE a (LIKE customer_segmentation_table) USING customer_segmentation;',
    'CREATE TABLE a_twin (LIKE customer_segmentation_table) USING heap;');
my @segments = (
    [ 1, 'Spent over 300',             1, 'true',                        'sum(o.amount) > 300' ],
    [ 2, 'Bought in the last 30 days', 3, q{o.day > m - interval '30 days'}, 'true' ],
    [ 3, 'One-time buyers',            7, 'true',                        'count(*) = 1' ],
    [ 4, 'At least 3 orders',          7, 'true',                        'count(*) >= 3' ]);
for (@segments) {
    my ($n, $name, $days, $which, $members) = @$_;
    sql("INSERT INTO a_twin SELECT o.customer, m + interval '23 hours', 'once_a_day', 'customer_id', '1997-01-01', 's$n',",
        "'s$n' || to_char(m, '_YYYY_MM_DD'), '$name' || CASE WHEN m >= '1998-01-01' THEN ' (renamed)' ELSE '' END, 1, count(*), sum(o.amount)",
        "FROM generate_series(timestamp '1997-01-01', '1998-06-30', interval '$days days') m JOIN orders o ON o.day <= m AND $which",
        "GROUP BY m, o.customer HAVING $members");
}
sql('INSERT INTO a SELECT * FROM a_twin; CREATE INDEX ON a_twin (segment_instance_id); VACUUM ANALYZE a_twin;');
note sql('SELECT segment_id, count(DISTINCT segment_instance_id), count(*) FROM a_twin GROUP BY 1 ORDER BY 1');
is(sql('SELECT count(*) FROM (SELECT * FROM a EXCEPT ALL SELECT * FROM a_twin) x'), '0', 'the same rows');
is(sql(q{SELECT count(*) FROM customer_segmentation.verify('a')}), '0', 'verify');

# ---- the twins of the regression test --------------------------------------------------------------------------------
open my $test, '<', "$FindBin::RealBin/../../sql/answers_equal.sql" or die $!;
my $text = do { local $/; <$test> };
my ($twins) = $text =~ /^(CREATE TABLE twin_instance .*?)^-- One segment's definition/ms or die 'the twins are not where they were';
sql($twins);

sub equal {
    my ($name, $ours, $theirs) = @_;
    my ($n, $differ) = split /\|/, sql("SELECT * FROM compare_answers(\$q\$$ours\$q\$, \$q\$$theirs\$q\$)");
    return ok($n > 0 && $differ == 0, "$name: $n rows, $differ differ");
}
for my $s (1 .. 4) {
    for my $span ('30 days', '1 year') {
        equal("dynamics of s$s, $span", "SELECT * FROM customer_segmentation.segment_dynamics('s$s', '$span', 'a')",
            "SELECT * FROM twin_dynamics('s$s', '$span')");
    }
}
for my $at ("'1997-01-05'", "'1997-04-15 12:00'", "'1998-01-01 23:00'", 'NULL') {
    equal("overlap at $at", "SELECT * FROM customer_segmentation.segment_overlap($at, 'a')", "SELECT * FROM twin_overlap($at)");
}
for ([ '1997-02-01', '1997-05-01' ], [ '1997-03-31', '1998-06-30 23:59' ]) {
    my $moments = join ', ', map { "'$_'" } @$_;
    equal("transitions, $moments", "SELECT * FROM customer_segmentation.segment_transitions($moments, 'a')",
        "SELECT * FROM twin_transitions($moments)");
}
for ([ 's1_1997_03_01', 's1_1998_06_30' ], [ 's2_1997_03_29', 's2_1997_05_01' ], [ 's3_1997_04_02', 's4_1998_04_01' ]) {
    my $ids = join ', ', map { "'$_'" } @$_;
    equal("changes, $ids", "SELECT * FROM customer_segmentation.segment_changes($ids, 'a')", "SELECT * FROM twin_changes($ids)");
}
is(sql(q{CREATE INDEX ON a_twin (customer_identity); SELECT sum(c.rows) > 300, sum(c.differ) FROM
    (SELECT DISTINCT customer FROM orders WHERE customer::int % 97 = 5) o CROSS JOIN LATERAL compare_answers(
    format('SELECT * FROM customer_segmentation.customer_history(%L, %L)', customer, 'a'), format('SELECT * FROM twin_history(%L)', customer)) c}),
    't|0', 'histories of 243 customers');
is(sql(q{SELECT count(*) FROM unnest('{1997-01-01 22:00,1997-06-15,1998-02-28 23:00,1999-01-01}'::timestamptz[]) at, generate_series(1, 4) n
    WHERE customer_segmentation.instance_as_of('s' || n, at, 'a') IS DISTINCT FROM twin_as_of('s' || n, at)}), '0', 'instances as of');

# ---- what they ordered -----------------------------------------------------------------------------------------------
sql(q{SELECT customer_segmentation.set_source('orders', 'orders', '{"customer_id": "customer", "time": "day", "amount": "amount"}')});
equal('performance',
    q{SELECT period, members, customers, orders, revenue, average_order_value, purchase_frequency
      FROM customer_segmentation.segment_performance('s4', '1997-10-01', '90 days', relation => 'a')},
    q{SELECT p, (SELECT count(*) FROM a_twin WHERE segment_instance_id = 's4_1997_09_24'), count(DISTINCT customer), count(*), sum(amount),
             sum(amount) / count(*), count(*)::numeric / count(DISTINCT customer)
      FROM (VALUES ('before', date '1997-10-01' - 90, date '1997-10-01'), ('after', '1997-10-01', date '1997-10-01' + 90)) v (p, f, t)
      JOIN orders ON day >= f AND day < t WHERE customer IN (SELECT customer_identity FROM a_twin WHERE segment_instance_id = 's4_1997_09_24') GROUP BY 1});

done_testing();
