/*
 * mean.h - the mean gradient over all replicas, the same to the last bit
 * however the replicas are spread over ranks, a piece at a time.
 *
 * Each rank owns a share of every piece. It gathers that share from all
 * ranks, adds in double precision in order of rank, divides once, and hands
 * the mean to all: an exchange and a gathering. The result depends on nothing
 * but the numbers. Where a rank holds several replicas it puts in their sum in
 * double precision.
 *
 * Ranks of one machine read each other's parts where they lie and write one
 * mean for all of them, in memory that they share (neighbours.h); they sleep
 * until the one that they wait for has told. Between machines, a rank sends
 * each far rank its share, and the mean of its own share once to every other
 * machine. Of R ranks, L to each of M machines, each sends (R - L + M - 1)/R of
 * the piece: 2 (R-1)/R, as the best all-reduce, where each has a machine of its
 * own, less than it otherwise, and nothing on a single one. (Sums in double
 * precision count twice in the first R - L.)
 *
 * Pieces follow each other as in a pipe: while one is exchanged, the one
 * before it is gathered, and the caller fills the next or uses the last.
 *
 *     while (there is more, or ge_mean_pending(mean) > 0)
 *         if (there is more && ge_mean_pending(mean) < GE_MEAN_DEPTH)
 *             fill ge_mean_room(mean), ge_mean_start(mean, ...)
 *         else
 *             ge_mean_finish(mean, ...), use the oldest piece
 */
#ifndef GRADECHO_COMM_MEAN_H
#define GRADECHO_COMM_MEAN_H

#include "comm.h"

typedef struct ge_mean ge_mean;

/* Pieces that may be under way. */
enum { GE_MEAN_DEPTH = 3 };

/* A run of entries that are divided by the same number of replicas. */
struct ge_mean_span {
    size_t count;
    double replicas; /* K; with K = 0 the mean is not finite */
};

/* A piece that is finished; at hand until the next one is filled. */
struct ge_mean_piece {
    const float *mean; /* [count] */
    const float *mine; /* [count] what this rank put in; NULL when wide */
};

/* \param piece  most entries in one piece, 1 to INT_MAX / 2
 * \param wide   some rank may hold several replicas: equal on all ranks
 * Collective. \return agreed on: GRADECHO_E_NOMEM, GRADECHO_E_MPI,
 *         GRADECHO_E_TIMEOUT */
GRADECHO_MUST_CHECK gradecho_status ge_mean_create(ge_comm *comm, size_t piece,
                                                   bool wide, ge_mean **mean);

/* Local. Nulls *mean; accepts NULL. Buffers of pieces under way, which only a
 * failure leaves, are left to MPI: it may still write to them. */
void ge_mean_destroy(ge_mean **mean);

/* Local. Pieces that were started and not finished. */
size_t ge_mean_pending(const ge_mean *mean);

/* Local. Where this rank's part of the next piece goes, valid until it is
 * finished: this rank's one replica as float [piece], or, when wide, the sum of
 * its replicas as double [piece]; zeros where it has none. */
void *ge_mean_room(ge_mean *mean);

/* Send the piece that was filled on its way; does not wait. Collective and
 * bulk, as ge_mean_finish(): every rank must be on its way here. Tells the
 * neighbours that this rank no longer reads the piece that lay in this place.
 *
 * \param spans   equal on all ranks, kept until the piece is finished; their
 *                counts add up to `count`
 * \return GRADECHO_E_MPI: the pieces are lost */
GRADECHO_MUST_CHECK gradecho_status
ge_mean_start(ge_mean *mean, size_t count, const struct ge_mean_span *spans);

/* Wait for the oldest piece, and meanwhile move the others on.
 * \return GRADECHO_E_MPI, GRADECHO_E_TIMEOUT: the pieces are lost */
GRADECHO_MUST_CHECK gradecho_status ge_mean_finish(ge_mean *mean,
                                                   struct ge_mean_piece *piece);

#endif
