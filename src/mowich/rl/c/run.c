/* A run of reinforcement learning, played. The rule is the Python of rl/run.py: every function here does what the one
 * of the same name does there, addition for addition, so that both give the same bits. Structs hold doubles (seconds,
 * tokens, steps) and 64-bit integers. */
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

#ifndef COMPILED_SOURCES
#define COMPILED_SOURCES ""
#endif

enum { DONE, NO_MEMORY };
enum { WORKER, RETURN, GROUP, TRAINED, FREE, HOLD, LOADED, DELIVERED };
#define NONE (-1)

/* RunSetup and the columns of RunRecord, of compiled.py. */
typedef struct {
    int64_t n_samples, n_groups, n_ends, samples, steps, workers, prompts, staleness;
    int64_t takes_turns, waits_started, is_partial, hides_passes, most, places, n_context;
    double room_tokens, prompt, prompt_s, gain, call_s, reward_s, judge_s, passes_s, update_s, other_s;
    double trainer_s, rollouts_s, whole_s, switch_s;
    const double *context, *step_s, *slope, *spent, *turn_steps;
    const int64_t *turns, *kept, *ends, *step_of;
    int64_t *worker, *version_of, *trained;
    double *start_s, *end_s, *made, *rows;
} Setup;

/* STEP of setup.py. */
typedef struct {
    double free_s, ready_s, answered_s, enough_s, slack_free_s, slack_enough_s, passed_s, trained_s, sent_s, held_s;
    double delivered_s, busy_s, tokens, most_running;
} Step;

typedef struct {
    double at_s;
    int64_t put, kind, who, stamp;
} Event;

typedef struct {
    double at;
    int64_t order, sample;
} End;

typedef struct {
    int64_t order, sample;
} Admitted;

typedef struct {
    int64_t first, last;
} Line;

typedef struct {
    int64_t running, calls, in_hand, version, stamp, is_over, is_loading;
    double steps, at_s, free_s, offset, held, made, busy_s, gained, until;
    End *ends;
    Admitted *newest;
    int64_t n_ends, ends_room, n_newest, newest_room;
    Line back, queue;
} Worker;

/* A sample while it is played. next: after it in a line of its worker. */
typedef struct {
    double rest, context, entered, made_before, end_at;
    int64_t turns, order, next;
} Sample;

typedef struct {
    double last_s, there_s;
    int64_t left, started_by;
} Group;

typedef struct {
    const Setup *s;
    jmp_buf out;
    Worker *workers;
    Sample *samples;
    Group *groups;
    Step *steps;
    int64_t *step_left, *unfinished, *finished, *batch;
    double *there_s;
    Event *agenda;
    int64_t n_agenda, agenda_room, put, n_finished;
    int64_t started, version, step, due, overdue, queued, order, loading, most_running;
    int is_waiting, is_syncing, is_pending, is_done;
    double now, slack_s, judge_s;
} Run;

static double larger(double a, double b)
{
    return b > a ? b : a;
}

static double smaller(double a, double b)
{
    return b < a ? b : a;
}

static void *grown(Run *r, void *old, int64_t *room, size_t size)
{
    int64_t wanted = *room ? 2 * *room : 64;
    void *made = realloc(old, (size_t)wanted * size);
    if (!made)
        longjmp(r->out, 1);
    *room = wanted;
    return made;
}

static void *zeros(Run *r, int64_t count, size_t size)
{
    void *made = calloc((size_t)(count > 0 ? count : 1), size);
    if (!made)
        longjmp(r->out, 1);
    return made;
}

/* agenda ---------------------------------------------------------------------------------------------------------- */

static int event_before(const Event *a, const Event *b)
{
    return a->at_s < b->at_s || (a->at_s == b->at_s && a->put < b->put);
}

static void put_event(Run *r, double at_s, int64_t kind, int64_t who, int64_t stamp)
{
    if (r->n_agenda == r->agenda_room)
        r->agenda = grown(r, r->agenda, &r->agenda_room, sizeof *r->agenda);
    Event one = {at_s, ++r->put, kind, who, stamp};
    int64_t at = r->n_agenda++;
    while (at > 0 && event_before(&one, &r->agenda[(at - 1) / 2])) {
        r->agenda[at] = r->agenda[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    r->agenda[at] = one;
}

static Event next_event(Run *r)
{
    Event *heap = r->agenda, out = heap[0], last = heap[--r->n_agenda];
    int64_t at = 0, n = r->n_agenda;
    for (int64_t below = 1; below < n; below = 2 * at + 1) {
        if (below + 1 < n && event_before(&heap[below + 1], &heap[below]))
            below++;
        if (!event_before(&heap[below], &last))
            break;
        heap[at] = heap[below];
        at = below;
    }
    heap[at] = last;
    return out;
}

static int end_before(const End *a, const End *b)
{
    return a->at < b->at || (a->at == b->at && a->order < b->order);
}

static void put_end(Run *r, Worker *w, End one)
{
    if (w->n_ends == w->ends_room)
        w->ends = grown(r, w->ends, &w->ends_room, sizeof *w->ends);
    int64_t at = w->n_ends++;
    while (at > 0 && end_before(&one, &w->ends[(at - 1) / 2])) {
        w->ends[at] = w->ends[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    w->ends[at] = one;
}

static End next_end(Worker *w)
{
    End *heap = w->ends, out = heap[0], last = heap[--w->n_ends];
    int64_t at = 0, n = w->n_ends;
    for (int64_t below = 1; below < n; below = 2 * at + 1) {
        if (below + 1 < n && end_before(&heap[below + 1], &heap[below]))
            below++;
        if (!end_before(&heap[below], &last))
            break;
        heap[at] = heap[below];
        at = below;
    }
    heap[at] = last;
    return out;
}

static void append(Run *r, Line *line, int64_t i)
{
    r->samples[i].next = NONE;
    if (line->first == NONE)
        line->first = i;
    else
        r->samples[line->last].next = i;
    line->last = i;
}

static void append_left(Run *r, Line *line, int64_t i)
{
    r->samples[i].next = line->first;
    if (line->first == NONE)
        line->last = i;
    line->first = i;
}

static int64_t pop_left(Run *r, Line *line)
{
    int64_t i = line->first;
    line->first = r->samples[i].next;
    return i;
}

/* StepClock ------------------------------------------------------------------------------------------------------- */

static int64_t place(const Setup *s, double context)
{
    int64_t low = 0, high = s->n_context; /* bisect_right */
    while (low < high) {
        int64_t mid = (low + high) / 2;
        if (context < s->context[mid])
            high = mid;
        else
            low = mid + 1;
    }
    return low - 1;
}

static double spent_to(const Setup *s, int64_t row, double context)
{
    int64_t j = place(s, context), at = row * s->n_context + j;
    double d = context - s->context[j];
    return s->spent[at] + d * (s->step_s[at] + 0.5 * s->slope[at] * d);
}

static double clock_seconds(const Setup *s, int64_t running, double context, double steps)
{
    int64_t row = running - 1;
    double spent = spent_to(s, row, context + s->gain * steps) - spent_to(s, row, context);
    return larger(spent, 0.0) / s->gain;
}

static double clock_steps(const Setup *s, int64_t running, double context, double seconds)
{
    int64_t row = running - 1, j = place(s, context);
    double goal = spent_to(s, row, context) + s->gain * seconds;
    const double *spent = s->spent + row * s->n_context;
    while (j + 1 < s->n_context && goal >= spent[j + 1])
        j++;
    double rest = goal - spent[j], step_s = s->step_s[row * s->n_context + j];
    double slope = s->slope[row * s->n_context + j];
    double root = sqrt(larger(step_s * step_s + 2.0 * slope * rest, 0.0));
    return larger(s->context[j] + 2.0 * rest / (step_s + root) - context, 0.0) / s->gain;
}

/* workers --------------------------------------------------------------------------------------------------------- */

static double mean_context(const Setup *s, const Worker *w)
{
    return larger((w->offset + (double)w->running * s->gain * w->steps) / (double)w->running, 0.0);
}

static void advance(Run *r, Worker *w)
{
    if (r->now > w->at_s) {
        if (w->running) {
            w->busy_s += (double)w->running * (r->now - w->at_s);
            double begin = larger(w->at_s, w->free_s);
            if (r->now > begin) {
                double gained = clock_steps(r->s, w->running, mean_context(r->s, w), r->now - begin);
                gained = smaller(gained, w->until - w->steps);
                w->gained += (double)w->running * gained;
                w->steps += gained;
            }
        }
        w->at_s = r->now;
    }
}

static void plan_next(Run *r, Worker *w)
{
    const Setup *s = r->s;
    w->stamp++;
    if (!w->running)
        return;
    while (w->ends[0].order != r->samples[w->ends[0].sample].order)
        next_end(w);
    w->until = w->ends[0].at;
    w->is_over = 0;
    if (w->running > 1) {
        double full = (s->room_tokens - w->held - w->offset) / ((double)w->running * s->gain);
        if (full < w->until) {
            w->until = larger(full, w->steps);
            w->is_over = 1;
        }
    }
    double seconds = clock_seconds(s, w->running, mean_context(s, w), w->until - w->steps);
    put_event(r, larger(w->at_s, w->free_s) + seconds, WORKER, w - r->workers, w->stamp);
}

static void admit(Run *r, Worker *w)
{
    const Setup *s = r->s;
    double read = 0.0;
    while (w->running < s->most) {
        int64_t i;
        Sample *one;
        if (w->back.first != NONE) {
            i = pop_left(r, &w->back);
            one = &r->samples[i];
            w->calls--;
            w->held -= one->context;
        } else if (w->queue.first != NONE && !w->is_loading) {
            i = w->queue.first;
            one = &r->samples[i];
            int64_t filled = w->running + w->calls;
            if (filled) {
                double cached = w->offset + (double)w->running * s->gain * w->steps + w->held + one->context;
                if (filled >= s->places || cached + (double)(w->running + 1) * s->gain > s->room_tokens)
                    break;
            }
            pop_left(r, &w->queue);
            r->queued--;
            read += one->context;
            if (s->version_of[i] < 0) {
                s->version_of[i] = w->version;
                s->start_s[i] = r->now;
            }
        } else
            break;
        one->entered = w->steps;
        one->made_before = w->made + (double)w->version * w->steps;
        one->order = ++r->order;
        one->end_at = w->steps + one->rest;
        put_end(r, w, (End){one->end_at, one->order, i});
        if (w->n_newest == w->newest_room)
            w->newest = grown(r, w->newest, &w->newest_room, sizeof *w->newest);
        w->newest[w->n_newest++] = (Admitted){one->order, i};
        w->offset += one->context - s->gain * w->steps;
        w->running++;
    }
    if (w->running > r->most_running)
        r->most_running = w->running;
    if (read != 0.0)
        w->free_s = larger(w->free_s, r->now) + read * s->prompt_s;
}

static void leave(Run *r, Worker *w, int64_t i)
{
    double gain = r->s->gain;
    Sample *one = &r->samples[i];
    w->offset -= one->context - gain * one->entered;
    w->running--;
    one->order = 0;
    if (!w->running) {
        w->offset = 0.0;
        w->n_newest = 0;
    }
    one->context += gain * (w->steps - one->entered);
    r->s->made[i] += (w->made + (double)w->version * w->steps) - one->made_before;
}

static void turn_done(Run *r, Worker *w, int64_t i)
{
    const Setup *s = r->s;
    Sample *one = &r->samples[i];
    leave(r, w, i);
    if (--one->turns) {
        one->rest = s->turn_steps[i];
        w->held += one->context;
        w->calls++;
        put_event(r, r->now + s->call_s, RETURN, i, 0);
        return;
    }
    w->in_hand--;
    s->end_s[i] = r->now;
    r->judge_s = larger(r->judge_s, r->now) + s->judge_s;
    int64_t group = i / s->samples;
    r->groups[group].left--;
    r->groups[group].last_s = r->now;
    if (!r->groups[group].left)
        put_event(r, r->judge_s + s->reward_s, GROUP, group, 0);
}

static void load_if_empty(Run *r, Worker *w)
{
    if (w->is_loading && !w->running && !w->calls)
        put_event(r, r->now + r->s->rollouts_s, LOADED, w - r->workers, 0);
}

static void reached(Run *r, Worker *w)
{
    w->busy_s += (double)w->running * (r->now - w->at_s);
    w->gained += (double)w->running * (w->until - w->steps);
    w->steps = w->until;
    w->at_s = r->now;
    if (w->is_over) {
        Admitted last = w->newest[--w->n_newest];
        while (last.order != r->samples[last.sample].order)
            last = w->newest[--w->n_newest];
        leave(r, w, last.sample);
        r->samples[last.sample].rest = r->samples[last.sample].end_at - w->steps;
        append_left(r, &w->queue, last.sample);
        r->queued++;
    } else {
        while (w->n_ends && w->ends[0].at <= w->steps) {
            End end = next_end(w);
            if (end.order == r->samples[end.sample].order)
                turn_done(r, w, end.sample);
        }
        admit(r, w);
        load_if_empty(r, w);
    }
    plan_next(r, w);
}

static void returned(Run *r, int64_t i)
{
    Worker *w = &r->workers[r->s->worker[i]];
    advance(r, w);
    append(r, &w->back, i);
    admit(r, w);
    plan_next(r, w);
}

static void start_groups(Run *r)
{
    const Setup *s = r->s;
    int64_t step = r->version + s->staleness;
    int64_t end = s->ends[step < s->n_ends - 1 ? step : s->n_ends - 1];
    for (int64_t group = r->started; group < end; group++) {
        r->groups[group].started_by = r->version;
        r->unfinished[r->version] += s->kept[group];
        for (int64_t i = group * s->samples; i < (group + 1) * s->samples; i++) {
            Worker *fewest = r->workers;
            for (int64_t k = 1; k < s->workers; k++)
                if (r->workers[k].in_hand < fewest->in_hand)
                    fewest = &r->workers[k];
            fewest->in_hand++;
            append(r, &fewest->queue, i);
            s->worker[i] = fewest - r->workers;
            r->queued++;
        }
    }
    r->started = end;
    for (int64_t k = 0; k < s->workers; k++) {
        admit(r, &r->workers[k]);
        plan_next(r, &r->workers[k]);
    }
}

/* trainer --------------------------------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void train_if_ready(Run *r)
{
    if (!r->is_waiting)
        return;
    const Setup *s = r->s;
    int64_t k = r->step, n = 0;
    Step *step = &r->steps[k];
    if (step->enough_s < 0.0 && r->n_finished >= s->prompts) {
        step->enough_s = r->now;
        step->slack_enough_s = r->slack_s;
    }
    if (s->waits_started) {
        if (r->step_left[k])
            return;
        for (int64_t group = k ? s->ends[k - 1] : 0; group < s->ends[k]; group++) {
            step->answered_s = larger(step->answered_s, r->groups[group].last_s);
            if (s->kept[group])
                r->batch[n++] = group;
        }
    } else {
        if (r->overdue || r->n_finished < s->prompts)
            return;
        for (int others = 0; others < 2; others++)
            for (int64_t f = 0; f < r->n_finished && n < s->prompts; f++)
                if ((r->groups[r->finished[f]].started_by > r->due) == others)
                    r->batch[n++] = r->finished[f];
        for (int64_t b = 0; b < n; b++)
            step->answered_s = larger(step->answered_s, r->groups[r->batch[b]].last_s);
    }
    r->is_waiting = 0;
    step->ready_s = r->now;
    for (int64_t b = 0; b < n; b++)
        s->trained[r->batch[b]] = k;
    int64_t left = 0;
    for (int64_t f = 0; f < r->n_finished; f++)
        if (s->trained[r->finished[f]] < 0)
            r->finished[left++] = r->finished[f];
    r->n_finished = left;
    step->passed_s = r->now + s->passes_s;
    if (s->hides_passes) {
        step->passed_s = step->free_s;
        for (int64_t b = 0; b < n; b++)
            r->there_s[b] = r->groups[r->batch[b]].there_s;
        qsort(r->there_s, (size_t)n, sizeof *r->there_s, by_size);
        for (int64_t b = 0; b < n; b++)
            step->passed_s = larger(step->passed_s, r->there_s[b]) + s->passes_s / (double)s->prompts;
    }
    step->trained_s = step->passed_s + s->update_s + s->other_s;
    put_event(r, step->trained_s, TRAINED, 0, 0);
}

static void trainer_free(Run *r)
{
    const Setup *s = r->s;
    Step *step = &r->steps[r->step];
    step->free_s = r->now;
    step->slack_free_s = r->slack_s;
    step->most_running = (double)r->most_running;
    r->most_running = 0;
    for (int64_t k = 0; k < s->workers; k++) {
        Worker *w = &r->workers[k];
        advance(r, w);
        step->busy_s += w->busy_s;
        step->tokens += w->gained * s->gain;
        if (w->running > r->most_running)
            r->most_running = w->running;
    }
    if (r->step == s->steps) {
        r->is_done = 1;
        return;
    }
    r->due = r->step - s->staleness;
    if (r->due >= 0)
        r->overdue += r->unfinished[r->due];
    r->is_waiting = 1;
    train_if_ready(r);
}

static void group_done(Run *r, int64_t group)
{
    const Setup *s = r->s;
    r->step_left[s->step_of[group]]--;
    if (s->kept[group]) {
        int64_t by = r->groups[group].started_by;
        r->unfinished[by]--;
        if (by <= r->due)
            r->overdue--;
        r->groups[group].there_s = r->now;
        r->finished[r->n_finished++] = group;
    }
    train_if_ready(r);
}

static void send_weights(Run *r)
{
    const Setup *s = r->s;
    r->steps[r->step].sent_s = r->now;
    r->is_syncing = 1;
    r->is_pending = 0;
    r->step++;
    if (s->takes_turns)
        put_event(r, r->now + s->whole_s + s->switch_s, DELIVERED, 0, 0);
    else {
        put_event(r, r->now + s->trainer_s, FREE, 0, 0);
        put_event(r, r->now + (s->whole_s - s->rollouts_s), HOLD, 0, 0);
    }
}

static void hold(Run *r)
{
    const Setup *s = r->s;
    r->steps[r->version].held_s = r->now;
    if (!s->is_partial)
        r->loading = s->workers;
    for (int64_t k = 0; k < s->workers; k++) {
        Worker *w = &r->workers[k];
        if (!s->is_partial) {
            w->is_loading = 1;
            load_if_empty(r, w);
            continue;
        }
        advance(r, w);
        w->free_s = larger(w->free_s, r->now) + s->rollouts_s;
        w->busy_s -= (double)w->running * s->rollouts_s;
        plan_next(r, w);
    }
    if (s->is_partial)
        put_event(r, r->now + s->rollouts_s, DELIVERED, 0, 0);
}

static void use_version(Run *r, Worker *w)
{
    int64_t version = r->version + 1;
    w->made += (double)(w->version - version) * w->steps;
    w->version = version;
}

static void delivered(Run *r)
{
    const Setup *s = r->s;
    r->steps[r->version].delivered_s = r->now;
    for (int64_t k = 0; k < s->workers; k++) {
        advance(r, &r->workers[k]);
        if (s->is_partial || s->takes_turns)
            use_version(r, &r->workers[k]);
    }
    r->version++;
    r->is_syncing = 0;
    start_groups(r);
    if (r->is_pending)
        send_weights(r);
    if (s->takes_turns)
        trainer_free(r);
}

static void loaded(Run *r, Worker *w)
{
    advance(r, w);
    use_version(r, w);
    w->is_loading = 0;
    if (!--r->loading) {
        delivered(r);
        return;
    }
    admit(r, w);
    plan_next(r, w);
}

static void play(Run *r)
{
    const Setup *s = r->s;
    r->workers = zeros(r, s->workers, sizeof *r->workers);
    r->samples = zeros(r, s->n_samples, sizeof *r->samples);
    r->groups = zeros(r, s->n_groups, sizeof *r->groups);
    r->steps = zeros(r, s->steps + 1, sizeof *r->steps);
    r->step_left = zeros(r, s->n_ends, sizeof *r->step_left);
    r->unfinished = zeros(r, s->steps + 1, sizeof *r->unfinished);
    r->finished = zeros(r, s->n_groups, sizeof *r->finished);
    r->batch = zeros(r, s->prompts, sizeof *r->batch);
    r->there_s = zeros(r, s->prompts, sizeof *r->there_s);
    r->due = NONE;
    for (int64_t k = 0; k < s->workers; k++)
        r->workers[k].back.first = r->workers[k].queue.first = NONE;
    for (int64_t i = 0; i < s->n_samples; i++) {
        r->samples[i].rest = s->turn_steps[i];
        r->samples[i].context = s->prompt;
        r->samples[i].turns = s->turns[i];
    }
    for (int64_t group = 0; group < s->n_groups; group++) {
        r->groups[group].left = s->samples;
        r->step_left[s->step_of[group]]++;
    }
    for (int64_t k = 0; k <= s->steps; k++)
        r->steps[k].enough_s = -1.0;
    start_groups(r);
    trainer_free(r);
    while (!r->is_done) {
        Event event = next_event(r);
        if (event.kind == WORKER && event.stamp != r->workers[event.who].stamp)
            continue;
        if (event.at_s > r->now) {
            if (!r->queued)
                r->slack_s += event.at_s - r->now;
            r->now = event.at_s;
        }
        switch (event.kind) {
        case WORKER: reached(r, &r->workers[event.who]); break;
        case RETURN: returned(r, event.who); break;
        case GROUP: group_done(r, event.who); break;
        case TRAINED:
            if (r->is_syncing)
                r->is_pending = 1;
            else
                send_weights(r);
            break;
        case FREE: trainer_free(r); break;
        case HOLD: hold(r); break;
        case LOADED: loaded(r, &r->workers[event.who]); break;
        default: delivered(r);
        }
    }
    memcpy(s->rows, r->steps, (size_t)(s->steps + 1) * sizeof *r->steps);
}

/* Play a run; the columns of RunRecord begin as they are in run.py. */
EXPORT int run_play(const Setup *setup)
{
    Run *r = calloc(1, sizeof *r);
    if (!r)
        return NO_MEMORY;
    r->s = setup;
    int status = DONE;
    if (setjmp(r->out))
        status = NO_MEMORY;
    else
        play(r);
    for (int64_t k = 0; r->workers && k < setup->workers; k++) {
        free(r->workers[k].ends);
        free(r->workers[k].newest);
    }
    free(r->workers);
    free(r->samples);
    free(r->groups);
    free(r->steps);
    free(r->step_left);
    free(r->unfinished);
    free(r->finished);
    free(r->batch);
    free(r->there_s);
    free(r->agenda);
    free(r);
    return status;
}

/* Which sources the library was compiled from: COMPILED_SOURCES is given by whoever compiles it. */
EXPORT const char *run_sources(void)
{
    return COMPILED_SOURCES;
}
