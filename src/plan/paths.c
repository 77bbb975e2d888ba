/*
 * paths.c
 *    Adds custom scan paths: of a table by itself, by the values of others in joins, in parallel.
 */
#include "plan/plan.h"

#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/restrictinfo.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "am/am.h"
#include "compat/compat.h"

bool plan_enable_custom_scan = true;

static set_rel_pathlist_hook_type previous_hook = NULL;

/* ---- costs
 * ----------------------------------------------------------------------------------------------------------- */

/* A row that a scan passes over without the executor seeing it costs about this share of one that it does. */
#define SKIPPED_ROW_SHARE 0.05
/* Finding the instances and cells to read: per record of the main fork, in units of cpu_operator_cost. */
#define OPERATIONS_PER_RECORD 4
#define RECORDS_PER_PAGE 50
/* Looking one customer up in one cell, likewise. */
#define OPERATIONS_PER_LOOKUP 200

static void
cost_scan(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, const PlanClauses *clauses, List *all)
{
	double pages = Max(rel->pages, 1);
	double read = rel->tuples;
	QualCost qual;
	Cost startup;
	Cost run;

	startup = seq_page_cost * pages + cpu_operator_cost * OPERATIONS_PER_RECORD * RECORDS_PER_PAGE * pages;
	if (clauses->instance)
		read *= clauselist_selectivity(root, clauses->instance, (int) rel->relid, JOIN_INNER, NULL);
	if (clauses->identity)
	{
		read *= clauselist_selectivity(root, clauses->identity, (int) rel->relid, JOIN_INNER, NULL);
		startup += cpu_operator_cost * OPERATIONS_PER_LOOKUP * Max(pages / 4, 1);
	}
	read = clamp_row_est(read);
	cost_qual_eval(&qual, all, root);
	run =
		read * (cpu_tuple_cost + qual.per_tuple) + cpu_tuple_cost * SKIPPED_ROW_SHARE * (clauses->identity ? 0 : read);
	path->path.startup_cost = startup + qual.startup + rel->reltarget->cost.startup;
	path->path.total_cost = path->path.startup_cost + run + rel->reltarget->cost.per_tuple * path->path.rows;
}

/* ---- paths
 * ----------------------------------------------------------------------------------------------------------- */

/* The columns that the plan's nodes above need, and the clauses. Physical target lists may name more. */
static uint32
columns_needed(RelOptInfo *rel, List *rinfos, const AmColumnMap *map)
{
	Bitmapset *attnos = NULL;
	uint32 columns = 0;
	int x = -1;
	ListCell *lc;

	pull_varattnos((Node *) rel->reltarget->exprs, rel->relid, &attnos);
	foreach (lc, rinfos)
		pull_varattnos((Node *) lfirst_node(RestrictInfo, lc)->clause, rel->relid, &attnos);
	while ((x = bms_next_member(attnos, x)) >= 0)
	{
		AttrNumber attno = (AttrNumber) (x + FirstLowInvalidHeapAttributeNumber);

		if (attno == 0)
			return PLAN_ALL_COLUMNS;
		if (attno > 0 && attno <= map->natts && map->column[attno - 1] != COL_DROPPED)
			columns |= PLAN_COLUMN(map->column[attno - 1]);
	}
	return columns;
}

static void
add_scan_path(PlannerInfo *root, RelOptInfo *rel, const AmColumnMap *map, const PlanClauses *clauses,
			  ParamPathInfo *param)
{
	CustomPath *path = makeNode(CustomPath);
	List *all = rel->baserestrictinfo;

	if (param)
		all = list_concat_copy(all, param->ppi_clauses);
	path->path.pathtype = T_CustomScan;
	path->path.parent = rel;
	path->path.pathtarget = rel->reltarget;
	path->path.param_info = param;
	path->path.parallel_safe = rel->consider_parallel;
	path->path.rows = param ? param->ppi_rows : rel->rows;
	path->flags = CUSTOMPATH_SUPPORT_PROJECTION | CUSTOMPATH_SUPPORT_BACKWARD_SCAN;
	path->custom_private = plan_scan_private(clauses, columns_needed(rel, all, map));
	path->methods = &plan_scan_path_methods;
	cost_scan(root, rel, path, clauses, all);
	add_path(rel, (Path *) path);
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
join_clauses(PlannerInfo *root, RelOptInfo *rel, const AmColumnMap *map)
{
	List *clauses = list_copy(rel->joininfo);

	if (!rel->has_eclass_joins)
		return clauses;
	for (AmColumn c = 0; c < COL_CUSTOMERS; c++)
	{
		ColumnOfRelation arg = {map->attno[c] + 1};

		clauses = list_concat(clauses, generate_implied_equalities_for_column(root, rel, is_wanted_member, &arg,
																			  rel->lateral_referencers));
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
outer_sets(PlannerInfo *root, RelOptInfo *rel, const AmColumnMap *map)
{
	List *sets = NIL;
	int n;
	ListCell *lc;

	foreach (lc, join_clauses(root, rel, map))
	{
		RestrictInfo *rinfo = lfirst_node(RestrictInfo, lc);
		PlanClauses one = {NIL, NIL};
		Relids outer;

		if (list_length(sets) >= MAX_OUTER_SETS || !join_clause_is_movable_to(rinfo, rel))
			continue;
		plan_sort_clause(rinfo, rel, map, true, &one);
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

static void
add_join_paths(PlannerInfo *root, RelOptInfo *rel, const AmColumnMap *map)
{
	ListCell *lc;

	foreach (lc, outer_sets(root, rel, map))
	{
		ParamPathInfo *param = get_baserel_parampathinfo(root, rel, lfirst(lc));
		PlanClauses clauses = {NIL, NIL};

		plan_sort_clauses(rel->baserestrictinfo, rel, map, false, &clauses);
		plan_sort_clauses(param->ppi_clauses, rel, map, true, &clauses);
		if (clauses.identity || clauses.instance)
			add_scan_path(root, rel, map, &clauses, param);
	}
}

static void
add_paths(PlannerInfo *root, RelOptInfo *rel, const AmColumnMap *map)
{
	PlanClauses clauses = {NIL, NIL};
	ParamPathInfo *param = NULL;

	if (!bms_is_empty(rel->lateral_relids))
		param = get_baserel_parampathinfo(root, rel, rel->lateral_relids);
	plan_sort_clauses(rel->baserestrictinfo, rel, map, false, &clauses);
	if (param)
		plan_sort_clauses(param->ppi_clauses, rel, map, true, &clauses);
	add_scan_path(root, rel, map, &clauses, param);
	add_join_paths(root, rel, map);
}

static void
set_rel_pathlist(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte)
{
	Relation relation;

	if (previous_hook)
		previous_hook(root, rel, rti, rte);
	if (!plan_enable_custom_scan || rte->rtekind != RTE_RELATION || rte->relkind != RELKIND_RELATION || rte->inh ||
		rte->tablesample != NULL || IS_DUMMY_REL(rel))
		return;
	relation = table_open(rte->relid, NoLock);
	if (am_is_ours(relation))
		add_paths(root, rel, am_copy_relation_map(relation));
	table_close(relation, NoLock);
}

void
plan_init(void)
{
	plan_register_scan();
	previous_hook = set_rel_pathlist_hook;
	set_rel_pathlist_hook = set_rel_pathlist;
}
