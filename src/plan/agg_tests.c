/*
 * agg_tests.c
 *    Which expressions an aggregate can be answered from: about instances, conditions on measures, aggregate calls.
 *
 * The planner asks here whether a query is covered, and the executor what to do: both by the same code.
 */
#include "plan/agg.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_opfamily.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/syscache.h"

#include "plan/clauses.h"
#include "plan/safety.h"

/* ---- expressions ------------------------------------------------------------------------------------------------ */

static bool
is_dimension(AmColumn column)
{
	switch (column)
	{
	case COL_INSTANCE_DATE:
	case COL_SCHEDULE:
	case COL_SEGMENT_BY:
	case COL_SEGMENT_DATE:
	case COL_SEGMENT_ID:
	case COL_INSTANCE_ID:
	case COL_SEGMENT_NAME:
		return true;
	default:
		return false;
	}
}

static bool
is_measure(AmColumn column)
{
	return column == COL_CUSTOMERS || column == COL_ORDERS || column == COL_REVENUE;
}

typedef struct InstanceWalk
{
	Index varno;
	const AmColumnMap *map;
	bool measures; /* are allowed, too */
} InstanceWalk;

static bool
is_allowed(const InstanceWalk *walk, const Var *var)
{
	AmColumn column;

	if (var->varno != (int) walk->varno || var->varlevelsup != 0 || var->varattno <= 0 ||
		var->varattno > walk->map->natts)
		return false;
	column = (AmColumn) walk->map->column[var->varattno - 1];
	return is_dimension(column) || (walk->measures && is_measure(column));
}

/* True as soon as something is found that is not the same for all rows of an instance, or all equal ones. */
static bool
varies_walker(Node *node, void *context)
{
	InstanceWalk *walk = context;

	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
	case T_Var:
		return !is_allowed(walk, (Var *) node);
	case T_Aggref:
	case T_GroupingFunc:
	case T_WindowFunc:
	case T_SubPlan:
	case T_AlternativeSubPlan:
	case T_SubLink:
	case T_PlaceHolderVar:
	case T_CurrentOfExpr:
		return true;
	default:
		break;
	}
	return expression_tree_walker(node, varies_walker, context);
}

bool
agg_is_of_instance(Node *expr, Index varno, const AmColumnMap *map)
{
	InstanceWalk walk = {varno, map, false};

	return !varies_walker(expr, &walk) && !contain_volatile_functions(expr) && !expression_returns_set(expr);
}

bool
agg_is_of_row(Node *expr, Index varno, const AmColumnMap *map)
{
	InstanceWalk walk = {varno, map, true};

	return !varies_walker(expr, &walk) && !contain_volatile_functions(expr) && !expression_returns_set(expr);
}

bool
agg_reads_instance(Node *expr, Index varno, const AmColumnMap *map)
{
	uint32 columns;

	return !plan_columns_of(expr, varno, map, &columns) || (columns & PLAN_INSTANCE_COLUMNS) != 0;
}

static bool
has_variables(Node *expr)
{
	return contain_var_clause(expr);
}

static int
measure_column(Node *expr, Index varno, const AmColumnMap *map)
{
	Var *var = (Var *) expr;

	if (expr == NULL || !IsA(expr, Var) || var->varno != (int) varno || var->varlevelsup != 0 || var->varattno <= 0 ||
		var->varattno > map->natts)
		return -1;
	switch ((AmColumn) map->column[var->varattno - 1])
	{
	case COL_CUSTOMERS:
		return CSEG_M_CUSTOMERS;
	case COL_ORDERS:
		return CSEG_M_ORDERS;
	case COL_REVENUE:
		return CSEG_M_REVENUE;
	default:
		return -1;
	}
}

int
agg_measure(Node *expr, Index varno, const AmColumnMap *map, bool *cast)
{
	*cast = false;
	if (expr && IsA(expr, FuncExpr) && ((FuncExpr *) expr)->funcid == F_NUMERIC_INT8)
	{
		*cast = true;
		expr = linitial(((FuncExpr *) expr)->args);
	}
	return measure_column(expr, varno, map);
}

bool
agg_is_identity(Node *expr, Index varno, const AmColumnMap *map)
{
	Node *column = expr;
	Oid type = exprType(expr);
	Var *var;

	if ((type != TEXTOID && type != VARCHAROID) || !am_collation_is_deterministic(exprCollation(expr)))
		return false;
	while (IsA(column, RelabelType))
	{
		type = ((RelabelType *) column)->resulttype;
		if (type != TEXTOID && type != VARCHAROID)
			return false;
		column = (Node *) ((RelabelType *) column)->arg;
	}
	var = (Var *) column;
	return IsA(column, Var) && var->varno == (int) varno && var->varlevelsup == 0 && var->varattno > 0 &&
		   var->varattno <= map->natts && map->column[var->varattno - 1] == COL_IDENTITY;
}

/* ---- conditions on measures ---------------------------------------------------------------------------------------
 */

static void
append_test(List **tests, CsegTestKind kind, int measure, int n)
{
	AggTest *test;

	if (tests == NULL)
		return;
	test = palloc0(sizeof(AggTest));
	test->kind = kind;
	test->measure = measure;
	test->n = n;
	*tests = lappend(*tests, test);
}

static int
accepts_of_strategy(int strategy)
{
	switch (strategy)
	{
	case BTLessStrategyNumber:
		return CSEG_LESS;
	case BTLessEqualStrategyNumber:
		return CSEG_LESS | CSEG_EQUAL;
	case BTEqualStrategyNumber:
		return CSEG_EQUAL;
	case BTGreaterEqualStrategyNumber:
		return CSEG_GREATER | CSEG_EQUAL;
	case BTGreaterStrategyNumber:
		return CSEG_GREATER;
	default:
		return 0;
	}
}

/* What an operator of the integers' or numeric's own ordering accepts; 0: it is none. */
static int
accepts_of_operator(Oid opno, bool numeric)
{
	Oid family = numeric ? get_opclass_family(NUMERIC_BTREE_OPS_OID) : INTEGER_BTREE_FAM_OID;
	int accepts = accepts_of_strategy(get_op_opfamily_strategy(opno, family));
	Oid negator;

	if (accepts != 0)
		return accepts;
	negator = get_negator(opno);
	if (OidIsValid(negator) && get_op_opfamily_strategy(negator, family) == BTEqualStrategyNumber)
		return CSEG_LESS | CSEG_GREATER;
	return 0;
}

static bool
is_bound_type(Oid type)
{
	return type == INT2OID || type == INT4OID || type == INT8OID || type == NUMERICOID;
}

static bool
compile_comparison(Oid opno, Node *left, Node *right, bool is_array, bool use_or, Index varno, const AmColumnMap *map,
				   List **tests)
{
	bool cast;
	int measure = agg_measure(left, varno, map, &cast);
	bool numeric;
	int accepts;
	Oid type;
	AggTest *test;

	if (measure < 0 && !is_array)
	{
		opno = get_commutator(opno);
		if (!OidIsValid(opno))
			return false;
		measure = agg_measure(right, varno, map, &cast);
		right = left;
	}
	if (measure < 0 || has_variables(right) || !agg_is_of_instance(right, varno, map))
		return false;
	numeric = measure == CSEG_M_REVENUE || cast;
	accepts = accepts_of_operator(opno, numeric);
	type = is_array ? get_element_type(exprType(right)) : exprType(right);
	if (accepts == 0 || !is_bound_type(type) || numeric != (type == NUMERICOID))
		return false;
	if (tests == NULL)
		return true;
	append_test(tests, CSEG_TEST_COMPARE, measure, 0);
	test = llast(*tests);
	test->accepts = accepts;
	test->bound = (Expr *) right;
	test->bound_type = type;
	test->any = is_array && use_or;
	test->all = is_array && !use_or;
	return true;
}

static bool
compile_bool(BoolExpr *expr, Index varno, const AmColumnMap *map, List **tests)
{
	ListCell *lc;

	foreach (lc, expr->args)
		if (!agg_compile_condition(lfirst(lc), varno, map, tests))
			return false;
	if (expr->boolop == NOT_EXPR)
		append_test(tests, CSEG_TEST_NOT, 0, 0);
	else
		append_test(tests, expr->boolop == AND_EXPR ? CSEG_TEST_AND : CSEG_TEST_OR, 0, list_length(expr->args));
	return true;
}

static bool
compile_null_test(NullTest *expr, Index varno, const AmColumnMap *map, List **tests)
{
	bool cast;
	int measure = agg_measure((Node *) expr->arg, varno, map, &cast);

	if (measure < 0 || expr->argisrow)
		return false;
	append_test(tests, CSEG_TEST_NULL, measure, 0);
	if (expr->nulltesttype == IS_NOT_NULL)
		append_test(tests, CSEG_TEST_NOT, 0, 0);
	return true;
}

bool
agg_compile_condition(Node *expr, Index varno, const AmColumnMap *map, List **tests)
{
	check_stack_depth();
	if (agg_is_of_instance(expr, varno, map))
	{
		append_test(tests, CSEG_TEST_SLOTS, 0, 0);
		if (tests)
			((AggTest *) llast(*tests))->leaf = (Expr *) expr;
		return true;
	}
	switch (nodeTag(expr))
	{
	case T_BoolExpr:
		return compile_bool((BoolExpr *) expr, varno, map, tests);
	case T_NullTest:
		return compile_null_test((NullTest *) expr, varno, map, tests);
	case T_OpExpr:
	{
		OpExpr *op = (OpExpr *) expr;

		return list_length(op->args) == 2 &&
			   compile_comparison(op->opno, linitial(op->args), lsecond(op->args), false, false, varno, map, tests);
	}
	case T_ScalarArrayOpExpr:
	{
		ScalarArrayOpExpr *op = (ScalarArrayOpExpr *) expr;

		return compile_comparison(op->opno, linitial(op->args), lsecond(op->args), true, op->useOr, varno, map, tests);
	}
	default:
		return false;
	}
}

bool
agg_is_condition(Node *expr, Index varno, const AmColumnMap *map)
{
	List *tests = NIL;
	ListCell *lc;

	if (!agg_compile_condition(expr, varno, map, &tests))
		return false;
	foreach (lc, tests)
		if (!plan_never_fails((Node *) ((AggTest *) lfirst(lc))->leaf))
			return false;
	return true;
}

/* ---- conditions at run time -----------------------------------------------------------------------------------------
 */

static CsegTest *
next_test(AggCondition *c)
{
	CsegTest *test;

	if (c->n == c->cap)
	{
		c->cap = c->cap ? c->cap * 2 : 16;
		c->tests = c->tests ? repalloc_huge(c->tests, sizeof(CsegTest) * c->cap) : palloc(sizeof(CsegTest) * c->cap);
	}
	test = &c->tests[c->n++];
	memset(test, 0, sizeof(*test));
	return test;
}

static void
put_step(AggCondition *c, CsegTestKind kind, int measure, int n)
{
	CsegTest *test = next_test(c);

	test->kind = (uint8) kind;
	test->measure = (uint8) measure;
	test->n = (uint32) n;
}

static void
put_comparison(AggCondition *c, const AggTest *from, Datum bound, bool isnull)
{
	CsegTest *test = next_test(c);

	test->kind = CSEG_TEST_COMPARE;
	test->measure = (uint8) from->measure;
	test->accepts = (uint8) from->accepts;
	switch (from->bound_type)
	{
	case INT2OID:
		bound = Int64GetDatum(DatumGetInt16(bound));
		break;
	case INT4OID:
		bound = Int64GetDatum(DatumGetInt32(bound));
		break;
	default:
		break;
	}
	am_measure_from_datum(from->bound_type == NUMERICOID ? CSEG_M_REVENUE : CSEG_M_ORDERS, bound, isnull, &test->bound);
	c->wide |= test->bound.kind == CSEG_WIDE;
}

/* True (or, negated, false) whatever the row. */
static void
put_constant(AggCondition *c, bool value)
{
	put_step(c, CSEG_TEST_NULL, 0, 0);
	put_step(c, CSEG_TEST_NULL, 0, 0);
	put_step(c, CSEG_TEST_NOT, 0, 0);
	put_step(c, value ? CSEG_TEST_OR : CSEG_TEST_AND, 0, 2);
}

static void
put_array(AggCondition *c, const AggTest *from, Datum value)
{
	ArrayType *array = DatumGetArrayTypeP(value);
	int16 typlen;
	bool typbyval;
	char typalign;
	Datum *elements;
	bool *nulls;
	int n;

	get_typlenbyvalalign(from->bound_type, &typlen, &typbyval, &typalign);
	deconstruct_array(array, from->bound_type, typlen, typbyval, typalign, &elements, &nulls, &n);
	for (int i = 0; i < n; i++)
		put_comparison(c, from, elements[i], nulls[i]);
	if (n == 0)
		put_constant(c, from->all);
	else
		put_step(c, from->all ? CSEG_TEST_AND : CSEG_TEST_OR, 0, n);
}

/* In the current context; so are the bounds that it points to. */
void
agg_condition_init(AggCondition *c, List *tests, ExprContext *econtext)
{
	ListCell *lc;

	memset(c, 0, sizeof(*c));
	foreach (lc, tests)
	{
		AggTest *test = lfirst(lc);
		Datum bound;
		bool isnull;

		if (test->kind != CSEG_TEST_COMPARE)
		{
			put_step(c, test->kind, test->measure, test->n);
			continue;
		}
		bound = ExecEvalExpr(test->state, econtext, &isnull);
		if (!isnull && (test->any || test->all))
			put_array(c, test, bound);
		else
			put_comparison(c, test, bound, isnull);
	}
}

static int
compare_values(const CsegValue *a, const CsegValue *b)
{
	bool isnull;

	if (a->kind != CSEG_WIDE && b->kind != CSEG_WIDE)
		return cseg_value_compare(a, b);
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, am_measure_to_datum(CSEG_M_REVENUE, a, &isnull),
											 am_measure_to_datum(CSEG_M_REVENUE, b, &isnull)));
}

typedef enum RowTruth
{
	ROW_FALSE,
	ROW_UNKNOWN,
	ROW_TRUE
} RowTruth;

static RowTruth
test_row(const CsegTest *test, const CsegValue *values, const CsegSlotLeaf *leaves, int slot)
{
	uint64 bit = UINT64CONST(1) << slot;
	int order;

	if (test->kind == CSEG_TEST_NULL)
		return values[test->measure].kind == CSEG_NULL ? ROW_TRUE : ROW_FALSE;
	if (test->kind == CSEG_TEST_SLOTS)
		return leaves[test->n].is_true & bit ? ROW_TRUE : leaves[test->n].is_false & bit ? ROW_FALSE : ROW_UNKNOWN;
	if (values[test->measure].kind == CSEG_NULL || test->bound.kind == CSEG_NULL)
		return ROW_UNKNOWN;
	order = compare_values(&values[test->measure], &test->bound);
	return test->accepts & (order < 0 ? CSEG_LESS : order > 0 ? CSEG_GREATER : CSEG_EQUAL) ? ROW_TRUE : ROW_FALSE;
}

bool
agg_condition_row(const AggCondition *c, const CsegValue *values, const CsegSlotLeaf *leaves, int slot)
{
	RowTruth *stack;
	int n = 0;
	bool result;

	if (c->n == 0)
		return true;
	stack = palloc(sizeof(RowTruth) * c->n);
	for (int i = 0; i < c->n; i++)
	{
		const CsegTest *test = &c->tests[i];
		RowTruth all;

		if (test->kind == CSEG_TEST_NOT)
		{
			stack[n - 1] = (RowTruth) (ROW_TRUE - stack[n - 1]);
			continue;
		}
		if (test->kind != CSEG_TEST_AND && test->kind != CSEG_TEST_OR)
		{
			stack[n++] = test_row(test, values, leaves, slot);
			continue;
		}
		n -= (int) test->n;
		all = stack[n];
		for (uint32 k = 1; k < test->n; k++)
			all = test->kind == CSEG_TEST_AND ? Min(all, stack[n + k]) : Max(all, stack[n + k]);
		stack[n++] = all;
	}
	result = stack[0] == ROW_TRUE;
	pfree(stack);
	return result;
}

/* ---- aggregates
 * ------------------------------------------------------------------------------------------------------- */

/*
 * A condition on measures whose parts about instances are constant. Others would be evaluated for instances none of
 * whose rows gets as far as the filter.
 */
static bool
is_filter_condition(Node *clause, Index varno, const AmColumnMap *map)
{
	List *tests = NIL;
	ListCell *lc;

	if (!agg_is_condition(clause, varno, map) || !agg_compile_condition(clause, varno, map, &tests))
		return false;
	foreach (lc, tests)
	{
		AggTest *test = lfirst(lc);

		if (test->leaf && has_variables((Node *) test->leaf))
			return false;
	}
	return true;
}

static bool
split_filter(List *clauses, Index varno, const AmColumnMap *map, AggCall *call)
{
	ListCell *lc;

	foreach (lc, clauses)
	{
		Node *clause = lfirst(lc);

		if (agg_is_of_instance(clause, varno, map))
		{
			/* It comes before the measures here, but is evaluated after them as it is written. */
			if (call->filter_measures != NIL && !plan_never_fails(clause))
				return false;
			call->filter_instance = lappend(call->filter_instance, clause);
		}
		else if (is_filter_condition(clause, varno, map))
			call->filter_measures = lappend(call->filter_measures, clause);
		else
			return false;
	}
	return true;
}

/* What can't be split is evaluated as it is written, for each stretch of equal rows. */
static bool
analyze_filter(Expr *filter, Index varno, const AmColumnMap *map, AggCall *call)
{
	List *clauses = make_ands_implicit(filter);

	if (split_filter(clauses, varno, map, call))
		return true;
	call->filter_instance = NIL;
	call->filter_measures = clauses;
	call->by_row = true;
	return agg_is_of_row((Node *) clauses, varno, map);
}

/*
 * Does the aggregate give one of its arguments, whichever rows there are of each? The planner takes as much from a
 * sort operator, too.
 */
static bool
picks_argument(Oid aggfnoid, Oid *transition)
{
	HeapTuple tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggfnoid));
	Form_pg_aggregate form;
	bool picks;
	bool no_start;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", aggfnoid);
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	(void) SysCacheGetAttr(AGGFNOID, tuple, Anum_pg_aggregate_agginitval, &no_start);
	picks = OidIsValid(form->aggsortop) && form->aggkind == AGGKIND_NORMAL && !OidIsValid(form->aggfinalfn) && no_start;
	*transition = form->aggtransfn;
	ReleaseSysCache(tuple);
	return picks && func_strict(*transition) && func_volatile(*transition) != PROVOLATILE_VOLATILE;
}

/*
 * About instances. It is evaluated for each that has rows, though a filter on measures perhaps passes none of them.
 */
static bool
is_argument(Node *arg, Index varno, const AmColumnMap *map, const AggCall *call)
{
	return agg_is_of_instance(arg, varno, map) && (call->filter_measures == NIL || plan_never_fails(arg));
}

static bool
analyze_distinct(const Aggref *agg, Node *arg, Index varno, const AmColumnMap *map, AggCall *call)
{
	SortGroupClause *distinct = linitial_node(SortGroupClause, agg->aggdistinct);

	if (agg->aggfnoid != F_COUNT_ANY || list_length(agg->aggdistinct) != 1 || !OidIsValid(distinct->eqop))
		return false;
	call->kind = AGG_DISTINCT_IDENTITY;
	if (agg_is_identity(arg, varno, map))
		return distinct->eqop == TextEqualOperator;
	call->kind = AGG_DISTINCT_ARG;
	call->arg = (Expr *) arg;
	call->equal = distinct->eqop;
	call->collation = exprCollation(arg);
	return distinct->hashable && is_argument(arg, varno, map, call) && am_collation_is_deterministic(call->collation);
}

static bool
analyze_measure(const Aggref *agg, int measure, bool cast, AggCall *call)
{
	call->measure = measure;
	call->numeric = measure == CSEG_M_REVENUE || cast;
	switch (agg->aggfnoid)
	{
	case F_COUNT_ANY:
		call->kind = AGG_COUNT_MEASURE;
		return true;
	case F_SUM_INT8:
	case F_SUM_NUMERIC:
		call->kind = AGG_SUM;
		return true;
	case F_AVG_INT8:
	case F_AVG_NUMERIC:
		call->kind = AGG_AVG;
		return true;
	case F_MIN_INT8:
	case F_MIN_NUMERIC:
		call->kind = AGG_MIN;
		return true;
	case F_MAX_INT8:
	case F_MAX_NUMERIC:
		call->kind = AGG_MAX;
		return true;
	default:
		return false;
	}
}

/* An expression over measures. */
static bool
analyze_value(const Aggref *agg, Node *arg, Index varno, const AmColumnMap *map, AggCall *call)
{
	Oid type = exprType(arg);

	call->arg = NULL;
	call->value = (Expr *) arg;
	call->value_type = type;
	call->numeric = type == NUMERICOID;
	call->by_row = true;
	if (!agg_is_of_row(arg, varno, map))
		return false;
	switch (agg->aggfnoid)
	{
	case F_COUNT_ANY:
		call->kind = AGG_COUNT_MEASURE;
		return true;
	case F_SUM_INT4:
	case F_SUM_INT8:
	case F_SUM_NUMERIC:
		call->kind = AGG_SUM;
		break;
	case F_AVG_INT4:
	case F_AVG_INT8:
	case F_AVG_NUMERIC:
		call->kind = AGG_AVG;
		break;
	case F_MIN_INT4:
	case F_MIN_INT8:
	case F_MIN_NUMERIC:
		call->kind = AGG_MIN;
		break;
	case F_MAX_INT4:
	case F_MAX_INT8:
	case F_MAX_NUMERIC:
		call->kind = AGG_MAX;
		break;
	default:
		return false;
	}
	return type == INT4OID || type == INT8OID || type == NUMERICOID;
}

/* count, or one of the arguments: about instances. */
static bool
analyze_instance(const Aggref *agg, Node *arg, Index varno, const AmColumnMap *map, AggCall *call)
{
	call->arg = (Expr *) arg;
	call->collation = agg->inputcollid;
	if (!is_argument(arg, varno, map, call))
		return false;
	call->kind = agg->aggfnoid == F_COUNT_ANY ? AGG_COUNT_ARG : AGG_PICK;
	if (call->kind == AGG_COUNT_ARG)
		return true;
	return am_collation_is_deterministic(agg->inputcollid) && picks_argument(agg->aggfnoid, &call->pick) &&
		   exprType(arg) == agg->aggtype;
}

static bool
analyze_argument(const Aggref *agg, Node *arg, Index varno, const AmColumnMap *map, AggCall *call)
{
	bool cast;
	int measure;

	if (agg->aggdistinct)
		return analyze_distinct(agg, arg, varno, map, call);
	measure = agg_measure(arg, varno, map, &cast);
	if (measure >= 0)
		return analyze_measure(agg, measure, cast, call);
	if (agg->aggfnoid == F_COUNT_ANY && agg_is_identity(arg, varno, map))
	{
		call->kind = AGG_COUNT_ROWS;
		return true;
	}
	return analyze_instance(agg, arg, varno, map, call) || analyze_value(agg, arg, varno, map, call);
}

bool
agg_analyze(const Aggref *agg, Index varno, const AmColumnMap *map, AggCall *call)
{
	memset(call, 0, sizeof(*call));
	if (agg->agglevelsup != 0 || agg->aggkind != AGGKIND_NORMAL || agg->aggorder || agg->aggdirectargs ||
		agg->aggvariadic || !analyze_filter(agg->aggfilter, varno, map, call))
		return false;
	if (agg->args == NIL)
	{
		call->kind = AGG_COUNT_ROWS;
		return agg->aggfnoid == F_COUNT_;
	}
	return list_length(agg->args) == 1 &&
		   analyze_argument(agg, (Node *) linitial_node(TargetEntry, agg->args)->expr, varno, map, call);
}
