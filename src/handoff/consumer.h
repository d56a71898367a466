/*
 * consumer.h - the monitor's end of one trainer's segment.
 *
 * The segment is untrusted input: its geometry is copied and checked once, at
 * attach, and a sample's header is copied and checked each time; afterwards
 * only the private copies count. A corrupt segment is GRADECHO_E_INPUT for
 * this trainer's data, never a crash: missing pages are guarded (guard.h),
 * which takes SIGBUS of the process.
 *
 * One thread; nothing here waits, ge_consumer_wait() excepted.
 */
#ifndef GRADECHO_HANDOFF_CONSUMER_H
#define GRADECHO_HANDOFF_CONSUMER_H

#include <stdbool.h>

#include "gradecho/handoff.h"

typedef struct ge_consumer ge_consumer;

/* A segment of a session seen on this node. */
struct ge_segment_info {
    uint32_t rank;
    uint32_t world; /* 0 if made by another ABI version: attach says more */
    bool live;      /* false: a dead trainer left it behind */
    bool watched;   /* a monitor has listened to it, now or earlier */
};

/* The validated, private copy of what the segment declares. */
struct ge_geometry {
    uint32_t rank, world;
    uint32_t slots;
    uint32_t replicas; /* most in one sample */
    bool mean;         /* there is room for the mean */
    size_t layer_count;
    const struct gradecho_layer *layers; /* [layer_count]; owned by consumer */
};

/* The sample at the front of the queue. */
struct ge_handed_sample {
    int64_t step;
    uint32_t replicas;      /* present in this sample, 1 .. geometry.replicas */
    uint32_t mean_replicas; /* that the mean is said to be of; 0: no mean */
    double loss, batch_size, gradient_scale; /* as in struct gradecho_meta */
    double time;                             /* Unix seconds at publish */
};

/* The segments of `session` on this node, in order of rank. Names that are not
 * segments are passed over.
 *
 * \param leftovers  those of dead trainers, too
 * \param list   [capacity], filled with the first `*count` found
 * \return GRADECHO_E_SYS      /dev/shm cannot be read
 *         GRADECHO_E_INPUT    more than `capacity` segments */
GRADECHO_MUST_CHECK gradecho_status
ge_consumer_scan(const char *session, bool leftovers,
                 struct ge_segment_info *list, size_t capacity, size_t *count);

/* Open, lock (one consumer a segment), map and validate a segment.
 *
 * \param consumer  written on success; release with ge_consumer_detach()
 * \return GRADECHO_E_INPUT   no such segment, or its geometry is inconsistent
 *         GRADECHO_E_ABI     made by another ABI version
 *         GRADECHO_E_EXISTS  another monitor is attached
 *         GRADECHO_E_SYS, GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status ge_consumer_attach(const char *session,
                                                       uint32_t rank,
                                                       ge_consumer **consumer);

/* Tell the trainer that nobody listens any more; unmap. Nulls *consumer. */
void ge_consumer_detach(ge_consumer **consumer);

const struct ge_geometry *ge_consumer_geometry(const ge_consumer *consumer);

/* From now on want every sample whose step is a multiple of `every` (>= 1).
 * Samples that an earlier monitor left in the queue are discarded. */
void ge_consumer_enable(ge_consumer *consumer, uint64_t every);

/* Want no step below `step` any more; a lower one changes nothing. Such samples
 * that are in the queue, or under way, can still be peeked at. */
void ge_consumer_skip_to(ge_consumer *consumer, int64_t step);

/* Want nothing any more: the trainer goes back to its unsampled path. */
void ge_consumer_disable(ge_consumer *consumer);

/* Look at the oldest sample without taking it. Its data stay in place, and
 * are nobody else's, until ge_consumer_release().
 *
 * \return GRADECHO_AGAIN    nothing yet
 *         GRADECHO_END      the trainer closed its end; nothing is left
 *         GRADECHO_E_INPUT  the slot's header is inconsistent (release skips
 *                           it), or the segment is corrupt, was overwritten
 *                           or cut off (END follows) */
gradecho_status ge_consumer_peek(ge_consumer *consumer,
                                 struct ge_handed_sample *sample);

/* Gradient of one layer in the sample last peeked: [rows x cols] of the
 * layer's dtype, aligned to GE_ALIGNMENT; NULL if it was not handed over. */
const void *ge_consumer_data(const ge_consumer *consumer, uint32_t replica,
                             size_t layer);

/* The same of the mean. */
const void *ge_consumer_mean(const ge_consumer *consumer, size_t layer);

/* Ask this after the data of the sample last peeked were used: false if the
 * segment was cut off or overwritten meanwhile, so that what was read may be
 * zeros or anything. Nothing more will come: the next peek says why. (Gradients
 * that are overwritten by other numbers, and nothing else, cannot be told.) */
GRADECHO_MUST_CHECK bool ge_consumer_intact(ge_consumer *consumer);

/* Give the oldest sample's slot back to the trainer. */
void ge_consumer_release(ge_consumer *consumer);

/* Sleep until a sample may be there, the trainer closed, a signal arrived, or
 * `timeout_seconds` passed. Spurious returns are allowed: peek again. */
void ge_consumer_wait(ge_consumer *consumer, double timeout_seconds);

/* False once the trainer's process is gone (closed or killed). */
bool ge_consumer_alive(const ge_consumer *consumer);

/* True once the trainer closed its end in order; false if it lives or died. */
bool ge_consumer_closed(const ge_consumer *consumer);

/* Samples the trainer left out because all slots were in use, or the monitors
 * had skipped to a later step. */
uint64_t ge_consumer_dropped(const ge_consumer *consumer);

#endif
