/*
 * costs.c
 *    What a scan costs, in the server's units.
 *
 * The unit to go by is cpu_tuple_cost, what it costs to hand a row of a plain table to the executor. The factors below
 * were measured against it (sql/planner.md says how): they need to be right in proportion, for the planner to choose
 * between many lookups and one long scan.
 */
#include "plan/costs.h"

#include <math.h>

#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "port/pg_bitutils.h"

/* A row of a decoded cell that a scan hands out, or passes over within a slot that it reads. */
#define ROW_SHARE 0.5
/* Each measure that is read along. */
#define MEASURE_SHARE 0.1
/* Decoding a cell, per row in the whole of its slots. */
#define DECODE_SHARE 0.1
/* Reading and opening a cell, in rows. */
#define CELL_ROWS 40
/* Looking up one customer in one cell, in rows: one that the session keeps decoded, or that has to be read each time.
 */
#define LOOKUP_ROWS_KEPT 12
#define LOOKUP_ROWS_READ 200
/* Memory that a row takes in a decoded cell, about. */
#define DECODED_BYTES_PER_ROW 5
/* Finding the rows of one slot among the customers of a cell, per row found. */
#define GATHER_SHARE 0.2
/* Trying a condition on a group or an instance, in operators. */
#define TEST_OPERATORS 10

static double
measures_in(uint32 columns)
{
	return pg_popcount32(columns & PLAN_MEASURES);
}

/* Of the rows that the table has, those that are decoded with the cells that are read. */
static double
decoded_rows(const RelOptInfo *rel, const PlanEstimate *e)
{
	return e->table_cells > 0 ? rel->tuples * e->cells / e->table_cells : 0;
}

double
plan_processes(int workers)
{
	double leader = 1.0 - 0.3 * workers;

	if (workers == 0)
		return 1;
	return parallel_leader_participation && leader > 0 ? workers + leader : workers;
}

/* Will the cells that lookups come back to stay in the session's cache? */
static bool
are_kept(const RelOptInfo *rel, const PlanEstimate *e)
{
	return decoded_rows(rel, e) * DECODED_BYTES_PER_ROW <= store_cell_cache_kb * 1024.0;
}

/* Lookups: a share of the customers, in those of the groups' cells that hold them. */
static Cost
cost_of_lookups(PlannerInfo *root, RelOptInfo *rel, const PlanEstimate *e, List *identity, double *rows)
{
	double share = clauselist_selectivity(root, identity, (int) rel->relid, JOIN_INNER, NULL);
	double customers = Max(share * e->customers, 1);
	double containers = Max(ceil(e->customers / CSEG_CONTAINER_SIZE), 1);

	*rows *= share;
	return cpu_tuple_cost * (are_kept(rel, e) ? LOOKUP_ROWS_KEPT : LOOKUP_ROWS_READ) * e->cells / containers *
		   customers;
}

void
plan_cost_scan(PlannerInfo *root, RelOptInfo *rel, Path *path, const PlanEstimate *e, const PlanClauses *clauses,
			   List *rinfos, uint32 columns, double processes)
{
	double rows = e->instance_rows;
	QualCost qual;
	Cost run;

	cost_qual_eval(&qual, rinfos, root);
	if (clauses->identity)
		run = cost_of_lookups(root, rel, e, clauses->identity, &rows);
	else
		run = cpu_tuple_cost * (DECODE_SHARE * decoded_rows(rel, e) + CELL_ROWS * e->cells);
	run += rows * (cpu_tuple_cost * (ROW_SHARE + MEASURE_SHARE * measures_in(columns)) + qual.per_tuple);
	path->startup_cost = qual.startup + path->pathtarget->cost.startup;
	if (clauses->instance)
		path->startup_cost += cpu_operator_cost * TEST_OPERATORS * e->tests;
	path->total_cost = path->startup_cost + run / processes + path->pathtarget->cost.per_tuple * path->rows;
}

void
plan_cost_ordered_scan(PlannerInfo *root, RelOptInfo *rel, Path *path, const PlanEstimate *e,
					   const PlanClauses *clauses, List *rinfos, uint32 columns, bool counted, double instances)
{
	double rows = e->instance_rows * instances / Max(e->instances, 1);
	double visits = instances * Max(e->cells / Max(e->groups, 1), 1);
	double sorted = Max(e->instances, 2);
	QualCost qual;
	Cost run = 0;

	cost_qual_eval(&qual, rinfos, root);
	if (!counted)
		run = cpu_tuple_cost * CELL_ROWS * visits;
	if (clauses->identity)
		run = cost_of_lookups(root, rel, e, clauses->identity, &rows) * Max(visits / Max(e->cells, 1), 1);
	else if (!counted)
	{
		run += cpu_tuple_cost * GATHER_SHARE * rows;
		/* A cell that is not kept is decoded for each of its instances. */
		run += cpu_tuple_cost * DECODE_SHARE * decoded_rows(rel, e) *
			   (are_kept(rel, e) ? Min(visits / Max(e->cells, 1), 1) : visits / Max(e->cells, 1));
	}
	run += rows * (cpu_tuple_cost * (ROW_SHARE + MEASURE_SHARE * measures_in(columns)) + qual.per_tuple);
	path->startup_cost = qual.startup + path->pathtarget->cost.startup;
	path->startup_cost += 2 * cpu_operator_cost * sorted * (TEST_OPERATORS / 2 + log2(sorted));
	if (clauses->instance)
		path->startup_cost += cpu_operator_cost * TEST_OPERATORS * e->tests;
	path->total_cost = path->startup_cost + run + path->pathtarget->cost.per_tuple * path->rows;
}
