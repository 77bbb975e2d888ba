/*
 * explain.c
 *    What EXPLAIN says of our nodes: conditions that skip, columns that are read, and with ANALYZE how much was.
 */
#include "plan/explain.h"

#include "nodes/makefuncs.h"
#include "utils/ruleutils.h"

void
explain_clauses(const char *label, List *clauses, List *deparse_context, ExplainState *es)
{
	bool useprefix = list_length(es->rtable) > 1 || es->verbose;

	if (clauses == NIL)
		return;
	ExplainPropertyText(
		label, deparse_expression((Node *) make_ands_explicit(clauses), deparse_context, useprefix, false), es);
}

void
explain_order(const PlanOrderState *order, List *exprs, List *deparse_context, ExplainState *es)
{
	bool useprefix = list_length(es->rtable) > 1 || es->verbose;
	const char *stop = plan_order_stop_text(order);
	List *keys = NIL;
	List *partition = NIL;

	for (int i = 0; i < list_length(exprs); i++)
	{
		char *key = deparse_expression(list_nth(exprs, i), deparse_context, useprefix, false);

		if (i < plan_order_partition_keys(order))
			partition = lappend(partition, key);
		keys = lappend(keys, plan_order_is_descending(order, i) ? psprintf("%s DESC", key) : key);
	}
	if (keys)
		ExplainPropertyList("Instance Order", keys, es);
	if (stop && partition)
		ExplainPropertyList("Partition Key", partition, es);
	if (stop)
		ExplainPropertyText("Read Until", stop, es);
}

void
explain_columns(Relation rel, const AmColumnMap *map, uint32 columns, ExplainState *es)
{
	List *names = NIL;

	if (!es->verbose && es->format == EXPLAIN_FORMAT_TEXT)
		return;
	for (int i = 0; i < map->natts; i++)
	{
		if (map->column[i] != COL_DROPPED && (columns & (UINT32_C(1) << map->column[i])) != 0)
			names = lappend(names, NameStr(TupleDescAttr(RelationGetDescr(rel), i)->attname));
	}
	ExplainPropertyList("Columns Read", names, es);
}

/* Of rescans and of all processes together. */
void
explain_stats(const AmScanStats *stats, ExplainState *es)
{
	if (es->format == EXPLAIN_FORMAT_TEXT)
	{
		ExplainPropertyText("Segment Data",
							psprintf("groups read=" INT64_FORMAT " skipped=" INT64_FORMAT
									 "  instances read=" INT64_FORMAT " skipped=" INT64_FORMAT
									 "  cells read=" INT64_FORMAT " skipped=" INT64_FORMAT "  bytes read=" INT64_FORMAT,
									 stats->groups_read, stats->groups_skipped, stats->instances_read,
									 stats->instances_skipped, stats->cells_read, stats->cells_skipped,
									 stats->bytes_read),
							es);
		return;
	}
	ExplainPropertyInteger("Groups Read", NULL, stats->groups_read, es);
	ExplainPropertyInteger("Groups Skipped", NULL, stats->groups_skipped, es);
	ExplainPropertyInteger("Instances Read", NULL, stats->instances_read, es);
	ExplainPropertyInteger("Instances Skipped", NULL, stats->instances_skipped, es);
	ExplainPropertyInteger("Cells Read", NULL, stats->cells_read, es);
	ExplainPropertyInteger("Cells Skipped", NULL, stats->cells_skipped, es);
	ExplainPropertyInteger("Bytes Read", "B", stats->bytes_read, es);
}

void
explain_add_stats(AmScanStats *sum, const AmScanStats *more)
{
	sum->groups_read += more->groups_read;
	sum->groups_skipped += more->groups_skipped;
	sum->instances_read += more->instances_read;
	sum->instances_skipped += more->instances_skipped;
	sum->cells_read += more->cells_read;
	sum->cells_skipped += more->cells_skipped;
	sum->bytes_read += more->bytes_read;
}
