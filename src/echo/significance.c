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
        const double v = replicas == 2 ? assumed : c->variance;

        sum += c->mean;
        variance += v / c->partners;
    }
    return sum / sqrt(variance);
}

double ge_separable_variance(double tau2_left, double tau2_right, double rows,
                             double cols, double sigma2)
{
    return (tau2_left / rows) * (tau2_right / cols) / sigma2;
}

/* Quantile of the normal distribution at 1 - tail, by Newton's method on erfc:
 * a few steps from any start on the convex side. */
static double normal_quantile(double tail)
{
    double z = 2.0;

    for (int i = 0; i < 50; i++) {
        const double density = exp(-z * z / 2.0) / sqrt(2.0 * acos(-1.0));
        const double step = (erfc(z / sqrt(2.0)) / 2.0 - tail) / density;

        z += fmax(fmin(step, 1.0), -1.0);
        if (fabs(step) < 1e-12)
            break;
    }
    return z;
}

/* Cornish-Fisher expansion of Student's quantile in 1/dof (Abramowitz and
 * Stegun 26.7.5), good to 3 % at three degrees of freedom. */
static double student_quantile(double tail, double dof)
{
    const double z = normal_quantile(tail), z2 = z * z;
    const double g1 = (z2 + 1.0) * z / 4.0;
    const double g2 = ((5.0 * z2 + 16.0) * z2 + 3.0) * z / 96.0;
    const double g3 = (((3.0 * z2 + 19.0) * z2 + 17.0) * z2 - 15.0) * z / 384.0;
    const double g4 =
        ((((79.0 * z2 + 776.0) * z2 + 1482.0) * z2 - 1920.0) * z2 - 945.0) * z /
        92160.0;

    return z + (g1 + (g2 + (g3 + g4 / dof) / dof) / dof) / dof;
}

double ge_mode_t_threshold(size_t replicas, size_t modes)
{
    const double least = 5.0, widening = 1.37, level = 0.05;
    const double tail = level / (double)(modes > 0 ? modes : 1);
    const double k = (double)replicas;

    return fmax(least,
                widening * (replicas > 2 ? student_quantile(tail, k * (k - 2.0))
                                         : normal_quantile(tail)));
}
