/*
 * lanczos.h - leading modes by Golub-Kahan-Lanczos bidiagonalisation.
 *
 * From one start vector, A is reduced to a small upper bidiagonal B by
 * alternating products with A and A',
 *
 *     A V = U B,   A' U = V B' + beta v e_d'      (d steps)
 *
 * with both bases kept orthonormal to rounding. The singular values of B
 * approach those of A from the outside of its spectrum; mode k has the residual
 * ||A' u_k - s_k v_k|| = beta |last entry of B's k-th left vector|, known
 * without touching A (G. H. Golub and W. Kahan, 1965).
 *
 * Single vectors, because a gradient here costs one pass over its memory per
 * step whatever is done with it: a matrix-vector product runs at the speed of
 * the cache or memory that holds A, and one vector learns the most per pass.
 *
 * When it stops. A gradient is a few modes above a bulk of noise, and a mode
 * inside the bulk has no direction of its own that anybody could use: nothing
 * is spent on it. After d steps a mode at relative height h above the bulk's
 * end has converged like exp(-2 d acosh(1 + h)): above 1.05 a residual falls
 * hundredfold in eight steps. So it ends when all wanted modes are below the
 * tolerance, or when the first that is not has stayed the same and has not
 * fallen by a factor of three in eight steps. No guess of where the bulk ends
 * is needed, which no formula knows for the noise of a real gradient.
 */
#ifndef GRADECHO_SPECTRAL_LANCZOS_H
#define GRADECHO_SPECTRAL_LANCZOS_H

#include "modes.h"

typedef struct ge_lanczos ge_lanczos;

/* A solver; its workspace grows to the largest problem it has seen.
 * \return GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status ge_lanczos_create(ge_lanczos **lanczos);
void ge_lanczos_destroy(ge_lanczos **lanczos);

/* The most steps it takes for `count` modes, at least as many as a matrix must
 * have rows and columns for this method. */
size_t ge_lanczos_most_steps(size_t count);

/* The first modes->count modes of a. Deterministic.
 *
 * \param a          finite entries, the shape of `modes`; read 2 d times
 * \param start      modes of a similar matrix of the same shape, or NULL:
 *                   saves steps, does not change what is converged to
 * \param tolerance  relative residual ||A' u - s v|| / s at which a mode counts
 *                   as converged, > 0
 * \param modes      ge_lanczos_most_steps(count) <= min(rows, cols); filled on
 *                   success. Modes that did
 *                   not converge, for they do not stand out of the bulk, have
 *                   a residual above the tolerance: their s is a little low,
 *                   their vectors are unit and orthogonal, and no more
 * \param steps      d; may be NULL
 * \return GRADECHO_E_ARG      the matrix is too small for so many modes
 *         GRADECHO_E_NUMERIC  LAPACK failed on B
 *         GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status
ge_lanczos_leading(ge_lanczos *lanczos, const struct ge_matrix *a,
                   const struct ge_modes *start, double tolerance,
                   struct ge_modes *modes, size_t *steps);

#endif
