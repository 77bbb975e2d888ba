/*
 * sort.c
 *    Puts records in order by the numbers in their headers. Of a table with years of instances there are many
 * thousands, at the first statement of each session and at each that writes, and on their pages they mostly lie in
 * order.
 */
#include "postgres.h"

#include "store/record.h"

typedef struct Keyed
{
	uint64 key;
	StoreRecord *rec;
} Keyed;

#define ST_SORT sort_keyed
#define ST_ELEMENT_TYPE Keyed
#define ST_COMPARE(x, y) ((x)->key < (y)->key ? -1 : (x)->key > (y)->key)
#define ST_SCOPE static
#define ST_DEFINE
#include "lib/sort_template.h"

static uint64
key_of(const StoreRecord *rec)
{
	switch (rec->kind)
	{
	case STORE_GROUP:
		return rec->group_no;
	case STORE_INSTANCE:
		return (uint64) rec->group_no << 32 | rec->a;
	case STORE_DELTA:
		return (uint64) rec->a << 32 | rec->c;
	case STORE_BASE:
	case STORE_DICT:
		return rec->a;
	}
	pg_unreachable();
}

void
records_sort(StoreRecord **recs, int n)
{
	Keyed *keyed = palloc_extended(sizeof(Keyed) * Max(n, 1), MCXT_ALLOC_HUGE);
	bool sorted = true;

	for (int i = 0; i < n; i++)
	{
		keyed[i] = (Keyed){key_of(recs[i]), recs[i]};
		sorted &= i == 0 || keyed[i - 1].key <= keyed[i].key;
	}
	if (!sorted)
	{
		sort_keyed(keyed, n);
		for (int i = 0; i < n; i++)
			recs[i] = keyed[i].rec;
	}
	pfree(keyed);
}
