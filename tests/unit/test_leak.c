/* How much of a residual leaks out of a mode, against naive loops; modes that
 * are seen in a block of somebody else's. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "matrices.h"
#include "memory.h"
#include "modes.h"
#include "numbers.h"
#include "panels.h"

#define assert_ok(call) assert_int_equal((call), GRADECHO_OK)

static void to_single(double *from, size_t count, float *to)
{
    for (size_t i = 0; i < count; i++)
        to[i] = (float)from[i];
    free(from);
}

static struct ge_modes modes_of(struct dice *dice, size_t rows, size_t cols,
                                size_t count)
{
    struct ge_modes modes;

    assert_ok(ge_modes_init(&modes, rows, cols, count));
    to_single(orthonormal(dice, count, rows), count * rows, modes.u);
    to_single(orthonormal(dice, count, cols), count * cols, modes.v);
    for (size_t k = 0; k < count; k++)
        modes.s[k] = 1.0F;
    return modes;
}

/* ge_modes_leak(), of the matrix as it lies and as it is made panel by panel;
 * what it finds along the modes must be what projecting finds. */
static void leak(const struct ge_modes *modes, const float *r, double *left,
                 double *right)
{
    struct made made = {r, modes->rows, modes->cols, 0};
    double *same = malloc(4 * modes->count * sizeof *same);
    const size_t bytes = modes->count * sizeof *same;

    assert_non_null(same);
    double *along = same + modes->count, *p = along + modes->count;
    double *other = p + modes->count;

    assert_ok(ge_modes_leak(modes, WHOLE(r, *modes), left, right, along));
    assert_ok(ge_modes_project(modes, WHOLE(r, *modes), p));
    assert_memory_equal(along, p, bytes);
    assert_ok(ge_modes_leak(modes, MADE(&made), same, other, p));
    assert_int_equal(made.entries, modes->rows * modes->cols);
    assert_memory_equal(same, left, bytes);
    assert_memory_equal(other, right, bytes);
    assert_memory_equal(along, p, bytes);
    assert_ok(ge_modes_project(modes, MADE(&made), p));
    assert_memory_equal(along, p, bytes);
    free(same);
}

/* ||(I - w w') R x||^2, R of `length` rows read at the given steps. */
static double naive(const float *r, size_t length, size_t other, size_t row,
                    size_t col, const float *w, const float *x)
{
    double *image = calloc(length, sizeof *image);
    double along = 0.0, norm = 0.0, sum = 0.0;

    assert_non_null(image);
    for (size_t i = 0; i < length; i++) {
        for (size_t j = 0; j < other; j++)
            image[i] += (double)r[i * row + j * col] * (double)x[j];
        along += (double)w[i] * image[i];
        norm += (double)w[i] * (double)w[i];
    }
    for (size_t i = 0; i < length; i++) {
        const double rest = image[i] - along / norm * (double)w[i];

        sum += rest * rest;
    }
    free(image);
    return sum;
}

static void assert_naive(const struct ge_modes *modes, const float *r,
                         double tolerance)
{
    const size_t m = modes->rows, n = modes->cols, count = modes->count;
    double *left = malloc(count * sizeof *left);
    double *right = malloc(count * sizeof *right);

    assert_non_null(left);
    assert_non_null(right);
    leak(modes, r, left, right);
    for (size_t k = 0; k < count; k++) {
        const float *u = modes->u + k * m, *v = modes->v + k * n;

        assert_close(left[k], naive(r, m, n, n, 1, u, v), tolerance);
        assert_close(right[k], naive(r, n, m, 1, n, v, u), tolerance);
    }
    free(left);
    free(right);
}

static void leaks_equal_naive_loops_in_every_shape(void **state)
{
    static const size_t shapes[][3] = {
        {2, 2, 1},     {2, 3, 2},     {3, 2, 2},     {7, 5, 5},
        {64, 64, 8},   {16, 300, 16}, {300, 16, 16}, {70, 20000, 3},
        {9000, 40, 2}, {1, 9, 1},     {9, 1, 1}};
    struct dice dice = dice_start(111);

    (void)state;
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        const size_t m = shapes[i][0], n = shapes[i][1];
        struct ge_modes modes = modes_of(&dice, m, n, shapes[i][2]);
        float *r = ge_alloc_aligned(m * n, sizeof *r);

        assert_non_null(r);
        fill_normal(&dice, r, m * n);
        if (m > 1 && n > 1)
            assert_naive(&modes, r, 3e-5);
        free(r);
        ge_modes_fini(&modes);
    }
}

/* A vector on one side has nowhere to leak to there. */
static void a_side_of_one_entry_does_not_leak(void **state)
{
    struct dice dice = dice_start(112);
    struct ge_modes modes = modes_of(&dice, 1, 40, 1);
    float r[40];
    double left = -1.0, right = -1.0, square = 0.0, along = 0.0;

    (void)state;
    fill_normal(&dice, r, COUNT_OF(r));
    for (size_t j = 0; j < COUNT_OF(r); j++) {
        square += (double)r[j] * (double)r[j];
        along += (double)r[j] * (double)modes.v[j];
    }
    leak(&modes, r, &left, &right);
    assert_true(left >= 0.0);
    assert_near(left, 0.0, 8.0 * along * along * (double)FLT_EPSILON);
    assert_close(right, square - along * along, 1e-5);
    ge_modes_fini(&modes);
}

static void leaks_of_tiny_and_of_huge_residuals_are_right(void **state)
{
    static const float scales[] = {1e-30F, 1e-20F, 1e20F, 1e30F};
    struct dice dice = dice_start(113);

    (void)state;
    for (size_t i = 0; i < COUNT_OF(scales); i++) {
        struct ge_modes modes = modes_of(&dice, 30, 20, 4);
        float r[30 * 20];

        fill_normal(&dice, r, COUNT_OF(r));
        for (size_t j = 0; j < COUNT_OF(r); j++)
            r[j] *= scales[i];
        assert_naive(&modes, r, 3e-5);
        ge_modes_fini(&modes);
    }
}

/* The residual is all along the mode, so that the difference of two equal
 * squares is left: the side on which rounding falls is a matter of luck. */
static void a_leak_is_never_negative(void **state)
{
    enum { M = 31, N = 17 };
    struct dice dice = dice_start(114);

    (void)state;
    for (int draw = 0; draw < 1000; draw++) {
        struct ge_modes modes = modes_of(&dice, M, N, 1);
        float r[M * N];
        double left = 0.0, right = 0.0;

        for (size_t i = 0; i < M; i++)
            for (size_t j = 0; j < N; j++)
                r[i * N + j] = 1e3F * modes.u[i] * modes.v[j];
        leak(&modes, r, &left, &right);
        assert_true(left >= 0.0);
        assert_true(right >= 0.0);
        assert_near(left, 0.0, 1e6 * 8.0 * (double)FLT_EPSILON);
        assert_near(right, 0.0, 1e6 * 8.0 * (double)FLT_EPSILON);
        ge_modes_fini(&modes);
    }
}

static void a_residual_of_zero_does_not_leak(void **state)
{
    struct dice dice = dice_start(115);
    struct ge_modes modes = modes_of(&dice, 6, 8, 3);
    const float r[48] = {0.0F};
    double left[3], right[3];

    (void)state;
    leak(&modes, r, left, right);
    for (size_t k = 0; k < 3; k++) {
        assert_near(left[k], 0.0, 0.0);
        assert_near(right[k], 0.0, 0.0);
    }
    ge_modes_fini(&modes);
}

static void a_residual_turned_on_its_side_leaks_on_the_other(void **state)
{
    enum { M = 24, N = 35, COUNT = 5 };
    struct dice dice = dice_start(116);
    struct ge_modes modes = modes_of(&dice, M, N, COUNT), turned;
    float r[M * N], t[N * M];
    double side[4][COUNT];

    (void)state;
    fill_normal(&dice, r, COUNT_OF(r));
    for (size_t i = 0; i < M; i++)
        for (size_t j = 0; j < N; j++)
            t[j * M + i] = r[i * N + j];
    assert_ok(ge_modes_init(&turned, N, M, COUNT));
    memcpy(turned.u, modes.v, sizeof(float) * COUNT * N);
    memcpy(turned.v, modes.u, sizeof(float) * COUNT * M);
    leak(&modes, r, side[0], side[1]);
    leak(&turned, t, side[2], side[3]);
    for (size_t k = 0; k < COUNT; k++) {
        assert_close(side[2][k], side[1][k], 1e-5);
        assert_close(side[3][k], side[0][k], 1e-5);
    }
    ge_modes_fini(&turned);
    ge_modes_fini(&modes);
}

static void a_view_is_the_block_and_not_a_copy(void **state)
{
    static const size_t shapes[][3] = {
        {2, 3, 1}, {13, 7, 3}, {16, 16, 4}, {5, 100, 5}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        const struct ge_modes like = {
            .rows = shapes[i][0], .cols = shapes[i][1], .count = shapes[i][2]};
        const size_t floats = ge_modes_floats(&like);
        float *block = ge_alloc_aligned(floats, sizeof *block);
        const struct ge_modes view = ge_modes_view(&like, block);

        assert_non_null(block);
        assert_ptr_equal(view.block, block);
        assert_int_equal(view.rows, like.rows);
        assert_int_equal(view.cols, like.cols);
        assert_int_equal(view.count, like.count);
        /* Three parts, apart, aligned, inside. */
        assert_ptr_equal(view.u, block);
        assert_true(view.v >= view.u + view.count * view.rows);
        assert_true(view.s >= view.v + view.count * view.cols);
        assert_true(view.s + view.count + 1 <= block + floats);
        assert_int_equal((uintptr_t)view.u % GE_ALIGNMENT, 0);
        assert_int_equal((uintptr_t)view.v % GE_ALIGNMENT, 0);
        assert_int_equal((uintptr_t)view.s % GE_ALIGNMENT, 0);
        /* Written through the one, read through the other. */
        view.u[view.count * view.rows - 1] = 1.0F;
        view.v[view.count * view.cols - 1] = 2.0F;
        view.s[view.count] = 3.0F; /* the first value left out */
        const struct ge_modes again = ge_modes_view(&like, block);

        assert_true(again.u[view.count * view.rows - 1] == 1.0F);
        assert_true(again.v[view.count * view.cols - 1] == 2.0F);
        assert_true(again.s[view.count] == 3.0F);
        free(block);
    }
}

/* A view of what modes own says what they say: modes travel as blocks. */
static void a_block_means_the_same_wherever_it_lies(void **state)
{
    struct dice dice = dice_start(117);
    struct ge_modes modes = modes_of(&dice, 12, 21, 4);
    const size_t floats = ge_modes_floats(&modes);
    float *sent = ge_alloc_aligned(floats, sizeof *sent), r[12 * 21];
    double left[2][4], right[2][4];

    (void)state;
    assert_non_null(sent);
    memcpy(sent, modes.block, floats * sizeof *sent);
    fill_normal(&dice, r, COUNT_OF(r));
    const struct ge_modes view = ge_modes_view(&modes, sent);

    assert_ptr_not_equal(view.u, modes.u);
    leak(&modes, r, left[0], right[0]);
    leak(&view, r, left[1], right[1]);
    assert_memory_equal(left[0], left[1], sizeof left[0]);
    assert_memory_equal(right[0], right[1], sizeof right[0]);
    free(sent);
    ge_modes_fini(&modes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leaks_equal_naive_loops_in_every_shape),
        cmocka_unit_test(a_side_of_one_entry_does_not_leak),
        cmocka_unit_test(leaks_of_tiny_and_of_huge_residuals_are_right),
        cmocka_unit_test(a_leak_is_never_negative),
        cmocka_unit_test(a_residual_of_zero_does_not_leak),
        cmocka_unit_test(a_residual_turned_on_its_side_leaks_on_the_other),
        cmocka_unit_test(a_view_is_the_block_and_not_a_copy),
        cmocka_unit_test(a_block_means_the_same_wherever_it_lies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
