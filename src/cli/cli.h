/*
 * cli.h - the subcommands of `gradecho`. Each parses its own arguments (glibc
 * argp) and returns the program's exit code.
 */
#ifndef GRADECHO_CLI_CLI_H
#define GRADECHO_CLI_CLI_H

#include <stdio.h>

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

struct ge_command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help; /* one line */
};

/* The table of commands; ends with a name of NULL. */
extern const struct ge_command ge_commands[];

struct argp;
struct argp_state;

/* Parse a command line into `input`, as argp_parse() would; a mistake is told
 * in one line, by one rank. Help ends the program, and so do the two that are
 * made of the same tables: `--help=man`, the command's manual page, and
 * GE_COMPLETE.
 * \return GE_EXIT_OK, or GE_EXIT_USAGE: the exit code */
int ge_cli_parse(const struct argp *argp, int argc, char **argv, void *input);

/* For the parsers of argp; on a mistake they have told it. Each returns 0 or
 * an errno. */

/* The only argument that is no option: keep it, refuse a second one. */
int ge_cli_path(struct argp_state *state, char *value, const char **path);
/* An argument where none is taken. */
int ge_cli_unexpected(struct argp_state *state, const char *value);
/* A whole number in [least, most]. */
int ge_cli_whole(struct argp_state *state, const char *option,
                 const char *value, long long least, long long most,
                 long long *out);
/* One of the words of "csv|jsonl": the index of it. */
int ge_cli_word(struct argp_state *state, const char *option, const char *value,
                const char *words, size_t *out);

/* The n-th word of "csv|jsonl"; false behind the last one. */
bool ge_cli_word_at(const char *words, size_t n, char *word, size_t size);

/* ---- manual pages: page.c ---- */

/* Page of a command, section 1, in man(7), from what argp tells for --help. */
void ge_page_command(const struct argp *argp, const char *name, FILE *out);
/* gradecho(1). */
void ge_page_program(FILE *out);
/* gradecho.yaml(5), from the table of keys. */
void ge_page_config(FILE *out);

/* ---- completion: complete.c ---- */

/* `gradecho --complete inspect --lay`: what the last word can become, a line
 * each. A first line ":files h5" stands for the files of that kind,
 * ":files" for all. The shell's side is launch/lib/completion.bash. */
#define GE_COMPLETE "--complete"

void ge_complete_command(int count, char **words, FILE *out);
void ge_complete_options(const struct argp *argp, int count, char **words,
                         FILE *out);

/* A whole small file (at most 1 MiB), NUL-terminated; the caller frees it.
 * \return GRADECHO_E_INPUT  with one line that names the file */
GRADECHO_MUST_CHECK gradecho_status ge_cli_read_file(const char *path,
                                                     char **text,
                                                     size_t *length);

#endif
