/*
 * char_random.h - the random numbers of char_lm: splitmix64 (Steele, Lea and
 * Flood 2014). Eight bytes of state, the same numbers on every machine, and
 * neighbouring seeds give unrelated streams.
 */
#ifndef CHAR_RANDOM_H
#define CHAR_RANDOM_H

#include <stdint.h>

static inline uint64_t random_next(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Uniform in [0, limit), limit >= 1. The bias of the remainder is below
 * limit / 2^64. */
static inline uint64_t random_below(uint64_t *state, uint64_t limit)
{
    return random_next(state) % limit;
}

/* Uniform in [-1, 1). */
static inline double random_signed(uint64_t *state)
{
    return (double)(random_next(state) >> 11) * 0x1p-52 - 1.0;
}

#endif
