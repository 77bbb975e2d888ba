/*
 * instances.h
 *    Conditions on what list_instances() returns.
 */
#ifndef CSEG_PLAN_INSTANCES_H
#define CSEG_PLAN_INSTANCES_H

#include "postgres.h"

#include "nodes/pathnodes.h"

/* Gives the function of a function scan, if it is list_instances, what the relation's clauses compare its columns with.
 */
extern void plan_narrow_instances(RelOptInfo *rel, Index rti, RangeTblEntry *rte);

#endif /* CSEG_PLAN_INSTANCES_H */
