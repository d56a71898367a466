/*
 * inspect.h - what `gradecho inspect` shows, loaded once, printed in two ways.
 */
#ifndef GRADECHO_CLI_INSPECT_H
#define GRADECHO_CLI_INSPECT_H

#include <math.h>
#include <stdio.h>

#include "alarm_history.h"
#include "blocks.h"
#include "reader.h"
#include "significance.h"
#include "spread.h"

/* Which part of a log is asked for. */
struct ge_question {
    const char *path, *layer; /* a glob; NULL: every layer */
    long long step;           /* the sample to show; -1: the last */
    long long since;          /* averages and verdicts from this step; -1 */
};

/* A log boiled down for showing. */
struct ge_digest {
    const char *path;
    const struct ge_log_facts *facts;
    uint64_t rows;       /* committed */
    long long restarted; /* step before which the monitors last restarted; -1 */
    uint64_t averaged;  /* rows behind averages, up to and with the shown one */
    struct ge_row row;  /* the row shown */
    struct ge_row echo; /* the last row with echoes up to it; step -1: none. A
                           layer without, from the last row where it has some */
    long long *echo_step;    /* [layers] that row's; -1: none */
    double *noise_scale;     /* [layers] ratio of averages, examples; signed */
    double *sigma2;          /* [layers] average, [g]^2 */
    double model_scale;      /* the same over all layers, examples; signed */
    struct ge_spread *noise; /* [layers] trace and squared norm over rows */
    struct ge_spread model;  /* the same of their sums over layers */
    /* batch size x trace and squared norm, for errors over the window */
    struct ge_blocks *blocks, model_blocks; /* [layers]; of the sums */
    struct ge_spread
        *replica;         /* [layers x replicas] replica_noise, last rows */
    long long same_since; /* step since which one pair is correlated; -1 */
    struct ge_alarm_history alarms;
    bool *shown; /* [layers] passes --layer */
    bool modes;  /* show each mode of the shown layers */
    bool advice; /* show advice layer by layer */
};

static inline double ge_digest_value(const struct ge_row *row,
                                     enum ge_field field, size_t index)
{
    return row->values[field][index];
}

/* How many modes of a layer were measured. */
static inline size_t ge_row_modes(const struct ge_row *row, size_t layer)
{
    const double *seen = row->values[GE_S_MEAN] + layer * row->dims.modes;
    size_t modes = 0;

    while (modes < row->dims.modes && !isnan(seen[modes]))
        modes++;
    return modes;
}

/* Does a mode count into signal_modes? `place` is its place in the row's mode
 * fields, `modes` how many its layer has. */
static inline bool ge_row_is_signal(const struct ge_row *row, size_t modes,
                                    size_t place)
{
    return row->values[GE_MODE_T][place] > ge_mode_t_threshold(modes) &&
           row->values[GE_ECHO][place] > 0.0;
}

/* Load it; on failure, too, release with ge_digest_fini().
 * \return GRADECHO_E_INPUT  no sample, no such step, no such layer */
GRADECHO_MUST_CHECK gradecho_status
ge_digest_load(ge_log_reader *reader, const struct ge_question *question,
               struct ge_digest *digest);
void ge_digest_fini(struct ge_digest *digest);

/* Part of it: the last echoes of each layer in rows first .. index. */
GRADECHO_MUST_CHECK gradecho_status
ge_digest_find_echoes(ge_log_reader *reader, uint64_t first, uint64_t index,
                      struct ge_digest *digest);

/* A number in six columns; "-" if it is not known. Returns `text`. */
const char *ge_show_number(double value, char *text, size_t size);

/* A noise scale; where the squared gradient is not above its error the scale
 * has no upper bound, and its sign says no more than that. Returns `text`. */
const char *ge_show_scale(double value, char *text, size_t size);

/* A table for people. `unicode`: the terminal shows block characters.
 * \return GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status
ge_inspect_table(const struct ge_digest *digest, bool unicode, FILE *out);

/* One JSON object; missing numbers are null. The caller looks whether `out`
 * failed. \return GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status
ge_inspect_json(const struct ge_digest *digest, FILE *out);

#endif
