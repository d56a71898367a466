/* The knee tau2 and the exponent q, from points of which both are known. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fit.h"
#include "numbers.h"

enum { MOST = 8 };

static const double unknown = (double)NAN;

/* Points that lie on echo = (1 + tau2/s^2)^-q, s from 8 knees down to 1/2. */
static size_t on_the_law(struct ge_fit_point *points, double tau2, double q,
                         double se)
{
    for (size_t i = 0; i < MOST; i++) {
        const double s = 8.0 * pow(0.67, (double)i) * sqrt(tau2);

        points[i] = (struct ge_fit_point){
            .s = s, .echo = pow(1.0 + tau2 / (s * s), -q), .se = se};
    }
    return MOST;
}

static const enum ge_fit_weight weights[] = {GE_WEIGHT_DELTA, GE_WEIGHT_EQUAL};

static void the_knee_of_points_on_the_law_is_read_back(void **state)
{
    (void)state;
    for (double tau2 = 1e-24; tau2 < 2e24; tau2 *= 1e4) {
        struct ge_fit_point points[MOST];

        for (size_t w = 0; w < COUNT_OF(weights); w++) {
            on_the_law(points, tau2, 1.0, 0.01);
            for (size_t count = 2; count <= MOST; count++)
                assert_close(ge_fit_tau2(points, count, weights[w]), tau2,
                             1e-12);
        }
    }
}

static void the_exponent_of_points_on_the_law_is_read_back(void **state)
{
    static const double exponents[] = {0.25, 0.5, 1.0, 1.5, 3.0};

    (void)state;
    for (double tau2 = 1e-24; tau2 < 2e24; tau2 *= 1e4) {
        for (size_t i = 0; i < COUNT_OF(exponents); i++) {
            struct ge_fit_point points[MOST];

            on_the_law(points, tau2, exponents[i], 0.01);
            for (size_t w = 0; w < COUNT_OF(weights); w++)
                for (size_t count = 2; count <= MOST; count++)
                    assert_close(ge_fit_q(points, count, weights[w]),
                                 exponents[i], 1e-4);
        }
    }
}

/* The scan runs in units of the first mode: it must not matter which it is. */
static void the_order_of_the_modes_does_not_matter(void **state)
{
    struct dice dice = dice_start(71);
    struct ge_fit_point points[MOST], turned[MOST];

    (void)state;
    on_the_law(points, 3.0, 0.8, 0.01);
    for (size_t i = 0; i < MOST; i++) {
        points[i].echo *= 1.0 + 0.01 * dice_normal(&dice);
        points[i].se = 0.005 + 0.01 * dice_uniform(&dice);
    }
    for (size_t by = 1; by < MOST; by++) {
        for (size_t i = 0; i < MOST; i++)
            turned[i] = points[(i + by) % MOST];
        for (size_t w = 0; w < COUNT_OF(weights); w++) {
            assert_close(ge_fit_tau2(turned, MOST, weights[w]),
                         ge_fit_tau2(points, MOST, weights[w]), 1e-12);
            assert_close(ge_fit_q(turned, MOST, weights[w]),
                         ge_fit_q(points, MOST, weights[w]), 1e-6);
        }
    }
}

static void fewer_than_two_modes_fit_nothing(void **state)
{
    struct ge_fit_point points[MOST];

    (void)state;
    on_the_law(points, 1.0, 1.0, 0.01);
    for (size_t w = 0; w < COUNT_OF(weights); w++) {
        for (size_t count = 0; count < 2; count++) {
            assert_nan(ge_fit_tau2(points, count, weights[w]));
            assert_nan(ge_fit_q(points, count, weights[w]));
        }
    }
}

/* The definition of both regressions, in plain sums over all points. */
static void fits_equal_the_regression_they_are_called(void **state)
{
    struct dice dice = dice_start(72);

    (void)state;
    for (int draw = 0; draw < 100; draw++) {
        struct ge_fit_point points[MOST];
        double xy[2] = {0}, xx[2] = {0};

        on_the_law(points, 2.0, 1.0, 0.01);
        for (size_t i = 0; i < MOST; i++) {
            struct ge_fit_point *p = &points[i];
            const double x = 1.0 / (p->s * p->s);

            p->se = 0.002 + 0.02 * dice_uniform(&dice);
            p->echo = fmin(p->echo * exp(0.05 * dice_normal(&dice)), 1.0);
            const double w = pow(p->echo, 4.0) / (p->se * p->se);
            const double y = 1.0 / p->echo - 1.0;

            xy[0] += w * x * y;
            xx[0] += w * x * x;
            xy[1] += x * y;
            xx[1] += x * x;
        }
        for (size_t w = 0; w < COUNT_OF(weights); w++)
            assert_close(ge_fit_tau2(points, MOST, weights[w]), xy[w] / xx[w],
                         1e-12);
    }
}

/* What is left of log echo = -q log(1 + tau2/s^2), to be least. */
static double square_left(const struct ge_fit_point *points, size_t count,
                          bool equal, double log_tau2, double *q)
{
    double ll = 0.0, le = 0.0, sum = 0.0;

    for (size_t pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < count; i++) {
            const struct ge_fit_point *p = &points[i];
            const double w = equal ? 1.0 : pow(p->echo / p->se, 2.0);
            const double l = log(1.0 + exp(log_tau2) / (p->s * p->s));

            if (pass == 0) {
                ll += w * l * l;
                le -= w * l * log(p->echo);
            } else {
                sum += w * pow(log(p->echo) + le / ll * l, 2.0);
            }
        }
    }
    *q = le / ll;
    return sum;
}

static void the_exponent_leaves_the_least_squares(void **state)
{
    struct dice dice = dice_start(73);

    (void)state;
    for (int draw = 0; draw < 20; draw++) {
        struct ge_fit_point points[MOST];

        on_the_law(points, 2.0, 0.7, 0.01);
        for (size_t i = 0; i < MOST; i++) {
            points[i].se = 0.002 + 0.02 * dice_uniform(&dice);
            points[i].echo *= exp(points[i].se * dice_normal(&dice));
        }
        for (size_t w = 0; w < COUNT_OF(weights); w++) {
            const bool equal = weights[w] == GE_WEIGHT_EQUAL;
            double least = (double)INFINITY, found = 0.0, at = 0.0, q = 0.0;

            for (double l = -12.0; l < 8.0; l += 1e-3) {
                const double left = square_left(points, MOST, equal, l, &q);

                if (left < least) {
                    least = left;
                    found = q;
                    at = l;
                }
            }
            square_left(points, MOST, equal, at - 1e-3, &q);
            const double wide = fabs(q - found); /* of one step of the scan */

            assert_near(ge_fit_q(points, MOST, weights[w]), found,
                        2.0 * wide + 1e-9);
        }
    }
}

static void an_outlier_of_large_error_moves_only_the_equal_fit(void **state)
{
    struct ge_fit_point points[MOST];

    (void)state;
    on_the_law(points, 5.0, 1.0, 0.001);
    points[MOST - 1].echo *= 0.25;
    points[MOST - 1].se = 1.0;
    assert_close(ge_fit_tau2(points, MOST, GE_WEIGHT_DELTA), 5.0, 1e-4);
    assert_true(ge_fit_tau2(points, MOST, GE_WEIGHT_EQUAL) > 10.0);
    assert_close(ge_fit_q(points, MOST, GE_WEIGHT_DELTA), 1.0, 1e-2);
    assert_false(fabs(ge_fit_q(points, MOST, GE_WEIGHT_EQUAL) - 1.0) < 0.1);
}

/* K = 2: no errors are known. The delta method then has equal errors. */
static void unknown_errors_count_as_equal(void **state)
{
    struct dice dice = dice_start(74);
    struct ge_fit_point points[MOST];
    double tau2 = 0.0, q = 0.0;

    (void)state;
    on_the_law(points, 5.0, 1.0, 0.02);
    for (size_t i = 0; i < MOST; i++)
        points[i].echo *= 1.0 - 0.05 * dice_uniform(&dice);
    tau2 = ge_fit_tau2(points, MOST, GE_WEIGHT_DELTA);
    q = ge_fit_q(points, MOST, GE_WEIGHT_DELTA);
    for (size_t i = 0; i < MOST; i++)
        points[i].se = unknown;
    assert_close(ge_fit_tau2(points, MOST, GE_WEIGHT_DELTA), tau2, 1e-12);
    assert_close(ge_fit_q(points, MOST, GE_WEIGHT_DELTA), q, 1e-6);
}

static void one_unknown_error_among_known_ones_does_not_break_the_fit(
    void **state)
{
    struct ge_fit_point points[MOST];

    (void)state;
    on_the_law(points, 5.0, 1.0, 0.02);
    points[3].se = unknown;
    assert_close(ge_fit_tau2(points, MOST, GE_WEIGHT_DELTA), 5.0, 1e-12);
    assert_close(ge_fit_q(points, MOST, GE_WEIGHT_DELTA), 1.0, 1e-4);
}

static void an_error_of_zero_does_not_break_the_fit(void **state)
{
    struct ge_fit_point points[MOST];

    (void)state;
    on_the_law(points, 5.0, 0.6, 0.0);
    assert_close(ge_fit_q(points, MOST, GE_WEIGHT_DELTA), 0.6, 1e-4);
    on_the_law(points, 5.0, 1.0, 0.0);
    assert_close(ge_fit_tau2(points, MOST, GE_WEIGHT_DELTA), 5.0, 1e-12);
    /* One of several: it has its way, but in finite numbers. */
    for (size_t i = 1; i < MOST; i++) {
        points[i].se = 0.01;
        points[i].echo *= 0.9;
    }
    assert_close(ge_fit_tau2(points, MOST, GE_WEIGHT_DELTA), 5.0, 1e-6);
    assert_true(isfinite(ge_fit_q(points, MOST, GE_WEIGHT_DELTA)));
}

static void what_the_modes_do_not_determine_is_not_given(void **state)
{
    struct ge_fit_point points[MOST];

    (void)state;
    for (size_t w = 0; w < COUNT_OF(weights); w++) {
        /* No loss anywhere: any q will do with a tau2 of nothing. */
        on_the_law(points, 1.0, 1.0, 0.01);
        for (size_t i = 0; i < MOST; i++)
            points[i].echo = 1.0;
        assert_near(ge_fit_tau2(points, MOST, weights[w]), 0.0, 0.0);
        assert_nan(ge_fit_q(points, MOST, weights[w]));
        /* A power of s, as if tau2 were infinite. */
        for (size_t i = 0; i < MOST; i++)
            points[i].echo = 1e-6 * points[i].s;
        assert_nan(ge_fit_q(points, MOST, weights[w]));
        /* All far above the knee: only q tau2 is seen. */
        for (size_t i = 0; i < MOST; i++) {
            points[i].s = 1e6 * pow(0.9, (double)i);
            points[i].echo = exp(-1.0 / (points[i].s * points[i].s));
        }
        assert_nan(ge_fit_q(points, MOST, weights[w]));
    }
}

/* Two numbers cannot be had from one place on the curve, however much the
 * echoes differ there. */
static void modes_at_one_place_do_not_determine_q(void **state)
{
    struct dice dice = dice_start(75);

    (void)state;
    for (int draw = 0; draw < 50; draw++) {
        struct ge_fit_point points[MOST];
        const double s = 0.5 + 4.0 * dice_uniform(&dice);
        const double echo = 0.2 + 0.7 * dice_uniform(&dice);

        for (size_t i = 0; i < MOST; i++)
            points[i] = (struct ge_fit_point){
                s, draw % 2 == 0 ? echo : 0.2 + 0.7 * dice_uniform(&dice),
                0.01};
        for (size_t w = 0; w < COUNT_OF(weights); w++)
            for (size_t count = 2; count <= MOST; count++)
                assert_nan(ge_fit_q(points, count, weights[w]));
        /* One that lies elsewhere is enough, wherever it stands. */
        for (size_t i = 0; i < MOST; i++) {
            struct ge_fit_point other[MOST];

            for (size_t j = 0; j < MOST; j++) {
                other[j] = points[j];
                other[j].s *= j == i ? 3.0 : 1.0;
                other[j].echo = pow(1.0 + s * s / pow(other[j].s, 2.0), -0.8);
            }
            for (size_t w = 0; w < COUNT_OF(weights); w++)
                assert_close(ge_fit_q(other, MOST, weights[w]), 0.8, 1e-4);
        }
    }
}

static void the_unit_of_the_gradient_does_not_matter(void **state)
{
    struct dice dice = dice_start(76);
    struct ge_fit_point points[MOST], scaled[MOST];

    (void)state;
    on_the_law(points, 1.0, 0.8, 0.01);
    for (size_t i = 0; i < MOST; i++) {
        points[i].echo *= exp(0.02 * dice_normal(&dice));
        points[i].se = 0.002 + 0.02 * dice_uniform(&dice);
    }
    for (double unit = 1e-12; unit < 2e12; unit *= 1e3) {
        for (size_t i = 0; i < MOST; i++) {
            scaled[i] = points[i];
            scaled[i].s *= unit;
        }
        for (size_t w = 0; w < COUNT_OF(weights); w++) {
            assert_close(ge_fit_tau2(scaled, MOST, weights[w]),
                         ge_fit_tau2(points, MOST, weights[w]) * unit * unit,
                         1e-12);
            assert_close(ge_fit_q(scaled, MOST, weights[w]),
                         ge_fit_q(points, MOST, weights[w]), 1e-6);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_knee_of_points_on_the_law_is_read_back),
        cmocka_unit_test(the_exponent_of_points_on_the_law_is_read_back),
        cmocka_unit_test(the_order_of_the_modes_does_not_matter),
        cmocka_unit_test(fewer_than_two_modes_fit_nothing),
        cmocka_unit_test(fits_equal_the_regression_they_are_called),
        cmocka_unit_test(the_exponent_leaves_the_least_squares),
        cmocka_unit_test(an_outlier_of_large_error_moves_only_the_equal_fit),
        cmocka_unit_test(unknown_errors_count_as_equal),
        cmocka_unit_test(
            one_unknown_error_among_known_ones_does_not_break_the_fit),
        cmocka_unit_test(an_error_of_zero_does_not_break_the_fit),
        cmocka_unit_test(what_the_modes_do_not_determine_is_not_given),
        cmocka_unit_test(modes_at_one_place_do_not_determine_q),
        cmocka_unit_test(the_unit_of_the_gradient_does_not_matter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
