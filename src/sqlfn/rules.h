/*
 * rules.h
 *    Rules of segments, compiled to a query.
 */
#ifndef CSEG_RULES_H
#define CSEG_RULES_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/jsonb.h"

/* What a segment's rules come to. Palloc'd in the current context. */
typedef struct RulesQuery
{
	/*
	 * One SELECT of customer_identity text, num_of_orders bigint, total_revenue numeric: a row per member. Values of
	 * the rules are $1 ... $nargs; the moment is customer_segmentation.as_of(), so the same query serves every moment.
	 */
	char *sql;
	int nargs;
	Oid *argtypes;
	Datum *values;
	char *nulls;         /* 'n' or ' ', as SPI takes them */
	List *depends_on;    /* segments whose newest instance the rules ask for: C strings, each once */
	char *current_state; /* JSON path of the first rule on an attribute that has no history; NULL if there is none */
} RulesQuery;

/* Settings: how many RFM scores there are, and which of them is the best. */
enum
{
	RULES_RFM_HIGHEST,
	RULES_RFM_LOWEST
};
extern int rules_rfm_buckets;
extern int rules_rfm_best;

/*
 * Checks rules and compiles them for the sources of a role.
 *
 * segment_by is customer_id or email; time_zone a name that the server knows. The query names relations with their
 * schemas, and everything else as it is found in pg_catalog: run it with that as search_path. Errors: 22023 with the
 * JSON path for rules that are not sound, 55000 with a hint to set_source for a source that the owner has not set,
 * 42704 for an unknown segment.
 */
extern RulesQuery *rules_compile(Jsonb *rules, const char *segment_by, Oid owner, const char *time_zone);

#endif /* CSEG_RULES_H */
