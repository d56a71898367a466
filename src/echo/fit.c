#include "fit.h"

#include <math.h>
#include <stdbool.h>

/* An error of exactly zero would take all the weight. */
static const double least_se = 1e-9;

static double inverse_variance(const struct ge_fit_point *p,
                               enum ge_fit_weight weight)
{
    const double se = fmax(p->se, least_se);

    return weight == GE_WEIGHT_EQUAL || isnan(p->se) ? 1.0 : 1.0 / (se * se);
}

double ge_fit_tau2(const struct ge_fit_point *points, size_t count,
                   enum ge_fit_weight weight)
{
    double above = 0.0, below = 0.0;

    if (count < 2)
        return (double)NAN;
    /* In units of the first singular value, so that squares stay in range. */
    for (size_t i = 0; i < count; i++) {
        const struct ge_fit_point *p = &points[i];
        const double x = points[0].s / p->s * (points[0].s / p->s);
        const double y = 1.0 / p->echo - 1.0;
        const double e2 = p->echo * p->echo;
        const double w = weight == GE_WEIGHT_EQUAL
                             ? 1.0
                             : e2 * e2 * inverse_variance(p, weight);

        above += w * x * y;
        below += w * x * x;
    }
    return above / below * points[0].s * points[0].s;
}

/* For a given tau2 (in units of the first s^2) the best q is linear; what is
 * left is the sum of squares. */
static double residual(const struct ge_fit_point *points, size_t count,
                       enum ge_fit_weight weight, double log_tau2, double *q)
{
    double ll = 0.0, le = 0.0, ee = 0.0;

    for (size_t i = 0; i < count; i++) {
        const struct ge_fit_point *p = &points[i];
        const double r = points[0].s / p->s;
        const double l = log1p(exp(log_tau2) * r * r);
        const double e = -log(p->echo);
        const double w = weight == GE_WEIGHT_EQUAL
                             ? 1.0
                             : p->echo * p->echo * inverse_variance(p, weight);

        ll += w * l * l;
        le += w * l * e;
        ee += w * e * e;
    }
    *q = le / ll;
    return ee - le * le / ll;
}

/* Modes of one singular value say nothing of how the echo depends on it. */
static bool all_alike(const struct ge_fit_point *points, size_t count)
{
    for (size_t i = 1; i < count; i++)
        if (fabs(points[i].s - points[0].s) > 1e-9 * points[0].s)
            return false;
    return true;
}

double ge_fit_q(const struct ge_fit_point *points, size_t count,
                enum ge_fit_weight weight)
{
    /* log tau2 in units of the first s^2. A coarse scan for the basin, then
     * golden section: the profile need not be convex, but it is smooth. */
    enum { SCAN = 121 };
    const double from = -20.0, step = 0.25, golden = 0.6180339887498949;
    double q = (double)NAN, least = (double)INFINITY;
    size_t best = 0;

    if (count < 2 || all_alike(points, count))
        return (double)NAN;
    for (size_t i = 0; i < SCAN; i++) {
        const double r =
            residual(points, count, weight, from + step * (double)i, &q);

        if (r < least) {
            least = r;
            best = i;
        }
    }
    if (!isfinite(least) || best == 0 || best == SCAN - 1)
        return (double)NAN; /* no minimum inside: q is not determined */

    double low = from + step * ((double)best - 1.0), high = low + 2.0 * step;
    double a = high - golden * (high - low), b = low + golden * (high - low);
    double fa = residual(points, count, weight, a, &q);
    double fb = residual(points, count, weight, b, &q);

    for (int i = 0; i < 60; i++) {
        if (fa < fb) {
            high = b;
            b = a;
            fb = fa;
            a = high - golden * (high - low);
            fa = residual(points, count, weight, a, &q);
        } else {
            low = a;
            a = b;
            fa = fb;
            b = low + golden * (high - low);
            fb = residual(points, count, weight, b, &q);
        }
    }
    residual(points, count, weight, (low + high) / 2.0, &q);
    return q;
}
