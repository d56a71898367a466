/*
 * gradients.h - a file of gradients, the input of `gradecho replay`.
 *
 * HDF5: one dataset per layer anywhere under /gradients, its path below that
 * being the layer's name, shape [sample, replica, rows, cols] or
 * [sample, replica, n] (a 1 x n layer), float32 or float64. Optional: root
 * attribute `batch_size` (examples per replica), dataset /step [sample].
 * Samples and replicas must be the same in all layers. Layers come in the
 * order of their names.
 *
 * Any one thread; each rank opens the file for itself, read-only.
 */
#ifndef GRADECHO_LOG_GRADIENTS_H
#define GRADECHO_LOG_GRADIENTS_H

#include <stdint.h>

#include "writer.h"

typedef struct ge_gradients ge_gradients;

struct ge_gradients_facts {
    uint64_t samples;
    uint32_t replicas;
    double batch_size; /* NaN if the file does not say */
    size_t layer_count;
    const struct ge_log_layer *layers; /* [layer_count]; owned by the file */
};

/* \return GRADECHO_E_INPUT  with one line that names the file and the layer
 *         GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status ge_gradients_open(const char *path,
                                                      ge_gradients **file);
void ge_gradients_close(ge_gradients **file);

const struct ge_gradients_facts *ge_gradients_facts(const ge_gradients *file);

/* Step number of a sample: /step if the file has it, else its index. */
int64_t ge_gradients_step(const ge_gradients *file, uint64_t sample);

/* Entries first .. first + count - 1 of one replica's layer, row-major order,
 * as single precision.
 * \return GRADECHO_E_HDF5  the file cannot be read there */
GRADECHO_MUST_CHECK gradecho_status
ge_gradients_read(ge_gradients *file, uint64_t sample, uint32_t replica,
                  size_t layer, uint64_t first, uint64_t count, float *out);

#endif
