/*
 * When the condition of an alarm holds, rule by rule.
 */
#include <math.h>
#include <stdlib.h>

#include "alarm_private.h"
#include "memory.h"
#include "spread.h"

/* Samples in a row in which one pair looks like copies. */
enum { SAME_SAMPLES = 3 };

/* ---- the last samples ---- */

bool ge_series_init(struct ge_series *s, size_t cells, int64_t length)
{
    s->length = (size_t)length;
    s->pairs = ge_alloc(cells * s->length, 2 * sizeof *s->pairs);
    s->count = ge_alloc(cells, sizeof *s->count);
    return s->pairs != NULL && s->count != NULL;
}

void ge_series_fini(struct ge_series *s)
{
    free(s->pairs);
    free(s->count);
}

static struct ge_spread series_add(struct ge_series *s, size_t cell, double x,
                                   double y)
{
    double *pairs = s->pairs + 2 * cell * s->length;
    const size_t at = (size_t)(s->count[cell]++ % s->length);
    struct ge_spread spread = {0};

    pairs[2 * at] = x;
    pairs[2 * at + 1] = y;
    for (size_t i = 0; i < s->length && i < s->count[cell]; i++)
        ge_spread_add(&spread, pairs[2 * i], pairs[2 * i + 1]);
    return spread;
}

/* Is x / y above the threshold, on average and beyond chance? */
static enum ge_answer above(struct ge_series *s, size_t cell, double x,
                            double y, double threshold, double *value)
{
    struct ge_spread spread;

    if (!isfinite(x) || !isfinite(y))
        return GE_UNKNOWN;
    spread = series_add(s, cell, x, y);
    *value = spread.y > 0.0 ? spread.x / spread.y : (double)INFINITY;
    /* Two or three samples agree by chance now and then. */
    return 2.0 * spread.count >= (double)s->length &&
                   ge_spread_above(&spread, 1.0, threshold)
               ? GE_YES
               : GE_NO;
}

/* ---- rules on the run ---- */

static enum ge_answer same_data(ge_alarms *a, const struct ge_row *row,
                                struct ge_finding *found)
{
    const double correlation = row->values[GE_CORRELATION][0];
    const double *pair = row->values[GE_CORRELATION_PAIR];
    const bool same = pair[0] == a->pair[0] && pair[1] == a->pair[1];

    if (isnan(correlation))
        return GE_UNKNOWN;
    found->value = correlation;
    if (!(correlation > found->threshold)) {
        a->pair_samples = 0;
        return GE_NO;
    }
    a->pair_samples = same && a->pair_samples > 0 ? a->pair_samples + 1 : 1;
    a->pair[0] = pair[0];
    a->pair[1] = pair[1];
    return a->pair_samples >= SAME_SAMPLES ? GE_YES : GE_NO;
}

static enum ge_answer lost(ge_alarms *a, const struct ge_row *row,
                           struct ge_finding *found)
{
    const double present = row->values[GE_REPLICAS][0];

    found->threshold = 0.0;
    found->value = (double)a->replicas - present;
    return present < 0.0 ? GE_UNKNOWN : found->value > 0.0 ? GE_YES : GE_NO;
}

/* A replica's noise in the whole model: its share in each layer, by the
 * layer's noise. */
static double noise_of(const struct ge_row *row, size_t replica)
{
    double sum = 0.0, all = 0.0;

    for (size_t l = 0; l < row->dims.layers; l++) {
        const double trace = row->values[GE_NOISE_TRACE][l];
        const double ratio =
            row->values[GE_REPLICA_NOISE][l * row->dims.replicas + replica];

        if (!isfinite(trace) || !isfinite(ratio))
            continue;
        sum += ratio * trace;
        all += trace;
    }
    return sum / all;
}

static enum ge_answer hot_replica(ge_alarms *a, const struct ge_row *row,
                                  struct ge_finding *found)
{
    enum ge_answer answer = GE_UNKNOWN;

    for (size_t r = 0; r < a->replicas && r < row->dims.replicas; r++) {
        double value = 0.0;
        const enum ge_answer one =
            above(&a->hot, r, noise_of(row, r), 1.0, found->threshold, &value);

        if (one == GE_YES && (answer != GE_YES || value > found->value)) {
            found->value = value;
            found->replica = r;
        }
        answer = one > answer ? one : answer;
    }
    return answer;
}

static enum ge_answer dropped(ge_alarms *a, const struct ge_row *row,
                              struct ge_finding *found)
{
    const double now = row->values[GE_DROPPED][0];
    const size_t length = a->dropped.length;
    const uint64_t count = a->dropped.count[0];
    double before = 0.0;

    if (!(now >= 0.0))
        return GE_UNKNOWN;
    if (count >= length)
        before = a->dropped.pairs[2 * (count % length)];
    (void)series_add(&a->dropped, 0, now, 0.0);
    if (count < length)
        return GE_UNKNOWN;
    found->value = (now - before) / (now - before + (double)length);
    return found->value > found->threshold ? GE_YES : GE_NO;
}

static enum ge_answer noise_scale(ge_alarms *a, const struct ge_row *row,
                                  struct ge_finding *found)
{
    return above(
        &a->model, 0,
        row->values[GE_BATCH_SIZE][0] * row->values[GE_MODEL_NOISE_TRACE][0],
        row->values[GE_MODEL_GRAD_SQNORM][0], found->threshold, &found->value);
}

/* ---- rules on layers ---- */

/* A layer that never has a gradient is frozen, unless none has. */
static enum ge_answer not_finite(ge_alarms *a, const struct ge_row *row,
                                 size_t l, double *value)
{
    const double used = row->values[GE_LAYER_REPLICAS][l];
    const double present = row->values[GE_REPLICAS][0];
    bool any = false;

    if (used < 0.0 || present < 0.0)
        return GE_UNKNOWN;
    *value = present - used;
    a->seen[l] = a->seen[l] || used > 0.0;
    if (!(*value > 0.0))
        return GE_NO;
    for (size_t i = 0; i < row->dims.layers && !a->seen[l]; i++)
        any = any || row->values[GE_LAYER_REPLICAS][i] > 0.0;
    return any ? GE_NO : GE_YES;
}

static enum ge_answer pure_noise(ge_alarms *a, const struct ge_row *row,
                                 size_t l, double *value)
{
    const double modes = row->values[GE_SIGNAL_MODES][l];
    const int64_t samples = a->config->alarm_pure_noise;
    struct ge_layer_signal *s = &a->signal[l];

    if (modes < 0.0 || isnan(modes))
        return GE_UNKNOWN;
    s->with = modes > 0.0 ? s->with + 1 : 0;
    s->without = modes > 0.0 ? 0 : s->without + 1;
    s->had = s->had || s->with >= samples;
    *value = (double)s->without;
    return s->had && s->without >= samples ? GE_YES : GE_NO;
}

enum ge_answer ge_alarm_ask_layer(ge_alarms *a, enum ge_rule rule,
                                  const struct ge_row *row, size_t l,
                                  double *value)
{
    const double threshold = a->found[rule].threshold;

    switch (rule) {
    case GE_RULE_NOT_FINITE:
        return not_finite(a, row, l, value);
    case GE_RULE_LAYER_NOISE_SCALE:
        return above(&a->noise, l,
                     row->values[GE_BATCH_SIZE][0] *
                         row->values[GE_NOISE_TRACE][l],
                     row->values[GE_GRAD_SQNORM][l], threshold, value);
    case GE_RULE_KNEE:
        return above(&a->knee, l, row->values[GE_TAU2_EDGE][l], 1.0, threshold,
                     value);
    default:
        return pure_noise(a, row, l, value);
    }
}

enum ge_answer ge_alarm_ask(ge_alarms *a, enum ge_rule rule,
                            const struct ge_row *row)
{
    struct ge_finding *found = &a->found[rule];

    switch (rule) {
    case GE_RULE_SAME_DATA:
        return same_data(a, row, found);
    case GE_RULE_LOST:
        return lost(a, row, found);
    case GE_RULE_HOT_REPLICA:
        return hot_replica(a, row, found);
    case GE_RULE_DROPPED:
        return dropped(a, row, found);
    default:
        return noise_scale(a, row, found);
    }
}
