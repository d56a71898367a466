/* The knee of a mode, the count above it and what denoising saves, from modes
 * that lie exactly on the law: then the truth is known at every batch. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "denoise.h"
#include "knee.h"
#include "laws.h"
#include "numbers.h"

/* Leakage of one replica out of u and v; the true singular value is 1. */
struct plant {
    double left, right, replicas;
};

static double echo_of(const struct plant *p, double batch)
{
    return ge_law_mode_closed(p->left / batch, p->right / batch, 1.0);
}

/* Of a mean of `batch` replicas; unit^2 is that of the tau2. */
static double seen_of(const struct plant *p, double batch)
{
    return sqrt((1.0 + p->left / batch) * (1.0 + p->right / batch));
}

static struct ge_mode_facts facts_of(const struct plant *p, double unit,
                                     double se)
{
    return (struct ge_mode_facts){.echo = echo_of(p, 1.0),
                                  .echo_se = se,
                                  .echo_loo = echo_of(p, p->replicas - 1.0),
                                  .s_est = unit,
                                  .s_mean = unit * seen_of(p, p->replicas),
                                  .s_replica = unit * seen_of(p, 1.0),
                                  .gain = echo_of(p, 1.0) / seen_of(p, 1.0),
                                  .tau2_left = unit * unit * p->left,
                                  .tau2_right = unit * unit * p->right,
                                  .replicas = p->replicas};
}

static struct ge_knee knee_of(const struct plant *p, double unit, double se)
{
    const struct ge_mode_facts facts = facts_of(p, unit, se);
    struct ge_knee knee;

    ge_knee_find(&facts, &knee);
    return knee;
}

/* Modes whose knee lies far below one replica, about it, between one and all,
 * and above all; square, wide and tall. */
static const struct plant plants[] = {
    {0.02, 0.02, 4.0}, {0.3, 0.3, 4.0}, {0.6, 0.6, 4.0},  {0.8, 0.5, 8.0},
    {0.1, 1.6, 8.0},   {3.0, 0.2, 3.0}, {0.9, 0.9, 16.0}, {0.5, 0.5, 3.0}};

static void the_knee_is_where_the_law_crosses(void **state)
{
    (void)state;
    for (double unit = 1e-12; unit < 2e12; unit *= 1e4)
        for (size_t i = 0; i < COUNT_OF(plants); i++) {
            const struct ge_knee knee = knee_of(&plants[i], unit, 0.01);

            assert_near(echo_of(&plants[i], knee.at), 0.5, 2e-3);
            assert_near(knee.replicas, plants[i].replicas, 0.0);
            assert_true(knee.log_se > 0.0);
        }
}

static void on_the_law_there_is_no_misfit(void **state)
{
    struct ge_knee knees[COUNT_OF(plants)];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(plants); i++)
        knees[i] = knee_of(&plants[i], 1.0, 0.001);
    assert_true(ge_knee_misfit(knees, COUNT_OF(plants)) < 1e-6);
    for (size_t i = 0; i < COUNT_OF(plants); i++)
        knees[i].misfit += 0.3;
    assert_true(ge_knee_misfit(knees, COUNT_OF(plants)) > 0.28);
    assert_nan(ge_knee_misfit(knees, 0));
}

static void a_small_echo_is_not_carried(void **state)
{
    /* Echoes of 0.05 of one replica, 0.2 of the mean of the others. */
    struct ge_mode_facts facts =
        facts_of(&(struct plant){0.95, 0.95, 4.0}, 1.0, 0.01);
    struct ge_knee knee;

    (void)state;
    ge_knee_find(&facts, &knee);
    assert_true(knee.at < 100.0);
    facts.echo_loo = 0.2;
    ge_knee_find(&facts, &knee);
    assert_true(isinf(knee.at));
    facts.echo = 0.0;
    ge_knee_find(&facts, &knee);
    assert_true(isinf(knee.at));
    assert_nan(knee.misfit);
}

/* A mode whose echo was capped at 1 is far above the knee, and surely. */
static void a_full_echo_has_a_knee_near_zero(void **state)
{
    struct ge_mode_facts facts =
        facts_of(&(struct plant){1e-7, 1e-7, 4.0}, 1.0, 0.001);
    struct ge_knee knee;
    struct ge_count count;

    (void)state;
    facts.echo = facts.echo_loo = 1.0;
    ge_knee_find(&facts, &knee);
    assert_true(knee.at < 1e-3);
    count = ge_knee_count(&knee, 1, 1.0);
    assert_near(count.modes, 1.0, 1e-6);
}

static void modes_above_the_knee_are_counted(void **state)
{
    struct ge_knee knees[COUNT_OF(plants)];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(plants); i++)
        knees[i] = knee_of(&plants[i], 1.0, 1e-4);
    for (double batch = 1.0 / 64.0; batch < 100.0; batch *= 4.0) {
        const struct ge_count count =
            ge_knee_count(knees, COUNT_OF(plants), batch);
        double truth = 0.0;

        for (size_t i = 0; i < COUNT_OF(plants); i++)
            truth += echo_of(&plants[i], batch * plants[i].replicas) > 0.5
                         ? 1.0
                         : 0.0;
        assert_near(count.modes, truth, 3.0 * count.se + 0.01);
        assert_true(count.se < 1.5);
    }
}

/* Three modes whose knees lie at 1, 2 and 4 times one half of today's batch. */
static void a_share_is_an_order_statistic(void **state)
{
    struct ge_knee knees[] = {{.at = 8.0, .log_se = 0.1, .replicas = 4.0},
                              {.at = 2.0, .log_se = 0.1, .replicas = 4.0},
                              {.at = 4.0, .log_se = 0.1, .replicas = 4.0}};
    struct ge_knee_batch at = ge_knee_share(knees, 3, 0.5);

    (void)state;
    assert_near(at.batch, 1.0, 1e-12); /* two of three */
    assert_near(at.low, exp(-0.1), 1e-12);
    assert_near(at.high, exp(0.1), 1e-12);
    assert_true(at.measured);
    assert_near(ge_knee_share(knees, 3, 1.0 / 3.0).batch, 0.5, 1e-12);
    at = ge_knee_share(knees, 3, 0.95);
    assert_near(at.batch, 2.0, 1e-12);
    assert_false(at.measured);
    knees[0].at = (double)INFINITY;
    assert_true(isinf(ge_knee_share(knees, 3, 0.95).batch));
    assert_nan(ge_knee_share(knees, 0, 0.5).batch);
}

/* ---- denoising ---- */

static void the_gain_is_that_of_the_theory(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(plants); i++) {
        const struct plant *p = &plants[i];
        const struct ge_mode_facts facts = facts_of(p, 7.0, 0.01);
        const struct ge_shrunk shrunk = ge_mode_shrunk(&facts);

        assert_near(shrunk.gain,
                    echo_of(p, p->replicas) / seen_of(p, p->replicas), 1e-6);
        assert_true(shrunk.se > 0.0 && shrunk.se <= 1.0 - shrunk.gain);
    }
}

static void without_modes_it_is_a_wiener_filter(void **state)
{
    struct ge_denoise d;

    (void)state;
    ge_denoise_layer(NULL, 0, 12.0, 0.5, 1.0, 4.0, &d); /* noise 3, signal 1 */
    assert_near(d.raw, 3.0, 1e-15);
    assert_near(d.rest, 0.25, 1e-15);
    /* What is left of 3 is signal x noise/(signal + noise). */
    assert_near(d.saved, 3.0 - 0.75, 1e-15);
    assert_near(d.slope, 1.5, 1e-15);
    assert_near(d.modes_se, 0.0, 0.0);
    ge_denoise_layer(NULL, 0, 12.0, 0.5, -1.0, 4.0, &d); /* no signal at all */
    assert_near(d.rest, 0.0, 0.0);
    assert_near(d.saved, 2.0, 1e-15); /* all that was seen */
    ge_denoise_layer(NULL, 0, (double)NAN, 0.5, 1.0, 4.0, &d);
    assert_nan(d.raw);
    assert_nan(d.saved);
    assert_nan(d.rest);
}

/* A gradient of two strong modes in a large layer: nothing is left but the
 * noise of the modes themselves. */
static void modes_are_kept_and_the_rest_goes(void **state)
{
    const struct plant plant = {0.01, 0.02, 4.0};
    const double rows = 100.0, cols = 200.0, sigma2 = 1e-4;
    const double trace = rows * cols * sigma2, bias = trace / 4.0;
    struct ge_mode_facts modes[2];
    struct ge_denoise d;
    double kept = 0.0;

    (void)state;
    for (int k = 0; k < 2; k++) {
        modes[k] = facts_of(&plant, 1.0, 0.001);
        kept += seen_of(&plant, 4.0) * seen_of(&plant, 4.0);
    }
    ge_denoise_layer(modes, 2, trace, 0.0, 2.0, 4.0, &d);
    /* The modes' energy in the mean is 2 plus the noise that leaks into them:
     * of the noise all is saved but what turned the vectors. */
    assert_true(kept > 2.0 && kept < 2.0 + bias);
    assert_near(d.rest, 0.0, 0.02);
    assert_true(d.saved > 0.98 * (bias - 2.0 * 2.0 * (0.03 / 4.0)));
    assert_true(d.saved < bias);
}

static void savings_add_up(void **state)
{
    struct ge_denoise d[2];
    struct ge_saving saving;

    (void)state;
    ge_denoise_layer(NULL, 0, 12.0, 0.5, 1.0, 4.0, &d[0]);
    ge_denoise_layer(NULL, 0, 40.0, 0.5, 30.0, 4.0, &d[1]);
    saving = ge_denoise_part(d, 2);
    assert_near(saving.part, (2.25 + 2.5) / 13.0, 1e-12);
    assert_true(saving.se > 0.0);
    saving = ge_denoise_part(d, 1);
    /* By differences: saved/raw at traces one error apart. */
    for (int i = 0; i < 2; i++) {
        const double raw = 3.0 + (i == 0 ? -1e-6 : 1e-6);

        ge_denoise_layer(NULL, 0, 4.0 * raw, 0.5, 4.0 - raw, 4.0, &d[i]);
    }
    assert_close(saving.se,
                 (d[1].saved / d[1].raw - d[0].saved / d[0].raw) / 2e-6 *
                     d[0].raw_se,
                 1e-4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_knee_is_where_the_law_crosses),
        cmocka_unit_test(on_the_law_there_is_no_misfit),
        cmocka_unit_test(a_small_echo_is_not_carried),
        cmocka_unit_test(a_full_echo_has_a_knee_near_zero),
        cmocka_unit_test(modes_above_the_knee_are_counted),
        cmocka_unit_test(a_share_is_an_order_statistic),
        cmocka_unit_test(the_gain_is_that_of_the_theory),
        cmocka_unit_test(without_modes_it_is_a_wiener_filter),
        cmocka_unit_test(modes_are_kept_and_the_rest_goes),
        cmocka_unit_test(savings_add_up)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
