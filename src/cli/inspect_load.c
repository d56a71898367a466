/*
 * What `gradecho inspect` shows, read from a log. Rows are read in blocks: the
 * memory does not grow with the log, but for its steps.
 */
#include <fnmatch.h>
#include <math.h>
#include <stdlib.h>

#include "inspect.h"
#include "memory.h"
#include "noise.h"
#include "suggest.h"
#include "try.h"
#include "verdict.h"

enum {
    AVERAGED_MAX = 100, /* rows behind the averages, without --since */
    RECENT = 10,        /* rows behind what is said of a single replica */
    BLOCK = 64,         /* rows read at once */
};

/* Index of the row to show. */
static gradecho_status find_row(ge_log_reader *reader, const char *path,
                                uint64_t rows, long long step, uint64_t *index)
{
    gradecho_status status = GRADECHO_OK;
    int64_t *steps = NULL;

    GE_FAIL_IF(rows == 0, GRADECHO_E_INPUT,
               "%s holds no sample yet; --follow waits for them", path);
    *index = rows - 1;
    if (step < 0)
        return GRADECHO_OK;
    steps = ge_alloc((size_t)rows, sizeof *steps);
    GE_FAIL_IF(steps == NULL, GRADECHO_E_NOMEM, "no memory for %llu steps",
               (unsigned long long)rows);
    GE_TRY(ge_log_steps(reader, 0, rows, steps));
    while (*index > 0 && steps[*index] != step)
        (*index)--;
    GE_FAIL_IF(steps[*index] != step, GRADECHO_E_INPUT,
               "%s has no sample of step %lld; it has steps %lld to %lld", path,
               step, (long long)steps[0], (long long)steps[rows - 1]);
fail:
    free(steps);
    return status;
}

/* The first row whose step is at least `since`, at most `index`. */
static gradecho_status find_since(ge_log_reader *reader,
                                  const struct ge_question *q, uint64_t index,
                                  uint64_t *first)
{
    gradecho_status status = GRADECHO_OK;
    uint64_t low = 0, high = index + 1;

    while (low < high) { /* steps increase */
        const uint64_t middle = low + (high - low) / 2;
        int64_t step = 0;

        GE_TRY(ge_log_steps(reader, middle, 1, &step));
        if (step < q->since)
            low = middle + 1;
        else
            high = middle;
    }
    GE_FAIL_IF(low > index, GRADECHO_E_INPUT,
               "%s has no sample from step %lld on%s", q->path, q->since,
               q->step >= 0 ? " up to the one shown" : "");
    *first = low;
fail:
    return status;
}

/* One block of rows into the sums; `done` of the window are in them. cells
 * [3 x BLOCK x layers]. */
static gradecho_status add_block(ge_log_reader *reader, uint64_t first,
                                 uint64_t rows, uint64_t done, double *cells,
                                 double *sigma2, struct ge_digest *d)
{
    gradecho_status status = GRADECHO_OK;
    const size_t layers = d->row.dims.layers;
    const double *trace = cells, *square = cells + (size_t)rows * layers;
    double *variance = cells + 2 * (size_t)rows * layers;
    double batch[BLOCK];

    GE_TRY(ge_log_read(reader, GE_BATCH_SIZE, first, rows, batch));
    GE_TRY(ge_log_read(reader, GE_NOISE_TRACE, first, rows, cells));
    GE_TRY(ge_log_read(reader, GE_GRAD_SQNORM, first, rows,
                       cells + (size_t)rows * layers));
    GE_TRY(ge_log_read(reader, GE_SIGMA2, first, rows, variance));
    for (size_t r = 0; r < rows; r++) {
        double all_trace = 0.0, all_square = 0.0;
        bool any = false;

        for (size_t l = 0; l < layers; l++) {
            const size_t at = r * layers + l;

            if (isnan(trace[at]) || isnan(square[at]))
                continue;
            ge_spread_add(&d->noise[l], trace[at], square[at]);
            ge_blocks_add(&d->blocks[l], done + r, d->averaged,
                          batch[r] * trace[at], square[at]);
            sigma2[l] += variance[at];
            all_trace += trace[at];
            all_square += square[at];
            any = true;
        }
        if (!any)
            continue;
        ge_spread_add(&d->model, all_trace, all_square);
        ge_blocks_add(&d->model_blocks, done + r, d->averaged,
                      batch[r] * all_trace, all_square);
    }
fail:
    return status;
}

/* Averages over the last rows: noise scales are ratios of averages, for an
 * average of ratios is biased without bound where the gradient is small. */
static gradecho_status average(ge_log_reader *reader, uint64_t index,
                               struct ge_digest *d)
{
    gradecho_status status = GRADECHO_OK;
    const size_t layers = d->row.dims.layers;
    const double batch = d->row.values[GE_BATCH_SIZE][0];
    double *cells = ge_alloc(layers, sizeof *cells * 3 * BLOCK);

    GE_FAIL_IF(cells == NULL, GRADECHO_E_NOMEM, "no memory for averages");
    for (uint64_t at = index + 1 - d->averaged; at <= index; at += BLOCK)
        GE_TRY(add_block(reader, at,
                         index + 1 - at < BLOCK ? index + 1 - at : BLOCK,
                         at - (index + 1 - d->averaged), cells, d->sigma2, d));
    for (size_t l = 0; l < layers; l++) {
        const struct ge_spread *noise = &d->noise[l];

        d->sigma2[l] =
            noise->count > 0.0 ? d->sigma2[l] / noise->count : (double)NAN;
        d->noise_scale[l] = noise->count > 0.0
                                ? ge_noise_scale(batch, noise->x, noise->y)
                                : (double)NAN;
    }
    d->model_scale = ge_noise_scale(batch, d->model.x, d->model.y);
fail:
    free(cells);
    return status;
}

static gradecho_status average_replicas(ge_log_reader *reader, uint64_t index,
                                        struct ge_digest *d)
{
    gradecho_status status = GRADECHO_OK;
    const size_t width = d->row.dims.layers * d->row.dims.replicas;
    const uint64_t rows = d->averaged < RECENT ? d->averaged : RECENT;
    double *ratios = ge_alloc(width, sizeof *ratios);

    GE_FAIL_IF(ratios == NULL, GRADECHO_E_NOMEM, "no memory for averages");
    for (uint64_t at = index + 1 - rows; at <= index; at++) {
        GE_TRY(ge_log_read(reader, GE_REPLICA_NOISE, at, 1, ratios));
        for (size_t i = 0; i < width; i++)
            ge_spread_add(&d->replica[i], ratios[i], 1.0);
    }
fail:
    free(ratios);
    return status;
}

/* How long the pair of replicas that is told of a copy has been one. Samples
 * without a correlation neither confirm nor end it. */
static gradecho_status find_copies(ge_log_reader *reader, uint64_t first,
                                   uint64_t index, struct ge_digest *d)
{
    gradecho_status status = GRADECHO_OK;
    double pairs[2 * BLOCK], correlations[BLOCK];
    const double *pair = d->row.values[GE_CORRELATION_PAIR];
    int64_t step = -1;
    uint64_t since = index;
    bool same = d->row.values[GE_CORRELATION][0] > GE_SAME_DATA;

    d->same_since = -1;
    if (!same)
        return GRADECHO_OK;
    for (uint64_t end = index + 1; same && end > first;) {
        const uint64_t rows = end - first < BLOCK ? end - first : BLOCK;

        end -= rows;
        GE_TRY(ge_log_read(reader, GE_CORRELATION, end, rows, correlations));
        GE_TRY(ge_log_read(reader, GE_CORRELATION_PAIR, end, rows, pairs));
        for (uint64_t r = rows; same && r-- > 0;) {
            if (isnan(correlations[r]))
                continue;
            same = correlations[r] > GE_SAME_DATA && pairs[2 * r] == pair[0] &&
                   pairs[2 * r + 1] == pair[1];
            since = same ? end + r : since;
        }
    }
    GE_TRY(ge_log_steps(reader, since, 1, &step));
    d->same_since = step;
fail:
    return status;
}

/* The first step after the last restart of the monitors that left a row. */
static gradecho_status find_restart(ge_log_reader *reader,
                                    struct ge_digest *digest)
{
    gradecho_status status = GRADECHO_OK;
    uint64_t low = 0, high = digest->rows - 1;
    double last = 0.0;
    int64_t step = -1;

    digest->restarted = -1;
    if (digest->facts->restarts <= 0)
        return GRADECHO_OK;
    GE_TRY(ge_log_read(reader, GE_RESTARTS, high, 1, &last));
    while (low < high) { /* they never become fewer */
        const uint64_t middle = low + (high - low) / 2;
        double restarts = 0.0;

        GE_TRY(ge_log_read(reader, GE_RESTARTS, middle, 1, &restarts));
        if (restarts < last)
            low = middle + 1;
        else
            high = middle;
    }
    if (last > 0.0)
        GE_TRY(ge_log_steps(reader, low, 1, &step));
    digest->restarted = step;
fail:
    return status;
}

static gradecho_status allocate(struct ge_digest *d,
                                const struct ge_dimensions *dims)
{
    gradecho_status status = GRADECHO_OK;

    GE_TRY(ge_row_init(&d->row, dims));
    GE_TRY(ge_row_init(&d->echo, dims));
    d->noise_scale = ge_alloc(dims->layers, sizeof(double));
    d->sigma2 = ge_alloc(dims->layers, sizeof(double));
    d->noise = ge_alloc(dims->layers, sizeof *d->noise);
    d->blocks = ge_alloc(dims->layers, sizeof *d->blocks);
    d->replica = ge_alloc(dims->layers * dims->replicas, sizeof *d->replica);
    d->shown = ge_alloc(dims->layers, sizeof(bool));
    GE_FAIL_IF(d->noise_scale == NULL || d->sigma2 == NULL ||
                   d->noise == NULL || d->blocks == NULL ||
                   d->replica == NULL || d->shown == NULL,
               GRADECHO_E_NOMEM, "no memory for %zu layers", dims->layers);
fail:
    return status;
}

static gradecho_status choose_layers(const struct ge_question *q,
                                     struct ge_digest *d)
{
    gradecho_status status = GRADECHO_OK;
    struct ge_near near = {.glob = q->layer};
    char there[512];
    size_t shown = 0;

    for (size_t l = 0; l < d->row.dims.layers; l++) {
        d->shown[l] = q->layer == NULL ||
                      fnmatch(q->layer, d->facts->layers[l].name, 0) == 0;
        shown += d->shown[l] ? 1 : 0;
        if (!d->shown[l])
            ge_near_offer(&near, d->facts->layers[l].name);
    }
    GE_FAIL_IF(shown == 0, GRADECHO_E_INPUT, "%s: no layer matches %s; %s",
               q->path, q->layer, ge_near_text(&near, there, sizeof there));
fail:
    return status;
}

gradecho_status ge_digest_load(ge_log_reader *reader,
                               const struct ge_question *q, struct ge_digest *d)
{
    gradecho_status status = GRADECHO_OK;
    uint64_t index = 0, first = 0;

    *d = (struct ge_digest){.path = q->path,
                            .facts = ge_log_reader_facts(reader),
                            .modes = q->layer != NULL};
    GE_TRY(ge_log_refresh(reader, &d->rows));
    GE_TRY(find_row(reader, q->path, d->rows, q->step, &index));
    GE_TRY(find_restart(reader, d));
    if (q->since >= 0)
        GE_TRY(find_since(reader, q, index, &first));
    d->averaged = index + 1 - first;
    if (q->since < 0 && d->averaged > AVERAGED_MAX)
        d->averaged = AVERAGED_MAX;
    GE_TRY(allocate(d, &d->facts->dims));
    GE_TRY(choose_layers(q, d));
    GE_TRY(ge_log_read_row(reader, index, &d->row));
    GE_TRY(average(reader, index, d));
    GE_TRY(average_replicas(reader, index, d));
    GE_TRY(find_copies(reader, first, index, d));
    GE_TRY(ge_alarm_history_load(reader, index, &d->alarms));
    GE_TRY(ge_digest_find_echoes(reader, first, index, d));
fail:
    return status;
}

void ge_digest_fini(struct ge_digest *d)
{
    ge_row_fini(&d->row);
    ge_row_fini(&d->echo);
    free(d->noise_scale);
    free(d->sigma2);
    free(d->noise);
    free(d->blocks);
    free(d->replica);
    free(d->shown);
    free(d->echo_step);
    *d = (struct ge_digest){0};
}
