/*
 * knee.h - at which batch size a mode stands above the knee: where the echo of
 * the mean gradient is 1/2.
 *
 * Pure arithmetic. Batches are counted in replicas here: 1 is one replica, K is
 * the mean that the optimizer applies today. The noise energy along a mode is
 * taken to fall as 1/batch. The shape of the curve is the closed form of the
 * mode-resolved law (theory 5) with the measured ratio of left to right
 * leakage; where on it a mode lies is read from measured echoes: that of one
 * replica, at 1, and that of the mean of the others, at K - 1. Between the two
 * it is an interpolation, outside of them the law's word.
 */
#ifndef GRADECHO_ECHO_KNEE_H
#define GRADECHO_ECHO_KNEE_H

#include <stdbool.h>
#include <stddef.h>

/* What is known of one signal mode, under the names of the log. */
struct ge_mode_facts {
    double echo, echo_se, echo_loo, s_est, s_mean, s_replica, gain;
    double tau2_left, tau2_right;
    double replicas; /* K of its layer, >= 3 */
};

struct ge_knee {
    /* At which the echo is 1/2, in replicas. INFINITY: the echo is too small
     * to be carried over to a larger batch. */
    double at;
    double log_se;   /* standard error of log at; NaN where it is not known */
    double replicas; /* K */
    double by_gain;  /* the same by the mean's gain alone; NaN: not known */
    /* The law carried from 1 to K - 1, less what was measured there, and the
     * error of the former. NaN for a mode of too small an echo. */
    double misfit, misfit_se;
};

/* Echoes under this are not carried to larger batches: modes of pure noise
 * reach it. */
#define GE_KNEE_LEAST 0.25

void ge_knee_find(const struct ge_mode_facts *mode, struct ge_knee *knee);

/* How many of the modes stand above the knee at `batch` times the mean of
 * today: the expected number, each mode counting with the probability that its
 * error leaves, and that number's standard error. A mode at INFINITY does not
 * count; where by its gain it would at twice the batch, that is an error of
 * 1/2. */
struct ge_count {
    double modes, se;
};
struct ge_count ge_knee_count(const struct ge_knee *knees, size_t count,
                              double batch);

/* The batch, over today's, at which a share of the modes stands above the
 * knee; low and high: with each mode moved by its standard error to the same
 * side, which is cautious. INFINITY where a mode at INFINITY would be needed;
 * NaN where there is no mode.
 * `measured`: the answer lies within what was measured of its mode, from one
 * replica to all. Sorts the knees. */
struct ge_knee_batch {
    double batch, low, high;
    bool measured;
};
struct ge_knee_batch ge_knee_share(struct ge_knee *knees, size_t count,
                                   double share);

/* Root mean square of the modes' misfits beyond twice their errors; NaN if no
 * mode has one. */
double ge_knee_misfit(const struct ge_knee *knees, size_t count);

/* What optimal shrinkage multiplies the mode's singular value in the mean of K
 * replicas with. h = ubar' G vbar is measured without the mean's own noise: B,
 * the singular pair of the mean of the others tried on the replica left out
 * (theory 3), then a step of the law from K - 1 to K. */
struct ge_shrunk {
    double gain; /* h / s_mean, within 0 and 1; NaN if not known */
    double se;
};
struct ge_shrunk ge_mode_shrunk(const struct ge_mode_facts *mode);

#endif
