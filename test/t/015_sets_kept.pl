# Stored customer sets: through dump and restore, a restart, VACUUM FULL and optimize they mean the same customers or are
# refused, and never stand in the way of a dump.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use CustomerSegments;

my $node = new_cluster('sets', conf => "autovacuum = off\n");
prepare($node);
$node->safe_psql('postgres', load(1, $_, 1 + 500 * $_, 3000)) for 1 .. 4;

# Sorted before the tables that they are of, so that they are restored first.
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE a_sets AS SELECT i AS instance, customer_segmentation.members(i, 's') AS members
	FROM (SELECT DISTINCT segment_instance_id AS i FROM s) x;
CREATE TABLE gone (LIKE customer_segmentation_table) USING customer_segmentation;
INSERT INTO gone SELECT * FROM s WHERE segment_instance_id = (SELECT min(instance) FROM a_sets);
CREATE TABLE a_stale AS SELECT 'dropped' AS why, customer_segmentation.members(min(segment_instance_id), 'gone') AS members FROM gone;
DROP TABLE gone;
CREATE TABLE rewritten (LIKE customer_segmentation_table) USING customer_segmentation;
INSERT INTO rewritten SELECT * FROM s WHERE segment_instance_id = (SELECT min(instance) FROM a_sets);
INSERT INTO a_stale SELECT 'rewritten', customer_segmentation.members(min(segment_instance_id), 'rewritten') FROM rewritten;
SELECT customer_segmentation.optimize('rewritten');
SQL

sub wrong {
    my ($db) = @_;
    return $node->safe_psql($db, <<'SQL');
SELECT count(*) FROM (
	(SELECT instance, customer_segmentation.identities(members) FROM a_sets EXCEPT ALL SELECT segment_instance_id, customer_identity FROM s)
	UNION ALL
	(SELECT segment_instance_id, customer_identity FROM s EXCEPT ALL SELECT instance, customer_segmentation.identities(members) FROM a_sets)) d
SQL
}

my $STALE = "SELECT customer_segmentation.identities(members) FROM a_stale WHERE why = 'rewritten'";

is(wrong('postgres'), 0, 'as stored');
like(error_of($node, $STALE), qr/^55000/, 'of a former state');
$node->restart;
is(wrong('postgres'), 0, 'after a restart');
$node->safe_psql('postgres', 'VACUUM FULL s');
is(wrong('postgres'), 0, 'after VACUUM FULL');

# ---- dump and restore, as text

my $file = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
command_ok([ 'pg_dump', '-f', $file, $node->connstr('postgres') ], 'a dump, stale sets and all');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $file, $node->connstr('restored') ], 'restored');
is(wrong('restored'), 0, 'the same customers there');
is($node->safe_psql('restored', 'SELECT count(*) FROM a_sets WHERE members = customer_segmentation.members(instance, $$s$$)'),
    4, 'and equal to new sets');
like(error_of($node, $STALE, 'restored'), qr/^55000/, 'of a former state there too');
like(error_of($node, "SELECT customer_segmentation.identities(members) FROM a_stale WHERE why = 'dropped'", 'restored'),
    qr/^55000/, 'of a dropped table');

# ---- binary, through COPY

my $binary = PostgreSQL::Test::Utils::tempdir() . '/sets.bin';
$node->safe_psql('postgres', "COPY a_sets TO '$binary' (FORMAT binary)");
$node->safe_psql('restored', "CREATE TABLE copied (LIKE a_sets); COPY copied FROM '$binary' (FORMAT binary)");
is($node->safe_psql('restored', 'SELECT count(*) FROM copied JOIN a_sets USING (instance) WHERE copied.members = a_sets.members'),
    4, 'the same through COPY BINARY');

# ---- a rewrite

$node->safe_psql('postgres', 'CREATE TABLE texts AS SELECT instance, members::text AS t FROM a_sets');
$node->safe_psql('postgres', q{SELECT customer_segmentation.optimize('s')});
like(error_of($node, 'SELECT customer_segmentation.identities(members) FROM a_sets'), qr/^55000/, 'refused after optimize');
is( $node->safe_psql('postgres',
        q{SELECT count(*) FROM texts WHERE t::customer_segmentation.customer_set = customer_segmentation.members(instance, 's')}),
    4, 'the text form holds');
sound($node, 'the table');

done_testing();
