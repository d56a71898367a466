/* Names and options of segments: who may have which, and what is refused. */
#include "segments.h"

#include <fcntl.h>
#include <sys/stat.h>

static void the_segment_is_private_and_goes_with_its_trainer(void **state)
{
    gradecho *trainer = open_trainer();
    struct stat file;

    (void)state;
    assert_int_equal(stat(path_of(0), &file), 0);
    assert_int_equal(file.st_mode & 07777, 0600);
    assert_true(file.st_blocks * 512 >= file.st_size); /* reserved */
    gradecho_close(&trainer);
    assert_false(name_exists(0));
}

static void a_live_trainer_is_not_replaced(void **state)
{
    const struct gradecho_options options = some_options();
    gradecho *trainer = open_trainer(), *second = NULL;

    (void)state;
    assert_int_equal(gradecho_open(&options, &second), GRADECHO_E_EXISTS);
    assert_null(second);
    assert_non_null(strstr(gradecho_message(), "live trainer"));
    assert_true(name_exists(0));
    gradecho_close(&trainer);
    trainer = open_trainer();
    gradecho_close(&trainer);
}

static void a_stranger_under_the_name_is_left_alone(void **state)
{
    const struct gradecho_options options = some_options();
    gradecho *trainer = NULL;
    ge_consumer *monitor = NULL;

    (void)state;
    assert_int_equal(symlink("/etc/passwd", path_of(0)), 0);
    assert_int_equal(gradecho_open(&options, &trainer), GRADECHO_E_EXISTS);
    ge_message_capture(1);
    assert_int_equal(ge_consumer_attach(session(), 0, &monitor),
                     GRADECHO_E_INPUT);
    assert_int_equal(unlink(path_of(0)), 0);
    assert_int_equal(mkfifo(path_of(0), 0600), 0);
    assert_int_equal(gradecho_open(&options, &trainer), GRADECHO_E_EXISTS);
    assert_int_equal(ge_consumer_attach(session(), 0, &monitor),
                     GRADECHO_E_INPUT);
    ge_message_capture(0);
    assert_int_equal(unlink(path_of(0)), 0);
}

static void a_closing_trainer_leaves_anothers_name_alone(void **state)
{
    gradecho *trainer = open_trainer();
    int other = -1;

    (void)state;
    assert_int_equal(unlink(path_of(0)), 0);
    other = open(path_of(0), O_CREAT | O_EXCL | O_RDWR, 0600);
    assert_true(other >= 0);
    close(other);
    gradecho_close(&trainer);
    assert_true(name_exists(0));
    trainer = open_trainer(); /* an unlocked file of ours is a leftover */
    gradecho_close(&trainer);
    assert_false(name_exists(0));
}

static void a_second_monitor_is_refused(void **state)
{
    gradecho *trainer = open_trainer();
    ge_consumer *monitor = attach_monitor(1), *second = NULL;

    (void)state;
    ge_message_capture(1);
    assert_int_equal(ge_consumer_attach(session(), 0, &second),
                     GRADECHO_E_EXISTS);
    assert_int_equal(ge_consumer_attach(session(), 1, &second),
                     GRADECHO_E_INPUT);
    ge_message_capture(0);
    assert_null(second);
    ge_consumer_detach(&monitor);
    monitor = attach_monitor(1);
    ge_consumer_detach(&monitor);
    gradecho_close(&trainer);
}

static void a_scan_finds_the_live_ranks_in_order(void **state)
{
    static const uint32_t ranks[] = {11, 0, 3};
    static const char *const strangers[] = {"03",  "+3",          "x", "",
                                            "3.7", "99999999999", "42"};
    struct gradecho_options options = some_options();
    struct ge_segment_info found[4] = {{0}};
    gradecho *trainers[COUNT_OF(ranks)] = {NULL};
    char path[2 * GE_SEGMENT_PATH_MAX];
    size_t count = 77;

    (void)state;
    assert_int_equal(ge_consumer_scan(session(), false, NULL, 0, &count),
                     GRADECHO_OK);
    assert_int_equal(count, 0);
    options.world = 12;
    for (size_t i = 0; i < COUNT_OF(ranks); i++) {
        options.rank = ranks[i];
        assert_int_equal(gradecho_open(&options, &trainers[i]), GRADECHO_OK);
    }
    for (size_t i = 0; i < COUNT_OF(strangers); i++) {
        snprintf(path, sizeof path, "%.*s%s", (int)strlen(path_of(0)) - 1,
                 path_of(0), strangers[i]);
        close(open(path, O_CREAT | O_RDWR, 0600));
    }
    assert_int_equal(ge_consumer_scan(session(), false, found, 4, &count),
                     GRADECHO_OK);
    ge_message_capture(1);
    assert_int_equal(ge_consumer_scan(session(), false, found, 2, &count),
                     GRADECHO_E_INPUT);
    ge_message_capture(0);
    for (size_t i = 0; i < COUNT_OF(strangers); i++) {
        snprintf(path, sizeof path, "%.*s%s", (int)strlen(path_of(0)) - 1,
                 path_of(0), strangers[i]);
        unlink(path);
    }
    assert_int_equal(count, 3);
    assert_int_equal(ge_consumer_scan(session(), false, found, 4, &count),
                     GRADECHO_OK);
    assert_int_equal(found[0].rank, 0);
    assert_int_equal(found[1].rank, 3);
    assert_int_equal(found[2].rank, 11);
    assert_int_equal(found[2].world, 12);
    for (size_t i = 0; i < COUNT_OF(ranks); i++)
        gradecho_close(&trainers[i]);
}

static void the_environment_names_the_session(void **state)
{
    struct gradecho_options options = some_options();
    gradecho *trainer = NULL;

    (void)state;
    options.session = NULL;
    assert_int_equal(setenv(GRADECHO_SESSION_ENV, session(), 1), 0);
    assert_int_equal(gradecho_open(&options, &trainer), GRADECHO_OK);
    assert_true(name_exists(0));
    gradecho_close(&trainer);
    assert_int_equal(setenv(GRADECHO_SESSION_ENV, "a/b", 1), 0);
    assert_int_equal(gradecho_open(&options, &trainer), GRADECHO_E_ARG);
    assert_int_equal(unsetenv(GRADECHO_SESSION_ENV), 0);
}

/* Each entry changes good options into bad ones. */
static void set_size(struct gradecho_options *o)
{
    o->struct_size = 8;
}
static void set_rank(struct gradecho_options *o)
{
    o->rank = 1;
}
static void set_world(struct gradecho_options *o)
{
    o->world = 0;
}
static void set_one_slot(struct gradecho_options *o)
{
    o->slots = 1;
}
static void set_many_slots(struct gradecho_options *o)
{
    o->slots = 65;
}
static void set_no_replica(struct gradecho_options *o)
{
    o->replicas = 0;
}
static void set_many_replicas(struct gradecho_options *o)
{
    o->replicas = 1025;
}
static void set_two_means(struct gradecho_options *o)
{
    o->mean = 2;
}
static void set_no_table(struct gradecho_options *o)
{
    o->layers = NULL;
}
static void set_no_layers(struct gradecho_options *o)
{
    o->layer_count = 0;
}
static void set_many_layers(struct gradecho_options *o)
{
    o->layer_count = 65537;
}

static void options_out_of_range_are_refused(void **state)
{
    static void (*const spoil[])(struct gradecho_options *) = {
        set_size,        set_rank,          set_world,    set_one_slot,
        set_many_slots,  set_no_replica,    set_no_table, set_no_layers,
        set_many_layers, set_many_replicas, set_two_means};
    gradecho *trainer = NULL;
    const struct gradecho_options good = some_options();

    (void)state;
    for (size_t i = 0; i < COUNT_OF(spoil); i++) {
        struct gradecho_options options = some_options();

        spoil[i](&options);
        assert_int_equal(gradecho_open(&options, &trainer), GRADECHO_E_ARG);
        assert_true(strlen(gradecho_message()) > 10);
    }
    assert_int_equal(gradecho_open(NULL, &trainer), GRADECHO_E_ARG);
    assert_int_equal(gradecho_open(&good, NULL), GRADECHO_E_ARG);
    assert_null(trainer);
    assert_false(name_exists(0));
}

static void sessions_that_are_no_file_names_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "a/b",
        "../x",
        "a b",
        "\xc3\xa9",
        "a\nb",
        "0123456789012345678901234567890123456789012345678901234567890123"};
    struct gradecho_options options = some_options();
    struct ge_segment_info info;
    gradecho *trainer = NULL;
    size_t count = 0;

    (void)state;
    ge_message_capture(1);
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        options.session = bad[i];
        assert_int_equal(gradecho_open(&options, &trainer), GRADECHO_E_ARG);
        assert_int_equal(ge_consumer_scan(bad[i], false, &info, 1, &count),
                         GRADECHO_E_ARG);
    }
    ge_message_capture(0);
    assert_null(trainer);
    options.session = /* the longest */
        "a.b-c_D9012345678901234567890123456789012345678901234567890.123";
    assert_int_equal(gradecho_open(&options, &trainer), GRADECHO_OK);
    gradecho_close(&trainer);
}

static void layers_that_make_no_sense_are_refused(void **state)
{
    static char longest[GRADECHO_NAME_MAX + 2];
    const struct gradecho_layer bad[] = {
        {NULL, 1, 1, GRADECHO_F32},
        {"", 1, 1, GRADECHO_F32},
        {longest, 1, 1, GRADECHO_F32},
        {"bell\a", 1, 1, GRADECHO_F32},
        {"del\x7f", 1, 1, GRADECHO_F32},
        {"c1\xc2\x85", 1, 1, GRADECHO_F32},
        {"cut\xc3", 1, 1, GRADECHO_F32},
        {"overlong\xc0\xaf", 1, 1, GRADECHO_F32},
        {"overlong\xe0\x80\xaf", 1, 1, GRADECHO_F32},
        {"surrogate\xed\xa0\x80", 1, 1, GRADECHO_F32},
        {"beyond\xf4\x90\x80\x80", 1, 1, GRADECHO_F32},
        {"latin\xe9", 1, 1, GRADECHO_F32},
        {"twice", 1, 1, GRADECHO_F32},
        {"rows", 0, 1, GRADECHO_F32},
        {"cols", 1, 0, GRADECHO_F32},
        {"dtype", 1, 1, (gradecho_dtype)0},
        {"dtype", 1, 1, (gradecho_dtype)5},
        {"wraps", UINT64_C(1) << 32, UINT64_C(1) << 32, GRADECHO_F32},
        {"wraps", UINT64_C(1) << 62, 1, GRADECHO_F64},
        {"wraps", UINT64_MAX, 1, GRADECHO_F16},
        {"huge", UINT64_C(1) << 59, 1, GRADECHO_F64},
    };
    struct gradecho_layer table[] = {{"twice", 1, 1, GRADECHO_F32},
                                     {"other", 1, 1, GRADECHO_F32}};
    struct gradecho_options options = some_options();
    gradecho *trainer = NULL;

    (void)state;
    memset(longest, 'x', sizeof longest - 1);
    options.layers = table;
    options.layer_count = 2;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        table[1] = bad[i];
        assert_int_equal(gradecho_open(&options, &trainer), GRADECHO_E_ARG);
        assert_true(strlen(gradecho_message()) > 10);
    }
    assert_null(trainer);
    longest[GRADECHO_NAME_MAX] = '\0';
    table[0].name = "\xf0\x9f\x8c\x8a \xe2\x88\x87 \xc2\xa0";
    table[1] = bad[2];
    assert_int_equal(gradecho_open(&options, &trainer), GRADECHO_OK);
    gradecho_close(&trainer);
}

static void a_message_stays_until_the_next_failure(void **state)
{
    gradecho *trainer = open_trainer();
    ge_consumer *monitor = attach_monitor(1);

    (void)state;
    assert_int_equal(gradecho_begin(trainer, -7), GRADECHO_E_ARG);
    assert_non_null(strstr(gradecho_message(), "-7"));
    assert_true(hand_over(trainer, 0, 1));
    ge_consumer_detach(&monitor);
    gradecho_close(&trainer);
    trainer = open_trainer();
    assert_non_null(strstr(gradecho_message(), "-7"));
    gradecho_close(&trainer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_segment_is_private_and_goes_with_its_trainer),
        cmocka_unit_test(a_live_trainer_is_not_replaced),
        cmocka_unit_test(a_stranger_under_the_name_is_left_alone),
        cmocka_unit_test(a_closing_trainer_leaves_anothers_name_alone),
        cmocka_unit_test(a_second_monitor_is_refused),
        cmocka_unit_test(a_scan_finds_the_live_ranks_in_order),
        cmocka_unit_test(the_environment_names_the_session),
        cmocka_unit_test(options_out_of_range_are_refused),
        cmocka_unit_test(sessions_that_are_no_file_names_are_refused),
        cmocka_unit_test(layers_that_make_no_sense_are_refused),
        cmocka_unit_test(a_message_stays_until_the_next_failure),
    };

    return cmocka_run_group_tests_name("handoff names", tests, NULL, NULL);
}
