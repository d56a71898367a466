/* The rules of the configuration on planted samples: each is raised by what it
 * is about, once; is over when that is gone; and stays away from what noise
 * alone does. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "alarm.h"
#include "numbers.h"

#define assert_ok(call) assert_int_equal((call), GRADECHO_OK)

enum { LAYERS = 3, MODES = 2, REPLICAS = 4, BATCH = 16, WINDOW = 5 };

static char names[LAYERS][16] = {"a.weight", "b.weight", "c.bias"};
static struct ge_layer items[LAYERS];
static const struct ge_layers layers = {items, LAYERS};
static struct ge_config config;
static struct ge_row row;
static ge_alarms *alarms;
static struct ge_alarm_change changes[GE_RULES];
static size_t count;

static void set(const char *assignment)
{
    assert_ok(ge_config_set(&config, assignment));
}

/* As configured now. */
static void begin(void)
{
    ge_alarms_destroy(&alarms);
    assert_ok(ge_alarms_create(&config, &layers, REPLICAS, "rank", &alarms));
}

/* A healthy sample: noise scale 16 examples, knee 2, one signal mode. */
static void healthy(void)
{
    ge_row_clear(&row);
    row.step = 7;
    row.values[GE_REPLICAS][0] = REPLICAS;
    row.values[GE_BATCH_SIZE][0] = BATCH;
    row.values[GE_DROPPED][0] = 0.0;
    row.values[GE_CORRELATION][0] = -0.3;
    row.values[GE_MODEL_NOISE_TRACE][0] = 3.0;
    row.values[GE_MODEL_GRAD_SQNORM][0] = 3.0;
    for (size_t l = 0; l < LAYERS; l++) {
        row.values[GE_LAYER_REPLICAS][l] = REPLICAS;
        row.values[GE_NOISE_TRACE][l] = 1.0;
        row.values[GE_GRAD_SQNORM][l] = 1.0;
        row.values[GE_TAU2_EDGE][l] = 2.0;
        row.values[GE_SIGNAL_MODES][l] = 1.0;
        for (size_t a = 0; a < REPLICAS; a++)
            row.values[GE_REPLICA_NOISE][l * REPLICAS + a] = 1.0;
    }
}

static int set_up(void **state)
{
    const struct ge_dimensions dims = {LAYERS, MODES, REPLICAS};

    (void)state;
    for (size_t l = 0; l < LAYERS; l++)
        items[l].name = names[l];
    if (ge_config_init(&config) < GRADECHO_OK ||
        ge_row_init(&row, &dims) < GRADECHO_OK)
        return -1;
    set("alarms.samples=5");
    begin();
    healthy();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    ge_alarms_destroy(&alarms);
    ge_row_fini(&row);
    ge_config_fini(&config);
    return 0;
}

/* Changes of so many samples like this one, all of which must be in the last
 * of them. */
static void judge(int samples)
{
    for (int i = 0; i < samples; i++) {
        count = ge_alarms_judge(alarms, &row, changes);
        assert_true(count == 0 || i == samples - 1);
    }
}

static void assert_quiet(int samples)
{
    judge(samples);
    assert_int_equal(count, 0);
}

/* The one alarm of the last sample. */
static void assert_raised(enum ge_rule rule, const char *text)
{
    assert_int_equal(count, 1);
    assert_int_equal(changes[0].rule, rule);
    assert_true(changes[0].raised);
    assert_string_equal(changes[0].text, text);
    assert_true(ge_rule_raised(row.values[GE_ALARMS][0], rule));
}

static void assert_over(enum ge_rule rule)
{
    assert_int_equal(count, 1);
    assert_int_equal(changes[0].rule, rule);
    assert_false(changes[0].raised);
    assert_true(row.values[GE_ALARMS][0] == 0.0);
    for (size_t l = 0; l < LAYERS; l++)
        assert_true(row.values[GE_LAYER_ALARMS][l] == 0.0);
}

static void assert_layer_bits(size_t layer, enum ge_rule rule)
{
    for (size_t l = 0; l < LAYERS; l++)
        assert_int_equal(ge_rule_raised(row.values[GE_LAYER_ALARMS][l], rule),
                         l == layer);
}

static void a_healthy_run_raises_nothing(void **state)
{
    (void)state;
    set("alarms.noise_scale=100");
    set("alarms.layer_noise_scale=100");
    set("alarms.knee=10");
    set("alarms.pure_noise=2");
    set("alarms.dropped=0.1");
    begin();
    assert_quiet(50);
    assert_true(row.values[GE_ALARMS][0] == 0.0);
}

static void rules_that_are_off_see_nothing(void **state)
{
    (void)state;
    set("alarms.same_data=0");
    set("alarms.not_finite=false");
    set("alarms.lost=false");
    set("alarms.hot_replica=0");
    begin();
    row.values[GE_CORRELATION][0] = 1.0;
    row.values[GE_REPLICAS][0] = 1.0;
    row.values[GE_LAYER_REPLICAS][0] = 0.0;
    row.values[GE_DROPPED][0] = 1e6;
    row.values[GE_MODEL_NOISE_TRACE][0] = 1e12;
    for (size_t l = 0; l < LAYERS; l++) {
        row.values[GE_TAU2_EDGE][l] = 1e12;
        row.values[GE_REPLICA_NOISE][l * REPLICAS] = 4.0;
    }
    assert_quiet(50);
}

static void copies_are_seen_when_the_pair_stays(void **state)
{
    (void)state;
    row.values[GE_CORRELATION][0] = 0.97;
    for (int i = 0; i < 20; i++) { /* another pair each time: chance */
        row.values[GE_CORRELATION_PAIR][0] = 0.0;
        row.values[GE_CORRELATION_PAIR][1] = 1.0 + i % 2;
        assert_quiet(1);
    }
    row.values[GE_CORRELATION_PAIR][1] = 3.0;
    judge(3);
    assert_raised(GE_RULE_SAME_DATA,
                  "ranks 0 and 3 read the same data: correlation of their "
                  "noise 0.97, above 0.9");
    assert_true(changes[0].value == 0.97 && changes[0].threshold == 0.9);
    assert_null(changes[0].layer);
    assert_quiet(50); /* told once */
    row.values[GE_CORRELATION][0] = 0.1;
    judge(WINDOW);
    assert_over(GE_RULE_SAME_DATA);
}

static void a_condition_that_comes_back_does_not_end(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++) {
        row.values[GE_REPLICAS][0] = 3.0;
        for (size_t l = 0; l < LAYERS; l++)
            row.values[GE_LAYER_REPLICAS][l] = 3.0;
        judge(1);
        assert_int_equal(count, i == 0);
        healthy();
        assert_quiet(WINDOW - 1);
    }
    judge(1);
    assert_over(GE_RULE_LOST);
}

static void a_lost_rank_is_told(void **state)
{
    (void)state;
    row.values[GE_REPLICAS][0] = 3.0;
    for (size_t l = 0; l < LAYERS; l++)
        row.values[GE_LAYER_REPLICAS][l] = 3.0;
    judge(1);
    assert_raised(GE_RULE_LOST, "1 of 4 ranks hand nothing over");
}

static void gradients_that_are_not_finite_are_told(void **state)
{
    (void)state;
    row.values[GE_LAYER_REPLICAS][0] = 3.0;
    row.values[GE_LAYER_REPLICAS][1] = 1.0;
    judge(1);
    assert_raised(GE_RULE_NOT_FINITE, "3 of 4 replicas missing or not finite "
                                      "in b.weight, and in 1 more layer");
    assert_string_equal(changes[0].layer, "b.weight");
    healthy();
    judge(WINDOW);
    assert_over(GE_RULE_NOT_FINITE);
}

static void a_frozen_layer_is_no_alarm(void **state)
{
    (void)state;
    row.values[GE_LAYER_REPLICAS][2] = 0.0; /* from the first sample on */
    assert_quiet(20);
    row.values[GE_LAYER_REPLICAS][0] = 0.0; /* this one had a gradient */
    judge(1);
    assert_raised(GE_RULE_NOT_FINITE,
                  "4 of 4 replicas missing or not finite in a.weight");
    assert_layer_bits(0, GE_RULE_NOT_FINITE);
}

static void nothing_finite_at_all_is_an_alarm_at_once(void **state)
{
    (void)state;
    for (size_t l = 0; l < LAYERS; l++)
        row.values[GE_LAYER_REPLICAS][l] = 0.0;
    judge(1);
    assert_raised(GE_RULE_NOT_FINITE, "4 of 4 replicas missing or not finite "
                                      "in a.weight, and in 2 more layers");
}

static void a_hot_replica_is_named(void **state)
{
    (void)state;
    /* Hot in the layer that hardly counts: not in the whole model. */
    row.values[GE_NOISE_TRACE][2] = 1e-3;
    row.values[GE_REPLICA_NOISE][2 * REPLICAS + 1] = 4.0;
    assert_quiet(20);
    for (size_t l = 0; l < LAYERS; l++)
        row.values[GE_REPLICA_NOISE][l * REPLICAS + 3] = 3.0;
    for (int i = 0; i < WINDOW && count == 0; i++)
        judge(1);
    assert_int_equal(count, 1);
    assert_int_equal(changes[0].rule, GE_RULE_HOT_REPLICA);
    assert_non_null(strstr(changes[0].text, "rank 3 is "));
    assert_true(changes[0].value > 2.0);
}

static void dropped_samples_are_told_by_their_share(void **state)
{
    double dropped = 1000.0; /* before we looked: does not count */

    (void)state;
    set("alarms.dropped=0.4");
    begin();
    row.values[GE_DROPPED][0] = dropped;
    assert_quiet(20);
    for (int i = 0; i < WINDOW; i++) { /* one for each sample: a half */
        row.values[GE_DROPPED][0] = ++dropped;
        judge(1);
        assert_int_equal(count, i == WINDOW - 1 - 1);
    }
    row.values[GE_DROPPED][0] = dropped;
    judge(WINDOW + 1); /* 4 dropped of 9 in the first of these */
    assert_over(GE_RULE_DROPPED);
}

static void a_noise_scale_above_its_threshold_is_told(void **state)
{
    (void)state;
    set("alarms.noise_scale=100");
    set("alarms.layer_noise_scale=200");
    begin();
    assert_quiet(10);
    row.values[GE_MODEL_NOISE_TRACE][0] = 300.0; /* 1600 examples */
    for (int i = 0; i < WINDOW && count == 0; i++)
        judge(1);
    assert_int_equal(count, 1);
    assert_int_equal(changes[0].rule, GE_RULE_NOISE_SCALE);
    healthy();
    row.values[GE_NOISE_TRACE][1] = 50.0; /* 800 examples */
    for (int i = 0; i < WINDOW && count == 0; i++)
        judge(1);
    row.values[GE_GRAD_SQNORM][1] = 1.0;
    for (int i = 0; i < 2 * WINDOW; i++) /* the model's may end meanwhile */
        (void)ge_alarms_judge(alarms, &row, changes);
    assert_layer_bits(1, GE_RULE_LAYER_NOISE_SCALE);
}

static void a_noise_scale_without_bound_is_above_any_threshold(void **state)
{
    (void)state;
    set("alarms.layer_noise_scale=1e6");
    begin();
    row.values[GE_GRAD_SQNORM][2] = -0.01; /* noise alone, to the last bit */
    judge(3);                              /* half of the window */
    assert_raised(GE_RULE_LAYER_NOISE_SCALE,
                  "noise scale without bound, above 1e+06 examples, in c.bias");
}

static void only_the_layers_asked_for_are_looked_at(void **state)
{
    (void)state;
    set("alarms.knee=10");
    set("alarms.layers=[\"*.weight\"]");
    begin();
    row.values[GE_TAU2_EDGE][2] = 1e3;
    row.values[GE_LAYER_REPLICAS][2] = 1.0;
    assert_quiet(20);
    row.values[GE_TAU2_EDGE][1] = 1e3;
    for (int i = 0; i < WINDOW && count == 0; i++)
        judge(1);
    assert_int_equal(count, 1);
    assert_int_equal(changes[0].rule, GE_RULE_KNEE);
    assert_string_equal(changes[0].layer, "b.weight");
    assert_layer_bits(1, GE_RULE_KNEE);
}

static void a_layer_gone_to_pure_noise_is_told(void **state)
{
    (void)state;
    set("alarms.pure_noise=3");
    begin();
    row.values[GE_SIGNAL_MODES][1] = 0.0;  /* never had any */
    row.values[GE_SIGNAL_MODES][2] = -1.0; /* is not measured */
    assert_quiet(3);
    row.values[GE_SIGNAL_MODES][0] = 0.0;
    assert_quiet(2);
    row.values[GE_SIGNAL_MODES][0] = -1.0; /* a sample without echoes */
    assert_quiet(20);
    row.values[GE_SIGNAL_MODES][0] = 0.0;
    judge(1);
    assert_raised(GE_RULE_PURE_NOISE,
                  "no signal mode for 3 echo samples in a.weight");
    assert_layer_bits(0, GE_RULE_PURE_NOISE);
    row.values[GE_SIGNAL_MODES][0] = 2.0;
    judge(3);
    assert_over(GE_RULE_PURE_NOISE);
}

static void missing_numbers_change_nothing(void **state)
{
    (void)state;
    set("alarms.noise_scale=100");
    begin();
    row.values[GE_MODEL_NOISE_TRACE][0] = 300.0;
    judge(3); /* equal samples: no scatter, half of the window is enough */
    assert_int_equal(count, 1);
    ge_row_clear(&row);
    assert_quiet(10 * WINDOW);
    assert_true(ge_rule_raised(row.values[GE_ALARMS][0], GE_RULE_NOISE_SCALE));
}

static void a_resumed_run_goes_on_as_it_was(void **state)
{
    double bits = 0.0, layer_bits[LAYERS];

    (void)state;
    set("alarms.knee=10");
    begin();
    row.values[GE_TAU2_EDGE][1] = 1e3;
    row.values[GE_REPLICAS][0] = 3.0;
    for (int i = 0; i < 3; i++)
        (void)ge_alarms_judge(alarms, &row, changes);
    bits = row.values[GE_ALARMS][0];
    memcpy(layer_bits, row.values[GE_LAYER_ALARMS], sizeof layer_bits);
    assert_true(ge_rule_raised(bits, GE_RULE_KNEE));
    assert_true(ge_rule_raised(bits, GE_RULE_LOST));

    begin();
    ge_alarms_recall(alarms, bits, layer_bits);
    assert_quiet(10); /* not told again */
    healthy();
    for (int i = 0; i < 3 * WINDOW; i++)
        (void)ge_alarms_judge(alarms, &row, changes);
    assert_true(row.values[GE_ALARMS][0] == 0.0);

    set("alarms.lost=false"); /* what is off now is not recalled */
    begin();
    ge_alarms_recall(alarms, bits, layer_bits);
    assert_quiet(1);
    assert_false(ge_rule_raised(row.values[GE_ALARMS][0], GE_RULE_LOST));
    assert_true(ge_rule_raised(row.values[GE_ALARMS][0], GE_RULE_KNEE));
}

/* ---- chance ---- */

static uint64_t seed = 1912;

/* Standard normal, by Box and Muller. */
static double normal(void)
{
    double u[2];

    for (int i = 0; i < 2; i++) {
        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407U;
        u[i] = ((double)(seed >> 11) + 0.5) * 0x1p-53;
    }
    return sqrt(-2.0 * log(u[0])) * cos(6.283185307179586 * u[1]);
}

/* Runs of 200 samples whose noise scale is `truth` examples with an error of
 * each sample's squared gradient; how many of them raised the alarm at 100. */
static int false_alarms(int runs, double truth, double error)
{
    int raised = 0;

    for (int run = 0; run < runs; run++) {
        bool any = false;

        begin();
        healthy();
        for (int i = 0; i < 200; i++) {
            row.values[GE_MODEL_NOISE_TRACE][0] = 1.0 + 0.05 * normal();
            row.values[GE_MODEL_GRAD_SQNORM][0] =
                BATCH / truth * (1.0 + error * normal());
            any = any || ge_alarms_judge(alarms, &row, changes) > 0;
        }
        raised += any;
    }
    return raised;
}

/* What a single sample says is worthless here: its squared gradient is often
 * negative. A run at half the threshold must stay quiet. */
static void noise_alone_raises_no_alarm(void **state)
{
    const int runs = 200;
    int half = 0, tenth = 0, twice = 0;

    (void)state;
    set("alarms.noise_scale=100");
    set("alarms.samples=20");
    tenth = false_alarms(runs, 10.0, 1.5);
    half = false_alarms(runs, 50.0, 1.0);
    twice = false_alarms(runs, 200.0, 0.3);
    print_message("of %d runs of 200 samples: %d at a tenth of the threshold, "
                  "%d at half of it, %d at twice of it\n",
                  runs, tenth, half, twice);
    assert_int_equal(tenth, 0);
    assert_true(half <= runs / 10);
    assert_int_equal(twice, runs);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_healthy_run_raises_nothing),
        TEST(rules_that_are_off_see_nothing),
        TEST(copies_are_seen_when_the_pair_stays),
        TEST(a_condition_that_comes_back_does_not_end),
        TEST(a_lost_rank_is_told),
        TEST(gradients_that_are_not_finite_are_told),
        TEST(a_frozen_layer_is_no_alarm),
        TEST(nothing_finite_at_all_is_an_alarm_at_once),
        TEST(a_hot_replica_is_named),
        TEST(dropped_samples_are_told_by_their_share),
        TEST(a_noise_scale_above_its_threshold_is_told),
        TEST(a_noise_scale_without_bound_is_above_any_threshold),
        TEST(only_the_layers_asked_for_are_looked_at),
        TEST(a_layer_gone_to_pure_noise_is_told),
        TEST(missing_numbers_change_nothing),
        TEST(a_resumed_run_goes_on_as_it_was),
        TEST(noise_alone_raises_no_alarm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
