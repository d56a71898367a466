#include "prometheus.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "alarm.h"
#include "memory.h"
#include "try.h"

/* Leading modes that are shown: a series per layer each. */
enum { MODES_SHOWN = 4 };

struct ge_prometheus {
    const struct ge_config *config;
    const char *session;
    const struct ge_layers *layers;
    char *growing; /* the file before it takes its name */
    /* What only echo samples have, as of the last one. */
    double *signal;     /* [layers] */
    double *echo;       /* [layers x MODES_SHOWN] */
    struct ge_row last; /* its values by step and by layer */
    uint64_t rows;
    double written; /* when, monotonic; 0: not yet */
    bool told;      /* that writing fails */
};

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- the text ---- */

static void print_label(const char *name, const char *value, FILE *out)
{
    fprintf(out, "%s=\"", name);
    for (; *value != '\0'; value++)
        if (*value == '\n')
            fputs("\\n", out);
        else if (*value == '\\' || *value == '"')
            fprintf(out, "\\%c", *value);
        else
            fputc(*value, out);
    fputc('"', out);
}

/* One line of a metric; `name` may be followed by one more label. Nothing if
 * the value is missing: an integer field's -1 is, too. */
static void print_value(const ge_prometheus *p, const char *name,
                        const char *layer, const char *label,
                        const char *label_value, double value, FILE *out)
{
    if (isnan(value))
        return;
    fprintf(out, "%s{", name);
    print_label("session", p->session, out);
    if (layer != NULL) {
        fputc(',', out);
        print_label("layer", layer, out);
    }
    if (label != NULL) {
        fputc(',', out);
        print_label(label, label_value, out);
    }
    if (isinf(value))
        fprintf(out, "} %sInf\n", value < 0.0 ? "-" : "+");
    else
        fprintf(out, "} %.17g\n", value);
}

static void print_head(const char *name, const char *type, const char *help,
                       FILE *out)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static double known(double value)
{
    return value >= 0.0 ? value : (double)NAN;
}

static void print_one(const ge_prometheus *p, const char *name,
                      const char *type, const char *help, double value,
                      FILE *out)
{
    if (isnan(value))
        return;
    print_head(name, type, help, out);
    print_value(p, name, NULL, NULL, NULL, value, out);
}

static void print_layers(const ge_prometheus *p, const char *name,
                         const char *help, const double *values, bool integer,
                         FILE *out)
{
    print_head(name, "gauge", help, out);
    for (size_t l = 0; l < p->layers->count; l++)
        print_value(p, name, p->layers->item[l].name, NULL, NULL,
                    integer ? known(values[l]) : values[l], out);
}

static void print_echoes(const ge_prometheus *p, FILE *out)
{
    static const char *const numbers[MODES_SHOWN] = {"0", "1", "2", "3"};

    print_head("gradecho_echo", "gauge",
               "Measured spectral echo of a leading mode, last echo sample.",
               out);
    for (size_t l = 0; l < p->layers->count; l++)
        for (size_t k = 0; k < MODES_SHOWN; k++)
            print_value(p, "gradecho_echo", p->layers->item[l].name, "mode",
                        numbers[k], p->echo[l * MODES_SHOWN + k], out);
}

/* Each rule that is on, 0 or 1; and the layers for which it is raised. */
static void print_alarms(const ge_prometheus *p, FILE *out)
{
    static const char name[] = "gradecho_alarm";

    print_head(name, "gauge",
               "1 while the alarm is raised; with a layer: raised for it.",
               out);
    for (int r = 0; r < GE_RULES; r++) {
        const enum ge_rule rule = (enum ge_rule)r;

        if (!ge_alarms_enabled(p->config, rule))
            continue;
        print_value(p, name, NULL, "rule", ge_rule_names[r],
                    ge_rule_raised(p->last.values[GE_ALARMS][0], rule), out);
        for (size_t l = 0; l < p->layers->count; l++)
            if (ge_rule_raised(p->last.values[GE_LAYER_ALARMS][l], rule))
                print_value(p, name, p->layers->item[l].name, "rule",
                            ge_rule_names[r], 1.0, out);
    }
}

static void print_run(const ge_prometheus *p, bool up, FILE *out)
{
    double *const *v = p->last.values;

    print_one(p, "gradecho_up", "gauge",
              "1 while the monitors run; 0 when they have ended in order.",
              up ? 1.0 : 0.0, out);
    print_one(p, "gradecho_samples_total", "counter", "Samples in the log.",
              (double)p->rows, out);
    print_one(p, "gradecho_dropped_total", "counter",
              "Samples lost because the monitor was busy.",
              known(v[GE_DROPPED][0]), out);
    print_one(p, "gradecho_restarts_total", "counter",
              "Restarts of the monitors.", known(v[GE_RESTARTS][0]), out);
    print_one(p, "gradecho_step", "gauge", "Training step of the last sample.",
              known((double)p->last.step), out);
    print_one(p, "gradecho_replicas", "gauge", "Replicas in the last sample.",
              known(v[GE_REPLICAS][0]), out);
    print_one(p, "gradecho_batch_size_examples", "gauge",
              "Examples behind one replica.", v[GE_BATCH_SIZE][0], out);
    print_one(p, "gradecho_loss", "gauge",
              "Training loss, mean over the trainers.", v[GE_LOSS][0], out);
    print_one(p, "gradecho_sample_duration_seconds", "gauge",
              "Time the monitors spent on the last sample.", v[GE_DURATION][0],
              out);
    print_one(p, "gradecho_last_sample_timestamp_seconds", "gauge",
              "When the last sample was handed over, Unix time.", v[GE_TIME][0],
              out);
    print_one(p, "gradecho_residual_correlation_max", "gauge",
              "Largest correlation of two replicas' noise.",
              v[GE_CORRELATION][0], out);
    print_one(p, "gradecho_model_noise_scale_examples", "gauge",
              "Noise scale of the whole model, moving average; signed.",
              v[GE_MODEL_NOISE_SCALE_SMOOTH][0], out);
}

static void print_all(const ge_prometheus *p, bool up, FILE *out)
{
    double *const *v = p->last.values;

    print_run(p, up, out);
    print_layers(p, "gradecho_noise_scale_examples",
                 "Noise scale of the layer, moving average; signed.",
                 v[GE_NOISE_SCALE_SMOOTH], false, out);
    print_layers(p, "gradecho_sigma2",
                 "Noise variance of one gradient entry of one replica.",
                 v[GE_SIGMA2], false, out);
    print_layers(p, "gradecho_knee_tau2",
                 "Knee: squared singular value at which isotropic noise "
                 "drowns a mode (tau2_edge).",
                 v[GE_TAU2_EDGE], false, out);
    print_layers(p, "gradecho_signal_modes",
                 "Modes that are not noise, last echo sample.", p->signal, true,
                 out);
    print_echoes(p, out);
    print_alarms(p, out);
}

/* ---- the file ---- */

static bool write_growing(const ge_prometheus *p, bool up)
{
    FILE *out = NULL;

    unlink(p->growing); /* of a process that was killed and had our number */
    out = fopen(p->growing, "wxe");
    if (out == NULL)
        return false;
    print_all(p, up, out);
    const bool printed = fflush(out) == 0 && ferror(out) == 0;

    return fclose(out) == 0 && printed;
}

static void write_file(ge_prometheus *p, bool up)
{
    const char *path = p->config->prometheus_path;
    int error = 0;

    p->written = now();
    errno = 0;
    if (write_growing(p, up) && rename(p->growing, path) == 0)
        return;
    error = errno;
    unlink(p->growing);
    if (!p->told)
        ge_warn("prometheus.path %s: cannot write it%s%s; measuring goes on, "
                "writing is tried again",
                path, error != 0 ? ": " : "",
                error != 0 ? strerror(error) : "");
    p->told = true;
}

/* ---- life ---- */

static void destroy(ge_prometheus *p)
{
    if (p == NULL)
        return;
    ge_row_fini(&p->last);
    free(p->echo);
    free(p->signal);
    free(p->growing);
    free(p);
}

gradecho_status ge_prometheus_create(const struct ge_config *config,
                                     const char *session,
                                     const struct ge_layers *layers,
                                     ge_prometheus **exporter)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_dimensions dims = {
        .layers = layers->count, .modes = 1, .replicas = 1};
    const size_t bytes = strlen(config->prometheus_path) + 32;
    ge_prometheus *p = ge_alloc(1, sizeof *p);

    GE_FAIL_IF(p == NULL, GRADECHO_E_NOMEM, "no memory for the exporter");
    p->config = config;
    p->session = session;
    p->layers = layers;
    p->growing = ge_alloc(bytes, 1);
    p->signal = ge_alloc(layers->count, sizeof *p->signal);
    p->echo = ge_alloc(layers->count * MODES_SHOWN, sizeof *p->echo);
    GE_FAIL_IF(p->growing == NULL || p->signal == NULL || p->echo == NULL,
               GRADECHO_E_NOMEM, "no memory for the exporter");
    GE_TRY(ge_row_init(&p->last, &dims));
    snprintf(p->growing, bytes, "%s.%ld", config->prometheus_path,
             (long)getpid());
    for (size_t i = 0; i < layers->count; i++)
        p->signal[i] = -1.0;
    for (size_t i = 0; i < layers->count * MODES_SHOWN; i++)
        p->echo[i] = (double)NAN;
    *exporter = p;
    return GRADECHO_OK;
fail:
    destroy(p);
    return status;
}

/* Figures that only echo samples have. */
static void take_echoes(ge_prometheus *p, const struct ge_row *row)
{
    const size_t modes = row->dims.modes;

    for (size_t l = 0; l < p->layers->count; l++) {
        const double *echo = row->values[GE_ECHO] + l * modes;

        if (row->values[GE_SIGNAL_MODES][l] < 0.0)
            continue;
        p->signal[l] = row->values[GE_SIGNAL_MODES][l];
        for (size_t k = 0; k < MODES_SHOWN; k++)
            p->echo[l * MODES_SHOWN + k] = k < modes ? echo[k] : (double)NAN;
    }
}

void ge_prometheus_sample(ge_prometheus *exporter, const struct ge_row *row,
                          uint64_t rows)
{
    ge_prometheus *p = exporter;
    const double before = p->last.values[GE_ALARMS][0];

    p->last.step = row->step;
    for (int f = 0; f < GE_FIELDS; f++)
        if (ge_fields[f].shape == GE_PER_STEP ||
            ge_fields[f].shape == GE_PER_LAYER)
            memcpy(p->last.values[f], row->values[f],
                   ge_shape_count(ge_fields[f].shape, &row->dims) *
                       sizeof(double));
    p->rows = rows;
    take_echoes(p, row);
    if (now() - p->written >= p->config->prometheus_seconds ||
        row->values[GE_ALARMS][0] != before)
        write_file(p, true);
}

void ge_prometheus_poll(ge_prometheus *exporter)
{
    if (exporter->written == 0.0)
        write_file(exporter, true);
}

void ge_prometheus_finish(ge_prometheus **exporter)
{
    ge_prometheus *p = *exporter;

    *exporter = NULL;
    if (p == NULL)
        return;
    write_file(p, false);
    destroy(p);
}
