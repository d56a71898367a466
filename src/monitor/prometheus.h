/*
 * prometheus.h - the last sample as a text file for the node exporter of
 * Prometheus (its textfile collector), in the text exposition format 0.0.4.
 *
 * The file is replaced as a whole, by a rename, so that no reader sees half of
 * it. A metric whose number is not known is not there. What goes wrong with the
 * file is told once; measuring and the log do not notice. Rank 0, main thread.
 */
#ifndef GRADECHO_MONITOR_PROMETHEUS_H
#define GRADECHO_MONITOR_PROMETHEUS_H

#include <stdio.h>

#include "layers.h"
#include "schema.h"

typedef struct ge_prometheus ge_prometheus;

/* All borrowed; they outlive it.
 * \return GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status
ge_prometheus_create(const struct ge_config *config, const char *session,
                     const struct ge_layers *layers, ge_prometheus **exporter);

/* The file is there before the first sample: what an earlier run left does not
 * count any more. */
void ge_prometheus_poll(ge_prometheus *exporter);

/* The next sample; `rows` samples are in the log.
 * Written unless that was done less than prometheus.every_seconds ago and the
 * alarms are the same. */
void ge_prometheus_sample(ge_prometheus *exporter, const struct ge_row *row,
                          uint64_t rows);

/* The monitors end: the last sample once more, with gradecho_up 0. Nulls
 * *exporter; accepts NULL. */
void ge_prometheus_finish(ge_prometheus **exporter);

#endif
