/* LoRA adapters on a replica: adapters.py. Lists of adapters begin with the least recently used. */
#include "traffic.h"

#include <stdlib.h>
#include <string.h>

/* Room for what is kept of each adapter up to this one. */
static void make_known(Adapters *a, int64_t adapter)
{
    if (adapter < a->known)
        return;
    int64_t known = a->known ? a->known : 64;
    while (known <= adapter)
        known *= 2;
    a->active = grown(a->escape, a->active, (size_t)known * sizeof *a->active);
    a->device = grown(a->escape, a->device, (size_t)known * sizeof *a->device);
    a->host = grown(a->escape, a->host, (size_t)known * sizeof *a->host);
    a->is_on_device = grown(a->escape, a->is_on_device, (size_t)known);
    a->is_on_host = grown(a->escape, a->is_on_host, (size_t)known);
    size_t more = (size_t)(known - a->known);
    memset(a->active + a->known, 0, more * sizeof *a->active);
    memset(a->is_on_device + a->known, 0, more);
    memset(a->is_on_host + a->known, 0, more);
    a->known = known;
}

static void take_from(int64_t *list, int64_t *count, char *is_in, int64_t at)
{
    is_in[list[at]] = 0;
    (*count)--;
    memmove(list + at, list + at + 1, (size_t)(*count - at) * sizeof *list);
}

/* Put an adapter last, wherever it was. */
static void renew(int64_t *list, int64_t *count, char *is_in, int64_t adapter)
{
    if (is_in[adapter])
        for (int64_t at = *count - 1; at >= 0; at--)
            if (list[at] == adapter) {
                take_from(list, count, is_in, at);
                break;
            }
    list[(*count)++] = adapter;
    is_in[adapter] = 1;
}

int adapters_admit(const Adapters *a, int64_t adapter)
{
    return adapter < 0 || (adapter < a->known && a->active[adapter]) || a->n_active < a->costs->slots;
}

double adapters_enter(Adapters *a, int64_t adapter)
{
    if (adapter < 0)
        return 0.0;
    make_known(a, adapter);
    if (!a->active[adapter]++)
        a->n_active++;
    double seconds = 0.0;
    if (!a->is_on_device[adapter]) {
        if (a->n_device >= a->costs->slots)
            for (int64_t at = 0; at < a->n_device; at++)
                if (!a->active[a->device[at]]) {
                    take_from(a->device, &a->n_device, a->is_on_device, at);
                    break;
                }
        a->loads++;
        seconds = a->costs->load_s;
        if (!a->is_on_host[adapter]) {
            a->reads++;
            seconds += a->costs->read_s;
            if (a->n_host >= a->costs->host)
                for (int64_t at = 0; at < a->n_host; at++)
                    if (!a->is_on_device[a->host[at]]) {
                        take_from(a->host, &a->n_host, a->is_on_host, at);
                        break;
                    }
        }
    }
    renew(a->device, &a->n_device, a->is_on_device, adapter);
    renew(a->host, &a->n_host, a->is_on_host, adapter);
    return seconds;
}

void adapters_leave(Adapters *a, int64_t adapter)
{
    if (adapter >= 0 && !--a->active[adapter])
        a->n_active--;
}

void adapters_clear(Adapters *a)
{
    a->n_active = a->n_device = a->n_host = 0;
    if (a->known) {
        memset(a->active, 0, (size_t)a->known * sizeof *a->active);
        memset(a->is_on_device, 0, (size_t)a->known);
        memset(a->is_on_host, 0, (size_t)a->known);
    }
}

double adapters_extra_s(const Adapters *a, double tokens)
{
    if (!a->n_active)
        return 0.0;
    return a->costs->fixed_s + (double)a->n_active * a->costs->each_s + tokens * a->costs->token_s;
}

void adapters_close(Adapters *a)
{
    free(a->active);
    free(a->device);
    free(a->host);
    free(a->is_on_device);
    free(a->is_on_host);
}
