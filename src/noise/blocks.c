#include "blocks.h"

#include <math.h>

#include "jackknife.h"

void ge_blocks_add(struct ge_blocks *blocks, uint64_t index, uint64_t window,
                   double x, double y)
{
    /* In floating point: index x GE_BLOCKS may not fit. */
    const double place = (double)index / (double)window * GE_BLOCKS;
    const size_t at = place < GE_BLOCKS ? (size_t)place : GE_BLOCKS - 1;

    if (isnan(x) || isnan(y))
        return;
    blocks->count[at] += 1.0;
    blocks->x[at] += x;
    blocks->y[at] += y;
}

static struct ge_average divide(const double *x, const double *y,
                                const double *count)
{
    struct ge_average made = {(double)NAN, (double)NAN, (double)INFINITY,
                              -(double)INFINITY, 0};
    struct ge_jackknife jackknife = {0};
    double all_x = 0.0, all_y = 0.0;

    for (size_t i = 0; i < GE_BLOCKS; i++) {
        const double ratio = y[i] > 0.0 ? x[i] / y[i] : (double)INFINITY;

        if (!(count[i] > 0.0))
            continue;
        made.blocks++;
        all_x += x[i];
        all_y += y[i];
        made.low = fmin(made.low, ratio);
        made.high = fmax(made.high, ratio);
    }
    if (made.blocks == 0 || all_y == 0.0) {
        made.low = made.high = (double)NAN;
        return made;
    }
    made.value = all_x / all_y;
    if (made.blocks < GE_BLOCKS_LEAST)
        return made;
    for (size_t i = 0; i < GE_BLOCKS; i++)
        if (count[i] > 0.0)
            ge_jackknife_add(&jackknife, (all_x - x[i]) / (all_y - y[i]));
    made.se = ge_jackknife_error(&jackknife);
    return made;
}

struct ge_average ge_blocks_ratio(const struct ge_blocks *blocks)
{
    return divide(blocks->x, blocks->y, blocks->count);
}

struct ge_average ge_blocks_mean_x(const struct ge_blocks *blocks)
{
    return divide(blocks->x, blocks->count, blocks->count);
}

struct ge_average ge_blocks_mean_y(const struct ge_blocks *blocks)
{
    return divide(blocks->y, blocks->count, blocks->count);
}

double ge_average_difference(const struct ge_average *a,
                             const struct ge_average *b)
{
    const double va = a->se * a->se, vb = b->se * b->se;
    const double difference = a->value - b->value;
    double freedom = 0.0, t = 0.0, z = 0.0;

    if (difference == 0.0)
        return isnan(va + vb) ? (double)NAN : 0.0;
    freedom = (va + vb) * (va + vb) /
              (va * va / ((double)a->blocks - 1.0) +
               vb * vb / ((double)b->blocks - 1.0));
    t = difference / sqrt(va + vb);
    if (isnan(t) || isinf(t))
        return t; /* no error at all: counts that never changed */
    z = (8.0 * freedom + 1.0) / (8.0 * freedom + 3.0) *
        sqrt(freedom * log1p(t * t / freedom));
    return copysign(z, difference);
}
