/*
 * panels.h - a matrix of a test as the spectral code reads it, for tests that
 * have included <cmocka.h>.
 */
#ifndef PANELS_H
#define PANELS_H

#include "matrix.h"

/* A matrix that lies at `at`, of the shape of `modes`. */
#define WHOLE(at, modes) GE_WHOLE(at, (modes).rows, (modes).cols)

/* The same matrix, made panel by panel. */
struct made {
    const float *from;
    size_t rows, cols;
    size_t entries; /* made so far */
};

static inline void made_read(void *context, size_t first, size_t count,
                             float *out)
{
    struct made *made = context;

    assert_true(first + count <= made->rows && count > 0);
    memcpy(out, made->from + first * made->cols,
           count * made->cols * sizeof *out);
    made->entries += count * made->cols;
}

#define MADE(made)                                   \
    (&(const struct ge_matrix){.rows = (made)->rows, \
                               .cols = (made)->cols, \
                               .read = made_read,    \
                               .context = (made)})

#endif
