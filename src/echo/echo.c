#include "echo.h"

#include <math.h>

static struct ge_echo_terms plus(struct ge_echo_terms a, struct ge_echo_terms b,
                                 double sign)
{
    return (struct ge_echo_terms){
        .overlap = a.overlap + sign * b.overlap,
        .held_out = a.held_out + sign * b.held_out,
        .cross = a.cross + sign * b.cross,
        .s_replica = a.s_replica + sign * b.s_replica,
    };
}

/* The ratios do not change when sums stand in for averages, except where one
 * sum stands alone: the overlap's weight is 1/K. */
static double echo_of(const struct ge_echo_terms *sum, double k)
{
    if (!(sum->overlap > 0.0 && sum->held_out > 0.0 && sum->cross > 0.0))
        return (double)NAN;
    return sqrt(sum->held_out / sum->cross * (sum->overlap / k));
}

static double gain_of(const struct ge_echo_terms *sum)
{
    return sum->s_replica > 0.0 ? sum->held_out / sum->s_replica : (double)NAN;
}

struct spread {
    double mean, square; /* Welford */
    size_t count;
};

static void spread_add(struct spread *s, double value)
{
    const double d = value - s->mean;

    s->count++;
    s->mean += d / (double)s->count;
    s->square += d * (value - s->mean);
}

/* Jackknife: (K-1)/K times the sum of squared deviations of the K
 * leave-one-out values. */
static double jackknife_error(const struct spread *s)
{
    const double k = (double)s->count;

    return sqrt((k - 1.0) / k * s->square);
}

static void errors(const struct ge_echo_terms *terms, size_t replicas,
                   size_t stride, const struct ge_echo_terms *sum,
                   struct ge_echo *out)
{
    struct spread echo = {0}, gain = {0};

    for (size_t a = 0; a < replicas; a++) {
        const struct ge_echo_terms others = plus(*sum, terms[a * stride], -1.0);

        spread_add(&echo, echo_of(&others, (double)replicas - 1.0));
        spread_add(&gain, gain_of(&others));
    }
    out->echo_se = jackknife_error(&echo);
    out->gain_se = jackknife_error(&gain);
}

void ge_echo_combine(const struct ge_echo_terms *terms, size_t replicas,
                     size_t stride, struct ge_echo *out)
{
    const double k = (double)replicas, nan = (double)NAN;
    struct ge_echo_terms sum = {0};
    double echo = 0.0;

    *out = (struct ge_echo){nan, nan, nan, nan, nan, nan, nan};
    if (replicas < 2)
        return;
    for (size_t a = 0; a < replicas; a++)
        sum = plus(sum, terms[a * stride], 1.0);
    out->s_replica = sum.s_replica / k;
    out->gain = gain_of(&sum);
    if (replicas >= 3)
        errors(terms, replicas, stride, &sum, out);

    echo = echo_of(&sum, k);
    if (isnan(echo)) {
        out->echo = isnan(sum.overlap + sum.held_out + sum.cross) ? nan : 0.0;
        out->echo_loo = out->echo;
        out->echo_se = nan;
        return;
    }
    out->echo = fmin(echo, 1.0);
    out->echo_loo = fmin(echo * sum.cross / sum.held_out, 1.0);
    out->s_est = sqrt(sum.held_out / sum.overlap * (sum.cross / k));
}
