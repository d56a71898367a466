#include "alarm_history.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "try.h"

enum { HISTORY = 10000, LAYERS_NAMED = 3 };

/* Room for one more: the oldest that is over goes. */
static struct ge_alarm_span *take_place(struct ge_alarm_history *h)
{
    size_t at = 0;

    if (h->count < GE_ALARM_SPANS)
        return &h->span[h->count++];
    while (h->span[at].raised) /* there are fewer rules than places */
        at++;
    memmove(h->span + at, h->span + at + 1,
            (GE_ALARM_SPANS - 1 - at) * sizeof *h->span);
    h->earlier++;
    return &h->span[GE_ALARM_SPANS - 1];
}

static struct ge_alarm_span *find_raised(struct ge_alarm_history *h,
                                         enum ge_rule rule)
{
    for (size_t i = h->count; i-- > 0;)
        if (h->span[i].rule == rule && h->span[i].raised)
            return &h->span[i];
    return NULL;
}

static void add_sample(struct ge_alarm_history *h, long long step, double bits)
{
    for (int r = 0; r < GE_RULES; r++) {
        const enum ge_rule rule = (enum ge_rule)r;
        struct ge_alarm_span *span = find_raised(h, rule);

        if (!ge_rule_raised(bits, rule)) {
            if (span != NULL)
                span->raised = false;
            continue;
        }
        if (span == NULL) {
            span = take_place(h);
            *span = (struct ge_alarm_span){
                .rule = rule, .first = step, .raised = true};
        }
        span->last = step;
    }
}

gradecho_status ge_alarm_history_load(ge_log_reader *reader, uint64_t index,
                                      struct ge_alarm_history *history)
{
    gradecho_status status = GRADECHO_OK;
    const uint64_t count = index < HISTORY ? index + 1 : HISTORY;
    double *bits = ge_alloc((size_t)count, sizeof *bits);
    int64_t *steps = ge_alloc((size_t)count, sizeof *steps);

    *history = (struct ge_alarm_history){0};
    GE_FAIL_IF(bits == NULL || steps == NULL, GRADECHO_E_NOMEM,
               "no memory for the alarms");
    GE_TRY(ge_log_steps(reader, index + 1 - count, count, steps));
    GE_TRY(ge_log_read(reader, GE_ALARMS, index + 1 - count, count, bits));
    for (uint64_t i = 0; i < count; i++)
        add_sample(history, steps[i], bits[i]);
fail:
    free(steps);
    free(bits);
    return status;
}

const char *ge_alarm_names(double bits, char *text, size_t size)
{
    *text = '\0';
    for (int r = 0; r < GE_RULES; r++)
        if (ge_rule_raised(bits, (enum ge_rule)r))
            snprintf(text + strlen(text), size - strlen(text), "%s%s",
                     *text != '\0' ? ", " : "", ge_rule_names[r]);
    return text;
}

static void print_layers(enum ge_rule rule, const struct ge_row *row,
                         const struct ge_log_layer *layers, FILE *out)
{
    size_t count = 0;

    for (size_t l = 0; l < row->dims.layers; l++) {
        if (!ge_rule_raised(row->values[GE_LAYER_ALARMS][l], rule))
            continue;
        if (count++ < LAYERS_NAMED)
            fprintf(out, "%s %s", count == 1 ? " in" : ",", layers[l].name);
    }
    if (count > LAYERS_NAMED)
        fprintf(out, " and %zu more layer%s", count - LAYERS_NAMED,
                count > LAYERS_NAMED + 1 ? "s" : "");
}

void ge_alarm_history_print(const struct ge_alarm_history *history,
                            const struct ge_row *row,
                            const struct ge_log_layer *layers, FILE *out)
{
    if (history->count == 0)
        return;
    fputs("\nalarms\n", out);
    if (history->earlier > 0)
        fprintf(out, "  %zu earlier ones\n", history->earlier);
    for (size_t i = 0; i < history->count; i++) {
        const struct ge_alarm_span *span = &history->span[i];

        if (!span->raised) {
            fprintf(out, "  %s from step %lld to %lld\n",
                    ge_rule_names[span->rule], span->first, span->last);
            continue;
        }
        fprintf(out, "  %s since step %lld", ge_rule_names[span->rule],
                span->first);
        print_layers(span->rule, row, layers, out);
        fputc('\n', out);
    }
}
