package CustomerSegments;

# What the tests share: a cluster with the extension, a table of the access method with a heap twin, rows for both, and
# the comparison of the two.
#
# Every test changes the table (s) and its twin in the same transactions, so that whatever happens to a transaction
# happens to both; sound() then compares contents and aggregates and asks verify().

use strict;
use warnings;
use Exporter 'import';
use Time::HiRes qw(time sleep usleep);
use Test::More;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(new_cluster prepare load sound problems seed start_psql finish_psql major error_of pid_of
    kill_server make_segments segments_of segments_work TWIN_COLUMNS);

use constant TWIN_COLUMNS => 'customer_identity, instance_created_date, schedule, segment_by, segment_created_date, '
    . 'segment_id, segment_instance_id, segment_name, num_of_customers, num_of_orders, total_revenue';

# new_cluster(name, conf => text, start => 0, … as for init): initialized, and started unless told otherwise.
sub new_cluster {
    my ($name, %o) = @_;
    my $conf  = delete $o{conf}  // '';
    my $start = delete $o{start} // 1;
    my $node  = PostgreSQL::Test::Cluster->new($name);
    $node->init(extra => [ '-E', 'UTF8', '--no-locale' ], %o);
    $node->append_conf('postgresql.conf', "log_statement = none\n$conf");
    $node->start if $start;
    return $node;
}

# test_rows(segment, day, first, n): one instance with customers first, first + 1, …
my $PREPARE = <<'SQL';
CREATE TABLE s (LIKE customer_segmentation_table) USING customer_segmentation;
CREATE TABLE twin (LIKE customer_segmentation_table) USING heap;
ALTER TABLE twin ADD UNIQUE (segment_instance_id, customer_identity);
CREATE FUNCTION test_rows(segment int, day int, first int, n int) RETURNS SETOF twin LANGUAGE sql STABLE AS $$
	SELECT CASE WHEN c % 3 = 0 THEN 'user' || c || '@example.com' ELSE '57' || lpad(c::text, 11, '0') END,
		timestamp '2025-01-01 11:08:39' + day * interval '1 day',
		CASE WHEN segment % 4 > 0 THEN 'once_a_day' END,
		'customer_id',
		timestamp '2023-07-20 08:33:08' + segment * interval '1 hour',
		'64b8f144256b30501b' || lpad(to_hex(segment), 6, '0'),
		'64b8f144256b30501b' || lpad(to_hex(segment), 6, '0')
			|| to_char(date '2025-01-01' + day, '_YYYY_MM_DD'),
		'Segment ' || segment,
		1,
		CASE WHEN c % 11 > 0 THEN (c + day / 9) % 13 END,
		CASE c % 29 WHEN 0 THEN NULL WHEN 1 THEN 'NaN' ELSE (c::numeric * 31 + day / 7 * 17) % 100000 / 100 END
	FROM generate_series(first, first + n - 1) c
$$;
SQL

# prepare(node, database, version): both default.
sub prepare {
    my ($node, $db, $version) = @_;
    $node->safe_psql($db // 'postgres',
        'CREATE EXTENSION customer_segmentation' . (defined $version ? " VERSION '$version'" : '') . ";\n$PREPARE");
}

# The statements that load an instance into the table and its twin.
sub load {
    my ($segment, $day, $first, $n) = @_;
    return join '', map { "INSERT INTO $_ SELECT * FROM test_rows($segment, $day, $first, $n);\n" } qw(s twin);
}

my $TOTALS = 'segment_id, segment_instance_id, instance_created_date, count(*), count(DISTINCT customer_identity), '
    . 'sum(num_of_customers), sum(num_of_orders), min(num_of_orders), max(num_of_orders), '
    . 'sum(total_revenue)::text, count(total_revenue)';

# Empty if table and twin agree and verify() finds nothing; else what is wrong.
sub problems {
    my ($node, $db, $table, $twin) = @_;
    my ($t, $w) = ($table // 's', $twin // 'twin');
    my $rows   = sub { 'SELECT ' . TWIN_COLUMNS . ", total_revenue::text AS shown FROM $_[0]" };
    my $totals = sub { "SELECT $TOTALS FROM $_[0] GROUP BY 1, 2, 3" };
    my $sql    = 'SELECT string_agg(what, E\'\n\') FROM (';
    my @parts;
    for (
        [ $rows,   "rows only in the table",   $t, $w ],
        [ $rows,   "rows only in the twin",    $w, $t ],
        [ $totals, "totals only in the table", $t, $w ],
        [ $totals, "totals only in the twin",  $w, $t ])
    {
        my ($query, $what, $left, $right) = @$_;
        my ($l, $r) = ($query->($left), $query->($right));
        push @parts, "SELECT '$what: ' || count(*) || ', for example ' || min(x::text) AS what "
            . "FROM ($l EXCEPT ALL $r) x HAVING count(*) > 0";
    }
    push @parts, "SELECT 'count: ' || a || ' and ' || b FROM (SELECT count(*) a FROM $t) x, "
        . "(SELECT count(*) b FROM $w) y WHERE a <> b";
    push @parts, "SELECT 'customers: ' || a || ' and ' || b FROM (SELECT count(DISTINCT customer_identity) a FROM $t) x, "
        . "(SELECT count(DISTINCT customer_identity) b FROM $w) y WHERE a <> b";
    push @parts, "SELECT 'verify: ' || v FROM customer_segmentation.verify('$t') v";
    $sql .= join(' UNION ALL ', @parts) . ') p';
    my ($rc, $out, $err) = $node->psql($db // 'postgres', $sql);
    return $rc == 0 ? $out : "the comparison failed: $err";
}

sub sound {
    my ($node, $name, @where) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is(problems($node, @where), '', $name);
}

# CSEG_SEED, or a new one; printed.
sub seed {
    my $seed = $ENV{CSEG_SEED} // int(time * 1000) % 1000000;
    srand $seed;
    note "seed $seed (CSEG_SEED repeats it)";
    return $seed;
}

# Segments of two roles in a database of their own: by query and by rules, in the shared table and in one of their own, with
# sources, retention, pins, backfilled instances, a history of runs of every kind and one that a killed server left.
sub make_segments {
    my ($node, $db) = @_;
    $node->safe_psql('postgres', "CREATE ROLE shop; CREATE ROLE other; CREATE DATABASE $db");
    $node->safe_psql($db, <<'SQL');
CREATE EXTENSION customer_segmentation;
CREATE SCHEMA shop AUTHORIZATION shop;
GRANT SELECT, INSERT ON customer_segmentation_table TO shop, other;
SET customer_segmentation.as_of = '2025-03-01 09:00+00';
SET ROLE shop;
CREATE TABLE shop.customers AS SELECT c AS id, 'c' || c || '@example.com' AS email, (ARRAY['Berlin', 'Paris', 'Rome'])[1 + c % 3] AS city FROM generate_series(1, 300) c;
CREATE TABLE shop.orders AS SELECT 1 + o * 7 % 300 AS customer, timestamptz '2025-01-01 00:00+00' + o * interval '1 hour' AS at, o % 90 + 0.5 AS amount FROM generate_series(1, 2500) o;
CREATE TABLE shop.instances (LIKE public.customer_segmentation_table) USING customer_segmentation;
SELECT customer_segmentation.set_source('customers', 'shop.customers', '{"customer_id": "id", "email": "email", "city": "city"}');
SELECT customer_segmentation.set_source('orders', 'shop.orders', '{"customer_id": "customer", "time": "at", "amount": "amount"}');
SELECT customer_segmentation.create_segment('Buyers', 'SELECT customer, count(*), sum(amount) FROM shop.orders WHERE at < customer_segmentation.as_of() GROUP BY 1',
	segment_id => lpad('a', 24, '0'), time_zone => 'Europe/Berlin', description => $$what's bought$$);
SELECT customer_segmentation.create_segment('By rules', '{"type":"AND","filters":[{"type":"user_action","definition":{"action":{"type":"made_purchase","comparator":"greater_than","value":1},"time":{"comparator":"under","value":30,"unit":"day"}}}]}'::jsonb,
	segment_id => lpad('b', 24, '0'), segment_by => 'email', schedule => 'every_hour', time_zone => 'America/New_York');
SELECT customer_segmentation.create_segment('Own table', 'SELECT id FROM shop.customers', segment_id => lpad('c', 24, '0'), relation => 'shop.instances', schedule => 'once_a_month');
SELECT customer_segmentation.create_segment('In both', '{"type":"AND","filters":[{"type":"segment_relation","definition":{"property":{"value":"00000000000000000000000a","comparator":"is"}}}]}'::jsonb, segment_id => lpad('d', 24, '0'));
SELECT customer_segmentation.set_retention(lpad('a', 24, '0'), '10 days', 'month');
SELECT customer_segmentation.run_segment(lpad('a', 24, '0'), d) FROM generate_series(timestamptz '2025-02-20 09:00+00', '2025-02-25 09:00+00', '1 day') d;
RESET ROLE;
SET ROLE other;
SELECT customer_segmentation.create_segment('Broken', 'SELECT 1 / (g - 5) FROM generate_series(1, 9) g', segment_id => lpad('e', 24, '0'));
SELECT customer_segmentation.create_segment('Paused', 'SELECT 1', segment_id => lpad('f', 24, '0'));
SELECT customer_segmentation.alter_segment(lpad('f', 24, '0'), paused => true);
RESET ROLE;
RESET customer_segmentation.as_of;
CALL customer_segmentation.run_due_segments('2025-03-01 09:30+00');
CALL customer_segmentation.run_due_segments('2025-03-02 09:30+00');
INSERT INTO customer_segmentation.segment_instance_mark (relation, segment_instance_id, backfilled, current_state)
VALUES ('customer_segmentation_table', lpad('a', 24, '0') || '_2025_02_20', true, '$.filters[0]');
SELECT customer_segmentation.pin_instance(lpad('a', 24, '0') || '_2025_03_01');
INSERT INTO customer_segmentation.segment_run (segment_id, kind, as_of, started_at, status, run_by, pid)
VALUES (lpad('a', 24, '0'), 'scheduled', '2025-03-03 09:00+00', clock_timestamp(), 'running', 'postgres', 1);
SQL
}

# All that is known of them.
sub segments_of {
    my ($node, $db) = @_;
    return $node->safe_psql($db, <<'SQL');
SET TimeZone = 'UTC';
SET customer_segmentation.as_of = '2025-03-03 10:00+00';
SELECT * FROM customer_segmentation.segments ORDER BY segment_id;
SELECT * FROM customer_segmentation.segment_health ORDER BY segment_id;
SELECT * FROM customer_segmentation.segment_runs;
SELECT * FROM customer_segmentation.segment_instances ORDER BY segment_instance_id;
SELECT * FROM customer_segmentation.sources ORDER BY 1, 2;
SELECT query, undated, last_due_at, owner_name FROM customer_segmentation.segment ORDER BY segment_id;
SELECT * FROM customer_segmentation.segment_instance_mark ORDER BY 1, 2;
SELECT count(*), md5(string_agg(t::text, chr(10) ORDER BY t::text COLLATE "C")) FROM customer_segmentation_table t;
SELECT count(*), md5(string_agg(t::text, chr(10) ORDER BY t::text COLLATE "C")) FROM shop.instances t;
SELECT last_value, is_called FROM customer_segmentation.segment_run_number;
SQL
}

# They work where they came to: due ones are run as their owners, what was left is cleared away, pins hold.
sub segments_work {
    my ($node, $db, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $node->safe_psql($db, q{CALL customer_segmentation.run_due_segments('2025-03-20 09:30+00')});
    is($node->safe_psql($db, q{SET TimeZone = 'UTC'; SELECT string_agg(ltrim(segment_id, '0') || ' ' || status || coalesce(' ' || sqlstate, ''), ', ' ORDER BY run_id)
		FROM customer_segmentation.segment_runs WHERE as_of > '2025-03-03'}),
        'a failed 57000, a succeeded, b succeeded, d succeeded, e failed 22012', "$name: what is due runs");
    is($node->safe_psql($db, q{SELECT count(*) FROM customer_segmentation.segment_instances i JOIN (SELECT segment_instance_id, rows FROM customer_segmentation.segment_runs
		WHERE as_of > '2025-03-03' AND status = 'succeeded') r USING (segment_instance_id) WHERE rows = num_of_customers}), 3, "$name: and is stored");
    is($node->safe_psql($db, q{SELECT string_agg(substr(segment_instance_id, 26) || CASE WHEN pinned THEN ' pinned' ELSE '' END, ', ' ORDER BY segment_instance_id)
		FROM customer_segmentation.segment_instances WHERE segment_id = lpad('a', 24, '0')}), '2025_02_25, 2025_03_01 pinned, 2025_03_02, 2025_03_20',
        "$name: retention and pins hold");
    is($node->safe_psql($db, q{SELECT count(*) FROM customer_segmentation.segment WHERE cluster <> (SELECT system_identifier FROM pg_control_system())
		OR owner_oid <> owner_name::regrole}), 0, "$name: owners are known");
    is($node->safe_psql($db, q{SELECT count(*) FROM customer_segmentation.verify()}), 0, "$name: sound");
}

sub major {
    my ($node) = @_;
    return int($node->safe_psql('postgres', 'SHOW server_version_num') / 10000);
}

# A psql in the background that runs a script, or what a file holds: its process and its output.
my $scripts = 0;

sub start_psql {
    my ($node, $script, %o) = @_;
    my $file = PostgreSQL::Test::Utils::tempdir() . '/script.' . $scripts++ . '.sql';
    append_to_file($file, $script);
    my %job = (in => '', out => '', err => '');
    $job{run} = IPC::Run::start(
        [   'psql', '-XAtq', '-v', 'VERBOSITY=verbose', ($o{go_on} ? () : ('-v', 'ON_ERROR_STOP=1')),
            '-f', $file, '-d', $node->connstr($o{db} // 'postgres') . ' application_name=work' ],
        '<', \$job{in}, '>', \$job{out}, '2>', \$job{err});
    return \%job;
}

# Waits for it; true if it succeeded.
sub finish_psql {
    my ($job) = @_;
    $job->{run}->finish;
    return $job->{run}->result(0) == 0;
}

# The SQLSTATE and the message that a statement ends with; empty if it succeeds.
sub error_of {
    my ($node, $sql, $db) = @_;
    my ($rc, $out, $err) = $node->psql($db // 'postgres', "\\set VERBOSITY verbose\n$sql");
    return '' if $rc == 0;
    return $err =~ /(?:ERROR|FATAL|PANIC): +([0-9A-Z]{5}): +(.*)/ ? "$1 $2" : "status $rc: $err";
}

sub pid_of {
    my ($node) = @_;
    my ($pid) = split /\n/, slurp_file($node->data_dir . '/postmaster.pid');
    return $pid;
}

# Kills the postmaster and all its children, and waits until they are gone.
sub kill_server {
    my ($node) = @_;
    my $pid = pid_of($node);
    my @all = ($pid, children_of($pid));
    $node->kill9;
    kill 9, @all;
    for (1 .. 1000) {
        return unless grep { kill 0, $_ } @all;
        usleep(5000);
    }

    # Nobody here collects dead processes, so the file would be taken for that of a running server.
    unlink $node->data_dir . '/postmaster.pid';
}

sub children_of {
    my ($parent) = @_;
    my @children;
    for my $file (glob '/proc/[0-9]*/stat') {
        open my $f, '<', $file or next;
        my $line = <$f> // '';
        push @children, $1 if $line =~ /^([0-9]+) \(.*\) \S ([0-9]+) /s && $2 == $parent;
    }
    return @children;
}

1;
