#include "reverb.h"

#include <math.h>

static double pivot_square(const double *z, size_t k, size_t p)
{
    double above = 0.0, below = 0.0;

    for (size_t a = 0; a < k; a++) {
        for (size_t b = 0; b < k; b++) {
            if (a == p || b == p || a == b)
                continue;
            above += z[a * k + p] * z[p * k + b] * z[a * k + b];
            below += z[a * k + b] * z[a * k + b];
        }
    }
    /* Nothing agrees with anything: no echo. */
    return below == 0.0 ? 0.0 : above / below;
}

double ge_echo_reverb(const double *z, size_t replicas)
{
    double sum = 0.0;

    if (replicas < 2)
        return (double)NAN;
    if (replicas == 2 && isnan(z[1]))
        return z[1];
    if (replicas == 2)
        return sqrt(fmin(fmax(z[1], 0.0), 1.0));
    for (size_t p = 0; p < replicas; p++) {
        const double square = pivot_square(z, replicas, p);

        if (isnan(square))
            return (double)NAN;
        sum += sqrt(fmin(fmax(square, 0.0), 1.0));
    }
    return sum / (double)replicas;
}
