/*
 * exchange_read.c
 *    exported_rows and import_instances: what export_instances wrote, as rows, and into a table.
 *
 * The bytes may come from anywhere: every length, number and text is checked before it is used, and the rows go in by
 * an ordinary INSERT as the caller, so that privileges, constraints, triggers and uniqueness hold.
 */
#include "sqlfn/sqlfn.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "am/am.h"
#include "sqlfn/answers.h"
#include "sqlfn/exchange.h"

PG_FUNCTION_INFO_V1(customer_segmentation_exported_rows);
PG_FUNCTION_INFO_V1(customer_segmentation_import_instances);

typedef struct Exported
{
	const uint8 *at;
	const uint8 *end;
	int encoding;
	StoreGroupDims dims;
	int n_instances;
	StoreInstanceDims instances[CSEG_SLOTS];
	int64 rows[CSEG_SLOTS];
	uint32 customers;
	uint32 n_cells;
	CsegDict *dict;
} Exported;

COMPAT_NORETURN static void refuse(const char *what) COMPAT_NORETURN_END;

static void
refuse(const char *what)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
					errmsg("these bytes are not instances that export_instances() wrote"), errdetail("%s.", what),
					errhint("Export the instances again, and see that the bytes arrive unchanged.")));
}

static void
raise_core(const CsegError *err)
{
	if (err->code == CSEG_CORRUPT)
		refuse(err->msg);
	store_core_error(err, NULL);
}

#define READ_CALL(call)        \
	do                         \
	{                          \
		CsegError err;         \
		if ((call) != CSEG_OK) \
			raise_core(&err);  \
	} while (0)

/* ---- bytes ------------------------------------------------------------------------------------------------------ */

static const uint8 *
take(Exported *x, size_t n)
{
	const uint8 *p = x->at;

	if (n > (size_t) (x->end - x->at))
		refuse("They end too early");
	x->at += n;
	return p;
}

static uint64
take_number(Exported *x, int bytes)
{
	const uint8 *p = take(x, (size_t) bytes);
	uint64 v = 0;

	for (int i = 0; i < bytes; i++)
		v |= (uint64) p[i] << (8 * i);
	return v;
}

/* Text in the server's encoding, checked to be that. */
static text *
text_of(const Exported *x, const void *bytes, size_t len)
{
	char *converted = pg_any_to_server(bytes, (int) len, x->encoding);

	return converted == bytes ? cstring_to_text_with_len(bytes, (int) len) : cstring_to_text(converted);
}

static text *
take_text(Exported *x)
{
	size_t len = (size_t) take_number(x, 4);

	return text_of(x, take(x, len), len);
}

static Timestamp
take_timestamp(Exported *x)
{
	Timestamp t = (Timestamp) take_number(x, 8);

	if (!TIMESTAMP_NOT_FINITE(t) && !IS_VALID_TIMESTAMP(t))
		refuse("A date is out of range");
	return t;
}

static void
take_header(Exported *x, const bytea *bytes)
{
	const uint8 *p;
	uint32 seed;

	x->at = (const uint8 *) VARDATA_ANY(bytes);
	x->end = x->at + VARSIZE_ANY_EXHDR(bytes);
	p = take(x, EXCHANGE_HEADER_BYTES);
	if (p[0] != EXCHANGE_KIND)
		refuse("They start otherwise");
	if (p[1] != EXCHANGE_VERSION || p[2] != 0 || p[3] != 0)
		refuse("Their format version is unknown");
	seed = (uint32) p[0] | ((uint32) p[1] << 8) | ((uint32) p[2] << 16) | ((uint32) p[3] << 24);
	if (cseg_checksum(x->at, (size_t) (x->end - x->at), seed) !=
		((uint32) p[4] | ((uint32) p[5] << 8) | ((uint32) p[6] << 16) | ((uint32) p[7] << 24)))
		refuse("Their checksum does not match");
}

static void
take_encoding(Exported *x)
{
	size_t len = (size_t) take_number(x, 4);
	const char *p = (const char *) take(x, len);

	x->encoding = pg_char_to_encoding(pnstrdup(p, Min(len, NAMEDATALEN)));
	if (!PG_VALID_BE_ENCODING(x->encoding))
		refuse("Their encoding is unknown");
}

static void
take_dimensions(Exported *x)
{
	int has = (int) take_number(x, 1);

	x->dims.segment_id = take_text(x);
	if (has & EXCHANGE_HAS_NAME)
		x->dims.segment_name = take_text(x);
	if (has & EXCHANGE_HAS_BY)
		x->dims.segment_by = take_text(x);
	if (has & EXCHANGE_HAS_SCHEDULE)
		x->dims.schedule = take_text(x);
	x->dims.has_segment_created = (has & EXCHANGE_HAS_CREATED) != 0;
	if (x->dims.has_segment_created)
		x->dims.segment_created_date = take_timestamp(x);
}

static void
take_instances(Exported *x)
{
	x->n_instances = (int) take_number(x, 1);
	if (x->n_instances < 1 || x->n_instances > CSEG_SLOTS)
		refuse("The number of instances is out of range");
	for (int i = 0; i < x->n_instances; i++)
	{
		x->instances[i].instance_created_date = take_timestamp(x);
		x->instances[i].segment_instance_id = take_text(x);
		x->rows[i] = (int64) take_number(x, 8);
	}
}

static void
take_dictionary(Exported *x)
{
	size_t len;
	const uint8 *p;
	uint32 count;

	x->customers = (uint32) take_number(x, 4);
	len = (size_t) take_number(x, 4);
	p = take(x, len);
	READ_CALL(cseg_dict_check(p, len, &count, &err));
	if (count != x->customers)
		refuse("The number of customers does not match");
	READ_CALL(cseg_dict_add(x->dict, 0, p, len, &err));
}

/* Everything up to the cells, in the current context. */
static Exported *
read_exported(const bytea *bytes)
{
	Exported *x = palloc0(sizeof(Exported));
	StoreOwner *owner = store_owner_new(CurrentMemoryContext, cseg_dict_free);

	CSEG_CALL(NULL, cseg_dict_new(&x->dict, 0, &err));
	store_owner_set(owner, x->dict);
	take_header(x, bytes);
	take_encoding(x);
	take_dimensions(x);
	take_instances(x);
	take_dictionary(x);
	x->n_cells = (uint32) take_number(x, 4);
	return x;
}

/* ---- rows ------------------------------------------------------------------------------------------------------- */

static void
put_text(Datum *values, bool *nulls, AmColumn column, const text *t)
{
	values[column] = PointerGetDatum(t);
	nulls[column] = t == NULL;
}

static void
put_dimensions(const Exported *x, int instance, Datum *values, bool *nulls)
{
	put_text(values, nulls, COL_SCHEDULE, x->dims.schedule);
	put_text(values, nulls, COL_SEGMENT_BY, x->dims.segment_by);
	put_text(values, nulls, COL_SEGMENT_ID, x->dims.segment_id);
	put_text(values, nulls, COL_SEGMENT_NAME, x->dims.segment_name);
	put_text(values, nulls, COL_INSTANCE_ID, x->instances[instance].segment_instance_id);
	values[COL_INSTANCE_DATE] = TimestampGetDatum(x->instances[instance].instance_created_date);
	nulls[COL_INSTANCE_DATE] = false;
	values[COL_SEGMENT_DATE] = TimestampGetDatum(x->dims.segment_created_date);
	nulls[COL_SEGMENT_DATE] = !x->dims.has_segment_created;
}

static void
put_measures(const CsegSlotView *view, uint32 entry, Datum *values, bool *nulls)
{
	for (int m = 0; m < CSEG_MEASURES; m++)
	{
		const CsegValue *v = &view->value[m][entry];

		if (!am_value_is_sound(m, v))
			refuse("A measure is not a number of its type");
		values[COL_CUSTOMERS + m] = am_measure_to_datum(m, v, &nulls[COL_CUSTOMERS + m]);
	}
}

static void
rows_of_slot(Exported *x, int instance, const CsegSlotView *view, const void *const *texts, MemoryContext per_row,
			 ReturnSetInfo *rsinfo)
{
	Datum values[AM_COLUMNS];
	bool nulls[AM_COLUMNS];

	x->rows[instance] -= view->n;
	put_dimensions(x, instance, values, nulls);
	for (uint32 i = 0; i < view->n; i++)
	{
		uint32 entry = view->rows[i];
		const void *text_at = texts[view->entry_low[entry]];
		MemoryContext old;
		uint32 header;

		if (text_at == NULL)
			refuse("A customer has no identity");
		memcpy(&header, text_at, sizeof(header));
		old = MemoryContextSwitchTo(per_row);
		put_text(values, nulls, COL_IDENTITY,
				 text_of(x, (const char *) text_at + sizeof(header), header - sizeof(header)));
		put_measures(view, entry, values, nulls);
		MemoryContextSwitchTo(old);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		MemoryContextReset(per_row);
	}
}

static void
check_cell(const Exported *x, CsegCell *cell)
{
	uint64 known = x->n_instances == CSEG_SLOTS ? ~UINT64CONST(0) : (UINT64CONST(1) << x->n_instances) - 1;
	uint32 customers;
	uint64 rows;
	uint64 removed;
	uint64 slots;

	READ_CALL(cseg_cell_check(cell, &err));
	READ_CALL(cseg_cell_counts(cell, &customers, &rows, &removed, &err));
	READ_CALL(cseg_cell_slots(cell, &slots, &err));
	if (removed != 0)
		refuse("They hold a change, not a state");
	if ((slots & ~known) != 0)
		refuse("They hold rows of an instance that is not among theirs");
}

static void
rows_of_cell(Exported *x, MemoryContext per_row, ReturnSetInfo *rsinfo)
{
	StoreOwner *cell_owner = store_owner_new(CurrentMemoryContext, cseg_cell_free);
	StoreOwner *cursor_owner = store_owner_new(CurrentMemoryContext, cseg_cursor_free);
	uint32 container = (uint32) take_number(x, 4);
	size_t len = (size_t) take_number(x, 4);
	const uint8 *bytes = take(x, len);
	const void *const *texts;
	CsegCell *cell;
	CsegCursor *cursor;

	if (container > (CSEG_MAX_ORDINAL >> CSEG_CONTAINER_BITS) ||
		((uint64) container << CSEG_CONTAINER_BITS) >= x->customers)
		refuse("A customer's number is out of range");
	READ_CALL(cseg_cell_decode(&cell, bytes, len, &err));
	store_owner_set(cell_owner, cell);
	check_cell(x, cell);
	READ_CALL(cseg_dict_pin(x->dict, container, &texts, &err));
	READ_CALL(cseg_cursor_new(&cursor, cell, &err));
	store_owner_set(cursor_owner, cursor);
	for (int i = 0; i < x->n_instances; i++)
	{
		CsegSlotView view;

		CHECK_FOR_INTERRUPTS();
		READ_CALL(cseg_cursor_seek(cursor, (uint8) i, (1u << CSEG_MEASURES) - 1, &view, &err));
		rows_of_slot(x, i, &view, texts, per_row, rsinfo);
	}
	store_owner_set(cursor_owner, NULL);
	store_owner_set(cell_owner, NULL);
	cseg_dict_unpin(x->dict, container);
	cseg_dict_trim(x->dict, (size_t) store_dictionary_cache_kb * 1024);
}

Datum
customer_segmentation_exported_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bytea *bytes = PG_GETARG_BYTEA_PP(0);
	MemoryContext work;
	MemoryContext per_row;
	MemoryContext old;
	Exported *x;
	uint32 before = 0;

	InitMaterializedSRF(fcinfo, 0);
	work = AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation import", ALLOCSET_DEFAULT_SIZES);
	per_row = AllocSetContextCreate(work, "customer_segmentation imported row", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(work);
	x = read_exported(bytes);
	for (uint32 i = 0; i < x->n_cells; i++)
	{
		const uint8 *at = x->at;
		uint32 container = (uint32) take_number(x, 4);

		if (i > 0 && container <= before)
			refuse("Their parts are out of order");
		before = container;
		x->at = at;
		rows_of_cell(x, per_row, rsinfo);
	}
	if (x->at != x->end)
		refuse("Bytes are left over");
	for (int i = 0; i < x->n_instances; i++)
		if (x->rows[i] != 0)
			refuse("An instance has not as many rows as it says");
	MemoryContextSwitchTo(old);
	MemoryContextDelete(work);
	return (Datum) 0;
}

/* ---- import ----------------------------------------------------------------------------------------------------- */

static void
insert_rows(Relation rel, Datum bytes)
{
	Oid type = BYTEAOID;
	char *sql = psprintf(
		"INSERT INTO %s (customer_identity, instance_created_date, schedule, segment_by, segment_created_date, "
		"segment_id, segment_instance_id, segment_name, num_of_customers, num_of_orders, total_revenue) "
		"SELECT customer_identity, instance_created_date, schedule, segment_by, segment_created_date, segment_id, "
		"segment_instance_id, segment_name, num_of_customers, num_of_orders, total_revenue "
		"FROM customer_segmentation.exported_rows($1)",
		sqlfn_table_name(rel));

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args(sql, 1, &type, &bytes, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not insert imported rows");
	SPI_finish();
}

static int
by_id_and_place(const void *a, const void *b, void *arg)
{
	const Exported *x = arg;
	int i = *(const int *) a;
	int k = *(const int *) b;
	int order = answers_compare_texts(x->instances[i].segment_instance_id, x->instances[k].segment_instance_id);

	return order != 0 ? order : i - k;
}

/* By place: an instance whose rows are of several dates is there several times. */
static bool *
find_repeated(Exported *x)
{
	bool *repeated = palloc0(sizeof(bool) * Max(x->n_instances, 1));
	int *places = palloc(sizeof(int) * Max(x->n_instances, 1));

	for (int i = 0; i < x->n_instances; i++)
		places[i] = i;
	qsort_arg(places, x->n_instances, sizeof(int), by_id_and_place, x);
	for (int i = 1; i < x->n_instances; i++)
		repeated[places[i]] = store_text_equal(x->instances[places[i - 1]].segment_instance_id,
											   x->instances[places[i]].segment_instance_id);
	pfree(places);
	return repeated;
}

Datum
customer_segmentation_import_instances(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bytea *bytes = PG_GETARG_BYTEA_PP(0);
	Oid relid = PG_GETARG_OID(1);
	Relation rel;
	Exported *x;
	bool *repeated;

	PreventCommandIfReadOnly("import_instances()");
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	if (get_rel_name(relid) == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", relid)));
	sqlfn_require(relid, ACL_INSERT);
	x = read_exported(bytes);
	rel = table_open(relid, RowExclusiveLock);
	insert_rows(rel, PointerGetDatum(bytes));
	table_close(rel, NoLock);
	repeated = find_repeated(x);
	for (int i = 0; i < x->n_instances; i++)
	{
		Datum value = PointerGetDatum(x->instances[i].segment_instance_id);
		bool isnull = false;

		if (!repeated[i])
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
	}
	return (Datum) 0;
}
