/* What the schedulers of engines decide in their own ways: scheduling.py. */
#include "traffic.h"

#include <math.h>

#define NEVER ((int64_t)1 << 62)

int64_t queue_key(const Sequence *one, const Rules *s)
{
    if (s->is_priority)
        return one->priority;
    return s->is_lof ? -one->output : one->order * 2654435761LL % 4294967296LL;
}

static int64_t unused(const Rules *s, const Sequence *one)
{
    return most_of(0, s->answer_limit - one->output);
}

static double to_come(const Rules *s, const Sequence *one, int64_t D)
{
    return (double)(one->finish - D) * s->accepted + (double)unused(s, one);
}

static int64_t own_blocks(const Replica *r, const Sequence *one, int64_t shared)
{
    const Rules *s = r->s;
    double tokens = (double)one->need;
    if (s->admission != PROMPT_FITS && !r->hands_off) {
        int64_t answer = one->left + unused(s, one);
        tokens += (double)(s->admission != EXPECTED_FITS ? answer : least_of(answer, s->answer_clip));
    }
    return most_of(0, ceil_div((int64_t)ceil(tokens + s->accepted), s->block) - shared);
}

static int64_t under_way(const Replica *r)
{
    int64_t blocks = 0;
    for (const Sequence *q = r->prefilling.first; q; q = q->after)
        blocks += most_of(0, own_blocks(r, q, q->hit) - q->blocks);
    return blocks;
}

static double expected_part(const Replica *r)
{
    const Rules *s = r->s;
    int64_t steps = r->D - r->ratio_from;
    double fall = (s->ratio - s->ratio_least) / (double)s->ratio_steps;
    return steps == 0 ? r->ratio_start : most(s->ratio_least, r->ratio_start - fall * (double)steps);
}

static double clipped_to_come(const Replica *r)
{
    double total = 0.0;
    for (const Sequence *q = r->slots.first; q; q = q->after)
        total += least(to_come(r->s, q, r->D), (double)r->s->answer_clip);
    return total;
}

static int64_t held_blocks(const Replica *r)
{
    const Rules *s = r->s;
    if (s->admission == PROMPT_FITS)
        return replica_used(r, r->D + 1);
    if (s->admission == EXPECTED_FITS) {
        double expected = expected_part(r) * clipped_to_come(r);
        return replica_used(r, r->D + 1) + under_way(r) + (int64_t)ceil(expected / (double)s->block);
    }
    int64_t whole = cache_used_blocks(&r->cache) + r->blocks_private + under_way(r);
    for (const Sequence *q = r->slots.first; q; q = q->after) {
        double tokens = q->origin + s->accepted * (double)q->finish + (double)unused(s, q) + 0.999999;
        whole += ceil_div((int64_t)tokens, s->block) - q->hit;
    }
    return whole;
}

int64_t room_left(const Replica *r, const Sequence *one, int64_t now, int64_t shared, int64_t fresh)
{
    const Rules *s = r->s;
    if (s->admission != CHUNK_FITS && (r->slots.count || r->prefilling.count)) {
        int64_t need = own_blocks(r, one, shared) + fresh;
        int is_told = s->admission == PROMPT_FITS && need <= now;
        if (!is_told && held_blocks(r) + need > r->cap)
            return -1;
    }
    return replica_free(r, now);
}

int64_t steps_to_room(const Replica *r, const Sequence *one)
{
    const Rules *s = r->s;
    if (s->admission != EXPECTED_FITS || r->slots.count + r->prefilling.count >= s->max_sequences)
        return NEVER;
    double part = expected_part(r), d = (s->ratio - s->ratio_least) / (double)s->ratio_steps;
    double na = (double)r->slots.count * s->accepted, left = clipped_to_come(r);
    if (part <= s->ratio_least)
        return part < s->ratio_least ? 1 : NEVER;
    int64_t shared = s->prefix_cache ? one->n_names * r->cache.each : 0;
    int64_t taken =
        (r->blocks_private + cache_used_blocks(&r->cache) + own_blocks(r, one, shared) - r->cap) * s->block;
    double c = (double)taken + r->S + na + part * left;
    double b = na * (1.0 - part) - d * left;
    if (c <= 0)
        return 1;
    double under = b * b - 4.0 * d * na * c;
    if (b >= 0 || under < 0)
        return NEVER;
    double k = (-b - sqrt(under)) / (2.0 * d * na);
    return k * d <= part - s->ratio_least + d ? most_of(1, (int64_t)k) : NEVER;
}

static double written(const Replica *r, const Sequence *one)
{
    return (double)one->output - (double)(one->finish - r->D) * r->s->accepted;
}

Sequence *shortest_answer(const Replica *r)
{
    Sequence *out = r->slots.first;
    for (Sequence *q = out->after; q; q = q->after) {
        double mine = written(r, q), its = written(r, out);
        if (mine < its || (mine == its && (q->prompt > out->prompt || (q->prompt == out->prompt && q->order > out->order))))
            out = q;
    }
    return out;
}

double part_after_retraction(const Replica *r)
{
    const Rules *s = r->s;
    double wrote = 0.0, limits = 0.0;
    for (const Sequence *q = r->slots.first; q; q = q->after) {
        wrote += written(r, q);
        limits += (double)(q->output + unused(s, q));
    }
    return least(1.0, (wrote + (double)(s->retract_steps * r->slots.count)) / (limits + 1.0));
}
