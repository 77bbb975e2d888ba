# Several sessions load at once, with overlapping new customers and some rollbacks: nothing is lost, doubled or given
# two numbers.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;
use PostgreSQL::Test::Utils;
use CustomerSegments;

my $seed     = seed();
my $sessions = 8;
my $each     = $ENV{CSEG_TRANSACTIONS} // 10;
my $node     = new_cluster('concurrent', conf => "autovacuum_naptime = 1s\nmax_connections = 50\nmax_wal_size = 1GB\n");
prepare($node);
$node->safe_psql('postgres', 'CREATE SEQUENCE days');
my $dir     = PostgreSQL::Test::Utils::tempdir();

# :segment is a session's own in the first script and one of few in the second.
my %loads;
for my $name ('own', 'shared') {
    my $segment = $name eq 'own' ? '\set segment :client_id + 1' : '\set segment random(101, 103)';
    $loads{$name} = "$dir/$name.sql";
    append_to_file($loads{$name}, <<"SQL");
$segment
\\set first random(1, 20000)
\\set n random(1, 800)
\\set way random(1, 6)
SELECT nextval('days') AS day \\gset
BEGIN;
INSERT INTO s SELECT * FROM test_rows(:segment::int, :day::int, :first::int, :n::int);
INSERT INTO twin SELECT * FROM test_rows(:segment::int, :day::int, :first::int, :n::int);
\\if :way = 1
ROLLBACK;
\\elif :way = 2
SAVEPOINT a;
INSERT INTO s SELECT * FROM test_rows(:segment::int, :day::int + 100000, :first::int, :n::int);
ROLLBACK TO a;
UPDATE s SET num_of_orders = 5 WHERE segment_name = 'Segment ' || :segment AND num_of_orders = 4;
UPDATE twin SET num_of_orders = 5 WHERE segment_name = 'Segment ' || :segment AND num_of_orders = 4;
COMMIT;
\\elif :way = 3
DELETE FROM s WHERE segment_name = 'Segment ' || :segment AND num_of_orders = 7;
DELETE FROM twin WHERE segment_name = 'Segment ' || :segment AND num_of_orders = 7;
COMMIT;
\\else
COMMIT;
\\endif
SQL
}

# The twin's rows must not decide who waits: its own row locks only ever concern the segment that s has locked.
for my $name ('own', 'shared') {
    $node->command_ok(
        [   'pgbench', '-n', '-c', $sessions, '-j', 2, '-t', $each, "--random-seed=$seed", '-f', $loads{$name},
            '-d', $node->connstr('postgres') ], "$sessions sessions, $name segments");
    sound($node, "$name segments: contents");
}
$node->command_ok(
    [   'pgbench', '-n', '-c', $sessions, '-j', 2, '-t', $each, "--random-seed=$seed", '-f', "$loads{own}\@2",
        '-f', "$loads{shared}\@1", '-d', $node->connstr('postgres') ], "$sessions sessions, both");
sound($node, 'both: contents');

# Every customer that was ever offered, also in transactions that were rolled back, is now a member of one instance. An
# identity with two numbers would make the dictionary larger than that.
$node->safe_psql('postgres', load(200, 1, 1, 20799));
is($node->safe_psql('postgres', q{SELECT customers FROM customer_segmentation.storage_info('s')}),
    20799, 'no identity is twice in the dictionary');
is($node->safe_psql('postgres', q{SELECT count(DISTINCT customer_identity), count(*) - count(DISTINCT (customer_identity, segment_instance_id)) FROM s}),
    '20799|0', 'no row is doubled');
sound($node, 'in the end');

# The same instance by all at once: one wins.
my @jobs = map { start_psql($node, 'INSERT INTO s SELECT * FROM test_rows(300, 1, 30001, 3000); INSERT INTO s SELECT * FROM test_rows(300, 2, 30001, 3000)') } 1 .. 5;
my @won  = grep { finish_psql($_) } @jobs;
is(scalar(@won), 1, 'one of five loads of the same instance wins');
is(scalar(grep { $_->{err} =~ /ERROR:  23505/ } @jobs), 4, 'the others are told that it exists');
$node->safe_psql('postgres', 'INSERT INTO twin SELECT * FROM test_rows(300, 1, 30001, 3000); INSERT INTO twin SELECT * FROM test_rows(300, 2, 30001, 3000)');
sound($node, 'the one that won');
# Whoever lists the instances of all tables passes by those that are dropped meanwhile.
append_to_file("$dir/passing.sql", <<'SQL');
CREATE TABLE passing_:client_id (LIKE customer_segmentation_table) USING customer_segmentation;
DROP TABLE passing_:client_id;
SQL
append_to_file("$dir/list.sql", "SELECT count(*) FROM customer_segmentation.segment_instances;\n");
$node->command_ok(
    [   'pgbench', '-n', '-c', 4, '-j', 2, '-t', 300, "--random-seed=$seed", '-f', "$dir/passing.sql\@1", '-f', "$dir/list.sql\@1",
        '-d', $node->connstr('postgres') ], 'tables come and go while instances are listed');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|terminated by signal/, 'nothing crashed');
$node->stop;
done_testing();
