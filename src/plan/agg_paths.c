/*
 * agg_paths.c
 *    Adds a path that answers a query's aggregates without rows, where it is covered entirely.
 *
 * The node takes the place of the aggregation and of the scan below it, so nothing is left that would check a clause
 * once more: every clause is handled exactly, or there is no path. The ordinary paths stay.
 */
#include "plan/agg.h"

#include <math.h>

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/planner.h"
#include "optimizer/restrictinfo.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "port/pg_bitutils.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "compat/compat.h"
#include "plan/costs.h"

bool plan_enable_aggregate = true;

static create_upper_paths_hook_type previous_hook = NULL;

/* What a query asks for, found to be covered: of a table, or of all partitions of one. */
typedef struct AggQuery
{
	RelOptInfo *rel;
	Index varno;
	const AmColumnMap *map;
	AttrNumber identity;
	List *keys;
	List *equal_ops;
	List *refs;      /* tleSortGroupRef of keys */
	List *calls;     /* Aggref */
	List *groupings; /* GroupingFunc */
	List *sets;      /* of the positions of keys; NIL: one of all */
	List *instance;
	List *measures;
	List *identities;
	List *having;
	bool cells; /* totals don't do */
	bool counts_customers;
	List *rows;       /* what depends on measures */
	bool by_row;      /* the executor has to evaluate it */
	double instances; /* about; < 0: unknown */
	double n_cells;   /* likewise */
	double customers;
	double cell_bytes;
} AggQuery;

/* What is asked. */
typedef struct AggQuestion
{
	bool distinct; /* SELECT DISTINCT, without aggregates */
	List *exprs;
	PathTarget *target; /* where exprs are from: it knows their references */
	List *having;
	bool secured; /* row security has a say */
} AggQuestion;

/* ---- is it covered? ------------------------------------------------------------------------------------------- */

static bool
take_keys(const AggQuestion *asked, List *clauses, AggQuery *q)
{
	ListCell *lc;

	foreach (lc, clauses)
	{
		SortGroupClause *clause = lfirst_node(SortGroupClause, lc);
		Node *key = NULL;
		int i = 0;
		ListCell *lc2;

		foreach (lc2, asked->exprs)
			if (get_pathtarget_sortgroupref(asked->target, i++) == clause->tleSortGroupRef)
				key = lfirst(lc2);
		if (key == NULL || !clause->hashable || !agg_is_of_instance(key, q->varno, q->map) ||
			!am_collation_is_deterministic(exprCollation(key)))
			return false;
		q->keys = lappend(q->keys, key);
		q->equal_ops = lappend_oid(q->equal_ops, clause->eqop);
		q->refs = lappend_int(q->refs, (int) clause->tleSortGroupRef);
	}
	return true;
}

static bool
take_sets(PlannerInfo *root, AggQuery *q)
{
	Query *parse = root->parse;
	ListCell *lc;

	if (parse->groupingSets == NIL)
		return true;
	/* The server would take them from the query and not from the node, which knows where they are NULL. */
	foreach (lc, q->keys)
		if (IsA(lfirst(lc), Const) || IsA(lfirst(lc), Param))
			return false;
	foreach (lc, parse->groupingSets) /* expanded by now */
	{
		List *set = NIL;
		ListCell *lc2;

		foreach (lc2, (List *) lfirst(lc)) /* of integers, which is another kind of node */
		{
			int position = 0;
			ListCell *lc3;

			foreach (lc3, parse->groupClause)
			{
				if (lfirst_node(SortGroupClause, lc3)->tleSortGroupRef == (Index) lfirst_int(lc2))
					set = list_append_unique_int(set, position);
				position++;
			}
		}
		q->sets = lappend(q->sets, set);
	}
	return true;
}

typedef struct CoverWalk
{
	AggQuery *q;
	bool covered;
} CoverWalk;

/* Collects aggregates; finds what is computed neither from them nor from keys. */
static bool
cover_walker(Node *node, void *context)
{
	CoverWalk *walk = context;
	AggCall call;

	if (node == NULL)
		return false;
	if (list_member(walk->q->keys, node))
		return false;
	if (IsA(node, Aggref))
	{
		walk->covered &= agg_analyze((Aggref *) node, walk->q->varno, walk->q->map, &call);
		if (!walk->covered)
			return true;
		walk->q->calls = list_append_unique(walk->q->calls, node);
		walk->q->cells |= call.kind == AGG_DISTINCT_IDENTITY || call.filter_measures != NIL;
		walk->q->counts_customers |= call.kind == AGG_DISTINCT_IDENTITY;
		walk->q->by_row |= call.by_row;
		walk->q->rows = list_concat(walk->q->rows, list_copy(call.filter_measures));
		if (call.value)
			walk->q->rows = lappend(walk->q->rows, call.value);
		return false;
	}
	if (IsA(node, GroupingFunc))
	{
		walk->q->groupings = list_append_unique(walk->q->groupings, node);
		return false;
	}
	if (IsA(node, Var) && ((Var *) node)->varlevelsup == 0)
	{
		walk->covered = false;
		return true;
	}
	return expression_tree_walker(node, cover_walker, context);
}

static bool
take_target(Node *exprs, AggQuery *q)
{
	CoverWalk walk = {q, true};

	if (contain_volatile_functions(exprs))
		return false;
	cover_walker(exprs, &walk);
	return walk.covered;
}

static bool
take_clause(RestrictInfo *rinfo, RelOptInfo *rel, bool secured, AggQuery *q)
{
	Node *clause = (Node *) rinfo->clause;
	bool is_array;

	if (!restriction_is_securely_promotable(rinfo, rel))
		return false;
	if (agg_is_of_instance(clause, q->varno, q->map))
	{
		q->instance = lappend(q->instance, clause);
		return true;
	}
	/* Expressions of the query see an instance if any of its rows passes: with row security, they all must. */
	if (secured)
		return false;
	q->cells = true;
	if (plan_key_value(rinfo->clause, q->varno, q->identity, &is_array))
	{
		q->identities = lappend(q->identities, clause);
		return true;
	}
	q->measures = lappend(q->measures, clause);
	q->rows = lappend(q->rows, clause);
	if (agg_is_condition(clause, q->varno, q->map))
		return true;
	q->by_row = true;
	return agg_is_of_row(clause, q->varno, q->map);
}

static bool
take_clauses(bool secured, AggQuery *q)
{
	ListCell *lc;

	foreach (lc, q->rel->baserestrictinfo)
		if (!take_clause(lfirst_node(RestrictInfo, lc), q->rel, secured, q))
			return false;
	return true;
}

/* As a scan's filter has them, so that an error is raised for the same rows: the cheapest first, else as written. */
static List *
in_order_of_cost(PlannerInfo *root, List *clauses)
{
	List *ordered = NIL;
	List *costs = NIL;
	ListCell *lc;

	foreach (lc, clauses)
	{
		Cost *cost = palloc(sizeof(Cost));
		QualCost qual;
		int at = list_length(ordered);

		cost_qual_eval_node(&qual, lfirst(lc), root);
		*cost = qual.per_tuple;
		while (at > 0 && *(Cost *) list_nth(costs, at - 1) > *cost)
			at--;
		ordered = list_insert_nth(ordered, at, lfirst(lc));
		costs = list_insert_nth(costs, at, cost);
	}
	return ordered;
}

/* SELECT DISTINCT of dimensions: groups without aggregates. */
static bool
may_be_distinct(const Query *parse)
{
	return parse->distinctClause && !parse->hasDistinctOn && !parse->hasAggs && !parse->hasWindowFuncs &&
		   parse->groupClause == NIL && parse->groupingSets == NIL && parse->havingQual == NULL;
}

static bool
cover(PlannerInfo *root, const AggQuestion *asked, AggQuery *q)
{
	Query *parse = root->parse;

	q->having = asked->having;
	if (asked->distinct)
		return may_be_distinct(parse) && take_keys(asked, parse->distinctClause, q) &&
			   take_target((Node *) asked->exprs, q);
	return take_keys(asked, parse->groupClause, q) && take_sets(root, q) && take_target((Node *) asked->exprs, q) &&
		   take_target((Node *) q->having, q);
}

/* NULL: not covered, or no table of ours. */
static AggQuery *
cover_table(PlannerInfo *root, RelOptInfo *rel, const AggQuestion *asked)
{
	Relation relation = table_open(planner_rt_fetch(rel->relid, root)->relid, NoLock);
	AggQuery *q = NULL;

	if (am_is_ours(relation))
	{
		const AmSummary *summary = am_summary(relation);

		q = palloc0(sizeof(AggQuery));
		q->rel = rel;
		q->varno = rel->relid;
		q->map = am_copy_relation_map(relation);
		q->identity = q->map->attno[COL_IDENTITY] + 1;
		q->instances = summary ? summary->instances : -1;
		q->n_cells = summary ? summary->view->n_cells : -1;
		q->customers = summary ? summary->customers : -1;
		q->cell_bytes = summary ? summary->cell_bytes : BLCKSZ * (double) rel->pages;
		if (!cover(root, asked, q) || !take_clauses(asked->secured, q))
			q = NULL;
		else if (q->by_row)
		{
			q->cells = true;
			q->measures = in_order_of_cost(root, q->measures);
		}
	}
	table_close(relation, NoLock);
	return q;
}

/* The same question to a partition. */
static AggQuestion
ask_partition(PlannerInfo *root, RelOptInfo *partition, const AggQuestion *asked)
{
	AggQuestion question = *asked;

	question.exprs = compat_adjust_clauses(root, asked->exprs, partition);
	question.having = compat_adjust_clauses(root, asked->having, partition);
	return question;
}

/* Of all partitions that are not pruned. False: one of them is not covered. */
static bool
cover_partitions(PlannerInfo *root, RelOptInfo *rel, const AggQuestion *asked, List **parts)
{
	for (int i = 0; i < rel->nparts; i++)
	{
		RelOptInfo *partition = rel->part_rels[i];
		AggQuestion question;
		AggQuery *q;

		if (partition == NULL || IS_DUMMY_REL(partition))
			continue;
		if (partition->nparts > 0)
		{
			if (!cover_partitions(root, partition, asked, parts))
				return false;
			continue;
		}
		if (planner_rt_fetch(partition->relid, root)->relkind != RELKIND_RELATION)
			return false;
		question = ask_partition(root, partition, asked);
		q = cover_table(root, partition, &question);
		if (q == NULL)
			return false;
		*parts = lappend(*parts, q);
	}
	return *parts != NIL;
}

/* What merges the partitions' groups sees the columns as the partitioned table has them. */
static AggQuery *
cover_parent(PlannerInfo *root, RelOptInfo *rel, const AggQuestion *asked, const AggQuery *part)
{
	Relation relation = table_open(planner_rt_fetch(rel->relid, root)->relid, NoLock);
	AggQuery *q = palloc0(sizeof(AggQuery));

	q->rel = rel;
	q->varno = rel->relid;
	q->map = am_column_map(RelationGetDescr(relation));
	q->identity = q->map->attno[COL_IDENTITY] + 1;
	table_close(relation, NoLock);
	if (!cover(root, asked, q) || list_length(q->keys) != list_length(part->keys) ||
		list_length(q->calls) != list_length(part->calls))
		return NULL;
	/* A customer of several partitions is known to each under another number. */
	if (q->counts_customers)
		return NULL;
	return q;
}

/* ---- costs ----------------------------------------------------------------------------------------------------------
 */

/* Adding a row up in the core, in units of cpu_operator_cost: most share a stretch of slots with others. */
#define OPERATIONS_PER_ROW 0.02
/* Likewise for each byte of a cell as it is stored: in a session that has kept the cell decoded, or to be decoded. */
#define OPERATIONS_PER_BYTE_KEPT 0.25
#define OPERATIONS_PER_BYTE_READ 3
/* Of rows with the same measures, where the executor evaluates something for them. */
#define BYTES_PER_STRETCH 2.5
/* Memory that a byte takes when it is decoded. */
#define DECODED_PER_BYTE 8
/* Evaluating what is the same for all rows of an instance, and finding its group, likewise. */
#define OPERATIONS_PER_INSTANCE 2
/* Where nothing is known of a table. */
#define INSTANCES_PER_PAGE 50

static double
groups_estimate(RelOptInfo *output)
{
	double rows = -1;
	ListCell *lc;

	foreach (lc, output->pathlist)
	{
		Path *path = lfirst(lc);

		if (rows < 0 || path->rows < rows)
			rows = path->rows;
	}
	return rows < 0 ? 1 : rows;
}

/* Reading a table's totals and cells. */
typedef struct AggWork
{
	Cost start;      /* of each process */
	Cost cells_kept; /* in a session that may have been here before */
	Cost cells_read; /* in new processes, all of them together */
	double rows;
	double shares; /* that processes can take */
} AggWork;

/* Rows with the same measures are evaluated together: a stretch takes two or three bytes, or is as long as a group. */
static Cost
cost_of_stretches(PlannerInfo *root, const AggQuery *q, double rows, double bytes)
{
	double stretches = Min(Max(bytes / BYTES_PER_STRETCH, rows / CSEG_SLOTS), rows);
	bool by_instance = agg_reads_instance((Node *) q->rows, q->varno, q->map);
	QualCost once;

	cost_qual_eval(&once, q->rows, root);
	return once.startup + (by_instance ? rows : stretches) * (cpu_tuple_cost + once.per_tuple);
}

static AggWork
estimate_work(PlannerInfo *root, const AggQuery *q)
{
	double pages = Max(q->rel->pages, 1);
	double instances = q->instances < 0 ? INSTANCES_PER_PAGE * pages : q->instances;
	double selected;
	double share;
	double bytes;
	Cost add;
	QualCost once;
	AggWork work = {0};

	/* Pages of metadata are not counted, as for scans: a session keeps what is on them. */
	cost_qual_eval(&once, q->instance, root);
	selected = clauselist_selectivity(root, q->instance, 0, JOIN_INNER, NULL);
	work.start = cpu_operator_cost * OPERATIONS_PER_INSTANCE * Max(instances * selected, 1) + once.startup +
				 once.per_tuple * instances;
	if (!q->cells)
		return work;
	share = selected * clauselist_selectivity(root, q->identities, 0, JOIN_INNER, NULL);
	bytes = q->cell_bytes * share;
	work.rows = clamp_row_est(q->rel->tuples * share);
	add = q->by_row ? cost_of_stretches(root, q, work.rows, bytes) : cpu_operator_cost * OPERATIONS_PER_ROW * work.rows;
	work.cells_read = add + cpu_operator_cost * OPERATIONS_PER_BYTE_READ * bytes;
	work.cells_kept = work.cells_read;
	if (bytes * DECODED_PER_BYTE <= store_cell_cache_kb * 1024.0)
		work.cells_kept = add + cpu_operator_cost * OPERATIONS_PER_BYTE_KEPT * bytes;
	work.shares = q->counts_customers ? ceil(q->customers / CSEG_CONTAINER_SIZE) : q->n_cells * selected;
	return work;
}

static void
cost_result(PlannerInfo *root, RelOptInfo *output, CustomPath *path, const AggQuery *q, Cost startup)
{
	QualCost having;

	cost_qual_eval(&having, q->having, root);
	path->path.rows = groups_estimate(output);
	path->path.startup_cost = startup + having.startup + path->path.pathtarget->cost.startup;
	path->path.total_cost = path->path.startup_cost + path->path.rows * (cpu_tuple_cost + having.per_tuple +
																		 path->path.pathtarget->cost.per_tuple);
}

/* ---- paths ----------------------------------------------------------------------------------------------------- */

static CustomPath *
new_path(RelOptInfo *parent, PathTarget *target, const AggQuery *q, List *having)
{
	CustomPath *path = makeNode(CustomPath);

	path->path.pathtype = T_CustomScan;
	path->path.parent = parent;
	path->path.pathtarget = target;
	path->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	path->custom_private =
		list_make5(list_make3(q->keys, q->calls, q->groupings), list_make3(q->instance, q->measures, q->identities),
				   list_make3(q->equal_ops, q->sets, q->refs), having,
				   makeVar(q->varno, q->identity, TEXTOID, -1, DEFAULT_COLLATION_OID, 0));
	path->methods = &agg_path_methods;
	return path;
}

/* Reads a table and returns groups that are finished. */
static void
add_whole_path(PlannerInfo *root, RelOptInfo *output, PathTarget *target, const AggQuery *q, const AggWork *work)
{
	CustomPath *path = new_path(output, target, q, q->having);

	path->path.parallel_safe = output->consider_parallel;
	cost_result(root, output, path, q, work->start + work->cells_kept);
	add_path(output, (Path *) path);
}

static PathTarget *
unfinished_groups(PlannerInfo *root)
{
	PathTarget *target = create_empty_pathtarget();

	add_column_to_pathtarget(target, agg_unfinished_group(), 0);
	return set_pathtarget_cost_width(root, target);
}

/* Reads a table, or in parallel a share of it, and returns groups that are not finished. */
static Path *
partial_path(PlannerInfo *root, RelOptInfo *output, const AggQuery *q, const AggWork *work, int workers)
{
	CustomPath *path = new_path(q->rel, unfinished_groups(root), q, NIL);

	path->path.parallel_safe = output->consider_parallel && q->rel->consider_parallel;
	path->path.parallel_aware = workers > 0;
	path->path.parallel_workers = workers;
	path->path.rows = groups_estimate(output);
	path->path.startup_cost =
		work->start + (workers > 0 ? work->cells_read / plan_processes(workers) : work->cells_kept);
	path->path.total_cost = path->path.startup_cost + path->path.rows * cpu_tuple_cost;
	path->methods = &agg_partial_path_methods;
	return (Path *) path;
}

/* Merges and finishes groups. */
static void
add_merging_path(PlannerInfo *root, RelOptInfo *output, PathTarget *target, const AggQuery *q, Path *parts)
{
	CustomPath *path = new_path(output, target, q, q->having);

	path->path.parallel_safe = output->consider_parallel && parts->parallel_safe;
	path->custom_paths = list_make1(parts);
	compat_take_disabled(&path->path, parts);
	cost_result(root, output, path, q, parts->total_cost + parts->rows * cpu_tuple_cost);
	add_path(output, (Path *) path);
}

static Path *
gather(PlannerInfo *root, RelOptInfo *output, Path *partial)
{
	double rows = partial->rows * plan_processes(partial->parallel_workers);

	return (Path *) create_gather_path(root, output, partial, partial->pathtarget, NULL, &rows);
}

/* As many as a plain table of the rows that are read would get, but not more than there is to share. */
static int
parallel_workers(RelOptInfo *output, const AggQuery *q, const AggWork *work)
{
	double bytes = work->rows * (q->rel->reltarget->width + MAXALIGN(SizeofHeapTupleHeader));
	int workers;

	if (!output->consider_parallel || !q->rel->consider_parallel || work->shares < 2)
		return 0;
	workers = compute_parallel_worker(q->rel, bytes / BLCKSZ, -1, max_parallel_workers_per_gather);
	return (int) Min(workers, work->shares - 1);
}

static void
add_table_paths(PlannerInfo *root, RelOptInfo *input, RelOptInfo *output, PathTarget *target, const AggQuestion *asked)
{
	AggQuery *q = cover_table(root, input, asked);
	AggWork work;
	int workers;

	if (q == NULL)
		return;
	work = estimate_work(root, q);
	add_whole_path(root, output, target, q, &work);
	workers = parallel_workers(output, q, &work);
	if (workers > 0)
		add_merging_path(root, output, target, q, gather(root, output, partial_path(root, output, q, &work, workers)));
}

static Path *
append(PlannerInfo *root, RelOptInfo *input, List *paths, List *partial_paths, int workers)
{
	AppendPath *path = create_append_path(root, input, paths, partial_paths, NIL, NULL, workers, workers > 0, -1);

	path->path.pathtarget = unfinished_groups(root);
	return (Path *) path;
}

/* As for a parallel append of the server's: the more partitions, the more workers. */
static int
append_workers(int most, int n_parts)
{
	return Min(Max(most, pg_leftmost_one_pos32((uint32) n_parts) + 1), max_parallel_workers_per_gather);
}

static void
add_partitions_paths(PlannerInfo *root, RelOptInfo *input, RelOptInfo *output, PathTarget *target,
					 const AggQuestion *asked)
{
	List *parts = NIL;
	List *whole = NIL;
	List *shared = NIL;
	List *unshared = NIL;
	int most = 0;
	AggQuery *q;
	Path *partial;
	ListCell *lc;

	if (!cover_partitions(root, input, asked, &parts))
		return;
	q = cover_parent(root, input, asked, linitial(parts));
	if (q == NULL)
		return;
	foreach (lc, parts)
	{
		AggQuery *part = lfirst(lc);
		AggWork work = estimate_work(root, part);
		int workers = parallel_workers(output, part, &work);

		q->cells |= part->cells;
		most = Max(most, workers);
		whole = lappend(whole, partial_path(root, output, part, &work, 0));
		if (workers > 0)
			shared = lappend(shared, partial_path(root, output, part, &work, workers));
		else
			unshared = lappend(unshared, partial_path(root, output, part, &work, 0));
	}
	add_merging_path(root, output, target, q, append(root, input, whole, NIL, 0));
	if (!q->cells || !enable_parallel_append || !output->consider_parallel || max_parallel_workers_per_gather == 0)
		return;
	partial = append(root, input, unshared, shared, append_workers(most, list_length(parts)));
	if (partial->parallel_safe)
		add_merging_path(root, output, target, q, gather(root, output, partial));
}

/* ---- hook ------------------------------------------------------------------------------------------------------ */

/* A plain reading of one table, of all that the input is made of. */
static bool
is_plain_input(PlannerInfo *root, RelOptInfo *input)
{
	RangeTblEntry *rte;

	if (!IS_SIMPLE_REL(input) || input->rtekind != RTE_RELATION || IS_DUMMY_REL(input) || root->parse->rowMarks ||
		root->parse->hasTargetSRFs || input->joininfo || !bms_is_empty(input->lateral_relids))
		return false;
	rte = planner_rt_fetch(input->relid, root);
	if (rte->rtekind != RTE_RELATION || rte->tablesample != NULL)
		return false;
	if (rte->relkind == RELKIND_PARTITIONED_TABLE)
		return rte->inh && input->nparts > 0 && input->reloptkind == RELOPT_BASEREL;
	return rte->relkind == RELKIND_RELATION && !rte->inh;
}

/* The conditions of row security are those of the table that the query names. */
static bool
is_secured(PlannerInfo *root, RelOptInfo *input)
{
	Index named = input->relid;

	if (input->top_parent_relids)
		named = (Index) bms_singleton_member(input->top_parent_relids);
	return planner_rt_fetch(named, root)->securityQuals != NIL;
}

static void
create_upper_paths(PlannerInfo *root, UpperRelationKind stage, RelOptInfo *input_rel, RelOptInfo *output_rel,
				   void *extra)
{
	AggQuestion asked = {.distinct = stage == UPPERREL_DISTINCT};
	PathTarget *target;

	if (previous_hook)
		previous_hook(root, stage, input_rel, output_rel, extra);
	if (!plan_enable_aggregate || (stage != UPPERREL_GROUP_AGG && stage != UPPERREL_DISTINCT) ||
		!is_plain_input(root, input_rel))
		return;
	target = asked.distinct ? root->upper_targets[UPPERREL_DISTINCT] : output_rel->reltarget;
	asked.target = target;
	asked.exprs = target->exprs;
	/* That of a partition is about the partition's columns. */
	asked.having = asked.distinct ? NIL : (List *) ((GroupPathExtraData *) extra)->havingQual;
	asked.secured = is_secured(root, input_rel);
	if (input_rel->nparts > 0)
		add_partitions_paths(root, input_rel, output_rel, target, &asked);
	else
		add_table_paths(root, input_rel, output_rel, target, &asked);
}

void
plan_aggregate_init(void)
{
	RegisterCustomScanMethods(&agg_scan_methods);
	RegisterCustomScanMethods(&agg_partial_scan_methods);
	previous_hook = create_upper_paths_hook;
	create_upper_paths_hook = create_upper_paths;
}
