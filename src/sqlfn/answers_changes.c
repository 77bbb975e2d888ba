/*
 * answers_changes.c
 *    segment_changes: who entered and who left between two instances; instance_as_of; customer_history.
 */
#include "sqlfn/answers.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(customer_segmentation_segment_changes);
PG_FUNCTION_INFO_V1(customer_segmentation_instance_as_of);
PG_FUNCTION_INFO_V1(customer_segmentation_customer_history);

/* ---- segment_changes ---------------------------------------------------------------------------------------- */

typedef struct Changes
{
	ReturnSetInfo *rsinfo;
	Datum change;
} Changes;

static void
put_change(void *arg, const text *identity)
{
	Changes *changes = arg;
	Datum values[] = {PointerGetDatum(identity), changes->change};
	bool nulls[] = {false, false};

	tuplestore_putvalues(changes->rsinfo->setResult, changes->rsinfo->setDesc, values, nulls);
}

static uint32 *
containers_of_both(const AnswerInstance *a, const AnswerInstance *b, int *n)
{
	StoreGroup **groups = palloc(sizeof(StoreGroup *) * (a->n_places + b->n_places));
	int n_groups = 0;

	for (int i = 0; i < a->n_places; i++)
		groups[n_groups++] = a->places[i].group;
	for (int i = 0; i < b->n_places; i++)
		groups[n_groups++] = b->places[i].group;
	return answers_containers(groups, n_groups, n);
}

Datum
customer_segmentation_segment_changes(PG_FUNCTION_ARGS)
{
	Changes entered = {.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo, .change = CStringGetTextDatum("entered")};
	Changes left = {.rsinfo = entered.rsinfo, .change = CStringGetTextDatum("left")};
	AnswerInstance *from;
	AnswerInstance *to;
	AnswerTable table;
	uint32 *containers;
	int n;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	answers_open(&table, PG_GETARG_OID(2), ANSWERS_COLUMN(COL_IDENTITY) | ANSWERS_COLUMN(COL_INSTANCE_ID));
	from = answers_instance(&table, PG_GETARG_TEXT_PP(0));
	to = answers_instance(&table, PG_GETARG_TEXT_PP(1));
	containers = containers_of_both(from, to, &n);
	for (int c = 0; c < n; c++)
	{
		uint64 before[CSEG_MEMBER_WORDS] = {0};
		uint64 after[CSEG_MEMBER_WORDS] = {0};
		uint64 both[CSEG_MEMBER_WORDS];

		answers_add_members(&table, from, containers[c], before);
		answers_add_members(&table, to, containers[c], after);
		memcpy(both, before, sizeof(both));
		cseg_bits_and(both, after);
		cseg_bits_andnot(after, both);
		cseg_bits_andnot(before, both);
		answers_each_member(&table, containers[c], after, put_change, &entered);
		answers_each_member(&table, containers[c], before, put_change, &left);
	}
	answers_close(&table);
	return (Datum) 0;
}

/* ---- instance_as_of ----------------------------------------------------------------------------------------- */

Datum
customer_segmentation_instance_as_of(PG_FUNCTION_ARGS)
{
	text *segment_id = PG_GETARG_TEXT_PP(0);
	AnswerInstance *found;
	AnswerTable table;
	Timestamp at;
	text *id = NULL;

	answers_open(&table, PG_GETARG_OID(2),
				 ANSWERS_COLUMN(COL_SEGMENT_ID) | ANSWERS_COLUMN(COL_INSTANCE_ID) | ANSWERS_COLUMN(COL_INSTANCE_DATE));
	at = answers_local(PG_GETARG_TIMESTAMPTZ(1), answers_zone(answers_zones(&table), segment_id));
	found = answers_newest(answers_segment(&table, segment_id), at);
	if (found)
		id = DatumGetTextPCopy(PointerGetDatum(found->id));
	answers_close(&table);
	if (id == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(id);
}

/* ---- customer_history --------------------------------------------------------------------------------------- */

enum
{
	SPELL_SEGMENT,
	SPELL_NAME,
	SPELL_ENTERED,
	SPELL_LEFT,
	SPELL_INSTANCES,
	SPELL_FIRST,
	SPELL_LAST,
	SPELL_ORDERS,
	SPELL_REVENUE,
	SPELL_COLUMNS
};

typedef struct History
{
	ReturnSetInfo *rsinfo;
	AnswerTable table;
	uint32 container;
	uint16 low;
	StoreGroup **groups; /* of the segment at hand: those in which the customer has rows */
	uint64 *masks;
	StoreCell **cells;
	int n;
} History;

/* The customer's rows in a segment. Returns whether there are any. */
static bool
find_rows(History *h, const AnswerSegment *segment)
{
	h->n = 0;
	for (int g = 0; g < segment->n_groups; g++)
	{
		StoreCell *cell = store_group_cell(segment->groups[g], h->container);
		uint64 mask;

		CHECK_FOR_INTERRUPTS();
		if (cell == NULL)
			continue;
		CSEG_CALL(h->table.rel,
				  cseg_cell_mask(am_reader_cell(h->table.rel, h->table.reader, cell), h->low, &mask, &err));
		if (mask == 0)
			continue;
		h->cells[h->n] = cell;
		h->groups[h->n] = segment->groups[g];
		h->masks[h->n] = mask;
		h->n++;
	}
	return h->n > 0;
}

/* Where the customer's row of an instance lies: there is at most one. */
static bool
find_row(const History *h, const AnswerInstance *inst, int *at, uint8 *slot)
{
	for (int p = 0; p < inst->n_places; p++)
		for (int i = 0; i < h->n; i++)
		{
			uint64 row = h->groups[i] == inst->places[p].group ? h->masks[i] & inst->places[p].slots : 0;

			if (row == 0)
				continue;
			*at = i;
			*slot = (uint8) pg_rightmost_one_pos64(row);
			return true;
		}
	return false;
}

static void
put_spell(History *h, const AnswerInstance *instances, int first, int last, const AnswerInstance *after)
{
	Datum values[SPELL_COLUMNS];
	bool nulls[SPELL_COLUMNS] = {false};
	CsegValue measures[CSEG_MEASURES];
	const StoreGroupDims *dims;
	bool found;
	uint8 slot;
	int at;

	if (!find_row(h, &instances[last], &at, &slot))
		elog(ERROR, "a customer's row was lost");
	CSEG_CALL(h->table.rel, cseg_cell_get(am_reader_cell(h->table.rel, h->table.reader, h->cells[at]), h->low, slot,
										  &found, measures, &err));
	dims = &h->groups[at]->dims;
	values[SPELL_SEGMENT] = PointerGetDatum(dims->segment_id);
	values[SPELL_NAME] = PointerGetDatum(dims->segment_name);
	nulls[SPELL_NAME] = dims->segment_name == NULL;
	values[SPELL_ENTERED] = TimestampGetDatum(instances[first].date);
	values[SPELL_LEFT] = TimestampGetDatum(after ? after->date : 0);
	nulls[SPELL_LEFT] = after == NULL;
	values[SPELL_INSTANCES] = Int64GetDatum(last - first + 1);
	values[SPELL_FIRST] = PointerGetDatum(instances[first].id);
	values[SPELL_LAST] = PointerGetDatum(instances[last].id);
	values[SPELL_ORDERS] = am_measure_to_datum(CSEG_M_ORDERS, &measures[CSEG_M_ORDERS], &nulls[SPELL_ORDERS]);
	values[SPELL_REVENUE] = am_measure_to_datum(CSEG_M_REVENUE, &measures[CSEG_M_REVENUE], &nulls[SPELL_REVENUE]);
	tuplestore_putvalues(h->rsinfo->setResult, h->rsinfo->setDesc, values, nulls);
}

static void
put_spells(History *h, const AnswerSegment *segment)
{
	int n;
	AnswerInstance *instances = answers_instances(segment, &n);
	int first = -1;

	for (int i = 0; i < n; i++)
	{
		uint8 slot;
		int at;
		bool member = find_row(h, &instances[i], &at, &slot);

		if (member && first < 0)
			first = i;
		if (!member && first >= 0)
		{
			put_spell(h, instances, first, i - 1, &instances[i]);
			first = -1;
		}
	}
	if (first >= 0)
		put_spell(h, instances, first, n - 1, NULL);
}

Datum
customer_segmentation_customer_history(PG_FUNCTION_ARGS)
{
	const text *identity = PG_GETARG_TEXT_PP(0);
	History h = {.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo};
	uint32 ordinal;
	bool found;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	answers_open(&h.table, PG_GETARG_OID(1),
				 ANSWERS_MEMBERSHIP | ANSWERS_COLUMN(COL_SEGMENT_NAME) | ANSWERS_COLUMN(COL_ORDERS) |
					 ANSWERS_COLUMN(COL_REVENUE));
	CSEG_CALL(h.table.rel, cseg_dict_find(h.table.reader->dict->dict, (const uint8 *) VARDATA_ANY(identity),
										  VARSIZE_ANY_EXHDR(identity), &found, &ordinal, &err));
	if (found)
	{
		MemoryContext cxt =
			AllocSetContextCreate(CurrentMemoryContext, "customer_segmentation history", ALLOCSET_DEFAULT_SIZES);
		int n_groups = Max(h.table.reader->view->n_groups, 1);
		AnswerSegment *segments;
		int n;

		h.container = ordinal >> CSEG_CONTAINER_BITS;
		h.low = (uint16) (ordinal & (CSEG_CONTAINER_SIZE - 1));
		h.groups = palloc(sizeof(StoreGroup *) * n_groups);
		h.masks = palloc(sizeof(uint64) * n_groups);
		h.cells = palloc(sizeof(StoreCell *) * n_groups);
		segments = answers_segments(&h.table, &n);
		for (int i = 0; i < n; i++)
		{
			MemoryContext old = MemoryContextSwitchTo(cxt);

			if (find_rows(&h, &segments[i]))
				put_spells(&h, &segments[i]);
			MemoryContextSwitchTo(old);
			MemoryContextReset(cxt);
		}
	}
	answers_close(&h.table);
	return (Datum) 0;
}
