/*
 * layers.h - the layers of a run, as all monitors know them.
 */
#ifndef GRADECHO_MONITOR_LAYERS_H
#define GRADECHO_MONITOR_LAYERS_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"

struct ge_layer {
    char *name; /* owned */
    uint64_t rows, cols;
    size_t entries; /* rows cols */
    size_t modes;   /* echo modes; 0: noise statistics only */
    size_t found;   /* modes of a replica that take part in the matching */
};

struct ge_layers {
    struct ge_layer *item; /* [count] */
    size_t count;
};

/* Room for `count` layers, to be filled by ge_layers_put().
 * \return GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status ge_layers_init(struct ge_layers *layers,
                                                   size_t count);
void ge_layers_fini(struct ge_layers *layers);

/* \return GRADECHO_E_INPUT  rows cols does not fit this machine
 *         GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status ge_layers_put(struct ge_layers *layers,
                                                  size_t index,
                                                  const char *name,
                                                  uint64_t rows, uint64_t cols);

/* Decide whose echo is measured: layers.include less layers.exclude, with both
 * sides at least 2. */
void ge_layers_select(struct ge_layers *layers, const struct ge_config *config);

/* True unless layers.include, which is not empty, matches no layer: then its
 * globs are mistyped, and the names that come nearest to the first of them are
 * told in `there`. */
bool ge_layers_are_included(const struct ge_layers *layers,
                            const struct ge_config *config, char *there,
                            size_t size);

/* A number that tells two layer tables apart (names, shapes, order). */
uint64_t ge_layers_hash(const struct ge_layers *layers);

/* Entries of the largest layer, and of the largest with an echo. */
size_t ge_layers_largest(const struct ge_layers *layers, bool echo_only);

#endif
