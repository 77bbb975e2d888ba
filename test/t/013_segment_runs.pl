# Runs that are killed, at every stage: the next call records them and catches up once. Runs of a million members: memory,
# progress, cancelling.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;
use Time::HiRes qw(time sleep);
use PostgreSQL::Test::Utils;
use CustomerSegments;

my $node = new_cluster('runs', conf => "restart_after_crash = on\nautovacuum = off\nshared_buffers = 16MB\nmax_wal_size = 1GB\n");
$node->safe_psql('postgres', q{
CREATE EXTENSION customer_segmentation;
SET customer_segmentation.as_of = '2025-01-01 09:00+00';
SELECT customer_segmentation.create_segment('First', 'SELECT generate_series(1, 100)', segment_id => lpad('a', 24, '0'), time_zone => 'UTC');
SELECT customer_segmentation.create_segment('Waits', 'SELECT generate_series(1, 100) FROM (SELECT pg_advisory_xact_lock_shared(64)) x',
	segment_id => lpad('b', 24, '0'), time_zone => 'UTC');
SELECT customer_segmentation.create_segment('Last', 'SELECT generate_series(1, 100)', segment_id => lpad('c', 24, '0'), time_zone => 'UTC');
});
my $runs = q{SELECT string_agg(ltrim(segment_id, '0') || ' ' || status || coalesce(' ' || sqlstate, ''), ', ' ORDER BY run_id)
	FROM customer_segmentation.segment_runs WHERE as_of::date = };
my $stored = q{SELECT string_agg(ltrim(segment_id, '0') || ' ' || num_of_customers, ', ' ORDER BY segment_id)
	FROM customer_segmentation.segment_instances WHERE instance_created_date::date = };

# Starts a call that gets stuck in the second segment; returns it and the process.
sub stuck {
    my ($day, $gate) = @_;
    $gate->query_safe('SELECT pg_advisory_lock(64)');
    my $job = start_psql($node, "SET TimeZone = 'UTC'; CALL customer_segmentation.run_due_segments('2025-01-$day 10:00+00')");
    $node->poll_query_until('postgres',
        q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event = 'advisory' AND query LIKE '%evaluating segment%'});
    my $pid = $node->safe_psql('postgres', q{SELECT pid FROM customer_segmentation.segment_runs WHERE status = 'running'});
    return ($job, $pid);
}

sub caught_up {
    my ($name, $day, $sqlstate) = @_;
    is($node->safe_psql('postgres', "SET TimeZone = 'UTC'; $runs '2025-01-$day'"), 'a succeeded, b running', "$name: what is known before the next call");
    is($node->safe_psql('postgres', "$stored '2025-01-$day'"), 'a 100', "$name: nothing of the run is stored");
    $node->safe_psql('postgres', "CALL customer_segmentation.run_due_segments('2025-01-$day 10:05+00')") for 1 .. 2;
    is($node->safe_psql('postgres', "SET TimeZone = 'UTC'; $runs '2025-01-$day'"), "a succeeded, b failed $sqlstate, b succeeded, c succeeded",
        "$name: recorded, and caught up once");
    is($node->safe_psql('postgres', "$stored '2025-01-$day'"), 'a 100, b 100, c 100', "$name: all are stored");
    is($node->safe_psql('postgres', q{SELECT count(*) FROM customer_segmentation.segment_runs WHERE ended_at IS NULL OR ended_at < started_at}),
        0, "$name: every run has an end");
    is($node->safe_psql('postgres', 'SELECT * FROM customer_segmentation.verify()'), '', "$name: sound");
}

sub wait_for_server {
    for (1 .. 600) {
        my ($rc) = $node->psql('postgres', 'SELECT 1');
        return if $rc == 0;
        sleep 0.1;
    }
    die 'the server did not come back';
}

# kill -9 of the backend: the server restarts.
{
    my $gate = $node->background_psql('postgres');
    my ($job, $pid) = stuck('01', $gate);
    kill 9, $pid;
    finish_psql($job);
    wait_for_server();
    eval { $gate->quit };
    caught_up('kill -9', '01', '57000');
}

# pg_terminate_backend: the others go on.
{
    my $gate = $node->background_psql('postgres');
    my ($job, $pid) = stuck('02', $gate);
    $node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 60000)");
    finish_psql($job);
    $gate->quit;
    caught_up('pg_terminate_backend', '02', '57000');
}

# The server goes down at once.
{
    my $gate = $node->background_psql('postgres');
    my ($job, $pid) = stuck('03', $gate);
    $node->stop('immediate');
    finish_psql($job);
    eval { $gate->quit };
    $node->start;
    caught_up('immediate shutdown', '03', '57000');
}

# pg_cancel_backend: recorded by the call itself, which ends.
{
    my $gate = $node->background_psql('postgres');
    my ($job, $pid) = stuck('04', $gate);
    $node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
    ok(!finish_psql($job), 'pg_cancel_backend: the call ends');
    like($job->{err}, qr/57014/, 'pg_cancel_backend: with the SQLSTATE');
    $gate->quit;
    is($node->safe_psql('postgres', "SET TimeZone = 'UTC'; $runs '2025-01-04'"), 'a succeeded, b failed 57014', 'pg_cancel_backend: recorded');
    $node->safe_psql('postgres', q{CALL customer_segmentation.run_due_segments('2025-01-04 10:05+00')});
    is($node->safe_psql('postgres', "$stored '2025-01-04'"), 'a 100, b 100, c 100', 'pg_cancel_backend: the next call catches up');
}

# Killed again and again, at random moments, while other sessions run the same: nothing is lost, nothing is twice.
{
    seed();
    $node->safe_psql('postgres', q{SELECT customer_segmentation.alter_segment(lpad('b', 24, '0'),
		definition => 'SELECT generate_series(1, 3000), 1, 0.5', schedule => 'every_hour')});
    my $until = time + 12;
    my ($killed, $hour, @jobs) = (0, 0);
    my $call = sub {
        return start_psql($node, join('', map { "CALL customer_segmentation.run_due_segments(timestamptz '2025-01-05 09:30+00' + $hour * interval '1 hour');\n" } 1 .. 20), go_on => 1);
    };
    while (time < $until) {
        $hour++;
        @jobs = map { $call->() } 1 .. 3;
        sleep rand 0.3;
        $killed += $node->safe_psql('postgres', q{SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity WHERE query LIKE 'CALL%' OR query LIKE 'customer_segmentation:%' ORDER BY random() LIMIT 2) p});
        finish_psql($_) for @jobs;
    }
    $node->safe_psql('postgres', "CALL customer_segmentation.run_due_segments(timestamptz '2025-01-05 09:30+00' + $hour * interval '1 hour')");
    note "$killed killed in $hour hours";
    is($node->safe_psql('postgres', q{SELECT count(*) FROM customer_segmentation.segment_runs WHERE status = 'running' OR ended_at IS NULL}), 0, 'random kills: no run without an end');
    is($node->safe_psql('postgres', q{SELECT count(*) FROM (SELECT FROM customer_segmentation.segment_runs WHERE status = 'succeeded' GROUP BY segment_id, as_of HAVING count(*) > 1) d}),
        0, 'random kills: no period succeeded twice');
    is($node->safe_psql('postgres', q{SELECT count(*) FROM (SELECT segment_instance_id, rows FROM customer_segmentation.segment_runs WHERE status = 'succeeded') r
		FULL JOIN (SELECT segment_instance_id, num_of_customers FROM customer_segmentation.segment_instances) i USING (segment_instance_id) WHERE rows IS DISTINCT FROM num_of_customers}),
        0, 'random kills: what succeeded is stored, and nothing else is');
    is($node->safe_psql('postgres', q{SELECT max(as_of) FROM customer_segmentation.segment_runs WHERE status = 'succeeded' AND segment_id = lpad('b', 24, '0')}),
        $node->safe_psql('postgres', "SELECT timestamptz '2025-01-05 09:00+00' + $hour * interval '1 hour'"), 'random kills: the newest period is there');
    is($node->safe_psql('postgres', 'SELECT * FROM customer_segmentation.verify()'), '', 'random kills: sound');
}

# ---- a million members

my $million = lpad('d');
sub lpad { return '0' x (24 - length $_[0]) . $_[0] }
$node->safe_psql('postgres', qq{SELECT customer_segmentation.create_segment('Million', 'SELECT g, g % 7, (g % 1000) / 8.0 FROM generate_series(1, 1000000) g',
	segment_id => '$million', schedule => 'manual', time_zone => 'UTC')});
my $memory = q{SELECT (regexp_match(pg_read_file('/proc/' || pg_backend_pid() || '/status', 0, 10000), 'VmHWM:\s+(\d+)'))[1]};
my $job = start_psql($node, "$memory;\nSET customer_segmentation.write_buffer = '16MB';\nSELECT customer_segmentation.run_segment('$million', '2025-02-01 00:00+00');\n$memory;\n"
        . "SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid();\n");
my %seen;
while ($job->{run}->pumpable) {
    $job->{run}->pump_nb;
    sleep 0.05;
    my $query = $node->safe_psql('postgres', q{SELECT query FROM pg_stat_activity WHERE query LIKE 'customer_segmentation:%'});
    $seen{$query} = 1 if $query ne '';
}
ok(finish_psql($job), 'a million members') or diag $job->{err};
my ($before, $id, $after, $query) = split /\n/, $job->{out};
is($node->safe_psql('postgres', "SELECT (num_of_customers, num_of_orders, total_revenue) = (SELECT count(*)::numeric, sum(g % 7)::numeric, sum((g % 1000) / 8.0) FROM generate_series(1, 1000000) g)
	FROM customer_segmentation.segment_instances WHERE segment_instance_id = '$id'"), 't', 'a million members: stored');
cmp_ok($after - $before, '<', 200 * 1024, sprintf 'a million members: %d MB more memory at most', ($after - $before) / 1024);
cmp_ok(scalar(grep { /^customer_segmentation: evaluating segment $million, \d+ members$/ } keys %seen), '>', 1, 'progress of the evaluation in pg_stat_activity');
ok((grep { $_ eq "customer_segmentation: storing segment $million, 1000000 members" } keys %seen), 'and of the storing') or note join "\n", sort keys %seen;
like($query, qr/^SELECT query FROM pg_stat_activity/, 'afterwards the statement is shown again');

my $t = time;
$node->safe_psql('postgres', "SELECT customer_segmentation.run_segment('$million', '2025-02-02 00:00+00')");
my $full = time - $t;
my $late = 0;
for my $share (0.05, 0.3, 0.55, 0.8, 0.95) {
    my $ms = int($full * 1000 * $share);
    my $start = time;
    my $error = error_of($node, "SET statement_timeout = $ms; SELECT customer_segmentation.run_segment('$million', '2025-02-03 00:00+00')");
    like($error, qr/^57014|^$/, sprintf 'cancelled after %d of %d ms', $ms, $full * 1000);
    my $over = time - $start - $ms / 1000;
    $late = $over if $over > $late && $error ne '';
}
cmp_ok($late, '<', 2, sprintf 'at most %.2f s late, a connection included', $late);
is($node->safe_psql('postgres', q{SELECT count(*) FROM customer_segmentation.verify()}), 0, 'sound');
is($node->safe_psql('postgres', qq{SELECT count(*) FROM customer_segmentation.segment_runs WHERE segment_id = '$million'}),
    $node->safe_psql('postgres', qq{SELECT count(*) FROM customer_segmentation.segment_instances WHERE segment_id = '$million'}), 'a record for each that is stored, none for the others');
$node->stop;
done_testing();
