/* Users who wait for an answer before they ask again: conversations.py. What is said was drawn beforehand. */
#include "traffic.h"

/* Where the draws of a turn stand. */
static int64_t place_of(const Talks *talks, int64_t talk, int64_t turn)
{
    return (talks->firsts[talk % talks->n] + turn) % talks->n;
}

static int64_t name_of(const Talks *talks, int64_t talk, int64_t block)
{
    return block < talks->shared_prefix / talks->block ? block : -1 - (talk * 1000003 + block);
}

static Sequence *turn_of(Fleet *fleet, int64_t talk, int64_t turn, double at, int64_t said)
{
    const Talks *talks = fleet->given.talks;
    int64_t i = place_of(talks, talk, turn);
    Sequence *one = fleet_sequence(fleet);
    one->id = fleet->made++;
    one->arrival_s = at;
    one->prompt = said + talks->prompts[i];
    one->output = talks->outputs[i];
    one->conversation = talk;
    one->turn = turn;
    if (fleet->wants_names) {
        int64_t spoken = (one->prompt + one->output) / talks->block;
        sequence_names(fleet, one, spoken);
        one->n_names = one->prompt / talks->block;
        one->n_later = spoken - one->n_names;
        for (int64_t k = 0; k < spoken; k++)
            one->names[k] = name_of(talks, talk, k);
    }
    return one;
}

/* The next first turn that does not wait for an answer; NULL where there is none. */
Sequence *talks_start(Fleet *fleet)
{
    const Talks *talks = fleet->given.talks;
    if (fleet->made >= talks->requests || fleet->started >= talks->n_starts)
        return NULL;
    int64_t talk = fleet->started++;
    return turn_of(fleet, talk, 0, talks->starts[talk], 0);
}

/* What the user of an answered request asks next; NULL: nothing. */
Sequence *talks_after(Fleet *fleet, const Sequence *answered)
{
    const Talks *talks = fleet->given.talks;
    if (fleet->made >= talks->requests)
        return NULL;
    int64_t talk = answered->conversation, turn = answered->turn;
    double at = answered->last_token_s + talks->pauses[place_of(talks, talk, turn)];
    if (earlier(at) > talks->until_s)
        return NULL;
    int64_t said = answered->prompt + answered->output, next = place_of(talks, talk, turn + 1);
    int is_last = turn + 1 >= talks->turns[talk % talks->n];
    if (!is_last && said + talks->prompts[next] + talks->outputs[next] <= talks->longest)
        return turn_of(fleet, talk, turn + 1, at, said);
    return talks->users ? turn_of(fleet, talk + talks->users, 0, at, 0) : NULL;
}
