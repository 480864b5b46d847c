/* When each instruction runs: the event loop of clock/events.py, where the rules are told. The names of the phases
 * are the same. */
#include "memory.h"

#include <stdlib.h>
#include <string.h>

static const int64_t NEVER = (int64_t)1 << 62;

enum { GROUPS = 16, PORTS = 4 };

/* A kind of cost, times in ps. issues: it is a DMA; line: the queue that takes it; port: numbers of the ports that it
 * holds, -1 beyond the last; groups: bit set of the groups of the array that a matmul holds. */
typedef struct {
    int64_t queue, line, issues, occupancy, latency, weights, load, issue, first_byte, moved_B, groups, port[PORTS];
} Cost;

/* One core's program, as clock/records.py has it; base: number of its first cost in the table of all; chip: whose
 * HBM it uses; is_tiled: some matmul holds only a part of the array. */
typedef struct {
    const int32_t *cost, *first, *edge;
    int64_t instructions, base, chip, is_tiled;
} Program;

/* What goes in. transfer: time on each DMA engine, of each cost; step: delay of an edge, [queue of the
 * predecessor][queue of the successor]; server_of: of each queue, what it shares with others (the issuer of a ring,
 * or GpSimd), -1 where nothing; meeting_rows: (instruction, number of its meeting), by instruction. */
typedef struct {
    int64_t cores, chips, costs, queues, servers, dma_engines, window, ps_per_KB, tile_issue, ramp, meetings;
    int64_t meeting_keys;
    const Program *programs;
    const Cost *cost_rows;
    const int64_t *transfer, *step, *server_of, *meeting_rows;
} Given;

/* The columns of a schedule, which start as zero. */
typedef struct {
    int64_t *begin, *data, *end, *ready, *loading;
    int32_t *by, *data_by;
    int8_t *cause, *data_cause;
    int64_t total;
} Made;

/* Until when something is taken, and by whom. */
typedef struct {
    int64_t free, by;
} Held;

typedef struct {
    int64_t time;
    int32_t who;
} Event;

/* A DMA that was issued and waits for the DMA engines: when its first byte arrives; turn: how many were issued before
 * it. */
typedef struct {
    int64_t time, turn;
    int32_t who;
} Arrival;

typedef struct Core Core;

/* One queue of one core, as `QueueState` of clock/events.py. future: a heap of (time, instruction); now: a heap of
 * instructions; server: what it shares with other queues, or NULL. */
typedef struct {
    int32_t queue, issues;
    Core *core;
    Held *server;
    int32_t *instructions;
    int64_t n, entered, free, holder;
    Event *future;
    int32_t *now;
    int32_t future_n, future_room, now_n, now_room;
    int32_t is_fenced;
} Line;

/* What the queues of one core share, as `CoreState` of clock/events.py. */
struct Core {
    Held *engine, *hbm, port[PORTS];
    int64_t is_tiled, matmul, groups[GROUPS], busy_since, idle_since;
};

/* An instruction that waits at a meeting. */
typedef struct {
    int32_t who, line, next;
} Waiting;

/* An instruction: the number of its cost; its queue; for how many others it waits; what made it ready last; INSIDE:
 * it has entered its window; MEETS: it waits for other cores. */
typedef struct {
    int32_t which, line, waiting, ready_by;
    int8_t ready_cause;
    uint8_t flags;
} State;

enum { INSIDE = 1, MEETS = 2 };

/* The state of a run, as `EventLoop` of clock/events.py. When the stationary tile of a matmul is there stands in its
 * `data` until it runs. */
typedef struct {
    Arena arena;
    const Given *g;
    Made *s;
    int64_t n;
    Core *cores;
    Line *lines, **used;
    int64_t used_n;
    State *states;
    uint32_t *after; /* 4 * successor + kind of edge, by predecessor */
    int64_t *until;
    int64_t *absent;
    int32_t *arrived_first, *arrived_last;
    Waiting *arrived;
    int64_t arrived_n;
    Arrival *arriving; /* a heap */
    int64_t arriving_n, arriving_room, turn;
} Machine;

/* heaps ------------------------------------------------------------------------------------------------------------ */

static int is_before(Event a, Event b)
{
    return a.time < b.time || (a.time == b.time && a.who < b.who);
}

static void push_future(Arena *arena, Line *line, int64_t time, int32_t who)
{
    if (line->future_n == line->future_room) {
        line->future_room = line->future_room ? 2 * line->future_room : 64;
        line->future = grow(arena, line->future, (size_t)line->future_room * sizeof *line->future);
    }
    Event *heap = line->future, made = {time, who};
    int32_t at = line->future_n++;
    while (at && is_before(made, heap[(at - 1) / 2])) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = made;
}

static int32_t pop_future(Line *line)
{
    Event *heap = line->future;
    int32_t top = heap[0].who, n = --line->future_n, at = 0;
    Event last = heap[n];
    for (int32_t child = 1; child < n; child = 2 * at + 1) {
        if (child + 1 < n && is_before(heap[child + 1], heap[child]))
            child++;
        if (!is_before(heap[child], last))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return top;
}

static void push_now(Arena *arena, Line *line, int32_t who)
{
    if (line->now_n == line->now_room) {
        line->now_room = line->now_room ? 2 * line->now_room : 64;
        line->now = grow(arena, line->now, (size_t)line->now_room * sizeof *line->now);
    }
    int32_t *heap = line->now, at = line->now_n++;
    while (at && who < heap[(at - 1) / 2]) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = who;
}

static int32_t pop_now(Line *line)
{
    int32_t *heap = line->now, top = heap[0], n = --line->now_n, last = heap[n], at = 0;
    for (int32_t child = 1; child < n; child = 2 * at + 1) {
        if (child + 1 < n && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= last)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return top;
}

static int arrives_before(Arrival a, Arrival b)
{
    return a.time < b.time || (a.time == b.time && a.turn < b.turn);
}

static void push_arriving(Machine *m, int64_t time, int32_t who)
{
    if (m->arriving_n == m->arriving_room) {
        m->arriving_room = m->arriving_room ? 2 * m->arriving_room : 64;
        m->arriving = grow(&m->arena, m->arriving, (size_t)m->arriving_room * sizeof *m->arriving);
    }
    Arrival *heap = m->arriving, made = {time, m->turn++, who};
    int64_t at = m->arriving_n++;
    while (at && arrives_before(made, heap[(at - 1) / 2])) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = made;
}

static Arrival pop_arriving(Machine *m)
{
    Arrival *heap = m->arriving, top = heap[0];
    int64_t n = --m->arriving_n, at = 0;
    Arrival last = heap[n];
    for (int64_t child = 1; child < n; child = 2 * at + 1) {
        if (child + 1 < n && arrives_before(heap[child + 1], heap[child]))
            child++;
        if (!arrives_before(heap[child], last))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return top;
}

/* phases ----------------------------------------------------------------------------------------------------------- */

/* The next instruction of a queue enters its window. */
static void admit(Machine *m, Line *line)
{
    if (line->is_fenced || line->entered == line->n)
        return;
    int32_t i = line->instructions[line->entered++];
    m->states[i].flags |= INSIDE;
    line->is_fenced = (m->states[i].flags & MEETS) != 0;
    if (m->states[i].waiting == 0)
        push_future(&m->arena, line, m->s->ready[i], i);
}

/* The queue of what starts next, when, and whether it is in its heap `now`: the earliest; at one time, the first in
 * program order of those that could start. NULL, at -1: nothing can. */
static Line *next_line(Machine *m, int64_t *at, int *is_now)
{
    int64_t best = -1;
    Line *chosen = NULL;
    int from_now = 0;
    for (int64_t u = 0; u < m->used_n; u++) {
        Line *line = m->used[u];
        int64_t t = line->free;
        if (line->server && line->server->free > t)
            t = line->server->free;
        while (line->future_n && line->future[0].time <= t)
            push_now(&m->arena, line, pop_future(line));
        if (line->now_n) {
            if (best < 0 || t < best || (t == best && from_now && line->now[0] < chosen->now[0])) {
                best = t;
                chosen = line;
                from_now = 1;
            }
        } else if (line->future_n && (best < 0 || line->future[0].time < best)) {
            best = line->future[0].time;
            chosen = line;
            from_now = 0;
        }
    }
    *at = best;
    *is_now = from_now;
    return chosen;
}

/* An instruction waits for the other cores; the last one to come lets all go on. */
static void come_together(Machine *m, int64_t at, int32_t i, Line *line)
{
    int64_t low = 0, high = m->g->meetings;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (m->g->meeting_rows[2 * middle] < i)
            low = middle + 1;
        else
            high = middle;
    }
    int64_t key = m->g->meeting_rows[2 * low + 1];
    m->absent[key]--;
    int32_t place = (int32_t)m->arrived_n++;
    m->arrived[place] = (Waiting){i, (int32_t)(line - m->lines), -1};
    if (m->arrived_first[key] < 0)
        m->arrived_first[key] = place;
    else
        m->arrived[m->arrived_last[key]].next = place;
    m->arrived_last[key] = place;
    line->free = NEVER;
    if (m->absent[key])
        return;
    place = m->arrived_first[key];
    m->arrived_first[key] = -1;
    for (; place >= 0; place = m->arrived[place].next) {
        int32_t j = m->arrived[place].who;
        Line *other = &m->lines[m->arrived[place].line];
        other->free = at;
        m->states[j].flags &= (uint8_t)~MEETS;
        if (j != i) {
            m->s->ready[j] = at;
            m->states[j].ready_cause = READ;
            m->states[j].ready_by = i;
        }
        push_now(&m->arena, other, j);
    }
}

static void decide(Made *s, int32_t i, int8_t cause, int64_t by)
{
    s->cause[i] = cause;
    s->by[i] = (int32_t)by;
}

/* A DMA takes the issuer of its ring; its first byte arrives later. */
static void issue_dma(Machine *m, int64_t at, int32_t i, Line *line, const Cost *k)
{
    Made *s = m->s;
    if (at == s->ready[i] || line->server->free < at)
        decide(s, i, m->states[i].ready_cause, m->states[i].ready_by);
    else
        decide(s, i, ISSUER, line->server->by);
    *line->server = (Held){at + k->issue, i};
    line->free = at + k->issue;
    s->begin[i] = at;
    push_arriving(m, at + k->issue + k->first_byte, i);
}

/* The bytes of a DMA arrive: each DMA engine moves its part, and HBM all of them. Returns when the last byte has
 * moved. */
static int64_t move(Machine *m, int64_t arrive, int32_t i, Core *core, const Cost *k)
{
    Made *s = m->s;
    int64_t moving = -1, finish = arrive, late = 0, late_by = -1;
    const int64_t *transfer = &m->g->transfer[(k - m->g->cost_rows) * m->g->dma_engines];
    for (int64_t e = 0; e < m->g->dma_engines; e++) {
        if (!transfer[e])
            continue;
        Held *engine = &core->engine[e];
        int64_t go = engine->free;
        if (go < arrive) {
            go = arrive;
        } else if (go > late) {
            late = go;
            late_by = engine->by;
        }
        if (moving < 0 || go < moving)
            moving = go;
        go += transfer[e];
        *engine = (Held){go, i};
        if (go > finish)
            finish = go;
    }
    int waits_for_hbm = 0;
    if (k->moved_B) {
        Held *hbm = core->hbm;
        int64_t who = hbm->by;
        hbm->free = (hbm->free > arrive ? hbm->free : arrive) + k->moved_B * m->g->ps_per_KB / 1024;
        hbm->by = i;
        if (hbm->free > finish) {
            finish = hbm->free;
            waits_for_hbm = 1;
            s->data_cause[i] = MEMORY;
            s->data_by[i] = (int32_t)who;
        }
    }
    if (late > arrive && !waits_for_hbm) {
        s->data_cause[i] = DMA;
        s->data_by[i] = (int32_t)late_by;
    }
    s->data[i] = moving > arrive ? moving : arrive;
    s->end[i] = finish;
    return finish;
}

static int64_t after_ports(Machine *m, int64_t start, int32_t i, const Core *core, const Cost *k)
{
    for (int p = 0; p < PORTS && k->port[p] >= 0; p++) {
        const Held *port = &core->port[k->port[p]];
        if (port->free > start) {
            start = port->free;
            decide(m->s, i, PORT, port->by);
        }
    }
    return start;
}

static void hold_ports(Core *core, const Cost *k, int64_t until, int32_t i)
{
    for (int p = 0; p < PORTS && k->port[p] >= 0; p++)
        core->port[k->port[p]] = (Held){until, i};
}

/* What decided the begin of an instruction that starts as soon as it is picked: the last that it waited for, or its
 * engine. */
static void begin_cause(Machine *m, int64_t at, int32_t i, const Line *line)
{
    if (m->states[i].ready_by >= 0 && m->s->ready[i] >= at)
        decide(m->s, i, m->states[i].ready_cause, m->states[i].ready_by);
    else if (line->server && line->server->by >= 0 && line->server->free == at)
        decide(m->s, i, ENGINE, line->server->by);
    else if (line->holder >= 0 && line->free == at)
        decide(m->s, i, ENGINE, line->holder);
    else
        decide(m->s, i, START, -1);
}

/* An instruction holds its engine, once its ports are free. Returns when it is done. */
static int64_t run_engine(Machine *m, int64_t at, int32_t i, Line *line, const Cost *k)
{
    Made *s = m->s;
    int64_t start = after_ports(m, at, i, line->core, k);
    if (start == at)
        begin_cause(m, at, i, line);
    s->begin[i] = s->data[i] = start;
    s->end[i] = line->free = start + k->occupancy;
    if (line->server)
        *line->server = (Held){s->end[i], i};
    hold_ports(line->core, k, s->end[i], i);
    return s->end[i];
}

/* An instruction of the Tensor Engine: behind the one before it while its stationary tile is loaded, in a part of the
 * array or in all of it, at half the rate while the engine is cold. Returns when it is done. */
static int64_t run_matmul(Machine *m, int64_t at, int32_t i, Line *line, const Cost *k)
{
    Made *s = m->s;
    Core *core = line->core;
    int64_t start = at;
    if (core->is_tiled && !k->groups)
        for (int g = 0; g < GROUPS; g++)
            if (core->groups[g] > start)
                start = core->groups[g];
    int64_t held = start, alone = 0, weights = s->data[i], before = core->matmul;
    int64_t began = before >= 0 ? s->begin[before] : 0;
    if (weights + k->weights > start)
        start = weights + k->weights;
    if (before >= 0 && began + k->load > start)
        start = began + k->load;
    if (before < 0 || weights > began) {
        /* not behind the matmul before: the engine loads the stationary tile and does nothing else */
        if (weights + k->weights > at && weights > held)
            held = weights;
        alone = start - (weights > line->free ? weights : line->free);
        if (k->weights < alone)
            alone = k->weights;
    }
    if (start > at)
        decide(s, i, WEIGHTS, weights ? m->states[i].ready_by : before);
    start = after_ports(m, start, i, core, k);
    if (start == at)
        begin_cause(m, at, i, line);
    for (int g = 0; g < GROUPS; g++)
        if (k->groups >> g & 1 && core->groups[g] > start)
            start = core->groups[g];
    if (k->groups && start > held)
        held = start;
    int64_t occupancy = k->occupancy;
    if (m->g->ramp) {
        int64_t ramp = m->g->ramp;
        if (start - core->idle_since > ramp / 2)
            core->busy_since = start;
        int64_t age = start - core->busy_since;
        if (age < ramp) {
            int64_t rest = ramp - age;
            occupancy = 2 * occupancy <= rest ? 2 * occupancy : rest + occupancy - rest / 2;
        }
        core->idle_since = start + occupancy;
    }
    s->begin[i] = held;
    s->data[i] = start;
    s->loading[i] = alone > start - held ? alone : start - held;
    core->matmul = i;
    int64_t finish = start + occupancy;
    s->end[i] = line->free = finish;
    if (k->groups) {
        if (start + m->g->tile_issue < finish)
            line->free = start + m->g->tile_issue;
        for (int g = 0; g < GROUPS; g++)
            if (k->groups >> g & 1)
                core->groups[g] = finish;
    } else if (core->is_tiled) {
        for (int g = 0; g < GROUPS; g++)
            core->groups[g] = finish;
    }
    hold_ports(core, k, finish, i);
    return finish;
}

/* Tell those that wait for an instruction. */
static void release(Machine *m, int32_t i, int queue, int64_t finish, int64_t after_data, int64_t after_read)
{
    Made *s = m->s;
    const int64_t *delays = &m->g->step[queue * m->g->queues];
    for (int64_t e = m->until[i]; e < m->until[i + 1]; e++) {
        int32_t j = (int32_t)(m->after[e] >> 2);
        int8_t kind = (int8_t)(m->after[e] & 3);
        Line *other = &m->lines[m->states[j].line];
        int64_t t = delays[other->queue];
        if (kind == DATA || kind == WEIGHTS) {
            t += queue == TENSOR && other->queue == TENSOR ? finish : after_data;
            if (kind == WEIGHTS && t > s->data[j])
                s->data[j] = t;
        } else {
            t += after_read;
        }
        if (t > s->ready[j]) {
            s->ready[j] = t;
            m->states[j].ready_cause = kind;
            m->states[j].ready_by = i;
        }
        if (--m->states[j].waiting == 0 && m->states[j].flags & INSIDE)
            push_future(&m->arena, other, s->ready[j], j);
    }
}

/* the machine before the first instruction ------------------------------------------------------------------------- */

/* edges -> successors, grouped by predecessor in program order */
static void open_successors(Machine *m)
{
    Arena *arena = &m->arena;
    int64_t edges = 0, offset = 0;
    for (int64_t c = 0; c < m->g->cores; c++)
        edges += m->g->programs[c].first[m->g->programs[c].instructions];
    m->after = need(arena, (size_t)edges * sizeof *m->after + 8);
    m->until = need_zeroed(arena, (size_t)(m->n + 2) * sizeof *m->until);
    int64_t *counts = m->until + 2; /* one place further: writing moves each begin to the begin of the next */
    for (int64_t c = 0; c < m->g->cores; c++) {
        const Program *p = &m->g->programs[c];
        for (int64_t e = 0; e < p->first[p->instructions]; e++) {
            int64_t before = (p->edge[e] >> 2) + offset;
            if (before < m->n - 1)
                counts[before]++;
        }
        offset += p->instructions;
    }
    for (int64_t i = 0; i + 1 < m->n; i++)
        counts[i] += i ? counts[i - 1] : 0;
    offset = 0;
    for (int64_t c = 0; c < m->g->cores; c++) {
        const Program *p = &m->g->programs[c];
        for (int64_t i = 0; i < p->instructions; i++) {
            m->states[offset + i].waiting = (int32_t)(p->first[i + 1] - p->first[i]);
            for (int64_t e = p->first[i]; e < p->first[i + 1]; e++) {
                int64_t before = (p->edge[e] >> 2) + offset;
                m->after[m->until[before + 1]++] = (uint32_t)(4 * (offset + i) + (p->edge[e] & 3));
            }
        }
        offset += p->instructions;
    }
}

static void open_machine(Machine *m)
{
    const Given *g = m->g;
    Arena *arena = &m->arena;
    for (int64_t c = 0; c < g->cores; c++)
        m->n += g->programs[c].instructions;
    if (m->n >= (int64_t)1 << 30 || g->queues > MOST_QUEUES)
        longjmp(arena->failed, UNSUPPORTED);
    size_t n = (size_t)m->n;
    int64_t nq = g->queues;
    m->states = need(arena, n * sizeof *m->states + 8);
    for (size_t k = 0; k < n; k++)
        m->states[k] = (State){.ready_by = -1, .ready_cause = START};
    m->cores = need_zeroed(arena, (size_t)g->cores * sizeof *m->cores + 8);
    m->lines = need_zeroed(arena, (size_t)(g->cores * nq) * sizeof *m->lines + 8);
    m->used = need(arena, (size_t)(g->cores * nq) * sizeof *m->used + 8);
    Held *hbm = need(arena, (size_t)g->chips * sizeof *hbm + 8);
    for (int64_t c = 0; c < g->chips; c++)
        hbm[c] = (Held){0, -1};
    int64_t i = 0;
    for (int64_t c = 0; c < g->cores; c++) {
        const Program *p = &g->programs[c];
        for (int64_t k = 0; k < p->instructions; k++, i++) {
            m->states[i].which = (int32_t)(p->base + p->cost[k]);
            m->states[i].line = (int32_t)(c * nq + g->cost_rows[m->states[i].which].line);
            m->lines[m->states[i].line].n++;
        }
    }
    for (int64_t c = 0; c < g->cores; c++) {
        Core *core = &m->cores[c];
        core->engine = need(arena, (size_t)g->dma_engines * sizeof *core->engine + 8);
        for (int64_t e = 0; e < g->dma_engines; e++)
            core->engine[e] = (Held){0, -1};
        core->matmul = -1;
        Held *servers = need(arena, (size_t)g->servers * sizeof *servers + 8);
        for (int64_t k = 0; k < g->servers; k++)
            servers[k] = (Held){0, -1};
        for (int p = 0; p < PORTS; p++)
            core->port[p].by = -1;
        core->idle_since = -1000000000000000;
        core->hbm = &hbm[g->programs[c].chip];
        core->is_tiled = g->programs[c].is_tiled;
        for (int64_t q = 0; q < nq; q++) {
            Line *line = &m->lines[c * nq + q];
            line->queue = (int32_t)q;
            line->core = core;
            line->server = g->server_of[q] < 0 ? NULL : &servers[g->server_of[q]];
            line->holder = -1;
            line->instructions = need(arena, (size_t)line->n * sizeof *line->instructions + 8);
            if (line->n)
                m->used[m->used_n++] = line;
            line->n = 0;
        }
    }
    for (i = 0; i < m->n; i++) {
        Line *line = &m->lines[m->states[i].line];
        line->issues = (int32_t)g->cost_rows[m->states[i].which].issues;
        line->instructions[line->n++] = (int32_t)i;
    }
    open_successors(m);
    m->absent = need_zeroed(arena, (size_t)g->meeting_keys * sizeof *m->absent + 8);
    m->arrived_first = need(arena, (size_t)g->meeting_keys * sizeof *m->arrived_first + 8);
    m->arrived_last = need(arena, (size_t)g->meeting_keys * sizeof *m->arrived_last + 8);
    m->arrived = need(arena, (size_t)g->meetings * sizeof *m->arrived + 8);
    for (int64_t k = 0; k < g->meeting_keys; k++)
        m->arrived_first[k] = m->arrived_last[k] = -1;
    for (int64_t k = 0; k < g->meetings; k++) {
        m->states[g->meeting_rows[2 * k]].flags |= MEETS;
        m->absent[g->meeting_rows[2 * k + 1]]++;
    }
}

static int run(Machine *m)
{
    const Given *g = m->g;
    Made *s = m->s;
    open_machine(m);
    for (int64_t u = 0; u < m->used_n; u++)
        for (int64_t w = 0; w < g->window; w++)
            admit(m, m->used[u]);
    int64_t left = m->n;
    while (left) {
        int64_t at, finish = 0;
        int is_now;
        Line *line = next_line(m, &at, &is_now);
        if (m->arriving_n && (at < 0 || m->arriving[0].time <= at)) {
            /* the bytes of a DMA come before the next instruction */
            Arrival arrival = pop_arriving(m);
            int32_t i = arrival.who;
            const Cost *k = &g->cost_rows[m->states[i].which];
            line = &m->lines[m->states[i].line];
            left--;
            finish = move(m, arrival.time, i, line->core, k);
            release(m, i, line->queue, finish, finish + k->latency, finish + k->latency);
            continue;
        }
        if (!line)
            return STUCK;
        int32_t i = is_now ? pop_now(line) : pop_future(line);
        if (m->states[i].flags & MEETS) {
            come_together(m, at, i, line);
            continue;
        }
        const Cost *k = &g->cost_rows[m->states[i].which];
        if (line->issues) {
            issue_dma(m, at, i, line, k);
        } else {
            left--;
            finish = line->queue == TENSOR ? run_matmul(m, at, i, line, k) : run_engine(m, at, i, line, k);
        }
        line->holder = i;
        if (line->is_fenced) {
            line->is_fenced = 0;
            for (int64_t w = 0; w < g->window; w++)
                admit(m, line);
        } else {
            admit(m, line);
        }
        if (!line->issues)
            release(m, i, line->queue, finish, finish + k->latency, finish);
    }
    for (int64_t i = 0; i < m->n; i++) {
        const Cost *k = &g->cost_rows[m->states[i].which];
        int64_t done = s->end[i] + (k->issues ? 0 : k->latency);
        if (i == 0 || done > s->total)
            s->total = done;
    }
    return DONE;
}

EXPORT int clock_schedule(const Given *g, Made *made)
{
    Machine *m = calloc(1, sizeof *m);
    if (!m)
        return NO_MEMORY;
    m->g = g;
    m->s = made;
    made->total = 0;
    arena_open(&m->arena);
    int status = setjmp(m->arena.failed);
    if (!status)
        status = run(m);
    arena_close(&m->arena);
    free(m);
    return status;
}
