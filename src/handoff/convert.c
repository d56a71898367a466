#include "convert.h"

#include <stdbool.h>
#include <string.h>

/* The loops below are plain so that the compiler vectorises them. */

static inline float from_bits(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t to_bits(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Move the exponent from bias 15 to 127. A subnormal half gets its hidden bit
 * by a subtraction that is exact: no subnormal arithmetic, which is slow and
 * which a process may have switched off; infinities and NaNs are moved twice,
 * to the largest exponent. */
static inline float from_half(uint16_t half)
{
    const uint32_t step = UINT32_C(1) << 23;
    const uint32_t infinity = UINT32_C(31) << 23;
    const uint32_t body = (half & UINT32_C(0x7fff)) << 13;
    const uint32_t sign = (half & UINT32_C(0x8000)) << 16;
    const uint32_t tiny = to_bits(from_bits(body + 113 * step) - 0x1p-14f);
    const uint32_t moved =
        body + 112 * step + (body >= infinity ? 112 * step : 0);
    const uint32_t is_tiny = -(uint32_t)(body < step); /* a mask */

    return from_bits(sign | (tiny & is_tiny) | (moved & ~is_tiny));
}

static inline float from_bfloat(uint16_t upper)
{
    return from_bits((uint32_t)upper << 16);
}

size_t ge_dtype_size(gradecho_dtype dtype)
{
    switch (dtype) {
    case GRADECHO_F64:
        return 8;
    case GRADECHO_F32:
        return 4;
    case GRADECHO_F16:
    case GRADECHO_BF16:
        return 2;
    }
    return 0;
}

/* True if multiplying by 1 / scale is the same as dividing: the reciprocal is
 * exact and normal in single precision. */
static bool has_exact_reciprocal(double scale)
{
    uint64_t bits;

    memcpy(&bits, &scale, sizeof bits);
    return (bits & ((UINT64_C(1) << 52) - 1)) == 0 && scale >= 0x1p-126 &&
           scale <= 0x1p126;
}

/* One loop for each way to divide; `value` is an expression in in[i]. */
#define GE_CONVERT(type, value)                            \
    do {                                                   \
        const type *restrict in = from;                    \
                                                           \
        if (exact)                                         \
            for (size_t i = 0; i < count; i++)             \
                out[i] = (value)*factor;                   \
        else                                               \
            for (size_t i = 0; i < count; i++)             \
                out[i] = (float)((double)(value) / scale); \
    } while (0)

void ge_convert(gradecho_dtype dtype, const void *source, size_t first,
                size_t count, double scale, float *restrict out)
{
    const bool exact = has_exact_reciprocal(scale);
    const float factor = exact ? (float)(1.0 / scale) : 0.0f;
    const void *from =
        (const unsigned char *)source + first * ge_dtype_size(dtype);

    switch (dtype) {
    case GRADECHO_F32:
        if (scale == 1.0)
            memcpy(out, from, count * sizeof *out);
        else
            GE_CONVERT(float, in[i]);
        return;
    case GRADECHO_F64: {
        const double *restrict in = from;

        for (size_t i = 0; i < count; i++)
            out[i] = (float)(in[i] / scale);
        return;
    }
    case GRADECHO_F16:
        GE_CONVERT(uint16_t, from_half(in[i]));
        return;
    case GRADECHO_BF16:
        GE_CONVERT(uint16_t, from_bfloat(in[i]));
        return;
    }
}
