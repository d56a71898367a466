#include "comm.h"

#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "comm_private.h"
#include "futex.h"
#include "memory.h"

gradecho_status ge_comm_tell(const char *call, int code)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;

    MPI_Error_string(code, text, &length);
    ge_error("%.*s failed: %s", (int)strcspn(call, "("), call, text);
    return GRADECHO_E_MPI;
}

/* Which ranks may share memory: those of a machine, or groups of so many of
 * them as GRADECHO_NODE_RANKS says, which lets one machine stand for several.
 */
static gradecho_status find_first(ge_comm *comm)
{
    gradecho_status status = GRADECHO_OK;
    const char *text = getenv("GRADECHO_NODE_RANKS");
    const long group = text != NULL ? strtol(text, NULL, 10) : 0;
    const long mine = comm->node_rank;
    int *members = ge_alloc((size_t)comm->node_size, sizeof *members);

    GE_FAIL_IF(members == NULL, GRADECHO_E_NOMEM,
               "no memory for the ranks of a machine");
    GE_TRY_MPI(MPI_Allgather(&comm->rank, 1, MPI_INT, members, 1, MPI_INT,
                             comm->node));
    comm->first = members[0];
    if (group > 0 && group < comm->node_size)
        comm->first = members[mine / group * group];
fail:
    free(members);
    return status;
}

gradecho_status ge_comm_init(int *argc, char ***argv, ge_comm **comm)
{
    gradecho_status status = GRADECHO_OK;
    ge_comm *made = ge_alloc(1, sizeof *made);
    int provided = 0;

    GE_FAIL_IF(made == NULL, GRADECHO_E_NOMEM, "no memory for MPI's handle");
    /* MPI, which has not started, may not be asked why. */
    GE_FAIL_IF(MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided) !=
                   MPI_SUCCESS,
               GRADECHO_E_MPI,
               "MPI_Init_thread failed; gradecho doctor looks for the cause");
    GE_TRY_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &made->world));
    GE_TRY_MPI(MPI_Comm_set_errhandler(made->world, MPI_ERRORS_RETURN));
    GE_TRY_MPI(MPI_Comm_rank(made->world, &made->rank));
    GE_TRY_MPI(MPI_Comm_size(made->world, &made->size));
    GE_TRY_MPI(MPI_Comm_split_type(made->world, MPI_COMM_TYPE_SHARED,
                                   made->rank, MPI_INFO_NULL, &made->node));
    GE_TRY_MPI(MPI_Comm_rank(made->node, &made->node_rank));
    GE_TRY_MPI(MPI_Comm_size(made->node, &made->node_size));
    GE_TRY(find_first(made));
    GE_TRY(ge_comm_name_hosts(made));
    made->requests = ge_alloc((size_t)made->size, sizeof(MPI_Request));
    GE_FAIL_IF(made->requests == NULL, GRADECHO_E_NOMEM,
               "no memory for MPI's requests");
    *comm = made;
    return GRADECHO_OK;
fail:
    if (made != NULL)
        free(made->hosts);
    free(made);
    return status;
}

void ge_comm_finalize(ge_comm **comm)
{
    if (*comm == NULL)
        return;
    MPI_Comm_free(&(*comm)->node);
    MPI_Comm_free(&(*comm)->world);
    MPI_Finalize();
    free((*comm)->hosts);
    free((*comm)->requests);
    free(*comm);
    *comm = NULL;
}

_Noreturn void ge_comm_abort(ge_comm *comm, int exit_code)
{
    MPI_Abort(comm->world, exit_code);
    abort(); /* MPI_Abort does not come back, but does not say so */
}

int ge_comm_rank(const ge_comm *comm)
{
    return comm->rank;
}

int ge_comm_size(const ge_comm *comm)
{
    return comm->size;
}

int ge_comm_node_rank(const ge_comm *comm)
{
    return comm->node_rank;
}

int ge_comm_node_size(const ge_comm *comm)
{
    return comm->node_size;
}

void ge_comm_set_timeout(ge_comm *comm, double seconds)
{
    comm->timeout = seconds;
}

void ge_comm_set_terminated(ge_comm *comm,
                            const volatile sig_atomic_t *terminated)
{
    comm->terminated = terminated;
}

uint64_t ge_comm_sent(const ge_comm *comm)
{
    return comm->sent;
}

void ge_comm_sleep(double seconds)
{
    const double whole = floor(seconds);
    const struct timespec time = {.tv_sec = (time_t)whole,
                                  .tv_nsec = (long)((seconds - whole) * 1e9)};

    nanosleep(&time, NULL);
}

/* Give the core away before the next test. The bulk of a message in flight
 * moves only inside MPI_Test, so a bulk wait goes on testing as long as its
 * peers can be expected to be on their core, and yields now and then: MPI does
 * so as well where it is oversubscribed, and what another program gets each
 * time, all peers wait for. Then it is waiting like any other. */
static void rest(struct ge_waiting *waiting, double waited)
{
    const bool bulk = waiting->patience == GE_BULK;

    if (waited < (bulk ? 0.02 : 50e-6)) {
        if (!bulk || ++waiting->polls % 8 == 0)
            sched_yield();
        return;
    }
    /* A part of the wait so far: it may last that much too long. */
    ge_comm_sleep(fmin(fmax(waited * 0.125, 25e-6), bulk ? 200e-6 : 2e-3));
}

struct ge_waiting ge_comm_begin_wait(enum ge_patience patience)
{
    return (struct ge_waiting){.patience = patience, .start = MPI_Wtime()};
}

/* For how long it has lasted; GRADECHO_E_TIMEOUT if that is long enough. */
static gradecho_status look_around(ge_comm *comm,
                                   const struct ge_waiting *waiting,
                                   double *waited)
{
    *waited = MPI_Wtime() - waiting->start;
    if (ge_comm_gives_up(comm, *waited))
        return ge_comm_give_up(comm, *waited);
    ge_comm_listen(comm, *waited);
    return GRADECHO_OK;
}

gradecho_status ge_comm_linger(ge_comm *comm, struct ge_waiting *waiting)
{
    gradecho_status status = GRADECHO_OK;
    double waited = 0.0;

    GE_TRY(look_around(comm, waiting, &waited));
    rest(waiting, waited);
fail:
    return status;
}

gradecho_status ge_comm_nap(ge_comm *comm, struct ge_waiting *waiting,
                            _Atomic uint32_t *word, uint32_t seen)
{
    const double longest = 0.02; /* seconds until it looks around again */
    gradecho_status status = GRADECHO_OK;
    double waited = 0.0;

    GE_TRY(look_around(comm, waiting, &waited));
    ge_futex_wait(word, seen, longest);
fail:
    return status;
}

gradecho_status ge_comm_wait(ge_comm *comm, MPI_Request *requests, int count,
                             enum ge_patience patience)
{
    gradecho_status status = GRADECHO_OK;
    struct ge_waiting waiting = ge_comm_begin_wait(patience);
    int done = 0;

    for (;;) {
        GE_TRY_MPI(MPI_Testall(count, requests, &done, MPI_STATUSES_IGNORE));
        if (done)
            return GRADECHO_OK;
        GE_TRY(ge_comm_linger(comm, &waiting));
    }
fail:
    return status;
}

static gradecho_status reduce(ge_comm *comm, void *values, size_t count,
                              size_t size, MPI_Datatype type, MPI_Op operation,
                              enum ge_patience patience)
{
    gradecho_status status = GRADECHO_OK;
    char *at = values;

    while (count > 0) {
        const size_t n = ge_min_size(count, GE_COMM_CHUNK);
        MPI_Request request = MPI_REQUEST_NULL;

        GE_TRY_MPI(MPI_Iallreduce(MPI_IN_PLACE, at, (int)n, type, operation,
                                  comm->world, &request));
        GE_TRY(ge_comm_wait(comm, &request, 1, patience));
        comm->sent += n * size;
        at += n * size;
        count -= n;
    }
fail:
    return status;
}

gradecho_status ge_comm_max(ge_comm *comm, int64_t *values, size_t count)
{
    return reduce(comm, values, count, sizeof *values, MPI_INT64_T, MPI_MAX,
                  GE_IDLE);
}

gradecho_status ge_comm_sum(ge_comm *comm, double *values, size_t count)
{
    return reduce(comm, values, count, sizeof *values, MPI_DOUBLE, MPI_SUM,
                  GE_BULK);
}

gradecho_status ge_comm_broadcast(ge_comm *comm, void *data, size_t bytes,
                                  int root)
{
    gradecho_status status = GRADECHO_OK;
    char *at = data;

    while (bytes > 0) {
        const size_t n = ge_min_size(bytes, GE_COMM_CHUNK);
        MPI_Request request = MPI_REQUEST_NULL;

        GE_TRY_MPI(
            MPI_Ibcast(at, (int)n, MPI_BYTE, root, comm->world, &request));
        GE_TRY(ge_comm_wait(comm, &request, 1, GE_IDLE));
        comm->sent += comm->rank == root ? n : 0;
        at += n;
        bytes -= n;
    }
fail:
    return status;
}

/* Rank 0's part of a gather: `n` doubles from every other rank. */
static gradecho_status receive_all(ge_comm *comm, MPI_Request *requests,
                                   size_t n, size_t count, double *all)
{
    gradecho_status status = GRADECHO_OK;

    for (int peer = 1; peer < comm->size; peer++)
        GE_TRY_MPI(MPI_Irecv(all + (size_t)peer * count, (int)n, MPI_DOUBLE,
                             peer, 0, comm->world, &requests[peer - 1]));
    GE_TRY(ge_comm_wait(comm, requests, comm->size - 1, GE_IDLE));
fail:
    return status;
}

gradecho_status ge_comm_gather(ge_comm *comm, const double *mine, size_t count,
                               double *all)
{
    gradecho_status status = GRADECHO_OK;

    if (comm->rank == 0)
        memcpy(all, mine, count * sizeof *all);
    for (size_t done = 0; done < count;) {
        const size_t n = ge_min_size(count - done, GE_COMM_CHUNK);

        if (comm->rank == 0) {
            GE_TRY(receive_all(comm, comm->requests, n, count, all + done));
        } else {
            GE_TRY_MPI(MPI_Isend(mine + done, (int)n, MPI_DOUBLE, 0, 0,
                                 comm->world, comm->requests));
            GE_TRY(ge_comm_wait(comm, comm->requests, 1, GE_IDLE));
            comm->sent += n * sizeof *mine;
        }
        done += n;
    }
fail:
    return status;
}

gradecho_status ge_comm_shift(ge_comm *comm, int distance, const float *mine,
                              float *theirs, size_t count)
{
    gradecho_status status = GRADECHO_OK;
    const int to = (comm->rank + distance) % comm->size;
    const int from = (comm->rank - distance + comm->size) % comm->size;

    for (size_t done = 0; done < count;) {
        const size_t n = ge_min_size(count - done, GE_COMM_CHUNK);
        MPI_Request requests[2] = {MPI_REQUEST_NULL, MPI_REQUEST_NULL};

        GE_TRY_MPI(MPI_Irecv(theirs + done, (int)n, MPI_FLOAT, from, 1,
                             comm->world, &requests[0]));
        GE_TRY_MPI(MPI_Isend(mine + done, (int)n, MPI_FLOAT, to, 1, comm->world,
                             &requests[1]));
        GE_TRY(ge_comm_wait(comm, requests, 2, GE_IDLE));
        comm->sent += n * sizeof *mine;
        done += n;
    }
fail:
    return status;
}

gradecho_status ge_comm_agree(ge_comm *comm, gradecho_status local)
{
    const bool failed = local < GRADECHO_OK;
    int64_t word[2] = {failed ? -(int64_t)local : 0,
                       failed ? comm->size - comm->rank : 0};
    const bool captured = ge_message_capture(0) != 0;
    gradecho_status status = ge_comm_max(comm, word, 2);

    if (status < GRADECHO_OK)
        return status;
    if (failed && captured && word[1] == comm->size - comm->rank &&
        ge_message_last()[0] != '\0')
        ge_error("%s", ge_message_last());
    return (gradecho_status)-word[0];
}
