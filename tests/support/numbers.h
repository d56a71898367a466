/*
 * numbers.h - seeded random numbers and comparison of reals, for tests that
 * have included <cmocka.h>.
 */
#ifndef NUMBERS_H
#define NUMBERS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* SplitMix64. */
struct dice {
    uint64_t state;
};

static inline struct dice dice_start(uint64_t seed)
{
    print_message("seed %llu\n", (unsigned long long)seed);
    return (struct dice){seed};
}

static inline uint64_t dice_bits(struct dice *dice)
{
    uint64_t z = dice->state += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* Inside (0, 1). */
static inline double dice_uniform(struct dice *dice)
{
    return ((double)(dice_bits(dice) >> 11) + 0.5) * 0x1p-53;
}

/* Mean 0, variance 1 (Box and Muller). */
static inline double dice_normal(struct dice *dice)
{
    const double radius = sqrt(-2.0 * log(dice_uniform(dice)));

    return radius * cos(6.283185307179586 * dice_uniform(dice));
}

static inline size_t dice_below(struct dice *dice, size_t bound)
{
    return (size_t)(dice_bits(dice) % bound);
}

static inline void fill_normal(struct dice *dice, float *a, size_t count)
{
    for (size_t i = 0; i < count; i++)
        a[i] = (float)dice_normal(dice);
}

static inline void check_near(double got, double expected, double tolerance,
                              const char *text, const char *file, int line)
{
    if (!(fabs(got - expected) <= tolerance)) {
        print_error("%s is %.17g, not %.17g +- %g\n", text, got, expected,
                    tolerance);
        _fail(file, line);
    }
}

/* |got - expected| <= tolerance; false for NaN. */
#define assert_near(got, expected, tolerance) \
    check_near((got), (expected), (tolerance), #got, __FILE__, __LINE__)

/* The same, tolerance relative to what is expected. */
#define assert_close(got, expected, relative)                                  \
    check_near((got), (expected), fabs(expected) * (relative), #got, __FILE__, \
               __LINE__)

#define assert_nan(got) assert_true(isnan(got))

#endif
