/*
 * instances.c
 *    What a query says of list_instances()'s rows becomes the function's arguments.
 *
 * A function scan returns all rows and then looks at its filter. list_instances() has an argument for each of the three
 * columns by which instances are chosen; where a query compares one of these with a value that is known when the scan
 * starts, the function gets the value. The comparison stays in the filter, so an argument only ever leaves out rows
 * that the filter would drop.
 */
#include "plan/instances.h"

#include "catalog/namespace.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/restrictinfo.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#define SCHEMA "customer_segmentation"
#define FUNCTION "list_instances"

typedef struct Argument
{
	AttrNumber column; /* of the function's rows */
	Oid equality;
} Argument;

/* By the place of the argument. */
static const Argument arguments[] = {{1, F_OIDEQ}, {4, F_TEXTEQ}, {2, F_TEXTEQ}};

static FuncExpr *
call_of_ours(const RangeTblEntry *rte)
{
	const RangeTblFunction *f = list_length(rte->functions) == 1 ? linitial(rte->functions) : NULL;
	FuncExpr *call = f && IsA(f->funcexpr, FuncExpr) ? (FuncExpr *) f->funcexpr : NULL;
	const char *name;

	/* The number of a row counts those that are left out. */
	if (call == NULL || rte->funcordinality || list_length(call->args) != lengthof(arguments))
		return NULL;
	name = get_func_name(call->funcid);
	if (name == NULL || strcmp(name, FUNCTION) != 0 ||
		get_func_namespace(call->funcid) != get_namespace_oid(SCHEMA, true))
		return NULL;
	return call;
}

static Node *
strip(Node *node)
{
	while (node && IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	return node;
}

static bool
is_column(Node *node, Index rti, AttrNumber column)
{
	const Var *var = (const Var *) strip(node);

	return var && IsA(var, Var) && var->varno == (int) rti && var->varlevelsup == 0 && var->varattno == column;
}

/* A value that is there before the scan, at no cost; NULL: not of that kind. */
static Node *
value_of(Node *node)
{
	Node *bare = strip(node);

	if (IsA(bare, Const))
		return ((Const *) bare)->constisnull ? NULL : node;
	return IsA(bare, Param) ? node : NULL;
}

/* The other side of an equality with the column, or NULL. */
static Node *
compared_with(const RestrictInfo *rinfo, Index rti, const Argument *argument)
{
	OpExpr *op = (OpExpr *) rinfo->clause;

	/* Of a collation by which texts with other bytes may be equal the bytes say too little. */
	if (!IsA(op, OpExpr) || list_length(op->args) != 2 || get_opcode(op->opno) != argument->equality ||
		(OidIsValid(op->inputcollid) && !get_collation_isdeterministic(op->inputcollid)))
		return NULL;
	if (is_column(linitial(op->args), rti, argument->column))
		return value_of(lsecond(op->args));
	if (is_column(lsecond(op->args), rti, argument->column))
		return value_of(linitial(op->args));
	return NULL;
}

static bool
is_left_out(Node *argument)
{
	return IsA(argument, Const) && ((Const *) argument)->constisnull;
}

void
plan_narrow_instances(RelOptInfo *rel, Index rti, RangeTblEntry *rte)
{
	FuncExpr *call = call_of_ours(rte);

	if (call == NULL)
		return;
	call = copyObject(call);
	for (int i = 0; i < (int) lengthof(arguments); i++)
	{
		ListCell *at = list_nth_cell(call->args, i);
		ListCell *lc;

		foreach (lc, rel->baserestrictinfo)
		{
			Node *value = compared_with(lfirst_node(RestrictInfo, lc), rti, &arguments[i]);
			Oid type = exprType(lfirst(at));

			if (value == NULL || !is_left_out(lfirst(at)))
				continue;
			if (exprType(value) != type)
				value = (Node *) makeRelabelType((Expr *) copyObject(value), type, -1, exprCollation(lfirst(at)),
												 COERCE_IMPLICIT_CAST);
			lfirst(at) = copyObject(value);
		}
	}
	linitial_node(RangeTblFunction, rte->functions)->funcexpr = (Node *) call;
}
