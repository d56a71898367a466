/*
 * room.h - workspace that grows to the largest problem and is then kept.
 *
 * Its content is never copied: growing loses it. It is not cleared either: what
 * nobody uses takes no memory.
 */
#ifndef GRADECHO_SPECTRAL_ROOM_H
#define GRADECHO_SPECTRAL_ROOM_H

#include <stdbool.h>
#include <stdlib.h>

#include "memory.h"

struct ge_room {
    void *at; /* aligned to GE_ALIGNMENT */
    size_t bytes;
};

/* At least `count` elements of `size` bytes; false if there is no memory. */
static inline bool ge_room_grow(struct ge_room *room, uint64_t count,
                                size_t size)
{
    uint64_t bytes = 0;

    if (!ge_mul_u64(count, size, &bytes) || !ge_align_u64(bytes, &bytes) ||
        bytes > SIZE_MAX)
        return false;
    if (bytes <= room->bytes)
        return true;
    free(room->at);
    room->at = aligned_alloc(GE_ALIGNMENT, (size_t)bytes);
    room->bytes = room->at != NULL ? (size_t)bytes : 0;
    return room->at != NULL;
}

static inline void ge_room_free(struct ge_room *room)
{
    free(room->at);
    *room = (struct ge_room){0};
}

#endif
