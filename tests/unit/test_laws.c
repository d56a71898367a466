/* The laws, against the oracle of the reference, quadrature and their own
 * symmetries. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "laws.h"
#include "numbers.h"

static const double gammas[] = {1e-3, 0.1, 0.25, 1.0 / 3, 0.9, 1.0,
                                1.1,  3.0, 4.0,  10.0,    1e3};

/* Printed to six decimals; all of them must agree. */
static void the_oracle_agrees_to_its_last_digit(void **state)
{
    static const struct {
        double gamma, x, y, leak_left, leak_right, cos_left, cos_right;
        double exact, two_sided, hill;
    } table[] = {
        {0.25, 0.8, 1.510174, 16.852130, 4.963033, 0.529336, 0.389946, 0.206412,
         0.332530, 0.503380},
        {0.25, 1.5, 1.900292, 2.194805, 1.298701, 0.924962, 0.811246, 0.750372,
         0.799046, 0.616114},
        {1, 2, 2.5, 1.666667, 1.666667, 0.866025, 0.866025, 0.75, 0.789474,
         0.609756},
        {1, 5, 5.2, 1.083333, 1.083333, 0.979796, 0.979796, 0.96, 0.961479,
         0.871134},
        {4, 2, 3.162278, 2.083333, 5.333333, 0.612372, 0.774597, 0.474342,
         0.596432, 0.526316},
        {4, 10, 10.248902, 1.020508, 1.082033, 0.980385, 0.994838, 0.975324,
         0.976103, 0.921080},
    };
    const double digit = 0.5001e-6;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        const double gamma = table[i].gamma, x = table[i].x;
        const double y = ge_law_observed(gamma, x), z = y * y;

        assert_near(y, table[i].y, digit);
        assert_near(ge_law_leak_left(gamma, z), table[i].leak_left, digit);
        assert_near(ge_law_leak_right(gamma, z), table[i].leak_right, digit);
        assert_near(ge_law_exact_cos_left(gamma, x), table[i].cos_left, digit);
        assert_near(ge_law_exact_cos_right(gamma, x), table[i].cos_right,
                    digit);
        assert_near(ge_law_exact(gamma, x), table[i].exact, digit);
        assert_near(ge_law_two_sided(gamma, y), table[i].two_sided, digit);
        assert_near(ge_law_hill(ge_law_edge2(gamma), z, 1.0), table[i].hill,
                    digit);
    }
}

/* Two rows of the table are whole fractions. */
static void fractions_are_exact(void **state)
{
    (void)state;
    assert_close(ge_law_observed(1, 2), 2.5, 1e-15);
    assert_close(ge_law_leak_left(1, 6.25), 5.0 / 3.0, 1e-14);
    assert_close(ge_law_exact(1, 2), 0.75, 1e-15);
    assert_close(ge_law_two_sided(1, 2.5), 15.0 / 19.0, 1e-14);
    assert_close(ge_law_hill(4, 6.25, 1), 25.0 / 41.0, 1e-15);
    assert_close(ge_law_leak_right(4, 10), 16.0 / 3.0, 1e-14);
    assert_close(ge_law_edge2(4), 9.0, 1e-15);
    assert_close(ge_law_edge2(0.25), 2.25, 1e-15);
}

/* z^2 m'(z) = z^2 times the integral of dMP/(z - lambda)^2, by the midpoint
 * rule on lambda = 1 + gamma + 2 sqrt(gamma) cos(theta), which converges
 * geometrically; rows beyond columns put a mass at zero. */
static double leak_by_quadrature(double gamma, double z)
{
    enum { POINTS = 20000 };
    const double pi = 3.14159265358979324;
    double sum = gamma > 1.0 ? 1.0 - 1.0 / gamma : 0.0;

    for (int i = 0; i < POINTS; i++) {
        const double theta = pi * (i + 0.5) / POINTS;
        const double lambda = 1.0 + gamma + 2.0 * sqrt(gamma) * cos(theta);
        const double r = z / (z - lambda);

        sum += 2.0 / POINTS * sin(theta) * sin(theta) / lambda * r * r;
    }
    return sum;
}

static void leaks_equal_the_integral_of_the_density(void **state)
{
    static const double beyond[] = {1.02, 1.3, 2.0, 10.0, 1e3};

    (void)state;
    for (size_t g = 0; g < COUNT_OF(gammas); g++) {
        for (size_t i = 0; i < COUNT_OF(beyond); i++) {
            const double gamma = gammas[g];
            const double z = ge_law_edge2(gamma) * beyond[i];
            const double left = leak_by_quadrature(gamma, z);

            assert_close(ge_law_leak_left(gamma, z), left, 1e-8);
            assert_close(ge_law_leak_right(gamma, z), gamma * left + 1 - gamma,
                         1e-8);
        }
    }
}

static void true_of_observed_is_where_it_came_from(void **state)
{
    static const double beyond[] = {1.05, 1.5, 2.0, 7.0, 1e2, 1e4, 1e7};

    (void)state;
    for (size_t g = 0; g < COUNT_OF(gammas); g++) {
        for (size_t i = 0; i < COUNT_OF(beyond); i++) {
            const double gamma = gammas[g];
            const double x = sqrt(sqrt(gamma)) * beyond[i];
            const double y = ge_law_observed(gamma, x);

            assert_true(y > x);
            assert_true(y * y > ge_law_edge2(gamma));
            assert_close(ge_law_true(gamma, y), x, 1e-11);
        }
    }
}

static void nothing_is_known_at_or_under_the_edge(void **state)
{
    static const double parts[] = {1.0, 1.0 - 1e-9, 0.5, 0.0};

    (void)state;
    for (size_t g = 0; g < COUNT_OF(gammas); g++) {
        for (size_t i = 0; i < COUNT_OF(parts); i++) {
            const double gamma = gammas[g];
            const double z = ge_law_edge2(gamma) * parts[i];
            const double y = sqrt(z) * (1.0 - 1e-15);

            assert_nan(ge_law_leak_left(gamma, z));
            assert_nan(ge_law_leak_right(gamma, z));
            assert_nan(ge_law_two_sided(gamma, y));
            assert_nan(ge_law_true(gamma, y));
        }
    }
}

static void just_above_the_edge_all_is_defined(void **state)
{
    (void)state;
    for (size_t g = 0; g < COUNT_OF(gammas); g++) {
        const double gamma = gammas[g];
        const double edge = ge_law_edge2(gamma);
        double z = nextafter(edge, (double)INFINITY);

        for (int step = 0; step < 40; step++, z += z - edge) {
            assert_true(ge_law_leak_left(gamma, z) > 1.0);
            assert_true(ge_law_two_sided(gamma, sqrt(z) * (1 + 1e-15)) >= 0.0);
            assert_true(ge_law_true(gamma, sqrt(z) * (1 + 1e-15)) > 0.0);
        }
    }
}

static void no_value_goes_in_no_value_comes_out(void **state)
{
    const double nan = (double)NAN;

    (void)state;
    assert_nan(ge_law_leak_left(1, nan));
    assert_nan(ge_law_leak_right(1, nan));
    assert_nan(ge_law_two_sided(1, nan));
    assert_nan(ge_law_exact(1, nan));
    assert_nan(ge_law_observed(1, nan));
    assert_nan(ge_law_true(1, nan));
    assert_nan(ge_law_hill(nan, 1, 1));
    assert_nan(ge_law_hill(1, nan, 1));
}

/* The next terms are C_L = 1 + 2/z + 3 (1 + gamma)/z^2 ... */
static void strong_modes_do_not_cancel(void **state)
{
    (void)state;
    for (size_t g = 0; g < COUNT_OF(gammas); g++) {
        const double gamma = gammas[g], y = 1e8;

        assert_near(ge_law_leak_left(gamma, y * y), 1.0, 1e-12);
        assert_near(ge_law_leak_right(gamma, y * y), 1.0, 1e-12);
        assert_near(ge_law_two_sided(gamma, y), 1.0, 1e-12);
        assert_near(ge_law_exact(gamma, y), 1.0, 1e-12);
        assert_close(ge_law_true(gamma, y), y, 1e-12);
        assert_close(ge_law_observed(gamma, y), y, 1e-12);

        const double z = 1e8 * (1.0 + gamma);
        assert_near(ge_law_leak_left(gamma, z) - 1.0,
                    2.0 / z + 3.0 * (1.0 + gamma) / z / z, 2e-15);
    }
}

/* The transposed layer: gamma -> 1/gamma, every x and y by sqrt(gamma). */
static void a_transposed_layer_swaps_its_sides(void **state)
{
    static const double beyond[] = {0.7, 1.1, 1.7, 20.0};

    (void)state;
    for (size_t g = 0; g < COUNT_OF(gammas); g++) {
        for (size_t i = 0; i < COUNT_OF(beyond); i++) {
            const double gamma = gammas[g], turned = 1.0 / gamma;
            const double x = sqrt(sqrt(gamma)) * beyond[i];
            const double xt = x / sqrt(gamma);
            const double y = ge_law_observed(gamma, x), yt = y / sqrt(gamma);

            assert_near(ge_law_exact_cos_left(gamma, x),
                        ge_law_exact_cos_right(turned, xt), 1e-12);
            assert_near(ge_law_exact_cos_right(gamma, x),
                        ge_law_exact_cos_left(turned, xt), 1e-12);
            assert_close(ge_law_observed(turned, xt), yt, 1e-12);
            if (beyond[i] < 1.0)
                continue;
            assert_close(ge_law_leak_left(gamma, y * y),
                         ge_law_leak_right(turned, yt * yt), 1e-9);
            assert_close(ge_law_two_sided(gamma, y),
                         ge_law_two_sided(turned, yt), 1e-9);
        }
    }
}

static void the_exact_law_rises_from_zero_to_one(void **state)
{
    (void)state;
    for (size_t g = 0; g < COUNT_OF(gammas); g++) {
        const double gamma = gammas[g], threshold = sqrt(sqrt(gamma));
        double before = 0.0;

        assert_true(ge_law_exact(gamma, 0.0) == 0.0);
        assert_true(ge_law_exact(gamma, threshold * (1 - 1e-12)) == 0.0);
        for (double x = threshold * 1.001; x < 1e6; x *= 1.5) {
            const double echo = ge_law_exact(gamma, x);

            assert_true(echo > before && echo <= 1.0);
            before = echo;
        }
        assert_near(ge_law_exact(gamma, 1e200), 1.0, 0.0);
    }
}

/* With the isotropic leakage of a layer of rows = gamma and cols = 1. */
static void the_mode_laws_become_the_isotropic_ones(void **state)
{
    static const double beyond[] = {0.5, 1.001, 1.3, 3.0, 100.0};

    (void)state;
    for (size_t g = 0; g < COUNT_OF(gammas); g++) {
        for (size_t i = 0; i < COUNT_OF(beyond); i++) {
            const double gamma = gammas[g];
            const double x = sqrt(sqrt(gamma)) * beyond[i];

            assert_near(ge_law_mode_closed(gamma, 1.0, x),
                        ge_law_exact(gamma, x), 1e-13);
            assert_close(ge_law_mode_first(gamma, 1.0, x),
                         sqrt(ge_law_hill(gamma, x * x, 1.0) *
                              ge_law_hill(1.0, x * x, 1.0)),
                         1e-13);
        }
    }
}

static void the_mode_laws_do_not_depend_on_the_unit(void **state)
{
    static const double units[] = {1e-120, 1e-30, 1.0, 1e30, 1e120};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(units); i++) {
        const double c = units[i], c2 = c * c;

        assert_close(ge_law_mode_first(3.0 * c2, 8.0 * c2, c), 1.0 / 6.0,
                     1e-12);
        assert_close(ge_law_mode_closed(c2, 2.0 * c2, 2.0 * c),
                     14.0 / 4.0 / sqrt(30.0), 1e-12);
        assert_true(ge_law_mode_closed(2.0 * c2, 2.0 * c2, c) == 0.0);
    }
}

static void a_mode_without_leakage_echoes_fully(void **state)
{
    const double nan = (double)NAN;

    (void)state;
    assert_true(ge_law_mode_first(0.0, 0.0, 2.0) == 1.0);
    assert_true(ge_law_mode_closed(0.0, 0.0, 2.0) == 1.0);
    assert_nan(ge_law_mode_first(nan, 1.0, 1.0));
    assert_nan(ge_law_mode_first(1.0, nan, 1.0));
    assert_nan(ge_law_mode_first(1.0, 1.0, nan));
    assert_nan(ge_law_mode_closed(nan, 1.0, 1.0));
    assert_nan(ge_law_mode_closed(1.0, nan, 1.0));
    assert_nan(ge_law_mode_closed(1.0, 1.0, nan));
}

static void the_hill_law_has_its_knee_at_tau(void **state)
{
    (void)state;
    assert_close(ge_law_hill(3.0, 3.0, 1.0), 0.5, 1e-15);
    assert_close(ge_law_hill(3.0, 3.0, 2.0), 0.25, 1e-15);
    assert_close(ge_law_hill(3.0, 1.0, 0.5), 0.5, 1e-15);
    assert_near(ge_law_hill(0.0, 1.0, 1.0), 1.0, 0.0);
    assert_near(ge_law_hill(1.0, 0.0, 1.0), 0.0, 0.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_oracle_agrees_to_its_last_digit),
        cmocka_unit_test(fractions_are_exact),
        cmocka_unit_test(leaks_equal_the_integral_of_the_density),
        cmocka_unit_test(true_of_observed_is_where_it_came_from),
        cmocka_unit_test(nothing_is_known_at_or_under_the_edge),
        cmocka_unit_test(just_above_the_edge_all_is_defined),
        cmocka_unit_test(no_value_goes_in_no_value_comes_out),
        cmocka_unit_test(strong_modes_do_not_cancel),
        cmocka_unit_test(a_transposed_layer_swaps_its_sides),
        cmocka_unit_test(the_exact_law_rises_from_zero_to_one),
        cmocka_unit_test(the_mode_laws_become_the_isotropic_ones),
        cmocka_unit_test(the_mode_laws_do_not_depend_on_the_unit),
        cmocka_unit_test(a_mode_without_leakage_echoes_fully),
        cmocka_unit_test(the_hill_law_has_its_knee_at_tau),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
