/*
 * matrix.h - a layer as the spectral code reads it: where it lies, or made
 * panel by panel.
 *
 * A layer can be too large to be copied for every question, and some matrices,
 * such as the mean of the other replicas, exist only as a formula. So whoever
 * asks gives either the place of the whole matrix or a function that makes any
 * rows of it. Both are read in the same panels, so the results are the same to
 * the last bit.
 */
#ifndef GRADECHO_SPECTRAL_MATRIX_H
#define GRADECHO_SPECTRAL_MATRIX_H

#include <stddef.h>

/* Write rows first .. first + count - 1 to out [count x columns]. The same
 * rows are asked for many times and must be the same numbers each time. */
typedef void ge_matrix_read(void *context, size_t first, size_t count,
                            float *out);

/* [rows x cols, row-major], finite entries; read only. */
struct ge_matrix {
    size_t rows, cols;
    const float *whole;   /* where it lies, aligned to GE_ALIGNMENT; or NULL: */
    ge_matrix_read *read; /* makes its rows */
    void *context;        /* of read() */
};

/* A matrix that lies at `at`, as an argument. */
#define GE_WHOLE(at, row_count, col_count) \
    (&(const struct ge_matrix){            \
        .rows = (row_count), .cols = (col_count), .whole = (at)})

/* Rows of all panels but the last. A panel fits a core's own cache, if its rows
 * are not too long, so that it can be used twice while it is there. */
size_t ge_matrix_panel_rows(const struct ge_matrix *a);

/* Floats of scratch that ge_matrix_panel() needs: 0 for a whole matrix. */
size_t ge_matrix_scratch(const struct ge_matrix *a);

/* Rows first .. first + count - 1, where they lie or in `scratch`. */
const float *ge_matrix_panel(const struct ge_matrix *a, size_t first,
                             size_t count, float *scratch);

#endif
