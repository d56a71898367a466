#include "laws.h"

#include <math.h>

double ge_law_edge2(double gamma)
{
    const double edge = 1.0 + sqrt(gamma);

    return edge * edge;
}

double ge_law_hill(double tau2, double s2, double q)
{
    return pow(1.0 + tau2 / s2, -q);
}

/* The textbook m(z) = (1 - gamma - z + R)/(2 gamma z) loses all digits for
 * large z. Extended by its conjugate it is -2/(w + R), w = z - 1 + gamma, with
 * m' = 2 (1 + R')/(w + R)^2: sums of positive terms only. */
double ge_law_leak_left(double gamma, double z)
{
    const double c = z - 1.0 - gamma, w = z - 1.0 + gamma;
    double root = 0.0;

    if (!(z > ge_law_edge2(gamma)))
        return (double)NAN;
    root = sqrt(c * c - 4.0 * gamma);
    return 2.0 * (z / (w + root)) * (z / (w + root)) * (1.0 + c / root);
}

double ge_law_leak_right(double gamma, double z)
{
    return gamma * ge_law_leak_left(gamma, z) + 1.0 - gamma;
}

double ge_law_two_sided(double gamma, double y)
{
    const double z = y * y;
    const double left = 1.0 + gamma * ge_law_leak_left(gamma, z) / z;
    const double right = 1.0 + ge_law_leak_right(gamma, z) / z;

    return 1.0 / sqrt(left * right);
}

/* (x^4 - gamma)_+ / (x^4 + c x^2), divided through by x^4 so that it cannot
 * overflow. */
static double cosine(double gamma, double x, double c)
{
    const double x2 = x * x;

    if (!(x2 * x2 > gamma))
        return isnan(x) || isnan(gamma) ? (double)NAN : 0.0;
    return sqrt((1.0 - gamma / x2 / x2) / (1.0 + c / x2));
}

double ge_law_exact_cos_left(double gamma, double x)
{
    return cosine(gamma, x, gamma);
}

double ge_law_exact_cos_right(double gamma, double x)
{
    return cosine(gamma, x, 1.0);
}

double ge_law_exact(double gamma, double x)
{
    return ge_law_exact_cos_left(gamma, x) * ge_law_exact_cos_right(gamma, x);
}

double ge_law_observed(double gamma, double x)
{
    return sqrt((x + 1.0 / x) * (x + gamma / x));
}

double ge_law_true(double gamma, double y)
{
    const double t = y * y - 1.0 - gamma;

    if (!(y * y > ge_law_edge2(gamma)))
        return (double)NAN;
    return sqrt((t + sqrt(t * t - 4.0 * gamma)) / 2.0);
}

double ge_law_mode_first(double tau2_left, double tau2_right, double s)
{
    /* Ratios of norms: squares of tiny or huge gradients cannot overflow. */
    const double left = tau2_left / s / s, right = tau2_right / s / s;

    return 1.0 / sqrt((1.0 + left) * (1.0 + right));
}

double ge_law_mode_closed(double tau2_left, double tau2_right, double s)
{
    const double left = tau2_left / s / s, right = tau2_right / s / s;
    const double lost = left * right;

    if (isnan(lost))
        return (double)NAN;
    return fmax(1.0 - lost, 0.0) / sqrt((1.0 + left) * (1.0 + right));
}
