/*
 * gradecho selftest: gradients whose truth is known, through the engine of
 * `monitor`, against stated bounds.
 */
#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli.h"
#include "progress.h"
#include "selftest.h"
#include "try.h"

enum { KEY_QUICK = 0x100, KEY_THOROUGH, KEY_SEED };

struct arguments {
    enum ge_selftest_effort effort;
    uint64_t seed;
};

static const struct argp_option options[] = {
    {"quick", KEY_QUICK, NULL, 0, "a part of it, in seconds", 0},
    {"thorough", KEY_THOROUGH, NULL, 0, "more samples and replicas", 0},
    {"seed", KEY_SEED, "N", 0, "seed of everything that is drawn (default 1)",
     0},
    {0},
};

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct arguments *a = state->input;
    long long seed = 0;
    error_t failed = 0;

    switch (key) {
    case KEY_QUICK:
        a->effort = GE_SELFTEST_QUICK;
        return 0;
    case KEY_THOROUGH:
        a->effort = GE_SELFTEST_THOROUGH;
        return 0;
    case KEY_SEED:
        failed = ge_cli_whole(state, "--seed", value, 0, INT64_MAX, &seed);
        a->seed = (uint64_t)seed;
        return failed;
    case ARGP_KEY_ARG:
        return ge_cli_unexpected(state, value);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

struct drawing {
    struct ge_progress progress;
    uint64_t before; /* samples of earlier cases */
};

static void draw_progress(void *context, size_t samples_done)
{
    struct drawing *d = context;

    ge_progress_at(&d->progress, d->before + samples_done);
}

static gradecho_status run_plan(ge_comm *comm, const struct arguments *a,
                                struct ge_selftest_tally *tally)
{
    gradecho_status status = GRADECHO_OK;
    const bool root = ge_comm_rank(comm) == 0;
    struct drawing drawing = {.before = 0};
    struct ge_selftest_case c;
    uint64_t all = 0;

    for (size_t i = 0; ge_selftest_plan(i, a->effort, a->seed, &c); i++)
        all += c.samples;
    if (root) {
        ge_progress_begin(&drawing.progress, "sample", 0, all);
        printf("seed %llu\n", (unsigned long long)a->seed);
        ge_selftest_print_title();
    }
    for (size_t i = 0; ge_selftest_plan(i, a->effort, a->seed, &c); i++) {
        struct ge_selftest_result result = {0};

        GE_TRY(ge_selftest_measure(comm, &c, draw_progress, &drawing, &result));
        if (root) {
            ge_progress_clear(&drawing.progress);
            ge_selftest_judge(&c, &result, tally);
        }
        drawing.before += c.samples;
        ge_selftest_result_fini(&result);
    }
    if (root)
        printf("%zu checks, %zu outside their bounds\n", tally->checks,
               tally->outside);
fail:
    ge_progress_clear(&drawing.progress);
    return status;
}

/* All ranks leave with the verdict of rank 0, which alone has the rows. */
static gradecho_status selftest(ge_comm *comm, const struct arguments *a,
                                bool *passed)
{
    gradecho_status status = GRADECHO_OK;
    struct ge_selftest_tally tally = {0};
    int64_t outside = 0;

    GE_TRY(run_plan(comm, a, &tally));
    outside = (int64_t)tally.outside;
    GE_TRY(ge_comm_max(comm, &outside, 1));
    *passed = outside == 0;
    if (ge_comm_rank(comm) == 0 && fflush(stdout) != 0) {
        ge_error("cannot write to standard output");
        status = GRADECHO_E_SYS;
    }
fail:
    return status;
}

int ge_cmd_selftest(int argc, char **argv)
{
    const struct argp argp = {
        .options = options,
        .parser = parse_option,
        .doc = "Measure planted gradients, whose truth is known, with the "
               "engine of `monitor`, and hold the errors against their bounds."
               "\v  gradecho selftest --quick\n"
               "  mpirun -n 4 gradecho selftest --seed 2\n"
               "Exit code 0 if all hold, 1 if not. Also under mpirun, with "
               "the replicas spread over the ranks: the numbers are the same."
               "\n\nColumns: `echoes` is what the check's modes are picked "
               "by, the true echo, which is the mean over replicas of what the "
               "mode that is matched to the mean's has of the planted one. "
               "`truth`, `estimate` and `bias` are means over the n modes or "
               "samples, `measured` is what the bound is about. A line with - "
               "for its bound is told and not judged."
               "\n\nConditions: laws and errors are judged on modes far apart "
               "and noise that is isotropic; the law near the noise from 8 "
               "replicas, standard errors at 8 and more. The echo of modes "
               "that mix (crowded) is judged from 8 replicas: with fewer, the "
               "draw of the noise moves the true echo itself by more than the "
               "bound. echo_cluster is the echo in the span of all planted "
               "modes. se / spread is the "
               "mean standard error over the standard deviation of the "
               "estimate from sample to sample. Where the noise is not "
               "isotropic, the echo is judged from 6 replicas and for `clear` "
               "modes: signal, and mode_gap at least three times the square "
               "root of the larger anisotropy, which is three times the noise "
               "along the mode. Noise of that kind has loud directions of its "
               "own, and a mode next to one mixes with it; `mode clear` tells "
               "the part of the planted modes that were counted. A mode to be "
               "found in such noise has a true echo of 0.5 or more."};
    struct arguments a = {.effort = GE_SELFTEST_NORMAL, .seed = 1};
    gradecho_status status = GRADECHO_OK;
    ge_comm *comm = NULL;
    bool passed = false;

    if (ge_cli_parse(&argp, argc, argv, &a) != GE_EXIT_OK)
        return GE_EXIT_USAGE;
    status = ge_comm_init(&argc, &argv, &comm);
    if (status < GRADECHO_OK)
        return ge_status_exit_code(status);
    ge_message_init(GE_WARN, ge_comm_size(comm) > 1 ? ge_comm_rank(comm) : -1);
    status = selftest(comm, &a, &passed);
    if (status == GRADECHO_E_MPI || status == GRADECHO_E_TIMEOUT)
        ge_comm_abort(comm, ge_status_exit_code(status));
    ge_comm_finalize(&comm);
    if (status < GRADECHO_OK)
        return ge_status_exit_code(status);
    return passed ? GE_EXIT_OK : GE_EXIT_FAILURE;
}
