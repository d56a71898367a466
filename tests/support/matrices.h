/*
 * matrices.h - matrices whose singular values are known, for tests that have
 * included <cmocka.h>.
 */
#ifndef MATRICES_H
#define MATRICES_H

#include "numbers.h"

/* [count x length] orthonormal rows, by Gram and Schmidt, twice. */
static inline double *orthonormal(struct dice *dice, size_t count,
                                  size_t length)
{
    double *q = malloc(count * length * sizeof *q);

    assert_non_null(q);
    for (size_t k = 0; k < count; k++) {
        double *row = q + k * length, norm = 0.0;

        for (size_t i = 0; i < length; i++)
            row[i] = dice_normal(dice);
        for (size_t j = 0; j < 2 * k; j++) {
            const double *other = q + j % k * length;
            double dot = 0.0;

            for (size_t i = 0; i < length; i++)
                dot += row[i] * other[i];
            for (size_t i = 0; i < length; i++)
                row[i] -= dot * other[i];
        }
        for (size_t i = 0; i < length; i++)
            norm += row[i] * row[i];
        for (size_t i = 0; i < length; i++)
            row[i] /= sqrt(norm);
    }
    return q;
}

/* sum_k s_k u_k v_k' [rows x cols] with random u, v; caller frees. */
static inline float *planted(struct dice *dice, size_t rows, size_t cols,
                             const double *s, size_t count)
{
    double *u = orthonormal(dice, count, rows);
    double *v = orthonormal(dice, count, cols);
    float *a = malloc(rows * cols * sizeof *a);

    assert_non_null(a);
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < cols; j++) {
            double sum = 0.0;

            for (size_t k = 0; k < count; k++)
                sum += s[k] * u[k * rows + i] * v[k * cols + j];
            a[i * cols + j] = (float)sum;
        }
    }
    free(u);
    free(v);
    return a;
}

#endif
