/*
 * gather.h - wait for the trainers of a session to appear, on all nodes.
 */
#ifndef GRADECHO_MONITOR_GATHER_H
#define GRADECHO_MONITOR_GATHER_H

#include <signal.h>

#include "comm.h"
#include "consumer.h"

enum { GE_GATHER_MAX = 4096 }; /* trainers on one node */

/* Local. This node's segments in order of rank, all of our own version.
 * Who has died since ge_gather_wait() is there as what it left behind.
 *
 * \param world  of the job
 * \param list   [GE_GATHER_MAX]
 * \return GRADECHO_E_ABI  a trainer uses another version of libgradecho
 *         and what ge_consumer_scan() says */
GRADECHO_MUST_CHECK gradecho_status ge_gather_scan(const char *session,
                                                   uint32_t world,
                                                   struct ge_segment_info *list,
                                                   size_t *count);

/* Collective. Wait, asleep, until every trainer of the job has its segment, or
 * *stop. A job that was complete once, when an earlier monitor listened to it,
 * is not waited for again: who is missing has died, and is there as what it
 * left behind. Afterwards each node's list is complete: all monitors of a node
 * see the same one.
 *
 * \param list   [GE_GATHER_MAX] workspace
 * \param world  trainers of the job
 * \return GRADECHO_END      *stop was set on some rank
 *         GRADECHO_E_INPUT  trainers disagree on how many they are
 *         the same on all ranks */
GRADECHO_MUST_CHECK gradecho_status ge_gather_wait(
    ge_comm *comm, const char *session, const volatile sig_atomic_t *stop,
    struct ge_segment_info *list, uint32_t *world);

#endif
