/*
 * inspect.h - what `gradecho inspect` shows, loaded once, printed in two ways.
 */
#ifndef GRADECHO_CLI_INSPECT_H
#define GRADECHO_CLI_INSPECT_H

#include <stdio.h>

#include "reader.h"

/* A log boiled down for showing. */
struct ge_digest {
    const char *path;
    const struct ge_log_facts *facts;
    uint64_t rows;       /* committed */
    long long restarted; /* step before which the monitors last restarted; -1 */
    uint64_t averaged;   /* rows behind `noise`, up to and with the shown one */
    struct ge_row row;   /* the row shown */
    struct ge_row echo;  /* the last row with echoes up to it; step -1: none */
    double *noise_scale; /* [layers] ratio of averages, examples; signed */
    double *sigma2;      /* [layers] average, [g]^2 */
    double model_scale;  /* the same over all layers, examples; signed */
    bool *shown;         /* [layers] passes --layer */
    bool modes;          /* show each mode of the shown layers */
};

static inline double ge_digest_value(const struct ge_row *row,
                                     enum ge_field field, size_t index)
{
    return row->values[field][index];
}

/* A table for people. `unicode`: the terminal shows block characters. */
void ge_inspect_table(const struct ge_digest *digest, bool unicode, FILE *out);

/* One JSON object; missing numbers are null. The caller looks whether `out`
 * failed. \return GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status
ge_inspect_json(const struct ge_digest *digest, FILE *out);

#endif
