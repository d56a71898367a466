/*
 * run.h - the monitor's life: attach, agree, measure, log, end in order.
 */
#ifndef GRADECHO_MONITOR_RUN_H
#define GRADECHO_MONITOR_RUN_H

#include <signal.h>

#include "comm.h"
#include "config.h"

struct ge_run {
    const struct ge_config *config;
    const char *session;   /* live: the trainers' session */
    const char *gradients; /* replay: the file; NULL: live */
    const char *log_path;
    bool overwrite;                    /* replace a log that exists */
    bool resume;                       /* append to a log that exists */
    const volatile sig_atomic_t *stop; /* set by a signal: end in order */
};

/* Collective. Returns when the gradients end, a stop is asked for, or
 * something fails; the log is closed in any case.
 *
 * \return GRADECHO_OK also after a stop
 *         GRADECHO_E_EXISTS  the log exists, or another monitor writes it
 *         GRADECHO_E_INPUT   the gradients or the log to resume do not fit
 *         GRADECHO_E_HDF5    some samples could not be written (told)
 *         GRADECHO_E_MPI, _E_TIMEOUT  peers are lost: the caller must leave by
 *                            ge_comm_abort(); all else is agreed between ranks
 */
GRADECHO_MUST_CHECK gradecho_status ge_run(ge_comm *comm,
                                           const struct ge_run *run);

#endif
