#include "neighbours.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "comm_private.h"
#include "futex.h"
#include "memory.h"

/* What each rank tells the others of its part: one row of a table. */
enum card {
    FIRST,
    PID,
    FILE_AT, /* descriptor + 1; 0: not to be shared */
    TOKEN,
    CARD
};

#define PART_NAME "gradecho"

/* How the target of a link to a part begins. */
static const char part_link[] = "/memfd:" PART_NAME;

static void *map(size_t bytes, int flags, int fd)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);

    return at == MAP_FAILED ? NULL : at;
}

/* My part, in a file whose pages are there and stay there.
 * \return its descriptor, or -1 */
static int make_shared(struct ge_neighbours *n)
{
    uint64_t token = 0;
    const int fd = memfd_create(PART_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0)
        return -1;
    if (posix_fallocate(fd, 0, (off_t)n->bytes) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) ==
            0 &&
        getrandom(&token, sizeof token, GRND_NONBLOCK) ==
            (ssize_t)sizeof token &&
        (n->part[0] = map(n->bytes, MAP_SHARED, fd)) != NULL) {
        n->part[0]->token = token >> 1 | 1; /* positive as an int64_t */
        return fd;
    }
    close(fd);
    return -1;
}

/* A neighbour's part; NULL if it is not to be had, or not what it should be. */
static struct ge_neighbours_head *open_part(const int64_t *card, size_t bytes)
{
    struct ge_neighbours_head *part = NULL;
    char path[64], target[sizeof part_link];
    struct stat about;
    int fd = -1, seals = 0;

    if (card[FILE_AT] == 0)
        return NULL;
    snprintf(path, sizeof path, "/proc/%lld/fd/%lld", (long long)card[PID],
             (long long)card[FILE_AT] - 1);
    /* Opening what is something else, in another container, might do harm. */
    memset(target, 0, sizeof target);
    if (readlink(path, target, sizeof target - 1) < 0 ||
        strcmp(target, part_link) != 0)
        return NULL;
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    seals = fcntl(fd, F_GET_SEALS);
    if (fstat(fd, &about) == 0 && about.st_size == (off_t)bytes && seals >= 0 &&
        (seals & F_SEAL_SHRINK) != 0)
        part = map(bytes, MAP_SHARED, fd);
    close(fd);
    if (part != NULL && part->token != (uint64_t)card[TOKEN]) {
        munmap(part, bytes);
        part = NULL;
    }
    return part;
}

/* My part, to be shared or not, and my row of the table. */
static gradecho_status make_part(ge_comm *comm, struct ge_neighbours *n,
                                 int64_t *card, int *fd)
{
    gradecho_status status = GRADECHO_OK;

    if (comm->node_size > 1)
        *fd = make_shared(n);
    if (*fd < 0)
        n->part[0] = map(n->bytes, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    GE_FAIL_IF(n->part[0] == NULL, GRADECHO_E_NOMEM,
               "no memory for %zu bytes of the mean", n->bytes);
    card[FIRST] = comm->first;
    card[PID] = getpid();
    card[FILE_AT] = *fd + 1;
    card[TOKEN] = (int64_t)n->part[0]->token;
fail:
    return status;
}

/* The parts of those whose first is mine; false if one is not to be had. */
static bool open_parts(const ge_comm *comm, struct ge_neighbours *n,
                       const int64_t *cards)
{
    struct ge_neighbours_head *mine = n->part[0];
    bool opened = true;

    n->size = 0;
    for (int r = 0; r < comm->size; r++) {
        const int64_t *card = cards + (size_t)r * CARD;

        if (card[FIRST] != comm->first)
            continue;
        if (r == comm->rank)
            n->rank = n->size;
        n->world[n->size] = r;
        n->part[n->size] = r == comm->rank ? mine
                           : opened        ? open_part(card, n->bytes)
                                           : NULL;
        opened = opened && n->part[n->size] != NULL;
        n->size++;
    }
    return opened;
}

/* Keep my own part alone. */
static void be_alone(const ge_comm *comm, struct ge_neighbours *n)
{
    struct ge_neighbours_head *mine = n->part[n->rank];

    for (int i = 0; i < n->size; i++)
        if (i != n->rank && n->part[i] != NULL)
            munmap(n->part[i], n->bytes);
    n->part[0] = mine;
    n->world[0] = comm->rank;
    n->rank = 0;
    n->size = 1;
}

/* All of a machine's ranks share, or none: each knows who does. */
static gradecho_status share(ge_comm *comm, struct ge_neighbours *n,
                             const int64_t *cards, int64_t *failed)
{
    gradecho_status status = GRADECHO_OK;

    if (!open_parts(comm, n, cards))
        failed[comm->first] = 1;
    GE_TRY(ge_comm_max(comm, failed, (size_t)comm->size));
    for (int r = 0; r < comm->size; r++) {
        const int first = (int)cards[(size_t)r * CARD + FIRST];

        n->first[r] = failed[first] != 0 ? r : first;
    }
    if (failed[comm->first] == 0)
        return GRADECHO_OK;
    be_alone(comm, n);
    if (comm->rank == comm->first)
        ge_info("the monitors on %s cannot map each other's memory: what they "
                "exchange goes by MPI, which is slower",
                comm->hosts[comm->rank]);
fail:
    return status;
}

gradecho_status ge_neighbours_create(ge_comm *comm, size_t bytes,
                                     struct ge_neighbours *made)
{
    gradecho_status status = GRADECHO_OK, local = GRADECHO_OK;
    const size_t size = (size_t)comm->size;
    int64_t *cards = ge_alloc(size * CARD, sizeof *cards);
    int64_t *failed = ge_alloc(size, sizeof *failed);
    int fd = -1;

    *made = (struct ge_neighbours){
        .size = 1,
        .world = ge_alloc(size, sizeof *made->world),
        .first = ge_alloc(size, sizeof *made->first),
        .part = ge_alloc(size, sizeof(void *)),
        .bytes = bytes + GE_NEIGHBOURS_HEAD,
    };
    ge_message_capture(1);
    if (cards == NULL || failed == NULL || made->world == NULL ||
        made->first == NULL || made->part == NULL) {
        local = GRADECHO_E_NOMEM;
        ge_error("no memory for the table of %zu ranks", size);
    } else {
        local = make_part(comm, made, cards + (size_t)comm->rank * CARD, &fd);
    }
    status = ge_comm_agree(comm, local);
    if (status < GRADECHO_OK || local < GRADECHO_OK) /* the first has both */
        goto fail;
    GE_TRY(ge_comm_max(comm, cards, size * CARD));
    GE_TRY(share(comm, made, cards, failed));
fail:
    if (fd >= 0)
        close(fd);
    free(cards);
    free(failed);
    if (status < GRADECHO_OK)
        ge_neighbours_destroy(made);
    return status;
}

void ge_neighbours_tell(const struct ge_neighbours *neighbours, int word,
                        uint32_t count)
{
    _Atomic uint32_t *at = &neighbours->part[neighbours->rank]->word[word];

    atomic_store_explicit(at, count, memory_order_release);
    if (neighbours->size > 1)
        ge_futex_wake(at);
}

_Atomic uint32_t *ge_neighbours_late(const struct ge_neighbours *neighbours,
                                     int word, uint32_t count, uint32_t *seen)
{
    for (int i = 0; i < neighbours->size; i++) {
        _Atomic uint32_t *at = &neighbours->part[i]->word[word];

        *seen = atomic_load_explicit(at, memory_order_acquire);
        if ((int32_t)(*seen - count) < 0)
            return at;
    }
    return NULL;
}

void ge_neighbours_destroy(struct ge_neighbours *neighbours)
{
    for (int i = 0; neighbours->part != NULL && i < neighbours->size; i++)
        if (neighbours->part[i] != NULL)
            munmap(neighbours->part[i], neighbours->bytes);
    free(neighbours->part);
    free(neighbours->world);
    free(neighbours->first);
    *neighbours = (struct ge_neighbours){0};
}
