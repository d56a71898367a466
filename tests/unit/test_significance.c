/* Is a mode signal? The statistic against its definition, the threshold against
 * the normal distribution's quantiles. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "matrices.h"
#include "numbers.h"
#include "significance.h"

static const float gone = NAN;

static void projections_are_condensed_to_mean_and_variance(void **state)
{
    const float p[] = {1.0F, 2.0F, 4.0F, 9.0F};
    struct ge_cross cross;

    (void)state;
    ge_cross_condense(p, 4, &cross);
    assert_near(cross.mean, 4.0, 1e-15);
    assert_near(cross.variance, 38.0 / 3.0, 1e-14);
    assert_near(cross.partners, 4.0, 0.0);
}

static void partners_that_are_missing_do_not_count(void **state)
{
    const float p[] = {gone, 1.0F, gone, 2.0F, 4.0F, 9.0F, gone};
    struct ge_cross cross;

    (void)state;
    ge_cross_condense(p, COUNT_OF(p), &cross);
    assert_near(cross.mean, 4.0, 1e-15);
    assert_near(cross.variance, 38.0 / 3.0, 1e-14);
    assert_near(cross.partners, 4.0, 0.0);
}

static void what_few_partners_cannot_tell_is_not_a_number(void **state)
{
    const float p[] = {gone, -3.0F, gone};
    struct ge_cross cross;

    (void)state;
    ge_cross_condense(p, 3, &cross); /* one */
    assert_near(cross.mean, -3.0, 0.0);
    assert_nan(cross.variance);
    assert_near(cross.partners, 1.0, 0.0);
    for (size_t partners = 0; partners <= 1; partners++) { /* none */
        ge_cross_condense(p, partners, &cross);
        assert_nan(cross.mean);
        assert_nan(cross.variance);
        assert_near(cross.partners, 0.0, 0.0);
    }
}

static void a_small_spread_on_a_large_mean_is_not_lost(void **state)
{
    const float p[] = {16777210.0F, 16777212.0F, 16777214.0F};
    struct ge_cross cross;

    (void)state;
    ge_cross_condense(p, 3, &cross);
    assert_near(cross.mean, 16777212.0, 0.0);
    assert_near(cross.variance, 4.0, 1e-12);
}

/* t from the projections themselves; on the diagonal and where a partner is
 * missing, p is not a number. */
static double t_by_hand(const double *p, size_t k, double assumed)
{
    double sum = 0.0, variance = 0.0;

    for (size_t a = 0; a < k; a++) {
        double partners = 0.0, mean = 0.0, square = 0.0;

        for (size_t b = 0; b < k; b++)
            partners += isnan(p[a * k + b]) ? 0.0 : 1.0;
        for (size_t b = 0; b < k; b++)
            mean += isnan(p[a * k + b]) ? 0.0 : p[a * k + b] / partners;
        for (size_t b = 0; b < k; b++)
            square += isnan(p[a * k + b]) ? 0.0 : pow(p[a * k + b] - mean, 2.0);
        sum += mean;
        /* (P - 1) times the variance is the sum of squares. */
        variance += (square + 2.0 * assumed) / (partners + 1.0) / partners;
    }
    return sum / sqrt(variance);
}

enum { MOST = 9, STRIDE = 3 };

/* Each replica's modes on the next `partners` of the circle, less those who
 * are missing. */
static double t_of_circle(struct dice *dice, size_t k, size_t partners,
                          const bool *missing, double assumed, double *by_hand)
{
    struct ge_cross cross[MOST * STRIDE];
    double p[MOST * MOST];
    size_t rows = 0;

    for (size_t a = 0; a < k; a++) {
        float seen[MOST];

        if (missing[a])
            continue;
        for (size_t b = 0; b < k; b++) {
            const size_t ahead = (b + k - a) % k;

            seen[b] = ahead == 0 || ahead > partners || missing[b]
                          ? gone
                          : (float)(0.5 + dice_normal(dice));
        }
        size_t col = 0;

        for (size_t b = 0; b < k; b++)
            if (!missing[b])
                p[rows * MOST + col++] = (double)seen[b];
        ge_cross_condense(seen, k, &cross[rows * STRIDE]);
        cross[rows * STRIDE + 1] = cross[rows * STRIDE + 2] =
            (struct ge_cross){1e9, 1e9, 1e9};
        rows++;
    }
    for (size_t a = 0; a < rows; a++) /* close up */
        for (size_t b = 0; b < rows; b++)
            p[a * rows + b] = p[a * MOST + b];
    *by_hand = t_by_hand(p, rows, assumed);
    return ge_mode_t(cross, rows, STRIDE, assumed);
}

static void t_equals_its_formula(void **state)
{
    static const double assumed[] = {0.0, 1e-3, 1.0, 30.0};
    static const bool none[MOST] = {false};
    struct dice dice = dice_start(91);

    (void)state;
    for (size_t k = 2; k <= MOST; k++) {
        for (size_t partners = 1; partners < k; partners++) {
            for (size_t i = 0; i < COUNT_OF(assumed); i++) {
                double by_hand = 0.0;
                const double t =
                    t_of_circle(&dice, k, partners, none, assumed[i], &by_hand);

                if (partners == 1 && assumed[i] == 0.0)
                    continue; /* nothing to compare with */
                assert_true(isfinite(t));
                assert_close(t, by_hand, 1e-12);
            }
        }
    }
}

/* Of two partners one may be missing: what is assumed stands in. */
static void a_missing_replica_does_not_cost_the_others_their_t(void **state)
{
    struct dice dice = dice_start(95);

    (void)state;
    for (size_t k = 4; k <= MOST; k++) {
        for (size_t partners = 2; partners < k; partners++) {
            for (size_t out = 0; out < k; out++) {
                bool missing[MOST] = {false};
                double by_hand = 0.0;

                missing[out] = true;
                const double t =
                    t_of_circle(&dice, k, partners, missing, 0.7, &by_hand);

                assert_true(isfinite(t));
                assert_close(t, by_hand, 1e-12);
            }
        }
    }
}

/* What is seen has weight P - 1, what is assumed 2. */
static void what_is_assumed_weighs_as_two_degrees_of_freedom(void **state)
{
    (void)state;
    assert_int_equal(GE_T_PRIOR, 2);
    for (size_t k = 3; k <= MOST; k++) {
        struct ge_cross cross[MOST];
        const double p = (double)k - 1.0;

        for (size_t a = 0; a < k; a++)
            cross[a] = (struct ge_cross){2.0, 5.0, p};
        const double v = ((p - 1.0) * 5.0 + 2.0 * 3.0) / (p + 1.0);

        assert_close(ge_mode_t(cross, k, 1, 3.0),
                     2.0 * (double)k / sqrt((double)k * v / p), 1e-14);
    }
}

static void t_has_no_unit_and_turns_with_the_sign(void **state)
{
    struct ge_cross cross[3] = {
        {2.0, 1.0, 2.0}, {3.0, 2.0, 2.0}, {1.0, 3.0, 2.0}};
    const double t = ge_mode_t(cross, 3, 1, 1.5);

    (void)state;
    /* v_a = (1 + 3)/3, (2 + 3)/3, (3 + 3)/3, of two partners each. */
    assert_close(t, 6.0 / sqrt(2.5), 1e-14);
    for (size_t a = 0; a < 3; a++) {
        cross[a].mean *= -1e30;
        cross[a].variance *= 1e60;
    }
    assert_close(ge_mode_t(cross, 3, 1, 1.5e60), -t, 1e-14);
}

static void two_replicas_go_by_the_assumed_variance(void **state)
{
    const float p[] = {gone, 3.0F}, q[] = {5.0F, gone};
    struct ge_cross cross[2];

    (void)state;
    ge_cross_condense(p, 2, &cross[0]);
    ge_cross_condense(q, 2, &cross[1]);
    assert_close(ge_mode_t(cross, 2, 1, 4.0), 8.0 / sqrt(8.0), 1e-14);
    assert_nan(ge_mode_t(cross, 2, 1, (double)NAN));
}

static void fewer_than_two_replicas_have_no_t(void **state)
{
    const struct ge_cross cross[1] = {{1.0, 1.0, 1.0}};

    (void)state;
    assert_nan(ge_mode_t(cross, 0, 1, 1.0));
    assert_nan(ge_mode_t(cross, 1, 1, 1.0));
}

/* ---- the variance that is assumed ---- */

enum { M = 12, N = 9, DRAWS = 20000 };

struct mean {
    double sum, square;
};

static void mean_add(struct mean *m, double value)
{
    m->sum += value / DRAWS;
    m->square += value * value / DRAWS;
}

static double mean_error(const struct mean *m)
{
    return sqrt((m->square - m->sum * m->sum) / DRAWS);
}

/* Draw noise with the deviations row[i] col[j] and compare the variance of
 * u' E v with what ||E v||^2, ||E' u||^2 and sigma2, means over as many draws,
 * give. */
static void assert_separable(struct dice *dice, const double *row,
                             const double *col, const double *u,
                             const double *v, const char *what)
{
    struct mean left = {0}, right = {0}, sigma2 = {0}, seen = {0};

    for (int draw = 0; draw < DRAWS; draw++) {
        double ev[M] = {0}, eu[N] = {0}, all = 0.0, p = 0.0;
        double ev2 = 0.0, eu2 = 0.0;

        for (size_t i = 0; i < M; i++) {
            for (size_t j = 0; j < N; j++) {
                const double e = row[i] * col[j] * dice_normal(dice);

                ev[i] += e * v[j];
                eu[j] += e * u[i];
                all += e * e;
            }
        }
        for (size_t i = 0; i < M; i++) {
            p += u[i] * ev[i];
            ev2 += ev[i] * ev[i];
        }
        for (size_t j = 0; j < N; j++)
            eu2 += eu[j] * eu[j];
        mean_add(&left, ev2);
        mean_add(&right, eu2);
        mean_add(&sigma2, all / (M * N));
        mean_add(&seen, p * p);
    }
    const double said =
        ge_separable_variance(left.sum, right.sum, M, N, sigma2.sum);
    const double relative =
        mean_error(&left) / left.sum + mean_error(&right) / right.sum +
        mean_error(&sigma2) / sigma2.sum + mean_error(&seen) / seen.sum;

    print_message("%s: said %.4g, seen %.4g +- %.2g\n", what, said, seen.sum,
                  mean_error(&seen));
    assert_near(said / seen.sum, 1.0, 3.0 * relative);
}

static void the_assumed_variance_is_that_of_isotropic_noise(void **state)
{
    struct dice dice = dice_start(92);
    double row[M], col[N];
    double *u = orthonormal(&dice, 1, M), *v = orthonormal(&dice, 1, N);

    (void)state;
    for (size_t i = 0; i < M; i++)
        row[i] = 1.5;
    for (size_t j = 0; j < N; j++)
        col[j] = 1.0;
    assert_separable(&dice, row, col, u, v, "isotropic");
    free(u);
    free(v);
}

static void the_assumed_variance_is_that_of_scaled_rows_and_columns(
    void **state)
{
    struct dice dice = dice_start(93);
    double row[M], col[N];
    double *u = orthonormal(&dice, 1, M), *v = orthonormal(&dice, 1, N);

    (void)state;
    for (size_t i = 0; i < M; i++)
        row[i] = exp(0.5 * dice_normal(&dice));
    for (size_t j = 0; j < N; j++)
        col[j] = exp(0.5 * dice_normal(&dice));
    assert_separable(&dice, row, col, u, v, "scaled");
    free(u);
    free(v);
}

/* Where noise modes are found: on the loud row and column. */
static void the_assumed_variance_holds_where_the_noise_is_loud(void **state)
{
    struct dice dice = dice_start(94);
    double row[M], col[N], u[M], v[N];

    (void)state;
    for (size_t i = 0; i < M; i++) {
        row[i] = i == 4 ? 5.0 : 1.0;
        u[i] = i == 4 ? sqrt(0.9) : sqrt(0.1 / (M - 1));
    }
    for (size_t j = 0; j < N; j++) {
        col[j] = j == 2 ? 5.0 : 1.0;
        v[j] = j == 2 ? sqrt(0.9) : sqrt(0.1 / (N - 1));
    }
    assert_separable(&dice, row, col, u, v, "loud");
}

/* ---- the threshold ---- */

static const double widening = 1.55;

/* 1 - Phi(z) = tail, by halving. */
static double quantile_by_halving(double tail)
{
    double low = 0.0, high = 40.0;

    for (int i = 0; i < 200; i++) {
        const double z = (low + high) / 2.0;

        *(erfc(z / sqrt(2.0)) / 2.0 > tail ? &low : &high) = z;
    }
    return low;
}

/* Of 1 - 0.05/modes, from tables. */
static void the_threshold_is_a_widened_normal_quantile(void **state)
{
    static const struct {
        size_t modes;
        double quantile;
    } table[] = {{1, 1.6448536270},   {2, 1.9599639845},   {5, 2.3263478740},
                 {16, 2.7343687865},  {50, 3.0902323062},  {64, 3.1628179656},
                 {512, 3.7250035156}, {4096, 4.2201492568}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        assert_near(quantile_by_halving(0.05 / (double)table[i].modes),
                    table[i].quantile, 1e-9); /* the ruler itself */
        assert_near(ge_mode_t_threshold(table[i].modes) / widening,
                    table[i].quantile, 1e-9);
    }
}

static void as_many_modes_as_can_be_configured_are_covered(void **state)
{
    double before = 0.0;

    (void)state;
    assert_near(ge_mode_t_threshold(0), ge_mode_t_threshold(1), 0.0);
    for (size_t modes = 1; modes <= 20000; modes++) {
        const double t = ge_mode_t_threshold(modes);

        assert_true(t > before);
        assert_close(t, widening * quantile_by_halving(0.05 / (double)modes),
                     1e-10);
        before = t;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(projections_are_condensed_to_mean_and_variance),
        cmocka_unit_test(partners_that_are_missing_do_not_count),
        cmocka_unit_test(what_few_partners_cannot_tell_is_not_a_number),
        cmocka_unit_test(a_small_spread_on_a_large_mean_is_not_lost),
        cmocka_unit_test(t_equals_its_formula),
        cmocka_unit_test(a_missing_replica_does_not_cost_the_others_their_t),
        cmocka_unit_test(what_is_assumed_weighs_as_two_degrees_of_freedom),
        cmocka_unit_test(t_has_no_unit_and_turns_with_the_sign),
        cmocka_unit_test(two_replicas_go_by_the_assumed_variance),
        cmocka_unit_test(fewer_than_two_replicas_have_no_t),
        cmocka_unit_test(the_assumed_variance_is_that_of_isotropic_noise),
        cmocka_unit_test(
            the_assumed_variance_is_that_of_scaled_rows_and_columns),
        cmocka_unit_test(the_assumed_variance_holds_where_the_noise_is_loud),
        cmocka_unit_test(the_threshold_is_a_widened_normal_quantile),
        cmocka_unit_test(as_many_modes_as_can_be_configured_are_covered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
