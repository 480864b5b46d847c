/* What the compiler does to a kernel, where it has to look at each instruction in turn: see clock/lower.py for the
 * rules. */
#include "memory.h"

#include <stdlib.h>
#include <string.h>

/* A kind of instruction. reads: operands that it reads, of `operands` in all; is_meant: the question is about it. */
typedef struct {
    int64_t reads, operands, is_meant;
} Kind;

/* A trace. site: of each instruction, its place in the source; sites: how many there are; storage_form: of each
 * number of a storage, its form, -1 where it is not touched; is_free: of each form, whether the question is about it. */
typedef struct {
    int64_t instructions, storages, sites;
    const int32_t *kind;
    const int32_t *site;
    const int64_t *touched;
    const Kind *kind_rows;
    const int32_t *storage_form;
    const uint8_t *is_free;
} Trace;

static int is_free(const Trace *t, int64_t storage)
{
    return t->storage_form[storage] >= 0 && t->is_free[t->storage_form[storage]];
}

/* What an instruction computed, and where: kind, pattern of the result, then storage, version and pattern of each
 * operand. */
typedef struct {
    int64_t target, numbers, site;
    uint64_t hash;
    const int64_t *key;
} Result;

typedef struct {
    Arena arena;
    const Trace *t;
    int32_t *writes, *version;
    int64_t *root;
    uint8_t *gone;
    Result *slots;
    const int64_t **last; /* of each site (from -1, none, on) the key of its last result */
    int64_t mask, results, only_invariant;
} Merger;

static uint64_t hashed(const int64_t *key, int64_t n)
{
    uint64_t h = 1469598103934665603u;
    for (int64_t k = 0; k < n; k++) {
        h ^= (uint64_t)key[k];
        h *= 1099511628211u;
        h ^= h >> 29;
    }
    return h;
}

/* The place of a result with this key: its own, or an empty one. */
static Result *slot_of(Merger *m, const int64_t *key, int64_t n, uint64_t hash)
{
    int64_t at = (int64_t)(hash & (uint64_t)m->mask);
    for (;;) {
        Result *found = &m->slots[at];
        if (!found->key)
            return found;
        if (found->hash == hash && found->numbers == n && !memcmp(found->key, key, (size_t)n * sizeof *key))
            return found;
        at = (at + 1) & m->mask;
    }
}

static void make_room(Merger *m)
{
    Result *old = m->slots;
    int64_t old_mask = m->mask;
    m->mask = old ? 2 * old_mask + 1 : 255;
    m->slots = need_zeroed(&m->arena, (size_t)(m->mask + 1) * sizeof *m->slots);
    for (int64_t s = 0; old && s <= old_mask; s++)
        if (old[s].key)
            *slot_of(m, old[s].key, old[s].numbers, old[s].hash) = old[s];
    drop(&m->arena, old);
}

/* Whether the result of an instruction is there already, in a tile that then stands for its own. */
static int is_merged(Merger *m, int64_t kind, int64_t site, const int64_t *touched)
{
    enum { MOST = 8 };
    const Kind *k = &m->t->kind_rows[kind];
    int64_t target = touched[2 * k->reads], key[2 + 3 * MOST], n = 0;
    if (m->writes[target] != 1 || !is_free(m->t, target))
        return 0;
    if (k->reads > MOST)
        longjmp(m->arena.failed, UNSUPPORTED);
    key[n++] = kind;
    key[n++] = touched[2 * k->reads + 1];
    int reads_target = 0;
    for (int64_t o = 0; o < k->reads; o++) {
        int64_t s = m->root[touched[2 * o]];
        key[n++] = s;
        key[n++] = m->version[s];
        key[n++] = touched[2 * o + 1];
        reads_target |= s == target;
    }
    if (2 * m->results >= m->mask)
        make_room(m);
    uint64_t hash = hashed(key, n);
    Result *found = slot_of(m, key, n, hash);
    int reachable = found->key && (!m->only_invariant || found->site != site || m->last[site] == found->key);
    if (!found->key) {
        int64_t *kept = need(&m->arena, (size_t)n * sizeof *kept);
        memcpy(kept, key, (size_t)n * sizeof *kept);
        *found = (Result){target, n, site, hash, kept};
        m->results++;
    }
    m->last[site] = found->key;
    if (reachable && !reads_target) {
        m->root[target] = found->target;
        return 1;
    }
    found->target = target;
    found->site = site;
    return 0;
}

static void merge(Merger *m)
{
    const Trace *t = m->t;
    Arena *arena = &m->arena;
    m->writes = need_zeroed(arena, (size_t)t->storages * sizeof *m->writes + 8);
    m->version = need_zeroed(arena, (size_t)t->storages * sizeof *m->version + 8);
    m->last = need_zeroed(arena, ((size_t)t->sites + 1) * sizeof *m->last);
    make_room(m);
    for (int64_t s = 0; s < t->storages; s++)
        m->root[s] = s;
    const int64_t *touched = t->touched;
    for (int64_t i = 0; i < t->instructions; i++) {
        const Kind *k = &t->kind_rows[t->kind[i]];
        for (int64_t o = 0; o < k->operands; o++, touched += 2) {
            if (touched[0] < 0 || touched[0] >= t->storages)
                longjmp(arena->failed, UNSUPPORTED);
            if (o >= k->reads)
                m->writes[touched[0]]++;
        }
    }
    touched = t->touched;
    for (int64_t i = 0; i < t->instructions; i++) {
        const Kind *k = &t->kind_rows[t->kind[i]];
        if (t->site[i] < -1 || t->site[i] >= t->sites)
            longjmp(arena->failed, UNSUPPORTED);
        if (k->is_meant && k->operands > k->reads)
            m->gone[i] = (uint8_t)is_merged(m, t->kind[i], t->site[i] + 1, touched);
        for (int64_t o = k->reads; o < k->operands; o++)
            m->version[touched[2 * o]]++;
        touched += 2 * k->operands;
    }
}

/* Of kinds that may be left out, and tiles that are not placed by hand. only_invariant: a statement's own earlier
 * results count only where it gave the same the last time; root: of each storage, the storage that holds
 * the same values; gone: of each instruction, whether it is left out (starts as zero). */
EXPORT int clock_merged(const Trace *t, int64_t only_invariant, int64_t *root, uint8_t *gone)
{
    Merger *m = calloc(1, sizeof *m);
    if (!m)
        return NO_MEMORY;
    m->t = t;
    m->root = root;
    m->gone = gone;
    m->only_invariant = only_invariant;
    arena_open(&m->arena);
    int status = setjmp(m->arena.failed);
    if (!status)
        merge(m);
    arena_close(&m->arena);
    free(m);
    return status;
}

/* The kind of each instruction, where a free one goes to the Scalar Engine as long as that has less to do than the
 * Vector Engine. other: of each kind, the one on the Scalar Engine, -1 where it is not free; occupancy: of each kind;
 * engine: of each kind, 0 the Vector Engine, 1 the Scalar Engine, -1 another. */
EXPORT int clock_balanced(int64_t instructions, const int32_t *kind, const int64_t *other, const int64_t *occupancy,
                          const int64_t *engine, int32_t *out)
{
    int64_t busy[2] = {0, 0};
    for (int64_t i = 0; i < instructions; i++) {
        int64_t k = kind[i];
        if (other[k] >= 0 && busy[1] + occupancy[other[k]] < busy[0] + occupancy[k])
            k = other[k];
        if (engine[k] >= 0)
            busy[engine[k]] += occupancy[k];
        out[i] = (int32_t)k;
    }
    return DONE;
}

/* Tiles that begin anew: how many, and of which storage each one is the next. */
typedef struct {
    int64_t n;
    int64_t *after;
} Renewed;

typedef struct {
    Arena arena;
    const Trace *t;
    Numbers after;
    uint8_t *seen, *writes; /* of each storage: whether it was touched; how often it is written, 2 for more than once */
    int64_t *now;
} Renewal;

static int reads_it(const Kind *k, const int64_t *touched, int64_t storage)
{
    for (int64_t o = 0; o < k->reads; o++)
        if (touched[2 * o] == storage)
            return 1;
    return 0;
}

static void renew(Renewal *r, const uint8_t *is_whole, int64_t *changed)
{
    const Trace *t = r->t;
    Arena *arena = &r->arena;
    r->seen = need_zeroed(arena, (size_t)t->storages + 8);
    r->writes = need_zeroed(arena, (size_t)t->storages + 8);
    r->now = need(arena, (size_t)t->storages * sizeof *r->now + 8);
    for (int64_t s = 0; s < t->storages; s++)
        r->now[s] = s;
    const int64_t *touched = t->touched;
    for (int64_t i = 0; i < t->instructions; i++) {
        const Kind *k = &t->kind_rows[t->kind[i]];
        for (int64_t o = 0; o < k->operands; o++, touched += 2) {
            if (touched[0] < 0 || touched[0] >= t->storages)
                longjmp(arena->failed, UNSUPPORTED);
            if (o >= k->reads && r->writes[touched[0]] < 2)
                r->writes[touched[0]]++;
        }
    }
    touched = t->touched;
    for (int64_t i = 0; i < t->instructions; i++) {
        const Kind *k = &t->kind_rows[t->kind[i]];
        for (int64_t o = 0; o < k->operands; o++) {
            int64_t s = touched[2 * o];
            if (o >= k->reads && k->is_meant && r->seen[s] && r->writes[s] > 1 && is_free(t, s) && is_whole[touched[2 * o + 1]]
                && !reads_it(k, touched, s)) {
                r->now[s] = t->storages + r->after.n;
                push(arena, &r->after, s);
            }
            r->seen[s] = 1;
            changed[2 * o] = r->now[s];
        }
        touched += 2 * k->operands;
        changed += 2 * k->operands;
    }
}

/* Of kinds that may overwrite a tile, and tiles that may begin anew. changed: a copy of `touched`, which gets the
 * numbers of the new storages, from t->storages on; is_whole: of each pattern, whether it holds every byte of its
 * storage. `out->after` is freed with clock_free. */
EXPORT int clock_renewed(const Trace *t, const uint8_t *is_whole, int64_t *changed, Renewed *out)
{
    memset(out, 0, sizeof *out);
    Renewal *r = calloc(1, sizeof *r);
    if (!r)
        return NO_MEMORY;
    r->t = t;
    arena_open(&r->arena);
    int status = setjmp(r->arena.failed);
    if (!status) {
        renew(r, is_whole, changed);
        out->n = r->after.n;
        out->after = keep(&r->arena, r->after.at);
    }
    arena_close(&r->arena);
    free(r);
    return status;
}
