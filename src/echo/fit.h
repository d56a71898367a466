/*
 * fit.h - the knee tau2 and the exponent q, fitted to measured echoes.
 *
 * Pure arithmetic. Only signal modes belong here. Units: s in [g], tau2 in
 * [g]^2.
 */
#ifndef GRADECHO_ECHO_FIT_H
#define GRADECHO_ECHO_FIT_H

#include <stddef.h>

/* One signal mode. */
struct ge_fit_point {
    double s;    /* estimated true singular value, > 0 */
    double echo; /* measured, in (0, 1] */
    double se;   /* its standard error; NaN: unknown (K = 2) */
};

enum ge_fit_weight {
    GE_WEIGHT_DELTA, /* by the delta method; unknown errors count as equal */
    GE_WEIGHT_EQUAL  /* plain least squares: dominated by the noisiest modes */
};

/* tau2 of 1/echo = 1 + tau2/s^2: regression of 1/echo - 1 on 1/s^2 through the
 * origin, with the weights echo^4/se^2. NaN for fewer than two modes. */
double ge_fit_tau2(const struct ge_fit_point *points, size_t count,
                   enum ge_fit_weight weight);

/* q of echo = (1 + tau2/s^2)^-q, tau2 free: least squares of
 * log echo = -q log(1 + tau2/s^2) in (q, log tau2), weights echo^2/se^2. NaN
 * for fewer than two modes, and where the modes do not determine q (the best
 * tau2 runs off to nothing or to infinity). */
double ge_fit_q(const struct ge_fit_point *points, size_t count,
                enum ge_fit_weight weight);

#endif
