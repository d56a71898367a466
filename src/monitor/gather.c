#include "gather.h"

#include <math.h>

#include "survey.h"
#include "try.h"

/* How long the number of trainers must stay the same until one that died before
 * anybody listened to any is not waited for. */
static const double start_seconds = 15.0;

/* All segments, live or left behind. */
static gradecho_status scan(const char *session, struct ge_segment_info *list,
                            size_t *count)
{
    gradecho_status status = GRADECHO_OK;

    GE_TRY(ge_consumer_scan(session, true, list, GE_GATHER_MAX, count));
    for (size_t i = 0; i < *count; i++)
        GE_FAIL_IF(list[i].live && list[i].world == 0, GRADECHO_E_ABI,
                   "session %s: trainer %u uses another version of "
                   "libgradecho; install one version for both",
                   session, list[i].rank);
fail:
    return status;
}

gradecho_status ge_gather_scan(const char *session, uint32_t world,
                               struct ge_segment_info *list, size_t *count)
{
    gradecho_status status = GRADECHO_OK;
    size_t kept = 0;

    GE_TRY(scan(session, list, count));
    for (size_t i = 0; i < *count; i++)
        if (list[i].live || list[i].world == world)
            list[kept++] = list[i];
    *count = kept;
fail:
    return status;
}

/* What one look around shows, over all nodes. */
struct scene {
    uint32_t world;    /* of the live trainers, 0 if there is none */
    double live, lost; /* trainers found: alive, and left behind by such */
    bool watched;      /* some live one has been listened to */
};

/* One look around, on all ranks. */
static gradecho_status look_around(ge_comm *comm, const char *session,
                                   const volatile sig_atomic_t *stop,
                                   struct ge_segment_info *list,
                                   struct scene *scene)
{
    gradecho_status status = GRADECHO_OK, local = GRADECHO_OK;
    int64_t word[4] = {0, INT64_MIN, *stop != 0, 0};
    double found[2] = {0.0, 0.0};
    size_t count = 0;

    ge_message_capture(1);
    local = scan(session, list, &count);
    GE_TRY(ge_comm_agree(comm, local));
    for (size_t i = 0; i < count; i++) {
        const int64_t size = list[i].world;

        if (!list[i].live)
            continue;
        word[0] = size > word[0] ? size : word[0];
        word[1] = -size > word[1] ? -size : word[1];
        word[3] = list[i].watched ? 1 : word[3];
    }
    GE_TRY(ge_comm_max(comm, word, 4));
    for (size_t i = 0; i < count && ge_comm_node_rank(comm) == 0; i++) {
        if (list[i].live)
            found[0] += 1.0;
        else if (list[i].world == word[0])
            found[1] += 1.0;
    }
    GE_TRY(ge_comm_sum(comm, found, 2));
    if (word[2] > 0)
        return GRADECHO_END;
    if (word[0] > 0 && (word[0] != -word[1] || found[0] > (double)word[0])) {
        if (ge_comm_rank(comm) == 0)
            ge_error("session %s: trainers disagree on how many they are "
                     "(%lld and %lld, %.0f found); give each training run a "
                     "session of its own",
                     session, (long long)-word[1], (long long)word[0],
                     found[0]);
        return GRADECHO_E_INPUT;
    }
    *scene = (struct scene){.world = (uint32_t)word[0],
                            .live = found[0],
                            .lost = found[1],
                            .watched = word[3] > 0};
fail:
    return status;
}

/* Those who are missing have died, and not before a training of this name had
 * begun; or perhaps before: what a dead run left is replaced by the trainers of
 * the next one as they start, which is waited for. */
static bool is_complete(const struct scene *scene, double quiet)
{
    if (scene->world == 0 || scene->live + scene->lost < (double)scene->world)
        return false;
    return scene->live == (double)scene->world || scene->watched ||
           quiet >= start_seconds;
}

/* The session may be misspelt: whose trainers are there? */
static void tell_waiting(const char *session)
{
    char others[256];

    ge_survey_live(' ', others, sizeof others);
    ge_info("session %s: waiting for trainers%s%s", session,
            others[0] != '\0' ? "; sessions that run here: " : "", others);
}

gradecho_status ge_gather_wait(ge_comm *comm, const char *session,
                               const volatile sig_atomic_t *stop,
                               struct ge_segment_info *list, uint32_t *world)
{
    gradecho_status status = GRADECHO_OK;
    double pause = 0.02, quiet = 0.0, live = 0.0;

    /* Pauses are counted, not clocks read: all ranks decide alike. */
    for (bool told = false;; told = true) {
        struct scene scene = {0};

        GE_TRY(look_around(comm, session, stop, list, &scene));
        *world = scene.world;
        quiet = scene.live == live ? quiet + pause : 0.0;
        live = scene.live;
        if (status == GRADECHO_END || is_complete(&scene, quiet))
            return status;
        if (!told && ge_comm_rank(comm) == 0)
            tell_waiting(session);
        ge_comm_sleep(pause);
        pause = fmin(pause * 1.5, 0.2);
    }
fail:
    return status;
}
