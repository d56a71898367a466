/*
 * reduction.c - what the mean and the squared deviations of a gradient cost,
 * and how exact they are, four ways:
 *
 *   plain     MPI_Allreduce(MPI_SUM) of floats: the mean alone, no deviations
 *   pairwise  one all-reduce whose operation merges (count, mean, squared
 *             deviations) of tiles of entries pair by pair (Chan, Golub and
 *             LeVeque 1983)
 *   centred   the arithmetic of ours alone: the mean by pieces (mean.h), each
 *             rank's squared differences from it, their sum
 *   sample    ours, all of it: ge_engine_measure() of a sample without echoes,
 *             from the vote on; layers of 512 x 512 and 512
 *
 * usage: mpirun -n RANKS bench_reduction [--large] [--only MB] [--repeat N]
 */
#include <math.h>
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm.h"
#include "engine.h"
#include "mean.h"
#include "memory.h"
#include "moments.h"
#include "source_memory.h"
#include "writer.h"

enum { TILE = 4096, PIECE = 1 << 16, REPEAT_MAX = 99, SIDE = 512 };

struct tile {
    double n, m2;
    float mean[TILE];
};

/* One rank's part of a run, and its buffers. */
struct bench {
    ge_comm *comm;
    int rank, size;
    size_t count;    /* entries, a multiple of PIECE */
    double ratio;    /* mean over spread of the entries */
    float *gradient; /* [count] */
    float *mean;     /* [count] */
    struct tile *tiles;
    MPI_Datatype tile_type;
    MPI_Op merge;
    ge_mean *reducer;
    struct ge_config config;
    struct ge_source *source;
    ge_engine *engine;
    struct ge_row row;
};

static void need(int true_of, const char *what)
{
    if (!true_of) {
        fprintf(stderr, "bench_reduction: %s\n", what);
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
}

/* In (-1, 1), reproducible on every rank. */
static double number_of(uint64_t stream, uint64_t index)
{
    uint64_t z = stream * UINT64_C(0xD1342543DE82EF95) +
                 index * UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return (double)(int64_t)(z ^ (z >> 31)) * 0x1p-63;
}

/* Entries of the mean are of size ratio, each rank's noise of size 1. */
static float entry_of(double ratio, int rank, size_t i)
{
    return (float)(ratio * (1.5 + number_of(0, i)) +
                   number_of((uint64_t)rank + 1, i));
}

static void fill(struct bench *b, double ratio)
{
    b->ratio = ratio;
    for (size_t i = 0; i < b->count; i++)
        b->gradient[i] = entry_of(ratio, b->rank, i);
}

static double plain(struct bench *b)
{
    for (size_t at = 0; at < b->count; at += (size_t)1 << 28) {
        const size_t n = ge_min_size(b->count - at, (size_t)1 << 28);

        MPI_Allreduce(b->gradient + at, b->mean + at, (int)n, MPI_FLOAT,
                      MPI_SUM, MPI_COMM_WORLD);
    }
    for (size_t i = 0; i < b->count; i++)
        b->mean[i] /= (float)b->size;
    return (double)NAN;
}

/* Between the squares of two tiles lies the square of their distance. */
static void merge_tile(const struct tile *in, struct tile *out)
{
    const double n = in->n + out->n;
    const float part = (float)(in->n / n);
    double lane[8] = {0};

    for (size_t i = 0; i < TILE; i += 8) {
        for (size_t j = 0; j < 8; j++) {
            const float d = in->mean[i + j] - out->mean[i + j];

            lane[j] += (double)d * (double)d;
            out->mean[i + j] += part * d;
        }
    }
    out->m2 += in->m2 + in->n * out->n / n *
                            (((lane[0] + lane[1]) + (lane[2] + lane[3])) +
                             ((lane[4] + lane[5]) + (lane[6] + lane[7])));
    out->n = n;
}

static void merge_tiles(void *in, void *out, int *count, MPI_Datatype *type)
{
    const struct tile *from = in;
    struct tile *to = out;

    (void)type;
    for (int i = 0; i < *count; i++)
        merge_tile(&from[i], &to[i]);
}

static double pairwise(struct bench *b)
{
    const size_t tiles = b->count / TILE;
    double sum = 0.0;

    for (size_t t = 0; t < tiles; t++) {
        b->tiles[t].n = 1.0;
        b->tiles[t].m2 = 0.0;
        memcpy(b->tiles[t].mean, b->gradient + t * TILE,
               sizeof b->tiles[t].mean);
    }
    MPI_Allreduce(MPI_IN_PLACE, b->tiles, (int)tiles, b->tile_type, b->merge,
                  MPI_COMM_WORLD);
    for (size_t t = 0; t < tiles; t++) {
        sum += b->tiles[t].m2;
        memcpy(b->mean + t * TILE, b->tiles[t].mean, sizeof b->tiles[t].mean);
    }
    return sum;
}

/* The oldest piece under way has its mean. */
static double use_piece(struct bench *b, float *mean)
{
    struct ge_mean_piece piece;

    need(ge_mean_finish(b->reducer, &piece) == GRADECHO_OK, "the mean fails");
    memcpy(mean, piece.mean, PIECE * sizeof *mean);
    return ge_moments_about(piece.mine, piece.mean, PIECE).deviation;
}

static double centred(struct bench *b)
{
    const struct ge_mean_span span = {PIECE, (double)b->size};
    double sum = 0.0;
    size_t at = 0, used = 0;

    while (used < b->count) {
        if (at < b->count && ge_mean_pending(b->reducer) < GE_MEAN_DEPTH) {
            memcpy(ge_mean_room(b->reducer), b->gradient + at,
                   PIECE * sizeof *b->gradient);
            need(ge_mean_start(b->reducer, PIECE, &span) == GRADECHO_OK,
                 "the mean fails");
            at += PIECE;
        } else {
            sum += use_piece(b, b->mean + used);
            used += PIECE;
        }
    }
    need(ge_comm_sum(b->comm, &sum, 1) == GRADECHO_OK, "the sum fails");
    return sum;
}

static double sample(struct bench *b)
{
    gradecho_status local = GRADECHO_OK;

    need(ge_engine_measure(b->engine, 1, -1, &b->row, &local) == GRADECHO_OK &&
             local == GRADECHO_OK,
         "the sample fails");
    return (double)NAN;
}

static const struct way {
    const char *name;
    double (*run)(struct bench *b);
} ways[] = {{"plain", plain},
            {"pairwise", pairwise},
            {"centred", centred},
            {"sample", sample}};
enum { WAYS = sizeof ways / sizeof *ways };

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Milliseconds until the last rank is done. */
static double time_of(struct bench *b, const struct way *way)
{
    double ms = 0.0;

    MPI_Barrier(MPI_COMM_WORLD);
    const double start = MPI_Wtime();

    way->run(b);
    ms = 1e3 * (MPI_Wtime() - start);
    MPI_Allreduce(MPI_IN_PLACE, &ms, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    return ms;
}

/* The total squared deviation in long double; each rank takes its share of
 * the entries and makes those of all ranks again. */
static long double reference_of(const struct bench *b)
{
    const size_t share = b->count / (size_t)b->size + 1;
    const size_t first = ge_min_size((size_t)b->rank * share, b->count);
    const size_t end = ge_min_size(first + share, b->count);
    long double sum = 0.0L;

    for (size_t i = first; i < end; i++) {
        long double mean = 0.0L;

        for (int r = 0; r < b->size; r++)
            mean += (long double)entry_of(b->ratio, r, i);
        mean /= (long double)b->size;
        for (int r = 0; r < b->size; r++) {
            const long double d = (long double)entry_of(b->ratio, r, i) - mean;

            sum += d * d;
        }
    }
    MPI_Allreduce(MPI_IN_PLACE, &sum, 1, MPI_LONG_DOUBLE, MPI_SUM,
                  MPI_COMM_WORLD);
    return sum;
}

static void open_bench(struct bench *b, size_t megabytes)
{
    b->count = megabytes * 1000000 / sizeof(float);
    b->count = ge_max_size(b->count / PIECE, 1) * PIECE;
    b->gradient = ge_alloc_aligned(b->count, sizeof(float));
    b->mean = ge_alloc_aligned(b->count, sizeof(float));
    b->tiles = ge_alloc_aligned(b->count / TILE, sizeof(struct tile));
    need(b->gradient != NULL && b->mean != NULL && b->tiles != NULL,
         "out of memory");
    need(ge_mean_create(b->comm, PIECE, false, &b->reducer) == GRADECHO_OK,
         "out of memory");
    need(ge_config_init(&b->config) == GRADECHO_OK, "out of memory");
    b->source = source_memory_open(b->comm, b->gradient, b->count, SIDE);
    need(b->source != NULL && ge_engine_create(b->comm, &b->config, b->source,
                                               &b->engine) == GRADECHO_OK,
         "out of memory");
    const struct ge_dimensions dimensions = ge_engine_dimensions(b->engine);
    need(ge_row_init(&b->row, &dimensions) == GRADECHO_OK, "out of memory");
}

static void close_bench(struct bench *b)
{
    ge_row_fini(&b->row);
    ge_engine_destroy(&b->engine);
    ge_source_close(&b->source);
    ge_config_fini(&b->config);
    ge_mean_destroy(&b->reducer);
    free(b->gradient);
    free(b->mean);
    free(b->tiles);
}

/* Median of `repeat` runs. The ways take turns, so that a change of the
 * machine's load meets them all. */
static void time_all(struct bench *b, size_t megabytes, int repeat)
{
    static double ms[WAYS][REPEAT_MAX];

    open_bench(b, megabytes);
    fill(b, 1.0);
    for (size_t w = 0; w < WAYS; w++)
        ways[w].run(b); /* pages and connections */
    for (int i = 0; i < repeat; i++)
        for (size_t w = 0; w < WAYS; w++)
            ms[w][i] = time_of(b, &ways[w]);
    for (size_t w = 0; w < WAYS; w++)
        qsort(ms[w], (size_t)repeat, sizeof **ms, compare);
    for (size_t w = 0; w < WAYS && b->rank == 0; w++)
        printf("%-10s %10zu %10.2f %10.2f %10.2f\n", ways[w].name,
               b->count * sizeof(float) / 1000000, ms[w][repeat / 2],
               ms[w][repeat / 2] / ms[0][repeat / 2], ms[w][0]);
    close_bench(b);
}

static void judge_all(struct bench *b)
{
    static const double ratios[] = {1.0, 100.0, 1e4};

    open_bench(b, 64);
    for (size_t i = 0; i < sizeof ratios / sizeof *ratios; i++) {
        fill(b, ratios[i]);
        const long double truth = reference_of(b);

        for (size_t w = 0; w < WAYS; w++) {
            const double sum = ways[w].run(b);

            if (b->rank == 0 && !isnan(sum))
                printf("%-10s %10g %12.2Le\n", ways[w].name, ratios[i],
                       ((long double)sum - truth) / truth);
        }
    }
    close_bench(b);
}

int main(int argc, char **argv)
{
    struct bench b = {0};
    int repeat = 11, large = 0, only = 0;

    need(ge_comm_init(&argc, &argv, &b.comm) == GRADECHO_OK, "no MPI");
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--large") == 0)
            large = 1;
        else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc)
            only = atoi(argv[++i]);
        else if (strcmp(argv[i], "--repeat") == 0 && i + 1 < argc)
            repeat = atoi(argv[++i]);
        else
            need(0,
                 "usage: bench_reduction [--large] [--only MB] [--repeat N]");
    }
    need(repeat >= 1 && repeat <= REPEAT_MAX, "--repeat must be 1 to 99");
    b.rank = ge_comm_rank(b.comm);
    b.size = ge_comm_size(b.comm);
    MPI_Type_contiguous((int)sizeof(struct tile), MPI_BYTE, &b.tile_type);
    MPI_Type_commit(&b.tile_type);
    MPI_Op_create(merge_tiles, 1, &b.merge);

    if (b.rank == 0)
        printf("%d ranks, %d runs\n%-10s %10s %10s %10s %10s\n", b.size, repeat,
               "way", "MB/rank", "median ms", "to plain", "least ms");
    if (only > 0) {
        time_all(&b, (size_t)only, repeat);
    } else {
        time_all(&b, 4, repeat);
        time_all(&b, 64, repeat);
        if (large)
            time_all(&b, 512, repeat);
    }
    if (b.rank == 0 && only == 0)
        printf("%-10s %10s %12s\n", "way", "mean/spread", "rel. error");
    if (only == 0)
        judge_all(&b);

    MPI_Op_free(&b.merge);
    MPI_Type_free(&b.tile_type);
    ge_comm_finalize(&b.comm);
    return 0;
}
