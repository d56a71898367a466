#include "memory.h"

#include <stdlib.h>
#include <string.h>

void *ge_alloc(size_t count, size_t size)
{
    return calloc(count > 0 ? count : 1, size);
}

void *ge_alloc_aligned(size_t count, size_t size)
{
    uint64_t bytes = 0;
    void *block = NULL;

    if (!ge_mul_u64(count > 0 ? count : 1, size, &bytes) ||
        !ge_align_u64(bytes, &bytes) || bytes > SIZE_MAX)
        return NULL;
    block = aligned_alloc(GE_ALIGNMENT, (size_t)bytes);
    if (block != NULL)
        memset(block, 0, (size_t)bytes);
    return block;
}

bool ge_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    if (b != 0 && a > UINT64_MAX / b)
        return false;
    *out = a * b;
    return true;
}

bool ge_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    if (a > UINT64_MAX - b)
        return false;
    *out = a + b;
    return true;
}

bool ge_align_u64(uint64_t value, uint64_t *out)
{
    uint64_t padded = 0;

    if (!ge_add_u64(value, GE_ALIGNMENT - 1, &padded))
        return false;
    *out = padded - padded % GE_ALIGNMENT;
    return true;
}
