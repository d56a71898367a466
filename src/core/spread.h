/*
 * spread.h - means of a pair of numbers over samples, and how sure they are.
 *
 * Header only, pure.
 */
#ifndef GRADECHO_CORE_SPREAD_H
#define GRADECHO_CORE_SPREAD_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

/* Zero-initialise. Sums of squares are about the means (Welford). */
struct ge_spread {
    double count, x, y; /* samples, and the means of the two */
    double xx, xy, yy;
};

/* Samples with a missing number are passed over. */
static inline void ge_spread_add(struct ge_spread *s, double x, double y)
{
    const double dx = x - s->x, dy = y - s->y;

    if (isnan(dx) || isnan(dy))
        return;
    s->count += 1.0;
    s->x += dx / s->count;
    s->y += dy / s->count;
    s->xx += dx * (x - s->x);
    s->xy += dx * (y - s->y);
    s->yy += dy * (y - s->y);
}

/* Is a x > b y on average, by more than the scatter of the samples explains
 * (Student's t, 2.5 % one-sided)? False for fewer than two samples. A ratio
 * x / y above b / a without dividing by a y that may be zero. */
static inline bool ge_spread_above(const struct ge_spread *s, double a,
                                   double b)
{
    static const double student[] = {12.7, 4.30, 3.18, 2.78, 2.57,
                                     2.45, 2.36, 2.31, 2.26};
    const double mean = a * s->x - b * s->y;
    const double squares = a * a * s->xx - 2.0 * a * b * s->xy + b * b * s->yy;
    double t = 2.23;

    if (!(s->count >= 2.0))
        return false;
    if (s->count <= 10.0)
        t = student[(size_t)s->count - 2];
    return mean > t * sqrt(fmax(squares, 0.0) / (s->count - 1.0) / s->count);
}

#endif
