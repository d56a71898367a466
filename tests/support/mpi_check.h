/*
 * mpi_check.h - checks for tests that run on several ranks.
 *
 * A failed check is told and counted, and the rank goes on: it must not leave
 * a collective in which the others wait. In the end all agree on one verdict.
 */
#ifndef MPI_CHECK_H
#define MPI_CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "comm.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

struct ranks {
    ge_comm *comm;
    int rank, size;
    int failed; /* checks, on this rank */
};

#define CHECK(ranks, condition)                                               \
    do {                                                                      \
        if (!(condition)) {                                                   \
            fprintf(stderr, "%s:%d: rank %d of %d: not true: %s\n", __FILE__, \
                    __LINE__, (ranks)->rank, (ranks)->size, #condition);      \
            (ranks)->failed++;                                                \
        }                                                                     \
    } while (0)

/* What only makes the test itself impossible. */
#define NEED(condition)                                                \
    do {                                                               \
        if (!(condition)) {                                            \
            fprintf(stderr, "%s:%d: needed: %s\n", __FILE__, __LINE__, \
                    #condition);                                       \
            abort();                                                   \
        }                                                              \
    } while (0)

struct mpi_test {
    const char *name;
    void (*run)(struct ranks *ranks);
};

#define MPI_TEST(function)  \
    {                       \
#function, function \
    }

/* Reproducible on every rank. Inside (-1, 1). */
static inline double number_of(uint64_t seed, uint64_t index)
{
    uint64_t z = seed * UINT64_C(0xD1342543DE82EF95) +
                 index * UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return (double)(int64_t)(z ^ (z >> 31)) * 0x1p-63;
}

/* Exit code of the program, the same on all ranks. */
static inline int mpi_run(int *argc, char ***argv, const struct mpi_test *tests,
                          size_t count)
{
    struct ranks ranks = {0};
    int failed_before = 0;
    gradecho_status verdict = ge_comm_init(argc, argv, &ranks.comm);

    NEED(verdict == GRADECHO_OK);
    ranks.rank = ge_comm_rank(ranks.comm);
    ranks.size = ge_comm_size(ranks.comm);
    ge_comm_set_timeout(ranks.comm, 30.0);
    for (size_t i = 0; i < count; i++) {
        failed_before = ranks.failed;
        tests[i].run(&ranks);
        verdict = ge_comm_agree(ranks.comm, ranks.failed == failed_before
                                                ? GRADECHO_OK
                                                : GRADECHO_E_NUMERIC);
        if (verdict == GRADECHO_E_TIMEOUT || verdict == GRADECHO_E_MPI)
            ge_comm_abort(ranks.comm, 1);
        if (ranks.rank == 0)
            printf("%s %s\n", verdict == GRADECHO_OK ? "ok    " : "FAILED",
                   tests[i].name);
        ranks.failed = failed_before + (verdict == GRADECHO_OK ? 0 : 1);
    }
    ge_comm_finalize(&ranks.comm);
    CHECK(&ranks, ranks.comm == NULL);
    return ranks.failed == 0 ? 0 : 1;
}

#endif
