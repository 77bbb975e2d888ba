/*
 * module.c
 *    Magic block, settings and hooks.
 *
 * The library is loaded when a session first opens a table of the access method; nothing needs to be preloaded.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "fmgr.h"
#include "tcop/utility.h"
#include "utils/guc.h"

#include "am/am.h"
#include "compat/compat.h"
#include "plan/agg.h"
#include "plan/plan.h"
#include "plan/stats.h"
#include "sqlfn/moment.h"
#include "sqlfn/rules.h"
#include "sqlfn/segment.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

static ExecutorRun_hook_type previous_run = NULL;
static ExecutorFinish_hook_type previous_finish = NULL;
static ProcessUtility_hook_type previous_utility = NULL;

static const struct config_enum_entry rfm_best_options[] = {
	{"highest", RULES_RFM_HIGHEST, false},
	{"lowest", RULES_RFM_LOWEST, false},
	{NULL, 0, false},
};

/* The statements that are being executed, innermost first. */
typedef struct Running
{
	struct Running *outer;
	QueryDesc *query;
} Running;

static Running *running = NULL;

int
am_executor_depth(void)
{
	int depth = 0;

	for (Running *r = running; r; r = r->outer)
		depth++;
	return depth;
}

/* Others have 0 for it, which is that of the transaction's first command. */
static bool
has_command_id(const QueryDesc *query)
{
	const PlannedStmt *plan = query->plannedstmt;

	return query->operation != CMD_SELECT || plan->hasModifyingCTE || plan->rowMarks != NIL;
}

/* A plain query that calls functions which write does not change rows itself. */
static bool
may_change_rows(const QueryDesc *query)
{
	return has_command_id(query) || (query->dest && query->dest->mydest == DestIntoRel);
}

bool
am_executor_writing(void)
{
	for (Running *r = running; r; r = r->outer)
		if (may_change_rows(r->query))
			return true;
	return false;
}

bool
am_executor_returning(void)
{
	PlannedStmt *plan = running ? running->query->plannedstmt : NULL;

	return plan && (plan->hasReturning || plan->hasModifyingCTE);
}

static void
executor_run(COMPAT_EXECUTOR_RUN_PARAMS)
{
	Running me = {running, queryDesc};

	running = &me;
	PG_TRY();
	{
		if (previous_run)
			previous_run(COMPAT_EXECUTOR_RUN_ARGS);
		else
			standard_ExecutorRun(COMPAT_EXECUTOR_RUN_ARGS);
	}
	PG_FINALLY();
	{
		running = me.outer;
	}
	PG_END_TRY();
}

static void
flush_changes_of(const QueryDesc *query)
{
	if (has_command_id(query))
		am_flush_statement(query->estate->es_output_cid);
	else
		am_trim_memory();
}

/*
 * AFTER triggers fire in the standard function, so buffered rows must be there before it; data-modifying CTEs that
 * nobody reads run to completion in it, so once more after it.
 */
static void
executor_finish(QueryDesc *queryDesc)
{
	Running me = {running, queryDesc};

	flush_changes_of(queryDesc);
	running = &me;
	PG_TRY();
	{
		if (previous_finish)
			previous_finish(queryDesc);
		else
			standard_ExecutorFinish(queryDesc);
	}
	PG_FINALLY();
	{
		running = me.outer;
	}
	PG_END_TRY();
	flush_changes_of(queryDesc);
}

/* COPY without a bulk insert has no other end. */
static void
process_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree, ProcessUtilityContext context,
				ParamListInfo params, QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	bool is_copy = IsA(pstmt->utilityStmt, CopyStmt);

	if (IsA(pstmt->utilityStmt, AlterTableStmt))
		am_check_alter_table((AlterTableStmt *) pstmt->utilityStmt);

	if (previous_utility)
		previous_utility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
	if (is_copy)
		am_flush_statement(InvalidCommandId);
}

static void
define_settings(void)
{
	DefineCustomIntVariable(
		"customer_segmentation.write_buffer", "Memory for rows that a statement has changed and not yet written.",
		"Larger buffers make large loads smaller on disk, since rows of one customer meet in memory.",
		&am_write_buffer_kb, 131072, 1024, MAX_KILOBYTES, PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("customer_segmentation.dictionary_cache",
							"Memory that a session keeps for decoded customer identities between statements.", NULL,
							&store_dictionary_cache_kb, 65536, 64, MAX_KILOBYTES, PGC_USERSET, GUC_UNIT_KB, NULL, NULL,
							NULL);
	DefineCustomIntVariable("customer_segmentation.cell_cache",
							"Memory that a session keeps for decoded cells and metadata of tables between statements.",
							"0 keeps nothing beyond a transaction.", &store_cell_cache_kb, 65536, 0, MAX_KILOBYTES,
							PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomBoolVariable("customer_segmentation.enable_custom_scan",
							 "Lets the planner skip instances and customers by the conditions of a query.", NULL,
							 &plan_enable_custom_scan, true, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("customer_segmentation.enable_statistics",
							 "Lets the planner estimate rows by what is stored, not by the last ANALYZE alone.", NULL,
							 &plan_enable_statistics, true, PGC_USERSET, 0, NULL, NULL, NULL);
	/* A setting, so that parallel workers know it and an abort takes it back. */
	DefineCustomBoolVariable("customer_segmentation.enable_aggregate",
							 "Lets the planner answer aggregates from totals and cells, without rows.", NULL,
							 &plan_enable_aggregate, true, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable(
		"customer_segmentation.as_of", "The moment for which definitions of segments are evaluated; empty for now.",
		"A run sets it for the time that the definition takes. Set it to try a definition by hand.", &moment_setting,
		"", PGC_USERSET, GUC_NOT_IN_SAMPLE, NULL, NULL, NULL);
	DefineCustomIntVariable("customer_segmentation.rfm_buckets", "Number of scores of an RFM property in rules.", NULL,
							&rules_rfm_buckets, 5, 2, CSEG_RULES_BUCKETS, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("customer_segmentation.rfm_best", "Which RFM score is the best one.",
							 "The best customers bought last, most often and for most.", &rules_rfm_best,
							 RULES_RFM_HIGHEST, rfm_best_options, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("customer_segmentation.run_attempts",
							"How often run_due_segments tries a period of a segment whose runs fail.", NULL,
							&segment_run_attempts, 3, 1, 1000, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("customer_segmentation.run_history", "For how long records of runs are kept.",
							"A segment's last run and its last successful one stay.", &segment_run_history,
							90 * 24 * 60, 1, INT_MAX, PGC_SUSET, GUC_UNIT_MIN, NULL, NULL, NULL);
	MarkGUCPrefixReserved("customer_segmentation");
}

void
_PG_init(void)
{
	define_settings();
	previous_run = ExecutorRun_hook;
	ExecutorRun_hook = executor_run;
	previous_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = executor_finish;
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	am_refusals_init();
	am_xact_init();
	am_summary_init();
	plan_init();
	plan_aggregate_init();
}
