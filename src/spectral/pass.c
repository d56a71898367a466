#include "pass.h"

#include <stdbool.h>
#include <string.h>

/* GNU C, as gcc and clang have it. */
#define ALWAYS_INLINE inline __attribute__((always_inline))

enum {
    GROUP = 4,              /* rows used together, */
    PAIR = 2,               /* if they are long */
    LINE = 16,              /* floats of a cache line */
    FIRST_LEVEL = 48 << 10, /* bytes of the cache next to the core, or so */
};

/* For each of `rows` rows, a literal: all at once. To GROUP, for clang takes a
 * loop apart only if it is as long as it was told. */
/* NOLINTBEGIN(bugprone-macro-parentheses): i is declared */
#define FOR_ROWS(i) \
    _Pragma("GCC unroll 4") for (size_t i = 0; i < GROUP; i++) if (i < rows)
/* NOLINTEND(bugprone-macro-parentheses) */

#define LANES 4
#define NAME(name) name##_4
#include "pass_lanes.h"
#undef LANES
#undef NAME

#ifdef __x86_64__
#define LANES 8
#define HALF(name) name##_4
#define NAME(name) name##_8
#include "pass_lanes.h"
#undef LANES
#undef NAME
#undef HALF

#define LANES 16
#define HALF(name) name##_8
#define NAME(name) name##_16
#include "pass_lanes.h"

__attribute__((target("avx512f"))) static void pass_avx512(
    const float *p, size_t rows, size_t cols, const float *v, float scale,
    float *u, float *w)
{
    pass_16(p, rows, cols, v, scale, u, w);
}

__attribute__((target("avx2"))) static void pass_avx2(const float *p,
                                                      size_t rows, size_t cols,
                                                      const float *v,
                                                      float scale, float *u,
                                                      float *w)
{
    pass_8(p, rows, cols, v, scale, u, w);
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
        pass_4(p, rows, cols, v, scale, u, w);
}
