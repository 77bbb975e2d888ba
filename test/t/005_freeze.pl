# relfrozenxid and datfrozenxid advance, by VACUUM FREEZE and by autovacuum against wraparound, and everything stays
# readable after the old commit log is gone.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use CustomerSegments;

my $node = new_cluster(
    'freeze',
    conf => "autovacuum = off\nautovacuum_freeze_max_age = 100000\nautovacuum_naptime = 1s\nvacuum_freeze_min_age = 0\n"
        . "vacuum_freeze_table_age = 0\nautovacuum_vacuum_cost_delay = 0\nautovacuum_max_workers = 4\n");
prepare($node);

# Goes on with another transaction id. The numbers are the first of a file of the commit log.
sub next_xid {
    my ($segment) = @_;
    $node->stop;
    append_to_file($node->data_dir . sprintf('/pg_xact/%04X', $segment), "\0" x 262144)
        unless -e $node->data_dir . sprintf('/pg_xact/%04X', $segment);
    command_ok([ 'pg_resetwal', '-x', $segment << 20, '-D', $node->data_dir ], "next transaction id: $segment << 20");
    $node->start;
}

my $ages = q{SELECT age(c.relfrozenxid), age(t.relfrozenxid) FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid
    WHERE c.oid = 's'::regclass};
my $database_age = q{SELECT max(age(datfrozenxid)) FROM pg_database};

sub young {
    my ($name, $limit) = @_;
    my @age = split /\|/, $node->safe_psql('postgres', $ages);
    cmp_ok($age[0], '<', $limit, "$name: age of the table");
    cmp_ok($age[1], '<', $limit, "$name: age of its TOAST table");
}

sub change {
    my ($day) = @_;
    $node->safe_psql('postgres',
        load(1, $day, 1 + 1000 * $day, 3000) . load(2, $day, 1, 30000) . 'BEGIN;' . load(3, $day, 5000000 * $day, 500)
            . 'ROLLBACK;' . join '', map { "UPDATE $_ SET num_of_orders = $day WHERE hashtext(customer_identity) % 10 = $day;"
                . "BEGIN; SAVEPOINT a; DELETE FROM $_ WHERE hashtext(customer_identity) % 10 = $day + 1; RELEASE a; COMMIT;" }
            qw(s twin));
}

change(1);
sound($node, 'first');
next_xid(1);
change(2);
sound($node, 'changed after a million transactions');
$node->safe_psql('postgres', 'VACUUM FREEZE s');
young('VACUUM FREEZE', 100);
sound($node, 'VACUUM FREEZE');

next_xid(2);
change(3);
$node->safe_psql('postgres', 'VACUUM s');
young('VACUUM', 100);
$node->safe_psql('postgres', 'VACUUM FULL s');
young('VACUUM FULL', 100);
sound($node, 'VACUUM FULL');

# The whole of the cluster: the old part of the commit log goes away, so nothing may need it.
next_xid(3);
change(4);
$node->command_ok([ 'vacuumdb', '--all', '--freeze', '-q', '--maintenance-db', $node->connstr('postgres') ], 'vacuumdb --all --freeze');
$node->safe_psql('postgres', 'ALTER DATABASE template0 ALLOW_CONNECTIONS true');
$node->safe_psql('template0', 'VACUUM FREEZE');
$node->safe_psql('postgres', 'ALTER DATABASE template0 ALLOW_CONNECTIONS false; VACUUM FREEZE s');
cmp_ok($node->safe_psql('postgres', $database_age), '<', 1000, 'age of the databases');
ok(!-e $node->data_dir . '/pg_xact/0000', 'the old commit log is gone');
$node->restart;
sound($node, 'readable without the old commit log');
change(5);
sound($node, 'and writable, with new customers');

# By autovacuum alone.
next_xid(4);
change(6);
$node->adjust_conf('postgresql.conf', 'autovacuum', 'on');
$node->reload;
ok($node->poll_query_until('postgres', "SELECT bool_and(x < 100000) FROM (SELECT max(age(datfrozenxid)) x FROM pg_database "
            . "UNION ALL SELECT max(age(relfrozenxid)) FROM pg_class WHERE relfrozenxid <> '0') y"),
    'autovacuum freezes every table of every database');
young('autovacuum', 100000);
sound($node, 'autovacuum');
change(7);
$node->restart;
sound($node, 'changes after that');
$node->stop;
done_testing();
