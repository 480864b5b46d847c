/* Who waits for whom: edges between instructions from the bytes that they touch. The same as clock/depend.py, where
 * the rules are told. */
#ifndef MOWICH_CLOCK_DEPEND_H
#define MOWICH_CLOCK_DEPEND_H

#include "memory.h"

enum { MOST_DIMS = 8 };

/* Low and high bound of a dimension, inclusive, and the step between. */
typedef struct {
    int64_t low, high, step;
} Range;

/* The bytes of a view: first, last + 1, and a range for each dimension; ranges NULL: the view is no box. */
typedef struct {
    int64_t first, end;
    const Range *ranges;
    int dims;
} Box;

/* Views that differ only in their offset. shape: of the allocation; counts, strides: of the view; bytes: of an
 * element of the view. */
typedef struct {
    int64_t dims, itemsize, bytes, view_dims;
    const int64_t *shape, *counts, *strides;
} Form;

/* An instruction and what it touches. */
typedef struct {
    int64_t who;
    const Box *box;
} Entry;

typedef struct {
    Entry *at;
    int32_t n, power; /* power: of two, the bytes of `at`; 0 before the first */
} Entries;

typedef struct Grid Grid;

/* Writers and readers of one allocation that a later access may have to wait for; with many, on a grid. */
typedef struct {
    Entries writers, readers;
    Grid *grid;
} Store;

typedef struct {
    Arena *arena;
    Store **stores;     /* by number of the store; NULL: nobody wrote or read it */
    int32_t *writes;    /* writes still to come, by store */
} Dependencies;

/* An offset that is not known: anywhere in the allocation. */
#define ANYWHERE INT64_MIN

Box box_of(Arena *arena, const Form *form, int64_t offset);
/* Edges to `out`: 2 * j where j only has to be done reading, 2 * j + 1 where its result is needed or overwritten. */
void depend_read(Dependencies *d, int64_t i, int64_t store, const Box *b, Numbers *out);
void depend_write(Dependencies *d, int64_t i, int64_t store, const Box *b, Numbers *out);

#endif
