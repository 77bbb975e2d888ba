/*
 * sqlfn.h
 *    What the SQL-callable functions share.
 */
#ifndef CSEG_SQLFN_H
#define CSEG_SQLFN_H

#include "postgres.h"

#include "nodes/parsenodes.h"
#include "utils/rel.h"

/*
 * Opens a table of the access method for a function that reads storage directly: SELECT privilege on the whole table
 * and no row security for the caller are required, both checked before anything is read.
 */
extern Relation sqlfn_open(Oid relid, LOCKMODE lockmode);
/* 42501 unless the caller has all of the privileges on the table. */
extern void sqlfn_require(Oid relid, AclMode mode);
/* The table's name as SQL text, quoted where needed. */
extern char *sqlfn_table_name(Relation rel);
/* As above, where SELECT on the columns is enough that the answer is made of: 1 << AmColumn, together. */
extern Relation sqlfn_open_columns(Oid relid, uint32 columns, LOCKMODE lockmode);
/* The checks that it makes before it opens the table. */
extern void sqlfn_require_readable(Oid relid, uint32 columns);
/* Is there such a table, and of this access method? */
extern bool sqlfn_is_ours(Oid relid);

#endif /* CSEG_SQLFN_H */
