/*
 * paths.c
 *    Adds custom scan paths where a restriction can skip instances or customers.
 *
 * Clauses only prune: all of them stay in the plan's own filter, so correctness, the order of security levels and
 * re-checks after concurrent changes stay with the executor. A clause that is evaluated early must be promotable past
 * the others.
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

#define TEXT_EQUAL_OPERATOR TextEqualOperator

bool plan_enable_custom_scan = true;

static set_rel_pathlist_hook_type previous_hook = NULL;

/* ---- clauses ----------------------------------------------------------------------------------------------------- */

static bool
is_column(Node *node, Index varno, AttrNumber attno)
{
	if (node && IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	return node && IsA(node, Var) && ((Var *) node)->varno == (int) varno && ((Var *) node)->varattno == attno &&
		   ((Var *) node)->varlevelsup == 0;
}

static bool
is_value(Node *node, Index varno)
{
	return !bms_is_member((int) varno, pull_varnos(NULL, node)) && !contain_volatile_functions(node) &&
		   !contain_subplans(node);
}

Expr *
plan_identity_value(Expr *clause, Index varno, AttrNumber identity, bool *is_array)
{
	List *args;
	Oid opno;
	Oid collation;
	Node *left;
	Node *right;

	*is_array = false;
	if (IsA(clause, OpExpr))
	{
		opno = ((OpExpr *) clause)->opno;
		args = ((OpExpr *) clause)->args;
		collation = ((OpExpr *) clause)->inputcollid;
	}
	else if (IsA(clause, ScalarArrayOpExpr) && ((ScalarArrayOpExpr *) clause)->useOr)
	{
		opno = ((ScalarArrayOpExpr *) clause)->opno;
		args = ((ScalarArrayOpExpr *) clause)->args;
		collation = ((ScalarArrayOpExpr *) clause)->inputcollid;
		*is_array = true;
	}
	else
		return NULL;
	if (opno != TEXT_EQUAL_OPERATOR || list_length(args) != 2 || !am_collation_is_deterministic(collation))
		return NULL;
	left = linitial(args);
	right = lsecond(args);
	if (is_column(left, varno, identity) && is_value(right, varno))
		return (Expr *) right;
	if (!*is_array && is_column(right, varno, identity) && is_value(left, varno))
		return (Expr *) left;
	return NULL;
}

/* Does the expression speak of dimensions alone? */
static bool
is_about_instances(Node *clause, Index varno, const AmColumnMap *map)
{
	Bitmapset *attnos = NULL;
	int x = -1;

	if (contain_volatile_functions(clause) || contain_subplans(clause))
		return false;
	pull_varattnos(clause, varno, &attnos);
	if (bms_is_empty(attnos))
		return false;
	while ((x = bms_next_member(attnos, x)) >= 0)
	{
		AttrNumber attno = (AttrNumber) (x + FirstLowInvalidHeapAttributeNumber);

		if (attno <= 0 || attno > map->natts)
			return false;
		switch ((AmColumn) map->column[attno - 1])
		{
		case COL_INSTANCE_DATE:
		case COL_SCHEDULE:
		case COL_SEGMENT_BY:
		case COL_SEGMENT_DATE:
		case COL_SEGMENT_ID:
		case COL_INSTANCE_ID:
		case COL_SEGMENT_NAME:
			break;
		default:
			return false;
		}
	}
	return true;
}

static bool
has_other_relations(Node *clause, Index varno)
{
	Bitmapset *varnos = pull_varnos(NULL, clause);

	return !bms_is_subset(varnos, bms_make_singleton((int) varno));
}

static void
sort_clause(RestrictInfo *rinfo, RelOptInfo *rel, const AmColumnMap *map, Relids outer, PlanClauses *out)
{
	AttrNumber identity = map->attno[COL_IDENTITY] + 1;
	bool is_array;

	if (rinfo->pseudoconstant || !restriction_is_securely_promotable(rinfo, rel))
		return;
	if (plan_identity_value(rinfo->clause, rel->relid, identity, &is_array))
		out->identity = lappend(out->identity, rinfo);
	else if (is_about_instances((Node *) rinfo->clause, rel->relid, map) &&
			 (outer || !has_other_relations((Node *) rinfo->clause, rel->relid)))
		out->instance = lappend(out->instance, rinfo);
}

static void
sort_clauses(List *rinfos, RelOptInfo *rel, const AmColumnMap *map, Relids outer, PlanClauses *out)
{
	ListCell *lc;

	foreach (lc, rinfos)
		sort_clause(lfirst_node(RestrictInfo, lc), rel, map, outer, out);
}

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

static void
add_scan_path(PlannerInfo *root, RelOptInfo *rel, const PlanClauses *clauses, ParamPathInfo *param)
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
	path->custom_private = list_make2(clauses->instance, clauses->identity);
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
	return is_column((Node *) em->em_expr, rel->relid, ((ColumnOfRelation *) arg)->attno);
}

/* One path for each set of outer relations that a join clause on the identity or an instance column needs. */
static void
add_join_paths(PlannerInfo *root, RelOptInfo *rel, const AmColumnMap *map)
{
	static const AmColumn joinable[] = {COL_IDENTITY, COL_INSTANCE_ID, COL_SEGMENT_ID};
	List *candidates = list_copy(rel->joininfo);
	List *seen = NIL;
	ListCell *lc;

	for (size_t i = 0; i < lengthof(joinable); i++)
	{
		ColumnOfRelation arg = {map->attno[joinable[i]] + 1};

		if (rel->has_eclass_joins)
			candidates = list_concat(candidates, generate_implied_equalities_for_column(
													 root, rel, is_wanted_member, &arg, rel->lateral_referencers));
	}
	foreach (lc, candidates)
	{
		RestrictInfo *rinfo = lfirst_node(RestrictInfo, lc);
		PlanClauses one = {NIL, NIL};
		PlanClauses clauses = {NIL, NIL};
		Relids outer;
		ParamPathInfo *param;
		ListCell *lc2;
		bool known = false;

		if (!join_clause_is_movable_to(rinfo, rel))
			continue;
		sort_clause(rinfo, rel, map, rinfo->clause_relids, &one);
		if (one.identity == NIL && one.instance == NIL)
			continue;
		outer = bms_difference(rinfo->clause_relids, rel->relids);
		outer = bms_add_members(outer, rel->lateral_relids);
		if (bms_is_empty(outer))
			continue;
		foreach (lc2, seen)
			known |= bms_equal(lfirst(lc2), outer);
		if (known)
			continue;
		seen = lappend(seen, outer);
		param = get_baserel_parampathinfo(root, rel, outer);
		sort_clauses(rel->baserestrictinfo, rel, map, NULL, &clauses);
		sort_clauses(param->ppi_clauses, rel, map, outer, &clauses);
		if (clauses.identity || clauses.instance)
			add_scan_path(root, rel, &clauses, param);
	}
}

static void
add_paths(PlannerInfo *root, RelOptInfo *rel, const AmColumnMap *map)
{
	PlanClauses clauses = {NIL, NIL};
	ParamPathInfo *param = NULL;

	if (!bms_is_empty(rel->lateral_relids))
		param = get_baserel_parampathinfo(root, rel, rel->lateral_relids);
	sort_clauses(rel->baserestrictinfo, rel, map, rel->lateral_relids, &clauses);
	if (clauses.identity || clauses.instance)
		add_scan_path(root, rel, &clauses, param);
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
