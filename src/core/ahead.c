#include "ahead.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "memory.h"

#ifndef MADV_POPULATE_READ /* Linux 5.14, glibc 2.35 */
#define MADV_POPULATE_READ 22
#endif

enum { ROOM = 1024 };

/* After so many ranges in a row that could be large pages and were small ones,
 * only every so manieth is looked at again. */
enum { MANY = 16, AGAIN = 32 };

struct range {
    void *at;
    size_t bytes;
    bool large;
};

struct ge_ahead {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct range queue[ROOM];
    size_t put, taken;
    bool over;
    /* The thread's own: */
    unsigned small; /* ranges in a row that were small pages */
};

static long faults(void)
{
    struct rusage usage = {0};

    (void)getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_minflt + usage.ru_majflt;
}

/* A large page is one fault for 2 MiB, small ones are at least one for each 64
 * KiB. One fault more or less decides nothing. */
static bool has_large_pages(size_t bytes, long count)
{
    return count <= 2 || (size_t)count <= bytes >> 18;
}

/* Touch it all. False if this system cannot. */
static bool touch(struct ge_ahead *a, const struct range *range)
{
    const long before = faults();

    if (madvise(range->at, range->bytes, MADV_POPULATE_READ) != 0)
        return false;
    if (has_large_pages(range->bytes, faults() - before))
        a->small = 0;
    else
        a->small++;
    return true;
}

/* Small pages are faster asked for than touched. */
static void read_range(struct ge_ahead *a, const struct range *range)
{
    if (range->large && (a->small < MANY || a->small % AGAIN == 0) &&
        touch(a, range))
        return;
    if (range->large)
        a->small++;
    (void)madvise(range->at, range->bytes, MADV_WILLNEED);
}

static void *work(void *context)
{
    struct ge_ahead *a = context;

    (void)pthread_mutex_lock(&a->lock);
    while (!a->over) {
        if (a->taken == a->put) {
            (void)pthread_cond_wait(&a->more, &a->lock);
            continue;
        }
        const struct range range = a->queue[a->taken++ % ROOM];

        (void)pthread_mutex_unlock(&a->lock);
        read_range(a, &range);
        (void)pthread_mutex_lock(&a->lock);
    }
    (void)pthread_mutex_unlock(&a->lock);
    return NULL;
}

struct ge_ahead *ge_ahead_create(void)
{
    struct ge_ahead *a = ge_alloc(1, sizeof *a);
    sigset_t all, before;
    int error = 0;

    if (a == NULL)
        return NULL;
    (void)pthread_mutex_init(&a->lock, NULL);
    (void)pthread_cond_init(&a->more, NULL);
    /* A signal is for the thread that waits for one. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&a->thread, NULL, work, a);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0)
        return a;
    free(a);
    return NULL;
}

void ge_ahead_destroy(struct ge_ahead **ahead)
{
    struct ge_ahead *a = *ahead;

    *ahead = NULL;
    if (a == NULL)
        return;
    (void)pthread_mutex_lock(&a->lock);
    a->over = true;
    (void)pthread_cond_signal(&a->more);
    (void)pthread_mutex_unlock(&a->lock);
    (void)pthread_join(a->thread, NULL);
    (void)pthread_cond_destroy(&a->more);
    (void)pthread_mutex_destroy(&a->lock);
    free(a);
}

bool ge_ahead_push(struct ge_ahead *ahead, void *at, size_t bytes, bool large)
{
    bool room = false;

    (void)pthread_mutex_lock(&ahead->lock);
    room = ahead->put - ahead->taken < ROOM;
    if (room) {
        ahead->queue[ahead->put++ % ROOM] = (struct range){at, bytes, large};
        (void)pthread_cond_signal(&ahead->more);
    }
    (void)pthread_mutex_unlock(&ahead->lock);
    return room;
}
