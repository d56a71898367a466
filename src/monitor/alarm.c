#include "alarm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "alarm_private.h"
#include "memory.h"
#include "try.h"

const enum ge_field ge_alarm_fields[GE_ALARM_FIELDS] = {
    GE_REPLICAS,          GE_BATCH_SIZE,       GE_DROPPED,
    GE_CORRELATION,       GE_CORRELATION_PAIR, GE_MODEL_NOISE_TRACE,
    GE_MODEL_GRAD_SQNORM, GE_LAYER_REPLICAS,   GE_NOISE_TRACE,
    GE_GRAD_SQNORM,       GE_TAU2_EDGE,        GE_SIGNAL_MODES,
    GE_REPLICA_NOISE};

static bool of_layers(enum ge_rule rule)
{
    return rule == GE_RULE_NOT_FINITE || rule == GE_RULE_LAYER_NOISE_SCALE ||
           rule == GE_RULE_KNEE || rule == GE_RULE_PURE_NOISE;
}

/* 0: the rule is off. */
static double threshold_of(const struct ge_config *config, enum ge_rule rule)
{
    switch (rule) {
    case GE_RULE_SAME_DATA:
        return config->alarm_same_data;
    case GE_RULE_NOT_FINITE:
        return (double)config->alarm_not_finite;
    case GE_RULE_LOST:
        return (double)config->alarm_lost;
    case GE_RULE_HOT_REPLICA:
        return config->alarm_hot_replica;
    case GE_RULE_DROPPED:
        return config->alarm_dropped;
    case GE_RULE_NOISE_SCALE:
        return config->alarm_noise_scale;
    case GE_RULE_LAYER_NOISE_SCALE:
        return config->alarm_layer_noise_scale;
    case GE_RULE_KNEE:
        return config->alarm_knee;
    case GE_RULE_PURE_NOISE:
        return (double)config->alarm_pure_noise;
    case GE_RULES:
        break;
    }
    return 0.0;
}

bool ge_alarms_enabled(const struct ge_config *config, enum ge_rule rule)
{
    return threshold_of(config, rule) > 0.0;
}

uint64_t ge_alarms_memory(const struct ge_config *config)
{
    /* Twice: what raised an alarm, and what did not end it. */
    const double echoes = 2.0 * (double)config->alarm_pure_noise *
                          (double)config->sample_echo_every;
    const double most = fmax(2.0 * (double)config->alarm_samples, echoes);

    return (uint64_t)fmin(most, 10000.0);
}

/* ---- raising and ending ---- */

static void settle(struct ge_alarm_state *state, enum ge_answer answer,
                   int64_t patience)
{
    if (answer == GE_YES)
        *state = (struct ge_alarm_state){.raised = true};
    else if (answer == GE_NO && state->raised && ++state->quiet >= patience)
        *state = (struct ge_alarm_state){.raised = false};
}

static bool raised(const ge_alarms *a, enum ge_rule rule)
{
    if (!of_layers(rule))
        return a->run[rule].raised;
    for (size_t l = 0; l < a->layers->count; l++)
        if (a->layer[rule][l].raised)
            return true;
    return false;
}

static void judge_layers(ge_alarms *a, enum ge_rule rule,
                         const struct ge_row *row)
{
    struct ge_finding *found = &a->found[rule];
    const int64_t patience = rule == GE_RULE_PURE_NOISE
                                 ? a->config->alarm_pure_noise
                                 : a->config->alarm_samples;

    for (size_t l = 0; l < a->layers->count; l++) {
        double value = 0.0;
        enum ge_answer answer = GE_UNKNOWN;

        if (!a->watched[l])
            continue;
        answer = ge_alarm_ask_layer(a, rule, row, l, &value);
        settle(&a->layer[rule][l], answer, patience);
        if (answer != GE_YES)
            continue;
        if (found->layers++ == 0 || value > found->value) {
            found->value = value;
            found->layer = l;
        }
    }
}

static void write_bits(const ge_alarms *a, struct ge_row *row)
{
    uint64_t all = 0;

    for (size_t l = 0; l < a->layers->count; l++) {
        uint64_t bits = 0;

        for (int r = 0; r < GE_RULES; r++)
            if (a->layer[r] != NULL && a->layer[r][l].raised)
                bits |= UINT64_C(1) << r;
        row->values[GE_LAYER_ALARMS][l] = (double)bits;
        all |= bits;
    }
    for (int r = 0; r < GE_RULES; r++)
        all |= (uint64_t)a->run[r].raised << r;
    row->values[GE_ALARMS][0] = (double)all;
}

/* ---- words ---- */

/* A noise scale without a squared gradient has no bound. */
static void figure(double value, char *text, size_t size)
{
    if (isinf(value))
        snprintf(text, size, "without bound");
    else if (value >= 100.0 && value < 1e6)
        snprintf(text, size, "%.0f", value);
    else
        snprintf(text, size, "%.3g", value);
}

static void say(const ge_alarms *a, const struct ge_row *row,
                struct ge_alarm_change *c)
{
    const struct ge_finding *f = &a->found[c->rule];
    const size_t size = sizeof c->text;
    const char *word = a->replica_word;
    char rest[48] = "", value[32];

    figure(f->value, value, sizeof value);
    if (f->layers > 1)
        snprintf(rest, sizeof rest, ", and in %zu more layer%s", f->layers - 1,
                 f->layers > 2 ? "s" : "");
    switch (c->rule) {
    case GE_RULE_SAME_DATA:
        snprintf(c->text, size,
                 "%ss %.0f and %.0f read the same data: correlation of their "
                 "noise %.2f, above %g",
                 word, a->pair[0], a->pair[1], f->value, f->threshold);
        break;
    case GE_RULE_NOT_FINITE:
        snprintf(c->text, size,
                 "%.0f of %.0f replicas missing or not finite in %s%s",
                 f->value, row->values[GE_REPLICAS][0], c->layer, rest);
        break;
    case GE_RULE_LOST:
        snprintf(c->text, size, "%.0f of %zu %ss hand nothing over", f->value,
                 a->replicas, word);
        break;
    case GE_RULE_HOT_REPLICA:
        snprintf(c->text, size,
                 "%s %zu is %.2g times as noisy as the mean of all, above %g "
                 "times",
                 word, f->replica, f->value, f->threshold);
        break;
    case GE_RULE_DROPPED:
        snprintf(c->text, size,
                 "%.0f %% of the last samples were dropped, more than %g %%",
                 100.0 * f->value, 100.0 * f->threshold);
        break;
    case GE_RULE_NOISE_SCALE:
        snprintf(c->text, size,
                 "noise scale of the whole model %s, above %g examples", value,
                 f->threshold);
        break;
    case GE_RULE_LAYER_NOISE_SCALE:
        snprintf(c->text, size, "noise scale %s, above %g examples, in %s%s",
                 value, f->threshold, c->layer, rest);
        break;
    case GE_RULE_KNEE:
        snprintf(c->text, size, "knee (tau2_edge) %s, above %g, in %s%s", value,
                 f->threshold, c->layer, rest);
        break;
    case GE_RULE_PURE_NOISE:
        snprintf(c->text, size, "no signal mode for %.0f echo samples in %s%s",
                 f->value, c->layer, rest);
        break;
    case GE_RULES:
        break;
    }
}

size_t ge_alarms_judge(ge_alarms *alarms, struct ge_row *row,
                       struct ge_alarm_change changes[GE_RULES])
{
    size_t count = 0;

    for (int r = 0; r < GE_RULES; r++) {
        const enum ge_rule rule = (enum ge_rule)r;
        struct ge_finding *found = &alarms->found[r];
        const bool before = raised(alarms, rule);
        bool after = false;

        if (!ge_alarms_enabled(alarms->config, rule))
            continue;
        *found = (struct ge_finding){
            .threshold = rule == GE_RULE_NOT_FINITE
                             ? 0.0
                             : threshold_of(alarms->config, rule)};
        if (of_layers(rule))
            judge_layers(alarms, rule, row);
        else
            settle(&alarms->run[r], ge_alarm_ask(alarms, rule, row),
                   alarms->config->alarm_samples);
        after = raised(alarms, rule);
        if (after == before)
            continue;
        changes[count] = (struct ge_alarm_change){.rule = rule};
        if (after) {
            changes[count].raised = true;
            changes[count].value = found->value;
            changes[count].threshold = found->threshold;
            if (of_layers(rule))
                changes[count].layer = alarms->layers->item[found->layer].name;
            say(alarms, row, &changes[count]);
        }
        count++;
    }
    write_bits(alarms, row);
    return count;
}

/* ---- life ---- */

gradecho_status ge_alarms_create(const struct ge_config *config,
                                 const struct ge_layers *layers,
                                 size_t replicas, const char *replica_word,
                                 ge_alarms **alarms)
{
    gradecho_status status = GRADECHO_OK;
    ge_alarms *a = ge_alloc(1, sizeof *a);
    bool whole = a != NULL;

    GE_FAIL_IF(!whole, GRADECHO_E_NOMEM, "no memory for the alarms");
    a->config = config;
    a->layers = layers;
    a->replicas = replicas;
    a->replica_word = replica_word;
    a->watched = ge_alloc(layers->count, sizeof *a->watched);
    a->seen = ge_alloc(layers->count, sizeof *a->seen);
    a->signal = ge_alloc(layers->count, sizeof *a->signal);
    whole = a->watched != NULL && a->seen != NULL && a->signal != NULL;
    for (int r = 0; r < GE_RULES && whole; r++)
        if (of_layers((enum ge_rule)r)) {
            a->layer[r] = ge_alloc(layers->count, sizeof **a->layer);
            whole = a->layer[r] != NULL;
        }
    whole = whole && ge_series_init(&a->model, 1, config->alarm_samples) &&
            ge_series_init(&a->dropped, 1, config->alarm_samples) &&
            ge_series_init(&a->hot, replicas, config->alarm_samples) &&
            ge_series_init(&a->noise, layers->count, config->alarm_samples) &&
            ge_series_init(&a->knee, layers->count, config->alarm_samples);
    GE_FAIL_IF(!whole, GRADECHO_E_NOMEM,
               "no memory for the alarms of %zu "
               "layers",
               layers->count);
    for (size_t l = 0; l < layers->count; l++)
        a->watched[l] =
            ge_globs_match(&config->alarm_layers, layers->item[l].name);
    *alarms = a;
    return GRADECHO_OK;
fail:
    ge_alarms_destroy(&a);
    return status;
}

void ge_alarms_destroy(ge_alarms **alarms)
{
    ge_alarms *a = *alarms;

    *alarms = NULL;
    if (a == NULL)
        return;
    ge_series_fini(&a->model);
    ge_series_fini(&a->dropped);
    ge_series_fini(&a->hot);
    ge_series_fini(&a->noise);
    ge_series_fini(&a->knee);
    for (int r = 0; r < GE_RULES; r++)
        free(a->layer[r]);
    free(a->signal);
    free(a->seen);
    free(a->watched);
    free(a);
}

void ge_alarms_recall(ge_alarms *alarms, double bits, const double *layer_bits)
{
    for (int r = 0; r < GE_RULES; r++) {
        const enum ge_rule rule = (enum ge_rule)r;

        if (!ge_alarms_enabled(alarms->config, rule))
            continue;
        if (!of_layers(rule))
            alarms->run[r].raised = ge_rule_raised(bits, rule);
        for (size_t l = 0; of_layers(rule) && l < alarms->layers->count; l++) {
            alarms->layer[r][l].raised =
                alarms->watched[l] && ge_rule_raised(layer_bits[l], rule);
            if (rule == GE_RULE_PURE_NOISE)
                alarms->signal[l].had = alarms->layer[r][l].raised;
        }
    }
}
