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

/* What the allocations of a form have in common: 0 in SBUF, 1 in PSUM, -1 elsewhere; bytes that they take there;
 * whether they are not placed by hand. */
typedef struct {
    int64_t space, size, is_free;
} Form;

/* When a storage lives. first: the first instruction that writes it; last: the last that touches it; both -1 where none
 * does. Where the first that writes it is a load, and it is not placed by hand, reads: the first after that which reads
 * it, -1 where none does, and others: the first after that which writes it and is no load, the largest number where none
 * does. Where not, reads is NOT_LOADED. */
typedef struct {
    int64_t first, last, reads, others;
} Life;

static const int64_t NOT_LOADED = -2;

/* The lives of all storages, in one pass: what follows a load is known to follow it when it comes. form: of each
 * storage, -1 where it is not touched. lives: hold what touched them without an instruction. */
EXPORT int clock_lives(const Trace *t, const int32_t *form, const Form *forms, Life *lives)
{
    const int64_t *touched = t->touched;
    for (int64_t i = 0; i < t->instructions; i++) {
        const Kind *k = &t->kind_rows[t->kind[i]];
        int64_t now = t->number[i];
        for (int64_t o = 0; o < k->operands; o++, touched += 2) {
            int64_t s = touched[0];
            if (s < 0 || s >= t->storages)
                return UNSUPPORTED;
            Life *life = &lives[s];
            int is_write = o >= k->reads, is_later = life->reads != NOT_LOADED && now > life->first;
            if (is_write && (life->first < 0 || now <= life->first)) {
                life->first = now;
                if (k->is_load && form[s] >= 0 && forms[form[s]].is_free)
                    life->reads = -1;
            } else if (!is_write && o >= k->plain) {
                continue;
            }
            if (now > life->last)
                life->last = now;
            if (is_later && is_write && !k->is_load && life->others == INT64_MAX)
                life->others = now;
            else if (is_later && !is_write && life->reads < 0)
                life->reads = now;
        }
    }
    return DONE;
}

/* Most bytes that live at once, by the lives. */
static int peaks(Arena *arena, const Trace *t, const int32_t *form, const Form *forms, int64_t *peak)
{
    Life *lives = need(arena, (size_t)t->storages * sizeof *lives + 8);
    for (int64_t s = 0; s < t->storages; s++)
        lives[s] = (Life){-1, -1, NOT_LOADED, INT64_MAX};
    int status = clock_lives(t, form, forms, lives);
    if (status != DONE)
        return status;
    int64_t end = 0;
    for (int64_t s = 0; s < t->storages; s++)
        end = lives[s].last > end ? lives[s].last : end;
    int64_t *level[2];
    for (int space = 0; space < 2; space++)
        level[space] = need_zeroed(arena, (size_t)(end + 2) * sizeof(int64_t));
    for (int64_t s = 0; s < t->storages; s++) {
        const Life *life = &lives[s];
        if (form[s] < 0 || forms[form[s]].space < 0 || life->first < 0)
            continue;
        int is_delayed = life->reads >= 0 && life->reads <= life->others;
        int64_t *mine = level[forms[form[s]].space];
        mine[is_delayed ? life->reads : life->first] += forms[form[s]].size;
        mine[life->last + 1] -= forms[form[s]].size;
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
