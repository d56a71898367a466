#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "memory.h"
#include "message.h"

enum { QUEUE_MAX = 16, POLL_MS = 5 };

/* How long a command may run, and how long it has to obey SIGTERM. */
static const double run_seconds = 60.0, term_seconds = 2.0;

struct ge_command {
    const char *text;
    char **queue[QUEUE_MAX]; /* environments, [0] is next */
    size_t waiting;
    pid_t pid; /* 0: none runs */
    double deadline;
    bool asked;                           /* SIGTERM was sent */
    bool told_start, told_end, told_full; /* each once */
};

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

gradecho_status ge_command_create(const char *text, ge_command **command)
{
    ge_command *made = ge_alloc(1, sizeof *made);

    if (made == NULL) {
        ge_error("no memory for alarms.command");
        return GRADECHO_E_NOMEM;
    }
    made->text = text;
    *command = made;
    return GRADECHO_OK;
}

/* ---- environments ---- */

static size_t count_texts(char *const *list)
{
    size_t count = 0;

    while (list[count] != NULL)
        count++;
    return count;
}

/* All in one block: pointers, then the variables' text. The rest of the
 * environment is borrowed. */
static char **make_environment(const char *const *variables)
{
    size_t texts = 0, count = 0, bytes = 0;
    char **made = NULL, *to = NULL;

    for (; variables[texts] != NULL; texts++)
        bytes += strlen(variables[texts]) + 1;
    made =
        ge_alloc((texts + count_texts(environ) + 1) * sizeof *made + bytes, 1);
    if (made == NULL)
        return NULL;
    to = (char *)(made + texts + count_texts(environ) + 1);
    for (; count < texts; count++) {
        made[count] = to;
        to = stpcpy(to, variables[count]) + 1;
    }
    for (size_t i = 0; environ[i] != NULL; i++)
        if (strncmp(environ[i], "GRADECHO_ALARM", 14) != 0)
            made[count++] = environ[i];
    return made;
}

/* ---- starting ---- */

static int describe_files(posix_spawn_file_actions_t *files)
{
    int error = posix_spawn_file_actions_addopen(files, STDIN_FILENO,
                                                 "/dev/null", O_RDONLY, 0);

    if (error == 0)
        error = posix_spawn_file_actions_adddup2(files, STDERR_FILENO,
                                                 STDOUT_FILENO);
    /* The log's lock is one of the others: it must end with us. */
    if (error == 0)
        error =
            posix_spawn_file_actions_addclosefrom_np(files, STDERR_FILENO + 1);
    return error;
}

/* Signals as in a program that was just started, and a group of its own: a
 * Ctrl-C is not for it, and it can be killed with all that it started. */
static int describe_signals(posix_spawnattr_t *attributes)
{
    static const int numbers[] = {SIGUSR1, SIGTERM, SIGINT,
                                  SIGHUP,  SIGPIPE, SIGCHLD};
    sigset_t defaults, none;

    sigemptyset(&none);
    sigemptyset(&defaults);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaddset(&defaults, numbers[i]);
    posix_spawnattr_setsigmask(attributes, &none);
    posix_spawnattr_setsigdefault(attributes, &defaults);
    posix_spawnattr_setpgroup(attributes, 0);
    return posix_spawnattr_setflags(attributes, (short)(POSIX_SPAWN_SETSIGMASK |
                                                        POSIX_SPAWN_SETSIGDEF |
                                                        POSIX_SPAWN_SETPGROUP));
}

static int spawn(const char *text, char **environment, pid_t *pid)
{
    char shell[] = "sh", flag[] = "-c", *copy = strdup(text);
    char *argv[] = {shell, flag, copy, NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    int error = ENOMEM;

    if (copy == NULL)
        return error;
    error = posix_spawn_file_actions_init(&files);
    if (error != 0)
        goto copied;
    error = posix_spawnattr_init(&attributes);
    if (error != 0)
        goto listed;
    error = describe_files(&files);
    if (error == 0)
        error = describe_signals(&attributes);
    if (error == 0)
        error =
            posix_spawn(pid, "/bin/sh", &files, &attributes, argv, environment);
    posix_spawnattr_destroy(&attributes);
listed:
    posix_spawn_file_actions_destroy(&files);
copied:
    free(copy);
    return error;
}

static void start_next(ge_command *c)
{
    int error = 0;

    if (c->pid != 0 || c->waiting == 0)
        return;
    error = spawn(c->text, c->queue[0], &c->pid);
    free(c->queue[0]);
    c->waiting--;
    memmove(c->queue, c->queue + 1, c->waiting * sizeof *c->queue);
    c->deadline = now() + run_seconds;
    c->asked = false;
    if (error == 0)
        return;
    c->pid = 0;
    if (!c->told_start)
        ge_warn("alarms.command: cannot start it: %s", strerror(error));
    c->told_start = true;
}

void ge_command_run(ge_command *command, const char *const *variables)
{
    char **environment = NULL;

    if (command->waiting < QUEUE_MAX)
        environment = make_environment(variables);
    if (environment != NULL) {
        command->queue[command->waiting++] = environment;
    } else {
        if (!command->told_full)
            ge_warn("alarms.command: %d of them wait already, or memory is "
                    "short; not run for some alarms",
                    QUEUE_MAX);
        command->told_full = true;
    }
    ge_command_poll(command);
}

/* ---- ending ---- */

static void tell_end(ge_command *c, int how)
{
    if ((WIFEXITED(how) && WEXITSTATUS(how) == 0) || c->told_end)
        return;
    c->told_end = true;
    if (c->asked)
        ge_warn("alarms.command: took too long and was killed");
    else if (WIFSIGNALED(how))
        ge_warn("alarms.command: ended by signal %d", WTERMSIG(how));
    else
        ge_warn("alarms.command: ended with exit code %d; no other failure of "
                "it will be told",
                WEXITSTATUS(how));
}

/* SIGTERM first; then, or when that is not obeyed, SIGKILL. */
static void end_it(ge_command *c)
{
    kill(-c->pid, c->asked ? SIGKILL : SIGTERM);
    c->asked = true;
    c->deadline = now() + term_seconds;
}

void ge_command_poll(ge_command *command)
{
    int how = 0;

    if (command->pid != 0) {
        const pid_t done = waitpid(command->pid, &how, WNOHANG);

        if (done == 0 && now() > command->deadline)
            end_it(command);
        if (done == 0)
            return;
        if (done == command->pid)
            tell_end(command, how); /* else somebody ignores SIGCHLD */
        command->pid = 0;
    }
    start_next(command);
}

static bool drain(ge_command *c, double seconds)
{
    const double end = now() + seconds;

    do {
        ge_command_poll(c);
        if (c->pid == 0 && c->waiting == 0)
            return true;
        (void)poll(NULL, 0, POLL_MS);
    } while (now() < end);
    return false;
}

void ge_command_finish(ge_command **command, double seconds)
{
    ge_command *c = *command;

    *command = NULL;
    if (c == NULL)
        return;
    if (!drain(c, seconds)) {
        while (c->waiting > 0)
            free(c->queue[--c->waiting]);
        if (c->pid != 0) {
            end_it(c);
            (void)drain(c, term_seconds / 2.0);
        }
        if (c->pid != 0) {
            end_it(c);
            (void)drain(c, term_seconds / 2.0);
        }
    }
    free(c);
}
