/* The cross-check echo from all pairs, against pairs made of known echoes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "numbers.h"
#include "reverb.h"

enum { MOST = 10 };

/* Z_ab = zeta_a zeta_b; what is on the diagonal is nobody's business. */
static double pairs_of(struct dice *dice, size_t k, double low, double *z)
{
    double zeta[MOST], mean = 0.0;

    for (size_t a = 0; a < k; a++) {
        zeta[a] = low + (1.0 - low) * dice_uniform(dice);
        mean += zeta[a] / (double)k;
    }
    for (size_t a = 0; a < k; a++)
        for (size_t b = 0; b < k; b++)
            z[a * k + b] = a == b ? (double)NAN : zeta[a] * zeta[b];
    return mean;
}

static void pairs_of_known_echoes_give_their_mean(void **state)
{
    struct dice dice = dice_start(81);

    (void)state;
    for (size_t k = 3; k <= MOST; k++) {
        for (int draw = 0; draw < 20; draw++) {
            double z[MOST * MOST];
            const double mean = pairs_of(&dice, k, 0.05, z);

            assert_close(ge_echo_reverb(z, k), mean, 1e-13);
        }
    }
}

/* The published denominator sums over the pairs with the pivot, too. */
static double as_published(const double *z, size_t k)
{
    double sum = 0.0;

    for (size_t p = 0; p < k; p++) {
        double above = 0.0, below = 0.0;

        for (size_t a = 0; a < k; a++) {
            for (size_t b = 0; b < k; b++) {
                if (a == b)
                    continue;
                if (a != p && b != p)
                    above += z[a * k + p] * z[p * k + b] * z[a * k + b];
                below += z[a * k + b] * z[a * k + b];
            }
        }
        sum += sqrt(above / below);
    }
    return sum / (double)k;
}

static void the_published_form_would_be_low(void **state)
{
    (void)state;
    for (size_t k = 3; k <= MOST; k++) {
        double z[MOST * MOST];

        for (size_t i = 0; i < k * k; i++)
            z[i] = 0.6 * 0.6;
        assert_close(ge_echo_reverb(z, k), 0.6, 1e-13);
        assert_close(as_published(z, k),
                     0.6 * sqrt((double)(k - 2) / (double)k), 1e-13);
    }
}

static void two_replicas_give_the_root_of_their_overlap(void **state)
{
    const double z[] = {9.0, 0.49, 0.49, 9.0};
    const double opposite[] = {9.0, -0.49, -0.49, 9.0};
    const double above[] = {9.0, 1.0000001, 1.0000001, 9.0};

    (void)state;
    assert_close(ge_echo_reverb(z, 2), 0.7, 1e-15);
    assert_near(ge_echo_reverb(opposite, 2), 0.0, 0.0);
    assert_near(ge_echo_reverb(above, 2), 1.0, 0.0);
}

static void fewer_than_two_replicas_know_nothing(void **state)
{
    const double z[] = {1.0};

    (void)state;
    assert_nan(ge_echo_reverb(z, 0));
    assert_nan(ge_echo_reverb(z, 1));
}

static void sums_that_are_not_positive_give_no_echo(void **state)
{
    double z[16];

    (void)state;
    for (size_t k = 3; k <= 4; k++) {
        for (size_t i = 0; i < k * k; i++)
            z[i] = -0.3;
        assert_near(ge_echo_reverb(z, k), 0.0, 0.0);
    }
    /* One replica against three that agree: it alone counts as 0. */
    for (size_t a = 0; a < 4; a++)
        for (size_t b = 0; b < 4; b++)
            z[a * 4 + b] = a == 3 || b == 3 ? 0.0 : 0.25;
    const double together =
        sqrt(2.0 * 0.25 * 0.25 * 0.25 / (2.0 * 0.25 * 0.25));

    assert_close(ge_echo_reverb(z, 4), 3.0 * together / 4.0, 1e-13);
}

static void pairs_that_do_not_agree_at_all_have_an_echo_of_zero(void **state)
{
    const double z[16] = {0.0};

    (void)state;
    for (size_t k = 2; k <= 4; k++)
        assert_near(ge_echo_reverb(z, k), 0.0, 0.0);
}

static void echoes_are_capped_at_one(void **state)
{
    double z[9];

    (void)state;
    for (size_t i = 0; i < 9; i++)
        z[i] = 1.0 + 1e-6;
    assert_near(ge_echo_reverb(z, 3), 1.0, 0.0);
    /* Each pivot for itself: one above must not make up for others. */
    z[0 * 3 + 1] = z[1 * 3 + 0] = 0.9;
    z[0 * 3 + 2] = z[2 * 3 + 0] = 0.9;
    z[1 * 3 + 2] = z[2 * 3 + 1] = 0.36;
    assert_close(ge_echo_reverb(z, 3), (1.0 + 0.6 + 0.6) / 3.0, 1e-13);
}

static void a_pair_that_is_missing_is_not_made_up(void **state)
{
    struct dice dice = dice_start(82);

    (void)state;
    for (size_t k = 2; k <= 5; k++) {
        for (size_t a = 0; a < k; a++) {
            for (size_t b = a + 1; b < k; b++) {
                double z[25];

                pairs_of(&dice, k, 0.5, z);
                z[a * k + b] = z[b * k + a] = (double)NAN;
                if (!isnan(ge_echo_reverb(z, k)))
                    print_error("K = %zu, pair %zu %zu\n", k, a, b);
                assert_nan(ge_echo_reverb(z, k));
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_of_known_echoes_give_their_mean),
        cmocka_unit_test(the_published_form_would_be_low),
        cmocka_unit_test(two_replicas_give_the_root_of_their_overlap),
        cmocka_unit_test(fewer_than_two_replicas_know_nothing),
        cmocka_unit_test(sums_that_are_not_positive_give_no_echo),
        cmocka_unit_test(pairs_that_do_not_agree_at_all_have_an_echo_of_zero),
        cmocka_unit_test(echoes_are_capped_at_one),
        cmocka_unit_test(a_pair_that_is_missing_is_not_made_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
