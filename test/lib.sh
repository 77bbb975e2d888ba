# shellcheck shell=bash
# lib.sh
#    What the command-line entry points share: packages, a private build, a throw-away server.
#
# Nothing is built in the checkout and nothing is installed into the system's PostgreSQL: the tree is copied into a
# work directory, and the extension is built there and installed into a private image of the PostgreSQL installation
# (its binaries copied, the rest linked; PostgreSQL finds its files relative to its binaries). So an ordinary user
# needs no rights, the checkout stays clean, and several runs don't disturb each other. Servers refuse to run as
# root, so root's servers run as user postgres, to whom the work directory belongs.
#
# Use:
#   source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
#   cs_need build [core fuzz format tap random cron roaring symbols debootstrap]  install or name what is missing, a server too
#   cs_find_postgres           sets PG_CONFIG, PG_MAJOR; installs a server where there is none
#   cs_workdir                 sets WORK (removed on exit), copies the tree to $WORK/tree
#   cs_build [WERROR=1 …]      sets PG_CONFIG and PG_BIN to the private image; builds, installs
#   cs_server_start [-o name=value …]   sets PGHOST, PGPORT, PGUSER, PGDATABASE for the clients
#   cs_as_server command …     runs a command as the user that owns work directory and server
#   cs_say, cs_die, cs_ticker  progress and failure

CS_SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
CS_OLDEST=15
WORK=
CS_SERVERS=()
CS_KEEP=0
CS_SERVER_USER=

unset PGHOST PGHOSTADDR PGPORT PGUSER PGPASSWORD PGPASSFILE PGDATABASE PGDATA PGOPTIONS PGSERVICE PGSERVICEFILE \
	PGSSLMODE PGAPPNAME PGCLIENTENCODING PGTZ PGDATESTYLE MAKEFLAGS MAKELEVEL MFLAGS
export LC_ALL=C.UTF-8 PSQLRC=/dev/null

cs_say() { printf '%s\n' "$*" >&2; }

# Says every 15 seconds that something is still going on: cs_ticker what … cs_ticker_stop.
CS_TICKER=
cs_ticker() {
	local start=$SECONDS
	cs_ticker_stop
	(
		trap - EXIT INT TERM HUP
		while sleep 15 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
			printf '  … %s, %s s\n' "$1" "$((SECONDS - start))" >&2
		done
	) &
	CS_TICKER=$!
}

cs_ticker_stop() {
	if [ -n "$CS_TICKER" ]; then
		kill "$CS_TICKER" 2>/dev/null || true
		wait "$CS_TICKER" 2>/dev/null || true
		CS_TICKER=
	fi
}

cs_die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# ---- packages -----------------------------------------------------------------------------------------------

CS_APT_UPDATED=0

# How this user may run apt-get: prints a prefix, or fails.
cs_root_prefix() {
	if [ "$(id -u)" = 0 ]; then
		echo env
	elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
		echo 'sudo -n env'
	else
		return 1
	fi
}

cs_apt_update() {
	local prefix log
	if [ "$CS_APT_UPDATED" = 1 ] || ! command -v apt-get >/dev/null || ! prefix=$(cs_root_prefix); then
		return 0
	fi
	log=$(mktemp)
	cs_say "Updating the package lists"
	# shellcheck disable=SC2086 # a prefix of several words
	if ! $prefix DEBIAN_FRONTEND=noninteractive apt-get update >"$log" 2>&1; then
		tail -n 20 "$log" >&2
		cs_say "apt-get update failed; going on with the lists as they are"
	fi
	rm -f "$log"
	CS_APT_UPDATED=1
}

# Installs Debian packages, or names them and stops with 2.
cs_install() {
	local prefix log
	if ! command -v apt-get >/dev/null || ! prefix=$(cs_root_prefix); then
		cs_say "${0##*/}: missing here, and this user can't install them: $*"
		if command -v apt-get >/dev/null; then
			cs_say "As root: apt-get install $*"
		else
			cs_say "The names are Debian's."
		fi
		exit 2
	fi
	cs_apt_update
	log=$(mktemp)
	cs_say "Installing packages: $*"
	# shellcheck disable=SC2086
	if ! $prefix DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "$@" >"$log" 2>&1; then
		tail -n 40 "$log" >&2
		rm -f "$log"
		cs_say "${0##*/}: could not install: $*"
		exit 2
	fi
	rm -f "$log"
}

cs_has_header() { printf '#include <%s>\n' "$1" | g++ -E -x c++ - >/dev/null 2>&1; }

cs_has_fuzzer() {
	local out rc=0
	command -v clang++ >/dev/null || return 1
	out=$(mktemp)
	printf '#include <cstddef>\n#include <cstdint>\nextern "C" int LLVMFuzzerTestOneInput(const uint8_t *, size_t) { return 0; }\n' |
		clang++ -fsanitize=fuzzer,address,undefined -x c++ - -o "$out" >/dev/null 2>&1 || rc=1
	rm -f "$out"
	return $rc
}

# The first Boost with flat maps is 1.81; bookworm has it beside its default, later releases have a newer default.
cs_boost_package() {
	if command -v apt-cache >/dev/null && apt-cache show libboost1.81-dev >/dev/null 2>&1; then
		echo libboost1.81-dev
	else
		echo libboost-dev
	fi
}

# An extension for the server that cs_find_postgres found, where there is a package of it: name, end of the package's.
cs_missing_extension() {
	if ! [ -e "$("$PG_CONFIG" --sharedir)/extension/$1.control" ] && command -v apt-cache >/dev/null &&
		apt-cache show "postgresql-$PG_MAJOR-$2" >/dev/null 2>&1; then
		echo "postgresql-$PG_MAJOR-$2"
	fi
}

# The Debian packages for what a purpose lacks on this machine, one a line.
cs_missing() {
	case $1 in
	build)
		command -v make >/dev/null || echo make
		command -v gcc >/dev/null || echo gcc
		command -v g++ >/dev/null || echo g++
		command -v perl >/dev/null || echo perl
		cs_has_header zstd.h || echo libzstd-dev
		cs_has_header xxhash.h || echo libxxhash-dev
		cs_has_header boost/unordered/unordered_flat_map.hpp || cs_boost_package
		# included by some of the server's headers
		cs_has_header unicode/ucol.h || echo libicu-dev
		;;
	core) cs_has_header gtest/gtest.h || echo libgtest-dev ;;
	fuzz)
		if ! cs_has_fuzzer; then
			echo clang
			if ! command -v apt-cache >/dev/null || apt-cache show libclang-rt-dev >/dev/null 2>&1; then
				echo libclang-rt-dev
			fi
		fi
		;;
	format) command -v clang-format >/dev/null || echo clang-format ;;
	tap)
		command -v prove >/dev/null || echo perl
		perl -MIPC::Run -e 1 2>/dev/null || echo libipc-run-perl
		;;
	random)
		perl -MDBI -e 1 2>/dev/null || echo libdbi-perl
		perl -MDBD::Pg -e 1 2>/dev/null || echo libdbd-pg-perl
		;;
	postgres) [ -n "${PG_CONFIG:-}" ] || [ -n "$(cs_pg_installed)" ] || cs_postgres_packages ;;
	debootstrap) command -v debootstrap >/dev/null || echo debootstrap ;;
	cron) cs_missing_extension pg_cron cron ;;
	roaring) cs_missing_extension roaringbitmap roaringbitmap ;;
	symbols) command -v nm >/dev/null || echo binutils ;;
	*) cs_die "cs_missing: unknown purpose $1" ;;
	esac
}

# cs_need purpose…: a server's packages are among what is missing, so that all is named at once.
cs_need() {
	local pass
	local -a packages=() purposes=("$@")
	[ "$*" = debootstrap ] || purposes+=(postgres)
	for pass in first known; do
		mapfile -t packages < <(for purpose in "${purposes[@]}"; do cs_missing "$purpose"; done | awk '!seen[$0]++')
		[ "${#packages[@]}" -gt 0 ] || return 0
		# Which package serves may depend on the lists, which a fresh machine does not have.
		[ "$pass" != first ] || cs_apt_update
	done
	cs_install "${packages[@]}"
}

# ---- PostgreSQL ---------------------------------------------------------------------------------------------

# Is this pg_config one of a complete, supported installation (server and what extensions need to build)?
cs_pg_complete() {
	local config=$1 major
	[ -x "$config" ] || return 1
	major=$("$config" --version 2>/dev/null | sed -n 's/^PostgreSQL \([0-9]*\).*/\1/p')
	[ -n "$major" ] && [ "$major" -ge "$CS_OLDEST" ] &&
		[ -x "$("$config" --bindir)/postgres" ] && [ -x "$("$config" --bindir)/initdb" ] &&
		[ -e "$("$config" --pgxs)" ] && [ -e "$("$config" --includedir-server)/postgres.h" ]
}

# The pg_config of the newest complete installation; nothing if there is none.
cs_pg_installed() {
	local config
	for config in $(printf '%s\n' /usr/lib/postgresql/*/bin/pg_config | sort -rV) "$(command -v pg_config || true)"; do
		if cs_pg_complete "$config"; then
			printf '%s\n' "$config"
			return 0
		fi
	done
}

cs_find_postgres() {
	local config
	if [ -n "${PG_CONFIG:-}" ]; then
		config=$(command -v "$PG_CONFIG") || cs_die "PG_CONFIG: no such program: $PG_CONFIG"
		cs_pg_complete "$config" ||
			cs_die "PG_CONFIG=$config is not PostgreSQL $CS_OLDEST or later with server and development files"
	else
		cs_need
		config=$(cs_pg_installed)
		[ -n "$config" ] || cs_die "found no PostgreSQL $CS_OLDEST or later with server and development files"
	fi
	PG_CONFIG=$config
	PG_MAJOR=$("$config" --version | sed -n 's/^PostgreSQL \([0-9]*\).*/\1/p')
	PG_BIN=$("$config" --bindir)
	export PG_CONFIG PG_MAJOR PG_BIN
}

# The packages of a server that lacks only the development files, else of the newest that the distribution offers, one
# a line.
cs_postgres_packages() {
	local dir version=
	for dir in /usr/lib/postgresql/*/bin; do
		if [ -x "$dir/postgres" ]; then
			dir=${dir%/bin}
			if [ "${dir##*/}" -ge "$CS_OLDEST" ]; then
				version=${dir##*/}
			fi
		fi
	done
	[ -n "$version" ] || version=$(cs_offered_postgres)
	if [ -n "$version" ]; then
		printf '%s\n' "postgresql-$version" "postgresql-server-dev-$version"
	else
		# What it offers is not known here: the names that every release has.
		printf '%s\n' postgresql postgresql-server-dev-all
	fi
}

cs_offered_postgres() {
	command -v apt-cache >/dev/null || return 0
	apt-cache --names-only search '^postgresql-server-dev-[0-9]+$' 2>/dev/null |
		sed -n 's/^postgresql-server-dev-\([0-9]*\) .*/\1/p' |
		awk -v oldest="$CS_OLDEST" '$1 >= oldest && $1 > newest { newest = $1 } END { print newest }'
}

# ---- work directory -----------------------------------------------------------------------------------------

cs_as_server() {
	if [ "$(id -u)" = 0 ]; then
		setpriv --reuid="$CS_SERVER_USER" --regid="$(id -g "$CS_SERVER_USER")" --init-groups -- \
			env HOME="$WORK" USER="$CS_SERVER_USER" LOGNAME="$CS_SERVER_USER" TMPDIR="$WORK/tmp" "$@"
	else
		env TMPDIR="$WORK/tmp" "$@"
	fi
}

# Can the server's user reach this directory?
cs_reachable() { (cd / && cs_as_server test -x "$1"); }

cs_workdir() {
	local base
	if [ "$(id -u)" = 0 ]; then
		if id postgres >/dev/null 2>&1; then CS_SERVER_USER=postgres; else CS_SERVER_USER=nobody; fi
	else
		CS_SERVER_USER=$(id -un)
	fi
	base=${TMPDIR:-/tmp}
	cs_reachable "$base" || cs_die "user $CS_SERVER_USER can't enter $base; set TMPDIR to a directory that it can"
	# A socket's path has at most 107 bytes, and tests make sockets in folders of their own.
	[ "${#base}" -le 50 ] || cs_die "the path of TMPDIR is too long for a server's socket: $base"
	WORK=$(mktemp -d "$base/cseg.XXXXXX")
	chmod 755 "$WORK"
	trap cs_cleanup EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	mkdir "$WORK/tree" "$WORK/tmp"
	cs_copy_tree "$WORK/tree"
	if [ "$(id -u)" = 0 ]; then
		chown -R "$CS_SERVER_USER:" "$WORK"
	fi
	cd "$WORK/tree" || exit
}

# The tracked files and the new ones that are not ignored; everything where there is no git.
cs_copy_tree() {
	if git -c safe.directory="$CS_SOURCE" -C "$CS_SOURCE" rev-parse --show-toplevel 2>/dev/null |
		grep -qxF "$CS_SOURCE"; then
		(
			cd "$CS_SOURCE" || exit
			git -c safe.directory="$CS_SOURCE" ls-files -z --cached --others --exclude-standard |
				while IFS= read -r -d '' file; do
					if [ -e "$file" ] || [ -L "$file" ]; then printf '%s\0' "$file"; fi
				done |
				tar -c --null --no-recursion --ignore-failed-read -T - -f -
		) | tar -x --no-same-owner -C "$1" -f -
	else
		tar -c --exclude=./.git --exclude='*.o' --exclude='*.so' --exclude=./test/core/build -C "$CS_SOURCE" -f - . |
			tar -x --no-same-owner -C "$1" -f -
	fi
	chmod -R u+rwX,go+rX "$1"
}

cs_cleanup() {
	local status=$? dir
	trap - EXIT
	trap '' INT TERM HUP
	cd /
	cs_ticker_stop
	if [ "$CS_KEEP" = 1 ]; then
		exit $status
	fi
	for dir in "${CS_SERVERS[@]}"; do
		cs_server_stop "$dir" immediate
	done
	case $WORK in
	*/cseg.??????) rm -rf --one-file-system "$WORK" ;;
	esac
	exit $status
}

# ---- build --------------------------------------------------------------------------------------------------

# The longest folder that contains all the arguments.
cs_common_folder() {
	local common=$1 path
	for path; do
		while [ "${path#"$common"/}" = "$path" ]; do
			common=${common%/*}
			[ -n "$common" ] || break 2
		done
	done
	printf '%s' "$common"
}

# Makes the private image of the PostgreSQL installation and points PG_CONFIG and PG_BIN there.
cs_private_postgres() {
	local image=$WORK/pg bindir sharedir pkglibdir includedir server common dir place
	bindir=$("$PG_CONFIG" --bindir)
	sharedir=$("$PG_CONFIG" --sharedir)
	pkglibdir=$("$PG_CONFIG" --pkglibdir)
	includedir=$("$PG_CONFIG" --includedir)
	server=$("$PG_CONFIG" --includedir-server)
	common=$(cs_common_folder "$bindir" "$sharedir" "$pkglibdir" "$includedir" "$server")
	mkdir -p "$image${bindir#"$common"}" "$image${sharedir#"$common"}" "$image${pkglibdir#"$common"}"
	cp -L "$bindir"/* "$image${bindir#"$common"}/"
	cp -rs "$sharedir"/. "$image${sharedir#"$common"}/"
	cp -rs "$pkglibdir"/. "$image${pkglibdir#"$common"}/"
	# Headers and further libraries are only read.
	for dir in "$includedir" "$server" "$("$PG_CONFIG" --pkgincludedir)" "$("$PG_CONFIG" --libdir)"; do
		place=$image${dir#"$common"}
		if [ "${dir#"$common"/}" != "$dir" ] && ! [ -e "$place" ]; then
			mkdir -p "${place%/*}"
			ln -s "$dir" "$place"
		fi
	done
	# An older build of the extension that is installed must not shine through.
	rm -f "$image${sharedir#"$common"}"/extension/customer_segmentation* \
		"$image${pkglibdir#"$common"}"/customer_segmentation.so
	if [ "$(id -u)" = 0 ]; then
		chown -R -h "$CS_SERVER_USER:" "$image"
	fi
	PG_BIN=$image${bindir#"$common"}
	PG_CONFIG=$PG_BIN/pg_config
	if [ "$(cs_as_server "$PG_CONFIG" --pkglibdir)" != "$image${pkglibdir#"$common"}" ] ||
		[ "$(cs_as_server "$PG_CONFIG" --sharedir)" != "$image${sharedir#"$common"}" ]; then
		cs_die "this PostgreSQL can't be run from another place: $bindir"
	fi
	export PG_CONFIG PG_BIN PATH="$PG_BIN:$PATH"
}

# Builds and installs. Arguments go to make. The log is $WORK/build.log; a failure shows its end and returns 1.
cs_build() {
	cs_say "Building for PostgreSQL $PG_MAJOR in a private copy"
	cs_private_postgres
	cs_ticker building
	if ! (cd "$WORK/tree" && cs_as_server make -j"$(nproc)" PG_CONFIG="$PG_CONFIG" "$@" all) >"$WORK/build.log" 2>&1 ||
		! (cd "$WORK/tree" && cs_as_server make PG_CONFIG="$PG_CONFIG" "$@" install) >>"$WORK/build.log" 2>&1; then
		cs_ticker_stop
		grep -nE 'error|Error' "$WORK/build.log" | head -n 20 >&2 || true
		tail -n 20 "$WORK/build.log" >&2
		return 1
	fi
	cs_ticker_stop
}

# ---- server -------------------------------------------------------------------------------------------------

# cs_server_start [-o name=value …]: a new cluster that listens on a socket in $WORK only.
cs_server_start() {
	local data setting
	local -a settings=()
	while [ "${1:-}" = -o ]; do
		settings+=("$2")
		shift 2
	done
	data=$(cs_as_server mktemp -d "$WORK/d.XXXXXX")
	if ! cs_as_server "$PG_BIN/initdb" -D "$data" -A trust -U postgres -E UTF8 --locale=C.UTF-8 -N >"$WORK/initdb.log" 2>&1; then
		tail -n 20 "$WORK/initdb.log" >&2
		cs_die "initdb failed"
	fi
	{
		echo "listen_addresses = ''"
		echo "unix_socket_directories = '$WORK'"
		echo "log_line_prefix = '%m [%p] %q%a '"
		for setting in "${settings[@]}"; do
			echo "${setting%%=*} = '${setting#*=}'"
		done
	} >>"$data/postgresql.conf"
	export PGHOST=$WORK PGPORT=5432 PGUSER=postgres PGDATABASE=postgres
	CS_SERVERS+=("$data")
	if ! cs_as_server "$PG_BIN/pg_ctl" -D "$data" -l "$data/server.log" -w -t 60 start >"$WORK/pg_ctl.log" 2>&1; then
		cat "$WORK/pg_ctl.log" "$data/server.log" 2>/dev/null | tail -n 20 >&2
		cs_die "the server did not start"
	fi
	# shellcheck disable=SC2034 # for the caller
	CS_DATA=$data
}

cs_server_stop() {
	local data=$1 mode=${2:-fast}
	if [ -e "$data/postmaster.pid" ]; then
		(cd / && cs_as_server "$PG_BIN/pg_ctl" -D "$data" -m "$mode" -w -t 60 stop) >/dev/null 2>&1 || true
	fi
}
