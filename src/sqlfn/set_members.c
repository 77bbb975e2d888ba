/*
 * set_members.c
 *    Between customer_set and what it is made of: instances, identities, Roaring bitmaps.
 */
#include "sqlfn/set.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "tcop/pquery.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/portal.h"
#include "utils/tuplestore.h"

#include "sqlfn/answers.h"
#include "sqlfn/segment.h"
#include "store/store.h"

PG_FUNCTION_INFO_V1(customer_segmentation_members);
PG_FUNCTION_INFO_V1(customer_segmentation_members_of_any);
PG_FUNCTION_INFO_V1(customer_segmentation_identities);
PG_FUNCTION_INFO_V1(customer_segmentation_set_to_roaring);
PG_FUNCTION_INFO_V1(customer_segmentation_set_from_roaring);

/*
 * What is unread is read under the snapshot that it was found by. That must still be there: a procedure may end the
 * transaction before it looks at its argument, and a snapshot of one's own is gone at once.
 */
static Datum
show_members(SetValue *value, AnswerTable *table)
{
	bool may_commit =
		ActivePortal == NULL || ActivePortal->commandTag == CMDTAG_CALL || ActivePortal->commandTag == CMDTAG_DO;
	Datum result = may_commit || table->own_snapshot ? set_give(value) : set_show(value);

	answers_close(table);
	return result;
}

Datum
customer_segmentation_members(PG_FUNCTION_ARGS)
{
	Oid relid = PG_GETARG_OID(1);
	SetValue *value = set_new(relid, CurrentMemoryContext);
	AnswerTable table;

	answers_open(&table, relid, ANSWERS_MEMBERSHIP);
	set_add_instance(value, &table, answers_instance(&table, PG_GETARG_TEXT_PP(0)));
	PG_RETURN_DATUM(show_members(value, &table));
}

/* NULLs are passed by, as union_agg does. */
Datum
customer_segmentation_members_of_any(PG_FUNCTION_ARGS)
{
	Oid relid = PG_GETARG_OID(1);
	SetValue *value = set_new(relid, CurrentMemoryContext);
	AnswerTable table;
	Datum *ids;
	bool *nulls;
	int n;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false, TYPALIGN_INT, &ids, &nulls, &n);
	answers_open(&table, relid, ANSWERS_MEMBERSHIP);
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!nulls[i])
			set_add_instance(value, &table, answers_instance(&table, DatumGetTextPP(ids[i])));
	}
	PG_RETURN_DATUM(show_members(value, &table));
}

static void
put_identity(void *arg, const text *identity)
{
	ReturnSetInfo *rsinfo = arg;
	Datum value = PointerGetDatum(identity);
	bool isnull = false;

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
}

Datum
customer_segmentation_identities(PG_FUNCTION_ARGS)
{
	const SetValue *value = set_get(PG_GETARG_DATUM(0));
	AnswerTable table;
	uint32 container = 0;
	const uint64 *bits;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	set_open_table(&table, value->relid);
	set_check_generation(value, table.reader->view->generation);
	for (; (bits = cseg_set_from(value->set, &container)) != NULL; container++)
		answers_each_known(&table, container, bits, put_identity, fcinfo->resultinfo);
	answers_close(&table);
	return (Datum) 0;
}

Datum
customer_segmentation_set_to_roaring(PG_FUNCTION_ARGS)
{
	size_t len;
	const uint8 *numbers = set_numbers(PG_GETARG_DATUM(0), &len);
	bytea *out = palloc(VARHDRSZ + len);

	SET_VARSIZE(out, VARHDRSZ + len);
	memcpy(VARDATA(out), numbers, len);
	PG_RETURN_BYTEA_P(out);
}

/* Numbers mean what they mean in the table now: that is for the caller to know. */
Datum
customer_segmentation_set_from_roaring(PG_FUNCTION_ARGS)
{
	const bytea *bytes = PG_GETARG_BYTEA_PP(0);
	Oid relid = PG_NARGS() > 1 ? PG_GETARG_OID(1) : store_shared_relation();
	AnswerTable table;
	uint32 generation;
	uint32 limit;
	SetValue *value;
	CsegError err;

	answers_open(&table, relid, ANSWERS_COLUMN(COL_IDENTITY));
	generation = table.reader->view->generation;
	limit = cseg_dict_next(table.reader->dict->dict);
	answers_close(&table);
	value = set_from_numbers(relid, generation, (const uint8 *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes), limit,
							 CurrentMemoryContext, &err);
	if (value == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
				 errmsg("these bytes are not a Roaring bitmap of customers of the table"), errdetail("%s.", err.msg),
				 errhint("Give a bitmap in the portable format that was made of a set of the same table.")));
	PG_RETURN_DATUM(set_give(value));
}
