/*
 * comm_private.h - what the files of this layer share. Not for others.
 */
#ifndef GRADECHO_COMM_COMM_PRIVATE_H
#define GRADECHO_COMM_COMM_PRIVATE_H

#include <mpi.h>
#include <stdatomic.h>

#include "comm.h"
#include "try.h"

/* Elements in one MPI call. MPI counts are ints; tests make this tiny so that
 * splitting is exercised. */
#ifndef GE_COMM_CHUNK
#define GE_COMM_CHUNK ((size_t)1 << 24)
#endif

enum { GE_HOST_MAX = 64 }; /* bytes of a host's name, terminator included */

struct ge_comm {
    MPI_Comm world, node;
    int rank, size;
    int node_rank, node_size;
    int first;             /* rank, of those that I may share memory with */
    double timeout;        /* seconds; <= 0: none */
    MPI_Request *requests; /* [size] of a gather */
    char (*hosts)[GE_HOST_MAX];              /* [size] names, for messages */
    const volatile sig_atomic_t *terminated; /* see comm.h; or NULL */
    uint64_t sent;                           /* bytes, see ge_comm_sent() */
    bool called;                             /* rank 0 is about to give up */
    char word;            /* what lost.c sends and receives */
    double terminated_at; /* MPI_Wtime() when it was first seen; 0: not yet */
};

enum ge_patience { GE_IDLE, GE_BULK };

/* Tell what MPI says about `code`. Always GRADECHO_E_MPI. */
gradecho_status ge_comm_tell(const char *call, int code);

/* A wait under way; start from ge_comm_begin_wait(). */
struct ge_waiting {
    enum ge_patience patience;
    double start; /* MPI_Wtime() */
    unsigned polls;
};
struct ge_waiting ge_comm_begin_wait(enum ge_patience patience);

/* Nothing came: give the core away, or give up. \return GRADECHO_E_TIMEOUT */
GRADECHO_MUST_CHECK gradecho_status ge_comm_linger(ge_comm *comm,
                                                   struct ge_waiting *waiting);

/* The same for what a neighbour does in memory that is shared: sleeps until the
 * word is no longer `seen`, or it is time to look around. */
GRADECHO_MUST_CHECK gradecho_status ge_comm_nap(ge_comm *comm,
                                                struct ge_waiting *waiting,
                                                _Atomic uint32_t *word,
                                                uint32_t seen);

/* Wait for `count` requests, see comm.h. */
GRADECHO_MUST_CHECK gradecho_status ge_comm_wait(ge_comm *comm,
                                                 MPI_Request *requests,
                                                 int count,
                                                 enum ge_patience patience);

/* lost.c: has this rank waited long enough, for a peer that may be lost? */
bool ge_comm_gives_up(ge_comm *comm, double waited);

/* Tell who is lost. Always GRADECHO_E_TIMEOUT. */
gradecho_status ge_comm_give_up(ge_comm *comm, double waited);

/* Answer rank 0, should it ask who is still there. */
void ge_comm_listen(ge_comm *comm, double waited);

/* Fill comm->hosts. Collective. \return GRADECHO_E_MPI, GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status ge_comm_name_hosts(ge_comm *comm);

#define GE_TRY_MPI(call)                         \
    do {                                         \
        const int code_ = (call);                \
                                                 \
        if (code_ != MPI_SUCCESS) {              \
            status = ge_comm_tell(#call, code_); \
            goto fail;                           \
        }                                        \
    } while (0)

#endif
