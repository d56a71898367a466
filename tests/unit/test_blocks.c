/* Averages over a window with errors: against known values, and how often they
 * cover the truth where neighbouring samples are alike. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "blocks.h"
#include "numbers.h"

static void averages_are_ratios_of_sums(void **state)
{
    struct ge_blocks b = {0};
    double x = 0.0, y = 0.0;

    (void)state;
    for (uint64_t i = 0; i < 100; i++) {
        ge_blocks_add(&b, i, 100, (double)i, 2.0 + (double)(i % 3));
        x += (double)i;
        y += 2.0 + (double)(i % 3);
    }
    ge_blocks_add(&b, 5, 100, (double)NAN, 1.0);
    ge_blocks_add(&b, 5, 100, 1.0, (double)NAN);
    assert_close(ge_blocks_ratio(&b).value, x / y, 1e-14);
    assert_close(ge_blocks_mean_x(&b).value, x / 100.0, 1e-14);
    assert_close(ge_blocks_mean_y(&b).value, y / 100.0, 1e-14);
    assert_int_equal(ge_blocks_ratio(&b).blocks, GE_BLOCKS);
}

/* With one sample a block the error of a mean is the textbook's. */
static void the_error_of_a_mean_is_that_of_the_textbook(void **state)
{
    static const double values[] = {3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0};
    struct ge_blocks b = {0};
    double mean = 0.0, square = 0.0;
    const double n = (double)COUNT_OF(values);

    (void)state;
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        ge_blocks_add(&b, i, COUNT_OF(values), values[i], 1.0);
        mean += values[i] / n;
    }
    for (size_t i = 0; i < COUNT_OF(values); i++)
        square += (values[i] - mean) * (values[i] - mean);
    assert_close(ge_blocks_mean_x(&b).se, sqrt(square / (n - 1.0) / n), 1e-12);
    assert_near(ge_blocks_mean_x(&b).low, 1.0, 0.0);
    assert_near(ge_blocks_mean_x(&b).high, 9.0, 0.0);
}

static void too_few_samples_have_no_error(void **state)
{
    struct ge_blocks b = {0};

    (void)state;
    assert_nan(ge_blocks_ratio(&b).value);
    assert_nan(ge_blocks_ratio(&b).low);
    for (uint64_t i = 0; i + 1 < GE_BLOCKS_LEAST; i++)
        ge_blocks_add(&b, i, GE_BLOCKS_LEAST, (double)i, 1.0);
    assert_near(ge_blocks_ratio(&b).value, 1.0, 1e-15);
    assert_nan(ge_blocks_ratio(&b).se);
    ge_blocks_add(&b, GE_BLOCKS_LEAST - 1, GE_BLOCKS_LEAST, 3.0, 1.0);
    assert_true(ge_blocks_ratio(&b).se > 0.0);
}

static void a_block_without_gradient_has_no_bound(void **state)
{
    struct ge_blocks b = {0};

    (void)state;
    for (uint64_t i = 0; i < 64; i++)
        ge_blocks_add(&b, i, 64, 1.0, i < 4 ? -1.0 : 2.0);
    assert_true(isinf(ge_blocks_ratio(&b).high));
    assert_near(ge_blocks_ratio(&b).low, 0.5, 0.0);
}

static void a_long_window_has_room(void **state)
{
    const uint64_t window = UINT64_MAX;
    struct ge_blocks b = {0};

    (void)state;
    ge_blocks_add(&b, 0, window, 1.0, 1.0);
    ge_blocks_add(&b, window - 1, window, 2.0, 1.0);
    assert_near(b.x[0], 1.0, 0.0);
    assert_near(b.x[GE_BLOCKS - 1], 2.0, 0.0);
}

/* A window of a run whose trace and squared norm wander: each sample keeps
 * `memory` of the one before. True ratio: `truth`. */
static struct ge_average draw(struct dice *dice, double truth, double memory,
                              uint64_t samples)
{
    const double fresh = sqrt(1.0 - memory * memory);
    double x = dice_normal(dice), y = dice_normal(dice);
    struct ge_blocks b = {0};

    for (uint64_t i = 0; i < samples; i++) {
        x = memory * x + fresh * dice_normal(dice);
        y = memory * y + fresh * dice_normal(dice);
        ge_blocks_add(&b, i, samples, truth * (10.0 + x), 10.0 + 3.0 * y);
    }
    return ge_blocks_ratio(&b);
}

enum { DRAWS = 4000 };

/* Share of draws, of which p are expected, within 4 binomial errors of p;
 * `bias` is what is allowed for the approximations themselves. */
static void assert_share(size_t hits, double p, double bias)
{
    assert_near((double)hits / DRAWS, p,
                4.0 * sqrt(p * (1.0 - p) / DRAWS) + bias);
}

static void errors_cover_the_truth(void **state)
{
    static const struct {
        double memory;
        uint64_t samples;
    } runs[] = {{0.0, 16}, {0.0, 100}, {0.5, 200}, {0.8, 800}};
    struct dice dice = dice_start(71);

    (void)state;
    for (size_t r = 0; r < COUNT_OF(runs); r++) {
        size_t out = 0;

        for (int i = 0; i < DRAWS; i++) {
            const struct ge_average truth = {.value = 5.0, .blocks = GE_BLOCKS};
            const struct ge_average a =
                draw(&dice, 5.0, runs[r].memory, runs[r].samples);

            out += fabs(ge_average_difference(&a, &truth)) > 2.0 ? 1 : 0;
        }
        assert_share(out, 0.0455, 0.015);
    }
}

/* What `gradecho diff` rests on: runs of one kind seldom differ, nearly as
 * seldom with few samples as with many. Neighbours that are alike need blocks
 * that are longer than that. */
static void equal_runs_differ_as_often_as_chance_says(void **state)
{
    static const struct {
        uint64_t samples[2];
        double memory, two, three; /* what is allowed beyond chance */
    } runs[] = {{{4, 4}, 0.0, 0.02, 0.01},
                {{8, 100}, 0.0, 0.015, 0.005},
                {{100, 100}, 0.3, 0.015, 0.005},
                {{800, 200}, 0.5, 0.015, 0.005}};
    struct dice dice = dice_start(72);

    (void)state;
    for (size_t r = 0; r < COUNT_OF(runs); r++) {
        const uint64_t *n = runs[r].samples;
        size_t two = 0, three = 0;

        for (int i = 0; i < DRAWS; i++) {
            const struct ge_average a = draw(&dice, 1.0, runs[r].memory, n[0]);
            const struct ge_average b = draw(&dice, 1.0, runs[r].memory, n[1]);
            const double z = fabs(ge_average_difference(&a, &b));

            two += z > 2.0 ? 1 : 0;
            three += z > 3.0 ? 1 : 0;
        }
        assert_share(two, 0.0455, runs[r].two);
        assert_share(three, 0.0027, runs[r].three);
    }
}

static void a_difference_is_found(void **state)
{
    struct dice dice = dice_start(73);
    size_t found = 0;

    (void)state;
    for (int i = 0; i < DRAWS; i++) {
        const struct ge_average a = draw(&dice, 1.0, 0.0, 100);
        const struct ge_average b = draw(&dice, 1.2, 0.0, 100);

        found += ge_average_difference(&b, &a) > 2.0 ? 1 : 0;
    }
    assert_true(found > DRAWS * 95 / 100);
}

static void what_has_no_error_has_no_difference(void **state)
{
    const struct ge_average known = {.value = 1.0, .se = 0.1, .blocks = 16};
    const struct ge_average unknown = {
        .value = 9.0, .se = (double)NAN, .blocks = 2};

    (void)state;
    assert_nan(ge_average_difference(&known, &unknown));
    assert_near(ge_average_difference(&known, &known), 0.0, 0.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(averages_are_ratios_of_sums),
        cmocka_unit_test(the_error_of_a_mean_is_that_of_the_textbook),
        cmocka_unit_test(too_few_samples_have_no_error),
        cmocka_unit_test(a_block_without_gradient_has_no_bound),
        cmocka_unit_test(a_long_window_has_room),
        cmocka_unit_test(errors_cover_the_truth),
        cmocka_unit_test(equal_runs_differ_as_often_as_chance_says),
        cmocka_unit_test(a_difference_is_found),
        cmocka_unit_test(what_has_no_error_has_no_difference)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
