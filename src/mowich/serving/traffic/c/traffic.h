/* The simulation of serving traffic, compiled. The rule is the Python of serving/traffic (replica.py, state.py,
 * cache.py, routing.py, moments.py): every function here does what the one of the same name does there, addition for
 * addition, so that both give the same bits. Structs hold doubles (seconds, tokens) and 64-bit integers. */
#ifndef MOWICH_TRAFFIC_H
#define MOWICH_TRAFFIC_H

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

/* What an entry returns. TOO_SMALL: a request that the cache cannot hold; LOOK: autoscaling looks; MORE: answered
 * requests are to be taken; STOPPED: the rest need not be played; BEYOND: a table has no entry for this batch. */
enum { DONE, NO_MEMORY, TOO_SMALL, LOOK, MORE, STOPPED, BEYOND };

/* Routes, as ROUTES of policies.py. */
enum { ROUND_ROBIN, LEAST_LOADED, PREFIX, KV };

/* memory.c ---------------------------------------------------------------------------------------------------- */

/* Where to go when memory runs out or a request does not fit: back to the entry of the call. */
typedef struct {
    jmp_buf to;
    int status;
} Escape;

_Noreturn void leave(Escape *escape, int status);
void *grown(Escape *escape, void *old, size_t bytes);

/* times.c: StepTimes, Seen, ShiftAlong, Unevenness ------------------------------------------------------------- */

typedef struct {
    int64_t users, prompts; /* numbers of borders; parts: 0 where there is no shift */
    const double *user_at, *prompt_at, *parts;
    double user_reach, prompt_reach, constant;
    int64_t is_shifted;
} Shift;

typedef struct {
    int64_t rows, columns; /* 0: in proportion */
    int64_t x0, y0;
    const double *logs;
} Uneven;

typedef struct {
    int64_t n_tokens, n_sampled, n_experts, n_windows, n_window_pairs;
    const double *tokens, *sampled, *experts;
    const double *windows, *window_pairs; /* (tokens, seconds) in turn */
    double per_context, prefill_step, pair, kv_B, few_launches, many_launches, capture, half, prompt_token, verify;
    Shift tpot;
    Uneven reading, asking;
} Times;

typedef struct {
    double step_share, front_s, front_token_s, visible_tokens;
    Shift ttft;
} Seen;

double shift_factor(const Shift *shift, double users, double log2_prompt);
double uneven_at(const Uneven *grid, double x, double y);
double between(const double *table, int64_t count, double m);
double of_tokens(const Times *times, double fullest, double mean);
double times_reading_s(const Times *times, int64_t n, double context);
double launched_s(const Times *times, double tokens);
double prompt_s(const Times *times, int64_t start, int64_t tokens);
double front_before(const Seen *seen, int64_t prompt);

/* cache.c: PrefixCache ----------------------------------------------------------------------------------------- */

/* A block that has a name. The lists of idle blocks and of those in host memory begin with the oldest. */
typedef struct {
    int64_t name, used;
    int32_t idle_before, idle_after, host_before, host_after;
    uint8_t is_idle, is_host;
} Named;

typedef struct {
    int32_t first, last;
    int64_t count;
} Line;

typedef struct {
    Escape *escape;
    int64_t each, host_limit;
    int64_t used;      /* names in use */
    Line idle, host;
    Named *blocks;
    int32_t *table;    /* open addressing, by name; -1: free */
    int64_t mask, room;
    int32_t spare;     /* list of unused places in `blocks`, by idle_after */
} Cache;

void cache_open(Cache *cache, Escape *escape, int64_t each, int64_t host_limit);
void cache_clear(Cache *cache);
void cache_close(Cache *cache);
void cache_match(const Cache *cache, const int64_t *names, int64_t count, int64_t *here, int64_t *away);
int64_t cache_new_blocks(const Cache *cache, const int64_t *names, int64_t count);
void cache_take(Cache *cache, const int64_t *names, int64_t count);
void cache_release(Cache *cache, const int64_t *names, int64_t count);
void cache_retain(Cache *cache, const int64_t *names, int64_t count);
void cache_shrink(Cache *cache, int64_t room);
static inline int64_t cache_used_blocks(const Cache *cache)
{
    return cache->used * cache->each;
}

/* replica.c: Replica, State ------------------------------------------------------------------------------------ */

struct Replica;
struct Fleet;

/* A request and its place in a replica: UserRequest and Slot. */
typedef struct Sequence {
    int64_t id, prompt, output, priority, conversation, turn;
    double arrival_s, scheduled_s, first_token_s, last_token_s, late_s;
    int64_t replica, decoder, cached, preemptions, failures;
    int64_t *names; /* of the prompt's blocks, then of those that the answer fills */
    int64_t n_names, n_later, names_room;
    /* the slot */
    struct Sequence *before, *after; /* in the one list of a replica that it stands in */
    struct Replica *decodes_in;
    int64_t order, need, left, done, blocks, hit, finish, n_shared;
    double origin, began_s, size;
    int is_swapped, is_moved;
} Sequence;

typedef struct {
    Sequence *first, *last;
    int64_t count;
} List;

/* Scheduler of policies.py. */
typedef struct {
    int64_t budget, max_sequences, blocks, block, chunks, mixes, packs, is_priority, is_swap, prefix_cache, hash_block,
        host_blocks, groups, stages, interval, wait;
    double host_Bps, verified, accepted, enough;
} Rules;

typedef struct {
    int64_t finish, order;
    Sequence *one;
} Finish;

typedef struct {
    int64_t priority, order;
    Sequence *one;
} Waiting;

typedef struct Replica {
    struct Fleet *fleet;
    const Rules *s;
    const Times *times;
    const Seen *seen; /* NULL: users see the engine's own times */
    int64_t index;
    int hands_off;
    double t, up_s, S, sizes, sized, correction, busy_s;
    int64_t D, waits_from, blocks_private, order, inside, batches, own_budget, cap;
    int64_t steps, events, prompt_tokens, served, queued_tokens;
    int is_one_group;
    List slots, prefilling, queue;
    Waiting *heap;
    int64_t n_waiting, heap_room;
    Finish *decoding;
    int64_t n_decoding, decoding_room;
    double *window_sums;
    Sequence **ended;
    double *travels;
    int64_t ended_room;
    Cache cache;
} Replica;

void replica_open(Replica *r, struct Fleet *fleet, int64_t index, const Rules *s, const Times *times, const Seen *seen);
void replica_close(Replica *r);
void replica_submit(Replica *r, Sequence *one, double at, int is_moved);
void replica_advance(Replica *r, double until);
int64_t replica_load(const Replica *r);
double replica_tokens_ahead(const Replica *r, const Sequence *one);
double replica_due_s(Replica *r, int is_stuck);
int replica_play(Replica *r, int is_stuck);
/* Lose everything; what was inside is put into `lost`, in the order in which it is sent again. */
int64_t replica_fail(Replica *r, double at, double down_s, Sequence ***lost);

/* agenda.c: moments.py ----------------------------------------------------------------------------------------- */

#define SAME_S 1e-9
#define SAME_SHARE 1e-12

static inline double earlier(double at_s)
{
    return at_s * (1.0 - SAME_SHARE) - SAME_S;
}

typedef struct {
    double at_s;
    int64_t put;
    void *item;
} Entry;

typedef struct {
    Escape *escape;
    Entry *heap, *now;
    int64_t n_heap, heap_room, n_now, now_from, now_room, put;
} Agenda;

void agenda_open(Agenda *agenda, Escape *escape);
void agenda_close(Agenda *agenda);
void agenda_put(Agenda *agenda, double at_s, void *item);
double agenda_next_s(const Agenda *agenda);
Entry agenda_pop(Agenda *agenda);

/* fleet.c: ReplicaFleet ---------------------------------------------------------------------------------------- */

/* What is told of an answered request. */
typedef struct {
    int64_t id, prompt, output, replica, cached, preemptions, failures, conversation, turn;
    double arrival_s, scheduled_s, first_token_s, last_token_s;
} Answer;

typedef struct {
    double at_s, down_s;
    int64_t replica;
} Loss;

/* The way of a cache from prefill to decode. kept: (share, most tokens) in turn; token_s: of one token. */
typedef struct {
    int64_t n_kept;
    const double *kept;
    double token_s, state_s, latency_s;
} Way;

/* conversations.py. starts: when those begin that wait for no answer, s. */
typedef struct {
    int64_t requests, n, users, n_starts, shared_prefix, block, longest;
    const int64_t *prompts, *outputs, *turns, *firsts;
    const double *pauses, *starts;
    double until_s;
} Talks;

/* When the rest need not be played. */
typedef struct {
    int64_t is_there;
    double ttft_s, tpot_s, enough;
} Limit;

typedef struct {
    int64_t replicas, decoders, route, has_front, n_losses;
    const Rules *rules, *decode_rules;
    const Times *times, *decode_times;
    const Seen *seen, *decode_seen;
    const Way *way;
    const Talks *talks; /* NULL: requests do not depend on answers */
    const Limit *limit;
    const Loss *losses;
    double look_every_s; /* 0: nobody looks */
} Given;

/* Requests in order of arrival. names_at: where the names of each begin, and where those of the last end. */
typedef struct {
    int64_t n, first_id;
    const double *arrival_s;
    const int64_t *prompt, *output, *priority, *names_at, *names;
} Requests;

/* What a replica did. */
typedef struct {
    double t, busy_s, up_s;
    int64_t steps, events, prompt_tokens, served, load, queued_tokens, waiting, blocks_used;
} Told;

typedef struct Fleet {
    Escape escape;
    Given given;
    Replica *everyone, *replicas, *decoders; /* decoders: part of everyone */
    int64_t n_everyone;
    Replica **open_to, **open_decoders, **up, **is_up; /* pools that take requests, and room to choose from them */
    int64_t n_open;
    int64_t next, next_decoder, looks, taken, made, started;
    double now;
    Agenda moving, coming, pending;
    double *due;
    char *stuck;
    Answer *answers;
    int64_t n_answers, answers_room;
    int64_t late, slow;
    Sequence *spare;
    Sequence **all;
    int64_t n_all, all_room;
    int64_t fed; /* of the present columns */
    int64_t bad_id, bad_prompt, bad_output, bad_tokens;
    Sequence *start; /* the next that begins a conversation */
    int has_begun, has_looked, wants_names;
} Fleet;

_Noreturn void too_small(Fleet *fleet, const Sequence *one, int64_t tokens);
double fleet_hand_off(Fleet *fleet, double at, Sequence *one);
void fleet_answered(Fleet *fleet, Replica *r, Sequence *one);
Sequence *fleet_sequence(Fleet *fleet);
void sequence_begin(Sequence *one);
void sequence_names(Fleet *fleet, Sequence *one, int64_t count);

/* talks.c: conversations.py ------------------------------------------------------------------------------------ */

Sequence *talks_start(Fleet *fleet);
Sequence *talks_after(Fleet *fleet, const Sequence *answered);

static inline double least(double a, double b)
{
    return b < a ? b : a; /* as Python's min(a, b) */
}

static inline double most(double a, double b)
{
    return b > a ? b : a; /* as Python's max(a, b) */
}

static inline int64_t least_of(int64_t a, int64_t b)
{
    return b < a ? b : a;
}

static inline int64_t most_of(int64_t a, int64_t b)
{
    return b > a ? b : a;
}

/* a // b of integers, b above 0. */
static inline int64_t floor_div(int64_t a, int64_t b)
{
    int64_t q = a / b;
    return q * b > a ? q - 1 : q;
}

static inline int64_t ceil_div(int64_t a, int64_t b)
{
    return -floor_div(-a, b);
}

#endif
