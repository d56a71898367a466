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
#include "try.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
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
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void print_help(FILE *out)
{
    fputs("Usage: gradecho COMMAND [OPTION...]\n"
          "Measure the gradient noise of a data-parallel training run while it "
          "runs.\n\n",
          out);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].help);
    fputs("\n  gradecho COMMAND --help tells the options of a command.\n"
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

int main(int argc, char **argv)
{
    argp_err_exit_status = GE_EXIT_USAGE;
    if (argc < 2) {
        print_help(stderr);
        return GE_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return GE_EXIT_OK;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        puts("gradecho " GRADECHO_VERSION);
        return GE_EXIT_OK;
    }
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name) != 0)
            continue;
        /* argp's messages name the program as the user called it. */
        char name[64];

        snprintf(name, sizeof name, "gradecho %s", commands[i].name);
        argv[1] = name;
        return commands[i].run(argc - 1, argv + 1);
    }
    ge_error("unknown command %s; gradecho --help lists them", argv[1]);
    return GE_EXIT_USAGE;
}
