/*
 * sample_bound.c - what a sample cannot be faster than, measured on this
 * machine with all ranks at work: for bench/sample.
 *
 *     mpirun -n R bench_sample_bound MODEL f32|bf16 [noise]
 *
 * noise   one copy of the gradient out of the slot, and a plain MPI_Allreduce
 *         of it in single precision, piece by piece, so that the pieces lie in
 *         the cache
 * echo    besides, for each matrix: the products with vectors of the steps that
 *         our SVDs take on this replica, on the mean of the others and, at one
 *         of the ranks, on the mean; and the products with 16 vectors of the
 *         projections. Nothing for keeping bases orthonormal, for matching, for
 *         copies, for waiting
 *
 * Prints one JSON object, seconds. With `noise`, the first alone.
 */
#include <cblas.h>
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "model.h"
#include "svd.h"

enum { REPEATS = 3, PIECE = 1 << 20, MODES = 16, FOUND = 24, PARTNERS = 8 };

static int rank, size;

static void need(int true_of, const char *what)
{
    if (!true_of) {
        fprintf(stderr, "bench_sample_bound: %s\n", what);
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
}

static void *room(size_t count, size_t width)
{
    void *at = ge_alloc_aligned(count, width);

    need(at != NULL, "no memory");
    return at;
}

/* Seconds since `start`, of the slowest rank. */
static double since(double start)
{
    double seconds = MPI_Wtime() - start, most = 0.0;

    MPI_Allreduce(&seconds, &most, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    return most;
}

static double begin(void)
{
    MPI_Barrier(MPI_COMM_WORLD);
    return MPI_Wtime();
}

/* Copy of the gradient and all-reduce of as many floats; the best of some. */
static double noise_bound(size_t entries, size_t width)
{
    char *gradient = room(entries, width);
    float *piece = room(PIECE, sizeof *piece);
    double best = (double)INFINITY;

    for (int i = 0; i < REPEATS; i++) {
        const double start = begin();

        for (size_t at = 0; at < entries; at += PIECE) {
            const size_t n = ge_min_size(PIECE, entries - at);

            memcpy(piece, gradient + at * width, n * width);
            MPI_Allreduce(MPI_IN_PLACE, piece, (int)n, MPI_FLOAT, MPI_SUM,
                          MPI_COMM_WORLD);
        }
        best = fmin(best, since(start));
    }
    free(piece);
    free(gradient);
    return best;
}

/* Products with the matrix and its transpose: of one vector, and of MODES. */
static void product_times(const struct model_layer *shape, const float *a,
                          double *one, double *many)
{
    const int m = (int)shape->rows, n = (int)shape->cols;
    float *u = room((size_t)m * MODES, sizeof *u);
    float *v = room((size_t)n * MODES, sizeof *v);

    for (size_t i = 0; i < (size_t)n * MODES; i++)
        v[i] = 1e-3F;
    *one = *many = (double)INFINITY;
    for (int i = 0; i < REPEATS; i++) {
        double start = begin();

        cblas_sgemv(CblasRowMajor, CblasNoTrans, m, n, 1.0F, a, n, v, 1, 0.0F,
                    u, 1);
        cblas_sgemv(CblasRowMajor, CblasTrans, m, n, 1.0F, a, n, u, 1, 0.0F, v,
                    1);
        *one = fmin(*one, since(start));
        start = begin();
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, MODES, m, n, 1.0F,
                    v, n, a, n, 0.0F, u, m);
        *many = fmin(*many, since(start));
    }
    free(u);
    free(v);
}

/* A matrix that counts how many of its rows are read. */
struct counted {
    const float *a;
    size_t cols;
    double rows_read;
};

static void read_counted(void *context, size_t first, size_t count, float *out)
{
    struct counted *c = context;

    memcpy(out, c->a + first * c->cols, count * c->cols * sizeof *out);
    c->rows_read += (double)count;
}

/* Pairs of passes over the matrix that its SVD takes, with noise of this size,
 * found on rank 0. */
static double steps_of(const struct model_layer *shape, size_t layer,
                       double noise, float *a)
{
    struct counted counted = {a, shape->cols, 0.0};
    const struct ge_matrix matrix = {.rows = shape->rows,
                                     .cols = shape->cols,
                                     .read = read_counted,
                                     .context = &counted};

    model_fill(shape, layer, (uint64_t)rank, noise, 0, a);
    if (rank == 0) {
        ge_svd *svd = NULL;
        struct ge_modes modes;

        need(ge_svd_create(1, 1e-3, &svd) == 0 &&
                 ge_modes_init(&modes, shape->rows, shape->cols, FOUND) == 0 &&
                 ge_svd_leading(svd, &matrix, NULL, &modes) == 0,
             "no SVD");
        ge_modes_fini(&modes);
        ge_svd_destroy(&svd);
    }
    MPI_Bcast(&counted.rows_read, 1, MPI_DOUBLE, 0, MPI_COMM_WORLD);
    return counted.rows_read / (double)shape->rows / 2.0;
}

/* Seconds of one layer's products: with vectors, and with blocks of them. */
static void echo_bound(const struct model_layer *shape, size_t layer,
                       double *vectors, double *blocks)
{
    float *a = room(shape->rows * shape->cols, sizeof *a);
    const double k = size;
    const double mean = steps_of(shape, layer, sqrt(1.0 / k), a);
    const double rest = steps_of(shape, layer, sqrt(1.0 / (k - 1.0)), a);
    const double own = steps_of(shape, layer, 1.0, a);
    const double partners = fmin(PARTNERS, k - 1);
    double one = 0.0, many = 0.0;

    product_times(shape, a, &one, &many);
    *vectors = one * (own + rest + mean / k);
    *blocks = many * (2.0 + 2.0 + partners); /* leaks, projections, partners */
    if (rank == 0)
        fprintf(stderr,
                "%zu x %zu: %.1f, %.1f, %.1f steps of %.2f ms; 16 at once %.2f "
                "ms\n",
                shape->rows, shape->cols, own, rest, mean, 1e3 * one,
                1e3 * many);
    free(a);
}

int main(int argc, char **argv)
{
    double noise = 0.0, vectors = 0.0, blocks = 0.0;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    need(argc >= 3, "usage: MODEL f32|bf16 [noise]");
    need(size > 1, "two ranks at least");
    struct model model = model_make(argv[1]);

    noise = noise_bound(model.entries, strcmp(argv[2], "bf16") == 0 ? 2 : 4);
    for (size_t l = 0; argc == 3 && l < model.count; l++) {
        const struct model_layer *shape = &model.layer[l];
        double one = 0.0, many = 0.0, alike = 0.0;
        int earlier = 0;

        for (size_t i = 0; i < model.count; i++) {
            const int same = model.layer[i].rows == shape->rows &&
                             model.layer[i].cols == shape->cols;

            alike += same;
            earlier = earlier || (same && i < l);
        }
        if (shape->rows < 2 || earlier)
            continue;
        echo_bound(shape, l, &one, &many);
        vectors += alike * one;
        blocks += alike * many;
    }
    if (rank == 0)
        printf("{\"entries\": %zu, \"noise\": %.6f, \"vectors\": %.6f, "
               "\"blocks\": %.6f}\n",
               model.entries, noise, vectors, blocks);
    model_free(&model);
    MPI_Finalize();
    return 0;
}
