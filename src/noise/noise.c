#include "noise.h"

#include <math.h>

static double sum(const double *values, size_t count)
{
    double total = 0.0;

    for (size_t i = 0; i < count; i++)
        total += values[i];
    return total;
}

/* sigma2 without replica a is (S - D_a K/(K-1)) / ((K-2) m n): the mean moves
 * with the set, and sum_{b != a} ||Ghat_b - mean_{-a}||^2 = S - D_a K/(K-1).
 * Its spread over a, times (K-1)/K, is the jackknife variance. */
static double sigma2_error(const struct ge_noise_input *in, double entries)
{
    const double k = (double)in->replicas;
    const double mean = sum(in->deviation, in->replicas) / k;
    double spread = 0.0;

    if (in->replicas < 3)
        return (double)NAN;
    for (size_t a = 0; a < in->replicas; a++) {
        const double d = in->deviation[a] - mean;

        spread += d * d;
    }
    return sqrt((k - 1.0) / k * spread) * (k / (k - 1.0)) /
           ((k - 2.0) * entries);
}

void ge_noise_estimate(const struct ge_noise_input *in, struct ge_noise *out)
{
    const double m = (double)in->rows, n = (double)in->cols;
    const double k = (double)in->replicas;
    const double edge1 = sqrt(m) + sqrt(n);

    if (in->replicas < 2) {
        const double unknown = (double)NAN;

        *out = (struct ge_noise){unknown, unknown, unknown, unknown,
                                 unknown, unknown, unknown, unknown};
        return;
    }
    out->sigma2 = sum(in->deviation, in->replicas) / ((k - 1.0) * m * n);
    out->sigma2_se = sigma2_error(in, m * n);
    out->noise_trace = out->sigma2 * m * n;
    out->grad_sqnorm = in->mean_sqnorm - out->noise_trace / k;
    out->noise_scale =
        out->grad_sqnorm == 0.0
            ? (double)NAN
            : in->batch_size * out->noise_trace / out->grad_sqnorm;
    out->edge = sqrt(out->sigma2) * edge1;
    out->tau2_edge = out->sigma2 * edge1 * edge1;
    out->tau2_asym = out->sigma2 * (m + n) / 2.0;
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
