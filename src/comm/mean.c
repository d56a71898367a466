#include "mean.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "comm_private.h"
#include "memory.h"

struct ge_mean {
    ge_comm *comm;
    size_t piece;
    bool wide;
    void *nothing;  /* [piece] zeros, for a rank that has no replica */
    void *received; /* [size x share] of float or double */
    double *sum;    /* [share] */
    /* Partition of the current piece, as MPI wants it. */
    int *counts, *starts;           /* [size] shares of the piece */
    int *from_counts, *from_starts; /* [size] what my share receives */
};

static size_t share_of(const ge_mean *mean, size_t count)
{
    const size_t size = (size_t)mean->comm->size;

    return (count + size - 1) / size;
}

gradecho_status ge_mean_create(ge_comm *comm, size_t piece, bool wide,
                               ge_mean **mean)
{
    gradecho_status status = GRADECHO_OK;
    const size_t width = wide ? sizeof(double) : sizeof(float);
    const size_t size = (size_t)comm->size;
    ge_mean *made = ge_alloc(1, sizeof *made);

    GE_FAIL_IF(made == NULL || piece > INT_MAX / 2, GRADECHO_E_NOMEM,
               "no memory for the mean");
    *made = (ge_mean){.comm = comm, .piece = piece, .wide = wide};
    made->nothing = ge_alloc_aligned(piece, width);
    made->received = ge_alloc_aligned(size * share_of(made, piece), width);
    made->sum = ge_alloc_aligned(share_of(made, piece), sizeof(double));
    made->counts = ge_alloc(4 * size, sizeof(int));
    GE_FAIL_IF(made->nothing == NULL || made->received == NULL ||
                   made->sum == NULL || made->counts == NULL,
               GRADECHO_E_NOMEM, "no memory for the mean of %zu entries",
               piece);
    made->starts = made->counts + size;
    made->from_counts = made->starts + size;
    made->from_starts = made->from_counts + size;
    *mean = made;
    return GRADECHO_OK;
fail:
    ge_mean_destroy(&made);
    return status;
}

void ge_mean_destroy(ge_mean **mean)
{
    if (*mean == NULL)
        return;
    free((*mean)->nothing);
    free((*mean)->received);
    free((*mean)->sum);
    free((*mean)->counts);
    free(*mean);
    *mean = NULL;
}

/* Share i is [i share, (i+1) share) of the piece, cut off at its end. */
static void partition(ge_mean *mean, size_t count)
{
    const size_t share = share_of(mean, count);
    const size_t size = (size_t)mean->comm->size;
    const size_t me = (size_t)mean->comm->rank;

    for (size_t i = 0; i < size; i++) {
        const size_t start = ge_min_size(i * share, count);

        mean->starts[i] = (int)start;
        mean->counts[i] = (int)(ge_min_size(start + share, count) - start);
    }
    for (size_t i = 0; i < size; i++) {
        mean->from_counts[i] = mean->counts[me];
        mean->from_starts[i] = (int)i * mean->counts[me];
    }
}

/* Add up the `parts` copies of my share, in order of rank. */
static void add_parts(const ge_mean *mean, const void *copies, size_t parts,
                      size_t count)
{
    memset(mean->sum, 0, count * sizeof(double));
    for (size_t p = 0; p < parts; p++) {
        if (mean->wide) {
            const double *part = (const double *)copies + p * count;

            for (size_t i = 0; i < count; i++)
                mean->sum[i] += part[i];
        } else {
            const float *part = (const float *)copies + p * count;

            for (size_t i = 0; i < count; i++)
                mean->sum[i] += (double)part[i];
        }
    }
}

/* out[i] = sum[i]/K, i counted from `start` of the piece, K by span. */
static void divide(const double *sum, size_t start, size_t count,
                   const struct ge_mean_span *spans, float *out)
{
    size_t done = 0, span_start = 0;

    for (; done < count; span_start += spans->count, spans++) {
        const size_t span_end = span_start + spans->count;

        if (span_end <= start + done)
            continue;
        const size_t end = ge_min_size(span_end - start, count);
        for (; done < end; done++)
            out[done] = (float)(sum[done] / spans->replicas);
    }
}

gradecho_status ge_mean_piece(ge_mean *mean, const float *narrow,
                              const double *sums, size_t count,
                              const struct ge_mean_span *spans, float *out)
{
    gradecho_status status = GRADECHO_OK;
    ge_comm *comm = mean->comm;
    const MPI_Datatype type = mean->wide ? MPI_DOUBLE : MPI_FLOAT;
    const void *mine = mean->wide       ? (const void *)sums
                       : narrow != NULL ? (const void *)narrow
                                        : mean->nothing;
    MPI_Request request = MPI_REQUEST_NULL;

    partition(mean, count);
    const size_t start = (size_t)mean->starts[comm->rank];
    const size_t share = (size_t)mean->counts[comm->rank];

    if (comm->size == 1) {
        add_parts(mean, mine, 1, count);
        divide(mean->sum, 0, count, spans, out);
        return GRADECHO_OK;
    }
    GE_TRY_MPI(MPI_Ialltoallv(mine, mean->counts, mean->starts, type,
                              mean->received, mean->from_counts,
                              mean->from_starts, type, comm->world, &request));
    GE_TRY(ge_comm_wait(comm, &request, 1, GE_BULK));
    add_parts(mean, mean->received, (size_t)comm->size, share);
    divide(mean->sum, start, share, spans, out + start);
    GE_TRY_MPI(MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, out,
                               mean->counts, mean->starts, MPI_FLOAT,
                               comm->world, &request));
    GE_TRY(ge_comm_wait(comm, &request, 1, GE_BULK));
fail:
    return status;
}
