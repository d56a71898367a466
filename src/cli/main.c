/*
 * gradecho - gradient-noise monitor for data-parallel training.
 */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "gradecho/version.h"
#include "memory.h"
#include "suggest.h"
#include "try.h"

const struct ge_command ge_commands[] = {
    {"monitor", ge_cmd_monitor,
     "watch a training run: mpirun -n R gradecho monitor --log FILE"},
    {"replay", ge_cmd_replay,
     "measure a file of gradients: gradecho replay GRADS.h5 --log FILE"},
    {"inspect", ge_cmd_inspect, "show what a log says"},
    {"diff", ge_cmd_diff, "compare two logs layer by layer, with errors"},
    {"export", ge_cmd_export, "write a log as CSV or JSON Lines"},
    {"doctor", ge_cmd_doctor, "find what would break a run, before the run"},
    {"recover", ge_cmd_recover, "close a log whose writer was killed"},
    {"config", ge_cmd_config, "print or check a configuration"},
    {"selftest", ge_cmd_selftest, "hold the estimates against planted truth"},
    {NULL, NULL, NULL},
};

static void print_help(FILE *out)
{
    fputs("Usage: gradecho COMMAND [OPTION...]\n"
          "Measure the gradient noise of a data-parallel training run while it "
          "runs.\n\n",
          out);
    for (const struct ge_command *c = ge_commands; c->name != NULL; c++)
        fprintf(out, "  %-9s %s\n", c->name, c->help);
    fputs("\n  gradecho help COMMAND tells the options of a command.\n"
          "  gradecho-run starts the monitors beside a training command.\n",
          out);
}

gradecho_status ge_cli_read_file(const char *path, char **text, size_t *length)
{
    enum { MOST = 1 << 20 };
    gradecho_status status = GRADECHO_OK;
    char *made = ge_alloc(MOST + 1, 1);
    FILE *file = fopen(path, "rb");

    GE_FAIL_IF(made == NULL, GRADECHO_E_NOMEM, "no memory to read %s", path);
    GE_FAIL_IF(file == NULL, GRADECHO_E_INPUT, "%s: %s", path, strerror(errno));
    *length = fread(made, 1, MOST + 1, file);
    GE_FAIL_IF(ferror(file), GRADECHO_E_INPUT, "%s: %s", path, strerror(errno));
    GE_FAIL_IF(*length > MOST, GRADECHO_E_INPUT,
               "%s: larger than 1 MiB, this is no configuration", path);
    made[*length] = '\0';
    *text = made;
    made = NULL;
fail:
    free(made);
    if (file != NULL)
        fclose(file);
    return status;
}

static const struct ge_command *find_command(const char *name)
{
    struct ge_suggestion near = {.word = name};

    for (const struct ge_command *c = ge_commands; c->name != NULL; c++) {
        if (strcmp(name, c->name) == 0)
            return c;
        ge_suggest(&near, c->name);
    }
    const char *meant = ge_suggested(&near);

    ge_error("unknown command %s; %s%s%sgradecho --help lists them", name,
             meant != NULL ? "is " : "", meant != NULL ? meant : "",
             meant != NULL ? " meant? " : "");
    return NULL;
}

/* argp's messages name the program as the user called it. */
static int run_command(const struct ge_command *command, int argc, char **argv)
{
    char name[64];

    snprintf(name, sizeof name, "gradecho %s", command->name);
    argv[0] = name;
    return command->run(argc, argv);
}

/* gradecho help [COMMAND] */
static int help(int argc, char **argv)
{
    static char option[] = "--help";
    char *words[] = {NULL, option, NULL};
    const struct ge_command *command = NULL;

    if (argc < 2) {
        print_help(stdout);
        return GE_EXIT_OK;
    }
    command = find_command(argv[1]);
    return command != NULL ? run_command(command, 2, words) : GE_EXIT_USAGE;
}

/* gradecho --complete [WORD ...]: a command's own tables know. */
static int complete(int argc, char **argv)
{
    for (const struct ge_command *c = ge_commands; c->name != NULL; c++)
        if (argc > 2 && strcmp(argv[1], c->name) == 0) {
            argv[1] = argv[0]; /* "gradecho COMMAND" --complete [WORD ...] */
            return run_command(c, argc, argv);
        }
    ge_complete_command(argc - 1, argv + 1, stdout);
    return GE_EXIT_OK;
}

static bool is_any(const char *word, const char *one, const char *other)
{
    return strcmp(word, one) == 0 || strcmp(word, other) == 0;
}

int main(int argc, char **argv)
{
    const char *first = argc > 1 ? argv[1] : "";
    const struct ge_command *command = NULL;

    argp_err_exit_status = GE_EXIT_USAGE;
    if (argc < 2) {
        print_help(stderr);
        return GE_EXIT_USAGE;
    }
    if (is_any(first, "--version", "-V")) {
        puts("gradecho " GRADECHO_VERSION);
        return GE_EXIT_OK;
    }
    if (strcmp(first, "--help=man") == 0) {
        ge_page_program(stdout);
        return GE_EXIT_OK;
    }
    if (strcmp(first, "--help=yaml") == 0) {
        ge_page_config(stdout);
        return GE_EXIT_OK;
    }
    if (strcmp(first, GE_COMPLETE) == 0)
        return complete(argc - 1, argv + 1);
    if (is_any(first, "--help", "-h") || strcmp(first, "help") == 0)
        return help(argc - 1, argv + 1);
    command = find_command(first);
    return command != NULL ? run_command(command, argc - 1, argv + 1)
                           : GE_EXIT_USAGE;
}
