/*
 * stats.h
 *    Statistics of columns.
 */
#ifndef CSEG_PLAN_STATS_H
#define CSEG_PLAN_STATS_H

#include "postgres.h"

/* customer_segmentation.enable_statistics: estimates from what is stored, not from ANALYZE alone. */
extern bool plan_enable_statistics;

extern void plan_stats_init(void);

#endif /* CSEG_PLAN_STATS_H */
