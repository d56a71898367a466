/* Every collective, split into messages of four elements (GE_COMM_CHUNK). */
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "message.h"
#include "mpi_check.h"

/* Around the size of a message, and none at all. */
static const size_t counts[] = {0, 1, 3, 4, 5, 8, 9, 31, 1000};
enum { MOST = 1000, RANKS_MOST = 8 };

static void ranks_are_numbered(struct ranks *r)
{
    double seen[RANKS_MOST] = {0};

    NEED(r->size <= RANKS_MOST);
    CHECK(r, r->rank >= 0 && r->rank < r->size);
    seen[r->rank] = 1.0;
    CHECK(r, ge_comm_sum(r->comm, seen, RANKS_MOST) == GRADECHO_OK);
    for (int i = 0; i < RANKS_MOST; i++)
        CHECK(r, seen[i] == (i < r->size ? 1.0 : 0.0));
    /* All of them are on this node. */
    CHECK(r, ge_comm_node_rank(r->comm) == r->rank);
    CHECK(r, ge_comm_node_size(r->comm) == r->size);
}

static void maxima_are_taken_element_by_element(struct ranks *r)
{
    int64_t values[MOST + 1];

    for (size_t c = 0; c < COUNT_OF(counts); c++) {
        for (size_t i = 0; i <= MOST; i++)
            values[i] =
                (int64_t)((i + (size_t)r->rank) % (size_t)r->size) - (int64_t)i;
        CHECK(r, ge_comm_max(r->comm, values, counts[c]) == GRADECHO_OK);
        for (size_t i = 0; i < counts[c]; i++)
            CHECK(r, values[i] == r->size - 1 - (int64_t)i);
        CHECK(r, values[counts[c]] <=
                     r->size - 1 - (int64_t)counts[c]); /* not touched */
    }
}

static void extremes_survive_a_maximum(struct ranks *r)
{
    int64_t values[] = {INT64_MIN, r->rank == 0 ? INT64_MAX : INT64_MIN};

    CHECK(r, ge_comm_max(r->comm, values, 2) == GRADECHO_OK);
    CHECK(r, values[0] == INT64_MIN);
    CHECK(r, values[1] == INT64_MAX);
}

static void sums_are_taken_element_by_element(struct ranks *r)
{
    const double ranks = r->size;
    double values[MOST];

    for (size_t c = 0; c < COUNT_OF(counts); c++) {
        for (size_t i = 0; i < MOST; i++)
            values[i] = (double)i * (double)(r->rank + 1);
        CHECK(r, ge_comm_sum(r->comm, values, counts[c]) == GRADECHO_OK);
        for (size_t i = 0; i < MOST; i++)
            CHECK(r, values[i] == (double)i * (i < counts[c]
                                                   ? ranks * (ranks + 1) / 2
                                                   : (double)(r->rank + 1)));
    }
}

static void bytes_go_from_any_rank_to_all(struct ranks *r)
{
    unsigned char bytes[MOST];

    for (int root = 0; root < r->size; root++) {
        for (size_t c = 0; c < COUNT_OF(counts); c++) {
            for (size_t i = 0; i < MOST; i++)
                bytes[i] = (unsigned char)(i * 7 + (size_t)r->rank);
            CHECK(r, ge_comm_broadcast(r->comm, bytes, counts[c], root) ==
                         GRADECHO_OK);
            for (size_t i = 0; i < MOST; i++) {
                const int from = i < counts[c] ? root : r->rank;

                CHECK(r, bytes[i] == (unsigned char)(i * 7 + (size_t)from));
            }
        }
    }
}

static void rows_come_to_rank_zero_in_order(struct ranks *r)
{
    static double mine[MOST], all[RANKS_MOST * MOST + 1];
    const size_t size = (size_t)r->size;

    for (size_t c = 0; c < COUNT_OF(counts); c++) {
        const size_t n = counts[c];

        for (size_t i = 0; i < n; i++)
            mine[i] = number_of((uint64_t)r->rank, i);
        for (size_t i = 0; i < COUNT_OF(all); i++)
            all[i] = 7.0;
        CHECK(r, ge_comm_gather(r->comm, mine, n, r->rank == 0 ? all : NULL) ==
                     GRADECHO_OK);
        for (size_t i = 0; i < size * n && r->rank == 0; i++)
            CHECK(r, all[i] == number_of(i / n, i % n));
        CHECK(r, all[size * n] == 7.0); /* not touched */
    }
}

static void data_goes_around_the_ring(struct ranks *r)
{
    static float mine[MOST], theirs[MOST + 1];

    for (int distance = 1; distance < r->size; distance++) {
        const int from = (r->rank + r->size - distance) % r->size;

        for (size_t c = 0; c < COUNT_OF(counts); c++) {
            for (size_t i = 0; i < MOST; i++)
                mine[i] = (float)number_of((uint64_t)r->rank, i);
            theirs[counts[c]] = 7.0F;
            CHECK(r, ge_comm_shift(r->comm, distance, mine, theirs,
                                   counts[c]) == GRADECHO_OK);
            for (size_t i = 0; i < counts[c]; i++)
                CHECK(r, theirs[i] == (float)number_of((uint64_t)from, i));
            CHECK(r, theirs[counts[c]] == 7.0F); /* not touched */
        }
    }
}

static void all_learn_the_gravest_status(struct ranks *r)
{
    const int last = r->size - 1;
    static const struct {
        gradecho_status first, last, all;
    } table[] = {
        {GRADECHO_OK, GRADECHO_OK, GRADECHO_OK},
        {GRADECHO_OK, GRADECHO_E_INPUT, GRADECHO_E_INPUT},
        {GRADECHO_E_HDF5, GRADECHO_E_HDF5, GRADECHO_E_HDF5},
        {GRADECHO_END, GRADECHO_AGAIN, GRADECHO_OK}, /* outcomes: success */
        {GRADECHO_END, GRADECHO_E_SYS, GRADECHO_E_SYS},
    };

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        gradecho_status local = GRADECHO_OK;

        if (r->rank == 0)
            local = table[i].first;
        if (r->rank == last)
            local = table[i].last;
        CHECK(r, ge_comm_agree(r->comm, local) == table[i].all);
    }
    if (r->size > 1) {
        const gradecho_status local =
            r->rank == 0 ? GRADECHO_E_NUMERIC
                         : (r->rank == last ? GRADECHO_E_MPI : GRADECHO_OK);

        CHECK(r, ge_comm_agree(r->comm, local) == GRADECHO_E_MPI);
    }
}

/* Agree, and what this rank prints meanwhile. */
static gradecho_status agree_and_listen(struct ranks *r, gradecho_status local,
                                        char *heard, size_t size)
{
    FILE *file = tmpfile();
    const int terminal = dup(STDERR_FILENO);
    gradecho_status status = GRADECHO_OK;

    NEED(file != NULL && terminal >= 0);
    fflush(stderr);
    dup2(fileno(file), STDERR_FILENO);
    status = ge_comm_agree(r->comm, local);
    fflush(stderr);
    dup2(terminal, STDERR_FILENO);
    close(terminal);
    rewind(file);
    heard[fread(heard, 1, size - 1, file)] = '\0';
    fclose(file);
    return status;
}

/* Ranks from `first` on fail and have something to tell: one of them does. */
static void a_failure_is_told_once_by_the_lowest_rank(struct ranks *r)
{
    char heard[256], expected[256];

    for (int first = 0; first < r->size; first++) {
        const bool fails = r->rank >= first;

        ge_message_capture(1);
        if (fails)
            ge_error("rank %d is in trouble", r->rank);
        CHECK(r, agree_and_listen(r, fails ? GRADECHO_E_INPUT : GRADECHO_OK,
                                  heard, sizeof heard) == GRADECHO_E_INPUT);
        snprintf(expected, sizeof expected,
                 "gradecho: error: rank %d is in trouble\n", r->rank);
        if (r->rank != first)
            expected[0] = '\0';
        CHECK(r, strcmp(heard, expected) == 0);
        CHECK(r, ge_message_capture(0) == 0); /* off afterwards */
    }
}

/* The run's last word: the failure that ended it has been told. */
static void a_failure_that_was_told_is_not_told_again(struct ranks *r)
{
    char heard[256];

    ge_message_capture(1);
    ge_error("rank %d is in trouble", r->rank);
    CHECK(r, agree_and_listen(r, GRADECHO_E_INPUT, heard, sizeof heard) ==
                 GRADECHO_E_INPUT);
    CHECK(r, (heard[0] != '\0') == (r->rank == 0));
    CHECK(r, agree_and_listen(r, GRADECHO_E_INPUT, heard, sizeof heard) ==
                 GRADECHO_E_INPUT);
    CHECK(r, heard[0] == '\0');
}

static void success_is_silent(struct ranks *r)
{
    char heard[256];

    ge_message_capture(1);
    ge_error("rank %d tried something else first", r->rank);
    CHECK(r,
          agree_and_listen(r, GRADECHO_OK, heard, sizeof heard) == GRADECHO_OK);
    CHECK(r, heard[0] == '\0');
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static double cpu(void)
{
    struct timespec time;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* The core belongs to the training: who waits must sleep. */
static void whoever_waits_sleeps(struct ranks *r)
{
    const double wall = now(), used = cpu();
    int64_t value = r->rank;

    if (r->rank == r->size - 1)
        ge_comm_sleep(0.5);
    CHECK(r, ge_comm_max(r->comm, &value, 1) == GRADECHO_OK);
    CHECK(r, value == r->size - 1);
    CHECK(r, now() - wall >= 0.45);
    CHECK(r, cpu() - used < 0.2);
}

static void without_a_timeout_they_wait_for_ever(struct ranks *r)
{
    int64_t value = r->rank;

    ge_comm_set_timeout(r->comm, 0.0);
    if (r->rank == 0)
        ge_comm_sleep(0.05);
    CHECK(r, ge_comm_max(r->comm, &value, 1) == GRADECHO_OK);
    ge_comm_set_timeout(r->comm, 30.0);
}

int main(int argc, char **argv)
{
    static const struct mpi_test tests[] = {
        MPI_TEST(ranks_are_numbered),
        MPI_TEST(maxima_are_taken_element_by_element),
        MPI_TEST(extremes_survive_a_maximum),
        MPI_TEST(sums_are_taken_element_by_element),
        MPI_TEST(bytes_go_from_any_rank_to_all),
        MPI_TEST(rows_come_to_rank_zero_in_order),
        MPI_TEST(data_goes_around_the_ring),
        MPI_TEST(all_learn_the_gravest_status),
        MPI_TEST(a_failure_is_told_once_by_the_lowest_rank),
        MPI_TEST(a_failure_that_was_told_is_not_told_again),
        MPI_TEST(success_is_silent),
        MPI_TEST(whoever_waits_sleeps),
        MPI_TEST(without_a_timeout_they_wait_for_ever),
    };

    return mpi_run(&argc, &argv, tests, COUNT_OF(tests));
}
