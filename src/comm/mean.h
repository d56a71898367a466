/*
 * mean.h - the mean gradient over all replicas, the same to the last bit
 * however the replicas are spread over ranks.
 *
 * Each rank owns a share of every piece. It receives that share from all
 * ranks, adds in double precision in order of rank, divides once, and sends
 * the mean to all: an all-to-all and an all-gather. That moves the same bytes
 * as the best all-reduce, 2 (R-1)/R of the piece per rank, but its result
 * depends on nothing but the numbers. Where a rank holds several replicas it
 * sends their sum in double precision, which doubles the first half's bytes
 * and keeps the result.
 */
#ifndef GRADECHO_COMM_MEAN_H
#define GRADECHO_COMM_MEAN_H

#include "comm.h"

typedef struct ge_mean ge_mean;

/* A run of entries that are divided by the same number of replicas. */
struct ge_mean_span {
    size_t count;
    double replicas; /* K; with K = 0 the mean is not finite */
};

/* \param piece  most entries in one call, >= 1
 * \param wide   some rank may hold several replicas: equal on all ranks
 * Local. \return GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status ge_mean_create(ge_comm *comm, size_t piece,
                                                   bool wide, ge_mean **mean);
void ge_mean_destroy(ge_mean **mean);

/* Mean of one piece. Collective and bulk: every rank must be on its way here.
 *
 * \param narrow  [count] this rank's one replica, or NULL: it has none here.
 *                Read when the object is not wide.
 * \param sums    [count] sum of this rank's replicas; read when it is wide
 * \param spans   equal on all ranks; their counts add up to `count`
 * \param out     [count] the mean
 * \return GRADECHO_E_MPI, GRADECHO_E_TIMEOUT */
GRADECHO_MUST_CHECK gradecho_status
ge_mean_piece(ge_mean *mean, const float *narrow, const double *sums,
              size_t count, const struct ge_mean_span *spans, float *out);

#endif
