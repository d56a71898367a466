/*
 * advice.h - what a log says about the next run: batch size, modes to trust,
 * what denoising would save, of a layer or of the whole model.
 *
 * Each piece of advice has an error, or says nothing and why.
 */
#ifndef GRADECHO_CLI_ADVICE_H
#define GRADECHO_CLI_ADVICE_H

#include "inspect.h"
#include "knee.h"

/* Why nothing is said. */
enum ge_silence {
    GE_SAID,
    GE_ONE_REPLICA,
    GE_TWO_REPLICAS,
    GE_COPIES,
    GE_NO_BATCH,
    GE_FEW_SAMPLES,
    GE_NO_GRADIENT,
    GE_NO_ECHO,
    GE_NO_SIGNAL,
    GE_LAW_OFF_HERE,
    GE_SMALL_ECHO,
    GE_UNSURE,
    GE_SILENCES
};

/* Stable name, for scripts; NULL of GE_SAID. And words for people. */
const char *ge_silence_name(enum ge_silence silence);
const char *ge_silence_words(enum ge_silence silence);

struct ge_told {
    double value, se; /* NaN unless said */
    enum ge_silence silence;
};

/* Batches at which modes are counted, over today's. */
enum { GE_ADVICE_SHARES = 3, GE_ADVICE_BATCHES = 5 };
extern const double ge_advice_shares[GE_ADVICE_SHARES];
extern const double ge_advice_batches[GE_ADVICE_BATCHES];

struct ge_advice {
    double batch; /* today's, of all replicas; examples */

    struct ge_told critical; /* batch, examples */
    double low, high;        /* over the blocks of the window */
    double at_least;         /* where there is no bound; else NaN */
    /* Share of a noiseless step's progress that a step of half today's batch,
     * of today's and of twice today's makes. */
    double progress[3];

    size_t measured, signal; /* modes */
    size_t small; /* signal modes whose echo is too small to be carried to
                     another batch: they are in no count below */
    /* At which this share of the signal modes stands above the knee. */
    struct ge_told knee[GE_ADVICE_SHARES];
    double knee_low[GE_ADVICE_SHARES], knee_high[GE_ADVICE_SHARES];
    struct ge_count above[GE_ADVICE_BATCHES]; /* NaN where not told */
    struct ge_told trust; /* modes of today's mean above the knee */

    struct ge_told saving; /* of the mean's squared error, from 0 to 1 */
    double rest;           /* factor for what is no signal mode; one layer */
};

/* Of one layer, or of all with GE_WHOLE_MODEL. \return GRADECHO_E_NOMEM */
#define GE_WHOLE_MODEL ((size_t)-1)
GRADECHO_MUST_CHECK gradecho_status ge_advise(const struct ge_digest *digest,
                                              size_t layer,
                                              struct ge_advice *advice);

/* A section of a few lines about the whole model; or, `by_layer`, a table of
 * the layers shown. */
GRADECHO_MUST_CHECK gradecho_status
ge_advice_print(const struct ge_digest *digest, bool by_layer, FILE *out);

#endif
