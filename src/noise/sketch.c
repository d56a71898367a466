#include "sketch.h"

#include <math.h>
#include <stdint.h>

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
enum { WORD = 64, WORDS = GE_SKETCH_SIZE / WORD };

void ge_sketch_add(const float *a, const float *mean, size_t first,
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
        const uint64_t signs = hash(word);
        double *bin = sketch + word % WORDS * WORD;

        for (size_t i = at; i < stop; i++) {
            const double d = (double)a[i - first] - (double)mean[i - first];

            bin[i - start] += (signs >> (i - start)) & 1 ? -d : d;
        }
        at = stop;
    }
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
