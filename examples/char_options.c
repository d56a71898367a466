#include "char_options.h"

#include "gradecho/version.h"

#include <argp.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

enum key {
    DATA = 'd',
    STEPS = 'n',
    BATCH = 'b',
    HELP = 'h',
    CONTEXT = 256, /* no short form from here on */
    HIDDEN,
    WIDTH,
    RATE,
    MOMENTUM,
    SEED,
    REPORT,
    SESSION,
    NO_WATCH,
    MEAN,
    CHECK
};

static const struct argp_option table[] = {
    {"data", DATA, "FILE", 0,
     "text to learn (default: the licence texts of this system)", 0},
    {"steps", STEPS, "N", 0, "optimizer steps (400)", 0},
    {"batch", BATCH, "N", 0, "examples per rank and step (64)", 0},
    {"context", CONTEXT, "N", 0, "characters that the model sees (12)", 0},
    {"embedding", WIDTH, "N", 0, "width of an embedding (24)", 0},
    {"hidden", HIDDEN, "N", 0, "width of both hidden layers (256)", 0},
    {"learning-rate", RATE, "X", 0, "step length (0.1)", 0},
    {"momentum", MOMENTUM, "X", 0, "momentum, in [0, 1) (0.9)", 0},
    {"seed", SEED, "N", 0, "seed of parameters and examples (1)", 0},
    {"report", REPORT, "N", 0, "steps between two lines (25)", 0},
    {"session", SESSION, "NAME", 0,
     "name for the monitor (default: $GRADECHO_SESSION)", 0},
    {"no-watch", NO_WATCH, NULL, 0, "do not hand over gradients", 0},
    {"mean", MEAN, NULL, 0,
     "hand over the mean gradient, too (monitor: reduce.mean: handoff)", 0},
    {"check-gradient", CHECK, NULL, 0,
     "compare the gradient with differences of the loss, then end", 0},
    {"help", HELP, NULL, 0, "this help", 0},
    {"usage", HELP, NULL, OPTION_ALIAS | OPTION_HIDDEN, NULL, 0},
    {0}};

static int parse_int(struct argp_state *state, const char *option,
                     const char *text, int most, int *value)
{
    char *end = NULL;

    errno = 0;
    const long number = strtol(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || number < 1 ||
        number > most) {
        argp_failure(state, 0, 0, "%s: \"%s\" is not a whole number in [1, %d]",
                     option, text, most);
        return EINVAL;
    }
    *value = (int)number;
    return 0;
}

static int parse_real(struct argp_state *state, const char *option,
                      const char *text, float most, float *value)
{
    char *end = NULL;
    const float number = strtof(text, &end);

    if (end == text || *end != '\0' || !(number >= 0.0F && number < most)) {
        argp_failure(state, 0, 0, "%s: \"%s\" is not a number in [0, %g)",
                     option, text, (double)most);
        return EINVAL;
    }
    *value = number;
    return 0;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    int seed = 0;

    switch (key) {
    case DATA:
        o->data = arg;
        return 0;
    case STEPS:
        return parse_int(state, "--steps", arg, 100000000, &o->steps);
    case BATCH:
        return parse_int(state, "--batch", arg, 65536, &o->shape.batch);
    case CONTEXT:
        return parse_int(state, "--context", arg, 1024, &o->shape.context);
    case WIDTH:
        return parse_int(state, "--embedding", arg, 4096, &o->shape.embedding);
    case HIDDEN:
        return parse_int(state, "--hidden", arg, 16384, &o->shape.hidden);
    case RATE:
        return parse_real(state, "--learning-rate", arg, 1e6F,
                          &o->learning_rate);
    case MOMENTUM:
        return parse_real(state, "--momentum", arg, 1.0F, &o->momentum);
    case SEED:
        if (parse_int(state, "--seed", arg, 2147483647, &seed) != 0)
            return EINVAL;
        o->seed = (uint64_t)seed;
        return 0;
    case REPORT:
        return parse_int(state, "--report", arg, 100000000, &o->report);
    case SESSION:
        o->session = arg;
        return 0;
    case NO_WATCH:
        o->watch = 0;
        return 0;
    case MEAN:
        o->mean = 1;
        return 0;
    case CHECK:
        o->check = 1;
        return 0;
    case HELP:
        o->help = 1;
        return 0;
    case ARGP_KEY_ARG:
        argp_failure(state, 0, 0, "unexpected argument \"%s\"", arg);
        return EINVAL;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int options_parse(struct options *options, int argc, char **argv, int rank)
{
    static const struct argp argp = {
        .options = table,
        .parser = parse,
        .doc = "Train a small character-level language model, data-parallel "
               "over MPI, and hand each rank's gradient to gradecho.\v"
               "Example: mpirun -n 4 char_lm --steps 1000\n"
               "Exit codes: 0 done, 1 runtime failure, 2 usage or input "
               "error."};
    /* argp must not exit by itself: that would be without MPI_Finalize(). */
    const unsigned flags =
        ARGP_NO_HELP | (rank == 0 ? ARGP_NO_EXIT : ARGP_SILENT);

    *options = (struct options){
        .shape = {.context = 12, .embedding = 24, .hidden = 256, .batch = 64},
        .steps = 400,
        .report = 25,
        .learning_rate = 0.1F,
        .momentum = 0.9F,
        .seed = 1,
        .watch = 1};
    if (argp_parse(&argp, argc, argv, flags, NULL, options) != 0)
        return -1;
    if (options->help && rank == 0)
        argp_help(&argp, stdout,
                  ARGP_HELP_LONG | ARGP_HELP_DOC | ARGP_HELP_USAGE, argv[0]);
    return 0;
}
