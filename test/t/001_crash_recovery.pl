# The server and single backends are killed at random moments of loads, flushes, changes and vacuums. After each
# recovery the table has what was committed, is sound, and takes further rows.
#
# CSEG_KILLS: how many times (50). CSEG_SEED: repeats a run, as far as timing allows.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(sleep);
use CustomerSegments;

my $kills = $ENV{CSEG_KILLS} // 50;
seed();

my $node = new_cluster(
    'crash',
    conf => "restart_after_crash = on\nfsync = off\nautovacuum_naptime = 1s\nautovacuum_vacuum_threshold = 5\n"
        . "checkpoint_timeout = 30s\nmax_wal_size = 64MB\nwal_level = replica\n");
prepare($node);
$node->safe_psql('postgres', load($_, 0, 1, 3000)) for 1 .. 4;
my $optimize =
    $node->safe_psql('postgres', q{SELECT to_regprocedure('customer_segmentation.optimize(regclass)') IS NOT NULL}) eq 't';

# A day for each instance of a segment, a range for new customers.
my $day       = 1;
my $customers = 3000;

sub both { return map { my $t = $_; map { s/\bS\b/$t/r } @_ } qw(s twin) }

# Each gives the text of transactions to be killed in: far more than a fast machine gets through before the kill, so that
# it hits work that is going on.
my %work = (
    load => sub {
        my $sql = '';
        for (1 .. 150) {
            my $n = 200 + int rand 2500;
            $sql .= "BEGIN;\n" . load(1 + int rand 4, $day++, 1 + int rand $customers, $n) . "COMMIT;\n";
            $customers += int rand 80;
        }
        return $sql;
    },
    flush => sub {
        my $sql = "SET customer_segmentation.write_buffer = '1MB';\n";
        for (1 .. 25) {
            $sql .= "BEGIN;\n" . join('', map { "INSERT INTO $_ SELECT r.* FROM generate_series($day, $day + 11) d, "
                    . "test_rows(1 + d % 3, d, 1 + (d - $day) * 150, 1800) r ORDER BY md5(r.customer_identity || d);\n" }
                    qw(s twin)) . "COMMIT;\n";
            $day += 12;
        }
        return $sql;
    },
    change => sub {
        my $sql = '';
        for (1 .. 200) {
            my ($m, $k, $segment) = (5 + int rand 40, int rand 40, 1 + int rand 4);
            my $where = "WHERE segment_name = 'Segment $segment' AND hashtext(customer_identity) % $m = 0";
            $sql .= "BEGIN;\n"
                . join('', both(
                    rand() < 0.6
                    ? "UPDATE S SET num_of_orders = num_of_orders + 1, total_revenue = total_revenue * 1.01 $where;\n"
                    : rand() < 0.3
                    ? "UPDATE S SET customer_identity = customer_identity || '.$day' $where AND num_of_orders = 3;\n"
                    : "DELETE FROM S $where;\n"))
                . (rand() < 0.3 ? "SAVEPOINT a;\nDELETE FROM s;\nROLLBACK TO a;\n" : '') . "COMMIT;\n";
            $day++;
        }
        return $sql;
    },
    vacuum => sub {
        my $sql = '';
        for (1 .. 125) {
            $sql .= "BEGIN;\n" . join('', both('DELETE FROM S WHERE hashtext(customer_identity) % 37 = ' . int(rand 37) . ";\n"))
                . load(1 + int rand 4, $day++, 1 + int rand $customers, 500) . "COMMIT;\n";
            $sql .= (
                "VACUUM s;\n", "VACUUM FREEZE s;\n", "VACUUM FULL s;\n", "VACUUM ANALYZE s;\n",
                ($optimize ? "SELECT customer_segmentation.optimize('s');\n" : ()))[rand(4 + $optimize)];
        }
        return $sql;
    });

# How to die; the node runs again afterwards.
my %death = (
    backend => sub {
        my $pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE application_name = 'work'");
        return 0 unless $pid =~ /^\d+$/;
        my $logged = -s $node->logfile;
        return 0 unless kill 9, $pid;
        # Queries may be taken a moment longer, until the postmaster has noticed.
        $node->wait_for_log(qr/database system is ready to accept connections/, $logged);
        return 1;
    },
    immediate => sub {
        $node->stop('immediate');
        $node->start;
        return 1;
    },
    server => sub {
        kill_server($node);
        $node->start;
        return 1;
    });

my (%count, %hit);
my @kinds  = sort keys %work;
my @deaths = sort keys %death;
for my $i (1 .. $kills) {
    my $kind  = $kinds[ $i % @kinds ];
    my $death = $deaths[ int($i / @kinds) % @deaths ];
    my $job   = start_psql($node, $work{$kind}->());
    my $wait  = 0.04 + rand() * rand() * 0.9;
    sleep $wait;
    my $died = $death{$death}->();
    my $ended = finish_psql($job);
    $hit{$death}++ if $died && !$ended;
    $count{$_}++ for $death, "$kind, $death";
    like($job->{err}, qr/^(?:$|.*(?:server closed the connection|terminating connection|connection to server|shutdown))/s,
        "kill $i: no other error") if $job->{err};
    my $wrong = problems($node);
    is($wrong, '', sprintf 'kill %d (%s, %s after %.3f s)', $i, $kind, $death, $wait) or last;

    # Keeps the tables small, and shows that writing goes on.
    $node->safe_psql('postgres',
        "BEGIN;\n" . load(5, $day++, 1 + int rand $customers, 100) . "COMMIT;\n"
            . "BEGIN; CREATE TEMP TABLE old AS SELECT segment_instance_id FROM twin GROUP BY 1 ORDER BY "
            . "max(instance_created_date) DESC OFFSET 14;\n"
            . join('', map { "DELETE FROM $_ WHERE segment_instance_id IN (SELECT segment_instance_id FROM old);\n" }
                qw(s twin)) . "COMMIT;\n");
}
sound($node, 'further changes work');
note "$_: $count{$_}" for sort keys %count;
cmp_ok($hit{$_} // 0, '>', $count{$_} / 2, "$_: most of the kills hit work that was going on") for @deaths;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|signal 11|signal 6/, 'nothing crashed by itself');
$node->stop;
done_testing();
