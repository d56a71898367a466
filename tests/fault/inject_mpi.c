/*
 * MPI's calls. A request that was started and not waited for is left; a wait
 * fails when the real one has come to its end.
 */
#include "inject_private.h"

#include <mpi.h>

#define CALLS(name, params, args) \
    FAULT_CALL(FAULT_MPI, int, name, params, args, MPI_ERR_OTHER, 0)

/* A call that hands out a communicator or starts a request. */
#define STARTS(kind, thing, name, params, args)                    \
    FAULT_EXPORT int name params                                   \
    {                                                              \
        static int(*real) params;                                  \
        int code = MPI_SUCCESS;                                    \
                                                                   \
        fault_resolve(&real, #name);                               \
        if (fault_due(FAULT_MPI, #name, FAULT_CALLER))             \
            return MPI_ERR_OTHER;                                  \
        code = real args;                                          \
        if (code == MPI_SUCCESS)                                   \
            fault_hold(FAULT_MPI, kind, (uintptr_t)(thing), #name, \
                       FAULT_CALLER);                              \
        return code;                                               \
    }
#define REQUESTS(name, params, args) \
    STARTS(FAULT_REQUEST, *request, name, params, args)

CALLS(MPI_Init_thread, (int *argc, char ***argv, int needed, int *provided),
      (argc, argv, needed, provided))
FAULT_RELEASE(FAULT_MPI, FAULT_NOTHING, int, MPI_Finalize, (void), (), 0,
              MPI_ERR_OTHER, 0)
CALLS(MPI_Error_string, (int code, char *text, int *length),
      (code, text, length))
CALLS(MPI_Get_processor_name, (char *name, int *length), (name, length))
CALLS(MPI_Allgather,
      (const void *from, int count, MPI_Datatype type, void *to, int to_count,
       MPI_Datatype to_type, MPI_Comm comm),
      (from, count, type, to, to_count, to_type, comm))
CALLS(MPI_Recv,
      (void *to, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm,
       MPI_Status *state),
      (to, count, type, from, tag, comm, state))
CALLS(MPI_Iprobe,
      (int from, int tag, MPI_Comm comm, int *found, MPI_Status *state),
      (from, tag, comm, found, state))
FAULT_RELEASE(FAULT_MPI, FAULT_REQUEST, int, MPI_Request_free,
              (MPI_Request * request), (request), *request, MPI_ERR_OTHER, 0)
CALLS(MPI_Comm_rank, (MPI_Comm comm, int *rank), (comm, rank))
CALLS(MPI_Comm_size, (MPI_Comm comm, int *size), (comm, size))
CALLS(MPI_Comm_set_errhandler, (MPI_Comm comm, MPI_Errhandler handler),
      (comm, handler))
STARTS(FAULT_COMMUNICATOR, *made, MPI_Comm_dup, (MPI_Comm comm, MPI_Comm *made),
       (comm, made))
STARTS(FAULT_COMMUNICATOR, *made, MPI_Comm_split_type,
       (MPI_Comm comm, int type, int key, MPI_Info info, MPI_Comm *made),
       (comm, type, key, info, made))
FAULT_RELEASE(FAULT_MPI, FAULT_COMMUNICATOR, int, MPI_Comm_free,
              (MPI_Comm * comm), (comm), *comm, MPI_ERR_OTHER, 0)

REQUESTS(MPI_Iallreduce,
         (const void *from, void *to, int count, MPI_Datatype type,
          MPI_Op operation, MPI_Comm comm, MPI_Request *request),
         (from, to, count, type, operation, comm, request))
REQUESTS(MPI_Ibcast,
         (void *data, int count, MPI_Datatype type, int root, MPI_Comm comm,
          MPI_Request *request),
         (data, count, type, root, comm, request))
REQUESTS(MPI_Irecv,
         (void *to, int count, MPI_Datatype type, int from, int tag,
          MPI_Comm comm, MPI_Request *request),
         (to, count, type, from, tag, comm, request))
REQUESTS(MPI_Isend,
         (const void *from, int count, MPI_Datatype type, int to, int tag,
          MPI_Comm comm, MPI_Request *request),
         (from, count, type, to, tag, comm, request))

enum { REQUESTS_MAX = 64 };

FAULT_EXPORT int MPI_Testall(int count, MPI_Request *requests, int *done,
                             MPI_Status *states)
{
    static int (*real)(int, MPI_Request *, int *, MPI_Status *);
    MPI_Request before[REQUESTS_MAX];
    int code = MPI_SUCCESS;

    fault_resolve(&real, "MPI_Testall");
    for (int i = 0; i < count && i < REQUESTS_MAX; i++)
        before[i] = requests[i];
    code = real(count, requests, done, states);
    for (int i = 0;
         code == MPI_SUCCESS && *done && i < count && i < REQUESTS_MAX; i++)
        fault_drop(FAULT_REQUEST, (uintptr_t)before[i]);
    /* How often a wait asks in vain is not worth counting. */
    if (code == MPI_SUCCESS && *done &&
        fault_due(FAULT_MPI, "MPI_Testall", FAULT_CALLER))
        return MPI_ERR_OTHER;
    return code;
}

FAULT_EXPORT int MPI_Test(MPI_Request *request, int *done, MPI_Status *state)
{
    static int (*real)(MPI_Request *, int *, MPI_Status *);
    const MPI_Request before = *request;
    int code = MPI_SUCCESS;

    fault_resolve(&real, "MPI_Test");
    code = real(request, done, state);
    if (code != MPI_SUCCESS || !*done)
        return code;
    fault_drop(FAULT_REQUEST, (uintptr_t)before);
    return fault_due(FAULT_MPI, "MPI_Test", FAULT_CALLER) ? MPI_ERR_OTHER
                                                          : code;
}
