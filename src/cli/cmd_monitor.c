/*
 * gradecho monitor, gradecho replay: the two ways to feed the engine.
 */
#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "comm.h"
#include "gradecho/handoff.h"
#include "memory.h"
#include "run.h"
#include "try.h"

/* Set by a signal; every rank notices within a second. */
static volatile sig_atomic_t stop, terminated;

static void on_signal(int number)
{
    stop = 1;
    if (number == SIGTERM)
        terminated = 1;
}

/* Without SA_RESTART: a signal ends the wait that it interrupts. mpirun
 * forwards SIGUSR1 to all ranks and leaves them all the time they need, which
 * SIGTERM does not. */
static void catch_signals(void)
{
    static const int numbers[] = {SIGUSR1, SIGTERM, SIGINT, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal};

    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaction(numbers[i], &action, NULL);
}

enum { SETS_MAX = 64 };
enum { KEY_SET = 0x100, KEY_SESSION, KEY_LOG, KEY_OVERWRITE, KEY_RESUME };

struct arguments {
    bool replay;
    bool overwrite, resume;
    int verbose;
    const char *config, *session, *log, *gradients;
    const char *set[SETS_MAX];
    size_t sets;
};

/* A replay has no session: it takes those behind the first. */
static const struct argp_option options[] = {
    {"session", KEY_SESSION, "NAME", 0,
     "session that the trainers use; default $GRADECHO_SESSION", 0},
    {"config", 'c', "FILE", 0, "configuration (YAML)", 0},
    {"set", KEY_SET, "KEY=VALUE", 0, "set one key of the configuration", 0},
    {"log", KEY_LOG, "FILE", 0, "the log to write (HDF5)", 0},
    {"overwrite", KEY_OVERWRITE, NULL, 0, "replace a log that exists", 0},
    {"resume", KEY_RESUME, NULL, 0, "append to a log that exists", 0},
    {"verbose", 'v', NULL, 0, "tell every sample", 0},
    {0},
};

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct arguments *a = state->input;

    switch (key) {
    case 'c':
        a->config = value;
        break;
    case 'v':
        a->verbose++;
        break;
    case KEY_LOG:
        a->log = value;
        break;
    case KEY_OVERWRITE:
        a->overwrite = true;
        break;
    case KEY_RESUME:
        a->resume = true;
        break;
    case KEY_SESSION:
        a->session = value;
        break;
    case KEY_SET:
        if (a->sets == SETS_MAX) {
            argp_error(state, "more than %d --set", SETS_MAX);
            return EINVAL;
        }
        a->set[a->sets++] = value;
        break;
    case ARGP_KEY_ARG:
        return a->replay ? ge_cli_path(state, value, &a->gradients)
                         : ge_cli_unexpected(state, value);
    case ARGP_KEY_END:
        if (a->replay && a->gradients == NULL) {
            argp_error(state, "no file of gradients is named");
            return EINVAL;
        }
        if (a->resume && a->overwrite) {
            argp_error(state, "--resume keeps a log that --overwrite replaces: "
                              "choose one");
            return EINVAL;
        }
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* All ranks read the same bytes: rank 0 reads the file. */
static gradecho_status share_file(ge_comm *comm, const char *path, char **text,
                                  size_t *length)
{
    gradecho_status status = GRADECHO_OK, local = GRADECHO_OK;
    int64_t size = 0;

    ge_message_capture(1);
    if (ge_comm_rank(comm) == 0)
        local = ge_cli_read_file(path, text, length);
    GE_TRY(ge_comm_agree(comm, local));
    size = (int64_t)*length;
    GE_TRY(ge_comm_max(comm, &size, 1));
    *length = (size_t)size;
    ge_message_capture(1);
    if (*text == NULL)
        *text = ge_alloc(*length + 1, 1);
    if (*text == NULL) {
        local = GRADECHO_E_NOMEM;
        ge_error("no memory to read %s", path);
    }
    GE_TRY(ge_comm_agree(comm, local));
    GE_TRY(ge_comm_broadcast(comm, *text, *length, 0));
fail:
    return status;
}

static gradecho_status configure(ge_comm *comm, const struct arguments *a,
                                 struct ge_config *config)
{
    gradecho_status status = GRADECHO_OK, local = GRADECHO_OK;
    char *text = NULL;
    size_t length = 0;

    if (a->config != NULL)
        GE_TRY(share_file(comm, a->config, &text, &length));
    ge_message_capture(1);
    local = ge_config_init(config);
    if (local >= GRADECHO_OK && a->config != NULL)
        local = ge_config_parse(config, text, length, a->config);
    for (size_t i = 0; local >= GRADECHO_OK && i < a->sets; i++)
        local = ge_config_set(config, a->set[i]);
    GE_TRY(ge_comm_agree(comm, local));
fail:
    free(text);
    return status;
}

/* The command line goes before the configuration, that before the
 * environment. */
static const char *session_name(const struct arguments *a,
                                const struct ge_config *config)
{
    const char *environment = getenv(GRADECHO_SESSION_ENV);

    if (a->session != NULL)
        return a->session;
    if (config->session[0] != '\0')
        return config->session;
    return environment != NULL && environment[0] != '\0' ? environment
                                                         : "default";
}

static gradecho_status run_engine(ge_comm *comm, const struct arguments *a)
{
    gradecho_status status = GRADECHO_OK;
    struct ge_config config = {0};

    GE_TRY(configure(comm, a, &config));
    const struct ge_run run = {
        .config = &config,
        .session = a->replay ? NULL : session_name(a, &config),
        .gradients = a->gradients,
        .log_path = a->log != NULL ? a->log : config.log_path,
        .overwrite = a->overwrite,
        .resume = a->resume,
        .stop = &stop,
    };
    GE_TRY(ge_run(comm, &run));
fail:
    ge_config_fini(&config);
    return status;
}

static int start(int argc, char **argv, bool replay, const char *arguments_help,
                 const char *help)
{
    struct arguments a = {.replay = replay};
    const struct argp argp = {.options = replay ? options + 1 : options,
                              .parser = parse_option,
                              .args_doc = arguments_help,
                              .doc = help};
    gradecho_status status = GRADECHO_OK;
    ge_comm *comm = NULL;

    if (ge_cli_parse(&argp, argc, argv, &a) != GE_EXIT_OK)
        return GE_EXIT_USAGE;
    catch_signals();
    status = ge_comm_init(&argc, &argv, &comm);
    if (status < GRADECHO_OK)
        return ge_status_exit_code(status);
    ge_message_init(a.verbose > 0 ? GE_DEBUG : GE_INFO,
                    ge_comm_size(comm) > 1 ? ge_comm_rank(comm) : -1);
    ge_comm_set_terminated(comm, &terminated);
    status = run_engine(comm, &a);
    if (status == GRADECHO_E_MPI || status == GRADECHO_E_TIMEOUT)
        ge_comm_abort(comm, ge_status_exit_code(status));
    ge_comm_finalize(&comm);
    return ge_status_exit_code(status);
}

int ge_cmd_monitor(int argc, char **argv)
{
    return start(argc, argv, false, "",
                 "Watch a training run through shared memory and log its "
                 "gradient noise.\v"
                 "Start one monitor per training process:\n"
                 "  mpirun -n 4 gradecho monitor --session demo --log run.h5\n"
                 "It waits for the trainers, ends with them, and ends early "
                 "and in order on SIGUSR1. gradecho-run does all of this.");
}

int ge_cmd_replay(int argc, char **argv)
{
    return start(argc, argv, true, "GRADS.h5",
                 "Measure the gradients in an HDF5 file as `monitor` would.\v"
                 "One dataset per layer under /gradients, [sample, replica, "
                 "rows, cols] or [sample, replica, n], float32 or float64:\n"
                 "  mpirun -n 4 gradecho replay grads.h5 --log out.h5");
}
