# wal_level = minimal, unlogged and temporary tables.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;
use PostgreSQL::Test::Utils;
use CustomerSegments;

# ---- wal_level = minimal: what a transaction creates it may leave unlogged until it commits

for my $threshold ('0', '1GB') {
    my $node = new_cluster("minimal_$threshold", conf => "wal_level = minimal\nmax_wal_senders = 0\nwal_skip_threshold = '$threshold'\n"
            . "max_prepared_transactions = 5\nautovacuum = off\n");
    prepare($node);
    my $crash = sub { $node->stop('immediate'); $node->start };
    my $name  = "wal_skip_threshold $threshold";

    $node->safe_psql('postgres', 'BEGIN; TRUNCATE s, twin;' . load(1, 1, 1, 40000) . load(2, 1, 1, 500) . 'COMMIT');
    $crash->();
    sound($node, "$name: TRUNCATE and load");

    $node->safe_psql('postgres', 'BEGIN; CREATE TABLE t2 (LIKE s) USING customer_segmentation; INSERT INTO t2 SELECT * FROM twin; COMMIT');
    $crash->();
    sound($node, "$name: CREATE TABLE and load", 'postgres', 't2', 'twin');

    $node->safe_psql('postgres', 'BEGIN; DROP TABLE t2; CREATE TABLE t2 USING customer_segmentation AS SELECT * FROM twin; '
            . 'UPDATE t2 SET num_of_orders = 5 WHERE num_of_orders = 4; DELETE FROM t2 WHERE num_of_orders = 5; SAVEPOINT a; DELETE FROM t2; '
            . 'ROLLBACK TO a; DELETE FROM twin WHERE num_of_orders IN (4, 5); DELETE FROM s WHERE num_of_orders IN (4, 5); COMMIT');
    $crash->();
    sound($node, "$name: CREATE TABLE AS and changes", 'postgres', 't2', 'twin');
    sound($node, "$name: changes of an older table");

    is(error_of($node, 'BEGIN; SAVEPOINT a; TRUNCATE s;' . load(5, 1, 900001, 400) . 'ROLLBACK TO a; COMMIT;'
            . 'BEGIN; TRUNCATE s; INSERT INTO s SELECT * FROM twin LIMIT 1000; TRUNCATE s; INSERT INTO s SELECT * FROM twin; COMMIT'), '', "$name: TRUNCATE twice in a transaction");
    $crash->();
    sound($node, "$name: TRUNCATE within and twice");

    $node->safe_psql('postgres', 'VACUUM FULL s; ALTER TABLE t2 SET ACCESS METHOD heap; ALTER TABLE t2 SET ACCESS METHOD customer_segmentation;');
    $crash->();
    sound($node, "$name: VACUUM FULL");
    sound($node, "$name: SET ACCESS METHOD, both ways", 'postgres', 't2', 'twin');

    $node->safe_psql('postgres', q{BEGIN; TRUNCATE t2; INSERT INTO t2 SELECT * FROM twin; PREPARE TRANSACTION 'p'});
    $crash->();
    $node->safe_psql('postgres', q{COMMIT PREPARED 'p'});
    $crash->();
    sound($node, "$name: prepared", 'postgres', 't2', 'twin');

    # COPY FREEZE writes rows that need no transaction.
    my $file = PostgreSQL::Test::Utils::tempdir() . '/rows';
    $node->safe_psql('postgres', "COPY twin TO '$file'; BEGIN; TRUNCATE t2; COPY t2 FROM '$file' WITH (FREEZE); COMMIT");
    $crash->();
    sound($node, "$name: COPY FREEZE", 'postgres', 't2', 'twin');
    $node->safe_psql('postgres', load(8, 8, 700001, 2000));
    $crash->();
    sound($node, "$name: an ordinary load");
    $node->stop;
    unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|terminated by signal/, "$name: nothing crashed by itself");
}

# A file that is emptied in place, by the second TRUNCATE of a transaction, starts with an empty dictionary again.
{
    my $node = new_cluster('emptied');
    prepare($node);
    my $row = sub { "SELECT * FROM test_rows($_[0], 1, $_[1], 1)" };
    $node->safe_psql('postgres', 'BEGIN; TRUNCATE s; INSERT INTO s ' . $row->(1, 10) . '; TRUNCATE s; INSERT INTO s '
            . $row->(2, 20) . ' UNION ALL ' . $row->(1, 10) . '; COMMIT; INSERT INTO twin ' . $row->(2, 20) . ' UNION ALL ' . $row->(1, 10));
    sound($node, 'TRUNCATE in place: known and new customers in one statement');
    $node->stop;
}

# ---- unlogged tables

my $node = new_cluster('unlogged', conf => "wal_level = replica\nautovacuum = off\nmax_prepared_transactions = 5\n");
prepare($node);
$node->safe_psql('postgres', 'CREATE UNLOGGED TABLE u (LIKE s) USING customer_segmentation; CREATE UNLOGGED TABLE ut (LIKE twin);');
my $fill = 'INSERT INTO u SELECT * FROM test_rows(1, 1, 1, 40000); INSERT INTO ut SELECT * FROM test_rows(1, 1, 1, 40000);';
$node->safe_psql('postgres', $fill);
sound($node, 'unlogged: loaded', 'postgres', 'u', 'ut');
$node->restart;
sound($node, 'unlogged: kept by a clean restart', 'postgres', 'u', 'ut');
$node->stop('immediate');
$node->start;
is($node->safe_psql('postgres', 'SELECT count(*) FROM u'), 0, 'unlogged: empty after a crash');
sound($node, 'unlogged: sound after a crash', 'postgres', 'u', 'ut');
$node->safe_psql('postgres', "$fill UPDATE u SET num_of_orders = 1; UPDATE ut SET num_of_orders = 1");
sound($node, 'unlogged: usable after a crash', 'postgres', 'u', 'ut');

# A session's caches must not outlive the reset of the table.
$node->append_conf('postgresql.conf', 'restart_after_crash = on');
$node->restart;
$node->safe_psql('postgres', 'VACUUM FULL u');
my $victim = start_psql($node, 'SELECT pg_sleep(100)');
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'});
kill 9, $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'});
finish_psql($victim);
$node->poll_query_until('postgres', 'SELECT true');
is($node->safe_psql('postgres', 'SELECT count(*) FROM u'), 0, 'unlogged: empty after a backend was killed');
$node->safe_psql('postgres', $fill);
sound($node, 'unlogged: usable after that', 'postgres', 'u', 'ut');
$node->safe_psql('postgres', 'ALTER TABLE u SET LOGGED; ALTER TABLE ut SET LOGGED');
$node->stop('immediate');
$node->start;
sound($node, 'SET LOGGED: kept by a crash', 'postgres', 'u', 'ut');
is($node->safe_psql('postgres', 'SELECT count(*) FROM u'), 40000, 'SET LOGGED: all of it');
$node->safe_psql('postgres', 'ALTER TABLE u SET UNLOGGED; ALTER TABLE ut SET UNLOGGED');
sound($node, 'SET UNLOGGED', 'postgres', 'u', 'ut');
$node->stop('immediate');
$node->start;
is($node->safe_psql('postgres', 'SELECT count(*) FROM u'), 0, 'SET UNLOGGED: empty after a crash');

# ---- temporary tables

my $made      = sprintf("CREATE TEMP TABLE ts (LIKE twin) USING customer_segmentation %s; CREATE TEMP TABLE tt (LIKE twin) %s;", ('%s') x 2);
my $compare   = 'SELECT count(*), (SELECT count(*) FROM (SELECT * FROM ts EXCEPT ALL SELECT * FROM tt) x), '
    . '(SELECT count(*) FROM (SELECT * FROM tt EXCEPT ALL SELECT * FROM ts) x), (SELECT count(*) FROM customer_segmentation.verify($$ts$$)) FROM ts;';
my $rows = 'INSERT INTO ts SELECT * FROM test_rows(1, 1, 1, 40000); INSERT INTO tt SELECT * FROM test_rows(1, 1, 1, 40000);';
is( $node->safe_psql('postgres', sprintf($made, '', '') . "$rows $compare UPDATE ts SET num_of_orders = 2; UPDATE tt SET num_of_orders = 2; $compare "
        . "BEGIN; DELETE FROM ts; ROLLBACK; $compare VACUUM FULL ts; ANALYZE ts; $compare TRUNCATE ts, tt; $compare $rows $compare"),
    join("\n", map { "$_|0|0|0" } 40000, 40000, 40000, 40000, 0, 40000), 'a temporary table');
is( $node->safe_psql('postgres', sprintf($made, ('ON COMMIT DELETE ROWS') x 2) . "BEGIN; $rows $compare COMMIT; $compare BEGIN; $rows $compare COMMIT; $compare"),
    "40000|0|0|0\n0|0|0|0\n40000|0|0|0\n0|0|0|0", 'ON COMMIT DELETE ROWS');
is( $node->safe_psql('postgres', 'BEGIN;' . sprintf($made, ('ON COMMIT DROP') x 2) . "$rows $compare COMMIT; SELECT count(*) FROM pg_class WHERE relname = 'ts'"),
    "40000|0|0|0\n0", 'ON COMMIT DROP');
is( $node->safe_psql('postgres', "SET temp_buffers = '800kB'; SET customer_segmentation.write_buffer = '1MB';" . sprintf($made, '', '') . "$rows $compare"),
    '40000|0|0|0', 'a temporary table with few buffers');
like(error_of($node, "BEGIN; CREATE TEMP TABLE x (LIKE s) USING customer_segmentation; INSERT INTO x SELECT * FROM test_rows(1, 1, 1, 10); PREPARE TRANSACTION 'p'"),
    qr/^0A000/, 'a temporary table in a prepared transaction');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_class WHERE relpersistence = 't' AND relkind = 'r'}), 0, 'none is left');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|signal (?:6|11)/, 'nothing crashed by itself');
$node->stop;
done_testing();
