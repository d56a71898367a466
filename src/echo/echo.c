#include "echo.h"

#include <math.h>
#include <stdbool.h>

#include "jackknife.h"

enum { NEAR = GE_ECHO_NEAR, AROUND = GE_ECHO_NEIGHBOURS };

/* Sums over replicas of a mode, at[NEAR], and of its neighbours; zeros where
 * there is no mode. */
struct around {
    struct ge_echo_terms at[AROUND + 1];
    double replicas;
};

static struct ge_echo_terms plus(struct ge_echo_terms a, struct ge_echo_terms b,
                                 double sign)
{
    struct ge_echo_terms sum = {
        .overlap = a.overlap + sign * b.overlap,
        .held_out = a.held_out + sign * b.held_out,
        .cross = a.cross + sign * b.cross,
        .s_replica = a.s_replica + sign * b.s_replica,
    };

    for (size_t i = 0; i < AROUND; i++)
        sum.near[i] = a.near[i] + sign * b.near[i];
    return sum;
}

/* Add one replica's terms, or take them away. [modes] terms. */
static void add(struct around *around, const struct ge_echo_terms *terms,
                size_t modes, size_t mode, double sign)
{
    for (size_t i = 0; i < AROUND + 1; i++)
        if (mode + i >= NEAR && mode + i - NEAR < modes)
            around->at[i] = plus(around->at[i], terms[mode + i - NEAR], sign);
    around->replicas += sign;
}

static struct around sum_of(const struct ge_echo_terms *terms, size_t replicas,
                            size_t modes, size_t mode)
{
    struct around sum = {0};

    for (size_t a = 0; a < replicas; a++)
        add(&sum, terms + a * modes, modes, mode, 1.0);
    return sum;
}

/* Part f of what A and B hold that is the neighbours'. A turn of two modes into
 * each other shows both ways, z_kj and z_jk; what shows one way only is noise.
 * A neighbour counts by what it has of its own: a direction of noise that the
 * mode leaks into has no more cross than the leak brings it. */
static double mixed(const struct around *around)
{
    const struct ge_echo_terms *own = &around->at[NEAR];
    double sum = 0.0;

    for (size_t i = 0; i < AROUND; i++) {
        const struct ge_echo_terms *other = &around->at[i + (i >= NEAR)];
        const double there = own->near[i], back = other->near[AROUND - 1 - i];
        const double x = fmin(there, back) / own->overlap;
        const double real =
            (other->cross / own->cross - x) / (1.0 - fmin(x, 0.9));

        if (x > 0.0)
            sum += x * fmin(fmax(real, 0.0), 1.0);
    }
    return sum / (1.0 + sum);
}

static bool has_echo(const struct ge_echo_terms *sum)
{
    return sum->overlap > 0.0 && sum->held_out > 0.0 && sum->cross > 0.0;
}

/* The mode's sums without its neighbours' part. What turned the modes is the
 * noise of the replica and that of the mean of the others, whose variance is
 * 1/(K-1) of it: they share in f as K-1 to 1. */
static struct ge_echo_terms purified(const struct around *around)
{
    const double k = around->replicas;
    struct ge_echo_terms sum = around->at[NEAR];
    const double f = has_echo(&sum) ? mixed(around) : 0.0;

    sum.held_out *= 1.0 - f * (k - 1.0) / k;
    sum.cross *= 1.0 - f / k;
    return sum;
}

/* The ratios do not change when sums stand in for averages, except where one
 * sum stands alone: the overlap's weight is 1/K. */
static double echo_of(const struct around *around)
{
    const struct ge_echo_terms sum = purified(around);

    if (!has_echo(&sum))
        return (double)NAN;
    return sqrt(sum.held_out / sum.cross * (sum.overlap / around->replicas));
}

static double gain_of(const struct around *around)
{
    const struct ge_echo_terms *sum = &around->at[NEAR];

    return sum->s_replica > 0.0 ? sum->held_out / sum->s_replica : (double)NAN;
}

/* The sums without replica b. Its own terms go, and so does its part in what
 * the others were held against: without b, L_a is ((K-1) L_a - Ghat_b)/(K-2),
 * so A_a becomes ((K-1) A_a - p_ab)/(K-2),   p_ab = uhat_a' Ghat_b vhat_a. p_ab
 * is taken as A_a + (A/B)(B_b - mean_{c != a} B_c): what Ghat_b has more than
 * the others along this mode shows in B_b as well. Left out, the noise that A
 * and B share would not cancel in the ratio. Summed over a != b: */
static struct around without(const struct around *all,
                             const struct ge_echo_terms *b, size_t modes,
                             size_t mode)
{
    const struct ge_echo_terms *sum = &all->at[NEAR];
    const double k = all->replicas, cross = b[mode].cross;
    const double more =
        (k - 1.0) * cross - sum->cross + (sum->cross - cross) / (k - 1.0);
    struct around others = *all;

    add(&others, b, modes, mode, -1.0);
    if (sum->cross > 0.0 && k > 2.0)
        others.at[NEAR].held_out -=
            sum->held_out / sum->cross * more / (k - 2.0);
    return others;
}

static void errors(const struct ge_echo_terms *terms, size_t replicas,
                   size_t modes, size_t mode, const struct around *all,
                   struct ge_echo *out)
{
    struct ge_jackknife echo = {0}, gain = {0};

    for (size_t b = 0; b < replicas; b++) {
        const struct around others =
            without(all, terms + b * modes, modes, mode);

        ge_jackknife_add(&echo, echo_of(&others));
        ge_jackknife_add(&gain, gain_of(&others));
    }
    out->echo_se = ge_jackknife_error(&echo);
    out->gain_se = ge_jackknife_error(&gain);
}

static struct ge_echo nothing(void)
{
    const double nan = (double)NAN;

    return (struct ge_echo){nan, nan, nan, nan, nan, nan, nan, nan};
}

/* All but the errors. */
static void values(const struct around *around, struct ge_echo *out)
{
    const struct ge_echo_terms *whole = &around->at[NEAR];
    const struct ge_echo_terms sum = purified(around);
    const double k = around->replicas, echo = echo_of(around);

    *out = nothing();
    out->s_replica = whole->s_replica / k;
    out->gain = gain_of(around);
    if (isnan(echo)) {
        const double known = sum.overlap + sum.held_out + sum.cross;

        out->echo = isnan(known) ? (double)NAN : 0.0;
        out->echo_loo = out->echo;
        out->echo_cluster = out->echo;
        return;
    }
    out->echo = fmin(echo, 1.0);
    out->echo_loo = fmin(echo * sum.cross / sum.held_out, 1.0);
    out->s_est = sqrt(sum.held_out / sum.overlap * (sum.cross / k));
    out->echo_cluster = fmin(sqrt(whole->held_out / whole->cross *
                                  (whole->overlap / k) / (1.0 - mixed(around))),
                             1.0);
}

void ge_echo_combine(const struct ge_echo_terms *terms, size_t replicas,
                     size_t modes, size_t mode, struct ge_echo *out)
{
    const struct around sum = sum_of(terms, replicas, modes, mode);

    if (replicas < 2) {
        *out = nothing();
        return;
    }
    values(&sum, out);
    if (replicas >= 3)
        errors(terms, replicas, modes, mode, &sum, out);
    if (out->echo == 0.0)
        out->echo_se = (double)NAN;
}

void ge_echo_without(const struct ge_echo_terms *terms, size_t replicas,
                     size_t modes, size_t mode, size_t out,
                     struct ge_echo *echo)
{
    const struct around sum = sum_of(terms, replicas, modes, mode);
    const struct around others =
        without(&sum, terms + out * modes, modes, mode);

    values(&others, echo);
}
