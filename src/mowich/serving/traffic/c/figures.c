/* Counts of values in bins of equal ratio: studies/traffic.py:Figures. */
#include "traffic.h"

#include <math.h>

/* Count values in the bins from `floor` on, each `width` wide in logarithms. Returns how many are beyond the last of
 * `count` bins; these are not counted. */
EXPORT int64_t traffic_bins(const double *values, int64_t n, const double *floor_width, int64_t *bins, int64_t count)
{
    double floor = floor_width[0], width = floor_width[1];
    int64_t beyond = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = (int64_t)(log(most(values[i], floor) / floor) / width);
        if (at < count)
            bins[at]++;
        else
            beyond++;
    }
    return beyond;
}
