/* Configuration: defaults, every refusal by its message, and what is printed
 * reads back. SOURCE_DIR is the tree's root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config.h"
#include "message.h"
#include "numbers.h"

#define assert_ok(call) assert_int_equal((call), GRADECHO_OK)

static struct ge_config defaults(void)
{
    struct ge_config config;

    assert_ok(ge_config_init(&config));
    return config;
}

static gradecho_status parse(struct ge_config *config, const char *text)
{
    return ge_config_parse(config, text, strlen(text), "run.yaml");
}

/* What is printed; caller frees. */
static char *printed(const struct ge_config *config, bool help)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    assert_non_null(out);
    assert_true(ge_config_print(config, help, out));
    assert_int_equal(fclose(out), 0);
    return text;
}

static void assert_same_config(const struct ge_config *a,
                               const struct ge_config *b)
{
    char *one = printed(a, false), *other = printed(b, false);

    assert_string_equal(one, other);
    free(one);
    free(other);
}

static void assert_defaults(const struct ge_config *config)
{
    assert_string_equal(config->session, "");
    assert_int_equal(config->sample_every, 1);
    assert_int_equal(config->sample_echo_every, 10);
    assert_int_equal(config->layers_include.count, 1);
    assert_string_equal(config->layers_include.item[0], "*");
    assert_int_equal(config->layers_exclude.count, 0);
    assert_int_equal(config->layers_max_modes, 16);
    assert_true(config->svd_tolerance == 1e-3);
    assert_int_equal(config->svd_oversample, 8);
    assert_int_equal(config->svd_placement, GE_PLACEMENT_SPREAD);
    assert_int_equal(config->svd_threads, 1);
    assert_int_equal(config->echo_estimator, GE_ESTIMATOR_LOO);
    assert_int_equal(config->echo_partners, 8);
    assert_int_equal(config->echo_replicas_max, 64);
    assert_true(config->noise_half_life == 20.0);
    assert_int_equal(config->fit_weights, GE_FIT_DELTA);
    assert_string_equal(config->log_path, "gradecho.h5");
    assert_int_equal(config->log_flush_every, 1);
    assert_true(config->alarm_same_data == 0.9);
    assert_int_equal(config->alarm_not_finite, true);
    assert_int_equal(config->alarm_lost, true);
    assert_true(config->alarm_hot_replica == 2.0);
    assert_true(config->alarm_dropped == 0.0);
    assert_true(config->alarm_noise_scale == 0.0);
    assert_true(config->alarm_layer_noise_scale == 0.0);
    assert_true(config->alarm_knee == 0.0);
    assert_int_equal(config->alarm_pure_noise, 0);
    assert_int_equal(config->alarm_layers.count, 1);
    assert_string_equal(config->alarm_layers.item[0], "*");
    assert_int_equal(config->alarm_samples, 10);
    assert_string_equal(config->alarm_command, "");
    assert_string_equal(config->prometheus_path, "");
    assert_true(config->prometheus_seconds == 10.0);
    assert_int_equal(config->on_rank_loss, GE_LOSS_CONTINUE);
    assert_true(config->timeout_seconds == 300.0);
}

static void every_key_has_its_default(void **state)
{
    struct ge_config config = defaults();

    (void)state;
    assert_defaults(&config);
    ge_config_fini(&config);
    assert_null(config.session);
    ge_config_fini(&config);
}

static void an_empty_file_changes_nothing(void **state)
{
    static const char *const texts[] = {"", "\n", "   \n\n",
                                        "# nothing but a remark\n", "{}"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        struct ge_config config = defaults();

        assert_ok(parse(&config, texts[i]));
        assert_defaults(&config);
        ge_config_fini(&config);
    }
}

static const char everything[] =
    "session: run-7_b.c\n"
    "sample:\n"
    "  every: 50\n"
    "  echo_every: 1000000000\n"
    "layers:\n"
    "  include: [\"*.weight\", 'emb?d']\n"
    "  exclude:\n"
    "    - head*\n"
    "    - \"[ab]\\\\*\"\n"
    "  max_modes: 512\n"
    "svd: {tolerance: 2.5e-7, oversample: 0,\n"
    "      placement: root, threads: 256}\n"
    "echo:\n"
    "  estimator: both\n"
    "  partners: 1\n"
    "  replicas_max: 4096\n"
    "noise: {half_life: 0.01}\n"
    "fit:\n"
    "  weights: ols\n"
    "log:\n"
    "  path: \"/tmp/a \\\"b\\\"\\t\\\\c.h5\"\n"
    "  flush_every: 1e3\n"
    "alarms: {same_data: 0.5, not_finite: false,\n"
    "  lost: false, hot_replica: 3, dropped: 0.25,\n"
    "  noise_scale: 1e4, layer_noise_scale: 2e4,\n"
    "  knee: 1e-9, pure_noise: 3, samples: 20,\n"
    "  layers: [\"h.*\"], command: mail me}\n"
    "prometheus: {path: g.prom,\n"
    "  every_seconds: 0.5}\n"
    "on_rank_loss: stop\n"
    "timeout_seconds: 0.125e2\n";

static void every_key_can_be_set_by_a_file(void **state)
{
    struct ge_config config = defaults();

    (void)state;
    assert_ok(parse(&config, everything));
    assert_string_equal(config.session, "run-7_b.c");
    assert_int_equal(config.sample_every, 50);
    assert_int_equal(config.sample_echo_every, 1000000000);
    assert_int_equal(config.layers_include.count, 2);
    assert_string_equal(config.layers_include.item[0], "*.weight");
    assert_string_equal(config.layers_include.item[1], "emb?d");
    assert_int_equal(config.layers_exclude.count, 2);
    assert_string_equal(config.layers_exclude.item[0], "head*");
    assert_string_equal(config.layers_exclude.item[1], "[ab]\\*");
    assert_int_equal(config.layers_max_modes, 512);
    assert_true(config.svd_tolerance == 2.5e-7);
    assert_int_equal(config.svd_oversample, 0);
    assert_int_equal(config.svd_placement, GE_PLACEMENT_ROOT);
    assert_int_equal(config.svd_threads, 256);
    assert_int_equal(config.echo_estimator, GE_ESTIMATOR_BOTH);
    assert_int_equal(config.echo_partners, 1);
    assert_int_equal(config.echo_replicas_max, 4096);
    assert_true(config.noise_half_life == 0.01);
    assert_int_equal(config.fit_weights, GE_FIT_OLS);
    assert_string_equal(config.log_path, "/tmp/a \"b\"\t\\c.h5");
    assert_int_equal(config.log_flush_every, 1000);
    assert_true(config.alarm_same_data == 0.5);
    assert_int_equal(config.alarm_not_finite, false);
    assert_int_equal(config.alarm_lost, false);
    assert_true(config.alarm_hot_replica == 3.0);
    assert_true(config.alarm_dropped == 0.25);
    assert_true(config.alarm_noise_scale == 1e4);
    assert_true(config.alarm_layer_noise_scale == 2e4);
    assert_true(config.alarm_knee == 1e-9);
    assert_int_equal(config.alarm_pure_noise, 3);
    assert_int_equal(config.alarm_layers.count, 1);
    assert_string_equal(config.alarm_layers.item[0], "h.*");
    assert_int_equal(config.alarm_samples, 20);
    assert_string_equal(config.alarm_command, "mail me");
    assert_string_equal(config.prometheus_path, "g.prom");
    assert_true(config.prometheus_seconds == 0.5);
    assert_int_equal(config.on_rank_loss, GE_LOSS_STOP);
    assert_true(config.timeout_seconds == 12.5);
    ge_config_fini(&config);
}

static void a_file_keeps_what_it_does_not_name(void **state)
{
    struct ge_config config = defaults();

    (void)state;
    assert_ok(parse(&config, "sample:\n  every: 50\n"));
    assert_ok(parse(&config, "sample:\n  echo_every: 3\n"));
    assert_int_equal(config.sample_every, 50);
    assert_int_equal(config.sample_echo_every, 3);
    ge_config_fini(&config);
}

static const struct {
    const char *text, *message; /* the beginning of the message */
} refusals[] = {
    /* unknown */
    {"sample:\n  evry: 1\n",
     "run.yaml:2: unknown key sample.evry; is sample.every meant?"},
    {"\n\nsvd:\n\n  tolerence: 1\n",
     "run.yaml:5: unknown key svd.tolerence; is svd.tolerance meant?"},
    {"timeout: 1\n", "run.yaml:1: unknown key timeout; is timeout_seconds "
                     "meant?"},
    {"flush_every: 1\n",
     "run.yaml:1: unknown key flush_every; is log.flush_every meant?"},
    {"layers: {every: 5}\n",
     "run.yaml:1: unknown key layers.every; is sample.every meant?"},
    {"sampel: {every: 5}\n",
     "run.yaml:1: unknown key sampel; is sample meant?"},
    {"colour: red\n", "run.yaml:1: unknown key colour; `gradecho config "
                      "--default` tells them all"},
    {"sample:\n  sample:\n    every: 1\n",
     "run.yaml:2: unknown key sample.sample; is "},
    {"[a, b]: 1\n",
     "run.yaml:1: unknown key a list or mapping; `gradecho config "},
    {"'': 1\n", "run.yaml:1: unknown key ; `gradecho config "},
    /* repeated */
    {"sample:\n  every: 1\n  every: 1\n",
     "run.yaml:3: sample.every is repeated"},
    {"session: a\nlog: {path: b}\nsession: a\n",
     "run.yaml:3: session is repeated"},
    {"sample: {every: 1}\nsample: {every: 2}\n",
     "run.yaml:2: sample.every is repeated"},
    {"sample.every: 1\nsample: {every: 2}\n",
     "run.yaml:2: sample.every is repeated"},
    /* numbers */
    {"sample:\n  every: 0\n", "run.yaml:2: sample.every must be a whole number "
                              "from 1 to 1000000000, not 0"},
    {"sample:\n  every: -1\n",
     "run.yaml:2: sample.every must be a whole number "
     "from 1 to 1000000000, not -1"},
    {"sample:\n  every: 1000000001\n",
     "run.yaml:2: sample.every must be a whole number from 1 to 1000000000, "
     "not 1000000001"},
    {"sample: {every: 2.5}\n", "run.yaml:1: sample.every must be a whole "
                               "number from 1 to 1000000000, not 2.5"},
    {"sample: {every: nan}\n", "run.yaml:1: sample.every must be a whole "
                               "number from 1 to 1000000000, not nan"},
    {"sample: {every: 5 steps}\n", "run.yaml:1: sample.every must be a whole "
                                   "number from 1 to 1000000000, not 5 steps"},
    {"sample: {every: }\n", "run.yaml:1: sample.every must be a whole number "
                            "from 1 to 1000000000, not "},
    {"sample: {every: ten}\n", "run.yaml:1: sample.every must be a whole "
                               "number from 1 to 1000000000, not ten"},
    {"sample: {every: [1]}\n", "run.yaml:1: sample.every must be a whole "
                               "number from 1 to 1000000000, not a list or "
                               "mapping"},
    {"svd:\n  tolerance: -1\n", "run.yaml:2: svd.tolerance must be a number "
                                "from 0 to 0.1, not -1"},
    {"svd:\n  tolerance: inf\n", "run.yaml:2: svd.tolerance must be a number "
                                 "from 0 to 0.1, not inf"},
    {"svd: {tolerance: {a: 1}}\n",
     "run.yaml:1: svd.tolerance must be a number from 0 to 0.1, not a list "
     "or mapping"},
    {"layers: {max_modes: 513}\n", "run.yaml:1: layers.max_modes must be a "
                                   "whole number from 1 to 512, not 513"},
    {"timeout_seconds: 0.5\n", "run.yaml:1: timeout_seconds must be a number "
                               "from 1 to 1000000, not 0.5"},
    /* words, texts, globs */
    {"svd:\n  placement: leaf\n",
     "run.yaml:2: svd.placement must be one of root, spread, not leaf"},
    {"svd:\n  placement: [root]\n",
     "run.yaml:2: svd.placement must be one of root, spread, not a list or "
     "mapping"},
    {"on_rank_loss: Stop\n",
     "run.yaml:1: on_rank_loss must be one of continue, stop, not Stop; is "
     "stop meant?"},
    {"session: [a]\n",
     "run.yaml:1: session must be a text of at most 63 bytes"},
    {"log: {path: \"a\\0b\"}\n",
     "run.yaml:1: log.path must be a text of at most 4095 bytes"},
    {"session: 'a/b'\n", "run.yaml: session may hold letters, digits, '.', "
                         "'_', '-' only, not a/b"},
    {"session: a234567890123456789012345678901234567890123456789012345678901234"
     "\n",
     "run.yaml:1: session must be a text of at most 63 bytes"},
    {"layers:\n  include: '*'\n",
     "run.yaml:2: layers.include must be a list of globs, like [\"*weight\"]"},
    {"layers:\n  exclude: {a: b}\n",
     "run.yaml:2: layers.exclude must be a list of globs, like"},
    {"layers:\n  include: [a, [b]]\n",
     "run.yaml:2: layers.include must be a list of globs, each a text"},
    {"layers:\n  include: [a, '']\n",
     "run.yaml:2: layers.include must be a list of globs, each a text"},
    {"layers:\n  include: [\"a\\0b\"]\n",
     "run.yaml:2: layers.include must be a list of globs, each a text"},
    {"echo: {estimator: none}\n",
     "run.yaml:1: echo.estimator must be one of loo, reverb, both, not none"},
    /* structure */
    {"sample: 3\n", "run.yaml:1: sample must hold its keys, indented under it"},
    {"log:\n  path: a\nlayers: [a]\n",
     "run.yaml:3: layers must hold its keys, indented under it"},
    {"- a\n- b\n", "run.yaml:1: must be keys and values, like"},
    {"just a text\n", "run.yaml:1: must be keys and values, like"},
    {"sample: {every: 1\n", "run.yaml:2: not YAML: "},
    {"a: 1\n b: 2\n", "run.yaml:2: not YAML: "},
    {"session: \"\n", "run.yaml:2: not YAML: "},
    {"session: *nowhere\n", "run.yaml:1: not YAML: "},
    {"session: \xff\n", "run.yaml:1: not YAML: "},
    {"\tsession: a\n", "run.yaml:1: not YAML: "},
};

static void assert_refused(gradecho_status status, const char *message)
{
    const char *told = ge_message_last();

    if (strncmp(told, message, strlen(message)) != 0)
        print_error("told:     %s\nexpected: %s\n", told, message);
    assert_int_equal(status, GRADECHO_E_INPUT);
    assert_int_equal(strncmp(told, message, strlen(message)), 0);
}

static void every_mistake_in_a_file_is_told_in_one_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(refusals); i++) {
        struct ge_config config = defaults();
        const int before = ge_message_capture(1);

        assert_refused(parse(&config, refusals[i].text), refusals[i].message);
        ge_message_capture(before);
        assert_null(strchr(ge_message_last(), '\n'));
        ge_config_fini(&config);
    }
}

static void a_wrong_value_leaves_the_old_one(void **state)
{
    static const char *const texts[] = {
        "session: [a]\n",
        "sample: {every: 0}\n",
        "layers: {include: [a, ['']]}\n",
        "svd: {placement: leaf}\n",
        "svd: {tolerance: 1}\n",
    };
    const int before = ge_message_capture(1);

    (void)state;
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        struct ge_config config = defaults();

        assert_int_equal(parse(&config, texts[i]), GRADECHO_E_INPUT);
        assert_defaults(&config);
        ge_config_fini(&config);
    }
    ge_message_capture(before);
}

static void only_the_given_bytes_are_read(void **state)
{
    struct ge_config config = defaults();
    static const char text[] = "sample: {every: 7}\nsession: a b c [";

    (void)state;
    assert_ok(ge_config_parse(&config, text, 19, "run.yaml"));
    assert_int_equal(config.sample_every, 7);
    assert_string_equal(config.session, "");
    ge_config_fini(&config);
}

static void what_is_printed_reads_back(void **state)
{
    static const char *const texts[] = {
        "",
        everything,
        "log: {path: \"\\x01\\x1f\\x7f'#: [],\\n\\r\\t\\\\\\\"\"}\n",
        "log: {path: \"\"}\n",
        "log: {path: \" # not a remark\"}\n",
        "log: {path: \"gr\xc3\xbc\xc3\x9f/\xe6\x97\xa5\xe6\x9c\xac\"}\n",
        "log: {path: \"\\U0001F600\\u00a0\"}\n",
        "layers: {include: [], exclude: [\"a, b\", \"]\", \"\\\"\"]}\n",
        "svd: {tolerance: 0.0123456789012345678}\n",
        "timeout_seconds: 3.3333333333333333\n",
        "sample: {every: 1000000000}\n",
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        for (int help = 0; help < 2; help++) {
            struct ge_config config = defaults(), back = defaults();

            assert_ok(parse(&config, texts[i]));
            char *text = printed(&config, help != 0);

            assert_ok(parse(&back, text));
            assert_same_config(&config, &back);
            assert_string_equal(config.session, back.session);
            assert_string_equal(config.log_path, back.log_path);
            assert_true(config.svd_tolerance == back.svd_tolerance);
            assert_true(config.timeout_seconds == back.timeout_seconds);
            free(text);
            ge_config_fini(&config);
            ge_config_fini(&back);
        }
    }
}

/* YAML ends a line at these, and takes the control characters U+0080 to U+009F
 * in escaped form only. */
static void characters_that_yaml_does_not_print_read_back(void **state)
{
    static const char *const texts[] = {
        "log: {path: \"a\\Nb\"}\n",     "log: {path: \"a\\Lb\"}\n",
        "log: {path: \"a\\Pb\"}\n",     "log: {path: \"a\\x80b\"}\n",
        "log: {path: \"a\\x9fb\"}\n",   "log: {path: \"a\\ufeffb\"}\n",
        "log: {path: \"a\\uFFFEb\"}\n", "layers: {include: [\"a\\Nb\"]}\n"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        struct ge_config config = defaults(), back = defaults();

        assert_ok(parse(&config, texts[i]));
        char *text = printed(&config, false);

        assert_ok(parse(&back, text));
        assert_same_config(&config, &back);
        free(text);
        ge_config_fini(&config);
        ge_config_fini(&back);
    }
}

static void every_kind_of_key_can_be_set_by_an_assignment(void **state)
{
    struct ge_config config = defaults();

    (void)state;
    assert_ok(ge_config_set(&config, "sample.every=50"));
    assert_ok(ge_config_set(&config, "svd.tolerance=2.5e-7"));
    assert_ok(ge_config_set(&config, "svd.placement=root"));
    assert_ok(ge_config_set(&config, "log.path=/tmp/a=b.h5"));
    assert_ok(ge_config_set(&config, "layers.include=[\"*w\", b]"));
    assert_ok(ge_config_set(&config, "session=\"x\""));
    assert_int_equal(config.sample_every, 50);
    assert_true(config.svd_tolerance == 2.5e-7);
    assert_int_equal(config.svd_placement, GE_PLACEMENT_ROOT);
    assert_string_equal(config.log_path, "/tmp/a=b.h5");
    assert_int_equal(config.layers_include.count, 2);
    assert_string_equal(config.layers_include.item[0], "*w");
    assert_string_equal(config.session, "x");
    assert_ok(ge_config_set(&config, "session=''"));
    assert_ok(ge_config_set(&config, "sample.every=51")); /* the last counts */
    assert_string_equal(config.session, "");
    assert_int_equal(config.sample_every, 51);
    ge_config_fini(&config);
}

static const struct {
    const char *assignment, *message;
} assignments[] = {
    {"sample.every", "--set sample.every: must be key=value"},
    {"", "--set : must be key=value"},
    {"=5", "--set =5: must be key=value"},
    {"sample.every=", "--set: sample.every has no value"},
    {"session=", "--set: session has no value"},
    {"sample.evry=5", "--set: unknown key sample.evry; is sample.every meant?"},
    {"sample=5", "--set: unknown key sample; is "},
    {" sample.every=5", "--set: unknown key  sample.every; is sample.every"},
    {"sample.every=0",
     "--set:1: sample.every must be a whole number from 1 to 1000000000, not "
     "0"},
    {"svd.placement=leaf",
     "--set:1: svd.placement must be one of root, spread, not leaf"},
    {"layers.include=a", "--set:1: layers.include must be a list of globs"},
    {"layers.include=[a", "--set:2: not YAML: "},
    {"session=a b", "--set: session may hold letters, digits"},
};

static void every_mistake_in_an_assignment_is_told(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(assignments); i++) {
        struct ge_config config = defaults();
        const int before = ge_message_capture(1);

        assert_refused(ge_config_set(&config, assignments[i].assignment),
                       assignments[i].message);
        ge_message_capture(before);
        ge_config_fini(&config);
    }
}

static void a_key_that_is_too_long_is_refused(void **state)
{
    static char text[5000];
    struct ge_config config = defaults();
    const int before = ge_message_capture(1);

    (void)state;
    memset(text, 'k', sizeof text - 1);
    memcpy(text + 4990, "=1", 2);
    assert_refused(ge_config_set(&config, text), "--set kkkk");
    text[4990] = ':';
    text[4991] = ' ';
    text[4992] = '1';
    text[4993] = '\0';
    assert_int_equal(parse(&config, text), GRADECHO_E_INPUT);
    memcpy(text, "log.path=", 9);
    memset(text + 9, 'p', sizeof text - 10);
    text[9 + 4096] = '\0';
    assert_refused(ge_config_set(&config, text),
                   "--set:1: log.path must be a text of at most 4095 bytes");
    text[9 + 4095] = '\0';
    assert_ok(ge_config_set(&config, text));
    assert_int_equal(strlen(config.log_path), 4095);
    ge_message_capture(before);
    ge_config_fini(&config);
}

static void globs_match_whole_names(void **state)
{
    struct ge_config config = defaults();

    (void)state;
    assert_ok(ge_config_set(&config, "layers.include=[\"fc?.w*\", exact]"));
    assert_true(ge_globs_match(&config.layers_include, "fc1.weight"));
    assert_true(ge_globs_match(&config.layers_include, "exact"));
    assert_false(ge_globs_match(&config.layers_include, "exactly"));
    assert_false(ge_globs_match(&config.layers_include, "a.fc1.weight"));
    assert_false(ge_globs_match(&config.layers_exclude, "exact"));
    assert_ok(ge_config_set(&config, "layers.include=[\"*\"]"));
    assert_true(ge_globs_match(&config.layers_include, "a/b/.c"));
    ge_config_fini(&config);
}

static void a_full_disk_is_noticed(void **state)
{
    struct ge_config config = defaults();
    FILE *full = fopen("/dev/full", "w");

    (void)state;
    assert_non_null(full);
    setvbuf(full, NULL, _IONBF, 0);
    assert_false(ge_config_print(&config, true, full));
    fclose(full);
    ge_config_fini(&config);
}

/* Made by `gradecho config > configs/default.yaml`. */
static void the_default_file_is_up_to_date(void **state)
{
    struct ge_config config = defaults();
    char *expected = printed(&config, true);
    FILE *file = fopen(SOURCE_DIR "/configs/default.yaml", "rb");
    static char text[65536];

    (void)state;
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    assert_string_equal(text, expected);
    free(expected);
    ge_config_fini(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_has_its_default),
        cmocka_unit_test(an_empty_file_changes_nothing),
        cmocka_unit_test(every_key_can_be_set_by_a_file),
        cmocka_unit_test(a_file_keeps_what_it_does_not_name),
        cmocka_unit_test(every_mistake_in_a_file_is_told_in_one_line),
        cmocka_unit_test(a_wrong_value_leaves_the_old_one),
        cmocka_unit_test(only_the_given_bytes_are_read),
        cmocka_unit_test(what_is_printed_reads_back),
        cmocka_unit_test(characters_that_yaml_does_not_print_read_back),
        cmocka_unit_test(every_kind_of_key_can_be_set_by_an_assignment),
        cmocka_unit_test(every_mistake_in_an_assignment_is_told),
        cmocka_unit_test(a_key_that_is_too_long_is_refused),
        cmocka_unit_test(globs_match_whole_names),
        cmocka_unit_test(a_full_disk_is_noticed),
        cmocka_unit_test(the_default_file_is_up_to_date),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
