/*
 * alarm_history.h - when alarms were raised and over, read from a log.
 */
#ifndef GRADECHO_CLI_ALARM_HISTORY_H
#define GRADECHO_CLI_ALARM_HISTORY_H

#include <stdio.h>

#include "reader.h"

enum { GE_ALARM_SPANS = 16 };

/* From the sample in which it was raised to the last before it was over. */
struct ge_alarm_span {
    enum ge_rule rule;
    long long first, last; /* steps */
    bool raised;           /* still, at the last sample looked at */
};

struct ge_alarm_history {
    struct ge_alarm_span span[GE_ALARM_SPANS]; /* by their beginning */
    size_t count;
    size_t earlier; /* spans that are over, for which there was no room */
};

/* The last samples up to row `index` (ten thousand of them).
 * \return as ge_log_read() */
GRADECHO_MUST_CHECK gradecho_status ge_alarm_history_load(
    ge_log_reader *reader, uint64_t index, struct ge_alarm_history *history);

/* "same_data, knee": those of a row's bits; "" if there is none. */
const char *ge_alarm_names(double bits, char *text, size_t size);

/* A line for each, with the layers that `row` has them for; nothing if there
 * is none. */
void ge_alarm_history_print(const struct ge_alarm_history *history,
                            const struct ge_row *row,
                            const struct ge_log_layer *layers, FILE *out);

#endif
