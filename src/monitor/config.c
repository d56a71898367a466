#include "config.h"

#include <fnmatch.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "config_private.h"
#include "try.h"

static const char *const placements[] = {"root", "spread", NULL};
static const char *const estimators[] = {"loo", "reverb", "both", NULL};
static const char *const weights[] = {"delta", "ols", NULL};
static const char *const means[] = {"network", "handoff", NULL};
static const char *const losses[] = {"continue", "stop", NULL};
static const char *const switches[] = {"false", "true", NULL};

#define AT(field) offsetof(struct ge_config, field)

const struct ge_key ge_keys[GE_KEYS] = {
    {"session", GE_TEXT, AT(session), 0, 63, "\"\"", NULL,
     "name that trainers and monitors share; empty: $GRADECHO_SESSION, else "
     "\"default\""},
    {"sample.every", GE_WHOLE, AT(sample_every), 1, 1e9, "1", NULL,
     "steps between two samples: a step that it divides is handed over"},
    {"sample.echo_every", GE_WHOLE, AT(sample_echo_every), 1, 1e9, "10", NULL,
     "samples between two echo measurements; the first sample is one"},
    {"layers.include", GE_GLOBS, AT(layers_include), 0, 0, "[\"*\"]", NULL,
     "globs: layers whose echo is measured (the others get noise statistics)"},
    {"layers.exclude", GE_GLOBS, AT(layers_exclude), 0, 0, "[]", NULL,
     "globs: layers taken out of layers.include"},
    {"layers.max_modes", GE_WHOLE, AT(layers_max_modes), 1, GE_MODES_MAX, "16",
     NULL, "singular modes per layer"},
    {"layers.per_sample", GE_WHOLE, AT(layers_per_sample), 0, 1e6, "0", NULL,
     "layers whose echo is measured in one echo sample, in turn; 0: all"},
    {"svd.tolerance", GE_REAL, AT(svd_tolerance), 0, 0.1, "1e-3", NULL,
     "relative residual at which a singular mode is found; 0: LAPACK's "
     "complete SVD, exact and slow"},
    {"svd.oversample", GE_WHOLE, AT(svd_oversample), 0, 512, "8", NULL,
     "modes of a replica beyond max_modes that take part in the matching"},
    {"svd.placement", GE_WORD, AT(svd_placement), 0, 0, "spread", placements,
     "who decomposes the mean gradient: rank 0, or all ranks by cost"},
    {"svd.threads", GE_WHOLE, AT(svd_threads), 1, 256, "1", NULL,
     "BLAS threads of one monitor; more than one spin on the training's cores"},
    {"echo.estimator", GE_WORD, AT(echo_estimator), 0, 0, "loo", estimators,
     "leave-one-out echo, the reverb cross-check, or both"},
    {"echo.partners", GE_WHOLE, AT(echo_partners), 1, 4096, "8", NULL,
     "replicas whose gradients test whether another replica's mode is signal"},
    {"echo.replicas_max", GE_WHOLE, AT(echo_replicas_max), 2, 4096, "64", NULL,
     "most replicas for reverb, which compares all pairs; beyond it is NaN"},
    {"reduce.mean", GE_WORD, AT(reduce_mean), 0, 0, "network", means,
     "who forms the mean gradient: the monitors, or the training's allreduce, "
     "where trainers hand it over; a rounding error e of it adds K e^2 to the "
     "noise"},
    {"noise.half_life", GE_REAL, AT(noise_half_life), 0.01, 1e9, "20", NULL,
     "samples after which a sample weighs half in noise_scale_smooth"},
    {"fit.weights", GE_WORD, AT(fit_weights), 0, 0, "delta", weights,
     "weights of the tau2 fit: by the delta method, or all equal"},
    {"log.path", GE_TEXT, AT(log_path), 0, 4095, "\"gradecho.h5\"", NULL,
     "the log; --log goes first"},
    {"log.flush_every", GE_WHOLE, AT(log_flush_every), 1, 1e6, "1", NULL,
     "samples between two commits to disk"},
    {"alarms.same_data", GE_REAL, AT(alarm_same_data), 0, 1, "0.9", NULL,
     "two replicas whose noise correlates above this read the same data; 0: "
     "off"},
    {"alarms.not_finite", GE_WORD, AT(alarm_not_finite), 0, 0, "true", switches,
     "replicas whose gradient of a layer is missing or not finite"},
    {"alarms.lost", GE_WORD, AT(alarm_lost), 0, 0, "true", switches,
     "replicas that hand nothing over"},
    {"alarms.hot_replica", GE_REAL, AT(alarm_hot_replica), 0, 1e9, "2", NULL,
     "a replica more than so many times as noisy as the mean of all; 0: off"},
    {"alarms.dropped", GE_REAL, AT(alarm_dropped), 0, 1, "0", NULL,
     "share of the last samples that were dropped; 0: off"},
    {"alarms.noise_scale", GE_REAL, AT(alarm_noise_scale), 0, 1e15, "0", NULL,
     "noise scale of the whole model, in examples; 0: off"},
    {"alarms.layer_noise_scale", GE_REAL, AT(alarm_layer_noise_scale), 0, 1e15,
     "0", NULL, "noise scale of any layer, in examples; 0: off"},
    {"alarms.knee", GE_REAL, AT(alarm_knee), 0, 1e300, "0", NULL,
     "knee (tau2_edge) of any layer, in units of the squared gradient; 0: off"},
    {"alarms.pure_noise", GE_WHOLE, AT(alarm_pure_noise), 0, 1e6, "0", NULL,
     "a layer without a signal mode for so many echo samples, which before had "
     "some for as many; 0: off"},
    {"alarms.layers", GE_GLOBS, AT(alarm_layers), 0, 0, "[\"*\"]", NULL,
     "globs: layers that the rules on layers look at"},
    {"alarms.samples", GE_WHOLE, AT(alarm_samples), 2, 1000, "10", NULL,
     "samples behind an average; an alarm is over when its rule has not held "
     "for as many"},
    {"alarms.command", GE_TEXT, AT(alarm_command), 0, 4095, "\"\"", NULL,
     "shell command that rank 0 runs for an alarm that is raised "
     "(docs/operations.md); empty: none"},
    {"prometheus.path", GE_TEXT, AT(prometheus_path), 0, 4000, "\"\"", NULL,
     "text file for the node exporter, *.prom; empty: none"},
    {"prometheus.every_seconds", GE_REAL, AT(prometheus_seconds), 0, 1e6, "10",
     NULL, "shortest time between two writes of it"},
    {"on_rank_loss", GE_WORD, AT(on_rank_loss), 0, 0, "continue", losses,
     "a trainer that dies: go on with fewer replicas, or end the monitor"},
    {"timeout_seconds", GE_REAL, AT(timeout_seconds), 1, 1e6, "300", NULL,
     "longest wait for another monitor before the job is given up"},
};
_Static_assert(sizeof ge_keys / sizeof *ge_keys == GE_KEYS, "count the keys");

void ge_globs_clear(struct ge_globs *globs)
{
    for (size_t i = 0; i < globs->count; i++)
        free(globs->item[i]);
    free(globs->item);
    *globs = (struct ge_globs){0};
}

gradecho_status ge_config_init(struct ge_config *config)
{
    gradecho_status status = GRADECHO_OK;

    *config = (struct ge_config){0};
    for (size_t i = 0; i < GE_KEYS; i++)
        GE_TRY(ge_key_set(config, &ge_keys[i], ge_keys[i].initial, "default"));
    return GRADECHO_OK;
fail:
    ge_config_fini(config);
    return status;
}

void ge_config_fini(struct ge_config *config)
{
    free(config->session);
    free(config->log_path);
    ge_globs_clear(&config->layers_include);
    free(config->alarm_command);
    free(config->prometheus_path);
    ge_globs_clear(&config->layers_exclude);
    ge_globs_clear(&config->alarm_layers);
    *config = (struct ge_config){0};
}

/* The character that begins at `c`; its length in bytes in *length. What
 * libyaml has read is valid UTF-8. */
static unsigned long character_at(const unsigned char *c, size_t *length)
{
    unsigned long code = *c;

    *length = *c < 0x80 ? 1 : *c < 0xE0 ? 2 : *c < 0xF0 ? 3 : 4;
    if (*length > 1)
        code &= 0x7FU >> *length;
    for (size_t i = 1; i < *length; i++)
        code = code << 6 | (c[i] & 0x3FU);
    return code;
}

/* A double-quoted YAML scalar. Controls, line ends and byte order marks are
 * not themselves between quotes. */
static void print_text(const char *text, FILE *out)
{
    size_t length = 1;

    fputc('"', out);
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0';
         c += length) {
        const unsigned long code = character_at(c, &length);

        if (code == '"' || code == '\\')
            fprintf(out, "\\%c", *c);
        else if (code < 0x20 || (code >= 0x7F && code < 0xA0) ||
                 code == 0x2028 || code == 0x2029 || code == 0xFEFF ||
                 code == 0xFFFE || code == 0xFFFF)
            fprintf(out, "\\u%04lX", code);
        else
            fwrite(c, 1, length, out);
    }
    fputc('"', out);
}

/* The shortest form that reads back as the same number. */
static void print_real(double value, FILE *out)
{
    char text[32];
    int digits = 1;

    do {
        snprintf(text, sizeof text, "%.*g", digits, value);
    } while (strtod(text, NULL) != value && digits++ < 17);
    if (value == floor(value) && fabs(value) < 1e15)
        snprintf(text, sizeof text, "%.0f", value);
    fputs(text, out);
}

static void print_value(const struct ge_config *config,
                        const struct ge_key *key, FILE *out)
{
    const struct ge_globs *globs = NULL;

    switch (key->kind) {
    case GE_WHOLE:
        fprintf(out, "%lld", (long long)*GE_CONST_FIELD(config, key, int64_t));
        break;
    case GE_REAL:
        print_real(*GE_CONST_FIELD(config, key, double), out);
        break;
    case GE_WORD:
        fputs(key->words[*GE_CONST_FIELD(config, key, int64_t)], out);
        break;
    case GE_TEXT:
        print_text(*GE_CONST_FIELD(config, key, char *const), out);
        break;
    case GE_GLOBS:
        globs = GE_CONST_FIELD(config, key, struct ge_globs);
        fputc('[', out);
        for (size_t i = 0; i < globs->count; i++) {
            fputs(i > 0 ? ", " : "", out);
            print_text(globs->item[i], out);
        }
        fputc(']', out);
        break;
    }
}

bool ge_config_key(size_t index, struct ge_config_key *out)
{
    const struct ge_key *key = &ge_keys[index < GE_KEYS ? index : 0];

    *out = (struct ge_config_key){key->name, key->help, key->initial, "",
                                  key->kind == GE_WORD ? key->words : NULL};
    if (key->kind == GE_WHOLE || key->kind == GE_REAL)
        snprintf(out->range, sizeof out->range, "%g to %g", key->least,
                 key->most);
    for (size_t i = 0; out->words != NULL && out->words[i] != NULL; i++) {
        const size_t used = strlen(out->range);

        snprintf(out->range + used, sizeof out->range - used, "%s%s",
                 i > 0 ? " | " : "", out->words[i]);
    }
    return index < GE_KEYS;
}

static void print_help(size_t index, const char *indent, FILE *out)
{
    struct ge_config_key key;

    (void)ge_config_key(index, &key);
    fprintf(out, "%s# %s", indent, key.help);
    fprintf(out, key.range[0] != '\0' ? " (%s)\n" : "%s\n", key.range);
}

bool ge_config_print(const struct ge_config *config, bool help, FILE *out)
{
    const char *group = "";
    size_t group_length = 0;

    for (size_t i = 0; i < GE_KEYS; i++) {
        const char *dot = strchr(ge_keys[i].name, '.');
        const char *leaf = dot != NULL ? dot + 1 : ge_keys[i].name;
        const size_t length = (size_t)(leaf - ge_keys[i].name);

        if (length != group_length ||
            strncmp(group, ge_keys[i].name, length) != 0) {
            group = ge_keys[i].name;
            group_length = length;
            if (length > 0)
                fprintf(out, "%.*s:\n", (int)length - 1, group);
        }
        if (help)
            print_help(i, length > 0 ? "  " : "", out);
        fprintf(out, "%s%s: ", length > 0 ? "  " : "", leaf);
        print_value(config, &ge_keys[i], out);
        fputc('\n', out);
    }
    return ferror(out) == 0;
}

bool ge_globs_match(const struct ge_globs *globs, const char *name)
{
    for (size_t i = 0; i < globs->count; i++)
        if (fnmatch(globs->item[i], name, 0) == 0)
            return true;
    return false;
}
