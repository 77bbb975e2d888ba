# Other extensions with hooks, before this one and after it: all hooks are called, cheaper paths of others are taken, on
# tables of the access method and on ordinary ones, and results stay the same.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use Cwd qw(abs_path);
use File::Copy;
use Test::More;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use CustomerSegments;

# A module with hooks and paths of its own.
my $build = PostgreSQL::Test::Utils::tempdir();
copy("$FindBin::RealBin/neighbour/$_", $build) or die "$_: $!" for 'Makefile', 'neighbour.c';
my $node   = new_cluster('neighbour', start => 0);
my $config = $node->config_data('--bindir') . '/pg_config';
{
    # What the outer make has set is about the extension.
    local @ENV{qw(MAKEFLAGS MAKELEVEL MFLAGS)};
    delete @ENV{qw(MAKEFLAGS MAKELEVEL MFLAGS)};
    is(system("make -s -C $build PG_CONFIG=$config >$build/log 2>&1"), 0, 'the neighbour builds') or do { diag slurp_file("$build/log"); done_testing(); exit };
}
my $neighbour = "$build/neighbour";
my $contrib   = join ',', grep { -e $node->config_data('--pkglibdir') . "/$_.so" } qw(pg_stat_statements auto_explain);

$node->start;
prepare($node);
$node->safe_psql('postgres', load(1, $_, 1, 300)) for 0 .. 2;
$node->safe_psql('postgres', "CREATE FUNCTION neighbour_calls() RETURNS text LANGUAGE c AS '$neighbour', 'neighbour_calls'; VACUUM ANALYZE s, twin");
$node->safe_psql('postgres', 'CREATE EXTENSION pg_stat_statements') if $contrib =~ /pg_stat_statements/;

my %query = (
    rows   => 'SELECT customer_identity, num_of_orders FROM {T} WHERE segment_instance_id LIKE \'%_01_02\' AND num_of_orders > 3',
    groups => 'SELECT segment_instance_id, count(*), sum(num_of_orders) FROM {T} WHERE num_of_orders > 3 GROUP BY 1',
    join   => 'SELECT a.customer_identity, b.total_revenue FROM {T} a JOIN twin b USING (segment_instance_id, customer_identity) WHERE a.num_of_orders = 5');

sub result {
    my ($settings, $query, $table) = @_;
    my $sql = $query{$query} =~ s/\{T\}/$table/r;
    return $node->safe_psql('postgres', "$settings SELECT count(*), md5(string_agg(x::text, ';' ORDER BY x::text COLLATE \"C\")) FROM ($sql) x");
}

sub plan {
    my ($settings, $query, $table) = @_;
    return $node->safe_psql('postgres', "$settings EXPLAIN (COSTS OFF) " . ($query{$query} =~ s/\{T\}/$table/r));
}

# Who is loaded when: by the server, or by the session, where this one comes with the first use of a table.
my %order = (
    'neighbours first'   => [ "shared_preload_libraries = '$contrib,$neighbour,customer_segmentation'", '' ],
    'neighbours last'    => [ "shared_preload_libraries = 'customer_segmentation,$neighbour,$contrib'", '' ],
    'neighbours between' => [ "shared_preload_libraries = '$contrib,customer_segmentation,$neighbour'", '' ],
    'by the session, neighbour first' => [ "shared_preload_libraries = '$contrib'", "LOAD '$neighbour';" ],
    'by the session, neighbour last'  => [ "shared_preload_libraries = '$contrib'", "SELECT count(*) FROM s WHERE false \\g /dev/null\nLOAD '$neighbour';" ]);

for my $name (sort keys %order) {
    my ($conf, $load) = @{ $order{$name} };
    $conf =~ s/',/'/;
    $conf =~ s/,'/'/;
    $node->append_conf('postgresql.conf', "$conf\nauto_explain.log_min_duration = 0\nauto_explain.log_analyze = on\nauto_explain.log_nested_statements = on\n");
    $node->restart;

    for my $query (sort keys %query) {
        my $heap = result('', $query, 'twin');
        is(result($load, $query, 's'), $heap, "$name: $query, as on heap");
        is(result("$load SET neighbour.paths = on;", $query, 's'), $heap, "$name: $query, by cheaper paths");
        my $offer = "$load SET neighbour.paths = on;";
        like(plan($offer, $query, $_), qr/Custom Scan \(Neighbour\)/, "$name: $query, the cheaper path is taken on $_") for 's', 'twin';
        unlike(plan($offer, 'rows', 's'), qr/CustomerSegmentationScan/, "$name: and ours is not");
        like(plan($load, $query, 's'), qr/CustomerSegmentation/, "$name: $query, ours is where none is cheaper");
        unlike(plan($load, 'rows', 'twin'), qr/Custom Scan/, "$name: and not on heap");
    }
    is($node->safe_psql('postgres', "$load $query{groups}; SELECT neighbour_calls()" =~ s/\{T\}/s/r) =~ s/.*\n//sr, 'tables 1 groups 1 starts 1 ends 1', "$name: all hooks are called");

    # Writes are flushed at the ends that the hooks of this one see.
    my $writes = "$load BEGIN; " . load(2, 1, 1, 50) . 'UPDATE s SET num_of_orders = 7 WHERE segment_id LIKE \'%2\' AND num_of_orders = 5;
UPDATE twin SET num_of_orders = 7 WHERE segment_id LIKE \'%2\' AND num_of_orders = 5; SELECT count(*) FROM ((TABLE s EXCEPT TABLE twin) UNION ALL (TABLE twin EXCEPT TABLE s)) x; ROLLBACK';
    is($node->safe_psql('postgres', $writes), 0, "$name: writes are there when they are read");
    is(problems($node), '', "$name: nothing is wrong");

    if ($contrib =~ /pg_stat_statements/) {
        $node->safe_psql('postgres', 'SELECT pg_stat_statements_reset()');
        $node->safe_psql('postgres', $query{rows} =~ s/\{T\}/s/r);
        is($node->safe_psql('postgres', q{SELECT calls, rows FROM pg_stat_statements WHERE query LIKE 'SELECT customer_identity, num_of_orders FROM s %'}),
            '1|' . $node->safe_psql('postgres', 'SELECT count(*) FROM (' . ($query{rows} =~ s/\{T\}/twin/r) . ') x'), "$name: pg_stat_statements counts");
    }
    if ($contrib =~ /auto_explain/) {
        my $offset = -s $node->logfile;
        $node->safe_psql('postgres', $query{groups} =~ s/\{T\}/s/r);
        like(slurp_file($node->logfile, $offset), qr/CustomerSegmentationAggregate\).*actual.*Segment Data: /s, "$name: auto_explain shows the node");
    }
}
$node->stop;
done_testing();
