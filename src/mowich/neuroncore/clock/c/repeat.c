/* What an iteration of a loop adds to a trace, and the same again: see repeat.py for the rules; names are the same. */
#include "memory.h"

#include <stdlib.h>
#include <string.h>

/* An iteration in the columns of a trace. touches: entries of `touched`, storages and patterns in turn; clock: of the
 * core before it; made: from this number on the core made its storages in it; form: of each of these, -1 where it is
 * not touched. */
typedef struct {
    int64_t instructions, touches, clock, made, forms;
    const int32_t *kind, *site, *form;
    const int64_t *number, *touched;
} Iteration;

/* How a sample stands for an iteration: of each of its instructions and of its touches the place there, and of each
 * touch of the iteration its place in the sample. NULL: it has them all. has_corners: it has the first iteration of
 * loops within beside the last. */
typedef struct {
    const int64_t *rows, *of_sample, *of_full;
    int64_t has_corners;
} Places;

/* What is added from one iteration to the next, as `Growth` of repeat.py. The columns have room for all touches of the
 * base, `which` to `offsets` for half of them. moves: places whose pattern moves; offsets_n: different ones. */
typedef struct {
    int64_t is_alike, elsewhere, moves, offsets_n;
    int64_t *touched, *places, *which, *firsts, *offsets;
} Growth;

enum { OFFSET_BITS = 40 };
static const int64_t ANYWHERE = ((int64_t)1 << OFFSET_BITS) - 1; /* in the key of a pattern: its offset is not known */

static int is_own(const Iteration *x, int64_t storage, int64_t programs)
{
    return storage >= x->made && (storage - x->made) % programs == 0;
}

/* Whether a sample has the same instructions, counted from another number on. */
static int is_same(const Iteration *base, const Iteration *sample, const int64_t *rows)
{
    if (!rows && base->instructions != sample->instructions)
        return 0;
    for (int64_t r = 0; r < sample->instructions; r++) {
        int64_t i = rows ? rows[r] : r;
        if (base->kind[i] != sample->kind[r] || base->site[i] != sample->site[r])
            return 0;
    }
    return 1;
}

/* Whether the storages of a sample are of the forms that they have in full, as far as it touches them. */
static int has_forms(const Iteration *full, const Iteration *sample)
{
    if (full->forms != sample->forms)
        return 0;
    for (int64_t s = 0; s < full->forms; s++)
        if (sample->form[s] >= 0 && sample->form[s] != full->form[s])
            return 0;
    return 1;
}

/* What each touch of a sample adds. Returns 0 where it is unlike the base. */
static int find_steps(const Iteration *base, const Iteration *sample, const int64_t *of_sample, const int64_t *keys,
                      int64_t programs, int64_t *step, int64_t *elsewhere)
{
    for (int64_t e = 0; e < sample->touches; e += 2) {
        int64_t b = of_sample ? of_sample[e] : e, x = base->touched[b], y = sample->touched[e];
        int own = is_own(base, x, programs);
        step[e] = y - x;
        if (own != is_own(sample, y, programs) || (own && step[e] != sample->made - base->made))
            return 0;
        *elsewhere |= step[e] != 0 && !own;
        b = of_sample ? of_sample[e + 1] : e + 1;
        x = base->touched[b];
        y = sample->touched[e + 1];
        step[e + 1] = 0;
        if (x == y)
            continue;
        int64_t before = keys[x], after = keys[y];
        if (before >> OFFSET_BITS != after >> OFFSET_BITS || (before & ANYWHERE) == ANYWHERE
            || (after & ANYWHERE) == ANYWHERE)
            return 0;
        step[e + 1] = after - before;
    }
    return 1;
}

/* The patterns that move: the different ones, in the order in which they come up. */
static void find_moves(Arena *arena, const Iteration *base, Growth *out)
{
    int64_t mask = 15;
    for (int64_t e = 1; e < base->touches; e += 2)
        out->moves += out->touched[e] != 0;
    while (mask < 2 * out->moves)
        mask = 2 * mask + 1;
    int64_t *slots = need_zeroed(arena, (size_t)(mask + 1) * sizeof *slots); /* one more than the number of an offset */
    int64_t at = 0;
    for (int64_t e = 1; e < base->touches; e += 2) {
        int64_t step = out->touched[e];
        if (!step)
            continue;
        uint64_t hash = ((uint64_t)base->touched[e] * 11400714819323198485u) ^ ((uint64_t)step * 14029467366897019727u);
        int64_t slot = (int64_t)(hash >> 24) & mask;
        while (slots[slot]) {
            int64_t k = slots[slot] - 1;
            if (out->offsets[k] == step && base->touched[out->firsts[k]] == base->touched[e])
                break;
            slot = (slot + 1) & mask;
        }
        if (!slots[slot]) {
            out->firsts[out->offsets_n] = e;
            out->offsets[out->offsets_n] = step;
            slots[slot] = ++out->offsets_n;
        }
        out->places[at] = e;
        out->which[at++] = slots[slot] - 1;
        out->touched[e] = 0;
    }
}

static void find_growth(Arena *arena, const Iteration *base, const Iteration *sample, const Places *places,
                        const int64_t *keys, int64_t programs, Growth *out)
{
    if (!has_forms(base, sample) || !is_same(base, sample, places->rows)
        || (!places->rows && base->touches != sample->touches))
        return;
    int64_t n = sample->clock - base->clock;
    for (int64_t r = 0; r < sample->instructions; r++)
        if (base->number[places->rows ? places->rows[r] : r] + n != sample->number[r])
            return;
    int64_t *step = out->touched;
    if (places->rows)
        step = need(arena, (size_t)sample->touches * sizeof *step + 8);
    if (!find_steps(base, sample, places->of_sample, keys, programs, step, &out->elsewhere))
        return;
    if (places->rows) {
        /* loops within that ran at both ends have to grow alike there */
        if (places->has_corners)
            for (int64_t e = 0; e < sample->touches; e++)
                if (step[places->of_full[places->of_sample[e]]] != step[e])
                    return;
        for (int64_t e = 0; e < base->touches; e++)
            out->touched[e] = step[places->of_full[e]];
    }
    find_moves(arena, base, out);
    out->is_alike = 1;
}

/* What grows from the base to the iteration behind it, of which there is a sample. keys: of each pattern. */
EXPORT int clock_growth(const Iteration *base, const Iteration *sample, const Places *places, const int64_t *keys,
                        int64_t programs, Growth *out)
{
    Arena *arena = calloc(1, sizeof *arena);
    if (!arena)
        return NO_MEMORY;
    arena_open(arena);
    int status = setjmp(arena->failed);
    if (!status)
        find_growth(arena, base, sample, places, keys, programs, out);
    arena_close(arena);
    free(arena);
    return status;
}

/* Whether a sample is of an iteration that was written after the base, with these numbers and touches: all but its
 * clock. */
EXPORT int clock_agrees(const Iteration *base, const Iteration *sample, const Places *places, const int64_t *number,
                        const int64_t *touched)
{
    if (!has_forms(base, sample) || !is_same(base, sample, places->rows)
        || (!places->rows && base->touches != sample->touches))
        return 0;
    for (int64_t r = 0; r < sample->instructions; r++)
        if (number[places->rows ? places->rows[r] : r] != sample->number[r])
            return 0;
    for (int64_t e = 0; e < sample->touches; e++)
        if (touched[places->of_sample ? places->of_sample[e] : e] != sample->touched[e])
            return 0;
    return 1;
}

/* The storages from before the loop that others follow in the `count` iterations behind the base. form: of each number
 * of a storage, -1 where the trace does not know it; unknown: gets (storage, step) of those that come to one that it
 * does not know. Returns how many of these; -1: no such storage moves. */
EXPORT int64_t clock_others(const Iteration *base, const int64_t *step, int64_t programs, const int32_t *form,
                            int64_t forms, int64_t count, int64_t *unknown)
{
    int64_t found = -1;
    for (int64_t e = 0; e < base->touches; e += 2) {
        int64_t storage = base->touched[e];
        if (!step[e] || is_own(base, storage, programs))
            continue;
        found = found < 0 ? 0 : found;
        for (int64_t t = 0; t < count; t++) {
            storage += step[e];
            if (storage < 0 || storage >= forms || form[storage] < 0) {
                unknown[2 * found] = base->touched[e];
                unknown[2 * found++ + 1] = step[e];
                break;
            }
        }
    }
    return found;
}

/* How a sample stands for a part of a column: it has the last iteration of each loop within, or the first and the last.
 * Of a loop within: where its iterations begin, the length of one, how many, and how a sample stands for one of them
 * (as many entries as `sampled`). */
typedef struct {
    int64_t begin, length, count, sampled;
    const int64_t *of_sample, *of_full;
} Within;

/* of_sample: of each entry of the sample, its place in all; of_full: of each of all, its place in the sample. */
EXPORT void clock_places(const Within *loops, int64_t n, int64_t entries, int64_t has_corners, int64_t *of_sample,
                         int64_t *of_full)
{
    int64_t at = 0, have = 0;
    for (int64_t l = 0; l <= n; l++) {
        const Within *loop = &loops[l];
        for (int64_t until = l < n ? loop->begin : entries; at < until; at++) {
            of_sample[have] = at;
            of_full[at] = have++;
        }
        if (l == n)
            return;
        for (int64_t end = has_corners ? 0 : 1; end < 2; end++) {
            int64_t first = at + end * loop->length * (loop->count - 1);
            if (end)
                for (int64_t t = 0; t < loop->count; t++)
                    for (int64_t e = 0; e < loop->length; e++)
                        of_full[at + t * loop->length + e] = have + loop->of_full[e];
            for (int64_t e = 0; e < loop->sampled; e++)
                of_sample[have++] = first + loop->of_sample[e];
        }
        at += loop->length * loop->count;
    }
}

/* patterns --------------------------------------------------------------------------------------------------------- */

/* The place of a key in a table of numbers (from 1 on; 0: an empty place) of 2^bits places: where it is, or would be. */
static uint64_t place_of(const int32_t *slots, int64_t bits, const int64_t *keys, int64_t key)
{
    uint64_t mask = ((uint64_t)1 << bits) - 1, at = (uint64_t)key * 11400714819323198485u >> (64 - bits);
    while (slots[at] && keys[slots[at] - 1] != key)
        at = (at + 1) & mask;
    return at;
}

/* Put the numbers of the first keys into a table that is empty. */
EXPORT void clock_index(const int64_t *keys, int64_t count, int32_t *slots, int64_t bits)
{
    for (int64_t number = 0; number < count; number++)
        slots[place_of(slots, bits, keys, keys[number])] = (int32_t)number + 1;
}

/* Take the last keys out of a table again: none that stays was put behind them. */
EXPORT void clock_unindex(const int64_t *keys, int64_t count, int64_t left, int32_t *slots, int64_t bits)
{
    while (count > left) {
        count--;
        slots[place_of(slots, bits, keys, keys[count])] = 0;
    }
}

/* The number of a key that stands behind `count` others, which is that of another one where it is the same. */
EXPORT int64_t clock_number(const int64_t *keys, int64_t count, int32_t *slots, int64_t bits)
{
    uint64_t at = place_of(slots, bits, keys, keys[count]);
    if (!slots[at])
        slots[at] = (int32_t)count + 1;
    return slots[at] - 1;
}

/* The keys of patterns, with their table of 2^bits places. */
typedef struct {
    int64_t count, bits;
    int64_t *keys;
    int32_t *slots;
} Keys;

/* The number of a key, which is put at the end when it is new: there is room for it. */
static int64_t number_of(Keys *known, int64_t key)
{
    uint64_t at = place_of(known->slots, known->bits, known->keys, key);
    if (!known->slots[at]) {
        known->keys[known->count] = key;
        known->slots[at] = (int32_t)++known->count;
    }
    return known->slots[at] - 1;
}

/* Put the number of each of some keys in its place; new keys are put at the end, where there is room for all. */
EXPORT void clock_numbers(Keys *patterns, int64_t count, int64_t *keys)
{
    for (int64_t i = 0; i < count; i++)
        keys[i] = number_of(patterns, keys[i]);
}

/* `count` iterations that follow the base, from the one `first` after it on: their numbers and touches. patterns: those
 * that come up are put at the end, where there is room for all. */
EXPORT void clock_fill(const Iteration *base, const Growth *growth, int64_t clock, int64_t first, int64_t count,
                       Keys *patterns, int64_t *number, int64_t *touched)
{
    for (int64_t t = first; t < first + count; t++) {
        for (int64_t i = 0; i < base->instructions; i++)
            number[i] = base->number[i] + clock * t;
        for (int64_t e = 0; e < base->touches; e++)
            touched[e] = base->touched[e] + growth->touched[e] * t;
        for (int64_t k = 0; k < growth->offsets_n; k++) {
            int64_t place = growth->firsts[k];
            touched[place] = number_of(patterns, patterns->keys[base->touched[place]] + growth->offsets[k] * t);
        }
        for (int64_t m = 0; m < growth->moves; m++)
            touched[growth->places[m]] = touched[growth->firsts[growth->which[m]]];
        number += base->instructions;
        touched += base->touches;
    }
}
