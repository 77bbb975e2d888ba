package Pair;

# Two sessions that run the same statement, the one on rnd.t, the other on its
# twin rnd.h, and the comparison of what came out.

use strict;
use warnings;
use DBI;
use Encode ();

sub new {
    my ($class, %o) = @_;
    my $self = bless {
        %o, number => 0, count => {}, errors => {}, states => {}, history => [],
    }, $class;
    $self->{names} = [
        { '{T}' => 'rnd.t', '{L}' => 'rnd.t_log', '{C}' => 'rnd.t_copy', '{V}' => 'rnd.t_view', '{U}' => "USING $o{am}" },
        { '{T}' => 'rnd.h', '{L}' => 'rnd.h_log', '{C}' => 'rnd.h_copy', '{V}' => 'rnd.h_view', '{U}' => 'USING heap' },
    ];
    $self->connect;
    return $self;
}

sub connect {
    my $self = shift;
    $self->{parked} = [];
    $_->disconnect for @{ $self->{dbh} || [] };
    $self->{dbh} = [ map {
        my $dbh = DBI->connect("dbi:Pg:$self->{dsn}", '', '',
            { AutoCommit => 1, PrintError => 0, RaiseError => 0, PrintWarn => 0, pg_expand_array => 0, pg_bool_tf => 0 })
            or die "random: cannot connect: " . DBI->errstr . "\n";
        $dbh->do($_) or die "random: $_: " . $dbh->errstr . "\n"
            for "SET client_min_messages = error", "SET client_encoding = 'UTF8'", "SET standard_conforming_strings = on",
            "SET datestyle = 'ISO, YMD'", "SET timezone = 'UTC'", "SET intervalstyle = 'postgres'",
            "SET statement_timeout = '$self->{timeout}s'", "SET search_path = pg_catalog, rnd";
        $dbh->{pg_enable_utf8} = 1;
        $dbh;
    } 0, 1 ];
    return;
}

sub t { return $_[0]{dbh}[0] }
sub h { return $_[0]{dbh}[1] }

sub text_for {
    my ($self, $side, $sql) = @_;
    my $n = $self->{names}[$side];
    $sql =~ s/(\{[TLCVU]\})/$n->{$1}/g;
    return $sql;
}

sub flat {
    my ($row) = @_;
    return join "\x{1f}", map { defined $_ ? $_ : '(null)' } @$row;
}

sub outcome {
    my ($self, $h, $ok, $rows, $data) = @_;
    return { state => $ok ? '00000' : ($h->state || 'none'), message => $ok ? '' : $h->errstr, rows => $ok ? $rows : undef, data => $ok ? $data : undef };
}

# One text by the simple protocol
sub exec_text {
    my ($self, $dbh, $sql) = @_;
    my $sth = $dbh->prepare($sql, { pg_direct => 1, pg_server_prepare => 0 });
    return $self->outcome($dbh, 0) unless $sth;
    my $rows = $sth->execute;
    return $self->outcome($sth, 0) unless defined $rows;
    my $data;
    if (($sth->{NUM_OF_FIELDS} || 0) > 0) {
        $data = [ map { flat($_) } @{ $sth->fetchall_arrayref } ];
        return $self->outcome($sth, 0) if $sth->err;
        $rows = @$data;
    }
    elsif ($sth->{pg_cmd_status} && $sth->{pg_cmd_status} =~ /(\d+)$/) {
        $rows = $1;
    }
    return $self->outcome($sth, 1, 0 + $rows, $data);
}

# One text by the extended protocol, executed once for each set of parameters;
# ends at the first error
sub exec_bind {
    my ($self, $dbh, $sql, $sets) = @_;
    my $sth = $dbh->prepare($sql, { pg_server_prepare => 1 });
    return $self->outcome($dbh, 0) unless $sth;
    my ($total, @data) = (0);
    for my $set (@$sets) {
        my $rows = $sth->execute(@$set);
        if (!defined $rows) {
            # DBD::Pg rolls a failed transaction back when it lets go of a statement
            push @{ $self->{parked} }, $sth;
            return $self->outcome($sth, 0);
        }
        if (($sth->{NUM_OF_FIELDS} || 0) > 0) {
            push @data, sort map { flat($_) } @{ $sth->fetchall_arrayref };
        }
        $total += $rows;
    }
    return $self->outcome($sth, 1, $total, \@data);
}

sub exec_copy_in {
    my ($self, $dbh, $sql, $lines) = @_;
    defined $dbh->do($sql) or return $self->outcome($dbh, 0);
    for (@$lines) {
        $dbh->pg_putcopydata($_) or last;
    }
    my $ok = $dbh->pg_putcopyend;
    return $self->outcome($dbh, 0) if !$ok || $dbh->err;
    return $self->outcome($dbh, 1, 0);
}

sub exec_copy_out {
    my ($self, $dbh, $sql) = @_;
    defined $dbh->do($sql) or return $self->outcome($dbh, 0);
    my ($line, @data);
    push @data, $line while ($dbh->pg_getcopydata($line) // -1) >= 0;
    return $self->outcome($dbh, 0) if $dbh->err;
    if ($sql =~ /FORMAT binary/) {
        # the header of 19 bytes comes with the first row, whichever that is
        Encode::_utf8_off($_) for @data;
        substr($data[0], 0, 19, '') if @data;
    }
    return $self->outcome($dbh, 1, scalar @data, \@data);
}

# Runs a statement on both sides and compares. Options:
#   ordered   the order of the result is determined: compare it too
#   bind      sets of parameters: extended protocol
#   copy_in   lines for COPY FROM STDIN
#   copy_out  the statement is a COPY TO STDOUT
#   either    two violations are possible: any two SQLSTATEs of classes 21 to 23 are the same
#   state_only  compare nothing but the SQLSTATE
# Returns the SQLSTATE.
sub run {
    my ($self, $kind, $sql, %o) = @_;
    $self->{number}++;
    $self->{count}{$kind}++;
    push @{ $self->{history} }, [ $self->{number}, $kind, $sql ];
    shift @{ $self->{history} } if @{ $self->{history} } > 40;
    $self->{parked} = [] unless $self->{in_tx};
    my @out;
    for my $side (0, 1) {
        my $dbh  = $self->{dbh}[$side];
        my $text = $self->text_for($side, $sql);
        my $x =
              $o{bind}     ? $self->exec_bind($dbh, $text, $o{bind})
            : $o{copy_in}  ? $self->exec_copy_in($dbh, $text, $o{copy_in})
            : $o{copy_out} ? $self->exec_copy_out($dbh, $text)
            :                $self->exec_text($dbh, $text);
        $x->{tx} = $self->{in_tx} || $x->{state} ne '00000' ? $dbh->ping : 1;
        push @out, $x;
    }
    my ($t, $h) = @out;
    $self->{last_rows} = $h->{rows};
    $self->{last_data} = $h->{data};
    if ($self->{verbose}) {
        printf "%d [%s] %s\n    -> %s %s\n", $self->{number}, $kind, $self->{verbose} > 1 ? $sql : substr($sql, 0, 400), $t->{state}, $t->{rows} // $t->{message};
    }
    if ($h->{state} ne '00000') {
        $self->{errors}{$kind}++;
        $self->{states}{ $h->{state} }++;
    }

    my $why;
    for ($t, $h) {
        $why = "an error that must never be seen ($_->{state})" if $_->{state} =~ /^(XX|08|57|58|53|none|S8|22000|0A)/;
    }
    if (!$why && $t->{state} ne $h->{state}) {
        $why = 'different SQLSTATE' unless $o{either} && $t->{state} =~ /^2[123]/ && $h->{state} =~ /^2[123]/;
    }
    $why ||= 'different state of the transaction' if $t->{tx} != $h->{tx};
    if (!$why && $t->{state} eq '00000' && !$o{state_only}) {
        $why = 'different number of rows' if $t->{rows} != $h->{rows};
        if (!$why && $t->{data}) {
            for ($t, $h) {
                $_->{data} = [ sort @{ $_->{data} } ] unless $o{ordered};
            }
            $why = 'different rows' if join("\x{1e}", @{ $t->{data} }) ne join("\x{1e}", @{ $h->{data} });
        }
    }
    $self->difference($why, $sql, $t, $h, %o) if $why;
    return $h->{state};
}

sub show {
    my ($row) = @_;
    $row = substr($row, 0, 600) . '...' if length $row > 600;
    $row =~ s/\x{1f}/ | /g;
    return $row;
}

sub difference {
    my ($self, $why, $sql, $t, $h, %o) = @_;
    my $seed = $self->{seed};
    print "\nrandom: DIFFERENCE: $why\n  seed $seed, statement number $self->{number}\n";
    print "  the statements before it:\n";
    my @hist = @{ $self->{history} };
    pop @hist;
    for (@hist > 15 ? @hist[ -15 .. -1 ] : @hist) {
        my ($n, $k, $s) = @$_;
        $s = substr($s, 0, 300) . '...' if length $s > 300;
        $s =~ s/\n/\\n/g;
        print "    $n [$k] $s\n";
    }
    print "  the statement:\n", $self->text_for(0, $sql), "\n";
    print "  parameters: ", join('; ', map { '(' . join(', ', map { defined $_ ? $_ : 'NULL' } @$_) . ')' } @{ $o{bind} }), "\n" if $o{bind};
    print "  lines copied:\n", @{ $o{copy_in} } if $o{copy_in};
    for ([ t => $t ], [ h => $h ]) {
        my ($n, $x) = @$_;
        print "  on $n: SQLSTATE $x->{state}, rows " . ($x->{rows} // '-') . ", transaction status " . ($x->{tx} // '-') . ($x->{message} ? ", $x->{message}" : ''), "\n";
    }
    if ($t->{data} && $h->{data}) {
        my %n;
        $n{$_}++ for @{ $t->{data} };
        $n{$_}-- for @{ $h->{data} };
        for my $side ([ 'only on t', 1 ], [ 'only on h', -1 ]) {
            my @rows = grep { $n{$_} * $side->[1] > 0 } sort keys %n;
            printf "  %s: %d different rows%s\n", $side->[0], scalar @rows, @rows > 10 ? ', the first 10:' : '';
            print '    ', abs($n{$_}), ' x ', show($_), "\n" for grep { defined } @rows[ 0 .. 9 ];
        }
    }
    print "  to see it again: --seed=$seed --statements=" . ($self->{number} + 1) . " with the same --am and settings\n";
    exit 1;
}

# A statement on t alone that must succeed; not part of the comparison
sub on_t {
    my ($self, $sql) = @_;
    print "  on t: $sql\n" if $self->{verbose};
    my $x = $self->exec_text($self->t, $self->text_for(0, $sql));
    $self->difference("a statement on t alone failed", $sql, $x, { state => 'not run' }) if $x->{state} ne '00000';
    return $x->{data};
}

1;
