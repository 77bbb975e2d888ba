# Cancelling works promptly everywhere and leaves nothing: no rows, no locks, no memory.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;
use Time::HiRes qw(time sleep);
use PostgreSQL::Test::Utils;
use CustomerSegments;

my $node = new_cluster('cancel', conf => "autovacuum = off\nmax_wal_size = 1GB\n");
prepare($node);
$node->safe_psql('postgres', load(1, $_, 1, 40000)) for 0 .. 3;
$node->safe_psql('postgres', 'CREATE TABLE many AS SELECT r.* FROM generate_series(10, 12) d, test_rows(2, d, 20001, 50000) r');
sound($node, 'before');

# What is cancelled, and after what shares of its usual time.
my %statement = (
    'load'         => 'INSERT INTO s SELECT * FROM many',
    'load of unsorted rows through a small buffer' =>
        q{SET LOCAL customer_segmentation.write_buffer = '1MB'; INSERT INTO s SELECT * FROM many ORDER BY md5(customer_identity)},
    'COPY'         => 'COPY s FROM :many',
    'scan'         => 'SELECT sum(length(customer_identity)), sum(total_revenue) FROM s, generate_series(1, 3) g WHERE length(customer_identity) + g > 0',
    'aggregate'    => 'SELECT customer_identity, count(*) FROM s GROUP BY 1 HAVING count(*) > 100',
    'update'       => 'UPDATE s SET num_of_orders = num_of_orders + 1',
    'delete'       => 'DELETE FROM s WHERE hashtext(customer_identity) % 2 = 0',
    'verify'       => q{SELECT * FROM customer_segmentation.verify('s')},
    'VACUUM'       => 'VACUUM FREEZE s',
    'VACUUM FULL'  => 'VACUUM FULL s',
    'ANALYZE'      => 'ANALYZE s',
    'to heap'      => 'ALTER TABLE s SET ACCESS METHOD heap',
    'CREATE TABLE' => 'CREATE TABLE other USING customer_segmentation AS SELECT * FROM s');
my $copied = PostgreSQL::Test::Utils::tempdir() . '/many';
$node->safe_psql('postgres', "COPY many TO '$copied'");

my $own = q{SELECT 'locks ' || count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype NOT IN ('virtualxid') AND NOT (locktype = 'relation' AND relation = 'pg_locks'::regclass);
SELECT 'contexts ' || coalesce(string_agg(DISTINCT name, ', '), 'none') FROM pg_backend_memory_contexts WHERE name LIKE 'customer_segmentation%' AND name !~ 'cache|dictionary|reader|view';
SELECT 'memory ' || (regexp_match(pg_read_file('/proc/' || pg_backend_pid() || '/status', 0, 10000), 'VmRSS:\s+(\d+)'))[1];
};

for my $name (sort keys %statement) {
    my $sql = $statement{$name};
    next if $sql =~ /ACCESS METHOD/ && $node->safe_psql('postgres', 'SHOW server_version_num') < 150000;
    my $plain = $sql =~ /^VACUUM/;

    # How long does it take? Rolled back where it can be.
    my $measure = ($plain ? '' : 'BEGIN;') . "$sql;" . ($plain ? '' : 'ROLLBACK;');
    $measure =~ s/:many/'$copied'/;
    my $t = time;
    $node->safe_psql('postgres', $measure);
    my $full = time - $t;

    my $script = '';
    my @after;
    for my $share (0.1, 0.45, 0.8) {
        my $ms = int($full * 1000 * $share);
        $ms = 50 if $ms < 50;
        push @after, $ms;
        my $one = $sql =~ s/:many/'$copied'/r;
        # The timeout is for the one statement: on a busy machine what follows can fall to it too, so that is said
        # more than once.
        $script .= ($plain ? '' : "BEGIN;\n")
            . "SELECT 'start ' || extract(epoch from clock_timestamp());\nSET statement_timeout = $ms;\n"
            . "\\o /dev/null\n$one;\n\\o\n"
            . ($plain ? '' : "ROLLBACK;\n" x 3) . "SET statement_timeout = 0;\n" x 3 . "SELECT 'end ' || extract(epoch from clock_timestamp());\n$own";
    }
    # The machine may be away for a second; twice at the same statement it is not.
    my ($job, @end, @memory, @errors, @other, $late);
    for my $try (1 .. 3) {
        $job = start_psql($node, $script, go_on => 1);
        finish_psql($job);
        my @start = $job->{out} =~ /^start ([\d.]+)/mg;
        @end    = $job->{out} =~ /^end ([\d.]+)/mg;
        @memory = $job->{out} =~ /^memory (\d+)/mg;
        @errors = $job->{err} =~ /ERROR:  ([0-9A-Z]{5})/g;
        @other  = grep { $_ ne '57014' } @errors;
        $late   = 0;
        for my $i (0 .. $#end) {
            my $over = $end[$i] - $start[$i] - $after[$i] / 1000;
            $late = $over if $over > $late;
        }
        last if $late < 1 || @other || @end != @after;
        note sprintf '%s: %.3f s late, once more', $name, $late;
    }
    is(scalar(@end), scalar(@after), "$name: the session lives on") or diag $job->{err};
    is("@other", '', "$name: cancelled by the timeout (" . scalar(@errors) . ' of ' . @after . ", $full s)") or diag $job->{err};
    cmp_ok($late, '<', 1, sprintf '%s: at most a second late (%.3f s)', $name, $late);
    is(join(' ', grep { $_ ne 'locks 0' } $job->{out} =~ /^(locks \d+)/mg), '', "$name: no locks left");
    is(join(' ', grep { $_ ne 'contexts none' } $job->{out} =~ /^(contexts .*)/mg), '', "$name: no memory contexts left");
    cmp_ok($memory[-1] - $memory[0], '<', 65536, "$name: memory does not grow (kB)") if @memory > 1;
    sound($node, "$name: as before");
}

# pg_cancel_backend, at random moments.
seed();
my $script = "SET application_name = 'victim';\n" . join '', map { "$_;\n" x 3 }
    map { s/:many/'$copied'/r } grep { !/^(?:CREATE|ALTER|VACUUM|SET)/ } map { $statement{$_} } sort keys %statement;
$script =~ s/^(INSERT|COPY|UPDATE|DELETE)(.*)$/BEGIN;\n$1$2\nROLLBACK;/mg;
my $job = start_psql($node, $script, go_on => 1);
my ($cancelled, $slow) = (0, 0);
while ($job->{run}->pumpable) {
    $job->{run}->pump_nb;
    sleep 0.1 + rand 0.3;
    my $query = q{SELECT query_start FROM pg_stat_activity WHERE application_name = 'victim' AND state = 'active'};
    my $when  = $node->safe_psql('postgres',
        "WITH v AS MATERIALIZED (SELECT pid, query_start FROM pg_stat_activity WHERE application_name = 'victim' AND state = 'active') "
            . 'SELECT query_start FROM v WHERE pg_cancel_backend(pid)');
    next if $when eq '';
    my $t = time;
    $node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM ($query) q WHERE query_start = '$when')");
    $slow++ if time - $t > 1;
    $cancelled++;
}
finish_psql($job);
my %state = map { $_ => 1 } $job->{err} =~ /ERROR:  ([0-9A-Z]{5})/g;
is(join(' ', sort keys %state), '57014', "pg_cancel_backend ($cancelled times)") or diag $job->{err};
cmp_ok($slow, '<=', $cancelled / 10, "pg_cancel_backend works within a second (but for $slow times)");
sound($node, 'pg_cancel_backend: as before');

# A writer that waits for another one can be cancelled, and does not stand in the way afterwards.
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN');
$holder->query_safe('UPDATE s SET num_of_orders = 1 WHERE segment_name = $$Segment 1$$ AND customer_identity = $$user3@example.com$$');
like(error_of($node, q{SET statement_timeout = 200; DELETE FROM s WHERE segment_name = 'Segment 1'}), qr/^57014/, 'a waiting writer');
like(error_of($node, q{SET lock_timeout = 200; DELETE FROM s WHERE segment_name = 'Segment 1'}), qr/^55P03/, 'lock_timeout');
$holder->query_safe('ROLLBACK');
$holder->quit;
$node->safe_psql('postgres', load(1, 30, 1, 100));
sound($node, 'the segment is free again');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_class WHERE relname = 'other'}), 0, 'no table is left');
$node->stop;
done_testing();
