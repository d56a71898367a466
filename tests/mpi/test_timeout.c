/*
 * The last rank hangs. Every other rank must notice, and one of them ends the
 * job, the hanging rank included: the exit code is 42 if all that happened.
 *
 * Each rank that has noticed adds a byte to the empty file FILE: MPI can no
 * longer be asked.
 *
 * usage: test_timeout [mean] FILE
 *     in a sum over ranks, or in a piece of the mean
 */
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mean.h"
#include "message.h"
#include "mpi_check.h"

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void add_byte(const char *path)
{
    const int file = open(path, O_WRONLY | O_APPEND);

    NEED(file >= 0);
    NEED(write(file, "x", 1) == 1);
    close(file);
}

static void wait_for_bytes(const char *path, long long bytes)
{
    struct stat about = {0};
    const double start = now();

    while (stat(path, &about) == 0 && (long long)about.st_size < bytes &&
           now() - start < 20.0)
        ge_comm_sleep(0.01);
    NEED((long long)about.st_size == bytes);
}

/* Rank 0 names the one that is missing and no other. */
static void check_told(struct ranks *r)
{
    const char *told = ge_message_last(), *on = strstr(told, " on ");
    char start[64];

    snprintf(start, sizeof start, "no answer from monitor %d on ", r->size - 1);
    CHECK(r, strncmp(told, start, strlen(start)) == 0);
    CHECK(r, on != NULL && strstr(on + 1, " on ") == NULL);
}

enum { PIECE = 100 };

static gradecho_status mean_of_a_piece(ge_mean *mean)
{
    const struct ge_mean_span span = {PIECE, 1.0};
    struct ge_mean_piece piece;
    const gradecho_status status = ge_mean_start(mean, PIECE, &span);

    return status < GRADECHO_OK ? status : ge_mean_finish(mean, &piece);
}

int main(int argc, char **argv)
{
    struct ranks r = {0};
    int64_t value = 1;
    ge_mean *mean = NULL;
    gradecho_status status = ge_comm_init(&argc, &argv, &r.comm);

    const bool in_mean = argc == 3 && strcmp(argv[1], "mean") == 0;

    NEED((argc == 2 || in_mean) && status == GRADECHO_OK);
    r.rank = ge_comm_rank(r.comm);
    r.size = ge_comm_size(r.comm);
    NEED(r.size > 1);
    /* The first time all come. */
    NEED(ge_comm_max(r.comm, &value, 1) == GRADECHO_OK);
    NEED(ge_mean_create(r.comm, PIECE, false, &mean) == GRADECHO_OK);
    NEED(mean_of_a_piece(mean) == GRADECHO_OK);
    if (r.rank == r.size - 1) {
        ge_comm_sleep(50.0); /* longer than anybody has patience */
        return 1;
    }
    ge_comm_set_timeout(r.comm, 0.5);
    ge_message_capture(1);
    const double start = now();

    status = in_mean ? mean_of_a_piece(mean) : ge_comm_max(r.comm, &value, 1);
    const double waited = now() - start;

    CHECK(&r, status == GRADECHO_E_TIMEOUT);
    CHECK(&r, waited >= 0.5 && waited < 5.0);
    /* The others of its host leave the word to it. */
    if (r.rank == 0)
        check_told(&r);
    else
        CHECK(&r, ge_message_last()[0] == '\0');
    if (r.failed == 0)
        add_byte(argv[argc - 1]);
    if (r.rank == 0) {
        wait_for_bytes(argv[argc - 1], r.size - 1);
        ge_comm_abort(r.comm, 42);
    }
    ge_comm_sleep(50.0); /* until rank 0 ends us */
    return 1;
}
