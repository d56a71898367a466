/*
 * watch.h - what happens to a sample on rank 0 besides the log: alarms are
 * judged, told, and given to the user's command; the exporter's file is
 * written.
 */
#ifndef GRADECHO_MONITOR_WATCH_H
#define GRADECHO_MONITOR_WATCH_H

#include "reader.h"
#include "source.h"

typedef struct ge_watch ge_watch;

struct ge_watch_spec {
    const struct ge_config *config;
    const struct ge_source_facts *facts;
    const char *session, *log_path;
};

/* All borrowed; they outlive it, but for the spec itself.
 * \return GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status
ge_watch_create(const struct ge_watch_spec *spec, ge_watch **watch);

/* Before the first sample of a log that is resumed, which has the layers of the
 * spec: the alarms stand as after its last row. \return as ge_log_read() */
GRADECHO_MUST_CHECK gradecho_status ge_watch_recall(ge_watch *watch,
                                                    ge_log_reader *log);

/* A sample, before it is logged: its alarms are written into the row. */
void ge_watch_judge(ge_watch *watch, struct ge_row *row);

/* The same sample, after that: `rows` samples are in the log. */
void ge_watch_tell(ge_watch *watch, const struct ge_row *row, uint64_t rows);

/* Now and then, whether there are samples or not; accepts NULL. */
void ge_watch_poll(ge_watch *watch);

/* The run ends: a command that runs gets `seconds`. Nulls *watch; accepts
 * NULL. */
void ge_watch_finish(ge_watch **watch, double seconds);

#endif
