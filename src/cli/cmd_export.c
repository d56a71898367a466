/*
 * gradecho export: a log as CSV or JSON Lines.
 */
#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "export.h"
#include "try.h"

enum { KEY_FORMAT = 0x100, KEY_LAYER, KEY_SINCE };

struct arguments {
    struct ge_export what;
    const char *output; /* NULL: not given */
    bool formatted;
};

static const char formats[] = "csv|jsonl"; /* in the order of the enum */

static const struct argp_option options[] = {
    {"format", KEY_FORMAT, formats, 0, "which form; no default", 0},
    {"output", 'o', "FILE", 0,
     "write FILE instead of standard output; it appears when it is whole", 0},
    {"layer", KEY_LAYER, "GLOB", 0, "only these layers", 0},
    {"since", KEY_SINCE, "N", 0, "only samples from step N on", 0},
    {0},
};

static error_t check(struct arguments *a, struct argp_state *state)
{
    if (a->what.path == NULL) {
        argp_error(state, "no log is named");
        return EINVAL;
    }
    if (!a->formatted) {
        argp_error(state, "no form is chosen: --format csv or --format jsonl");
        return EINVAL;
    }
    return 0;
}

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct arguments *a = state->input;
    error_t failed = 0;
    size_t format = 0;

    switch (key) {
    case KEY_FORMAT:
        a->formatted = true;
        failed = ge_cli_word(state, "--format", value, formats, &format);
        a->what.format = (enum ge_export_format)format;
        return failed;
    case 'o':
        a->output = value;
        return 0;
    case KEY_LAYER:
        a->what.layer = value;
        return 0;
    case KEY_SINCE:
        return ge_cli_whole(state, "--since", value, 0, INT64_MAX,
                            &a->what.since);
    case ARGP_KEY_ARG:
        return ge_cli_path(state, value, &a->what.path);
    case ARGP_KEY_END:
        return check(a, state);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* Export to a file beside `output` that takes its name when it is whole. */
static gradecho_status export_file(ge_log_reader *reader,
                                   const struct ge_export *what,
                                   const char *output)
{
    gradecho_status status = GRADECHO_OK;
    char *growing = NULL;
    FILE *out = NULL;
    bool whole = false, made = false;

    GE_FAIL_IF(asprintf(&growing, "%s.%ld.new", output, (long)getpid()) < 0,
               GRADECHO_E_NOMEM, "no memory for a file name");
    out = fopen(growing, "wx");
    GE_FAIL_IF(out == NULL, GRADECHO_E_SYS, "cannot write %s: %s", output,
               strerror(errno));
    made = true;
    errno = 0;
    GE_TRY(ge_export(reader, what, out));
    whole = fflush(out) == 0 && ferror(out) == 0;
    whole = fclose(out) == 0 && whole;
    out = NULL;
    whole = whole && rename(growing, output) == 0;
    GE_FAIL_IF(!whole, GRADECHO_E_SYS, "cannot write %s: %s", output,
               errno != 0 ? strerror(errno) : "the disk may be full");
    made = false;
fail:
    if (out != NULL)
        (void)fclose(out); /* given up: already told why */
    if (made)
        unlink(growing);
    free(growing);
    return status;
}

/* Export to what is open already: standard output, or a pipe or device. */
static gradecho_status export_stream(ge_log_reader *reader,
                                     const struct ge_export *what,
                                     const char *output, FILE *out)
{
    gradecho_status status = GRADECHO_OK;

    errno = 0;
    GE_TRY(ge_export(reader, what, out));
    GE_FAIL_IF(fflush(out) != 0 || ferror(out) != 0, GRADECHO_E_SYS,
               "cannot write %s: %s", output,
               errno != 0 ? strerror(errno) : "output failed");
fail:
    return status;
}

static gradecho_status export(const struct arguments *a)
{
    gradecho_status status = GRADECHO_OK;
    const char *output = a->output;
    ge_log_reader *reader = NULL;
    FILE *device = NULL;
    struct stat about;

    GE_TRY(ge_log_open(a->what.path, &reader));
    if (output == NULL || strcmp(output, "-") == 0) {
        GE_TRY(export_stream(reader, &a->what, "standard output", stdout));
    } else if (stat(output, &about) == 0 && !S_ISREG(about.st_mode)) {
        device = fopen(output, "w");
        GE_FAIL_IF(device == NULL, GRADECHO_E_SYS, "cannot write %s: %s",
                   output, strerror(errno));
        GE_TRY(export_stream(reader, &a->what, output, device));
    } else {
        GE_TRY(export_file(reader, &a->what, output));
    }
fail:
    if (device != NULL)
        (void)fclose(device); /* flushed above */
    ge_log_reader_close(&reader);
    return status;
}

int ge_cmd_export(int argc, char **argv)
{
    const struct argp argp = {
        .options = options,
        .parser = parse_option,
        .args_doc = "LOG",
        .doc = "Write a log as text for other programs.\v"
               "  gradecho export run.h5 --format csv -o run.csv\n"
               "  python3 -c 'import pandas; "
               "print(pandas.read_csv(\"run.csv\", skiprows=1))'\n"
               "  gradecho export run.h5 --format jsonl --layer 'attn*' | "
               "jq 'select(.record == \"layer\") | .noise_scale'"};
    struct arguments a = {.what = {.since = -1}};

    if (ge_cli_parse(&argp, argc, argv, &a) != GE_EXIT_OK)
        return GE_EXIT_USAGE;
    return ge_status_exit_code(export(&a));
}
