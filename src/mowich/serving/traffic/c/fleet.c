/* Replicas together: routing, prefill and decode apart, failures, and users who wait for an answer: routing.py. */
#include "traffic.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* requests ---------------------------------------------------------------------------------------------------- */

/* A request that is not used, with its room for names. */
Sequence *fleet_sequence(Fleet *fleet)
{
    Sequence *one = fleet->spare;
    if (one)
        fleet->spare = one->after;
    else {
        if (fleet->n_all == fleet->all_room) {
            int64_t room = fleet->all_room ? 2 * fleet->all_room : 256;
            fleet->all = grown(&fleet->escape, fleet->all, (size_t)room * sizeof *fleet->all);
            fleet->all_room = room;
        }
        one = grown(&fleet->escape, NULL, sizeof *one);
        one->names = NULL;
        one->names_room = 0;
        fleet->all[fleet->n_all++] = one;
    }
    int64_t *names = one->names, room = one->names_room;
    memset(one, 0, sizeof *one);
    one->names = names;
    one->names_room = room;
    one->scheduled_s = one->first_token_s = one->last_token_s = -1.0;
    one->replica = one->decoder = -1;
    return one;
}

/* Slot.__init__ */
void sequence_begin(Sequence *one)
{
    one->need = one->prompt;
    one->left = one->output;
    one->done = one->blocks = one->hit = one->finish = one->n_shared = 0;
    one->origin = one->began_s = 0.0;
    one->size = log2((double)one->prompt);
    one->is_swapped = one->is_moved = 0;
    one->decodes_in = NULL;
}

/* Room for the names of a request. */
void sequence_names(Fleet *fleet, Sequence *one, int64_t count)
{
    if (count > one->names_room) {
        one->names = grown(&fleet->escape, one->names, (size_t)count * sizeof *one->names);
        one->names_room = count;
    }
}

_Noreturn void too_small(Fleet *fleet, const Sequence *one, int64_t tokens)
{
    fleet->bad_id = one->id;
    fleet->bad_prompt = one->prompt;
    fleet->bad_output = one->output;
    fleet->bad_tokens = tokens;
    leave(&fleet->escape, TOO_SMALL);
}

static double ready_s(const Fleet *fleet, const Sequence *one)
{
    return one->arrival_s + (fleet->given.has_front ? front_before(fleet->given.seen, one->prompt) : 0.0);
}

/* Tell of an answered request; its user may ask again. */
void fleet_answered(Fleet *fleet, Replica *r, Sequence *one)
{
    (void)r;
    if (fleet->n_answers == fleet->answers_room) {
        int64_t room = fleet->answers_room ? 2 * fleet->answers_room : 1024;
        fleet->answers = grown(&fleet->escape, fleet->answers, (size_t)room * sizeof *fleet->answers);
        fleet->answers_room = room;
    }
    fleet->answers[fleet->n_answers++] = (Answer){
        one->id,          one->prompt,       one->output,        one->replica,       one->cached,
        one->preemptions, one->failures,     one->conversation,  one->turn,          one->arrival_s,
        one->scheduled_s, one->first_token_s, one->last_token_s,
    };
    const Limit *limit = fleet->given.limit;
    if (limit->is_there) {
        double ttft = one->first_token_s - one->arrival_s;
        double tpot = one->output > 1 ? (one->last_token_s - one->first_token_s) / (double)(one->output - 1) : 0.0;
        fleet->late += ttft > limit->ttft_s;
        fleet->slow += tpot > limit->tpot_s;
    }
    if (fleet->given.talks) {
        Sequence *next = talks_after(fleet, one);
        if (next)
            agenda_put(&fleet->coming, most(fleet->now, ready_s(fleet, next)), next);
    }
    one->after = fleet->spare;
    fleet->spare = one;
}

static int is_settled(const Fleet *fleet)
{
    const Limit *limit = fleet->given.limit;
    return limit->is_there && ((double)fleet->late > limit->enough || (double)fleet->slow > limit->enough);
}

/* pools ------------------------------------------------------------------------------------------------------- */

double fleet_hand_off(Fleet *fleet, double at, Sequence *one)
{
    const Way *way = fleet->given.way;
    double travel = 0.0;
    if (way) {
        double sent = 0.0;
        for (int64_t k = 0; k < way->n_kept; k++)
            sent += way->kept[2 * k] * least((double)one->need, way->kept[2 * k + 1]);
        travel = way->latency_s + sent * way->token_s + way->state_s;
    }
    agenda_put(&fleet->moving, at + travel, one);
    return travel;
}

static Replica *least_loaded(Replica **pool, int64_t n)
{
    Replica *best = pool[0];
    int64_t load = replica_load(best);
    for (int64_t i = 1; i < n; i++) {
        int64_t own = replica_load(pool[i]);
        if (own < load) {
            best = pool[i];
            load = own;
        }
    }
    return best;
}

static Replica *choose(Fleet *fleet, Replica **pool, int64_t n, double at, const Sequence *one, int64_t turn)
{
    if (n == 1)
        return pool[0];
    if (fleet->given.route == ROUND_ROBIN)
        return pool[turn % n];
    int64_t n_up = 0;
    for (int64_t i = 0; i < n; i++)
        replica_advance(pool[i], at);
    for (int64_t i = 0; i < n; i++)
        if (earlier(pool[i]->up_s) <= at)
            fleet->up[n_up++] = pool[i];
    Replica **up = n_up ? fleet->up : pool;
    if (!n_up)
        n_up = n;
    if (fleet->given.route == KV) {
        Replica *best = up[0];
        double ahead = replica_tokens_ahead(best, one);
        for (int64_t i = 1; i < n_up; i++) {
            double own = replica_tokens_ahead(up[i], one);
            if (own < ahead) {
                best = up[i];
                ahead = own;
            }
        }
        return best;
    }
    Replica *emptiest = least_loaded(up, n_up);
    if (fleet->given.route == PREFIX && one->n_names) {
        Replica *best = NULL;
        int64_t most_here = 0, load = 0;
        for (int64_t i = 0; i < n_up; i++) {
            int64_t here, away, own = replica_load(up[i]);
            cache_match(&up[i]->cache, one->names, one->n_names, &here, &away);
            if (!best || here > most_here || (here == most_here && own < load)) {
                best = up[i];
                most_here = here;
                load = own;
            }
        }
        if (most_here > 0 && load <= 2 * replica_load(emptiest) + 4)
            return best;
    }
    return emptiest;
}

static void deliver(Fleet *fleet, double at)
{
    while (earlier(agenda_next_s(&fleet->moving)) <= at && at < INFINITY) {
        Entry entry = agenda_pop(&fleet->moving);
        Sequence *one = entry.item;
        Replica *target =
            choose(fleet, fleet->open_decoders, fleet->given.decoders, entry.at_s, one, fleet->next_decoder);
        fleet->next_decoder++;
        one->is_swapped = one->is_moved = 1;
        one->decoder = target->index;
        replica_submit(target, one, entry.at_s, 1);
    }
}

static Replica *submit(Fleet *fleet, double at, Sequence *one)
{
    Replica **pool = fleet->open_to;
    int64_t n = fleet->n_open, n_up = 0;
    if (fleet->given.look_every_s > 0) {
        for (int64_t i = 0; i < n; i++)
            if (earlier(pool[i]->up_s) <= at)
                fleet->is_up[n_up++] = pool[i];
        if (n_up) {
            pool = fleet->is_up;
            n = n_up;
        }
    }
    Replica *target = choose(fleet, pool, n, at, one, fleet->next);
    fleet->next++;
    replica_submit(target, one, at, 0);
    return target;
}

static void strike(Fleet *fleet, const Loss *loss)
{
    for (int64_t i = 0; i < fleet->given.replicas; i++)
        replica_advance(&fleet->replicas[i], loss->at_s);
    deliver(fleet, loss->at_s);
    Replica *victim = &(fleet->given.decoders ? fleet->decoders : fleet->replicas)[loss->replica];
    replica_advance(victim, loss->at_s);
    Sequence **lost;
    int64_t n = replica_fail(victim, loss->at_s, loss->down_s, &lost);
    for (int64_t i = 0; i < n; i++)
        submit(fleet, loss->at_s, lost[i]);
    free(lost);
}

static double look_s(const Fleet *fleet)
{
    double every = fleet->given.look_every_s;
    return every > 0 ? (double)(fleet->looks + 1) * every : INFINITY;
}

/* Bring all to the time of a look; the caller looks. */
static int look(Fleet *fleet)
{
    fleet->looks++;
    double at = (double)fleet->looks * fleet->given.look_every_s;
    for (int64_t i = 0; i < fleet->given.replicas; i++)
        replica_advance(&fleet->replicas[i], at);
    return LOOK;
}

/* entries ----------------------------------------------------------------------------------------------------- */

EXPORT void traffic_close(Fleet *fleet)
{
    if (!fleet)
        return;
    for (int64_t i = 0; i < fleet->n_everyone; i++)
        replica_close(&fleet->everyone[i]);
    for (int64_t i = 0; i < fleet->n_all; i++) {
        free(fleet->all[i]->names);
        free(fleet->all[i]);
    }
    agenda_close(&fleet->moving);
    agenda_close(&fleet->coming);
    agenda_close(&fleet->pending);
    free(fleet->all);
    free(fleet->everyone);
    free(fleet->open_to);
    free(fleet->open_decoders);
    free(fleet->up);
    free(fleet->is_up);
    free(fleet->due);
    free(fleet->stuck);
    free(fleet->answers);
    free(fleet);
}

/* Whether there was memory for all of it. */
static int begin(Fleet *fleet, const Given *given)
{
    Escape *escape = &fleet->escape;
    int64_t n = given->replicas + given->decoders;
    if (setjmp(escape->to))
        return 0;
    fleet->given = *given;
    agenda_open(&fleet->moving, escape);
    agenda_open(&fleet->coming, escape);
    agenda_open(&fleet->pending, escape);
    fleet->everyone = grown(escape, NULL, (size_t)n * sizeof *fleet->everyone);
    fleet->replicas = fleet->everyone;
    fleet->decoders = fleet->everyone + given->replicas;
    for (int64_t i = 0; i < n; i++) {
        int decodes = i >= given->replicas;
        Replica *r = &fleet->everyone[i];
        replica_open(r, fleet, decodes ? i - given->replicas : i, decodes ? given->decode_rules : given->rules,
                     decodes ? given->decode_times : given->times,
                     !given->has_front ? NULL
                     : decodes         ? given->decode_seen
                                       : given->seen);
        r->hands_off = !decodes && given->decoders > 0;
        fleet->n_everyone = i + 1;
        fleet->wants_names |= r->s->prefix_cache != 0;
    }
    size_t pointers = (size_t)n * sizeof *fleet->up;
    fleet->open_to = grown(escape, NULL, pointers);
    fleet->open_decoders = grown(escape, NULL, pointers);
    fleet->up = grown(escape, NULL, pointers);
    fleet->is_up = grown(escape, NULL, pointers);
    fleet->due = grown(escape, NULL, (size_t)n * sizeof *fleet->due);
    fleet->stuck = grown(escape, NULL, (size_t)n);
    for (int64_t i = 0; i < given->replicas; i++)
        fleet->open_to[i] = &fleet->replicas[i];
    for (int64_t i = 0; i < given->decoders; i++)
        fleet->open_decoders[i] = &fleet->decoders[i];
    fleet->n_open = given->replicas;
    for (int64_t i = 0; i < n; i++) {
        fleet->due[i] = INFINITY;
        fleet->stuck[i] = 0;
    }
    for (int64_t i = 0; i < given->n_losses; i++)
        agenda_put(&fleet->pending, given->losses[i].at_s, (void *)&given->losses[i]);
    return 1;
}

/* A fleet at the time 0; NULL where there is no memory. What `given` points to stays with the caller until the end. */
EXPORT Fleet *traffic_open(const Given *given)
{
    Fleet *fleet = calloc(1, sizeof *fleet);
    if (fleet && !begin(fleet, given)) {
        traffic_close(fleet);
        return NULL;
    }
    return fleet;
}

/* Serve requests that come in this order, after those of earlier calls. After LOOK it is called again with the same. */
EXPORT int traffic_feed(Fleet *fleet, const Requests *requests)
{
    if (setjmp(fleet->escape.to))
        return fleet->escape.status;
    while (fleet->fed < requests->n) {
        int64_t i = fleet->fed;
        double arrival = requests->arrival_s[i];
        double at = arrival + (fleet->given.has_front ? front_before(fleet->given.seen, requests->prompt[i]) : 0.0);
        if (earlier(look_s(fleet)) <= at)
            return look(fleet);
        while (earlier(agenda_next_s(&fleet->pending)) <= at)
            strike(fleet, agenda_pop(&fleet->pending).item);
        if (fleet->given.decoders) {
            for (int64_t k = 0; k < fleet->given.replicas; k++)
                replica_advance(&fleet->replicas[k], at);
            deliver(fleet, at);
        }
        Sequence *one = fleet_sequence(fleet);
        one->id = requests->first_id + i;
        one->arrival_s = arrival;
        one->prompt = requests->prompt[i];
        one->output = requests->output[i];
        one->priority = requests->priority[i];
        int64_t begin = requests->names_at[i], names = requests->names_at[i + 1] - begin;
        if (fleet->wants_names && names) {
            sequence_names(fleet, one, names);
            memcpy(one->names, requests->names + begin, (size_t)names * sizeof *one->names);
            one->n_names = names;
        }
        submit(fleet, at, one);
        fleet->fed++;
        fleet->taken++;
        if (is_settled(fleet))
            return STOPPED;
    }
    fleet->fed = 0;
    return DONE;
}

/* Serve to the end what has come. */
EXPORT int traffic_drain(Fleet *fleet)
{
    if (setjmp(fleet->escape.to))
        return fleet->escape.status;
    while (agenda_next_s(&fleet->pending) < INFINITY)
        strike(fleet, agenda_pop(&fleet->pending).item);
    for (int64_t i = 0; i < fleet->given.replicas; i++)
        replica_advance(&fleet->replicas[i], INFINITY);
    while (agenda_next_s(&fleet->moving) < INFINITY)
        deliver(fleet, agenda_next_s(&fleet->moving));
    for (int64_t i = 0; i < fleet->given.decoders; i++)
        replica_advance(&fleet->decoders[i], INFINITY);
    return DONE;
}

/* Find the events of those that something has moved on to theirs, or past it; target NULL: of all. */
static void renew_due(Fleet *fleet, const Replica *target)
{
    for (int64_t i = 0; i < fleet->n_everyone; i++) {
        Replica *r = &fleet->everyone[i];
        if (!target || r == target || r->t >= earlier(fleet->due[i])) {
            fleet->stuck[i] = 0;
            fleet->due[i] = replica_due_s(r, 0);
        }
    }
}

/* The replica whose event is over first; of one moment, the first of the pool. */
static int64_t soonest_of(const Fleet *fleet)
{
    int64_t best = 0;
    for (int64_t i = 1; i < fleet->n_everyone; i++)
        if (fleet->due[i] < fleet->due[best])
            best = i;
    for (int64_t i = 0; i < best; i++)
        if (earlier(fleet->due[i]) <= fleet->due[best])
            return i;
    return best;
}

/* Serve users who wait for answers. MORE: call it again, when at least `answers` answered requests were taken. */
EXPORT int traffic_converse(Fleet *fleet, int64_t answers)
{
    if (setjmp(fleet->escape.to))
        return fleet->escape.status;
    if (!fleet->has_begun) {
        fleet->has_begun = 1;
        fleet->start = talks_start(fleet);
    } else if (fleet->has_looked) {
        fleet->has_looked = 0;
        renew_due(fleet, NULL);
    }
    while (fleet->n_answers < answers) {
        double starts_s = fleet->start ? ready_s(fleet, fleet->start) : INFINITY;
        double at = least(least(least(starts_s, agenda_next_s(&fleet->coming)), agenda_next_s(&fleet->moving)),
                          agenda_next_s(&fleet->pending));
        double soonest = INFINITY;
        for (int64_t i = 0; i < fleet->n_everyone; i++)
            soonest = least(soonest, fleet->due[i]);
        if (at < INFINITY || soonest < INFINITY)
            at = least(at, look_s(fleet));
        if (soonest < earlier(at)) {
            int64_t i = soonest_of(fleet);
            fleet->now = soonest;
            fleet->stuck[i] = (char)replica_play(&fleet->everyone[i], fleet->stuck[i]);
            fleet->due[i] = replica_due_s(&fleet->everyone[i], fleet->stuck[i]);
            continue;
        }
        if (at == INFINITY)
            return DONE;
        fleet->now = at;
        Sequence *one = NULL;
        if (earlier(look_s(fleet)) <= at) {
            fleet->has_looked = 1;
            return look(fleet);
        }
        if (earlier(agenda_next_s(&fleet->pending)) <= at)
            strike(fleet, agenda_pop(&fleet->pending).item);
        else if (earlier(agenda_next_s(&fleet->moving)) <= at)
            deliver(fleet, at);
        else if (fleet->start && earlier(starts_s) <= at) {
            one = fleet->start;
            fleet->start = talks_start(fleet);
        } else
            one = agenda_pop(&fleet->coming).item;
        Replica *target = one ? submit(fleet, at, one) : NULL;
        renew_due(fleet, target);
        if (one) {
            fleet->taken++;
            if (is_settled(fleet))
                return STOPPED;
        }
    }
    return MORE;
}

/* Answered requests since the last call, in the order of their ends; they stay until the next entry. */
EXPORT int64_t traffic_answers(Fleet *fleet, const Answer **answers)
{
    int64_t n = fleet->n_answers;
    *answers = fleet->answers;
    fleet->n_answers = 0;
    return n;
}

/* Totals: requests that came, those beyond either limit; a request that does not fit, and the tokens that do. */
EXPORT void traffic_totals(const Fleet *fleet, int64_t *out)
{
    const int64_t totals[] = {fleet->taken,      fleet->late,       fleet->slow,      fleet->bad_id,
                              fleet->bad_prompt, fleet->bad_output, fleet->bad_tokens};
    memcpy(out, totals, sizeof totals);
}

/* What each replica did, decoders last. */
EXPORT void traffic_replicas(const Fleet *fleet, Told *out)
{
    for (int64_t i = 0; i < fleet->n_everyone; i++) {
        const Replica *r = &fleet->everyone[i];
        out[i] = (Told){
            r->t,      r->busy_s,        r->up_s,         r->steps,
            r->events, r->prompt_tokens, r->served,       replica_load(r),
            r->queued_tokens,            r->s->is_priority ? r->n_waiting : r->queue.count,
            r->blocks_private + cache_used_blocks(&r->cache),
        };
    }
}

/* Which replicas take requests from now on, in the order in which routes see them. */
EXPORT void traffic_take(Fleet *fleet, int64_t n, const int64_t *which)
{
    fleet->n_open = n;
    for (int64_t i = 0; i < n; i++)
        fleet->open_to[i] = &fleet->replicas[which[i]];
}

/* A replica serves from then on. */
EXPORT void traffic_up(Fleet *fleet, int64_t replica, const double *up_s)
{
    fleet->replicas[replica].up_s = *up_s;
}
