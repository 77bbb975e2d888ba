/*
 * segment_mark.c
 *    Marks of instances: pinned, backfilled, and what of today's state stands in for the past.
 *
 * A mark is a row of the catalog and not of the instance, because rows of instances are plain values of the user's. So
 * an instance that goes by other ways than these functions (DELETE, TRUNCATE, DROP TABLE) leaves its mark behind, which
 * nothing shows; such marks go when retention is applied, or when the segment goes.
 */
#include "sqlfn/segment.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

static void
execute(const char *sql, int nargs, const Oid *types, Datum *values, const char *nulls)
{
	Catalog catalog;

	catalog_enter(&catalog);
	catalog_execute(sql, nargs, types, values, nulls);
	catalog_leave(&catalog);
}

static Datum
text_array(char **texts, int n)
{
	Datum *values = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		values[i] = CStringGetTextDatum(texts[i]);
	return PointerGetDatum(construct_array(values, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* A run takes back what a backfill had marked; a pin stays. */
void
mark_run(const Segment *segment, const char *instance_id, const char *current_state)
{
	Oid types[] = {OIDOID, TEXTOID, TEXTOID};
	Datum values[] = {ObjectIdGetDatum(segment->relation), CStringGetTextDatum(instance_id),
					  current_state ? CStringGetTextDatum(current_state) : (Datum) 0};

	if (current_state)
		execute("INSERT INTO customer_segmentation.segment_instance_mark (relation, segment_instance_id, "
				"current_state) VALUES ($1, $2, $3) "
				"ON CONFLICT (relation, segment_instance_id) DO UPDATE SET backfilled = false, current_state = $3",
				lengthof(types), types, values, NULL);
	else
		execute("WITH gone AS (DELETE FROM customer_segmentation.segment_instance_mark WHERE relation = $1 AND "
				"segment_instance_id = $2 AND NOT pinned) "
				"UPDATE customer_segmentation.segment_instance_mark SET backfilled = false, current_state = NULL "
				"WHERE relation = $1 AND segment_instance_id = $2 AND pinned",
				2, types, values, NULL);
}

void
mark_backfilled(const Segment *segment, char **instance_ids, int n, const char *current_state)
{
	Oid types[] = {OIDOID, TEXTARRAYOID, TEXTOID};
	Datum values[] = {ObjectIdGetDatum(segment->relation), text_array(instance_ids, n),
					  current_state ? CStringGetTextDatum(current_state) : (Datum) 0};
	char nulls[] = {' ', ' ', current_state ? ' ' : 'n', '\0'};

	execute("INSERT INTO customer_segmentation.segment_instance_mark (relation, segment_instance_id, backfilled, "
			"current_state) SELECT $1, u.id, true, $3 FROM pg_catalog.unnest($2) AS u (id) "
			"ON CONFLICT (relation, segment_instance_id) DO UPDATE SET backfilled = true, current_state = $3",
			lengthof(types), types, values, nulls);
}

void
mark_pinned(Oid relation, const char *instance_id, bool pinned)
{
	Oid types[] = {OIDOID, TEXTOID};
	Datum values[] = {ObjectIdGetDatum(relation), CStringGetTextDatum(instance_id)};

	if (pinned)
		execute("INSERT INTO customer_segmentation.segment_instance_mark (relation, segment_instance_id, pinned) "
				"VALUES ($1, $2, true) ON CONFLICT (relation, segment_instance_id) DO UPDATE SET pinned = true",
				lengthof(types), types, values, NULL);
	else
		execute("WITH gone AS (DELETE FROM customer_segmentation.segment_instance_mark WHERE relation = $1 AND "
				"segment_instance_id = $2 AND NOT backfilled AND current_state IS NULL) "
				"UPDATE customer_segmentation.segment_instance_mark SET pinned = false "
				"WHERE relation = $1 AND segment_instance_id = $2 AND (backfilled OR current_state IS NOT NULL)",
				lengthof(types), types, values, NULL);
}

void
marks_remove(Oid relation, char **instance_ids, int n)
{
	Oid types[] = {OIDOID, TEXTARRAYOID};
	Datum values[] = {ObjectIdGetDatum(relation), text_array(instance_ids, n)};

	execute("DELETE FROM customer_segmentation.segment_instance_mark WHERE relation = $1 AND "
			"segment_instance_id = ANY ($2)",
			lengthof(types), types, values, NULL);
}

void
marks_remove_segment(const Segment *segment)
{
	Oid types[] = {OIDOID, TEXTOID};
	Datum values[] = {ObjectIdGetDatum(segment->relation), CStringGetTextDatum(segment->segment_id)};

	execute("DELETE FROM customer_segmentation.segment_instance_mark WHERE relation = $1 AND "
			"pg_catalog.starts_with(segment_instance_id, $2 || '_')",
			lengthof(types), types, values, NULL);
}

void
marks_forget_missing(const Segment *segment, const StoredInstance *instances, int n)
{
	char **ids = palloc(sizeof(char *) * Max(n, 1));
	Oid types[] = {OIDOID, TEXTOID, TEXTARRAYOID};
	Datum values[3];

	for (int i = 0; i < n; i++)
		ids[i] = instances[i].instance_id;
	values[0] = ObjectIdGetDatum(segment->relation);
	values[1] = CStringGetTextDatum(segment->segment_id);
	values[2] = text_array(ids, n);
	execute("DELETE FROM customer_segmentation.segment_instance_mark WHERE relation = $1 AND "
			"pg_catalog.starts_with(segment_instance_id, $2 || '_') AND segment_instance_id <> ALL ($3)",
			lengthof(types), types, values, NULL);
	execute("DELETE FROM customer_segmentation.segment_instance_mark AS m WHERE NOT EXISTS "
			"(SELECT FROM pg_catalog.pg_class AS c WHERE c.oid = m.relation)",
			0, NULL, NULL, NULL);
}

static int
compare_ids(const void *a, const void *b)
{
	return strcmp((*(StoredInstance *const *) a)->instance_id, (*(StoredInstance *const *) b)->instance_id);
}

void
marks_read(Oid relation, StoredInstance *instances, int n)
{
	Oid types[] = {OIDOID};
	Datum values[] = {ObjectIdGetDatum(relation)};
	StoredInstance **by_id = palloc(sizeof(StoredInstance *) * Max(n, 1));
	Catalog catalog;
	uint64 marks;

	for (int i = 0; i < n; i++)
		by_id[i] = &instances[i];
	qsort(by_id, n, sizeof(StoredInstance *), compare_ids);
	catalog_enter(&catalog);
	marks = catalog_execute("SELECT segment_instance_id, pinned, backfilled "
							"FROM customer_segmentation.segment_instance_mark WHERE relation = $1",
							lengthof(types), types, values, NULL);
	for (uint64 i = 0; i < marks; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		bool isnull;
		StoredInstance key = {.instance_id =
								  TextDatumGetCString(SPI_getbinval(row, SPI_tuptable->tupdesc, 1, &isnull))};
		StoredInstance *wanted = &key;
		StoredInstance **found = bsearch(&wanted, by_id, n, sizeof(StoredInstance *), compare_ids);

		if (found == NULL)
			continue;
		(*found)->pinned = DatumGetBool(SPI_getbinval(row, SPI_tuptable->tupdesc, 2, &isnull));
		(*found)->backfilled = DatumGetBool(SPI_getbinval(row, SPI_tuptable->tupdesc, 3, &isnull));
	}
	catalog_leave(&catalog);
	pfree(by_id);
}
