/*
 * Command lines: glibc's argp parses them, and what it has to say of a mistake
 * is told as everything else here is: once, in one line.
 */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "try.h"

/* Help ends the program inside argp, as it should. */
static bool asks_for_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-?") == 0 ||
            strcmp(argv[i], "--usage") == 0)
            return true;
    return false;
}

/* Before MPI is up the launcher's variables tell which rank this is; one of
 * many speaks. */
static bool is_first_rank(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK",
                                        "PMI_RANK"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *rank = getenv(names[i]);

        if (rank != NULL)
            return strcmp(rank, "0") == 0;
    }
    return true;
}

int ge_cli_parse(const struct argp *argp, int argc, char **argv, void *input)
{
    FILE *terminal = stderr, *captured = NULL;
    char *text = NULL;
    size_t size = 0;
    error_t failed = 0;

    if (!asks_for_help(argc, argv))
        captured = open_memstream(&text, &size);
    if (captured != NULL)
        stderr = captured; /* getopt below argp writes there, too */
    failed = argp_parse(argp, argc, argv, captured != NULL ? ARGP_NO_EXIT : 0,
                        NULL, input);
    stderr = terminal;
    if (captured != NULL)
        fclose(captured);
    if (failed != 0 && (text == NULL || text[0] == '\0')) {
        /* Not a mistake of the user, nor one that all ranks make. */
        ge_error("cannot read the command line: %s", strerror(failed));
    } else if (failed != 0 && is_first_rank()) {
        /* "gradecho replay: what is wrong", then lines of general advice. */
        text[strcspn(text, "\n")] = '\0';
        fprintf(stderr, "%s; see %s --help\n", text, argv[0]);
    }
    free(text);
    return failed != 0 ? GE_EXIT_USAGE : GE_EXIT_OK;
}
