# Sets beside pg_roaringbitmap: what one writes the other reads, and both count, list and combine alike.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use CustomerSegments;

my $node = new_cluster('roaring', start => 0);
my $dir  = $node->config_data('--sharedir');
if (!-e "$dir/extension/roaringbitmap.control") {
    plan skip_all => 'pg_roaringbitmap is not installed for this PostgreSQL (Debian: postgresql-NN-roaringbitmap)';
}
$node->append_conf('postgresql.conf', "autovacuum = off\nfsync = off\nwork_mem = 64MB\n");
$node->start;
prepare($node);
$node->safe_psql('postgres', 'CREATE EXTENSION roaringbitmap');

sub is_true {
    my ($sql, $name) = @_;
    is($node->safe_psql('postgres', $sql), 't', $name);
}

# ---- shapes: rb is theirs, s the same numbers as a set. Of no state of the table, so that any number will do.

$node->safe_psql('postgres', <<'SQL');
CREATE TABLE shapes (name text PRIMARY KEY, rb roaringbitmap, s customer_segmentation.customer_set);
CREATE FUNCTION set_of(roaringbitmap) RETURNS customer_segmentation.customer_set LANGUAGE sql AS
	$$ SELECT ('s:#999:' || encode($1::bytea, 'hex'))::customer_segmentation.customer_set $$;
-- A number from 0 to 2^31 - 1 that looks random.
CREATE FUNCTION scatter(g bigint, seed int) RETURNS bigint IMMUTABLE LANGUAGE sql RETURN hashint8extended(g, seed) & 2147483647;

INSERT INTO shapes (name, rb) VALUES ('empty', '{}'), ('first', '{0}'), ('last', '{2147483646}'), ('few', '{0,3,65535,65536,2147483646}');
INSERT INTO shapes (name, rb)
	SELECT 'sparse', rb_build_agg(least(scatter(g, 1), 2147483646)::int) FROM generate_series(1, 3000) g
	UNION ALL SELECT 'every other', rb_build_agg(g * 2) FROM generate_series(0, 99999) g
	UNION ALL SELECT 'greatest array', rb_build_agg(g * 2) FROM generate_series(0, 4095) g
	UNION ALL SELECT 'least bitmap', rb_build_agg(g * 2) FROM generate_series(0, 4096) g
	UNION ALL SELECT 'random half', rb_build_agg(g) FROM generate_series(0, 299999) g WHERE scatter(g, 2) % 2 = 0
	UNION ALL SELECT 'random tenth', rb_build_agg(g) FROM generate_series(0, 999999) g WHERE scatter(g, 3) % 10 = 0
	UNION ALL SELECT 'many containers', rb_build_agg(g * 65536 * 8 + (scatter(g, 4) % 65536)::int) FROM generate_series(0, 4095) g
	UNION ALL SELECT 'nearly all', rb_build_agg(g) FROM generate_series(0, 499999) g WHERE g % 1000 <> 7
	UNION ALL SELECT 'full container', rb_fill('{}', 0, 65536)
	UNION ALL SELECT 'one run', rb_fill('{}', 100, 300000)
	UNION ALL SELECT 'runs', rb_or_agg(rb_fill('{}', g * 5000, g * 5000 + 1 + scatter(g, 5) % 4000)) FROM generate_series(0, 99) g
	UNION ALL SELECT 'to the last', rb_fill('{}', 2147000000, 2147483647)
	UNION ALL SELECT 'all kinds', rb_or(rb_or(rb_fill('{}', 10, 70000), rb_build_agg(g * 2 + 140000)), '{1000000,1000007}') FROM generate_series(0, 99999) g
	UNION ALL SELECT 'five million, dense', rb_build_agg(g * 2) FROM generate_series(0, 4999999) g
	UNION ALL SELECT 'five million, random', rb_build_agg(g) FROM generate_series(0, 9999999) g WHERE scatter(g, 6) % 2 = 0
	UNION ALL SELECT 'five million, one run', rb_fill('{}', 17, 5000017);
UPDATE shapes SET s = set_of(rb);
SQL

my $count = $node->safe_psql('postgres', 'SELECT count(*) FROM shapes');

# ---- there and back

sub of_all {
    my ($what, $name) = @_;
    is($node->safe_psql('postgres', "SELECT coalesce(string_agg(name, ', ' ORDER BY name) FILTER (WHERE ($what) IS NOT TRUE), 'none') FROM shapes"),
        'none', "$name: none of $count that differs");
}
of_all('customer_segmentation.cardinality(s) = rb_cardinality(rb)', 'cardinality');
of_all('rb_equals(s::bytea::roaringbitmap, rb)',                    'read by pg_roaringbitmap');
of_all('rb_to_array(s::bytea::roaringbitmap) = rb_to_array(rb)',    'members');
of_all('set_of(s::bytea::roaringbitmap) = s',                       'and back');
of_all('set_of(s::bytea::roaringbitmap)::bytea = s::bytea',         'and back, byte for byte');
of_all(q{set_of(rb)::text = s::text AND s::text::customer_segmentation.customer_set = s}, 'through text');

# pg_roaringbitmap has runs only where a function makes them; then, and where runs would not pay, the bytes are the same.
is($node->safe_psql('postgres', 'SELECT string_agg(name, $$, $$ ORDER BY name COLLATE "C") FROM shapes WHERE s::bytea <> rb::bytea'),
    'nearly all', 'the same bytes, but where runs pay and pg_roaringbitmap has none');
is_true(q{SELECT octet_length(s::bytea) < octet_length(rb::bytea) / 10 FROM shapes WHERE name = 'nearly all'}, 'there ours are fewer');

# pg_roaringbitmap 0.5 refuses three containers with runs, also from itself. Ours are the same bytes.
is_true(q{SELECT set_of(rb)::bytea = rb::bytea FROM rb_fill('{}', 0, 150000) rb}, 'three containers with runs: the same bytes');
is( error_of($node, q{SELECT rb_cardinality(set_of(rb)::bytea::roaringbitmap) FROM rb_fill('{}', 0, 150000) rb}),
    error_of($node, q{SELECT rb_cardinality(rb::bytea::roaringbitmap) FROM rb_fill('{}', 0, 150000) rb}),
    'and taken, or refused, like its own');

# ---- the algebra, of every pair

for my $op ([ '&', 'rb_and' ], [ '|', 'rb_or' ], [ '#', 'rb_xor' ], [ '-', 'rb_andnot' ]) {
    my ($ours, $theirs) = @$op;
    is( $node->safe_psql('postgres', qq{
SELECT count(*) FILTER (WHERE rb_equals(s::bytea::roaringbitmap, rb) AND customer_segmentation.cardinality(s) = rb_cardinality(rb) AND s = set_of(rb)
	AND s::bytea = set_of(rb)::bytea) || ' of ' || count(*)
FROM (SELECT a.s $ours b.s AS s, $theirs(a.rb, b.rb) AS rb FROM shapes a, shapes b OFFSET 0) x}),
        $count**2 . ' of ' . $count**2, "a $ours b is $theirs(a, b)");
}
is( $node->safe_psql('postgres', q{
SELECT count(*) FILTER (WHERE (a.s = b.s) = rb_equals(a.rb, b.rb) AND (a.s <> b.s) = rb_not_equals(a.rb, b.rb)
	AND (a.s @> b.s) = rb_contains(a.rb, b.rb) AND (a.s <@ b.s) = rb_containedby(a.rb, b.rb) AND (a.s && b.s) = rb_intersect(a.rb, b.rb))
FROM shapes a, shapes b}), $count**2, '=, <>, @>, <@ and && of every pair');
is_true('SELECT rb_equals(customer_segmentation.union_agg(s)::bytea::roaringbitmap, rb_or_agg(rb)) FROM shapes', 'union_agg');
is_true(q{SELECT rb_equals(customer_segmentation.intersect_agg(s)::bytea::roaringbitmap, rb_and_agg(rb)) FROM shapes WHERE name LIKE 'five%'},
    'intersect_agg');

# ---- sets of a table, combined there

$node->safe_psql('postgres', load(1, $_, 1 + 60_000 * $_, 280_000)) for 1 .. 2;
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE m AS SELECT row_number() OVER (ORDER BY i) AS n, i, customer_segmentation.members(i, 's') AS s FROM (SELECT DISTINCT segment_instance_id AS i FROM twin) x;
CREATE FUNCTION listed(roaringbitmap) RETURNS SETOF text LANGUAGE sql AS
	$$ SELECT customer_segmentation.identities(customer_segmentation.from_roaring($1::bytea, 's')) $$;
CREATE FUNCTION in_twin(int) RETURNS SETOF text LANGUAGE sql AS $$ SELECT customer_identity FROM twin WHERE segment_instance_id = (SELECT i FROM m WHERE n = $1) $$;
SQL
for my $op ([ 'INTERSECT', 'rb_and' ], [ 'UNION', 'rb_or' ], [ 'EXCEPT', 'rb_andnot' ]) {
    my ($sql, $theirs) = @$op;
    is($node->safe_psql('postgres', qq{
WITH ours AS (SELECT listed($theirs(a.s::bytea::roaringbitmap, b.s::bytea::roaringbitmap)) AS c FROM m a, m b WHERE a.n = 1 AND b.n = 2),
	twin AS (SELECT in_twin(1) AS c $sql SELECT in_twin(2))
SELECT (SELECT count(*) FROM (SELECT c FROM ours EXCEPT ALL SELECT c FROM twin) d) + (SELECT count(*) FROM (SELECT c FROM twin EXCEPT ALL SELECT c FROM ours) d)}),
        0, "customers of $theirs are those of $sql");
}

# ---- what is no bitmap, or none of this table

my $whole = $node->safe_psql('postgres', q{SELECT encode(rb_or('{5,9,70000,200000}', rb_fill('{}', 140000, 140500))::bytea, 'hex')});
my @cuts  = map { substr($whole, 0, 2 * $_) } 0 .. length($whole) / 2 - 1;
my @bad   = (@cuts, $whole . '00', '3c' . substr($whole, 2));
is($node->safe_psql('postgres', "SELECT count(customer_segmentation.from_roaring('\\x$whole', 's'))"), 1, 'whole, it is taken');
my @taken = grep { error_of($node, "SELECT customer_segmentation.from_roaring('\\x$_', 's')") !~ /^22P03/ } @bad;
is("@taken", '', 'cut at any byte, or with another byte behind or in front: refused');
like(error_of($node, q{SELECT customer_segmentation.from_roaring(rb::bytea, 's') FROM shapes WHERE name = 'last'}),
    qr/^22P03/, 'a number that the table has not given out');
like(error_of($node, q{SELECT customer_segmentation.from_roaring(rb_build(ARRAY[-1])::bytea, 's')}), qr/^22P03/, 'a number beyond all');
# One bit after the other turned: either it is another bitmap, which comes back as it is, or it is refused.
my $turned = $node->safe_psql('postgres', <<"SQL");
CREATE FUNCTION taken(b bytea) RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE s customer_segmentation.customer_set;
BEGIN
	s := ('s:#999:' || encode(b, 'hex'))::customer_segmentation.customer_set;
	RETURN CASE WHEN set_of(s::bytea::roaringbitmap) = s THEN 'taken' ELSE 'changed' END;
EXCEPTION WHEN invalid_text_representation THEN
	RETURN 'refused';
END \$\$;
SELECT string_agg(DISTINCT taken(set_bit(b, i, 1 - get_bit(b, i))), ', ') FROM (VALUES ('\\x$whole'::bytea)) AS v (b), generate_series(0, octet_length(b) * 8 - 1) i
SQL
is($turned, 'refused, taken', 'with one bit turned: refused, or another bitmap');
sound($node, 'the table');

done_testing();
