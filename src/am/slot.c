/*
 * slot.c
 *    The slot of the access method: a virtual slot that a scan fills only as far as the executor asks.
 *
 * A slot that a scan returned points into the scan's decoded cell and dictionary until the next row is asked for.
 * Everything else (copies, fetched rows) is materialized into memory of the slot's own.
 */
#include "am/am.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/xact.h"
#include "utils/expandeddatum.h"

#include "compat/compat.h"

static void
am_slot_init(TupleTableSlot *slot)
{
	AmSlot *s = (AmSlot *) slot;

	s->scan = NULL;
	s->xmin = FrozenTransactionId;
	s->owns_values = false;
	s->kept = NULL;
}

static void
am_slot_release(TupleTableSlot *slot)
{
	AmSlot *s = (AmSlot *) slot;

	if (s->kept)
		pfree(s->kept);
	s->kept = NULL;
}

static void
am_slot_clear(TupleTableSlot *slot)
{
	AmSlot *s = (AmSlot *) slot;

	TTSOpsVirtual.clear(slot);
	s->owns_values = false;
	s->scan = NULL;
	s->xmin = FrozenTransactionId;
}

static void
am_slot_getsomeattrs(TupleTableSlot *slot, int natts)
{
	AmSlot *s = (AmSlot *) slot;

	if (s->scan == NULL)
		elog(ERROR, "customer_segmentation slot has no row to read columns from");
	am_scan_fill(s->scan, slot, s->entry, natts);
}

/*
 * xmin changes whenever anything in the row's cell changes, so that it serves as a version for optimistic locking,
 * like heap's but coarser. The others have no meaning of their own here.
 */
static Datum
am_slot_getsysattr(TupleTableSlot *slot, int attnum, bool *isnull)
{
	AmSlot *s = (AmSlot *) slot;

	*isnull = false;
	switch (attnum)
	{
	case MinTransactionIdAttributeNumber:
		return TransactionIdGetDatum(s->xmin);
	case MaxTransactionIdAttributeNumber:
		return TransactionIdGetDatum(InvalidTransactionId);
	case MinCommandIdAttributeNumber:
	case MaxCommandIdAttributeNumber:
		return CommandIdGetDatum(FirstCommandId);
	default:
		break;
	}
	elog(ERROR, "customer_segmentation slot has no system column %d", attnum);
	return (Datum) 0;
}

/* Rows with larger values get memory of their own. */
#define KEPT_SIZE 1024

/*
 * Into memory that the slot keeps: those of a COPY are filled over and over, with rows of nearly the same size. Every
 * varlena type of ours is aligned as an int. False if not all values are as simple as that; some are copied then.
 */
static bool
materialize_simple(TupleTableSlot *slot)
{
	AmSlot *s = (AmSlot *) slot;
	TupleDesc desc = slot->tts_tupleDescriptor;
	Size used = 0;

	if (s->kept == NULL)
		s->kept = MemoryContextAlloc(slot->tts_mcxt, KEPT_SIZE);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		struct varlena *v;
		Size n;

		if (att->attbyval || slot->tts_isnull[i])
			continue;
		v = (struct varlena *) DatumGetPointer(slot->tts_values[i]);
		if (att->attlen != -1 || VARATT_IS_EXTERNAL(v))
			return false;
		n = VARSIZE_ANY(v);
		if (n > KEPT_SIZE - used)
			return false;
		memcpy(s->kept + used, v, n);
		slot->tts_values[i] = PointerGetDatum(s->kept + used);
		used += INTALIGN(n);
	}
	s->owns_values = true;
	return true;
}

static void
am_slot_materialize(TupleTableSlot *slot)
{
	AmSlot *s = (AmSlot *) slot;

	if (TTS_SHOULDFREE(slot) || s->owns_values)
		return;
	slot_getallattrs(slot);
	if (!materialize_simple(slot))
		TTSOpsVirtual.materialize(slot);
	if (s->scan)
		am_scan_forget_slot(s->scan, slot);
	s->scan = NULL;
}

static void
am_slot_copyslot(TupleTableSlot *dst, TupleTableSlot *src)
{
	TransactionId xmin = src->tts_ops == &am_slot_ops ? ((AmSlot *) src)->xmin : FrozenTransactionId;
	ItemPointerData tid = src->tts_tid;
	int natts = src->tts_tupleDescriptor->natts;

	am_slot_clear(dst);
	slot_getallattrs(src);
	memcpy(dst->tts_values, src->tts_values, sizeof(Datum) * natts);
	memcpy(dst->tts_isnull, src->tts_isnull, sizeof(bool) * natts);
	dst->tts_nvalid = (AttrNumber) natts;
	dst->tts_flags &= ~TTS_FLAG_EMPTY;
	am_slot_materialize(dst);
	((AmSlot *) dst)->xmin = xmin;
	dst->tts_tid = tid;
	dst->tts_tableOid = src->tts_tableOid;
}

static HeapTuple
am_slot_copy_heap_tuple(TupleTableSlot *slot)
{
	HeapTuple tuple;

	slot_getallattrs(slot);
	tuple = heap_form_tuple(slot->tts_tupleDescriptor, slot->tts_values, slot->tts_isnull);
	/* ANALYZE sorts its sample by address. */
	tuple->t_self = slot->tts_tid;
	tuple->t_tableOid = slot->tts_tableOid;
	return tuple;
}

static MinimalTuple
am_slot_copy_minimal_tuple(COMPAT_COPY_MINIMAL_PARAMS)
{
	slot_getallattrs(slot);
	return compat_form_minimal_tuple(slot, COMPAT_COPY_MINIMAL_EXTRA);
}

#if COMPAT_HAS_CURRENT_XACT_TUPLE
static bool
am_slot_is_current_xact_tuple(TupleTableSlot *slot)
{
	return TransactionIdIsCurrentTransactionId(((AmSlot *) slot)->xmin);
}
#endif

const TupleTableSlotOps am_slot_ops = {
	.base_slot_size = sizeof(AmSlot),
	.init = am_slot_init,
	.release = am_slot_release,
	.clear = am_slot_clear,
	.getsomeattrs = am_slot_getsomeattrs,
	.getsysattr = am_slot_getsysattr,
#if COMPAT_HAS_CURRENT_XACT_TUPLE
	.is_current_xact_tuple = am_slot_is_current_xact_tuple,
#endif
	.materialize = am_slot_materialize,
	.copyslot = am_slot_copyslot,
	.get_heap_tuple = NULL,
	.get_minimal_tuple = NULL,
	.copy_heap_tuple = am_slot_copy_heap_tuple,
	.copy_minimal_tuple = am_slot_copy_minimal_tuple,
};
