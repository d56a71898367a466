#include "sketch.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "vector.h"

/* splitmix64: 64 independent-looking bits for every number. */
static uint64_t hash(uint64_t x)
{
    x += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

/* Entries go to bins in blocks of GE_SKETCH_SIZE; a word of the hash gives the
 * signs of 64 neighbours. */
enum { WORD = 64, WORDS = GE_SKETCH_SIZE / WORD, FOUR = 4 };

/* The sign bits of four neighbours that four bits of the hash stand for. */
#define S UINT64_C(0x8000000000000000)
static const uint64_t sign_of[16][FOUR] = {
    {0, 0, 0, 0}, {S, 0, 0, 0}, {0, S, 0, 0}, {S, S, 0, 0},
    {0, 0, S, 0}, {S, 0, S, 0}, {0, S, S, 0}, {S, S, S, 0},
    {0, 0, 0, S}, {S, 0, 0, S}, {0, S, 0, S}, {S, S, 0, S},
    {0, 0, S, S}, {S, 0, S, S}, {0, S, S, S}, {S, S, S, S},
};
#undef S

/* bin[i] += +-(a[i] - mean[i]), signs from the lowest bit of `signs` on */
GE_INLINE void add_word(const float *a, const float *mean, size_t count,
                        uint64_t signs, double *bin)
{
    for (size_t i = 0; i + FOUR <= count; i += FOUR) {
        ge_double4 d = {0};
        uint64_t bits[FOUR];

        for (size_t j = 0; j < FOUR; j++)
            d[j] = (double)a[i + j] - (double)mean[i + j];
        memcpy(bits, &d, sizeof bits);
        for (size_t j = 0; j < FOUR; j++)
            bits[j] ^= sign_of[(signs >> i) & 15][j];
        memcpy(&d, bits, sizeof d);
        for (size_t j = 0; j < FOUR; j++)
            bin[i + j] += d[j];
    }
    for (size_t i = count / FOUR * FOUR; i < count; i++) {
        const double d = (double)a[i] - (double)mean[i];

        bin[i] += (signs >> i) & 1 ? -d : d;
    }
}

GE_INLINE void add(const float *a, const float *mean, size_t first,
                   size_t count, size_t entries, double *sketch)
{
    const size_t every = entries / GE_SKETCH_ENTRIES + 1; /* blocks */
    const size_t end = first + count;

    for (size_t at = first; at < end;) {
        const size_t block = at / GE_SKETCH_SIZE;
        const size_t word = at / WORD;
        const size_t start = word * WORD;
        const size_t stop = start + WORD < end ? start + WORD : end;

        if (block % every != 0) { /* on to the next block that is used */
            at = (block / every + 1) * every * GE_SKETCH_SIZE;
            continue;
        }
        add_word(a + (at - first), mean + (at - first), stop - at,
                 hash(word) >> (at - start),
                 sketch + word % WORDS * WORD + (at - start));
        at = stop;
    }
}

GE_WIDE static void add_wide(const float *a, const float *mean, size_t first,
                             size_t count, size_t entries, double *sketch)
{
    add(a, mean, first, count, entries, sketch);
}

void ge_sketch_add(const float *a, const float *mean, size_t first,
                   size_t count, size_t entries, double *sketch)
{
    if (ge_has_wide())
        add_wide(a, mean, first, count, entries, sketch);
    else
        add(a, mean, first, count, entries, sketch);
}

static double dot(const double *a, const double *b)
{
    double sum = 0.0;

    for (size_t i = 0; i < GE_SKETCH_SIZE; i++)
        sum += a[i] * b[i];
    return sum;
}

double ge_sketch_worst(const double *sketches, size_t replicas, size_t stride,
                       size_t pair[2])
{
    double worst = (double)NAN;

    for (size_t a = 0; replicas > 2 && a < replicas; a++) {
        const double *sa = sketches + a * stride;
        const double na = dot(sa, sa);

        for (size_t b = a + 1; b < replicas; b++) {
            const double *sb = sketches + b * stride;
            const double r = dot(sa, sb) / sqrt(na * dot(sb, sb));

            if (!isnan(r) && !(r <= worst)) {
                worst = r;
                pair[0] = a;
                pair[1] = b;
            }
        }
    }
    return worst;
}
