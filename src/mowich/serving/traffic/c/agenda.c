/* What is to come, by time; of one moment in the order in which it was put in: moments.py. */
#include "traffic.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void agenda_open(Agenda *agenda, Escape *escape)
{
    memset(agenda, 0, sizeof *agenda);
    agenda->escape = escape;
}

void agenda_close(Agenda *agenda)
{
    free(agenda->heap);
    free(agenda->now);
    agenda->heap = agenda->now = NULL;
}

static int is_before(const Entry *a, const Entry *b)
{
    return a->at_s < b->at_s || (a->at_s == b->at_s && a->put < b->put);
}

void agenda_put(Agenda *agenda, double at_s, void *item)
{
    if (agenda->n_heap == agenda->heap_room) {
        int64_t room = agenda->heap_room ? 2 * agenda->heap_room : 64;
        agenda->heap = grown(agenda->escape, agenda->heap, (size_t)room * sizeof *agenda->heap);
        agenda->heap_room = room;
    }
    Entry *heap = agenda->heap, entry = {at_s, ++agenda->put, item};
    int64_t at = agenda->n_heap++;
    while (at > 0) {
        int64_t above = (at - 1) / 2;
        if (!is_before(&entry, &heap[above]))
            break;
        heap[at] = heap[above];
        at = above;
    }
    heap[at] = entry;
}

static Entry first_of(Agenda *agenda)
{
    Entry *heap = agenda->heap, out = heap[0], last = heap[--agenda->n_heap];
    int64_t at = 0, n = agenda->n_heap;
    for (;;) {
        int64_t below = 2 * at + 1;
        if (below >= n)
            break;
        if (below + 1 < n && is_before(&heap[below + 1], &heap[below]))
            below++;
        if (!is_before(&heap[below], &last))
            break;
        heap[at] = heap[below];
        at = below;
    }
    if (n)
        heap[at] = last;
    return out;
}

double agenda_next_s(const Agenda *agenda)
{
    if (agenda->now_from < agenda->n_now)
        return agenda->now[agenda->now_from].at_s;
    return agenda->n_heap ? agenda->heap[0].at_s : INFINITY;
}

static int by_put(const void *a, const void *b)
{
    int64_t x = ((const Entry *)a)->put, y = ((const Entry *)b)->put;
    return (x > y) - (x < y);
}

Entry agenda_pop(Agenda *agenda)
{
    if (agenda->now_from == agenda->n_now) {
        agenda->now_from = agenda->n_now = 0;
        double first = agenda->heap[0].at_s;
        do {
            if (agenda->n_now == agenda->now_room) {
                int64_t room = agenda->now_room ? 2 * agenda->now_room : 16;
                agenda->now = grown(agenda->escape, agenda->now, (size_t)room * sizeof *agenda->now);
                agenda->now_room = room;
            }
            Entry one = first_of(agenda); /* after the only way out of here */
            agenda->now[agenda->n_now++] = one;
        } while (agenda->n_heap && earlier(agenda->heap[0].at_s) <= first);
        if (agenda->n_now > 1)
            qsort(agenda->now, (size_t)agenda->n_now, sizeof *agenda->now, by_put);
    }
    return agenda->now[agenda->now_from++];
}
