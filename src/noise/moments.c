#include "moments.h"

#include <stdint.h>
#include <string.h>

#include "vector.h"

enum { HALF = 4, LANES = 2 * HALF };

/* A sum in eight lanes. */
struct lanes {
    ge_double4 low, high;
};

GE_INLINE void load(const float *at, ge_double4 *out)
{
    ge_float4 entries;

    memcpy(&entries, at, sizeof entries);
    *out = __builtin_convertvector(entries, ge_double4);
}

/* The lanes' sum, and with it the entries that fill no eight lanes. */
GE_INLINE double join(const struct lanes *sum, const double *rest, size_t count)
{
    double lane[LANES];

    memcpy(lane, sum, sizeof lane);
    for (size_t i = 0; i < count; i++)
        lane[i] += rest[i];
    return ((lane[0] + lane[1]) + (lane[2] + lane[3])) +
           ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

GE_INLINE double squares(const float *a, size_t count)
{
    struct lanes square = {0};
    double rest[LANES];
    size_t i = 0;

    for (; i + LANES <= count; i += LANES) {
        ge_double4 low, high;

        load(a + i, &low);
        load(a + i + HALF, &high);
        square.low += low * low;
        square.high += high * high;
    }
    for (size_t j = 0; j < count - i; j++)
        rest[j] = (double)a[i + j] * (double)a[i + j];
    return join(&square, rest, count - i);
}

GE_INLINE struct ge_moments about(const float *a, const float *mean,
                                  size_t count)
{
    struct lanes deviation = {0}, projection = {0}, square = {0};
    double rest[3][LANES];
    size_t i = 0;

    for (; i + LANES <= count; i += LANES) {
        ge_double4 low, high, m, n;

        load(a + i, &low);
        load(a + i + HALF, &high);
        load(mean + i, &m);
        load(mean + i + HALF, &n);
        low -= m;
        high -= n;
        deviation.low += low * low;
        deviation.high += high * high;
        projection.low += m * low;
        projection.high += n * high;
        square.low += m * m;
        square.high += n * n;
    }
    for (size_t j = 0; j < count - i; j++) {
        const double m = (double)mean[i + j], d = (double)a[i + j] - m;

        rest[0][j] = d * d;
        rest[1][j] = m * d;
        rest[2][j] = m * m;
    }
    return (struct ge_moments){
        .deviation = join(&deviation, rest[0], count - i),
        .projection = join(&projection, rest[1], count - i),
        .square = join(&square, rest[2], count - i),
    };
}

/* An exponent of all ones is what infinities and NaNs have in common; testing
 * the bits is immune to compiler flags and runs at the speed of memory. */
GE_INLINE uint32_t copy(const float *restrict a, size_t count,
                        float *restrict out)
{
    const uint32_t exponent = UINT32_C(0x7F800000);
    uint32_t bad = 0;

    for (size_t i = 0; i < count; i++) {
        uint32_t bits = 0;

        memcpy(&bits, &a[i], sizeof bits);
        bad |= (uint32_t)((bits & exponent) == exponent);
        if (out != NULL)
            memcpy(&out[i], &bits, sizeof bits);
    }
    return bad;
}

GE_WIDE static double squares_wide(const float *a, size_t count)
{
    return squares(a, count);
}

GE_WIDE static struct ge_moments about_wide(const float *a, const float *mean,
                                            size_t count)
{
    return about(a, mean, count);
}

GE_WIDE static uint32_t test_wide(const float *a, size_t count)
{
    return copy(a, count, NULL);
}

GE_WIDE static uint32_t copy_wide(const float *restrict a, size_t count,
                                  float *restrict out)
{
    return copy(a, count, out);
}

double ge_sum_squares(const float *a, size_t count)
{
    return ge_has_wide() ? squares_wide(a, count) : squares(a, count);
}

struct ge_moments ge_moments_about(const float *a, const float *mean,
                                   size_t count)
{
    return ge_has_wide() ? about_wide(a, mean, count) : about(a, mean, count);
}

bool ge_all_finite(const float *a, size_t count)
{
    return (ge_has_wide() ? test_wide(a, count) : copy(a, count, NULL)) == 0;
}

bool ge_copy_finite(const float *restrict a, size_t count, float *restrict out)
{
    return (ge_has_wide() ? copy_wide(a, count, out) : copy(a, count, out)) ==
           0;
}
