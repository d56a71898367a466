/*
 * probe.h - does a log work in this folder? By doing it.
 */
#ifndef GRADECHO_LOG_PROBE_H
#define GRADECHO_LOG_PROBE_H

#include "gradecho/status.h"

/* Create a small log in `folder`, append to it while a second process reads it,
 * close it, read it again; remove it. Forks: call it before threads are made.
 *
 * \return GRADECHO_E_SYS      a file cannot be made there
 *         GRADECHO_E_HDF5     HDF5 cannot write it, or the reader did not see
 *                             in time what was written; told once
 *         GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status ge_log_probe(const char *folder);

#endif
