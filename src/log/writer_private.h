/*
 * writer_private.h - the writer's state, shared by creating (writer.c) and
 * continuing (resume.c) a log. Not for others.
 */
#ifndef GRADECHO_LOG_WRITER_PRIVATE_H
#define GRADECHO_LOG_WRITER_PRIVATE_H

#include "log_layout.h"
#include "writer.h"

struct ge_log_writer {
    char *path;
    int lock; /* descriptor that carries the lock (log_file.h) */
    /* In order of acquisition; closed from last to first. */
    hid_t file, step, fields[GE_FIELDS], memory[GE_SHAPES];
    struct ge_dimensions dims;
    struct ge_log_past past;
    uint64_t written;   /* rows in the fields */
    uint64_t committed; /* rows in /step and flushed */
    uint32_t flush_every;
    int64_t *integers; /* room for one row of any integer field */
    /* Steps of rows committed .. written - 1. They go to the file after the
     * fields were flushed: whatever HDF5's cache writes by itself before, a
     * reader that sees a row in /step sees it in every field. */
    int64_t *waiting;
    size_t room; /* of `waiting` */
};

/* A writer with nothing open. \return NULL without memory */
ge_log_writer *ge_log_writer_new(const char *path);

/* What append needs, so that it allocates nothing; `dims` and `flush_every`
 * are set. */
GRADECHO_MUST_CHECK gradecho_status ge_log_writer_prepare(ge_log_writer *log);

/* Cut every field to the committed rows: what a killed or failed append left
 * behind. */
GRADECHO_MUST_CHECK gradecho_status ge_log_writer_cut(ge_log_writer *log);

/* Mark the log as closed in a way (enum ge_log_end), and close it. Nulls
 * *writer. */
GRADECHO_MUST_CHECK gradecho_status ge_log_writer_end(ge_log_writer **writer,
                                                      enum ge_log_end end);

/* Close whatever is open, free everything; accepts NULL. */
void ge_log_writer_destroy(ge_log_writer *log, gradecho_status *status);

/* File access properties of every log that is written. */
GRADECHO_MUST_CHECK gradecho_status ge_log_writer_access(const char *path,
                                                         hid_t *access);

GRADECHO_MUST_CHECK gradecho_status
ge_log_check_spec(const struct ge_log_spec *spec);

#endif
