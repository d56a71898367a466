/*
 * vector.h - loops over entries that a processor's wide registers run twice as
 * fast, without asking for a processor that has them.
 *
 * A loop is written once, as a function GE_INLINE, and compiled twice: for
 * every processor and, in a function marked GE_WIDE, for those with AVX2, which
 * the caller takes where ge_has_wide(). The result is the same to the bit: the
 * additions keep their order, and nothing is fused (-ffp-contract=off).
 */
#ifndef GRADECHO_CORE_VECTOR_H
#define GRADECHO_CORE_VECTOR_H

#include <stdbool.h>

#define GE_INLINE static inline __attribute__((always_inline))

#if defined(__x86_64__)
#define GE_WIDE __attribute__((target("avx2")))
static inline bool ge_has_wide(void)
{
    return __builtin_cpu_supports("avx2") != 0;
}
#else
#define GE_WIDE
static inline bool ge_has_wide(void)
{
    return false;
}
#endif

/* Four neighbours at a time. */
typedef float ge_float4 __attribute__((vector_size(16)));
typedef double ge_double4 __attribute__((vector_size(32)));

#endif
