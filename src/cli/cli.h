/*
 * cli.h - the subcommands of `gradecho`. Each parses its own arguments (glibc
 * argp) and returns the program's exit code.
 */
#ifndef GRADECHO_CLI_CLI_H
#define GRADECHO_CLI_CLI_H

#include "config.h"

enum { GE_EXIT_OK = 0, GE_EXIT_FAILURE = 1, GE_EXIT_USAGE = 2 };

int ge_cmd_monitor(int argc, char **argv);
int ge_cmd_replay(int argc, char **argv);
int ge_cmd_inspect(int argc, char **argv);
int ge_cmd_diff(int argc, char **argv);
int ge_cmd_export(int argc, char **argv);
int ge_cmd_doctor(int argc, char **argv);
int ge_cmd_recover(int argc, char **argv);
int ge_cmd_config(int argc, char **argv);
int ge_cmd_selftest(int argc, char **argv);

struct argp;

/* Parse a command line into `input`, as argp_parse() would; a mistake is told
 * in one line, by one rank.
 * \return GE_EXIT_OK, or GE_EXIT_USAGE: the exit code */
int ge_cli_parse(const struct argp *argp, int argc, char **argv, void *input);

/* A whole small file (at most 1 MiB), NUL-terminated; the caller frees it.
 * \return GRADECHO_E_INPUT  with one line that names the file */
GRADECHO_MUST_CHECK gradecho_status ge_cli_read_file(const char *path,
                                                     char **text,
                                                     size_t *length);

#endif
