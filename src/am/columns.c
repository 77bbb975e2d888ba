/*
 * columns.c
 *    The eleven columns of the relation, wherever they stand in a descriptor.
 */
#include "am/am.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

static const struct
{
	const char *name;
	Oid type;
	const char *type_name;
} columns[AM_COLUMNS] = {
	[COL_IDENTITY] = {"customer_identity", TEXTOID, "text"},
	[COL_INSTANCE_DATE] = {"instance_created_date", TIMESTAMPOID, "timestamp"},
	[COL_SCHEDULE] = {"schedule", TEXTOID, "text"},
	[COL_SEGMENT_BY] = {"segment_by", TEXTOID, "text"},
	[COL_SEGMENT_DATE] = {"segment_created_date", TIMESTAMPOID, "timestamp"},
	[COL_SEGMENT_ID] = {"segment_id", TEXTOID, "text"},
	[COL_INSTANCE_ID] = {"segment_instance_id", TEXTOID, "text"},
	[COL_SEGMENT_NAME] = {"segment_name", TEXTOID, "text"},
	[COL_CUSTOMERS] = {"num_of_customers", INT8OID, "bigint"},
	[COL_ORDERS] = {"num_of_orders", INT8OID, "bigint"},
	[COL_REVENUE] = {"total_revenue", NUMERICOID, "numeric"},
};

static int
column_by_name(const char *name)
{
	for (int c = 0; c < AM_COLUMNS; c++)
		if (strcmp(columns[c].name, name) == 0)
			return c;
	return -1;
}

bool
am_is_column_name(const char *name)
{
	return column_by_name(name) >= 0;
}

const char *
am_column_name(AmColumn column)
{
	return columns[column].name;
}

static char *
expected_columns(void)
{
	StringInfoData s;

	initStringInfo(&s);
	for (int c = 0; c < AM_COLUMNS; c++)
		appendStringInfo(&s, "%s%s %s", c ? ", " : "", columns[c].name, columns[c].type_name);
	return s.data;
}

/* While a table is rewritten its new file goes by a name that nobody knows. */
static const char *
shown_name(Relation rel)
{
	const char *name = RelationGetRelationName(rel);
	const char *original = NULL;

	if (strncmp(name, "pg_temp_", 8) == 0)
		original = get_rel_name(atooid(name + 8));
	return original ? original : name;
}

static void
refuse(const char *name, char *reason)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("table \"%s\" can't use access method \"customer_segmentation\"", name),
			 errdetail("%s The columns must be: %s.", reason, expected_columns()),
			 errhint("Use CREATE TABLE ... (LIKE customer_segmentation_table) USING customer_segmentation, and keep "
					 "other columns in a table of their own.")));
}

bool
am_collation_is_deterministic(Oid collation)
{
	HeapTuple tuple;
	bool deterministic;

	if (!OidIsValid(collation))
		return true;
	tuple = SearchSysCache1(COLLOID, ObjectIdGetDatum(collation));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for collation %u", collation);
	deterministic = ((Form_pg_collation) GETSTRUCT(tuple))->collisdeterministic;
	ReleaseSysCache(tuple);
	return deterministic;
}

static void
check_attribute(const char *name, Form_pg_attribute att, bool seen[AM_COLUMNS])
{
	int c = column_by_name(NameStr(att->attname));

	if (c < 0)
		refuse(name, psprintf("Column \"%s\" is not one of them.", NameStr(att->attname)));
	if (att->atttypid != columns[c].type || att->attndims > 0)
		refuse(name, psprintf("Column \"%s\" is of type %s.", NameStr(att->attname), format_type_be(att->atttypid)));
	if (att->attgenerated)
		refuse(name, psprintf("Column \"%s\" is generated.", NameStr(att->attname)));
	if (att->attidentity)
		refuse(name, psprintf("Column \"%s\" is an identity column.", NameStr(att->attname)));
	if (!am_collation_is_deterministic(att->attcollation))
		refuse(name, psprintf("Column \"%s\" has a nondeterministic collation.", NameStr(att->attname)));
	seen[c] = true;
}

void
am_check_column(const char *table, Form_pg_attribute att)
{
	bool seen[AM_COLUMNS];

	check_attribute(table, att, seen);
}

void
am_check_columns(Relation rel, TupleDesc desc)
{
	bool seen[AM_COLUMNS] = {false};
	const char *name = shown_name(rel);

	for (int i = 0; i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attisdropped)
			check_attribute(name, TupleDescAttr(desc, i), seen);
	for (int c = 0; c < AM_COLUMNS; c++)
		if (!seen[c])
			refuse(name, psprintf("Column \"%s\" is missing.", columns[c].name));
}

static size_t
map_bytes(int natts)
{
	return offsetof(AmColumnMap, column) + natts;
}

AmColumnMap *
am_column_map(TupleDesc desc)
{
	AmColumnMap *map = palloc0(map_bytes(desc->natts));
	int found = 0;

	map->natts = desc->natts;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		int c = att->attisdropped ? -1 : column_by_name(NameStr(att->attname));

		map->column[i] = (int8) (c < 0 ? COL_DROPPED : c);
		if (c < 0)
			continue;
		map->attno[c] = (int16) i;
		found++;
	}
	if (found != AM_COLUMNS)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("row type does not have the columns of access method \"customer_segmentation\"")));
	return map;
}

/* rd_amcache is freed by the relation cache whenever the descriptor may have changed. */
const AmColumnMap *
am_relation_map(Relation rel)
{
	if (rel->rd_amcache == NULL)
	{
		AmColumnMap *map = am_column_map(RelationGetDescr(rel));

		rel->rd_amcache = MemoryContextAlloc(CacheMemoryContext, map_bytes(map->natts));
		memcpy(rel->rd_amcache, map, map_bytes(map->natts));
		pfree(map);
	}
	return rel->rd_amcache;
}

AmColumnMap *
am_copy_relation_map(Relation rel)
{
	const AmColumnMap *map = am_relation_map(rel);
	AmColumnMap *copy = palloc(map_bytes(map->natts));

	memcpy(copy, map, map_bytes(map->natts));
	return copy;
}

bool
am_is_ours(Relation rel)
{
	return rel->rd_tableam == am_routine();
}

/* ---- rows ---------------------------------------------------------------------------------------------------- */

static void
refuse_null(Relation rel, AmColumn c)
{
	ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION),
					errmsg("null value in column \"%s\" of relation \"%s\" violates not-null constraint",
						   columns[c].name, RelationGetRelationName(rel)),
					errdetail("Access method \"customer_segmentation\" needs a value in this column."),
					errtablecol(rel, am_relation_map(rel)->attno[c] + 1)));
}

static text *
get_text(Relation rel, TupleTableSlot *slot, const int16 *attno, AmColumn c, bool required)
{
	int i = attno[c];

	if (!slot->tts_isnull[i])
		return (text *) am_plain_varlena(slot->tts_values[i]);
	if (required)
		refuse_null(rel, c);
	return NULL;
}

void
am_row_from_slot(Relation rel, TupleTableSlot *slot, AmRow *row)
{
	int16 attno[AM_COLUMNS];
	text *identity;
	int i;

	/* A copy: detoasting may open a relation, and so have the relation cache drop its own. */
	memcpy(attno, am_relation_map(rel)->attno, sizeof(attno));
	slot_getallattrs(slot);
	identity = get_text(rel, slot, attno, COL_IDENTITY, true);
	row->identity = (const uint8 *) VARDATA_ANY(identity);
	row->identity_len = VARSIZE_ANY_EXHDR(identity);
	row->group.segment_id = get_text(rel, slot, attno, COL_SEGMENT_ID, true);
	row->instance.segment_instance_id = get_text(rel, slot, attno, COL_INSTANCE_ID, true);
	i = attno[COL_INSTANCE_DATE];
	if (slot->tts_isnull[i])
		refuse_null(rel, COL_INSTANCE_DATE);
	row->instance.instance_created_date = DatumGetTimestamp(slot->tts_values[i]);
	row->group.segment_name = get_text(rel, slot, attno, COL_SEGMENT_NAME, false);
	row->group.segment_by = get_text(rel, slot, attno, COL_SEGMENT_BY, false);
	row->group.schedule = get_text(rel, slot, attno, COL_SCHEDULE, false);
	i = attno[COL_SEGMENT_DATE];
	row->group.has_segment_created = !slot->tts_isnull[i];
	row->group.segment_created_date = slot->tts_isnull[i] ? 0 : DatumGetTimestamp(slot->tts_values[i]);
	for (int m = 0; m < CSEG_MEASURES; m++)
	{
		i = attno[COL_CUSTOMERS + m];
		am_measure_from_datum(m, slot->tts_values[i], slot->tts_isnull[i], &row->values[m]);
	}
}
