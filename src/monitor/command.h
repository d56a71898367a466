/*
 * command.h - a user's shell command, run beside the monitor.
 *
 * Nothing here waits for the command, but for ge_command_finish(), which waits
 * for so long as it is told. One runs at a time, in a process group of its own,
 * with no descriptor of ours but standard error (which is its standard output,
 * too); more of them queue up. One that runs for a minute is killed. What goes
 * wrong is told once and has no other consequence.
 *
 * posix_spawn(), not fork(): the child shares the monitor's memory until it
 * runs the shell, so that MPI's registered memory is neither copied nor marked.
 * Main thread.
 */
#ifndef GRADECHO_MONITOR_COMMAND_H
#define GRADECHO_MONITOR_COMMAND_H

#include "gradecho/status.h"

typedef struct ge_command ge_command;

/* \param text  for /bin/sh -c; borrowed
 * \return GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status ge_command_create(const char *text,
                                                      ge_command **command);

/* Run it once more, soon. `variables`: "NAME=value", put into its environment;
 * NULL-terminated; copied. */
void ge_command_run(ge_command *command, const char *const *variables);

/* See what became of it, and start the next one. To be called now and then. */
void ge_command_poll(ge_command *command);

/* Wait up to `seconds` for those that run and wait, then kill. Nulls *command;
 * accepts NULL. */
void ge_command_finish(ge_command **command, double seconds);

#endif
