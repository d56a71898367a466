/*
 * What the log costs its writer.
 *
 *     bench_log append LOG LAYERS MODES REPLICAS ROWS
 *
 * appends ROWS rows, each committed at once, and in turn with each writes the
 * same numbers, in their stored widths, to the plain file LOG.raw. Prints
 * microseconds (median, 99th percentile) and bytes of both.
 *
 *     bench_log grow LOG LAYERS MODES REPLICAS ROWS ECHO_EVERY [killed]
 *
 * only appends, with few commits. One row in ECHO_EVERY has echoes, in the
 * others the modes' figures are missing; 0: none has. `killed` leaves the log
 * as a killed writer does.
 */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "memory.h"
#include "try.h"
#include "writer.h"

enum { COMMIT_EVERY = 1000, NAME_BYTES = 40 };

struct job {
    bool measure, killed;
    size_t rows, echo_every;
    struct ge_log_spec spec;
};

static double microseconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static size_t stored_width(enum ge_field field)
{
    return ge_fields[field].type == GE_F32 ? sizeof(float) : sizeof(double);
}

/* Bytes of a row's numbers, its step included. */
static size_t raw_bytes(const struct ge_dimensions *dims)
{
    size_t bytes = sizeof(int64_t);

    for (int f = 0; f < GE_FIELDS; f++)
        bytes += ge_shape_count(ge_fields[f].shape, dims) *
                 stored_width((enum ge_field)f);
    return bytes;
}

static void fill(struct ge_row *row, size_t index, size_t echo_every)
{
    ge_row_clear(row);
    row->step = 10 * (long long)index;
    for (int f = 0; f < GE_FIELDS; f++) {
        const enum ge_shape shape = ge_fields[f].shape;
        const bool modal = shape == GE_PER_MODE || f == GE_SIGNAL_MODES;

        if (f == GE_RESTARTS || f == GE_DROPPED)
            row->values[f][0] = 0.0;
        else if (!modal || (echo_every > 0 && index % echo_every == 0))
            for (size_t i = 0; i < ge_shape_count(shape, &row->dims); i++)
                row->values[f][i] = 1.0 + (double)((index + i) % 1000);
    }
}

/* The row as it would lie in a file that holds nothing but rows. */
static void pack(const struct ge_row *row, unsigned char *to)
{
    memcpy(to, &row->step, sizeof row->step);
    to += sizeof row->step;
    for (int f = 0; f < GE_FIELDS; f++)
        for (size_t i = 0; i < ge_shape_count(ge_fields[f].shape, &row->dims);
             i++) {
            const double value = row->values[f][i];
            const float narrow = (float)value;

            if (ge_fields[f].type == GE_F32)
                memcpy(to, &narrow, sizeof narrow);
            else
                memcpy(to, &value, sizeof value);
            to += stored_width((enum ge_field)f);
        }
}

static struct ge_log_layer *make_layers(size_t count)
{
    struct ge_log_layer *layers = ge_alloc(count, sizeof *layers + NAME_BYTES);
    char *names = (char *)(layers + count);

    for (size_t i = 0; layers != NULL && i < count; i++) {
        (void)snprintf(names + i * NAME_BYTES, NAME_BYTES, "block.%zu.weight",
                       i);
        layers[i] = (struct ge_log_layer){names + i * NAME_BYTES, 768, 768};
    }
    return layers;
}

static void tell(const char *what, double *times, size_t rows, size_t bytes)
{
    qsort(times, rows, sizeof *times, by_value);
    printf("%s %.1f %.1f %zu\n", what, times[rows / 2], times[rows * 99 / 100],
           bytes);
}

static size_t size_of(const char *path)
{
    struct stat about;

    return stat(path, &about) == 0 ? (size_t)about.st_size : 0;
}

/* All rows into the log and into a plain file, in turns. */
static gradecho_status append(ge_log_writer *log, struct ge_row *row,
                              const struct job *job, double *times[2])
{
    gradecho_status status = GRADECHO_OK;
    const size_t bytes = raw_bytes(&row->dims);
    unsigned char *packed = ge_alloc(bytes, 1);
    char name[4096];
    int raw = -1;

    GE_FAIL_IF(packed == NULL, GRADECHO_E_NOMEM, "bench_log: out of memory");
    (void)snprintf(name, sizeof name, "%s.raw", job->spec.path);
    raw = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    GE_FAIL_IF(raw < 0, GRADECHO_E_SYS, "bench_log: %s cannot be made", name);
    for (size_t i = 0; i < job->rows; i++) {
        double began = 0.0;

        fill(row, i, 1);
        pack(row, packed);
        began = microseconds();
        GE_TRY(ge_log_append(log, row));
        times[0][i] = microseconds() - began;
        began = microseconds();
        GE_FAIL_IF(write(raw, packed, bytes) != (ssize_t)bytes, GRADECHO_E_SYS,
                   "bench_log: %s cannot be written", name);
        times[1][i] = microseconds() - began;
    }
fail:
    if (raw >= 0)
        close(raw);
    free(packed);
    return status;
}

static gradecho_status grow(ge_log_writer *log, struct ge_row *row,
                            const struct job *job)
{
    gradecho_status status = GRADECHO_OK;

    for (size_t i = 0; i < job->rows; i++) {
        fill(row, i, job->echo_every);
        GE_TRY(ge_log_append(log, row));
    }
    GE_TRY(ge_log_flush(log));
    if (job->killed)
        _exit(0);
fail:
    return status;
}

static gradecho_status run(const struct job *job)
{
    gradecho_status status = GRADECHO_OK, closed = GRADECHO_OK;
    const size_t raw = job->rows * raw_bytes(&job->spec.dims);
    double *times[2] = {ge_alloc(job->rows, sizeof(double)),
                        ge_alloc(job->rows, sizeof(double))};
    struct ge_row row = {.step = -1};
    ge_log_writer *log = NULL;

    GE_FAIL_IF(times[0] == NULL || times[1] == NULL, GRADECHO_E_NOMEM,
               "bench_log: out of memory");
    GE_TRY(ge_row_init(&row, &job->spec.dims));
    GE_TRY(ge_log_create(&job->spec, &log));
    GE_TRY(job->measure ? append(log, &row, job, times) : grow(log, &row, job));
fail:
    closed = ge_log_close(&log);
    status = status < GRADECHO_OK ? status : closed;
    if (status == GRADECHO_OK && job->measure) {
        tell("log", times[0], job->rows, size_of(job->spec.path));
        tell("raw", times[1], job->rows, raw);
    }
    ge_row_fini(&row);
    free(times[1]);
    free(times[0]);
    return status;
}

int main(int argc, char **argv)
{
    const bool measure = argc == 7 && strcmp(argv[1], "append") == 0;
    const bool grows = (argc == 8 || argc == 9) && strcmp(argv[1], "grow") == 0;
    struct ge_log_layer *layers = NULL;
    struct job job = {.measure = measure, .killed = argc == 9};
    gradecho_status status = GRADECHO_OK;

    if (!measure && !grows) {
        fputs("usage: bench_log append LOG LAYERS MODES REPLICAS ROWS\n"
              "       bench_log grow LOG LAYERS MODES REPLICAS ROWS "
              "ECHO_EVERY [killed]\n",
              stderr);
        return 2;
    }
    job.spec =
        (struct ge_log_spec){.path = argv[2],
                             .overwrite = true,
                             .session = "bench",
                             .world_size = 4,
                             .config = "",
                             .flush_every = measure ? 1 : COMMIT_EVERY,
                             .dims = {.layers = strtoul(argv[3], NULL, 10),
                                      .modes = strtoul(argv[4], NULL, 10),
                                      .replicas = strtoul(argv[5], NULL, 10)}};
    job.rows = strtoul(argv[6], NULL, 10);
    job.echo_every = measure ? 1 : strtoul(argv[7], NULL, 10);
    job.spec.layers = layers = make_layers(job.spec.dims.layers);
    if (layers == NULL)
        return 1;
    status = run(&job);
    free(layers);
    return status == GRADECHO_OK ? 0 : 1;
}
