/*
 * consumer_private.h - the consumer's state, and how it looks for signs that
 * the segment is not what its trainer made any more. Not for others.
 */
#ifndef GRADECHO_HANDOFF_CONSUMER_PRIVATE_H
#define GRADECHO_HANDOFF_CONSUMER_PRIVATE_H

#include "consumer.h"
#include "inspect.h"

/* More samples than a training has steps: the counter is not one. */
#define GE_DROPPED_MAX (UINT64_C(1) << 53)

struct ge_consumer {
    struct ge_segment segment;
    struct ge_abi_header *shared; /* == segment.base */
    struct ge_declared declared;  /* what the segment says, checked */
    unsigned char *present;       /* [blocks][layer_count], at peek */
    uint64_t every;               /* 0: not enabled */
    uint64_t from;                /* what shared->sample_from says */
    uint64_t tail;                /* what shared->tail says */
    uint32_t seen;                /* shared->wake before the last peek */
    uint32_t replicas;            /* in the sample peeked, 0: none valid */
    bool peeked;                  /* slot `tail` is in our hands */
    unsigned char front[sizeof(struct ge_abi_slot)]; /* its header */
    uint64_t dropped;   /* shared->dropped at the last peek */
    int guard;          /* of the mapping; -1: none */
    const char *broken; /* why the segment is done with; NULL: it is not */
    bool told;          /* of that */
    char path[GE_SEGMENT_PATH_MAX];
};

/* Each answers what is wrong, in words that follow the segment's name; NULL if
 * nothing is. */

/* The segment as a whole, apart from its samples. */
const char *ge_check_segment(const ge_consumer *consumer);

/* The sample last peeked, after its data were read: is it still there, and the
 * same? */
const char *ge_check_front(const ge_consumer *consumer);

/* A head that is wrong when we start would never be seen to be: the trainer
 * would find its ring full and never correct it. */
const char *ge_check_head(const ge_consumer *consumer, uint64_t head);

/* True if this is the header of the sample `number`, as its trainer made it. */
bool ge_check_slot(const ge_consumer *consumer, const struct ge_abi_slot *slot,
                   uint64_t number);

/* Blocks of a slot: replicas, and the mean. */
static inline size_t ge_check_blocks(const ge_consumer *consumer)
{
    return (size_t)consumer->declared.geometry.replicas +
           consumer->declared.geometry.mean;
}

/* Where that header lies. */
const unsigned char *ge_check_slot_at(const ge_consumer *consumer,
                                      uint64_t number);

#endif
