/*
 * keys.h
 *    The values of a key column that a query's clauses name, evaluated when a scan starts.
 */
#ifndef CSEG_PLAN_KEYS_H
#define CSEG_PLAN_KEYS_H

#include "postgres.h"

#include "nodes/execnodes.h"

#include "am/am.h"

typedef struct PlanKeys PlanKeys;

/* For each clause (an expression) that binds the column, where its values come from; in the current context. */
extern PlanKeys *plan_keys_new(List *clauses, Index varno, AttrNumber attno, PlanState *parent);
/* Of the clauses the one that names the fewest values; *keys with n = -1 if none binds the column. In the current
 * context. */
extern void plan_keys_evaluate(PlanKeys *keys, ExprContext *econtext, AmKeys *out);

#endif /* CSEG_PLAN_KEYS_H */
