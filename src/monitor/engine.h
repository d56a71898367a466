/*
 * engine.h - what one sample costs and gives: from gradients to a log row.
 *
 * The one implementation behind `monitor` and `replay`. A sample goes through
 *   1. reduce    which replicas count in which layer; the mean over replicas,
 *                piece by piece; each replica's squared distance to it
 *   2. decompose (echo samples) the modes of the mean, each layer at one rank;
 *                each replica's own and leave-one-out modes, where it lies
 *   3. gather    a few numbers per replica, layer and mode to rank 0
 *   4. record    rank 0: noise, echoes, laws, errors, into one row
 *
 * The noise is measured centred on the mean, in double precision: an error e
 * of the mean adds K e^2 to the sum of squares and nothing of first order, so
 * that the mean may be single precision, and each replica's own share, which
 * the jackknife and the health figures need, comes for free. (A pairwise merge
 * inside the reduction is as accurate and gives only the total: see
 * bench/reduction.c.)
 *
 * Memory: one mean of the layers whose echo is measured in one sample, pieces
 * of bounded size, and the modes. Main thread.
 */
#ifndef GRADECHO_MONITOR_ENGINE_H
#define GRADECHO_MONITOR_ENGINE_H

#include "schema.h"
#include "source.h"

typedef struct ge_engine ge_engine;

/* Step of a row that must not be logged. */
#define GE_ENGINE_SPOILED INT64_MIN

/* Collective. All are borrowed and outlive the engine.
 * \return GRADECHO_E_NOMEM  the same on all ranks */
GRADECHO_MUST_CHECK gradecho_status
ge_engine_create(ge_comm *comm, const struct ge_config *config,
                 struct ge_source *source, ge_engine **engine);
void ge_engine_destroy(ge_engine **engine);

/* Lengths of a row's dimensions. */
struct ge_dimensions ge_engine_dimensions(const ge_engine *engine);

/* Rank 0, before the first measurement: one earlier sample's figures, for the
 * moving averages. Called for each, in order, they stand as after the last.
 *
 * \param noise_trace, grad_sqnorm  [layers], as they were logged */
void ge_engine_recall(ge_engine *engine, const double *noise_trace,
                      const double *grad_sqnorm);

/* Collective. Measure the sample at the source's front and release it there
 * as soon as its data are not needed any more. A sample whose memory changed
 * while it was read, at any rank, is measured to its end, because the ranks go
 * through the same collectives, but leaves no row.
 *
 * \param step   what the monitors agreed on
 * \param echo   number of this echo measurement from 0 on, which decides whose
 *               turn it is (layers.per_sample); below 0: noise statistics
 *               alone. Equal on all ranks
 * \param row    rank 0: cleared and filled; its step is GE_ENGINE_SPOILED if
 *               the sample left none. Else ignored
 * \param local  what went wrong at this rank alone, already told: the row is
 *               not to be trusted, and the caller puts it into its next ballot
 * \return GRADECHO_E_MPI, _E_TIMEOUT: no further collective is possible */
GRADECHO_MUST_CHECK gradecho_status ge_engine_measure(ge_engine *engine,
                                                      int64_t step,
                                                      int64_t echo,
                                                      struct ge_row *row,
                                                      gradecho_status *local);

#endif
