/* The prefix cache of a replica, in blocks: cache.py. Names that are neither used nor idle are forgotten. */
#include "traffic.h"

#include <stdlib.h>
#include <string.h>

static void clear(Cache *cache)
{
    cache->used = cache->changes = 0;
    cache->idle = (Line){-1, -1, 0};
    cache->spare = -1;
    for (int64_t i = 0; i < cache->room; i++) {
        cache->blocks[i].idle_after = cache->spare;
        cache->spare = (int32_t)i;
    }
    if (cache->table)
        memset(cache->table, -1, (size_t)(cache->mask + 1) * sizeof *cache->table);
}

void cache_open(Cache *cache, Escape *escape, int64_t each, const Tiering *tiering)
{
    memset(cache, 0, sizeof *cache);
    cache->escape = escape;
    cache->each = each;
    names_open(&cache->coming, escape);
    clear(cache);
    cache->tiers = grown(escape, NULL, (size_t)tiering->n_tiers * sizeof *cache->tiers);
    for (; cache->n_tiers < tiering->n_tiers; cache->n_tiers++)
        store_open(&cache->tiers[cache->n_tiers], escape, &tiering->tiers[cache->n_tiers]);
}

/* PrefixCache.lost */
void cache_lose(Cache *cache)
{
    for (int64_t k = 0; k < cache->n_tiers; k++)
        if (!cache->tiers[k].tier->stays)
            names_clear(&cache->tiers[k].names);
    names_clear(&cache->coming);
    clear(cache);
}

void cache_close(Cache *cache)
{
    for (int64_t k = 0; k < cache->n_tiers; k++)
        store_close(&cache->tiers[k]);
    names_close(&cache->coming);
    free(cache->tiers);
    free(cache->away);
    free(cache->blocks);
    free(cache->table);
    cache->blocks = NULL;
    cache->table = NULL;
}

static inline int64_t home(const Cache *cache, int64_t name)
{
    uint64_t x = (uint64_t)name * UINT64_C(0x9E3779B97F4A7C15);
    return (int64_t)(x >> 32 ^ x) & cache->mask;
}

static int32_t find(const Cache *cache, int64_t name)
{
    if (!cache->table)
        return -1;
    for (int64_t at = home(cache, name);; at = (at + 1) & cache->mask) {
        int32_t found = cache->table[at];
        if (found < 0 || cache->blocks[found].name == name)
            return found;
    }
}

static void file(Cache *cache, int32_t block)
{
    int64_t at = home(cache, cache->blocks[block].name);
    while (cache->table[at] >= 0)
        at = (at + 1) & cache->mask;
    cache->table[at] = block;
}

static int32_t added(Cache *cache, int64_t name)
{
    if (cache->spare < 0) {
        int64_t old = cache->room, room = old ? 2 * old : 64;
        cache->blocks = grown(cache->escape, cache->blocks, (size_t)room * sizeof *cache->blocks);
        cache->table = grown(cache->escape, cache->table, (size_t)(2 * room) * sizeof *cache->table);
        cache->room = room;
        cache->mask = 2 * room - 1;
        memset(cache->table, -1, (size_t)(2 * room) * sizeof *cache->table);
        for (int64_t i = 0; i < old; i++)
            file(cache, (int32_t)i); /* all of the old ones are held, else one were spare */
        for (int64_t i = room - 1; i >= old; i--) {
            cache->blocks[i].idle_after = cache->spare;
            cache->spare = (int32_t)i;
        }
    }
    int32_t block = cache->spare;
    cache->spare = cache->blocks[block].idle_after;
    cache->blocks[block] = (Named){.name = name, .idle_before = -1, .idle_after = -1};
    file(cache, block);
    return block;
}

/* Forget a name that is nowhere any more. */
static void forget(Cache *cache, int32_t block)
{
    Named *b = &cache->blocks[block];
    if (b->used || b->is_idle)
        return;
    int64_t hole = home(cache, b->name);
    while (cache->table[hole] != block)
        hole = (hole + 1) & cache->mask;
    for (int64_t at = hole;;) {
        at = (at + 1) & cache->mask;
        int32_t other = cache->table[at];
        if (other < 0)
            break;
        int64_t own = home(cache, cache->blocks[other].name);
        if (((at - own) & cache->mask) >= ((at - hole) & cache->mask)) {
            cache->table[hole] = other;
            hole = at;
        }
    }
    cache->table[hole] = -1;
    b->idle_after = cache->spare;
    cache->spare = block;
}

static void idle_in(Cache *cache, int32_t block)
{
    Named *b = &cache->blocks[block];
    b->is_idle = 1;
    b->idle_before = cache->idle.last;
    b->idle_after = -1;
    if (cache->idle.last >= 0)
        cache->blocks[cache->idle.last].idle_after = block;
    else
        cache->idle.first = block;
    cache->idle.last = block;
    cache->idle.count++;
}

static void idle_out(Cache *cache, int32_t block)
{
    Named *b = &cache->blocks[block];
    if (b->idle_before >= 0)
        cache->blocks[b->idle_before].idle_after = b->idle_after;
    else
        cache->idle.first = b->idle_after;
    if (b->idle_after >= 0)
        cache->blocks[b->idle_after].idle_before = b->idle_before;
    else
        cache->idle.last = b->idle_before;
    b->is_idle = 0;
    cache->idle.count--;
}

static inline int is_here(const Cache *cache, int64_t name)
{
    int32_t block = find(cache, name);
    return block >= 0 && (cache->blocks[block].used || cache->blocks[block].is_idle);
}

/* PrefixCache.found: how many follow the leading ones, which are in `away`. */
int64_t cache_found(Cache *cache, const int64_t *names, int64_t count, double now, int64_t *here)
{
    int64_t i = 0, n = 0;
    while (i < count && is_here(cache, names[i]))
        i++;
    *here = i;
    if (!cache->n_tiers)
        return 0;
    if (count > cache->away_room) {
        cache->away = grown(cache->escape, cache->away, (size_t)count);
        cache->away_room = count;
    }
    for (; i < count; i++) {
        int8_t where = is_here(cache, names[i]) ? 0 : -1;
        for (int64_t k = 1; where < 0 && k <= cache->n_tiers; k++) {
            const Store *store = &cache->tiers[k - 1];
            if (store_has(store, names[i], now) ||
                (k == 1 && names_find(&cache->coming, names[i]) && names_find(&store->names, names[i])))
                where = (int8_t)k;
        }
        if (where < 0)
            break;
        cache->away[n++] = where;
    }
    return n;
}

double cache_wait_s(Cache *cache, const int64_t *names, int64_t count, double now)
{
    Names *coming = &cache->coming;
    if (!coming->count)
        return now;
    double end = now;
    for (int64_t i = 0; i < count; i++) {
        const Kept *found = names_find(coming, names[i]);
        if (found)
            end = most(end, found->ready_s);
    }
    for (int32_t at = coming->first; at >= 0;) {
        int32_t next = coming->all[at].after;
        if (coming->all[at].ready_s <= now)
            names_drop(coming, coming->all[at].name);
        at = next;
    }
    return end;
}

int64_t cache_new_blocks(const Cache *cache, const int64_t *names, int64_t count)
{
    int64_t fresh = 0;
    for (int64_t i = 0; i < count; i++) {
        int32_t block = find(cache, names[i]);
        fresh += block < 0 || !cache->blocks[block].used;
    }
    return cache->each * fresh;
}

/* PrefixCache._put */
void cache_put(Cache *cache, int64_t tier, int64_t name, double now)
{
    int64_t gone;
    if (store_put(&cache->tiers[tier], name, now, &gone))
        cache_evicted(cache, tier, gone, now);
}

void cache_evicted(Cache *cache, int64_t tier, int64_t name, double now)
{
    if (tier + 1 < cache->n_tiers && cache->tiers[tier + 1].tier->write == EVICTION)
        cache_put(cache, tier + 1, name, now);
}

static void use(Cache *cache, const int64_t *names, int64_t count)
{
    cache->changes++;
    for (int64_t i = 0; i < count; i++) {
        int32_t block = find(cache, names[i]);
        if (block < 0)
            block = added(cache, names[i]);
        if (!cache->blocks[block].used++)
            cache->used++;
        if (cache->blocks[block].is_idle)
            idle_out(cache, block);
    }
}

static void through(Cache *cache, const int64_t *names, int64_t count, double now)
{
    for (int64_t k = 0; k < cache->n_tiers; k++)
        if (cache->tiers[k].tier->write == THROUGH)
            for (int64_t i = count - 1; i >= 0; i--)
                cache_put(cache, k, names[i], now);
}

void cache_take(Cache *cache, const int64_t *names, int64_t count, double now)
{
    use(cache, names, count);
    for (int64_t k = 0; k < cache->n_tiers; k++) {
        for (int64_t i = count - 1; i >= 0; i--)
            names_touch(&cache->tiers[k].names, names[i]);
        if (cache->tiers[k].tier->write == SECOND_USE)
            for (int64_t i = 0; i < count; i++)
                cache_put(cache, k, names[i], now);
    }
}

void cache_add(Cache *cache, const int64_t *names, int64_t count, double now)
{
    use(cache, names, count);
    through(cache, names, count, now);
}

void cache_release(Cache *cache, const int64_t *names, int64_t count, int64_t computed)
{
    cache->changes++;
    for (int64_t i = count - 1; i >= 0; i--) {
        int32_t block = find(cache, names[i]);
        if (!--cache->blocks[block].used) {
            cache->used--;
            if (i < computed)
                idle_in(cache, block);
            else {
                names_drop(&cache->coming, names[i]);
                forget(cache, block);
            }
        }
    }
}

/* PrefixCache.keep */
void cache_retain(Cache *cache, const int64_t *names, int64_t count, double now)
{
    cache->changes++;
    for (int64_t i = count - 1; i >= 0; i--) {
        int32_t block = find(cache, names[i]);
        if (block < 0)
            block = added(cache, names[i]);
        if (cache->blocks[block].used)
            continue;
        if (cache->blocks[block].is_idle)
            idle_out(cache, block);
        idle_in(cache, block);
    }
    through(cache, names, count, now);
}

void cache_shrink(Cache *cache, int64_t room, double now)
{
    int64_t at_most = most_of(0, room) / cache->each;
    if (cache->idle.count <= at_most)
        return;
    cache->changes++;
    int writes = cache->n_tiers && cache->tiers[0].tier->write == EVICTION;
    while (cache->idle.count > at_most) {
        int32_t block = cache->idle.first;
        int64_t name = cache->blocks[block].name;
        idle_out(cache, block);
        forget(cache, block);
        if (writes)
            cache_put(cache, 0, name, now);
    }
}
