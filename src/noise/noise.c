#include "noise.h"

#include <math.h>

#include "jackknife.h"

static double sum(const double *values, size_t count)
{
    double total = 0.0;

    for (size_t i = 0; i < count; i++)
        total += values[i];
    return total;
}

double ge_noise_scale(double batch_size, double noise_trace, double grad_sqnorm)
{
    return grad_sqnorm == 0.0 ? (double)NAN
                              : batch_size * noise_trace / grad_sqnorm;
}

/* Without replica a, r_a = Ghat_a - Gbar:
 *     trace      (S - D_a K/(K-1)) / (K-2): the mean moves with the set
 *     ||mean||^2  ||Gbar||^2 - 2 P_a/(K-1) + D_a/(K-1)^2 */
static struct ge_noise_sums without_one(const struct ge_noise_input *in,
                                        double total, size_t a)
{
    const double k = (double)in->replicas, d = in->deviation[a];
    const double trace = (total - d * k / (k - 1.0)) / (k - 2.0);

    return (struct ge_noise_sums){
        .trace = trace,
        .sqnorm = in->projection == NULL
                      ? (double)NAN
                      : in->mean_sqnorm - 2.0 * in->projection[a] / (k - 1.0) +
                            d / ((k - 1.0) * (k - 1.0)) - trace / (k - 1.0),
    };
}

struct ge_noise_sums ge_noise_without(const struct ge_noise_input *in,
                                      size_t without)
{
    if (in->replicas < 3)
        return (struct ge_noise_sums){(double)NAN, (double)NAN};
    return without_one(in, sum(in->deviation, in->replicas), without);
}

static void estimate_errors(const struct ge_noise_input *in, double entries,
                            struct ge_noise *out)
{
    const double total = sum(in->deviation, in->replicas);
    struct ge_jackknife trace = {0}, sqnorm = {0}, noise_scale = {0};

    for (size_t a = 0; a < in->replicas; a++) {
        const struct ge_noise_sums left = without_one(in, total, a);

        ge_jackknife_add(&trace, left.trace);
        ge_jackknife_add(&sqnorm, left.sqnorm);
        ge_jackknife_add(&noise_scale, ge_noise_scale(in->batch_size,
                                                      left.trace, left.sqnorm));
    }
    out->noise_trace_se = ge_jackknife_error(&trace);
    out->sigma2_se = out->noise_trace_se / entries;
    out->grad_sqnorm_se = ge_jackknife_error(&sqnorm);
    out->noise_scale_se = ge_jackknife_error(&noise_scale);
}

void ge_noise_estimate(const struct ge_noise_input *in, struct ge_noise *out)
{
    const double m = (double)in->rows, n = (double)in->cols;
    const double k = (double)in->replicas, nan = (double)NAN;
    const double edge1 = sqrt(m) + sqrt(n);

    *out = (struct ge_noise){nan, nan, nan, nan, nan, nan,
                             nan, nan, nan, nan, nan};
    if (in->replicas < 2)
        return;
    out->sigma2 = sum(in->deviation, in->replicas) / ((k - 1.0) * m * n);
    out->noise_trace = out->sigma2 * m * n;
    out->grad_sqnorm = in->mean_sqnorm - out->noise_trace / k;
    out->noise_scale =
        ge_noise_scale(in->batch_size, out->noise_trace, out->grad_sqnorm);
    out->edge = sqrt(out->sigma2) * edge1;
    out->tau2_edge = out->sigma2 * edge1 * edge1;
    out->tau2_asym = out->sigma2 * (m + n) / 2.0;
    if (in->replicas >= 3)
        estimate_errors(in, m * n, out);
}

double ge_noise_smooth(struct ge_noise_average *average, double noise_trace,
                       double grad_sqnorm, double batch_size, double half_life)
{
    const double keep = exp2(-1.0 / half_life);

    if (!isnan(noise_trace) && !isnan(grad_sqnorm)) {
        average->trace = keep * average->trace + noise_trace;
        average->sqnorm = keep * average->sqnorm + grad_sqnorm;
    }
    return ge_noise_scale(batch_size, average->trace, average->sqnorm);
}

void ge_noise_ratios(const struct ge_noise_input *in, double *ratio)
{
    /* D_a K / ((K-1) m n sigma2) with sigma2 inserted: no unit is left. */
    const double total = sum(in->deviation, in->replicas);
    const double k = (double)in->replicas;

    for (size_t a = 0; a < in->replicas; a++)
        ratio[a] = in->replicas < 2 || total == 0.0
                       ? (double)NAN
                       : in->deviation[a] * k / total;
}
