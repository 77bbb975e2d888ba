/*
 * safety.c
 *    Which expressions may be evaluated on data that execution perhaps never evaluates them on.
 */
#include "plan/safety.h"

#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "nodes/primnodes.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

typedef struct SafetyContext
{
	bool guarded;
	bool executing;
} SafetyContext;

/* Functions that fail on no value of the columns that they may be given here, though they aren't marked so. */
static bool
never_fails(Oid funcid)
{
	switch (funcid)
	{
	case F_TEXTLIKE:
	case F_TEXTNLIKE:
	case F_TEXTICLIKE:
	case F_DATE_TIMESTAMP:
	case F_DATE_TRUNC_TEXT_TIMESTAMP:
	case F_LENGTH_TEXT:
	case F_LOWER_TEXT:
	case F_UPPER_TEXT:
	case F_TIMESTAMP_EQ_DATE:
	case F_TIMESTAMP_NE_DATE:
	case F_TIMESTAMP_LT_DATE:
	case F_TIMESTAMP_LE_DATE:
	case F_TIMESTAMP_GT_DATE:
	case F_TIMESTAMP_GE_DATE:
	case F_TIMESTAMP_EQ_TIMESTAMPTZ:
	case F_TIMESTAMP_NE_TIMESTAMPTZ:
	case F_TIMESTAMP_LT_TIMESTAMPTZ:
	case F_TIMESTAMP_LE_TIMESTAMPTZ:
	case F_TIMESTAMP_GT_TIMESTAMPTZ:
	case F_TIMESTAMP_GE_TIMESTAMPTZ:
		return true;
	default:
		return false;
	}
}

static bool
is_unsafe_function(Oid funcid, void *arg)
{
	SafetyContext *context = arg;

	return !get_func_leakproof(funcid) && (context->guarded || !never_fails(funcid));
}

/* A pattern that ends with its escape character, or a unit of time that there is none of, does fail. */
static bool
has_bad_constant(Node *node)
{
	Oid funcid = InvalidOid;
	List *args = NIL;
	Const *constant;
	char *value;
	size_t len;

	if (IsA(node, OpExpr))
	{
		funcid = get_opcode(((OpExpr *) node)->opno);
		args = ((OpExpr *) node)->args;
	}
	else if (IsA(node, FuncExpr))
	{
		funcid = ((FuncExpr *) node)->funcid;
		args = ((FuncExpr *) node)->args;
	}
	else if (IsA(node, ScalarArrayOpExpr))
	{
		funcid = get_opcode(((ScalarArrayOpExpr *) node)->opno);
		return funcid == F_TEXTLIKE || funcid == F_TEXTNLIKE || funcid == F_TEXTICLIKE;
	}
	if (funcid != F_TEXTLIKE && funcid != F_TEXTNLIKE && funcid != F_TEXTICLIKE &&
		funcid != F_DATE_TRUNC_TEXT_TIMESTAMP)
		return false;
	constant = funcid == F_DATE_TRUNC_TEXT_TIMESTAMP ? linitial(args) : lsecond(args);
	if (!IsA(constant, Const) || constant->consttype != TEXTOID)
		return true;
	if (constant->constisnull)
		return false;
	value = TextDatumGetCString(constant->constvalue);
	len = strlen(value);
	if (funcid != F_DATE_TRUNC_TEXT_TIMESTAMP)
		return len > 0 && value[len - 1] == '\\';
	return strcmp(value, "year") != 0 && strcmp(value, "quarter") != 0 && strcmp(value, "month") != 0 &&
		   strcmp(value, "week") != 0 && strcmp(value, "day") != 0 && strcmp(value, "hour") != 0 &&
		   strcmp(value, "minute") != 0 && strcmp(value, "second") != 0;
}

static bool
is_unsafe(Node *node, SafetyContext *context)
{
	if (node == NULL)
		return false;
	/* Fails on all rows or on none. */
	if (context->executing && !IsA(node, List) && !contain_var_clause(node))
		return false;
	switch (nodeTag(node))
	{
	case T_List:
	case T_Var:
	case T_Const:
	case T_BoolExpr:
	case T_NullTest:
	case T_BooleanTest:
	case T_RelabelType:
	case T_ArrayExpr:
		break;
	case T_CollateExpr:
	case T_CoalesceExpr:
		if (!context->executing)
			return true;
		break;
	case T_OpExpr:
	case T_FuncExpr:
	case T_ScalarArrayOpExpr:
	case T_DistinctExpr:
	case T_RowCompareExpr:
		if (check_functions_in_node(node, is_unsafe_function, context) || has_bad_constant(node))
			return true;
		break;
	default:
		return true;
	}
	return expression_tree_walker(node, is_unsafe, context);
}

bool
plan_is_safe_while_planning(Node *node, bool guarded)
{
	SafetyContext context = {guarded, false};

	return !is_unsafe(node, &context);
}

bool
plan_never_fails(Node *node)
{
	SafetyContext context = {false, true};

	return !is_unsafe(node, &context);
}
