/* Memory of one call of the compiled clock.
 *
 * Everything that a call allocates hangs on one `Arena`, so that it is freed together, also when memory runs out:
 * then `need` jumps back to the entry of the call. What a call hands back is taken off the arena with `keep`, and
 * freed by `clock_free`. */
#ifndef MOWICH_CLOCK_MEMORY_H
#define MOWICH_CLOCK_MEMORY_H

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

/* What an entry returns. UNSUPPORTED: the Python code has to do it. */
enum { DONE = 0, NO_MEMORY = 1, UNSUPPORTED = 2, STUCK = 3 };

/* Queues of a core that a rule names, as in instructions/rates.py; a core has at most MOST_QUEUES. */
enum { TENSOR = 0, SCALAR = 2, GPSIMD = 3, LOAD = 5, MOST_QUEUES = 16 };

/* Kinds of edges, as in clock/depend.py; then what else can decide a time, as in clock/events.py. */
enum { READ, DATA, BUFFER, WEIGHTS, START, ENGINE, ISSUER, DMA, MEMORY, PORT };

typedef struct Block {
    struct Block *before, *after;
} Block;

typedef struct {
    Block ends;          /* of the ring of all blocks */
    jmp_buf failed;      /* where to go with NO_MEMORY or UNSUPPORTED */
    char *chunk;         /* small pieces are cut from it */
    size_t left;         /* bytes left in it */
    void *spare[16];     /* small pieces that were given back, by the power of two of their size */
} Arena;

void arena_open(Arena *arena);
void arena_close(Arena *arena);

/* Bytes that start as zero, or as they come. */
void *need_zeroed(Arena *arena, size_t bytes);
void *need(Arena *arena, size_t bytes);
/* The same bytes in more room. */
void *grow(Arena *arena, void *old, size_t bytes);
/* Take a block off the arena: the caller frees it with clock_free. */
void *keep(Arena *arena, void *block);
void drop(Arena *arena, void *block);
/* A small piece of 2^power bytes, power 3 to 15, and back. */
void *cut(Arena *arena, int power);
void give_back(Arena *arena, void *piece, int power);

/* The place of the lowest bit of a number that is not 0. */
static inline int first_bit(uint32_t bits)
{
#if defined(__GNUC__) || defined(__clang__)
    return __builtin_ctz(bits);
#else
    int place = 0;
    for (; !(bits & 1); bits >>= 1)
        place++;
    return place;
#endif
}

/* A list of numbers that grows. */
typedef struct {
    int64_t *at;
    int64_t n, room;
} Numbers;

/* The same of numbers of instructions, which are smaller: columns are long. */
typedef struct {
    int32_t *at;
    int64_t n, room;
} Indices;

static inline void push_index(Arena *arena, Indices *list, int64_t value)
{
    if (list->n == list->room) {
        list->room = list->room ? 2 * list->room : 64;
        list->at = grow(arena, list->at, (size_t)list->room * sizeof *list->at);
    }
    list->at[list->n++] = (int32_t)value;
}

static inline void push(Arena *arena, Numbers *list, int64_t value)
{
    if (list->n == list->room) {
        list->room = list->room ? 2 * list->room : 64;
        list->at = grow(arena, list->at, (size_t)list->room * sizeof *list->at);
    }
    list->at[list->n++] = value;
}

#endif
