/*
 * reverb.h - the echo by cross-check, from all pairs of replicas' modes.
 *
 * With Z_ab = <uhat_a,uhat_b><vhat_a,vhat_b> of one mode, K >= 3 replicas:
 *     echo_p^2 = sum Z_ap Z_pb Z_ab / sum Z_ab^2,  a, b != p, a != b
 * for each pivot p; the pivots' echoes are averaged. (The published form sums
 * its denominator over the pairs with the pivot, too, and is low by
 * sqrt((K-2)/K).) At K = 2: sqrt(Z_01).
 */
#ifndef GRADECHO_ECHO_REVERB_H
#define GRADECHO_ECHO_REVERB_H

#include <stddef.h>

/* \param z  [replicas x replicas], symmetric; the diagonal is not read
 * \return the echo, at most 1; 0 where the sums are not positive; NaN below
 *         two replicas */
double ge_echo_reverb(const double *z, size_t replicas);

#endif
