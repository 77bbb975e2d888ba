# customer_segmentation: a table access method for the history of customer segments.
#
#   make; make install; make installcheck        as with every PGXS extension (PG_CONFIG=… picks the server)
#   make WERROR=1                                warnings are errors
#   make core-check                              unit tests of the C++ core, under ASan and UBSan
#   make fuzz FUZZ_SECONDS=60                    fuzz targets of the core (needs clang)
#   make bench                                   the benchmark
#   make format-check layer-check symbol-check   what a review should not have to look for
#
# ./test/check runs all tests in a private copy with a private server.

EXTENSION = customer_segmentation
MODULE_big = customer_segmentation
PGFILEDESC = "customer_segmentation - table access method for customer segments"

# The install script is made of parts, in this order; version 0.9 had the first one alone.
INSTALL_FIRST = sql/install/relation.sql
INSTALL_SINCE_0_9 = \
	sql/install/care.sql \
	sql/install/moment.sql \
	sql/install/segments.sql \
	sql/install/rules.sql \
	sql/install/templates.sql \
	sql/install/keep.sql \
	sql/install/answers.sql \
	sql/install/latest.sql \
	sql/install/sets.sql

DATA_built = sql/customer_segmentation--1.0.sql \
	sql/customer_segmentation--0.9--1.0.sql

# ---- objects: every source file is named here; test/layer-check compares the list with the folders ----------

OBJS_C = \
	src/module.o \
	src/am/changes.o \
	src/am/columns.o \
	src/am/dml.o \
	src/am/flush.o \
	src/am/handler.o \
	src/am/measure.o \
	src/am/reader.o \
	src/am/refusals.o \
	src/am/repack.o \
	src/am/rewrite.o \
	src/am/rowlog.o \
	src/am/scan.o \
	src/am/slot.o \
	src/am/summary.o \
	src/am/write.o \
	src/plan/agg_exec.o \
	src/plan/agg_explain.o \
	src/plan/agg_groups.o \
	src/plan/agg_memo.o \
	src/plan/agg_parallel.o \
	src/plan/agg_paths.o \
	src/plan/agg_plan.o \
	src/plan/agg_stretch.o \
	src/plan/agg_tests.o \
	src/plan/agg_transport.o \
	src/plan/clauses.o \
	src/plan/costs.o \
	src/plan/estimate.o \
	src/plan/explain.o \
	src/plan/instances.o \
	src/plan/keys.o \
	src/plan/order.o \
	src/plan/order_paths.o \
	src/plan/paths.o \
	src/plan/prune.o \
	src/plan/safety.o \
	src/plan/scan.o \
	src/plan/stats.o \
	src/sqlfn/answers_changes.o \
	src/sqlfn/answers_dynamics.o \
	src/sqlfn/answers_overlap.o \
	src/sqlfn/answers_performance.o \
	src/sqlfn/answers_table.o \
	src/sqlfn/care.o \
	src/sqlfn/erase.o \
	src/sqlfn/exchange.o \
	src/sqlfn/exchange_read.o \
	src/sqlfn/moment.o \
	src/sqlfn/newest.o \
	src/sqlfn/open.o \
	src/sqlfn/rules.o \
	src/sqlfn/rules_source.o \
	src/sqlfn/segment_backfill.o \
	src/sqlfn/segment_catalog.o \
	src/sqlfn/segment_define.o \
	src/sqlfn/segment_definition.o \
	src/sqlfn/segment_due.o \
	src/sqlfn/segment_instances.o \
	src/sqlfn/segment_mark.o \
	src/sqlfn/segment_retention.o \
	src/sqlfn/segment_run.o \
	src/sqlfn/segment_schedule.o \
	src/sqlfn/segment_store.o \
	src/sqlfn/segment_views.o \
	src/sqlfn/set_algebra.o \
	src/sqlfn/set_members.o \
	src/sqlfn/set_type.o \
	src/sqlfn/set_value.o \
	src/sqlfn/verify.o \
	src/store/boundary.o \
	src/store/cache.o \
	src/store/cell.o \
	src/store/cells.o \
	src/store/claim.o \
	src/store/dict.o \
	src/store/lookup.o \
	src/store/pages.o \
	src/store/record.o \
	src/store/rewrite.o \
	src/store/sort.o \
	src/store/view.o \
	src/store/views.o \
	src/store/write.o

OBJS_CXX = \
	src/core/batch.o \
	src/core/cell.o \
	src/core/cell_codec.o \
	src/core/checksum.o \
	src/core/cursor.o \
	src/core/dictionary.o \
	src/core/dictionary_codec.o \
	src/core/member_bits.o \
	src/core/ordinal_set.o \
	src/core/roaring.o \
	src/core/rules.o \
	src/core/rules_json.o \
	src/core/rules_parse.o \
	src/core/rules_sql.o \
	src/core/rules_words.o \
	src/core/sift.o \
	src/core/stretches.o \
	src/core/totals.o

OBJS = $(OBJS_C) $(OBJS_CXX)

# ---- flags --------------------------------------------------------------------------------------------------

# The server's headers are not ours to correct: they come in as system headers. Callbacks have to take what the
# server passes, so parameters may go unused in the C files.
PG_CPPFLAGS = -I$(srcdir)/src -isystem $(includedir_server) -MMD -MP
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter $(WARNINGS_AS_ERRORS)
PG_CXXFLAGS = -std=c++20 -Wall -Wextra -fvisibility=hidden -fvisibility-inlines-hidden -fno-strict-aliasing \
	$(WARNINGS_AS_ERRORS)
SHLIB_LINK = -lstdc++ -lzstd -Wl,-Bsymbolic

ifeq ($(WERROR),1)
WARNINGS_AS_ERRORS = -Werror
endif

# PostgreSQL loads modules with global symbol visibility, so only what it calls may be seen. The list of those
# symbols follows from the install scripts.
SHLIB_EXPORTS = src/exports.txt

# Bitcode would serve to inline SQL functions into JIT code. It needs clang at build time, and the core is not
# inlined anyway.
override with_llvm := no

# ---- tests --------------------------------------------------------------------------------------------------

REGRESS = $(shell sed -n 's/^test://p' $(srcdir)/test/regress_schedule)
ISOLATION = $(patsubst $(srcdir)/test/isolation/specs/%.spec,%,$(sort $(wildcard $(srcdir)/test/isolation/specs/*.spec)))
ISOLATION_OPTS = --inputdir=$(srcdir)/test/isolation
ifneq ($(wildcard test/t/*.pl),)
TAP_TESTS = 1
PROVE_TESTS = test/t/*.pl
endif

EXTRA_CLEAN = $(OBJS:.o=.d) src/exports.txt src/exports.list test/core/build

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# From version 16 on the server marks what it calls by itself, so C can be hidden at compile time as well.
ifeq ($(filter 15,$(MAJORVERSION)),)
$(OBJS_C): override CFLAGS += -fvisibility=hidden
endif

$(OBJS): $(firstword $(MAKEFILE_LIST))

-include $(OBJS:.o=.d)

# install-script VERSION-WORDS COMMAND PARTS
define install_script
{ printf '%s\n' '-- customer_segmentation $(1)' \
    '-- complain if script is sourced in psql, rather than via $(2)' \
    '\echo Use "$(2) customer_segmentation$(3)" to load this file. \quit'; \
  for part in $(addprefix $(srcdir)/,$(4)); do echo; cat $$part || exit; done; } >$@.tmp && mv $@.tmp $@
endef

sql/customer_segmentation--1.0.sql: $(INSTALL_FIRST) $(INSTALL_SINCE_0_9) Makefile
	mkdir -p sql
	@$(call install_script,1.0,CREATE EXTENSION,,$(INSTALL_FIRST) $(INSTALL_SINCE_0_9))

sql/customer_segmentation--0.9--1.0.sql: $(INSTALL_SINCE_0_9) Makefile
	mkdir -p sql
	@$(call install_script,0.9 to 1.0,ALTER EXTENSION, UPDATE,$(INSTALL_SINCE_0_9))

src/exports.txt: $(DATA_built) test/symbol-check
	$(srcdir)/test/symbol-check --exports $(DATA_built) >$@

CORE_MAKE = $(MAKE) -C $(srcdir)/test/core
FUZZ_SECONDS ?= 60
CLANG_FORMAT ?= clang-format

.PHONY: core-check fuzz bench format-check layer-check symbol-check

core-check:
	$(CORE_MAKE) check

fuzz:
	$(CORE_MAKE) fuzz FUZZ_SECONDS=$(FUZZ_SECONDS)

bench:
	$(srcdir)/test/bench

format-check:
	find $(srcdir)/src $(srcdir)/test/core -name build -prune -o \
		\( -name '*.[ch]' -o -name '*.[ch]pp' \) -print0 | xargs -0 -r $(CLANG_FORMAT) --dry-run -Werror

layer-check:
	$(srcdir)/test/layer-check

symbol-check: all
	$(srcdir)/test/symbol-check $(shlib)
