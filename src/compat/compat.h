/*
 * compat.h
 *    Differences between PostgreSQL versions, under the names and shapes of the newest. The only file that looks at
 *    PG_VERSION_NUM.
 */
#ifndef CSEG_COMPAT_H
#define CSEG_COMPAT_H

#include "postgres.h"

#include "access/multixact.h"
#include "access/tableam.h"
#include "access/visibilitymap.h"
#include "catalog/pg_proc.h"
#include "commands/explain.h"
#include "commands/vacuum.h"
#include "executor/executor.h"
#include "optimizer/appendinfo.h"
#include "pgstat.h"
#include "storage/buffile.h"
#include "storage/bufmgr.h"
#include "utils/acl.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#if PG_VERSION_NUM < 150000
#error "customer_segmentation needs PostgreSQL 15 or later"
#endif

#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif

/* 16 renamed the physical identity of a relation. */
#if PG_VERSION_NUM < 160000
#define compat_relnumber(rel) ((rel)->rd_node.relNode)
#define compat_locator(rel) ((rel)->rd_node)
typedef RelFileNode CompatRelFileLocator;
#define COMPAT_SET_NEW_FILELOCATOR relation_set_new_filenode
#else
#define compat_relnumber(rel) ((rel)->rd_locator.relNumber)
#define compat_locator(rel) ((rel)->rd_locator)
typedef RelFileLocator CompatRelFileLocator;
#define COMPAT_SET_NEW_FILELOCATOR relation_set_new_filelocator
#endif

/* 16 renamed with it what tells of storage that this transaction has made. */
#if PG_VERSION_NUM < 160000
#define compat_has_new_storage(rel) \
	((rel)->rd_createSubid != InvalidSubTransactionId || (rel)->rd_newRelfilenodeSubid != InvalidSubTransactionId)
#else
#define compat_has_new_storage(rel) \
	((rel)->rd_createSubid != InvalidSubTransactionId || (rel)->rd_newRelfilelocatorSubid != InvalidSubTransactionId)
#endif

/* 17 dropped old_snapshot_threshold. */
#if PG_VERSION_NUM < 170000
#define compat_old_snapshots_expire() (old_snapshot_threshold >= 0)
#define compat_test_old_snapshot(snapshot, rel, page) TestForOldSnapshot(snapshot, rel, page)
#else
#define compat_old_snapshots_expire() false
#define compat_test_old_snapshot(snapshot, rel, page) ((void) 0)
#endif

/* 16 made the index hint of tuple_update an enum. */
#if PG_VERSION_NUM < 160000
typedef bool CompatUpdateIndexes;
#define COMPAT_UPDATE_NO_INDEXES false
#else
typedef TU_UpdateIndexes CompatUpdateIndexes;
#define COMPAT_UPDATE_NO_INDEXES TU_None
#endif

/* 18 drops execute_once. */
#if PG_VERSION_NUM >= 180000
#define COMPAT_EXECUTOR_RUN_PARAMS QueryDesc *queryDesc, ScanDirection direction, uint64 count
#define COMPAT_EXECUTOR_RUN_ARGS queryDesc, direction, count
#else
#define COMPAT_EXECUTOR_RUN_PARAMS QueryDesc *queryDesc, ScanDirection direction, uint64 count, bool execute_once
#define COMPAT_EXECUTOR_RUN_ARGS queryDesc, direction, count, execute_once
#endif

/* 18 added the count of all-frozen pages. */
static inline void
compat_update_relstats(Relation rel, double tuples)
{
	BlockNumber pages = RelationGetNumberOfBlocks(rel);
	BlockNumber all_visible;
	BlockNumber all_frozen;

	visibilitymap_count(rel, &all_visible, &all_frozen);
#if PG_VERSION_NUM >= 180000
	vac_update_relstats(rel, pages, tuples, all_visible, all_frozen, rel->rd_rel->relhasindex, InvalidTransactionId,
						InvalidMultiXactId, NULL, NULL, false);
#else
	vac_update_relstats(rel, pages, tuples, all_visible, rel->rd_rel->relhasindex, InvalidTransactionId,
						InvalidMultiXactId, NULL, NULL, false);
#endif
}

/* 16 added newpage. */
static inline void
compat_count_heap_update(Relation rel)
{
#if PG_VERSION_NUM >= 160000
	pgstat_count_heap_update(rel, false, false);
#else
	pgstat_count_heap_update(rel, false);
#endif
}

/* 16 renamed the counters of a table's pending statistics. */
#if PG_VERSION_NUM >= 160000
static inline void
compat_add_live_and_dead(Relation rel, int64 live, int64 dead)
{
	rel->pgstat_info->counts.delta_live_tuples += live;
	rel->pgstat_info->counts.delta_dead_tuples += dead;
}
#else
static inline void
compat_add_live_and_dead(Relation rel, int64 live, int64 dead)
{
	rel->pgstat_info->t_counts.t_delta_live_tuples += live;
	rel->pgstat_info->t_counts.t_delta_dead_tuples += dead;
}
#endif

/* 17 hands ANALYZE's blocks over as a stream of buffers; only their numbers are of interest here. */
#if PG_VERSION_NUM >= 170000
#include "storage/buffile.h"
#include "storage/bufmgr.h"
#include "storage/read_stream.h"
#define COMPAT_ANALYZE_STREAM 1
static inline bool
compat_next_block(ReadStream *stream, BlockNumber *block)
{
	Buffer buffer = read_stream_next_buffer(stream, NULL);

	if (!BufferIsValid(buffer))
		return false;
	*block = BufferGetBlockNumber(buffer);
	ReleaseBuffer(buffer);
	return true;
}
#else
#define COMPAT_ANALYZE_STREAM 0
#endif

/* 16 has a read of a temporary file that raises where the file is too short. */
static inline void
compat_read_temp_file(BufFile *file, void *to, size_t len)
{
#if PG_VERSION_NUM >= 160000
	BufFileReadExact(file, to, len);
#else
	if (BufFileRead(file, to, len) != len)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not read from a temporary file")));
#endif
}

/* 16 lets a custom scan name the kind of its slot. Before, the slot and what was compiled for it are made anew. */
#if PG_VERSION_NUM >= 160000
#define compat_set_slot_ops(css, ops) ((css)->slotOps = (ops))
#define compat_use_table_slot(css, rel, estate) ((void) 0)
#else
#define compat_set_slot_ops(css, ops) ((void) 0)
static inline void
compat_use_table_slot(CustomScanState *css, Relation rel, EState *estate)
{
	CustomScan *cscan = (CustomScan *) css->ss.ps.plan;

	ExecInitScanTupleSlot(estate, &css->ss, RelationGetDescr(rel), table_slot_callbacks(rel));
	ExecAssignScanProjectionInfoWithVarno(&css->ss, (int) cscan->scan.scanrelid);
	css->ss.ps.qual = ExecInitQual(cscan->scan.plan.qual, &css->ss.ps);
}
#endif

/* 18 counts the nodes of a path that settings turn off; before, they were made expensive. */
#if PG_VERSION_NUM >= 180000
#define compat_take_disabled(path, below) ((path)->disabled_nodes = (below)->disabled_nodes)
#else
#define compat_take_disabled(path, below) ((void) 0)
#endif

/* 17 added a question to slots. */
#if PG_VERSION_NUM >= 170000
#define COMPAT_HAS_CURRENT_XACT_TUPLE 1
#else
#define COMPAT_HAS_CURRENT_XACT_TUPLE 0
#endif

/* 18 lets the caller ask for room in front of a minimal tuple. */
#if PG_VERSION_NUM >= 180000
#define COMPAT_COPY_MINIMAL_PARAMS TupleTableSlot *slot, Size extra
#define COMPAT_COPY_MINIMAL_EXTRA extra
#define compat_form_minimal_tuple(slot, extra) \
	heap_form_minimal_tuple((slot)->tts_tupleDescriptor, (slot)->tts_values, (slot)->tts_isnull, extra)
#else
#define COMPAT_COPY_MINIMAL_PARAMS TupleTableSlot *slot
#define COMPAT_COPY_MINIMAL_EXTRA 0
#define compat_form_minimal_tuple(slot, extra) \
	heap_form_minimal_tuple((slot)->tts_tupleDescriptor, (slot)->tts_values, (slot)->tts_isnull)
#endif

/* 16 keeps who a relation is read as elsewhere. */
#if PG_VERSION_NUM >= 160000
#define compat_reader_of(rel, rte) (OidIsValid((rel)->userid) ? (rel)->userid : GetUserId())
#else
#define compat_reader_of(rel, rte) (OidIsValid((rte)->checkAsUser) ? (rte)->checkAsUser : GetUserId())
#endif

/* 16 takes the relations instead of their members. */
#if PG_VERSION_NUM >= 160000
#define compat_adjust_clauses(root, clauses, child) \
	((List *) adjust_appendrel_attrs_multilevel(root, (Node *) (clauses), child, (child)->top_parent))
#else
#define compat_adjust_clauses(root, clauses, child) \
	((List *) adjust_appendrel_attrs_multilevel(root, (Node *) (clauses), (child)->relids, (child)->top_parent_relids))
#endif

/* 18 changed how a function without return is declared. */
#if PG_VERSION_NUM >= 180000
#define COMPAT_NORETURN pg_noreturn
#define COMPAT_NORETURN_END
#else
#define COMPAT_NORETURN
#define COMPAT_NORETURN_END pg_attribute_noreturn()
#endif

/* 16 made one function of the checks of privileges on catalog objects. */
#if PG_VERSION_NUM >= 160000
#define compat_proc_aclcheck(proc, role, mode) object_aclcheck(ProcedureRelationId, proc, role, mode)
#else
#define compat_proc_aclcheck(proc, role, mode) pg_proc_aclcheck(proc, role, mode)
#endif

/* 16 split what a member of a role may do: who gives something to a role has to be able to SET ROLE to it. */
#if PG_VERSION_NUM >= 160000
#define compat_check_can_set_role(member, role) check_can_set_role(member, role)
#else
#define compat_check_can_set_role(member, role) check_is_member_of_role(member, role)
#endif

/* 17 keeps run conditions with the functions, not with the window. */
#define COMPAT_RUN_CONDITIONS_OF_FUNCTIONS (PG_VERSION_NUM >= 170000)

/* 18 says of a key how it compares, not by which strategy of its operator family. */
#if PG_VERSION_NUM >= 180000
#define compat_pathkey_operator(key, type) \
	get_opfamily_member_for_cmptype((key)->pk_opfamily, type, type, (key)->pk_cmptype)
#else
#define compat_pathkey_operator(key, type) get_opfamily_member((key)->pk_opfamily, type, type, (key)->pk_strategy)
#endif

#endif /* CSEG_COMPAT_H */
