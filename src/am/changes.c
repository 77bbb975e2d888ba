/*
 * changes.c
 *    What a write buffer changes, cell by cell: in memory, and beyond the buffer's setting in a temporary file.
 *
 * Rows in random order touch every cell again and again. Written to the table each time the memory is full, they would
 * be so many deltas to every cell, and each flush would read all of them to check its rows. So what does not fit goes
 * to a temporary file as a run, one piece per changed cell, and the statement's changes of a cell are put together
 * when they are written, once.
 *
 * Runs are kept few: RUNS_TO_MERGE of a level become one of the next, so that a row is rewritten only as often as the
 * logarithm of their number, and a cell is in few places. The file's room is not used again.
 */
#include "am/changes.h"

#include "miscadmin.h"
#include "storage/buffile.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "compat/compat.h"

#define RUNS_TO_MERGE 32
/* Of changes being put together, each is more than twice as large as the next. */
#define MAX_DEPTH 32

typedef struct Piece
{
	ChangeKey key;
	uint64 at; /* place in the file; it ends where the next one starts */
} Piece;

typedef struct Run
{
	int level;
	int n;
	uint64 end;
	Piece *pieces; /* by key */
} Run;

struct ChangeSpill
{
	MemoryContext cxt;
	BufFile *file;
	uint64 end;
	int n_runs;
	int cap_runs;
	Run *runs; /* the oldest first; levels do not rise */
	uint64 n_pieces;
	StoreOwner *owners[MAX_DEPTH];
};

/* ---- keys ------------------------------------------------------------------------------------------------------- */

static int
compare_keys(ChangeKey a, ChangeKey b)
{
	if (a.group != b.group)
		return a.group < b.group ? -1 : 1;
	return a.container < b.container ? -1 : a.container > b.container;
}

static int
by_key(const void *a, const void *b)
{
	return compare_keys(*(const ChangeKey *) a, *(const ChangeKey *) b);
}

static int
keep_distinct(ChangeKey *keys, int n)
{
	int kept = 0;

	qsort(keys, n, sizeof(ChangeKey), by_key);
	for (int i = 0; i < n; i++)
		if (kept == 0 || compare_keys(keys[kept - 1], keys[i]) != 0)
			keys[kept++] = keys[i];
	return kept;
}

/* ---- the file --------------------------------------------------------------------------------------------------- */

/* The file lives as long as the buffer, which its subtransaction may outlive but not be outlived by. */
static BufFile *
create_file(void)
{
	ResourceOwner old = CurrentResourceOwner;
	BufFile *file;

	CurrentResourceOwner = CurTransactionResourceOwner;
	file = BufFileCreateTemp(false);
	CurrentResourceOwner = old;
	return file;
}

static ChangeSpill *
new_spill(MemoryContext parent)
{
	MemoryContext cxt = AllocSetContextCreate(parent, "customer_segmentation spilled changes", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	ChangeSpill *s = palloc0(sizeof(ChangeSpill));

	s->cxt = cxt;
	s->file = create_file();
	for (int i = 0; i < MAX_DEPTH; i++)
		s->owners[i] = store_owner_new(cxt, cseg_cell_free);
	MemoryContextSwitchTo(old);
	return s;
}

static void
seek_to(ChangeSpill *s, uint64 at)
{
	if (BufFileSeek(s->file, 0, (off_t) at, SEEK_SET) != 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not seek in a temporary file of changed rows")));
}

static Run *
add_run(ChangeSpill *s, int level, int max_pieces)
{
	Run *run;

	if (s->n_runs == s->cap_runs)
	{
		s->cap_runs = s->cap_runs ? s->cap_runs * 2 : RUNS_TO_MERGE;
		s->runs = s->runs ? repalloc(s->runs, sizeof(Run) * s->cap_runs)
						  : MemoryContextAlloc(s->cxt, sizeof(Run) * s->cap_runs);
	}
	run = &s->runs[s->n_runs++];
	run->level = level;
	run->n = 0;
	run->end = s->end;
	run->pieces = MemoryContextAllocHuge(s->cxt, sizeof(Piece) * Max(max_pieces, 1));
	return run;
}

static void
write_piece(ChangeSpill *s, Relation rel, Run *run, ChangeKey key, CsegCell *cell)
{
	const uint8 *bytes;
	size_t len;

	CSEG_CALL(rel, cseg_change_pack(cell, &bytes, &len, &err));
	seek_to(s, s->end);
	BufFileWrite(s->file, unconstify(uint8 *, bytes), len);
	run->pieces[run->n++] = (Piece){key, s->end};
	s->end += len;
	run->end = s->end;
	s->n_pieces++;
}

static int
find_piece(const Run *run, ChangeKey key)
{
	int lo = 0;
	int hi = run->n - 1;

	while (lo <= hi)
	{
		int mid = (lo + hi) / 2;
		int c = compare_keys(run->pieces[mid].key, key);

		if (c == 0)
			return mid;
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid - 1;
	}
	return -1;
}

static CsegCell *
read_piece(ChangeSpill *s, Relation rel, const Run *run, int i)
{
	uint64 end = i + 1 < run->n ? run->pieces[i + 1].at : run->end;
	size_t len = (size_t) (end - run->pieces[i].at);
	uint8 *bytes = palloc_extended(len, MCXT_ALLOC_HUGE);
	CsegCell *cell;

	seek_to(s, run->pieces[i].at);
	compat_read_temp_file(s->file, bytes, len);
	CSEG_CALL(rel, cseg_change_unpack(&cell, bytes, len, &err));
	pfree(bytes);
	return cell;
}

/* ---- putting together -------------------------------------------------------------------------------------------- */

/* The upper of two changes, which is the later one, goes into the lower. */
static void
combine_top(ChangeSpill *s, Relation rel, CsegCell **stack, int *depth)
{
	CSEG_CALL(rel, cseg_cell_combine(stack[*depth - 2], stack[*depth - 1], &err));
	store_owner_set(s->owners[*depth - 1], NULL);
	(*depth)--;
}

/* What the runs from the first on hold of a cell, in order, changes of similar size first; NULL if nothing. */
static CsegCell *
combined_cell(ChangeSpill *s, Relation rel, int first, ChangeKey key, StoreOwner *owner)
{
	CsegCell *stack[MAX_DEPTH];
	int depth = 0;

	for (int r = first; r < s->n_runs; r++)
	{
		int i = find_piece(&s->runs[r], key);

		if (i < 0)
			continue;
		CHECK_FOR_INTERRUPTS();
		if (depth == MAX_DEPTH)
			combine_top(s, rel, stack, &depth);
		stack[depth] = read_piece(s, rel, &s->runs[r], i);
		store_owner_set(s->owners[depth], stack[depth]);
		depth++;
		while (depth > 1 && cseg_cell_bytes(stack[depth - 1]) * 2 >= cseg_cell_bytes(stack[depth - 2]))
			combine_top(s, rel, stack, &depth);
	}
	while (depth > 1)
		combine_top(s, rel, stack, &depth);
	if (depth == 0)
		return NULL;
	store_owner_set(owner, store_owner_release(s->owners[0]));
	return stack[0];
}

static int
add_keys(const ChangeSpill *s, int first, ChangeKey *keys)
{
	int n = 0;

	for (int r = first; r < s->n_runs; r++)
		for (int i = 0; i < s->runs[r].n; i++)
			keys[n++] = s->runs[r].pieces[i].key;
	return n;
}

static int
pieces_from(const ChangeSpill *s, int first)
{
	int n = 0;

	for (int r = first; r < s->n_runs; r++)
		n += s->runs[r].n;
	return n;
}

static void
merge_runs(ChangeSpill *s, Relation rel, int first)
{
	MemoryContext cxt = AllocSetContextCreate(s->cxt, "customer_segmentation merge", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	StoreOwner *owner = store_owner_new(cxt, cseg_cell_free);
	ChangeKey *keys = MemoryContextAllocHuge(cxt, sizeof(ChangeKey) * pieces_from(s, first));
	int n = keep_distinct(keys, add_keys(s, first, keys));
	int n_merged = s->n_runs - first;
	Run merged;

	/* Added as the last one, so that the others are found before it while it is made. */
	add_run(s, s->runs[first].level + 1, n);
	merged = s->runs[--s->n_runs];
	for (int i = 0; i < n; i++)
		write_piece(s, rel, &merged, keys[i], combined_cell(s, rel, first, keys[i], owner));
	for (int r = first; r < first + n_merged; r++)
	{
		s->n_pieces -= s->runs[r].n;
		pfree(s->runs[r].pieces);
	}
	s->runs[first] = merged;
	s->n_runs = first + 1;
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

/* The first of the newest runs that are of one level. */
static int
last_level_start(const ChangeSpill *s)
{
	int first = s->n_runs - 1;

	while (first > 0 && s->runs[first - 1].level == s->runs[s->n_runs - 1].level)
		first--;
	return first;
}

void
changes_spill(WriteBuffer *buf, Relation rel)
{
	uint32 n = cseg_batch_cells(buf->batch);
	Run *run;

	if (n == 0)
		return;
	if (buf->spill == NULL)
		buf->spill = new_spill(buf->cxt);
	run = add_run(buf->spill, 0, (int) n);
	for (uint32 i = 0; i < n; i++)
	{
		ChangeKey key;
		CsegCell *cell = cseg_batch_cell(buf->batch, i, &key.group, &key.container);

		CHECK_FOR_INTERRUPTS();
		write_piece(buf->spill, rel, run, key, cell);
	}
	cseg_batch_forget_cells(buf->batch);
	while (buf->spill->n_runs - last_level_start(buf->spill) >= RUNS_TO_MERGE)
		merge_runs(buf->spill, rel, last_level_start(buf->spill));
}

size_t
changes_resident_bytes(const WriteBuffer *buf)
{
	return cseg_batch_touched_bytes(buf->batch) + (buf->spill ? buf->spill->n_pieces * sizeof(Piece) : 0);
}

void
changes_close_file(WriteBuffer *buf)
{
	if (buf->spill == NULL)
		return;
	BufFileClose(buf->spill->file);
	MemoryContextDelete(buf->spill->cxt);
	buf->spill = NULL;
}

/* ---- both together ----------------------------------------------------------------------------------------------- */

bool
changes_none(const WriteBuffer *buf)
{
	return buf->spill == NULL && cseg_batch_empty(buf->batch);
}

ChangeKey *
changes_list(const WriteBuffer *buf, int *n)
{
	uint32 in_memory = cseg_batch_cells(buf->batch);
	Size cap = in_memory + (buf->spill ? buf->spill->n_pieces : 0);
	ChangeKey *keys = palloc_extended(sizeof(ChangeKey) * Max(cap, 1), MCXT_ALLOC_HUGE);

	*n = buf->spill ? add_keys(buf->spill, 0, keys) : 0;
	for (uint32 i = 0; i < in_memory; i++, (*n)++)
		(void) cseg_batch_cell(buf->batch, i, &keys[*n].group, &keys[*n].container);
	*n = keep_distinct(keys, *n);
	return keys;
}

static CsegCell *
cell_in_memory(const WriteBuffer *buf, ChangeKey key)
{
	int64 lo = 0;
	int64 hi = (int64) cseg_batch_cells(buf->batch) - 1;

	while (lo <= hi)
	{
		int64 mid = (lo + hi) / 2;
		ChangeKey at;
		CsegCell *cell = cseg_batch_cell(buf->batch, (uint32) mid, &at.group, &at.container);
		int c = compare_keys(at, key);

		if (c == 0)
			return cell;
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid - 1;
	}
	return NULL;
}

bool
changes_cell_exists(const WriteBuffer *buf, ChangeKey key)
{
	if (cell_in_memory(buf, key))
		return true;
	for (int r = 0; buf->spill && r < buf->spill->n_runs; r++)
		if (find_piece(&buf->spill->runs[r], key) >= 0)
			return true;
	return false;
}

CsegCell *
changes_cell(const WriteBuffer *buf, Relation rel, ChangeKey key, StoreOwner *owner)
{
	CsegCell *newest = cell_in_memory(buf, key);
	CsegCell *cell = buf->spill ? combined_cell(buf->spill, rel, 0, key, owner) : NULL;

	if (cell == NULL)
		return newest;
	if (newest)
		CSEG_CALL(rel, cseg_cell_combine(cell, newest, &err));
	return cell;
}
