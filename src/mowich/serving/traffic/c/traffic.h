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
 * requests are to be taken; STOPPED: the rest need not be played; BEYOND: a table has no entry for this batch; CHANCE:
 * the next failures by chance are to be drawn; NEVER: a request that is never answered between failures. */
enum { DONE, NO_MEMORY, TOO_SMALL, LOOK, MORE, STOPPED, BEYOND, CHANCE, NEVER };
#define MOST_TRIES 1000

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

/* AdapterCosts of adapters.py; slots 0: there are no adapters. */
typedef struct {
    int64_t slots, host;
    double fixed_s, each_s, token_s, load_s, read_s;
} AdapterCosts;

typedef struct {
    int64_t n_tokens, n_sampled, n_experts, n_windows, n_window_pairs;
    const double *tokens, *sampled, *experts;
    const double *windows, *window_pairs; /* (tokens, seconds) in turn */
    double per_context, prefill_step, pair, kv_B, few_launches, many_launches, capture, half, prompt_token, verify;
    Shift tpot;
    Uneven reading, asking;
    AdapterCosts adapters;
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

/* tiers.c: TierStore ------------------------------------------------------------------------------------------- */

/* A name, and the moment from which it is there. */
typedef struct {
    int64_t name;
    double ready_s;
    int32_t before, after;
} Kept;

/* Names, the least recently used first. */
typedef struct {
    Escape *escape;
    Kept *all;
    int32_t *table; /* open addressing, by name; -1: free */
    int64_t count, mask, room;
    int32_t first, last, spare;
} Names;

void names_open(Names *names, Escape *escape);
void names_clear(Names *names);
void names_close(Names *names);
const Kept *names_find(const Names *names, int64_t name);
int names_touch(Names *names, int64_t name);
void names_put(Names *names, int64_t name, double ready_s);
void names_drop(Names *names, int64_t name);

/* As WRITES of tiers.py. */
enum { EVICTION, THROUGH, SECOND_USE };

/* CacheTier of tiers.py. limit: blocks that it holds. */
typedef struct {
    int64_t limit, write, lanes, stays;
    double read_Bps, write_Bps, latency_s, name_B;
} Tier;

/* Tiering of tiers.py. */
typedef struct {
    int64_t n_tiers, is_faster, by_layers, prefetch;
    const Tier *tiers;
} Tiering;

typedef struct {
    const Tier *tier;
    Names names;
    double *read_free_s, *write_free_s; /* by lane */
    double read_B, written_B;
} Store;

void store_open(Store *store, Escape *escape, const Tier *tier);
void store_close(Store *store);
int store_has(const Store *store, int64_t name, double now);
int store_keep(Store *store, int64_t name, double ready_s, int64_t *gone);
int store_put(Store *store, int64_t name, double now, int64_t *gone);
double store_read_end_s(const Store *store, int64_t count, double now);
double store_read(Store *store, int64_t count, double now);

/* cache.c: PrefixCache ----------------------------------------------------------------------------------------- */

/* A block that has a name. The list of idle blocks begins with the oldest. */
typedef struct {
    int64_t name, used;
    int32_t idle_before, idle_after;
    uint8_t is_idle;
} Named;

typedef struct {
    int32_t first, last;
    int64_t count;
} Line;

typedef struct {
    Escape *escape;
    int64_t each, changes;
    int64_t used;      /* names in use */
    Line idle;
    Store *tiers;
    int64_t n_tiers;
    Names coming;      /* blocks on their way, by when they have come */
    int8_t *away;      /* of the last `cache_found`: where each block after the leading ones is */
    int64_t away_room;
    Named *blocks;
    int32_t *table;    /* open addressing, by name; -1: free */
    int64_t mask, room;
    int32_t spare;     /* list of unused places in `blocks`, by idle_after */
} Cache;

void cache_open(Cache *cache, Escape *escape, int64_t each, const Tiering *tiering);
void cache_lose(Cache *cache);
void cache_close(Cache *cache);
int64_t cache_found(Cache *cache, const int64_t *names, int64_t count, double now, int64_t *here);
double cache_wait_s(Cache *cache, const int64_t *names, int64_t count, double now);
int64_t cache_new_blocks(const Cache *cache, const int64_t *names, int64_t count);
void cache_take(Cache *cache, const int64_t *names, int64_t count, double now);
void cache_add(Cache *cache, const int64_t *names, int64_t count, double now);
void cache_release(Cache *cache, const int64_t *names, int64_t count, int64_t computed);
void cache_retain(Cache *cache, const int64_t *names, int64_t count, double now);
void cache_shrink(Cache *cache, int64_t room, double now);
void cache_put(Cache *cache, int64_t tier, int64_t name, double now);
void cache_evicted(Cache *cache, int64_t tier, int64_t name, double now);
static inline int64_t cache_used_blocks(const Cache *cache)
{
    return cache->used * cache->each;
}

/* adapters.c: Adapters ----------------------------------------------------------------------------------------- */

/* active: sequences under way of each adapter; n_active: adapters with any. */
typedef struct {
    Escape *escape;
    const AdapterCosts *costs;
    int64_t *active, *device, *host;
    char *is_on_device, *is_on_host;
    int64_t known, n_active, n_device, n_host, loads, reads;
} Adapters;

int adapters_admit(const Adapters *adapters, int64_t adapter);
double adapters_enter(Adapters *adapters, int64_t adapter);
void adapters_leave(Adapters *adapters, int64_t adapter);
void adapters_clear(Adapters *adapters);
double adapters_extra_s(const Adapters *adapters, double tokens);
void adapters_close(Adapters *adapters);

/* replica.c: Replica, State ------------------------------------------------------------------------------------ */

struct Replica;
struct Fleet;

/* A request and its place in a replica: UserRequest and Slot. */
typedef struct Sequence {
    int64_t id, prompt, output, priority, conversation, turn;
    double arrival_s, scheduled_s, first_token_s, last_token_s, late_s, loads_s;
    int64_t replica, decoder, cached, preemptions, failures, moves, adapter, tiers[3];
    int64_t *names; /* of the prompt's blocks, then of those that the answer fills */
    int64_t n_names, n_later, names_room;
    /* the slot */
    struct Sequence *before, *after; /* in the one list of a replica that it stands in */
    struct Replica *decodes_in;
    int64_t order, need, left, done, blocks, hit, finish, n_shared, seen_after, seen;
    double origin, began_s, size;
    int is_swapped, is_moved, is_fetched;
} Sequence;

typedef struct {
    Sequence *first, *last;
    int64_t count;
} List;

/* Rules of admission, as ADMISSIONS of policies.py. */
enum { CHUNK_FITS, PROMPT_FITS, EXPECTED_FITS, ANSWER_FITS, BATCH_FITS };

/* Scheduler of policies.py. is_keyed: the queue is ordered by a key. */
typedef struct {
    int64_t budget, max_sequences, blocks, block, chunks, mixes, packs, is_priority, is_swap, prefix_cache, hash_block,
        groups, stages, interval, wait;
    int64_t is_keyed, is_lof, is_retract, admission, answer_limit, ratio_steps, retract_ahead, retract_steps, answer_clip,
        long_prompt;
    double host_Bps, verified, accepted, enough, ratio, ratio_least;
} Rules;

typedef struct {
    int64_t finish, order;
    Sequence *one;
} Finish;

typedef struct {
    int64_t priority, order;
    Sequence *one;
} Waiting;

/* A sequence whose blocks come from a tier, and when they have come. */
typedef struct {
    double at_s;
    Sequence *one;
} Loading;

typedef struct Replica {
    struct Fleet *fleet;
    const Rules *s;
    const Tiering *tiering;
    Loading *loading; /* by time, then order */
    int64_t n_loading, loading_room;
    Sequence **held; /* those of the queue, and on their way to it, that hold blocks */
    int64_t n_held, held_room;
    double layers_s;
    const Times *times;
    const Seen *seen; /* NULL: users see the engine's own times */
    int64_t index;
    int hands_off;
    double t, up_s, S, sizes, sized, correction, busy_s;
    int64_t D, waits_from, blocks_private, order, inside, batches, own_budget, cap;
    int64_t steps, events, prompt_tokens, served, queued_tokens;
    double ratio_start;
    int64_t ratio_from;
    double handed_s; /* when the last step ends that handed prompts on; how many, and their tokens */
    int64_t handed, handed_tokens;
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
    int has_adapters;
    Adapters adapters;
} Replica;

void replica_open(Replica *r, struct Fleet *fleet, int64_t index, const Rules *s, const Times *times, const Seen *seen,
                  const Tiering *tiering);
void replica_close(Replica *r);
void replica_submit(Replica *r, Sequence *one, double at, int is_begun);
void replica_advance(Replica *r, double until);
int64_t replica_load(const Replica *r);
double replica_tokens_here(Replica *r, const Sequence *one);
int64_t replica_load_at(const Replica *r, double at);
double replica_tokens_ahead(Replica *r, const Sequence *one, double at);
int64_t replica_used_now(const Replica *r);
double replica_due_s(Replica *r, int is_stuck);
int replica_play(Replica *r, int is_stuck);
/* Go down; what was inside is put into `inside`. */
void replica_fail(Replica *r, double at, double down_s, List *inside);
void list_put(List *list, Sequence *one);
void list_join(List *list, const List *more);

int64_t replica_used(const Replica *r, int64_t D);
int64_t replica_free(const Replica *r, int64_t more);

/* scheduling.c: scheduling.py ---------------------------------------------------------------------------------- */

int64_t queue_key(const Sequence *one, const Rules *s);
int64_t room_left(const Replica *r, const Sequence *one, int64_t now, int64_t shared, int64_t fresh);
int64_t steps_to_room(const Replica *r, const Sequence *one);
Sequence *shortest_answer(const Replica *r);
double part_after_retraction(const Replica *r);

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
    int64_t id, prompt, output, replica, cached, preemptions, failures, conversation, turn, tier_1, tier_2, tier_3;
    int64_t moves, adapter;
    double arrival_s, scheduled_s, first_token_s, last_token_s, loads_s;
} Answer;

/* A failure; drain_s below 0: at once. */
typedef struct {
    double at_s, down_s, drain_s;
    int64_t replica;
} Loss;

/* Something that happens to replicas that go. */
typedef struct Event Event;

/* The way of a cache from prefill to decode. kept: (share, most tokens) in turn; token_s: of one token. */
typedef struct {
    int64_t n_kept;
    const double *kept;
    double token_s, state_s, latency_s;
} Way;

/* conversations.py. starts: when those begin that wait for no answer, s. */
typedef struct {
    int64_t requests, n, users, n_starts, shared_prefix, block, longest, n_adapters;
    const int64_t *prompts, *outputs, *turns, *firsts;
    const double *pauses, *starts;
    const int64_t *adapters; /* of each user, or each conversation; NULL: the base model */
    double until_s;
} Talks;

/* sessions.py: SessionColumns. Calls of session s: from first[s] to first[s + 1]; waits: of how many calls each waits;
 * edges: what follows a call, by its place in the session, edge_s after its answer or (from_start) its start. */
typedef struct {
    int64_t sessions, users, n_starts;
    const int64_t *first, *last, *prompts, *outputs, *waits, *names_at, *whole, *names, *edges_at, *edges, *from_start;
    const double *edge_s, *at_s, *pauses, *starts;
    double until_s;
} Graph;

/* When the rest need not be played. */
typedef struct {
    int64_t is_there;
    double ttft_s, tpot_s, enough;
} Limit;

typedef struct {
    int64_t replicas, decoders, route, has_front, n_losses, scales, scales_decoders;
    const Rules *rules, *decode_rules;
    const Times *times, *decode_times;
    const Seen *seen, *decode_seen;
    const Tiering *tiering, *decode_tiering;
    const Way *way;
    const Talks *talks; /* NULL and graph NULL: requests do not depend on answers */
    const Graph *graph;
    const Limit *limit;
    const Loss *losses;
    double look_every_s; /* 0: nobody looks */
    int64_t moves;       /* RECOVERIES of outages.py */
    const Way *move_way;
    double detect_s, retry_s;
    int64_t has_chance; /* whether replicas fail by chance */
} Given;

/* Requests in order of arrival. names_at: where the names of each begin, and where those of the last end. */
typedef struct {
    int64_t n, first_id;
    const double *arrival_s;
    const int64_t *prompt, *output, *priority, *names_at, *names;
    const int64_t *adapter; /* NULL: the base model */
} Requests;

/* What a replica did. */
typedef struct {
    double t, busy_s, up_s, read_1, written_1, read_2, written_2, read_3, written_3;
    int64_t steps, events, prompt_tokens, served, load, queued_tokens, waiting, blocks_used, loads, reads;
} Told;

typedef struct Fleet {
    Escape escape;
    Given given;
    Replica *everyone, *replicas, *decoders; /* decoders: part of everyone */
    int64_t n_everyone;
    Replica **open_to, **open_decoders, **up, **is_up; /* pools that take requests, and room to choose from them */
    int64_t n_open, n_open_decoders;
    int64_t came[2], came_tokens[2]; /* requests given to replicas and to decoders so far, and tokens of their prompts */
    int64_t next, next_decoder, looks, taken, made, started;
    double now;
    Agenda moving, coming, pending, beside;
    int64_t *waits, *open_calls; /* of a graph: what each call still waits for, calls under way of each session */
    double *call_ready;
    Sequence **asked; /* since `n_asked` was set to 0 */
    int64_t n_asked, asked_room;
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
    Replica *victims; /* replicas that go: part of everyone */
    Event **drains, **unseen, *events;
    int64_t *draining; /* those with a drain under way, the first to begin first */
    int64_t n_draining;
    const Loss *drawn; /* failures by chance, as far as they are drawn */
    int64_t n_drawn, next_drawn;
} Fleet;

_Noreturn void too_small(Fleet *fleet, const Sequence *one, int64_t tokens);
double fleet_hand_off(Fleet *fleet, double at, Sequence *one);
void fleet_answered(Fleet *fleet, Replica *r, Sequence *one);
Sequence *fleet_sequence(Fleet *fleet);
/* Give a request (is_begun: with its place in a replica) to a replica: to which; NULL: to none yet. */
Replica *fleet_give(Fleet *fleet, double at, Sequence *one, int is_begun);
void fleet_deliver(Fleet *fleet, double at);
double way_s(const Way *way, int64_t tokens);
void sequence_begin(Sequence *one);
void sequence_names(Fleet *fleet, Sequence *one, int64_t count);

/* outages.c: Outages ------------------------------------------------------------------------------------------- */

void outages_open(Fleet *fleet);
void outages_close(Fleet *fleet);
void outages_play(Fleet *fleet);
int outages_look(Fleet *fleet);
int64_t outages_open_to(Fleet *fleet, Replica **there, int64_t n, double at, Replica **out);
int outages_take(Fleet *fleet, const Replica *target, Sequence *one);
/* Requests that are lost in a replica and not yet known to be, and their tokens. */
int64_t outages_lost(const Fleet *fleet, const Replica *r, int64_t *tokens);
static inline int goes(const Fleet *fleet)
{
    return fleet->given.n_losses > 0 || fleet->given.has_chance;
}
static inline int wants_draws(const Fleet *fleet)
{
    return fleet->given.has_chance && fleet->next_drawn == fleet->n_drawn;
}
double outages_drawn_s(const Fleet *fleet);
double outages_next_s(const Fleet *fleet);

/* talks.c: conversations.py ------------------------------------------------------------------------------------ */

Sequence *talks_start(Fleet *fleet);
Sequence *talks_after(Fleet *fleet, const Sequence *answered);

/* graph.c: sessions.py ----------------------------------------------------------------------------------------- */

void graph_open(Fleet *fleet);
void graph_close(Fleet *fleet);
Sequence *graph_start(Fleet *fleet);
/* What is asked because a call was answered: in fleet->asked. */
void graph_after(Fleet *fleet, const Sequence *answered);

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
