/*
 * paths.c
 *    Adds custom scan paths: of a table by itself, by the values of others in joins, in parallel.
 */
#include "plan/plan.h"

#include <math.h>

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/restrictinfo.h"
#include "utils/rel.h"

#include "am/am.h"
#include "compat/compat.h"
#include "plan/costs.h"
#include "plan/estimate.h"
#include "plan/instances.h"
#include "plan/stats.h"

bool plan_enable_custom_scan = true;

static set_rel_pathlist_hook_type previous_hook = NULL;

typedef struct Table
{
	PlannerInfo *root;
	RelOptInfo *rel;
	AmColumnMap *map;
	TupleDesc desc;
	const AmSummary *summary;
} Table;

/* ---- paths ------------------------------------------------------------------------------------------------------- */

/* The columns that the plan's nodes above need, and the clauses. Physical target lists may name more. *addresses: rows
 * are asked for what is theirs alone beside columns. */
static uint32
columns_needed(RelOptInfo *rel, List *rinfos, const AmColumnMap *map, bool *addresses)
{
	Bitmapset *attnos = NULL;
	uint32 columns = 0;
	int x = -1;
	ListCell *lc;

	pull_varattnos((Node *) rel->reltarget->exprs, rel->relid, &attnos);
	foreach (lc, rinfos)
		pull_varattnos((Node *) lfirst_node(RestrictInfo, lc)->clause, rel->relid, &attnos);
	*addresses = false;
	while ((x = bms_next_member(attnos, x)) >= 0)
	{
		AttrNumber attno = (AttrNumber) (x + FirstLowInvalidHeapAttributeNumber);

		*addresses |= attno < 0 && attno != TableOidAttributeNumber;
		if (attno == 0)
			return PLAN_ALL_COLUMNS;
		if (attno > 0 && attno <= map->natts && map->column[attno - 1] != COL_DROPPED)
			columns |= PLAN_COLUMN(map->column[attno - 1]);
	}
	return columns;
}

static List *
all_clauses(const RelOptInfo *rel, const ParamPathInfo *param)
{
	return param ? list_concat_copy(rel->baserestrictinfo, param->ppi_clauses) : rel->baserestrictinfo;
}

static CustomPath *
new_path(const Table *t)
{
	CustomPath *path = makeNode(CustomPath);

	path->path.pathtype = T_CustomScan;
	path->path.parent = t->rel;
	path->path.pathtarget = t->rel->reltarget;
	path->path.parallel_safe = t->rel->consider_parallel;
	path->methods = &plan_scan_path_methods;
	return path;
}

static CustomPath *
scan_path(const Table *t, const PlanClauses *clauses, ParamPathInfo *param, const PlanEstimate *e, int workers)
{
	CustomPath *path = new_path(t);
	List *decided = plan_decided_clauses(clauses, t->rel, t->map);
	List *filter = list_difference_ptr(all_clauses(t->rel, param), decided);
	bool addresses;
	uint32 columns = columns_needed(t->rel, filter, t->map, &addresses);
	double processes = plan_processes(workers);

	path->path.param_info = param;
	path->path.parallel_aware = workers > 0;
	path->path.parallel_workers = workers;
	path->path.rows = clamp_row_est((param ? param->ppi_rows : t->rel->rows) / processes);
	path->flags = CUSTOMPATH_SUPPORT_PROJECTION | CUSTOMPATH_SUPPORT_BACKWARD_SCAN;
	path->custom_private = plan_scan_private(clauses, decided, columns, false, NULL);
	plan_cost_scan(t->root, t->rel, &path->path, e, clauses, filter, columns, processes);
	return path;
}

/* Rows, and instances that are read for them, of a scan that stops in each partition. */
static double
rows_until_stop(const Table *t, const PlanOrder *order, const PlanEstimate *e, double *instances)
{
	double per_instance = t->rel->rows / Max(e->instances, 1);
	double partitions = plan_partitions(t->root, order, e);
	double wanted = partitions * order->limit;

	if (order->stop != STOP_AT_GROUPS)
		wanted = partitions * Max(ceil(order->limit / Max(per_instance, 1e-6)), 1);
	*instances = Min(wanted, Max(e->instances, 1));
	if (order->stop == STOP_AT_ROWS)
		return Min(partitions * order->limit, t->rel->rows);
	return Min(*instances * per_instance, t->rel->rows);
}

static void
add_ordered_path(const Table *t, const PlanClauses *clauses, const PlanEstimate *e, const PlanOrder *order)
{
	CustomPath *path = new_path(t);
	List *decided = plan_decided_clauses(clauses, t->rel, t->map);
	List *filter = list_difference_ptr(t->rel->baserestrictinfo, decided);
	double instances = Max(e->instances, 1);
	bool addresses;
	uint32 columns = columns_needed(t->rel, filter, t->map, &addresses);
	bool counted = !addresses && (columns & ~PLAN_DIMENSIONS) == 0 && clauses->identity == NIL;

	path->path.pathkeys = order->pathkeys;
	path->path.rows = t->rel->rows;
	if (order->stop != STOP_NEVER)
		path->path.rows = clamp_row_est(rows_until_stop(t, order, e, &instances));
	path->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	path->custom_private = plan_scan_private(clauses, decided, columns, counted, order);
	plan_cost_ordered_scan(t->root, t->rel, &path->path, e, clauses, filter, columns, counted, instances);
	add_path(t->rel, (Path *) path);
}

/* What a query orders by at first, instances may be read in the order of; and perhaps only the first of them. */
static void
add_ordered_paths(const Table *t, const PlanClauses *clauses, const PlanEstimate *e)
{
	PlanOrder order;

	/* Without any key, too, rows that are but counted need no cells, and the first of all rows may be enough. */
	if (plan_find_order(t->root, t->rel, t->map, &order))
		add_ordered_path(t, clauses, e, &order);
	if (plan_find_stop(t->root, t->rel, &order))
		add_ordered_path(t, clauses, e, &order);
}

/* As many as a plain table of the rows that are read would get, but not more than there are cells to share. */
static int
parallel_workers(const Table *t, const PlanEstimate *e)
{
	double bytes = e->instance_rows * (t->rel->reltarget->width + MAXALIGN(SizeofHeapTupleHeader));
	int workers = compute_parallel_worker(t->rel, bytes / BLCKSZ, -1, max_parallel_workers_per_gather);

	return (int) Max(Min(workers, e->cells - 1), 0);
}

typedef struct ColumnOfRelation
{
	AttrNumber attno;
} ColumnOfRelation;

static bool
is_wanted_member(PlannerInfo *root, RelOptInfo *rel, EquivalenceClass *ec, EquivalenceMember *em, void *arg)
{
	return plan_is_column((Node *) em->em_expr, rel->relid, ((ColumnOfRelation *) arg)->attno);
}

/* Join clauses that would do for pruning if the other side were known. */
static List *
join_clauses(const Table *t)
{
	List *clauses = list_copy(t->rel->joininfo);

	if (!t->rel->has_eclass_joins)
		return clauses;
	for (AmColumn c = 0; c < COL_CUSTOMERS; c++)
	{
		ColumnOfRelation arg = {t->map->attno[c] + 1};

		clauses = list_concat(clauses, generate_implied_equalities_for_column(t->root, t->rel, is_wanted_member, &arg,
																			  t->rel->lateral_referencers));
	}
	return clauses;
}

static bool
is_in(List *sets, Relids relids)
{
	ListCell *lc;

	foreach (lc, sets)
		if (bms_equal(lfirst(lc), relids))
			return true;
	return false;
}

/* More combinations of outer relations than this are not looked at. */
#define MAX_OUTER_SETS 12

/* The sets of relations that some join clause needs the values of, and unions of two. */
static List *
outer_sets(const Table *t)
{
	RelOptInfo *rel = t->rel;
	List *sets = NIL;
	int n;
	ListCell *lc;

	foreach (lc, join_clauses(t))
	{
		RestrictInfo *rinfo = lfirst_node(RestrictInfo, lc);
		PlanClauses one = {NIL, NIL};
		Relids outer;

		if (list_length(sets) >= MAX_OUTER_SETS || !join_clause_is_movable_to(rinfo, rel))
			continue;
		plan_sort_clause(rinfo, rel, t->map, true, &one);
		if (one.identity == NIL && one.instance == NIL)
			continue;
		outer = bms_difference(rinfo->clause_relids, rel->relids);
		outer = bms_add_members(outer, rel->lateral_relids);
		if (!bms_is_empty(outer) && !is_in(sets, outer))
			sets = lappend(sets, outer);
	}
	n = list_length(sets);
	for (int i = 0; i < n; i++)
	{
		for (int j = i + 1; j < n && list_length(sets) < MAX_OUTER_SETS; j++)
		{
			Relids both = bms_union(list_nth(sets, i), list_nth(sets, j));

			if (!is_in(sets, both))
				sets = lappend(sets, both);
		}
	}
	return sets;
}

/* The server multiplied what it knows of each clause; here is what they leave together. */
static void
estimate(const Table *t, ParamPathInfo *param, PlanEstimate *e)
{
	double rows = param ? param->ppi_rows : t->rel->rows;

	if (!plan_estimate(t->root, t->rel, t->summary, t->map, t->desc, all_clauses(t->rel, param), e))
		e->rows = e->instance_rows = rows;
	else if (plan_enable_statistics)
		rows = clamp_row_est(e->rows);
	if (param)
		param->ppi_rows = Min(rows, t->rel->rows);
}

static void
add_join_paths(const Table *t)
{
	ListCell *lc;

	foreach (lc, outer_sets(t))
	{
		ParamPathInfo *param = get_baserel_parampathinfo(t->root, t->rel, lfirst(lc));
		PlanClauses clauses = {NIL, NIL};
		PlanEstimate e;

		plan_sort_clauses(t->rel->baserestrictinfo, t->rel, t->map, false, &clauses);
		plan_sort_clauses(param->ppi_clauses, t->rel, t->map, true, &clauses);
		if (clauses.identity == NIL && clauses.instance == NIL)
			continue;
		estimate(t, param, &e);
		add_path(t->rel, (Path *) scan_path(t, &clauses, param, &e, 0));
	}
}

/* Paths that were made before the number of rows was put right. */
static void
correct_rows(RelOptInfo *rel, double before)
{
	ListCell *lc;

	foreach (lc, rel->pathlist)
	{
		Path *path = lfirst(lc);

		if (path->param_info == NULL && path->rows == before)
			path->rows = rel->rows;
	}
	foreach (lc, rel->partial_pathlist)
	{
		Path *path = lfirst(lc);

		path->rows = clamp_row_est(path->rows * rel->rows / before);
	}
}

static void
add_paths(const Table *t)
{
	RelOptInfo *rel = t->rel;
	PlanClauses clauses = {NIL, NIL};
	ParamPathInfo *param = NULL;
	double before = rel->rows;
	PlanEstimate e;
	int workers;

	estimate(t, NULL, &e);
	if (t->summary && plan_enable_statistics)
	{
		rel->rows = clamp_row_est(e.rows);
		correct_rows(rel, before);
	}
	if (!plan_enable_custom_scan)
		return;
	if (!bms_is_empty(rel->lateral_relids))
		param = get_baserel_parampathinfo(t->root, rel, rel->lateral_relids);
	plan_sort_clauses(rel->baserestrictinfo, rel, t->map, false, &clauses);
	if (param)
		plan_sort_clauses(param->ppi_clauses, rel, t->map, true, &clauses);
	add_path(rel, (Path *) scan_path(t, &clauses, param, &e, 0));
	if (param == NULL)
		add_ordered_paths(t, &clauses, &e);
	workers = rel->consider_parallel && bms_is_empty(rel->lateral_relids) ? parallel_workers(t, &e) : 0;
	if (workers > 0)
		add_partial_path(rel, (Path *) scan_path(t, &clauses, NULL, &e, workers));
	add_join_paths(t);
}

/* A partitioned table has as many rows as its partitions, some of which know theirs better now. */
static void
sum_up_children(PlannerInfo *root, RelOptInfo *rel)
{
	double rows = 0;
	ListCell *lc;

	foreach (lc, root->append_rel_list)
	{
		AppendRelInfo *child = lfirst_node(AppendRelInfo, lc);
		RelOptInfo *child_rel = child->parent_relid == rel->relid ? root->simple_rel_array[child->child_relid] : NULL;

		if (child_rel && !IS_DUMMY_REL(child_rel))
			rows += child_rel->rows;
	}
	if (rows > 0)
		rel->rows = rows;
}

/* Only a TID scan knows how to find a cursor's row. Before 18 its price said so; now there are no other paths. */
static bool
is_at_cursor(const RelOptInfo *rel)
{
	ListCell *lc;

	foreach (lc, rel->baserestrictinfo)
		if (IsA(lfirst_node(RestrictInfo, lc)->clause, CurrentOfExpr))
			return true;
	return false;
}

static void
set_rel_pathlist(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte)
{
	Relation relation;

	if (previous_hook)
		previous_hook(root, rel, rti, rte);
	if (IS_DUMMY_REL(rel))
		return;
	if (rte->rtekind == RTE_FUNCTION)
		plan_narrow_instances(rel, rti, rte);
	if (rte->rtekind != RTE_RELATION)
		return;
	if (rte->inh && plan_enable_statistics)
		sum_up_children(root, rel);
	if (rte->inh || rte->relkind != RELKIND_RELATION || rte->tablesample != NULL || is_at_cursor(rel))
		return;
	relation = table_open(rte->relid, NoLock);
	if (am_is_ours(relation))
	{
		Table t = {root, rel, am_copy_relation_map(relation), RelationGetDescr(relation), am_summary(relation)};

		add_paths(&t);
	}
	table_close(relation, NoLock);
}

void
plan_init(void)
{
	plan_register_scan();
	plan_stats_init();
	previous_hook = set_rel_pathlist_hook;
	set_rel_pathlist_hook = set_rel_pathlist;
}
