/*
 * segment.h
 *    Segments: what their functions share. README.md tells whose privileges rule where.
 */
#ifndef CSEG_SEGMENT_H
#define CSEG_SEGMENT_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "executor/spi.h"
#include "nodes/pg_list.h"
#include "pgtime.h"
#include "utils/jsonb.h"
#include "utils/tuplestore.h"

#include "sqlfn/rules.h"

/* ---- when (segment_schedule.c) ------------------------------------------------------------------------------ */

typedef enum Schedule
{
	SCHEDULE_MANUAL,
	SCHEDULE_EVERY_HOUR,
	SCHEDULE_TWICE_A_DAY,
	SCHEDULE_ONCE_A_DAY,
	SCHEDULE_ONCE_EVERY_OTHER_DAY,
	SCHEDULE_ONCE_A_WEEK,
	SCHEDULE_ONCE_A_MONTH
} Schedule;

/* A schedule, where it is anchored and by whose clock. */
typedef struct Timing
{
	Schedule schedule;
	TimestampTz anchor;
	pg_tz *zone;
} Timing;

extern Schedule schedule_parse(const char *name); /* 22023 */
extern pg_tz *schedule_zone(const char *name);    /* 22023 */
/* For looking at a segment whose zone the server no longer knows; running it fails. */
extern pg_tz *schedule_zone_or_gmt(const char *name);
/* The k-th due time; 0 is the anchor, earlier ones are negative. A manual schedule counts days. */
extern TimestampTz schedule_due(const Timing *timing, int64 k);
/* The greatest k whose due time is at or before the moment. */
extern int64 schedule_last(const Timing *timing, TimestampTz moment);
/* The name of the period that holds the moment, as it follows "segment_id_". */
extern char *schedule_period(const Timing *timing, TimestampTz moment);
extern Timestamp schedule_local(const Timing *timing, TimestampTz moment);
extern void schedule_check_moment(TimestampTz moment); /* 22008 unless it is finite */
extern void schedule_check_past(TimestampTz moment);   /* and 22023 if the server's clock has not reached it */

/* ---- the catalog (segment_catalog.c) ------------------------------------------------------------------------ */

typedef struct Segment
{
	char *segment_id;
	char *name;
	char *description; /* or NULL */
	char *segment_by;
	char *schedule;
	char *time_zone;
	char *definition; /* as given; NULL: rules */
	char *query;      /* the definition with its names resolved */
	Jsonb *rules;
	char *undated; /* why a past moment can't be answered, or NULL */
	List *depends_on;
	Oid relation;
	char *owner_name; /* as it was when the row was written */
	Oid owner;        /* InvalidOid: there is no such role any more */
	bool paused;
	TimestampTz created_at;
	TimestampTz altered_at;
	TimestampTz last_due_at; /* DT_NOBEGIN: never */
	Interval *keep;          /* NULL: for ever */
	char *keep_every;        /* or NULL */
	Timing timing;
} Segment;

/* Constant statements on the catalog's tables, as the extension's owner, with search_path pg_catalog. */
typedef struct Catalog
{
	Oid userid;
	int sec_context;
	int guc_level;
} Catalog;

extern void catalog_enter(Catalog *catalog); /* connects SPI */
extern void catalog_leave(Catalog *catalog);
/* One statement; returns the number of rows, which are in SPI_tuptable. nulls may be NULL. */
extern uint64 catalog_execute(const char *sql, int nargs, const Oid *types, Datum *values, const char *nulls);
extern Oid catalog_owner(void);

/* Palloc'd in the current context; 42704 if there is none. */
extern Segment *segment_load(const char *segment_id);
extern Segment *segment_find(const char *segment_id); /* NULL if there is none */
extern void segment_insert(Segment *segment);
extern void segment_update(Segment *segment);
extern void segment_delete(const Segment *segment);       /* and its marks */
extern void segment_check_unused(const Segment *segment); /* 2BP01 if rules of another segment refer to it */
extern void segment_set_last_due(const char *segment_id, TimestampTz due);
extern void segment_adopt_owners(void); /* of segments that came from another cluster */
/* Which segments have retention or a schedule, in the order of their creation: C strings. */
extern List *segment_ids(void);

extern TimestampTz segment_now(void);                    /* the moment of customer_segmentation.as_of() */
extern char *segment_check_by(char *segment_by);         /* 22023 */
extern bool segment_is_operator(void);                   /* may the caller run any segment? */
extern void segment_check_owner(const Segment *segment); /* 42501 unless the caller is a member of its owner */
extern bool segment_may_run(const Segment *segment);
extern void segment_check_runner(const Segment *segment); /* 42501 unless the caller may */
extern void segment_check_owner_exists(const Segment *segment);

/* Runs of one segment take turns. A session's lock outlives transactions; waits only if told to. */
extern bool segment_lock(const char *segment_id, bool session, bool wait);
extern void segment_unlock_session(const char *segment_id);
/* For changes of what segments refer to; after the segment's own lock. */
extern void segment_lock_references(void);
extern void segment_check_current(const char *segment_id);

/* ---- run records -------------------------------------------------------------------------------------------- */

/* Longer messages are cut. */
#define RUN_ERROR_BYTES 4096

typedef struct Run
{
	int64 run_id;
	const char *kind; /* manual, scheduled, dependency, backfill or retention */
	TimestampTz as_of;
	TimestampTz started_at;
	char *instance_id;
	int64 rows;
} Run;

extern void run_insert_started(const Segment *segment, Run *run);
extern void run_insert_succeeded(const Segment *segment, Run *run);
/* Records of a backfill: one for each instance, with its number of rows. */
extern void runs_insert_backfilled(const Segment *segment, char **instance_ids, const TimestampTz *moments,
								   const int64 *rows, int n, TimestampTz started_at);
extern void run_update_succeeded(const Run *run);
extern void run_update_failed(int64 run_id, const char *sqlstate, const char *error);
extern void run_insert_failed(const Segment *segment, const Run *run, const char *sqlstate, const char *error);
extern List *runs_unfinished(void); /* segments with a run that was started and not ended: C strings */
/* The segment is locked, so nobody is running it: what has not ended never will. Returns how many. */
extern uint64 runs_bury(const char *segment_id);
/* How often the scheduled run of this moment has failed since the segment was altered. */
extern int64 runs_failed(const Segment *segment, TimestampTz as_of);
extern void runs_forget(TimestampTz before);

/* ---- marks of instances (segment_mark.c) ------------------------------------------------------------------- */

typedef struct StoredInstance
{
	char *instance_id;
	char *segment_id;
	Timestamp created; /* instance_created_date */
	bool pinned;
	bool backfilled;
	int64 rows;
} StoredInstance;

/* Note how an instance came about: by a run or by a backfill, and with what of today's state, or NULL. */
extern void mark_run(const Segment *segment, const char *instance_id, const char *current_state);
extern void mark_backfilled(const Segment *segment, char **instance_ids, int n, const char *current_state);
extern void mark_pinned(Oid relation, const char *instance_id, bool pinned);
extern void marks_remove(Oid relation, char **instance_ids, int n);
extern void marks_remove_segment(const Segment *segment);
/* Removes marks of what is not stored any more, given all of the segment's instances; and of tables that are gone. */
extern void marks_forget_missing(const Segment *segment, const StoredInstance *instances, int n);
/* Fills in pinned and backfilled. */
extern void marks_read(Oid relation, StoredInstance *instances, int n);

/* ---- definitions (segment_definition.c) --------------------------------------------------------------------- */

/* What a definition says, checked: RulesQuery for both kinds. */
extern RulesQuery *definition_of(const Segment *segment);
/* Checks the text of a definition as its owner, and resolves its names: sets query and undated. */
extern void definition_check(Segment *segment);
/* Does what is done at the start of a run: plans it and checks the owner's privileges. */
extern void definition_check_start(const Segment *segment, const RulesQuery *query);

/* Members as a definition gives them. */
typedef struct Members
{
	MemoryContext memory;   /* what all of this is in */
	Tuplestorestate *store; /* of desc */
	TupleDesc desc;         /* instance_no, customer_identity, num_of_orders, total_revenue */
	int64 rows;             /* in all */
	int64 nulls;            /* rows without an identity, not stored */
	char *null_row;         /* the first of those, in words */
	int instances;          /* moments evaluated so far */
	int64 enough;           /* once there are so many rows no further moment is evaluated; 0: never enough */
	const char *task;       /* what pg_stat_activity is to show; NULL: evaluating */
} Members;

/* In the current context, bounded by work_mem, the rest on disk. */
extern Members *members_begin(void);
/*
 * Adds the members at each of the moments, evaluated as the role, read only, and leaves nothing else behind. Returns
 * how many of the moments were evaluated, and the rows of each in counts, if that is not NULL.
 */
extern int members_evaluate(Members *members, const RulesQuery *query, const Segment *segment, Oid owner,
							const TimestampTz *moments, int n_moments, int64 *counts);
/* 23502 or 23505, telling how many and showing one. */
extern void members_check(Members *members, const char *name, bool duplicates_too);
extern void members_end(Members *members);

/* ---- instances (segment_store.c) ---------------------------------------------------------------------------- */

extern void store_check_relation(const Segment *segment); /* is it one that the owner may store into? */
extern bool store_is_shared(Oid relation);                /* is it the extension's own? */
extern Oid store_shared_relation(void);
extern bool store_has_segment(const Segment *segment);
/* Replaces the n instances of those moments by the members, in one write. Moments count from 1 in the members. */
extern void store_instances(const Segment *segment, Members *members, const TimestampTz *moments, char **instance_ids,
							int n);
/* And their marks. */
extern int64 store_drop_instances(const Segment *segment, char **instance_ids, int n);
extern int64 store_delete_segment(const Segment *segment);
/* The segment's instances, or all of the table's if it has no id, from the newest to the oldest; from metadata alone.
 */
extern StoredInstance *store_list_instances(const Segment *segment, int *n);
extern void store_check_listing(const Segment *segment); /* may they be listed for its owner? */

extern void segment_report(const char *what, const Segment *segment, int64 n); /* to pg_stat_activity */
extern void segment_report_end(void);

/* ---- runs (segment_run.c) ----------------------------------------------------------------------------------- */

/* Stores the instance of the period that holds the moment; the segment is locked. Fills the run. */
extern void segment_run(const Segment *segment, Run *run);
extern char *segment_instance_name(const Segment *segment, TimestampTz moment);
/* The newest due time at or before the moment that is not settled. False: there is none. */
extern bool segment_is_due(const Segment *segment, TimestampTz moment, TimestampTz *due);

/* ---- what is due (segment_due.c) ---------------------------------------------------------------------------- */

/* Settings: how often one period is tried, and for how many minutes records of runs are kept. */
extern int segment_run_attempts;
extern int segment_run_history;

/* ---- retention (segment_retention.c) ------------------------------------------------------------------------ */

/*
 * Drops the instances that the segment's retention lets go at that moment, never pinned ones nor the newest; returns
 * how many. In the caller's transaction, with the segment locked. Does nothing where no retention is set.
 */
extern int64 segment_apply_retention(const Segment *segment, TimestampTz as_of);

#endif /* CSEG_SEGMENT_H */
