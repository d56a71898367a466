/*
 * jackknife.h - standard errors from values that each leave one replica out.
 *
 * Running (Welford), so that nothing is stored and nothing cancels.
 */
#ifndef GRADECHO_CORE_JACKKNIFE_H
#define GRADECHO_CORE_JACKKNIFE_H

#include <math.h>

/* Zero-initialise. */
struct ge_jackknife {
    double count, mean, square;
};

/* Add what comes out with one more replica left out. */
static inline void ge_jackknife_add(struct ge_jackknife *jackknife,
                                    double value)
{
    const double d = value - jackknife->mean;

    jackknife->count += 1.0;
    jackknife->mean += d / jackknife->count;
    jackknife->square += d * (value - jackknife->mean);
}

/* sqrt((K-1)/K sum of squared deviations); NaN if a value was, or if there are
 * fewer than two. */
static inline double ge_jackknife_error(const struct ge_jackknife *jackknife)
{
    const double k = jackknife->count;

    return k < 2.0 ? (double)NAN : sqrt((k - 1.0) / k * jackknife->square);
}

#endif
