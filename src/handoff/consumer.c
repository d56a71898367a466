/*
 * The monitor's end. All that could be checked and then change under us is
 * read once into private memory; of the mapping only the first page, which has
 * the consumer's line, can be written.
 *
 * Whoever may write the file may also overwrite it or cut it off while we read.
 * So each look compares what must not change with what it was
 * (consumer_checks.c), the guard turns missing pages into zeros, and
 * ge_consumer_intact() says, after the data were used, whether to believe what
 * came of them.
 */
#include "consumer.h"

#include "consumer_private.h"
#include "futex.h"
#include "guard.h"
#include "memory.h"
#include "try.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ /* Linux 5.14, glibc 2.35 */
#define MADV_POPULATE_READ 22
#endif

/* A wait that ends early and for nothing is drawn out to this, so that a wake
 * word that somebody else changes all the time does not make us spin. */
#define WAIT_LEAST_NS 1000000

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
    consumer->guard = ge_guard_add(segment->base, segment->bytes);
    GE_FAIL_IF(consumer->guard < 0, GRADECHO_E_SYS,
               "cannot guard %s against being cut off: more than %d segments "
               "or no signal handler",
               consumer->path, GE_GUARD_MAX);
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
               "%s: another monitor is attached: end it, or give this training "
               "a session of its own",
               consumer->path);
    GE_FAIL_IF(error != 0, GRADECHO_E_SYS, "lock %s: %s", consumer->path,
               strerror(error));
    GE_TRY(ge_inspect_declared(&consumer->segment, consumer->path, rank,
                               &consumer->declared));
    consumer->present = ge_alloc((size_t)geometry->replicas + geometry->mean,
                                 geometry->layer_count);
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
    ge_guard_remove(consumer->guard);
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
    consumer->guard = -1;
    GE_TRY(attach(consumer, session, rank));
    *out = consumer;
    return GRADECHO_OK;
fail:
    if (consumer != NULL)
        free_consumer(consumer);
    return status;
}

void ge_consumer_detach(ge_consumer **consumer)
{
    ge_consumer *leaving = consumer != NULL ? *consumer : NULL;

    if (leaving == NULL)
        return;
    *consumer = NULL;
    ge_consumer_disable(leaving);
    free_consumer(leaving);
}

const struct ge_geometry *ge_consumer_geometry(const ge_consumer *consumer)
{
    return &consumer->declared.geometry;
}

void ge_consumer_disable(ge_consumer *consumer)
{
    /* Relaxed: the trainer need not see anything else. */
    atomic_store_explicit(&consumer->shared->attached, 0, memory_order_relaxed);
}

/* The segment lies; nothing more is taken from it. Its trainer, if it has one
 * that is sound, goes back to the unsampled path. */
static void break_off(ge_consumer *consumer, const char *why)
{
    if (consumer->broken != NULL)
        return;
    consumer->broken = why;
    consumer->peeked = false; /* what was peeked is gone as well */
    consumer->replicas = 0;
    ge_consumer_disable(consumer);
}

void ge_consumer_enable(ge_consumer *consumer, uint64_t every)
{
    struct ge_abi_header *shared = consumer->shared;
    uint64_t head = 0;
    const char *flaw = NULL;

    if (consumer->broken != NULL)
        return;
    /* Acquire: pairs with the release of head in gradecho_publish(). The
     * trainer may be writing slot `head` for an earlier monitor and publish it
     * later; that one comes out whole, and peek passes over it if its step is
     * not wanted. */
    head = atomic_load_explicit(&shared->head, memory_order_acquire);
    flaw = ge_check_head(consumer, head);
    if (flaw != NULL) {
        break_off(consumer, flaw);
        return;
    }
    consumer->tail = head;
    consumer->every = every;
    consumer->from = 0;
    consumer->peeked = false;
    consumer->replicas = 0;
    /* Release, as in ge_consumer_release(): slots go back to the trainer. */
    atomic_store_explicit(&shared->tail, consumer->tail, memory_order_release);
    atomic_store_explicit(&shared->sample_every, every, memory_order_relaxed);
    atomic_store_explicit(&shared->sample_from, 0, memory_order_relaxed);
    /* Release: pairs with the acquire in gradecho_begin(). */
    atomic_store_explicit(&shared->attached, 1, memory_order_release);
}

void ge_consumer_skip_to(ge_consumer *consumer, int64_t step)
{
    if (consumer->broken != NULL || consumer->every == 0 ||
        step <= (int64_t)consumer->from)
        return;
    consumer->from = (uint64_t)step;
    /* Relaxed: a sample of an earlier step may be under way in any case. */
    atomic_store_explicit(&consumer->shared->sample_from, consumer->from,
                          memory_order_relaxed);
}

/* Is there a sample at the front? */
static gradecho_status look(ge_consumer *consumer)
{
    gradecho_status status = GRADECHO_OK;
    struct ge_abi_header *shared = consumer->shared;
    const char *found = NULL;
    uint64_t head = 0;
    bool alive = true;

    if (consumer->broken == NULL &&
        (found = ge_check_segment(consumer)) != NULL)
        break_off(consumer, found);
    if (consumer->broken != NULL)
        goto broken;
    /* Relaxed: kept to be told when the segment is done with. */
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
    if (head - consumer->tail <= consumer->declared.geometry.slots)
        return GRADECHO_OK;
    break_off(consumer, "its counters do not fit each other");
broken:
    if (consumer->told)
        return GRADECHO_END;
    consumer->told = true;
    GE_FAIL(GRADECHO_E_INPUT, "%s: %s", consumer->path, consumer->broken);
fail:
    return status;
}

/* Copy the slot's header and presence bytes, check, then believe. */
static gradecho_status read_slot(ge_consumer *consumer,
                                 struct ge_handed_sample *sample)
{
    gradecho_status status = GRADECHO_OK;
    const unsigned char *slot = ge_check_slot_at(consumer, consumer->tail);
    struct ge_abi_slot copy;

    consumer->peeked = true;
    consumer->replicas = 0;
    memcpy(&copy, slot, sizeof copy);
    GE_FAIL_IF(
        !ge_check_slot(consumer, &copy, consumer->tail) || copy.step < 0 ||
            copy.replicas < 1 ||
            copy.replicas > consumer->declared.geometry.replicas ||
            (copy.mean_replicas != 0 && !consumer->declared.geometry.mean) ||
            !isfinite(copy.gradient_scale) || !(copy.gradient_scale > 0.0),
        GRADECHO_E_INPUT,
        "%s: the header of sample %" PRIu64 " is inconsistent", consumer->path,
        consumer->tail);
    memcpy(consumer->present, slot + consumer->declared.layout.presence_offset,
           ge_check_blocks(consumer) * consumer->declared.geometry.layer_count);
    consumer->replicas = copy.replicas;
    memcpy(consumer->front, &copy, sizeof copy);
    *sample = (struct ge_handed_sample){.step = copy.step,
                                        .replicas = copy.replicas,
                                        .mean_replicas = copy.mean_replicas,
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

static const void *block(const ge_consumer *consumer, uint32_t number,
                         size_t layer)
{
    const struct ge_declared *declared = &consumer->declared;

    if (layer >= declared->geometry.layer_count ||
        consumer->present[number * declared->geometry.layer_count + layer] == 0)
        return NULL;
    return ge_check_slot_at(consumer, consumer->tail) +
           declared->layout.payload_offset +
           number * declared->layout.replica_bytes +
           declared->spans[layer].offset;
}

const void *ge_consumer_data(const ge_consumer *consumer, uint32_t replica,
                             size_t layer)
{
    return replica < consumer->replicas ? block(consumer, replica, layer)
                                        : NULL;
}

const void *ge_consumer_mean(const ge_consumer *consumer, size_t layer)
{
    return consumer->replicas > 0 && consumer->declared.geometry.mean
               ? block(consumer, consumer->declared.geometry.replicas, layer)
               : NULL;
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

bool ge_consumer_intact(ge_consumer *consumer)
{
    const char *flaw = NULL;

    if (consumer->broken != NULL)
        return false;
    flaw = ge_check_segment(consumer);
    if (flaw == NULL)
        flaw = ge_check_front(consumer);
    if (flaw != NULL)
        break_off(consumer, flaw);
    return flaw == NULL;
}

static uint64_t now_ns(void)
{
    struct timespec t = {0};

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void ge_consumer_wait(ge_consumer *consumer, double timeout_seconds)
{
    struct ge_abi_header *shared = consumer->shared;
    const struct timespec least = {.tv_nsec = WAIT_LEAST_NS};
    const uint64_t start = now_ns();

    /* Relaxed: only whether to sleep; the close itself changed `wake`. */
    if (consumer->broken != NULL ||
        atomic_load_explicit(&shared->closed, memory_order_relaxed) != 0)
        return;
    ge_futex_wait(&shared->wake, consumer->seen, timeout_seconds);
    /* A publish or a close shows by now: `wake` comes last. */
    if (atomic_load_explicit(&shared->head, memory_order_acquire) ==
            consumer->tail &&
        atomic_load_explicit(&shared->closed, memory_order_relaxed) == 0 &&
        timeout_seconds * 1e9 > WAIT_LEAST_NS &&
        now_ns() - start < WAIT_LEAST_NS)
        (void)nanosleep(&least, NULL);
}

bool ge_consumer_alive(const ge_consumer *consumer)
{
    /* Acquire: pairs with the release of closed in gradecho_close(); head is
     * then final. */
    return consumer->broken == NULL &&
           atomic_load_explicit(&consumer->shared->closed,
                                memory_order_acquire) != GE_ABI_CLOSED &&
           ge_segment_locked(consumer->segment.fd, GE_LOCK_PRODUCER);
}

bool ge_consumer_closed(const ge_consumer *consumer)
{
    /* Acquire: pairs with the release of closed in gradecho_close(). */
    return consumer->broken == NULL &&
           atomic_load_explicit(&consumer->shared->closed,
                                memory_order_acquire) == GE_ABI_CLOSED;
}

uint64_t ge_consumer_dropped(const ge_consumer *consumer)
{
    /* Relaxed: a number to report. */
    const uint64_t told =
        atomic_load_explicit(&consumer->shared->dropped, memory_order_relaxed);

    return consumer->broken == NULL && told >= consumer->dropped &&
                   told <= GE_DROPPED_MAX
               ? told
               : consumer->dropped;
}
