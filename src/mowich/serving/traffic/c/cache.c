/* The prefix cache of a replica, in blocks: cache.py. Names that are neither used, nor idle, nor in host memory are
 * forgotten. */
#include "traffic.h"

#include <stdlib.h>
#include <string.h>

void cache_open(Cache *cache, Escape *escape, int64_t each, int64_t host_limit)
{
    memset(cache, 0, sizeof *cache);
    cache->escape = escape;
    cache->each = each;
    cache->host_limit = host_limit;
    cache_clear(cache);
}

void cache_clear(Cache *cache)
{
    cache->used = 0;
    cache->idle = cache->host = (Line){-1, -1, 0};
    cache->spare = -1;
    for (int64_t i = 0; i < cache->room; i++) {
        cache->blocks[i].idle_after = cache->spare;
        cache->spare = (int32_t)i;
    }
    if (cache->table)
        memset(cache->table, -1, (size_t)(cache->mask + 1) * sizeof *cache->table);
}

void cache_close(Cache *cache)
{
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
    cache->blocks[block] = (Named){.name = name, .idle_before = -1, .idle_after = -1, .host_before = -1, .host_after = -1};
    file(cache, block);
    return block;
}

/* Forget a name that is nowhere any more. */
static void forget(Cache *cache, int32_t block)
{
    Named *b = &cache->blocks[block];
    if (b->used || b->is_idle || b->is_host)
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

static void host_in(Cache *cache, int32_t block)
{
    Named *b = &cache->blocks[block];
    b->is_host = 1;
    b->host_before = cache->host.last;
    b->host_after = -1;
    if (cache->host.last >= 0)
        cache->blocks[cache->host.last].host_after = block;
    else
        cache->host.first = block;
    cache->host.last = block;
    cache->host.count++;
}

static void host_out(Cache *cache, int32_t block)
{
    Named *b = &cache->blocks[block];
    if (b->host_before >= 0)
        cache->blocks[b->host_before].host_after = b->host_after;
    else
        cache->host.first = b->host_after;
    if (b->host_after >= 0)
        cache->blocks[b->host_after].host_before = b->host_before;
    else
        cache->host.last = b->host_before;
    b->is_host = 0;
    cache->host.count--;
}

void cache_match(const Cache *cache, const int64_t *names, int64_t count, int64_t *here, int64_t *away)
{
    int64_t i = 0;
    for (; i < count; i++) {
        int32_t block = find(cache, names[i]);
        if (block < 0 || !(cache->blocks[block].used || cache->blocks[block].is_idle))
            break;
    }
    *here = i;
    for (; i < count; i++) {
        int32_t block = find(cache, names[i]);
        if (block < 0 || !cache->blocks[block].is_host)
            break;
    }
    *away = i - *here;
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

void cache_take(Cache *cache, const int64_t *names, int64_t count)
{
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

void cache_release(Cache *cache, const int64_t *names, int64_t count)
{
    for (int64_t i = count - 1; i >= 0; i--) {
        int32_t block = find(cache, names[i]);
        if (!--cache->blocks[block].used) {
            cache->used--;
            idle_in(cache, block);
        }
    }
}

/* PrefixCache.keep */
void cache_retain(Cache *cache, const int64_t *names, int64_t count)
{
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
}

void cache_shrink(Cache *cache, int64_t room)
{
    while (cache->idle.count && cache->idle.count * cache->each > room) {
        int32_t block = cache->idle.first;
        idle_out(cache, block);
        if (cache->host_limit) {
            if (cache->blocks[block].is_host)
                host_out(cache, block);
            host_in(cache, block);
            while (cache->host.count * cache->each > cache->host_limit) {
                int32_t oldest = cache->host.first;
                host_out(cache, oldest);
                forget(cache, oldest);
            }
        } else
            forget(cache, block);
    }
}
