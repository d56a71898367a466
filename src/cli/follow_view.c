#include "follow_view.h"

#include <fnmatch.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "try.h"

enum { LEVELS = 8 };

static const char *const blocks[LEVELS + 1] = {" ", "▁", "▂", "▃", "▄",
                                               "▅", "▆", "▇", "█"};
static const char *const digits[LEVELS + 1] = {".", "1", "2", "3", "4",
                                               "5", "6", "7", "8"};

static bool passes(const struct ge_view *view, size_t l)
{
    const char *name = view->follow.facts.layers[l].name;

    return view->follow.digest.shown[l] &&
           (strstr(name, view->filter) != NULL ||
            fnmatch(view->filter, name, 0) == 0);
}

/* What the layer is sorted by: the largest comes first. */
static double weight(const struct ge_view *view, size_t l)
{
    const struct ge_digest *d = &view->follow.digest;
    double value = 0.0;

    switch (view->sort) {
    case GE_SORT_NOISE:
        value = d->noise_scale[l];
        if (value < 0.0)
            value = (double)INFINITY;
        break;
    case GE_SORT_ECHO: /* the least real first */
        value = -d->echo.values[GE_ECHO][l * d->row.dims.modes];
        break;
    default:
        return 0.0;
    }
    return isnan(value) ? -(double)INFINITY : value;
}

static int compare(const void *left, const void *right, void *context)
{
    const struct ge_view *view = context;
    const size_t a = *(const size_t *)left, b = *(const size_t *)right;
    const double x = weight(view, a), y = weight(view, b);

    if (x != y)
        return x > y ? -1 : 1;
    if (view->sort == GE_SORT_NAME)
        return strcmp(view->follow.facts.layers[a].name,
                      view->follow.facts.layers[b].name);
    return a < b ? -1 : 1;
}

gradecho_status ge_view_arrange(struct ge_view *view)
{
    gradecho_status status = GRADECHO_OK;
    const size_t layers =
        view->follow.loaded ? view->follow.facts.dims.layers : 0;

    free(view->order);
    view->order = NULL;
    view->count = 0;
    if (layers == 0)
        return GRADECHO_OK;
    view->order = ge_alloc(layers, sizeof *view->order);
    GE_FAIL_IF(view->order == NULL, GRADECHO_E_NOMEM,
               "no memory for %zu layers", layers);
    for (size_t l = 0; l < layers; l++)
        if (passes(view, l))
            view->order[view->count++] = l;
    qsort_r(view->order, view->count, sizeof *view->order, compare, view);
    if (view->chosen >= layers)
        view->moved = view->opened = false;
    if (!view->moved)
        view->chosen = view->count > 0 ? view->order[0] : 0;
fail:
    return status;
}

size_t ge_view_place(const struct ge_view *view)
{
    for (size_t i = 0; i < view->count; i++)
        if (view->order[i] == view->chosen)
            return i;
    return 0;
}

void ge_view_move(struct ge_view *view, long places)
{
    const long last = (long)view->count - 1;
    long at = (long)ge_view_place(view) + places;

    if (view->count == 0)
        return;
    at = at < 0 ? 0 : at > last ? last : at;
    view->chosen = view->order[at];
    view->moved = true;
}

size_t ge_view_shared_prefix(const struct ge_view *view, size_t width)
{
    const struct ge_log_layer *layers = view->follow.facts.layers;
    size_t shared = 0, longest = 0;

    for (size_t i = 0; i < view->count; i++) {
        const char *first = layers[view->order[0]].name;
        const char *name = layers[view->order[i]].name;
        size_t same = 0;

        while (name[same] != '\0' && name[same] == first[same])
            same++;
        while (same > 0 && name[same - 1] != '.')
            same--;
        shared = i == 0 ? same : ge_min_size(shared, same);
        longest = ge_max_size(longest, strlen(name));
    }
    return longest > width ? shared : 0;
}

const char *ge_view_sort_name(enum ge_view_sort sort)
{
    static const char *const names[GE_SORTS] = {"noise", "echo", "name", "log"};

    return names[sort];
}

void ge_view_spark(const double *series, size_t count, size_t stride,
                   size_t width, bool unicode, char *text)
{
    const size_t from = count > width ? count - width : 0;
    double least = (double)INFINITY, most = -(double)INFINITY;

    *text = '\0';
    for (size_t i = from; i < count; i++) {
        const double x = series[i * stride];

        if (x < 0.0 || !isfinite(x))
            continue;
        least = fmin(least, x);
        most = fmax(most, x);
    }
    for (size_t i = from; i < count; i++) {
        const double x = series[i * stride];
        int level = LEVELS;

        if (isnan(x)) {
            text = stpcpy(text, " ");
            continue;
        }
        if (x >= 0.0 && isfinite(x))
            level = most > least
                        ? 1 + (int)((LEVELS - 1) * (x - least) / (most - least))
                        : LEVELS / 2;
        text = stpcpy(text, unicode ? blocks[level] : digits[level]);
    }
}

void ge_view_bars(const double *echoes, size_t count, size_t width,
                  bool unicode, char *text)
{
    *text = '\0';
    for (size_t k = 0; k < count && k < width && !isnan(echoes[k]); k++) {
        const int level = (int)lrint(LEVELS * fmin(fmax(echoes[k], 0.0), 1.0));

        text = stpcpy(text, unicode ? blocks[level] : digits[level]);
    }
}

/* The replica whose noise is the largest on average over layers. */
static double worst_replica(const struct ge_digest *d, size_t *replica)
{
    const size_t replicas = d->row.dims.replicas;
    double most = (double)NAN;

    for (size_t a = 0; a < replicas; a++) {
        double sum = 0.0, count = 0.0;

        for (size_t l = 0; l < d->row.dims.layers; l++) {
            const struct ge_spread *s = &d->replica[l * replicas + a];

            sum += s->count > 0.0 ? s->x : 0.0;
            count += s->count > 0.0 ? 1.0 : 0.0;
        }
        if (count > 0.0 && !(sum / count <= most)) {
            most = sum / count;
            *replica = a;
        }
    }
    return most;
}

void ge_view_health(const struct ge_view *view, double now, bool brief,
                    char *text, size_t size)
{
    const struct ge_digest *d = &view->follow.digest;
    const double *pair = d->row.values[GE_CORRELATION_PAIR];
    const char *one = brief ? "rep" : "worst replica";
    const char *two = brief ? "pair" : "worst pair";
    char replica[48], twins[48], lag[48] = "";
    size_t worst = 0;
    const double ratio = worst_replica(d, &worst);

    snprintf(replica, sizeof replica, "%s -", one);
    if (!isnan(ratio))
        snprintf(replica, sizeof replica, "%s %zu x%.2f", one, worst, ratio);
    snprintf(twins, sizeof twins, "%s -", two);
    if (!isnan(d->row.values[GE_CORRELATION][0]) && pair[0] >= 0.0)
        snprintf(twins, sizeof twins, "%s %.0f,%.0f %.2f", two, pair[0],
                 pair[1], d->row.values[GE_CORRELATION][0]);
    if (view->follow.state == GE_FOLLOW_LIVE &&
        !isnan(d->row.values[GE_TIME][0]))
        snprintf(lag, sizeof lag, "%slag %.0f s", brief ? " " : "  ",
                 fmax(0.0, now - d->row.values[GE_TIME][0]));
    snprintf(text, size, brief ? "%s %s drop %.0f%s" : "%s  %s  dropped %.0f%s",
             replica, twins, fmax(0.0, d->row.values[GE_DROPPED][0]), lag);
}
