/* Names in the order of their last use, and the tiers beside a prefix cache: tiers.py. */
#include "traffic.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void names_open(Names *names, Escape *escape)
{
    memset(names, 0, sizeof *names);
    names->escape = escape;
    names->first = names->last = names->spare = -1;
}

void names_clear(Names *names)
{
    names->count = 0;
    names->first = names->last = names->spare = -1;
    for (int64_t i = 0; i < names->room; i++) {
        names->all[i].after = names->spare;
        names->spare = (int32_t)i;
    }
    if (names->table)
        memset(names->table, -1, (size_t)(names->mask + 1) * sizeof *names->table);
}

void names_close(Names *names)
{
    free(names->all);
    free(names->table);
    names->all = NULL;
    names->table = NULL;
}

static inline int64_t home(const Names *names, int64_t name)
{
    uint64_t x = (uint64_t)name * UINT64_C(0x9E3779B97F4A7C15);
    return (int64_t)(x >> 32 ^ x) & names->mask;
}

static int32_t place(const Names *names, int64_t name)
{
    if (!names->count)
        return -1;
    for (int64_t at = home(names, name);; at = (at + 1) & names->mask) {
        int32_t found = names->table[at];
        if (found < 0 || names->all[found].name == name)
            return found;
    }
}

static void file(Names *names, int32_t one)
{
    int64_t at = home(names, names->all[one].name);
    while (names->table[at] >= 0)
        at = (at + 1) & names->mask;
    names->table[at] = one;
}

static void unlink_one(Names *names, int32_t one)
{
    Kept *k = &names->all[one];
    if (k->before >= 0)
        names->all[k->before].after = k->after;
    else
        names->first = k->after;
    if (k->after >= 0)
        names->all[k->after].before = k->before;
    else
        names->last = k->before;
}

static void link_last(Names *names, int32_t one)
{
    Kept *k = &names->all[one];
    k->before = names->last;
    k->after = -1;
    if (names->last >= 0)
        names->all[names->last].after = one;
    else
        names->first = one;
    names->last = one;
}

const Kept *names_find(const Names *names, int64_t name)
{
    int32_t found = place(names, name);
    return found < 0 ? NULL : &names->all[found];
}

int names_touch(Names *names, int64_t name)
{
    int32_t found = place(names, name);
    if (found < 0)
        return 0;
    unlink_one(names, found);
    link_last(names, found);
    return 1;
}

/* Hold a name as the last used, from a moment on. */
void names_put(Names *names, int64_t name, double ready_s)
{
    int32_t found = place(names, name);
    if (found >= 0) {
        names->all[found].ready_s = ready_s;
        unlink_one(names, found);
        link_last(names, found);
        return;
    }
    if (names->spare < 0) {
        int64_t old = names->room, room = old ? 2 * old : 64;
        names->all = grown(names->escape, names->all, (size_t)room * sizeof *names->all);
        names->table = grown(names->escape, names->table, (size_t)(2 * room) * sizeof *names->table);
        names->room = room;
        names->mask = 2 * room - 1;
        memset(names->table, -1, (size_t)(2 * room) * sizeof *names->table);
        for (int64_t i = 0; i < old; i++)
            file(names, (int32_t)i);
        for (int64_t i = room - 1; i >= old; i--) {
            names->all[i].after = names->spare;
            names->spare = (int32_t)i;
        }
    }
    int32_t one = names->spare;
    names->spare = names->all[one].after;
    names->all[one].name = name;
    names->all[one].ready_s = ready_s;
    file(names, one);
    link_last(names, one);
    names->count++;
}

void names_drop(Names *names, int64_t name)
{
    int32_t one = place(names, name);
    if (one < 0)
        return;
    unlink_one(names, one);
    int64_t hole = home(names, name);
    while (names->table[hole] != one)
        hole = (hole + 1) & names->mask;
    for (int64_t at = hole;;) {
        at = (at + 1) & names->mask;
        int32_t other = names->table[at];
        if (other < 0)
            break;
        int64_t own = home(names, names->all[other].name);
        if (((at - own) & names->mask) >= ((at - hole) & names->mask)) {
            names->table[hole] = other;
            hole = at;
        }
    }
    names->table[hole] = -1;
    names->all[one].after = names->spare;
    names->spare = one;
    names->count--;
}

/* stores ------------------------------------------------------------------------------------------------------- */

void store_open(Store *store, Escape *escape, const Tier *tier)
{
    memset(store, 0, sizeof *store);
    names_open(&store->names, escape);
    store->tier = tier;
    size_t bytes = (size_t)tier->lanes * sizeof *store->read_free_s;
    store->read_free_s = grown(escape, NULL, bytes);
    memset(store->read_free_s, 0, bytes);
    store->write_free_s = grown(escape, NULL, bytes);
    memset(store->write_free_s, 0, bytes);
}

void store_close(Store *store)
{
    names_close(&store->names);
    free(store->read_free_s);
    free(store->write_free_s);
}

/* The lane that is free first. */
static double *first_free(double *free_s, int64_t lanes)
{
    double *best = free_s;
    for (int64_t i = 1; i < lanes; i++)
        if (free_s[i] < *best)
            best = &free_s[i];
    return best;
}

int store_has(const Store *store, int64_t name, double now)
{
    const Kept *found = names_find(&store->names, name);
    return found && found->ready_s <= now;
}

/* TierStore.keep: whether a block had to go, and which. */
int store_keep(Store *store, int64_t name, double ready_s, int64_t *gone)
{
    names_put(&store->names, name, ready_s);
    if (store->names.count <= store->tier->limit)
        return 0;
    *gone = store->names.all[store->names.first].name;
    names_drop(&store->names, *gone);
    return 1;
}

/* TierStore.put */
int store_put(Store *store, int64_t name, double now, int64_t *gone)
{
    const Tier *tier = store->tier;
    if (names_touch(&store->names, name))
        return 0;
    if (tier->limit < 1) {
        *gone = name;
        return 1;
    }
    double *free_s = first_free(store->write_free_s, tier->lanes);
    double end = most(*free_s, now) + tier->name_B * (double)tier->lanes / tier->write_Bps;
    *free_s = end;
    store->written_B += tier->name_B;
    return store_keep(store, name, end + tier->latency_s, gone);
}

double store_read_end_s(const Store *store, int64_t count, double now)
{
    const Tier *tier = store->tier;
    double *free_s = first_free(store->read_free_s, tier->lanes);
    return most(*free_s, now) + (double)count * tier->name_B * (double)tier->lanes / tier->read_Bps + tier->latency_s;
}

double store_read(Store *store, int64_t count, double now)
{
    double end = store_read_end_s(store, count, now);
    *first_free(store->read_free_s, store->tier->lanes) = end - store->tier->latency_s;
    store->read_B += (double)count * store->tier->name_B;
    return end;
}
