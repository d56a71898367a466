/*
 * known.h - gradients that a test can work out.
 *
 * Every entry is n/128, n a whole number in [-255, 255]: noise from a hash of
 * (seed, rank, replica, step, layer, entry), and three modes that all of them
 * share. conftest.py has the same in NumPy: entries().
 */
#ifndef GRADECHO_TESTS_KNOWN_H
#define GRADECHO_TESTS_KNOWN_H

#include <stddef.h>
#include <stdint.h>

enum { KNOWN_MODES = 3 };

static inline uint32_t known_mix(uint32_t hash, uint32_t word)
{
    hash ^= word * UINT32_C(0x9E3779B9);
    hash = (hash ^ (hash >> 16)) * UINT32_C(0x85EBCA6B);
    hash = (hash ^ (hash >> 13)) * UINT32_C(0xC2B2AE35);
    return hash ^ (hash >> 16);
}

/* Of all but the entry. */
static inline uint32_t known_hash(uint32_t seed, uint32_t rank,
                                  uint32_t replica, uint32_t step,
                                  uint32_t layer)
{
    const uint32_t words[] = {seed, rank, replica, step, layer};
    uint32_t hash = 0;

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        hash = known_mix(hash, words[i]);
    return hash;
}

/* n of the noise alone: [-64, 63]. */
static inline int known_noise(uint32_t hash, uint32_t at)
{
    return (int)(known_mix(hash, at) & 127) - 64;
}

/* 1 or -1: a row of a Walsh matrix, so that different modes are orthogonal. */
static inline int known_walsh(uint32_t i, uint32_t mode)
{
    const uint32_t both = i & mode;

    return ((both ^ (both >> 1)) & 1) != 0 ? -1 : 1;
}

static inline int known_entry(uint32_t hash, uint32_t at, uint32_t cols)
{
    static const int strength[KNOWN_MODES] = {48, 24, 12};
    int n = known_noise(hash, at);

    for (uint32_t k = 0; k < KNOWN_MODES; k++)
        n += strength[k] * known_walsh(at / cols, k + 1) *
             known_walsh(at % cols, KNOWN_MODES - k);
    return n;
}

#endif
