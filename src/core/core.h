/*
 * core.h
 *    The encoding and the algorithms of customer segments, behind plain C.
 *
 * The only header that both the C shim and the C++ core include. The core knows bytes and numbers: no
 * PostgreSQL, no I/O, no clock, no global state. It never calls back.
 *
 * Rules that hold for every function here:
 *  - It returns CSEG_OK, or a code with a message in *err (err must not be NULL). Nothing is thrown.
 *  - Output buffers belong to the caller: ask for the size, allocate, let the core fill.
 *  - Objects are created by cseg_X_new and freed by cseg_X_free, which never fails and accepts NULL.
 *  - Bytes given to a decoder are untrusted: what is malformed gives CSEG_CORRUPT, never a crash.
 *  - `stop`, where there is one, is polled in long loops; a flag that is set makes the function return
 *    CSEG_CANCELLED with the object still valid (unchanged, or to be freed). It may be NULL.
 */
#ifndef CSEG_CORE_H
#define CSEG_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- errors ---------------------------------------------------------------------------------------------- */

typedef enum CsegCode {
	CSEG_OK = 0,
	CSEG_NO_MEMORY,
	CSEG_CORRUPT,   /* bytes that are not what the format says */
	CSEG_LIMIT,     /* a documented limit is exceeded */
	CSEG_CANCELLED, /* the stop flag was set */
	CSEG_BUG        /* misuse, or a fault of the core */
} CsegCode;

/* Who waits for an end: flags that a signal handler sets. All of them last as long as the calls they are passed to.
 */
typedef struct CsegStop {
	const volatile int *cancel;
	const volatile int *terminate;
} CsegStop;

typedef struct CsegError {
	CsegCode code;
	char msg[200];
} CsegError;

/* ---- limits ---------------------------------------------------------------------------------------------- */

#define CSEG_SLOTS 64          /* instances in a group */
#define CSEG_CONTAINER_BITS 15 /* customers in a container: 2^15 */
#define CSEG_CONTAINER_SIZE 32768
#define CSEG_MAX_ORDINAL UINT32_C(0x7FFFFFFE) /* the top bit marks a pending identity */
#define CSEG_PENDING UINT32_C(0x80000000)
#define CSEG_MAX_SCALE 18 /* decimal places of a CSEG_DECIMAL */

/* ---- values of measures ---------------------------------------------------------------------------------- */

enum { CSEG_M_CUSTOMERS = 0, CSEG_M_ORDERS = 1, CSEG_M_REVENUE = 2, CSEG_MEASURES = 3 };

typedef enum CsegValueKind {
	CSEG_NULL = 0,
	CSEG_DECIMAL, /* mantissa / 10^scale; integers have scale 0. 1.10 and 1.1 are different values */
	CSEG_NAN,
	CSEG_PINF,
	CSEG_NINF,
	CSEG_WIDE /* a number that does not fit: opaque bytes of the caller */
} CsegValueKind;

typedef struct CsegValue {
	union {
		int64_t mantissa;    /* CSEG_DECIMAL; 0 for the kinds without content */
		const uint8_t *wide; /* CSEG_WIDE: wide_len bytes. In: copied. Out: owned by the object that gave it */
	};
	uint32_t wide_len; /* CSEG_WIDE only, else 0 */
	uint8_t kind;      /* CsegValueKind */
	uint8_t scale;     /* CSEG_DECIMAL: 0..CSEG_MAX_SCALE, else 0 */
	uint16_t reserved; /* 0 */
} CsegValue;

/* ---- totals of an instance ------------------------------------------------------------------------------- */

enum {
	CSEG_T_BOUNDS = 1,  /* rows were removed: min, max and scale are bounds, no longer attained for sure */
	CSEG_T_OVERFLOW = 2 /* the sum left 128 bits: unknown */
};

typedef struct CsegMeasureTotals {
	uint64_t sum_lo; /* two's complement 128-bit sum of the CSEG_DECIMAL values, in units of 10^-scale */
	int64_t sum_hi;
	int64_t nulls, nans, pinfs, ninfs, wides; /* rows of these kinds; negative in a change */
	CsegValue min, max;                       /* over CSEG_DECIMAL values; kind CSEG_NULL where there is none */
	uint8_t scale;                            /* the greatest scale of a CSEG_DECIMAL value */
	uint8_t flags;                            /* CSEG_T_* */
} CsegMeasureTotals;

typedef struct CsegTotals {
	int64_t rows;
	CsegMeasureTotals m[CSEG_MEASURES];
} CsegTotals;

void cseg_totals_init(CsegTotals *t);
void cseg_totals_add_row(CsegTotals *t, const CsegValue v[CSEG_MEASURES]);
/* Takes a row away: counts and sums exactly, CSEG_T_BOUNDS set on measures whose value was a decimal. */
void cseg_totals_remove_row(CsegTotals *t, const CsegValue v[CSEG_MEASURES]);
/* dst += change. A change that removed rows (CSEG_T_BOUNDS) leaves dst with CSEG_T_BOUNDS. When dst.rows
 * becomes 0, dst is as after init. */
void cseg_totals_add(CsegTotals *dst, const CsegTotals *change);
/* As cseg_totals_add, for adding one change to another: no reset where the rows cancel out. */
void cseg_totals_add_change(CsegTotals *dst, const CsegTotals *change);
/* True where a stored total may stand for the actual one: equal where exact, a bound where CSEG_T_BOUNDS says so. */
bool cseg_totals_consistent(const CsegTotals *stored, const CsegTotals *actual);
/* Serialized form, little-endian and compact: at most CSEG_TOTALS_MAX_BYTES. encode returns the length written. */
#define CSEG_TOTALS_MAX_BYTES 400
size_t cseg_totals_encode(const CsegTotals *t, uint8_t *dst);
/* The rows alone. */
CsegCode cseg_totals_decode_rows(int64_t *rows, const uint8_t *bytes, size_t len, CsegError *err);
CsegCode cseg_totals_decode(CsegTotals *t, const uint8_t *bytes, size_t len, size_t *used, CsegError *err);

/* ---- a checksum for records and blobs -------------------------------------------------------------------- */

uint32_t cseg_checksum(const uint8_t *bytes, size_t len, uint64_t seed); /* low 32 bits of XXH3-64 */

/* ---- cell: the matrix of one container in one group ------------------------------------------------------ */

/*
 * A cell holds rows addressed by (low, slot), low being the low 15 bits of the customer's ordinal. As a base it
 * is a set of rows. As a delta it is a change: rows set (inserted or updated, with their full measures), and rows
 * removed. One encoding serves both. Rows of one customer along the slots are stored as initial value + changes.
 */
typedef struct CsegCell CsegCell;

CsegCode cseg_cell_new(CsegCell **out, CsegError *err);
void cseg_cell_free(void *cell);
size_t cseg_cell_bytes(const CsegCell *cell); /* memory footprint, approximately */

/* Decodes what cseg_cell_encode wrote into a new cell. */
CsegCode cseg_cell_decode(CsegCell **out, const uint8_t *bytes, size_t len, CsegError *err);
/* As decode, but only customers low_first..low_last (inclusive) are guaranteed to be there; others may be missing.
 * Blocks of the encoding that can't hold them are not decompressed. */
CsegCode cseg_cell_decode_range(CsegCell **out, const uint8_t *bytes, size_t len, uint16_t low_first,
								uint16_t low_last, CsegError *err);
/* About how many bytes encoding will give, without doing it. */
size_t cseg_cell_estimate(const CsegCell *cell);
/* Encodes into memory kept inside the cell; *bytes is valid until the cell is changed or freed. */
CsegCode cseg_cell_encode(CsegCell *cell, const uint8_t **bytes, size_t *len, CsegError *err);

/* Changes. They are staged and sorted when next needed; the last change of a row wins, save that two inserts of
 * one row are a duplicate (see cseg_cell_conflict) and that a removal means the row which the state has, never one
 * that the same delta inserts: removing and inserting a row replaces it, in either order. moved: the removal belongs
 * to an UPDATE that gives the row another address; kept in the encoding. */
CsegCode cseg_cell_insert(CsegCell *cell, uint16_t low, uint8_t slot, const CsegValue v[CSEG_MEASURES],
						  CsegError *err);
CsegCode cseg_cell_update(CsegCell *cell, uint16_t low, uint8_t slot, const CsegValue v[CSEG_MEASURES],
						  CsegError *err);
CsegCode cseg_cell_remove(CsegCell *cell, uint16_t low, uint8_t slot, bool moved, CsegError *err);
CsegCode cseg_cell_settle(CsegCell *cell, const CsegStop *stop, CsegError *err);

/* state := (state without delta's removed rows) overlaid with delta's set rows. touch: mark the rows that the
 * delta sets or removes as touched in the state (cseg_cell_touched). A base is applied to an empty cell the same way.
 */
CsegCode cseg_cell_apply(CsegCell *state, const CsegCell *delta, bool touch, CsegError *err);

/*
 * change := what one cell would be that got the changes of `change` first and those of `later` after them. Both are
 * changes of one statement: an update is of a row that the state had or the statement inserted, and what it removed
 * it does not update.
 */
CsegCode cseg_cell_combine(CsegCell *change, const CsegCell *later, CsegError *err);
/* A change with all that cseg_cell_combine and the checks below need to know of it, which is more than the encoding
 * of a delta has: for temporary files. *bytes is valid until the cell is changed or freed. */
CsegCode cseg_change_pack(CsegCell *change, const uint8_t **bytes, size_t *len, CsegError *err);
CsegCode cseg_change_unpack(CsegCell **out, const uint8_t *bytes, size_t len, CsegError *err);

/*
 * The first inserted row of the delta (cseg_cell_insert, not update) that collides: inserted twice in the delta, or
 * with a row of state that the delta does not remove, or with another inserted row of an alias slot. alias[s] is
 * the set of slots (of state's group) whose rows exclude a row in slot s, normally just bit s; pass alias_self =
 * false where state is of another group (then the delta's own rows and removals don't count). state may be NULL.
 */
CsegCode cseg_cell_conflict(const CsegCell *state, const CsegCell *delta, const uint64_t alias[CSEG_SLOTS],
							bool alias_self, bool *found, uint16_t *low, uint8_t *slot, CsegError *err);
/* The first row that the delta updates or removes and that state lacks: a broken promise of the caller. */
CsegCode cseg_cell_missing(const CsegCell *state, const CsegCell *delta, bool *found, uint16_t *low, uint8_t *slot,
						   CsegError *err);

/* All functions below settle first where needed and are therefore not const. */
CsegCode cseg_cell_counts(CsegCell *cell, uint32_t *customers, uint64_t *rows, uint64_t *removed, CsegError *err);
CsegCode cseg_cell_slots(CsegCell *cell, uint64_t *slots, CsegError *err); /* slots with at least one set row */
CsegCode cseg_cell_mask(CsegCell *cell, uint16_t low, uint64_t *mask, CsegError *err);
CsegCode cseg_cell_get(CsegCell *cell, uint16_t low, uint8_t slot, bool *found, CsegValue v[CSEG_MEASURES],
					   CsegError *err);
CsegCode cseg_cell_touched(CsegCell *cell, uint16_t low, uint8_t slot, bool *touched, CsegError *err);
/* Is the row among the delta's (or decoded record's) removals, and as moved? */
CsegCode cseg_cell_removed(CsegCell *cell, uint16_t low, uint8_t slot, bool *removed, bool *moved, CsegError *err);
CsegCode cseg_cell_has_moved(CsegCell *cell, bool *moved, CsegError *err);

/* Sets in bits (bit = low) every customer with a row in any of the slots. Bits already set stay: cells of one
 * container add up. */
#define CSEG_MEMBER_WORDS (CSEG_CONTAINER_SIZE / 64)
CsegCode cseg_cell_members(CsegCell *cell, uint64_t slots, uint64_t bits[CSEG_MEMBER_WORDS], CsegError *err);

/*
 * The decoded arrays themselves, for work that goes over many customers. Read-only; they belong to the cell and hold
 * until it is changed or freed. Entry i is a customer: its rows are in mask[i] (0 only in a delta), its measures
 * begin with first[m] at its first slot and change with the events event_end[i - 1] .. event_end[i] - 1 (from 0 for
 * i = 0), ascending by slot. A value lasts, over gaps in the mask too, to the slot of the next event of its measure.
 *
 *    event key: slot in bits 2..7, measure in bits 0..1
 *    tag:       scale in bits 3..7, CsegValueKind in bits 0..2
 *    num:       mantissa of a CSEG_DECIMAL; of a CSEG_WIDE: its bytes are pool[num >> 32 ..], num & 0xFFFFFFFF long
 */
typedef struct CsegArrays {
	uint32_t n_entries;
	uint32_t n_events;
	const uint16_t *low;
	const uint64_t *mask;
	const int64_t *first_num[CSEG_MEASURES];
	const uint8_t *first_tag[CSEG_MEASURES];
	const uint32_t *event_end;
	const uint8_t *event_key;
	const uint8_t *event_tag;
	const int64_t *event_num;
	const uint8_t *pool;
} CsegArrays;

CsegCode cseg_cell_arrays(CsegCell *cell, CsegArrays *arrays, CsegError *err);

/* Totals by slot of the set rows; totals[s] of slots not in *slots are untouched. */
CsegCode cseg_cell_totals(CsegCell *cell, CsegTotals totals[CSEG_SLOTS], uint64_t *slots, CsegError *err);
/* What applying delta to state changes in the totals, by slot. state may be NULL (empty). */
CsegCode cseg_cell_change(CsegCell *state, CsegCell *delta, CsegTotals change[CSEG_SLOTS], uint64_t *slots,
						  CsegError *err);

/* Every invariant of the decoded form against itself (for verify and the fuzzers). CSEG_CORRUPT says what is off. */
CsegCode cseg_cell_check(CsegCell *cell, CsegError *err);

/* ---- cursor: the rows of a cell, slot by slot ------------------------------------------------------------ */

typedef struct CsegCursor CsegCursor;

/* Rows of one slot in order of low. Row i is customer entry_low[rows[i]]; its measures are
 * value[m][rows[i]]. Arrays belong to the cursor and hold until the next seek. */
typedef struct CsegSlotView {
	uint32_t n;
	const uint32_t *rows;
	uint32_t n_entries;
	const uint16_t *entry_low;
	const CsegValue *value[CSEG_MEASURES];
} CsegSlotView;

/* The cell must not change and must outlive the cursor. */
CsegCode cseg_cursor_new(CsegCursor **out, CsegCell *cell, CsegError *err);
void cseg_cursor_free(void *cursor);
/* Moves to a slot: going forward costs the changes between, going back starts anew. measures: bit set of the
 * measures wanted; the arrays of others are NULL. The same set must be passed on every seek of a cursor. */
CsegCode cseg_cursor_seek(CsegCursor *cursor, uint8_t slot, uint32_t measures, CsegSlotView *view, CsegError *err);
/* The same, of a cursor that is not to go from slot to slot: entries are the slot's own alone. Any measures, each
 * time. */
CsegCode cseg_cursor_gather(CsegCursor *cursor, uint8_t slot, uint32_t measures, CsegSlotView *view, CsegError *err);

/* ---- members: bitsets of one container, and sets of ordinals ----------------------------------------------- */

/* On bitsets of CSEG_MEMBER_WORDS words, bit = low. */
uint32_t cseg_bits_count(const uint64_t *a);
uint32_t cseg_bits_count_and(const uint64_t *a, const uint64_t *b);
void cseg_bits_and(uint64_t *a, const uint64_t *b);
void cseg_bits_or(uint64_t *a, const uint64_t *b);
void cseg_bits_andnot(uint64_t *a, const uint64_t *b);

/* The members of every slot at once: planes[slot * CSEG_MEMBER_WORDS ..], CSEG_SLOTS of them. All are written. */
CsegCode cseg_cell_planes(CsegCell *cell, uint64_t *planes, CsegError *err);

typedef struct CsegSet CsegSet;

typedef enum CsegSetOp { CSEG_SET_AND = 0, CSEG_SET_OR, CSEG_SET_ANDNOT, CSEG_SET_XOR } CsegSetOp;

CsegCode cseg_set_new(CsegSet **out, CsegError *err);
void cseg_set_free(void *set);
CsegCode cseg_set_copy(CsegSet **out, const CsegSet *set, CsegError *err);
size_t cseg_set_bytes(const CsegSet *set);
CsegCode cseg_set_add(CsegSet *set, uint32_t ordinal, CsegError *err);
/* Adds those members of a container whose bits are set. */
CsegCode cseg_set_add_bits(CsegSet *set, uint32_t container, const uint64_t *bits, CsegError *err);
/* set := set op other. A set that runs out of memory stays what it was. */
CsegCode cseg_set_apply(CsegSet *set, CsegSetOp op, const CsegSet *other, CsegError *err);
uint64_t cseg_set_count(const CsegSet *set);
uint64_t cseg_set_count_and(const CsegSet *a, const CsegSet *b);
bool cseg_set_contains(const CsegSet *set, uint32_t ordinal);
bool cseg_set_includes(const CsegSet *set, const CsegSet *other); /* every member of other */
bool cseg_set_overlaps(const CsegSet *a, const CsegSet *b);
bool cseg_set_equal(const CsegSet *a, const CsegSet *b);
/* The bits of the first container at or after *container that has members, which *container becomes; NULL if there is
 * none. They belong to the set and hold until it changes. */
const uint64_t *cseg_set_from(const CsegSet *set, uint32_t *container);
/* ---- sift: rows of cells that meet conditions, added up without making rows --------------------------------- */

/*
 * A sift goes through a cell customer by customer. A customer's measures stay the same over stretches of slots, so a
 * condition is decided once per stretch, for all its slots at a time, and a stretch is added up by its two ends.
 */
typedef struct CsegSift CsegSift;

typedef enum CsegTestKind {
	CSEG_TEST_COMPARE, /* measure against bound; neither true nor false where either is NULL */
	CSEG_TEST_NULL,    /* measure IS NULL */
	CSEG_TEST_SLOTS,   /* what the caller knows of each slot: leaf n */
	CSEG_TEST_NOT,     /* of the one before */
	CSEG_TEST_AND,     /* of the n before */
	CSEG_TEST_OR       /* of the n before */
} CsegTestKind;

enum { CSEG_LESS = 1, CSEG_EQUAL = 2, CSEG_GREATER = 4 };

/* A step of a condition in postfix order. SQL's three-valued logic. */
typedef struct CsegTest {
	CsegValue bound; /* not CSEG_WIDE */
	uint32_t n;
	uint8_t kind;    /* CsegTestKind */
	uint8_t measure; /* COMPARE, NULL */
	uint8_t accepts; /* COMPARE: which of CSEG_LESS, _EQUAL, _GREATER are true */
	uint8_t reserved;
} CsegTest;

/* For the slots of the cell's group: where is the leaf true, where false? */
typedef struct CsegSlotLeaf {
	uint64_t is_true;
	uint64_t is_false;
} CsegSlotLeaf;

typedef struct CsegSiftView {
	const CsegTest *tests; /* none: every row */
	uint32_t n_tests;
	uint8_t sums;     /* bit set of measures: sums and counts wanted */
	uint8_t extremes; /* bit set of measures: min and max wanted */
	bool members;     /* cseg_sift_members will be asked */
} CsegSiftView;

/* Order of two values that are neither NULL nor wide: -1, 0, 1. -Infinity is the least, NaN the greatest. */
int cseg_value_compare(const CsegValue *a, const CsegValue *b);

/* Copies the views. The rows of each view meet its own condition and that of view 0. */
CsegCode cseg_sift_new(CsegSift **out, const CsegSiftView *views, uint32_t n_views, uint32_t n_leaves,
					   CsegError *err);
void cseg_sift_free(void *sift);
/* Adds up the rows of the given slots; lows, ascending: of these customers alone, NULL: of all. What was there of a
 * cell before is forgotten. *wide: a wide value is in the way, and there is no result. */
CsegCode cseg_sift_cell(CsegSift *sift, CsegCell *cell, uint64_t slots, const CsegSlotLeaf *leaves,
						const uint16_t *lows, uint32_t n_lows, bool *wide, CsegError *err);
/* Of the last cell, by slot. Rows are counted always, the rest as far as the view asks. *slots: those with rows;
 * others are as after init. Belongs to the sift. */
CsegCode cseg_sift_totals(CsegSift *sift, uint32_t view, const CsegTotals **totals, uint64_t *slots, CsegError *err);
/* Adds the customers of the last cell with rows in any of the slots: bit low of bits. */
CsegCode cseg_sift_members(const CsegSift *sift, uint32_t view, uint64_t slots,
						   uint64_t bits[CSEG_CONTAINER_SIZE / 64], CsegError *err);

/* Rows of one customer with the same measures. */
typedef struct CsegStretch {
	uint64_t slots;
	CsegValue v[CSEG_MEASURES]; /* wide values belong to the cell */
	uint16_t low;
} CsegStretch;

/*
 * The next stretches of a cell, of rows in the given slots; lows, ascending: of these customers alone, NULL: of all.
 * *at is 0 at first, and is moved on. cap: at least CSEG_SLOTS. *n: 0 at the end.
 */
CsegCode cseg_cell_stretches(const CsegCell *cell, uint64_t slots, const uint16_t *lows, uint32_t n_lows,
							 uint32_t *at, CsegStretch *out, uint32_t cap, uint32_t *n, CsegError *err);

/* The portable Roaring format (RoaringFormatSpec). to: *bytes is malloc'd; free with cseg_bytes_free. Equal sets give
 * equal bytes. from: ordinals from limit on are refused, before memory is taken for them. count: checks as much,
 * and builds nothing. */
CsegCode cseg_set_to_roaring(const CsegSet *set, uint8_t **bytes, size_t *len, CsegError *err);
CsegCode cseg_set_from_roaring(CsegSet **out, const uint8_t *bytes, size_t len, uint32_t limit, CsegError *err);
CsegCode cseg_roaring_count(const uint8_t *bytes, size_t len, uint32_t limit, uint64_t *count, CsegError *err);
/* Looks at a few bytes, whatever the size. Of bytes that one of the two above has not accepted the answer means
 * nothing. */
CsegCode cseg_roaring_contains(const uint8_t *bytes, size_t len, uint32_t ordinal, bool *found, CsegError *err);

/* ---- dictionary: identity text <-> ordinal --------------------------------------------------------------- */

/*
 * A dictionary is built from records (blobs), each of which holds the texts of consecutive ordinals. Compressed
 * records are kept; texts are decoded container by container when asked for.
 */
typedef struct CsegDict CsegDict;

/* header_shift: decoded texts are preceded by a 4-byte native-endian header (length + 4) << header_shift and are
 * 4-byte aligned, so that the caller can use them as its own string type without a copy. */
CsegCode cseg_dict_new(CsegDict **out, int header_shift, CsegError *err);
void cseg_dict_free(void *dict);
size_t cseg_dict_bytes(const CsegDict *dict);
/* Adds a record that starts at ordinal `first`: copied, and checked as far as lookups need. Ranges must not overlap.
 * Gaps are allowed. */
CsegCode cseg_dict_add(CsegDict *dict, uint32_t first, const uint8_t *bytes, size_t len, CsegError *err);
uint32_t cseg_dict_next(const CsegDict *dict); /* one past the greatest ordinal */
uint64_t cseg_dict_count(const CsegDict *dict);
/* Identity to ordinal, by bytes. A few lookups search the records; many make it build a hash table by itself. */
CsegCode cseg_dict_find(CsegDict *dict, const uint8_t *text, size_t len, bool *found, uint32_t *ordinal,
						CsegError *err);
/* The texts of a container: an array of CSEG_CONTAINER_SIZE pointers to headers as above, NULL where no entry.
 * Pinned: valid until the matching unpin. */
CsegCode cseg_dict_pin(CsegDict *dict, uint32_t container, const void *const **texts, CsegError *err);
void cseg_dict_unpin(CsegDict *dict, uint32_t container);
/* Frees decoded, unpinned texts (least recently used first) and, if still above, the hash table, until the
 * footprint is at most `bytes` or nothing more can go. Compressed records stay. */
void cseg_dict_trim(CsegDict *dict, size_t bytes);
/* Full check of one record's bytes: order, uniqueness, every length. *count: texts in it. */
CsegCode cseg_dict_check(const uint8_t *bytes, size_t len, uint32_t *count, CsegError *err);
/* Encodes a record from n texts, in the given order (ordinals follow it). For tests and for rewriting. *bytes is
 * malloc'd; free with cseg_bytes_free. */
CsegCode cseg_dict_encode(const uint8_t *const *texts, const size_t *lens, uint32_t n, uint8_t **bytes, size_t *len,
						  CsegError *err);
void cseg_bytes_free(void *bytes);

/* ---- batch: the write buffer of one statement on one relation -------------------------------------------- */

/*
 * Collects row changes, in any order, as (group, slot, customer). `group` is any number of the caller's. Customers
 * not in the dictionary yet are interned as pending and get their ordinals together, sorted, at resolve: that is
 * what makes dictionary records small.
 */
typedef struct CsegBatch CsegBatch;

CsegCode cseg_batch_new(CsegBatch **out, CsegError *err);
void cseg_batch_free(void *batch);
size_t cseg_batch_bytes(const CsegBatch *batch);
uint64_t cseg_batch_staged(const CsegBatch *batch); /* rows staged and not yet settled into cells */
/* What they hold in texts of identities and in wide values: little as a rule, but a single row can have megabytes. */
size_t cseg_batch_staged_long(const CsegBatch *batch);
bool cseg_batch_empty(const CsegBatch *batch);
void cseg_batch_clear(CsegBatch *batch); /* forgets everything and gives the memory back */
/* Forgets the settled cells, which the caller has put elsewhere, but not which rows were touched. */
void cseg_batch_forget_cells(CsegBatch *batch);
size_t cseg_batch_touched_bytes(const CsegBatch *batch); /* of cseg_batch_bytes, for cseg_batch_touched */

/* *who: CSEG_PENDING | id. The same text gives the same id until resolve. */
CsegCode cseg_batch_intern(CsegBatch *batch, const uint8_t *text, size_t len, uint32_t *who, CsegError *err);
/* who: an ordinal, or what intern gave. */
CsegCode cseg_batch_insert(CsegBatch *batch, uint32_t group, uint8_t slot, uint32_t who,
						   const CsegValue v[CSEG_MEASURES], CsegError *err);
/* The same by the customer's name, which is looked up with many others: cheaper than one by one. */
CsegCode cseg_batch_insert_named(CsegBatch *batch, uint32_t group, uint8_t slot, const uint8_t *text, size_t len,
								 const CsegValue v[CSEG_MEASURES], CsegError *err);
CsegCode cseg_batch_update(CsegBatch *batch, uint32_t group, uint8_t slot, uint32_t ordinal,
						   const CsegValue v[CSEG_MEASURES], CsegError *err);
CsegCode cseg_batch_remove(CsegBatch *batch, uint32_t group, uint8_t slot, uint32_t ordinal, bool moved,
						   CsegError *err);
/* Was the row updated or removed in this batch since it was last cleared? */
bool cseg_batch_touched(const CsegBatch *batch, uint32_t group, uint8_t slot, uint32_t ordinal);

uint32_t cseg_batch_waiting(const CsegBatch *batch); /* rows inserted by name and not looked up yet */
/* Looks them up; those that dict does not know are interned. dict stays as long as any identity is pending. */
CsegCode cseg_batch_lookup(CsegBatch *batch, CsegDict *dict, CsegError *err);
uint32_t cseg_batch_pending(const CsegBatch *batch); /* interned identities not resolved yet */
/* The record for the pending identities that dict does not know, sorted; *count 0 if it knows them all. *bytes
 * belongs to the batch until the next call on it. The caller stores the record at some first ordinal and adds it to
 * dict with cseg_dict_add, then calls resolve. */
CsegCode cseg_batch_growth(CsegBatch *batch, CsegDict *dict, const uint8_t **bytes, size_t *len, uint32_t *count,
						   CsegError *err);
/* Gives every staged row of a pending identity its ordinal. CSEG_BUG if dict still lacks one. */
CsegCode cseg_batch_resolve(CsegBatch *batch, CsegDict *dict, CsegError *err);
/* Moves staged rows into cells (deltas), one per (group, container). No identity may be waiting or pending. */
CsegCode cseg_batch_settle(CsegBatch *batch, const CsegStop *stop, CsegError *err);
/* The settled cells, ordered by (group, container). They belong to the batch. */
uint32_t cseg_batch_cells(const CsegBatch *batch);
CsegCell *cseg_batch_cell(CsegBatch *batch, uint32_t i, uint32_t *group, uint32_t *container);

/* ---- rules: a segment's rules as JSON, to one query --------------------------------------------------------- */

/*
 * Rules are parsed and checked against the tables and columns that they may speak of, then compiled to one SELECT.
 * JSON comes as a flat list of events and nothing of its text gets into the query: values are parameters, and names
 * are those of the schema.
 */

typedef struct CsegString {
	const char *text; /* len bytes of UTF-8 or the caller's encoding; a NUL follows in what the core gives */
	size_t len;
} CsegString;

typedef enum CsegJsonKind {
	CSEG_JSON_NULL = 0,
	CSEG_JSON_FALSE,
	CSEG_JSON_TRUE,
	CSEG_JSON_NUMBER, /* text: decimal digits with an optional sign and point, no exponent */
	CSEG_JSON_STRING,
	CSEG_JSON_KEY,
	CSEG_JSON_OBJECT, /* until CSEG_JSON_END */
	CSEG_JSON_ARRAY,  /* until CSEG_JSON_END */
	CSEG_JSON_END
} CsegJsonKind;

typedef struct CsegJsonEvent {
	CsegString string; /* of NUMBER, STRING and KEY */
	uint8_t kind;      /* CsegJsonKind */
} CsegJsonEvent;

#define CSEG_RULES_DEPTH 64     /* levels of objects and arrays in rules */
#define CSEG_RULES_FILTERS 200  /* filters, and properties of filters that list some, in rules */
#define CSEG_RULES_BUCKETS 1000 /* RFM scores */

typedef enum CsegRuleSource {
	CSEG_SOURCE_CUSTOMERS = 0,
	CSEG_SOURCE_ORDERS,
	CSEG_SOURCE_LINE_ITEMS,
	CSEG_SOURCE_TAGS,
	CSEG_SOURCE_SUBSCRIPTIONS,
	CSEG_SOURCE_CLICKS,
	CSEG_SOURCE_VISITS,
	CSEG_SOURCE_CARTS,
	CSEG_SOURCE_CHECKOUTS,
	CSEG_SOURCES
} CsegRuleSource;

typedef enum CsegColumnClass {
	CSEG_COLUMN_TEXT = 0,
	CSEG_COLUMN_TEXTS, /* an array of texts */
	CSEG_COLUMN_NUMBER,
	CSEG_COLUMN_BOOLEAN,
	CSEG_COLUMN_INSTANT, /* a moment, as timestamptz has it */
	CSEG_COLUMN_LOCAL    /* a date or time of day by some clock: date, timestamp */
} CsegColumnClass;

const char *cseg_rules_source_name(CsegRuleSource source);

/* What a column is for its source. Any other name that a source maps is a property, of any class. */
typedef struct CsegRuleRole {
	const char *name;
	bool required;
	uint8_t classes; /* bit set of CsegColumnClass: what the column may be */
} CsegRuleRole;

/* The roles of a source; the last one has no name. */
const CsegRuleRole *cseg_rules_roles(CsegRuleSource source);

/* A column that a source maps. Texts must outlive cseg_rules_compile. */
typedef struct CsegRuleColumn {
	const char *role;
	const char *sql;    /* the column's name, quoted */
	const char *suffix; /* what makes an expression of its class of it: "" or a cast */
	uint8_t source;     /* CsegRuleSource */
	uint8_t cls;        /* CsegColumnClass */
	bool unique;        /* no two rows have the same value */
	bool not_null;
} CsegRuleColumn;

typedef struct CsegRuleSchema {
	const char *relation[CSEG_SOURCES]; /* schema and name, quoted; NULL: the source is not set */
	const char *broken[CSEG_SOURCES];   /* why the source can't be used, in words; NULL: it can */
	const CsegRuleColumn *columns;
	size_t n_columns;
	bool by_email;         /* segment_by */
	bool cast_customer_id; /* the columns of customer_id differ in type or collation: compare them as texts */
	bool cast_email;
	bool cast_order_id;
	const char *time_zone;
	uint32_t rfm_buckets;
	bool rfm_lowest_best;
} CsegRuleSchema;

/* What there is to know of a segment that the rules ask for. */
typedef struct CsegRuleSegment {
	const char *instances; /* the table that it is stored in, quoted */
	const char *time_zone; /* the clock of its instance_created_date */
	bool by_email;
} CsegRuleSegment;

typedef enum CsegRuleFault {
	CSEG_RULE_SOUND = 0,
	CSEG_RULE_INVALID,  /* the rules are not what they should be */
	CSEG_RULE_NO_SOURCE /* a source or one of its columns is not set */
} CsegRuleFault;

/* Texts belong to the rules. */
typedef struct CsegRuleProblem {
	CsegRuleFault fault;
	const char *path; /* JSON path */
	const char *message;
	const char *hint; /* "" if there is none */
} CsegRuleProblem;

typedef enum CsegRuleType {
	CSEG_PARAM_TEXT = 0,
	CSEG_PARAM_TEXTS,
	CSEG_PARAM_NUMBER,
	CSEG_PARAM_NUMBERS,
	CSEG_PARAM_BOOLEAN,
	CSEG_PARAM_DATE,
	CSEG_PARAM_LOCAL,   /* timestamp */
	CSEG_PARAM_INSTANT, /* timestamptz */
	CSEG_PARAM_INTERVAL
} CsegRuleType;

typedef struct CsegRuleParam {
	const CsegString *values; /* one, save for arrays */
	size_t n;
	uint8_t type; /* CsegRuleType */
} CsegRuleParam;

/* Where a parameter stands in the query. */
typedef struct CsegRuleReference {
	size_t offset;
	size_t len;
	uint32_t param; /* from 1; 0: the moment */
} CsegRuleReference;

/* Everything pointed to belongs to the rules. */
typedef struct CsegRuleQuery {
	CsegString sql; /* parameters are $1, ...; the moment is customer_segmentation.as_of() */
	const CsegRuleParam *params;
	size_t n_params;
	const CsegRuleReference *references;
	size_t n_references;
	const char *current_state; /* JSON path of the first filter that depends on what has no history; or NULL */
} CsegRuleQuery;

typedef struct CsegRules CsegRules;

/* Rules that are not sound are no error here: problem->fault says so, and what else there is in *out is nothing. */
CsegCode cseg_rules_parse(CsegRules **out, const CsegJsonEvent *events, size_t n_events, const CsegRuleSchema *schema,
						  CsegRuleProblem *problem, CsegError *err);
void cseg_rules_free(void *rules);
/* The segments that they ask for, each once. Belongs to the rules. */
CsegCode cseg_rules_segments(CsegRules *rules, const CsegString **ids, size_t *n, CsegError *err);
/* segments: as many as cseg_rules_segments gives. The schema is the same as for parse. */
CsegCode cseg_rules_compile(CsegRules *rules, const CsegRuleSchema *schema, const CsegRuleSegment *segments,
							CsegRuleQuery *query, CsegRuleProblem *problem, CsegError *err);

#ifdef __cplusplus
}
#endif

#endif /* CSEG_CORE_H */
