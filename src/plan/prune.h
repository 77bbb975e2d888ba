/*
 * prune.h
 *    Which groups and instances a set of clauses can't be true for, from what is known without reading rows.
 *
 * A clause becomes a test of the same AND and OR, of which the leaves are
 *  - expressions over dimensions, evaluated by the executor's own code on a row that has nothing else;
 *  - comparisons of a measure, or (of a group) of the date, with a value: the least or the greatest of its values is
 *    put in its place, whichever makes the comparison true if any row does;
 *  - nothing known: may be true.
 * So a test that is false says that the clause is false or NULL for all rows; one that is true says nothing, unless
 * the clause is all expressions over dimensions.
 */
#ifndef CSEG_PLAN_PRUNE_H
#define CSEG_PLAN_PRUNE_H

#include "postgres.h"

#include "executor/tuptable.h"
#include "nodes/execnodes.h"

#include "am/am.h"

typedef struct PlanPruner PlanPruner;

extern bool plan_prune_says_something(Expr *clause, Index varno, const AmColumnMap *map);
/* Does the test say of each instance that the clause is true for all of its rows, or for none? */
extern bool plan_prune_decides(Expr *clause, Index varno, const AmColumnMap *map);

/*
 * Tests for clauses (expressions, implicitly ANDed) in the current memory context. parent may be NULL where no clause
 * has parameters of the executor. slot: a row of the relation, for the pruner's own use, its kind virtual or ours.
 */
extern PlanPruner *plan_pruner_new(List *clauses, Index varno, const AmColumnMap *map, PlanState *parent,
								   TupleTableSlot *slot, ExprContext *econtext);
extern bool plan_pruner_is_empty(const PlanPruner *pruner);
/* Do groups decide alone? */
extern bool plan_pruner_is_of_groups(const PlanPruner *pruner);
/* Do the tests look at measures, so that instances need their totals? */
extern bool plan_pruner_needs_totals(const PlanPruner *pruner);
/* Call first; its instances need a look only if it passes. */
extern bool plan_prune_group_passes(PlanPruner *pruner, const StoreGroup *group);
/* Of the group that was given last. */
extern bool plan_prune_instance_passes(PlanPruner *pruner, const StoreInstance *inst);

#endif /* CSEG_PLAN_PRUNE_H */
