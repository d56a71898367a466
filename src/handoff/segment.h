/*
 * segment.h - the file behind a handoff: name, layout, memory, locks, wake-up.
 *
 * What producer and consumer have in common. Nothing here keeps state; any
 * thread. See abi.h for what lies inside the file.
 */
#ifndef GRADECHO_HANDOFF_SEGMENT_H
#define GRADECHO_HANDOFF_SEGMENT_H

#include <stdatomic.h>
#include <stdbool.h>

#include "gradecho/handoff.h"

#define GE_SEGMENT_FOLDER "/dev/shm"
#define GE_SEGMENT_PREFIX "gradecho."

/* Longest path of a segment with its terminator: folder, prefix, session and
 * a rank of ten digits. */
#define GE_SEGMENT_PATH_MAX (32 + GRADECHO_SESSION_MAX + 11)

/* Where a layer lies in a replica block. */
struct ge_span {
    uint64_t offset, bytes;
};

/* Offsets and strides in bytes, named as in struct ge_abi_header. */
struct ge_layout {
    uint64_t layers_offset, slots_offset, slot_bytes;
    uint64_t presence_offset, payload_offset, replica_bytes;
    uint64_t total_bytes;
};

/* A mapped segment file. */
struct ge_segment {
    void *base; /* NULL if not mapped */
    size_t bytes;
    int fd; /* -1 if not open; holds the lock */
};

/* Path of a segment. `session` NULL: $GRADECHO_SESSION, else "default".
 *
 * \return GRADECHO_E_ARG  the name is empty, too long, or has a character
 *                         other than a-z A-Z 0-9 . _ - */
GRADECHO_MUST_CHECK gradecho_status ge_segment_path(
    const char *session, uint32_t rank, char path[GE_SEGMENT_PATH_MAX]);

/* Check the layer table: names present, UTF-8 without control characters,
 * unique; shapes not empty; dtypes known.
 *
 * \param code  the status of a refusal: GRADECHO_E_ARG or GRADECHO_E_INPUT
 * \return `code`, GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status ge_segment_check_layers(
    const struct gradecho_layer *layers, size_t count, gradecho_status code);

/* The layout that follows from the counts and a checked layer table.
 *
 * \param blocks  of the size of a replica in a slot: replicas, and the mean
 * \param spans   [count]
 * \return false if a size does not fit; outputs are then undefined */
GRADECHO_MUST_CHECK bool ge_segment_layout(uint32_t slots, uint32_t blocks,
                                           const struct gradecho_layer *layers,
                                           size_t count, struct ge_span *spans,
                                           struct ge_layout *layout);

struct ge_abi_slot; /* abi.h */

/* The checksum of a slot's header: FNV-1a, 64 bits, over all before `check`,
 * which starts from the segment's instance. */
uint64_t ge_segment_check(const struct ge_abi_slot *slot, uint64_t instance);

/* Make a segment file without a name: all memory reserved, zero-filled,
 * mapped, and locked as alive. A process killed here leaves nothing.
 *
 * \param made  written on success; release with ge_segment_discard()
 * \return GRADECHO_E_NOSPACE, GRADECHO_E_NOMEM, GRADECHO_E_SYS */
GRADECHO_MUST_CHECK gradecho_status ge_segment_create(uint64_t bytes,
                                                      struct ge_segment *made);

/* Remove what a dead trainer left under `path`, if anything.
 *
 * \return GRADECHO_E_EXISTS  a live trainer, or a stranger, has that name
 *         GRADECHO_E_SYS */
GRADECHO_MUST_CHECK gradecho_status ge_segment_clear(const char *path);

/* Give the finished segment its name, in one step; replaces a leftover.
 *
 * \return as ge_segment_clear() */
GRADECHO_MUST_CHECK gradecho_status ge_segment_publish(int fd,
                                                       const char *path);

/* Remove the name if it still is that of the file behind `fd`, whose producer
 * lock the caller holds: nobody else may then remove or replace it. */
void ge_segment_unlink(int fd, const char *path);

/* Unmap and close; accepts what was never made. */
void ge_segment_discard(struct ge_segment *segment);

/* Try to take the lock on `byte` for this open file: 0, or an errno value, in
 * which EAGAIN means that another one has it. */
GRADECHO_MUST_CHECK int ge_segment_lock(int fd, int byte);

/* True if another open file holds the lock on `byte`. In doubt true: a peer
 * that is wrongly taken for dead costs data, the reverse only a timeout. */
bool ge_segment_locked(int fd, int byte);

#endif
