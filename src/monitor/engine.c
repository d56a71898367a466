#include "engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine_private.h"
#include "memory.h"
#include "moments.h"
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

    if (whole != NULL) {
        if (source->ops->use != NULL)
            source->ops->use(source, j, layer, first, count);
        return whole + first;
    }
    status = source->ops->read(source, j, layer, first, count, scratch);
    if (status < GRADECHO_OK) {
        memset(scratch, 0, count * sizeof *scratch);
        ge_engine_note(engine, status);
    }
    return scratch;
}

void ge_engine_snapshot(ge_engine *engine, size_t j, size_t layer, size_t first,
                        size_t count, float *out)
{
    const float *from = ge_engine_entries(engine, j, layer, first, count, out);

    if (from != out ? ge_copy_finite(from, count, out)
                    : ge_all_finite(out, count))
        return;
    memset(out, 0, count * sizeof *out);
    engine->spoiled = true;
}

static gradecho_status allocate_references(ge_engine *engine)
{
    gradecho_status status = GRADECHO_OK;
    const size_t count = engine->layers->count;

    engine->reference = ge_alloc(count, sizeof *engine->reference);
    GE_FAIL_IF(engine->reference == NULL, GRADECHO_E_NOMEM,
               "no memory for %zu layers", count);
    for (size_t l = 0; l < count; l++) {
        const struct ge_layer *layer = &engine->layers->item[l];

        if (layer->modes > 0)
            GE_TRY(ge_modes_init(&engine->reference[l], (size_t)layer->rows,
                                 (size_t)layer->cols, layer->modes));
    }
fail:
    return status;
}

/* Buffers of the exchange: blocks of the layer with the largest modes. */
static gradecho_status allocate_exchange(ge_engine *engine)
{
    gradecho_status status = GRADECHO_OK;
    const size_t each = engine->replicas_each;
    const size_t modes = (size_t)engine->config->layers_max_modes;
    const size_t reply = ge_engine_reply(engine, modes);
    size_t block = 0;

    for (size_t l = 0; l < engine->layers->count; l++)
        if (engine->layers->item[l].modes > 0)
            block = ge_max_size(block, ge_engine_block(engine, l));
    engine->own = ge_alloc_aligned(each * block, sizeof(float));
    engine->theirs = ge_alloc_aligned(each * block, sizeof(float));
    engine->answer = ge_alloc_aligned(each * each * reply, sizeof(float));
    engine->answered = ge_alloc_aligned(each * each * reply, sizeof(float));
    engine->cross =
        ge_alloc_aligned(each * engine->partners * modes, sizeof(float));
    GE_FAIL_IF(engine->own == NULL || engine->theirs == NULL ||
                   engine->answer == NULL || engine->answered == NULL ||
                   engine->cross == NULL,
               GRADECHO_E_NOMEM, "no memory to exchange modes");
fail:
    return status;
}

/* What only rank 0 needs. */
static gradecho_status allocate_record(ge_engine *engine)
{
    gradecho_status status = GRADECHO_OK;
    struct ge_evidence *e = &engine->evidence;
    const size_t rows =
        (size_t)ge_comm_size(engine->comm) * engine->replicas_each;
    const size_t modes = (size_t)engine->config->layers_max_modes;
    const size_t pairs =
        engine->reverb ? engine->replicas_max * engine->replicas_max : 0;

    engine->all = ge_alloc(rows * engine->width, sizeof(double));
    engine->average = ge_alloc(engine->layers->count, sizeof *engine->average);
    engine->model.change = ge_alloc(rows, sizeof *engine->model.change);
    e->deviation = ge_alloc(rows, sizeof *e->deviation);
    e->projection = ge_alloc(rows, sizeof *e->projection);
    e->row = ge_alloc(rows, sizeof *e->row);
    e->report = ge_alloc(rows * modes, sizeof *e->report);
    e->terms = ge_alloc(rows * modes, sizeof *e->terms);
    e->cross = ge_alloc(rows * modes, sizeof *e->cross);
    e->overlaps = ge_alloc(pairs, sizeof *e->overlaps);
    e->points = ge_alloc(modes, sizeof *e->points);
    GE_FAIL_IF(engine->all == NULL || engine->average == NULL ||
                   engine->model.change == NULL || e->deviation == NULL ||
                   e->projection == NULL || e->row == NULL ||
                   e->report == NULL || e->terms == NULL || e->cross == NULL ||
                   e->overlaps == NULL || e->points == NULL,
               GRADECHO_E_NOMEM, "no memory for %zu replicas", rows);
fail:
    return status;
}

/* Entries of the largest layer that is copied before it is decomposed, which is
 * faster than by panels: of no more than a sixteenth of the model, unless every
 * panel would be read from a file, some 100 times. */
static size_t copies(ge_engine *engine)
{
    size_t all = 0, largest = 0;

    for (size_t l = 0; l < engine->layers->count; l++)
        all += engine->layers->item[l].entries;
    engine->copied = engine->source->facts.costly
                         ? all
                         : ge_max_size(all / 16, GE_ENGINE_COPIED);
    for (size_t l = 0; l < engine->layers->count; l++) {
        const struct ge_layer *layer = &engine->layers->item[l];

        if (layer->modes > 0 && layer->entries <= engine->copied)
            largest = ge_max_size(largest, layer->entries);
    }
    return largest;
}

static gradecho_status allocate(ge_engine *engine)
{
    gradecho_status status = GRADECHO_OK;
    const size_t count = engine->layers->count;
    const size_t each = engine->replicas_each;
    const size_t size = (size_t)ge_comm_size(engine->comm);
    engine->valid = ge_alloc(each * count, sizeof *engine->valid);
    engine->used = ge_alloc(count + GE_RIDERS + size, sizeof *engine->used);
    engine->piece =
        ge_max_size(GE_ENGINE_PIECE_LEAST,
                    ge_min_size(GE_ENGINE_PIECE_MOST, size * GE_ENGINE_SHARE));
    engine->staged = ge_alloc_aligned(GE_ENGINE_READ, sizeof(float));
    engine->handed = ge_alloc_aligned(
        engine->config->reduce_mean == GE_MEAN_HANDOFF ? GE_ENGINE_READ : 0,
        sizeof(float));
    engine->evidence_of_mean =
        ge_alloc(ge_engine_handed_size(engine), sizeof(double));
    engine->mean_sqnorm = ge_alloc(count, sizeof *engine->mean_sqnorm);
    engine->layer_sketch =
        ge_alloc(each * GE_SKETCH_SIZE, sizeof *engine->layer_sketch);
    engine->gradient = ge_alloc_aligned(copies(engine), sizeof(float));
    engine->others = ge_alloc_aligned(
        engine->wide ? ge_layers_largest(engine->layers, true) : 0,
        sizeof(float));
    GE_TRY(ge_svd_create((int)engine->config->svd_threads,
                         engine->config->svd_tolerance, &engine->svd));
    GE_TRY(ge_engine_plan(engine));
    GE_TRY(allocate_references(engine));
    engine->rows = ge_alloc(each * engine->width, sizeof(double));
    GE_FAIL_IF(engine->valid == NULL || engine->used == NULL ||
                   engine->staged == NULL || engine->mean_sqnorm == NULL ||
                   engine->handed == NULL || engine->evidence_of_mean == NULL ||
                   engine->layer_sketch == NULL || engine->gradient == NULL ||
                   engine->others == NULL || engine->rows == NULL,
               GRADECHO_E_NOMEM, "no memory for %zu layers", count);
    GE_TRY(allocate_exchange(engine));
    if (ge_comm_rank(engine->comm) == 0)
        GE_TRY(allocate_record(engine));
fail:
    return status;
}

/* Which replicas are compared with which. */
static void choose_partners(ge_engine *engine)
{
    const struct ge_config *config = engine->config;
    const size_t others = ge_max_size(engine->replicas_max, 2) - 1;
    const bool wanted = config->echo_estimator != GE_ESTIMATOR_LOO;

    engine->reverb = wanted && others < (size_t)config->echo_replicas_max;
    engine->partners = engine->reverb
                           ? others
                           : ge_min_size((size_t)config->echo_partners, others);
    if (wanted && !engine->reverb && ge_comm_rank(engine->comm) == 0)
        ge_warn("reverb compares all pairs of %zu replicas: more than "
                "echo.replicas_max (%lld), echo_reverb stays missing",
                engine->replicas_max, (long long)config->echo_replicas_max);
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
        choose_partners(made);
        local = allocate(made);
    }
    status = ge_comm_agree(comm, local);
    if (status < GRADECHO_OK || made == NULL) /* the first has both */
        goto fail;
    GE_TRY(ge_mean_create(comm, made->piece, made->wide, &made->mean));
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
    void *const owned[] = {
        e->reference,
        e->valid,
        e->used,
        e->staged,
        e->handed,
        e->evidence_of_mean,
        e->mean_sqnorm,
        e->turn_of,
        e->turn_width,
        e->mean_kept,
        e->kept_at,
        e->owner,
        e->gradient,
        e->others,
        e->report_at,
        e->overlap_at,
        e->rows,
        e->all,
        e->layer_sketch,
        e->own,
        e->theirs,
        e->answer,
        e->answered,
        e->cross,
        e->average,
        e->model.change,
        e->evidence.deviation,
        e->evidence.projection,
        (void *)e->evidence.row,

        e->evidence.report,
        e->evidence.terms,
        e->evidence.cross,
        e->evidence.overlaps,
        e->evidence.points,
    };
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        free(owned[i]);
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

/* Numbers of a first row that say: this rank failed; this rank's data changed
 * while they were read. */
static const double TROUBLE = -1.0, SPOILED = -2.0;

/* Rank 0 must not log numbers to which a failed rank contributed. The failed
 * rank's own status, which is at least as grave, goes into its ballot. That of
 * a spoiled one is no failure of the run. */
static void note_troubles(ge_engine *engine, size_t width)
{
    const size_t size = (size_t)ge_comm_size(engine->comm);

    for (size_t r = 0; r < size; r++) {
        const double first = engine->all[r * engine->replicas_each * width];

        if (first == TROUBLE && engine->trouble >= GRADECHO_OK)
            engine->trouble = GRADECHO_E_NUMERIC;
        engine->spoiled = engine->spoiled || first == SPOILED;
    }
}

static int by_number(const void *a, const void *b)
{
    const double left = ((const double *)a)[GE_ROW_NUMBER];
    const double right = ((const double *)b)[GE_ROW_NUMBER];

    if (isnan(left) || isnan(right)) /* no replica: last */
        return !!isnan(left) - !!isnan(right);
    return (left > right) - (left < right);
}

/* In order of replica, so that no sum depends on who serves whom. */
static void sort_rows(ge_engine *engine, size_t width)
{
    qsort(engine->all,
          (size_t)ge_comm_size(engine->comm) * engine->replicas_each,
          width * sizeof(double), by_number);
}

gradecho_status ge_engine_measure(ge_engine *engine, int64_t step, int64_t echo,
                                  struct ge_row *row, gradecho_status *local)
{
    gradecho_status status = GRADECHO_OK;
    struct ge_source *source = engine->source;

    engine->turn = echo < 0 ? engine->turns : (size_t)echo % engine->turns;
    const size_t width = ge_row_width(engine);

    engine->trouble = GRADECHO_OK;
    engine->spoiled = false;
    source->ops->describe(source, step, &engine->facts);
    for (size_t i = 0; i < engine->replicas_each * engine->width; i++)
        engine->rows[i] = (double)NAN;
    for (size_t j = 0; j < engine->facts.replicas; j++)
        engine->rows[j * engine->width + GE_ROW_NUMBER] =
            (double)source->ops->number(source, j);
    for (size_t i = 0; i < engine->replicas_each * GE_SKETCH_SIZE; i++)
        engine->layer_sketch[i] = 0.0;

    GE_TRY(ge_engine_reduce(engine));
    for (size_t j = 0; j < engine->facts.replicas; j++)
        engine->rows[j * engine->width + GE_ROW_INDEX] =
            (double)(engine->first_index + j);
    if (echo >= 0)
        GE_TRY(ge_engine_decompose(engine));
    /* The trainer may have its slot back: all that follows is our own. */
    if (source->ops->intact != NULL && !source->ops->intact(source))
        engine->spoiled = true; /* told when the source is looked at */
    else if (engine->spoiled)
        ge_warn("step %lld: a gradient changed while it was read; the sample "
                "is not logged",
                (long long)step);
    source->ops->release(source, step);

    for (size_t j = 1; j < engine->replicas_each; j++) /* close the gaps */
        memmove(engine->rows + j * width, engine->rows + j * engine->width,
                width * sizeof(double));
    if (engine->spoiled)
        engine->rows[0] = SPOILED;
    if (engine->trouble < GRADECHO_OK)
        engine->rows[0] = TROUBLE;
    GE_TRY(ge_comm_gather(engine->comm, engine->rows,
                          engine->replicas_each * width, engine->all));
    if (ge_comm_rank(engine->comm) == 0)
        note_troubles(engine, width);
    if (ge_comm_rank(engine->comm) == 0 && engine->spoiled) {
        row->step = GE_ENGINE_SPOILED;
    } else if (ge_comm_rank(engine->comm) == 0 &&
               engine->trouble >= GRADECHO_OK) {
        sort_rows(engine, width);
        ge_engine_record(engine, row);
    }
    *local = engine->trouble;
fail:
    return status;
}
