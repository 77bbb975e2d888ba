# pg_cron calls run_due_segments, in both of its ways: as a client, and in a background worker. It does so as a role that
# may do nothing else.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use CustomerSegments;

my %node = map { $_ => new_cluster("cron_$_", start => 0) } 'client', 'worker';
my $dir  = $node{client}->config_data('--sharedir');
if (!-e "$dir/extension/pg_cron.control") {
    plan skip_all => 'pg_cron is not installed for this PostgreSQL (Debian: postgresql-NN-cron)';
}

for my $how (sort keys %node) {
    my $node = $node{$how};
    $node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_cron'\ncron.database_name = 'postgres'\ncron.host = '"
            . $node->host . "'\n" . ($how eq 'worker' ? "cron.use_background_workers = on\nmax_worker_processes = 20\n" : ''));
    $node->start;
    $node->safe_psql('postgres', q{
CREATE EXTENSION pg_cron;
CREATE EXTENSION customer_segmentation;
CREATE ROLE shop LOGIN;
CREATE ROLE scheduler LOGIN;
GRANT INSERT ON customer_segmentation_table TO shop;
GRANT EXECUTE ON PROCEDURE customer_segmentation.run_due_segments TO scheduler;
GRANT USAGE ON SCHEMA cron TO scheduler;
CREATE TABLE orders AS SELECT g AS customer_id FROM generate_series(1, 1000) g;
ALTER TABLE orders OWNER TO shop;
SET ROLE shop;
SELECT customer_segmentation.create_segment('Buyers', 'SELECT customer_id FROM orders', segment_id => lpad('a', 24, '0'));
SELECT customer_segmentation.create_segment('Broken', 'SELECT 1 / (customer_id - 7) FROM orders', segment_id => lpad('b', 24, '0'));
SELECT customer_segmentation.create_segment('Hourly', 'SELECT customer_id FROM orders', segment_id => lpad('c', 24, '0'), schedule => 'every_hour');
RESET ROLE;
SET ROLE scheduler;
SELECT cron.schedule('segments', '* * * * *', 'CALL customer_segmentation.run_due_segments()');
});
}

for my $how (sort keys %node) {
    my $node = $node{$how};
    ok($node->poll_query_until('postgres', q{SELECT count(*) >= 1 FROM cron.job_run_details WHERE end_time IS NOT NULL}), "$how: the job has run");
    my $details = $node->safe_psql('postgres', q{SELECT status, return_message FROM cron.job_run_details WHERE end_time IS NOT NULL ORDER BY runid LIMIT 1});
    like($details, qr/^succeeded/, "$how: and succeeded");
    is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT ltrim(segment_id, '0') || ' ' || kind || ' ' || status || ' ' || coalesce(sqlstate, '-') || ' ' || run_by, ', ')
		FROM customer_segmentation.segment_runs}),
        'a scheduled succeeded - scheduler, b scheduled failed 22012 scheduler, c scheduled succeeded - scheduler', "$how: what is due has been run") or diag $details;
    is($node->safe_psql('postgres', q{SELECT count(*), sum(num_of_customers) FROM customer_segmentation.segment_instances}), '2|2000', "$how: and is stored");
    is($node->safe_psql('postgres', q{SELECT count(*) FROM customer_segmentation.segment_health WHERE overdue AND NOT failing}), 0, "$how: nothing is overdue but what fails");
    $node->stop;
}
done_testing();
