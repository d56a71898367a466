/* Conversion to single precision, against arithmetic that cannot be wrong. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "convert.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static uint16_t every[65536];
static float out[65536];

/* Value of a 16-bit float by its definition; exponent has `bits` bits. */
static double value_of(uint16_t code, int bits)
{
    const int mantissa_bits = 15 - bits;
    const int bias = (1 << (bits - 1)) - 1;
    const int exponent = (code & 0x7fff) >> mantissa_bits;
    const int mantissa = code & ((1 << mantissa_bits) - 1);
    double value = 0;

    if (exponent == (1 << bits) - 1)
        value = mantissa == 0 ? (double)INFINITY : (double)NAN;
    else if (exponent == 0)
        value = ldexp(mantissa, 1 - bias - mantissa_bits);
    else
        value = ldexp(mantissa + (1 << mantissa_bits),
                      exponent - bias - mantissa_bits);
    return code & 0x8000 ? -value : value;
}

static void assert_same(float got, double expected)
{
    const float rounded = (float)expected;

    if (isnan(expected))
        assert_true(isnan(got));
    else
        assert_memory_equal(&got, &rounded, sizeof got); /* -0 is not 0 */
}

static void check_every_code(gradecho_dtype dtype, int bits)
{
    static const double scales[] = {1,       2,        65536,   0x1p-20,
                                    3,       1024.5,   1e-30,   1e30,
                                    0x1p126, 0x1p-126, 0x1p127, 0x1p-140};

    for (size_t s = 0; s < COUNT_OF(scales); s++) {
        ge_convert(dtype, every, 0, 65536, scales[s], out);
        for (size_t i = 0; i < 65536; i++)
            assert_same(out[i], value_of(every[i], bits) / scales[s]);
    }
}

static void every_half_has_its_value(void **state)
{
    (void)state;
    check_every_code(GRADECHO_F16, 5);
}

static void every_bfloat_has_its_value(void **state)
{
    (void)state;
    check_every_code(GRADECHO_BF16, 8);
}

static void singles_are_copied_when_the_scale_is_one(void **state)
{
    static const float in[] = {0.0f,    -0.0f,     1.5f,     FLT_MAX,
                               FLT_MIN, 0x1p-149f, INFINITY, -INFINITY};

    (void)state;
    ge_convert(GRADECHO_F32, in, 0, COUNT_OF(in), 1.0, out);
    assert_memory_equal(out, in, sizeof in);
}

static void singles_and_doubles_are_divided_and_rounded_once(void **state)
{
    static const double scales[] = {2, 0x1p-24, 3, 65504, 1e-3, 0x1p-1000};
    float singles[64];
    double doubles[64];

    (void)state;
    for (int i = 0; i < 64; i++) {
        doubles[i] = ldexp(1.0 / (i + 1) - 0.3, 4 * i - 140);
        singles[i] = (float)doubles[i];
    }
    for (size_t s = 0; s < COUNT_OF(scales); s++) {
        ge_convert(GRADECHO_F32, singles, 0, 64, scales[s], out);
        for (int i = 0; i < 64; i++)
            assert_same(out[i], (double)singles[i] / scales[s]);
        ge_convert(GRADECHO_F64, doubles, 0, 64, scales[s], out);
        for (int i = 0; i < 64; i++)
            assert_same(out[i], doubles[i] / scales[s]);
    }
}

static void what_single_precision_cannot_hold_is_infinite_or_zero(void **state)
{
    static const double in[] = {1e300, -1e300, 1e-300, (double)NAN};

    (void)state;
    ge_convert(GRADECHO_F64, in, 0, 4, 1.0, out);
    assert_true(isinf(out[0]) && out[0] > 0);
    assert_true(isinf(out[1]) && out[1] < 0);
    assert_true(out[2] == 0 && isnan(out[3]));
}

static void a_part_is_the_part_of_the_whole(void **state)
{
    static const gradecho_dtype dtypes[] = {GRADECHO_F32, GRADECHO_F64,
                                            GRADECHO_F16, GRADECHO_BF16};
    float whole[100], part[7];
    double in[100];

    (void)state;
    for (int i = 0; i < 100; i++)
        in[i] = 1.0 + i;
    for (size_t d = 0; d < COUNT_OF(dtypes); d++) {
        ge_convert(dtypes[d], in, 0, 100, 5.0, whole);
        for (size_t first = 0; first < 93; first++) {
            memset(part, 0xff, sizeof part);
            ge_convert(dtypes[d], in, first, 6, 5.0, part);
            assert_memory_equal(part, whole + first, 6 * sizeof *part);
            assert_true(isnan(part[6])); /* not a byte more */
        }
        ge_convert(dtypes[d], in, 100, 0, 5.0, part);
    }
}

static void a_dtype_has_its_size(void **state)
{
    (void)state;
    assert_int_equal(ge_dtype_size(GRADECHO_F32), 4);
    assert_int_equal(ge_dtype_size(GRADECHO_F64), 8);
    assert_int_equal(ge_dtype_size(GRADECHO_F16), 2);
    assert_int_equal(ge_dtype_size(GRADECHO_BF16), 2);
    assert_int_equal(ge_dtype_size((gradecho_dtype)0), 0);
    assert_int_equal(ge_dtype_size((gradecho_dtype)5), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_has_its_value),
        cmocka_unit_test(every_bfloat_has_its_value),
        cmocka_unit_test(singles_are_copied_when_the_scale_is_one),
        cmocka_unit_test(singles_and_doubles_are_divided_and_rounded_once),
        cmocka_unit_test(what_single_precision_cannot_hold_is_infinite_or_zero),
        cmocka_unit_test(a_part_is_the_part_of_the_whole),
        cmocka_unit_test(a_dtype_has_its_size),
    };

    for (size_t i = 0; i < 65536; i++)
        every[i] = (uint16_t)i;
    return cmocka_run_group_tests_name("convert", tests, NULL, NULL);
}
