/*
 * comm.h - the one owner of MPI: this layer alone includes <mpi.h>.
 *
 * A ge_comm is a private duplicate of MPI_COMM_WORLD with errors returned.
 * Main thread only. Every function is collective over the monitors, in the
 * same order on all, unless marked local.
 *
 * How it waits. The training owns the cores: a rank that waits for its peers
 * must sleep. Every operation is non-blocking and polled: *idle* operations
 * (the default) back off to sleeps of 2 ms, *bulk* ones (sums, and mean.h),
 * which run once an idle one has brought all ranks together, yield, and fall
 * back to sleeping when nothing comes for a while. What does not complete
 * within the timeout is GRADECHO_E_TIMEOUT and final: its request and buffers
 * are abandoned to MPI, and the caller leaves through ge_comm_abort(). Rank 0
 * gives up first, and tells which ranks on which hosts do not answer.
 */
#ifndef GRADECHO_COMM_COMM_H
#define GRADECHO_COMM_COMM_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gradecho/status.h"

typedef struct ge_comm ge_comm;

/* Start MPI (once in a process). \return GRADECHO_E_MPI, GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status ge_comm_init(int *argc, char ***argv,
                                                 ge_comm **comm);

/* End MPI in order: every rank must come. Nulls *comm; accepts NULL. */
void ge_comm_finalize(ge_comm **comm);

/* Local. End all ranks at once with this exit code; does not return. */
_Noreturn void ge_comm_abort(ge_comm *comm, int exit_code);

/* Local. */
int ge_comm_rank(const ge_comm *comm);
int ge_comm_size(const ge_comm *comm);
int ge_comm_node_rank(const ge_comm *comm); /* among the ranks of this node */
int ge_comm_node_size(const ge_comm *comm);

/* Local. Seconds an operation may take; <= 0: for ever (the default). */
void ge_comm_set_timeout(ge_comm *comm, double seconds);

/* Local. Once *terminated is not 0, which SIGTERM sets, rank 0's operations
 * have half a second: mpirun kills a second after that signal. */
void ge_comm_set_terminated(ge_comm *comm,
                            const volatile sig_atomic_t *terminated);

/* Element-wise maximum over ranks, in place; any count.
 * Like all below: \return GRADECHO_E_MPI, GRADECHO_E_TIMEOUT; values are then
 * undefined. */
GRADECHO_MUST_CHECK gradecho_status ge_comm_max(ge_comm *comm, int64_t *values,
                                                size_t count);

/* Element-wise sum over ranks, in place, double precision; any count. The
 * order of additions is MPI's: for whole numbers, or where the last bits do
 * not matter. Bulk: every rank must be on its way here. */
GRADECHO_MUST_CHECK gradecho_status ge_comm_sum(ge_comm *comm, double *values,
                                                size_t count);

/* Copy `bytes` bytes from `root` to all; any size. */
GRADECHO_MUST_CHECK gradecho_status ge_comm_broadcast(ge_comm *comm, void *data,
                                                      size_t bytes, int root);

/* Bring the same number of doubles from every rank to rank 0, in order of
 * rank; any count.
 *
 * \param mine  [count]
 * \param all   rank 0: [size x count]; else ignored */
GRADECHO_MUST_CHECK gradecho_status ge_comm_gather(ge_comm *comm,
                                                   const double *mine,
                                                   size_t count, double *all);

/* Pass data around the ring: `mine` goes to rank + distance, `theirs` comes
 * from rank - distance (both modulo size); any count.
 *
 * \param distance  1 .. size - 1, equal on all ranks
 * \param mine, theirs  [count] each, apart */
GRADECHO_MUST_CHECK gradecho_status ge_comm_shift(ge_comm *comm, int distance,
                                                  const float *mine,
                                                  float *theirs, size_t count);

/* The gravest status of any rank: what one rank decided, all learn. Local
 * outcomes above zero count as success.
 *
 * To tell a failure once, do the local work under ge_message_capture(1): of
 * the ranks that failed, the lowest prints what it captured; the capture is
 * off afterwards on all. */
GRADECHO_MUST_CHECK gradecho_status ge_comm_agree(ge_comm *comm,
                                                  gradecho_status local);

/* Local. Bytes that this rank has given to MPI so far: of a message what was
 * sent, of a collective operation what this rank put in. */
uint64_t ge_comm_sent(const ge_comm *comm);

/* Local. Sleep, for loops that wait for the outside world. Returns early on a
 * signal. */
void ge_comm_sleep(double seconds);

#endif
