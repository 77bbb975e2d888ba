# Base backups and dumps bring back everything: rows once, grants, and what users defined on tables of their own.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use CustomerSegments;

my $node = new_cluster('main', allows_streaming => 1, conf => "max_wal_size = 256MB\n");
prepare($node);

# ---- a base backup, taken while rows are loaded

$node->safe_psql('postgres', load(1, $_, 1, 2000)) for 0 .. 4;
my $job = start_psql($node,
    join '', map { "BEGIN;\n" . load(1 + $_ % 3, $_, 1 + 300 * $_, 2000) . "COMMIT;\n" . ($_ % 7 ? '' : "VACUUM s;\n") } 5 .. 40);
$node->backup('online');
ok(finish_psql($job), 'loads went on during the backup') or diag $job->{err};
my $restored = PostgreSQL::Test::Cluster->new('restored');
$restored->init_from_backup($node, 'online');
$restored->start;
sound($restored, 'base backup');
$restored->safe_psql('postgres', load(4, 50, 100000, 1000));
sound($restored, 'the restored cluster takes new customers');
$restored->stop;

# ---- dumps

$node->safe_psql('postgres', <<'SQL');
CREATE ROLE reader;
CREATE ROLE analyst;
GRANT SELECT ON customer_segmentation_table TO reader;
GRANT SELECT (segment_id, segment_name), INSERT ON customer_segmentation_table TO analyst;
INSERT INTO customer_segmentation_table SELECT * FROM twin;
CREATE TABLE own_twin AS SELECT * FROM twin;

-- Values that are easily lost on the way.
INSERT INTO s (customer_identity, instance_created_date, segment_id, segment_instance_id, segment_name, total_revenue)
SELECT v, d, 'odd', 'odd ' || n, nullif(v, ''), r
FROM (VALUES (1, '', timestamp '-infinity', 1.10), (2, ' ', 'infinity', 'NaN'), (3, E'a\tb\\N\n\\.', '0044-03-15 12:00:00 BC', '-Infinity'),
	(4, 'NULL', '9999-12-31 23:59:59.999999', 1e30), (5, 'é' || repeat('x', 3000), '2025-01-01', 0.12345678901234567890)) x (n, v, d, r);
INSERT INTO twin SELECT * FROM s WHERE segment_id = 'odd';

CREATE SCHEMA shop;
CREATE TABLE shop.mine (LIKE customer_segmentation_table, CHECK (num_of_orders >= 0),
	CONSTRAINT named CHECK (segment_by IN ('customer_id', 'email'))) USING customer_segmentation;
COMMENT ON TABLE shop.mine IS 'a table of a user';
ALTER TABLE shop.mine ALTER num_of_customers SET DEFAULT 1;
ALTER TABLE shop.mine ENABLE ROW LEVEL SECURITY;
CREATE POLICY only_some ON shop.mine FOR SELECT TO reader USING (segment_name = 'Segment 1');
GRANT USAGE ON SCHEMA shop TO reader;
GRANT SELECT ON shop.mine TO reader;
CREATE TABLE shop.changes (what text, customer text);
CREATE FUNCTION shop.note() RETURNS trigger LANGUAGE plpgsql AS
	$$BEGIN INSERT INTO shop.changes VALUES (TG_OP, coalesce(NEW.customer_identity, OLD.customer_identity)); RETURN NULL; END$$;
INSERT INTO shop.mine SELECT * FROM twin WHERE num_of_orders IS NOT NULL AND segment_by IS NOT NULL;
CREATE TRIGGER noted AFTER INSERT OR UPDATE OR DELETE ON shop.mine FOR EACH ROW EXECUTE FUNCTION shop.note();
CREATE VIEW shop.shown AS SELECT segment_name, count(*) FROM shop.mine GROUP BY 1;
CREATE MATERIALIZED VIEW shop.kept USING customer_segmentation AS SELECT * FROM shop.mine WHERE num_of_orders = 2;
CREATE TABLE shop.parts (LIKE customer_segmentation_table) PARTITION BY LIST (segment_name);
CREATE TABLE shop.part_1 PARTITION OF shop.parts FOR VALUES IN ('Segment 1') USING customer_segmentation;
CREATE TABLE shop.part_other PARTITION OF shop.parts DEFAULT USING customer_segmentation;
INSERT INTO shop.parts SELECT * FROM twin;
CREATE UNLOGGED TABLE shop.unlogged (LIKE customer_segmentation_table) USING customer_segmentation;
INSERT INTO shop.unlogged SELECT * FROM test_rows(9, 1, 1, 10);
CREATE TABLE mine_twin AS SELECT * FROM shop.mine;
SQL
sound($node, 'before the dump');

my $definition = q{
SELECT 'table', c.oid::regclass::text, c.relkind::text, c.relpersistence::text, (SELECT amname::text FROM pg_am WHERE oid = c.relam), c.relrowsecurity::text,
	c.relacl::text, obj_description(c.oid, 'pg_class') FROM pg_class c
	WHERE c.relnamespace IN ('public'::regnamespace, 'shop'::regnamespace) AND c.relkind <> 'i'
UNION ALL SELECT 'column', attrelid::regclass || '.' || attname, attnum::text, attnotnull::text, format_type(atttypid, atttypmod), atthasdef::text,
	attacl::text, NULL FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE relname IN ('mine', 'customer_segmentation_table') AND attnum > 0
UNION ALL SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid), NULL, NULL, NULL, NULL, NULL
	FROM pg_constraint WHERE conrelid = 'shop.mine'::regclass
UNION ALL SELECT 'trigger', pg_get_triggerdef(oid), tgenabled::text, NULL, NULL, NULL, NULL, NULL FROM pg_trigger WHERE tgrelid = 'shop.mine'::regclass
UNION ALL SELECT 'policy', tablename || '.' || policyname, roles::text, qual, cmd, NULL, NULL, NULL FROM pg_policies
UNION ALL SELECT 'member', pg_describe_object(classid, objid, objsubid), NULL, NULL, NULL, NULL, NULL, NULL FROM pg_depend WHERE deptype = 'e'
	AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'customer_segmentation')
ORDER BY 1, 2, 3};

sub restored_ok {
    my ($db, $how) = @_;
    sound($node, "$how: a user's table", $db);
    sound($node, "$how: the extension's table, rows once", $db, 'customer_segmentation_table', 'own_twin');
    sound($node, "$how: a table with triggers and policies", $db, 'shop.mine', 'mine_twin');
    is($node->safe_psql($db, $definition), $node->safe_psql('postgres', $definition), "$how: definitions and grants");
    is($node->safe_psql($db, 'SELECT count(*) FROM shop.changes'), 0, "$how: the trigger did not fire for restored rows");
    for my $query ('SELECT * FROM shop.shown ORDER BY 1', 'SELECT count(*), sum(total_revenue) FROM shop.kept',
        'SELECT tableoid::regclass, count(*) FROM shop.parts GROUP BY 1 ORDER BY 1', 'SELECT count(*) FROM shop.unlogged')
    {
        is($node->safe_psql($db, $query), $node->safe_psql('postgres', $query), "$how: $query");
    }
    is($node->safe_psql($db, 'SET ROLE reader; SELECT DISTINCT segment_name FROM shop.mine'), 'Segment 1', "$how: the policy holds");
    like(error_of($node, "INSERT INTO shop.mine SELECT * FROM test_rows(1, 0, 1, 1)", $db), qr/^23505/, "$how: still unique");
    $node->safe_psql($db, "INSERT INTO shop.mine SELECT * FROM test_rows(1, 90, 500001, 2)");
    is($node->safe_psql($db, 'SELECT count(*) FROM shop.changes'), 2, "$how: the trigger fires");
    like(error_of($node, q{UPDATE shop.mine SET num_of_orders = -1}, $db), qr/^23514/, "$how: the constraint holds");
    $node->safe_psql($db, load(6, 91, 600001, 500));
    sound($node, "$how: further rows", $db);
}

my $dir = PostgreSQL::Test::Utils::tempdir();
for my $how ([ 'custom', '-Fc' ], [ 'plain', '-Fp' ], [ 'inserts', '-Fp', '--rows-per-insert=500' ]) {
    my ($name, @options) = @$how;
    $node->command_ok([ 'pg_dump', @options, '-f', "$dir/$name", '-d', $node->connstr('postgres') ], "$name: dumped");
    $node->safe_psql('postgres', "CREATE DATABASE $name TEMPLATE template0");
    $node->command_ok(
        $name eq 'custom'
        ? [ 'pg_restore', '-e', '-j2', '-d', $node->connstr($name), "$dir/$name" ]
        : [ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($name), '-f', "$dir/$name" ], "$name: restored");
    restored_ok($name, $name);
}

# ---- segments: what defines them, their history, and their instances

make_segments($node, 'segments');
my $segments = segments_of($node, 'segments');
for my $how ([ 'custom', '-Fc' ], [ 'plain', '-Fp' ]) {
    my ($name, @options) = @$how;
    my $db = "segments_$name";
    $node->command_ok([ 'pg_dump', @options, '-f', "$dir/$db", '-d', $node->connstr('segments') ], "segments, $name: dumped");
    $node->safe_psql('postgres', "CREATE DATABASE $db TEMPLATE template0");
    $node->command_ok(
        $name eq 'custom'
        ? [ 'pg_restore', '-e', '-j2', '-d', $node->connstr($db), "$dir/$db" ]
        : [ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($db), '-f', "$dir/$db" ], "segments, $name: restored");
    is(segments_of($node, $db), $segments, "segments, $name: all that is known of them");
    segments_work($node, $db, "segments, $name");
}

# In another cluster, where the roles have other OIDs.
{
    my $other = new_cluster('other');
    $other->safe_psql('postgres', 'CREATE ROLE one; CREATE ROLE two; CREATE ROLE other; CREATE ROLE shop; CREATE DATABASE segments');
    $other->command_ok([ 'pg_restore', '-e', '-d', $other->connstr('segments'), "$dir/segments_custom" ], 'segments, other cluster: restored');
    is(segments_of($other, 'segments'), $segments, 'segments, other cluster: all that is known of them');
    segments_work($other, 'segments', 'segments, other cluster');
    $other->safe_psql('segments', 'ALTER ROLE shop RENAME TO store; CREATE ROLE shop');
    is($other->safe_psql('segments', q{SELECT DISTINCT owner FROM customer_segmentation.segments ORDER BY 1}), "other\nstore",
        'segments, other cluster: a renamed role keeps them');
    $other->stop;
}

# ---- tables alone

$node->safe_psql('postgres', 'CREATE DATABASE alone');
prepare($node, 'alone');
$node->safe_psql('alone', 'DROP TABLE s');
$node->command_ok([ 'pg_dump', '-Fc', '-t', 's', '-f', "$dir/s", '-d', $node->connstr('postgres') ], 'a table alone: dumped');
$node->command_ok([ 'pg_restore', '-e', '-d', $node->connstr('alone'), "$dir/s" ], 'a table alone: restored');
$node->command_ok([ 'pg_dump', '-t', 'twin', '-a', '-f', "$dir/twin", '-d', $node->connstr('postgres') ], 'its twin: dumped');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('alone'), '-f', "$dir/twin" ], 'its twin: restored');
sound($node, 'a table alone', 'alone');

for my $table ('s', 'customer_segmentation_table') {
    my $of = $table eq 's' ? 'twin' : 'own_twin';
    $node->command_ok([ 'pg_dump', '-a', '-t', $table, '-f', "$dir/a", '-d', $node->connstr('postgres') ], "$table, data only: dumped");
    $node->safe_psql('alone', "TRUNCATE $table; DROP TABLE IF EXISTS own_twin; CREATE TABLE own_twin (LIKE twin)");
    $node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('alone'), '-f', "$dir/a" ], "$table, data only: restored");
    my $sum = 'count(*), md5(string_agg(t::text, chr(10) ORDER BY t::text COLLATE "C"))';
    is($node->safe_psql('alone', "SELECT $sum FROM $table t"), $node->safe_psql('postgres', "SELECT $sum FROM $of t"),
        "$table, data only: the same rows");
    is($node->safe_psql('alone', "SELECT * FROM customer_segmentation.verify('$table')"), '', "$table, data only: sound");
}
$node->command_ok([ 'pg_dumpall', '-f', "$dir/all", '-d', $node->connstr('postgres') ], 'pg_dumpall');
$node->stop;
done_testing();
