/*
 * agg_state.h
 *    The aggregate node at work: what its files share.
 *
 * The node comes in three kinds. One that does it all: reads and returns finished groups. One that reads and returns
 * unfinished groups, of a partition or of the part of a table that a parallel process took. And one that merges what
 * those return and finishes it.
 */
#ifndef CSEG_PLAN_AGG_STATE_H
#define CSEG_PLAN_AGG_STATE_H

#include "plan/agg.h"

#include "lib/stringinfo.h"
#include "nodes/execnodes.h"

#include "plan/agg_memo.h"
#include "plan/keys.h"

#define NO_INDEX (-1)

/* Rows that an aggregate's FILTER lets pass. The first view is without filter. */
typedef struct View
{
	List *filter_instance;
	List *filter_measures;
	ExprState *instance;
	int core; /* the core's view that adds them up */
} View;

/* A view of the core. The first one's condition is the query's own. */
typedef struct CoreView
{
	List *clauses;
	List *tests;
	AggCondition condition;
	uint8 sums;
	uint8 extremes;
	bool members;
	ExprState *qual; /* where rows are added up by the executor's expressions */
} CoreView;

/* An expression over measures that is added up. */
typedef struct RowValue
{
	Expr *expr;
	ExprState *state;
	Oid type;
} RowValue;

typedef struct Sum
{
	int view;
	int measure; /* from CSEG_MEASURES on: a RowValue */
	bool sum;    /* else only counts and extremes */
	bool extremes;
} Sum;

typedef struct Call
{
	AggCall call;
	ExprState *arg;
	Oid arg_type;
	int16 typlen;
	bool typbyval;
	FmgrInfo pick;
	int view;
	int sum;
	AggTable *distinct;
} Call;

/* The customers of a container that belong to a group, for count(DISTINCT). */
typedef struct Members
{
	struct Members *next;
	AggEntry *group;
	int call;
	uint64 bits[CSEG_MEMBER_WORDS];
} Members;

typedef struct Pick
{
	Datum value;
	bool found;
} Pick;

/* What is kept of a group. */
typedef struct AggGroup
{
	int64 *rows;   /* by view */
	AggSum *sums;  /* by sum */
	Pick *picks;   /* by call */
	int64 *counts; /* by call */
	Members **members;
	AggEntry **values; /* by call: different ones so far, linked by their payload */
	int32 number;
} AggGroup;

/* What is the same for all rows of an instance. */
typedef struct InstanceInfo
{
	AggEntry **groups; /* by grouping set */
	bool *passes;      /* by view */
	Datum *args;       /* by call */
	bool *nulls;
} InstanceInfo;

typedef struct GroupRun
{
	uint64 wanted;
	uint64 exact; /* of wanted: totals don't do */
	CsegSlotLeaf *leaves;
	InstanceInfo *infos[CSEG_SLOTS];
} GroupRun;

typedef struct IdentityValue
{
	ExprState *expr;
	bool is_array;
} IdentityValue;

typedef struct AggCounts
{
	AmScanStats stats;
	int64 from_totals; /* instances */
} AggCounts;

/* What the processes of a parallel reading share. */
typedef struct AggShared
{
	pg_atomic_uint32 started; /* processes */
	pg_atomic_uint32 next;    /* the cell, or container, that nobody has taken yet */
	int n_counts;
	AggCounts counts[FLEXIBLE_ARRAY_MEMBER]; /* by process, the leader's first */
} AggShared;

typedef struct AggregateState
{
	CustomScanState css;
	bool partial; /* returns groups that are not finished */
	Relation rel; /* of a node that merges, perhaps a partitioned table */
	AmColumnMap *map;
	AggLayout layout;
	List *sets; /* of positions of keys; NIL: all of them */
	List *refs;
	int n_sets;

	ExprContext *econtext; /* for what is about instances */
	TupleTableSlot *instance_slot;
	ExprState *group_qual; /* about what a group's instances share */
	ExprState *instance_qual;
	PlanKeys *segment_keys;
	PlanKeys *instance_keys;
	ExprState **keys;
	AggTable *groups;
	int n_views;
	View *views;
	int n_cores;
	CoreView *cores;
	int n_sums;
	Sum *sums;
	int n_values;
	RowValue *values;
	bool by_row;      /* rows are added up by the executor's expressions, equal ones together, */
	bool by_instance; /* if they are of one instance */
	Call *calls;
	List **grouping_refs;
	int n_leaves;
	ExprState **leaves;
	int n_identity;
	IdentityValue *identity;
	bool from_cells; /* totals never do */
	bool distinct;   /* customers are counted */
	bool only_rows;  /* wide: test rows one by one */

	/* a run */
	MemoryContext run_cxt;
	MemoryContext kept_cxt; /* of it: pieces of odd sizes that stay to its end */
	MemoryContext cell_cxt;
	MemoryContext row_cxt;
	AmReader *reader;
	StoreOwner *cell_owner;
	StoreOwner *cursor_owner;
	CsegSift *sift;
	GroupRun **runs; /* by group of the view; NULL: none of its instances is wanted */
	bool reads_cells;
	bool by_customer;
	int n_ordinals;
	uint32 *ordinals; /* sorted */
	uint16 *lows;
	Members *members;
	Members *spare_members;
	AggCounts counts;
	bool done;
	int at;

	AggShared *shared; /* among the processes that read; NULL: there is this one alone */
	bool leads;        /* of those, the one that answers what needs no cells */

	/* answers for parameters that come again */
	AggMemo *memo;
	const AggAnswer *answer; /* of the current parameters, or NULL: it is in groups */
	int64 reused;
} AggregateState;

/* ---- groups, as they get from node to node ------------------------------------------------------------------- */

/* Appends a group, its keys and all that is known of it so far. */
extern void agg_pack_group(AggregateState *state, AggEntry *entry, StringInfo buf);
/* Adds such a group to the one of the same keys. */
extern void agg_unpack_group(AggregateState *state, const char *data, Size len);

/* ---- what the files know of each other ----------------------------------------------------------------------------
 */

/* A row that has dimensions and nothing else, for the executor's expressions. */
extern ExprContext *agg_show_instance(AggregateState *state, const StoreGroup *group, const StoreInstance *inst);
/* Of an instance that has a row which passes. */
extern InstanceInfo *agg_instance_info(AggregateState *state, GroupRun *run, StoreGroup *group, int slot);
/* What depends on the number of a view's rows alone. */
extern void agg_add_rows(AggregateState *state, const InstanceInfo *info, AggGroup *group, int view, int64 rows);
/* Counts a customer for each count(DISTINCT) whose rows it has; hits: by view of the core. */
extern void agg_add_member(AggregateState *state, const InstanceInfo *info, const bool *hits, uint16 low);
/* Raises XX001 unless there is an instance for each of the slots. */
extern void agg_check_instances(AggregateState *state, StoreCell *cell, uint64 slots);
/* Adds a cell up by the executor's expressions. */
extern void agg_add_stretches(AggregateState *state, GroupRun *run, StoreCell *cell, CsegCell *data, uint64 slots,
							  int n_lows);
extern AggEntry *agg_find_group(AggregateState *state, int set, const Datum *keys, const bool *nulls);
extern void agg_pick_argument(AggregateState *state, Call *c, Pick *pick, Datum value);
extern void agg_note_distinct(AggregateState *state, int call, AggGroup *group, Datum value);

/* ---- in parallel ----------------------------------------------------------------------------------------------- */

extern Size agg_estimate_shared(CustomScanState *node, ParallelContext *pcxt);
extern void agg_initialize_shared(CustomScanState *node, ParallelContext *pcxt, void *coordinate);
extern void agg_reinitialize_shared(CustomScanState *node, ParallelContext *pcxt, void *coordinate);
extern void agg_initialize_worker(CustomScanState *node, shm_toc *toc, void *coordinate);
extern void agg_shutdown(CustomScanState *node);
/* This process goes to work: decides which of them leads. */
extern void agg_start_process(AggregateState *state);
/* The next cell, or container, that this process is to read. */
extern uint32 agg_take_next(AggregateState *state);
/* It is done: where the leader finds what it has counted. */
extern void agg_share_counts(AggregateState *state);

/* ---- EXPLAIN --------------------------------------------------------------------------------------------------- */

extern void agg_explain(CustomScanState *node, List *ancestors, ExplainState *es);
extern Expr *agg_target(const CustomScan *cscan, int i);
extern Expr *agg_hidden_target(const CustomScan *cscan, int i);

#endif /* CSEG_PLAN_AGG_STATE_H */
