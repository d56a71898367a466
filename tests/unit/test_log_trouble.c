/* The log in trouble: read while it grows, its writer killed, the file cut
 * off, the disk full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/resource.h>
#include <time.h>

#include "log_check.h"

/* A process that appends a row for each byte it is sent and answers each. */
struct child {
    pid_t id;
    int to, from;
};

static struct child spawn_writer(const char *path)
{
    int to[2], from[2];
    struct child child = {0};

    assert_int_equal(pipe(to), 0);
    assert_int_equal(pipe(from), 0);
    child.id = fork();
    assert_true(child.id >= 0);
    if (child.id == 0) {
        struct writing w = start(path, small, 1);
        char byte = 0;

        close(to[1]);
        close(from[0]);
        for (uint64_t i = 0; write(from[1], "r", 1) == 1; i++)
            if (read(to[0], &byte, 1) != 1 || append(&w, i) != GRADECHO_OK)
                break;
        stop(&w);
        _exit(0);
    }
    close(to[0]);
    close(from[1]);
    child.to = to[1];
    child.from = from[0];
    return child;
}

static void await_writer(const struct child *child)
{
    char byte = 0;

    assert_int_equal(read(child->from, &byte, 1), 1);
}

static void append_there(const struct child *child)
{
    assert_int_equal(write(child->to, "a", 1), 1);
    await_writer(child);
}

static void end_writer(const struct child *child, int by)
{
    int status = 0;

    if (by != 0)
        assert_int_equal(kill(child->id, by), 0);
    close(child->to);
    assert_int_equal(waitpid(child->id, &status, 0), child->id);
    close(child->from);
    assert_int_equal(by != 0 ? WTERMSIG(status) : WEXITSTATUS(status), by);
}

static void a_reader_follows_a_growing_log(void **state)
{
    const struct temp *temp = *state;
    const struct child child = spawn_writer(temp->path);
    ge_log_reader *log = NULL;

    await_writer(&child);
    assert_int_equal(ge_log_open(temp->path, &log), GRADECHO_OK);
    assert_int_equal(ge_log_reader_facts(log)->end, GE_LOG_OPEN);
    for (uint64_t i = 0; i < 50; i++) {
        assert_int_equal(rows_of(log), i);
        append_there(&child);
        assert_int_equal(rows_of(log), i + 1);
        check_rows(log, i, i + 1);
    }
    end_writer(&child, 0);
    check_rows(log, 0, rows_of(log));
    ge_log_reader_close(&log);
    assert_int_equal(ge_log_open(temp->path, &log), GRADECHO_OK);
    assert_int_equal(ge_log_reader_facts(log)->end, GE_LOG_CLOSED);
    ge_log_reader_close(&log);
}

static void a_killed_writer_leaves_every_committed_row(void **state)
{
    const struct temp *temp = *state;

    for (uint64_t rows = 0; rows < 36; rows += 7) {
        const struct child child = spawn_writer(temp->path);
        ge_log_reader *log = NULL;

        await_writer(&child);
        for (uint64_t i = 0; i < rows; i++)
            append_there(&child);
        end_writer(&child, SIGKILL);
        assert_int_equal(ge_log_open(temp->path, &log), GRADECHO_OK);
        assert_int_equal(rows_of(log), rows);
        assert_int_equal(ge_log_reader_facts(log)->end, GE_LOG_OPEN);
        check_rows(log, 0, rows);
        ge_log_reader_close(&log);
        unlink(temp->path);
    }
}

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Open and read all of a log that may be damaged, in a process of its own: a
 * crash, a hang and what HDF5 forgets to free on its way out stay there. */
static bool reads_well(const char *path)
{
    int result = 0;
    const pid_t child = fork();

    if (child == 0) {
        ge_log_reader *log = NULL;
        struct ge_row row = {.block = NULL};
        uint64_t rows = 0;
        gradecho_status status = GRADECHO_OK;

        alarm(20);
        status = ge_log_open(path, &log);
        if (status == GRADECHO_OK)
            status = ge_row_init(&row, &ge_log_reader_facts(log)->dims);
        if (status == GRADECHO_OK)
            status = ge_log_refresh(log, &rows);
        for (uint64_t i = 0; status == GRADECHO_OK && i < rows; i++)
            status = ge_log_read_row(log, i, &row);
        _exit(-(int)status);
    }
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_true(WIFEXITED(result));
    return WEXITSTATUS(result) == 0;
}

/* Neither a hang, which HDF5 alone would do, nor a crash. */
static void a_log_that_was_cut_off_is_an_error_and_no_hang(void **state)
{
    const struct temp *temp = *state;

    (void)ge_message_capture(1);
    for (int killed = 0; killed <= 1; killed++) {
        const struct child child = spawn_writer(temp->path);
        double slowest = 0.0;

        await_writer(&child);
        for (int i = 0; i < 20; i++)
            append_there(&child);
        end_writer(&child, killed ? SIGKILL : 0);
        for (long long cut = temp_size(temp->path) * 9 / 10; cut > 0;
             cut = cut * 2 / 3) {
            const double began = seconds();
            bool well = false;

            assert_int_equal(truncate(temp->path, cut), 0);
            well = reads_well(temp->path);
            slowest = fmax(slowest, seconds() - began);
            /* Of a killed writer's log only the tail of a row may be gone. */
            if (!killed || cut < 20000)
                assert_false(well);
        }
        assert_true(slowest < 10.0);
        print_message("slowest refusal %.2f s\n", slowest);
        unlink(temp->path);
    }
    (void)ge_message_capture(0);
}

/* The disk is full for a while (here: the process's limit on file size). */
static void a_failed_append_is_made_good_by_the_next(void **state)
{
    const struct temp *temp = *state;
    struct writing w = start(temp->path, small, 1);
    struct rlimit limit, tight;
    ge_log_reader *log = NULL;
    uint64_t row = 0;
    int failures = 0;
    int64_t step = -1;

    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    while (row < 5)
        assert_int_equal(append(&w, row++), GRADECHO_OK);
    tight = limit;
    tight.rlim_cur = (rlim_t)temp_size(temp->path) + 1000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    (void)ge_message_capture(1);
    while (failures < 3 && row < 500) {
        const uint64_t before = ge_log_rows(w.log);

        if (append(&w, row) == GRADECHO_OK) {
            row++;
            continue;
        }
        failures++;
        assert_int_equal(ge_log_rows(w.log), before);
    }
    (void)ge_message_capture(0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(failures, 3);
    assert_int_equal(ge_log_rows(w.log), row);
    for (uint64_t end = row + 40; row < end; row++)
        assert_int_equal(append(&w, row), GRADECHO_OK);
    assert_int_equal(ge_log_rows(w.log), row);
    stop(&w);

    assert_int_equal(ge_log_open(temp->path, &log), GRADECHO_OK);
    assert_int_equal(rows_of(log), row);
    assert_int_equal(ge_log_steps(log, row - 1, 1, &step), GRADECHO_OK);
    assert_int_equal(step, fixture_step(row - 1));
    check_rows(log, 0, row);
    ge_log_reader_close(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEMP_TEST(a_reader_follows_a_growing_log),
        TEMP_TEST(a_killed_writer_leaves_every_committed_row),
        TEMP_TEST(a_log_that_was_cut_off_is_an_error_and_no_hang),
        TEMP_TEST(a_failed_append_is_made_good_by_the_next),
    };

    return cmocka_run_group_tests_name("log in trouble", tests, NULL, NULL);
}
