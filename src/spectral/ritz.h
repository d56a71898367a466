/*
 * ritz.h - what the small tridiagonal of a Lanczos run says of the large
 * matrix, and when that is enough.
 *
 * After d steps  A'A V = V T + beside_d v e_d',  T tridiagonal. An eigenvalue
 * of T is the square of a singular value, and from its eigenvector z the mode
 * has v = V z, u = A v / s, and the residual ||A' u - s v|| = beside_d |z_d| /
 * s.
 *
 * A gradient is a few modes above a bulk of noise, and a mode inside the bulk
 * has no direction of its own that anybody could use: nothing is spent on it.
 * What has to be known is where the bulk ends, and no formula knows that for
 * the noise of a real gradient. But the run itself tells. When nothing but a
 * bulk is left to learn, the entries of T stand still, and the bulk ends at
 * sqrt(diagonal + 2 beside) (an operator with constant coefficients has that
 * spectrum); as long as modes are still being resolved, they jump. So the run
 * ends when
 *
 *   - all wanted modes have converged; or
 *   - the first one that has not lies at the bulk's end, which stands still,
 *     and its residual does not fall; and enough steps were taken that a mode 5
 * % above that end, of which the first vector had next to nothing, would have
 * come up; or
 *   - whatever the spectrum is, that mode has made no progress in eight steps.
 */
#ifndef GRADECHO_SPECTRAL_RITZ_H
#define GRADECHO_SPECTRAL_RITZ_H

#include <stdbool.h>
#include <stddef.h>

#include "room.h"

enum {
    GE_RITZ_LEAST = 16, /* steps before anything is concluded */
    GE_RITZ_SLACK = 64, /* steps beyond three for each wanted mode, at most */
};

struct ge_ritz {
    size_t wanted, most; /* modes; steps */
    size_t need;         /* steps beyond the converged modes, see above */
    double tolerance;
    size_t d;                  /* steps taken */
    size_t restarted;          /* step at which the space was last used up */
    double *diagonal, *beside; /* [most] T; the last beside is outside of it */
    double *values;            /* [most] of T, ascending */
    double *vectors;           /* [d x d] of T, see ge_ritz_vector() */
    double *residuals;         /* [wanted] relative, at the last two looks */
    double *residuals_before;
    size_t *front; /* [most + 1] by step: the first mode that had not */
    double *front_residual; /* converged, and its residual */
    double *before, *work;
    struct ge_room doubles, sizes;
};

/* Begin a run. `warm`: the first vector comes from modes close by; what they
 * lack is looked for less long. False if there is no memory. */
bool ge_ritz_begin(struct ge_ritz *ritz, size_t cols, size_t wanted,
                   double tolerance, bool warm);
void ge_ritz_free(struct ge_ritz *ritz);

/* One more step was taken. */
void ge_ritz_add(struct ge_ritz *ritz, double diagonal, double beside);

/* Is it enough? Looks at T in every second step. False if LAPACK fails. */
bool ge_ritz_done(struct ge_ritz *ritz, bool *done);

/* Values, vectors and residuals of T. False if LAPACK fails. */
bool ge_ritz_vectors(struct ge_ritz *ritz);

/* After that: the eigenvector of mode k < d, [d], largest first. */
static inline const double *ge_ritz_vector(const struct ge_ritz *ritz, size_t k)
{
    return ritz->vectors + (ritz->d - 1 - k) * ritz->d;
}

#endif
