#include "verdict.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>

#define NOISY 4.0    /* noise scale over batch: noise rules */
#define WASTEFUL 4.0 /* batch over noise scale: more data buys nothing */
#define HOT 2.0      /* noise of one replica over the mean of all */
#define DROPPED 0.1  /* of all samples */

struct list {
    struct ge_verdict *verdicts;
    size_t count;
};

__attribute__((format(printf, 7, 8))) static void say(
    struct list *list, enum ge_severity severity, const char *kind,
    double value, double threshold, const char *layer, const char *format, ...)
{
    struct ge_verdict *made = &list->verdicts[list->count];
    va_list arguments;

    if (list->count == GE_VERDICTS_MAX)
        return;
    list->count++;
    *made = (struct ge_verdict){.severity = severity,
                                .kind = kind,
                                .value = value,
                                .threshold = threshold,
                                .layer = layer};
    va_start(arguments, format);
    vsnprintf(made->text, sizeof made->text, format, arguments);
    va_end(arguments);
}

static const char *name(const struct ge_digest *d, size_t l)
{
    return d->facts->layers[l].name;
}

/* One replica per rank: then their numbers are the ranks'. */
static const char *replica_word(const struct ge_digest *d)
{
    return (double)d->facts->world_size == (double)d->row.dims.replicas
               ? "rank"
               : "replica";
}

/* Examples behind one step of the training. */
static double whole_batch(const struct ge_digest *d)
{
    return d->row.values[GE_BATCH_SIZE][0] * d->row.values[GE_REPLICAS][0];
}

static void judge_copies(const struct ge_digest *d, struct list *list)
{
    const double correlation = d->row.values[GE_CORRELATION][0];
    const double *pair = d->row.values[GE_CORRELATION_PAIR];

    if (!(correlation > GE_SAME_DATA) || pair[0] < 0.0 || pair[1] < 0.0)
        return;
    say(list, GE_ALARM, "same_data", correlation, GE_SAME_DATA, NULL,
        "%ss %.0f and %.0f read the same data since step %lld: correlation of "
        "their noise %.2f, above %.1f",
        replica_word(d), pair[0], pair[1], d->same_since, correlation,
        GE_SAME_DATA);
}

static void judge_missing(const struct ge_digest *d, struct list *list)
{
    const double present = d->row.values[GE_REPLICAS][0];
    size_t worst = 0, hit = 0;
    double most = 0.0;

    for (size_t l = 0; l < d->row.dims.layers; l++) {
        const double used = d->row.values[GE_LAYER_REPLICAS][l];

        if (!d->shown[l] || used < 0.0 || !(used < present))
            continue;
        hit++;
        if (present - used > most) {
            most = present - used;
            worst = l;
        }
    }
    if (hit == 1)
        say(list, GE_ALARM, "not_finite", most, 0.0, name(d, worst),
            "%s: %.0f of %.0f replicas missing or not finite", name(d, worst),
            most, present);
    else if (hit > 1)
        say(list, GE_ALARM, "not_finite", most, 0.0, name(d, worst),
            "%s: %.0f of %.0f replicas missing or not finite, and some in %zu "
            "other layers",
            name(d, worst), most, present, hit - 1);
}

static void judge_lost(const struct ge_digest *d, struct list *list)
{
    const double present = d->row.values[GE_REPLICAS][0];
    const double all = (double)d->row.dims.replicas;

    if (present >= 0.0 && present < all)
        say(list, GE_ALARM, "lost", all - present, 0.0, NULL,
            "%.0f of %.0f %ss handed nothing over in this sample",
            all - present, all, replica_word(d));
}

/* The replica that is above the threshold in most layers. */
static void judge_hot(const struct ge_digest *d, struct list *list)
{
    const size_t replicas = d->row.dims.replicas;
    size_t worst = 0, worst_layer = 0, most = 0;
    double height = 0.0;

    for (size_t a = 0; a < replicas; a++) {
        size_t layers = 0, top = 0;
        double ratio = 0.0;

        for (size_t l = 0; l < d->row.dims.layers; l++) {
            const struct ge_spread *s = &d->replica[l * replicas + a];

            if (!d->shown[l] || !ge_spread_above(s, 1.0, HOT))
                continue;
            layers++;
            if (s->x > ratio) {
                ratio = s->x;
                top = l;
            }
        }
        if (layers > most || (layers == most && ratio > height)) {
            worst = a;
            worst_layer = top;
            most = layers;
            height = ratio;
        }
    }
    if (most > 0)
        say(list, GE_ALARM, "hot_replica", height, HOT, name(d, worst_layer),
            "%s %zu is %.1f times as noisy as the mean of all in %s, above "
            "%.0f times in %zu layer%s",
            replica_word(d), worst, height, name(d, worst_layer), HOT, most,
            most == 1 ? "" : "s");
}

static void judge_dropped(const struct ge_digest *d, struct list *list)
{
    const double dropped = d->row.values[GE_DROPPED][0];
    const double all = dropped + (double)d->rows;

    if (d->rows >= 2 && dropped > DROPPED * all)
        say(list, GE_CAUTION, "dropped", dropped / all, DROPPED, NULL,
            "%.0f of %.0f samples were dropped, more than %.0f %%: raise "
            "sample.every or sample.echo_every",
            dropped, all, 100.0 * DROPPED);
}

static void judge_noise(const struct ge_digest *d, struct list *list)
{
    const double batch = d->row.values[GE_BATCH_SIZE][0];
    const double total = whole_batch(d);
    size_t noisy = 0, counted = 0, worst = 0;
    double most = 0.0;
    char text[32];

    for (size_t l = 0; l < d->row.dims.layers; l++) {
        double scale = d->noise_scale[l];

        if (!d->shown[l] || !(d->noise[l].count >= 2.0))
            continue;
        counted++;
        if (!ge_spread_above(&d->noise[l], batch, NOISY * total))
            continue;
        noisy++;
        scale = scale < 0.0 ? (double)INFINITY : scale;
        if (scale > most) {
            most = scale;
            worst = l;
        }
    }
    if (noisy > 0)
        say(list, GE_CAUTION, "noise_dominated", most, NOISY * total,
            name(d, worst),
            "%zu of %zu layers are noise-dominated at this batch size: noise "
            "scale above %.0f x %.0f examples, most in %s (%s)",
            noisy, counted, NOISY, total, name(d, worst),
            ge_show_scale(most, text, sizeof text));
}

static void judge_batch(const struct ge_digest *d, struct list *list)
{
    const double batch = d->row.values[GE_BATCH_SIZE][0];
    const double total = whole_batch(d);
    const struct ge_spread model = d->model;
    /* total / WASTEFUL > batch trace / square */
    const struct ge_spread turned = {.count = model.count,
                                     .x = model.y,
                                     .y = model.x,
                                     .xx = model.yy,
                                     .xy = model.xy,
                                     .yy = model.xx};

    if (ge_spread_above(&turned, total / WASTEFUL, batch))
        say(list, GE_NOTE, "batch_large", d->model_scale, total / WASTEFUL,
            NULL,
            "a smaller batch would do: noise scale of the whole model %.0f, "
            "below 1/%.0f of %.0f examples",
            d->model_scale, WASTEFUL, total);
}

/* How far chance alone may move the root mean square of law minus echo: that
 * of the standard errors of the echoes behind it. NaN if one is not known. */
static double misfit_error(const struct ge_digest *d, size_t l)
{
    const size_t first = l * d->row.dims.modes;
    const size_t modes = ge_row_modes(&d->echo, l);
    double squares = 0.0;
    size_t counted = 0;

    for (size_t at = first; at < first + modes; at++) {
        const double error = d->echo.values[GE_ECHO_SE][at];

        if (!ge_row_is_signal(&d->echo, modes, at))
            continue;
        squares += error * error;
        counted++;
    }
    return counted > 0 ? sqrt(squares / (double)counted) : (double)NAN;
}

static void judge_law(const struct ge_digest *d, struct list *list)
{
    size_t worst = 0, off = 0;
    double most = 0.0;
    char rest[64] = "";

    for (size_t l = 0; d->echo.step >= 0 && l < d->row.dims.layers; l++) {
        const double misfit = d->echo.values[GE_MISFIT_EXACT][l];

        if (!d->shown[l] || !(misfit - 2.0 * misfit_error(d, l) > GE_LAW_OFF))
            continue;
        off++;
        if (misfit > most) {
            most = misfit;
            worst = l;
        }
    }
    if (off == 0)
        return;
    if (off > 1)
        snprintf(rest, sizeof rest, " and above %.1f in %zu more layer%s",
                 GE_LAW_OFF, off - 1, off == 2 ? "" : "s");
    say(list, GE_CAUTION, "law_off", most, GE_LAW_OFF, name(d, worst),
        "isotropic law off by %.2f in %s%s: use the measured echo", most,
        name(d, worst), off > 1 ? rest : ", above 0.2");
}

static void judge_signal(const struct ge_digest *d, struct list *list)
{
    size_t none = 0, measured = 0, first = 0;

    for (size_t l = 0; d->echo.step >= 0 && l < d->row.dims.layers; l++) {
        const double signal = d->echo.values[GE_SIGNAL_MODES][l];

        if (!d->shown[l] || !(signal >= 0.0) ||
            isnan(d->echo.values[GE_MODE_T][l * d->row.dims.modes]))
            continue;
        measured++;
        if (signal == 0.0 && none++ == 0)
            first = l;
    }
    if (none > 0)
        say(list, GE_NOTE, "no_signal", (double)none, 0.0, name(d, first),
            "in %zu of %zu layers no mode is signal: an optimizer that "
            "equalizes modes amplifies noise there (%s%s)",
            none, measured, name(d, first), none > 1 ? ", ..." : "");
}

static void judge_pair(const struct ge_digest *d, struct list *list)
{
    if (d->row.values[GE_REPLICAS][0] == 2.0)
        say(list, GE_NOTE, "two_replicas", 2.0, 3.0, NULL,
            "two replicas only: no standard errors, and signal modes assume "
            "that noise is alike along rows and columns");
}

size_t ge_verdicts(const struct ge_digest *digest,
                   struct ge_verdict verdicts[GE_VERDICTS_MAX])
{
    /* The order is the order of importance; see enum ge_severity. */
    static void (*const judges[])(const struct ge_digest *, struct list *) = {
        judge_copies, judge_missing, judge_lost,  judge_hot,    judge_dropped,
        judge_noise,  judge_law,     judge_batch, judge_signal, judge_pair};
    struct list list = {.verdicts = verdicts};

    for (size_t i = 0; i < sizeof judges / sizeof *judges; i++)
        judges[i](digest, &list);
    return list.count;
}

const char *ge_severity_name(enum ge_severity severity)
{
    static const char *const names[] = {"note", "caution", "alarm"};

    return names[severity];
}
