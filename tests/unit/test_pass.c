/* Both products of a pass, by every width of registers: of small integers, so
 * that the sums are exact in any order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "numbers.h"
#include "pass.c" /* NOLINT(bugprone-suspicious-include) */

typedef void passing(const float *p, size_t rows, size_t cols, const float *v,
                     float scale, float *u, float *w);

enum { ROWS = 11, COLS = 4100, BEYOND = 77 };

/* -2 .. 2 */
static float *made(struct dice *dice, size_t count)
{
    float *x = malloc(count * sizeof *x);

    assert_non_null(x);
    for (size_t i = 0; i < count; i++)
        x[i] = (float)dice_below(dice, 5) - 2.0F;
    return x;
}

/* Nothing lies behind the matrix, for a sanitizer to see. */
static void check(struct dice *dice, passing *pass, size_t rows, size_t cols)
{
    float *p = made(dice, rows * cols), *v = made(dice, cols);
    float *before = made(dice, cols), *w = made(dice, cols + 1);
    float u[ROWS + 1];

    for (size_t j = 0; j < cols; j++)
        w[j] = before[j];
    u[rows] = w[cols] = (float)BEYOND;
    pass(p, rows, cols, v, 0.5F, u, w);
    for (size_t i = 0; i < rows; i++) {
        float sum = 0.0F;

        for (size_t j = 0; j < cols; j++)
            sum += p[i * cols + j] * v[j];
        assert_true(u[i] == sum);
    }
    for (size_t j = 0; j < cols; j++) {
        float sum = before[j];

        for (size_t i = 0; i < rows; i++)
            sum += 0.5F * u[i] * p[i * cols + j];
        assert_true(w[j] == sum);
    }
    assert_true(u[rows] == (float)BEYOND && w[cols] == (float)BEYOND);
    free(p);
    free(v);
    free(w);
    free(before);
}

static void check_all(passing *pass)
{
    /* Around the width of each vector, and of what the first cache holds. */
    static const size_t cols[] = {1,  2,  3,   4,    5,    7,    8,    9,   15,
                                  16, 17, 31,  32,   33,   47,   63,   64,  65,
                                  96, 99, 768, 1228, 1229, 2048, 2049, COLS};
    struct dice dice = dice_start(81);

    for (size_t rows = 1; rows <= ROWS; rows++)
        for (size_t i = 0; i < sizeof cols / sizeof *cols; i++)
            check(&dice, pass, rows, cols[i]);
}

static void every_processor_forms_both_products(void **state)
{
    (void)state;
    check_all(ge_pass);
    check_all(pass_4);
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2"))
        check_all(pass_avx2);
    if (__builtin_cpu_supports("avx512f"))
        check_all(pass_avx512);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_processor_forms_both_products),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
