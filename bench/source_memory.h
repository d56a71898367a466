/*
 * source_memory.h - one rank's gradient in memory as a source, again and again.
 */
#ifndef GRADECHO_BENCH_SOURCE_MEMORY_H
#define GRADECHO_BENCH_SOURCE_MEMORY_H

#include "source.h"

/* Layers of side x side and side x 1 in turns until `count` entries are used
 * up; the last one may be smaller.
 *
 * \param gradient  [count], borrowed
 * \return NULL: no memory. Release with ge_source_close() */
struct ge_source *source_memory_open(ge_comm *comm, const float *gradient,
                                     size_t count, size_t side);

#endif
