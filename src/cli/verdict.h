/*
 * verdict.h - what a person should not miss in a log, in words, each with the
 * number behind it and the threshold that it crossed.
 *
 * Pure: from a digest to a list, no I/O. A verdict is silent where the data do
 * not carry it: numbers that are missing, one sample where scatter decides, an
 * error bar that reaches over the threshold.
 */
#ifndef GRADECHO_CLI_VERDICT_H
#define GRADECHO_CLI_VERDICT_H

#include "inspect.h"

/* Independent replicas whose noise sits in a few entries look alike by chance:
 * 0.90 was the most in 1,800 draws of one layer, K = 8, with noise scaled by
 * row and column (lognormal, log-sigma 1). Copies have 1. */
#define GE_SAME_DATA 0.9

/* An isotropic law misses the echoes by this much, root mean square. */
#define GE_LAW_OFF 0.2

enum ge_severity {
    GE_NOTE,    /* good to know */
    GE_CAUTION, /* a number or a choice that costs something */
    GE_ALARM    /* the data of the run are not what they should be */
};

struct ge_verdict {
    enum ge_severity severity;
    const char *kind;        /* stable, for scripts */
    double value, threshold; /* the number behind it, and what it crossed */
    const char *layer;       /* the worst one; NULL: of the run as a whole */
    char text[320];
};

enum { GE_VERDICTS_MAX = 16, GE_VERDICTS_SHOWN = 6 };

/* All that apply, the most important first; returns how many. */
size_t ge_verdicts(const struct ge_digest *digest,
                   struct ge_verdict list[GE_VERDICTS_MAX]);

/* "note", "caution", "alarm" */
const char *ge_severity_name(enum ge_severity severity);

#endif
