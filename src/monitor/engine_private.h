/*
 * engine_private.h - the engine's state, shared by its phases. Not for others.
 */
#ifndef GRADECHO_MONITOR_ENGINE_PRIVATE_H
#define GRADECHO_MONITOR_ENGINE_PRIVATE_H

#include "echo.h"
#include "engine.h"
#include "fit.h"
#include "mean.h"
#include "noise.h"
#include "significance.h"
#include "sketch.h"
#include "svd.h"

/* What one replica says of one mode, as it travels. */
struct ge_mode_report {
    struct ge_echo_terms terms;
    double leak_left, leak_right, along2; /* of its residual R, see
                                             ge_modes_leak(); (u' R v)^2 */
    struct ge_cross cross; /* its modes on the partners' gradients */
};
enum { GE_REPORT_SIZE = sizeof(struct ge_mode_report) / sizeof(double) };

/* One layer's view of the gathered rows, rank 0. */
struct ge_evidence {
    size_t replicas;               /* K */
    double *deviation;             /* [K] D_a */
    double *projection;            /* [K] P_a */
    const double **row;            /* [K] their rows */
    struct ge_mode_report *report; /* [K x modes] */
    struct ge_echo_terms *terms;   /* [K x modes], the same */
    struct ge_cross *cross;        /* [K x modes], the same */
    double *overlaps;              /* [K x K] of one mode, for reverb */
    struct ge_fit_point *points;   /* [modes] */
};

/* The noise of the whole model: sums over the layers whose noise is known. */
struct ge_model {
    struct ge_noise_sums whole;
    size_t layers;
    struct ge_model_change {
        struct ge_noise_sums by;
        size_t layers; /* that the replica is in */
    } * change;        /* [rows] when a replica, by its row, is left out */
    struct ge_noise_average average;
};

/* Entries of the mean that are reduced at a time: for each rank a share that
 * makes a message worth sending, within these bounds. Small enough that what is
 * under way (mean.h) stays in the cache between its stages. */
#define GE_ENGINE_SHARE ((size_t)1 << 14)
#define GE_ENGINE_PIECE_LEAST ((size_t)1 << 16)
#define GE_ENGINE_PIECE_MOST ((size_t)1 << 22)

/* Entries of a layer whose sums are taken at a time: their numbers stay in the
 * cache, and a layer's sums do not depend on how it was cut into pieces, which
 * is done at multiples of this. */
#define GE_ENGINE_BLOCK ((size_t)1 << 14)

/* Entries that are read at a time from where they cannot be used in place. */
#define GE_ENGINE_READ ((size_t)1 << 18)

/* Layers of up to so many entries are copied in any model. */
#ifndef GE_ENGINE_COPIED
#define GE_ENGINE_COPIED ((size_t)1 << 18)
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
    bool *valid;        /* [replicas_each x layers] present and finite */
    double *used;       /* [layers + GE_RIDERS + size] K of each layer, facts
                           about the sample, replicas of each rank: summed */
    size_t first_index; /* place of local replica 0 in the sample */
    size_t present;     /* replicas in the sample, over all ranks */
    gradecho_status trouble; /* the first local failure */
    bool spoiled;            /* data here changed while they were read */
    unsigned warned;         /* non-finite layers told so far in this run */

    /* Reduction. */
    ge_mean *mean;
    bool wide;           /* some rank holds several replicas */
    size_t piece;        /* entries reduced at a time */
    float *staged;       /* [GE_ENGINE_READ] a replica's entries */
    double *mean_sqnorm; /* [layers] ||Gbar||^2 */

    /* A mean that is handed over (reduce.mean). */
    float *handed; /* [GE_ENGINE_READ] of it */
    double
        *evidence_of_mean; /* [ge_engine_handed_size()] see engine_handed.c */
    bool mean_told;        /* that it is not used */

    /* Echoes. */
    size_t turns;     /* echo samples until every layer had its turn */
    size_t turn;      /* whose turn it is; turns: nobody's, noise alone */
    size_t *turn_of;  /* [layers] */
    float *mean_kept; /* means of the layers whose turn it is */
    size_t *kept_at;  /* [layers] where in mean_kept */
    int *owner;       /* [layers] who decomposes the mean */
    struct ge_modes *reference; /* [layers] modes of the mean */
    size_t copied;   /* entries up to which a replica's layer is copied */
    float *gradient; /* [copied] a copy: */
    size_t copy_of_replica, copy_of_layer; /* layers->count: none */
    float *others; /* [largest layer with an echo] if wide; else the mean of
                      the others takes the mean's place */
    ge_svd *svd;

    /* Exchange of modes between partners. */
    size_t partners; /* most gradients that one replica's modes are tried on */
    bool reverb;     /* exchange all pairs, and send overlaps */
    float *own, *theirs; /* [replicas_each x block] modes of one layer, each
                            behind GE_BLOCK_HEAD floats */
    float *answer, *answered; /* [replicas_each x replicas_each x reply] */
    float *cross;             /* [replicas_each x partners x modes] */

    /* Rows that travel to rank 0: see GE_ROW_*. */
    size_t width;       /* room for the widest */
    size_t *turn_width; /* [turns + 1] of what travels; the last: noise alone */
    size_t *report_at;  /* [layers] in a row: [modes] reports */
    size_t *overlap_at; /* [layers] in a row: [modes x replicas_max], reverb */
    double *rows;       /* [replicas_each x width]; number NaN: no replica */
    double *all;        /* rank 0: [size x replicas_each x width] */
    struct ge_evidence evidence;      /* rank 0: room for all rows */
    struct ge_noise_average *average; /* rank 0: [layers] */
    struct ge_model model;            /* rank 0 */
    double *layer_sketch; /* [replicas_each x GE_SKETCH_SIZE] current layer */
};

/* A row: number of the replica, its place among those of the sample, then D
 * and P of each layer, then the sketch; on echo samples, the reports of each
 * layer whose turn it is, and overlaps. */
enum { GE_ROW_NUMBER, GE_ROW_INDEX, GE_ROW_LAYERS };

static inline size_t ge_row_projection(const struct ge_engine *engine)
{
    return GE_ROW_LAYERS + engine->layers->count;
}

static inline size_t ge_row_sketch(const struct ge_engine *engine)
{
    return GE_ROW_LAYERS + 2 * engine->layers->count;
}

/* Of what travels in this sample. */
static inline size_t ge_row_width(const struct ge_engine *engine)
{
    return engine->turn_width[engine->turn];
}

/* This layer's modes are measured in this sample. */
static inline bool ge_engine_has_turn(const struct ge_engine *engine, size_t l)
{
    return engine->layers->item[l].modes > 0 &&
           engine->turn_of[l] == engine->turn;
}

static inline size_t ge_rows_arrived(const struct ge_engine *engine)
{
    return (size_t)ge_comm_size(engine->comm) * engine->replicas_each;
}

/* Head of a block of modes: the replica's place in the sample, NaN for no
 * replica. A whole line, so that the modes behind it stay aligned. */
enum { GE_BLOCK_HEAD = 16 };

/* Facts about the sample that are summed over ranks behind the K of layers. */
enum {
    GE_RIDER_LOSS,
    GE_RIDER_LOSSES,
    GE_RIDER_BATCH,
    GE_RIDER_BATCHES,
    GE_RIDER_TIME,
    GE_RIDER_TIMES,
    GE_RIDER_MEANS,   /* monitors with a mean that was handed over */
    GE_RIDER_MEAN_OF, /* replicas that it is said to be of */
    GE_RIDER_MEAN_OF_SQUARED,
    GE_RIDER_MEAN_UNIT, /* its unit roundoff */
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

/* The same, always copied into `out` and finite: numbers that were finite when
 * the replicas were counted and are not any more become zeros and spoil the
 * sample. For what leaves this rank, and for LAPACK. */
void ge_engine_snapshot(ge_engine *engine, size_t j, size_t layer, size_t first,
                        size_t count, float *out);

/* Allocate and fill what follows from the layers alone: turns, owners, places
 * of kept means and of reports in a row. The same on all ranks. */
GRADECHO_MUST_CHECK gradecho_status ge_engine_plan(ge_engine *engine);

/* Local replica j's layer as a matrix of finite numbers, from a copy or, where
 * that would take too much memory, panel by panel. */
struct ge_replica {
    ge_engine *engine;
    size_t replica, layer;
    struct ge_matrix matrix; /* its context is this struct: it must not move */
};
void ge_engine_show(ge_engine *engine, size_t j, size_t layer,
                    struct ge_replica *replica);

/* Its entries first .. first + count - 1, where the copy is or in `out`. */
const float *ge_replica_entries(const struct ge_replica *replica, size_t first,
                                size_t count, float *out);

/* Phase 1. The means of layers whose turn it is are kept. */
GRADECHO_MUST_CHECK gradecho_status ge_engine_reduce(ge_engine *engine);

/* Parts of phase 1, where trainers hand the mean over: what this rank can say
 * of it; whether all have one of just the replicas that count; and, after the
 * replicas were accounted for against it, whether it is their mean. The same
 * answers on all ranks; the last two tell, once, why it is not used. */
size_t ge_engine_handed_size(const ge_engine *engine);
void ge_engine_handed_claim(const ge_engine *engine, double *rider);
GRADECHO_MUST_CHECK bool ge_engine_handed_fits(ge_engine *engine);
GRADECHO_MUST_CHECK gradecho_status ge_engine_handed_check(ge_engine *engine,
                                                           bool *good);

/* Phase 2. */
GRADECHO_MUST_CHECK gradecho_status ge_engine_decompose(ge_engine *engine);

/* Part of phase 2: try each local replica's modes of one layer, which lie in
 * engine->own, on its partners' gradients; fill the rows. */
GRADECHO_MUST_CHECK gradecho_status ge_engine_exchange(ge_engine *engine,
                                                       size_t layer);

/* Floats of one replica's block of modes of a layer. */
static inline size_t ge_engine_block(const ge_engine *engine, size_t layer)
{
    return GE_BLOCK_HEAD + ge_modes_floats(&engine->reference[layer]);
}

/* Floats about one block of modes and one gradient: place of the gradient's
 * replica, projections, for reverb overlaps. */
static inline size_t ge_engine_reply(const ge_engine *engine, size_t modes)
{
    return 1 + modes * (engine->reverb ? 2 : 1);
}

/* Phase 4, rank 0. */
void ge_engine_record(ge_engine *engine, struct ge_row *row);

/* Parts of phase 4 about the whole. The model is cleared, then added to for
 * each layer while the evidence is about that layer, then recorded; the
 * correlation comes last: it uses the gathered rows up. */
void ge_engine_record_facts(const ge_engine *engine, struct ge_row *row);
void ge_engine_model_clear(ge_engine *engine);
void ge_engine_model_add(ge_engine *engine, const struct ge_noise_input *in,
                         const struct ge_noise *noise);
void ge_engine_record_model(ge_engine *engine, struct ge_row *row);
void ge_engine_record_correlation(ge_engine *engine, struct ge_row *row);

#endif
