# Prepared transactions survive a crash with their rows and their locks.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;
use PostgreSQL::Test::Utils;
use CustomerSegments;

my $node = new_cluster('two_phase', conf => "max_prepared_transactions = 20\nautovacuum = off\n");
prepare($node);
$node->safe_psql('postgres', load($_, 0, 1, 2000)) for 1 .. 6;

my %work = (
    1 => load(1, 1, 1, 2000),
    2 => load(2, 1, 50001, 3000),
    3 => join('', map { "UPDATE $_ SET num_of_orders = 99, total_revenue = 3.10 WHERE segment_name = 'Segment 3' AND hashtext(customer_identity) % 4 = 0;" } qw(s twin)),
    4 => join('', map { "DELETE FROM $_ WHERE segment_name = 'Segment 4' AND hashtext(customer_identity) % 4 = 0;" } qw(s twin))
        . 'SAVEPOINT a; DELETE FROM s WHERE segment_name = $$Segment 4$$; ROLLBACK TO a;' . load(4, 1, 80001, 1000));

# A writer of a segment: does it wait?
sub waits { return error_of($node, "BEGIN; SET LOCAL lock_timeout = '150ms'; $_[0]; ROLLBACK") =~ /^55P03/ ? 1 : 0 }

sub locks {
    my ($name) = @_;
    for my $segment (1 .. 4) {
        is(waits("DELETE FROM s WHERE segment_name = 'Segment $segment' AND customer_identity = 'user6\@example.com'"),
            1, "$name: a writer of segment $segment waits");
        is(waits("INSERT INTO s SELECT * FROM test_rows($segment, 70, 1, 1)"), 1, "$name: so does a load of it");
    }
    for my $segment (5, 6, 7) {
        is(waits("INSERT INTO s SELECT * FROM test_rows($segment, 71, 90001, 5)"), 0, "$name: segment $segment, new customers: no wait");
    }
    is(waits("UPDATE s SET num_of_orders = 1 WHERE segment_name = 'Segment 5'"), 0, "$name: an update of segment 5: no wait");
    is(waits('TRUNCATE s'), 1, "$name: TRUNCATE waits");
    is(waits('VACUUM FULL s') || error_of($node, q{SET lock_timeout = '150ms'; VACUUM FULL s}) =~ /^55P03/, 1, "$name: VACUUM FULL waits");
}

for my $round (1 .. 3) {
    my $end = (undef, 'COMMIT PREPARED', 'ROLLBACK PREPARED', 'mixed')[$round];
    $node->safe_psql('postgres', "BEGIN; $work{$_} PREPARE TRANSACTION 'p$_'") for sort keys %work;
    is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'), 4, "$end: prepared");
    sound($node, "$end: not visible yet");
    locks("$end, prepared") if $round == 1;
    if ($round == 1) {
        $node->stop('immediate');
        $node->start;
    }
    elsif ($round == 2) {
        $node->safe_psql('postgres', 'CHECKPOINT');
        kill_server($node);
        $node->start;
    }
    else {
        $node->restart;
    }
    is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'), 4, "$end: still prepared");
    sound($node, "$end: not visible after recovery");
    locks("$end, after recovery");
    $node->safe_psql('postgres', load(5, $round, 1, 2000) . load(6, $round, 60000 + 1000 * $round, 1500));
    sound($node, "$end: work beside it");
    for my $i (1 .. 4) {
        my $how = $round == 3 ? ($i % 2 ? 'ROLLBACK PREPARED' : 'COMMIT PREPARED') : $end;
        $node->safe_psql('postgres', "$how 'p$i'");
        sound($node, "$end: $how p$i");
        is(waits("DELETE FROM s WHERE segment_name = 'Segment $i' AND customer_identity = 'user6\@example.com'"), 0, "$end: segment $i is free");
    }
    if ($round == 1) {
        $node->safe_psql('postgres', join '', map { "DELETE FROM $_ WHERE segment_instance_id LIKE '%2025_01_02' AND segment_name < 'Segment 5';" } qw(s twin));
        sound($node, 'what was committed can be removed');
    }
}
$node->safe_psql('postgres', 'VACUUM FULL s;' . load(1, 50, 1, 3000) . load(7, 50, 70001, 3000));
sound($node, 'in the end');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|terminated by signal/, 'nothing crashed by itself');
$node->stop;
done_testing();
