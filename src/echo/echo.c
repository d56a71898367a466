#include "echo.h"

#include <math.h>

#include "jackknife.h"

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

/* The sums without replica b. Its own terms go, and so does its part in what
 * the others were held against: without b, L_a is ((K-1) L_a - Ghat_b)/(K-2),
 * so A_a becomes ((K-1) A_a - p_ab)/(K-2),   p_ab = uhat_a' Ghat_b vhat_a. p_ab
 * is taken as A_a + (A/B)(B_b - mean_{c != a} B_c): what Ghat_b has more than
 * the others along this mode shows in B_b as well. Left out, the noise that A
 * and B share would not cancel in the ratio. Summed over a != b: */
static struct ge_echo_terms sum_without(const struct ge_echo_terms *sum,
                                        const struct ge_echo_terms *b, double k)
{
    struct ge_echo_terms others = plus(*sum, *b, -1.0);
    const double more =
        (k - 1.0) * b->cross - sum->cross + (sum->cross - b->cross) / (k - 1.0);

    if (sum->cross > 0.0 && k > 2.0)
        others.held_out -= sum->held_out / sum->cross * more / (k - 2.0);
    return others;
}

static void errors(const struct ge_echo_terms *terms, size_t replicas,
                   size_t stride, const struct ge_echo_terms *sum,
                   struct ge_echo *out)
{
    const double k = (double)replicas;
    struct ge_jackknife echo = {0}, gain = {0};

    for (size_t b = 0; b < replicas; b++) {
        const struct ge_echo_terms others =
            sum_without(sum, &terms[b * stride], k);

        ge_jackknife_add(&echo, echo_of(&others, k - 1.0));
        ge_jackknife_add(&gain, gain_of(&others));
    }
    out->echo_se = ge_jackknife_error(&echo);
    out->gain_se = ge_jackknife_error(&gain);
}

static struct ge_echo_terms sum_of(const struct ge_echo_terms *terms,
                                   size_t replicas, size_t stride)
{
    struct ge_echo_terms sum = {0};

    for (size_t a = 0; a < replicas; a++)
        sum = plus(sum, terms[a * stride], 1.0);
    return sum;
}

/* All but the errors, from the sums over k replicas. */
static void values(const struct ge_echo_terms *sum, double k,
                   struct ge_echo *out)
{
    const double echo = echo_of(sum, k), nan = (double)NAN;

    *out = (struct ge_echo){nan, nan, nan, nan, nan, nan, nan};
    out->s_replica = sum->s_replica / k;
    out->gain = gain_of(sum);
    if (isnan(echo)) {
        const double known = sum->overlap + sum->held_out + sum->cross;

        out->echo = isnan(known) ? nan : 0.0;
        out->echo_loo = out->echo;
        return;
    }
    out->echo = fmin(echo, 1.0);
    out->echo_loo = fmin(echo * sum->cross / sum->held_out, 1.0);
    out->s_est = sqrt(sum->held_out / sum->overlap * (sum->cross / k));
}

void ge_echo_combine(const struct ge_echo_terms *terms, size_t replicas,
                     size_t stride, struct ge_echo *out)
{
    const struct ge_echo_terms sum = sum_of(terms, replicas, stride);

    if (replicas < 2) {
        const double nan = (double)NAN;

        *out = (struct ge_echo){nan, nan, nan, nan, nan, nan, nan};
        return;
    }
    values(&sum, (double)replicas, out);
    if (replicas >= 3)
        errors(terms, replicas, stride, &sum, out);
    if (out->echo == 0.0)
        out->echo_se = (double)NAN;
}

void ge_echo_without(const struct ge_echo_terms *terms, size_t replicas,
                     size_t stride, size_t without, struct ge_echo *out)
{
    const struct ge_echo_terms sum = sum_of(terms, replicas, stride);
    const struct ge_echo_terms others =
        sum_without(&sum, &terms[without * stride], (double)replicas);

    values(&others, (double)replicas - 1.0, out);
}
