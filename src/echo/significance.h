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

/* t = sum_a mean_a / sqrt(sum_a v_a/partners_a).
 *
 * v_a is the spread that is seen, held up by one that is assumed: with few
 * replicas the former alone is so uncertain that the level would cost all
 * power. v_a = ((partners_a - 1) variance_a + prior assumed)/(partners_a - 1 +
 * prior) with GE_T_PRIOR = 2 degrees of freedom for `assumed`, from
 * ge_separable_variance(). With one partner it is all there is. A replica
 * without any is passed over.
 *
 * cross [replicas] at a distance of `stride`. NaN below two replicas. */
enum { GE_T_PRIOR = 2 };
double ge_mode_t(const struct ge_cross *cross, size_t replicas, size_t stride,
                 double assumed);

/* Variance of u' E v for noise whose variance is a product of a row's and a
 * column's: exact for such noise, the isotropic kind included, and a guess for
 * any other.
 *
 * \param left, right  expected ||E v||^2 and ||E' u||^2 */
double ge_separable_variance(double left, double right, double rows,
                             double cols, double sigma2);

/* What t must exceed: 1.55 times the normal quantile at 1 - 0.05/modes. The
 * factor is calibrated by simulation for K from 2 to 8 replicas: the
 * projections of one sample share their noise and their modes are chosen to
 * agree, so that t is wider than normal. tests/python/test_science.py and
 * `gradecho selftest` hold the rates. */
double ge_mode_t_threshold(size_t modes);

#endif
