#include "knee.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "laws.h"

/* Echoes are capped at 1, where a curve has no place. */
#define ALL_REAL 0.999999

/* The curve: leakage over s^2 is u * ratio on the left and u / ratio on the
 * right; u falls as 1/batch and is 1 where the closed form reaches 0. */

static double closed(double u, double ratio)
{
    return ge_law_mode_closed(u * ratio, u / ratio, 1.0);
}

/* u in (0, 1) at which a function that falls with u is `value`. */
static double solve(double (*law)(double u, const double *parameters),
                    const double *parameters, double value, double most)
{
    double low = 0.0, high = most;

    for (int i = 0; i < 60; i++) {
        const double u = (low + high) / 2.0;

        if (law(u, parameters) > value)
            low = u;
        else
            high = u;
    }
    return (low + high) / 2.0;
}

static double closed_of(double u, const double *ratio)
{
    return closed(u, *ratio);
}

static double closed_inverse(double echo, double ratio)
{
    return solve(closed_of, &ratio, echo, 1.0);
}

/* The same of the first-order law: (1 + u r)(1 + u/r) = 1/echo^2. */
static double first_inverse(double echo, double ratio)
{
    const double b = ratio + 1.0 / ratio, c = 1.0 / (echo * echo) - 1.0;

    return 2.0 * c / (b + sqrt(b * b + 4.0 * c));
}

/* d echo / d log u. */
static double closed_slope(double u, double ratio)
{
    const double h = 1e-4;

    return (closed(u * (1.0 + h), ratio) - closed(u * (1.0 - h), ratio)) /
           (2.0 * h);
}

static double leak_ratio(const struct ge_mode_facts *m)
{
    const double ratio = sqrt(m->tau2_left / m->tau2_right);

    return ratio > 0.0 && isfinite(ratio) ? ratio : 1.0;
}

/* B: u'' Ghat_a v' over replicas, taken back from what was made of it. The log
 * has no column of it, but s_est and the echoes hold it: see theory 3. */
static double cross_projection(const struct ge_mode_facts *m)
{
    const double k = m->replicas;
    const double held_out = m->gain * m->s_replica;
    const double mixed = (1.0 - m->s_est * m->echo / held_out) * k / (k - 1.0);

    return m->s_est * m->echo_loo / (1.0 - fmin(fmax(mixed, 0.0), 0.9) / k);
}

/* B over s_mean as u of one replica has it: the former is of K - 1 replicas,
 * the latter of K. parameters: ratio, K. */
static double gain_of(double u, const double *p)
{
    const double at = u / p[1];

    return closed(u / (p[1] - 1.0), p[0]) /
           sqrt((1.0 + at * p[0]) * (1.0 + at / p[0]));
}

/* u of one replica by the gain of the mean. */
static double gain_inverse(const struct ge_mode_facts *m, double ratio)
{
    const double parameters[] = {ratio, m->replicas};

    return solve(gain_of, parameters, cross_projection(m) / m->s_mean,
                 m->replicas - 1.0);
}

/* Where a mode lies on its curve, read at the echo of one replica and at that
 * of the mean of the others. All u are those of one replica. */
struct reading {
    double ratio;
    double one, one_se; /* u, and the standard error of log u */
    double loo, loo_se; /* the same */
    double half;        /* u at which the echo is 1/2 */
};

static void read_mode(const struct ge_mode_facts *m, struct reading *r)
{
    const double k = m->replicas;

    r->ratio = leak_ratio(m);
    r->half = closed_inverse(0.5, r->ratio);
    r->one = closed_inverse(fmin(m->echo, ALL_REAL), r->ratio);
    r->one_se = m->echo_se / fabs(closed_slope(r->one, r->ratio));
    r->loo = closed_inverse(fmin(m->echo_loo, ALL_REAL), r->ratio) * (k - 1.0);
    /* Means that share all but one replica share their noise: the error of
     * their average is that of one of them. */
    r->loo_se = sqrt(k) * r->one_se;
}

/* The gain of the mean tells u once more, by another way: the echo errs to the
 * side of noise, the gain to that of signal, and more so where the noise is
 * loud in single directions. What they differ by is held for possible. */
static double loo_doubt(const struct ge_mode_facts *m, const struct reading *r)
{
    return hypot(r->loo_se, log(r->loo / gain_inverse(m, r->ratio)));
}

void ge_knee_find(const struct ge_mode_facts *m, struct ge_knee *knee)
{
    const double k = m->replicas;
    struct reading r;

    *knee = (struct ge_knee){.at = (double)INFINITY,
                             .replicas = k,
                             .by_gain = (double)NAN,
                             .misfit = (double)NAN,
                             .misfit_se = (double)NAN};
    if (!(m->echo > 0.0) || !(m->echo_loo > 0.0) || !(m->s_est > 0.0) ||
        isnan(m->echo_se))
        return;
    read_mode(m, &r);
    knee->by_gain = gain_inverse(m, r.ratio) / r.half;
    if (m->echo >= GE_KNEE_LEAST && m->echo < 1.0) {
        const double there = r.one / (k - 1.0);

        knee->misfit = closed(there, r.ratio) - m->echo_loo;
        knee->misfit_se = fabs(closed_slope(there, r.ratio)) * r.one_se;
    }
    if (m->echo >= 0.5) {
        const double echo = fmin(m->echo, ALL_REAL);
        const double first =
            first_inverse(echo, r.ratio) / first_inverse(0.5, r.ratio);

        knee->at = r.one / r.half;
        /* The way down to the knee is not measured: along the chord, as unsure
         * as the laws differ and as the law missed on the way up. */
        knee->log_se = hypot(
            echo > 0.52 ? -log(knee->at) * m->echo_se / (echo - 0.5) : r.one_se,
            0.5 * hypot(log(knee->at / first), log(r.one / r.loo)));
    } else if (m->echo_loo > 0.5) {
        const double start = log(r.one / r.half);
        const double part = start / (start - log(r.loo / (k - 1.0) / r.half));

        knee->at = pow(k - 1.0, part);
        knee->log_se = hypot((1.0 - part) * r.one_se, part * loo_doubt(m, &r));
    } else if (m->echo_loo >= GE_KNEE_LEAST) {
        knee->at = r.loo / r.half;
        knee->log_se = loo_doubt(m, &r);
    }
}

struct ge_count ge_knee_count(const struct ge_knee *knees, size_t count,
                              double batch)
{
    struct ge_count made = {0.0, 0.0};
    double variance = 0.0;

    for (size_t i = 0; i < count; i++) {
        const struct ge_knee *k = &knees[i];
        double above = 0.0;

        if (isinf(k->at)) {
            variance += k->by_gain < 2.0 * batch * k->replicas ? 0.25 : 0.0;
            continue;
        }
        above = 0.5 * erfc(-log(batch * k->replicas / k->at) /
                           (sqrt(2.0) * k->log_se));
        made.modes += above;
        variance += above * (1.0 - above);
    }
    made.se = sqrt(variance);
    return made;
}

/* Over today's batch, with the mode moved by `side` standard errors. */
static double over_today(const struct ge_knee *k, double side)
{
    return isinf(k->at) ? k->at : k->at / k->replicas * exp(side * k->log_se);
}

static int by_batch(const void *left, const void *right, void *side)
{
    const double a = over_today(left, *(double *)side);
    const double b = over_today(right, *(double *)side);

    return (a > b) - (a < b);
}

struct ge_knee_batch ge_knee_share(struct ge_knee *knees, size_t count,
                                   double share)
{
    const size_t least = (size_t)fmax(ceil(share * (double)count - 1e-9), 1.0);
    struct ge_knee_batch made = {(double)NAN, (double)NAN, (double)NAN, false};
    const struct ge_knee *last = &knees[least - 1];
    double side = 0.0;

    if (count == 0)
        return made;
    side = -1.0;
    qsort_r(knees, count, sizeof *knees, by_batch, &side);
    made.low = over_today(last, side);
    side = 1.0;
    qsort_r(knees, count, sizeof *knees, by_batch, &side);
    made.high = over_today(last, side);
    side = 0.0;
    qsort_r(knees, count, sizeof *knees, by_batch, &side);
    made.batch = over_today(last, side);
    made.measured = last->at >= 1.0 && last->at <= last->replicas;
    return made;
}

double ge_knee_misfit(const struct ge_knee *knees, size_t count)
{
    double squares = 0.0, errors = 0.0, modes = 0.0;

    for (size_t i = 0; i < count; i++) {
        if (isnan(knees[i].misfit))
            continue;
        squares += knees[i].misfit * knees[i].misfit;
        errors += knees[i].misfit_se * knees[i].misfit_se;
        modes += 1.0;
    }
    return modes > 0.0 ? sqrt(squares / modes) - 2.0 * sqrt(errors / modes)
                       : (double)NAN;
}

struct ge_shrunk ge_mode_shrunk(const struct ge_mode_facts *m)
{
    struct ge_shrunk made = {(double)NAN, (double)NAN};
    struct reading r;
    double u = 0.0;

    if (!(m->echo > 0.0) || !(m->echo_loo > 0.0) || !(m->s_est > 0.0) ||
        !(m->s_mean > 0.0) || !(m->gain > 0.0))
        return made;
    read_mode(m, &r);
    u = gain_inverse(m, r.ratio) / m->replicas;
    made.gain =
        closed(u, r.ratio) / sqrt((1.0 + u * r.ratio) * (1.0 + u / r.ratio));
    /* Its distance from 1 goes as u where it is small. */
    made.se = fmin(r.loo_se, 1.0) * (1.0 - made.gain); /* NaN: 1 */
    return made;
}
