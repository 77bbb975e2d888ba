/*
 * safety.h
 *    Which expressions may be evaluated on data while planning.
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

#endif /* CSEG_PLAN_SAFETY_H */
