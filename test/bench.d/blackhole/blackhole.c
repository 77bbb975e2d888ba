/*
 * blackhole: a table access method that throws rows away, the floor under every load.
 *
 * It is heap but for what a load calls: a row is formed, its columns are there, and nothing is stored. Whatever
 * else is asked of such a table (creating, scanning, vacuuming, dropping) heap answers for an empty one.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "catalog/pg_am.h"
#include "executor/tuptable.h"
#include "fmgr.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(blackhole_handler);

static const TupleTableSlotOps *blackhole_slot_callbacks(Relation relation) {
	return &TTSOpsVirtual;
}

/* Heap's own answer is the access method of the table, so the TOAST table would be a black hole, too. */
static Oid blackhole_relation_toast_am(Relation relation) {
	return HEAP_TABLE_AM_OID;
}

static void blackhole_tuple_insert(Relation relation, TupleTableSlot *slot, CommandId cid, int options,
				   struct BulkInsertStateData *bistate) {
	slot_getallattrs(slot);
	slot->tts_tableOid = RelationGetRelid(relation);
}

static void blackhole_multi_insert(Relation relation, TupleTableSlot **slots, int nslots, CommandId cid, int options,
				   struct BulkInsertStateData *bistate) {
	for (int i = 0; i < nslots; i++)
		blackhole_tuple_insert(relation, slots[i], cid, options, bistate);
}

Datum blackhole_handler(PG_FUNCTION_ARGS) {
	static TableAmRoutine routine;

	routine = *GetHeapamTableAmRoutine();
	routine.slot_callbacks = blackhole_slot_callbacks;
	routine.relation_toast_am = blackhole_relation_toast_am;
	routine.tuple_insert = blackhole_tuple_insert;
	routine.multi_insert = blackhole_multi_insert;
	PG_RETURN_POINTER(&routine);
}
