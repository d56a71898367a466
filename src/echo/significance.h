/*
 * significance.h - is a mode signal at all?
 *
 * Matching to a mean that contains the replica selects agreement: of pure
 * noise, too, a mode comes out with an echo of 0.1 to 0.5. What stays honest is
 * the cross projection p_ab = uhat_a' Ghat_b vhat_a, b != a: its mean is
 * uhat_a' G vhat_a under any independent noise. Its t-statistic over replicas
 * decides, at a family-wise level of 5 % for all modes of a layer.
 *
 * Pure arithmetic.
 */
#ifndef GRADECHO_ECHO_SIGNIFICANCE_H
#define GRADECHO_ECHO_SIGNIFICANCE_H

#include <stddef.h>

/* The projections of one mode of one replica a on other replicas' gradients. */
struct ge_cross {
    double mean;     /* over b, [g] */
    double variance; /* over b, unbiased; NaN for fewer than two, [g]^2 */
    double partners; /* how many b */
};

/* Condense p [partners]; NaN entries are partners that are missing. */
void ge_cross_condense(const float *p, size_t partners, struct ge_cross *cross);

/* t = sum_a mean_a / sqrt(sum_a variance_a/partners_a).
 *
 * With two replicas there is one projection each and no spread to see. The
 * variance then is `assumed`: ge_separable_variance().
 *
 * cross [replicas] at a distance of `stride`. NaN below two replicas. */
double ge_mode_t(const struct ge_cross *cross, size_t replicas, size_t stride,
                 double assumed);

/* Variance of u' E v for noise whose variance is a product of a row's and a
 * column's, by the leaks of the mode (laws.h) and sigma2: exact for such noise,
 * the isotropic kind included, and a guess for any other. */
double ge_separable_variance(double tau2_left, double tau2_right, double rows,
                             double cols, double sigma2);

/* What t must exceed: 1.37 times the quantile of Student's t at 1 - 0.05/modes
 * with K (K-2) degrees of freedom, and never less than 5. The factor and the
 * floor are calibrated by simulation: the projections of one sample share their
 * noise and their modes are chosen to agree, so that t is wider than Student's.
 * tests/python/test_significance.py holds the rates. \param replicas  K >= 2 */
double ge_mode_t_threshold(size_t replicas, size_t modes);

#endif
