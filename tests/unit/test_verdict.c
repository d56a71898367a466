/* What is said of a digest, and what is not; and how the live view orders it.
 * Every verdict is made to appear, and to stay away where the data do not carry
 * it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "follow_view.h"
#include "verdict.h"

enum { LAYERS = 3, MODES = 4, REPLICAS = 4, BATCH = 16 };

static struct ge_log_layer layers[LAYERS] = {
    {"a.weight", 8, 9}, {"b.weight", 8, 9}, {"c", 1, 9}};
static struct ge_log_facts facts = {
    .session = "s",
    .world_size = REPLICAS,
    .dims = {.layers = LAYERS, .modes = MODES, .replicas = REPLICAS},
    .layers = layers};

/* A healthy run: noise scale equal to the batch, no echo measured. */
static struct ge_spread noise[LAYERS], replica[LAYERS * REPLICAS];
static double scales[LAYERS], sigma2[LAYERS];
static bool shown[LAYERS];
static struct ge_digest digest;

static void sample(struct ge_spread *s, double x, double y)
{
    *s = (struct ge_spread){0};
    for (int i = 0; i < 10; i++)
        ge_spread_add(s, x * (i % 2 == 0 ? 0.9 : 1.1), y);
}

static int set_up(void **state)
{
    (void)state;
    digest = (struct ge_digest){.path = "log",
                                .facts = &facts,
                                .rows = 10,
                                .averaged = 10,
                                .noise_scale = scales,
                                .sigma2 = sigma2,
                                .noise = noise,
                                .replica = replica,
                                .shown = shown,
                                .same_since = -1};
    if (ge_row_init(&digest.row, &facts.dims) < GRADECHO_OK ||
        ge_row_init(&digest.echo, &facts.dims) < GRADECHO_OK)
        return -1;
    digest.row.step = 100;
    digest.row.values[GE_REPLICAS][0] = REPLICAS;
    digest.row.values[GE_BATCH_SIZE][0] = BATCH;
    digest.row.values[GE_DROPPED][0] = 0.0;
    for (size_t l = 0; l < LAYERS; l++) {
        digest.row.values[GE_LAYER_REPLICAS][l] = REPLICAS;
        sample(&noise[l], REPLICAS, 1.0); /* BATCH x REPLICAS examples */
        scales[l] = BATCH * REPLICAS;
        shown[l] = true;
    }
    for (size_t i = 0; i < LAYERS * REPLICAS; i++)
        sample(&replica[i], 1.0, 1.0);
    sample(&digest.model, REPLICAS, 1.0);
    digest.model_scale = BATCH * REPLICAS;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    ge_row_fini(&digest.row);
    ge_row_fini(&digest.echo);
    return 0;
}

/* Of this kind; NULL: nothing is said. */
static const struct ge_verdict *said(const char *kind)
{
    static struct ge_verdict list[GE_VERDICTS_MAX];
    const size_t count = ge_verdicts(&digest, list);

    for (size_t i = 0; i < count; i++) {
        assert_true(strlen(list[i].text) > 0);
        if (strcmp(list[i].kind, kind) == 0)
            return &list[i];
    }
    return NULL;
}

/* The same where it must be there. */
static const struct ge_verdict *heard(const char *kind)
{
    static const struct ge_verdict none = {.layer = "", .text = ""};
    const struct ge_verdict *verdict = said(kind);

    assert_non_null(verdict);
    return verdict != NULL ? verdict : &none;
}

static void assert_says(const char *kind, const char *text)
{
    const struct ge_verdict *verdict = said(kind);

    assert_non_null(verdict);
    assert_string_equal(verdict->text, text);
}

static void a_healthy_run_is_quiet(void **state)
{
    struct ge_verdict list[GE_VERDICTS_MAX];

    (void)state;
    assert_int_equal(ge_verdicts(&digest, list), 0);
}

static void an_empty_row_is_quiet(void **state)
{
    struct ge_verdict list[GE_VERDICTS_MAX];

    (void)state;
    ge_row_clear(&digest.row);
    memset(noise, 0, sizeof noise);
    memset(replica, 0, sizeof replica);
    digest.model = (struct ge_spread){0};
    assert_int_equal(ge_verdicts(&digest, list), 0);
}

static void noise_that_rules(void **state)
{
    (void)state;
    sample(&noise[1], 100.0 * REPLICAS, 1.0);
    scales[1] = 6400.0;
    assert_says("noise_dominated",
                "1 of 3 layers are noise-dominated at this batch size: noise "
                "scale above 4 x 64 examples, most in b.weight (6400)");
    assert_string_equal(heard("noise_dominated")->layer, "b.weight");

    sample(&noise[1], REPLICAS, -1.0); /* no gradient to be seen at all */
    scales[1] = -64.0;
    assert_non_null(strstr(heard("noise_dominated")->text, "no bound"));

    shown[1] = false;
    assert_null(said("noise_dominated"));
    shown[1] = true;
    noise[1].count = 1.0; /* one sample has no scatter to judge by */
    assert_null(said("noise_dominated"));
}

static void noise_within_its_scatter_is_not_told(void **state)
{
    (void)state;
    noise[0] = (struct ge_spread){0};
    for (int i = 0; i < 10; i++) /* 5 x on average, from -15 to 25 */
        ge_spread_add(&noise[0], REPLICAS * (i % 2 == 0 ? -15.0 : 25.0), 1.0);
    scales[0] = 320.0;
    assert_null(said("noise_dominated"));
    sample(&noise[0], 5.0 * REPLICAS, 1.0); /* the same mean, hardly scatter */
    assert_non_null(said("noise_dominated"));
    digest.row.values[GE_BATCH_SIZE][0] = (double)NAN;
    assert_null(said("noise_dominated"));
}

static void a_batch_that_is_too_large(void **state)
{
    (void)state;
    sample(&digest.model, 0.1 * REPLICAS, 1.0);
    digest.model_scale = 6.4;
    assert_says("batch_large",
                "a smaller batch would do: noise scale of the whole model 6, "
                "below 1/4 of 64 examples");
    digest.model.count = 1.0;
    assert_null(said("batch_large"));
    sample(&digest.model, 0.1 * REPLICAS, -1.0);
    assert_null(said("batch_large"));
}

static void the_same_data(void **state)
{
    (void)state;
    digest.row.values[GE_CORRELATION][0] = 0.99;
    digest.row.values[GE_CORRELATION_PAIR][0] = 2.0;
    digest.row.values[GE_CORRELATION_PAIR][1] = 3.0;
    digest.same_since = 70;
    assert_says("same_data",
                "ranks 2 and 3 read the same data since step 70: correlation "
                "of their noise 0.99, above 0.9");
    facts.world_size = 2; /* two replicas each: numbers are not the ranks' */
    assert_non_null(strstr(heard("same_data")->text, "replicas 2 and 3"));
    facts.world_size = REPLICAS;
    digest.row.values[GE_CORRELATION][0] = 0.85;
    assert_null(said("same_data"));
}

static void a_hot_replica(void **state)
{
    (void)state;
    sample(&replica[1 * REPLICAS + 3], 2.6, 1.0);
    assert_says("hot_replica",
                "rank 3 is 2.6 times as noisy as the mean of all "
                "in b.weight, above 2 times in 1 layer");
    sample(&replica[1 * REPLICAS + 3], 1.9, 1.0);
    assert_null(said("hot_replica"));
    sample(&replica[1 * REPLICAS + 3], 2.01, 1.0); /* within its scatter */
    assert_null(said("hot_replica"));
    replica[1 * REPLICAS + 3] = (struct ge_spread){.count = 1.0, .x = 3.0};
    assert_null(said("hot_replica"));
}

static void replicas_that_are_not_there(void **state)
{
    (void)state;
    digest.row.values[GE_LAYER_REPLICAS][0] = 3.0;
    assert_says("not_finite",
                "a.weight: 1 of 4 replicas missing or not finite");
    digest.row.values[GE_LAYER_REPLICAS][1] = 2.0;
    assert_says("not_finite", "b.weight: 2 of 4 replicas missing or not "
                              "finite, and some in 1 other layers");
    assert_null(said("lost"));
    digest.row.values[GE_REPLICAS][0] = 3.0;
    assert_says("lost", "1 of 4 ranks handed nothing over in this sample");
}

static void samples_that_were_dropped(void **state)
{
    (void)state;
    digest.row.values[GE_DROPPED][0] = 2.0;
    assert_non_null(strstr(heard("dropped")->text, "2 of 12 samples"));
    digest.row.values[GE_DROPPED][0] = 1.0;
    assert_null(said("dropped"));
    digest.row.values[GE_DROPPED][0] = 2.0;
    digest.rows = 1;
    assert_null(said("dropped"));
}

/* A layer with one signal mode whose echo is this sure. */
static void measure_echo(size_t layer, double misfit, double error)
{
    for (size_t k = 0; k < MODES; k++) {
        const size_t at = layer * MODES + k;

        digest.echo.values[GE_S_MEAN][at] = 1.0;
        digest.echo.values[GE_ECHO][at] = 0.5;
        digest.echo.values[GE_MODE_T][at] = k == 0 ? 99.0 : 0.1;
        digest.echo.values[GE_ECHO_SE][at] = k == 0 ? error : 9.0;
    }
    digest.echo.step = 100;
    digest.echo.values[GE_SIGNAL_MODES][layer] = 1.0;
    digest.echo.values[GE_MISFIT_EXACT][layer] = misfit;
}

static void a_law_that_is_off(void **state)
{
    (void)state;
    measure_echo(0, 0.5, 0.05);
    assert_says("law_off", "isotropic law off by 0.50 in a.weight, above 0.2: "
                           "use the measured echo");
    measure_echo(1, 0.6, 0.05);
    assert_says("law_off", "isotropic law off by 0.60 in b.weight and above "
                           "0.2 in 1 more layer: use the measured echo");
    measure_echo(1, 0.15, 0.01);
    measure_echo(0, 0.5, 0.2); /* the error bar reaches over the threshold */
    assert_null(said("law_off"));
    measure_echo(0, 0.5, (double)NAN);
    assert_null(said("law_off"));
}

static void layers_without_signal(void **state)
{
    (void)state;
    measure_echo(0, 0.0, 0.1);
    measure_echo(1, 0.0, 0.1);
    assert_null(said("no_signal"));
    digest.echo.values[GE_SIGNAL_MODES][1] = 0.0;
    assert_non_null(strstr(heard("no_signal")->text, "in 1 of 2 layers"));
    digest.echo.values[GE_MODE_T][MODES] = (double)NAN; /* no test was made */
    assert_null(said("no_signal"));
}

static void two_replicas_only(void **state)
{
    (void)state;
    digest.row.values[GE_REPLICAS][0] = 2.0;
    assert_non_null(said("two_replicas"));
}

static void the_worst_comes_first(void **state)
{
    struct ge_verdict list[GE_VERDICTS_MAX];
    size_t count = 0;

    (void)state;
    sample(&noise[1], 100.0 * REPLICAS, 1.0);
    digest.row.values[GE_LAYER_REPLICAS][0] = 1.0;
    digest.row.values[GE_REPLICAS][0] = 2.0;
    count = ge_verdicts(&digest, list);
    assert_int_equal(count, 4);
    for (size_t i = 1; i < count; i++)
        assert_true(list[i].severity <= list[i - 1].severity);
    assert_string_equal(list[0].kind, "not_finite");
}

/* ---- the live view ---- */

static void sparks(void **state)
{
    const double series[] = {1.0, 8.0, (double)NAN, 4.5, -1.0};
    char text[3 * 8 + 1];

    (void)state;
    ge_view_spark(series, 5, 1, 8, false, text);
    assert_string_equal(text, "18 48");
    ge_view_spark(series, 5, 1, 2, true, text);
    assert_string_equal(text, "▄█");
    ge_view_spark(series, 0, 1, 8, true, text);
    assert_string_equal(text, "");
    ge_view_bars((const double[]){1.0, 0.5, 0.0, 2.0, (double)NAN}, 5, 8, false,
                 text);
    assert_string_equal(text, "84.8");
}

static void assert_order(const struct ge_view *view, size_t count, size_t first,
                         size_t second)
{
    assert_int_equal(view->count, count);
    assert_int_equal(view->order[0], first);
    assert_int_equal(view->order[1], second);
}

static void layers_in_order(void **state)
{
    struct ge_view view = {.follow = {.loaded = true, .facts = facts}};

    (void)state;
    measure_echo(0, 0.0, 0.1);
    measure_echo(1, 0.0, 0.1);
    digest.echo.values[GE_ECHO][MODES] = 0.1;
    scales[1] = 900.0;
    scales[2] = -1.0;
    view.follow.digest = digest;
    assert_int_equal(ge_view_arrange(&view), GRADECHO_OK);
    assert_order(&view, 3, 2, 1);
    assert_int_equal(view.chosen, 2);
    ge_view_move(&view, 1);
    assert_int_equal(view.chosen, 1);
    view.sort = GE_SORT_ECHO;
    assert_int_equal(ge_view_arrange(&view), GRADECHO_OK);
    assert_order(&view, 3, 1, 0);
    assert_int_equal(view.chosen, 1); /* the cursor stays on its layer */
    view.sort = GE_SORT_NAME;
    strcpy(view.filter, "weight");
    assert_int_equal(ge_view_arrange(&view), GRADECHO_OK);
    assert_order(&view, 2, 0, 1);
    ge_view_move(&view, 99);
    assert_int_equal(view.chosen, 1);
    ge_view_move(&view, -99);
    assert_int_equal(view.chosen, 0);
    strcpy(view.filter, "nothing");
    assert_int_equal(ge_view_arrange(&view), GRADECHO_OK);
    assert_int_equal(view.count, 0);
    ge_view_move(&view, 1);
    free(view.order);
}

static void health(void **state)
{
    struct ge_view view = {.follow = {.state = GE_FOLLOW_LIVE}};
    char text[200];

    (void)state;
    sample(&replica[2], 1.6, 1.0);
    digest.row.values[GE_TIME][0] = 1000.0;
    digest.row.values[GE_CORRELATION][0] = 0.25;
    digest.row.values[GE_CORRELATION_PAIR][0] = 0.0;
    digest.row.values[GE_CORRELATION_PAIR][1] = 3.0;
    view.follow.digest = digest;
    ge_view_health(&view, 1012.0, false, text, sizeof text);
    assert_string_equal(
        text,
        "worst replica 2 x1.20  worst pair 0,3 0.25  dropped 0  lag 12 s");
    ge_view_health(&view, 1012.0, true, text, sizeof text);
    assert_string_equal(text, "rep 2 x1.20 pair 0,3 0.25 drop 0 lag 12 s");
    view.follow.state = GE_FOLLOW_CLOSED;
    ge_view_health(&view, 1012.0, false, text, sizeof text);
    assert_null(strstr(text, "lag"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_healthy_run_is_quiet),
        TEST(an_empty_row_is_quiet),
        TEST(noise_that_rules),
        TEST(noise_within_its_scatter_is_not_told),
        TEST(a_batch_that_is_too_large),
        TEST(the_same_data),
        TEST(a_hot_replica),
        TEST(replicas_that_are_not_there),
        TEST(samples_that_were_dropped),
        TEST(a_law_that_is_off),
        TEST(layers_without_signal),
        TEST(two_replicas_only),
        TEST(the_worst_comes_first),
        TEST(sparks),
        TEST(layers_in_order),
        TEST(health)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
