/* What a schedule says: its critical path (clock/latency.py) and what each engine did (profile.py). The rules are
 * told there. */
#include "memory.h"

#include <stdlib.h>
#include <string.h>

/* A kind of cost, times in ps. unit: the engine that it belongs to; lead, body, tail: how many (name of a fact,
 * length) of `parts` come before its first byte, while it works, and after; they stand one after the other from
 * `part` on. */
typedef struct {
    int64_t queue, unit, is_dma, occupancy, latency, issue, first_byte, part, lead, body, tail;
} Cost;

/* A schedule. core: of each instruction; cost: of the instructions of each core; offset, base: number of the first
 * instruction and of the first cost of each core; parts: (number of a fact, length). */
typedef struct {
    int64_t instructions, cores, units, total, semaphore, trigger;
    const int64_t *begin, *data, *end, *loading;
    const int32_t *by, *data_by;
    const int8_t *cause, *data_cause;
    const int32_t *core;
    const int32_t *const *cost;
    const int64_t *offset, *base;
    const Cost *cost_rows;
    const int64_t *parts;
} Schedule;

/* Facts that a rule names. */
enum { WAIT, DMA_WAIT, LOAD_LATENCY, THROTTLE_RATE, TRIGGER, SEMAPHORE };

/* Steps of the critical path, last first; first: where the parts of each begin, and the end of the last. */
typedef struct {
    int64_t steps, parts;
    int32_t *instruction;
    int64_t *start, *end;
    int8_t *cause;
    int32_t *first, *fact;
    int64_t *length;
} Path;

static const Cost *cost_of(const Schedule *s, int64_t i)
{
    int32_t c = s->core[i];
    return &s->cost_rows[s->base[c] + s->cost[c][i - s->offset[c]]];
}

/* One behind the last instruction of a core. */
static int64_t end_of(const Schedule *s, int64_t core)
{
    return core + 1 < s->cores ? s->offset[core + 1] : s->instructions;
}

/* critical path ---------------------------------------------------------------------------------------------------- */

typedef struct {
    Arena arena;
    const Schedule *s;
    Path *path;
    int64_t step_room, part_room;
    /* the step at hand: its bounds, where its parts begin, until when they reach; at: how far its instruction has
     * been told */
    int64_t low, high, begin, covered, at;
} Walk;

/* More time of a fact: a fact that the step has already takes it. */
static void add_part(Walk *w, int64_t fact, int64_t length)
{
    Path *path = w->path;
    for (int64_t p = w->begin; p < path->parts; p++) {
        if (path->fact[p] == fact) {
            path->length[p] += length;
            return;
        }
    }
    if (path->parts == w->part_room) {
        w->part_room *= 2;
        path->fact = grow(&w->arena, path->fact, (size_t)w->part_room * sizeof *path->fact);
        path->length = grow(&w->arena, path->length, (size_t)w->part_room * sizeof *path->length);
    }
    path->fact[path->parts] = (int32_t)fact;
    path->length[path->parts++] = length;
}

static void make_room(Walk *w)
{
    Arena *arena = &w->arena;
    Path *path = w->path;
    w->step_room *= 2;
    size_t room = (size_t)w->step_room;
    path->instruction = grow(arena, path->instruction, room * sizeof *path->instruction);
    path->start = grow(arena, path->start, room * sizeof *path->start);
    path->end = grow(arena, path->end, room * sizeof *path->end);
    path->cause = grow(arena, path->cause, room * sizeof *path->cause);
    path->first = grow(arena, path->first, (room + 1) * sizeof *path->first);
}

static void open_step(Walk *w, int64_t i, int64_t start, int64_t end, int64_t cause)
{
    Path *path = w->path;
    if (path->steps == w->step_room)
        make_room(w);
    if (path->parts > INT32_MAX / 2)
        longjmp(w->arena.failed, UNSUPPORTED);
    int64_t at = path->steps++;
    path->instruction[at] = (int32_t)i;
    path->start[at] = start;
    path->end[at] = end;
    path->cause[at] = (int8_t)cause;
    w->begin = path->parts;
    path->first[at] = (int32_t)path->parts;
}

/* The next piece of an instruction's time, and how much of it is in the step. */
static void add(Walk *w, int64_t fact, int64_t length)
{
    if (length <= 0)
        return;
    int64_t a = w->at > w->low ? w->at : w->low, b = w->at + length < w->high ? w->at + length : w->high;
    w->at += length;
    if (b > a) {
        add_part(w, fact, b - a);
        w->covered = b;
    }
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The time of an instruction by fact, one after the other. */
static void segments(Walk *w, int64_t i)
{
    const Schedule *s = w->s;
    const Cost *k = cost_of(s, i);
    const int64_t *part = &s->parts[2 * k->part];
    w->at = s->begin[i];
    for (int64_t p = 0; p < k->lead; p++, part += 2)
        add(w, part[0], part[1]);
    if (k->is_dma) {
        add(w, DMA_WAIT, s->data[i] - w->at);
        for (int64_t p = 0; p < k->body; p++, part += 2)
            add(w, part[0], least(part[1], s->end[i] - w->at));
        add(w, DMA_WAIT, s->end[i] - w->at);
    } else {
        add(w, LOAD_LATENCY, s->data[i] - w->at);
        for (int64_t p = 0; p < k->body; p++, part += 2)
            add(w, part[0], part[1]);
        add(w, THROTTLE_RATE, s->end[i] - s->data[i] - k->occupancy);
    }
    for (int64_t p = 0; p < k->tail; p++, part += 2)
        add(w, part[0], part[1]);
}

static int64_t told(const Walk *w)
{
    int64_t sum = 0;
    for (int64_t p = w->begin; p < w->path->parts; p++)
        sum += w->path->length[p];
    return sum;
}

static void walk(Walk *w)
{
    const Schedule *s = w->s;
    int64_t i = -1, latest = 0;
    for (int64_t c = 0; c < s->cores; c++) {
        const Cost *rows = &s->cost_rows[s->base[c]];
        const int32_t *cost = s->cost[c];
        int64_t end = end_of(s, c);
        for (int64_t j = s->offset[c]; j < end; j++, cost++) {
            int64_t done = s->end[j] + (rows[*cost].is_dma ? 0 : rows[*cost].latency);
            if (i < 0 || done > latest) {
                i = j;
                latest = done;
            }
        }
    }
    int64_t now = s->total;
    while (i >= 0) {
        int64_t cause = s->cause[i], by = s->by[i], low = s->begin[i];
        const Cost *k = cost_of(s, i);
        if (s->data_cause[i] && s->data_by[i] >= 0 && now > low + k->issue + k->first_byte) {
            cause = s->data_cause[i];
            by = s->data_by[i];
            low = least(now, low > s->end[by] ? low : s->end[by]);
        }
        open_step(w, i, low, now, cause);
        w->low = w->covered = low;
        w->high = now;
        segments(w, i);
        if (now > w->covered)
            add_part(w, WAIT, now - w->covered);
        if (low > s->begin[i] && told(w) < now - low)
            add_part(w, WAIT, now - low - told(w));
        now = low;
        if (by < 0 || cause == START) {
            if (now > 0) {
                open_step(w, -1, 0, now, START);
                add_part(w, WAIT, now);
            }
            break;
        }
        const Cost *other = cost_of(s, by);
        if (cause <= WEIGHTS) {
            int64_t step = k->queue == other->queue || other->is_dma ? 0 : k->is_dma ? s->trigger : s->semaphore;
            step = least(step, now);
            if (step) {
                open_step(w, i, now - step, now, cause);
                add_part(w, k->is_dma ? TRIGGER : SEMAPHORE, step);
                now -= step;
            }
        } else if (cause == ISSUER) {
            /* the issuer of software descriptors is GpSimd, which runs instructions too */
            now = least(now, other->is_dma ? s->begin[by] + other->issue : s->end[by]);
        }
        i = by;
    }
}

/* What `path` points at afterwards is freed with clock_free. */
EXPORT int clock_path(const Schedule *s, Path *path)
{
    memset(path, 0, sizeof *path);
    Walk *w = calloc(1, sizeof *w);
    if (!w)
        return NO_MEMORY;
    w->s = s;
    w->path = path;
    arena_open(&w->arena);
    int status = setjmp(w->arena.failed);
    if (!status) {
        Arena *arena = &w->arena;
        w->step_room = 64;
        make_room(w);
        w->part_room = 256;
        path->fact = need(arena, (size_t)w->part_room * sizeof *path->fact);
        path->length = need(arena, (size_t)w->part_room * sizeof *path->length);
        walk(w);
        path->first[path->steps] = (int32_t)path->parts;
        keep(arena, path->instruction);
        keep(arena, path->start);
        keep(arena, path->end);
        keep(arena, path->cause);
        keep(arena, path->first);
        keep(arena, path->fact);
        keep(arena, path->length);
    } else {
        memset(path, 0, sizeof *path);
    }
    arena_close(&w->arena);
    free(w);
    return status;
}

/* Where the instructions of a core come from. origin: of each, its place in the trace, -1 for loads of tables,
 * -1 - storage for spills and reloads; site: of each of the trace; sites: how many there are; storages: one more than
 * the highest number that spills. */
typedef struct {
    const int32_t *origin, *site;
    int64_t sites, storages;
} Source;

/* A place that the critical path meets. instruction: the first of it; seconds, buffers: time, and time in which it
 * waits for memory, ps. */
typedef struct {
    int64_t instruction, time, buffers;
} Place;

typedef struct {
    int64_t place, fact, length;
} PlacePart;

typedef struct {
    int64_t places, parts;
    Place *place;
    PlacePart *part;
} Lines;

/* The steps of a critical path by the places that its instructions come from, each in the order in which it comes up
 * first, and the time of each fact at each place, in that order as well. Steps of no instruction are of none. */
static void lines_of(Arena *arena, const Schedule *s, const Path *path, const Source *source, int64_t facts,
                     Lines *out)
{
    int64_t codes = 0, room = 0;
    int64_t *base = need(arena, (size_t)s->cores * sizeof *base + 8);
    for (int64_t c = 0; c < s->cores; c++) {
        base[c] = codes;
        codes += source[c].sites + 1 + source[c].storages;
    }
    int32_t *known = need(arena, (size_t)codes * sizeof *known + 8); /* of each code, its place */
    memset(known, 0xff, (size_t)codes * sizeof *known);
    int32_t *place_of = need(arena, (size_t)path->steps * sizeof *place_of + 8);
    for (int64_t k = 0; k < path->steps; k++) {
        int64_t i = path->instruction[k];
        place_of[k] = -1;
        if (i < 0)
            continue;
        int32_t c = s->core[i];
        int64_t origin = source[c].origin[i - s->offset[c]];
        int64_t code = origin < 0 ? source[c].sites - 1 - origin : source[c].site[origin];
        if (code < 0 || code > source[c].sites + source[c].storages)
            longjmp(arena->failed, UNSUPPORTED);
        code += base[c];
        if (known[code] < 0) {
            if (out->places == room) {
                room = room ? 2 * room : 32;
                out->place = grow(arena, out->place, (size_t)room * sizeof *out->place);
            }
            known[code] = (int32_t)out->places;
            out->place[out->places++] = (Place){i, 0, 0};
        }
        Place *mine = &out->place[place_of[k] = known[code]];
        mine->time += path->end[k] - path->start[k];
        if (path->cause[k] == BUFFER)
            mine->buffers += path->end[k] - path->start[k];
    }
    /* of each pair of a place and a fact, its part */
    int32_t *part = need(arena, (size_t)(out->places * facts) * sizeof *part + 8);
    memset(part, 0xff, (size_t)(out->places * facts) * sizeof *part);
    room = 0;
    for (int64_t k = 0; k < path->steps; k++) {
        if (place_of[k] < 0)
            continue;
        for (int64_t p = path->first[k]; p < path->first[k + 1]; p++) {
            int32_t *mine = &part[place_of[k] * facts + path->fact[p]];
            if (*mine < 0) {
                if (out->parts == room) {
                    room = room ? 2 * room : 64;
                    out->part = grow(arena, out->part, (size_t)room * sizeof *out->part);
                }
                *mine = (int32_t)out->parts;
                out->part[out->parts++] = (PlacePart){place_of[k], path->fact[p], 0};
            }
            out->part[*mine].length += path->length[p];
        }
    }
}

/* What `out` points at afterwards is freed with clock_free. */
EXPORT int clock_lines(const Schedule *s, const Path *path, const Source *source, int64_t facts, Lines *out)
{
    memset(out, 0, sizeof *out);
    Arena *arena = calloc(1, sizeof *arena);
    if (!arena)
        return NO_MEMORY;
    arena_open(arena);
    int status = setjmp(arena->failed);
    if (!status) {
        lines_of(arena, s, path, source, facts, out);
        keep(arena, out->place);
        keep(arena, out->part);
    } else {
        memset(out, 0, sizeof *out);
    }
    arena_close(arena);
    free(arena);
    return status;
}

/* engines ---------------------------------------------------------------------------------------------------------- */

/* For whom an instruction waited: nobody, its own engine, a unit, or a buffer of a unit. */
enum { NOBODY, ITSELF, UNITS };

static int64_t blamed(const Schedule *s, int64_t i)
{
    int64_t cause = s->cause[i], by = s->by[i];
    if (by < 0 || cause == START)
        return NOBODY;
    if (cause == ENGINE)
        return ITSELF;
    int64_t unit = cost_of(s, by)->unit;
    return UNITS + unit + (cause == BUFFER ? s->units : 0);
}

/* Instructions by their begin, of equal ones the first in program order first. Where they are far from in order, digits
 * from the last to the first. */
static int32_t *sorted(const Schedule *s, int32_t *order, int32_t *spare, int64_t n)
{
    enum { BITS = 11, DIGITS = 1 << BITS, NEAR = 8 };
    /* an engine begins its instructions nearly in order: each goes up to its place, as long as that is near */
    int64_t moves = 0;
    for (int64_t k = 1; k < n && moves <= NEAR * n; k++) {
        int32_t i = order[k];
        int64_t at = k, begin = s->begin[i];
        for (; at && s->begin[order[at - 1]] > begin; at--)
            order[at] = order[at - 1];
        order[at] = i;
        moves += k - at;
    }
    if (moves <= NEAR * n)
        return order;
    int64_t most = 0, count[DIGITS];
    for (int64_t k = 0; k < n; k++)
        if (s->begin[order[k]] > most)
            most = s->begin[order[k]];
    for (int shift = 0; shift < 63 && most >> shift; shift += BITS) {
        memset(count, 0, sizeof count);
        for (int64_t k = 0; k < n; k++)
            count[s->begin[order[k]] >> shift & (DIGITS - 1)]++;
        int64_t at = 0;
        for (int d = 0; d < DIGITS; d++) {
            int64_t here = count[d];
            count[d] = at;
            at += here;
        }
        for (int64_t k = 0; k < n; k++)
            spare[count[s->begin[order[k]] >> shift & (DIGITS - 1)]++] = order[k];
        int32_t *other = order;
        order = spare;
        spare = other;
    }
    return order;
}

/* Units and queues that have rules of their own. Software DMAs are instructions of `dma`, and hold GpSimd for
 * `writes` ps each. */
typedef struct {
    int64_t tensor, gpsimd, software_queue, writes;
} Special;

static int is_by_gpsimd(const Schedule *s, const Special *special, int64_t i)
{
    return cost_of(s, i)->queue == special->software_queue;
}

/* Of each core and unit: busy and waiting time, instructions; then the time for each that is blamed, and when it was
 * first blamed (0: never). Rows of 3 + 2 * (2 + 2 * units) numbers that start as zero. */
EXPORT int clock_engines(const Schedule *s, const Special *special, int64_t *rows)
{
    int64_t units = s->units, whom = UNITS + 2 * units, width = 3 + 2 * whom;
    Arena *arena = calloc(1, sizeof *arena);
    if (!arena)
        return NO_MEMORY;
    arena_open(arena);
    int status = setjmp(arena->failed);
    if (status) {
        arena_close(arena);
        free(arena);
        return status;
    }
    int64_t *count = need(arena, (size_t)units * sizeof *count);
    for (int64_t c = 0; c < s->cores; c++) {
        int64_t begin = s->offset[c], end = end_of(s, c);
        int32_t **mine = need(arena, (size_t)units * sizeof *mine);
        memset(count, 0, (size_t)units * sizeof *count);
        int64_t software = 0;
        for (int64_t i = begin; i < end; i++) {
            count[cost_of(s, i)->unit]++;
            software += is_by_gpsimd(s, special, i);
        }
        count[special->gpsimd] += software;
        int64_t largest = 0;
        for (int64_t u = 0; u < units; u++) {
            mine[u] = need(arena, (size_t)count[u] * sizeof **mine + 8);
            largest = count[u] > largest ? count[u] : largest;
            count[u] = 0;
        }
        for (int64_t i = begin; i < end; i++) {
            int64_t u = cost_of(s, i)->unit;
            mine[u][count[u]++] = (int32_t)i;
            if (is_by_gpsimd(s, special, i))
                mine[special->gpsimd][count[special->gpsimd]++] = (int32_t)i;
        }
        int32_t *spare = need(arena, (size_t)largest * sizeof *spare + 8);
        for (int64_t u = 0; u < units; u++) {
            int64_t *row = &rows[(c * units + u) * width], *waits = row + 3, *turn = waits + whom;
            int64_t busy = 0, wait = 0, reach = 0, turns = 0;
            const int32_t *order = sorted(s, mine[u], spare, count[u]);
            for (int64_t k = 0; k < count[u]; k++) {
                int32_t i = order[k];
                int64_t start = s->begin[i], loaded = s->data[i] - s->loading[i];
                if (u == special->tensor && loaded < start)
                    start = loaded;
                if (start > reach) {
                    int64_t who = blamed(s, i);
                    wait += start - reach;
                    waits[who] += start - reach;
                    if (!turn[who])
                        turn[who] = ++turns;
                    reach = start;
                }
                if (u == special->tensor && loaded > reach) {
                    wait += loaded - reach;
                    reach = loaded;
                }
                int64_t until = s->end[i];
                if (u == special->gpsimd && is_by_gpsimd(s, special, i))
                    until = s->begin[i] + special->writes;
                if (until > reach) {
                    busy += until - reach;
                    reach = until;
                }
            }
            row[0] = busy;
            row[1] = wait;
            row[2] = count[u] - (u == special->gpsimd ? software : 0);
        }
        drop(arena, spare);
        for (int64_t u = 0; u < units; u++)
            drop(arena, mine[u]);
        drop(arena, mine);
    }
    arena_close(arena);
    free(arena);
    return DONE;
}
