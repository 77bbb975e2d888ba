# pg_upgrade by copying and by linking keeps rows, and what comes after it works; so does the update of the extension.

use strict;
use warnings;
use Cwd;
use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use CustomerSegments;

my $tree = "$FindBin::RealBin/../..";

my $file;
END { unlink $file if defined $file }

# ---- pg_upgrade

for my $mode ('copy', 'link') {
    my $old = new_cluster("old_$mode");
    my $new = new_cluster("new_$mode", start => 0);
    prepare($old);
    $old->safe_psql('postgres', load(1, $_, 1 + 100 * $_, 2000)) for 0 .. 9;
    $old->safe_psql('postgres', load(2, 1, 1, 40000) . 'BEGIN;' . load(3, 1, 700001, 300) . 'ROLLBACK;'
            . join('', map { "UPDATE $_ SET num_of_orders = 1 WHERE hashtext(customer_identity) % 9 = 0;"
                    . "DELETE FROM $_ WHERE hashtext(customer_identity) % 9 = 1;" } qw(s twin))
            . 'INSERT INTO customer_segmentation_table SELECT * FROM twin; CREATE TABLE own_twin AS SELECT * FROM twin;'
            . 'CREATE ROLE reader; GRANT SELECT ON customer_segmentation_table TO reader;'
            . 'VACUUM s');
    sound($old, "$mode: before");
    make_segments($old, 'segments');
    my $segments = segments_of($old, 'segments');
    my $info = q{SELECT t, i.rows, instances, customers, cells, bases, deltas, base_bytes, delta_bytes, dictionary_bytes
        FROM unnest(ARRAY['s', 'customer_segmentation_table']::regclass[]) t, customer_segmentation.storage_info(t) i};
    my $before = $old->safe_psql('postgres', $info);
    $old->stop;
    my $bin = $new->config_data('--bindir');
    my $dir = getcwd();
    chdir PostgreSQL::Test::Utils::tempdir();
    command_ok(
        [   'pg_upgrade', '--no-sync', '-d', $old->data_dir, '-D', $new->data_dir, '-b', $bin, '-B', $bin,
            '-s', $new->host, '-p', $old->port, '-P', $new->port, ($mode eq 'link' ? '--link' : ()) ], "$mode: pg_upgrade");
    chdir $dir;
    $new->start;
    is($new->safe_psql('postgres', $info), $before, "$mode: stored as before");
    is(segments_of($new, 'segments'), $segments, "$mode: all that is known of segments");
    segments_work($new, 'segments', "$mode: segments");
    sound($new, "$mode: contents");
    sound($new, "$mode: the extension's table", 'postgres', 'customer_segmentation_table', 'own_twin');
    is($new->safe_psql('postgres', q{SELECT has_table_privilege('reader', 'customer_segmentation_table', 'SELECT')}),
        't', "$mode: grants");
    $new->safe_psql('postgres', load(1, 20, 900001, 3000) . load(4, 20, 1, 2000)
            . join('', map { "UPDATE $_ SET total_revenue = 2.50 WHERE hashtext(customer_identity) % 8 = 0;"
                    . "DELETE FROM $_ WHERE hashtext(customer_identity) % 8 = 1;" } qw(s twin)));
    sound($new, "$mode: new customers and changes");
    $new->safe_psql('postgres', 'VACUUM (FULL, FREEZE) s; VACUUM FREEZE customer_segmentation_table');
    sound($new, "$mode: vacuumed");
    sound($new, "$mode: the extension's table, vacuumed", 'postgres', 'customer_segmentation_table', 'own_twin');
    $new->safe_psql('postgres', 'DROP EXTENSION customer_segmentation CASCADE');
    $new->stop;
}

# ---- ALTER EXTENSION … UPDATE, from a version made here: 1.0 without what the update script brings

# The statements of a script.
sub statements {
    my ($text) = @_;
    $text =~ s/^\\echo.*\n//mg;
    $text =~ s/^--.*\n//mg;
    my @found;
    my $now = '';
    while ($text =~ /\G((\$\w*\$).*?\2|BEGIN ATOMIC\b.*?\nEND\b|'(?:[^']|'')*'|--[^\n]*\n|;|.)/gs) {
        if ($1 eq ';') {
            push @found, $now =~ s/^\s+|\s+$//gr;
            $now = '';
        }
        else { $now .= $1 }
    }
    return @found;
}

SKIP: {
    my $node = new_cluster('update');
    my $major = major($node);
    my %in_update = map { $_ => 1 } statements(slurp_file("$tree/sql/customer_segmentation--0.9--1.0.sql"));
    my @all       = statements(slurp_file("$tree/sql/customer_segmentation--1.0.sql"));
    my @first     = grep { !$in_update{$_} } @all;
    is(@all - @first, scalar(keys %in_update), 'the update script brings exactly statements of version 1.0');
    my $script = join('', map { "$_;\n" } @first);

    my $dir  = $node->config_data('--sharedir') . '/extension';
    $file = "$dir/customer_segmentation--0.9.sql";
    if (!-w $dir) {
        skip "version 0.9: $dir can't be written, and extension_control_path needs PostgreSQL 18", 1 if $major < 18;
        my $own = PostgreSQL::Test::Utils::tempdir();
        mkdir "$own/extension";
        for my $from (glob "$dir/customer_segmentation*") {
            my ($name) = $from =~ m{([^/]+)$};
            append_to_file("$own/extension/$name", slurp_file($from));
        }
        $file = "$own/extension/customer_segmentation--0.9.sql";
        $node->append_conf('postgresql.conf', "extension_control_path = '$own:\$system'\n");
        $node->reload;
    }
    append_to_file($file, $script);

    my $members = q{SELECT pg_describe_object(classid, objid, objsubid) FROM pg_depend WHERE deptype = 'e' AND refclassid =
        'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'customer_segmentation') ORDER BY 1};
    my $functions = q{SELECT p.oid::regprocedure, pg_get_functiondef(p.oid), proacl, obj_description(p.oid, 'pg_proc') FROM pg_proc p
        JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
        WHERE d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'customer_segmentation') AND prokind IN ('f', 'p') ORDER BY 1};
    $node->safe_psql('postgres', 'CREATE DATABASE fresh; CREATE DATABASE updated');
    prepare($node, 'fresh');
    my $ok = eval {
        prepare($node, 'updated', '0.9');
        1;
    };
    ok($ok, 'version 0.9 can be created') or diag $@;
    is($node->safe_psql('updated', q{SELECT to_regprocedure('customer_segmentation.verify(regclass)') IS NULL}),
        't', 'it has not what the update brings');
    $node->safe_psql('updated',
        load(1, 1, 1, 3000) . load(2, 1, 1000, 3000)
            . 'INSERT INTO customer_segmentation_table SELECT * FROM twin; CREATE TABLE own_twin AS SELECT * FROM twin;');

    # A session that had the table open before.
    my $session = $node->background_psql('updated');
    $session->query_safe('SELECT count(*) FROM s');
    $node->safe_psql('updated', 'ALTER EXTENSION customer_segmentation UPDATE');
    is($session->query_safe('SELECT count(*) FROM s'), 6000, 'a session from before the update');
    $session->quit;
    sound($node, 'data after the update', 'updated');
    sound($node, "the extension's table after the update", 'updated', 'customer_segmentation_table', 'own_twin');
    is($node->safe_psql('updated', $members), $node->safe_psql('fresh', $members), 'the same members as a new installation');
    is($node->safe_psql('updated', $functions), $node->safe_psql('fresh', $functions), 'the same functions as a new installation');
    $node->safe_psql('updated', load(3, 2, 1, 5000));
    sound($node, 'writes after the update', 'updated');
    $node->stop;
}
done_testing();
