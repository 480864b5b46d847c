/* Step times of one worker, and what users see beyond them: times.py, unevenness.py, anchors.py:ShiftAlong. */
#include "traffic.h"

#include <math.h>

/* bisect_right */
static int64_t place_right(const double *borders, int64_t count, double value)
{
    int64_t low = 0, high = count;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (value < borders[middle])
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

double shift_factor(const Shift *shift, double users, double log2_prompt)
{
    if (!shift->is_shifted)
        return exp(shift->constant);
    double load = log2(users);
    int64_t row = place_right(shift->user_at, shift->users, load);
    int64_t column = place_right(shift->prompt_at, shift->prompts, log2_prompt);
    const double *part = shift->parts + 4 * (row * (shift->prompts + 1) + column);
    double a = part[0], b = part[1], c = part[2], d = part[3];
    double u = exp(load * shift->user_reach), p = exp(log2_prompt * shift->prompt_reach);
    return exp(shift->constant + (a + b * u * u + p * p * (c + d * u * u)) / (u * p));
}

static int64_t grid_place(double size, int64_t first, int64_t count, double *share)
{
    double at = least(most(log2(most(size, 1e-9)) - (double)first, 0.0), (double)count - 1.0);
    int64_t i = least_of((int64_t)at, count - 2);
    *share = at - (double)i;
    return i;
}

double uneven_at(const Uneven *grid, double x, double y)
{
    double u, v;
    int64_t i = grid_place(x, grid->x0, grid->rows, &u), j = grid_place(y, grid->y0, grid->columns, &v);
    const double *low = grid->logs + i * grid->columns, *high = low + grid->columns;
    double below = low[j] + v * (low[j + 1] - low[j]);
    return exp(below + u * (high[j] + v * (high[j + 1] - high[j]) - below));
}

double between(const double *table, int64_t count, double m)
{
    int64_t whole = (int64_t)m;
    if (whole >= count - 1)
        return table[count - 1] * m / (double)(count - 1);
    if ((double)whole == m)
        return table[whole];
    return table[whole] + (m - (double)whole) * (table[whole + 1] - table[whole]);
}

double of_tokens(const Times *times, double fullest, double mean)
{
    double seconds = between(times->tokens, times->n_tokens, fullest);
    return times->n_experts ? seconds + between(times->experts, times->n_experts, mean) : seconds;
}

double times_reading_s(const Times *times, int64_t n, double context)
{
    double seconds = times->per_context * context;
    if (!times->reading.rows || n < 1)
        return seconds;
    return seconds * uneven_at(&times->reading, (double)n, context / (double)n);
}

double launched_s(const Times *times, double tokens)
{
    return tokens > times->capture ? times->many_launches : times->few_launches;
}

double prompt_s(const Times *times, int64_t start, int64_t tokens)
{
    double mean = most((double)start + 0.5 * (double)tokens, 0.5);
    double shorter = 1.0 + times->half / (2.0 * mean);
    double pair = times->pair;
    if (times->asking.rows)
        pair = times->pair * uneven_at(&times->asking, (double)tokens, 2.0 * mean / (double)most_of(tokens, 1));
    double seconds = (double)tokens * (times->prompt_token + mean * pair * shorter);
    for (int64_t k = 0; k < times->n_window_pairs; k++) {
        double width = times->window_pairs[2 * k], each = times->window_pairs[2 * k + 1];
        seconds += (double)tokens * least(mean, width) * each * shorter;
    }
    return seconds;
}

double front_before(const Seen *seen, int64_t prompt)
{
    return seen->front_s + seen->front_token_s * (double)prompt;
}
