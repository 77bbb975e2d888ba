/*
 * rules_source.h
 *    Sources: which tables and columns of the user's the rules speak of.
 */
#ifndef CSEG_RULES_SOURCE_H
#define CSEG_RULES_SOURCE_H

#include "postgres.h"

#include "core/core.h"

/*
 * Fills the schema with a role's sources, as the catalog has them now; everything palloc'd in the current context.
 * What a relation or column that is gone breaks is noted there, and an error only where rules need that source.
 */
extern void rules_load_sources(Oid owner, CsegRuleSchema *schema);

#endif /* CSEG_RULES_SOURCE_H */
