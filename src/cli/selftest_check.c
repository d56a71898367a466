/*
 * What the selftest's checks come to, and their lines.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "selftest.h"

/* What a check found. NaN: does not apply. */
struct finding {
    size_t count;           /* modes or samples that it looked at */
    double truth, estimate; /* means */
    double measured;
};

/* Sums over the points of a check. */
struct sums {
    double count, truth, estimate, square, error, covered, signal, clear;
};

/* Of one point: truth, estimate, and their difference as the check counts it.
 */
static double difference(const struct ge_selftest_point *p,
                         enum ge_selftest_what what, double *truth,
                         double *estimate)
{
    *truth = p->truth;
    *estimate = p->echo;
    if (what == GE_SELFTEST_S) {
        *truth = 1.0;
        *estimate = p->s_est / p->s;
    } else if (what == GE_SELFTEST_GAIN) {
        *truth = p->gain_truth;
        *estimate = p->gain;
    } else if (what == GE_SELFTEST_EXACT) {
        *estimate = p->exact;
    } else if (what == GE_SELFTEST_REVERB) {
        *estimate = p->reverb;
    } else if (what == GE_SELFTEST_CLUSTER) {
        *truth = p->cluster_truth;
        *estimate = p->cluster;
    }
    return *estimate - *truth;
}

static struct sums sum_points(const struct ge_selftest_check *check,
                              const struct ge_selftest_result *result)
{
    struct sums sum = {0};

    for (size_t i = 0; i < result->point_count; i++) {
        const struct ge_selftest_point *p = &result->points[i];
        double truth = 0.0, estimate = 0.0;

        if (!(p->truth >= check->from && p->truth < check->to) ||
            (check->clear && !p->clear))
            continue;
        const double d = difference(p, check->what, &truth, &estimate);

        sum.count += 1.0;
        sum.truth += truth;
        sum.estimate += estimate;
        sum.square += d * d;
        sum.error += p->echo_se;
        sum.covered += fabs(d) <= 2.0 * p->echo_se ? 1.0 : 0.0;
        sum.signal += p->signal ? 1.0 : 0.0;
        sum.clear += p->clear ? 1.0 : 0.0;
    }
    return sum;
}

/* Mean standard error over the spread of the echo, over the modes whose mean
 * truth is in the check's range: the spread is the standard deviation over
 * samples about each mode's own mean, pooled. */
static struct finding find_spread(const struct ge_selftest_check *check,
                                  const struct ge_selftest_result *result)
{
    const size_t samples = result->sample_count;
    const size_t modes = result->point_count / samples;
    struct sums all = {0};

    for (size_t k = 0; k < modes; k++) {
        struct sums mode = {0};

        for (size_t i = k; i < result->point_count; i += modes) {
            const double d = result->points[i].echo - mode.estimate;

            mode.count += 1.0;
            mode.estimate += d / mode.count;
            mode.square += d * (result->points[i].echo - mode.estimate);
            mode.truth += result->points[i].truth / (double)samples;
            mode.error += result->points[i].echo_se;
        }
        if (!(mode.truth >= check->from && mode.truth < check->to))
            continue;
        all.count += 1.0;
        all.truth += mode.truth;
        all.estimate += mode.estimate;
        all.square += mode.square / (double)(samples - 1);
        all.error += mode.error / (double)samples;
    }
    return (struct finding){.count = samples * (size_t)all.count,
                            .truth = all.truth / all.count,
                            .estimate = all.estimate / all.count,
                            .measured = all.error / all.count /
                                        sqrt(all.square / all.count)};
}

/* Root mean square of misfit_exact over samples. */
static double misfit_of(const struct ge_selftest_result *result)
{
    double sum = 0.0;

    for (size_t i = 0; i < result->sample_count; i++)
        sum +=
            result->samples[i].misfit_exact * result->samples[i].misfit_exact;
    return sqrt(sum / (double)result->sample_count);
}

static struct finding find_in_points(const struct ge_selftest_check *check,
                                     const struct ge_selftest_result *result)
{
    const struct sums sum = sum_points(check, result);
    const double rmse = sqrt(sum.square / sum.count);
    struct finding f = {.count = (size_t)sum.count,
                        .truth = sum.truth / sum.count,
                        .estimate = sum.estimate / sum.count,
                        .measured = rmse};

    if (check->what == GE_SELFTEST_COVERAGE)
        f.measured = sum.covered / sum.count;
    else if (check->what == GE_SELFTEST_ERROR)
        f.measured = sum.error / sum.count / rmse;
    else if (check->what == GE_SELFTEST_FOUND)
        f.measured = sum.signal / sum.count;
    else if (check->what == GE_SELFTEST_CLEAR)
        f.measured = sum.clear / sum.count;
    else if (check->what == GE_SELFTEST_MISFIT)
        f.measured = misfit_of(result) / rmse;
    return f;
}

static struct finding find_in_samples(const struct ge_selftest_check *check,
                                      const struct ge_selftest_result *result)
{
    const double count = (double)result->sample_count;
    double sigma2 = 0.0, silent = 0.0;

    for (size_t i = 0; i < result->sample_count; i++) {
        sigma2 += result->samples[i].sigma2 / count;
        silent += result->samples[i].signal_modes == 0.0 ? 1.0 / count : 0.0;
    }
    struct finding f = {.count = result->sample_count,
                        .truth = 1.0,
                        .estimate = sigma2,
                        .measured = fabs(sigma2 - 1.0)};

    if (check->what == GE_SELFTEST_SILENT) {
        f.truth = f.estimate = (double)NAN;
        f.measured = silent;
    }
    return f;
}

static struct finding find(const struct ge_selftest_check *check,
                           const struct ge_selftest_result *result)
{
    if (check->what == GE_SELFTEST_SIGMA2 || check->what == GE_SELFTEST_SILENT)
        return find_in_samples(check, result);
    if (check->what == GE_SELFTEST_SPREAD)
        return find_spread(check, result);
    return find_in_points(check, result);
}

/* ---- lines ---- */

static const char *name_of(enum ge_selftest_what what)
{
    static const char *const names[] = {
        [GE_SELFTEST_ECHO] = "echo rmse",
        [GE_SELFTEST_REVERB] = "reverb rmse",
        [GE_SELFTEST_CLUSTER] = "echo_cluster rmse",
        [GE_SELFTEST_S] = "s_est rmse",
        [GE_SELFTEST_GAIN] = "gain rmse",
        [GE_SELFTEST_EXACT] = "exact law rmse",
        [GE_SELFTEST_COVERAGE] = "2 se coverage",
        [GE_SELFTEST_ERROR] = "se / rmse",
        [GE_SELFTEST_SPREAD] = "se / spread",
        [GE_SELFTEST_MISFIT] = "misfit_exact / rmse",
        [GE_SELFTEST_SIGMA2] = "sigma2 bias",
        [GE_SELFTEST_SILENT] = "no false signal",
        [GE_SELFTEST_FOUND] = "mode found",
        [GE_SELFTEST_CLEAR] = "mode clear",
    };

    return names[what];
}

static const char *noise_of(const struct ge_selftest_case *c)
{
    static const char *const names[] = {
        [GE_PLANTED_ISOTROPIC] = "isotropic",
        [GE_PLANTED_SCALED] = "scaled",
        [GE_PLANTED_MULTIPLICATIVE] = "multiplic.",
    };

    return names[c->noise];
}

static void print_number(double value)
{
    if (isnan(value))
        printf(" %8s", "-");
    else
        printf(" %8.4f", value);
}

static bool is_judged(const struct ge_selftest_check *check)
{
    return !isinf(check->least) || !isinf(check->most);
}

static void print_bound(const struct ge_selftest_check *check)
{
    char text[32];

    if (!is_judged(check))
        snprintf(text, sizeof text, "-");
    else if (isinf(check->most))
        snprintf(text, sizeof text, ">= %.3g", check->least);
    else if (check->least <= 0.0)
        snprintf(text, sizeof text, "<= %.3g", check->most);
    else
        snprintf(text, sizeof text, "%.3g..%.3g", check->least, check->most);
    printf(" %-8s", text);
}

void ge_selftest_print_title(void)
{
    printf("%-9s %-7s %2s %-10s %-19s %-11s %5s %8s %8s %8s %8s %-8s\n",
           "planted", "shape", "K", "noise", "check", "echoes", "n", "truth",
           "estimate", "bias", "measured", "bound");
}

static void print_line(const struct ge_selftest_case *c,
                       const struct ge_selftest_check *check,
                       const struct finding *f, bool ok)
{
    char shape[32], range[32] = "-", echoes[40];

    snprintf(shape, sizeof shape, "%zux%zu", c->rows, c->cols);
    if (check->to > 1.0 && check->from > 0.0)
        snprintf(range, sizeof range, ">=%.2g", check->from);
    else if (check->from > 0.0)
        snprintf(range, sizeof range, "%.2g-%.2g", check->from, check->to);
    snprintf(echoes, sizeof echoes, "%s%s", range,
             check->clear ? " clear" : "");
    printf("%-9s %-7s %2zu %-10s %-19s %-11s %5zu", c->spectrum->name, shape,
           c->replicas, noise_of(c), name_of(check->what), echoes, f->count);
    print_number(f->truth);
    print_number(f->estimate);
    print_number(f->estimate - f->truth);
    print_number(f->measured);
    print_bound(check);
    printf(" %s\n", !is_judged(check) ? "-" : ok ? "ok" : "FAIL");
}

void ge_selftest_judge(const struct ge_selftest_case *c,
                       const struct ge_selftest_result *result,
                       struct ge_selftest_tally *tally)
{
    for (size_t i = 0; i < c->count; i++) {
        const struct ge_selftest_check *check = &c->checks[i];

        if (c->replicas < check->replicas_from ||
            c->replicas >= check->replicas_to)
            continue;
        const struct finding f = find(check, result);
        /* A check that saw nothing, or not-a-number, has not passed. */
        const bool ok = f.measured >= check->least && f.measured <= check->most;

        print_line(c, check, &f, ok);
        tally->checks += is_judged(check) ? 1 : 0;
        tally->outside += ok || !is_judged(check) ? 0 : 1;
    }
    fflush(stdout);
}
