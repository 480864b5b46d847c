/* Memory of one call of the compiled clock: see memory.h. */
#include "memory.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK = 1 << 16 };

void arena_open(Arena *arena)
{
    arena->ends.before = arena->ends.after = &arena->ends;
    arena->chunk = NULL;
    arena->left = 0;
    memset(arena->spare, 0, sizeof arena->spare);
}

static void link_in(Arena *arena, Block *block)
{
    block->before = arena->ends.before;
    block->after = &arena->ends;
    block->before->after = block;
    arena->ends.before = block;
}

static void link_out(Block *block)
{
    block->before->after = block->after;
    block->after->before = block->before;
}

void arena_close(Arena *arena)
{
    while (arena->ends.after != &arena->ends) {
        Block *block = arena->ends.after;
        link_out(block);
        free(block);
    }
}

void *need_zeroed(Arena *arena, size_t bytes)
{
    Block *block = calloc(1, sizeof(Block) + bytes);
    if (!block)
        longjmp(arena->failed, NO_MEMORY);
    link_in(arena, block);
    return block + 1;
}

void *need(Arena *arena, size_t bytes)
{
    Block *block = malloc(sizeof(Block) + bytes);
    if (!block)
        longjmp(arena->failed, NO_MEMORY);
    link_in(arena, block);
    return block + 1;
}

void *grow(Arena *arena, void *old, size_t bytes)
{
    if (!old)
        return need(arena, bytes);
    Block *block = (Block *)old - 1;
    link_out(block);
    Block *larger = realloc(block, sizeof(Block) + bytes);
    link_in(arena, larger ? larger : block);
    if (!larger)
        longjmp(arena->failed, NO_MEMORY);
    return larger + 1;
}

void *keep(Arena *arena, void *block)
{
    (void)arena;
    if (block)
        link_out((Block *)block - 1);
    return block;
}

void drop(Arena *arena, void *block)
{
    if (block)
        free((Block *)keep(arena, block) - 1);
}

EXPORT void clock_free(void *block)
{
    if (block)
        free((Block *)block - 1);
}

void *cut(Arena *arena, int power)
{
    size_t bytes = (size_t)1 << power;
    void *piece = arena->spare[power];
    if (piece) {
        memcpy(&arena->spare[power], piece, sizeof(void *));
        return piece;
    }
    if (arena->left < bytes) {
        arena->chunk = need(arena, CHUNK);
        arena->left = CHUNK;
    }
    arena->left -= bytes;
    piece = arena->chunk;
    arena->chunk += bytes;
    return piece;
}

void give_back(Arena *arena, void *piece, int power)
{
    memcpy(piece, &arena->spare[power], sizeof(void *));
    arena->spare[power] = piece;
}
