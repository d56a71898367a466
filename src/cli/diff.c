#include "diff.h"

#include <fnmatch.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "try.h"

enum { BLOCK = 64 }; /* rows read at once */

const struct ge_diff_info ge_diff_numbers[GE_DIFF_NUMBERS] = {
    [GE_DIFF_SIGMA2] = {"sigma2", "[g]^2"},
    [GE_DIFF_NOISE_SCALE] = {"noise_scale", "examples"},
    [GE_DIFF_TAU2] = {"tau2_fit", "[g]^2"},
    [GE_DIFF_SIGNAL] = {"signal_modes", "1"},
    [GE_DIFF_ECHO] = {"echo_1", "1"},
    [GE_DIFF_ECHO + 1] = {"echo_2", "1"},
    [GE_DIFF_ECHO + 2] = {"echo_3", "1"}};

/* ---- one run ---- */

static const enum ge_field fields[] = {
    GE_BATCH_SIZE,  GE_REPLICAS, GE_SIGMA2,       GE_NOISE_TRACE,
    GE_GRAD_SQNORM, GE_TAU2_FIT, GE_SIGNAL_MODES, GE_ECHO};
enum { FIELDS = sizeof fields / sizeof *fields };

/* In the place of a layer in the other run: it is not compared. */
static const size_t alone = (size_t)-1;

static void widen(double range[2], double value)
{
    if (isnan(value))
        return;
    range[0] = fmin(range[0], value);
    range[1] = fmax(range[1], value);
}

/* Row `r` of those in `v` into the blocks, as sample `index` of the window.
 * other[l]: where the other run has the layer. */
static void add_row(struct ge_diff_run *run, const size_t *other, size_t r,
                    uint64_t index, double *const v[GE_FIELDS])
{
    const struct ge_dimensions *dims = &run->facts->dims;
    const double batch = v[GE_BATCH_SIZE][r];
    double trace = 0.0, square = 0.0;
    bool any = false;

    widen(run->batch, batch);
    widen(run->replicas, v[GE_REPLICAS][r]);
    for (size_t l = 0; l < dims->layers; l++) {
        const size_t at = r * dims->layers + l;
        struct ge_blocks *b = run->blocks + l * GE_DIFF_NUMBERS;
        const double signal = v[GE_SIGNAL_MODES][at];

        if (other[l] == alone)
            continue;
        ge_blocks_add(&b[GE_DIFF_SIGMA2], index, run->samples, v[GE_SIGMA2][at],
                      1.0);
        ge_blocks_add(&b[GE_DIFF_NOISE_SCALE], index, run->samples,
                      batch * v[GE_NOISE_TRACE][at], v[GE_GRAD_SQNORM][at]);
        ge_blocks_add(&b[GE_DIFF_TAU2], index, run->samples, v[GE_TAU2_FIT][at],
                      1.0);
        ge_blocks_add(&b[GE_DIFF_SIGNAL], index, run->samples,
                      signal < 0.0 ? (double)NAN : signal, 1.0);
        for (size_t k = 0; k < GE_DIFF_ECHOES && k < dims->modes; k++)
            ge_blocks_add(&b[GE_DIFF_ECHO + k], index, run->samples,
                          v[GE_ECHO][at * dims->modes + k], 1.0);
        if (isnan(v[GE_NOISE_TRACE][at]) || isnan(v[GE_GRAD_SQNORM][at]))
            continue;
        trace += v[GE_NOISE_TRACE][at];
        square += v[GE_GRAD_SQNORM][at];
        any = true;
    }
    if (any)
        ge_blocks_add(&run->model, index, run->samples, batch * trace, square);
}

static gradecho_status find_window(ge_log_reader *reader, long long since,
                                   struct ge_diff_run *run, uint64_t *first)
{
    gradecho_status status = GRADECHO_OK;
    uint64_t rows = 0, low = 0, high = 0;

    GE_TRY(ge_log_refresh(reader, &rows));
    GE_FAIL_IF(rows == 0, GRADECHO_E_INPUT, "%s holds no sample yet",
               run->path);
    for (high = rows; low < high;) { /* steps increase */
        const uint64_t middle = low + (high - low) / 2;
        int64_t step = 0;

        GE_TRY(ge_log_steps(reader, middle, 1, &step));
        if (step < since)
            low = middle + 1;
        else
            high = middle;
    }
    GE_FAIL_IF(low == rows, GRADECHO_E_INPUT,
               "%s has no sample from step %lld on", run->path, since);
    *first = low;
    run->samples = rows - low;
    GE_TRY(ge_log_steps(reader, low, 1, &run->first));
    GE_TRY(ge_log_steps(reader, rows - 1, 1, &run->last));
fail:
    return status;
}

static gradecho_status load_run(ge_log_reader *reader, const size_t *other,
                                long long since, struct ge_diff_run *run)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_dimensions *dims = &run->facts->dims;
    double *values[GE_FIELDS] = {NULL};
    uint64_t first = 0;

    GE_TRY(find_window(reader, since, run, &first));
    run->blocks = ge_alloc(dims->layers * GE_DIFF_NUMBERS, sizeof *run->blocks);
    GE_FAIL_IF(run->blocks == NULL, GRADECHO_E_NOMEM,
               "no memory for %zu layers", dims->layers);
    for (size_t f = 0; f < FIELDS; f++) {
        const size_t width = ge_shape_count(ge_fields[fields[f]].shape, dims);

        values[fields[f]] = ge_alloc(width, BLOCK * sizeof(double));
        GE_FAIL_IF(values[fields[f]] == NULL, GRADECHO_E_NOMEM,
                   "no memory for %d rows", BLOCK);
    }
    run->batch[0] = run->replicas[0] = (double)INFINITY;
    run->batch[1] = run->replicas[1] = -(double)INFINITY;
    for (uint64_t done = 0; done < run->samples; done += BLOCK) {
        const uint64_t rows =
            run->samples - done < BLOCK ? run->samples - done : BLOCK;

        for (size_t f = 0; f < FIELDS; f++)
            GE_TRY(ge_log_read(reader, fields[f], first + done, rows,
                               values[fields[f]]));
        for (size_t r = 0; r < rows; r++)
            add_row(run, other, r, done + r, values);
    }
fail:
    for (size_t f = 0; f < FIELDS; f++)
        free(values[fields[f]]);
    return status;
}

/* ---- both ---- */

static struct ge_average average_of(const struct ge_blocks *b,
                                    enum ge_diff_what what)
{
    struct ge_average made =
        what == GE_DIFF_NOISE_SCALE ? ge_blocks_ratio(b) : ge_blocks_mean_x(b);
    double samples = 0.0;

    if (what != GE_DIFF_SIGNAL)
        return made;
    /* A whole number that never changed is not known without error. */
    for (size_t i = 0; i < GE_BLOCKS; i++)
        samples += b->count[i];
    made.se = hypot(made.se, sqrt(1.0 / 12.0 / samples));
    return made;
}

/* Noise scales are compared as their inverse: gradient over noise has an error
 * like any average where the scale itself has no bound. */
static double difference_of(const struct ge_blocks *const b[2],
                            const struct ge_average run[2],
                            enum ge_diff_what what)
{
    struct ge_average inverse[2];

    if (what != GE_DIFF_NOISE_SCALE)
        return ge_average_difference(&run[1], &run[0]);
    for (int i = 0; i < 2; i++) {
        struct ge_blocks turned = *b[i];

        memcpy(turned.x, b[i]->y, sizeof turned.x);
        memcpy(turned.y, b[i]->x, sizeof turned.y);
        inverse[i] = ge_blocks_ratio(&turned);
    }
    return ge_average_difference(&inverse[0], &inverse[1]);
}

static void compare(struct ge_diff *d, const char *layer,
                    enum ge_diff_what what, const struct ge_blocks *a,
                    const struct ge_blocks *b)
{
    struct ge_diff_item *item = &d->items[d->count];
    const struct ge_blocks *const both[] = {a, b};

    *item = (struct ge_diff_item){
        .layer = layer,
        .what = what,
        .run = {average_of(a, what), average_of(b, what)}};
    item->z = difference_of(both, item->run, what);
    if (!isnan(item->z))
        d->count++;
}

static int by_significance(const void *left, const void *right)
{
    const double a = fabs(((const struct ge_diff_item *)left)->z);
    const double b = fabs(((const struct ge_diff_item *)right)->z);

    return (a < b) - (a > b);
}

/* |z| that one of `count` normal numbers exceeds with a chance of 5 %. */
static double strict_of(size_t count)
{
    double low = 0.0, high = 40.0;

    for (int i = 0; i < 60; i++) {
        const double z = (low + high) / 2.0;

        if (erfc(z / sqrt(2.0)) * (double)count > 0.05)
            low = z;
        else
            high = z;
    }
    return high;
}

static gradecho_status compare_all(struct ge_diff *d, const size_t *other)
{
    gradecho_status status = GRADECHO_OK;
    const size_t layers = d->run[0].facts->dims.layers;

    d->items = ge_alloc(layers * GE_DIFF_NUMBERS + 1, sizeof *d->items);
    GE_FAIL_IF(d->items == NULL, GRADECHO_E_NOMEM, "no memory for %zu layers",
               layers);
    compare(d, NULL, GE_DIFF_NOISE_SCALE, &d->run[0].model, &d->run[1].model);
    for (size_t l = 0; l < layers; l++)
        for (int w = 0; other[l] != alone && w < GE_DIFF_NUMBERS; w++)
            compare(d, d->run[0].facts->layers[l].name, (enum ge_diff_what)w,
                    &d->run[0].blocks[l * GE_DIFF_NUMBERS + (size_t)w],
                    &d->run[1].blocks[other[l] * GE_DIFF_NUMBERS + (size_t)w]);
    qsort(d->items, d->count, sizeof *d->items, by_significance);
    d->strict = strict_of(d->count);
    for (size_t i = 0; i < d->count; i++) {
        d->beyond += fabs(d->items[i].z) > 2.0 ? 1 : 0;
        d->hold += fabs(d->items[i].z) > d->strict ? 1 : 0;
    }
fail:
    return status;
}

/* ---- what the runs are ---- */

static gradecho_status pair_layers(const struct ge_diff_question *q,
                                   struct ge_diff *d, size_t *other[2])
{
    gradecho_status status = GRADECHO_OK;
    size_t pairs = 0, matched = 0;

    for (int i = 0; i < 2; i++) {
        const struct ge_log_facts *facts = d->run[i].facts;

        other[i] = ge_alloc(facts->dims.layers, sizeof **other);
        d->only[i] = ge_alloc(facts->dims.layers, sizeof *d->only[i]);
        GE_FAIL_IF(other[i] == NULL || d->only[i] == NULL, GRADECHO_E_NOMEM,
                   "no memory for %zu layers", facts->dims.layers);
    }
    for (int i = 0; i < 2; i++) {
        const struct ge_log_facts *mine = d->run[i].facts;
        const struct ge_log_facts *others = d->run[1 - i].facts;

        for (size_t l = 0; l < mine->dims.layers; l++) {
            const struct ge_log_layer *a = &mine->layers[l];

            other[i][l] = alone;
            if (q->layer != NULL && fnmatch(q->layer, a->name, 0) != 0)
                continue;
            matched++;
            for (size_t k = 0; k < others->dims.layers; k++) {
                const struct ge_log_layer *b = &others->layers[k];

                if (strcmp(a->name, b->name) == 0 && a->rows == b->rows &&
                    a->cols == b->cols)
                    other[i][l] = k;
            }
            if (other[i][l] == alone)
                d->only[i][d->only_count[i]++] = l;
            else
                pairs++;
        }
    }
    GE_FAIL_IF(matched == 0, GRADECHO_E_INPUT, "no layer matches %s", q->layer);
    GE_FAIL_IF(pairs == 0, GRADECHO_E_INPUT,
               "%s and %s have no layer of one name and shape", q->path[0],
               q->path[1]);
fail:
    return status;
}

gradecho_status ge_diff_load(ge_log_reader *readers[2],
                             const struct ge_diff_question *q,
                             struct ge_diff *d)
{
    gradecho_status status = GRADECHO_OK;
    size_t *other[2] = {NULL, NULL};

    *d = (struct ge_diff){0};
    for (int i = 0; i < 2; i++) {
        d->run[i].path = q->path[i];
        d->run[i].facts = ge_log_reader_facts(readers[i]);
    }
    GE_TRY(pair_layers(q, d, other));
    for (int i = 0; i < 2; i++)
        GE_TRY(load_run(readers[i], other[i], q->since, &d->run[i]));
    GE_TRY(compare_all(d, other[0]));
    GE_TRY(ge_diff_settings(d));
fail:
    free(other[0]);
    free(other[1]);
    return status;
}

void ge_diff_fini(struct ge_diff *d)
{
    for (int i = 0; i < 2; i++) {
        free(d->run[i].blocks);
        free(d->only[i]);
    }
    for (size_t i = 0; i < d->setting_count; i++) {
        free(d->settings[i].name);
        free(d->settings[i].value[0]);
        free(d->settings[i].value[1]);
    }
    free(d->settings);
    free(d->items);
    *d = (struct ge_diff){0};
}
