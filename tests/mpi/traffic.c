/*
 * traffic.c - libtraffic, put before MPI: counts what a rank sends and writes
 * it to $TRAFFIC/RANK when MPI ends, one line for each kind: name, messages,
 * bytes.
 *
 * Point-to-point messages are told apart by their tag. Of a collective, each
 * call is one message of as many bytes as this rank gives or gets.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

#define EXPORT __attribute__((visibility("default")))

enum kind { GATHER, SHIFT, MEAN, BROADCAST, REDUCE, KINDS };

static const char *const names[KINDS] = {"gather", "shift", "mean", "broadcast",
                                         "reduce"};
static unsigned long messages[KINDS], bytes[KINDS];

static void count(enum kind kind, int elements, MPI_Datatype type)
{
    int size = 0;

    PMPI_Type_size(type, &size);
    messages[kind]++;
    bytes[kind] += (unsigned long)elements * (unsigned long)size;
}

EXPORT int MPI_Isend(const void *data, int elements, MPI_Datatype type, int to,
                     int tag, MPI_Comm comm, MPI_Request *request)
{
    count(tag == 0 ? GATHER : tag == 1 ? SHIFT : MEAN, elements, type);
    return PMPI_Isend(data, elements, type, to, tag, comm, request);
}

EXPORT int MPI_Ibcast(void *data, int elements, MPI_Datatype type, int root,
                      MPI_Comm comm, MPI_Request *request)
{
    count(BROADCAST, elements, type);
    return PMPI_Ibcast(data, elements, type, root, comm, request);
}

EXPORT int MPI_Iallreduce(const void *mine, void *all, int elements,
                          MPI_Datatype type, MPI_Op operation, MPI_Comm comm,
                          MPI_Request *request)
{
    count(REDUCE, elements, type);
    return PMPI_Iallreduce(mine, all, elements, type, operation, comm, request);
}

EXPORT int MPI_Finalize(void)
{
    const char *folder = getenv("TRAFFIC");
    char path[4096];
    int rank = 0;
    FILE *out = NULL;

    PMPI_Comm_rank(MPI_COMM_WORLD, &rank);
    (void)snprintf(path, sizeof path, "%s/%d", folder != NULL ? folder : ".",
                   rank);
    out = fopen(path, "w");
    for (int k = 0; out != NULL && k < KINDS; k++)
        (void)fprintf(out, "%s %lu %lu\n", names[k], messages[k], bytes[k]);
    if (out != NULL)
        (void)fclose(out);
    return PMPI_Finalize();
}
