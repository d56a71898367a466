/*
 * export.h - a log as lines of text: one line per record, for other programs.
 *
 * Records are of four kinds, the shapes of the schema: of a sample ("step"),
 * of a layer in a sample ("layer"), of a mode or a replica of that. A column is
 * a field of the schema under its own name; which there are does not depend on
 * the log.
 */
#ifndef GRADECHO_CLI_EXPORT_H
#define GRADECHO_CLI_EXPORT_H

#include <stdio.h>

#include "reader.h"

enum ge_export_format { GE_EXPORT_CSV, GE_EXPORT_JSONL };

/* What of a log. */
struct ge_export {
    const char *path, *layer; /* a glob; NULL: every layer */
    long long since;          /* from this step on; -1: all */
    enum ge_export_format format;
};

/* Rows are read and written in small blocks: the memory does not grow with the
 * log. Stops early once `out` has failed; the caller looks at ferror().
 * \return GRADECHO_E_INPUT  no layer matches, or a name is not UTF-8
 *         and as ge_log_read() */
GRADECHO_MUST_CHECK gradecho_status ge_export(ge_log_reader *reader,
                                              const struct ge_export *what,
                                              FILE *out);

#endif
