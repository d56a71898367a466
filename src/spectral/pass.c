#include "pass.h"

/* Vectors of 16 floats: whatever registers there are, the compiler splits them.
 * GNU C, as gcc and clang have it. */
enum { LANES = 16, SUMS = 4, STRIDE = SUMS * LANES, GROUP = 4 };
typedef float vec __attribute__((vector_size(LANES * sizeof(float)),
                                 aligned(sizeof(float)), may_alias));

#define ALWAYS_INLINE inline __attribute__((always_inline))

/* One row at a time: a stream that the hardware fetches ahead. */
static ALWAYS_INLINE float dot(const float *a, const float *v, size_t length)
{
    vec sum[SUMS] = {{0}};
    size_t j = 0;
    float total = 0.0F;

    for (; j + STRIDE <= length; j += STRIDE)
        for (size_t i = 0; i < SUMS; i++)
            sum[i] += *(const vec *)(a + j + i * LANES) *
                      *(const vec *)(v + j + i * LANES);
    for (; j + LANES <= length; j += LANES)
        sum[0] += *(const vec *)(a + j) * *(const vec *)(v + j);
    sum[0] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    for (size_t i = 0; i < LANES; i++)
        total += sum[0][i];
    for (; j < length; j++)
        total += a[j] * v[j];
    return total;
}

/* w += sum_i c_i (row i of p). */
static ALWAYS_INLINE void add_rows(const float *p, size_t rows, size_t cols,
                                   const float *c, float *w)
{
    size_t j = 0;

    for (; j + LANES <= cols; j += LANES) {
        vec sum = *(const vec *)(w + j);

        for (size_t i = 0; i < rows; i++)
            sum += c[i] * *(const vec *)(p + i * cols + j);
        *(vec *)(w + j) = sum;
    }
    for (; j < cols; j++)
        for (size_t i = 0; i < rows; i++)
            w[j] += c[i] * p[i * cols + j];
}

static ALWAYS_INLINE void pass(const float *p, size_t rows, size_t cols,
                               const float *v, float scale, float *u, float *w)
{
    size_t i = 0;

    for (; i + GROUP <= rows; i += GROUP) {
        float c[GROUP];

        for (size_t k = 0; k < GROUP; k++) {
            u[i + k] = dot(p + (i + k) * cols, v, cols);
            c[k] = scale * u[i + k];
        }
        add_rows(p + i * cols, GROUP, cols, c, w);
    }
    for (; i < rows; i++) {
        u[i] = dot(p + i * cols, v, cols);
        const float c = scale * u[i];

        add_rows(p + i * cols, 1, cols, &c, w);
    }
}

#ifdef __x86_64__
__attribute__((target("avx512f"))) static void pass_avx512(
    const float *p, size_t rows, size_t cols, const float *v, float scale,
    float *u, float *w)
{
    pass(p, rows, cols, v, scale, u, w);
}

__attribute__((target("avx2"))) static void pass_avx2(const float *p,
                                                      size_t rows, size_t cols,
                                                      const float *v,
                                                      float scale, float *u,
                                                      float *w)
{
    pass(p, rows, cols, v, scale, u, w);
}
#endif

void ge_pass(const float *p, size_t rows, size_t cols, const float *v,
             float scale, float *u, float *w)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f"))
        pass_avx512(p, rows, cols, v, scale, u, w);
    else if (__builtin_cpu_supports("avx2"))
        pass_avx2(p, rows, cols, v, scale, u, w);
    else
#endif
        pass(p, rows, cols, v, scale, u, w);
}
