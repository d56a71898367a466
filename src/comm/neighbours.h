/*
 * neighbours.h - memory that the ranks of one machine share with each other, so
 * that what one of them has, the others read where it is.
 *
 * Each rank has a part of its own, which its neighbours map as well. It is a
 * memfd: it has no name that a killed job could leave behind, it does not count
 * against the size of /dev/shm, and it is sealed, so that nobody can cut it
 * off. A neighbour opens it by way of /proc/PID/fd and knows it by a random
 * number at its start. Where that cannot be done (other containers, an unusual
 * kernel) the ranks of that machine have no neighbours but themselves: slower,
 * and the same otherwise.
 *
 * Main thread only.
 */
#ifndef GRADECHO_COMM_NEIGHBOURS_H
#define GRADECHO_COMM_NEIGHBOURS_H

#include <stdatomic.h>

#include "comm.h"

/* A rank's part begins with this, padded to GE_NEIGHBOURS_HEAD bytes. */
struct ge_neighbours_head {
    uint64_t token;
    _Atomic uint32_t word[2]; /* counts of the user's, from 0 */
};
enum { GE_NEIGHBOURS_HEAD = 128 };

struct ge_neighbours {
    int rank, size; /* my place among them; size 1: I am alone */
    int *world;     /* [size] their ranks, ascending */
    int *first;     /* [ranks] of each rank the first one of those that it
                       shares with, as a rank: itself if it is alone */
    struct ge_neighbours_head **part; /* [size] */
    size_t bytes;                     /* of each, with its head */
};

/* Collective. Every rank has a part of so many bytes behind its head, zeros.
 *
 * \return agreed on: GRADECHO_E_NOMEM, GRADECHO_E_MPI, GRADECHO_E_TIMEOUT */
GRADECHO_MUST_CHECK gradecho_status
ge_neighbours_create(ge_comm *comm, size_t bytes, struct ge_neighbours *made);

/* Local; the neighbours keep what they have mapped. Accepts zeros. */
void ge_neighbours_destroy(struct ge_neighbours *neighbours);

/* Local. Tell the neighbours that this rank's count `word` is `count`; what it
 * wrote before, they see. Counts only grow, and may wrap. */
void ge_neighbours_tell(const struct ge_neighbours *neighbours, int word,
                        uint32_t count);

/* Local. A neighbour's `word` that is short of `count`, and in *seen what it
 * says, to wait for its change (ge_comm_nap()); NULL if there is none. */
_Atomic uint32_t *ge_neighbours_late(const struct ge_neighbours *neighbours,
                                     int word, uint32_t count, uint32_t *seen);

#endif
