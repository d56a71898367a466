/*
 * gradecho recover: close a log whose writer was killed.
 */
#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "cli.h"
#include "try.h"
#include "writer.h"

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    const char **path = state->input;

    switch (key) {
    case ARGP_KEY_ARG:
        return ge_cli_path(state, value, path);
    case ARGP_KEY_END:
        if (*path == NULL) {
            argp_error(state, "no log is named");
            return EINVAL;
        }
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int ge_cmd_recover(int argc, char **argv)
{
    const struct argp argp = {
        .parser = parse_option,
        .args_doc = "LOG",
        .doc =
            "Make a log whose writer was killed a normal file.\v"
            "  gradecho recover run.h5\n"
            "All committed samples stay; other HDF5 programs can open the log "
            "afterwards. Nothing is changed if nothing is wrong. `gradecho "
            "inspect` and `gradecho monitor --resume` do not need this."};
    gradecho_status status = GRADECHO_OK;
    const char *path = NULL;
    uint64_t rows = 0;

    if (ge_cli_parse(&argp, argc, argv, &path) != GE_EXIT_OK)
        return GE_EXIT_USAGE;
    status = ge_log_recover(path, &rows);
    if (status < GRADECHO_OK)
        return ge_status_exit_code(status);
    printf("%s: %s%" PRIu64 " samples\n", path,
           status == GRADECHO_END ? "nothing to do, " : "recovered, ", rows);
    return GE_EXIT_OK;
}
