/*
 * inspect.h - find segments, and check what they declare, before mapping one.
 *
 * A segment is untrusted: all is read by read(2), which a file that shrinks
 * cannot turn into a signal, into private copies, and checked there.
 */
#ifndef GRADECHO_HANDOFF_INSPECT_H
#define GRADECHO_HANDOFF_INSPECT_H

#include "abi.h"
#include "consumer.h"
#include "segment.h"

/* The checked, private copy of a segment's constant part. */
struct ge_declared {
    struct ge_abi_header constants; /* as read: up to and without head */
    struct ge_geometry geometry;
    struct ge_layout layout;
    struct ge_span *spans;         /* [layer_count] */
    struct gradecho_layer *layers; /* [layer_count], == geometry.layers */
    struct ge_abi_layer *table;    /* [layer_count], owner of the names */
};

/* Open a file of this user, with O_RDONLY or O_RDWR; fills fd and bytes, does
 * not map. Silent.
 *
 * \return false if there is none; segment->fd is -1 or to be closed */
GRADECHO_MUST_CHECK bool ge_inspect_open(const char *path, int access,
                                         struct ge_segment *segment);

/* Read and check the header and the layer table of an open segment.
 *
 * \param declared  zeroed; release with ge_inspect_fini(), also on failure
 * \return GRADECHO_E_INPUT  not a segment, or inconsistent
 *         GRADECHO_E_ABI    made by another ABI version
 *         GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status
ge_inspect_declared(const struct ge_segment *segment, const char *path,
                    uint32_t rank, struct ge_declared *declared);

void ge_inspect_fini(struct ge_declared *declared);

#endif
