/*
 * set.h
 *    customer_set: a set of customers of one table.
 *
 * Behind the varlena header, native byte order but for the payload:
 *
 *    u8 version 1 | u8 form | u16 0 | u32 table's OID | u32 generation | payload
 *
 * form SET_ORDINALS: the payload is the portable Roaring bitmap of the customers' ordinals, valid in one generation of
 * the table's dictionary. form SET_NAMES: what the text form gives, identities by name, sorted, each with its length in
 * 4 bytes; generation 0. Names are looked up when the set is used, so that a dump can be restored in any order; who the
 * table does not know is none of its customers.
 */
#ifndef CSEG_SET_H
#define CSEG_SET_H

#include "postgres.h"

#include "core/core.h"
#include "fmgr.h"

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

/* A set decoded, owned by the context that was current. */
typedef struct SetValue
{
	Oid relid;
	uint32 generation; /* 0 only where the set is empty */
	CsegSet *set;
} SetValue;

/* Detoasted and checked as far as its header goes. */
extern const SetHeader *set_header(Datum datum);
/* Decodes; names are looked up in the table as the caller, by the active snapshot. */
extern SetValue *set_load(Datum datum);
extern Datum set_store(const SetValue *value);
extern Datum set_store_parts(Oid relid, uint32 generation, const CsegSet *set);
/* An empty one; generation 0. */
extern SetValue *set_new(Oid relid);
/* 55000 unless both are of one table and one generation of it; an empty set is of every generation. */
extern void set_check_same(const SetValue *a, const SetValue *b);
/* 55000 unless the set is of the table's present generation. */
extern void set_check_generation(Oid relid, uint32 of_set, bool is_empty, uint32 present);

extern SetValue *set_copy(const SetValue *value);
/* a := a op b */
extern void set_apply(SetValue *a, CsegSetOp op, const SetValue *b);

#endif /* CSEG_SET_H */
