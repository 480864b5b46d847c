/* Replicas that go, lost at once or drained: outages.py. Failures by chance are drawn in Python. */
#include "traffic.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STRIKE, NOTICED, DEADLINE, SENT };
enum { RESTART, REPLAY, CACHE };

/* What happens at a time, or a list that outlives a call; all are freed in the end. */
struct Event {
    Event *earlier_made;
    int kind;
    const Loss *loss; /* STRIKE, DEADLINE */
    int64_t replica;  /* NOTICED */
    Event *lost;      /* NOTICED: whose `inside` was lost; DEADLINE: the drain */
    Sequence *one;    /* SENT */
    List inside;      /* of a drain: what it holds; of a loss: what was lost */
    double from_s;    /* of a drain */
};

static Event *made(Fleet *fleet, int kind)
{
    Event *event = grown(&fleet->escape, NULL, sizeof *event);
    memset(event, 0, sizeof *event);
    event->kind = kind;
    event->earlier_made = fleet->events;
    fleet->events = event;
    return event;
}

void outages_open(Fleet *fleet)
{
    int64_t n = fleet->given.decoders ? fleet->given.decoders : fleet->given.replicas;
    fleet->victims = fleet->given.decoders ? fleet->decoders : fleet->replicas;
    fleet->drains = grown(&fleet->escape, NULL, (size_t)n * sizeof *fleet->drains);
    fleet->unseen = grown(&fleet->escape, NULL, (size_t)n * sizeof *fleet->unseen);
    fleet->draining = grown(&fleet->escape, NULL, (size_t)n * sizeof *fleet->draining);
    for (int64_t i = 0; i < n; i++)
        fleet->drains[i] = fleet->unseen[i] = NULL;
    for (int64_t i = 0; i < fleet->given.n_losses; i++) {
        Event *event = made(fleet, STRIKE);
        event->loss = &fleet->given.losses[i];
        agenda_put(&fleet->pending, event->loss->at_s, event);
    }
}

void outages_close(Fleet *fleet)
{
    while (fleet->events) {
        Event *event = fleet->events;
        fleet->events = event->earlier_made;
        free(event);
    }
    free(fleet->drains);
    free(fleet->unseen);
    free(fleet->draining);
}

static void end_of_list(Fleet *fleet, int64_t replica)
{
    int64_t at = 0;
    while (fleet->draining[at] != replica)
        at++;
    fleet->n_draining--;
    memmove(fleet->draining + at, fleet->draining + at + 1,
            (size_t)(fleet->n_draining - at) * sizeof *fleet->draining);
    fleet->drains[replica] = NULL;
}

static void recover(Fleet *fleet, double at, List *inside, int is_lost)
{
    int64_t moves = fleet->given.moves;
    Agenda again;
    agenda_open(&again, &fleet->escape);
    int64_t n = inside->count;
    for (Sequence *one = inside->first; one;) {
        Sequence *next = one->after;
        agenda_put(&again, one->arrival_s, one);
        one = next;
    }
    *inside = (List){NULL, NULL, 0};
    for (int64_t i = 0; i < n; i++) {
        Sequence *one = agenda_pop(&again).item;
        double when = at;
        if (one->failures + one->moves >= MOST_TRIES) {
            fleet->bad_id = one->id;
            agenda_close(&again);
            leave(&fleet->escape, NEVER);
        }
        if (moves == RESTART) {
            one->failures++;
            sequence_begin(one);
            when = at + fleet->given.retry_s;
        } else {
            one->moves++;
            one->done = 0; /* one that was on its way to a lost replica had its prompt done */
            one->is_swapped = one->is_moved = one->is_swapped && moves == CACHE && !is_lost;
            if (one->is_moved)
                when = at + (fleet->given.move_way ? way_s(fleet->given.move_way, one->need) : 0.0);
        }
        if (when > at) {
            Event *event = made(fleet, SENT);
            event->one = one;
            agenda_put(&fleet->pending, when, event);
        } else
            fleet_give(fleet, at, one, 1);
    }
    agenda_close(&again);
}

static void end_drain(Fleet *fleet, Event *drain, double at)
{
    int64_t i = drain->loss->replica;
    end_of_list(fleet, i);
    List inside = {NULL, NULL, 0};
    replica_fail(&fleet->victims[i], at, drain->loss->down_s, &inside);
    recover(fleet, at, &inside, 0);
    for (Sequence *one = drain->inside.first; one;) {
        Sequence *next = one->after;
        fleet_give(fleet, at, one, 1);
        one = next;
    }
    drain->inside = (List){NULL, NULL, 0};
}

int outages_look(Fleet *fleet)
{
    int64_t n = 0;
    Event **empty = grown(&fleet->escape, NULL, (size_t)fleet->n_draining * sizeof *empty);
    for (int64_t k = 0; k < fleet->n_draining; k++)
        if (!replica_load(&fleet->victims[fleet->draining[k]]))
            empty[n++] = fleet->drains[fleet->draining[k]];
    for (int64_t k = 0; k < n; k++) {
        int64_t i = empty[k]->loss->replica;
        if (fleet->drains[i] == empty[k])
            end_drain(fleet, empty[k], most(empty[k]->from_s, fleet->victims[i].t));
    }
    free(empty);
    return n > 0;
}

static void strike(Fleet *fleet, const Loss *loss, double at)
{
    int64_t i = loss->replica;
    Replica *victim = &fleet->victims[i];
    replica_advance(victim, at);
    if (loss->drain_s < 0) {
        Event *drain = fleet->drains[i], *lost = made(fleet, NOTICED);
        if (drain)
            end_of_list(fleet, i);
        replica_fail(victim, at, loss->down_s, &lost->inside);
        if (drain) {
            list_join(&lost->inside, &drain->inside);
            drain->inside = (List){NULL, NULL, 0};
        }
        double seen_s = least(fleet->given.detect_s, loss->down_s);
        if (seen_s > 0.0) {
            lost->replica = i;
            fleet->unseen[i] = lost;
            agenda_put(&fleet->pending, at + seen_s, lost);
        } else
            recover(fleet, at, &lost->inside, 1);
    } else if (!fleet->drains[i] && !(at < earlier(victim->up_s))) {
        Event *drain = made(fleet, DEADLINE);
        drain->loss = loss;
        drain->from_s = at;
        fleet->drains[i] = drain;
        fleet->draining[fleet->n_draining++] = i;
        agenda_put(&fleet->pending, at + loss->drain_s, drain);
        outages_look(fleet);
    }
}

static void settle(Fleet *fleet, double at)
{
    for (int64_t i = 0; i < fleet->given.replicas; i++)
        replica_advance(&fleet->replicas[i], at);
    fleet_deliver(fleet, at);
}

double outages_drawn_s(const Fleet *fleet)
{
    return fleet->next_drawn < fleet->n_drawn ? fleet->drawn[fleet->next_drawn].at_s : INFINITY;
}

/* When the next thing happens, by chance or not. */
double outages_next_s(const Fleet *fleet)
{
    return least(agenda_next_s(&fleet->pending), outages_drawn_s(fleet));
}

void outages_play(Fleet *fleet)
{
    if (outages_drawn_s(fleet) < earlier(agenda_next_s(&fleet->pending))) {
        const Loss *loss = &fleet->drawn[fleet->next_drawn++];
        settle(fleet, loss->at_s);
        strike(fleet, loss, loss->at_s);
        return;
    }
    Entry entry = agenda_pop(&fleet->pending);
    Event *event = entry.item;
    double at = entry.at_s;
    settle(fleet, at);
    if (event->kind == STRIKE)
        strike(fleet, event->loss, at);
    else if (event->kind == SENT)
        fleet_give(fleet, at, event->one, 1);
    else if (event->kind == NOTICED) {
        if (fleet->unseen[event->replica] == event)
            fleet->unseen[event->replica] = NULL;
        recover(fleet, at, &event->inside, 1);
    } else {
        int64_t i = event->loss->replica;
        if (fleet->drains[i] == event) {
            replica_advance(&fleet->victims[i], at);
            outages_look(fleet);
        }
        if (fleet->drains[i] == event)
            end_drain(fleet, event, at);
    }
}

int64_t outages_open_to(Fleet *fleet, Replica **there, int64_t n, double at, Replica **out)
{
    /* a drain that ends here goes from the list */
    int64_t many = fleet->n_draining;
    for (int64_t k = 0; k < many; k++)
        replica_advance(&fleet->victims[fleet->draining[k]], at);
    outages_look(fleet);
    int64_t up = 0, serving = 0;
    for (int64_t k = 0; k < n; k++) {
        int64_t i = there[k]->index;
        if (!fleet->drains[i] && (fleet->unseen[i] || earlier(there[k]->up_s) <= at))
            out[up++] = there[k];
    }
    if (up)
        return up;
    for (int64_t k = 0; k < n; k++)
        if (!fleet->drains[there[k]->index])
            out[serving++] = there[k];
    if (serving)
        return serving;
    memcpy(out, there, (size_t)n * sizeof *out);
    return n;
}

int64_t outages_lost(const Fleet *fleet, const Replica *r, int64_t *tokens)
{
    const Event *lost = fleet->unseen[r->index];
    *tokens = 0;
    if (!lost)
        return 0;
    for (const Sequence *one = lost->inside.first; one; one = one->after)
        *tokens += one->need;
    return lost->inside.count;
}

/* Failures by chance that come after those that were drawn; they stay with the caller. */
EXPORT void traffic_drawn(Fleet *fleet, int64_t n, const Loss *losses)
{
    fleet->drawn = losses;
    fleet->n_drawn = n;
    fleet->next_drawn = 0;
}

int outages_take(Fleet *fleet, const Replica *target, Sequence *one)
{
    Event *lost = fleet->unseen[target->index], *drain = fleet->drains[target->index];
    if (lost)
        list_put(&lost->inside, one);
    else if (drain)
        list_put(&drain->inside, one);
    return !lost && !drain;
}
