# The examples of the documents return what is printed there: on the data of test/demo, made here as the demo makes it.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use CustomerSegments;

my $tree = "$FindBin::RealBin/../..";
my $node = new_cluster('documents', conf => "fsync = off\nautovacuum = off\ntimezone = UTC\n");
$node->safe_psql('postgres', 'CREATE DATABASE demo');

sub script {
    my ($file, @options) = @_;
    $node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', @options, '-d', $node->connstr('demo'), '-f', "$tree/test/demo.d/$file" ], $file);
}
$node->safe_psql('demo', 'CREATE EXTENSION customer_segmentation');
script('orders.sql');
script('customers.sql', '-v', 'type=bigint');
is($node->safe_psql('demo', 'SELECT count(*), sum(amount) FROM orders'), '13114|681096.50', 'the orders are those of the documents');

# Created in the evening of the first day, as of the last one backfilled.
my ($first, $last) = split /\|/, $node->safe_psql('demo', 'SELECT min(ordered_at)::date, max(ordered_at)::date FROM orders');
script('segments.sql', '-c', "SET customer_segmentation.as_of = '$first 23:55'");
$node->safe_psql('demo', "SET customer_segmentation.as_of = '$last 23:55';
	SELECT count(*) FROM customer_segmentation.segments AS s, customer_segmentation.backfill_segment(s.segment_id, '$first', '$last')");
$node->safe_psql('demo', 'VACUUM ANALYZE customer_segmentation_table');

# What a BI tool shows of the relations that it opens.
is($node->safe_psql('demo', q{
	SELECT string_agg(attrelid::regclass || '.' || attname, ' ') FROM pg_attribute
	 WHERE attrelid IN ('customer_segmentation_table'::regclass, 'customer_segmentation_latest'::regclass, 'customer_segmentation.segment_instances'::regclass)
	   AND attnum > 0 AND col_description(attrelid, attnum) IS NULL}), '', 'columns are described');

# All that a user calls is in the reference. What views are made of is not meant to be called.
my $reference = join '', map { slurp_file($_) } glob "'$tree/sql/*.md'";
my @names = split /\n/, $node->safe_psql('demo', q{
	SELECT proname FROM pg_proc WHERE pronamespace = 'customer_segmentation'::regnamespace AND obj_description(oid, 'pg_proc') IS NOT NULL
	   AND proname <> 'newest_instances' AND proname NOT LIKE 'list\_%'
	UNION SELECT relname FROM pg_class WHERE relnamespace = 'customer_segmentation'::regnamespace AND relkind = 'v' ORDER BY 1});
cmp_ok(scalar @names, '>', 40, 'functions and views are described in the catalogue');
is(join(' ', grep { $reference !~ /`\Q$_\E\b|^\Q$_\E\(|^#+ \Q$_\E\b|customer_segmentation\.\Q$_\E\b/m } @names), '', '... and in the reference');

# What changes the demo's instances has a copy of its own.
$node->safe_psql('postgres', 'CREATE DATABASE changed TEMPLATE demo');
local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port);
for ([ demo => qw(README.md sql/answers.md sql/analysis.md) ], [ changed => qw(sql/sets.md sql/care.md) ]) {
    my ($database, @files) = @$_;
    $ENV{PGDATABASE} = $database;
    for my $file (@files) {
        my $shown = `'$^X' '$tree/sql/analysis/refresh' --check '$tree/$file' 2>&1`;
        my $status = $?;
        is($status, 0, "$file returns what it shows");
        $status == 0 ? note $shown : diag $shown;
    }
}

done_testing;
