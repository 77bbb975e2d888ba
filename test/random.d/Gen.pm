package Gen;

# Values, qualifications and queries for the random-statement tester.
# Everything random comes from rand(), which the tester seeds.
#
# Texts name the table under test as {T}. What is generated must have one
# right answer whatever the order of rows and the plan are:
#  - a qualification never raises an error (the planner may reorder them);
#  - no LIMIT, window frame or ordered aggregate without a total order;
#  - no minimum, maximum, DISTINCT or group of a numeric without trim_scale()
#    or a cast to text, since 1.1 = 1.10.

use strict;
use warnings;
use utf8;
use Exporter 'import';

our @EXPORT = qw(r pick chance some q lit row_values row_literals instance
    segment customer revenue orders stamp schedule segment_by segment_name
    qual dml_qual atom select_sql set_measures set_dimensions key_literals known_key key_is @KNOWN
    instance_sql @COLS %TYPE @SEGMENTS @CUSTOMERS $COLUMNS $KEY aggregates);

our @COLS = qw(customer_identity instance_created_date schedule segment_by
    segment_created_date segment_id segment_instance_id segment_name
    num_of_customers num_of_orders total_revenue);
our $COLUMNS = join ', ', @COLS;
our $KEY = 'segment_instance_id, customer_identity';
our %TYPE = ((map { $_ => 'text' } @COLS),
    instance_created_date => 'timestamp', segment_created_date => 'timestamp',
    num_of_customers => 'bigint', num_of_orders => 'bigint',
    total_revenue => 'numeric');

our $pg_version = 150000;

sub r { return int rand $_[0] }
sub pick { return $_[r(scalar @_)] }
sub chance { return rand() < $_[0] }

# some($n, @list): up to $n different elements of the list, at least one
sub some {
    my ($n, @l) = @_;
    my @out;
    for (1 .. 1 + r($n)) {
        last unless @l;
        push @out, splice @l, r(scalar @l), 1;
    }
    return @out;
}

sub q {
    my $s = shift;
    return 'NULL' unless defined $s;
    $s =~ s/'/''/g;
    return "'$s'";
}

sub lit {
    my ($col, $v) = @_;
    return main_q($v) . '::' . ($TYPE{$col} // $col);
}
sub main_q { return Gen::q($_[0]) }

# ---------------------------------------------------------------- the pools

our @SEGMENTS = (
    { id => '64b8f144256b30501b2ea1e0', n => 70, weight => 6 },
    { id => '64b8f144256b30501b2ea1e1', n => 66, weight => 4 },
    { id => '64b8f144256b30501b2ea1e2', n => 20, weight => 3 },
    { id => '64b8f144256b30501b2ea1e3', n => 7,  weight => 3 },
    { id => '64b8f144256b30501b2ea1e4', n => 2,  weight => 2 },
    { id => '64b8f144256b30501b2ea1e5', n => 1,  weight => 1 },
    { id => '',                         n => 3,  weight => 1 },
    { id => "s\x{e9}gment \x{2030}'s",  n => 4,  weight => 1 },
);
my @seg_wheel = map { my $i = $_; ($i) x $SEGMENTS[$i]{weight} } 0 .. $#SEGMENTS;

# first day of all segments; instance k is k days later
sub day {
    my $k = shift;
    my @len = (30, 31, 31, 30);    # June, July, August, September 2025
    my $m = 6;
    for my $l (@len) {
        last if $k < $l;
        $k -= $l;
        $m++;
    }
    return (2025, $m, $k + 1);
}

my @names = ('At least 3 orders', 'VIP', '', "quoted 'name' \"x\"", "tab\there\nand line",
    "back\\slash \\N \\.", "\x{421}\x{435}\x{433}\x{43c}\x{435}\x{43d}\x{442} \x{1F600}",, 'Last 30 days');
my $long_name = 'long name ' x 500;
my @schedules = ('once_a_day', 'once_every_other_day', 'once_a_week', 'manual', '', 'every_hour');
my @bys = ('customer_id', 'email', '');

for my $i (0 .. $#SEGMENTS) {
    my $s = $SEGMENTS[$i];
    $s->{no}       = $i;
    $s->{name}     = $names[$i];
    $s->{schedule} = $i == 3 ? undef : $schedules[$i % @schedules];
    $s->{by}       = $i == 4 ? undef : $bys[$i % @bys];
    $s->{created}  = $i == 2 ? undef : sprintf '2023-07-%02d 08:33:08', 10 + $i;
    $s->{instances} = [ map { $s->{id} . sprintf '_%04d_%02d_%02d', day($_) } 0 .. $s->{n} - 1 ];
}

our @CUSTOMERS = (
    (map { sprintf '57%011d', $_ * 7919 * 104729 % 99999999999 } 1 .. 60),
    (map { my $n = $_; sprintf 'user%d@%s', $n, (qw(example.com mail.example.org shop.test))[$n % 3] } 1 .. 60),
    (map { "User$_\@Example.com" } 1 .. 10),
    '', ' ', '  ', 'a', 'a ', ' a', ' a ', 'A', 'aa', 'b', 'B',
    '0', '00', '7', '07', '007', '0007', '0000000000007', '-1', '1e3', '1.0', '1.00',
    "\x{e9}", "e\x{301}", "\x{e4}", "a\x{308}", "\x{df}", 'ss', "\x{130}", "\x{131}", 'i', 'I',
    "\x{65e5}\x{672c}\x{8a9e}", "\x{65e5}\x{672c}", "\x{1F600}", "\x{1F600}\x{1F601}", "\x{fffd}",
    "\x{7f}", "\x{1}", "\x{a0}", "tab\tin", "line\nin", "cr\rin", "back\\slash", "\\N", "\\.", 'NULL', 'null',
    "o'neil\@example.com", '"quoted"', ',', ';', '%', '_', '%_', '$1', '?', ':x', '{a,b}', '()',
    (map { "prefix-$_" } qw(a aa aaa ab abc b ba)),
    (map { 'x' x $_ } 31, 32, 63, 64, 65, 126, 127, 128, 255, 256),
    (map { 'long-' . $_ . '-' . ('abcdefghij' x 300) } 1 .. 3),
    'abcdefghij' x 300, ('abcdefghij' x 300) . 'k',
);

sub segment { return $SEGMENTS[pick(@seg_wheel)] }

sub instance {
    my $s = shift // segment();
    my $n = $s->{n};
    my $k = chance(0.4) ? r($n < 3 ? $n : 3) : chance(0.2) ? $n - 1 : r($n);
    return wantarray ? ($s, $k, $s->{instances}[$k]) : $s->{instances}[$k];
}

sub bulk_name { return sprintf 'bulk-%06d', $_[0] }

sub customer {
    my $x = rand;
    return $CUSTOMERS[-1 - r(5)]           if $x < 0.01;
    return bulk_name(r(5000))              if $x < 0.06;
    return $CUSTOMERS[r(12)]               if $x < 0.25;
    return $CUSTOMERS[r(@CUSTOMERS - 5)];
}

my @revenues = ('0', '0.0', '0.00', '1', '1.1', '1.10', '1.100', '-1.1', '10', '10.00', '99.99',
    '100.5', '1234.5678', '-250.00', '0.0001', '1000000', '12345678901234567890.12',
    '1e30', '-1e30', '0.12345678901234567890', '-0.00000000000000000001', 'NaN');

# Keys of rows that were in the table a while ago
our @KNOWN;

sub known_key {
    return @{ pick(@KNOWN) } if @KNOWN && chance(0.7);
    return (scalar instance(), customer());
}

sub key_is {
    my ($a) = @_;
    my ($i, $c) = known_key();
    return "$a.segment_instance_id = " . main_q($i) . " AND $a.customer_identity = " . main_q($c);
}

sub revenue {
    my $x = rand;
    return sprintf '%d.%02d', r(500), r(100) if $x < 0.45;
    return '' . r(300)                       if $x < 0.55;
    return sprintf '%.' . r(5) . 'f', rand(1000) - 100 if $x < 0.65;
    return undef                             if $x < 0.72;
    return pick('Infinity', '-Infinity', 'NaN') if $x < 0.75 && $pg_version >= 140000;
    return pick(@revenues);
}

sub orders {
    my $x = rand;
    return r(13) if $x < 0.75;
    return undef if $x < 0.85;
    return pick(-1, -5, 0, 1, 1000000, 2147483647, 2147483648, -2147483649)
        if $x < 0.97;
    return pick('9000000000000000000', '-9000000000000000000', '9223372036854775807', '-9223372036854775808');
}

sub num_customers {
    return chance(0.93) ? 1 : pick(undef, 0, 2, -1, '9000000000000000000');
}

sub stamp {
    my $x = rand;
    return pick('infinity', '-infinity') if $x < 0.08;
    return pick('2000-01-01 00:00:00', '1999-12-31 23:59:59.999999', '0044-03-15 12:00:00 BC',
        '9999-12-31 23:59:59.999999', '1970-01-01 00:00:00', '2025-02-28 23:59:59', '2024-02-29 00:00:00.000001')
        if $x < 0.2;
    return sprintf '%04d-%02d-%02d %02d:%02d:%02d.%06d', day(r(70)), r(24), r(60), r(60), r(1000000)
        if $x < 0.5;
    return sprintf '%04d-%02d-%02d %02d:00:00', day(r(70)), r(24);
}

sub instance_stamp {
    my ($s, $k) = @_;
    return sprintf '%04d-%02d-%02d %02d:%02d:39', day($k), 3 + $s->{no}, $k % 60;
}

sub schedule     { return chance(0.2) ? undef : pick(@schedules) }
sub segment_by   { return chance(0.2) ? undef : pick(@bys) }
sub segment_name { return chance(0.15) ? undef : chance(0.03) ? $long_name : pick(@names) }

# One row as Perl values in the order of @COLS (undef is NULL)
sub row_values {
    my (%o) = @_;
    my ($s, $k, $id) = $o{instance} ? @{ $o{instance} } : instance();
    my @v = ($o{customer} // customer(), instance_stamp($s, $k), $s->{schedule}, $s->{by},
        $s->{created}, $s->{id}, $id, $s->{name}, num_customers(), orders(), revenue());
    if (chance($o{vary} // 0.08)) {
        for (1 .. 1 + r(2)) {
            my $w = r(5);
            $v[1] = stamp()        if $w == 0;
            $v[2] = schedule()     if $w == 1;
            $v[3] = segment_by()   if $w == 2;
            $v[4] = chance(0.2) ? undef : stamp() if $w == 3;
            $v[7] = segment_name() if $w == 4;
        }
    }
    return @v;
}

sub row_literals {
    my @v = @_;
    return join ', ', map { lit($COLS[$_], $v[$_]) } 0 .. $#COLS;
}

sub key_literals {
    my ($i, $c) = @_;
    return main_q($i) . ', ' . main_q($c);
}

# The name of instance "day k" of a segment, computed by the server
sub instance_sql {
    my ($s, $k) = @_;
    return main_q($s->{id}) . " || to_char(date '2025-06-01' + $k, '\"_\"YYYY_MM_DD')";
}

# ------------------------------------------------------------ qualifications

sub like_prefix {
    my $s = shift;
    $s =~ s/([\\%_])/\\$1/g;
    return main_q($s . '%');
}

sub text_atom {
    my ($c, $gen) = @_;
    my $v = sub { main_q($gen->()) };
    my $w = r(15);
    return "$c = " . $v->() if $w < 4;
    return "$c <> " . $v->() if $w == 4;
    return "$c IN (" . join(', ', map { $v->() } 0 .. r(8)) . ')' if $w == 5;
    return "$c = ANY (ARRAY[" . join(', ', map { $v->() } 0 .. r(5)) . ']::text[])' if $w == 6;
    return "$c NOT IN (" . join(', ', map { $v->() } 0 .. r(3)) . ')' if $w == 7;
    return "$c BETWEEN " . $v->() . ' AND ' . $v->() if $w == 8;
    return "$c " . pick('<', '<=', '>', '>=') . ' ' . $v->() if $w == 9;
    return "$c IS " . pick('NULL', 'NOT NULL') if $w == 10;
    return "$c IS " . pick('', 'NOT ') . 'DISTINCT FROM ' . $v->() if $w == 11;
    return "$c LIKE " . like_prefix(substr $gen->() // '', 0, 1 + r(28)) if $w == 12;
    return pick("$c = ANY ('{}'::text[])", "length($c) > " . r(30), "$c = NULL", "$c <> ALL (ARRAY[" . $v->() . ', ' . $v->() . '])',
        "$c = lower(" . $v->() . ')', "$c COLLATE \"C\" >= " . $v->(), "$c LIKE '%" . r(10) . "'", "$c ~ '^[0-9]+\$'")
        if $w == 13;
    return "coalesce($c, 'none') = " . $v->();
}

sub stamp_atom {
    my ($c) = @_;
    my $v = sub { main_q(stamp()) . '::timestamp' };
    my $exact = sub { my ($s, $k) = instance(); main_q(instance_stamp($s, $k)) . '::timestamp' };
    my $date = sub { main_q(sprintf '%04d-%02d-%02d', day(r(70))) . '::date' };
    my $w = r(11);
    return "$c = " . $exact->() if $w < 2;
    return "$c IN (" . join(', ', map { $exact->() } 0 .. r(4)) . ')' if $w == 2;
    return "$c >= " . $date->() . " AND $c < " . $date->() if $w == 3;
    return "$c BETWEEN " . $v->() . ' AND ' . $v->() if $w == 4;
    return "$c" . "::date = " . $date->() if $w == 5;
    return "$c " . pick('<', '<=', '>', '>=', '<>') . ' ' . $v->() if $w == 6;
    return "date_trunc('" . pick('month', 'day', 'year') . "', $c) = " . main_q(sprintf '2025-%02d-01', 6 + r(4)) . '::timestamp' if $w == 7;
    return "$c IS " . pick('NULL', 'NOT NULL') if $w == 8;
    return pick('', 'NOT ') . "isfinite($c)" if $w == 9;
    return "$c = ANY (ARRAY[" . $exact->() . ', ' . $v->() . '])';
}

sub number_atom {
    my ($c, $gen, $type) = @_;
    my $v = sub { main_q($gen->()) . "::$type" };
    my $w = r(8);
    return "$c = " . $v->() if $w == 0;
    return "$c " . pick('<', '<=', '>', '>=', '<>') . ' ' . $v->() if $w < 3;
    return "$c IS " . pick('NULL', 'NOT NULL') if $w == 3;
    return "$c IN (" . join(', ', map { $v->() } 0 .. r(5)) . ')' if $w == 4;
    return "$c BETWEEN " . r(5) . ' AND ' . (3 + r(200)) if $w == 5;
    return "$c IS DISTINCT FROM " . $v->() if $w == 6;
    return "$c\::numeric * 2 > " . r(50);
}

# One condition on the columns of the table whose alias is given
sub atom {
    my ($a) = @_;
    my $w = r(24);
    return text_atom("$a.segment_instance_id", sub { scalar instance() }) if $w < 5;
    return text_atom("$a.segment_id", sub { segment()->{id} }) if $w < 8;
    return text_atom("$a.customer_identity", \&customer) if $w < 12;
    return stamp_atom("$a.instance_created_date") if $w < 15;
    return stamp_atom("$a.segment_created_date") if $w == 15;
    return text_atom("$a.schedule", \&schedule) if $w == 16;
    return text_atom("$a.segment_by", \&segment_by) if $w == 17;
    return text_atom("$a.segment_name", \&segment_name) if $w == 18;
    return number_atom("$a.num_of_customers", \&num_customers, 'bigint') if $w == 19;
    return number_atom("$a.num_of_orders", \&orders, 'bigint') if $w == 20;
    return number_atom("$a.total_revenue", \&revenue, 'numeric') if $w == 21;
    return "($a.segment_instance_id, $a.customer_identity) " . pick('=', '>', '<=') . ' (' . key_literals(scalar instance(), customer()) . ')' if $w == 22;
    return pick(
        'true', 'false', 'NULL::boolean', "$a.num_of_orders = $a.num_of_customers", "$a.customer_identity = $a.segment_by",
        "$a.segment_id = left($a.segment_instance_id, 24)",
        "$a.customer_identity IN (SELECT o.customer_identity FROM rnd.orders o WHERE o.amount > " . r(300) . ')',
        "EXISTS (SELECT FROM rnd.orders o WHERE o.customer_identity = $a.customer_identity)",
        "NOT EXISTS (SELECT FROM rnd.orders o WHERE o.customer_identity = $a.customer_identity AND o.ordered_at < $a.instance_created_date)",
        "($a.segment_id, $a.customer_identity) IN ((" . key_literals(segment()->{id}, customer()) . '), (' . key_literals(segment()->{id}, customer()) . '))',
        "$a.instance_created_date > $a.segment_created_date",
        # what is known of instances and groups decides a part of these
        "($a.segment_id = " . main_q(segment()->{id}) . " AND $a.num_of_orders >= " . r(9) . ") OR ($a.segment_id = " . main_q(segment()->{id}) . " AND $a.total_revenue < " . r(200) . ')',
        "($a.segment_instance_id = " . main_q(scalar instance()) . " AND $a.customer_identity = " . main_q(customer()) . ") OR ($a.customer_identity = " . main_q(customer()) . " AND $a.num_of_orders IS NOT NULL)",
        "$a.num_of_orders " . pick('>', '<=', '=') . ' ' . pick('2.5', '3.0', '-1.5', '4::float8', '5::smallint'),
        r(90) . ' ' . pick('<', '>=', '=') . " $a.total_revenue::float8", "$a.total_revenue " . pick('> ', '>= ', '= ', '< ') . pick("'NaN'", "'Infinity'", "'-Infinity'", '1e25'),
        "$a.num_of_orders = ANY ('{" . r(9) . ',NULL,' . r(30) . "}'::bigint[])", "$a.num_of_orders BETWEEN " . r(6) . ' AND ' . r(14) . " OR $a.total_revenue IS NULL",
        "date_trunc('" . pick(qw(month week day quarter)) . "', $a.instance_created_date) " . pick('=', '<', '>=') . " timestamp '2025-0" . (6 + r(4)) . "-01'",
        "$a.instance_created_date::date IN ('2025-06-0" . (1 + r(9)) . "', '2025-08-1" . r(9) . "')",
        "($a.segment_id, $a.instance_created_date) " . pick('<', '>=') . ' (' . main_q(segment()->{id}) . ', ' . lit('timestamp', stamp()) . ')',
        "$a.segment_instance_id = ANY (ARRAY(SELECT max(z.segment_instance_id) FROM {T} z GROUP BY z.segment_id))",
        "$a.segment_instance_id = (SELECT max(z.segment_instance_id) FROM {T} z WHERE z.segment_id = " . main_q(segment()->{id}) . ')',
    );
}

sub qual {
    my ($a, $depth) = (@_, 2);
    my $x = rand;
    return atom($a) if $depth == 0 || $x < 0.45;
    return '(' . qual($a, $depth - 1) . ' AND ' . qual($a, $depth - 1) . ')' if $x < 0.8;
    return '(' . qual($a, $depth - 1) . ' OR ' . qual($a, $depth - 1) . ')' if $x < 0.93;
    return 'NOT (' . qual($a, $depth - 1) . ')';
}

# A qualification for changes: mostly narrow, so that the table lives on
sub dml_qual {
    my ($a) = @_;
    my $x = rand;
    my $i = sub { main_q(scalar instance()) };
    return key_is($a) if $x < 0.15;
    return "$a.segment_instance_id = " . $i->() if $x < 0.28;
    return "$a.segment_instance_id IN (" . $i->() . ', ' . $i->() . ') AND ' . qual($a, 1) if $x < 0.4;
    return "$a.customer_identity = " . main_q(customer()) if $x < 0.5;
    return "$a.customer_identity IN (" . join(', ', map { main_q(customer()) } 0 .. r(6)) . ') AND ' . qual($a, 1) if $x < 0.6;
    return "$a.segment_id = " . main_q(segment()->{id}) . ' AND ' . qual($a, 1) if $x < 0.72;
    return "abs(hashtext($a.customer_identity || $a.segment_instance_id)::bigint) % " . (5 + r(60)) . ' = ' . r(5) if $x < 0.8;
    return "($a.segment_instance_id, $a.customer_identity) IN (" . join(', ', map { '(' . key_literals(known_key()) . ')' } 0 .. r(5)) . ')' if $x < 0.86;
    return qual($a) . ' AND ' . atom($a) . ' AND ' . atom($a);
}

# --------------------------------------------------------------- assignments

sub set_measures {
    my ($a) = @_;
    my @s;
    push @s, 'total_revenue = ' . pick("$a.total_revenue * 2", "$a.total_revenue + 0.10", 'NULL', lit('total_revenue', revenue()),
        "-$a.total_revenue", "coalesce($a.total_revenue, 0) + coalesce($a.num_of_orders, 0)", "round($a.total_revenue, 2)", "$a.total_revenue / 3",
        "trim_scale($a.total_revenue)", "$a.total_revenue", "round($a.total_revenue, " . r(5) . ')', 'DEFAULT') if chance(0.65);
    push @s, 'num_of_orders = ' . pick("$a.num_of_orders + 1", "$a.num_of_orders * 2", 'NULL', lit('num_of_orders', orders()), "length($a.customer_identity)",
        "$a.num_of_orders", "$a.num_of_customers", r(10)) if chance(0.45);
    push @s, 'num_of_customers = ' . pick(1, 1, 2, 'NULL', "$a.num_of_customers", lit('num_of_customers', num_customers())) if !@s || chance(0.12);
    return join ', ', @s;
}

sub set_dimensions {
    my ($a) = @_;
    my @s = some(2,
        'segment_name = ' . pick(main_q(segment_name()), 'NULL', "$a.segment_name || '!'", "left($a.segment_name, 20)"),
        'schedule = ' . pick(main_q(schedule()), 'NULL', "upper($a.schedule)"),
        'segment_by = ' . pick(main_q(segment_by()), 'NULL'),
        'segment_created_date = ' . pick(lit('timestamp', stamp()), 'NULL', "$a.segment_created_date + interval '1 second'"),
        'instance_created_date = ' . pick(lit('timestamp', stamp()), "$a.instance_created_date + interval '1 microsecond'", "date_trunc('day', $a.instance_created_date)"));
    return join ', ', @s;
}

# ------------------------------------------------------------------- queries

my @dims = map { "x.$_" } qw(segment_id segment_instance_id segment_name schedule segment_by instance_created_date segment_created_date);

sub group_keys {
    return some(3, @dims, @dims[ 0, 0, 1, 1 ], "date_trunc('month', x.instance_created_date)", 'x.instance_created_date::date',
        "coalesce(x.segment_by, 'none')", 'left(x.customer_identity, 2)', (chance(0.3) ? 'x.customer_identity' : ()),
        'x.num_of_customers', 'x.num_of_orders IS NULL');
}

sub aggregates {
    my ($n) = @_;
    my @a = some($n // 5,
        'count(*)', 'count(*)', 'count(DISTINCT x.customer_identity)', 'count(DISTINCT x.customer_identity)', 'count(DISTINCT x.segment_instance_id)',
        'count(DISTINCT (x.customer_identity, x.segment_id))', 'count(DISTINCT x.total_revenue)',
        'count(x.total_revenue)', 'count(x.num_of_orders)', 'count(x.schedule)', 'count(x.num_of_customers)', 'count(x.customer_identity)', 'count(x.segment_created_date)',
        'sum(x.num_of_customers)', 'sum(x.num_of_orders)', 'sum(x.total_revenue)', 'sum(x.total_revenue)',
        'avg(x.num_of_customers)', 'avg(x.num_of_orders)', 'avg(x.total_revenue)',
        'min(x.num_of_orders)', 'max(x.num_of_orders)', 'min(x.num_of_customers)', 'max(x.num_of_customers)',
        'trim_scale(min(x.total_revenue))', 'trim_scale(max(x.total_revenue))',
        'min(x.instance_created_date)', 'max(x.instance_created_date)', 'min(x.segment_created_date)', 'max(x.segment_created_date)',
        'min(x.customer_identity)', 'max(x.customer_identity)', 'min(x.segment_instance_id)', 'max(x.segment_instance_id)', 'min(x.segment_name)', 'max(x.schedule)',
        'sum(x.total_revenue) / nullif(sum(x.num_of_orders), 0)', 'sum(DISTINCT x.num_of_orders)', 'trim_scale(sum(DISTINCT x.total_revenue))',
        'bool_or(x.total_revenue > 100)', 'every(x.num_of_customers = 1)', 'var_pop(x.num_of_orders)', 'sum(x.total_revenue * x.num_of_customers)',
        "string_agg(DISTINCT x.schedule, ',' ORDER BY x.schedule)",
        'md5(string_agg(x.customer_identity, chr(10) ORDER BY x.customer_identity, x.segment_instance_id))',
        'percentile_disc(0.5) WITHIN GROUP (ORDER BY x.num_of_orders)',
        'sum(length(x.customer_identity))', 'min(x.instance_created_date::date)', 'sum(1)', 'count(NULL)', "count(nullif(x.segment_by, 'email'))");
    for (@a) {
        $_ .= ' FILTER (WHERE ' . atom('x') . ')' if chance(0.12) && /^(count|sum|avg|min|max)\([^()]*\)$/;
    }
    return @a;
}

# Conditions, keys and aggregates that can be answered without rows: with all of them in a query, most are
sub plain_atom {
    my ($a) = @_;
    my $w = r(14);
    return number_atom("$a.num_of_orders", \&orders, 'bigint') if $w < 4;
    return number_atom("$a.total_revenue", \&revenue, 'numeric') if $w < 7;
    return number_atom("$a.num_of_customers", \&num_customers, 'bigint') if $w == 7;
    return text_atom("$a.segment_id", sub { segment()->{id} }) if $w < 10;
    return stamp_atom("$a.instance_created_date") if $w == 10;
    return text_atom("$a.segment_name", \&segment_name) if $w == 11;
    return text_atom("$a.schedule", \&schedule) if $w == 12;
    return "$a.customer_identity IN (" . join(', ', map { main_q(customer()) } 0 .. r(6)) . ')';
}

sub plain_qual {
    my ($a, $depth) = (@_, 2);
    my $x = rand;
    return plain_atom($a) if $depth == 0 || $x < 0.5;
    return '(' . plain_qual($a, $depth - 1) . pick(' AND ', ' OR ') . plain_qual($a, $depth - 1) . ')' if $x < 0.92;
    return 'NOT (' . plain_qual($a, $depth - 1) . ')';
}

sub without_rows {
    my @k = some(2, @dims, "date_trunc('month', x.instance_created_date)", 'x.instance_created_date::date', "coalesce(x.segment_by, 'none')", 'left(x.segment_id, 5)');
    my @a = some(5,
        'count(*)', 'count(DISTINCT x.customer_identity)', 'count(DISTINCT x.customer_identity)', 'count(DISTINCT x.segment_instance_id)', 'count(DISTINCT x.schedule)',
        'count(x.total_revenue)', 'count(x.num_of_orders)', 'count(x.schedule)', 'count(x.customer_identity)',
        'sum(x.num_of_customers)', 'sum(x.num_of_orders)', 'sum(x.total_revenue)', 'avg(x.num_of_orders)', 'avg(x.total_revenue)', 'sum(x.num_of_orders::numeric)',
        'min(x.num_of_orders)', 'max(x.num_of_customers)', 'trim_scale(min(x.total_revenue))', 'trim_scale(max(x.total_revenue))',
        'min(x.instance_created_date)', 'max(x.segment_created_date)', 'max(x.segment_name)', 'min(x.segment_instance_id)', "bool_or(x.schedule = 'daily')");
    for (@a) {
        $_ .= ' FILTER (WHERE ' . plain_qual('x', 1) . ')' if chance(0.3) && /^(count|sum|avg|min|max)\([^()]*\)$/;
    }
    my $keys = join ', ', @k;
    my $by = chance(0.25) ? pick("ROLLUP ($keys)", "CUBE ($keys)", 'GROUPING SETS ((' . join('), (', @k) . '), ())') : $keys;
    my $sql = 'FROM {T} x' . (chance(0.2) ? '' : ' WHERE ' . plain_qual('x'));
    return "SELECT DISTINCT $keys $sql" if chance(0.1);
    return 'SELECT ' . join(', ', @a) . " $sql" if chance(0.25);
    return "SELECT $keys, " . join(', ', @a) . " $sql GROUP BY $by" . (chance(0.2) ? pick(' HAVING count(*) > 3', ' HAVING sum(x.num_of_orders) > 9') : '');
}

sub where {
    my ($a) = @_;
    return chance(0.15) ? '' : ' WHERE ' . qual($a);
}

sub columns {
    my ($a) = @_;
    return chance(0.5) ? "$a.*" : join ', ', map { "$a.$_" } some(5, @COLS);
}

my @forms = (
    [ 10, sub { 'SELECT ' . columns('x') . ' FROM {T} x' . where('x') } ],
    [ 3, sub { 'SELECT ' . columns('x') . ' FROM {T} x WHERE ' . dml_qual('x') } ],
    [ 3, sub { 'SELECT x.customer_identity, x.num_of_orders, x.total_revenue FROM {T} x WHERE x.segment_instance_id = ' . main_q(scalar instance()) } ],
    [ 8, sub { 'SELECT ' . join(', ', aggregates()) . ' FROM {T} x' . where('x') } ],
    [ 14, sub {
        my @k = group_keys();
        my $sql = 'SELECT ' . join(', ', @k, aggregates()) . ' FROM {T} x' . where('x') . ' GROUP BY ' . join(', ', @k);
        $sql .= ' HAVING ' . pick('count(*) > ' . r(20), 'sum(x.num_of_orders) > 5', 'count(DISTINCT x.customer_identity) < 10', 'max(x.instance_created_date) > \'2025-07-01\'') if chance(0.2);
        return $sql unless chance(0.25);
        return ($sql . ' ORDER BY ' . join(', ', map { $_ . pick('', ' DESC', ' NULLS FIRST') } @k) . ' LIMIT ' . r(12) . (chance(0.4) ? ' OFFSET ' . r(5) : ''), 1);
    } ],
    [ 16, \&without_rows ],
    [ 4, sub {
        my @k = some(3, @dims, "date_trunc('month', x.instance_created_date)");
        my $g = pick('ROLLUP (' . join(', ', @k) . ')', 'CUBE (' . join(', ', @k) . ')', 'GROUPING SETS ((' . join('), (', @k, join(', ', @k)) . '), ())');
        return 'SELECT ' . join(', ', @k, 'grouping(' . join(', ', @k) . ')', aggregates(3)) . ' FROM {T} x' . where('x') . " GROUP BY $g";
    } ],
    [ 5, sub {
        my $o = pick('x.total_revenue DESC', 'x.num_of_orders', 'x.instance_created_date DESC', 'x.customer_identity', 'x.segment_name NULLS FIRST', 'x.total_revenue NULLS FIRST', 'x.segment_instance_id');
        return ('SELECT ' . columns('x') . ' FROM {T} x' . where('x') . " ORDER BY $o, x.segment_instance_id, x.customer_identity LIMIT " . (1 + r(30)) . (chance(0.3) ? ' OFFSET ' . r(20) : ''), 1);
    } ],
    [ 3, sub { 'SELECT DISTINCT ' . join(', ', map { "x.$_" } some(3, @COLS[ 0 .. 9 ])) . ' FROM {T} x' . where('x') } ],
    [ 2, sub { 'SELECT DISTINCT ON (x.customer_identity) x.* FROM {T} x' . where('x') . ' ORDER BY x.customer_identity, x.instance_created_date DESC, x.segment_instance_id' } ],
    # what is in one instance and (not) in another
    [ 4, sub {
        my $s = segment();
        my ($a, $b) = map { main_q(scalar instance($s)) } 1, 2;
        return pick(
            "SELECT x.customer_identity, x.total_revenue, y.total_revenue FROM {T} x " . pick('', 'LEFT ', 'RIGHT ', 'FULL ') .
                "JOIN {T} y ON x.customer_identity = y.customer_identity AND x.segment_instance_id = $a AND y.segment_instance_id = $b WHERE x.segment_instance_id = $a OR y.segment_instance_id = $b",
            "SELECT x.customer_identity, x.num_of_orders, y.num_of_orders FROM {T} x JOIN {T} y USING (customer_identity) WHERE x.segment_instance_id = $a AND y.segment_instance_id = $b",
            "SELECT customer_identity FROM {T} WHERE segment_instance_id = $a " . pick('EXCEPT', 'INTERSECT', 'UNION', 'UNION ALL') . pick('', '') . " SELECT customer_identity FROM {T} WHERE segment_instance_id = $b",
            "SELECT x.* FROM {T} x WHERE x.segment_instance_id = $a AND " . pick('', 'NOT ') . "EXISTS (SELECT FROM {T} y WHERE y.segment_instance_id = $b AND y.customer_identity = x.customer_identity)",
            "SELECT x.customer_identity FROM {T} x WHERE x.segment_instance_id = $a AND x.customer_identity " . pick('', 'NOT ') . "IN (SELECT y.customer_identity FROM {T} y WHERE y.segment_instance_id = $b)",
            "SELECT count(*), sum(x.total_revenue), sum(y.num_of_orders) FROM {T} x JOIN {T} y ON (y.segment_instance_id, y.customer_identity) = ($b, x.customer_identity) WHERE x.segment_instance_id = $a");
    } ],
    [ 3, sub {
        my $on = pick('o.customer_identity = x.customer_identity', 'o.customer_identity = x.customer_identity AND o.ordered_at <= x.instance_created_date');
        return pick(
            "SELECT x.segment_instance_id, count(*), count(DISTINCT o.customer_identity), sum(o.amount) FROM {T} x JOIN rnd.orders o ON $on" . where('x') . ' GROUP BY 1',
            "SELECT o.order_id, x.segment_instance_id, x.total_revenue FROM rnd.orders o " . pick('', 'LEFT ') . "JOIN {T} x ON $on AND x.segment_id = " . main_q(segment()->{id}),
            "SELECT o.order_id, l.n, l.rev FROM rnd.orders o CROSS JOIN LATERAL (SELECT count(*) AS n, sum(x.total_revenue) AS rev FROM {T} x WHERE x.customer_identity = o.customer_identity) l WHERE o.order_id <= " . (1 + r(10)),
            "SELECT o.order_id, EXISTS (SELECT FROM {T} x WHERE x.customer_identity = o.customer_identity AND x.segment_instance_id = " . main_q(scalar instance()) . ') FROM rnd.orders o');
    } ],
    # the newest instance of each segment
    [ 3, sub {
        pick(
            'SELECT x.* FROM {T} x WHERE x.segment_instance_id = (SELECT y.segment_instance_id FROM {T} y WHERE y.segment_id = ' . main_q(segment()->{id}) . ' ORDER BY y.instance_created_date DESC, y.segment_instance_id DESC LIMIT 1)',
            'SELECT x.segment_id, count(*), sum(x.total_revenue) FROM {T} x WHERE (x.segment_id, x.instance_created_date) IN (SELECT y.segment_id, max(y.instance_created_date) FROM {T} y GROUP BY y.segment_id) GROUP BY 1',
            'SELECT x.segment_id, x.segment_instance_id, count(*) FROM {T} x JOIN (SELECT segment_id, max(segment_instance_id) AS m FROM {T} GROUP BY 1) y ON y.m = x.segment_instance_id GROUP BY 1, 2',
            'SELECT x.segment_id, count(*), sum(x.num_of_orders) FROM (SELECT *, rank() OVER (PARTITION BY segment_id ORDER BY instance_created_date DESC) AS rnk FROM {T}) x WHERE x.rnk = 1 GROUP BY 1',
            'SELECT v.c, l.n FROM (VALUES (' . join('), (', map { main_q($_) } some(5, @CUSTOMERS)) . ')) v(c) CROSS JOIN LATERAL (SELECT count(*) AS n FROM {T} x WHERE x.customer_identity = v.c AND x.instance_created_date = (SELECT max(z.instance_created_date) FROM {T} z WHERE z.segment_id = x.segment_id)) l',
            'WITH n AS (SELECT DISTINCT ON (segment_id) segment_id, segment_instance_id FROM {T} ORDER BY segment_id, instance_created_date DESC, segment_instance_id DESC) SELECT n.segment_id, count(*), count(DISTINCT x.customer_identity) FROM n JOIN {T} x USING (segment_instance_id) GROUP BY 1');
    } ],
    [ 4, sub {
        my $w = ' WHERE ' . dml_qual('x');
        pick(
            "SELECT x.segment_instance_id, x.customer_identity, row_number() OVER (PARTITION BY x.customer_identity ORDER BY x.instance_created_date, x.segment_instance_id) FROM {T} x$w",
            "SELECT x.segment_instance_id, x.customer_identity, lag(x.total_revenue) OVER w, lead(x.num_of_orders, 2) OVER w, first_value(x.segment_name) OVER w FROM {T} x$w WINDOW w AS (PARTITION BY x.customer_identity, x.segment_id ORDER BY x.segment_instance_id)",
            "SELECT x.segment_instance_id, x.customer_identity, sum(x.num_of_orders) OVER (PARTITION BY x.segment_id ORDER BY x.segment_instance_id, x.customer_identity ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) FROM {T} x$w",
            "SELECT x.segment_instance_id, x.customer_identity, rank() OVER (PARTITION BY x.segment_instance_id ORDER BY x.total_revenue DESC NULLS LAST), count(*) OVER (PARTITION BY x.segment_instance_id) FROM {T} x$w",
            'SELECT s.segment_id, s.segment_instance_id, s.n, s.n - lag(s.n) OVER (PARTITION BY s.segment_id ORDER BY s.segment_instance_id) FROM (SELECT x.segment_id, x.segment_instance_id, count(*) AS n FROM {T} x' . where('x') . ' GROUP BY 1, 2) s',
            "SELECT x.segment_id, sum(count(*)) OVER (ORDER BY x.segment_id) FROM {T} x$w GROUP BY 1");
    } ],
    [ 3, sub {
        my @c = some(3, qw(customer_identity segment_id segment_instance_id schedule num_of_orders instance_created_date segment_name));
        my $c = sub { my $a = shift; join ', ', map { "$a.$_" } @c };
        my $op = pick('UNION', 'UNION ALL', 'EXCEPT', 'EXCEPT ALL', 'INTERSECT', 'INTERSECT ALL');
        return 'SELECT ' . $c->('x') . ' FROM {T} x' . where('x') . " $op SELECT " . $c->('y') . ' FROM {T} y' . where('y');
    } ],
    [ 3, sub {
        my $w = ' WHERE ' . dml_qual('x');
        pick("SELECT x FROM {T} x$w", "SELECT x.*, x.customer_identity FROM {T} x$w", "SELECT row_to_json(x) FROM {T} x$w", "SELECT to_jsonb(x) - 'total_revenue' FROM {T} x$w",
            "SELECT count(x), count(DISTINCT x.segment_id) FROM {T} x$w", "SELECT (x).customer_identity FROM (SELECT x FROM {T} x$w OFFSET 0) s",
            "SELECT x IS NOT NULL, x IS NULL FROM {T} x$w");
    } ],
    [ 2, sub {
        pick('SELECT count(*) FROM {T}', 'SELECT count(*) FROM {T} WHERE ' . atom('{T}'), 'SELECT EXISTS (SELECT FROM {T} x WHERE ' . qual('x') . ')', 'SELECT FROM {T} x WHERE ' . qual('x'),
            'SELECT 1 FROM {T} x WHERE ' . atom('x'), 'TABLE {T}', 'SELECT min(customer_identity), max(segment_instance_id) FROM {T}',
            'SELECT count(*) FROM (SELECT DISTINCT customer_identity FROM {T}) s', 'SELECT count(*) FROM (SELECT x.customer_identity FROM {T} x' . where('x') . ' GROUP BY 1 HAVING count(*) > ' . r(6) . ') s');
    } ],
    # distribution of how many instances a customer is in
    [ 2, sub { 'SELECT n, count(*) FROM (SELECT x.customer_identity, x.segment_id, count(*) AS n FROM {T} x' . where('x') . ' GROUP BY 1, 2) s GROUP BY n' } ],
    [ 2, sub {
        my $s = main_q(segment()->{id});
        pick(
            "SELECT a.segment_id, b.segment_id, count(*) FROM (SELECT DISTINCT segment_id, customer_identity FROM {T}) a JOIN (SELECT DISTINCT segment_id, customer_identity FROM {T}) b ON a.customer_identity = b.customer_identity AND a.segment_id < b.segment_id GROUP BY 1, 2",
            "SELECT i.k, (SELECT count(*) FROM {T} x WHERE x.segment_instance_id = $s || to_char(date '2025-06-01' + i.k, '\"_\"YYYY_MM_DD')) FROM generate_series(0, " . r(6) . ") i(k)",
            "SELECT v.id, l.* FROM (VALUES (" . join('), (', map { main_q(scalar instance()) } 0 .. r(4)) . ")) v(id) LEFT JOIN LATERAL (SELECT x.customer_identity, x.total_revenue FROM {T} x WHERE x.segment_instance_id = v.id ORDER BY x.customer_identity LIMIT 3) l ON true",
            "SELECT v.c, count(x.customer_identity), sum(x.num_of_customers) FROM (VALUES (" . join('), (', map { main_q($_) } some(6, @CUSTOMERS)) . ")) v(c) LEFT JOIN {T} x ON x.customer_identity = v.c AND x.segment_id = $s GROUP BY 1",
            "SELECT CASE WHEN x.total_revenue > 100 THEN 'big' WHEN x.total_revenue IS NULL THEN 'none' ELSE 'small' END AS c, " . join(', ', aggregates(3)) . ' FROM {T} x' . where('x') . ' GROUP BY 1');
    } ],
    [ 1, sub { 'WITH m AS MATERIALIZED (SELECT * FROM {T} x WHERE ' . qual('x') . ') SELECT a.segment_id, count(*), (SELECT sum(num_of_orders) FROM m) FROM m a GROUP BY 1' } ],
    [ 2, sub { ('SELECT x.* FROM {T} x WHERE ' . dml_qual('x') . ' ORDER BY x.segment_instance_id, x.customer_identity FOR ' . pick('UPDATE', 'NO KEY UPDATE', 'SHARE', 'KEY SHARE') . pick('', '', ' NOWAIT', ' SKIP LOCKED'), 1) } ],
);
my @form_wheel = map { my $f = $_->[1]; ($f) x $_->[0] } @forms;

# (text, whether the order of its result is determined)
sub select_sql {
    my ($sql, $ordered) = pick(@form_wheel)->();
    return ($sql, $ordered ? 1 : 0);
}

1;
