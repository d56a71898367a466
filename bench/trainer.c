/*
 * A training that is nothing but its costs: each step multiplies matrices,
 * makes a gradient and sums it over the trainers by MPI_Allreduce().
 *
 *     mpirun -n N bench_trainer STEPS MILLIONS PRODUCTS [PAUSE_MS]
 *
 * MILLIONS of parameters, in layers of 1024 x 1024; PRODUCTS of two 512 x 512
 * matrices a step. Where $GRADECHO_SESSION is set every step is offered to the
 * monitors. It waits until they listen, for 30 s at most, and does two
 * steps before it counts. Rank 0 prints the median seconds of a step and the
 * CPU seconds of a step, over all trainers.
 */
#include <cblas.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "gradecho/handoff.h"

enum { SIDE = 1024, WORK = 512, UNCOUNTED = 2, NAME = 40 };

static const size_t square = (size_t)WORK * WORK;

static double cpu_seconds(void)
{
    struct rusage use;

    getrusage(RUSAGE_SELF, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           1e-6 * (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec);
}

static void *room_for(size_t count, size_t size)
{
    void *room = calloc(count, size);

    if (room == NULL)
        MPI_Abort(MPI_COMM_WORLD, 1);
    return room;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static gradecho *watch(size_t layers, int rank, int size)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    struct gradecho_options options = gradecho_options_default();
    struct gradecho_layer *table = NULL;
    char(*names)[NAME] = NULL;
    gradecho *handle = NULL;

    if (getenv(GRADECHO_SESSION_ENV) == NULL)
        return NULL;
    table = room_for(layers, sizeof *table);
    names = room_for(layers, sizeof *names);
    for (size_t l = 0; l < layers; l++) {
        (void)snprintf(names[l], NAME, "block.%zu.weight", l);
        table[l] = (struct gradecho_layer){names[l], SIDE, SIDE, GRADECHO_F32};
    }
    options.rank = (uint32_t)rank;
    options.world = (uint32_t)size;
    options.layers = table;
    options.layer_count = layers;
    if (gradecho_open(&options, &handle) < GRADECHO_OK) {
        fprintf(stderr, "bench_trainer: %s\n", gradecho_message());
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    for (int i = 0; i < 3000 && gradecho_attached(handle) == 0; i++)
        nanosleep(&pause, NULL);
    free(names);
    free(table);
    return handle;
}

/* The layers of a step, handed over. */
static void offer(gradecho *handle, int step, size_t layers, const float *all)
{
    const struct gradecho_meta meta = {1.0, 32.0, 1.0};

    if (gradecho_begin(handle, step) != GRADECHO_OK)
        return;
    for (size_t l = 0; l < layers; l++)
        (void)gradecho_write(handle, 0, l, all + l * SIDE * SIDE);
    (void)gradecho_publish(handle, &meta);
}

int main(int argc, char **argv)
{
    const int steps = argc > 3 ? (int)strtol(argv[1], NULL, 10) : 0;
    const size_t layers = argc > 3 ? strtoul(argv[2], NULL, 10) : 0;
    const int products = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 0;
    const long pause = argc > 4 ? strtol(argv[4], NULL, 10) : 0;
    const size_t entries = layers * SIDE * SIDE;
    int rank = 0, size = 1;

    if (steps < 1 || layers < 1) {
        fputs("usage: bench_trainer STEPS MILLIONS PRODUCTS [PAUSE_MS]\n",
              stderr);
        return 2;
    }
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);

    float *own = room_for(entries, sizeof *own);
    float *mean = room_for(entries, sizeof *mean);
    float *work = room_for(3 * square, sizeof *work);
    double *times = room_for((size_t)steps, sizeof *times);
    gradecho *handle = watch(layers, rank, size);
    const struct timespec idle = {pause / 1000, pause % 1000 * 1000000};
    double cpu = 0.0, all = 0.0;

    for (int s = -UNCOUNTED; s < steps; s++) {
        double began = MPI_Wtime();

        if (s == 0) {
            MPI_Barrier(MPI_COMM_WORLD);
            began = MPI_Wtime();
            cpu = cpu_seconds();
        }
        for (int p = 0; p < products; p++)
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, WORK, WORK,
                        WORK, 1.0F, work, WORK, work + square, WORK, 0.0F,
                        work + 2 * square, WORK);
        for (size_t i = 0; i < entries; i++) /* differs, step by step */
            own[i] =
                (float)((i * 2654435761U + (size_t)(s + rank)) % 1021) - 510.0F;
        offer(handle, s + UNCOUNTED, layers, own);
        MPI_Allreduce(own, mean, (int)entries, MPI_FLOAT, MPI_SUM,
                      MPI_COMM_WORLD);
        if (pause > 0)
            nanosleep(&idle, NULL);
        if (s >= 0)
            times[s] = MPI_Wtime() - began;
    }
    cpu = (cpu_seconds() - cpu) / steps;
    MPI_Reduce(&cpu, &all, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
    qsort(times, (size_t)steps, sizeof *times, by_value);
    if (rank == 0)
        printf("%.6f %.6f\n", times[steps / 2], all);
    gradecho_close(&handle);
    free(times);
    free(work);
    free(mean);
    free(own);
    MPI_Finalize();
    return 0;
}
