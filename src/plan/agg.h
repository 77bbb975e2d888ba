/*
 * agg.h
 *    Aggregates without rows: what the files of the aggregate node share.
 *
 * A query is answered per instance: what its rows share (the dimensions) is evaluated once, what differs (the
 * measures, the customer) comes from the instance's totals or is added up in the core from the cells. See README.md.
 */
#ifndef CSEG_PLAN_AGG_H
#define CSEG_PLAN_AGG_H

#include "plan/plan.h"

#include "fmgr.h"
#include "nodes/primnodes.h"
#include "utils/numeric.h"

#include "am/am.h"

/* ---- expressions ----------------------------------------------------------------------------------------- */

/* The same for all rows of an instance: a function of dimensions and of nothing else that changes. */
extern bool agg_is_of_instance(Node *expr, Index varno, const AmColumnMap *map);
/* A function of dimensions and measures, and of nothing else that changes: the same for all equal rows. */
extern bool agg_is_of_row(Node *expr, Index varno, const AmColumnMap *map);
/* Does it differ from instance to instance of a group with the same measures? */
extern bool agg_reads_instance(Node *expr, Index varno, const AmColumnMap *map);
/* A measure's column, perhaps as numeric (*cast). -1: it is none. */
extern int agg_measure(Node *expr, Index varno, const AmColumnMap *map, bool *cast);
/* The customer's column, compared under a collation for which equal means the same bytes. */
extern bool agg_is_identity(Node *expr, Index varno, const AmColumnMap *map);

/* ---- conditions on measures -------------------------------------------------------------------------------- */

/* A step of a condition in postfix order, as CsegTest but with the bound still an expression. */
typedef struct AggTest
{
	CsegTestKind kind;
	int measure;
	int accepts;
	int n;
	Expr *bound; /* COMPARE */
	Oid bound_type;
	bool any;   /* bound is an array: true if so for any element, */
	bool all;   /* or for all of them */
	Expr *leaf; /* SLOTS: about the instance */
	struct ExprState *state;
} AggTest;

/* Appends the steps (AggTest *) of a boolean expression to *tests; NULL: only says whether it has such a form. */
extern bool agg_compile_condition(Node *expr, Index varno, const AmColumnMap *map, List **tests);
/*
 * The same as a question, and whether its parts about instances may be evaluated whatever the measures are: AND and OR
 * would perhaps have stopped before them.
 */
extern bool agg_is_condition(Node *expr, Index varno, const AmColumnMap *map);

/* Tests with their bounds evaluated. */
typedef struct AggCondition
{
	int n;
	int cap;
	CsegTest *tests;
	bool wide; /* a bound is no value of the core's: rows have to be tested one by one */
} AggCondition;

extern void agg_condition_init(AggCondition *c, List *tests, struct ExprContext *econtext);
/* True where the condition is true for a row of the given slot. */
extern bool agg_condition_row(const AggCondition *c, const CsegValue *values, const CsegSlotLeaf *leaves, int slot);

/* ---- aggregates ---------------------------------------------------------------------------------------------- */

typedef enum AggKind
{
	AGG_COUNT_ROWS,
	AGG_COUNT_ARG,     /* of something that is the same for all rows of an instance */
	AGG_COUNT_MEASURE, /* likewise, or of an expression over measures */
	AGG_SUM,
	AGG_AVG,
	AGG_MIN,
	AGG_MAX,
	AGG_PICK,         /* one of its arguments, like min and max: about instances */
	AGG_DISTINCT_ARG, /* count(DISTINCT ...) about instances */
	AGG_DISTINCT_IDENTITY
} AggKind;

typedef struct AggCall
{
	AggKind kind;
	int measure;
	bool numeric;          /* the measure's values are numeric */
	Expr *arg;             /* COUNT_ARG, PICK, DISTINCT_ARG */
	List *filter_instance; /* implicitly ANDed */
	List *filter_measures;
	Expr *value;    /* in place of a measure: an expression over measures */
	Oid value_type; /* of sums and extremes of it: int4, int8 or numeric */
	bool by_row;    /* it takes the executor's expressions to add rows up */
	Oid pick;       /* transition function */
	Oid equal;      /* DISTINCT_ARG: operator */
	Oid collation;
} AggCall;

/* False: not covered. */
extern bool agg_analyze(const Aggref *agg, Index varno, const AmColumnMap *map, AggCall *call);

/* ---- running sums --------------------------------------------------------------------------------------------- */

typedef struct AggSum
{
	int128 sum; /* of decimals, in units of 10^-scale */
	int scale;  /* the greatest display scale of a decimal */
	int64 finite;
	int64 nans;
	int64 pinfs;
	int64 ninfs;
	Numeric spill; /* what is not in sum, or NULL */
	CsegValue min; /* of decimals; kind NULL where there is none */
	CsegValue max;
	Numeric wide_min; /* of numbers that are no decimals of the core's */
	Numeric wide_max;
} AggSum;

/* What is kept lies in cxt. */
extern void agg_sum_add_totals(AggSum *sum, MemoryContext cxt, int64 rows, const CsegMeasureTotals *t);
extern void agg_sum_add_value(AggSum *sum, MemoryContext cxt, const CsegValue *v, int64 rows);
extern void agg_sum_add_sum(AggSum *sum, MemoryContext cxt, const AggSum *more);
extern Datum agg_sum_result(const AggSum *sum, const AggCall *call, bool *isnull);

/* ---- groups ------------------------------------------------------------------------------------------------------ */

/* Keys and what is kept beside them, found by hash. */
typedef struct AggEntry
{
	struct AggEntry *next; /* in its bucket */
	uint32 hash;
	int32 space; /* part of the key */
	Datum *keys;
	bool *nulls;
	/* payload follows */
} AggEntry;

typedef struct AggTable
{
	MemoryContext cxt;
	int n_keys;
	FmgrInfo *hash;
	FmgrInfo *equal;
	Oid *collation;
	int16 *typlen;
	bool *typbyval;
	Size payload;
	uint32 n_buckets;
	AggEntry **buckets;
	int n_entries;
	int cap_entries;
	AggEntry **entries; /* in order of appearance */
} AggTable;

/* Functions are looked up in cxt, which outlives the entries. */
extern AggTable *agg_table_new(MemoryContext cxt, int n_keys, const Oid *equal_ops, const Oid *collations,
							   const Oid *types, Size payload);
/* Forgets all entries; new ones come from cxt. */
extern void agg_table_reset(AggTable *table, MemoryContext cxt);
extern AggEntry *agg_table_find(AggTable *table, int32 space, const Datum *keys, const bool *nulls, bool *isnew);

static inline void *
agg_payload(AggEntry *entry)
{
	return (char *) entry + MAXALIGN(sizeof(AggEntry));
}

/* ---- the plan -----------------------------------------------------------------------------------------------------
 */

/*
 * The targets of custom_scan_tlist are, in this order: keys, aggregates, GROUPING() calls; then, each in a BoolExpr of
 * its own so that no expression of the query is taken for one of them: clauses about instances, on measures, on the
 * identity, and a column, which says where the relation is in the range table. A partial node has one more, the only
 * one that it returns: a group as bytes.
 */
typedef struct AggLayout
{
	int n_keys;
	int n_calls;
	int n_groupings;
	int n_instance;
	int n_measures;
	int n_identity;
} AggLayout;

extern const CustomPathMethods agg_path_methods;
extern const CustomPathMethods agg_partial_path_methods;
extern Expr *agg_unfinished_group(void);

extern bool plan_enable_aggregate;
extern void plan_aggregate_init(void);
extern const CustomScanMethods agg_scan_methods;
extern const CustomScanMethods agg_partial_scan_methods;

#endif /* CSEG_PLAN_AGG_H */
