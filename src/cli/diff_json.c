/*
 * The differences of two runs as JSON: docs/inspect-json.md.
 */
#include <jansson.h>
#include <math.h>

#include "diff.h"
#include "try.h"

enum { DIFF_VERSION = 1 };

/* jansson refuses what is missing, so that memory that is short shows in the
 * object that all of it is put into. */
static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

/* Gives up the list if it is not whole. */
static json_t *whole_or_null(json_t *list, bool whole)
{
    if (whole)
        return list;
    json_decref(list);
    return NULL;
}

static json_t *run_object(const struct ge_diff *d, int i)
{
    const struct ge_diff_run *run = &d->run[i];
    json_t *only = json_array();
    bool whole = true;

    for (size_t l = 0; l < d->only_count[i]; l++)
        whole = json_array_append_new(
                    only,
                    json_string(run->facts->layers[d->only[i][l]].name)) == 0 &&
                whole;
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:o}", "log", run->path,
                     "session", run->facts->session, "samples",
                     (json_int_t)run->samples, "first_step",
                     (json_int_t)run->first, "last_step", (json_int_t)run->last,
                     "only", whole_or_null(only, whole));
}

static json_t *settings(const struct ge_diff *d)
{
    json_t *list = json_array();
    bool whole = true;

    for (size_t i = 0; i < d->setting_count; i++) {
        const struct ge_diff_setting *s = &d->settings[i];

        whole = json_array_append_new(
                    list, json_pack("{s:s, s:s?, s:s?}", "name", s->name, "a",
                                    s->value[0], "b", s->value[1])) == 0 &&
                whole;
    }
    return whole_or_null(list, whole);
}

static json_t *items(const struct ge_diff *d)
{
    json_t *list = json_array();
    bool whole = true;

    for (size_t i = 0; i < d->count; i++) {
        const struct ge_diff_item *item = &d->items[i];
        const struct ge_diff_info *info = &ge_diff_numbers[item->what];

        whole = json_array_append_new(
                    list, json_pack("{s:s?, s:s, s:s, s:o, s:o, s:o, s:o, s:o}",
                                    "layer", item->layer, "number", info->name,
                                    "units", info->units, "a",
                                    number(item->run[0].value), "a_se",
                                    number(item->run[0].se), "b",
                                    number(item->run[1].value), "b_se",
                                    number(item->run[1].se), "z",
                                    number(item->z))) == 0 &&
                whole;
    }
    return whole_or_null(list, whole);
}

gradecho_status ge_diff_json(const struct ge_diff *d, FILE *out)
{
    gradecho_status status = GRADECHO_OK;
    json_t *root = json_pack(
        "{s:i, s:o, s:o, s:o, s:I, s:I, s:I, s:f, s:o}", "diff_version",
        DIFF_VERSION, "a", run_object(d, 0), "b", run_object(d, 1), "settings",
        settings(d), "compared", (json_int_t)d->count, "beyond_2",
        (json_int_t)d->beyond, "beyond_strict", (json_int_t)d->hold, "strict",
        d->strict, "differences", items(d));
    const bool printed =
        root != NULL &&
        json_dumpf(root, out, JSON_INDENT(2) | JSON_REAL_PRECISION(12)) == 0 &&
        fputc('\n', out) != EOF;

    json_decref(root);
    GE_FAIL_IF(!printed && !ferror(out), GRADECHO_E_NOMEM,
               "no memory for the JSON of %s and %s", d->run[0].path,
               d->run[1].path);
fail:
    return status;
}
