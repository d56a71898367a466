/* Singular modes, against matrices made from known ones, and what is asked of
 * modes, against plain loops. */
#include <float.h>
#include <limits.h>
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
#include "message.h"
#include "modes.h"
#include "numbers.h"
#include "panels.h"
#include "svd.h"

#define assert_ok(call) assert_int_equal((call), GRADECHO_OK)

static ge_svd *solver(void)
{
    ge_svd *svd = NULL;

    assert_ok(ge_svd_create(1, 1e-3, &svd));
    assert_non_null(svd);
    return svd;
}

static struct ge_modes room(size_t rows, size_t cols, size_t count)
{
    struct ge_modes modes;

    assert_ok(ge_modes_init(&modes, rows, cols, count));
    return modes;
}

static double dot(const float *a, const float *b, size_t count)
{
    double sum = 0.0;

    for (size_t i = 0; i < count; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static void assert_orthonormal(const float *q, size_t count, size_t length,
                               double tolerance)
{
    for (size_t j = 0; j < count; j++)
        for (size_t k = 0; k <= j; k++)
            assert_near(dot(q + j * length, q + k * length, length),
                        j == k ? 1.0 : 0.0, tolerance);
}

/* Rounding errors of an m x n decomposition, relative to the largest value. */
static double rounding(const struct ge_modes *modes)
{
    return 4.0 * sqrt((double)ge_max_size(modes->rows, modes->cols)) *
           (double)FLT_EPSILON;
}

/* |A - U S V'|_F <= tolerance |A|_F; all modes must have been asked for. */
static void assert_rebuilds(const struct ge_modes *modes, const float *a)
{
    const size_t m = modes->rows, n = modes->cols;
    double square = 0.0, error = 0.0;

    assert_int_equal(modes->count, ge_min_size(m, n));
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            const double entry = (double)a[i * n + j];
            double sum = entry;

            for (size_t k = 0; k < modes->count; k++)
                sum -= (double)modes->s[k] * (double)modes->u[k * m + i] *
                       (double)modes->v[k * n + j];
            square += entry * entry;
            error += sum * sum;
        }
    }
    assert_true(sqrt(error) <= 4.0 * rounding(modes) * sqrt(square));
}

static void assert_proper(const struct ge_modes *modes)
{
    const double tolerance = 4.0 * rounding(modes);

    assert_orthonormal(modes->u, modes->count, modes->rows, tolerance);
    assert_orthonormal(modes->v, modes->count, modes->cols, tolerance);
    for (size_t k = 0; k < modes->count; k++) {
        assert_true(modes->s[k] >= 0.0F);
        assert_true(k == 0 || modes->s[k] <= modes->s[k - 1]);
    }
    /* The first value left out. */
    assert_true(modes->s[modes->count] >= 0.0F);
    assert_true(modes->s[modes->count] <= modes->s[modes->count - 1]);
    if (modes->count == ge_min_size(modes->rows, modes->cols))
        assert_true(modes->s[modes->count] == 0.0F);
}

static const struct {
    size_t rows, cols;
} shapes[] = {{2, 2},  {2, 3}, {3, 2},   {1, 5},   {5, 1},   {7, 40},
              {40, 7}, {8, 8}, {33, 33}, {64, 20}, {20, 64}, {8192, 8}};

static void every_shape_is_rebuilt_from_its_modes(void **state)
{
    struct dice dice = dice_start(31);
    ge_svd *svd = solver();

    (void)state;
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        const size_t m = shapes[i].rows, n = shapes[i].cols;
        struct ge_modes modes = room(m, n, ge_min_size(m, n));
        float *a = malloc(m * n * sizeof *a), *copy = malloc(m * n * sizeof *a);

        assert_non_null(a);
        assert_non_null(copy);
        fill_normal(&dice, a, m * n);
        memcpy(copy, a, m * n * sizeof *a);
        assert_ok(ge_svd_leading(svd, WHOLE(a, modes), NULL, &modes));
        assert_proper(&modes);
        assert_rebuilds(&modes, a);
        assert_memory_equal(a, copy, m * n * sizeof *a); /* left as it was */

        struct made made = {a, m, n, 0};
        struct ge_modes other = room(m, n, modes.count);

        assert_ok(ge_svd_leading(svd, MADE(&made), NULL, &other));
        assert_int_equal(made.entries, m * n);
        assert_memory_equal(other.block, modes.block,
                            ge_modes_floats(&modes) * sizeof *a);
        ge_modes_fini(&other);
        free(a);
        free(copy);
        ge_modes_fini(&modes);
    }
    ge_svd_destroy(&svd);
    assert_null(svd);
    ge_svd_destroy(&svd);
}

static void planted_values_are_found(void **state)
{
    static const double s[] = {9.0, 5.0, 4.9, 2.0, 1.0, 0.1};
    static const double scales[] = {1.0, 1e-30, 1e30};
    struct dice dice = dice_start(32);
    ge_svd *svd = solver();

    (void)state;
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        const size_t m = shapes[i].rows, n = shapes[i].cols;
        const size_t rank = ge_min_size(COUNT_OF(s), ge_min_size(m, n));

        for (size_t j = 0; j < COUNT_OF(scales); j++) {
            const size_t count = ge_min_size(rank + 3, ge_min_size(m, n));
            struct ge_modes modes = room(m, n, count);
            double scaled[COUNT_OF(s)];

            for (size_t k = 0; k < rank; k++)
                scaled[k] = s[k] * scales[j];
            float *a = planted(&dice, m, n, scaled, rank);
            const double tolerance = rounding(&modes) * scaled[0];

            assert_ok(ge_svd_leading(svd, WHOLE(a, modes), NULL, &modes));
            assert_proper(&modes);
            for (size_t k = 0; k <= count; k++)
                assert_near((double)modes.s[k], k < rank ? scaled[k] : 0.0,
                            tolerance);
            free(a);
            ge_modes_fini(&modes);
        }
    }
    ge_svd_destroy(&svd);
}

static void a_zero_gradient_has_zero_values_and_proper_vectors(void **state)
{
    struct ge_modes modes = room(12, 9, 9);
    ge_svd *svd = solver();
    float a[12 * 9] = {0};

    (void)state;
    assert_ok(ge_svd_leading(svd, WHOLE(a, modes), NULL, &modes));
    assert_proper(&modes);
    for (size_t k = 0; k < 9; k++)
        assert_true(modes.s[k] == 0.0F);
    ge_modes_fini(&modes);
    ge_svd_destroy(&svd);
}

static void the_first_modes_do_not_depend_on_how_many_are_asked(void **state)
{
    struct dice dice = dice_start(33);
    struct ge_modes all = room(30, 20, 20), few = room(30, 20, 3);
    ge_svd *svd = solver();
    float a[30 * 20];

    (void)state;
    fill_normal(&dice, a, COUNT_OF(a));
    assert_ok(ge_svd_leading(svd, WHOLE(a, all), NULL, &all));
    assert_ok(ge_svd_leading(svd, WHOLE(a, few), NULL, &few));
    assert_memory_equal(all.s, few.s, 3 * sizeof *few.s);
    assert_memory_equal(all.u, few.u, 3 * 30 * sizeof *few.u);
    assert_memory_equal(all.v, few.v, 3 * 20 * sizeof *few.v);
    ge_modes_fini(&all);
    ge_modes_fini(&few);
    ge_svd_destroy(&svd);
}

/* One more than is asked for, in every count. */
static void the_first_value_left_out_is_the_next_one(void **state)
{
    struct dice dice = dice_start(44);
    ge_svd *svd = solver();

    (void)state;
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        const size_t m = shapes[i].rows, n = shapes[i].cols;
        const size_t least = ge_min_size(m, n);
        struct ge_modes all = room(m, n, least);
        float *a = malloc(m * n * sizeof *a);

        assert_non_null(a);
        fill_normal(&dice, a, m * n);
        assert_ok(ge_svd_leading(svd, WHOLE(a, all), NULL, &all));
        for (size_t count = 1; count <= ge_min_size(least, 20); count++) {
            struct ge_modes few = room(m, n, count);

            assert_ok(ge_svd_leading(svd, WHOLE(a, few), NULL, &few));
            assert_memory_equal(all.s, few.s, (count + 1) * sizeof *few.s);
            ge_modes_fini(&few);
        }
        free(a);
        ge_modes_fini(&all);
    }
    ge_svd_destroy(&svd);
}

/* Wherever the gradient lies and whatever the solver did before. */
static void the_same_bits_in_give_the_same_bits_out(void **state)
{
    enum { M = 60, N = 45, COUNT = 10 };
    struct dice dice = dice_start(34);
    struct ge_modes one = room(M, N, COUNT), other = room(M, N, COUNT);
    struct ge_modes big = room(128, 128, 4);
    const size_t bytes = ge_modes_floats(&one) * sizeof(float);
    float *a = malloc((M * N + 4) * sizeof *a);
    float *noise = malloc(sizeof(float) * 128 * 128);
    ge_svd *fresh = solver(), *used = solver();

    (void)state;
    assert_non_null(a);
    assert_non_null(noise);
    fill_normal(&dice, noise, (size_t)128 * 128);
    assert_ok(ge_svd_leading(used, WHOLE(noise, big), NULL, &big));
    fill_normal(&dice, a, M * N);
    assert_ok(ge_svd_leading(fresh, WHOLE(a, one), NULL, &one));
    for (size_t shift = 1; shift < 4; shift++) {
        memmove(a + shift, a + shift - 1, M * N * sizeof *a);
        assert_ok(ge_svd_leading(used, WHOLE(a + shift, other), NULL, &other));
        assert_memory_equal(one.block, other.block, bytes);
    }
    free(a);
    free(noise);
    ge_modes_fini(&one);
    ge_modes_fini(&other);
    ge_modes_fini(&big);
    ge_svd_destroy(&fresh);
    ge_svd_destroy(&used);
}

static void what_does_not_fit_lapack_is_refused(void **state)
{
    const struct ge_modes table[] = {
        {.rows = (size_t)INT_MAX + 1, .cols = 2, .count = 1},
        {.rows = 2, .cols = (size_t)INT_MAX + 1, .count = 1},
        {.rows = 65536, .cols = 65536, .count = 1}};
    const float nothing = 0.0F;
    ge_svd *svd = NULL;
    const int before = ge_message_capture(1);

    (void)state;
    assert_ok(ge_svd_create(1, 0.0, &svd));
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        struct ge_modes modes = table[i];

        assert_int_equal(
            ge_svd_leading(svd, WHOLE(&nothing, modes), NULL, &modes),
            GRADECHO_E_INPUT);
        assert_non_null(strstr(ge_message_last(), "too large for LAPACK"));
    }
    ge_message_capture(before);
    ge_svd_destroy(&svd);
}

static void modes_lie_in_one_aligned_block(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        struct ge_modes modes = room(shapes[i].rows, shapes[i].cols, 5);

        assert_true((uintptr_t)modes.u % GE_ALIGNMENT == 0);
        assert_true((uintptr_t)modes.v % GE_ALIGNMENT == 0);
        assert_true((uintptr_t)modes.s % GE_ALIGNMENT == 0);
        assert_true(modes.u >= modes.block);
        assert_true(modes.v >= modes.u + 5 * modes.rows);
        assert_true(modes.s >= modes.v + 5 * modes.cols);
        assert_true(modes.s + 5 + 1 <= modes.block + ge_modes_floats(&modes));
        ge_modes_fini(&modes);
        assert_null(modes.block);
        ge_modes_fini(&modes);
    }
}

static void fill_orthonormal(struct dice *dice, struct ge_modes *modes)
{
    double *u = orthonormal(dice, modes->count, modes->rows);
    double *v = orthonormal(dice, modes->count, modes->cols);

    for (size_t i = 0; i < modes->count * modes->rows; i++)
        modes->u[i] = (float)u[i];
    for (size_t i = 0; i < modes->count * modes->cols; i++)
        modes->v[i] = (float)v[i];
    for (size_t k = 0; k < modes->count; k++)
        modes->s[k] = (float)(100.0 - (double)k); /* tells who is who */
    free(u);
    free(v);
}

/* Mode `from` of `a`, its sides turned by signs, as mode `to` of `b`. */
static void put(const struct ge_modes *a, size_t from, float left, float right,
                struct ge_modes *b, size_t to)
{
    for (size_t i = 0; i < a->rows; i++)
        b->u[to * a->rows + i] = left * a->u[from * a->rows + i];
    for (size_t i = 0; i < a->cols; i++)
        b->v[to * a->cols + i] = right * a->v[from * a->cols + i];
    b->s[to] = a->s[from];
}

static void shuffled_and_turned_modes_are_put_in_order(void **state)
{
    enum { R = 5, F = 8, M = 20, N = 15 };
    struct dice dice = dice_start(35);
    struct ge_modes all = room(M, N, F), reference = room(M, N, R);
    struct ge_modes found = room(M, N, F), matched = room(M, N, R);

    (void)state;
    for (int round = 0; round < 20; round++) {
        size_t order[F];
        double z[R];

        fill_orthonormal(&dice, &all);
        for (size_t k = 0; k < R; k++)
            put(&all, k, 1.0F, 1.0F, &reference, k);
        for (size_t k = 0; k < F; k++) {
            const size_t j = dice_below(&dice, k + 1); /* Fisher and Yates */

            order[k] = order[j];
            order[j] = k;
        }
        for (size_t k = 0; k < F; k++)
            put(&all, k, dice_below(&dice, 2) ? 1.0F : -1.0F,
                dice_below(&dice, 2) ? 1.0F : -1.0F, &found, order[k]);
        assert_ok(ge_modes_match(&reference, &found, &matched));
        ge_modes_overlap(&reference, &matched, 0, z);
        for (size_t k = 0; k < R; k++) {
            assert_true(matched.s[k] == reference.s[k]);
            assert_near(z[k], 1.0, 1e-5);
            /* v is as it was found; u makes the product positive. */
            assert_memory_equal(matched.v + k * N, found.v + order[k] * N,
                                N * sizeof(float));
        }
    }
    ge_modes_fini(&all);
    ge_modes_fini(&reference);
    ge_modes_fini(&found);
    ge_modes_fini(&matched);
}

static void overlaps_with_neighbours_end_at_the_ends(void **state)
{
    enum { R = 4, M = 6, N = 5 };
    struct dice dice = dice_start(41);
    struct ge_modes a = room(M, N, R), b = room(M, N, R);

    (void)state;
    fill_orthonormal(&dice, &a);
    for (size_t k = 0; k < R; k++) /* b's modes are a's, one farther on */
        put(&a, (k + R - 1) % R, 1.0F, 1.0F, &b, k);
    for (int shift = -R; shift <= R; shift++) {
        double z[R];

        ge_modes_overlap(&a, &b, shift, z);
        for (int k = 0; k < R; k++)
            assert_near(z[k],
                        shift == 1 && k + 1 < R        ? 1.0
                        : shift == 1 - R && k == R - 1 ? 1.0
                                                       : 0.0,
                        1e-5);
    }
    ge_modes_fini(&a);
    ge_modes_fini(&b);
}

/* Found mode 0 is the best partner of both references; the reference that it
 * fits best has it, and the other takes what is left. */
static void the_best_pair_is_settled_first(void **state)
{
    struct ge_modes reference = room(2, 1, 2), found = room(2, 1, 2);
    struct ge_modes matched = room(2, 1, 2);
    double z[2];

    (void)state;
    memcpy(reference.u, (const float[]){1, 0, 0, 1}, 4 * sizeof(float));
    memcpy(reference.v, (const float[]){1, 1}, 2 * sizeof(float));
    memcpy(found.u, (const float[]){0.8F, -0.9F, 0.7F, 0.1F},
           4 * sizeof(float));
    memcpy(found.v, (const float[]){1, 1}, 2 * sizeof(float));
    memcpy(found.s, (const float[]){10, 20}, 2 * sizeof(float));
    assert_ok(ge_modes_match(&reference, &found, &matched));
    assert_true(matched.s[0] == 20.0F);
    assert_true(matched.s[1] == 10.0F);
    ge_modes_overlap(&reference, &matched, 0, z);
    assert_near(z[0], 0.7, 1e-6);
    assert_near(z[1], 0.9, 1e-6);
    ge_modes_fini(&reference);
    ge_modes_fini(&found);
    ge_modes_fini(&matched);
}

/* Nobody was refused by a partner that would rather have had them: where j is
 * not k's partner, k's partner or j's own one fits at least as well. */
static void assert_nobody_was_robbed(const struct ge_modes *reference,
                                     const struct ge_modes *found,
                                     const struct ge_modes *matched)
{
    const size_t m = found->rows, n = found->cols;

    for (size_t k = 0; k < reference->count; k++) {
        const double mine =
            fabs(dot(reference->u + k * m, matched->u + k * m, m) *
                 dot(reference->v + k * n, matched->v + k * n, n));

        for (size_t j = 0; j < found->count; j++) {
            const double wish =
                fabs(dot(reference->u + k * m, found->u + j * m, m) *
                     dot(reference->v + k * n, found->v + j * n, n));
            double theirs = 0.0;
            size_t owners = 0;

            for (size_t o = 0; o < reference->count; o++) {
                if (matched->s[o] != found->s[j])
                    continue;
                owners++;
                theirs = fabs(dot(reference->u + o * m, found->u + j * m, m) *
                              dot(reference->v + o * n, found->v + j * n, n));
            }
            assert_true(owners <= 1); /* one to one */
            assert_true(wish <= fmax(mine, theirs) + 1e-5);
        }
    }
}

static void matching_robs_nobody(void **state)
{
    enum { R = 6, F = 9, M = 10, N = 9 };
    struct dice dice = dice_start(36);
    struct ge_modes reference = room(M, N, R), found = room(M, N, F);
    struct ge_modes matched = room(M, N, R);

    (void)state;
    for (int round = 0; round < 50; round++) {
        double z[R];

        fill_orthonormal(&dice, &reference);
        fill_orthonormal(&dice, &found);
        assert_ok(ge_modes_match(&reference, &found, &matched));
        assert_nobody_was_robbed(&reference, &found, &matched);
        ge_modes_overlap(&reference, &matched, 0, z);
        for (size_t k = 0; k < R; k++)
            assert_true(z[k] >= -1e-6);
    }
    ge_modes_fini(&reference);
    ge_modes_fini(&found);
    ge_modes_fini(&matched);
}

static void projections_equal_plain_loops(void **state)
{
    struct dice dice = dice_start(37);

    (void)state;
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        const size_t m = shapes[i].rows, n = shapes[i].cols;
        const size_t count = ge_min_size(ge_min_size(m, n), 6);
        struct ge_modes modes = room(m, n, count), other = room(m, n, count);
        float *a = malloc(m * n * sizeof *a);
        double p[6], z[6];

        assert_non_null(a);
        fill_normal(&dice, a, m * n);
        fill_orthonormal(&dice, &modes);
        fill_orthonormal(&dice, &other);
        assert_ok(ge_modes_project(&modes, WHOLE(a, modes), p));
        ge_modes_overlap(&modes, &other, 0, z);
        for (size_t k = 0; k < count; k++) {
            double sum = 0.0;

            for (size_t r = 0; r < m; r++)
                sum += (double)modes.u[k * m + r] *
                       dot(a + r * n, modes.v + k * n, n);
            assert_near(p[k], sum,
                        rounding(&modes) * sqrt((double)m * (double)n));
            assert_near(z[k],
                        dot(modes.u + k * m, other.u + k * m, m) *
                            dot(modes.v + k * n, other.v + k * n, n),
                        1e-14);
        }
        free(a);
        ge_modes_fini(&modes);
        ge_modes_fini(&other);
    }
}

/* ||(I - q q') w||^2, straight from its definition. */
static double norm_without(const double *w, const float *q, size_t count)
{
    double along = 0.0, sum = 0.0;

    for (size_t i = 0; i < count; i++)
        along += (double)q[i] * w[i];
    for (size_t i = 0; i < count; i++) {
        const double rest = w[i] - along * (double)q[i];

        sum += rest * rest;
    }
    return sum;
}

static void leaks_equal_plain_loops(void **state)
{
    enum { M = 40, N = 25, COUNT = 4 };
    struct dice dice = dice_start(39);
    struct ge_modes modes = room(M, N, COUNT);
    float r[M * N];
    double left[COUNT], right[COUNT], along[COUNT];

    (void)state;
    fill_normal(&dice, r, COUNT_OF(r));
    fill_orthonormal(&dice, &modes);
    assert_ok(ge_modes_leak(&modes, WHOLE(r, modes), left, right, along));
    for (size_t k = 0; k < COUNT; k++) {
        const float *u = modes.u + k * M, *v = modes.v + k * N;
        double rv[M] = {0}, ru[N] = {0};

        for (size_t i = 0; i < M; i++) {
            for (size_t j = 0; j < N; j++) {
                rv[i] += (double)r[i * N + j] * (double)v[j];
                ru[j] += (double)r[i * N + j] * (double)u[i];
            }
        }
        assert_close(left[k], norm_without(rv, u, M), 1e-5);
        assert_close(right[k], norm_without(ru, v, N), 1e-5);
    }
    ge_modes_fini(&modes);
}

static void a_mode_does_not_leak_out_of_itself(void **state)
{
    static const double s[] = {3.0};
    struct dice dice = dice_start(40);
    struct ge_modes modes = room(30, 20, 1);
    float *a = planted(&dice, 30, 20, s, 1);
    ge_svd *svd = solver();
    double left = 1.0, right = 1.0, along = 0.0;

    (void)state;
    assert_ok(ge_svd_leading(svd, WHOLE(a, modes), NULL, &modes));
    assert_ok(ge_modes_leak(&modes, WHOLE(a, modes), &left, &right, &along));
    /* To the rounding of single precision, of s^2. */
    assert_near(left, 0.0, 4.0 * 9.0 * (double)FLT_EPSILON);
    assert_near(right, 0.0, 4.0 * 9.0 * (double)FLT_EPSILON);
    assert_close(along, 3.0, 1e-6);
    free(a);
    ge_modes_fini(&modes);
    ge_svd_destroy(&svd);
}

static void a_block_can_be_seen_as_modes(void **state)
{
    struct dice dice = dice_start(41);
    struct ge_modes modes = room(13, 7, 3);
    float *block = ge_alloc_aligned(ge_modes_floats(&modes), sizeof *block);

    (void)state;
    assert_non_null(block);
    fill_orthonormal(&dice, &modes);
    memcpy(block, modes.block, ge_modes_floats(&modes) * sizeof *block);
    const struct ge_modes view = ge_modes_view(&modes, block);

    assert_ptr_equal(view.block, block);
    assert_int_equal(view.rows, 13);
    assert_int_equal(view.cols, 7);
    assert_int_equal(view.count, 3);
    assert_memory_equal(view.u, modes.u, sizeof(float) * 3 * 13);
    assert_memory_equal(view.v, modes.v, sizeof(float) * 3 * 7);
    assert_memory_equal(view.s, modes.s, sizeof(float) * 3);
    free(block);
    ge_modes_fini(&modes);
}

static void a_mode_projects_its_matrix_onto_its_value(void **state)
{
    static const double s[] = {8.0, 3.0, 1.0};
    struct dice dice = dice_start(38);
    struct ge_modes modes = room(50, 30, 3);
    float *a = planted(&dice, 50, 30, s, 3);
    ge_svd *svd = solver();
    double p[3];

    (void)state;
    assert_ok(ge_svd_leading(svd, WHOLE(a, modes), NULL, &modes));
    assert_ok(ge_modes_project(&modes, WHOLE(a, modes), p));
    for (size_t k = 0; k < 3; k++)
        assert_near(p[k], s[k], 2e-5);
    free(a);
    ge_modes_fini(&modes);
    ge_svd_destroy(&svd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shape_is_rebuilt_from_its_modes),
        cmocka_unit_test(planted_values_are_found),
        cmocka_unit_test(a_zero_gradient_has_zero_values_and_proper_vectors),
        cmocka_unit_test(the_first_modes_do_not_depend_on_how_many_are_asked),
        cmocka_unit_test(the_first_value_left_out_is_the_next_one),
        cmocka_unit_test(the_same_bits_in_give_the_same_bits_out),
        cmocka_unit_test(what_does_not_fit_lapack_is_refused),
        cmocka_unit_test(modes_lie_in_one_aligned_block),
        cmocka_unit_test(shuffled_and_turned_modes_are_put_in_order),
        cmocka_unit_test(overlaps_with_neighbours_end_at_the_ends),
        cmocka_unit_test(the_best_pair_is_settled_first),
        cmocka_unit_test(matching_robs_nobody),
        cmocka_unit_test(projections_equal_plain_loops),
        cmocka_unit_test(leaks_equal_plain_loops),
        cmocka_unit_test(a_mode_does_not_leak_out_of_itself),
        cmocka_unit_test(a_block_can_be_seen_as_modes),
        cmocka_unit_test(a_mode_projects_its_matrix_onto_its_value),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
