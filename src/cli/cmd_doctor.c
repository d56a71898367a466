/*
 * gradecho doctor: what would break a run, before the run.
 */
#include <argp.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "doctor.h"

enum {
    KEY_PARAMETERS = 0x100,
    KEY_DTYPE,
    KEY_SLOTS,
    KEY_REPLICAS,
    KEY_LOG,
    KEY_CLEAN
};

static const char dtypes[] = "f32|f16|bf16|f64";

static const struct argp_option options[] = {
    {"trainers", 'n', "N", 0,
     "training processes on this host, one monitor for each (default: 2)", 0},
    {"parameters", KEY_PARAMETERS, "COUNT", 0,
     "of the model, as 124M or 1.5G: is there room for its gradients?", 0},
    {"dtype", KEY_DTYPE, dtypes, 0, "of the gradients (default: f32)", 0},
    {"slots", KEY_SLOTS, "N", 0,
     "samples in flight, as in gradecho_options (default: 2)", 0},
    {"replicas", KEY_REPLICAS, "N", 0,
     "micro-batches handed over as replicas (default: 1)", 0},
    {"log", KEY_LOG, "FILE", 0,
     "the log to be written: its folder is tried (default: gradecho.h5)", 0},
    {"clean", KEY_CLEAN, NULL, 0, "remove the segments of dead trainers", 0},
    {0},
};

/* A whole number from 1 to `most`. */
static error_t parse_count(const char *name, const char *value, uint32_t most,
                           struct argp_state *state, uint32_t *out)
{
    long long number = 0;
    const error_t failed = ge_cli_whole(state, name, value, 1, most, &number);

    if (failed == 0)
        *out = (uint32_t)number;
    return failed;
}

/* 124M, 1.5G, 350000000. */
static error_t parse_parameters(const char *value, struct argp_state *state,
                                uint64_t *out)
{
    static const struct {
        const char *suffix;
        double factor;
    } known[] = {{"", 1}, {"k", 1e3}, {"M", 1e6}, {"G", 1e9}, {"B", 1e9}};
    const double limit = 1e15;
    char *end = NULL;
    const double number = strtod(value, &end);

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const double count = number * known[i].factor;

        if (end == value || strcasecmp(end, known[i].suffix) != 0 ||
            !(count >= 1.0) || count > limit)
            continue;
        *out = (uint64_t)ceil(count);
        return 0;
    }
    argp_error(state, "--parameters must be a number such as 124M, not %s",
               value);
    return EINVAL;
}

static error_t parse_dtype(const char *value, struct argp_state *state,
                           struct ge_doctor *doctor)
{
    static const struct {
        const char *name;
        gradecho_dtype dtype;
    } known[] = {{"f32", GRADECHO_F32},
                 {"f16", GRADECHO_F16},
                 {"bf16", GRADECHO_BF16},
                 {"f64", GRADECHO_F64}};

    size_t i = 0;
    const error_t failed = ge_cli_word(state, "--dtype", value, dtypes, &i);

    if (failed == 0) {
        doctor->dtype = known[i].dtype;
        doctor->dtype_name = known[i].name;
    }
    return failed;
}

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct ge_doctor *doctor = state->input;

    switch (key) {
    case 'n':
        return parse_count("-n", value, 4096, state, &doctor->trainers);
    case KEY_PARAMETERS:
        return parse_parameters(value, state, &doctor->parameters);
    case KEY_DTYPE:
        return parse_dtype(value, state, doctor);
    case KEY_SLOTS:
        return parse_count("--slots", value, 64, state, &doctor->slots);
    case KEY_REPLICAS:
        return parse_count("--replicas", value, 1024, state, &doctor->replicas);
    case KEY_LOG:
        doctor->log = value;
        return 0;
    case KEY_CLEAN:
        doctor->clean = true;
        return 0;
    case ARGP_KEY_ARG:
        return ge_cli_unexpected(state, value);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

void ge_doctor_say(struct ge_doctor *doctor, enum ge_finding finding,
                   const char *what, const char *format, ...)
{
    static const struct {
        const char *name, *colour;
    } show[GE_FINDINGS] = {[GE_FINE] = {"ok", "32"},
                           [GE_WARNING] = {"warning", "33"},
                           [GE_PROBLEM] = {"problem", "31"}};
    va_list arguments;

    doctor->found[finding]++;
    if (doctor->colour)
        printf("\033[%sm%-7s\033[0m", show[finding].colour, show[finding].name);
    else
        printf("%-7s", show[finding].name);
    printf("  %-13s  ", what);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

void ge_doctor_say_last(struct ge_doctor *doctor, const char *what,
                        const char *advice)
{
    ge_doctor_say(doctor, GE_PROBLEM, what, "%s%s", ge_message_last(), advice);
}

static void say_verdict(const struct ge_doctor *doctor)
{
    const unsigned problems = doctor->found[GE_PROBLEM];
    const unsigned warnings = doctor->found[GE_WARNING];

    printf("%u problem%s, %u warning%s\n", problems, problems == 1 ? "" : "s",
           warnings, warnings == 1 ? "" : "s");
}

int ge_cmd_doctor(int argc, char **argv)
{
    const struct argp argp = {
        .options = options,
        .parser = parse_option,
        .doc = "Find what would break a run, before the run.\v"
               "  gradecho doctor -n 4 --parameters 124M --log run.h5\n"
               "Each check is one line: ok, warning or problem, what was "
               "found, and what to do. The exit code is 1 if there is a "
               "problem."};
    struct ge_doctor doctor = {.trainers = 2,
                               .dtype = GRADECHO_F32,
                               .dtype_name = "f32",
                               .slots = 2,
                               .replicas = 1,
                               .log = "gradecho.h5"};
    char self[4096] = "";

    if (argc == 2 && strcmp(argv[1], GE_DOCTOR_MONITOR) == 0)
        return ge_doctor_be_a_monitor(argc, argv);
    if (ge_cli_parse(&argp, argc, argv, &doctor) != GE_EXIT_OK)
        return GE_EXIT_USAGE;
    doctor.colour = isatty(STDOUT_FILENO) == 1 && getenv("NO_COLOR") == NULL;
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
        snprintf(self, sizeof self, "gradecho");
    ge_message_capture(1);
    ge_doctor_leftovers(&doctor);
    ge_doctor_memory(&doctor);
    ge_doctor_cores(&doctor);
    ge_doctor_job(&doctor, self);
    ge_doctor_log(&doctor);
    say_verdict(&doctor);
    if (fflush(stdout) != 0 || ferror(stdout))
        return GE_EXIT_FAILURE;
    return doctor.found[GE_PROBLEM] > 0 ? GE_EXIT_FAILURE : GE_EXIT_OK;
}
