/* When the storages of a trace live, where each instruction has to be looked at in turn: see placement.py for the
 * rules. */
#include "memory.h"

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
