/*
 * echo.h - the spectral echo, measured without knowing the true gradient.
 *
 * Pure arithmetic; no allocation. For one mode of one layer each replica a
 * contributes three numbers, from its own matched mode (uhat, shat, vhat) and
 * that of its leave-one-out mean L_a (u', s', v'):
 *     z_a = <uhat,u'><vhat,v'>   A_a = uhat' L_a vhat   B_a = u'' Ghat_a v'
 * With averages over replicas
 *     echo = sqrt(A z/B)   echo_loo = sqrt(B z/A)   s_est = sqrt(A B/z)
 *     gain = A / mean shat
 * Valid from K = 2 replicas. Nothing is assumed of the noise but independence
 * between replicas. A is exactly unbiased for uhat' G vhat.
 *
 * Modes closer together than the noise mix: the noise turns them into each
 * other. A and B then hold the neighbours' share, too. It shows in the overlap
 * of uhat, vhat with the neighbours' u', v', and is taken off (theory 3); with
 * it left in, the echo is that of the plane that the modes span.
 */
#ifndef GRADECHO_ECHO_ECHO_H
#define GRADECHO_ECHO_ECHO_H

#include <stddef.h>

/* How many modes before and behind a mode count as its neighbours. */
enum { GE_ECHO_NEAR = 2, GE_ECHO_NEIGHBOURS = 2 * GE_ECHO_NEAR };

/* One mode of one replica, as above. */
struct ge_echo_terms {
    double overlap;   /* z_a, 1 */
    double held_out;  /* A_a, [g] */
    double cross;     /* B_a, [g] */
    double s_replica; /* shat, [g] */
    double
        near[GE_ECHO_NEIGHBOURS]; /* <uhat,u'_j><vhat,v'_j> with the neighbours
                                   j in their order; 0 if there is none */
};

struct ge_echo {
    double s_replica; /* mean shat, [g] */
    double s_est;     /* estimated true singular value, [g] */
    double echo, echo_se;
    double echo_loo;
    double echo_cluster; /* of the mode in the span of itself and those
                            neighbours that it mixes with */
    double gain, gain_se;
};

/* Combine one mode over replicas.
 *
 * terms [replicas x modes], in the order of singular values; mode < modes.
 * Fewer than two replicas: all NaN. Standard errors are the jackknife of the
 * ratio of averages, NaN below three replicas. Where A, B or z is not positive
 * there is no echo to speak of: echoes are exactly 0 (a measured echo never
 * is), s_est and errors NaN. Echoes are capped at 1, gains are not and keep
 * their sign. */
void ge_echo_combine(const struct ge_echo_terms *terms, size_t replicas,
                     size_t modes, size_t mode, struct ge_echo *out);

/* The same with replica `out` left out, values only: what a jackknife of
 * something that depends on the echo needs. Errors are NaN. */
void ge_echo_without(const struct ge_echo_terms *terms, size_t replicas,
                     size_t modes, size_t mode, size_t out,
                     struct ge_echo *echo);

#endif
