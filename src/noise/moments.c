#include "moments.h"

#include <stdint.h>
#include <string.h>

enum { LANES = 8 };

static double join(const double *lane)
{
    return ((lane[0] + lane[1]) + (lane[2] + lane[3])) +
           ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

double ge_sum_squares(const float *a, size_t count)
{
    double lane[LANES] = {0};
    size_t i = 0;

    for (; i + LANES <= count; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            lane[j] += (double)a[i + j] * (double)a[i + j];
    for (; i < count; i++)
        lane[i % LANES] += (double)a[i] * (double)a[i];
    return join(lane);
}

struct ge_moments ge_moments_about(const float *a, const float *mean,
                                   size_t count)
{
    double square[LANES] = {0}, product[LANES] = {0};
    size_t i = 0;

    for (; i + LANES <= count; i += LANES) {
        for (size_t j = 0; j < LANES; j++) {
            const double m = (double)mean[i + j];
            const double d = (double)a[i + j] - m;

            square[j] += d * d;
            product[j] += m * d;
        }
    }
    for (; i < count; i++) {
        const double m = (double)mean[i], d = (double)a[i] - m;

        square[i % LANES] += d * d;
        product[i % LANES] += m * d;
    }
    return (struct ge_moments){join(square), join(product)};
}

/* An exponent of all ones is what infinities and NaNs have in common; testing
 * the bits is immune to compiler flags and runs at the speed of memory. */
bool ge_all_finite(const float *a, size_t count)
{
    const uint32_t exponent = UINT32_C(0x7F800000);
    uint32_t bad = 0;

    for (size_t i = 0; i < count; i++) {
        uint32_t bits = 0;

        memcpy(&bits, &a[i], sizeof bits);
        bad |= (uint32_t)((bits & exponent) == exponent);
    }
    return bad == 0;
}
