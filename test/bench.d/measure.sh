# shellcheck shell=bash
# How test/bench runs statements, takes times and writes rows of its table. Times are milliseconds unless it says so;
# what failed is the word "failed" and the SQLSTATE in place of a number.
# Uses of test/bench: parts, bench_tmp, psql, sides, tables, variables, size, timeout, repeat, failures.
# shellcheck disable=SC2154

progress() {
	printf '%s %s\n' "$(date +%T)" "$*" >&2
}

fail() {
	failures=$((failures + 1))
	printf '%s\n' "  FAILED: $*" >&2
}

now() {
	date +%s.%N
}

seconds_since() {
	awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.3f\n", b - a }'
}

day_file() {
	printf '%s/data/day%03d' "$bench_tmp" "$1"
}

run_sql() {
	PGOPTIONS="-c statement_timeout=$timeout" "$psql" -X -q -A -t -v ON_ERROR_STOP=1 -v VERBOSITY=verbose "$@"
}

# After a crash the server comes back by itself; what follows waits for it.
wait_for_server() {
	for _ in $(seq 600); do
		! "$PG_BIN/pg_isready" -q || return 0
		sleep 0.1
	done
}

bench_settings() {
	run_sql -F ' = ' -c "SELECT name, current_setting(name) FROM pg_settings
		WHERE name IN ('server_version', 'shared_buffers', 'work_mem', 'maintenance_work_mem', 'fsync', 'synchronous_commit',
			'full_page_writes', 'wal_level', 'wal_compression', 'max_wal_size', 'autovacuum', 'jit', 'block_size',
			'max_parallel_workers_per_gather', 'server_encoding', 'default_toast_compression')
		ORDER BY 1" | paste -s -d '|' | sed 's/|/, /g' | fold -s -w 116
}

# A command's success; if it fails, its error is shown and counted, and its SQLSTATE is in measured_error.
measured() {
	local what=$1
	shift
	if "$@" 2>"$bench_tmp/out/errors"; then
		return 0
	fi
	measured_error=$(error_of "$bench_tmp/out/errors")
	fail "$what: $measured_error"
	return 1
}

# "failed" with the SQLSTATE that psql wrote to a file; the text of the error goes to the terminal.
error_of() {
	local state
	grep -v '^LOCATION' "$1" | head -n 4 | cut -c 1-300 >&2
	state=$(grep -oE '(ERROR|FATAL|PANIC):  [0-9A-Z]{5}' "$1" | head -n 1 | awk '{ print $2 }')
	wait_for_server
	echo "failed ${state:-(connection lost)}"
}

median() {
	sort -n | awk '
		/failed/ { bad = $0 }
		{ v[NR] = $1 }
		END { print bad != "" ? bad : NR == 0 ? "failed" : NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

total_size() {
	run_sql -c "SELECT pg_total_relation_size('$1')" || echo failed
}

per_row() { # bytes, rows
	case $1 in
	'' | *failed*) echo "${1:+failed}" ;;
	*) awk -v b="$1" -v n="$2" 'BEGIN { printf "%.3f\n", b / n }' ;;
	esac
}

sum() {
	case "$1$2" in
	*failed*) echo failed ;;
	*) [ -z "$1" ] || awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f\n", a + b }' ;;
	esac
}

relation_exists() {
	[ "$(run_sql -c "SELECT to_regclass('$1') IS NOT NULL")" = t ]
}

function_exists() {
	[ "$(run_sql -c "SELECT count(*) > 0 FROM pg_proc WHERE proname = '$1' AND pronamespace = to_regnamespace('customer_segmentation')")" = t ]
}

# ---- times --------------------------------------------------------------------------------------------------

# The times of a session's statements, one a line. With a side given, also the peak private memory of the backend
# in MB in SIDE.peak; preparation must then write the backend's process id to SIDE.pid.
timed() { # what, preparation, statements, side
	local status=0 watcher=
	if [ -n "${4-}" ]; then
		rm -f "$bench_tmp/out/$4.pid" "$bench_tmp/out/$4.status"
		watch_memory "$4" &
		watcher=$!
	fi
	{
		printf '%s\n' "$2" '\timing on'
		printf '%s\n' "$3"
		printf '%s\n' '\timing off'
		[ -z "${4-}" ] || printf '%s\n' "\\! cp /proc/\$(cat $bench_tmp/out/$4.pid)/status $bench_tmp/out/$4.status"
	} | run_sql 2>"$bench_tmp/out/errors" >"$bench_tmp/out/times" || status=$?
	[ -z "$watcher" ] || wait "$watcher" || true
	if [ "$status" != 0 ]; then
		progress "  failed: $1"
		error_of "$bench_tmp/out/errors"
		return 1
	fi
	sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' "$bench_tmp/out/times"
}

# VmHWM alone would count the pages of shared buffers that the backend touched. So: the largest sample of what is
# private, and, for peaks between samples, VmHWM less all that is shared at the end.
watch_memory() { # side
	local pid='' status=$bench_tmp/out/$1.status sample largest=0
	for _ in $(seq 100); do
		pid=$(cat "$bench_tmp/out/$1.pid" 2>/dev/null || true)
		[ -z "$pid" ] || break
		sleep 0.05
	done
	while [ -n "$pid" ] && [ ! -s "$status" ]; do
		sample=$(awk '/^RssAnon/ { print $2 }' "/proc/$pid/status" 2>/dev/null || true)
		[ -n "$sample" ] || break
		[ "$sample" -le "$largest" ] || largest=$sample
		sleep 0.1
	done
	awk -v largest="$largest" '
		/^VmHWM/ { top = $2 }
		/^Rss(Shmem|File)/ { shared += $2 }
		END { p = top - shared; printf "%.1f\n", (p > largest ? p : largest) / 1024 }' "$status" >"$bench_tmp/out/$1.peak" 2>/dev/null
}

# Makes a session load the module (so that its settings exist), and for "rows" turns answers from metadata off.
prelude() { # table, mode
	cat <<-SQL
		\\o /dev/null
		SELECT count(*) FROM (SELECT FROM $1 LIMIT 0) AS nothing;
	SQL
	[ "$2" != rows ] || cat <<-SQL
		SELECT set_config(name, 'off', false) FROM pg_settings
		 WHERE name LIKE 'customer\\_segmentation.enable\\_%' AND name ~ 'agg|metadata|total';
	SQL
	echo '\o'
}

# How long the server itself took for the last statements of a session, one a line.
server_times() { # file with the backend's process id, how many
	grep -F "[$(cat "$1")]" "$CS_DATA/server.log" | sed -n 's/.*LOG:  duration: \([0-9.]*\) ms$/\1/p' | tail -n "$2"
}

# One side of a query: a warm-up whose answer is kept, then as often as time allows; prints the median of the server's
# own times, and that of the client's. They differ by what it takes to wake a process, up to a twentieth of a millisecond
# where nothing else keeps the processors awake: much for the shortest answers, and the same for every table.
one_side() { # side, table, name, mode
	local text answer=$bench_tmp/out/$1.$3.$4 again
	text=$(cat "$parts/queries/$3.sql")
	{
		prelude "$2" "$4"
		echo "SELECT clock_timestamp() AS started \\gset"
		if [ "$4" = unchecked ]; then
			echo "COPY ($text) TO '/dev/null';"
		else
			printf '%s\n' "\\o $answer" "COPY ($text) TO STDOUT;" '\o'
		fi
		echo "SELECT took < 0.05 AS quick, took < 0.5 AS middling, took < 3 AS slow, took < 8 AS slower FROM
			(SELECT extract(epoch FROM clock_timestamp() - :'started') AS took) AS t \\gset"
		printf '%s\n' "SELECT pg_backend_pid() \\g $bench_tmp/out/pid" 'SET log_duration = on;' '\timing on'
		again="COPY ($text) TO '/dev/null';"
		if [ "$repeat" = 1 ]; then
			echo "$again"
		else
			printf '%s\n' "$again" "$again" '\if :slower' "$again" '\endif' '\if :slow' "$again" "$again" '\endif' \
				'\if :middling' "$again" "$again" "$again" "$again" '\endif' '\if :quick'
			for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do
				echo "$again"
			done
			printf '%s\n' '\endif'
		fi
	} | run_sql "${variables[@]}" -v t="$2" 2>"$bench_tmp/out/errors" >"$bench_tmp/out/times" || {
		error_of "$bench_tmp/out/errors"
		return
	}
	[ "$4" = unchecked ] || LC_ALL=C sort -o "$answer" "$answer"
	sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' "$bench_tmp/out/times" >"$bench_tmp/out/client"
	echo "$(server_times "$bench_tmp/out/pid" "$(wc -l <"$bench_tmp/out/client")" | median)" "$(median <"$bench_tmp/out/client")"
}

query() { # what, name, goal, mode (rows: no answers from metadata; unchecked: no answer is kept), name for ours
	local i name times=() clients=() answers=() count
	progress "${1%, ms}"
	for i in "${!sides[@]}"; do
		name=$2
		[ "${sides[i]}" != ours ] || name=${5:-$2}
		times[i]=$(one_side "${sides[i]}" "${tables[i]}" "$name" "${4-}")
		clients[i]=${times[i]}
		case ${times[i]} in *failed*) ;; *)
			times[i]=${times[i]% *}
			clients[i]=${clients[i]#* }
			;;
		esac
		answers[i]=$bench_tmp/out/${sides[i]}.$name.${4-}
	done
	case "${times[*]}" in *failed*) ;; *)
		if [ "${4-}" != unchecked ]; then
			count=$(wc -l <"${answers[0]}")
			[ "$count" -lt 2 ] || set -- "${1%, ms} ($count rows), ms" "${@:2}"
		fi
		if [ "${4-}" != unchecked ] && [ "${#sides[@]}" = 2 ] && ! cmp -s "${answers[@]}"; then
			fail "$1: the answers differ"
			diff "${answers[@]}" | head -n 6 >&2 || true
			times[1]="differs"
		fi
		;;
	esac
	if [ "${#sides[@]}" = 2 ]; then
		row "$1" "${times[0]}" "${times[1]}" "$3"
		! awk -v t="${times[1]}" 'BEGIN { exit !(t + 0 > 0 && t < 1) }' ||
			row "  by the client's clock" "${clients[0]}" "${clients[1]}" ""
	else
		row "$1" "" "${times[0]}" ""
	fi
}

planning() { # table, how often in one session: the median of all but the first, or the first if it is alone
	local text
	text=$(cat "$parts/queries/point.sql")
	for _ in $(seq "$2"); do
		echo "EXPLAIN (SUMMARY) $text;"
	done | run_sql -v t="$1" 2>"$bench_tmp/out/errors" >"$bench_tmp/out/plans" || {
		error_of "$bench_tmp/out/errors"
		return
	}
	sed -n 's/^Planning Time: \([0-9.]*\) ms/\1/p' "$bench_tmp/out/plans" | tail -n "$(($2 > 1 ? $2 - 1 : 1))" | median
}

# What functions of customer_set take, of sets of five million customers, best of many, in milliseconds of the backend's
# own time: stored ones that lie in shared buffers, in three shapes.
set_rows() {
	local shape what took
	measured "sets of five million" run_sql -F $'\t' -f "$parts/sets.sql" >"$bench_tmp/out/sets" || return 0
	while IFS=$'\t' read -r shape what took; do
		row "$shape: $what, ms" "" "$took" ""
	done <"$bench_tmp/out/sets"
}

# Stores one instance from the staging table: its time, and the kB of WAL that are no full-page images.
store_one() { # table, instance
	local time from
	from=$(run_sql -c "SELECT pg_current_wal_insert_lsn()")
	time=$(timed "$1.store" "SELECT count(*) FROM staging WHERE segment_instance_id = '$2' \\g /dev/null" \
		"INSERT INTO $1 SELECT * FROM staging WHERE segment_instance_id = '$2';") || { echo "$time"; return; }
	echo "$time $(run_sql -c "SELECT round(sum(record_size) / 1000.0, 1) FROM pg_get_wal_stats('$from', pg_current_wal_flush_lsn(), false)")"
}

# Deletes each of the customers in a transaction that is rolled back; what was deleted and what was left is noted.
delete_time() { # table, side
	local victim
	{
		prelude "$1" ""
		echo "BEGIN; DELETE FROM $1 WHERE customer_identity = 'nobody'; ROLLBACK;"
		while read -r victim; do
			cat <<-SQL
				BEGIN;
				\\timing on
				DELETE FROM $1 WHERE customer_identity = '$victim';
				\\timing off
				\\echo deleted $victim :ROW_COUNT
				SELECT 'left', count(*) FROM $1 WHERE customer_identity = '$victim';
				ROLLBACK;
				SELECT 'back', count(*) FROM $1 WHERE customer_identity = '$victim';
			SQL
		done <"$bench_tmp/victims"
	} | run_sql 2>"$bench_tmp/out/errors" >"$bench_tmp/out/times" || {
		error_of "$bench_tmp/out/errors"
		return
	}
	grep -v '^Time' "$bench_tmp/out/times" >"$bench_tmp/out/$2.deleted"
	sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' "$bench_tmp/out/times" | median
}

# ---- the same rows? -----------------------------------------------------------------------------------------

compare() { # a, b, condition, what
	local differ
	differ=$(PGOPTIONS="-c work_mem=1GB" "$psql" -X -q -A -t -v ON_ERROR_STOP=1 -v VERBOSITY=verbose \
		-v a="$1" -v b="$2" -v where="$3" -f "$parts/compare.sql" 2>"$bench_tmp/out/errors") || differ=$(error_of "$bench_tmp/out/errors")
	[ "$differ" = 0 ] || fail "$4: $differ"
	row "$4" "" "$differ" "ours <= 0"
}

same_number() { # a, b
	local a b
	a=$(run_sql -c "SELECT count(*) FROM $1") || true
	b=$(run_sql -c "SELECT count(*) FROM $2") || true
	[ "$a" = "$b" ] || fail "the twins have $a and $b rows"
}

# The totals of a table that was filled day by day against those of the generator.
compare_totals() { # table, side
	run_sql -F $'\t' -c "SELECT segment_instance_id, count(*), sum(num_of_orders), sum(total_revenue)
		FROM $1 GROUP BY 1" | sort >"$bench_tmp/out/$2.totals" || true
	sort "$bench_tmp/totals" | diff -q - "$bench_tmp/out/$2.totals" >/dev/null || fail "$1: the totals differ from the generator's"
}

# ---- the table ----------------------------------------------------------------------------------------------

# Goals: "<= 0.5" and "<= 1/2000" bound ours / heap, "ours <= 15" bounds ours alone.
row() { # what, heap, ours, goal
	printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" >>"$bench_tmp/rows"
	case "$2$3" in *failed*) failures=$((failures + 1)) ;; esac
}

print_table() {
	awk -F '\t' -v size="$size" '
		function number(v) {
			if (v !~ /^-?[0-9.]+$/) return v == "" ? "-" : v
			return v >= 100 || v == int(v) ? sprintf("%.0f", v) : v >= 10 ? sprintf("%.1f", v) : v >= 1 ? sprintf("%.2f", v) : sprintf("%.3f", v)
		}
		function line(what, heap, ours, ratio, goal, reached) {
			printf "%-62s %18s %18s %8s  %-13s %s\n", what, heap, ours, ratio, goal, reached
		}
		BEGIN { line("what", "heap twin", "ours", "ratio", "goal", "reached") }
		{
			plain = $3 ~ /^[0-9.]+$/
			both = plain && $2 ~ /^[0-9.]+$/ && $2 > 0
			r = both ? $3 / $2 : ""
			ratio = !both ? "-" : r > 0 && r < 0.1 ? sprintf("1/%.0f", 1 / r) : sprintf("%.2f", r)
			reached = ""
			if ($4 != "") {
				limit = $4
				sub(/.*<= /, "", limit)
				if (split(limit, part, "/") == 2) limit = part[1] / part[2]
				value = $4 ~ /^ours/ ? $3 : r
				reached = ($4 ~ /^ours/ ? plain : both) ? (value + 0 <= limit + 0 ? "yes" : "no") : $3 ~ /failed|differs/ ? "no" : ""
			}
			line($1, number($2), number($3), ratio, $4, reached)
			if (reached != "") { goals++; good += reached == "yes" }
		}
		END { printf "\n%d of %d goals reached%s\n", good, goals, size == "S" ? "" : " (they are meant for S)" }' "$bench_tmp/rows"
}
