/*
 * pass.h - one pass over a matrix that does the work of two products.
 *
 * A and A' times a vector each cross the memory that A fills, and do little
 * else: BLAS's sgemv runs at the speed of the cache or memory that A lies in.
 * A'(A v) needs A only once, if each few rows are used for both products while
 * the first-level cache has them.
 */
#ifndef GRADECHO_SPECTRAL_PASS_H
#define GRADECHO_SPECTRAL_PASS_H

#include <stddef.h>

/* u = P v and w += scale P' u for a panel P [rows x cols, row-major]; u [rows],
 * v and w [cols]; no overlap. The same bits wherever these lie; a processor
 * with wider vectors rounds differently. */
void ge_pass(const float *p, size_t rows, size_t cols, const float *v,
             float scale, float *u, float *w);

#endif
