#include "consumer_private.h"

#include <string.h>
#include <sys/stat.h>

#include "guard.h"

static const char uneven[] = "its counters do not fit each other";

static bool size_is_unchanged(const ge_consumer *consumer)
{
    struct stat file;

    return fstat(consumer->segment.fd, &file) == 0 &&
           (uint64_t)file.st_size == consumer->segment.bytes;
}

const unsigned char *ge_check_slot_at(const ge_consumer *consumer,
                                      uint64_t number)
{
    return (const unsigned char *)consumer->segment.base +
           consumer->declared.layout.slots_offset +
           number % consumer->declared.geometry.slots *
               consumer->declared.layout.slot_bytes;
}

bool ge_check_slot(const ge_consumer *consumer, const struct ge_abi_slot *slot,
                   uint64_t number)
{
    return slot->number == number &&
           slot->check ==
               ge_segment_check(slot, consumer->declared.constants.instance);
}

const char *ge_check_head(const ge_consumer *consumer, uint64_t head)
{
    struct ge_abi_slot last;

    if (head == consumer->tail)
        return NULL;
    if (head - consumer->tail > consumer->declared.geometry.slots)
        return uneven;
    /* Ours to read: it has been published and not been given back. */
    memcpy(&last, ge_check_slot_at(consumer, head - 1), sizeof last);
    return ge_check_slot(consumer, &last, head - 1)
               ? NULL
               : "its last sample is damaged";
}

/* Relaxed throughout: these do not change, or it is a flaw that they do, or
 * only their range is looked at. */
const char *ge_check_segment(const ge_consumer *consumer)
{
    struct ge_abi_header *shared = consumer->shared;
    const struct ge_abi_header *constants = &consumer->declared.constants;
    const uint32_t closed =
        atomic_load_explicit(&shared->closed, memory_order_relaxed);
    const uint64_t dropped =
        atomic_load_explicit(&shared->dropped, memory_order_relaxed);

    if (ge_guard_broken(consumer->guard) || !size_is_unchanged(consumer))
        return "its size has changed";
    if (memcmp(shared, constants, offsetof(struct ge_abi_header, head)) != 0)
        return "its header was overwritten";
    if (closed != 0 && closed != GE_ABI_CLOSED)
        return "its end mark was overwritten";
    if (dropped < consumer->dropped || dropped > GE_DROPPED_MAX)
        return "its count of dropped samples was overwritten";
    /* Ours alone to write. Left as they are, the trainer would hand over
     * nothing any more, and all ranks would wait for it. */
    if (consumer->every != 0 &&
        (atomic_load_explicit(&shared->tail, memory_order_relaxed) !=
             consumer->tail ||
         atomic_load_explicit(&shared->sample_every, memory_order_relaxed) !=
             consumer->every ||
         atomic_load_explicit(&shared->sample_from, memory_order_relaxed) !=
             consumer->from ||
         atomic_load_explicit(&shared->attached, memory_order_relaxed) != 1))
        return "what the monitor wrote in it was overwritten";
    return NULL;
}

const char *ge_check_front(const ge_consumer *consumer)
{
    const struct ge_declared *declared = &consumer->declared;
    const unsigned char *slot = ge_check_slot_at(consumer, consumer->tail);
    /* Relaxed: only compared. */
    const uint64_t head =
        atomic_load_explicit(&consumer->shared->head, memory_order_relaxed);

    if (head - consumer->tail > declared->geometry.slots)
        return uneven;
    if (consumer->replicas > 0 &&
        (memcmp(slot, consumer->front, sizeof consumer->front) != 0 ||
         memcmp(slot + declared->layout.presence_offset, consumer->present,
                ge_check_blocks(consumer) * declared->geometry.layer_count) !=
             0))
        return "a sample was overwritten while it was read";
    /* By reading just that, perhaps. */
    return ge_guard_broken(consumer->guard) ? "its size has changed" : NULL;
}
