# A streaming standby answers as the primary does, while it replays loads, changes and vacuums, and takes writes once it
# is promoted.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;
use Time::HiRes qw(sleep);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use CustomerSegments;

my $primary = new_cluster('primary', allows_streaming => 1, conf => "max_wal_size = 256MB\n");
prepare($primary);
$primary->safe_psql('postgres', load(1, 0, 1, 3000));
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "max_standby_streaming_delay = -1\nhot_standby_feedback = on\n");
$standby->start;

sub same {
    my ($name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
    sound($standby, $name);
    my $info = q{SELECT customers, rows, instances, cells FROM customer_segmentation.storage_info('s')};
    is($standby->safe_psql('postgres', $info), $primary->safe_psql('postgres', $info), "$name: storage_info() agrees");
}

same('first load');

$primary->safe_psql('postgres', load(1, 1, 2000, 4000) . load(2, 1, 1, 40000));
same('new customers');

my $before = $standby->safe_psql('postgres', q{SELECT customers FROM customer_segmentation.storage_info('s')});
$primary->safe_psql('postgres', 'BEGIN; ' . load(3, 2, 100001, 5000) . 'ROLLBACK;');
same('new customers of a rolled back transaction');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM s WHERE segment_name = $$Segment 3$$'),
    0, 'the rows of the rolled back transaction are not there');
my $after = $standby->safe_psql('postgres', q{SELECT customers FROM customer_segmentation.storage_info('s')});
cmp_ok($after, '>=', $before, 'the dictionary does not shrink');
$primary->safe_psql('postgres', load(3, 2, 100001, 5000));
same('the same customers, committed');

$primary->safe_psql('postgres',
    join '', map { "UPDATE $_ SET num_of_orders = num_of_orders + 1 WHERE hashtext(customer_identity) % 3 = 0;\n"
            . "DELETE FROM $_ WHERE hashtext(customer_identity) % 5 = 0;\n" } qw(s twin));
same('updates and deletes');

# A session on the standby that has its caches filled sees what comes later.
my $session = $standby->background_psql('postgres');
my $count   = 'SELECT count(*), count(DISTINCT customer_identity) FROM s';
$session->query_safe($count);
$primary->safe_psql('postgres', load(4, 3, 200001, 3000));
same('one more load');
is($session->query_safe($count), $primary->safe_psql('postgres', $count) =~ s/\n//r, 'an older session sees the new rows');
is($session->query_safe("SELECT customer_identity FROM s WHERE customer_identity = 'user200001\@example.com'"),
    $primary->safe_psql('postgres', "SELECT customer_identity FROM s WHERE customer_identity = 'user200001\@example.com'"),
    'and the new customers');
$primary->safe_psql('postgres', 'VACUUM FREEZE s');
same('VACUUM FREEZE');
$primary->safe_psql('postgres', 'VACUUM FULL s');
same('VACUUM FULL');
is($session->query_safe($count), $primary->safe_psql('postgres', $count), 'an older session after VACUUM FULL');
$primary->safe_psql('postgres', 'TRUNCATE s, twin; ' . load(1, 0, 300001, 2000));
same('TRUNCATE and other customers');
is($session->query_safe($count), $primary->safe_psql('postgres', $count), 'an older session after TRUNCATE');
$session->quit;

# Queries while the standby replays. One statement has one snapshot, so table and twin agree in it at all times.
my $work = '';
for my $day (10 .. 49) {
    $work .= "BEGIN;\n" . load(1 + $day % 3, $day, 1 + 300 * $day, 3000) . "COMMIT;\n";
    $work .= "BEGIN;\nUPDATE s SET num_of_orders = 7 WHERE hashtext(customer_identity) % 20 = $day % 20;\n"
        . "UPDATE twin SET num_of_orders = 7 WHERE hashtext(customer_identity) % 20 = $day % 20;\nCOMMIT;\n" if $day % 4 == 1;
    $work .= "BEGIN;\nDELETE FROM s WHERE hashtext(customer_identity) % 20 = $day % 20;\n"
        . "DELETE FROM twin WHERE hashtext(customer_identity) % 20 = $day % 20;\nCOMMIT;\n" if $day % 4 == 2;
    $work .= "BEGIN;\n" . load(4, $day, 1000000 * $day, 1000) . "ROLLBACK;\n" if $day % 4 == 3;
    $work .= "VACUUM s;\n" if $day % 5 == 0;
}
my $job = start_psql($primary, $work);
my ($asked, @wrong) = (0);
while ($job->{run}->pumpable) {
    $job->{run}->pump_nb;
    my $wrong = problems($standby);
    $asked++;
    push @wrong, $wrong if $wrong ne '';
}
ok(finish_psql($job), 'the primary worked on') or diag $job->{err};
is(join("\n", @wrong), '', "answers of the standby during replay ($asked)");
cmp_ok($asked, '>', 2, 'the standby was asked while it replayed');
same('after all that');

like(error_of($standby, 'DELETE FROM s'), qr/^25006/, 'the standby is read-only');
like(error_of($standby, $_), qr/^25006/, "refused: $_")
    for "SELECT customer_segmentation.optimize('s')", "SELECT customer_segmentation.erase_customer('user3\@example.com', 's')",
    "SELECT customer_segmentation.import_instances(e, 's') FROM customer_segmentation.export_instances('s') e";
for my $answer ("segment_dynamics(segment_id, '3 days', 's')", "segment_overlap(NULL, 's')", "segment_transitions('2025-01-01', '2025-02-01', 's')",
    "customer_history('user3\@example.com', 's')", "export_instances('s')", "verify('s')") {
    my $sql = "SELECT count(*), md5(string_agg(a::text, '|' ORDER BY a::text)) FROM (SELECT DISTINCT segment_id FROM s) x, "
        . "LATERAL customer_segmentation.$answer a";
    is($standby->safe_psql('postgres', $sql), $primary->safe_psql('postgres', $sql), "the standby answers: $answer");
}

$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
$primary->stop;
$standby->promote;
$standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
sound($standby, 'promoted');
$standby->safe_psql('postgres', load(7, 60, 9000000, 2000) . load(1, 60, 1, 2000) . 'VACUUM s;'
        . join '', map { "UPDATE $_ SET total_revenue = 1.50 WHERE hashtext(customer_identity) % 9 = 0;" } qw(s twin));
sound($standby, 'the promoted standby takes writes');
unlike(slurp_file($_->logfile), qr/PANIC|TRAP:|terminated by signal/, $_->name . ' did not crash') for $primary, $standby;
$standby->stop;
done_testing();
