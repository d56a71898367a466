/*
 * Phase 1: which replicas count, the mean, and each replica's distance to it.
 * Pieces of the gradient follow each other through the mean (mean.h): while one
 * is on the network, another is read and a third is accounted for.
 */
#include <math.h>
#include <string.h>

#include "engine_private.h"
#include "memory.h"
#include "moments.h"
#include "try.h"

/* A piece of the flat vector of all layers: runs of single layers. */
struct run {
    size_t layer, first, count;
};
enum { RUNS_MAX = 256 };

struct piece {
    struct run run[RUNS_MAX];
    struct ge_mean_span span[RUNS_MAX];
    size_t runs, count;
};

enum { WARNINGS_MAX = 10 };

static void warn_not_finite(ge_engine *engine, size_t j, size_t l)
{
    const struct ge_source *source = engine->source;
    const size_t number = source->ops->number(source, j);

    if (engine->warned >= WARNINGS_MAX)
        return;
    engine->warned++;
    ge_warn("step %lld: layer %s of replica %zu (rank %zu) is not finite; the "
            "layer is measured without it%s",
            (long long)engine->facts.step, engine->layers->item[l].name, number,
            number / (engine->replicas_max / source->facts.world),
            engine->warned == WARNINGS_MAX
                ? " (not told again; layer_replicas in the log has it)"
                : "");
}

static bool all_finite(ge_engine *engine, size_t j, size_t l)
{
    const size_t entries = engine->layers->item[l].entries;

    for (size_t first = 0; first < entries; first += GE_ENGINE_READ) {
        const size_t n = ge_min_size(entries - first, GE_ENGINE_READ);

        if (!ge_all_finite(
                ge_engine_entries(engine, j, l, first, n, engine->staged), n))
            return false;
    }
    return true;
}

/* Decide which replicas count in which layer: those that are there and, where
 * `looked` for, finite. Learn every layer's K, what is told of the sample, and
 * the places of the local replicas in it. */
static gradecho_status count_replicas(ge_engine *engine, bool looked)
{
    gradecho_status status = GRADECHO_OK;
    const size_t count = engine->layers->count;
    const struct ge_sample_facts *facts = &engine->facts;
    const size_t size = (size_t)ge_comm_size(engine->comm);
    double *rider = engine->used + count, *replicas = rider + GE_RIDERS;

    memset(engine->used, 0, (count + GE_RIDERS + size) * sizeof(double));
    for (size_t j = 0; j < facts->replicas; j++) {
        for (size_t l = 0; l < count; l++) {
            bool *valid = &engine->valid[j * count + l];

            *valid = engine->source->ops->present(engine->source, j, l);
            if (*valid && looked && !all_finite(engine, j, l)) {
                *valid = false;
                warn_not_finite(engine, j, l);
            }
            engine->used[l] += *valid ? 1.0 : 0.0;
        }
    }
    rider[GE_RIDER_LOSS] = facts->loss;
    rider[GE_RIDER_LOSSES] = facts->losses;
    rider[GE_RIDER_BATCH] = facts->batch_size;
    rider[GE_RIDER_BATCHES] = facts->batch_sizes;
    rider[GE_RIDER_TIME] = facts->time;
    rider[GE_RIDER_TIMES] = facts->times;
    ge_engine_handed_claim(engine, rider);
    replicas[ge_comm_rank(engine->comm)] = (double)facts->replicas;
    GE_TRY(ge_comm_sum(engine->comm, engine->used, count + GE_RIDERS + size));
    engine->present = 0;
    for (size_t r = 0; r < size; r++) {
        if (r == (size_t)ge_comm_rank(engine->comm))
            engine->first_index = engine->present;
        engine->present += (size_t)replicas[r];
    }
fail:
    return status;
}

/* Cut the next piece, from entry *first of layer *layer on. */
static void cut(const ge_engine *engine, size_t *layer, size_t *first,
                struct piece *piece)
{
    piece->runs = 0;
    piece->count = 0;
    while (*layer < engine->layers->count && piece->runs < RUNS_MAX) {
        const size_t left = engine->layers->item[*layer].entries - *first;
        const size_t room = engine->piece - piece->count;
        const size_t n =
            left <= room ? left : room / GE_ENGINE_BLOCK * GE_ENGINE_BLOCK;

        if (n == 0)
            break;
        piece->run[piece->runs] = (struct run){*layer, *first, n};
        piece->span[piece->runs] =
            (struct ge_mean_span){n, engine->used[*layer]};
        piece->runs++;
        piece->count += n;
        *first += n;
        if (n == left) {
            (*layer)++;
            *first = 0;
        }
    }
}

/* Entries as they are, in a copy. MPI may read what it is given from other
 * processes or by hardware, where a page that a trainer takes away is a failure
 * of MPI. */
static void copy_entries(ge_engine *engine, size_t j, const struct run *run,
                         float *out)
{
    const float *from =
        ge_engine_entries(engine, j, run->layer, run->first, run->count, out);

    if (from != out)
        memcpy(out, from, run->count * sizeof *out);
}

/* This rank's one replica of the piece; zeros where it has none. */
static void gather_one(ge_engine *engine, const struct piece *piece, float *at)
{
    for (size_t i = 0; i < piece->runs; i++) {
        const struct run *run = &piece->run[i];

        if (engine->facts.replicas > 0 &&
            ge_engine_valid(engine, 0, run->layer))
            copy_entries(engine, 0, run, at);
        else
            memset(at, 0, run->count * sizeof *at);
        at += run->count;
    }
}

static void sum_run(ge_engine *engine, const struct run *run, double *at)
{
    for (size_t j = 0; j < engine->facts.replicas; j++) {
        if (!ge_engine_valid(engine, j, run->layer))
            continue;
        for (size_t done = 0; done < run->count; done += GE_ENGINE_READ) {
            const size_t n = ge_min_size(run->count - done, GE_ENGINE_READ);
            const float *g = ge_engine_entries(
                engine, j, run->layer, run->first + done, n, engine->staged);

            for (size_t e = 0; e < n; e++)
                at[done + e] += (double)g[e];
        }
    }
}

/* The sum of this rank's replicas. */
static void sum_all(ge_engine *engine, const struct piece *piece, double *at)
{
    memset(at, 0, piece->count * sizeof *at);
    for (size_t i = 0; i < piece->runs; i++) {
        sum_run(engine, &piece->run[i], at);
        at += piece->run[i].count;
    }
}

/* What a run says of one local replica; the mean's squares go to *square. */
static void account_replica(ge_engine *engine, size_t j, const struct run *run,
                            const float *g, const float *mean, double *square)
{
    const size_t l = run->layer;
    double *row = engine->rows + j * engine->width;
    double *deviation = row + GE_ROW_LAYERS + l;
    double *projection = row + ge_row_projection(engine) + l;

    if (run->first == 0) /* NaN so far: not measured */
        *deviation = *projection = 0.0;
    for (size_t done = 0; done < run->count; done += GE_ENGINE_BLOCK) {
        const size_t n = ge_min_size(run->count - done, GE_ENGINE_BLOCK);
        const struct ge_moments more =
            ge_moments_about(g + done, mean + done, n);

        *deviation += more.deviation;
        *projection += more.projection;
        *square += more.square;
        ge_sketch_add(g + done, mean + done, run->first + done, n,
                      engine->layers->item[l].entries,
                      engine->layer_sketch + j * GE_SKETCH_SIZE);
    }
}

/* Add a run of at most GE_ENGINE_READ entries to what is known of its layer.
 * `mine` is what this rank sent, if that was one replica. */
static void account_run(ge_engine *engine, const struct run *run,
                        const float *mine, const float *mean)
{
    double *square = &engine->mean_sqnorm[run->layer], unused = 0.0;
    bool known = false;

    for (size_t j = 0; j < engine->facts.replicas; j++) {
        if (!ge_engine_valid(engine, j, run->layer))
            continue;
        const float *g =
            mine != NULL ? mine
                         : ge_engine_entries(engine, j, run->layer, run->first,
                                             run->count, engine->staged);

        account_replica(engine, j, run, g, mean, known ? &unused : square);
        known = true;
    }
    for (size_t done = 0; !known && done < run->count; done += GE_ENGINE_BLOCK)
        *square += ge_sum_squares(
            mean + done, ge_min_size(run->count - done, GE_ENGINE_BLOCK));
}

/* A layer is complete: its sketch goes into the replicas' sketches of the whole
 * model, in units of the mean's norm, which all ranks know and which keeps one
 * loud layer from drowning the others. */
static void close_layer(ge_engine *engine, size_t l)
{
    const double norm = sqrt(engine->mean_sqnorm[l]);

    for (size_t j = 0; j < engine->facts.replicas; j++) {
        double *part = engine->layer_sketch + j * GE_SKETCH_SIZE;
        double *whole =
            engine->rows + j * engine->width + ge_row_sketch(engine);

        for (size_t i = 0; i < GE_SKETCH_SIZE; i++) {
            if (isnan(whole[i]))
                whole[i] = 0.0;
            if (norm > 0.0) /* false for NaN, too */
                whole[i] += part[i] / norm;
            part[i] = 0.0;
        }
    }
}

/* A piece has its mean, which is kept where it will be decomposed. */
static void account(ge_engine *engine, const struct piece *piece,
                    const struct ge_mean_piece *at)
{
    const float *mean = at->mean, *mine = at->mine;

    for (size_t i = 0; i < piece->runs; i++) {
        const struct run *run = &piece->run[i];
        const struct ge_layer *layer = &engine->layers->item[run->layer];

        for (size_t done = 0; done < run->count; done += GE_ENGINE_READ) {
            const struct run part = {
                run->layer, run->first + done,
                ge_min_size(run->count - done, GE_ENGINE_READ)};

            account_run(engine, &part, mine != NULL ? mine + done : NULL,
                        mean + done);
        }
        if (run->first + run->count == layer->entries)
            close_layer(engine, run->layer);
        if (ge_engine_has_turn(engine, run->layer))
            memcpy(engine->mean_kept + engine->kept_at[run->layer] + run->first,
                   mean, run->count * sizeof *mean);
        mean += run->count;
        mine = mine != NULL ? mine + run->count : NULL;
    }
}

/* The mean by way of the network. */
static gradecho_status reduce_pieces(ge_engine *engine)
{
    gradecho_status status = GRADECHO_OK;
    struct piece piece[GE_MEAN_DEPTH];
    size_t layer = 0, first = 0, started = 0, finished = 0;

    while (layer < engine->layers->count || started > finished) {
        if (layer < engine->layers->count &&
            started - finished < GE_MEAN_DEPTH) {
            struct piece *next = &piece[started++ % GE_MEAN_DEPTH];

            cut(engine, &layer, &first, next);
            if (engine->wide)
                sum_all(engine, next, ge_mean_room(engine->mean));
            else
                gather_one(engine, next, ge_mean_room(engine->mean));
            GE_TRY(ge_mean_start(engine->mean, next->count, next->span));
        } else {
            struct ge_mean_piece done;

            GE_TRY(ge_mean_finish(engine->mean, &done));
            account(engine, &piece[finished++ % GE_MEAN_DEPTH], &done);
        }
    }
fail:
    return status;
}

/* The mean that was handed over here. */
static void account_handed(ge_engine *engine)
{
    struct ge_source *source = engine->source;
    const struct ge_mean_piece at = {.mean = engine->handed};
    struct piece piece = {.runs = 1};

    for (size_t l = 0; l < engine->layers->count; l++) {
        const size_t entries = engine->layers->item[l].entries;

        for (size_t first = 0; first < entries; first += GE_ENGINE_READ) {
            const size_t n = ge_min_size(entries - first, GE_ENGINE_READ);

            piece.run[0] = (struct run){l, first, n};
            ge_engine_note(engine, source->ops->read_mean(source, l, first, n,
                                                          engine->handed));
            account(engine, &piece, &at);
        }
    }
}

/* Forget what was accounted for in this sample. */
static void clear(ge_engine *engine)
{
    memset(engine->mean_sqnorm, 0,
           engine->layers->count * sizeof *engine->mean_sqnorm);
    memset(engine->layer_sketch, 0,
           engine->replicas_each * GE_SKETCH_SIZE *
               sizeof *engine->layer_sketch);
    for (size_t j = 0; j < engine->replicas_each; j++)
        for (size_t i = GE_ROW_LAYERS; i < engine->turn_width[engine->turns];
             i++)
            engine->rows[j * engine->width + i] = (double)NAN;
}

/* A number that is not finite, of any rank, reaches the mean of its layer on
 * all: nobody need look for one beforehand. */
static bool means_are_finite(const ge_engine *engine)
{
    for (size_t l = 0; l < engine->layers->count; l++)
        if (engine->used[l] > 0.0 && !isfinite(engine->mean_sqnorm[l]))
            return false;
    return true;
}

gradecho_status ge_engine_reduce(ge_engine *engine)
{
    gradecho_status status = GRADECHO_OK;
    bool good = false;

    clear(engine);
    GE_TRY(count_replicas(engine, false));
    if (engine->config->reduce_mean == GE_MEAN_HANDOFF &&
        ge_engine_handed_fits(engine)) {
        account_handed(engine);
        GE_TRY(ge_engine_handed_check(engine, &good));
        if (good)
            return GRADECHO_OK;
        clear(engine);
    }
    GE_TRY(reduce_pieces(engine));
    if (means_are_finite(engine))
        return GRADECHO_OK;
    clear(engine);
    GE_TRY(count_replicas(engine, true));
    GE_TRY(reduce_pieces(engine));
    if (!means_are_finite(engine)) /* they were, when they were looked at */
        engine->spoiled = true;
fail:
    return status;
}
