/*
 * estimate.h
 *    How many rows conditions leave, and how much has to be read for them.
 */
#ifndef CSEG_PLAN_ESTIMATE_H
#define CSEG_PLAN_ESTIMATE_H

#include "postgres.h"

#include "nodes/pathnodes.h"

#include "am/am.h"

typedef struct PlanEstimate
{
	double rows;          /* that pass all clauses */
	double instance_rows; /* of the instances that have to be read */
	double instances;
	double groups;
	double cells;       /* of those groups */
	double tests;       /* of groups and instances, to find them */
	double customers;   /* in the whole table, */
	double table_cells; /* likewise */
} PlanEstimate;

/* rinfos: all clauses of a path, those of joins included. False if nothing is known of the table. */
extern bool plan_estimate(PlannerInfo *root, RelOptInfo *rel, const AmSummary *summary, const AmColumnMap *map,
						  TupleDesc desc, List *rinfos, PlanEstimate *out);

#endif /* CSEG_PLAN_ESTIMATE_H */
