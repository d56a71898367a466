#include "mean.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "comm_private.h"
#include "memory.h"
#include "vector.h"

enum { TAG_EXCHANGE = 4, TAG_GATHER = 5 }; /* lost.c has 2 and 3 */

/* Entries that are added up at a time: their sum stays in the fastest cache. */
enum { BLOCK = 1024 };

/* A piece under way. */
struct way {
    enum { EMPTY, EXCHANGING, GATHERING } state;
    size_t count;
    const struct ge_mean_span *spans;
    void *mine;            /* [piece] of float or double */
    void *received;        /* [size x share] of the same, but for my own part */
    float *out;            /* [piece] */
    MPI_Request *requests; /* [2 x size] */
    int posted;            /* of them */
};

struct ge_mean {
    ge_comm *comm;
    size_t piece;
    bool wide;
    struct way way[GE_MEAN_DEPTH];
    size_t started, finished; /* pieces so far; n is at way[n % DEPTH] */
};

static size_t width(const ge_mean *mean)
{
    return mean->wide ? sizeof(double) : sizeof(float);
}

/* Share i is [i share, (i+1) share) of the piece, cut off at its end. */
static size_t share_of(const ge_mean *mean, size_t count)
{
    const size_t size = (size_t)mean->comm->size;

    return (count + size - 1) / size;
}

static size_t start_of(const ge_mean *mean, size_t count, int rank)
{
    return ge_min_size((size_t)rank * share_of(mean, count), count);
}

static size_t count_of(const ge_mean *mean, size_t count, int rank)
{
    return start_of(mean, count, rank + 1) - start_of(mean, count, rank);
}

static bool allocate(const ge_mean *mean, struct way *way)
{
    const size_t size = (size_t)mean->comm->size;

    way->mine = ge_alloc_aligned(mean->piece, width(mean));
    way->received = ge_alloc_aligned(
        size > 1 ? size * share_of(mean, mean->piece) : 0, width(mean));
    way->out = ge_alloc_aligned(mean->piece, sizeof *way->out);
    way->requests = ge_alloc(2 * size, sizeof(MPI_Request));
    return way->mine != NULL && way->received != NULL && way->out != NULL &&
           way->requests != NULL;
}

gradecho_status ge_mean_create(ge_comm *comm, size_t piece, bool wide,
                               ge_mean **mean)
{
    gradecho_status status = GRADECHO_OK;
    ge_mean *made = ge_alloc(1, sizeof *made);

    GE_FAIL_IF(made == NULL || piece > INT_MAX / 2, GRADECHO_E_NOMEM,
               "no memory for the mean");
    *made = (ge_mean){.comm = comm, .piece = piece, .wide = wide};
    for (size_t i = 0; i < GE_MEAN_DEPTH; i++)
        GE_FAIL_IF(!allocate(made, &made->way[i]), GRADECHO_E_NOMEM,
                   "no memory for the mean of %zu entries", piece);
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
    for (size_t i = 0; i < GE_MEAN_DEPTH; i++) {
        struct way *way = &(*mean)->way[i];

        if (way->state != EMPTY)
            continue;
        free(way->mine);
        free(way->received);
        free(way->out);
        free(way->requests);
    }
    free(*mean);
    *mean = NULL;
}

size_t ge_mean_pending(const ge_mean *mean)
{
    return mean->started - mean->finished;
}

void *ge_mean_room(ge_mean *mean)
{
    return mean->way[mean->started % GE_MEAN_DEPTH].mine;
}

/* ---- arithmetic ---- */

/* sum[i] = the ranks' entries, in order of rank; parts lie `stride` apart,
 * except for that of rank `me`, which is at `mine`. */
#define GE_ADD(type)                                                       \
    do {                                                                   \
        for (size_t i = 0; i < count; i++)                                 \
            sum[i] = 0.0;                                                  \
        for (size_t r = 0; r < size; r++) {                                \
            const type *part = r == me ? (const type *)mine                \
                                       : (const type *)parts + r * stride; \
                                                                           \
            for (size_t i = 0; i < count; i++)                             \
                sum[i] += (double)part[first + i];                         \
        }                                                                  \
    } while (0)

GE_INLINE void add(bool wide, const void *parts, const void *mine, size_t me,
                   size_t size, size_t stride, size_t first, size_t count,
                   double *restrict sum)
{
    if (wide)
        GE_ADD(double);
    else
        GE_ADD(float);
}

GE_WIDE static void add_wide(bool wide, const void *parts, const void *mine,
                             size_t me, size_t size, size_t stride,
                             size_t first, size_t count, double *restrict sum)
{
    add(wide, parts, mine, me, size, stride, first, count, sum);
}

GE_INLINE void divide(const double *restrict sum, size_t count, double replicas,
                      float *restrict out)
{
    int exponent = 0;

    /* By a power of two, a product is the same and many times faster. */
    if (frexp(replicas, &exponent) == 0.5) {
        const double part = 1.0 / replicas;

        for (size_t i = 0; i < count; i++)
            out[i] = (float)(sum[i] * part);
    } else {
        for (size_t i = 0; i < count; i++)
            out[i] = (float)(sum[i] / replicas);
    }
}

GE_WIDE static void divide_wide(const double *restrict sum, size_t count,
                                double replicas, float *restrict out)
{
    divide(sum, count, replicas, out);
}

/* My share of the piece. */
static void form_share(const ge_mean *mean, struct way *way)
{
    const int rank = mean->comm->rank;
    const size_t me = (size_t)rank, size = (size_t)mean->comm->size;
    const size_t start = start_of(mean, way->count, rank);
    const size_t count = count_of(mean, way->count, rank);
    const char *mine = (const char *)way->mine + start * width(mean);
    const struct ge_mean_span *span = way->spans;
    size_t span_end = span->count; /* in the piece */

    for (size_t first = 0; first < count; first += BLOCK) {
        const size_t n = ge_min_size(count - first, BLOCK);
        double sum[BLOCK];

        if (ge_has_wide())
            add_wide(mean->wide, way->received, mine, me, size, count, first, n,
                     sum);
        else
            add(mean->wide, way->received, mine, me, size, count, first, n,
                sum);
        for (size_t done = 0; done < n;) {
            const size_t at = start + first + done;

            while (span_end <= at)
                span_end += (++span)->count;
            const size_t run = ge_min_size(n - done, span_end - at);

            if (ge_has_wide())
                divide_wide(sum + done, run, span->replicas, way->out + at);
            else
                divide(sum + done, run, span->replicas, way->out + at);
            done += run;
        }
    }
}

/* ---- transport ---- */

/* Send `count` entries of `type` to a peer, and receive from it. What is
 * posted is counted at once: should the other fail, MPI has it. */
static gradecho_status swap(ge_mean *mean, struct way *way, int peer, int tag,
                            MPI_Datatype type, const void *from, size_t count,
                            void *to, size_t to_count)
{
    gradecho_status status = GRADECHO_OK;
    const MPI_Comm world = mean->comm->world;

    if (to_count > 0) {
        GE_TRY_MPI(MPI_Irecv(to, (int)to_count, type, peer, tag, world,
                             &way->requests[way->posted]));
        way->posted++;
    }
    if (count > 0) {
        GE_TRY_MPI(MPI_Isend(from, (int)count, type, peer, tag, world,
                             &way->requests[way->posted]));
        way->posted++;
        mean->comm->sent +=
            count * (type == MPI_DOUBLE ? sizeof(double) : sizeof(float));
    }
fail:
    return status;
}

/* Each peer's share of what I have, for my share of what it has. Neighbours
 * first, so that not all begin with the same. */
static gradecho_status exchange(ge_mean *mean, struct way *way)
{
    gradecho_status status = GRADECHO_OK;
    const int rank = mean->comm->rank, size = mean->comm->size;
    const size_t share = count_of(mean, way->count, rank);
    const size_t bytes = width(mean);

    way->state = EXCHANGING;
    way->posted = 0;
    for (int i = 1; i < size; i++) {
        const int peer = (rank + i) % size;

        GE_TRY(swap(
            mean, way, peer, TAG_EXCHANGE, mean->wide ? MPI_DOUBLE : MPI_FLOAT,
            (char *)way->mine + start_of(mean, way->count, peer) * bytes,
            count_of(mean, way->count, peer),
            (char *)way->received + (size_t)peer * share * bytes, share));
    }
fail:
    return status;
}

/* My share of the mean to all, theirs to me. */
static gradecho_status gather(ge_mean *mean, struct way *way)
{
    gradecho_status status = GRADECHO_OK;
    const int rank = mean->comm->rank, size = mean->comm->size;

    form_share(mean, way);
    way->state = GATHERING;
    way->posted = 0;
    for (int i = 1; i < size; i++) {
        const int peer = (rank + i) % size;

        GE_TRY(swap(mean, way, peer, TAG_GATHER, MPI_FLOAT,
                    way->out + start_of(mean, way->count, rank),
                    count_of(mean, way->count, rank),
                    way->out + start_of(mean, way->count, peer),
                    count_of(mean, way->count, peer)));
    }
fail:
    return status;
}

/* Gather what has been exchanged: one piece after the other, as on all ranks,
 * so that their messages meet. */
static gradecho_status advance(ge_mean *mean)
{
    gradecho_status status = GRADECHO_OK;

    for (size_t n = mean->finished; n < mean->started; n++) {
        struct way *way = &mean->way[n % GE_MEAN_DEPTH];
        int done = 1;

        if (way->state != EXCHANGING)
            continue;
        GE_TRY_MPI(MPI_Testall(way->posted, way->requests, &done,
                               MPI_STATUSES_IGNORE));
        if (!done)
            break;
        GE_TRY(gather(mean, way));
    }
fail:
    return status;
}

gradecho_status ge_mean_start(ge_mean *mean, size_t count,
                              const struct ge_mean_span *spans)
{
    gradecho_status status = GRADECHO_OK;
    struct way *way = &mean->way[mean->started % GE_MEAN_DEPTH];

    way->count = count;
    way->spans = spans;
    mean->started++;
    GE_TRY(exchange(mean, way));
    GE_TRY(advance(mean));
fail:
    return status;
}

gradecho_status ge_mean_finish(ge_mean *mean, struct ge_mean_piece *piece)
{
    gradecho_status status = GRADECHO_OK;
    struct way *way = &mean->way[mean->finished % GE_MEAN_DEPTH];
    struct ge_waiting waiting = ge_comm_begin_wait(GE_BULK);

    for (;;) {
        int done = 0;

        GE_TRY(advance(mean));
        if (way->state == GATHERING)
            GE_TRY_MPI(MPI_Testall(way->posted, way->requests, &done,
                                   MPI_STATUSES_IGNORE));
        if (done)
            break;
        GE_TRY(ge_comm_linger(mean->comm, &waiting));
    }
    way->state = EMPTY;
    mean->finished++;
    *piece = (struct ge_mean_piece){.mean = way->out,
                                    .mine = mean->wide ? NULL : way->mine};
fail:
    return status;
}
