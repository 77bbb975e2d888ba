# An erased customer is gone: from the rows, statistics and errors of runs at once, and after VACUUM FULL from every byte
# of the table's files and from a fresh dump. Identities are compressed, so the files are decoded, not just searched.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use CustomerSegments;

my $build = PostgreSQL::Test::Utils::tempdir() . '/build';
my $tool  = "$build/raw_identities";
system_or_bail('make', '-s', '-C', "$FindBin::RealBin/../core", "BUILD=$build", 'raw_identities');

my $node = new_cluster('erase', conf => "autovacuum = off\n");
prepare($node);
my ($ID, $MAIL) = ('5700000004000', 'user3003@example.com');

# One large dictionary record in the TOAST table, and small ones in the main file; a partition and a plain table.
$node->safe_psql('postgres', load(1, $_, 1, 9000)) for 1 .. 3;
$node->safe_psql('postgres', load(2, $_, 9001 + 10 * $_, 10)) for 1 .. 3;
$node->safe_psql('postgres', <<"SQL");
CREATE TABLE parts (LIKE customer_segmentation_table) PARTITION BY LIST (segment_id);
CREATE TABLE part PARTITION OF parts DEFAULT USING customer_segmentation;
INSERT INTO parts SELECT * FROM s WHERE customer_identity = '$ID';
CREATE STATISTICS joint (mcv) ON customer_identity, segment_id FROM s;
ANALYZE s;
ANALYZE parts;
INSERT INTO customer_segmentation.segment_run (segment_id, kind, as_of, started_at, status, error, run_by)
	VALUES ('x', 'manual', now(), now(), 'failed', 'customer "$ID" comes twice', 'me');
SQL

# The identities in the files of a table, and whether one is there, in plain sight or decoded.
sub found {
    my ($table, $identity) = @_;
    $node->safe_psql('postgres', 'CHECKPOINT');
    my @files = map { $node->data_dir . "/$_" } split /\|/, $node->safe_psql('postgres',
        "SELECT pg_relation_filepath(oid), pg_relation_filepath(reltoastrelid) FROM pg_class WHERE oid = '$table'::regclass");
    my ($out, $err) = run_command([ $tool, @files ]);
    my $decoded = grep { $_ eq $identity } split /\n/, $out;
    my $plain   = grep { slurp_file($_) =~ /\Q$identity\E/ } @files;
    return ($decoded ? 'decoded ' : '') . ($plain ? 'plain' : '');
}

sub dumped {
    my ($identity) = @_;
    my ($out) = run_command([ 'pg_dump', $node->connstr('postgres'), '--exclude-table=twin' ]);
    return scalar(() = $out =~ /\Q$identity\E/g);
}

sub in_statistics {
    my ($identity) = @_;
    return $node->safe_psql('postgres', "SELECT (SELECT count(*) FROM pg_statistic WHERE starelid IN ('s'::regclass, 'part'::regclass, 'parts'::regclass) "
        . "AND concat(stavalues1, stavalues2, stavalues3, stavalues4, stavalues5) LIKE '%$identity%') + "
        . "(SELECT count(*) FROM pg_statistic_ext_data WHERE stxdmcv::bytea::text LIKE '%' || encode('$identity', 'hex') || '%')");
}

# The control: all of these find the customers before.
like(found('s', $ID), qr/decoded/, 'before: an id is in the files');
like(found('s', $MAIL), qr/decoded/, 'before: an address is in the files');
like(found('part', $ID), qr/decoded/, 'before: in the partition');
cmp_ok(dumped($ID), '>=', 3, 'before: in a dump');
cmp_ok(in_statistics($ID), '>', 0, 'before: in column statistics');

is($node->safe_psql('postgres', "SELECT * FROM customer_segmentation.erase_customer('$ID', 's')"), '3|3', 'the receipt');
is($node->safe_psql('postgres', "SELECT * FROM customer_segmentation.erase_customer('$MAIL', 's')"), '3|3', 'of an address');
is($node->safe_psql('postgres', "SELECT * FROM customer_segmentation.erase_customer('$ID', 'part')"), '3|3', 'of a partition');
is($node->safe_psql('postgres', "SELECT * FROM customer_segmentation.erase_customer('$ID')"), '0|0', "of the extension's table");
$node->safe_psql('postgres', "DELETE FROM twin WHERE customer_identity IN ('$ID', '$MAIL')");
sound($node, 'the others are as they were');
is(in_statistics($ID), '0', 'statistics are clean');
is($node->safe_psql('postgres', "SELECT error FROM customer_segmentation.segment_run WHERE segment_id = 'x'"),
    'customer "(erased)" comes twice', 'errors of runs are clean');
is(dumped($ID), 0, 'a fresh dump is clean');

# Plain VACUUM frees the room without writing over it: what is promised is VACUUM FULL.
$node->safe_psql('postgres', 'VACUUM FULL s; VACUUM FULL part');
is(found('s', $ID), '', 'after VACUUM FULL: not in the files');
is(found('s', $MAIL), '', 'after VACUUM FULL: nor the address');
is(found('part', $ID), '', 'after VACUUM FULL: nor in the partition');
like(found('s', '5700000004001'), qr/decoded/, 'the neighbour still is');
sound($node, 'after VACUUM FULL');

# What an aborted rewrite left behind goes as well.
$node->safe_psql('postgres', <<'SQL');
BEGIN;
SELECT customer_segmentation.optimize('s');
INSERT INTO s (customer_identity, instance_created_date, segment_id, segment_instance_id) VALUES ('ghost@example.com', now(), 'g', 'g_1');
ROLLBACK;
SQL
like(found('s', 'ghost@example.com'), qr/decoded/, 'an aborted newcomer is in the files');
$node->safe_psql('postgres', q{SELECT customer_segmentation.erase_customer('ghost@example.com', 's')});
$node->safe_psql('postgres', 'VACUUM FULL s');
is(found('s', 'ghost@example.com'), '', 'and gone after erase and VACUUM FULL');

# A rewrite survives crash and restart, whichever way it ended.
$node->safe_psql('postgres', "SELECT customer_segmentation.optimize('s')");
kill_server($node);
$node->start;
sound($node, 'optimize, then a crash');
$node->safe_psql('postgres', load(3, 1, 20000, 500));
sound($node, 'and then new customers');

done_testing();
