/*
 * Advice as JSON: docs/inspect-json.md.
 */
#include <math.h>

#include "advice_json.h"

/* jansson refuses what is missing, so that memory that is short shows in the
 * object that all of it is put into. */
static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *words(const char *text)
{
    return text != NULL ? json_string(text) : json_null();
}

static json_t *told(const struct ge_told *told, const char *name)
{
    return json_pack("{s:o, s:o, s:o}", name, number(told->value), "se",
                     number(told->se), "silent",
                     words(ge_silence_name(told->silence)));
}

static json_t *critical(const struct ge_advice *a)
{
    json_t *made = told(&a->critical, "batch");
    json_t *more = json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o}", "low", number(a->low), "high",
        number(a->high), "at_least", number(a->at_least), "progress_half",
        number(a->progress[0]), "progress", number(a->progress[1]),
        "progress_double", number(a->progress[2]));
    const int failed = more == NULL || json_object_update(made, more) != 0;

    json_decref(more);
    if (!failed)
        return made;
    json_decref(made);
    return NULL;
}

static json_t *knees(const struct ge_advice *a)
{
    json_t *list = json_array();
    bool whole = true;

    for (int i = 0; i < GE_ADVICE_SHARES; i++) {
        json_t *made = told(&a->knee[i], "batch");

        whole = whole &&
                json_object_set_new(made, "share",
                                    json_real(ge_advice_shares[i])) == 0 &&
                json_object_set_new(made, "low", number(a->knee_low[i])) == 0 &&
                json_object_set_new(made, "high", number(a->knee_high[i])) == 0;
        whole = json_array_append_new(list, made) == 0 && whole;
    }
    if (whole)
        return list;
    json_decref(list);
    return NULL;
}

static json_t *counts(const struct ge_advice *a)
{
    json_t *list = json_array();
    bool whole = true;

    for (int i = 0; i < GE_ADVICE_BATCHES; i++)
        whole = json_array_append_new(
                    list, json_pack("{s:o, s:o, s:o}", "batch",
                                    number(a->batch * ge_advice_batches[i]),
                                    "modes", number(a->above[i].modes), "se",
                                    number(a->above[i].se))) == 0 &&
                whole;
    if (whole)
        return list;
    json_decref(list);
    return NULL;
}

json_t *ge_advice_json(const struct ge_advice *a)
{
    json_t *saving = told(&a->saving, "part");

    if (json_object_set_new(saving, "rest", number(a->rest)) != 0) {
        json_decref(saving);
        saving = NULL;
    }
    return json_pack("{s:o, s:o, s:I, s:I, s:I, s:o, s:o, s:o, s:o}", "batch",
                     number(a->batch), "critical", critical(a),
                     "measured_modes", (json_int_t)a->measured, "signal_modes",
                     (json_int_t)a->signal, "small_echo_modes",
                     (json_int_t)a->small, "knee", knees(a), "above_knee",
                     counts(a), "trust", told(&a->trust, "modes"), "saving",
                     saving);
}
