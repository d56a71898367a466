#include "average.h"

#include <math.h>
#include <string.h>

#include "memory.h"
#include "vector.h"

/* Entries that are added up at a time: their sum stays in the fastest cache. */
enum { BLOCK = 1024 };

/* sum[i] = the ranks' entries first + i, in order of rank: ADD_WIDTH sums at a
 * time, which stay in registers. */
enum { ADD_WIDTH = 16 };
#define GE_ADD(type)                                         \
    do {                                                     \
        const type *const *of = (const type *const *)part;   \
        size_t i = 0;                                        \
                                                             \
        for (; i + ADD_WIDTH <= count; i += ADD_WIDTH) {     \
            double some[ADD_WIDTH] = {0.0};                  \
                                                             \
            for (size_t r = 0; r < ranks; r++)               \
                for (size_t j = 0; j < ADD_WIDTH; j++)       \
                    some[j] += (double)of[r][first + i + j]; \
            memcpy(sum + i, some, sizeof some);              \
        }                                                    \
        for (; i < count; i++) {                             \
            sum[i] = 0.0;                                    \
            for (size_t r = 0; r < ranks; r++)               \
                sum[i] += (double)of[r][first + i];          \
        }                                                    \
    } while (0)

GE_INLINE void add(bool wide, const void *const *part, size_t ranks,
                   size_t first, size_t count, double *restrict sum)
{
    if (wide)
        GE_ADD(double);
    else
        GE_ADD(float);
}

GE_INLINE void divide(const double *restrict sum, size_t count, double replicas,
                      float *restrict out)
{
    int exponent = 0;

    /* By a power of two, a product is the same and many times faster. */
    if (frexp(replicas, &exponent) == 0.5) {
        const double inverse = 1.0 / replicas;

        for (size_t i = 0; i < count; i++)
            out[i] = (float)(sum[i] * inverse);
    } else {
        for (size_t i = 0; i < count; i++)
            out[i] = (float)(sum[i] / replicas);
    }
}

GE_INLINE void average(const void *const *part, size_t ranks, bool wide,
                       const struct ge_mean_span *span, size_t start,
                       size_t count, float *mean)
{
    size_t span_end = span->count; /* in the piece */

    for (size_t first = 0; first < count; first += BLOCK) {
        const size_t some = ge_min_size(count - first, BLOCK);
        double sum[BLOCK];

        add(wide, part, ranks, first, some, sum);
        for (size_t done = 0; done < some;) {
            const size_t at = start + first + done;

            while (span_end <= at)
                span_end += (++span)->count;
            const size_t run = ge_min_size(some - done, span_end - at);

            divide(sum + done, run, span->replicas, mean + at);
            done += run;
        }
    }
}

GE_WIDE static void average_wide(const void *const *part, size_t ranks,
                                 bool wide, const struct ge_mean_span *spans,
                                 size_t start, size_t count, float *mean)
{
    average(part, ranks, wide, spans, start, count, mean);
}

void ge_average(const void *const *part, size_t ranks, bool wide,
                const struct ge_mean_span *spans, size_t start, size_t count,
                float *mean)
{
    if (ge_has_wide())
        average_wide(part, ranks, wide, spans, start, count, mean);
    else
        average(part, ranks, wide, spans, start, count, mean);
}
