#include "layers.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "suggest.h"
#include "try.h"

gradecho_status ge_layers_init(struct ge_layers *layers, size_t count)
{
    gradecho_status status = GRADECHO_OK;

    *layers = (struct ge_layers){0};
    layers->item = ge_alloc(count, sizeof *layers->item);
    GE_FAIL_IF(layers->item == NULL, GRADECHO_E_NOMEM,
               "no memory for %zu layers", count);
    layers->count = count;
fail:
    return status;
}

void ge_layers_fini(struct ge_layers *layers)
{
    for (size_t i = 0; i < layers->count; i++)
        free(layers->item[i].name);
    free(layers->item);
    *layers = (struct ge_layers){0};
}

gradecho_status ge_layers_put(struct ge_layers *layers, size_t index,
                              const char *name, uint64_t rows, uint64_t cols)
{
    gradecho_status status = GRADECHO_OK;
    struct ge_layer *layer = &layers->item[index];
    uint64_t entries = 0;

    GE_FAIL_IF(!ge_mul_u64(rows, cols, &entries) ||
                   entries > SIZE_MAX / sizeof(double),
               GRADECHO_E_INPUT, "layer %s is too large", name);
    layer->name = strdup(name);
    GE_FAIL_IF(layer->name == NULL, GRADECHO_E_NOMEM, "no memory for layer %s",
               name);
    layer->rows = rows;
    layer->cols = cols;
    layer->entries = (size_t)entries;
fail:
    return status;
}

void ge_layers_select(struct ge_layers *layers, const struct ge_config *config)
{
    for (size_t i = 0; i < layers->count; i++) {
        struct ge_layer *layer = &layers->item[i];
        const size_t least =
            ge_min_size((size_t)layer->rows, (size_t)layer->cols);
        const size_t most = (size_t)config->layers_max_modes;

        layer->modes = 0;
        layer->found = 0;
        if (least < 2 ||
            !ge_globs_match(&config->layers_include, layer->name) ||
            ge_globs_match(&config->layers_exclude, layer->name))
            continue;
        layer->modes = ge_min_size(most, least);
        layer->found =
            ge_min_size(most + (size_t)config->svd_oversample, least);
    }
}

bool ge_layers_are_included(const struct ge_layers *layers,
                            const struct ge_config *config, char *there,
                            size_t size)
{
    const struct ge_globs *globs = &config->layers_include;

    if (globs->count == 0)
        return true;
    struct ge_near near = {.glob = globs->item[0]};

    for (size_t i = 0; i < layers->count; i++) {
        if (ge_globs_match(globs, layers->item[i].name))
            return true;
        ge_near_offer(&near, layers->item[i].name);
    }
    (void)ge_near_text(&near, there, size);
    return false;
}

/* FNV-1a, 64 bits. */
static uint64_t mix(uint64_t hash, const void *data, size_t bytes)
{
    const unsigned char *at = data;

    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ at[i]) * UINT64_C(0x100000001B3);
    return hash;
}

uint64_t ge_layers_hash(const struct ge_layers *layers)
{
    uint64_t hash = UINT64_C(0xCBF29CE484222325);

    for (size_t i = 0; i < layers->count; i++) {
        const struct ge_layer *layer = &layers->item[i];

        hash = mix(hash, layer->name, strlen(layer->name) + 1);
        hash = mix(hash, &layer->rows, sizeof layer->rows);
        hash = mix(hash, &layer->cols, sizeof layer->cols);
    }
    return hash;
}

size_t ge_layers_largest(const struct ge_layers *layers, bool echo_only)
{
    size_t largest = 0;

    for (size_t i = 0; i < layers->count; i++)
        if (!echo_only || layers->item[i].modes > 0)
            largest = ge_max_size(largest, layers->item[i].entries);
    return largest;
}
