/*
 * Phase 4, rank 0: from the gathered numbers to one row of the log.
 */
#include <math.h>
#include <string.h>

#include "engine_private.h"
#include "jackknife.h"
#include "laws.h"
#include "memory.h"
#include "reverb.h"

/* Where one layer goes in a row. */
struct target {
    const ge_engine *engine;
    const struct ge_layer *layer;
    size_t l;
    struct ge_row *row;
    double threshold; /* that a signal mode's t exceeds */
};

static double *layer_value(const struct target *t, enum ge_field field)
{
    return &t->row->values[field][t->l];
}

static double *mode_value(const struct target *t, enum ge_field field, size_t k)
{
    return &t->row->values[field][t->l * t->row->dims.modes + k];
}

/* The rows of the replicas that count in this layer. */
static void collect(ge_engine *engine, size_t l)
{
    struct ge_evidence *e = &engine->evidence;
    const bool echo = ge_engine_has_turn(engine, l);
    const size_t modes = engine->layers->item[l].modes;
    const size_t width = ge_row_width(engine);

    e->replicas = 0;
    for (size_t r = 0; r < ge_rows_arrived(engine); r++) {
        const double *row = engine->all + r * width;
        const size_t a = e->replicas;

        if (isnan(row[GE_ROW_NUMBER]) || isnan(row[GE_ROW_LAYERS + l]))
            continue;
        e->row[a] = row;
        e->deviation[a] = row[GE_ROW_LAYERS + l];
        e->projection[a] = row[ge_row_projection(engine) + l];
        for (size_t k = 0; echo && k < modes; k++) {
            struct ge_mode_report *report = &e->report[a * modes + k];

            memcpy(report, row + engine->report_at[l] + k * GE_REPORT_SIZE,
                   sizeof *report);
            e->terms[a * modes + k] = report->terms;
            e->cross[a * modes + k] = report->cross;
        }
        e->replicas++;
    }
}

static void record_noise(ge_engine *engine, const struct target *t,
                         struct ge_noise *noise)
{
    struct ge_evidence *e = &engine->evidence;
    const double batch_size = t->row->values[GE_BATCH_SIZE][0];
    const struct ge_noise_input in = {
        .rows = t->layer->rows,
        .cols = t->layer->cols,
        .replicas = e->replicas,
        .deviation = e->deviation,
        .projection = e->projection,
        .mean_sqnorm = engine->mean_sqnorm[t->l],
        .batch_size = batch_size,
    };

    ge_noise_estimate(&in, noise);
    *layer_value(t, GE_LAYER_REPLICAS) = (double)e->replicas;
    *layer_value(t, GE_SIGMA2) = noise->sigma2;
    *layer_value(t, GE_SIGMA2_SE) = noise->sigma2_se;
    *layer_value(t, GE_GRAD_SQNORM) = noise->grad_sqnorm;
    *layer_value(t, GE_GRAD_SQNORM_SE) = noise->grad_sqnorm_se;
    *layer_value(t, GE_NOISE_TRACE) = noise->noise_trace;
    *layer_value(t, GE_NOISE_TRACE_SE) = noise->noise_trace_se;
    *layer_value(t, GE_NOISE_SCALE) = noise->noise_scale;
    *layer_value(t, GE_NOISE_SCALE_SE) = noise->noise_scale_se;
    *layer_value(t, GE_NOISE_SCALE_SMOOTH) = ge_noise_smooth(
        &engine->average[t->l], noise->noise_trace, noise->grad_sqnorm,
        batch_size, engine->config->noise_half_life);
    *layer_value(t, GE_EDGE) = noise->edge;
    *layer_value(t, GE_TAU2_EDGE) = noise->tau2_edge;
    *layer_value(t, GE_TAU2_ASYM) = noise->tau2_asym;

    ge_engine_model_add(engine, &in, noise);

    /* The deviations are used up: turn them into ratios where they lie. */
    ge_noise_ratios(&in, e->deviation);
    for (size_t a = 0; a < e->replicas; a++)
        t->row->values[GE_REPLICA_NOISE][t->l * t->row->dims.replicas +
                                         (size_t)e->row[a][GE_ROW_NUMBER]] =
            e->deviation[a];
}

/* What the isotropic laws say of a mode seen at `s_replica`. Without noise
 * every law says 1. */
static void record_laws(const struct target *t, size_t k,
                        const struct ge_echo *echo,
                        const struct ge_noise *noise)
{
    const double gamma = (double)t->layer->rows / (double)t->layer->cols;
    const double y =
        echo->s_replica / sqrt((double)t->layer->cols * noise->sigma2);
    const double x = ge_law_true(gamma, y);

    if (noise->sigma2 == 0.0) {
        *mode_value(t, GE_ECHO_HILL, k) = 1.0;
        *mode_value(t, GE_ECHO_HILL_ASYM, k) = 1.0;
        *mode_value(t, GE_ECHO_TWO_SIDED, k) = 1.0;
        *mode_value(t, GE_ECHO_EXACT, k) = 1.0;
        return;
    }
    *mode_value(t, GE_ECHO_HILL, k) =
        ge_law_hill(ge_law_edge2(gamma), y * y, 1.0);
    *mode_value(t, GE_ECHO_HILL_ASYM, k) =
        ge_law_hill(noise->tau2_asym, echo->s_est * echo->s_est, 1.0);
    *mode_value(t, GE_ECHO_TWO_SIDED, k) = ge_law_two_sided(gamma, y);
    /* A mode that no spike explains has no echo in this law. */
    *mode_value(t, GE_ECHO_EXACT, k) = isnan(y)   ? (double)NAN
                                       : isnan(x) ? 0.0
                                                  : ge_law_exact(gamma, x);
}

/* Noise along the mode itself, and the law that follows from it. */
static void record_leaks(const struct target *t, size_t k,
                         const struct ge_echo *echo, double sigma2)
{
    const struct ge_evidence *e = &t->engine->evidence;
    const double dof = (double)e->replicas - 1.0;
    double left = 0.0, right = 0.0;

    for (size_t a = 0; a < e->replicas; a++) {
        left += e->report[a * t->layer->modes + k].leak_left / dof;
        right += e->report[a * t->layer->modes + k].leak_right / dof;
    }
    *mode_value(t, GE_TAU2_LEFT, k) = left;
    *mode_value(t, GE_TAU2_RIGHT, k) = right;
    *mode_value(t, GE_ANISOTROPY_LEFT, k) =
        left / ((double)t->layer->rows * sigma2);
    *mode_value(t, GE_ANISOTROPY_RIGHT, k) =
        right / ((double)t->layer->cols * sigma2);
    *mode_value(t, GE_ECHO_MODE_CLOSED, k) =
        ge_law_mode_closed(left, right, echo->s_est);
    *mode_value(t, GE_ECHO_MODE, k) =
        ge_law_mode_first(left, right, echo->s_est);
}

/* Distance to the nearest other singular value of the mean, whether that mode
 * is measured or not; infinite if there is no other. */
static double gap(const struct ge_modes *modes, size_t k)
{
    const bool last = k + 1 == ge_min_size(modes->rows, modes->cols);
    const double before = k > 0 ? (double)modes->s[k - 1] - (double)modes->s[k]
                                : (double)INFINITY;

    return last ? before
                : fmin(before, (double)modes->s[k] - (double)modes->s[k + 1]);
}

/* Reverb of one mode: Z over all pairs of the layer's replicas. Each pair was
 * measured in both directions; the two agree. */
static double reverb(ge_engine *engine, size_t l, size_t k)
{
    const struct ge_evidence *e = &engine->evidence;
    const size_t count = e->replicas;
    const size_t first = engine->overlap_at[l] + k * engine->replicas_max;

    for (size_t a = 0; a < count; a++)
        for (size_t b = 0; b < count; b++)
            e->overlaps[a * count + b] =
                e->row[a][first + (size_t)e->row[b][GE_ROW_INDEX]];
    return ge_echo_reverb(e->overlaps, count);
}

/* What one entry u' E v of the noise along a mode would vary by if the noise
 * were a row's times a column's. */
static double separable_variance(const struct target *t, size_t k,
                                 double sigma2)
{
    const struct ge_evidence *e = &t->engine->evidence;
    const double dof = (double)e->replicas - 1.0;
    double along = 0.0;

    for (size_t a = 0; a < e->replicas; a++)
        along += e->report[a * t->layer->modes + k].along2 / dof;
    return ge_separable_variance(*mode_value(t, GE_TAU2_LEFT, k) + along,
                                 *mode_value(t, GE_TAU2_RIGHT, k) + along,
                                 (double)t->layer->rows, (double)t->layer->cols,
                                 sigma2);
}

static void record_modes(ge_engine *engine, const struct target *t,
                         const struct ge_noise *noise)
{
    const struct ge_evidence *e = &engine->evidence;
    const struct ge_modes *reference = &engine->reference[t->l];
    const size_t modes = t->layer->modes;
    const double floor = ge_modes_floor(reference);

    for (size_t k = 0; k < modes; k++) {
        struct ge_echo echo;

        *mode_value(t, GE_S_MEAN, k) = (double)reference->s[k];
        *mode_value(t, GE_RESIDUAL, k) = (double)reference->r[k];
        /* The null space of a gradient whose rows add up to 0, as those of a
         * softmax do, is the same in all replicas: an echo of nothing. */
        if ((double)reference->s[k] <= floor)
            continue;
        ge_echo_combine(e->terms, e->replicas, modes, k, &echo);
        *mode_value(t, GE_MODE_GAP, k) =
            gap(reference, k) / sqrt(noise->sigma2);
        *mode_value(t, GE_S_REPLICA, k) = echo.s_replica;
        *mode_value(t, GE_S_EST, k) = echo.s_est;
        *mode_value(t, GE_ECHO, k) = echo.echo;
        *mode_value(t, GE_ECHO_SE, k) = echo.echo_se;
        *mode_value(t, GE_ECHO_LOO, k) = echo.echo_loo;
        *mode_value(t, GE_ECHO_CLUSTER, k) = echo.echo_cluster;
        *mode_value(t, GE_GAIN, k) = echo.gain;
        *mode_value(t, GE_GAIN_SE, k) = echo.gain_se;
        if (engine->reverb)
            *mode_value(t, GE_ECHO_REVERB, k) = reverb(engine, t->l, k);
        record_laws(t, k, &echo, noise);
        record_leaks(t, k, &echo, noise->sigma2);
        *mode_value(t, GE_MODE_T, k) =
            ge_mode_t(e->cross + k, e->replicas, modes,
                      separable_variance(t, k, noise->sigma2));
    }
}

/* ---- what is said over the signal modes of a layer ---- */

static bool is_signal(const struct target *t, size_t k)
{
    return *mode_value(t, GE_MODE_T, k) > t->threshold &&
           *mode_value(t, GE_ECHO, k) > 0.0;
}

/* Root mean square of law minus echo; NaN where the law has no value. */
static double misfit(const struct target *t, enum ge_field law)
{
    double sum = 0.0, count = 0.0;

    for (size_t k = 0; k < t->layer->modes; k++) {
        const double d = *mode_value(t, law, k) - *mode_value(t, GE_ECHO, k);

        if (!is_signal(t, k) || isnan(d))
            continue;
        sum += d * d;
        count += 1.0;
    }
    return sqrt(sum / count);
}

/* The signal modes as points to fit; without replica `without`, if that is one
 * of the replicas. The errors, and so the weights, stay those of all. */
static size_t points(ge_engine *engine, const struct target *t, size_t without)
{
    const struct ge_evidence *e = &engine->evidence;
    const size_t modes = t->layer->modes;
    size_t count = 0;

    for (size_t k = 0; k < modes; k++) {
        struct ge_fit_point *p = &e->points[count];

        if (!is_signal(t, k))
            continue;
        *p = (struct ge_fit_point){.s = *mode_value(t, GE_S_EST, k),
                                   .echo = *mode_value(t, GE_ECHO, k),
                                   .se = *mode_value(t, GE_ECHO_SE, k)};
        if (without < e->replicas) {
            struct ge_echo left;

            ge_echo_without(e->terms, e->replicas, modes, k, without, &left);
            p->s = left.s_est;
            p->echo = left.echo;
        }
        count++;
    }
    return count;
}

typedef double fit_function(const struct ge_fit_point *points, size_t count,
                            enum ge_fit_weight weight);

/* A fit and its jackknife error over replicas. */
static void record_fit(ge_engine *engine, const struct target *t,
                       fit_function *fit, enum ge_field value,
                       enum ge_field error)
{
    const struct ge_evidence *e = &engine->evidence;
    const enum ge_fit_weight weight = engine->config->fit_weights == GE_FIT_OLS
                                          ? GE_WEIGHT_EQUAL
                                          : GE_WEIGHT_DELTA;
    struct ge_jackknife jackknife = {0};
    size_t count = points(engine, t, e->replicas);

    *layer_value(t, value) = fit(e->points, count, weight);
    if (e->replicas < 3 || count < 2)
        return;
    for (size_t a = 0; a < e->replicas; a++) {
        count = points(engine, t, a);
        ge_jackknife_add(&jackknife, fit(e->points, count, weight));
    }
    *layer_value(t, error) = ge_jackknife_error(&jackknife);
}

static void record_signal(ge_engine *engine, const struct target *t)
{
    size_t signal = 0;

    for (size_t k = 0; k < t->layer->modes; k++)
        signal += is_signal(t, k) ? 1 : 0;
    *layer_value(t, GE_SIGNAL_MODES) = (double)signal;
    *layer_value(t, GE_MISFIT_HILL) = misfit(t, GE_ECHO_HILL);
    *layer_value(t, GE_MISFIT_TWO_SIDED) = misfit(t, GE_ECHO_TWO_SIDED);
    *layer_value(t, GE_MISFIT_EXACT) = misfit(t, GE_ECHO_EXACT);
    *layer_value(t, GE_MISFIT_MODE) = misfit(t, GE_ECHO_MODE);
    record_fit(engine, t, ge_fit_tau2, GE_TAU2_FIT, GE_TAU2_FIT_SE);
    record_fit(engine, t, ge_fit_q, GE_Q_FIT, GE_Q_FIT_SE);
}

void ge_engine_record(ge_engine *engine, struct ge_row *row)
{
    ge_row_clear(row);
    ge_engine_record_facts(engine, row);
    ge_engine_model_clear(engine);
    for (size_t l = 0; l < engine->layers->count; l++) {
        const struct ge_layer *layer = &engine->layers->item[l];
        const struct target t = {
            .engine = engine,
            .layer = layer,
            .l = l,
            .row = row,
            .threshold = ge_mode_t_threshold(layer->modes),
        };
        struct ge_noise noise;

        collect(engine, l);
        record_noise(engine, &t, &noise);
        if (ge_engine_has_turn(engine, l) && engine->evidence.replicas >= 2) {
            record_modes(engine, &t, &noise);
            record_signal(engine, &t);
        }
    }
    ge_engine_record_model(engine, row);
    ge_engine_record_correlation(engine, row);
}
