/*
 * The monitor's end. All that could be checked and then change under us is
 * read once into private memory; of the mapping only the first page, which has
 * the consumer's line, can be written.
 *
 * What cannot be had: a trainer of the same user that shrinks the file between
 * our look at its size and our use of its pages kills the monitor by SIGBUS.
 * The look is taken for each sample, so that this takes intent, not accident.
 */
#include "consumer.h"

#include "abi.h"
#include "inspect.h"
#include "memory.h"
#include "segment.h"
#include "try.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ /* Linux 5.14, glibc 2.35 */
#define MADV_POPULATE_READ 22
#endif

struct ge_consumer {
    struct ge_segment segment;
    struct ge_abi_header *shared; /* == segment.base */
    struct ge_declared declared;  /* what the segment says, checked */
    unsigned char *present;       /* [replicas][layer_count], at peek */
    uint64_t every;               /* 0: not enabled */
    uint64_t tail;                /* what shared->tail says */
    uint32_t seen;                /* shared->wake before the last peek */
    uint32_t replicas;            /* in the sample peeked, 0: none valid */
    bool peeked;                  /* slot `tail` is in our hands */
    uint64_t dropped;             /* shared->dropped at the last peek */
    bool broken; /* the segment lies: it is not touched any more */
    char path[GE_SEGMENT_PATH_MAX];
};

static gradecho_status map_segment(ge_consumer *consumer)
{
    gradecho_status status = GRADECHO_OK;
    struct ge_segment *segment = &consumer->segment;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    segment->base =
        mmap(NULL, segment->bytes, PROT_READ, MAP_SHARED, segment->fd, 0);
    if (segment->base == MAP_FAILED) {
        segment->base = NULL;
        GE_FAIL(GRADECHO_E_NOMEM, "map %s: %s", consumer->path,
                strerror(errno));
    }
    GE_FAIL_IF(mprotect(segment->base, ge_min_size(page, segment->bytes),
                        PROT_READ | PROT_WRITE) != 0,
               GRADECHO_E_SYS, "map %s: %s", consumer->path, strerror(errno));
    /* Page faults now; an older kernel takes them at the first sample. */
    (void)madvise(segment->base, segment->bytes, MADV_POPULATE_READ);
    consumer->shared = segment->base;
fail:
    return status;
}

static gradecho_status attach(ge_consumer *consumer, const char *session,
                              uint32_t rank)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_geometry *geometry = &consumer->declared.geometry;
    const int *fd = &consumer->segment.fd;
    int error = 0;

    GE_TRY(ge_segment_path(session, rank, consumer->path));
    GE_FAIL_IF(!ge_inspect_open(consumer->path, O_RDWR, &consumer->segment),
               GRADECHO_E_INPUT, "%s: no such segment of this user",
               consumer->path);
    error = ge_segment_lock(*fd, GE_LOCK_CONSUMER);
    GE_FAIL_IF(error == EAGAIN, GRADECHO_E_EXISTS,
               "%s: another monitor is attached", consumer->path);
    GE_FAIL_IF(error != 0, GRADECHO_E_SYS, "lock %s: %s", consumer->path,
               strerror(error));
    GE_TRY(ge_inspect_declared(&consumer->segment, consumer->path, rank,
                               &consumer->declared));
    consumer->present = ge_alloc(geometry->replicas, geometry->layer_count);
    GE_FAIL_IF(consumer->present == NULL, GRADECHO_E_NOMEM,
               "no memory for %zu layers", geometry->layer_count);
    GE_TRY(map_segment(consumer));
    /* A monitor that was killed left it at 1; nothing is wanted until
     * ge_consumer_enable(). Relaxed: it asks for nothing to be seen. */
    atomic_store_explicit(&consumer->shared->attached, 0, memory_order_relaxed);
    /* Relaxed: the last to write it was a monitor, and it is gone. */
    consumer->tail =
        atomic_load_explicit(&consumer->shared->tail, memory_order_relaxed);
fail:
    return status;
}

static void free_consumer(ge_consumer *consumer)
{
    ge_segment_discard(&consumer->segment);
    free(consumer->present);
    ge_inspect_fini(&consumer->declared);
    free(consumer);
}

gradecho_status ge_consumer_attach(const char *session, uint32_t rank,
                                   ge_consumer **out)
{
    gradecho_status status = GRADECHO_OK;
    ge_consumer *consumer = ge_alloc(1, sizeof *consumer);

    GE_FAIL_IF(consumer == NULL, GRADECHO_E_NOMEM, "no memory for a consumer");
    consumer->segment.fd = -1;
    GE_TRY(attach(consumer, session, rank));
    *out = consumer;
    return GRADECHO_OK;
fail:
    if (consumer != NULL)
        free_consumer(consumer);
    return status;
}

static bool size_is_unchanged(const ge_consumer *consumer)
{
    struct stat file;

    return fstat(consumer->segment.fd, &file) == 0 &&
           (uint64_t)file.st_size == consumer->segment.bytes;
}

void ge_consumer_detach(ge_consumer **consumer)
{
    ge_consumer *leaving = consumer != NULL ? *consumer : NULL;

    if (leaving == NULL)
        return;
    *consumer = NULL;
    /* Relaxed: the trainer need not see anything else. */
    if (size_is_unchanged(leaving))
        atomic_store_explicit(&leaving->shared->attached, 0,
                              memory_order_relaxed);
    free_consumer(leaving);
}

const struct ge_geometry *ge_consumer_geometry(const ge_consumer *consumer)
{
    return &consumer->declared.geometry;
}

void ge_consumer_enable(ge_consumer *consumer, uint64_t every)
{
    struct ge_abi_header *shared = consumer->shared;

    if (consumer->broken)
        return;
    /* Relaxed: none of these samples is looked at. The trainer may be writing
     * slot `head` for an earlier monitor and publish it later; that one comes
     * out whole, and peek passes over it if its step is not wanted. */
    consumer->tail = atomic_load_explicit(&shared->head, memory_order_relaxed);
    consumer->every = every;
    consumer->peeked = false;
    consumer->replicas = 0;
    /* Release, as in ge_consumer_release(): slots go back to the trainer. */
    atomic_store_explicit(&shared->tail, consumer->tail, memory_order_release);
    atomic_store_explicit(&shared->sample_every, every, memory_order_relaxed);
    /* Release: pairs with the acquire in gradecho_begin(). */
    atomic_store_explicit(&shared->attached, 1, memory_order_release);
}

/* Is there a sample at the front? */
static gradecho_status look(ge_consumer *consumer)
{
    gradecho_status status = GRADECHO_OK;
    struct ge_abi_header *shared = consumer->shared;
    uint64_t head = 0;
    bool alive = true;

    if (consumer->broken)
        return GRADECHO_END;
    consumer->broken = !size_is_unchanged(consumer);
    GE_FAIL_IF(consumer->broken, GRADECHO_E_INPUT, "%s: its size has changed",
               consumer->path);
    /* Relaxed: kept to be told when the segment can no longer be touched. */
    consumer->dropped =
        atomic_load_explicit(&shared->dropped, memory_order_relaxed);
    /* What is read next must not be older than `seen`, or wait() would sleep
     * on a sample. Acquire: pairs with the release of wake in
     * gradecho_publish(); head is at least as new. */
    consumer->seen = atomic_load_explicit(&shared->wake, memory_order_acquire);
    /* Acquire: pairs with the release of head in gradecho_publish(); the slot
     * is complete. */
    head = atomic_load_explicit(&shared->head, memory_order_acquire);
    if (head == consumer->tail) {
        /* Alive first, then head again: the other way round, a last sample
         * published in between would be lost. */
        alive = ge_consumer_alive(consumer);
        head = atomic_load_explicit(&shared->head, memory_order_acquire);
        if (head == consumer->tail)
            return alive ? GRADECHO_AGAIN : GRADECHO_END;
    }
    consumer->broken =
        head - consumer->tail > consumer->declared.geometry.slots;
    GE_FAIL_IF(consumer->broken, GRADECHO_E_INPUT,
               "%s: %" PRIu64 " samples published after %" PRIu64
               " taken: the ring is corrupt",
               consumer->path, head, consumer->tail);
fail:
    if (consumer->broken) { /* what was peeked is gone as well */
        consumer->peeked = false;
        consumer->replicas = 0;
    }
    return status;
}

static const unsigned char *front_slot(const ge_consumer *consumer)
{
    return (const unsigned char *)consumer->segment.base +
           consumer->declared.layout.slots_offset +
           consumer->tail % consumer->declared.geometry.slots *
               consumer->declared.layout.slot_bytes;
}

/* Copy the slot's header and presence bytes, check, then believe. */
static gradecho_status read_slot(ge_consumer *consumer,
                                 struct ge_handed_sample *sample)
{
    gradecho_status status = GRADECHO_OK;
    const unsigned char *slot = front_slot(consumer);
    struct ge_abi_slot copy;

    consumer->peeked = true;
    consumer->replicas = 0;
    memcpy(&copy, slot, sizeof copy);
    GE_FAIL_IF(
        copy.number != consumer->tail || copy.step < 0 || copy.replicas < 1 ||
            copy.replicas > consumer->declared.geometry.replicas ||
            !isfinite(copy.gradient_scale) || !(copy.gradient_scale > 0.0),
        GRADECHO_E_INPUT,
        "%s: the header of sample %" PRIu64 " is inconsistent", consumer->path,
        consumer->tail);
    memcpy(consumer->present, slot + consumer->declared.layout.presence_offset,
           copy.replicas * consumer->declared.geometry.layer_count);
    consumer->replicas = copy.replicas;
    *sample = (struct ge_handed_sample){.step = copy.step,
                                        .replicas = copy.replicas,
                                        .loss = copy.loss,
                                        .batch_size = copy.batch_size,
                                        .gradient_scale = copy.gradient_scale,
                                        .time = copy.time};
fail:
    return status;
}

gradecho_status ge_consumer_peek(ge_consumer *consumer,
                                 struct ge_handed_sample *sample)
{
    /* At most one round for each slot, should the trainer go on and on. */
    for (uint32_t i = 0; i < consumer->declared.geometry.slots; i++) {
        struct ge_handed_sample front;
        gradecho_status status = look(consumer);

        if (status == GRADECHO_OK)
            status = read_slot(consumer, &front);
        if (status != GRADECHO_OK)
            return status;
        if (consumer->every == 0 ||
            (uint64_t)front.step % consumer->every == 0) {
            *sample = front;
            return GRADECHO_OK;
        }
        ge_consumer_release(consumer);
    }
    return GRADECHO_AGAIN;
}

const void *ge_consumer_data(const ge_consumer *consumer, uint32_t replica,
                             size_t layer)
{
    if (replica >= consumer->replicas ||
        layer >= consumer->declared.geometry.layer_count ||
        consumer->present[replica * consumer->declared.geometry.layer_count +
                          layer] == 0)
        return NULL;
    return front_slot(consumer) + consumer->declared.layout.payload_offset +
           replica * consumer->declared.layout.replica_bytes +
           consumer->declared.spans[layer].offset;
}

void ge_consumer_release(ge_consumer *consumer)
{
    if (!consumer->peeked)
        return;
    consumer->peeked = false;
    consumer->replicas = 0;
    consumer->tail++;
    /* Release: pairs with the acquire of tail in gradecho_begin(); our reads
     * of the slot are over before the trainer overwrites it. */
    atomic_store_explicit(&consumer->shared->tail, consumer->tail,
                          memory_order_release);
}

void ge_consumer_wait(ge_consumer *consumer, double timeout_seconds)
{
    struct ge_abi_header *shared = consumer->shared;

    /* Relaxed: only whether to sleep; the close itself changed `wake`. */
    if (!consumer->broken &&
        atomic_load_explicit(&shared->closed, memory_order_relaxed) == 0)
        ge_segment_wait(&shared->wake, consumer->seen, timeout_seconds);
}

bool ge_consumer_alive(const ge_consumer *consumer)
{
    /* Acquire: pairs with the release of closed in gradecho_close(); head is
     * then final. */
    return !consumer->broken &&
           atomic_load_explicit(&consumer->shared->closed,
                                memory_order_acquire) == 0 &&
           ge_segment_locked(consumer->segment.fd, GE_LOCK_PRODUCER);
}

bool ge_consumer_closed(const ge_consumer *consumer)
{
    /* Acquire: pairs with the release of closed in gradecho_close(). */
    return !consumer->broken && atomic_load_explicit(&consumer->shared->closed,
                                                     memory_order_acquire) != 0;
}

uint64_t ge_consumer_dropped(const ge_consumer *consumer)
{
    /* Relaxed: a number to report. */
    return consumer->broken ? consumer->dropped
                            : atomic_load_explicit(&consumer->shared->dropped,
                                                   memory_order_relaxed);
}
