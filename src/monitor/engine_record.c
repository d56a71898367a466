/*
 * Phase 4, rank 0: from the gathered numbers to one row of the log.
 */
#include <math.h>
#include <stdlib.h>

#include "engine_private.h"
#include "laws.h"
#include "memory.h"
#include "noise.h"

static void collect(const ge_engine *engine, size_t l, bool echo,
                    struct ge_evidence *evidence)
{
    const struct ge_layer *layer = &engine->layers->item[l];
    const size_t width = echo ? engine->width : engine->width_noise;
    const size_t arrived =
        (size_t)ge_comm_size(engine->comm) * engine->replicas_each;

    evidence->replicas = 0;
    for (size_t a = 0; a < arrived; a++) {
        const double *row = engine->all + a * width;
        const size_t k = evidence->replicas;

        if (isnan(row[1 + l]))
            continue; /* missing or not finite */
        evidence->deviation[k] = row[1 + l];
        evidence->number[k] = (size_t)row[0];
        for (size_t i = 0; echo && i < layer->modes; i++) {
            const double *t = row + engine->terms_at[l] + i * GE_TERM_SIZE;

            evidence->terms[k * layer->modes + i] =
                (struct ge_echo_terms){.overlap = t[0],
                                       .held_out = t[1],
                                       .cross = t[2],
                                       .s_replica = t[3]};
        }
        evidence->replicas++;
    }
}

static void record_noise(const ge_engine *engine, size_t l,
                         const struct ge_evidence *evidence,
                         struct ge_noise *noise, struct ge_row *row)
{
    const struct ge_layer *layer = &engine->layers->item[l];
    const struct ge_noise_input in = {
        .rows = layer->rows,
        .cols = layer->cols,
        .replicas = evidence->replicas,
        .deviation = evidence->deviation,
        .mean_sqnorm = engine->mean_sqnorm[l],
        .batch_size = row->values[GE_BATCH_SIZE][0],
    };

    ge_noise_estimate(&in, noise);
    row->values[GE_LAYER_REPLICAS][l] = (double)evidence->replicas;
    row->values[GE_SIGMA2][l] = noise->sigma2;
    row->values[GE_SIGMA2_SE][l] = noise->sigma2_se;
    row->values[GE_GRAD_SQNORM][l] = noise->grad_sqnorm;
    row->values[GE_NOISE_TRACE][l] = noise->noise_trace;
    row->values[GE_NOISE_SCALE][l] = noise->noise_scale;
    row->values[GE_EDGE][l] = noise->edge;
    row->values[GE_TAU2_EDGE][l] = noise->tau2_edge;
    row->values[GE_TAU2_ASYM][l] = noise->tau2_asym;

    /* The deviations are used up: turn them into ratios where they lie. */
    ge_noise_ratios(&in, evidence->deviation);
    for (size_t k = 0; k < evidence->replicas; k++)
        row->values[GE_REPLICA_NOISE]
                   [l * row->dims.replicas + evidence->number[k]] =
            evidence->deviation[k];
}

/* What the isotropic laws say of a mode seen at `s_replica`. Without noise
 * every law says 1. */
static void record_laws(const struct ge_layer *layer, double sigma2,
                        double s_replica, size_t at, struct ge_row *row)
{
    const double gamma = (double)layer->rows / (double)layer->cols;
    const double y = s_replica / sqrt((double)layer->cols * sigma2);
    const double x = ge_law_true(gamma, y);
    const bool noisy = !(sigma2 == 0.0);

    row->values[GE_ECHO_HILL][at] =
        noisy ? ge_law_hill(ge_law_edge2(gamma), y * y, 1.0) : 1.0;
    row->values[GE_ECHO_TWO_SIDED][at] =
        noisy ? ge_law_two_sided(gamma, y) : 1.0;
    /* A mode that no spike explains has no echo in this law. */
    row->values[GE_ECHO_EXACT][at] = !noisy     ? 1.0
                                     : isnan(y) ? (double)NAN
                                     : isnan(x) ? 0.0
                                                : ge_law_exact(gamma, x);
}

static void record_echo(const ge_engine *engine, size_t l,
                        const struct ge_evidence *evidence, double sigma2,
                        struct ge_row *row)
{
    const struct ge_layer *layer = &engine->layers->item[l];

    if (evidence->replicas < 2)
        return;
    for (size_t i = 0; i < layer->modes; i++) {
        const size_t at = l * row->dims.modes + i;
        struct ge_echo echo;

        ge_echo_combine(evidence->terms + i, evidence->replicas, layer->modes,
                        &echo);
        row->values[GE_S_MEAN][at] = (double)engine->reference[l].s[i];
        row->values[GE_S_REPLICA][at] = echo.s_replica;
        row->values[GE_S_EST][at] = echo.s_est;
        row->values[GE_ECHO][at] = echo.echo;
        row->values[GE_ECHO_SE][at] = echo.echo_se;
        row->values[GE_ECHO_LOO][at] = echo.echo_loo;
        row->values[GE_GAIN][at] = echo.gain;
        row->values[GE_GAIN_SE][at] = echo.gain_se;
        record_laws(layer, sigma2, echo.s_replica, at, row);
    }
}

static double ratio(double sum, double count)
{
    return count > 0.0 ? sum / count : (double)NAN;
}

void ge_engine_record(ge_engine *engine, bool echo, struct ge_row *row)
{
    const double *rider = engine->used + engine->layers->count;

    ge_row_clear(row);
    row->step = engine->facts.step;
    row->values[GE_TIME][0] =
        ratio(rider[GE_RIDER_TIME], rider[GE_RIDER_TIMES]);
    row->values[GE_LOSS][0] =
        ratio(rider[GE_RIDER_LOSS], rider[GE_RIDER_LOSSES]);
    row->values[GE_BATCH_SIZE][0] =
        ratio(rider[GE_RIDER_BATCH], rider[GE_RIDER_BATCHES]);
    row->values[GE_REPLICAS][0] = rider[GE_RIDER_REPLICAS];
    for (size_t l = 0; l < engine->layers->count; l++) {
        struct ge_noise noise;

        collect(engine, l, echo, &engine->evidence);
        record_noise(engine, l, &engine->evidence, &noise, row);
        if (echo)
            record_echo(engine, l, &engine->evidence, noise.sigma2, row);
    }
}
