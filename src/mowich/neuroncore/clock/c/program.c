/* A trace made ready for the clock: the cost of each instruction, whom it waits for, where tiles live, what is added.
 *
 * The same as `ProgramMaker` of clock/reference.py, with `Rotation` and `Residency` of clock/buffers.py, where the rules are
 * told. The names of the phases are the same. Instructions, storages, patterns and kinds are rows of columns; nothing
 * here knows of Python. */
#include "depend.h"

#include <stdlib.h>
#include <string.h>

/* MOST_INSTRUCTIONS: 4 * instruction + kind of edge fits 32 bits. */
enum { PIECES = 64, SPACES = 3, MOST_INSTRUCTIONS = 1 << 29, USERS_POWER = 7 };
enum { SBUF, PSUM, HBM };
/* What is special about an instruction. */
enum { MEETS = 1, KEEPS_ORDER = 2, COMES_AFTER = 4 };
/* What a cost of the program stands for, beside kinds (>= 0): the load of an activation table, a spill, a reload. */
enum { TABLE_LOAD = -1, SPILL = -2, RELOAD = -3 };

/* A kind of instruction. queue; reads: operands that it reads, of `operands` in all, the written ones last; table:
 * number of its activation table, 0 for none; is_load: it reads HBM; is_memset. */
typedef struct {
    int64_t queue, reads, operands, table, is_load, is_memset;
} Kind;

/* What allocations of one form share. space: SBUF, PSUM or HBM; parts, row_B: partitions, and bytes in each;
 * is_placed: by hand, at (part, byte); shape: place of its shape in `shapes`: dimensions, sizes, bytes of an
 * element. */
typedef struct {
    int64_t space, parts, row_B, is_placed, part, byte, shape;
} Storage;

/* The same with what follows from it. size: bytes of a partition that an allocation takes, where tiles of few
 * partitions share columns by quadrants of 32; is_split: its banks live and die on their own. */
typedef struct {
    int64_t space, parts, row_B, is_placed, part, byte, shape, size, is_split;
} Tensor;

/* What goes in. Columns are told in clock/compiled.py. */
typedef struct {
    int64_t instructions, kinds, storages, tensors, patterns, forms; /* storages: numbers, used or not */
    const int32_t *kind;         /* of each instruction */
    const int64_t *touched;      /* (number of the storage, pattern) of each operand */
    const Kind *kind_rows;
    const int32_t *storage_form; /* of each number of a storage: a row; -1: not touched */
    const Storage *storage_rows; /* as many as `tensors` */
    const int32_t *form_of;      /* of each pattern */
    const int64_t *offset_of;    /* of each pattern, in elements; ANYWHERE */
    const int64_t *form_data;    /* dims, itemsize, bytes, view dims, shape, counts, strides of each form */
    const int64_t *form_at;      /* where each form begins in it */
    const int64_t *shapes;
    const uint8_t *special;      /* of each instruction; NULL where none is */
    int64_t meetings;            /* collectives with a cost of their own: instruction, kind that stands for it */
    const int64_t *meeting_rows;
    int64_t explicit_edges;      /* depends_on: (later, earlier) instruction, by later */
    const int64_t *explicit_rows;
    int64_t window;              /* instructions that a meeting waits for */
    int64_t rotate, bank_B, sbuf_B, psum_B;
    int64_t spills;              /* 0: no policy; then live tiles need not fit */
    int64_t farthest, sink, spare_B;
} Given;

/* What comes out: columns of a program. costs: (what, storage) of each cost in the order of first use. */
typedef struct {
    int64_t n, edges, costs, usage_s, usage_p;
    int32_t *cost, *origin, *first, *edge;
    int64_t *cost_rows;
    int32_t *place_of; /* where something is special, of each instruction of the trace */
    int32_t *before_s, *level_s, *before_p, *level_p;
    int64_t overflow_B, spill_B, peak_s, peak_p;
} Made;

/* The last instruction of each queue that uses something. has: a bit for each queue of which there is one. */
typedef struct {
    uint32_t has;
    int32_t who[MOST_QUEUES];
} Users;

/* Free bytes of a memory, oldest first, each with the instructions that used them last. */
typedef struct {
    int64_t size;
    Users users;
} Free;

typedef struct {
    Free *ring;
    int64_t first, n, room; /* room: a power of two */
    int64_t left;
} Rotation;

/* A tile as spilling sees it. Live tiles form a list, in the order in which they were used last. */
typedef struct {
    int32_t before, after;  /* in the list; -1 at its ends */
    int8_t is_live, is_loaded, is_saved, is_away;
    int32_t store;          /* where it is away: its spill, or -1 where HBM has it anyway */
    int32_t reload;         /* -1: none */
    int64_t used;           /* position of the last use so far */
    int64_t next_use;       /* index into uses */
} Tile;

typedef struct {
    Arena arena;
    const Given *g;
    Made *made;
    Dependencies deps;
    /* patterns */
    Box *boxes;
    uint8_t *has_box;
    Form *forms;
    int8_t *piece_first, *piece_last; /* of each pattern; -1: not known; NULL where no tile is split */
    /* boxes of tiles placed by hand, by (storage, pattern) */
    int64_t *hand_key;
    Box **hand_box;
    int64_t hand_n, hand_mask;
    Tensor *tensors;
    /* units: what lives and dies on its own; -1 for storages in HBM */
    int32_t *unit_of;                 /* first unit of a storage */
    int64_t units;
    Users **users;                    /* of a unit that lives */
    int32_t *last_use;                /* of a unit: the last instruction that touches it */
    Rotation rotation[2];
    int64_t live_B[2];
    Indices usage_before[2], usage_level[2];
    /* the program so far */
    Indices first, origin, edge;
    Numbers cost_rows;
    int32_t *cost;
    int64_t n, room;
    int32_t *cost_of_kind;            /* -1: not yet used */
    Numbers spill_costs;              /* (parts, row_B, is_load, cost) of those in use */
    int64_t table, table_load, table_cost;
    Numbers table_users;
    /* order */
    int64_t *start;                   /* where the operands of an instruction begin; NULL while nothing needs it */
    Numbers recent[MOST_QUEUES];           /* rings of `window` */
    int64_t recent_n[MOST_QUEUES];
    int64_t ordered[MOST_QUEUES];
    /* spilling */
    Tile *tiles;
    int32_t live_first, live_last;
    int64_t *uses_at, *uses;
    int8_t *may_sink, *never_written; /* of storages: loads of it may wait; no instruction writes it */
    int32_t *held_first, *held_last, *held_next;
    int64_t *held_slot;
    Numbers held_order;
    /* of the instruction at hand */
    Numbers out, edges, freed, unit_row, unit_storage, born;
    int64_t *set;                     /* for `append_unique`, where edges are many */
    int64_t set_mask;
} Maker;

static const Tensor *storage_of(const Maker *m, int64_t storage)
{
    return &m->tensors[m->g->storage_form[storage]];
}

static int64_t at_least(int64_t n)
{
    int64_t power = 16;
    while (power < n)
        power *= 2;
    return power;
}

static const Box *pattern_box(Maker *m, int64_t pattern)
{
    if (!m->has_box[pattern]) {
        m->boxes[pattern] = box_of(&m->arena, &m->forms[m->g->form_of[pattern]], m->g->offset_of[pattern]);
        m->has_box[pattern] = 1;
    }
    return &m->boxes[pattern];
}

/* First and last byte of a partition that a box touches. */
static void row_range(Maker *m, const Box *b, const Tensor *a, int64_t *low, int64_t *high)
{
    const int64_t *shape = &m->g->shapes[a->shape];
    int64_t dims = shape[0], itemsize = shape[dims + 1];
    if (dims != b->dims || dims < 2)
        longjmp(m->arena.failed, UNSUPPORTED);
    int64_t pitch = a->row_B > 1 ? a->row_B : 1;
    *low = *high = 0;
    for (int64_t d = 1; d < dims; d++) {
        int64_t n = d == dims - 1 ? shape[1 + d] * itemsize : shape[1 + d];
        if (n == 0)
            longjmp(m->arena.failed, UNSUPPORTED);
        pitch /= n;
        *low += b->ranges[d].low * pitch;
        *high += b->ranges[d].high * pitch;
    }
}

/* The bytes of a view of a tile placed by hand, in coordinates of the whole memory. */
static const Box *hand_placed_box(Maker *m, int64_t storage, int64_t pattern)
{
    Arena *arena = &m->arena;
    int64_t key = storage * m->g->patterns + pattern + 1;
    if (2 * m->hand_n >= m->hand_mask) {
        int64_t old_mask = m->hand_mask, *old_key = m->hand_key;
        Box **old_box = m->hand_box;
        m->hand_mask = old_mask ? 2 * old_mask + 1 : 255;
        m->hand_key = need_zeroed(arena, (size_t)(m->hand_mask + 1) * sizeof *m->hand_key);
        m->hand_box = need_zeroed(arena, (size_t)(m->hand_mask + 1) * sizeof *m->hand_box);
        for (int64_t s = 0; old_key && s <= old_mask; s++) {
            if (!old_key[s])
                continue;
            int64_t to = (int64_t)((uint64_t)old_key[s] * 11400714819323198485u >> 20) & m->hand_mask;
            while (m->hand_key[to])
                to = (to + 1) & m->hand_mask;
            m->hand_key[to] = old_key[s];
            m->hand_box[to] = old_box[s];
        }
        drop(arena, old_key);
        drop(arena, old_box);
    }
    int64_t slot = (int64_t)((uint64_t)key * 11400714819323198485u >> 20) & m->hand_mask;
    while (m->hand_key[slot]) {
        if (m->hand_key[slot] == key)
            return m->hand_box[slot];
        slot = (slot + 1) & m->hand_mask;
    }
    const Tensor *a = storage_of(m, storage);
    const Box *b = pattern_box(m, pattern);
    int64_t row = a->row_B > 1 ? a->row_B : 1;
    if (b->first < 0)
        longjmp(arena->failed, UNSUPPORTED);
    int64_t p0 = b->first / row, p1 = (b->end - 1) / row;
    int64_t b0 = 0, b1 = row - 1;
    if (p0 == p1) {
        b0 = b->first % row;
        b1 = (b->end - 1) % row;
    }
    if (b->ranges && p0 != p1)
        row_range(m, b, a, &b0, &b1);
    const int64_t wide = 1 << 20;
    Box *made = cut(arena, 6);
    Range *ranges = cut(arena, 6);
    ranges[0] = (Range){a->part + p0, a->part + p1, 1};
    ranges[1] = (Range){a->byte + b0, a->byte + b1, 1};
    *made = (Box){(a->part + p0) * wide + a->byte + b0, (a->part + p1) * wide + a->byte + b1 + 1, ranges, 2};
    m->hand_key[slot] = key;
    m->hand_box[slot] = made;
    m->hand_n++;
    return made;
}

/* rotation --------------------------------------------------------------------------------------------------------- */

static void push_free(Maker *m, Rotation *r, const Free *free)
{
    if (r->n == r->room) {
        Free *larger = need(&m->arena, (size_t)(2 * r->room) * sizeof *larger);
        for (int64_t k = 0; k < r->n; k++)
            larger[k] = r->ring[(r->first + k) & (r->room - 1)];
        drop(&m->arena, r->ring);
        r->ring = larger;
        r->first = 0;
        r->room *= 2;
    }
    r->ring[(r->first + r->n++) & (r->room - 1)] = *free;
}

/* Take bytes; their last users to `out`. Returns how many bytes there were too few. */
static int64_t take(Maker *m, Rotation *r, int64_t size, Numbers *out)
{
    r->left -= size;
    while (size > 0 && r->n) {
        Free *oldest = &r->ring[r->first];
        for (uint32_t left = oldest->users.has; left; left &= left - 1)
            push(&m->arena, out, oldest->users.who[first_bit(left)]);
        if (oldest->size > size) {
            oldest->size -= size;
            return 0;
        }
        size -= oldest->size;
        r->first = (r->first + 1) & (r->room - 1);
        r->n--;
    }
    return size;
}

static void give(Maker *m, Rotation *r, int64_t size, const Users *users)
{
    Free made = {size, *users};
    r->left += size;
    push_free(m, r, &made);
}

/* units ------------------------------------------------------------------------------------------------------------ */

/* What of a split tile lives and dies on its own: its first and last bank. */
static void pieces_of(Maker *m, const Tensor *a, int64_t pattern)
{
    if (m->piece_first[pattern] >= 0)
        return;
    int64_t row = a->row_B > 1 ? a->row_B : 1, low = 0, high = row - 1;
    const Box *b = pattern_box(m, pattern);
    if (b->ranges)
        row_range(m, b, a, &low, &high);
    if (high > row - 1)
        high = row - 1;
    if (low / m->g->bank_B >= PIECES || high / m->g->bank_B >= PIECES)
        longjmp(m->arena.failed, UNSUPPORTED);
    m->piece_first[pattern] = (int8_t)(low / m->g->bank_B);
    m->piece_last[pattern] = (int8_t)(high / m->g->bank_B);
}

static int64_t size_of(Maker *m, int64_t storage, int64_t unit)
{
    const Tensor *a = storage_of(m, storage);
    if (!a->is_split)
        return a->size;
    int64_t bank = m->g->bank_B, rest = a->row_B - bank * (unit - m->unit_of[storage]);
    int64_t made = (rest < bank ? rest : bank) * ((a->parts + 31) / 32);
    /* as Python divides */
    made = made >= 0 ? made / 4 : -((-made + 3) / 4);
    return made > 1 ? made : 1;
}

static int is_automatic(const Tensor *a)
{
    return a->space == SBUF && !a->is_placed;
}

static void use(Users *users, int64_t queue, int64_t who)
{
    users->has |= (uint32_t)1 << queue;
    users->who[queue] = (int32_t)who;
}

static void new_users(Maker *m, int64_t unit)
{
    m->users[unit] = cut(&m->arena, USERS_POWER);
    m->users[unit]->has = 0;
}

/* the program ------------------------------------------------------------------------------------------------------ */

/* Append the edges at hand, each once, in the order of their first. */
static void append_unique(Maker *m, const Numbers *edges)
{
    Arena *arena = &m->arena;
    int64_t begin = m->edge.n;
    if (edges->n <= 24) {
        for (int64_t e = 0; e < edges->n; e++) {
            int64_t value = edges->at[e], k = begin;
            while (k < m->edge.n && m->edge.at[k] != value)
                k++;
            if (k == m->edge.n)
                push_index(arena, &m->edge, value);
        }
        return;
    }
    int64_t mask = at_least(2 * edges->n) - 1;
    if (mask > m->set_mask) {
        drop(arena, m->set);
        m->set_mask = mask;
        m->set = need(arena, (size_t)(mask + 1) * sizeof *m->set);
    }
    memset(m->set, 0xff, (size_t)(mask + 1) * sizeof *m->set); /* -1: no edge is that */
    for (int64_t e = 0; e < edges->n; e++) {
        int64_t value = edges->at[e];
        int64_t slot = (int64_t)((uint64_t)value * 11400714819323198485u >> 20) & mask;
        while (m->set[slot] != -1 && m->set[slot] != value)
            slot = (slot + 1) & mask;
        if (m->set[slot] == -1) {
            m->set[slot] = value;
            push_index(arena, &m->edge, value);
        }
    }
}

static int64_t append_row(Maker *m, int64_t cost, int64_t origin, const Numbers *edges)
{
    Arena *arena = &m->arena;
    if (m->n == m->room) {
        m->room = 2 * m->room;
        m->cost = grow(arena, m->cost, (size_t)m->room * sizeof *m->cost);
    }
    if (m->n >= MOST_INSTRUCTIONS || m->edge.n > INT32_MAX - 2 * edges->n)
        longjmp(arena->failed, UNSUPPORTED);
    m->cost[m->n] = (int32_t)cost;
    push_index(arena, &m->origin, origin);
    push_index(arena, &m->first, m->edge.n);
    append_unique(m, edges);
    return m->n++;
}

static int64_t new_cost(Maker *m, int64_t what, int64_t storage)
{
    push(&m->arena, &m->cost_rows, what);
    push(&m->arena, &m->cost_rows, storage);
    return m->cost_rows.n / 2 - 1;
}

/* The Scalar Engine loads the table of a function after all users of the one before. */
static void load_table(Maker *m, int64_t table)
{
    if (m->table_cost < 0)
        m->table_cost = new_cost(m, TABLE_LOAD, 0);
    for (int64_t u = 0; u < m->table_users.n; u++)
        m->table_users.at[u] = 4 * m->table_users.at[u] + READ;
    m->table_load = append_row(m, m->table_cost, -1, &m->table_users);
    m->table_users.n = 0;
    m->table = table;
}

/* spilling --------------------------------------------------------------------------------------------------------- */

static int64_t spill_cost(Maker *m, int64_t storage, int is_load)
{
    const Tensor *a = storage_of(m, storage);
    m->made->spill_B += a->parts * a->row_B;
    for (int64_t k = 0; k < m->spill_costs.n; k += 4) {
        const int64_t *row = &m->spill_costs.at[k];
        if (row[0] == a->parts && row[1] == a->row_B && row[2] == is_load)
            return row[3];
    }
    int64_t cost = new_cost(m, is_load ? RELOAD : SPILL, storage);
    push(&m->arena, &m->spill_costs, a->parts);
    push(&m->arena, &m->spill_costs, a->row_B);
    push(&m->arena, &m->spill_costs, is_load);
    push(&m->arena, &m->spill_costs, cost);
    return cost;
}

static void leave_list(Maker *m, int64_t storage)
{
    Tile *t = &m->tiles[storage];
    t->is_live = 0;
    if (t->before >= 0)
        m->tiles[t->before].after = t->after;
    else
        m->live_first = t->after;
    if (t->after >= 0)
        m->tiles[t->after].before = t->before;
    else
        m->live_last = t->before;
}

/* To the end of the list: where a dict of Python puts it. */
static void join_list(Maker *m, int64_t storage, int64_t position)
{
    Tile *t = &m->tiles[storage];
    if (t->is_live)
        leave_list(m, storage);
    t->is_live = 1;
    t->used = position;
    t->after = -1;
    t->before = m->live_last;
    if (m->live_last >= 0)
        m->tiles[m->live_last].after = (int32_t)storage;
    else
        m->live_first = (int32_t)storage;
    m->live_last = (int32_t)storage;
}

static int64_t next_use(Maker *m, int64_t storage, int64_t position)
{
    Tile *t = &m->tiles[storage];
    int64_t begin = m->uses_at[storage], n = m->uses_at[storage + 1] - begin;
    while (t->next_use < n && m->uses[begin + t->next_use] <= position)
        t->next_use++;
    return t->next_use < n ? m->uses[begin + t->next_use] : (int64_t)1 << 60;
}

/* The tile that leaves; those that the instruction at hand touches stay. -1: none. */
static int64_t victim(Maker *m, int64_t position)
{
    int64_t best = -1, rank = -1, rank_clean = -1;
    for (int64_t s = m->live_first; s >= 0; s = m->tiles[s].after) {
        Tile *t = &m->tiles[s];
        int is_kept = 0;
        for (int64_t k = 0; k < m->unit_storage.n && !is_kept; k++)
            is_kept = m->unit_storage.at[k] == s;
        if (is_kept)
            continue;
        int64_t clean = t->is_loaded || t->is_saved;
        int64_t found = m->g->farthest ? next_use(m, s, position) : position - t->used;
        if (found > rank || (found == rank && clean > rank_clean)) {
            best = s;
            rank = found;
            rank_clean = clean;
        }
    }
    return best;
}

static void evict(Maker *m, int64_t storage)
{
    Tile *t = &m->tiles[storage];
    const Users *users = m->users[m->unit_of[storage]];
    int64_t size = storage_of(m, storage)->size;
    leave_list(m, storage);
    t->is_away = 1;
    if (t->is_loaded || t->is_saved) {
        t->store = -1;
        give(m, &m->rotation[SBUF], size, users);
        return;
    }
    Numbers after = {NULL, 0, 0};
    int64_t cost = spill_cost(m, storage, 0);
    for (uint32_t left = users->has; left; left &= left - 1)
        push(&m->arena, &after, 4 * (int64_t)users->who[first_bit(left)] + DATA);
    t->store = (int32_t)append_row(m, cost, -1 - storage, &after);
    drop(&m->arena, after.at);
    t->is_saved = 1;
    Users store = {0, {0}};
    use(&store, 0, t->store);
    give(m, &m->rotation[SBUF], size, &store);
}

/* Evict until the bytes of a tile are free, and take them. Whom it then waits for: `freed`. */
static void make_room(Maker *m, int64_t storage, int64_t position)
{
    int64_t size = storage_of(m, storage)->size;
    while (m->rotation[SBUF].left - m->g->spare_B < size) {
        int64_t leaves = victim(m, position);
        if (leaves < 0)
            break;
        evict(m, leaves);
    }
    m->freed.n = 0;
    take(m, &m->rotation[SBUF], size, &m->freed);
}

/* Bring a tile back that an instruction touches. */
static void reload(Maker *m, int64_t storage, int64_t position)
{
    Arena *arena = &m->arena;
    Tile *t = &m->tiles[storage];
    make_room(m, storage, position);
    t->is_away = 0;
    if (t->store >= 0)
        push(arena, &m->freed, t->store);
    int64_t cost = spill_cost(m, storage, 1);
    for (int64_t k = 0; k < m->freed.n; k++)
        m->freed.at[k] = 4 * m->freed.at[k] + BUFFER;
    t->reload = (int32_t)append_row(m, cost, -1 - storage, &m->freed);
    int64_t unit = m->unit_of[storage];
    if (!m->users[unit])
        new_users(m, unit);
    m->users[unit]->has = 0;
    use(m->users[unit], LOAD, t->reload);
}

/* With more live tiles than SBUF holds: bring back what the instruction touches, and make room for what it creates. */
static void reside(Maker *m, int64_t i, const Kind *k, const int64_t *rows)
{
    Arena *arena = &m->arena;
    /* each automatic tile once, in the order of first touch */
    int64_t mine[2 * PIECES];
    int64_t n = 0;
    for (int64_t u = 0; u < m->unit_storage.n; u++) {
        int64_t s = m->unit_storage.at[u], known = 0;
        while (known < n && mine[known] != s)
            known++;
        if (known < n || !is_automatic(storage_of(m, s)))
            continue;
        if (n == 2 * PIECES)
            longjmp(arena->failed, UNSUPPORTED);
        mine[n++] = s;
    }
    for (int64_t t = 0; t < n; t++) {
        int is_back = m->tiles[mine[t]].is_away;
        if (is_back)
            reload(m, mine[t], i);
        if (is_back || m->tiles[mine[t]].is_live)
            join_list(m, mine[t], i);
    }
    for (int64_t t = 0; t < n; t++) {
        Tile *tile = &m->tiles[mine[t]];
        if (tile->reload >= 0)
            push(arena, &m->edges, 4 * (int64_t)tile->reload + DATA);
        int is_born = 0;
        for (int64_t b = 0; b < m->born.n && !is_born; b++)
            is_born = m->unit_row.at[m->born.at[b]] == m->unit_of[mine[t]];
        if (is_born) {
            make_room(m, mine[t], i);
            join_list(m, mine[t], i);
            for (int64_t f = 0; f < m->freed.n; f++)
                push(arena, &m->edges, 4 * m->freed.at[f] + BUFFER);
        }
    }
    for (int64_t o = k->reads; o < k->operands; o++) {
        if (!is_automatic(storage_of(m, rows[o])))
            continue;
        m->tiles[rows[o]].is_saved = 0;
        if (!k->is_load)
            m->tiles[rows[o]].is_loaded = 0;
    }
}

/* one instruction -------------------------------------------------------------------------------------------------- */

/* The first of pairs that are sorted by their first number whose first number is i or more. */
static int64_t first_pair(const int64_t *pairs, int64_t n, int64_t i)
{
    int64_t low = 0, high = n;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (pairs[2 * middle] < i)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* What `depends_on`, `no_reorder` and meetings of cores add. */
static void order(Maker *m, int64_t i, int64_t me, int64_t q)
{
    Arena *arena = &m->arena;
    uint8_t special = m->g->special[i];
    if (special & COMES_AFTER) {
        const int64_t *rows = m->g->explicit_rows;
        int64_t n = m->g->explicit_edges;
        for (int64_t at = first_pair(rows, n, i); at < n && rows[2 * at] == i; at++)
            push(arena, &m->edges, 4 * (int64_t)m->made->place_of[rows[2 * at + 1]] + DATA);
    }
    int64_t window = m->g->window;
    if (window > 0) {
        Numbers *ring = &m->recent[q];
        if (special & MEETS) {
            int64_t n = m->recent_n[q] < window ? m->recent_n[q] : window;
            for (int64_t k = m->recent_n[q] - n; k < m->recent_n[q]; k++)
                push(arena, &m->edges, 4 * ring->at[k % window] + READ);
        }
        if (ring->n < window)
            push(arena, ring, me);
        else
            ring->at[m->recent_n[q] % window] = me;
        m->recent_n[q]++;
    }
    if (special & KEEPS_ORDER) {
        if (m->ordered[q] >= 0)
            push(arena, &m->edges, 4 * m->ordered[q] + READ);
        m->ordered[q] = me;
    }
}

/* A tile comes to life: bytes for it, and whom it waits for. */
static void come_to_life(Maker *m, int64_t storage, int64_t unit, int64_t me)
{
    Arena *arena = &m->arena;
    const Tensor *a = storage_of(m, storage);
    int64_t size = size_of(m, storage, unit), space = a->space;
    m->live_B[space] += size;
    push_index(arena, &m->usage_before[space], me);
    push_index(arena, &m->usage_level[space], m->live_B[space]);
    if (!a->is_placed && m->g->rotate && (!m->g->spills || space == PSUM)) {
        m->freed.n = 0;
        int64_t missing = take(m, &m->rotation[space], size, &m->freed);
        if (missing && space == SBUF)
            m->made->overflow_B += missing;
        for (int64_t f = 0; f < m->freed.n; f++)
            push(arena, &m->edges, 4 * m->freed.at[f] + BUFFER);
    }
}

/* A tile was used for the last time. */
static void die(Maker *m, int64_t storage, int64_t unit, int64_t me)
{
    Arena *arena = &m->arena;
    const Tensor *a = storage_of(m, storage);
    int64_t size = size_of(m, storage, unit), space = a->space;
    m->live_B[space] -= size;
    push_index(arena, &m->usage_before[space], me + 1);
    push_index(arena, &m->usage_level[space], m->live_B[space]);
    Users *users = m->users[unit];
    if (m->g->spills && is_automatic(a)) {
        Tile *t = &m->tiles[storage];
        if (t->is_live) {
            leave_list(m, storage);
            give(m, &m->rotation[SBUF], size, users);
        }
        t->is_away = 0;
    } else if (!a->is_placed && m->g->rotate) {
        give(m, &m->rotation[space], size, users);
    }
    give_back(arena, users, USERS_POWER);
    m->users[unit] = NULL;
}

static void add(Maker *m, int64_t i, const int64_t *touched)
{
    const Given *g = m->g;
    Arena *arena = &m->arena;
    int64_t kind = g->kind[i], cost_kind = kind;
    const Kind *k = &g->kind_rows[kind];
    if (g->special && (g->special[i] & MEETS)) {
        int64_t at = first_pair(g->meeting_rows, g->meetings, i);
        if (at < g->meetings && g->meeting_rows[2 * at] == i)
            cost_kind = g->meeting_rows[2 * at + 1];
    }
    if (k->queue == SCALAR && k->table && k->table != m->table)
        load_table(m, k->table);
    m->edges.n = m->born.n = m->unit_row.n = m->unit_storage.n = 0;
    int64_t rows[PIECES];
    const Tensor *tensors[PIECES];
    if (k->operands > PIECES)
        longjmp(arena->failed, UNSUPPORTED);
    for (int64_t o = 0; o < k->operands; o++) {
        int64_t s = rows[o] = touched[2 * o];
        const Tensor *a = tensors[o] = storage_of(m, s);
        if (a->space == HBM)
            continue;
        int64_t first = 0, last = 0;
        if (a->is_split) {
            pieces_of(m, a, touched[2 * o + 1]);
            first = m->piece_first[touched[2 * o + 1]];
            last = m->piece_last[touched[2 * o + 1]];
        }
        for (int64_t p = first; p <= last; p++) {
            int64_t unit = m->unit_of[s] + p;
            if (!m->users[unit]) {
                new_users(m, unit);
                push(arena, &m->born, m->unit_row.n);
            }
            push(arena, &m->unit_row, unit);
            push(arena, &m->unit_storage, s);
        }
    }
    if (g->spills)
        reside(m, i, k, rows);
    int64_t me = m->n;
    if (g->special)
        m->made->place_of[i] = (int32_t)me;
    m->out.n = 0;
    for (int64_t o = 0; o < k->operands; o++) {
        int64_t store = rows[o];
        const Box *b;
        if (tensors[o]->is_placed) {
            b = hand_placed_box(m, store, touched[2 * o + 1]);
            store = g->storages + tensors[o]->space;
        } else {
            b = pattern_box(m, touched[2 * o + 1]);
        }
        if (o >= k->reads) {
            depend_write(&m->deps, me, store, b, &m->out);
            continue;
        }
        depend_read(&m->deps, me, store, b, &m->out);
        if (o == 0 && k->queue == TENSOR && k->reads > 1 && m->out.n) {
            for (int64_t e = 0; e < m->out.n; e++)
                push(arena, &m->edges, 4 * (m->out.at[e] >> 1) + WEIGHTS);
            m->out.n = 0;
        }
    }
    for (int64_t e = 0; e < m->out.n; e++)
        if (m->out.at[e] >> 1 != me)
            push(arena, &m->edges, 4 * (m->out.at[e] >> 1) + (m->out.at[e] & 1));
    if (g->special)
        order(m, i, me, k->queue);
    for (int64_t b = 0; b < m->born.n; b++)
        come_to_life(m, m->unit_storage.at[m->born.at[b]], m->unit_row.at[m->born.at[b]], me);
    for (int64_t u = 0; u < m->unit_row.n; u++) {
        int64_t unit = m->unit_row.at[u];
        if (!m->users[unit])
            continue;
        use(m->users[unit], k->queue, me);
        if (m->last_use[unit] == i)
            die(m, m->unit_storage.at[u], unit, me);
    }
    if (k->queue == SCALAR && k->table) {
        push(arena, &m->table_users, me);
        push(arena, &m->edges, 4 * m->table_load + READ);
    }
    if (m->cost_of_kind[cost_kind] < 0)
        m->cost_of_kind[cost_kind] = (int32_t)new_cost(m, cost_kind, 0);
    append_row(m, m->cost_of_kind[cost_kind], i, &m->edges);
}

/* loads that wait -------------------------------------------------------------------------------------------------- */

static void add_held(Maker *m, int64_t storage)
{
    int32_t held = m->held_first[storage];
    m->held_first[storage] = m->held_last[storage] = -1;
    m->held_slot[storage] = -1;
    for (; held >= 0; held = m->held_next[held])
        add(m, held, &m->g->touched[m->start[held]]);
}

/* Hold a load from an unwritten tensor back until its tile is first read, and release the ones that this instruction
 * reads. */
static int is_delayed(Maker *m, int64_t i, const int64_t *touched)
{
    const Kind *k = &m->g->kind_rows[m->g->kind[i]];
    int may_wait = k->is_load != 0;
    for (int64_t o = 0; o < k->reads && may_wait; o++)
        may_wait = m->never_written[touched[2 * o]];
    if (k->operands - k->reads == 1) {
        int64_t target = touched[2 * k->reads];
        int64_t unit = m->unit_of[target];
        if ((unit < 0 || !m->users[unit]) && ((may_wait && m->may_sink[target]) || k->is_memset)) {
            if (m->held_first[target] < 0) {
                m->held_first[target] = (int32_t)i;
                m->held_slot[target] = m->held_order.n;
                push(&m->arena, &m->held_order, target);
            } else {
                m->held_next[m->held_last[target]] = (int32_t)i;
            }
            m->held_last[target] = (int32_t)i;
            return 1;
        }
    }
    for (int64_t o = 0; o < k->operands; o++) {
        int64_t s = touched[2 * o];
        if (m->held_first[s] >= 0)
            add_held(m, s);
    }
    return 0;
}

/* tables of the whole ---------------------------------------------------------------------------------------------- */

static void open_storages(Maker *m)
{
    const Given *g = m->g;
    Arena *arena = &m->arena;
    m->tensors = need(arena, (size_t)g->tensors * sizeof *m->tensors + 8);
    for (int64_t f = 0; f < g->tensors; f++) {
        const Storage *a = &g->storage_rows[f];
        int64_t size = a->row_B * ((a->parts + 31) / 32) / 4;
        int is_split = a->space == PSUM && !a->is_placed && a->row_B > g->bank_B;
        m->tensors[f] = (Tensor){a->space, a->parts, a->row_B, a->is_placed, a->part,
                                 a->byte,  a->shape, size > 1 ? size : 1, is_split};
    }
    m->unit_of = need(arena, (size_t)g->storages * sizeof *m->unit_of + 8);
    int any_split = 0;
    for (int64_t s = 0; s < g->storages; s++) {
        m->unit_of[s] = -1;
        if (g->storage_form[s] < 0)
            continue;
        const Tensor *a = storage_of(m, s);
        if (a->space != HBM) {
            m->unit_of[s] = (int32_t)m->units;
            m->units += a->is_split ? PIECES : 1;
            any_split |= a->is_split;
        }
    }
    m->users = need_zeroed(arena, (size_t)m->units * sizeof *m->users + 8);
    m->last_use = need_zeroed(arena, (size_t)m->units * sizeof *m->last_use + 8);
    if (any_split) {
        m->piece_first = need(arena, (size_t)g->patterns + 8);
        m->piece_last = need(arena, (size_t)g->patterns + 8);
        memset(m->piece_first, 0xff, (size_t)g->patterns);
    }
}

static void open_patterns(Maker *m)
{
    const Given *g = m->g;
    Arena *arena = &m->arena;
    m->forms = need(arena, (size_t)g->forms * sizeof *m->forms + 8);
    for (int64_t f = 0; f < g->forms; f++) {
        const int64_t *at = &g->form_data[g->form_at[f]];
        m->forms[f] = (Form){at[0], at[1], at[2], at[3], at + 4, at + 4 + at[0], at + 4 + at[0] + at[3]};
        if (at[0] < 1 || at[0] > MOST_DIMS)
            longjmp(arena->failed, UNSUPPORTED);
    }
    m->boxes = need(arena, (size_t)g->patterns * sizeof *m->boxes + 8);
    m->has_box = need_zeroed(arena, (size_t)g->patterns + 8);
}

/* Who touches what: the last use of each unit, how often each store is written, and with spilling all uses. */
static void open_uses(Maker *m)
{
    const Given *g = m->g;
    Arena *arena = &m->arena;
    int64_t stores = g->storages + SPACES;
    m->deps.arena = arena;
    m->deps.stores = need_zeroed(arena, (size_t)stores * sizeof *m->deps.stores);
    m->deps.writes = need_zeroed(arena, (size_t)stores * sizeof *m->deps.writes);
    if (g->spills) {
        m->start = need(arena, (size_t)g->instructions * sizeof *m->start + 8);
        m->uses_at = need_zeroed(arena, (size_t)(g->storages + 1) * sizeof *m->uses_at);
        m->may_sink = need(arena, (size_t)g->storages + 8);
        m->never_written = need(arena, (size_t)g->storages + 8);
        m->tiles = need_zeroed(arena, (size_t)g->storages * sizeof *m->tiles + 8);
        m->held_first = need(arena, (size_t)g->storages * sizeof *m->held_first + 8);
        m->held_last = need(arena, (size_t)g->storages * sizeof *m->held_last + 8);
        m->held_slot = need(arena, (size_t)g->storages * sizeof *m->held_slot + 8);
        m->held_next = need(arena, (size_t)g->instructions * sizeof *m->held_next + 8);
        memset(m->held_next, 0xff, (size_t)g->instructions * sizeof *m->held_next);
        for (int64_t s = 0; s < g->storages; s++) {
            int is_used = g->storage_form[s] >= 0;
            m->may_sink[s] = (int8_t)(is_used && is_automatic(storage_of(m, s)));
            m->never_written[s] = (int8_t)(is_used && storage_of(m, s)->space == HBM);
            m->tiles[s].reload = -1;
            m->held_first[s] = m->held_last[s] = -1;
            m->held_slot[s] = -1;
        }
        m->live_first = m->live_last = -1;
    }
    int64_t operand = 0;
    for (int64_t i = 0; i < g->instructions; i++) {
        const Kind *k = &g->kind_rows[g->kind[i]];
        if (g->spills)
            m->start[i] = 2 * operand;
        for (int64_t o = 0; o < k->operands; o++, operand++) {
            int64_t s = g->touched[2 * operand], pattern = g->touched[2 * operand + 1];
            if (s < 0 || s >= g->storages || g->storage_form[s] < 0 || pattern < 0 || pattern >= g->patterns)
                longjmp(arena->failed, UNSUPPORTED);
            const Tensor *a = storage_of(m, s);
            if (a->is_split) {
                pieces_of(m, a, pattern);
                for (int64_t p = m->piece_first[pattern]; p <= m->piece_last[pattern]; p++)
                    m->last_use[m->unit_of[s] + p] = (int32_t)i;
            } else if (m->unit_of[s] >= 0) {
                m->last_use[m->unit_of[s]] = (int32_t)i;
            }
            if (g->spills)
                m->uses_at[s + 1]++;
            if (o < k->reads)
                continue;
            m->deps.writes[a->is_placed ? g->storages + a->space : s]++;
            if (g->spills) {
                if (!a->is_placed)
                    m->never_written[s] = 0;
                if (!k->is_load)
                    m->may_sink[s] = 0;
            }
        }
    }
    if (!g->spills)
        return;
    for (int64_t s = 0; s < g->storages; s++) {
        m->uses_at[s + 1] += m->uses_at[s];
        m->tiles[s].is_loaded = m->may_sink[s];
    }
    m->uses = need(arena, (size_t)operand * sizeof *m->uses + 8);
    int64_t *next = need(arena, (size_t)g->storages * sizeof *next + 8);
    memcpy(next, m->uses_at, (size_t)g->storages * sizeof *next);
    operand = 0;
    for (int64_t i = 0; i < g->instructions; i++)
        for (int64_t o = 0; o < g->kind_rows[g->kind[i]].operands; o++, operand++)
            m->uses[next[g->touched[2 * operand]]++] = i;
    drop(arena, next);
}

static void open_program(Maker *m)
{
    const Given *g = m->g;
    Arena *arena = &m->arena;
    if (g->special)
        m->made->place_of = need_zeroed(arena, (size_t)g->instructions * sizeof *m->made->place_of + 8);
    m->room = g->instructions + 16;
    m->cost = need(arena, (size_t)m->room * sizeof *m->cost);
    Indices *columns[] = {&m->first, &m->origin};
    for (int c = 0; c < 2; c++) {
        columns[c]->room = m->room + 1;
        columns[c]->at = need(arena, (size_t)columns[c]->room * sizeof *columns[c]->at);
    }
    m->cost_of_kind = need(arena, (size_t)g->kinds * sizeof *m->cost_of_kind + 8);
    memset(m->cost_of_kind, 0xff, (size_t)g->kinds * sizeof *m->cost_of_kind);
    m->table_load = m->table_cost = -1;
    for (int q = 0; q < MOST_QUEUES; q++)
        m->ordered[q] = -1;
    for (int space = 0; space < 2; space++) {
        Rotation *r = &m->rotation[space];
        r->room = 64;
        r->ring = need(arena, (size_t)r->room * sizeof *r->ring);
        Users nobody = {0, {0}};
        give(m, r, space == SBUF ? g->sbuf_B : g->psum_B, &nobody);
    }
}

static int64_t most(const Indices *levels)
{
    int64_t found = 0;
    for (int64_t k = 0; k < levels->n; k++)
        if (k == 0 || levels->at[k] > found)
            found = levels->at[k];
    return found;
}

static void hand_back(Maker *m)
{
    Arena *arena = &m->arena;
    Made *made = m->made;
    push_index(arena, &m->first, m->edge.n);
    made->n = m->n;
    made->edges = m->edge.n;
    made->costs = m->cost_rows.n / 2;
    made->usage_s = m->usage_before[SBUF].n;
    made->usage_p = m->usage_before[PSUM].n;
    made->peak_s = most(&m->usage_level[SBUF]);
    made->peak_p = most(&m->usage_level[PSUM]);
    made->cost = keep(arena, m->cost);
    made->origin = keep(arena, m->origin.at);
    made->first = keep(arena, m->first.at);
    made->edge = keep(arena, m->edge.at);
    made->cost_rows = keep(arena, m->cost_rows.at);
    made->before_s = keep(arena, m->usage_before[SBUF].at);
    made->level_s = keep(arena, m->usage_level[SBUF].at);
    made->before_p = keep(arena, m->usage_before[PSUM].at);
    made->level_p = keep(arena, m->usage_level[PSUM].at);
    keep(arena, made->place_of);
}

static void make(Maker *m)
{
    const Given *g = m->g;
    open_storages(m);
    open_patterns(m);
    open_uses(m);
    open_program(m);
    int sinks = g->spills && g->sink;
    const int64_t *touched = g->touched;
    for (int64_t i = 0; i < g->instructions; i++) {
        if (!(sinks && is_delayed(m, i, touched)))
            add(m, i, touched);
        touched += 2 * g->kind_rows[g->kind[i]].operands;
    }
    for (int64_t slot = 0; slot < m->held_order.n; slot++) {
        int64_t storage = m->held_order.at[slot];
        if (m->held_slot[storage] == slot)
            add_held(m, storage);
    }
    hand_back(m);
}

/* The whole program. What `made` points at afterwards is freed with clock_free. */
EXPORT int clock_program(const Given *g, Made *made)
{
    memset(made, 0, sizeof *made);
    Maker *m = calloc(1, sizeof *m);
    if (!m)
        return NO_MEMORY;
    m->g = g;
    m->made = made;
    arena_open(&m->arena);
    int status = setjmp(m->arena.failed);
    if (!status)
        make(m);
    else
        memset(made, 0, sizeof *made);
    arena_close(&m->arena);
    free(m);
    return status;
}
