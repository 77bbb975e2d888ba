/*
 * plan.h
 *    Planner paths and custom scan nodes.
 */
#ifndef CSEG_PLAN_H
#define CSEG_PLAN_H

#include "postgres.h"

#include "nodes/extensible.h"
#include "nodes/pathnodes.h"

#include "plan/clauses.h"
#include "plan/order.h"

extern bool plan_enable_custom_scan;

extern void plan_init(void);

/* custom_private of a scan's path: clauses about instances, clauses about identities, those of both that need no
 * filter, columns to read and whether rows are but counted, expressions to order by, how to. */
extern List *plan_scan_private(const PlanClauses *clauses, List *decided, uint32 columns, bool counted,
							   const PlanOrder *order);

extern const CustomPathMethods plan_scan_path_methods;
extern void plan_register_scan(void);

#endif /* CSEG_PLAN_H */
