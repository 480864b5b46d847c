/* Edges between instructions from the bytes that they touch: see clock/depend.py for the rules; names and order are
 * the same. */
#include "depend.h"

#include <string.h>

/* Entries of an allocation that are compared one by one; beyond, a grid over its coordinates finds the ones to
 * compare. */
enum { FEW = 12, MOST_CELLS = 16 };

/* The entries of an allocation that touch one cell of its grid. */
typedef struct {
    int64_t key[MOST_DIMS];
    Entries writers, readers;
} Cell;

/* cells: in the order in which they were made, as a dict of Python keeps them; slots: cell + 1 by the hash of its
 * key; outside: of views that fit no cells, made at its turn among the cells. */
struct Grid {
    int dims;
    int64_t size[MOST_DIMS];
    Cell **cells;
    int32_t n, room;
    int32_t *slots;
    int32_t mask;
    int32_t outside; /* its number + 1; 0: not made */
};

Box box_of(Arena *arena, const Form *f, int64_t offset)
{
    Box made = {0, f->itemsize, NULL, (int)f->dims};
    int n = (int)f->dims;
    for (int d = 0; d < n; d++)
        made.end *= f->shape[d];
    if (offset == ANYWHERE)
        return made;
    int64_t pitch[MOST_DIMS], size[MOST_DIMS] = {0};
    int64_t step = f->itemsize;
    for (int d = n - 1; d >= 0; d--) {
        pitch[d] = step;
        size[d] = f->shape[d];
        step *= f->shape[d];
    }
    /* the innermost dimension counts bytes */
    size[n - 1] *= f->itemsize;
    pitch[n - 1] = 1;
    int fits = offset >= 0;
    int64_t first = offset * f->bytes, last = first, at = first;
    Range *ranges = NULL;
    if (fits) {
        int power = 3;
        while (((size_t)1 << power) < (size_t)n * sizeof(Range))
            power++;
        ranges = cut(arena, power);
        for (int d = 0; d < n; d++) {
            if (pitch[d] == 0)
                longjmp(arena->failed, UNSUPPORTED);
            ranges[d] = (Range){at / pitch[d], at / pitch[d], 1};
            at %= pitch[d];
        }
    }
    for (int64_t v = 0; v < f->view_dims; v++) {
        int64_t count = f->counts[v], stride = f->strides[v];
        if (count == 1 || stride == 0)
            continue;
        int64_t s = stride * f->bytes;
        if (s < 0) {
            fits = 0;
            first += (count - 1) * s;
            continue;
        }
        last += (count - 1) * s;
        if (!fits)
            continue;
        int d = 0;
        while (d < n && !(pitch[d] <= s && s % pitch[d] == 0))
            d++;
        if (d == n) {
            fits = 0;
            continue;
        }
        int64_t k = s / pitch[d];
        ranges[d].step = ranges[d].low == ranges[d].high && k > 1 && d < n - 1 ? k : 1;
        ranges[d].high += (count - 1) * k;
    }
    if (fits) {
        ranges[n - 1].high += f->bytes - 1;
        for (int d = 0; d < n; d++)
            if (ranges[d].high >= size[d])
                fits = 0;
    }
    made.first = first;
    made.end = last + f->bytes;
    made.ranges = fits ? ranges : NULL;
    return made;
}

/* True where two views of one allocation share bytes. */
static int meet(Arena *arena, const Box *a, const Box *b)
{
    if (a->first >= b->end || b->first >= a->end)
        return 0;
    if (!a->ranges || !b->ranges)
        return 1;
    if (a->dims != b->dims)
        longjmp(arena->failed, UNSUPPORTED);
    for (int d = 0; d < a->dims; d++) {
        const Range *x = &a->ranges[d], *y = &b->ranges[d];
        if (x->low > y->high || y->low > x->high)
            return 0;
        if (x->step > 1 && x->step == y->step && (x->low - y->low) % x->step)
            return 0;
    }
    return 1;
}

/* True where view a holds all bytes of view b. */
static int covers(const Box *a, const Box *b)
{
    if (!a->ranges || !b->ranges)
        return 0;
    for (int d = 0; d < a->dims; d++) {
        const Range *x = &a->ranges[d], *y = &b->ranges[d];
        if (x->low > y->low || x->high < y->high)
            return 0;
        if (x->step > 1 && !(x->step == y->step && x->low % x->step == y->low % y->step))
            return 0;
    }
    return 1;
}

static void append(Arena *arena, Entries *list, int64_t who, const Box *box)
{
    if (!list->power || (size_t)list->n * sizeof(Entry) == (size_t)1 << list->power) {
        int power = list->power ? list->power + 1 : 4; /* 2^4 bytes: one entry, which is enough for most tiles */
        size_t used = (size_t)list->n * sizeof(Entry);
        if (power <= 15) {
            Entry *larger = cut(arena, power);
            if (list->power) {
                memcpy(larger, list->at, used);
                give_back(arena, list->at, list->power);
            }
            list->at = larger;
        } else if (list->power == 15) {
            Entry *larger = need(arena, (size_t)1 << power);
            memcpy(larger, list->at, used);
            give_back(arena, list->at, list->power);
            list->at = larger;
        } else {
            list->at = grow(arena, list->at, (size_t)1 << power);
        }
        list->power = power;
    }
    list->at[list->n++] = (Entry){who, box};
}

/* Edges to the entries that meet b; those that b covers entirely are gone. */
static void overwrite(Arena *arena, Entries *list, const Box *b, Numbers *out, int needed)
{
    int32_t kept = 0;
    for (int32_t e = 0; e < list->n; e++) {
        Entry entry = list->at[e];
        if (entry.box == b) {
            push(arena, out, 2 * entry.who + needed);
            continue;
        }
        if (meet(arena, entry.box, b)) {
            push(arena, out, 2 * entry.who + needed);
            if (covers(b, entry.box))
                continue;
        }
        list->at[kept++] = entry;
    }
    list->n = kept;
}

/* Cells of the grid that a box touches: their keys. Returns how many; -1: too many, or the view is no box. */
static int cells_of(Arena *arena, const Grid *g, const Box *b, int64_t keys[MOST_CELLS][MOST_DIMS])
{
    if (!b->ranges)
        return -1;
    if (b->dims != g->dims)
        longjmp(arena->failed, UNSUPPORTED);
    int64_t first[MOST_DIMS], count[MOST_DIMS];
    int n = 1;
    for (int d = 0; d < g->dims; d++) {
        first[d] = b->ranges[d].low / g->size[d];
        count[d] = b->ranges[d].high / g->size[d] - first[d] + 1;
        if (count[d] * n > MOST_CELLS)
            return -1;
        n *= (int)count[d];
    }
    for (int c = 0; c < n; c++) {
        int64_t rest = c; /* the last dimension is the fastest */
        for (int d = g->dims - 1; d >= 0; d--) {
            keys[c][d] = first[d] + rest % count[d];
            rest /= count[d];
        }
    }
    return n;
}

static uint64_t hashed(const int64_t *key, int dims)
{
    uint64_t h = 1469598103934665603u;
    for (int d = 0; d < dims; d++) {
        h ^= (uint64_t)key[d];
        h *= 1099511628211u;
        h ^= h >> 29;
    }
    return h;
}

static Cell *new_cell(Arena *arena, Grid *g)
{
    if (g->n == g->room) {
        g->room = g->room ? 2 * g->room : 16;
        g->cells = grow(arena, g->cells, (size_t)g->room * sizeof *g->cells);
    }
    int power = 3;
    while (((size_t)1 << power) < sizeof(Cell))
        power++;
    Cell *made = cut(arena, power);
    made->writers = made->readers = (Entries){NULL, 0, 0};
    g->cells[g->n++] = made;
    return made;
}

/* The cell of a key (NULL: of views that fit no cells); make: where it is not there, it is made. */
static Cell *cell_at(Arena *arena, Grid *g, const int64_t *key, int make)
{
    if (!key) {
        if (!g->outside && make) {
            new_cell(arena, g);
            g->outside = g->n;
        }
        return g->outside ? g->cells[g->outside - 1] : NULL;
    }
    size_t bytes = (size_t)g->dims * sizeof *key;
    uint64_t slot = hashed(key, g->dims) & (uint64_t)g->mask;
    while (g->slots[slot]) {
        Cell *found = g->cells[g->slots[slot] - 1];
        if (!memcmp(found->key, key, bytes))
            return found;
        slot = (slot + 1) & (uint64_t)g->mask;
    }
    if (!make)
        return NULL;
    Cell *made = new_cell(arena, g);
    memcpy(made->key, key, bytes);
    g->slots[slot] = g->n;
    if (2 * g->n > g->mask) {
        drop(arena, g->slots);
        g->mask = 2 * g->mask + 1;
        g->slots = need_zeroed(arena, ((size_t)g->mask + 1) * sizeof *g->slots);
        for (int32_t c = 0; c < g->n; c++) {
            if (c + 1 == g->outside)
                continue;
            uint64_t s = hashed(g->cells[c]->key, g->dims) & (uint64_t)g->mask;
            while (g->slots[s])
                s = (s + 1) & (uint64_t)g->mask;
            g->slots[s] = c + 1;
        }
    }
    return made;
}

static void put(Arena *arena, Grid *g, int64_t keys[MOST_CELLS][MOST_DIMS], int n, int64_t who, const Box *b,
                int is_write)
{
    for (int c = 0; c < (n < 0 ? 1 : n); c++) {
        Cell *cell = cell_at(arena, g, n < 0 ? NULL : keys[c], 1);
        append(arena, is_write ? &cell->writers : &cell->readers, who, b);
    }
}

/* Put the entries of an allocation on a grid with cells of the size of b. */
static void spread(Arena *arena, Store *s, const Box *b)
{
    for (int list = 0; list < 2 && !b->ranges; list++) {
        Entries *entries = list ? &s->readers : &s->writers;
        for (int32_t e = 0; e < entries->n && !b->ranges; e++)
            if (entries->at[e].box->ranges)
                b = entries->at[e].box;
    }
    if (!b->ranges)
        return;
    Grid *g = s->grid = need_zeroed(arena, sizeof(Grid));
    g->dims = b->dims;
    for (int d = 0; d < g->dims; d++)
        g->size[d] = b->ranges[d].high - b->ranges[d].low + 1;
    g->mask = 31;
    g->slots = need_zeroed(arena, ((size_t)g->mask + 1) * sizeof *g->slots);
    int64_t keys[MOST_CELLS][MOST_DIMS];
    for (int list = 0; list < 2; list++) {
        Entries *entries = list ? &s->readers : &s->writers;
        for (int32_t e = 0; e < entries->n; e++) {
            const Entry *entry = &entries->at[e];
            put(arena, g, keys, cells_of(arena, g, entry->box, keys), entry->who, entry->box, !list);
        }
    }
    s->writers.n = s->readers.n = 0;
}

static Store *new_store(Dependencies *d, int64_t store)
{
    Store *s = d->stores[store] = cut(d->arena, 6);
    *s = (Store){{NULL, 0, 0}, {NULL, 0, 0}, NULL};
    return s;
}

static void meet_writers(Arena *arena, const Cell *cell, const Box *b, Numbers *out)
{
    for (int32_t e = 0; e < cell->writers.n; e++)
        if (meet(arena, cell->writers.at[e].box, b))
            push(arena, out, 2 * cell->writers.at[e].who + 1);
}

void depend_read(Dependencies *d, int64_t i, int64_t store, const Box *b, Numbers *out)
{
    Arena *arena = d->arena;
    Store *s = d->stores[store];
    if (!s) {
        if (!d->writes[store])
            return;
        s = new_store(d, store);
    }
    if (!s->grid) {
        for (int32_t e = 0; e < s->writers.n; e++) {
            const Entry *w = &s->writers.at[e];
            if (w->box == b || meet(arena, w->box, b))
                push(arena, out, 2 * w->who + 1);
        }
        if (d->writes[store] > 0) {
            append(arena, &s->readers, i, b);
            if (s->readers.n > FEW)
                spread(arena, s, b);
        }
        return;
    }
    Grid *g = s->grid;
    int64_t keys[MOST_CELLS][MOST_DIMS];
    int n = cells_of(arena, g, b, keys);
    if (n < 0) {
        for (int32_t c = 0; c < g->n; c++)
            meet_writers(arena, g->cells[c], b, out);
    } else {
        for (int c = 0; c <= n; c++) {
            const Cell *cell = cell_at(arena, g, c < n ? keys[c] : NULL, 0);
            if (cell)
                meet_writers(arena, cell, b, out);
        }
    }
    if (d->writes[store] > 0)
        put(arena, g, keys, n, i, b, 0);
}

static void overwrite_cell(Arena *arena, Cell *cell, const Box *b, Numbers *out)
{
    overwrite(arena, &cell->writers, b, out, 1);
    overwrite(arena, &cell->readers, b, out, 0);
}

void depend_write(Dependencies *d, int64_t i, int64_t store, const Box *b, Numbers *out)
{
    Arena *arena = d->arena;
    d->writes[store]--;
    Store *s = d->stores[store];
    if (!s) {
        append(arena, &new_store(d, store)->writers, i, b);
        return;
    }
    if (!s->grid) {
        overwrite(arena, &s->writers, b, out, 1);
        overwrite(arena, &s->readers, b, out, 0);
        append(arena, &s->writers, i, b);
        if (s->writers.n > FEW)
            spread(arena, s, b);
        return;
    }
    Grid *g = s->grid;
    int64_t keys[MOST_CELLS][MOST_DIMS];
    int n = cells_of(arena, g, b, keys);
    if (n < 0) {
        for (int32_t c = 0; c < g->n; c++)
            overwrite_cell(arena, g->cells[c], b, out);
    } else {
        for (int c = 0; c <= n; c++) {
            Cell *cell = cell_at(arena, g, c < n ? keys[c] : NULL, 0);
            if (cell)
                overwrite_cell(arena, cell, b, out);
        }
    }
    put(arena, g, keys, n, i, b, 1);
}
