/* The mean over replicas, bit for bit. */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "mean.h"
#include "mpi_check.h"

enum { PIECE = 1000, REPLICAS_MOST = 3 };

/* Sizes differ from entry to entry, so that the order of a sum shows. */
static double entry_of(int rank, int replica, size_t i)
{
    const double size[] = {1.0, 1e4, 1e-3, 3e7};

    return (double)(float)(number_of((uint64_t)(rank * 16 + replica), i) *
                           size[(i + (size_t)rank) % COUNT_OF(size)]);
}

/* A distribution of replicas over ranks. */
struct spread {
    const char *name;
    int (*replicas)(int rank, int size);
};

static int one(int rank, int size)
{
    (void)rank;
    (void)size;
    return 1;
}

static int none_on_odd_ranks(int rank, int size)
{
    (void)size;
    return rank % 2 == 0 ? 1 : 0;
}

static int on_the_last_rank_only(int rank, int size)
{
    return rank == size - 1 ? 1 : 0;
}

static int as_many_as_my_rank(int rank, int size)
{
    (void)size;
    return rank < REPLICAS_MOST ? rank : REPLICAS_MOST;
}

static int three(int rank, int size)
{
    (void)rank;
    (void)size;
    return REPLICAS_MOST;
}

/* What one rank adds up in double precision, in order of its replicas. */
static double rank_sum(const struct spread *spread, int rank, int size,
                       size_t i)
{
    double sum = 0.0;

    for (int j = 0; j < spread->replicas(rank, size); j++)
        sum += entry_of(rank, j, i);
    return sum;
}

static int replicas_of(const struct spread *spread, int size)
{
    int count = 0;

    for (int rank = 0; rank < size; rank++)
        count += spread->replicas(rank, size);
    return count;
}

/* One rank after the other, divided once, rounded once. */
static float serial_mean(const struct spread *spread, int size, size_t i)
{
    double sum = 0.0;

    for (int rank = 0; rank < size; rank++)
        sum += rank_sum(spread, rank, size, i);
    return (float)(sum / (double)replicas_of(spread, size));
}

static bool same(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

/* One piece alone. */
static bool mean_of(ge_mean *mean, bool wide, const float *narrow,
                    const double *sums, size_t count,
                    const struct ge_mean_span *spans, float *out)
{
    struct ge_mean_piece piece;

    if (wide)
        memcpy(ge_mean_room(mean), sums, count * sizeof *sums);
    else if (narrow != NULL)
        memcpy(ge_mean_room(mean), narrow, count * sizeof *narrow);
    else
        memset(ge_mean_room(mean), 0, count * sizeof *narrow);
    if (ge_mean_start(mean, count, spans) != GRADECHO_OK ||
        ge_mean_finish(mean, &piece) != GRADECHO_OK ||
        (piece.mine == NULL) != wide)
        return false;
    memcpy(out, piece.mean, count * sizeof *out);
    return true;
}

static void check_mean(struct ranks *r, const struct spread *spread, bool wide,
                       size_t count)
{
    static float mine[PIECE], out[PIECE + 1];
    static double sums[PIECE];
    const int here = spread->replicas(r->rank, r->size);
    const struct ge_mean_span span = {count,
                                      (double)replicas_of(spread, r->size)};
    ge_mean *mean = NULL;
    size_t wrong = 0;

    for (size_t i = 0; i < count; i++) {
        mine[i] = (float)entry_of(r->rank, 0, i);
        sums[i] = rank_sum(spread, r->rank, r->size, i);
        out[i] = -7.0F;
    }
    out[count] = 7.0F;
    NEED(ge_mean_create(r->comm, PIECE, wide, &mean) == GRADECHO_OK);
    for (int again = 0; again < 2; again++) { /* buffers are used twice */
        CHECK(r, mean_of(mean, wide, here > 0 ? mine : NULL, sums, count, &span,
                         out));
        for (size_t i = 0; i < count; i++)
            wrong += same(out[i], serial_mean(spread, r->size, i)) ? 0 : 1;
    }
    CHECK(r, wrong == 0);
    CHECK(r, out[count] == 7.0F); /* not touched */
    ge_mean_destroy(&mean);
    CHECK(r, mean == NULL);
    ge_mean_destroy(&mean);
}

/* Fewer entries than ranks, some ranks without a share, and a full piece. */
static const size_t counts[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 100, 999, PIECE};

static void narrow_means_equal_the_serial_sum(struct ranks *r)
{
    static const struct spread spreads[] = {
        {"one", one},
        {"none on odd ranks", none_on_odd_ranks},
        {"on the last rank only", on_the_last_rank_only},
    };

    for (size_t s = 0; s < COUNT_OF(spreads); s++)
        for (size_t c = 0; c < COUNT_OF(counts); c++)
            check_mean(r, &spreads[s], false, counts[c]);
}

static void wide_means_equal_the_serial_sum(struct ranks *r)
{
    static const struct spread spreads[] = {
        {"one", one},
        {"none on odd ranks", none_on_odd_ranks},
        {"as many as my rank", as_many_as_my_rank},
        {"three", three},
    };

    for (size_t s = 0; s < COUNT_OF(spreads); s++)
        for (size_t c = 0; c < COUNT_OF(counts); c++)
            check_mean(r, &spreads[s], true, counts[c]);
}

/* Narrow and wide are two ways to one result. */
static void one_replica_each_gives_the_same_bits_either_way(struct ranks *r)
{
    static float mine[PIECE], narrow[PIECE], wide[PIECE];
    static double sums[PIECE];
    const struct ge_mean_span span = {PIECE, (double)r->size};
    ge_mean *a = NULL, *b = NULL;

    for (size_t i = 0; i < PIECE; i++) {
        sums[i] = entry_of(r->rank, 0, i);
        mine[i] = (float)sums[i];
    }
    NEED(ge_mean_create(r->comm, PIECE, false, &a) == GRADECHO_OK);
    NEED(ge_mean_create(r->comm, PIECE, true, &b) == GRADECHO_OK);
    CHECK(r, mean_of(a, false, mine, NULL, PIECE, &span, narrow));
    CHECK(r, mean_of(b, true, NULL, sums, PIECE, &span, wide));
    CHECK(r, memcmp(narrow, wide, sizeof narrow) == 0);
    ge_mean_destroy(&a);
    ge_mean_destroy(&b);
}

/* Spans of any length, borders inside and at the ends of the shares. */
static void every_span_is_divided_by_its_own_count(struct ranks *r)
{
    static const size_t tables[][4] = {
        {1, 1, 1, 1},         {5, 0, 0, 3},     {0, 0, 7, 0}, {3, 90, 1, 6},
        {250, 250, 250, 250}, {1, 2, 500, 400}, {0, 1, 0, 1}};
    static const double replicas[] = {1.0, 2.0, 3.0, 0.5};
    static float mine[PIECE], out[PIECE];
    ge_mean *mean = NULL;

    NEED(ge_mean_create(r->comm, PIECE, false, &mean) == GRADECHO_OK);
    for (size_t t = 0; t < COUNT_OF(tables); t++) {
        struct ge_mean_span spans[4];
        size_t count = 0, wrong = 0, at = 0;

        for (size_t s = 0; s < 4; s++) {
            spans[s] = (struct ge_mean_span){tables[t][s], replicas[s]};
            count += tables[t][s];
        }
        for (size_t i = 0; i < count; i++)
            mine[i] = (float)(r->rank + 1) * (float)(i + 1);
        CHECK(r, mean_of(mean, false, mine, NULL, count, spans, out));
        for (size_t s = 0; s < 4; s++) {
            for (size_t i = 0; i < tables[t][s]; i++, at++) {
                const double sum =
                    (double)(r->size * (r->size + 1) / 2) * (double)(at + 1);

                wrong += out[at] == (float)(sum / replicas[s]) ? 0 : 1;
            }
        }
        CHECK(r, wrong == 0);
    }
    ge_mean_destroy(&mean);
}

/* Nobody has a usable replica of the span; its neighbours are not harmed. */
static void a_span_without_replicas_has_no_mean(struct ranks *r)
{
    enum { COUNT = 90 };
    const struct ge_mean_span spans[] = {{20, 1.0}, {31, 0.0}, {39, 2.0}};
    float mine[COUNT], out[COUNT];
    double sums[COUNT];

    for (int wide = 0; wide < 2; wide++) {
        ge_mean *mean = NULL;

        for (size_t i = 0; i < COUNT; i++) {
            mine[i] = i < 20 || i >= 51 ? 1.0F : 0.0F;
            sums[i] = (double)mine[i];
        }
        NEED(ge_mean_create(r->comm, COUNT, wide != 0, &mean) == GRADECHO_OK);
        CHECK(r, mean_of(mean, wide != 0, mine, sums, COUNT, spans, out));
        for (size_t i = 0; i < COUNT; i++) {
            if (i >= 20 && i < 51)
                CHECK(r, isnan(out[i]));
            else
                CHECK(r, out[i] == (float)r->size / (float)(i < 20 ? 1 : 2));
        }
        ge_mean_destroy(&mean);
    }
}

static void a_rank_without_replica_reads_nothing(struct ranks *r)
{
    const struct ge_mean_span span = {3, 1.0};
    const float mine[] = {1.0F, -2.0F, 0.5F};
    float out[3];
    ge_mean *mean = NULL;

    NEED(ge_mean_create(r->comm, 3, false, &mean) == GRADECHO_OK);
    CHECK(r, mean_of(mean, false, r->rank == 0 ? mine : NULL, NULL, 3, &span,
                     out));
    CHECK(r, memcmp(out, mine, sizeof out) == 0);
    ge_mean_destroy(&mean);
}

/* Pieces of several sizes, as many under way as may be. */
static void a_stream_of_pieces_is_each_piece_by_itself(struct ranks *r)
{
    enum { PIECES = 40 };
    static float mine[PIECE];
    const struct spread spread = {"one", one};
    struct ge_mean_span spans[PIECES];
    ge_mean *mean = NULL;
    size_t started = 0, wrong = 0;

    NEED(ge_mean_create(r->comm, PIECE, false, &mean) == GRADECHO_OK);
    for (size_t finished = 0; finished < PIECES;) {
        if (started < PIECES && ge_mean_pending(mean) < GE_MEAN_DEPTH) {
            const size_t count = counts[started % COUNT_OF(counts)];

            for (size_t i = 0; i < count; i++)
                mine[i] = (float)entry_of(r->rank, 0, i + started);
            memcpy(ge_mean_room(mean), mine, count * sizeof *mine);
            spans[started] = (struct ge_mean_span){count, (double)r->size};
            CHECK(r,
                  ge_mean_start(mean, count, &spans[started++]) == GRADECHO_OK);
        } else {
            struct ge_mean_piece piece;
            const size_t at = finished++;

            CHECK(r, ge_mean_finish(mean, &piece) == GRADECHO_OK);
            for (size_t i = 0; i < spans[at].count; i++) {
                wrong +=
                    !same(piece.mean[i], serial_mean(&spread, r->size, i + at));
                wrong += piece.mine[i] != (float)entry_of(r->rank, 0, i + at);
            }
        }
    }
    CHECK(r, wrong == 0);
    CHECK(r, ge_mean_pending(mean) == 0);
    ge_mean_destroy(&mean);
}

/* Ranks that share memory with rank r: so many follow each other. */
static size_t group_of(const struct ranks *ranks, int r)
{
    const char *text = getenv("GRADECHO_NODE_RANKS");
    const int size = ranks->size;
    const int most = text != NULL ? (int)strtol(text, NULL, 10) : size;
    const int first = r / most * most;

    return (size_t)(first + most < size ? most : size - first);
}

/* A share to each rank that is far, and the mean of the own one once to each
 * other machine: 2 (R-1)/R of the piece where all are far, an all-reduce's
 * least, and nothing among neighbours. Shares are rounded up. */
static void what_neighbours_have_is_not_sent(struct ranks *r)
{
    static float mine[PIECE], out[PIECE];
    const struct ge_mean_span span = {PIECE, (double)r->size};
    const size_t size = (size_t)r->size, share = (PIECE + size - 1) / size;
    const size_t far = size - group_of(r, r->rank);
    size_t machines = 0, all = 0;
    ge_mean *mean = NULL;

    for (int first = 0; first < r->size; first += (int)group_of(r, first)) {
        machines++;
        all += PIECE * (size - group_of(r, first)) / size * group_of(r, first);
    }
    all += PIECE * (machines - 1);
    NEED(ge_mean_create(r->comm, PIECE, false, &mean) == GRADECHO_OK);
    const uint64_t before = ge_comm_sent(r->comm);

    CHECK(r, mean_of(mean, false, mine, NULL, PIECE, &span, out));
    const uint64_t sent = ge_comm_sent(r->comm) - before;
    double sum = (double)sent;

    CHECK(r, sent <= (far + machines - 1) * share * sizeof *mine);
    CHECK(r, ge_comm_sum(r->comm, &sum, 1) == GRADECHO_OK);
    CHECK(r, sum == (double)(all * sizeof *mine));
    ge_mean_destroy(&mean);
}

int main(int argc, char **argv)
{
    static const struct mpi_test tests[] = {
        MPI_TEST(narrow_means_equal_the_serial_sum),
        MPI_TEST(wide_means_equal_the_serial_sum),
        MPI_TEST(one_replica_each_gives_the_same_bits_either_way),
        MPI_TEST(every_span_is_divided_by_its_own_count),
        MPI_TEST(a_span_without_replicas_has_no_mean),
        MPI_TEST(a_rank_without_replica_reads_nothing),
        MPI_TEST(a_stream_of_pieces_is_each_piece_by_itself),
        MPI_TEST(what_neighbours_have_is_not_sent),
    };

    return mpi_run(&argc, &argv, tests, COUNT_OF(tests));
}
