/*
 * gradecho diff: two runs, layer by layer.
 */
#include <argp.h>
#include <errno.h>
#include <stdlib.h>

#include "cli.h"
#include "diff.h"
#include "try.h"

enum { KEY_LAYER = 0x100, KEY_SINCE, KEY_JSON, KEY_ALL };

struct arguments {
    struct ge_diff_question question;
    bool json, all;
};

static const struct argp_option options[] = {
    {"layer", KEY_LAYER, "GLOB", 0, "only these layers", 0},
    {"since", KEY_SINCE, "N", 0,
     "only samples from step N on, of both (default: all samples)", 0},
    {"all", KEY_ALL, NULL, 0,
     "every number, not only differences beyond 2 standard errors", 0},
    {"json", KEY_JSON, NULL, 0, "print JSON (docs/inspect-json.md)", 0},
    {0},
};

static error_t parse_argument(struct arguments *a, const char *value,
                              struct argp_state *state)
{
    if (state->arg_num >= 2) {
        argp_error(state, "unexpected argument %s", value);
        return EINVAL;
    }
    a->question.path[state->arg_num] = value;
    return 0;
}

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct arguments *a = state->input;
    char *end = NULL;

    switch (key) {
    case KEY_LAYER:
        a->question.layer = value;
        return 0;
    case KEY_ALL:
        a->all = true;
        return 0;
    case KEY_JSON:
        a->json = true;
        return 0;
    case KEY_SINCE:
        errno = 0;
        a->question.since = strtoll(value, &end, 10);
        if (end == value || *end != '\0' || a->question.since < 0 ||
            errno != 0) {
            argp_error(state, "--since must be a whole number, not %s", value);
            return EINVAL;
        }
        return 0;
    case ARGP_KEY_ARG:
        return parse_argument(a, value, state);
    case ARGP_KEY_END:
        if (state->arg_num < 2) {
            argp_error(state, "two logs must be named");
            return EINVAL;
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static gradecho_status diff(const struct arguments *a)
{
    gradecho_status status = GRADECHO_OK;
    ge_log_reader *readers[2] = {NULL, NULL};
    struct ge_diff found = {0};

    for (int i = 0; i < 2; i++)
        GE_TRY(ge_log_open(a->question.path[i], &readers[i]));
    GE_TRY(ge_diff_load(readers, &a->question, &found));
    if (a->json)
        GE_TRY(ge_diff_json(&found, stdout));
    else
        ge_diff_print(&found, a->all, stdout);
    GE_FAIL_IF(fflush(stdout) != 0 || ferror(stdout), GRADECHO_E_SYS,
               "cannot write to standard output");
fail:
    ge_diff_fini(&found);
    for (int i = 0; i < 2; i++)
        ge_log_reader_close(&readers[i]);
    return status;
}

int ge_cmd_diff(int argc, char **argv)
{
    const struct argp argp = {
        .options = options,
        .parser = parse_option,
        .args_doc = "A B",
        .doc = "Compare the logs of two runs, layer by layer, with errors. "
               "Exits with 0 whether they differ or not.\v"
               "  gradecho diff before.h5 after.h5\n"
               "  gradecho diff before.h5 after.h5 --since 1000 --layer "
               "'attn*' --all\n"
               "  gradecho diff before.h5 after.h5 --json | "
               "jq '.differences[:5]'"};
    struct arguments a = {.question = {.since = -1}};

    if (ge_cli_parse(&argp, argc, argv, &a) != GE_EXIT_OK)
        return GE_EXIT_USAGE;
    return ge_status_exit_code(diff(&a));
}
