/*
 * alarm_private.h - the state of the alarms, shared by the rules' conditions
 * (alarm_rules.c) and what follows from them (alarm.c). Not for others.
 */
#ifndef GRADECHO_MONITOR_ALARM_PRIVATE_H
#define GRADECHO_MONITOR_ALARM_PRIVATE_H

#include "alarm.h"

/* What a sample says of a rule's condition. */
enum ge_answer { GE_UNKNOWN, GE_NO, GE_YES };

struct ge_alarm_state {
    bool raised;
    int64_t quiet; /* samples since the condition last held */
};

/* The last samples of a pair of numbers, for each of some cells. */
struct ge_series {
    size_t length;
    double *pairs;   /* [cells x length x 2] */
    uint64_t *count; /* [cells] ever added */
};

/* A layer's signal modes. */
struct ge_layer_signal {
    int64_t with, without; /* echo samples in a row */
    bool had;
};

struct ge_alarms {
    const struct ge_config *config;
    const struct ge_layers *layers;
    size_t replicas;
    const char *replica_word;
    bool *watched;                       /* [layers] */
    struct ge_alarm_state run[GE_RULES]; /* of the rules on the run */
    struct ge_alarm_state
        *layer[GE_RULES]; /* [layers], of the rules on layers */
    struct ge_series model, noise, knee, hot, dropped;
    struct ge_layer_signal *signal; /* [layers] */
    bool *seen;                     /* [layers] had a gradient once */
    double pair[2];                 /* the pair of the sample before */
    int pair_samples; /* samples in a row that it looked like copies */
    struct ge_finding {
        double value, threshold;
        size_t layer, layers; /* the worst one, and how many hold */
        size_t replica;
    } found[GE_RULES];
};

GRADECHO_MUST_CHECK bool ge_series_init(struct ge_series *s, size_t cells,
                                        int64_t length);
void ge_series_fini(struct ge_series *s);

/* Does the condition hold in this sample? Each rule is asked once a sample;
 * what it found goes into alarms->found. A rule on the run: */
enum ge_answer ge_alarm_ask(ge_alarms *alarms, enum ge_rule rule,
                            const struct ge_row *row);

/* A rule on layers. */
enum ge_answer ge_alarm_ask_layer(ge_alarms *alarms, enum ge_rule rule,
                                  const struct ge_row *row, size_t layer,
                                  double *value);

#endif
