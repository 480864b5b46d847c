/* One replica, event by event: what is admitted, what a step does, who leaves, what makes room: replica.py, state.py. */
#include "traffic.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* lists ------------------------------------------------------------------------------------------------------- */

static void push_last(List *list, Sequence *one)
{
    one->before = list->last;
    one->after = NULL;
    if (list->last)
        list->last->after = one;
    else
        list->first = one;
    list->last = one;
    list->count++;
}

static void push_first(List *list, Sequence *one)
{
    one->before = NULL;
    one->after = list->first;
    if (list->first)
        list->first->before = one;
    else
        list->last = one;
    list->first = one;
    list->count++;
}

static void take_out(List *list, Sequence *one)
{
    if (one->before)
        one->before->after = one->after;
    else
        list->first = one->after;
    if (one->after)
        one->after->before = one->before;
    else
        list->last = one->before;
    list->count--;
}

/* Heaps as heapq has them: what fails leaves them in their order. */
static int waits_before(const Waiting *a, const Waiting *b)
{
    return a->priority < b->priority || (a->priority == b->priority && a->order < b->order);
}

static void sift_up(Waiting *heap, int64_t at, Waiting entry)
{
    while (at > 0) {
        int64_t above = (at - 1) / 2;
        if (!waits_before(&entry, &heap[above]))
            break;
        heap[at] = heap[above];
        at = above;
    }
    heap[at] = entry;
}

static void heap_push(Replica *r, Sequence *one)
{
    if (r->n_waiting == r->heap_room) {
        int64_t room = r->heap_room ? 2 * r->heap_room : 64;
        r->heap = grown(r->cache.escape, r->heap, (size_t)room * sizeof *r->heap);
        r->heap_room = room;
    }
    sift_up(r->heap, r->n_waiting++, (Waiting){one->priority, one->order, one});
}

static Sequence *heap_pop(Replica *r)
{
    Waiting *heap = r->heap;
    Sequence *out = heap[0].one;
    Waiting last = heap[--r->n_waiting];
    int64_t n = r->n_waiting, at = 0;
    if (!n)
        return out;
    for (int64_t below = 1; below < n; below = 2 * at + 1) {
        if (below + 1 < n && !waits_before(&heap[below], &heap[below + 1]))
            below++;
        heap[at] = heap[below];
        at = below;
    }
    sift_up(heap, at, last);
    return out;
}

static int ends_before(const Finish *a, const Finish *b)
{
    return a->finish < b->finish || (a->finish == b->finish && a->order < b->order);
}

static void decoding_push(Replica *r, Sequence *one)
{
    if (r->n_decoding == r->decoding_room) {
        int64_t room = r->decoding_room ? 2 * r->decoding_room : 64;
        r->decoding = grown(r->cache.escape, r->decoding, (size_t)room * sizeof *r->decoding);
        r->decoding_room = room;
    }
    Finish *heap = r->decoding, entry = {one->finish, one->order, one};
    int64_t at = r->n_decoding++;
    while (at > 0) {
        int64_t above = (at - 1) / 2;
        if (!ends_before(&entry, &heap[above]))
            break;
        heap[at] = heap[above];
        at = above;
    }
    heap[at] = entry;
}

static void decoding_pop(Replica *r)
{
    Finish *heap = r->decoding, last = heap[--r->n_decoding];
    int64_t n = r->n_decoding, at = 0;
    if (!n)
        return;
    for (int64_t below = 1; below < n; below = 2 * at + 1) {
        if (below + 1 < n && ends_before(&heap[below + 1], &heap[below]))
            below++;
        if (!ends_before(&heap[below], &last))
            break;
        heap[at] = heap[below];
        at = below;
    }
    heap[at] = last;
}

/* Whether an entry is of a sequence that still decodes here, and ends then. */
static int is_current(const Replica *r, const Finish *entry)
{
    const Sequence *one = entry->one;
    return one->decodes_in == r && one->order == entry->order && one->finish == entry->finish;
}

/* the queue --------------------------------------------------------------------------------------------------- */

static inline int64_t waiting(const Replica *r)
{
    return r->s->is_priority ? r->n_waiting : r->queue.count;
}

static inline Sequence *head_of(const Replica *r)
{
    return r->s->is_priority ? r->heap[0].one : r->queue.first;
}

static Sequence *pop(Replica *r)
{
    Sequence *one;
    if (r->s->is_priority)
        one = heap_pop(r);
    else {
        one = r->queue.first;
        take_out(&r->queue, one);
    }
    r->queued_tokens -= one->need;
    return one;
}

static void again(Replica *r, Sequence *one)
{
    r->queued_tokens += one->need;
    if (r->s->is_priority)
        heap_push(r, one);
    else
        push_first(&r->queue, one);
}

int64_t replica_load(const Replica *r)
{
    return waiting(r) + r->prefilling.count + r->slots.count;
}

double replica_tokens_ahead(const Replica *r, const Sequence *one)
{
    int64_t under_way = 0, here = 0, away;
    for (const Sequence *q = r->prefilling.first; q; q = q->after)
        under_way += q->need - q->done;
    if (r->s->prefix_cache) {
        cache_match(&r->cache, one->names, one->n_names, &here, &away);
        here *= r->s->hash_block;
    }
    return (double)(r->queued_tokens + under_way) + r->S + (double)most_of(1, one->prompt - here);
}

/* room -------------------------------------------------------------------------------------------------------- */

static inline int64_t blocks_of(const Replica *r, const Sequence *q, int64_t D)
{
    return ceil_div((int64_t)(q->origin + r->s->accepted * (double)D + 0.999999), r->s->block) - q->hit;
}

static int64_t decoding_blocks(const Replica *r, int64_t D)
{
    int64_t blocks = 0;
    for (const Sequence *q = r->slots.first; q; q = q->after)
        blocks += blocks_of(r, q, D);
    return blocks;
}

static int64_t used(const Replica *r, int64_t D)
{
    return r->blocks_private + cache_used_blocks(&r->cache) + decoding_blocks(r, D);
}

static double bound(const Replica *r, int64_t D)
{
    double n = (double)r->slots.count;
    double context = r->S + n * r->s->accepted * (double)(D - r->D);
    return (double)(r->blocks_private + cache_used_blocks(&r->cache)) + context / (double)r->s->block + n;
}

static int fits(Replica *r, int64_t more)
{
    int64_t D = r->D + 1, room;
    double most_used = bound(r, D);
    if (most_used + (double)more > (double)r->cap)
        room = r->cap - used(r, D) - more;
    else
        room = r->cap - (int64_t)ceil(most_used) - more;
    if (room < 0)
        return 0;
    if (r->cache.idle.count)
        cache_shrink(&r->cache, room);
    return 1;
}

static inline int64_t fullest(const Replica *r, int64_t n)
{
    return ceil_div(n, r->s->groups);
}

static int64_t own_room(const Replica *r)
{
    const Rules *s = r->s;
    if (!s->mixes || !r->slots.count)
        return most_of(1, r->own_budget);
    double taken = (double)fullest(r, r->slots.count) * s->verified / (double)s->stages;
    return most_of(1, r->own_budget - (int64_t)ceil(taken));
}

static double factor(Replica *r)
{
    int64_t inside = r->slots.count + r->prefilling.count;
    if (inside != r->inside || r->sizes != r->sized) {
        r->inside = inside;
        r->sized = r->sizes;
        r->correction = shift_factor(&r->times->tpot, most(1.0, (double)inside / (double)r->s->groups),
                                     inside ? r->sizes / (double)inside : 10.0);
    }
    return r->correction;
}

static double windows_s(const Replica *r, double more)
{
    double seconds = 0.0;
    for (int64_t k = 0; k < r->times->n_windows; k++) {
        double width = r->times->windows[2 * k], each = r->times->windows[2 * k + 1];
        seconds += each * (r->window_sums[k] + least(more, width));
    }
    return seconds;
}

static double reading_s(const Replica *r, int64_t n, double more)
{
    double share = r->is_one_group ? 1.0 : (double)fullest(r, n) / (double)n;
    double seconds = times_reading_s(r->times, fullest(r, n), (r->S + more) * share);
    return r->times->n_windows ? seconds + windows_s(r, more) * share : seconds;
}

static inline double entry_of(const Replica *r, const double *table, int64_t count, int64_t at)
{
    if (at >= count)
        leave(r->cache.escape, BEYOND);
    return table[at];
}

static double plain_s(const Replica *r, int64_t n, double more)
{
    const Times *times = r->times;
    double verified = r->s->verified;
    if (r->is_one_group && verified == 1.0 && !times->reading.rows) {
        double seconds = entry_of(r, times->tokens, times->n_tokens, n) +
                         entry_of(r, times->sampled, times->n_sampled, n) + times->per_context * (r->S + more);
        return times->n_windows ? seconds + windows_s(r, more) : seconds;
    }
    int64_t full = fullest(r, n);
    return of_tokens(times, (double)full * verified, (double)n / (double)r->s->groups * verified) +
           entry_of(r, times->sampled, times->n_sampled, full) + reading_s(r, n, more);
}

/* Blocks in use after k steps: see `until_full`. */
static int64_t blocks_after(const Replica *r, int64_t k, const Sequence *prompt, int64_t take, int decodes)
{
    int64_t blocks = used(r, r->D + (decodes ? k : 1));
    if (prompt && k > 0) {
        int64_t held = ceil_div(prompt->done + (k - 1) * take, r->s->block) - prompt->hit;
        blocks += most_of(0, held) - prompt->blocks;
    }
    return blocks;
}

static int64_t until_full(Replica *r, int64_t at_most, const Sequence *prompt, int64_t take, int decodes)
{
    int64_t low = 0, high = at_most;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (blocks_after(r, middle + 1, prompt, take, decodes) > r->cap)
            high = middle;
        else
            low = middle + 1;
    }
    if (r->cache.idle.count)
        cache_shrink(&r->cache, most_of(0, r->cap - blocks_after(r, low, prompt, take, decodes)));
    return low;
}

/* who comes and goes ------------------------------------------------------------------------------------------ */

static void unshare(Replica *r, Sequence *one)
{
    if (one->n_shared) {
        cache_release(&r->cache, one->names, one->n_shared);
        one->n_shared = one->hit = 0;
    }
}

static void finish(Replica *r, Sequence *one)
{
    one->last_token_s = r->t + one->late_s;
    unshare(r, one);
    if (one->n_later && r->s->prefix_cache && one->decoder < 0)
        cache_retain(&r->cache, one->names + one->n_names, one->n_later);
    r->served++;
    fleet_answered(r->fleet, r, one);
}

static double leave_batch(Replica *r, Sequence *one)
{
    double context = one->origin + r->s->accepted * (double)r->D;
    take_out(&r->slots, one);
    one->decodes_in = NULL;
    r->S -= context;
    r->sizes -= one->size;
    for (int64_t k = 0; k < r->times->n_windows; k++)
        r->window_sums[k] -= least(context, r->times->windows[2 * k]);
    return context;
}

static void join(Replica *r, Sequence *one)
{
    r->blocks_private -= one->blocks;
    one->blocks = 0;
    double context = (double)one->need;
    one->origin = context - r->s->accepted * (double)r->D;
    one->finish = r->D + most_of(1, (int64_t)ceil((double)one->left / r->s->accepted - 1e-9));
    one->decodes_in = r;
    push_last(&r->slots, one);
    r->sizes += one->size;
    decoding_push(r, one);
    r->S += context;
    for (int64_t k = 0; k < r->times->n_windows; k++)
        r->window_sums[k] += least(context, r->times->windows[2 * k]);
}

static void resume(Replica *r, Sequence *one)
{
    if (!one->is_moved)
        r->t += (double)one->need * r->times->kv_B / r->s->host_Bps;
    one->is_swapped = one->is_moved = 0;
    if (one->replica < 0)
        one->replica = r->index;
    join(r, one);
}

static void tick(Replica *r, int64_t k)
{
    double a = r->s->accepted;
    int64_t n = r->slots.count;
    for (int64_t i = 0; i < r->times->n_windows; i++) {
        double width = r->times->windows[2 * i], sum = 0.0;
        for (const Sequence *q = r->slots.first; q; q = q->after)
            sum += least(q->origin + a * (double)(r->D + k), width);
        r->window_sums[i] = sum;
    }
    r->D += k;
    r->S += (double)(n * k) * a;
    while (r->n_decoding && r->decoding[0].finish <= r->D) {
        Finish entry = r->decoding[0];
        decoding_pop(r);
        if (!is_current(r, &entry))
            continue;
        leave_batch(r, entry.one);
        finish(r, entry.one);
    }
    if (!r->slots.count) {
        r->S = 0.0;
        if (!r->prefilling.count)
            r->sizes = 0.0;
    }
}

static int drop_last(Replica *r)
{
    if (r->prefilling.count + r->slots.count <= 1)
        return 0;
    Sequence *one = r->prefilling.last;
    take_out(&r->prefilling, one);
    r->sizes -= one->size;
    r->blocks_private -= one->blocks;
    one->blocks = one->done = 0;
    unshare(r, one);
    one->preemptions++;
    again(r, one);
    return 1;
}

static void make_room(Replica *r)
{
    int64_t decoding = decoding_blocks(r, r->D + 1);
    while (r->slots.count && r->blocks_private + cache_used_blocks(&r->cache) + decoding > r->cap) {
        if (r->slots.count == 1 && !r->prefilling.count)
            too_small(r->fleet, r->slots.first, r->s->blocks * r->s->block);
        Sequence *one = r->slots.first;
        for (Sequence *q = one->after; q; q = q->after)
            if (q->order > one->order)
                one = q;
        if (r->prefilling.count && r->prefilling.last->order > one->order) {
            drop_last(r);
            continue;
        }
        if (r->s->is_priority)
            for (Sequence *q = r->slots.first; q; q = q->after)
                if (q->priority > one->priority || (q->priority == one->priority && q->order > one->order))
                    one = q;
        decoding -= blocks_of(r, one, r->D + 1);
        double context = leave_batch(r, one);
        one->left = most_of(1, (int64_t)rint((double)(one->finish - r->D) * r->s->accepted));
        one->need = (int64_t)rint(context);
        one->finish = -1;
        one->preemptions++;
        unshare(r, one);
        if (r->s->is_swap) {
            one->is_swapped = 1;
            r->t += (double)one->need * r->times->kv_B / r->s->host_Bps;
        } else
            one->done = 0;
        again(r, one);
        r->events++;
    }
}

/* admission --------------------------------------------------------------------------------------------------- */

static int looks(const Replica *r)
{
    const Rules *s = r->s;
    int64_t n = waiting(r);
    if (!n || !r->slots.count || (s->interval == 1 && s->wait == 0) || head_of(r)->is_moved)
        return n > 0;
    int is_due = r->steps >= r->waits_from + s->wait || (double)n >= s->enough;
    return is_due && r->steps % s->interval == 0;
}

static int64_t steps_to_look(const Replica *r)
{
    int64_t due = most_of(r->steps + 1, r->waits_from + r->s->wait);
    return ceil_div(due, r->s->interval) * r->s->interval - r->steps;
}

static void hold(Replica *r, Sequence *one, int64_t tokens)
{
    int64_t want = most_of(0, ceil_div(tokens, r->s->block) - one->hit);
    r->blocks_private += want - one->blocks;
    one->blocks = want;
}

static int admit(Replica *r)
{
    const Rules *s = r->s;
    int64_t room = s->budget - r->slots.count * (s->mixes ? 1 : 0);
    if (s->verified > 1 && s->mixes)
        room = (int64_t)((double)s->budget - (double)r->slots.count * s->verified);
    int entered = 0;
    int64_t own = r->batches > 1 ? own_room(r) : most_of(room, 0);
    for (const Sequence *q = r->prefilling.first; q; q = q->after)
        room -= s->chunks ? least_of(q->need - q->done, own) : q->need - q->done;
    while (waiting(r) && room > 0 && r->slots.count + r->prefilling.count < s->max_sequences) {
        if (!s->packs && r->prefilling.count >= r->batches)
            break;
        Sequence *one = head_of(r);
        if (one->is_swapped) {
            if (!fits(r, ceil_div((int64_t)ceil((double)one->need + s->accepted), s->block)))
                break;
            pop(r);
            resume(r, one);
            entered = 1;
            continue;
        }
        int64_t hit = 0, loaded = 0, shared = s->prefix_cache ? one->n_names : 0;
        if (shared) {
            int64_t here, away;
            cache_match(&r->cache, one->names, shared, &here, &away);
            hit = least_of((here + away) * s->hash_block, one->need - 1);
            loaded = most_of(0, hit - here * s->hash_block);
            shared = least_of(shared, one->prompt / s->hash_block);
        }
        int64_t tokens = one->need - hit;
        if (!s->chunks && tokens > room && (r->prefilling.count || entered))
            break;
        int64_t first = s->chunks ? least_of(least_of(tokens, room), own) : tokens;
        int64_t fresh = shared ? cache_new_blocks(&r->cache, one->names, shared) : 0;
        double next_token = first == tokens ? s->accepted : 0.0;
        int64_t private = ceil_div((int64_t)ceil((double)(hit + first) + next_token), s->block) - shared * r->cache.each;
        if (!fits(r, most_of(0, private) + fresh))
            break;
        pop(r);
        entered = 1;
        if (one->scheduled_s < 0) {
            one->scheduled_s = r->t;
            one->replica = r->index;
            one->cached = hit;
        }
        one->done = hit;
        one->n_shared = shared;
        if (shared) {
            cache_take(&r->cache, one->names, shared);
            one->hit = shared * r->cache.each;
        }
        one->began_s = r->t;
        if (loaded)
            r->t += (double)loaded * r->times->kv_B / s->host_Bps;
        hold(r, one, hit + first);
        push_last(&r->prefilling, one);
        r->sizes += one->size;
        room -= first;
    }
    return entered;
}

void replica_submit(Replica *r, Sequence *one, double at, int is_moved)
{
    if (r->t < at) {
        replica_advance(r, at);
        if (r->t < at)
            r->t = at;
    }
    r->order++;
    if (!is_moved)
        sequence_begin(one);
    one->order = r->order;
    int64_t held = one->need + (r->hands_off ? 0 : one->left);
    if (held > (r->s->blocks + 1) * r->s->block)
        too_small(r->fleet, one, r->s->blocks * r->s->block);
    r->queued_tokens += one->need;
    if (!waiting(r))
        r->waits_from = r->steps;
    if (r->s->is_priority)
        heap_push(r, one);
    else
        push_last(&r->queue, one);
}

/* steps ------------------------------------------------------------------------------------------------------- */

/* How many of k steps start within `gap` seconds, at least one, and their seconds: `_until`. */
static int64_t steps_within(int64_t k, double first, double grow, double gap, double *seconds)
{
    double whole = (double)k * first + 0.5 * grow * (double)k * (double)(k - 1);
    if (whole > gap) {
        double b = first - 0.5 * grow;
        if (gap <= 0)
            k = 1;
        else {
            double steps = grow > 0 ? ceil((sqrt(b * b + 2.0 * grow * gap) - b) / grow) : ceil(gap / first);
            if (steps < (double)k)
                k = most_of(1, (int64_t)steps);
        }
        whole = (double)k * first + 0.5 * grow * (double)k * (double)(k - 1);
    }
    *seconds = whole;
    return k;
}

static int64_t next_finish(Replica *r)
{
    while (!is_current(r, &r->decoding[0]))
        decoding_pop(r);
    return r->decoding[0].finish;
}

static double grow_s(const Replica *r, int64_t n, int64_t k)
{
    const Times *times = r->times;
    double full = (double)fullest(r, n), a = r->s->accepted;
    if (!times->reading.rows)
        return times->per_context * full * a;
    double now = r->S * full / (double)n;
    int64_t each = (int64_t)full;
    return (times_reading_s(times, each, now + full * a * (double)k) - times_reading_s(times, each, now)) / (double)k;
}

static int64_t next_steps(Replica *r, double until, double *seconds)
{
    int64_t n = r->slots.count, k = next_finish(r) - r->D;
    *seconds = 0.0;
    if (waiting(r) && (r->s->interval > 1 || r->s->wait > 0))
        k = least_of(k, steps_to_look(r));
    if (bound(r, r->D + k) > (double)r->cap) {
        k = until_full(r, k, NULL, 0, 1);
        if (k == 0)
            return 0;
    }
    double a = r->s->accepted, by = factor(r) * r->times->verify;
    double first = plain_s(r, n, 0.0) * by;
    double grow = grow_s(r, n, k) * by;
    by *= (double)fullest(r, n) / (double)n;
    for (int64_t i = 0; i < r->times->n_windows; i++) {
        double width = r->times->windows[2 * i], each = r->times->windows[2 * i + 1], nearest = INFINITY;
        int64_t inside = 0;
        for (const Sequence *q = r->slots.first; q; q = q->after) {
            double left = width - q->origin - a * (double)r->D;
            if (left > 0) {
                inside++;
                nearest = least(nearest, left);
            }
        }
        if (inside) {
            grow += each * (double)inside * a * by;
            double steps = nearest / a;
            if (steps < (double)k)
                k = least_of(k, most_of(1, (int64_t)steps));
        }
    }
    return steps_within(k, first, grow, until - r->t, seconds);
}

static void leap(Replica *r, double until)
{
    double whole;
    int64_t k = next_steps(r, until, &whole);
    if (k == 0) {
        make_room(r);
        return;
    }
    r->t += whole;
    r->busy_s += whole;
    r->steps += k;
    r->events++;
    tick(r, k);
}

static int64_t next_chunks(Replica *r, int64_t take, int64_t at_least, int64_t n, double first, double until,
                           double *seconds)
{
    const Times *times = r->times;
    Sequence *one = r->prefilling.first;
    *seconds = first;
    if (r->cache.idle.count || times->reading.rows || times->asking.rows || times->n_window_pairs)
        return 1;
    int64_t k = 1 + most_of(0, floor_div(one->need - one->done - at_least, take) + 1);
    if (n)
        k = least_of(k, next_finish(r) - r->D);
    if (k > 1)
        k = until_full(r, k, one, take, n > 0);
    if (k == 1)
        return 1;
    double grow = prompt_s(times, one->done, take) - prompt_s(times, one->done - take, take);
    if (n)
        grow += grow_s(r, n, k) * times->verify;
    k = steps_within(k, first, grow * factor(r), until - r->t, seconds);
    one->done += (k - 1) * take;
    hold(r, one, one->done);
    return k;
}

typedef struct {
    int64_t tokens, longest, done;
    double extra, slowest;
} Taken;

static Taken taken(Replica *r, int64_t room, int64_t own)
{
    const Rules *s = r->s;
    Taken out = {0, 0, 0, 0.0, 0.0};
    for (Sequence *one = r->prefilling.first; one && room > 0; one = one->after) {
        int64_t take = one->need - one->done;
        if (s->chunks)
            take = least_of(least_of(take, room), own);
        else if (take > room && out.tokens)
            break;
        double more = one->done + take >= one->need ? s->accepted : 0.0;
        int64_t holds =
            ceil_div((int64_t)ceil((double)(one->done + take) + more), s->block) - one->hit - one->blocks;
        if (holds > 0 && !fits(r, holds))
            break;
        hold(r, one, one->done + take);
        double attention = prompt_s(r->times, one->done, take);
        out.extra += attention;
        out.longest = most_of(out.longest, take);
        out.slowest = most(out.slowest, attention);
        one->done += take;
        out.tokens += take;
        room -= take;
        if (one->done >= one->need) {
            if (out.done == r->ended_room) {
                int64_t more_room = r->ended_room ? 2 * r->ended_room : 16;
                r->ended = grown(r->cache.escape, r->ended, (size_t)more_room * sizeof *r->ended);
                r->travels = grown(r->cache.escape, r->travels, (size_t)more_room * sizeof *r->travels);
                r->ended_room = more_room;
            }
            r->ended[out.done++] = one;
        }
    }
    return out;
}

static double prompt_done(Replica *r, Sequence *one)
{
    take_out(&r->prefilling, one);
    r->sizes -= one->size;
    one->left--;
    if (one->left <= 0)
        r->blocks_private -= one->blocks;
    else if (r->hands_off) {
        r->blocks_private -= one->blocks;
        one->blocks = 0;
        unshare(r, one);
        r->served++;
        return fleet_hand_off(r->fleet, r->t, one);
    } else
        join(r, one);
    return 0.0;
}

static void see(Replica *r, Sequence *one, double by, double travel)
{
    const Seen *seen = r->seen;
    if (one->first_token_s >= 0)
        return;
    if (!seen) {
        one->first_token_s = r->t;
        return;
    }
    int64_t n = r->slots.count;
    double more = 0.0;
    if (one->left <= 0) {
        n++;
        more = (double)one->need;
    }
    double correction = shift_factor(
        &seen->ttft, most(1.0, (double)(n + r->prefilling.count) / (double)r->s->groups), one->size);
    double prefill = (r->t - one->began_s) / by;
    if (r->hands_off)
        one->first_token_s = one->began_s + correction * prefill + travel;
    else {
        double plain = plain_s(r, n, more), front = front_before(seen, one->prompt);
        double parts = prefill + 0.25 * seen->step_share * plain + front + seen->visible_tokens * (plain * r->times->verify);
        one->first_token_s = one->began_s - front + correction * parts;
    }
    one->late_s = one->first_token_s - travel - r->t;
}

static int mixed(Replica *r, double until)
{
    const Rules *s = r->s;
    const Times *times = r->times;
    int64_t n = s->mixes ? r->slots.count : 0;
    if (n && bound(r, r->D + 1) > (double)r->cap) {
        make_room(r);
        n = r->slots.count;
    }
    int64_t room = s->budget - (s->verified == 1.0 ? n : (int64_t)ceil((double)n * s->verified));
    int64_t own = r->batches > 1 ? own_room(r) : room;
    int has_entered = looks(r) && admit(r);
    Taken got = taken(r, room, own);
    while (!got.tokens && !r->slots.count) {
        if (!drop_last(r))
            too_small(r->fleet, r->prefilling.first, s->blocks * s->block);
        got = taken(r, room, own);
    }
    if (!got.tokens) {
        if (r->prefilling.count && !has_entered)
            return 0;
        leap(r, r->t);
        return 1;
    }
    double tokens = (double)got.tokens, extra = got.extra, body;
    double v = r->is_one_group && s->verified == 1.0 ? (double)n : (double)fullest(r, n) * s->verified;
    if (r->batches == 1)
        body = between(times->tokens, times->n_tokens, v + tokens);
    else {
        double batches = (double)r->batches, groups = (double)s->groups, stages = (double)s->stages;
        double held = most(tokens / batches, (double)got.longest);
        extra = most(extra / batches, got.slowest);
        double mean = (double)n / groups * s->verified + most(tokens / batches, (double)got.longest / groups) * stages;
        body = of_tokens(times, v + held * stages, mean);
    }
    int64_t sampled = r->is_one_group ? n + got.done : fullest(r, n + got.done);
    double seconds = body + times->sampled[least_of(sampled, times->n_sampled - 1)] + extra;
    if (n) {
        seconds += reading_s(r, n, 0.0);
        if (times->verify != 1.0)
            seconds += (times->verify - 1.0) * plain_s(r, n, 0.0);
    }
    double launched = launched_s(times, (v + tokens) / (double)r->batches);
    int by_device = seconds >= launched;
    double by = factor(r);
    seconds = (most(seconds, launched) + times->prefill_step) * by;
    int64_t k = 1;
    if (by_device && until > r->t + seconds && got.tokens == got.longest && !(got.done || has_entered))
        k = next_chunks(r, got.tokens, most_of(own, got.tokens + 1), n, seconds, until, &seconds);
    r->prompt_tokens += got.tokens * k;
    r->t += seconds;
    r->busy_s += seconds;
    r->steps += k;
    r->events += k;
    if (n)
        tick(r, k);
    for (int64_t i = 0; i < got.done; i++)
        r->travels[i] = prompt_done(r, r->ended[i]);
    for (int64_t i = 0; i < got.done; i++) {
        see(r, r->ended[i], by, r->travels[i]);
        if (r->ended[i]->left <= 0)
            finish(r, r->ended[i]);
    }
    return 1;
}

void replica_advance(Replica *r, double until)
{
    until = earlier(until);
    while (r->t < until) {
        if (r->t < r->up_s) {
            r->t = r->up_s;
            continue;
        }
        if (r->prefilling.count || (looks(r) && admit(r))) {
            if (!mixed(r, until))
                leap(r, until);
        } else if (r->slots.count)
            leap(r, until);
        else if (waiting(r))
            too_small(r->fleet, head_of(r), r->s->blocks * r->s->block);
        else
            return;
    }
}

double replica_due_s(Replica *r, int is_stuck)
{
    if (!(r->prefilling.count || waiting(r) || r->slots.count))
        return INFINITY;
    if (r->t < r->up_s)
        return r->up_s;
    if (!r->slots.count || ((r->prefilling.count || looks(r)) && !is_stuck))
        return r->t;
    double seconds;
    next_steps(r, INFINITY, &seconds);
    return r->t + seconds;
}

int replica_play(Replica *r, int is_stuck)
{
    if (r->t < r->up_s)
        r->t = r->up_s;
    else if (!is_stuck && (r->prefilling.count || (looks(r) && admit(r))))
        return !mixed(r, r->t);
    else if (r->slots.count && looks(r) && !is_stuck)
        return 1;
    else if (r->slots.count)
        leap(r, INFINITY);
    else if (waiting(r))
        too_small(r->fleet, head_of(r), r->s->blocks * r->s->block);
    return 0;
}

/* from beginning to end --------------------------------------------------------------------------------------- */

void replica_open(Replica *r, struct Fleet *fleet, int64_t index, const Rules *s, const Times *times, const Seen *seen)
{
    memset(r, 0, sizeof *r);
    r->fleet = fleet;
    r->s = s;
    r->times = times;
    r->seen = seen;
    r->index = index;
    r->inside = -1;
    r->correction = 1.0;
    r->is_one_group = s->groups == 1;
    r->batches = s->groups * s->stages;
    r->own_budget = s->budget / r->batches;
    r->cap = s->blocks;
    cache_open(&r->cache, &fleet->escape, most_of(1, s->hash_block / s->block), s->host_blocks);
    size_t sums = (size_t)times->n_windows * sizeof *r->window_sums;
    r->window_sums = grown(&fleet->escape, NULL, sums);
    memset(r->window_sums, 0, sums);
}

void replica_close(Replica *r)
{
    cache_close(&r->cache);
    free(r->heap);
    free(r->decoding);
    free(r->window_sums);
    free(r->ended);
    free(r->travels);
}

int64_t replica_fail(Replica *r, double at, double down_s, Sequence ***lost)
{
    Escape *escape = r->cache.escape;
    int64_t n = replica_load(r), i = 0;
    Sequence **all = grown(escape, NULL, (size_t)n * sizeof *all);
    *lost = all;
    for (Sequence *q = r->slots.first; q; q = q->after)
        all[i++] = q;
    for (Sequence *q = r->prefilling.first; q; q = q->after)
        all[i++] = q;
    for (Sequence *q = r->queue.first; q; q = q->after)
        all[i++] = q;
    for (int64_t k = 0; k < r->n_waiting; k++)
        all[i++] = r->heap[k].one;
    r->slots = r->prefilling = r->queue = (List){NULL, NULL, 0};
    r->n_waiting = r->n_decoding = r->queued_tokens = r->blocks_private = 0;
    cache_clear(&r->cache);
    r->S = r->sizes = 0.0;
    for (int64_t k = 0; k < r->times->n_windows; k++)
        r->window_sums[k] = 0.0;
    r->up_s = at + down_s;
    r->t = most(r->t, at);
    Agenda by_arrival;
    agenda_open(&by_arrival, escape);
    for (i = 0; i < n; i++) {
        all[i]->failures++;
        all[i]->decodes_in = NULL;
        agenda_put(&by_arrival, all[i]->arrival_s, all[i]);
    }
    for (i = 0; i < n; i++)
        all[i] = agenda_pop(&by_arrival).item;
    agenda_close(&by_arrival);
    return n;
}
