/*
 * memory.h - allocation and integer arithmetic that cannot wrap.
 *
 * Allocators return zeroed memory that the caller frees with free(), or NULL
 * when memory is short or the size does not fit size_t; they tell nothing:
 * the caller knows what it was for.
 */
#ifndef GRADECHO_CORE_MEMORY_H
#define GRADECHO_CORE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Alignment of numeric arrays and of gradients in shared memory. Equal
 * alignment keeps BLAS kernels on one path: the same input gives the same
 * bits wherever it lies. */
#define GE_ALIGNMENT 64

/* [count] elements of `size` bytes; at least one byte. */
void *ge_alloc(size_t count, size_t size);

/* As ge_alloc(), aligned to GE_ALIGNMENT. */
void *ge_alloc_aligned(size_t count, size_t size);

/* True, with the result in *out, if it fits; else false, *out untouched. */
bool ge_mul_u64(uint64_t a, uint64_t b, uint64_t *out);
bool ge_add_u64(uint64_t a, uint64_t b, uint64_t *out);

/* Round up to a multiple of GE_ALIGNMENT; false if it does not fit. */
bool ge_align_u64(uint64_t value, uint64_t *out);

static inline size_t ge_min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* `count` elements of `size` bytes, rounded up to whole multiples of
 * GE_ALIGNMENT, so that what comes behind them is aligned. For what is known to
 * fit; `size` divides GE_ALIGNMENT. */
static inline size_t ge_padded(size_t count, size_t size)
{
    const size_t line = GE_ALIGNMENT / size;

    return (count + line - 1) / line * line;
}

static inline size_t ge_max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

#endif
