# Logical decoding goes by the tables of the access method: it never fails over them and emits nothing of them, whatever
# statements ran and whatever their replica identity is.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use CustomerSegments;

my $node = new_cluster('logical', allows_streaming => 'logical', conf => "max_wal_size = 256MB\nmax_prepared_transactions = 10\n");
prepare($node);
$node->safe_psql('postgres', q{ALTER TABLE s REPLICA IDENTITY FULL; CREATE TABLE seen (n int PRIMARY KEY)});
my ($made, undef, $why) = $node->psql('postgres', q{SELECT pg_create_logical_replication_slot('drain', 'test_decoding')});
if ($made != 0) {
    $node->stop;
    plan skip_all => "logical decoding: test_decoding is not installed" if $why =~ /could not access file/;
    BAIL_OUT($why);
}

# What was decoded since the last time, without the lines of transactions. Two things are heap's own and show no data:
# TRUNCATE, and that some record was removed.
sub drain {
    my ($slot, $db) = @_;
    my ($rc, $out, $err) = $node->psql($db // 'postgres', "SELECT data FROM pg_logical_slot_get_changes('$slot', NULL, NULL, "
            . "'include-xids', '0', 'skip-empty-xacts', '0') WHERE data !~ '^(BEGIN|COMMIT)'");
    return "decoding failed: $err" if $rc != 0;
    return join "\n", grep { !/^table public\.\w+: DELETE:(?: \(no-tuple-data\))?\s*$/ && !/: TRUNCATE: / } split /\n/, $out;
}

my %step = (
    'loads' => load(1, 1, 1, 3000) . load(2, 1, 1, 40000) . 'BEGIN;' . load(3, 1, 100001, 500) . 'ROLLBACK;' . load(3, 1, 100001, 500),
    'a load through a small buffer' => q{SET customer_segmentation.write_buffer = '1MB';}
        . join('', map { "INSERT INTO $_ SELECT r.* FROM generate_series(30, 33) d, test_rows(4, d, 1 + d * 1000, 20000) r "
            . 'ORDER BY md5(r.customer_identity || d);' } qw(s twin)),
    'single rows' => join('', map { my $c = $_; map { "INSERT INTO $_ SELECT * FROM test_rows(5, 5, $c, 1);" } qw(s twin) } 1 .. 50),
    'updates and deletes' => join('', map { "UPDATE $_ SET num_of_orders = 3, total_revenue = 1.10 WHERE hashtext(customer_identity) % 7 = 0;"
            . "UPDATE $_ SET customer_identity = customer_identity || 'x' WHERE hashtext(customer_identity) % 31 = 0;"
            . "DELETE FROM $_ WHERE hashtext(customer_identity) % 11 = 0;"
            . "BEGIN; SAVEPOINT a; DELETE FROM $_; ROLLBACK TO a; DELETE FROM $_ WHERE segment_name = 'Segment 5'; COMMIT;" } qw(s twin)),
    'row locks' => 'BEGIN; SELECT count(*) FROM (SELECT FROM s WHERE segment_name = $$Segment 1$$ FOR UPDATE) x; COMMIT;',
    'merge' => join('', map { "MERGE INTO $_ t USING test_rows(1, 1, 1, 4000) r ON t.segment_instance_id = r.segment_instance_id AND "
            . 't.customer_identity = r.customer_identity WHEN MATCHED AND r.num_of_orders = 5 THEN DELETE WHEN MATCHED THEN UPDATE '
            . 'SET num_of_orders = 9 WHEN NOT MATCHED THEN INSERT VALUES (r.*);' } qw(s twin)) =~ s/VALUES \(r\.\*\)/'VALUES (' . join(', ', map { "r.$_" } split \/, \/, TWIN_COLUMNS) . ')'/ger,
    'two phases' => 'BEGIN;' . load(1, 60, 1, 500) . q{PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'; BEGIN;} . load(1, 61, 1, 500)
        . q{PREPARE TRANSACTION 'p'; ROLLBACK PREPARED 'p';},
    'copies and moves' => q{CREATE TABLE c (LIKE s) USING customer_segmentation; ALTER TABLE c REPLICA IDENTITY FULL;
        INSERT INTO c SELECT * FROM s; ALTER TABLE c SET ACCESS METHOD heap; ALTER TABLE c SET ACCESS METHOD customer_segmentation;
        DELETE FROM c WHERE num_of_orders = 3; VACUUM FULL c; CREATE TABLE d USING customer_segmentation AS SELECT * FROM c; DROP TABLE c, d;},
    'vacuum' => 'VACUUM s; VACUUM FREEZE s; VACUUM FULL s; ANALYZE s;',
    'truncate' => 'TRUNCATE s, twin;' . load(1, 70, 1, 2000));
my $n = 0;
for my $name ('loads', 'a load through a small buffer', 'single rows', 'updates and deletes', 'row locks',
    'merge', 'two phases', 'vacuum', 'copies and moves', 'truncate')
{
    my ($rc, undef, $err) = $node->psql('postgres', $step{$name}, on_error_stop => 1);
    is($err, '', "$name: ran") if $rc != 0;
    $node->safe_psql('postgres', 'INSERT INTO seen VALUES (' . ++$n . ')');

    # Changes of the heap tables show that decoding is at work. A rewrite of a table passes through heap tables of its own.
    my @lines = grep { !/^table public\.(?:twin|pg_temp_\d+|d|c):/ } split /\n/, drain('drain') =~ s/\n(?!table |decoding)/ /gr;
    is(join("\n", @lines), "table public.seen: INSERT: n[integer]:$n", "$name: nothing of the table is decoded");
}
sound($node, 'contents');

# Not even as toasted values or as records, in a stream that shows everything.
$node->safe_psql('postgres', 'CREATE DATABASE quiet');
prepare($node, 'quiet');
$node->safe_psql('quiet', q{ALTER TABLE s REPLICA IDENTITY FULL; SELECT pg_create_logical_replication_slot('quiet', 'test_decoding')});
$node->safe_psql('quiet', q{INSERT INTO s SELECT * FROM test_rows(1, 1, 1, 70000); UPDATE s SET num_of_orders = 1;
    DELETE FROM s WHERE hashtext(customer_identity) % 3 = 0; INSERT INTO customer_segmentation_table SELECT * FROM s; DELETE FROM s; TRUNCATE s;});
like(drain('quiet', 'quiet'), qr/^$/, 'nothing of a larger table is decoded');

# The regression tests' statements.
my @files = grep { !/--/ } sort glob "$FindBin::RealBin/../../sql/*.sql";
SKIP: {
    skip 'the statements of the regression tests: there are none', 1 unless @files;
    $node->safe_psql('postgres', 'CREATE DATABASE regress');
    $node->safe_psql('regress', q{CREATE EXTENSION customer_segmentation; SELECT pg_create_logical_replication_slot('regress', 'test_decoding')});
    for my $file (@files) {
        my ($name) = $file =~ m{([^/]+)\.sql$};
        my ($rc, $out, $err) = $node->psql('regress', undef, on_error_stop => 0, extra_params => [ '-f', $file ]);
        unlike($err, qr/server closed the connection|connection to server .* lost/, "$name: the server lives");
        my $ours = $node->safe_psql('regress', q{SELECT coalesce(string_agg(oid::regclass::text, '|'), 'none') FROM pg_class WHERE relam =
            (SELECT oid FROM pg_am WHERE amname = 'customer_segmentation') AND relpersistence = 'p'});
        my @lines = grep { /^decoding failed/ || /^table (?:public\.)?(?:\Q$ours\E): (?:INSERT|UPDATE|DELETE)/ } split /\n/, drain('regress', 'regress');
        is(join("\n", @lines), '', "$name: decoding");
    }
}

# Publications.
$node->safe_psql('postgres', 'CREATE TABLE other (LIKE twin) USING customer_segmentation');
like(error_of($node, 'CREATE PUBLICATION p FOR TABLE s'), qr/^0A000/, 'naming the table in a publication');
$node->safe_psql('postgres', 'DROP PUBLICATION IF EXISTS p; CREATE PUBLICATION p FOR TABLE seen');
like(error_of($node, 'ALTER PUBLICATION p ADD TABLE s'), qr/^0A000/, 'adding it to a publication');
$node->safe_psql('postgres', 'DROP PUBLICATION p');
for my $what ('ALL TABLES', 'TABLES IN SCHEMA public') {
    $node->safe_psql('postgres', "ALTER TABLE twin REPLICA IDENTITY FULL; CREATE PUBLICATION everything FOR $what");
    my ($rc, undef, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n" . join '', map { "INSERT INTO s SELECT * FROM test_rows(9, 80, $_, 1);\n" } 1 .. 3);
    is($rc, 0, "FOR $what: rows can be inserted") or diag $err;
    is(() = $err =~ /WARNING/g, 1, "FOR $what: one warning in a session");
    $node->safe_psql('postgres', 'DROP PUBLICATION everything; DELETE FROM s WHERE segment_name = $$Segment 9$$');
    my (undef, undef, $none) = $node->psql('postgres', 'INSERT INTO s SELECT * FROM test_rows(9, 80, 1, 1); DELETE FROM s WHERE segment_name = $$Segment 9$$');
    is($none, '', "without FOR $what: no warning");
}
sound($node, 'in the end');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|terminated by signal/, 'nothing crashed');
$node->stop;
done_testing();
