/*
 * alarm.h - rules of the configuration (alarms.*) on one sample after another.
 *
 * A rule looks at the run or at each layer of alarms.layers. Where its
 * condition holds the alarm is raised; when it has not held for a while the
 * alarm is over. A sample that does not carry the numbers of a rule changes
 * nothing. Averages over the last alarms.samples samples, of at
 * least half as many, must exceed their threshold by more than their scatter
 * explains (ge_spread_above(): 2.5 % one-sided), so that noise alone raises no
 * alarm; a noise scale is a ratio of
 * averages, infinite where the averaged squared gradient is not positive.
 *
 * Pure: rows in, bits and words out. Rank 0, main thread.
 */
#ifndef GRADECHO_MONITOR_ALARM_H
#define GRADECHO_MONITOR_ALARM_H

#include "layers.h"
#include "schema.h"

typedef struct ge_alarms ge_alarms;

/* A rule that did not hold anywhere and does now, or the reverse. More layers
 * that join an alarm that is raised are in the row alone. */
struct ge_alarm_change {
    enum ge_rule rule;
    bool raised; /* else over: then only `rule` is set */
    double value, threshold;
    const char *layer; /* the worst one; NULL: of the run as a whole */
    char text[320];
};

/* All borrowed; they outlive the alarms.
 *
 * \param replicas      replicas of a complete sample
 * \param replica_word  what to call one: "rank" or "replica"
 * \return GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status
ge_alarms_create(const struct ge_config *config, const struct ge_layers *layers,
                 size_t replicas, const char *replica_word, ge_alarms **alarms);
void ge_alarms_destroy(ge_alarms **alarms);

/* What an earlier run had raised (GE_LAYER_ALARMS and GE_ALARMS of a row), but
 * for rules that are off now. Before the first sample. */
void ge_alarms_recall(ge_alarms *alarms, double bits, const double *layer_bits);

/* The next sample: its GE_ALARMS and GE_LAYER_ALARMS are written, the changes
 * too, in order of importance. Returns how many. */
size_t ge_alarms_judge(ge_alarms *alarms, struct ge_row *row,
                       struct ge_alarm_change changes[GE_RULES]);

/* Is the rule on at all? */
bool ge_alarms_enabled(const struct ge_config *config, enum ge_rule rule);

/* Rows that decide what the next one raises, and the fields of them. */
uint64_t ge_alarms_memory(const struct ge_config *config);
enum { GE_ALARM_FIELDS = 13 };
extern const enum ge_field ge_alarm_fields[GE_ALARM_FIELDS];

#endif
