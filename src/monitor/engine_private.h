/*
 * engine_private.h - the engine's state, shared by its phases. Not for others.
 */
#ifndef GRADECHO_MONITOR_ENGINE_PRIVATE_H
#define GRADECHO_MONITOR_ENGINE_PRIVATE_H

#include "echo.h"
#include "engine.h"
#include "mean.h"
#include "svd.h"

/* One layer's view of the gathered rows, rank 0. */
struct ge_evidence {
    size_t replicas;             /* K */
    double *deviation;           /* [K] D_a */
    size_t *number;              /* [K] numbers of these replicas */
    struct ge_echo_terms *terms; /* [K x modes] */
};

/* Entries of the mean that are reduced at a time. */
#ifndef GE_ENGINE_PIECE
#define GE_ENGINE_PIECE ((size_t)1 << 20)
#endif

struct ge_engine {
    ge_comm *comm;
    const struct ge_config *config;
    struct ge_source *source;
    const struct ge_layers *layers;
    size_t replicas_max;  /* numbers of replicas are below this */
    size_t replicas_each; /* most at any rank */

    /* This sample. */
    struct ge_sample_facts facts;
    bool *valid;  /* [replicas_each x layers] present and finite */
    double *used; /* [layers + RIDERS] K of each layer; facts, summed */
    gradecho_status trouble; /* the first local failure */
    unsigned warned;         /* non-finite layers told so far in this run */

    /* Reduction. */
    ge_mean *mean;
    bool wide;           /* some rank holds several replicas */
    float *piece;        /* [GE_ENGINE_PIECE] the mean */
    float *staged;       /* [GE_ENGINE_PIECE] a replica's entries */
    double *sums;        /* [GE_ENGINE_PIECE] if wide */
    double *mean_sqnorm; /* [layers] ||Gbar||^2, rank 0 */

    /* Echoes. */
    float *mean_kept;           /* means of the layers with an echo */
    size_t *kept_at;            /* [layers] where in mean_kept */
    int *owner;                 /* [layers] who decomposes the mean */
    struct ge_modes *reference; /* [layers] modes of the mean */
    float *gradient, *others;   /* [largest layer with an echo] */
    ge_svd *svd;

    /* Rows that travel to rank 0: number, D of each layer, then for each mode
     * of each layer with an echo the terms. */
    size_t width, width_noise;
    size_t *terms_at;            /* [layers] in a row */
    double *rows;                /* [replicas_each x width] */
    double *all;                 /* rank 0: [replicas_max x width] */
    size_t arrived;              /* rank 0: rows in `all` */
    struct ge_evidence evidence; /* room for replicas_max */
};

enum { GE_TERM_SIZE = sizeof(struct ge_echo_terms) / sizeof(double) };

/* Facts about the sample that are summed over ranks behind the K of layers. */
enum {
    GE_RIDER_LOSS,
    GE_RIDER_LOSSES,
    GE_RIDER_BATCH,
    GE_RIDER_BATCHES,
    GE_RIDER_TIME,
    GE_RIDER_TIMES,
    GE_RIDER_REPLICAS,
    GE_RIDERS
};

static inline bool ge_engine_valid(const ge_engine *engine, size_t j, size_t l)
{
    return engine->valid[j * engine->layers->count + l];
}

/* Remember a local failure; the collectives go on with what there is. */
void ge_engine_note(ge_engine *engine, gradecho_status status);

/* Entries first .. first + count - 1 of local replica j's layer: where they
 * lie, or converted into `scratch` [count]. After a read failure, zeros. */
const float *ge_engine_entries(ge_engine *engine, size_t j, size_t layer,
                               size_t first, size_t count, float *scratch);

/* Phase 1. With `keep`, also keep the means of layers with an echo. */
GRADECHO_MUST_CHECK gradecho_status ge_engine_reduce(ge_engine *engine,
                                                     bool keep);
/* Phase 2. */
GRADECHO_MUST_CHECK gradecho_status ge_engine_decompose(ge_engine *engine);

/* Phase 4, rank 0. */
void ge_engine_record(ge_engine *engine, bool echo, struct ge_row *row);

#endif
