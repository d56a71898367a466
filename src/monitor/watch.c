#include "watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alarm.h"
#include "command.h"
#include "memory.h"
#include "prometheus.h"
#include "try.h"

struct ge_watch {
    struct ge_watch_spec spec;
    ge_alarms *alarms;
    ge_command *command;                      /* NULL: none is configured */
    ge_prometheus *exporter;                  /* likewise */
    struct ge_alarm_change changes[GE_RULES]; /* of the last sample */
    size_t count;
};

gradecho_status ge_watch_create(const struct ge_watch_spec *spec,
                                ge_watch **watch)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_source_facts *facts = spec->facts;
    const struct ge_config *config = spec->config;
    ge_watch *w = ge_alloc(1, sizeof *w);

    GE_FAIL_IF(w == NULL, GRADECHO_E_NOMEM, "no memory for the alarms");
    w->spec = *spec;
    GE_TRY(ge_alarms_create(
        config, &facts->layers, facts->replicas_max,
        facts->replicas_max == facts->world ? "rank" : "replica", &w->alarms));
    if (config->alarm_command[0] != '\0')
        GE_TRY(ge_command_create(config->alarm_command, &w->command));
    if (config->prometheus_path[0] != '\0')
        GE_TRY(ge_prometheus_create(config, spec->session, &facts->layers,
                                    &w->exporter));
    *watch = w;
    return GRADECHO_OK;
fail:
    ge_watch_finish(&w, 0.0);
    return status;
}

gradecho_status ge_watch_recall(ge_watch *watch, ge_log_reader *log)
{
    gradecho_status status = GRADECHO_OK;
    const uint64_t memory = ge_alarms_memory(watch->spec.config);
    struct ge_row row = {0};
    uint64_t rows = 0, first = 0;

    GE_TRY(ge_row_init(&row, &ge_log_reader_facts(log)->dims));
    GE_TRY(ge_log_refresh(log, &rows));
    first = rows > memory ? rows - memory : 0;
    if (first > 0) {
        GE_TRY(
            ge_log_read(log, GE_ALARMS, first - 1, 1, row.values[GE_ALARMS]));
        GE_TRY(ge_log_read(log, GE_LAYER_ALARMS, first - 1, 1,
                           row.values[GE_LAYER_ALARMS]));
        ge_alarms_recall(watch->alarms, row.values[GE_ALARMS][0],
                         row.values[GE_LAYER_ALARMS]);
    }
    for (uint64_t at = first; at < rows; at++) {
        for (int f = 0; f < GE_ALARM_FIELDS; f++)
            GE_TRY(ge_log_read(log, ge_alarm_fields[f], at, 1,
                               row.values[ge_alarm_fields[f]]));
        (void)ge_alarms_judge(watch->alarms, &row, watch->changes);
    }
fail:
    ge_row_fini(&row);
    return status;
}

void ge_watch_judge(ge_watch *watch, struct ge_row *row)
{
    watch->count = ge_alarms_judge(watch->alarms, row, watch->changes);
}

/* Give an alarm to the command: its name, and all that is known of it. */
static void run_command(const ge_watch *watch, const struct ge_row *row,
                        const struct ge_alarm_change *change)
{
    enum { VARIABLES = 8 };
    const char *layer = change->layer != NULL ? change->layer : "";
    char *texts[VARIABLES + 1] = {NULL};
    bool whole = true;
    int at = 0;

#define VARIABLE(...) whole = whole && asprintf(&texts[at++], __VA_ARGS__) >= 0
    VARIABLE("GRADECHO_ALARM=%s", ge_rule_names[change->rule]);
    VARIABLE("GRADECHO_ALARM_LAYER=%s", layer);
    VARIABLE("GRADECHO_ALARM_STEP=%lld", row->step);
    VARIABLE("GRADECHO_ALARM_VALUE=%.17g", change->value);
    VARIABLE("GRADECHO_ALARM_THRESHOLD=%.17g", change->threshold);
    VARIABLE("GRADECHO_ALARM_MESSAGE=%s", change->text);
    VARIABLE("GRADECHO_ALARM_SESSION=%s", watch->spec.session);
    VARIABLE("GRADECHO_ALARM_LOG=%s", watch->spec.log_path);
#undef VARIABLE
    if (whole)
        ge_command_run(watch->command, (const char *const *)texts);
    else
        ge_warn("alarms.command: no memory to run it");
    for (int i = 0; i < VARIABLES; i++)
        free(texts[i]);
}

void ge_watch_tell(ge_watch *watch, const struct ge_row *row, uint64_t rows)
{
    for (size_t i = 0; i < watch->count; i++) {
        const struct ge_alarm_change *change = &watch->changes[i];
        const char *name = ge_rule_names[change->rule];

        if (change->raised)
            ge_info("alarm %s at step %lld: %s", name, row->step, change->text);
        else
            ge_info("alarm %s is over at step %lld", name, row->step);
        if (change->raised && watch->command != NULL)
            run_command(watch, row, change);
    }
    watch->count = 0;
    if (watch->exporter != NULL)
        ge_prometheus_sample(watch->exporter, row, rows);
}

void ge_watch_poll(ge_watch *watch)
{
    if (watch == NULL)
        return;
    if (watch->command != NULL)
        ge_command_poll(watch->command);
    if (watch->exporter != NULL)
        ge_prometheus_poll(watch->exporter);
}

void ge_watch_finish(ge_watch **watch, double seconds)
{
    ge_watch *w = *watch;

    *watch = NULL;
    if (w == NULL)
        return;
    if (w->exporter != NULL)
        ge_prometheus_finish(&w->exporter);
    ge_command_finish(&w->command, seconds);
    ge_alarms_destroy(&w->alarms);
    free(w);
}
