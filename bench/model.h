/*
 * model.h - the layers of a GPT-2 of some size, and gradients for it that have
 * a few modes above a bulk of noise.
 */
#ifndef GRADECHO_BENCH_MODEL_H
#define GRADECHO_BENCH_MODEL_H

#include <stddef.h>
#include <stdint.h>

enum { MODEL_NAME_MAX = 32, MODEL_MODES = 6 };

struct model_layer {
    char name[MODEL_NAME_MAX];
    size_t rows, cols;
};

struct model {
    struct model_layer *layer; /* [count] */
    size_t count, entries;
};

/* "gpt2-small" (124 million parameters), "gpt2-1.3b", "tiny", or of any size,
 * "BLOCKSxWIDTH" (12x768 is nearly gpt2-small). Ends the program if there is no
 * such model. */
struct model model_make(const char *name);
void model_free(struct model *model);

/* Fill out [rows x cols] with the gradient of a layer: MODEL_MODES modes, from
 * 30 times down to 1.3 times the end of the bulk that noise of one replica has,
 * and noise of `noise` times that. The modes depend on `layer` alone, the noise
 * on `replica`, too. Single precision, or its upper halves (bf16). */
void model_fill(const struct model_layer *shape, size_t layer, uint64_t replica,
                double noise, int bf16, void *out);

#endif
