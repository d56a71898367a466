/* Memory that the ranks of a machine share, and what is done without it. */
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "futex.h"
#include "mean.h"
#include "mpi_check.h"
#include "neighbours.h"

enum { BYTES = 10000, PIECE = 500 };

static int group_size(const struct ranks *r)
{
    const char *text = getenv("GRADECHO_NODE_RANKS");
    const int group = text != NULL ? (int)strtol(text, NULL, 10) : 0;

    return group > 0 && group < r->size ? group : r->size;
}

static unsigned char *bytes_of(const struct ge_neighbours *n, int i)
{
    return (unsigned char *)n->part[i] + GE_NEIGHBOURS_HEAD;
}

/* Until all ranks are here: what they stored before is to be seen. */
static bool all_here(struct ranks *r)
{
    return ge_comm_agree(r->comm, GRADECHO_OK) == GRADECHO_OK;
}

static void groups_are_who_follows_each_other(struct ranks *r)
{
    const int group = group_size(r), first = r->rank / group * group;
    struct ge_neighbours n;

    NEED(ge_neighbours_create(r->comm, BYTES, &n) == GRADECHO_OK);
    CHECK(r, n.size == (first + group < r->size ? group : r->size - first));
    CHECK(r, n.rank == r->rank - first);
    for (int i = 0; i < n.size; i++)
        CHECK(r, n.world[i] == first + i);
    for (int i = 0; i < r->size; i++)
        CHECK(r, n.first[i] == i / group * group);
    ge_neighbours_destroy(&n);
    CHECK(r, n.part == NULL);
    ge_neighbours_destroy(&n);
}

static void what_one_writes_the_others_read(struct ranks *r)
{
    struct ge_neighbours n;
    size_t wrong = 0;

    NEED(ge_neighbours_create(r->comm, BYTES, &n) == GRADECHO_OK);
    for (size_t i = 0; i < BYTES; i++)
        wrong += bytes_of(&n, n.rank)[i] != 0;
    CHECK(r, wrong == 0);
    memset(bytes_of(&n, n.rank), r->rank + 1, BYTES);
    CHECK(r, all_here(r));
    for (int i = 0; i < n.size; i++)
        for (size_t j = 0; j < BYTES; j++)
            wrong += bytes_of(&n, i)[j] != n.world[i] + 1;
    CHECK(r, wrong == 0);
    CHECK(r, all_here(r));
    ge_neighbours_destroy(&n);
}

/* One after the other, each wakes the next: without the wake-up, a round of
 * sleeps of ten seconds would outlast the test. */
static void who_tells_wakes_who_waits_for_it(struct ranks *r)
{
    enum { ROUNDS = 50 };
    struct ge_neighbours n;

    NEED(ge_neighbours_create(r->comm, BYTES, &n) == GRADECHO_OK);
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        const int before = (n.rank + n.size - 1) % n.size;
        const uint32_t awaited = n.rank == 0 ? round - 1 : round;
        uint32_t seen = 0;

        while ((seen = atomic_load(&n.part[before]->word[0])) < awaited)
            ge_futex_wait(&n.part[before]->word[0], seen, 10.0);
        ge_neighbours_tell(&n, 0, round);
    }
    CHECK(r, all_here(r));
    ge_neighbours_destroy(&n);
}

static void who_is_late_is_found_though_counts_wrap(struct ranks *r)
{
    struct ge_neighbours n;
    uint32_t seen = 0;

    NEED(ge_neighbours_create(r->comm, BYTES, &n) == GRADECHO_OK);
    ge_neighbours_tell(&n, 1, UINT32_MAX);
    CHECK(r, all_here(r));
    CHECK(r, ge_neighbours_late(&n, 1, UINT32_MAX, &seen) == NULL);
    CHECK(r, ge_neighbours_late(&n, 0, 1, &seen) == &n.part[0]->word[0]);
    CHECK(r, all_here(r));
    if (n.rank < n.size - 1)
        ge_neighbours_tell(&n, 1, 0);
    CHECK(r, all_here(r));
    CHECK(r,
          ge_neighbours_late(&n, 1, 0, &seen) == &n.part[n.size - 1]->word[1]);
    CHECK(r, seen == UINT32_MAX);
    CHECK(r, all_here(r));
    if (n.rank == n.size - 1)
        ge_neighbours_tell(&n, 1, 0);
    CHECK(r, all_here(r));
    CHECK(r, ge_neighbours_late(&n, 1, 0, &seen) == NULL);
    ge_neighbours_destroy(&n);
}

/* A mean of ranks that each put in their number. */
static void check_mean(struct ranks *r)
{
    const struct ge_mean_span span = {PIECE, 1.0};
    struct ge_mean_piece piece;
    ge_mean *mean = NULL;

    NEED(ge_mean_create(r->comm, PIECE, false, &mean) == GRADECHO_OK);
    for (size_t i = 0; i < PIECE; i++)
        ((float *)ge_mean_room(mean))[i] = (float)(r->rank + 1);
    CHECK(r, ge_mean_start(mean, PIECE, &span) == GRADECHO_OK);
    NEED(ge_mean_finish(mean, &piece) == GRADECHO_OK);
    for (size_t i = 0; i < PIECE; i++)
        CHECK(r, piece.mean[i] == (float)(r->size * (r->size + 1) / 2));
    ge_mean_destroy(&mean);
}

/* One rank gets no pages for what it would share: its machine does without, the
 * others do not, and the mean is the same. */
static void who_cannot_share_is_alone(struct ranks *r)
{
    const int group = group_size(r), last = r->size - 1;
    struct rlimit limit, none;
    struct ge_neighbours n;

    signal(SIGXFSZ, SIG_IGN);
    NEED(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = limit.rlim_max};
    NEED(r->rank != last || setrlimit(RLIMIT_FSIZE, &none) == 0);
    NEED(ge_neighbours_create(r->comm, BYTES, &n) == GRADECHO_OK);
    if (r->rank / group == last / group) {
        CHECK(r, n.size == 1 && n.rank == 0 && n.world[0] == r->rank);
        memset(bytes_of(&n, 0), 7, BYTES);
    } else {
        CHECK(r, n.size == group);
    }
    for (int i = 0; i < r->size; i++)
        CHECK(r, n.first[i] ==
                     (i / group == last / group ? i : i / group * group));
    ge_neighbours_destroy(&n);
    check_mean(r);
    NEED(r->rank != last || setrlimit(RLIMIT_FSIZE, &limit) == 0);
    check_mean(r);
}

int main(int argc, char **argv)
{
    static const struct mpi_test tests[] = {
        MPI_TEST(groups_are_who_follows_each_other),
        MPI_TEST(what_one_writes_the_others_read),
        MPI_TEST(who_tells_wakes_who_waits_for_it),
        MPI_TEST(who_is_late_is_found_though_counts_wrap),
        MPI_TEST(who_cannot_share_is_alone),
    };

    return mpi_run(&argc, &argv, tests, COUNT_OF(tests));
}
