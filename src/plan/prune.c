/*
 * prune.c
 *    Tests of groups and instances, made of a query's clauses.
 */
#include "plan/prune.h"

#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "plan/clauses.h"
#include "plan/safety.h"

typedef enum TestKind
{
	TEST_AND,
	TEST_OR,
	TEST_DIMENSIONS, /* expr is the clause itself */
	TEST_LEAST,      /* expr is true of the column's least value if of any */
	TEST_GREATEST,   /* likewise of its greatest */
	TEST_NULL,       /* the column is NULL somewhere */
	TEST_NOT_NULL
} TestKind;

typedef struct Test
{
	TestKind kind;
	List *args; /* of Test: AND, OR */
	Expr *expr;
	ExprState *state;
	bool exact;         /* true of an instance where the clause is true of all its rows, else false of all */
	bool of_group;      /* DIMENSIONS: reads columns of groups alone */
	bool group_value;   /* and its value for the current group */
	AmColumn column;    /* LEAST, GREATEST, NULL, NOT_NULL */
	struct Test *range; /* DIMENSIONS: what it says of a range of dates, or NULL */
} Test;

struct PlanPruner
{
	List *tests;
	bool needs_totals;
	const AmColumnMap *map;
	TupleTableSlot *slot;
	ExprContext *econtext;
	const StoreGroup *group;
};

/* ---- from clauses to tests --------------------------------------------------------------------------------------- */

static Test *
new_test(TestKind kind)
{
	Test *test = palloc0(sizeof(Test));

	test->kind = kind;
	return test;
}

/* Functions that keep the order of what they are given (with constants for their other arguments). */
static Node *
inside_of_monotone(Node *node)
{
	for (;;)
	{
		if (node && IsA(node, RelabelType))
			node = (Node *) ((RelabelType *) node)->arg;
		else if (node && IsA(node, FuncExpr))
		{
			FuncExpr *f = (FuncExpr *) node;

			switch (f->funcid)
			{
			case F_NUMERIC_INT8:
			case F_FLOAT8_INT8:
			case F_FLOAT8_NUMERIC:
			case F_DATE_TIMESTAMP:
				node = linitial(f->args);
				break;
			case F_DATE_TRUNC_TEXT_TIMESTAMP:
				if (!IsA(linitial(f->args), Const))
					return node;
				node = lsecond(f->args);
				break;
			default:
				return node;
			}
		}
		else
			return node;
	}
}

/* The column of a range test: a measure or the instance's date, perhaps inside of monotone functions. */
static bool
ranged_column(Node *node, Index varno, const AmColumnMap *map, AmColumn *column)
{
	Var *var = (Var *) inside_of_monotone(node);

	if (var == NULL || !IsA(var, Var) || var->varno != (int) varno || var->varlevelsup != 0 || var->varattno <= 0 ||
		var->varattno > map->natts)
		return false;
	*column = (AmColumn) map->column[var->varattno - 1];
	return *column == COL_INSTANCE_DATE || (PLAN_COLUMN(*column) & PLAN_MEASURES & ~PLAN_COLUMN(COL_DROPPED)) != 0;
}

static Test *
range_leaf(TestKind kind, AmColumn column, Expr *clause, Oid opno)
{
	Test *test = new_test(kind);

	test->column = column;
	test->expr = (Expr *) copyObject(clause);
	if (IsA(clause, OpExpr))
	{
		((OpExpr *) test->expr)->opno = opno;
		((OpExpr *) test->expr)->opfuncid = get_opcode(opno);
	}
	else
	{
		ScalarArrayOpExpr *array = (ScalarArrayOpExpr *) test->expr;

		array->opno = opno;
		array->opfuncid = get_opcode(opno);
		array->hashfuncid = InvalidOid;
	}
	return test;
}

/*
 * "column < value" is true for some row if it is for the least one, "=" only if the least one is not greater and the
 * greatest one is not less. For ANY (array) the same holds of each element, so it holds of any.
 */
static Test *
range_test(Expr *clause, Index varno, const AmColumnMap *map)
{
	Oid opno;
	List *args;
	Node *inside;
	bool on_left = true;
	AmColumn column;
	int strategy;
	Oid left;
	Oid right;
	Oid family;
	Oid not_less;
	Oid not_greater;
	Test *both;

	if (IsA(clause, OpExpr))
	{
		opno = ((OpExpr *) clause)->opno;
		args = ((OpExpr *) clause)->args;
	}
	else if (IsA(clause, ScalarArrayOpExpr) && ((ScalarArrayOpExpr *) clause)->useOr)
	{
		opno = ((ScalarArrayOpExpr *) clause)->opno;
		args = ((ScalarArrayOpExpr *) clause)->args;
	}
	else
		return NULL;
	if (list_length(args) != 2 || !plan_is_repeatable((Node *) clause))
		return NULL;
	inside = linitial(args);
	if (!ranged_column(inside, varno, map, &column))
	{
		inside = lsecond(args);
		on_left = false;
		if (IsA(clause, ScalarArrayOpExpr) || !ranged_column(inside, varno, map, &column))
			return NULL;
	}
	if (bms_is_member((int) varno, pull_varnos(NULL, on_left ? lsecond(args) : linitial(args))))
		return NULL;
	family = lookup_type_cache(exprType(inside), TYPECACHE_BTREE_OPFAMILY)->btree_opf;
	if (!OidIsValid(family) || !op_in_opfamily(opno, family))
		return NULL;
	get_op_opfamily_properties(opno, family, false, &strategy, &left, &right);
	/* A local time becomes a moment by the clock of a time zone, which does not always go forward. */
	if ((left == TIMESTAMPTZOID) != (right == TIMESTAMPTZOID))
		return NULL;
	switch (strategy)
	{
	case BTLessStrategyNumber:
	case BTLessEqualStrategyNumber:
		return range_leaf(on_left ? TEST_LEAST : TEST_GREATEST, column, clause, opno);
	case BTGreaterStrategyNumber:
	case BTGreaterEqualStrategyNumber:
		return range_leaf(on_left ? TEST_GREATEST : TEST_LEAST, column, clause, opno);
	case BTEqualStrategyNumber:
		break;
	default:
		return NULL;
	}
	not_greater = get_opfamily_member(family, left, right, BTLessEqualStrategyNumber);
	not_less = get_opfamily_member(family, left, right, BTGreaterEqualStrategyNumber);
	if (!OidIsValid(not_greater) || !OidIsValid(not_less))
		return NULL;
	both = new_test(TEST_AND);
	both->args = list_make2(range_leaf(on_left ? TEST_LEAST : TEST_GREATEST, column, clause, not_greater),
							range_leaf(on_left ? TEST_GREATEST : TEST_LEAST, column, clause, not_less));
	return both;
}

static Test *
null_test(Expr *clause, Index varno, const AmColumnMap *map)
{
	NullTest *nt = (NullTest *) clause;
	Test *test;

	if (!IsA(clause, NullTest) || nt->argisrow)
		return NULL;
	for (AmColumn c = COL_CUSTOMERS; c <= COL_REVENUE; c++)
	{
		if (!plan_is_column((Node *) nt->arg, varno, map->attno[c] + 1))
			continue;
		test = new_test(nt->nulltesttype == IS_NULL ? TEST_NULL : TEST_NOT_NULL);
		test->column = c;
		return test;
	}
	return NULL;
}

static Test *
dimensions_test(Expr *clause, Index varno, const AmColumnMap *map)
{
	Test *test = new_test(TEST_DIMENSIONS);
	uint32 columns;

	plan_columns_of((Node *) clause, varno, map, &columns);
	test->expr = clause;
	test->exact = true;
	test->of_group = (columns & PLAN_INSTANCE_COLUMNS) == 0;
	if (!test->of_group)
		test->range = range_test(clause, varno, map);
	return test;
}

static Test *test_of(Expr *clause, Index varno, const AmColumnMap *map);

/*
 * About dimensions, but it may fail, so that as an argument of AND or OR it is only for those rows for which the
 * arguments before it don't decide.
 */
static bool
is_for_rows_that_get_there(Expr *clause, Index varno, const AmColumnMap *map)
{
	return plan_is_about_dimensions((Node *) clause, varno, map) && !plan_never_fails((Node *) clause);
}

/* All tests that there are; those of an OR only if each of its arms has one. */
static Test *
test_of_arguments(BoolExpr *clause, Index varno, const AmColumnMap *map)
{
	Test *test = new_test(clause->boolop == AND_EXPR ? TEST_AND : TEST_OR);
	ListCell *lc;

	test->exact = true;
	foreach (lc, clause->args)
	{
		Test *arg = is_for_rows_that_get_there(lfirst(lc), varno, map) ? NULL : test_of(lfirst(lc), varno, map);

		test->exact &= arg && arg->exact;
		if (arg)
			test->args = lappend(test->args, arg);
		else if (clause->boolop == OR_EXPR)
			return NULL;
	}
	return test->args == NIL ? NULL : test;
}

static bool
is_and_or(Expr *clause)
{
	return IsA(clause, BoolExpr) && ((BoolExpr *) clause)->boolop != NOT_EXPR;
}

static Test *
test_of(Expr *clause, Index varno, const AmColumnMap *map)
{
	Test *test;

	/* Taken as a whole, arguments are evaluated in order. */
	if (is_and_or(clause) && !is_for_rows_that_get_there(clause, varno, map))
		return test_of_arguments((BoolExpr *) clause, varno, map);
	if (plan_is_about_dimensions((Node *) clause, varno, map))
		return dimensions_test(clause, varno, map);
	test = null_test(clause, varno, map);
	return test ? test : range_test(clause, varno, map);
}

bool
plan_prune_says_something(Expr *clause, Index varno, const AmColumnMap *map)
{
	return test_of(clause, varno, map) != NULL;
}

bool
plan_prune_decides(Expr *clause, Index varno, const AmColumnMap *map)
{
	const Test *test = test_of(clause, varno, map);

	return test && test->exact;
}

/* ---- making them ready ------------------------------------------------------------------------------------------- */

static void
prepare_test(PlanPruner *pruner, Test *test, PlanState *parent)
{
	ListCell *lc;

	foreach (lc, test->args)
		prepare_test(pruner, lfirst(lc), parent);
	if (test->range)
		prepare_test(pruner, test->range, parent);
	if (test->expr)
		test->state = ExecInitExpr(test->expr, parent);
	if (test->kind >= TEST_LEAST && test->column != COL_INSTANCE_DATE)
		pruner->needs_totals = true;
}

PlanPruner *
plan_pruner_new(List *clauses, Index varno, const AmColumnMap *map, PlanState *parent, TupleTableSlot *slot,
				ExprContext *econtext)
{
	PlanPruner *pruner = palloc0(sizeof(PlanPruner));
	ListCell *lc;

	pruner->map = map;
	pruner->slot = slot;
	pruner->econtext = econtext;
	foreach (lc, clauses)
	{
		Test *test = test_of(lfirst(lc), varno, map);

		if (test == NULL)
			continue;
		prepare_test(pruner, test, parent);
		/* An expression that may fail is not for instances without rows. */
		pruner->needs_totals |= contain_leaked_vars((Node *) lfirst(lc));
		pruner->tests = lappend(pruner->tests, test);
	}
	return pruner;
}

bool
plan_pruner_is_empty(const PlanPruner *pruner)
{
	return pruner->tests == NIL;
}

static bool
is_of_groups(const List *tests)
{
	ListCell *lc;

	foreach (lc, tests)
	{
		Test *test = lfirst(lc);

		if (test->kind == TEST_AND || test->kind == TEST_OR ? !is_of_groups(test->args) : !test->of_group)
			return false;
	}
	return true;
}

bool
plan_pruner_is_of_groups(const PlanPruner *pruner)
{
	return is_of_groups(pruner->tests);
}

bool
plan_pruner_needs_totals(const PlanPruner *pruner)
{
	return pruner->needs_totals;
}

/* ---- testing ----------------------------------------------------------------------------------------------------- */

static void
put_text(TupleTableSlot *slot, int i, const text *t)
{
	slot->tts_isnull[i] = t == NULL;
	slot->tts_values[i] = PointerGetDatum(t);
}

static void
put(TupleTableSlot *slot, int i, Datum value)
{
	slot->tts_isnull[i] = false;
	slot->tts_values[i] = value;
}

static bool
evaluate(PlanPruner *pruner, ExprState *state)
{
	bool isnull;
	Datum value = ExecEvalExpr(state, pruner->econtext, &isnull);

	return !isnull && DatumGetBool(value);
}

static CsegValue
special(CsegValueKind kind)
{
	return (CsegValue){.kind = (uint8) kind};
}

/* NaN is greater than all, Infinity too. False: there is none but NULLs. */
static bool
extreme(const CsegMeasureTotals *t, bool least, CsegValue *out)
{
	const CsegValue none = special(CSEG_NULL);
	const CsegValue by_rank[4] = {
		t->ninfs > 0 ? special(CSEG_NINF) : none,
		least ? t->min : t->max,
		t->pinfs > 0 ? special(CSEG_PINF) : none,
		t->nans > 0 ? special(CSEG_NAN) : none,
	};

	for (int i = 0; i < 4; i++)
	{
		*out = by_rank[least ? i : 3 - i];
		if (out->kind != CSEG_NULL)
			return true;
	}
	return false;
}

static bool
measure_passes(PlanPruner *pruner, const Test *test, const StoreInstance *inst)
{
	int measure = (int) test->column - COL_CUSTOMERS;
	const CsegMeasureTotals *t;
	int i = pruner->map->attno[test->column];
	CsegValue v;
	bool isnull;

	/* Planning goes without them where there are many instances. */
	if (inst->totals == NULL)
		return true;
	t = &inst->totals->m[measure];

	if (test->kind == TEST_NULL)
		return t->nulls > 0;
	if (test->kind == TEST_NOT_NULL)
		return t->nulls < inst->rows;
	/* How great a wide number is, totals don't say. */
	if (t->wides > 0)
		return true;
	if (!extreme(t, test->kind == TEST_LEAST, &v))
		return false;
	put(pruner->slot, i, am_measure_to_datum(measure, &v, &isnull));
	return evaluate(pruner, test->state);
}

static bool test_passes(PlanPruner *pruner, Test *test, const StoreInstance *inst);

static bool
date_range_passes(PlanPruner *pruner, const Test *test)
{
	Timestamp bound = test->kind == TEST_LEAST ? pruner->group->first_date : pruner->group->last_date;

	put(pruner->slot, pruner->map->attno[COL_INSTANCE_DATE], TimestampGetDatum(bound));
	return evaluate(pruner, test->state);
}

/* inst is NULL while the group is looked at. */
static bool
dimensions_pass(PlanPruner *pruner, Test *test, const StoreInstance *inst)
{
	if (test->of_group)
	{
		if (inst == NULL)
			test->group_value = evaluate(pruner, test->state);
		return test->group_value;
	}
	if (inst)
		return evaluate(pruner, test->state);
	return test->range == NULL || test_passes(pruner, test->range, NULL);
}

static bool
any_passes(PlanPruner *pruner, Test *test, const StoreInstance *inst)
{
	bool pass = false;
	ListCell *lc;

	/* Of a group all are evaluated, since each keeps its value for the instances. */
	foreach (lc, test->args)
	{
		pass |= test_passes(pruner, lfirst(lc), inst);
		if (pass && inst)
			break;
	}
	return pass;
}

static bool
all_pass(PlanPruner *pruner, List *tests, const StoreInstance *inst)
{
	ListCell *lc;

	foreach (lc, tests)
		if (!test_passes(pruner, lfirst(lc), inst))
			return false;
	return true;
}

static bool
test_passes(PlanPruner *pruner, Test *test, const StoreInstance *inst)
{
	switch (test->kind)
	{
	case TEST_AND:
		return all_pass(pruner, test->args, inst);
	case TEST_OR:
		return any_passes(pruner, test, inst);
	case TEST_DIMENSIONS:
		return dimensions_pass(pruner, test, inst);
	default:
		break;
	}
	if (test->column == COL_INSTANCE_DATE)
		return date_range_passes(pruner, test);
	return inst == NULL || measure_passes(pruner, test, inst);
}

static void
start_row(PlanPruner *pruner)
{
	ExecClearTuple(pruner->slot);
	memset(pruner->slot->tts_isnull, true, sizeof(bool) * pruner->map->natts);
}

/* What expressions allocate goes with the per-tuple memory. */
static bool
run_tests(PlanPruner *pruner, const StoreInstance *inst)
{
	MemoryContext old = MemoryContextSwitchTo(pruner->econtext->ecxt_per_tuple_memory);
	bool pass;

	pruner->econtext->ecxt_scantuple = pruner->slot;
	pass = all_pass(pruner, pruner->tests, inst);
	MemoryContextSwitchTo(old);
	ResetExprContext(pruner->econtext);
	return pass;
}

bool
plan_prune_group_passes(PlanPruner *pruner, const StoreGroup *group)
{
	TupleTableSlot *slot = pruner->slot;
	const int16 *attno = pruner->map->attno;

	pruner->group = group;
	if (pruner->tests == NIL)
		return true;
	start_row(pruner);
	put_text(slot, attno[COL_SCHEDULE], group->dims.schedule);
	put_text(slot, attno[COL_SEGMENT_BY], group->dims.segment_by);
	put_text(slot, attno[COL_SEGMENT_ID], group->dims.segment_id);
	put_text(slot, attno[COL_SEGMENT_NAME], group->dims.segment_name);
	if (group->dims.has_segment_created)
		put(slot, attno[COL_SEGMENT_DATE], TimestampGetDatum(group->dims.segment_created_date));
	ExecStoreVirtualTuple(slot);
	return run_tests(pruner, NULL);
}

bool
plan_prune_instance_passes(PlanPruner *pruner, const StoreInstance *inst)
{
	TupleTableSlot *slot = pruner->slot;
	const int16 *attno = pruner->map->attno;

	Assert(inst->group == pruner->group);
	if (pruner->tests == NIL)
		return true;
	put_text(slot, attno[COL_INSTANCE_ID], inst->dims.segment_instance_id);
	put(slot, attno[COL_INSTANCE_DATE], TimestampGetDatum(inst->dims.instance_created_date));
	return run_tests(pruner, inst);
}
