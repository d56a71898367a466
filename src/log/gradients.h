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

#include <stdbool.h>
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

/* One replica's layer where it lies in the mapped file, row-major; NULL if it
 * has to be read. Good until the file is closed. Other programs can change it,
 * and after the last use ge_gradients_intact() says if it was there at all. */
const float *ge_gradients_direct(const ge_gradients *file, uint64_t sample,
                                 uint32_t replica, size_t layer);

/* False once the file has been found shorter than it was, or could not be read
 * from the disk: zeros were in its place. From then on every read fails. */
bool ge_gradients_intact(const ge_gradients *file);

/* The same as an error that is told. \return GRADECHO_E_INPUT */
GRADECHO_MUST_CHECK gradecho_status
ge_gradients_check(const ge_gradients *file);

/* ---- hints: what of the file is in memory ---- */

/* `count` replicas from the first on will be read here, sample by sample and
 * layer by layer, all replicas side by side. What comes next is read
 * ahead, some 64 MB of it, and what has been used is let go. */
void ge_gradients_follow(ge_gradients *file, uint32_t first, uint32_t count);

/* These entries are about to be used where they lie. */
void ge_gradients_use(ge_gradients *file, uint64_t sample, uint32_t replica,
                      size_t layer, uint64_t first, uint64_t count);

/* No entry of the sample is used any more. */
void ge_gradients_release(ge_gradients *file, uint64_t sample);

#endif
