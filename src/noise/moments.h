/*
 * moments.h - sums over gradient entries: accumulated in double precision, in
 * a fixed order, in eight independent lanes (so that they run at the speed of
 * memory, and round no worse than one long sum).
 *
 * Pure; any thread.
 */
#ifndef GRADECHO_NOISE_MOMENTS_H
#define GRADECHO_NOISE_MOMENTS_H

#include <stdbool.h>
#include <stddef.h>

/* sum_i a_i^2 */
double ge_sum_squares(const float *a, size_t count);

/* What one replica's entries say against the mean's, in one pass. */
struct ge_moments {
    double deviation;  /* sum_i (a_i - mean_i)^2 */
    double projection; /* sum_i mean_i (a_i - mean_i) */
    double square;     /* sum_i mean_i^2, as ge_sum_squares() has it */
};

/* Differences are taken in double precision. */
struct ge_moments ge_moments_about(const float *a, const float *mean,
                                   size_t count);

/* No entry is infinite or not a number. */
bool ge_all_finite(const float *a, size_t count);

/* Copy, and say whether what was copied is finite. */
bool ge_copy_finite(const float *restrict a, size_t count, float *restrict out);

#endif
