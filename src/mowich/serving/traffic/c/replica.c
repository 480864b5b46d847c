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
    sift_up(r->heap, r->n_waiting++, (Waiting){queue_key(one, r->s), one->order, one});
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
    return r->s->is_keyed ? r->n_waiting : r->queue.count;
}

static inline Sequence *head_of(const Replica *r)
{
    return r->s->is_keyed ? r->heap[0].one : r->queue.first;
}

static Sequence *pop(Replica *r)
{
    Sequence *one;
    if (r->s->is_keyed)
        one = heap_pop(r);
    else {
        one = r->queue.first;
        take_out(&r->queue, one);
    }
    r->queued_tokens -= one->need;
    return one;
}

static void queue(Replica *r, Sequence *one, int is_first)
{
    r->queued_tokens += one->need;
    if (r->s->is_keyed)
        heap_push(r, one);
    else if (is_first)
        push_first(&r->queue, one);
    else
        push_last(&r->queue, one);
}

int64_t replica_load(const Replica *r)
{
    return waiting(r) + r->prefilling.count + r->slots.count + r->n_loading;
}

int64_t replica_load_at(const Replica *r, double at)
{
    return replica_load(r) + (earlier(r->handed_s) <= at ? 0 : r->handed);
}

/* When so many of these blocks of each tier would have come if they were asked for now. */
static double loaded_s(const Replica *r, const int8_t *away, int64_t n, double now)
{
    double end = now;
    int is_any = 0;
    for (int64_t k = 0; k < r->cache.n_tiers; k++) {
        int64_t count = 0;
        for (int64_t i = 0; i < n; i++)
            count += away[i] == k + 1;
        if (count) {
            double own = store_read_end_s(&r->cache.tiers[k], count, now);
            end = is_any ? most(end, own) : own;
            is_any = 1;
        }
    }
    return end;
}

/* State._prompt_s */
static double computed_s(const Replica *r, int64_t done, int64_t tokens)
{
    if (tokens <= 0)
        return 0.0;
    int64_t at_most = least_of(r->s->budget, tokens);
    return (double)tokens / (double)at_most * between(r->times->tokens, r->times->n_tokens, (double)at_most) +
           prompt_s(r->times, done, tokens);
}

double replica_tokens_here(Replica *r, const Sequence *one)
{
    if (!r->s->prefix_cache)
        return 0.0;
    int64_t here, n = cache_found(&r->cache, one->names, one->n_names, r->t, &here);
    if (!n)
        return (double)(here * r->s->hash_block);
    int64_t tokens = (here + n) * r->s->hash_block;
    double seconds = loaded_s(r, r->cache.away, n, r->t) - r->t;
    return most((double)(here * r->s->hash_block),
                (double)tokens * (1.0 - seconds / most(seconds, computed_s(r, 0, tokens))));
}

double replica_tokens_ahead(Replica *r, const Sequence *one, double at)
{
    int64_t under_way = 0;
    for (const Sequence *q = r->prefilling.first; q; q = q->after)
        under_way += q->need - q->done;
    for (int64_t i = 0; i < r->n_loading; i++)
        under_way += r->loading[i].one->need - r->loading[i].one->done;
    if (earlier(r->handed_s) > at)
        under_way += r->handed_tokens;
    double own = most(1.0, (double)one->prompt - replica_tokens_here(r, one));
    return (double)(r->queued_tokens + under_way) + r->S + own;
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

int64_t replica_used(const Replica *r, int64_t D)
{
    return r->blocks_private + cache_used_blocks(&r->cache) + decoding_blocks(r, D);
}

/* Blocks in use now. */
int64_t replica_used_now(const Replica *r)
{
    return replica_used(r, r->D);
}

static double bound(const Replica *r, int64_t D)
{
    double n = (double)r->slots.count;
    double context = r->S + n * r->s->accepted * (double)(D - r->D);
    return (double)(r->blocks_private + cache_used_blocks(&r->cache)) + context / (double)r->s->block + n;
}

int64_t replica_free(const Replica *r, int64_t more)
{
    int64_t D = r->D + 1;
    double most_used = bound(r, D);
    if (most_used + (double)more > (double)r->cap)
        return r->cap - replica_used(r, D) - more;
    return r->cap - (int64_t)ceil(most_used) - more;
}

int replica_fits(Replica *r, int64_t more)
{
    int64_t room = replica_free(r, more);
    if (room < 0)
        return 0;
    if (r->cache.idle.count)
        cache_shrink(&r->cache, room, r->t);
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
    int64_t blocks = replica_used(r, r->D + (decodes ? k : 1));
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
        cache_shrink(&r->cache, r->cap - blocks_after(r, low, prompt, take, decodes), r->t);
    return low;
}

/* who comes and goes ------------------------------------------------------------------------------------------ */

static void unshare(Replica *r, Sequence *one, int64_t tokens)
{
    if (one->hit) {
        int64_t held = one->hit / r->cache.each;
        cache_release(&r->cache, one->names, held, least_of(held, tokens / r->s->hash_block));
    }
    one->n_shared = one->hit = 0;
}

static void finish(Replica *r, Sequence *one)
{
    one->last_token_s = r->t + one->late_s;
    if (one->n_later && r->s->prefix_cache && one->decoder < 0)
        cache_retain(&r->cache, one->names + one->n_names, one->n_later, r->t);
    unshare(r, one, one->need);
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
    unshare(r, one, one->done);
    one->blocks = one->done = 0;
    one->preemptions++;
    queue(r, one, !r->s->is_retract);
    return 1;
}

static void unhold(Replica *r, const Sequence *one)
{
    for (int64_t i = 0; i < r->n_held; i++)
        if (r->held[i] == one) {
            r->held[i] = r->held[--r->n_held];
            return;
        }
}

static void drop_held(Replica *r)
{
    Sequence *one = r->held[0];
    for (int64_t i = 1; i < r->n_held; i++)
        if (r->held[i]->order > one->order)
            one = r->held[i];
    unhold(r, one);
    for (int64_t i = 0; i < r->n_loading; i++)
        if (r->loading[i].one == one) {
            memmove(&r->loading[i], &r->loading[i + 1], (size_t)(--r->n_loading - i) * sizeof *r->loading);
            queue(r, one, 1);
            break;
        }
    int64_t held = one->hit / r->cache.each, there = 0;
    while (there < held && !names_find(&r->cache.coming, one->names[there]))
        there++;
    unshare(r, one, there * r->s->hash_block);
    one->is_fetched = 0;
    one->done = 0;
}

/* Replica._unblock */
static void unblock(Replica *r)
{
    const Sequence *head = head_of(r);
    if (r->n_held == 0 || (r->n_held == 1 && r->held[0] == head))
        too_small(r->fleet, head, r->s->blocks * r->s->block);
    drop_held(r);
}

static double next_load(const Replica *r)
{
    return r->n_loading ? earlier(r->loading[0].at_s) : INFINITY;
}

static void arrive(Replica *r)
{
    while (r->n_loading && earlier(r->loading[0].at_s) <= r->t) {
        Sequence *one = r->loading[0].one;
        memmove(r->loading, r->loading + 1, (size_t)--r->n_loading * sizeof *r->loading);
        one->is_fetched = 1;
        queue(r, one, 1);
    }
}

static void put_out(Replica *r, Sequence *one)
{
    double context = leave_batch(r, one);
    int64_t left = most_of(1, (int64_t)rint((double)(one->finish - r->D) * r->s->accepted));
    one->left = least_of(one->left, left);
    one->need = (int64_t)rint(context);
    one->finish = -1;
    one->preemptions++;
    unshare(r, one, one->need);
    r->events++;
}

static void retract(Replica *r)
{
    int64_t ahead = 1;
    int is_fewer = 0;
    while (r->n_held && replica_used(r, r->D + 1) > r->cap)
        drop_held(r);
    while (r->slots.count && replica_used(r, r->D + ahead) > r->cap) {
        if (r->slots.count == 1 && ahead > 1)
            break;
        if (r->slots.count == 1 && !drop_last(r))
            too_small(r->fleet, r->slots.first, r->s->blocks * r->s->block);
        if (r->slots.count > 1) {
            Sequence *one = shortest_answer(r);
            put_out(r, one);
            one->done = 0;
            queue(r, one, 0);
            ahead = r->s->retract_ahead;
            is_fewer = 1;
        }
    }
    if (is_fewer) {
        r->ratio_start = part_after_retraction(r);
        r->ratio_from = r->D;
    }
}

static void make_room(Replica *r)
{
    if (r->s->is_retract) {
        retract(r);
        return;
    }
    int64_t decoding = decoding_blocks(r, r->D + 1);
    while (r->n_held && r->blocks_private + cache_used_blocks(&r->cache) + decoding > r->cap)
        drop_held(r);
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
        put_out(r, one);
        if (r->s->is_swap) {
            one->is_swapped = 1;
            r->t += (double)one->need * r->times->kv_B / r->s->host_Bps;
        } else
            one->done = 0;
        queue(r, one, 1);
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
    int64_t full = one->n_shared ? least_of(tokens / r->s->hash_block, one->n_shared) : 0;
    if (full * r->cache.each > one->hit) {
        int64_t held = one->hit / r->cache.each;
        cache_add(&r->cache, one->names + held, full - held, r->t);
        one->hit = full * r->cache.each;
    }
    int64_t want = most_of(0, ceil_div(tokens, r->s->block) - one->hit);
    r->blocks_private += want - one->blocks;
    one->blocks = want;
}

/* Replica._worth */
static int64_t worth(const Replica *r, int64_t here, const int8_t *away, int64_t n)
{
    int64_t best = 0, hash_block = r->s->hash_block;
    double soonest = computed_s(r, here * hash_block, n * hash_block);
    for (int64_t k = 1; k <= n; k++)
        if (k == n || away[k] != away[k - 1]) {
            double rest = computed_s(r, (here + k) * hash_block, (n - k) * hash_block);
            double seconds = loaded_s(r, away, k, r->t) - r->t + rest;
            if (seconds < soonest) {
                soonest = seconds;
                best = k;
            }
        }
    return best;
}

/* Replica._found: blocks by name that hold tokens of a request; n: of them, those after the leading ones. */
static int64_t found_of(Replica *r, Sequence *one, int64_t *hit, int64_t *n)
{
    Cache *cache = &r->cache;
    int64_t here;
    one->n_shared = least_of(one->n_names, one->prompt / r->s->hash_block);
    *n = 0;
    if (cache->n_tiers) {
        *n = cache_found(cache, one->names, one->n_shared, r->t, &here);
        if (*n && r->tiering->is_faster)
            *n = worth(r, here, cache->away, *n);
    } else if (one->seen_after == cache->changes)
        here = one->seen;
    else {
        cache_found(cache, one->names, one->n_shared, r->t, &here);
        one->seen_after = cache->changes;
        one->seen = here;
    }
    *hit = least_of((here + *n) * r->s->hash_block, one->need - 1);
    return here + *n;
}

/* Replica._tell_tiers */
static void tell_tiers(const Replica *r, Sequence *one, int64_t hit, const int8_t *away, int64_t n)
{
    int64_t beyond = 0;
    one->tiers[0] = one->tiers[1] = one->tiers[2] = 0;
    for (int64_t i = 0; i < n; i++)
        if (away[i]) {
            one->tiers[away[i] - 1] += r->s->hash_block;
            beyond += r->s->hash_block;
        }
    beyond -= hit;
    for (int k = 2; k >= 0; k--) {
        int64_t cut = least_of(most_of(0, beyond), one->tiers[k]);
        one->tiers[k] -= cut;
        beyond -= cut;
    }
}

/* Replica._load: whether the sequence waits for its blocks. */
static int load(Replica *r, Sequence *one, int64_t found, const int8_t *away, int64_t n)
{
    Cache *cache = &r->cache;
    double now = r->t, start = cache_wait_s(cache, one->names, found, now), end = start;
    for (int64_t k = 0; k < cache->n_tiers; k++) {
        int64_t count = 0;
        for (int64_t i = 0; i < n; i++)
            count += away[i] == k + 1;
        if (count)
            end = most(end, store_read(&cache->tiers[k], count, start));
    }
    if (end <= now)
        return 0;
    one->loads_s += end - now;
    for (int64_t i = 0; i < n; i++)
        if (away[i])
            names_put(&cache->coming, one->names[found - n + i], end);
    if (r->tiering->by_layers) {
        r->layers_s = most(r->layers_s, end);
        return 0;
    }
    if (r->n_loading == r->loading_room) {
        int64_t room = r->loading_room ? 2 * r->loading_room : 16;
        r->loading = grown(cache->escape, r->loading, (size_t)room * sizeof *r->loading);
        r->loading_room = room;
    }
    int64_t at = r->n_loading++;
    for (; at > 0; at--) {
        const Loading *before = &r->loading[at - 1];
        if (before->at_s < end || (before->at_s == end && before->one->order < one->order))
            break;
        r->loading[at] = *before;
    }
    r->loading[at] = (Loading){end, one};
    if (r->n_held == r->held_room) {
        int64_t room = r->held_room ? 2 * r->held_room : 16;
        r->held = grown(cache->escape, r->held, (size_t)room * sizeof *r->held);
        r->held_room = room;
    }
    r->held[r->n_held++] = one;
    return 1;
}

static void prefetch(Replica *r, const Sequence *one)
{
    Cache *cache = &r->cache;
    double now = r->t;
    int64_t here, gone, n = cache_found(cache, one->names, one->n_names, now, &here);
    for (int64_t k = 1; k < cache->n_tiers; k++) {
        int64_t count = 0;
        for (int64_t i = 0; i < n; i++)
            count += cache->away[i] == k + 1;
        if (!count)
            continue;
        double end = store_read(&cache->tiers[k], count, now);
        for (int64_t i = n - 1; i >= 0; i--)
            if (cache->away[i] == k + 1) {
                int64_t name = one->names[here + i];
                names_put(&cache->coming, name, end);
                if (store_keep(&cache->tiers[0], name, end, &gone))
                    cache_evicted(cache, 0, gone, now);
            }
    }
}

static int admit(Replica *r)
{
    const Rules *s = r->s;
    int64_t room = s->budget - r->slots.count * (s->mixes ? 1 : 0);
    if (s->admission == BATCH_FITS && (r->slots.count || r->prefilling.count))
        return 0;
    if (s->verified > 1 && s->mixes)
        room = (int64_t)((double)s->budget - (double)r->slots.count * s->verified);
    int entered = 0;
    int64_t own = r->batches > 1 ? own_room(r) : most_of(room, 0);
    if (s->long_prompt)
        own = least_of(own, s->long_prompt);
    for (const Sequence *q = r->prefilling.first; q; q = q->after)
        room -= s->chunks ? least_of(q->need - q->done, own) : q->need - q->done;
    while (waiting(r) && room > 0 && r->slots.count + r->prefilling.count < s->max_sequences) {
        if (!s->packs && r->prefilling.count >= r->batches)
            break;
        Sequence *one = head_of(r);
        if (one->is_swapped) {
            int64_t left = room_left(r, one, ceil_div((int64_t)ceil((double)one->need + s->accepted), s->block), 0, 0);
            if (left < 0)
                break;
            pop(r);
            if (r->cache.idle.count)
                cache_shrink(&r->cache, left, r->t);
            resume(r, one);
            entered = 1;
            continue;
        }
        int64_t hit = one->done, found = one->hit / r->cache.each, n = 0, fresh = 0;
        int is_new = !one->is_fetched;
        if (s->prefix_cache && one->n_names && is_new) {
            found = found_of(r, one, &hit, &n);
            fresh = cache_new_blocks(&r->cache, one->names, found);
        }
        int64_t tokens = one->need - hit;
        if (!s->chunks && tokens > room && (r->prefilling.count || entered))
            break;
        int64_t first = s->chunks ? least_of(least_of(tokens, room), own) : tokens;
        double next_token = first == tokens ? s->accepted : 0.0;
        int64_t private = ceil_div((int64_t)ceil((double)(hit + first) + next_token), s->block) - found * r->cache.each;
        int64_t left = room_left(r, one, most_of(0, private) + fresh, found * r->cache.each, fresh);
        if (left < 0)
            break;
        pop(r);
        if (found && is_new) {
            cache_take(&r->cache, one->names, found, r->t);
            one->hit = found * r->cache.each;
        }
        if (r->cache.idle.count)
            cache_shrink(&r->cache, left, r->t);
        if (one->scheduled_s < 0 && is_new) {
            one->cached = hit;
            if (r->cache.n_tiers)
                tell_tiers(r, one, hit, r->cache.away, n);
        }
        if ((n || r->cache.coming.count) && is_new && load(r, one, found, r->cache.away, n)) {
            one->done = hit;
            continue;
        }
        if (one->is_fetched) {
            one->is_fetched = 0;
            unhold(r, one);
        }
        entered = 1;
        if (one->scheduled_s < 0) {
            one->scheduled_s = r->t;
            one->replica = r->index;
        }
        one->done = hit;
        one->began_s = r->t;
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
    one->seen_after = -1;
    int64_t held = one->need + (r->hands_off ? 0 : one->left);
    if (held > (r->s->blocks + 1) * r->s->block)
        too_small(r->fleet, one, r->s->blocks * r->s->block);
    if (!replica_load(r)) {
        r->ratio_start = r->s->ratio;
        r->ratio_from = r->D;
    }
    if (r->tiering->prefetch && !is_moved && one->n_names)
        prefetch(r, one);
    if (!waiting(r))
        r->waits_from = r->steps;
    queue(r, one, 0);
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
    if (waiting(r) && r->s->admission == EXPECTED_FITS)
        k = least_of(k, steps_to_room(r, head_of(r)));
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
        if (holds > 0 && !replica_fits(r, holds))
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
        unshare(r, one, one->need);
        r->served++;
        if (r->handed_s != r->t) {
            r->handed_s = r->t;
            r->handed = r->handed_tokens = 0;
        }
        r->handed++;
        r->handed_tokens += one->need;
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
    if (s->long_prompt)
        own = least_of(own, s->long_prompt);
    int has_entered = looks(r) && admit(r);
    until = least(until, next_load(r));
    Taken got = taken(r, room, own);
    while (!got.tokens && !r->slots.count) {
        if (r->n_held)
            drop_held(r);
        else if (!drop_last(r))
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
    if (r->layers_s > r->t + seconds) {
        by_device = 0;
        seconds = r->layers_s - r->t;
    }
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
        if (r->n_loading)
            arrive(r);
        if (r->prefilling.count || (looks(r) && admit(r))) {
            if (!mixed(r, until))
                leap(r, least(until, next_load(r)));
        } else if (r->slots.count)
            leap(r, least(until, next_load(r)));
        else if (r->n_loading) {
            if (r->loading[0].at_s >= until)
                return;
            r->t = r->loading[0].at_s;
        } else if (waiting(r))
            unblock(r);
        else
            return;
    }
}

double replica_due_s(Replica *r, int is_stuck)
{
    if (!(r->prefilling.count || waiting(r) || r->slots.count || r->n_loading))
        return INFINITY;
    if (r->t < r->up_s)
        return r->up_s;
    if (next_load(r) <= r->t || ((r->prefilling.count || looks(r)) && !is_stuck))
        return r->t;
    if (r->slots.count) {
        double seconds;
        next_steps(r, next_load(r), &seconds);
        return r->t + seconds;
    }
    return r->n_loading ? r->loading[0].at_s : r->t;
}

int replica_play(Replica *r, int is_stuck)
{
    if (r->t < r->up_s)
        r->t = r->up_s;
    else if (next_load(r) <= r->t)
        arrive(r);
    else if (!is_stuck && (r->prefilling.count || (looks(r) && admit(r))))
        return !mixed(r, r->t);
    else if ((r->slots.count || r->n_loading) && looks(r) && !is_stuck)
        return 1;
    else if (r->slots.count)
        leap(r, next_load(r));
    else if (r->n_loading)
        r->t = r->loading[0].at_s;
    else if (waiting(r))
        unblock(r);
    return 0;
}

/* from beginning to end --------------------------------------------------------------------------------------- */

void replica_open(Replica *r, struct Fleet *fleet, int64_t index, const Rules *s, const Times *times, const Seen *seen,
                  const Tiering *tiering)
{
    memset(r, 0, sizeof *r);
    r->handed_s = -INFINITY;
    r->fleet = fleet;
    r->s = s;
    r->times = times;
    r->seen = seen;
    r->tiering = tiering;
    r->index = index;
    r->inside = -1;
    r->correction = 1.0;
    r->ratio_start = s->ratio;
    r->is_one_group = s->groups == 1;
    r->batches = s->groups * s->stages;
    r->own_budget = s->budget / r->batches;
    r->cap = s->blocks;
    cache_open(&r->cache, &fleet->escape, most_of(1, s->hash_block / s->block), tiering);
    size_t sums = (size_t)times->n_windows * sizeof *r->window_sums;
    r->window_sums = grown(&fleet->escape, NULL, sums);
    memset(r->window_sums, 0, sums);
}

void replica_close(Replica *r)
{
    cache_close(&r->cache);
    free(r->loading);
    free(r->held);
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
    for (int64_t k = 0; k < r->n_loading; k++)
        all[i++] = r->loading[k].one;
    for (Sequence *q = r->queue.first; q; q = q->after)
        all[i++] = q;
    for (int64_t k = 0; k < r->n_waiting; k++)
        all[i++] = r->heap[k].one;
    r->slots = r->prefilling = r->queue = (List){NULL, NULL, 0};
    r->n_waiting = r->n_decoding = r->queued_tokens = r->blocks_private = 0;
    r->n_loading = r->n_held = 0;
    cache_lose(&r->cache);
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
