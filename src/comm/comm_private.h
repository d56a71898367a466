/*
 * comm_private.h - what the files of this layer share. Not for others.
 */
#ifndef GRADECHO_COMM_COMM_PRIVATE_H
#define GRADECHO_COMM_COMM_PRIVATE_H

#include <mpi.h>

#include "comm.h"
#include "try.h"

/* Elements in one MPI call. MPI counts are ints; tests make this tiny so that
 * splitting is exercised. */
#ifndef GE_COMM_CHUNK
#define GE_COMM_CHUNK ((size_t)1 << 24)
#endif

struct ge_comm {
    MPI_Comm world, node;
    int rank, size;
    int node_rank, node_size;
    double timeout;        /* seconds; <= 0: none */
    MPI_Request *requests; /* [size] of a gather */
};

enum ge_patience { GE_IDLE, GE_BULK };

/* Tell what MPI says about `code`. Always GRADECHO_E_MPI. */
gradecho_status ge_comm_tell(const char *call, int code);

/* Wait for `count` requests, see comm.h. */
GRADECHO_MUST_CHECK gradecho_status ge_comm_wait(ge_comm *comm,
                                                 MPI_Request *requests,
                                                 int count,
                                                 enum ge_patience patience);

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
