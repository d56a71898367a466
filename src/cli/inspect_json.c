/*
 * The JSON of `gradecho inspect --json`: the digest as one object. Every field
 * of the schema stands under its own name; missing numbers are null.
 */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#include "advice_json.h"
#include "inspect.h"
#include "memory.h"
#include "try.h"
#include "verdict.h"

/* Of the JSON: grows when a name or a meaning changes, not with a new name. */
enum { INSPECT_VERSION = 1 };

static json_t *value(double number, bool integer)
{
    if (!isfinite(number) || (integer && number < 0.0))
        return json_null();
    return integer ? json_integer((json_int_t)number) : json_real(number);
}

/* Give up a value that is not whole. jansson refuses what is missing, so that
 * each of its failures shows where the value is put into another one. */
static json_t *drop(json_t *made)
{
    json_decref(made);
    return NULL;
}

/* Field values first .. first + count - 1: a scalar, or a list. */
static json_t *values(const struct ge_row *row, enum ge_field field,
                      size_t first, size_t count, bool list)
{
    const bool integer = ge_fields[field].type == GE_I64;
    json_t *array = NULL;

    if (!list)
        return value(row->values[field][first], integer);
    array = json_array();
    for (size_t i = 0; i < count; i++)
        if (json_array_append_new(
                array, value(row->values[field][first + i], integer)) != 0)
            return drop(array);
    return array;
}

/* A layer's part of a field: noise of the row shown, mode fields of the layer's
 * last row with echoes. */
static json_t *layer_values(const struct ge_digest *d, size_t l,
                            enum ge_field field)
{
    const struct ge_dimensions *dims = &d->row.dims;

    switch (ge_fields[field].shape) {
    case GE_PER_REPLICA:
        return values(&d->row, field, l * dims->replicas, dims->replicas, true);
    case GE_PER_MODE:
        return values(&d->echo, field, l * dims->modes, dims->modes, true);
    default:
        return values(&d->row, field, l, 1, false);
    }
}

static bool is_of_step(enum ge_field field)
{
    return ge_fields[field].shape == GE_PER_STEP ||
           ge_fields[field].shape == GE_PER_PAIR;
}

static json_t *layer_object(const struct ge_digest *d, size_t l,
                            const struct ge_advice *advice)
{
    const struct ge_log_layer *layer = &d->facts->layers[l];
    json_t *object = json_pack(
        "{s:s, s:I, s:I, s:o, s:o, s:o, s:o}", "layer", layer->name, "rows",
        (json_int_t)layer->rows, "cols", (json_int_t)layer->cols, "echo_step",
        value((double)d->echo_step[l], true), "sigma2_average",
        value(d->sigma2[l], false), "noise_scale_average",
        value(d->noise_scale[l], false), "advice", ge_advice_json(advice));

    for (int f = 0; f < GE_FIELDS; f++) {
        const enum ge_field field = (enum ge_field)f;

        if (!is_of_step(field) &&
            json_object_set_new(object, ge_fields[f].name,
                                layer_values(d, l, field)) != 0)
            return drop(object);
    }
    return object;
}

static json_t *verdict_list(const struct ge_digest *d)
{
    struct ge_verdict list[GE_VERDICTS_MAX];
    const size_t count = ge_verdicts(d, list);
    json_t *array = json_array();

    for (size_t i = 0; i < count; i++)
        if (json_array_append_new(
                array, json_pack("{s:s, s:s, s:s, s:o, s:o, s:s?}", "severity",
                                 ge_severity_name(list[i].severity), "kind",
                                 list[i].kind, "text", list[i].text, "value",
                                 value(list[i].value, false), "threshold",
                                 value(list[i].threshold, false), "layer",
                                 list[i].layer)) != 0)
            return drop(array);
    return array;
}

/* The layers for which a rule is raised in the row shown. */
static json_t *alarm_layers(const struct ge_digest *d, enum ge_rule rule)
{
    json_t *array = json_array();

    for (size_t l = 0; l < d->row.dims.layers; l++)
        if (ge_rule_raised(d->row.values[GE_LAYER_ALARMS][l], rule) &&
            json_array_append_new(array,
                                  json_string(d->facts->layers[l].name)) != 0)
            return drop(array);
    return array;
}

static json_t *alarm_list(const struct ge_digest *d)
{
    json_t *array = json_array();

    for (size_t i = 0; i < d->alarms.count; i++) {
        const struct ge_alarm_span *span = &d->alarms.span[i];

        if (json_array_append_new(
                array, json_pack("{s:s, s:I, s:I, s:b, s:o}", "rule",
                                 ge_rule_names[span->rule], "first_step",
                                 (json_int_t)span->first, "last_step",
                                 (json_int_t)span->last, "raised", span->raised,
                                 "layers",
                                 span->raised ? alarm_layers(d, span->rule)
                                              : json_array())) != 0)
            return drop(array);
    }
    return array;
}

/* All of it; NULL if memory is short. advice [layers, then the whole model]. */
static json_t *digest_object(const struct ge_digest *d,
                             const struct ge_advice *advice)
{
    json_t *layers = json_array();
    json_t *root = json_pack(
        "{s:i, s:s, s:s, s:I, s:I, s:b, s:I, s:o, s:I, s:o}", "inspect_version",
        INSPECT_VERSION, "log", d->path, "session", d->facts->session,
        "world_size", (json_int_t)d->facts->world_size, "samples",
        (json_int_t)d->rows, "clean_close", d->facts->end == GE_LOG_CLOSED,
        "step", (json_int_t)d->row.step, "echo_step",
        d->echo.step >= 0 ? json_integer((json_int_t)d->echo.step)
                          : json_null(),
        "averaged", (json_int_t)d->averaged, "noise_scale_average",
        value(d->model_scale, false));
    bool whole = true;

    for (int f = 0; f < GE_FIELDS; f++) {
        const enum ge_field field = (enum ge_field)f;

        if (is_of_step(field))
            whole = whole && json_object_set_new(root, ge_fields[f].name,
                                                 values(&d->row, field, 0, 2,
                                                        ge_fields[f].shape ==
                                                            GE_PER_PAIR)) == 0;
    }
    for (size_t l = 0; l < d->row.dims.layers; l++)
        if (d->shown[l])
            whole = whole && json_array_append_new(
                                 layers, layer_object(d, l, &advice[l])) == 0;
    whole =
        whole && json_object_set_new(root, "verdicts", verdict_list(d)) == 0;
    whole =
        whole && json_object_set_new(root, "alarm_history", alarm_list(d)) == 0;
    whole = whole && json_object_set_new(
                         root, "advice",
                         ge_advice_json(&advice[d->row.dims.layers])) == 0;
    /* Takes the layers, whether it succeeds or not. */
    if (json_object_set_new(root, "layers", layers) != 0 || !whole)
        return drop(root);
    return root;
}

gradecho_status ge_inspect_json(const struct ge_digest *d, FILE *out)
{
    gradecho_status status = GRADECHO_OK;
    const size_t layers = d->row.dims.layers;
    struct ge_advice *advice = ge_alloc(layers + 1, sizeof *advice);
    json_t *root = NULL;
    bool printed = false;

    GE_FAIL_IF(advice == NULL, GRADECHO_E_NOMEM, "no memory for %zu layers",
               layers);
    for (size_t l = 0; l < layers; l++)
        if (d->shown[l])
            GE_TRY(ge_advise(d, l, &advice[l]));
    GE_TRY(ge_advise(d, GE_WHOLE_MODEL, &advice[layers]));
    root = digest_object(d, advice);
    printed =
        root != NULL &&
        json_dumpf(root, out, JSON_INDENT(2) | JSON_REAL_PRECISION(12)) == 0 &&
        fputc('\n', out) != EOF;
    GE_FAIL_IF(!printed && !ferror(out), GRADECHO_E_NOMEM,
               "no memory for the JSON of %s", d->path);
fail:
    json_decref(root);
    free(advice);
    return status;
}
