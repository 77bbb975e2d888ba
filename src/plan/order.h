/*
 * order.h
 *    Reading instances in an order that a query asks for, and no more of them than it needs.
 *
 * What orders by dimensions alone orders instances: sorting those few takes the place of sorting their rows. Where only
 * the first of such an order count (of DISTINCT ON, or of a window function's rank that is bounded), the scan goes on
 * to the next partition as soon as it has returned what counts.
 */
#ifndef CSEG_PLAN_ORDER_H
#define CSEG_PLAN_ORDER_H

#include "postgres.h"

#include "access/relscan.h"
#include "nodes/execnodes.h"
#include "nodes/pathnodes.h"

#include "am/am.h"
#include "plan/estimate.h"

/* When a partition has been read far enough. Peers are instances that the order does not tell apart. */
typedef enum PlanStop
{
	STOP_NEVER,
	STOP_AT_ROWS,   /* at so many rows */
	STOP_AT_PEERS,  /* with the last peer of the row that is the last of so many */
	STOP_AT_GROUPS, /* after so many groups of peers that had rows */
} PlanStop;

typedef struct PlanOrder
{
	List *pathkeys; /* the order, as far as dimensions make it */
	List *exprs;    /* of each key */
	List *operators;
	List *collations;
	List *nulls_first;
	int n_partition; /* of the keys, the first that are a partition's */
	PlanStop stop;
	int limit;
} PlanOrder;

/* Does the query order by dimensions of the table at first? */
extern bool plan_find_order(PlannerInfo *root, RelOptInfo *rel, const AmColumnMap *map, PlanOrder *order);
/* Is it enough to read the first of each partition? Sets how. */
extern bool plan_find_stop(PlannerInfo *root, RelOptInfo *rel, PlanOrder *order);
/* How many partitions there are, about. */
extern double plan_partitions(PlannerInfo *root, const PlanOrder *order, const PlanEstimate *e);
/* As a part of a plan, without the expressions. */
extern List *plan_order_private(const PlanOrder *order);

/* ---- execution ---------------------------------------------------------------------------------------------- */

typedef struct PlanOrderState PlanOrderState;

/* In the current memory context. exprs: as they are in the plan; slot: a row of the relation, for its own use. */
extern PlanOrderState *plan_order_begin(List *order_private, List *exprs, const AmColumnMap *map, PlanState *parent,
										TupleTableSlot *slot);
/*
 * Sorts the instances that the scan's filter has chosen, and has them read so. False: there are none, perhaps only
 * since no customer was found.
 */
extern bool plan_order_start(PlanOrderState *state, TableScanDesc scan, bool counted);
/* The filter has chosen the same instances as before. */
extern void plan_order_restart(PlanOrderState *state, TableScanDesc scan, bool counted);
/* The scan's current row passed. */
extern void plan_order_passed(PlanOrderState *state, TableScanDesc scan);
extern const char *plan_order_stop_text(const PlanOrderState *state);
extern int plan_order_partition_keys(const PlanOrderState *state);
extern bool plan_order_is_descending(const PlanOrderState *state, int key);

#endif /* CSEG_PLAN_ORDER_H */
