# A full disk during a load is error 53100 and nothing else: the table is as before, and works again once there is space.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use CustomerSegments;

# A small file system for the server alone: in a mount namespace, with a user of its own within, so that nobody needs to
# be root.
my $dir = PostgreSQL::Test::Utils::tempdir();
mkdir "$dir/small";
my ($uid, $gid) = ($>, $) + 0);
my $mount = "mount -t tmpfs -o size=24m,mode=0700 none $dir/small";
my @inside = ('unshare', '--user', '--mount', '--map-root-user', 'sh', '-c');
my $as_self = "exec unshare --user --map-user=$uid --map-group=$gid";
if (system("@inside[0 .. 3] sh -c '$mount && $as_self test -w $dir/small' >/dev/null 2>&1") != 0) {
    plan skip_all => 'a small file system: this user can mount none, not even in a namespace of its own';
}

my $node = new_cluster('full', start => 0, conf => "autovacuum = off\nwal_level = replica\n");
sub start_inside {
    my $command = join ' ', $node->config_data('--bindir') . '/pg_ctl', '-w', '-D', $node->data_dir, '-l', $node->logfile, 'start';
    local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port);
    is(system(@inside, "$mount && mkdir -m 700 $dir/small/space && $as_self $command >/dev/null"), 0, 'started');
    $node->_update_pid(1);
}
start_inside();
prepare($node);
$node->safe_psql('postgres', "CREATE TABLESPACE small LOCATION '$dir/small/space'");
$node->safe_psql('postgres', 'ALTER TABLE s SET TABLESPACE small; CREATE TABLE kept (LIKE twin) USING customer_segmentation TABLESPACE small');
$node->safe_psql('postgres', load(1, $_, 1, 3000)) for 0 .. 5;
sound($node, 'before');

# Leaves so many kilobytes; 0 takes the ballast away.
sub leave {
    my ($kb) = @_;
    my $full = $kb ? "free=\$(df -k --output=avail $dir/small | tail -n 1); head -c \$(( (free - $kb) * 1024 )) /dev/zero > $dir/small/ballast" : 'true';
    $node->safe_psql('postgres', "COPY (SELECT 1) TO PROGRAM 'rm -f $dir/small/ballast; $full'");
}

my %statement = (
    'INSERT'  => 'INSERT INTO s SELECT r.* FROM generate_series(100, 104) d, test_rows(2, d, d * 30000, 20000) r',
    'INSERT through a small buffer' => q{SET customer_segmentation.write_buffer = '1MB'; INSERT INTO s }
        . 'SELECT r.* FROM generate_series(100, 107) d, test_rows(2, d, 200000 + d * 3000, 20000) r ORDER BY md5(r.customer_identity || d)',
    'UPDATE'  => 'BEGIN; UPDATE s SET total_revenue = total_revenue + hashtext(customer_identity) / 1000.0, '
        . 'num_of_orders = hashtext(customer_identity || segment_instance_id); COMMIT',
    'VACUUM FULL' => 'VACUUM FULL s',
    'many small transactions' => join('; ', map { "INSERT INTO kept SELECT * FROM test_rows(7, $_, $_ * 5000, 3000)" } 1 .. 60));
for my $kb (64, 32, 8) {
    for my $name (sort keys %statement) {
        leave($kb);
        like(error_of($node, $statement{$name}), qr/^53100 /, "$name with $kb kB left");
        sound($node, "$name with $kb kB left: as before");
        is($node->safe_psql('postgres', q{SELECT * FROM customer_segmentation.verify('kept')}), '', "$name with $kb kB left: another table");
        leave(0);
        $node->safe_psql('postgres', 'TRUNCATE kept; VACUUM FULL s');
    }
    $node->safe_psql('postgres', load(1, 10 + $kb, 1, 3000) . load(3, 10 + $kb, 1 + 1000 * $kb, 2000));
    sound($node, "works again with space ($kb)");
}

# A crash while it is full.
leave(8);
like(error_of($node, $statement{INSERT}), qr/^53100 /, 'full once more');
leave(0);
$node->safe_psql('postgres', 'ALTER TABLE s SET TABLESPACE pg_default; DROP TABLE kept; DROP TABLESPACE small');
sound($node, 'moved away');
$node->stop('immediate');
$node->start;
sound($node, 'recovered');
$node->safe_psql('postgres', load(4, 1, 1, 3000));
sound($node, 'further rows');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|terminated by signal/, 'nothing crashed');
$node->stop;
done_testing();
