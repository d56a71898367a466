/*
 * When an operation has lasted too long: rank 0 calls the roll, names those
 * that do not answer, and the caller ends the job.
 *
 * Ranks answer only while they wait themselves. A rank that waits for a lost
 * one answers; a lost one does not, nor does one that computes for longer than
 * the others have patience.
 *
 * Rank 0 gives up first: it holds the log, and the abort of another would leave
 * it a second to close it. The others follow, in case that it is rank 0 who is
 * lost.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm_private.h"
#include "memory.h"

enum { TAG_CALL = 2, TAG_ANSWER = 3 };
enum { NAMED_MAX = 6 }; /* missing ranks told one by one */

/* An answer takes milliseconds. After SIGTERM all must be over, the log closed,
 * within the second that mpirun gives. */
static const double call_seconds = 1.0, term_call_seconds = 0.25;
static const double term_seconds = 0.4;
static const double grace_seconds = 3.0; /* for rank 0 to do all that */
static const double listen_after = 0.25;

gradecho_status ge_comm_name_hosts(ge_comm *comm)
{
    gradecho_status status = GRADECHO_OK;
    char name[MPI_MAX_PROCESSOR_NAME] = "";
    int length = 0;

    comm->hosts = ge_alloc((size_t)comm->size, GE_HOST_MAX);
    GE_FAIL_IF(comm->hosts == NULL, GRADECHO_E_NOMEM,
               "no memory for the names of hosts");
    GE_TRY_MPI(MPI_Get_processor_name(name, &length));
    snprintf(comm->hosts[comm->rank], GE_HOST_MAX, "%.*s", GE_HOST_MAX - 1,
             name);
    GE_TRY_MPI(MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, comm->hosts,
                             GE_HOST_MAX, MPI_CHAR, comm->world));
fail:
    return status;
}

void ge_comm_listen(ge_comm *comm, double waited)
{
    MPI_Request request = MPI_REQUEST_NULL;
    int called = 0;

    if (comm->rank == 0 || waited < listen_after ||
        MPI_Iprobe(0, TAG_CALL, comm->world, &called, MPI_STATUS_IGNORE) !=
            MPI_SUCCESS ||
        !called)
        return;
    (void)MPI_Recv(&comm->word, 1, MPI_CHAR, 0, TAG_CALL, comm->world,
                   MPI_STATUS_IGNORE);
    if (MPI_Isend(&comm->word, 1, MPI_CHAR, 0, TAG_ANSWER, comm->world,
                  &request) == MPI_SUCCESS)
        MPI_Request_free(&request);
    comm->called = true;
}

/* Ask all ranks; answer[r] stays MPI_REQUEST_NULL or becomes it if rank r
 * answered. */
static void call_the_roll(ge_comm *comm, double seconds, MPI_Request *answer)
{
    const double start = MPI_Wtime();
    int all = 0;

    for (int r = 1; r < comm->size; r++) {
        MPI_Request request = MPI_REQUEST_NULL;

        if (MPI_Irecv(&comm->word, 1, MPI_CHAR, r, TAG_ANSWER, comm->world,
                      &answer[r]) == MPI_SUCCESS &&
            MPI_Isend(&comm->word, 1, MPI_CHAR, r, TAG_CALL, comm->world,
                      &request) == MPI_SUCCESS)
            MPI_Request_free(&request);
    }
    while (!all && MPI_Wtime() - start < seconds) {
        /* One by one: Testall leaves those that are done as they are. */
        all = 1;
        for (int r = 1; r < comm->size; r++) {
            int done = 0;

            all =
                MPI_Test(&answer[r], &done, MPI_STATUS_IGNORE) == MPI_SUCCESS &&
                done && all;
        }
        ge_comm_sleep(1e-3);
    }
}

/* "monitor 6 on node3, 7 on node3, and 2 more"; false if all answered. */
static bool list_missing(const ge_comm *comm, const MPI_Request *answer,
                         char *text, size_t size)
{
    size_t at = 0;
    int missing = 0;

    for (int r = 1; r < comm->size; r++) {
        if (answer[r] == MPI_REQUEST_NULL)
            continue;
        if (missing++ < NAMED_MAX && at < size)
            at += (size_t)snprintf(text + at, size - at, "%s%d on %s",
                                   at == 0 ? "monitor " : ", ", r,
                                   comm->hosts[r]);
    }
    if (missing > NAMED_MAX && at < size)
        snprintf(text + at, size - at, ", and %d more", missing - NAMED_MAX);
    return missing > 0;
}

static void tell_missing(ge_comm *comm, double waited)
{
    const bool told_to = comm->terminated_at > 0.0;
    char text[NAMED_MAX * (GE_HOST_MAX + 16) + 32] = "another monitor";
    /* Never freed: MPI may still write to those that are missing. */
    MPI_Request *answer = ge_alloc((size_t)comm->size, sizeof(MPI_Request));

    for (int r = 0; answer != NULL && r < comm->size; r++)
        answer[r] = MPI_REQUEST_NULL;
    if (answer != NULL) {
        call_the_roll(comm, told_to ? term_call_seconds : call_seconds, answer);
        if (!list_missing(comm, answer, text, sizeof text))
            snprintf(text, sizeof text, "a monitor that is there again");
    }
    if (told_to)
        ge_error("told to end (SIGTERM), and no answer from %s: mpirun ends "
                 "the monitors when it has lost one, or a host; the training "
                 "goes on",
                 text);
    else
        ge_error("no answer from %s for %.3g s: the host or the network is "
                 "down, or too busy (then raise timeout_seconds); this ends "
                 "the monitors, the training goes on",
                 text, waited);
}

bool ge_comm_gives_up(ge_comm *comm, double waited)
{
    const double grace = comm->rank == 0 ? 0.0 : grace_seconds;

    if (comm->terminated != NULL && *comm->terminated != 0) {
        if (comm->terminated_at <= 0.0)
            comm->terminated_at = MPI_Wtime();
        if (MPI_Wtime() - comm->terminated_at > term_seconds + grace)
            return true;
    }
    return comm->timeout > 0.0 && waited > comm->timeout + grace;
}

gradecho_status ge_comm_give_up(ge_comm *comm, double waited)
{
    if (comm->rank == 0)
        tell_missing(comm, waited);
    /* Rank 0 has told it if it could; one on each host will do. */
    else if (comm->node_rank == 0 && !comm->called)
        ge_error("no answer from monitor 0 on %s for %.3g s: the host or the "
                 "network is down, or too busy (then raise timeout_seconds); "
                 "this ends the monitors, the training goes on",
                 comm->hosts[0], waited);
    return GRADECHO_E_TIMEOUT;
}
