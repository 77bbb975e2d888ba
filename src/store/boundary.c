/*
 * boundary.c
 *    Between PostgreSQL's errors and memory contexts and the core's codes and objects.
 *
 * No C++ frame is on the stack when anything here raises.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "store/store.h"

void
store_core_error(const CsegError *err, Relation rel)
{
	const char *name = rel ? RelationGetRelationName(rel) : "customer_segmentation";

	switch (err->code)
	{
	case CSEG_CORRUPT:
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("relation \"%s\" holds damaged data", name),
						errdetail("%s.", err->msg),
						errhint("Run customer_segmentation.verify() and restore the relation from a backup.")));
		break;
	case CSEG_NO_MEMORY:
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
						errdetail("The encoder of relation \"%s\" could not get memory.", name)));
		break;
	case CSEG_LIMIT:
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("a limit of relation \"%s\" is exceeded", name),
						errdetail("%s.", err->msg)));
		break;
	case CSEG_CANCELLED:
		CHECK_FOR_INTERRUPTS();
		ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("canceling statement due to user request")));
		break;
	case CSEG_OK:
	case CSEG_BUG:
		break;
	}
	elog(ERROR, "customer_segmentation core: %s", err->msg);
	pg_unreachable();
}

/*
 * Only what ends the statement: InterruptPending is also set by messages of parallel workers, barriers and catch-up
 * requests, after which a statement goes on. Nothing where interrupts are held off.
 */
const CsegStop *
store_stop_flag(void)
{
	static const CsegStop stop = {(const volatile int *) &QueryCancelPending, (const volatile int *) &ProcDiePending};

	StaticAssertStmt(sizeof(sig_atomic_t) == sizeof(int), "the stop flags are read as ints");
	if (InterruptHoldoffCount != 0 || QueryCancelHoldoffCount != 0 || CritSectionCount != 0)
		return NULL;
	return &stop;
}

struct StoreOwner
{
	MemoryContextCallback callback;
	void (*free_object)(void *);
	void *object;
};

static void
owner_reset(void *arg)
{
	StoreOwner *owner = arg;

	if (owner->object)
		owner->free_object(owner->object);
	owner->object = NULL;
}

/* Allocated before the object, so that nothing can fail between its creation and its registration. */
StoreOwner *
store_owner_new(MemoryContext cxt, void (*free_object)(void *))
{
	StoreOwner *owner = MemoryContextAllocZero(cxt, sizeof(StoreOwner));

	owner->free_object = free_object;
	owner->callback.func = owner_reset;
	owner->callback.arg = owner;
	MemoryContextRegisterResetCallback(cxt, &owner->callback);
	return owner;
}

void
store_owner_set(StoreOwner *owner, void *object)
{
	owner_reset(owner);
	owner->object = object;
}

void *
store_owner_release(StoreOwner *owner)
{
	void *object = owner->object;

	owner->object = NULL;
	return object;
}
