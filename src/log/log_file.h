/*
 * log_file.h - the log as a file: who may write it, and the name under which it
 * grows up. No HDF5.
 *
 * A writer holds an open-file-description lock on one byte of the log, far
 * behind any data: it goes with the file when that is renamed, nothing lies
 * beside the log, and the kernel frees it when the writer is gone, however
 * that ended. HDF5's own lock (flock) is another one, which HDF5 gives up when
 * SWMR starts; the two do not touch each other.
 *
 * Internal to src/log.
 */
#ifndef GRADECHO_LOG_LOG_FILE_H
#define GRADECHO_LOG_LOG_FILE_H

#include <stdbool.h>

#include "gradecho/status.h"

/* Lock the log at `path`, which exists.
 *
 * \param fd  keeps the lock until it is closed; -1 if the file system has no
 *            such locks (told)
 * \return GRADECHO_E_EXISTS  somebody writes it
 *         GRADECHO_E_INPUT   missing, or not a file
 *         GRADECHO_E_SYS     not writable */
GRADECHO_MUST_CHECK gradecho_status ge_log_file_lock(const char *path, int *fd);

/* Does a writer hold the log at `path`? False, too, if that cannot be known. */
bool ge_log_file_is_held(const char *path);

/* A file next to `path`, empty and locked, for the log to grow up in: nobody
 * ever opens half a log, and the one to be replaced lives until this is ready.
 *
 * \param growing  its name, in memory that the caller frees */
GRADECHO_MUST_CHECK gradecho_status ge_log_file_begin(const char *path,
                                                      char **growing, int *fd);

/* Give it its name. Never replaces a log that is being written. */
GRADECHO_MUST_CHECK gradecho_status ge_log_file_publish(const char *growing,
                                                        const char *path,
                                                        bool overwrite);

/* Remove what writers that were killed in ge_log_create() left next to
 * `path`. */
void ge_log_file_sweep(const char *path);

#endif
