/* Sessions: calls that wait for the answers of others: sessions.py, SessionLoad. */
#include "traffic.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void graph_open(Fleet *fleet)
{
    const Graph *graph = fleet->given.graph;
    size_t calls = (size_t)graph->first[graph->sessions];
    fleet->waits = grown(&fleet->escape, NULL, (calls + 1) * sizeof *fleet->waits);
    fleet->call_ready = grown(&fleet->escape, NULL, (calls + 1) * sizeof *fleet->call_ready);
    fleet->open_calls = grown(&fleet->escape, NULL, (size_t)(graph->sessions + 1) * sizeof *fleet->open_calls);
    memset(fleet->open_calls, 0, (size_t)(graph->sessions + 1) * sizeof *fleet->open_calls);
}

void graph_close(Fleet *fleet)
{
    agenda_close(&fleet->beside);
    free(fleet->waits);
    free(fleet->call_ready);
    free(fleet->open_calls);
    free(fleet->asked);
}

static void ask(Fleet *fleet, int64_t session, int64_t turn);

/* SessionLoad._wait_less */
static void wait_less(Fleet *fleet, int64_t session, int64_t turn, double ready)
{
    int64_t call = fleet->given.graph->first[session] + turn;
    fleet->waits[call]--;
    if (fleet->waits[call] >= 0)
        fleet->call_ready[call] = most(fleet->call_ready[call], ready);
    if (fleet->waits[call] == 0)
        ask(fleet, session, turn);
}

/* Let go on what follows a call, from its start or from its answer. */
static void follow(Fleet *fleet, int64_t session, int64_t turn, double at, int from_start)
{
    const Graph *graph = fleet->given.graph;
    int64_t call = graph->first[session] + turn;
    for (int64_t k = graph->edges_at[call]; k < graph->edges_at[call + 1]; k++)
        if ((graph->from_start[k] != 0) == from_start)
            wait_less(fleet, session, graph->edges[k], at + graph->edge_s[k]);
}

/* SessionLoad._ask */
static void ask(Fleet *fleet, int64_t session, int64_t turn)
{
    const Graph *graph = fleet->given.graph;
    int64_t call = graph->first[session] + turn;
    Sequence *one = fleet_sequence(fleet);
    one->id = call;
    one->arrival_s = fleet->call_ready[call];
    one->prompt = graph->prompts[call];
    one->output = graph->outputs[call];
    one->conversation = session;
    one->turn = turn;
    int64_t begin = graph->names_at[call], names = graph->names_at[call + 1] - begin;
    if (fleet->wants_names && names) {
        sequence_names(fleet, one, names);
        memcpy(one->names, graph->names + begin, (size_t)names * sizeof *one->names);
        one->n_names = graph->whole[call];
        one->n_later = names - one->n_names;
    }
    fleet->open_calls[session]++;
    if (fleet->n_asked == fleet->asked_room) {
        int64_t room = fleet->asked_room ? 2 * fleet->asked_room : 16;
        fleet->asked = grown(&fleet->escape, fleet->asked, (size_t)room * sizeof(Sequence *));
        fleet->asked_room = room;
    }
    fleet->asked[fleet->n_asked++] = one;
    follow(fleet, session, turn, one->arrival_s, 1);
}

/* SessionLoad._begin */
static void begin_session(Fleet *fleet, int64_t session, double at)
{
    const Graph *graph = fleet->given.graph;
    if (earlier(at) > graph->until_s || session >= graph->sessions)
        return;
    int64_t first = graph->first[session], end = graph->first[session + 1];
    for (int64_t call = first; call < end; call++) {
        fleet->waits[call] = graph->waits[call];
        fleet->call_ready[call] = at + graph->at_s[call];
    }
    for (int64_t call = first; call < end; call++)
        if (!graph->waits[call])
            ask(fleet, session, call - first);
}

/* SessionLoad.starts: the next of it; NULL where there is none. */
Sequence *graph_start(Fleet *fleet)
{
    const Graph *graph = fleet->given.graph;
    while (fleet->started < graph->n_starts && fleet->started < graph->sessions) {
        double at = graph->starts[fleet->started];
        if (agenda_next_s(&fleet->beside) < at)
            return agenda_pop(&fleet->beside).item;
        int64_t had = fleet->beside.n_heap + fleet->beside.n_now - fleet->beside.now_from, k = 0;
        fleet->n_asked = 0;
        begin_session(fleet, fleet->started++, at);
        Sequence *first = NULL;
        if (fleet->n_asked && fleet->asked[0]->arrival_s <= at && !had)
            first = fleet->asked[k++];
        for (; k < fleet->n_asked; k++)
            agenda_put(&fleet->beside, fleet->asked[k]->arrival_s, fleet->asked[k]);
        if (first)
            return first;
    }
    return agenda_next_s(&fleet->beside) < INFINITY ? agenda_pop(&fleet->beside).item : NULL;
}

void graph_after(Fleet *fleet, const Sequence *answered)
{
    const Graph *graph = fleet->given.graph;
    int64_t session = answered->conversation, turn = answered->turn, last = graph->last[session];
    double end = answered->last_token_s;
    fleet->n_asked = 0;
    fleet->open_calls[session]--;
    follow(fleet, session, turn, end, 0);
    if (graph->users && (turn == last || (last < 0 && !fleet->open_calls[session])))
        begin_session(fleet, session + graph->users, end + graph->pauses[session]);
}
