/*
 * sketch.h - a few hundred numbers that stand for a replica's whole residual.
 *
 * Every entry of the residual Ghat_a - Gbar is added, with a pseudo-random
 * sign that depends on its place alone, to one of GE_SKETCH_SIZE bins. Two
 * replicas' sketches then have, on average, the inner product of their
 * residuals: K sketches tell all K^2 correlations (standard error about
 * 1/sqrt(GE_SKETCH_SIZE) = 0.06). Independent replicas have -1/(K-1); near +1,
 * two ranks read the same data or share a seed.
 *
 * Of a large layer a fixed selection of about GE_SKETCH_ENTRIES entries is
 * used, so that the cost stays small against the noise estimate's.
 * Pure; any thread.
 */
#ifndef GRADECHO_NOISE_SKETCH_H
#define GRADECHO_NOISE_SKETCH_H

#include <stddef.h>

enum { GE_SKETCH_SIZE = 256, GE_SKETCH_ENTRIES = 1 << 16 };

/* Add entries first .. first + count - 1 of a layer of `entries` entries.
 *
 * \param a, mean  [count] the replica's entries and the mean's
 * \param sketch   [GE_SKETCH_SIZE] added to */
void ge_sketch_add(const float *a, const float *mean, size_t first,
                   size_t count, size_t entries, double *sketch);

/* The largest correlation of any two of K sketches.
 *
 * \param sketches  [replicas] rows at a distance of `stride`
 * \param pair      written: the two rows of it
 * \return NaN below three replicas (two residuals are always opposite), and
 *         where no two residuals are other than zero */
double ge_sketch_worst(const double *sketches, size_t replicas, size_t stride,
                       size_t pair[2]);

#endif
