/*
 * noise.h - noise variance, gradient norm and noise scale of one layer.
 *
 * Pure arithmetic in double precision: no MPI, no I/O, no allocation,
 * thread-safe. Model: replica a of a layer is Ghat_a = G + E_a, a = 1..K, with
 * E_a independent and of mean zero; sigma2 is the variance of one entry of one
 * replica. [g] is the unit of a gradient entry.
 *
 * What cannot be known is NaN: everything at K = 1, standard errors at K = 2.
 */
#ifndef GRADECHO_NOISE_NOISE_H
#define GRADECHO_NOISE_NOISE_H

#include <stddef.h>
#include <stdint.h>

/* What is measured of one layer in one sample. */
struct ge_noise_input {
    uint64_t rows, cols;      /* of the layer, >= 1 */
    size_t replicas;          /* K */
    const double *deviation;  /* [K]: D_a = ||Ghat_a - Gbar||_F^2   [g]^2 */
    const double *projection; /* [K]: P_a = <Gbar, Ghat_a - Gbar>   [g]^2;
                                 NULL: not measured, no errors from it */
    double mean_sqnorm;       /* ||Gbar||_F^2                       [g]^2 */
    double batch_size;        /* examples behind one replica; NaN: unknown */
};

struct ge_noise {
    double sigma2;         /* [g]^2, unbiased: sum D_a / ((K-1) rows cols) */
    double sigma2_se;      /* [g]^2, jackknife over replicas, closed form */
    double grad_sqnorm;    /* [g]^2, unbiased for ||G||^2; signed */
    double grad_sqnorm_se; /* [g]^2, jackknife */
    double noise_trace;    /* [g]^2, sigma2 rows cols */
    double noise_trace_se; /* [g]^2, jackknife */
    double noise_scale;    /* examples: batch_size noise_trace / grad_sqnorm.
                              Signed; NaN if grad_sqnorm is 0. The "simple" noise
                              scale of McCandlish et al. 2018, arXiv:1812.06162 */
    double noise_scale_se; /* examples, jackknife of the ratio; says little
                              where grad_sqnorm is not above its own error */
    double edge;           /* [g], sqrt(sigma2) (sqrt rows + sqrt cols): largest
                              singular value of isotropic noise, one replica */
    double tau2_edge;      /* [g]^2, edge^2: the knee on the observed axis */
    double tau2_asym;      /* [g]^2, sigma2 (rows + cols)/2: on the true axis */
};

/* Estimate all of it. `out` may not alias `in`. */
void ge_noise_estimate(const struct ge_noise_input *in, struct ge_noise *out);

/* The two figures that add up over layers. */
struct ge_noise_sums {
    double trace, sqnorm; /* noise_trace and grad_sqnorm, [g]^2 */
};

/* They as they were without replica `without`, for jackknives of figures that
 * go over several layers. NaN below three replicas; the squared norm also
 * without projections. */
struct ge_noise_sums ge_noise_without(const struct ge_noise_input *in,
                                      size_t without);

/* The noise scale of sums over layers or samples, in examples; signed, NaN if
 * the squared norm is 0. */
double ge_noise_scale(double batch_size, double noise_trace,
                      double grad_sqnorm);

/* A noise scale over time: the ratio of two moving averages with the same
 * weights, never an average of ratios, which is biased without bound where the
 * gradient is small. The start-up bias of the averages cancels in the ratio.
 * Zero-initialise. */
struct ge_noise_average {
    double trace, sqnorm; /* weighted sums */
};

/* Add one sample and return the smoothed noise scale, in examples; signed.
 * A sample that is not known (NaN) is passed over; NaN before the first.
 *
 * \param half_life  samples after which a sample's weight has halved, > 0 */
double ge_noise_smooth(struct ge_noise_average *average, double noise_trace,
                       double grad_sqnorm, double batch_size, double half_life);

/* ratio[a] = D_a K / ((K-1) rows cols sigma2), the noise of each replica over
 * the mean noise: 1 when healthy, mean exactly 1. NaN where K = 1 or all
 * replicas are equal. ratio [K]. */
void ge_noise_ratios(const struct ge_noise_input *in, double *ratio);

#endif
