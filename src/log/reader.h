/*
 * reader.h - a log, finished or still growing, for reading.
 *
 * Any one thread. A log that is being written is opened in SWMR mode; rows
 * beyond the commit mark (/step) are never shown.
 */
#ifndef GRADECHO_LOG_READER_H
#define GRADECHO_LOG_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "writer.h"

typedef struct ge_log_reader ge_log_reader;

/* What does not change while the log grows. Owned by the reader. */
struct ge_log_facts {
    const char *session, *created, *version, *config;
    int64_t world_size;
    int64_t restarts; /* of its writers; -1: of a version that did not know */
    enum ge_log_end end; /* as of the open */
    bool held;           /* a writer holds it, as of the open */
    struct ge_dimensions dims;
    const struct ge_log_layer *layers; /* [dims.layers] */
};

/* \return GRADECHO_E_INPUT  no such file, not HDF5, not a gradecho log, or of
 *                           another schema version; the message names the file
 *         GRADECHO_E_NOMEM, GRADECHO_E_HDF5 */
GRADECHO_MUST_CHECK gradecho_status ge_log_open(const char *path,
                                                ge_log_reader **reader);

/* Does a writer hold the log at `path` now? False, too, if that cannot be
 * known. Nothing is opened that a writer would notice. */
bool ge_log_is_held(const char *path);

void ge_log_reader_close(ge_log_reader **reader);

const struct ge_log_facts *ge_log_reader_facts(const ge_log_reader *reader);

/* Look again how many rows are committed (a growing log). */
GRADECHO_MUST_CHECK gradecho_status ge_log_refresh(ge_log_reader *reader,
                                                   uint64_t *rows);

/* The steps of rows first .. first + count - 1.
 * \return GRADECHO_E_INPUT  beyond the committed rows */
GRADECHO_MUST_CHECK gradecho_status ge_log_steps(ge_log_reader *reader,
                                                 uint64_t first, uint64_t count,
                                                 int64_t *steps);

/* One field over rows first .. first + count - 1:
 * values [count x ge_shape_count()], row-major, missing as in the schema.
 * A field that the file lacks (an older log of the same schema) is missing. */
GRADECHO_MUST_CHECK gradecho_status ge_log_read(ge_log_reader *reader,
                                                enum ge_field field,
                                                uint64_t first, uint64_t count,
                                                double *values);

/* All fields of one row. row->dims equal to those of the log. */
GRADECHO_MUST_CHECK gradecho_status ge_log_read_row(ge_log_reader *reader,
                                                    uint64_t index,
                                                    struct ge_row *row);

#endif
