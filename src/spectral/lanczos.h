/*
 * lanczos.h - leading modes by Lanczos' method on A'A.
 *
 * From one start vector, A'A is reduced to a small tridiagonal T,
 *
 *     A'A V = V T + beside v e_d'                  (d steps)
 *
 * with V kept orthonormal to rounding. Its eigenvalues approach the squares of
 * A's singular values from the outside of the spectrum; ritz.h says how good
 * they are, and when it is enough. Only V is made orthogonal: that of the left
 * vectors follows (H. D. Simon and H. Zha, 2000).
 *
 * A step costs one pass over A, in which both products are formed (pass.h), and
 * little else. Single vectors, because the pass runs at the speed of the cache
 * or memory that holds A, and one vector learns the most per pass.
 *
 * Squares do not cost digits here. A v is kept for each v, so u and s come from
 * A itself; and where a strong mode's square would drown a weak one's, it is
 * already in V, and what rounding brings back of it is taken out again.
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
 * \param a          finite entries, the shape of `modes`
 * \param start      modes of a similar matrix of the same shape, or NULL.
 *                   They save a few steps. What they have nothing of is found
 *                   all the same if it stands well above the bulk; without
 *                   them, also if it stands 5 % above
 * \param tolerance  relative residual ||A' u - s v|| / s at which a mode counts
 *                   as converged, > 0
 * \param modes      ge_lanczos_most_steps(count) <= min(rows, cols); filled on
 *                   success. Modes that did
 *                   not converge, for they do not stand out of the bulk, have
 *                   a residual above the tolerance: their s is a little low,
 *                   their vectors are unit and orthogonal, and no more
 * \param passes     times that A was read: d if the start's s[0] is close to
 *                   A's, else d + 1, 2 d if A is 0; may be NULL
 * \return GRADECHO_E_ARG      the matrix is too small for so many modes
 *         GRADECHO_E_NUMERIC  LAPACK failed on B
 *         GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status
ge_lanczos_leading(ge_lanczos *lanczos, const struct ge_matrix *a,
                   const struct ge_modes *start, double tolerance,
                   struct ge_modes *modes, size_t *passes);

#endif
