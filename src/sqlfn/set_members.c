/*
 * set_members.c
 *    Between customer_set and what it is made of: instances, identities, Roaring bitmaps.
 */
#include "sqlfn/set.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "sqlfn/answers.h"
#include "sqlfn/segment.h"
#include "store/store.h"

PG_FUNCTION_INFO_V1(customer_segmentation_members);
PG_FUNCTION_INFO_V1(customer_segmentation_identities);
PG_FUNCTION_INFO_V1(customer_segmentation_set_to_roaring);
PG_FUNCTION_INFO_V1(customer_segmentation_set_from_roaring);

Datum
customer_segmentation_members(PG_FUNCTION_ARGS)
{
	Oid relid = PG_GETARG_OID(1);
	SetValue *value = set_new(relid);
	AnswerTable table;

	answers_open(&table, relid, ANSWERS_MEMBERSHIP);
	answers_add_to_set(&table, answers_instance(&table, PG_GETARG_TEXT_PP(0)), value->set);
	value->generation = table.reader->view->generation;
	answers_close(&table);
	PG_RETURN_DATUM(set_store(value));
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
	SetValue *value = set_load(PG_GETARG_DATUM(0));
	AnswerTable table;
	uint32 container = 0;
	const uint64 *bits;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	answers_open(&table, value->relid, ANSWERS_COLUMN(COL_IDENTITY));
	set_check_generation(value->relid, value->generation, cseg_set_count(value->set) == 0,
						 table.reader->view->generation);
	for (; (bits = cseg_set_from(value->set, &container)) != NULL; container++)
		answers_each_known(&table, container, bits, put_identity, fcinfo->resultinfo);
	answers_close(&table);
	return (Datum) 0;
}

Datum
customer_segmentation_set_to_roaring(PG_FUNCTION_ARGS)
{
	const SetHeader *header = set_header(PG_GETARG_DATUM(0));
	size_t len;
	bytea *out;

	if (header->form != SET_ORDINALS)
		header = set_header(set_store(set_load(PG_GETARG_DATUM(0))));
	len = VARSIZE(header) - SET_HEADER_BYTES;
	out = palloc(VARHDRSZ + len);
	SET_VARSIZE(out, VARHDRSZ + len);
	memcpy(VARDATA(out), (const char *) header + SET_HEADER_BYTES, len);
	PG_RETURN_BYTEA_P(out);
}

/* Numbers mean what they mean in the table now: that is for the caller to know. */
Datum
customer_segmentation_set_from_roaring(PG_FUNCTION_ARGS)
{
	const bytea *bytes = PG_GETARG_BYTEA_PP(0);
	Oid relid = PG_NARGS() > 1 ? PG_GETARG_OID(1) : store_shared_relation();
	StoreOwner *owner = store_owner_new(CurrentMemoryContext, cseg_set_free);
	AnswerTable table;
	uint32 generation;
	uint32 limit;
	CsegSet *set;
	CsegError err;

	answers_open(&table, relid, ANSWERS_COLUMN(COL_IDENTITY));
	generation = table.reader->view->generation;
	limit = cseg_dict_next(table.reader->dict->dict);
	answers_close(&table);
	if (cseg_set_from_roaring(&set, (const uint8 *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes), limit, &err) !=
		CSEG_OK)
	{
		if (err.code != CSEG_CORRUPT)
			store_core_error(&err, NULL);
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
				 errmsg("these bytes are not a Roaring bitmap of customers of the table"), errdetail("%s.", err.msg),
				 errhint("Give a bitmap in the portable format that was made of a set of the same table.")));
	}
	store_owner_set(owner, set);
	PG_RETURN_DATUM(set_store_parts(relid, generation, set));
}
