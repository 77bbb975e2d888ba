# Bytes of stored records are flipped on disk. Whatever is read afterwards is right or error XX001; verify() says that
# something is wrong; the server never crashes.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;
use PostgreSQL::Test::Utils;
use CustomerSegments;

seed();
my $copies = $ENV{CSEG_DAMAGES} // 60;

# Without page checksums, so that it is the records' own that count.
my $node = new_cluster('damage', start => 0, conf => "autovacuum = off\nrestart_after_crash = on\n");
my ($control) = run_command([ 'pg_controldata', $node->data_dir ]);
my ($checksums) = $control =~ /^Data page checksum version: +(\d+)/m;
command_ok([ 'pg_checksums', '--disable', '-D', $node->data_dir ], 'page checksums off') if $checksums;
$node->start;
prepare($node);

# Groups, instances, bases, deltas and several dictionary records; texts that go to the TOAST table.
$node->safe_psql('postgres',
    load(1, 1, 1, 2500) . load(1, 2, 200, 2500) . load(2, 1, 1, 400)
        . join('', map { "UPDATE $_ SET num_of_orders = 77 WHERE hashtext(customer_identity) % 200 = 0; DELETE FROM $_ WHERE "
            . "hashtext(customer_identity) % 300 = 1; INSERT INTO $_ SELECT * FROM test_rows(1, 2, 50001, 3);" } qw(s twin)));
sound($node, 'before');

# Copies of the files, not of the rows, so that every table has the same records: the TOAST values are copied with them.
$node->safe_psql('postgres', join '', map {
    "CREATE TABLE d$_ (LIKE s) USING customer_segmentation; INSERT INTO d$_ SELECT * FROM twin WHERE segment_name = 'Segment 1' AND instance_created_date < '2025-01-03';"
        . "INSERT INTO d$_ SELECT * FROM twin WHERE NOT (segment_name = 'Segment 1' AND instance_created_date < '2025-01-03');"
        . "UPDATE d$_ SET num_of_customers = 2 WHERE hashtext(customer_identity) % 500 = 3;"
} 1 .. $copies);
$node->safe_psql('postgres', 'UPDATE twin SET num_of_customers = 2 WHERE hashtext(customer_identity) % 500 = 3; VACUUM FREEZE');
my @places = map { [ split /\|/ ] } split /\n/, $node->safe_psql('postgres',
    q{SELECT c.relname, pg_relation_filepath(c.oid), pg_relation_filepath(c.reltoastrelid) FROM pg_class c WHERE relname ~ '^d\d+$' ORDER BY 1});
is(problems($node, 'postgres', 'd1', 'twin'), '', 'a copy before');
$node->stop;

# The places of a heap file's tuples: [offset in the file, header length, length].
sub tuples {
    my ($bytes) = @_;
    my @found;
    for (my $page = 0; $page + 8192 <= length $bytes; $page += 8192) {
        my ($lower) = unpack 'S', substr $bytes, $page + 12, 2;
        for (my $at = 24; $at < $lower; $at += 4) {
            my $lp = unpack 'L', substr $bytes, $page + $at, 4;
            my ($offset, $flags, $length) = ($lp & 0x7fff, ($lp >> 15) & 3, $lp >> 17);
            next unless $flags == 1;
            push @found, [ $page + $offset, ord(substr $bytes, $page + $offset + 22, 1), $length ];
        }
    }
    return @found;
}

# Damages a file: payload of the main fork, data of a TOAST chunk, a header of a tuple, or anything at all.
my %damaged;
for my $place (@places) {
    my ($table, $main, $toast) = @$place;
    my ($number) = $table =~ /(\d+)/;
    my $kind = (qw(payload payload chunk chunk header page))[ $number % 6 ];
    my $file = $node->data_dir . '/' . ($kind eq 'chunk' ? $toast : $main);
    my $bytes = slurp_file($file, 0);
    my @tuples = tuples($bytes);
    ($kind, $file) = ('payload', $node->data_dir . "/$main") if $kind eq 'chunk' && !@tuples;
    if (!@tuples) { $bytes = slurp_file($file, 0); @tuples = tuples($bytes) }
    my ($from, $hoff, $length) = @{ $tuples[ rand @tuples ] };

    # A chunk has its value's number, its own, and a length before its data.
    my $skip = $kind eq 'chunk' ? 12 : 0;
    my ($first, $n) =
          $kind eq 'header' ? ($from, $hoff)
        : $kind eq 'page'   ? (0, length $bytes)
        :                     ($from + $hoff + $skip, $length - $hoff - $skip);
    my $at   = $first + int rand $n;
    my $mask = rand() < 0.5 ? 1 << int rand 8 : 1 + int rand 255;
    open my $f, '+<:raw', $file or die "$file: $!";
    seek $f, $at, 0;
    print $f chr(ord(substr $bytes, $at, 1) ^ $mask);
    close $f;
    $damaged{$table} = sprintf '%s, byte %d, mask %02x', $kind, $at, $mask;
}
$node->start;

my $columns = TWIN_COLUMNS;
my %reads = (
    'all rows'  => ["SELECT $columns, total_revenue::text", ''],
    'totals'    => ['SELECT segment_instance_id, count(*), sum(num_of_orders), sum(total_revenue)::text, count(DISTINCT customer_identity)', 'GROUP BY 1'],
    'count'     => ['SELECT count(*)', ''],
    'lookup'    => ["SELECT $columns", "WHERE customer_identity IN ('user300\@example.com', '5700000000400', 'nobody')"],
    'instance'  => ["SELECT $columns", "WHERE segment_name = 'Segment 2'"]);
for my $place (@places) {
    my ($table) = @$place;
    my $what    = $damaged{$table};
    my $strict  = $what =~ /^(?:payload|chunk)/;
    my @wrong;
    for my $read (sort keys %reads) {
        my ($select, $rest) = @{ $reads{$read} };
        my $sql = "SELECT count(*) FROM ((($select FROM $table $rest) EXCEPT ALL ($select FROM twin $rest)) UNION ALL "
            . "(($select FROM twin $rest) EXCEPT ALL ($select FROM $table $rest))) x";
        my $error = error_of($node, $sql);
        if ($error ne '') {
            push @wrong, "$read: $error" if $strict ? $error !~ /^XX001/ : $error !~ /^(?:XX00|58P01|[2-5][0-9A-Z]{4})/;
        }
        elsif ($strict) {
            my $differ = $node->safe_psql('postgres', $sql);
            push @wrong, "$read: $differ rows differ" if $differ > 0;
        }
    }
    my ($rc, $out, $err) = $node->psql('postgres', "SELECT * FROM customer_segmentation.verify('$table')");
    if ($strict) {
        push @wrong, "verify() fails: $err" if $rc != 0;
        push @wrong, 'verify() finds nothing' if $rc == 0 && $out eq '';
    }
    for ( "SELECT * FROM customer_segmentation.storage_info('$table')",
        "BEGIN; INSERT INTO $table SELECT * FROM test_rows(1, 9, 1, 50); ROLLBACK", "BEGIN; UPDATE $table SET num_of_orders = 1; ROLLBACK",
        "BEGIN; DELETE FROM $table; ROLLBACK", "VACUUM $table", "ANALYZE $table") {
        my $error = error_of($node, $_);
        push @wrong, "$_: crash: $error" if $error =~ /^(?:status|57P0|08)|server closed/;
    }
    $node->poll_query_until('postgres', 'SELECT true');
    is(join("\n", @wrong), '', "$table: $what");
}
$node->safe_psql('postgres', 'UPDATE s SET num_of_customers = 2 WHERE hashtext(customer_identity) % 500 = 3');
sound($node, 'an undamaged table beside them');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|terminated by signal/, 'nothing crashed');
$node->stop('immediate');
done_testing();
