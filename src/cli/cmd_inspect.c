/*
 * gradecho inspect: what a log says, once or for as long as it grows.
 */
#include <argp.h>
#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "follow.h"
#include "inspect.h"
#include "try.h"

enum { KEY_LAYER = 0x100, KEY_STEP, KEY_SINCE, KEY_JSON, KEY_ADVICE };

struct arguments {
    struct ge_question question;
    bool json, follow, advice;
};

static const struct argp_option options[] = {
    {"layer", KEY_LAYER, "GLOB", 0, "only these layers, mode by mode", 0},
    {"step", KEY_STEP, "N", 0, "the sample of step N (default: the last)", 0},
    {"since", KEY_SINCE, "N", 0,
     "averages and verdicts over the samples from step N on (default: the last "
     "100 samples)",
     0},
    {"advice", KEY_ADVICE, NULL, 0,
     "batch size, modes to trust and what denoising saves, layer by layer", 0},
    {"json", KEY_JSON, NULL, 0, "print JSON (docs/inspect-json.md)", 0},
    {"follow", 'f', NULL, 0,
     "a live view while the log grows; without a terminal a line per sample",
     0},
    {0},
};

static error_t check(const struct arguments *a, struct argp_state *state)
{
    if (a->question.path == NULL) {
        argp_error(state, "no log is named");
        return EINVAL;
    }
    if (a->follow && (a->json || a->advice || a->question.step >= 0)) {
        argp_error(state, "--follow shows the last sample as it comes: not "
                          "with --json, --advice or --step");
        return EINVAL;
    }
    return 0;
}

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct arguments *a = state->input;

    switch (key) {
    case KEY_LAYER:
        a->question.layer = value;
        return 0;
    case KEY_JSON:
        a->json = true;
        return 0;
    case KEY_ADVICE:
        a->advice = true;
        return 0;
    case 'f':
        a->follow = true;
        return 0;
    case KEY_STEP:
        return ge_cli_whole(state, "--step", value, 0, INT64_MAX,
                            &a->question.step);
    case KEY_SINCE:
        return ge_cli_whole(state, "--since", value, 0, INT64_MAX,
                            &a->question.since);
    case ARGP_KEY_ARG:
        return ge_cli_path(state, value, &a->question.path);
    case ARGP_KEY_END:
        return check(a, state);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static gradecho_status show(const struct arguments *a, bool unicode)
{
    gradecho_status status = GRADECHO_OK;
    struct ge_digest digest = {0};
    ge_log_reader *reader = NULL;

    GE_TRY(ge_log_open(a->question.path, &reader));
    GE_TRY(ge_digest_load(reader, &a->question, &digest));
    digest.advice = a->advice;
    if (a->json)
        GE_TRY(ge_inspect_json(&digest, stdout));
    else
        GE_TRY(ge_inspect_table(&digest, unicode, stdout));
    GE_FAIL_IF(fflush(stdout) != 0 || ferror(stdout), GRADECHO_E_SYS,
               "cannot write to standard output");
fail:
    ge_digest_fini(&digest);
    ge_log_reader_close(&reader);
    return status;
}

int ge_cmd_inspect(int argc, char **argv)
{
    const struct argp argp = {
        .options = options,
        .parser = parse_option,
        .args_doc = "LOG",
        .doc = "Show what a log says, finished or still growing.\v"
               "  gradecho inspect run.h5\n"
               "  gradecho inspect run.h5 --follow\n"
               "  gradecho inspect run.h5 --advice\n"
               "  gradecho inspect run.h5 --layer 'hidden*' --step 200\n"
               "  gradecho inspect run.h5 --since 1000 --json | "
               "jq '.verdicts[].text'"};
    struct arguments a = {.question = {.step = -1, .since = -1}};

    if (ge_cli_parse(&argp, argc, argv, &a) != GE_EXIT_OK)
        return GE_EXIT_USAGE;
    setlocale(LC_CTYPE, "");
    const bool unicode = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    const bool terminal = isatty(STDOUT_FILENO) == 1;

    if (!a.follow)
        return ge_status_exit_code(show(&a, terminal && unicode));
    return ge_status_exit_code(terminal && isatty(STDIN_FILENO) == 1
                                   ? ge_follow_screen(&a.question, unicode)
                                   : ge_follow_lines(&a.question));
}
