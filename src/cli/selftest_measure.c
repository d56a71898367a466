/*
 * One case of the selftest: the truth from every replica's own decomposition
 * against the planted modes, the estimates from the engine's row.
 */
#include <math.h>
#include <stdlib.h>

#include "engine.h"
#include "laws.h"
#include "memory.h"
#include "selftest.h"
#include "significance.h"
#include "svd.h"
#include "try.h"

/* The planted noise variance: of no size in particular, so that nothing that
 * forgets the unit passes. */
static const double planted_sigma2 = 4e-6;

/* What is true of one sample, all planted modes side by side. */
struct truth {
    double *echo;    /* [modes] mean over replicas; sums until then */
    double *cluster; /* [modes] the same with all planted modes */
    double *along;   /* [modes] uhat' G vhat */
    double *shat;    /* [modes] */
};

enum { TRUTHS = sizeof(struct truth) / sizeof(double *) };

struct bench {
    ge_comm *comm;
    const struct ge_selftest_case *c;
    struct ge_config config;
    struct ge_source *source;
    ge_engine *engine;
    ge_svd *svd;
    struct ge_row row; /* rank 0 */
    struct truth truth;
    double *s;       /* [modes] planted */
    double *numbers; /* [TRUTHS x modes] behind `truth`: summed in one go */
    double *number;  /* [the row's modes] */
    size_t *place;   /* [modes] where in the row, found by the vectors */
    double *mean;    /* [entries] */
    float *narrow;   /* [entries] */
    struct ge_modes reference;  /* of the mean, as many as the row has */
    struct ge_modes found, own; /* of a replica; own in the reference's order */
    struct ge_modes matched;    /* of the mean, in the order of the planted */
};

static bool is_root(const struct bench *b)
{
    return ge_comm_rank(b->comm) == 0;
}

/* <u_k, u'_i><v_k, v'_i>. */
static double overlap(const struct ge_modes *a, size_t k,
                      const struct ge_modes *b, size_t i)
{
    double left = 0.0, right = 0.0;

    for (size_t j = 0; j < a->rows; j++)
        left += (double)a->u[k * a->rows + j] * (double)b->u[i * a->rows + j];
    for (size_t j = 0; j < a->cols; j++)
        right += (double)a->v[k * a->cols + j] * (double)b->v[i * a->cols + j];
    return left * right;
}

/* The true singular value whose echo is `echo`, by the exact law: bisection in
 * x, on which the law rises from 0 to 1. */
static double value_of(const struct ge_selftest_case *c, double echo)
{
    const double gamma = (double)c->rows / (double)c->cols;
    double low = 0.0, high = 1e4;

    for (int i = 0; i < 100; i++) {
        const double x = (low + high) / 2.0;

        if (ge_law_exact(gamma, x) < echo)
            low = x;
        else
            high = x;
    }
    return c->strength * low * sqrt((double)c->cols * planted_sigma2);
}

static gradecho_status allocate(struct bench *b)
{
    gradecho_status status = GRADECHO_OK;
    const size_t modes = b->c->spectrum->modes;
    const size_t entries = b->c->rows * b->c->cols;

    b->s = ge_alloc(modes, sizeof *b->s);
    b->numbers = ge_alloc(TRUTHS * modes, sizeof *b->numbers);
    b->place = ge_alloc(modes, sizeof *b->place);
    b->mean = ge_alloc(entries, sizeof *b->mean);
    b->narrow = ge_alloc_aligned(entries, sizeof *b->narrow);
    GE_FAIL_IF(b->s == NULL || b->numbers == NULL || b->place == NULL ||
                   b->mean == NULL || b->narrow == NULL,
               GRADECHO_E_NOMEM, "no memory for the selftest");
    b->truth.echo = b->numbers;
    b->truth.cluster = b->truth.echo + modes;
    b->truth.along = b->truth.cluster + modes;
    b->truth.shat = b->truth.along + modes;
    GE_TRY(ge_config_init(&b->config));
    b->config.echo_estimator = GE_ESTIMATOR_BOTH;
    GE_TRY(ge_svd_create((int)b->config.svd_threads, b->config.svd_tolerance,
                         &b->svd));
    GE_TRY(ge_modes_init(&b->matched, b->c->rows, b->c->cols, modes));
    for (size_t k = 0; k < modes; k++)
        b->s[k] = value_of(b->c, b->c->spectrum->echo[k]);
fail:
    return status;
}

/* After this the engine and the truth look at the same modes of a replica. */
static gradecho_status set_up_local(struct bench *b)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_layer *layer = &b->source->facts.layers.item[0];

    GE_TRY(ge_modes_init(&b->reference, b->c->rows, b->c->cols, layer->modes));
    GE_TRY(ge_modes_init(&b->own, b->c->rows, b->c->cols, layer->modes));
    GE_TRY(ge_modes_init(&b->found, b->c->rows, b->c->cols, layer->found));
    b->number = ge_alloc(layer->modes, sizeof *b->number);
    GE_FAIL_IF(b->number == NULL, GRADECHO_E_NOMEM,
               "no memory for the selftest");
    if (is_root(b)) {
        const struct ge_dimensions dims = ge_engine_dimensions(b->engine);

        GE_TRY(ge_row_init(&b->row, &dims));
    }
fail:
    return status;
}

static gradecho_status set_up(struct bench *b)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_selftest_case *c = b->c;

    ge_message_capture(1);
    GE_TRY(ge_comm_agree(b->comm, allocate(b)));
    const struct ge_planted planted = {
        .rows = c->rows,
        .cols = c->cols,
        .replicas = c->replicas,
        .modes = c->spectrum->modes,
        .s = b->s,
        .uneven = c->uneven,
        .noise = c->noise,
        .log_sigma = c->log_sigma,
        .floor = 0.1,
        .sigma2 = planted_sigma2,
        .samples = c->samples,
        .seed = c->seed,
    };

    GE_TRY(ge_source_open_planted(b->comm, &planted, &b->source));
    ge_layers_select(&b->source->facts.layers, &b->config);
    GE_TRY(ge_engine_create(b->comm, &b->config, b->source, &b->engine));
    ge_message_capture(1);
    GE_TRY(ge_comm_agree(b->comm, set_up_local(b)));
fail:
    return status;
}

static void tear_down(struct bench *b)
{
    ge_row_fini(&b->row);
    ge_modes_fini(&b->matched);
    ge_modes_fini(&b->found);
    ge_modes_fini(&b->own);
    ge_modes_fini(&b->reference);
    ge_svd_destroy(&b->svd);
    ge_engine_destroy(&b->engine);
    ge_source_close(&b->source);
    ge_config_fini(&b->config);
    free(b->narrow);
    free(b->mean);
    free(b->place);
    free(b->number);
    free(b->numbers);
    free(b->s);
}

/* ---- the truth ---- */

/* The mean over all replicas and its modes, in the order of the row. */
static gradecho_status find_reference(struct bench *b)
{
    gradecho_status status = GRADECHO_OK;
    const size_t entries = b->c->rows * b->c->cols;

    for (size_t i = 0; i < entries; i++)
        b->mean[i] = 0.0;
    for (size_t j = 0; j < b->source->facts.replicas_here; j++) {
        const float *g = b->source->ops->direct(b->source, j, 0);

        for (size_t i = 0; i < entries; i++)
            b->mean[i] += (double)g[i];
    }
    GE_TRY(ge_comm_sum(b->comm, b->mean, entries));
    for (size_t i = 0; i < entries; i++)
        b->narrow[i] = (float)(b->mean[i] / (double)b->c->replicas);
    ge_message_capture(1);
    GE_TRY(ge_comm_agree(
        b->comm,
        ge_svd_leading(b->svd, GE_WHOLE(b->narrow, b->c->rows, b->c->cols),
                       NULL, &b->reference)));
fail:
    return status;
}

/* Which of the mean's modes each planted one is: the one that has most of both
 * its vectors, wherever it stands in the order of singular values. */
static gradecho_status place_planted(struct bench *b)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_modes *planted = ge_planted_modes(b->source);

    GE_TRY(ge_modes_match(planted, &b->reference, &b->matched));
    for (size_t k = 0; k < planted->count; k++)
        for (size_t i = 0; i < b->reference.count; i++)
            if (b->reference.s[i] == b->matched.s[k]) /* copied from there */
                b->place[k] = i;
fail:
    return status;
}

/* The mode of one local replica that the engine matches to the mean's, held
 * against the planted one. */
static gradecho_status add_replica(struct bench *b, size_t j)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_modes *planted = ge_planted_modes(b->source);

    GE_TRY(ge_svd_leading(b->svd,
                          GE_WHOLE(b->source->ops->direct(b->source, j, 0),
                                   b->c->rows, b->c->cols),
                          &b->reference, &b->found));
    GE_TRY(ge_modes_match(&b->reference, &b->found, &b->own));
    GE_TRY(ge_modes_project(
        &b->own,
        GE_WHOLE(ge_planted_gradient(b->source), b->c->rows, b->c->cols),
        b->number));
    for (size_t k = 0; k < planted->count; k++) {
        const size_t i = b->place[k];

        b->truth.echo[k] += overlap(planted, k, &b->own, i);
        for (size_t other = 0; other < planted->count; other++)
            b->truth.cluster[k] += overlap(planted, other, &b->own, i);
        b->truth.along[k] += b->number[i];
        b->truth.shat[k] += (double)b->own.s[i];
    }
fail:
    return status;
}

static gradecho_status find_truth_local(struct bench *b)
{
    gradecho_status status = GRADECHO_OK;

    for (size_t i = 0; i < TRUTHS * b->c->spectrum->modes; i++)
        b->numbers[i] = 0.0;
    GE_TRY(place_planted(b));
    for (size_t j = 0; j < b->source->facts.replicas_here; j++)
        GE_TRY(add_replica(b, j));
fail:
    return status;
}

/* Collective. */
static gradecho_status find_truth(struct bench *b)
{
    gradecho_status status = GRADECHO_OK;
    const size_t modes = b->c->spectrum->modes;

    GE_TRY(find_reference(b));
    ge_message_capture(1);
    GE_TRY(ge_comm_agree(b->comm, find_truth_local(b)));
    GE_TRY(ge_comm_sum(b->comm, b->numbers, TRUTHS * modes));
    for (size_t i = 0; i < TRUTHS * modes; i++)
        b->numbers[i] /= (double)b->c->replicas;
fail:
    return status;
}

/* ---- the row ---- */

/* Signal, and farther from the nearest other mode of the mean than three times
 * the noise along it: nothing that the noise could mix it with. */
static bool is_clear(const struct bench *b, size_t i, bool signal)
{
    double *const *values = b->row.values;
    const double most =
        fmax(values[GE_ANISOTROPY_LEFT][i], values[GE_ANISOTROPY_RIGHT][i]);

    return signal && values[GE_MODE_GAP][i] >= 3.0 * sqrt(most);
}

static void add_point(const struct bench *b, size_t k,
                      struct ge_selftest_result *result)
{
    double *const *values = b->row.values;
    const size_t i = b->place[k];
    const bool signal =
        values[GE_MODE_T][i] > ge_mode_t_threshold(b->reference.count) &&
        values[GE_ECHO][i] > 0.0;

    result->points[result->point_count++] = (struct ge_selftest_point){
        .s = b->s[k],
        .truth = b->truth.echo[k],
        .gain_truth = b->truth.along[k] / b->truth.shat[k],
        .cluster_truth = b->truth.cluster[k],
        .echo = values[GE_ECHO][i],
        .echo_se = values[GE_ECHO_SE][i],
        .s_est = values[GE_S_EST][i],
        .gain = values[GE_GAIN][i],
        .exact = values[GE_ECHO_EXACT][i],
        .reverb = values[GE_ECHO_REVERB][i],
        .cluster = values[GE_ECHO_CLUSTER][i],
        .signal = signal,
        .clear = is_clear(b, i, signal),
    };
}

static void add_sample(const struct bench *b, struct ge_selftest_result *result)
{
    double *const *values = b->row.values;

    result->samples[result->sample_count++] = (struct ge_selftest_sample){
        .sigma2 = values[GE_SIGMA2][0] / planted_sigma2,
        .misfit_exact = values[GE_MISFIT_EXACT][0],
        .signal_modes = values[GE_SIGNAL_MODES][0],
    };
    for (size_t k = 0; b->c->echo && k < b->c->spectrum->modes; k++)
        add_point(b, k, result);
}

static gradecho_status measure_sample(struct bench *b,
                                      struct ge_selftest_result *result)
{
    gradecho_status status = GRADECHO_OK, local = GRADECHO_OK;
    struct ge_view view = {0};

    b->source->ops->look(b->source, 0.0, &view);
    if (b->c->echo && b->c->spectrum->modes > 0)
        GE_TRY(find_truth(b));
    GE_TRY(ge_engine_measure(b->engine, view.newest, b->c->echo ? 0 : -1,
                             &b->row, &local));
    GE_TRY(ge_comm_agree(b->comm, local));
    if (is_root(b))
        add_sample(b, result);
fail:
    return status;
}

gradecho_status ge_selftest_measure(ge_comm *comm,
                                    const struct ge_selftest_case *c,
                                    ge_selftest_progress *progress,
                                    void *context,
                                    struct ge_selftest_result *result)
{
    gradecho_status status = GRADECHO_OK, local = GRADECHO_OK;
    struct bench b = {.comm = comm, .c = c};
    struct ge_selftest_result made = {
        .points =
            ge_alloc(c->samples * c->spectrum->modes, sizeof *made.points),
        .samples = ge_alloc(c->samples, sizeof *made.samples),
    };

    ge_message_capture(1);
    if (made.points == NULL || made.samples == NULL) {
        local = GRADECHO_E_NOMEM;
        ge_error("no memory for %zu samples", c->samples);
    }
    GE_TRY(ge_comm_agree(comm, local));
    GE_TRY(set_up(&b));
    for (size_t i = 0; i < c->samples; i++) {
        GE_TRY(measure_sample(&b, &made));
        if (is_root(&b))
            progress(context, i + 1);
    }
    *result = made;
    made = (struct ge_selftest_result){0};
fail:
    ge_selftest_result_fini(&made);
    tear_down(&b);
    return status;
}

void ge_selftest_result_fini(struct ge_selftest_result *result)
{
    free(result->points);
    free(result->samples);
    *result = (struct ge_selftest_result){0};
}
