/*
 * writer.h - the growing log: created, appended to row by row, closed.
 *
 * The writer rank's main thread only. Everything of the schema exists before
 * SWMR starts, so that readers may open the file at any time; /step is written
 * last in each append and is the commit mark; chunks are unfiltered and each
 * commit is one H5Fflush, so that a kill loses at most `flush_every` rows.
 */
#ifndef GRADECHO_LOG_WRITER_H
#define GRADECHO_LOG_WRITER_H

#include <stdbool.h>
#include <stdint.h>

#include "schema.h"

typedef struct ge_log_writer ge_log_writer;

struct ge_log_layer {
    const char *name; /* UTF-8 */
    uint64_t rows, cols;
};

struct ge_log_spec {
    const char *path;
    bool overwrite;       /* replace a file that exists */
    const char *session;  /* root attribute */
    uint32_t world_size;  /* root attribute: training ranks */
    const char *config;   /* root attribute: the effective YAML */
    uint32_t flush_every; /* rows between flushes, >= 1 */
    struct ge_dimensions dims;
    const struct ge_log_layer *layers; /* [dims.layers] */
};

/* What a log held before its writer opened it; a new one: nothing. */
struct ge_log_past {
    uint64_t rows;
    int64_t step;     /* of the last row, -1 if there is none */
    int64_t dropped;  /* likewise, 0 */
    int64_t restarts; /* writers before this one */
};

/* How a log ended: attribute clean_close. */
enum ge_log_end {
    GE_LOG_OPEN,     /* it did not, or its writer was killed */
    GE_LOG_CLOSED,   /* in order */
    GE_LOG_RECOVERED /* by ge_log_recover() */
};

/* May a log be created at `path`? To say so before a long wait: nothing is
 * created, and ge_log_create() decides anew.
 * \return GRADECHO_E_EXISTS  the path exists and `overwrite` is not set, or it
 *                            is not a file, or a writer holds it */
GRADECHO_MUST_CHECK gradecho_status ge_log_check(const char *path,
                                                 bool overwrite);

/* Create the file with all datasets, dimension scales and attributes, and
 * start SWMR.
 *
 * \param spec    borrowed for the call
 * \param writer  written on success; release with ge_log_close()
 * The file grows up as PATH.PID.new and takes its name when it is ready: a log
 * that is replaced stays whole until then, and so for those who read it.
 *
 * \return GRADECHO_E_EXISTS  the file exists and overwrite is not set
 *         GRADECHO_E_SYS     the folder is missing, not writable, ...
 *         GRADECHO_E_ARG     no layers, modes or replicas, or absurdly many;
 *                            flush_every is 0
 *         GRADECHO_E_HDF5, GRADECHO_E_NOMEM
 *         On any of them nothing of ours is left behind. */
GRADECHO_MUST_CHECK gradecho_status
ge_log_create(const struct ge_log_spec *spec, ge_log_writer **writer);

/* Continue a log that exists; where its writer was killed, recover it first.
 * The new rows stand behind the old ones; /restarts tells them apart.
 *
 * \param spec  what the rows will be: layers, modes and world size must be
 *              those of the log, replicas at most its; `overwrite`, `session`
 *              and `config` are not looked at
 * \return GRADECHO_E_EXISTS  a writer holds the log
 *         GRADECHO_E_INPUT   missing, no gradecho log, damaged, or it does not
 *                            fit: the message names what differs
 *         GRADECHO_E_SYS     not writable
 *         and as ge_log_create(). Unless the return is GRADECHO_OK the file
 *         is as it was, or as a killed writer leaves it. */
GRADECHO_MUST_CHECK gradecho_status
ge_log_resume(const struct ge_log_spec *spec, ge_log_writer **writer);

/* May the log at `path` be continued, as far as that can be said without the
 * gradients? \return as ge_log_resume() */
GRADECHO_MUST_CHECK gradecho_status ge_log_check_resume(const char *path);

/* Make a log whose writer was killed a normal file: every dataset as long as
 * /step, no mark that keeps others from opening it.
 *
 * \param rows  committed rows
 * \return GRADECHO_END  there was nothing to do: the file is untouched
 *         and as ge_log_resume() */
GRADECHO_MUST_CHECK gradecho_status ge_log_recover(const char *path,
                                                   uint64_t *rows);

/* What the log held before. Owned by the writer. */
const struct ge_log_past *ge_log_past(const ge_log_writer *writer);

/* Dimensions of the rows that it takes. */
struct ge_dimensions ge_log_dimensions(const ge_log_writer *writer);

/* Append one row and commit it.
 *
 * \param row  borrowed; row->dims equal to those of the log
 * \return GRADECHO_E_HDF5  the row is not committed; the log stays valid up to
 *                          the row before, and the next append, of this or
 *                          another row, takes its place
 *         GRADECHO_E_ARG   other dimensions
 *         GRADECHO_E_NOMEM as GRADECHO_E_HDF5 */
GRADECHO_MUST_CHECK gradecho_status ge_log_append(ge_log_writer *writer,
                                                  const struct ge_row *row);

/* Commit the rows that wait for their flush. \return as ge_log_append() */
GRADECHO_MUST_CHECK gradecho_status ge_log_flush(ge_log_writer *writer);

/* Rows committed so far, earlier writers' included: those that a reader sees
 * and a kill leaves. And rows that wait for their flush. */
uint64_t ge_log_rows(const ge_log_writer *writer);
uint64_t ge_log_waiting(const ge_log_writer *writer);

/* Mark the log as cleanly closed and close it. Nulls *writer; accepts NULL.
 * \return GRADECHO_E_HDF5  rows that waited are lost, or the log could not be
 *                          closed: it is as a killed writer leaves it */
gradecho_status ge_log_close(ge_log_writer **writer);

#endif
