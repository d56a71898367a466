/*
 * modes.h - singular modes of a layer, and what is asked of them.
 *
 * A mode is one singular triple (u, s, v). All matrices are single precision,
 * row-major, [rows x cols]; sums that matter are accumulated in double.
 * Not thread-safe on the same object; no I/O.
 */
#ifndef GRADECHO_SPECTRAL_MODES_H
#define GRADECHO_SPECTRAL_MODES_H

#include <stddef.h>

#include "gradecho/status.h"
#include "matrix.h"

/* Leading modes of one matrix, largest singular value first. */
struct ge_modes {
    size_t rows, cols;
    size_t count;
    float *u; /* [count x rows], each mode contiguous, unit norm */
    float *v; /* [count x cols] */
    float *s; /* [count + 1]; the last: the first value left out, 0 if none */
    float *r; /* [count] relative residuals ||A' u - s v|| / s; NaN: LAPACK's,
                 which has none to tell */
    float *block; /* the one allocation behind u, v, s and r */
};

/* Room for `count` modes. \return GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status ge_modes_init(struct ge_modes *modes,
                                                  size_t rows, size_t cols,
                                                  size_t count);
void ge_modes_fini(struct ge_modes *modes);

/* Floats behind `block` (for sending modes as they lie). */
size_t ge_modes_floats(const struct ge_modes *modes);

/* See `block`, of ge_modes_floats() aligned floats, as modes of the shape of
 * `like`. The block stays the caller's: no ge_modes_fini(). */
struct ge_modes ge_modes_view(const struct ge_modes *like, float *block);

/* Singular values at and below this are rounding errors of single precision:
 * 0, for all that can be known, and their vectors mean nothing. */
double ge_modes_floor(const struct ge_modes *modes);

/* Match the modes of `found` one-to-one to those of `reference` by the largest
 * |<u,ubar><v,vbar>|, best pair first, and put them in the reference's order:
 * mode k of `matched` is the partner of reference mode k, its u turned so that
 * <u,ubar><v,vbar> >= 0.
 *
 * \param reference  [r modes], found->count >= r
 * \param matched    room for r modes of the same shape; may not alias
 * \return GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status
ge_modes_match(const struct ge_modes *reference, const struct ge_modes *found,
               struct ge_modes *matched);

/* z[k] = <u_k, u'_j><v_k, v'_j>, j = k + shift, of two lists in the same order;
 * 0 where there is no j. z [count]. */
void ge_modes_overlap(const struct ge_modes *a, const struct ge_modes *b,
                      int shift, double *z);

/* p[k] = u_k' A v_k, in [A]. p [count], a of the modes' shape.
 * \return GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status ge_modes_project(
    const struct ge_modes *modes, const struct ge_matrix *a, double *p);

/* How much of a residual R leaks out of each mode, and what lies along it:
 *     left[k]  = ||(I - u_k u_k') R v_k||^2
 *     right[k] = ||(I - v_k v_k') R' u_k||^2          in [R]^2
 *     along[k] = u_k' R v_k, as ge_modes_project()    in [R]
 * left, right, along [count], residual of the modes' shape.
 * \return GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status
ge_modes_leak(const struct ge_modes *modes, const struct ge_matrix *residual,
              double *left, double *right, double *along);

#endif
