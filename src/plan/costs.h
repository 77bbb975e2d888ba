/*
 * costs.h
 *    What a scan costs.
 */
#ifndef CSEG_PLAN_COSTS_H
#define CSEG_PLAN_COSTS_H

#include "postgres.h"

#include "nodes/pathnodes.h"

#include "plan/clauses.h"
#include "plan/estimate.h"

/* Among how many processes the rows of a parallel scan are shared out, as the server counts them. */
extern double plan_processes(int workers);

/* Fills startup and total cost; rinfos: all clauses; columns: those to be read. path->rows must be set. */
extern void plan_cost_scan(PlannerInfo *root, RelOptInfo *rel, Path *path, const PlanEstimate *e,
						   const PlanClauses *clauses, List *rinfos, uint32 columns, double processes);

/* The same for a scan that reads so many of the instances, one after the other, all of which it sorts before. */
extern void plan_cost_ordered_scan(PlannerInfo *root, RelOptInfo *rel, Path *path, const PlanEstimate *e,
								   const PlanClauses *clauses, List *rinfos, uint32 columns, bool counted,
								   double instances);

#endif /* CSEG_PLAN_COSTS_H */
