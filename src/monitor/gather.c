#include "gather.h"

#include <math.h>

#include "try.h"

gradecho_status ge_gather_scan(const char *session,
                               struct ge_segment_info *list, size_t *count)
{
    gradecho_status status = GRADECHO_OK;

    GE_TRY(ge_consumer_scan(session, list, GE_GATHER_MAX, count));
    for (size_t i = 0; i < *count; i++)
        GE_FAIL_IF(list[i].world == 0, GRADECHO_E_ABI,
                   "session %s: trainer %u uses another version of "
                   "libgradecho; install one version for both",
                   session, list[i].rank);
fail:
    return status;
}

/* One look around, on all ranks: *found trainers over all nodes, of *world. */
static gradecho_status look_around(ge_comm *comm, const char *session,
                                   const volatile sig_atomic_t *stop,
                                   struct ge_segment_info *list, size_t *count,
                                   double *found, uint32_t *world)
{
    gradecho_status status = GRADECHO_OK, local = GRADECHO_OK;
    int64_t word[3] = {0, INT64_MIN, *stop != 0};

    ge_message_capture(1);
    local = ge_gather_scan(session, list, count);
    GE_TRY(ge_comm_agree(comm, local));
    for (size_t i = 0; i < *count; i++) {
        const int64_t size = list[i].world;

        word[0] = size > word[0] ? size : word[0];
        word[1] = -size > word[1] ? -size : word[1];
    }
    *found = ge_comm_node_rank(comm) == 0 ? (double)*count : 0.0;
    GE_TRY(ge_comm_max(comm, word, 3));
    GE_TRY(ge_comm_sum(comm, found, 1));
    if (word[2] > 0)
        return GRADECHO_END;
    if (word[0] > 0 && (word[0] != -word[1] || *found > (double)word[0])) {
        if (ge_comm_rank(comm) == 0)
            ge_error("session %s: trainers disagree on how many they are "
                     "(%lld and %lld, %.0f found); give each training run a "
                     "session of its own",
                     session, (long long)-word[1], (long long)word[0], *found);
        return GRADECHO_E_INPUT;
    }
    *world = (uint32_t)word[0];
fail:
    return status;
}

gradecho_status ge_gather_wait(ge_comm *comm, const char *session,
                               const volatile sig_atomic_t *stop,
                               struct ge_segment_info *list, uint32_t *world)
{
    gradecho_status status = GRADECHO_OK;
    double pause = 0.02, found = 0.0;
    size_t count = 0;

    for (bool told = false;; told = true) {
        GE_TRY(look_around(comm, session, stop, list, &count, &found, world));
        if (status == GRADECHO_END || (*world > 0 && found == (double)*world))
            return status;
        if (!told && ge_comm_rank(comm) == 0)
            ge_info("session %s: waiting for trainers", session);
        ge_comm_sleep(pause);
        pause = fmin(pause * 1.5, 0.2);
    }
fail:
    return status;
}
