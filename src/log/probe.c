#include "probe.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "reader.h"
#include "try.h"

enum { ROWS = 3 };
static const int patience_ms = 5000;

/* What the reading process found, after each row. */
struct answer {
    gradecho_status status;
    char why[GE_MESSAGE_MAX];
};

struct reading {
    pid_t child;
    int ask, answers; /* pipes; -1 */
};

/* Wait until `rows` rows are there, the last of step `rows`. */
static gradecho_status look(ge_log_reader *reader, uint64_t rows)
{
    gradecho_status status = GRADECHO_OK;
    const struct timespec pause = {.tv_nsec = 10000000};
    uint64_t there = 0;
    int64_t step = 0;

    for (int waited = 0; there < rows && waited < patience_ms - 1000;
         waited += 10) {
        GE_TRY(ge_log_refresh(reader, &there));
        if (there < rows)
            nanosleep(&pause, NULL);
    }
    GE_FAIL_IF(there != rows, GRADECHO_E_HDF5,
               "a reader saw %llu of %llu rows of a growing log",
               (unsigned long long)there, (unsigned long long)rows);
    GE_TRY(ge_log_steps(reader, rows - 1, 1, &step));
    GE_FAIL_IF(step != (int64_t)rows, GRADECHO_E_HDF5,
               "a reader saw a wrong row in a growing log");
fail:
    return status;
}

/* The second process: a row for each byte. */
static _Noreturn void read_along(const char *path, int ask, int answers)
{
    ge_log_reader *reader = NULL;
    uint64_t rows = 0;
    char byte = 0;

    ge_message_capture(1);
    while (read(ask, &byte, 1) == 1) {
        struct answer answer = {0};

        if (reader == NULL)
            answer.status = ge_log_open(path, &reader);
        if (answer.status >= GRADECHO_OK)
            answer.status = look(reader, ++rows);
        snprintf(answer.why, sizeof answer.why, "%s", ge_message_last());
        if (write(answers, &answer, sizeof answer) != (ssize_t)sizeof answer)
            break;
    }
    _exit(0); /* the parent's buffers are not ours to flush */
}

static gradecho_status start(const char *path, struct reading *reading)
{
    gradecho_status status = GRADECHO_OK;
    int ask[2] = {-1, -1}, answers[2] = {-1, -1};

    GE_FAIL_IF(pipe(ask) != 0 || pipe(answers) != 0, GRADECHO_E_SYS, "pipe: %s",
               strerror(errno));
    reading->child = fork();
    GE_FAIL_IF(reading->child < 0, GRADECHO_E_SYS, "fork: %s", strerror(errno));
    if (reading->child == 0) {
        close(ask[1]);
        close(answers[0]);
        read_along(path, ask[0], answers[1]);
    }
    reading->ask = ask[1];
    reading->answers = answers[0];
    ask[1] = answers[0] = -1;
fail:
    for (int i = 0; i < 2; i++) {
        if (ask[i] >= 0)
            close(ask[i]);
        if (answers[i] >= 0)
            close(answers[i]);
    }
    return status;
}

static gradecho_status is_seen(const struct reading *reading)
{
    gradecho_status status = GRADECHO_OK;
    struct pollfd answers = {.fd = reading->answers, .events = POLLIN};
    struct answer answer = {0};

    GE_FAIL_IF(write(reading->ask, "", 1) != 1 ||
                   poll(&answers, 1, patience_ms) != 1 ||
                   read(reading->answers, &answer, sizeof answer) !=
                       (ssize_t)sizeof answer,
               GRADECHO_E_HDF5,
               "a reader of the growing log hangs: HDF5's single-writer "
               "multiple-reader mode does not work there");
    GE_FAIL_IF(answer.status < GRADECHO_OK, GRADECHO_E_HDF5, "%s", answer.why);
fail:
    return status;
}

static void stop(struct reading *reading)
{
    if (reading->child <= 0)
        return;
    kill(reading->child, SIGKILL);
    while (waitpid(reading->child, NULL, 0) < 0 && errno == EINTR)
        continue;
    close(reading->ask);
    close(reading->answers);
}

static gradecho_status write_rows(const struct ge_log_spec *spec,
                                  const struct reading *reading)
{
    gradecho_status status = GRADECHO_OK;
    ge_log_writer *writer = NULL;
    ge_log_reader *reader = NULL;
    struct ge_row row = {0};

    GE_TRY(ge_row_init(&row, &spec->dims));
    GE_TRY(ge_log_create(spec, &writer));
    for (row.step = 1; row.step <= ROWS; row.step++) {
        GE_TRY(ge_log_append(writer, &row));
        GE_TRY(is_seen(reading));
    }
    GE_TRY(ge_log_close(&writer));
    GE_TRY(ge_log_open(spec->path, &reader));
    GE_TRY(look(reader, ROWS));
fail:
    ge_log_reader_close(&reader);
    if (writer != NULL) {
        const int before = ge_message_capture(1); /* told above */

        (void)!ge_log_close(&writer);
        ge_message_capture(before);
    }
    ge_row_fini(&row);
    return status;
}

gradecho_status ge_log_probe(const char *folder)
{
    gradecho_status status = GRADECHO_OK;
    struct reading reading = {.ask = -1, .answers = -1};
    struct sigaction ignore = {.sa_handler = SIG_IGN}, before;
    const struct ge_log_layer layer = {"probe", 16, 16};
    struct ge_log_spec spec = {.session = "probe",
                               .world_size = 1,
                               .config = "",
                               .flush_every = 1,
                               .dims = {.layers = 1, .modes = 1, .replicas = 1},
                               .layers = &layer};
    char *path = NULL;

    sigaction(SIGPIPE, &ignore, &before); /* a reader that died is an answer */
    if (asprintf(&path, "%s/.gradecho-probe.%ld.h5", folder, (long)getpid()) <
        0)
        path = NULL;
    GE_FAIL_IF(path == NULL, GRADECHO_E_NOMEM, "no memory for a path");
    spec.path = path;
    GE_TRY(start(path, &reading));
    GE_TRY(write_rows(&spec, &reading));
fail:
    stop(&reading);
    if (path != NULL)
        unlink(path);
    free(path);
    sigaction(SIGPIPE, &before, NULL);
    return status;
}
