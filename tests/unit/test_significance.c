/* Is a mode signal? The statistic against its definition, the threshold against
 * tables of Student's t. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
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

/* t from the projections themselves, all partners with all. */
static double t_by_hand(const double *p, size_t k)
{
    double sum = 0.0, variance = 0.0;

    for (size_t a = 0; a < k; a++) {
        double mean = 0.0, square = 0.0;

        for (size_t b = 0; b < k; b++)
            mean += a == b ? 0.0 : p[a * k + b] / (double)(k - 1);
        for (size_t b = 0; b < k; b++)
            square += a == b ? 0.0 : pow(p[a * k + b] - mean, 2.0);
        sum += mean;
        variance += square / (double)(k - 2) / (double)(k - 1);
    }
    return sum / sqrt(variance);
}

static void t_equals_its_formula(void **state)
{
    enum { MOST = 9, STRIDE = 3 };
    struct dice dice = dice_start(91);

    (void)state;
    for (size_t k = 3; k <= MOST; k++) {
        struct ge_cross cross[MOST * STRIDE];
        double p[MOST * MOST];

        for (size_t a = 0; a < k; a++) {
            float seen[MOST];

            for (size_t b = 0; b < k; b++) {
                seen[b] = (float)(0.5 + dice_normal(&dice));
                p[a * k + b] = (double)seen[b];
            }
            seen[a] = gone;
            ge_cross_condense(seen, k, &cross[a * STRIDE]);
            cross[a * STRIDE + 1] = cross[a * STRIDE + 2] =
                (struct ge_cross){1e9, 1e9, 1e9};
        }
        assert_close(ge_mode_t(cross, k, STRIDE, (double)NAN), t_by_hand(p, k),
                     1e-12);
    }
}

static void t_has_no_unit_and_turns_with_the_sign(void **state)
{
    struct ge_cross cross[3] = {
        {2.0, 1.0, 2.0}, {3.0, 2.0, 2.0}, {1.0, 3.0, 2.0}};
    const double t = ge_mode_t(cross, 3, 1, (double)NAN);

    (void)state;
    assert_close(t, 6.0 / sqrt(3.0), 1e-14);
    for (size_t a = 0; a < 3; a++) {
        cross[a].mean *= -1e30;
        cross[a].variance *= 1e60;
    }
    assert_close(ge_mode_t(cross, 3, 1, (double)NAN), -t, 1e-14);
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
    /* Three have a spread of their own. */
    const struct ge_cross three[3] = {
        {2.0, 1.0, 2.0}, {2.0, 1.0, 2.0}, {2.0, 1.0, 2.0}};

    assert_close(ge_mode_t(three, 3, 1, 1e9), 6.0 / sqrt(1.5), 1e-14);
}

static void fewer_than_two_replicas_have_no_t(void **state)
{
    const struct ge_cross cross[1] = {{1.0, 1.0, 1.0}};

    (void)state;
    assert_nan(ge_mode_t(cross, 0, 1, 1.0));
    assert_nan(ge_mode_t(cross, 1, 1, 1.0));
}

/* ---- the variance that is assumed for two replicas ---- */

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
 * u' E v with what the leaks and sigma2, means over as many draws, give. */
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
        mean_add(&left, ev2 - p * p);
        mean_add(&right, eu2 - p * p);
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

static void the_threshold_grows_with_modes_and_falls_with_replicas(void **state)
{
    (void)state;
    for (size_t k = 2; k <= 64; k++) {
        for (size_t modes = 0; modes <= 512; modes++) {
            const double t = ge_mode_t_threshold(k, modes);

            assert_true(t >= 5.0 && isfinite(t));
            if (modes > 0)
                assert_true(t >= ge_mode_t_threshold(k, modes - 1));
            if (k > 3)
                assert_true(t <= ge_mode_t_threshold(k - 1, modes));
        }
    }
    assert_near(ge_mode_t_threshold(64, 16), 5.0, 0.0);
    assert_true(ge_mode_t_threshold(3, 16) > ge_mode_t_threshold(4, 16));
}

struct entry {
    double modes; /* 0.05 / tail */
    double quantile;
};

static void check_table(size_t replicas, const struct entry *table,
                        size_t count, double tolerance)
{
    size_t checked = 0;

    for (size_t i = 0; i < count; i++) {
        const double threshold =
            ge_mode_t_threshold(replicas, (size_t)table[i].modes);

        if (threshold == 5.0)
            continue; /* the floor hides it */
        print_message("K = %zu, tail %g: %.4f for %.4f (%+.1f %%)\n", replicas,
                      0.05 / table[i].modes, threshold / 1.37,
                      table[i].quantile,
                      100.0 * (threshold / 1.37 / table[i].quantile - 1.0));
        assert_close(threshold / 1.37, table[i].quantile, tolerance);
        checked++;
    }
    assert_true(checked >= 2);
}

/* Tails of 0.01, 0.005, 0.0025, 0.001, 0.0005. */
static void students_quantiles_are_those_of_the_tables(void **state)
{
    static const struct entry dof3[] = {{5.0, 4.5407},
                                        {10.0, 5.8409},
                                        {20.0, 7.4533},
                                        {50.0, 10.2145},
                                        {100.0, 12.9240}};
    static const struct entry dof8[] = {
        {20.0, 3.8325}, {50.0, 4.5008}, {100.0, 5.0413}};
    static const struct entry dof15[] = {{50.0, 3.7328}, {100.0, 4.0728}};

    (void)state;
    check_table(4, dof8, COUNT_OF(dof8), 0.01);
    check_table(5, dof15, COUNT_OF(dof15), 0.01);
    check_table(3, dof3, COUNT_OF(dof3), 0.03);
}

/* 1 - F(t) of three degrees of freedom has a closed form. */
static double tail_of_three(double t)
{
    const double x = t / sqrt(3.0), pi = acos(-1.0);

    return 0.5 - (x / (1.0 + x * x) + atan(x)) / pi;
}

static double tail_of_normal(double t)
{
    return erfc(t / sqrt(2.0)) / 2.0;
}

static void as_many_modes_as_can_be_configured_are_covered(void **state)
{
    (void)state;
    for (size_t modes = 2; modes <= 512; modes *= 2) {
        const double tail = 0.05 / (double)modes;
        double low = 0.0, high = 100.0;

        for (int i = 0; i < 100; i++) {
            const double t = (low + high) / 2.0;

            *(tail_of_three(t) > tail ? &low : &high) = t;
        }
        print_message("K = 3, %zu modes: %.4f for %.4f\n", modes,
                      ge_mode_t_threshold(3, modes) / 1.37, low);
        assert_close(ge_mode_t_threshold(3, modes), fmax(5.0, 1.37 * low),
                     0.03);
    }
}

static void two_replicas_go_by_the_normal_distribution(void **state)
{
    static const struct entry normal[] = {
        {500.0, 3.7190}, {5000.0, 4.2649}, {50000.0, 4.7534}};

    (void)state;
    check_table(2, normal, COUNT_OF(normal), 1e-4);
    for (size_t modes = 500; modes <= 500000; modes *= 10)
        assert_close(tail_of_normal(ge_mode_t_threshold(2, modes) / 1.37),
                     0.05 / (double)modes, 1e-8);
    assert_near(ge_mode_t_threshold(2, 16), 5.0, 0.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(projections_are_condensed_to_mean_and_variance),
        cmocka_unit_test(partners_that_are_missing_do_not_count),
        cmocka_unit_test(what_few_partners_cannot_tell_is_not_a_number),
        cmocka_unit_test(a_small_spread_on_a_large_mean_is_not_lost),
        cmocka_unit_test(t_equals_its_formula),
        cmocka_unit_test(t_has_no_unit_and_turns_with_the_sign),
        cmocka_unit_test(two_replicas_go_by_the_assumed_variance),
        cmocka_unit_test(fewer_than_two_replicas_have_no_t),
        cmocka_unit_test(the_assumed_variance_is_that_of_isotropic_noise),
        cmocka_unit_test(
            the_assumed_variance_is_that_of_scaled_rows_and_columns),
        cmocka_unit_test(the_assumed_variance_holds_where_the_noise_is_loud),
        cmocka_unit_test(
            the_threshold_grows_with_modes_and_falls_with_replicas),
        cmocka_unit_test(students_quantiles_are_those_of_the_tables),
        cmocka_unit_test(as_many_modes_as_can_be_configured_are_covered),
        cmocka_unit_test(two_replicas_go_by_the_normal_distribution),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
