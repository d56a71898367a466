#include "engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine_private.h"
#include "memory.h"
#include "try.h"

void ge_engine_note(ge_engine *engine, gradecho_status status)
{
    if (status == GRADECHO_E_NUMERIC)
        return; /* told; the numbers it would have given stay missing */
    if (status < GRADECHO_OK && engine->trouble >= GRADECHO_OK)
        engine->trouble = status;
}

const float *ge_engine_entries(ge_engine *engine, size_t j, size_t layer,
                               size_t first, size_t count, float *scratch)
{
    struct ge_source *source = engine->source;
    const float *whole = source->ops->direct(source, j, layer);
    gradecho_status status = GRADECHO_OK;

    if (whole != NULL)
        return whole + first;
    status = source->ops->read(source, j, layer, first, count, scratch);
    if (status < GRADECHO_OK) {
        memset(scratch, 0, count * sizeof *scratch);
        ge_engine_note(engine, status);
    }
    return scratch;
}

/* Give each layer's decomposition to a rank: the dearest first, each to the
 * rank that has least to do so far. The same on all ranks. */
static gradecho_status place(ge_engine *engine)
{
    gradecho_status status = GRADECHO_OK;
    const size_t count = engine->layers->count;
    const size_t size = (size_t)ge_comm_size(engine->comm);
    double *load = ge_alloc(size, sizeof *load);
    bool *placed = ge_alloc(count, sizeof *placed);

    GE_FAIL_IF(load == NULL || placed == NULL, GRADECHO_E_NOMEM,
               "no memory to place %zu layers", count);
    if (engine->config->svd_placement == GE_PLACEMENT_ROOT)
        goto fail; /* all at rank 0 */
    for (;;) {
        size_t dearest = count, idle = 0;
        double most = -1.0;

        for (size_t l = 0; l < count; l++) {
            const struct ge_layer *layer = &engine->layers->item[l];
            const double cost =
                (double)layer->entries *
                (double)ge_min_size((size_t)layer->rows, (size_t)layer->cols);

            if (layer->modes > 0 && !placed[l] && cost > most) {
                most = cost;
                dearest = l;
            }
        }
        if (dearest == count)
            break;
        for (size_t r = 1; r < size; r++)
            idle = load[r] < load[idle] ? r : idle;
        engine->owner[dearest] = (int)idle;
        load[idle] += most;
        placed[dearest] = true;
    }
fail:
    free(load);
    free(placed);
    return status;
}

/* Where everything goes: kept means, terms in a row, reference modes. */
static gradecho_status lay_out(ge_engine *engine)
{
    gradecho_status status = GRADECHO_OK;
    const size_t count = engine->layers->count;
    size_t kept = 0;

    engine->kept_at = ge_alloc(count, sizeof *engine->kept_at);
    engine->terms_at = ge_alloc(count, sizeof *engine->terms_at);
    engine->owner = ge_alloc(count, sizeof *engine->owner);
    engine->reference = ge_alloc(count, sizeof *engine->reference);
    GE_FAIL_IF(engine->kept_at == NULL || engine->terms_at == NULL ||
                   engine->owner == NULL || engine->reference == NULL,
               GRADECHO_E_NOMEM, "no memory for %zu layers", count);
    engine->width_noise = 1 + count;
    engine->width = engine->width_noise;
    for (size_t l = 0; l < count; l++) {
        const struct ge_layer *layer = &engine->layers->item[l];

        if (layer->modes == 0)
            continue;
        engine->kept_at[l] = kept;
        /* Every mean begins aligned: see GE_ALIGNMENT. */
        kept += (layer->entries + 15) / 16 * 16;
        engine->terms_at[l] = engine->width;
        engine->width += layer->modes * GE_TERM_SIZE;
        GE_TRY(ge_modes_init(&engine->reference[l], (size_t)layer->rows,
                             (size_t)layer->cols, layer->modes));
    }
    engine->mean_kept = ge_alloc_aligned(kept, sizeof(float));
    GE_FAIL_IF(engine->mean_kept == NULL, GRADECHO_E_NOMEM,
               "no memory for the mean of the layers with an echo (%zu "
               "entries): take layers out by layers.exclude",
               kept);
fail:
    return status;
}

static gradecho_status allocate(ge_engine *engine)
{
    gradecho_status status = GRADECHO_OK;
    const size_t count = engine->layers->count;
    const size_t largest = ge_layers_largest(engine->layers, true);
    const size_t rows_all =
        ge_comm_rank(engine->comm) == 0
            ? (size_t)ge_comm_size(engine->comm) * engine->replicas_each
            : 0;

    engine->valid =
        ge_alloc(engine->replicas_each * count, sizeof *engine->valid);
    engine->used = ge_alloc(count + GE_RIDERS, sizeof *engine->used);
    engine->piece = ge_alloc_aligned(GE_ENGINE_PIECE, sizeof(float));
    engine->staged = ge_alloc_aligned(GE_ENGINE_PIECE, sizeof(float));
    engine->sums =
        ge_alloc_aligned(engine->wide ? GE_ENGINE_PIECE : 0, sizeof(double));
    engine->mean_sqnorm = ge_alloc(count, sizeof *engine->mean_sqnorm);
    engine->gradient = ge_alloc_aligned(largest, sizeof(float));
    engine->others = ge_alloc_aligned(largest, sizeof(float));
    GE_TRY(lay_out(engine));
    engine->evidence.deviation = ge_alloc(rows_all, sizeof(double));
    engine->evidence.number = ge_alloc(rows_all, sizeof(size_t));
    engine->evidence.terms =
        ge_alloc(rows_all * (size_t)engine->config->layers_max_modes,
                 sizeof(struct ge_echo_terms));
    engine->rows =
        ge_alloc(engine->replicas_each * engine->width, sizeof(double));
    engine->all = ge_alloc(rows_all * engine->width, sizeof(double));
    GE_FAIL_IF(engine->valid == NULL || engine->used == NULL ||
                   engine->piece == NULL || engine->staged == NULL ||
                   engine->sums == NULL || engine->mean_sqnorm == NULL ||
                   engine->gradient == NULL || engine->others == NULL ||
                   engine->rows == NULL || engine->all == NULL ||
                   engine->evidence.deviation == NULL ||
                   engine->evidence.number == NULL ||
                   engine->evidence.terms == NULL,
               GRADECHO_E_NOMEM, "no memory for %zu layers and %zu replicas",
               count, engine->replicas_max);
    GE_TRY(place(engine));
    GE_TRY(ge_mean_create(engine->comm, GE_ENGINE_PIECE, engine->wide,
                          &engine->mean));
    GE_TRY(ge_svd_create((int)engine->config->svd_threads, &engine->svd));
fail:
    return status;
}

gradecho_status ge_engine_create(ge_comm *comm, const struct ge_config *config,
                                 struct ge_source *source, ge_engine **engine)
{
    gradecho_status status = GRADECHO_OK, local = GRADECHO_OK;
    ge_engine *made = ge_alloc(1, sizeof *made);
    int64_t each = (int64_t)source->facts.replicas_here;

    GE_TRY(ge_comm_max(comm, &each, 1));
    ge_message_capture(1);
    if (made == NULL) {
        local = GRADECHO_E_NOMEM;
        ge_error("no memory for the engine");
    } else {
        *made = (ge_engine){
            .comm = comm,
            .config = config,
            .source = source,
            .layers = &source->facts.layers,
            .replicas_max = source->facts.replicas_max,
            .replicas_each = (size_t)each,
            .wide = each > 1,
        };
        local = allocate(made);
    }
    GE_TRY(ge_comm_agree(comm, local));
    *engine = made;
    return GRADECHO_OK;
fail:
    ge_engine_destroy(&made);
    return status;
}

void ge_engine_destroy(ge_engine **engine)
{
    ge_engine *e = *engine;

    if (e == NULL)
        return;
    ge_svd_destroy(&e->svd);
    ge_mean_destroy(&e->mean);
    for (size_t l = 0; e->reference != NULL && l < e->layers->count; l++)
        ge_modes_fini(&e->reference[l]);
    free(e->reference);
    free(e->valid);
    free(e->used);
    free(e->piece);
    free(e->staged);
    free(e->sums);
    free(e->mean_sqnorm);
    free(e->mean_kept);
    free(e->kept_at);
    free(e->owner);
    free(e->gradient);
    free(e->others);
    free(e->terms_at);
    free(e->rows);
    free(e->all);
    free(e->evidence.deviation);
    free(e->evidence.number);
    free(e->evidence.terms);
    free(e);
    *engine = NULL;
}

struct ge_dimensions ge_engine_dimensions(const ge_engine *engine)
{
    return (struct ge_dimensions){
        .layers = engine->layers->count,
        .modes = (size_t)engine->config->layers_max_modes,
        .replicas = engine->replicas_max,
    };
}

/* Number of a first row that says: this rank failed, do not use the sample. */
static const double TROUBLE = -1.0;

/* Rank 0 must not log numbers to which a failed rank contributed. The failed
 * rank's own status, which is at least as grave, goes into its ballot. */
static void note_troubles(ge_engine *engine, size_t width)
{
    const size_t size = (size_t)ge_comm_size(engine->comm);

    for (size_t r = 0; r < size; r++)
        if (engine->all[r * engine->replicas_each * width] == TROUBLE &&
            engine->trouble >= GRADECHO_OK)
            engine->trouble = GRADECHO_E_NUMERIC;
}

gradecho_status ge_engine_measure(ge_engine *engine, bool echo,
                                  struct ge_row *row, gradecho_status *local)
{
    gradecho_status status = GRADECHO_OK;
    struct ge_source *source = engine->source;
    const size_t width = echo ? engine->width : engine->width_noise;

    engine->trouble = GRADECHO_OK;
    source->ops->describe(source, &engine->facts);
    for (size_t i = 0; i < engine->replicas_each * engine->width; i++)
        engine->rows[i] = (double)NAN;
    for (size_t j = 0; j < engine->facts.replicas; j++)
        engine->rows[j * engine->width] =
            (double)source->ops->number(source, j);

    GE_TRY(ge_engine_reduce(engine, echo));
    if (echo)
        GE_TRY(ge_engine_decompose(engine));
    /* The trainer may have its slot back: all that follows is our own. */
    source->ops->release(source);

    for (size_t j = 1; j < engine->replicas_each; j++) /* close the gaps */
        memmove(engine->rows + j * width, engine->rows + j * engine->width,
                width * sizeof(double));
    if (engine->trouble < GRADECHO_OK)
        engine->rows[0] = TROUBLE;
    GE_TRY(ge_comm_gather(engine->comm, engine->rows,
                          engine->replicas_each * width, engine->all));
    if (ge_comm_rank(engine->comm) == 0)
        note_troubles(engine, width);
    if (ge_comm_rank(engine->comm) == 0 && engine->trouble >= GRADECHO_OK)
        ge_engine_record(engine, echo, row);
    *local = engine->trouble;
fail:
    return status;
}
