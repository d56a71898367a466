/*
 * Phase 1 where the training hands its own mean over: used as it lies, so that
 * nothing but a few numbers of each layer crosses the network, and believed
 * only after it was compared with the gradients.
 *
 * All is decided on numbers that were summed over ranks, which are the same
 * everywhere: no rank takes a branch alone.
 */
#include <math.h>
#include <string.h>

#include "engine_private.h"
#include "try.h"

/* What is summed over ranks, each [layers] but the last two. */
static double *projections(const ge_engine *engine)
{
    return engine->evidence_of_mean;
}

static double *deviations(const ge_engine *engine)
{
    return projections(engine) + engine->layers->count;
}

static double *norms(const ge_engine *engine)
{
    return deviations(engine) + engine->layers->count;
}

static double *sketch(const ge_engine *engine) /* [GE_SKETCH_SIZE] */
{
    return norms(engine) + engine->layers->count;
}

enum { TOTAL, SQUARE, TOTALS }; /* of a rank's norms: it, and its square */

static double *totals(const ge_engine *engine)
{
    return sketch(engine) + GE_SKETCH_SIZE;
}

size_t ge_engine_handed_size(const ge_engine *engine)
{
    return 3 * engine->layers->count + GE_SKETCH_SIZE + TOTALS;
}

void ge_engine_handed_claim(const ge_engine *engine, double *rider)
{
    const struct ge_sample_facts *facts = &engine->facts;

    if (engine->source->ops->read_mean == NULL || facts->mean_replicas == 0.0)
        return;
    rider[GE_RIDER_MEANS] = 1.0;
    rider[GE_RIDER_MEAN_OF] = facts->mean_replicas;
    rider[GE_RIDER_MEAN_OF_SQUARED] =
        facts->mean_replicas * facts->mean_replicas;
    rider[GE_RIDER_MEAN_UNIT] = facts->mean_unit;
}

/* Told once in a run: what it is about does not change from step to step. */
static bool first_time(ge_engine *engine)
{
    const bool first = !engine->mean_told && ge_comm_rank(engine->comm) == 0;

    engine->mean_told = true;
    return first;
}

bool ge_engine_handed_fits(ge_engine *engine)
{
    const double *rider = engine->used + engine->layers->count;
    const double size = (double)ge_comm_size(engine->comm);
    const double k = (double)engine->present;
    /* Equal to k on all: so are their sum and their sum of squares, and on no
     * other numbers. */
    bool fits = rider[GE_RIDER_MEANS] == size &&
                rider[GE_RIDER_MEAN_OF] == size * k &&
                rider[GE_RIDER_MEAN_OF_SQUARED] == size * k * k;

    for (size_t l = 0; l < engine->layers->count; l++)
        fits = fits && engine->used[l] == k;
    if (!fits && first_time(engine))
        ge_warn("step %lld: reduce.mean is handoff, but %g of %g monitors have "
                "a mean, and not all of just the %g replicas and every layer; "
                "the gradients cross the network instead: hand the mean over "
                "on every rank, or set reduce.mean to network",
                (long long)engine->facts.step, rider[GE_RIDER_MEANS], size, k);
    return fits;
}

/* What this rank's replicas say of the mean. */
static void collect(const ge_engine *engine)
{
    double *total = totals(engine);

    memset(engine->evidence_of_mean, 0,
           ge_engine_handed_size(engine) * sizeof *engine->evidence_of_mean);
    for (size_t l = 0; l < engine->layers->count; l++) {
        norms(engine)[l] = engine->mean_sqnorm[l];
        total[TOTAL] += engine->mean_sqnorm[l];
    }
    total[SQUARE] = total[TOTAL] * total[TOTAL];
    for (size_t j = 0; j < engine->facts.replicas; j++) {
        const double *row = engine->rows + j * engine->width;

        for (size_t l = 0; l < engine->layers->count; l++) {
            projections(engine)[l] += row[ge_row_projection(engine) + l];
            deviations(engine)[l] += row[GE_ROW_LAYERS + l];
        }
        for (size_t i = 0; i < GE_SKETCH_SIZE; i++)
            sketch(engine)[i] += row[ge_row_sketch(engine) + i];
    }
}

/* Rounding in the allreduce leaves an error of the mean of about `unit` times
 * what is added up, which is of the size of the mean and the noise; here
 * relative to the mean. Several times that is still rounding. */
static double error_allowed(const ge_engine *engine, size_t l, double unit)
{
    const double size = (double)ge_comm_size(engine->comm);
    const double k = (double)engine->present;

    return 8.0 * unit *
           (1.0 + sqrt(deviations(engine)[l] / k / (norms(engine)[l] / size)));
}

/* If the mean is off by a relative error e, so is sum_a P_a / (K ||mean||^2)
 * in its direction: a mean that was clipped, scaled or made of others. */
static size_t worst_layer(const ge_engine *engine, double unit, double *off)
{
    const double size = (double)ge_comm_size(engine->comm);
    const double k = (double)engine->present;
    const size_t count = engine->layers->count;
    size_t worst = count;

    *off = 0.0;
    for (size_t l = 0; l < count; l++) {
        const double norm = norms(engine)[l] / size;
        const double error = fabs(projections(engine)[l]) / (k * norm);

        if (norm > 0.0 && error > error_allowed(engine, l, unit) &&
            error > *off) {
            *off = error;
            worst = l;
        }
        if (norm == 0.0 && deviations(engine)[l] > 0.0 && k == 1.0) {
            *off = 1.0; /* one replica is its mean */
            worst = l;
        }
    }
    return worst;
}

/* The residuals of all replicas add up to K times the mean's error, and so do
 * their sketches, in every direction: a mean with weights. */
static bool residuals_cancel(const ge_engine *engine, double unit)
{
    const double k = (double)engine->present;
    double sum = 0.0, allowed = 0.0;

    for (size_t i = 0; i < GE_SKETCH_SIZE; i++)
        sum += sketch(engine)[i] * sketch(engine)[i];
    for (size_t l = 0; l < engine->layers->count; l++) {
        if (norms(engine)[l] > 0.0)
            allowed += pow(k * error_allowed(engine, l, unit), 2.0);
    }
    return sum <= allowed;
}

/* All ranks have the same mean, but for rounding. */
static bool means_agree(const ge_engine *engine, double unit)
{
    const double size = (double)ge_comm_size(engine->comm);
    const double *total = totals(engine);
    const double variance =
        size * total[SQUARE] / (total[TOTAL] * total[TOTAL]) - 1.0;

    return total[TOTAL] == 0.0 || variance <= pow(1e-6 + 8.0 * unit, 2.0);
}

static bool all_finite(const ge_engine *engine)
{
    double sum = 0.0;

    for (size_t i = 0; i < ge_engine_handed_size(engine); i++)
        sum += 0.0 * engine->evidence_of_mean[i];
    return sum == 0.0;
}

gradecho_status ge_engine_handed_check(ge_engine *engine, bool *good)
{
    static const char advice[] =
        "hand it over right after the allreduce, unclipped and unscaled, or "
        "set reduce.mean to network";
    gradecho_status status = GRADECHO_OK;
    const double unit =
        engine->used[engine->layers->count + GE_RIDER_MEAN_UNIT] /
        (double)ge_comm_size(engine->comm);
    double off = 0.0;

    collect(engine);
    GE_TRY(ge_comm_sum(engine->comm, engine->evidence_of_mean,
                       ge_engine_handed_size(engine)));
    *good = false;
    if (!all_finite(engine)) /* what is not will be found and told */
        return GRADECHO_OK;
    const size_t worst = worst_layer(engine, unit, &off);
    const bool agree = means_agree(engine, unit);

    *good = agree && worst == engine->layers->count &&
            residuals_cancel(engine, unit);
    if (*good || !first_time(engine))
        return GRADECHO_OK;
    if (!agree)
        ge_warn("step %lld: the ranks hand over different means; the gradients "
                "cross the network instead: %s",
                (long long)engine->facts.step, advice);
    else if (worst < engine->layers->count)
        ge_warn("step %lld: the mean of layer %s is not the mean of the "
                "gradients (off by %.2g of it); they cross the network "
                "instead: %s",
                (long long)engine->facts.step, engine->layers->item[worst].name,
                off, advice);
    else
        ge_warn("step %lld: the mean that is handed over is not the plain mean "
                "of the gradients (of others, or with weights?); they cross "
                "the network instead: %s",
                (long long)engine->facts.step, advice);
fail:
    return status;
}
