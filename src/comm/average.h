/*
 * average.h - the arithmetic of mean.h: entries of all ranks, added up and
 * divided. What it gives depends on the numbers and the order of ranks alone.
 */
#ifndef GRADECHO_COMM_AVERAGE_H
#define GRADECHO_COMM_AVERAGE_H

#include <stdbool.h>
#include <stddef.h>

#include "mean.h"

/* mean[start + i] = (the sum over r < ranks of part[r][i]) / replicas, for i <
 * count. Added in double precision in order of rank, rounded once.
 *
 * \param part   [ranks] arrays [count] of float or, if wide, of double
 * \param spans  what a piece is divided by, from its beginning; start + count
 *               lies in them
 * \param mean   [start + count] the piece */
void ge_average(const void *const *part, size_t ranks, bool wide,
                const struct ge_mean_span *spans, size_t start, size_t count,
                float *mean);

#endif
