/* A few hundred numbers for a whole residual: do they tell who is like whom? */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "numbers.h"
#include "sketch.h"

enum { SMALL = 512 };

static double product(const double *a, const double *b)
{
    double sum = 0.0;

    for (size_t i = 0; i < GE_SKETCH_SIZE; i++)
        sum += a[i] * b[i];
    return sum;
}

static void inner_products_are_right_on_average(void **state)
{
    enum { COUNT = 1000, PLACES = 64, SEEDS = 40, ALL = 65000 };
    struct dice dice = dice_start(101);
    const float zero[COUNT] = {0.0F};
    double sum = 0.0, square = 0.0, wanted = 0.0;

    (void)state;
    for (int seed = 0; seed < SEEDS; seed++) {
        float a[COUNT], b[COUNT];
        double truth = 0.0;

        for (size_t i = 0; i < COUNT; i++) {
            a[i] = (float)dice_normal(&dice);
            b[i] = 0.1F * a[i] + (float)dice_normal(&dice);
            truth += (double)a[i] * (double)b[i];
        }
        wanted += truth / SEEDS;
        for (size_t place = 0; place < PLACES; place++) {
            double sa[GE_SKETCH_SIZE] = {0}, sb[GE_SKETCH_SIZE] = {0};
            const size_t first = place * COUNT;

            ge_sketch_add(a, zero, first, COUNT, ALL, sa);
            ge_sketch_add(b, zero, first, COUNT, ALL, sb);
            const double off = product(sa, sb) - truth;

            sum += off / (SEEDS * PLACES);
            square += off * off / (SEEDS * PLACES);
        }
    }
    const double error = sqrt(square / (SEEDS * PLACES));

    print_message("mean product %.1f, off by %.2f +- %.2f\n", wanted, sum,
                  error);
    assert_near(sum, 0.0, 3.0 * error);
    assert_true(wanted > 20.0 * error); /* the test could see a bias */
    /* One product is off as a sketch of this size must be, not more: the
     * variance is that of pairs in one bin. */
    assert_true(sqrt(square) < 2.0 * COUNT / sqrt(GE_SKETCH_SIZE));
}

static void it_is_the_residual_that_is_sketched(void **state)
{
    struct dice dice = dice_start(102);
    const float zero[SMALL] = {0.0F};
    float a[SMALL], mean[SMALL], rest[SMALL];
    double one[GE_SKETCH_SIZE] = {0}, other[GE_SKETCH_SIZE] = {0};

    (void)state;
    for (size_t i = 0; i < SMALL; i++) { /* exact in single precision */
        mean[i] = (float)dice_below(&dice, 1000);
        rest[i] = (float)dice_below(&dice, 1000);
        a[i] = mean[i] + rest[i];
    }
    ge_sketch_add(a, mean, 0, SMALL, SMALL, one);
    ge_sketch_add(rest, zero, 0, SMALL, SMALL, other);
    assert_memory_equal(one, other, sizeof one);
}

static void pieces_of_any_cut_give_the_same_bits(void **state)
{
    static const size_t sizes[] = {1,     63,     64,     65,     255,
                                   256,   257,    1000,   65535,  65536,
                                   70001, 131072, 200003, 1000000};
    struct dice dice = dice_start(103);

    (void)state;
    for (size_t n = 0; n < COUNT_OF(sizes); n++) {
        const size_t count = sizes[n];
        float *a = malloc(count * sizeof *a), *mean = malloc(count * sizeof *a);
        double whole[GE_SKETCH_SIZE] = {0};

        assert_non_null(a);
        assert_non_null(mean);
        fill_normal(&dice, a, count);
        fill_normal(&dice, mean, count);
        ge_sketch_add(a, mean, 0, count, count, whole);
        for (int cut = 0; cut < 20; cut++) {
            const size_t most = (size_t)1 << dice_below(&dice, 20);
            double parts[GE_SKETCH_SIZE] = {0};

            if (count / most > 50000)
                continue;
            for (size_t first = 0, piece = 0; first < count; first += piece) {
                piece = 1 + dice_below(&dice, most);
                if (piece > count - first)
                    piece = count - first;
                ge_sketch_add(a + first, mean + first, first, piece, count,
                              parts);
            }
            assert_memory_equal(parts, whole, sizeof whole);
        }
        free(a);
        free(mean);
    }
}

static void an_empty_piece_adds_nothing(void **state)
{
    double sketch[GE_SKETCH_SIZE] = {0}, before[GE_SKETCH_SIZE] = {0};
    const float a[1] = {1.0F}, mean[1] = {0.0F};

    (void)state;
    for (size_t first = 0; first < 1000; first += 37)
        ge_sketch_add(a, mean, first, 0, 1000, sketch);
    assert_memory_equal(sketch, before, sizeof sketch);
}

/* Entries that reach the sketch, by trying each block of 256 alone. */
static size_t entries_used(size_t entries, size_t *last)
{
    float *a = malloc(GE_SKETCH_SIZE * sizeof *a);
    float *zero = calloc(GE_SKETCH_SIZE, sizeof *zero);
    size_t used = 0;

    assert_non_null(a);
    assert_non_null(zero);
    for (size_t i = 0; i < GE_SKETCH_SIZE; i++)
        a[i] = 1.0F;
    for (size_t first = 0; first < entries; first += GE_SKETCH_SIZE) {
        double sketch[GE_SKETCH_SIZE] = {0};
        const size_t count =
            entries - first < GE_SKETCH_SIZE ? entries - first : GE_SKETCH_SIZE;

        ge_sketch_add(a, zero, first, count, entries, sketch);
        for (size_t i = 0; i < GE_SKETCH_SIZE; i++) {
            if (sketch[i] == 0.0)
                continue;
            assert_near(fabs(sketch[i]), 1.0, 0.0);
            used++;
            *last = first;
        }
    }
    free(a);
    free(zero);
    return used;
}

static void of_a_large_layer_a_bounded_number_of_entries_is_used(void **state)
{
    static const size_t sizes[] = {1,      256,     1000,    65535,
                                   65536,  100000,  131071,  131072,
                                   200000, 1000003, 5000000, 20000000};

    (void)state;
    for (size_t n = 0; n < COUNT_OF(sizes); n++) {
        size_t last = 0;
        const size_t entries = sizes[n], used = entries_used(entries, &last);

        print_message("%zu entries: %zu used\n", entries, used);
        assert_true(used <= GE_SKETCH_ENTRIES + GE_SKETCH_SIZE);
        if (entries < GE_SKETCH_ENTRIES)
            assert_int_equal(used, entries);
        else
            assert_true(used >= GE_SKETCH_ENTRIES / 2);
        /* From all over the layer. */
        assert_true((double)last >= 0.98 * (double)entries - 512.0);
    }
}

/* ---- sketches of replicas ---- */

enum { MOST = 8 };

/* Replicas' sketches; `twin`: replica twin[1] has the data of twin[0]. */
static void sketch_replicas(struct dice *dice, size_t k, const size_t *twin,
                            double *sketches)
{
    static float g[MOST][SMALL], mean[SMALL];

    memset(mean, 0, sizeof mean);
    memset(sketches, 0, k * GE_SKETCH_SIZE * sizeof *sketches);
    for (size_t a = 0; a < k; a++)
        fill_normal(dice, g[a], SMALL);
    if (twin != NULL)
        memcpy(g[twin[1]], g[twin[0]], sizeof g[0]);
    for (size_t i = 0; i < SMALL; i++)
        for (size_t a = 0; a < k; a++)
            mean[i] += g[a][i] / (float)k;
    for (size_t a = 0; a < k; a++)
        ge_sketch_add(g[a], mean, 0, SMALL, SMALL,
                      sketches + a * GE_SKETCH_SIZE);
}

static void independent_replicas_raise_no_alarm(void **state)
{
    enum { DRAWS = 10000 };
    struct dice dice = dice_start(104);

    (void)state;
    for (size_t k = 4; k <= 8; k += 4) {
        double sketches[MOST * GE_SKETCH_SIZE], worst = -1.0;
        size_t alarms = 0, pair[2];

        for (int draw = 0; draw < DRAWS; draw++) {
            sketch_replicas(&dice, k, NULL, sketches);
            const double r = ge_sketch_worst(sketches, k, GE_SKETCH_SIZE, pair);

            assert_true(pair[0] < pair[1] && pair[1] < k);
            alarms += r > 0.5 ? 1 : 0;
            worst = fmax(worst, r);
        }
        print_message("K = %zu: %zu alarms in %d draws, largest %.3f\n", k,
                      alarms, DRAWS, worst);
        assert_int_equal(alarms, 0);
    }
}

static void correlations_of_independent_replicas_have_their_mean(void **state)
{
    enum { DRAWS = 2000 };
    struct dice dice = dice_start(105);

    (void)state;
    for (size_t k = 3; k <= 6; k++) {
        double sum = 0.0, square = 0.0;

        for (int draw = 0; draw < DRAWS; draw++) {
            double s[MOST * GE_SKETCH_SIZE];

            sketch_replicas(&dice, k, NULL, s);
            const double *b = s + GE_SKETCH_SIZE;
            const double r =
                product(s, b) / sqrt(product(s, s) * product(b, b));

            sum += r / DRAWS;
            square += r * r / DRAWS;
        }
        const double error = sqrt((square - sum * sum) / DRAWS);

        assert_near(sum, -1.0 / (double)(k - 1), 4.0 * error + 1e-3);
    }
}

static void replicas_of_the_same_data_are_found(void **state)
{
    struct dice dice = dice_start(106);

    (void)state;
    for (int draw = 0; draw < 50; draw++) {
        for (size_t a = 0; a < 4; a++) {
            for (size_t b = a + 1; b < 4; b++) {
                const size_t twin[2] = {a, b};
                double sketches[MOST * GE_SKETCH_SIZE];
                size_t pair[2] = {9, 9};

                sketch_replicas(&dice, 4, twin, sketches);
                assert_near(ge_sketch_worst(sketches, 4, GE_SKETCH_SIZE, pair),
                            1.0, 1e-15);
                assert_int_equal(pair[0], a);
                assert_int_equal(pair[1], b);
            }
        }
    }
}

static void a_stride_skips_what_is_between(void **state)
{
    enum { STRIDE = GE_SKETCH_SIZE + 7 };
    struct dice dice = dice_start(107);
    const size_t twin[2] = {1, 3};
    double close[MOST * GE_SKETCH_SIZE], apart[MOST * STRIDE];
    size_t pair[2];

    (void)state;
    sketch_replicas(&dice, 5, twin, close);
    for (size_t i = 0; i < COUNT_OF(apart); i++)
        apart[i] = (double)NAN;
    for (size_t a = 0; a < 5; a++)
        memcpy(apart + a * STRIDE, close + a * GE_SKETCH_SIZE,
               GE_SKETCH_SIZE * sizeof *close);
    assert_near(ge_sketch_worst(apart, 5, STRIDE, pair), 1.0, 1e-15);
    assert_int_equal(pair[0], 1);
    assert_int_equal(pair[1], 3);
}

static void below_three_replicas_nothing_is_said(void **state)
{
    struct dice dice = dice_start(108);
    double sketches[MOST * GE_SKETCH_SIZE];
    size_t pair[2] = {5, 6};

    (void)state;
    for (size_t k = 1; k <= 2; k++) {
        sketch_replicas(&dice, k, NULL, sketches);
        assert_nan(ge_sketch_worst(sketches, k, GE_SKETCH_SIZE, pair));
    }
    assert_nan(ge_sketch_worst(sketches, 0, GE_SKETCH_SIZE, pair));
    assert_int_equal(pair[0], 5);
    assert_int_equal(pair[1], 6);
}

static void replicas_that_are_all_equal_have_no_residuals(void **state)
{
    double sketches[4 * GE_SKETCH_SIZE] = {0};
    size_t pair[2];

    (void)state;
    assert_nan(ge_sketch_worst(sketches, 4, GE_SKETCH_SIZE, pair));
    /* One that differs is still alone. */
    sketches[3] = 1.0;
    assert_nan(ge_sketch_worst(sketches, 4, GE_SKETCH_SIZE, pair));
}

static void a_replica_without_a_sketch_does_not_hide_the_others(void **state)
{
    struct dice dice = dice_start(109);
    const size_t twin[2] = {0, 2};
    double sketches[MOST * GE_SKETCH_SIZE];
    size_t pair[2];

    (void)state;
    sketch_replicas(&dice, 4, twin, sketches);
    for (size_t i = 0; i < GE_SKETCH_SIZE; i++)
        sketches[1 * GE_SKETCH_SIZE + i] = (double)NAN;
    assert_near(ge_sketch_worst(sketches, 4, GE_SKETCH_SIZE, pair), 1.0, 1e-15);
    assert_int_equal(pair[0], 0);
    assert_int_equal(pair[1], 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inner_products_are_right_on_average),
        cmocka_unit_test(it_is_the_residual_that_is_sketched),
        cmocka_unit_test(pieces_of_any_cut_give_the_same_bits),
        cmocka_unit_test(an_empty_piece_adds_nothing),
        cmocka_unit_test(of_a_large_layer_a_bounded_number_of_entries_is_used),
        cmocka_unit_test(independent_replicas_raise_no_alarm),
        cmocka_unit_test(correlations_of_independent_replicas_have_their_mean),
        cmocka_unit_test(replicas_of_the_same_data_are_found),
        cmocka_unit_test(a_stride_skips_what_is_between),
        cmocka_unit_test(below_three_replicas_nothing_is_said),
        cmocka_unit_test(replicas_that_are_all_equal_have_no_residuals),
        cmocka_unit_test(a_replica_without_a_sketch_does_not_hide_the_others),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
