/*
 * plan.h
 *    Planner paths and custom scan nodes.
 */
#ifndef CSEG_PLAN_H
#define CSEG_PLAN_H

#include "postgres.h"

#include "nodes/extensible.h"
#include "nodes/pathnodes.h"

/* Where a scan's clauses go. Lists of RestrictInfo in paths, of expressions in plans. */
typedef struct PlanClauses
{
	List *instance; /* speak of dimensions alone: decide about instances */
	List *identity; /* customer_identity = ..., or = ANY (...) */
} PlanClauses;

extern bool plan_enable_custom_scan;

extern void plan_init(void);

/* The value side of an identity clause; *is_array for = ANY. NULL if the clause is none. */
extern Expr *plan_identity_value(Expr *clause, Index varno, AttrNumber identity, bool *is_array);

extern const CustomPathMethods plan_scan_path_methods;
extern void plan_register_scan(void);

#endif /* CSEG_PLAN_H */
