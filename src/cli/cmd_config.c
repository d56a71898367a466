/*
 * gradecho config: print the defaults with their help, or check a file.
 */
#include <argp.h>
#include <stdlib.h>

#include "cli.h"
#include "try.h"

enum { KEY_DEFAULT = 0x100, KEY_CHECK };

struct arguments {
    const char *check;
};

static const struct argp_option options[] = {
    {"default", KEY_DEFAULT, NULL, 0,
     "print every key with its default and help (what happens anyway)", 0},
    {"check", KEY_CHECK, "FILE", 0,
     "check FILE and print the configuration it makes", 0},
    {0},
};

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct arguments *a = state->input;

    switch (key) {
    case KEY_DEFAULT:
        return 0;
    case KEY_CHECK:
        a->check = value;
        return 0;
    case ARGP_KEY_ARG:
        return ge_cli_unexpected(state, value);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int ge_cmd_config(int argc, char **argv)
{
    const struct argp argp = {
        .options = options,
        .parser = parse_option,
        .doc = "Print the configuration.\v"
               "  gradecho config > run.yaml          start from the defaults\n"
               "  gradecho config --check run.yaml    what it amounts to"};
    gradecho_status status = GRADECHO_OK;
    struct arguments a = {0};
    struct ge_config config = {0};
    char *text = NULL;
    size_t length = 0;

    if (ge_cli_parse(&argp, argc, argv, &a) != GE_EXIT_OK)
        return GE_EXIT_USAGE;
    GE_TRY(ge_config_init(&config));
    if (a.check != NULL) {
        GE_TRY(ge_cli_read_file(a.check, &text, &length));
        GE_TRY(ge_config_parse(&config, text, length, a.check));
    }
    GE_FAIL_IF(!ge_config_print(&config, a.check == NULL, stdout) ||
                   fflush(stdout) != 0,
               GRADECHO_E_SYS, "cannot write to standard output");
fail:
    ge_config_fini(&config);
    free(text);
    return ge_status_exit_code(status);
}
