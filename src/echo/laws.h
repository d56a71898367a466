/*
 * laws.h - the echo that a law predicts from the noise alone.
 *
 * Pure arithmetic. Isotropic noise of variance sigma2 per entry, a layer of
 * rows x cols, gamma = rows/cols (any positive value). Two axes exist and are
 * never mixed: x = s/sqrt(cols sigma2) of the true singular value s, and
 * y = shat/sqrt(cols sigma2) of the observed one, y > x.
 */
#ifndef GRADECHO_ECHO_LAWS_H
#define GRADECHO_ECHO_LAWS_H

/* Squared bulk edge on the y axis: (1 + sqrt gamma)^2. */
double ge_law_edge2(double gamma);

/* Hill law 1/(1 + tau2/s2)^q; tau2 and s2 in one unit, on one axis. */
double ge_law_hill(double tau2, double s2, double q);

/* Leakage factors at z on the squared axis, z > edge2, else NaN:
 *     C_L(z) = z^2 m'(z),   C_R(z) = gamma C_L(z) + 1 - gamma
 * with m the Stieltjes transform of the Marchenko-Pastur law of E E^T. */
double ge_law_leak_left(double gamma, double z);
double ge_law_leak_right(double gamma, double z);

/* First-order two-sided law, evaluated on the observed axis:
 *     1/sqrt((1 + gamma C_L(y^2)/y^2)(1 + C_R(y^2)/y^2))
 * NaN at or under the edge, where it is not defined. */
double ge_law_two_sided(double gamma, double y);

/* Exact in the limit of infinite size (Benaych-Georges and Nadakuditi 2012):
 * the product of the cosines of both sides, 0 for x^4 <= gamma. */
double ge_law_exact_cos_left(double gamma, double x);
double ge_law_exact_cos_right(double gamma, double x);
double ge_law_exact(double gamma, double x);

/* y of x: y^2 = (x + 1/x)(x + gamma/x). Meaningful for x^4 > gamma. */
double ge_law_observed(double gamma, double x);

/* Its inverse; NaN at or under the edge, where no spike explains y. */
double ge_law_true(double gamma, double y);

/* The same two laws with the leakage measured per mode, tau2_left and
 * tau2_right in the unit of s^2, at the true singular value s. First order:
 *     1/sqrt((1 + tau2_left/s^2)(1 + tau2_right/s^2))
 * closed form:
 *     (s^4 - tauL2 tauR2)_+ / (s^2 sqrt((s^2 + tauL2)(s^2 + tauR2)))
 * which is ge_law_exact() when tauL2 = rows sigma2 and tauR2 = cols sigma2. */
double ge_law_mode_first(double tau2_left, double tau2_right, double s);
double ge_law_mode_closed(double tau2_left, double tau2_right, double s);

#endif
