/*
 * svd.c - time our truncated SVD on a matrix from a file, for bench/svd.
 *
 * usage: bench_svd FILE ROWS COLS MODES REPEATS TOLERANCE [START]
 *
 * FILE and START hold float32 matrices, row-major. Prints the best time of
 * REPEATS, in milliseconds, the passes over the matrix, and how many modes
 * converged; writes FILE.modes: s [MODES], u [MODES x ROWS], v [MODES x COLS],
 * float32. With START, its modes are found first (not timed) and given as a
 * start.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "lanczos.h"
#include "memory.h"
#include "svd.h"

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static float *load(const char *path, size_t count)
{
    float *a = ge_alloc_aligned(count, sizeof *a);
    FILE *file = fopen(path, "rb");

    if (a == NULL || file == NULL ||
        fread(a, sizeof *a, count, file) != count) {
        fprintf(stderr, "bench_svd: cannot read %zu numbers from %s\n", count,
                path);
        exit(1);
    }
    fclose(file);
    return a;
}

static void check(gradecho_status status)
{
    if (status < GRADECHO_OK)
        exit(1); /* told already */
}

int main(int argc, char **argv)
{
    if (argc < 7 || argc > 8) {
        fputs("usage: bench_svd FILE ROWS COLS MODES REPEATS TOLERANCE "
              "[START]\n",
              stderr);
        return 2;
    }
    const size_t rows = strtoul(argv[2], NULL, 10);
    const size_t cols = strtoul(argv[3], NULL, 10);
    const size_t modes = strtoul(argv[4], NULL, 10);
    const int repeats = atoi(argv[5]);
    const double tolerance = strtod(argv[6], NULL);
    float *a = load(argv[1], rows * cols);
    struct ge_modes found, near;
    ge_lanczos *lanczos = NULL;
    ge_svd *svd = NULL; /* sets the number of BLAS threads */
    size_t passes = 0, converged = 0;
    double best = 1e9;

    check(ge_svd_create(1, tolerance, &svd));
    check(ge_lanczos_create(&lanczos));
    check(ge_modes_init(&found, rows, cols, modes));
    check(ge_modes_init(&near, rows, cols, modes));
    if (argc == 8) {
        float *start = load(argv[7], rows * cols);

        check(ge_svd_leading(svd, GE_WHOLE(start, rows, cols), NULL, &near));
        free(start);
    }
    for (int i = 0; i < repeats; i++) {
        const double began = now();

        check(ge_lanczos_leading(lanczos, GE_WHOLE(a, rows, cols),
                                 argc == 8 ? &near : NULL, tolerance, &found,
                                 &passes));
        const double taken = now() - began;

        best = taken < best ? taken : best;
    }
    while (converged < modes && (double)found.r[converged] < tolerance)
        converged++;
    printf("%.6f %zu %zu\n", 1e3 * best, passes, converged);

    char path[4096];
    snprintf(path, sizeof path, "%s.modes", argv[1]);
    FILE *out = fopen(path, "wb");
    if (out == NULL || fwrite(found.s, 4, modes, out) != modes ||
        fwrite(found.u, 4, modes * rows, out) != modes * rows ||
        fwrite(found.v, 4, modes * cols, out) != modes * cols ||
        fclose(out) != 0)
        return 1;
    ge_modes_fini(&near);
    ge_modes_fini(&found);
    ge_lanczos_destroy(&lanczos);
    ge_svd_destroy(&svd);
    free(a);
    return 0;
}
