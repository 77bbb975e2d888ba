/*
 * set.h
 *    customer_set: a set of customers of one table.
 *
 * Stored, behind the varlena header, native byte order but for the payload:
 *
 *    u8 version 1 | u8 form | u16 0 | u32 table's OID | u32 generation | payload
 *
 * form SET_ORDINALS: the payload is the portable Roaring bitmap of the customers' ordinals, in the one form that
 * cseg_set_to_roaring writes, valid in one generation of the table's dictionary. form SET_NAMES: what the text form
 * gives, identities by name, sorted, each with its length in 4 bytes; generation 0. Names are looked up when the set is
 * used, so that a dump can be restored in any order; who the table does not know is none of its customers. A temporary
 * table is in no dump, and no parallel worker could look into it: its names are looked up when they are given.
 *
 * Between functions a set is a SetValue, an expanded object, so that a chain of operations decodes and encodes nothing.
 */
#ifndef CSEG_SET_H
#define CSEG_SET_H

#include "postgres.h"

#include "core/core.h"
#include "fmgr.h"
#include "utils/expandeddatum.h"

#include "sqlfn/answers.h"

typedef enum SetForm
{
	SET_ORDINALS = 'O',
	SET_NAMES = 'N'
} SetForm;

typedef struct SetHeader
{
	int32 vl_len_;
	uint8 version;
	uint8 form;
	uint16 reserved;
	uint32 relid;
	uint32 generation;
} SetHeader;

#define SET_VERSION 1
#define SET_HEADER_BYTES sizeof(SetHeader)

/* ---- stored ----------------------------------------------------------------------------------------------------- */

/* Detoasted and checked as far as its header goes. */
extern const SetHeader *set_header(Datum datum);
extern size_t set_payload_len(const SetHeader *header);
extern const uint8 *set_payload(const SetHeader *header);
extern SetHeader *set_form(Oid relid, uint32 generation, SetForm form, size_t bytes);
extern void set_each_name(const SetHeader *header, void (*call)(void *arg, const uint8 *text, uint32 len), void *arg);

/* ---- in memory -------------------------------------------------------------------------------------------------- */

typedef struct SetPending SetPending;

/* In a context of its own. */
typedef struct SetValue
{
	ExpandedObjectHeader hdr;
	Oid relid;
	uint32 generation; /* 0 only where the set is empty */
	CsegSet *set;
	SetPending *pending; /* or NULL: instances whose members are still to be read and added */
	uint8 *numbers;      /* or NULL: the set as a Roaring bitmap */
	size_t numbers_len;
	StoreOwner *set_owner;
	StoreOwner *numbers_owner;
} SetValue;

extern bool set_is_expanded(Datum datum);
/* NULL, if it is not one that has unread members. */
extern const SetValue *set_unread(Datum datum);
/* An empty one; generation 0. Its context is a child of parent. */
extern SetValue *set_new(Oid relid, MemoryContext parent);
/* Of a Roaring bitmap; NULL, and why, if it is none, or has a number from limit on. */
extern SetValue *set_from_numbers(Oid relid, uint32 generation, const uint8 *bytes, size_t len, uint32 limit,
								  MemoryContext parent, CsegError *err);
/* Not to be changed. Names are looked up in the table as the caller, by the active snapshot. */
extern const SetValue *set_get(Datum datum);
/* As above, but its members may be unread. */
extern const SetValue *set_get_unread(Datum datum);
/* An argument of the call, or a copy of it, to be changed and returned. */
extern SetValue *set_take(FunctionCallInfo fcinfo, int arg);
/* Of a stored set. */
extern SetValue *set_load(Datum datum);
extern SetValue *set_copy(const SetValue *value, MemoryContext parent);
/* A result; its members are read. */
extern Datum set_give(SetValue *value);
/* As above, but its members may be unread: only this expression looks at it, whoever keeps it makes a copy. */
extern Datum set_show(const SetValue *value);
extern Datum set_store(const SetValue *value);
extern uint64 set_count(Datum datum);
/* Whether it has a customer, by number. Of what is unread no more is read than says so. */
extern bool set_has(const SetValue *value, uint32 ordinal);
/* set_header, but what is out of line is fetched once for all calls in a row that have it; belongs to the call. */
extern const SetHeader *set_header_once(FmgrInfo *call, Datum datum);
/* As set_has, of stored numbers; all of them are checked where the call has not just done so. */
extern bool set_stored_has(FmgrInfo *call, const SetHeader *header, uint32 ordinal);
/* The Roaring bitmap of any set; belongs to the set, or to the current context. */
extern const uint8 *set_numbers(Datum datum, size_t *len);

/* The members of an instance of the table's view, to be read when somebody asks for them. */
extern void set_add_instance(SetValue *value, const AnswerTable *table, const AnswerInstance *instance);

extern bool set_is_empty(const SetValue *value);
/* 55000 unless both are of one table and one generation of it; an empty set is of every generation. */
extern void set_check_same(const SetValue *a, const SetValue *b);
/* answers_open, to look up identities; 55000 where the table is gone, or of another access method. */
extern void set_open_table(AnswerTable *table, Oid relid);
/* 55000 unless the set is of the table's present generation. */
extern void set_check_generation(const SetValue *value, uint32 present);

/* a := a op b */
extern void set_apply(SetValue *a, CsegSetOp op, const SetValue *b);
/* a := a | b, which leaves unread what is. */
extern void set_unite(SetValue *a, const SetValue *b);

#endif /* CSEG_SET_H */
