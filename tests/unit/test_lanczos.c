/* Leading modes of noisy matrices, against LAPACK's; matrices that use up a
 * Krylov space; what a residual says. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lanczos.h"
#include "matrices.h"
#include "memory.h"
#include "message.h"
#include "numbers.h"
#include "panels.h"
#include "svd.h"

#define assert_ok(call) assert_int_equal((call), GRADECHO_OK)

enum { MODES = 16 };
static const double tolerance = 1e-3;

static ge_lanczos *solver(void)
{
    ge_lanczos *lanczos = NULL;

    assert_ok(ge_lanczos_create(&lanczos));
    return lanczos;
}

static struct ge_modes room(size_t rows, size_t cols, size_t count)
{
    struct ge_modes modes;

    assert_ok(ge_modes_init(&modes, rows, cols, count));
    return modes;
}

static struct ge_modes exact(const float *a, size_t rows, size_t cols,
                             size_t count)
{
    struct ge_modes modes = room(rows, cols, count);
    ge_svd *svd = NULL;

    assert_ok(ge_svd_create(1, 0.0, &svd));
    assert_ok(ge_svd_leading(svd, WHOLE(a, modes), NULL, &modes));
    ge_svd_destroy(&svd);
    return modes;
}

static double dot(const float *a, const float *b, size_t count)
{
    double sum = 0.0;

    for (size_t i = 0; i < count; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static void assert_orthonormal(const float *q, size_t count, size_t length)
{
    for (size_t j = 0; j < count; j++)
        for (size_t k = 0; k <= j; k++)
            assert_near(dot(q + j * length, q + k * length, length),
                        j == k ? 1.0 : 0.0, 1e-5);
}

/* ||A' u - s v|| / s of mode k. */
static double true_residual(const struct ge_modes *modes, const float *a,
                            size_t k)
{
    double square = 0.0;

    for (size_t j = 0; j < modes->cols; j++) {
        double sum =
            -(double)modes->s[k] * (double)modes->v[k * modes->cols + j];

        for (size_t i = 0; i < modes->rows; i++)
            sum += (double)a[i * modes->cols + j] *
                   (double)modes->u[k * modes->rows + i];
        square += sum * sum;
    }
    return sqrt(square) / (double)modes->s[k];
}

/* Noise, its rows and columns scaled by exp(spread x normal), and `count` modes
 * whose values fall from 20 to 1.3 times the end of plain noise. */
static float *noisy(struct dice *dice, size_t rows, size_t cols, size_t count,
                    double spread)
{
    const double end = sqrt((double)rows) + sqrt((double)cols);
    double s[MODES], *scale = malloc(cols * sizeof *scale);

    assert_non_null(scale);
    for (size_t k = 0; k < count; k++)
        s[k] = end * 20.0 * pow(1.3 / 20.0, (double)k / (double)count);
    for (size_t j = 0; j < cols; j++)
        scale[j] = exp(spread * dice_normal(dice));
    float *a = planted(dice, rows, cols, s, count);
    for (size_t i = 0; i < rows; i++) {
        const double row = exp(spread * dice_normal(dice));

        for (size_t j = 0; j < cols; j++)
            a[i * cols + j] += (float)(row * scale[j] * dice_normal(dice));
    }
    free(scale);
    return a;
}

/* A direction can be asked for only where a mode is apart from its neighbours;
 * it must be had for every mode 5 % above those that are not signal. */
static bool stands_out(const struct ge_modes *modes, size_t k, size_t count)
{
    const double s = (double)modes->s[k];

    return s > 1.05 * (double)modes->s[count] &&
           s > 1.02 * (double)modes->s[k + 1] &&
           (k == 0 || (double)modes->s[k - 1] > 1.02 * s);
}

static void modes_that_stand_out_are_those_of_lapack(void **state)
{
    static const struct {
        size_t rows, cols, count;
        double spread;
    } cases[] = {{160, 160, 1, 0.0},  {160, 300, 6, 0.0},  {300, 160, 12, 0.0},
                 {256, 256, 16, 0.0}, {160, 160, 3, 0.5},  {160, 300, 8, 0.5},
                 {300, 160, 14, 0.5}, {256, 256, 16, 1.0}, {900, 140, 5, 0.0},
                 {140, 900, 5, 0.5}};
    struct dice dice = dice_start(71);
    ge_lanczos *lanczos = solver();
    size_t judged = 0;

    (void)state;
    for (size_t i = 0; i < 3 * COUNT_OF(cases); i++) {
        const size_t m = cases[i / 3].rows, n = cases[i / 3].cols;
        const size_t count = cases[i / 3].count;
        float *a = noisy(&dice, m, n, count, cases[i / 3].spread);
        struct ge_modes truth = exact(a, m, n, MODES + 1);
        struct ge_modes found = room(m, n, MODES);
        const double rounding = 4e-6 * (double)truth.s[0]; /* of both */

        assert_ok(ge_lanczos_leading(lanczos, WHOLE(a, found), NULL, tolerance,
                                     &found, NULL));
        assert_orthonormal(found.u, MODES, m);
        assert_orthonormal(found.v, MODES, n);
        for (size_t k = 0; k < MODES; k++) {
            assert_true(found.s[k + 1] <= found.s[k]);
            assert_true((double)found.s[k] < (double)truth.s[k] + rounding);
            if (!stands_out(&truth, k, count))
                continue;
            judged++;
            assert_true((double)found.r[k] < tolerance);
            assert_near((double)found.s[k], (double)truth.s[k], rounding);
            assert_true(fabs(dot(found.u + k * m, truth.u + k * m, m)) > 0.999);
            assert_true(fabs(dot(found.v + k * n, truth.v + k * n, n)) > 0.999);
        }
        free(a);
        ge_modes_fini(&truth);
        ge_modes_fini(&found);
    }
    assert_true(judged > 100);
    ge_lanczos_destroy(&lanczos);
    assert_null(lanczos);
    ge_lanczos_destroy(&lanczos);
}

static void residuals_are_what_they_say(void **state)
{
    struct dice dice = dice_start(72);
    ge_lanczos *lanczos = solver();
    float *a = noisy(&dice, 200, 320, 4, 0.0);
    struct ge_modes found = room(200, 320, MODES);

    (void)state;
    assert_ok(ge_lanczos_leading(lanczos, WHOLE(a, found), NULL, tolerance,
                                 &found, NULL));
    assert_true((double)found.r[MODES - 1] > tolerance); /* in the bulk */
    for (size_t k = 0; k < MODES; k++)
        assert_near((double)found.r[k], true_residual(&found, a, k), 1e-5);
    free(a);
    ge_modes_fini(&found);
    ge_lanczos_destroy(&lanczos);
}

/* Few passes when nothing stands out, fewer in all with a start close by, and
 * as many as were told. */
static void nothing_is_spent_on_the_bulk(void **state)
{
    static const struct {
        size_t rows, cols, modes, most;
    } cases[] = {{300, 300, 0, 60},
                 {300, 300, 8, 60},
                 {768, 768, 14, 40},
                 {768, 768, 6, 32},
                 {768, 768, 0, 24}};
    struct dice dice = dice_start(73);
    ge_lanczos *lanczos = solver();
    int saved = 0;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const size_t m = cases[i].rows, n = cases[i].cols;
        float *a = noisy(&dice, m, n, cases[i].modes, 0.0);
        float *b = malloc(m * n * sizeof *b);
        struct made made = {a, m, n, 0};
        struct ge_modes found = room(m, n, MODES), near = room(m, n, MODES);
        size_t cold = 0, warm = 0;

        assert_non_null(b);
        for (size_t j = 0; j < m * n; j++)
            b[j] = a[j] + 0.5F * (float)dice_normal(&dice);
        assert_ok(ge_lanczos_leading(lanczos, WHOLE(b, near), NULL, tolerance,
                                     &near, NULL));
        assert_ok(ge_lanczos_leading(lanczos, MADE(&made), NULL, tolerance,
                                     &found, &cold));
        assert_int_equal(made.entries, cold * m * n);
        assert_ok(ge_lanczos_leading(lanczos, MADE(&made), &near, tolerance,
                                     &found, &warm));
        assert_int_equal(made.entries, (cold + warm) * m * n);
        assert_true(cold <= cases[i].most);
        assert_true(warm <= cases[i].most);
        saved += (int)cold - (int)warm;
        free(a);
        free(b);
        ge_modes_fini(&found);
        ge_modes_fini(&near);
    }
    assert_true(saved > 0);
    ge_lanczos_destroy(&lanczos);
}

/* Good, useless, or not even numbers: a start saves steps and no more. */
static void any_start_will_do(void **state)
{
    enum { M = 300, N = 260, COUNT = 5 };
    struct dice dice = dice_start(77);
    ge_lanczos *lanczos = solver();
    float *a = noisy(&dice, M, N, COUNT, 0.0);
    struct ge_modes truth = exact(a, M, N, MODES), found = room(M, N, MODES);
    struct ge_modes start = room(M, N, 4);
    double *other = orthonormal(&dice, 4, N);
    const float sizes[] = {truth.s[0], 0.0F,  (float)NAN,
                           1e-30F,     1e30F, (float)INFINITY};
    size_t passes[COUNT_OF(sizes)];

    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        for (size_t i = 0; i < (size_t)4 * N; i++) {
            const float bad[] = {truth.v[i], 0.0F, 0.0F, (float)NAN};

            start.v[i] = bad[kind];
        }
        for (size_t k = 0; kind == 1 && k < 4; k++) {
            for (size_t i = 0; i < N; i++)
                start.v[k * N + i] = (float)other[k * N + i];
            for (size_t j = 0; j < COUNT; j++) { /* nothing of the solution */
                const double c = dot(start.v + k * N, truth.v + j * N, N);

                for (size_t i = 0; i < N; i++)
                    start.v[k * N + i] -= (float)c * truth.v[j * N + i];
            }
        }
        for (size_t size = 0; size < COUNT_OF(sizes); size++) {
            start.s[0] = sizes[size];
            assert_ok(ge_lanczos_leading(lanczos, WHOLE(a, found), &start,
                                         tolerance, &found, passes + size));
            for (size_t k = 0; k < COUNT; k++) {
                const float *u = found.u + k * M, *v = found.v + k * N;

                assert_true((double)found.r[k] < tolerance);
                assert_true(fabs(dot(u, truth.u + k * M, M)) > 0.999);
                assert_true(fabs(dot(v, truth.v + k * N, N)) > 0.999);
            }
        }
        /* One that tells how large the matrix is saves a pass; one that is
         * wrong about it does no harm. */
        assert_int_equal(passes[0] + 1, passes[1]);
        for (size_t size = 2; size < COUNT_OF(sizes); size++)
            assert_int_equal(passes[size], passes[1]);
    }
    free(a);
    free(other);
    ge_modes_fini(&truth);
    ge_modes_fini(&found);
    ge_modes_fini(&start);
    ge_lanczos_destroy(&lanczos);
}

/* A spectrum without a bulk, as gradients early in training have; one mode far
 * above all others, which its rounding errors must not hide. */
static void steep_spectra_are_followed(void **state)
{
    static const struct {
        double power, first;
    } cases[] = {{0.5, 1.0}, {1.0, 1.0}, {2.0, 1.0}, {0.5, 300.0}};
    enum { M = 240, N = 200, RANK = 120 };
    struct dice dice = dice_start(78);
    ge_lanczos *lanczos = solver();

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        double s[RANK];

        for (size_t k = 0; k < RANK; k++)
            s[k] = pow((double)(k + 1), -cases[i].power);
        s[0] *= cases[i].first;

        float *a = planted(&dice, M, N, s, RANK);
        struct ge_modes truth = exact(a, M, N, MODES + 1);
        struct ge_modes found = room(M, N, MODES);

        assert_ok(ge_lanczos_leading(lanczos, WHOLE(a, found), NULL, tolerance,
                                     &found, NULL));
        for (size_t k = 0; k < MODES; k++) {
            assert_near((double)found.s[k], s[k], 4e-6 * s[0] + 1e-4 * s[k]);
            if (!stands_out(&truth, k, MODES))
                continue;
            assert_true(fabs(dot(found.u + k * M, truth.u + k * M, M)) > 0.999);
            assert_true(fabs(dot(found.v + k * N, truth.v + k * N, N)) > 0.999);
        }
        free(a);
        ge_modes_fini(&truth);
        ge_modes_fini(&found);
    }
    ge_lanczos_destroy(&lanczos);
}

/* From the smallest for so many modes to 8192 a side; products with what was
 * planted tell, LAPACK would take minutes. */
static void every_size_is_found(void **state)
{
    static const struct {
        size_t rows, cols, modes;
    } cases[] = {{67, 67, 1},   {64 + 48, 8192, 16}, {8192, 112, 16},
                 {8192, 70, 2}, {1024, 8192, 4},     {8192, 8192, 4}};
    struct dice dice = dice_start(79);
    ge_lanczos *lanczos = solver();

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const size_t m = cases[i].rows, n = cases[i].cols;
        float *a = ge_alloc_aligned(m * n, sizeof *a);
        float *u = malloc(m * sizeof *u), *v = malloc(n * sizeof *v);
        struct ge_modes found = room(m, n, cases[i].modes);
        uint32_t bits = 1;
        double left = 0.0, right = 0.0;

        assert_non_null(a);
        assert_non_null(u);
        assert_non_null(v);
        fill_normal(&dice, u, m);
        fill_normal(&dice, v, n);
        left = sqrt(dot(u, u, m));
        right = sqrt(dot(v, v, n));
        for (size_t j = 0; j < m * n; j++) { /* cheap noise, of variance 1 */
            bits ^= bits << 13;
            bits ^= bits >> 17;
            bits ^= bits << 5;
            a[j] = ((float)(bits >> 8) * 0x1p-24F - 0.5F) * 3.4641F;
        }
        const double s = 5.0 * (sqrt((double)m) + sqrt((double)n));

        for (size_t j = 0; j < m; j++)
            for (size_t k = 0; k < n; k++)
                a[j * n + k] += (float)(s / (left * right)) * u[j] * v[k];
        assert_ok(ge_lanczos_leading(lanczos, WHOLE(a, found), NULL, tolerance,
                                     &found, NULL));
        /* first order: |<u, u_1>|^2 = 1 - m / s^2, the same for v */
        assert_near(fabs(dot(found.u, u, m)) / left,
                    sqrt(1.0 - (double)m / (s * s)), 0.02);
        assert_near(fabs(dot(found.v, v, n)) / right,
                    sqrt(1.0 - (double)n / (s * s)), 0.02);
        assert_true((double)found.r[0] < tolerance);
        assert_near((double)found.r[0], true_residual(&found, a, 0), 1e-5);
        free(a);
        free(u);
        free(v);
        ge_modes_fini(&found);
    }
    ge_lanczos_destroy(&lanczos);
}

static void repeated_and_missing_values_are_found(void **state)
{
    static const double ones[] = {3, 3, 3, 1, 1, 1, 1, 1, 1, 1,
                                  1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    static const double one[] = {5};
    static const struct {
        const double *s;
        size_t rank;
    } cases[] = {{ones, COUNT_OF(ones)}, {one, 1}, {NULL, 0}};
    struct dice dice = dice_start(74);
    ge_lanczos *lanczos = solver();

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        float *a = planted(&dice, 150, 170, cases[i].s, cases[i].rank);
        struct ge_modes found = room(150, 170, MODES);

        assert_ok(ge_lanczos_leading(lanczos, WHOLE(a, found), NULL, tolerance,
                                     &found, NULL));
        assert_orthonormal(found.u, MODES, 150);
        assert_orthonormal(found.v, MODES, 170);
        for (size_t k = 0; k < MODES; k++)
            assert_near((double)found.s[k],
                        k < cases[i].rank ? cases[i].s[k] : 0.0, 2e-5);
        free(a);
        ge_modes_fini(&found);
    }
    ge_lanczos_destroy(&lanczos);
}

static void the_same_bits_at_every_scale_and_every_time(void **state)
{
    static const float scales[] = {1.0F, 0x1p-90F, 0x1p90F, 1.0F};
    struct dice dice = dice_start(75);
    ge_lanczos *lanczos = solver();
    const size_t m = 180, n = 150;
    float *a = noisy(&dice, m, n, 5, 0.3);
    float *b = malloc(m * n * sizeof *b), *wide = malloc(400 * 400 * sizeof *b);
    struct ge_modes first = room(m, n, MODES), other = room(m, n, MODES);
    struct ge_modes big = room(400, 400, MODES);

    (void)state;
    assert_non_null(b);
    assert_non_null(wide);
    fill_normal(&dice, wide, 400 * (size_t)400);
    assert_ok(ge_lanczos_leading(lanczos, WHOLE(a, first), NULL, tolerance,
                                 &first, NULL));
    for (size_t i = 0; i < COUNT_OF(scales); i++) {
        for (size_t j = 0; j < m * n; j++)
            b[j] = a[j] * scales[i];
        assert_ok(ge_lanczos_leading(lanczos, WHOLE(b, other), NULL, tolerance,
                                     &other, NULL));
        for (size_t k = 0; k < MODES; k++)
            assert_true(other.s[k] == first.s[k] * scales[i]);
        assert_memory_equal(other.u, first.u, MODES * m * sizeof *b);
        assert_memory_equal(other.v, first.v, MODES * n * sizeof *b);
        /* workspace that something larger has used */
        assert_ok(ge_lanczos_leading(lanczos, WHOLE(wide, big), NULL, tolerance,
                                     &big, NULL));
    }
    free(a);
    free(b);
    free(wide);
    ge_modes_fini(&first);
    ge_modes_fini(&other);
    ge_modes_fini(&big);
    ge_lanczos_destroy(&lanczos);
}

/* Read in panels, of which the last is smaller; a panel of long rows. */
static void a_matrix_made_panel_by_panel_has_the_same_modes(void **state)
{
    static const struct {
        size_t rows, cols;
    } cases[] = {{1000, 200}, {130, 9000}, {3001, 131}};
    struct dice dice = dice_start(76);
    ge_lanczos *lanczos = solver();

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const size_t m = cases[i].rows, n = cases[i].cols;
        float *from = noisy(&dice, m, n, 3, 0.0);
        float *a = ge_alloc_aligned(m * n, sizeof *a);
        struct made made = {a, m, n, 0};
        struct ge_modes modes = room(m, n, MODES), other = room(m, n, MODES);

        assert_non_null(a);
        memcpy(a, from, m * n * sizeof *a);
        assert_true(ge_matrix_panel_rows(MADE(&made)) < m);
        assert_ok(ge_lanczos_leading(lanczos, WHOLE(a, modes), NULL, tolerance,
                                     &modes, NULL));
        assert_ok(ge_lanczos_leading(lanczos, MADE(&made), NULL, tolerance,
                                     &other, NULL));
        assert_memory_equal(other.block, modes.block,
                            ge_modes_floats(&modes) * sizeof *a);
        free(from);
        free(a);
        ge_modes_fini(&modes);
        ge_modes_fini(&other);
    }
    ge_lanczos_destroy(&lanczos);
}

static void what_is_too_small_is_refused(void **state)
{
    const float nothing = 0.0F;
    ge_lanczos *lanczos = solver();
    struct ge_modes modes = {
        .rows = 1000, .cols = ge_lanczos_most_steps(3) - 1, .count = 3};
    const int before = ge_message_capture(1);

    (void)state;
    assert_int_equal(ge_lanczos_leading(lanczos, WHOLE(&nothing, modes), NULL,
                                        tolerance, &modes, NULL),
                     GRADECHO_E_ARG);
    ge_message_capture(before);
    ge_lanczos_destroy(&lanczos);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(modes_that_stand_out_are_those_of_lapack),
        cmocka_unit_test(residuals_are_what_they_say),
        cmocka_unit_test(nothing_is_spent_on_the_bulk),
        cmocka_unit_test(any_start_will_do),
        cmocka_unit_test(steep_spectra_are_followed),
        cmocka_unit_test(every_size_is_found),
        cmocka_unit_test(repeated_and_missing_values_are_found),
        cmocka_unit_test(the_same_bits_at_every_scale_and_every_time),
        cmocka_unit_test(a_matrix_made_panel_by_panel_has_the_same_modes),
        cmocka_unit_test(what_is_too_small_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
