/*
 * exchange.c
 *    export_instances: instances as bytes that another table, database or server can take in, in the size in which they
 *    are stored.
 *
 * One value holds up to 64 instances that share their dimensions, since that is what makes them small: each customer
 * once, and of the instances what differs. Numbers are little-endian.
 */
#include "sqlfn/sqlfn.h"

#include "access/table.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "am/repack.h"
#include "sqlfn/exchange.h"

PG_FUNCTION_INFO_V1(customer_segmentation_export_instances);

/* ---- bytes ------------------------------------------------------------------------------------------------------ */

static void
put_number(StringInfo out, uint64 v, int bytes)
{
	for (int i = 0; i < bytes; i++)
		appendStringInfoCharMacro(out, (char) (v >> (8 * i)));
}

static void
put_bytes(StringInfo out, const void *bytes, size_t len)
{
	if (len > MaxAllocSize)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("a group of instances exceeds 1 GB")));
	put_number(out, len, 4);
	appendBinaryStringInfo(out, bytes, (int) len);
}

static void
put_text(StringInfo out, const text *t)
{
	put_bytes(out, VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
}

static void
put_dimensions(StringInfo out, const StoreGroupDims *dims)
{
	put_number(out,
			   (dims->segment_name ? EXCHANGE_HAS_NAME : 0) | (dims->segment_by ? EXCHANGE_HAS_BY : 0) |
				   (dims->schedule ? EXCHANGE_HAS_SCHEDULE : 0) |
				   (dims->has_segment_created ? EXCHANGE_HAS_CREATED : 0),
			   1);
	put_text(out, dims->segment_id);
	if (dims->segment_name)
		put_text(out, dims->segment_name);
	if (dims->segment_by)
		put_text(out, dims->segment_by);
	if (dims->schedule)
		put_text(out, dims->schedule);
	if (dims->has_segment_created)
		put_number(out, (uint64) dims->segment_created_date, 8);
}

static void
put_instances(StringInfo out, const AmRepack *repack)
{
	put_number(out, (uint64) repack->n, 1);
	for (int i = 0; i < repack->n; i++)
	{
		const StoreInstance *inst = repack->instances[i];

		put_number(out, (uint64) inst->dims.instance_created_date, 8);
		put_text(out, inst->dims.segment_instance_id);
		put_number(out, (uint64) inst->rows, 8);
	}
}

static void
put_cells(StringInfo out, Relation rel, CsegBatch *batch)
{
	uint32 n = cseg_batch_cells(batch);

	put_number(out, n, 4);
	for (uint32 i = 0; i < n; i++)
	{
		uint32 ignored;
		uint32 container;
		CsegCell *cell = cseg_batch_cell(batch, i, &ignored, &container);
		const uint8 *bytes;
		size_t len;

		CHECK_FOR_INTERRUPTS();
		CSEG_CALL(rel, cseg_cell_encode(cell, &bytes, &len, &err));
		put_number(out, container, 4);
		put_bytes(out, bytes, len);
	}
}

static void
put_checksum(StringInfo out)
{
	uint8 *p = (uint8 *) out->data + VARHDRSZ;
	uint32 seed = (uint32) p[0] | ((uint32) p[1] << 8) | ((uint32) p[2] << 16) | ((uint32) p[3] << 24);
	uint32 sum = cseg_checksum(p + EXCHANGE_HEADER_BYTES, (size_t) out->len - VARHDRSZ - EXCHANGE_HEADER_BYTES, seed);

	for (int i = 0; i < 4; i++)
		p[4 + i] = (uint8) (sum >> (8 * i));
}

/* ---- a group ---------------------------------------------------------------------------------------------------- */

static int
live_instances(const StoreGroup *group, StoreInstance *instances[CSEG_SLOTS])
{
	int n = 0;

	for (int s = 0; s < CSEG_SLOTS; s++)
		if (group->instance[s] && group->instance[s]->rows > 0)
			instances[n++] = group->instance[s];
	return n;
}

static bytea *
export_group(Relation rel, AmReader *reader, const StoreGroup *group, AmNumbering *numbering)
{
	StoreOwner *owner = store_owner_new(CurrentMemoryContext, cseg_batch_free);
	StoreInstance *instances[CSEG_SLOTS];
	AmRepack repack = {.numbering = numbering, .instances = instances, .end_container = PG_UINT32_MAX};
	StringInfoData out;
	StringInfoData dictionary;
	uint32 containers = (uint32) (((uint64) numbering->n + CSEG_CONTAINER_SIZE - 1) >> CSEG_CONTAINER_BITS);
	uint32 customers;
	CsegBatch *batch;
	const char *encoding = GetDatabaseEncodingName();

	repack.n = live_instances(group, instances);
	if (repack.n == 0)
		return NULL;
	memset(numbering->number, 0xFF, sizeof(uint32) * (Size) numbering->n);
	for (int i = 0; i < group->n_cells; i++)
		(void) am_numbering_mark(rel, numbering, group->cells[i]);
	initStringInfo(&dictionary);
	customers = am_numbering_assign(rel, reader, numbering, 0, containers, 0, &dictionary);
	CSEG_CALL(rel, cseg_batch_new(&batch, &err));
	store_owner_set(owner, batch);
	am_repack(rel, &repack, batch);

	initStringInfo(&out);
	put_number(&out, 0, VARHDRSZ);
	put_number(&out, EXCHANGE_KIND, 1);
	put_number(&out, EXCHANGE_VERSION, 1);
	put_number(&out, 0, 2);
	put_number(&out, 0, 4);
	put_bytes(&out, encoding, strlen(encoding));
	put_dimensions(&out, &group->dims);
	put_instances(&out, &repack);
	put_number(&out, customers, 4);
	put_bytes(&out, dictionary.data, (size_t) dictionary.len);
	put_cells(&out, rel, batch);
	put_checksum(&out);
	SET_VARSIZE(out.data, out.len);
	return (bytea *) out.data;
}

Datum
customer_segmentation_export_instances(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Relation rel;
	AmReader *reader;
	AmNumbering *numbering;
	MemoryContext work;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	rel = sqlfn_open(PG_GETARG_OID(0), AccessShareLock);
	am_flush_before_read(rel, GetActiveSnapshot());
	reader = am_reader_acquire(rel, GetActiveSnapshot());
	store_view_rows(rel, reader->view);
	numbering = am_numbering_new(rel, reader);
	work = AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation export", ALLOCSET_DEFAULT_SIZES);
	for (int g = 0; g < reader->view->n_groups; g++)
	{
		MemoryContext old = MemoryContextSwitchTo(work);
		bytea *bytes = export_group(rel, reader, reader->view->groups[g], numbering);

		MemoryContextSwitchTo(old);
		if (bytes)
		{
			Datum value = PointerGetDatum(bytes);
			bool isnull = false;

			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
		}
		MemoryContextReset(work);
	}
	MemoryContextDelete(work);
	am_reader_release(reader);
	table_close(rel, AccessShareLock);
	return (Datum) 0;
}
