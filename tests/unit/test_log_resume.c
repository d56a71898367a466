/* A log that is continued or recovered; and when it must not be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <hdf5.h>

#include "log_check.h"

static void append_rows(struct writing *w, uint64_t first, uint64_t end)
{
    for (uint64_t i = first; i < end; i++)
        assert_int_equal(append(w, i), GRADECHO_OK);
}

/* Start again on a log that exists. */
static struct writing start_again(const char *path, uint32_t flush_every)
{
    struct writing w = {.layers = fixture_layers(small.layers)};
    struct ge_log_spec spec = fixture_spec(path, small, w.layers);

    spec.flush_every = flush_every;
    assert_non_null(w.layers);
    assert_int_equal(ge_row_init(&w.row, &small), GRADECHO_OK);
    assert_int_equal(ge_log_resume(&spec, &w.log), GRADECHO_OK);
    return w;
}

static void resumed_rows_stand_behind_the_old_ones(void **state)
{
    const struct temp *temp = *state;
    ge_log_reader *log = NULL;
    uint64_t rows = 17;

    make_log(temp->path, small, rows);
    for (int64_t turn = 1; turn <= 4; turn++) {
        struct writing w = start_again(temp->path, turn % 2 != 0 ? 1 : 6);
        const struct ge_log_past *past = ge_log_past(w.log);

        assert_int_equal(past->rows, rows);
        assert_int_equal(past->step, fixture_step(rows - 1));
        assert_int_equal(past->restarts, turn);
        append_rows(&w, rows, rows + 13);
        rows += 13;
        stop(&w);
    }
    assert_int_equal(ge_log_open(temp->path, &log), GRADECHO_OK);
    assert_int_equal(rows_of(log), rows);
    check_rows(log, 0, rows);
    assert_int_equal(ge_log_reader_facts(log)->restarts, 4);
    assert_int_equal(ge_log_reader_facts(log)->end, GE_LOG_CLOSED);
    ge_log_reader_close(&log);
}

static void an_empty_log_is_resumed_too(void **state)
{
    const struct temp *temp = *state;
    ge_log_reader *log = NULL;

    make_log(temp->path, small, 0);
    struct writing w = start_again(temp->path, 1);

    assert_int_equal(ge_log_past(w.log)->rows, 0);
    assert_int_equal(ge_log_past(w.log)->step, -1);
    append_rows(&w, 0, 2);
    stop(&w);
    assert_int_equal(ge_log_open(temp->path, &log), GRADECHO_OK);
    check_rows(log, 0, rows_of(log));
    ge_log_reader_close(&log);
}

/* ---- what does not fit ---- */

static char *contents(const char *path)
{
    const long long size = temp_size(path);
    char *bytes = NULL;
    FILE *file = NULL;

    assert_true(size > 0);
    bytes = malloc((size_t)size);
    file = fopen(path, "rb");
    assert_non_null(bytes);
    assert_non_null(file);
    assert_int_equal(fread(bytes, 1, (size_t)size, file), size);
    fclose(file);
    return bytes;
}

/* Refused with this message, and not a byte of the log is other than before. */
static void refuses(const struct ge_log_spec *spec, gradecho_status expected,
                    const char *message)
{
    const long long size = temp_size(spec->path);
    char *before = contents(spec->path), *after = NULL;
    ge_log_writer *log = NULL;

    assert_int_equal(ge_log_resume(spec, &log), expected);
    assert_null(log);
    if (strstr(ge_message_last(), message) == NULL)
        fail_msg("\"%s\" instead of \"%s\"", ge_message_last(), message);
    assert_int_equal(temp_size(spec->path), size);
    after = contents(spec->path);
    assert_memory_equal(before, after, (size_t)size);
    free(before);
    free(after);
}

static void a_log_that_does_not_fit_is_named_and_left_alone(void **state)
{
    const struct temp *temp = *state;
    struct ge_log_layer *layers = fixture_layers(small.layers + 1);
    const struct ge_log_spec good = fixture_spec(temp->path, small, layers);
    struct ge_log_spec spec = good;

    assert_non_null(layers);
    make_log(temp->path, small, 3);
    (void)ge_message_capture(1);
    spec.dims.layers = small.layers + 1;
    refuses(&spec, GRADECHO_E_INPUT, "it has 3 layers, the gradients have 4");
    spec = good;
    spec.dims.modes = 7;
    refuses(&spec, GRADECHO_E_INPUT, "room for 4 modes, layers.max_modes is 7");
    spec = good;
    spec.dims.replicas = 6;
    refuses(&spec, GRADECHO_E_INPUT, "room for 5 replicas, now there are 6");
    spec = good;
    spec.world_size = 8;
    refuses(&spec, GRADECHO_E_INPUT, "is of 4 trainers, now there are 8");
    layers[1].cols = 9;
    refuses(&good, GRADECHO_E_INPUT,
            "its layer block.1.weight is 3 x 5, that of the gradients is "
            "3 x 9");
    layers[1].name = "other";
    refuses(&good, GRADECHO_E_INPUT,
            "its layer 1 is block.1.weight, that of the gradients is other");
    (void)ge_message_capture(0);
    free(layers);
}

static void a_log_of_another_version_is_left_alone(void **state)
{
    const struct temp *temp = *state;
    struct ge_log_layer *layers = fixture_layers(small.layers);
    const struct ge_log_spec spec = fixture_spec(temp->path, small, layers);
    hid_t file = H5I_INVALID_HID;
    uint64_t rows = 0;

    assert_non_null(layers);
    make_log(temp->path, small, 3);
    file = H5Fopen(temp->path, H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(H5Adelete(file, "restarts") >= 0);
    assert_true(H5Ldelete(file, "restarts", H5P_DEFAULT) >= 0);
    H5Fclose(file);
    (void)ge_message_capture(1);
    refuses(&spec, GRADECHO_E_INPUT, "another version of gradecho");
    assert_int_equal(ge_log_recover(temp->path, &rows), GRADECHO_END);
    assert_int_equal(rows, 3);
    (void)ge_message_capture(0);
    free(layers);
}

static void room_for_more_replicas_is_no_trouble(void **state)
{
    const struct temp *temp = *state;
    struct ge_log_layer *layers = fixture_layers(small.layers);
    struct ge_log_spec spec = fixture_spec(temp->path, small, layers);
    ge_log_writer *log = NULL;

    assert_non_null(layers);
    make_log(temp->path, small, 3);
    spec.dims.replicas = 2;
    assert_int_equal(ge_log_resume(&spec, &log), GRADECHO_OK);
    assert_int_equal(ge_log_dimensions(log).replicas, small.replicas);
    assert_int_equal(ge_log_close(&log), GRADECHO_OK);
    free(layers);
}

/* ---- who may write ---- */

static void a_log_that_is_written_is_nobody_elses(void **state)
{
    const struct temp *temp = *state;
    struct ge_log_layer *layers = fixture_layers(small.layers);
    struct ge_log_spec spec = fixture_spec(temp->path, small, layers);
    ge_log_writer *other = NULL;
    uint64_t rows = 0;

    assert_non_null(layers);
    make_log(temp->path, small, 2);
    for (int again = 0; again <= 1; again++) {
        struct writing w;

        if (again == 0)
            unlink(temp->path);
        w = again == 0 ? start(temp->path, small, 1)
                       : start_again(temp->path, 1);
        (void)ge_message_capture(1);
        if (again == 0) /* each of them waits for a second */
            assert_int_equal(ge_log_resume(&spec, &other), GRADECHO_E_EXISTS);
        else
            assert_int_equal(ge_log_recover(temp->path, &rows),
                             GRADECHO_E_EXISTS);
        spec.overwrite = true;
        assert_int_equal(ge_log_create(&spec, &other), GRADECHO_E_EXISTS);
        assert_non_null(strstr(ge_message_last(), "is being written"));
        (void)ge_message_capture(0);
        spec.overwrite = false;
        assert_null(other);
        append_rows(&w, again == 0 ? 0 : 4, again == 0 ? 4 : 8);
        stop(&w);
    }
    assert_int_equal(ge_log_recover(temp->path, &rows), GRADECHO_END);
    assert_int_equal(rows, 8);
    assert_int_equal(rows_elsewhere(temp->path), 8);
    free(layers);
}

static void leftovers_of_the_dead_are_removed(void **state)
{
    const struct temp *temp = *state;
    const pid_t dead = fork();
    char of_dead[300], of_living[300];

    if (dead == 0)
        _exit(0);
    assert_int_equal(waitpid(dead, NULL, 0), dead);
    snprintf(of_dead, sizeof of_dead, "%s.%ld.new", temp->path, (long)dead);
    snprintf(of_living, sizeof of_living, "%s.%ld.new", temp->path,
             (long)getppid());
    temp_write(of_dead, "x", 1);
    temp_write(of_living, "x", 1);
    (void)ge_message_capture(1);
    make_log(temp->path, small, 1);
    (void)ge_message_capture(0);
    assert_int_equal(temp_size(of_dead), -1);
    assert_int_equal(temp_size(of_living), 1);
    unlink(of_living);
}

/* ---- damage ---- */

/* In a process of its own; -1: it did not end well. */
static int recover_there(const char *path)
{
    int status = 0;
    const pid_t child = fork();

    if (child == 0) {
        uint64_t rows = 0;

        alarm(20);
        _exit(ge_log_recover(path, &rows) == GRADECHO_OK ? (int)rows : 200);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Rows are written by a process that is killed. */
static void make_killed_log(const char *path, uint64_t rows)
{
    const pid_t child = fork();

    if (child == 0) {
        struct writing w = start(path, small, 1);

        append_rows(&w, 0, rows);
        kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
}

static void recover_keeps_all_rows_or_touches_nothing(void **state)
{
    const struct temp *temp = *state;
    ge_log_reader *log = NULL;
    long long size = 0;
    int refused = 0;

    (void)ge_message_capture(1);
    make_killed_log(temp->path, 40);
    size = temp_size(temp->path);
    for (long long cut = size; cut > 100; cut = cut / 2) {
        char *before = NULL, *after = NULL;
        int recovered = 0;

        unlink(temp->path);
        make_killed_log(temp->path, 40);
        assert_int_equal(truncate(temp->path, cut), 0);
        before = contents(temp->path);
        recovered = recover_there(temp->path);
        if (recovered == 40) {
            assert_int_equal(ge_log_open(temp->path, &log), GRADECHO_OK);
            assert_int_equal(ge_log_reader_facts(log)->end, GE_LOG_RECOVERED);
            check_rows(log, 0, 40);
            ge_log_reader_close(&log);
        } else {
            assert_int_equal(recovered, 200);
            assert_int_equal(temp_size(temp->path), cut);
            after = contents(temp->path);
            assert_memory_equal(before, after, (size_t)cut);
            refused++;
        }
        free(before);
        free(after);
    }
    (void)ge_message_capture(0);
    assert_true(refused > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEMP_TEST(resumed_rows_stand_behind_the_old_ones),
        TEMP_TEST(an_empty_log_is_resumed_too),
        TEMP_TEST(a_log_that_does_not_fit_is_named_and_left_alone),
        TEMP_TEST(a_log_of_another_version_is_left_alone),
        TEMP_TEST(room_for_more_replicas_is_no_trouble),
        TEMP_TEST(a_log_that_is_written_is_nobody_elses),
        TEMP_TEST(leftovers_of_the_dead_are_removed),
        TEMP_TEST(recover_keeps_all_rows_or_touches_nothing),
    };

    return cmocka_run_group_tests_name("log resumed", tests, NULL, NULL);
}
