/*
 * svd.h - the leading singular modes of one layer's gradient.
 *
 * The one door to singular values: whoever asks names the matrix and how many
 * modes it wants. A few modes of a large matrix are found by Lanczos'
 * method (lanczos.h), all others by LAPACK's divide and conquer on
 * the whole matrix (sgesdd).
 *
 * Single precision: a singular value is accurate to about 1e-6 of the largest,
 * a vector to that over its relative gap. An object serves one thread.
 */
#ifndef GRADECHO_SPECTRAL_SVD_H
#define GRADECHO_SPECTRAL_SVD_H

#include "modes.h"

typedef struct ge_svd ge_svd;

/* A solver; its workspace grows to the largest matrix it has seen. BLAS keeps
 * to `threads` threads in the whole process.
 *
 * \param tolerance  relative residual at which a mode counts as found (see
 *                   lanczos.h); 0: LAPACK for every matrix
 * \return GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status ge_svd_create(int threads, double tolerance,
                                                  ge_svd **svd);
void ge_svd_destroy(ge_svd **svd);

/* The first modes->count modes of a.
 *
 * \param a      finite entries (the caller checks), the shape of `modes`. Not
 *               copied, but for LAPACK
 * \param start  modes of a similar matrix of the same shape, which save steps;
 *               may be NULL
 * \param modes  modes->count <= min(rows, cols); filled on success
 * \return GRADECHO_E_NUMERIC  LAPACK did not converge
 *         GRADECHO_E_INPUT    too large for LAPACK's int
 *         GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status ge_svd_leading(ge_svd *svd,
                                                   const struct ge_matrix *a,
                                                   const struct ge_modes *start,
                                                   struct ge_modes *modes);

/* What ge_svd_leading() takes, about, in units that are the same for all sizes:
 * to share work out by. */
double ge_svd_cost(const ge_svd *svd, size_t rows, size_t cols, size_t count);

#endif
