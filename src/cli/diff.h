/*
 * diff.h - two runs, layer by layer, number by number, with errors.
 *
 * Each number is an average over a window of samples of one run, its error the
 * jackknife over blocks of neighbouring samples (blocks.h). Runs are taken as
 * independent; their samples are not paired.
 */
#ifndef GRADECHO_CLI_DIFF_H
#define GRADECHO_CLI_DIFF_H

#include <stdio.h>

#include "blocks.h"
#include "reader.h"

enum { GE_DIFF_ECHOES = 3 }; /* leading modes */

enum ge_diff_what {
    GE_DIFF_SIGMA2,
    GE_DIFF_NOISE_SCALE,
    GE_DIFF_TAU2,
    GE_DIFF_SIGNAL,
    GE_DIFF_ECHO,
    GE_DIFF_NUMBERS = GE_DIFF_ECHO + GE_DIFF_ECHOES
};

struct ge_diff_info {
    const char *name, *units;
};
extern const struct ge_diff_info ge_diff_numbers[GE_DIFF_NUMBERS];

struct ge_diff_question {
    const char *path[2], *layer; /* a glob; NULL: every layer */
    long long since;             /* from this step on; -1: all samples */
};

/* One run, boiled down. */
struct ge_diff_run {
    const char *path;
    const struct ge_log_facts *facts;
    uint64_t samples;
    int64_t first, last;      /* steps */
    double batch[2];          /* least and most examples behind a replica */
    double replicas[2];       /* least and most in a sample */
    struct ge_blocks *blocks; /* [layers x GE_DIFF_NUMBERS] */
    struct ge_blocks model;   /* noise scale of the layers that both have */
};

struct ge_diff_item {
    const char *layer; /* NULL: the whole model */
    enum ge_diff_what what;
    struct ge_average run[2];
    double z; /* second less first, in standard errors: the normal deviate */
};

/* A key of the configurations, or a fact, of which the runs differ. */
struct ge_diff_setting {
    char *name, *value[2]; /* value NULL: not there */
};

struct ge_diff {
    struct ge_diff_run run[2];
    struct ge_diff_item *items; /* the most significant first */
    size_t count;               /* of items with a z */
    size_t beyond;              /* of them by more than 2 */
    size_t hold;                /* of them beyond `strict` */
    double strict; /* |z| that 5 % of so many comparisons exceed by chance */
    size_t *only[2], only_count[2]; /* layers that the other has not, or has of
                                       another shape */
    struct ge_diff_setting *settings;
    size_t setting_count;
};

/* On failure, too, release with ge_diff_fini(). The readers are borrowed until
 * then. \return GRADECHO_E_INPUT  no sample, or no layer in both */
GRADECHO_MUST_CHECK gradecho_status
ge_diff_load(ge_log_reader *readers[2], const struct ge_diff_question *question,
             struct ge_diff *diff);
void ge_diff_fini(struct ge_diff *diff);

/* Find the settings that differ; part of ge_diff_load(). */
GRADECHO_MUST_CHECK gradecho_status ge_diff_settings(struct ge_diff *diff);

/* The differences beyond 2 standard errors, or all. */
void ge_diff_print(const struct ge_diff *diff, bool all, FILE *out);

/* One object; docs/inspect-json.md. \return GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status ge_diff_json(const struct ge_diff *diff,
                                                 FILE *out);

#endif
