/*
 * clauses.h
 *    What the clauses of a query say about a table of ours: shared by all planner paths.
 */
#ifndef CSEG_PLAN_CLAUSES_H
#define CSEG_PLAN_CLAUSES_H

#include "postgres.h"

#include "nodes/pathnodes.h"

#include "am/am.h"

/* Sets of columns: bits by AmColumn. */
#define PLAN_COLUMN(column) (UINT32_C(1) << (column))
#define PLAN_GROUP_COLUMNS                                                                     \
	(PLAN_COLUMN(COL_SCHEDULE) | PLAN_COLUMN(COL_SEGMENT_BY) | PLAN_COLUMN(COL_SEGMENT_DATE) | \
	 PLAN_COLUMN(COL_SEGMENT_ID) | PLAN_COLUMN(COL_SEGMENT_NAME))
#define PLAN_INSTANCE_COLUMNS (PLAN_COLUMN(COL_INSTANCE_DATE) | PLAN_COLUMN(COL_INSTANCE_ID))
#define PLAN_DIMENSIONS (PLAN_GROUP_COLUMNS | PLAN_INSTANCE_COLUMNS)
#define PLAN_MEASURES (PLAN_COLUMN(COL_CUSTOMERS) | PLAN_COLUMN(COL_ORDERS) | PLAN_COLUMN(COL_REVENUE))
#define PLAN_ALL_COLUMNS AM_ALL_COLUMNS

/* Where a scan's clauses go; one may be in both. Lists of RestrictInfo in paths, of expressions in plans. */
typedef struct PlanClauses
{
	List *instance; /* decide about instances, see prune.h */
	List *identity; /* name the customers that they may be true for */
} PlanClauses;

/* Is the expression the column itself? Binary-compatible casts of it count. */
extern bool plan_is_column(Node *node, Index varno, AttrNumber attno);

/* The table's columns that the expression reads. False if it reads a system column or the whole row. */
extern bool plan_columns_of(Node *node, Index varno, const AmColumnMap *map, uint32 *columns);

/* May it be evaluated another number of times, and before others: nothing volatile, no subplan? */
extern bool plan_is_repeatable(Node *node);

/* Does the expression read dimensions alone, at least one, of this table? It may read other relations. */
extern bool plan_is_about_dimensions(Node *node, Index varno, const AmColumnMap *map);

/* The value side of "column = value" or "column = ANY (values)" by the bytes of texts; NULL if the clause is none. */
extern Expr *plan_key_value(Expr *clause, Index varno, AttrNumber attno, bool *is_array);

/*
 * Clauses as plan_key_value takes them, one of which is true wherever the given one is: so the values of all of them
 * are all values of the column that it may be true for. NIL if it doesn't bind the column.
 */
extern List *plan_key_clauses(Expr *clause, Index varno, AttrNumber attno);

/* Adds the clause to the lists that it is good for. outer: the relations whose columns may be taken for values. */
extern void plan_sort_clause(RestrictInfo *rinfo, RelOptInfo *rel, const AmColumnMap *map, bool outer,
							 PlanClauses *out);
extern void plan_sort_clauses(List *rinfos, RelOptInfo *rel, const AmColumnMap *map, bool outer, PlanClauses *out);

/*
 * Those that a scan by the given clauses decides entirely, so that no row that it returns need be tried again: about
 * dimensions alone, tried with each instance; or the only one that names customers.
 */
extern List *plan_decided_clauses(const PlanClauses *clauses, RelOptInfo *rel, const AmColumnMap *map);

#endif /* CSEG_PLAN_CLAUSES_H */
