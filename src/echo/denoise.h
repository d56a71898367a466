/*
 * denoise.h - the squared error of the mean gradient, and what optimal
 * shrinkage would take off it.
 *
 * Pure arithmetic. The mean of K replicas is cut into its signal modes and the
 * rest; each part P of it is multiplied with its own best factor w. That lowers
 * the squared error by ||P||^2 (1-w)^2, whatever G is. A mode's factor is its
 * gain; the rest's is that of a Wiener filter, from ||G||^2 and what the modes
 * have of it.
 */
#ifndef GRADECHO_ECHO_DENOISE_H
#define GRADECHO_ECHO_DENOISE_H

#include <stddef.h>

#include "knee.h"

/* One layer; [g]^2. */
struct ge_denoise {
    double raw, raw_se; /* expected squared error of the mean: trace/K */
    double saved;       /* of it */
    double modes_se;    /* of saved, from the gains */
    double slope;       /* d saved / d raw */
    double rest;        /* factor of the rest, within 0 and 1 */
};

/* \param modes  [count] the signal modes; those without a gain stay in the rest
 * \param trace, trace_se, sqnorm  noise_trace, its error, grad_sqnorm
 * NaN where the trace is, or the squared norm; errors where the trace's is. */
void ge_denoise_layer(const struct ge_mode_facts *modes, size_t count,
                      double trace, double trace_se, double sqnorm,
                      double replicas, struct ge_denoise *out);

/* Layers together: sum of saved over sum of raw, and its standard error by the
 * delta method, layers and gains taken as independent. */
struct ge_saving {
    double part, se;
};
struct ge_saving ge_denoise_part(const struct ge_denoise *layers, size_t count);

#endif
