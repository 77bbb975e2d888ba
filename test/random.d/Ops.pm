package Ops;

# The kinds of statements, and the session that decides which comes next.

use strict;
use warnings;
use utf8;
use Gen;

sub new {
    my ($class, %o) = @_;
    return bless { %o, tx => undef, prepared => {}, serial => 0, sets => [], triggers => {} }, $class;
}

sub st {
    my ($self, $kind, $sql, %o) = @_;
    my $p = $self->{pair};
    $p->{in_tx} = $self->{tx} ? 1 : 0;
    my $state = $p->run($kind, $sql, %o);
    $self->{tx}{failed} = 1 if $self->{tx} && $state ne '00000';
    return $state;
}

sub idle { return !$_[0]{tx} }
sub failed { return $_[0]{tx} && $_[0]{tx}{failed} }
sub serial { return ++$_[0]{serial} }
sub version { return $_[0]{pair}{version} }

# ------------------------------------------------------------- small helpers

sub target { return chance(0.95) ? '{T}' : '{V}' }

sub returning {
    my ($a, $p) = @_;
    return '' unless chance($p // 0.35);
    return ' RETURNING ' . pick("$a.*", "$a.segment_instance_id, $a.customer_identity", "$a.total_revenue, $a.num_of_orders + 0, $a.customer_identity",
        "upper($a.segment_name), $a.instance_created_date", "$a", '1', "$a.*, length($a.customer_identity)");
}

# Rows of distinct keys; sometimes with a violation. Returns the rows and
# whether two different violations are possible.
my $new = 0;

sub rows {
    my ($n, %o) = @_;
    my (@rows, %seen);
    my @inst = chance(0.5) ? ([ instance() ]) : map { [ instance() ] } 0 .. r(4);
    # many rows would nearly always collide: mostly give them customers never seen before
    my $fresh = $n > 12 && chance(0.7);
    for (1 .. $n) {
        my @v = row_values(instance => pick(@inst), customer => $fresh && chance(0.995) ? sprintf('new-%07d', ++$new) : $n > 60 && chance(0.7) ? sprintf('bulk-%06d', r(120000)) : customer());
        next if $seen{"$v[6]\x{1f}$v[0]"}++ && !chance(0.02);
        push @rows, \@v;
    }
    my $either = 0;
    if (chance($o{null} // 0.03)) {
        $rows[ r(scalar @rows) ][ pick(0, 1, 5, 6) ] = undef;
        $either = 1;
    }
    return (\@rows, $either);
}

sub values_list { return join ', ', map { '(' . row_literals(@$_) . ')' } @{ $_[0] } }

# SELECT list that moves rows of alias y to another instance
sub moved {
    my ($s, $id, %o) = @_;
    my %set = (segment_id => Gen::q($s->{id}), segment_instance_id => Gen::q($id), %o);
    return join ', ', map { $set{$_} // "y.$_" } @COLS;
}

sub two_instances {
    my $s = segment();
    return ($s, scalar instance($s), scalar instance($s));
}

# ------------------------------------------------------------------- changes

sub op_insert {
    my $self = shift;
    my $n = chance(0.6) ? 1 : 1 + r(8);
    my ($rows, $either) = rows($n);
    my $t = target();
    if (chance(0.4)) {
        # only what is not there yet
        my $c = join ', ', @COLS;
        $self->st('insert values', "INSERT INTO $t AS x ($c) SELECT v.* FROM (VALUES " . values_list($rows) . ") v($c) WHERE NOT EXISTS (SELECT FROM {T} y WHERE y.segment_instance_id = v.segment_instance_id AND y.customer_identity = v.customer_identity)" . returning('x'), either => $either);
    }
    elsif (@$rows == 1 && chance(0.3)) {
        # only some of the columns, in another order
        my @i = grep { chance(0.6) || $_ == 0 || $_ == 1 || $_ == 5 || ($_ == 6 && chance(0.95)) } reverse 0 .. $#COLS;
        $self->st('insert columns', "INSERT INTO $t AS x (" . join(', ', @COLS[@i]) . ') VALUES (' . join(', ', map { lit($COLS[$_], $rows->[0][$_]) } @i) . ')' . returning('x'), either => $either);
    }
    else {
        $self->st('insert values', "INSERT INTO $t AS x VALUES " . values_list($rows) . returning('x'), either => $either);
    }
}

sub op_insert_many {
    my $self = shift;
    my ($rows, $either) = rows(30 + r(150));
    $self->st('insert values many', 'INSERT INTO {T} AS x VALUES ' . values_list($rows) . returning('x', 0.15), either => $either);
}

sub bulk_sql {
    my ($s, $k, $id, $from, $n) = @_;
    return "INSERT INTO {T} AS x SELECT 'bulk-' || lpad(g::text, 6, '0'), " . lit('timestamp', Gen::instance_stamp($s, $k)) . ', ' . join(', ', lit('text', $s->{schedule}), lit('text', $s->{by}), lit('timestamp', $s->{created}), lit('text', $s->{id}), lit('text', $id), lit('text', $s->{name}))
        . ", 1, nullif(g % 11, 0), " . pick('(g % 977)::numeric / 4', 'round((g % 9973)::numeric / 7, (g % 5)::int)', 'NULL', "CASE WHEN g % 50 = 0 THEN 'NaN'::numeric ELSE g END") . " FROM generate_series($from, " . ($from + $n - 1) . ") g";
}

sub op_insert_bulk {
    my $self = shift;
    my $x = chance(0.7) ? 50 + r(400) : 500 + r(3000);
    my $sql = bulk_sql(instance(), r(24) * 5000, $x);
    $sql .= ' ORDER BY md5(g::text)' if chance(0.3);
    $self->st('insert series', $sql . returning('x', 0.1));
}

# More customers than one container of 32,768 ordinals holds, most of them deleted again
sub op_wide {
    my $self = shift;
    my ($s, $k, $id) = instance();
    my $n = 34000 + r(3000);
    $self->st('insert wide', bulk_sql($s, $k, $id, 5000 * r(16), $n));
    $self->st('delete wide', "DELETE FROM {T} WHERE segment_instance_id = " . Gen::q($id) . " AND customer_identity LIKE 'bulk-%' AND hashtext(customer_identity) % 100 <> 0");
}

sub op_refill {
    my $self = shift;
    my ($no) = @_;
    my $s = defined $no ? $SEGMENTS[$no] : segment();
    my $inst = instance_sql($s, 'k');
    my $to = $s->{n} - 1;
    my $from = defined $no || $to < 3 ? 0 : r($to);
    my @c = some(60, @CUSTOMERS[ 0 .. $#CUSTOMERS - 5 ]);
    my ($m, $keep) = (4 + r(20), 2 + r(4));
    my @t = map { lit('timestamp', $_) } Gen::instance_stamp($s, 0), $s->{created};
    $self->st('insert history', "INSERT INTO {T} AS x SELECT u.c, $t[0] + k * interval '1 day' + (k % 60) * interval '1 minute', " . join(', ', lit('text', $s->{schedule}), lit('text', $s->{by}), $t[1], lit('text', $s->{id}), $inst, lit('text', $s->{name}))
        . ", 1, (u.i * 7 + k / 5) % 13, round(((u.i * 13 + k / 3) % 700)::numeric / 7, (u.i % 4)::int) FROM generate_series($from, $to) k CROSS JOIN unnest(ARRAY[" . join(', ', map { Gen::q($_) } @c) . "]) WITH ORDINALITY u(c, i) WHERE (k / 9 + u.i * 17) % $m < $keep"
        . " AND NOT EXISTS (SELECT FROM {T} y WHERE y.segment_instance_id = $inst AND y.customer_identity = u.c)" . pick('', ' ORDER BY u.c, k', ' ORDER BY md5(u.c || k)', ' ORDER BY k, u.c'));
}

# From the table itself
sub op_insert_self {
    my $self = shift;
    my ($s, $a, $b) = two_instances();
    my $to = chance(0.7) ? $s : segment();
    $b = instance($to) if $to != $s;
    my $sql = 'INSERT INTO {T} AS x SELECT ' . moved($to, $b, chance(0.3) ? (total_revenue => pick('y.total_revenue * 2', 'y.total_revenue + 0.00', 'NULL')) : ()) . ' FROM {T} y WHERE y.segment_instance_id = ' . Gen::q($a);
    $sql .= ' AND ' . qual('y', 1) if chance(0.3);
    $sql .= ' AND NOT EXISTS (SELECT FROM {T} z WHERE z.segment_instance_id = ' . Gen::q($b) . ' AND z.customer_identity = y.customer_identity)' if chance(0.7);
    $self->st('insert self', $sql . returning('x'));
}

# Like a run that replaces an instance
sub op_replace {
    my $self = shift;
    my ($s, $a, $b) = two_instances();
    my $own = $self->idle;
    $self->begin if $own;
    $self->st('delete instance', 'DELETE FROM {T} WHERE segment_instance_id = ' . Gen::q($b));
    $self->st('insert self', 'INSERT INTO {T} SELECT ' . moved($s, $b) . ' FROM {T} y WHERE y.segment_instance_id = ' . Gen::q($a) . ' AND hashtext(y.customer_identity) % 20 <> ' . r(20));
    $self->end if $own;
}

my %escape = ("\\" => "\\\\", "\n" => "\\n", "\t" => "\\t", "\r" => "\\r");

sub op_copy_in {
    my $self = shift;
    my ($rows, $either) = rows(chance(0.7) ? 1 + r(20) : 100 + r(600));
    my $csv = chance(0.4);
    my @lines = map {
        my $v = $_;
        $csv
            ? join(',', map { my $x = $_; defined $x ? do { $x =~ s/"/""/g; "\"$x\"" } : '' } @$v) . "\n"
            : join("\t", map { my $x = $_; defined $x ? do { $x =~ s/([\\\n\t\r])/$escape{$1}/g; $x } : '\N' } @$v) . "\n"
    } @$rows;
    my $where = '';
    $where = ' WHERE ' . pick('num_of_orders > 2', "customer_identity NOT LIKE 'bulk%'", 'total_revenue IS NOT NULL') if chance(0.15);
    # empty columns and rows that are cut off
    if (chance(0.03)) { $lines[-1] = "a,b\n"; $either = 1 }
    $self->st('copy from', "COPY {T} ($COLUMNS) FROM STDIN" . ($csv ? ' (FORMAT csv)' : '') . $where, copy_in => \@lines, either => $either);
}

sub op_copy_freeze {
    my $self = shift;
    my ($rows) = rows(50 + r(200), null => 0);
    $self->begin;
    $self->st('truncate', 'TRUNCATE {T}');
    my @lines = map { join("\t", map { my $x = $_; defined $x ? do { $x =~ s/([\\\n\t\r])/$escape{$1}/g; $x } : '\N' } @$_) . "\n" } @$rows;
    $self->st('copy freeze', "COPY {T} ($COLUMNS) FROM STDIN (FREEZE)", copy_in => \@lines);
    $self->end;
}

sub op_copy_out {
    my $self = shift;
    my $f = pick('', ' (FORMAT csv)', ' (FORMAT csv, HEADER, FORCE_QUOTE *)', ' (FORMAT binary)');
    if (chance(0.4)) {
        $self->st('copy to', "COPY {T} TO STDOUT$f", copy_out => 1);
    }
    else {
        my $cols = join ', ', some(6, @COLS);
        $self->st('copy to', pick("COPY {T} ($cols) TO STDOUT$f", "COPY (SELECT $cols FROM {T} x WHERE " . qual('x') . ") TO STDOUT$f"), copy_out => 1);
    }
}

sub op_update_measures {
    my $self = shift;
    $self->st('update measures', 'UPDATE ' . target() . ' x SET ' . set_measures('x') . ' WHERE ' . (chance(0.97) ? dml_qual('x') : 'true') . returning('x'));
}

sub op_update_dimensions {
    my $self = shift;
    my $w = pick('x.segment_instance_id = ' . Gen::q(scalar instance()), dml_qual('x'), dml_qual('x'),
        '(' . $KEY =~ s/(\w+)/x.$1/gr . ') = (' . key_literals(known_key()) . ')', 'x.segment_id = ' . Gen::q(segment()->{id}));
    $self->st('update dimensions', 'UPDATE ' . target() . ' x SET ' . set_dimensions('x') . (chance(0.2) ? ', ' . set_measures('x') : '') . " WHERE $w" . returning('x', 0.25));
}

# Back to what the segment says
sub op_update_normal {
    my $self = shift;
    my ($s, $k, $id) = instance();
    $self->st('update dimensions', 'UPDATE {T} x SET instance_created_date = ' . lit('timestamp', Gen::instance_stamp($s, $k)) . ', schedule = ' . Gen::q($s->{schedule}) . ', segment_by = ' . Gen::q($s->{by})
        . ', segment_created_date = ' . lit('timestamp', $s->{created}) . ', segment_name = ' . Gen::q($s->{name}) . ' WHERE segment_instance_id = ' . Gen::q($id));
}

sub op_update_keys {
    my $self = shift;
    my ($s, $a, $b) = two_instances();
    my ($c, $d) = (customer(), customer());
    my ($ka, $kc) = known_key();
    my $one = 'x.segment_instance_id = ' . Gen::q($ka) . ' AND x.customer_identity = ' . Gen::q($kc);
    my $to = segment();
    my ($qa, $qb, $qc, $qd, $qt) = map { Gen::q($_) } $a, $b, $c, $d, $to->{id};
    my $id = Gen::q($s->{id});
    # updates in which a key moves to where another one moves away: free of
    # duplicates only when looked at after the statement
    my @shift = (
        "SET customer_identity = CASE x.customer_identity WHEN $qc THEN $qd WHEN $qd THEN $qc ELSE x.customer_identity END WHERE x.customer_identity IN ($qc, $qd) AND x.segment_id = $id",
        "SET customer_identity = x.customer_identity || '+' WHERE x.segment_instance_id = $qa AND length(x.customer_identity) < 40",
        "SET customer_identity = 'bulk-' || lpad((substr(x.customer_identity, 6)::int + " . pick(1, -1, 7, 5000) . ")::text, 6, '0') WHERE x.segment_instance_id = $qa AND x.customer_identity ~ '^bulk-[0-9]{6}\$'",
        "SET segment_instance_id = CASE x.segment_instance_id WHEN $qa THEN $qb ELSE $qa END WHERE x.segment_instance_id IN ($qa, $qb)",
    );
    @shift = () if $self->{without}{'key-shift'};
    my $sql = pick(
        @shift,
        "SET customer_identity = $qd WHERE $one",
        "SET customer_identity = x.customer_identity || ' ' WHERE $one",
        "SET customer_identity = $qd WHERE x.customer_identity = $qc AND x.segment_id = $id",
        "SET customer_identity = lower(x.customer_identity) WHERE x.segment_instance_id = $qa",
        "SET customer_identity = btrim(x.customer_identity) WHERE x.segment_id = $id",
        "SET customer_identity = rtrim(x.customer_identity, '+') WHERE x.segment_instance_id = $qa",
        "SET segment_instance_id = $qb WHERE x.segment_instance_id = $qa",
        "SET segment_instance_id = $qb WHERE x.segment_instance_id = $qa AND NOT EXISTS (SELECT FROM {T} y WHERE y.segment_instance_id = $qb AND y.customer_identity = x.customer_identity)",
        "SET segment_instance_id = $qb, customer_identity = $qd, total_revenue = x.total_revenue + 1 WHERE x.segment_instance_id = $qa AND x.customer_identity = $qc",
        "SET segment_instance_id = $qt || substr(x.segment_instance_id, length(x.segment_id) + 1), segment_id = $qt WHERE x.segment_id = $id" . (chance(0.6) ? " AND x.segment_instance_id = $qa" : ''),
        "SET customer_identity = x.customer_identity WHERE " . dml_qual('x'),
        'SET ' . pick(qw(customer_identity segment_instance_id instance_created_date)) . " = NULL WHERE x.segment_instance_id = $qa",
    );
    my $either = $sql =~ / = NULL WHERE/ ? 1 : 0;
    $self->st('update keys', "UPDATE {T} x $sql" . returning('x', 0.25), either => $either);
}

sub op_update_from {
    my $self = shift;
    my ($s, $a, $b) = two_instances();
    my ($qa, $qb) = (Gen::q($a), Gen::q($b));
    my %seen;
    my $v = join ', ', map { my @k = known_key(); my $k = key_literals(@k); $seen{$k}++ ? () : "($k, " . lit('numeric', revenue()) . ')' } 0 .. r(8);
    my $sql = pick(
        "UPDATE {T} x SET total_revenue = y.total_revenue, num_of_orders = y.num_of_orders FROM {T} y WHERE y.customer_identity = x.customer_identity AND y.segment_instance_id = $qa AND x.segment_instance_id = $qb",
        "UPDATE {T} x SET total_revenue = v.rev FROM (VALUES $v) v(i, c, rev) WHERE x.customer_identity = v.c AND x.segment_instance_id = v.i",
        "UPDATE {T} x SET num_of_orders = o.n, total_revenue = o.s FROM (SELECT customer_identity, count(*) AS n, sum(amount) AS s FROM rnd.orders GROUP BY 1) o WHERE o.customer_identity = x.customer_identity AND x.segment_id = " . Gen::q($s->{id}),
        "UPDATE {T} x SET num_of_customers = 1, num_of_orders = 4 FROM rnd.orders o WHERE o.customer_identity = x.customer_identity AND x.segment_instance_id = $qa",
        "UPDATE {T} x SET (num_of_orders, total_revenue) = (SELECT count(*), sum(y.num_of_customers) FROM {T} y WHERE y.customer_identity = x.customer_identity) WHERE x.segment_instance_id = $qa AND hashtext(x.customer_identity) % 5 = 0",
    );
    $self->st('update from', $sql . (chance(0.3) && $sql !~ /rnd.orders o WHERE/ ? ' RETURNING x.*' : ''));
}

sub op_delete {
    my $self = shift;
    my $w = chance(0.75) ? dml_qual('x') . ' AND hashtext(x.customer_identity) % ' . (1 + r(3)) . ' = 0' : dml_qual('x');
    $w = 'x.segment_instance_id = ' . Gen::q(scalar instance()) if chance(0.2);
    $w = key_is('x') if chance(0.25);
    $self->st('delete', 'DELETE FROM ' . target() . " x WHERE $w" . returning('x'));
}

sub op_delete_using {
    my $self = shift;
    my ($s, $a, $b) = two_instances();
    my ($qa, $qb) = (Gen::q($a), Gen::q($b));
    my $sql = pick(
        "DELETE FROM {T} x USING {T} y WHERE y.customer_identity = x.customer_identity AND y.segment_instance_id = $qa AND x.segment_instance_id = $qb",
        "DELETE FROM {T} x USING rnd.orders o WHERE o.customer_identity = x.customer_identity AND x.segment_instance_id = $qa",
        "DELETE FROM {T} x USING (VALUES (" . join('), (', map { key_literals(known_key()) } 0 .. r(6)) . ')) v(i, c) WHERE (x.segment_instance_id, x.customer_identity) = (v.i, v.c)',
    );
    $self->st('delete using', $sql . (chance(0.4) ? ' RETURNING x.*' : ''));
}

sub op_merge {
    my $self = shift;
    return if $self->version < 150000;
    my ($s, $k, $a) = instance();
    my %seen;
    my $either = 0;
    my $source;
    if (chance(0.6)) {
        my @v = map { [ row_values(instance => chance(0.8) ? [ $s, $k, $a ] : [ instance() ]) ] } 0 .. r(15);
        # two rows for one target are a cardinality violation, or a duplicate where both insert
        @v = grep { !$seen{"$_->[6]\x{1f}$_->[0]"}++ || (chance(0.2) && ($either = 1)) } @v;
        if (chance(0.4)) {
            for (map { [ known_key() ] } 0 .. r(8)) {
                my ($i, $c) = @$_;
                my ($ms) = grep { my $g = $_; grep { $_ eq $i } @{ $g->{instances} } } @SEGMENTS;
                next if !$ms || $seen{"$i\x{1f}$c"}++;
                my ($mk) = grep { $ms->{instances}[$_] eq $i } 0 .. $ms->{n} - 1;
                push @v, [ row_values(instance => [ $ms, $mk, $i ], customer => $c) ];
            }
        }
        $source = '(VALUES ' . values_list(\@v) . ') AS s(' . join(', ', @COLS) . ')';
    }
    else {
        my $from = instance($s);
        $source = '(SELECT ' . moved($s, $a) . ' FROM {T} y WHERE y.segment_instance_id = ' . Gen::q($from) . ') AS s(' . join(', ', @COLS) . ')';
    }
    my @when;
    push @when, 'WHEN MATCHED AND ' . pick('s.num_of_orders > 4', 'x.total_revenue < 50', 's.total_revenue IS NULL') . ' THEN ' . pick('DELETE', 'DO NOTHING') if chance(0.4);
    push @when, 'WHEN MATCHED THEN ' . pick('UPDATE SET total_revenue = s.total_revenue, num_of_orders = s.num_of_orders', 'UPDATE SET total_revenue = x.total_revenue + 1', 'UPDATE SET segment_name = s.segment_name', 'DELETE') if chance(0.75);
    push @when, 'WHEN NOT MATCHED BY SOURCE AND x.segment_instance_id = ' . Gen::q($a) . ' THEN ' . pick('DELETE', 'UPDATE SET num_of_orders = 0') if $self->version >= 170000 && chance(0.3);
    push @when, 'WHEN NOT MATCHED AND s.num_of_orders = 3 THEN DO NOTHING' if chance(0.2);
    push @when, 'WHEN NOT MATCHED THEN INSERT VALUES (' . join(', ', map { "s.$_" } @COLS) . ')' if chance(0.75) || !@when;
    my $sql = "MERGE INTO {T} x USING $source ON x.segment_instance_id = s.segment_instance_id AND x.customer_identity = s.customer_identity " . join(' ', @when);
    $sql .= ' RETURNING merge_action(), x.*' if $self->version >= 170000 && chance(0.3);
    $self->st('merge', $sql, either => $either);
}

sub op_cte {
    my $self = shift;
    my ($s, $a, $b) = two_instances();
    my ($qa, $qb) = (Gen::q($a), Gen::q($b));
    my ($rows, $either) = rows(1 + r(5), null => 0);
    my $sql = pick(
        "WITH d AS (DELETE FROM {T} y WHERE y.segment_instance_id = $qa RETURNING y.*) INSERT INTO {T} AS x SELECT " . moved($s, $b) . ' FROM d y' . returning('x', 0.3),
        "WITH d AS (DELETE FROM {T} y WHERE y.segment_instance_id = $qa RETURNING y.*) INSERT INTO {T} AS x SELECT " . join(', ', map { $_ eq 'total_revenue' ? 'y.total_revenue + 1' : "y.$_" } @COLS) . ' FROM d y' . returning('x', 0.3),
        "WITH u AS (UPDATE {T} x SET " . set_measures('x') . ' WHERE ' . dml_qual('x') . ' RETURNING x.*) SELECT ' . join(', ', aggregates(4)) . ' FROM u x',
        "WITH u AS (UPDATE {T} x SET num_of_orders = 5 WHERE x.segment_instance_id = $qa RETURNING x.customer_identity) SELECT count(*), sum(y.num_of_orders), (SELECT count(*) FROM u) FROM {T} y WHERE y.segment_instance_id = $qa",
        'WITH i AS (INSERT INTO {T} AS x VALUES ' . values_list($rows) . ' RETURNING x.*) SELECT i.customer_identity, (SELECT count(*) FROM {T}) FROM i',
        'WITH i AS (INSERT INTO {T} AS x VALUES ' . values_list($rows) . " RETURNING x.*), d AS (DELETE FROM {T} y WHERE y.customer_identity = " . Gen::q(customer()) . ' AND y.segment_instance_id NOT IN (SELECT segment_instance_id FROM i) RETURNING y.*) SELECT (SELECT count(*) FROM i), (SELECT count(*) FROM d), (SELECT sum(total_revenue) FROM d)',
        "WITH d AS (DELETE FROM {T} x WHERE " . dml_qual('x') . " RETURNING x.*) SELECT d.segment_id, count(*), sum(d.total_revenue) FROM d GROUP BY 1",
    );
    $self->st('data-modifying CTE', $sql);
}

sub op_multi {
    my $self = shift;
    my ($rows, $either) = rows(1);
    $self->st('several in one text', join '; ', 'UPDATE {T} x SET ' . set_measures('x') . ' WHERE ' . dml_qual('x'),
        (chance(0.3) ? 'TRUNCATE {T}' : ()), 'INSERT INTO {T} VALUES ' . values_list($rows), 'DELETE FROM {T} x WHERE ' . dml_qual('x'));
}

sub op_do {
    my $self = shift;
    my ($s, $k, $id) = instance();
    my ($rows) = rows(2 + r(8), null => 0.2);
    my @c = some(12, @CUSTOMERS);
    my $array = 'ARRAY[' . join(', ', map { Gen::q($_) } @c) . ']';
    my $one = 'INSERT INTO {T} VALUES (' . row_literals(row_values(instance => [ $s, $k, $id ], customer => 'loop')) . ')';
    $one =~ s/'loop'::text/c/;
    my $w = r(6);
    my $body;
    if ($w == 0) {
        $body = "FOREACH c IN ARRAY $array LOOP BEGIN $one; n := n + 1; EXCEPTION WHEN unique_violation THEN m := m + 1; END; END LOOP;";
    }
    elsif ($w == 1) {
        $body = join "\n", map { "BEGIN INSERT INTO {T} VALUES (" . row_literals(@$_) . "); n := n + 1; EXCEPTION WHEN unique_violation THEN m := m + 1; WHEN not_null_violation THEN m := m + 1000; END;" } @$rows;
    }
    elsif ($w == 2) {
        $body = "BEGIN FOREACH c IN ARRAY $array LOOP $one; n := n + 1; END LOOP; " . pick("RAISE EXCEPTION 'undo'", 'PERFORM 1 / (n - n)', 'NULL') . "; EXCEPTION WHEN unique_violation OR raise_exception OR division_by_zero THEN m := n + 1; END;";
    }
    elsif ($w == 3) {
        $body = "FOR rec IN SELECT * FROM {T} x WHERE " . dml_qual('x') . " ORDER BY $KEY LIMIT " . (1 + r(20)) . " LOOP UPDATE {T} SET total_revenue = coalesce(total_revenue, 0) + 1, num_of_orders = n WHERE segment_instance_id = rec.segment_instance_id AND customer_identity = rec.customer_identity; GET DIAGNOSTICS k = ROW_COUNT; n := n + k; END LOOP;";
    }
    elsif ($w == 4) {
        $body = "FOR rec IN SELECT * FROM {T} x WHERE " . dml_qual('x') . " ORDER BY $KEY LIMIT " . (1 + r(20)) . " LOOP BEGIN DELETE FROM {T} WHERE segment_instance_id = rec.segment_instance_id AND customer_identity = rec.customer_identity; rec.total_revenue := n; rec.customer_identity := rec.customer_identity || '-'; INSERT INTO {T} SELECT rec.*; n := n + 1; IF n % 3 = 0 THEN RAISE EXCEPTION 'undo'; END IF; EXCEPTION WHEN unique_violation OR raise_exception THEN m := m + 1; END; END LOOP;";
    }
    else {
        $body = "FOREACH c IN ARRAY $array LOOP IF EXISTS (SELECT FROM {T} x WHERE x.segment_instance_id = " . Gen::q($id) . " AND x.customer_identity = c) THEN UPDATE {T} SET num_of_orders = n WHERE segment_instance_id = " . Gen::q($id) . " AND customer_identity = c; m := m + 1; ELSE $one; n := n + 1; END IF; END LOOP; SELECT count(*) + m INTO m FROM {T};";
    }
    $self->st('do block', "DO \$do\$ DECLARE c text; rec {T}%ROWTYPE; n bigint := 0; m bigint := 0; k bigint; BEGIN $body PERFORM set_config('rnd.result', n || ' ' || m, false); END \$do\$");
    $self->st('do block result', "SELECT current_setting('rnd.result', true)") unless $self->failed;
}

sub op_truncate {
    my $self = shift;
    return if chance(0.5);
    $self->st('truncate', 'TRUNCATE {T}');
}

# ---------------------------------------------------------------------- reads

sub op_select {
    my $self = shift;
    my ($sql, $ordered) = select_sql();
    $self->st('select', $sql, ordered => $ordered);
}

sub op_explain {
    my $self = shift;
    my ($sql) = select_sql();
    $self->st('explain', 'EXPLAIN ' . pick('', '(ANALYZE, COSTS OFF, TIMING OFF) ', '(ANALYZE, VERBOSE, BUFFERS) ') . $sql, state_only => 1);
}

sub op_bind {
    my $self = shift;
    my @sets;
    my $n = 1 + r(8);
    my $w = r(8);
    my $sql =
          $w == 0 ? 'SELECT * FROM {T} WHERE segment_instance_id = $1'
        : $w == 1 ? 'SELECT segment_id, count(*), sum(total_revenue) FROM {T} WHERE customer_identity = $1 GROUP BY 1'
        : $w == 2 ? 'SELECT count(*), count(DISTINCT customer_identity) FROM {T} WHERE segment_id = $1 AND instance_created_date >= $2'
        : $w == 3 ? 'UPDATE {T} SET num_of_orders = $3 WHERE segment_instance_id = $1 AND customer_identity = $2 RETURNING *'
        : $w == 4 ? 'DELETE FROM {T} WHERE segment_instance_id = $1 AND customer_identity = $2 RETURNING *'
        : $w == 5 ? 'SELECT * FROM {T} WHERE ($1::text IS NULL OR segment_id = $1) AND num_of_orders > $2'
        : "INSERT INTO {T} ($COLUMNS) VALUES (" . join(', ', map { "\$$_" } 1 .. 11) . ')';
    for (1 .. $n) {
        push @sets,
              $w == 0 ? [ scalar instance() ]
            : $w == 1 ? [ customer() ]
            : $w == 2 ? [ segment()->{id}, stamp() ]
            : $w == 3 ? [ known_key(), orders() ]
            : $w == 4 ? [ known_key() ]
            : $w == 5 ? [ chance(0.3) ? undef : segment()->{id}, r(12) ]
            :           [ row_values() ];
    }
    $self->st('bound parameters', $sql, bind => \@sets);
}

# ---------------------------------------------------- prepared statements

sub op_prepare {
    my $self = shift;
    return $self->op_execute if keys %{ $self->{prepared} } >= 6;
    my $name = 'p' . $self->serial;
    my $i = sub { lit('text', scalar instance()) };
    my $c = sub { lit('text', customer()) };
    my $s = sub { lit('text', segment()->{id}) };
    my $k = sub { join ', ', map { lit('text', $_) } known_key() };
    my $array = sub { 'ARRAY[' . join(', ', map { Gen::q(scalar instance()) } 0 .. r(4)) . ']::text[]' };
    my @kinds = (
        [ '(text) AS SELECT * FROM {T} x WHERE x.segment_instance_id = $1', $i ],
        [ '(text) AS SELECT x.segment_instance_id, x.total_revenue FROM {T} x WHERE x.customer_identity = $1', $c ],
        [ '(text, timestamp) AS SELECT x.segment_instance_id, ' . join(', ', aggregates(4)) . ' FROM {T} x WHERE x.segment_id = $1 AND x.instance_created_date >= $2 GROUP BY 1', $s, sub { lit('timestamp', stamp()) } ],
        [ '(text[]) AS SELECT ' . join(', ', aggregates(4)) . ' FROM {T} x WHERE x.segment_instance_id = ANY ($1)', $array ],
        [ '(text, text) AS SELECT a.customer_identity FROM {T} a JOIN {T} b USING (customer_identity) WHERE a.segment_instance_id = $1 AND b.segment_instance_id = $2', $i, $i ],
        [ '(text, text, bigint) AS UPDATE {T} x SET num_of_orders = $3 WHERE x.segment_instance_id = $1 AND x.customer_identity = $2 RETURNING x.*', $k, sub { lit('bigint', orders()) } ],
        [ '(text, numeric) AS UPDATE {T} x SET total_revenue = x.total_revenue + $2 WHERE x.customer_identity = $1', $c, sub { lit('numeric', revenue()) } ],
        [ '(text, text) AS DELETE FROM {T} x WHERE x.segment_instance_id = $1 AND x.customer_identity = $2 RETURNING x.*', $k ],
        [ '(' . join(', ', map { $TYPE{$_} } @COLS) . ") AS INSERT INTO {T} ($COLUMNS) VALUES (" . join(', ', map { "\$$_" } 1 .. 11) . ') RETURNING *', undef ],
        [ '(text, numeric) AS SELECT count(*) FROM {T} x WHERE x.segment_id = $1 AND x.total_revenue > $2', $s, sub { lit('numeric', revenue()) } ],
    );
    my ($text, @gen) = @{ pick(@kinds) };
    $self->{prepared}{$name} = \@gen if $self->st('prepare', "PREPARE $name$text") eq '00000';
}

sub op_execute {
    my $self = shift;
    my @names = sort keys %{ $self->{prepared} };
    return $self->op_prepare unless @names;
    my $name = pick(@names);
    for (0 .. r(7)) {
        my @gen = @{ $self->{prepared}{$name} };
        my $args = defined $gen[0] ? join(', ', map { $_->() } @gen) : row_literals(row_values());
        $self->st('execute', "EXECUTE $name($args)");
        last if $self->failed;
    }
    if (chance(0.12)) {
        delete $self->{prepared}{$name} if $self->st('deallocate', "DEALLOCATE $name") eq '00000';
    }
}

# ------------------------------------------------------------- transactions

sub begin {
    my $self = shift;
    my $level = pick('', '', ' ISOLATION LEVEL READ COMMITTED', ' ISOLATION LEVEL REPEATABLE READ', ' ISOLATION LEVEL SERIALIZABLE');
    $level .= ' READ ONLY' if chance(0.02);
    $self->{tx} = { savepoints => [], cursors => {}, read_only => $level =~ /READ ONLY/ ? 1 : 0, failed => 0, left => 2 + r(25) };
    $self->st('begin', "BEGIN$level");
}

sub end {
    my $self = shift;
    my $sql = chance(0.65) ? 'COMMIT' : 'ROLLBACK';
    $self->st(lc $sql, $sql);
    $self->{tx} = undef;
    $self->check if chance(0.5);
}

sub op_savepoint {
    my $self = shift;
    my $sp = $self->{tx}{savepoints};
    my $name = 's' . $self->serial;
    push @$sp, $name if $self->st('savepoint', "SAVEPOINT $name") eq '00000';
}

sub op_rollback_to {
    my $self = shift;
    my $tx = $self->{tx};
    my $sp = $tx->{savepoints};
    return $self->op_savepoint unless @$sp;
    my $i = chance(0.7) ? $#$sp : r(scalar @$sp);
    if ($self->st('rollback to', "ROLLBACK TO SAVEPOINT $sp->[$i]") eq '00000') {
        $tx->{failed} = 0;
        $#$sp = $i;
        for (sort keys %{ $tx->{cursors} }) {
            delete $tx->{cursors}{$_} if $tx->{cursors}{$_}{depth} > $i;
        }
        $self->check if chance(0.4);
    }
}

sub op_release {
    my $self = shift;
    my $tx = $self->{tx};
    my $sp = $tx->{savepoints};
    return $self->op_savepoint unless @$sp;
    my $i = r(scalar @$sp);
    if ($self->st('release', "RELEASE SAVEPOINT $sp->[$i]") eq '00000') {
        $#$sp = $i - 1;
        for (values %{ $tx->{cursors} }) {
            $_->{depth} = $i if $_->{depth} > $i;
        }
    }
}

sub op_cursor {
    my $self = shift;
    my $tx = $self->{tx};
    my $c = 'c' . $self->serial;
    my $scroll = chance(0.6);
    my $sql;
    if ($scroll) {
        $sql = "DECLARE $c SCROLL CURSOR FOR SELECT x.* FROM {T} x WHERE " . dml_qual('x') . ' ORDER BY ' . pick('x.segment_instance_id, x.customer_identity', 'x.customer_identity DESC, x.segment_instance_id', 'x.total_revenue, x.segment_instance_id, x.customer_identity');
    }
    else {
        my ($s) = select_sql();
        $s =~ s/ FOR (UPDATE|NO KEY UPDATE|SHARE|KEY SHARE).*$//;
        $sql = "DECLARE $c NO SCROLL CURSOR FOR $s";
    }
    $tx->{cursors}{$c} = { depth => scalar @{ $tx->{savepoints} }, scroll => $scroll } if $self->st('declare cursor', $sql) eq '00000';
}

sub op_fetch {
    my $self = shift;
    my $tx = $self->{tx};
    my @c = sort keys %{ $tx->{cursors} };
    return $self->op_cursor unless @c;
    my $c = pick(@c);
    if ($tx->{cursors}{$c}{scroll}) {
        for (0 .. r(5)) {
            $self->st('fetch', pick('FETCH', 'FETCH', 'FETCH', 'MOVE') . ' ' . pick('NEXT', 'PRIOR', 'FIRST', 'LAST', 'ALL', 'BACKWARD ALL', r(10), 'BACKWARD ' . r(10), 'ABSOLUTE ' . (r(20) - 5), 'RELATIVE ' . (r(10) - 5)) . " FROM $c", ordered => 1);
            last if $tx->{failed};
        }
        return if chance(0.8);
    }
    else {
        $self->st('fetch', "FETCH ALL FROM $c");
    }
    return if $tx->{failed};
    delete $tx->{cursors}{$c} if $self->st('close', "CLOSE $c") eq '00000';
}

sub op_current_of {
    my $self = shift;
    my $c = 'u' . $self->serial;
    my $one = chance(0.3);
    my $w = $one ? '(' . $KEY =~ s/(\w+)/x.$1/gr . ') = (' . key_literals(known_key()) . ')' : dml_qual('x');
    $self->st('declare cursor', "DECLARE $c CURSOR FOR SELECT x.* FROM {T} x WHERE $w" . ($one && chance(0.5) ? '' : ' ORDER BY x.segment_instance_id, x.customer_identity FOR UPDATE'));
    for (0 .. r(5)) {
        last if $self->failed;
        $self->st('fetch', 'FETCH ' . pick(1, 1, 1, 2, 3) . " FROM $c", ordered => 1);
        last if $self->failed || !$self->{pair}{last_rows};
        for (0 .. (chance(0.15) ? 1 : 0)) {
            my $sql = pick('UPDATE {T} x SET ' . set_measures('x'), 'UPDATE {T} x SET ' . set_measures('x'), 'UPDATE {T} x SET ' . set_dimensions('x'), 'DELETE FROM {T} x', "UPDATE {T} x SET customer_identity = x.customer_identity || '~'");
            $self->st('where current of', "$sql WHERE CURRENT OF $c" . returning('x'));
            last if $self->failed;
            # the cursor stands on the row as it was; heap finds the row that it has become
            last if $self->{without}{'current-of-moved'} && $sql =~ /SET customer_identity/;
        }
    }
    $self->st('close', "CLOSE $c") unless $self->failed;
}

sub op_hold {
    my $self = shift;
    my $c = 'h' . $self->serial;
    my ($s) = select_sql();
    $s =~ s/ FOR (UPDATE|NO KEY UPDATE|SHARE|KEY SHARE).*$//;
    $self->begin;
    $self->op_update_measures;
    $self->st('declare cursor', "DECLARE $c CURSOR WITH HOLD FOR $s") unless $self->failed;
    my $ok = !$self->failed;
    $self->st('commit', 'COMMIT');
    $self->{tx} = undef;
    $self->op_delete;
    if ($ok) {
        $self->st('fetch', "FETCH ALL FROM $c");
        $self->st('close', "CLOSE $c");
    }
}

# ---------------------------------------------------------- outside of them

sub op_maintain {
    my $self = shift;
    $self->st('maintenance', pick('VACUUM {T}', 'VACUUM {T}', 'VACUUM (ANALYZE) {T}', 'ANALYZE {T}', 'ANALYZE {T}', 'VACUUM (FREEZE) {T}', 'VACUUM FULL {T}', 'VACUUM (FULL, ANALYZE) {T}', 'ANALYZE {T} (customer_identity, total_revenue)'));
    $self->check;
}

sub op_access_method {
    my $self = shift;
    return if $self->version < 150000;
    my $p = $self->{pair};
    $p->on_t('ALTER TABLE rnd.t SET ACCESS METHOD heap');
    {
        local $self->{verify} = 0;
        $self->op_select for 0 .. 1;
        $self->check;
    }
    $p->on_t("ALTER TABLE rnd.t SET ACCESS METHOD $p->{am}");
    $self->check;
    $self->op_select for 0 .. 1;
}

sub op_logged {
    my $self = shift;
    $self->st('set unlogged', 'ALTER TABLE {T} SET UNLOGGED');
    $self->check;
    $self->op_update_measures;
    $self->op_insert;
    $self->st('set logged', 'ALTER TABLE {T} SET LOGGED');
    $self->check;
}

sub op_clone {
    my $self = shift;
    $self->begin if my $own = $self->idle && chance(0.5);
    $self->st('clone', 'CREATE ' . pick('', 'UNLOGGED ') . 'TABLE {C} (LIKE {T}) {U}');
    $self->st('clone', 'INSERT INTO {C} SELECT * FROM {T} x' . (chance(0.4) ? ' WHERE ' . qual('x') : '')) unless $self->failed;
    $self->st('clone', 'DELETE FROM {C} x WHERE ' . dml_qual('x')) if !$self->failed && chance(0.5);
    $self->st('clone', 'TRUNCATE {C}') if !$self->failed && chance(0.1);
    if (!$self->failed) {
        $self->st('clone', 'SELECT * FROM {C}');
        $self->st('clone', 'SELECT x.segment_id, count(*), count(DISTINCT y.segment_instance_id) FROM {T} x JOIN {C} y USING (customer_identity, segment_id) GROUP BY 1');
        $self->st('clone', 'DROP TABLE {C}');
    }
    $self->end if $own;
}

sub op_triggers {
    my $self = shift;
    my $on = $self->{triggers};
    my @kinds = qw(row when statement deferred before);
    if (%$on) {
        $self->st('trigger log', 'SELECT * FROM {L}');
        $self->st('trigger log', 'TRUNCATE {L}');
        for (sort keys %$on) {
            $self->st('drop trigger', "DROP TRIGGER $_ ON {T}");
        }
        %$on = ();
        return;
    }
    for my $k (some(2, @kinds)) {
        my %sql = (
            row => 'CREATE TRIGGER {N} AFTER INSERT OR UPDATE OR DELETE ON {T} FOR EACH ROW EXECUTE FUNCTION rnd.log_row()',
            when => 'CREATE TRIGGER {N} AFTER UPDATE ON {T} FOR EACH ROW WHEN (OLD.total_revenue IS DISTINCT FROM NEW.total_revenue) EXECUTE FUNCTION rnd.log_row()',
            deferred => 'CREATE CONSTRAINT TRIGGER {N} AFTER INSERT OR UPDATE OR DELETE ON {T} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION rnd.log_row()',
            before => 'CREATE TRIGGER {N} BEFORE INSERT OR UPDATE OR DELETE ON {T} FOR EACH ROW EXECUTE FUNCTION rnd.before_row()',
        );
        my @t = $k eq 'statement'
            ? ([ tr_ins => 'CREATE TRIGGER {N} AFTER INSERT ON {T} REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION rnd.log_new()' ],
               [ tr_upd => 'CREATE TRIGGER {N} AFTER UPDATE ON {T} REFERENCING OLD TABLE AS o NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION rnd.log_both()' ],
               [ tr_del => 'CREATE TRIGGER {N} AFTER DELETE ON {T} REFERENCING OLD TABLE AS o FOR EACH STATEMENT EXECUTE FUNCTION rnd.log_old()' ])
            : ([ "tr_$k" => $sql{$k} ]);
        for (@t) {
            my ($n, $sql) = @$_;
            $sql =~ s/\{N\}/$n/;
            $self->st('create trigger', $sql);
            $on->{$n} = 1;
        }
    }
}

# A segment_instance_id belongs to one segment_id: a rule of the access method alone
sub op_claim {
    my $self = shift;
    my $p = $self->{pair};
    return if $p->{am} eq 'heap';
    my $s = $SEGMENTS[r(6)];
    my $other = $SEGMENTS[ ($s->{no} + 1) % 6 ];
    my $x = $p->exec_text($p->t, 'SELECT min(segment_instance_id) FROM rnd.t WHERE segment_id = ' . Gen::q($s->{id}));
    my $i = $x->{data} && $x->{data}[0];
    return if !defined $i || $i eq '(null)';
    my $sql = chance(0.5)
        ? "INSERT INTO rnd.t (customer_identity, instance_created_date, segment_id, segment_instance_id) VALUES ('claimant', '2025-06-01', " . Gen::q($other->{id}) . ', ' . Gen::q($i) . ')'
        : 'UPDATE rnd.t SET segment_id = ' . Gen::q($other->{id}) . ' WHERE (segment_instance_id, customer_identity) = (SELECT segment_instance_id, min(customer_identity) FROM rnd.t WHERE segment_instance_id = ' . Gen::q($i) . ' GROUP BY 1 HAVING count(*) > 1)';
    my $may = $sql =~ /^UPDATE/;
    $p->{count}{'claim (t only)'}++;
    my $o = $p->exec_text($p->t, $sql);
    $p->difference('a segment_instance_id got a second segment_id', $sql, $o, { state => '23514' })
        unless $o->{state} eq '23514' || ($may && $o->{state} eq '00000' && $o->{rows} == 0);
}

# What the access method alone has, in the middle of everything: a rewrite of the table, which changes no row, ...
sub op_optimize {
    my $self = shift;
    my $p = $self->{pair};
    my $tx = $self->{tx};
    return if $p->{am} eq 'heap' || %{ $self->{triggers} } || ($tx && (%{ $tx->{cursors} } || $tx->{read_only}));
    $p->{count}{'optimize (t only)'}++;
    $p->on_t("SELECT customer_segmentation.optimize('rnd.t')");
    $self->check;
}

# ... a customer that goes for good, which is a DELETE on the other side, ...
sub op_erase {
    my $self = shift;
    my $p = $self->{pair};
    my $tx = $self->{tx};
    return if $p->{am} eq 'heap' || %{ $self->{triggers} } || ($tx && (%{ $tx->{cursors} } || $tx->{read_only}));
    my $c = Gen::q(scalar customer());
    $p->{count}{'erase_customer'}++;
    my $gone = $p->on_t("SELECT rows_removed FROM customer_segmentation.erase_customer($c, 'rnd.t')");
    my $h = $p->exec_text($p->h, "DELETE FROM rnd.h WHERE customer_identity = $c");
    $p->difference('erase_customer() counts other rows', "erase_customer($c)", { state => '00000', data => $gone, rows => $gone->[0] }, $h) if $gone->[0] != $h->{rows};
    $self->check;
}

# ... and instances that go out and into another table.
sub op_exchange {
    my $self = shift;
    my $p = $self->{pair};
    return if $p->{am} eq 'heap' || ($self->{tx} && $self->{tx}{read_only});
    $p->{count}{'export and import (t only)'}++;
    $p->on_t("CREATE TABLE rnd.t_exchange (LIKE rnd.t) USING $p->{am}");
    $p->on_t("SELECT customer_segmentation.import_instances(e, 'rnd.t_exchange') FROM customer_segmentation.export_instances('rnd.t') e");
    my $rows = 'SELECT x::text, x.total_revenue::text FROM rnd';
    my $differ = $p->on_t("($rows.t x EXCEPT ALL $rows.t_exchange x) UNION ALL ($rows.t_exchange x EXCEPT ALL $rows.t x)");
    $p->difference('what was exported is not what was imported', 'import_instances()', { state => '00000', data => $differ, rows => scalar @$differ }, { state => '00000', data => [], rows => 0 }) if @$differ;
    $p->on_t('DROP TABLE rnd.t_exchange');
}

sub op_reconnect {
    my $self = shift;
    $self->{pair}{count}{reconnect}++;
    $self->{pair}->connect;
    $self->{prepared} = {};
    $self->check;
}

sub op_settings {
    my $self = shift;
    return if $self->failed;
    my $p = $self->{pair};
    my @own = @{ $self->{own_settings} };
    my @planner = @{ $self->{planner} };
    my ($w, $a, $b) = (rand, rand, rand);
    my $sql;
    if ($w < 0.35 && @own) {
        $sql = "SET $own[ int($a * @own) ] = " . ($b < 0.6 ? 'off' : 'on');
    }
    elsif ($w < 0.5 && @own) {
        # every path off, or on again
        $p->on_t($b < 0.4 ? "SET $_ = off" : "RESET $_") for @own;
        return;
    }
    elsif ($w < 0.6) {
        return unless defined $self->{write_buffer_min};
        $sql = $b < 0.6 ? "SET customer_segmentation.write_buffer = $self->{write_buffer_min}" : 'RESET customer_segmentation.write_buffer';
    }
    elsif ($w < 0.8) {
        $sql = "SET $planner[ int($a * @planner) ] = " . ($b < 0.5 ? 'off' : 'on');
    }
    elsif ($w < 0.88) {
        $p->on_t("RESET $_") for @planner, qw(work_mem parallel_setup_cost parallel_tuple_cost min_parallel_table_scan_size plan_cache_mode), $self->{force_parallel};
        return;
    }
    elsif ($w < 0.94) {
        $p->on_t($_) for 'SET parallel_setup_cost = 0', 'SET parallel_tuple_cost = 0', 'SET min_parallel_table_scan_size = 0';
        return;
    }
    else {
        $sql = ('SET work_mem = 64', 'SET work_mem = 65536', 'SET plan_cache_mode = force_generic_plan', 'SET plan_cache_mode = force_custom_plan', 'RESET plan_cache_mode', "SET $self->{force_parallel} = on", "RESET $self->{force_parallel}")[ int($a * 7) ];
    }
    $p->on_t($sql);
}

# ------------------------------------------------------------------ contents

my $digest = 'SELECT count(*), sum(hashtextextended(x::text, 0)::numeric) FROM {T} x';

# Both tables hold the same, as far as this session sees
sub check {
    my ($self, $full) = @_;
    return if $self->failed;
    my $p = $self->{pair};
    my @d = map { $p->exec_text($p->{dbh}[$_], $p->text_for($_, $digest)) } 0, 1;
    my $same = $d[0]{data} && $d[1]{data} && $d[0]{data}[0] eq $d[1]{data}[0];
    $p->{count}{'check of contents'}++;
    if ($full || !$same) {
        $self->st('check row by row', 'SELECT * FROM {T}');
        $self->st('check row by row', $digest) unless $same;
        $p->difference('the digest of the contents differed, and on a second look did not', $digest, @d) unless $same;
    }
    ($self->{rows}) = $d[1]{data}[0] =~ /^(\d+)/;
    if ($full || chance(0.25)) {
        my $n = $p->{number};
        my $x = $p->exec_text($p->h, "SELECT segment_instance_id, customer_identity FROM rnd.h ORDER BY hashtext(customer_identity || segment_instance_id || $n), 1, 2 LIMIT 25");
        @KNOWN = map { [ split /\x{1f}/, $_, -1 ] } @{ $x->{data} || [] };
    }
    if ($self->idle && $self->{verify} && ($full || chance(0.3))) {
        my $data = $p->on_t("SELECT v::text FROM customer_segmentation.verify('rnd.t') v");
        $p->{count}{verify}++;
        $p->difference('verify() has found problems', "SELECT * FROM customer_segmentation.verify('rnd.t')", { state => '00000', data => $data, rows => scalar @$data }, { state => '00000', data => [], rows => 0 }) if @$data;
    }
}

# Keeps the tables neither empty nor big
sub bound {
    my $self = shift;
    return unless $self->idle;
    my $n = $self->{rows} // 0;
    if ($n > 20000) {
        if (chance(0.3)) { $self->st('truncate', 'TRUNCATE {T}') }
        else {
            $self->st('delete much', 'DELETE FROM {T} x WHERE ' . pick("x.customer_identity LIKE 'bulk-%'", 'abs(hashtext(x.customer_identity)::bigint) % 4 > 0', "abs(hashtext(x.segment_instance_id)::bigint) % 4 > 0"));
            $self->st('maintenance', 'VACUUM {T}') if chance(0.5);
        }
        $self->check;
        $self->st('truncate', 'TRUNCATE {T}') if $self->{rows} > 20000;
    }
    elsif ($n < 400) {
        $self->op_refill($_) for grep { chance(0.6) } 0 .. 7;
    }
}

# ------------------------------------------------------------------ the wheel

my @any = (
    [ 17, 'insert' ], [ 3, 'insert_many' ], [ 2, 'insert_bulk' ], [ 2, 'refill' ], [ 5, 'insert_self' ], [ 2, 'replace' ], [ 5, 'copy_in' ], [ 2, 'copy_out' ],
    [ 12, 'update_measures' ], [ 6, 'update_dimensions' ], [ 2, 'update_normal' ], [ 7, 'update_keys' ], [ 5, 'update_from' ], [ 9, 'delete' ], [ 3, 'delete_using' ], [ 5, 'merge' ],
    [ 5, 'cte' ], [ 4, 'do' ], [ 0.4, 'truncate' ], [ 40, 'select' ], [ 2, 'explain' ], [ 3, 'bind' ], [ 2, 'prepare' ], [ 4, 'execute' ], [ 8, 'settings' ], [ 0.5, 'clone' ],
    [ 1.5, 'optimize' ], [ 1.5, 'erase' ], [ 0.3, 'exchange' ],
);
my @idle = ([ 9, 'begin_tx' ], [ 2, 'maintain' ], [ 0.4, 'access_method' ], [ 0.3, 'logged' ], [ 1, 'triggers' ], [ 1, 'claim' ], [ 0.6, 'reconnect' ], [ 1, 'multi' ], [ 0.6, 'hold' ], [ 0.2, 'copy_freeze' ], [ 0.08, 'wide' ]);
my @in_tx = ([ 9, 'savepoint' ], [ 7, 'rollback_to' ], [ 3, 'release' ], [ 3, 'cursor' ], [ 6, 'fetch' ], [ 4, 'current_of' ]);

sub spin {
    my @wheel = @_;
    my $sum = 0;
    $sum += $_->[0] for @wheel;
    my $x = rand $sum;
    for (@wheel) {
        $x -= $_->[0];
        return $_->[1] if $x < 0;
    }
    return $wheel[-1][1];
}

sub op_begin_tx { return $_[0]->begin }

my %writes = map { $_ => 1 } qw(insert insert_many insert_bulk refill insert_self replace copy_in update_measures update_dimensions update_keys update_from delete delete_using merge cte do current_of multi);

sub step {
    my $self = shift;
    my $op;
    if ($self->failed) {
        # what fails in a failed transaction fails on both sides
        my $x = rand;
        if    ($x < 0.5 && @{ $self->{tx}{savepoints} }) { $self->op_rollback_to }
        elsif ($x < 0.7) { my $m = 'op_' . pick(qw(insert select update_measures copy_in savepoint fetch)); $self->$m }
        else             { $self->end }
        return;
    }
    if ($self->{tx}) {
        return $self->end if $self->{tx}{left}-- <= 0;
        $op = spin(@any, @in_tx);
    }
    else {
        $op = spin(@any, @idle);
    }
    return if $self->{without}{$op};
    my $m = "op_$op";
    $self->$m;
    $self->check if $writes{$op} && chance(0.2);
}

1;
