/*
 * Phase 4, rank 0: what a row says of the sample and of the model as a whole.
 */
#include <math.h>
#include <string.h>

#include "engine_private.h"
#include "jackknife.h"

static double ratio(double sum, double count)
{
    return count > 0.0 ? sum / count : (double)NAN;
}

void ge_engine_record_facts(const ge_engine *engine, struct ge_row *row)
{
    const double *rider = engine->used + engine->layers->count;

    row->step = engine->facts.step;
    row->values[GE_TIME][0] =
        ratio(rider[GE_RIDER_TIME], rider[GE_RIDER_TIMES]);
    row->values[GE_LOSS][0] =
        ratio(rider[GE_RIDER_LOSS], rider[GE_RIDER_LOSSES]);
    row->values[GE_BATCH_SIZE][0] =
        ratio(rider[GE_RIDER_BATCH], rider[GE_RIDER_BATCHES]);
    row->values[GE_REPLICAS][0] = (double)engine->present;
}

/* The rows' sketches, side by side in the evidence's order. */
void ge_engine_record_correlation(ge_engine *engine, struct ge_row *row)
{
    const size_t width = ge_row_width(engine);
    double *all = engine->all;
    size_t count = 0, pair[2] = {0, 0};

    /* Close up: rows without a replica are in the way. They are not needed any
     * more after this. */
    for (size_t r = 0; r < ge_rows_arrived(engine); r++) {
        if (isnan(all[r * width + GE_ROW_NUMBER]))
            continue;
        if (r != count)
            memmove(all + count * width, all + r * width, width * sizeof *all);
        count++;
    }
    const double worst =
        ge_sketch_worst(all + ge_row_sketch(engine), count, width, pair);

    row->values[GE_CORRELATION][0] = worst;
    if (isnan(worst))
        return;
    for (size_t i = 0; i < 2; i++)
        row->values[GE_CORRELATION_PAIR][i] =
            all[pair[i] * width + GE_ROW_NUMBER];
}

/* ---- the noise scale of the model ---- */

void ge_engine_model_clear(ge_engine *engine)
{
    struct ge_model *model = &engine->model;

    model->whole = (struct ge_noise_sums){0};
    model->layers = 0;
    for (size_t a = 0; a < engine->present; a++)
        model->change[a] = (struct ge_model_change){0};
}

void ge_engine_model_add(ge_engine *engine, const struct ge_noise_input *in,
                         const struct ge_noise *noise)
{
    const struct ge_evidence *e = &engine->evidence;
    struct ge_model *model = &engine->model;
    const size_t width = ge_row_width(engine);

    if (isnan(noise->noise_trace))
        return;
    model->whole.trace += noise->noise_trace;
    model->whole.sqnorm += noise->grad_sqnorm;
    model->layers++;
    for (size_t a = 0; a < e->replicas; a++) {
        const struct ge_noise_sums left = ge_noise_without(in, a);
        struct ge_model_change *change =
            &model->change[(size_t)(e->row[a] - engine->all) / width];

        change->by.trace += left.trace - noise->noise_trace;
        change->by.sqnorm += left.sqnorm - noise->grad_sqnorm;
        change->layers++;
    }
}

/* Jackknife over the replicas that are in any layer. Where a layer lacks a
 * replica, leaving that one out changes nothing. */
static double model_error(const ge_engine *engine, double batch_size)
{
    const struct ge_model *model = &engine->model;
    struct ge_jackknife scale = {0};

    for (size_t a = 0; a < engine->present; a++) {
        const struct ge_model_change *change = &model->change[a];

        if (change->layers > 0)
            ge_jackknife_add(
                &scale, ge_noise_scale(
                            batch_size, model->whole.trace + change->by.trace,
                            model->whole.sqnorm + change->by.sqnorm));
    }
    return ge_jackknife_error(&scale);
}

void ge_engine_record_model(ge_engine *engine, struct ge_row *row)
{
    const struct ge_noise_sums *whole = &engine->model.whole;
    const double batch_size = row->values[GE_BATCH_SIZE][0];

    if (engine->model.layers == 0)
        return;
    row->values[GE_MODEL_NOISE_TRACE][0] = whole->trace;
    row->values[GE_MODEL_GRAD_SQNORM][0] = whole->sqnorm;
    row->values[GE_MODEL_NOISE_SCALE][0] =
        ge_noise_scale(batch_size, whole->trace, whole->sqnorm);
    row->values[GE_MODEL_NOISE_SCALE_SE][0] = model_error(engine, batch_size);
    row->values[GE_MODEL_NOISE_SCALE_SMOOTH][0] =
        ge_noise_smooth(&engine->model.average, whole->trace, whole->sqnorm,
                        batch_size, engine->config->noise_half_life);
}

void ge_engine_recall(ge_engine *engine, const double *noise_trace,
                      const double *grad_sqnorm)
{
    const double half_life = engine->config->noise_half_life;
    struct ge_noise_sums whole = {0};
    bool any = false;

    for (size_t l = 0; l < engine->layers->count; l++) {
        (void)ge_noise_smooth(&engine->average[l], noise_trace[l],
                              grad_sqnorm[l], 1.0, half_life);
        if (isnan(noise_trace[l]))
            continue;
        whole.trace += noise_trace[l];
        whole.sqnorm += grad_sqnorm[l];
        any = true;
    }
    if (any)
        (void)ge_noise_smooth(&engine->model.average, whole.trace, whole.sqnorm,
                              1.0, half_life);
}
