#include "mean.h"

#include <limits.h>
#include <stdlib.h>

#include "average.h"
#include "comm_private.h"
#include "memory.h"
#include "neighbours.h"

enum { TAG_EXCHANGE = 4, TAG_GATHER = 5 }; /* lost.c has 2 and 3 */

/* What a neighbour tells: pieces of its own that it has put in, and pieces
 * whose mean is complete as far as it has to see to it. Counts, which may wrap.
 */
enum { READY = 0, COMPLETE = 1 };

/* A piece under way. */
struct way {
    bool exchanging; /* else it is being gathered */
    size_t count;
    const struct ge_mean_span *spans;
    void *received;        /* [far x share] of float or double */
    MPI_Request *requests; /* [2 x size] */
    int posted;            /* of them */
};

struct ge_mean {
    ge_comm *comm;
    size_t piece;
    bool wide;
    struct ge_neighbours near;
    size_t far;         /* ranks that are no neighbours */
    const void **parts; /* [size] a share of a piece, of each rank */
    /* For each far rank: */
    size_t *place; /* [size] of what is received from it, in shares */
    bool *gives;   /* [size] my share of the mean goes to it */
    bool *takes;   /* [size] I receive its share, for my neighbours, too */
    struct way way[GE_MEAN_DEPTH];
    /* Pieces so far; n is at way[n % DEPTH]. */
    size_t started, complete, finished;
};

static size_t width_of(bool wide)
{
    return wide ? sizeof(double) : sizeof(float);
}

static size_t width(const ge_mean *mean)
{
    return width_of(mean->wide);
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

/* ---- what neighbours share: what each puts in, and one mean for all ---- */

/* Bytes of a piece that a neighbour puts in, and of the mean of one. A part has
 * GE_MEAN_DEPTH of the first, then as many of the second. */
static size_t input_bytes(size_t piece, bool wide)
{
    return ge_padded(piece, width_of(wide)) * width_of(wide);
}

static size_t mean_bytes(size_t piece)
{
    return ge_padded(piece, sizeof(float)) * sizeof(float);
}

static char *part_of(const ge_mean *mean, int i)
{
    return (char *)mean->near.part[i] + GE_NEIGHBOURS_HEAD;
}

/* What the i-th neighbour puts into piece n: [piece] of float or double. */
static void *input_of(const ge_mean *mean, int i, size_t n)
{
    return part_of(mean, i) +
           n % GE_MEAN_DEPTH * input_bytes(mean->piece, mean->wide);
}

/* The mean of piece n, [piece], in the part of the first neighbour. */
static float *mean_of(const ge_mean *mean, size_t n)
{
    return (float *)(void *)(part_of(mean, 0) +
                             GE_MEAN_DEPTH *
                                 input_bytes(mean->piece, mean->wide) +
                             n % GE_MEAN_DEPTH * mean_bytes(mean->piece));
}

static bool all_have(const ge_mean *mean, int word, size_t pieces)
{
    uint32_t seen = 0;

    return ge_neighbours_late(&mean->near, word, (uint32_t)pieces, &seen) ==
           NULL;
}

static bool is_far(const ge_mean *mean, int peer)
{
    return mean->near.first[peer] != mean->near.first[mean->comm->rank];
}

/* Who receives whose shares of the mean: on each machine one of its ranks,
 * dealt out in turns. */
static void deal(ge_mean *mean)
{
    const struct ge_neighbours *near = &mean->near;
    const int rank = mean->comm->rank, size = mean->comm->size;
    size_t place = 0;

    for (int r = 0; r < size; r++) {
        int members = 0, turn = 0;

        if (!is_far(mean, r))
            continue;
        mean->place[r] = place++;
        mean->takes[r] = near->world[r % near->size] == rank;
        for (int m = 0; m < size; m++) {
            members += near->first[m] == near->first[r];
            turn += m < r && near->first[m] == near->first[r];
        }
        mean->gives[r] = turn == rank % members;
    }
}

static gradecho_status allocate(ge_mean *mean)
{
    gradecho_status status = GRADECHO_OK;
    const size_t size = (size_t)mean->comm->size;

    mean->parts = ge_alloc(size, sizeof *mean->parts);
    mean->place = ge_alloc(size, sizeof *mean->place);
    mean->gives = ge_alloc(size, sizeof *mean->gives);
    mean->takes = ge_alloc(size, sizeof *mean->takes);
    GE_FAIL_IF(mean->parts == NULL || mean->place == NULL ||
                   mean->gives == NULL || mean->takes == NULL,
               GRADECHO_E_NOMEM, "no memory for the mean");
    deal(mean);
    for (size_t i = 0; i < GE_MEAN_DEPTH; i++) {
        struct way *way = &mean->way[i];

        way->received = ge_alloc_aligned(
            mean->far * share_of(mean, mean->piece), width(mean));
        way->requests = ge_alloc(2 * size, sizeof(MPI_Request));
        GE_FAIL_IF(way->received == NULL || way->requests == NULL,
                   GRADECHO_E_NOMEM, "no memory for the mean of %zu entries",
                   mean->piece);
    }
fail:
    return status;
}

gradecho_status ge_mean_create(ge_comm *comm, size_t piece, bool wide,
                               ge_mean **mean)
{
    gradecho_status status = GRADECHO_OK, local = GRADECHO_OK;
    ge_mean *made = ge_alloc(1, sizeof *made);
    struct ge_neighbours near;

    GE_TRY(ge_neighbours_create(
        comm, GE_MEAN_DEPTH * (input_bytes(piece, wide) + mean_bytes(piece)),
        &near));
    ge_message_capture(1);
    if (made == NULL || piece > INT_MAX / 2) {
        ge_error("no memory for the mean");
        local = GRADECHO_E_NOMEM;
        ge_neighbours_destroy(&near);
    } else {
        *made = (ge_mean){.comm = comm,
                          .piece = piece,
                          .wide = wide,
                          .near = near,
                          .far = (size_t)(comm->size - near.size)};
        local = allocate(made);
    }
    GE_TRY(ge_comm_agree(comm, local));
    *mean = made;
    return GRADECHO_OK;
fail:
    ge_mean_destroy(&made);
    return status;
}

void ge_mean_destroy(ge_mean **mean)
{
    bool busy = false;

    if (*mean == NULL)
        return;
    for (size_t i = 0; i < GE_MEAN_DEPTH; i++) {
        struct way *way = &(*mean)->way[i];

        busy = busy || way->posted > 0;
        if (way->posted > 0)
            continue;
        free(way->received);
        free(way->requests);
    }
    if (!busy)
        ge_neighbours_destroy(&(*mean)->near);
    free((void *)(*mean)->parts);
    free((*mean)->place);
    free((*mean)->gives);
    free((*mean)->takes);
    free(*mean);
    *mean = NULL;
}

size_t ge_mean_pending(const ge_mean *mean)
{
    return mean->started - mean->finished;
}

void *ge_mean_room(ge_mean *mean)
{
    return input_of(mean, mean->near.rank, mean->started);
}

/* ---- one piece ---- */

/* Where that of piece n which a far rank sends me comes to lie: its entries of
 * my share. */
static void *received_of(const ge_mean *mean, int peer, size_t n)
{
    const struct way *way = &mean->way[n % GE_MEAN_DEPTH];

    return (char *)way->received +
           mean->place[peer] * width(mean) *
               count_of(mean, way->count, mean->comm->rank);
}

/* Where my share of piece n lies, of each rank. */
static void find_parts(ge_mean *mean, size_t n)
{
    const struct way *way = &mean->way[n % GE_MEAN_DEPTH];
    const size_t start = start_of(mean, way->count, mean->comm->rank);

    for (int r = 0; r < mean->comm->size; r++)
        mean->parts[r] = received_of(mean, r, n);
    for (int i = 0; i < mean->near.size; i++)
        mean->parts[mean->near.world[i]] =
            (const char *)input_of(mean, i, n) + start * width(mean);
}

/* My share of piece n. */
static void form_share(ge_mean *mean, size_t n)
{
    const struct way *way = &mean->way[n % GE_MEAN_DEPTH];
    const int me = mean->comm->rank;

    find_parts(mean, n);
    ge_average(mean->parts, (size_t)mean->comm->size, mean->wide, way->spans,
               start_of(mean, way->count, me), count_of(mean, way->count, me),
               mean_of(mean, n));
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

/* Each far rank's share of what I have, for my share of what it has; what
 * neighbours have lies where it is. Those that follow me first, so that not all
 * begin with the same. */
static gradecho_status exchange(ge_mean *mean, size_t n)
{
    gradecho_status status = GRADECHO_OK;
    struct way *way = &mean->way[n % GE_MEAN_DEPTH];
    const int rank = mean->comm->rank, size = mean->comm->size;
    const size_t share = count_of(mean, way->count, rank);
    const char *mine = input_of(mean, mean->near.rank, n);

    way->exchanging = true;
    way->posted = 0;
    ge_neighbours_tell(&mean->near, READY, (uint32_t)(n + 1));
    for (int i = 1; i < size; i++) {
        const int peer = (rank + i) % size;

        if (!is_far(mean, peer))
            continue;
        GE_TRY(swap(mean, way, peer, TAG_EXCHANGE,
                    mean->wide ? MPI_DOUBLE : MPI_FLOAT,
                    mine + start_of(mean, way->count, peer) * width(mean),
                    count_of(mean, way->count, peer),
                    received_of(mean, peer, n), share));
    }
fail:
    return status;
}

/* My share of the mean to one rank of every other machine, which receives it
 * for its neighbours; those of far ranks that I receive for mine. */
static gradecho_status gather(ge_mean *mean, size_t n)
{
    gradecho_status status = GRADECHO_OK;
    struct way *way = &mean->way[n % GE_MEAN_DEPTH];
    const int rank = mean->comm->rank, size = mean->comm->size;
    const size_t share = count_of(mean, way->count, rank);
    float *out = mean_of(mean, n);

    form_share(mean, n);
    way->exchanging = false;
    way->posted = 0;
    for (int i = 1; i < size; i++) {
        const int peer = (rank + i) % size;
        const size_t theirs = count_of(mean, way->count, peer);

        GE_TRY(swap(mean, way, peer, TAG_GATHER, MPI_FLOAT,
                    out + start_of(mean, way->count, rank),
                    mean->gives[peer] ? share : 0,
                    out + start_of(mean, way->count, peer),
                    mean->takes[peer] ? theirs : 0));
    }
fail:
    return status;
}

/* True once all that was posted has come to its end. */
static gradecho_status test(struct way *way, int *done)
{
    gradecho_status status = GRADECHO_OK;

    *done = 1;
    if (way->posted == 0)
        return GRADECHO_OK;
    GE_TRY_MPI(
        MPI_Testall(way->posted, way->requests, done, MPI_STATUSES_IGNORE));
    if (*done)
        way->posted = 0;
fail:
    return status;
}

/* Move on what can be moved: one piece after the other, as on all ranks, so
 * that their messages meet. */
static gradecho_status advance(ge_mean *mean)
{
    gradecho_status status = GRADECHO_OK;

    for (size_t n = mean->finished; n < mean->started; n++) {
        struct way *way = &mean->way[n % GE_MEAN_DEPTH];
        int done = 0;

        GE_TRY(test(way, &done));
        if (way->exchanging) {
            /* Those who have put in piece n no longer use the mean of piece
             * n - DEPTH, in whose place the new one comes. */
            if (!done || !all_have(mean, READY, n + 1))
                break;
            GE_TRY(gather(mean, n));
            GE_TRY(test(way, &done));
        }
        if (done && mean->complete == n)
            ge_neighbours_tell(&mean->near, COMPLETE,
                               (uint32_t)++mean->complete);
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
    GE_TRY(exchange(mean, mean->started++));
    GE_TRY(advance(mean));
fail:
    return status;
}

/* Until something has happened that piece n waits for. */
static gradecho_status wait_for(ge_mean *mean, size_t n,
                                struct ge_waiting *waiting)
{
    const bool exchanging = mean->way[n % GE_MEAN_DEPTH].exchanging;
    _Atomic uint32_t *word = NULL;
    uint32_t seen = 0;

    if (mean->far > 0) /* messages move only if MPI is called */
        return ge_comm_linger(mean->comm, waiting);
    word = ge_neighbours_late(&mean->near, exchanging ? READY : COMPLETE,
                              (uint32_t)(n + 1), &seen);
    if (word == NULL)
        return GRADECHO_OK;
    return ge_comm_nap(mean->comm, waiting, word, seen);
}

gradecho_status ge_mean_finish(ge_mean *mean, struct ge_mean_piece *piece)
{
    gradecho_status status = GRADECHO_OK;
    const size_t n = mean->finished;
    struct ge_waiting waiting = ge_comm_begin_wait(GE_BULK);

    for (;;) {
        GE_TRY(advance(mean));
        if (mean->complete > n && all_have(mean, COMPLETE, n + 1))
            break;
        GE_TRY(wait_for(mean, n, &waiting));
    }
    mean->finished++;
    *piece = (struct ge_mean_piece){
        .mean = mean_of(mean, n),
        .mine = mean->wide ? NULL : input_of(mean, mean->near.rank, n)};
fail:
    return status;
}
