/*
 * segment_due.c
 *    run_due_segments: runs what is due, each in its own transaction, and records what goes wrong.
 *
 * A segment's turn: take the session's lock of the segment, or leave it to the session that has it; in a transaction
 * of its own, look again whether it is due, and record that the run has started; in the next one, run it and record
 * the end. The lock is held across these transactions. So a record that says "running" while the lock is free is that
 * of a run that died, and whoever finds it records that.
 *
 * The run's moment is the due time, not the moment of the call: a late call stores what a punctual one would have
 * stored, and each due time has a period of its own.
 */
#include "sqlfn/segment.h"

#include "access/xact.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/pquery.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(customer_segmentation_run_due_segments);

int segment_run_attempts = 3;
int segment_run_history = 90 * 24 * 60;

typedef enum Outcome
{
	NOT_DUE,
	SUCCEEDED,
	FAILED,
	ELSEWHERE /* another session has the segment */
} Outcome;

typedef struct Turn
{
	char *segment_id;
	List *depends_on; /* of segment_id */
	bool ordered;
	bool wanted; /* due, left unfinished, or to be thinned out */
	bool locked; /* by this session */
	Outcome outcome;
} Turn;

typedef struct Round
{
	TimestampTz now;
	MemoryContext memory; /* outlives the transactions */
	MemoryContext step;   /* reset after each segment */
	List *turns;          /* Turn *, in order of dependency */
} Round;

/* ---- transactions ------------------------------------------------------------------------------------------- */

static void
check_may_commit(FunctionCallInfo fcinfo)
{
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) || castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
						errmsg("run_due_segments cannot run inside a transaction block"),
						errdetail("It commits after each segment."),
						errhint("CALL it by itself, or run single segments with run_segment.")));
}

static void
next_transaction(void)
{
	SPI_commit();
	EnsurePortalSnapshotExists();
}

/* ---- order -------------------------------------------------------------------------------------------------- */

static Turn *
find_turn(List *turns, const char *segment_id)
{
	ListCell *lc;

	foreach (lc, turns)
	{
		Turn *turn = lfirst(lc);

		if (strcmp(turn->segment_id, segment_id) == 0)
			return turn;
	}
	return NULL;
}

static void
put_in_order(Round *round, List *turns, Turn *turn)
{
	ListCell *lc;

	check_stack_depth();
	if (turn->ordered)
		return;
	turn->ordered = true;
	foreach (lc, turn->depends_on)
	{
		Turn *other = find_turn(turns, lfirst(lc));

		if (other)
			put_in_order(round, turns, other);
	}
	round->turns = lappend(round->turns, turn);
}

static Turn *
add_turn(List **turns, char *segment_id)
{
	Turn *turn = palloc0(sizeof(Turn));

	turn->segment_id = segment_id;
	*turns = lappend(*turns, turn);
	return turn;
}

/* Segments in order of their creation, but what they refer to first; and what is left of dropped ones. */
static void
plan_round(Round *round)
{
	MemoryContext old = MemoryContextSwitchTo(round->memory);
	List *turns = NIL;
	List *unfinished = runs_unfinished();
	ListCell *lc;

	foreach (lc, segment_ids())
	{
		Segment *segment = segment_find(lfirst(lc));
		TimestampTz due;
		Turn *turn;

		if (segment == NULL)
			continue;
		turn = add_turn(&turns, segment->segment_id);
		turn->depends_on = segment->depends_on;
		turn->wanted = segment->keep != NULL || segment_is_due(segment, round->now, &due);
	}
	foreach (lc, unfinished)
	{
		Turn *turn = find_turn(turns, lfirst(lc));

		if (turn == NULL)
			turn = add_turn(&turns, lfirst(lc));
		turn->wanted = true;
	}
	foreach (lc, turns)
		put_in_order(round, turns, lfirst(lc));
	MemoryContextSwitchTo(old);
}

/* ---- one run ------------------------------------------------------------------------------------------------ */

static void
check_dependencies(const Round *round, const Segment *segment)
{
	ListCell *lc;

	foreach (lc, segment->depends_on)
	{
		Turn *turn = find_turn(round->turns, lfirst(lc));

		if (turn && turn->outcome == FAILED)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("segment \"%s\", to which this one refers, has failed", turn->segment_id),
					 errhint("See its error in the view customer_segmentation.segment_health. Where its last instance "
							 "is good enough, pause that segment.")));
	}
}

static bool
depends_on_elsewhere(const Round *round, const Turn *turn)
{
	ListCell *lc;

	foreach (lc, turn->depends_on)
	{
		Turn *other = find_turn(round->turns, lfirst(lc));

		if (other && other->outcome == ELSEWHERE)
			return true;
	}
	return false;
}

static void
do_run(const Round *round, const Segment *segment, Run *run)
{
	check_dependencies(round, segment);
	segment_run(segment, run);
	run_update_succeeded(run);
	segment_set_last_due(segment->segment_id, run->as_of);
}

static void
do_retention(const Round *round, const Segment *segment, Run *run)
{
	segment_apply_retention(segment, round->now);
}

/* Does one of these in a subtransaction. Returns the error, or NULL. */
static ErrorData *
try(void (*what)(const Round *, const Segment *, Run *), const Round *round, const char *segment_id, Run *run)
{
	MemoryContext memory = CurrentMemoryContext;
	ResourceOwner resources = CurrentResourceOwner;
	ErrorData *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(memory);
	PG_TRY();
	{
		what(round, segment_load(segment_id), run);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(memory);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(memory);
	CurrentResourceOwner = resources;
	return error;
}

/* Commits; if that fails, the next transaction has begun all the same. Returns the error, or NULL. */
static ErrorData *
try_commit(void)
{
	MemoryContext memory = CurrentMemoryContext;
	ErrorData *volatile error = NULL;

	PG_TRY();
	{
		SPI_commit();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(memory);
		error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(memory);
	EnsurePortalSnapshotExists();
	return error;
}

static ErrorData *
try_and_commit(void (*what)(const Round *, const Segment *, Run *), const Round *round, Turn *turn, Run *run)
{
	ErrorData *error = try(what, round, turn->segment_id, run);

	if (error == NULL)
	{
		error = try_commit();
		/* What aborts releases the session's locks too. */
		turn->locked = error == NULL;
	}
	return error;
}

static char *
error_text(const ErrorData *error)
{
	char *text = pstrdup(error->message ? error->message : "");

	if (error->detail)
		text = psprintf("%s\nDETAIL:  %s", text, error->detail);
	if (error->hint)
		text = psprintf("%s\nHINT:  %s", text, error->hint);
	text[pg_mbcliplen(text, (int) strlen(text), RUN_ERROR_BYTES)] = '\0';
	return text;
}

/*
 * Was it the call that was cancelled? A definition may raise the same SQLSTATE, and must not stop the others by it:
 * so it counts where it was raised.
 */
static bool
is_cancel(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_QUERY_CANCELED && error->funcname &&
		   strcmp(error->funcname, "ProcessInterrupts") == 0;
}

static void
record_failure(const Segment *segment, const Run *run, ErrorData *error)
{
	const char *sqlstate = unpack_sql_state(error->sqlerrcode);

	if (run->run_id > 0)
		run_update_failed(run->run_id, sqlstate, error_text(error));
	else
		run_insert_failed(segment, run, sqlstate, error_text(error));
	next_transaction();
	if (is_cancel(error))
		ReThrowError(error);
	ereport(WARNING, (errcode(error->sqlerrcode),
					  errmsg("%s run of segment \"%s\" failed: %s", run->kind, segment->segment_id, error->message),
					  error->detail ? errdetail_internal("%s", error->detail) : 0,
					  error->hint ? errhint("%s", error->hint) : 0));
}

static bool
may_try(const Segment *segment, TimestampTz due)
{
	return runs_failed(segment, due) < segment_run_attempts;
}

/* The segment is locked by the session, and this transaction has begun since. */
static Outcome
run_if_due(const Round *round, Turn *turn)
{
	Segment *segment;
	Run run = {.kind = "scheduled"};
	ErrorData *error;

	runs_bury(turn->segment_id);
	segment = segment_find(turn->segment_id);
	if (segment == NULL || !segment_is_due(segment, round->now, &run.as_of))
		return NOT_DUE;
	if (!may_try(segment, run.as_of))
		return FAILED;
	run.started_at = GetCurrentTimestamp();
	run.instance_id = segment_instance_name(segment, run.as_of);
	run_insert_started(segment, &run);
	next_transaction();
	error = try_and_commit(do_run, round, turn, &run);
	if (error == NULL)
		return SUCCEEDED;
	record_failure(segment, &run, error);
	return FAILED;
}

static void
thin_out(const Round *round, Turn *turn)
{
	Run run = {.kind = "retention", .as_of = round->now, .started_at = GetCurrentTimestamp()};
	Segment *segment = segment_find(turn->segment_id);
	ErrorData *error;

	if (segment == NULL || segment->keep == NULL)
		return;
	error = try_and_commit(do_retention, round, turn, &run);
	if (error)
		record_failure(segment, &run, error);
}

static void
take_turn(Round *round, Turn *turn)
{
	if (depends_on_elsewhere(round, turn) || !segment_lock(turn->segment_id, true, false))
	{
		turn->outcome = ELSEWHERE;
		ereport(NOTICE, (errmsg("segment \"%s\" is left to another session", turn->segment_id)));
		return;
	}
	turn->locked = true;
	/* What is read from now on is newer than the lock, at any isolation level. */
	next_transaction();
	turn->outcome = run_if_due(round, turn);
	next_transaction();
	if (turn->locked)
		thin_out(round, turn);
	next_transaction();
	if (turn->locked)
		segment_unlock_session(turn->segment_id);
	turn->locked = false;
}

/* ---- run_due_segments --------------------------------------------------------------------------------------- */

static void
run_round(Round *round)
{
	ListCell *lc;

	segment_adopt_owners();
	plan_round(round);
	next_transaction();
	foreach (lc, round->turns)
	{
		Turn *turn = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (turn->wanted)
			take_turn(round, turn);
		MemoryContextReset(round->step);
	}
	runs_forget(GetCurrentTimestamp() - segment_run_history * USECS_PER_MINUTE);
}

Datum
customer_segmentation_run_due_segments(PG_FUNCTION_ARGS)
{
	Round round = {0};

	check_may_commit(fcinfo);
	PreventCommandIfReadOnly("run_due_segments()");
	round.now = PG_ARGISNULL(0) ? segment_now() : PG_GETARG_TIMESTAMPTZ(0);
	schedule_check_past(round.now);
	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	round.memory = CurrentMemoryContext;
	round.step = AllocSetContextCreate(round.memory, "segment that is due", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(round.step);
	run_round(&round);
	MemoryContextSwitchTo(round.memory);
	SPI_finish();
	return (Datum) 0;
}
