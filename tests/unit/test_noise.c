/* Noise variance and its sums, against arithmetic done by hand, in long
 * double, or over and over. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "moments.h"
#include "noise.h"
#include "numbers.h"

enum { MOST_REPLICAS = 8, MOST_ENTRIES = 60 };

/* K replicas of one layer, and what is measured of them. */
struct sample {
    size_t replicas, entries;
    double g[MOST_REPLICAS][MOST_ENTRIES];
    double deviation[MOST_REPLICAS], projection[MOST_REPLICAS];
    double mean_sqnorm;
};

static void measure(struct sample *s)
{
    s->mean_sqnorm = 0.0;
    memset(s->deviation, 0, sizeof s->deviation);
    memset(s->projection, 0, sizeof s->projection);
    for (size_t i = 0; i < s->entries; i++) {
        double mean = 0.0;

        for (size_t a = 0; a < s->replicas; a++)
            mean += s->g[a][i] / (double)s->replicas;
        for (size_t a = 0; a < s->replicas; a++) {
            const double d = s->g[a][i] - mean;

            s->deviation[a] += d * d;
            s->projection[a] += mean * d;
        }
        s->mean_sqnorm += mean * mean;
    }
}

static struct ge_noise_input input_of(const struct sample *s, uint64_t rows)
{
    return (struct ge_noise_input){
        .rows = rows,
        .cols = s->entries / rows,
        .replicas = s->replicas,
        .deviation = s->deviation,
        .projection = s->projection,
        .mean_sqnorm = s->mean_sqnorm,
        .batch_size = 32.0,
    };
}

static void draw(struct dice *dice, struct sample *s, double mean, double sigma)
{
    for (size_t i = 0; i < s->entries; i++)
        for (size_t a = 0; a < s->replicas; a++)
            s->g[a][i] = mean + sigma * dice_normal(dice);
    measure(s);
}

/* {1 2 3 4}, {3 2 1 4}, {2 5 2 1}: mean {2 3 2 3}, deviations 4, 4, 8. */
static void three_replicas_by_hand(void **state)
{
    static const double d[] = {4.0, 4.0, 8.0};
    const struct ge_noise_input in = {2, 2, 3, d, NULL, 26.0, 32.0};
    struct ge_noise out;
    double ratio[3];

    (void)state;
    ge_noise_estimate(&in, &out);
    assert_near(out.sigma2, 2.0, 1e-15);
    assert_near(out.sigma2_se, 1.0, 1e-15); /* of {2.5 2.5 1} */
    assert_near(out.noise_trace, 8.0, 1e-15);
    assert_near(out.grad_sqnorm, 26.0 - 8.0 / 3.0, 1e-14);
    assert_near(out.noise_scale, 32.0 * 8.0 / (70.0 / 3.0), 1e-13);
    assert_near(out.edge, 4.0, 1e-14);
    assert_near(out.tau2_edge, 16.0, 1e-14);
    assert_near(out.tau2_asym, 4.0, 1e-15);
    ge_noise_ratios(&in, ratio);
    assert_near(ratio[0], 0.75, 1e-15);
    assert_near(ratio[1], 0.75, 1e-15);
    assert_near(ratio[2], 1.5, 1e-15);
}

static void edge_and_knees_of_an_oblong_layer(void **state)
{
    static const double d[] = {18.0, 18.0};
    const struct ge_noise_input in = {4, 9, 2, d, NULL, 1.0, 1.0};
    struct ge_noise out;

    (void)state;
    ge_noise_estimate(&in, &out);
    assert_near(out.sigma2, 1.0, 1e-15);
    assert_near(out.edge, 5.0, 1e-14);
    assert_near(out.tau2_edge, 25.0, 1e-13);
    assert_near(out.tau2_asym, 6.5, 1e-14);
}

static struct ge_noise estimate_without(const struct sample *all, size_t out)
{
    struct sample rest = {.entries = all->entries};
    struct ge_noise noise;

    for (size_t a = 0; a < all->replicas; a++)
        if (a != out)
            memcpy(rest.g[rest.replicas++], all->g[a], sizeof rest.g[0]);
    measure(&rest);
    const struct ge_noise_input in = input_of(&rest, 5);
    ge_noise_estimate(&in, &noise);
    return noise;
}

static double jackknife(const double *without, size_t count)
{
    double mean = 0.0, spread = 0.0;

    for (size_t i = 0; i < count; i++)
        mean += without[i] / (double)count;
    for (size_t i = 0; i < count; i++)
        spread += (without[i] - mean) * (without[i] - mean);
    return sqrt((double)(count - 1) / (double)count * spread);
}

static void errors_equal_the_jackknife_by_brute_force(void **state)
{
    struct dice dice = dice_start(11);

    (void)state;
    for (size_t k = 3; k <= MOST_REPLICAS; k++) {
        struct sample s = {.replicas = k, .entries = 35};
        double sigma2[MOST_REPLICAS], sqnorm[MOST_REPLICAS];
        double scale[MOST_REPLICAS];
        struct ge_noise out;

        draw(&dice, &s, 1.3, 1.7);
        for (size_t a = 0; a < k; a++) {
            const struct ge_noise without = estimate_without(&s, a);

            sigma2[a] = without.sigma2;
            sqnorm[a] = without.grad_sqnorm;
            scale[a] = without.noise_scale;
        }
        const struct ge_noise_input in = input_of(&s, 5);
        ge_noise_estimate(&in, &out);
        assert_close(out.sigma2_se, jackknife(sigma2, k), 1e-11);
        assert_close(out.grad_sqnorm_se, jackknife(sqnorm, k), 1e-11);
        assert_close(out.noise_scale_se, jackknife(scale, k), 1e-11);
    }
}

static void sums_without_a_replica_are_those_of_the_others(void **state)
{
    struct dice dice = dice_start(19);

    (void)state;
    for (size_t k = 3; k <= MOST_REPLICAS; k++) {
        struct sample s = {.replicas = k, .entries = 35};

        draw(&dice, &s, 1.3, 1.7);
        const struct ge_noise_input in = input_of(&s, 5);
        for (size_t a = 0; a < k; a++) {
            const struct ge_noise others = estimate_without(&s, a);
            const struct ge_noise_sums left = ge_noise_without(&in, a);

            assert_close(left.sqnorm, others.grad_sqnorm, 1e-11);
            assert_close(left.trace, others.noise_trace, 1e-11);
        }
    }
}

static void sums_without_one_of_two_are_not_known(void **state)
{
    static const double d[] = {3.0, 3.0, 3.0}, p[] = {0.1, 0.2, 0.3};

    (void)state;
    for (size_t k = 1; k <= 3; k++) {
        const struct ge_noise_input in = {2, 3, k, d, p, 5.0, 8.0};
        const struct ge_noise_sums left = ge_noise_without(&in, 0);

        assert_int_equal(isnan(left.trace), k < 3);
        assert_int_equal(isnan(left.sqnorm), k < 3);
    }
}

static void errors_that_need_projections_are_unknown_without(void **state)
{
    static const double d[] = {4.0, 4.0, 8.0};
    const struct ge_noise_input in = {2, 2, 3, d, NULL, 26.0, 32.0};
    struct ge_noise out;

    (void)state;
    ge_noise_estimate(&in, &out);
    assert_near(out.sigma2_se, 1.0, 1e-15);
    assert_nan(out.grad_sqnorm_se);
    assert_nan(out.noise_scale_se);
}

static void two_replicas_have_a_variance_but_no_error(void **state)
{
    static const double d[] = {3.0, 3.0};
    const struct ge_noise_input in = {2, 3, 2, d, NULL, 5.0, 8.0};
    struct ge_noise out;
    double ratio[2];

    (void)state;
    ge_noise_estimate(&in, &out);
    assert_near(out.sigma2, 1.0, 1e-15);
    assert_near(out.grad_sqnorm, 2.0, 1e-15);
    assert_near(out.noise_scale, 24.0, 1e-13);
    assert_nan(out.sigma2_se);
    assert_nan(out.grad_sqnorm_se);
    assert_nan(out.noise_scale_se);
    ge_noise_ratios(&in, ratio);
    assert_near(ratio[0], 1.0, 0.0);
    assert_near(ratio[1], 1.0, 0.0);
}

static void one_replica_knows_nothing(void **state)
{
    static const double d[] = {0.0};

    (void)state;
    for (size_t k = 0; k <= 1; k++) {
        const struct ge_noise_input in = {2, 3, k, d, NULL, 5.0, 8.0};
        struct ge_noise out = {0};
        double ratio[1] = {(double)NAN};

        ge_noise_estimate(&in, &out);
        assert_nan(out.sigma2);
        assert_nan(out.sigma2_se);
        assert_nan(out.grad_sqnorm);
        assert_nan(out.grad_sqnorm_se);
        assert_nan(out.noise_scale_se);
        assert_nan(out.noise_trace);
        assert_nan(out.noise_scale);
        assert_nan(out.edge);
        assert_nan(out.tau2_edge);
        assert_nan(out.tau2_asym);
        ge_noise_ratios(&in, ratio);
        assert_nan(ratio[0]);
    }
}

static void a_norm_that_is_all_noise_may_be_negative(void **state)
{
    static const double d[] = {6.0, 6.0};
    const struct ge_noise_input in = {2, 3, 2, d, NULL, 1.0, 8.0};
    struct ge_noise out;

    (void)state;
    ge_noise_estimate(&in, &out);
    assert_near(out.grad_sqnorm, 1.0 - 6.0, 1e-14);
    assert_near(out.noise_scale, -8.0 * 12.0 / 5.0, 1e-13);
}

static void noise_scale_needs_a_norm_and_a_batch_size(void **state)
{
    static const double d[] = {1.0, 1.0};
    const struct ge_noise_input none = {1, 2, 2, d, NULL, 1.0, 8.0};
    const struct ge_noise_input unknown = {1, 2, 2, d, NULL, 4.0, (double)NAN};
    struct ge_noise out;

    (void)state;
    ge_noise_estimate(&none, &out);
    assert_true(out.grad_sqnorm == 0.0);
    assert_nan(out.noise_scale);
    ge_noise_estimate(&unknown, &out);
    assert_near(out.grad_sqnorm, 3.0, 1e-15);
    assert_nan(out.noise_scale);
}

static void all_scales_with_the_gradient(void **state)
{
    static const double factors[] = {1e-30, 3.0, 1e30};
    struct dice dice = dice_start(12);
    struct sample s = {.replicas = 4, .entries = 35};
    struct ge_noise one, other;

    (void)state;
    draw(&dice, &s, 0.5, 0.9);
    const struct ge_noise_input in = input_of(&s, 5);
    ge_noise_estimate(&in, &one);
    for (size_t f = 0; f < COUNT_OF(factors); f++) {
        const double c = factors[f], c2 = c * c;
        struct sample t = s;

        for (size_t i = 0; i < s.replicas * MOST_ENTRIES; i++)
            t.g[i / MOST_ENTRIES][i % MOST_ENTRIES] *= c;
        measure(&t);
        const struct ge_noise_input scaled = input_of(&t, 5);
        ge_noise_estimate(&scaled, &other);
        assert_close(other.sigma2, one.sigma2 * c2, 1e-12);
        assert_close(other.sigma2_se, one.sigma2_se * c2, 1e-12);
        assert_close(other.grad_sqnorm_se, one.grad_sqnorm_se * c2, 1e-12);
        assert_close(other.noise_scale_se, one.noise_scale_se, 1e-12);
        assert_close(other.grad_sqnorm, one.grad_sqnorm * c2, 1e-12);
        assert_close(other.edge, one.edge * c, 1e-12);
        assert_close(other.tau2_edge, one.tau2_edge * c2, 1e-12);
        assert_close(other.tau2_asym, one.tau2_asym * c2, 1e-12);
        assert_close(other.noise_scale, one.noise_scale, 1e-12);
    }
}

static void one_sample_is_smoothed_to_itself(void **state)
{
    struct ge_noise_average average = {0};

    (void)state;
    assert_close(ge_noise_smooth(&average, 6.0, 2.0, 32.0, 10.0), 96.0, 1e-15);
    assert_close(ge_noise_smooth(&average, 6.0, 2.0, 32.0, 10.0), 96.0, 1e-15);
}

static void a_weight_halves_with_every_half_life(void **state)
{
    struct ge_noise_average average = {0};
    double scale = ge_noise_smooth(&average, 1.0, 1.0, 1.0, 3.0);

    (void)state;
    for (int i = 0; i < 3; i++) /* adds nothing but age */
        scale = ge_noise_smooth(&average, 0.0, 0.0, 1.0, 3.0);
    assert_close(scale, 1.0, 1e-15);
    scale = ge_noise_smooth(&average, 0.0, 1.0, 1.0, 3.0);
    /* weights 2^(-4/3) and 1 */
    assert_close(scale, exp2(-4.0 / 3.0) / (exp2(-4.0 / 3.0) + 1.0), 1e-14);
}

static void smoothing_passes_over_what_is_not_known(void **state)
{
    const double nan = (double)NAN;
    struct ge_noise_average average = {0};

    (void)state;
    assert_nan(ge_noise_smooth(&average, nan, nan, 32.0, 10.0));
    assert_nan(ge_noise_smooth(&average, 1.0, nan, 32.0, 10.0));
    assert_close(ge_noise_smooth(&average, 6.0, 2.0, 32.0, 10.0), 96.0, 1e-15);
    assert_close(ge_noise_smooth(&average, nan, 2.0, 32.0, 10.0), 96.0, 1e-15);
    assert_nan(ge_noise_smooth(&average, 6.0, 2.0, nan, 10.0));
    assert_close(ge_noise_smooth(&average, 6.0, 2.0, 32.0, 10.0), 96.0, 1e-15);
    /* Signed: noise may win. */
    assert_true(ge_noise_smooth(&average, 6.0, -90.0, 32.0, 10.0) < 0.0);
}

/* Single ratios blow up where the norm's estimate passes through zero. */
static void a_smoothed_scale_finds_the_planted_one(void **state)
{
    const double mean = 0.25, sigma = 0.7;
    struct ge_noise_average average = {0};
    struct dice dice = dice_start(18);
    struct sample s = {.replicas = 2, .entries = 12};
    double scale = 0.0;

    (void)state;
    for (int i = 0; i < 20000; i++) {
        struct ge_noise out;

        draw(&dice, &s, mean, sigma);
        const struct ge_noise_input in = input_of(&s, 3);
        ge_noise_estimate(&in, &out);
        scale = ge_noise_smooth(&average, out.noise_trace, out.grad_sqnorm,
                                32.0, 3000.0);
    }
    assert_close(scale, 32.0 * sigma * sigma / (mean * mean), 0.05);
}

static void ratios_have_the_mean_one_and_find_the_hot_replica(void **state)
{
    struct dice dice = dice_start(13);
    struct sample s = {.replicas = 5, .entries = 60};
    double ratio[5], sum = 0.0;

    (void)state;
    draw(&dice, &s, 0.0, 1.0);
    for (size_t i = 0; i < s.entries; i++)
        s.g[3][i] *= 4.0;
    measure(&s);
    const struct ge_noise_input in = input_of(&s, 5);
    ge_noise_ratios(&in, ratio);
    for (size_t a = 0; a < 5; a++) {
        sum += ratio[a];
        assert_true(a == 3 ? ratio[a] > 2.0 : ratio[a] < 1.0);
    }
    assert_near(sum, 5.0, 1e-14);
}

static void ratios_of_equal_replicas_are_unknown(void **state)
{
    static const double d[] = {0.0, 0.0, 0.0};
    const struct ge_noise_input in = {2, 2, 3, d, NULL, 1.0, 1.0};
    double ratio[3];

    (void)state;
    ge_noise_ratios(&in, ratio);
    for (size_t a = 0; a < 3; a++)
        assert_nan(ratio[a]);
}

/* Mean over draws, within three of its standard errors. */
static void assert_unbiased(const double *draws, size_t count, double truth)
{
    double mean = 0.0, square = 0.0;

    for (size_t i = 0; i < count; i++)
        mean += draws[i] / (double)count;
    for (size_t i = 0; i < count; i++)
        square += (draws[i] - mean) * (draws[i] - mean);
    const double error = sqrt(square / (double)(count - 1) / (double)count);
    print_message("mean %.6g, truth %.6g, standard error %.2g\n", mean, truth,
                  error);
    assert_near(mean, truth, 3.0 * error);
    assert_true(error < 0.05 * fabs(truth)); /* else it proves nothing */
}

static void planted_truth_is_found_without_bias(void **state)
{
    enum { DRAWS = 5000 };
    static double sigma2[DRAWS], sqnorm[DRAWS];
    static const size_t counts[] = {2, 3, 6};
    const double mean = 0.25, sigma = 0.7;
    struct dice dice = dice_start(14);

    (void)state;
    for (size_t c = 0; c < COUNT_OF(counts); c++) {
        struct sample s = {.replicas = counts[c], .entries = 12};

        for (size_t i = 0; i < DRAWS; i++) {
            struct ge_noise out;

            draw(&dice, &s, mean, sigma);
            const struct ge_noise_input in = input_of(&s, 3);
            ge_noise_estimate(&in, &out);
            sigma2[i] = out.sigma2;
            sqnorm[i] = out.grad_sqnorm;
        }
        assert_unbiased(sigma2, DRAWS, sigma * sigma);
        assert_unbiased(sqnorm, DRAWS, 12 * mean * mean);
    }
}

/* Terms of a sum may have both signs: its error is relative to their sizes. */
static void check_sums(const float *a, const float *mean, size_t count)
{
    const struct ge_moments got = ge_moments_about(a, mean, count);
    long double squares = 0, deviation = 0, projection = 0, sizes = 0;

    for (size_t i = 0; i < count; i++) {
        const long double d = (long double)a[i] - (long double)mean[i];

        squares += (long double)a[i] * (long double)a[i];
        deviation += d * d;
        projection += (long double)mean[i] * d;
        sizes += fabsl((long double)mean[i] * d);
    }
    assert_close(ge_sum_squares(a, count), (double)squares, 1e-12);
    assert_close(got.deviation, (double)deviation, 1e-12);
    assert_near(got.projection, (double)projection, 1e-12 * (double)sizes);
}

static void sums_are_right_at_every_length(void **state)
{
    enum { BIG = (1 << 20) + 7 };
    float *a = malloc((BIG + 1) * sizeof *a), *b = malloc(BIG * sizeof *b);
    struct dice dice = dice_start(15);

    (void)state;
    assert_non_null(a);
    assert_non_null(b);
    fill_normal(&dice, a, BIG + 1);
    fill_normal(&dice, b, BIG);
    for (size_t count = 0; count <= 100; count++)
        check_sums(a, b, count);
    check_sums(a, b, BIG);
    check_sums(a + 1, b, BIG); /* at any address */
    free(a);
    free(b);
}

static void squares_of_singles_do_not_overflow(void **state)
{
    const float a[] = {FLT_MAX, -FLT_MAX, FLT_TRUE_MIN};
    const float b[] = {-FLT_MAX, FLT_MAX, 0.0F};
    const double most = (double)FLT_MAX;

    (void)state;
    assert_close(ge_sum_squares(a, 2), 2.0 * most * most, 1e-15);
    assert_close(ge_moments_about(a, b, 2).deviation, 8.0 * most * most, 1e-15);
    assert_true(ge_sum_squares(a + 2, 1) > 0.0);
    assert_true(ge_moments_about(a + 2, b + 2, 1).deviation > 0.0);
}

/* Where the spread is 1e-4 of the mean, and below what singles resolve. */
static void differences_do_not_cancel(void **state)
{
    enum { COUNT = 10007 };
    static const double spreads[] = {1.0, 1e-4, 1e-7};
    static float a[COUNT], b[COUNT];
    struct dice dice = dice_start(16);

    (void)state;
    for (size_t s = 0; s < COUNT_OF(spreads); s++) {
        for (size_t i = 0; i < COUNT; i++) {
            const double mean = 1e4 * (1.0 + dice_uniform(&dice));

            a[i] = (float)mean;
            b[i] = (float)(mean * (1.0 + spreads[s] * dice_normal(&dice)));
        }
        check_sums(a, b, COUNT);
    }
}

static void sums_depend_on_nothing_but_the_numbers(void **state)
{
    enum { COUNT = 1003 };
    static float a[COUNT + 3], b[COUNT + 3];
    struct dice dice = dice_start(17);

    (void)state;
    fill_normal(&dice, a, COUNT);
    memmove(b + 3, a, COUNT * sizeof *a);
    const double one = ge_sum_squares(a, COUNT);
    const double other = ge_sum_squares(b + 3, COUNT);
    assert_memory_equal(&one, &other, sizeof one);
}

static void one_bad_entry_is_found_wherever_it_is(void **state)
{
    const float bad[] = {INFINITY, -INFINITY, NAN, -NAN};
    float a[70];

    (void)state;
    for (size_t count = 1; count <= COUNT_OF(a); count++) {
        for (size_t i = 0; i < count; i++)
            a[i] = i % 2 == 0 ? FLT_MAX : -FLT_TRUE_MIN;
        assert_true(ge_all_finite(a, count));
        for (size_t i = 0; i < count; i++) {
            const float good = a[i];

            for (size_t j = 0; j < COUNT_OF(bad); j++) {
                a[i] = bad[j];
                assert_false(ge_all_finite(a, count));
                assert_true(ge_all_finite(a, i)); /* what is before it */
            }
            a[i] = good;
        }
    }
    assert_true(ge_all_finite(a, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_replicas_by_hand),
        cmocka_unit_test(edge_and_knees_of_an_oblong_layer),
        cmocka_unit_test(errors_equal_the_jackknife_by_brute_force),
        cmocka_unit_test(errors_that_need_projections_are_unknown_without),
        cmocka_unit_test(two_replicas_have_a_variance_but_no_error),
        cmocka_unit_test(one_replica_knows_nothing),
        cmocka_unit_test(a_norm_that_is_all_noise_may_be_negative),
        cmocka_unit_test(sums_without_a_replica_are_those_of_the_others),
        cmocka_unit_test(sums_without_one_of_two_are_not_known),
        cmocka_unit_test(noise_scale_needs_a_norm_and_a_batch_size),
        cmocka_unit_test(all_scales_with_the_gradient),
        cmocka_unit_test(one_sample_is_smoothed_to_itself),
        cmocka_unit_test(a_weight_halves_with_every_half_life),
        cmocka_unit_test(smoothing_passes_over_what_is_not_known),
        cmocka_unit_test(a_smoothed_scale_finds_the_planted_one),
        cmocka_unit_test(ratios_have_the_mean_one_and_find_the_hot_replica),
        cmocka_unit_test(ratios_of_equal_replicas_are_unknown),
        cmocka_unit_test(planted_truth_is_found_without_bias),
        cmocka_unit_test(sums_are_right_at_every_length),
        cmocka_unit_test(squares_of_singles_do_not_overflow),
        cmocka_unit_test(differences_do_not_cancel),
        cmocka_unit_test(sums_depend_on_nothing_but_the_numbers),
        cmocka_unit_test(one_bad_entry_is_found_wherever_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
