/*
 * stats.c
 *    Statistics of columns, for what the server estimates by itself: joins, groups, conditions of other tables'
 * columns.
 *
 * How many different values a dimension has and how many rows lack one is known exactly, also before the first ANALYZE
 * and however much was written since the last. Everything else in pg_statistic is passed on as it is.
 */
#include "plan/stats.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_statistic.h"
#include "optimizer/optimizer.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/selfuncs.h"
#include "utils/syscache.h"

#include "am/am.h"
#include "compat/compat.h"
#include "plan/clauses.h"

bool plan_enable_statistics = true;

static get_relation_stats_hook_type previous_hook = NULL;

/* About the bytes of a text that ANALYZE would have found. */
#define WIDTH_OF_TEXT 24
#define WIDTH_OF_OTHERS 8

static HeapTuple
new_tuple(TupleDesc desc, Oid relid, AttrNumber attno, bool is_text, float4 nulls, float4 distinct)
{
	Datum values[Natts_pg_statistic] = {0};
	bool isnull[Natts_pg_statistic] = {0};

	values[Anum_pg_statistic_starelid - 1] = ObjectIdGetDatum(relid);
	values[Anum_pg_statistic_staattnum - 1] = Int16GetDatum(attno);
	values[Anum_pg_statistic_stanullfrac - 1] = Float4GetDatum(nulls);
	values[Anum_pg_statistic_stawidth - 1] = Int32GetDatum(is_text ? WIDTH_OF_TEXT : WIDTH_OF_OTHERS);
	values[Anum_pg_statistic_stadistinct - 1] = Float4GetDatum(distinct);
	for (int k = 0; k < STATISTIC_NUM_SLOTS; k++)
	{
		isnull[Anum_pg_statistic_stanumbers1 - 1 + k] = true;
		isnull[Anum_pg_statistic_stavalues1 - 1 + k] = true;
	}
	return heap_form_tuple(desc, values, isnull);
}

static HeapTuple
corrected(TupleDesc desc, HeapTuple tuple, float4 nulls, float4 distinct)
{
	Datum values[Natts_pg_statistic] = {0};
	bool isnull[Natts_pg_statistic] = {0};
	bool replace[Natts_pg_statistic] = {0};

	values[Anum_pg_statistic_stanullfrac - 1] = Float4GetDatum(nulls);
	replace[Anum_pg_statistic_stanullfrac - 1] = true;
	values[Anum_pg_statistic_stadistinct - 1] = Float4GetDatum(distinct);
	replace[Anum_pg_statistic_stadistinct - 1] = true;
	return heap_modify_tuple(tuple, desc, values, isnull, replace);
}

static HeapTuple
make_tuple(Oid relid, AttrNumber attno, AmColumn column, const AmSummary *summary)
{
	Relation statistic = table_open(StatisticRelationId, AccessShareLock);
	HeapTuple old = SearchSysCache3(STATRELATTINH, ObjectIdGetDatum(relid), Int16GetDatum(attno), BoolGetDatum(false));
	float4 nulls = (float4) summary->null_fraction[column];
	float4 distinct = (float4) summary->distinct[column];
	bool is_text = column != COL_INSTANCE_DATE && column != COL_SEGMENT_DATE;
	HeapTuple tuple;

	if (HeapTupleIsValid(old))
	{
		tuple = corrected(RelationGetDescr(statistic), old, nulls, distinct);
		ReleaseSysCache(old);
	}
	else
		tuple = new_tuple(RelationGetDescr(statistic), relid, attno, is_text, nulls, distinct);
	table_close(statistic, AccessShareLock);
	return tuple;
}

/* May the user see all values, so that operators that are not leakproof may be tried on them? As the server has it, but
 * that it would ask for a partition's parent too. */
static bool
may_see(const RangeTblEntry *rte, AttrNumber attno, Oid userid)
{
	return rte->securityQuals == NIL && (pg_class_aclcheck(rte->relid, userid, ACL_SELECT) == ACLCHECK_OK ||
										 pg_attribute_aclcheck(rte->relid, attno, userid, ACL_SELECT) == ACLCHECK_OK);
}

static bool
supply(RangeTblEntry *rte, AttrNumber attno, VariableStatData *vardata)
{
	Relation rel = table_open(rte->relid, NoLock);
	const AmSummary *summary = NULL;
	AmColumn column = COL_DROPPED;

	if (am_is_ours(rel))
	{
		const AmColumnMap *map = am_relation_map(rel);

		column = (AmColumn) (attno > 0 && attno <= map->natts ? map->column[attno - 1] : COL_DROPPED);
		if (column != COL_DROPPED && (PLAN_COLUMN(column) & (PLAN_DIMENSIONS | PLAN_COLUMN(COL_IDENTITY))))
			summary = am_summary(rel);
	}
	table_close(rel, NoLock);
	if (summary == NULL || summary->rows <= 0)
		return false;
	vardata->statsTuple = make_tuple(rte->relid, attno, column, summary);
	vardata->freefunc = heap_freetuple;
	vardata->acl_ok = may_see(rte, attno, compat_reader_of(vardata->rel, rte));
	return true;
}

static bool
relation_stats(PlannerInfo *root, RangeTblEntry *rte, AttrNumber attnum, VariableStatData *vardata)
{
	if (previous_hook && previous_hook(root, rte, attnum, vardata))
		return true;
	if (!plan_enable_statistics || rte->rtekind != RTE_RELATION || rte->relkind != RELKIND_RELATION || rte->inh ||
		vardata->rel == NULL)
		return false;
	return supply(rte, attnum, vardata);
}

void
plan_stats_init(void)
{
	previous_hook = get_relation_stats_hook;
	get_relation_stats_hook = relation_stats;
}
