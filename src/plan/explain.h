/*
 * explain.h
 *    What EXPLAIN says of our nodes.
 */
#ifndef CSEG_PLAN_EXPLAIN_H
#define CSEG_PLAN_EXPLAIN_H

#include "postgres.h"

#include "am/am.h"
#include "plan/order.h"
#include "compat/compat.h"

/* Clauses, implicitly ANDed, as one property; nothing if there are none. */
extern void explain_clauses(const char *label, List *clauses, List *deparse_context, ExplainState *es);
/* The columns that are read, for VERBOSE and the formats of machines. */
extern void explain_order(const PlanOrderState *order, List *exprs, List *deparse_context, ExplainState *es);
extern void explain_columns(Relation rel, const AmColumnMap *map, uint32 columns, ExplainState *es);
extern void explain_stats(const AmScanStats *stats, ExplainState *es);
extern void explain_add_stats(AmScanStats *sum, const AmScanStats *more);

#endif /* CSEG_PLAN_EXPLAIN_H */
