/*
 * gradients_private.h - an open file of gradients, shared by what finds out
 * what is in it (gradients.c), what reads its entries (gradients_read.c) and
 * what has them read ahead (gradients_ahead.c). Not for others.
 */
#ifndef GRADECHO_LOG_GRADIENTS_PRIVATE_H
#define GRADECHO_LOG_GRADIENTS_PRIVATE_H

#include "gradients.h"
#include "hdf5_util.h"
#include "mapped.h"

#define GE_GRADIENTS_ROOT "/gradients"
#define GE_GRADIENTS_RANK_MIN 3
#define GE_GRADIENTS_RANK_MAX 4

struct ge_gradients_layer {
    char *name;
    int rank;
    uint64_t rows, cols; /* 1 x n if rank is GE_GRADIENTS_RANK_MIN */
    uint64_t place;      /* of its first entry in the file; 0: not one piece of
                            single precision in this machine's order */
};

struct ge_gradients {
    char *path;
    hid_t file;
    hid_t dataset; /* of the layer read last: one cache, not one per layer */
    size_t current;
    struct ge_gradients_facts facts;
    struct ge_gradients_layer *layers;
    struct ge_log_layer *shown; /* what facts.layers shows of them */
    size_t count, room;
    int64_t *steps;        /* [samples], or NULL */
    gradecho_status visit; /* first failure while visiting */
    struct ge_mapped map;
    struct ge_gradients_ahead *ahead; /* NULL: nothing is read ahead */
};

/* Where a layer's entries lie, if they can be used there. */
uint64_t ge_gradients_place(hid_t dataset, uint64_t entries);

/* Map the file, if any layer can be used where it lies; if that does not work,
 * it is read. */
void ge_gradients_map(ge_gradients *file);

/* Of one replica. */
uint64_t ge_gradients_layer_bytes(const ge_gradients *file, size_t layer);

/* True if the layer lies in the map; then *at is where in the file. */
bool ge_gradients_find(const ge_gradients *file, uint64_t sample,
                       uint32_t replica, size_t layer, size_t *at);

void ge_gradients_unfollow(ge_gradients *file);

#endif
