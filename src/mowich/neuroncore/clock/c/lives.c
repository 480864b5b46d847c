/* When the storages of a trace live, where each instruction has to be looked at in turn: see placement.py for the
 * rules. */
#include "memory.h"

#include <string.h>

/* A kind of instruction: operands that it reads, how many of these are no run-time indices, operands in all, and
 * whether it is a DMA that reads nothing but HBM. */
typedef struct {
    int64_t reads, plain, operands, is_load;
} Kind;

/* A trace. storages: one more than the highest number; number: of each instruction, what it is counted by. */
typedef struct {
    int64_t instructions, storages;
    const int32_t *kind;
    const int64_t *number;
    const int64_t *touched;
    const Kind *kind_rows;
} Trace;

/* Of each storage: the first instruction that writes it and whether that is a load, and the last that touches it. All
 * start as -1, is_loaded as 0. */
EXPORT int clock_lives(const Trace *t, int64_t *first, int64_t *last, uint8_t *is_loaded)
{
    const int64_t *touched = t->touched;
    for (int64_t i = 0; i < t->instructions; i++) {
        const Kind *k = &t->kind_rows[t->kind[i]];
        int64_t now = t->number[i];
        for (int64_t o = 0; o < k->operands; o++, touched += 2) {
            int64_t s = touched[0];
            if (s < 0 || s >= t->storages)
                return UNSUPPORTED;
            if (o >= k->reads) {
                if (first[s] < 0) {
                    first[s] = now;
                    is_loaded[s] = (uint8_t)k->is_load;
                }
            } else if (o >= k->plain)
                continue;
            last[s] = now;
        }
    }
    return DONE;
}

/* Of each storage that is loaded first: the first instruction after `first` that reads it (`reads`, starts as -1), and
 * the first that writes it and is no load (`others`, starts as the largest number). */
EXPORT int clock_later(const Trace *t, const int64_t *first, const uint8_t *is_loaded, int64_t *reads, int64_t *others)
{
    const int64_t *touched = t->touched;
    for (int64_t i = 0; i < t->instructions; i++) {
        const Kind *k = &t->kind_rows[t->kind[i]];
        int64_t now = t->number[i];
        for (int64_t o = 0; o < k->operands; o++, touched += 2) {
            int64_t s = touched[0];
            if (s < 0 || s >= t->storages)
                return UNSUPPORTED;
            if (!is_loaded[s] || now <= first[s])
                continue;
            if (o >= k->reads) {
                if (!k->is_load && others[s] == INT64_MAX)
                    others[s] = now;
            } else if (o < k->plain && reads[s] < 0)
                reads[s] = now;
        }
    }
    return DONE;
}

/* What the allocations of a form have in common: 0 in SBUF, 1 in PSUM, -1 elsewhere; bytes that they take there;
 * whether they are not placed by hand. */
typedef struct {
    int64_t space, size, is_free;
} Form;

static int peaks(Arena *arena, const Trace *t, const int32_t *form, const Form *forms, int64_t *peak)
{
    size_t columns = (size_t)t->storages * sizeof(int64_t) + 8;
    int64_t *first = need(arena, columns), *last = need(arena, columns);
    int64_t *reads = need(arena, columns), *others = need(arena, columns);
    uint8_t *is_loaded = need_zeroed(arena, (size_t)t->storages + 8);
    memset(first, 0xff, columns);
    memset(last, 0xff, columns);
    memset(reads, 0xff, columns);
    int status = clock_lives(t, first, last, is_loaded);
    if (status)
        return status;
    int64_t end = 0, loaded = 0;
    for (int64_t s = 0; s < t->storages; s++) {
        others[s] = INT64_MAX;
        is_loaded[s] = is_loaded[s] && form[s] >= 0 && forms[form[s]].is_free;
        loaded += is_loaded[s];
        if (last[s] > end)
            end = last[s];
    }
    if (loaded && (status = clock_later(t, first, is_loaded, reads, others)))
        return status;
    int64_t *level[2];
    for (int space = 0; space < 2; space++)
        level[space] = need_zeroed(arena, (size_t)(end + 2) * sizeof(int64_t));
    for (int64_t s = 0; s < t->storages; s++) {
        if (form[s] < 0 || forms[form[s]].space < 0 || first[s] < 0)
            continue;
        int is_delayed = is_loaded[s] && reads[s] >= 0 && reads[s] <= others[s];
        int64_t *mine = level[forms[form[s]].space];
        mine[is_delayed ? reads[s] : first[s]] += forms[form[s]].size;
        mine[last[s] + 1] -= forms[form[s]].size;
    }
    for (int space = 0; space < 2; space++) {
        int64_t now = 0;
        peak[space] = 0;
        for (int64_t i = 0; i <= end; i++) {
            now += level[space][i];
            if (now > peak[space])
                peak[space] = now;
        }
    }
    return DONE;
}

/* Most bytes that live at once in SBUF and in PSUM. form: of each storage, -1 where it is not touched. */
EXPORT int clock_peaks(const Trace *t, const int32_t *form, const Form *forms, int64_t *peak)
{
    Arena arena;
    arena_open(&arena);
    int status = setjmp(arena.failed);
    if (!status)
        status = peaks(&arena, t, form, forms, peak);
    arena_close(&arena);
    return status;
}
