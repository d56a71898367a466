#include "significance.h"

#include <math.h>

void ge_cross_condense(const float *p, size_t partners, struct ge_cross *cross)
{
    double mean = 0.0, square = 0.0, count = 0.0;

    for (size_t b = 0; b < partners; b++) {
        if (isnan(p[b]))
            continue;
        const double d = (double)p[b] - mean;

        count += 1.0;
        mean += d / count;
        square += d * ((double)p[b] - mean);
    }
    cross->partners = count;
    cross->mean = count > 0.0 ? mean : (double)NAN;
    cross->variance = count > 1.0 ? square / (count - 1.0) : (double)NAN;
}

double ge_mode_t(const struct ge_cross *cross, size_t replicas, size_t stride,
                 double assumed)
{
    double sum = 0.0, variance = 0.0;

    if (replicas < 2)
        return (double)NAN;
    for (size_t a = 0; a < replicas; a++) {
        const struct ge_cross *c = &cross[a * stride];
        const double dof = c->partners - 1.0, prior = GE_T_PRIOR;

        if (!(c->partners > 0.0))
            continue; /* all its partners are missing: it says nothing */
        const double seen = dof > 0.0 ? dof * c->variance : 0.0;

        sum += c->mean;
        variance += (seen + prior * assumed) / (dof + prior) / c->partners;
    }
    return sum / sqrt(variance);
}

double ge_separable_variance(double left, double right, double rows,
                             double cols, double sigma2)
{
    return (left / rows) * (right / cols) / sigma2;
}

/* Quantile of the normal distribution at 1 - tail, tail < 1/2, by Newton's
 * method from below, where the tail is convex: it cannot overshoot. */
static double normal_quantile(double tail)
{
    const double root_two_pi = sqrt(4.0 * acos(0.0));
    double z = 0.0;

    for (int i = 0; i < 100; i++) {
        const double density = exp(-z * z / 2.0) / root_two_pi;
        const double step = (erfc(z / sqrt(2.0)) / 2.0 - tail) / density;

        z += step;
        if (fabs(step) < 1e-12)
            break;
    }
    return z;
}

double ge_mode_t_threshold(size_t modes)
{
    const double level = 0.05, widening = 1.55;

    return widening * normal_quantile(level / (double)(modes > 0 ? modes : 1));
}
