/*
 * convert.h - gradient entries of any dtype as single precision.
 *
 * Pure; any thread.
 */
#ifndef GRADECHO_HANDOFF_CONVERT_H
#define GRADECHO_HANDOFF_CONVERT_H

#include "gradecho/handoff.h"

/* Bytes of one entry; 0 for an unknown dtype. */
size_t ge_dtype_size(gradecho_dtype dtype);

/* out[i] = source[first + i] / scale, in single precision, i < count. Division
 * is done in double precision for f64 and for scales that are not a power of
 * two; overflow gives an infinity, as in any conversion. */
void ge_convert(gradecho_dtype dtype, const void *source, size_t first,
                size_t count, double scale, float *out);

#endif
