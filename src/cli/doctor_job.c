/*
 * gradecho doctor: does mpirun start monitors here, and do they reach each
 * other? By starting some, which only say hello.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "comm.h"
#include "doctor.h"
#include "memory.h"
#include "try.h"

static const double patience_seconds = 30.0;

/* What the first of the monitors says when it has heard of all. */
#define HELLO "monitors: %d\n"

/* What a job said, and how it ended. */
struct outcome {
    int code; /* exit code; 127: no such program; -1: it hung */
    char text[16384];
};

int ge_doctor_be_a_monitor(int argc, char **argv)
{
    /* Large enough to travel as a gradient does, not in the envelope. */
    const size_t count = (size_t)1 << 17;
    int64_t *values = ge_alloc(count, sizeof *values);
    ge_comm *comm = NULL;
    gradecho_status status = GRADECHO_E_NOMEM;

    if (values != NULL)
        status = ge_comm_init(&argc, &argv, &comm);
    if (status >= GRADECHO_OK) {
        ge_comm_set_timeout(comm, patience_seconds / 2.0);
        status = ge_comm_max(comm, values, count);
        if (status >= GRADECHO_OK && ge_comm_rank(comm) == 0)
            printf(HELLO, ge_comm_size(comm));
        if (status == GRADECHO_E_TIMEOUT)
            ge_comm_abort(comm, GE_EXIT_FAILURE);
        ge_comm_finalize(&comm);
    }
    free(values);
    return ge_status_exit_code(status);
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* All that comes through the pipe until its end, or until time is up. */
static bool read_all(int from, struct outcome *outcome)
{
    const double deadline = now() + patience_seconds;
    size_t length = 0;

    for (;;) {
        struct pollfd ready = {.fd = from, .events = POLLIN};
        const double left = deadline - now();
        char rest[512];
        const bool full = length + 1 >= sizeof outcome->text;

        if (left <= 0.0 || poll(&ready, 1, (int)(left * 1e3) + 1) == 0)
            return false;
        const ssize_t got =
            read(from, full ? rest : outcome->text + length,
                 full ? sizeof rest : sizeof outcome->text - 1 - length);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return true;
        length += full ? 0 : (size_t)got;
    }
}

/* The child: as gradecho-run would start the monitors, or as a user types it.
 */
static _Noreturn void become_mpirun(const char *ranks, const char *self,
                                    bool by_hand, int output)
{
    const int nothing = open("/dev/null", O_RDONLY);

    (void)setpgid(0, 0); /* so that all of it can be ended */
    (void)dup2(nothing, STDIN_FILENO);
    (void)dup2(output, STDOUT_FILENO);
    (void)dup2(output, STDERR_FILENO);
    if (!by_hand) {
        setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
        setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
        setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 1);
    }
    execlp("mpirun", "mpirun", "-n", ranks, "--bind-to", "none", self, "doctor",
           GE_DOCTOR_MONITOR, (char *)NULL);
    _exit(127);
}

static void start_job(const struct ge_doctor *d, const char *self, bool by_hand,
                      struct outcome *outcome)
{
    int ends[2] = {-1, -1}, code = 0;
    char ranks[16];
    pid_t child = -1;

    *outcome = (struct outcome){.code = 127};
    snprintf(ranks, sizeof ranks, "%u", d->trainers);
    if (pipe2(ends, O_CLOEXEC) != 0)
        return;
    child = fork();
    if (child == 0)
        become_mpirun(ranks, self, by_hand, ends[1]);
    close(ends[1]);
    if (child > 0) {
        const bool ended = read_all(ends[0], outcome);

        if (!ended)
            kill(-child, SIGKILL);
        while (waitpid(child, &code, 0) < 0 && errno == EINTR)
            continue;
        outcome->code = !ended            ? -1
                        : WIFEXITED(code) ? WEXITSTATUS(code)
                                          : 128 + WTERMSIG(code);
    }
    close(ends[0]);
}

/* The line that says most: the first that is not a frame. */
static const char *first_line(char *text)
{
    char *line = text;

    while (*line == '-' || *line == '\n' || *line == ' ')
        line++;
    line[strcspn(line, "\n")] = '\0';
    return *line != '\0' ? line : "it said nothing";
}

static const char *why_not_by_hand(const char *text)
{
    if (strstr(text, "as root") != NULL || strstr(text, "as user root") != NULL)
        return "mpirun refuses root: export OMPI_ALLOW_RUN_AS_ROOT=1 "
               "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1";
    if (strstr(text, "not enough slots") != NULL)
        return "there are more monitors than slots: export "
               "OMPI_MCA_rmaps_base_oversubscribe=1";
    return "mpirun needs --oversubscribe";
}

static void say_failure(struct ge_doctor *d, struct outcome *outcome)
{
    if (outcome->code == 127)
        ge_doctor_say(d, GE_PROBLEM, "MPI",
                      "no mpirun on PATH: install openmpi-bin, or load the "
                      "module of the cluster's Open MPI");
    else if (outcome->code == -1)
        ge_doctor_say(d, GE_PROBLEM, "MPI",
                      "mpirun with %u monitors hangs for more than %g s: %s",
                      d->trainers, patience_seconds, first_line(outcome->text));
    else
        ge_doctor_say(d, GE_PROBLEM, "MPI",
                      "mpirun cannot start %u monitors (exit code %d): %s",
                      d->trainers, outcome->code, first_line(outcome->text));
}

void ge_doctor_job(struct ge_doctor *d, const char *self)
{
    struct outcome by_hand, helped;
    char hello[32];

    start_job(d, self, false, &helped);
    if (helped.code != 0) {
        say_failure(d, &helped);
        return;
    }
    snprintf(hello, sizeof hello, HELLO, (int)d->trainers);
    if (strstr(helped.text, hello) == NULL) {
        ge_doctor_say(d, GE_PROBLEM, "MPI",
                      "mpirun starts %u monitors that do not know of each "
                      "other: it is another MPI's than the one that gradecho "
                      "was built with; put the right one first on PATH",
                      d->trainers);
        return;
    }
    /* vader reads the peer's memory; a container may forbid it. */
    if (strstr(helped.text, "Read -1, expected") != NULL)
        ge_doctor_say(d, GE_WARNING, "MPI",
                      "this container forbids process_vm_readv, and Open MPI "
                      "says so with every message: export "
                      "OMPI_MCA_btl_vader_single_copy_mechanism=none");
    start_job(d, self, true, &by_hand);
    if (by_hand.code == 0)
        ge_doctor_say(d, GE_FINE, "MPI",
                      "mpirun starts %u monitors, they reach each other",
                      d->trainers);
    else
        ge_doctor_say(d, GE_FINE, "MPI",
                      "gradecho-run can start %u monitors; by hand, %s",
                      d->trainers, why_not_by_hand(by_hand.text));
}
