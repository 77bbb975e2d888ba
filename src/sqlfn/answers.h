/*
 * answers.h
 *    Questions about stored instances, answered from membership masks: what their functions share.
 *
 * An instance here is what SQL would group by segment_instance_id: all rows of that id, in whatever slots and groups
 * they lie. Its date is the latest of its rows'. Instances without rows are not there, as they would not be for SQL.
 * The instances of a segment are in the order of their dates, and of their ids (by bytes) where dates are equal.
 */
#ifndef CSEG_ANSWERS_H
#define CSEG_ANSWERS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "funcapi.h"
#include "pgtime.h"

#include "am/am.h"
#include "sqlfn/sqlfn.h"

/* A table as the active snapshot sees it. */
typedef struct AnswerTable
{
	Relation rel;
	AmReader *reader;
	bool own_snapshot; /* pushed for this, as none was active */
} AnswerTable;

/* Some slots of a group. */
typedef struct AnswerPlace
{
	StoreGroup *group;
	uint64 slots;
} AnswerPlace;

typedef struct AnswerInstance
{
	const text *id;
	Timestamp date;
	int n_places;
	AnswerPlace *places;
} AnswerInstance;

typedef struct AnswerSegment
{
	const text *id;
	int n_groups;
	StoreGroup **groups;
} AnswerSegment;

/*
 * Opens a table for reading past the executor, after the checks of sqlfn_open_columns. The lock holds to the
 * end of the transaction, the rest to answers_close or an error. All that functions below return is palloc'd in the
 * current context and points into the reader's view.
 */
extern void answers_open(AnswerTable *table, Oid relid, uint32 columns);
extern void answers_close(AnswerTable *table);
/* By bytes: the order of ids, whatever the collation. */
extern int answers_compare_texts(const text *a, const text *b);

extern AnswerInstance *answers_instance(const AnswerTable *table, const text *id); /* 42704 if there is none */
/* The segments that have instances, by id. */
extern AnswerSegment *answers_segments(const AnswerTable *table, int *n);
/* 42704 if no instance is of that segment, and it is not defined either; without groups if it is. */
extern AnswerSegment *answers_segment(const AnswerTable *table, const text *id);
/* All instances of a segment, in order. */
extern AnswerInstance *answers_instances(const AnswerSegment *segment, int *n);
/* The newest of them at or before a time; NULL: there is none. */
extern AnswerInstance *answers_newest(const AnswerSegment *segment, Timestamp at);

/* ---- members ------------------------------------------------------------------------------------------------ */

/* Adds the instance's members in a container to the bits. */
extern void answers_add_members(const AnswerTable *table, const AnswerInstance *instance, uint32 container,
								uint64 *bits);
/* The containers that any of the groups has customers in, in order. */
extern uint32 *answers_containers(StoreGroup *const *groups, int n_groups, int *n);

#define ANSWER_BITS_SIZE (sizeof(uint64) * CSEG_MEMBER_WORDS)

/* Calls emit for each member that has its bit set. */
extern void answers_each_member(const AnswerTable *table, uint32 container, const uint64 *bits,
								void (*emit)(void *arg, const text *identity), void *arg);

/* As above, for bits that may be of customers who have been erased since: those are passed by. */
extern void answers_each_known(const AnswerTable *table, uint32 container, const uint64 *bits,
							   void (*emit)(void *arg, const text *identity), void *arg);

/* ---- time --------------------------------------------------------------------------------------------------- */

/*
 * The zones whose clocks instance_created_date shows: that of the segment's definition, or the session's for a segment
 * that is not defined here.
 */
typedef struct AnswerZones
{
	int n;
	char **segment_ids; /* in order */
	pg_tz **zones;
} AnswerZones;

extern AnswerZones *answers_zones(const AnswerTable *table);
extern pg_tz *answers_zone(const AnswerZones *zones, const text *segment_id);
extern Timestamp answers_local(TimestampTz moment, pg_tz *zone);
extern void answers_check_span(const Interval *span); /* 22023 if it is negative */
extern Timestamp answers_before(Timestamp date, const Interval *span);

/* ---- rows --------------------------------------------------------------------------------------------------- */

extern Datum answers_share(int64 part, int64 whole, bool *isnull); /* NULL of nothing */

#define ANSWERS_COLUMN(column) (UINT32_C(1) << (column))
/* What every answer about members rests on. */
#define ANSWERS_MEMBERSHIP                                                                               \
	(ANSWERS_COLUMN(COL_IDENTITY) | ANSWERS_COLUMN(COL_INSTANCE_DATE) | ANSWERS_COLUMN(COL_SEGMENT_ID) | \
	 ANSWERS_COLUMN(COL_INSTANCE_ID))

#endif /* CSEG_ANSWERS_H */
