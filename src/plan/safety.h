/*
 * safety.h
 *    Which expressions may be evaluated on data that execution perhaps never evaluates them on.
 */
#ifndef CSEG_PLAN_SAFETY_H
#define CSEG_PLAN_SAFETY_H

#include "postgres.h"

#include "nodes/nodes.h"

/*
 * Does the expression consist of columns, constants and functions that neither fail on any value nor tell of it? Then
 * planning may evaluate it for an estimate, although execution perhaps never would. guarded: conditions of row
 * security or of a security-barrier view come first, so that only what is marked as leakproof will do.
 */
extern bool plan_is_safe_while_planning(Node *node, bool guarded);
/* As above without guards, for an execution: what depends on no column may be any expression there. */
extern bool plan_never_fails(Node *node);

#endif /* CSEG_PLAN_SAFETY_H */
